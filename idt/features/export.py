"""Features in other file formats: the original text, HDF5 and Parquet."""

from __future__ import annotations

import importlib
import json
import math
import os
from collections.abc import Callable, Iterator
from typing import IO, Any, Literal, get_args

from idt._util.files import replacing
from idt._util.text import allowed_text
from idt.errors import OutputError, ParameterError
from idt.features.record import ROWS, Features, load_any
from idt.features.text import write_text

Format = Literal["text", "h5", "parquet"]

_BLOCK = 1024  # rows; the chunk of an HDF5 dataset
_GROUP = 8 * _BLOCK  # rows of a Parquet row group


def export(source: Features | str | os.PathLike[str], file: str | os.PathLike[str] | IO[str] | IO[bytes], *,
           to: Format) -> None:
    """Write features in another format, in blocks of rows, so that memory stays flat for a features file.

    Parameters
    ----------
    source : Features or path
        Whatever `load_any` reads.
    file : path or open file
        What to write; a path appears when it is complete. Only text may go to an open file.
    to : {"text", "h5", "parquet"}
        ``text``: the original program's rows, see `write_text`; needs all descriptors.

        ``h5``: one dataset for each array, in chunks of 1024 rows that can be extended; the meta as the attribute
        ``meta`` (JSON) of the file.

        ``parquet``: one row for each trajectory; `mean`, `std`, `position` and the descriptors are lists of fixed size,
        `points` is one list x, y, x, y, ...; float16 arrays become float32, which more readers know. The meta and the
        homographies (nested lists, T × 3 × 3) are JSON under the keys ``meta`` and ``homographies`` of the schema.

    Raises
    ------
    ParameterError
        The format is unknown, cannot go to an open file, or needs descriptors that are missing.
    FormatError
        The source cannot be read.
    OutputError
        The file cannot be written, or the library that writes the format is not installed.
    """
    if to not in get_args(Format):
        raise ParameterError(f"The format is {to!r}: allowed are {allowed_text(to, get_args(Format))}")
    if to == "text":
        write_text(_features(source), file)
        return
    if not isinstance(file, (str, os.PathLike)):
        raise ParameterError(f"The format {to} needs the path of a file; only text can be written to an open file.")
    writer, library = _WRITERS[to]
    try:
        importlib.import_module(library)
    except ImportError as exc:
        raise OutputError(f"{os.fspath(file)} cannot be written: {library.partition('.')[0]} is not installed; "
                          f"pip install densetraj[{to}].") from exc
    features = _features(source)
    with replacing(file) as new:
        writer(features, new)


def _features(source: Features | str | os.PathLike[str]) -> Features:
    return source if isinstance(source, Features) else load_any(source)


def _blocks(features: Features, rows: int) -> Iterator[Features]:
    for start in range(0, len(features), rows):
        yield features[start:start + rows]


def _write_h5(features: Features, file: IO[bytes]) -> None:
    import h5py

    from idt.flow.files import Sink

    sink = Sink(file)
    with h5py.File(sink, "w") as h5:
        h5.attrs["meta"] = json.dumps(features.meta)
        for name, array in features.arrays().items():
            dataset = h5.create_dataset(name, array.shape, array.dtype, maxshape=(None, *array.shape[1:]),
                                        chunks=(_BLOCK, *array.shape[1:]))
            for start in range(0, len(array), _BLOCK):
                dataset[start:start + _BLOCK] = array[start:start + _BLOCK]
                sink.check()
    sink.check()


def _write_parquet(features: Features, file: IO[bytes]) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    def column(array: Any) -> Any:
        array = array.astype(np.float32) if array.dtype == np.float16 else array
        values = pa.array(np.ascontiguousarray(array).ravel())
        return values if array.ndim == 1 else pa.FixedSizeListArray.from_arrays(values, math.prod(array.shape[1:]))

    def batch(block: Features) -> Any:
        return pa.RecordBatch.from_pydict({n: column(array) for n, array in block.arrays().items() if n in ROWS})

    notes = {"meta": json.dumps(features.meta)}
    if features.homographies is not None:
        notes["homographies"] = json.dumps(features.homographies.tolist())
    schema = batch(features[:1]).schema.with_metadata(notes)
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for block in _blocks(features, _GROUP):
            writer.write_batch(batch(block).replace_schema_metadata(notes))


_WRITERS: dict[str, tuple[Callable[[Features, IO[bytes]], None], str]] = {
    "h5": (_write_h5, "h5py"), "parquet": (_write_parquet, "pyarrow.parquet")}
