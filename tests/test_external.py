"""external: tables of other programs, how their rows find their clips, and what is wrong with them."""

from __future__ import annotations

import sys

import h5py
import numpy as np
import pytest

from idt.datasets import Dataset, Item
from idt.errors import FormatError, ParameterError
from idt.external import read_scores, read_vectors

NAMES = ["walk/a.avi", "walk/b.avi", "run/a.avi", "run/deep/c.mp4"]


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
    table = read_scores(path, dataset)
    np.testing.assert_array_equal(table.values, [[-4, 3], [6, 5], [2, 1], [0, 0]])
    assert table.given.tolist() == [True, True, True, False]
    table.require(dataset, [0, 2], "tested")
    with pytest.raises(FormatError, match=r"t\.csv: there is no row for run/deep/c\.mp4 \(1 of 2 clips that are "):
        table.require(dataset, [3, 1, 3], "tested")


@pytest.mark.parametrize("name", ["run/deep/c.mp4", "deep/c.mp4", "c.mp4", "c", "run/deep/c", "./run//deep/c.mp4",
                                  "/else/where/run/deep/c.mp4", "videos/run/deep/c.avi"])
def test_a_clip_is_found_by_any_end_of_its_path(dataset, tmp_path, name):
    table = read_vectors(written(tmp_path, f"path,f0,f1\n{name},1,2\n"), dataset)
    np.testing.assert_array_equal(table.values[3], [1, 2])
    assert table.given.tolist() == [False, False, False, True]


def test_a_whole_path_goes_before_the_end_of_another(tmp_path):
    items = tuple(Item(f"{tmp_path}/{name}", name[0]) for name in ("a.avi", "y/a.avi", "y/a.mp4"))
    dataset = Dataset(items, ("a", "y"), "made", "csv", str(tmp_path))
    table = read_vectors(written(tmp_path, "path,f\na,1\ny/a.mp4,3\ny/a.avi,2\n"), dataset)
    np.testing.assert_array_equal(table.values[:, 0], [1, 2, 3])
    with pytest.raises(FormatError, match=r"line 2: y/a may be any of .*/y/a\.avi and .*/y/a\.mp4: give more "):
        read_vectors(written(tmp_path, "path,f\ny/a,1\n"), dataset)


def test_tables_of_this_package_are_read(dataset, tmp_path):
    path = written(tmp_path, "channel,split,path,start,end,label,predicted,score_walk,score_run\n"
                             "combined,1,walk/a.avi,,,walk,run,0.5,0.75\n")
    np.testing.assert_array_equal(read_scores(path, dataset).values[0], [0.5, 0.75])


def test_segments_are_told_by_their_ends(tmp_path):
    dataset = Dataset((Item("v.avi", "x", None, (), 0.0, 1.5), Item("v.avi", "y", None, (), 1.5, None),
                       Item("w.avi", "y")), ("x", "y"), "made", "csv", ".")
    path = written(tmp_path, "path,start,end,f\nv.avi,1.5,,2\nw.avi,,,3\nv.avi,0,1.5,1\n")
    np.testing.assert_array_equal(read_vectors(path, dataset).values[:, 0], [1, 2, 3])
    np.savez(tmp_path / "t.npz", path=["v", "w", "v"], start=[1.5, np.nan, 0], end=[np.nan, np.nan, 1.5],
             features=[[2.0], [3], [1]])
    np.testing.assert_array_equal(read_vectors(tmp_path / "t.npz", dataset).values[:, 0], [1, 2, 3])
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
    np.testing.assert_array_equal(scores.values[:3], [[4, 3], [0, 0], [2, 1]])
    np.testing.assert_array_equal(vectors.values[:3], [[3, 4, 5], [0, 0, 0], [0, 1, 2]])
    assert (scores.values.dtype, vectors.values.dtype) == (np.float32, np.float64)
    assert scores.given.tolist() == vectors.given.tolist() == [True, False, True, False]


@pytest.mark.parametrize(("text", "message"), [
    ("", r"t\.csv: the first line names no column path, which tells the clip of a row\.$"),
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
    ("path,walking,run\nwalk/a.avi,1,2\n", r"the column walking is no class of made; did you mean walk\?$"),
    ("path,walk,run,jump\nwalk/a.avi,1,2,3\n", r"the column jump is no class of made\.$"),
    ("path,run\nwalk/a.avi,1\n", r"there is no column for the class walk \(1 of 2 classes have none\)\.$"),
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
     r"the table cannot be read \(Object arrays cannot be loaded"),
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
    for name in ("t.npz", "t.h5"):
        with pytest.raises(FormatError, match=rf"{name}: the table cannot be read \("):
            read_vectors(written(tmp_path, "no archive", name), dataset)


def test_h5_needs_h5py(dataset, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ParameterError, match=r"t\.h5 needs h5py, but that is not installed: pip install "):
        read_vectors(written(tmp_path, "", "t.h5"), dataset)
