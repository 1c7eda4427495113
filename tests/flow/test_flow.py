"""idt.flow: methods and devices by name, flow of a pair, of any pairs and of a sequence, and what is refused."""

from __future__ import annotations

import itertools
import logging
import sys
import threading
from types import ModuleType

import numpy as np
import pytest

import idt.flow
import synthetic
from idt.errors import DeviceError, NoDeviceError, ParameterError
from idt.flow import METHODS, compute, devices, method_for, pairs, sequence
from idt.flow.devices import gpus_of, one_of, processes_on, settled
from idt.flow.dis import DIS, DeepFlow
from idt.flow.farneback import Farneback
from idt.flow.pyramid import scale_factors, scale_sizes
from idt.flow.tvl1 import PRESETS, TVL1, TVL1Params
from waiting import PATIENCE_S

NAMES = "allowed are tvl1, farneback, dis, deepflow"


@pytest.fixture(scope="module")
def frames():
    return synthetic.pan((1.5, -0.75), frames=3, height=67, width=90).frames


@pytest.fixture(scope="module")
def clip():
    """Nine different pictures, every step another flow."""
    camera = synthetic.similarity(1.5, 1.01, (10, 30)) @ synthetic.translation(0.7, -0.4)
    return synthetic.scene(9, 32, 40, camera=camera).frames


# Methods


def test_methods_by_name():
    assert list(METHODS) == ["tvl1", "farneback", "dis", "deepflow"]
    assert [method_for(name) for name in METHODS] == [TVL1, Farneback, DIS, DeepFlow]
    with pytest.raises(ParameterError) as error:
        method_for("lucas")
    assert str(error.value) == f"method is 'lucas': {NAMES}."


@pytest.mark.parametrize("name", METHODS)
def test_every_method_solves_prepared_images_at_every_scale(name, frames):
    factors = scale_factors(90, 67)
    method = method_for(name)(90, 67, factors=factors)
    a, b, c = (method.prepare(frame) for frame in frames)
    first = method.solve(a, b)
    assert [flow.shape for flow in first] == [(*size, 2) for size in scale_sizes(90, 67, factors)]
    assert all(flow.dtype == np.float32 and np.isfinite(flow).all() for flow in first)
    for flow, factor in zip(first, factors, strict=True):
        error = np.median(flow, (0, 1)) * factor - (1.5, -0.75)
        assert np.abs(error).max() < {"tvl1": 0.05, "farneback": 0.05, "dis": 0.1, "deepflow": 0.05}[name]
    # prepared images serve any number of pairs, in any order
    alone = method_for(name)(90, 67, factors=factors)
    second = alone.solve(alone.prepare(frames[1]), alone.prepare(frames[2]))
    for found, expected in ((method.solve(b, c), second), (method.solve(a, b), first)):
        for x, y in zip(found, expected, strict=True):
            np.testing.assert_array_equal(x, y)


# A pair


@pytest.mark.parametrize("name", METHODS)
def test_compute_is_the_finest_scale(name, frames):
    method = method_for(name)(90, 67, factors=scale_factors(90, 67))
    expected = method.solve(method.prepare(frames[0]), method.prepare(frames[1]))[0]
    found = compute(frames[0], frames[1], method=name)
    assert found.dtype == np.float32
    assert found.shape == (67, 90, 2)
    np.testing.assert_array_equal(found, expected)


def test_compute_takes_views_and_leaves_its_input_alone(frames):
    wide = np.repeat(frames, 2, axis=2)[:, :, ::2]
    wide.flags.writeable = False
    before = wide.copy()
    for name in METHODS:
        found = compute(wide[0], wide[1], method=name)
        np.testing.assert_array_equal(found, compute(frames[0], frames[1], method=name))
    np.testing.assert_array_equal(wide, before)
    assert compute(frames[0].T, frames[1].T).shape == (90, 67, 2)


def test_tvl1_with_the_numbers_of_opencv_is_the_default(frames):
    found = compute(frames[0], frames[1])
    for params in (None, "opencv", PRESETS["opencv"], TVL1Params()):
        np.testing.assert_array_equal(found, compute(frames[0], frames[1], method="tvl1", params=params))
    accurate = compute(frames[0], frames[1], params="accurate")
    np.testing.assert_array_equal(accurate, compute(frames[0], frames[1], params=PRESETS["accurate"]))
    assert np.abs(found - accurate).max() > 0.01
    assert not compute(frames[0], frames[1], params=TVL1Params(lambda_=1e-9)).round(3).any()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("size", [(16, 16), (16, 40), (33, 16)])
def test_small_images(name, size):
    a, b = synthetic.pan((0.5, 0.25), frames=2, height=size[0], width=size[1]).frames
    flow = compute(a, b, method=name)
    assert flow.shape == (*size, 2)
    assert np.isfinite(flow).all()


@pytest.mark.parametrize("name", METHODS)
def test_constant_images_do_not_move(name):
    dark, bright = (np.full((40, 50), grey, np.uint8) for grey in (0, 255))
    for a, b in ((dark, dark), (bright, bright), (dark, bright)):
        assert np.abs(compute(a, b, method=name)).max() < 1e-3


# Refusals


GREY = r"it must be a grey image \(H, W\) of uint8 \(values 0 to 255\), at least 2 x 2 pixels; convert other types"


@pytest.mark.parametrize(("a", "message"), [
    (np.zeros((9, 9)), rf"a has shape \(9, 9\) and type float64: {GREY}"),
    (np.full((9, 9), np.nan, np.float32), rf"a has shape \(9, 9\) and type float32: {GREY}"),
    (np.zeros((9, 9), np.uint16), r"a has shape \(9, 9\) and type uint16"),
    (np.zeros((9, 9), np.int8), r"a has shape \(9, 9\) and type int8"),
    (np.zeros((9, 9), bool), r"a has shape \(9, 9\) and type bool"),
    (np.zeros((9, 9, 3), np.uint8), r"a has shape \(9, 9, 3\) and type uint8"),
    (np.zeros(9, np.uint8), r"a has shape \(9,\)"), (np.uint8(7), r"a has shape \(\)"),
    (np.zeros((1, 9), np.uint8), r"a has shape \(1, 9\) .*at least 2 x 2 pixels"),
    (np.zeros((1, 1), np.uint8), r"a has shape \(1, 1\) .*at least 2 x 2 pixels"),
    (np.zeros((9, 0), np.uint8), r"a has shape \(9, 0\)"), ("picture.png", r"a has shape \(\) and type <U11"),
    (None, r"a has shape \(\) and type object"),
    (np.zeros((9, 8), np.uint8), r"a has shape \(9, 8\) and b \(9, 9\): they must be of one size\.")])
@pytest.mark.parametrize("method", METHODS)
def test_images_that_are_refused(a, message, method):
    good = np.zeros((9, 9), np.uint8)
    with pytest.raises(ParameterError, match=f"^{message}"):
        compute(a, good, method=method)
    if "and b" not in message:
        with pytest.raises(ParameterError, match=f"^{message.replace('a has', 'b has')}"):
            compute(good, a, method=method)


def test_images_that_change_their_size_are_refused_when_they_are_reached():
    images = [np.zeros(size, np.uint8) for size in ((16, 20), (16, 20), (20, 16), (20, 16))]
    flows = pairs([(images[0], images[1]), (images[2], images[3])])
    assert next(flows).shape == (16, 20, 2)
    with pytest.raises(ParameterError) as error:
        next(flows)
    assert str(error.value) == ("The images change their size from (16, 20) to (20, 16): all must be of one size.")


@pytest.mark.parametrize(("options", "message"), [
    ({"method": "tvl2"}, f"method is 'tvl2': {NAMES}."),
    ({"method": "TVL1"}, f"method is 'TVL1': {NAMES}."),
    ({"method": None}, f"method is None: {NAMES}."),
    ({"method": ["tvl1"]}, f"method is ['tvl1']: {NAMES}."),
    ({"params": "fast"}, "params is 'fast': give TVL1Params, or the name of a preset: opencv, accurate."),
    ({"params": 3}, "params is 3: give TVL1Params, or the name of a preset: opencv, accurate."),
    ({"params": {"tau": 0.1}},
     "params is {'tau': 0.1}: give TVL1Params, or the name of a preset: opencv, accurate."),
    ({"method": "dis", "params": "opencv"}, "params are given, but dis has none: they are those of tvl1."),
    ({"method": "farneback", "params": TVL1Params()},
     "params are given, but farneback has none: they are those of tvl1.")])
def test_options_are_refused_at_the_call(options, message):
    """Before the images are looked at, and before the iterator is asked for anything."""
    for call in (lambda: compute(1, 2, **options), lambda: pairs(None, **options), lambda: sequence(None, **options)):
        with pytest.raises(ParameterError) as error:
            call()
        assert str(error.value) == message


@pytest.mark.parametrize("value", [0, -1, 1.0, True, "2", None])
def test_threads_and_step_are_integers_from_1(value):
    with pytest.raises(ParameterError) as error:
        pairs([], threads=value)
    assert str(error.value) == f"threads is {value!r}: it must be an integer from 1."
    with pytest.raises(ParameterError) as error:
        sequence([], step=value)
    assert str(error.value) == f"step is {value!r}: it must be an integer from 1."


def test_numbers_of_numpy_are_integers_too(clip):
    expected = list(sequence(clip, step=2, method="dis"))
    found = list(sequence(clip, step=np.int64(2), threads=np.int32(2), method="dis"))
    np.testing.assert_array_equal(found, expected)


# Sequences and pairs on the CPU


def threads_of_ours():
    return [thread for thread in threading.enumerate() if thread.name.startswith("idt")]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_sequence_is_its_pairs_in_order(method, threads, clip):
    flows = list(sequence(clip, method=method, threads=threads))
    assert len(flows) == len(clip) - 1
    for n, flow in enumerate(flows):
        np.testing.assert_array_equal(flow, compute(clip[n], clip[n + 1], method=method))
    assert len({flow.tobytes() for flow in flows}) == len(flows)
    assert not threads_of_ours()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("step", [1, 2, 5, 7, 8, 9, 100])
def test_n_frames_give_n_minus_step_flows(step, threads, clip):
    flows = list(sequence(iter(clip), step=step, threads=threads))
    assert len(flows) == max(len(clip) - step, 0)
    for n, flow in enumerate(flows):
        np.testing.assert_array_equal(flow, compute(clip[n], clip[n + step]))


def test_few_frames_give_no_flow(clip):
    assert list(sequence([])) == []
    assert list(sequence(clip[:1])) == []
    assert list(pairs([])) == []
    assert list(pairs([], threads=2)) == []


def test_any_pairs_in_any_order(clip):
    numbers = [(0, 1), (1, 0), (3, 3), (0, 8), (8, 0), (0, 1)]
    for threads in (1, 2, 3):
        flows = list(pairs(((clip[a], clip[b]) for a, b in numbers), threads=threads))
        for (a, b), flow in zip(numbers, flows, strict=True):
            np.testing.assert_array_equal(flow, compute(clip[a], clip[b]))


def test_options_reach_every_pair(clip):
    params = TVL1Params(scales=2, warps=1, median=3)
    for flow, other in zip(sequence(clip, step=2, params=params, threads=2), sequence(clip, step=2), strict=True):
        assert np.abs(flow - other).max() > 1e-3
    (first, *_) = sequence(clip, step=2, params=params)
    np.testing.assert_array_equal(first, compute(clip[0], clip[2], params=params))


@pytest.mark.parametrize("threads", [1, 2])
def test_flows_have_memory_of_their_own(threads, clip):
    expected = [flow.copy() for flow in sequence(clip)]
    found = []
    for flow in sequence(clip, threads=threads):
        assert flow.flags.owndata
        assert not any(np.shares_memory(flow, other) for other in found)
        np.testing.assert_array_equal(flow, expected[len(found)])
        flow.fill(np.nan)
        found.append(flow)


class Counted:
    """Iterator that counts what was taken from it, and may fail at one place."""

    def __init__(self, items, *, fails_at=None):
        self.items, self.taken, self.fails_at = iter(items), 0, fails_at

    def __iter__(self):
        return self

    def __next__(self):
        if self.taken == self.fails_at:
            raise OSError("the camera is gone")
        item = next(self.items)
        self.taken += 1
        return item


@pytest.mark.parametrize("step", [1, 3])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_frames_are_taken_as_they_are_needed(threads, step):
    """For threads that work, and for one more, but never further ahead, however long the video."""
    images = Counted(np.random.default_rng(n).integers(0, 256, (16, 16), np.uint8) for n in itertools.count())
    flows = sequence(images, step=step, threads=threads)
    assert images.taken == 0
    for n in range(1, 12):
        next(flows)
        assert n + step <= images.taken <= n + step + (threads if threads > 1 else 0)
    flows.close()
    assert not threads_of_ours()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_generator_closed_early_leaves_no_threads(threads, clip):
    flows = sequence(clip, threads=threads)
    next(flows)
    assert len(threads_of_ours()) <= threads
    assert bool(threads_of_ours()) == (threads > 1)
    flows.close()
    assert not threads_of_ours()
    assert next(flows, None) is None
    forgotten = sequence(clip, threads=threads)
    next(forgotten)
    del forgotten
    assert not threads_of_ours()


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("place", [1, 2, 5, 8])
def test_an_error_of_the_frames_surfaces_after_the_flows_before_it(place, threads, clip):
    found = []
    with pytest.raises(OSError, match="the camera is gone"):
        found.extend(flow.copy() for flow in sequence(Counted(clip, fails_at=place), threads=threads))
    assert len(found) == place - 1
    for n, flow in enumerate(found):
        np.testing.assert_array_equal(flow, compute(clip[n], clip[n + 1]))
    assert not threads_of_ours()


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(("bad", "message"), [
    (np.zeros((32, 41), np.uint8), r"a has shape \(32, 40\) and b \(32, 41\): they must be of one size\."),
    (np.zeros((32, 40)), r"b has shape \(32, 40\) and type float64: it must be a grey image")])
def test_a_bad_frame_surfaces_after_the_flows_before_it(bad, message, threads, clip):
    found = []
    with pytest.raises(ParameterError, match=message):
        found.extend(sequence([*clip[:5], bad, *clip[5:]], threads=threads))
    assert len(found) == 4
    assert not threads_of_ours()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_an_error_of_the_method_surfaces_in_its_place(threads, clip, monkeypatch):
    solve = TVL1.solve

    def failing(self, a, b, *, out=None):
        if failing.broken == next(failing.calls):
            raise ZeroDivisionError("a defect")
        return solve(self, a, b, out=out)

    failing.calls, failing.broken = itertools.count(), 3
    monkeypatch.setattr(TVL1, "solve", failing)
    found = []
    with pytest.raises(ZeroDivisionError, match="a defect"):
        found.extend(sequence(clip, threads=threads))
    assert len(found) == 3 or threads > 1  # which thread draws the number is chance
    assert not threads_of_ours()


@pytest.mark.parametrize(("step", "prepared"), [(1, 9), (3, 9), (6, 6)])
def test_an_image_is_prepared_once(step, prepared, clip, monkeypatch):
    prepare, seen = TVL1.prepare, []

    def counting(self, grey, *, out=None):
        seen.append(grey.tobytes())
        return prepare(self, grey, out=out)

    monkeypatch.setattr(TVL1, "prepare", counting)
    assert len(list(sequence(clip, step=step))) == len(clip) - step
    assert len(seen) == len(set(seen)) == prepared


def test_images_that_are_dropped_are_not_mistaken_for_others():
    """Every picture is a new array; sooner or later one lies where another was."""
    def pictures():
        for n in range(60):
            yield np.random.default_rng(n).integers(0, 256, (16, 16), np.uint8)

    params = TVL1Params(scales=1, warps=1, iterations=3)
    flows = [flow.tobytes() for flow in sequence(pictures(), params=params)]
    for n, (a, b) in enumerate(itertools.pairwise(list(pictures()))):
        assert flows[n] == compute(a, b, params=params).tobytes()


def test_memory_does_not_grow_with_the_number_of_frames():
    """Pictures that were used are let go."""
    alive = set()

    class Picture(np.ndarray):
        def __del__(self):
            alive.discard(id(self))

    def pictures(count):
        for n in range(count):
            picture = np.random.default_rng(n).integers(0, 256, (16, 16), np.uint8).view(Picture)
            alive.add(id(picture))
            yield picture

    monitor = []
    for _ in pairs(((a, a) for a in pictures(60)), params=TVL1Params(scales=1, warps=1, iterations=2)):
        monitor.append(len(alive))
    assert max(monitor) <= 12
    assert len(monitor) == 60


# Devices


class FakeGPUs:
    """In place of `idt.flow._tvl1_cuda`: devices that solve no more than `most` pairs at a time.

    The flow of images of one grey value each is that value of the first, then of the second. `broken` has for each
    device that cannot be used the reason.
    """

    def __init__(self, monkeypatch, count, *, capacity=1000, most=1000, hook=None, broken=None):
        self.solved, self.refused, self.made, self.closed, self.uploaded = [], [], [], [], []
        self.broken = broken or {}
        gpus = self

        class Solver:
            def __init__(self, width, height, params, *, device=0):
                gpus.made.append((width, height, params, device))
                self.size, self.device, self.busy = (height, width), device, False

            def capacity(self, processes):
                return capacity // processes

            def close(self):
                assert not self.busy, "a solver is closed when it is idle"
                gpus.closed.append(self.device)

            def solve(self, images, numbers):
                assert not self.busy, "a solver serves one thread at a time"
                self.busy = True
                try:
                    if len(numbers) > most:
                        gpus.refused.append(len(numbers))
                        raise MemoryError(f"no room for {len(numbers)}")
                    if hook is not None:
                        hook(self, images, numbers)
                    gpus.solved.append((self.device, len(numbers)))
                    gpus.uploaded.append(len(images))
                    assert all(image.shape == self.size for image in images)
                    flows = np.zeros((len(numbers), *self.size, 2), np.float32)
                    for flow, places in zip(flows, numbers, strict=True):
                        flow[:] = [images[place][0, 0] for place in places]
                    return flows
                finally:
                    self.busy = False

        module = ModuleType("idt.flow._tvl1_cuda")
        module.Solver, module.devices, module.check = Solver, lambda: self.devices(), self.check
        self.count = count
        monkeypatch.setattr(devices, "_made", [])
        monkeypatch.setattr(devices, "_sharing", 1)
        monkeypatch.setattr(devices, "_BATCH", 64 * 4 * 6)  # of pixels: 64 pairs of the greys below
        devices._warn_once.cache_clear()
        monkeypatch.setitem(sys.modules, "idt.flow._tvl1_cuda", module)
        monkeypatch.setattr(idt.flow, "_tvl1_cuda", module, raising=False)

    def devices(self):
        if isinstance(self.count, Exception):
            raise self.count
        return self.count

    def check(self, number):
        if number in self.broken:
            raise DeviceError(self.broken[number])


def greys(count):
    return [np.full((4, 6), n % 256, np.uint8) for n in range(count)]


def assert_in_order(flows, count, step=1):
    assert len(flows) == count - step
    for n, flow in enumerate(flows):
        assert flow.shape == (4, 6, 2)
        assert flow.dtype == np.float32
        assert (flow == (n % 256, (n + step) % 256)).all()


@pytest.mark.parametrize(("device", "count", "expected"), [
    ("cpu", 0, ()), ("cpu", 2, ()), ("cuda", 1, (0,)), ("cuda", 3, (0,)), ("cuda:0", 1, (0,)), ("cuda:2", 3, (2,)),
    ("cuda:0,1", 2, (0, 1)), ("cuda:1,0", 2, (1, 0)), ("cuda:1,1", 2, (1,)), ("cuda:01", 2, (1,)),
    ("auto", 1, (0,)), ("auto", 3, (0, 1, 2)), ("auto", NoDeviceError("none"), ())])
def test_device_names(device, count, expected, monkeypatch):
    FakeGPUs(monkeypatch, count)
    assert gpus_of(device, "tvl1") == expected


@pytest.mark.parametrize(("device", "count", "expected"), [
    ("cpu", 2, ["cpu"] * 5), ("cuda", 2, ["cuda:0"] * 5), ("cuda:1", 2, ["cuda:1"] * 5),
    ("cuda", 1, ["cuda:0"] * 5), ("cuda:0,1", 2, ["cuda:0", "cuda:1", "cuda:0", "cuda:1", "cuda:0"]),
    ("cuda:3,1,2", 4, ["cuda:3", "cuda:1", "cuda:2", "cuda:3", "cuda:1"]),
    ("auto", 2, ["cuda:0", "cuda:1", "cuda:0", "cuda:1", "cuda:0"]), ("auto", 1, ["cuda:0"] * 5),
    ("auto", NoDeviceError("none"), ["auto"] * 5)])
def test_processes_take_gpus_in_turn(device, count, expected, monkeypatch):
    FakeGPUs(monkeypatch, count)
    assert [one_of(device, "tvl1", number) for number in range(5)] == expected


@pytest.mark.parametrize(("device", "cores", "expected"), [
    ("cpu", 8, None), ("cuda", 1, 1), ("cuda", 4, 4), ("cuda:1", 16, 6), ("cuda:0,2", 16, 12), ("auto", 1, 3),
    ("auto", 64, 18)])
def test_several_processes_feed_a_gpu(device, cores, expected, monkeypatch):
    FakeGPUs(monkeypatch, 3)
    assert processes_on(device, "tvl1", cores) == expected


@pytest.mark.parametrize(("device", "processes", "share"), [("cuda", 4, 4), ("cuda:0,1", 4, 2), ("cuda:0,1", 5, 3),
                                                            ("cuda", 1, 1)])
def test_processes_share_the_memory_of_a_gpu(device, processes, share, monkeypatch):
    """The memory holds 96 pairs, for two solvers of each process."""
    gpus = FakeGPUs(monkeypatch, 2, capacity=96)
    assert_in_order(list(sequence(greys(100), device=one_of(device, "tvl1", 0, processes))), 100)
    assert max(size for _, size in gpus.solved) == 96 // share // 2


@pytest.mark.parametrize(("width", "height", "pairs"), [
    (32, 32, 256), (160, 120, 256), (320, 240, 74), (640, 480, 18), (1920, 1080, 2), (3840, 2160, 1)])
def test_large_images_make_small_batches(width, height, pairs, monkeypatch):
    batch = devices._BATCH
    FakeGPUs(monkeypatch, 1)
    monkeypatch.setattr(devices, "_BATCH", batch)
    assert devices._Batches(width, height, PRESETS["opencv"], (0,)).size == pairs


def test_auto_leaves_out_what_cannot_be_used_and_says_why_once(monkeypatch, caplog, clip):
    FakeGPUs(monkeypatch, 3, broken={1: "The GPU cuda:1 cannot be used."})
    with caplog.at_level(logging.WARNING, "idt"):
        assert [gpus_of("auto", "tvl1") for _ in range(3)] == [(0, 2)] * 3
        assert settled("auto", "tvl1") == "cuda:0,2"
    assert [record.getMessage() for record in caplog.records] == [
        "device is auto, which does without a GPU: The GPU cuda:1 cannot be used."]
    with pytest.raises(DeviceError, match=r"^The GPU cuda:1 cannot be used\.$"):
        gpus_of("cuda:0,1", "tvl1")

    caplog.clear()
    FakeGPUs(monkeypatch, DeviceError("The driver does not start."))
    with caplog.at_level(logging.WARNING, "idt"):
        for _ in range(2):
            found = compute(clip[0], clip[1], device="auto")
    np.testing.assert_array_equal(found, compute(clip[0], clip[1]))
    assert [record.getMessage() for record in caplog.records] == [
        "device is auto, which does without a GPU: The driver does not start."]


def test_where_there_is_no_gpu_auto_is_silent(monkeypatch, caplog):
    FakeGPUs(monkeypatch, NoDeviceError("No CUDA device."))
    with caplog.at_level(logging.WARNING, "idt"):
        assert [settled(device, method) for device, method in (
            ("auto", "tvl1"), ("auto", "dis"), ("cpu", "tvl1"), ("cuda:3", "tvl1"))] == ["cpu", "cpu", "cpu", "cuda:3"]
    assert not caplog.records


@pytest.mark.parametrize("device", ["", "gpu", "CPU", "cuda:", "cuda:a", "cuda:-1", "cuda:0,", "cuda:,0", "cuda:0;1",
                                    "cuda 0", "cuda:0\n", " cpu", "cpu:0", None, 0, ["cuda"]])
def test_devices_that_are_none(device, monkeypatch):
    FakeGPUs(monkeypatch, 2)
    for method in ("tvl1", "dis"):
        with pytest.raises(ParameterError) as error:
            compute(1, 2, device=device, method=method)
        assert str(error.value) == (f"device is {device!r}: allowed are cpu, auto, cuda, cuda:1 (one GPU by its "
                                    "number), cuda:0,1 (several).")


@pytest.mark.parametrize(("device", "count", "message"), [
    ("cuda:1", 1, "device is 'cuda:1', but there is 1 GPU, numbered from 0: use cuda:0."),
    ("cuda:2", 2, "device is 'cuda:2', but there are 2 GPUs, numbered from 0: use cuda:0 to cuda:1."),
    ("cuda:0,1,9", 4, "device is 'cuda:0,1,9', but there are 4 GPUs, numbered from 0: use cuda:0 to cuda:3."),
    ("cuda", DeviceError("No CUDA device: no driver."), "No CUDA device: no driver."),
    ("cuda:0,1", DeviceError("No CUDA device: no driver."), "No CUDA device: no driver.")])
def test_gpus_that_are_not_there(device, count, message, monkeypatch):
    FakeGPUs(monkeypatch, count)
    for call in (lambda: compute(1, 2, device=device), lambda: pairs(None, device=device),
                 lambda: sequence(None, device=device)):
        with pytest.raises(DeviceError) as error:
            call()
        assert str(error.value) == message


@pytest.mark.parametrize("method", ["farneback", "dis", "deepflow"])
def test_other_methods_run_on_the_cpu_alone(method, monkeypatch, clip):
    gpus = FakeGPUs(monkeypatch, 2)
    with pytest.raises(ParameterError) as error:
        compute(1, 2, method=method, device="cuda:1")
    assert str(error.value) == f"device is 'cuda:1', but {method} runs on the CPU alone: use device cpu, or tvl1."
    found = compute(clip[0], clip[1], method=method, device="auto")
    np.testing.assert_array_equal(found, compute(clip[0], clip[1], method=method))
    assert not gpus.made


def without_numba_cuda(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba_cuda", None)
    monkeypatch.delitem(sys.modules, "idt.flow._tvl1_cuda", raising=False)
    monkeypatch.delattr(idt.flow, "_tvl1_cuda", raising=False)


def test_without_numba_cuda(monkeypatch, clip):
    """The message says which extra to install; `auto` takes the CPU; and the CPU does not mind."""
    without_numba_cuda(monkeypatch)
    for device in ("cuda", "cuda:1", "cuda:0,1"):
        with pytest.raises(DeviceError, match=r'needs the package numba-cuda, .*: pip install "densetraj\[gpu\]"'):
            compute(clip[0], clip[1], device=device)
    expected = compute(clip[0], clip[1], device="cpu")
    np.testing.assert_array_equal(compute(clip[0], clip[1], device="auto"), expected)
    assert "idt.flow._tvl1_cuda" not in sys.modules


def test_without_a_gpu_auto_is_the_cpu(monkeypatch, clip):
    FakeGPUs(monkeypatch, NoDeviceError("No CUDA device."))
    found = list(sequence(clip, device="auto", threads=2))
    for flow, expected in zip(found, sequence(clip), strict=True):
        np.testing.assert_array_equal(flow, expected)


def test_the_cpu_never_looks_for_a_gpu(monkeypatch, clip):
    FakeGPUs(monkeypatch, AssertionError("looked for a GPU"))
    assert compute(clip[0], clip[1]).shape == (32, 40, 2)
    assert compute(clip[0], clip[1], device="auto", method="farneback").shape == (32, 40, 2)


@pytest.mark.parametrize(("capacity", "largest"), [(1000, 64), (128, 64), (20, 10), (3, 1), (1, 1), (0, 1)])
def test_batches_fit_half_the_memory_and_are_64_pairs_at_most(capacity, largest, monkeypatch):
    """Half of it, as two solvers share a GPU; an image of several pairs is given once to each batch."""
    gpus = FakeGPUs(monkeypatch, 1, capacity=capacity)
    assert_in_order(list(sequence(greys(150), device="cuda", params="accurate")), 150)
    assert gpus.made == [(6, 4, PRESETS["accurate"], 0)] * 2
    assert max(size for _, size in gpus.solved) == largest
    assert sum(size for _, size in gpus.solved) == 149
    assert sorted(gpus.uploaded) == sorted(size + 1 for _, size in gpus.solved)


@pytest.mark.parametrize("step", [1, 2, 70])
@pytest.mark.parametrize("device", ["cuda", "cuda:1", "cuda:0,1", "cuda:2,0,1", "auto"])
def test_batches_of_several_gpus_come_in_order(device, step, monkeypatch):
    """The first batches end last: each waits until another one has ended."""
    ended, first = threading.Event(), threading.Lock()

    def hook(solver, images, numbers):
        if first.acquire(blocking=False):
            assert ended.wait(PATIENCE_S)
        else:
            ended.set()

    gpus = FakeGPUs(monkeypatch, 3, capacity=14, hook=hook)
    assert_in_order(list(sequence(greys(200), step=step, device=device)), 200, step)
    assert {made[3] for made in gpus.made} == {"cuda": {0}, "cuda:1": {1}, "cuda:0,1": {0, 1}}.get(device, {0, 1, 2})
    assert len(gpus.made) == 2 * len({made[3] for made in gpus.made})
    assert {device for device, _ in gpus.solved} <= {made[3] for made in gpus.made}
    assert not threads_of_ours()


def test_frames_for_a_gpu_are_taken_a_few_batches_ahead(monkeypatch):
    FakeGPUs(monkeypatch, 1, capacity=20)
    images = Counted(itertools.cycle(greys(250)))
    flows = sequence(images, device="cuda")
    assert images.taken == 0
    for n in range(1, 95):
        next(flows)
        assert n < images.taken <= n + 1 + 4 * 10
    flows.close()
    assert not threads_of_ours()


@pytest.mark.parametrize(("most", "left"), [(40, 32), (32, 32), (20, 16), (1, 1)])
@pytest.mark.parametrize("device", ["cuda", "cuda:0,1"])
def test_a_batch_that_does_not_fit_is_halved_and_said_once(device, most, left, monkeypatch, caplog):
    gpus = FakeGPUs(monkeypatch, 2, most=most)
    with caplog.at_level(logging.WARNING, "idt"):
        assert_in_order(list(sequence(greys(700), device=device)), 700)
    assert [record.getMessage() for record in caplog.records] == [
        "The memory of the GPU does not hold 64 pairs of 6x4 pixels at once: going on with fewer."]
    assert max(size for _, size in gpus.solved) == left
    # batches that were under way when the first was refused, and no others
    assert gpus.refused.count(64) <= (3 if device == "cuda" else 5) + 1


def test_a_single_pair_that_does_not_fit(monkeypatch, caplog):
    FakeGPUs(monkeypatch, 1, most=0)
    with pytest.raises(DeviceError) as error:
        compute(*greys(2), device="cuda")
    assert str(error.value) == ("The memory of the GPU does not hold one pair of 6x4 pixels: use device cpu, smaller "
                                "images (short_side), or fewer processes on each GPU (jobs).")
    assert not caplog.records
    with pytest.raises(DeviceError, match="does not hold one pair of 6x4 pixels"):
        list(sequence(greys(100), device="cuda"))
    assert not threads_of_ours()


def test_any_other_error_of_a_gpu_surfaces_and_earlier_flows_are_delivered(monkeypatch):
    def hook(solver, images, numbers):
        if any(image[0, 0] == 25 for image in images):
            raise RuntimeError("an illegal address")

    FakeGPUs(monkeypatch, 1, capacity=20, hook=hook)
    found = []
    with pytest.raises(RuntimeError, match="an illegal address"):
        found.extend(sequence(greys(100), device="cuda"))
    assert_in_order(found, 21)  # whole batches of 10 before the one with picture 25
    assert not threads_of_ours()


@pytest.mark.parametrize("place", [1, 2, 10, 11, 12, 35])
@pytest.mark.parametrize("device", ["cuda", "cuda:0,1"])
def test_an_error_of_the_frames_surfaces_after_the_flows_of_the_gpu(device, place, monkeypatch):
    FakeGPUs(monkeypatch, 2, capacity=20)
    found = []
    with pytest.raises(OSError, match="the camera is gone"):
        found.extend(sequence(Counted(greys(50), fails_at=place), device=device))
    assert_in_order(found, place)
    assert not threads_of_ours()


def test_solvers_are_kept_for_images_of_the_same_size(monkeypatch):
    """Those of other sizes or parameters are closed before new ones are made, but not those in use."""
    gpus = FakeGPUs(monkeypatch, 2)
    for _ in range(3):
        assert_in_order(list(sequence(greys(100), device="cuda:0,1")), 100)
    assert [made[3] for made in gpus.made] == [0, 1] * 2
    assert gpus.closed == []

    running = sequence(greys(10), device="cuda:0,1")
    next(running)
    list(sequence(greys(3), device="cuda:1"))
    assert (len(gpus.made), gpus.closed) == (6, [])
    list(sequence(greys(3), device="cuda:1", params="accurate"))
    assert (len(gpus.made), gpus.closed) == (8, [1, 1])
    running.close()
    devices.release_gpus()
    assert sorted(gpus.closed) == [0, 0] + [1] * 6
    assert_in_order(list(sequence(greys(100), device="cuda:1")), 100)
    assert len(gpus.made) == 10


def test_kernels_are_compiled_on_each_gpu(monkeypatch):
    gpus = FakeGPUs(monkeypatch, 3)
    devices.compile_on((0, 2), PRESETS["accurate"])
    assert gpus.solved == [(0, 1), (2, 1)]
    assert sorted(gpus.closed) == [0, 0, 2, 2]
    assert {made[2] for made in gpus.made} == {PRESETS["accurate"]}


def test_a_lone_pair_may_have_the_memory_of_all_solvers(monkeypatch, caplog):
    """The memory holds one pair; a solver that finds none waits until the other is idle, and has it close."""
    holding, refused = set(), threading.Event()

    def hook(solver, images, numbers):
        if holding - {solver}:
            refused.set()
            raise MemoryError("no room while the other solver has it")
        holding.add(solver)
        assert refused.wait(20)

    gpus = FakeGPUs(monkeypatch, 1, capacity=2, hook=hook)
    close = sys.modules["idt.flow._tvl1_cuda"].Solver.close
    monkeypatch.setattr(sys.modules["idt.flow._tvl1_cuda"].Solver, "close",
                        lambda solver: (holding.discard(solver), close(solver)))
    assert_in_order(list(sequence(greys(20), device="cuda")), 20)
    assert gpus.closed
    assert not caplog.records
    assert not threads_of_ours()


def test_no_pairs_for_a_gpu(monkeypatch):
    gpus = FakeGPUs(monkeypatch, 1)
    assert list(pairs([], device="cuda")) == []
    assert list(sequence(greys(1), device="cuda")) == []
    assert not gpus.made


def test_images_for_a_gpu_are_checked_too(monkeypatch):
    FakeGPUs(monkeypatch, 1)
    with pytest.raises(ParameterError, match=r"b has shape \(4, 6\) and type float64"):
        compute(greys(1)[0], np.zeros((4, 6)), device="cuda")


def test_frames_may_come_in_one_buffer():
    video = synthetic.pan((1.5, -0.75), frames=4).frames

    def one_buffer():
        buffer = np.empty_like(video[0])
        for frame in video:
            buffer[:] = frame
            yield buffer

    for found, expected in zip(sequence(one_buffer(), method="dis"), sequence(video, method="dis"), strict=True):
        np.testing.assert_array_equal(found, expected)
        assert np.abs(found).max() > 1
