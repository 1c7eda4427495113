"""How long a run over many videos will take, and how much disk space, from a short probe."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from idt._util.checks import checked_integer
from idt._util.files import temporary_folder
from idt.errors import VideoError
from idt.params import Params
from idt.runner.inputs import Inputs, work_list
from idt.runner.jobs import Job
from idt.video import count_frames, frames, span_length

if TYPE_CHECKING:
    from idt.video_flow.params import FlowParams

Paths: TypeAlias = str | os.PathLike[str]
T = TypeVar("T")

_PROBE_SECONDS, _PROBE_PAIRS = 2.0, 100  # of one video, about
_PROBE_FRAMES, _MOST_FRAMES = 20, 200  # after the first, which give no trajectory; few, for they may be large; at most
_ENOUGH = 10.0  # s, after which no further video is probed
_BLOCK = 4096  # bytes: the disk space of a file is a multiple of this on most file systems


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run over many videos is expected to be.

    Attributes
    ----------
    videos, unreadable : int
        Videos, and those of them that cannot be opened or give no frame.
    frames : int
        Frames that will be processed, if the headers of the videos tell the truth.
    seconds, size : float
        Time on this machine, and bytes on disk; NaN where nothing could be processed.
    probed : int
        Frames, or pairs of them, that were processed to know.
    """

    videos: int
    unreadable: int
    frames: int
    seconds: float
    size: float
    probed: int


@dataclass(frozen=True, kw_only=True)
class FlowEstimate(Estimate):
    """What the flow of many videos is expected to be.

    Attributes
    ----------
    pairs, files : int
        Pairs that will be solved and files that will be written.
    """

    pairs: int
    files: int


@dataclass(frozen=True, kw_only=True)
class ExtractionEstimate(Estimate):
    """What the features of many videos are expected to be.

    Attributes
    ----------
    rows : float
        Trajectories, all that there are; NaN where no frame could be processed.
    """

    rows: float


def estimate_flow(inputs: Inputs, output: Paths, params: FlowParams | None = None, *, device: str = "cpu",
                  threads: int = 1, jobs: int = 1) -> FlowEstimate:
    """Estimate time and disk space of `flow_videos` from a few pairs of up to three of the videos; write nothing.

    Time and space are taken to grow with the number of pixels, and `jobs` videos at a time to take as long as one, but
    for those that share a GPU. Other arguments and errors are those of `flow_videos`; what is done already does not
    count.
    """
    from idt.flow.devices import gpus_of, one_of
    from idt.video_flow.files import check_usable, files_of
    from idt.video_flow.params import FlowParams, flow_suffix, pairs_of

    settings = params or FlowParams()
    check_usable(settings, device)
    if checked_integer("jobs", jobs) > 1 and (gpus := gpus_of(device, settings.method)):
        device, jobs = one_of(device, settings.method, 0), min(jobs, len(gpus))
    videos = work_list(inputs, output, suffix=flow_suffix(settings))
    sizes = _sizes(videos, settings.start, settings.end, 1, settings.short_side)
    pairs = {job: pairs_of(count, settings) for job, (count, _) in sizes.items()}
    usable = [job for job in sizes if pairs[job]]
    seconds, size, work, probed = 0.0, 0, 0, 0
    probe = partial(_probe_flow, params=settings, device=device, threads=threads)
    for job, (solved, taken, written) in _probes(usable, probe):
        seconds, size, work, probed = (seconds + taken, size + written, work + solved * sizes[job][1], probed + solved)
    shares = [pairs[job] * sizes[job][1] / work if work else math.nan for job in usable]
    files = [files_of(sizes[job][0], settings) for job in usable]
    spaces = [_on_disk(share * size, n) for share, n in zip(shares, files, strict=True)]
    return FlowEstimate(
        videos=len(videos), unreadable=len(videos) - len(sizes), frames=sum(count for count, _ in sizes.values()),
        seconds=_side_by_side([share * seconds for share in shares], jobs), size=sum(spaces), probed=probed,
        pairs=sum(pairs.values()), files=sum(files_of(count, settings) for count, _ in sizes.values()))


def estimate_extraction(inputs: Inputs, output: Paths, params: Params | None = None, *, boxes: Paths | None = None,
                        homographies: Paths | None = None, text: bool = False, encode: Paths | None = None,
                        keep: int | None = None, threads: int = 1, jobs: int = 1) -> ExtractionEstimate:
    """Estimate time and disk space of `extract_videos` from some frames of up to three of the videos; write nothing.

    Time is taken to grow with the number of frames and of their pixels, trajectories likewise, but for the first frames
    of a video, which give none; and `jobs` videos at a time to take as long as one. Other arguments and errors are
    those of `extract_videos`; what is done already is not looked at.
    """
    from idt.batch.extraction import extraction
    from idt.trajectories.extraction import compile_kernels

    settings = params or Params()
    work, _ = extraction(settings, text=text, encode=encode, keep=keep, threads=threads)
    checked_integer("jobs", jobs)
    videos = work_list(inputs, output, boxes=boxes, homographies=homographies)
    sizes = _sizes(videos, settings.start, settings.end, settings.step, settings.short_side)
    usable = [job for job in sizes if sizes[job][0]]
    if usable:
        compile_kernels()  # what is compiled or started once is not measured
    likely = [job for job in usable if sizes[job][0] > settings.length] or usable  # those that have trajectories
    probe = partial(_probe_extraction, work=work, params=settings)
    runs = [(sizes[job][1], first, last) for job, (first, last) in _probes(likely, probe)]
    # What it takes to begin a video, and what its frames and rows add, from all that were probed.
    begin, empty = (_over(sum(values), len(runs)) for values in (
        [first.seconds for _, first, _ in runs], [first.size for _, first, _ in runs]))
    pace = _over(sum(last.seconds - first.seconds for _, first, last in runs),
                 sum((last.frames - first.frames) * pixels for pixels, first, last in runs))
    density = _over(sum(last.rows for _, _, last in runs),
                    sum(max(last.frames - settings.length, 0) * pixels for pixels, _, last in runs))
    most = math.inf if keep is None else keep
    weight = _over(sum(last.size - first.size for _, first, last in runs),
                   sum(min(last.rows, most) for *_, last in runs))
    if not runs:
        begin = empty = pace = density = math.nan
    seconds, rows = [], []
    for count, pixels in (sizes[job] for job in usable):
        seconds.append(begin + pace * count * pixels)
        rows.append(min(density * max(count - settings.length, 0) * pixels, most))
    return ExtractionEstimate(
        videos=len(videos), unreadable=len(videos) - len(sizes), frames=sum(count for count, _ in sizes.values()),
        seconds=_side_by_side(seconds, jobs), size=sum(_on_disk(empty + weight * number, 1) for number in rows),
        probed=sum(last.frames for *_, last in runs), rows=sum(rows))


def _sizes(videos: Iterable[Job], start: int, end: int | None, step: int, short_side: int | None
           ) -> dict[Job, tuple[int, int]]:
    """Return how many frames will be processed and how many pixels each will have, of the videos that can be read."""
    found = {}
    for job in videos:
        if job.error is None:
            with contextlib.suppress(VideoError):
                count, pixels = _stated(job.source, short_side)
                found[job] = span_length(count, start, end, step), pixels
    return found


def _stated(source: str, short_side: int | None) -> tuple[int, int]:
    """Return how many frames a video has and how many pixels each will have, by its header."""
    with frames(source) as reader:
        size, total = reader.stated_size, reader.total
    if size is None:  # images, or a container that does not tell
        with frames(source, end=0) as reader:
            height, width = next(reader).grey.shape
            size = height, width
    factor = 1.0 if short_side is None else short_side / min(size)
    return count_frames(source) if total is None else total, round(size[0] * size[1] * factor**2)


def _probes(videos: Sequence[Job], probe: Callable[[Job], T]) -> Iterator[tuple[Job, T]]:
    """Yield up to three of the videos, from all over the list, and what a probe tells of each."""
    began = time.perf_counter()
    for job in videos[len(videos) // 6::max(-(-len(videos) // 3), 1)]:
        with contextlib.suppress(VideoError):
            yield job, probe(job)
        if time.perf_counter() - began > _ENOUGH:
            return


def _probe_flow(job: Job, *, params: FlowParams, device: str, threads: int) -> tuple[int, float, int]:
    """Write the flow of a few pairs where nobody sees it; return their number, the seconds and the bytes it took."""
    from idt.video_flow.files import write_flow

    def solve(pairs: int) -> tuple[int, float, int]:
        last = params.start + (pairs - 1) * params.every + params.step + (params.stack or 1) - 1
        some = dataclasses.replace(params, end=last if params.end is None else min(last, params.end))
        with temporary_folder() as scratch:
            place = Path(scratch, "flow")
            began = time.perf_counter()
            meta = write_flow(job.source, place, some, device=device, threads=threads)
            seconds = time.perf_counter() - began
            written = [place] if place.is_file() else list(place.iterdir())
            return meta["pairs"], seconds, sum(path.stat().st_size for path in written)

    solve(threads)  # what is compiled or started once is not measured
    pairs, seconds, size = solve(2 * threads)
    more = min(int(_PROBE_SECONDS * pairs / seconds), _PROBE_PAIRS)
    return solve(more) if more > pairs else (pairs, seconds, size)


class _Run(NamedTuple):
    """What some frames of a video took: seconds, bytes, and trajectories."""

    frames: int
    seconds: float
    size: int
    rows: int


def _probe_extraction(job: Job, *, work: Callable[..., dict[str, Any]], params: Params) -> tuple[_Run, _Run]:
    """Extract the first frame of a video where nobody sees it, and then some more."""
    def extract(count: int) -> _Run:
        last = params.start + (count - 1) * params.step
        some = dataclasses.replace(params, end=last if params.end is None else min(last, params.end))
        done = rows = 0

        def advance(*state: Any) -> None:
            nonlocal done, rows
            done, _, rows = state

        with temporary_folder() as scratch:
            place = Path(scratch, "features")
            began = time.perf_counter()
            work(dataclasses.replace(job, output=place), advance, params=some)
            return _Run(done, time.perf_counter() - began, place.stat().st_size, rows)

    first, least = extract(1), params.length + _PROBE_FRAMES
    run = extract(least)
    more = min(int(_PROBE_SECONDS * run.frames / run.seconds), _MOST_FRAMES)
    return first, extract(more) if more > least else run


def _over(value: float, number: float) -> float:
    return value / number if number else 0.0


def _on_disk(size: float, files: int) -> float:
    """Return the disk space of files: the last block of each is half empty on average, and the only one of a small."""
    return max(size + _BLOCK / 2 * files, _BLOCK * files)


def _side_by_side(seconds: Sequence[float], jobs: int) -> float:
    """Return how long videos take of which so many are done at a time."""
    return max(sum(seconds) / jobs, max(seconds, default=0.0))
