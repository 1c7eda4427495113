"""The features of many videos, or only what is made of them: vectors, rows of text, samples."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from idt._util.files import scratch_beside
from idt._util.hashing import digest
from idt._util.npz import check_replaceable
from idt.batch.encoding import warn_of_others, write_vectors
from idt.errors import ParameterError
from idt.params import DESCRIPTORS, Params
from idt.runner.inputs import Inputs, work_list
from idt.runner.jobs import Job, Outcome, Progress, Summary, Work, Workers
from idt.runner.scheduler import run
from idt.trajectories.cache import features_key, is_done, with_sample
from idt.trajectories.jobs import compile_missing, extract_job

if TYPE_CHECKING:
    from idt.features.record import Features

Paths: TypeAlias = str | os.PathLike[str]

_BLOCK = 4096  # rows of a sample that are copied at a time

_log = logging.getLogger("idt")


def extract_videos(inputs: Inputs, output: Paths, params: Params | None = None, *,
                   boxes: Paths | None = None, homographies: Paths | None = None, text: bool = False,
                   encode: Paths | None = None, keep: int | None = None, threads: int = 1,
                   workers: Workers | None = None, force: bool = False, verify: bool = False,
                   progress: Callable[[Progress], None] | None = None,
                   report: Callable[[Outcome], None] | None = None) -> Summary:
    """Extract the features of many videos into a folder, or only the vectors of these; finished ones are skipped.

    A video that fails is reported and passed over; it leaves no file. So does one whose output is there already and is
    of another kind, such as vectors, which is not replaced.

    Parameters
    ----------
    inputs, output, boxes, homographies
        See `work_list`.
    params : Params, optional
    text : bool
        Write the rows of the original program (``.txt``) instead of features files. A text does not say what it was
        made with, so it is always made anew.
    encode : path, optional
        A codebook: write the vectors that it makes of each video instead of features, byte for byte those that
        `encode_videos` makes of its features. These are on the disk, hidden beside the output, only while their video
        is worked on. That they are extracted with other parameters than those that the codebook was learnt from is
        logged as a warning.
    keep : int, optional
        Write only so many rows of each video, drawn without replacement and in their order, or all where there are no
        more: for learning codebooks, `fit_codebook`, and nothing else. The same video gives the same rows.
    threads : int
        Threads inside one video.
    workers : Workers, optional
        Processes that work on several videos at a time; default: this one. They do not change the result.
    force : bool
        Also extract what is done already.
    verify : bool
        Compare contents even where size and time stamp of a video say that it is unchanged, and read outputs whole, so
        that flipped bits are found and what has them is made again.
    progress : callable, optional
        Called with a `Progress` when a video begins and as its frames are processed.
    report : callable, optional
        Called with the `Outcome` of each video, with which a summary does not burden itself: ``found = []`` and
        ``report=found.append`` collect them; ``outcome.job.output`` is the file, ``outcome.meta`` what it tells.

    Returns
    -------
    Summary

    Raises
    ------
    ParameterError, VideoError
        Before any work, see `work_list`; text needs all descriptors, and a codebook those that it encodes; two of
        text, `encode` and `keep` are asked for; `keep` is no integer from 1.
    FormatError
        Before any work: the codebook cannot be used.
    OutputError
        The output folder cannot be made.
    """
    params = params or Params()
    work, done = extraction(params, text=text, encode=encode, keep=keep, threads=threads, verify=verify)
    jobs = work_list(inputs, output, suffix=".txt" if text else ".npz", boxes=boxes, homographies=homographies)

    return run(jobs, work, output, done=lambda job: not force and done(job), prepare=compile_missing, workers=workers,
               progress=progress, report=report)


def extraction(params: Params, *, text: bool = False, encode: Paths | None = None, keep: int | None = None,
               threads: int = 1, verify: bool = False) -> tuple[Work, Callable[[Job], bool]]:
    """Return what `extract_videos` does with a video, and what tells whether that is done; its arguments and errors.

    The first takes other ``params``, which those of the codebook are not held against.
    """
    asked = [name for name, value in (("text", text or None), ("encode", encode), ("keep", keep)) if value is not None]
    if len(asked) > 1:
        raise ParameterError(f"{asked[0]} and {asked[1]} are given, but are different outputs: leave one of them out.")
    done: Callable[[Job], bool] = partial(is_done, params=params, keep=keep, verify=verify)
    write: Callable[[Features, Path], dict[str, Any]]
    kind: str | None = "features"
    if text:
        require_all_descriptors(params)
        write, kind, done = _write_text, None, lambda job: False
    elif encode is not None:
        from idt.recognition import vectors
        from idt.recognition.codebook_learning import check_encodes, load_codebook

        codebook, sha256 = load_codebook(encode), str(digest(encode))
        check_encodes(codebook, encode, params)
        warn_of_others("The videos are", params.to_dict(), codebook, encode)
        write, kind = partial(write_vectors, codebook=codebook, sha256=sha256, threads=threads), "vectors"
        done = partial(vectors.is_done, params=params, codebook=sha256, verify=verify)
    elif keep is not None:
        from idt._util.checks import checked_integer

        write = partial(_write_sample, keep=checked_integer("keep", keep))
    else:
        return partial(extract_job, params=params, threads=threads), done
    return partial(_extract_aside, write=write, kind=kind, params=params, threads=threads), done


def _extract_aside(job: Job, advance: Callable[..., None], *, write: Callable[[Features, Path], dict[str, Any]],
                   kind: str | None, params: Params, threads: int) -> dict[str, Any]:
    """Extract a video into a file that is gone when `write` has made the output, a file of this kind, of the features.

    Column 10 of a row needs the number of frames, which is known at the end, and so does a pyramid along t.
    """
    from idt.features.record import Features

    if kind is not None:
        check_replaceable(job.output, kind)
    with scratch_beside(job.output) as folder:
        aside = dataclasses.replace(job, output=folder / "features.npz")
        extract_job(aside, advance, params=params, threads=threads)
        features = Features.load(aside.output).replace(path=job.source)  # errors name what the user knows
        return write(features, job.output)


def _write_text(features: Features, output: Path) -> dict[str, Any]:
    from idt.features.text import write_text

    write_text(features, output)
    return features.meta


def _write_sample(features: Features, output: Path, *, keep: int) -> dict[str, Any]:
    from idt.features.record import FeatureWriter

    video, inputs = features.meta["video"]["sha256"], with_sample(features.meta["inputs"], keep)
    meta = {**features.meta, "inputs": inputs, "kept": {"rows": keep, "of": len(features)},
            "key": features_key(video, Params.from_dict(features.meta["params"]), inputs)}
    drawn = np.arange(len(features))
    if keep < len(features):
        drawn = np.sort(np.random.default_rng(int(video, 16)).choice(len(features), keep, replace=False))
    with FeatureWriter(output) as writer:
        writer.append(features[:0].replace(meta=meta))  # with the homographies
        for rows in np.array_split(drawn, range(_BLOCK, len(drawn), _BLOCK)):
            writer.append(features[rows].replace(homographies=np.empty((0, 3, 3)), meta=meta))
    return writer.meta


def require_all_descriptors(params: Params) -> None:
    """Raise `ParameterError` when a descriptor is left out, without which there are no rows of text."""
    if params.descriptors != DESCRIPTORS:
        raise ParameterError(f"descriptors is {', '.join(params.descriptors)}: rows of text need all of them.")
