"""The runner of all work on many videos: what is done, skipped, claimed, tried again, and told."""

from __future__ import annotations

import contextlib
import errno
import logging
import multiprocessing
import os
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from idt._util.files import remove_leftovers, writing
from idt.errors import OutputError, ParameterError
from idt.runner.inputs import size_of
from idt.runner.jobs import Ended, Executor, Job, Outcome, Progress, Summary, Work, Workers
from idt.runner.leases import Claims
from idt.runner.local import PAUSE, Here, Pool, nothing
from idt.runner.log import ReportWriter

Paths: TypeAlias = str | os.PathLike[str]

_LOOK = 1.0  # s between two looks at what other runs work on
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # after which no other video can be written either

_log = logging.getLogger("idt")


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
        Whether the report of the run is written into the folder, see `idt.runner.log`.
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
        from idt.runner.dask_executor import Dask

        return Dask(work, advance, prepare, workers)
    if workers.backend == "ray":
        from idt.runner.ray_executor import Ray

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
