"""How far float32 may be from a float64 oracle: limits that follow from the arithmetic and hold on every processor.

Processors differ in the order of their sums, in fused multiply-adds and in approximate roots and quotients, so a limit
that was read off one of them may fail on another. Where a result is a fixed number of operations, `gamma` bounds its
error whatever the order. Where a computation iterates, or decides (thresholds, medians, whether a place lies in the
image), no such bound is of use: there `Noise` has the oracle itself make errors of the size of float32's, and what
these do to the oracle's result is what a float32 kernel may differ by.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

UNIT = 2.0**-24
"""Unit roundoff of float32: the largest relative error of one operation."""


def gamma(operations: float) -> float:
    """Return a bound of the relative error after that many operations, one upon the result of another.

    n u / (1 - n u): Higham, "Accuracy and Stability of Numerical Algorithms", section 3.1. A sum of n products
    x_i y_i, in any order and with or without fused multiply-adds, is within gamma(n) times the sum of |x_i y_i|.
    """
    return operations * UNIT / (1 - operations * UNIT)


def likely(operations: float) -> float:
    """Return what the relative error is below but for chance: as `gamma`, of eight times the root of the number.

    Rounding errors have either sign, and those of a long sum add up like a random walk: Higham and Mary, "A new
    approach to probabilistic rounding error analysis" (SIAM Journal on Scientific Computing, 2019), whose bound for a
    factor of eight fails for one sum in 10^13.
    """
    return gamma(8 * math.sqrt(operations))


class Noise:
    """Rounds to float32 with a random error of up to a quarter of a unit in the last place before it.

    What is a float32 already stays what it is, as with every float32 operation; anything else becomes one of the two
    float32 next to it, now and then the farther one, as after an operation or two more (Monte Carlo arithmetic).
    Calls take turns in one pool of errors, at random places, because a fresh draw would take longer than the oracle.
    """

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self._pool = self.rng.uniform(1 - UNIT / 2, 1 + UNIT / 2, 1 << 19)

    def __call__(self, values: Float64) -> Float64:
        """Return the values with errors, which are float32 in a float64 array."""
        first = int(self.rng.integers(len(self._pool) - values.size))
        return (values * self._pool[first:first + values.size].reshape(values.shape)).astype(np.float32).astype(float)


FACTOR = 4


def draws(oracle: Callable[[Noise], Any]) -> list[Any]:
    """What the oracle returns with noise, three times."""
    return [oracle(Noise(seed)) for seed in range(3)]


def assert_within_noise(found: NDArray[np.float32], expected: Float64, noisy: Sequence[Float64], *,
                        smooth: bool = False) -> None:
    """Assert that `found` is as far from `expected` as the most of `noisy`, the oracle's draws, four times at most.

    Compared are the median and the quantile 0.9 of the absolute errors: where thresholds and borders decide, a rounding
    moves single pixels by as much as a whole one. Of a `smooth` computation, in which none does, the quantile 0.99 is
    compared, too, and of the largest error, which differs more from draw to draw, that it is twenty times that of the
    noise at most.

    Four, because the noise has the roundings of what is handed on, and a kernel up to some ten more for each of these,
    approximate roots and quotients among them, whose errors add up to about the root of their number. Sixteen roundings
    of the largest value are always allowed: few pixels may have no error to speak of in any of the draws.
    """
    most = np.array([_quantiles(draw - expected) for draw in noisy]).max(axis=0)
    used = 4 if smooth else 2
    limits = (most * (FACTOR, FACTOR, FACTOR, 5 * FACTOR) + gamma(16) * np.abs(expected).max())[:used]
    errors = _quantiles(found - expected)[:used]
    assert (errors <= limits).all(), f"median, quantiles 0.9 and 0.99, and maximum are {errors}, more than {limits}"


def _quantiles(errors: Float64) -> Float64:
    return np.quantile(np.abs(errors), (0.5, 0.9, 0.99, 1.0))
