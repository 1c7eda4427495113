"""The command under faults, in real processes: kills, crashes, hangs, full and closed disks, Ctrl-C, two runs at once.

After each the files that are there are those of an undisturbed run, nothing hidden and no process is left, and
``idt status`` tells what happened.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from clips import write_clip
from odd_jobs import alive

import idt.trajectories.extraction
import idt.video_flow
from idt.cli import main
from idt.runner.log import NAME, read_status
from idt.video_flow.files import read_meta
from synthetic import pan
from waiting import PATIENCE_S, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are seen in /proc")

IDT = [sys.executable, "-c", "import sys; from idt.cli import main; sys.exit(main())"]
QUICK = ["--length", "5", "--no-camera", "--stride", "8"]
_RUNS: list[subprocess.Popen[str]] = []
FLAGS = {"extract": QUICK, "flow": ["--method", "farneback"]}

# The same command, but for what decoding a video of a certain name does after some pictures, in whatever process: a
# process of the run imports this file, too. As long as there is a file hold-decoding, decoding some videos waits, and
# with hold-writing each file when it is written but does not have its name yet; who waits tells so.
STRANGE = """
import os, signal, sys, time
import idt.video

whole, fsync = idt.video._VideoFile.__iter__, os.fsync

def wait(place, name):
    if os.path.exists(f"hold-{place}"):
        open(f"holds-{name}-{os.getpid()}", "x").close()
        while os.path.exists(f"hold-{place}"):
            time.sleep(0.02)

def late(handle):
    wait("writing", f"file{os.getpid()}")
    fsync(handle)

def pictures(self):
    for number, picture in enumerate(whole(self)):
        if number == 12 and "crash" in self.name:
            os.kill(os.getpid(), signal.SIGSEGV)
        if number == 12 and "hang" in self.name:
            time.sleep(1000)
        if number == 12 and "deaf" in self.name:  # as all are while they compute
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if number == 12 and ("held" in self.name or "deaf" in self.name):
            wait("decoding", os.path.basename(self.name))
        yield picture

idt.video._VideoFile.__iter__, os.fsync = pictures, late
if __name__ == "__main__":
    from idt.cli import main
    sys.exit(main())
"""


@pytest.fixture(scope="session")
def pictures() -> np.ndarray:
    """20 frames that pan there and back, over which they can be repeated."""
    there = pan((1.5, -0.75), frames=11).frames
    return np.concatenate([there, there[-2:0:-1]])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder, in which the kernels are compiled, and the command whose videos may be strange."""
    idt.trajectories.extraction.compile_kernels()
    idt.video_flow.pairs.compile_kernels()
    monkeypatch.chdir(tmp_path)
    Path("strange.py").write_text(STRANGE)
    yield tmp_path
    for run in _RUNS:
        for process in alive(run.pid):
            os.kill(process, signal.SIGKILL)
        run.communicate()
    _RUNS.clear()


@pytest.fixture
def small(folder: Path, pictures: np.ndarray) -> dict[str, bytes]:
    """Small videos, v/ in the working folder, of which the first two are held; the files of an undisturbed run."""
    for number, name in enumerate(("0held", "1held", "2", "3", "4", "5")):
        write_clip(Path(f"v/{name}.avi"), np.roll(np.tile(pictures, (2 if "held" in name else 1, 1, 1)), number, 0))
    return undisturbed("v")


def undisturbed(videos: str) -> dict[str, bytes]:
    """Extract in this process; return what was made."""
    assert main(["extract", videos, "-o", "whole", *QUICK, "--jobs", "1", "--quiet"]) == 0
    return made("whole")


def made(output: str | Path = "out") -> dict[str, bytes]:
    """Return the files below a folder but the reports, hidden ones too, with their contents."""
    return {path.relative_to(output).as_posix(): path.read_bytes() for path in Path(output).rglob("*")
            if not re.fullmatch(r"report(-\d+)?\.jsonl", path.name) and not path.is_dir()}


def started(program: list[str], command: str, *arguments: str) -> subprocess.Popen[str]:
    """Start the command in a session of its own, of which nothing remains after the test."""
    _RUNS.append(subprocess.Popen([*program, command, *arguments], text=True, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, start_new_session=True))
    return _RUNS[-1]


def strange(command: str, *arguments: str, videos: str = "v") -> subprocess.Popen[str]:
    return started([sys.executable, "strange.py"], command, videos, "-o", "out", *FLAGS[command], *arguments)


def held() -> dict[str, int]:
    """Return the processes that hold a video, by its name."""
    return {name: int(process) for _, name, process in (path.name.split("-") for path in Path().glob("holds-*"))}


def lines(output: str | Path = "out") -> list[dict]:
    """Return what the reports of a folder tell of videos."""
    told = [json.loads(line) for path in sorted(Path(output).glob("report*.jsonl"))
            for line in path.read_text().splitlines()]
    return [line for line in told if "video" in line]


def status(capsys: pytest.CaptureFixture[str], output: str = "out") -> list[str]:
    """Return what idt status tells, but for times and sizes."""
    capsys.readouterr()
    assert main(["status", output]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    text = re.sub(r"begun \S+; it", "begun T; it", re.sub(r"after [0-9.]+ s", "after S", told.out))
    return [line for line in text.splitlines() if not line.startswith("results")]


def finished(expected: dict[str, bytes], capsys: pytest.CaptureFixture[str], *, done: int,
             command: str = "extract") -> None:
    """Run once more, which does what is left of the six videos: then all is as if nothing had been."""
    capsys.readouterr()
    assert main([command, "v", "-o", "out", *FLAGS[command], "--jobs", "1"]) == 0
    told = f"{done} done" + (f", {6 - done} skipped (done before)" if done < 6 else "")
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"{told}; ")
    assert made() == expected
    assert [name for name in os.listdir("out") if name.startswith(".")] == []
    assert status(capsys)[0] == f"last run  6 videos, 1 process, begun T; it ended after S: {told}, 0 failed"
    assert status(capsys)[1] == "all runs  6 videos done, 0 failed"


# ---- kills ----------------------------------------------------------------------------------------------------------

@pytest.mark.slow
def test_a_run_that_is_killed_at_any_moment_goes_on_as_if_nothing_had_been(folder, pictures, capsys):
    for number in range(8):
        write_clip(Path(f"v/{number}.avi"), np.roll(np.tile(pictures, (10 if number < 2 else 4, 1, 1)), number, 0))
    arguments = ("extract", "v", *QUICK, "--jobs", "2")
    began = time.monotonic()
    assert subprocess.run([*IDT, *arguments, "-o", "whole", "--quiet"]).returncode == 0
    duration = time.monotonic() - began
    expected = made("whole")
    assert len(expected) == 8
    chance = random.Random(5)
    moments = [(number + chance.random()) / 10 * duration for number in range(10)]
    chance.shuffle(moments)
    runs = []
    for moment in moments:
        runs.append(started(IDT, *arguments, "-o", "out"))
        time.sleep(moment)
        runs[-1].kill()
        runs[-1].communicate()
        there = {name for name in os.listdir("out") if name.endswith(".npz")} if Path("out").exists() else set()
        assert {name: Path("out", name).read_bytes() for name in there} == {name: expected[name] for name in there}
        if Path("out", NAME).exists():
            assert [run.running for run in read_status("out").runs] == [False]
        for name in sorted(there)[1:]:  # or there would be nothing left to do for the later ones
            Path("out", name).unlink()
    assert -signal.SIGKILL in [run.returncode for run in runs]
    last = started(IDT, *arguments, "-o", "out")
    assert last.communicate()[0] == ""
    assert last.returncode == 0
    assert made() == expected
    assert [name for name in os.listdir("out") if name.startswith(".")] == []
    for run in (*runs, last):
        until(lambda: not alive(run.pid))  # noqa: B023
    assert status(capsys)[0].startswith("last run  8 videos, 2 processes, begun T; it ended after S: ")
    assert status(capsys)[1:] == ["all runs  8 videos done, 0 failed"]


DIED = "v/0held.avi: the process that worked on it died (signal 9, Killed; perhaps memory was short)."


@pytest.mark.parametrize("retries", [0, 1])
def test_a_process_that_is_killed_costs_its_own_video(small, capsys, retries):
    Path("hold-decoding").touch()
    run = strange("extract", "--jobs", "2", "--retries", str(retries))
    until(lambda: len(held()) == 2, run)
    assert status(capsys) == ["last run  6 videos, 2 processes, begun T; it is going on: 0 done, 0 failed",
                              "all runs  0 videos done, 0 failed"]
    os.kill(held()["0held.avi"], signal.SIGKILL)
    Path("hold-decoding").unlink()
    out, err = run.communicate(timeout=PATIENCE_S)
    assert (run.returncode, out) == (1 - retries, "")
    until(lambda: not alive(run.pid))
    told = [line for line in err.splitlines() if not line.startswith("v/")]
    states = Counter((line["video"], line["status"], line["reason"]) for line in lines())
    if retries:
        assert [line.partition(";")[0] for line in told] == ["6 done"]
        assert set(states.values()) == {1}
        assert {state for _, state, _ in states} == {"done"}
        assert status(capsys) == ["last run  6 videos, 2 processes, begun T; it ended after S: 6 done, 0 failed",
                                  "all runs  6 videos done, 0 failed"]
        assert made() == small
        return
    assert [line.partition(";")[0] for line in told] == [f"idt: {DIED.partition(';')[0]}", "5 done, 1 failed"]
    assert told[0] == f"idt: {DIED}"
    assert states == Counter([("v/0held.avi", "failed", DIED), *((f"v/{name[:-4]}", "done", None) for name in small
                                                                 if name != "0held.avi.npz")])
    assert status(capsys) == ["last run  6 videos, 2 processes, begun T; it ended after S: 5 done, 1 failed",
                              "all runs  5 videos done, 1 failed", f"failed    {DIED}"]
    assert made() == {name: content for name, content in small.items() if name != "0held.avi.npz"}
    finished(small, capsys, done=1)


@pytest.mark.slow
def test_crashing_and_hanging_videos_cost_themselves_alone(small, capsys):
    for name in ("1crash", "2hang"):
        shutil.copyfile("v/2.avi", f"v/{name}.avi")
    run = strange("extract", "--jobs", "2", "--timeout", "20")  # ample for the others, on a busy machine too
    out, err = run.communicate(timeout=PATIENCE_S)
    assert (run.returncode, out) == (1, "")
    until(lambda: not alive(run.pid))
    crash = "v/1crash.avi: the process that worked on it died (signal 11, Segmentation fault)."
    hang = "v/2hang.avi: not done in 20 s, which is the timeout."
    assert sorted(line for line in err.splitlines() if line.startswith("idt: ")) == [f"idt: {crash}", f"idt: {hang}"]
    assert err.splitlines()[-1].startswith("6 done, 2 failed; the files are in out (")
    assert made() == small
    assert {line["video"]: line["reason"] for line in lines() if line["status"] == "failed"} == {
        "v/1crash.avi": crash, "v/2hang.avi": hang}
    assert all(line["seconds"] >= 20 for line in lines() if line["reason"] == hang)
    first, second, *failed = status(capsys)
    assert (first, second) == ("last run  8 videos, 2 processes, begun T; it ended after S: 6 done, 2 failed",
                               "all runs  6 videos done, 2 failed")
    assert sorted(failed) == [f"failed    {crash}", f"failed    {hang}"]


def test_flow_of_a_crashing_video(small, capsys):
    Path("w").mkdir()
    for name in ("0", "1crash", "2"):
        shutil.copyfile("v/2.avi", f"w/{name}.avi")
    run = strange("flow", "--jobs", "2", videos="w")
    out, err = run.communicate(timeout=PATIENCE_S)
    assert (run.returncode, out) == (1, "")
    until(lambda: not alive(run.pid))
    crash = "w/1crash.avi: the process that worked on it died (signal 11, Segmentation fault)."
    assert [line for line in err.splitlines() if line.startswith("idt: ")] == [f"idt: {crash}"]
    assert sorted(os.listdir("out")) == ["0.avi", "2.avi", NAME]
    assert [read_meta(f"out/{name}.avi")["counts"] for name in "02"] == [{"flow": 19}] * 2
    assert status(capsys)[1:] == ["all runs  2 videos done, 1 failed", f"failed    {crash}"]


# ---- two runs -------------------------------------------------------------------------------------------------------

def test_two_runs_on_one_folder_share_the_work(small, capsys):
    Path("hold-decoding").touch()
    runs = []
    for jobs, name in (("1", "0held.avi"), ("2", "1held.avi")):
        runs.append(strange("extract", "--jobs", jobs))
        until(lambda: name in held(), runs[-1])  # noqa: B023
    until(lambda: len(lines()) == 4)  # which the second process of the second run does meanwhile
    assert status(capsys)[:2] == ["run       6 videos, 1 process, begun T; it is going on: 0 done, 0 failed",
                                  "run       6 videos, 2 processes, begun T; it is going on: 4 done, 0 failed"]
    Path("hold-decoding").unlink()
    for run in runs:
        out, err = run.communicate(timeout=PATIENCE_S)
        assert (run.returncode, out) == (0, ""), err
        assert err.splitlines()[-1].partition(";")[0].count("skipped") == 1
        until(lambda: not alive(run.pid))  # noqa: B023
    assert made() == small
    worked = [line for line in lines() if line["seconds"] is not None]  # the others: skipped and told of just before
    assert Counter((line["video"], line["status"]) for line in worked) == Counter(
        {(f"v/{name[:-4]}", "done"): 1 for name in small})
    assert sorted(os.listdir("out")) == sorted([*small, "report-2.jsonl", NAME])
    *told, everything = status(capsys)
    assert everything == "all runs  6 videos done, 0 failed"
    counts = [re.fullmatch(r"run       6 videos, \d process(?:es)?, begun T; it ended after S: (\d) done, (\d) skipped "
                           r"\(done before\), 0 failed", line) for line in told]
    assert [sum(int(count[n]) for count in counts) for n in (1, 2)] == [6, 6]
    assert all(int(count[1]) for count in counts)


# ---- disks ----------------------------------------------------------------------------------------------------------

ROOM = 16 << 20  # bytes


class Disk:
    """A small file system, out/ in the working folder, that only commands in a mount namespace of its own see."""

    def __init__(self, holder: subprocess.Popen[str]) -> None:
        # The working folder is entered anew: the one that a process brings along is that of outside.
        self._enter = ["nsenter", "--preserve-credentials", "-U", "-m", f"-t{holder.pid}", "sh", "-c",
                       'cd "$0" && exec "$@"', os.getcwd()]
        self.path = Path(f"/proc/{holder.pid}/root{os.getcwd()}/out")

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*self._enter, *command], capture_output=True, text=True, timeout=PATIENCE_S)

    def extract(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run(*IDT, "extract", "v", "-o", "out", *QUICK, *arguments)


@pytest.fixture
def disk(folder: Path) -> Iterator[Disk]:
    Path("out").mkdir()
    script = f"mount -t tmpfs -o size={ROOM} none out && echo ready && read end"
    try:
        holder = subprocess.Popen(["unshare", "-rm", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True)
    except FileNotFoundError:
        pytest.skip("there is no unshare here")
    if holder.stdout.readline() != "ready\n":
        pytest.skip(f"no file system can be mounted here: {holder.communicate()[1].strip()}")
    yield Disk(holder)
    holder.communicate("\n")


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_full_disk_stops_the_run_which_goes_on_when_there_is_room(small, disk, jobs):
    largest = max(map(len, small.values()))
    filler = disk.path / "filler"
    filler.write_bytes(bytes(ROOM - largest // 2))
    result = disk.extract("--jobs", str(jobs))
    assert (result.returncode, result.stdout) == (1, "")
    *told, stop = result.stderr.splitlines()
    assert all(re.fullmatch(r"idt: out/\dheld\.avi\.npz cannot be written: No space left on device\.|idt: warning: "
                            r"out/report\.jsonl cannot be written \(No space left on device\); the run goes on without "
                            r"it\.", line) for line in told)
    assert re.fullmatch(r"idt: out: the run stops, for nothing more can be written there \(No space left on device\), "
                        r"with 5 of 6 videos left: make room and give the same command again\.", stop)
    there = made(disk.path)
    assert there.pop("filler")
    assert there == {name: small[name] for name in there}  # a small one may have been done just before the end
    told = disk.run(*IDT, "status", "out").stdout
    assert re.search(r"it was stopped: (\d) done, (\d) failed\nall runs  \1 videos? done, \2 failed\n", told)
    filler.unlink()
    result = disk.extract("--jobs", str(jobs))
    assert (result.returncode, result.stdout) == (0, ""), result.stderr
    skipped = f", {len(there)} skipped (done before)" if there else ""
    assert result.stderr.splitlines()[-1].startswith(f"{6 - len(there)} done{skipped}; the files are in out (")
    assert made(disk.path) == small
    assert (f"{6 - len(there)} done{skipped}, 0 failed\nall runs  6 videos done, 0 failed\n"
            in disk.run(*IDT, "status", "out").stdout)


def test_a_disk_that_is_read_only_stops_the_run(small, disk):
    assert disk.extract("--jobs", "1", "--end", "5").returncode == 0  # other features than those of the next
    before = {path.name: path.read_bytes() for path in disk.path.iterdir()}
    assert disk.run("mount", "-o", "remount,ro", "out").returncode == 0
    result = disk.extract("--jobs", "1")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.splitlines() == [
        "idt: warning: out/report.jsonl cannot be written (Read-only file system); the run goes on without it.",
        "idt: out/0held.avi.npz cannot be written: Read-only file system.",
        "idt: out: the run stops, for nothing more can be written there (Read-only file system), with 5 of 6 videos "
        "left: make it writable and give the same command again."]
    assert {path.name: path.read_bytes() for path in disk.path.iterdir()} == before
    assert "6 done, 0 failed\nall runs  6 videos done, 0 failed\n" in disk.run(*IDT, "status", "out").stdout
    result = disk.run(*IDT, "extract", "v", "-o", "out/new")
    assert (result.returncode, result.stderr) == (1, "idt: out/new cannot be written: Read-only file system.\n")


def test_a_folder_that_is_closed_costs_each_video(small, capsys):
    Path("out").mkdir()
    Path("out").chmod(0o555)
    plain = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"] if os.geteuid() == 0 else []
    try:
        if subprocess.run([*plain, "touch", "out/test"], capture_output=True).returncode == 0:
            pytest.skip("nobody can be kept from writing here")
        run = started([*plain, *IDT], "extract", "v", "-o", "out", *QUICK, "--jobs", "2")
        out, err = run.communicate(timeout=PATIENCE_S)
    finally:
        Path("out").chmod(0o755)
    assert (run.returncode, out) == (1, "")
    warning, *told, last = err.splitlines()
    assert warning == ("idt: warning: out/report.jsonl cannot be written (Permission denied); the run goes on without "
                       "it.")
    assert sorted(told) == [f"idt: out/{name} cannot be written: Permission denied." for name in sorted(small)]
    assert last == "0 done, 6 failed; the files are in out"
    assert os.listdir("out") == []
    assert main(["status", "out"]) == 1
    assert capsys.readouterr().err == ("idt: out/report.jsonl does not exist: idt extract, flow and encode write it "
                                       "into the folder of their results.\n")
    finished(small, capsys, done=6)


# ---- stopped in the middle ------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("command", "place", "stop", "how"), [
    ("extract", "decoding", os.kill, signal.SIGINT), ("extract", "writing", os.killpg, signal.SIGINT),
    ("extract", "writing", os.kill, signal.SIGKILL), ("flow", "decoding", os.killpg, signal.SIGINT),
    ("flow", "decoding", os.kill, signal.SIGKILL)])
def test_a_run_that_is_stopped_in_the_middle(small, capsys, command, place, stop, how):
    """By Ctrl-C, which on a terminal reaches all processes, it ends, as the videos never would, and leaves nothing."""
    if command == "flow":
        assert main(["flow", "v", "-o", "flows", *FLAGS["flow"], "--jobs", "1", "--quiet"]) == 0
    Path(f"hold-{place}").touch()
    run = strange(command, "--jobs", "2")
    until(lambda: len(held()) == 2, run)
    if command == "flow" or place == "writing":
        assert len(list(Path("out").glob(".idt-*.tmp"))) == 2
    stop(run.pid, how)
    told = run.communicate(timeout=PATIENCE_S)
    if how == signal.SIGINT:
        assert (run.returncode, *told) == (130, "", "idt: interrupted\n")
        assert os.listdir("out") == [NAME]
    until(lambda: not alive(run.pid))
    assert how == signal.SIGKILL or os.listdir("out") == [NAME]
    assert status(capsys) == ["last run  6 videos, 2 processes, begun T; it was stopped: 0 done, 0 failed",
                              "all runs  0 videos done, 0 failed"]
    Path(f"hold-{place}").unlink()
    finished(made("flows") if command == "flow" else small, capsys, done=6, command=command)


@pytest.mark.parametrize("other", ["1deaf", "1crash"])
def test_an_interrupt_does_not_wait_for_processes_that_compute_or_just_begin(folder, pictures, other):
    for name in ("0deaf", other):
        write_clip(Path(f"v/{name}.avi"), pictures)
    Path("hold-decoding").touch()
    run = strange("extract", "--jobs", "2")
    until(lambda: len(held()) + len(lines()) == 2, run)  # a process that takes the place of the one that died begins
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=PATIENCE_S)
    assert (run.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "idt: interrupted"
    assert [line for line in err.splitlines() if not line.startswith("idt: ")] == []
    assert os.listdir("out") == [NAME]
    until(lambda: not alive(run.pid))
