"""The features of the clips of a dataset: where they lie, and which trajectories belong to a segment of a video."""

from __future__ import annotations

import dataclasses
import os
from typing import TypeAlias

import numpy as np

from idt.datasets import Dataset, Item
from idt.errors import FormatError, ParameterError
from idt.features import Features
from idt.vectors import duration

Paths: TypeAlias = str | os.PathLike[str]


def load_features(dataset: Dataset, folder: Paths) -> list[Features]:
    """Return the trajectories of every clip of a dataset from the folder that `idt extract` wrote.

    The features of the video ``walk/a.avi`` below the dataset's root are in ``walk/a.avi.npz``.

    Raises
    ------
    FormatError
        A file is missing or cannot be used; the message says how many are.
    """
    opened: dict[str, Features] = {}
    missing = []
    for item in dataset.items:
        path = features_path(dataset, item, folder)
        if item.path not in opened:
            if os.path.exists(path):
                opened[item.path] = Features.load(path)
            else:
                missing.append(path)
    if missing:
        raise FormatError(f"{missing[0]} is missing{f', and {len(missing) - 1} more' if len(missing) > 1 else ''}: "
                          f"extract the videos first, idt extract {dataset.root} -o {os.fspath(folder)}.")
    return [rows_of(opened[item.path], item) for item in dataset.items]


def features_path(dataset: Dataset, item: Item, folder: Paths) -> str:
    """Return where the features of a clip's video are in the folder of the features of a dataset."""
    return os.path.join(folder, os.path.relpath(item.path, dataset.root) + ".npz")


def rows_of(features: Features, item: Item) -> Features:
    """Return the trajectories of a labelled clip: all of its video, or those that lie within its segment.

    `position` t of a segment is its share of the segment, as if it had been cut out.

    Raises
    ------
    ParameterError
        The clip is a segment, but the features do not tell times.
    """
    if item.start_s is None and item.end_s is None:
        return features
    rate = (features.meta.get("video") or {}).get("fps")
    if not rate or np.isnan(features.time).any():
        raise ParameterError(f"{item.path} is given as a segment in seconds, but its features do not tell times.")
    start, end = item.start_s or 0.0, features.time.max(initial=0.0) if item.end_s is None else item.end_s
    begin = features.time - duration(features) / rate
    rows = np.flatnonzero((begin >= start - 0.5 / rate) & (features.time <= end))
    # Rows are in order of time: those of a segment lie side by side and need not be read yet.
    inside = features[rows[0]:rows[-1] + 1] if rows.size and rows.size == rows[-1] + 1 - rows[0] else features[rows]
    position = np.array(inside.position)
    position[:, 2] = np.clip(((begin[rows] + features.time[rows]) / 2 - start) / (end - start or 1), 0, 0.999)
    return dataclasses.replace(inside, position=position)
