"""What became of each video of a run, in a file beside the results that can be read while the run goes on."""

from __future__ import annotations

import itertools
import json
import logging
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, TypeAlias

from idt import __version__
from idt._util.locks import Lock, is_held
from idt.errors import FormatError
from idt.runner.jobs import Job, Outcome, Workers

Paths: TypeAlias = str | os.PathLike[str]

NAME = "report.jsonl"
"""Name of the file in the folder of the results."""

_OTHERS = "report-{}.jsonl"  # of runs that go on at the same time
_PATIENCE = 0.2  # s for those who are just looking whether a run goes on
_LINE = 1 << 20  # bytes, surely more than a line
_LINES = {"begun": ("time", "videos", "backend", "jobs", "shard"), "ended": ("seconds", "done", "skipped", "failed"),
          "video": ("video", "output", "status", "reason", "time", "seconds", "frames", "rows", "bytes")}
"""What is read of each kind of line."""

_log = logging.getLogger("idt")


class ReportWriter:
    """Adds the lines of a run to the report of a folder, each a JSON object.

    A run begins with ``{"run": "begun", ...}`` and, unless it is stopped, ends with ``{"run": "ended", ...}``. Between
    them each video that was done or failed has a line as soon as it has: ``video``, ``output`` (below the folder),
    ``status``, ``reason`` (of a failure, or why there is nothing in the result), ``time`` (when it ended), ``seconds``,
    ``frames`` (decoded), ``rows``, ``bytes``. What was done before and skipped is only counted, but for what no report
    tells, because the run that did it was killed or could not write: it has a line without numbers at the end. A file
    has one writer at a time, who locks it: of several runs at a time the second writes to ``report-2.jsonl``, and so
    on.

    Parameters
    ----------
    folder : path
    videos : int
    workers : Workers
    """

    def __init__(self, folder: Paths, videos: int, workers: Workers) -> None:
        self._folder = folder
        shard = "/".join(map(str, workers.shard)) if workers.shard else None
        self._first = {"videos": videos, "backend": workers.backend, "jobs": workers.jobs, "timeout": workers.timeout,
                       "retries": workers.retries, "shard": shard}
        self._counts = {"done": 0, "skipped": 0, "failed": 0}
        self._skipped: list[Job] = []
        self._lock: Lock | None = None
        self._file: BinaryIO | None = None
        self._began = time.perf_counter()

    def __enter__(self) -> Self:
        for number in itertools.count(1):
            path = Path(self._folder, NAME if number == 1 else _OTHERS.format(number))
            lock = Lock(_lock_of(path))
            try:
                if not lock.acquire(timeout=_PATIENCE):
                    continue
                self._lock = lock
                self._file = open(path, "a+b", buffering=0)
                _cut(self._file)
            except OSError as error:
                self._give_up(error)
            break
        self._write({"run": "begun", "package": __version__, "time": _now(), **self._first})
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if kind is None:
            self._tell_of_skipped()
            self._write({"run": "ended", "time": _now(), "seconds": round(time.perf_counter() - self._began, 3),
                         **self._counts})
        if self._file is not None:
            self._file.close()
        if self._lock is not None:
            self._lock.release()

    def add(self, outcome: Outcome) -> None:
        """Add the line of a video; of one that was skipped there is none."""
        self._counts[outcome.state] += 1
        if outcome.state == "skipped":
            self._skipped.append(outcome.job)
        else:
            self._tell(outcome.job, outcome.state, outcome.reason or (outcome.meta or {}).get("reason"),
                       seconds=round(outcome.seconds, 3), frames=outcome.frames, rows=outcome.rows,
                       bytes=outcome.bytes if outcome.state == "done" else None)

    def _tell_of_skipped(self) -> None:
        try:
            videos = read_status(self._folder).videos if self._skipped and self._file is not None else {}
        except FormatError:  # another report in the folder is damaged
            return
        for job in self._skipped:
            if videos.get(self._name(job), {}).get("status") != "done":
                self._tell(job, "done", None, **dict.fromkeys(("seconds", "frames", "rows", "bytes")))

    def _name(self, job: Job) -> str:
        return os.path.relpath(job.output, self._folder)

    def _tell(self, job: Job, status: str, reason: str | None, **numbers: float | None) -> None:
        self._write({"video": job.source, "output": self._name(job), "status": status, "reason": reason,
                     "time": _now(), **numbers})

    def _write(self, line: dict[str, Any]) -> None:
        if self._file is not None:
            try:
                self._file.write(json.dumps(line).encode() + b"\n")
            except OSError as error:
                self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        _log.warning("%s cannot be written (%s); the run goes on without it.", Path(self._folder, NAME),
                     error.strerror or error)


def _lock_of(report: Path) -> Path:
    return report.with_name(f".{report.name}.lock")


def _cut(file: BinaryIO) -> None:
    """Remove the beginning of a line that a full disk has left at the end."""
    size = file.seek(0, os.SEEK_END)
    start = file.seek(max(0, size - _LINE))
    end = start + file.read().rfind(b"\n") + 1
    if end != size:
        file.truncate(end)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True)
class Run:
    """What a report tells of a run.

    Attributes
    ----------
    begun : dict
        Its first line.
    ended : dict or None
        Its last line; None while it goes on, or when it was stopped.
    running : bool
        Whether it goes on.
    done, failed : int
        Videos that it has told of until now.
    """

    begun: dict[str, Any]
    ended: dict[str, Any] | None
    running: bool
    done: int
    failed: int


@dataclass(frozen=True)
class Status:
    """What the reports of a folder tell.

    Attributes
    ----------
    runs : tuple of Run
        The last run of each file, in the order in which they began.
    videos : dict of str to dict
        The latest line of each video, by its output.
    """

    runs: tuple[Run, ...]
    videos: dict[str, dict[str, Any]]


def read_status(folder: Paths) -> Status:
    """Read the reports of a folder that runs have written into, also while they go on.

    Raises
    ------
    FormatError
        There is no report, or it is none of ours.
    """
    paths = sorted(Path(folder).glob(_OTHERS.format("*")), key=lambda path: (len(path.name), path.name))
    runs: list[Run] = []
    videos: dict[str, dict[str, Any]] = {}
    for path in (Path(folder, NAME), *paths):
        try:
            run, lines = _read(path)
        except FormatError:
            if path in paths:  # another run has just made it
                continue
            raise
        runs.append(run)
        for output, line in lines.items():
            if output not in videos or videos[output]["time"] <= line["time"]:
                videos[output] = line
    return Status(tuple(sorted(runs, key=lambda run: str(run.begun.get("time")))), videos)


def _read(path: Path) -> tuple[Run, dict[str, dict[str, Any]]]:
    """Return the last run of a report, and the latest line of each video."""
    begun: dict[str, Any] | None = None
    ended: dict[str, Any] | None = None
    videos: dict[str, dict[str, Any]] = {}
    try:
        with open(path, encoding="utf-8") as file:
            for text in file:
                if not text.endswith("\n"):
                    break  # it is just being written, or the disk was full
                line = json.loads(text)
                kind = line.get("run", "video")
                if missing := [name for name in _LINES[kind] if name not in line]:
                    raise ValueError(f"a line lacks {', '.join(missing)}")
                if kind == "begun":
                    begun, ended = line, None
                elif kind == "ended":
                    ended = line
                else:
                    videos[line["output"]] = line
        running = is_held(_lock_of(path))
    except NotADirectoryError as error:
        raise FormatError(f"{path.parent} is not a folder: give the folder of the results of a run.") from error
    except FileNotFoundError as error:
        raise FormatError(f"{path} does not exist: idt extract, flow and encode write it into the folder of their "
                          "results.") from error
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise FormatError(f"{path} is not the report of a run ({error}).") from error
    if begun is None:
        raise FormatError(f"{path} is not the report of a run (it is empty).")
    states = [line["status"] for line in videos.values() if line["time"] >= begun["time"]]
    return Run(begun, ended, running, states.count("done"), states.count("failed")), videos
