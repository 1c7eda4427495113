"""The command idt: text, exit codes and files; interrupts and full disks in child processes."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import os
import pty
import re
import resource
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import pytest
from clips import write_clip

import idt
import idt.batch
import idt.cli.progress
import idt.trajectories.extraction
from idt._util.fields import flag_name, limits_text
from idt.cli import _app, main
from idt.features.record import Features
from idt.params import Params
from idt.runner.log import NAME
from idt.video import frames
from synthetic import moving_square, pan
from waiting import PATIENCE_S, until

FIELDS = dataclasses.fields(Params)
IDT = [sys.executable, "-c", "import sys; from idt.cli import main; sys.exit(main())"]


@pytest.fixture(scope="session")
def pictures():
    """20 frames of a textured square that moves over a textured plane before a moving camera."""
    return moving_square((3.0, 1.0), camera=pan_step()).frames


def pan_step() -> np.ndarray:
    return pan((1.0, 0.5)).homographies[1]


@pytest.fixture(scope="session", autouse=True)
def _kernels():
    """Compile first: messages, time limits and file-size limits of the tests are those of a second run."""
    idt.trajectories.extraction.compile_kernels()


@pytest.fixture
def folder(tmp_path, monkeypatch, pictures):
    """The working folder, with the videos a.avi, sub/b.avi and, which is none, sub/bad.avi in videos/."""
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "videos" / "a.avi", pictures)
    write_clip(tmp_path / "videos" / "sub" / "b.avi", pictures[::-1])
    (tmp_path / "videos" / "sub" / "bad.avi").write_bytes(b"no video" * 100)
    return tmp_path


def files(path: str | Path) -> list[str]:
    """All files below a folder but the report, hidden ones too."""
    return sorted(p.relative_to(path).as_posix() for p in Path(path).rglob("*") if not p.is_dir() and p.name != NAME)


def child(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*IDT, *arguments], capture_output=True, text=True, timeout=PATIENCE_S, **options)


# ---- usage ----------------------------------------------------------------------------------------------------------

def test_help_lists_the_commands(capsys):
    for arguments in ([], ["--help"]):
        assert main(arguments) == 0
        out = capsys.readouterr().out
        for command in ("demo", "extract", "view", "export", "diff", "info", "train", "predict"):
            assert re.search(rf"│ {command} +[A-Z]", out)


def test_help_of_extract_lists_every_parameter_with_its_limits_and_default(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    assert main(["extract", "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for f in FIELDS:
        (line,) = [text for text in lines if re.match(rf"│ +{flag_name(f)} ", text)]
        assert f.metadata["unit"] in line
        assert isinstance(f.default, bool) or limits_text(f, Params) in line
        assert "default: " in line
    assert any("--no-camera" in line for line in lines)


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{idt.__version__}\n"


@pytest.mark.parametrize(("arguments", "message"), [
    (["extrac"], r'Unknown command "extrac"\. Did you mean "extract"\?'),
    (["extract", "-o", "out"], r'parameter INPUT requires an argument'),
    (["extract", "videos"], r'parameter --output requires an argument'),
    (["extract", "videos", "-o"], r'-o requires an argument'),
    (["extract", "videos", "-o", "--text"], r'Invalid value "--text" for -o\. --text is a flag, not a path'),
    (["extract", "videos", "-o", "out", "--strid", "4"], r"Unknown option: --strid\. Did you mean --stride\?"),
    (["extract", "videos", "-o", "out", "--stride", "x"], r'Invalid value for --stride: unable to convert "x" into'),
    (["extract", "videos", "-o", "out", "--stride", "0"], r"stride is 0: it must be from 1 to 1000\.$"),
    (["extract", "videos", "-o", "out", "--epsilon", "-1"], r"epsilon is -1\.0: it must be above 0, at most 1000000"),
    (["extract", "videos", "-o", "out", "--flow", "fast"], r"flow is 'fast': allowed are farneback, tvl1, dis, "),
    (["extract", "videos", "-o", "out", "--descriptors", "hog,sift"], r"descriptors has 'sift': allowed are traj"),
    (["extract", "videos", "-o", "out", "--temporal-cells", "16"], r"temporal_cells is 16: at most length \(15\)"),
    (["extract", "videos", "-o", "out", "--threads", "0"], r"threads is 0: it must be at least 1\.$"),
    (["extract", "videos", "-o", "out", "--params", "none.toml"], r"none\.toml: the parameter file cannot be read"),
    (["extract", "videos", "-o", "a.npz"], r"output is a\.npz: give a folder"),
    (["extract", "videos/a.avi", "videos/a.avi", "-o", "out"], r"videos/a\.avi is given twice\.$"),
    (["extract", "@none.txt", "-o", "out"], r"none\.txt: the list cannot be read"),
    (["extract", "videos", "-o", "-"], r"output is -: only the --text rows of one video .* stdout \(3 videos\)\.$"),
    (["extract", "videos/a.avi", "-o", "-"], r"output is -: only the --text rows of one video"),
    (["extract", "videos", "-o", "out", "--boxes", "b.txt"], r"boxes is b\.txt, which is not a folder, .* 3 videos"),
    (["extract", "videos", "-o", "out", "--text", "--descriptors", "hog"], r"descriptors is hog: rows of text need"),
    (["export", "a.npz", "--to", "xml"], r'Invalid value "xml" for --to\. Choose from: "text", "h5", "parquet"\.$'),
    (["view", "videos/a.avi", "-o", "a.gif"], r"output is a\.gif: its name must end in \.mp4 .* or \.png"),
    (["view", "videos/a.avi", "a.npz", "-o", "a.png", "--stride", "3"], r"Flags of the method have no effect on a\."),
    (["view", "videos/a.avi", "-o", "a.png", "--background", "--beside", "b.npz"], r"--background and --beside do not"),
    (["view", "videos/a.avi", "-o", "a.png", "--colours", "--stride", "3"], r"--stride has no effect on the flow"),
    (["view", "videos/a.avi", "a.npz", "-o", "a.png", "--colours"], r"--colours draws no trajectories: leave"),
    (["view", "videos/a.avi", "-o", "a.mp4", "--trajectory", "3"], r"output is a\.mp4: a trajectory is drawn as a"),
    (["view", "videos/a.avi", "-o", "a.png", "--trajectory", "3", "--frame", "2"], r"--trajectory draws nothing else"),
    (["info", "a.npz", "--compile"], r"compile goes without a file, but a\.npz is given\.$"),
])
def test_wrong_usage_is_one_line_and_exit_code_2(folder, capsys, arguments, message):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert re.match("idt: ", err)
    assert re.search(message, err[:-1])
    assert files(".") == ["videos/a.avi", "videos/sub/b.avi", "videos/sub/bad.avi"]


def test_no_integer_is_rounded(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    app, found = _app(), []
    for command in ("demo", "diff", "encode", "evaluate", "export", "extract", "compare", "fit", "flow", "info",
                    "predict", "status", "train", "view"):
        for argument in app[command].assemble_argument_collection():
            if int in (argument.hint, *get_args(argument.hint)):
                found.append((command, argument.name))
                assert main([command, argument.name, "2.5"]) == 2
                name = argument.name[2:].replace("-", "_")
                assert capsys.readouterr() == ("", f"idt: {name} is 2.5: it must be an integer.\n")
    assert len(found) >= 77
    assert {("view", "--frame"), ("compare", "--folds"), ("predict", "--top"), ("flow", "--jobs"),
            ("train", "--words")} <= set(found)
    for text in ("3.0", "0x3", "3"):  # as in a file of parameters, 3.0 is an integer
        assert main(["view", "none.avi", "-o", "a.png", "--stride", text]) == 1
        assert capsys.readouterr().err == "idt: none.avi: there is no such file or folder.\n"


# ---- extract --------------------------------------------------------------------------------------------------------

def test_extract_does_a_folder_passes_over_what_is_bad_and_resumes(folder, capsys):
    assert main(["extract", "videos", "-o", "out"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    lines = [*sorted(err.splitlines()[:3], key=lambda line: line.removeprefix("idt: ")), *err.splitlines()[3:]]
    assert len(lines) == 4
    number = r"[1-9][0-9]* trajectories, 20 frames in [0-9.]+ s \([0-9.]+ frames/s\)"
    assert re.fullmatch(rf"videos/a\.avi: {number}", lines[0])
    assert re.fullmatch(rf"videos/sub/b\.avi: {number}", lines[1])
    assert re.match(r"idt: videos/sub/bad\.avi: not a video", lines[2])
    rows = sum(len(Features.load(f"out/{name}")) for name in files("out"))
    assert re.fullmatch(rf"2 done, 1 failed; the files are in out \(40 frames, {rows:,} trajectories, [0-9.]+ [KM]B "
                        r"in [0-9.]+ s\)", lines[3])
    assert files("out") == ["a.avi.npz", "sub/b.avi.npz"]
    before = {name: Path("out", name).stat().st_mtime_ns for name in files("out")}

    Path("videos/sub/bad.avi").unlink()
    assert main(["extract", "videos", "-o", "out"]) == 0
    assert capsys.readouterr().err == "0 done, 2 skipped (done before); the files are in out\n"
    assert main(["extract", "videos", "-o", "out", "--verify"]) == 0
    assert "2 skipped" in capsys.readouterr().err
    assert {name: Path("out", name).stat().st_mtime_ns for name in files("out")} == before
    assert main(["extract", "videos", "-o", "out", "--force", "--quiet", "--jobs", "1"]) == 0
    assert capsys.readouterr() == ("", "")
    assert all(Path("out", name).stat().st_mtime_ns > before[name] for name in before)


def test_the_file_is_what_the_library_gives(folder):
    assert main(["extract", "videos/a.avi", "-o", "out"]) == 0
    found, expected = Features.load("out/a.avi.npz"), idt.extract("videos/a.avi")
    assert found.meta == expected.meta
    for name, array in expected.arrays().items():
        np.testing.assert_array_equal(getattr(found, name), array, err_msg=name)
    assert len(found) > 0


@pytest.mark.usefixtures("one_core")
def test_quiet_leaves_the_error(folder, capsys):
    assert main(["extract", "videos", "-o", "out", "--quiet"]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("idt: videos/sub/bad.avi: ")


def test_flags_override_the_file_of_parameters(folder):
    Path("p.toml").write_text('stride = 8\nlength = 10\ndescriptors = ["hog"]\ncamera = false\n')
    assert main(["extract", "videos/a.avi", "-o", "out", "--params", "p.toml", "--stride", "6", "--max-std", "30.5",
                 "--descriptors", "mbhx,hof"]) == 0
    features = Features.load("out/a.avi.npz")
    assert Params.from_dict(features.meta["params"]) == Params(
        stride=6, length=10, descriptors=("hof", "mbhx"), camera=False, max_std=30.5)
    assert features.hog is None
    assert features.hof is not None
    assert main(["extract", "videos/a.avi", "-o", "out", "--params", "p.toml", "--camera", "--dtype", "float32"]) == 0
    features = Features.load("out/a.avi.npz")
    assert features.meta["params"]["camera"] is True
    assert features.hog.dtype == np.float32


def test_the_threads_change_nothing(folder):
    assert main(["extract", "videos/a.avi", "-o", "one", "--threads", "1"]) == 0
    assert main(["extract", "videos/a.avi", "-o", "two", "--threads", "2"]) == 0
    assert Path("one/a.avi.npz").read_bytes() == Path("two/a.avi.npz").read_bytes()


def test_text_goes_to_a_file_or_stdout(folder, capsysbinary):
    assert main(["extract", "videos/a.avi", "-o", "out", "--text"]) == 0
    assert files("out") == ["a.avi.txt"]
    capsysbinary.readouterr()
    assert main(["extract", "videos/a.avi", "-o", "-", "--text"]) == 0
    out, err = capsysbinary.readouterr()
    assert out == Path("out/a.avi.txt").read_bytes()
    assert len(out.splitlines()[0].split()) == 436
    assert re.fullmatch(rb"videos/a\.avi: [0-9]+ trajectories, 20 frames in .*\n", err)
    assert main(["extract", "videos/a.avi", "-o", "npz"]) == 0
    np.testing.assert_array_equal(Features.load("out/a.avi.txt").frame, Features.load("npz/a.avi.npz").frame)


@pytest.mark.usefixtures("one_core")
def test_a_folder_of_images_and_a_list(folder, pictures):
    Path("images/one").mkdir(parents=True)
    for n, picture in enumerate(pictures):
        cv2.imwrite(f"images/one/{n}.png", picture)
    Path("list.txt").write_text("images/one\nvideos/a.avi\n")
    assert main(["extract", "@list.txt", "-o", "out"]) == 0
    assert files("out") == ["a.avi.npz", "one.npz"]
    expected = idt.extract(pictures)
    np.testing.assert_array_equal(Features.load("out/one.npz").points, expected.points)


@pytest.mark.parametrize(("arguments", "message"), [
    (["extract", "none.avi", "-o", "out"], r"^idt: none\.avi: there is no such file or folder\.$"),
    (["extract", "empty", "-o", "out"], r"^idt: empty: there is no video in this folder or below"),
    (["extract", "v/*.avi", "-o", "out"], r"^idt: v/\*\.avi: nothing matches\.$"),
    (["extract", "videos/sub/bad.avi", "-o", "out"], r"^idt: videos/sub/bad\.avi: not a video"),
    (["extract", "videos/sub/bad.avi", "-o", "-", "--text"], r"^idt: videos/sub/bad\.avi: not a video"),
    (["extract", "videos/a.avi", "-o", "videos/a.avi/out"],
     r"^idt: videos/a\.avi/out cannot be written: Not a directory\.$"),
    (["extract", "videos/a.avi", "-o", "videos/a.avi"], r"^idt: videos/a\.avi is not a folder: give"),
    (["extract", "videos/a.avi", "-o", "out", "--boxes", "boxes.txt"],
     r"^idt: boxes\.txt, line 2: 3 values follow the frame number; it must be five for each box"),
    (["extract", "videos/a.avi", "-o", "out", "--boxes", "none.txt"], r"^idt: none\.txt: .*No such file"),
    (["extract", "videos/a.avi", "-o", "out", "--homographies", "boxes.txt"], r"^idt: boxes\.txt: no homographies"),
    (["view", "none.avi", "-o", "a.mp4"], r"^idt: none\.avi: there is no such file or folder\.$"),
    (["view", "videos/a.avi", "none.npz", "-o", "a.mp4"], r"^idt: none\.npz does not exist\.$"),
    (["export", "none.npz", "--to", "text"], r"^idt: none\.npz does not exist\.$"),
    (["diff", "none.npz", "none.npz"], r"^idt: none\.npz does not exist\.$"),
    (["info", "none.npz"], r"^idt: none\.npz does not exist\.$"),
    (["info", "none.avi"], r"^idt: none\.avi: there is no such file or folder\.$"),
    (["info", "videos/sub/bad.avi"], r"^idt: videos/sub/bad\.avi: not a video"),
])
def test_what_cannot_be_used_is_one_line_and_exit_code_1(folder, capsys, arguments, message):
    Path("empty").mkdir()
    Path("boxes.txt").write_text("0\n1 2 3 4\n")
    before = files(".")
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert re.search(message, err[:-1])
    assert files(".") == before


def test_side_inputs_are_used_and_noted(folder):
    Path("boxes").mkdir()
    Path("boxes/a.txt").write_text("".join(f"{n} 10 10 40 60 1.0\n" for n in range(20)))
    np.savez("h.npz", homographies=np.tile(np.eye(3), (20, 1, 1)))
    assert main(["extract", "videos/a.avi", "-o", "out", "--boxes", "boxes"]) == 0
    assert len(Features.load("out/a.avi.npz").meta["inputs"]["boxes"]) == 64
    assert main(["extract", "videos/a.avi", "-o", "out", "--homographies", "h.npz"]) == 0
    features = Features.load("out/a.avi.npz")
    assert features.meta["inputs"]["boxes"] is None
    assert len(features.meta["inputs"]["homographies"]) == 64
    np.testing.assert_array_equal(features.homographies, np.tile(np.eye(3), (20, 1, 1)))


def test_no_rows_are_said_with_their_reason(folder, capsys, pictures):
    write_clip(Path("short.avi"), pictures[:5])
    assert main(["extract", "short.avi", "-o", "out"]) == 0
    assert re.match(r"short\.avi: 0 trajectories \(.*16.*\), 5 frames in ", capsys.readouterr().err)
    assert Features.load("out/short.avi.npz").meta["reason"]


def test_the_first_run_says_that_kernels_are_compiled(folder, capsys, monkeypatch):
    monkeypatch.setattr(idt.trajectories.extraction, "kernels_cached", lambda: False)
    arguments = ["extract", "videos/a.avi", "videos/sub/b.avi", "-o", "out", "--jobs", "1"]
    assert main(arguments) == 0
    first, second, third, last = capsys.readouterr().err.splitlines()
    assert first == "idt: compiling the kernels; this happens once and takes up to half a minute"
    assert second.endswith(" s (compilation included)")
    assert third.endswith(" frames/s)")
    assert last.startswith("2 done")
    assert main(arguments) == 0
    assert "compil" not in capsys.readouterr().err
    assert main([*arguments, "--force", "--quiet"]) == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(idt.trajectories.extraction, "kernels_cached", lambda: True)
    assert main([*arguments, "--force"]) == 0
    assert "compil" not in capsys.readouterr().err


def test_several_processes_find_the_kernels_compiled(folder, capsys, monkeypatch):
    compiled = []
    monkeypatch.setattr(idt.trajectories.extraction, "kernels_cached", lambda: False)
    monkeypatch.setattr(idt.trajectories.extraction, "compile_kernels", lambda: compiled.append(1))
    assert main(["extract", "videos/a.avi", "videos/sub/b.avi", "-o", "out", "--jobs", "2"]) == 0
    first, *lines = capsys.readouterr().err.splitlines()
    assert first == "idt: compiling the kernels; this happens once and takes up to half a minute"
    assert all(line.endswith(" frames/s)") for line in lines[:2])
    assert compiled == [1]


def test_processes_give_the_same_bytes(folder):
    for jobs in ("1", "2"):
        assert main(["extract", "videos/a.avi", "videos/sub/b.avi", "-o", jobs, "--jobs", jobs, "--quiet"]) == 0
    assert files("1") == files("2") == ["a.avi.npz", "b.avi.npz"]
    assert all(Path("1", name).read_bytes() == Path("2", name).read_bytes() for name in files("1"))


def test_a_video_that_takes_too_long_is_given_up(folder, capsys):
    assert main(["extract", "videos/a.avi", "-o", "out", "--timeout", "0.001"]) == 1
    assert capsys.readouterr().err == "idt: videos/a.avi: not done in 0.001 s, which is the timeout.\n"
    assert files("out") == []


@pytest.mark.parametrize(("flags", "message"), [
    (["--jobs", "0"], "jobs is 0: it must be an integer from 1."),
    (["--timeout", "-1"], "timeout is -1.0: it must be a number of seconds above 0."),
    (["--retries", "-1"], "retries is -1: it must be an integer from 0.")])
def test_wrong_numbers_of_a_run(folder, capsys, flags, message):
    assert main(["extract", "videos", "-o", "out", *flags]) == 2
    assert capsys.readouterr().err == f"idt: {message}\n"


def test_an_unforeseen_error_costs_one_video_and_debug_shows_where(folder, capsys, monkeypatch):
    real = idt.batch.extraction.extract_job

    def broken(job, *arguments, **options):
        if "a.avi" in job.source:
            raise ZeroDivisionError("oops")
        return real(job, *arguments, **options)

    monkeypatch.setattr(idt.batch.extraction, "extract_job", broken)
    arguments = ["extract", "videos/a.avi", "videos/sub/b.avi", "-o", "out", "--quiet", "--jobs", "1"]
    assert main(arguments) == 1
    assert capsys.readouterr().err == "idt: videos/a.avi: unexpected ZeroDivisionError: oops\n"
    assert files("out") == ["b.avi.npz"]
    assert main([*arguments, "--debug"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert "in broken" in err
    assert err.endswith("idt: videos/a.avi: unexpected ZeroDivisionError: oops\n")


def test_an_unforeseen_error_of_a_command_is_one_line(folder, capsys, monkeypatch):
    monkeypatch.setattr(idt.trajectories.extraction, "compile_kernels", lambda: 1 / 0)
    assert main(["info", "--compile"]) == 1
    assert capsys.readouterr() == ("", "idt: unexpected ZeroDivisionError: division by zero (--debug shows where)\n")


def test_debug_shows_where_any_error_arose(folder, capsys):
    assert main(["diff", "none.npz", "none.npz", "--debug"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert err.endswith("idt: none.npz does not exist.\n")


@pytest.mark.slow
def test_damaged_frames_are_said_once(data, tmp_path, capsys):
    source = str(data / "awkward" / "truncated_half.avi")
    command = ["extract", source, "-o", str(tmp_path), "--scales", "1", "--stride", "8"]
    assert main(command) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("idt: warning: ")]
    assert len(lines) == 1
    assert re.search(r"truncated_half\.avi: 1 damaged", lines[0])
    assert main([*command, "--force", "--quiet"]) == 0
    assert capsys.readouterr().err == ""


# ---- the other commands ---------------------------------------------------------------------------------------------

@pytest.fixture
def extracted(folder):
    """A features file: out/a.avi.npz."""
    assert main(["extract", "videos/a.avi", "-o", "out", "--quiet"]) == 0
    return "out/a.avi.npz"


def test_export_to_all_formats(extracted, capsys):
    for to, name in (("text", "a.avi.txt"), ("h5", "a.avi.h5"), ("parquet", "a.avi.parquet")):
        assert main(["export", extracted, "--to", to]) == 0
        assert capsys.readouterr().out == f"out/{name}\n"
    assert files("out") == ["a.avi.h5", "a.avi.npz", "a.avi.parquet", "a.avi.txt"]
    assert main(["export", extracted, "--to", "text", "-o", "a.txt.gz", "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    assert gzip.decompress(Path("a.txt.gz").read_bytes()) == Path("out/a.avi.txt").read_bytes()


def test_export_to_stdout(extracted, capsysbinary):
    assert main(["export", extracted, "--to", "text", "-o", "-"]) == 0
    rows = capsysbinary.readouterr().out.splitlines()
    assert len(rows) == len(Features.load(extracted))
    assert len(rows[0].split(b"\t")) == 437
    assert main(["export", extracted, "--to", "h5", "-o", "-"]) == 2
    assert capsysbinary.readouterr().err.startswith(b"idt: The format h5 needs the path of a file")


def test_diff_of_a_file_and_its_text(extracted, capsys):
    assert main(["export", extracted, "--to", "text", "--quiet"]) == 0
    assert main(["diff", extracted, "out/a.avi.txt"]) == 0
    lines = dict(re.split(r"  +", line, maxsplit=1) for line in capsys.readouterr().out.splitlines() if "  " in line)
    assert lines["identical"] == "no"
    assert lines["matched of A"] == lines["matched of B"] == "100.0000%"
    assert main(["diff", extracted, extracted]) == 0
    assert re.match(r"identical +yes\n", capsys.readouterr().out)


def table(text: str) -> dict[str, str]:
    return dict(re.split(r"  +", line, maxsplit=1) for line in text.splitlines())


def test_info_of_a_features_file(folder, capsys):
    assert main(["extract", "videos/a.avi", "-o", "out", "--stride", "4", "--no-camera", "--quiet"]) == 0
    assert main(["info", "out/a.avi.npz"]) == 0
    lines = table(capsys.readouterr().out)
    rows = len(Features.load("out/a.avi.npz"))
    assert lines["video"] == "a.avi, 96x72, 25.00 frames/s, 20 frames"
    assert lines["processed"] == "frames 0 to 19"
    assert lines["trajectories"] == str(rows)
    assert lines["parameters"] == "stride 4, camera False"
    assert lines["hog"] == f"float16 ({rows}, 96)"
    assert lines["homographies"] == "float64 (20, 3, 3)"


def test_info_of_a_text_and_of_a_file_without_rows(extracted, capsys, pictures):
    assert main(["export", extracted, "--to", "text", "--quiet"]) == 0
    assert main(["info", "out/a.avi.txt"]) == 0
    lines = table(capsys.readouterr().out)
    assert lines["parameters"] == "not in a text file; taken for the standard ones"
    assert lines["trajectories"] == str(len(Features.load(extracted)))
    write_clip(Path("short.avi"), pictures[:5])
    assert main(["extract", "short.avi", "-o", "out", "--quiet"]) == 0
    assert main(["info", "out/short.avi.npz"]) == 0
    lines = table(capsys.readouterr().out)
    assert lines["trajectories"] == f"0: {Features.load('out/short.avi.npz').meta['reason']}"
    assert lines["parameters"] == "standard"


def test_info_of_a_video(folder, capsys):
    assert main(["info", "videos/a.avi"]) == 0
    lines = table(capsys.readouterr().out)
    assert (lines["size"], lines["frames"], lines["frame rate"]) == ("96x72", "20 frames", "25.000 frames/s")
    assert lines["last frame"] == "at 0.760 s"


@pytest.mark.slow
def test_info_of_a_damaged_video(data, capsys):
    assert main(["info", str(data / "awkward" / "truncated_half.avi")]) == 0
    assert table(capsys.readouterr().out)["frames"] == "121 frames, 1 of them damaged (its header says 240)"


def test_info_of_the_machine(folder, capsys):
    idt.trajectories.extraction.compile_kernels()  # what earlier tests have not
    assert main(["info"]) == 0
    lines = table(capsys.readouterr().out)
    assert lines["densetraj"].startswith(f"{idt.__version__} in ")
    assert lines["numpy"] == np.__version__
    assert int(lines["usable cores"]) >= 1
    assert {"Python", "system", "processor", "CUDA", "numba", "av", "h5py"} <= lines.keys()
    assert lines["kernels"] == "compiled"
    assert re.search(r", [0-9]+ files, [0-9.]+ MB$", lines["kernel cache"])


class FakeDriver:
    """What the CUDA driver answers where there are two devices."""

    def cuInit(self, flags):
        return 0

    def cuDeviceGetCount(self, count):
        count._obj.value = 2
        return 0

    def cuDeviceGet(self, device, ordinal):
        device._obj.value = 10 + ordinal
        return 0

    def cuDeviceGetName(self, name, length, device):
        name.value = f"Device {device.value}".encode()
        return 0


def test_info_names_the_cuda_devices(capsys, monkeypatch):
    monkeypatch.setattr("ctypes.CDLL", lambda name: FakeDriver())
    assert main(["info"]) == 0
    assert table(capsys.readouterr().out)["CUDA"] == "Device 10, Device 11"
    monkeypatch.setattr(FakeDriver, "cuInit", lambda self, flags: 100)
    assert main(["info"]) == 0
    assert table(capsys.readouterr().out)["CUDA"] == "a driver, but no usable device"


@pytest.mark.filterwarnings("always::RuntimeWarning")
def test_warnings_of_python_are_lines_one_for_each_place(capsys, monkeypatch):
    def warn():
        for number in range(3):
            warnings.warn(f"warned {number}", RuntimeWarning, stacklevel=1)
        warnings.warn("elsewhere", RuntimeWarning, stacklevel=1)

    monkeypatch.setattr(idt.trajectories.extraction, "compile_kernels", warn)
    shown = warnings.showwarning
    assert main(["info", "--compile"]) == 0
    assert capsys.readouterr().err == "idt: warning: warned 0\nidt: warning: elsewhere\n"
    assert main(["info", "--compile", "--quiet"]) == 0
    assert capsys.readouterr().err == ""
    assert warnings.showwarning is shown


def test_info_compiles(capsys, monkeypatch):
    calls = []
    monkeypatch.setattr(idt.trajectories.extraction, "compile_kernels", lambda: calls.append(1))
    assert main(["info", "--compile"]) == 0
    assert calls == [1]
    assert "kernels" in table(capsys.readouterr().out)


def test_view_draws_a_video_or_a_picture(extracted, capsys, monkeypatch):
    assert main(["view", "videos/a.avi", extracted, "-o", "v.mp4"]) == 0
    assert capsys.readouterr() == ("v.mp4\n", "")
    with frames("v.mp4") as reader:
        assert len(list(reader)) == 20
    assert main(["view", "videos/a.avi", extracted, "-o", "last.png", "--frame", "19", "--quiet"]) == 0
    assert main(["view", "videos/a.avi", "-o", "same.png", "--frame", "19", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert Path("last.png").read_bytes() == Path("same.png").read_bytes()
    assert main(["view", "videos/a.avi", "-o", "more.png", "--frame", "19", "--background", "--quiet"]) == 0
    assert main(["view", "videos/a.avi", extracted, "-o", "more2.png", "--frame", "19", "--background", "--quiet"]) == 0
    assert Path("more.png").read_bytes() == Path("more2.png").read_bytes() != Path("same.png").read_bytes()
    assert files(".") == sorted(["last.png", "same.png", "more.png", "more2.png", "v.mp4", extracted, "videos/a.avi",
                                 "videos/sub/b.avi", "videos/sub/bad.avi"])
    assert main(["view", "videos/a.avi", "--no-camera", "--beside", extracted, "-o", "two.png", "--quiet"]) == 0
    assert cv2.imread("two.png").shape[1] > 2 * cv2.imread("two.png").shape[0]
    written = []
    monkeypatch.setattr(cv2, "putText", lambda picture, text, *rest: written.append(text))
    assert main(["view", "videos/a.avi", "--beside", extracted, "-o", "two.png", "--quiet"]) == 0
    headings = dict.fromkeys(text for text in written if "trajectories" in text)
    assert [heading.partition(", ")[2] for heading in headings] == ["features", extracted]  # not a temporary file


def test_view_draws_the_flow_with_and_without_the_camera(folder, capsys):
    (folder / "p.toml").write_text("stride = 3\nend = 9\n")  # of the method, though without effect on the flow
    assert main(["view", "videos/a.avi", "--colours", "--params", "p.toml", "--flow", "dis", "-o", "f.mp4"]) == 0
    assert capsys.readouterr() == ("f.mp4\n", "")
    shown = [frame.bgr for frame in frames("f.mp4", colour=True)]
    assert len(shown) == 9
    assert shown[0].shape == (536, 3 * 672 + 6, 3)
    assert main(["view", "videos/a.avi", "--colours", "--no-camera", "-o", "f.png", "--frame", "3", "--quiet"]) == 0
    assert cv2.imread("f.png").shape == (535, 2 * 672 + 3, 3)


def test_view_draws_one_trajectory(extracted, capsys):
    assert main(["view", "videos/a.avi", extracted, "--trajectory", "7", "-o", "t.png"]) == 0
    assert capsys.readouterr() == ("t.png\n", "")
    assert cv2.imread("t.png").shape == (970, 1098, 3)
    assert main(["view", "videos/a.avi", "--trajectory", "7", "-o", "same.png", "--quiet"]) == 0
    assert Path("t.png").read_bytes() == Path("same.png").read_bytes()
    assert main(["view", "videos/a.avi", extracted, "--trajectory", "99999", "-o", "t.png"]) == 2
    assert "idt: trajectory is 99999: the rows of the features are from 0 to " in capsys.readouterr().err


def test_demo_makes_extracts_and_draws(folder, capsys, monkeypatch):
    assert main(["demo"]) == 0
    out = capsys.readouterr().out
    assert files("idt-demo") == ["clip.mp4", "clip.mp4.npz", "clip.trajectories.mp4"]
    features = Features.load("idt-demo/clip.mp4.npz")
    assert f"\ntrajectories  {len(features)}, of which at scale\n" in out
    assert "idt extract VIDEO -o features/" in out
    assert len(features) > 1000
    # The camera's own motion is gone: nearly all tracks end where the figures are.
    assert np.mean((features.mean[:, 1] > 60) & (features.mean[:, 1] < 235)) > 0.97
    for name in ("clip.mp4", "clip.trajectories.mp4"):
        with frames(f"idt-demo/{name}") as reader:
            assert len(list(reader)) == 75
    monkeypatch.setattr(sys.modules["idt.cli.demo"], "FRAMES", 18)
    assert main(["demo", "-o", "elsewhere", "--quiet"]) == 0
    assert files("elsewhere") == files("idt-demo")


# ---- in child processes ---------------------------------------------------------------------------------------------

@pytest.fixture
def long_video(folder, pictures):
    """A video whose extraction takes some seconds."""
    return write_clip(folder / "long.avi", np.tile(np.tile(pictures, (1, 3, 3)), (15, 1, 1)))


def test_without_a_terminal_a_line_now_and_then_tells_how_far_all_is(folder, capsys, monkeypatch):
    shutil.copy("videos/a.avi", "videos/c.avi")
    Path("videos/sub/bad.avi").unlink()
    assert main(["extract", "videos/c.avi", "-o", "out", "--quiet"]) == 0
    monkeypatch.setattr(idt.cli.progress, "_MINUTE", 0.0)
    assert main(["extract", "videos", "-o", "out", "--jobs", "1"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "idt: 0 of 3 videos"
    told = [re.fullmatch(r"idt: (\d) of 3 videos, [0-9.]+ s left, [0-9.]+ frames/s, (\d+) of about (\d+) frames", line)
            for line in lines if "of about" in line]
    counts = [tuple(map(int, line.groups())) for line in told]
    # Of three videos of 20 frames one is skipped, which is not known until its turn comes.
    assert [(done, processed) for done, processed, _ in counts if processed % 20] == [
        *((0, n) for n in range(1, 20)), *((2, n) for n in range(21, 40))]
    assert abs(counts[0][2] - 60) < 3
    assert counts[-1] == (3, 40, 40)


def spooled() -> bool:
    """Whether some process holds a file in the folder of the results that has no name, or not its own yet."""
    for entry in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):  # it has ended, or is closed
            name = os.readlink(entry)
            if name.startswith(f"{os.getcwd()}/out/") and not re.search(r"\.jsonl|\.idt-claims", name):
                return True
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="open files are seen in /proc")
@pytest.mark.parametrize("text", [[], ["--text"]], ids=["npz", "text"])
def test_an_interrupt_leaves_nothing_half_written(long_video, text):
    process = subprocess.Popen([*IDT, "extract", "long.avi", "videos/a.avi", "-o", "out", *text], text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until(spooled, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out, err) == (130, "", "idt: interrupted\n")
    assert files("out") == []


def test_a_full_disk_is_one_line_and_leaves_nothing(folder):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    for arguments in (["extract", "videos/a.avi", "-o", "out"], ["extract", "videos/a.avi", "-o", "out", "--text"]):
        result = child(*arguments, preexec_fn=limit)
        assert (result.returncode, result.stdout) == (1, "")
        assert re.fullmatch(r"idt: \S+ cannot be written: File too large\.\n", result.stderr)
        assert files("out") == []


def test_stdout_that_is_full_is_one_line(extracted):
    with open("/dev/full", "w") as full:
        result = subprocess.run([*IDT, "export", extracted, "--to", "text", "-o", "-"], stdout=full, text=True,
                                stderr=subprocess.PIPE, timeout=PATIENCE_S)
    assert result.returncode == 1
    assert result.stderr == "idt: stdout cannot be written: No space left on device.\n"


def test_a_reader_that_goes_away_is_not_an_error(extracted):
    Features.load(extracted)[np.zeros(2000, int)].save("many.npz")
    with subprocess.Popen([*IDT, "export", "many.npz", "--to", "text", "-o", "-"], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as process:
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(PATIENCE_S) == 141


def test_the_bar_is_shown_on_a_terminal_only(folder):
    terminal, end = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen([*IDT, "extract", "videos", "-o", "out"], stdout=subprocess.PIPE, stderr=end,
                               env=environment)
    os.close(end)
    shown = b""
    while True:
        try:
            block = os.read(terminal, 4096)
        except OSError:  # the other end is closed
            break
        if not block:
            break
        shown += block
    os.close(terminal)
    assert process.wait(PATIENCE_S) == 1
    assert process.stdout.read() == b""
    process.stdout.close()
    text = shown.decode()
    assert "frames/s" in text
    assert "3 of 3 videos" in text
    assert "1 failed" in text
    assert "idt: videos/sub/bad.avi: not a video" in text
    result = child("extract", "videos", "-o", "out2", "--jobs", "1")
    assert "\x1b" not in result.stderr
    assert " of 3 videos" not in result.stderr


@pytest.mark.usefixtures("one_core")
def test_the_failed_of_many_videos_are_listed_at_the_end(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("videos").mkdir()
    names = [f"videos/{n:02}.avi" for n in range(21)]
    for name in names:
        Path(name).touch()
    assert main(["extract", "videos", "-o", "out"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[-23:] == ["0 done, 21 failed; the files are in out", "failed:", *(f"  {name}" for name in names)]
