"""The optical flow of a video: pairs of frames in order, and the files that two-stream networks are trained on.

Decoding, solving and encoding overlap when there are several threads; the files are the same whatever their number.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import itertools
import json
import logging
import os
import re
import threading
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self, get_args

import cv2
import numpy as np
import numpy.typing as npt

from idt import __version__, camera, flow, sampling
from idt.errors import IdtError, OutputError, ParameterError
from idt.flow import files
from idt.flow.pyramid import scale_factors
from idt.flow.threads import OneOpenCVThread, ahead, checked_count, end_of, mapped
from idt.flow.tvl1 import PRESETS, TVL1Params
from idt.keys import key
from idt.output import replacing, replacing_folder
from idt.params import Parameters, Params, choice, number, parameters_table
from idt.video import Frame, FrameReader, Source, frames, frames_were, identity, span_length
from idt.view import flow_colours

Array = npt.NDArray[Any]
ByteArray = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]
FilePath = str | os.PathLike[str]

Method = Literal["tvl1", "farneback", "dis", "deepflow"]
Preset = Literal["opencv", "accurate"]
Direction = Literal["forward", "backward", "both"]
Format = Literal["jpg", "png", "kitti", "flo", "npz", "h5"]
Naming = Literal["dense_flow", "denseflow"]

ALGORITHM = 1
"""Version of the method: raised when the same video and parameters come to give other numbers."""

ARRAY_FORMATS = ("npz", "h5")
"""Formats that make one file of a video; the others make a folder."""

_AHEAD = 8  # frames that are decoded ahead of the solver at most
_FULL_COLOUR = 1 / 48  # of the shorter side is the motion with the full colour; fixed, so that pictures do not flicker
_FILE = re.compile(rf"meta\.json|({'|'.join((*files.FLOWS.values(), *files.PICTURES.values()))})(_[xy])?_[0-9]+"
                   r"\.(jpg|png|flo)")
_CAMERA = Params()  # the homography is estimated as `idt extract` does it
_TVL1 = {f.name: f.name.rstrip("_") for f in dataclasses.fields(TVL1Params)}
_TSN, _OURS = "TSN (ECCV 2016)", "this package"

_log = logging.getLogger("idt")


@dataclass(frozen=True, kw_only=True)
class FlowParams(Parameters):
    """Which flow of a video is computed and how it is stored; a value that is not allowed raises `ParameterError`.

    The n-th frame that is processed counts from 0 at `start`. Pair k is made of the frames ``k every`` and
    ``k every + step``, as far as there are frames. Lengths in pixels are those of the processed frame, after
    `short_side`.

    Attributes
    ----------
    tvl1 : TVL1Params, optional
        The numbers of the method tvl1; default: those of the preset. A dict changes single numbers of the preset.
    """

    method: Method = choice("tvl1", "optical flow method", source=_OURS)
    preset: Preset = choice("opencv", "numbers of tvl1: those of OpenCV's CUDA program, on whose flow most published "
                            "models were trained, or those with the smallest error", source=_OURS)
    step: int = number(1, "flow from each frame to the one this much later", unit="frames", low=1, high=1_000_000,
                       source="dense_flow")
    every: int = number(1, "only every n-th pair of frames; of stacks, the distance of their first pairs",
                        unit="frames", low=1, high=1_000_000, source=_OURS)
    direction: Direction = choice("forward", "flow from the earlier frame to the later, from the later to the earlier, "
                                  "or both", source=_OURS)
    start: int = number(0, "first frame that is processed", unit="frame index", low=0, high=2**31 - 1, source=_OURS)
    end: int | None = number(None, "last frame that is processed (inclusive); none: the last of the video",
                             unit="frame index", low=0, high=2**31 - 1, source=_OURS)
    short_side: int | None = number(None, "resize frames so that their shorter side has this length, enlarging them "
                                    "too; none: as they are", unit="px", low=16, high=8192, source=_OURS)
    warped: bool = choice(False, "flow without camera motion, instead: the later frame is first warped by the "
                          "homography between the two (files warp_*)", source=_TSN)
    rgb: bool = choice(False, "also write the frames (files img_*)", source=_TSN)
    difference: bool = choice(False, "also write the RGB difference of the two frames of a pair, (later - earlier) / 2 "
                              "+ 128 (files diff_*)", source=_TSN)
    colours: bool = choice(False, "also write pictures of the flow to look at: hue is the direction, strength the "
                           "speed (files colour_*)", source="Baker et al. (IJCV 2011)")
    format: Format = choice("jpg", "files of the flow: jpg and png are 8-bit images of x and y, kitti 16-bit png, flo "
                            "float32, npz and h5 one file of float16 arrays", source=_OURS)
    quality: int = number(95, "quality of jpg", low=1, high=100, source="dense_flow")
    bound: float = number(20.0, "8-bit images hold flow from -bound to bound; what is beyond is clipped", unit="px",
                          above=0.0, high=1e6, source="dense_flow")
    naming: Naming = choice("dense_flow", "file names count from 1 (dense_flow) or from 0 (denseflow)",
                            source="the programs of these names")
    stack: int | None = number(None, "instead of flows, arrays of this many consecutive ones, x y x y ...; only npz "
                               "and h5", unit="flows", low=1, high=1000, source="two-stream (NIPS 2014)")
    tvl1: TVL1Params | None = field(default=None, metadata={})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.end is not None and self.end < self.start:
            raise ParameterError(f"end is {self.end}: it must not lie before start ({self.start}).")
        if self.stack is not None and self.format not in ARRAY_FORMATS:
            raise ParameterError(f"stack is {self.stack}, but format is {self.format}: stacks are arrays, format npz "
                                 "or h5.")
        given: Any = self.tvl1
        if isinstance(given, Mapping):
            changes = {"lambda_" if name == "lambda" else name: value for name, value in given.items()}
            for name in changes:
                if name not in _TVL1:
                    raise ParameterError(f"{name} is not a number of tvl1: these are {', '.join(_TVL1.values())}.")
            object.__setattr__(self, "tvl1", dataclasses.replace(PRESETS[self.preset], **changes))
        elif not isinstance(given, TVL1Params | None):
            raise ParameterError(f"tvl1 is {given!r}: it must be a TVL1Params or a dict of its numbers.")
        if self.method != "tvl1" and (self.preset != "opencv" or self.tvl1 is not None):
            what = "a preset is" if self.preset != "opencv" else "numbers of tvl1 are"
            raise ParameterError(f"method is {self.method}, but {what} given, which only tvl1 has: leave one of the "
                                 "two out.")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return parameters with the given fields set; an unknown name raises `ParameterError`."""
        for name in values:
            if name in _TVL1 or name in _TVL1.values():
                raise ParameterError(f"{name} is a number of tvl1: it stands in a section [tvl1] of the file, or in a "
                                     "dict under the name tvl1.")
        return super().from_dict(values)

    @property
    def solver(self) -> TVL1Params | None:
        """The numbers of the method tvl1; None for another method."""
        return (self.tvl1 or PRESETS[self.preset]) if self.method == "tvl1" else None

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of flows or stacks that are stored, as `idt.flow.files` names them, forward before backward."""
        kind = "warped" if self.warped else "flow"
        if self.stack is not None:
            kind = "stack_warped" if self.warped else "stack"
        return {"forward": (kind,), "backward": (f"{kind}_backward",), "both": (kind, f"{kind}_backward")}[
            self.direction]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dict of JSON types; `tvl1` holds all numbers of that method, or None for another."""
        return {**super().to_dict(), "tvl1": None if self.solver is None else self.solver.to_dict()}


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
    threads = checked_count("threads", threads)
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


def write_flow(source: Source, path: FilePath, params: FlowParams | None = None, *, device: str = "cpu",
               threads: int = 1, progress: Callable[[int, int | None], None] | None = None) -> dict[str, Any]:
    """Write the flow of a video to files and return their meta; `idt.flow.files.open_flows` reads them.

    Parameters
    ----------
    source, device
        As for `video_flow`.
    path : path
        The folder (formats jpg, png, kitti, flo) or file (npz, h5). It appears whole or not at all. What an earlier
        call wrote there is replaced when the new is complete; any other folder is left alone.
    params : FlowParams, optional
    threads : int
        Threads that solve, and as many that encode; 1 does everything one after the other. The files are the same.
    progress : callable, optional
        Called after each pair with the number of pairs done and the number that the video promises, or None.

    Returns
    -------
    dict
        What ``meta.json`` in the folder, or ``meta`` in the file, holds; ``docs/command-line.md`` lists it.

    Raises
    ------
    VideoError, ParameterError, DeviceError
        As for `video_flow`.
    OutputError
        The files cannot be written, or their number is not what the frames of the video give.
    """
    params = params or FlowParams()
    threads = checked_count("threads", threads)
    who = identity(source)
    with OneOpenCVThread(), _opened(source, params, threads) as reader:
        first = next(reader, None)  # a video that cannot be read makes no folder
        size = _size(source, params) if first is None else first.grey.shape
        run = _Run(params, device, threads, keep_images=params.rgb)
        items = itertools.chain(() if first is None else (first,), reader)
        with (replacing(path) if params.format in ARRAY_FORMATS else replacing_folder(path, made_here)) as place:
            where = place if isinstance(place, Path) else place.name
            with files.open_writer(where, format=params.format, height=size[0], width=size[1], bound=params.bound,
                                   quality=params.quality, naming=params.naming) as writer:
                counts = _add_all(run, items, reader, writer, threads, progress)
                meta = _meta(run, reader, who)
                if counts != (expected := _expected(params, meta["frames"])):
                    raise OutputError(f"{os.fspath(path)} was not written: {meta['frames']} frames must give "
                                      f"{expected}, but {counts} came out; please report this.")
                writer.close(meta)
            if isinstance(place, Path):
                files.open_flows(place).close()  # which counts the files
    with files.open_flows(path) as flows:
        meta = flows.meta
    if reader.damaged:
        count = frames_were(reader.damaged, "damaged ")
        _log.warning("%s: %s concealed or skipped by the decoder.", who["name"], count)
    return meta


def read_meta(path: FilePath) -> dict[str, Any] | None:
    """Return the meta of the flow of a video that `write_flow` wrote, or None when it is missing or incomplete."""
    try:
        with files.open_flows(path) as flows:  # which counts the files of a folder
            meta = flows.meta
        # A power failure may leave empty files, whose names come to disk before their content.
        whole = not Path(path).is_dir() or all(file.stat().st_size for file in Path(path).iterdir())
    except (IdtError, OSError):
        return None
    return meta if whole else None


def made_here(folder: Path) -> bool:
    """Tell whether all that lies in a folder is of `write_flow`, complete or not."""
    try:
        meta = (folder / "meta.json").read_bytes().strip(b"\0")  # nothing is left of it after a power failure, perhaps
        return (not meta or json.loads(meta)["kind"] == "flow") and all(map(_FILE.fullmatch, os.listdir(folder)))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def flow_key(video: str, params: FlowParams) -> str:
    """Return what identifies the flow of a video whose content has the SHA-256 `video`: the same key, the same files.

    The device does not count: flow from a GPU is as good as flow from a processor.
    """
    return key(video, params, {}, algorithm=ALGORITHM, format=files.FORMAT)


def check_usable(params: FlowParams, device: str) -> None:
    """Raise `DeviceError` or `ParameterError` when flow cannot be solved so on that device, or not be stored."""
    deque(flow.pairs((), method=params.method, device=device, params=params.solver), maxlen=0)
    if params.format == "h5" and importlib.util.find_spec("h5py") is None:
        raise ParameterError("format is h5, which needs h5py, but that is not installed: pip install densetraj[h5].")


def kernels_cached(params: FlowParams, device: str = "cpu") -> bool:
    """Tell whether the processor's kernels for the flow are in Numba's cache, compiled from the present source."""
    from idt._util.kernels import is_cached
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


def _opened(source: Source, params: FlowParams, threads: int) -> FrameReader:
    return frames(source, start=params.start, end=params.end, short_side=params.short_side,
                  colour=params.rgb or params.difference, threads=threads)


def _size(source: Source, params: FlowParams) -> tuple[int, int]:
    """Return height and width of the frames of a video that ends before the first that is to be processed."""
    with frames(source, end=0, short_side=params.short_side) as reader:
        height, width = next(reader).grey.shape
    return height, width


def _video_flow(source: Source, params: FlowParams, device: str, threads: int) -> Generator[Pair, None, None]:
    with (OneOpenCVThread(), _opened(source, params, threads) as reader,
          contextlib.closing(_Run(params, device, threads).pairs(reader)) as pairs):
        yield from pairs


@dataclass(frozen=True, eq=False)
class _Task:
    """Two frames whose flow is wanted, and the images that it is solved between."""

    first: Frame
    second: Frame
    forward: tuple[ByteArray, ByteArray]
    backward: tuple[ByteArray, ByteArray]
    homography: npt.NDArray[np.float64] | None = None


class _Run:
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


class _Adder:
    """Hands arrays to a writer: in threads when there are several, as many as the format bears."""

    def __init__(self, writer: files.Writer, params: FlowParams, threads: int) -> None:
        self.counts: Counter[str] = Counter()
        self._writer = writer
        workers = 0 if threads == 1 else 1 if params.format in ARRAY_FORMATS else threads
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="idt") if workers else None
        self._room = threading.Semaphore(4 * workers)
        self._error: Exception | None = None

    def add(self, kind: str, number: int, make: Callable[[], Array]) -> None:
        """Write what `make` makes, before long; an error may come with a later call."""
        if self._error is not None:
            raise self._error
        self.counts[kind] += 1
        if self._pool is None:
            self._writer.add(kind, number, make())
        else:
            self._room.acquire()
            self._pool.submit(self._work, kind, number, make)

    def _work(self, kind: str, number: int, make: Callable[[], Array]) -> None:
        try:
            if self._error is None:
                self._writer.add(kind, number, make())
        except Exception as error:
            self._error = error
        finally:
            self._room.release()

    def finish(self) -> None:
        """Wait until everything is written."""
        if self._pool is not None:
            self._pool.shutdown(wait=True)
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Let the threads end, whatever is left to write."""
        if self._pool is not None:
            end_of(self._pool)


def _add_all(run: _Run, items: Iterator[Frame], reader: FrameReader, writer: files.Writer, threads: int,
             progress: Callable[[int, int | None], None] | None) -> dict[str, int]:
    """Write all arrays of a video and return how many there were of each kind."""
    p = run.params
    with contextlib.closing(_Adder(writer, p, threads)) as adder:
        windows: dict[str, deque[FloatArray]] = {kind: deque(maxlen=p.stack) for kind in p.kinds}
        with contextlib.closing(run.pairs(items)) as pairs:
            for pair in pairs:
                # In this order, whatever the threads, which decides the bytes of an .h5.
                while run.images and run.images[0][1].index <= pair.second.index:
                    number, frame = run.images.popleft()
                    adder.add("image", number, partial(_bgr, frame))
                solved = [f for f in (pair.flow, pair.backward) if f is not None]
                for kind, one in zip(p.kinds, solved, strict=True):
                    if p.stack is None:
                        adder.add(kind, pair.number, partial(_itself, one))
                        continue
                    window = windows[kind]
                    window.append(one)
                    begin = pair.first.index - p.start + 1 - p.stack  # which pair the stack that is full begins with
                    if len(window) == p.stack and begin % p.every == 0:
                        adder.add(kind, begin // p.every, partial(np.concatenate, tuple(window), axis=2))
                if p.difference:
                    adder.add("difference", pair.number, partial(_difference, pair))
                if p.colours:
                    adder.add("colours", pair.number, partial(_colours, solved[0]))
                if progress is not None:
                    progress(pair.number + 1, _promised(reader, p))
        for number, frame in run.images:
            adder.add("image", number, partial(_bgr, frame))
        adder.finish()
        return dict(adder.counts)


def _itself(array: Array) -> Array:
    return array


def _bgr(frame: Frame) -> Array:
    assert frame.bgr is not None
    return frame.bgr


def _colours(flow: FloatArray) -> Array:
    return flow_colours(flow, largest=min(flow.shape[:2]) * _FULL_COLOUR)


def _difference(pair: Pair) -> Array:
    return difference(_bgr(pair.first), _bgr(pair.second))


def _promised(reader: FrameReader, params: FlowParams) -> int | None:
    """Return how many pairs there will be if the container tells the truth, or None when it tells nothing."""
    if reader.total is None:
        return None
    return pairs_of(span_length(reader.total, params.start, params.end), params)


def pairs_of(count: int, params: FlowParams) -> int:
    """Return how many pairs are solved of so many processed frames."""
    whole, rest = divmod(max(count - params.step, 0), params.every)
    wanted = min(params.stack or 1, params.every)
    return whole * wanted + min(rest, wanted)


def files_of(count: int, params: FlowParams) -> int:
    """Return how many files are written of a video of which so many frames are processed."""
    if params.format in ARRAY_FORMATS:
        return 1
    planes = 2 if params.format in ("jpg", "png") else 1
    return 1 + sum(number * (planes if kind in files.FLOWS else 1) for kind, number in _expected(params, count).items())


def _expected(params: FlowParams, count: int) -> dict[str, int]:
    """Return the number of arrays of each kind that so many processed frames give."""
    pairs = pairs_of(count, params)
    stacks = 0 if params.stack is None else max((count - params.step - params.stack) // params.every + 1, 0)
    expected = dict.fromkeys(params.kinds, pairs if params.stack is None else stacks)
    expected |= {"image": -(-count // params.every) if params.rgb else 0,
                 "difference": pairs if params.difference else 0, "colours": pairs if params.colours else 0}
    return {kind: number for kind, number in expected.items() if number}


def _meta(run: _Run, reader: FrameReader, who: dict[str, Any]) -> dict[str, Any]:
    """Return the facts about the flow of a video that the writer does not know."""
    p = run.params
    count = span_length(reader.decoded, p.start, p.end)  # from what was decoded, not from what was solved
    reason = None
    if not count:
        reason = f"too short: start is {p.start}, but the video has {reader.decoded} frames"
    elif count <= p.step:
        reason = f"too short: {frames_were(count)} processed, a pair needs {p.step + 1}"
    elif p.stack is not None and count - p.step < p.stack:
        reason = (f"too short: {frames_were(count)} processed, a stack of {p.stack} flows needs "
                  f"{p.step + p.stack}")
    return {"algorithm": ALGORITHM, "package": __version__, "params": p.to_dict(), "key": flow_key(who["sha256"], p),
            "video": {**who, "fps": reader.fps, "decoded_frames": reader.decoded, "damaged_frames": reader.damaged},
            "frames": count, "pairs": pairs_of(count, p), "stabilised": run.stabilised if p.warped else None,
            "reason": reason}


def flow_suffix(params: FlowParams) -> str:
    """Return what follows the name of a video in the name of the folder or file of its flow."""
    return f".{params.format}" if params.format in ARRAY_FORMATS else ""


def parameters_page() -> str:
    """Return the page ``docs/flow-parameters.md``: Markdown tables of the fields of FlowParams and TVL1Params."""
    lines = [
        "# Parameters of the flow of a video",
        "",
        "Every option of `idt flow`: in the library `FlowParams(step=2)`, on the command line `--step 2`,",
        "in a file for `--params` (TOML) `step = 2`. A value that is not allowed is an error that says what is.",
        "",
        "This page is made from the fields by `python -m idt.video_flow > docs/flow-parameters.md`.",
        "",
        *parameters_table(FlowParams),
        "",
        "## Of the method tvl1",
        "",
        "`FlowParams(tvl1={\"warps\": 10})`, `--warps 10`, or in a file a section `[tvl1]` with `warps = 10`. What is",
        "not given is that of the preset; the table names the default, `opencv`.",
        "",
        *parameters_table(TVL1Params),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    import sys

    sys.stdout.write(parameters_page())
