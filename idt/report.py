"""A comparison as one HTML file to look at: tables, charts, and the clips that methods disagree on as videos."""

from __future__ import annotations

import base64
import html
import importlib.resources
import json
import logging
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from idt import __version__
from idt.comparison import LEVEL, SAMPLES, Comparison
from idt.datasets import units_of
from idt.errors import ParameterError, VideoError
from idt.features import Features
from idt.output import replacing
from idt.published import published
from idt.results import figures, place_of, sizes
from idt.view import overlay

Paths: TypeAlias = str | os.PathLike[str]

# Read at once, so that what follows is of the same version, however long a run takes in which the package is renewed.
_TEMPLATE = importlib.resources.files("idt").joinpath("report.html").read_text(encoding="utf-8")


_SIDE = 360  # short side of a video, in pixels
_FRAMES = 100  # of a video at most
_VIDEOS = 60
_BYTES = 10_000_000  # of all videos; in text they take a third more

_log = logging.getLogger("idt")


def save_report(found: Comparison, path: Paths, *, features: Sequence[Features] | None = None,
                rows: tuple[str, str] | None = None) -> None:
    """Write a comparison as one HTML file that needs nothing else, not even a network.

    It shows the accuracies with their intervals (`Comparison.interval`), confusion matrices, where two methods differ,
    and the clips that they disagree on, with their trajectories as small videos. Those that are of most interest get
    one, as many as keep the file below 15 MB.

    Parameters
    ----------
    found : Comparison
    path : path
    features : sequence of Features, optional
        The trajectories of each clip of the dataset, in its order, which are drawn over the videos; without them there
        are no videos. A clip whose video cannot be drawn is logged as a warning.
    rows : (str, str), optional
        Names of the two methods whose differences are shown first (the reader may choose others). Default: the first
        one, and the most accurate of the others.

    Raises
    ------
    ParameterError
        `rows` are not two methods of the comparison, or there are not as many features as clips.
    OutputError
        The file cannot be written.
    """
    if features is not None and len(features) != len(found.dataset.items):
        raise ParameterError(f"There are features of {len(features)} videos for the {len(found.dataset.items)} clips "
                             f"of {found.dataset.name}: give those of every clip, in order.")
    pair = _pair(found, rows)
    steady = all((video.meta.get("params") or {}).get("camera", True) for video in features or ())
    parts = {
        "TITLE": html.escape(f"Methods compared on {found.dataset.name}".encode(errors="backslashreplace").decode()),
        "DATA": _json(_data(found, pair, steady)),
        "VIDEOS": _json({} if features is None or pair is None else _videos(found, pair, features)),
    }
    page = re.sub(f"@({'|'.join(parts)})@", lambda match: parts[match[1]], _TEMPLATE)
    with replacing(path) as file:
        file.write(page.encode())


def _pair(found: Comparison, rows: tuple[str, str] | None) -> tuple[int, int] | None:
    """Return the two rows that are shown first; None where there is only one."""
    names = found.names
    if rows is not None:
        for name in rows:
            found.row(name)
        if len(set(rows)) != 2:
            raise ParameterError(f"rows is {', '.join(map(repr, rows))}: it must name two methods.")
        return names.index(rows[0]), names.index(rows[1])
    if len(names) == 1:
        return None
    return 0, 1 + int(np.argmax([found.accuracy(name) for name in names[1:]]))


def _json(content: Any) -> str:
    """Return JSON that can stand in an HTML page: nothing in it ends a script or begins a comment."""
    return json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _data(found: Comparison, pair: tuple[int, int] | None, steady: bool) -> dict[str, Any]:
    """Return all that the page shows but the videos, in which the motion of the camera may be removed (`steady`)."""
    dataset, names = found.dataset, found.names
    scheme = found.splits[0].division.get("scheme", "given")
    tests, units = _tests(found), units_of(dataset)
    drawn = len({units[n] for n in tests})
    kind = "groups" if any(item.group is not None for item in dataset.items) else "videos"
    split = np.repeat(np.arange(len(found.splits)), [len(split.test) for split in found.splits])
    return {
        "about": f"{len(np.unique(tests))} test clips of {len(dataset.classes)} classes, "
                 f"{len(found.splits)} {scheme} {'split' if len(found.splits) == 1 else 'splits'}",
        "classes": dataset.classes,
        "official": scheme == "official",
        "rows": [_row(found, name) for name in names],
        "published": [{"name": one.method, "accuracy": one.accuracy, "source": one.source}
                      for one in published(dataset)],
        "pair": pair,
        "best": int(np.argmax([found.accuracy(name) for name in names])),
        "tests": {"clip": tests.tolist(), "split": split.tolist(), "label": found.labels.tolist()},
        "splits": [split.name for split in found.splits],
        "clips": {n: place_of(dataset, n) for n in np.unique(tests).tolist()},
        "interval": {"level": LEVEL, "told": (
            f"Share of the test clips that get their label. The whiskers are {LEVEL:.0%} intervals, by a percentile "
            f"bootstrap over the {drawn} {kind}: they tell of other test clips of the kind, not of other training "
            "clips.").replace("%", " %")},
        "mcnemar": [{"rows": [a, b], "only": [test.only_a, test.only_b], "p": test.p}
                    for a in range(len(names)) for b in range(a + 1, len(names))
                    for test in [found.mcnemar(names[a], names[b])]],
        "steady": steady,
        "facts": [["Dataset", str(dataset)], ["Splits", f"{scheme}: {sizes(found.splits)}"],
                  ["Intervals", f"{SAMPLES} draws, seed 0"], ["Made by", f"densetraj {__version__}"]],
    }


def _row(found: Comparison, name: str) -> dict[str, Any]:
    row, classes = found.row(name), found.class_accuracy(name)
    return {
        "name": name,
        "described": row.method.described,
        **figures(found.scored(name)),
        "interval": found.interval(name),
        "class_accuracy": [None if np.isnan(value) else value for value in classes.tolist()],
        "predicted": found.predicted(name).tolist(),
        "seconds": row.seconds,
        "time": row.time,
        "bytes": row.bytes,
    }


def _tests(found: Comparison) -> NDArray[np.intp]:
    """Return the clip of each test, split after split."""
    return np.concatenate([np.array(split.test, np.intp) for split in found.splits])


def _videos(found: Comparison, pair: tuple[int, int], features: Sequence[Features]) -> dict[int, str]:
    """Return the videos of the clips that are of most interest as addresses that hold them."""
    videos: dict[int, str] = {}
    left, failed = _BYTES, []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        path = Path(scratch, "clip.mp4")
        for n in _in_question(found, pair):
            try:
                overlay(found.dataset.items[n].path, features[n], path, span=_span(features[n]), side=_SIDE)
            except (ParameterError, VideoError) as error:
                failed.append(f"{found.dataset.items[n].path}: {error}")
                continue
            content = path.read_bytes()
            left -= len(content)
            if left < 0:
                break
            videos[n] = f"data:video/mp4;base64,{base64.b64encode(content).decode()}"
            if len(videos) == _VIDEOS:
                break
    if failed:
        _log.warning("The report is without the videos of %d clips. The first: %s", len(failed), failed[0])
    return videos


def _in_question(found: Comparison, pair: tuple[int, int]) -> Iterator[int]:
    """Yield the clips that methods disagree on: first those of the pair, then by the number of methods that do."""
    predicted = np.stack([found.predicted(name) for name in found.names])
    agree = predicted[pair[0]] == predicted[pair[1]]
    disputes = sum((each != predicted).sum(axis=0) for each in predicted)
    order = [n for n in np.lexsort((-disputes, agree)).tolist() if disputes[n]]
    yield from dict.fromkeys(_tests(found)[order].tolist())


def _span(features: Features) -> tuple[int, int] | None:
    """Return the first and last frame of the part that is shown: of long clips that in which most tracks end."""
    if not {"span", "params"} <= features.meta.keys():
        return None
    first, last = features.meta["span"]["first"], features.meta["span"]["last"]
    length = _FRAMES * features.meta["params"]["step"]
    if last - first < length:
        return first, last
    ended = np.cumsum(np.bincount(features.frame - first, minlength=last - first + 1))
    inside = ended[length - 1:] - np.concatenate([[0], ended[:-length]])
    first += int(inside.argmax())
    return first, first + length - 1
