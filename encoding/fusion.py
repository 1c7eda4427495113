"""Late fusion: the scores of several classifiers, one table for each, made one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import scipy.stats
from numpy.typing import NDArray

from idt.errors import ParameterError


def fuse(tables: Sequence[NDArray[Any]], *, method: Literal["mean", "weighted", "rank"] = "mean",
         weights: Sequence[float] | None = None) -> NDArray[np.float64]:
    """Return one table of scores from those of several classifiers of the same samples and classes.

    Every row is fused by itself, so that the score of a sample does not depend on which others are scored with it. For
    that reason scores are not standardised over the samples: those of machines that were trained alike have one unit
    already, the margin. Where they have not, "rank" asks for no unit.

    Parameters
    ----------
    tables : sequence of arrays, shape (n, classes)
        Higher means likelier; the classes in the same order in all.
    method : {"mean", "weighted", "rank"}
        Mean of the scores; mean with `weights`; or Borda count: the mean number of classes of the row that score lower,
        an equal one counting half. Classes that come out equal, as two do that two classifiers put the other way
        round, are told apart by the mean of their scores, those of each row scaled to mean 0 and one length: a small
        part of it is added, less than any difference between counts.
    weights : sequence of float, for "weighted" only
        One for each table, not negative, not all 0; only their ratios count.

    Returns
    -------
    ndarray, shape (n, classes), float64

    Raises
    ------
    ParameterError
        No table, shapes that differ, a score that is NaN or infinite (the row is named), an unknown method, or weights
        that do not fit.
    """
    if method not in ("mean", "weighted", "rank"):
        raise ParameterError(f"method is {method!r}: it must be 'mean', 'weighted' or 'rank'.")
    if (weights is not None) != (method == "weighted"):
        raise ParameterError("The method 'weighted' needs weights." if weights is None else
                             f"The method {method!r} takes no weights: choose 'weighted' or leave them out.")
    checked = _checked(tables)
    if method == "rank":
        checked = [scipy.stats.rankdata(table, axis=1) - 1 + _apart(table) / len(checked) for table in checked]
    shares = np.full(len(checked), 1.0) if weights is None else _shares(weights, len(checked))
    total = np.zeros(checked[0].shape)
    for table, share in zip(checked, shares, strict=True):
        total += share * table
    return total / shares.sum()


def _apart(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each row shifted to mean 0 and scaled to length 1/5, too little to outdo a difference of counts, 1/2."""
    away = table - table.mean(axis=1, keepdims=True)
    length = np.linalg.norm(away, axis=1, keepdims=True)
    return np.divide(away, 5 * length, out=np.zeros_like(away), where=length > 0)


def _checked(tables: Sequence[NDArray[Any]]) -> list[NDArray[np.float64]]:
    checked = [np.asarray(table, np.float64) for table in tables]
    if not checked:
        raise ParameterError("There is no table of scores to fuse.")
    for number, table in enumerate(checked):
        if table.ndim != 2 or table.shape != checked[0].shape:
            raise ParameterError(f"Score table {number} has the shape {table.shape} and table 0 {checked[0].shape}: "
                                 "all must be (samples, classes) and equal.")
        bad = np.flatnonzero(~np.isfinite(table).all(axis=1))
        if bad.size:
            raise ParameterError(f"Row {bad[0]} of score table {number} has a value that is NaN or infinite.")
    return checked


def _shares(weights: Sequence[float], number: int) -> NDArray[np.float64]:
    if len(weights) != number:
        raise ParameterError(f"There are {len(weights)} weights and {number} score tables: give one for each.")
    for weight in weights:
        if not (math.isfinite(weight) and weight >= 0):
            raise ParameterError(f"A weight is {weight}: it must be 0 or more.")
    if not any(weights):
        raise ParameterError("All weights are 0: at least one must be positive.")
    return np.array(weights, np.float64)
