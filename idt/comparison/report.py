"""A comparison as one HTML file to look at: tables, charts, and the clips that methods disagree on as videos."""

from __future__ import annotations

import base64
import html
import importlib.resources
import itertools
import json
import logging
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from idt._util.files import temporary_folder
from idt._util.text import counted
from idt.comparison.methods import FeatureMethod, Fusion
from idt.comparison.run import Comparison, extractions
from idt.errors import OutputError, ParameterError, VideoError
from idt.features.record import Features
from idt.params import Params, told_apart
from idt.recognition.datasets import Item
from idt.recognition.result_files import place_of, sizes
from idt.video import FrameReader, frames
from idt.viz.pictures import overlay, write_video

# Read at once, so that what follows is of the same version, however long a run takes in which the package is renewed.
_TEMPLATE = importlib.resources.files("idt.comparison").joinpath("report.html").read_text(encoding="utf-8")


_SIDE = 360  # short side of a video, in pixels
_FRAMES = 100  # of a video at most
_VIDEOS = 60
_BYTES = 15_000_000  # of the page

_AROUND = 20  # characters about a video: its number, quotes, a comma

_log = logging.getLogger("idt")


def page(content: Mapping[str, Any], found: Comparison) -> str:
    """Return the HTML of a page that tells of a comparison and needs nothing else, not even a network.

    It shows the accuracies with their intervals, confusion matrices, where two methods differ, and the clips that they
    disagree on as small videos: with the trajectories of each of the two where these differ, with those of another
    method where the two have none, and as they are where no method has any. Those that are of most interest get one,
    as many as keep the page below 15 MB.

    Parameters
    ----------
    content : dict
        The figures, from `idt.comparison.result_files.figures_of`.
    found : Comparison
        Of its features a video that cannot be drawn is logged as a warning.
    """
    dataset, features = found.dataset, found.features
    drawn = sorted((one for one in extractions(row.method for row in found.rows) if one in features),
                   key=lambda params: not params.camera)  # the first one shows best where a clip differs from another
    films = _Films(found, [features[params] for params in drawn], [_used(found, name, drawn) for name in found.names])
    clips = films.clips.tolist()
    split = np.repeat(np.arange(len(found.splits)), [len(split.test) for split in found.splits])
    data = {
        "comparison": content,
        "about": f"{len(set(clips))} test clips of {len(dataset.classes)} classes, "
                 + counted(len(found.splits), f"{content['scheme']} split")
                 + (f", {len(clips)} tests of them" if len(clips) > len(set(clips)) else ""),
        "tests": {"clip": clips, "split": split.tolist(), "label": found.labels.tolist(),
                  "predicted": films.predicted.tolist()},
        "clips": {n: place_of(dataset, n) for n in sorted(set(clips))},
        "drawn": [{"told": told, "steady": params.camera}
                  for told, params in zip(told_apart(drawn), drawn, strict=True)],
        "uses": films.uses,
        "facts": [["Dataset", str(dataset)], ["Splits", f"{content['scheme']}: {sizes(found.splits)}"],
                  ["Intervals", f"{content['bootstrap']['samples']} draws, seed {content['bootstrap']['seed']}"],
                  ["Made by", f"densetraj {content['package']}"]],
    }
    parts = {"TITLE": html.escape(f"Methods compared on {dataset.name}".encode(errors="backslashreplace").decode()),
             "DATA": _json(data)}
    left = _BYTES - len(_TEMPLATE.encode()) - sum(map(len, parts.values()))
    pair = [found.names.index(name) for name in content["pair"] or ()]
    parts["VIDEOS"] = _json(films.made((pair[0], pair[1]), left) if pair else [{}])
    return re.sub(f"@({'|'.join(parts)})@", lambda match: parts[match[1]], _TEMPLATE)


def _json(content: Any) -> str:
    """Return JSON that can stand in an HTML page: nothing in it ends a script or begins a comment."""
    return json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _used(found: Comparison, name: str, drawn: Sequence[Params]) -> list[int]:
    """Return which kinds of extraction a method uses; a fusion those of all its methods."""
    method = found.row(name).method
    if isinstance(method, Fusion):
        return sorted({n for one in method.of for n in _used(found, one, drawn)})
    return [n for n, params in enumerate(drawn) if isinstance(method, FeatureMethod) and method.extraction == params]


class _Films:
    """The clips that methods disagree on as videos: one for each kind of extraction, or one as it is.

    `uses` are the kinds of extraction of each method, as indices; `clips` and `predicted` the clip of each test, and
    what each method takes it for, split after split.
    """

    def __init__(self, found: Comparison, features: Sequence[Sequence[Features]], uses: list[list[int]]) -> None:
        self._items, self._features, self.uses = found.dataset.items, features, uses
        self.clips: NDArray[np.intp] = np.concatenate([np.array(split.test, np.intp) for split in found.splits])
        self.predicted = np.stack([found.predicted(name) for name in found.names])

    def made(self, pair: tuple[int, int], left: int) -> list[dict[int, str]]:
        """Return for each kind the videos of the clips of most interest, as addresses that hold them.

        Together these have at most `left` characters.
        """
        videos: list[dict[int, str]] = [{} for _ in self._features or [()]]
        failed: list[str] = []
        try:
            with temporary_folder() as scratch:
                drawn = self._drawn(pair, Path(scratch, "clip.mp4"), failed)
                for kind, n, address in itertools.islice(drawn, _VIDEOS):
                    left -= len(address) + _AROUND
                    if left < 0:
                        break
                    videos[kind][n] = address
        except OutputError as error:  # there is no temporary folder
            _log.warning("The report is without some videos of clips: %s", error)
        if failed:
            _log.warning("The report is without %s of clips. The first: %s", counted(len(failed), "video"), failed[0])
        return videos

    def _drawn(self, pair: tuple[int, int], path: Path, failed: list[str]) -> Iterator[tuple[int, int, str]]:
        """Yield kind, clip and address of each video; what cannot be drawn is noted and left out."""
        for kind, n in self._in_question(pair):
            try:
                self._draw(kind, n, path)
            except (OutputError, ParameterError, VideoError) as error:  # a temporary folder may be full, too
                failed.append(f"{self._items[n].path}: {str(error).removeprefix(f'{self._items[n].path}: ')}")
                continue
            yield kind, n, f"data:video/mp4;base64,{base64.b64encode(path.read_bytes()).decode()}"

    def _in_question(self, pair: tuple[int, int]) -> Iterator[tuple[int, int]]:
        """Yield kind and clip of each video: those that the pair needs first, then by how many pairs need them."""
        disputes: Counter[int] = Counter()
        needed: Counter[tuple[int, int]] = Counter()
        for a, b in itertools.combinations(range(len(self.uses)), 2):
            apart = self._apart(a, b)
            disputes.update(apart)
            needed.update(itertools.product(self._kinds(a, b), apart))
        first = sorted(self._apart(*pair), key=lambda n: -disputes[n])
        yield from dict.fromkeys([(kind, n) for n in first for kind in self._kinds(*pair)]
                                 + [each for each, _ in needed.most_common()])

    def _apart(self, a: int, b: int) -> list[int]:
        """Return the clips that two methods disagree on."""
        return list(dict.fromkeys(self.clips[self.predicted[a] != self.predicted[b]].tolist()))

    def _kinds(self, a: int, b: int) -> list[int]:
        """Return the kinds of extraction that are shown for two methods."""
        return sorted({*self.uses[a], *self.uses[b]}) or [0]

    def _draw(self, kind: int, n: int, path: Path) -> None:
        """Write the video of a clip; all kinds show the same frames of it."""
        if not self._features:
            _write(self._items[n], path)
            return
        span, features = _span(self._features[0][n]), self._features[kind][n]
        if span is not None and "span" in features.meta:
            span = max(span[0], features.meta["span"]["first"]), min(span[1], features.meta["span"]["last"])
        overlay(self._items[n].path, features, path, span=span, side=_SIDE)


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


def _write(item: Item, path: Path) -> None:
    """Write the first frames of a clip as a video."""
    with frames(item.path, colour=True) as reader:
        fps = reader.fps or 25.0
        pictures = itertools.islice(_pictures(reader, item, fps), _FRAMES)
        first = next(pictures, None)
        if first is None:
            raise VideoError("the video ends before the segment begins.")
        write_video(path, itertools.chain([first], pictures), fps)


def _pictures(reader: FrameReader, item: Item, fps: float) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames of a clip, large ones reduced."""
    import cv2

    first = -math.inf if item.start_s is None else item.start_s - 0.5 / fps  # a start that was rounded
    for frame in reader:
        time = frame.index / fps if math.isnan(frame.time_s) else frame.time_s
        if item.end_s is not None and time > item.end_s:
            return
        if time >= first:
            assert frame.bgr is not None
            scale = min(_SIDE / min(frame.grey.shape), 1.0)
            yield cv2.resize(frame.bgr, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
