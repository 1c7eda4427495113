"""The results of a comparison as files: JSON, tables for pandas and spreadsheets, a table to paste, a report."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from idt import __version__
from idt._util.files import prepared, replacing, writing
from idt._util.text import counted
from idt.comparison.methods import ExternalMethod, FeatureMethod, has_vectors
from idt.comparison.published import not_comparable, published
from idt.comparison.report import page
from idt.comparison.run import LEVEL, SAMPLES, STEPS, Comparison, Row
from idt.recognition.result_files import check_folder, check_own, figures, score_rows, told, told_of_split, write_table

Paths: TypeAlias = str | os.PathLike[str]

FORMAT = 1
"""Version of the files."""

_NO_WIDTH = "An interval without width tells of no error to come: the bootstrap draws what was seen."

_MAIN = ("comparison.json", "comparison.md", "report.html")
_TABLES = ("methods.csv", "splits.csv", "classes.csv", "confusion.csv", "weights.csv", "mcnemar.csv", "published.csv",
           "scores.csv")
_WORDS = ("method", "protocol", "source")  # columns that are aligned to the left


def save(found: Comparison, folder: Paths, *, reference: str | None = None) -> list[Path]:
    """Write the results of a comparison into a folder, over those of an earlier one.

    ``comparison.json`` has everything but the scores, which are in ``scores.csv``, a row for each method, split and
    test clip; the other ``.csv`` files have the same as tables, ``comparison.md`` is one to paste, and ``report.html``
    a page to look at. docs/command-line.md describes them. But for times, equal comparisons give equal files.

    Parameters
    ----------
    found : Comparison
    folder : path
        Made if missing.
    reference : str, optional
        The method that the others are held against in the table and, see `figures_of`, in the report; default: the
        first.

    Returns
    -------
    list of Path
        The files; a table without a row is left out.

    Raises
    ------
    ParameterError
        There is no such reference.
    OutputError
        A file cannot be written, or the folder holds an evaluation.
    """
    content = figures_of(found, reference)
    whole, table, html = (Path(folder, name) for name in _MAIN)
    check_own(folder, whole.name)
    prepared(whole)
    with writing(folder):
        for path in (whole, html):  # of an earlier comparison: where the first is there, all others belong to it
            path.unlink(missing_ok=True)
    files = []
    scores = score_rows("method", {name: found.scored(name) for name in found.names})
    for name, rows in zip(_TABLES, (*_tables(content), scores), strict=True):
        path, head, first = Path(folder, name), next(rows), next(rows, None)
        if first is None:
            with writing(path):
                path.unlink(missing_ok=True)  # of an earlier comparison
            continue
        write_table(path, itertools.chain([head, first], rows))
        files.append(path)
    with replacing(table) as file:
        file.write(markdown(content).encode(errors="surrogateescape"))  # names of datasets need not be UTF-8
    with replacing(whole) as file:
        file.write(json.dumps(content, indent=1, allow_nan=False).encode() + b"\n")
    text = page(content, found)  # last, for it takes long
    with replacing(html) as file:
        file.write(text.encode())
    return [whole, table, html, *files]


def check_comparison_folder(folder: Paths) -> None:
    """Raise `OutputError` unless `save` can write into the folder, which is made if missing."""
    check_folder(folder, (*_MAIN, *_TABLES))


def markdown(content: dict[str, Any]) -> str:
    """Return the tables of a comparison in Markdown, and what it was, from what ``comparison.json`` holds."""
    head, rows = columns(content)
    dataset, splits, drawn = content["dataset"], content["splits"], content["bootstrap"]
    notes = [f"{dataset['name']}: {dataset['clips']} clips of {len(dataset['classes'])} classes, {content['tests']} "
             f"tests on {counted(len(splits), 'split')} ({content['scheme']}).",
             f"Accuracies in per cent; interval: {100 * drawn['level']:g} %, bootstrap over {drawn['drawn']} "
             f"{drawn['units']} ({drawn['samples']} draws)."]
    notes += [_NO_WIDTH] if any(low == high for low, high in (one["interval"] for one in content["methods"])) else []
    notes += [f"p: McNemar's test against {content['reference']} (exact, two-sided)."] if content["mcnemar"] else []
    notes.append("Time in seconds of one processor core, extraction included; disk: features in MB.")
    notes.append(f"Made by densetraj {content['package']}.")
    lines = [*_table(head, rows), "", _cell(" ".join(notes)), "",
             *(f"- {_cell(one['name'])}: {_cell(one['described'])}" for one in content["methods"])]
    if content["published"]:
        note = "" if content["published_note"] is None else f" {content['published_note']}"
        lines += ["", f"Published figures, which were not computed here.{note}", "",
                  *_table(*published_columns(content))]
    return "\n".join(lines) + "\n"


def columns(content: dict[str, Any], *, short: bool = False) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the table of methods, from what ``comparison.json`` holds.

    The short one, for terminals, is without mean class accuracy.
    """
    tests = {frozenset((one["a"], one["b"])): one["p"] for one in content["mcnemar"]}
    shown = {"accuracy": "accuracy", "mean_of_splits": "mean of splits", "mean_class_accuracy": "mean class accuracy",
             "mean_average_precision": "mAP"}
    if content["scheme"] != "official":
        del shown["mean_of_splits"]
    if short:
        del shown["mean_class_accuracy"]
    rows = []
    for one in content["methods"]:
        figures = {name: f"{100 * one[name]:.1f}" for name in shown}
        interval = "–".join(f"{100 * end:.1f}" for end in one["interval"])
        p = tests.get(frozenset((one["name"], content["reference"])))
        size = one["bytes"].get("features")
        rows.append([one["name"], figures.pop("accuracy"), interval, *figures.values(),
                     *(["-" if p is None else f"{p:.2g}"] if tests else []), _number(one["time"]),
                     _number(None if size is None else size / 1e6)])
    accuracy, *others = shown.values()
    return ["method", accuracy, "interval", *others, *(["p"] if tests else []), "time, s", "disk, MB"], rows


def published_columns(content: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the table of published figures, from what ``comparison.json`` holds."""
    return ["method", "accuracy", "protocol", "source"], [
        [one["method"], f"{100 * one['accuracy']:.1f}", one["protocol"], one["source"]] for one in content["published"]]


def figures_of(found: Comparison, reference: str | None = None) -> dict[str, Any]:
    """Return what ``comparison.json`` holds, from which the tables and the report are made.

    Its ``pair``, the two methods that the report shows first, are the reference (default: the first method) and the
    most accurate of those that label some clip otherwise; of all others, where none does.

    Raises
    ------
    ParameterError
        There is no such reference.
    """
    names = found.names
    reference = found.row(names[0] if reference is None else reference).method.name
    tests = {(a, b): found.mcnemar(a, b) for a, b in itertools.combinations(names, 2)}
    others = [name for name in names if name != reference]
    apart = [name for name in others if (found.predicted(name) != found.predicted(reference)).any()]
    number, units = found.drawn
    return {
        "kind": "comparison", "format": FORMAT, "package": __version__,
        "dataset": told(found.dataset),
        "scheme": found.splits[0].division.get("scheme", "given"), "division": found.splits[0].division,
        "splits": [told_of_split(split) for split in found.splits],
        "tests": len(found.labels),
        "bootstrap": {"level": LEVEL, "samples": SAMPLES, "seed": 0, "drawn": number, "units": units},
        "reference": reference,
        "pair": [reference, max(apart or others, key=found.accuracy)] if others else None,
        "methods": [_method(found, row) for row in found.rows],
        "mcnemar": [{"a": a, "b": b, **dataclasses.asdict(test)} for (a, b), test in tests.items()],
        "published": [dataclasses.asdict(one) for one in published(found.dataset)],
        "published_note": not_comparable(found.dataset, found.splits),
    }


def _method(found: Comparison, row: Row) -> dict[str, Any]:
    method, name = row.method, row.method.name
    made: dict[str, Any]
    if isinstance(method, FeatureMethod):
        kind, made = "features", {"extraction": method.extraction.to_dict(), "encoding": method.encoding.to_dict()}
    elif isinstance(method, ExternalMethod):
        which = "features" if method.scores is None else "scores"
        kind, made = "external", {which: str(getattr(method, which))}
    else:
        kind, made = "fusion", {"of": list(method.of), "fusion": method.how}
    if not isinstance(method, FeatureMethod) and has_vectors(method):
        made |= {"cost": method.cost, "balanced": method.balanced}
    return {
        "name": name, "kind": kind, "described": method.described, **made, **figures(found.scored(name)),
        "interval": list(found.interval(name)),
        "splits": found.split_accuracy(name).tolist(),
        "classes": [None if np.isnan(share) else share for share in found.class_accuracy(name).tolist()],
        "confusion": found.confusion(name).tolist(),
        "weights": [list(weights) for weights in row.weights],
        "seconds": row.seconds, "time": row.time, "bytes": row.bytes,
    }


def _tables(content: dict[str, Any]) -> Iterator[Iterator[list[Any]]]:
    """Yield the rows of each of `_TABLES` but the scores, the names of the columns first."""
    methods, splits, classes = content["methods"], content["splits"], content["dataset"]["classes"]

    def of_methods() -> Iterator[list[Any]]:
        shares = ("accuracy", "mean_of_splits", "mean_class_accuracy", "mean_average_precision")
        yield ["method", "kind", "described", *shares, "low", "high", *STEPS, "time", "features", "vectors"]
        for one in methods:
            yield [one["name"], one["kind"], one["described"], *(one[name] for name in shares), *one["interval"],
                   *(one["seconds"].get(step) for step in STEPS), one["time"],
                   *(one["bytes"].get(kind) for kind in ("features", "vectors"))]

    def of_splits() -> Iterator[list[Any]]:
        yield ["method", "split", "train", "test", "right", "accuracy"]
        for one in methods:
            for split, share in zip(splits, one["splits"], strict=True):
                yield [one["name"], split["name"], split["train"], split["test"], round(share * split["test"]), share]

    def of_classes() -> Iterator[list[Any]]:
        yield ["method", "class", "clips", "right", "accuracy"]
        for one in methods:
            for k, (label, counts, share) in enumerate(zip(classes, one["confusion"], one["classes"], strict=True)):
                yield [one["name"], label, sum(counts), counts[k], share]

    def of_confusion() -> Iterator[list[Any]]:
        yield ["method", "class", "taken_for", "clips"]
        for one in methods:
            for label, counts in zip(classes, one["confusion"], strict=True):
                yield from ([one["name"], label, other, count] for other, count in zip(classes, counts, strict=True)
                            if count)

    def of_weights() -> Iterator[list[Any]]:
        yield ["method", "split", "of", "weight"]
        for one in methods:
            for split, weights in zip(splits, one["weights"], strict=False):  # none but of weighted fusions
                yield from ([one["name"], split["name"], *each] for each in zip(one["of"], weights, strict=True))

    def of_records(name: str, keys: Sequence[str]) -> Iterator[list[Any]]:
        yield list(keys)
        yield from ([one[key] for key in keys] for one in content[name])

    yield from (of_methods(), of_splits(), of_classes(), of_confusion(), of_weights(),
                of_records("mcnemar", ("a", "b", "only_a", "only_b", "statistic", "p")),
                of_records("published", ("method", "accuracy", "protocol", "source")))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Return the lines of a table in Markdown."""
    lines = [f"| {' | '.join(map(_cell, row))} |" for row in (head, *rows)]
    return [lines[0], "|" + "".join(" --- |" if name in _WORDS else " ---: |" for name in head), *lines[1:]]


def _cell(text: str) -> str:
    return re.sub(r"([\\|<*_`])", r"\\\1", text)
