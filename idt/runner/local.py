"""Where jobs are done: in this process, or in others that may die without harm to the run."""

from __future__ import annotations

import contextlib
import json
import logging
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, InvalidStateError, TimeoutError, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self
from weakref import ReferenceType, ref

from pebble import ProcessExpired, ProcessPool

from idt._util.files import allow_open_files, ensure_temporary_place
from idt.errors import IdtError, VideoError
from idt.runner.jobs import Ended, Job, Work

PAUSE = 0.1
"""Seconds between two looks at the processes, and at least between two messages of one of them."""

_MESSAGE = 4000  # bytes: a write of no more to a pipe is not mixed with those of other processes


class Here:
    """The jobs are done in this process, one after the other."""

    def __init__(self, work: Work, advance: Callable[..., None]) -> None:
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

    def finished(self, pause: float) -> list[Ended]:
        if not self._next:
            time.sleep(pause)
            return []
        number, job = self._next.pop()
        self._advance(number, 0)
        return [_ended(self._work, number, job, lambda *state: self._advance(number, *state))]


def _ended(work: Work, number: int, job: Job, advance: Callable[..., None]) -> Ended:
    """Do a job in this process."""
    processed, began = 0, time.perf_counter()

    def told(done: int, *others: Any) -> None:
        nonlocal processed
        processed = done
        advance(done, *others)

    meta: dict[str, Any] | None = None
    problem: Exception | None = None
    try:
        meta = work(job, told)
    except Exception as error:  # must not cost the rest of the night
        problem = error
    return Ended(number, meta, problem, time.perf_counter() - began, processed)


class Pool:
    """The jobs are done in processes of this machine."""

    def __init__(self, work: Work, advance: Callable[..., None], prepare: Callable[[], None], *, jobs: int,
                 timeout: float | None) -> None:
        self._advance, self._prepare, self._jobs = advance, prepare, jobs
        self._reader, writer = multiprocessing.Pipe(duplex=False)
        self._processes = Processes(work, jobs, timeout, writer=writer)
        self._running: dict[Future[Any], tuple[int, Job, float]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._processes.end(at_once=kind is not None)
        self._reader.close()

    @property
    def free(self) -> bool:
        return len(self._running) <= self._jobs  # one more, so that no process waits for this one

    @property
    def busy(self) -> bool:
        return bool(self._running)

    def submit(self, number: int, job: Job) -> None:
        self._prepare()
        self._prepare = nothing
        self._running[self._processes.begin(number, job)] = (number, job, time.perf_counter())

    def finished(self, pause: float) -> list[Ended]:
        if not self._running:
            time.sleep(pause)
        ended, _ = wait(self._running, pause, FIRST_COMPLETED)
        while self._reader.poll():
            self._advance(*json.loads(self._reader.recv_bytes()))
        return [self._processes.outcome(future, *self._running.pop(future)) for future in ended]


def nothing() -> None:
    """Do nothing: where nothing is to be prepared."""


_environment = threading.RLock()


@contextlib.contextmanager
def _safe_path() -> Iterator[None]:
    """Let Python processes that begin meanwhile not take modules from the working folder, where one may be random.py.

    Those of `multiprocessing` begin with ``python -c``, which puts that folder before the standard library.
    """
    with _environment:
        before = os.environ.get("PYTHONSAFEPATH")
        os.environ["PYTHONSAFEPATH"] = "1"
        try:
            yield
        finally:
            if before is None:
                os.environ.pop("PYTHONSAFEPATH", None)
            else:
                os.environ["PYTHONSAFEPATH"] = before


# Where there is a fork server, a clean process forks the others: the threads of this one and what they hold are not
# copied. Elsewhere each begins on its own.
_Base: Any = type(multiprocessing.get_context(
    "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"))


class _Process(_Base.Process):  # type: ignore[misc]
    def start(self) -> None:
        with _safe_path():
            super().start()


class _Context(_Base):  # type: ignore[misc]
    """Makes the processes of a pool, and can kill them.

    The locks are kept. The pool lets its own go, and only then ends its processes: one that is just beginning would
    miss them, and print where.
    """

    def __init__(self) -> None:
        self._processes: list[ReferenceType[_Process]] = []
        self._locks: list[Any] = []

    def Process(self, *args: Any, **options: Any) -> _Process:
        process = _Process(*args, **options)
        self._processes = [*(reference for reference in self._processes if reference() is not None), ref(process)]
        return process

    def RLock(self) -> Any:
        self._locks.append(super().RLock())
        return self._locks[-1]

    def kill(self) -> None:
        """Kill the processes."""
        for process in [reference() for reference in self._processes]:
            if process is not None and process.pid is not None:
                process.kill()


class Processes:
    """Processes that do jobs; one that dies or takes too long is replaced, and costs its job alone.

    Parameters
    ----------
    work : callable
        Does one job, see `idt.runner.scheduler.run`.
    count : int
        Processes.
    timeout : float or None
        Seconds after which a job is given up.
    writer : Connection, optional
        Where they tell how far they are, as JSON arrays: number of the job and what `advance` was told.
    folder : path, optional
        Working folder of the processes; default: that of this one.
    """

    def __init__(self, work: Work, count: int, timeout: float | None, *, writer: Connection | None = None,
                 folder: str | None = None) -> None:
        self._timeout, self._writer = timeout, writer
        self._begun: set[Future[Any]] = set()
        self._context = _Context()
        allow_open_files()
        ensure_temporary_place()
        try:
            with _safe_path():  # the tracker of semaphores begins with the first of them
                self._pool = ProcessPool(count, context=self._context, initializer=_begin,
                                         initargs=(work, writer, folder or os.getcwd(), self._context.Value("i", 0)))
        except OSError as error:
            raise IdtError(f"Worker processes cannot be started ({error}): use jobs=1 (--jobs 1).") from error

    def begin(self, number: int, job: Job) -> Future[Any]:
        """Begin a job, or let it wait for a process; what `outcome` tells of the future is its end."""
        future: Future[Any] = self._pool.schedule(_do, args=[number, job], timeout=self._timeout)
        self._begun.add(future)
        future.add_done_callback(self._begun.discard)
        return future

    def call(self, function: Callable[[], None]) -> None:
        """Call a function in one of the processes and wait for its end."""
        self._pool.schedule(function).result()

    def outcome(self, future: Future[Any], number: int, job: Job, began: float) -> Ended:
        """Return how a job ended, also when its process did not survive it; waits for that.

        Raises
        ------
        IdtError
            There are no processes any more.
        """
        problem: Exception
        try:
            ended: Ended = future.result()
            return ended
        except ProcessExpired as error:
            code = error.exitcode or 0
            name = f"signal {-code}, {signal.strsignal(-code)}" if code < 0 else f"exit code {code}"
            hint = "; perhaps memory was short" if code == -getattr(signal, "SIGKILL", 0) < 0 else ""
            problem = VideoError(f"{job.source}: the process that worked on it died ({name}{hint}).")
        except TimeoutError:
            problem = VideoError(f"{job.source}: not done in {self._timeout:g} s, which is the timeout.")
        except BrokenProcessPool as error:
            raise IdtError(f"The processes that do the work cannot be begun or understood ({error}). In a script, put "
                           "what it calls below `if __name__ == \"__main__\":`, and give it to Python as a file."
                           ) from error
        except Exception as error:  # what cannot be sent from one process to another
            problem = error
        return Ended(number, error=problem, seconds=time.perf_counter() - began)

    def end(self, *, at_once: bool) -> None:
        """End the processes, when they have done what was begun or at once."""
        if at_once:
            self._pool.stop()  # type: ignore[no-untyped-call]
            self._context.kill()  # or the pool gives each some seconds, one after the other
        else:
            self._pool.close()  # type: ignore[no-untyped-call]
        self._pool.join()
        for future in tuple(self._begun):  # the pool leaves them open, and those who wait for them waiting
            with contextlib.suppress(InvalidStateError):
                future.set_exception(IdtError("The work was stopped."))
        if self._writer is not None:
            self._writer.close()


# In the processes


@dataclass
class _State:
    work: Work | None = None
    writer: Connection | None = None
    rank: int | None = None
    logged: list[tuple[int, str]] = field(default_factory=list)


_here = _State()


def rank() -> int | None:
    """Return which of the processes of a run on this machine this one is, from 0; None when it is none of them.

    One that takes the place of another that died gets a number of its own.
    """
    return _here.rank


class _Kept(logging.Handler):
    """Keeps what the library logs until the job has ended."""

    def emit(self, record: logging.LogRecord) -> None:
        _here.logged.append((record.levelno, record.getMessage()))


def _begin(work: Work, writer: Connection | None, folder: str, counter: Any) -> None:
    """Prepare a process: it leaves Ctrl-C to the one that runs all, and ends with it however that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.chdir(folder)
    with counter.get_lock():
        _here.rank = counter.value
        counter.value += 1
    _here.work, _here.writer = work, writer
    if writer is not None and os.name == "posix":  # elsewhere a message waits until the one before it is read
        os.set_blocking(writer.fileno(), False)
    logger = logging.getLogger("idt")
    logger.addHandler(_Kept(logging.WARNING))
    logger.propagate = False


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _do(number: int, job: Job) -> Ended:
    assert _here.work is not None
    last = time.perf_counter()
    latest: tuple[Any, ...] = (0,)

    def tell() -> None:
        message = json.dumps([number, *latest]).encode()
        if _here.writer is not None and len(message) <= _MESSAGE:
            with contextlib.suppress(BlockingIOError):  # nobody has read for long: it is only told what is of use then
                _here.writer.send_bytes(message)

    def advance(*state: Any) -> None:
        nonlocal last, latest
        latest = state
        if time.perf_counter() - last >= PAUSE:
            last = time.perf_counter()
            tell()

    tell()
    _here.logged.clear()
    ended = _ended(_here.work, number, job, advance)
    tell()
    if ended.error is not None and ended.error.__traceback__ is not None:
        # A traceback does not come along to the other process: its text does, for whoever looks for the place.
        ended.error.add_note("".join(traceback.format_tb(ended.error.__traceback__)).rstrip())
    return Ended(number, ended.meta, ended.error, ended.seconds, ended.processed, tuple(_here.logged))
