"""Features: the record of the trajectories of one video, and its file."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import struct
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from idt._util.files import prepared, replacing, writing
from idt._util.npz import StoredArray, stored_arrays, unreadable
from idt.errors import FormatError, IdtError, ParameterError
from idt.params import DESCRIPTORS, Params

Array = NDArray[Any]

FORMAT = 1

# Trailing shape of the arrays that have one row for each trajectory; None: any length.
ROWS: dict[str, tuple[int | None, ...]] = {
    "frame": (), "time": (), "mean": (2,), "std": (2,), "length": (), "scale": (), "position": (3,),
    "trajectory": (None,), "hog": (None,), "hof": (None,), "mbhx": (None,), "mbhy": (None,), "points": (None, 2),
}
ARRAYS = (*ROWS, "homographies")
REQUIRED = ("frame", "time", "mean", "std", "length", "scale", "position")

_TYPES = {"frame": "<i4", "time": "<f8", "homographies": "<f8"}  # all others are <f4, or <f2 where that is allowed
_HALF = ("hog", "hof", "mbhx", "mbhy")
_ALIGN = 64
_BLOCK = 1 << 20


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Features:
    """The trajectories of one video: row i of every array belongs to trajectory i.

    Rows are ordered by the frame on which the trajectory ended, then by scale, then by age. L is the length of a
    trajectory in steps (``Params.length``). Pixels are those of the processed frame, after any resize. An array that
    is None was not wanted (``Params.descriptors``) or is not known: a file in the original program's text format has
    neither `points` nor `homographies` and NaN as `time`.

    Parameters
    ----------
    frame : ndarray, shape (N,), int32
        Index in the video of the frame on which the trajectory ended.
    time : ndarray, shape (N,), float64
        Time stamp of that frame, in seconds; NaN when unknown.
    mean, std : ndarray, shape (N, 2), float32
        Mean and standard deviation of the points, x and y, in pixels.
    length : ndarray, shape (N,), float32
        Length of the path, in pixels.
    scale : ndarray, shape (N,), float32
        Factor by which the frame was reduced when the point was tracked.
    position : ndarray, shape (N, 3), float32
        x, y and t of the trajectory as shares of the width, the height and the number of frames, in [0, 1); t is NaN
        as long as the number of frames is unknown.
    trajectory : ndarray, shape (N, 2 L), float32, or None
        Steps without camera motion (x, y, x, y, ...), divided by the sum of their lengths.
    hog, hof, mbhx, mbhy : ndarray, shape (N, 96 | 108 | 96 | 96 by default), float16 or float32, or None
        Histograms along the trajectory, ordered by time cell, x cell, y cell, bin.
    points : ndarray, shape (N, L + 1, 2), float32, or None
        The points x, y of the trajectory, in pixels.
    homographies : ndarray, shape (T, 3, 3), float64, or None
        Entry t (index in the video, to the last processed frame) maps the previously processed frame to frame t;
        the identity where there is none. In a chunk of a stream: the entries since the chunk before.
    meta : dict
        What made the rows (JSON types): kind, format, params, video, span, ... In a stream the last chunk has it all.
    path : str or None
        File that they were loaded from.

    Raises
    ------
    ParameterError
        An array has a shape that does not fit.
    """

    frame: Array
    time: Array
    mean: Array
    std: Array
    length: Array
    scale: Array
    position: Array
    trajectory: Array | None = None
    hog: Array | None = None
    hof: Array | None = None
    mbhx: Array | None = None
    mbhy: Array | None = None
    points: Array | None = None
    homographies: Array | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    path: str | None = None

    def __post_init__(self) -> None:
        for name, array in self.arrays().items():
            if not isinstance(array, np.ndarray):
                raise ParameterError(f"{name} is of type {type(array).__name__}: it must be an array.")
        _check_shapes(self.arrays())

    def __len__(self) -> int:
        return self.frame.size

    def __repr__(self) -> str:
        widths = "".join(f", {name} {getattr(self, name).shape[1]}" for name in DESCRIPTORS
                         if getattr(self, name) is not None)
        return f"Features({len(self)} rows{widths})"

    def bag(self, name: str) -> Array | StoredArray | None:
        """Return an array; of loaded features its place in the file, which is open only while rows are read."""
        array: Array | StoredArray | None = getattr(self, name, None)
        return array

    def replace(self, **changes: Any) -> Features:
        """Return a copy with other arrays, meta or path; those of a file that are not replaced are not read."""
        return dataclasses.replace(self, **changes)

    def arrays(self) -> dict[str, Array]:
        """Return the arrays that are not None by name, in the order of the file."""
        return {name: value for name in ARRAYS if (value := getattr(self, name)) is not None}

    def __getitem__(self, rows: slice | Array | list[int]) -> Features:
        """Return the given rows (slice, mask or array of indices); homographies and meta are kept whole.

        A slice shares memory with this object; a mask or indices copy.
        """
        if not isinstance(rows, slice):
            rows = np.asarray(rows)
            if rows.ndim != 1:
                raise ParameterError("Features are indexed with a slice, a mask or an array of row indices; for one "
                                     "row write features[i:i + 1].")
            if rows.size == 0:
                rows = rows.astype(np.intp) if rows.dtype != bool else rows
        chosen: dict[str, Any] = {name: array[rows] for name, array in self.arrays().items() if name in ROWS}
        return Features(**chosen, homographies=self.homographies, meta=self.meta, path=self.path)

    @staticmethod
    def concatenate(chunks: Iterable[Features]) -> Features:
        """Return the chunks of one stream as one object: rows and homographies in order, meta of the last chunk.

        `position` t is filled in where it is NaN and the meta tells the span of frames.

        Raises
        ------
        ParameterError
            There is no chunk, or they differ in arrays, widths or types.
        """
        parts = list(chunks)
        if not parts:
            raise ParameterError("There are no chunks to concatenate: give at least one (it may have zero rows).")
        layout = _layout(parts[0])
        for part in parts:
            _check_layout(_layout(part), layout)
        arrays: dict[str, Any] = {
            name: np.concatenate([getattr(part, name) for part in parts], dtype=kind)
            for name, (kind, _) in layout.items()}
        whole = Features(**arrays, meta={**parts[-1].meta, "rows": sum(map(len, parts))})
        _fill_time(whole.position, whole.frame, whole.meta)
        return whole

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a features file (``.npz``, see `FeatureWriter`); the folder is made if missing.

        Raises
        ------
        OutputError
            The file cannot be written; nothing remains then.
        """
        with FeatureWriter(path) as writer:
            writer.append(self)

    @classmethod
    def load(cls, path: str | os.PathLike[str], params: Params | None = None) -> Features:
        """Open a features file, or read one in the original program's text format (``.gz`` too).

        The arrays of a features file are read-only views of the file, made each time they are asked for: only what is
        used is read from the disk, and the file is open only while an array is in use. So its structure is checked, but
        not the check sums of the numbers (``unzip -t`` does that).

        Parameters
        ----------
        path : path
        params : Params, optional
            What a text file was made with (default: the standard); not used for a features file, which says so
            itself.

        Raises
        ------
        FormatError
            The file is missing, damaged, of another kind or of another format version.
        """
        if _is_npz(path):
            return _load_npz(path)
        from idt.features.text import read_text

        return read_text(path, params)


def load_any(path: str | os.PathLike[str]) -> Features:
    """Open what `Features.load` opens, or any ``.npz`` that has arrays of the same names but no meta.

    Of the latter, `frame`, `mean`, `std`, `length` and `scale` must be there; `time` and `position` become NaN and
    all others None when missing. The whole file is read into memory and may be compressed.

    Raises
    ------
    FormatError
        The file is missing or damaged, or such an array is missing or has the wrong shape.
    """
    if not _is_npz(path):
        return Features.load(path)
    with _reading(path), zipfile.ZipFile(path) as archive:
        if "meta.npy" in archive.namelist():
            return Features.load(path)
    with _reading(path), np.load(path, allow_pickle=False) as file:
        found = {name: file[name] for name in ARRAYS if name in file.files}
        for name in ("frame", "mean", "std", "length", "scale"):
            if name not in found:
                raise FormatError(f"{os.fspath(path)} has no array named {name}: it holds no features.")
        rows = found["frame"].shape[:1]
        found.setdefault("time", np.full(rows, np.nan))
        found.setdefault("position", np.full((*rows, 3), np.nan, np.float32))
        return Features(**found, meta={"kind": "features", "origin": "arrays"}, path=os.fspath(path))


class FeatureWriter:
    """Write the chunks of a stream to one features file, with memory that does not grow with the number of rows.

    The file is an ``.npz`` that NumPy opens: one uncompressed member for each array of `Features` that is not None,
    and ``meta``, a JSON text. Members start at multiples of 64 bytes; equal features give equal bytes. Rows are spooled
    to unnamed temporary files in the folder of `path`; on a clean exit `position` t is filled in, the members are
    put together under a temporary name, and that file is renamed. On any exception nothing remains.

    Parameters
    ----------
    path : path
        The file to write; its folder is made if missing, an older file is replaced.

    Attributes
    ----------
    meta : dict
        What the file holds as meta: that of the last chunk, completed by kind, format and rows at the exit.

    Raises
    ------
    OutputError
        The file cannot be written.
    ParameterError
        The chunks differ in arrays, widths or types, there is none, or the meta is no JSON.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path
        self.meta: dict[str, Any] = {}
        self._layout: dict[str, tuple[str, tuple[int, ...]]] | None = None
        self._rows = 0
        self._homographies = 0
        self._spools: dict[str, BinaryIO] = {}

    def __enter__(self) -> Self:
        folder = prepared(self.path).parent
        with writing(self.path):
            try:
                for name in ARRAYS:
                    self._spools[name] = tempfile.TemporaryFile(dir=folder)
            except BaseException:
                self._close()
                raise
        return self

    def append(self, chunk: Features) -> None:
        """Add the rows and homographies of `chunk`; its meta replaces that of the chunk before."""
        layout = _layout(chunk)
        if self._layout is None:
            self._layout = layout
        _check_layout(layout, self._layout)
        with writing(self.path):
            for name, (kind, _) in layout.items():
                self._spools[name].write(np.ascontiguousarray(getattr(chunk, name), kind).data)
        self._rows += len(chunk)
        if chunk.homographies is not None:
            self._homographies += len(chunk.homographies)
        self.meta = chunk.meta

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._close()

    def _close(self) -> None:
        for spool in self._spools.values():
            with contextlib.suppress(OSError):  # a full disk; either the error is on its way or all has been copied
                spool.close()

    def _finish(self) -> None:
        if self._layout is None:
            raise ParameterError(f"Nothing was appended to {os.fspath(self.path)}: append at least one chunk (it may "
                                 "have zero rows).")
        self.meta = {**self.meta, "kind": "features", "format": FORMAT, "rows": self._rows}
        try:
            text = json.dumps({**self.meta, "arrays": list(self._layout)}, allow_nan=False)
        except (TypeError, ValueError) as exc:
            raise ParameterError(f"The meta of {os.fspath(self.path)} cannot be stored as JSON: {exc}.") from exc
        with replacing(self.path) as file, zipfile.ZipFile(file, "w") as archive:
            with _member(file, archive, "meta", f"<U{len(text)}", ()) as member:
                member.write(np.array(text).tobytes())
            for name, (kind, shape) in self._layout.items():
                rows = self._homographies if name == "homographies" else self._rows
                with _member(file, archive, name, kind, (rows, *shape)) as member:
                    for block in self._positions() if name == "position" else _blocks(self._spools[name]):
                        member.write(block)

    def _positions(self) -> Iterator[bytes]:
        """Yield the spooled positions with t filled in."""
        rows = _BLOCK // 12
        for position, frame in zip(_blocks(self._spools["position"], rows * 12),
                                   _blocks(self._spools["frame"], rows * 4), strict=True):
            table = np.frombuffer(position, "<f4").reshape(-1, 3).copy()
            _fill_time(table, np.frombuffer(frame, "<i4"), self.meta)
            yield table.tobytes()


def _blocks(spool: BinaryIO, size: int = _BLOCK) -> Iterator[bytes]:
    spool.seek(0)
    while block := spool.read(size):
        yield block


@contextlib.contextmanager
def _member(file: BinaryIO, archive: zipfile.ZipFile, name: str, kind: str, shape: tuple[int, ...]
            ) -> Iterator[Any]:
    """Begin the member `name` of the archive, with the header of an array; yield where its data go."""
    info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
    info.create_system = 3  # the same bytes on all systems
    # An extra field of the local header pads it (30 bytes, the name, this field, 20 bytes of sizes), so that the
    # array's own header, which NumPy pads to 64 bytes, and hence its data start at a multiple of 64.
    start = file.tell() + 30 + len(info.filename) + 4 + 20
    padding = -start % _ALIGN
    info.extra = struct.pack("<HH", 0xD935, padding) + bytes(padding)
    with archive.open(info, "w", force_zip64=True) as member:
        np.lib.format.write_array_header_1_0(member, {"descr": kind, "fortran_order": False, "shape": shape})
        yield member


def _check_shapes(arrays: Mapping[str, Array | StoredArray]) -> None:
    """Refuse arrays whose shapes do not fit together, by `ParameterError`."""
    rows = arrays["frame"].shape[0] if arrays["frame"].ndim else 1
    for name, array in arrays.items():
        expected = (rows, *ROWS[name]) if name in ROWS else (None, 3, 3)
        if array.ndim != len(expected) or any(e not in (None, n) for e, n in zip(expected, array.shape, strict=True)):
            text = ", ".join("any" if e is None else str(e) for e in expected)
            raise ParameterError(f"{name} has the shape {array.shape}: for {rows} rows it must be ({text}).")
    if "trajectory" in arrays and "points" in arrays:
        steps, points = arrays["trajectory"].shape[1], arrays["points"].shape[1]
        if steps != 2 * (points - 1):
            raise ParameterError(f"trajectory has {steps} values and points has {points} points a row: L steps "
                                 "have 2 L values and L + 1 points.")


def _layout(features: Features) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return type in the file and trailing shape of each array that is not None."""
    return {name: ("<f2" if name in _HALF and array.dtype == np.float16 else _TYPES.get(name, "<f4"), array.shape[1:])
            for name, array in features.arrays().items()}


def _check_layout(layout: dict[str, tuple[str, tuple[int, ...]]],
                  first: dict[str, tuple[str, tuple[int, ...]]]) -> None:
    for name in ARRAYS:
        if layout.get(name) != first.get(name):
            raise ParameterError(f"The chunks do not fit together: type and row shape of {name} are {layout.get(name)} "
                                 f"in one and {first.get(name)} in the first.")


def _fill_time(position: Array, frame: Array, meta: dict[str, Any]) -> None:
    """Set `position` t, in place, where it is NaN: the middle of the trajectory as a share of the processed span."""
    span = meta.get("span")
    if span:
        middle = frame - meta["params"]["step"] * meta["params"]["length"] / 2 - span["first"]
        t = np.clip(middle / span["frames"], 0, 0.999)
        position[:, 2] = np.where(np.isnan(position[:, 2]), t, position[:, 2])


@contextlib.contextmanager
def _reading(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn whatever a missing, damaged or hostile file makes the readers raise into a `FormatError`."""
    try:
        yield
    except ParameterError as exc:
        raise FormatError(f"{os.fspath(path)} is not a sound features file: {exc}") from exc
    except IdtError:
        raise
    except OSError as exc:
        raise unreadable(path, exc) from exc
    except Exception as exc:  # zipfile, zlib, json and NumPy's header parser raise nearly anything on damaged bytes
        raise FormatError(f"{os.fspath(path)} is damaged or incomplete ({exc}): make it again.") from exc


def _is_npz(path: str | os.PathLike[str]) -> bool:
    """Tell by the first bytes, or for a file without them by its name, whether `path` should be an ``.npz``."""
    with _reading(path), open(path, "rb") as file:
        return file.read(4) == b"PK\x03\x04" or os.fspath(path).endswith(".npz")


class _StoredFeatures(Features):
    """Features whose arrays are views of their file, made when they are asked for.

    A view keeps the file open, and a process may have fewer files open than a dataset has videos.
    """

    _stored: Mapping[str, Array | StoredArray]

    def __new__(cls, **fields: Any) -> Any:
        """Make plain features: this is what `dataclasses.replace` calls."""
        return Features(**fields)

    @classmethod
    def of(cls, stored: Mapping[str, Array | StoredArray], meta: dict[str, Any], path: str | None) -> Features:
        """Return the features that lie in a file, but for arrays that are given."""
        _check_shapes(stored)
        self: Features = object.__new__(cls)
        vars(self).update(_stored=stored, meta=meta, path=path)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return self.of, (self._stored, self.meta, self.path)

    def __len__(self) -> int:
        return len(self._stored["frame"])

    def __getitem__(self, rows: slice | Array | list[int]) -> Features:
        if not isinstance(rows, slice) or rows.step not in (None, 1):
            return super().__getitem__(rows)
        start, stop, _ = rows.indices(len(self))
        stop = max(start, stop)
        chosen = {name: array if name not in ROWS else array.rows(start, stop) if isinstance(array, StoredArray) else
                  array[start:stop] for name, array in self._stored.items()}
        return self.of(chosen, self.meta, self.path)

    def bag(self, name: str) -> Array | StoredArray | None:
        return self._stored.get(name)

    def replace(self, **changes: Any) -> Features:
        meta, path = changes.pop("meta", self.meta), changes.pop("path", self.path)
        stored = {name: array for name, array in {**self._stored, **changes}.items() if array is not None}
        return self.of(stored, meta, path)


def _view(name: str) -> property:
    def get(self: _StoredFeatures) -> Array | None:
        array = self.bag(name)
        return array.mapped() if isinstance(array, StoredArray) else array

    return property(get)


for _name in ARRAYS:
    setattr(_StoredFeatures, _name, _view(_name))


def _load_npz(path: str | os.PathLike[str]) -> Features:
    with _reading(path):
        meta, arrays = stored_arrays(path)
        kind = meta.get("kind") if isinstance(meta, dict) else None
        if kind != "features":
            raise FormatError(f"{os.fspath(path)} is a file of kind {kind!r}: expected is a features file.")
        if meta.get("format") != FORMAT:
            raise FormatError(f"{os.fspath(path)} has the features format {meta.get('format')!r}: this version reads "
                              f"format {FORMAT}; make it again or change the version of densetraj.")
        listed = meta.pop("arrays")
        for name in dict.fromkeys((*ARRAYS, *arrays)):
            if (name in listed or name in REQUIRED) != (name in arrays):
                state = "missing" if name not in arrays else "there, though its meta does not list it"
                raise FormatError(f"{os.fspath(path)} is damaged: the array {name} is {state}; make it again.")
        for name, array in arrays.items():
            allowed = ("<f2", "<f4") if name in _HALF else (_TYPES.get(name, "<f4"),)
            if array.dtype.str not in allowed:
                raise ValueError(f"member {name} has the type {array.dtype.str!r}")
        features = _StoredFeatures.of(arrays, meta, os.fspath(path))
        if meta.get("rows") != len(features):
            raise FormatError(f"{os.fspath(path)} has {len(features)} rows, but its meta says {meta.get('rows')}; "
                              "make it again.")
        return features
