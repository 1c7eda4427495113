"""Tables of other programs: scores or features of the clips of a dataset, as CSV, ``.npz`` or ``.h5``."""

from __future__ import annotations

import codecs
import csv
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from idt._util.text import allowed_text, nearest
from idt.errors import FormatError, ParameterError
from idt.recognition.datasets import Dataset, Split
from idt.recognition.evaluation import COMBINED
from idt.runner.inputs import VIDEO_SUFFIXES, path_below

Array: TypeAlias = NDArray[Any]
Paths: TypeAlias = str | os.PathLike[str]

_NO_FEATURES = frozenset({"channel", "class", "group", "label", "method", "predicted", "target"})
_PLACE = ("path", "split", "start", "end")  # columns that tell which clip a row is of, and which split it is for
_ARRAYS = {"scores": frozenset({*_PLACE, "scores", "classes"}), "features": frozenset({*_PLACE, "features"})}
_PREFIX = "score_"  # of the classes in the tables of this package
_LIKE = {"scores": "a class", "features": "a feature"}  # what any other column is
_SEPARATORS = {";": "semicolons", "\t": "tabs"}  # that spreadsheets write in place of commas
_TOLERANCE = 1e-6  # s, of the ends of a segment


@dataclass(frozen=True, eq=False)
class Table:
    """Numbers for the clips of a dataset.

    Attributes
    ----------
    path : Path
        The file.
    values : ndarray, shape (rows, columns), float32 or float64
        The columns of scores are the classes of the dataset, in its order.
    rows : dict of str to ndarray, shape (clips,), int
        By the name of a split the row of each item of the dataset, -1 where the file has none.
    by_split : bool
        Whether each row counts for one split alone, and not for all of them.
    """

    path: Path
    values: Array
    rows: Mapping[str, NDArray[np.intp]]
    by_split: bool

    def require(self, dataset: Dataset, sides: Iterable[tuple[Split, Iterable[int]]], use: str) -> None:
        """Raise `FormatError` unless there is a row for each clip of the splits, which are used as `use` says."""
        told = list(sides)
        if not self.by_split:  # the rows of all are the same
            told = [(told[0][0], [n for _, clips in told for n in clips])]
        for split, clips in told:
            wanted = sorted(set(clips))
            if missing := [n for n in wanted if self.rows[split.name][n] < 0]:
                row = f"row of {split.name}" if self.by_split else "row"
                clip = path_below(dataset.items[missing[0]].path, _above(dataset))
                raise FormatError(f"{self.path}: there is no {row} for {clip} ({len(missing)} of {len(wanted)} clips "
                                  f"that are {use} have none).")

    def of(self, split: Split, clips: Sequence[int]) -> Array:
        """Return the rows of clips in a split; they must have some, see `require`."""
        return self.values[self.rows[split.name][list(clips)]]

    def unit(self, split: Split, clips: Sequence[int]) -> Array:
        """Return the rows of clips in a split, each scaled to length 1, apart from zeros."""
        rows = self.of(split, clips)
        for size in (np.max, np.linalg.norm):  # the largest first: squares of what is left are in range
            lengths = size(np.abs(rows), axis=1, keepdims=True)
            np.divide(rows, lengths, out=rows, where=lengths > 0)
        return rows


@dataclass(frozen=True, eq=False)
class _Raw:
    """What a file holds: a row of each array for each clip, and what errors call the rows.

    `own` tells that this package wrote it, whose scores are -inf of a class that a training side lacks.
    """

    paths: Sequence[str]
    splits: Sequence[str] | None
    ends: Sequence[tuple[float | None, float | None]] | None
    columns: Sequence[str]
    values: Array
    called: Callable[[int], str]
    own: bool = False


def read_scores(path: Paths, dataset: Dataset, splits: Sequence[Split], method: str) -> Table:
    """Read the scores of clips: a CSV with a column ``path`` and one for each class, or arrays in a file.

    A clip is named by its path below the dataset, or any end of it that no other clip has, such as the name of its
    file, with or without the suffix; longer paths that end like this are taken, too. Where several clips are segments
    of one video, ``start`` and ``end`` (s) tell which. With a column ``split`` each row counts for the split of this
    name alone, whatever the capitals (1 is enough for "split 1"); without it rows count for all splits.

    The columns of classes may also be named ``score_CLASS``, as in the tables that `idt.recognition.result_files` and
    `idt.comparison.result_files` write; other columns are then passed over. Of such a table with a column ``channel``
    the rows of all channels combined count; with a column ``method``, those of the method.

    An ``.npz`` or ``.h5`` has the arrays ``path`` (texts), ``scores`` (clips, classes) and ``classes`` (texts), and
    perhaps ``split`` (texts or integers), ``start`` and ``end``.

    Parameters
    ----------
    path : path
    dataset : Dataset
    splits : sequence of Split
        Those that are compared on.
    method : str
        The name of the method.

    Raises
    ------
    FormatError
        The file cannot be read or lacks something; a clip is unknown, ambiguous or named twice; a split, or a class, is
        unknown; a class has no column; a value is no finite number. The row and the column are named.
    ParameterError
        An ``.h5`` cannot be read without h5py.
    """
    raw = _read(Path(path), "scores", dataset, method)
    order = _order(raw.columns, dataset, Path(path))
    return _placed(replace(raw, columns=dataset.classes, values=raw.values[:, order]), dataset, splits, Path(path))


def read_vectors(path: Paths, dataset: Dataset, splits: Sequence[Split]) -> Table:
    """Read the features of clips: a CSV with a column ``path`` and any number of others, or arrays in a file.

    An ``.npz`` or ``.h5`` has the arrays ``path`` (texts) and ``features`` (clips, columns). All else, and the errors,
    are those of `read_scores`.
    """
    return _placed(_read(Path(path), "features", dataset), dataset, splits, Path(path))


def _read(path: Path, what: Literal["scores", "features"], dataset: Dataset, method: str = "") -> _Raw:
    suffix = path.suffix.lower()
    try:
        if suffix == ".csv":
            return _from_csv(path, what, dataset, method)
        if suffix == ".npz":
            return _from_arrays(path, what, _npz_arrays(path, what))
        if suffix in (".h5", ".hdf5"):
            return _from_arrays(path, what, _h5_arrays(path, what))
    except OSError as error:
        raise FormatError(f"{path}: the table cannot be read ({error.strerror or error}).") from error
    except (FormatError, ParameterError):
        raise
    except Exception as error:  # zipfile, zlib and NumPy raise nearly anything on damaged bytes
        raise FormatError(f"{path}: the table cannot be read ({error}).") from error
    raise FormatError(f"{path}: a table of {what} is a CSV (.csv), .npz or .h5 file.")


def _from_csv(path: Path, what: str, dataset: Dataset, method: str) -> _Raw:
    with open(path, "rb") as raw:
        if raw.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) or b"\0" in raw.read(1000):
            raise FormatError(f"{path}: the table is UTF-16, or no text at all: save it as CSV in UTF-8.")
    paths, splits, ends, lines, rows, seen = [], [], [], [], [], []
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:  # names need not be UTF-8
        first = file.readline()
        for separator, called in _SEPARATORS.items():
            if separator in first and "path" in [name.strip().strip('"') for name in first.split(separator)]:
                raise FormatError(f"{path}: the columns are separated by {called}: it must be commas.")
        file.seek(0)
        reader = csv.reader(file, skipinitialspace=True, strict=True)
        try:
            header = [name.strip() for name in next(filter(any, reader), [])]
            prefixed = what == "scores" and any(name.startswith(_PREFIX) for name in header)
            _check_header(header, what, prefixed, path)
            chosen = [n for n, name in enumerate(header)
                      if (name.startswith(_PREFIX) if prefixed else name not in _PLACE)]
            names = [header[n].removeprefix(_PREFIX if prefixed else "") for n in chosen]
            if what == "scores":
                # Before the rows: what is no class may hold texts.
                _order(names, dataset, path, "" if prefixed else " Columns may be called score_CLASS, to stand beside "
                                                                "others.")
            kind = next((name for name in ("channel", "method") if prefixed and name in header), None)
            wanted = {"channel": COMBINED, "method": method, None: ""}[kind]
            for fields in reader:
                if not any(fields):
                    continue
                where = f"{path}, line {reader.line_num}"
                if len(fields) != len(header):
                    raise FormatError(f"{where}: {len(fields)} fields, but the first line names {len(header)} columns.")
                row = {name: field.strip() for name, field in zip(header, fields, strict=True)
                       if name in (*_PLACE, kind)}
                if kind is not None and row[kind] != wanted:
                    seen.append(row[kind])
                    continue
                paths.append(row["path"])
                splits.append(row.get("split", ""))
                ends.append((_seconds(row.get("start"), where), _seconds(row.get("end"), where)))
                lines.append(reader.line_num)
                rows.append(_numbers([fields[n] for n in chosen], [header[n] for n in chosen], where))
        except csv.Error as error:
            raise FormatError(f"{path}, line {reader.line_num}: not CSV ({error}).") from error
    if seen and not rows:
        raise FormatError(f"{path}: no row is of the {kind} {wanted!r}: its {kind}s are "
                          f"{allowed_text(wanted, list(dict.fromkeys(seen)))}")
    values = np.array(rows, np.float64).reshape(len(rows), len(chosen))
    return _Raw(paths, splits if "split" in header else None, ends if {"start", "end"} & set(header) else None, names,
                values, lambda n: f"{path}, line {lines[n]}", kind is not None)


def _check_header(header: Sequence[str], what: str, prefixed: bool, path: Path) -> None:
    """Raise `FormatError` unless the columns of a CSV may be what they have to be."""
    if not header:
        raise FormatError(f"{path}: the table is empty.")
    if "path" not in header:
        alike = [name for name in header if name.lower() == "path"]
        raise FormatError(f"{path}: the first line names no column path, which tells the clip of a row" + (
            f", but {alike[0]}: capitals count." if alike else "."))
    if prefixed or what == "features":
        _check_capitals(header, (*_PLACE, "channel", "method") if prefixed else _PLACE, "column", path)
    for name in header if not prefixed else ():  # else it is passed over
        if name == "" or name.startswith("Unnamed:") or (what == "features" and name.casefold() in _NO_FEATURES):
            raise FormatError(f"{path}: the column {name!r} does not look like {_LIKE[what]}: take it out (pandas "
                              "writes no numbers of rows with index=False).")
    if len(set(header)) < len(header):
        raise FormatError(f"{path}: the first line names a column twice: {_twice(header)}.")


def _check_capitals(names: Collection[str], heeded: Collection[str], kind: str, path: Path) -> None:
    """Raise `FormatError` where a name would be heeded but for its capitals, and no other is."""
    for name in names:
        if name not in heeded and name.casefold() in heeded and name.casefold() not in names:
            raise FormatError(f"{path}: the {kind} {name!r} must be called {name.casefold()!r}: capitals count.")


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


def _npz_arrays(path: Path, what: str) -> dict[str, Array]:
    arrays = {}
    with open(path, "rb") as raw:
        start = raw.read(6)
        if start == b"\x93NUMPY":
            raise FormatError(f"{path}: this is a single array (.npy): save all that a table has with numpy.savez.")
        if not start.startswith(b"PK"):
            raise FormatError(f"{path}: this is no .npz file, which numpy.savez writes.")
        raw.seek(0)
        with np.load(raw, allow_pickle=False) as file:
            _check_capitals(file.files, _ARRAYS[what], "array", path)
            for name in _ARRAYS[what] & set(file.files):
                try:
                    arrays[name] = file[name]
                except ValueError as error:
                    if "allow_pickle" not in str(error):
                        raise
                    raise FormatError(f"{path}: {name} holds Python objects, which are not read: save texts as "
                                      "numpy.array(names, dtype=str), and numbers as an array of one type.") from None
    return arrays


def _h5_arrays(path: Path, what: str) -> dict[str, Array]:
    try:
        import h5py
    except ImportError:
        raise ParameterError(f"{path} needs h5py, but that is not installed: pip install densetraj[h5].") from None
    with h5py.File(path, "r") as file:
        _check_capitals(file, _ARRAYS[what], "array", path)
        return {name: one.asstr()[()] if h5py.check_string_dtype(one.dtype) else one[()]
                for name, one in file.items() if name in _ARRAYS[what] and isinstance(one, h5py.Dataset)}


def _from_arrays(path: Path, what: str, arrays: Mapping[str, Array]) -> _Raw:
    texts = ["path", "classes"] if what == "scores" else ["path"]
    for name in (what, *texts):
        if name not in arrays:
            raise FormatError(f"{path}: there is no array {name}; a table of {what} has {', '.join(texts)} and {what}.")
    values = arrays[what]
    if values.dtype.kind not in "fiu" or values.ndim != 2:
        raise FormatError(f"{path}: {what} has the shape {values.shape} and type {values.dtype}: it must be a table of "
                          "numbers, one clip a row.")
    lengths = dict.fromkeys(_PLACE, len(values))
    for name, length in (lengths | {"classes": values.shape[1]} if what == "scores" else lengths).items():
        if name in arrays and arrays[name].shape != (length,):
            raise FormatError(f"{path}: {name} has the shape {arrays[name].shape}, but {what} {values.shape}.")
    paths, *classes = ([_text(one, name, path) for one in arrays[name].tolist()] for name in texts)
    splits = None
    if "split" in arrays:
        splits = [str(one) if type(one) is int else _text(one, "split", path) for one in arrays["split"].tolist()]
    ends = None
    if {"start", "end"} & arrays.keys():
        nothing = np.full(len(values), np.nan)
        both = [arrays.get(name, nothing) for name in ("start", "end")]
        if not all(times.dtype.kind in "fiu" for times in both):
            raise FormatError(f"{path}: start and end must be numbers, seconds or NaN, not of the types "
                              f"{' and '.join(str(times.dtype) for times in both)}.")
        ends = [(None if np.isnan(start) else float(start), None if np.isnan(end) else float(end))
                for start, end in zip(*both, strict=True)]
    columns = classes[0] if classes else [f"column {n}" for n in range(values.shape[1])]
    kind = np.float32 if values.dtype in (np.float16, np.float32) else np.float64
    return _Raw(paths, splits, ends, columns, values.astype(kind, copy=False), lambda n: f"{path}, row {n}")


def _text(value: Any, name: str, path: Path) -> str:
    if not isinstance(value, str | bytes):
        raise FormatError(f"{path}: {name} holds {value!r}: it must hold texts.")
    return os.fsdecode(value)


def _order(columns: Sequence[str], dataset: Dataset, path: Path, hint: str = "") -> list[int]:
    """Return the column of each class; the hint is for those who have a column that is none."""
    for name in columns:
        if name not in dataset.classes:
            alike = [label for label in dataset.classes if label.lower() == name.lower()]
            raise FormatError(f"{path}: the column {name} is no class of {dataset.name}" + (
                f", which has {alike[0]}: capitals count." if alike else
                nearest(name, (*dataset.classes, *_PLACE)) + hint))
    if len(set(columns)) < len(columns):
        raise FormatError(f"{path}: a class has two columns: {_twice(columns)}.")
    if missing := [label for label in dataset.classes if label not in columns]:
        raise FormatError(f"{path}: there is no column for the class {missing[0]} ({len(missing)} of "
                          f"{len(dataset.classes)} classes have none).")
    return [list(columns).index(label) for label in dataset.classes]


def _twice(names: Sequence[str]) -> str:
    return next(name for n, name in enumerate(names) if name in names[:n])


def _placed(raw: _Raw, dataset: Dataset, splits: Sequence[Split], path: Path) -> Table:
    """Return the table, whose rows have found their clips and splits."""
    if not raw.paths:
        raise FormatError(f"{path}: the table has no row.")
    if not raw.values.shape[1]:
        raise FormatError(f"{path}: the table has no column of numbers.")
    names = [split.name for split in splits]
    if not set(names).isdisjoint(dataset.official):  # a table of all of them is one of some of them
        names = list(dict.fromkeys([*names, *dataset.official]))
    nothing = np.full(len(dataset.items), -1, np.intp)
    rows = dict.fromkeys(names, nothing) if raw.splits is None else {name: nothing.copy() for name in names}
    clip_of, split_of = _finder(dataset), _split_finder(names)
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
        split, of_split = names[0], ""
        if raw.splits is not None:
            found = split_of(raw.splits[n])
            if found is None:
                raise FormatError(f"{raw.called(n)}: split is {raw.splits[n]!r}, but the splits are called "
                                  f"{allowed_text(raw.splits[n], names)}")
            split, of_split = found, f" of {found}"
        if (before := rows[split][clip]) >= 0:
            raise FormatError(f"{raw.called(n)}: {name}{of_split} is given for the second time, after "
                              f"{raw.called(before)}.")
        rows[split][clip] = n
    if unknown:
        name = raw.paths[unknown[0]]
        raise FormatError(f"{raw.called(unknown[0])}: {name} is no clip of {dataset.name}{_alike(name, dataset)} "
                          f"({len(unknown)} of {len(raw.paths)} rows are of none).")
    wrong = np.argwhere(~(np.isfinite(raw.values) | (np.isneginf(raw.values) & raw.own)))
    if len(wrong):
        row, column = wrong[0]
        raise FormatError(f"{raw.called(row)}: {raw.columns[column]} of {raw.paths[row]} is {raw.values[row, column]}: "
                          "all must be finite numbers.")
    return Table(path, raw.values, rows, raw.splits is not None)


def _split_finder(names: Sequence[str]) -> Callable[[str], str | None]:
    """Return what finds the name of the split that a table names, None if there is none."""
    known = {name.casefold().removeprefix("split "): name for name in names}
    known |= {name.casefold(): name for name in names}
    known |= {name: name for name in names}

    def find(given: str) -> str | None:
        folded = given.casefold()
        whole = re.fullmatch(r"(\d+)\.0", folded)  # as pandas writes numbers where a row has none
        return known.get(given) or known.get(folded) or (known.get(whole[1]) if whole else None)

    return find


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


def _alike(name: str, dataset: Dataset) -> str:
    """Return what an error adds about a clip that is unknown, but known in other capitals."""
    try:
        clips = _finder(dataset, str.casefold)(name)
    except LookupError:
        return ""
    return f", which has {path_below(dataset.items[clips[0]].path, _above(dataset))}: capitals count" if clips else ""


def _finder(dataset: Dataset, same: Callable[[str], str] = str) -> Callable[[str], list[int]]:
    """Return what finds the clips of the video that a table names; `LookupError` names two that it may be.

    Parts of paths are compared as `same` makes them.
    """
    clips: dict[str, list[int]] = {}
    for n, item in enumerate(dataset.items):
        clips.setdefault(os.path.abspath(item.path), []).append(n)
    whole: dict[tuple[str, ...], set[str]] = {}
    tails: dict[tuple[str, ...], set[str]] = {}
    for video in clips:
        below = tuple(map(same, path_below(video, _above(dataset)).parts))
        for parts in {below, _without_suffix(below)}:
            whole.setdefault(parts, set()).add(video)
            for k in range(1, len(parts)):
                tails.setdefault(parts[k:], set()).add(video)

    def find(name: str) -> list[int]:
        path = PurePath(os.path.normpath(name))
        given = tuple(same(part) for part in path.parts if part != path.anchor)
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
