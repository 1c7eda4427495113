"""Bags of words against the oracle."""

from __future__ import annotations

import numpy as np
import pytest
from random_bags import bag, words

import naive
from idt.encoding import BagOfWords, KMeans
from idt.encoding.bags import ROWS
from idt.errors import ParameterError
from rounding import gamma

pytestmark = pytest.mark.numeric


@pytest.mark.parametrize("n", [1, 500, ROWS + 1])
def test_counts_are_those_of_the_nearest_words(n):
    codebook, x = words(40, 6), bag(n, 6)
    counts = BagOfWords().with_codebook(codebook).encode(x)
    assert counts.dtype == np.float32
    np.testing.assert_array_equal(counts, naive.bag_of_words(x.astype(np.float64), codebook.centres_, None))
    assert counts.sum() == n


@pytest.mark.parametrize("soft", [0.05, 0.5, 3, np.float32(20)])
def test_shares_are_those_of_a_gaussian(soft):
    codebook, x = words(40, 6), bag(600, 6)
    counts = BagOfWords(soft=soft).with_codebook(codebook).encode(x)
    # |c|^2 - 2 x c about the mean of the words, then the shares of a descriptor as posteriors are, of exponents.
    middle = codebook.centres_.mean(axis=0, dtype=np.float64)
    lengths = [np.linalg.norm(values - middle, axis=1).max() for values in (codebook.centres_, x)]
    exponents = gamma(6 + 5) * (lengths[0]**2 + 2 * lengths[0] * lengths[1]) / (2 * float(soft)**2)
    limit = np.zeros(40)
    for squares in naive.square_distances(x.astype(np.float64), codebook.centres_):
        share = np.exp((squares.min() - squares) / (2 * float(soft)**2))
        share /= share.sum()
        limit += 4 * np.expm1(exponents) * share * (1 - share) + gamma(40 + 4) * share + 1e-30
    expected = naive.bag_of_words(x.astype(np.float64), codebook.centres_, float(soft))
    assert (np.abs(counts - expected) <= limit + gamma(1) * expected).all()
    np.testing.assert_allclose(counts.sum(), 600, rtol=1e-6)


def test_shares_of_an_ever_narrower_gaussian_become_counts():
    codebook, x = words(40, 6), bag(600, 6)
    hard = BagOfWords().with_codebook(codebook).encode(x)
    for soft in (1e-3, 1e-10, 1e-25, 1e-300):
        np.testing.assert_allclose(BagOfWords(soft=soft).with_codebook(codebook).encode(x), hard, atol=1e-6)
    wide = BagOfWords(soft=1e30).with_codebook(codebook).encode(x)
    np.testing.assert_allclose(wide, 15, rtol=1e-5)


def test_far_outliers_still_count_as_one():
    codebook, x = words(7, 3), bag(20, 3)
    x[3], x[9] = 1e15, -1e12
    for soft in (None, 0.3):
        counts = BagOfWords(soft=soft).with_codebook(codebook).encode(x)
        np.testing.assert_allclose(counts.sum(), 20, rtol=1e-6)
        assert (counts >= 0).all()


def test_of_equal_words_the_first_counts_and_shares_are_equal():
    codebook = words(5, 3)
    codebook.centres_[3] = codebook.centres_[1]
    made, x = BagOfWords().with_codebook(codebook), bag(100, 3)
    hard, soft = made.encode(x), made.set_params(soft=1).encode(x)
    assert hard[1] > 0
    assert hard[3] == 0
    np.testing.assert_allclose(soft[1], soft[3], rtol=1e-6)


@pytest.mark.parametrize("soft", [0, -1, np.nan, np.inf, True, False, "1"])
def test_a_softness_that_is_refused(soft):
    made = BagOfWords(soft=soft).with_codebook(words(3, 2))
    for n in (0, 2):
        with pytest.raises(ParameterError, match=r"soft is .*: it must be a number above 0"):
            made.encode(bag(n, 2))


def test_words_are_learnt_by_the_copy_of_the_codebook():
    made = BagOfWords(KMeans(3, seed=1)).fit([bag(30, 2), bag(0, 2)])
    np.testing.assert_array_equal(made.codebook_.centres_, KMeans(3, seed=1).fit([bag(30, 2)]).centres_)
    assert made.size == 3
    with pytest.raises(ParameterError, match="There are 30 descriptors to learn 4000 words from"):
        BagOfWords().fit([bag(30, 2)])
