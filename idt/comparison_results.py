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
from idt.comparison import LEVEL, STEPS, Comparison, Row
from idt.features import Features
from idt.methods import ExternalMethod, FeatureMethod, has_vectors
from idt.output import prepared, replacing, writing
from idt.published import published
from idt.report import save_report
from idt.results import check_folder, figures, score_rows, told, told_of_split, write_table

Paths: TypeAlias = str | os.PathLike[str]

FORMAT = 1
"""Version of the files."""

_FILES = ("comparison.json", "comparison.md", "methods.csv", "scores.csv", "report.html")
_WORDS = ("method", "source")  # columns that are aligned to the left


def save(found: Comparison, folder: Paths, *, reference: str | None = None,
         features: Sequence[Features] | None = None) -> list[Path]:
    """Write the results of a comparison into a folder, over those of an earlier one.

    ``comparison.json`` has everything but the scores, which are in ``scores.csv``, a row for each method, split and
    test clip; ``methods.csv`` has a row for each method, ``comparison.md`` is a table to paste, and ``report.html`` a
    page to look at. docs/command-line.md describes them. But for times, equal comparisons give equal files.

    Parameters
    ----------
    found : Comparison
    folder : path
        Made if missing.
    reference : str, optional
        The method that the others are held against in the table and, with the best of them, in the report; default: the
        first.
    features : sequence of Features, optional
        The trajectories of each clip, which the report shows over the videos, see `idt.report.save_report`.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    ParameterError
        There is no such reference, or not as many features as clips.
    OutputError
        A file cannot be written.
    """
    told_against = found.row(reference or found.names[0]).method.name
    others = [name for name in found.names if name != told_against]
    pair = (told_against, max(others, key=found.accuracy)) if others else None
    whole, table, methods, scores, page = (Path(folder, name) for name in _FILES)
    prepared(whole)
    with writing(whole):
        whole.unlink(missing_ok=True)  # of an earlier comparison: where there is one, all files belong to it
    write_table(scores, score_rows("method", {name: found.scored(name) for name in found.names}))
    content = _content(found, told_against)
    write_table(methods, _method_rows(content))
    with replacing(table) as file:
        file.write(markdown(content).encode(errors="surrogateescape"))  # names of datasets need not be UTF-8
    save_report(found, page, features=features, rows=pair)
    with replacing(whole) as file:
        file.write(json.dumps(content, indent=1, allow_nan=False).encode() + b"\n")
    return [whole, table, methods, scores, page]


def check_comparison_folder(folder: Paths) -> None:
    """Raise `OutputError` unless `save` can write into the folder, which is made if missing."""
    check_folder(folder, _FILES)


def markdown(content: dict[str, Any]) -> str:
    """Return the tables of a comparison in Markdown, from what ``comparison.json`` holds."""
    head, rows = columns(content)
    splits = content["splits"]
    notes = [f"{content['dataset']['name']}: {content['tests']} tests on {len(splits)} "
             f"{'split' if len(splits) == 1 else 'splits'} ({content['division'].get('scheme', 'given')}).",
             f"Accuracies in per cent; interval: {100 * content['level']:g} %, bootstrap over {content['units']}."]
    notes += [f"p: McNemar's test against {content['reference']} (exact, two-sided)."] if content["mcnemar"] else []
    notes.append("Time in seconds of one processor core, extraction included; disk: features in MB.")
    lines = [*_table(head, rows), "", _cell(" ".join(notes))]
    if content["published"]:
        rows = [[one["method"], f"{100 * one['accuracy']:.1f}", one["source"]] for one in content["published"]]
        lines += ["", "Published figures, which were not computed here:", "",
                  *_table(["method", "accuracy", "source"], rows)]
    return "\n".join(lines) + "\n"


def columns(content: dict[str, Any], *, short: bool = False) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the table of methods, from what ``comparison.json`` holds.

    The short one, for terminals, is without mean class accuracy.
    """
    tests = {frozenset((one["a"], one["b"])): one["p"] for one in content["mcnemar"]}
    shown = {"accuracy": "accuracy", "mean_of_splits": "mean of splits", "mean_class_accuracy": "mean class accuracy",
             "mean_average_precision": "mAP"}
    if content["division"].get("scheme") != "official":
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


def _content(found: Comparison, reference: str) -> dict[str, Any]:
    names = found.names
    tests = {(a, b): found.mcnemar(a, b) for a, b in itertools.combinations(names, 2)}
    return {
        "kind": "comparison", "format": FORMAT, "package": __version__,
        "dataset": told(found.dataset),
        "division": found.splits[0].division,
        "splits": [told_of_split(split) for split in found.splits],
        "tests": len(found.labels),
        "level": LEVEL, "units": "groups" if any(item.group for item in found.dataset.items) else "videos",
        "reference": reference,
        "methods": [_method(found, row) for row in found.rows],
        "mcnemar": [{"a": a, "b": b, **dataclasses.asdict(test)} for (a, b), test in tests.items()],
        "published": [dataclasses.asdict(one) for one in published(found.dataset)],
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


def _method_rows(content: dict[str, Any]) -> Iterator[list[Any]]:
    shares = ("accuracy", "mean_of_splits", "mean_class_accuracy", "mean_average_precision")
    yield ["method", "kind", "described", *shares, "low", "high", *STEPS, "time", "features", "vectors"]
    for one in content["methods"]:
        yield [one["name"], one["kind"], one["described"], *(one[name] for name in shares), *one["interval"],
               *(one["seconds"].get(step) for step in STEPS), one["time"],
               *(one["bytes"].get(kind) for kind in ("features", "vectors"))]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Return the lines of a table in Markdown."""
    lines = [f"| {' | '.join(map(_cell, row))} |" for row in (head, *rows)]
    return [lines[0], "|" + "".join(" --- |" if name in _WORDS else " ---: |" for name in head), *lines[1:]]


def _cell(text: str) -> str:
    return re.sub(r"([\\|<*_`])", r"\\\1", text)
