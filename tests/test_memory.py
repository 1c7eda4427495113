"""Peak memory of `idt extract`, each measured in a process of its own, imports included, and of `idt encode`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from random_features import random_features

from idt.batch import fit_codebook
from idt.features.record import Features, FeatureWriter
from idt.recognition.vectors import EncodingParams, Vectors
from idt.video import frames
from waiting import PATIENCE_S

pytestmark = [pytest.mark.slow,
              pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")]

PEAK_320X240 = 200e6  # bytes
PER_TWICE_THE_FRAMES = 10e6
PEAK_3840X2160 = 8e9
PEAK_1920X1080 = PEAK_3840X2160 / 4  # what grows, grows with the pixels
ENCODE_2_MILLION_ROWS = 600e6  # above the start

# The peak of the process itself: that of getrusage may be of the process which started it. Without the pages of files,
# here those of libraries: how many are mapped is up to the page cache (124 to 199 MB of the same libraries were seen).
PEAK = """
import re
from pathlib import Path
peak, files = (int(re.search(name + r":\\s*([0-9]+) kB", Path("/proc/self/status").read_text())[1])
               for name in ("VmHWM", "RssFile"))
print((peak - files) * 1024)
"""
EXTRACT = """
import sys
from idt.cli import main
assert main(["extract", *sys.argv[1:2], "-o", *sys.argv[2:], "--threads", "2", "--quiet"]) == 0
""" + PEAK
# The difference between before the work and its peak: pages that are mapped from the file count, too.
ENCODE = """
import re, sys
from pathlib import Path
import idt.recognition.vectors
from idt.cli import main
def kilobytes(name):
    return int(re.search(name + r":\\s*([0-9]+) kB", Path("/proc/self/status").read_text())[1])
Path("/proc/self/clear_refs").write_text("5")
start = kilobytes("VmRSS")
assert main(["encode", sys.argv[1], "--codebook", sys.argv[2], "-o", sys.argv[3], "--threads", "2", "--quiet",
             *sys.argv[4:]]) == 0
print((kilobytes("VmHWM") - start) * 1024)
"""


def peak(script: str, *arguments: Path | str) -> int:
    """Peak memory of a Python script, bytes."""
    child = subprocess.run([sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True,
                           timeout=PATIENCE_S, check=False)
    assert child.returncode == 0, child.stderr
    return int(child.stdout)


@pytest.fixture(scope="module")
def kernels() -> None:
    """Compiled kernels in the cache: compiling, once, needs more memory."""
    peak("from idt.trajectories.extraction import compile_kernels; compile_kernels()" + PEAK)


def write_video(path: Path, pictures: Iterator[np.ndarray], height: int, width: int) -> Path:
    """Encode grey pictures (height, width)."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.bit_rate = 50 * height * width
        for grey in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="gray")))
        container.mux(stream.encode())
    return path


def to_and_fro(clip: Path, count: int) -> Iterator[np.ndarray]:
    """The first 60 frames of a clip forwards, backwards, forwards ... until there are `count`."""
    greys = [frame.grey for frame in frames(clip, end=59)]
    for t in range(count):
        yield (greys + greys[::-1])[t % 120]


def swinging(count: int, height: int, width: int) -> Iterator[np.ndarray]:
    """Texture in which every place moves its own way, so that no homography takes the motion away."""
    noise = np.random.default_rng(0).normal(size=(height, width)).astype(np.float32)
    texture = np.clip(cv2.GaussianBlur(noise, (0, 0), 2) * 300 + 128, 0, 255).astype(np.uint8)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    step_x, step_y = 2.5 * np.sin(y / 150 + 1) * np.cos(x / 170), 2.5 * np.cos(y / 130) * np.sin(x / 190 + 2)
    for t in range(count):
        yield cv2.remap(texture, x + t * step_x, y + t * step_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def test_twice_the_frames_need_no_more(data: Path, tmp_path: Path, kernels: None,
                                       record_testsuite_property: Callable[[str, object], None]) -> None:
    peaks, sizes = [], []
    for count in (90, 180):
        video = write_video(tmp_path / f"{count}.avi", to_and_fro(data / "clips/bikes_320x240_80.avi", count), 240, 320)
        peaks.append(peak(EXTRACT, video, tmp_path))
        sizes.append((tmp_path / f"{count}.avi.npz").stat().st_size)
    record_testsuite_property("peak at 320x240, 90 and 180 frames, MB", [round(p / 1e6) for p in peaks])
    assert sizes[1] - sizes[0] > PER_TWICE_THE_FRAMES  # rows kept in memory would show
    assert peaks[1] - peaks[0] < PER_TWICE_THE_FRAMES
    assert max(peaks) <= PEAK_320X240


@pytest.mark.parametrize(("height", "width", "length", "limit"), [
    (1080, 1920, 15, PEAK_1920X1080),
    (2160, 3840, 6, PEAK_3840X2160)])  # a full pass takes its time
def test_large_pictures(height, width, length, limit, tmp_path: Path, kernels: None,
                        record_testsuite_property: Callable[[str, object], None]) -> None:
    video = write_video(tmp_path / "large.avi", swinging(length + 2, height, width), height, width)
    used = peak(EXTRACT, video, tmp_path, "--length", str(length))
    features = Features.load(tmp_path / "large.avi.npz")
    record_testsuite_property(f"peak at {width}x{height}, MB", round(used / 1e6))
    assert features.meta["video"]["decoded_frames"] == length + 2
    # Nearly every track ends as a row; with more frames the peak is no higher.
    assert len(features) > 500_000 * height * width / (2160 * 3840)
    assert used <= limit
    (tmp_path / "large.avi.npz").unlink()  # hundreds of megabytes, which pytest would keep


def test_encoding_2_million_rows(tmp_path: Path, record_testsuite_property: Callable[[str, object], None]) -> None:
    left_out = dict.fromkeys(("mbhx", "mbhy", "points", "homographies"))
    part = random_features(50_000, **left_out)
    part.position[:, 2] = 0.5
    part.save(tmp_path / "part.npz")
    fit_codebook(tmp_path / "part.npz", tmp_path / "x.codebook.npz",
                 EncodingParams(channels=("trajectory", "hog", "hof"), words=4, samples=2000))
    with FeatureWriter(tmp_path / "long.npz") as writer:
        for n in range(40):
            later = {**part.arrays(), "frame": part.frame + 25 * n}
            writer.append(Features(**later, meta={**part.meta, "span": {"first": 0, "last": 1014, "frames": 1015}}))
    assert (tmp_path / "long.npz").stat().st_size > 1.1e9  # of which what is encoded is too much by itself
    used = [peak(ENCODE, tmp_path / "long.npz", tmp_path / "x.codebook.npz", tmp_path / "out", *window)
            for window in ((), ("--window", "100", "--stride", "50"))]
    record_testsuite_property("encoding 2 million rows, MB above the start", [round(u / 1e6) for u in used])
    found = Vectors.load(tmp_path / "out" / "long.npz")
    assert (found.meta["rows"], len(found)) == (2_000_000, 20)
    assert max(used) < ENCODE_2_MILLION_ROWS
    (tmp_path / "long.npz").unlink()
