"""The command idt compare: from videos and tables to figures and files, what is extracted, and messages."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from clips import write_squares
from commands import lines_of, work_in_copy

import idt.recognition.codebook_learning
import idt.trajectories.extraction
from idt.batch import extract_videos
from idt.cli import main
from idt.cli.evaluate import table
from idt.comparison.methods import read_methods
from idt.comparison.result_files import save
from idt.comparison.run import compare as compare_methods
from idt.comparison.run import features_folder
from idt.params import Params
from idt.recognition.datasets import read_dataset, splits

pytestmark = pytest.mark.usefixtures("one_core")

FILES = ["comparison.json", "comparison.md", "report.html", "methods.csv", "splits.csv", "classes.csv", "confusion.csv",
         "weights.csv", "mcnemar.csv", "scores.csv"]
CLIPS = [f"{label}/{group}.avi" for label in ("down", "right") for group in "abc"]
METHODS = """
[[method]]
name = "FV"
words = 2
samples = 200
scales = 1
channels = ["hof", "mbhx"]

[[method]]
name = "FV, HOF"
words = 2
samples = 200
scales = 1
channels = ["hof"]

[[method]]
name = "net"
scores = "net.csv"

[[method]]
name = "FV + net"
of = ["FV", "net"]
fusion = "weighted"
"""


@pytest.fixture(scope="session")
def compared_set(tmp_path_factory):
    """A list of squares that move right and down, of three groups; their features, methods, and a table of scores."""
    folder = tmp_path_factory.mktemp("compared")
    write_squares(folder / "set")
    # Right of all but right/c.
    scores = [f"{clip},{2 * (clip[0] == 'd' or clip == 'right/c.avi')},1" for clip in CLIPS]
    (folder / "net.csv").write_text("\n".join(["path,down,right", *scores]) + "\n")
    (folder / "m.toml").write_text(METHODS)
    place = features_folder(folder / "features", Params(scales=1))
    assert not extract_videos(folder / "set", place, Params(scales=1)).failed
    return folder


@pytest.fixture
def folder(compared_set, tmp_path, monkeypatch):
    """The working folder with a copy of them."""
    return work_in_copy(compared_set, tmp_path, monkeypatch)


compare = partial(lines_of, "compare")


def test_help_lists_every_flag(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    assert main(["--help"]) == 0
    assert re.search(r"│ compare +Hold methods against each other", capsys.readouterr().out)
    assert main(["compare", "--help"]) == 0
    text = capsys.readouterr().out
    for name in ["--output", "--methods", "--preset", "--reference", "--features", "--layout", "--videos", "--splits",
                 "--folds", "--test-share", "--split-seed", "--threads"]:
        assert re.search(rf"│ +{name} ", text), name


def test_from_videos_and_tables_to_figures(folder, capsys):
    shutil.rmtree("features")
    out, err = compare(capsys, "set", "--methods", "m.toml")
    assert out[:4] == ["set: 6 clips of 2 classes, 3 groups, no official splits (read as csv)",
                       "leave-one-group-out: 3 splits, training on 4 clips, testing on 2", "4 methods", ""]
    content = json.loads(Path("set-comparison/comparison.json").read_text())
    assert out[4].split() == ["method", "accuracy", "interval", "mAP", "p", "time,", "s", "disk,", "MB"]
    for line, method in zip(out[5:9], content["methods"], strict=True):
        assert line.startswith(method["name"])
        low, high = method["interval"]
        assert line[len("FV + net"):].split()[-6:-3] == [
            f"{100 * method['accuracy']:.1f}", f"{100 * low:.1f}–{100 * high:.1f}",
            f"{100 * method['mean_average_precision']:.1f}"]
    assert out[9:] == ["", "accuracies in %, 95 % intervals; p: McNemar's test against FV", "",
                       f"results: set-comparison ({', '.join(FILES)})"]
    place = features_folder("set-comparison/features", Params(scales=1))
    lines = [line for line in err if not line.startswith("idt: compiling")]
    assert sorted(line.partition(": ")[0] for line in lines[:6]) == [f"set/{clip}" for clip in CLIPS]
    assert lines[6].startswith(f"6 done; the files are in {place} (")
    assert lines[7:] == ["split 1 of 3: a", "split 2 of 3: b", "split 3 of 3: c",
                         "drawing the clips that methods disagree on"]
    assert sorted(os.listdir("set-comparison")) == sorted([*FILES, "codebooks", "features"])
    fv, hof, net, both = content["methods"]
    assert net["accuracy"] == 5 / 6
    assert net["splits"] == [1, 1, 0.5]
    assert (net["seconds"], net["bytes"], net["time"]) == ({}, {}, None)
    told = [json.loads(line) for line in Path(place, "report.jsonl").read_text().splitlines()]
    assert fv["seconds"]["extract"] == pytest.approx(sum(line["seconds"] for line in told if "video" in line))
    assert fv["bytes"]["features"] == sum(path.stat().st_size for path in place.rglob("*.npz"))
    assert hof["seconds"]["extract"] == fv["seconds"]["extract"]
    assert ("extract" in both["seconds"], both["time"]) == (False, None)  # nobody has told what the network took
    assert [len(weights) for weights in both["weights"]] == [2, 2, 2]
    with open("set-comparison/scores.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows if row["method"] == "net" and row["predicted"] != row["label"]] == [
        "right/c.avi"]
    for method in content["methods"]:
        own = [row["predicted"] == row["label"] for row in rows if row["method"] == method["name"]]
        assert method["accuracy"] == np.mean(own)
    page = Path("set-comparison/report.html").read_text()
    assert "video/mp4" in page


def test_features_that_lie_as_idt_evaluate_has_them(folder, capsys):
    os.rename(features_folder("features", Params(scales=1)), "flat")
    Path("m.toml").write_text(METHODS.partition('[[method]]\nname = "FV, HOF"')[0])
    _, err = compare(capsys, "set", "--methods", "m.toml", "--features", "flat", "--threads", "1")
    assert err[0] == "0 done, 6 skipped (done before); the files are in flat"
    Path("flat", f"{CLIPS[0]}.npz").write_bytes(b"")  # it is made again
    _, err = compare(capsys, "set", "--methods", "m.toml", "--features", "flat", "--threads", "1")
    assert err[1].startswith("1 done, 5 skipped (done before); the files are in flat (")
    assert not [name for name in os.listdir("flat") if name.startswith("improved")]
    # Those of another kind get a folder in it, which is told.
    Path("m.toml").write_text(Path("m.toml").read_text().replace("scales = 1", "scales = 1\ncamera = false"))
    place = features_folder("flat", Params(scales=1, camera=False))
    _, err = compare(capsys, "set", "--methods", "m.toml", "--features", "flat", "--threads", "1")
    assert err[0] == (f"idt: warning: flat/{CLIPS[0]}.npz was extracted otherwise than a method asks for (camera True "
                      f"instead of False): features for that are put into {place}.")
    assert sorted(path.name for path in place.rglob("*.npz")) == sorted(f"{Path(clip).name}.npz" for clip in CLIPS)


def test_a_second_run_learns_nothing_again(folder, capsys, monkeypatch):
    compare(capsys, "set", "--methods", "m.toml", "--features", "features", "--threads", "1")
    first = Path("set-comparison/scores.csv").read_bytes()
    kept = {path: path.read_bytes() for path in Path("set-comparison/codebooks").iterdir()}
    assert len(kept) == 3 * 2  # splits, channels
    monkeypatch.setattr(idt.recognition.codebook_learning, "sample", None)
    compare(capsys, "set", "--methods", "m.toml", "--features", "features", "--threads", "1")
    assert Path("set-comparison/scores.csv").read_bytes() == first
    assert {path: path.read_bytes() for path in Path("set-comparison/codebooks").iterdir()} == kept


def test_a_second_run_extracts_nothing_and_gives_the_same(folder, capsys, monkeypatch):
    monkeypatch.setattr(idt.trajectories.extraction, "extract_file", None)
    options = ["--methods", "m.toml", "--features", "features", "--reference", "net"]
    out, err = compare(capsys, "set", *options, "--threads", "1")
    place = features_folder("features", Params(scales=1))
    assert err == [f"0 done, 6 skipped (done before); the files are in {place}",
                   *(f"split {n} of 3: {name}" for n, name in enumerate("abc", 1)),
                   "drawing the clips that methods disagree on"]
    _, err = compare(capsys, "set", *options, "--threads", "2", "-o", "again/deeper", "--quiet")
    assert err == []
    assert sorted(os.listdir("again/deeper")) == sorted([*FILES, "codebooks"])
    assert Path("again/deeper/scores.csv").read_bytes() == Path("set-comparison/scores.csv").read_bytes()
    assert out[-3] == "accuracies in %, 95 % intervals; p: McNemar's test against net"
    assert [line.split()[-3] for line in out[5:9]][2] == "-"
    # In Python it is the same; how long the extraction took is not known any more.
    Path(place, "report.jsonl").unlink()
    dataset = read_dataset("set")
    found = compare_methods(dataset, read_methods("m.toml"), splits(dataset, "leave-one-group-out"), "features")
    assert list(found.row("FV").seconds) == ["learn", "encode", "classify"]
    assert found.row("FV").time is None
    save(found, "python", reference="net")
    assert Path("python/scores.csv").read_bytes() == Path("set-comparison/scores.csv").read_bytes()
    videos = [re.search(r'id="videos">(.*?)<', Path(folder, "report.html").read_text())
              for folder in ("python", "set-comparison")]
    assert videos[0][1] == videos[1][1] != "[{}]"


def test_tables_alone_need_no_features(folder, capsys):
    Path("m.toml").write_text('[[method]]\nname = "net"\nscores = "net.csv"\n')
    out, err = compare(capsys, "set", "--methods", "m.toml", "--splits", "k-fold", "--folds", "2")
    assert out[2] == "1 method"
    assert out[4] == "method  accuracy    interval   mAP  time, s  disk, MB"
    assert out[5].split()[:2] == ["net", "83.3"]
    assert out[7] == "accuracies in %, 95 % intervals"
    assert err == ["split 1 of 2: fold 1", "split 2 of 2: fold 2"]
    assert sorted(os.listdir("set-comparison")) == sorted({*FILES} - {"weights.csv", "mcnemar.csv"})


def test_a_narrow_terminal_breaks_the_names_of_columns_not_numbers(monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    rows = [["a rather long name", "100.0–100.0", "0.0123"]]
    shown = {}
    for width in ("80", "36"):
        monkeypatch.setenv("COLUMNS", width)
        text = re.sub(r"\x1b\[[0-9;]*m", "", table(["method", "95 % interval", "disk, MB"], rows))
        shown[width] = [line.rstrip() for line in text.splitlines()]
    assert shown["80"][0].split() == ["method", "95", "%", "interval", "disk,", "MB"]
    assert [line.split() for line in shown["36"][:3]] == [["95"], ["%", "disk,"], ["method", "interval", "MB"]]
    assert shown["36"][4].split()[-2:] == ["100.0–100.0", "0.0123"]
    assert max(map(len, shown["36"])) <= 36


def test_published_figures_are_shown_where_the_dataset_is_known(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows, scores = ["path,label,split"], ["path," + ",".join(f"c{n}" for n in range(50))]
    for n in range(50):
        for side in ("train", "test"):
            Path(f"{side}{n}.avi").write_bytes(b"never opened")
            rows.append(f"../{side}{n}.avi,c{n},{side}")
        scores.append(f"test{n}," + ",".join(str(int(k == n)) for k in range(50)))
    Path("UCF50").mkdir()
    Path("UCF50/labels.csv").write_text("\n".join(rows))
    Path("net.csv").write_text("\n".join(scores))
    Path("m.toml").write_text('[[method]]\nname = "net"\nscores = "net.csv"\n')
    out, _ = compare(capsys, "UCF50", "--methods", "m.toml", "--quiet")
    assert out[5].split()[:4] == ["net", "100.0", "100.0–100.0", "100.0"]
    assert re.split(" {2,}", out[9]) == ["published, in %", "accuracy", "protocol", "source"]
    protocol = "each of 25 groups left out in turn, mean of the classes"
    assert [re.split(" {2,}", line) for line in out[10:12]] == [
        ["dense trajectories, bags of words", "84.5", protocol, "Wang, Kläser, Schmid and Liu, IJCV 2013"],
        ["improved dense trajectories, Fisher vectors", "91.2", protocol, "Wang and Schmid, ICCV 2013"]]
    assert out[12] == ("Not comparable as it stands: this comparison has 50 tests on 1 official split, the published "
                       "figures are of 6,618 on 25 leave-one-group-out splits.")


@pytest.mark.parametrize(("arguments", "message"), [
    (["set"], r"Give either --methods FILE\.toml or --preset, which is one of baselines, weizmann\.$"),
    (["set", "--methods", "m.toml", "--preset", "weizmann"], r"Give either --methods FILE\.toml or --preset"),
    (["set", "--preset", "wiezmann"], r"'wiezmann' is no preset; did you mean weizmann\? The presets "),
    (["set", "--methods", "none.toml"], r"none\.toml: the file of methods cannot be read \(No such file "),
    (["set", "--methods", "typo.toml"], r"typo\.toml: FV: chanels is not a parameter; did you mean channels\?"),
    (["set", "--methods", "m.toml", "--reference", "fv"], r"'fv' is no method of the comparison; did you mean FV\?"),
    (["nowhere", "--methods", "m.toml"], r"nowhere: there is no such dataset\.$"),
    (["set", "--methods", "m.toml", "--splits", "loo"], r"splits is 'loo': it must be one of official, leave"),
    (["set", "--methods", "m.toml", "-o", "set"], r"output is set, the folder of the dataset itself"),
    (["set", "--methods", "m.toml", "-o", "set/labels.csv"], r"set/labels\.csv/.* cannot be written: .*is not a f"),
    (["one", "--methods", "m.toml"], r"one has clips of one class only, down: a classifier needs at least two "),
])
def test_what_is_wrong_is_told_before_any_work(folder, capsys, arguments, message):
    shutil.copytree("set/down", "one/down")
    Path("typo.toml").write_text('[[method]]\nname = "FV"\nchanels = ["hog"]\n')
    before = sorted(Path().rglob("*"))
    code = main(["compare", *arguments])
    out, err = capsys.readouterr()
    assert code in (1, 2)
    assert out == ""
    assert re.search(message, err), err
    assert err.startswith("idt: ")
    assert err.count("\n") == 1
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize(("change", "message"), [
    (lambda text: text + "left/a.avi,1,0\n", r"net\.csv, line 8: left/a\.avi is no clip of set \(1 of 7"),
    (lambda text: text.replace("down/b.avi,2,1\n", ""), r"net\.csv: there is no row for down/b\.avi \(1 of 6 clips "),
    (lambda text: text.replace("down/b.avi,2", "down/b.avi,nan"), r"net\.csv, line 3: down of down/b\.avi is nan: "),
    (lambda text: text + "down/b,1,0\n", r"line 8: down/b is given for the second time, after net\.csv, line 3\.$"),
    (lambda text: text.replace("down,right", "Down,right"), r"the column Down is no class of set, which has down: "),
])
def test_a_table_that_does_not_fit_ends_it_before_any_video_is_read(folder, capsys, change, message):
    Path("net.csv").write_text(change(Path("net.csv").read_text()))
    shutil.rmtree("features")
    _, err = compare(capsys, "set", "--methods", "m.toml", code=1)
    assert len(err) == 1
    assert re.search(message, err[0]), err
    assert os.listdir("set-comparison") == []
