"""Principal component analysis of descriptors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted
from threadpoolctl import threadpool_limits

from idt.encoding.bags import Bag, BagTransformer, Float32, check_bag, chunks, one_thread, stacked
from idt.errors import ParameterError

_LEAST = 1e-4  # of the greatest deviation; what is less cannot be told from the rounding of float32


class PCA(BagTransformer):
    """Projection of descriptors on their principal components, found by scikit-learn's PCA in float64.

    Parameters
    ----------
    components : float or int
        Share of the dimensions that are kept, above 0 up to 1.0 (rounded, at least one), or their number: 1.0 keeps
        all of them, 1 keeps one.
    whiten : bool
        Scale each component to variance 1. Deviations below 1e-4 of the greatest count as that, so that rounding is
        not blown up.

    Attributes
    ----------
    mean_ : ndarray, shape (d,), float32
    components_ : ndarray, shape (k, d), float32
    scale_ : ndarray, shape (k,), float32
        Factor of each component: 1, or when whitening 1 over its standard deviation.
    """

    def __init__(self, components: float = 0.5, *, whiten: bool = False) -> None:
        self.components = components
        self.whiten = whiten

    def fit(self, bags: Iterable[Bag], y: Any = None) -> Self:
        """Learn from all descriptors of the bags.

        Raises
        ------
        ParameterError
            `components` is not allowed, a bag cannot be used (see `idt.encoding.bags`), or there are fewer descriptors
            than components.
        """
        from sklearn.decomposition import PCA as Components

        data = stacked(bags, least=1, what="components").astype(np.float64)
        n, d = data.shape
        k = self._number(d)
        if n < max(k, 2):
            raise ParameterError(f"There are {n} descriptors to learn {k} components from: give at least as many "
                                 "descriptors, or ask for fewer.")
        # By the covariance, which loses nothing in float64; on one thread, on whose number the bytes would depend.
        with threadpool_limits(1), np.errstate(invalid="ignore"):  # shares of the variance, where there is none
            found = Components(k, svd_solver="covariance_eigh").fit(data)
        self.mean_ = found.mean_.astype(np.float32)
        self.components_ = np.ascontiguousarray(found.components_, np.float32)
        deviation = np.sqrt(found.explained_variance_)
        greatest = deviation[0] if deviation[0] > 0 else 1.0
        self.scale_ = (1 / np.maximum(deviation, _LEAST * greatest) if self.whiten else np.ones(k)).astype(np.float32)
        return self

    def _number(self, d: int) -> int:
        value = self.components
        if isinstance(value, (int, np.integer)) and not isinstance(value, bool) and 1 <= value <= d:
            return int(value)
        if isinstance(value, (float, np.floating)) and 0 < value <= 1:
            return max(round(float(value) * d), 1)
        raise ParameterError(f"components is {value!r}: it must be a share of the dimensions above 0 up to 1.0, or an "
                             f"integer from 1 to {d}, their number.")

    def transform(self, bags: Iterable[Bag]) -> list[Float32]:
        """Return the projected bags, each of shape (n, k), float32.

        They are all held in memory: of long ones make a `LazyBag` with `project`.
        """
        check_is_fitted(self)
        return [self.project(bag, name=f"Bag {number}") for number, bag in enumerate(bags)]

    def project(self, bag: Bag, *, name: str = "The bag") -> Float32:
        """Return one bag projected, shape (n, k), float32."""
        check_is_fitted(self)
        check_bag(bag, width=len(self.mean_), name=name)
        matrix = (self.components_ * self.scale_[:, None]).T
        out = np.empty((len(bag), len(self.components_)), np.float32)
        at = 0
        with one_thread():
            for chunk in chunks(bag, name=name):
                np.matmul(chunk - self.mean_, matrix, out=out[at:at + len(chunk)])
                at += len(chunk)
        return out
