"""One pass over a video: frames in, features of the trajectories that end on each frame out.

The work of a frame falls in two stages, each a generator: `_steps` decodes, prepares, solves the flow and estimates the
camera's motion; `stream` solves the flow without that motion, describes and advances the tracks and starts new ones.
With a second thread the first stage runs one frame ahead of the other.
"""

from __future__ import annotations

import contextlib
import logging
import os
import zipfile
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from idt import __version__
from idt._util.checks import checked_integer
from idt._util.hashing import digest
from idt._util.kernels import is_cached
from idt._util.threads import OneOpenCVThread, ahead
from idt.errors import FormatError, ParameterError
from idt.features.record import FORMAT, Features, FeatureWriter
from idt.flow import method_for
from idt.flow.pyramid import resize_grey, scale_factors, scale_sizes
from idt.params import Params
from idt.trajectories import camera, descriptors, sampling
from idt.trajectories.cache import ALGORITHM, features_key
from idt.trajectories.people import Boxes, PersonDetector, person_mask, read_boxes
from idt.trajectories.tracking import Finished, Tracks, no_tracks
from idt.video import FrameReader, Source, frames, frames_were, identity, span_length

Array = npt.NDArray[Any]
Path_ = str | os.PathLike[str]
Progress = Callable[[int, int | None, int], None]

_MANY_ROWS = 50_000  # about 100 MB: a frame of a large picture that ends more gives several chunks
_MANY_FRAMES = 1000  # without a row: their homographies are handed on

_log = logging.getLogger("idt")


def extract(
    source: Source, params: Params | None = None, *, homographies: Path_ | Array | None = None,
    boxes: Path_ | Sequence[Array] | None = None, progress: Progress | None = None, threads: int = 1,
) -> Features:
    """Return the improved dense trajectories of a video, all in memory; the arguments are those of `stream`."""
    return Features.concatenate(stream(source, params, homographies=homographies, boxes=boxes, progress=progress,
                                       threads=threads))


def extract_file(
    source: Source, path: Path_, params: Params | None = None, *, homographies: Path_ | Array | None = None,
    boxes: Path_ | Sequence[Array] | None = None, progress: Progress | None = None, threads: int = 1,
) -> dict[str, Any]:
    """Write the features of a video to the file `path`, rows spooled to disk, and return its meta.

    The arguments are those of `stream`. The file appears whole or not at all (`idt.features.record.FeatureWriter`).
    """
    with FeatureWriter(path) as writer:
        for chunk in stream(source, params, homographies=homographies, boxes=boxes, progress=progress, threads=threads):
            writer.append(chunk)
    return writer.meta


def stream(
    source: Source, params: Params | None = None, *, homographies: Path_ | Array | None = None,
    boxes: Path_ | Sequence[Array] | None = None, progress: Progress | None = None, threads: int = 1,
) -> Iterator[Features]:
    """Return an iterator over the improved dense trajectories of a video, as they end; its memory stays flat.

    Dense trajectories: Wang, Kläser, Schmid and Liu, IJCV 2013. Without camera motion: Wang and Schmid, ICCV 2013.
    The numbers are those of their program; where it is silent or odd, ``docs/method.md`` says what is done.

    Parameters
    ----------
    source : path or ndarray
        Video file, folder or glob of images, or array of shape (T, H, W) or (T, H, W, 3), uint8, RGB.
    params : Params, optional
    homographies : path or ndarray, shape (T, 3, 3), optional
        Used instead of an own estimate: entry t maps the previously processed frame to frame t. A path is that of an
        ``.npz`` with an array ``homographies`` (a features file, for instance) or of an ``.npy``.
    boxes : path or sequence of ndarray, shape (n, 4), optional
        Where people are, left out of the estimate: a box file, or one array a frame; x1, y1, x2, y2 in pixels of the
        video.
    progress : callable, optional
        Called after each frame with the number of frames done, the number that the video promises or None, and the
        number of trajectories so far.
    threads : int
        1, or more to let the two halves of the work overlap. The result is the same.

    Returns
    -------
    iterator of Features
        Rows that ended on one frame, and `homographies` of the frames since the chunk before. The last chunk,
        which may have no rows, carries the whole meta. `position` t is NaN, since the length of the video is not
        known yet; `Features.concatenate` and `FeatureWriter` fill it in.

    Raises
    ------
    VideoError
        The video cannot be read or changes its size.
    ParameterError, FormatError
        A parameter, box file or homographies file is unusable, or two inputs contradict each other.
    """
    params = params or Params()
    threads = checked_integer("threads", threads)
    for name, value in (("homographies", homographies), ("boxes", boxes)):
        if value is not None and not params.camera:
            raise ParameterError(f"{name} are given, but camera is off: leave one of the two out.")
    if boxes is not None and homographies is not None:
        raise ParameterError("boxes are given with homographies, which leave nothing to estimate: leave one out.")
    if boxes is not None and params.people != "none":
        raise ParameterError(f"boxes are given, but people is {params.people}: leave one of the two out.")
    given = _read_homographies(homographies)
    people = _People(params, boxes)
    who = identity(source)
    inputs = {"homographies": digest(homographies),
              "boxes": digest(boxes if isinstance(boxes, (str, os.PathLike)) else people.boxes)}
    meta: dict[str, Any] = {
        "kind": "features", "format": FORMAT, "algorithm": ALGORITHM, "package": __version__,
        "params": params.to_dict(), "matches": list(params.matches) if params.camera and given is None else [],
        "inputs": inputs, "key": features_key(who["sha256"], params, inputs),
    }
    return _chunks(source, params, given, people, progress, threads, who, meta)


def _chunks(
    source: Source, params: Params, given: Array | None, people: _People, progress: Progress | None, threads: int,
    who: dict[str, Any], meta: dict[str, Any],
) -> Iterator[Features]:
    with OneOpenCVThread(), frames(source, start=params.start, end=params.end, step=params.step,
                                    short_side=params.short_side, threads=threads) as reader:
        run = _Run(params, reader)
        steps = _steps(run, given, people)
        with contextlib.closing(ahead(steps) if threads > 1 else steps) as coming:
            for step in coming:
                yield from run.advance(step, meta)
                if progress is not None:
                    progress(run.processed, _promised(reader, params), run.rows)
        if reader.damaged:
            count = frames_were(reader.damaged, "damaged ")
            _log.warning("%s: %s concealed or skipped by the decoder.", who["name"], count)
        video = {**who, "fps": reader.fps, "width": reader.width, "height": reader.height,
                 "decoded_frames": reader.decoded, "damaged_frames": reader.damaged}
        span = {"first": params.start, "last": run.index, "frames": max(run.index - params.start + 1, 0)}
        yield run.last({**meta, "video": video, "span": span, "rows": run.rows, "reason": run.reason()})


@dataclass(frozen=True, eq=False)
class _Image:
    """What one frame is turned into once: its grey levels, their eigenvalues and what the flow method prepared."""

    index: int
    time_s: float
    greys: list[Array]
    eigenvalues: list[Array]
    prepared: Any


@dataclass(frozen=True, eq=False)
class _Step:
    """What the first stage hands to the second: two frames, their flow, and the camera's motion between them."""

    previous: _Image | None
    current: _Image
    flows: list[Array] | None = None
    homography: Array | None = None


class _Run:
    """State of one pass: the tracks of every scale and what has been counted."""

    def __init__(self, params: Params, reader: FrameReader) -> None:
        self.params = params
        self.reader = reader
        self.processed = 0
        self.rows = 0
        self.index = -1  # of the last processed frame
        self.flow: Any = None  # made when the first frame tells its size; None while it is too small
        self.sizes: list[tuple[int, int]] = []
        self._factors: Array = np.empty(0, np.float32)
        self._tracks: list[Tracks] = []
        self._pending: list[Array] = []  # homographies since the last chunk
        self._stabilised: Any = None  # of the last frame, whose memory the next one uses
        self._moves: list[Array] | None = None
        self._widths = descriptors.widths(params.descriptors, params.spatial_cells)

    def prepare(self, height: int, width: int) -> None:
        """Set up for frames of this size."""
        p = self.params
        if min(height, width) < p.patch:
            return
        self._factors = scale_factors(width, height, shortest=p.patch, count=p.scales)
        self.sizes = scale_sizes(width, height, self._factors)
        self._tracks = [Tracks(h, w, s, p) for (h, w), s in zip(self.sizes, self._factors, strict=True)]
        self.flow = method_for(p.flow)(width, height, factors=self._factors)

    def advance(self, step: _Step, meta: dict[str, Any]) -> Iterator[Features]:
        """Describe and advance the tracks, start new ones, and yield the rows that ended, in chunks when many."""
        p, current = self.params, step.current
        self._pending.extend([np.eye(3)] * (current.index - self.index - 1))
        self._pending.append(np.eye(3) if step.homography is None else step.homography)
        self.index = current.index
        finished: list[tuple[np.float32, Finished]] = []
        if step.previous is not None and step.flows is not None:
            moves = step.flows
            if p.camera:
                stabilised = camera.warp(step.previous.greys[0], current.greys[0], self._pending[-1])
                self._stabilised = self.flow.prepare(stabilised, out=self._stabilised)
                moves = self._moves = self.flow.solve(step.previous.prepared, self._stabilised, out=self._moves)
            for scale, tracks, grey, flow, move in zip(self._factors, self._tracks, step.previous.greys, step.flows,
                                                       moves, strict=True):
                tracks.describe(grey, move)
                finished.append((scale, tracks.advance(flow, move)))
                if sum(len(f) for _, f in finished) > _MANY_ROWS:
                    yield self._chunk(finished, current.index, current.time_s, meta)
                    finished = []
        if self.processed % p.resample == 0:
            for tracks, values in zip(self._tracks, current.eigenvalues, strict=True):
                tracks.start(sampling.new_points(values, tracks.positions(), stride=p.stride, quality=p.quality))
        self.processed += 1
        if any(len(f) for _, f in finished) or len(self._pending) >= _MANY_FRAMES:
            yield self._chunk(finished or [(np.float32(1), no_tracks(p))], current.index, current.time_s, meta)

    def last(self, meta: dict[str, Any]) -> Features:
        """Return the chunk that closes the stream."""
        return self._chunk([(np.float32(1), no_tracks(self.params))], self.index, np.nan, meta)

    def reason(self) -> str | None:
        """Return why there are no rows, or None when there are."""
        p, reader = self.params, self.reader
        if self.rows:
            return None
        if self.processed and self.flow is None:
            return (f"too small: the frames are {reader.width}x{reader.height} pixels, the shorter side must be at "
                    f"least the patch ({p.patch})")
        if not self.processed:
            return f"too short: start is {p.start}, but the video has {reader.decoded} frames"
        if self.processed < p.length + 1:
            return (f"too short: {frames_were(self.processed)} processed, a trajectory of length {p.length} needs "
                    f"{p.length + 1}")
        return "still: no track moved enough by itself, and without jumps, to be a trajectory"

    def _chunk(self, finished: list[tuple[np.float32, Finished]], index: int, time_s: float, meta: dict[str, Any]
               ) -> Features:
        """Return the rows of the given scale factors and tracks, and the homographies that are pending."""
        p, reader = self.params, self.reader
        scale = np.repeat(np.array([s for s, _ in finished], np.float32), [len(f) for _, f in finished])
        mean, std, length, trajectory, points, described = (
            np.concatenate([getattr(f, name) for _, f in finished])
            for name in ("mean", "std", "length", "trajectory", "points", "described"))
        n = len(scale)
        self.rows += n
        position = np.full((n, 3), np.nan, np.float32)
        if n:
            position[:, :2] = np.clip(mean / np.array([reader.width, reader.height], np.float32), 0, 0.999)
        blocks: dict[str, Any] = {}
        at = 0
        for name, width in self._widths.items():
            blocks[name] = described[:, :, at:at + width].reshape(n, p.temporal_cells * width).astype(p.dtype)
            at += width
        if "trajectory" in p.descriptors:
            blocks["trajectory"] = trajectory
        homographies = np.array(self._pending, np.float64).reshape(-1, 3, 3)
        self._pending = []
        return Features(frame=np.full(n, index, np.int32), time=np.full(n, time_s), mean=mean, std=std, length=length,
                        scale=scale, position=position, points=points, homographies=homographies, meta=meta, **blocks)


def _steps(run: _Run, given: Array | None, people: _People) -> Generator[_Step, None, None]:
    """Yield a step for every processed frame; the first has no previous one."""
    p = run.params
    estimate = p.camera and given is None
    finders = [camera.KeyPoints(m, window=p.match_window) for m in p.matches if m != "flow" and estimate]
    previous: _Image | None = None
    # Memory that is used again: with the stages one frame apart, three frames and two flows are in use at most.
    prepared: list[Any] = [None] * 3
    solved: list[Any] = [None] * 2
    for n, frame in enumerate(run.reader):
        if n == 0:
            run.prepare(*frame.grey.shape)
        if run.flow is None:
            yield _Step(None, _Image(frame.index, frame.time_s, [], [], None))
            continue
        greys = [np.require(frame.grey, requirements=("C", "W"))]  # one type of array, so that kernels compile once
        for height, width in run.sizes[1:]:
            greys.append(resize_grey(greys[-1], height, width))
        prepared[n % 3] = run.flow.prepare(greys[0], out=prepared[n % 3])
        current = _Image(frame.index, frame.time_s, greys, [sampling.min_eigenvalues(g) for g in greys],
                         prepared[n % 3])
        mask = people.mask(frame.grey, frame.index, n, run.reader) if estimate else None
        found = [finder.matches(frame.grey, mask) for finder in finders]
        if previous is None:
            yield _Step(None, current)
        else:
            flows = solved[n % 2] = run.flow.solve(previous.prepared, current.prepared, out=solved[n % 2])
            h = None
            if estimate:
                if "flow" in p.matches:
                    corners = camera.good_features(previous.eigenvalues[0], mask, count=p.corners, quality=p.quality,
                                                   distance=p.corner_distance)
                    found.insert(0, camera.flow_matches(corners, flows[0]))
                here, there = (np.concatenate(side) for side in zip(*found, strict=True))
                h = camera.homography(here, there, p)
            elif given is not None:
                if frame.index >= len(given):
                    raise ParameterError(f"homographies has {len(given)} entries, but there is a frame {frame.index}: "
                                         "give one for every frame of the video.")
                h = given[frame.index]
            yield _Step(previous, current, flows, h)
        previous = current


class _People:
    """Masks that leave people out: from boxes that are given, from the built-in detector, or none."""

    def __init__(self, params: Params, boxes: Path_ | Sequence[Array] | None) -> None:
        self._name = os.fspath(boxes) if isinstance(boxes, (str, os.PathLike)) else "boxes"
        self.boxes: list[Boxes] | None = None
        if isinstance(boxes, (str, os.PathLike)):
            self.boxes = read_boxes(boxes)
        elif boxes is not None:
            if not isinstance(boxes, Sequence):
                raise ParameterError(f"boxes is of type {type(boxes).__name__}: give a box file, or a list with one "
                                     "array (n, 4) for each frame.")
            self.boxes = [_frame_boxes(given, index) for index, given in enumerate(boxes)]
        self._detector = PersonDetector(params.people_interval) if params.people == "hog" else None

    def mask(self, grey: Array, index: int, n: int, reader: FrameReader) -> Array | None:
        """Return the mask of the frame with this index in the video, the n-th processed; None: nobody is left out."""
        if self.boxes is not None:
            if index >= len(self.boxes):
                raise FormatError(f"{self._name} has {len(self.boxes)} frames and no line {len(self.boxes) + 1}, but "
                                  f"the video has a frame {index}: give one line for every decoded frame.")
            scale = reader.scale or (1.0, 1.0)
            boxes = self.boxes[index] * np.array([*scale, *scale])
        elif self._detector is not None:
            boxes = self._detector.detect(grey, n)
        else:
            return None
        return person_mask(boxes, grey.shape) if len(boxes) else None


def _frame_boxes(given: Any, index: int) -> Boxes:
    """Return the boxes of one frame as an array (n, 4); None or an empty list is nobody."""
    try:
        boxes: Boxes = np.asarray([] if given is None else given, np.float64)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"The boxes of frame {index} are no numbers: it must be (n, 4), one x1, y1, x2, y2 for "
                             "each person.") from error
    boxes = boxes if boxes.size else np.empty((0, 4))
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ParameterError(f"The boxes have the shape {boxes.shape} at frame {index}: it must be (n, 4), one x1, y1, "
                             "x2, y2 for each person.")
    return boxes


def _promised(reader: FrameReader, params: Params) -> int | None:
    """Return how many frames will be processed if the container tells the truth, or None when it tells nothing."""
    if reader.total is None:
        return None
    return span_length(reader.total, params.start, params.end, params.step)


def _read_homographies(given: Path_ | Array | None) -> Array | None:
    """Return the homographies as an array (T, 3, 3) of float64, checked."""
    if given is None:
        return None
    name = "homographies"
    array: Any = given
    if isinstance(given, (str, os.PathLike)):
        name = os.fspath(given)
        try:
            with open(given, "rb") as file:
                array = np.load(file, allow_pickle=False)
                if isinstance(array, np.lib.npyio.NpzFile):
                    with array as members:
                        array = members["homographies"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise FormatError(f"{name}: no homographies can be read from it ({error}); it must be an .npz with an "
                              "array named homographies, or an .npy.") from error
    try:
        array = np.asarray(array)
    except ValueError as error:
        raise FormatError(f"{name} are lists of unequal lengths: it must be (T, 3, 3) finite numbers.") from error
    if array.ndim != 3 or array.shape[1:] != (3, 3) or array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise FormatError(f"{name}: homographies has shape {array.shape} and type {array.dtype}: it must be (T, 3, 3) "
                          "finite numbers, entry t for frame t.")
    return np.ascontiguousarray(array, np.float64)


def compile_kernels() -> None:
    """Compile all kernels of the extraction and store them in the cache, so that no later run has to."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    frame = cv2.resize(noise, (128, 128), interpolation=cv2.INTER_LINEAR)
    video = np.stack([np.roll(frame, (t, 2 * t), (0, 1)) for t in range(5)])
    extract(video, Params(length=3))


def kernels_cached() -> bool:
    """Tell whether the kernels of the extraction are in Numba's cache, compiled from the present source."""
    from idt.flow import _farneback_cpu
    from idt.trajectories import tracking

    used = (_farneback_cpu.solve_level, descriptors._describe, sampling._min_eigenvalues, tracking._collect,
            camera._peaks, camera._apart, camera._homography, camera._warp)
    return all(is_cached(kernel) for kernel in used)
