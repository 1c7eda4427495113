"""claims: runs with one output folder share the work, and what a dead run has claimed is taken over."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from odd_jobs import files, jobs_of, odd

import idt.runner.leases
from idt.runner.jobs import Workers
from idt.runner.leases import Claims
from idt.runner.scheduler import run
from waiting import PATIENCE_S, until


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_output_is_claimed_once():
    with Claims(".") as one, Claims(".") as two:
        assert one.take("a.npz")
        assert not two.take("a.npz")
        assert not two.take(Path("a.npz").absolute())
        assert two.take("walk/a.npz")
        one.release("a.npz")
        assert two.take("a.npz")
        assert not one.take("a.npz")
        two.release("b.npz")  # never claimed
    assert os.listdir() == []


def test_claims_end_with_their_run():
    with Claims(".") as one:
        with Claims(".") as two:
            assert two.take("a.npz")
        assert one.take("a.npz")
    assert os.listdir() == []


def dead_run(machine: str) -> Path:
    """Make what a run that was killed has left: its file and a claim of a.npz."""
    with Claims(".") as one:
        one.take("a.npz")
        (claim,) = one._claimed
    claim.parent.mkdir()
    path = claim.parent / "run-dead"
    path.write_text(machine)
    claim.write_text(path.name)
    return path


def test_claims_of_a_run_that_was_killed_here_are_taken_over_at_once():
    dead_run(idt.runner.leases._machine())
    with Claims(".") as one:
        assert sorted(path.name[:4] for path in Path(".idt-claims").iterdir()) == ["run-"] * 2  # its own, its lock
        assert one.take("a.npz")
    assert os.listdir() == []


def test_claims_of_another_machine_last_while_it_gives_a_sign_of_life(monkeypatch):
    path = dead_run("another machine")
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with Claims(".") as one:
        assert not one.take("a.npz")
        now += 119
        assert not one.take("a.npz")
        os.utime(path, (5, 5))
        now += 2
        assert not one.take("a.npz")
        now += 119
        assert not one.take("a.npz")
        now += 2
        assert one.take("a.npz")


def test_a_run_gives_signs_of_life(monkeypatch):
    monkeypatch.setattr(idt.runner.leases, "_BEAT", 0.05)
    with Claims(".") as one:
        os.utime(one._run, (5, 5))
        until(lambda: one._run.stat().st_mtime != 5)


def test_where_nothing_can_be_written_all_can_be_taken():
    Path(".idt-claims").write_text("a file")
    with Claims(".") as one, Claims(".") as two:
        assert one.take("a.npz")
        assert two.take("a.npz")
    assert Path(".idt-claims").read_text() == "a file"


RUN = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from odd_jobs import jobs_of, odd
from idt.runner import Workers, run
if __name__ == "__main__":
    names = [f"{sys.argv[3]} {n}" for n in range(8)]
    run(jobs_of(*names), odd, ".", workers=Workers(jobs=int(sys.argv[2])), done=lambda job: Path(job.output).exists(),
        report=lambda outcome: print(outcome.state, flush=True))
"""


def started(jobs: int, kind: str, number: int = 0) -> subprocess.Popen[bytes]:
    Path("script.py").write_text(RUN)
    return subprocess.Popen([sys.executable, "script.py", str(Path(__file__).parents[1]), str(jobs), kind],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "RUN": str(number)})


@pytest.mark.parametrize("jobs", [1, 2])
def test_two_runs_share_the_work(jobs):
    runs = [started(jobs, "shared", number) for number in range(2)]
    told = [run.communicate(timeout=PATIENCE_S)[0].split() for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert [len(states) for states in told] == [8, 8]
    assert sum(states.count(b"done") for states in told) == 8
    assert sum(states.count(b"skipped") for states in told) == 8
    assert min(states.count(b"done") for states in told) > 0
    assert [Path(f"shared {n}.tries").read_text() for n in range(8)] == ["x"] * 8
    assert [name for name in os.listdir() if name.startswith(".idt")] == []
    assert sorted(name for name in os.listdir() if name.startswith("report")) == ["report-2.jsonl", "report.jsonl"]


def test_a_run_that_waits_for_one_that_is_killed_does_its_videos():
    other = started(1, "hang")
    until(Path("hang 0.tries").exists)

    def kill(outcome):
        other.send_signal(signal.SIGKILL)
        other.wait()

    summary = run(jobs_of("hang 0", "a"), partial_work, ".", report=kill)
    other.communicate()
    assert (summary.done, summary.failed) == (2, ())
    assert [name for name in files() if name.endswith(".npz")] == ["a.npz", "hang 0.npz"]


def partial_work(job, advance):
    Path(job.output).write_bytes(b"x")
    return {}


def test_waiting_is_said(caplog):
    other = started(1, "held")
    until(Path("held 0.tries").exists)
    said = logging.Handler()
    said.emit = lambda record: Path("go").touch()
    logging.getLogger("idt").addHandler(said)
    try:
        summary = run(jobs_of("held 0"), odd, ".", done=lambda job: Path(job.output).exists())
    finally:
        logging.getLogger("idt").removeHandler(said)
    other.communicate()
    assert (summary.done, summary.skipped) == (0, 1)
    assert [record.getMessage() for record in caplog.records] == ["Waiting for another run, which works on held 0."]


def test_shards_are_all_and_none_twice():
    names = [f"a{n}" for n in range(7)]
    done = []
    for k in (1, 2, 3):
        run(jobs_of(*names), lambda job, advance: done.append((k, job.source)) or {}, ".",  # noqa: B023
            workers=Workers(shard=f"{k}/3"))
    assert done == [(1, "a0"), (1, "a3"), (1, "a6"), (2, "a1"), (2, "a4"), (3, "a2"), (3, "a5")]
    run(jobs_of("a"), odd, ".", workers=Workers(shard=(2, 3)))
    assert not Path("a.npz").exists()


def test_a_claim_that_is_being_written_counts(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with Claims(".") as one, Claims(".") as two:
        one._path("a.npz").touch()
        assert not two.take("a.npz")
        now += 119
        assert not two.take("a.npz")
        now += 2
        assert two.take("a.npz")


RACE = """
import sys
from idt.runner.leases import Claims
with Claims(".") as claims:
    print("ready", flush=True)
    sys.stdin.readline()
    print(*(n for n in range(1500) if claims.take(f"{n}.npz")), flush=True)
    sys.stdin.readline()
"""


def test_of_two_runs_at_once_only_one_gets_a_claim():
    both = [subprocess.Popen([sys.executable, "-c", RACE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(2)]
    assert [one.stdout.readline() for one in both] == ["ready\n"] * 2
    for one in both:
        print(file=one.stdin, flush=True)
    taken = [number for one in both for number in one.stdout.readline().split()]
    for one in both:
        one.communicate("\n")
    assert sorted(map(int, taken)) == list(range(1500))


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root can be another user")
def test_a_claim_of_another_user_ends_with_its_run(monkeypatch):
    """Whose lock file may be read but not written."""
    program = "import os; from idt.runner.leases import Claims; os.setuid(65534); print(Claims('.').take('a.npz'))"
    with tempfile.TemporaryDirectory() as shared:  # the folder of the tests is closed to others
        monkeypatch.chdir(shared)
        with Claims(".") as one:
            assert one.take("a.npz")
            for path in (Path(), *Path().rglob("*")):
                path.chmod(0o777 if path.is_dir() else 0o644)
            running = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
            assert running.stdout == "False\n", running.stderr
            one._lock._lock.release()  # as when its process is killed
            killed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
            assert killed.stdout == "True\n", killed.stderr
        monkeypatch.undo()
