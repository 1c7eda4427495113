"""Vectors of locally aggregated descriptors against the oracle."""

from __future__ import annotations

import numpy as np
import pytest
from random_bags import bag, words

import naive
from idt.encoding import VLAD, KMeans
from idt.encoding.bags import ROWS
from idt.errors import ParameterError
from rounding import gamma

pytestmark = pytest.mark.numeric


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("intra", [False, True])
@pytest.mark.parametrize("n", [1, 300, ROWS + 1])
def test_sums_of_differences(n, intra, residual):
    codebook, x = words(9, 5), bag(n, 5)
    vector = VLAD(intra=intra, residual=residual).with_codebook(codebook).encode(x)
    assert vector.dtype == np.float32
    expected = naive.vlad(x.astype(np.float64), codebook.centres_, intra, residual)
    # sums of float64, rounded once, or divided by a length of what was
    np.testing.assert_allclose(vector, expected, rtol=gamma(3), atol=1e-12 * n)


def test_parts_of_words_are_of_length_1_or_0():
    codebook = words(3, 4)
    codebook.centres_[1] += 100
    parts = VLAD().with_codebook(codebook).encode(bag(50, 4)).reshape(3, 4)
    np.testing.assert_allclose(np.linalg.norm(parts.astype(np.float64), axis=1), [1, 0, 1], rtol=gamma(2))


def test_a_descriptor_on_its_word_adds_nothing():
    codebook = words(3, 4)
    for residual in (False, True):
        made = VLAD(intra=False, residual=residual).with_codebook(codebook)
        assert not made.encode(codebook.centres_).any()
    far = codebook.centres_ + np.float32([[0, 0, 1e-3, 0]])
    np.testing.assert_allclose(made.encode(far).reshape(3, 4), [[0, 0, 1, 0]] * 3, atol=1e-3)


def test_far_from_zero_and_with_outliers():
    codebook, x = words(4, 3), bag(60, 3)
    codebook.centres_ += np.float32(1e4)
    x += np.float32(1e4)
    vector = VLAD(intra=False).with_codebook(codebook).encode(x)
    expected = naive.vlad(x.astype(np.float64), codebook.centres_, False, False)
    np.testing.assert_allclose(vector, expected, rtol=gamma(3), atol=1e-9)
    x[5] = -1e15
    assert np.isfinite(VLAD(residual=True).with_codebook(codebook).encode(x)).all()


def test_words_are_learnt_by_the_copy_of_the_codebook():
    made = VLAD(KMeans(3, seed=1)).fit([bag(30, 2)])
    np.testing.assert_array_equal(made.codebook_.centres_, KMeans(3, seed=1).fit([bag(30, 2)]).centres_)
    assert made.size == 6
    with pytest.raises(ParameterError, match="There are 30 descriptors to learn 256 words from"):
        VLAD().fit([bag(30, 2)])
