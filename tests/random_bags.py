"""Bags of random descriptors, and codebooks with given numbers instead of learnt ones."""

from __future__ import annotations

import numpy as np

from idt.encoding import VLAD, BagOfWords, DiagonalGMM, FisherVector, KMeans
from rounding import gamma

ENCODERS = {"bow": BagOfWords(), "soft": BagOfWords(soft=0.8), "vlad": VLAD(intra=False), "intra": VLAD(),
            "residual": VLAD(intra=False, residual=True), "fisher": FisherVector()}


def bag(n, d, seed=0, kind=np.float32):
    """Normal descriptors (n, d)."""
    return np.random.default_rng(seed).normal(size=(n, d)).astype(kind)


def mixture(components, d, seed=0):
    """A mixture of Gaussians where unit normal descriptors belong to several."""
    rng = np.random.default_rng(seed)
    gmm = DiagonalGMM(components)
    gmm.weights_ = rng.dirichlet(np.full(components, 4.0)).astype(np.float32)
    gmm.means_ = rng.normal(scale=0.7, size=(components, d)).astype(np.float32)
    gmm.variances_ = rng.uniform(0.4, 1.5, (components, d)).astype(np.float32)
    return gmm


def words(count, d, seed=0):
    """A codebook of random words."""
    kmeans = KMeans(count)
    kmeans.centres_ = bag(count, d, seed + 1000)
    return kmeans


def encoder(name, count=5, d=4):
    """The encoder of this name with a random codebook."""
    made = ENCODERS[name]
    codebook = mixture(count, d) if name == "fisher" else words(count, d)
    return type(made)(**made.get_params(deep=False)).with_codebook(codebook)


def encoded(codebook, bags, position=None):
    """The vector of each channel of a codebook."""
    return {name: channel.encode(bags[name], position) for name, channel in codebook.channels.items()}


def logit_errors(gmm, x):
    """Bounds (n, 1) of what float32 may change in log(w_k p_k(x)), of the Gaussian for which that is most.

    The kernel standardises x to z, about the mean m of the mixture and in its deviations, which is two roundings, of
    which squares have twice as many, and adds the products of z and z^2 with mean / variance and -1 / (2 variance),
    rounded, and a rounded bias. Posteriors q are off by twice that times q (1 - q) at most, for the logit and for the
    sum, and by five roundings of the exponential and the quotient.
    """
    weights, means, variances = (np.asarray(v, np.float64) for v in (gmm.weights_, gmm.means_, gmm.variances_))
    middle = weights @ means
    variance = weights @ (variances + (means - middle)**2)
    z, means, variances = x.astype(np.float64) - middle, means - middle, variances
    terms = np.abs(z) @ np.abs(means / variances).T + z**2 @ (0.5 / variances).T
    size = np.abs(np.log(weights)) + 0.5 * (np.abs(np.log(2 * np.pi * variances / variance))
                                            + means**2 / variances).sum(1) + np.abs(np.log(variance)).sum() / 2
    moved = (np.abs(x.astype(np.float64)) + np.abs(middle)).max() * gamma(1)  # of the float32 mean and the difference
    slope = np.abs(means / variances).sum(1) + (np.abs(z).max(0) / variances).sum(1)
    return ((terms + size) * gamma(2 * x.shape[1] + 7) + moved * slope).max(1, keepdims=True)
