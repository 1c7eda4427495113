"""The command idt flow: text, exit codes and files, what is done again, and interrupts, kills and full disks."""

from __future__ import annotations

import dataclasses
import os
import pty
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import write_clip

import idt.batch
import idt.flow.devices
import idt.video_flow
from idt._util.fields import flag_name
from idt.cli import main
from idt.errors import DeviceError
from idt.flow.files import open_flows
from idt.flow.tvl1 import PRESETS, TVL1Params
from idt.runner.jobs import Workers
from idt.runner.log import NAME
from idt.video_flow.files import read_meta, write_flow
from idt.video_flow.params import FlowParams
from synthetic import pan
from waiting import PATIENCE_S, until

IDT = [sys.executable, "-c", "import sys; from idt.cli import main; sys.exit(main())"]
QUICK = ["--method", "farneback"]


@pytest.fixture(scope="session")
def pictures():
    return pan((2.0, 1.0), frames=10).frames


@pytest.fixture(scope="session", autouse=True)
def _kernels():
    """Compile first: messages and limits of the tests are those of a second run."""
    idt.video_flow.pairs.compile_kernels()


@pytest.fixture
def folder(tmp_path, monkeypatch, pictures):
    """The working folder, with the videos a.avi, sub/b.avi and, which is none, sub/bad.avi in videos/."""
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "videos" / "a.avi", pictures)
    write_clip(tmp_path / "videos" / "sub" / "b.avi", pictures[::-1])
    (tmp_path / "videos" / "sub" / "bad.avi").write_bytes(b"no video" * 100)
    return tmp_path


def files(path: str | Path) -> list[str]:
    """All files but the report and empty folders below a folder, hidden ones too."""
    return sorted(p.relative_to(path).as_posix() for p in Path(path).rglob("*")
                  if p.name != NAME and (not p.is_dir() or not any(p.iterdir())))


def images(video: str, count: int) -> list[str]:
    return [f"{video}/flow_{axis}_{n:05d}.jpg" for axis in "xy" for n in range(1, count + 1)] + [f"{video}/meta.json"]


def contents(path: str | Path) -> dict[str, bytes]:
    return {name: (Path(path) / name).read_bytes() for name in files(path) if (Path(path) / name).is_file()}


def child(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*IDT, *arguments], capture_output=True, text=True, timeout=PATIENCE_S, **options)


# ---- usage ----------------------------------------------------------------------------------------------------------

def test_help_lists_every_parameter(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    assert main(["--help"]) == 0
    assert re.search(r"│ flow +Write the optical flow of videos", capsys.readouterr().out)
    assert main(["flow", "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    fields = [f for kind in (FlowParams, TVL1Params) for f in dataclasses.fields(kind) if "text" in f.metadata]
    assert len(fields) == 27
    for f in fields:
        (line,) = [text for text in lines if re.match(rf"│ +{flag_name(f)} ", text)]
        assert f.metadata["unit"] in line
        assert "default: " in line
    assert any("--lambda X" in line for line in lines)
    assert any(re.search(r"--median N .*\[1, 3, 5; default: 1\]", line) for line in lines)


@pytest.mark.parametrize(("arguments", "message"), [
    (["videos"], r"parameter --output requires an argument"),
    (["videos", "-o", "out", "--stepp", "2"], r"Unknown option: --stepp\. Did you mean --step\?"),
    (["videos", "-o", "out", "--step", "0"], r"step is 0: it must be from 1 to 1000000\.$"),
    (["videos", "-o", "out", "--method", "lucas"], r"method is 'lucas': allowed are tvl1, farneback, dis, deepflow\.$"),
    (["videos", "-o", "out", "--tau", "3"], r"tau is 3\.0: it must be above 0, at most 1\.$"),
    (["videos", "-o", "out", "--median", "4"], r"median is 4: allowed are 1, 3, 5\.$"),
    (["videos", "-o", "out", *QUICK, "--tau", "0.2"], r"method is farneback, but numbers of tvl1 are given, which"),
    (["videos", "-o", "out", *QUICK, "--preset", "accurate"], r"method is farneback, but a preset is given, which"),
    (["videos", "-o", "out", "--stack", "10"], r"stack is 10, but format is jpg: stacks are arrays, format npz"),
    (["videos", "-o", "out", "--params", "p.toml"], r"p\.toml: the parameter file cannot be read"),
    (["videos", "-o", "out", "--device", "tpu"], r"device is 'tpu': allowed are cpu, auto, cuda, "),
    (["videos", "-o", "out", *QUICK, "--device", "cuda"], r"device is 'cuda', but farneback runs on the CPU alone"),
    (["videos", "-o", "out.h5"], r"output is out\.h5: give a folder; what goes into it is named after the videos, such "
                                 r"as clip\.avi\.$"),
    (["videos/a.avi", "videos/a.avi", "-o", "out"], r"videos/a\.avi is given twice\.$"),
    (["videos", "-o", "out", "--threads", "0"], r"threads is 0: it must be at least 1\.$"),
])
def test_wrong_usage_is_one_line_and_exit_code_2(folder, capsys, arguments, message):
    before = files(".")
    assert main(["flow", *arguments]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("idt: ")
    assert re.search(message, err[:-1])
    assert files(".") == before


@pytest.mark.parametrize(("arguments", "message"), [
    (["none.avi", "-o", "out"], r"^idt: none\.avi: there is no such file or folder\.$"),
    (["v/*.avi", "-o", "out"], r"^idt: v/\*\.avi: nothing matches\.$"),
    (["videos/a.avi", "-o", "videos/a.avi"], r"^idt: videos/a\.avi is not a folder: give"),
    (["videos/a.avi", "-o", "videos"], r"^idt: videos/a\.avi cannot be written: it is not a folder\.$"),
    (["videos/a.avi", "-o", "taken"], r"^idt: taken/a\.avi cannot be written: there is a folder of that name with "
                                      r"other things in it; move it away or choose another output\.$"),
])
def test_what_cannot_be_used_is_one_line_and_exit_code_1(folder, capsys, arguments, message):
    Path("taken/a.avi").mkdir(parents=True)
    Path("taken/a.avi/notes.txt").write_text("mine")
    before = contents(".")
    assert main(["flow", *arguments, *QUICK]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert re.search(message, err[:-1])
    assert contents(".") == before


# ---- results --------------------------------------------------------------------------------------------------------

def test_a_folder_is_done_what_is_bad_passed_over_and_the_rest_skipped(folder, capsys):
    arguments = ["flow", "videos", "-o", "out", *QUICK]
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    lines = [*sorted(err.splitlines()[:3], key=lambda line: line.removeprefix("idt: ")), *err.splitlines()[3:]]
    said = r"9 flows, 10 frames in [0-9.]+ s \([0-9.]+ pairs/s\)"
    assert re.fullmatch(rf"videos/a\.avi: {said}", lines[0])
    assert re.fullmatch(rf"videos/sub/b\.avi: {said}", lines[1])
    assert lines[2].startswith("idt: videos/sub/bad.avi: not a video")
    assert re.fullmatch(r"2 done, 1 failed; the files are in out \(20 frames, [0-9.]+ KB in [0-9.]+ s\)", lines[3])
    assert len(lines) == 4
    assert files("out") == sorted(images("a.avi", 9) + images("sub/b.avi", 9))
    before = contents("out")
    stamps = {name: Path("out", name).stat().st_mtime_ns for name in before}

    Path("videos/sub/bad.avi").unlink()
    arguments += ["--jobs", "1"]
    for more in ([], ["--verify"], ["--threads", "1"]):
        assert main([*arguments, *more]) == 0
        assert capsys.readouterr().err == "0 done, 2 skipped (done before); the files are in out\n"
    assert {name: Path("out", name).stat().st_mtime_ns for name in before} == stamps

    Path("out/a.avi/flow_y_00004.jpg").unlink()
    assert main(arguments) == 0
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("1 done, 1 skipped (done before); the files are in out (")
    assert contents("out") == before
    assert main([*arguments, "--force", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert contents("out") == before
    assert main([*arguments, "--step", "2"]) == 0
    assert capsys.readouterr().err.splitlines()[-1].startswith("2 done; the files are in out (")
    assert files("out") == sorted(images("a.avi", 8) + images("sub/b.avi", 8))


def test_the_files_are_what_the_library_writes(folder):
    flags = ["--rgb", "--difference", "--direction", "both", "--naming", "denseflow", "--bound", "10", "--warps", "2"]
    assert main(["flow", "videos/a.avi", "-o", "out", *flags, "--short-side", "36", "--quiet"]) == 0
    write_flow("videos/a.avi", "expected", FlowParams(rgb=True, difference=True, direction="both", naming="denseflow",
                                                      bound=10.0, short_side=36, tvl1={"warps": 2}))
    assert contents("out/a.avi") == contents("expected")
    assert {"img_00000.jpg", "img_00009.jpg", "diff_00008.jpg", "back_x_00000.jpg"} <= set(files("expected"))


def test_flags_override_the_file_of_parameters(folder):
    Path("p.toml").write_text('preset = "accurate"\nstep = 3\nrgb = true\nformat = "flo"\n'
                              "[tvl1]\nwarps = 1\nlambda = 0.2\n")
    assert main(["flow", "videos/a.avi", "-o", "out", "--params", "p.toml", "--step", "2", "--no-rgb", "--theta",
                 "0.25", "--lambda", "0.1", "--quiet"]) == 0
    meta = read_meta("out/a.avi")
    numbers = dataclasses.replace(PRESETS["accurate"], warps=1, theta=0.25, lambda_=0.1)
    assert meta["params"] == FlowParams(preset="accurate", step=2, format="flo", tvl1=numbers).to_dict()
    assert meta["counts"] == {"flow": 8}


@pytest.mark.parametrize("form", ["npz", "h5"])
def test_files_of_arrays(folder, capsys, form):
    assert main(["flow", "videos/a.avi", "-o", "out", *QUICK, "--format", form, "--stack", "4", "--every", "3"]) == 0
    assert re.match(r"videos/a\.avi: 2 stacks of 4 flows, 10 frames in ", capsys.readouterr().err)
    assert files("out") == [f"a.avi.{form}"]
    with open_flows(f"out/a.avi.{form}") as flows:
        assert (flows.counts, flows[1].shape) == ({"stack": 2}, (72, 96, 8))
    assert main(["flow", "videos/a.avi", "-o", "out", *QUICK, "--format", form, "--stack", "4", "--every", "3"]) == 0
    assert "1 skipped" in capsys.readouterr().err


@pytest.mark.usefixtures("one_core")
def test_a_folder_of_images_and_a_list(folder, pictures):
    Path("images/one").mkdir(parents=True)
    for n, picture in enumerate(pictures):
        cv2.imwrite(f"images/one/{n}.png", picture)
    Path("list.txt").write_text("images/one\nvideos/a.avi\n")
    assert main(["flow", "@list.txt", "-o", "out", *QUICK, "--format", "flo"]) == 0
    assert [name for name in files("out") if "00001" in name] == ["a.avi/flow_00001.flo", "one/flow_00001.flo"]
    with open_flows("out/one") as flows:
        np.testing.assert_array_equal(flows[2], idt.flow.compute(pictures[2], pictures[3], method="farneback"))


@pytest.mark.parametrize(("more", "said"), [
    (["--end", "0"], r"0 flows \(too short: 1 frame was processed, a pair needs 2\), 1 frame in [0-9.]+ s \(0\.0 "),
    (["--direction", "both"], r"9 flows \(forward and backward\), 10 frames in "),
    (["--bound", "1"], r"9 flows \([0-9.]+% beyond the bound and clipped\), 10 frames in "),
    (["--warped", "--start", "8"], r"1 flow, 2 frames in "),
])
def test_what_the_line_says(folder, capsys, more, said):
    assert main(["flow", "videos/a.avi", "-o", "out", *QUICK, *more]) == 0
    assert re.match(rf"videos/a\.avi: {said}", capsys.readouterr().err)


def test_pairs_without_a_homography_are_said(folder, capsys):
    write_clip(Path("blank.avi"), np.full((3, 64, 64), 128, np.uint8))
    assert main(["flow", "blank.avi", "-o", "out", *QUICK, "--warped"]) == 0
    said = capsys.readouterr().err
    assert said.startswith("blank.avi: 2 flows (no homography was found for 2 pairs), 3 frames in ")


def test_the_first_run_says_that_kernels_are_compiled(folder, capsys, monkeypatch):
    monkeypatch.setattr(idt.video_flow.pairs, "kernels_cached", lambda params, device: False)
    assert main(["flow", "videos/a.avi", "-o", "out", *QUICK]) == 0
    first, second, _ = capsys.readouterr().err.splitlines()
    assert first == "idt: compiling the kernels; this happens once and takes up to half a minute"
    assert second.endswith(" s (compilation included)")
    assert main(["flow", "videos/a.avi", "-o", "out", *QUICK]) == 0
    assert "compil" not in capsys.readouterr().err


def test_kernels_of_each_method_are_known(monkeypatch):
    monkeypatch.setattr("idt.video_flow.pairs.is_cached", lambda kernel: kernel.__name__ != "_relax")
    assert not idt.video_flow.pairs.kernels_cached(FlowParams())
    assert idt.video_flow.pairs.kernels_cached(FlowParams(method="farneback", warped=True))
    monkeypatch.setattr("idt.video_flow.pairs.is_cached", lambda kernel: kernel.__name__ != "_warp")
    assert not idt.video_flow.pairs.kernels_cached(FlowParams(method="dis", warped=True))
    assert idt.video_flow.pairs.kernels_cached(FlowParams(method="dis"))


def test_an_estimate_writes_nothing(folder, capsys):
    assert main(["flow", "videos", "-o", "out", *QUICK, "--estimate", "--jobs", "2", "--threads", "2"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[:4] == ["videos  3, 1 of them cannot be read", "frames  20 by their headers", "pairs   18",
                         "files   38"]
    assert re.fullmatch(r"time    [0-9.]+ s on this machine \(cpu, 2 processes of 2 threads\), [0-9.e+]+ pairs/s",
                        lines[4])
    kilobytes = re.fullmatch(r"disk    ([0-9.]+) KB", lines[5])[1]
    assert 38 * 4.096 <= float(kilobytes) <= 300  # a block for each file, or a little more
    assert re.fullmatch(r"Time and disk are estimates from \d+ pairs; nothing was written\.", lines[6])
    assert files(".") == ["videos/a.avi", "videos/sub/b.avi", "videos/sub/bad.avi"]
    assert main(["flow", "videos/sub/bad.avi", "-o", "out", *QUICK, "--estimate"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "frames  0 by their headers", "pairs   0", "files   0",
        "Time and disk are estimates from 0 pairs; nothing was written."]


def table(text: str) -> dict[str, str]:
    return dict(re.split(r"  +", line, maxsplit=1) for line in text.splitlines())


def test_info_of_flow(folder, capsys):
    assert main(["flow", "videos/a.avi", "-o", "out", "--step", "2", "--rgb", "--warped", "--theta", "0.2", "--bound",
                 "1", "--quiet"]) == 0
    assert main(["info", "out/a.avi"]) == 0
    lines = table(capsys.readouterr().out)
    assert re.fullmatch(r"out/a\.avi, [0-9.]+ KB, 27 files", lines["flow"])
    assert lines["video"] == "a.avi, 25.00 frames/s, 10 frames"
    assert (lines["size"], lines["processed"]) == ("96x72", "10 frames, 8 pairs")
    assert lines["camera"] == "taken out of 8 pairs"
    assert (lines["warped"].split(",")[0], lines["image"]) == ("8", "10")
    assert lines["parameters"] == "step 2, warped True, rgb True, bound 1.0, theta 0.2"
    for form in ("npz", "h5"):
        assert main(["flow", "videos/a.avi", "-o", "out", "--end", "0", "--quiet", "--preset", "accurate", "--format",
                     form]) == 0
        assert main(["info", f"out/a.avi.{form}"]) == 0
        lines = table(capsys.readouterr().out)
        assert lines["processed"] == "1 frame, 0 pairs: too short: 1 frame was processed, a pair needs 2"
        assert lines["parameters"] == f"preset accurate, end 0, format {form}"
    Path("out/a.avi/warp_x_00003.jpg").unlink()
    assert main(["info", "out/a.avi"]) == 1
    assert capsys.readouterr().err == ("idt: out/a.avi is incomplete: warp_x_00003 is missing of 8 files of its kind; "
                                       "make it again.\n")


# ---- in child processes ---------------------------------------------------------------------------------------------

@pytest.fixture
def long_video(folder, pictures):
    """A video whose flow takes some seconds."""
    return write_clip(folder / "long.avi", np.tile(np.tile(pictures, (1, 3, 3)), (20, 1, 1)))


def started(*arguments: str) -> subprocess.Popen[str]:
    """Start the command and return when it has written ten images of its first video."""
    process = subprocess.Popen([*IDT, "flow", *arguments, "-o", "out", *QUICK], text=True, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
    until(lambda: len(list(Path().glob("out/.idt-*.tmp/*"))) > 10, process)
    return process


@pytest.mark.parametrize("threads", ["1", "2"])
def test_an_interrupt_leaves_nothing_half_written(long_video, threads):
    process = started("long.avi", "videos/a.avi", "--threads", threads)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (130, "")
    assert re.fullmatch(r"(videos/a\.avi: .*\n)?idt: interrupted\n", err)  # that one may be done by then
    assert files("out") in ([], images("a.avi", 9))


def test_a_killed_run_is_resumed_as_if_nothing_had_been(long_video, capsys):
    assert main(["flow", "videos/a.avi", "long.avi", "-o", "whole", *QUICK, "--jobs", "1", "--quiet"]) == 0
    process = started("long.avi", "videos/a.avi")
    process.kill()
    process.communicate()
    assert {re.sub(r"\.idt-.*\.(tmp|lock)", "unfinished", name) for name in os.listdir("out")} <= {
        "a.avi", NAME, f".{NAME}.lock", "unfinished", ".idt-claims"}
    assert main(["flow", "long.avi", "videos/a.avi", "-o", "out", *QUICK]) == 0
    assert re.search(r"\n(2 done|1 done, 1 skipped .*); the files are in out.*\n$", capsys.readouterr().err)
    assert contents("out") == contents("whole")


def test_two_runs_at_once_do_not_take_each_others_folders(long_video):
    process = started("long.avi")
    process.send_signal(signal.SIGSTOP)  # so that it does not end before the other
    assert main(["flow", "videos/a.avi", "-o", "out", *QUICK, "--quiet"]) == 0
    process.send_signal(signal.SIGCONT)
    assert process.communicate(timeout=PATIENCE_S)[0] == ""
    assert process.returncode == 0
    assert sorted(os.listdir("out")) == ["a.avi", "long.avi", "report-2.jsonl", NAME]
    assert read_meta("out/long.avi")["counts"] == {"flow": 199}


@pytest.mark.parametrize("form", ["png", "npz", "h5"])
def test_a_full_disk_is_one_line_and_leaves_nothing(folder, form):
    limit = 200 if form == "png" else 100_000
    result = child("flow", "videos/a.avi", "-o", "out", *QUICK, "--format", form,
                   preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    assert (result.returncode, result.stdout) == (1, "")
    assert re.fullmatch(r"idt: out/a\.avi\S* cannot be written: File too large\.\n"
                        r"(idt: warning: out/report.jsonl cannot be written .*\n)?", result.stderr)
    assert files("out") == []


def test_the_bar_is_shown_on_a_terminal_only(long_video):
    terminal, end = pty.openpty()
    process = subprocess.Popen([*IDT, "flow", "long.avi", "videos", "-o", "out", *QUICK], stdout=subprocess.PIPE,
                               stderr=end, env={**os.environ, "TERM": "xterm", "COLUMNS": "120"})
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
    assert re.search(r"\d+\.\d pairs/s", text)
    assert "4 of 4 videos" in text
    assert "trajectories" not in text
    assert "idt: videos/sub/bad.avi: not a video" in text


# Several GPUs


@pytest.mark.parametrize(("arguments", "jobs"), [
    (["--device", "cuda"], 6), (["--device", "cuda:2,0"], 8), (["--device", "auto"], 8),
    (["--device", "auto", *QUICK], 8), (["--device", "cuda:0,1", "--jobs", "1"], 1), ([], 8)])
def test_six_processes_on_each_gpu_by_default(folder, monkeypatch, arguments, jobs):
    asked = []

    def flow_videos(*_, device, workers, **__):
        asked.append((device, workers.jobs))
        raise DeviceError("that is enough.")

    for n in range(9):
        Path(f"videos/{n}.avi").write_bytes(b"video")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    monkeypatch.setattr(idt.flow.devices, "_count", lambda: 3)
    monkeypatch.setattr(idt.flow.devices, "_check", lambda number: None)
    monkeypatch.setattr(idt.batch, "flow_videos", flow_videos)
    assert main(["flow", "videos", "-o", "out", *arguments]) == 1
    assert asked == [("cpu" if not arguments else arguments[1], jobs)]


@pytest.mark.parametrize(("workers", "number", "device"), [
    (Workers(jobs=2), 0, "cuda:2"), (Workers(jobs=2), 1, "cuda:0"), (Workers(jobs=2), 4, "cuda:2"),
    (Workers(jobs=1, timeout=60), 0, "cuda:2,0"), (Workers(jobs=2), None, "cuda:2,0"), (None, None, "cuda:2,0")])
def test_each_process_has_one_gpu(folder, monkeypatch, workers, number, device):
    """The work on a video, as the process of a number does it."""
    used = []
    monkeypatch.setattr(idt.flow.devices, "_sharing", 1)
    monkeypatch.setattr(idt.flow.devices, "_count", lambda: 3)
    monkeypatch.setattr(idt.flow.devices, "_check", lambda number: None)
    monkeypatch.setattr(idt.video_flow.files, "check_usable", lambda params, device: None)
    monkeypatch.setattr(idt.video_flow.files, "write_flow", lambda *_, device, **__: used.append(device))
    monkeypatch.setattr(idt.batch.flow, "rank", lambda: number)
    monkeypatch.setattr(idt.batch.flow, "run", lambda jobs, work, output, **_: work(jobs[0], None))
    idt.batch.flow_videos("videos/a.avi", "out", device="cuda:2,0", workers=workers)
    assert used == [device]


@pytest.mark.parametrize(("workers", "device"), [(Workers(jobs=2), "cuda:1"), (None, "cuda:1"),
                                                 (Workers(backend="dask"), "auto")])
def test_auto_is_settled_before_processes_of_this_machine_begin(folder, monkeypatch, caplog, workers, device):
    """Each machine of a cluster has GPUs of its own."""
    def check(number):
        if number == 0:
            raise DeviceError("The GPU cuda:0 cannot be used.")

    used = []
    idt.flow.devices._warn_once.cache_clear()
    monkeypatch.setattr(idt.flow.devices, "_count", lambda: 2)
    monkeypatch.setattr(idt.flow.devices, "_check", check)
    monkeypatch.setattr(idt.batch.flow, "run", lambda jobs, work, output, **_: used.append(work.keywords["device"]))
    with caplog.at_level("WARNING", "idt"):
        idt.batch.flow_videos("videos/a.avi", "out", device="auto", workers=workers)
    assert used == [device]
    assert [record.getMessage() for record in caplog.records] == [
        "device is auto, which does without a GPU: The GPU cuda:0 cannot be used."]
