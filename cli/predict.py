"""idt predict: videos to labels."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from idt.cli.options import Common, Many, Threads, shared
from idt.cli.progress import Reporter, printable
from idt.errors import ParameterError

if TYPE_CHECKING:
    from idt.runner.inputs import Found
    from idt.runner.jobs import Outcome, Workers


def _some(_type: Any, value: int) -> None:
    if value < 1:
        raise ParameterError(f"top is {value}: it must be at least 1.")


def predict(
    model: Annotated[Path, Parameter(name="MODEL", negative=())],
    inputs: Annotated[list[str], Parameter(name="VIDEO", negative=())], /, *,
    top: Annotated[int, Parameter(metavar="N", negative=(), validator=_some)] = 3,
    as_json: Annotated[bool, Parameter(name="--json", negative=(), show_default=False)] = False,
    features: Annotated[Path | None, Parameter(metavar="DIR", negative=(), show_default=False)] = None,
    many: Annotated[Many, Parameter(name="*")] = Many(),
    threads: Threads = None,
    common: Annotated[Common, Parameter(name="*")] = Common(),
) -> int:
    """Label videos: one line for each, with its best labels and their scores.

    A score above 0 says that the video rather has the label than not; only the scores of one video are compared with
    each other. Videos are done side by side, and one that fails is reported and passed over.

    Parameters
    ----------
    model
        File that idt train wrote.
    inputs
        Video files; folders (one that directly holds images is one video, any other is searched for videos); "globs";
        a CSV with a column path; @list.txt, a file with one of these a line.
    top
        Labels that are shown of each video.
    as_json
        Print a JSON object with all labels for each video instead.
    features
        Folder of the features of the videos, as idt extract writes them; those that are missing or out of date are
        extracted into it. Without it features are not kept.
    """
    from idt.batch import predict_videos
    from idt.recognition.classifier import load_model
    from idt.runner.inputs import sources_of

    loaded = load_model(model)
    sources = sources_of(inputs)
    workers, threads = shared(many, threads, len(sources))
    with _Reporter(common, workers, None if as_json else top, sources, loaded.labels) as reporter:
        summary = predict_videos(sources, loaded, features=features, threads=threads, workers=workers,
                                 progress=reporter.progress, report=reporter.report)
    if summary.failed:
        reporter.summary(summary, features)
    return 1 if summary.failed else 0


class _Reporter(Reporter):
    """Prints the labels of a video when they are known: the best `top` after its name, or all as JSON."""

    def __init__(self, common: Common, workers: Workers, top: int | None, sources: Iterable[Found],
                 labels: Iterable[str]) -> None:
        super().__init__(common, workers)
        self._top = top
        self._lines: dict[int, str | None] = {}
        self._next = 1
        self._width = max(len(printable(one.source)) for one in sources)
        self._label_width = max(len(printable(label)) for label in labels)

    def report(self, outcome: Outcome) -> None:
        if outcome.meta is None:
            super().report(outcome)
            self._lines[outcome.number] = None
        else:
            self.ended(outcome)
            self._lines[outcome.number] = self._line(outcome.job.source, outcome.meta)
        while self._next in self._lines:  # in the order of the videos, whichever was done first
            if (line := self._lines.pop(self._next)) is not None:
                self.print(line)
            self._next += 1

    def _line(self, source: str, meta: dict[str, Any]) -> str:
        if self._top is None:
            return json.dumps({
                "video": source, "trajectories": meta["rows"], "reason": meta["reason"],
                "labels": [{"label": label, "score": score} for label, score in meta["ranking"]]})
        found = self._best(meta["ranking"][:self._top]) if meta["rows"] else f"no trajectories, {meta['reason']}"
        return f"{printable(source):{self._width}}   {found}"

    def _best(self, ranking: list[tuple[str, float]]) -> str:
        return "   ".join(f"{printable(label):{self._label_width}} {score:5.2f}" for label, score in ranking)
