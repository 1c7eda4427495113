"""Features in other formats."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow.parquet
import pytest
from random_features import random_features, run_limited

from idt.errors import FormatError, OutputError, ParameterError
from idt.features.export import export
from idt.features.record import Features
from idt.features.text import write_text


@pytest.fixture
def source(tmp_path: Path) -> Path:
    random_features(3000).save(tmp_path / "in" / "a.npz")
    return tmp_path / "in" / "a.npz"


def test_text_from_a_file_to_a_path_and_to_a_stream(source: Path, tmp_path: Path) -> None:
    expected = io.BytesIO()
    write_text(Features.load(source), expected)
    export(source, tmp_path / "a.txt", to="text")
    assert (tmp_path / "a.txt").read_bytes() == expected.getvalue()
    stream = io.StringIO()
    export(source, stream, to="text")
    assert stream.getvalue().encode() == expected.getvalue()


@pytest.mark.parametrize("rows", [0, 1, 3000])
@pytest.mark.parametrize("changes", [{}, {"hog": None, "points": None, "homographies": None}])
def test_hdf5_holds_the_same_arrays(tmp_path: Path, rows: int, changes: dict[str, Any]) -> None:
    features = random_features(rows, **changes)
    export(features, tmp_path / "a.h5", to="h5")
    with h5py.File(tmp_path / "a.h5") as file:
        assert set(file) == set(features.arrays())
        assert json.loads(file.attrs["meta"]) == features.meta
        for name, array in features.arrays().items():
            assert file[name].dtype == array.dtype
            assert file[name].chunks == (1024, *array.shape[1:])
            assert file[name].maxshape[0] is None
            np.testing.assert_array_equal(file[name][:], array)


@pytest.mark.parametrize("rows", [0, 1, 10_000])
@pytest.mark.parametrize("changes", [{}, {"hog": None, "points": None, "homographies": None}])
def test_parquet_has_a_row_for_each_trajectory(tmp_path: Path, rows: int, changes: dict[str, Any]) -> None:
    features = random_features(rows, **changes)
    export(features, tmp_path / "a.parquet", to="parquet")
    table = pyarrow.parquet.read_table(tmp_path / "a.parquet")
    assert table.num_rows == rows
    assert table.column_names == [name for name in features.arrays() if name != "homographies"]
    for name, array in features.arrays().items():
        if name == "homographies":
            kept = json.loads(table.schema.metadata[b"homographies"])
            np.testing.assert_array_equal(np.array(kept), array)
            continue
        values = table[name].combine_chunks()
        flat = values.flatten() if array.ndim > 1 else values
        np.testing.assert_array_equal(flat.to_numpy().reshape(array.shape), array)
        assert array.ndim == 1 or values.type.list_size == array[:1].size or not rows
        assert flat.type == {"frame": "int32", "time": "double"}.get(name, "float")
    assert json.loads(table.schema.metadata[b"meta"]) == features.meta
    assert (b"homographies" in table.schema.metadata) == (features.homographies is not None)


@pytest.mark.parametrize("to", ["text", "h5", "parquet"])
def test_equal_features_give_equal_bytes(source: Path, tmp_path: Path, to: Any) -> None:
    export(source, tmp_path / "a", to=to)
    export(Features.load(source), tmp_path / "b", to=to)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("to", ["h5", "parquet"])
def test_library_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: Any) -> None:
    library = {"h5": "h5py", "parquet": "pyarrow"}[to]
    for name in [name for name in sys.modules if name.partition(".")[0] == library]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(OutputError, match=rf"a\.x cannot be written: {library} is not installed; "
                                          rf"pip install densetraj\[{to}\]\.$"):
        export(random_features(2), tmp_path / "a.x", to=to)
    assert os.listdir(tmp_path) == []


def test_what_cannot_be(tmp_path: Path, source: Path) -> None:
    with pytest.raises(ParameterError, match=r"The format is 'csv': allowed are text, h5, parquet\."):
        export(source, tmp_path / "a.csv", to="csv")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="The format h5 needs the path of a file"):
        export(source, io.BytesIO(), to="h5")
    with pytest.raises(ParameterError, match="these features have no hof"):
        export(random_features(2, hof=None), tmp_path / "a.txt", to="text")
    for to in ("text", "h5", "parquet"):
        with pytest.raises(FormatError, match=r"none\.npz does not exist"):
            export(tmp_path / "none.npz", tmp_path / "a", to=to)  # type: ignore[arg-type]
        with pytest.raises(OutputError, match=r"a\.npz/x cannot be written: .*a\.npz is not a folder"):
            export(source, source / "x", to=to)  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == ["in"]


@pytest.mark.parametrize("to", ["text", "h5", "parquet"])
@pytest.mark.parametrize("limit", [0, 10_000, 1_500_000])
def test_full_disk(source: Path, tmp_path: Path, to: str, limit: int) -> None:
    code = ("import os, sys\nfrom idt.errors import OutputError\nfrom idt.features.export import export\n"
            "try: export(sys.argv[1], sys.argv[2], to=sys.argv[3])\n"
            "except OutputError as exc: print(exc)\n"
            "print(os.listdir(os.path.dirname(sys.argv[2])))\n")
    result = run_limited(code, source, tmp_path / "out" / "a", to, limit=limit)
    assert result.stdout == f"{tmp_path / 'out' / 'a'} cannot be written: File too large.\n[]\n"
    assert result.stderr == ""
    assert result.returncode == 0


@pytest.mark.parametrize("to", ["text", "h5"])
def test_memory_does_not_grow_with_the_rows(tmp_path: Path, to: Any) -> None:
    peaks = []
    for rows in (5_000, 15_000):
        dataclasses.replace(random_features(rows), homographies=None).save(tmp_path / "a.npz")
        export(tmp_path / "a.npz", tmp_path / "out", to=to)
        tracemalloc.start()
        export(tmp_path / "a.npz", tmp_path / "out", to=to)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 500_000
    assert peaks[1] < 40e6
