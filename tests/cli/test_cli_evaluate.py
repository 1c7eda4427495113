"""The command idt evaluate: from videos to figures and files, the splits, what is extracted, and messages."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json
import os
import pty
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from clips import write_clip, write_squares
from commands import lines_of, work_in_copy

import idt.recognition.result_files
import idt.trajectories.extraction
from idt._util.fields import flag_name
from idt.batch import extract_videos
from idt.cli import main
from idt.params import Params
from idt.recognition.vectors import EncodingParams
from synthetic import still
from waiting import PATIENCE_S

pytestmark = pytest.mark.usefixtures("one_core")

IDT = [sys.executable, "-c", "import sys; from idt.cli import main; sys.exit(main())"]
QUICK = ["--channels", "hof,mbhx", "--words", "2", "--samples", "200"]
FILES = ["classes.csv", "confusion.csv", "confusion.png", "evaluation.json", "scores.csv"]


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A list of squares that move right and down, of three groups, and one clip where nothing moves; its features."""
    folder = tmp_path_factory.mktemp("made")
    write_squares(folder / "set", "still.avi,down,c")
    write_clip(folder / "set" / "still.avi", still().frames)
    assert not extract_videos(folder / "set", folder / "set-features").failed
    return folder


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    """The working folder with a copy of them."""
    return work_in_copy(made, tmp_path, monkeypatch)


evaluate = partial(lines_of, "evaluate")


def test_help_lists_every_flag(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    assert main(["--help"]) == 0
    assert re.search(r"│ evaluate +Tell how well labels are found", capsys.readouterr().out)
    assert main(["evaluate", "--help"]) == 0
    text = capsys.readouterr().out
    for name in ["--features", "--layout", "--videos", "--splits", "--folds", "--test-share", "--split-seed",
                 "--params", "--threads", *(flag_name(f) for f in dataclasses.fields(EncodingParams))]:
        assert re.search(rf"│ +{name} ", text), name


def test_from_videos_to_figures(folder, capsys):
    shutil.rmtree("set-features")
    out, err = evaluate(capsys, "set", *QUICK)
    assert out[:3] == ["set: 7 clips of 2 classes, 3 groups, no official splits (read as csv)",
                       "leave-one-group-out: 3 splits, training on 4 to 5 clips, testing on 2 to 3", ""]
    report = json.loads(Path("set-evaluation/evaluation.json").read_text())
    assert out[3] == "in %      accuracy  mean class accuracy    mAP"
    for line, (channel, values) in zip(out[4:7], report["channels"].items(), strict=True):
        expected = [values[name] for name in ("accuracy", "mean_class_accuracy", "mean_average_precision")]
        assert line.split() == [channel, *(f"{100 * value:.1f}" for value in expected)]
        assert len(line) == len(out[3])
    with open("set-evaluation/scores.csv", encoding="utf-8") as file:
        wrong = [row["label"] for row in csv.DictReader(file)
                 if row["channel"] == "combined" and row["label"] != row["predicted"]]
    expected = {"down": f"down       4  {100 - 25 * wrong.count('down'):11.1f}  "
                        f"{f'right ({n})' if (n := wrong.count('down')) else '-'}",
                "right": f"right      3  {100 - 100 / 3 * wrong.count('right'):11.1f}  "
                         f"{f'down ({n})' if (n := wrong.count('right')) else '-'}"}
    assert out[7:11] == ["", "class  clips  combined, %  most often mistaken for", *expected.values()]
    assert out[11:13] == ["", "1 clip without a trajectory (zero vectors), named in evaluation.json"]
    assert re.fullmatch(r"time: extract \d+\.\d s, learn \d+\.\d s, encode \d+\.\d s, classify \d+\.\d s", out[13])
    assert out[14:] == ["results: set-evaluation (evaluation.json, scores.csv, classes.csv, confusion.csv, "
                        "confusion.png)"]
    assert sorted(os.listdir("set-evaluation")) == FILES
    assert report["params"] == EncodingParams(channels=("hof", "mbhx"), words=2, samples=200).to_dict()
    assert report["empty"] == [{"path": "still.avi", "start": None, "end": None}]
    assert list(report["seconds"]) == ["extract", "learn", "encode", "classify"]
    assert [split["name"] for split in report["splits"]] == ["a", "b", "c"]
    videos = [f"{label}/{group}.avi" for label in ("right", "down") for group in "abc"]
    lines = [line for line in err if not line.startswith("idt: compiling")]
    assert sorted(line.partition(": ")[0] for line in lines[:7]) == sorted(
        f"set/{video}" for video in (*videos, "still.avi"))
    assert lines[7].startswith("7 done; the files are in set-features (")
    assert lines[8:] == ["split 1 of 3: a", "split 2 of 3: b", "split 3 of 3: c"]


def test_a_second_run_extracts_nothing_and_gives_the_same(folder, capsys, monkeypatch):
    out, err = evaluate(capsys, "set", *QUICK, "--threads", "1")
    assert err == ["0 done, 7 skipped (done before); the files are in set-features",
                   *(f"split {n} of 3: {name}" for n, name in enumerate("abc", 1))]
    first = {name: Path("set-evaluation", name).read_bytes() for name in FILES}
    monkeypatch.setattr(idt.trajectories.extraction, "extract_file", None)
    again, err = evaluate(capsys, "set", *QUICK, "--threads", "2", "-o", "again/deeper", "--quiet")
    assert err == []
    assert [line for line in again if line[:5] not in ("time:", "resul")] == [
        line for line in out if line[:5] not in ("time:", "resul")]
    assert sorted(os.listdir("again/deeper")) == FILES
    for name, content in first.items():
        if name != "evaluation.json":
            assert Path("again/deeper", name).read_bytes() == content


def test_official_splits_have_their_mean_and_shared_groups_are_told(folder, capsys):
    rows = Path("set/labels.csv").read_text().splitlines()
    sides = ["split", "train", "train", "test", "train", "train", "test", "test"]
    Path("set/labels.csv").write_text("".join(f"{row},{side}\n" for row, side in zip(rows, sides, strict=True)))
    out, err = evaluate(capsys, "set", *QUICK)
    assert out[0].endswith("1 official split (read as csv)")
    assert out[1] == "official: 1 split, training on 4 clips, testing on 3"
    assert out[3] == "in %      accuracy  mean of splits  mean class accuracy    mAP"
    assert not any("warning" in line for line in err)
    Path("set/labels.csv").write_text("".join(
        f"{row[:-1]}{group},{side},note\n" for row, group, side in zip(rows, "paabbaaa", sides, strict=True)))
    _, err = evaluate(capsys, "set", *QUICK)
    assert err[0] == "idt: warning: set/labels.csv: unknown columns are passed over: note."
    assert ("idt: warning: split: 2 groups have clips on both sides, which makes the test easier than it should be: "
            "a, b." in err)


def test_other_splits(folder, capsys):
    out, _ = evaluate(capsys, "set", *QUICK, "--splits", "hold-out", "--test-share", "0.4", "--split-seed", "3")
    assert out[1].startswith("hold-out: 1 split, training on ")
    out, _ = evaluate(capsys, "set", *QUICK, "--splits", "k-fold", "--folds", "3")
    assert out[1].startswith("k-fold: 3 splits, training on ")
    Path("set/still.avi").unlink()
    Path("set/labels.csv").unlink()
    out, _ = evaluate(capsys, "set", *QUICK, "--folds", "2")  # of folders without groups: k-fold
    assert out[0] == "set: 6 clips of 2 classes, no groups, no official splits (read as folders)"
    assert out[1].startswith("k-fold: 2 splits, training on ")
    assert not any("without a trajectory" in line for line in out)


def test_parameters_come_from_a_file_and_flags(folder, capsys):
    Path("p.toml").write_text('words = 3\nsamples = 200\nencoder = "bow"\nchannels = ["mbhy"]\n')
    evaluate(capsys, "set", "--params", "p.toml", "--words", "2", "-o", "out")
    assert json.loads(Path("out/evaluation.json").read_text())["params"] == EncodingParams(
        words=2, samples=200, encoder="bow", channels=("mbhy",)).to_dict()


def on_terminal(name, columns):
    """Run the command with stdout or stderr on a terminal; return what that shows."""
    main_end, terminal = pty.openpty()
    with subprocess.Popen([*IDT, "evaluate", "set", *QUICK], text=True,
                          env={**os.environ, "COLUMNS": columns, "TERM": "xterm"},
                          **{"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, name: terminal}) as child:
        os.close(terminal)
        shown = b""
        try:
            while part := os.read(main_end, 65536):
                shown += part
        except OSError:  # the child has closed its end
            pass
        assert child.wait(PATIENCE_S) == 0
    os.close(main_end)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())


def test_a_bar_tells_how_far_the_splits_are(folder):
    shown = on_terminal("stderr", "80")
    assert re.search(r"split 3 of 3: c, classify ", shown)


def test_tables_fit_into_a_terminal(folder):
    name = "abcdefghijklmnopqrstuvwxyz" * 3
    Path("set/labels.csv").write_text(Path("set/labels.csv").read_text().replace(",down,", f",{name},"))
    lines = on_terminal("stdout", "60").splitlines()
    (head,) = [n for n, line in enumerate(lines) if "mean class accuracy" in line]
    assert re.fullmatch(r" *─+ *", lines[head + 1])
    assert max(len(line) for line in lines[head:head + 6]) <= 60
    assert lines[head + 2].split()[0] == "hof"
    (head,) = [n for n, line in enumerate(lines) if line.split()[:2] == ["class", "clips"]]
    assert max(len(line) for line in lines[head:head + 8]) <= 60
    column = lines[head].index("clips")
    assert "".join(line[:column].strip() for line in lines[head + 2:]).startswith(name)  # folded, not cut
    assert not any(a.strip() == b.strip() == "" for a, b in itertools.pairwise(lines))


@pytest.mark.parametrize(("arguments", "message"), [
    (["nowhere"], r"nowhere: there is no such dataset\.$"),
    (["set", "--layout", "ucf"], r"layout is 'ucf': it must be one of auto, folders, csv, ucf101, hmdb51, kth, weizm"),
    (["set", "--splits", "loo"], r"splits is 'loo': it must be one of official, leave-one-group-out, k-fold, hold-out"),
    (["set", "--splits", "official"], r"set has no official split: choose leave-one-group-out, k-fold or hold-out\.$"),
    (["set", "--folds", "2"], r"folds is 2, which has no effect on leave-one-group-out splits: leave it out, or choose "
                              r"--splits k-fold\.$"),
    (["set", "--splits", "k-fold", "--test-share", "0.5"], r"test_share is 0\.5, which has no effect on k-fold splits"),
    (["set", "--split-seed", "1"], r"split_seed is 1, .*: leave it out, or choose --splits k-fold or hold-out\.$"),
    (["set", "--splits", "k-fold", "--folds", "9"], r"folds is 9, but there are only 3 groups"),
    (["set", "--splits", "hold-out", "--test-share", "1"], r"test_share is 1\.0: it must be above 0 and below 1\.$"),
    (["set", "--words", "0"], r"words is 0: it must be from 1 to 1000000\.$"),
    (["set", "--params", "p.toml"], r"p\.toml: the parameter file cannot be read"),
    (["set", "--threads", "0"], r"threads is 0: it must be at least 1\.$"),
    (["set", "-o", "set/labels.csv"], r"set/labels\.csv/.* cannot be written: .*labels\.csv is not a folder\.$"),
    (["set", "--layout", "folders"], r"still\.avi lies directly in it"),
    (["tree", "-o", "tree/results"], r"output is tree/results, inside the dataset .*tree, where it would count as a "
                                     r"part of it: give another folder with --output\.$"),
    (["tree", "-o", "tree"], r"output is tree, the folder of the dataset itself: give another folder with --output\.$"),
    (["set", "-o", "tree/../set"], r"output is tree/\.\./set, the folder of the dataset itself"),
    (["list.csv", "--videos", "set", "-o", "set"], r"output is set, the folder of the dataset itself"),
    (["list.csv", "--videos", "set", "-o", "."], r"output is \., the folder of the dataset itself"),
    (["tree", "--features", "tree/f"], r"features is tree/f, inside the dataset .* with --features\.$"),
    (["one"], r"one has clips of one class only, down: a classifier needs at least two classes\.$"),
    (["missing.csv"], r"nothing\.avi is missing \(1 of 2 clips of missing are\): give the folder that the paths "),
    (["lost.csv", "--videos", "set"], r"idt: lost, a: the class 'right' is tested but absent from the training"),
    (["list.csv", "--videos", "nowhere"], r"is missing \(2 of 2 clips"),
])
def test_what_is_wrong_is_told_before_any_work(folder, capsys, arguments, message):
    shutil.copytree("set/right", "tree/right")
    shutil.copytree("set/down", "tree/down")
    shutil.copytree("set/down", "one/down")
    Path("missing.csv").write_text("path,label\nset/right/a.avi,right\nnothing.avi,down\n")
    Path("lost.csv").write_text("path,label,group\nright/a.avi,right,a\ndown/a.avi,down,a\ndown/b.avi,down,b\n")
    Path("list.csv").write_text("path,label\nright/a.avi,right\ndown/a.avi,down\n")
    before = sorted(Path().rglob("*"))
    code = main(["evaluate", *arguments])
    out, err = capsys.readouterr()
    assert code in (1, 2)
    assert out == ""
    assert re.search(message, err), err
    assert err.startswith("idt: ")
    assert err.count("\n") == 1
    assert sorted(Path().rglob("*")) == before


def test_a_video_that_fails_ends_it_after_the_others(folder, capsys):
    shutil.rmtree("set-features")
    Path("set/down/b.avi").write_bytes(b"no video" * 50)
    out, err = evaluate(capsys, "set", *QUICK, code=1)
    assert len(out) == 3  # the dataset and its splits
    assert re.match(r"idt: 1 of 7 videos of set cannot be extracted: set/down/b\.avi\. Repair them or take them out of "
                    r"the dataset; all others are done\. The first: set/down/b\.avi", err[-1])
    assert sum(line.startswith("set/") for line in err) == 6
    assert os.listdir("set-evaluation") == []
    Path("set/labels.csv").write_text(Path("set/labels.csv").read_text().replace("down/b.avi,down,b\n", ""))
    _, err = evaluate(capsys, "set", *QUICK)
    assert err[0] == "0 done, 6 skipped (done before); the files are in set-features"


def test_inside_the_dataset_results_go_beside_it(folder, capsys, monkeypatch):
    Path("set/labels.csv").unlink()
    Path("set/still.avi").unlink()
    monkeypatch.chdir("set")
    out, err = evaluate(capsys, ".", *QUICK, "--folds", "2")
    assert out[-1].startswith("results: ../set-evaluation (evaluation.json, ")
    assert err[0] == "0 done, 6 skipped (done before); the files are in ../set-features"
    assert sorted(os.listdir("../set-evaluation")) == FILES
    assert sorted(os.listdir()) == ["down", "right"]
    monkeypatch.chdir("down")
    out, _ = evaluate(capsys, "..", *QUICK, "--folds", "2")
    assert out[-1].startswith("results: ../../set-evaluation (")


def test_it_is_told_how_features_were_extracted_and_splits_made(folder, capsys):
    out, _ = evaluate(capsys, "set", *QUICK)
    assert not any("extracted with" in line for line in out)
    report = json.loads(Path("set-evaluation/evaluation.json").read_text())
    assert report["extraction"] == Params().to_dict()
    assert report["division"] == {"scheme": "leave-one-group-out"}
    extract_videos("set", "other", Params(scales=2, descriptors=("hof", "mbhx")))
    out, _ = evaluate(capsys, "set", *QUICK, "--features", "other", "--splits", "k-fold", "--folds", "3")
    assert out[3:5] == ["features extracted with scales 2, descriptors hof,mbhx", ""]
    report = json.loads(Path("set-evaluation/evaluation.json").read_text())
    assert report["extraction"] == Params(scales=2, descriptors=("hof", "mbhx")).to_dict()
    assert report["division"] == {"scheme": "k-fold", "folds": 3, "seed": 0}


def test_features_that_do_not_fit_are_told(folder, capsys):
    few = Params(descriptors=("hog",))
    extract_videos("set", "few", few)
    _, err = evaluate(capsys, "set", "--features", "few", *QUICK, code=2)
    assert err == ["idt: few: its features have no hof: leave it out of channels, or give another folder for features "
                   "with it."]
    shutil.copy("few/down/a.avi.npz", "set-features/down/a.avi.npz")
    _, err = evaluate(capsys, "set", *QUICK, code=2)
    assert re.fullmatch(r"idt: set-features/down/a\.avi\.npz and set-features/\S+ were extracted with different "
                        r"parameters \(descriptors .*\): delete the features of one kind, or give another folder\.",
                        err[0])


def test_too_few_descriptors_for_the_words(folder, capsys):
    _, err = evaluate(capsys, "set", "--channels", "hof", "--words", "5000", code=2)
    assert re.search(r"5000", err[-1])
    assert err[-1].startswith("idt: ")


def test_without_matplotlib_all_but_the_picture_is_written(folder, capsys, monkeypatch):
    monkeypatch.setattr(idt.recognition.result_files.importlib.util, "find_spec", lambda name: None)
    out, err = evaluate(capsys, "set", *QUICK)
    assert out[-1] == "results: set-evaluation (evaluation.json, scores.csv, classes.csv, confusion.csv)"
    assert err[-1] == ("idt: warning: set-evaluation/confusion.png is left out: pictures need matplotlib, pip install "
                       "matplotlib.")


def test_names_of_classes_are_no_markup_are_not_cut_and_need_not_be_utf8(folder):
    Path("set/labels.csv").unlink()
    Path("set/still.avi").unlink()
    for place in (b"set", b"set-features"):
        os.rename(place + b"/down", place + b"/[b]d\xff")
        os.rename(place + b"/right", place + b"/" + 150 * b"r")
    child = subprocess.run([*IDT, "evaluate", "set", *QUICK, "--folds", "3"], capture_output=True, text=True,
                           timeout=PATIENCE_S, env={**os.environ, "PYTHONUTF8": "1"}, check=False)
    assert child.returncode == 0, child.stderr
    assert re.search(r"\n\[b\]d\\udcff +3 ", child.stdout)
    assert re.search(r"\nr{150} +3 ", child.stdout)
