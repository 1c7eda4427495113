"""Codebooks learnt from many features files, and the vectors of many."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from idt._util.files import prepared, replacing
from idt._util.hashing import digest
from idt._util.npz import check_replaceable, check_sums
from idt.errors import FormatError, ParameterError
from idt.runner.inputs import Inputs, encode_list, features_files
from idt.runner.jobs import Job, Outcome, Progress, Summary, Workers
from idt.runner.scheduler import run

if TYPE_CHECKING:
    from idt.encoding.model import Channel, Codebook
    from idt.features.record import Features
    from idt.recognition.vectors import EncodingParams

Paths: TypeAlias = str | os.PathLike[str]

_log = logging.getLogger("idt")


def fit_codebook(inputs: Inputs, output: Paths, params: EncodingParams | None = None, *,
                 threads: int = 1, report: Callable[[str, Channel], None] | None = None) -> Codebook:
    """Learn a codebook from many features files, write it and return it.

    It is logged as a warning, once, that features were extracted with other parameters than the first.

    Parameters
    ----------
    inputs
        See `features_files`.
    output : path
        The file to write, whose name must end in ``.codebook.npz``.
    params : EncodingParams, optional
    threads, report
        As for `idt.recognition.codebook_learning.learn_codebook`.

    Returns
    -------
    Codebook

    Raises
    ------
    ParameterError
        Before any work, see `features_files`; `output` has another name; see also `learn_codebook`.
    FormatError
        A file cannot be used, or a folder or glob stands for none.
    OutputError
        The codebook cannot be written.
    """
    from idt.features.record import Features
    from idt.recognition.codebook_learning import learn_codebook
    from idt.recognition.vectors import extraction_of, other_parameters

    if not os.fspath(output).endswith(".codebook.npz"):
        raise ParameterError(f"output is {output}: the name of a codebook must end in .codebook.npz.")
    files = features_files(inputs)
    prepared(output)
    videos = [Features.load(file) for file in files]
    told = [video for video in videos if extraction_of(video)]
    for video in told:
        if others := other_parameters(extraction_of(video), extraction_of(told[0])):
            _log.warning("%s was extracted with other parameters than %s (%s): such descriptors do not compare well.",
                         video.path, told[0].path, ", ".join(others))
            break
    codebook = learn_codebook(videos, params, threads=threads, report=report)
    with replacing(output) as file:
        codebook.save(file)
    return codebook


def encode_videos(inputs: Inputs, output: Paths, codebook: Paths, *, window: int | None = None,
                  stride: int | None = None, threads: int = 1, workers: Workers | None = None, force: bool = False,
                  verify: bool = False,
                  progress: Callable[[Progress], None] | None = None,
                  report: Callable[[Outcome], None] | None = None) -> Summary:
    """Encode many features files into a folder; finished ones are skipped.

    A file that fails is reported and passed over, as is one whose vectors would replace a file of another kind. Once in
    a run it is logged as a warning that features were extracted with other parameters than those of the codebook.

    Parameters
    ----------
    inputs
        See `features_files`.
    output : path
        Folder of the files of vectors. Features found in a folder keep their path below that folder, any others their
        name; ``.npz`` is added to a name that does not end so.
    codebook : path
    window, stride, threads
        As for `idt.recognition.vectors.encode`.
    workers : Workers, optional
        As for `extract_videos`.
    force : bool
        Also encode what is done already: whose vectors exist, open, and were made of the same features with the same
        codebook, window and stride.
    verify : bool
        Read features whole: those that are not what their check sums say fail, instead of giving other vectors or
        being taken for what vectors were made of. Vectors are always read whole.
    progress : callable, optional
        Called with a `Progress` when a file begins and when it is done; its frames are trajectories here.
    report : callable, optional
        Called with the `Outcome` of each file, see `extract_videos`. Its meta is that of the vectors, and the number of
        ``windows``, and of those that are ``empty``.

    Returns
    -------
    Summary

    Raises
    ------
    ParameterError
        Before any work, see `features_files` and `idt.recognition.vectors.encode`; two files would give the same
        vectors, or vectors would replace features.
    FormatError
        Before any work: the codebook cannot be used, or a folder or glob stands for no features.
    OutputError
        The output folder cannot be made.
    """
    from idt._util.checks import checked_integer
    from idt.features.record import Features
    from idt.recognition.codebook_learning import load_codebook
    from idt.recognition.vectors import Vectors, checked_window, extraction_of, made_by

    window, stride = checked_window(window, stride)
    checked_integer("threads", threads)
    book, sha256 = load_codebook(codebook), str(digest(codebook))
    jobs = encode_list(inputs, output)
    warned = False

    def done(job: Job) -> bool:
        nonlocal warned
        video = Features.load(job.source)
        warned = warned or warn_of_others(f"{job.source} was", extraction_of(video), book, codebook)
        if verify and video.meta.get("origin") != "text":
            check_sums(job.source)
        if force:
            return False
        try:
            made = Vectors.load(job.output)
        except FormatError:
            return False
        return bool(made.meta.get("key") == made_by(video, sha256, window=window, stride=stride)["key"])

    work = partial(_encode, codebook=book, sha256=sha256, window=window, stride=stride, threads=threads)
    return run(jobs, work, output, done=done, workers=workers, progress=progress, report=report)


def _encode(job: Job, advance: Callable[..., None], *, codebook: Codebook, sha256: str, window: int | None,
            stride: int | None, threads: int) -> dict[str, Any]:
    from idt.features.record import Features

    check_replaceable(job.output, "vectors")
    video = Features.load(job.source)
    meta = write_vectors(video, job.output, codebook, sha256, window=window, stride=stride, threads=threads)
    if len(video):
        advance(len(video), len(video))
    return meta


def write_vectors(video: Features, output: Path, codebook: Codebook, sha256: str, *, window: int | None = None,
                   stride: int | None = None, threads: int) -> dict[str, Any]:
    """Write the vectors of a video; return their meta and how many windows there are, and are empty."""
    from idt.recognition.vectors import encode, made_by

    meta = made_by(video, sha256, window=window, stride=stride)
    vectors = dataclasses.replace(encode(video, codebook, window=window, stride=stride, threads=threads), meta=meta)
    vectors.save(output)
    return {**meta, "windows": len(vectors), "empty": int((vectors.count == 0).sum())}


def warn_of_others(which: str, extraction: dict[str, Any] | None, codebook: Codebook, path: Paths) -> bool:
    """Log that videos are extracted in another way than those that a codebook was learnt from; tell whether it is so.

    `which` begins the sentence, up to its verb.
    """
    from idt.recognition.vectors import other_parameters

    others = other_parameters(extraction, codebook.meta.get("extraction"))
    if others:
        _log.warning("%s extracted with other parameters than the videos that %s was learnt from (%s): such vectors do "
                     "not compare well.", which, os.fspath(path), ", ".join(others))
    return bool(others)
