"""Principal components against scikit-learn's in float64."""

from __future__ import annotations

import re

import numpy as np
import pytest
from random_bags import bag
from sklearn.decomposition import PCA as Reference
from sklearn.exceptions import NotFittedError
from threadpoolctl import threadpool_limits

from idt.encoding import PCA
from idt.encoding.bags import ROWS
from idt.errors import ParameterError
from rounding import gamma

pytestmark = pytest.mark.numeric


def spread_out(n, d, seed=0):
    """Correlated descriptors with deviations from 1 to 2^-d, so that components are far apart."""
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.normal(size=(d, d)))
    return (rng.normal(size=(n, d)) * 2.0 ** -np.arange(d) @ turn + rng.normal(size=d)).astype(np.float32)


@pytest.mark.parametrize("whiten", [False, True])
def test_components_are_those_of_scikit_learn(whiten):
    x, other = spread_out(500, 8), spread_out(90, 8, seed=1)
    own = PCA(5, whiten=whiten).fit([x[:200], x[200:]])
    reference = Reference(5, whiten=whiten, svd_solver="full").fit(x.astype(np.float64))
    np.testing.assert_allclose(own.mean_, reference.mean_, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(own.components_, reference.components_, atol=1e-6)
    expected = 1 / np.sqrt(reference.explained_variance_) if whiten else np.ones(5)
    np.testing.assert_allclose(own.scale_, expected, rtol=1e-5)
    sizes = (np.abs(other) + np.abs(own.mean_)) @ np.abs(own.components_.T) * own.scale_
    assert (np.abs(own.project(other) - reference.transform(other.astype(np.float64))) <= gamma(8 + 6) * sizes).all()
    assert all(getattr(own, name).dtype == np.float32 for name in ("mean_", "components_", "scale_"))


def test_far_from_zero_and_of_very_different_scales():
    x = bag(2000, 6) * np.float32([1, 2, 1e-3, 2e-3, 1e3, 2e3]) + np.float32([1e4, 1e4, 1, 1, 1e4, 1e4])
    own = PCA(1.0).fit([x])
    reference = Reference().fit(x.astype(np.float64))
    np.testing.assert_allclose(np.abs(own.components_ @ reference.components_.T), np.eye(6), atol=1e-4)
    np.testing.assert_allclose(own.project(x).std(axis=0, ddof=1), np.sqrt(reference.explained_variance_), rtol=1e-4,
                               atol=1e-3)  # which is the rounding of the greatest


@pytest.mark.parametrize(("components", "kept"), [(1, 1), (8, 8), (np.int64(3), 3), (1.0, 8), (0.5, 4), (0.45, 4),
                                                  (0.01, 1), (np.float32(0.25), 2)])
def test_number_of_components(components, kept):
    own = PCA(components).fit([bag(20, 8)])
    assert own.components_.shape == (kept, 8)
    assert own.scale_.shape == (kept,)
    assert own.project(bag(3, 8)).shape == (3, kept)


@pytest.mark.parametrize("components", [0, -1, 9, 0.0, 1.01, -0.5, np.nan, True, None, "3", [2]])
def test_number_of_components_that_is_refused(components):
    with pytest.raises(ParameterError, match=re.escape(f"components is {components!r}: it must be a share of the "
                                                       "dimensions above 0 up to 1.0, or an integer from 1 to 8")):
        PCA(components).fit([bag(20, 8)])


def test_too_few_descriptors():
    with pytest.raises(ParameterError, match="There are 3 descriptors to learn 4 components from"):
        PCA(4).fit([bag(2, 8), bag(1, 8)])
    with pytest.raises(ParameterError, match="There are 1 descriptors to learn 1 components from"):
        PCA(1).fit([bag(1, 8)])
    assert PCA(3).fit([bag(2, 8), bag(1, 8)]).components_.shape == (3, 8)


def test_whitened_components_without_variance_stay_small():
    x = bag(400, 6)
    x[:, 2], x[:, 4] = 5, x[:, 3]
    own = PCA(1.0, whiten=True).fit([x])
    deviations = own.project(x).std(axis=0)
    np.testing.assert_allclose(deviations[:4], 1, rtol=2e-3)
    assert (deviations[4:] < 0.01).all()
    flat = PCA(1.0, whiten=True).fit([np.full((9, 3), 7, np.float32)])
    np.testing.assert_allclose(flat.project(np.full((2, 3), 7, np.float32)), 0)


@pytest.mark.parametrize("n", [0, 1, 777, ROWS - 1, ROWS, ROWS + 1, 5000])
def test_projection_in_chunks(n):
    own = PCA(24).fit([bag(300, 48)])
    x = bag(n, 48, seed=2, kind=np.float16)
    with threadpool_limits(1):
        found = own.project(x)
    assert found.shape == (n, 24)
    assert found.dtype == np.float32
    expected = (x.astype(np.float64) - own.mean_) @ own.components_.astype(np.float64).T
    sizes = (np.abs(x.astype(np.float64)) + np.abs(own.mean_)) @ np.abs(own.components_.T)
    assert (np.abs(found - expected) <= gamma(48 + 3) * sizes).all()
    with threadpool_limits(2):
        assert own.project(np.asfortranarray(x)).tobytes() == found.tobytes()


def test_bags_in_and_out():
    own = PCA(2).fit(b for b in [bag(30, 4), bag(0, 4)])
    bags = [bag(5, 4), bag(0, 4, kind=np.float64), bag(1, 4)]
    assert [found.shape for found in own.transform(iter(bags))] == [(5, 2), (0, 2), (1, 2)]
    np.testing.assert_array_equal(own.fit_transform([bag(30, 4)])[0], PCA(2).fit([bag(30, 4)]).project(bag(30, 4)))
    with pytest.raises(ParameterError, match="Bag 1 has 5 columns: 4 are needed"):
        own.transform([bag(0, 4), bag(0, 5)])
    bags[2][0, 0] = np.nan
    with pytest.raises(ParameterError, match="Bag 2 has a number that is NaN"):
        own.transform(bags)
    for call in (PCA().transform, PCA().project):
        with pytest.raises(NotFittedError):
            call([])
