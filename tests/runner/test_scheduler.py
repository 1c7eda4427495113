"""runner: jobs in this process and in others, some of which die, hang or fail."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from odd_jobs import alive, files, jobs_of, odd
from outcomes import outcomes

from idt.errors import OutputError, ParameterError, VideoError
from idt.runner.jobs import Outcome, Progress, Workers
from idt.runner.local import Processes
from idt.runner.scheduler import run
from waiting import PATIENCE_S, until

TWO = Workers(jobs=2)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_run_goes_in_order_skips_and_passes_over():
    order = []

    def work(job, advance):
        order.append(job.source)
        if job.source == "bad":
            raise VideoError("bad: no.")
        if job.source == "bug":
            raise ZeroDivisionError("oops")
        if job.source == "big":
            raise MemoryError
        return {"rows": len(order)}

    seen = []
    summary = run(jobs_of("a", "old", "bad", "bug", "big", "b"), work, ".", done=lambda job: job.source == "old",
                  report=seen.append)
    assert order == ["a", "bad", "bug", "big", "b"]
    assert [o.state for o in seen] == ["done", "skipped", "failed", "failed", "failed", "done"]
    assert (summary.done, summary.skipped, summary.failed) == (2, 1, tuple(seen[2:5]))
    assert (summary.rows, summary.frames, summary.bytes) == (1 + 5, 0, 0)
    assert seen[0].meta == {"rows": 1}
    assert [o.reason for o in summary.failed] == [
        "bad: no.", "bug: unexpected ZeroDivisionError: oops",
        "big: there is not enough memory; smaller frames (short_side) need less."]
    assert seen[0].reason is None


def test_run_reports_each_job_before_it_begins_the_next():
    events = []
    run(jobs_of("a", "b"), lambda job, advance: events.append(("work", job.source)) or {}, ".",
        report=lambda outcome: events.append(("report", outcome.job.source)))
    assert events == [("work", "a"), ("report", "a"), ("work", "b"), ("report", "b")]


def test_an_interrupt_stops_the_batch():
    def work(job, advance):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(jobs_of("a", "b"), work, ".")


def test_the_folder_of_the_outputs_is_made_or_the_run_does_not_begin():
    run([], odd, "a/b")
    assert Path("a/b").is_dir()
    Path("file").touch()
    with pytest.raises(OutputError, match="file is not a folder: give the folder that the files go to"):
        run(jobs_of("a"), odd, "file")


@pytest.mark.parametrize(("values", "message"), [
    ({"jobs": 0}, "jobs is 0: it must be an integer from 1"), ({"jobs": 2.0}, r"jobs is 2\.0"),
    ({"retries": -1}, "retries is -1: it must be an integer from 0"), ({"jobs": True}, "jobs is True"),
    ({"timeout": 0}, "timeout is 0: it must be a number of seconds above 0"),
    ({"timeout": float("nan")}, "timeout is nan"),
    ({"backend": "spark"}, "backend is 'spark': it must be one of local, dask, ray"),
    ({"scheduler": "a:1"}, "scheduler is a:1, but the backend is local: give the backend, dask or ray, too"),
    ({"shard": "0/3"}, "shard is '0/3': it must be K/N with K from 1 to N, such as 3/16"),
    *(({"shard": shard}, "shard is") for shard in ("4/3", "x", "1/3 ", (1, 2, 3), (1.0, 2)))])
def test_workers_that_cannot_be(values, message):
    with pytest.raises(ParameterError, match=message):
        Workers(**values)


# Several processes


def test_what_dies_hangs_or_fails_costs_its_own_job_alone():
    names = ("a", "crash 1", "b", "hang", "bad", "c", "leave", "bug", "killed", "d", "crash 2", "e")
    told: list[Outcome | Progress] = []
    summary = run(jobs_of(*names), odd, ".", workers=Workers(jobs=2, timeout=10), progress=told.append,
                  report=told.append)
    ended = [o for o in told if isinstance(o, Outcome)]
    assert (summary.done, summary.skipped) == (5, 0)
    assert [o.number for o in summary.failed] == [2, 4, 5, 7, 8, 9, 11]
    assert {o.job.source: o.reason for o in ended} == {
        **dict.fromkeys("abcde"),
        "crash 1": "crash 1: the process that worked on it died (signal 11, Segmentation fault).",
        "crash 2": "crash 2: the process that worked on it died (signal 11, Segmentation fault).",
        "killed": "killed: the process that worked on it died (signal 9, Killed; perhaps memory was short).",
        "leave": "leave: the process that worked on it died (exit code 3).",
        "hang": "hang: not done in 10 s, which is the timeout.",
        "bad": "bad: bad.", "bug": "bug: unexpected ZeroDivisionError: oops"}
    assert files() == [f"{name}.npz" for name in "abcde"]
    assert all(o.meta["rows"] == 40 and o.processed == 4 for o in ended if o.state == "done")
    processes = {o.meta["process"] for o in ended if o.state == "done"}
    assert os.getpid() not in processes
    assert len(processes) > 1
    assert sorted(o.job.source for o in ended) == sorted(names)
    stages = [p.done for p in told if isinstance(p, Progress) and p.job.source == "c"]
    assert stages[0] == 0
    assert stages[-1] == 4
    assert stages == sorted(stages)


def test_retries():
    found = outcomes(run, jobs_of("flaky", "a", "bad"), odd, ".", workers=Workers(jobs=2, retries=2))
    assert [o.state for o in found] == ["done", "done", "failed"]
    assert [Path(f"{name}.tries").stat().st_size for name in ("flaky", "a", "bad")] == [3, 1, 3]
    assert run(jobs_of("bad"), odd, ".", workers=Workers(retries=1)).failed
    assert Path("bad.tries").stat().st_size == 5


def test_what_is_done_is_skipped_in_this_process():
    asked = []

    def done(job):
        asked.append(job.source)
        if job.source == "bug":
            raise ZeroDivisionError("oops")
        return job.source != "b"

    found = outcomes(run, jobs_of("a", "b", "bug", "c"), odd, ".", done=done, workers=TWO)
    assert [o.state for o in found] == ["skipped", "done", "failed", "skipped"]
    assert asked == ["a", "b", "b", "bug", "c"]  # again when it is claimed: another run may just have done it
    assert files() == ["b.npz"]


def test_the_largest_are_begun_first():
    for name, size in (("a", 1), ("b", 3), ("c", 2)):
        Path(name).write_bytes(bytes(size))
    began = []
    run(jobs_of("a", "b", "c", "none"), odd, ".", workers=TWO, done=lambda job: began.append(job.source))
    began = began[::2]
    assert began == ["b", "c", "a", "none"]


def test_slow_looks_at_what_is_done_do_not_hold_up_what_is_worked_on():
    def done(job):
        if job.source == "old 2":
            until(lambda: Path("a.npz").exists() and Path("b.npz").exists())
        return job.source.startswith("old")

    found: list[Outcome] = []
    run(jobs_of("a", "b", *(f"old {n}" for n in range(80))), odd, ".", workers=TWO, done=done, report=found.append)
    states = [outcome.state for outcome in found]
    assert states.count("skipped") == 80
    assert "skipped" in states[states.index("done"):]


def test_all_is_looked_at_while_others_work():
    found: list[Outcome] = []

    def report(outcome):
        found.append(outcome)
        if len(found) == 40:
            Path("go").touch()

    run(jobs_of(*(f"held {n}" for n in range(4)), *(f"old {n}" for n in range(40))), odd, ".", workers=TWO,
        done=lambda job: job.source.startswith("old"), report=report)
    assert [outcome.state for outcome in found] == ["skipped"] * 40 + ["done"] * 4


SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from odd_jobs import jobs_of, odd
from idt.runner import Workers, run
run(jobs_of("a", "b"), odd, ".", workers=Workers(jobs=2))
"""


def test_a_script_that_the_processes_would_run_again(monkeypatch):
    Path("script.py").write_text(SCRIPT)
    result = subprocess.run([sys.executable, "script.py", str(Path(__file__).parents[1])], capture_output=True,
                            text=True, timeout=PATIENCE_S)
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith("idt.errors.IdtError: The processes that do the work cannot be begun or understood (")
    assert "In a script, put what it calls below `if __name__ == \"__main__\":`, and give it to Python" in last
    assert files() == ["script.py"]

    # What such a process says, if it is not ended first
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    with pytest.raises(ParameterError, match=r"^A process that was to do a part of the work has run the whole script "
                       r"instead: put what the script calls below `if __name__ == \"__main__\":`\.$"):
        run(jobs_of("a"), odd, ".")
    assert files() == ["script.py"]


def test_processes_that_are_ended_leave_nobody_waiting():
    processes = Processes(odd, 1, None)
    waiting = [processes.begin(n, job) for n, job in enumerate(jobs_of("hang", "a"))]
    until(Path("hang.tries").exists)
    processes.end(at_once=True)
    assert all(future.done() and future.exception() is not None for future in waiting)


@pytest.mark.parametrize("workers", [Workers(), TWO])
def test_a_full_disk_ends_the_run(workers):
    names = ["a", "full", *(f"b{n}" for n in range(9))]
    seen = []
    message = (r"^\.: the run stops, for nothing more can be written there \(No space left on device\), with \d+ of 11 "
               r"videos left: make room and give the same command again\.$")
    with pytest.raises(OutputError, match=message):
        run(jobs_of(*names), odd, ".", workers=workers, report=seen.append)
    assert [o.reason for o in seen if o.state == "failed"] == ["full.npz cannot be written: No space left on device."]
    assert not Path("b8.npz").exists()
    assert run(jobs_of("full"), odd, ".", workers=workers).failed  # nothing else is left: an ordinary failure


def test_warnings_of_the_processes_are_logged(caplog):
    run(jobs_of("warns", "a"), odd, ".", workers=TWO)
    assert [record.getMessage() for record in caplog.records] == ["warns warns."]


RUN = """
import sys, time
sys.path.insert(0, sys.argv[1])
from functools import partial
from odd_jobs import jobs_of, odd
from idt.runner import Workers, run
if __name__ == "__main__":
    names = [f"{kind} {n}" for n in range(2) for kind in ("a", "hang")]
    run(jobs_of(*names), odd, ".", workers=Workers(jobs=2), report=lambda outcome: print("one", flush=True))
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_processes_end_with_the_run(how):
    Path("script.py").write_text(RUN)
    with subprocess.Popen([sys.executable, "script.py", str(Path(__file__).parents[1])], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, start_new_session=True) as child:
        assert child.stdout.readline() == b"one\n"
        until(lambda: len(list(Path().glob("hang*.tries"))) == 2)
        child.send_signal(how)
        child.wait(PATIENCE_S)
    until(lambda: not alive(child.pid))
    assert [name for name in files() if name.endswith(".npz")] in ([], ["a 0.npz"], ["a 0.npz", "a 1.npz"])
    left = [name for name in files() if name.startswith(".idt-")]
    assert left == [] or how == signal.SIGKILL  # what a killed run leaves, the next one removes
    run(jobs_of("b"), partial(odd, folder="."), ".")
    assert [name for name in files() if name.startswith(".idt-")] == []
