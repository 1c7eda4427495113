"""idt evaluate: a labelled dataset to accuracies."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, get_args

import numpy as np
from cyclopts import Parameter

from idt._util.text import allowed_text, counted
from idt.cli.info import changed
from idt.cli.options import (
    Common,
    DatasetPath,
    Labelled,
    LearningThreads,
    default_folder,
    read_labelled,
    read_params,
    require_outside,
    usable_cores,
    values_of,
)
from idt.cli.progress import read_features
from idt.cli.train import GivenEncoding
from idt.errors import ParameterError
from idt.params import Params
from idt.recognition.classifier import check_classes
from idt.recognition.datasets import Dataset, Scheme, Split, default_scheme
from idt.recognition.datasets import splits as make_splits
from idt.recognition.evaluation import COMBINED, STEPS, Evaluation
from idt.recognition.evaluation import evaluate as evaluate_splits
from idt.recognition.result_files import check_folder, figures, save, sizes
from idt.recognition.vectors import EncodingParams

_MOST = "most often mistaken for"
_WIDE = 10_000  # columns: a file has no width that a table must fit into
_SHOWN = 5  # groups that a warning names


@dataclasses.dataclass(frozen=True, kw_only=True)
class Division:
    """Flags of the splits; None where the flag was not given."""

    splits: Annotated[str | None, Parameter(
        metavar="NAME", negative=(), show_default=False,
        help="official, leave-one-group-out, k-fold, hold-out; docs/datasets.md tells what each is [default: official "
             "if there are any, else leave-one-group-out if all clips have a group, else k-fold].")] = None
    folds: Annotated[int | None, Parameter(metavar="N", negative=(), show_default=False,
                                           help="Splits of k-fold [default: 5].")] = None
    test_share: Annotated[float | None, Parameter(
        metavar="X", negative=(), show_default=False,
        help="Share of the clips that hold-out tests [above 0, below 1; default: 0.25].")] = None
    split_seed: Annotated[int | None, Parameter(metavar="N", negative=(), show_default=False,
                                                help="Seed of k-fold and hold-out [default: 0].")] = None


_NO_LABELLED, NO_DIVISION, _NO_FLAGS, _COMMON = Labelled(), Division(), GivenEncoding(), Common()


def evaluate(
    path: DatasetPath, /, *,
    output: Annotated[Path | None, Parameter(alias="-o", negative=(), show_default=False)] = None,
    labelled: Annotated[Labelled, Parameter(name="*")] = _NO_LABELLED,
    division: Annotated[Division, Parameter(name="*")] = NO_DIVISION,
    params: Annotated[Path | None, Parameter(metavar="FILE.toml", negative=(), show_default=False)] = None,
    threads: LearningThreads = None,
    given: Annotated[GivenEncoding, Parameter(name="*")] = _NO_FLAGS,
    common: Annotated[Common, Parameter(name="*")] = _COMMON,
) -> None:
    """Tell how well labels are found: accuracies, learnt and tested on each split of a labelled dataset.

    The features of the videos are taken from the folder of features, or extracted into it. PCA, codebooks and
    classifiers are learnt on the training side of a split alone.

    Parameters
    ----------
    output
        Folder of the results: figures, scores of all test clips, accuracies of the classes, what was taken for what
        [default: NAME-evaluation in the working folder, or beside the dataset when that is inside it].
    params
        Parameters of encoding and classifier, as lines such as: words = 256. Flags override it.
    """
    settings = read_params(EncodingParams, given, params)
    dataset, features = read_labelled(path, labelled)
    folder = output or default_folder(dataset, "evaluation")
    require_outside(dataset, folder, "output")
    check_classes(dataset)
    scheme, splits = split_up(dataset, division)
    check_folder(folder)
    # Before hours of extraction, should it be read wrongly.
    show(str(dataset), f"{scheme}: {counted(len(splits), 'split')}, {sizes(splits)}", "")
    cores = threads or usable_cores()
    began = time.perf_counter()
    videos = read_features(dataset, features, settings.channels, common, threads=cores)
    seconds = time.perf_counter() - began

    with shown(splits, common) as progress:
        def move(split: Split, step: str, share: float) -> None:
            progress(split, step, (STEPS.index(step) + share) / len(STEPS))

        found = evaluate_splits(dataset, videos, splits, settings, threads=cores, progress=move)
    found = dataclasses.replace(found, seconds={"extract": seconds, **found.seconds})
    files = save(found, folder)
    if found.extraction is not None and found.extraction != Params().to_dict():
        show(f"features extracted with {changed(found.extraction, Params().to_dict())}", "")
    show(table(*_channels(found, official=scheme == "official")), "", table(*_classes(found), words=[_MOST]), "")
    if found.empty:
        show(f"{counted(len(found.empty), 'clip')} without a trajectory (zero vectors), named in {files[0].name}")
    show("time: " + ", ".join(f"{what} {taken:.1f} s" for what, taken in found.seconds.items()),
          f"results: {folder} ({', '.join(file.name for file in files)})")


@contextlib.contextmanager
def shown(splits: Sequence[Split], common: Common) -> Iterator[Callable[[Split, str, float], None]]:
    """Yield what shows on stderr how far the splits are: a bar on a terminal, elsewhere a line for each.

    It is called with the split, the step and the share of the split that is done.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress

    def name(split: Split) -> str:
        return f"split {splits.index(split) + 1} of {len(splits)}: {split.name}"

    def say(split: Split, step: str, share: float) -> None:
        if share == 0 and not common.quiet:
            print(name(split), file=sys.stderr)

    if common.quiet or not sys.stderr.isatty():
        yield say
        return
    bar = Progress(console=Console(stderr=True), transient=True, redirect_stdout=False)
    task = bar.add_task("", total=len(splits))

    def move(split: Split, step: str, share: float) -> None:
        bar.start()  # not before there is something to show: that of an extraction may still be there
        bar.update(task, description=escape(f"{name(split)}, {step}"), completed=splits.index(split) + share)

    try:
        yield move
    finally:
        bar.stop()


def show(*lines: str) -> None:
    """Print lines on stdout at once; names of classes and folders need not be UTF-8."""
    print("\n".join(lines).encode(errors="backslashreplace").decode(), flush=True)


def split_up(dataset: Dataset, division: Division) -> tuple[str, list[Split]]:
    """Return the scheme and the splits; groups on both sides become warnings."""
    scheme = division.splits or default_scheme(dataset)
    if scheme not in get_args(Scheme):
        raise ParameterError(f"splits is {scheme!r}: it must be one of {allowed_text(scheme, get_args(Scheme))}")
    values = values_of(division)
    uses = {"folds": ("k-fold",), "test_share": ("hold-out",), "split_seed": ("k-fold", "hold-out")}
    for name, schemes in uses.items():
        if name in values and scheme not in schemes:
            raise ParameterError(f"{name} is {values[name]}, which has no effect on {scheme} splits: leave it out, or "
                                 f"choose --splits {' or '.join(schemes)}.")
    options = {name.removeprefix("split_"): value for name, value in values.items() if name in uses}
    splits = make_splits(dataset, scheme, **options)  # type: ignore[arg-type]  # it checks the scheme
    for split in splits:
        if split.shared_groups:
            more = f" and {len(split.shared_groups) - _SHOWN} more" if len(split.shared_groups) > _SHOWN else ""
            logging.getLogger("idt").warning(
                "%s: %s on both sides, which makes the test easier than it should be: %s%s.", split.name,
                counted(len(split.shared_groups), "group has clips", "groups have clips"),
                ", ".join(split.shared_groups[:_SHOWN]), more)
    return scheme, splits


def _channels(found: Evaluation, *, official: bool) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the table of the channels."""
    columns = {"accuracy": "accuracy", "mean_of_splits": "mean of splits", "mean_class_accuracy": "mean class accuracy",
               "mean_average_precision": "mAP"}
    if not official:
        del columns["mean_of_splits"]
    rows = []
    for channel in found.channels:
        values = figures(found.scored(channel))
        rows.append([channel, *(f"{100 * values[name]:.1f}" for name in columns)])
    return ["in %", *columns.values()], rows


def _classes(found: Evaluation) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the table of the classes, all channels together."""
    counts, names = found.confusion(), found.dataset.classes
    wrong = counts - np.diag(np.diag(counts))
    rows = []
    for k, accuracy in enumerate(found.class_accuracy()):
        n, most = int(wrong[k].max()), int(wrong[k].argmax())
        rows.append([names[k], str(counts[k].sum()), "-" if np.isnan(accuracy) else f"{100 * accuracy:.1f}",
                     f"{names[most]} ({n})" if n else "-"])
    return ["class", "clips", f"{COMBINED}, %", _MOST], rows


def table(header: list[str], rows: list[list[str]], *, words: Sequence[str] = ()) -> str:
    """Return a table as text; columns are aligned to the right, but for the first one and those of `words`."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    terminal = sys.stdout.isatty()
    console = Console(width=None if terminal else _WIDE)
    wide = sum(3 + max(map(len, column)) for column in zip(header, *rows, strict=True)) > console.width
    table = Table(box=SIMPLE_HEAD if terminal else None, pad_edge=False, collapse_padding=terminal)
    for n, name in enumerate(header):
        label = n == 0 or name in words  # which may be long; numbers are never broken
        told = Text(name if label or not wide else name.replace(" ", "\n"))
        table.add_column(told, justify="left" if label else "right", no_wrap=not label, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    with console.capture() as text:
        console.print(table)
    return "\n".join(line.rstrip() for line in text.get().splitlines() if line.strip())
