"""What a batch of videos shows on stderr: a bar on a terminal, a line for each video, a summary."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from idt.cli.options import Common, Many, shared

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from idt.datasets import Dataset
    from idt.features import Features
    from idt.params import Descriptor, Params
    from idt.runner import Outcome, Progress, Summary, Workers


_SCREEN = 20  # lines that are surely still to be seen


class Reporter:
    """Context manager whose `progress` and `report` are given to `idt.batch.extract_videos`.

    What is said of an extraction stands in `unit`, `result` and `kernels_cached`.
    """

    unit = "frames"

    def __init__(self, common: Common, workers: Workers | None = None) -> None:
        self._common = common
        self._apart = workers is not None and workers.apart
        self._bar = _bar() if sys.stderr.isatty() and not common.quiet else None
        if self._bar is not None:
            self._bar.add_task("", total=None, rate="")
        self._videos = 0
        self._running: dict[Path, Progress] = {}
        self._ended = self._failed = self._processed = 0
        self._share = 0.0  # of the run that has ended
        self._began = time.perf_counter()
        self._first = True
        self._compiling = False

    def __enter__(self) -> Self:
        if self._apart:  # all is compiled before the first video, see `idt.runner.run`
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
        """Show how far the one video is, or how many are done and how much of all by the size of their files."""
        if self._bar is None or not self._videos:
            return
        running = list(self._running.values())
        if self._videos == 1 and running:
            name, done, total = _short(Path(running[0].job.source).name), float(running[0].done), running[0].total
        else:
            name, total = f"{self._ended} of {self._videos} videos", 1
            done = self._share + sum(p.share * min(1.0, p.done / p.total) for p in running if p.total)
        self._bar.update(self._bar.task_ids[0], description=name, completed=done, total=total, rate=self._rate())

    def _rate(self) -> str:
        """Return what is told beside the bar."""
        running = self._running.values()
        processed = self._processed + sum(p.done for p in running)
        parts = [f"{processed / (time.perf_counter() - self._began):.1f} {self.unit}/s"] if processed else []
        rows = [p.trajectories for p in running if p.trajectories is not None]
        parts += [f"{sum(rows)} trajectories"] if rows and self._ended == 0 and len(running) == 1 else []
        parts += [f"{self._failed} failed"] if self._failed else []
        return ", ".join(parts)

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
        self._share += outcome.share
        self._show()

    def result(self, meta: dict[str, Any], done: int) -> str:
        """Return what was made of how many frames."""
        reason = f" ({meta['reason']})" if meta["reason"] else ""
        return f"{counted(meta['rows'], 'trajectory', 'trajectories')}{reason}, {counted(done, 'frame')}"

    def kernels_cached(self) -> bool:
        """Tell whether nothing needs to be compiled."""
        from idt.pipeline import kernels_cached

        return kernels_cached()

    def summary(self, summary: Summary, output: Path | None) -> None:
        """Print how many videos are done and where, unless the one that failed has been reported."""
        done, skipped, failed = (summary.count(state) for state in ("done", "skipped", "failed"))
        if not self._common.quiet and (done, skipped, failed) != (0, 0, 1):
            parts = [f"{done} done"] + ([f"{skipped} skipped (done before)"] if skipped else [])
            parts += [f"{failed} failed"] if failed else []
            self._say(", ".join(parts) + (f"; the files are in {output}" if output is not None else ""))
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
            self._say("idt: compiling the kernels; this happens once and takes up to half a minute")
        return True


def extracted(video: str, path: Path, params: Params, common: Common, *, threads: int,
              homographies: Path | None = None) -> Path:
    """Extract one video into a features file and return its path; an error is raised instead of reported."""
    from idt.pipeline import extract_file
    from idt.runner import Progress
    from idt.work import Job

    job = Job(video, path, None, homographies)
    with Reporter(common) as reporter:
        reporter.progress(Progress(job, 1, 1))
        extract_file(video, path, params, homographies=homographies, threads=threads,
                     progress=lambda *state: reporter.progress(Progress(job, 1, 1, *state)))
    return path


def read_features(dataset: Dataset, folder: Path, channels: Sequence[Descriptor], common: Common, *, threads: int
                  ) -> list[Features]:
    """Return the features of the clips of a dataset, and show how those that the folder lacks are extracted."""
    from idt.dataset_features import features_of
    from idt.runner import Summary

    outcomes: list[Outcome] = []
    workers, inside = shared(Many(jobs=threads), None, len({item.path for item in dataset.items}))
    with Reporter(common, workers) as reporter:
        def report(outcome: Outcome) -> None:
            outcomes.append(outcome)
            reporter.report(outcome)

        videos = features_of(dataset, folder, channels=channels, threads=inside, workers=workers,
                             progress=reporter.progress, report=report)
    reporter.summary(Summary(tuple(outcomes)), folder)
    return videos


def counted(number: int, one: str, many: str | None = None) -> str:
    """Return the number with its noun."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def in_bytes(size: float) -> str:
    """Return a number of bytes in the unit that suits it."""
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def _short(name: str) -> str:
    return name if len(name) <= 30 else f"…{name[-29:]}"


def _bar() -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(TextColumn("{task.description}", markup=False), BarColumn(bar_width=20),
                    TextColumn("{task.percentage:>3.0f}%"), TimeRemainingColumn(), TextColumn("{task.fields[rate]}"),
                    console=Console(stderr=True), transient=True, speed_estimate_period=60,
                    redirect_stdout=False)
