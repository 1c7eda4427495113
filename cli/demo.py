"""idt demo: a synthetic clip, its features, a summary and a picture of them."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from idt.cli.options import Common, Output, usable_cores
from idt.cli.progress import extracted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from idt.features.record import Features

    Image = NDArray[np.uint8]

WIDTH, HEIGHT, FPS, FRAMES = 320, 240, 25, 75


def demo(*, output: Output = Path("idt-demo"), common: Annotated[Common, Parameter(name="*")] = Common()) -> None:
    """Make a short synthetic clip, extract its features and draw them.

    Parameters
    ----------
    output
        Folder for the clip, its features and the picture.
    """
    from idt._util.files import prepared
    from idt.features.record import Features
    from idt.params import Params
    from idt.trajectories.extraction import kernels_cached
    from idt.viz.pictures import overlay, write_video

    source, drawn = output / "clip.mp4", output / "clip.trajectories.mp4"
    prepared(source)
    write_video(source, clip(), FPS)
    compiled = "" if kernels_cached() else ", compilation included"
    began = time.perf_counter()
    path = extracted(str(source), output / "clip.mp4.npz", Params(), common, threads=usable_cores())
    duration = f"{time.perf_counter() - began:.1f} s{compiled}"
    features = Features.load(path)
    overlay(source, features, drawn)
    print(_summary(features, duration))
    print()
    for file, what in ((source, "the clip: two figures before a moving camera"), (path, "its features"),
                       (drawn, "the clip with the trajectories drawn in")):
        print(f"  {file!s:32}  {what}")
    print()
    print("With a video of your own:")
    print()
    print("  idt extract VIDEO -o features/")
    print("  idt view VIDEO -o trajectories.mp4")


def _summary(features: Features, duration: str) -> str:
    import numpy as np

    assert features.homographies is not None
    centre = np.array([WIDTH / 2, HEIGHT / 2, 1])
    moved = features.homographies[1:] @ centre
    speed = np.linalg.norm(moved[:, :2] / moved[:, 2:] - centre[:2], axis=1).mean()
    scales, rows = np.unique(features.scale, return_counts=True)
    lines = [("frames", f"{features.meta['video']['decoded_frames']} of {WIDTH}x{HEIGHT} pixels, done in {duration}"),
             ("camera", f"moves by {speed:.1f} pixels a frame, which is taken out of all motion"),
             ("trajectories", f"{len(features)}, of which at scale")]
    lines += [("", f"{scale:5.2f}  {count:6d}") for scale, count in zip(scales, rows, strict=True)]
    return "\n".join(f"{name:14}{value}" for name, value in lines)


def clip() -> Iterator[Image]:
    """Yield the frames, BGR (240, 320, 3), of two figures that walk and wave before a camera that pans and zooms."""
    import cv2
    import numpy as np

    rng = np.random.default_rng(2013)
    ground = _texture(rng, 480, 360, (95, 125, 110), 0.2)
    coats = [_texture(rng, WIDTH, HEIGHT, colour, 0.25) for colour in ((70, 80, 200), (200, 140, 60))]
    for t in range(FRAMES):
        zoom = 1 + 0.05 * math.sin(2 * math.pi * t / FRAMES)
        left, top = 25 + 1.2 * t, 55 + 12 * math.sin(2 * math.pi * t / 60)
        camera = np.array([[zoom, 0, -left * zoom], [0, zoom, -top * zoom]])
        frame = cv2.warpAffine(ground, camera, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        for coat, x, stride, phase in zip(coats, (40 + 2.1 * t, 265 - 1.5 * t), (9, 11), (0.0, 1.0), strict=True):
            _draw_figure(frame, coat, round(x), 2 * math.pi * t / 25 + phase, stride)
        yield frame


def _texture(rng: np.random.Generator, width: int, height: int, colour: tuple[int, int, int], contrast: float) -> Image:
    """Return noise of several grain sizes around a colour."""
    import cv2
    import numpy as np

    noise = np.zeros((height, width, 3))
    for grain in (4, 8, 16, 40):
        shape = (height // grain + 1, width // grain + 1)
        small = rng.normal(size=(*shape, 1)) + 0.25 * rng.normal(size=(*shape, 3))
        noise += cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(np.array(colour) * (1 + contrast * noise), 0, 255).astype(np.uint8)


def _draw_figure(frame: Image, coat: Image, x: int, phase: float, swing: int) -> None:
    """Draw a figure, 120 pixels tall, whose coat moves along and whose limbs swing."""
    import cv2
    import numpy as np

    shape = np.zeros(frame.shape[:2], np.uint8)
    head, neck, hip = (x, 95), (x, 112), (x, 155)
    cv2.circle(shape, head, 12, 255, -1, cv2.LINE_AA)
    cv2.ellipse(shape, (x, 133), (15, 27), 0, 0, 360, 255, -1, cv2.LINE_AA)
    for side in (1, -1):
        step = side * math.sin(phase)
        cv2.line(shape, hip, (x + round(2 * swing * step), 210), 255, 10, cv2.LINE_AA)
        cv2.line(shape, neck, (x + side * 24 + round(swing * step), 130 - round(3 * swing * max(0.0, step))), 255, 8,
                 cv2.LINE_AA)
    moved = np.roll(coat, x - WIDTH // 2, axis=1)
    weight = shape[..., None] / 255
    frame[:] = np.rint(weight * moved + (1 - weight) * frame).astype(np.uint8)
