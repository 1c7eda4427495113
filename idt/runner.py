"""The runner of all work on many videos: in this process, or in others that may die without harm to the run."""

from __future__ import annotations

import contextlib
import json
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, TimeoutError, wait
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

from pebble import ProcessExpired, ProcessPool

from idt.errors import IdtError, OutputError, ParameterError, VideoError
from idt.output import remove_leftovers, writing
from idt.reports import ReportWriter
from idt.work import Job

Paths: TypeAlias = str | os.PathLike[str]
Work: TypeAlias = Callable[[Job, Callable[..., None]], dict[str, Any]]

_MESSAGE = 4000  # bytes: a write of no more to a pipe is not mixed with those of other processes
_PAUSE = 0.1  # s between two looks at the workers, and at least between two messages of one of them

_log = logging.getLogger("idt")


@dataclass(frozen=True, kw_only=True)
class Workers:
    """Who does the work.

    Processes are those of `multiprocessing`: a script that asks for them does so below ``if __name__ == "__main__":``.

    Parameters
    ----------
    jobs : int
        Videos at a time, each in a process of its own; with 1 and without a timeout in this process, which a decoder
        that crashes takes along.
    timeout : float, optional
        Seconds after which the work on a video is given up.
    retries : int
        How often the work on a video that failed is tried again.

    Raises
    ------
    ParameterError
        A number is out of these limits.
    """

    jobs: int = 1
    timeout: float | None = None
    retries: int = 0

    def __post_init__(self) -> None:
        for name, value, least in (("jobs", self.jobs, 1), ("retries", self.retries, 0)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ParameterError(f"{name} is {value!r}: it must be an integer from {least}.")
        if self.timeout is not None and not 0 < self.timeout < float("inf"):
            raise ParameterError(f"timeout is {self.timeout!r}: it must be a number of seconds above 0.")

    @property
    def apart(self) -> bool:
        """Whether the work is done in processes of its own."""
        return self.jobs > 1 or self.timeout is not None


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes
    ----------
    job : Job
    state : {"done", "skipped", "failed"}
        Skipped: it was done before.
    meta : dict or None
        Metadata of what was made when state is "done".
    error : Exception or None
        What went wrong when state is "failed".
    seconds : float
        Time that the work took.
    processed : int
        Frames (pairs, trajectories) that were processed.
    number : int
        It was the `number`-th job (from 1).
    share : float
        Of the whole run, by the size of the file.
    """

    job: Job
    state: Literal["done", "skipped", "failed"]
    meta: dict[str, Any] | None = None
    error: Exception | None = None
    seconds: float = 0.0
    processed: int = 0
    number: int = 0
    share: float = 0.0

    @property
    def reason(self) -> str | None:
        """One sentence about `error`."""
        if self.error is None:
            return None
        if isinstance(self.error, IdtError):
            return str(self.error)
        if isinstance(self.error, MemoryError):
            return f"{self.job.source}: there is not enough memory; smaller frames (short_side) need less."
        return f"{self.job.source}: unexpected {type(self.error).__name__}: {self.error}"


@dataclass(frozen=True)
class Summary:
    """The outcomes of a run, in the order of the jobs."""

    outcomes: tuple[Outcome, ...]

    def count(self, state: Literal["done", "skipped", "failed"]) -> int:
        """Return the number of outcomes in `state`."""
        return sum(o.state == state for o in self.outcomes)

    @property
    def failed(self) -> list[Outcome]:
        """The outcomes of the videos that failed."""
        return [o for o in self.outcomes if o.state == "failed"]


@dataclass(frozen=True)
class Progress:
    """Where the work on a video stands.

    Attributes
    ----------
    job : Job
    number, videos : int
        It is the `number`-th (from 1) of so many videos.
    done : int
        Frames of this video that are processed, or pairs of frames whose flow is; 0 before the first.
    total : int or None
        Number of them that the video promises.
    trajectories : int or None
        Rows of this video so far; None of flow.
    share : float
        Of this video in the whole run, by the size of its file.
    """

    job: Job
    number: int
    videos: int
    done: int = 0
    total: int | None = None
    trajectories: int | None = None
    share: float = 1.0


def run(jobs: Sequence[Job], work: Work, output: Paths, *, done: Callable[[Job], bool] = lambda job: False,
        prepare: Callable[[], None] = lambda: None, workers: Workers | None = None, recorded: bool = True,
        progress: Callable[[Progress], None] | None = None, report: Callable[[Outcome], None] | None = None) -> Summary:
    """Do the jobs; those that are `done` are skipped, one that fails is passed over and leaves no file.

    Parameters
    ----------
    jobs : sequence of Job
        With several processes the largest files are begun first, so that none of them is left for the end.
    work : callable
        Does one job and returns the metadata of what it made. It is told how far it is through a function that takes
        what is done, the total and the trajectories, see `Progress`. Processes get it pickled.
    output : path
        Folder of the outputs, made if missing.
    done : callable
        Tells in this process whether a job needs no work.
    prepare : callable
        What is to be done once, in this process, before other processes begin.
    workers : Workers, optional
        Default: this process.
    recorded : bool
        Whether the report of the run is written into the folder, see `idt.reports`.
    progress, report : callable, optional
        Called in this process: with a `Progress` as a job begins and goes on, with an `Outcome` when it ends.

    Returns
    -------
    Summary

    Raises
    ------
    OutputError
        The output folder cannot be made.
    """
    workers = workers or Workers()
    with writing(output):
        if Path(output).exists() and not Path(output).is_dir():
            raise OutputError(f"{os.fspath(output)} is not a folder: give the folder that the files go to.")
        Path(output).mkdir(parents=True, exist_ok=True)
    sizes = [_size(job) for job in jobs]
    whole = sum(sizes)
    shares = [size / whole if whole else 1 / len(jobs) for size in sizes]
    outcomes: dict[int, Outcome] = {}
    states: dict[int, Progress] = {}
    cleared: set[Path] = set()
    prepared = False
    attempts = dict.fromkeys(range(len(jobs)), 0)

    def advance(number: int, done: int, total: int | None = None, trajectories: int | None = None) -> None:
        states[number] = Progress(jobs[number], number + 1, len(jobs), done, total, trajectories, shares[number])
        if progress is not None:
            progress(states[number])

    def end(number: int, state: Literal["done", "skipped", "failed"], **told: Any) -> None:
        outcomes[number] = Outcome(jobs[number], state, number=number + 1, share=shares[number], **told)
        if recorded:
            record.add(outcomes[number])
        if report is not None:
            report(outcomes[number])

    waiting = deque(sorted(attempts, key=lambda n: -sizes[n]) if workers.apart else attempts)
    record = ReportWriter(output, len(jobs), workers)
    with (record if recorded else contextlib.nullcontext(),
          (_Pool if workers.apart else _Here)(work, advance, workers) as place):
        while waiting or place.busy:
            while waiting and place.free:
                number = waiting.popleft()
                job = jobs[number]
                try:
                    skip = not attempts[number] and done(job)
                except Exception as unforeseen:  # must not cost the rest of the night
                    end(number, "failed", error=unforeseen)
                    continue
                if skip:
                    end(number, "skipped")
                    continue
                folder = _folder(job)
                if folder not in cleared:
                    cleared.add(folder)
                    remove_leftovers(folder)
                if workers.apart and not prepared:
                    prepare()
                    prepared = True
                attempts[number] += 1
                place.submit(number, job)
            for number, meta, error, seconds in place.finished():
                job = jobs[number]
                if error is not None:
                    remove_leftovers(_folder(job))  # of a process that was killed
                if error is not None and attempts[number] <= workers.retries:
                    waiting.append(number)
                    continue
                end(number, "done" if error is None else "failed", meta=meta, error=error, seconds=seconds,
                    processed=states.pop(number).done if number in states else 0)
    return Summary(tuple(outcomes[number] for number in range(len(jobs))))


def _folder(job: Job) -> Path:
    """Return the folder in which the output will really lie, and until then its temporary file."""
    return Path(os.path.realpath(job.output)).parent


def _size(job: Job) -> int:
    try:
        return os.stat(job.source).st_size
    except OSError:
        return 0


Finished: TypeAlias = tuple[int, dict[str, Any] | None, Exception | None, float]


class _Here:
    """The jobs are done in this process, one after the other."""

    def __init__(self, work: Work, advance: Callable[..., None], workers: Workers) -> None:
        self._work, self._advance = work, advance
        self._next: list[tuple[int, Job]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    @property
    def free(self) -> bool:
        return not self._next

    @property
    def busy(self) -> bool:
        return bool(self._next)

    def submit(self, number: int, job: Job) -> None:
        self._next.append((number, job))

    def finished(self) -> list[Finished]:
        if not self._next:
            return []
        number, job = self._next.pop()
        began = time.perf_counter()
        try:
            self._advance(number, 0)
            meta = self._work(job, lambda *state: self._advance(number, *state))
        except Exception as error:
            return [(number, None, error, time.perf_counter() - began)]
        return [(number, meta, None, time.perf_counter() - began)]


class _Pool:
    """The jobs are done in processes. One that dies or takes too long is replaced, and costs its job alone."""

    def __init__(self, work: Work, advance: Callable[..., None], workers: Workers) -> None:
        self._advance, self._workers = advance, workers
        # A clean process forks the others: the threads of this one and what they hold are not copied.
        context = multiprocessing.get_context("forkserver")
        self._reader, self._writer = context.Pipe(duplex=False)
        self._running: dict[Future[Any], tuple[int, Job, float]] = {}
        self._pool = ProcessPool(workers.jobs, context=context, initializer=_begin, initargs=(work, self._writer))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if kind is None:
            self._pool.close()  # type: ignore[no-untyped-call]
        else:
            self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join()
        self._reader.close()
        self._writer.close()
        for _, job, _ in self._running.values():
            remove_leftovers(_folder(job))

    @property
    def free(self) -> bool:
        return len(self._running) < 2 * self._workers.jobs  # so that no process waits for this one

    @property
    def busy(self) -> bool:
        return bool(self._running)

    def submit(self, number: int, job: Job) -> None:
        future = self._pool.schedule(_do, args=[number, job], timeout=self._workers.timeout)
        self._running[future] = (number, job, time.perf_counter())

    def finished(self) -> list[Finished]:
        ended, _ = wait(self._running, _PAUSE, FIRST_COMPLETED)
        self._listen()
        found: list[Finished] = []
        for future in ended:
            number, job, began = self._running.pop(future)
            try:
                meta, seconds = future.result()
                found.append((number, meta, None, seconds))
            except Exception as error:
                found.append((number, None, self._told(error, job), time.perf_counter() - began))
        return found

    def _listen(self) -> None:
        """Pass on what the processes have told meanwhile."""
        while self._reader.poll():
            told = json.loads(self._reader.recv_bytes())
            if "log" in told:
                _log.log(told["level"], "%s", told["log"])
            else:
                self._advance(*told["state"])

    def _told(self, error: Exception, job: Job) -> Exception:
        """Return what an error of the pool means for a job."""
        if isinstance(error, ProcessExpired):
            code = error.exitcode or 0
            name = f"signal {-code}, {signal.strsignal(-code)}" if code < 0 else f"exit code {code}"
            hint = "; perhaps memory was short" if -code == signal.SIGKILL else ""
            return VideoError(f"{job.source}: the process that worked on it died ({name}{hint}).")
        if isinstance(error, TimeoutError) and self._workers.timeout is not None:
            return VideoError(f"{job.source}: not done in {self._workers.timeout:g} s, which is the timeout.")
        return error


# In the processes


class _Told(logging.Handler):
    """Sends what the library logs to the process that runs all."""

    def emit(self, record: logging.LogRecord) -> None:
        _tell({"log": record.getMessage()[:_MESSAGE // 8], "level": record.levelno})


_work: Work
_writer: Connection


def _begin(work: Work, writer: Connection) -> None:
    """Prepare a process: it leaves Ctrl-C to the one that runs all, and ends with it however that ends."""
    global _work, _writer
    _work, _writer = work, writer
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    logger = logging.getLogger("idt")
    logger.addHandler(_Told(logging.WARNING))
    logger.propagate = False


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _do(number: int, job: Job) -> tuple[dict[str, Any], float]:
    began = last = time.perf_counter()
    _tell({"state": [number, 0]})
    latest: list[Any] = []

    def advance(*state: Any) -> None:
        nonlocal last, latest
        latest = [number, *state]
        if time.perf_counter() - last >= _PAUSE:
            last = time.perf_counter()
            _tell({"state": latest})

    meta = _work(job, advance)
    if latest:
        _tell({"state": latest})
    return meta, time.perf_counter() - began


def _tell(message: dict[str, Any]) -> None:
    _writer.send_bytes(json.dumps(message).encode())
