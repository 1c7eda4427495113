"""Speed and accuracy of optical flow beside OpenCV's, as Markdown tables.

    python benchmarks/bench_flow.py [speed] [accuracy] [video] [trajectories] [--device cuda] [--rounds 5]

speed: ms a pair at 320x240 and 640x480 beside OpenCV's DualTVL1, every round on another pair of the same clip, all
methods one after the other. accuracy: end-point errors on four Middlebury pairs with public ground truth, and how far
the flow of a pair of each clip is from OpenCV's. video: from the video file to jpg files, and what takes the time.
trajectories: `idt extract --flow` with each method on the clips, and on those with known camera motion. Without a word:
all four, which takes about ten minutes, most of them OpenCV's.

With --device cuda, instead: pairs a second from arrays in host memory against the size of a batch, the share of the
memory and arithmetic ceilings of the GPU, and a whole video to jpg.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from statistics import mean, median
from typing import Any
from unittest import mock

import cv2
import numpy as np
from common import BIKES, data, described, machine, ratio, say, spread, table, timed, yardstick

import idt
from idt import flow
from idt.features.record import Features
from idt.flow import _tvl1_cpu, devices, files
from idt.flow.files import read_flo
from idt.flow.tvl1 import PRESETS, TVL1
from idt.video import FrameReader, frames
from idt.video_flow.files import write_flow
from idt.video_flow.params import FlowParams

Solve = Callable[[np.ndarray, np.ndarray], np.ndarray]

SECTIONS = ("speed", "accuracy", "video", "trajectories")
SIZES = ((320, 240), (640, 480))
SEQUENCES = ("Grove2", "RubberWhale", "Urban2", "Venus")
BATCHES = (1, 4, 16, 64, 128)
BYTES, FLOP = 83, 55  # bytes a pixel and launch of the GPU's iterations, operations a pixel and iteration
OPENCV_PRESET = {"tau": 0.25, "lambda": 0.15, "theta": 0.3, "nscales": 5, "warps": 5, "epsilon": 0.01,
                 "innnerIterations": 300, "outerIterations": 1, "scaleStep": 0.8, "gamma": 0.0, "medianFiltering": 1}

OURS: dict[str, Solve] = {
    "TV-L1, `opencv`": partial(flow.compute, params="opencv"),
    "TV-L1, `accurate`": partial(flow.compute, params="accurate"),
}
OTHERS: dict[str, Solve] = {
    "DeepFlow (OpenCV)": partial(flow.compute, method="deepflow"), "DIS (OpenCV)": partial(flow.compute, method="dis"),
    "Farnebäck, of the trajectories": partial(flow.compute, method="farneback"),
}


def opencv_equal(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return OpenCV's TV-L1 flow with the numbers of the preset `opencv`."""
    return np.asarray(cv2.optflow.DualTVL1OpticalFlow_create(*OPENCV_PRESET.values()).calc(a, b, None))


def opencv_default(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return OpenCV's TV-L1 flow with its own defaults."""
    return np.asarray(cv2.optflow.DualTVL1OpticalFlow_create().calc(a, b, None))


OPENCV: dict[str, Solve] = {"OpenCV DualTVL1, equal parameters": opencv_equal,
                            "OpenCV DualTVL1, defaults": opencv_default}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", choices=[[], *SECTIONS])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    print(described(machine()), f"Medians of {options.rounds} rounds, in brackets the least and the greatest.")
    if options.device != "cpu":
        on_gpu(options.device, options.rounds)
        return
    for name in options.sections or SECTIONS:
        {"speed": speed, "accuracy": accuracy, "video": video, "trajectories": trajectories}[name](options.rounds)


@cache
def clip(width: int, height: int) -> list[np.ndarray]:
    """Return the grey frames of a clip in this size."""
    return [cv2.resize(f.grey, (width, height), interpolation=cv2.INTER_CUBIC) for f in frames(data("clips") / BIKES)]


def speed(rounds: int) -> None:
    for width, height in SIZES:
        greys = clip(width, height)
        places = [round((n + 0.5) * (len(greys) - 1) / rounds) for n in range(rounds)]
        jobs = {**OURS, **OPENCV, **OTHERS, "yardstick (OpenCV Farnebäck)": yardstick}
        for solve in (*OURS.values(), *OTHERS.values()):  # what is loaded once is not timed
            solve(greys[0], greys[1])
        cpu: dict[str, list[float]] = defaultdict(list)
        for place in places:
            say(f"speed, {width}x{height}: frame {place} of {len(greys)}")
            for name, solve in jobs.items():
                cpu[name].append(timed(partial(solve, greys[place], greys[place + 1]))[1])
        print(f"\n### One pair at {width}x{height}, one thread\n")
        *_, unit = cpu.values()
        print(table(("method", "CPU ms", *(f"speed relative to {name}" for name in OPENCV), "yardsticks"),
                    [(name, spread(taken), *(ratio(cpu[other], taken) for other in OPENCV), ratio(taken, unit))
                     for name, taken in cpu.items()]))
        print(f"\n### A sequence at {width}x{height}\n")
        print(table(("method", "threads", "wall ms a pair", "pairs/s", "speed-up over 1 thread"),
                    [row for preset in PRESETS for row in sequence_rows(greys[:41], preset, rounds)]))


def sequence_rows(greys: Sequence[np.ndarray], preset: str, rounds: int) -> Iterator[tuple[str, ...]]:
    """Yield the lines of one and two threads."""
    walls: dict[int, list[float]] = defaultdict(list)
    for n in range(rounds):
        for threads in ((1, 2), (2, 1))[n % 2]:
            say(f"sequence, {preset}: round {n + 1} of {rounds}, {threads} threads")
            wall, _ = timed(partial(deque, flow.sequence(greys, params=preset, threads=threads), maxlen=0))
            walls[threads].append(wall / (len(greys) - 1))
    for threads, taken in sorted(walls.items()):
        yield (f"TV-L1, `{preset}`", str(threads), spread(taken), f"{1e3 / median(taken):.1f}",
               ratio(walls[1], taken) if threads > 1 else "")


def accuracy(rounds: int) -> None:
    methods = {**OURS, **OPENCV, **OTHERS}
    errors: dict[str, list[float]] = defaultdict(list)
    for name in SEQUENCES:
        say(f"accuracy, {name}")
        folder = data("flow") / name
        a, b = (cv2.imread(str(folder / f"frame{n}.png"), cv2.IMREAD_GRAYSCALE) for n in (10, 11))
        truth = read_flo(folder / "flow10.flo")
        known = (np.abs(truth) < 1e8).all(2)
        for method, solve in methods.items():
            errors[method].append(float(np.linalg.norm((solve(a, b) - truth)[known], axis=1).mean()))
    print("\n### End-point error on Middlebury, px\n")
    print(table(("method", *SEQUENCES, "mean"),
                [(name, *(f"{e:.4f}" for e in taken), f"{mean(taken):.4f}") for name, taken in errors.items()]))
    rows = []
    for path in sorted(data("clips").iterdir()):
        say(f"difference, {path.stem}")
        greys = [frame.grey for frame in frames(path, end=21)]
        found, other = (solve(greys[20], greys[21]) for solve in (flow.compute, opencv_equal))
        off = np.linalg.norm(found - other, axis=2)
        rows.append((path.stem, f"{off.mean():.4f}", f"{np.percentile(off, 99):.3f}",
                     f"{np.linalg.norm(other, axis=2).mean():.2f}"))
    print("\n### How far `opencv` is from OpenCV with equal parameters, frames 20 and 21, px\n")
    print(table(("clip", "mean difference", "99 % are below", "mean length of the flow"), rows))


def video(rounds: int) -> None:
    rows, shares = [], []
    for name, threads in itertools.product((BIKES, "v_Bowling_g01_c01.avi"), (1, 2)):
        rates = []
        for n in range(rounds):
            say(f"video, {name}: round {n + 1} of {rounds}, {threads} threads")
            rates.append(to_files(data("clips") / name, threads=threads))
        rows.append((name, threads, spread(rates)))
    for name in (BIKES, "v_Bowling_g01_c01.avi"):
        taken = {"decode": 0.0, "solve": 0.0, "write": 0.0}
        with ExitStack() as patches:
            for owner, attribute, stage in ((FrameReader, "__next__", "decode"), (TVL1, "prepare", "solve"),
                                            (TVL1, "solve", "solve"), (files._FolderWriter, "add", "write")):
                patches.enter_context(mock.patch.object(owner, attribute,
                                                        watched(getattr(owner, attribute), stage, taken)))
            wall = time.perf_counter()
            to_files(data("clips") / name, threads=1)
            wall = time.perf_counter() - wall
        taken["rest"] = wall - sum(taken.values())
        shares.append((name, *(f"{100 * seconds / wall:.1f} %" for seconds in taken.values())))
    print("\n### From the video file to jpg files, `opencv` preset\n")
    print(table(("clip", "threads", "pairs/s"), rows))
    print()
    print(table(("clip, one thread", "decode", "solve", "write", "rest"), shares))


def to_files(path: Path, **options: Any) -> float:
    """Write the flow of a video to files that are thrown away; return pairs a second."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        meta = write_flow(path, Path(folder) / "flow", FlowParams(), **options)
        return float(meta["counts"]["flow"] / (time.perf_counter() - start))


def watched(function: Callable[..., Any], stage: str, taken: dict[str, float]) -> Callable[..., Any]:
    """Return the function, adding the time of each call to its stage."""
    def call(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            taken[stage] += time.perf_counter() - start

    return call


def trajectories(rounds: int) -> None:
    methods = ("farneback", "tvl1", "dis")
    rows = []
    for path in sorted(data("clips").iterdir()):
        for method in methods:
            say(f"trajectories, {path.stem}, {method}")
            features, ms = extracted(path, method)
            steps = np.linalg.norm(np.diff(features.points, axis=1), axis=2)
            rows.append((path.stem, method, len(features), f"{ms:.1f}", f"{steps.mean():.2f}" if len(steps) else ""))
    print("\n### Improved trajectories with other flow, one thread\n")
    print(table(("clip", "flow", "trajectories", "CPU ms a frame", "mean step, px"), rows))
    rows = []
    truths = json.loads((data("known_motion") / "ground_truth.json").read_text())
    for name, method in itertools.product(truths, methods):
        say(f"known motion, {name}, {method}")
        path = data("known_motion") / name
        features, _ = extracted(path, method)
        whole, _ = extracted(path, method, camera=False)
        error = corner_errors(features, true_steps(truths[name]))
        rows.append((path.stem, method, f"{median(error):.3f}", f"{max(error):.3f}",
                     f"{100 * len(features) / len(whole):.2f} %"))
    print("\n### Known camera motion: error at the worst corner, and trajectories that are left\n")
    print(table(("clip", "flow", "px, median over frames", "px, worst frame", "left of those without camera removal"),
                rows))


def extracted(path: Path, method: str, **options: Any) -> tuple[Features, float]:
    """Return the features of a video and the CPU time of a frame, ms."""
    params = idt.Params(flow=method, **options)
    idt.extract(np.zeros((2, 64, 64), np.uint8), params)
    start = time.process_time()
    features = idt.extract(path, params)
    return features, 1e3 * (time.process_time() - start) / features.meta["video"]["decoded_frames"]


def true_steps(entry: dict[str, Any]) -> np.ndarray:
    """Return the homographies (T - 1, 3, 3) from each frame of a clip to the next."""
    if "H" in entry:
        to_scene = np.array(entry["H"])
        return np.linalg.inv(to_scene[1:]) @ to_scene[:-1]
    step = np.eye(3)
    step[:2, 2] = entry["gt_flow_t_to_t+1"]
    return np.repeat(step[None], entry["frames"] - 1, axis=0)


def corner_errors(features: Features, truth: np.ndarray) -> list[float]:
    """Return for each frame how far its homography takes the worst corner from where it belongs, px."""
    width, height = features.meta["video"]["width"], features.meta["video"]["height"]
    corners = np.array([[0, width - 1, 0, width - 1], [0, 0, height - 1, height - 1], [1, 1, 1, 1]], np.float64)
    assert features.homographies is not None
    found, true = (steps @ corners for steps in (features.homographies[1:], truth))
    return [float(e) for e in np.linalg.norm(found[:, :2] / found[:, 2:] - true[:, :2] / true[:, 2:],
                                             axis=1).max(axis=1)]


def on_gpu(device: str, rounds: int) -> None:
    from numba import cuda

    from idt.flow._tvl1_cuda import TEST_EVERY  # iterations a launch

    gpu = cuda.get_current_device()
    each = 64 if gpu.compute_capability in ((7, 0), (7, 5), (8, 0)) else 128
    clock, lanes = gpu.CLOCK_RATE * 1e3, each * gpu.MULTIPROCESSOR_COUNT
    arithmetic, memory = 2 * lanes * clock, copy_bandwidth()
    name = gpu.name.decode() if isinstance(gpu.name, bytes) else gpu.name
    print(f"\n{name}: {memory / 1e12:.2f} TB/s read and written by a copy (measured), {arithmetic / 1e12:.1f} TFLOP/s "
          f"(multiprocessors x {each} lanes x 2 x clock).")
    for (width, height), preset in itertools.product(SIZES, PRESETS):
        greys = clip(width, height) * 4
        pixels = pixel_iterations(greys[:11], preset) / 10
        expected = [flow.compute(greys[n], greys[n + 1], params=preset) for n in (0, 40)]
        found = list(flow.sequence(greys[:42], params=preset, device=device))
        apart = mean(float(np.linalg.norm(found[n] - e, axis=2).mean()) for n, e in zip((0, 40), expected, strict=True))
        rows = []
        for batch in BATCHES:
            devices.release_gpus()
            with mock.patch("idt.flow.devices._largest", return_value=batch):
                rates = []
                for n in range(rounds + 1):  # the first makes the batches' memory
                    say(f"{device}, {width}x{height}, {preset}, batches of {batch}: round {n} of {rounds}")
                    wall, _ = timed(partial(deque, flow.sequence(greys, params=preset, device=device), maxlen=0))
                    rates.append(1e3 * (len(greys) - 1) / wall)
            rate = median(rates[1:])
            rows.append((batch, spread(rates[1:]), f"{1e3 / rate:.2f}",
                         f"{100 * rate * pixels / TEST_EVERY * BYTES / memory:.0f} %",
                         f"{100 * rate * pixels * FLOP / arithmetic:.0f} %"))
        print(f"\n### {width}x{height}, `{preset}`\n\n{pixels / 1e6:.1f} million pixel-iterations a pair; mean "
              f"difference to the flow of the CPU {apart:.4f} px.\n")
        print(table(("batch", "pairs/s", "ms a pair", "memory, share of the ceiling", "arithmetic, share"), rows))
    rows = []
    for threads in sorted({1, os.cpu_count() or 1}):
        rates = [to_files(data("clips") / BIKES, device=device, threads=threads) for _ in range(rounds + 1)][1:]
        rows.append((BIKES, threads, spread(rates)))
    print("\n### From the video file to jpg files\n")
    print(table(("clip", "threads", "pairs/s"), rows))


def copy_bandwidth() -> float:
    """Return the bytes a second that a copy within the GPU reads and writes."""
    from numba import cuda

    source, target = (cuda.device_array(1 << 28, np.float32) for _ in range(2))
    begin, end = cuda.event(), cuda.event()
    target.copy_to_device(source)
    begin.record()
    for _ in range(10):
        target.copy_to_device(source)
    end.record()
    end.synchronize()
    return float(10 * 2 * source.nbytes / (cuda.event_elapsed_time(begin, end) / 1e3))


def pixel_iterations(greys: Sequence[np.ndarray], preset: str) -> int:
    """Return how many pixels the CPU iterates over for a sequence, all iterations counted."""
    total = 0
    relax = _tvl1_cpu._relax

    def counted(planes: np.ndarray, h: int, w: int, *rest: Any) -> int:
        nonlocal total
        iterations = relax(planes, h, w, *rest)
        total += iterations * h * w
        return int(iterations)

    with mock.patch.object(_tvl1_cpu, "_relax", counted):
        list(flow.sequence(greys, params=preset))
    return total


if __name__ == "__main__":
    main()
