"""Spatio-temporal pyramids: parts of the video that are encoded by themselves."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from idt.encoding.bags import Array, Bag, Float32, LazyBag, check_bag
from idt.errors import ParameterError


class Pyramid:
    """Cells of one or several grids over the normalised x, y and t of descriptors.

    Laptev, Marszałek, Schmid and Rozenfeld, "Learning realistic human actions from movies", CVPR 2008, section 3.2. The
    whole video, three horizontal stripes and two halves of the time are 1x1x1, 1x3x1 and 1x1x2.

    Parameters
    ----------
    grids : sequence of str
        Number of cells along x, y and t, such as "1x3x1": three horizontal stripes.

    Attributes
    ----------
    grids : tuple of str
    size : int
        Number of cells of all grids.

    Raises
    ------
    ParameterError
        A grid is not written so, or there is none.
    """

    def __init__(self, grids: Sequence[str] = ("1x1x1",)) -> None:
        if isinstance(grids, str) or not grids:
            raise ParameterError(f"grids is {grids!r}: it must be a sequence of at least one grid, such as "
                                 '("1x1x1", "1x3x1").')
        self.grids = tuple(grids)
        self._counts = [_parsed(grid) for grid in self.grids]
        self.size = sum(x * y * t for x, y, t in self._counts)

    def cells(self, position: Array) -> list[NDArray[np.intp]]:
        """Return for each cell the indices of its descriptors, in order.

        Parameters
        ----------
        position : ndarray, shape (n, 3)
            x, y and t in [0, 1); what lies outside belongs to the outermost cell.

        Returns
        -------
        list of ndarray of int
            Grid by grid, in each t slowest, then y, then x.

        Raises
        ------
        ParameterError
            The array has another shape, or a position that a grid needs is NaN or infinite.
        """
        position = np.asarray(position)
        if position.ndim != 2 or position.shape[1] != 3 or position.dtype.kind != "f":
            raise ParameterError(f"position has the shape {position.shape} and type {position.dtype}: it must be an "
                                 "array (n, 3) of floating-point numbers, x, y and t.")
        found = []
        for counts in self._counts:
            cell = np.zeros(len(position), np.intp)
            for axis in (2, 1, 0):
                if counts[axis] > 1:
                    cell = cell * counts[axis] + _slots(position[:, axis], counts[axis], "xyt"[axis])
            found += [np.flatnonzero(cell == index) for index in range(counts[0] * counts[1] * counts[2])]
        return found

    def encode(self, encoder: Any, bag: Bag, position: Array, *, norm: Any = None) -> Float32:
        """Return the vectors of all cells one after the other, shape (size × encoder.size,), float32.

        Parameters
        ----------
        encoder : BagEncoder
            Fitted.
        bag : ndarray, shape (n, d), or LazyBag
        position : ndarray, shape (n, 3)
        norm : Normalise, optional
            Applied to the vector of each cell; that of a cell without descriptors is zero.

        Raises
        ------
        ParameterError
            See `cells` and the encoder; also when bag and position are not equally long.
        """
        check_bag(bag)
        if len(bag) != len(position):
            raise ParameterError(f"The bag has {len(bag)} descriptors and position {len(position)} rows: they must be "
                                 "of the same trajectories.")
        vectors = np.stack([encoder.encode(LazyBag(bag, rows=rows)) for rows in self.cells(position)])
        return np.ravel(vectors if norm is None else norm.transform(vectors))


def _parsed(grid: Any) -> tuple[int, int, int]:
    found = re.fullmatch(r"([1-9][0-9]?)x([1-9][0-9]?)x([1-9][0-9]?)", grid) if isinstance(grid, str) else None
    if found is None:
        raise ParameterError(f"grids has {grid!r}: a grid is written as cells along x, y and t, each from 1 to 99, "
                             "such as 1x3x1.")
    x, y, t = map(int, found.groups())
    return x, y, t


def _slots(values: Array, count: int, name: str) -> NDArray[np.intp]:
    """Return in which of the equal parts of [0, 1) values lie."""
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        hint = (" Rows of idt.stream() have no t, which needs the length of the video; those of idt.extract() have it, "
                "and Features.concatenate fills it in." if name == "t" else "")
        raise ParameterError(f"position has no finite {name} in row {bad[0]}, and the pyramid has cells along {name}."
                             f"{hint}")
    return np.clip(np.floor(values.astype(np.float64) * count), 0, count - 1).astype(np.intp)
