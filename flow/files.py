"""Optical flow in files: single fields (.flo, 16-bit KITTI .png), and the flows of a video as a folder or one file.

A folder holds images (or .flo files) numbered in order and a ``meta.json``; one file is an ``.npz`` or ``.h5`` of
arrays. `open_writer` makes them, `open_flows` reads them back as pixels, whatever the format.
"""

from __future__ import annotations

import contextlib
import json
import math
import operator
import os
import re
import struct
import tempfile
import threading
import zipfile
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO, Self

import cv2
import numpy as np
import numpy.typing as npt

from idt._util.npz import stored_arrays
from idt.errors import FormatError, IdtError, ParameterError

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float32]
ByteArray = npt.NDArray[np.uint8]
FilePath = str | os.PathLike[str]

FORMAT = 1  # version of what `open_writer` makes

# Format → extension of the flows and of the pictures in a folder; None: one file of arrays.
FORMATS: dict[str, tuple[str, str] | None] = {
    "jpg": ("jpg", "jpg"), "png": ("png", "png"), "kitti": ("png", "png"), "flo": ("flo", "png"),
    "npz": None, "h5": None}
NAMINGS = {"dense_flow": 1, "denseflow": 0}  # number of the first file of each kind

# Kind → how its file names begin. None of them is found by `flow_x_*`, `flow_y_*` or `img_*` but what is meant, as
# the loaders of two-stream networks count the frames of a video by these patterns.
FLOWS = {"flow": "flow", "flow_backward": "back", "warped": "warp", "warped_backward": "warpback"}
PICTURES = {"image": "img", "difference": "diff", "colours": "colour"}
STACKS = ("stack", "stack_backward", "stack_warped", "stack_warped_backward")  # only in files of arrays
KINDS = (*FLOWS, *PICTURES, *STACKS)

_EIGHT_BIT = ("jpg", "png")
_KITTI_UNIT, _KITTI_ZERO = 64.0, 32768.0  # steps in a pixel; the number that stands for no motion
_KITTI_LIMIT = 512.0
_HALF_LIMIT = 65504.0  # largest float16
_MAGIC = b"PIEH"  # 202021.25 as a little-endian float32
_BLOCK = 1 << 20
_NAME = re.compile(rf"({'|'.join((*FLOWS.values(), *PICTURES.values()))})_(?:([xy])_)?([0-9]{{1,12}})\.(jpg|png|flo)")


# 8-bit images

def quantise(flow: npt.ArrayLike, bound: float) -> ByteArray:
    """Return flow as 8-bit numbers, as the flow images of two-stream networks hold it.

    Parameters
    ----------
    flow : array_like, shape (H, W, 2)
        Pixels; what is beyond ±bound (infinity too) becomes ±bound.
    bound : float
        Above 0, pixels; 20 in most published models.

    Returns
    -------
    ndarray, shape (H, W, 2), uint8
        255 (clip(v, ±bound) + bound) / (2 bound), computed in float32, rounded to nearest, ties to even: no motion is
        128.

    Raises
    ------
    ParameterError
        The shape is another, a value is NaN, or the bound is not a finite number above 0.
    """
    _check_bound(bound)
    values = np.clip(_field("flow", flow), -float(bound), float(bound))
    numbers = np.multiply(values, np.float32(127.5 / bound), dtype=np.float32)
    numbers += np.float32(127.5)
    if np.isnan(numbers.min()):
        raise ParameterError("flow holds NaN: 8-bit images cannot; replace it by a number first.")
    np.rint(numbers, out=numbers)
    return numbers.astype(np.uint8)


def dequantise(images: npt.ArrayLike, bound: float) -> FloatArray:
    """Return the flow that 8-bit numbers stand for; the inverse of `quantise` up to half a step, bound / 255.

    Parameters
    ----------
    images : array_like of uint8, any shape
    bound : float
        What `quantise` was given, pixels.

    Returns
    -------
    ndarray, the same shape, float32
        2 bound v / 255 − bound, pixels.

    Raises
    ------
    ParameterError
        The images are not uint8, or the bound is not a finite number above 0.
    """
    _check_bound(bound)
    numbers = np.asarray(images)
    if numbers.dtype != np.uint8:
        raise ParameterError(f"images are of type {numbers.dtype}: they must be uint8, as `quantise` returns them.")
    values = np.multiply(numbers, np.float32(bound / 127.5), dtype=np.float32)
    values -= np.float32(bound)
    return values


def _check_bound(bound: float) -> None:
    if not (0 < bound < math.inf):
        raise ParameterError(f"bound is {bound}: it must be a finite number of pixels above 0.")


def _field(name: str, flow: npt.ArrayLike) -> Array:
    """Return the flow as an array of real numbers, once its shape is right."""
    array = np.asarray(flow)
    if array.ndim != 3 or array.shape[2] != 2 or not array.size:
        raise ParameterError(f"{name} has the shape {array.shape}: it must be (H, W, 2), x then y, with at least one "
                             "pixel.")
    if array.dtype.kind not in "fiu":
        raise ParameterError(f"{name} is of type {array.dtype}: it must hold real numbers.")
    return array


# Single fields

def read_flo(path: FilePath) -> FloatArray:
    """Read a Middlebury flow file (Baker et al., IJCV 2011).

    Returns
    -------
    ndarray, shape (H, W, 2), float32
        Pixels, x then y. Unknown pixels keep the value that they have in the file, above 1e9 by convention.

    Raises
    ------
    FormatError
        The file is missing, is no flow file, or its length does not fit the size in its header.
    """
    with _reading(path), open(path, "rb") as file:
        header = file.read(12)
        if header[:4] != _MAGIC:
            raise FormatError(f"{os.fspath(path)} is no .flo file: it does not begin with PIEH.")
        if len(header) < 12:
            raise FormatError(f"{os.fspath(path)} is cut short within its header: make it or copy it again.")
        width, height = struct.unpack("<ii", header[4:])
        if width < 1 or height < 1:
            raise FormatError(f"{os.fspath(path)} says that it is {width}x{height}: both must be at least 1.")
        expected, length = 12 + 8 * width * height, os.fstat(file.fileno()).st_size
        if length != expected:
            raise FormatError(f"{os.fspath(path)} has {length} bytes where its header, {width}x{height}, makes "
                              f"{expected}: it is damaged or incomplete; make it or copy it again.")
        return np.fromfile(file, "<f4", 2 * width * height).reshape(height, width, 2).astype(np.float32, copy=False)


def write_flo(file: FilePath | BinaryIO, flow: npt.ArrayLike) -> None:
    """Write a Middlebury flow file: float32, exact.

    Parameters
    ----------
    file : path or binary file
    flow : array_like, shape (H, W, 2)
        Pixels; mark unknown pixels by values above 1e9.

    Raises
    ------
    ParameterError
        The shape is another.
    OSError
        The file cannot be written.
    """
    array = _field("flow", flow)
    height, width = array.shape[:2]
    _write(file, struct.pack("<4sii", _MAGIC, width, height) + array.astype("<f4").tobytes())


def read_kitti(path: FilePath) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Read a 16-bit flow image of the KITTI benchmark: red is x, green is y, blue is 0 where the flow is unknown.

    Returns
    -------
    flow : ndarray, shape (H, W, 2), float32
        Pixels, (number − 32768) / 64; 0 where it is unknown.
    valid : ndarray, shape (H, W), bool

    Raises
    ------
    FormatError
        The file is missing or damaged, or no colour image of 16 bits.
    """
    image = _decoded(path, cv2.IMREAD_UNCHANGED)
    if image.dtype != np.uint16 or image.ndim != 3 or image.shape[2] != 3:
        raise FormatError(f"{os.fspath(path)} is no flow image of KITTI: it must be a colour image of 16 bits.")
    valid = image[:, :, 0] != 0
    flow = (image[:, :, :0:-1].astype(np.float32) - np.float32(_KITTI_ZERO)) / np.float32(_KITTI_UNIT)
    flow[~valid] = 0
    return flow, valid


def write_kitti(file: FilePath | BinaryIO, flow: npt.ArrayLike, valid: npt.ArrayLike | None = None) -> None:
    """Write a 16-bit flow image of the KITTI benchmark, see `read_kitti`.

    Parameters
    ----------
    file : path or binary file
    flow : array_like, shape (H, W, 2)
        Pixels; rounded to 1/64 (ties to even), and clipped to −512 and 511.984.
    valid : array_like of bool, shape (H, W), optional
        Where the flow is known; default everywhere.

    Raises
    ------
    ParameterError
        The shapes are others, or a valid value is NaN.
    OSError
        The file cannot be written.
    """
    array = _field("flow", flow)
    known = np.ones(array.shape[:2], bool) if valid is None else np.asarray(valid)
    if known.shape != array.shape[:2] or known.dtype != bool:
        raise ParameterError(f"valid has the shape {known.shape} and type {known.dtype}: it must be bool and as large "
                             f"as the flow, {array.shape[:2]}.")
    numbers = np.clip(np.where(known[:, :, None], array, 0), -_KITTI_LIMIT, _KITTI_LIMIT).astype(np.float32)
    numbers = np.rint(numbers * np.float32(_KITTI_UNIT)) + np.float32(_KITTI_ZERO)
    if np.isnan(numbers.min()):
        raise ParameterError("flow holds NaN where it is valid: leave these pixels out of the mask `valid`.")
    image = np.zeros((*known.shape, 3), np.uint16)
    np.clip(numbers[:, :, ::-1], 0, 65535, out=image[:, :, 1:], casting="unsafe")
    image[:, :, 0] = known
    image[~known] = 0
    _write(file, _encoded("png", image))


def _write(file: FilePath | BinaryIO, content: bytes | memoryview) -> None:
    if isinstance(file, (str, os.PathLike)):
        with open(file, "wb") as opened:
            opened.write(content)
    else:
        file.write(content)


def _encoded(extension: str, image: Array, quality: int = 95) -> memoryview:
    parameters = [cv2.IMWRITE_JPEG_QUALITY, quality] if extension == "jpg" else []
    try:
        done, content = cv2.imencode(f".{extension}", image, parameters)
    except cv2.error:
        done = False
    if not done:
        height, width = image.shape[:2]
        raise ParameterError(f"OpenCV cannot encode an image of {width}x{height} pixels as {extension}: choose another "
                             "format or a smaller size.")
    return content.data


def _decoded(path: FilePath, flag: int) -> Array:
    """Return the image in a file; an incomplete one, which OpenCV would fill up with grey, is refused."""
    with _reading(path):
        content = Path(path).read_bytes()
        whole = (content.endswith(b"IEND\xaeB`\x82") if content.startswith(b"\x89PNG")
                 else content.rstrip(b"\0").endswith(b"\xff\xd9"))
        image = cv2.imdecode(np.frombuffer(content, np.uint8), flag) if whole else None
        if image is None:
            raise FormatError(f"{os.fspath(path)} is damaged or incomplete: make it again.")
        return image


@contextlib.contextmanager
def _reading(path: FilePath) -> Iterator[None]:
    """Turn whatever a missing, damaged or hostile file makes the readers raise into a `FormatError`."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise FormatError(f"{exc.filename or os.fspath(path)} does not exist.") from exc
    except IdtError:
        raise
    except OSError as exc:
        raise FormatError(f"{os.fspath(path)} cannot be read: {exc.strerror or exc}.") from exc
    except Exception as exc:  # zipfile, json, OpenCV and NumPy's header parser raise nearly anything on damaged bytes
        raise FormatError(f"{os.fspath(path)} is damaged or incomplete ({exc}): make it again.") from exc


# Writing the flows of a video

def open_writer(path: FilePath, *, format: str, height: int, width: int, bound: float = 20.0, quality: int = 95,
                naming: str = "dense_flow") -> Writer:
    """Begin the flows of a video.

    Parameters
    ----------
    path : path
        An existing empty folder for jpg, png, kitti and flo; the file for npz and h5. Nothing here is atomic: give a
        temporary path and rename it.
    format : {"jpg", "png", "kitti", "flo", "npz", "h5"}
    height, width : int
        Size of all arrays, pixels.
    bound : float
        Pixels; jpg and png hold ±bound, see `quantise`.
    quality : int
        Of jpg, 1 to 100.
    naming : {"dense_flow", "denseflow"}
        Whether the numbers in file names begin with 1 or with 0.

    Raises
    ------
    ParameterError
        A value is not allowed, or the format is h5 and h5py is not installed.
    OSError
        The file cannot be written.
    """
    if format not in FORMATS:
        raise ParameterError(f"The format is {format!r}: allowed are {', '.join(FORMATS)}.")
    if naming not in NAMINGS:
        raise ParameterError(f"naming is {naming!r}: allowed are {', '.join(NAMINGS)}.")
    if height < 1 or width < 1:
        raise ParameterError(f"The size is {width}x{height}: both must be at least 1.")
    if not 1 <= quality <= 100:
        raise ParameterError(f"quality is {quality}: it must be from 1 to 100.")
    _check_bound(bound)
    facts: dict[str, Any] = {"encoding": format, "height": height, "width": width}
    if format == "npz":
        return _NpzWriter(path, facts)
    if format == "h5":
        return _H5Writer(path, facts)
    if format in _EIGHT_BIT:
        facts["bound"] = float(bound)
    if format == "jpg":
        facts["quality"] = quality
    return _FolderWriter(path, {**facts, "naming": naming})


class Writer(ABC):
    """What `open_writer` returns: takes arrays one by one, and at the end the facts about them.

    As a context manager it lets go of its files on the way out; without `close` the output is not complete.
    """

    def __init__(self, path: FilePath, facts: dict[str, Any]) -> None:
        self.path = Path(path)
        self._facts = facts
        self._size = facts["height"], facts["width"]
        self._numbers: dict[str, set[int]] = {}
        self._clipped: dict[str, int] = {}
        self._channels: dict[str, int] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._release()

    def add(self, kind: str, number: int, array: Array) -> None:
        """Write one array.

        Several threads may call it at once for the formats that make a folder; those that make one file take the
        arrays of each kind in their order.

        Parameters
        ----------
        kind : str
            Flows ``flow``, ``flow_backward``, ``warped`` and ``warped_backward``, shape (H, W, 2), pixels; pictures
            ``image``, ``difference`` and ``colours``, shape (H, W, 3), uint8, BGR; ``stack``, ``stack_backward``,
            ``stack_warped`` and ``stack_warped_backward``, shape (H, W, 2 k), only npz and h5.
        number : int
            Which one of its kind, from 0.
        array : ndarray

        Raises
        ------
        ParameterError
            The kind is unknown, shape or type do not fit, a flow is not finite (or for npz and h5 above 65504), or the
            number came before.
        OSError
            It cannot be written.
        """
        values = self._checked(kind, array)
        with self._lock:
            taken = self._numbers.setdefault(kind, set())
            if number in taken or number < 0:
                raise ParameterError(f"{kind} has the number {number}: it must be at least 0 and not have come before.")
            taken.add(number)
        self._put(kind, number, values)

    def close(self, meta: dict[str, Any]) -> None:
        """Complete the output with the facts about it.

        Parameters
        ----------
        meta : dict
            JSON types. The writer adds ``kind``, ``format``, ``encoding``, ``height``, ``width``, ``counts`` (arrays
            of each kind), ``clipped`` (flow values of each kind beyond what the format holds) and, where they
            apply, ``bound``, ``quality`` and ``naming``.

        Raises
        ------
        ParameterError
            A number of some kind is missing, `meta` cannot be stored as JSON or has one of the keys above.
        OSError
            The output cannot be written.
        """
        for kind, numbers in self._numbers.items():
            if max(numbers) != len(numbers) - 1:
                missing = min(set(range(len(numbers))) - numbers)
                raise ParameterError(f"{kind} number {missing} of {max(numbers) + 1} was not written.")
        counts = {kind: len(self._numbers[kind]) for kind in KINDS if kind in self._numbers}
        facts = {"kind": "flow", "format": FORMAT, **self._facts, "counts": counts, "clipped": self._clipped}
        for key in meta:
            if key in facts:
                raise ParameterError(f"meta has the key {key!r}, which the writer sets itself: choose another.")
        try:
            lines = [f"{json.dumps(key)}: {json.dumps(value, allow_nan=False)}"
                     for key, value in {**facts, **meta}.items()]
        except (TypeError, ValueError) as exc:
            raise ParameterError(f"The meta of {self.path} cannot be stored as JSON: {exc}.") from exc
        try:
            self._finish("{" + ",\n ".join(lines) + "}\n")
        finally:
            self._release()

    def _checked(self, kind: str, array: Array) -> Array:
        """Return the array, once kind, shape, type and range are right, and count what will be clipped."""
        if kind not in KINDS:
            raise ParameterError(f"The kind is {kind!r}: allowed are {', '.join(KINDS)}.")
        channels = 3 if kind in PICTURES else 2 if kind in FLOWS else self._channels.get(kind)
        if array.ndim != 3 or array.shape[:2] != self._size or (array.shape[2] != channels if channels else
                                                                array.shape[2] < 2 or array.shape[2] % 2):
            height, width = self._size
            raise ParameterError(f"{kind} has the shape {array.shape}: it must be "
                                 f"({height}, {width}, {channels or '2 k'}).")
        if kind in PICTURES:
            if array.dtype != np.uint8:
                raise ParameterError(f"{kind} is of type {array.dtype}: it must be uint8.")
            return array
        if array.dtype.kind != "f":
            raise ParameterError(f"{kind} is of type {array.dtype}: it must be float32.")
        self._channels[kind] = array.shape[2]
        largest = max(array.max(), -array.min())
        encoding = self._facts["encoding"]
        if not largest <= (_HALF_LIMIT if FORMATS[encoding] is None else np.finfo(np.float32).max):
            raise ParameterError(f"{kind} holds {largest} pixels, which {encoding} cannot: it must be finite"
                                 + (f" and at most {_HALF_LIMIT:.0f}." if FORMATS[encoding] is None else "."))
        limit = self._facts.get("bound", _KITTI_LIMIT if encoding == "kitti" else math.inf)
        if largest > limit:
            beyond = int(np.count_nonzero(np.abs(array) > limit))
            with self._lock:
                self._clipped[kind] = self._clipped.get(kind, 0) + beyond
        return array

    @abstractmethod
    def _put(self, kind: str, number: int, array: Array) -> None:
        """Write a checked array."""

    @abstractmethod
    def _finish(self, meta: str) -> None:
        """Complete the output with its meta, a JSON text."""

    def _release(self) -> None:  # noqa: B027    only files of arrays have something to let go
        """Close what is open."""


class _FolderWriter(Writer):
    def __init__(self, path: FilePath, facts: dict[str, Any]) -> None:
        super().__init__(path, facts)
        if not self.path.is_dir():
            raise ParameterError(f"{path} is no folder: the format {facts['encoding']} needs an existing empty one.")
        if any(self.path.iterdir()):
            raise ParameterError(f"The folder {path} is not empty: flows are written to an empty one.")

    def _put(self, kind: str, number: int, array: Array) -> None:
        encoding, number = self._facts["encoding"], number + NAMINGS[self._facts["naming"]]
        extensions = FORMATS[encoding]
        if kind in STACKS or extensions is None:
            raise ParameterError(f"The format is {encoding}: stacks are arrays, format npz or h5.")
        if kind in PICTURES:
            content = _encoded(extensions[1], array, self._facts.get("quality", 95))
            _write(self.path / f"{PICTURES[kind]}_{number:05d}.{extensions[1]}", content)
        elif encoding in _EIGHT_BIT:
            for plane, image in zip("xy", cv2.split(quantise(array, self._facts["bound"])), strict=True):
                content = _encoded(encoding, image, self._facts.get("quality", 95))
                _write(self.path / f"{FLOWS[kind]}_{plane}_{number:05d}.{encoding}", content)
        else:
            write = write_flo if encoding == "flo" else write_kitti
            write(self.path / f"{FLOWS[kind]}_{number:05d}.{extensions[0]}", array)

    def _finish(self, meta: str) -> None:
        _write(self.path / "meta.json", meta.encode())


def _stored(kind: str, array: Array) -> Array:
    """Return the array as files of arrays hold it: flow as float16, pictures as RGB."""
    return np.ascontiguousarray(array[:, :, ::-1] if kind in PICTURES else array, "|u1" if kind in PICTURES else "<f2")


class _NpzWriter(Writer):
    """Arrays are spooled to one unnamed temporary file for each kind, as their number is in the header of each."""

    def __init__(self, path: FilePath, facts: dict[str, Any]) -> None:
        super().__init__(path, facts)
        self._spools: dict[str, BinaryIO] = {}

    def _put(self, kind: str, number: int, array: Array) -> None:
        spool = self._spools.get(kind)
        if spool is None:
            spool = self._spools[kind] = tempfile.TemporaryFile(dir=self.path.parent)  # noqa: SIM115    see _release
        _check_order(kind, number, len(self._numbers[kind]))
        spool.write(_stored(kind, array).data)

    def _finish(self, meta: str) -> None:
        with open(self.path, "wb") as file, zipfile.ZipFile(file, "w") as archive:
            with _member(archive, "meta", f"<U{len(meta)}", ()) as member:
                member.write(np.array(meta, f"<U{len(meta)}").tobytes())
            for kind in KINDS:
                if kind not in self._spools:
                    continue
                channels = self._channels.get(kind, 3)
                stored = "|u1" if kind in PICTURES else "<f2"
                with _member(archive, kind, stored, (len(self._numbers[kind]), *self._size, channels)) as member:
                    self._spools[kind].seek(0)
                    while block := self._spools[kind].read(_BLOCK):
                        member.write(block)

    def _release(self) -> None:
        for spool in self._spools.values():
            with contextlib.suppress(OSError):  # a full disk; either the error is on its way or all has been copied
                spool.close()


@contextlib.contextmanager
def _member(archive: zipfile.ZipFile, name: str, kind: str, shape: tuple[int, ...]) -> Iterator[Any]:
    """Begin the member `name` of the archive, with the header of an array; yield where its data go."""
    info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
    info.create_system = 3  # the same bytes on all systems
    with archive.open(info, "w", force_zip64=True) as member:
        np.lib.format.write_array_header_1_0(member, {"descr": kind, "fortran_order": False, "shape": shape})
        yield member


def _check_order(kind: str, number: int, count: int) -> None:
    if number != count - 1:
        raise ParameterError(f"{kind} number {number} came where {count - 1} was due: npz and h5 take the arrays of "
                             "each kind in order.")


class _H5Writer(Writer):
    def __init__(self, path: FilePath, facts: dict[str, Any]) -> None:
        super().__init__(path, facts)
        h5py = _h5py()
        self._sink = Sink(open(self.path, "wb+"))  # noqa: SIM115    see _release
        self._file = h5py.File(self._sink, "w")

    def _put(self, kind: str, number: int, array: Array) -> None:
        stored = _stored(kind, array)
        if kind not in self._file:
            self._file.create_dataset(kind, (0, *stored.shape), stored.dtype, maxshape=(None, *stored.shape),
                                      chunks=(1, *stored.shape), shuffle=stored.dtype.itemsize > 1,
                                      compression="gzip", compression_opts=1)  # lzf gives other bytes each time
        _check_order(kind, number, len(self._numbers[kind]))
        dataset = self._file[kind]
        dataset.resize(number + 1, axis=0)
        dataset[number] = stored
        self._sink.check()

    def _finish(self, meta: str) -> None:
        self._file.attrs["meta"] = meta
        self._file.close()
        self._sink.close()

    def _release(self) -> None:
        self._file.close()
        with contextlib.suppress(OSError):  # either the error is on its way or the file is not wanted
            self._sink.close()


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as exc:
        raise ParameterError("The format h5 needs h5py, which is not installed: pip install densetraj[h5].") from exc
    return h5py


class Sink:
    """The file for HDF5: it keeps the first failure to write and takes all further data as if written.

    HDF5 itself brings the process down when it cannot empty its buffers while it closes a file.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._error: OSError | None = None
        self._position = self._end = 0

    def _unless_failed(self, action: Callable[..., Any], *arguments: Any) -> Any:
        if self._error is None:
            try:
                self._file.seek(self._position)
                return action(*arguments)
            except OSError as exc:
                self._error = exc
        return None

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place, from the start or the end."""
        self._position = offset + (self._end if whence == os.SEEK_END else 0)
        return self._position

    def tell(self) -> int:
        """Return the place."""
        return self._position

    def read(self, size: int) -> bytes:
        """Return so many bytes; zeros for what cannot be read."""
        return (self._unless_failed(self._file.read, size) or b"").ljust(size, b"\0")

    def write(self, data: Any) -> int:
        """Write the bytes and return their number."""
        self._unless_failed(self._file.write, data)
        self._position += len(data)
        self._end = max(self._end, self._position)
        return len(data)

    def truncate(self, size: int) -> None:
        """Cut or extend the file to this size."""
        self._unless_failed(self._file.truncate, size)
        self._end = size

    def flush(self) -> None:
        """Hand everything on to the system."""
        self._unless_failed(self._file.flush)

    def check(self) -> None:
        """Raise the failure to write, if there was one."""
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Close the file, then `check`."""
        if not self._file.closed:
            self._unless_failed(self._file.flush)
            with contextlib.suppress(OSError):
                self._file.close()
        self.check()


# Reading the flows of a video

def open_flows(path: FilePath, *, bound: float | None = None) -> Flows:
    """Open the flows of a video.

    Parameters
    ----------
    path : path
        What `idt flow` made: a folder with ``meta.json``, an ``.npz`` or an ``.h5``. Or a folder of 8-bit images by
        another program, named ``flow_x_00001.jpg``, ``flow_y_00001.jpg``, perhaps ``img_00001.jpg``, numbered from 0
        or 1 (``.png`` too).
    bound : float, optional
        Pixels: what the images of another program were made with, which they do not tell.

    Raises
    ------
    FormatError
        It is missing, damaged, incomplete or of another kind.
    ParameterError
        The bound is missing where it is needed, or another than that in ``meta.json``.
    """
    if bound is not None:
        _check_bound(bound)
    source: _Source
    with _reading(path):
        if Path(path).is_dir():
            source = _Folder(Path(path), bound)
        else:
            with open(path, "rb") as file:
                start = file.read(8)
            if start == b"\x89HDF\r\n\x1a\n":
                source = _H5(path)
            elif start[:4] == b"PK\x03\x04":
                source = _Npz(path)
            else:
                raise FormatError(f"{os.fspath(path)} holds no flows of a video: it is no folder, .npz or .h5 file.")
    if bound is not None and source.meta.get("bound", bound) != bound:
        source.close()
        raise ParameterError(f"bound is {bound}, but {os.fspath(path)} was made with {source.meta['bound']}: leave it "
                             "out.")
    return Flows(path, source)


class Flows:
    """The flows of a video, read from the disk one by one when asked for; `open_flows` returns it.

    A sequence of the flows in pixels: ``len(flows)``, ``flows[i]`` (H, W, 2) float32, iteration. Of several kinds these
    are the first of ``flow``, ``flow_backward``, ``warped``, ``warped_backward`` and the stacks that is there; `get`
    reads any. A context manager; several threads may read at once but from an ``.h5``.

    Attributes
    ----------
    meta : dict
        The facts about the flows, see the page on flow files.
    counts : dict
        Number of arrays of each kind.
    kinds : tuple of str
        The kinds that are there.
    height, width : int
        Pixels.
    """

    def __init__(self, path: FilePath, source: _Source) -> None:
        self._path = os.fspath(path)
        self._source = source
        self.meta = source.meta
        self.counts: dict[str, int] = source.meta["counts"]
        self.kinds = tuple(self.counts)
        self.height: int = source.meta["height"]
        self.width: int = source.meta["width"]
        self._main = next((kind for kind in (*FLOWS, *STACKS) if kind in self.counts), None)

    def __repr__(self) -> str:
        return f"Flows({self._path!r}, {self.width}x{self.height}, {self.counts})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return self.counts[self._main] if self._main else 0

    def __getitem__(self, i: int) -> FloatArray:
        if self._main is None:
            raise IndexError(f"{self._path} has no flows.")
        return self.get(self._main, i)

    def __iter__(self) -> Iterator[FloatArray]:
        return (self[i] for i in range(len(self)))

    def get(self, kind: str, i: int) -> Array:
        """Return array `i` of a kind: flows and stacks float32 in pixels, pictures uint8, BGR.

        Raises
        ------
        ParameterError
            There is no such kind here.
        IndexError
            There are fewer; a negative number counts from the end.
        FormatError
            The array cannot be read.
        """
        if kind not in self.counts:
            raise ParameterError(f"{self._path} has no {kind!r}: it has {', '.join(self.kinds) or 'nothing'}.")
        count, i = self.counts[kind], operator.index(i)
        if not -count <= i < count:
            raise IndexError(f"{self._path} has {count} arrays of the kind {kind}: there is no number {i}.")
        return self._source.read(kind, i % count)

    def close(self) -> None:
        """Close the file."""
        self._source.close()


class _Source(ABC):
    """Where `Flows` come from: `meta` has been checked to have at least kind, encoding, height, width and counts."""

    meta: dict[str, Any]

    @abstractmethod
    def read(self, kind: str, i: int) -> Array: ...

    def close(self) -> None:  # noqa: B027 - most have nothing open
        """Close what is open."""


def _checked(path: FilePath, meta: Any) -> dict[str, Any]:
    """Return the meta of flow files, once everything that reading them needs is checked."""
    kind = meta.get("kind") if isinstance(meta, dict) else None
    if kind != "flow":
        raise FormatError(f"{os.fspath(path)} is of the kind {kind!r}: expected are the flows of a video.")
    if meta.get("format") != FORMAT:
        raise FormatError(f"{os.fspath(path)} has the flow format {meta.get('format')!r}: this version reads format "
                          f"{FORMAT}; make it again or change the version of densetraj.")
    encoding, counts, bound = meta.get("encoding"), meta.get("counts"), meta.get("bound")
    if encoding not in FORMATS:
        raise ValueError(f"encoding is {encoding!r}")
    if not all(isinstance(meta.get(key), int) and meta[key] > 0 for key in ("height", "width")):
        raise ValueError("height or width is missing")
    if not isinstance(counts, dict) or not all(k in KINDS and isinstance(n, int) and n > 0 for k, n in counts.items()):
        raise ValueError(f"counts is {counts!r}")
    if FORMATS[encoding] and (meta.get("naming") not in NAMINGS or any(kind in STACKS for kind in counts)):
        raise ValueError(f"naming is {meta.get('naming')!r}")
    if encoding in _EIGHT_BIT and not (isinstance(bound, int | float) and 0 < bound < math.inf):
        raise ValueError(f"bound is {bound!r}")
    return meta


class _Folder(_Source):
    def __init__(self, path: Path, bound: float | None) -> None:
        self._path = path
        # (kind, "x" | "y" | "", extension) → number → name
        self._names: dict[tuple[str, str, str], dict[int, str]] = {}
        kinds = {prefix: kind for kind, prefix in (*FLOWS.items(), *PICTURES.items())}
        for name in os.listdir(path):
            if match := _NAME.fullmatch(name):
                prefix, plane, number, extension = match.groups(default="")
                self._names.setdefault((kinds[prefix], plane, extension), {})[int(number)] = name
        if (path / "meta.json").exists():
            with _reading(path / "meta.json"):
                self.meta = _checked(path / "meta.json", json.loads((path / "meta.json").read_text("utf-8")))
            if FORMATS[self.meta["encoding"]] is None:
                raise FormatError(f"{path / 'meta.json'} says that the flows are one file: expected is a folder.")
            self._first = NAMINGS[self.meta["naming"]]
        else:
            self.meta = self._foreign(bound)
        for kind, count in self.meta["counts"].items():
            for plane in self._planes(kind):
                self._check(kind, plane, count)

    def _foreign(self, bound: float | None) -> dict[str, Any]:
        """Return the facts about the 8-bit images of another program."""
        encoding = next((e for e in _EIGHT_BIT if ("flow", "x", e) in self._names), None)
        if encoding is None:
            raise FormatError(f"{self._path} holds no flows of a video: it has no meta.json and no images named like "
                              "flow_x_00001.jpg.")
        if bound is None:
            raise ParameterError(f"{self._path} has no meta.json: give the bound that its images were made with, for "
                                 "instance open_flows(path, bound=20).")
        flows = self._names["flow", "x", encoding]
        self._first = min(flows)
        if self._first not in NAMINGS.values():
            raise FormatError(f"{self._path} is incomplete: the first flow is {flows[self._first]}, but numbers begin "
                              "with 0 or 1; make it again.")
        height, width = _decoded(self._path / flows[self._first], cv2.IMREAD_GRAYSCALE).shape
        counts = {"flow": len(flows)}
        if ("image", "", encoding) in self._names:
            counts["image"] = len(self._names["image", "", encoding])
        return {"kind": "flow", "encoding": encoding, "height": height, "width": width, "bound": float(bound),
                "counts": counts}

    def _planes(self, kind: str) -> str | tuple[str]:
        return "xy" if kind in FLOWS and self.meta["encoding"] in _EIGHT_BIT else ("",)

    def _files(self, kind: str, plane: str) -> dict[int, str]:
        extensions = FORMATS[self.meta["encoding"]]
        assert extensions is not None
        return self._names.get((kind, plane, extensions[kind in PICTURES]), {})

    def _check(self, kind: str, plane: str, count: int) -> None:
        """Refuse a folder that lacks one of the files or has too many."""
        files = self._files(kind, plane)
        for number in range(self._first, self._first + count):
            if number not in files:
                stem = "_".join(part for part in ((FLOWS | PICTURES)[kind], plane, f"{number:05d}") if part)
                raise FormatError(f"{self._path} is incomplete: {stem} is missing of {count} files of its kind; make "
                                  "it again.")
        if len(files) != count:
            raise FormatError(f"{self._path} has {len(files)} files like {files[max(files)]} where there should be "
                              f"{count}; make it again in an empty folder.")

    def read(self, kind: str, i: int) -> Array:
        paths = [self._path / self._files(kind, plane)[i + self._first] for plane in self._planes(kind)]
        if kind in PICTURES:
            array = _decoded(paths[0], cv2.IMREAD_COLOR)
        elif self.meta["encoding"] in _EIGHT_BIT:
            planes = [_decoded(path, cv2.IMREAD_GRAYSCALE) for path in paths]
            if planes[0].shape != planes[1].shape:
                raise FormatError(f"{paths[0]} and {paths[1].name} differ in size: make them again.")
            array = dequantise(cv2.merge(planes), self.meta["bound"])
        else:
            array = read_flo(paths[0]) if self.meta["encoding"] == "flo" else read_kitti(paths[0])[0]
        height, width = array.shape[:2]
        if (height, width) != (self.meta["height"], self.meta["width"]):
            raise FormatError(f"{paths[0]} is {width}x{height}, the others {self.meta['width']}x{self.meta['height']}: "
                              "make it again.")
        return array


def _restored(kind: str, array: Array) -> Array:
    """Undo `_stored`."""
    return np.ascontiguousarray(array[:, :, ::-1]) if kind in PICTURES else array.astype(np.float32)


def _check_array(path: FilePath, meta: dict[str, Any], kind: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """Refuse an array in a file that is not as its meta says."""
    expected = (meta["counts"].get(kind), meta["height"], meta["width"])
    channels = {3} if kind in PICTURES else {2} if kind in FLOWS else set(range(2, 1 << 16, 2))
    if (dtype.str != ("|u1" if kind in PICTURES else "<f2") or len(shape) != 4 or shape[:3] != expected
            or shape[3] not in channels):
        raise FormatError(f"{os.fspath(path)} is damaged: {kind} has the shape {shape} and type {dtype}, which do not "
                          "fit its meta; make it again.")


class _Npz(_Source):
    """Arrays are read by their place in the file, one row at a time."""

    def __init__(self, path: FilePath) -> None:
        self._path = path
        meta, self._arrays = stored_arrays(path)
        self.meta = _checked(path, meta)
        for name in dict.fromkeys((*self.meta["counts"], *self._arrays)):
            if name not in self._arrays or name not in self.meta["counts"]:
                raise FormatError(f"{os.fspath(path)} is damaged: its arrays are {', '.join(self._arrays)}, its meta "
                                  f"lists {', '.join(self.meta['counts'])}; make it again.")
            _check_array(path, self.meta, name, self._arrays[name].dtype, self._arrays[name].shape)

    def read(self, kind: str, i: int) -> Array:
        with _reading(self._path):
            return _restored(kind, self._arrays[kind][i])


class _H5(_Source):
    def __init__(self, path: FilePath) -> None:
        self._path = path
        with contextlib.ExitStack() as stack:
            self._file = stack.enter_context(_h5py().File(path, "r"))
            if "meta" not in self._file.attrs:
                raise FormatError(f"{os.fspath(path)} has no meta: it is not a flow file of this package.")
            self.meta = _checked(path, json.loads(self._file.attrs["meta"]))
            if set(self._file) != set(self.meta["counts"]):
                raise FormatError(f"{os.fspath(path)} is damaged: its arrays are {', '.join(self._file)}, its meta "
                                  f"lists {', '.join(self.meta['counts'])}; make it again.")
            for name in self.meta["counts"]:
                _check_array(path, self.meta, name, self._file[name].dtype, self._file[name].shape)
            stack.pop_all()

    def read(self, kind: str, i: int) -> Array:
        with _reading(self._path):
            return _restored(kind, self._file[kind][i])

    def close(self) -> None:
        self._file.close()


def stacks(flows: Iterable[Array], k: int, *, every: int = 1) -> Iterator[FloatArray]:
    """Yield k consecutive flows at a time as the channels of one array, the input of a two-stream network.

    Parameters
    ----------
    flows : iterable of ndarray, shape (H, W, 2)
        For instance what `open_flows` returns; each is read once.
    k : int
        Flows in a stack; 10 in Simonyan and Zisserman (NIPS 2014).
    every : int
        Stacks begin at the flows 0, every, 2 every, ...

    Yields
    ------
    ndarray, shape (H, W, 2 k), float32
        x and y of the first flow, then of the second, and so on. n flows give n − k + 1 stacks where `every` is 1, and
        none where n is below k.

    Raises
    ------
    ParameterError
        k or every is below 1.
    """
    for name, value in (("k", k), ("every", every)):
        if value < 1:
            raise ParameterError(f"{name} is {value}: it must be at least 1.")
    return _stacks(flows, k, every)


def _stacks(flows: Iterable[Array], k: int, every: int) -> Iterator[FloatArray]:
    window: deque[Array] = deque(maxlen=k)
    for i, flow in enumerate(flows):
        window.append(flow)
        if len(window) == k and (i + 1 - k) % every == 0:
            yield np.concatenate(window, axis=2, dtype=np.float32)
