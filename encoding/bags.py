"""Bags of descriptors: what is allowed, chunks of them, and what all encoders of bags share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.utils.validation import check_is_fitted
from threadpoolctl import ThreadpoolController

from idt._util.npz import StoredArray
from idt.errors import ParameterError

Array: TypeAlias = NDArray[Any]
Float32: TypeAlias = NDArray[np.float32]
Float64: TypeAlias = NDArray[np.float64]

ROWS = 2048
"""Rows of a chunk; sums over chunks are in float64, so that a bag of any length is summed as well as a short one."""


class LazyBag:
    """A bag whose rows are made when they are read: rows of another, sent through functions.

    It stands wherever a bag does. Of a memory map only a chunk is then in memory at a time, whatever its length and
    whatever is done to it before it is encoded.

    Parameters
    ----------
    bag : ndarray or StoredArray, shape (n, d), or LazyBag
        Also a memory map.
    *functions : callable
        Applied one after the other to some of the rows, (m, d) float32; each returns as many rows and treats each by
        itself, such as `root_sift` and `PCA.project`.
    rows : ndarray of int, optional
        Which rows of the bag, in which order; all when not given.
    name : str, optional
        What errors call the bag, such as its file; that of the inner bag when not given.

    Attributes
    ----------
    shape : tuple of int
        Rows and, after the functions, columns.
    """

    def __init__(self, bag: Array | StoredArray | LazyBag, *functions: Callable[[Float32], Float32],
                 rows: Array | None = None, name: str | None = None) -> None:
        check_bag(bag, name=name or "The bag")
        self.name: str | None = name or (bag.name if isinstance(bag, LazyBag) else None)
        self.source: Array | StoredArray = bag.source if isinstance(bag, LazyBag) else bag
        self.functions: tuple[Callable[[Float32], Float32], ...] = functions
        self.rows: Array | None = rows
        if isinstance(bag, LazyBag):
            self.functions = (*bag.functions, *functions)
            self.rows = bag.rows if rows is None else rows if bag.rows is None else bag.rows[rows]
        width = self._made(np.empty((0, self.source.shape[1]), np.float32)).shape[1] if self.functions else bag.shape[1]
        self.shape: tuple[int, int] = (len(self.source) if self.rows is None else len(self.rows), width)

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, start: int, stop: int, name: str = "The bag") -> Float32:
        """Return some rows; a ParameterError names the first of the source that is NaN or infinite."""
        index = slice(start, stop) if self.rows is None else self.rows[start:stop]
        with np.errstate(over="ignore", invalid="ignore"):  # told below
            read = np.ascontiguousarray(self.source[index], np.float32)
            suspicious = not np.isfinite(read.sum())  # which a sum of large numbers may be as well
        if suspicious:
            bad = np.flatnonzero(~np.isfinite(read).all(axis=1))
            if len(bad):
                row = start + bad[0] if self.rows is None else self.rows[start + bad[0]]
                raise ParameterError(f"{name} has a number that is NaN, infinite or beyond float32 in row {row}: leave "
                                     "such descriptors out.")
        return self._made(read)

    def _made(self, rows: Float32) -> Float32:
        return functools.reduce(lambda made, function: function(made), self.functions, rows)


Bag: TypeAlias = Array | StoredArray | LazyBag


def check_bag(bag: Bag, *, width: int | None = None, name: str = "The bag") -> None:
    """Refuse what is no array (n, d) of floating-point numbers, or has not the d that is needed, by ParameterError."""
    array, name = (bag.source, bag.name or name) if isinstance(bag, LazyBag) else (bag, name)
    is_array = isinstance(array, (np.ndarray, StoredArray))
    if not is_array or array.ndim != 2 or array.dtype.kind != "f" or not array.shape[1]:
        what = f"has the shape {array.shape} and type {array.dtype}" if is_array else \
            f"is of type {type(array).__name__}"
        hint = " One bag alone is given as [bag]." if is_array and array.ndim == 1 else ""
        raise ParameterError(f"{name} {what}: it must be an array (n, d) of floating-point numbers, one descriptor a "
                             f"row.{hint}")
    if width is not None and bag.shape[1] != width:
        raise ParameterError(f"{name} has {bag.shape[1]} columns: {width} are needed, as many as were learnt from.")


def chunks(bag: Bag, *, width: int | None = None, name: str = "The bag", rows: int = ROWS) -> Iterator[Float32]:
    """Yield the rows of a bag, `rows` at a time, as float32.

    Parameters
    ----------
    bag : ndarray, shape (n, d), or LazyBag
        Floating-point numbers; may be a memory map, of which only the chunk is read.
    width : int, optional
        The d that is needed.
    name : str
        What errors call the bag, if it has no name itself.
    rows : int

    Raises
    ------
    ParameterError
        The bag has another shape or type, or a row has a number that is NaN or infinite (its index is named).
    """
    check_bag(bag, width=width, name=name)
    lazy = bag if isinstance(bag, LazyBag) else LazyBag(bag)
    for start in range(0, len(lazy), rows):
        yield lazy.read(start, start + rows, lazy.name or name)


def stacked(bags: Iterable[Bag], *, least: int, what: str) -> Float32:
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


@functools.cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()  # takes 2 ms, which is long beside a short bag


def one_thread() -> AbstractContextManager[Any]:
    """Let the BLAS of NumPy and SciPy use one thread meanwhile: the last bits of products depend on their number."""
    return _controller().limit(limits=1, user_api="blas")


class BagTransformer(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """What turns bags into something, having learnt from bags."""

    def fit_transform(self, bags: Iterable[Bag], y: Any = None, **fit_params: Any) -> Any:
        """Fit, then transform the same bags; they are read twice, so a generator is refused."""
        if isinstance(bags, Iterator):
            raise ParameterError("The bags are a generator, which can be read once, and must be read twice to fit and "
                                 "transform: give a list of them.")
        return self.fit(bags, y, **fit_params).transform(bags)


class BagEncoder(BagTransformer):
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

    def fit(self, bags: Iterable[Bag], y: Any = None) -> Self:
        """Fit a copy of the codebook to all descriptors of the bags; of a large set give a `sample`."""
        self.codebook_ = clone(self.codebook if self.codebook is not None else self._default()).fit(bags)
        return self

    def with_codebook(self, codebook: Any) -> Self:
        """Take a codebook that is fitted already, and return the encoder."""
        check_is_fitted(codebook)
        self.codebook_ = codebook
        return self

    def transform(self, bags: Iterable[Bag]) -> Float32:
        """Return the vectors, shape (bags, size), float32."""
        check_is_fitted(self, "codebook_")
        vectors = []
        self.empty_ = 0
        for index, bag in enumerate(bags):
            vectors.append(self.encode(bag, name=f"Bag {index}"))
            self.empty_ += len(bag) == 0
        return np.stack(vectors) if vectors else np.empty((0, self.size), np.float32)

    def encode(self, bag: Bag, *, name: str = "The bag") -> Float32:
        """Return the vector of one bag, shape (size,), float32; zero when it is empty."""
        raise NotImplementedError

    @property
    def size(self) -> int:
        """Number of values of a vector."""
        raise NotImplementedError

    def _default(self) -> Any:
        raise NotImplementedError
