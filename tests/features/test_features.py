"""Features: the record, its file, and the writer."""

from __future__ import annotations

import dataclasses
import io
import json
import mmap
import os
import pickle
import signal
import subprocess
import sys
import time
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_features import chunks_of, random_features, run_limited, same

import idt.features.record
from idt.errors import FormatError, OutputError, ParameterError
from idt.features.record import ARRAYS, Features, FeatureWriter, load_any
from waiting import PATIENCE_S


def changed(path: Path, **members: Any) -> None:
    """Write the members of a features file again, some changed (None: left out; a dict: other meta)."""
    with zipfile.ZipFile(path) as old:
        raw = {name: old.read(name) for name in old.namelist()}
    for name, value in members.items():
        if isinstance(value, dict):
            value = np.array(json.dumps({**json.loads(str(np.load(io.BytesIO(raw["meta.npy"])))), **value}))
        raw.pop(f"{name}.npy", None)
        if isinstance(value, bytes):
            raw[f"{name}.npy"] = value
        elif value is not None:
            buffer = io.BytesIO()
            np.save(buffer, value)
            raw[f"{name}.npy"] = buffer.getvalue()
    with zipfile.ZipFile(path, "w") as new:
        for name, content in raw.items():
            new.writestr(name, content)


def write(path: Path, *chunks: Features, error: type[BaseException] | None = None) -> dict[str, Any]:
    """Write the chunks, raise the error inside the block if one is given, and return the meta."""
    before = os.listdir(path.parent)
    with FeatureWriter(path) as writer:
        for chunk in chunks:
            writer.append(chunk)
        assert os.listdir(path.parent) == before
        if error:
            raise error
    return writer.meta


# The record

def test_rows_are_chosen_by_slice_mask_and_indices() -> None:
    whole = random_features(20)
    mask = np.arange(20) % 3 == 0
    for rows, expected in ((slice(2, 9, 2), np.arange(2, 9, 2)), (mask, np.flatnonzero(mask)),
                           (np.array([5, 0, 5]), np.array([5, 0, 5])), ([], np.zeros(0, int)), (~mask & mask, [])):
        part = whole[rows]
        assert len(part) == len(expected)
        for name, array in part.arrays().items():
            if name != "homographies":
                np.testing.assert_array_equal(array, getattr(whole, name)[np.array(expected, int)])
        assert part.homographies is whole.homographies
        assert part.meta is whole.meta
    assert np.shares_memory(whole[:3].hog, whole.hog)


@pytest.mark.parametrize("rows", [3, np.int64(3), np.zeros((2, 2), int)])
def test_one_row_is_asked_for_with_a_slice(rows: Any) -> None:
    with pytest.raises(ParameterError, match=r"write features\[i:i \+ 1\]"):
        random_features(5)[rows]


@pytest.mark.parametrize(("changes", "message"), [
    ({"hog": np.zeros((4, 96))}, r"hog has the shape \(4, 96\): for 5 rows it must be \(5, any\)\."),
    ({"mean": np.zeros((5, 3))}, r"mean has the shape \(5, 3\): for 5 rows it must be \(5, 2\)\."),
    ({"frame": np.zeros((5, 1))}, r"frame has the shape \(5, 1\)"),
    ({"homographies": np.zeros((3, 9))}, r"homographies has the shape \(3, 9\): .* \(any, 3, 3\)\."),
    ({"time": [0.0] * 5}, "time is of type list: it must be an array"),
    ({"frame": [0] * 5}, "frame is of type list: it must be an array"),
    ({"points": np.zeros((5, 15, 2))}, "trajectory has 30 values and points has 15 points a row"),
])
def test_shapes_are_checked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        random_features(5, **changes)


def test_text_of_an_object_is_short() -> None:
    assert repr(random_features(5, hof=None)) == "Features(5 rows, trajectory 30, hog 96, mbhx 96, mbhy 96)"


def test_chunks_of_a_stream_make_the_whole() -> None:
    whole = random_features(50)
    joined = Features.concatenate(iter(chunks_of(whole, 7)))
    t = np.clip((whole.frame - 7.5) / 40, 0, 0.999).astype(np.float32)
    np.testing.assert_array_equal(joined.position[:, 2], t)
    assert np.isnan(whole.position[:, 2]).all()
    expected = whole.position.copy()
    expected[:, 2] = t
    same(joined, dataclasses.replace(whole, position=expected))
    assert joined.meta == whole.meta


def test_time_that_is_known_or_cannot_be_known_stays() -> None:
    chunk = random_features(9)
    chunk.position[3, 2] = 0.25
    joined = Features.concatenate([chunk])
    assert joined.position[3, 2] == 0.25
    assert not np.isnan(joined.position).any()
    unknown = Features.concatenate([dataclasses.replace(chunk, meta={"span": None})])
    np.testing.assert_array_equal(unknown.position, chunk.position)


def test_chunks_that_differ_are_refused(tmp_path: Path) -> None:
    chunk = random_features(5)
    with pytest.raises(ParameterError, match="There are no chunks"):
        Features.concatenate([])
    for name, other in (("hog", chunk.hog[:, :8]), ("mbhy", None), ("hof", chunk.hof.astype(np.float32))):
        with pytest.raises(ParameterError, match=rf"do not fit together: type and row shape of {name} are"):
            Features.concatenate([chunk, dataclasses.replace(chunk, **{name: other})])
        with pytest.raises(ParameterError, match=name):
            write(tmp_path / "a.npz", chunk, dataclasses.replace(chunk, **{name: other}))
    assert os.listdir(tmp_path) == []


# The file

@pytest.mark.parametrize("rows", [0, 1, 300])
@pytest.mark.parametrize("changes", [{}, {"hog": None, "points": None, "homographies": None}])
def test_what_is_saved_is_loaded(tmp_path: Path, rows: int, changes: dict[str, Any]) -> None:
    whole = Features.concatenate([random_features(rows, **changes)])
    path = tmp_path / "new" / "a.npz"
    whole.save(path)
    assert os.listdir(path.parent) == ["a.npz"]
    loaded = Features.load(path)
    same(loaded, whole)
    assert loaded.meta == whole.meta
    for name, array in loaded.arrays().items():
        assert not array.flags.writeable
        assert array.ctypes.data % 64 == 0, name
        assert isinstance(array.base, mmap.mmap)
    with np.load(path, allow_pickle=False) as plain:
        assert plain.files == ["meta", *whole.arrays()]
        for name, array in whole.arrays().items():
            np.testing.assert_array_equal(plain[name], array)
        assert json.loads(str(plain["meta"]))["rows"] == rows
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None


def test_types_of_the_file_are_fixed(tmp_path: Path) -> None:
    whole = random_features(7)
    doubled = {name: array.astype(np.float64) for name, array in whole.arrays().items() if name not in ("frame", "hog")}
    Features(**doubled, frame=whole.frame.astype(np.int64), hog=whole.hog, meta=whole.meta).save(tmp_path / "a.npz")
    types = {name: array.dtype for name, array in Features.load(tmp_path / "a.npz").arrays().items()}
    assert types == {name: np.dtype({"frame": "i4", "time": "f8", "homographies": "f8", "hog": "f2"}.get(name, "f4"))
                     for name in ARRAYS}


def test_equal_features_give_equal_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = random_features(50)
    whole.save(tmp_path / "a.npz")
    clock = time.time() + 1e8
    monkeypatch.setattr(time, "time", lambda: clock)
    write(tmp_path / "b.npz", *chunks_of(whole, 7))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    Features.load(tmp_path / "a.npz").save(tmp_path / "a.npz")  # a file may replace the one that it is read from
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_writer_fills_in_time_block_by_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idt.features.record, "_BLOCK", 100)
    whole = random_features(50)
    assert write(tmp_path / "a.npz", *chunks_of(whole, 7)) == whole.meta
    same(Features.load(tmp_path / "a.npz"), Features.concatenate([whole]))


def test_meta_tells_kind_format_and_rows(tmp_path: Path) -> None:
    random_features(6, meta={"reason": None})[2:].save(tmp_path / "a.npz")
    assert Features.load(tmp_path / "a.npz").meta == {"reason": None, "kind": "features", "format": 1, "rows": 4}


@pytest.mark.parametrize("meta", [{"x": float("nan")}, {"x": np.int64(3)}])
def test_meta_must_be_json(tmp_path: Path, meta: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match=r"The meta of .*a\.npz cannot be stored as JSON"):
        random_features(2, meta=meta).save(tmp_path / "a.npz")
    assert os.listdir(tmp_path) == []


def test_members_beyond_four_gigabytes_have_a_directory_entry_for_it(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Features.concatenate([random_features(40)])
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 1000)  # as if every member were that large
    whole.save(tmp_path / "a.npz")
    monkeypatch.undo()
    assert b"PK\x06\x06" in (tmp_path / "a.npz").read_bytes()
    same(Features.load(tmp_path / "a.npz"), whole)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as plain:
        np.testing.assert_array_equal(plain["points"], whole.points)


@pytest.mark.parametrize(("members", "message"), [
    ({"meta": None}, "has no meta: it is not a file of this package"),
    ({"meta": {"kind": "codebook"}}, "is a file of kind 'codebook': expected is a features file"),
    ({"meta": {"format": 2}}, "has the features format 2: this version reads format 1"),
    ({"meta": {"rows": 4}}, "has 5 rows, but its meta says 4"),
    ({"meta": np.array("[1]")}, "is a file of kind None"),
    ({"meta": np.array("{")}, "is damaged or incomplete"),
    ({"meta": np.zeros(3)}, "is damaged or incomplete .member meta has the type '<f8'"),
    ({"hog": None}, "is damaged: the array hog is missing"),
    ({"frame": None}, "is damaged: the array frame is missing"),
    ({"other": np.zeros(3)}, "is damaged: the array other is there"),
    ({"hog": np.zeros((4, 96), "f2")}, r"hog has the shape \(4, 96\): for 5 rows"),
    ({"hog": np.zeros((5, 96), ">f2")}, "member hog has the type '>f2'"),
    ({"frame": np.zeros(5, "i8")}, "member frame has the type '<i8'"),
    ({"time": np.array([{}] * 5, object)}, r"member time has the type '\|O'"),
    ({"time": b"abc"}, "member time does not begin like an array"),
    ({"mean": np.asfortranarray(np.zeros((5, 2), "f4"))}, "member mean does not begin like an array"),
])
def test_other_members_are_refused(tmp_path: Path, members: dict[str, Any], message: str) -> None:
    path = tmp_path / "a.npz"
    random_features(5).save(path)
    changed(path, **members)
    with pytest.raises(FormatError, match=rf"a\.npz.*{message}"):
        Features.load(path)


def test_compressed_members_are_refused(tmp_path: Path) -> None:
    random_features(5).save(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as plain:
        np.savez_compressed(tmp_path / "b.npz", **plain)
    with pytest.raises(FormatError, match="member meta is compressed"):
        Features.load(tmp_path / "b.npz")


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "noise.npz").write_bytes(bytes(range(256)) * 9)
    for name, message in (("none.npz", "does not exist"), ("empty.npz/x", "does not exist"),
                          ("empty.npz", "is damaged"), ("noise.npz", "is damaged"), (".", "Is a directory")):
        for load in (Features.load, load_any):
            with pytest.raises(FormatError, match=message):
                load(tmp_path / name)


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    random_features(3).save(path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(FormatError, match=r"a\.npz is damaged or incomplete"):
            Features.load(path)


def test_changed_bytes_give_features_or_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    random_features(3).save(path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    messages = []
    for _ in range(500):
        content = np.frombuffer(whole, np.uint8).copy()
        content[rng.integers(0, len(whole), rng.integers(1, 6))] = rng.integers(0, 256)
        path.write_bytes(content)
        for load in (Features.load, load_any):
            try:
                assert len(load(path)) <= 3
            except FormatError as exc:
                messages.append(str(exc))
    assert 50 < len(messages) < 950
    assert all(message.startswith(str(path)) for message in messages)


# Arrays without meta

def test_arrays_of_other_programs_are_read(data: Path) -> None:
    path = data / "golden" / "person01_boxing_d1_uncomp.npz"
    with pytest.raises(FormatError, match="has no meta"):
        Features.load(path)
    features = load_any(path)
    assert len(features) == 2002
    assert features.hog.shape == (2002, 96)
    assert features.homographies.shape == (360, 3, 3)
    assert features.points is None
    assert np.isnan(features.time).all()
    assert features.meta == {"kind": "features", "origin": "arrays"}


def test_arrays_without_meta_must_have_the_columns(tmp_path: Path) -> None:
    whole = random_features(5)
    arrays = {name: getattr(whole, name) for name in ("frame", "mean", "std", "length", "scale", "hog")}
    np.savez(tmp_path / "a.npz", **arrays)
    features = load_any(tmp_path / "a.npz")
    assert list(features.arrays()) == ["frame", "time", "mean", "std", "length", "scale", "position", "hog"]
    assert np.isnan(features.position).all()
    np.savez(tmp_path / "b.npz", **{**arrays, "hog": whole.hog[:3]})
    with pytest.raises(FormatError, match=r"b\.npz is not a sound features file: hog has the shape \(3, 96\)"):
        load_any(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", **{**arrays, "hog": np.array([{}] * 5, object)})
    with pytest.raises(FormatError, match=r"c\.npz is damaged .*allow_pickle=False"):
        load_any(tmp_path / "c.npz")
    del arrays["scale"]
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(FormatError, match=r"d\.npz has no array named scale"):
        load_any(tmp_path / "d.npz")


# The writer

@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("old", [False, True])
def test_an_exception_leaves_nothing(tmp_path: Path, error: type[BaseException], old: bool) -> None:
    path = tmp_path / "a.npz"
    if old:
        path.write_bytes(b"old")
    with pytest.raises(error):
        write(path, random_features(1000), error=error)
    assert os.listdir(tmp_path) == ["a.npz"] * old
    assert not old or path.read_bytes() == b"old"


def test_an_interrupt_while_the_file_is_put_together_leaves_nothing(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        assert sorted(Path(name).suffix for name in os.listdir(tmp_path)) == [".lock", ".tmp"]
        raise KeyboardInterrupt

    monkeypatch.setattr(idt.features.record, "_fill_time", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "a.npz", random_features(10))
    assert os.listdir(tmp_path) == []


def test_nothing_appended_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"Nothing was appended to .*a\.npz"):
        write(tmp_path / "a.npz")
    assert os.listdir(tmp_path) == []


def test_a_killed_process_leaves_nothing(tmp_path: Path) -> None:
    code = ("import sys, time; sys.path.insert(0, sys.argv[2])\n"
            "from random_features import random_features\nfrom idt.features.record import FeatureWriter\n"
            "with FeatureWriter(sys.argv[1]) as writer:\n"
            "    writer.append(random_features(1000)); print('written', flush=True); time.sleep(1000)\n")
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "a.npz"), str(Path(__file__).parents[1])],
                          stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "written\n"
        child.send_signal(signal.SIGKILL)
        child.wait(PATIENCE_S)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("name", "reason"), [
    ("file/a.npz", "file is not a folder"), ("folder", "it is a folder; name a file in it"), ("f" * 300, "too long")])
def test_impossible_places_are_told_at_the_start(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match=rf"{name} cannot be written: .*{reason}"), FeatureWriter(tmp_path / name):
        pytest.fail("the block must not run")
    with pytest.raises(OutputError, match=r"^/dev/full cannot be written: it is not a plain file\.$"):
        random_features(1).save("/dev/full")


@pytest.mark.parametrize("limit", [0, 50_000, 400_000])
def test_full_disk_while_spooling_and_while_putting_together(tmp_path: Path, limit: int) -> None:
    code = ("import os, sys; sys.path.insert(0, sys.argv[2])\n"
            "from random_features import random_features\nfrom idt.errors import OutputError\n"
            "try: random_features(1000).save(sys.argv[1])\n"
            "except OutputError as exc: print(exc)\n"
            "print(os.listdir(os.path.dirname(sys.argv[1])))\n")
    result = run_limited(code, tmp_path / "a.npz", Path(__file__).parents[1], limit=limit)
    assert result.stdout == f"{tmp_path / 'a.npz'} cannot be written: File too large.\n[]\n"
    assert result.stderr == ""


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    chunk = random_features(100)
    peaks = []
    for count in (40, 160):
        tracemalloc.start()
        write(tmp_path / "a.npz", *[chunk] * count)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert os.path.getsize(tmp_path / "a.npz") > 17e6
    assert peaks[1] < peaks[0] + 200_000
    assert peaks[1] < 4e6


_MANY = """
import resource, sys
from idt.features.record import Features
from idt.recognition.vectors import bag_of
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
try:
    found = [Features.load(sys.argv[1])[:3].replace(meta={}) for _ in range(100)]
    bags = [bag_of(features, "hog") for features in found]
    print(sum(map(len, found)), sum(len(bag.read(0, 3)) for bag in bags), sum(float(f.mean.sum()) for f in found))
    held = [features.hog for features in found]
except Exception as error:
    print(type(error).__name__, error)
"""


def test_more_features_than_a_process_may_have_files_open(tmp_path):
    features = random_features(3)
    features.save(tmp_path / "a.npz")
    child = run_limited(_MANY, tmp_path / "a.npz")
    numbers, error = child.stdout.splitlines()
    assert numbers.split() == ["300", "300", str(sum([float(features.mean.sum())] * 100))]
    assert error == (f"IdtError {tmp_path / 'a.npz'} cannot be opened: this process has reached its limit of open "
                     "files. Arrays of features files keep them open: delete references to some, or raise the limit "
                     "(ulimit -n).")


def test_arrays_of_loaded_features_come_from_the_file_that_was_loaded(tmp_path):
    path = tmp_path / "a.npz"
    whole = Features.concatenate([random_features(3)])
    whole.save(path)
    loaded = Features.load(path)
    again = pickle.loads(pickle.dumps(loaded))
    same(again, loaded)
    assert type(dataclasses.replace(loaded, path=None)) is Features
    for start, stop in ((0, 2), (1, 3), (2, 1), (-2, None), (None, None)):
        part, expected = loaded[start:stop], whole[start:stop]
        same(part, expected)
        np.testing.assert_array_equal(part.bag("hog")[:1], expected.hog[:1])
    same(loaded[::2], whole[::2])
    same(loaded[[2, 0]], whole[[2, 0]])
    changed = loaded.replace(position=np.ones((3, 3), np.float32), path="elsewhere")
    assert (changed.path, changed.meta, changed.position.sum()) == ("elsewhere", loaded.meta, 9)
    np.testing.assert_array_equal(changed.hog, loaded.hog)
    assert loaded.replace(hog=None).hog is None
    with pytest.raises(ParameterError, match=r"^position has the shape \(2, 3\): for 3 rows it must be \(3, 3\)\.$"):
        loaded.replace(position=np.ones((2, 3), np.float32))
    random_features(4).save(path)
    assert len(loaded) == 3
    for read in (lambda: loaded.hog, lambda: loaded.bag("hog")[:1]):
        with pytest.raises(FormatError, match=rf"^{path} has changed since it was opened: open it again\.$"):
            read()
    path.unlink()
    for read in (lambda: loaded.hog, lambda: loaded.bag("hog")[:1]):
        with pytest.raises(FormatError, match=rf"^{path} does not exist\.$"):
            read()
