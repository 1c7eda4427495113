"""The extraction of one video as a job of the runner, and of many such jobs."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from idt._util.npz import check_replaceable
from idt.params import Params
from idt.runner.jobs import Job, Outcome, Progress, Summary, Workers
from idt.runner.scheduler import run


def extract_jobs(jobs: Sequence[Job], output: str | os.PathLike[str], params: Params, done: Callable[[Job], bool], *,
                 threads: int = 1, workers: Workers | None = None, progress: Callable[[Progress], None] | None = None,
                 report: Callable[[Outcome], None] | None = None) -> Summary:
    """Extract the features of the jobs that are not `done`, whose files all lie in the folder `output` or below.

    What `idt.batch.extract_videos` is for videos that are known one by one; see there.
    """
    return run(jobs, partial(extract_job, params=params, threads=threads), output, done=done, prepare=compile_missing,
               workers=workers, progress=progress, report=report)


def compile_missing() -> None:
    """Compile the kernels of the extraction unless an earlier run has."""
    from idt.trajectories.extraction import compile_kernels, kernels_cached

    if not kernels_cached():
        compile_kernels()


def extract_job(job: Job, advance: Callable[..., None], *, params: Params, threads: int) -> dict[str, Any]:
    """Extract the features of a video into the file of its job and return their meta."""
    from idt.trajectories.extraction import extract_file

    check_replaceable(job.output, "features")
    return extract_file(job.source, job.output, params, boxes=job.boxes, homographies=job.homographies,
                        progress=advance, threads=threads)
