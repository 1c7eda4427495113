"""Principal component analysis of descriptors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from idt.encoding.bags import Array, Float32, chunks, stacked
from idt.errors import ParameterError


class PCA(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Projection of descriptors on their principal components, learnt by scikit-learn.

    Parameters
    ----------
    components : float or int
        Share of the dimensions that are kept, above 0 up to 1 (rounded, at least one), or their number.
    whiten : bool
        Scale each component to variance 1.

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

    def fit(self, bags: Iterable[Array], y: Any = None) -> Self:
        """Learn from all descriptors of the bags.

        Raises
        ------
        ParameterError
            `components` is not allowed, a bag cannot be used (see `idt.encoding.bags`), or there are fewer descriptors
            than components.
        """
        from sklearn.decomposition import PCA as Components
        from threadpoolctl import threadpool_limits

        data = stacked(bags, least=2, what="components")
        n, d = data.shape
        k = self._number(d)
        if n < k:
            raise ParameterError(f"There are {n} descriptors to learn {k} components from: give at least as many "
                                 "descriptors, or ask for fewer.")
        with threadpool_limits(1):  # the bytes must not depend on the number of threads
            found = Components(k, svd_solver="covariance_eigh").fit(data)
        self.mean_ = found.mean_.astype(np.float32)
        self.components_ = np.ascontiguousarray(found.components_, np.float32)
        deviation = np.sqrt(np.maximum(found.explained_variance_, np.finfo(np.float32).tiny))
        self.scale_ = (1 / deviation if self.whiten else np.ones(k)).astype(np.float32)
        return self

    def _number(self, d: int) -> int:
        value = self.components
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= d:
            return value
        if isinstance(value, float) and 0 < value <= 1:
            return max(round(value * d), 1)
        raise ParameterError(f"components is {value!r}: it must be a share of the dimensions above 0 up to 1.0, or an "
                             f"integer from 1 to {d}, their number.")

    def transform(self, bags: Iterable[Array]) -> list[Float32]:
        """Return the projected bags, each of shape (n, k), float32."""
        return [self.project(bag, name=f"Bag {number}") for number, bag in enumerate(bags)]

    def project(self, bag: Array, *, name: str = "The bag") -> Float32:
        """Return one bag projected, shape (n, k), float32."""
        check_is_fitted(self)
        matrix = (self.components_ * self.scale_[:, None]).T
        out = np.empty((len(bag), len(self.components_)), np.float32)
        at = 0
        for chunk in chunks(bag, width=len(self.mean_), name=name):
            np.matmul(chunk - self.mean_, matrix, out=out[at:at + len(chunk)])
            at += len(chunk)
        return out
