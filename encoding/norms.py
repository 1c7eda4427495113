"""Normalisation of descriptors and of encoded vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from idt._util.checks import checked_integer, checked_positive
from idt.encoding.bags import Array, Float32, Float64
from idt.errors import ParameterError

STEPS = ("power", "l1", "l2", "intra")


def root_sift(bag: Array) -> Float32:
    """Return descriptors (n, d), L1-normalised, then their square roots (Arandjelović and Zisserman, CVPR 2012).

    Made for histograms; of a negative value the root keeps the sign.
    """
    return power(l1(bag))


def l1(x: Array) -> Float32:
    """Return the vectors along the last axis, divided by the sum of their absolute values; zero stays zero."""
    x = np.asarray(x, np.float32)
    return _divided(x, np.abs(x).sum(axis=-1, keepdims=True, dtype=np.float64))


def l2(x: Array) -> Float32:
    """Return the vectors along the last axis, divided by their Euclidean length; zero stays zero."""
    x = np.asarray(x, np.float32)
    return _divided(x, np.sqrt(np.einsum("...i,...i->...", x, x, dtype=np.float64))[..., None])


def power(x: Array, exponent: float = 0.5) -> Float32:
    """Return sign(x) |x|^exponent, 0.5 being the signed square root (Perronnin et al., ECCV 2010)."""
    checked_positive("exponent", exponent)
    x = np.asarray(x, np.float32)
    raised = np.sqrt(np.abs(x)) if exponent == 0.5 else np.abs(x) ** np.float32(exponent)
    return np.copysign(raised, x)


def intra(x: Array, blocks: int) -> Float32:
    """Return the vectors, each of the `blocks` equal parts L2-normalised (Arandjelović and Zisserman, CVPR 2013)."""
    x = np.asarray(x, np.float32)
    if checked_integer("blocks", blocks) < 1 or x.shape[-1] % blocks:
        raise ParameterError(f"blocks is {blocks}: it must divide the {x.shape[-1]} values of a vector.")
    return l2(x.reshape(*x.shape[:-1], blocks, x.shape[-1] // blocks)).reshape(x.shape)


def _divided(x: Float32, by: Float64) -> Float32:
    return np.divide(x, by, out=np.zeros_like(x), where=by != 0, casting="same_kind")


class Normalise(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Normalisation of vectors, step by step.

    Parameters
    ----------
    steps : sequence of {"power", "l1", "l2", "intra"}
        In order; ``("power", "l2")`` makes improved Fisher vectors (Perronnin et al., ECCV 2010), ``("l1",)`` makes
        frequencies of counts. "power" is the signed square root.
    blocks : int, optional
        Parts of a vector, for "intra": the words of a VLAD.
    """

    def __init__(self, steps: Sequence[str] = ("power", "l2"), *, blocks: int | None = None) -> None:
        self.steps = steps
        self.blocks = blocks

    def fit(self, X: Array, y: Any = None) -> Self:
        """Learn nothing."""
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def transform(self, X: Array) -> Float32:
        """Return the vectors, shape (n, size), float32.

        Raises
        ------
        ParameterError
            A step is unknown, or "intra" lacks its blocks.
        """
        vectors = np.asarray(X, np.float32)
        for step in self.steps:
            if step == "intra":
                if self.blocks is None:
                    raise ParameterError("steps has 'intra', which needs blocks, the number of parts of a vector.")
                vectors = intra(vectors, self.blocks)
            elif step in STEPS:
                vectors = {"power": power, "l1": l1, "l2": l2}[step](vectors)
            else:
                raise ParameterError(f"steps has {step!r}: allowed are {', '.join(STEPS)}.")
        return vectors
