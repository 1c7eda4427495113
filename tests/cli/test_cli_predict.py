"""The commands train and predict: a model from a labelled folder, labels of videos; predict_videos of the library."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from clips import write_clip

import idt.trajectories.extraction
from idt.batch import extract_videos, predict_videos
from idt.cli import main
from idt.encoding.model import FORMAT, Model
from idt.errors import ParameterError
from idt.features.record import Features
from idt.params import Params
from idt.recognition.classifier import predict, train
from idt.recognition.clip_features import load_features
from idt.recognition.datasets import read_dataset
from idt.recognition.vectors import EncodingParams
from idt.runner.log import NAME
from idt.trajectories.cache import features_key
from synthetic import moving_square, pan, still
from waiting import PATIENCE_S

pytestmark = pytest.mark.usefixtures("one_core")

QUICK = Params(camera=False, scales=1, stride=8, length=5, temporal_cells=1)
ENCODING = ("--words", "2", "--channels", "hog,mbhx", "--samples", "1000")
IDT = [sys.executable, "-c", "import sys; from idt.cli import main; sys.exit(main())"]


@pytest.fixture(scope="session", autouse=True)
def _kernels():
    """Compile first: messages are those of a second run."""
    idt.trajectories.extraction.compile_kernels()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with three clips of each of two classes in set/, their features in set-features/, and their model."""
    folder = tmp_path_factory.mktemp("made")
    for n in range(3):
        write_clip(folder / "set" / "pan" / f"{n}.avi", pan((2.0, 1.0), frames=9, seed=n).frames)
        write_clip(folder / "set" / "square" / f"{n}.avi", moving_square((3.0, 1.0), frames=9, seed=n).frames)
    extract_videos(folder / "set", folder / "set-features", QUICK)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", "set", "-o", "set.model.npz", *ENCODING, "--quiet"]) == 0
    return folder


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    """A copy of what is made, as the working folder; the features are those of the videos of the copy."""
    shutil.copytree(made, tmp_path / "work", copy_function=shutil.copy2)
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def files(path: str | Path) -> list[str]:
    """All files below a folder but the report, hidden ones too."""
    return sorted(p.relative_to(path).as_posix() for p in Path(path).rglob("*") if not p.is_dir() and p.name != NAME)


# ---- train ----------------------------------------------------------------------------------------------------------

def test_train_writes_what_the_library_learns(folder, capsys):
    before = files(".")
    assert main(["train", "set", "-o", "new/x.model.npz", *ENCODING]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"0 done, 6 skipped \(done before\); the files are in set-features\n"
                        r"set: learnt from 6 clips of 2 classes in \d+\.\d s; the model is in new/x\.model\.npz, "
                        r"[\d.]+ KB\n", err)
    assert files(".") == sorted([*before, "new/x.model.npz"])
    dataset = read_dataset("set")
    expected = train(dataset, load_features(dataset, "set-features"),
                     EncodingParams(words=2, channels=("hog", "mbhx"), samples=1000))
    loaded = Model.load("new/x.model.npz")
    assert loaded.labels == expected.labels == ("pan", "square")
    assert loaded.machine.coef_.tobytes() == expected.machine.coef_.tobytes()
    assert loaded.meta == {"dataset": "set", "clips": 6, "classes": 2}
    assert loaded.codebook.meta["extraction"] == QUICK.to_dict()


def test_train_extracts_what_is_missing_with_the_same_parameters(folder, capsys):
    expected = Path("set.model.npz").read_bytes()
    Path("set-features/pan/1.avi.npz").unlink()
    assert main(["train", "set", "-o", "x.model.npz", "--features", "set-features", *ENCODING]) == 0
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 3
    assert err[0].startswith("set/pan/1.avi: ")
    assert err[1].startswith("1 done, 5 skipped (done before); the files are in set-features (")
    assert Path("x.model.npz").read_bytes() == expected


@pytest.mark.parametrize("encoding", [ENCODING, (*ENCODING, "--encoder", "bow", "--norm", "l1")])
def test_the_number_of_threads_does_not_change_a_byte(folder, capsys, encoding):
    for threads in ("1", "2"):
        assert main(["train", "set", "-o", f"{threads}.model.npz", "--threads", threads, "--quiet", *encoding]) == 0
    assert Path("1.model.npz").read_bytes() == Path("2.model.npz").read_bytes()
    assert capsys.readouterr() == ("", "")


def test_train_takes_parameters_from_a_file(folder):
    Path("p.toml").write_text('words = 3\nencoder = "vlad"\nchannels = ["hog"]\nsamples = 1000\n')
    assert main(["train", "set", "-o", "x.model.npz", "--params", "p.toml", "--words", "4", "--cost", "3"]) == 0
    model = Model.load("x.model.npz")
    assert model.codebook.meta["params"] == EncodingParams(words=4, encoder="vlad", channels=("hog",), samples=1000,
                                                           cost=3.0).to_dict()
    assert model.machine.C == 3.0


def test_train_on_the_training_side_of_a_split(folder, capsys):
    rows = [f"{label}/{n}.avi,{label},{'test' if n == 2 else 'train'}" for label in ("pan", "square") for n in range(3)]
    Path("set/labels.csv").write_text("path,label,split\n" + "\n".join(rows) + "\n")
    name = read_dataset("set").official[0]
    Path("set-features/pan/2.avi.npz").unlink()  # which is not needed
    assert main(["train", "set", "-o", "x.model.npz", "--split", name, *ENCODING]) == 0
    assert f"\nset, training side of {name}: learnt from 4 clips of 2 classes in " in capsys.readouterr().err
    assert Model.load("x.model.npz").meta["clips"] == 4
    assert not Path("set-features/pan/2.avi.npz").exists()


def test_train_counts_clips_without_trajectories(folder, capsys):
    write_clip(folder / "set" / "pan" / "3.avi", still(frames=9).frames)
    assert main(["train", "set", "-o", "x.model.npz", *ENCODING]) == 0
    assert "set: learnt from 7 clips (1 without a trajectory) of 2 classes in " in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "code", "message"), [
    (["set"], 2, "parameter --output requires an argument"),
    (["set", "-o", "x.npz"], 2, r"output is x\.npz: the name of a model ends in \.model\.npz\.$"),
    (["set", "-o", "-"], 2, r"output is -: the name of a model ends in \.model\.npz\.$"),
    (["set", "-o", "set/pan/0.avi/x.model.npz"], 1, r"x\.model\.npz cannot be written: .*0\.avi is not a folder"),
    (["none", "-o", "x.model.npz"], 1, r"none: there is no such dataset\.$"),
    (["set/pan", "-o", "x.model.npz"], 1, r"set/pan"),
    (["set", "-o", "x.model.npz", "--layout", "kinetics"], 2, r"layout is 'kinetics': it must be one of auto, folders"),
    (["set", "-o", "x.model.npz", "--split", "split 1"], 2, r"split is 'split 1': set has no official split\.$"),
    (["set", "-o", "x.model.npz", "--words", "0"], 2, r"words is 0: it must be from 1 to 1000000\.$"),
    (["set", "-o", "x.model.npz", "--cost", "0"], 2, r"cost is 0\.0: it must be above 0"),
    (["set", "-o", "x.model.npz", "--encoder", "cnn"], 2, r"encoder is 'cnn': allowed are fisher, vlad, bow"),
    (["set", "-o", "x.model.npz", "--words", "100000", "--quiet"], 2, r"There are \d+ descriptors to learn 100000 "),
    (["set", "-o", "x.model.npz", "--params", "none.toml"], 2, r"none\.toml: the parameter file cannot be read")])
def test_train_messages(folder, capsys, arguments, code, message):
    before = files(".")
    assert main(["train", *arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("idt: ")
    assert len(err.splitlines()) == 1
    assert re.search(message, err.rstrip())
    assert files(".") == before


def test_one_class_is_told_before_anything_is_extracted(folder, capsys):
    shutil.rmtree("set/square")
    shutil.rmtree("set-features")
    assert main(["train", "set", "-o", "x.model.npz"]) == 2
    assert capsys.readouterr().err == ("idt: set has clips of one class only, pan: a classifier needs at least two "
                                       "classes.\n")
    assert not Path("set-features").exists()


def test_a_model_that_cannot_be_written_leaves_the_old_one(folder, capsys):
    Path("old.model.npz").mkdir()
    assert main(["train", "set", "-o", "old.model.npz", *ENCODING]) == 1
    assert capsys.readouterr().err == "idt: old.model.npz cannot be written: it is a folder; name a file in it.\n"


# ---- predict --------------------------------------------------------------------------------------------------------

def test_a_training_clip_gets_its_label(folder, capsys):
    before = files(".")
    assert main(["predict", "set.model.npz", "set"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    model = Model.load("set.model.npz")
    dataset = read_dataset("set")
    assert len(lines) == 6
    for line, item, features in zip(lines, dataset.items, load_features(dataset, "set-features"), strict=True):
        found = predict(features, model)
        assert found.labels[0] == item.label
        first, second = (f"{label:6} {score:5.2f}" for label, score in zip(found.labels, found.scores, strict=True))
        assert line == f"{item.path:16}   {first}   {second}"
    assert files(".") == before


def test_json_has_all_labels_of_a_video_whatever_top_says(folder, capsys):
    assert main(["predict", "set.model.npz", "set/pan/0.avi", "set/square", "--json", "--top", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    first, *others = map(json.loads, lines)
    features = Features.load("set-features/pan/0.avi.npz")
    found = predict(features, Model.load("set.model.npz"))
    assert first == {"video": "set/pan/0.avi", "trajectories": len(features), "reason": None, "labels": [
        {"label": label, "score": score} for label, score in zip(found.labels, found.scores, strict=True)]}
    assert [other["video"] for other in others] == [f"set/square/{n}.avi" for n in range(3)]


def test_top(folder, capsys):
    assert main(["predict", "set.model.npz", "set/pan/0.avi", "--top", "1"]) == 0
    assert re.fullmatch(r"set/pan/0\.avi   pan +\d\.\d\d\n", capsys.readouterr().out)
    assert main(["predict", "set.model.npz", "set/pan/0.avi", "--top", "0"]) == 2
    assert capsys.readouterr().err.endswith("top is 0: it must be at least 1.\n")


def test_a_bad_video_among_good_ones(folder, capsys):
    Path("bad.avi").write_bytes(b"no video" * 100)
    assert main(["predict", "set.model.npz", "set/pan/0.avi", "bad.avi", "set/square/0.avi"]) == 1
    out, err = capsys.readouterr()
    assert [line.split()[:2] for line in out.splitlines()] == [["set/pan/0.avi", "pan"], ["set/square/0.avi", "square"]]
    first, second = err.splitlines()
    assert first.startswith("idt: bad.avi: not a video")
    assert second == "2 done, 1 failed"


def test_a_video_without_trajectories_has_no_label_to_show(folder, capsys):
    write_clip(folder / "short.avi", pan(frames=4).frames)
    assert main(["predict", "set.model.npz", "short.avi", "set/pan/0.avi"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == ("short.avi       no trajectories, too short: 4 frames were processed, a trajectory of length 5 "
                      "needs 6")
    assert main(["predict", "set.model.npz", "short.avi", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["trajectories"], found["reason"]) == (0, out[0].partition("trajectories, ")[2])
    assert {label["label"] for label in found["labels"]} == {"pan", "square"}


def test_features_of_a_folder_give_what_the_video_gives(folder, capsys):
    assert main(["predict", "set.model.npz", "set", "--json"]) == 0
    from_videos = capsys.readouterr().out
    stamps = {name: os.stat(Path("set-features", name)).st_mtime_ns for name in files("set-features")}
    assert main(["predict", "set.model.npz", "set", "--json", "--features", "set-features"]) == 0
    assert capsys.readouterr().out == from_videos
    assert {name: os.stat(Path("set-features", name)).st_mtime_ns for name in files("set-features")} == stamps
    assert main(["predict", "set.model.npz", "set", "--json", "--features", "new"]) == 0
    assert capsys.readouterr().out == from_videos
    assert files("new") == files("set-features")
    assert Path("new/pan/1.avi.npz").read_bytes() == Path("set-features/pan/1.avi.npz").read_bytes()


def test_features_of_other_parameters_are_neither_used_nor_replaced(folder, capsys):
    extract_videos("set/pan/0.avi", "set-features/pan", dataclasses.replace(QUICK, stride=9, dtype="float32"))
    before = Path("set-features/pan/0.avi.npz").read_bytes()
    assert main(["predict", "set.model.npz", "set/pan", "--features", "set-features/pan"]) == 1
    out, err = capsys.readouterr()
    assert [line.split()[:2] for line in out.splitlines()] == [[f"set/pan/{n}.avi", "pan"] for n in (1, 2)]
    assert err.splitlines()[0] == (
        "idt: set-features/pan/0.avi.npz was extracted with other parameters than the videos that the model was learnt "
        "from (stride 9 instead of 8, dtype float32 instead of float16): give another folder of features.")
    assert Path("set-features/pan/0.avi.npz").read_bytes() == before


def test_features_of_another_video_are_extracted_anew(folder, capsys):
    expected = Path("set-features/pan/0.avi.npz").read_bytes()
    extract_videos("set/square/0.avi", "other", dataclasses.replace(QUICK, stride=9))
    assert main(["predict", "set.model.npz", "set/pan/0.avi", "--features", "other"]) == 0
    assert Path("other/0.avi.npz").read_bytes() == expected


def test_features_made_with_boxes_that_were_given_are_used(folder, capsys):
    path, inputs = Path("set-features/pan/0.avi.npz"), {"boxes": "0" * 64, "homographies": None}
    features = Features.load(path)
    meta = features.meta | {"inputs": inputs, "key": features_key(features.meta["video"]["sha256"], QUICK, inputs)}
    dataclasses.replace(features, meta=meta).save(path)
    before = os.stat(path).st_mtime_ns
    assert main(["predict", "set.model.npz", "set/pan/0.avi", "--features", "set-features/pan"]) == 0
    assert os.stat(path).st_mtime_ns == before


def test_files_of_other_kinds_are_not_replaced_by_features(folder, capsys):
    shutil.copy("set.model.npz", "set-features/pan/0.avi.npz")
    Path("set-features/pan/1.avi.npz").write_bytes(b"damaged")
    assert main(["predict", "set.model.npz", "set/pan", "--features", "set-features/pan"]) == 1
    assert capsys.readouterr().err.splitlines()[0] == (
        "idt: set-features/pan/0.avi.npz holds a model, which features must not replace: choose another output folder.")
    assert Path("set-features/pan/0.avi.npz").read_bytes() == Path("set.model.npz").read_bytes()
    assert len(Features.load("set-features/pan/1.avi.npz"))


def test_a_full_folder_of_temporary_files_is_named(folder, capsys, monkeypatch):
    def full(*args, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(os, "replace", full)
    assert main(["predict", "set.model.npz", "set/pan/0.avi", "--jobs", "1"]) == 1
    assert re.fullmatch(
        rf"idt: set/pan/0\.avi: {re.escape(str(folder))}/idt-\w+/idt-\w+/features\.npz cannot be written: No space "
        r"left on device; choose another folder of temporary files \(TMPDIR\), or give one for features\.\n",
        capsys.readouterr().err)
    assert main(["predict", "set.model.npz", "set/pan/0.avi", "--features", "new", "--jobs", "1"]) == 1
    assert capsys.readouterr().err == "idt: new/0.avi.npz cannot be written: No space left on device.\n"


def test_a_descriptor_that_is_no_number_fails_its_video(folder, capsys):
    path = Path("set-features/pan/0.avi.npz")
    features = Features.load(path)
    hog = np.array(features.hog)
    hog[7, 2] = np.nan
    dataclasses.replace(features, hog=hog).save(path)
    assert main(["predict", "set.model.npz", "set", "--features", "set-features"]) == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 5
    assert err.startswith(f"idt: hog of {path} has a number that is NaN, infinite or beyond float32 in row 7: ")
    assert "\n5 done, 1 failed; the files are in set-features (" in err


def test_videos_of_one_name_need_no_folder_of_features(folder, capsys):
    assert main(["predict", "set.model.npz", "set/pan/0.avi", "set/square/0.avi"]) == 0
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["pan", "square"]
    assert main(["predict", "set.model.npz", "set/pan/0.avi", "set/square/0.avi", "--features", "new"]) == 2
    assert "would both be written to new/0.avi.npz" in capsys.readouterr().err


def piped(*lines: str) -> str:
    """A list that can be read but once."""
    reader, writer = os.pipe()
    with open(writer, "w") as file:
        file.writelines(f"{line}\n" for line in lines)
    return f"@/dev/fd/{reader}"


def test_a_list_from_a_pipe_is_read_once(folder, capsys):
    assert main(["predict", "set.model.npz", piped("set/pan/0.avi", "set/square/0.avi")]) == 0
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()] == [
        ["set/pan/0.avi", "pan"], ["set/square/0.avi", "square"]]
    assert main(["extract", piped("set/pan"), "-o", "new", "--quiet", "--stride", "8", "--no-camera"]) == 0
    assert files("new") == ["0.avi.npz", "1.avi.npz", "2.avi.npz"]
    assert main(["flow", piped("set/pan/0.avi"), "-o", "flow", "--quiet", "--format", "npz", "--method", "dis"]) == 0
    assert files("flow") == ["0.avi.npz"]
    capsys.readouterr()
    for command in (["predict", "set.model.npz"], ["extract", "-o", "new"], ["flow", "-o", "flow"]):
        assert main([*command, piped("", " ")]) == 2
        assert re.fullmatch(r"idt: @/dev/fd/\d+ names no video\.\n", capsys.readouterr().err)


@pytest.mark.parametrize("change", ["damaged", "version", "codebook", "features", "missing", "video"])
def test_models_that_cannot_be_used_are_told_before_any_video(folder, capsys, change):
    path = Path("set.model.npz")
    if change == "damaged":
        path.write_bytes(path.read_bytes()[:-300])
        message = r"set\.model\.npz: not a model that can be read \("
    elif change == "version":
        with np.load(path, allow_pickle=False) as file:
            parts = dict(file)
        meta = json.loads(str(parts["meta"]))
        np.savez(path, allow_pickle=False, **{**parts, "meta": np.array(json.dumps({**meta, "format": FORMAT + 1}))})
        message = rf"set\.model\.npz: a model of format {FORMAT + 1}; this version reads format {FORMAT}\."
    elif change == "codebook":
        with open("x", "wb") as file:
            Model.load(path).codebook.save(file)
        os.replace("x", path)
        message = r"set\.model\.npz: not a model but a codebook; give a file that idt train wrote\."
    elif change == "features":
        shutil.copy("set-features/pan/0.avi.npz", path)
        message = r"set\.model\.npz: not a model but features; give a file that idt train wrote\."
    elif change == "missing":
        path.unlink()
        message = r"set\.model\.npz: not a model that can be read \(.*No such file"
    else:
        shutil.copy("set/pan/0.avi", path)
        message = r"set\.model\.npz: not a model that can be read \("
    assert main(["predict", "set.model.npz", "none.avi"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert re.match(f"idt: {message}", err)


def test_names_that_are_no_text_do_not_stop_it(folder):
    os.rename(b"set/pan/0.avi", b"set/pan/\xff\xfc.avi")
    for more in ((), ("--json", "--jobs", "1")):
        child = subprocess.run([*IDT, "predict", "set.model.npz", "set/pan", *more], capture_output=True,
                               timeout=PATIENCE_S, env={**os.environ, "PYTHONUTF8": "1"}, check=False)
        assert (child.returncode, child.stderr) == (0, b"")
        lines = child.stdout.decode().splitlines()
        assert len(lines) == 3
        assert all(r"\udcff\udcfc.avi" in line for line in lines[2:])


def test_nobody_reads_on(folder):
    child = subprocess.run(f"{sys.executable} -c '{IDT[2]}' predict set.model.npz set | head -n 1", shell=True,
                           capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert child.stdout.startswith("set/pan/0.avi")
    assert child.stderr == ""


@pytest.mark.parametrize("both", [True, False])
def test_beside_a_bar_results_go_where_stdout_goes(folder, both):
    leader, follower = pty.openpty()
    seen = b""
    with subprocess.Popen([*IDT, "predict", "set.model.npz", "set/pan/0.avi", "set/pan/1.avi", "--jobs", "1"],
                          stderr=follower,
                          stdout=follower if both else subprocess.PIPE, env={**os.environ, "COLUMNS": "200"}) as child:
        os.close(follower)
        with contextlib.suppress(OSError):  # the end, on Linux
            while part := os.read(leader, 65536):
                seen += part
        piped = b"" if both else child.stdout.read()
    os.close(leader)
    assert child.returncode == 0
    assert b"of 2 videos" in seen
    lines = re.findall(rb"set/pan/[01]\.avi   pan .*?\r?\n", seen if both else piped)
    assert len(lines) == 2
    assert both or b"set/pan/0.avi   pan" not in seen


@pytest.mark.slow
def test_actions_of_actors_who_were_not_learnt_from(data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    actions, learnt = ("bend", "jack", "wave1"), ("daria", "denis", "eli", "ido", "ira")
    rows = [f"{action}/{actor}_{action}.avi,{action}" for action in actions for actor in learnt]
    Path("three.csv").write_text("path,label\n" + "\n".join(rows) + "\n")
    videos = data / "weizmann"
    extract_videos([str(videos / "bend/daria_bend.avi")], "three-features/bend", Params(scales=1, stride=8))
    assert main(["train", "three.csv", "--videos", str(videos), "-o", "x.model.npz", "--words", "16", "--quiet"]) == 0
    others = [str(videos / action / f"{actor}_{action}.avi") for action in actions for actor in ("lyova", "shahar")]
    assert main(["predict", "x.model.npz", *others, "--top", "1"]) == 0
    out, err = capsys.readouterr()
    assert [line.split()[1] for line in out.splitlines()] == [action for action in actions for _ in range(2)]
    assert err == ""


# ---- predict_videos -------------------------------------------------------------------------------------------------

def test_outcomes_have_the_ranking_and_nothing_stays(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = files(tmp_path)
    held, seen = [], []
    model = Model.load("set.model.npz")
    predict_videos(["set/pan", "none.avi"], model, report=seen.append, threads=2,
                   progress=lambda p: held.append(len(list(tmp_path.glob("idt-*/*.npz")))))
    assert [outcome.state for outcome in seen] == ["done", "done", "done", "failed"]
    assert max(held) == 0  # the features of a video are gone when the next begins
    assert files(tmp_path) == before
    found = predict(Features.load("set-features/pan/2.avi.npz"), model)
    assert seen[2].job.source == "set/pan/2.avi"
    assert seen[2].meta["ranking"] == [[*pair] for pair in zip(found.labels, found.scores, strict=True)]
    assert seen[2].meta["rows"] == len(Features.load("set-features/pan/2.avi.npz"))
    assert seen[2].meta["reason"] is None


def test_a_model_that_does_not_tell_its_extraction(folder):
    model = Model.load("set.model.npz")
    for extraction in (None, "standard"):
        model.codebook.meta["extraction"] = extraction
        with pytest.raises(ParameterError, match=r"^The model does not tell how its features were extracted: train it"):
            predict_videos("set", model)
