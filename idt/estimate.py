"""How long a run over many videos will take, and how much disk space, from a short probe."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from idt.errors import VideoError
from idt.video import count_frames, frames, span_length
from idt.work import Inputs, work_list

if TYPE_CHECKING:
    from idt.video_flow import FlowParams

Paths: TypeAlias = str | os.PathLike[str]

_PROBE_SECONDS, _PROBE_PAIRS = 2.0, 100  # of one video, about
_BLOCK = 4096  # bytes: the disk space of a file is a multiple of this on most file systems


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


def estimate_flow(inputs: Inputs, output: Paths, params: FlowParams | None = None, *, device: str = "cpu",
                  threads: int = 1) -> FlowEstimate:
    """Estimate time and disk space of `flow_videos` from a few pairs of up to three of the videos; write nothing.

    Time and space are taken to grow with the number of pixels. Arguments and errors are those of `flow_videos`; what
    is done already is not looked at.
    """
    from idt.video_flow import FlowParams, check_usable, files_of, flow_suffix, pairs_of

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
