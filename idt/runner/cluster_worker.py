"""What a worker of a Dask or Ray cluster does: its jobs, each in a process of its own that may die without harm."""

from __future__ import annotations

import collections
import multiprocessing
import os
import pickle
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from idt import __version__
from idt.errors import IdtError
from idt.runner.jobs import Ended, Job, Work, Workers
from idt.runner.local import Processes

_IDLE = 60.0  # s after which a worker ends the processes of a run that has given it nothing more


@dataclass(frozen=True)
class ClusterRun:
    """What the workers must know of a run."""

    name: str
    package: str
    folder: str
    work: Work
    prepare: Callable[[], None]
    timeout: float | None


def run_of(work: Work, prepare: Callable[[], None], workers: Workers) -> ClusterRun:
    """Return what the workers must know, with a name of its own."""
    return ClusterRun(secrets.token_hex(8), __version__, os.getcwd(), work, prepare, workers.timeout)


class _Here:
    """The processes of a run on this worker."""

    def __init__(self, run: ClusterRun, slots: int) -> None:
        # Dask marks its workers as daemons, which may have no children, lest these outlive them: ours never do.
        multiprocessing.current_process().daemon = False
        self.processes = Processes(run.work, slots, run.timeout, folder=run.folder)
        self.processes.call(run.prepare)
        self.running = 0
        self.last = time.monotonic()


_runs: dict[str, _Here] = {}
_over: collections.deque[str] = collections.deque(maxlen=1000)  # runs that were ended
_lock = threading.Lock()


def unpacked(run: bytes) -> ClusterRun:
    """Return a run that was pickled."""
    given: ClusterRun = pickle.loads(run)  # what this package has packed, sent by the scheduler, which runs code anyway
    return given


def do(run: ClusterRun, number: int, job: Job) -> Ended:
    """Do a job in one of the processes of this worker."""
    if run.package != __version__:
        return Ended(number, error=IdtError(f"{job.source}: the worker has version {__version__} of densetraj, the run "
                                            f"{run.package}: install the same where the workers run."))
    if not Path(run.folder).is_dir():
        return Ended(number, error=IdtError(f"{job.source}: the worker has no folder {run.folder}, in which the run "
                                            "was begun: the machines of a cluster must share their files."))
    began = time.perf_counter()
    with _lock:
        if run.name in _over:
            return Ended(number, error=IdtError("The work was stopped."))
        if not _runs:
            threading.Thread(target=_sweep, daemon=True).start()
        if run.name not in _runs:
            _runs[run.name] = _Here(run, _slots())
        here = _runs[run.name]
        here.running += 1
        future = here.processes.begin(number, job)
    try:
        return here.processes.outcome(future, number, job, began)
    finally:
        with _lock:
            here.running -= 1
            here.last = time.monotonic()


def _slots() -> int:
    """Return how many jobs this worker does at a time."""
    try:
        from distributed import get_worker

        return get_worker().state.nthreads
    except (ImportError, ValueError):  # a worker of Ray
        return 1


def _sweep() -> None:
    """End the processes of runs that have gone without a word."""
    while True:
        time.sleep(_IDLE / 4)
        with _lock:
            idle = [name for name, here in _runs.items()
                    if not here.running and time.monotonic() - here.last > _IDLE]
            ended = [_runs.pop(name) for name in idle]
            last = not _runs
        for here in ended:
            here.processes.end(at_once=True)
        if last:
            return


def end(name: str) -> None:
    """End the processes of a run, and whatever of it comes later."""
    def aside() -> None:  # Dask calls this where it must not wait
        with _lock:
            _over.append(name)
            here = _runs.pop(name, None)
        if here is not None:
            here.processes.end(at_once=True)

    threading.Thread(target=aside).start()
