"""Vectors of locally aggregated descriptors."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from sklearn.utils.validation import check_is_fitted

from idt.encoding.bags import Array, BagEncoder, Float32, chunks
from idt.encoding.codebook import KMeans


class VLAD(BagEncoder):
    """For each word the sum of the differences between it and the descriptors that it is nearest to.

    Jégou, Douze, Schmid and Pérez, *Aggregating local descriptors into a compact image representation* (CVPR 2010). A
    vector has K d values, word by word.

    Parameters
    ----------
    codebook : KMeans, optional
        Default: one of 256 words.
    intra : bool
        L2-normalise the part of each word (Arandjelović and Zisserman, CVPR 2013).
    residual : bool
        L2-normalise each difference before it is added (Delhumeau et al., ACM Multimedia 2013).
    """

    def __init__(self, codebook: KMeans | None = None, *, intra: bool = True, residual: bool = False) -> None:
        super().__init__(codebook)
        self.intra = intra
        self.residual = residual

    def encode(self, bag: Array, *, name: str = "The bag") -> Float32:
        """Return the vector of one bag, shape (K d,), float32; zero when it is empty."""
        from idt.encoding.norms import l2

        check_is_fitted(self, "codebook_")
        centres = self.codebook_.centres_
        sums = np.zeros(centres.shape)
        words, start = self.codebook_.assign(bag, name=name), 0
        for chunk in chunks(bag, width=centres.shape[1], name=name):
            _add_differences(chunk, words[start:start + len(chunk)], centres, self.residual, sums)
            start += len(chunk)
        vector = sums.astype(np.float32)
        return (l2(vector) if self.intra else vector).ravel()

    @property
    def size(self) -> int:
        """Number of values of a vector."""
        check_is_fitted(self, "codebook_")
        return int(self.codebook_.centres_.size)

    def _default(self) -> Any:
        return KMeans(256)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _add_differences(x, words, centres, normalise, sums):
    d = np.uint64(x.shape[1])
    for i in range(len(x)):
        row, centre, total = x[i], centres[words[i]], sums[words[i]]
        weight = np.float32(1)
        if normalise:
            square = 0.0
            for j in range(d):
                square += (row[j] - centre[j]) ** 2
            weight = np.float32(1 / np.sqrt(square)) if square > 0 else np.float32(0)
        for j in range(d):
            total[j] += weight * (row[j] - centre[j])
