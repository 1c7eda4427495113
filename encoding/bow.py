"""Bags of words."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from idt._util.checks import checked_positive
from idt.encoding.bags import Bag, BagEncoder, Float32, one_thread
from idt.encoding.codebook import KMeans


class BagOfWords(BagEncoder):
    """Histogram of words: how many descriptors are nearest to each.

    Parameters
    ----------
    codebook : KMeans, optional
        Default: one of 4000 words.
    soft : float, optional
        Standard deviation σ of a Gaussian, in the unit of the descriptors. Each descriptor is then shared between the
        words in proportion to exp(-distance² / (2 σ²)), the "codeword uncertainty" of [1]_.

    Attributes
    ----------
    codebook_, empty_
        See `idt.encoding.bags.BagEncoder`.

    References
    ----------
    .. [1] van Gemert, Veenman, Smeulders and Geusebroek, "Visual word ambiguity", PAMI 2010.
    """

    def __init__(self, codebook: KMeans | None = None, *, soft: float | None = None) -> None:
        super().__init__(codebook)
        self.soft = soft

    def encode(self, bag: Bag, *, name: str = "The bag") -> Float32:
        """Return the counts of one bag, shape (K,), float32; their sum is the number of descriptors."""
        check_is_fitted(self, "codebook_")
        if self.soft is None:
            return np.bincount(self.codebook_.assign(bag, name=name), minlength=self.size).astype(np.float32)
        deviation = checked_positive("soft", self.soft)
        factor = np.float32(max(-0.5 / deviation / deviation, -1e38))
        counts = np.zeros(self.size)
        with one_thread(), np.errstate(over="ignore"):  # of words that are too far to have a share
            for _, distances in self.codebook_.relative_distances(bag, name=name):
                distances -= distances.min(axis=1, keepdims=True)  # the nearest word always has a share
                distances *= factor
                shares = np.exp(distances, out=distances)
                shares /= shares.sum(axis=1, keepdims=True)
                counts += shares.sum(axis=0, dtype=np.float64)
        return counts.astype(np.float32)

    @property
    def size(self) -> int:
        """Number of values of a vector."""
        check_is_fitted(self, "codebook_")
        return len(self.codebook_.centres_)

    def _default(self) -> Any:
        return KMeans()
