"""Bags of descriptors: what is allowed, chunks of them, and what all encoders of bags share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from idt.errors import ParameterError

Array: TypeAlias = NDArray[Any]
Float32: TypeAlias = NDArray[np.float32]
Float64: TypeAlias = NDArray[np.float64]

ROWS = 2048
"""Rows of a chunk; sums over chunks are in float64, so that a bag of any length is summed as well as a short one."""


def chunks(bag: Array, *, width: int | None = None, name: str = "The bag", rows: int = ROWS) -> Iterator[Float32]:
    """Yield the rows of a bag, `rows` at a time, as float32.

    Parameters
    ----------
    bag : ndarray, shape (n, d)
        Floating-point numbers; may be a memory map, of which only the chunk is read.
    width : int, optional
        The d that is needed.
    name : str
        What errors call the bag.
    rows : int

    Raises
    ------
    ParameterError
        The bag has another shape or type, or a row has a number that is NaN or infinite (its index is named).
    """
    if not isinstance(bag, np.ndarray) or bag.ndim != 2 or bag.dtype.kind != "f":
        what = f"has shape {bag.shape} and type {bag.dtype}" if isinstance(bag, np.ndarray) else \
            f"is of type {type(bag).__name__}"
        raise ParameterError(f"{name} {what}: it must be an array (n, d) of floating-point numbers, one descriptor a "
                             "row.")
    if width is not None and bag.shape[1] != width:
        raise ParameterError(f"{name} has {bag.shape[1]} columns: {width} are needed, as many as were learnt from.")
    for start in range(0, len(bag), rows):
        chunk = np.ascontiguousarray(bag[start:start + rows], np.float32)
        if not np.isfinite(chunk.sum()):  # which a sum of large numbers may be as well
            bad = np.flatnonzero(~np.isfinite(chunk).all(axis=1))
            if len(bad):
                raise ParameterError(f"{name} has a number that is NaN or infinite in row {start + bad[0]}: leave such "
                                     "descriptors out.")
        yield chunk


def stacked(bags: Iterable[Array], *, least: int, what: str) -> Float32:
    """Return all rows of all bags as one array, to learn from.

    Raises
    ------
    ParameterError
        See `chunks`; also when widths differ, or there are fewer rows than `least`, the number of `what`.
    """
    parts: list[Float32] = []
    for number, bag in enumerate(bags):
        parts += chunks(bag, width=parts[0].shape[1] if parts else None, name=f"Bag {number}")
    rows = sum(map(len, parts))
    if rows < max(least, 1):
        raise ParameterError(f"There are {rows} descriptors to learn {least} {what} from: give at least as many "
                             "descriptors, or ask for fewer.")
    return np.concatenate(parts)


class BagEncoder(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """What turns each bag into one vector; what it needs to know of all bags is in its `codebook`.

    Attributes
    ----------
    codebook_ : estimator
        The codebook, fitted.
    empty_ : int
        Bags without a descriptor in the last `transform`; their vectors are zero.
    """

    def __init__(self, codebook: Any = None) -> None:
        self.codebook = codebook

    def fit(self, bags: Iterable[Array], y: Any = None) -> Self:
        """Fit a copy of the codebook to all descriptors of the bags; of a large set give a `sample`."""
        from sklearn.base import clone

        self.codebook_ = clone(self.codebook if self.codebook is not None else self._default()).fit(bags)
        return self

    def with_codebook(self, codebook: Any) -> Self:
        """Take a codebook that is fitted already, and return the encoder."""
        self.codebook_ = codebook
        return self

    def transform(self, bags: Iterable[Array]) -> Float32:
        """Return the vectors, shape (bags, size), float32."""
        vectors = []
        self.empty_ = 0
        for number, bag in enumerate(bags):
            vectors.append(self.encode(bag, name=f"Bag {number}"))
            self.empty_ += len(bag) == 0
        return np.stack(vectors) if vectors else np.empty((0, self.size), np.float32)

    def encode(self, bag: Array, *, name: str = "The bag") -> Float32:
        """Return the vector of one bag, shape (size,), float32; zero when it is empty."""
        raise NotImplementedError

    @property
    def size(self) -> int:
        """Number of values of a vector."""
        raise NotImplementedError

    def _default(self) -> Any:
        raise NotImplementedError
