"""Many videos: the features, flow, vectors or labels of each; what is done already is skipped."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from idt._util.files import temporary_folder
from idt.errors import FormatError, OutputError, ParameterError
from idt.executors import Work, rank
from idt.keys import (
    check_replaceable,
    check_sums,
    digest,
    flow_is_done,
    is_current,
    is_done,
    key,
    vectors_are_done,
    with_sample,
)
from idt.output import prepared, replacing, scratch_beside, writing
from idt.params import DESCRIPTORS, Params
from idt.runner import Outcome, Progress, Summary, Workers, run
from idt.work import Inputs, Job, encode_list, features_files, sources_of, work_list

if TYPE_CHECKING:
    from idt.encoding.model import Channel, Codebook, Model
    from idt.features import Features
    from idt.vectors import EncodingParams
    from idt.video_flow import FlowParams

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

    return run(jobs, work, output, done=lambda job: not force and done(job), prepare=_compile, workers=workers,
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
        from idt.codebooks import check_encodes, load_codebook

        codebook, sha256 = load_codebook(encode), str(digest(encode))
        check_encodes(codebook, encode, params)
        _warn_of_others("The videos are", params.to_dict(), codebook, encode)
        write, kind = partial(_write_vectors, codebook=codebook, sha256=sha256, threads=threads), "vectors"
        done = partial(vectors_are_done, params=params, codebook=sha256, verify=verify)
    elif keep is not None:
        from idt.flow.threads import checked_count

        write = partial(_write_sample, keep=checked_count("keep", keep))
    else:
        return partial(_extract, params=params, threads=threads), done
    return partial(_extract_aside, write=write, kind=kind, params=params, threads=threads), done


def extract_jobs(jobs: Sequence[Job], output: Paths, params: Params, done: Callable[[Job], bool], *, threads: int = 1,
                 workers: Workers | None = None, progress: Callable[[Progress], None] | None = None,
                 report: Callable[[Outcome], None] | None = None) -> Summary:
    """Extract the features of the jobs that are not `done`, whose files all lie in the folder `output` or below.

    What `extract_videos` is for videos that are known one by one; see there.
    """
    return run(jobs, partial(_extract, params=params, threads=threads), output, done=done, prepare=_compile,
               workers=workers, progress=progress, report=report)


def _compile() -> None:
    from idt.pipeline import compile_kernels, kernels_cached

    if not kernels_cached():
        compile_kernels()


def _extract(job: Job, advance: Callable[..., None], *, params: Params, threads: int) -> dict[str, Any]:
    from idt.pipeline import extract_file

    check_replaceable(job.output, "features")
    return extract_file(job.source, job.output, params, boxes=job.boxes, homographies=job.homographies,
                        progress=advance, threads=threads)


def _extract_aside(job: Job, advance: Callable[..., None], *, write: Callable[[Features, Path], dict[str, Any]],
                   kind: str | None, params: Params, threads: int) -> dict[str, Any]:
    """Extract a video into a file that is gone when `write` has made the output, a file of this kind, of the features.

    Column 10 of a row needs the number of frames, which is known at the end, and so does a pyramid along t.
    """
    from idt.features import Features

    if kind is not None:
        check_replaceable(job.output, kind)
    with scratch_beside(job.output) as folder:
        aside = dataclasses.replace(job, output=folder / "features.npz")
        _extract(aside, advance, params=params, threads=threads)
        features = Features.load(aside.output).replace(path=job.source)  # errors name what the user knows
        return write(features, job.output)


def _write_text(features: Features, output: Path) -> dict[str, Any]:
    from idt.text import write_text

    write_text(features, output)
    return features.meta


def _write_sample(features: Features, output: Path, *, keep: int) -> dict[str, Any]:
    from idt.features import FeatureWriter

    video, inputs = features.meta["video"]["sha256"], with_sample(features.meta["inputs"], keep)
    meta = {**features.meta, "inputs": inputs, "kept": {"rows": keep, "of": len(features)},
            "key": key(video, Params.from_dict(features.meta["params"]), inputs)}
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
    from idt.video_flow import FlowParams, check_usable, flow_suffix

    settings = params or FlowParams()
    workers = workers or Workers()
    if workers.backend == "local":
        device = settled(device, settings.method)
    check_usable(settings, device)
    jobs = work_list(inputs, output, suffix=flow_suffix(settings))

    alone = workers.backend == "local" and (workers.jobs or 1) == 1
    processes = 0 if alone else workers.jobs or 1
    return run(jobs, partial(_flow, params=settings, device=device, processes=processes, threads=threads), output,
               done=lambda job: not force and flow_is_done(job, settings, verify=verify), workers=workers,
               prepare=partial(_compile_flow, settings, device), progress=progress, report=report)


def _compile_flow(params: FlowParams, device: str) -> None:
    from idt.flow.devices import compile_on, gpus_of
    from idt.video_flow import compile_kernels, kernels_cached

    if not kernels_cached(params, device):
        compile_kernels()
    if params.solver is not None:
        compile_on(gpus_of(device, params.method), params.solver)


def _flow(job: Job, advance: Callable[..., None], *, params: FlowParams, device: str, processes: int, threads: int
          ) -> dict[str, Any]:
    from idt.flow.devices import one_of
    from idt.video_flow import write_flow

    check_replaceable(job.output, "flow")
    if processes and (number := rank()) is not None:
        device = one_of(device, params.method, number, processes)
    return write_flow(job.source, job.output, params, device=device, threads=threads, progress=advance)


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
        As for `idt.codebooks.learn_codebook`.

    Returns
    -------
    Codebook

    Raises
    ------
    ParameterError
        Before any work, see `features_files`; `output` has another name; see also `idt.codebooks.learn_codebook`.
    FormatError
        A file cannot be used, or a folder or glob stands for none.
    OutputError
        The codebook cannot be written.
    """
    from idt.codebooks import learn_codebook
    from idt.features import Features
    from idt.vectors import extraction_of, other_parameters

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
        As for `idt.vectors.encode`.
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
        Before any work, see `features_files` and `idt.vectors.encode`; two files would give the same vectors, or
        vectors would replace features.
    FormatError
        Before any work: the codebook cannot be used, or a folder or glob stands for no features.
    OutputError
        The output folder cannot be made.
    """
    from idt.codebooks import load_codebook
    from idt.features import Features
    from idt.flow.threads import checked_count
    from idt.vectors import Vectors, checked_window, extraction_of, made_by

    window, stride = checked_window(window, stride)
    checked_count("threads", threads)
    book, sha256 = load_codebook(codebook), str(digest(codebook))
    jobs = encode_list(inputs, output)
    warned = False

    def done(job: Job) -> bool:
        nonlocal warned
        video = Features.load(job.source)
        warned = warned or _warn_of_others(f"{job.source} was", extraction_of(video), book, codebook)
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
    from idt.features import Features

    check_replaceable(job.output, "vectors")
    video = Features.load(job.source)
    meta = _write_vectors(video, job.output, codebook, sha256, window=window, stride=stride, threads=threads)
    if len(video):
        advance(len(video), len(video))
    return meta


def _write_vectors(video: Features, output: Path, codebook: Codebook, sha256: str, *, window: int | None = None,
                   stride: int | None = None, threads: int) -> dict[str, Any]:
    """Write the vectors of a video; return their meta and how many windows there are, and are empty."""
    from idt.vectors import encode, made_by

    meta = made_by(video, sha256, window=window, stride=stride)
    vectors = dataclasses.replace(encode(video, codebook, window=window, stride=stride, threads=threads), meta=meta)
    vectors.save(output)
    return {**meta, "windows": len(vectors), "empty": int((vectors.count == 0).sum())}


def _warn_of_others(which: str, extraction: dict[str, Any] | None, codebook: Codebook, path: Paths) -> bool:
    """Log that videos are extracted in another way than those that a codebook was learnt from; tell whether it is so.

    `which` begins the sentence, up to its verb.
    """
    from idt.vectors import other_parameters

    others = other_parameters(extraction, codebook.meta.get("extraction"))
    if others:
        _log.warning("%s extracted with other parameters than the videos that %s was learnt from (%s): such vectors do "
                     "not compare well.", which, os.fspath(path), ", ".join(others))
    return bool(others)


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
                             "features of the videos and give them to idt.classifier.predict.")
    params = Params.from_dict(extraction)

    work = partial(_predict, model=model, params=params, keep=features is not None, threads=threads)
    with temporary_folder() as scratch:
        # Files that nobody sees need no names of their own: videos of one name may lie in different folders.
        jobs = work_list(inputs, features) if features is not None else [
            Job(one.source, Path(scratch, f"{number}.npz"), error=one.error)
            for number, one in enumerate(sources_of(inputs))]
        return run(jobs, work, scratch if features is None else features, prepare=_compile, workers=workers,
                   recorded=False, progress=progress, report=report)


def _predict(job: Job, advance: Callable[..., None], *, model: Model, params: Params, keep: bool, threads: int
             ) -> dict[str, Any]:
    from idt.classifier import predict
    from idt.features import Features

    with contextlib.ExitStack() as stack:
        if not keep:
            found = stack.enter_context(_passing(job, advance, params=params, threads=threads))
        elif (kept := _kept(job, params)) is not None:
            found = kept
        else:
            _extract(job, advance, params=params, threads=threads)
            found = Features.load(job.output)
        ranked = predict(found, model, threads=threads)
        return {**found.meta, "ranking": [[*pair] for pair in zip(ranked.labels, ranked.scores, strict=True)]}


@contextlib.contextmanager
def _passing(job: Job, advance: Callable[..., None], *, params: Params, threads: int) -> Iterator[Features]:
    """Yield the features of a video, whose file is removed at the end."""
    from idt.features import Features

    near = job.output.parent  # the folder of the run, which is not there on another machine
    try:
        with writing(near):
            scratch = tempfile.TemporaryDirectory(prefix="idt-", dir=near if near.is_dir() else None)
        with scratch as folder:
            passing = dataclasses.replace(job, output=Path(folder, "features.npz"))
            _extract(passing, advance, params=params, threads=threads)
            yield Features.load(passing.output)
    except OutputError as error:
        raise OutputError(f"{job.source}: {str(error).removesuffix('.')}; choose another folder of temporary files "
                          "(TMPDIR), or give one for features.") from error


def _kept(job: Job, params: Params) -> Features | None:
    """Return the features that are there and were made from the video as it is now, None where there are none.

    Boxes and homographies that their extraction was given are none of its parameters.
    """
    from idt.features import Features
    from idt.vectors import differing

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
