"""Frames of a video file, an image folder or an array: the only place that decodes."""

from __future__ import annotations

import glob
import hashlib
import math
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

import numpy as np

from idt._util.text import natural_key
from idt.errors import ParameterError, VideoError

Source: TypeAlias = str | os.PathLike[str] | np.ndarray

IMAGE_SUFFIXES = frozenset({".bmp", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff",
                            ".webp"})


@dataclass(frozen=True, eq=False)
class Frame:
    """One decoded picture.

    Attributes
    ----------
    index : int
        Index in the video, counted in decoded frames from 0.
    time_s : float
        Time stamp in seconds from the first frame of the video, NaN when unknown.
    grey : ndarray, shape (H, W), uint8
        Luma of the decoded BGR picture, C-contiguous; not to be written to.
    bgr : ndarray, shape (H, W, 3), uint8, or None
        The picture in colour, when it was asked for.
    """

    index: int
    time_s: float
    grey: np.ndarray
    bgr: np.ndarray | None = None


def frames(source: Source, *, start: int = 0, end: int | None = None, step: int = 1, short_side: int | None = None,
           colour: bool = False, threads: int = 1) -> FrameReader:
    """Open a video and return an iterator over its frames.

    Parameters
    ----------
    source : path or ndarray
        Video file, folder of images, glob of images (natural order: ``frame2`` before ``frame10``), or an array of
        shape (T, H, W) or (T, H, W, 3), uint8, RGB.
    start, end : int
        First and last frame (inclusive), as indices in the video; decoding stops after `end`.
    step : int
        Yield every `step`-th frame from `start` on.
    short_side : int, optional
        Resize so that the shorter side has this many pixels; enlarging is allowed.
    colour : bool
        Also fill `Frame.bgr`.
    threads : int
        Threads of the decoder inside one frame. Frame threads are never used: with them the concealment of damaged
        frames varies from run to run.

    Returns
    -------
    FrameReader
        Its grey frames equal, byte for byte, those of ``cv2.VideoCapture`` followed by ``cv2.COLOR_BGR2GRAY``.

    Raises
    ------
    VideoError
        The source cannot be used; while reading: no frame at all, or a frame of another size than the first.
    ParameterError
        A number is out of its limits.
    """
    for name, value, low in (("start", start, 0), ("end", end, start), ("step", step, 1),
                             ("short_side", short_side, 1), ("threads", threads, 1)):
        if value is not None and value < low:
            raise ParameterError(f"{name} is {value}: it must be at least {low}.")
    return FrameReader(_open(source, threads), start, end, step, short_side, colour)


def span_length(total: int, start: int, end: int | None, step: int = 1) -> int:
    """Return how many of `total` frames are processed: every `step`-th from `start` to `end`, inclusive."""
    last = total - 1 if end is None else min(end, total - 1)
    return max((last - start) // step + 1, 0)


def frames_were(number: int, kind: str = "") -> str:
    """Return the subject of a sentence about so many frames, with its verb."""
    return f"1 {kind}frame was" if number == 1 else f"{number} {kind}frames were"


def count_frames(source: Source) -> int:
    """Return the number of frames that can be decoded; container headers are not trusted."""
    pictures = _open(source, threads=1)
    try:
        count = sum(1 for _ in pictures)
    finally:
        pictures.close()
    if count == 0:
        raise VideoError(f"{pictures.name}: no frame could be decoded.")
    return count


def identity(source: Source, *, content: bool = True) -> dict[str, Any]:
    """Return what identifies a video: ``name``, ``size`` in bytes, ``mtime_ns`` and ``sha256``.

    The hash covers the bytes of a file; names and bytes of the images of a folder, in order; shape and bytes of an
    array (whose time stamp is None). With ``content=False`` it is None and no file is read.
    """
    found = _find(source)
    if isinstance(found, np.ndarray):
        digest = hashlib.sha256(repr(found.shape).encode())
        for picture in found if content else ():
            digest.update(np.ascontiguousarray(picture).data)
        return {"name": "array", "size": found.nbytes, "mtime_ns": None,
                "sha256": digest.hexdigest() if content else None}
    assert not isinstance(source, np.ndarray)
    paths = found if isinstance(found, list) else [found]
    try:
        stats = [path.stat() for path in paths]
        if isinstance(found, list):
            digest = hashlib.sha256()
            for path in found if content else ():
                digest.update(f"{path.name}\0{path.stat().st_size}\0".encode(errors="surrogateescape"))
                digest.update(path.read_bytes())
        elif content:
            with found.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256")
    except OSError as error:
        raise VideoError(f"{os.fspath(source)}: cannot be read ({error.strerror}).") from error
    return {"name": Path(source).name or str(Path(source).resolve()), "size": sum(s.st_size for s in stats),
            "mtime_ns": max(s.st_mtime_ns for s in stats), "sha256": digest.hexdigest() if content else None}


def content(source: Source, meta: Mapping[str, Any], *, verify: bool = False) -> str:
    """Return the SHA-256 of a video; unless `verify`, that in the meta of what was made of it when it has not changed.

    It has not when its size and time stamp are those of the ``video`` of the meta.
    """
    now, then = identity(source, content=False), meta.get("video") or {}
    unchanged = (now["size"], now["mtime_ns"]) == (then.get("size"), then.get("mtime_ns"))
    return str(then.get("sha256") if unchanged and not verify else identity(source)["sha256"])


def is_of(video: Mapping[str, Any], source: Source) -> bool:
    """Tell whether a video is that of the ``video`` of a meta, by its content; where that is not known, it may be."""
    array = isinstance(source, np.ndarray)
    if not video.get("sha256") or array != (video.get("mtime_ns") is None):  # an array has other bytes than its file
        return True
    return content(source, {"video": video}, verify=array) == video["sha256"]


class FrameReader:
    """Iterator over the frames of a video and context manager; made by `frames`.

    Attributes
    ----------
    fps : float or None
        Average frame rate that the container states.
    width, height : int or None
        Size of the yielded frames, None before the first.
    scale : tuple of float, or None
        (x, y) size of the yielded frames over the size in the video, None before the first.
    total : int or None
        Number of frames that the container promises: good for a progress bar, not for arithmetic.
    stated_size : tuple of int, or None
        Height and width of the frames as the container states them, before any rotation and resize.
    decoded : int
        Frames decoded so far, skipped ones included.
    """

    def __init__(self, pictures: _Pictures, start: int, end: int | None, step: int, short_side: int | None,
                 colour: bool) -> None:
        self.fps = pictures.fps
        self.total = pictures.total
        self.stated_size = pictures.size
        self.width: int | None = None
        self.height: int | None = None
        self.scale: tuple[float, float] | None = None
        self.decoded = 0
        self._pictures = pictures
        self._frames = self._read(start, end, step, short_side, colour)

    @property
    def damaged(self) -> int:
        """Frames that the decoder had to conceal, and packets that it could not use at all, so far."""
        return self._pictures.damaged

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Frame:
        return next(self._frames)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; further iteration yields nothing."""
        self._frames.close()
        self._pictures.close()

    def _read(self, start: int, end: int | None, step: int, short_side: int | None,
              colour: bool) -> Generator[Frame, None, None]:
        import cv2

        first: tuple[int, ...] | None = None
        size = (0, 0)
        try:
            for index, (time_s, picture) in enumerate(self._pictures):
                self.decoded = index + 1
                if index >= start and (index - start) % step == 0:
                    image = picture()
                    if first is None:
                        first = image.shape[:2]
                        size = _resized(first, short_side)
                        self.height, self.width = size
                        self.scale = (size[1] / first[1], size[0] / first[0])
                    elif image.shape[:2] != first:
                        raise VideoError(f"{self._pictures.name}: frame {index} is {image.shape[1]}x{image.shape[0]} "
                                         f"pixels, but the frames before it are {first[1]}x{first[0]}; split the "
                                         "video where its size changes.")
                    grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
                    bgr = (image if image.ndim == 3 else cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)) if colour else None
                    if size != first:
                        method = cv2.INTER_AREA if size < first else cv2.INTER_LINEAR
                        grey = cv2.resize(grey, size[::-1], interpolation=method)
                        bgr = cv2.resize(bgr, size[::-1], interpolation=method) if bgr is not None else None
                    yield Frame(index, time_s, grey, bgr)
                if index == end:
                    return
            if self.decoded == 0:
                raise VideoError(f"{self._pictures.name}: no frame could be decoded.")
        finally:
            self._pictures.close()


def _resized(size: tuple[int, ...], short_side: int | None) -> tuple[int, int]:
    """Return (height, width) after the resize; the aspect ratio is kept up to rounding."""
    height, width = size
    if short_side is None:
        return height, width
    factor = short_side / min(height, width)
    return round(height * factor), round(width * factor)


# A source of pictures: iterating yields (time in s, function that gives the picture), so that frames that are
# only counted or skipped are never converted.
_Picture: TypeAlias = tuple[float, Callable[[], np.ndarray]]


class _Pictures:
    """What the three kinds of sources have in common."""

    fps: float | None = None
    total: int | None = None
    size: tuple[int, int] | None = None
    damaged = 0

    def __init__(self, name: str) -> None:
        self.name = name

    def __iter__(self) -> Iterator[_Picture]:
        raise NotImplementedError

    def close(self) -> None:
        pass


class _Array(_Pictures):
    def __init__(self, array: np.ndarray) -> None:
        super().__init__("array")
        self.total = len(array)
        self.size = array.shape[1], array.shape[2]
        self._array = array

    def __iter__(self) -> Iterator[_Picture]:
        for picture in self._array:
            yield math.nan, partial(self._bgr, picture)

    @staticmethod
    def _bgr(picture: np.ndarray) -> np.ndarray:
        import cv2

        picture = np.ascontiguousarray(picture)
        return picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)


class _Images(_Pictures):
    def __init__(self, name: str, paths: list[Path]) -> None:
        super().__init__(name)
        self.total = len(paths)
        self._paths = paths

    def __iter__(self) -> Iterator[_Picture]:
        for path in self._paths:
            yield math.nan, partial(self._bgr, path)

    @staticmethod
    def _bgr(path: Path) -> np.ndarray:
        import cv2

        try:
            # Bytes instead of a file name: cv2.imread cannot open every name on every system.
            image: np.ndarray | None = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
        except OSError as error:
            raise VideoError(f"{path}: cannot be read ({error.strerror}).") from error
        except cv2.error:  # empty file, or a header that promises too many pixels
            image = None
        if image is None:
            raise VideoError(f"{path}: not an image that can be read.")
        return image


class _VideoFile(_Pictures):
    def __init__(self, path: Path, threads: int) -> None:
        import av
        from av.stream import Disposition
        from av.video.reformatter import VideoReformatter

        super().__init__(str(path))
        try:
            # "file:" keeps names with a colon from being taken for a protocol; the whitelist keeps playlists from
            # opening anything over a network; text that is not UTF-8 in the metadata, which is of no interest here,
            # was an error until PyAV 19, which does not know the option any more.
            lenient: Any = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
            self._container = av.open(f"file:{path}", container_options={"protocol_whitelist": "file"}, **lenient)
        except (av.error.FFmpegError, ValueError) as error:
            raise VideoError(f"{path}: not a video, or cut off or damaged ({_reason(error)}).") from error
        streams = [s for s in self._container.streams.video if not s.disposition & Disposition.attached_pic]
        if not streams:
            kinds = ", ".join(s.type for s in self._container.streams) or "none"
            self.close()
            raise VideoError(f"{path}: there is no video in it (streams: {kinds}).")
        self._stream = streams[0]
        if not self._stream.codec_context:  # None where the codec is unknown, whatever the stubs say
            self.close()
            raise VideoError(f"{path}: there is no decoder for its video format; convert it, for example to H.264.")
        self._stream.thread_type = "SLICE"
        self._stream.codec_context.thread_count = threads
        self._reformatter = VideoReformatter()
        rate = self._stream.average_rate or self._stream.guessed_rate
        self.fps = float(rate) if rate else None
        height, width = self._stream.codec_context.height, self._stream.codec_context.width
        self.size = (height, width) if height and width else None
        duration = self._container.duration
        if self._stream.frames > 0:
            self.total = self._stream.frames
        elif self.fps and duration and duration > 0:
            self.total = round(duration / av.time_base * self.fps) or None

    def close(self) -> None:
        self._container.close()

    def __iter__(self) -> Iterator[_Picture]:
        # AVI has no presentation stamps: with B-frames, pts is the place in the file, dts runs in display order.
        stamp = "dts" if self._container.format.name == "avi" else "pts"
        base, first, time_s = self._stream.time_base, None, math.nan
        for index, frame in enumerate(self._decode()):
            ticks = getattr(frame, stamp)
            first = ticks if first is None else first
            if ticks is not None and base is not None:
                time_s = float((ticks - first) * base)
            elif index:  # the frames that the decoder still holds at the end of an AVI
                time_s += 1 / self.fps if self.fps else math.nan
            yield time_s, partial(self._bgr, frame, index)

    def _decode(self) -> Iterator[Any]:
        import av

        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError as error:
                if isinstance(error, OSError):
                    raise VideoError(f"{self.name}: reading failed ({_reason(error)}).") from error
                self.damaged += 1  # the container is broken here: what came before is used
                return
            if packet is None:
                return
            try:
                decoded: Iterable[Any] = packet.decode()
            except av.error.FFmpegError:
                self.damaged += 1
                continue
            for frame in decoded:
                self.damaged += frame.is_corrupt
                yield frame

    def _bgr(self, frame: Any, index: int) -> np.ndarray:
        import av
        import cv2
        from av.video.reformatter import Interpolation

        try:
            # Bicubic is what OpenCV's reader asks for; it matters for odd heights and more than 8 bits.
            picture = self._reformatter.reformat(frame, format="bgr24", interpolation=Interpolation.BICUBIC, threads=1)
            image: np.ndarray = picture.to_ndarray()
        except (av.error.FFmpegError, ValueError) as error:
            raise VideoError(f"{self.name}: frame {index} cannot be converted from {frame.format.name} to BGR "
                             f"({_reason(error)}).") from error
        turn = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}
        angle = frame.rotation % 360
        return cv2.rotate(image, turn[angle]) if angle in turn else image


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _open(source: Source, threads: int) -> _Pictures:
    found = _find(source)
    if isinstance(found, np.ndarray):
        return _Array(found)
    if isinstance(found, list):
        return _Images(str(source), found)
    return _VideoFile(found, threads)


def _find(source: Source) -> Path | list[Path] | np.ndarray:
    """Return the video file, the images in order, or the array that `source` stands for."""
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim not in (3, 4) or (source.ndim == 4 and source.shape[3] != 3):
            raise VideoError(f"The array has type {source.dtype} and shape {source.shape}: give uint8 of shape "
                             "(T, H, W) for grey or (T, H, W, 3) for RGB.")
        if source.size == 0:
            raise VideoError(f"The array has shape {source.shape}: there is no frame in it.")
        return source
    if not isinstance(source, (str, os.PathLike)):
        raise VideoError(f"A video cannot be read from {type(source).__name__}: give a path or a NumPy array.")
    path = Path(source)
    try:
        if path.is_dir():
            images = _images(path.iterdir())
            if not images:
                raise VideoError(f"{path}: the folder has no images; give a video file or a folder of images "
                                 f"({', '.join(sorted(IMAGE_SUFFIXES))}).")
            return images
        if not path.exists():
            if not glob.has_magic(str(path)):
                raise VideoError(f"{path}: there is no such file or folder.")
            images = _images(map(Path, glob.glob(str(path))))
            if not images:
                raise VideoError(f"{path}: no image matches; allowed are {', '.join(sorted(IMAGE_SUFFIXES))}.")
            return images
        if not path.is_file():
            raise VideoError(f"{path}: not a file or folder.")
        if path.stat().st_size == 0:
            raise VideoError(f"{path}: the file is empty.")
    except OSError as error:
        raise VideoError(f"{path}: cannot be read ({error.strerror}).") from error
    return [path] if path.suffix.lower() in IMAGE_SUFFIXES else path


def _images(paths: Iterable[Path]) -> list[Path]:
    """Return the image files among `paths`, numbers in their names in order of value."""
    return sorted((p for p in paths if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")
                   and p.is_file()), key=lambda p: (natural_key(str(p)), str(p)))
