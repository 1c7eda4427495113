"""Bags of words."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from idt.encoding.bags import Array, BagEncoder, Float32
from idt.encoding.codebook import KMeans
from idt.errors import ParameterError


class BagOfWords(BagEncoder):
    """Histogram of words: how many descriptors are nearest to each.

    Parameters
    ----------
    codebook : KMeans, optional
        Default: one of 4000 words.
    soft : float, optional
        Instead share each descriptor between the words, in proportion to exp(-distance² / (2 soft²)): codeword
        uncertainty (van Gemert et al., PAMI 2010, equation 10).
    """

    def __init__(self, codebook: KMeans | None = None, *, soft: float | None = None) -> None:
        super().__init__(codebook)
        self.soft = soft

    def encode(self, bag: Array, *, name: str = "The bag") -> Float32:
        """Return the counts of one bag, shape (K,), float32; their sum is the number of descriptors."""
        check_is_fitted(self, "codebook_")
        counts = np.zeros(self.size)
        if self.soft is None:
            counts += np.bincount(self.codebook_.assign(bag, name=name), minlength=self.size)
            return counts.astype(np.float32)
        if not self.soft > 0:
            raise ParameterError(f"soft is {self.soft!r}: it must be a number above 0, or None for hard assignment.")
        for _, distances in self.codebook_.distances(bag, name=name):
            distances -= distances.min(axis=1, keepdims=True)  # the nearest word always has a share
            shares = np.exp(distances / np.float32(-2 * self.soft**2))
            counts += (shares / shares.sum(axis=1, keepdims=True)).sum(axis=0, dtype=np.float64)
        return counts.astype(np.float32)

    @property
    def size(self) -> int:
        """Number of values of a vector."""
        check_is_fitted(self, "codebook_")
        return len(self.codebook_.centres_)

    def _default(self) -> Any:
        return KMeans()
