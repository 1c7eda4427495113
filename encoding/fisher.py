"""Fisher vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from idt.encoding.bags import Bag, BagEncoder, Float32
from idt.encoding.codebook import DiagonalGMM


class FisherVector(BagEncoder):
    """Gradient of the log-likelihood of a bag with respect to the means and deviations of a mixture of Gaussians.

    Of N descriptors x with posteriors q_k, and Gaussians of weight w_k, mean μ_k and deviation σ_k ([1]_; [2]_,
    equations 17 and 18),

        G_μk = 1 / (N √w_k) Σ q_k (x − μ_k) / σ_k
        G_σk = 1 / (N √(2 w_k)) Σ q_k ((x − μ_k)² / σ_k² − 1)

    The gradient with respect to the weights is left out, as in [1]_. A vector has 2 K d values: K × d for the means,
    Gaussian by Gaussian, then as many for the deviations. scikit-image's ``fisher_vector`` has the same numbers after
    its K values for the weights, those for the deviations with the opposite sign. Power and L2 normalisation, which
    make an improved Fisher vector [1]_, are those of `Normalise`.

    Parameters
    ----------
    codebook : DiagonalGMM, optional
        Default: one of 256 Gaussians.

    Attributes
    ----------
    codebook_, empty_
        See `idt.encoding.bags.BagEncoder`.

    References
    ----------
    .. [1] Perronnin, Sánchez and Mensink, "Improving the Fisher kernel for large-scale image classification", ECCV
       2010.
    .. [2] Sánchez, Perronnin, Mensink and Verbeek, "Image classification with the Fisher vector: theory and practice",
       IJCV 2013.
    """

    def encode(self, bag: Bag, *, name: str = "The bag") -> Float32:
        """Return the vector of one bag, shape (2 K d,), float32; zero when it is empty."""
        check_is_fitted(self, "codebook_")
        gmm = self.codebook_
        counts, sums, squares, _ = gmm.statistics(bag, name=name)
        weight = 1 / (max(len(bag), 1) * np.sqrt(gmm.weights_.astype(np.float64)))[:, None]
        mean, deviation = weight * sums, weight / np.sqrt(2) * (squares - counts[:, None])
        return np.concatenate([mean.ravel(), deviation.ravel()]).astype(np.float32)

    @property
    def size(self) -> int:
        """Number of values of a vector."""
        check_is_fitted(self, "codebook_")
        return 2 * int(self.codebook_.means_.size)

    def _default(self) -> Any:
        return DiagonalGMM()
