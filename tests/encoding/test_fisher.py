"""Fisher vectors against the oracle, scikit-image and the gradient that they are."""

from __future__ import annotations

import numpy as np
import pytest
from random_bags import bag, logit_errors, mixture

import naive
from idt.encoding import DiagonalGMM, FisherVector
from idt.encoding.bags import ROWS
from rounding import gamma, likely

pytestmark = pytest.mark.numeric


def parameters(gmm):
    return gmm.weights_, gmm.means_, gmm.variances_


def limits(gmm, x):
    """Bounds of the errors of a vector: those of posteriors (`logit_errors`) and of sums of products over a chunk."""
    weights, means, variances = (values.astype(np.float64) for values in parameters(gmm))
    q, _ = naive.gaussian_posteriors(x.astype(np.float64), weights, means, variances)
    off = 2 * logit_errors(gmm, x) * q * (1 - q) + gamma(5) * q + 2.0**-30
    middle = weights @ means
    found = []
    for power in (1, 2):
        for k, weight in enumerate(weights):
            size = (np.abs(x - middle) + np.abs(means[k] - middle)) / np.sqrt(variances[k])
            error = off[:, k] @ (size**power + power - 1) + likely(min(len(x), ROWS) + 8) * (q[:, k] @ size**power)
            found.append(error / (len(x) * np.sqrt(weight * power)))
    return np.concatenate(found) + gamma(1)


@pytest.mark.parametrize("n", [1, 2, 400, ROWS + 1])
def test_means_and_deviations(n):
    gmm, x = mixture(7, 5), bag(n, 5)
    vector = FisherVector().with_codebook(gmm).encode(x)
    assert vector.shape == (70,)
    assert vector.dtype == np.float32
    expected = naive.fisher_vector(x.astype(np.float64), *parameters(gmm))
    assert (np.abs(vector - expected) <= limits(gmm, x) + gamma(1) * np.abs(expected)).all()


def test_what_was_learnt_far_from_zero():
    shift = np.float32([1e4, -300, 0])
    x = bag(3000, 3) * np.float32([1, 1e-2, 1e4]) + shift
    made = FisherVector(DiagonalGMM(6)).fit([x[:2000]])
    expected = naive.fisher_vector(x[2000:].astype(np.float64), *parameters(made.codebook_))
    np.testing.assert_allclose(made.encode(x[2000:]), expected, atol=2e-4)


def test_posteriors_of_about_one_gaussian():
    gmm, x = mixture(7, 5), 20 * bag(500, 5)
    gmm.means_ *= 20
    expected = naive.fisher_vector(x.astype(np.float64), *parameters(gmm))
    found = FisherVector().with_codebook(gmm).encode(x)
    assert (np.abs(found - expected) <= limits(gmm, x) + gamma(1) * np.abs(expected)).all()


def test_blocks_of_scikit_image():
    image_features = pytest.importorskip("skimage.feature")
    mixtures = pytest.importorskip("sklearn.mixture")
    gmm, x = mixture(16, 12), bag(3000, 12)
    reference = mixtures.GaussianMixture(16, covariance_type="diag")
    reference.weights_, reference.means_, reference.covariances_ = map(np.float64, parameters(gmm))
    reference.precisions_cholesky_ = 1 / np.sqrt(reference.covariances_)
    expected = image_features.fisher_vector(x.astype(np.float64), reference)[16:]
    expected[16 * 12:] *= -1  # its deviations have the other sign
    found = FisherVector().with_codebook(gmm).encode(x)
    assert (np.abs(found - expected) <= limits(gmm, x) + gamma(1) * np.abs(expected)).all()


def test_it_is_the_gradient_of_the_likelihood():
    """In units of σ / √w for a mean and σ / √(2 w) for a deviation: the Fisher information of a Gaussian."""
    gmm, x = mixture(4, 3), bag(200, 3).astype(np.float64)
    weights, means, variances = (values.astype(np.float64) for values in parameters(gmm))
    deviations = np.sqrt(variances)
    of_means, of_deviations = FisherVector().with_codebook(gmm).encode(x).reshape(2, 4, 3)
    step = 1e-5
    for k in range(4):
        for j in range(3):
            nudge = np.zeros((4, 3))
            nudge[k, j] = step
            up, down = (naive.gaussian_posteriors(x, weights, means + sign * nudge, variances)[1].mean()
                        for sign in (1, -1))
            slope = (up - down) / (2 * step)
            np.testing.assert_allclose(of_means[k, j], slope * deviations[k, j] / np.sqrt(weights[k]), atol=2e-6)
            up, down = (naive.gaussian_posteriors(x, weights, means, (deviations + sign * nudge)**2)[1].mean()
                        for sign in (1, -1))
            slope = (up - down) / (2 * step)
            np.testing.assert_allclose(of_deviations[k, j], slope * deviations[k, j] / np.sqrt(2 * weights[k]),
                                       atol=2e-6)


def test_what_the_mixture_was_learnt_from_has_a_vector_near_zero():
    """At the maximum of the likelihood its gradient is zero."""
    x = bag(4000, 3)
    made = FisherVector(DiagonalGMM(3, iterations=3000, tolerance=1e-9)).fit([x])
    assert np.abs(made.encode(x)).max() < 5e-3
    assert np.abs(made.encode(x + np.float32(0.5))).max() > 0.1


@pytest.mark.parametrize("far", [1e4, 1e15, 3e38])
def test_far_outliers_leave_finite_numbers(far):
    x = bag(100, 5)
    x[3] = far
    assert np.isfinite(FisherVector().with_codebook(mixture(7, 5)).encode(x)).all()


def test_a_gaussian_without_descriptors_stays_bounded():
    x = np.repeat(bag(3, 4), 50, axis=0)
    made = FisherVector(DiagonalGMM(8)).fit([x])
    vector = made.encode(x + np.float32(0.01))
    assert np.isfinite(vector).all()
    assert np.abs(vector).max() < 1e3
