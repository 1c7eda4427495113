"""Normalisation of descriptors and vectors."""

from __future__ import annotations

import re

import numpy as np
import pytest
from random_bags import bag
from sklearn.base import clone

from idt.encoding import Normalise
from idt.encoding.norms import intra, l1, l2, power, root_sift
from idt.errors import ParameterError

pytestmark = pytest.mark.numeric


def test_lengths():
    x = bag(7, 30)
    x[2] = 0
    sums, lengths = (np.linalg.norm(x.astype(np.float64), order, axis=1, keepdims=True) for order in (1, 2))
    sums[2] = lengths[2] = 1
    np.testing.assert_allclose(l1(x), x / sums, rtol=1e-6)
    np.testing.assert_allclose(l2(x), x / lengths, rtol=1e-6)
    for function in (l1, l2):
        assert function(x).dtype == np.float32
        assert not function(x)[2].any()
        np.testing.assert_array_equal(function(x[0]), function(x)[0])  # of one vector as of several
        np.testing.assert_array_equal(function(x.reshape(7, 2, 15)).shape, (7, 2, 15))


def test_lengths_of_long_and_of_large_vectors():
    x = np.full(500_000, 0.1, np.float32)
    np.testing.assert_allclose(l2(x), 500_000**-0.5, rtol=1e-6)
    np.testing.assert_allclose(l1(x), 1 / 500_000, rtol=1e-6)
    for scale in (1e30, 1e-30):  # whose squares are no float32
        np.testing.assert_allclose(l2(np.float32([3, -4]) * np.float32(scale)), [0.6, -0.8], rtol=1e-6)
        np.testing.assert_allclose(l1(np.float32([3, -1]) * np.float32(scale)), [0.75, -0.25], rtol=1e-6)


def test_what_is_not_a_number_is_not_made_zero():
    x = np.float32([[1, np.nan], [3, 4]])
    for function in (l1, l2, power, root_sift):
        assert np.isnan(function(x)[0, 1])
        assert np.isfinite(function(x)[1]).all()


def test_powers_keep_the_sign():
    x = np.float32([-4, -0.25, 0, 9])
    np.testing.assert_array_equal(power(x), [-2, -0.5, 0, 3])
    np.testing.assert_allclose(power(x, 0.25), np.sign(x) * np.abs(x)**0.25, rtol=1e-6)
    np.testing.assert_array_equal(power(x, 1), x)
    assert power(x.astype(np.float64)).dtype == np.float32
    for exponent in (0, -1, np.nan, "2", None):
        with pytest.raises(ParameterError, match=r"exponent is .*: it must be a number above 0"):
            power(x, exponent)


def test_root_sift():
    x = np.abs(bag(5, 8, kind=np.float16))
    x[3] = 0
    found = root_sift(x)
    np.testing.assert_allclose((found**2).sum(axis=1), [1, 1, 1, 0, 1], rtol=1e-6)
    wide = x[0].astype(np.float64)
    np.testing.assert_allclose(found[0], np.sqrt(wide / wide.sum()), rtol=1e-6)
    assert found.dtype == np.float32
    assert root_sift(x[:0]).shape == (0, 8)
    np.testing.assert_allclose(root_sift(np.float32([[1, -3]])), [[0.5, -np.sqrt(0.75)]], rtol=1e-6)


def test_parts_of_equal_length():
    x = bag(3, 12)
    x[1, 4:8] = 0
    found = intra(x, 3)
    for row, own in zip(x, found, strict=True):
        for start in (0, 4, 8):
            np.testing.assert_array_equal(own[start:start + 4], l2(row[start:start + 4]))
    np.testing.assert_array_equal(intra(x, 1), l2(x))
    np.testing.assert_array_equal(np.abs(intra(x, 12)), (x != 0).astype(np.float32))
    np.testing.assert_array_equal(intra(x[0], 3), found[0])
    assert intra(x[:0], 3).shape == (0, 12)
    for blocks in (5, 24):
        with pytest.raises(ParameterError, match=f"blocks is {blocks}: it must divide the 12 values"):
            intra(x, blocks)
    for blocks in (0, -3, 1.5, True):
        with pytest.raises(ParameterError, match=r"blocks is .*: it must be an integer from 1"):
            intra(x, blocks)


def test_steps_one_after_the_other():
    x = bag(4, 12)
    np.testing.assert_array_equal(Normalise().fit_transform(x), l2(power(x)))
    np.testing.assert_array_equal(Normalise(("l2", "power")).transform(x), power(l2(x)))
    np.testing.assert_array_equal(Normalise(["intra", "l1"], blocks=3).transform(x), l1(intra(x, 3)))
    np.testing.assert_array_equal(Normalise(()).transform(x), x)
    assert Normalise().transform(x.astype(np.float64)).dtype == np.float32
    before = x.copy()
    Normalise(("power", "l1", "l2", "intra"), blocks=2).transform(x)
    np.testing.assert_array_equal(x, before)
    assert clone(Normalise(["l1"], blocks=3)).get_params() == {"steps": ["l1"], "blocks": 3}


@pytest.mark.parametrize(("made", "message"), [
    (Normalise(("power", "l3")), "steps has 'l3': allowed are power, l1, l2, intra."),
    (Normalise("l2"), "steps"),
    (Normalise((2,)), "steps has 2: allowed are"),
    (Normalise(("intra",)), "steps has 'intra', which needs blocks"),
    (Normalise(("intra",), blocks=5), "blocks is 5: it must divide the 12 values"),
])
def test_steps_that_are_refused(made, message):
    with pytest.raises(ParameterError, match=re.escape(message)):
        made.transform(bag(4, 12))
