"""Datasets as they lie on disk, and what may be on both sides of a split."""

from __future__ import annotations

import collections
import os

import numpy as np
import pytest

from idt.errors import FormatError, ParameterError, VideoError
from idt.recognition.datasets import Dataset, Item, default_scheme, drawn_units, read_dataset, splits, training_side


def tree(root, *paths):
    """Make empty files and return the folder."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def listed(path, text, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def seen(dataset):
    """Each item as the path below the root, label and group."""
    return [(os.path.relpath(item.path, dataset.root), item.label, item.group) for item in dataset.items]


# Folders


def test_folders(tmp_path):
    tree(tmp_path, "walk/b.avi", "walk/deep/a.MP4", "run/c.mkv", "run/notes.txt", "run/.hidden.avi", "run/.old/x.avi",
         ".git/x.avi", "readme.md")
    dataset = read_dataset(tmp_path)
    assert dataset.layout == "folders"
    assert dataset.name == tmp_path.name
    assert dataset.classes == ("run", "walk")
    assert seen(dataset) == [("run/c.mkv", "run", None), ("walk/b.avi", "walk", None),
                             ("walk/deep/a.MP4", "walk", None)]
    assert dataset.items[0] == Item(str(tmp_path / "run" / "c.mkv"), "run")
    assert dataset.official == dataset.notes == ()
    assert str(dataset) == f"{tmp_path.name}: 3 clips of 2 classes, no groups, no official splits (read as folders)"


def test_a_folder_of_images_is_a_video(tmp_path):
    tree(tmp_path, "walk/a/001.jpg", "walk/a/002.jpg", "walk/b.avi", "walk/thumb.png", "run/x/001.png")
    assert seen(read_dataset(tmp_path)) == [("run/x", "run", None), ("walk/a", "walk", None),
                                            ("walk/b.avi", "walk", None)]


def test_paths_are_relative_where_the_dataset_is(tmp_path, monkeypatch):
    tree(tmp_path, "set/walk/b.avi", "kth/person01_boxing_d1_uncomp.avi", "weizmann/daria_bend.avi")
    listed(tmp_path / "csv" / "labels.csv", "path,label\n../set/walk/b.avi,walk\n")
    monkeypatch.chdir(tmp_path)
    assert read_dataset("set").items[0].path == os.path.join("set", "walk", "b.avi")
    assert read_dataset("kth").items[0].path == os.path.join("kth", "person01_boxing_d1_uncomp.avi")
    assert read_dataset("weizmann").items[0].path == os.path.join("weizmann", "daria_bend.avi")
    assert os.path.samefile(read_dataset("csv").items[0].path, tmp_path / "set" / "walk" / "b.avi")
    monkeypatch.chdir(tmp_path / "set")
    assert read_dataset(".").items[0].path == os.path.join("walk", "b.avi")
    assert read_dataset(".").name == "set"


def test_a_dataset_has_the_name_of_its_folder_or_of_its_list(tmp_path, monkeypatch):
    tree(tmp_path, "set/walk/b.avi")
    for name in ("labels.csv", "other.csv"):
        listed(tmp_path / "set" / name, "path,label\nwalk/b.avi,walk\n")
    monkeypatch.chdir(tmp_path / "set")
    found = [read_dataset(path) for path in ("../set", "../set/labels.csv", "labels.csv", ".", "other.csv")]
    assert [dataset.name for dataset in found] == ["set", "set", "set", "set", "other"]
    assert [dataset.folder for dataset in found] == ["../set", "../set", ".", ".", "."]


def test_groups_are_those_of_ucf_names_when_all_have_one(tmp_path):
    tree(tmp_path, "Walk/v_Walk_g01_c01.avi", "Walk/v_Walk_g12_c03.avi", "Run/v_Run_g01_c01.avi")
    assert [item.group for item in read_dataset(tmp_path).items] == ["g01", "g01", "g12"]
    assert drawn_units(read_dataset(tmp_path)) == (["Run/g01", "Walk/g01", "Walk/g12"], "groups within classes")
    tree(tmp_path, "Run/other.avi")
    assert {item.group for item in read_dataset(tmp_path).items} == {None}


def test_a_bootstrap_draws_groups_or_videos():
    actors = Dataset(tuple(Item(f"/x/{name}_{label}.avi", label, name) for label in "ab" for name in ("ann", "bo")),
                     ("a", "b"), "d", "csv", "/x")
    assert drawn_units(actors) == (["ann", "bo", "ann", "bo"], "groups")
    plain = Dataset((Item("/x/1.avi", "a"), Item("/x/2.avi", "b", start_s=0.0), Item("/x/2.avi", "a", start_s=2.0)),
                    ("a", "b"), "d", "csv", "/x")
    assert drawn_units(plain) == (["/x/1.avi", "/x/2.avi", "/x/2.avi"], "videos")
    mixed = Dataset((Item("/x/v_A_g01_c01.avi", "A", "g01"), Item("/x/ann.avi", "B", "ann")), ("A", "B"), "d", "csv",
                    "/x")
    assert drawn_units(mixed) == (["A/g01", "ann"], "groups")


@pytest.mark.parametrize(("paths", "message"), [
    (["a.avi", "walk/b.avi"], r"a dataset has a folder for each class, but a\.avi lies directly in it"),
    (["readme.md"], r"a dataset has a folder for each class, but there is none in it\. Other layouts"),
    (["walk/a.avi", "run/001.jpg"], r"run: there is no video of this class"),
    (["walk/a.avi", "run/notes.txt"], r"run: there is no video of this class; remove the folder or fill it"),
])
def test_folders_that_are_no_dataset(paths, message, tmp_path):
    with pytest.raises(FormatError, match=message):
        read_dataset(tree(tmp_path, *paths))


def test_what_cannot_be_a_dataset(tmp_path):
    with pytest.raises(FormatError, match="nothing: there is no such dataset"):
        read_dataset(tmp_path / "nothing")
    with pytest.raises(FormatError, match=r"a\.txt: a dataset is a folder or a CSV file"):
        read_dataset(tree(tmp_path, "a.txt") / "a.txt")
    with pytest.raises(FormatError, match=r"a\.txt: a dataset with the layout kth is a folder"):
        read_dataset(tmp_path / "a.txt", layout="kth")
    with pytest.raises(ParameterError, match=r"layout is 'ucf': it must be one of auto, .*; did you mean ucf101\?$"):
        read_dataset(tmp_path, layout="ucf")
    tree(tmp_path, "walk/a.avi")
    with pytest.raises(ParameterError, match="is read as folders, which has no list: give the folder of the videos"):
        read_dataset(tmp_path, videos=tmp_path)


@pytest.mark.parametrize("closed", [".", "walk"])
def test_a_folder_that_cannot_be_read(closed, tmp_path, monkeypatch):
    tree(tmp_path, "walk/a.avi")

    def guarded(function):
        def call(path="."):
            if os.path.abspath(path) == os.path.abspath(tmp_path / closed):
                raise PermissionError(13, "Permission denied", os.fspath(path))
            return function(path)
        return call

    monkeypatch.setattr(os, "scandir", guarded(os.scandir))
    monkeypatch.setattr(os, "listdir", guarded(os.listdir))
    with pytest.raises(VideoError, match=r": the folder cannot be read \(Permission denied\)"):
        read_dataset(tmp_path, layout="folders")


# CSV


def test_csv(tmp_path):
    tree(tmp_path, "v/a.avi", "v/b, c.avi", "d.avi")
    path = listed(tmp_path / "my.csv", ' Path , label,GROUP,split,start,end\r\nv/a.avi, walk ,g1,train,,\r\n\r\n'
                  '"v/b, c.avi", "say ""hi""",,TEST,0,2.5\r\n  d.avi,walk,g2,,1.5,\r\n', "utf-8-sig")
    dataset = read_dataset(path)
    assert (dataset.name, dataset.layout, dataset.official) == ("my", "csv", ("split",))
    assert dataset.classes == ('say "hi"', "walk")
    assert dataset.items == (
        Item(str(tmp_path / "v/a.avi"), "walk", "g1", ("train",)),
        Item(str(tmp_path / "v/b, c.avi"), 'say "hi"', None, ("test",), 0.0, 2.5),
        Item(str(tmp_path / "d.avi"), "walk", "g2", ("",), 1.5, None))
    assert dataset.notes == ()


def test_csv_in_any_order_of_columns_and_with_others(tmp_path):
    tree(tmp_path, "videos/a.avi")
    path = listed(tmp_path / "l.csv", "actor,label,path,camera\nx,walk,a.avi,1\n")
    dataset = read_dataset(path, videos=tmp_path / "videos")
    assert dataset.items == (Item(str(tmp_path / "videos" / "a.avi"), "walk"),)
    assert dataset.official == ()
    assert dataset.notes == (f"{path}: unknown columns are passed over: actor, camera.",)


def test_csv_of_a_folder_and_absolute_paths(tmp_path):
    tree(tmp_path, "elsewhere/a.avi", "walk/b.avi")
    listed(tmp_path / "set" / "labels.csv", f"path,label\n{tmp_path / 'elsewhere' / 'a.avi'},walk\n../walk/b.avi,run\n")
    dataset = read_dataset(tmp_path / "set")
    assert (dataset.layout, dataset.name) == ("csv", "set")
    assert [os.path.samefile(item.path, tmp_path / name) for item, name in
            zip(dataset.items, ("elsewhere/a.avi", "walk/b.avi"), strict=True)] == [True, True]


def test_segments_of_one_video(tmp_path):
    tree(tmp_path, "a.avi")
    path = listed(tmp_path / "l.csv", "path,label,start,end\na.avi,walk,0,2\na.avi,run,2,4\na.avi,walk,4,\n"
                  "a.avi,jump,,1\n")
    assert [(i.start_s, i.end_s) for i in read_dataset(path).items] == [(0, 2), (2, 4), (4, None), (None, 1)]


@pytest.mark.parametrize(("text", "message"), [
    ("", "the first line names no column path and no column label: it must be path,label and may also name group"),
    ("a.avi,walk\n", "the first line names no column path and no column label"),
    ("path;label\na.avi;walk\n", "the first line names no column path and no column label: .* separated by commas"),
    ("path,group\na.avi,walk\n", "the first line names no column label: it must be"),
    ("path,label,label\na.avi,walk,run\n", "the first line names a column twice: path,label,label"),
    ("path,label\na.avi,walk\na.avi\n", r"l\.csv, line 3: 1 fields, but the first line names 2 columns"),
    ("path,label\na.avi,walk,g1\n", r"l\.csv, line 2: 3 fields, but the first line names 2 columns"),
    ("path,label\n\na.avi,\n", r"l\.csv, line 3: the label is empty"),
    ("path,label\n,walk\n", r"l\.csv, line 2: the path is empty"),
    ("path,label,split\na.avi,walk,val\n", r"line 2: split is 'val': it must be train, test or empty \(not used\)"),
    ("path,label,start\na.avi,walk,-1\n", "line 2: start is '-1': it must be a time in seconds, 0 or more, or empty"),
    ("path,label,end\na.avi,walk,nan\n", "line 2: end is 'nan': it must be a time in seconds"),
    ("path,label,end\na.avi,walk,inf\n", "line 2: end is 'inf': it must be a time in seconds"),
    ("path,label,end\na.avi,walk,1:20\n", "line 2: end is '1:20': it must be a time in seconds"),
    ("path,label,start,end\na.avi,walk,2,2\n", "the segment ends at 2 s, which is not after its start at 2 s"),
    ("path,label,end\na.avi,walk,0\n", "the segment ends at 0 s, which is not after its start at 0 s"),
    ('path,label\n"a.avi,walk\n', r"l\.csv, line 2: not CSV \(unexpected end of data\)"),
    ("path,label\n", "l: the list holds no clip"),
    ("path,label\na.avi,walk\nb/../a.avi,run\n", r"b/\.\./a\.avi is listed twice\."),
    ("path,label,start,end\na.avi,walk,1,2\na.avi,run,1.0,2.0\n", r"is listed twice with the same start and end"),
    ("path,label,group,start,end\na.avi,walk,g1,1,2\na.avi,walk,g2,2,3\n",
     r"segments of .*a\.avi have different groups, g1 and g2: a video belongs to one"),
])
def test_csv_that_is_malformed(text, message, tmp_path):
    tree(tmp_path, "a.avi", "b/c.avi")
    with pytest.raises(FormatError, match=message):
        read_dataset(listed(tmp_path / "l.csv", text))


def test_csv_that_is_not_text(tmp_path):
    with pytest.raises(FormatError, match=r"l\.csv: the list is not UTF-8 text"):
        read_dataset(listed(tmp_path / "l.csv", "path,label\né.avi,walk\n", "latin-1"))
    (tmp_path / "labels.csv").mkdir()
    with pytest.raises(FormatError, match=r"labels\.csv: the list cannot be read"):
        read_dataset(tmp_path, layout="csv")
    with pytest.raises(FormatError, match=r"labels\.csv: the list cannot be read \(No such file"):
        read_dataset(tree(tmp_path, "walk/a.avi") / "walk", layout="csv")


def test_missing_videos_are_named_and_counted(tmp_path):
    tree(tmp_path, "a.avi")
    path = listed(tmp_path / "l.csv", "path,label,start\na.avi,walk,\ngone.avi,walk,\nlost.avi,run,1\n")
    with pytest.raises(VideoError, match=r"gone\.avi is missing \(2 of 3 clips of l are\): give the folder that the"):
        read_dataset(path)


# UCF101


UCF = ("Walk/v_Walk_g01_c01.avi", "Walk/v_Walk_g02_c01.avi", "Run/v_Run_g01_c01.avi", "Run/v_Run_g02_c02.avi")


def ucf(root, videos="UCF-101", **changed):
    tree(root / videos, *UCF)
    files = {"classInd": "1 Walk\r\n2 Run\r\n",
             "trainlist01": f"{UCF[0]} 1\r\n{UCF[2]} 2\r\n", "testlist01": f"{UCF[1]}\r\n{UCF[3]}\r\n",
             "trainlist02": f"{UCF[1]} 1\n{UCF[3]} 2\n", "testlist02": f"{UCF[0]}\n{UCF[2]}\n"} | changed
    for name, text in files.items():
        if text is not None:
            listed(root / "ucfTrainTestlist" / f"{name}.txt", text)
    return root


def test_ucf101(tmp_path):
    dataset = read_dataset(ucf(tmp_path))
    assert (dataset.layout, dataset.root) == ("ucf101", str(tmp_path / "UCF-101"))
    assert dataset.classes == ("Walk", "Run")
    assert dataset.official == ("split 1", "split 2")
    assert sorted(seen(dataset)) == [(UCF[2], "Run", "g01"), (UCF[3], "Run", "g02"), (UCF[0], "Walk", "g01"),
                                     (UCF[1], "Walk", "g02")]
    assert {(item.group, item.split) for item in dataset.items} == {("g01", ("train", "test")),
                                                                    ("g02", ("test", "train"))}
    found = splits(dataset, "official")
    assert [split.name for split in found] == ["split 1", "split 2"]
    assert [[seen(dataset)[i][0] for i in side] for side in (found[0].train, found[0].test)] == [
        [UCF[0], UCF[2]], [UCF[1], UCF[3]]]
    assert found[1].train == found[0].test
    assert all(split.shared_groups == () for split in found)


@pytest.mark.parametrize("videos", ["UCF-101", ".", "ucfTrainTestlist/UCF-101"])
def test_ucf101_finds_its_videos(videos, tmp_path):
    ucf(tmp_path, videos)
    for path in (tmp_path, tmp_path / "ucfTrainTestlist"):
        assert len(read_dataset(path).items) == 4


def test_ucf101_with_videos_elsewhere(tmp_path):
    ucf(tmp_path / "a", "../b")
    with pytest.raises(VideoError, match=r"v_Walk_g01_c01\.avi is missing \(4 of 4 clips of a are\)"):
        read_dataset(tmp_path / "a")
    assert read_dataset(tmp_path / "a", videos=tmp_path / "b").root == str(tmp_path / "b")


@pytest.mark.parametrize(("changed", "message"), [
    ({"classInd": "Walk\nRun\n"}, r"classInd\.txt, line 1: 'Walk' is not a new number and the name of a class"),
    ({"classInd": "1 Walk\n1 Run\n"}, r"classInd\.txt, line 2: '1 Run' is not a new number"),
    ({"classInd": "1 Walk\n2 Run\n3 Jump\n"}, "the class Jump has no clip in the lists"),
    ({"classInd": "1 Walk\n"}, r"trainlist01\.txt, line 2: Run/v_Run_g01_c01\.avi is not in the folder of a class"),
    ({"trainlist01": "v_Walk_g01_c01.avi 1\n"}, r"trainlist01\.txt, line 1: v_Walk_g01_c01\.avi is not in the folder"),
    ({"trainlist01": "Walk 1\n"}, r"trainlist01\.txt, line 1: Walk is not in the folder of a class"),
    ({"trainlist01": f"{UCF[0]} 2\n"}, "has the number 2, which is not that of the class Walk in classInd"),
    ({"testlist01": f"{UCF[0]}\n"}, r"testlist01\.txt, line 1: Walk/.* is already in the train list of this split"),
    ({"testlist02": None}, r"testlist02\.txt: the list cannot be read \(No such file"),
])
def test_ucf101_lists_that_are_malformed(changed, message, tmp_path):
    with pytest.raises(FormatError, match=message):
        read_dataset(ucf(tmp_path, **changed))


def test_ucf101_without_lists(tmp_path):
    with pytest.raises(FormatError, match=r"there is no classInd\.txt in this folder or in a folder in it"):
        read_dataset(tmp_path, layout="ucf101")
    listed(tmp_path / "classInd.txt", "1 Walk\n")
    with pytest.raises(FormatError, match=r"there is no trainlist01\.txt"):
        read_dataset(tmp_path)


# HMDB51


def hmdb(root, videos=".", **changed):
    clips = ("brush_hair/#20_a (b)_0.avi", "brush_hair/b.avi", "brush_hair/c.avi", "walk/b.avi", "walk/d.avi")
    tree(root / videos, *clips)
    files = {"brush_hair_test_split1": "#20_a (b)_0.avi 1 \nb.avi 2 \nc.avi 0 \n",
             "brush_hair_test_split2": "#20_a (b)_0.avi 2 \nb.avi 1 \nc.avi 0 \n",
             "walk_test_split1": "b.avi 1\nd.avi 2\n", "walk_test_split2": "b.avi 0\nd.avi 1\n"} | changed
    for name, text in files.items():
        if text is not None:
            listed(root / "testTrainMulti_7030_splits" / f"{name}.txt", text)
    return root


@pytest.mark.parametrize("videos", [".", "hmdb51_org"])
def test_hmdb51(videos, tmp_path):
    hmdb(tmp_path, videos)
    for path in (tmp_path, tmp_path / "testTrainMulti_7030_splits"):
        dataset = read_dataset(path)
        assert dataset.layout == "hmdb51"
        assert dataset.classes == ("brush_hair", "walk")
        assert dataset.official == ("split 1", "split 2")
        assert {name: item.split for (name, *_), item in zip(seen(dataset), dataset.items, strict=True)} == {
            "brush_hair/#20_a (b)_0.avi": ("train", "test"), "brush_hair/b.avi": ("test", "train"),
            "brush_hair/c.avi": ("", ""), "walk/b.avi": ("train", ""), "walk/d.avi": ("test", "train")}
        first, second = splits(dataset, "official")
        assert (len(first.train), len(first.test)) == (2, 2)
        assert (len(second.train), len(second.test)) == (2, 1)


@pytest.mark.parametrize(("changed", "message"), [
    ({"walk_test_split1": "b.avi 3\n"}, r"walk_test_split1\.txt, line 1: 'b\.avi 3' is not the name of a video and 0"),
    ({"walk_test_split1": "b.avi\n"}, r"line 1: 'b\.avi' is not the name of a video"),
    ({"walk_test_split1": "b.avi 1\nb.avi 2\n"}, "line 2: walk/b.avi is already in the train list of this split"),
    ({"walk_test_split2": None}, r"walk_test_split2\.txt: the list cannot be read"),
    ({"run_test_split1": "\n", "run_test_split2": ""}, "the class run has no clip in the lists"),
])
def test_hmdb51_lists_that_are_malformed(changed, message, tmp_path):
    with pytest.raises(FormatError, match=message):
        read_dataset(hmdb(tmp_path, **changed))


def test_hmdb51_without_lists(tmp_path):
    with pytest.raises(FormatError, match=r"there is no file such as walk_test_split1\.txt in this folder"):
        read_dataset(tmp_path, layout="hmdb51")


# KTH and Weizmann


def test_kth(tmp_path):
    tree(tmp_path, "boxing/person01_boxing_d1_uncomp.avi", "boxing/person02_boxing_d4_uncomp.avi",
         "person22_walking_d2.mp4", "person11_walking_d2.mp4")
    dataset = read_dataset(tmp_path)
    assert (dataset.layout, dataset.official) == ("kth", ("subjects",))
    assert [(item.label, item.group, item.split) for item in dataset.items] == [
        ("boxing", "person01", ("train",)), ("boxing", "person02", ("test",)), ("walking", "person11", ("train",)),
        ("walking", "person22", ("test",))]
    (split,) = splits(dataset, "official")
    assert (split.train, split.test) == ((0, 2), (1, 3))


def test_kth_has_no_official_split_of_training_subjects_alone(tmp_path):
    dataset = read_dataset(tree(tmp_path, "person01_boxing_d1.avi", "person11_walking_d1.avi"))
    assert dataset.official == ()
    assert {item.split for item in dataset.items} == {()}


def test_kth_official_test_subjects(tmp_path):
    tree(tmp_path, *(f"person{n:02}_running_d1_uncomp.avi" for n in range(1, 26)))
    dataset = read_dataset(tmp_path)
    (split,) = splits(dataset, "official")
    assert [dataset.items[i].group for i in split.test] == [f"person{n:02}" for n in (2, 3, 5, 6, 7, 8, 9, 10, 22)]
    assert len(split.train) == 16


def test_weizmann_names(tmp_path):
    tree(tmp_path, "daria_bend.avi", "lena_walk1.avi", "lena_walk2.avi", "lena_wave1.avi", "walk/eli_wave2.avi",
         "walk/lena_run2.avi")
    dataset = read_dataset(tmp_path)
    assert dataset.layout == "weizmann"
    assert seen(dataset) == [
        ("daria_bend.avi", "bend", "daria"), ("lena_walk1.avi", "walk", "lena"), ("lena_walk2.avi", "walk", "lena"),
        ("lena_wave1.avi", "wave1", "lena"), ("walk/eli_wave2.avi", "wave2", "eli"),
        ("walk/lena_run2.avi", "run", "lena")]


@pytest.mark.parametrize("name", ["daria_dance.avi", "daria_wave3.avi", "daria.avi", "daria_bend_2.avi"])
def test_a_name_that_is_not_of_the_layout(name, tmp_path):
    tree(tmp_path, "walk/daria_walk.avi", f"walk/{name}")
    assert read_dataset(tmp_path).layout == "folders"
    with pytest.raises(FormatError, match=rf"{name}: the name does not follow daria_bend\.avi, with one of"):
        read_dataset(tmp_path, layout="weizmann")
    with pytest.raises(FormatError, match=r"does not follow person01_boxing_d1_uncomp\.avi, with one of the labels"):
        read_dataset(tmp_path, layout="kth")


def test_names_of_an_empty_folder(tmp_path):
    with pytest.raises(FormatError, match="there is no video in this folder or below"):
        read_dataset(tmp_path, layout="kth")


def test_the_weizmann_clips(data):
    by_list, by_name, by_folder = (read_dataset(data / "weizmann", layout=layout)
                                   for layout in ("auto", "weizmann", "folders"))
    assert (by_list.layout, by_list.name) == ("csv", "weizmann")
    assert len(by_list.items) == 90
    assert len(by_list.classes) == 10
    assert set(by_list.items) == set(by_name.items)
    assert {(item.path, item.label) for item in by_folder.items} == {(item.path, item.label) for item in by_list.items}
    folds = splits(by_list, "leave-one-group-out")
    assert [fold.name for fold in folds] == ["daria", "denis", "eli", "ido", "ira", "lena", "lyova", "moshe", "shahar"]
    assert all((len(fold.train), len(fold.test)) == (80, 10) for fold in folds)
    assert [len(fold.test) for fold in splits(by_list, "k-fold", folds=3)] == [30, 30, 30]


# Splits


def dataset_of(labels, groups=None, sides=None, paths=None):
    items = tuple(Item(paths[i] if paths else f"{i}.avi", label, groups[i] if groups else None,
                       (sides[i],) if sides else ()) for i, label in enumerate(labels))
    return Dataset(items, tuple(sorted(set(labels))), "set", "csv", ".", ("split",) if sides else ())


def random_dataset(seed, groups=True):
    """Classes and groups of unequal sizes; every class is in many groups."""
    rng = np.random.default_rng(seed)
    labels = [f"class{k}" for k in rng.choice(5, 300, p=[0.4, 0.3, 0.15, 0.1, 0.05])]
    names = [f"g{g}" for g in rng.choice(25, 300, p=rng.dirichlet(np.full(25, 3)))]
    return dataset_of(labels, names if groups else None)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("scheme", "grouped"), [("leave-one-group-out", True), ("k-fold", True), ("k-fold", False),
                                                 ("hold-out", True), ("hold-out", False)])
def test_groups_are_on_one_side_and_clips_are_tested_once(scheme, seed, grouped):
    dataset = random_dataset(seed, grouped)
    found = splits(dataset, scheme, seed=seed)
    for split in found:
        assert sorted(split.train + split.test) == list(range(300))
        assert list(split.train) == sorted(split.train)
        sides = [{dataset.items[i].group or dataset.items[i].path for i in side} for side in (split.train, split.test)]
        assert not sides[0] & sides[1]
        assert split.shared_groups == ()
    if scheme != "hold-out":
        assert sorted(i for split in found for i in split.test) == list(range(300))


@pytest.mark.parametrize("seed", range(5))
def test_folds_have_the_classes_in_equal_shares(seed):
    dataset = random_dataset(seed, groups=False)
    total = collections.Counter(item.label for item in dataset.items)
    for fold in splits(dataset, "k-fold", folds=4, seed=seed):
        held = collections.Counter(dataset.items[i].label for i in fold.test)
        assert all(abs(held[label] - total[label] / 4) < 1 for label in total)
    grouped = random_dataset(seed)
    total = collections.Counter(item.label for item in grouped.items)
    for fold in splits(grouped, "k-fold", folds=4, seed=seed):
        held = collections.Counter(grouped.items[i].label for i in fold.test)
        assert all(abs(held[label] / total[label] - 0.25) < 0.2 for label in total)
        assert abs(len(fold.test) / 300 - 0.25) < 0.1


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.8])
def test_the_share_of_a_hold_out(share):
    dataset = random_dataset(3, groups=False)
    total = collections.Counter(item.label for item in dataset.items)
    (split,) = splits(dataset, "hold-out", test_share=share)
    held = collections.Counter(dataset.items[i].label for i in split.test)
    assert split.name == "hold-out"
    assert all(abs(held[label] - share * total[label]) <= 0.5 for label in total)
    (grouped,) = splits(random_dataset(3), "hold-out", test_share=share)
    assert len(grouped.test) / 300 == pytest.approx(share, abs=0.1)


def test_a_seed_gives_the_same_splits_and_another_others():
    for scheme in ("k-fold", "hold-out"):
        for dataset in (random_dataset(1), random_dataset(1, groups=False)):
            assert splits(dataset, scheme, seed=4) == splits(dataset, scheme, seed=4)
            assert splits(dataset, scheme, seed=4) != splits(dataset, scheme, seed=5)


def test_splits_tell_how_they_were_made():
    dataset = dataset_of("aabb", ["g1", "g2", "g1", "g2"])
    for scheme, options, expected in (
            ("leave-one-group-out", {}, {}), ("k-fold", {"folds": 2}, {"folds": 2, "seed": 0}),
            ("hold-out", {"test_share": 0.5, "seed": 3}, {"test_share": 0.5, "seed": 3})):
        assert [split.division for split in splits(dataset, scheme, **options)] == [
            {"scheme": scheme, **expected}] * (1 if scheme == "hold-out" else 2)


def test_every_fold_has_a_group():
    dataset = dataset_of("aabbcc", ["g1", "g2", "g3", "g4", "g5", "g6"])
    assert [len(fold.test) for fold in splits(dataset, "k-fold", folds=6)] == [1] * 6
    # One group that outweighs the rest, and classes that share no group:
    dataset = dataset_of("a" * 50 + "abbb", ["g0"] * 50 + ["g1", "g2", "g3", "g4"])
    assert sorted(len(fold.test) for fold in splits(dataset, "k-fold", folds=5)) == [1, 1, 1, 1, 50]


def test_large_groups_are_dealt_out_first():
    dataset = dataset_of("a" * 12, ["g0"] * 6 + [f"g{k}" for k in range(1, 7)])
    for seed in range(5):
        assert [len(fold.test) for fold in splits(dataset, "k-fold", folds=2, seed=seed)] == [6, 6]


def test_segments_of_one_video_stay_together():
    dataset = dataset_of("abababab", paths=["x.avi", "x.avi", "./x.avi", "y.avi", "y.avi", "z.avi", "z.avi", "x.avi"])
    for seed in range(5):
        for split in splits(dataset, "k-fold", folds=3, seed=seed) + splits(dataset, "hold-out", seed=seed):
            tested = {os.path.normpath(dataset.items[i].path) for i in split.test}
            assert not tested & {os.path.normpath(dataset.items[i].path) for i in split.train}


def test_a_hold_out_leaves_each_class_a_group_to_train_on():
    dataset = dataset_of("aabbbbbb", ["g1", "g1", "g2", "g3", "g4", "g5", "g6", "g7"])
    for seed in range(10):
        (split,) = splits(dataset, "hold-out", test_share=0.6, seed=seed)
        assert {0, 1} <= set(split.train)
        assert len(split.test) == 4


def test_groups_are_left_out_in_natural_order():
    dataset = dataset_of("ababab", ["g10", "g10", "g2", "g2", "1", "1"])
    assert [fold.name for fold in splits(dataset, "leave-one-group-out")] == ["1", "g2", "g10"]


def test_groups_on_both_sides_of_an_official_split_are_told():
    dataset = dataset_of("abababa", ["g1", "g1", "g2", "g2", "g1", "g3", "g9"],
                         ["train", "train", "test", "test", "test", "test", ""])
    (split,) = splits(dataset, "official")
    assert (split.name, split.train, split.test) == ("split", (0, 1), (2, 3, 4, 5))
    assert split.shared_groups == ("g1",)
    dataset = dataset_of("abab", None, ["train", "train", "test", "test"], ["x.avi", "y.avi", "x.avi", "z.avi"])
    assert splits(dataset, "official")[0].shared_groups == (os.path.abspath("x.avi"),)


@pytest.mark.parametrize(("dataset", "scheme", "options", "message"), [
    (dataset_of("ab"), "5-fold", {}, r"scheme is '5-fold': it must be one of official, .*; did you mean k-fold\?$"),
    (dataset_of("ab"), "official", {}, "set has no official split: choose leave-one-group-out, k-fold or hold-out"),
    (dataset_of("aab", ["g1", "g2", None]), "leave-one-group-out", {},
     r"set: 1 of 3 clips have no group, such as 2\.avi: choose k-fold or hold-out, or name the groups"),
    (dataset_of("aab"), "k-fold", {"folds": 1}, "folds is 1: it must be at least 2"),
    (dataset_of("aab"), "k-fold", {"folds": 4}, r"folds is 4, but there are only 3 groups \(or videos without"),
    (dataset_of("aab"), "k-fold", {"seed": -1}, "seed is -1: it must be at least 0"),
    (dataset_of("aab"), "hold-out", {"test_share": 1.0}, r"test_share is 1\.0: it must be above 0 and below 1"),
    (dataset_of("aab"), "hold-out", {"test_share": 0}, "test_share is 0: it must be above 0"),
    (dataset_of("aabb"), "hold-out", {"test_share": 0.01}, "set, hold-out: no clip is on the test side"),
    (dataset_of("aabb", sides=["train", "train", "", "train"]), "official", {}, "split: no clip is on the test side"),
    (dataset_of("aabb", sides=["", "test", "", "test"]), "official", {}, "set, split: no clip is on the training side"),
    (dataset_of("aabb", sides=["train", "train", "test", ""]), "official", {},
     "set, split: the class 'b' is tested but absent from the training side: it needs clips of two groups at least"),
    (dataset_of("aab", ["g1", "g2", "g2"]), "leave-one-group-out", {}, "set, g2: the class 'b' is tested but absent"),
    (dataset_of("aab", ["g1", "g1", "g1"]), "leave-one-group-out", {}, "set, g1: no clip is on the training side"),
    (dataset_of("aaab"), "k-fold", {"folds": 2}, "the class 'b' is tested but absent from the training side"),
])
def test_splits_that_cannot_be_made(dataset, scheme, options, message):
    with pytest.raises(ParameterError, match=message):
        splits(dataset, scheme, **options)


def test_the_splits_of_a_dataset_that_nobody_chose():
    assert default_scheme(dataset_of("aabb", groups="pqpq", sides=["train", "test", "train", "test"])) == "official"
    assert default_scheme(dataset_of("aabb", groups="pqpq")) == "leave-one-group-out"
    assert default_scheme(dataset_of("aabb", groups=["p", "q", "p", None])) == "k-fold"
    assert default_scheme(dataset_of("aabb", groups="pppp")) == "k-fold"
    assert default_scheme(dataset_of("aabb")) == "k-fold"


def test_a_dataset_in_one_line():
    one = dataset_of("a", groups="p", sides=["train"])
    assert str(one) == "set: 1 clip of 1 class, 1 group, 1 official split (read as csv)"
    assert str(dataset_of("aab")) == "set: 3 clips of 2 classes, no groups, no official splits (read as csv)"


def test_the_training_side_of_an_official_split_is_a_dataset():
    dataset = dataset_of("abcab", sides=["train", "train", "", "test", "train"])
    side = training_side(dataset, "split")
    assert [item.path for item in side.items] == ["0.avi", "1.avi", "4.avi"]
    assert side.classes == ("a", "b")
    assert side.name == "set, training side of split"


def test_a_training_side_that_there_is_not():
    with pytest.raises(ParameterError, match=r"split is 'one': it must be one of the official splits of set, split\.$"):
        training_side(dataset_of("ab", sides=["train", "train"]), "one")
    with pytest.raises(ParameterError, match=r"^split is 'one': set has no official split\.$"):
        training_side(dataset_of("ab"), "one")
    with pytest.raises(ParameterError, match=r"^set, split: no clip is on the test side"):
        training_side(dataset_of("ab", sides=["train", "train"]), "split")
