"""The commands idt fit and idt encode, and what idt info tells of their files: text, exit codes, what is done again."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from random_bags import encoded
from random_features import random_features, run_limited

from idt.batch import encode_videos, fit_codebook
from idt.cli import main
from idt.encoding import LinearSVM
from idt.encoding.model import Codebook, Model
from idt.errors import FormatError, ParameterError
from idt.features.record import Features
from idt.features.text import write_text
from idt.params import Params
from idt.recognition.codebook_learning import learn_codebook
from idt.recognition.vectors import EncodingParams, Vectors, encode
from idt.runner.inputs import features_files
from idt.runner.log import NAME

pytestmark = pytest.mark.usefixtures("one_core")

SMALL = ["--channels", "hog,mbhx", "--words", "3", "--samples", "300"]
PARAMS = EncodingParams(channels=("hog", "mbhx"), words=3, samples=300)


def keyed(seed, rows=60, **changes):
    """Features as an extraction makes them, with a key."""
    features = random_features(rows, seed, **changes)
    features.position[:, 2] = 0.5
    features.meta.update(key=f"{seed:064d}", reason=None if rows else "it is still")
    return features


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with features/walk/a.avi.npz, features/walk/b.avi.npz and features/c.avi.npz."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("walk/a.avi.npz", "walk/b.avi.npz", "c.avi.npz")):
        keyed(seed).save(tmp_path / "features" / name)
    return tmp_path


@pytest.fixture
def codebook(folder):
    fit_codebook("features", "x.codebook.npz", PARAMS)
    return folder / "x.codebook.npz"


def files(path: str | Path) -> list[str]:
    """All files below a folder but the report, hidden ones too."""
    return sorted(p.relative_to(path).as_posix() for p in Path(path).rglob("*") if not p.is_dir() and p.name != NAME)


def stamps(path: str) -> dict[str, tuple[int, int]]:
    return {name: ((found := os.stat(Path(path, name))).st_ino, found.st_mtime_ns) for name in files(path)}


# What features are found


def test_features_are_found_in_files_folders_globs_and_lists(folder):
    for name in ("x.codebook.npz", "y.model.npz", "walk/notes.txt", ".hidden.npz", ".cache/d.npz"):
        (folder / "features" / name).parent.mkdir(exist_ok=True)
        (folder / "features" / name).touch()
    everything = ["features/c.avi.npz", "features/walk/a.avi.npz", "features/walk/b.avi.npz"]
    assert features_files("features") == everything
    assert features_files(Path("features/walk")) == everything[1:]
    assert features_files("features/*/*.npz") == everything[1:]
    assert features_files(["features/walk/b.avi.npz", "features/c.avi.npz"]) == [everything[2], everything[0]]
    Path("list.txt").write_text("features/walk/b.avi.npz\nfeatures/wal*/a*\n\n")
    assert features_files("@list.txt") == [everything[2], everything[1]]
    assert features_files("none.npz") == ["none.npz"]


@pytest.mark.parametrize(("inputs", "kind", "message"), [
    ("empty", FormatError, r"^empty: there is no features file \(\.npz\) in this folder or below\.$"),
    ("features/*.txt", FormatError, r"^features/\*\.txt: nothing matches\.$"),
    (["features", "features/walk/a.avi.npz"], ParameterError, r"^features/walk/a\.avi\.npz is given twice\.$"),
    ("@none.txt", ParameterError, r"^none\.txt: the list cannot be read \(No such file or directory\)\.$")])
def test_inputs_that_stand_for_nothing_or_too_much(folder, inputs, kind, message):
    (folder / "empty").mkdir()
    with pytest.raises(kind, match=message):
        features_files(inputs)


# idt fit


def test_fit_writes_the_codebook_and_tells_what_was_learnt(folder, capsys):
    assert main(["fit", "features", "-o", "out/x.codebook.npz", *SMALL, "--threads", "2"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert lines[:2] == ["hog         96 numbers, 48 after PCA; Fisher vectors of 3 Gaussians, 288 values",
                         "mbhx        96 numbers, 48 after PCA; Fisher vectors of 3 Gaussians, 288 values"]
    size = r"[0-9.]+ KB"
    assert re.fullmatch(r"learnt from 180 descriptors of each, of 3 videos, in [0-9.]+ s; the codebook is in "
                        rf"out/x\.codebook\.npz, {size}", lines[2])
    expected = learn_codebook([Features.load(path) for path in features_files("features")], PARAMS)
    assert Codebook.load("out/x.codebook.npz").meta == expected.meta
    bag = {"hog": keyed(9).hog, "mbhx": keyed(9).mbhx}
    for name, vector in encoded(Codebook.load("out/x.codebook.npz"), bag).items():
        np.testing.assert_array_equal(vector, encoded(expected, bag)[name])


def test_fit_gives_the_same_bytes_for_any_threads_and_place(folder, capsys):
    (folder / "elsewhere").mkdir()
    os.rename("features", "elsewhere/moved")
    for number, threads in enumerate("12"):
        assert main(["fit", "elsewhere/moved", "-o", f"{number}.codebook.npz", *SMALL, "--threads", threads,
                     "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    os.rename("elsewhere/moved", "features")
    fit_codebook("features", "2.codebook.npz", PARAMS)
    assert len({Path(f"{n}.codebook.npz").read_bytes() for n in range(3)}) == 1


def test_fit_takes_parameters_from_a_file_and_flags_win(folder, capsys):
    Path("p.toml").write_text('encoder = "vlad"\nchannels = ["hog"]\nwords = 9\npyramid = ["1x1x1", "1x1x2"]\n')
    assert main(["fit", "features", "-o", "x.codebook.npz", "--params", "p.toml", "--words", "5", "--pca", "1"]) == 0
    assert capsys.readouterr().err.startswith("hog         96 numbers; VLAD of 5 words in 3 cells, 1,440 values\n")


@pytest.mark.parametrize(("arguments", "code", "message"), [
    (["features", "-o", "x.npz"], 2, r"output is x\.npz: the name of a codebook must end in \.codebook\.npz\."),
    (["features", "-o", "x.codebook.npz", "--words", "500"], 2,
     r"There are 180 descriptors to learn 500 Gaussians from: give at least as many descriptors, or ask for fewer\."),
    (["features", "-o", "x.codebook.npz", "--encoder", "bow"], 2, "There are 180 descriptors to learn 256 words from:"),
    (["features", "-o", "x.codebook.npz", "--encoder", "cnn"], 2, "encoder is 'cnn': allowed are fisher, vlad, bow"),
    (["features", "-o", "x.codebook.npz", "--cost", "1"], 2, "Unknown option: --cost"),
    (["features", "-o", "x.codebook.npz", "--balanced"], 2, "Unknown option: --balanced"),
    (["none.npz", "-o", "x.codebook.npz"], 1, r"none\.npz does not exist\."),
    (["features", "-o", "features/c.avi.npz/x.codebook.npz"], 1, "c.avi.npz/x.codebook.npz cannot be written"),
    (["features"], 2, "--output")])
def test_fit_refuses_in_one_line(folder, capsys, arguments, code, message):
    before = files(".")
    assert main(["fit", *arguments, *([] if "--words" in arguments or "--encoder" in arguments else SMALL)]) == code
    err = capsys.readouterr().err
    assert re.match(f"idt: .*{message}", err)
    assert err.count("\n") == 1
    assert files(".") == before


LEARNING = ("Videos that are extracted, channels that are learnt and clips that are encoded at a time [default: all "
            "cores].")


@pytest.mark.parametrize(("command", "told"), [
    ("train", LEARNING), ("evaluate", LEARNING), ("view", "Threads [default: all cores]."),
    ("fit", "Channels that are learnt at a time [default: all cores]."),
    ("encode", "Channels of one video that are encoded at a time [default: what --jobs leaves of the cores].")])
def test_what_threads_are_is_told_by_each_command(capsys, monkeypatch, command, told):
    monkeypatch.setenv("COLUMNS", "300")
    assert main([command, "--help"]) == 0
    assert told in capsys.readouterr().out
    assert main([command, "x", "-o", "y", "--threads", "0", *(["--codebook", "z"] if command == "encode" else [])]) == 2
    assert "threads is 0: it must be at least 1." in capsys.readouterr().err


def test_fit_names_the_file_that_lacks_or_spoils_a_channel(folder, capsys):
    keyed(7, mbhx=None).save("features/d.npz")
    assert main(["fit", "features", "-o", "x.codebook.npz", *SMALL]) == 2
    assert "idt: features/d.npz: its features have no mbhx: extract with it" in capsys.readouterr().err
    bad = keyed(7)
    bad.mbhx[11] = np.inf
    bad.save("features/d.npz")
    assert main(["fit", "features", "-o", "x.codebook.npz", *SMALL]) == 2
    assert "idt: mbhx of features/d.npz has a number that is NaN, infinite or beyond float32 in row 11: leave" in \
        capsys.readouterr().err
    keyed(7, hog=np.zeros((60, 95), np.float16)).save("features/d.npz")
    assert main(["fit", "features", "-o", "x.codebook.npz", *SMALL]) == 2
    assert "idt: hog of features/d.npz has 95 columns: 96 are needed" in capsys.readouterr().err
    assert not Path("x.codebook.npz").exists()


def test_features_of_a_codebook_that_were_extracted_in_different_ways_are_told_once(folder, capsys):
    write_text(keyed(1), "a.txt")
    for seed, params in enumerate((Params(start=2, dtype="float32"), Params(end=20), Params(stride=8),
                                   Params(length=10))):
        keyed(seed, meta={**keyed(1).meta, "params": params.to_dict()}).save(f"other/{seed}.npz")
    assert main(["fit", "a.txt", "other/0.npz", "other/1.npz", "-o", "x.codebook.npz", *SMALL]) == 0
    assert "warning" not in capsys.readouterr().err
    arguments = ["fit", "a.txt", "other", "-o", "x.codebook.npz", *SMALL]
    assert main(arguments) == 0
    assert [line for line in capsys.readouterr().err.splitlines() if line.startswith("idt: ")] == [
        "idt: warning: other/2.npz was extracted with other parameters than other/0.npz (stride 8 instead of 5): such "
        "descriptors do not compare well."]
    assert main([*arguments, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


# idt encode


def test_encode_writes_the_vectors_of_each_video(codebook, capsys):
    assert main(["encode", "features", "--codebook", "x.codebook.npz", "-o", "out"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert files("out") == ["c.avi.npz", "walk/a.avi.npz", "walk/b.avi.npz"]
    size = sum(os.path.getsize(f"out/{name}") for name in files("out"))
    assert sorted(re.sub(r"in [0-9.]+ s( \([0-9.]+)?", "in T s", line) for line in err.splitlines()) == [
        f"3 done; the files are in out (180 trajectories, {size / 1000:.3g} KB in T s)",
        *(f"features/{name}.avi.npz: 60 trajectories in T s trajectories/s)" for name in ("c", "walk/a", "walk/b"))]
    found, expected = Vectors.load("out/walk/b.avi.npz"), encode(keyed(1), Codebook.load(codebook))
    for name in ("hog", "mbhx"):
        np.testing.assert_array_equal(found.channels[name], expected.channels[name])
    assert found.meta["features"] == f"{1:064d}"


def test_encode_windows(codebook, capsys):
    keyed(3, rows=2).save("features/d.npz")
    assert main(["encode", "features/d.npz", "features/c.avi.npz", "--codebook", "x.codebook.npz", "-o", "out",
                 "--window", "10", "--stride", "5"]) == 0
    err = capsys.readouterr().err
    assert re.search(r"^features/c\.avi\.npz: 60 trajectories, 7 windows( \([12] without any\))? in ", err, re.M)
    found = Vectors.load("out/d.npz")
    empty = int((found.count == 0).sum())
    assert re.search(rf"^features/d\.npz: 2 trajectories, 7 windows \({empty} without any\) in ", err, re.M)
    assert (found.meta["window"], found.meta["stride"]) == (10, 5)
    assert found.start.tolist() == [0, 5, 10, 15, 20, 25, 30]
    assert main(["encode", "features/c.avi.npz", "--codebook", "x.codebook.npz", "-o", "out", "--window", "10"]) == 0
    assert Vectors.load("out/c.avi.npz").start.tolist() == [0, 10, 20, 30]


def test_the_bytes_do_not_depend_on_threads_or_place(codebook, capsys):
    assert main(["encode", "features", "--codebook", "x.codebook.npz", "-o", "out", "--threads", "1", "--quiet"]) == 0
    os.rename("features", "moved")
    Path("book").mkdir()
    os.rename("x.codebook.npz", "book/renamed.npz")
    assert main(["encode", "moved", "--codebook", "book/renamed.npz", "-o", "again", "--threads", "3", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    for name in files("out"):
        assert Path("out", name).read_bytes() == Path("again", name).read_bytes()


def test_what_is_done_is_skipped_and_what_has_changed_is_done_again(codebook, capsys):
    def run(*more):
        before = stamps("out") if Path("out").exists() else {}
        assert main(["encode", "features", "--codebook", "x.codebook.npz", "-o", "out", *more]) == 0
        after = stamps("out")
        return [name for name in files("out") if before.get(name) != after[name]], capsys.readouterr().err

    everything = ["c.avi.npz", "walk/a.avi.npz", "walk/b.avi.npz"]
    assert run()[0] == everything
    assert run() == ([], "0 done, 3 skipped (done before); the files are in out\n")
    assert run("--force")[0] == everything
    assert run("--window", "20")[0] == everything
    assert run("--window", "20", "--stride", "20")[0] == []
    assert run("--window", "20", "--stride", "10")[0] == everything
    assert run()[0] == everything
    keyed(8).save("features/walk/a.avi.npz")
    assert run()[0] == ["walk/a.avi.npz"]
    Path("out/c.avi.npz").write_bytes(Path("out/c.avi.npz").read_bytes()[:-30])
    assert run()[0] == ["c.avi.npz"]
    fit_codebook("features", "x.codebook.npz", PARAMS)  # of other features
    assert run()[0] == everything
    assert run()[0] == []


def test_a_list_from_a_pipe_is_read_once(codebook, capsys):
    for lines, code, message in (("features/walk\nfeatures/c.avi.npz\n", 0, ""),
                                 ("\n", 2, "idt: @/dev/fd/{} names no features file.\n")):
        reader, writer = os.pipe()
        with open(writer, "w") as file:
            file.write(lines)
        assert main(["encode", f"@/dev/fd/{reader}", "--codebook", "x.codebook.npz", "-o", "out", "--quiet"]) == code
        assert capsys.readouterr().err == message.format(reader)
        os.close(reader)
    assert files("out") == ["a.avi.npz", "b.avi.npz", "c.avi.npz"]


def test_features_without_a_key_count_by_their_content(codebook, capsys):
    write_text(keyed(4), "t.txt")
    arguments = ["encode", "t.txt", "--codebook", "x.codebook.npz", "-o", "out"]
    assert main(arguments) == main(arguments) == 0
    assert files("out") == ["t.txt.npz"]
    assert capsys.readouterr().err.endswith("0 done, 1 skipped (done before); the files are in out\n")
    write_text(keyed(5), "t.txt")
    assert main(arguments) == 0
    assert capsys.readouterr().err.splitlines()[-1].startswith("1 done; the files are in out (60 trajectories, ")


def test_a_video_without_trajectories_has_zero_vectors_and_is_counted(codebook, capsys):
    keyed(6, rows=0).save("features/still.npz")
    assert main(["encode", "features", "--codebook", "x.codebook.npz", "-o", "out"]) == 0
    err = capsys.readouterr().err
    assert "features/still.npz: 0 trajectories (it is still), zero vectors in " in err
    assert re.search(r"\n4 done; the files are in out \(.*\)\n1 video without a trajectory: zero vectors\n$", err)
    arguments = ["encode", "features/still.npz", "--codebook", "x.codebook.npz", "-o", "out", "--force", "--quiet"]
    assert main(arguments) == 0
    assert capsys.readouterr() == ("", "")
    found = Vectors.load("out/still.npz")
    assert (found.count.tolist(), found.meta["rows"], found.meta["reason"]) == ([0], 0, "it is still")
    assert found.channels["hog"].shape == (1, 288)
    assert not found.channels["hog"].any()


def test_files_that_fail_are_reported_and_passed_over(codebook, capsys):
    bad = keyed(10)
    bad.hog[17, 3] = np.nan
    bad.save("features/nan.npz")
    keyed(11, hog=np.ones((60, 95), np.float16)).save("features/narrow.npz")
    keyed(12, mbhx=None).save("features/no_mbhx.npz")
    Path("features/cut.npz").write_bytes(Path("features/c.avi.npz").read_bytes()[:5000])
    encode_videos("features/c.avi.npz", "features/v", "x.codebook.npz")
    assert main(["encode", "features", "gone.npz", "--codebook", "x.codebook.npz", "-o", "out", "--jobs", "1"]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("idt: ")]
    assert len(lines) == 6
    for line, pattern in zip(lines, (
            r"features/cut\.npz is damaged or incomplete",
            r"hog of features/nan\.npz has a number that is NaN, infinite or beyond float32 in row 17: leave",
            r"hog of features/narrow\.npz has 95 columns: 96 are needed, as many as were learnt from\.$",
            r"features/no_mbhx\.npz: its features have no mbhx: extract with it",
            r"features/v/c\.avi\.npz is a file of kind 'vectors': expected is a features file\.$",
            r"gone\.npz does not exist\.$"), strict=True):
        assert re.match(f"idt: {pattern}", line)
    assert files("out") == ["c.avi.npz", "walk/a.avi.npz", "walk/b.avi.npz"]


def test_features_are_never_replaced(codebook, capsys):
    before = stamps("features")
    for output in ("features", "./features/../features"):
        assert main(["encode", "features", "--codebook", "x.codebook.npz", "-o", output]) == 2
        assert capsys.readouterr().err == ("idt: features/c.avi.npz would be replaced by what is made of "
                                           "features/c.avi.npz: choose another output folder.\n")
    keyed(13).save("other/a.avi.npz")
    assert main(["encode", "other", "--codebook", "x.codebook.npz", "-o", "features/walk", "--force"]) == 1
    assert capsys.readouterr().err == ("idt: features/walk/a.avi.npz holds features, which vectors must not replace: "
                                       "choose another output folder.\n")
    Path("book").mkdir()
    before_book = Path("book/a.avi.npz").write_bytes(codebook.read_bytes())
    assert main(["encode", "other", "--codebook", "x.codebook.npz", "-o", "book"]) == 1
    assert capsys.readouterr().err == ("idt: book/a.avi.npz holds a codebook, which vectors must not replace: choose "
                                       "another output folder.\n")
    assert Path("book/a.avi.npz").stat().st_size == before_book
    Path("link").symlink_to("features")
    assert main(["encode", "features", "--codebook", "x.codebook.npz", "-o", "link"]) == 2
    assert stamps("features") == before


@pytest.mark.parametrize(("arguments", "code", "message"), [
    (["features", "--codebook", "x.codebook.npz", "-o", "out", "--stride", "5"], 2,
     r"stride is 5, but there is no window: give the frames of a window, too\."),
    (["features", "--codebook", "x.codebook.npz", "-o", "out", "--window", "0"], 2,
     r"window is 0: it must be an integer from 1\."),
    (["features", "--codebook", "none.npz", "-o", "out"], 1, r"none\.npz: not a codebook that can be read"),
    (["features", "--codebook", "features/c.avi.npz", "-o", "out"], 1,
     r"features/c\.avi\.npz: not a codebook but features; give a file that idt fit wrote\."),
    (["features", "--codebook", "cut.npz", "-o", "out"], 1, r"cut\.npz: not a codebook that can be read"),
    (["features", "--codebook", "later.npz", "-o", "out"], 1,
     r"later\.npz: a codebook of format 2; this version reads format 1\."),
    (["features", "--codebook", "wrong.npz", "-o", "out"], 1, r"wrong\.npz: the codebook does not fit together"),
    (["features", "--codebook", "x.codebook.npz", "-o", "out.npz"], 2,
     r"output is out\.npz: give a folder; what goes into it is named after the features\."),
    (["features", "--codebook", "x.codebook.npz", "-o", "x.codebook.npz/out"], 1, "cannot be written"),
    (["features/walk/a.avi.npz", "copy/a.avi.npz", "--codebook", "x.codebook.npz", "-o", "out"], 2,
     r"features/walk/a\.avi\.npz and copy/a\.avi\.npz would both be written to out/a\.avi\.npz: give the folder"),
    (["features", "--codebook", "x.codebook.npz"], 2, "--output"), (["features", "-o", "out"], 2, "--codebook")])
def test_encode_refuses_before_any_work(codebook, capsys, arguments, code, message):
    Path("cut.npz").write_bytes(codebook.read_bytes()[:2000])
    for name, change in (("later.npz", lambda meta: meta.update(format=2)),
                         ("wrong.npz", lambda meta: meta["channels"]["hog"].update(width=90))):
        with np.load(codebook) as file:
            parts = dict(file)
        meta = json.loads(str(parts["meta"]))
        change(meta)
        np.savez(name, **{**parts, "meta": np.array(json.dumps(meta))})
    before = files(".")
    assert main(["encode", *arguments]) == code
    err = capsys.readouterr().err
    assert re.match(f"idt: .*{message}", err)
    assert err.count("\n") == 1
    assert files(".") == before


def test_features_extracted_in_another_way_are_told_once(codebook, capsys):
    meta = keyed(1).meta
    for seed, params in enumerate((Params(start=2, end=20, dtype="float32"), Params(stride=8, camera=False),
                                   Params(length=10))):
        keyed(seed, meta={**meta, "key": str(seed), "params": params.to_dict()}).save(f"other/{seed}.npz")
    arguments = ["encode", "other", "--codebook", "x.codebook.npz", "-o", "out", "--jobs", "1"]
    assert main(arguments) == 0
    assert [line for line in capsys.readouterr().err.splitlines() if line.startswith("idt: ")] == [
        "idt: warning: other/1.npz was extracted with other parameters than the videos that x.codebook.npz was learnt "
        "from (stride 8 instead of 5, camera False instead of True): such vectors do not compare well."]
    assert main([*arguments, "--force", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_the_library_does_what_the_command_does(codebook):
    states, seen = [], []

    def report(outcome):
        states.append(outcome.state)
        seen.append(outcome)

    summary = encode_videos(["features/walk"], "out", codebook, window=20, report=report,
                            progress=lambda p: states.append((p.number, p.videos, p.done)))
    assert states == [(1, 2, 0), (1, 2, 60), "done", (2, 2, 0), (2, 2, 60), "done"]
    assert [outcome.job.output for outcome in seen] == [Path("out/a.avi.npz"), Path("out/b.avi.npz")]
    assert [outcome.meta["windows"] for outcome in seen] == [2, 2]
    assert (summary.done, summary.rows, summary.bytes) == (
        2, sum(outcome.meta["rows"] for outcome in seen), sum(os.path.getsize(outcome.job.output) for outcome in seen))
    assert encode_videos("features/walk", "out", codebook, window=20).skipped == 2


@pytest.mark.parametrize("arguments", [["fit", "features", "-o", "out/y.codebook.npz", *SMALL],
                                       ["encode", "features/c.avi.npz", "--codebook", "x.codebook.npz", "-o", "out",
                                        "--window", "1"]])
def test_a_full_disk_leaves_nothing(codebook, arguments):
    result = run_limited("import sys; from idt.cli import main; sys.exit(main(sys.argv[1:]))", *arguments, limit=20_000)
    assert result.returncode == 1
    assert re.fullmatch(r"idt: out/[a-z.]+\.npz cannot be written: File too large\.", result.stderr.splitlines()[-1])
    assert files("out") == []


# idt info


def test_info_on_a_codebook(codebook, capsys):
    assert main(["info", "x.codebook.npz"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("codebook     x.codebook.npz, ")
    assert lines[1:] == [
        "learnt from  3 videos, 180 descriptors of each channel",
        "encoding     channels hog,mbhx, words 3, samples 300",
        "extraction   standard",
        "hog          96 numbers, 48 after PCA; Fisher vectors of 3 Gaussians, 288 values",
        "mbhx         96 numbers, 48 after PCA; Fisher vectors of 3 Gaussians, 288 values"]


def test_info_on_a_model(codebook, capsys):
    found = Codebook.load(codebook)
    rows = np.random.default_rng(0).normal(size=(6, 576)).astype(np.float32)
    machine = LinearSVM().fit(rows, np.array(["run", "walk", "bend"] * 2))
    with open("y.model.npz", "wb") as file:
        Model(found, machine, {}).save(file)
    assert main(["info", "y.model.npz"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("model        y.model.npz, ")
    assert lines[1:3] == ["labels       3: bend, run, walk", "learnt from  3 videos, 180 descriptors of each channel"]
    assert lines[-1] == "mbhx         96 numbers, 48 after PCA; Fisher vectors of 3 Gaussians, 288 values"


def test_info_on_vectors(codebook, capsys):
    keyed(6, rows=0).save("features/still.npz")
    encode_videos("features", "out", codebook, window=10, stride=5)
    assert main(["info", "out/still.npz"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("vectors       out/still.npz, ")
    assert lines[1:4] == ["video         Übung \\udcff.avi",
                          "windows       7, 10 frames each, one every 5 frames; 7 without trajectories",
                          "trajectories  0: it is still"]
    assert lines[4].startswith("made by       densetraj ")
    assert lines[5:] == ["hog           float32 (7, 288)", "mbhx          float32 (7, 288)"]
    encode_videos("features/c.avi.npz", "whole", codebook)
    assert main(["info", "whole/c.avi.npz"]) == 0
    assert "windows       1, the whole video" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("name", ["x.codebook.npz", "out/c.avi.npz"])
def test_info_on_damaged_files(codebook, name, capsys):
    encode_videos("features/c.avi.npz", "out", codebook)
    Path(name).write_bytes(Path(name).read_bytes()[:3000])
    assert main(["info", name]) == 1
    assert re.fullmatch(rf"idt: {re.escape(name)} .*\n", capsys.readouterr().err)
