"""The labels of many videos."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from idt._util.files import temporary_folder, writing
from idt.errors import FormatError, OutputError, ParameterError
from idt.params import Params
from idt.runner.inputs import Inputs, sources_of, work_list
from idt.runner.jobs import Job, Outcome, Progress, Summary, Workers
from idt.runner.scheduler import run
from idt.trajectories.cache import is_current
from idt.trajectories.jobs import compile_missing, extract_job

if TYPE_CHECKING:
    from idt.encoding.model import Model
    from idt.features.record import Features

Paths: TypeAlias = str | os.PathLike[str]


def predict_videos(inputs: Inputs, model: Model, *, features: Paths | None = None, threads: int = 1,
                   workers: Workers | None = None, progress: Callable[[Progress], None] | None = None,
                   report: Callable[[Outcome], None] | None = None) -> Summary:
    """Label many videos; one that fails is reported and passed over.

    Their features are extracted as those were that the model was learnt from.

    Parameters
    ----------
    inputs
        See `work_list`.
    model : idt.encoding.model.Model
    features : path, optional
        Folder of the features, named as those of `extract_videos`: those that are there and up to date are used, the
        others are extracted into it; a video fails whose features there were extracted with other parameters. Without a
        folder, features are thrown away when their video has its labels.
    threads : int
        Threads inside one video; they do not change the result.
    workers, progress, report
        As for `extract_videos`. The meta of an outcome is that of the features, and ``ranking``: every label and its
        score, the best first; ``report=found.append`` collects them.

    Returns
    -------
    Summary

    Raises
    ------
    ParameterError, VideoError
        Before any work, see `work_list`; also when the model does not tell how its features were extracted.
    OutputError
        The folder of the features cannot be made.
    """
    extraction = model.codebook.meta.get("extraction")
    if not isinstance(extraction, dict):
        raise ParameterError("The model does not tell how its features were extracted: train it anew, or extract the "
                             "features of the videos and give them to idt.recognition.classifier.predict.")
    params = Params.from_dict(extraction)

    work = partial(_predict, model=model, params=params, keep=features is not None, threads=threads)
    with temporary_folder() as scratch:
        # Files that nobody sees need no names of their own: videos of one name may lie in different folders.
        jobs = work_list(inputs, features) if features is not None else [
            Job(one.source, Path(scratch, f"{number}.npz"), error=one.error)
            for number, one in enumerate(sources_of(inputs))]
        return run(jobs, work, scratch if features is None else features, prepare=compile_missing, workers=workers,
                   recorded=False, progress=progress, report=report)


def _predict(job: Job, advance: Callable[..., None], *, model: Model, params: Params, keep: bool, threads: int
             ) -> dict[str, Any]:
    from idt.features.record import Features
    from idt.recognition.classifier import predict

    with contextlib.ExitStack() as stack:
        if not keep:
            found = stack.enter_context(_passing(job, advance, params=params, threads=threads))
        elif (kept := _kept(job, params)) is not None:
            found = kept
        else:
            extract_job(job, advance, params=params, threads=threads)
            found = Features.load(job.output)
        ranked = predict(found, model, threads=threads)
        return {**found.meta, "ranking": [[*pair] for pair in zip(ranked.labels, ranked.scores, strict=True)]}


@contextlib.contextmanager
def _passing(job: Job, advance: Callable[..., None], *, params: Params, threads: int) -> Iterator[Features]:
    """Yield the features of a video, whose file is removed at the end."""
    from idt.features.record import Features

    near = job.output.parent  # the folder of the run, which is not there on another machine
    try:
        with writing(near):
            scratch = tempfile.TemporaryDirectory(prefix="idt-", dir=near if near.is_dir() else None)
        with scratch as folder:
            passing = dataclasses.replace(job, output=Path(folder, "features.npz"))
            extract_job(passing, advance, params=params, threads=threads)
            yield Features.load(passing.output)
    except OutputError as error:
        raise OutputError(f"{job.source}: {str(error).removesuffix('.')}; choose another folder of temporary files "
                          "(TMPDIR), or give one for features.") from error


def _kept(job: Job, params: Params) -> Features | None:
    """Return the features that are there and were made from the video as it is now, None where there are none.

    Boxes and homographies that their extraction was given are none of its parameters.
    """
    from idt.features.record import Features
    from idt.recognition.vectors import differing

    try:
        found = Features.load(job.output)
    except FormatError:
        return None
    if not is_current(job, found):
        return None
    if others := differing(Params.from_dict(found.meta["params"]).to_dict(), params.to_dict()):
        raise ParameterError(f"{job.output} was extracted with other parameters than the videos that the model was "
                             f"learnt from ({', '.join(others)}): give another folder of features.")
    return found
