"""The original program's text format: one trajectory a line, 436 tab-separated numbers by default."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import io
import os
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from idt._util.files import replacing
from idt.errors import FormatError, ParameterError
from idt.features.record import FORMAT, Features
from idt.params import DESCRIPTORS, Params

Array = NDArray[Any]

_HEAD = ("frame", "mean", "std", "length", "scale", "position", "trajectory")
_TAIL = ("hog", "hof", "mbhx", "mbhy")
_BLOCK = 1024  # rows

# A number in [0, 10) with seven decimals is two pieces of five bytes, "d.ddd" and "dddd\t", each one of 10,000.
_DIGITS = [f"{i:04d}" for i in range(10_000)]
_HIGH = np.array([f"{d[0]}.{d[1:]}" for d in _DIGITS], "S5")
_LOW = np.array([f"{d}\t" for d in _DIGITS], "S5")


def write_text(features: Features, file: str | os.PathLike[str] | IO[str] | IO[bytes]) -> None:
    """Write the rows in the format of the original program (ALGORITHM section 11).

    A line has frame, mean x y, std x y, length, scale, position x y t, trajectory (all ``%f`` but the frame), then HOG,
    HOF, MBHx and MBHy (``%.7f``), each number followed by a tab. `points`, `homographies`, `time` and the meta are not
    in it.

    Parameters
    ----------
    features : Features
        With all five descriptors.
    file : path or open file
        A path ending in ``.gz`` is compressed. An open file, text or binary (``sys.stdout``), is written to and left
        open; what it raises is passed on.

    Raises
    ------
    ParameterError
        A descriptor is missing.
    OutputError
        The path cannot be written; nothing remains then.
    """
    missing = [name for name in DESCRIPTORS if getattr(features, name) is None]
    if missing:
        raise ParameterError(f"The text format needs all descriptors and these features have no {', '.join(missing)}: "
                             "extract with all of them.")
    if isinstance(file, (str, os.PathLike)):
        with replacing(file) as plain:
            if os.fspath(file).endswith(".gz"):
                with gzip.GzipFile("", "wb", 1, plain, mtime=0) as packed:
                    _write_rows(features, packed.write)
            else:
                _write_rows(features, plain.write)
    elif isinstance(file, io.TextIOBase):
        _write_rows(features, lambda block: file.write(block.decode("ascii")))
    else:
        _write_rows(features, file.write)  # type: ignore[arg-type]


def _write_rows(features: Features, write: Callable[[bytes], Any]) -> None:
    assert features.trajectory is not None
    head = "%d\t" + "%f\t" * (9 + features.trajectory.shape[1])
    for start in range(0, len(features), _BLOCK):
        f = features[start:start + _BLOCK]
        numbers = np.column_stack([getattr(f, name) for name in _HEAD])
        tails = _seven_decimals(np.hstack([getattr(f, name) for name in _TAIL], dtype=np.float32))
        write(b"".join([(head % tuple(row)).encode() + tail + b"\n"
                        for row, tail in zip(numbers.tolist(), tails, strict=True)]))


def _seven_decimals(values: Array) -> list[bytes]:
    """Return each row of float32 `values` as ``%.7f`` prints it, with a tab after each number."""
    if values.size and not (np.signbit(values).any() or not values.max() < 9.9):
        # A float32 has 24 significant bits and 10**7 is 2**7 times an integer of 17 bits: the product is exact in
        # double, so rounding it half to even gives what printf gives.
        high, low = np.divmod(np.rint(np.multiply(values, 1e7, dtype=np.float64)).astype(np.int32), 10_000)
        text = np.stack([_HIGH[high], _LOW[low]], axis=2)
        return [row.tobytes() for row in text]
    row_format = "%.7f\t" * values.shape[1]
    return [(row_format % tuple(row)).encode() for row in values.tolist()]


def read_text(path: str | os.PathLike[str], params: Params | None = None) -> Features:
    """Read rows in the format of the original program, gzipped or not.

    All numbers but the frame are kept as float32, whatever ``params.dtype`` says: a text holds more digits than a
    float16, and writing the rows again gives the same text. `time` is NaN, `points` and `homographies` are None;
    ``meta["origin"]`` is "text", and what a text does not tell (video, span, key) is None.

    Parameters
    ----------
    path : path
    params : Params, optional
        What the rows were made with (default: the standard): they must have 10 + 2 L + 33 s² t numbers, for length L,
        s spatial and t temporal cells.

    Raises
    ------
    FormatError
        The file is missing or damaged, or a line does not have that many numbers; the line is named.
    """
    params = dataclasses.replace(params or Params(), dtype="float32")
    cells = params.spatial_cells**2 * params.temporal_cells
    ends = np.cumsum([1, 2, 2, 1, 1, 3, 2 * params.length, 8 * cells, 9 * cells, 8 * cells, 8 * cells])
    table = np.concatenate([np.zeros((0, ends[-1]), np.float32), *_tables(path, params, int(ends[-1]))])
    frame, mean, std, length, scale, position, *blocks = np.split(table, ends[:-1], axis=1)
    meta = {"kind": "features", "format": FORMAT, "origin": "text", "params": params.to_dict(), "video": None,
            "span": None, "rows": len(table), "reason": None, "key": None}
    return Features(frame=frame[:, 0].astype(np.int32), time=np.full(len(table), np.nan), mean=mean, std=std,
                    length=length[:, 0], scale=scale[:, 0], position=position, meta=meta, path=os.fspath(path),
                    **dict(zip(DESCRIPTORS, blocks, strict=True)))


def _tables(path: str | os.PathLike[str], params: Params, columns: int) -> Iterator[Array]:
    """Yield the numbers of the file as float32 tables of some rows."""
    rows: list[Array] = []
    for number, line in _lines(path):
        fields = line.split()
        if len(fields) != columns:
            raise FormatError(
                f"{os.fspath(path)}, line {number}: {len(fields)} numbers, expected are {columns} for length "
                f"{params.length}, {params.spatial_cells} spatial and {params.temporal_cells} temporal cells; give the "
                "parameters that the file was made with.")
        try:
            rows.append(np.array(fields, np.float64))
        except ValueError as exc:
            raise FormatError(f"{os.fspath(path)}, line {number}: {exc}; expected are {columns} numbers.") from exc
        if not 0 <= rows[-1][0] < 2**24 or rows[-1][0] % 1:
            raise FormatError(f"{os.fspath(path)}, line {number}: the frame is {rows[-1][0]:g}; expected is an index "
                              "from 0.")
        if len(rows) == _BLOCK:
            yield np.array(rows, np.float32)
            rows = []
    if rows:
        yield np.array(rows, np.float32)


def _lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, str]]:
    """Yield number and text of the lines that are not blank."""
    try:
        with contextlib.ExitStack() as stack:
            file: Any = stack.enter_context(open(path, "rb"))
            if file.peek(2)[:2] == b"\x1f\x8b":
                file = stack.enter_context(gzip.GzipFile(fileobj=file))
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line.decode("ascii", "replace")
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise FormatError(f"{os.fspath(path)} does not exist.") from exc
    except (OSError, EOFError, zlib.error) as exc:
        raise FormatError(f"{os.fspath(path)} cannot be read: {exc}.") from exc
