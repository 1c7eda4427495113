"""external: tables of other programs, how their rows find their clips, what is wrong with them, and compared."""

from __future__ import annotations

import pickle
import sys
import warnings
from dataclasses import replace

import h5py
import numpy as np
import pytest

import idt.comparison.run
from idt.comparison.methods import ExternalMethod, Fusion
from idt.comparison.run import Comparison, Row, compare
from idt.comparison.tables import read_scores as scores_of
from idt.comparison.tables import read_vectors as vectors_of
from idt.errors import FormatError, ParameterError
from idt.recognition.datasets import Dataset, Item, Split, splits
from idt.recognition.result_files import score_rows, write_table

NAMES = ["walk/a.avi", "walk/b.avi", "run/a.avi", "run/deep/c.mp4"]
ONE, TWO = Split("split 1", (0, 1), (2, 3)), Split("Split 2", (2, 3), (0, 1))


def read_scores(path, dataset, splits=(ONE,), method="net"):
    return scores_of(path, dataset, splits, method)


def read_vectors(path, dataset, splits=(ONE,)):
    return vectors_of(path, dataset, splits)


def given(table, split=ONE):
    """The clips that a table has rows for."""
    return np.flatnonzero(table.rows[split.name] >= 0).tolist()


@pytest.fixture
def dataset(tmp_path):
    return Dataset(tuple(Item(f"{tmp_path}/set/{name}", name.partition("/")[0]) for name in NAMES), ("walk", "run"),
                   "made", "folders", f"{tmp_path}/set")


def written(folder, text, name="t.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_scores_come_in_the_order_of_clips_and_classes(dataset, tmp_path):
    path = written(tmp_path, "path,run,walk\nrun/a.avi,1,2\nwalk/a.avi, 3 ,-4e0\n\nwalk/b.avi,5,6\n")
    table = read_scores(path, dataset, [ONE, TWO])
    for split in (ONE, TWO):
        np.testing.assert_array_equal(table.of(split, (2, 0, 1)), [[2, 1], [-4, 3], [6, 5]])
        assert given(table, split) == [0, 1, 2]
    table.require(dataset, [(ONE, [0]), (TWO, [2])], "tested")
    with pytest.raises(FormatError, match=r"t\.csv: there is no row for run/deep/c\.mp4 \(1 of 2 clips that are t"):
        table.require(dataset, [(ONE, [1, 1]), (TWO, [3, 3])], "tested")


SPLIT_ROWS = [("split 1", 2, 1), ("SPLIT 1", 3, 2), ("1", 0, 3), ("split 2", 0, 4), ("2", 1, 5)]


@pytest.mark.parametrize("kind", ["csv", "npz", "texts", "h5"])
def test_rows_count_for_the_split_that_they_name(dataset, tmp_path, kind):
    names, clips, values = zip(*SPLIT_ROWS, strict=True)
    paths, table = [NAMES[n] for n in clips], np.array(values, float)[:, None] * [1, 10]
    if kind == "csv":
        path = written(tmp_path, "split,f,path,g\n" + "".join(
            f" {name},{value},{path},{value}0\n" for name, path, value in zip(names, paths, values, strict=True)))
    else:
        arrays = {"path": paths, "features": table, "split": names if kind != "npz" else [1, 1, 1, 2, 2]}
        path = tmp_path / ("t.h5" if kind == "h5" else "t.npz")
        if kind == "h5":
            with h5py.File(path, "w") as file:
                for name, one in arrays.items():
                    file[name] = one
        else:
            np.savez(path, **arrays)
    read = read_vectors(path, dataset, [ONE, TWO])
    np.testing.assert_array_equal(read.of(ONE, (0, 2, 3)), [[3, 30], [1, 10], [2, 20]])
    np.testing.assert_array_equal(read.of(TWO, (1, 0)), [[5, 50], [4, 40]])
    assert (given(read, ONE), given(read, TWO)) == ([0, 2, 3], [0, 1])
    read.require(dataset, [(ONE, (2, 3)), (TWO, (0, 1))], "tested")
    with pytest.raises(FormatError, match=r": there is no row of Split 2 for run/a\.avi \(2 of 3 clips that are used "):
        read.require(dataset, [(ONE, (0, 2, 3)), (TWO, (0, 2, 3))], "used")


@pytest.mark.parametrize(("rows", "message"), [
    ("split 3,walk/a,1\n", r"line 2: split is 'split 3', but the splits are called split 1, Split 2; did you mean Spl"),
    ("test,walk/a,1\n", r"line 2: split is 'test', but the splits are called split 1, Split 2\.$"),
    (",walk/a,1\n", r"line 2: split is '', but the splits are called split 1, Split 2\.$"),
    ("1,walk/a,1\n2,walk/a,1\nSplit 1,walk/a.avi,1\n",
     r"line 4: walk/a\.avi of split 1 is given for the second time, after .*t\.csv, line 2\.$"),
    ("1,walk/a,1\n2,walk/b,inf\n", r"line 3: f of walk/b is inf: all must be finite numbers\.$"),
])
def test_what_is_wrong_with_splits(dataset, tmp_path, rows, message):
    with pytest.raises(FormatError, match=message):
        read_vectors(written(tmp_path, "split,path,f\n" + rows), dataset, [ONE, TWO])


def test_names_of_splits_may_differ_in_capitals(dataset, tmp_path):
    sides = [Split("A", (0,), (1,)), Split("a", (1,), (0,)), Split("1", (1,), (0,)), ONE]
    path = written(tmp_path, "split,path,f\na,walk/a,1\nA,walk/b,2\n1,run/a,3\nsplit 1,walk/a,4\n")
    read = read_vectors(path, dataset, sides)
    assert [given(read, side) for side in sides] == [[1], [0], [2], [0]]
    # pandas writes 1.0 for 1 where a row has none; all else is a name.
    read = read_vectors(written(tmp_path, "split,path,f\n1.0,walk/a,1\n"), dataset, [ONE])
    assert given(read, ONE) == [0]
    sides = [Split("v1", (0,), (1,)), Split("v1.0", (1,), (0,))]
    read = read_vectors(written(tmp_path, "split,path,f\nV1.0,walk/a,1\n"), dataset, sides)
    assert [given(read, side) for side in sides] == [[], [0]]
    with pytest.raises(FormatError, match=r"split is 'a\.0', but the splits are called a\b"):
        read_vectors(written(tmp_path, "split,path,f\na.0,walk/a,1\n"), dataset, [Split("a", (0,), (1,))])


def test_a_table_of_all_official_splits_is_one_of_some(dataset, tmp_path):
    path = written(tmp_path, "split,path,f\n1,walk/a,1\n2,walk/a,2\n")
    official = replace(dataset, official=("split 1", "Split 2"))
    assert read_vectors(path, official, [TWO]).of(TWO, [0]) == 2
    for one, sides in ((dataset, [ONE]), (official, [Split("fold 1", (0,), (1,))])):
        with pytest.raises(FormatError, match=r"but the splits are called (split|fold) 1"):
            read_vectors(path, one, sides)
    with pytest.raises(FormatError, match=r"the splits are called Split 2, split 1\b(?!, )"):
        read_vectors(written(tmp_path, "split,path,f\n3,walk/a,1\n"), official, [replace(TWO, name="Split 2")])


@pytest.mark.parametrize("name", ["run/deep/c.mp4", "deep/c.mp4", "c.mp4", "c", "run/deep/c", "./run//deep/c.mp4",
                                  "/else/where/run/deep/c.mp4", "videos/run/deep/c.avi"])
def test_a_clip_is_found_by_any_end_of_its_path(dataset, tmp_path, name):
    table = read_vectors(written(tmp_path, f"path,f0,f1\n{name},1,2\n"), dataset)
    np.testing.assert_array_equal(table.of(ONE, [3]), [[1, 2]])
    assert given(table) == [3]


def test_a_whole_path_goes_before_the_end_of_another(tmp_path):
    items = tuple(Item(f"{tmp_path}/{name}", name[0]) for name in ("a.avi", "y/a.avi", "y/a.mp4"))
    dataset = Dataset(items, ("a", "y"), "made", "csv", str(tmp_path))
    table = read_vectors(written(tmp_path, "path,f\na,1\ny/a.mp4,3\ny/a.avi,2\n"), dataset)
    np.testing.assert_array_equal(table.of(ONE, range(3)), [[1], [2], [3]])
    with pytest.raises(FormatError, match=r"line 2: y/a may be any of .*/y/a\.avi and .*/y/a\.mp4: give more "):
        read_vectors(written(tmp_path, "path,f\ny/a,1\n"), dataset)


def test_of_an_evaluation_the_rows_of_all_channels_count(dataset, tmp_path):
    head = ",channel,split,path,start,end,label,predicted,score_walk,score_run\n"  # pandas puts a number before
    rows = "0,hog,split 1,walk/a.avi,,,walk,run,9,9\n1,combined,split 1,walk/a.avi,,,walk,run,0.5,-inf\n"
    table = read_scores(written(tmp_path, head + rows), dataset)
    np.testing.assert_array_equal(table.of(ONE, [0]), [[0.5, -np.inf]])
    with pytest.raises(FormatError, match=r"t\.csv: no row is of the channel 'combined': its channels are hog\.$"):
        read_scores(written(tmp_path, head + "".join(rows.splitlines(keepends=True)[:1] * 2)), dataset)


def test_of_a_comparison_the_rows_of_the_method_count(dataset, tmp_path):
    head = "method,split,path,start,end,label,predicted,score_walk,score_run\n"
    path = written(tmp_path, head + "net,split 1,walk/a.avi,,,walk,run,1,2\n"
                                    '"a, b",split 1,walk/a.avi,,,walk,run,3,4\n')
    for method, scores in (("net", [1, 2]), ("a, b", [3, 4])):
        np.testing.assert_array_equal(read_scores(path, dataset, [ONE], method).of(ONE, [0]), [scores])
    with pytest.raises(FormatError, match=r"t\.csv: no row is of the method 'Net': its methods are net, a, b; did y"):
        read_scores(path, dataset, [ONE], "Net")
    with pytest.raises(FormatError, match=r"t\.csv: the table has no row\.$"):
        read_scores(written(tmp_path, head), dataset)


def test_segments_are_told_by_their_ends(tmp_path):
    dataset = Dataset((Item("v.avi", "x", None, (), 0.0, 1.5), Item("v.avi", "y", None, (), 1.5, None),
                       Item("w.avi", "y")), ("x", "y"), "made", "csv", ".")
    path = written(tmp_path, "path,start,end,f\nv.avi,1.5,,2\nw.avi,,,3\nv.avi,0,1.5,1\n")
    np.testing.assert_array_equal(read_vectors(path, dataset).of(ONE, range(3)), [[1], [2], [3]])
    np.savez(tmp_path / "t.npz", path=["v", "w", "v"], start=[1.5, np.nan, 0], end=[np.nan, np.nan, 1.5],
             features=[[2.0], [3], [1]])
    np.testing.assert_array_equal(read_vectors(tmp_path / "t.npz", dataset).of(ONE, range(3)),
                                  [[1], [2], [3]])
    with pytest.raises(FormatError, match=r"line 2: v\.avi has no segment from 0\.0 to 2\.0 s in made\.$"):
        read_vectors(written(tmp_path, "path,start,end,f\nv.avi,0,2,2\n"), dataset)
    with pytest.raises(FormatError, match=r"line 2: v\.avi has 2 segments in made: tell which in start and end "):
        read_vectors(written(tmp_path, "path,f\nv.avi,2\n"), dataset)
    with pytest.raises(FormatError, match=r"line 2: start and end are times in seconds or empty, not 'x'\.$"):
        read_vectors(written(tmp_path, "path,start,f\nv.avi,x,2\n"), dataset)


@pytest.mark.parametrize("kind", ["npz", "h5"])
def test_arrays_are_read_like_csv(dataset, tmp_path, kind):
    arrays = {"path": ["run/a", "walk/a.avi"], "classes": ["run", "walk"],
              "scores": np.array([[1, 2], [3, 4]], np.float32), "features": np.arange(6).reshape(2, 3)}
    path = tmp_path / f"t.{kind}"
    if kind == "npz":
        np.savez(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for name, values in arrays.items():
                file[name] = values
    scores, vectors = read_scores(path, dataset), read_vectors(path, dataset)
    np.testing.assert_array_equal(scores.of(ONE, [0, 2]), [[4, 3], [2, 1]])
    np.testing.assert_array_equal(vectors.of(ONE, [0, 2]), [[3, 4, 5], [0, 1, 2]])
    assert (scores.values.dtype, vectors.values.dtype) == (np.float32, np.float64)
    assert given(scores) == given(vectors) == [0, 2]


@pytest.mark.parametrize(("text", "message"), [
    ("path,walk,run\n", r"t\.csv: the table has no row\.$"),
    ("path,walk,run,walk\na,1,2,3\n", r"the first line names a column twice: walk\.$"),
    ("path,walk,run\nwalk/a.avi,1\n", r"line 2: 2 fields, but the first line names 3 columns\.$"),
    ("path,walk,run\nwalk/a.avi,1,x\n", r"line 2: run is 'x': it must be a number\.$"),
    ("path,walk,run\nwalk/a.avi,1,2\nwalk/b.avi,nan,1\n", r"line 3: walk of walk/b\.avi is nan: all must be "),
    ("path,run,walk\nwalk/a.avi,-inf,2\n", r"line 2: run of walk/a\.avi is -inf: all must be finite numbers\.$"),
    ("path,walk,run\nwalk/x.avi,1,2\nrun/y.avi,1,2\nrun/a.avi,1,2\n",
     r"line 2: walk/x\.avi is no clip of made \(2 of 3 rows are of none\)\.$"),
    ("path,walk,run\na.avi,1,2\n", r"line 2: a\.avi may be any of .*/run/a\.avi and .*/walk/a\.avi: give more "),
    ("path,walk,run\nwalk/a.avi,1,2\nrun/a.avi,1,2\nwalk/a,1,2\n",
     r"line 4: walk/a is given for the second time, after .*t\.csv, line 2\.$"),
    ("path,Walk,run\nwalk/a.avi,1,2\n", r"the column Walk is no class of made, which has walk: capitals count\.$"),
    ("path,walking,run\nwalk/a.avi,1,2\n", r"the column walking is no class of made; did you mean walk\? "),
    ("path,walk,run,jump\nwalk/a.avi,1,2,3\n", r"the column jump is no class of made\. Columns may be called score_"),
    ("path,run\nwalk/a.avi,1\n", r"there is no column for the class walk \(1 of 2 classes have none\)\.$"),
    ("path;walk;run\nwalk/a.avi;0,5;2\n", r"t\.csv: the columns are separated by semicolons: it must be commas\.$"),
    ('walk\t"path"\trun\n', r"t\.csv: the columns are separated by tabs: it must be commas\.$"),
    ("walk,Path,run\n1,walk/a,2\n", r"the first line names no column path, which .*, but Path: capitals count\.$"),
    ("path,walk,run,\nwalk/a,1,2,\n", r"the column '' does not look like a class: take it out \(pandas writes no "),
    ("Unnamed: 0,path,walk,run\n0,walk/a,1,2\n", r"the column 'Unnamed: 0' does not look like a class: take it out \("),
    ("path,walk,run,channel\nwalk/a,1,2,3\n", r"the column channel is no class of made\. "),
    ("", r"t\.csv: the table is empty\.$"), ("\n \n", r"t\.csv: the table is empty\.$"),
    ("path,walk,run,label\nwalk/a,1,2,walk\n", r"label is no class of made\. Columns may be called score_CLASS, to "
     r"stand beside others\.$"),
    ("path,walk,run,Split\nwalk/a,1,2,1\n", r"the column Split is no class of made; did you mean split\? "),
    ("path,walk,run\nWalk/A.avi,1,2\n",
     r"line 2: Walk/A\.avi is no clip of made, which has walk/a\.avi: capitals count \(1 of 1 rows are of none\)\.$"),
    ("path,walk,run\nA.avi,1,2\n", r"line 2: A\.avi is no clip of made \(1 of 1 rows are of none\)\.$"),
    ('path,walk,run\n"walk/a.avi,1,2\n', r"line 2: not CSV \(unexpected end of data\)\.$"),
])
def test_what_is_wrong_with_scores(dataset, tmp_path, text, message):
    with pytest.raises(FormatError, match=message) as error:
        read_scores(written(tmp_path, text), dataset)
    assert str(error.value).startswith(f"{tmp_path}/t.csv")


@pytest.mark.parametrize(("header", "name"), [
    (",path,f0", "''"), ("path,label,f0", "'label'"),
    ("path,f0,Unnamed: 0", "'Unnamed: 0'"), ("path,Target,f0", "'Target'")])
def test_what_is_no_feature_is_not_learnt_from(dataset, tmp_path, header, name):
    """A label that is a number, or the number of the row, tells the class."""
    with pytest.raises(FormatError, match=rf"t\.csv: the column {name} does not look like a feature: take it out \("):
        read_vectors(written(tmp_path, f"{header}\n1,walk/a,2\n"), dataset)


def test_names_of_other_columns_may_be_classes_and_clips_in_capitals(tmp_path):
    dataset = Dataset((Item("Set/Aim.avi", "Target"), Item("Set/go.avi", "go")), ("Target", "go"), "set", "csv", "Set")
    table = read_scores(written(tmp_path, "path,go,Target\nAim,1,2\n"), dataset)
    np.testing.assert_array_equal(table.of(ONE, [0]), [[2, 1]])
    with pytest.raises(FormatError, match=r"line 2: aim is no clip of set, which has Aim\.avi: capitals count "):
        read_scores(written(tmp_path, "path,go,Target\naim,1,2\n"), dataset)
    with pytest.raises(FormatError, match=r"t\.csv: the column 'Start' must be called 'start': capitals count\.$"):
        read_vectors(written(tmp_path, "path,Start,f\nAim,1,2\n"), dataset)
    for name in ("Split", "START", "Method", "Channel"):
        text = f"path,{name},score_go,score_Target\nAim,1,2,3\n"
        with pytest.raises(FormatError, match=rf"column '{name}' must be called '{name.lower()}': capitals count\.$"):
            read_scores(written(tmp_path, text), dataset)
    text = "\npath,Path,score_go,score_Target\nAim,x,2,3\n"  # one that is heeded is there, too; and a line before it
    np.testing.assert_array_equal(read_scores(written(tmp_path, text), dataset).of(ONE, [0]), [[3, 2]])
    arrays = {"path": ["Aim"], "scores": np.ones((1, 2)), "classes": ["Target", "go"], "Split": ["1"]}
    np.savez(tmp_path / "t.npz", **arrays)
    with h5py.File(tmp_path / "t.h5", "w") as file:
        for name, values in arrays.items():
            file[name] = values
    for suffix in ("npz", "h5"):
        with pytest.raises(FormatError, match=r"the array 'Split' must be called 'split': capitals count\.$"):
            read_scores(tmp_path / f"t.{suffix}", dataset)


@pytest.mark.parametrize(("arrays", "message"), [
    ({"path": ["walk/a"]}, r"there is no array scores; a table of scores has path, classes and scores\.$"),
    ({"path": ["walk/a"], "scores": np.ones((1, 2))}, r"there is no array classes; a table of scores has"),
    ({"path": ["walk/a"], "scores": np.ones(2), "classes": ["walk", "run"]}, r"scores has the shape \(2,\) and type "),
    ({"path": ["walk/a", "b"], "scores": np.ones((1, 2)), "classes": ["walk", "run"]},
     r"path has the shape \(2,\), but scores \(1, 2\)\.$"),
    ({"path": [3], "scores": np.ones((1, 2)), "classes": ["walk", "run"]}, r"path holds 3: it must hold texts\.$"),
    ({"path": ["walk/a"], "scores": np.full((1, 2), np.nan), "classes": ["run", "walk"]},
     r"t\.npz, row 0: walk of walk/a is nan: all must be finite numbers\.$"),
    ({"path": np.array(["walk/a"], object), "scores": np.ones((1, 2)), "classes": ["run", "walk"]},
     r"t\.npz: path holds Python objects, which are not read: save texts as numpy\.array\(names, dtype=str\), and num"),
    ({"path": ["walk/a"], "scores": np.ones((1, 2)), "classes": ["run", "walk"], "start": ["0"]},
     r"t\.npz: start and end must be numbers, seconds or NaN, not of the types <U1 and float64\.$"),
    ({"path": ["walk/a"], "scores": np.ones((1, 2)), "classes": ["run", "walk"], "split": [1.0]},
     r"t\.npz: split holds 1\.0: it must hold texts\.$"),
    ({"path": ["walk/a"], "scores": np.ones((1, 2)), "classes": ["run", "walk"], "split": [1, 1]},
     r"t\.npz: split has the shape \(2,\), but scores \(1, 2\)\.$"),
])
def test_what_is_wrong_with_arrays(dataset, tmp_path, arrays, message):
    np.savez(tmp_path / "t.npz", **arrays)
    with pytest.raises(FormatError, match=message):
        read_scores(tmp_path / "t.npz", dataset)


def test_what_is_no_table(dataset, tmp_path):
    with pytest.raises(FormatError, match=r"none\.csv: the table cannot be read \(No such file or directory\)\.$"):
        read_scores(tmp_path / "none.csv", dataset)
    with pytest.raises(FormatError, match=r"t\.txt: a table of features is a CSV \(\.csv\), \.npz or \.h5 file\.$"):
        read_vectors(tmp_path / "t.txt", dataset)
    with pytest.raises(FormatError, match=r"t\.csv: the table has no column of numbers\.$"):
        read_vectors(written(tmp_path, "path\nwalk/a\n"), dataset)
    with pytest.raises(FormatError, match=r"t\.h5: the table cannot be read \("):
        read_vectors(written(tmp_path, "no archive", "t.h5"), dataset)


def test_what_is_no_archive(dataset, tmp_path):
    path = tmp_path / "t.npz"
    np.save(tmp_path / "t.npy", np.ones((4, 2)))
    (tmp_path / "t.npy").rename(path)
    with pytest.raises(FormatError, match=r"t\.npz: this is a single array \(\.npy\): save all that a table has with "):
        read_vectors(path, dataset)
    for content in (b"", b"no archive", pickle.dumps({"path": NAMES})):
        path.write_bytes(content)
        with pytest.raises(FormatError, match=r"t\.npz: this is no \.npz file, which numpy\.savez writes\.$"):
            read_vectors(path, dataset)
    np.savez(path, path=["walk/a"], features=np.ones((1, 2)))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(FormatError, match=r"t\.npz: the table cannot be read \("):
        read_vectors(path, dataset)


def test_other_arrays_of_a_file_are_passed_over(dataset, tmp_path):
    np.savez(tmp_path / "t.npz", path=["walk/a"], features=np.ones((1, 2)), made_by=np.array([{"a": 1}], object))
    assert given(read_vectors(tmp_path / "t.npz", dataset)) == [0]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_table_in_another_encoding(dataset, tmp_path, encoding):
    (tmp_path / "t.csv").write_text("path,walk,run\nwalk/a,1,2\n", encoding=encoding)
    with pytest.raises(FormatError, match=r"t\.csv: the table is UTF-16, or no text at all: save it as CSV in UTF-8"):
        read_scores(tmp_path / "t.csv", dataset)
    (tmp_path / "t.csv").write_text("path,walk,run\nwalk/a,1,2\n", encoding="utf-8-sig")
    assert given(read_scores(tmp_path / "t.csv", dataset)) == [0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_are_scaled_to_length_1_however_large(dataset, tmp_path, dtype):
    limits = np.finfo(dtype)
    values = np.array([[3, 4], [limits.max, -limits.max], [0, 0], [limits.smallest_subnormal, 0]], dtype)
    np.savez(tmp_path / "t.npz", path=NAMES, features=values)
    read = read_vectors(tmp_path / "t.npz", dataset)
    unit = read.unit(ONE, range(4))
    assert unit.dtype == dtype
    np.testing.assert_allclose(unit, [[0.6, 0.8], [0.5**0.5, -(0.5**0.5)], [0, 0], [1, 0]], rtol=1e-6)
    np.testing.assert_array_equal(read.of(ONE, range(4)), values)


def test_h5_needs_h5py(dataset, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ParameterError, match=r"t\.h5 needs h5py, but that is not installed: pip install "):
        read_vectors(written(tmp_path, "", "t.h5"), dataset)


# ---- compared -------------------------------------------------------------------------------------------------------

@pytest.fixture
def official(tmp_path):
    """Twelve clips of three classes, each tested by one of two official splits and trained with by the other."""
    items = tuple(Item(f"{tmp_path}/set/{n}.avi", "abc"[n % 3], f"g{n // 3}", ("train", "test") if n < 6 else
                       ("test", "train")) for n in range(12))
    return Dataset(items, ("a", "b", "c"), "made", "csv", f"{tmp_path}/set", ("split 1", "split 2"))


ROWS = {"path": [f"{n}.avi" for n in range(12)] * 2, "split": np.repeat([1, 2], 12)}


def test_each_split_has_its_own_scores_and_weights(official, tmp_path):
    right = np.eye(3)[np.arange(12) % 3]
    wrong = np.roll(right, 1, axis=1)
    for name, both in (("one", [right, wrong]), ("two", [wrong, right])):
        np.savez(tmp_path / f"{name}.npz", **ROWS, scores=np.vstack(both), classes=["a", "b", "c"])
    nets = [ExternalMethod(name=name, scores=tmp_path / f"{name}.npz") for name in ("one", "two")]
    found = compare(official, [*nets, Fusion(name="w", of=("one", "two"), how="weighted")],
                    splits(official, "official"), tmp_path)
    assert found.split_accuracy("one").tolist() == [1, 0]
    assert found.split_accuracy("two").tolist() == [0, 1]
    first, second = found.row("w").weights  # the most equal of those with which all training clips are right
    assert (first, second) == ((0.6, 0.4), (0.4, 0.6))
    assert found.accuracy("w") == 1


def test_each_split_has_its_own_features(official, tmp_path):
    sides, values = splits(official, "official"), np.random.default_rng(1).normal(size=(24, 5))
    np.savez(tmp_path / "both.npz", **ROWS, features=values)
    for k in range(2):
        np.savez(tmp_path / f"{k}.npz", path=ROWS["path"][:12], features=values[12 * k:12 * k + 12])
    names = ("both", "0", "1")
    nets = [ExternalMethod(name=name, features=tmp_path / f"{name}.npz") for name in names]
    both, first, second = compare(official, nets, sides, tmp_path).rows
    np.testing.assert_array_equal(both.scores[0], first.scores[0])
    np.testing.assert_array_equal(both.scores[1], second.scores[1])
    assert abs(first.scores[1] - second.scores[1]).max() > 0.1
    assert both.bytes["vectors"] == first.bytes["vectors"] == 12 * 5 * 8


def test_rows_of_a_split_that_are_missing_are_told_before_any_work(official, tmp_path):
    sides, path = splits(official, "official"), tmp_path / "t.npz"
    tested = [*range(6, 12), *range(6)]
    arrays = {"path": [f"{n}.avi" for n in tested], "split": [1] * 6 + [2] * 6, "classes": ["a", "b", "c"],
              "scores": np.ones((12, 3)), "features": np.ones((12, 3))}
    np.savez(path, **arrays)
    net, other = ExternalMethod(name="net", scores=path), ExternalMethod(name="other", scores=path)
    assert compare(official, [net], sides, tmp_path).accuracy("net") == 4 / 12
    with pytest.raises(FormatError, match=r"no row of split 1 for 0\.avi \(6 of 6 clips that are on a training side"):
        compare(official, [net, other, Fusion(name="w", of=("net", "other"), how="weighted")], sides, tmp_path)
    with pytest.raises(FormatError, match=r"no row of split 1 for 0\.avi \(6 of 12 clips that are used have none\)"):
        compare(official, [ExternalMethod(name="f", features=path)], sides, tmp_path)
    np.savez(path, **arrays | {"split": [1] * 12})
    with pytest.raises(FormatError, match=r"no row of split 2 for 0\.avi \(6 of 6 clips that are tested have none\)"):
        compare(official, [net], sides, tmp_path)


def test_the_scores_of_a_comparison_are_tables_of_its_methods(tmp_path):
    """Segments, a clip that several splits test, and a class that a training side lacks come back as they were."""
    rng = np.random.default_rng(2)
    items = [Item(f"{tmp_path}/set/{n}.avi", "abc"[n % 3], f"g{n % 4}") for n in range(10)]
    items += [Item(f"{tmp_path}/set/long.avi", "c", "g5", (), n / 3, (n + 1) / 3) for n in range(2)]
    dataset = Dataset(tuple(items), ("a", "b", "c"), "made", "csv", f"{tmp_path}/set")
    sides = (*splits(dataset, "leave-one-group-out"), Split("odd, too", (0, 1, 3, 4), (2, 5, 6, 11)))
    rows = []
    for name in ("a net", 'say "hi", b'):
        scores = [rng.normal(size=(len(side.test), 3)) for side in sides]
        scores[-1][:, 2] = -np.inf
        rows.append(Row(ExternalMethod(name=name, scores=tmp_path / "scores.csv"), tuple(scores), {}, {}))
    made = Comparison(dataset, sides, tuple(rows))
    write_table(tmp_path / "scores.csv", score_rows("method", {name: made.scored(name) for name in made.names}))
    methods = [row.method for row in rows]
    found = compare(dataset, [*methods, Fusion(name="mean", of=tuple(made.names))], sides, tmp_path)
    for row, again in zip(rows, found.rows, strict=False):
        assert [one.tobytes() for one in row.scores] == [one.tobytes() for one in again.scores]
        assert found.accuracy(row.method.name) == made.accuracy(row.method.name)
    assert np.isneginf(found.row("mean").scores[-1][:, 2]).all()


def test_an_svm_short_of_its_optimum_is_told_once(tmp_path, caplog):
    """Few random numbers do not tell the classes apart, whatever the cost."""
    dataset = Dataset(tuple(Item(f"{n}.avi", "abc"[n % 3]) for n in range(60)), ("a", "b", "c"), "made", "csv", ".")
    np.savez(tmp_path / "t.npz", path=[item.path for item in dataset.items],
             features=np.random.default_rng(0).normal(size=(60, 5)))
    hard = ExternalMethod(name="hard", features=tmp_path / "t.npz", cost=1e9)
    easy = replace(hard, name="easy", cost=1.0)
    compare(dataset, [hard, easy, Fusion(name="w", of=("hard", "easy"), how="weighted")],
            splits(dataset, "k-fold", folds=2), tmp_path)
    assert caplog.messages == [
        "hard: the SVM has not quite reached its optimum in 2 of 2 splits: take a smaller cost."]


def test_other_warnings_of_a_classifier_are_not_lost(official, tmp_path, monkeypatch):
    def decide(kernel, labels, classes, **_):
        warnings.warn("odd", RuntimeWarning, stacklevel=1)
        return np.zeros((len(kernel) - len(labels), classes))

    monkeypatch.setattr(idt.comparison.run, "decide", decide)
    np.savez(tmp_path / "t.npz", path=ROWS["path"][:12], features=np.ones((12, 2)))
    with pytest.warns(RuntimeWarning, match="^odd$"):
        compare(official, [ExternalMethod(name="net", features=tmp_path / "t.npz")], splits(official, "official"),
                tmp_path)
