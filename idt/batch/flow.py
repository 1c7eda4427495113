"""The optical flow of many videos."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from idt._util.npz import check_replaceable
from idt.runner.inputs import Inputs, work_list
from idt.runner.jobs import Job, Outcome, Progress, Summary, Workers
from idt.runner.local import rank
from idt.runner.scheduler import run

if TYPE_CHECKING:
    from idt.video_flow.params import FlowParams

Paths: TypeAlias = str | os.PathLike[str]


def flow_videos(inputs: Inputs, output: Paths, params: FlowParams | None = None, *,
                device: str = "cpu", threads: int = 1, workers: Workers | None = None, force: bool = False,
                verify: bool = False,
                progress: Callable[[Progress], None] | None = None,
                report: Callable[[Outcome], None] | None = None) -> Summary:
    """Write the optical flow of many videos into a folder; finished ones are skipped.

    A video that fails is reported and passed over; it leaves nothing, or what an earlier run made of it.

    Parameters
    ----------
    inputs, output
        See `work_list`. Formats of images give a folder for each video, ``walk/a.avi/``; npz and h5 a file,
        ``walk/a.avi.npz``.
    params : FlowParams, optional
    device, threads
        As for `idt.video_flow.write_flow`; several processes share several GPUs out, one to each, round robin.
    workers, force, verify, progress, report
        As for `extract_videos`; the meta of an outcome is that of the flow.

    Returns
    -------
    Summary

    Raises
    ------
    ParameterError, VideoError
        Before any work, see `work_list`.
    DeviceError
        There is no such device; before any work, too.
    OutputError
        The output folder cannot be made.
    """
    from idt.flow.devices import settled
    from idt.video_flow.files import check_usable, is_done
    from idt.video_flow.params import FlowParams, flow_suffix

    settings = params or FlowParams()
    workers = workers or Workers()
    if workers.backend == "local":
        device = settled(device, settings.method)
    check_usable(settings, device)
    jobs = work_list(inputs, output, suffix=flow_suffix(settings))

    alone = workers.backend == "local" and (workers.jobs or 1) == 1
    processes = 0 if alone else workers.jobs or 1
    return run(jobs, partial(_flow, params=settings, device=device, processes=processes, threads=threads), output,
               done=lambda job: not force and is_done(job, settings, verify=verify), workers=workers,
               prepare=partial(_compile, settings, device), progress=progress, report=report)


def _compile(params: FlowParams, device: str) -> None:
    from idt.flow.devices import compile_on, gpus_of
    from idt.video_flow.pairs import compile_kernels, kernels_cached

    if not kernels_cached(params, device):
        compile_kernels()
    if params.solver is not None:
        compile_on(gpus_of(device, params.method), params.solver)


def _flow(job: Job, advance: Callable[..., None], *, params: FlowParams, device: str, processes: int, threads: int
          ) -> dict[str, Any]:
    from idt.flow.devices import one_of
    from idt.video_flow.files import write_flow

    check_replaceable(job.output, "flow")
    if processes and (number := rank()) is not None:
        device = one_of(device, params.method, number, processes)
    return write_flow(job.source, job.output, params, device=device, threads=threads, progress=advance)
