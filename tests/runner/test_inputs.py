"""idt.runner.inputs: what inputs stand for, where each result goes, and what stands for nothing."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from clips import write_clip

from idt.cli import main
from idt.errors import FormatError, ParameterError, VideoError
from idt.recognition.clip_features import features_paths
from idt.recognition.datasets import read_dataset
from idt.runner.inputs import encode_list, features_files, size_of, sources_of, work_list
from synthetic import pan


def listed(inputs, **options):
    """The work list as {source: output below out/}."""
    return {job.source: job.output.relative_to("out").as_posix() for job in work_list(inputs, "out", **options)}


def test_a_file_gives_its_full_name_plus_suffix(tree):
    assert listed("v/walk/a.avi") == {"v/walk/a.avi": "a.avi.npz"}
    assert listed(["v/walk/a.avi", Path("v/top.mkv")], suffix=".txt") == {"v/walk/a.avi": "a.avi.txt",
                                                                        "v/top.mkv": "top.mkv.txt"}


def test_a_folder_of_videos_is_walked_and_mirrored_in_order(tree):
    assert listed("v") == {
        "v/run/a.avi": "run/a.avi.npz", "v/run/deep/c.webm": "run/deep/c.webm.npz", "v/top.mkv": "top.mkv.npz",
        "v/walk/a.avi": "walk/a.avi.npz", "v/walk/b.MP4": "walk/b.MP4.npz"}
    assert list(listed("v/")) == sorted(listed("v"))


def test_a_folder_of_images_is_one_video(tree, monkeypatch):
    assert listed("i/clip.1") == {"i/clip.1": "clip.1.npz"}
    assert listed("i/*") == {"i/clip.1": "clip.1.npz", "i/two": "two.npz"}
    monkeypatch.chdir("i/two")
    assert listed(".") == {".": "two.npz"}


def test_a_folder_with_a_video_and_images_is_walked(tree):
    assert listed("mixed") == {"mixed/a.avi": "a.avi.npz"}


def test_globs(tree):
    assert listed("v/walk/*") == {"v/walk/a.avi": "a.avi.npz", "v/walk/b.MP4": "b.MP4.npz"}
    assert listed("v/**/deep/*.webm") == {"v/run/deep/c.webm": "c.webm.npz"}
    assert listed("i/clip.1/f*.png") == {"i/clip.1/f*.png": "clip.1.npz"}


def test_folders_of_images_below_a_folder_without_videos_keep_their_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("f/walk/a/1.jpg", "f/walk/a/2.jpg", "f/run/a/1.png", "f/run/notes.txt", "f/.hidden/1.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    assert listed("f") == {"f/run/a": "run/a.npz", "f/walk/a": "walk/a.npz"}
    Path("f/clip.avi").touch()
    assert listed("f") == {"f/clip.avi": "clip.avi.npz"}


def test_pictures_beside_other_things_that_a_glob_matches_are_passed_over(tree):
    Path("v/walk/poster.jpg").touch()
    Path("v/walk/more.png").mkdir()
    shutil.copy("i/two/x.jpg", "v/walk/more.png")
    assert listed("v/walk/*") == {"v/walk/a.avi": "a.avi.npz", "v/walk/b.MP4": "b.MP4.npz",
                                  "v/walk/more.png": "more.png.npz"}


def test_links_to_folders_are_not_followed_unless_they_are_given(tree):
    for link, to in (("v/here", "."), ("v/walk/up", ".."), ("v/run/deep/up", "../..")):
        Path(link).symlink_to(to)
    assert list(listed("v")) == ["v/run/a.avi", "v/run/deep/c.webm", "v/top.mkv", "v/walk/a.avi", "v/walk/b.MP4"]
    assert listed("v/**/walk/*.avi") == listed("v/walk/**/*.avi") == {"v/walk/a.avi": "a.avi.npz"}
    assert listed("**/deep/**/*.webm") == listed("v/[rt]*/**/c.*") == {"v/run/deep/c.webm": "c.webm.npz"}
    Path("v/[tw]").mkdir()
    Path("v/[tw]/d.webm").touch()
    assert listed("v/**/**/d.*") == {"v/[tw]/d.webm": "d.webm.npz"}
    shutil.rmtree("v/[tw]")
    assert listed("v/walk/up") == {f"v/walk/up/{name.removesuffix('.npz')}": name for name in listed("v").values()}


def test_a_name_with_brackets_is_a_file_when_it_exists(tree):
    shutil.copy("v/top.mkv", "v[1].mkv")
    assert listed("v[1].mkv") == {"v[1].mkv": "v[1].mkv.npz"}


def test_a_list_has_one_input_a_line(tree):
    Path("list.txt").write_text("v/walk/a.avi\n\n  v/run/deep  \r\ni/clip.1\n", encoding="utf-8-sig")
    assert listed("@list.txt") == {"v/walk/a.avi": "a.avi.npz", "v/run/deep/c.webm": "c.webm.npz",
                                   "i/clip.1": "clip.1.npz"}


def test_a_csv_names_videos_as_a_dataset_does(tree):
    Path("v/set.CSV").write_text("label,Path,start,mine\n"
                                 "walk,walk/a.avi,,\n\n"
                                 "walk, ./walk/a.avi ,2.5,\n"
                                 'run,"run/deep/../../walk/b.MP4",,x\n'
                                 "run,walk/b.MP4,3,x\n"
                                 "run,../i/clip.1,,\n"
                                 f"run,{tree}/v/run/nope [1].avi,,\n", encoding="utf-8-sig")
    place = Path(tree).relative_to("/")
    expected = {"v/walk/a.avi": "walk/a.avi.npz", "v/run/deep/../../walk/b.MP4": "walk/b.MP4.npz",
                "v/../i/clip.1": f"{place}/i/clip.1.npz", f"{tree}/v/run/nope [1].avi": "run/nope [1].avi.npz"}
    assert listed("v/set.CSV") == listed("v/*.CSV") == expected
    assert [*listed(tree / "v/set.CSV").values()] == [*expected.values()]
    Path("list.txt").write_text("v/top.mkv\nv/set.CSV\n")
    assert listed("@list.txt") == {"v/top.mkv": "top.mkv.npz", **expected}

    Path("v/run/nope [1].avi").touch()
    dataset = read_dataset("v/set.CSV")
    assert {job.output for job in work_list("v/set.CSV", "out")} == set(features_paths(dataset, "out"))


@pytest.mark.parametrize(("content", "message"), [
    (b"", r"^x\.csv: the first line names no column path: give a CSV whose first line names path among its columns"),
    (b"v/top.mkv\nv/walk/a.avi\n", r"^x\.csv: the first line names no column path: .*, or a list of videos as @list"),
    (b"path,label\n\n", r"^x\.csv names no video\.$"),
    (b"path,label\nv/top.mkv,a\n,b\n", r"^x\.csv, line 3: the path is empty\.$"),
    (b"path,label\nv/top.mkv\n", r"^x\.csv, line 2: 1 fields, but the first line names 2 columns\.$"),
    (b"path,path\na,b\n", r"^x\.csv: the first line names a column twice: path,path\.$"),
    (b'path\n"v/top.mkv\n', r"^x\.csv, line 2: not CSV \(unexpected end of data\)\.$"),
    (b"path\nv/\xff.avi\n", r"^x\.csv: the list is not UTF-8 text \("),
    (None, r"^x\.csv: the list cannot be read \(No such file or directory\)\.$"),
])
def test_a_csv_that_cannot_be_used_is_an_error(tree, content, message):
    if content is not None:
        Path("x.csv").write_bytes(content)
    with pytest.raises(ParameterError, match=message):
        work_list(["v", "x.csv"], "out")


def test_what_is_found_stands_for_itself(tree):
    found = sources_of(["v/walk", "i/clip.1"])
    assert found == [("v/walk/a.avi", Path("a.avi"), None), ("v/walk/b.MP4", Path("b.MP4"), None),
                     ("i/clip.1", Path("clip.1"), None)]
    assert sources_of(found) == sources_of(found, features=True) == found
    assert work_list(found, "out") == work_list(["v/walk", "i/clip.1"], "out")
    assert listed([*found, "v/top.mkv"])["v/top.mkv"] == "top.mkv.npz"


def test_names_that_a_shell_would_mangle(tree):
    name = "ünï code, \"quotes\" & new\nline.avi"
    Path(name).touch()
    assert listed(name) == {name: f"{name}.npz"}


def test_a_file_that_is_missing_is_left_for_the_work_to_fail_on(tree):
    assert listed(["v/top.mkv", "nope.avi"])["nope.avi"] == "nope.avi.npz"


@pytest.mark.parametrize(("inputs", "error", "message"), [
    ("none", VideoError, r"^none: there is no video in this folder or below, and no folder of images\.$"),
    ("v/*.xyz", VideoError, r"^v/\*\.xyz: nothing matches\.$"),
    ("i/two/x.jpg", VideoError, r"^i/two/x\.jpg is a single image: give the folder that holds the images"),
    ("i/*/*.[pj]*", VideoError, r"is a single image: give the folder"),
    ("@nope.txt", ParameterError, r"^nope\.txt: the list cannot be read \(No such file or directory\)\.$"),
    (["v/top.mkv", "v/top.mkv"], ParameterError, r"^v/top\.mkv is given twice\.$"),
    (["v/top.mkv", "./v/top.mkv"], ParameterError, r"^\./v/top\.mkv is given twice\.$"),
    (["v/walk", "v/run"], ParameterError, r"^v/walk/a\.avi and v/run/a\.avi would both be written to out/a\.avi\.npz: "
                                          r"give the folder that holds both"),
])
def test_what_stands_for_no_video_or_clashes_is_an_error(tree, inputs, error, message):
    with pytest.raises(error, match=message):
        work_list(inputs, "out")


def test_an_output_inside_another_is_an_error(tree):
    shutil.copytree("i/two", "w/walk")
    message = r"^w/walk would be written to out/walk, and v/walk/a\.avi into it: write them to different folders\.$"
    with pytest.raises(ParameterError, match=message):
        work_list(["w/walk", "v"], "out", suffix="")
    assert len(work_list(["w/walk", "v"], "out")) == 6


def test_an_empty_list_is_an_error(tree):
    Path("empty.txt").write_text("\n  \n")
    with pytest.raises(ParameterError, match=r"^@empty\.txt names no video\.$"):
        work_list(["v", "@empty.txt"], "out")
    with pytest.raises(ParameterError, match=r"^@empty\.txt names no features file\.$"):
        features_files("@empty.txt")


def test_a_list_that_is_no_text_is_an_error(tree):
    Path("list.txt").write_bytes(b"v\xff\n")
    with pytest.raises(ParameterError, match=r"^list\.txt: the list is not UTF-8 text"):
        work_list("@list.txt", "out")


def test_an_output_that_looks_like_a_file_is_an_error(tree):
    with pytest.raises(ParameterError, match=r"^output is x\.npz: give a folder; .* such as clip\.avi\.npz\.$"):
        work_list("v", "x.npz")
    Path("y.npz").mkdir()
    assert len(work_list("v", "y.npz")) == 5


def test_side_inputs_of_one_video_may_be_a_file(tree):
    (job,) = work_list("v/top.mkv", "out", boxes="b.txt", homographies="h.npz")
    assert (job.boxes, job.homographies) == (Path("b.txt"), Path("h.npz"))


def test_side_inputs_are_not_replaced(tree):
    for name in ("a.avi.txt", "a.avi.npz"):
        Path("v/walk", name).touch()
    for options in ({"boxes": "v/walk", "suffix": ".txt"}, {"homographies": "v/walk", "suffix": ".npz"}):
        path = f"v/walk/a.avi{options['suffix']}"
        message = f"^{path} would be replaced by what is made of v/walk/a.avi: choose another output folder"
        with pytest.raises(ParameterError, match=message):
            work_list("v/walk/a.avi", "v/run/../walk", **options)
        assert len(work_list("v/walk/a.avi", "out", **options)) == 1


def test_side_inputs_of_many_videos_are_found_in_a_folder(tree):
    for name in ("run/a.avi.txt", "run/a.txt", "run/deep/c.txt", "top.txt", "walk/a.txt", "walk/b.MP4.txt"):
        path = Path("boxes", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = {job.source: job.boxes.relative_to("boxes").as_posix() for job in work_list("v", "out", boxes="boxes")}
    assert found == {"v/run/a.avi": "run/a.avi.txt", "v/run/deep/c.webm": "run/deep/c.txt", "v/top.mkv": "top.txt",
                     "v/walk/a.avi": "walk/a.txt", "v/walk/b.MP4": "walk/b.MP4.txt"}
    Path("boxes/top.txt").unlink()
    message = r"^boxes is the folder boxes, in which top\.mkv\.txt or top\.txt is missing\.$"
    with pytest.raises(ParameterError, match=message):
        work_list("v", "out", boxes="boxes")
    with pytest.raises(ParameterError, match=r"^homographies is h\.npz, which is not a folder, but there are 5 videos: "
                                             r"give a folder with a file for each, such as run/a\.avi\.npz\.$"):
        work_list("v", "out", homographies="h.npz")


def test_the_size_of_a_video_is_that_of_its_images(tree):
    for name, size in (("i/clip.1/f2.png", 3), ("i/clip.1/f10.png", 4), ("i/clip.1/.f1.png", 9), ("i/clip.1/n.txt", 9)):
        Path(name).write_bytes(bytes(size))
    assert [size_of(source) for source in ("i/clip.1", "i/clip.1/f?.png", Path("v/top.mkv"), "none", "x.avi")] == [
        7, 3, 5, 0, 0]


# ---- the run goes on where it can -----------------------------------------------------------------------------------

def test_what_stands_for_nothing_is_a_job_that_fails(tree):
    Path("boxes").mkdir()
    for name in ("a.txt", "b.txt"):
        Path("boxes", name).touch()
    jobs = work_list(["none", "v/walk", "v/*.xyz", f"{tree}/i/two/x.jpg", "none"], "out", boxes="boxes")
    assert [(job.source, job.boxes) for job in jobs if job.error is None] == [
        ("v/walk/a.avi", Path("boxes/a.txt")), ("v/walk/b.MP4", Path("boxes/b.txt"))]
    empty = "none: there is no video in this folder or below, and no folder of images."
    image = f"{tree}/i/two/x.jpg"
    assert [(job.source, job.output.as_posix(), type(job.error), str(job.error)) for job in jobs if job.error] == [
        ("none", "out/none.npz", VideoError, empty),
        ("v/*.xyz", "out/v/*.xyz.npz", VideoError, "v/*.xyz: nothing matches."),
        (image, "out/i/two/x.jpg.npz", VideoError, f"{image} is a single image: give the folder that holds the images "
                                                   "of a video."),
        ("none", "out/none.npz", VideoError, empty)]
    assert work_list(["v/top.mkv", "none"], "out", boxes="boxes/a.txt")[0].boxes == Path("boxes/a.txt")
    assert len(work_list(["v/top.mkv", "none"], ".", homographies="none.npz")) == 2
    with pytest.raises(VideoError, match=r"^v/\*\.xyz: nothing matches\.$"):
        work_list(["v/*.xyz", "none"], "out")


def test_features_that_inputs_do_not_stand_for(tree):
    Path("f").mkdir()
    Path("f/a.npz").touch()
    good, *bad = encode_list(["f", "none", "*.npz"], "out")
    assert (good.source, good.error) == ("f/a.npz", None)
    assert [(type(job.error), str(job.error)) for job in bad] == [
        (FormatError, "none: there is no features file (.npz) in this folder or below."),
        (FormatError, "*.npz: nothing matches.")]
    with pytest.raises(FormatError, match=r"^none: there is no features file"):
        encode_list("none", "out")
    with pytest.raises(FormatError, match=r"^\*\.npz: nothing matches\.$"):
        features_files(["f", "*.npz"])


@pytest.fixture
def clip(tmp_path, monkeypatch, one_core):
    """A video of two frames, which give no trajectories, v/a.avi in the working folder."""
    monkeypatch.chdir(tmp_path)
    return write_clip(Path("v/a.avi"), pan(frames=2, height=40, width=48).frames)


def extracted(capsys, *arguments):
    """Extract into out/; return the exit code, why what failed did as the report has it, and the files."""
    code = main(["extract", "-o", "out", *arguments])
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("idt: ") and
            "compiling the kernels" not in line]
    report = [json.loads(line) for line in Path("out/report.jsonl").read_text().splitlines()]
    failed = {line["video"]: line["reason"] for line in report if line.get("status") == "failed"}
    assert told == [f"idt: {reason}" for reason in failed.values()]
    assert report[-1]["failed"] == len(failed)
    return code, failed, sorted(path.name for path in Path("out").rglob("*.npz"))


def test_entries_that_are_missing_fail_alone(clip, capsys):
    Path("none").mkdir()
    Path("list.txt").write_text("gone.avi\nnone\nv/a.avi\nv/a.avi/b.avi\nx/*.avi\n")
    Path("some.csv").write_text("path\nv/b.avi\n")
    assert extracted(capsys, "@list.txt", "some.csv") == (1, {
        "none": "none: there is no video in this folder or below, and no folder of images.",
        "x/*.avi": "x/*.avi: nothing matches.", "gone.avi": "gone.avi: there is no such file or folder.",
        "v/a.avi/b.avi": "v/a.avi/b.avi: there is no such file or folder.",
        "v/b.avi": "v/b.avi: there is no such file or folder."}, ["a.avi.npz"])


def test_nothing_but_what_stands_for_nothing_is_an_error_before_any_work(clip, capsys):
    Path("none").mkdir()
    for command in ("extract", "flow"):
        assert main([command, "none", "x/*", "-o", "out"]) == 1
        assert capsys.readouterr() == ("", "idt: none: there is no video in this folder or below, and no folder of "
                                           "images.\n")
    assert not Path("out").exists()


def test_links(clip, capsys):
    for link, to in (("v/b.avi", "a.avi"), ("v/c.avi", "../v/a.avi"), ("v/self.avi", "self.avi"), ("v/gone.avi", "x"),
                     ("v/loop", "."), ("v/up", "..")):
        Path(link).symlink_to(to)
    found = (1, {f"v/{name}.avi": f"v/{name}.avi: there is no such file or folder." for name in ("gone", "self")},
             ["a.avi.npz", "b.avi.npz", "c.avi.npz"])
    assert extracted(capsys, "v") == found
    shutil.rmtree("out")
    assert extracted(capsys, "v/**/*.avi") == found


def test_awkward_names(clip, capfd):
    names = ["a b.avi", "-dash.avi", "--jobs.avi", "ünï 日本.avi", "[x]*.avi", "@list.avi", "new\nline.avi",
             os.fsdecode(b"by\xffte.avi")]
    for name in names:
        shutil.copy(clip, Path("v", name))
    assert extracted(capfd, "v") == (0, {}, sorted(["a.avi.npz", *(f"{name}.npz" for name in names)]))
    assert main(["extract", "-o", "out", *(f"v/{name}" for name in names)]) == 0
    assert f"0 done, {len(names)} skipped (done before); the files are in out" in capfd.readouterr().err
    Path("v", os.fsdecode(b"bad\xff.avi")).touch()
    assert main(["extract", "-o", "out", "v"]) == 1
    assert main(["status", "out"]) == 0
    assert capfd.readouterr().out.endswith("failed    v/bad\\udcff.avi: the file is empty.\n")
    os.chdir("v")
    assert main(["extract", "-o", "out", "--", "-dash.avi", "--jobs.avi"]) == 0
    assert sorted(path.name for path in Path("out").glob("*.npz")) == ["--jobs.avi.npz", "-dash.avi.npz"]


@contextlib.contextmanager
def permissions_that_count(*closed):
    """Close files and folders, and take from root what makes it read these all the same (CAP_DAC_*)."""
    libc, header, state = ctypes.CDLL(None), (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, state) == 0
    effective = state[0]
    modes = [(path, os.stat(path).st_mode) for path in closed]
    try:
        for path in closed:
            os.chmod(path, 0)
        state[0] &= ~0b110
        assert libc.capset(header, state) == 0
        yield
    finally:
        state[0] = effective
        libc.capset(header, state)
        for path, mode in modes:
            os.chmod(path, mode)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere tests do not run as root")
def test_what_may_not_be_read_fails_alone(clip, capsys):
    for name in ("v/b.avi", "v/closed/c.avi", "w/d.avi", "i/1.png"):
        Path(name).parent.mkdir(exist_ok=True)
        shutil.copy(clip, name)
    inputs = ["v", "w", "w/d.avi", "i"]
    with permissions_that_count("v/b.avi", "v/closed", "w", "i"):
        found = extracted(capsys, *inputs)
    denied = "the folder cannot be read (Permission denied)."
    assert found == (1, {
        "v/closed": f"v/closed: {denied}", "w": f"w: {denied}", "i": f"i: {denied}",
        "w/d.avi": "w/d.avi: cannot be read (Permission denied).",
        "v/b.avi": "v/b.avi: cannot be read (Permission denied)."}, ["a.avi.npz"])
    shutil.rmtree("out")
    with permissions_that_count("v/closed"):
        assert extracted(capsys, "v/**/*.avi")[:2] == (1, {"v/closed": f"v/closed: {denied}"})
    assert main(["extract", "-o", "out", "v"]) == 0
    assert "1 done, 2 skipped (done before); the files are in out" in capsys.readouterr().err
