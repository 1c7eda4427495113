"""Codebooks: what descriptors look like, learnt from a sample of them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted
from threadpoolctl import threadpool_limits

from idt._util.checks import checked_integer, checked_positive
from idt._util.kernels import jit
from idt.encoding.bags import ROWS, Bag, Float32, Float64, LazyBag, check_bag, chunks, one_thread, stacked
from idt.errors import ParameterError

_DISTANCES = 1 << 20  # that are held at a time: 4 MB, which stay in the cache
_PLUS_PLUS = 512  # words, up to which k-means++ is worth its time
_START_ROWS = 128  # descriptors for each Gaussian from which the start of EM is found
_START_ITERATIONS = 10
_NEGLIGIBLE = np.float32(2**-30)  # a posterior; all of 64 Gaussians that are less make no difference to 1 in float32
_FARTHEST = np.float32(1e12)  # deviations from the mean; the logarithms of densities farther out would be no float32
_DENSE = 0.15  # share of posteriors that are not negligible from which a product of matrices sums faster than a loop


def sample(bags: Iterable[Bag], count: int, *, seed: int = 0) -> Float32:
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

    Raises
    ------
    ParameterError
        An argument is not allowed, a bag cannot be used (see `idt.encoding.bags`), or all bags are empty.
    """
    checked_integer("count", count)
    checked_integer("seed", seed, 0)
    drawn: list[Float32] = []
    for index, bag in enumerate(bags):
        check_bag(bag, width=drawn[0].shape[1] if drawn else None, name=f"Bag {index}")
        rows = np.sort(np.random.default_rng((seed, index)).permutation(len(bag))[:count])
        drawn += chunks(LazyBag(bag, rows=rows), name=f"Bag {index}")
    if not drawn:
        raise ParameterError("There is no descriptor in any bag: nothing can be drawn.")
    return np.concatenate(drawn)


class KMeans(BaseEstimator):  # type: ignore[misc]
    """Words: the centres of clusters of descriptors, by scikit-learn's k-means (Lloyd's algorithm).

    It starts from k-means++, or for more than 512 words from random descriptors: k-means++ would then take several
    times as long as all that follows, for 2 % of the mean squared distance. Always scikit-learn's, on one thread:
    words must not depend on what else is installed nor on the machine's cores.

    Parameters
    ----------
    words : int
        Number K of clusters.
    seed : int
    iterations : int
        At most; k-means ends earlier when the centres stand still.

    Attributes
    ----------
    centres_ : ndarray, shape (K, d), float32
    """

    def __init__(self, words: int = 4000, *, seed: int = 0, iterations: int = 25) -> None:
        self.words = words
        self.seed = seed
        self.iterations = iterations

    def fit(self, bags: Iterable[Bag], y: Any = None) -> Self:
        """Learn from all descriptors of the bags.

        Raises
        ------
        ParameterError
            An argument is not allowed, a bag cannot be used (see `idt.encoding.bags`), or there are fewer descriptors
            than words.
        """
        words, seed = checked_integer("words", self.words), checked_integer("seed", self.seed, 0)
        iterations = checked_integer("iterations", self.iterations)
        self.centres_, _ = _clusters(stacked(bags, least=words, what="words"), words, seed, iterations)
        return self

    def assign(self, bag: Bag, *, name: str = "The bag") -> NDArray[np.int32]:
        """Return the nearest word of each descriptor, shape (n,), int32; of equal words the first."""
        check_is_fitted(self)
        check_bag(bag, name=name)
        words, start = np.empty(len(bag), np.int32), 0
        with one_thread():
            for chunk, distances in self.relative_distances(bag, name=name):
                words[start:start + len(chunk)] = distances.argmin(axis=1)
                start += len(chunk)
        return words

    def relative_distances(self, bag: Bag, *, name: str = "The bag") -> Iterator[tuple[Float32, Float32]]:
        """Yield descriptors, a chunk of them (m, d), and their distances to all words, (m, K).

        The distances are squared, and less by something that is the same for all words: |c|² - 2 x·c.
        """
        check_is_fitted(self)
        middle = self.centres_.mean(axis=0)  # about which the squares of float32 lose least
        centres = self.centres_ - middle
        squares, minus_two = np.einsum("kd,kd->k", centres, centres), np.ascontiguousarray(-2 * centres.T)
        rows = max(1, min(ROWS, _DISTANCES // len(centres)))
        for chunk in chunks(bag, width=centres.shape[1], name=name, rows=rows):
            distances = (chunk - middle) @ minus_two
            distances += squares
            yield chunk, distances


class DiagonalGMM(BaseEstimator):  # type: ignore[misc]
    """Mixture of Gaussians with diagonal covariances, by expectation maximisation from a k-means start.

    Both steps are products of float32 matrices over chunks, with the data about its mean and in units of its standard
    deviation, where squares lose little; sums over chunks are in float64. Posteriors below 2^-30 count as zero, and
    where most of them do, which is the rule, sums leave them out.

    A Gaussian that is left without descriptors keeps its mean and variance, and none weighs less than one descriptor,
    so that Fisher vectors, which divide by the root of the weight, stay bounded.

    Parameters
    ----------
    components : int
        Number K of Gaussians.
    seed : int
        Of the k-means start, on at most 128 K of the descriptors.
    iterations : int
        Of EM, at most.
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

    def fit(self, bags: Iterable[Bag], y: Any = None) -> Self:
        """Learn from all descriptors of the bags.

        Raises
        ------
        ParameterError
            An argument is not allowed, a bag cannot be used (see `idt.encoding.bags`), or there are fewer descriptors
            than Gaussians.
        """
        components, seed = checked_integer("components", self.components), checked_integer("seed", self.seed, 0)
        iterations = checked_integer("iterations", self.iterations)
        floor, tolerance = (checked_positive(name, getattr(self, name)) for name in ("variance_floor", "tolerance"))
        data = stacked(bags, least=components, what="Gaussians")
        shift, gain = _standard(data.mean(axis=0, dtype=np.float64), data.std(axis=0, dtype=np.float64))
        self.log_likelihood_: list[float] = []
        trace = self.log_likelihood_
        with one_thread():
            mixture = _start(data, shift, gain, components, seed, floor)
            for _ in range(iterations):
                parts = (data[start:start + ROWS] for start in range(0, len(data), ROWS))
                counts, moments, likelihood = _statistics(parts, shift, gain, *mixture)
                mixture = _maximised(counts, moments, mixture[1], mixture[2], floor)
                trace.append(likelihood / len(data))
                if len(trace) > 1 and trace[-1] - trace[-2] < tolerance:
                    break
        weights, means, variances = mixture
        self.weights_ = weights.astype(np.float32)
        self.means_ = (means / gain + shift).astype(np.float32)
        self.variances_ = (variances / gain.astype(np.float64)**2).astype(np.float32)
        return self

    def statistics(self, bag: Bag, *, name: str = "The bag") -> tuple[Float64, Float64, Float64, float]:
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
        shift, gain, weights, means, variances = self._standardised()
        with one_thread():
            counts, moments, likelihood = _statistics(chunks(bag, width=means.shape[1], name=name), shift, gain,
                                                      weights, means, variances)
        sums, squares = np.hsplit(moments, 2)
        centred = sums - counts[:, None] * means
        spread = squares - 2 * means * sums + counts[:, None] * means**2
        return counts, centred / np.sqrt(variances), spread / variances, likelihood

    def posteriors(self, bag: Bag, *, name: str = "The bag") -> Float32:
        """Return the posteriors of the Gaussians for each descriptor, shape (n, K), float32."""
        check_is_fitted(self)
        check_bag(bag, name=name)
        shift, gain, weights, means, variances = self._standardised()
        matrix, bias = _coefficients(weights, means, variances, gain)
        out = np.empty((len(bag), len(weights)), np.float32)
        start = 0
        with one_thread():
            for part in chunks(bag, width=means.shape[1], name=name):
                both, q = np.empty((len(part), len(matrix)), np.float32), out[start:start + len(part)]
                _with_squares(part, shift, gain, both)
                np.matmul(both, matrix, out=q)
                _posteriors(q, bias, np.zeros(len(weights)))
                start += len(part)
        return out

    def score(self, bag: Bag) -> float:
        """Return the mean log-likelihood of the descriptors of a bag, which must have one."""
        likelihood = self.statistics(bag)[3]
        if not len(bag):
            raise ParameterError("The bag is empty: it has no mean log-likelihood.")
        return likelihood / len(bag)

    def _standardised(self) -> tuple[Float32, Float32, Float64, Float64, Float64]:
        """Return mean and 1 / standard deviation of the mixture, weights, and means and variances in these units."""
        weights, means = self.weights_.astype(np.float64), self.means_.astype(np.float64)
        middle = weights @ means
        shift, gain = _standard(middle, np.sqrt(weights @ (self.variances_ + (means - middle)**2)))
        wide = gain.astype(np.float64)
        return shift, gain, weights, (means - shift) * wide, self.variances_ * wide**2


def _standard(mean: Float64, deviation: Float64) -> tuple[Float32, Float32]:
    """Return shift and gain that make data (x - shift) gain, of variance 1 where it varies at all.

    Rounded to float32 here, so that data and Gaussians go through the same numbers.
    """
    constant = deviation <= 1e-6 * np.maximum(np.abs(mean), 1e-12)  # but for rounding
    return mean.astype(np.float32), (1 / np.where(constant, 1.0, deviation)).astype(np.float32)


def _clusters(data: Float32, words: int, seed: int, iterations: int) -> tuple[Float32, NDArray[np.int32]]:
    """Return the centres of clusters of the rows and the cluster of each, the same for any number of threads."""
    from sklearn.cluster import KMeans as Clusters

    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct descriptors than words
        start = "k-means++" if words <= _PLUS_PLUS else "random"
        found = Clusters(words, init=start, n_init=1, max_iter=iterations, random_state=seed).fit(data)
    return np.asarray(found.cluster_centers_, np.float32), found.labels_


def _start(data: Float32, shift: Float32, gain: Float32, components: int, seed: int, floor: float
           ) -> tuple[Float64, Float64, Float64]:
    """Return weights, means and variances of clusters of some of the data, standardised."""
    rows = np.sort(np.random.default_rng(seed).permutation(len(data))[:_START_ROWS * components])
    both = np.empty((len(rows), 2 * data.shape[1]), np.float32)
    _with_squares(data[rows], shift, gain, both)
    centres, labels = _clusters(np.ascontiguousarray(both[:, :data.shape[1]]), components, seed, _START_ITERATIONS)
    counts, moments = np.zeros(components), np.zeros((components, both.shape[1]))
    sums = np.empty(moments.shape, np.float32)
    for start in range(0, len(rows), ROWS):
        part = both[start:start + ROWS]
        q = np.zeros((len(part), components), np.float32)
        q[np.arange(len(part)), labels[start:start + ROWS]] = 1
        counts += q.sum(axis=0)
        _sum_sparse(q, part, sums)
        moments += sums
    return _maximised(counts, moments, centres.astype(np.float64), np.ones(centres.shape), floor)


def _maximised(counts: Float64, moments: Float64, means: Float64, variances: Float64, floor: float
               ) -> tuple[Float64, Float64, Float64]:
    """Return weights, means and variances from the sums of `_statistics`, in place of the means and variances given."""
    here = (counts > 1e-3)[:, None]
    first, second = np.hsplit(moments / np.where(here, counts[:, None], 1), 2)
    total = counts.sum()
    weights = np.maximum(counts, 1) / total
    return (weights / weights.sum(), np.where(here, first, means),
            np.maximum(np.where(here, second - first**2, variances), floor))


def _coefficients(weights: Float64, means: Float64, variances: Float64, gain: Float32) -> tuple[Float32, Float32]:
    """Return a matrix (2 d, K) and a bias (K,): log(w_k p_k(x)) is the product of (x, x²) with the one plus the other.

    The density is that of what was standardised: its logarithm has that of the `gain` added.
    """
    matrix = np.concatenate([means / variances, -0.5 / variances], axis=1).T
    bias = np.log(weights) - 0.5 * (np.log(2 * math.pi * variances) + means**2 / variances).sum(axis=1)
    return np.ascontiguousarray(matrix, np.float32), (bias + np.log(gain, dtype=np.float64).sum()).astype(np.float32)


def _statistics(parts: Iterable[Float32], shift: Float32, gain: Float32, weights: Float64, means: Float64,
                variances: Float64) -> tuple[Float64, Float64, float]:
    """Return sums over the rows of `parts` with their posteriors q: of q, (K,), q (x, x²), (K, 2 d), and log p."""
    matrix, bias = _coefficients(weights, means, variances, gain)
    width, k = matrix.shape
    counts, moments, likelihood = np.zeros(k), np.zeros((k, width)), 0.0
    both_rows, q_rows = np.empty((ROWS, width), np.float32), np.empty((ROWS, k), np.float32)
    sums = np.empty((k, width), np.float32)
    for part in parts:
        both, q = both_rows[:len(part)], q_rows[:len(part)]
        _with_squares(part, shift, gain, both)
        np.matmul(both, matrix, out=q)
        log_sums, filled = _posteriors(q, bias, counts)
        likelihood += log_sums
        if filled < _DENSE * q.size:
            _sum_sparse(q, both, sums)
        else:
            np.matmul(q.T, both, out=sums)
        moments += sums
    return counts, moments, likelihood


@jit()
def _with_squares(part: Float32, shift: Float32, gain: Float32, both: Float32) -> None:
    """Standardise the rows of `part` (n, d) into the left half of `both` (n, 2 d), their squares into the right."""
    d = np.uint64(part.shape[1])
    for i in range(len(part)):
        row, left, right = part[i], both[i, :part.shape[1]], both[i, part.shape[1]:]
        for j in range(d):
            x = min(max((row[j] - shift[j]) * gain[j], -_FARTHEST), _FARTHEST)
            left[j] = x
            right[j] = x * x


@jit()
def _sum_sparse(q: Float32, both: Float32, sums: Float32) -> None:
    """Write q.T @ both, going by the posteriors that are not zero."""
    sums[:] = 0
    width = np.uint64(both.shape[1])
    for i in range(len(q)):
        x = both[i]
        for k in range(q.shape[1]):
            share = q[i, k]
            if share > 0:
                line = sums[k]
                for j in range(width):
                    line[j] += share * x[j]


@jit(fastmath={"contract", "nsz", "reassoc"})
def _posteriors(logits: Float32, bias: Float32, counts: Float64) -> tuple[float, float]:
    """Turn logits (n, K), from which `bias` (K,) is missing, into posteriors, and those that are negligible into zero.

    Their sums are added to `counts`. Returns the sum of the logarithms of the densities and the number of posteriors
    that are not zero.
    """
    total, kept = 0.0, 0.0
    zero, one, least = np.float32(0), np.float32(1), np.float32(-87)
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
            # e^x = 2^n e^r: Cody and Waite's reduction, the polynomial of Cephes for e^r, n put into the exponent
            x = max(row[j] - largest, least)
            n = np.rint(x * per_ln2)
            r = x - n * high - n * low
            p = np.float32(1.9875691500e-4)
            p = p * r + np.float32(1.3981999507e-3)
            p = p * r + np.float32(8.3334519073e-3)
            p = p * r + np.float32(4.1665795894e-2)
            p = p * r + np.float32(1.6666665459e-1)
            p = p * r + np.float32(0.5)
            p = p * r * r + r + one
            value = p * np.int32((np.int32(n) + 127) << 23).view(np.float32)
            row[j] = value
            run += value
        share = one / run
        filled = zero
        for j in range(k):
            value = row[j] * share
            counted = one if value >= _NEGLIGIBLE else zero
            row[j] = value * counted
            filled += counted
            counts[j] += np.float64(row[j])
        kept += np.float64(filled)
        total += np.float64(largest) + math.log(run)
    return total, kept
