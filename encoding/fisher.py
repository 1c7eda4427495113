"""Fisher vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from idt.encoding.bags import Array, BagEncoder, Float32
from idt.encoding.codebook import DiagonalGMM


class FisherVector(BagEncoder):
    """Gradient of the log-likelihood of a bag with respect to the means and deviations of a mixture of Gaussians.

    Perronnin, Sánchez and Mensink, *Improving the Fisher kernel for large-scale image classification* (ECCV 2010),
    equations 10 and 11; Sánchez et al. (IJCV 2013), equations 17 and 18. The gradient with respect to the weights is
    left out, as there. A vector has 2 K d values: K x d for the means, Gaussian by Gaussian, then as many for the
    deviations. Power and L2 normalisation, which make it an improved Fisher vector, are those of
    `idt.encoding.Normalise`.

    Parameters
    ----------
    codebook : DiagonalGMM, optional
        Default: one of 256 Gaussians.
    """

    def encode(self, bag: Array, *, name: str = "The bag") -> Float32:
        """Return the vector of one bag, shape (2 K d,), float32; zero when it is empty."""
        check_is_fitted(self, "codebook_")
        if not len(bag):
            return np.zeros(self.size, np.float32)
        gmm = self.codebook_
        counts, sums, squares, _ = gmm.statistics(bag, name=name)
        weight = 1 / (len(bag) * np.sqrt(gmm.weights_.astype(np.float64)))[:, None]
        mean, deviation = weight * sums, weight / np.sqrt(2) * (squares - counts[:, None])
        return np.concatenate([mean.ravel(), deviation.ravel()]).astype(np.float32)

    @property
    def size(self) -> int:
        """Number of values of a vector."""
        check_is_fitted(self, "codebook_")
        return 2 * int(self.codebook_.means_.size)

    def _default(self) -> Any:
        return DiagonalGMM()
