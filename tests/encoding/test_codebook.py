"""k-means and mixtures of Gaussians against scikit-learn, the oracle and what they must be by definition."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from random_bags import bag, logit_errors, mixture, words
from sklearn.cluster import KMeans as Clusters
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

import naive
from idt.encoding import DiagonalGMM, KMeans
from idt.encoding.bags import ROWS
from idt.encoding.codebook import _posteriors
from idt.errors import ParameterError
from rounding import gamma, likely

pytestmark = pytest.mark.numeric


def clusters(n, d, count, seed=0, spread=4.0):
    """Descriptors about `count` centres, the deviations of whose dimensions differ."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(scale=spread, size=(count, d))
    deviations = rng.uniform(0.5, 2, (count, d))
    which = rng.integers(count, size=n)
    return (centres[which] + deviations[which] * rng.normal(size=(n, d))).astype(np.float32)


def parameters(gmm):
    return gmm.weights_, gmm.means_, gmm.variances_


def log_likelihood(gmm, x):
    return naive.gaussian_posteriors(x.astype(np.float64), *parameters(gmm))[1].mean()


# k-means


def test_words_are_the_means_of_what_is_nearest_to_them():
    x = clusters(600, 4, 5, spread=10)
    codebook = KMeans(5, iterations=300).fit([x[:100], x[100:]])
    assert codebook.centres_.shape == (5, 4)
    assert codebook.centres_.dtype == np.float32
    nearest = naive.square_distances(x.astype(np.float64), codebook.centres_).argmin(axis=1)
    np.testing.assert_allclose(codebook.centres_, [x[nearest == k].mean(axis=0, dtype=np.float64) for k in range(5)],
                               rtol=0, atol=gamma(len(x)) * np.abs(x).max())
    reference = Clusters(5, n_init=1, random_state=0).fit(x)
    error = naive.square_distances(x.astype(np.float64), codebook.centres_).min(axis=1).sum()
    assert error <= 1.01 * reference.inertia_


def test_words_depend_on_the_seed_alone():
    x = bag(2000, 6)
    first = KMeans(20, seed=3).fit([x]).centres_
    assert first.tobytes() == KMeans(20, seed=3).fit(iter(np.array_split(x, 3))).centres_.tobytes()
    assert (first != KMeans(20, seed=4).fit([x]).centres_).any()
    assert (first != KMeans(20, seed=3, iterations=1).fit([x]).centres_).any()


@pytest.mark.parametrize(("count", "n"), [(1, 10), (40, ROWS - 1), (40, ROWS), (40, ROWS + 1), (3000, 900)])
def test_the_nearest_word(count, n):
    codebook, x = words(count, 8), bag(n, 8)
    found = codebook.assign(x)
    assert found.shape == (n,)
    assert found.dtype == np.int32
    squares = naive.square_distances(x.astype(np.float64), codebook.centres_)
    rows = np.arange(n)
    np.testing.assert_allclose(squares[rows, found], squares.min(axis=1), rtol=1e-5)
    assert (found == squares.argmin(axis=1)).mean() > 0.999
    assert codebook.assign(bag(0, 8)).shape == (0,)


def test_the_nearest_word_far_from_zero_and_of_far_outliers():
    codebook, x = words(30, 8), bag(500, 8)
    codebook.centres_ += np.float32(1e4)
    x += np.float32(1e4)
    squares = naive.square_distances(x.astype(np.float64), codebook.centres_)
    found = codebook.assign(x)
    np.testing.assert_allclose(squares[np.arange(500), found], squares.min(axis=1), rtol=1e-4)
    assert ((found >= 0) & (found < 30)).all()
    assert 0 <= codebook.assign(np.full((1, 8), 1e18, np.float32))[0] < 30


def test_fewer_distinct_descriptors_than_words():
    x = np.repeat(bag(3, 4), 20, axis=0)
    codebook = KMeans(10).fit([x])
    assert np.isfinite(codebook.centres_).all()
    np.testing.assert_allclose(codebook.centres_[codebook.assign(x)], x, atol=1e-6)


def test_relative_distances_differ_from_distances_by_a_number_for_each_descriptor():
    codebook, x = words(9, 5), bag(100, 5)
    (chunk, found), = codebook.relative_distances(x)
    np.testing.assert_array_equal(chunk, x)
    off = naive.square_distances(x.astype(np.float64), codebook.centres_) - found
    np.testing.assert_allclose(off, np.broadcast_to(off[:, :1], off.shape), atol=1e-4)


# Mixtures of Gaussians


@pytest.mark.parametrize("n", [1, 500, ROWS + 1])
def test_posteriors_and_likelihood(n):
    gmm, x = mixture(6, 5), bag(n, 5)
    q, densities = naive.gaussian_posteriors(x.astype(np.float64), *parameters(gmm))
    found = gmm.posteriors(x)
    assert found.dtype == np.float32
    limit = logit_errors(gmm, x)
    assert (np.abs(found - q) <= limit / 2 + gamma(5) + 2.0**-30).all()
    np.testing.assert_allclose(found.sum(axis=1, dtype=np.float64), 1, rtol=gamma(6 + 3) + 6 * 2.0**-30)
    np.testing.assert_allclose(gmm.score(x), densities.mean(), rtol=0, atol=limit.mean() + gamma(8))
    assert gmm.posteriors(bag(0, 5)).shape == (0, 6)


@pytest.mark.parametrize("spread", [1, 30])  # posteriors of many Gaussians, of about one
@pytest.mark.parametrize("n", [1, 700, 2 * ROWS + 1])
def test_statistics(n, spread):
    gmm, x = mixture(6, 5), spread * bag(n, 5)
    gmm.means_ *= spread
    q, densities = naive.gaussian_posteriors(x.astype(np.float64), *parameters(gmm))
    counts, sums, squares, likelihood = gmm.statistics(x)
    z = [(x.astype(np.float64) - mean) / np.sqrt(variance.astype(np.float64))
         for mean, variance in zip(gmm.means_, gmm.variances_, strict=True)]
    # A posterior is off by q (1 - q) of twice the error of logits; moments are sums over a chunk of products with it.
    limit = logit_errors(gmm, x)
    off = 2 * limit * q * (1 - q) + gamma(5) * q + 2.0**-30
    np.testing.assert_array_less(np.abs(counts - q.sum(axis=0)), off.sum(axis=0) + 1e-12)
    middle = gmm.weights_.astype(np.float64) @ gmm.means_
    for found, power in ((sums, 1), (squares, 2)):
        for k, (share, each) in enumerate(zip(q.T, z, strict=True)):
            # Of z about the mean of the mixture first, moved and scaled to the Gaussian afterwards, in float64
            deviation = np.sqrt(gmm.variances_[k].astype(np.float64))
            size = (np.abs(x - middle) + np.abs(gmm.means_[k] - middle)) / deviation
            error = off[:, k] @ size**power + likely(min(n, ROWS) + 8) * (share @ size**power)
            assert (np.abs(found[k] - share @ each**power) <= error + 1e-12).all()
    np.testing.assert_allclose(likelihood, densities.sum(), rtol=0, atol=limit.sum() + gamma(8) * n)
    assert counts.dtype == sums.dtype == squares.dtype == np.float64


def test_statistics_of_no_descriptor():
    counts, sums, squares, likelihood = mixture(3, 2).statistics(bag(0, 2))
    assert not counts.any()
    assert not sums.any()
    assert not squares.any()
    assert likelihood == 0
    with pytest.raises(ParameterError, match="The bag is empty: it has no mean log-likelihood"):
        mixture(3, 2).score(bag(0, 2))


def test_the_exponential_is_that_of_float32():
    """Of two Gaussians whose logits are 0 and t, the posteriors are in the ratio exp(t)."""
    t = np.linspace(-87, 0, 200_001, dtype=np.float32)
    q = np.column_stack([np.zeros_like(t), t])
    counts = np.zeros(2)
    _posteriors(q, np.zeros(2, np.float32), counts)
    exact = np.exp(t.astype(np.float64))
    small = exact / (1 + exact) < 2.0**-30
    np.testing.assert_array_equal(q[small], [[1, 0]] * small.sum())
    ratio = q[~small, 1].astype(np.float64) / q[~small, 0]
    # The polynomial, 2^n, the product with the quotient and the quotient of both; without fused multiply-adds n log 2
    # is rounded before it is taken from t, which is no worse than the rounding of t itself.
    assert (np.abs(ratio / exact[~small] - 1) <= gamma(6) + gamma(1) * np.abs(t[~small])).all()
    np.testing.assert_allclose(counts, q.sum(axis=0, dtype=np.float64), rtol=1e-12)  # sums of float64


def test_posteriors_of_two_gaussians():
    """Of variance 1 and 2 apart, the posteriors at t are in the ratio exp(-2 t)."""
    gmm = DiagonalGMM(2)
    gmm.weights_ = np.float32([0.5, 0.5])
    gmm.means_, gmm.variances_ = np.float32([[-1], [1]]), np.ones((2, 1), np.float32)
    t = np.linspace(0, 10, 5001, dtype=np.float32)[:, None]
    q = gmm.posteriors(t).astype(np.float64)
    # Each is e to the power of -(t ± 1)²/2, at most 60.5, which takes some four operations.
    np.testing.assert_allclose(q[:, 0] / q[:, 1], np.exp(-2 * t[:, 0].astype(np.float64)), rtol=2 * 60.5 * gamma(4))
    far = gmm.posteriors(np.float32([[11], [43], [44], [1000]]))
    np.testing.assert_array_equal(far, [[0, 1]] * 4)


def test_a_step_of_em():
    x = clusters(900, 4, 3)
    for iterations in (1, 2, 5):
        before, after = (DiagonalGMM(4, iterations=count, tolerance=1e-12, variance_floor=1e-9).fit([x])
                         for count in (iterations, iterations + 1))
        expected = naive.em_step(x.astype(np.float64), *parameters(before))
        for found, value in zip(parameters(after), expected, strict=True):
            np.testing.assert_allclose(found, value, rtol=1e-4, atol=1e-4)
            assert found.dtype == np.float32
        np.testing.assert_allclose(after.log_likelihood_[-1], log_likelihood(before, x), rtol=1e-6)
        np.testing.assert_allclose(after.score(x), log_likelihood(after, x), rtol=1e-6)
        np.testing.assert_allclose(after.weights_.sum(dtype=np.float64), 1, rtol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_the_likelihood_never_falls(seed):
    gmm = DiagonalGMM(8, seed=seed, iterations=60, tolerance=1e-9).fit([clusters(3000, 6, 12, seed, spread=2)])
    trace = gmm.log_likelihood_
    assert len(trace) > 5
    assert np.diff(trace).min() > -1e-6


def test_the_end_of_em():
    x = clusters(3000, 6, 12, spread=2)
    long = DiagonalGMM(8, iterations=60, tolerance=1e-9).fit([x]).log_likelihood_
    short = DiagonalGMM(8, iterations=60, tolerance=0.01).fit([x]).log_likelihood_
    assert short == long[:len(short)]
    gains = np.diff(long)
    assert len(short) == 2 + int(np.argmax(gains < 0.01))
    assert len(DiagonalGMM(8, iterations=3, tolerance=1e-9).fit([x]).log_likelihood_) == 3


def test_clusters_are_a_good_start():
    """Also when what they are found from is more than a chunk."""
    x = clusters(3 * ROWS, 6, 12, spread=6)
    trace = DiagonalGMM(40, iterations=100, tolerance=1e-5).fit([x]).log_likelihood_
    assert 0 < trace[-1] - trace[0] < 0.5


def test_likelihood_as_high_as_that_of_scikit_learn_started_alike():
    x = clusters(4000, 10, 20, spread=1.5)
    start, end = (DiagonalGMM(16, iterations=n, tolerance=1e-12, variance_floor=1e-9).fit([x]) for n in (1, 31))
    reference = GaussianMixture(16, covariance_type="diag", tol=0, reg_covar=0, max_iter=30,
                                weights_init=start.weights_ / start.weights_.sum(dtype=np.float64),
                                means_init=start.means_, precisions_init=1 / start.variances_)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        reference.fit(x.astype(np.float64))
    np.testing.assert_allclose(end.score(x), reference.score(x.astype(np.float64)), atol=2e-4)
    np.testing.assert_allclose(end.means_, reference.means_, atol=0.05)


def test_mixtures_depend_on_the_seed_alone():
    x = clusters(1500, 6, 5)
    first = DiagonalGMM(6, seed=2).fit([x])
    again = DiagonalGMM(6, seed=2).fit(b for b in np.array_split(x, 4))
    with threadpool_limits(1):
        alone = DiagonalGMM(6, seed=2).fit([x.astype(np.float64)])
    for other in (again, alone):
        assert all(a.tobytes() == b.tobytes() for a, b in zip(parameters(first), parameters(other), strict=True))
        assert first.log_likelihood_ == other.log_likelihood_
    assert (first.means_ != DiagonalGMM(6, seed=3).fit([x]).means_).any()


def test_far_from_zero_and_of_very_different_scales():
    x, other = clusters(2000, 6, 4), clusters(300, 6, 4, seed=1)
    scales, shift = np.float32([1e-3, 1e3, 1, 1, 1, 1e-3]), np.float32([0, 0, 1e4, -1e4, 1, 0])
    plain, gmm = DiagonalGMM(5, seed=1).fit([x]), DiagonalGMM(5, seed=1).fit([x * scales + shift])
    np.testing.assert_allclose((gmm.means_ - shift) / scales, plain.means_, atol=2e-2)
    np.testing.assert_allclose(gmm.variances_ / scales**2, plain.variances_, rtol=2e-2)
    moved = other * scales + shift
    q, densities = naive.gaussian_posteriors(moved.astype(np.float64), *parameters(gmm))
    np.testing.assert_allclose(gmm.posteriors(moved), q, atol=2e-4)
    np.testing.assert_allclose(gmm.score(moved), densities.mean(), rtol=1e-5)


@pytest.mark.parametrize("value", [0, 0.1, 1e-5, 1e4, -1e-20])
def test_a_constant_dimension_changes_nothing(value):
    x = clusters(800, 4, 3)
    x[:, 2] = value
    gmm, plain = DiagonalGMM(3).fit([x]), DiagonalGMM(3).fit([x[:, [0, 1, 3]]])
    np.testing.assert_allclose(gmm.means_[:, 2], value, rtol=1e-6, atol=1e-30)
    assert (gmm.variances_ > 0).all()
    assert all(np.isfinite(values).all() for values in parameters(gmm))
    np.testing.assert_allclose(gmm.posteriors(x), plain.posteriors(x[:, [0, 1, 3]]), atol=1e-4)


def test_fewer_distinct_descriptors_than_gaussians():
    for x in (np.repeat(bag(3, 4), 20, axis=0), np.full((40, 4), 2.5, np.float32)):
        gmm = DiagonalGMM(10).fit([x])
        assert all(np.isfinite(values).all() for values in parameters(gmm))
        assert (gmm.variances_ > 0).all()
        assert (gmm.weights_ > 0).all()
        np.testing.assert_allclose(gmm.weights_.sum(dtype=np.float64), 1, rtol=1e-6)
        np.testing.assert_allclose(gmm.posteriors(x).sum(axis=1), 1, rtol=1e-6)
        np.testing.assert_allclose(x.mean(axis=0), gmm.weights_ @ gmm.means_, atol=0.3)
    gmm = DiagonalGMM(4).fit([bag(4, 3)])  # as many Gaussians as descriptors
    np.testing.assert_allclose(np.sort(gmm.weights_), 0.25, rtol=0.5)


def test_variances_have_a_floor():
    x = np.concatenate([clusters(500, 3, 1), np.repeat(np.float32([[30, 30, 30]]), 200, axis=0)])
    gmm = DiagonalGMM(2, variance_floor=0.01).fit([x])
    tight = gmm.means_[:, 0].argmax()
    np.testing.assert_allclose(gmm.means_[tight], 30, rtol=1e-3)
    np.testing.assert_allclose(gmm.variances_[tight], 0.01 * x.var(axis=0, dtype=np.float64), rtol=1e-4)


@pytest.mark.parametrize("far", [1e3, 1e6, 1e15, 3e38])
def test_far_outliers_belong_to_some_gaussian(far):
    gmm, x = mixture(6, 5), bag(50, 5)
    x[7], x[30, 2] = far, -far
    q = gmm.posteriors(x)
    np.testing.assert_allclose(q.sum(axis=1), 1, rtol=1e-5)
    assert (q >= 0).all()
    assert all(np.isfinite(values).all() for values in gmm.statistics(x))
    np.testing.assert_allclose(q[8:30], naive.gaussian_posteriors(x.astype(np.float64), *parameters(gmm))[0][8:30],
                               atol=2e-6)


def test_outliers_in_what_is_learnt_from():
    x = clusters(900, 4, 3)
    x[5] = 1e6
    gmm = DiagonalGMM(4).fit([x])
    assert all(np.isfinite(values).all() for values in parameters(gmm))
    np.testing.assert_allclose(gmm.posteriors(x).sum(axis=1), 1, rtol=1e-5)


# Arguments


@pytest.mark.parametrize(("estimator", "message"), [
    (KMeans(0), "words is 0: it must be an integer from 1"),
    (KMeans(2.0), "words is 2.0: it must be an integer from 1"),
    (KMeans(True), "words is True: it must be an integer"),
    (KMeans(2, seed=-1), "seed is -1: it must be an integer from 0"),
    (KMeans(2, seed=None), "seed is None: it must be an integer from 0"),
    (KMeans(2, iterations=0), "iterations is 0: it must be an integer from 1"),
    (KMeans(10), "There are 9 descriptors to learn 10 words from"),
    (DiagonalGMM(0), "components is 0: it must be an integer from 1"),
    (DiagonalGMM("2"), "components is '2': it must be an integer from 1"),
    (DiagonalGMM(2, seed=1.5), "seed is 1.5: it must be an integer from 0"),
    (DiagonalGMM(2, iterations=0), "iterations is 0: it must be an integer from 1"),
    (DiagonalGMM(2, tolerance=0), "tolerance is 0: it must be a number above 0"),
    (DiagonalGMM(2, tolerance=np.nan), "tolerance is nan: it must be a number above 0"),
    (DiagonalGMM(2, variance_floor=0.0), "variance_floor is 0.0: it must be a number above 0"),
    (DiagonalGMM(2, variance_floor=None), "variance_floor is None: it must be a number above 0"),
    (DiagonalGMM(10), "There are 9 descriptors to learn 10 Gaussians from: give at least as many descriptors, or ask "
                      "for fewer."),
])
def test_arguments_that_are_refused(estimator, message):
    with pytest.raises(ParameterError) as refused:
        estimator.fit([bag(4, 3), bag(5, 3)])
    assert message in str(refused.value)


def test_use_before_fit():
    for call in (KMeans().assign, DiagonalGMM().statistics, DiagonalGMM().posteriors, DiagonalGMM().score):
        with pytest.raises(NotFittedError):
            call(bag(2, 3))


def test_bags_of_another_width():
    for call in (words(3, 4).assign, mixture(3, 4).statistics, mixture(3, 4).posteriors, mixture(3, 4).score):
        for n in (0, 2):
            with pytest.raises(ParameterError, match="has 5 columns: 4 are needed"):
                call(bag(n, 5))


def test_integers_of_numpy_are_integers():
    assert KMeans(np.int64(2), seed=np.uint8(3)).fit([bag(9, 2)]).centres_.shape == (2, 2)
    assert DiagonalGMM(np.int32(2), tolerance=np.float32(0.1)).fit([bag(9, 2)]).means_.shape == (2, 2)


def test_words_are_those_of_scikit_learn_started_alike():
    for count, start in ((20, "k-means++"), (513, "random")):
        x = bag(1200, 5)
        reference = Clusters(count, init=start, n_init=1, max_iter=4, random_state=7)
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            reference.fit(x)
        np.testing.assert_array_equal(KMeans(count, seed=7, iterations=4).fit([x]).centres_, reference.cluster_centers_)


def test_no_gaussian_weighs_less_than_one_descriptor():
    x = np.repeat(bag(3, 4), 20, axis=0)
    gmm = DiagonalGMM(10).fit([x])
    assert gmm.weights_.min() > 0.8 / len(x)


def test_a_dimension_that_varies_by_rounding_alone_is_constant():
    x = clusters(800, 4, 3)
    x[:, 2] = np.float32(1e-20) * (1 + 1e-7 * np.arange(800) % 3)
    gmm = DiagonalGMM(3).fit([x])
    assert all(np.isfinite(values).all() for values in parameters(gmm))
    assert np.isfinite(gmm.posteriors(x)).all()
    assert (gmm.variances_ > 0).all()


def test_learning_a_larger_mixture_gives_the_same_bytes_for_any_number_of_threads():
    x = bag(5777, 48)
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            gmm = DiagonalGMM(32, iterations=3).fit([x])
            found.append([values.tobytes() for values in (*parameters(gmm), gmm.posteriors(x))])
    assert found[0] == found[1]
