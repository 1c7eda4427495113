"""flow.pyramid: scales, resizing between them, and the coarse-to-fine schedule."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

import naive
from idt.flow.pyramid import coarse_to_fine, reduce_flow, resize_grey, scale_factors, scale_sizes
from rounding import gamma

pytestmark = pytest.mark.numeric


@pytest.mark.parametrize(("width", "height", "count"), [
    (160, 120, 4), (176, 144, 5), (320, 240, 6), (640, 480, 8), (3840, 2160, 8),
    (64, 64, 3), (200, 128, 5), (256, 300, 7),  # one more or less in double precision
    (32, 33, 1), (45, 45, 1), (46, 46, 2), (31, 500, 1), (2, 2, 1)])
def test_number_of_scales(width, height, count):
    found = scale_factors(width, height)
    assert found.dtype == np.float32
    assert len(found) == count
    np.testing.assert_array_equal(found, naive.scale_factors(width, height))


def test_factors_are_accumulated_in_single_precision():
    np.testing.assert_array_equal(scale_factors(1000, 1000)[[0, 2, 4, 6]],
                                  np.float32([1, 1.99999988, 3.9999995, 7.999999]))


@pytest.mark.parametrize(("shortest", "count"), [(24, 8), (33, 8), (4, 16), (32, 3), (32, 1)])
def test_scales_of_other_patches_and_limits(shortest, count):
    for width, height in ((33, 47), (67, 66), (320, 240)):
        np.testing.assert_array_equal(scale_factors(width, height, shortest=shortest, count=count),
                                      naive.scale_factors(width, height, shortest, count))


def test_sizes_are_height_first_and_round_ties_to_even():
    factors = np.float32([1, 2, 4])
    assert scale_sizes(10, 13, factors) == [(13, 10), (6, 5), (3, 2)]  # 6.5, 3.25 and 2.5
    for width, height in ((320, 240), (161, 121), (200, 32), (101, 333)):
        factors = scale_factors(width, height)
        assert [size[::-1] for size in scale_sizes(width, height, factors)] == naive.scale_sizes(width, height, factors)


SMALLER = [((32, 33), (23, 23)), ((32, 200), (23, 141)), ((121, 161), (86, 114)), ((86, 114), (61, 81)),
           ((40, 40), (40, 40)), ((7, 3), (2, 2)), ((1, 9), (1, 4)), ((9, 1), (5, 1)), ((2, 2), (1, 1))]
LARGER = [((20, 30), (57, 41)), ((5, 5), (6, 6)), ((20, 30), (15, 45)), ((1, 9), (3, 4))]


@pytest.mark.parametrize(("source", "target"), SMALLER + LARGER)
@pytest.mark.parametrize("kind", ["noise", "extremes", "ramp"])
def test_grey_resize_is_exact(source, target, kind):
    """The same bytes as the oracle's integers, and as OpenCV's resize."""
    rng = np.random.default_rng(3)
    grey = {"noise": rng.integers(0, 256, source, np.uint8),
            "extremes": 255 * rng.integers(0, 2, source, np.uint8),
            "ramp": np.add.outer(5 * np.arange(source[0]), 3 * np.arange(source[1])).astype(np.uint8)}[kind]
    found = resize_grey(grey, *target)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, naive.resize_grey(grey, target[1], target[0]))
    np.testing.assert_array_equal(found, cv2.resize(grey, target[::-1], interpolation=cv2.INTER_LINEAR))


def test_coarse_to_fine_goes_from_the_coarsest_that_starts_at_zero():
    flows = [np.full((size, size, 2), np.nan, np.float32) for size in (8, 4, 2)]
    calls = []

    def solve(a, b, flow):
        calls.append((a, b, len(flow), float(flow[0, 0, 0])))
        flow += 1

    def enlarge(coarse, fine):
        fine[:] = 10 * coarse[0, 0, 0]

    coarse_to_fine("abc", "xyz", flows, solve, enlarge)
    assert calls == [("c", "z", 2, 0.0), ("b", "y", 4, 10.0), ("a", "x", 8, 110.0)]
    assert [float(flow[0, 0, 0]) for flow in flows] == [111, 11, 1]


def area_shares(new, size):
    """(new, size): which share of each source pixel's length lies in each new pixel, rows sum to 1."""
    edges = np.arange(new + 1) * size / new
    pixels = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.maximum(overlap, 0) * new / size


@pytest.mark.parametrize(("source", "target", "factor"), [((72, 96), (36, 48), 2.0), ((33, 47), (23, 33), 1.41421),
                                                          ((40, 200), (10, 50), 4.0)])
def test_flow_is_averaged_over_areas_and_divided_by_the_factor(source, target, factor):
    flow = np.random.default_rng(4).normal(0, 3, (*source, 2)).astype(np.float32)
    found = reduce_flow(flow, *target, factor)
    down, along = area_shares(target[0], source[0]), area_shares(target[1], source[1])
    expected, sizes = (np.einsum("ij,jkc,lk->ilc", down, values.astype(float), along) / factor
                       for values in (flow, np.abs(flow)))
    assert found.dtype == np.float32
    # Sums of products with shares that are differences of coordinates; a product for each axis and the factor.
    terms = np.count_nonzero(down, axis=1).max() + np.count_nonzero(along, axis=1).max()
    shares = 2 * max(source) * gamma(1) / factor * np.abs(flow).max()
    assert (np.abs(found - expected) <= gamma(terms + 8) * sizes + shares).all()


def test_flow_of_the_finest_scale_is_untouched():
    flow = np.random.default_rng(5).normal(size=(33, 40, 2)).astype(np.float32)
    np.testing.assert_array_equal(reduce_flow(flow, 33, 40, 1.0), flow)
