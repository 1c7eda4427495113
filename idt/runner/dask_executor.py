"""Jobs done on the workers of a Dask cluster."""

from __future__ import annotations

import contextlib
import logging
import pickle
import queue
import secrets
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from idt.errors import IdtError, VideoError
from idt.runner.cluster_worker import do, end, run_of, unpacked
from idt.runner.clusters import CONNECT, LOOK, RIGHT, at, check_reachable, explained, installed, more, reached
from idt.runner.jobs import Ended, Job, Work, Workers

_PATIENCE = 60.0  # s for the first worker to join

_log = logging.getLogger("idt")


class Dask:
    """The jobs are done on the workers of a Dask cluster, one for each of their threads.

    A worker that is lost costs no video: the scheduler gives its jobs to others.
    """

    def __init__(self, work: Work, advance: Callable[..., None], prepare: Callable[[], None], workers: Workers
                 ) -> None:
        with installed("dask", "dask[distributed]"):
            from distributed import Client
        self._advance, self._address, self._jobs = advance, workers.scheduler, workers.jobs
        check_reachable("Dask scheduler", self._address)
        logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # what it has to tell, we tell
        with reached("Dask scheduler", self._address, RIGHT):
            self._client = Client(self._address, timeout=CONNECT, set_as_default=False)
        self._ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._running: dict[Any, tuple[int, Job]] = {}
        self._slots, self._looked = 0, -LOOK
        self._run = run_of(work, prepare, workers)

    def __enter__(self) -> Self:
        try:
            self._client.wait_for_workers(1, timeout=_PATIENCE)
        except TimeoutError as error:
            self._client.close()
            raise IdtError(f"No worker has joined the Dask scheduler at {self._client.scheduler.address} in "
                           f"{_PATIENCE:g} s: start some with `dask worker {self._client.scheduler.address}`."
                           ) from error
        # A task whose result is the run: workers that come later, or instead of others, get it like any other result.
        self._given = self._client.submit(unpacked, pickle.dumps(self._run), key=f"idt-{self._run.name}")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        with contextlib.suppress(Exception):  # the cluster may be what failed
            self._client.cancel([*self._running], force=True)
            self._client.run(end, self._run.name, on_error="ignore")
        with contextlib.suppress(Exception):
            self._client.close(timeout=2)

    @property
    def free(self) -> bool:
        if time.monotonic() - self._looked >= LOOK:
            self._looked = time.monotonic()
            with reached("Dask scheduler", self._address, RIGHT):
                slots = sum(self._client.nthreads().values())
            if self._slots and not slots:
                _log.warning("No worker of the Dask scheduler is left; the run goes on when one joins it.")
            self._slots = slots
        return len(self._running) < (self._jobs or more(self._slots))

    @property
    def busy(self) -> bool:
        return bool(self._running)

    def submit(self, number: int, job: Job) -> None:
        future = self._client.submit(do, self._given, number, job, pure=False,
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
            raise IdtError(f"The Dask scheduler{at(self._address)} was lost, or has dropped the work: start it, and "
                           "give the same command again.")
        try:
            ended: Ended = future.result()
            return ended
        except KilledWorker:
            return Ended(number, error=VideoError(f"{job.source}: the Dask workers that it was given to died one "
                                                  "after the other."))
        except Exception as error:
            return Ended(number, error=explained(error))


def _drained(ended: queue.SimpleQueue[Any], pause: float) -> list[Any]:
    """Return what is in the queue, or else what comes first within `pause` seconds."""
    found = []
    with contextlib.suppress(queue.Empty):
        found.append(ended.get(timeout=pause) if pause else ended.get_nowait())
        while True:
            found.append(ended.get_nowait())
    return found
