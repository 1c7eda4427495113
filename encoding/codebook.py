"""Codebooks: what descriptors look like, learnt from a sample of them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Self

import numba
import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from idt.encoding.bags import ROWS, Array, Float32, Float64, chunks, stacked
from idt.errors import ParameterError

_DISTANCES = 1 << 22  # that are held at a time
_START_ROWS = 64  # descriptors for each Gaussian from which the start of EM is found


def sample(bags: Iterable[Array], count: int, *, seed: int = 0) -> Float32:
    """Return descriptors drawn from each bag without replacement, in the order of the bags.

    Parameters
    ----------
    bags : iterable of ndarray, shape (n, d)
        Taken one at a time; of a memory map only the drawn rows are read.
    count : int
        Descriptors from each bag; all of a bag that has fewer.
    seed : int
        The draw depends on it, on the number of the bag and on n alone.

    Returns
    -------
    ndarray, shape (m, d), float32
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ParameterError(f"count is {count!r}: it must be an integer from 1, the descriptors from each bag.")
    drawn: list[Float32] = []
    for number, bag in enumerate(bags):
        rows = np.sort(np.random.default_rng((seed, number)).permutation(len(bag))[:count])
        drawn += chunks(bag[rows], width=drawn[0].shape[1] if drawn else None, name=f"Bag {number}", rows=count)
    if not drawn:
        raise ParameterError("There is no descriptor in any bag: nothing can be drawn.")
    return np.concatenate(drawn)


class KMeans(BaseEstimator):  # type: ignore[misc]
    """Words: the centres of clusters of descriptors, by scikit-learn's k-means (Lloyd, started by k-means++).

    Parameters
    ----------
    words : int
        Number of clusters.
    seed : int
    iterations : int
        At most; k-means ends earlier when the centres stand still.

    Attributes
    ----------
    centres_ : ndarray, shape (words, d), float32
    """

    def __init__(self, words: int = 4000, *, seed: int = 0, iterations: int = 25) -> None:
        self.words = words
        self.seed = seed
        self.iterations = iterations

    def fit(self, bags: Iterable[Array], y: Any = None) -> Self:
        """Learn from all descriptors of the bags.

        Raises
        ------
        ParameterError
            A bag cannot be used (see `idt.encoding.bags`), or there are fewer descriptors than words.
        """
        self.centres_ = _centres(stacked(bags, least=_number(self.words, "words"), what="words"), self.words, self.seed,
                                 self.iterations)
        return self

    def assign(self, bag: Array, *, name: str = "The bag") -> np.ndarray:
        """Return the nearest word of each descriptor, shape (n,), int32; of equally near ones the first."""
        words = np.empty(len(bag), np.int32)
        for start, distances in self.distances(bag, name=name):
            words[start:start + len(distances)] = distances.argmin(axis=1)
        return words

    def distances(self, bag: Array, *, name: str = "The bag") -> Iterable[tuple[int, Float32]]:
        """Yield the first row of a chunk and its squared distances to all words, shape (m, words), float32."""
        check_is_fitted(self)
        middle = self.centres_.mean(axis=0)  # about which the squares of float32 lose least
        centres = self.centres_ - middle
        squares = np.einsum("kd,kd->k", centres, centres)
        start = 0
        rows = max(1, min(ROWS, _DISTANCES // len(centres)))
        for chunk in chunks(bag, width=centres.shape[1], name=name, rows=rows):
            x = chunk - middle
            found = x @ (-2 * centres.T)
            found += squares
            found += np.einsum("nd,nd->n", x, x)[:, None]
            yield start, found
            start += len(chunk)


class DiagonalGMM(BaseEstimator):  # type: ignore[misc]
    """Mixture of Gaussians with diagonal covariances, by expectation maximisation from a k-means start.

    Both steps are products of float32 matrices over chunks, with the data about its mean and in units of its standard
    deviation, where squares lose nothing; sums over chunks are in float64. A Gaussian that is left without
    descriptors keeps its place with a weight near zero.

    Parameters
    ----------
    components : int
        Number K of Gaussians.
    seed : int
        Of the k-means start.
    iterations : int
        At most.
    tolerance : float
        EM ends when an iteration raises the mean log-likelihood by less.
    variance_floor : float
        Least variance of a Gaussian, as a share of the variance of the data in that dimension.

    Attributes
    ----------
    weights_ : ndarray, shape (K,), float32
    means_, variances_ : ndarray, shape (K, d), float32
    log_likelihood_ : list of float
        Mean over the descriptors, before each iteration.
    """

    def __init__(self, components: int = 256, *, seed: int = 0, iterations: int = 50, tolerance: float = 1e-3,
                 variance_floor: float = 1e-3) -> None:
        self.components = components
        self.seed = seed
        self.iterations = iterations
        self.tolerance = tolerance
        self.variance_floor = variance_floor

    def fit(self, bags: Iterable[Array], y: Any = None) -> Self:
        """Learn from all descriptors of the bags.

        Raises
        ------
        ParameterError
            A bag cannot be used (see `idt.encoding.bags`), or there are fewer descriptors than Gaussians.
        """
        from threadpoolctl import threadpool_limits

        data = stacked(bags, least=_number(self.components, "components"), what="Gaussians")
        with threadpool_limits(1):  # the bytes must not depend on the number of threads
            shift, scale = data.mean(axis=0, dtype=np.float64), data.std(axis=0, dtype=np.float64)
            scale = np.where(scale > 0, scale, 1.0)
            shift32, scale32 = shift.astype(np.float32), scale.astype(np.float32)
            weights, means, variances = self._start((data - shift32) / scale32)
            self.log_likelihood_: list[float] = []
            for _ in range(self.iterations):
                parts = (data[start:start + ROWS] for start in range(0, len(data), ROWS))
                counts, sums, squares, likelihood = _statistics(parts, shift32, scale32, weights, means, variances)
                self.log_likelihood_.append(likelihood / len(data) - float(np.log(scale).sum()))
                here = counts > 1e-3
                share = 1 / np.where(here, counts, 1.0)[:, None]
                means = np.where(here[:, None], sums * share, means)
                variances = np.where(here[:, None], squares * share - means**2, variances)
                variances = np.maximum(variances, self.variance_floor)
                weights = np.maximum(counts / len(data), 1e-12)
                trace = self.log_likelihood_
                if len(trace) > 1 and trace[-1] - trace[-2] < self.tolerance:
                    break
        self.weights_ = (weights / weights.sum()).astype(np.float32)
        self.means_ = (means * scale + shift).astype(np.float32)
        self.variances_ = (variances * scale**2).astype(np.float32)
        return self

    def _start(self, data: Float32) -> tuple[Float64, Float64, Float64]:
        """Return equal weights, the centres of some of the data, and the variance of all of it."""
        rows = np.random.default_rng(self.seed).permutation(len(data))[:_START_ROWS * self.components]
        means = _centres(data[np.sort(rows)], self.components, self.seed, 10).astype(np.float64)
        return np.full(self.components, 1 / self.components), means, np.ones_like(means)

    def statistics(self, bag: Array, *, name: str = "The bag") -> tuple[Float64, Float64, Float64, float]:
        """Return what a bag tells of the Gaussians, over all its descriptors x with posteriors q.

        Returns
        -------
        counts : ndarray, shape (K,), float64
            Sum of q.
        sums, squares : ndarray, shape (K, d), float64
            Sums of q z and q z², where z is x in standard deviations from the mean of the Gaussian.
        log_likelihood : float
            Sum of log p(x).
        """
        check_is_fitted(self)
        shift, scale, means, variances = self._standardised()
        parts = chunks(bag, width=means.shape[1], name=name)
        counts, sums, squares, likelihood = _statistics(parts, shift, scale, self.weights_.astype(np.float64), means,
                                                        variances)
        likelihood -= len(bag) * float(np.log(scale, dtype=np.float64).sum())
        centred = sums - counts[:, None] * means
        spread = squares - 2 * means * sums + counts[:, None] * means**2
        return counts, centred / np.sqrt(variances), spread / variances, likelihood

    def score(self, bag: Array) -> float:
        """Return the mean log-likelihood of the descriptors of a bag."""
        return self.statistics(bag)[3] / max(len(bag), 1)

    def _standardised(self) -> tuple[Float32, Float32, Float64, Float64]:
        """Return mean and standard deviation of the mixture, and means and variances in these units."""
        weights, means = self.weights_.astype(np.float64)[:, None], self.means_.astype(np.float64)
        shift = (weights * means).sum(axis=0)
        scale = np.sqrt((weights * (self.variances_ + (means - shift)**2)).sum(axis=0))
        # Rounded first: the same numbers then serve descriptors and means.
        shift32, scale32 = shift.astype(np.float32), scale.astype(np.float32)
        return shift32, scale32, (means - shift32) / scale32, self.variances_ / scale32.astype(np.float64)**2


def _number(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ParameterError(f"{name} is {value!r}: it must be an integer from 1.")
    return int(value)


def _centres(data: Float32, words: int, seed: int, iterations: int) -> Float32:
    """Return the centres of clusters of the rows, the same for any number of threads."""
    import warnings

    from sklearn.cluster import KMeans as Clusters
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct descriptors than words
        found = Clusters(words, n_init=1, max_iter=iterations, random_state=seed).fit(data)
    return np.asarray(found.cluster_centers_, np.float32)


def _statistics(parts: Iterable[Float32], shift: Float32, scale: Float32, weights: Float64, means: Float64,
                variances: Float64) -> tuple[Float64, Float64, Float64, float]:
    """Return sums over the rows x = (row - shift) / scale with their posteriors q: of q, q x, q x² and log p(x).

    log(w_k p_k(x)) is a constant of k plus the product of (x, x²) with (mean / variance, -1 / (2 variance)).
    """
    k, d = means.shape
    matrix = np.concatenate([means / variances, -0.5 / variances], axis=1).T.astype(np.float32)
    constant = np.log(weights) - 0.5 * (np.log(2 * math.pi * variances) + means**2 / variances).sum(axis=1)
    bias = constant.astype(np.float32)
    counts, moments, likelihood = np.zeros(k), np.zeros((k, 2 * d)), 0.0
    both, q = np.empty((ROWS, 2 * d), np.float32), np.empty((ROWS, k), np.float32)
    for part in parts:
        n = len(part)
        x = np.subtract(part, shift, out=both[:n, :d])
        x /= scale
        np.multiply(x, x, out=both[:n, d:])
        np.matmul(both[:n], matrix, out=q[:n])
        likelihood += _posteriors(q[:n], bias)
        counts += q[:n].sum(axis=0, dtype=np.float64)
        moments += q[:n].T @ both[:n]
    return counts, moments[:, :d], moments[:, d:], likelihood


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "nsz", "reassoc"})
def _posteriors(logits, bias):
    """Turn logits (n, k) into posteriors, adding `bias` (k,) first; return the sum of the logarithms of their sums."""
    total = 0.0
    zero, least = np.float32(0), np.float32(-87)
    per_ln2, high, low = np.float32(1.4426950408889634), np.float32(0.693145751953125), np.float32(1.42860677e-6)
    k = np.uint64(len(bias))
    for i in range(len(logits)):
        row = logits[i]
        largest = np.float32(-np.inf)
        for j in range(k):
            row[j] += bias[j]
            largest = max(largest, row[j])
        run = zero
        for j in range(k):
            # e^x = 2^n e^r: Cody and Waite's reduction, a polynomial for e^r, n put into the exponent
            x = max(row[j] - largest, least)
            n = np.rint(x * per_ln2)
            r = x - n * high - n * low
            p = np.float32(1.9875691500e-4)
            p = p * r + np.float32(1.3981999507e-3)
            p = p * r + np.float32(8.3334519073e-3)
            p = p * r + np.float32(4.1665795894e-2)
            p = p * r + np.float32(1.6666665459e-1)
            p = p * r + np.float32(0.5)
            p = p * r * r + r + np.float32(1)
            value = p * np.int32((np.int32(n) + 127) << 23).view(np.float32)
            row[j] = value
            run += value
        share = np.float32(1) / run
        for j in range(k):
            row[j] *= share
        total += np.float64(largest) + math.log(run)
    return total
