"""The runner of all work on many videos: what is done, skipped, claimed, tried again, and told."""

from __future__ import annotations

import contextlib
import errno
import logging
import multiprocessing
import os
import re
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

from idt.claims import Claims
from idt.errors import IdtError, OutputError, ParameterError
from idt.executors import PAUSE, Ended, Executor, Here, Pool, Work, nothing
from idt.output import remove_leftovers, writing
from idt.params import allowed_text
from idt.reports import ReportWriter
from idt.work import Job, size_of

Paths: TypeAlias = str | os.PathLike[str]
Backend: TypeAlias = Literal["local", "dask", "ray"]
T = TypeVar("T")

_BACKENDS = ("local", "dask", "ray")
_LOOK = 1.0  # s between two looks at what other runs work on
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # after which no other video can be written either

_log = logging.getLogger("idt")


@dataclass(frozen=True, kw_only=True)
class Workers:
    """Who does the work.

    Processes are those of `multiprocessing`: a script that asks for them does so below ``if __name__ == "__main__":``.

    Parameters
    ----------
    jobs : int, optional
        Videos at a time, each in a process of its own. Default: on this machine one, which is worked on in this
        process, as it is with 1 and without a timeout; a decoder that crashes takes this process along. On a cluster as
        many as it has slots.
    timeout : float, optional
        Seconds after which the work on a video is given up.
    retries : int
        How often the work on a video that failed is tried again.
    backend : {"local", "dask", "ray"}
        Where the processes are: on this machine, or on the workers of a Dask or Ray cluster, which see the same files
        under the same names and have the same version of this package.
    scheduler : str, optional
        Address of the running cluster, such as ``tcp://10.0.0.1:8786`` of Dask or ``10.0.0.1:6379`` of Ray. Default:
        what these two do without an address, which is to start a cluster on this machine unless their own settings
        name one.
    shard : (int, int) or str, optional
        ``(k, n)`` or ``"k/n"``: of the videos only the k-th of every n, k from 1. The n runs together do all.

    Raises
    ------
    ParameterError
        A value is not one of these.
    """

    jobs: int | None = None
    timeout: float | None = None
    retries: int = 0
    backend: Backend = "local"
    scheduler: str | None = None
    shard: tuple[int, int] | str | None = None

    def __post_init__(self) -> None:
        for name, value, least in (("jobs", 1 if self.jobs is None else self.jobs, 1), ("retries", self.retries, 0)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ParameterError(f"{name} is {value!r}: it must be an integer from {least}.")
        if self.timeout is not None and not 0 < self.timeout < float("inf"):
            raise ParameterError(f"timeout is {self.timeout!r}: it must be a number of seconds above 0.")
        if self.backend not in _BACKENDS:
            raise ParameterError(f"backend is {self.backend!r}: it must be one of "
                                 f"{allowed_text(self.backend, _BACKENDS)}")
        if self.scheduler is not None and self.backend == "local":
            raise ParameterError(f"scheduler is {self.scheduler}, but the backend is local: give the backend, dask or "
                                 "ray, too.")
        object.__setattr__(self, "shard", _shard(self.shard))

    @property
    def apart(self) -> bool:
        """Whether the work is done in processes of its own."""
        return self.backend != "local" or (self.jobs or 1) > 1 or self.timeout is not None

    def part(self, jobs: Sequence[T]) -> Sequence[T]:
        """Return those of the jobs that are in the shard."""
        if self.shard is None or isinstance(self.shard, str):
            return jobs
        return jobs[self.shard[0] - 1::self.shard[1]]


def _shard(given: tuple[int, int] | str | None) -> tuple[int, int] | None:
    if given is None:
        return None
    numbers: Any = given
    if isinstance(given, str):
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", given)
        numbers = tuple(map(int, found.groups())) if found else ()
    if len(numbers) != 2 or not all(type(n) is int for n in numbers) or not 1 <= numbers[0] <= numbers[1]:
        raise ParameterError(f"shard is {given!r}: it must be K/N with K from 1 to N, such as 3/16.")
    return numbers[0], numbers[1]


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes
    ----------
    job : Job
    state : {"done", "skipped", "failed"}
        Skipped: it was done before, or by another run.
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
    bytes : int
        Size of what was made.
    """

    job: Job
    state: Literal["done", "skipped", "failed"]
    meta: dict[str, Any] | None = None
    error: Exception | None = None
    seconds: float = 0.0
    processed: int = 0
    number: int = 0
    share: float = 0.0
    bytes: int = 0

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

    @property
    def frames(self) -> int | None:
        """Frames that were decoded, None when that is not known."""
        frames: int | None = ((self.meta or {}).get("video") or {}).get("decoded_frames")
        return frames

    @property
    def rows(self) -> int | None:
        """Trajectories that were found or encoded, None when there are no such things."""
        rows: int | None = (self.meta or {}).get("rows")
        return rows


@dataclass(frozen=True)
class Summary:
    """What became of all jobs.

    It keeps nothing of the single videos that are done, so that it does not grow with their number; `report` gets the
    outcome of each.

    Attributes
    ----------
    done, skipped : int
        Videos that were done, and that had been done before or by another run meanwhile.
    failed : tuple of Outcome
        In the order of the jobs.
    frames, rows, bytes : int
        Decoded frames, trajectories and size of the files, of what was done.
    seconds : float
        Time of the run.
    """

    done: int = 0
    skipped: int = 0
    failed: tuple[Outcome, ...] = ()
    frames: int = 0
    rows: int = 0
    bytes: int = 0
    seconds: float = 0.0


class Tally:
    """Adds outcomes up to a `Summary`."""

    def __init__(self) -> None:
        self._counts = {"done": 0, "skipped": 0}
        self._failed: list[Outcome] = []
        self._sums = {"frames": 0, "rows": 0, "bytes": 0}
        self._began = time.perf_counter()

    @property
    def count(self) -> int:
        """Number of the outcomes that were added."""
        return sum(self._counts.values()) + len(self._failed)

    def add(self, outcome: Outcome) -> None:
        """Add the outcome of a job."""
        if outcome.state == "failed":
            self._failed.append(outcome)
            return
        self._counts[outcome.state] += 1
        for name in self._sums:
            self._sums[name] += getattr(outcome, name) or 0

    def summary(self) -> Summary:
        """Return what was added until now."""
        return Summary(**self._counts, failed=tuple(sorted(self._failed, key=lambda outcome: outcome.number)),
                       **self._sums, seconds=time.perf_counter() - self._began)


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
        prepare: Callable[[], None] | None = None, workers: Workers | None = None, recorded: bool = True,
        progress: Callable[[Progress], None] | None = None, report: Callable[[Outcome], None] | None = None) -> Summary:
    """Do the jobs; those that are `done` are skipped, one that fails is passed over and leaves no file.

    Of several runs with one output folder each takes what none of the others works on; what is left then it waits for,
    and does itself if the other run ends without having done it.

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
    prepare : callable, optional
        What is to be done once before several processes of a machine begin. Processes of a cluster get it pickled.
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
    ParameterError
        A script uses several processes and does not call this below ``if __name__ == "__main__":``.
    OutputError
        The output folder cannot be made; or nothing more can be written there while videos are left, because the disk
        is full or read-only.
    IdtError
        There is no such cluster, or it was lost.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise ParameterError("A process that was to do a part of the work has run the whole script instead: put what "
                             "the script calls below `if __name__ == \"__main__\":`.")
    workers = workers or Workers()
    jobs = workers.part(jobs)
    with writing(output):
        if Path(output).exists() and not Path(output).is_dir():
            raise OutputError(f"{os.fspath(output)} is not a folder: give the folder that the files go to.")
        Path(output).mkdir(parents=True, exist_ok=True)
    record = ReportWriter(output, len(jobs), workers) if recorded else None
    folders: set[Path] = set()
    with _swept(folders), record or contextlib.nullcontext(), Claims(output) as claims:
        this = _Run(jobs, output, done, workers, claims, folders, progress, [
            call for call in (record.add if record else None, report) if call is not None])
        with _executor(workers, work, this.advance, prepare or nothing) as place:
            this.go(place)
    return this.tally.summary()


class _Run:
    """What a run knows of its jobs, which it calls by their numbers."""

    def __init__(self, jobs: Sequence[Job], output: Paths, done: Callable[[Job], bool], workers: Workers,
                 claims: Claims, folders: set[Path], progress: Callable[[Progress], None] | None,
                 reports: Sequence[Callable[[Outcome], None]]) -> None:
        self.tally = Tally()
        self._jobs, self._output, self._done, self._workers, self._claims = jobs, output, done, workers, claims
        self._folders, self._progress, self._reports = folders, progress, reports
        sizes = [size_of(job.source) for job in jobs]
        whole = sum(sizes)
        self._shares = [size / whole if whole else 1 / len(jobs) for size in sizes]
        self._tries = [0] * len(jobs)
        numbers = range(len(jobs))
        self._new = deque(sorted(numbers, key=lambda n: -sizes[n]) if workers.apart else numbers)
        self._ready: deque[int] = deque()  # looked at: they are not done
        self._elsewhere: list[int] = []  # other runs work on them
        self._looked = time.monotonic()

    def go(self, place: Executor) -> None:
        """Do all jobs there."""
        waited = False
        while self._new or self._ready or self._elsewhere or place.busy:
            until = time.monotonic() + PAUSE  # then those that are worked on have something to tell
            while place.free and (self._new or self._ready) and time.monotonic() < until:
                if self._ready:
                    self._begin(self._ready.popleft(), place)
                else:
                    self._look()
            while self._workers.apart and place.busy and self._new and time.monotonic() < until:
                self._look()  # ahead: how much there is to do is soon known
            more = (self._new and self._workers.apart) or (place.free and (self._new or self._ready))
            for ended in place.finished(0.0 if more else PAUSE):
                self._close(ended)
            if self._elsewhere and not (self._new or self._ready):
                if not (waited or place.busy):
                    waited = True
                    names = self._jobs[self._elsewhere[0]].source if len(self._elsewhere) == 1 else \
                        f"{len(self._elsewhere)} of the videos"
                    _log.warning("Waiting for another run, which works on %s.", names)
                if time.monotonic() - self._looked >= _LOOK:
                    self._looked = time.monotonic()
                    self._new.extend(self._elsewhere)
                    self._elsewhere.clear()

    def _look(self) -> None:
        number = self._new.popleft()
        if self._needed(number):
            self._ready.append(number)

    def _needed(self, number: int) -> bool:
        job = self._jobs[number]
        if job.error is not None:
            self._end(number, "failed", error=job.error)
            return False
        try:
            if not self._done(job):
                return True
        except Exception as unforeseen:  # must not cost the rest of the night
            self._end(number, "failed", error=unforeseen)
            return False
        self._end(number, "skipped")
        return False

    def _begin(self, number: int, place: Executor) -> None:
        job = self._jobs[number]
        if not self._claims.take(job.output):
            self._elsewhere.append(number)
            return
        if not self._needed(number):  # any more: another run has just done it
            self._claims.release(job.output)
            return
        if (folder := _folder(job)) not in self._folders:
            self._folders.add(folder)
            remove_leftovers(folder)
        self._tries[number] += 1
        place.submit(number, job)

    def _close(self, ended: Ended) -> None:
        number, job = ended.number, self._jobs[ended.number]
        self._claims.release(job.output)
        for level, text in ended.logged:
            _log.log(level, "%s", text)
        if ended.error is None:
            self._end(number, "done", meta=ended.meta, seconds=ended.seconds, processed=ended.processed,
                      bytes=_bytes(job.output))
            return
        remove_leftovers(_folder(job))  # of a process that was killed
        if self._tries[number] <= self._workers.retries:
            self._ready.append(number)
            return
        self._end(number, "failed", error=ended.error, seconds=ended.seconds, processed=ended.processed)
        left = len(self._jobs) - self.tally.count
        if isinstance(ended.error, OutputError) and ended.error.errno in _FULL and left:
            remedy = "make it writable" if ended.error.errno == errno.EROFS else "make room"
            raise OutputError(f"{os.fspath(self._output)}: the run stops, for nothing more can be written there "
                              f"({os.strerror(ended.error.errno)}), with {left} of {len(self._jobs)} videos left: "
                              f"{remedy} and give the same command again.")

    def advance(self, number: int, done: int, total: int | None = None, trajectories: int | None = None) -> None:
        """Tell how far a job is."""
        if self._progress is not None:
            self._progress(Progress(self._jobs[number], number + 1, len(self._jobs), done, total, trajectories,
                                    self._shares[number]))

    def _end(self, number: int, state: Literal["done", "skipped", "failed"], **told: Any) -> None:
        outcome = Outcome(self._jobs[number], state, number=number + 1, share=self._shares[number], **told)
        self.tally.add(outcome)
        for report in self._reports:
            report(outcome)


def _executor(workers: Workers, work: Work, advance: Callable[..., None], prepare: Callable[[], None]) -> Executor:
    if workers.backend == "dask":
        from idt.clusters import Dask

        return Dask(work, advance, prepare, workers)
    if workers.backend == "ray":
        from idt.clusters import Ray

        return Ray(work, advance, prepare, workers)
    if not workers.apart:
        return Here(work, advance)
    return Pool(work, advance, prepare, jobs=workers.jobs or 1, timeout=workers.timeout)


def _folder(job: Job) -> Path:
    """Return the folder in which the output will really lie, and until then its temporary file."""
    return Path(os.path.realpath(job.output)).parent


@contextlib.contextmanager
def _swept(folders: Collection[Path]) -> Iterator[None]:
    """Remove at the end what processes that were killed meanwhile have left in the folders."""
    try:
        yield
    finally:
        for folder in folders:
            remove_leftovers(folder)


def _bytes(output: Path) -> int:
    with contextlib.suppress(OSError):
        if output.is_dir():
            with os.scandir(output) as entries:
                return sum(entry.stat().st_size for entry in entries)
        return output.stat().st_size
    return 0
