"""What well-known datasets cost, in hours of one core and in space, from what the clips of the test data cost.

Run: python benchmarks/costs.py
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from common import data, described, machine

from idt.batch import extract_videos, fit_codebook, flow_videos
from idt.runner import Summary
from idt.vectors import EncodingParams
from idt.video_flow import FlowParams

CLIPS = ("bikes_320x240_80.avi", "v_Bowling_g01_c01.avi",
         "hmdb51_Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi")  # all of 320x240
PIXELS = 320 * 240
# Clips, frames and pixels of a frame: as published where that tells, see docs/many-videos.md.
DATASETS = {"UCF101": (13_320, 2_400_000, 320 * 240), "HMDB51": (6_766, 640_000, 360 * 240),
            "Kinetics-400": (306_245, 92_000_000, 340 * 256)}
ROUNDS = 3


def modes(folder: Path) -> dict[str, tuple[str, Callable[..., Summary], bool]]:
    """Return how each mode is called, what does it, and whether its space goes with the clips, not the frames."""
    clips = [data("clips") / name for name in CLIPS]
    extract_videos(clips, folder / "sample", keep=10_000)
    book = folder / "x.codebook.npz"
    fit_codebook(folder / "sample", book, EncodingParams(words=256, samples=30_000))
    run: Any = partial(extract_videos, clips)
    flow: Any = partial(flow_videos, clips)
    return {
        "features": ("idt extract", run, False),
        "text": ("idt extract --text", partial(run, text=True), False),
        "sample": ("idt extract --keep 1000", partial(run, keep=1000), True),
        "vectors": ("idt extract --encode", partial(run, encode=book), True),
        "DIS": ("idt flow --method dis", partial(flow, params=FlowParams(method="dis")), False),
        "Farnebäck": ("idt flow --method farneback", partial(flow, params=FlowParams(method="farneback")), False),
        "TV-L1": ("idt flow", flow, False)}


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        measured = {}
        for name, (called, function, by_clips) in modes(folder).items():
            taken = []
            for _ in range(ROUNDS + 1):  # the first compiles
                began = time.process_time()  # of all threads of this process: other work on the machine matters little
                made = function(output=folder / name, force=True)
                taken.append(time.process_time() - began)
            assert made.done == len(CLIPS)
            measured[name] = (called, made.frames / median(taken[1:]),
                              made.bytes / (made.done if by_clips else made.frames), by_clips)
    print(f"{described(machine())}\n\n| | frames/s of a core | size |\n|---|---|---|")
    for called, speed, size, by_clips in measured.values():
        print(f"| `{called}` | {speed:.1f} | {size / 1000:.1f} KB a {'clip' if by_clips else 'frame'} |")
    names = " | ".join(f"{name}: hours of a core | GB" for name in DATASETS)
    print(f"\n| | {names} |\n|---{'|---|---' * len(DATASETS)}|")
    for called, speed, size, by_clips in measured.values():
        cells = []
        for clips, frames, pixels in DATASETS.values():
            hours = frames * pixels / PIXELS / speed / 3600
            space = clips * size if by_clips else frames * pixels / PIXELS * size
            cells.append(f"{hours:,.0f} | {space / 1e9:,.{0 if space > 1e10 else 1}f}")
        print(f"| `{called}` | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
