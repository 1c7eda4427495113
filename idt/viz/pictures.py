"""Pictures: trajectories over the frames of their video, one trajectory and its descriptors, flow in colours."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import os
import unicodedata
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from idt._util.files import replacing
from idt._util.text import counted
from idt.errors import OutputError, ParameterError, VideoError
from idt.features.record import Features
from idt.flow.colours import flow_colours, wheel
from idt.params import Params, told_apart
from idt.video import Frame, FrameReader, Source, count_frames, frames, is_of, span_length

if TYPE_CHECKING:
    from idt.video_flow.pairs import Pair
    from idt.video_flow.params import FlowParams

Picture: TypeAlias = NDArray[np.uint8]

_SHORT_SIDE = 720  # pictures of smaller videos are enlarged to about this, or thin tracks could not be told apart
_BESIDE = 480  # the same of each of several pictures side by side
_FADE = 0.9  # of a track's opacity is left after each further step
_MEMORY = math.ceil(math.log(1 / 255) / math.log(_FADE))  # steps until nothing is left
_BITS = 4  # of the fraction in the coordinates that OpenCV draws at
_GREY = np.array([[135, 135, 135]], np.uint8)  # of background tracks
_CAPITALS = 22  # their height in pixels in OpenCV's font at size 1
_READABLE = 14  # the least of it in legends: small videos are often shown smaller still
_DARK, _LIGHT = 24, (230, 230, 230)  # of legends and headings, and of the text on them
_DIRECTIONS, _LEVELS = 36, 4  # shades of direction and of speed

# Of the panel of a trajectory, in pixels
_MARGIN, _GAP = 24, 30
_BLOCK = 150  # side of the square that shows a descriptor in a time cell
_TOP = 360  # height of the frame and of the path
_TILE = 66  # smallest side of a patch
_TEXT = 12  # height of capitals
_FIELD, _LINE, _DIM = 40, 75, (150, 150, 150)  # grey levels of fields, of the lines in them, and of minor text
_TITLES = {"hog": "HOG", "hof": "HOF", "mbhx": "MBHx", "mbhy": "MBHy"}
_CELLS = 20  # time cells at most, or nobody could look at it

# Without the macroblock tree x264 gives the same bytes each time.
_X264 = {"crf": "23", "preset": "veryfast", "mbtree": "0"}


def overlay(source: Source, features: Features, path: str | os.PathLike[str], *, frame: int | None = None,
            background: Features | None = None, beside: Features | None = None, span: tuple[int, int] | None = None,
            side: int | None = None) -> None:
    """Draw trajectories over the frames of their video and write a video (``.mp4``) or one picture (``.png``).

    A track is drawn up to its point in the frame shown, which is a dot, and fades with age. Its colour tells its
    motion from end to end without that of the camera: hue the direction, strength the speed, as the wheel in the
    corner shows. Small videos are enlarged. The video is read once, side by side twice, and not held in memory.

    Parameters
    ----------
    source : path or ndarray
        The video that `features` come from, as for `idt.video.frames`. Another of the same size and length, such as one
        encoded anew, is drawn on with a warning.
    features : Features
        With `points` and `homographies`.
    path : path
        Ends in ``.mp4`` (H.264, which browsers play) or ``.png``.
    frame : int, optional
        Index in the video of the frame that the picture shows; default: that on which most trajectories end. Not for a
        video.
    background : Features, optional
        Further tracks, drawn beneath in dim grey; those that the camera test removes are got with ``min_motion=0``.
    beside : Features, optional
        Features of the same frames by another method, drawn in a second picture to the right, where colours mean the
        same speeds. Headings tell the parameters that differ, or the files where none does, and how many trajectories
        there are. Not together with `background`.
    span : (int, int), optional
        Indices of the first and last frame of the video that are shown; default: all that the features come from. Not
        for a picture.
    side : int, optional
        Short side of the picture of a frame, in pixels. Default: that of the video, or for a small one about 720, of
        two pictures side by side 480. Where there is no room for it, the wheel is left out.

    Raises
    ------
    ParameterError
        `path`, `frame`, `span`, `side` or the features do not fit.
    VideoError
        The video cannot be read or is not that of the features.
    OutputError
        The file cannot be written.
    """
    kind = _kind(path, frame)
    if kind == ".png" and span is not None:
        raise ParameterError(f"span is {span}: only a video (.mp4) shows several frames; leave it out for a .png.")
    if side is not None and side < 16:
        raise ParameterError(f"side is {side}: it must be at least 16 pixels.")
    tracks = _Tracks(features, "features")
    beneath = None if background is None else _Tracks(background, "background")
    if beneath is not None and beneath.sampling != tracks.sampling:
        raise ParameterError("background has another start, end, step or short_side than the features: extract both "
                             "with the same.")
    shown = [tracks]
    headings: Sequence[str] = ()
    if beside is not None:
        if background is not None:
            raise ParameterError("background and beside are both given, but only one of them can be drawn: leave one "
                                 "out.")
        shown.append(_Tracks(beside, "features beside"))
        if shown[1].sampling != tracks.sampling:
            raise ParameterError("The features beside have another start, end, step or short_side than the features: "
                                 "extract both with the same.")
        headings = _headings(features, beside)
    sampling = tracks.sampling
    start, step = sampling["start"], sampling["step"]
    if kind == ".mp4":
        count = None
        if span is not None:
            first, last = span
            if not start <= first <= last <= tracks.last:
                raise ParameterError(f"span is {span}: it must be a first and a last frame of those that the features "
                                     f"come from, {start} to {tracks.last}.")
            sampling |= {"start": first - (first - start) % step, "end": last}
            count = last + 1
        with contextlib.closing(_overlays(source, sampling, shown, beneath, headings, count, side)) as pictures:
            write_video(path, pictures, _fps(source) / step)
        return
    if frame is None:
        frame = tracks.busiest()
    elif frame < start or (frame - start) % step:
        raise ParameterError(f"frame is {frame}: the features come from the frames {start}, {start + step}, "
                             f"{start + 2 * step}, ...")
    elif frame > tracks.last:
        raise ParameterError(f"frame is {frame}: the last frame that the features come from is {tracks.last}.")
    sampling |= {"start": max(start, frame - _MEMORY * step), "end": frame}
    with contextlib.closing(_overlays(source, sampling, shown, beneath, headings, frame + 1, side)) as pictures:
        _write_picture(path, deque(pictures, maxlen=1)[0])


def draw_flow(source: Source, path: str | os.PathLike[str], params: FlowParams | None = None, *,
              frame: int | None = None, device: str = "cpu", threads: int = 1,
              progress: Callable[[int, int | None], None] | None = None) -> None:
    """Draw the optical flow of a video in colours beside its frames and write a video or one picture.

    From left to right: a frame, its flow, and with ``params.warped`` the flow without camera motion. Hue is the
    direction and strength the speed, as in `flow_colours` and by the wheel in the corner; full colour is 1/48 of the
    shorter side a frame throughout, and what is faster is darker. Small videos are enlarged; those with a shorter side
    of more than 720 pixels are reduced.

    Parameters
    ----------
    source, device, threads
        As for `idt.video_flow.video_flow`.
    path : path
        Ends in ``.mp4`` (H.264, which browsers play) or ``.png``.
    params : FlowParams, optional
        The fields about files have no effect. Of the direction ``both`` the forward flow is drawn.
    frame : int, optional
        Index in the video of the earlier frame of the pair that the picture shows; default: the middle one. Not for a
        video.
    progress : callable, optional
        Called after each pair of a video with the number of pairs done and the number that the video promises, or None.

    Raises
    ------
    ParameterError
        `path`, `frame` or the parameters do not fit.
    VideoError
        The video cannot be read, or is too short to have any flow.
    DeviceError
        There is no such device.
    OutputError
        The file cannot be written.
    """
    from idt.video_flow.params import FlowParams, pairs_of

    params = dataclasses.replace(params or FlowParams(), stack=None, rgb=True)
    kind = _kind(path, frame)
    with frames(source) as reader:
        fps, promised = reader.fps or 25.0, reader.total
    total = None if promised is None else pairs_of(span_length(promised, params.start, params.end), params)
    if kind == ".png":
        count = pairs_of(span_length(count_frames(source), params.start, params.end), params)
        number = max(count - 1, 0) // 2 if frame is None else (frame - params.start) // params.every
        if count and not (0 <= number < count and frame in (None, params.start + number * params.every)):
            last = params.start + (count - 1) * params.every
            apart = "" if params.every == 1 else f", {params.every} apart"
            raise ParameterError(f"frame is {frame}: the earlier frames of the pairs are from {params.start} to "
                                 f"{last}{apart}.")
        begin = params.start + number * params.every
        params = dataclasses.replace(params, start=begin, end=begin + params.step)
    with contextlib.closing(_flow_pictures(source, params, device, threads)) as pictures:
        if kind == ".png":
            _write_picture(path, next(pictures))
        else:
            write_video(path, _counted(pictures, total, progress), fps / params.every)


def draw_trajectory(source: Source, features: Features, path: str | os.PathLike[str], trajectory: int) -> None:
    """Draw one trajectory and what describes it, and write a picture (``.png``).

    Above, the frame in which it ends with its path and its patch, and the path enlarged: coloured without the camera's
    motion, each step by its direction as in `flow_colours`, and grey as it is in the picture. Below, a column for each
    time cell: the patches around its points, and of every descriptor a rose for each cell of the patch. The length of a
    petal is the value of that bin, as a share of the largest of the descriptor, which is told beside its name. Petals
    of HOF point where something moves to, and its ring is the bin of what is at rest; those of HOG point from dark to
    bright, those of MBHx and MBHy to where motion to the right, and down, grows.

    Parameters
    ----------
    source : path or ndarray
        The video that `features` come from, as for `overlay`.
    features : Features
        With `points` and `homographies`; descriptors that are not there are left out.
    path : path
        Ends in ``.png``.
    trajectory : int
        Row of the features, from 0.

    Raises
    ------
    ParameterError
        `path`, `trajectory` or the features do not fit.
    VideoError
        The video cannot be read or is not that of the features.
    OutputError
        The file cannot be written.
    """
    if Path(path).suffix.lower() != ".png":
        raise ParameterError(f"{os.fspath(path)}: a trajectory is drawn as a picture, whose name must end in .png.")
    if not 0 <= trajectory < len(features):
        rows = f"the rows of the features are from 0 to {len(features) - 1}" if len(features) else "there are no rows"
        raise ParameterError(f"trajectory is {trajectory}: {rows}.")
    track = _Tracks(features[trajectory:trajectory + 1], "features")
    params = Params.from_dict(features.meta["params"])
    if params.temporal_cells > _CELLS:
        raise ParameterError(f"temporal_cells is {params.temporal_cells}: at most {_CELLS} can be drawn.")
    heading = f"trajectory {trajectory} of {len(features)}"
    _write_picture(path, _panel(source, features[trajectory:trajectory + 1], track, params, heading))


def _name(source: Source) -> str:
    return "The array" if isinstance(source, np.ndarray) else os.fspath(source)


def _kind(path: str | os.PathLike[str], frame: int | None) -> str:
    """Return the suffix of what is to be written."""
    kind = Path(path).suffix.lower()
    if kind not in (".mp4", ".png"):
        raise ParameterError(f"{os.fspath(path)}: the name of a view must end in .mp4 (video) or .png (one frame).")
    if kind == ".mp4" and frame is not None:
        raise ParameterError(f"frame is {frame}: only a picture (.png) shows one frame; leave it out for an .mp4.")
    return kind


def _counted(pictures: Iterator[Picture], total: int | None, progress: Callable[[int, int | None], None] | None
             ) -> Iterator[Picture]:
    for number, picture in enumerate(pictures, 1):
        if progress is not None:
            progress(number, total)
        yield picture


def _flow_pictures(source: Source, params: FlowParams, device: str, threads: int) -> Generator[Picture, None, None]:
    """Yield for each pair of frames the earlier one, its flow and, where that is asked for, that without the camera."""
    from idt.video_flow.files import FULL_COLOUR
    from idt.video_flow.pairs import video_flow

    # Of a pair the warped flow alone is solved, so there is a pass for each; they come in step.
    passes = [dataclasses.replace(params, warped=False)] + ([params] if params.warped else [])
    legend = None
    with contextlib.ExitStack() as opened:
        solved: list[Iterator[Pair]] = [opened.enter_context(contextlib.closing(video_flow(
            source, some, device=device, threads=threads))) for some in passes]  # type: ignore[type-var]
        for pairs in zip(*solved, strict=True):
            backward = params.direction == "backward"
            shown = pairs[0].second if backward else pairs[0].first
            assert shown.bgr is not None
            height, width = shown.grey.shape
            short = min(height, width)
            # Players give up on pictures that are very wide.
            zoom = max(1, round(_BESIDE / short)) if short <= _SHORT_SIDE else _SHORT_SIDE / short
            shape = (round(height * zoom), round(width * zoom))
            if legend is None:
                legend = _legend(f"{short * FULL_COLOUR:.3g} px/frame", min(shape), lambda speed: speed)
            pictures, headings = [_resized(shown.bgr, shape)], [f"frame {shown.index}"]
            for pair in pairs:
                field = pair.backward if backward else pair.flow
                assert field is not None
                colours = flow_colours(field, largest=short * FULL_COLOUR * params.step)
                pictures.append(_resized(colours, shape))
                _into_corner(pictures[-1], legend)
            headings += [f"{params.method} flow", "flow without camera motion" if pairs[-1].homography is not None else
                         "flow (no camera motion was found)"][:len(pairs)]
            yield _joined(pictures, headings)
    if legend is None:
        raise VideoError(f"{_name(source)} has no flow to draw: from frame {params.start} on it has fewer than "
                         f"{params.step + 1} frames.")


def _resized(picture: Picture, shape: tuple[int, int]) -> Picture:
    import cv2

    method = cv2.INTER_AREA if shape < picture.shape[:2] else cv2.INTER_CUBIC
    return cv2.resize(picture, shape[::-1], interpolation=method)


def _muted(frame: Frame) -> Picture:
    """Return the frame without much light and colour of its own, which leaves the hues to the tracks."""
    import cv2

    assert frame.bgr is not None
    return cv2.addWeighted(frame.bgr, 0.2, cv2.cvtColor(frame.grey, cv2.COLOR_GRAY2BGR), 0.5, 0)


def _into_corner(picture: Picture, legend: Picture) -> None:
    """Put the legend into the lower left corner, unless it would take much of the picture."""
    if all(2 * mine <= whole for mine, whole in zip(legend.shape[:2], picture.shape[:2], strict=True)):
        picture[-legend.shape[0]:, :legend.shape[1]] = legend


class _Tracks:
    """The tracks of one set of features in the order in which they end, found by frame."""

    def __init__(self, features: Features, name: str) -> None:
        if features.points is None or features.homographies is None:
            raise ParameterError(f"The {name} have no points, which are not part of the original text format: extract "
                                 "the video again to an .npz file.")
        if "params" not in features.meta:
            raise ParameterError(f"The {name} do not say what they were made with (meta has no params): extract the "
                                 "video again to an .npz file.")
        params = Params.from_dict(features.meta["params"])
        video = features.meta.get("video", {})
        self.size = (video["width"], video["height"]) if video.get("width") else None
        self.count: int | None = video.get("decoded_frames")
        self._video = video
        self._told = features.path or f"the {name}"
        self.last = len(features.homographies) - 1
        self._first, self._step = params.start, params.step
        self._order = np.argsort(features.frame, kind="stable")
        self._ends = features.frame[self._order]
        self._points = features.points
        self._homographies = features.homographies
        self._span = (features.points.shape[1] - 1) * params.step  # frames from the first to the last point
        self.sampling: dict[str, Any] = {key: getattr(params, key) for key in ("start", "end", "step", "short_side")}

    def __len__(self) -> int:
        return len(self._ends)

    def check(self, source: Source, width: int, height: int) -> None:
        """Refuse frames of another size; warn of a video of another content."""
        if self.size not in (None, (width, height)):
            raise VideoError(f"{_name(source)} is not the video of the features: its frames are {width}x{height} "
                             f"pixels, not {'x'.join(map(str, self.size))}.")
        if not is_of(self._video, source):
            logging.getLogger("idt").warning("%s has another content than the video of %s (%s): the trajectories need "
                                             "not fit.", _name(source), self._told, self._video["name"])

    def busiest(self) -> int:
        """Return the index of the frame on which most tracks end, the first processed one if there are none."""
        ends, counts = np.unique(self._ends, return_counts=True)
        return int(ends[counts.argmax()]) if ends.size else self._first

    def at(self, index: int) -> tuple[slice, NDArray[np.float64]]:
        """Return the tracks that are alive in a frame and the two ends of their latest step, (n, 2, 2) in pixels."""
        rows = slice(*np.searchsorted(self._ends, (index, index + self._span + 1)).tolist())
        points = self._points[self._order[rows]]
        each = np.arange(len(points))
        now = points.shape[1] - 1 - (self._ends[rows] - index) // self._step
        return rows, np.stack([points[each, np.maximum(now - 1, 0)], points[each, now]], axis=1).astype(np.float64)

    @cached_property
    def motion(self) -> NDArray[np.float64]:
        """The motion of each track without the camera's, (N, 2) in pixels a frame, seen from its last frame."""
        motion: NDArray[np.float64] = np.empty((len(self), 2))
        for end in np.unique(self._ends).tolist():
            camera = np.eye(3)  # from the first frame of these tracks to their last
            for step in self._homographies[end - self._span + 1:end + 1]:
                camera = step @ camera
            rows = slice(*np.searchsorted(self._ends, (end, end + 1)).tolist())
            points = self._points[self._order[rows]]
            start = np.insert(points[:, 0].astype(np.float64), 2, 1, axis=1) @ camera.T
            motion[rows] = points[:, -1] - start[:, :2] / start[:, 2:]
        motion /= self._span
        return motion


def _fps(source: Source) -> float:
    with frames(source) as reader:
        return reader.fps or 25.0


def _overlays(source: Source, sampling: dict[str, Any], shown: Sequence[_Tracks], beneath: _Tracks | None,
              headings: Sequence[str], count: int | None, side: int | None) -> Generator[Picture, None, None]:
    """Yield the frames of a video with each set of tracks, side by side where there are two.

    `count` frames are expected to be decoded; None: as many as the features tell.
    """
    fastest = _rounded_up(max(float(np.quantile(np.hypot(*tracks.motion.T), 0.9)) if len(tracks) else 1.0
                              for tracks in shown))
    least = _SHORT_SIDE if len(shown) == 1 else _BESIDE
    with contextlib.ExitStack() as opened:
        columns = [_drawn(opened.enter_context(frames(source, colour=True, **sampling)), tracks, beneath, source,
                          count or tracks.count, side, least, fastest) for tracks in shown]
        for pictures in zip(*columns, strict=True):
            yield _joined(pictures, headings) if headings else pictures[0]


def _headings(one: Features, other: Features) -> tuple[str, str]:
    """Return what tells two sets of features of a video apart."""
    both = (one, other)
    params = [Params.from_dict(features.meta["params"]) for features in both]
    told = told_apart(params) if params[0] != params[1] else [features.path or "features" for features in both]
    first, second = (f"{counted(len(features), 'trajectory', 'trajectories')}, {what}"
                     for features, what in zip(both, told, strict=True))
    return first, second


def _joined(pictures: Sequence[Picture], headings: Sequence[str]) -> Picture:
    """Return pictures of one size side by side, each below its heading."""
    height, width = pictures[0].shape[:2]
    bar = max(min(height, width) // 16, 12)
    columns: list[Picture] = []
    for picture, heading in zip(pictures, headings, strict=True):
        top = np.full((bar, width, 3), _DARK, np.uint8)
        _write(top, heading, (bar // 3, bar // 2), bar / 2, width - 2 * bar // 3)
        columns.append(np.vstack([top, picture]))
    return _beside(columns, max(bar // 8, 2))


def _write(picture: Picture, text: str, at: tuple[int, int], height: float, width: int,
           colour: tuple[int, int, int] = _LIGHT) -> None:
    """Write a line of text of some height from a point on, which is half-way up, cut where it is too wide."""
    import cv2

    text = cut = _writable(text)
    while cut and _width(text, height) > width:
        cut = cut[:-1]
        text = cut.rstrip() + "..."
    cv2.putText(picture, text, (at[0], at[1] + round(height / 2)), cv2.FONT_HERSHEY_SIMPLEX, height / _CAPITALS, colour,
                1, cv2.LINE_AA)


def _writable(text: str) -> str:
    """Return a text of characters that the font has: before OpenCV 5, letters without their marks, or ``?``."""
    import cv2

    if hasattr(cv2, "FontFace"):
        return "".join(c if c.isprintable() else "?" for c in text)
    parts = (c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return "".join(c if " " <= c <= "~" else "?" for c in parts)


def _width(text: str, height: float) -> int:
    import cv2

    return cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, height / _CAPITALS, 1)[0][0]


def _drawn(reader: FrameReader, tracks: _Tracks, beneath: _Tracks | None, source: Source, count: int | None,
           side: int | None, least: int, fastest: float) -> Iterator[Picture]:
    """Yield the frames of the reader, resized, with the tracks over them; `count` is what it is expected to decode."""
    name = _name(source)
    shades, palette = _shades(tracks.motion / fastest)
    layers: list[tuple[_Tracks, NDArray[np.intp], _Trails]] = []
    for frame in reader:
        if not layers:
            height, width = frame.grey.shape
            tracks.check(source, width, height)
            short = min(height, width)
            zoom = max(1, round(least / short)) if side is None else side / short
            shape = (round(height * zoom), round(width * zoom))
            if beneath:
                layers.append((beneath, np.zeros(len(beneath), np.intp), _Trails(shape, zoom, _GREY, 0.7)))
            layers.append((tracks, shades, _Trails(shape, zoom, palette, 1.0)))
            legend = _legend(f"{fastest:g} px/frame", min(shape), _strength)
        picture = _resized(_muted(frame), shape)
        for some, colours, trails in layers:
            rows, steps = some.at(frame.index)
            picture = trails.draw(picture, steps, colours[rows])
        _into_corner(picture, legend)
        yield picture
    if not layers:
        raise VideoError(f"{name} has no frame to draw on: its {reader.decoded} frames end before the first that the "
                         "features come from.")
    if count not in (None, reader.decoded):
        raise VideoError(f"{name} is not the video of the features: {reader.decoded} frames could be decoded, not "
                         f"{count}.")


def _panel(source: Source, features: Features, track: _Tracks, params: Params, heading: str) -> Picture:
    """Return the picture of one trajectory, the only row of the features."""
    import cv2

    assert features.points is not None
    points, scale = features.points[0].astype(np.float64), float(features.scale[0])
    indices = features.frame[0] - params.step * np.arange(len(points) - 1, -1, -1)
    cells, steps = params.temporal_cells, params.length // params.temporal_cells
    column = max(2 * _BLOCK + _GAP, (6 * (_BLOCK + _GAP) - cells * _GAP) // cells)
    shown = min(steps, column // _TILE)  # patches of a time cell
    side = min(column // shown, _BLOCK) - 2
    patches, last = _patches(source, track, params, indices, points, scale, side)
    roses = _all_roses(features, params, column)
    columns = []
    for cell, of_cell in enumerate(roses):
        first, final = cell * steps, (cell + 1) * steps - 1
        chosen = np.rint(np.linspace(first, final, shown)).astype(int).tolist()
        title = f"frames {indices[first]} to {indices[final]}" if steps > 1 else f"frame {indices[first]}"
        strip = _beneath([_line(title, column), _beside([patches[n] for n in chosen], 2)], 0)
        columns.append(_beneath([strip, *of_cell], _GAP))
    width = cells * (column + _GAP) - _GAP
    text = f"{heading}: frames {indices[0]} to {indices[-1]}, scale {scale:.2f}, {features.length[0]:.1f} px long"
    above = _beneath([_line(text, width), _frame_and_paths(last, features, points, indices, params, width)], _TEXT)
    panel = _beneath([above, _beside(columns, _GAP)], _GAP)
    return cv2.copyMakeBorder(panel, *[_MARGIN] * 4, cv2.BORDER_CONSTANT, value=[_DARK] * 3)


def _line(text: str, width: int, note: str = "") -> Picture:
    """Return a line of text, with a note at its end."""
    picture = np.full((2 * _TEXT, width, 3), _DARK, np.uint8)
    _write(picture, text, (0, _TEXT // 2), _TEXT, width)
    if note:
        _write(picture, note, (width - _width(note, _TEXT), _TEXT // 2), _TEXT, width, _DIM)
    return picture


def _beside(pictures: Sequence[Picture], gap: int) -> Picture:
    """Return pictures side by side, their upper borders on a level."""
    height = max(len(picture) for picture in pictures)
    width = sum(picture.shape[1] + gap for picture in pictures) - gap
    whole = np.full((height, width, 3), _DARK, np.uint8)
    x = 0
    for picture in pictures:
        whole[:len(picture), x:x + picture.shape[1]] = picture
        x += picture.shape[1] + gap
    return whole


def _beneath(pictures: Sequence[Picture], gap: int) -> Picture:
    """Return pictures one beneath the other, their left borders in line."""
    return _beside([picture.swapaxes(0, 1) for picture in pictures], gap).swapaxes(0, 1)


def _frame_and_paths(frame: Frame, features: Features, points: NDArray[np.float64], indices: NDArray[np.intp],
                     params: Params, width: int) -> Picture:
    """Return the frame with the path and the patch at its end, beside the path enlarged."""
    assert features.homographies is not None
    height, across = frame.grey.shape
    zoom = min(_TOP / height, (width - _GAP - _TOP) / across)
    picture = _resized(_muted(frame), (round(height * zoom), round(across * zoom)))
    still = _seen_from_the_last(points, features.homographies, indices)
    paths = [(points, None)] if np.array_equal(still, points) else [(points, _GREY[0].tolist()), (still, None)]
    _outline(picture, (_patch(points[-1], float(features.scale[0]), params, frame.grey.shape) + 0.5) * zoom - 0.5)
    for path, colour in paths:
        _draw_path(picture, (path + 0.5) * zoom - 0.5, path, colour)
    return _beside([picture, _enlarged_paths(paths, (_TOP, width - _GAP - picture.shape[1]))], _GAP)


def _all_roses(features: Features, params: Params, column: int) -> list[list[Picture]]:
    """Return for each time cell the rows of squares that show its descriptors."""
    from idt.trajectories.descriptors import BINS  # which brings Numba

    names = [name for name in BINS if getattr(features, name) is not None]
    abreast = len(names) if len(names) * (_BLOCK + _GAP) - _GAP <= column else 2
    blocks: list[list[Picture]] = [[] for _ in range(params.temporal_cells)]
    for name in names:
        values = getattr(features, name)[0].astype(np.float64).reshape(
            params.temporal_cells, params.spatial_cells, params.spatial_cells, BINS[name])
        longest = values.max()
        for cell, of_cell in enumerate(values):
            title = _line(_TITLES[name], _BLOCK, "" if cell else f"max {longest:.2f}")
            rose = _roses(of_cell / max(longest, 1e-12), in_colour=name == "hof")
            blocks[cell].append(_beneath([title, rose], 0))
    return [[_beside(of_cell[n:n + abreast], _GAP) for n in range(0, len(of_cell), abreast or 1)] for of_cell in blocks]


def _patch(point: NDArray[np.float64], scale: float, params: Params, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the corners of what is described around a point, (2, 2) in pixels of the frame."""
    side = params.patch // params.spatial_cells * params.spatial_cells * scale
    room = np.maximum(np.array(shape[::-1]) - params.patch * scale, 0)
    corner = np.clip((np.rint(point / scale) - params.patch // 2) * scale, 0, room)
    return np.stack([corner, corner + side])


def _patches(source: Source, track: _Tracks, params: Params, indices: NDArray[np.intp], points: NDArray[np.float64],
             scale: float, side: int) -> tuple[list[Picture], Frame]:
    """Return the patch around each point of a track, of so many pixels, and the last frame."""
    import cv2

    name, frame = _name(source), None
    patches: list[Picture] = []
    sampling = track.sampling | {"start": int(indices[0]), "end": int(indices[-1])}
    with frames(source, colour=True, **sampling) as reader:
        for point, frame in zip(points, reader, strict=False):
            assert frame.bgr is not None
            if not patches:
                track.check(source, frame.grey.shape[1], frame.grey.shape[0])
            corners = _patch(point, scale, params, frame.grey.shape)
            (left, upper), (right, lower) = np.rint(corners).astype(int).tolist()
            patch = _resized(frame.bgr[upper:lower, left:right], (side, side))
            for n in range(1, params.spatial_cells):
                line = round(n * side / params.spatial_cells)
                patch[line] = patch[line] // 2 + 100
                patch[:, line] = patch[:, line] // 2 + 100
            dot = (point - corners[0] + 0.5) / (corners[1] - corners[0]) * side - 0.5
            cv2.circle(patch, _fixed(dot).tolist(), 2 << _BITS, _LIGHT, -1, cv2.LINE_AA, _BITS)
            patches.append(patch)
    if frame is None or frame.index != indices[-1]:
        raise VideoError(f"{name} is not the video of the features: {reader.decoded} frames could be decoded, but the "
                         f"trajectory ends in frame {indices[-1]}.")
    return patches, frame


def _seen_from_the_last(points: NDArray[np.float64], homographies: NDArray[np.float64], indices: NDArray[np.intp]
                        ) -> NDArray[np.float64]:
    """Return the points of a track without the motion of the camera, as its last frame would have shown them."""
    camera = np.eye(3)
    out = points.copy()
    for n in range(len(points) - 2, -1, -1):
        camera = camera @ homographies[indices[n + 1]]
        point = camera @ (*points[n], 1.0)
        out[n] = point[:2] / point[2]
    return out


def _fixed(points: NDArray[np.float64]) -> NDArray[np.int32]:
    """Return coordinates as OpenCV draws at."""
    return np.rint(points * (1 << _BITS)).astype(np.int32)


def _outline(picture: Picture, corners: NDArray[np.float64]) -> None:
    import cv2

    (left, upper), (right, lower) = _fixed(corners).tolist()
    cv2.rectangle(picture, (left, upper), (right, lower), _LIGHT, 1, cv2.LINE_AA, _BITS)


def _draw_path(picture: Picture, places: NDArray[np.float64], path: NDArray[np.float64], colour: Sequence[int] | None,
               width: int = 1) -> None:
    """Draw a path at its places in the picture, each step in the given colour or in that of its direction."""
    import cv2

    moves = np.diff(path, axis=0)
    directions = moves / np.maximum(np.hypot(*moves.T), 1e-9)[:, None]
    colours = wheel(0.9 * directions).tolist() if colour is None else [colour] * len(moves)
    lines = _fixed(places)
    for start, end, bgr in zip(lines, lines[1:], colours, strict=False):
        cv2.line(picture, start.tolist(), end.tolist(), bgr, width, cv2.LINE_AA, _BITS)
        if width > 1:
            cv2.circle(picture, start.tolist(), (width + 1) << _BITS, bgr, -1, cv2.LINE_AA, _BITS)
    cv2.circle(picture, lines[-1].tolist(), (width + 2) << _BITS, colours[-1], -1, cv2.LINE_AA, _BITS)


def _enlarged_paths(paths: Sequence[tuple[NDArray[np.float64], Sequence[int] | None]], shape: tuple[int, int]
                    ) -> Picture:
    """Return the paths on a scale of their own, which a bar shows."""
    import cv2

    picture = np.full((*shape, 3), _FIELD, np.uint8)
    room = np.array(shape[::-1]) - 2 * np.array([_GAP, 2 * _GAP])
    every = np.concatenate([path for path, _ in paths])
    low, high = every.min(axis=0), every.max(axis=0)
    zoom = float(min((room / np.maximum(high - low, 1e-9)).min(), 64))
    middle = np.array(shape[::-1]) / 2
    for path, colour in paths:
        _draw_path(picture, (path - (low + high) / 2) * zoom + middle, path, colour, 2)
    for n, text in enumerate(["grey: in the picture", "coloured: without camera motion"] if len(paths) > 1 else []):
        _write(picture, text, (_TEXT, round((1.5 + 2 * n) * _TEXT)), _TEXT, shape[1] - 2 * _TEXT)
    length = _rounded_up(60 / zoom)
    right, y = shape[1] - _TEXT, shape[0] - _TEXT
    left = right - round(length * zoom)
    cv2.line(picture, (left, y), (right, y), _LIGHT, 2)
    _write(picture, f"{length:g} px", (left, y - _TEXT), _TEXT, shape[1])
    return picture


def _roses(values: NDArray[np.float64], *, in_colour: bool) -> Picture:
    """Return a square with a rose for each cell of a patch; values (x cells, y cells, bins) are shares of the longest.

    A ninth bin is drawn as a ring.
    """
    import cv2

    picture = np.full((_BLOCK, _BLOCK, 3), _FIELD, np.uint8)
    cells, _, bins = values.shape
    side = _BLOCK / cells
    for n in range(1, cells):
        picture[round(n * side)] = picture[:, round(n * side)] = _LINE
    turn = np.arange(8) * np.pi / 4
    petal = turn[:, None] + np.linspace(-0.3, 0.3, 7)  # leaves some room between neighbours
    arcs = np.stack([np.cos(petal), np.sin(petal)], axis=-1) * (0.46 * side)
    directions = np.stack([np.cos(turn), np.sin(turn)], axis=-1)
    colours = wheel(directions).tolist() if in_colour else [_LIGHT] * 8
    for x in range(cells):
        for y in range(cells):
            centre = (np.array([x, y]) + 0.5) * side
            for value, arc, colour in zip(values[x, y], arcs, colours, strict=False):
                shape = _fixed(np.vstack([centre, centre + value * arc]))
                cv2.fillConvexPoly(picture, shape, colour, cv2.LINE_AA, _BITS)
            if bins == 9:
                radius = round(values[x, y, 8] * 0.46 * side * (1 << _BITS))
                cv2.circle(picture, _fixed(centre).tolist(), radius, _LIGHT, 1, cv2.LINE_AA, _BITS)
    return picture


class _Trails:
    """Tracks as paint that fades: a step is drawn once, and what was drawn before becomes fainter in every frame."""

    def __init__(self, shape: tuple[int, int], zoom: float, palette: Picture, opacity: float) -> None:
        self._zoom = zoom
        self._palette = palette.tolist()
        self._opacity = opacity
        self._width = max(1, round(min(shape) / 400))
        self._paint = np.zeros((*shape, 3), np.uint8)
        self._strength = np.zeros(shape, np.uint8)
        self._fade = np.floor(np.arange(256) * _FADE).astype(np.uint8)

    def draw(self, picture: Picture, steps: NDArray[np.float64], colours: NDArray[np.intp]) -> Picture:
        """Add the latest step of each track, (n, 2, 2) points, and return the picture under all that is visible."""
        import cv2

        # OpenCV draws at fixed-point coordinates; those of an enlarged pixel refer to its centre.
        lines = _fixed((steps + 0.5) * self._zoom - 0.5)
        groups = [(self._palette[colour], lines[colours == colour]) for colour in np.unique(colours)]
        # Colour and soft edge are drawn apart, the colour wider, so that the edge mixes it with nothing but the frame.
        colour, area, edge = np.zeros_like(self._paint), np.zeros_like(self._strength), np.zeros_like(self._strength)
        for bgr, some in groups:
            cv2.polylines(colour, some, False, bgr, self._width + 3, cv2.LINE_8, _BITS)
        cv2.polylines(area, lines, False, 255, self._width + 3, cv2.LINE_8, _BITS)
        cv2.polylines(edge, lines, False, 255, self._width, cv2.LINE_AA, _BITS)
        cv2.copyTo(colour, area, self._paint)
        self._strength = np.maximum(cv2.LUT(self._strength, self._fade), cv2.bitwise_and(edge, area))
        weight = self._strength.astype(np.float32) * np.float32(self._opacity / 255)
        picture = cv2.blendLinear(self._paint, picture, weight, 1 - weight)
        for bgr, some in groups:
            dots = np.repeat(some[:, 1:], 2, axis=1)
            cv2.polylines(picture, dots, False, bgr, 2 * self._width + 1, cv2.LINE_AA, _BITS)
        return picture


def _shades(motion: NDArray[np.float64]) -> tuple[NDArray[np.intp], Picture]:
    """Return for motions (N, 2), in units of the speed of full colour, the number of a shade, and the shades (S, 3).

    They are few, so that many tracks are drawn at once; none is so pale that it could be taken for background.
    """
    turn = np.arctan2(motion[:, 1], motion[:, 0]) / (2 * np.pi)
    direction = np.rint(turn * _DIRECTIONS).astype(np.intp) % _DIRECTIONS
    level = np.minimum(np.hypot(motion[:, 0], motion[:, 1]) * _LEVELS, _LEVELS - 1).astype(np.intp)
    angle = np.arange(_DIRECTIONS) * (2 * np.pi / _DIRECTIONS)
    strength = _strength((np.arange(_LEVELS)[:, None] + 0.5) / _LEVELS)
    palette = wheel(np.stack([strength * np.cos(angle), strength * np.sin(angle)], axis=-1))
    return level * _DIRECTIONS + direction, palette.reshape(-1, 3)


def _strength(speed: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.4 + 0.5 * np.minimum(speed, 1)


def _rounded_up(speed: float) -> float:
    """Return the next larger of 1, 2, 5, 10, 20, ..., easy to read; not less, or noise would get full colour."""
    power = 10.0 ** math.floor(math.log10(max(speed, 1.0)))
    return next((digit * power for digit in (1, 2, 5) if digit * power >= speed), 10 * power)


def _legend(text: str, short_side: int, strength: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Picture:
    """Return the colour wheel, with the strength of colour of each share of the largest speed, beside a text."""
    import cv2

    radius = max(short_side // 16, 20)
    margin = radius // 3
    y, x = np.mgrid[-radius:radius + 1, -radius:radius + 1] / radius
    speed = np.hypot(x, y)
    scale = strength(speed) / np.maximum(speed, 1e-9)
    colours = wheel(np.stack([x * scale, y * scale], axis=-1)) * (speed <= 1)[:, :, None]
    size = max(radius / 70, _READABLE / _CAPITALS)
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
    side = 2 * radius + 1
    legend = np.full((side + 2 * margin, side + 3 * margin + width, 3), _DARK, np.uint8)
    np.copyto(legend[margin:-margin, margin:margin + side], colours, where=(speed <= 1)[:, :, None])
    cv2.putText(legend, text, (side + 2 * margin, (legend.shape[0] + height) // 2), cv2.FONT_HERSHEY_SIMPLEX, size,
                _LIGHT, 1, cv2.LINE_AA)
    return legend


def _write_picture(path: str | os.PathLike[str], picture: Picture) -> None:
    import cv2

    with replacing(path) as file:
        file.write(cv2.imencode(".png", picture)[1].data)


def write_video(path: str | os.PathLike[str], pictures: Iterator[Picture], fps: float) -> None:
    """Write pictures as H.264 in an mp4 file that browsers play: 4:2:0, even size, index first."""
    import av
    import cv2
    from av.video.reformatter import ColorRange, Colorspace

    rate = Fraction(min(max(fps, 1.0), 240.0)).limit_denominator(1001)  # headers of odd files say anything
    with replacing(path) as file:
        try:
            with av.open(f"file:{file.name}", "w", format="mp4", options={"movflags": "+faststart"}) as container:
                stream = container.add_stream("libx264", rate=rate, options=_X264)
                stream.pix_fmt = "yuv420p"
                context = stream.codec_context
                # Said outright, because players guess by the size which of two conversions to RGB is meant.
                context.colorspace = context.color_primaries = context.color_trc = 1
                context.color_range = ColorRange.MPEG
                for number, picture in enumerate(pictures):
                    height, width = picture.shape[:2]
                    picture = cv2.copyMakeBorder(picture, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
                    if number == 0:
                        stream.height, stream.width = picture.shape[:2]
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24").reformat(
                        format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)))
                container.mux(stream.encode())
        except av.error.FFmpegError as error:
            if isinstance(error, OSError):
                raise
            raise OutputError(f"{os.fspath(path)} cannot be written as H.264 ({error}).") from error
