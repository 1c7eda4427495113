"""Speed and memory of the extraction of improved dense trajectories, as Markdown tables.

    python benchmarks/bench_idt.py [CLIP ...] [--sizes 320x240,640x480] [--threads 1,2] [--rounds 5] [--json FILE]

Without a clip: the 320x240 clips of the test data (IDT_TEST_DATA) and one of them at 640x480. A clip is measured at its
own size unless `--sizes` says otherwise; for any other size it is copied once, as MPEG-4 with quantiser 2, which is
nearly lossless (40 to 45 dB) and costs little to decode.

The yardstick is OpenCV's Farnebäck flow on one thread, with the settings closest to the method's, on the same frames.
Every round runs the yardstick and the extraction with each number of threads one after the other, every second round
in the opposite order, and ratios are taken within a round: what else happens on the machine cancels as far as it can.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from fractions import Fraction
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import av
import cv2
import numpy as np
from common import BIKES, data, described, machine, ratio, say, spread, table, yardstick

from idt.errors import IdtError
from idt.features.record import FeatureWriter
from idt.flow.farneback import Farneback
from idt.trajectories import camera, extraction, sampling
from idt.trajectories.tracking import Tracks
from idt.video import FrameReader, frames

Size = tuple[int, int]  # width, height

DEFAULT_CLIPS: tuple[tuple[str, Size | None], ...] = (
    (BIKES, None), ("v_Bowling_g01_c01.avi", None),
    ("hmdb51_Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi", None), (BIKES, (640, 480)),
)
STARTS = 5

# What is timed as which stage, on one thread; a function with two names does one and the other in turn.
STAGES: tuple[tuple[Any, str, tuple[str, ...]], ...] = (
    (FrameReader, "__next__", ("decode + grey",)),
    (extraction, "resize_grey", ("grey pyramid",)),
    (sampling, "min_eigenvalues", ("eigenvalues",)),
    (Farneback, "prepare", ("expansion of frame + warped frame",)),
    (Farneback, "solve", ("flow solve, plain", "flow solve, warped")),
    (camera, "good_features", ("good features",)),
    (camera, "flow_matches", ("homography",)),
    (camera, "homography", ("homography",)),
    (camera, "warp", ("warp",)),
    (Tracks, "describe", ("describe",)),
    (Tracks, "advance", ("advance + collect",)),
    (sampling, "new_points", ("new points",)),
    (Tracks, "start", ("new points",)),
    (FeatureWriter, "__enter__", ("write",)),
    (FeatureWriter, "append", ("write",)),
    (FeatureWriter, "__exit__", ("write",)),
)

EXTRACT = """
import re, sys
from idt.trajectories.extraction import extract_file
extract_file(sys.argv[1], sys.argv[2])
with open("/proc/self/status") as status:
    print(re.search(r"VmHWM:\\s*(\\d+) kB", status.read())[1])
"""
COMPILE = """
import time
from idt.trajectories.extraction import compile_kernels
wall, cpu = time.perf_counter(), time.process_time()
compile_kernels()
print(time.perf_counter() - wall, time.process_time() - cpu)
"""


def main() -> None:
    options = _options()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            cases = [_case(clip, size, folder) for clip, size in _wanted(options)]
            results = {"machine": machine(), "arguments": sys.argv[1:], "rounds": options.rounds,
                       "cases": [_measured(case, options.threads, options.rounds, folder) for case in cases],
                       "start": _starts(folder)}
        except IdtError as error:
            sys.exit(f"bench_idt.py: {error}")
    print(_report(results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="*", type=Path, metavar="CLIP")
    parser.add_argument("--sizes", type=_sizes, default=[None], help="such as 320x240,640x480; default: the clip's")
    parser.add_argument("--threads", type=_positive_integers, default=[1, 2], help="by commas; default: 1,2")
    parser.add_argument("--rounds", type=_positive_integer, default=5, help="default: 5")
    parser.add_argument("--json", type=Path, help="also write every single measurement to this file")
    return parser.parse_args()


def _positive_integer(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer from 1")
    return int(text)


def _positive_integers(text: str) -> list[int]:
    return sorted({_positive_integer(part) for part in text.split(",")})


def _sizes(text: str) -> list[Size]:
    sizes = []
    for part in text.split(","):
        width, x, height = part.partition("x")
        if not x:
            raise argparse.ArgumentTypeError(f"{part!r} is not a size such as 320x240")
        sizes.append((_positive_integer(width), _positive_integer(height)))
    return sizes


def _wanted(options: argparse.Namespace) -> list[tuple[Path, Size | None]]:
    """Return the clips and the sizes to measure them at; None is a clip's own."""
    if options.clips:
        return list(itertools.product(options.clips, options.sizes))
    folder = data("clips")
    if options.sizes == [None]:
        return [(folder / name, size) for name, size in DEFAULT_CLIPS]
    return list(itertools.product(dict.fromkeys(folder / name for name, _ in DEFAULT_CLIPS), options.sizes))


def _case(clip: Path, size: Size | None, folder: Path) -> dict[str, Any]:
    """Return a clip at a size: its name and where it lies, a copy if it has another size."""
    with frames(clip) as reader:
        height, width = next(reader).grey.shape
    own = width, height
    size = size or own
    path = clip if size == own else _copy(clip, size, folder / f"{clip.stem}_{size[0]}x{size[1]}.avi")
    return {"clip": clip.stem, "width": size[0], "height": size[1], "path": path}


def _copy(clip: Path, size: Size, path: Path, *, times: int = 1) -> Path:
    """Make a copy of the clip at another size, or that many times as long."""
    rate = 25  # any: the extraction does not depend on it
    numbers = itertools.count()
    with av.open(str(path), "w") as target:
        stream = target.add_stream("mpeg4", rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.qmin = stream.codec_context.qmax = 2
        for _ in range(times):
            with av.open(str(clip), metadata_errors="replace") as source:
                for frame in source.decode(video=0):
                    resized = frame.reformat(*size, format="yuv420p", interpolation="BICUBIC")
                    resized.pts, resized.time_base = next(numbers), Fraction(1, rate)
                    resized.pict_type = av.video.frame.PictureType.NONE  # the encoder chooses
                    target.mux(stream.encode(resized))
        target.mux(stream.encode(None))
    return path


def _measured(case: dict[str, Any], threads: Sequence[int], rounds: int, folder: Path) -> dict[str, Any]:
    """Return everything that is measured of one clip at one size; a list has one entry a round."""
    path, output = case["path"], folder / "features.npz"
    with frames(path) as reader:
        greys = [frame.grey for frame in reader]
    meta = extraction.extract_file(path, output)  # loads the kernels
    walls: dict[int, list[float]] = defaultdict(list)
    cpus: dict[int, list[float]] = defaultdict(list)
    jobs: dict[int, Callable[[], tuple[float, float]]] = {
        0: partial(_yardstick, greys), **{count: partial(_extraction, path, output, count) for count in threads}}
    stages = []
    for n in range(rounds):
        say(f"{case['clip']} {case['width']}x{case['height']}: round {n + 1} of {rounds}")
        for count, job in reversed(jobs.items()) if n % 2 else jobs.items():
            wall, cpu = job()
            walls[count].append(wall)
            cpus[count].append(cpu)
        stages.append(_stages(path, output))
    twice = _copy(path, (case["width"], case["height"]), folder / "twice.avi", times=2)
    return {
        "clip": case["clip"], "width": case["width"], "height": case["height"], "frames": len(greys),
        "trajectories": meta["rows"],
        "yardstick": {"wall_ms": walls.pop(0), "cpu_ms": cpus.pop(0)},
        "threads": {str(count): {"wall_ms": walls[count], "cpu_ms": cpus[count]} for count in threads},
        "stages": {name: [taken[name] for taken in stages] for name in stages[0]},
        "peak_mb": _peak(path, output), "peak_twice_mb": _peak(twice, output),
    }


def _yardstick(greys: Sequence[np.ndarray]) -> tuple[float, float]:
    """Return wall and CPU time of a pair of consecutive frames, ms, median over the clip."""
    walls, cpus = zip(*(yardstick(a, b) for a, b in itertools.pairwise(greys)), strict=True)
    return median(walls), median(cpus)


def _extraction(path: Path, output: Path, threads: int) -> tuple[float, float]:
    """Return wall and CPU time of a frame, ms, from the video file to the features file."""
    wall, cpu = time.perf_counter(), time.process_time()
    meta = extraction.extract_file(path, output, threads=threads)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    count = meta["video"]["decoded_frames"]
    return 1e3 * wall / count, 1e3 * cpu / count


def _stages(path: Path, output: Path) -> dict[str, float]:
    """Return the wall time of every stage of an extraction on one thread, ms a frame, and of all together."""
    taken = {name: 0.0 for _, _, names in STAGES for name in names}
    with ExitStack() as patches:
        for owner, attribute, names in STAGES:
            timed = _timed(getattr(owner, attribute), itertools.cycle(names), taken)
            patches.enter_context(mock.patch.object(owner, attribute, timed))
        start = time.perf_counter()
        meta = extraction.extract_file(path, output)
        total = time.perf_counter() - start
    taken["rest"] = total - sum(taken.values())
    taken["all"] = total
    return {name: 1e3 * seconds / meta["video"]["decoded_frames"] for name, seconds in taken.items()}


def _timed(function: Callable[..., Any], names: Iterable[str], taken: dict[str, float]) -> Callable[..., Any]:
    """Return the function, adding the time of each call under the next of the names."""
    following = iter(names)

    def call(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            taken[next(following)] += time.perf_counter() - start

    return call


def _peak(path: Path, output: Path) -> float | None:
    """Return the peak memory of a process that extracts the file, MB of 10^6 bytes; None where Linux does not tell.

    Not ru_maxrss, which in a child begins with the memory of the process that started it.
    """
    if not Path("/proc/self/status").exists():
        return None
    return int(_child(EXTRACT, path.resolve(), output)) * 1024 / 1e6


def _starts(folder: Path) -> dict[str, Any]:
    """Return how long the first and later starts take, s."""
    say("starts")
    program = Path(sysconfig.get_path("scripts"), "idt")
    wall, cpu = map(float, _child(COMPILE, NUMBA_CACHE_DIR=str(folder / "cache")).split())
    return {"compile": {"wall_s": wall, "cpu_s": cpu},
            "warm": {f"idt {word}": [_wall([program, word], folder) for _ in range(STARTS)]
                     for word in ("info", "--help")}}


def _child(code: str, *arguments: Path, **environment: str) -> str:
    with tempfile.TemporaryDirectory() as folder:  # not from the repository, whose folder idt is not the whole package
        return subprocess.run([sys.executable, "-c", code, *arguments], env={**os.environ, **environment}, cwd=folder,
                              stdout=subprocess.PIPE, text=True, check=True).stdout


def _wall(command: Sequence[str | Path], folder: Path) -> float:
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def _report(results: dict[str, Any]) -> str:
    cases = results["cases"]
    return "\n\n".join((
        f"{described(results['machine'])} Medians of {results['rounds']} rounds, in brackets the least and the "
        "greatest; ms are of one frame.",
        "### End to end, from the video file to the features file", _speed(cases),
        "### Stages on one thread, ms", _stage_table(cases),
        "### Peak memory, MB", _memory(cases),
        "### Starts, s", _start_table(results["start"])))


def _speed(cases: Sequence[dict[str, Any]]) -> str:
    rows = []
    for case in cases:
        yardstick = case["yardstick"]
        alone = case["threads"].get("1")
        for count, taken in case["threads"].items():
            ms = median(taken["wall_ms"])
            one = count == "1"
            rows.append((
                _name(case), case["frames"], case["trajectories"], count, f"{ms:.1f}",
                f"{median(taken['cpu_ms']):.1f}" if one else "", f"{1e3 / ms:.1f}",
                f"{1e3 / ms * case['trajectories'] / case['frames']:.0f}", f"{median(yardstick['wall_ms']):.1f}",
                ratio(taken["wall_ms"], yardstick["wall_ms"]),
                ratio(taken["cpu_ms"], yardstick["cpu_ms"]) if one else "",
                ratio(alone["wall_ms"], taken["wall_ms"]) if alone and not one else ""))
    return table(("clip", "frames", "trajectories", "threads", "ms", "CPU ms", "frames/s", "trajectories/s",
                   "yardstick ms", "yardsticks", "yardsticks, CPU", "speed-up over 1 thread"), rows)


def _stage_table(cases: Sequence[dict[str, Any]]) -> str:
    return table(("stage", *map(_name, cases)),
                  [(name, *(f"{median(case['stages'][name]):.2f}" for case in cases)) for name in cases[0]["stages"]])


def _memory(cases: Sequence[dict[str, Any]]) -> str:
    return table(("clip", "frames", "peak", "peak, twice the frames"),
                  [(_name(case), case["frames"], _megabytes(case["peak_mb"]), _megabytes(case["peak_twice_mb"]))
                   for case in cases])


def _start_table(start: dict[str, Any]) -> str:
    compiled = start["compile"]
    return table(("what", "s"), [
        ("all kernels compiled, empty cache", f"{compiled['wall_s']:.1f} (CPU {compiled['cpu_s']:.1f})"),
        *((f"`{command}`", spread(taken)) for command, taken in start["warm"].items())])


def _megabytes(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"


def _name(case: dict[str, Any]) -> str:
    return f"{case['clip']}, {case['width']}x{case['height']}"


if __name__ == "__main__":
    main()
