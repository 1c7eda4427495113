"""Tables of other programs: scores or features of the clips of a dataset, as CSV, ``.npz`` or ``.h5``."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from idt.datasets import Dataset
from idt.errors import FormatError, ParameterError
from idt.params import nearest
from idt.work import VIDEO_SUFFIXES, path_below

Array: TypeAlias = NDArray[Any]
Paths: TypeAlias = str | os.PathLike[str]

_NO_FEATURES = frozenset({"", "channel", "class", "group", "label", "method", "predicted", "split", "target"})
_PLACE = ("path", "start", "end")  # columns that tell which clip a row is of
_PREFIX = "score_"  # of the classes in the tables of this package
_TOLERANCE = 1e-6  # s, of the ends of a segment


@dataclass(frozen=True, eq=False)
class Table:
    """Numbers for the clips of a dataset.

    Attributes
    ----------
    path : Path
        The file.
    values : ndarray, shape (clips, columns), float32 or float64
        A row for each item of the dataset, 0 where the file has none; the columns of scores are its classes.
    given : ndarray, shape (clips,), bool
        Which clips the file has a row for.
    """

    path: Path
    values: Array
    given: NDArray[np.bool_]

    def require(self, dataset: Dataset, clips: Iterable[int], use: str) -> None:
        """Raise `FormatError` unless there is a row for each of the clips, which are used as `use` says."""
        wanted = sorted(set(clips))
        if missing := [n for n in wanted if not self.given[n]]:
            item = dataset.items[missing[0]]
            raise FormatError(f"{self.path}: there is no row for {path_below(item.path, _above(dataset))} "
                              f"({len(missing)} of {len(wanted)} clips that are {use} have none).")


@dataclass(frozen=True, eq=False)
class _Raw:
    """What a file holds: a row of each array for each clip, and what errors call the rows."""

    paths: Sequence[str]
    ends: Sequence[tuple[float | None, float | None]] | None
    columns: Sequence[str]
    values: Array
    called: Callable[[int], str]


def read_scores(path: Paths, dataset: Dataset) -> Table:
    """Read the scores of clips: a CSV with a column ``path`` and one for each class, or arrays in a file.

    A clip is named by its path below the dataset, or any end of it that no other clip has, such as the name of its
    file, with or without the suffix; longer paths that end like this are taken, too. Where several clips are segments
    of one video, ``start`` and ``end`` (s) tell which. The columns of classes may also be named ``score_CLASS``, as in
    the tables that `idt.results` writes; other columns are then passed over. An ``.npz`` or ``.h5`` has the arrays
    ``path`` (texts), ``scores`` (clips, classes) and ``classes`` (texts), and perhaps ``start`` and ``end``.

    Parameters
    ----------
    path : path
    dataset : Dataset

    Raises
    ------
    FormatError
        The file cannot be read or lacks something; a clip is unknown, ambiguous or named twice; a class is unknown or
        has no column; a value is no finite number. The row and the column are named.
    ParameterError
        An ``.h5`` cannot be read without h5py.
    """
    raw = _read(Path(path), "scores")
    order = _order(raw.columns, dataset, Path(path))
    return _placed(replace(raw, columns=dataset.classes, values=raw.values[:, order]), dataset, Path(path))


def read_vectors(path: Paths, dataset: Dataset) -> Table:
    """Read the features of clips: a CSV with a column ``path`` and any number of others, or arrays in a file.

    An ``.npz`` or ``.h5`` has the arrays ``path`` (texts) and ``features`` (clips, columns). All else, and the errors,
    are those of `read_scores`.
    """
    raw = _read(Path(path), "features")
    return _placed(raw, dataset, Path(path))


def _read(path: Path, what: Literal["scores", "features"]) -> _Raw:
    suffix = path.suffix.lower()
    try:
        if suffix == ".csv":
            return _from_csv(path, what)
        if suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return _from_arrays(path, what, {name: file[name] for name in file.files})
        if suffix in (".h5", ".hdf5"):
            return _from_arrays(path, what, _h5_arrays(path))
    except OSError as error:
        raise FormatError(f"{path}: the table cannot be read ({error.strerror or error}).") from error
    except (FormatError, ParameterError):
        raise
    except Exception as error:  # zipfile, zlib and NumPy raise nearly anything on damaged bytes
        raise FormatError(f"{path}: the table cannot be read ({error}).") from error
    raise FormatError(f"{path}: a table of {what} is a CSV (.csv), .npz or .h5 file.")


def _from_csv(path: Path, what: str) -> _Raw:
    paths, ends, lines, rows = [], [], [], []
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:  # names need not be UTF-8
        reader = csv.reader(file, skipinitialspace=True, strict=True)
        try:
            header = [name.strip() for name in next(reader, [])]
            if "path" not in header:
                raise FormatError(f"{path}: the first line names no column path, which tells the clip of a row.")
            if strays := [name for name in header if what != "scores" and (
                    name.casefold() in _NO_FEATURES or name.startswith("Unnamed:"))]:
                raise FormatError(f"{path}: the column {strays[0]!r} does not look like a feature: take it out (pandas "
                                  "writes no numbers of rows with index=False).")
            if len(set(header)) < len(header):
                raise FormatError(f"{path}: the first line names a column twice: {_twice(header)}.")
            prefixed = what == "scores" and any(name.startswith(_PREFIX) for name in header)
            chosen = [n for n, name in enumerate(header)
                      if (name.startswith(_PREFIX) if prefixed else name not in _PLACE)]
            for fields in reader:
                if not any(fields):
                    continue
                where = f"{path}, line {reader.line_num}"
                if len(fields) != len(header):
                    raise FormatError(f"{where}: {len(fields)} fields, but the first line names {len(header)} columns.")
                row = {name: field.strip() for name, field in zip(header, fields, strict=True) if name in _PLACE}
                paths.append(row["path"])
                ends.append((_seconds(row.get("start"), where), _seconds(row.get("end"), where)))
                lines.append(reader.line_num)
                rows.append(_numbers([fields[n] for n in chosen], [header[n] for n in chosen], where))
        except csv.Error as error:
            raise FormatError(f"{path}, line {reader.line_num}: not CSV ({error}).") from error
    values = np.array(rows, np.float64).reshape(len(rows), len(chosen))
    names = [header[n].removeprefix(_PREFIX if prefixed else "") for n in chosen]
    return _Raw(paths, ends if {"start", "end"} & set(header) else None, names, values,
                lambda n: f"{path}, line {lines[n]}")


def _numbers(fields: Sequence[str], names: Sequence[str], where: str) -> Array:
    try:
        return np.array(fields, np.float64)
    except ValueError:
        for name, field in zip(names, fields, strict=True):
            try:
                float(field)
            except ValueError:
                raise FormatError(f"{where}: {name} is {field!r}: it must be a number.") from None
        raise


def _seconds(text: str | None, where: str) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        raise FormatError(f"{where}: start and end are times in seconds or empty, not {text!r}.") from None


def _h5_arrays(path: Path) -> dict[str, Array]:
    try:
        import h5py
    except ImportError:
        raise ParameterError(f"{path} needs h5py, but that is not installed: pip install densetraj[h5].") from None
    with h5py.File(path, "r") as file:
        return {name: one.asstr()[()] if h5py.check_string_dtype(one.dtype) else one[()]
                for name, one in file.items() if isinstance(one, h5py.Dataset)}


def _from_arrays(path: Path, what: str, arrays: Mapping[str, Array]) -> _Raw:
    texts = ["path", "classes"] if what == "scores" else ["path"]
    for name in (what, *texts):
        if name not in arrays:
            raise FormatError(f"{path}: there is no array {name}; a table of {what} has {', '.join(texts)} and {what}.")
    values = arrays[what]
    if values.dtype.kind not in "fiu" or values.ndim != 2:
        raise FormatError(f"{path}: {what} has the shape {values.shape} and type {values.dtype}: it must be a table of "
                          "numbers, one clip a row.")
    lengths = {"path": len(values), "start": len(values), "end": len(values)}
    for name, length in (lengths | {"classes": values.shape[1]} if what == "scores" else lengths).items():
        if name in arrays and arrays[name].shape != (length,):
            raise FormatError(f"{path}: {name} has the shape {arrays[name].shape}, but {what} {values.shape}.")
    paths, *classes = ([_text(one, name, path) for one in arrays[name].tolist()] for name in texts)
    ends = None
    if {"start", "end"} & arrays.keys():
        nothing = np.full(len(values), np.nan)
        ends = [(None if np.isnan(start) else float(start), None if np.isnan(end) else float(end))
                for start, end in zip(arrays.get("start", nothing), arrays.get("end", nothing), strict=True)]
    columns = classes[0] if classes else [f"column {n}" for n in range(values.shape[1])]
    kind = np.float32 if values.dtype in (np.float16, np.float32) else np.float64
    return _Raw(paths, ends, columns, values.astype(kind, copy=False), lambda n: f"{path}, row {n}")


def _text(value: Any, name: str, path: Path) -> str:
    if not isinstance(value, str | bytes):
        raise FormatError(f"{path}: {name} holds {value!r}: it must hold texts.")
    return os.fsdecode(value)


def _order(columns: Sequence[str], dataset: Dataset, path: Path) -> list[int]:
    """Return the column of each class."""
    for name in columns:
        if name not in dataset.classes:
            alike = [label for label in dataset.classes if label.lower() == name.lower()]
            raise FormatError(f"{path}: the column {name} is no class of {dataset.name}" + (
                f", which has {alike[0]}: capitals count." if alike else nearest(name, dataset.classes)))
    if len(set(columns)) < len(columns):
        raise FormatError(f"{path}: a class has two columns: {_twice(columns)}.")
    if missing := [label for label in dataset.classes if label not in columns]:
        raise FormatError(f"{path}: there is no column for the class {missing[0]} ({len(missing)} of "
                          f"{len(dataset.classes)} classes have none).")
    return [list(columns).index(label) for label in dataset.classes]


def _twice(names: Sequence[str]) -> str:
    return next(name for n, name in enumerate(names) if name in names[:n])


def _placed(raw: _Raw, dataset: Dataset, path: Path) -> Table:
    """Return the rows in the order of the clips."""
    values = raw.values
    if not raw.paths:
        raise FormatError(f"{path}: the table has no row.")
    if not values.shape[1]:
        raise FormatError(f"{path}: the table has no column of numbers.")
    clip_of = _finder(dataset)
    found: dict[int, int] = {}
    unknown = []
    for n, name in enumerate(raw.paths):
        try:
            clips = clip_of(name)
        except LookupError as error:
            raise FormatError(f"{raw.called(n)}: {name} may be any of {error}: give more of its path.") from None
        if not clips:
            unknown.append(n)
            continue
        clip = _segment(clips, dataset, raw.ends[n] if raw.ends else None, f"{raw.called(n)}: {name}")
        if clip in found:
            raise FormatError(f"{raw.called(n)}: {name} is given for the second time, after {raw.called(found[clip])}.")
        found[clip] = n
    if unknown:
        raise FormatError(f"{raw.called(unknown[0])}: {raw.paths[unknown[0]]} is no clip of {dataset.name} "
                          f"({len(unknown)} of {len(raw.paths)} rows are of none).")
    wrong = np.argwhere(~np.isfinite(values))
    if len(wrong):
        row, column = wrong[0]
        raise FormatError(f"{raw.called(row)}: {raw.columns[column]} of {raw.paths[row]} is {values[row, column]}: all "
                          "must be finite numbers.")
    table = np.zeros((len(dataset.items), values.shape[1]), values.dtype)
    table[list(found)] = values[list(found.values())]
    given = np.zeros(len(dataset.items), bool)
    given[list(found)] = True
    return Table(path, table, given)


def _segment(clips: Sequence[int], dataset: Dataset, ends: tuple[float | None, float | None] | None, where: str) -> int:
    """Return which of the clips of a video a row is of."""
    if ends is None:
        if len(clips) > 1:
            raise FormatError(f"{where} has {len(clips)} segments in {dataset.name}: tell which in start and end (s).")
        return clips[0]

    def same(a: float | None, b: float | None) -> bool:
        return a is b if a is None or b is None else abs(a - b) <= _TOLERANCE

    for n in clips:
        if same(dataset.items[n].start_s, ends[0]) and same(dataset.items[n].end_s, ends[1]):
            return n
    raise FormatError(f"{where} has no segment from {ends[0]} to {ends[1]} s in {dataset.name}.")


def _finder(dataset: Dataset) -> Callable[[str], list[int]]:
    """Return what finds the clips of the video that a table names; `LookupError` names two that it may be."""
    clips: dict[str, list[int]] = {}
    for n, item in enumerate(dataset.items):
        clips.setdefault(os.path.abspath(item.path), []).append(n)
    whole: dict[tuple[str, ...], set[str]] = {}
    tails: dict[tuple[str, ...], set[str]] = {}
    for video in clips:
        below = path_below(video, _above(dataset))
        for parts in {below.parts, _without_suffix(below.parts)}:
            whole.setdefault(parts, set()).add(video)
            for k in range(1, len(parts)):
                tails.setdefault(parts[k:], set()).add(video)

    def find(name: str) -> list[int]:
        path = PurePath(os.path.normpath(name))
        given = tuple(part for part in path.parts if part != path.anchor)
        for parts in (given, _without_suffix(given)):
            longer = [whole[parts[k:]] for k in range(1, len(parts)) if parts[k:] in whole]
            for videos in (whole.get(parts), tails.get(parts), *longer):
                if videos:
                    if len(videos) > 1:
                        raise LookupError(" and ".join(sorted(videos)[:2]))
                    return clips[next(iter(videos))]
        return []

    return find


def _above(dataset: Dataset) -> list[str]:
    return [dataset.root, dataset.folder or dataset.root]


def _without_suffix(parts: tuple[str, ...]) -> tuple[str, ...]:
    stem, suffix = os.path.splitext(parts[-1]) if parts else ("", "")
    return (*parts[:-1], stem) if suffix.lower() in VIDEO_SUFFIXES else parts
