"""Jobs done on the workers of a Ray cluster."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from idt.errors import VideoError
from idt.runner.cluster_worker import do, run_of
from idt.runner.clusters import LOOK, check_reachable, explained, installed, more, reached
from idt.runner.jobs import Ended, Job, Work, Workers


class Ray:
    """The jobs are done on the workers of a Ray cluster, one for each of its CPUs.

    A worker that is lost costs no video: Ray gives its job to another.
    """

    def __init__(self, work: Work, advance: Callable[..., None], prepare: Callable[[], None], workers: Workers
                 ) -> None:
        with installed("ray", "ray"):
            import ray
        self._ray, self._advance, self._address, self._jobs = ray, advance, workers.scheduler, workers.jobs
        self._ours = not ray.is_initialized()
        if self._ours:
            check_reachable("Ray cluster", self._address)
            see = "RAY_AUTH_MODE is set as where it was started (from 2.59 on Ray asks for a token)"
            with reached("Ray cluster", self._address, see):
                ray.init(address=self._address, log_to_driver=False, logging_level=logging.ERROR,
                         namespace="idt")
        self._task = ray.remote(num_cpus=1, max_retries=3)(do)
        self._given = ray.put(run_of(work, prepare, workers))
        self._running: dict[Any, tuple[int, Job]] = {}
        self._slots, self._looked = 0, -LOOK

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
        if time.monotonic() - self._looked >= LOOK:
            check_reachable("Ray cluster", self._address)  # Ray itself would wait for it, and then end this process
            self._slots = int(self._ray.cluster_resources().get("CPU", 0))
            self._looked = time.monotonic()
        return len(self._running) < (self._jobs or more(self._slots))

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
            return Ended(number, error=explained(error.cause))
        except self._ray.exceptions.RayError as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            return Ended(number, error=VideoError(f"{job.source}: the Ray workers that it was given to died one after "
                                                  f"the other ({reason})."))
