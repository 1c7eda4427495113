"""idt.flow: choosing a method, flow of two images in one call, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

import synthetic
from idt.errors import ParameterError
from idt.flow import METHODS, compute, method_for
from idt.flow.dis import DIS
from idt.flow.farneback import Farneback
from idt.flow.pyramid import scale_factors, scale_sizes


@pytest.fixture(scope="module")
def frames():
    return synthetic.pan((1.5, -0.75), frames=3, height=67, width=90).frames


def test_methods_by_name():
    assert method_for("farneback") is Farneback
    assert method_for("dis") is DIS
    with pytest.raises(ParameterError, match="method is 'lucas': allowed are farneback, dis"):
        method_for("lucas")


@pytest.mark.parametrize("name", METHODS)
def test_every_method_solves_prepared_images_at_every_scale(name, frames):
    factors = scale_factors(90, 67)
    method = method_for(name)(90, 67, factors=factors)
    a, b, c = (method.prepare(frame) for frame in frames)
    first = method.solve(a, b)
    assert [flow.shape for flow in first] == [(*size, 2) for size in scale_sizes(90, 67, factors)]
    assert all(flow.dtype == np.float32 and np.isfinite(flow).all() for flow in first)
    for flow, factor in zip(first, factors, strict=True):
        error = np.median(flow, (0, 1)) * factor - (1.5, -0.75)
        assert np.abs(error).max() < {"farneback": 0.05, "dis": 0.1}[name]
    # prepared images serve any number of pairs, in any order
    alone = method_for(name)(90, 67, factors=factors)
    second = alone.solve(alone.prepare(frames[1]), alone.prepare(frames[2]))
    for found, expected in ((method.solve(b, c), second), (method.solve(a, b), first)):
        for x, y in zip(found, expected, strict=True):
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("name", METHODS)
def test_compute_is_the_finest_scale(name, frames):
    method = method_for(name)(90, 67, factors=scale_factors(90, 67))
    expected = method.solve(method.prepare(frames[0]), method.prepare(frames[1]))[0]
    found = compute(frames[0], frames[1], method=name)
    assert found.dtype == np.float32
    assert found.shape == (67, 90, 2)
    np.testing.assert_array_equal(found, expected)


def test_compute_takes_views_and_leaves_its_input_alone(frames):
    wide = np.repeat(frames, 2, axis=2)[:, :, ::2]
    wide.flags.writeable = False
    before = wide.copy()
    np.testing.assert_array_equal(compute(wide[0], wide[1]), compute(frames[0], frames[1]))
    np.testing.assert_array_equal(wide, before)
    assert compute(frames[0].T, frames[1].T).shape == (90, 67, 2)


def test_farneback_is_the_default(frames):
    np.testing.assert_array_equal(compute(frames[0], frames[1]), compute(frames[0], frames[1], method="farneback"))


@pytest.mark.parametrize(("a", "message"), [
    (np.zeros((9, 9)), r"a has shape \(9, 9\) and type float64: it must be a grey image \(H, W\) of uint8"),
    (np.zeros((9, 9, 3), np.uint8), r"a has shape \(9, 9, 3\) and type uint8"),
    (np.zeros(9, np.uint8), r"a has shape \(9,\)"),
    (np.zeros((1, 9), np.uint8), r"a has shape \(1, 9\) .*at least 2 x 2 pixels"),
    (np.zeros((9, 0), np.uint8), r"a has shape \(9, 0\)"),
    (np.zeros((9, 8), np.uint8), r"a has shape \(9, 8\) and b \(9, 9\): they must be of one size")])
def test_images_that_are_refused(a, message):
    good = np.zeros((9, 9), np.uint8)
    with pytest.raises(ParameterError, match=message):
        compute(a, good)
    if a.shape != (9, 8):
        with pytest.raises(ParameterError, match=message.replace("a has", "b has")):
            compute(good, a)


def test_unknown_method_is_refused_before_the_images_are_looked_at():
    with pytest.raises(ParameterError, match="method is 'tvl2': allowed are farneback, dis"):
        compute(1, 2, method="tvl2")
