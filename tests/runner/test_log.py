"""reports: a line for each video, in the order they end, readable while runs go on and after they were killed."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from odd_jobs import jobs_of, odd

from idt.cli import main
from idt.errors import FormatError
from idt.runner.jobs import Workers
from idt.runner.log import NAME, read_status
from idt.runner.scheduler import run
from waiting import until


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lines() -> list[dict]:
    return [json.loads(line) for line in Path(NAME).read_text().splitlines()]


@pytest.mark.parametrize("workers", [Workers(), Workers(jobs=2, timeout=50, retries=1)])
def test_each_video_has_a_line_and_each_run_two(workers):
    run(jobs_of("a", "bad", "old"), odd, ".", done=lambda job: job.source == "old", workers=workers)
    first, *videos, last = lines()
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d\d\d\+00:00", first.pop("time"))
    assert first == {"run": "begun", "package": "0.1.0", "videos": 3, "backend": "local", "jobs": workers.jobs,
                     "timeout": workers.timeout, "retries": workers.retries, "shard": None}
    assert last.pop("time") >= "2026"
    assert last.pop("seconds") >= 0
    assert last == {"run": "ended", "done": 1, "skipped": 1, "failed": 1}
    assert all(video.pop("time") >= "2026" for video in videos)
    assert all((video.pop("seconds") is None) == (video["video"] == "old") for video in videos)
    assert sorted(videos, key=lambda video: video["video"]) == [
        {"video": "a", "output": "a.npz", "status": "done", "reason": None, "frames": None, "rows": 40, "bytes": 4},
        {"video": "bad", "output": "bad.npz", "status": "failed", "reason": "bad: bad.", "frames": None, "rows": None,
         "bytes": None},
        {"video": "old", "output": "old.npz", "status": "done", "reason": None, "frames": None, "rows": None,
         "bytes": None}]


def test_what_is_done_though_no_report_tells_is_told_by_the_run_that_skips_it(capsys):
    run(jobs_of("a", "bad"), odd, ".")
    for _ in range(2):  # as if a run in between had done it, but was killed before it could tell
        run(jobs_of("a", "bad"), odd, ".", done=lambda job: True)
    told = [(line["video"], line["status"], line["rows"]) for line in lines() if "video" in line]
    assert told == [("a", "done", 40), ("bad", "failed", None), ("bad", "done", None)]
    assert main(["status", "."]) == 0
    _, everything, results = capsys.readouterr().out.splitlines()
    assert everything == "all runs  2 videos done, 0 failed"
    assert results.startswith("results   0 frames, 40 rows, 4 B, ")


def test_the_latest_line_of_a_video_counts(capsys):
    run(jobs_of("a", "bad"), odd, ".")
    run(jobs_of("bad"), lambda job, advance: {"rows": 7, "video": {"decoded_frames": 9}, "reason": "dull"}, ".")
    found = read_status(".")
    (last,) = found.runs
    assert (last.begun["videos"], last.ended["done"], last.running) == (1, 1, False)
    assert {name: (video["status"], video["rows"]) for name, video in found.videos.items()} == {
        "a.npz": ("done", 40), "bad.npz": ("done", 7)}
    assert main(["status", "."]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert re.fullmatch(
        r"last run  1 video, 1 process, begun \S+; it ended after 0\.\d s: 1 done, 0 failed\n"
        r"all runs  2 videos done, 0 failed\n"
        r"results   9 frames, 47 rows, 4 B, 0\.\d s of work\n", out)


RUN = """
import sys
sys.path.insert(0, sys.argv[1])
from odd_jobs import jobs_of, odd
from idt.runner import Workers, run
if __name__ == "__main__":
    run(jobs_of("a", "bad", "hang"), odd, ".", workers=Workers(jobs=2))
"""


def test_a_run_that_goes_on_and_one_that_was_killed(capsys):
    Path("script.py").write_text(RUN)
    with subprocess.Popen([sys.executable, "script.py", str(Path(__file__).parents[1])],
                          stderr=subprocess.DEVNULL) as child:
        until(lambda: Path(NAME).exists() and len(read_status(".").videos) == 2)
        (last,) = read_status(".").runs
        assert (last.ended, last.running) == (None, True)
        assert main(["status", "."]) == 0
        out = capsys.readouterr().out
        assert "it is going on: 1 done, 1 failed\n" in out
        assert out.endswith("\nfailed    bad: bad.\n")
        child.send_signal(signal.SIGKILL)
    until(lambda: not read_status(".").runs[0].running)  # its processes hold nothing, but end a little later
    assert main(["status", "."]) == 0
    assert "it was stopped: 1 done, 1 failed\n" in capsys.readouterr().out
    run(jobs_of("b"), odd, ".")
    assert main(["status", "."]) == 0
    assert capsys.readouterr().out.endswith("\nearlier   bad: bad.\n")
    assert main(["status", NAME]) == 1
    assert capsys.readouterr().err == f"idt: {NAME} is not a folder: give the folder of the results of a run.\n"


def test_a_line_that_is_just_being_written_does_not_count():
    run(jobs_of("a"), odd, ".")
    with open(NAME, "a") as file:
        file.write('{"video": "b", "outp')
    assert list(read_status(".").videos) == ["a.npz"]


@pytest.mark.parametrize(("content", "message"), [
    (None, r"report\.jsonl does not exist: idt extract, flow and encode write it"),
    ("", r"report\.jsonl is not the report of a run \(it is empty\)"),
    ("[]\n", "is not the report of a run"), ("7\n", "is not the report of a run"),
    ("\x00\n", "is not the report of a run"), ('{"run": "x"}\n', "is not the report of a run"),
    ('{"video": 1, "output": "a"}\n', r"is not the report of a run \(a line lacks status, reason, time, seconds, ")])
def test_what_is_no_report(content, message):
    if content is not None:
        Path(NAME).write_text(content)
    with pytest.raises(FormatError, match=message):
        read_status(".")


def test_a_report_that_cannot_be_written_does_not_stop_the_run(caplog):
    Path(NAME).mkdir()
    assert run(jobs_of("a"), odd, ".").done == 1
    assert [record.getMessage() for record in caplog.records] == [
        "report.jsonl cannot be written (Is a directory); the run goes on without it."]


def test_a_disk_that_is_full(caplog):
    Path(NAME).write_bytes(b"\n" * 100)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
        assert run(jobs_of("a"), odd, ".").done == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert len(caplog.records) == 1
    assert os.path.getsize(NAME) == 100
