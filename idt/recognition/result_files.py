"""The results of an evaluation as files: JSON, tables for pandas and spreadsheets, a picture of what was confused."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import logging
import os
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from idt import __version__
from idt._util.files import prepared, replacing, writing
from idt.errors import OutputError
from idt.recognition.datasets import Dataset, Split
from idt.recognition.evaluation import Evaluation, Scored

Paths: TypeAlias = str | os.PathLike[str]

FORMAT = 1
"""Version of the files."""

_MAIN = {"evaluation.json", "comparison.json"}  # each is of another command, whose tables have the same names

_FILES = ("evaluation.json", "scores.csv", "classes.csv", "confusion.csv", "confusion.png")

_log = logging.getLogger("idt")

_NUMBERED = 25  # classes up to which the cells of the picture have room for their numbers


def save(found: Evaluation, folder: Paths) -> list[Path]:
    """Write the results of an evaluation into a folder, over those of an earlier one.

    ``evaluation.json`` has the figures and what they were made with; ``scores.csv`` a row for each channel, split and
    test clip; ``classes.csv`` a row for each class; ``confusion.csv`` and ``confusion.png`` tell what clips of each
    class were taken for by all channels together. docs/command-line.md describes the columns. But for the times in
    ``evaluation.json``, equal evaluations give equal files.

    Parameters
    ----------
    found : Evaluation
    folder : path
        Made if missing.

    Returns
    -------
    list of Path
        The files; there is no picture where matplotlib is not installed, which is logged as a warning.

    Raises
    ------
    OutputError
        A file cannot be written, or the folder holds a comparison.
    """
    report, scores, classes, confusion, picture = (Path(folder, name) for name in _FILES)
    check_own(folder, report.name)
    prepared(report)
    with writing(report):
        report.unlink(missing_ok=True)  # of an earlier evaluation: where there is one, all files belong to it
    write_table(scores, score_rows("channel", {channel: found.scored(channel) for channel in found.channels}))
    write_table(classes, _class_rows(found))
    counts = found.confusion()
    write_table(confusion, [["label", *found.dataset.classes], *(
        [label, *row] for label, row in zip(found.dataset.classes, counts.tolist(), strict=True))])
    pictures = []
    if importlib.util.find_spec("matplotlib") is None:
        with writing(picture):
            picture.unlink(missing_ok=True)  # of an earlier evaluation, which would contradict the tables
        _log.warning("%s is left out: pictures need matplotlib, pip install matplotlib.", picture)
    else:
        with replacing(picture) as file:
            _draw(counts, found.dataset.classes, file)
        pictures = [picture]
    with replacing(report) as file:
        file.write(json.dumps(_report(found), indent=1).encode() + b"\n")
    return [report, scores, classes, confusion, *pictures]


def check_folder(folder: Paths, files: Sequence[str] = _FILES) -> None:
    """Raise `OutputError` unless files, those of `save`, can be written into the folder, which is made if missing."""
    check_own(folder, files[0])
    for name in files:
        prepared(Path(folder, name))
    with writing(folder), tempfile.TemporaryFile(dir=folder):
        pass


def check_own(folder: Paths, main: str) -> None:
    """Raise `OutputError` where a folder holds results of another command than `main` is of."""
    for other in _MAIN - {main}:
        if Path(folder, other).exists():
            raise OutputError(f"{os.fspath(folder)} holds {other}, whose tables would be replaced: choose another "
                              "output folder.")


def figures(found: Scored) -> dict[str, float]:
    """Return the figures of a channel or a method as shares of 1.

    ``accuracy`` is that of the test clips of all splits taken together, ``mean_of_splits`` the mean of the accuracies
    of the splits, ``mean_class_accuracy`` the mean of those of the classes, and ``mean_average_precision`` the mean
    over classes and splits.
    """
    return {"accuracy": found.accuracy(), "mean_of_splits": float(found.split_accuracy().mean()),
            "mean_class_accuracy": float(np.nanmean(found.class_accuracy())),
            "mean_average_precision": found.average_precision()}


def _report(found: Evaluation) -> dict[str, Any]:
    accuracies = {channel: found.split_accuracy(channel).tolist() for channel in found.channels}
    return {
        "kind": "evaluation", "format": FORMAT, "package": __version__,
        "dataset": told(found.dataset),
        "extraction": found.extraction,
        "division": found.results[0].split.division,
        "params": found.params.to_dict(),
        "channels": {channel: figures(found.scored(channel)) for channel in found.channels},
        "splits": [{**told_of_split(result.split),
                    "accuracy": {channel: values[n] for channel, values in accuracies.items()}}
                   for n, result in enumerate(found.results)],
        "empty": [place_of(found.dataset, n) for n in found.empty],
        "seconds": found.seconds,
    }


def told(dataset: Dataset) -> dict[str, Any]:
    """Return what a file of results tells of a dataset."""
    return {"name": dataset.name, "layout": dataset.layout, "clips": len(dataset.items),
            "classes": list(dataset.classes)}


def told_of_split(split: Split) -> dict[str, Any]:
    """Return what a file of results tells of a split."""
    return {"name": split.name, "train": len(split.train), "test": len(split.test),
            "shared_groups": list(split.shared_groups)}


def sizes(splits: Sequence[Split]) -> str:
    """Return in words how many clips the splits train and test on."""
    def clips(numbers: list[int]) -> str:
        low, high = min(numbers), max(numbers)
        return str(low) if low == high else f"{low} to {high}"

    return (f"training on {clips([len(split.train) for split in splits])} clips, testing on "
            f"{clips([len(split.test) for split in splits])}")


def place_of(dataset: Dataset, n: int) -> dict[str, Any]:
    """Return the path of a clip below the dataset and its start and end in the video, s."""
    item = dataset.items[n]
    return {"path": os.path.relpath(item.path, dataset.root), "start": item.start_s, "end": item.end_s}


def score_rows(head: str, tables: Mapping[str, Scored]) -> Iterator[list[Any]]:
    """Yield the rows of ``scores.csv``: the names of the columns, the first of which is `head`, then every test clip.

    `tables` has the scores by what stands in the first column.
    """
    dataset = next(iter(tables.values())).dataset
    classes = dataset.classes
    # A class may be named as a column is, so that those of the scores need a prefix.
    yield [head, "split", "path", "start", "end", "label", "predicted", *(f"score_{label}" for label in classes)]
    for name, found in tables.items():
        for split, table in zip(found.splits, found.scores, strict=True):
            for n, scores in zip(split.test, table, strict=True):
                yield [name, split.name, *place_of(dataset, n).values(), dataset.items[n].label,
                       classes[int(scores.argmax())], *scores.tolist()]


def _class_rows(found: Evaluation) -> Iterator[list[Any]]:
    yield ["class", "clips", *found.channels]
    tested = found.confusion().sum(axis=1).tolist()
    accuracies = [found.class_accuracy(channel).tolist() for channel in found.channels]
    for label, clips, *shares in zip(found.dataset.classes, tested, *accuracies, strict=True):
        yield [label, clips, *(share if clips else None for share in shares)]


def write_table(path: Path, rows: Iterable[list[Any]]) -> None:
    """Write CSV; floats are written so that they read back as they were, None as an empty cell."""
    with replacing(path) as file:
        text = io.TextIOWrapper(file, "utf-8", errors="surrogateescape", newline="")  # names need not be UTF-8
        csv.writer(text, lineterminator="\n").writerows(rows)
        text.detach()


def _draw(counts: NDArray[np.int64], classes: tuple[str, ...], file: BinaryIO) -> None:
    """Draw how the clips of each class (row) were labelled, as shares of the row, into a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    tested = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, tested, out=np.zeros(counts.shape), where=tested > 0)
    side = max(2.0, 0.4 * len(classes) if len(classes) <= _NUMBERED else 0.16 * len(classes))  # inches
    size = 9 if len(classes) <= _NUMBERED else 8
    figure = Figure(figsize=(side + 3, side + 2), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, shrink=0.6, aspect=30, label="share of the clips of the class")
    places = range(len(classes))
    names = [label.encode(errors="backslashreplace").decode() for label in classes]  # folders need not be UTF-8
    for ticks in (axes.set_xticks(places, names, rotation=90, fontsize=size),
                  axes.set_yticks(places, names, fontsize=size)):
        for tick in ticks:
            tick.label1.set_parse_math(False)  # a class may have a $ in its name
    axes.set_xlabel("taken for")
    axes.set_ylabel("class")
    if len(classes) <= _NUMBERED:
        for row, column in np.argwhere(counts):
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=size,
                      color="white" if shares[row, column] > 0.5 else "black")
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # letters that the font does not have
        figure.savefig(file, format="png", metadata={"Software": None})
