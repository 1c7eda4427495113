"""What a batch of videos shows on stderr: a bar on a terminal, a line for each video, a summary."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from idt._util.text import counted
from idt.cli.options import Common, Many, shared

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from idt.features.record import Features
    from idt.params import Descriptor, Params
    from idt.recognition.datasets import Dataset
    from idt.runner.jobs import Outcome, Progress, Summary, Workers


_SCREEN = 20  # lines that are surely still to be seen
_MINUTE = 60.0  # s


class Reporter:
    """Context manager whose `progress` and `report` are given to `idt.batch.extract_videos`.

    What is said of an extraction stands in `unit`, `result` and `kernels_cached`.
    """

    unit = "frames"

    def __init__(self, common: Common, workers: Workers | None = None) -> None:
        self._common = common
        self._shard = workers.shard if workers is not None else None
        self._apart = workers is not None and workers.apart
        self._bar = _bar() if sys.stderr.isatty() and not common.quiet else None
        if self._bar is not None:
            self._bar.add_task("", total=None, rate="")
        self._videos = 0
        self._running: dict[Path, Progress] = {}
        self._ended = self._failed = self._processed = 0
        self._gone = self._done = 0.0  # shares of the run: what has ended, and what of it was worked on and done
        self._began = self._said = time.perf_counter()
        self._first = True
        self._compiling = False

    def __enter__(self) -> Self:
        if self._apart:  # all is compiled before the first video, see `idt.runner.scheduler.run`
            self._first = False
            self.must_compile()
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def progress(self, progress: Progress) -> None:
        """Move the bar."""
        if self._first:
            self._first = False
            self._compiling = self.must_compile()
        if progress.done == 0 and not self._running and not self._processed:
            self._began = time.perf_counter()
        self._running[progress.job.output] = progress
        self._videos = progress.videos
        self._show()

    def _show(self) -> None:
        """Show how far the run is: beside the bar, or without a terminal as a line once a minute."""
        if self._bar is None:
            if time.perf_counter() - self._said >= _MINUTE and self._videos > 1 and not self._common.quiet:
                self._said = time.perf_counter()
                self._say(", ".join([f"idt: {self._ended:,} of {self._videos:,} videos", *self._told()]))
        elif self._videos:
            running = list(self._running.values())
            name = _short(Path(running[0].job.source).name) if self._videos == 1 and running else \
                f"{self._ended:,} of {self._videos:,} videos"
            self._bar.update(self._bar.task_ids[0], description=name, completed=self._processed_now(),
                             total=self._expected(), rate=", ".join(self._told()))

    def _processed_now(self) -> int:
        return self._processed + sum(p.done for p in self._running.values())

    def _expected(self) -> float | None:
        """Return how many frames all videos are expected to have, apart from those that are skipped.

        Of the videos that have not begun only the size of their files is known: they are taken to have as many frames a
        byte as the others.
        """
        begun = [p for p in self._running.values() if p.total]
        known, share = self._processed + sum(p.total or 0 for p in begun), sum(p.share for p in begun)
        if not (known and share + self._done):
            return None
        return known + known / (share + self._done) * max(0.0, 1 - self._gone - share)

    def _told(self) -> list[str]:
        """Return what is told of the whole run."""
        processed, expected = self._processed_now(), self._expected()
        seconds = time.perf_counter() - self._began
        # What matters most comes first: on a narrow terminal the end is cut off.
        parts = []
        if processed and expected:
            parts += [f"{duration(max(0.0, expected - processed) / processed * seconds)} left"]
        parts += [f"{self._failed:,} failed"] if self._failed else []
        if processed:
            parts += [f"{processed / seconds:.1f} {self.unit}/s"]
            parts += [f"{_brief(processed)} of about {_brief(expected)} {self.unit}"] if expected and \
                self._videos > 1 else []
        rows = [p.trajectories for p in self._running.values() if p.trajectories is not None]
        parts += [f"{sum(rows)} trajectories"] if rows and self._videos == 1 else []
        return parts

    def report(self, outcome: Outcome) -> None:
        """Print the line of a video that is done or failed."""
        self.ended(outcome)
        if outcome.state == "failed":
            if self._common.debug:
                traceback.print_exception(outcome.error)
            self._say(f"idt: {outcome.reason}")
        elif outcome.meta is not None and not self._common.quiet:
            note = "compilation included" if self._compiling else \
                f"{outcome.processed / outcome.seconds:.1f} {self.unit}/s"
            self._say(f"{outcome.job.source}: {self.result(outcome.meta, outcome.processed)} in "
                      f"{outcome.seconds:.1f} s ({note})")
        self._compiling = self._compiling and outcome.state == "skipped"

    def ended(self, outcome: Outcome) -> None:
        """Count a video that is done, skipped or failed."""
        self._running.pop(outcome.job.output, None)
        self._ended += 1
        self._failed += outcome.state == "failed"
        self._processed += outcome.processed
        self._gone += outcome.share
        self._done += outcome.share if outcome.state == "done" else 0
        self._show()

    def result(self, meta: dict[str, Any], done: int) -> str:
        """Return what was made of how many frames."""
        reason = f" ({meta['reason']})" if meta["reason"] else ""
        return f"{counted(meta['rows'], 'trajectory', 'trajectories')}{reason}, {counted(done, 'frame')}"

    def kernels_cached(self) -> bool:
        """Tell whether nothing needs to be compiled."""
        from idt.trajectories.extraction import kernels_cached

        return kernels_cached()

    def summary(self, summary: Summary, output: Path | None) -> None:
        """Print how many videos are done and where, unless the one that failed has been reported."""
        done, skipped, failed = summary.done, summary.skipped, len(summary.failed)
        if not (done or skipped or failed):
            self._say(f"no video is in part {'/'.join(map(str, self._shard))}" if self._shard else "there is no video")
        elif not self._common.quiet and (done, skipped, failed) != (0, 0, 1):
            parts = [f"{done} done"] + ([f"{skipped} skipped (done before)"] if skipped else [])
            parts += [f"{failed} failed"] if failed else []
            made = [counted(summary.frames, "frame")] if summary.frames else []
            made += [counted(summary.rows, "trajectory", "trajectories")] if summary.rows else []
            made += [f"{in_bytes(summary.bytes)} in {duration(summary.seconds)}"]
            self._say(", ".join(parts) + ("" if output is None else f"; the files are in {output}" + (
                f" ({', '.join(made)})" if done else "")))
            if failed and done + skipped + failed > _SCREEN:  # what was said of them has scrolled away
                self._say("failed:\n" + "\n".join(f"  {outcome.job.source}" for outcome in summary.failed))

    def print(self, line: str) -> None:
        """Print a result on stdout; on a terminal it appears above the bar."""
        if self._bar is not None and sys.stdout.isatty():
            self._say(line)
        else:
            print(line, flush=True)

    def _say(self, line: str) -> None:
        if self._bar is None:
            print(line, file=sys.stderr)
        else:
            self._bar.console.print(line, soft_wrap=True, markup=False, highlight=False)

    def must_compile(self) -> bool:
        """Say so when the kernels have to be compiled first."""
        if self.kernels_cached():
            return False
        if not self._common.quiet:
            from idt._util.kernels import are_kept

            self._say("idt: compiling the kernels; " + (
                "this happens once and takes up to half a minute" if are_kept() else
                "this takes up to half a minute, and every run does it, because no folder for them can be written: set "
                "NUMBA_CACHE_DIR to one that can"))
        return True


def extracted(video: str, path: Path, params: Params, common: Common, *, threads: int,
              homographies: Path | None = None) -> Path:
    """Extract one video into a features file and return its path; an error is raised instead of reported."""
    from idt.runner.jobs import Job, Progress
    from idt.trajectories.extraction import extract_file

    job = Job(video, path, None, homographies)
    with Reporter(common) as reporter:
        reporter.progress(Progress(job, 1, 1))
        extract_file(video, path, params, homographies=homographies, threads=threads,
                     progress=lambda *state: reporter.progress(Progress(job, 1, 1, *state)))
    return path


def read_features(dataset: Dataset, folder: Path, channels: Sequence[Descriptor], common: Common, *, threads: int,
                  params: Params | None = None) -> list[Features]:
    """Return the features of the clips of a dataset, and show how those that the folder lacks are extracted.

    `params` are those of the extraction; None: see `idt.recognition.clip_features.features_of`.
    """
    from idt.recognition.clip_features import features_of
    from idt.runner.scheduler import Tally

    tally = Tally()
    workers, inside = shared(Many(jobs=threads), None, len({item.path for item in dataset.items}))
    with Reporter(common, workers) as reporter:
        def report(outcome: Outcome) -> None:
            tally.add(outcome)
            reporter.report(outcome)

        videos = features_of(dataset, folder, params, channels=channels, threads=inside, workers=workers,
                             progress=reporter.progress, report=report)
    reporter.summary(tally.summary(), folder)
    return videos


def in_bytes(size: float) -> str:
    """Return a number of bytes in the unit that suits it."""
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def _brief(number: float) -> str:
    return f"{number:,.0f}" if number < 1e5 else f"{number / 1e6:.3g} M"


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def printable(text: str) -> str:
    """Return a name, which need not be Unicode where files have names of bytes, as any terminal or pipe takes it."""
    return text.encode(errors="backslashreplace").decode()


def _short(name: str) -> str:
    return name if len(name) <= 30 else f"…{name[-29:]}"


def _bar() -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Column

    whole, rest = Column(no_wrap=True), Column(no_wrap=True, overflow="ellipsis", ratio=1)
    return Progress(TextColumn("{task.description}", markup=False, table_column=whole), BarColumn(bar_width=12),
                    TextColumn("{task.percentage:>3.0f}%", table_column=whole),
                    TextColumn("{task.fields[rate]}", table_column=rest), expand=True,
                    console=Console(stderr=True), transient=True, redirect_stdout=False)
