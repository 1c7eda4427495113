"""idt encode: features to vectors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from idt._util.text import counted
from idt.cli.options import Common, Many, Output, Threads, shared
from idt.cli.progress import Reporter

if TYPE_CHECKING:
    from idt.runner.jobs import Outcome, Summary


def encode(
    inputs: Annotated[list[str], Parameter(name="FEATURES", negative=())], /, *,
    codebook: Annotated[Path, Parameter(metavar="FILE", negative=())],
    output: Output,
    window: Annotated[int | None, Parameter(metavar="N", negative=(), show_default=False)] = None,
    stride: Annotated[int | None, Parameter(metavar="M", negative=(), show_default=False)] = None,
    many: Annotated[Many, Parameter(name="*")] = Many(),
    threads: Annotated[Threads, Parameter(
        help="Channels of one video that are encoded at a time [default: what --jobs leaves of the cores].")] = None,
    force: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    verify: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    common: Annotated[Common, Parameter(name="*")] = Common(),
) -> int:
    """Encode features: a vector for each video and channel, or one for each window of time.

    Files are done side by side, the largest first. What is done already is skipped; a file that fails is reported and
    passed over. A video or window without trajectories has zero vectors.

    Parameters
    ----------
    inputs
        Features files; folders, which are searched for them; "globs"; @list.txt, a file with one of these a line.
    codebook
        File that idt fit wrote.
    output
        Folder of the results: walk/a.avi.npz below a folder argument gives walk/a.avi.npz there.
    window
        Frames of a window [default: the whole video is one].
    stride
        Frames from the start of a window to the start of the next [default: those of a window].
    force
        Also encode what is done already.
    verify
        Read features whole, so that damaged ones fail: their check sums must be right.
    """
    from idt.batch import encode_videos
    from idt.runner.inputs import sources_of

    sources = sources_of(inputs, features=True)
    workers, threads = shared(many, threads, len(sources))
    with _Reporter(common, workers) as reporter:
        summary = encode_videos(sources, output, codebook, window=window, stride=stride, threads=threads,
                                workers=workers, force=force, verify=verify, progress=reporter.progress,
                                report=reporter.report)
        reporter.summary(summary, output)
    return 1 if summary.failed else 0


class _Reporter(Reporter):
    unit = "trajectories"
    _empty = 0

    def report(self, outcome: Outcome) -> None:
        self._empty += outcome.rows == 0
        super().report(outcome)

    def result(self, meta: dict[str, Any], done: int) -> str:
        rows = counted(meta["rows"], "trajectory", "trajectories")
        if meta["window"] is None:
            return rows if meta["rows"] else f"{rows} ({meta['reason'] or 'none was found'}), zero vectors"
        empty = f" ({meta['empty']} without any)" if meta["empty"] else ""
        return f"{rows}, {counted(meta['windows'], 'window')}{empty}"

    def kernels_cached(self) -> bool:
        return True  # or compiled in a second

    def summary(self, summary: Summary, output: Path | None) -> None:
        super().summary(summary, output)
        if self._empty and not self._common.quiet:
            self._say(f"{counted(self._empty, 'video')} without a trajectory: zero vectors")
