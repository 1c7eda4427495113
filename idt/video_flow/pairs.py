"""The optical flow of a video: its pairs of frames in order, and the flow of each."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any, get_args

import cv2
import numpy as np
import numpy.typing as npt

from idt import flow
from idt._util.checks import checked_integer
from idt._util.kernels import is_cached
from idt._util.threads import OneOpenCVThread, ahead, mapped
from idt.flow.pyramid import scale_factors
from idt.params import Params
from idt.trajectories import camera, sampling
from idt.video import Frame, FrameReader, Source, frames
from idt.video_flow.params import FlowParams, Preset

ByteArray = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]

_AHEAD = 8  # frames that are decoded ahead of the solver at most
_CAMERA = Params()  # the homography is estimated as `idt extract` does it


@dataclass(frozen=True, eq=False)
class Pair:
    """Two frames of a video and the flow between them.

    Attributes
    ----------
    number : int
        Of the pair, from 0.
    first, second : Frame
        The earlier and the later one, with their indices and times in the video; in colour (`bgr`) where the
        parameters ask for frames or differences.
    flow : ndarray, shape (H, W, 2), float32, or None
        Pixels, x then y: what is at p in the earlier frame is at ``p + flow`` in the later. None when only the backward
        flow is asked for.
    backward : ndarray, shape (H, W, 2), float32, or None
        The same from the later frame to the earlier.
    homography : ndarray, shape (3, 3), float64, or None
        Camera motion that was taken out: maps pixels of the earlier frame to the later. None when `warped` is off or no
        homography was found; the flow is then that between the frames as they are.
    """

    number: int
    first: Frame
    second: Frame
    flow: FloatArray | None
    backward: FloatArray | None
    homography: npt.NDArray[np.float64] | None


def video_flow(source: Source, params: FlowParams | None = None, *, device: str = "cpu", threads: int = 1
               ) -> Iterator[Pair]:
    """Return an iterator over the pairs of frames of a video and their flow, in order; its memory stays flat.

    Parameters
    ----------
    source : path or ndarray
        Video file, folder or glob of images, or array of shape (T, H, W) or (T, H, W, 3), uint8, RGB.
    params : FlowParams, optional
        The fields about files and pictures have no effect here, but with `stack` only pairs that are part of one are
        solved.
    device : str
        As for `idt.flow.pairs`.
    threads : int
        Pairs that are solved at a time on a CPU; from 2 on, decoding has a thread of its own. The result is the same.

    Returns
    -------
    iterator of Pair
        n frames give n - step pairs (with `every`, that many times fewer, rounded up).

    Raises
    ------
    VideoError
        The video cannot be read or changes its size.
    ParameterError
        A parameter is not allowed, or the method cannot solve frames of that size.
    DeviceError
        There is no such device.
    """
    params = params or FlowParams()
    threads = checked_integer("threads", threads)
    return _video_flow(source, params, device, threads)


def difference(first: ByteArray, second: ByteArray) -> ByteArray:
    """Return the difference of two images in 8 bits, the input of the third stream of TSN (ECCV 2016).

    Parameters
    ----------
    first, second : ndarray, the same shape, uint8

    Returns
    -------
    ndarray, the same shape, uint8
        (second - first) / 2 + 128, rounded down: no change is 128, and ``2 (value - 128)`` is the difference or 1 less.
    """
    halved: ByteArray = ((second.astype(np.int16) - first + 256) >> 1).astype(np.uint8)
    return halved


def kernels_cached(params: FlowParams, device: str = "cpu") -> bool:
    """Tell whether the processor's kernels for the flow are in Numba's cache, compiled from the present source."""
    from idt.flow.devices import gpus_of

    used: list[Any] = []
    if params.method == "tvl1" and not gpus_of(device, params.method):
        from idt.flow import _tvl1_cpu

        used += [_tvl1_cpu._linearise, _tvl1_cpu._relax]
    if params.method == "farneback" or params.warped:
        from idt.flow import _farneback_cpu

        used.append(_farneback_cpu.solve_level)
    if params.warped:
        used += [sampling._min_eigenvalues, camera._peaks, camera._homography, camera._warp]
    return all(is_cached(kernel) for kernel in used)


def compile_kernels() -> None:
    """Compile all kernels of the flow of videos and store them in the cache, so that no later run has to."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    frame = cv2.resize(noise, (128, 128), interpolation=cv2.INTER_LINEAR)
    video = np.stack([frame, np.roll(frame, (1, 2), (0, 1))])
    for preset in get_args(Preset):
        deque(video_flow(video, FlowParams(preset=preset, warped=True)), maxlen=0)


def opened(source: Source, params: FlowParams, threads: int) -> FrameReader:
    """Open a video for the frames that its flow needs."""
    return frames(source, start=params.start, end=params.end, short_side=params.short_side,
                  colour=params.rgb or params.difference, threads=threads)


def _video_flow(source: Source, params: FlowParams, device: str, threads: int) -> Generator[Pair, None, None]:
    with (OneOpenCVThread(), opened(source, params, threads) as reader,
          contextlib.closing(Run(params, device, threads).pairs(reader)) as pairs):
        yield from pairs


@dataclass(frozen=True, eq=False)
class _Task:
    """Two frames whose flow is wanted, and the images that it is solved between."""

    first: Frame
    second: Frame
    forward: tuple[ByteArray, ByteArray]
    backward: tuple[ByteArray, ByteArray]
    homography: npt.NDArray[np.float64] | None = None


class Run:
    """One pass over a video."""

    def __init__(self, params: FlowParams, device: str, threads: int, *, keep_images: bool = False) -> None:
        self.params = params
        self.keep_images = keep_images
        self.stabilised = 0  # pairs from which camera motion was taken out
        self.images: deque[tuple[int, Frame]] = deque()  # with their numbers, for whoever writes them to take out
        self._device = device
        self._threads = threads
        self._waiting: deque[_Task] = deque()  # given to the solver, whose flows come in the same order
        self._farneback: Any = None

    def pairs(self, items: Iterator[Frame]) -> Generator[Pair, None, None]:
        """Yield the pairs of the frames."""
        p = self.params
        with contextlib.ExitStack() as closing:
            tasks: Generator[_Task, None, None] = self._tasks(items)
            if self._threads > 1:
                tasks = closing.enter_context(contextlib.closing(ahead(tasks, _AHEAD)))
            if p.warped:
                tasks = closing.enter_context(contextlib.closing(mapped(self._without_camera, tasks, self._threads)))
            flows = flow.pairs(self._images(tasks), method=p.method, device=self._device, params=p.solver,
                               threads=self._threads)
            if isinstance(flows, Generator):
                closing.enter_context(contextlib.closing(flows))
            each = 2 if p.direction == "both" else 1
            for number, solved in enumerate(iter(lambda: tuple(itertools.islice(flows, each)), ())):
                task = self._waiting.popleft()
                self.stabilised += task.homography is not None
                yield Pair(number, task.first, task.second, None if p.direction == "backward" else solved[0],
                           None if p.direction == "forward" else solved[-1], task.homography)
            deque(tasks, maxlen=0)  # nothing is left, or the count of frames would not be that of the video

    def _tasks(self, items: Iterator[Frame]) -> Generator[_Task, None, None]:
        p = self.params
        window: deque[Frame] = deque(maxlen=p.step + 1)
        for n, frame in enumerate(items):
            # One type of array, so that kernels compile once.
            frame = dataclasses.replace(frame, grey=np.require(frame.grey, requirements=("C", "W")))
            if self.keep_images and n % p.every == 0:
                self.images.append((n // p.every, frame))
            window.append(frame)
            if len(window) > p.step and (n - p.step) % p.every < (p.stack or 1):
                a, b = window[0].grey, frame.grey
                yield _Task(window[0], frame, (a, b), (b, a))

    def _without_camera(self, task: _Task) -> _Task:
        """Return the task with the later frame seen from the earlier camera, or for the backward flow the reverse."""
        a, b = task.first.grey, task.second.grey
        height, width = a.shape
        if self._farneback is None:
            factors = scale_factors(width, height, shortest=_CAMERA.patch, count=_CAMERA.scales)
            self._farneback = flow.method_for("farneback")(width, height, factors=factors)
        solver = self._farneback
        corners = camera.good_features(sampling.min_eigenvalues(a), count=_CAMERA.corners, quality=_CAMERA.quality,
                                       distance=_CAMERA.corner_distance)
        h = camera.homography(*camera.flow_matches(corners, solver.solve(solver.prepare(a), solver.prepare(b))[0]),
                              _CAMERA)
        if h is None:
            return task
        forward = backward = (a, b)
        if self.params.direction != "backward":
            forward = a, camera.warp(a, b, h)
        if self.params.direction != "forward":
            backward = b, camera.warp(b, a, np.linalg.inv(h).astype(np.float64, copy=False))
        return _Task(task.first, task.second, forward, backward, h)

    def _images(self, tasks: Iterator[_Task]) -> Generator[tuple[ByteArray, ByteArray], None, None]:
        for task in tasks:
            self._waiting.append(task)
            if self.params.direction != "backward":
                yield task.forward
            if self.params.direction != "forward":
                yield task.backward
