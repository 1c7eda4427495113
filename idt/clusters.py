"""Jobs done on the workers of a Dask or Ray cluster, each there in a process of its own that may die without harm."""

from __future__ import annotations

import collections
import contextlib
import logging
import multiprocessing
import os
import pickle
import queue
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from idt import __version__
from idt.errors import IdtError, VideoError
from idt.executors import Ended, Processes, Work
from idt.work import Job

if TYPE_CHECKING:
    from idt.runner import Workers

_CONNECT = 10.0  # s
_PATIENCE = 60.0  # s for the first worker to join
_LOOK = 5.0  # s between two looks at how many slots there are
_RIGHT = "the address is right"
_IDLE = 60.0  # s after which a worker ends the processes of a run that has given it nothing more

_log = logging.getLogger("idt")


@dataclass(frozen=True)
class _Run:
    """What the workers must know of a run."""

    name: str
    package: str
    folder: str
    work: Work
    prepare: Callable[[], None]
    timeout: float | None


def _run(work: Work, prepare: Callable[[], None], workers: Workers) -> _Run:
    return _Run(secrets.token_hex(8), __version__, os.getcwd(), work, prepare, workers.timeout)


class Dask:
    """The jobs are done on the workers of a Dask cluster, one for each of their threads.

    A worker that is lost costs no video: the scheduler gives its jobs to others.
    """

    def __init__(self, work: Work, advance: Callable[..., None], prepare: Callable[[], None], workers: Workers
                 ) -> None:
        with _installed("dask", "dask[distributed]"):
            from distributed import Client
        self._advance, self._address, self._jobs = advance, workers.scheduler, workers.jobs
        _check_reachable("Dask scheduler", self._address)
        logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # what it has to tell, we tell
        with _reached("Dask scheduler", self._address, _RIGHT):
            self._client = Client(self._address, timeout=_CONNECT, set_as_default=False)
        self._ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._running: dict[Any, tuple[int, Job]] = {}
        self._slots, self._looked = 0, -_LOOK
        self._run = _run(work, prepare, workers)

    def __enter__(self) -> Self:
        try:
            self._client.wait_for_workers(1, timeout=_PATIENCE)
        except TimeoutError as error:
            self._client.close()
            raise IdtError(f"No worker has joined the Dask scheduler at {self._client.scheduler.address} in "
                           f"{_PATIENCE:g} s: start some with `dask worker {self._client.scheduler.address}`."
                           ) from error
        # A task whose result is the run: workers that come later, or instead of others, get it like any other result.
        self._given = self._client.submit(_unpacked, pickle.dumps(self._run), key=f"idt-{self._run.name}")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        with contextlib.suppress(Exception):  # the cluster may be what failed
            self._client.cancel([*self._running], force=True)
            self._client.run(_end, self._run.name, on_error="ignore")
        with contextlib.suppress(Exception):
            self._client.close(timeout=2)

    @property
    def free(self) -> bool:
        if time.monotonic() - self._looked >= _LOOK:
            self._looked = time.monotonic()
            with _reached("Dask scheduler", self._address, _RIGHT):
                slots = sum(self._client.nthreads().values())
            if self._slots and not slots:
                _log.warning("No worker of the Dask scheduler is left; the run goes on when one joins it.")
            self._slots = slots
        return len(self._running) < (self._jobs or _more(self._slots))

    @property
    def busy(self) -> bool:
        return bool(self._running)

    def submit(self, number: int, job: Job) -> None:
        future = self._client.submit(_do, self._given, number, job, pure=False,
                                     key=f"idt-{self._run.name}-{number}-{secrets.token_hex(4)}")
        self._running[future] = (number, job)
        future.add_done_callback(self._ended.put)
        self._advance(number, 0)

    def finished(self, pause: float) -> list[Ended]:
        return [self._outcome(future) for future in _drained(self._ended, pause)]

    def _outcome(self, future: Any) -> Ended:
        from distributed import KilledWorker

        number, job = self._running.pop(future)
        if future.status not in ("finished", "error"):
            raise IdtError(f"The Dask scheduler{_at(self._address)} was lost, or has dropped the work: start it, and "
                           "give the same command again.")
        try:
            ended: Ended = future.result()
            return ended
        except KilledWorker:
            return Ended(number, error=VideoError(f"{job.source}: the Dask workers that it was given to died one "
                                                  "after the other."))
        except Exception as error:
            return Ended(number, error=_explained(error))


class Ray:
    """The jobs are done on the workers of a Ray cluster, one for each of its CPUs.

    A worker that is lost costs no video: Ray gives its job to another.
    """

    def __init__(self, work: Work, advance: Callable[..., None], prepare: Callable[[], None], workers: Workers
                 ) -> None:
        with _installed("ray", "ray"):
            import ray
        self._ray, self._advance, self._address, self._jobs = ray, advance, workers.scheduler, workers.jobs
        self._ours = not ray.is_initialized()
        if self._ours:
            _check_reachable("Ray cluster", self._address)
            see = "RAY_AUTH_MODE is set as where it was started (from 2.59 on Ray asks for a token)"
            with _reached("Ray cluster", self._address, see):
                ray.init(address=self._address, log_to_driver=False, logging_level=logging.ERROR,
                         namespace="idt")
        self._task = ray.remote(num_cpus=1, max_retries=3)(_do)
        self._given = ray.put(_run(work, prepare, workers))
        self._running: dict[Any, tuple[int, Job]] = {}
        self._slots, self._looked = 0, -_LOOK

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        with contextlib.suppress(Exception):  # the cluster may be what failed
            for reference in self._running:
                self._ray.cancel(reference, force=True)
            if self._ours:
                self._ray.shutdown()

    @property
    def free(self) -> bool:
        if time.monotonic() - self._looked >= _LOOK:
            _check_reachable("Ray cluster", self._address)  # Ray itself would wait for it, and then end this process
            self._slots = int(self._ray.cluster_resources().get("CPU", 0))
            self._looked = time.monotonic()
        return len(self._running) < (self._jobs or _more(self._slots))

    @property
    def busy(self) -> bool:
        return bool(self._running)

    def submit(self, number: int, job: Job) -> None:
        self._running[self._task.remote(self._given, number, job)] = (number, job)
        self._advance(number, 0)

    def finished(self, pause: float) -> list[Ended]:
        if not self._running:
            time.sleep(pause)
            return []
        ready, others = self._ray.wait([*self._running], timeout=pause)
        if others:
            ready += self._ray.wait(others, num_returns=len(others), timeout=0)[0]
        return [self._outcome(reference) for reference in ready]

    def _outcome(self, reference: Any) -> Ended:
        number, job = self._running.pop(reference)
        try:
            ended: Ended = self._ray.get(reference)
            return ended
        except self._ray.exceptions.RayTaskError as error:
            return Ended(number, error=_explained(error.cause))
        except self._ray.exceptions.RayError as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            return Ended(number, error=VideoError(f"{job.source}: the Ray workers that it was given to died one after "
                                                  f"the other ({reason})."))


@contextlib.contextmanager
def _installed(module: str, package: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise IdtError(f"{package} is not installed: pip install 'densetraj[{module}]'.") from error


@contextlib.contextmanager
def _reached(what: str, address: str | None, see: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # of many kinds
        reason = " ".join(str(error).split())[:300]
        raise IdtError(f"The {what}{_at(address)} cannot be reached ({reason or type(error).__name__}): see that it "
                       f"runs and that {see}.") from error


def _check_reachable(what: str, address: str | None) -> None:
    """Raise `IdtError` at once when nothing answers at an address, where Dask and Ray would try for long."""
    found = re.fullmatch(r"(?:(?:tcp|tls|ray)://)?\[?([^/\]]+?)\]?:(\d+)", address or "")
    if found is None and address is not None and "://" not in address and address not in ("auto", "local"):
        raise IdtError(f"The {what} cannot be at {address!r}: give its address as HOST:PORT.")
    if found is not None:
        with _reached(what, address, _RIGHT), socket.create_connection((found[1], int(found[2])), timeout=_CONNECT):
            pass


def _more(slots: int) -> int:
    """Return how many jobs so many slots are given, so that none of them waits for the next."""
    return slots + slots // 4 + 1 if slots else 0


def _at(address: str | None) -> str:
    return f" at {address}" if address else ""


def _drained(ended: queue.SimpleQueue[Any], pause: float) -> list[Any]:
    """Return what is in the queue, or else what comes first within `pause` seconds."""
    found = []
    with contextlib.suppress(queue.Empty):
        found.append(ended.get(timeout=pause) if pause else ended.get_nowait())
        while True:
            found.append(ended.get_nowait())
    return found


def _explained(error: Exception) -> Exception:
    """Return an error of the cluster itself, not of the work, as one of ours."""
    if isinstance(error, ImportError):
        return IdtError(f"The workers of the cluster cannot import densetraj ({error}): install version {__version__} "
                        "where they run.")
    return error


# On the workers


class _Here:
    """The processes of a run on this worker."""

    def __init__(self, run: _Run, slots: int) -> None:
        # Dask marks its workers as daemons, which may have no children, lest these outlive them: ours never do.
        multiprocessing.current_process().daemon = False
        self.processes = Processes(run.work, slots, run.timeout, folder=run.folder)
        self.processes.call(run.prepare)
        self.running = 0
        self.last = time.monotonic()


_runs: dict[str, _Here] = {}
_over: collections.deque[str] = collections.deque(maxlen=1000)  # runs that were ended
_lock = threading.Lock()


def _unpacked(run: bytes) -> _Run:
    unpacked: _Run = pickle.loads(run)  # what this package has packed, sent by the scheduler, which runs code anyway
    return unpacked


def _do(run: _Run, number: int, job: Job) -> Ended:
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


def _end(name: str) -> None:
    """End the processes of a run, and whatever of it comes later."""
    def end() -> None:  # aside: Dask calls this where it must not wait
        with _lock:
            _over.append(name)
            here = _runs.pop(name, None)
        if here is not None:
            here.processes.end(at_once=True)

    threading.Thread(target=end).start()
