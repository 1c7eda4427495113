"""flow._tvl1_cuda, on a GPU where there is one and under Numba's simulator elsewhere: oracles, CPU solver, errors.

The simulator must be chosen before numba.cuda is imported and then stands for the whole process, where the tests of
other files would take it for a GPU. So without a GPU one test runs this file once more, in a process of its own.
"""

from __future__ import annotations

import ctypes
import gc
import itertools
import os
import random
import re
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

import naive
from idt.errors import DeviceError
from idt.flow import _tvl1_cpu
from idt.flow.tvl1 import TVL1Params, level_sizes, solve


def gpu() -> bool:
    """Say whether the driver shows a device, without Numba."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
if SIMULATED or gpu():
    from idt.flow import _tvl1_cuda as gpu_kernels
if SIMULATED:
    from numba.cuda.simulator import kernel

    class Thread(kernel.BlockThread):
        """A thread of a block, which works from one barrier to the next when it has its turn."""

        def __init__(self, *args):
            super().__init__(*args)
            self.begin, self.end, self.done = threading.Semaphore(0), threading.Semaphore(0), False

        def run(self):
            self.begin.acquire()
            super().run()
            self.done = True
            self.end.release()

        def syncthreads(self):
            self.end.release()
            self.begin.acquire()

    class Block(kernel.BlockManager):
        """A block whose threads take turns, in another order each time, so that a barrier which is missing shows.

        Those of the simulator run at once, while it looks without rest for whether all wait, which takes far longer;
        and two that ask for a shared array at once may each get one of their own.
        """

        def run(self, grid_point, *args):
            threads = [Thread(lambda: self._f(*args), self, grid_point, point, self._debug)
                       for point in np.ndindex(*self._block_dim)]
            for thread in threads:
                thread.start()
            orders = random.Random(0)
            while threads:
                orders.shuffle(threads)
                for thread in threads:
                    thread.begin.release()
                    thread.end.acquire()
                    if thread.exception:
                        raise thread.exception[0].with_traceback(thread.exception[1])
                threads = [thread for thread in threads if not thread.done]

    if hasattr(os, "sched_setaffinity"):  # one core hands over from thread to thread sooner than two
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    kernel.BlockManager = Block
    gpu_kernels._BLOCK = (8, 4)  # fewer threads beyond the border of a tiny image, each of which takes its time

here = pytest.mark.skipif(not SIMULATED and not gpu(), reason="run by test_under_the_simulator")


@pytest.mark.timeout(1600)
@pytest.mark.skipif(SIMULATED or gpu(), reason="the tests below run in this process")
def test_under_the_simulator():
    child = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__], text=True, capture_output=True,
        cwd=Path(__file__).parents[2], env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}, timeout=1500)
    assert child.returncode == 0, child.stdout + child.stderr
    assert "failed" not in child.stdout
    assert " passed" in child.stdout


@pytest.mark.skipif(SIMULATED or gpu(), reason="there is a device")
def test_without_a_device_the_error_says_what_is_missing():
    from idt.flow import _tvl1_cuda

    with pytest.raises(DeviceError, match=r"^No CUDA device: there is no NVIDIA driver that works \(.+\); use device "):
        _tvl1_cuda.devices()
    with pytest.raises(DeviceError, match=r"^No CUDA device"):
        _tvl1_cuda.Solver(24, 20, TVL1Params())


def test_without_the_package_the_error_says_what_to_install():
    program = """
import sys
sys.modules["numba_cuda"] = None
from idt.errors import DeviceError
try:
    import idt.flow._tvl1_cuda
except DeviceError as error:
    print(error)
"""
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=600)
    assert child.stdout.startswith("The device cuda needs the package numba-cuda"), child.stderr
    assert 'pip install "densetraj[gpu]", or "densetraj[gpu12]"' in child.stdout


def test_numba_cuda_is_used_where_pth_files_are_not_read():
    program = """
import sys
sys.meta_path[:] = [f for f in sys.meta_path if type(f).__name__ != "NumbaCudaFinder"]
sys.modules.pop("_numba_cuda_redirector", None)
if sys.argv[1] == "late":
    import warnings
    warnings.simplefilter("ignore")
    import numba.cuda
from idt.errors import DeviceError
try:
    from idt.flow import _tvl1_cuda
    print(_tvl1_cuda.cuda.__file__)
except DeviceError as error:
    print(error)
"""
    for argument, expected in (("early", "numba_cuda/numba/cuda/__init__.py"), ("late", "first.")):
        child = subprocess.run([sys.executable, "-c", program, argument], capture_output=True, text=True, timeout=600)
        assert child.stdout.endswith(f"{expected}\n"), child.stdout + child.stderr
    assert re.match(r"Numba's own numba\.cuda \(.*\) was imported before numba-cuda could replace it: import idt\.flow",
                    child.stdout)


@pytest.fixture(autouse=True)
def current():
    """Device 0 is current in each test, and what a test leaves behind is freed while it is."""
    if not SIMULATED and not gpu():
        yield
        return
    with gpu_kernels._current(0):
        yield
        gc.collect()  # an error that a test has caught and its frame refer to each other


def image(height, width, *, seed=0, shift=(0, 0)):
    """Smooth noise (height, width) uint8; what is at p without a shift is at p + shift (x, y) with it."""
    noise = np.random.default_rng(seed).normal(size=(height + 12, width + 12))
    smooth = cv2.GaussianBlur(noise, (0, 0), 1.5)
    x, y = 6 - shift[0], 6 - shift[1]
    return np.clip(128 + 160 * smooth[y:y + height, x:x + width], 0, 255).astype(np.uint8)


def batch_of(params, images, pairs):
    """A loaded batch on device 0."""
    height, width = images[0].shape
    batch = gpu_kernels._Batch(level_sizes(width, height, params), params, len(images), len(pairs))
    batch.load(images, pairs)
    return batch


def synchronise(batch):
    """Wait for what the batch has launched."""
    if not SIMULATED:
        batch._stream.synchronize()


def put(batch, level, flows):
    """Give the batch a flow (pairs, h, w, 2) on a level, on side 0, and NaN wherever it must write before it reads."""
    at = batch._levels[level]
    state = np.full(batch._state.shape, np.nan, np.float32)
    planes = state[:, :, :at.height * at.pitch].reshape(*state.shape[:2], at.height, at.pitch)
    planes[:, :2, :, :at.width] = np.moveaxis(flows, 3, 1)
    planes[:, 4:8, :, :at.width] = 0
    synchronise(batch)
    batch._state.copy_to_device(state)
    batch._control.copy_to_device(np.zeros(batch._control.shape, np.int32))


def read(batch, level):
    """Flow (pairs, h, w, 2), dual variables theta p (pairs, 4, h, w), data term (pairs, 3, h, w), launches (pairs,)."""
    at = batch._levels[level]
    synchronise(batch)
    state = batch._state.copy_to_host()
    planes = state[:, :, :at.height * at.pitch].reshape(*state.shape[:2], at.height, at.pitch)[..., :at.width]
    flow_side, dual_side, launches = batch._control.copy_to_host()[batch._copy]
    flows = [np.moveaxis(p[2 * s:2 * s + 2], 0, 2) for p, s in zip(planes, (flow_side + launches) & 1, strict=True)]
    duals = [p[4 + 4 * s:8 + 4 * s] for p, s in zip(planes, (dual_side + launches) & 1, strict=True)]
    return np.array(flows), np.array(duals), planes[:, 12:], launches


def on_cpu(a, b, params):
    height, width = a.shape
    sizes = level_sizes(width, height, params)
    state = _tvl1_cpu.PairState(sizes, params)
    state.load(*(_tvl1_cpu.pyramid(grey, sizes, 1 / params.scale_step, None) for grey in (a, b)))
    solve(state, params)
    return state.flow()


# Each kernel


@here
@pytest.mark.parametrize("step", [0.8, 0.6])
def test_pyramids(step):
    params = TVL1Params(scales=3, scale_step=step)
    images = [image(27, 35, seed=s) for s in range(2)]
    batch = batch_of(params, images, [(0, 1)])
    synchronise(batch)
    pyramids = batch._pyramids.copy_to_host()
    assert len(batch._levels) == (3 if step == 0.8 else 2)
    for grey, pyramid in zip(images, pyramids, strict=True):
        for at, expected in zip(batch._levels, naive.tvl1_pyramid(grey, params), strict=True):
            assert expected.shape == (at.height, at.width)
            level = pyramid[at.first:at.first + (at.height + 5) * (at.width + 5)].reshape(at.height + 5, at.width + 5)
            np.testing.assert_allclose(level, np.pad(expected, (2, 3), mode="edge"), atol=1e-3)


@here
def test_entering_a_level():
    params = TVL1Params(scales=2)
    batch = batch_of(params, [image(20, 24)], [(0, 0), (0, 0)])
    flows = np.random.default_rng(0).normal(size=(2, *batch.sizes[1], 2))
    put(batch, 1, flows)
    batch.enter(0)
    found, duals, _, launches = read(batch, 0)
    for k in range(2):
        np.testing.assert_allclose(found[k], naive.tvl1_enlarge(flows[k], 24, 20, params), atol=1e-5)
    assert not duals.any()
    assert not launches.any()
    put(batch, 1, flows)
    batch.enter(1)
    found, duals, _, _ = read(batch, 1)
    assert not found.any()
    assert not duals.any()


@here
@pytest.mark.parametrize("interpolation", ["cubic", "keys", "linear"])
def test_data_term(interpolation):
    params = TVL1Params(scales=1, interpolation=interpolation)
    images = [image(13, 18, seed=s) for s in range(3)]
    batch = batch_of(params, images, [(2, 1), (0, 2)])
    flows = np.random.default_rng(1).normal(size=(2, 13, 18, 2), scale=2).astype(np.float32)
    flows[0, 0, 0] = 0, 0
    flows[0, 12, 17] = 0, 0
    flows[1, 3, 4] = 1e6, 0
    flows[1, 5, 6] = 17 - 6, 12 - 5  # the very corner, still inside
    put(batch, 0, flows)
    batch.linearise(0)
    _, _, data, launches = read(batch, 0)
    assert (launches == -(-params.iterations // gpu_kernels.TEST_EVERY)).all()
    for k, (a, b) in enumerate([(2, 1), (0, 2)]):
        warped, gradient, inside = naive.tvl1_warp(images[b].astype(float), flows[k].astype(float), interpolation)
        assert not inside.all()
        gradient = gradient * inside[..., None]
        rho = inside * (warped - images[a]) - (gradient * flows[k]).sum(2)
        np.testing.assert_allclose(data[k, 0], gradient[..., 0], atol=2e-3)
        np.testing.assert_allclose(data[k, 1], gradient[..., 1], atol=2e-3)
        np.testing.assert_allclose(data[k, 2], rho, atol=1e-2)


@here
@pytest.mark.parametrize(("height", "width", "tiles"), [
    (20, 70, (2, 2)),  # tiles overlap both ways
    (16, 17, (1, 1)),
    (37, 5, (1, 2)),   # not as wide as two borders
    (11, 9, (1, 1)),   # a row for each thread
    (1, 1, (1, 1))])
def test_iterations(height, width, tiles):
    params = TVL1Params(scales=1, iterations=6, epsilon=0.0)  # two launches, of four and two
    a, b = image(height, width), image(height, width, shift=(1, -1))
    batch = batch_of(params, [a, b], [(0, 1)])
    assert batch._levels[0].tiles == tiles
    start = np.random.default_rng(2).normal(size=(1, height, width, 2), scale=0.3).astype(np.float32)
    put(batch, 0, start)
    batch.linearise(0)
    batch.relax(0)
    flows, duals, _, launches = read(batch, 0)
    warp = naive.tvl1_warp(b.astype(float), start[0].astype(float), "cubic")
    expected, p, count = naive.tvl1_relax(start[0].astype(float), np.zeros((2, 2, height, width)), a.astype(float),
                                          *warp, params)
    assert (count, launches) == ((6, 2) if height * width > 1 else (1, 1))  # nothing moves a lone pixel
    np.testing.assert_allclose(flows[0], expected, atol=1e-4)
    np.testing.assert_allclose(duals[0], params.theta * p.reshape(4, height, width), atol=1e-4)


@here
@pytest.mark.parametrize("side", [3, 5])
def test_median(side):
    params = TVL1Params(scales=1, median=side)
    batch = batch_of(params, [image(9, 12)], [(0, 0)])
    flows = np.random.default_rng(3).normal(size=(1, 9, 12, 2)).astype(np.float32)
    put(batch, 0, flows)
    batch.smooth(0)
    found, duals, _, _ = read(batch, 0)
    padded = np.pad(flows[0], ((side // 2,) * 2, (side // 2,) * 2, (0, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(0, 1))
    np.testing.assert_array_equal(found[0], np.median(windows, axis=(3, 4)))
    assert not duals.any()


# Convergence


@here
def test_each_pair_stops_at_its_own_time():
    """A pair without motion stops after one launch; the others when the oracle says, to within a test interval."""
    params = TVL1Params(scales=1, iterations=60, epsilon=0.02)
    images = [image(16, 20), image(16, 20, shift=(1, 0)), image(16, 20, shift=(0, 1))]
    pairs = [(0, 1), (0, 0), (2, 0)]
    batch = batch_of(params, images, pairs)
    put(batch, 0, np.zeros((3, 16, 20, 2)))
    batch.linearise(0)
    batch.relax(0)
    flows, _, _, launches = read(batch, 0)
    assert launches[1] == 1
    assert not flows[1].any()
    assert batch._converged[0] == batch._call  # the host was told that all have converged
    for k in (0, 2):
        a, b = (images[n].astype(float) for n in pairs[k])
        zero = np.zeros((16, 20, 2))
        limits = TVL1Params(scales=1, iterations=int(launches[k]) * gpu_kernels.TEST_EVERY, epsilon=0.0)
        expected, _, _ = naive.tvl1_relax(zero, np.zeros((2, 2, 16, 20)), a, *naive.tvl1_warp(b, zero, "cubic"), limits)
        _, _, count = naive.tvl1_relax(zero, np.zeros((2, 2, 16, 20)), a, *naive.tvl1_warp(b, zero, "cubic"), params)
        assert 1 < launches[k] < 15
        assert 0 <= launches[k] * gpu_kernels.TEST_EVERY - count < gpu_kernels.TEST_EVERY
        np.testing.assert_allclose(flows[k], expected, atol=2e-4)


# The whole solver


@here
@pytest.mark.parametrize(("height", "width", "params"), [
    (20, 24, TVL1Params(scales=2, warps=2, iterations=12)),
    (16, 17, TVL1Params(scales=2, warps=2, iterations=9, median=3, interpolation="linear")),
])
def test_agrees_with_the_cpu(height, width, params):
    images = [image(height, width), image(height, width, shift=(1, 0)), image(height, width, shift=(1, -1))]
    pairs = [(0, 1), (1, 1), (2, 0)]
    flows = gpu_kernels.Solver(width, height, params).solve(images, pairs)
    assert flows.shape == (3, height, width, 2)
    assert flows.dtype == np.float32
    assert not flows[1].any()
    for flow, (a, b) in zip(flows, pairs, strict=True):
        assert np.abs(flow - on_cpu(images[a], images[b], params)).mean() < 0.02
    np.testing.assert_allclose(np.median(flows[0], axis=(0, 1)), (1, 0), atol=0.1)
    np.testing.assert_allclose(np.median(flows[2], axis=(0, 1)), (-1, 1), atol=0.1)


@here
def test_a_solver_remembers_nothing_but_memory():
    params = TVL1Params(scales=1, warps=2, iterations=5)
    images = [image(16, 16, seed=s) for s in range(3)]
    solver = gpu_kernels.Solver(16, 16, params)
    alone = [solver.solve([images[a], images[b]], [(0, 1)])[0] for a, b in ((0, 1), (2, 0))]
    batch = solver._batch
    both = solver.solve(images, [(0, 1), (2, 0)])
    assert solver._batch is not batch  # too small
    batch = solver._batch
    fewer = solver.solve(images[:2], [(0, 1)])
    assert solver._batch is batch
    for k in range(2):
        np.testing.assert_array_equal(both[k], alone[k])
    np.testing.assert_array_equal(fewer[0], alone[0])
    assert not np.shares_memory(both, fewer)
    assert solver.solve([], []).shape == (0, 16, 16, 2)


@here
def test_no_room_is_a_memory_error(monkeypatch):
    params = TVL1Params(scales=1, warps=1, iterations=1)
    solver = gpu_kernels.Solver(16, 16, params)
    a = image(16, 16)
    allocate = gpu_kernels.cuda.device_array

    def full(shape, *args, **kwargs):
        if len(shape) == 3:
            raise RuntimeError("[2] Call to cuMemAlloc results in CUDA_ERROR_OUT_OF_MEMORY")
        return allocate(shape, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(gpu_kernels.cuda, "device_array", full)
        with pytest.raises(MemoryError, match="1 pairs have no room on the device cuda:0") as caught:
            solver.solve([a], [(0, 0)])
    assert caught.value.__context__ is None  # nothing holds on to the arrays
    assert solver._batch is None
    assert not solver.solve([a], [(0, 0)]).any()


@here
def test_memory_is_foreseen():
    params = TVL1Params(scales=3)
    batch = gpu_kernels._Batch(level_sizes(50, 40, params), params, 2, 1)
    held = sum(getattr(batch, f"_{name}").nbytes for name in (
        "grey", "pyramids", "state", "flows", "sums", "numbers", "control", "tickets", "running"))
    foreseen = gpu_kernels.bytes_per_pair(50, 40, params)
    assert held == foreseen
    solver = gpu_kernels.Solver(50, 40, params)
    assert solver.capacity() >= 1
    assert solver.capacity() * foreseen <= (2**30 if SIMULATED else 2**42)
    if not SIMULATED:
        memory = gpu_kernels.cuda.current_context().get_memory_info()
        assert solver.capacity(1000) == int(0.9 * memory.total / 1000) // foreseen


@here
def test_numbers_of_devices():
    count = gpu_kernels.devices()
    assert count >= 1
    for wrong in (-1, count):
        with pytest.raises(DeviceError, match=f"There is no device cuda:{wrong}: CUDA shows {count}, numbered from 0."):
            gpu_kernels.Solver(24, 20, TVL1Params(), device=wrong)


@here
@pytest.mark.parametrize(("width", "height"), [(320, 240), (640, 480), (131, 98), (1920, 1080), (64, 32), (65, 33)])
def test_tiles_cover_every_level_without_exceeding_it(width, height):
    halo = gpu_kernels.TEST_EVERY
    for level in gpu_kernels._levels(level_sizes(width, height, TVL1Params())):
        sides = (level.width, level.threads[0]), (level.height, level.threads[1] * level.rows)
        assert level.pitch % 8 == 0
        assert level.pitch >= level.width
        for (length, tile), count in zip(sides, level.tiles, strict=True):
            starts = [min(k * (tile - 2 * halo), length - tile) for k in range(count)]
            assert starts[0] == 0
            assert starts[-1] == length - tile
            assert all(b > a and b + halo <= a + tile - halo for a, b in itertools.pairwise(starts))
