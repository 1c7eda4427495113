"""What became of each video of a run, in a file beside the results that can be read while the run goes on."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from idt import __version__
from idt.errors import FormatError

if TYPE_CHECKING:
    from idt.runner import Outcome, Workers

Paths: TypeAlias = str | os.PathLike[str]

NAME = "report.jsonl"
"""Name of the file in the folder of the results."""

_log = logging.getLogger("idt")


class ReportWriter:
    """Adds the lines of a run to the report of a folder, each a JSON object.

    A run begins with ``{"run": "begun", ...}`` and, unless it is stopped, ends with ``{"run": "ended", ...}``. Between
    them each video that was done or failed has a line as soon as it has: ``video``, ``output`` (below the folder),
    ``status``, ``reason`` (of a failure, or why there is nothing in the result), ``seconds``, ``frames`` (decoded),
    ``rows``, ``bytes``. What was done before and skipped is only counted. Several runs may write at a time.

    Parameters
    ----------
    folder : path
    videos : int
    workers : Workers
    """

    def __init__(self, folder: Paths, videos: int, workers: Workers) -> None:
        self._folder = folder
        self._first = {"videos": videos, "jobs": workers.jobs, "timeout": workers.timeout, "retries": workers.retries}
        self._counts = {"done": 0, "skipped": 0, "failed": 0}
        self._handle: int | None = None
        self._began = time.perf_counter()

    def __enter__(self) -> Self:
        try:
            self._handle = os.open(Path(self._folder, NAME), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(self._handle, fcntl.LOCK_SH | fcntl.LOCK_NB)  # by which it is known to go on
        except OSError as error:
            self._give_up(error)
        self._write({"run": "begun", "package": __version__, "time": _now(), **self._first})
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if kind is None:
            self._write({"run": "ended", "time": _now(), "seconds": round(time.perf_counter() - self._began, 3),
                         **self._counts})
        if self._handle is not None:
            os.close(self._handle)

    def add(self, outcome: Outcome) -> None:
        """Add the line of a video; of one that was skipped there is none."""
        self._counts[outcome.state] += 1
        if outcome.state == "skipped":
            return
        meta = outcome.meta or {}
        self._write({
            "video": outcome.job.source, "output": os.path.relpath(outcome.job.output, self._folder),
            "status": outcome.state, "reason": outcome.reason or meta.get("reason"),
            "seconds": round(outcome.seconds, 3), "frames": (meta.get("video") or {}).get("decoded_frames"),
            "rows": meta.get("rows"), "bytes": _size(outcome.job.output) if outcome.state == "done" else None})

    def _write(self, line: dict[str, Any]) -> None:
        if self._handle is not None:
            try:
                os.write(self._handle, json.dumps(line).encode() + b"\n")  # at once: lines of two runs do not mix
            except OSError as error:
                os.close(self._handle)
                self._handle = None
                self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        _log.warning("%s cannot be written (%s); the run goes on without it.", Path(self._folder, NAME),
                     error.strerror or error)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        if path.is_dir():
            with os.scandir(path) as entries:
                return sum(entry.stat().st_size for entry in entries)
        return path.stat().st_size
    return 0


@dataclass(frozen=True)
class Status:
    """What the report of a folder tells.

    Attributes
    ----------
    begun : dict
        First line of the last run.
    ended : dict or None
        Its last line; None while it runs, or when it was stopped.
    running : bool
        Whether a run is going on.
    videos : dict of str to dict
        The latest line of each video, by its output.
    """

    begun: dict[str, Any]
    ended: dict[str, Any] | None
    running: bool
    videos: dict[str, dict[str, Any]]


def read_status(folder: Paths) -> Status:
    """Read the report of a folder that a run has written into, also while it runs.

    Raises
    ------
    FormatError
        There is no report, or it is none of ours.
    """
    path = Path(folder, NAME)
    begun: dict[str, Any] | None = None
    ended: dict[str, Any] | None = None
    videos: dict[str, dict[str, Any]] = {}
    try:
        with open(path, encoding="utf-8") as file:
            for text in file:
                if not text.endswith("\n"):
                    break  # it is just being written, or the disk was full
                line = json.loads(text)
                if line.get("run") == "begun":
                    begun, ended = line, None
                elif line.get("run") == "ended":
                    ended = line
                else:
                    videos[line["output"]] = line
            running = _held(file.fileno())
    except FileNotFoundError as error:
        raise FormatError(f"{path} does not exist: idt extract, flow and encode write it into the folder of their "
                          "results.") from error
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise FormatError(f"{path} is not the report of a run ({error}).") from error
    if begun is None:
        raise FormatError(f"{path} is not the report of a run (it is empty).")
    return Status(begun, ended, running, videos)


def _held(handle: int) -> bool:
    """Tell whether a process that writes the report holds it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    return False
