"""Many videos: what they are, where their files go, what is done already, one after the other."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import hashlib
import json
import logging
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from idt.errors import FormatError, IdtError, OutputError, ParameterError, VideoError
from idt.output import prepared, remove_leftovers, replacing, writing
from idt.params import DESCRIPTORS, Parameters, Params
from idt.video import IMAGE_SUFFIXES, count_frames, frames, identity, span_length

if TYPE_CHECKING:
    from idt.encoding.model import Channel, Codebook, Model
    from idt.features import Features
    from idt.vectors import EncodingParams
    from idt.video_flow import FlowParams

Paths: TypeAlias = str | os.PathLike[str]

_log = logging.getLogger("idt")

ALGORITHM = 1
"""Version of the method: raised when the same video and parameters come to give other numbers."""

_PROBE_SECONDS, _PROBE_PAIRS = 2.0, 100  # of one video, about
_BLOCK = 4096  # bytes: the disk space of a file is a multiple of this on most file systems

VIDEO_SUFFIXES = frozenset({
    ".3gp", ".asf", ".avi", ".divx", ".f4v", ".flv", ".gif", ".m2ts", ".m2v", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov",
    ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m"})


@dataclass(frozen=True)
class Job:
    """One video and what is made of it.

    Attributes
    ----------
    source : str
        Video file, folder of images or glob of images.
    output : Path
        The file or folder to write.
    boxes, homographies : Path or None
        Side inputs of this video.
    """

    source: str
    output: Path
    boxes: Path | None = None
    homographies: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes
    ----------
    job : Job
    state : {"done", "skipped", "failed"}
        Skipped: it was done before.
    meta : dict or None
        Metadata of the features or of the flow when state is "done".
    error : Exception or None
        What went wrong when state is "failed".
    """

    job: Job
    state: Literal["done", "skipped", "failed"]
    meta: dict[str, Any] | None = None
    error: Exception | None = None

    @property
    def reason(self) -> str | None:
        """One sentence about `error`."""
        if self.error is None:
            return None
        if isinstance(self.error, IdtError):
            return str(self.error)
        if isinstance(self.error, MemoryError):
            return f"{self.job.source}: there is not enough memory; smaller frames (short_side) need less."
        return f"{self.job.source}: unexpected {type(self.error).__name__}: {self.error}"


@dataclass(frozen=True)
class Summary:
    """The outcomes of a batch, in order."""

    outcomes: tuple[Outcome, ...]

    def count(self, state: Literal["done", "skipped", "failed"]) -> int:
        """Return the number of outcomes in `state`."""
        return sum(o.state == state for o in self.outcomes)

    @property
    def failed(self) -> list[Outcome]:
        """The outcomes of the videos that failed."""
        return [o for o in self.outcomes if o.state == "failed"]


@dataclass(frozen=True)
class Progress:
    """Where a batch stands.

    Attributes
    ----------
    job : Job
    number, videos : int
        It is the `number`-th (from 1) of so many videos.
    done : int
        Frames of this video that are processed, or pairs of frames whose flow is; 0 before the first.
    total : int or None
        Number of them that the video promises.
    trajectories : int or None
        Rows of this video so far; None of flow.
    """

    job: Job
    number: int
    videos: int
    done: int = 0
    total: int | None = None
    trajectories: int | None = None


def extract_videos(inputs: Paths | Iterable[Paths], output: Paths, params: Params | None = None, *,
                   boxes: Paths | None = None, homographies: Paths | None = None, text: bool = False,
                   threads: int = 1, force: bool = False, verify: bool = False,
                   progress: Callable[[Progress], None] | None = None,
                   report: Callable[[Outcome], None] | None = None) -> Summary:
    """Extract the features of many videos into a folder, one after the other; finished ones are skipped.

    A video that fails is reported and passed over; it leaves no file.

    Parameters
    ----------
    inputs, output, boxes, homographies
        See `work_list`.
    params : Params, optional
    text : bool
        Write the rows of the original program (``.txt``) instead of features files. A text does not say what it was
        made with, so it is always made anew.
    threads : int
        Threads inside one video.
    force : bool
        Also extract what is done already.
    verify : bool
        Compare contents even where size and time stamp of a video say that it is unchanged.
    progress : callable, optional
        Called with a `Progress` when a video begins and as its frames are processed.
    report : callable, optional
        Called with the `Outcome` of each video.

    Returns
    -------
    Summary

    Raises
    ------
    ParameterError, VideoError
        Before any work, see `work_list`; text needs all descriptors.
    OutputError
        The output folder cannot be made.
    """
    params = params or Params()
    if text:
        require_all_descriptors(params)
    jobs = work_list(inputs, output, suffix=".txt" if text else ".npz", boxes=boxes, homographies=homographies)

    def work(job: Job, advance: Callable[..., None]) -> dict[str, Any]:
        return (_extract_text if text else _extract)(job, params, advance, threads)

    def done(job: Job) -> bool:
        return not force and not text and is_done(job, params, verify=verify)

    return _run_into(output, jobs, work, done, progress, report)


def extract_jobs(jobs: Sequence[Job], output: Paths, params: Params, done: Callable[[Job], bool], *, threads: int = 1,
                 progress: Callable[[Progress], None] | None = None,
                 report: Callable[[Outcome], None] | None = None) -> Summary:
    """Extract the features of the jobs that are not `done`, whose files all lie in the folder `output` or below.

    What `extract_videos` is for videos that are known one by one; see there.
    """
    def work(job: Job, advance: Callable[..., None]) -> dict[str, Any]:
        return _extract(job, params, advance, threads)

    return _run_into(output, jobs, work, done, progress, report)


def flow_videos(inputs: Paths | Iterable[Paths], output: Paths, params: FlowParams | None = None, *,
                device: str = "cpu", threads: int = 1, force: bool = False, verify: bool = False,
                progress: Callable[[Progress], None] | None = None,
                report: Callable[[Outcome], None] | None = None) -> Summary:
    """Write the optical flow of many videos into a folder, one after the other; finished ones are skipped.

    A video that fails is reported and passed over; it leaves nothing, or what an earlier run made of it.

    Parameters
    ----------
    inputs, output
        See `work_list`. Formats of images give a folder for each video, ``walk/a.avi/``; npz and h5 a file,
        ``walk/a.avi.npz``.
    params : FlowParams, optional
    device, threads
        As for `idt.video_flow.write_flow`.
    force, verify, progress, report
        As for `extract_videos`.

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
    from idt.video_flow import FlowParams, check_usable, write_flow

    settings = params or FlowParams()
    check_usable(settings, device)
    jobs = work_list(inputs, output, suffix=flow_suffix(settings))

    def work(job: Job, advance: Callable[..., None]) -> dict[str, Any]:
        return write_flow(job.source, job.output, settings, device=device, threads=threads, progress=advance)

    def done(job: Job) -> bool:
        return not force and flow_is_done(job, settings, verify=verify)

    return _run_into(output, jobs, work, done, progress, report)


def predict_videos(inputs: Paths | Iterable[Paths], model: Model, *, features: Paths | None = None, threads: int = 1,
                   progress: Callable[[Progress], None] | None = None,
                   report: Callable[[Outcome], None] | None = None) -> Summary:
    """Label many videos, one after the other; one that fails is reported and passed over.

    Their features are extracted as those were that the model was learnt from.

    Parameters
    ----------
    inputs
        See `work_list`.
    model : idt.encoding.model.Model
    features : path, optional
        Folder of the features, named as those of `extract_videos`: those that are there and up to date are used, the
        others are extracted into it. Without one, features are thrown away when their video has its labels.
    threads : int
        Threads inside one video; they do not change the result.
    progress, report : callable, optional
        As for `extract_videos`.

    Returns
    -------
    Summary
        The meta of an outcome is that of the features, and ``ranking``: every label and its score, the best first.

    Raises
    ------
    ParameterError, VideoError
        Before any work, see `work_list`; also when the model does not tell how its features were extracted.
    OutputError
        The folder of the features cannot be made.
    """
    from idt.classifier import predict
    from idt.features import Features

    extraction = model.codebook.meta.get("extraction")
    if not isinstance(extraction, dict):
        raise ParameterError("The model does not tell how its features were extracted: train it anew, or extract the "
                             "features of the videos and give them to idt.classifier.predict.")
    params = Params.from_dict(extraction)

    def work(job: Job, advance: Callable[..., None]) -> dict[str, Any]:
        if features is None or not is_done(job, params):
            _extract(job, params, advance, threads)
        found = Features.load(job.output)
        if features is None:
            job.output.unlink()  # what is mapped of it stays readable
        ranked = predict(found, model, threads=threads)
        return {**found.meta, "ranking": [[*pair] for pair in zip(ranked.labels, ranked.scores, strict=True)]}

    with tempfile.TemporaryDirectory(prefix="idt-") as scratch:
        # Files that nobody sees need no names of their own: videos of one name may lie in different folders.
        jobs = work_list(inputs, features) if features is not None else [
            Job(source, Path(scratch, f"{number}.npz")) for number, (source, _) in enumerate(sources_of(inputs))]
        return _run_into(scratch if features is None else features, jobs, work, lambda job: False, progress, report)


def fit_codebook(inputs: Paths | Iterable[Paths], output: Paths, params: EncodingParams | None = None, *,
                 threads: int = 1, report: Callable[[str, Channel], None] | None = None) -> Codebook:
    """Learn a codebook from many features files, write it and return it.

    Parameters
    ----------
    inputs
        See `features_files`.
    output : path
        The file to write, whose name must end in ``.codebook.npz``.
    params : EncodingParams, optional
    threads, report
        As for `idt.vectors.learn_codebook`.

    Returns
    -------
    Codebook

    Raises
    ------
    ParameterError
        Before any work, see `features_files`; `output` has another name; see also `idt.vectors.learn_codebook`.
    FormatError
        A file cannot be used, or a folder or glob stands for none.
    OutputError
        The codebook cannot be written.
    """
    from idt.features import Features
    from idt.vectors import learn_codebook

    if not os.fspath(output).endswith(".codebook.npz"):
        raise ParameterError(f"output is {output}: the name of a codebook must end in .codebook.npz.")
    files = features_files(inputs)
    prepared(output)
    codebook = learn_codebook([Features.load(file) for file in files], params, threads=threads, report=report)
    with replacing(output) as file:
        codebook.save(file)
    return codebook


def encode_videos(inputs: Paths | Iterable[Paths], output: Paths, codebook: Paths, *, window: int | None = None,
                  stride: int | None = None, threads: int = 1, force: bool = False,
                  progress: Callable[[Progress], None] | None = None,
                  report: Callable[[Outcome], None] | None = None) -> Summary:
    """Encode many features files into a folder, one after the other; finished ones are skipped.

    A file that fails is reported and passed over. Once in a run it is logged as a warning that features were extracted
    with other parameters than those of the codebook.

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
    force : bool
        Also encode what is done already: whose vectors exist, open, and were made of the same features with the same
        codebook, window and stride.
    progress : callable, optional
        Called with a `Progress` when a file begins and when it is done; its frames are trajectories here.
    report : callable, optional
        Called with the `Outcome` of each file.

    Returns
    -------
    Summary
        The meta of an outcome is that of the vectors, and the number of ``windows``, and of those that are ``empty``.

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
    from idt.encoding.model import Codebook, kind_of
    from idt.features import Features
    from idt.flow.threads import checked_count
    from idt.vectors import Vectors, checked_window, encode, made_by, other_parameters

    window, stride = checked_window(window, stride)
    checked_count("threads", threads)
    book, sha256 = Codebook.load(codebook), str(digest(codebook))
    _check_folder(output, "the features")
    jobs = _distinct([Job(source, Path(output) / (name if name.suffix == ".npz" else f"{name}.npz"))
                      for source, name in _sources(inputs, _features)])
    sources = {os.path.realpath(job.source): job.source for job in jobs}
    for job in jobs:
        if (hit := os.path.realpath(job.output)) in sources:
            raise ParameterError(f"{sources[hit]} would be replaced by vectors: choose another output folder.")
    warned = False

    def work(job: Job, advance: Callable[..., None]) -> dict[str, Any]:
        nonlocal warned
        if kind_of(job.output) == "features":
            raise OutputError(f"{job.output} holds features, which vectors must not replace: choose another output "
                              "folder.")
        video = Features.load(job.source)
        if not warned and (others := other_parameters(video, book)):
            warned = True
            _log.warning("%s was extracted with other parameters than the videos that %s was learnt from (%s): such "
                         "vectors do not compare well.", job.source, os.fspath(codebook), ", ".join(others))
        meta = made_by(video, sha256, window=window, stride=stride)
        vectors = dataclasses.replace(encode(video, book, window=window, stride=stride, threads=threads), meta=meta)
        vectors.save(job.output)
        if len(video):
            advance(len(video), len(video))
        return {**meta, "windows": len(vectors), "empty": int((vectors.count == 0).sum())}

    def done(job: Job) -> bool:
        if force:
            return False
        try:
            made, video = Vectors.load(job.output), Features.load(job.source)
        except FormatError:
            return False
        return bool(made.meta.get("key") == made_by(video, sha256, window=window, stride=stride)["key"])

    return _run_into(output, jobs, work, done, progress, report)


@dataclass(frozen=True)
class FlowEstimate:
    """What the flow of many videos is expected to be.

    Attributes
    ----------
    videos, unreadable : int
        Videos, and those of them that cannot be opened or give no frame.
    frames : int
        Frames that will be processed, if the headers of the videos tell the truth.
    pairs, files : int
        Pairs that will be solved and files that will be written.
    seconds, size : float
        Time on this machine, and bytes on disk; NaN where no pair could be solved.
    probed : int
        Pairs that were solved to know.
    """

    videos: int
    unreadable: int
    frames: int
    pairs: int
    files: int
    seconds: float
    size: float
    probed: int


def estimate_flow(inputs: Paths | Iterable[Paths], output: Paths, params: FlowParams | None = None, *,
                  device: str = "cpu", threads: int = 1) -> FlowEstimate:
    """Estimate time and disk space of `flow_videos` from a few pairs of up to three of the videos; write nothing.

    Time and space are taken to grow with the number of pixels. Arguments and errors are those of `flow_videos`; what
    is done already is not looked at.
    """
    from idt.video_flow import FlowParams, check_usable, files_of, pairs_of

    settings = params or FlowParams()
    check_usable(settings, device)
    jobs = work_list(inputs, output, suffix=flow_suffix(settings))
    sizes = {}  # frames, and pixels of a frame, of the videos that can be read
    for job in jobs:
        with contextlib.suppress(VideoError):
            sizes[job] = _stated(job.source, settings)
    pairs = {job: pairs_of(count, settings) for job, (count, _) in sizes.items()}
    usable = [job for job in sizes if pairs[job]]
    seconds, size, work, probed = 0.0, 0, 0, 0
    for job in usable[len(usable) // 6::max(-(-len(usable) // 3), 1)]:
        with contextlib.suppress(VideoError):
            solved, taken, written = _probe(job.source, settings, device, threads)
            seconds, size, work, probed = (seconds + taken, size + written, work + solved * sizes[job][1],
                                           probed + solved)
    shares = [pairs[job] * sizes[job][1] / work if work else math.nan for job in usable]
    files = [files_of(sizes[job][0], settings) for job in usable]
    # The last block of a file is half empty on average, and the only one of a small file.
    spaces = [max(share * size + _BLOCK / 2 * n, _BLOCK * n) for share, n in zip(shares, files, strict=True)]
    return FlowEstimate(videos=len(jobs), unreadable=len(jobs) - len(sizes), frames=sum(n for n, _ in sizes.values()),
                        pairs=sum(pairs.values()), files=sum(files_of(n, settings) for n, _ in sizes.values()),
                        seconds=sum(shares) * seconds, size=sum(spaces), probed=probed)


def _stated(source: str, params: FlowParams) -> tuple[int, int]:
    """Return how many frames of a video will be processed and how many pixels each will have, by its header."""
    with frames(source, start=params.start, end=params.end, short_side=params.short_side) as reader:
        size, total = reader.stated_size, reader.total
    if size is None:  # images, or a container that does not tell
        with frames(source, end=0) as reader:
            height, width = next(reader).grey.shape
            size = height, width
    count = span_length(count_frames(source) if total is None else total, params.start, params.end)
    factor = 1.0 if params.short_side is None else params.short_side / min(size)
    return count, round(size[0] * size[1] * factor**2)


def _probe(source: str, params: FlowParams, device: str, threads: int) -> tuple[int, float, int]:
    """Write the flow of a few pairs where nobody sees it; return their number, the seconds and the bytes it took."""
    from idt.video_flow import write_flow

    def solve(pairs: int) -> tuple[int, float, int]:
        last = params.start + (pairs - 1) * params.every + params.step + (params.stack or 1) - 1
        some = dataclasses.replace(params, end=last if params.end is None else min(last, params.end))
        with tempfile.TemporaryDirectory() as scratch:
            place = Path(scratch, "flow")
            began = time.perf_counter()
            meta = write_flow(source, place, some, device=device, threads=threads)
            seconds = time.perf_counter() - began
            written = [place] if place.is_file() else list(place.iterdir())
            return meta["pairs"], seconds, sum(path.stat().st_size for path in written)

    solve(threads)  # what is compiled or started once is not measured
    pairs, seconds, size = solve(2 * threads)
    more = min(int(_PROBE_SECONDS * pairs / seconds), _PROBE_PAIRS)
    return solve(more) if more > pairs else (pairs, seconds, size)


def flow_suffix(params: FlowParams) -> str:
    """Return what follows the name of a video in the name of the folder or file of its flow."""
    from idt.video_flow import ARRAY_FORMATS

    return f".{params.format}" if params.format in ARRAY_FORMATS else ""


def _run_into(output: Paths, jobs: Sequence[Job], work: Callable[[Job, Callable[..., None]], dict[str, Any]],
              done: Callable[[Job], bool], progress: Callable[[Progress], None] | None,
              report: Callable[[Outcome], None] | None) -> Summary:
    """Make the output folder and do the jobs; `work` gets a function that it tells how far it is."""
    with writing(output):
        if Path(output).exists() and not Path(output).is_dir():
            raise OutputError(f"{os.fspath(output)} is not a folder: give the folder that the files go to.")
        Path(output).mkdir(parents=True, exist_ok=True)
    numbers = {job.output: n for n, job in enumerate(jobs, 1)}
    cleared: set[Path] = set()

    def begin(job: Job) -> dict[str, Any]:
        def advance(done: int, total: int | None, trajectories: int | None = None) -> None:
            if progress is not None:
                progress(Progress(job, numbers[job.output], len(jobs), done, total, trajectories))

        folder = Path(os.path.realpath(job.output)).parent
        if folder not in cleared:
            cleared.add(folder)
            remove_leftovers(folder)
        advance(0, None)
        return work(job, advance)

    return run(jobs, begin, done=done, report=report)


def require_all_descriptors(params: Params) -> None:
    """Raise `ParameterError` when a descriptor is left out, without which there are no rows of text."""
    if params.descriptors != DESCRIPTORS:
        raise ParameterError(f"descriptors is {', '.join(params.descriptors)}: rows of text need all of them.")


def run(jobs: Iterable[Job], work: Callable[[Job], dict[str, Any]], *, done: Callable[[Job], bool],
        report: Callable[[Outcome], None] | None = None) -> Summary:
    """Do the jobs in order; those that are `done` are skipped, one that fails is passed over.

    Parameters
    ----------
    jobs : iterable of Job
    work : callable
        Does one job and returns the metadata of what it made.
    done : callable
        Tells whether a job needs no work.
    report : callable, optional
        Called with the `Outcome` of each job.

    Returns
    -------
    Summary
    """
    outcomes = []
    for job in jobs:
        try:
            outcome = Outcome(job, "skipped") if done(job) else Outcome(job, "done", meta=work(job))
        except Exception as error:  # an unforeseen one, too, must not cost the rest of the night
            outcome = Outcome(job, "failed", error=error)
        outcomes.append(outcome)
        if report is not None:
            report(outcome)
    return Summary(tuple(outcomes))


def work_list(inputs: Paths | Iterable[Paths], output: Paths, *, suffix: str = ".npz", boxes: Paths | None = None,
              homographies: Paths | None = None) -> list[Job]:
    """Return the videos that `inputs` stand for and the file that each is to give.

    Parameters
    ----------
    inputs : path or iterable of paths
        Each a video file; a folder that directly holds images and no video, which is one video; any other folder, which
        is searched for video files, at any depth, or if there are none for folders of images; a glob of these, or of
        the images of one video; or ``@list.txt``, a file with one of these a line. A file that does not exist is left
        for the work to fail on.
    output : path
        The folder of the outputs. A video found in a folder keeps its path below that folder, any other its name; the
        full name is followed by `suffix`: ``walk/a.avi`` gives ``walk/a.avi.npz``.
    suffix : str
    boxes : path, optional
        Box file of the one video, or a folder that has one for each: ``walk/a.avi.txt`` or else ``walk/a.txt``.
    homographies : path, optional
        File of homographies of the one video, or a folder that has one for each: ``walk/a.avi.npz`` or else
        ``walk/a.npz``.

    Returns
    -------
    list of Job

    Raises
    ------
    VideoError
        A folder or glob stands for no video.
    ParameterError
        Two videos would give the same file, a list cannot be read, or a box file or a file of homographies is missing.
    """
    _check_folder(output, f"the videos, such as clip.avi{suffix}")
    videos = sources_of(inputs)
    return _distinct([Job(source, Path(output) / f"{name}{suffix}",
                          _side_input(boxes, "boxes", name, ".txt", len(videos)),
                          _side_input(homographies, "homographies", name, ".npz", len(videos)))
                      for source, name in videos])


def _check_folder(output: Paths, named_after: str) -> None:
    """Raise `ParameterError` when the output is surely meant to be a file."""
    if Path(output).suffix in (".npz", ".txt", ".h5") and not Path(output).is_dir():
        raise ParameterError(f"output is {output}: give a folder; what goes into it is named after {named_after}.")


def _distinct(jobs: list[Job]) -> list[Job]:
    """Return the jobs, none of which writes to where another does, or raise `ParameterError`."""
    sources: dict[Path, str] = {}
    for job in jobs:
        source = job.source
        if job.output in sources:
            other = sources[job.output]
            raise ParameterError(
                f"{source} is given twice." if os.path.abspath(other) == os.path.abspath(source) else
                f"{other} and {source} would both be written to {job.output}: give the folder that holds both, so that "
                "the paths below it are kept, or write them to different folders.")
        sources[job.output] = source
    for job in jobs:
        for above in job.output.parents:
            if above in sources:
                raise ParameterError(f"{sources[above]} would be written to {above}, and {job.source} into it: write "
                                     "them to different folders.")
    return jobs


def sources_of(inputs: Paths | Iterable[Paths]) -> list[tuple[str, Path]]:
    """Return the videos that `inputs` stand for, each with its path below a folder of outputs; see `work_list`."""
    return _sources(inputs, _videos)


def features_files(inputs: Paths | Iterable[Paths]) -> list[str]:
    """Return the features files that `inputs` stand for.

    Parameters
    ----------
    inputs : path or iterable of paths
        Each a features file; a folder, which is searched for ``.npz`` files at any depth, but for codebooks
        (``.codebook.npz``) and models (``.model.npz``); a glob of these; or ``@list.txt``, a file with one of these a
        line. A file that does not exist is left for the work to fail on.

    Raises
    ------
    FormatError
        A folder or glob stands for no file.
    ParameterError
        A file is given twice, or a list cannot be read.
    """
    files = [source for source, _ in _sources(inputs, _features)]
    given = set()
    for file in files:
        if (path := os.path.abspath(file)) in given:
            raise ParameterError(f"{file} is given twice.")
        given.add(path)
    return files


def _sources(inputs: Paths | Iterable[Paths], find: Callable[[str], list[tuple[str, Path]]]) -> list[tuple[str, Path]]:
    """Return what `find` makes of each entry of the inputs and each line of the lists among them."""
    entries = [inputs] if isinstance(inputs, (str, os.PathLike)) else list(inputs)
    return [source for entry in entries for line in _lines(os.fspath(entry)) for source in find(line)]


def is_done(job: Job, params: Params, *, verify: bool = False) -> bool:
    """Tell whether the output of the job exists, opens, and was made from the same inputs in the same way.

    The video is the same when size and time stamp are, or else when its content is; with `verify` only its content
    counts.
    """
    from idt.features import Features

    try:
        meta = Features.load(job.output).meta
    except FormatError:
        return False
    inputs = {"homographies": digest(job.homographies), "boxes": digest(job.boxes)}
    return bool(meta.get("key") == key(_content(job, meta, verify), params, inputs))


def is_current(job: Job, features: Features) -> bool:
    """Tell whether features were made from the video as it is now by this version of the method, in whatever way."""
    meta = features.meta
    made, inputs = meta.get("params"), meta.get("inputs")
    if not (isinstance(made, dict) and isinstance(inputs, dict) and isinstance(meta.get("video"), dict)):
        return False
    try:
        params = Params.from_dict(made)
    except ParameterError:
        return False
    return bool(meta.get("key") == key(_content(job, meta, verify=False), params, inputs))


def flow_is_done(job: Job, params: FlowParams, *, verify: bool = False) -> bool:
    """Tell the same of the flow of a video, of which no file may be missing; the device does not count."""
    from idt.video_flow import flow_key, read_meta

    meta = read_meta(job.output)
    return meta is not None and bool(meta.get("key") == flow_key(_content(job, meta, verify), params))


def _content(job: Job, meta: Mapping[str, Any], verify: bool) -> str:
    """Return the SHA-256 of the video; that in the meta of what was made of it when it has not changed since."""
    now, then = identity(job.source, content=False), meta.get("video") or {}
    unchanged = (now["size"], now["mtime_ns"]) == (then.get("size"), then.get("mtime_ns"))
    return str(then.get("sha256") if unchanged and not verify else identity(job.source)["sha256"])


def key(video: str, params: Parameters, inputs: Mapping[str, str | None], *, algorithm: int | None = None,
        format: int | None = None) -> str:
    """Return what identifies features or the flow of a video: the same key, the same numbers.

    Parameters
    ----------
    video : str
        SHA-256 of the content of the video.
    params : Params or FlowParams
    inputs : mapping
        SHA-256 of the content of each side input (homographies, boxes), None when there is none.
    algorithm, format : int
        Versions of the method and of the files; default: those of features.

    Returns
    -------
    str
        64 hex digits.
    """
    from idt.features import FORMAT

    parts = {"video": video, "params": params.fingerprint(), "inputs": dict(inputs),
             "algorithm": ALGORITHM if algorithm is None else algorithm, "format": FORMAT if format is None else format}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def digest(given: Paths | NDArray[Any] | Sequence[NDArray[Any]] | None) -> str | None:
    """Return the SHA-256 of a side input: of the bytes of a file, or of the numbers of arrays; None of None.

    Raises
    ------
    FormatError
        The file cannot be read.
    """
    if given is None:
        return None
    if isinstance(given, (str, os.PathLike)):
        try:
            with open(given, "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise FormatError(f"{os.fspath(given)}: cannot be read ({error.strerror}).") from error
    if isinstance(given, np.ndarray):
        return hashlib.sha256(np.ascontiguousarray(given, np.float64).data).hexdigest()
    numbers = hashlib.sha256()
    for array in given:
        values = np.asarray(array, np.float64)
        numbers.update(repr(values.shape).encode() + values.tobytes())
    return numbers.hexdigest()


def _extract(job: Job, params: Params, progress: Callable[[int, int | None, int], None], threads: int
             ) -> dict[str, Any]:
    from idt.pipeline import extract_file

    return extract_file(job.source, job.output, params, boxes=job.boxes, homographies=job.homographies,
                        progress=progress, threads=threads)


def _extract_text(job: Job, params: Params, progress: Callable[[int, int | None, int], None], threads: int
                  ) -> dict[str, Any]:
    from idt.features import Features
    from idt.text import write_text

    # Column 10 of a row needs the number of frames, which is known at the end: the rows wait in a features file.
    near = prepared(job.output).parent
    with writing(job.output), tempfile.TemporaryDirectory(prefix=".idt-", dir=near) as folder:
        whole = Job(job.source, Path(folder) / "features.npz", job.boxes, job.homographies)
        meta = _extract(whole, params, progress, threads)
        write_text(Features.load(whole.output), job.output)
    return meta


def _lines(entry: str) -> list[str]:
    """Return the lines of a list, or the entry itself when it is none."""
    if not entry.startswith("@"):
        return [entry]
    path = Path(entry[1:])
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise ParameterError(f"{path}: the list cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise ParameterError(f"{path}: the list is not UTF-8 text ({error}).") from error
    return [line.strip() for line in lines if line.strip()]


def _videos(entry: str) -> list[tuple[str, Path]]:
    """Return (source, path below the output folder) of the videos that a path or glob stands for."""
    path = Path(entry)
    if path.is_dir():
        return _in_folder(path)
    if glob.has_magic(entry) and not path.exists():
        found = _matching(entry, VideoError)
        if all(Path(f).suffix.lower() in IMAGE_SUFFIXES for f in found) and not glob.has_magic(os.fspath(path.parent)):
            return [(entry, Path(path.resolve().parent.name))]
        return [video for f in found for video in _videos(f)]
    if path.suffix.lower() in IMAGE_SUFFIXES:
        raise VideoError(f"{entry} is a single image: give the folder that holds the images of a video.")
    return [(entry, Path(path.name))]


def _features(entry: str) -> list[tuple[str, Path]]:
    """Return (source, path below the output folder) of the features files that a path or glob stands for."""
    path = Path(entry)
    if path.is_dir():
        found = sorted(where / name for where, names in _walk(path, FormatError) for name in names
                       if name.endswith(".npz") and not name.endswith((".codebook.npz", ".model.npz")))
        if not found:
            raise FormatError(f"{path}: there is no features file (.npz) in this folder or below.")
        return [(os.fspath(file), file.relative_to(path)) for file in found]
    if glob.has_magic(entry) and not path.exists():
        return [file for f in _matching(entry, FormatError) for file in _features(f)]
    return [(entry, Path(path.name))]


def _matching(pattern: str, error: type[IdtError]) -> list[str]:
    """Return what a glob matches, in order."""
    found = sorted(glob.glob(pattern, recursive=True))
    if not found:
        raise error(f"{pattern}: nothing matches.")
    return found


def _walk(folder: Path, error: type[IdtError]) -> Iterator[tuple[Path, list[str]]]:
    """Yield a folder, then all below it, each with the names of its files; hidden names are left out."""
    def failed(reason: OSError) -> None:
        raise error(f"{reason.filename}: the folder cannot be read ({reason.strerror}).") from reason

    for where, folders, names in os.walk(folder, onerror=failed):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield Path(where), [name for name in names if not name.startswith(".")]


def _in_folder(folder: Path) -> list[tuple[str, Path]]:
    videos, pictures = [], []
    for where, names in _walk(folder, VideoError):
        suffixes = {name: Path(name).suffix.lower() for name in names}
        videos += [where / name for name, suffix in suffixes.items() if suffix in VIDEO_SUFFIXES]
        if IMAGE_SUFFIXES & set(suffixes.values()):
            pictures.append(where)
            if pictures == [folder] and not videos:
                return [(os.fspath(folder), Path(folder.resolve().name))]
    # Pictures beside videos are thumbnails and the like; where there is no video at all, they are the videos.
    found = sorted(videos or pictures)
    if not found:
        raise VideoError(f"{folder}: there is no video in this folder or below, and no folder of images.")
    return [(os.fspath(video), video.relative_to(folder)) for video in found]


def _side_input(given: Paths | None, what: str, name: Path, suffix: str, videos: int) -> Path | None:
    """Return the side input of the video `name`: the given file, or the one for it in the given folder."""
    if given is None:
        return None
    path = Path(given)
    if not path.is_dir():
        if videos > 1:
            raise ParameterError(f"{what} is {path}, which is not a folder, but there are {videos} videos: give a "
                                 f"folder with a file for each, such as {name}{suffix}.")
        return path
    names = [f"{name}{suffix}", os.fspath(name.with_suffix(suffix))]
    for candidate in names:
        if (path / candidate).is_file():
            return path / candidate
    raise ParameterError(f"{what} is the folder {path}, in which {' or '.join(dict.fromkeys(names))} is missing.")
