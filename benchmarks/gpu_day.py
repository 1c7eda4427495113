"""The steps of gpu_day.sh: each prints what it finds and adds lines to $OUT/table.md.

python benchmarks/gpu_day.py driver|cold|warm|leak|accuracy|speed|kernels|tiny|profile|files
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import cv2
import numpy as np

from idt import flow
from idt.batch import flow_videos
from idt.flow import _tvl1_cuda, devices
from idt.flow.tvl1 import TVL1Params, level_sizes, solve
from idt.runner.jobs import Workers
from idt.video import frames
from idt.video_flow.params import FlowParams

OUT, CLIPS = Path(os.environ.get("OUT", "/tmp")), Path(os.environ.get("CLIPS", "../shared/data/clips"))
FAKE = bool(os.environ.get("FAKE_MODULES"))  # the emulator on a CPU: less of everything
BOWLING, BIKES = "v_Bowling_g01_c01.avi", "bikes_320x240_80.avi"
BYTES, FLOP = 83, 55  # bytes a pixel and launch of the iterations, operations a pixel and iteration


def note(what: str, value: object) -> None:
    print(f"{what}: {value}", flush=True)
    with (OUT / "table.md").open("a") as file:
        file.write(f"| {what} | {value} |\n")


def clip(name: str = BOWLING, count: int | None = None, size: tuple[int, int] | None = None) -> list[np.ndarray]:
    greys = [frame.grey for frame in frames(CLIPS / name)][:count]
    return greys if size is None else [cv2.resize(grey, size, interpolation=cv2.INTER_CUBIC) for grey in greys]


def apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.linalg.norm(a - b, axis=2)


def driver() -> None:
    """Ask whether the driver frees without a current context: Numba frees wherever the last reference is dropped."""
    from cuda.bindings import driver as d
    from numba import cuda

    with cuda.gpus[0]:
        handles = {"cuMemFree": d.cuMemAlloc(1 << 20)[1], "cuMemFreeHost": d.cuMemHostAlloc(1 << 20, 0)[1],
                   "cuEventDestroy": d.cuEventCreate(0)[1], "cuStreamDestroy": d.cuStreamCreate(0)[1]}
        before = cuda.current_context().get_memory_info().free
    note("context current outside `with cuda.gpus[0]`", int(d.cuCtxGetCurrent()[1]) != 0)
    note("driver version", d.cuDriverGetVersion()[1])
    for name, handle in handles.items():
        note(f"{name} without a context", getattr(d, name)(handle)[0].name)
    with cuda.gpus[0]:
        note("free memory changed by", cuda.current_context().get_memory_info().free - before)


def cold() -> None:
    a, b = clip(count=2, size=(96, 64) if FAKE else None)
    for preset in ("opencv", "accurate"):
        start = time.perf_counter()
        found = flow.compute(a, b, params=preset, device="cuda")
        taken = time.perf_counter() - start
        note(f"first pair, `{preset}`, kernels compiled",
             f"{taken:.1f} s; from the CPU {apart(found, flow.compute(a, b, params=preset)).mean():.4f} px")


def warm() -> None:
    """Start with kernels in Numba's cache: two solvers want them at the same time."""
    images = clip(size=(64, 48) if FAKE else None)[:140] * (1 if FAKE else 2)
    start = time.perf_counter()
    with batches_of(32):
        count = sum(1 for _ in flow.sequence(images, device="cuda"))
    note("fresh process, warm kernels", f"{count} pairs, {time.perf_counter() - start:.2f} s with start")


def leak() -> None:
    from numba import cuda

    failures: list[str] = []
    sys.unraisablehook = lambda info: failures.append(str(info.exc_value)[-60:])

    def free() -> int:
        with cuda.gpus[0]:
            return int(cuda.current_context().get_memory_info().free)

    images = clip(count=20, size=(64, 48) if FAKE else None)
    flow.compute(*images[:2], device="cuda")
    seen = []
    for n in range(4 if FAKE else 12):
        for _ in flow.sequence([image[:, n // 3:] for image in images], device="cuda"):  # each third of another size
            pass
        gc.collect()
        seen.append(free())
    devices.release_gpus()
    note("free memory after each of some sequences, and when it is given back, MB",
         ", ".join(f"{s / 1e6:.0f}" for s in [*seen, free()]))
    note("exceptions in finalizers", f"{len(failures)}, e.g. {failures[0]}" if failures else 0)
    if failures or max(seen) - min(seen) > 64e6:
        raise SystemExit("memory is left behind")


def accuracy() -> None:
    for name in (BIKES, BOWLING):
        images = clip(name, 3 if FAKE else 41, (96, 64) if FAKE else None)
        one = list(flow.sequence(images, device="cuda"))
        two = list(flow.sequence(images, device="cuda"))
        note(f"{name}: two runs the same", all(np.array_equal(a, b) for a, b in zip(one, two, strict=True)))
        errors = [apart(one[n], flow.compute(images[n], images[n + 1])) for n in range(0, len(one), 8)]
        note(f"{name}: from the CPU, px", f"mean {np.mean(errors):.4f}, 99 % below {np.percentile(errors, 99):.3f}; "
                                          f"finite {all(np.isfinite(f).all() for f in one)}")


@contextlib.contextmanager
def batches_of(pairs: int, solvers: int = 2) -> Any:
    devices.release_gpus()
    with (mock.patch.object(devices, "_largest", return_value=pairs),
          mock.patch.object(devices, "_SOLVERS", solvers)):
        yield
    devices.release_gpus()


def rate(images: Sequence[np.ndarray], preset: str) -> tuple[float, float]:
    """Return pairs a second, and milliseconds of CPU a pair."""
    start, cpu = time.perf_counter(), time.process_time()
    count = sum(1 for _ in flow.sequence(images, device="cuda", params=preset))
    return count / (time.perf_counter() - start), 1e3 * (time.process_time() - cpu) / count


def speed() -> None:
    small, large = ((1, 64), (2, 16), (2, 64), (2, 256)), ((2, 2), (2, 4), (2, 16), (2, 64))
    for size, name, presets, settings in (
            ((320, 240), BOWLING, ("opencv", "accurate"), small), ((320, 240), BIKES, ("opencv", "accurate"), small),
            ((640, 480), BOWLING, ("opencv",), large), ((1920, 1080), BOWLING, ("opencv",), large[:3])):
        images = clip(name, 6 if FAKE else None, (64, 48) if FAKE else size)
        images = images[:20] if size[0] > 1000 else images * (1 if FAKE else 4 if size[0] < 400 else 1)
        for preset in presets:
            for solvers, pairs in settings:
                with batches_of(pairs, solvers):
                    found = [rate(images, preset) for _ in range(1 if FAKE else 3)][-2:]
                note(f"{size[0]}x{size[1]} {name[:7]} `{preset}`, {solvers} solvers, batches of {pairs}",
                     f"{median(f[0] for f in found):.0f} pairs/s, {median(f[1] for f in found):.2f} ms of CPU a pair")


def batch_of(width: int, height: int, pairs: int, params: TVL1Params) -> Any:
    images = clip(count=pairs + 1, size=(width, height))
    batch = _tvl1_cuda._Batch(level_sizes(width, height, params), params, pairs + 1, pairs)
    batch.load(images, [(k, k + 1) for k in range(pairs)])
    return batch


def kernels() -> None:
    """Milliseconds of each kernel at 320x240, and of launches of blocks that return at once."""
    for pairs in (2,) if FAKE else (1, 16, 64):
        with _tvl1_cuda._current(0):
            _kernels(pairs)
    compiled = next(iter(_tvl1_cuda._relax(8).overloads.values()))
    note("relax: registers, shared bytes, local bytes",
         f"{compiled.regs_per_thread}, {compiled.shared_mem_per_block}, {compiled.local_mem_per_thread}")


def _kernels(pairs: int) -> None:
    from numba import cuda

    params = TVL1Params(iterations=40, epsilon=0.0)  # ten launches, none stops
    batch = batch_of(320, 240, pairs, params)
    solve(batch, params)
    begin, end = cuda.event(), cuda.event()

    def timed(job: Callable[[], None]) -> float:
        times = []
        for _ in range(2 if FAKE else 20):
            begin.record(batch._stream)
            job()
            end.record(batch._stream)
            end.synchronize()
            times.append(cuda.event_elapsed_time(begin, end))
        return median(times)

    def linearise() -> None:
        batch.linearise(level)

    def relax() -> None:
        batch.relax(level)

    def ten() -> None:
        for _ in range(10):
            launch(**numbers)

    for level in (0, 4):
        at = batch._levels[level]
        taken = timed(linearise)
        note(f"{pairs} pairs, level {at.width}x{at.height}: linearise", f"{1e3 * taken:.0f} us")
        linearise()
        taken = timed(relax)
        work = at.width * at.height * pairs / (taken * 1e-4)
        tiles = at.tiles[0] * at.tiles[1]
        note(f"{pairs} pairs, level {at.width}x{at.height}: a launch of relax ({tiles} tiles a pair; mean of ten, host "
             "included)",
             f"{1e2 * taken:.1f} us = {work * BYTES / 1e12:.2f} TB/s, {work * 4 * FLOP / 1e12:.2f} TFLOP/s")
    batch.enter(0)  # the launches that may follow are 0: all blocks of relax return at once
    launch, numbers = batch.relaxing(0), {"call": 10**6, "copy": batch._copy, "launch": 0, "count": 4}
    note(f"{pairs} pairs: a launch whose blocks return at once", f"{1e2 * timed(ten):.1f} us")
    start = time.perf_counter()
    for _ in range(30):
        ten()
    note(f"{pairs} pairs: a launch, seen from the host", f"{1e6 * (time.perf_counter() - start) / 300:.1f} us")


def tiny() -> None:
    """Run every kernel once, for the sanitizer."""
    images = clip(count=4, size=(100, 70))
    for params in (TVL1Params(scales=2, warps=2, iterations=12, median=5),
                   TVL1Params(scales=1, warps=1, iterations=5, median=3)):
        assert sum(1 for _ in flow.sequence(images, params=params, device="cuda")) == 3
    low = [image[:12] for image in images]
    assert sum(1 for _ in flow.sequence(low, params=TVL1Params(iterations=8), device="cuda")) == 3


def profile() -> None:
    with _tvl1_cuda._current(0):
        _profile()


def _profile() -> None:
    params = TVL1Params(scales=1, warps=2, iterations=60, epsilon=0.0)
    solve(batch_of(320, 240, 2 if FAKE else 64, params), params)


def files() -> None:
    """Video to jpg: so many processes, each with its share of the cores, on one GPU."""
    cores = os.cpu_count() or 1
    params = FlowParams(short_side=32, end=4) if FAKE else FlowParams()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        videos = Path(folder, "videos")
        videos.mkdir()
        for n in range(3 if FAKE else 24):
            (videos / f"{n:02}.avi").symlink_to(CLIPS / BOWLING)
        for jobs in (1, 2) if FAKE else (1, 4, 6, 8):
            start = time.perf_counter()
            done = flow_videos(videos, Path(folder, f"out{jobs}"), params, device="cuda",
                               threads=max(1, cores // jobs), workers=Workers(jobs=jobs))
            wall = time.perf_counter() - start
            count = sum(1 for _ in Path(folder, f"out{jobs}").rglob("*.jpg")) // 2
            note(f"video to jpg, {jobs} processes",
                 f"{count / wall:.0f} pairs/s ({count} pairs, {wall:.1f} s, start of processes included)")
            if done.failed:
                raise SystemExit(f"{len(done.failed)} videos failed, the first: {done.failed[0].error}")


STEPS = (driver, cold, warm, leak, accuracy, speed, kernels, tiny, profile, files)

if __name__ == "__main__":
    {step.__name__: step for step in STEPS}[sys.argv[1]]()
