"""Vectors of locally aggregated descriptors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from idt._util.kernels import jit
from idt.encoding.bags import Bag, BagEncoder, Float32, Float64, one_thread
from idt.encoding.codebook import KMeans
from idt.encoding.norms import l2


class VLAD(BagEncoder):
    """For each word the sum of the differences between it and the descriptors that it is nearest to [1]_.

    A vector has K d values, word by word. The signed square root and L2 norm that usually follow are those of
    `Normalise`.

    Parameters
    ----------
    codebook : KMeans, optional
        Default: one of 256 words.
    intra : bool
        L2-normalise the part of each word [2]_.
    residual : bool
        L2-normalise each difference before it is added [3]_.

    Attributes
    ----------
    codebook_, empty_
        See `idt.encoding.bags.BagEncoder`.

    References
    ----------
    .. [1] Jégou, Douze, Schmid and Pérez, "Aggregating local descriptors into a compact image representation", CVPR
       2010.
    .. [2] Arandjelović and Zisserman, "All about VLAD", CVPR 2013.
    .. [3] Delhumeau, Gosselin, Jégou and Pérez, "Revisiting the VLAD image representation", ACM Multimedia 2013.
    """

    def __init__(self, codebook: KMeans | None = None, *, intra: bool = True, residual: bool = False) -> None:
        super().__init__(codebook)
        self.intra = intra
        self.residual = residual

    def encode(self, bag: Bag, *, name: str = "The bag") -> Float32:
        """Return the vector of one bag, shape (K d,), float32; zero when it is empty."""
        check_is_fitted(self, "codebook_")
        centres = self.codebook_.centres_
        sums = np.zeros(centres.shape)
        with one_thread():
            for chunk, distances in self.codebook_.relative_distances(bag, name=name):
                _add_differences(chunk, distances.argmin(axis=1), centres, bool(self.residual), sums)
        vector = sums.astype(np.float32)
        return (l2(vector) if self.intra else vector).ravel()

    @property
    def size(self) -> int:
        """Number of values of a vector."""
        check_is_fitted(self, "codebook_")
        return int(self.codebook_.centres_.size)

    def _default(self) -> Any:
        return KMeans(256)


@jit()
def _add_differences(x: Float32, words: NDArray[np.int64], centres: Float32, normalise: bool, sums: Float64) -> None:
    """Add the difference between each row of `x` and its word to the row of the word in `sums`."""
    d = np.uint64(x.shape[1])
    for i in range(len(x)):
        row, centre, total = x[i], centres[words[i]], sums[words[i]]
        weight = 1.0
        if normalise:
            square = 0.0
            for j in range(d):
                square += (np.float64(row[j]) - np.float64(centre[j])) ** 2
            weight = 1 / np.sqrt(square) if square > 0 else 0.0
        for j in range(d):
            total[j] += weight * (np.float64(row[j]) - np.float64(centre[j]))
