"""Two feature sets held against each other, row by row."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from idt.errors import ParameterError
from idt.features.record import ROWS, Features, load_any
from idt.params import DESCRIPTORS

Array = NDArray[Any]

_CELLS = 1 << 22  # distances that are held at a time
_BLOCK = 1 << 14  # matched rows that are compared at a time


@dataclass(frozen=True)
class Difference:
    """What `diff` found; A is the first set, B the second.

    Parameters
    ----------
    rows_a, rows_b : int
        Rows of each.
    matched : int
        Pairs of rows that belong together.
    matched_of_a, matched_of_b : float
        `matched` as a share of the rows of A and of B (0 when there are none).
    position : (float, float) or None
        Median and 99th percentile of the larger coordinate difference of the means, over the pairs, in pixels; None
        without a pair.
    cosine : dict
        For each descriptor that both have: median and 5th percentile of the cosine between the two rows of a pair.
    largest : dict
        For each array that both have: the largest absolute difference over the pairs (of the homographies: over all
        frames, where both have the same number). NaN is left out.
    identical : bool
        All arrays have the same types and values, in the same order. The meta may differ.
    """

    rows_a: int
    rows_b: int
    matched: int
    matched_of_a: float
    matched_of_b: float
    position: tuple[float, float] | None
    cosine: dict[str, tuple[float, float]]
    largest: dict[str, float]
    identical: bool

    def rows(self) -> list[tuple[str, str]]:
        """Return the lines of a table: what, and its value as text."""
        table = [("identical", "yes" if self.identical else "no"), ("rows of A, of B", f"{self.rows_a}, {self.rows_b}"),
                 ("matched rows", f"{self.matched}"), ("matched of A", f"{self.matched_of_a:.4%}"),
                 ("matched of B", f"{self.matched_of_b:.4%}")]
        if self.position is not None:
            table.append(("mean position p50, p99", f"{self.position[0]:.6f}, {self.position[1]:.6f} px"))
        table += [(f"{name} cosine p50, p5", f"{p50:.6f}, {p5:.6f}") for name, (p50, p5) in self.cosine.items()]
        table += [(f"{name} largest difference", f"{value:.6g}") for name, value in self.largest.items()]
        return table

    def __str__(self) -> str:
        return "\n".join(f"{what:32s}{value}" for what, value in self.rows())


def diff(a: Features | str | os.PathLike[str], b: Features | str | os.PathLike[str], *,
         tolerance: float = 1.0) -> Difference:
    """Hold two feature sets of one video against each other.

    Rows match when frame and scale are equal and both coordinates of the means differ by at most `tolerance` × scale;
    one to one, nearest first.

    Parameters
    ----------
    a, b : Features or path
        Whatever `load_any` reads: a features file, the original text, or an ``.npz`` with arrays of the same names.
    tolerance : float
        In pixels of the scale.

    Raises
    ------
    FormatError
        A file cannot be read.
    ParameterError
        A descriptor has different widths in A and B (other lengths or cells), or the tolerance is negative.
    """
    if not tolerance >= 0:
        raise ParameterError(f"tolerance is {tolerance}: it must be 0 px or more.")
    a, b = (x if isinstance(x, Features) else load_any(x) for x in (a, b))
    arrays_a, arrays_b = a.arrays(), b.arrays()
    both = [name for name in arrays_a if name in arrays_b]
    for name in both:
        if name in ROWS and arrays_a[name].shape[1:] != arrays_b[name].shape[1:]:
            raise ParameterError(f"A and B cannot be compared: a row of {name} has the shape "
                                 f"{arrays_a[name].shape[1:]} in A and {arrays_b[name].shape[1:]} in B; they were made "
                                 "with different parameters.")
    i, j, distance = _match(a, b, tolerance)
    largest = {name: value for name in both if (value := _largest(arrays_a[name], arrays_b[name], i, j, name))
               is not None}
    cosine: dict[str, tuple[float, float]] = {}
    if i.size:
        cosine = {name: _percentiles(_cosines(arrays_a[name], arrays_b[name], i, j), 50, 5)
                  for name in DESCRIPTORS if name in both}
    return Difference(rows_a=len(a), rows_b=len(b), matched=i.size, matched_of_a=i.size / max(1, len(a)),
                      matched_of_b=i.size / max(1, len(b)),
                      position=_percentiles(distance, 50, 99) if i.size else None, cosine=cosine, largest=largest,
                      identical=_identical(arrays_a, arrays_b))


def _match(a: Features, b: Features, tolerance: float) -> tuple[Array, Array, Array]:
    """Return row indices in A and B of the pairs, and the larger coordinate difference of their means in pixels."""
    groups_a, groups_b = _groups(a), _groups(b)
    mean_a, mean_b = a.mean.astype(np.float64), b.mean.astype(np.float64)
    pairs: list[tuple[int, int, float]] = []
    for (frame, scale), rows_a in groups_a.items():
        rows_b = groups_b.get((frame, scale))
        if rows_b is None:
            continue
        left, right, distance = _near(mean_a[rows_a], mean_b[rows_b], tolerance * scale)
        used_a, used_b = np.zeros(len(rows_a), bool), np.zeros(len(rows_b), bool)
        for n in np.argsort(distance, kind="stable"):
            p, q = left[n], right[n]
            if not (used_a[p] or used_b[q]):
                used_a[p] = used_b[q] = True
                pairs.append((rows_a[p], rows_b[q], distance[n]))
    if not pairs:
        return np.zeros(0, np.intp), np.zeros(0, np.intp), np.zeros(0)
    i, j, d = zip(*pairs, strict=True)
    return np.array(i), np.array(j), np.array(d)


def _groups(features: Features) -> dict[tuple[int, float], Array]:
    """Return the rows, in order, of each frame and scale (rounded to 0.01)."""
    if not len(features):
        return {}
    keys = np.column_stack([features.frame, np.round(features.scale.astype(np.float64), 2)])
    order = np.lexsort(keys.T)
    starts = 1 + np.flatnonzero((np.diff(keys[order], axis=0) != 0).any(axis=1))
    return {(int(keys[rows[0], 0]), float(keys[rows[0], 1])): rows for rows in np.split(order, starts)}


def _near(a: Array, b: Array, limit: float) -> tuple[Array, Array, Array]:
    """Return index in `a`, index in `b` and distance of all points within `limit`, ordered by both indices."""
    step = max(1, _CELLS // len(b))
    found = []
    for start in range(0, len(a), step):
        distance = np.abs(a[start:start + step, None] - b[None]).max(axis=2)
        left, right = np.nonzero(distance <= limit)
        found.append((left + start, right, distance[left, right]))
    left, right, distance = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return left, right, distance


def _blocks(a: Array, b: Array, i: Array, j: Array) -> Any:
    """Yield the matched rows of both arrays in double precision, some at a time."""
    for start in range(0, i.size, _BLOCK):
        rows = slice(start, start + _BLOCK)
        yield a[i[rows]].astype(np.float64), b[j[rows]].astype(np.float64)


def _cosines(a: Array, b: Array, i: Array, j: Array) -> Array:
    return np.concatenate([(x * y).sum(axis=1) / (np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1) + 1e-12)
                           for x, y in _blocks(a, b, i, j)])


def _largest(a: Array, b: Array, i: Array, j: Array, name: str) -> float | None:
    if name == "homographies":
        if a.shape != b.shape:
            return None
        i = j = np.arange(len(a))
    differences = [np.abs(x - y) for x, y in _blocks(a, b, i, j)]
    known = [float(d[~np.isnan(d)].max()) for d in differences if not np.isnan(d).all()]
    return max(known, default=None)


def _percentiles(values: Array, first: float, second: float) -> tuple[float, float]:
    return float(np.percentile(values, first)), float(np.percentile(values, second))


def _identical(a: dict[str, Array], b: dict[str, Array]) -> bool:
    return a.keys() == b.keys() and all(
        a[name].dtype == b[name].dtype and np.array_equal(a[name], b[name], equal_nan=True) for name in a)
