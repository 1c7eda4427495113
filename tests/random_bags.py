"""Bags of random descriptors, and codebooks with given numbers instead of learnt ones."""

from __future__ import annotations

import numpy as np

from idt.encoding import VLAD, BagOfWords, DiagonalGMM, FisherVector, KMeans

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
