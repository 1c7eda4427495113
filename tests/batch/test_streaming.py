"""Runs that keep less than the features: vectors alone, or a sample; and what is damaged and made again."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import write_clip
from random_features import random_features, same

import idt.batch
from idt.batch import encode_videos, extract_videos, fit_codebook, flow_videos, predict_videos
from idt.cli import main
from idt.encoding import LinearSVM
from idt.encoding.model import Codebook, Model
from idt.errors import FormatError, ParameterError, VideoError
from idt.features.export import export
from idt.features.record import Features
from idt.features.text import write_text
from idt.params import Params
from idt.recognition.clip_features import features_of, load_features
from idt.recognition.datasets import read_dataset
from idt.recognition.vectors import EncodingParams, Vectors
from idt.runner.jobs import Workers
from idt.runner.log import NAME
from idt.video_flow.params import FlowParams
from synthetic import moving_square, pan

pytestmark = pytest.mark.usefixtures("one_core")

QUICK = Params(length=5, camera=False)
SMALL = EncodingParams(channels=("trajectory", "hog"), words=2, samples=200, pyramid=("1x1x1", "1x1x2"))


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A folder with videos/a.avi and videos/sub/still.avi, their features of two kinds, and a codebook of the first."""
    folder = tmp_path_factory.mktemp("streaming")
    write_clip(folder / "videos" / "a.avi", moving_square((3.0, 1.0), frames=12).frames)
    write_clip(folder / "videos" / "sub" / "still.avi", pan((0.0, 0.0), frames=12).frames)
    extract_videos(folder / "videos", folder / "features", QUICK)
    fit_codebook(folder / "features", folder / "x.codebook.npz", SMALL)
    return folder


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    """A new working folder in which what was made lies; out/ is free."""
    for path in made.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(function, *arguments, **options):
    """Return the states of the videos, in order, and the reasons of those that failed."""
    outcomes = []
    function(*arguments, report=outcomes.append, **options)
    return [outcome.state for outcome in outcomes], [outcome.reason for outcome in outcomes if outcome.error]


def vectors(output: str = "out", **options) -> list[str]:
    states, reasons = run(extract_videos, "videos", output, options.pop("params", QUICK), encode="x.codebook.npz",
                          **options)
    assert not reasons
    return states


def files(path: str | Path) -> list[str]:
    """All files and folders below a folder but reports, hidden ones too."""
    return sorted(p.relative_to(path).as_posix() for p in Path(path).rglob("*") if p.suffix != ".jsonl")


# Vectors alone


def test_vectors_are_those_of_the_features_byte_for_byte(folder):
    assert vectors() == ["done", "done"]
    assert files("out") == ["a.avi.npz", "sub", "sub/still.avi.npz"]
    encode_videos("features", "expected", "x.codebook.npz")
    for name in ("a.avi.npz", "sub/still.avi.npz"):
        assert Path("out", name).read_bytes() == Path("expected", name).read_bytes()
    found = Vectors.load("out/a.avi.npz")
    assert found.meta["rows"] > 50
    assert found.channels["hog"].any()
    assert Vectors.load("out/sub/still.avi.npz").meta["rows"] == 0
    # Either finds done what the other has made.
    assert vectors("expected") == ["skipped", "skipped"]
    assert run(encode_videos, "features", "out", "x.codebook.npz") == (["skipped", "skipped"], [])


def test_vectors_are_the_same_from_several_processes_and_threads(folder):
    vectors()
    assert vectors("again", workers=Workers(jobs=2), threads=2) == ["done", "done"]
    for name in ("a.avi.npz", "sub/still.avi.npz"):
        assert Path("out", name).read_bytes() == Path("again", name).read_bytes()


def test_vectors_are_made_again_when_anything_differs(folder):
    def times() -> list[str]:
        return vectors(params=params, **options)

    params, options = QUICK, {}
    assert times() == ["done", "done"]
    assert times() == ["skipped", "skipped"]
    Path("copy").mkdir()
    for name in ("a.avi", "sub/still.avi"):
        copy = Path("copy", name)
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(Path("videos", name).read_bytes())
    Path("videos").unlink()
    Path("copy").rename("videos")
    assert times() == ["skipped", "skipped"]  # of the same content
    options = {"verify": True}
    assert times() == ["skipped", "skipped"]
    stamp = os.stat("videos/a.avi")
    content = bytearray(Path("videos/a.avi").read_bytes())
    content[-1] ^= 1
    Path("videos/a.avi").write_bytes(content)
    assert times() == ["done", "skipped"]
    content[-1] ^= 1
    Path("videos/a.avi").write_bytes(content)
    os.utime("videos/a.avi", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert times() == ["done", "skipped"]
    content[-1] ^= 1
    Path("videos/a.avi").write_bytes(content)
    os.utime("videos/a.avi", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    options = {}
    assert times() == ["skipped", "skipped"]  # of the same size and time
    options = {"verify": True}
    assert times() == ["done", "skipped"]
    options = {"force": True}
    assert times() == ["done", "done"]
    options = {}
    Path("out/a.avi.npz").write_bytes(Path("out/a.avi.npz").read_bytes()[:-30])
    assert times() == ["done", "skipped"]
    params = Params(length=5, camera=False, end=10)
    assert times() == ["done", "done"]
    boxes = "\n".join(f"{n}" for n in range(12))
    for name in ("a.avi.txt", "sub/still.avi.txt"):
        Path("boxes", name).parent.mkdir(parents=True, exist_ok=True)
        Path("boxes", name).write_text(boxes)
    params, options = Params(length=5), {"boxes": "boxes"}
    assert times() == ["done", "done"]
    assert times() == ["skipped", "skipped"]
    options = {}
    assert times() == ["done", "done"]
    Path("x.codebook.npz").unlink()
    fit_codebook("features", "x.codebook.npz", EncodingParams(channels=("hog",), words=3, samples=200))
    assert times() == ["done", "done"]
    encode_videos("features/a.avi.npz", "out", "x.codebook.npz", window=5)
    assert times() == ["done", "skipped"]


def test_other_parameters_than_those_of_the_codebook_are_told_once(folder, caplog):
    with caplog.at_level(logging.WARNING, "idt"):
        vectors(params=Params(length=5, camera=False, stride=8, start=1))
    assert [record.getMessage() for record in caplog.records] == [
        "The videos are extracted with other parameters than the videos that x.codebook.npz was learnt from (stride 8 "
        "instead of 5): such vectors do not compare well."]
    caplog.clear()
    assert vectors(params=Params(length=5, camera=False, stride=8, start=1)) == ["skipped", "skipped"]
    vectors("again")
    assert len(caplog.records) == 1


def test_what_cannot_be_encoded_is_refused_before_any_work(folder):
    for options, params, message in (
            ({"text": True}, QUICK, r"^text and encode are given, but are different outputs: leave one of them out\.$"),
            ({"keep": 5}, QUICK, "^encode and keep are given, but"),
            ({}, Params(length=5, descriptors=("trajectory", "mbhx")),
             r"^descriptors is trajectory, mbhx, but x\.codebook\.npz encodes hog, too: extract with it, or give"),
            ({}, Params(length=6), r"^x\.codebook\.npz was learnt from trajectory of 10 numbers, but there will be 12: "
                                   r"extract with the parameters that it was learnt with \(idt info x\.codebook\.npz"),
            ({}, Params(length=5, spatial_cells=3), r"was learnt from hog of 96 numbers, but there will be 216: ")):
        with pytest.raises(ParameterError, match=message):
            extract_videos("videos", "out", params, encode="x.codebook.npz", **options)
    with pytest.raises(FormatError, match=r"^features/a\.avi\.npz: not a codebook but features; give a file that"):
        extract_videos("videos", "out", QUICK, encode="features/a.avi.npz")
    assert not Path("out").exists()
    assert vectors(params=Params(length=5, camera=False, descriptors=("trajectory", "hog"))) == ["done", "done"]


def test_vectors_replace_nothing_but_vectors(folder):
    extract_videos("videos/a.avi", "out", QUICK)
    before = Path("out/a.avi.npz").read_bytes()
    assert run(extract_videos, "videos/a.avi", "out", QUICK, encode="x.codebook.npz", force=True) == (["failed"], [
        "out/a.avi.npz holds features, which vectors must not replace: choose another output folder."])
    assert Path("out/a.avi.npz").read_bytes() == before
    assert files("out") == ["a.avi.npz"]


def test_flow_does_not_replace_exported_features(folder):
    h5py = pytest.importorskip("h5py")
    params = FlowParams(method="farneback", format="h5", end=3)
    Path("out").mkdir()
    export("features/a.avi.npz", "out/a.avi.h5", to="h5")
    before = Path("out/a.avi.h5").read_bytes()
    assert run(flow_videos, "videos/a.avi", "out", params, force=True) == (["failed"], [
        "out/a.avi.h5 holds features, which flow must not replace: choose another output folder."])
    assert Path("out/a.avi.h5").read_bytes() == before
    for meta, kind in ((None, "something else"), ("[1]", "something else"), ('{"kind": "model"}', "a model")):
        with h5py.File("out/a.avi.h5", "w") as file:
            if meta is not None:
                file.attrs["meta"] = meta
        assert run(flow_videos, "videos/a.avi", "out", params)[1] == [
            f"out/a.avi.h5 holds {kind}, which flow must not replace: choose another output folder."]
    for content in (before[:100], b"\x89HDF\r\n\x1a\n"):  # damaged
        Path("out/a.avi.h5").write_bytes(content)
        assert run(flow_videos, "videos/a.avi", "out", params) == (["done"], [])
    assert run(flow_videos, "videos/a.avi", "out", params, force=True) == (["done"], [])


def test_nothing_remains_of_the_features_of_a_video_that_fails(folder, monkeypatch):
    seen = []

    def fail(video, output, *arguments, **options):
        seen.extend(os.listdir("out"))
        assert len(video) > 50
        raise VideoError(f"{video.path}: no.")

    monkeypatch.setattr(idt.batch.extraction, "write_vectors", fail)
    assert run(extract_videos, "videos/a.avi", "out", QUICK, encode="x.codebook.npz") == (
        ["failed"], ["videos/a.avi: no."])
    assert [name for name in seen if re.fullmatch(r"\.idt-[0-9a-f]{16}\.tmp", name)]
    assert files("out") == []


@pytest.mark.parametrize("kept", [{"encode": "x.codebook.npz"}, {"text": True}, {"keep": 40}],
                         ids=["vectors", "text", "sample"])
@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="the system does not tell what is mapped")
def test_the_file_of_the_features_is_let_go_before_its_folder_is_removed(folder, monkeypatch, kept):
    """On a network file system a file that is held stays, and its folder with it."""
    held = []
    real = shutil.rmtree

    def rmtree(path, **options):
        assert os.listdir(path) == ["features.npz"]
        held.append(f"{os.path.realpath(path)}/features.npz" in Path("/proc/self/maps").read_text())
        real(path, **options)

    monkeypatch.setattr(shutil, "rmtree", rmtree)
    assert run(extract_videos, "videos/a.avi", "out", QUICK, threads=2, **kept) == (["done"], [])
    assert held == [False]


@pytest.mark.parametrize("kept", [{"encode": "x.codebook.npz"}, {"text": True}], ids=["vectors", "text"])
def test_what_a_killed_run_leaves_is_removed_by_the_next(folder, kept):
    code = f"""
import time, idt.batch.extraction
from idt.params import Params
from synthetic import pan

real = idt.batch.extraction.extract_job
def extract(job, *arguments, **options):
    real(job, *arguments, **options)
    print("made", flush=True)
    time.sleep(10000)
idt.batch.extraction.extract_job = extract
idt.batch.extract_videos("videos/a.avi", "out", Params(length=5, camera=False), **{kept!r})
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=folder,
                          env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}) as child:
        assert child.stdout.readline() == b"made\n"
        left = [name for name in files("out") if name.endswith("features.npz")]
        assert len(left) == 1
        extract_videos("videos/sub", "out", QUICK, **kept)  # a run beside it leaves its folder alone
        assert left[0] in files("out")
        child.send_signal(signal.SIGKILL)
    name = "a.avi.txt" if "text" in kept else "a.avi.npz"
    assert run(extract_videos, "videos/a.avi", "out", QUICK, **kept) == (["done"], [])
    assert files("out") == sorted([name, name.replace("a.", "still.")])


def test_the_command_encodes(folder, capsys):
    arguments = ["extract", "videos", "-o", "out", "--encode", "x.codebook.npz", "--length", "5", "--no-camera"]
    assert main(arguments) == 0
    err = capsys.readouterr().err
    assert re.search(r"^videos/a\.avi: [0-9]+ trajectories, 12 frames in ", err, re.M)
    assert re.search(r"^videos/sub/still\.avi: 0 trajectories \(still: .*; zero vectors\), 12 frames in ", err, re.M)
    assert main(arguments) == 0
    assert "2 skipped" in capsys.readouterr().err
    lines = [json.loads(line) for line in Path("out", NAME).read_text().splitlines()]
    (line,) = [line for line in lines if line.get("video") == "videos/a.avi"]
    assert (line["rows"], line["frames"]) == (Vectors.load("out/a.avi.npz").meta["rows"], 12)
    assert line["bytes"] == Path("out/a.avi.npz").stat().st_size
    for more in (["--text"], ["--keep", "5"], ["--text", "-o", "-"], ["-o", "-"]):
        assert main(["extract", "videos/a.avi", "-o", "new", "--encode", "x.codebook.npz", *more]) == 2
        assert re.fullmatch(r"idt: .*\n", capsys.readouterr().err)
    assert not Path("new").exists()


# A sample


def kept(count: int, output: str = "out", **options) -> list[str]:
    states, reasons = run(extract_videos, "videos", output, QUICK, keep=count, **options)
    assert not reasons
    return states


def test_a_sample_is_rows_of_the_features_in_their_order(folder, monkeypatch):
    monkeypatch.setattr(idt.batch.extraction, "_BLOCK", 16)  # so that there are several
    assert kept(40) == ["done", "done"]
    assert files("out") == ["a.avi.npz", "sub", "sub/still.avi.npz"]
    whole, sample = Features.load("features/a.avi.npz"), Features.load("out/a.avi.npz")
    assert (len(sample), sample.meta["rows"]) == (40, 40)
    place = {row.tobytes(): n for n, row in enumerate(whole.points)}
    assert len(place) == len(whole) > 100
    drawn = [place[row.tobytes()] for row in sample.points]
    assert drawn == sorted(set(drawn))
    assert drawn[0] < len(whole) // 4
    assert drawn[-1] > len(whole) * 3 // 4
    same(sample, whole[drawn])
    np.testing.assert_array_equal(sample.homographies, whole.homographies)
    assert len(sample.homographies) == 12
    changed = {"rows", "inputs", "kept", "key"}
    assert {k: v for k, v in sample.meta.items() if k not in changed} == {
        k: v for k, v in whole.meta.items() if k not in changed}
    assert sample.meta["kept"] == {"rows": 40, "of": len(whole)}
    assert sample.meta["inputs"] == {"homographies": None, "boxes": None, "keep": 40}
    empty = Features.load("out/sub/still.avi.npz")
    assert (len(empty), empty.meta["kept"], len(empty.homographies)) == (0, {"rows": 40, "of": 0}, 12)
    assert empty.meta["reason"].startswith("still: ")
    # The same bytes anywhere, and all rows where there are no more.
    kept(40, "again", threads=2)
    for name in ("a.avi.npz", "sub/still.avi.npz"):
        assert Path("out", name).read_bytes() == Path("again", name).read_bytes()
    for count in (len(whole), 10**6):
        kept(count, "all")
        same(Features.load("all/a.avi.npz"), whole[:])


def test_videos_of_as_many_rows_keep_different_ones(folder):
    copy = bytearray(Path("videos/a.avi").read_bytes())
    copy[-1] ^= 1
    Path("copy.avi").write_bytes(copy)
    for name in ("videos/a.avi", "copy.avi"):
        extract_videos(name, "out", QUICK, keep=40)
    one, other = (Features.load(f"out/{name}.npz") for name in ("a.avi", "copy.avi"))
    assert one.meta["kept"] == other.meta["kept"]
    assert one.points.tolist() != other.points.tolist()


def test_a_sample_is_not_taken_for_features_nor_for_another(folder):
    assert kept(40) == ["done", "done"]
    assert kept(40, verify=True) == ["skipped", "skipped"]
    assert kept(41) == ["done", "done"]
    assert run(extract_videos, "videos", "out", QUICK) == (["done", "done"], [])
    assert len(Features.load("out/a.avi.npz")) > 100
    assert run(extract_videos, "videos", "out", QUICK) == (["skipped", "skipped"], [])
    assert kept(41, workers=Workers(timeout=600)) == ["done", "done"]
    assert kept(41) == ["skipped", "skipped"]
    assert kept(41, force=True) == ["done", "done"]
    for count in (0, True, 2.5):
        with pytest.raises(ParameterError, match=rf"^keep is {count}: it must be an integer from 1\.$"):
            kept(count)
    with pytest.raises(ParameterError, match=r"^text and keep are given, but are different outputs"):
        kept(5, text=True)


def test_a_codebook_is_learnt_from_samples_and_nothing_else_is_made_of_them(folder):
    kept(40)
    learnt = fit_codebook("out", "y.codebook.npz", EncodingParams(channels=("hog",), words=2, samples=200, pca=0.2))
    assert learnt.meta["descriptors"] == 40
    reason = ("{} is a sample of the trajectories of its video, from which a codebook can be learnt, but which does "
              "not stand for the video: extract it without keep.")
    assert run(encode_videos, "out", "vectors", "x.codebook.npz") == (["failed", "failed"], [
        reason.format("out/a.avi.npz"), reason.format("out/sub/still.avi.npz")])
    assert files("vectors") == []
    Path("labels.csv").write_text("path,label\nvideos/a.avi,run\nvideos/sub/still.avi,stand\n")
    dataset = read_dataset("labels.csv")
    Path("set/videos").parent.mkdir()
    Path("out").rename("set/videos")
    for read in (features_of, load_features):
        with pytest.raises(ParameterError, match=f"^{re.escape(reason.format('set/videos/a.avi.npz'))}$"):
            read(dataset, "set")


def test_samples_do_not_label_videos(folder):
    codebook = Codebook.load("x.codebook.npz")
    size = sum(channel.size for channel in codebook.channels.values())
    rows = np.random.default_rng(0).normal(size=(4, size)).astype(np.float32)
    model = Model(codebook, LinearSVM().fit(rows, np.array(["run", "walk"] * 2)), {})
    kept(40)
    states, reasons = run(predict_videos, "videos", model, features="out")
    assert states == ["failed", "failed"]
    assert reasons[0].startswith("out/a.avi.npz is a sample of the trajectories of its video, ")


def test_the_command_keeps_a_sample(folder, capsys):
    arguments = ["extract", "videos", "-o", "out", "--keep", "40", "--length", "5", "--no-camera"]
    assert main(arguments) == 0
    of = Features.load("out/a.avi.npz").meta["kept"]["of"]
    err = capsys.readouterr().err
    assert f"videos/a.avi: 40 trajectories (of {of}), 12 frames in " in err
    assert "videos/sub/still.avi: 0 trajectories (still: no track" in err
    assert main(["info", "out/a.avi.npz"]) == 0
    out = capsys.readouterr().out
    assert re.search(rf"^trajectories  40\nsample        of {of} trajectories, --keep 40\n", out, re.M)
    assert main([*arguments, "--text"]) == 2
    message = "idt: text and keep are given, but are different outputs: leave one of them out.\n"
    assert capsys.readouterr().err == message
    assert main(["extract", "videos/a.avi", "--text", "--keep", "5", "-o", "-"]) == 2
    assert main(["extract", "videos", "-o", "out", "--keep", "0"]) == 2


# Damaged outputs


def cut(path: str) -> None:
    """Lose the end of a file, as a power failure does."""
    Path(path).write_bytes(Path(path).read_bytes()[:-30])


def flip(path: str, place: float = 0.6) -> None:
    """Change one bit in the numbers of a file."""
    content = bytearray(Path(path).read_bytes())
    content[int(len(content) * place)] ^= 4
    Path(path).write_bytes(content)


def test_damaged_features_are_found_and_made_again(folder):
    def times(**options) -> list[str]:
        return run(extract_videos, "videos/a.avi", "out", QUICK, **options)[0]

    assert times() == ["done"]
    sound = Path("out/a.avi.npz").read_bytes()
    cut("out/a.avi.npz")
    assert times() == ["done"]
    for place in (0.3, 0.6, 0.9):
        flip("out/a.avi.npz", place)
        assert Path("out/a.avi.npz").read_bytes() != sound
        assert times() == ["skipped"]  # what is looked at is right
        assert times(verify=True) == ["done"]
        assert Path("out/a.avi.npz").read_bytes() == sound
    assert times(verify=True) == ["skipped"]


def test_damaged_samples_and_vectors_are_found_and_made_again(folder):
    kept(40)
    flip("out/a.avi.npz")
    assert kept(40, verify=True) == ["done", "skipped"]
    vectors("vectors")
    sound = Path("vectors/a.avi.npz").read_bytes()
    for damage in (cut, flip):
        damage("vectors/a.avi.npz")
        assert vectors("vectors") == ["done", "skipped"]
        assert Path("vectors/a.avi.npz").read_bytes() == sound
        damage("vectors/a.avi.npz")
        assert run(encode_videos, "features", "vectors", "x.codebook.npz") == (["done", "skipped"], [])
        assert Path("vectors/a.avi.npz").read_bytes() == sound


def test_damaged_features_are_not_encoded(folder, capsys):
    extract_videos("videos", "f", QUICK)
    arguments = ["encode", "f", "--codebook", "x.codebook.npz", "-o", "out", "--quiet", "--verify"]
    assert main(arguments) == main([*arguments, "--force"]) == 0
    with zipfile.ZipFile("f/a.avi.npz") as archive:
        places = {info.filename: info.header_offset + 300 for info in archive.infolist()}
    content = bytearray(Path("f/a.avi.npz").read_bytes())
    content[places["hog.npy"]] ^= 1
    Path("f/a.avi.npz").write_bytes(content)
    before = Path("out/a.avi.npz").read_bytes()
    for more in ([], ["--force"]):
        assert main([*arguments, *more]) == 1
        assert capsys.readouterr().err == ("idt: f/a.avi.npz is damaged: the check sum of hog is wrong; make it "
                                           "again.\n")
    assert Path("out/a.avi.npz").read_bytes() == before
    write_text(random_features(60), "rows.txt")  # has none
    fit_codebook("rows.txt", "y.codebook.npz", EncodingParams(channels=("hog",), words=2, samples=200, pca=0.2))
    assert run(encode_videos, "rows.txt", "out", "y.codebook.npz", verify=True) == (["done"], [])


@pytest.mark.parametrize(("format", "output", "damages"), [
    ("npz", "out/a.npz", [cut]), ("npz", "out/a.npz", [flip]), ("h5", "out/a.h5", [cut]),
    ("jpg", "out/a/flow_y_00002.jpg", [cut, os.unlink]), ("png", "out/a/flow_x_00001.png", [cut, os.unlink, flip]),
    ("flo", "out/a/flow_00002.flo", [cut, os.unlink])])
def test_damaged_flow_is_found_and_made_again(folder, format, output, damages):
    if format == "h5":
        pytest.importorskip("h5py")
    params = FlowParams(method="farneback", format=format, end=3)

    def times(**options) -> list[str]:
        return run(flow_videos, "a", "out", params, **options)[0]

    Path("a").mkdir()
    for n, picture in enumerate(pan(frames=4, height=40, width=48).frames):
        cv2.imwrite(f"a/{n}.png", picture)
    assert times() == ["done"]
    assert times(verify=True) == ["skipped"]
    sound = Path(output).read_bytes()
    for damage in damages:
        damage(output)
        if damage is os.unlink or (damage is cut and format in ("npz", "h5")):
            assert times() == ["done"]
            damage(output)
        assert times(verify=True) == ["done"]
        assert Path(output).read_bytes() == sound
    assert times(verify=True) == ["skipped"]
