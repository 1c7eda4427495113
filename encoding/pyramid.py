"""Spatio-temporal pyramids: parts of the video that are encoded by themselves."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from idt.encoding.bags import Array, Float32
from idt.errors import ParameterError


class Pyramid:
    """Cells of one or several grids over the normalised x, y and t of descriptors.

    Laptev, Marszałek, Schmid and Rozenfeld, *Learning realistic human actions from movies* (CVPR 2008), section 3.2;
    the grids of Wang and Schmid (ICCV 2013) are 1x1x1, 1x3x1 and 1x1x2.

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
        A grid is not written so.
    """

    def __init__(self, grids: Sequence[str] = ("1x1x1",)) -> None:
        self.grids = tuple(grids)
        self._counts = [self._parsed(grid) for grid in self.grids]
        self.size = sum(x * y * t for x, y, t in self._counts)

    @staticmethod
    def _parsed(grid: str) -> tuple[int, int, int]:
        found = re.fullmatch(r"([1-9]\d?)x([1-9]\d?)x([1-9]\d?)", grid) if isinstance(grid, str) else None
        if found is None:
            raise ParameterError(f"grids has {grid!r}: a grid is written as cells along x, y and t, each from 1 to 99, "
                                 "such as 1x3x1.")
        x, y, t = map(int, found.groups())
        return x, y, t

    def cells(self, position: Array) -> list[np.ndarray]:
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
            The array has another shape, or a position that a grid needs is NaN.
        """
        if position.ndim != 2 or position.shape[1] != 3:
            raise ParameterError(f"position has the shape {position.shape}: it must be (n, 3), x, y and t.")
        found = []
        for counts in self._counts:
            number = np.zeros(len(position), np.int64)
            for axis, name in ((2, "t"), (1, "y"), (0, "x")):
                if counts[axis] == 1:
                    continue
                values = position[:, axis]
                if np.isnan(values).any():
                    raise ParameterError(f"position has {name} NaN in row {int(np.isnan(values).argmax())}: a pyramid "
                                         "with cells along it needs all; features of a stream get t from the number of "
                                         "frames, those of idt extract have it.")
                cell = np.clip((values * counts[axis]).astype(np.int64), 0, counts[axis] - 1)
                number = number * counts[axis] + cell
            found += [np.flatnonzero(number == cell) for cell in range(counts[0] * counts[1] * counts[2])]
        return found

    def encode(self, encoder: Any, bag: Array, position: Array, *, norm: Any = None) -> Float32:
        """Return the vectors of all cells one after the other, shape (size x encoder.size,), float32.

        Parameters
        ----------
        encoder : BagEncoder
            Fitted.
        bag : ndarray, shape (n, d)
        position : ndarray, shape (n, 3)
        norm : Normalise, optional
            Applied to the vector of each cell; that of a cell without descriptors is zero.
        """
        if len(bag) != len(position):
            raise ParameterError(f"The bag has {len(bag)} descriptors and position {len(position)} rows: they must be "
                                 "of the same trajectories.")
        vectors = np.stack([encoder.encode(bag[rows]) for rows in self.cells(position)])
        return np.ravel(vectors if norm is None else norm.transform(vectors))
