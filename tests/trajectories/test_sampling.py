"""idt.trajectories.sampling: eigenvalues and the points that start, against the oracle."""

from __future__ import annotations

import numpy as np
import pytest

import naive
import synthetic
from idt.trajectories.sampling import min_eigenvalues, new_points

pytestmark = pytest.mark.numeric

NOBODY = np.empty((0, 2), np.float32)


def picture(kind, height, width):
    rng = np.random.default_rng(21)
    if kind == "noise":
        return rng.integers(0, 256, (height, width), np.uint8)
    if kind == "extremes":
        return 255 * rng.integers(0, 2, (height, width), np.uint8)
    if kind == "faint":
        return rng.integers(100, 102, (height, width), np.uint8)
    return synthetic.still(frames=1, height=height, width=width).frames[0]


@pytest.mark.parametrize("size", [(2, 2), (3, 3), (3, 40), (40, 3), (32, 33), (32, 200), (67, 93)])
@pytest.mark.parametrize("kind", ["noise", "extremes", "faint", "texture"])
def test_eigenvalues_equal_the_oracle_up_to_rounding(kind, size):
    """The sums are exact; subtracting the root costs a few roundings of the trace."""
    grey = picture(kind, *size)
    pixels = grey.astype(np.int64)
    dx = naive._correlate(naive._correlate(pixels, (-1, 0, 1), 1, "reflect"), (1, 2, 1), 0, "reflect")
    dy = naive._correlate(naive._correlate(pixels, (-1, 0, 1), 0, "reflect"), (1, 2, 1), 1, "reflect")
    ones = (1, 1, 1)
    trace = naive._correlate(naive._correlate(dx * dx + dy * dy, ones, 0, "reflect"), ones, 1, "reflect")
    found = min_eigenvalues(grey)
    assert found.dtype == np.float32
    assert (np.abs(found - naive.min_eigenvalues(grey)) <= 3 * np.finfo(np.float32).eps * trace).all()


def test_eigenvalues_of_what_has_no_corner_are_exactly_zero():
    assert not min_eigenvalues(np.full((40, 33), 200, np.uint8)).any()
    assert not min_eigenvalues(np.tile(np.uint8([10, 10, 200, 90]), (30, 10))).any()
    assert not min_eigenvalues(np.tile(np.uint8([[10], [10], [255]]), (10, 31))).any()


@pytest.mark.parametrize("stride", [1, 2, 5, 8, 13, 40])
@pytest.mark.parametrize("kind", ["noise", "faint", "texture"])
def test_new_points_equal_the_oracle(kind, stride):
    rng = np.random.default_rng(22)
    for height, width in ((32, 33), (23, 37), (32, 200)):
        grey = picture(kind, height, width)
        values = min_eigenvalues(grey)
        for tracked in (NOBODY, rng.uniform(0.01, (width - 0.01, height - 0.01), (30, 2)).astype(np.float32)):
            for quality in (0.0, 0.001, 0.3):
                found = new_points(values, tracked, stride=stride, quality=quality)
                assert found.dtype == np.float32
                np.testing.assert_array_equal(found, naive.sample_points(grey, tracked, stride, quality))


def test_a_cell_is_taken_from_its_first_to_its_last_pixel():
    values = np.ones((23, 37), np.float32)
    everywhere = new_points(values, NOBODY, stride=5, quality=0.5)
    np.testing.assert_array_equal(everywhere, [(5 * j + 2, 5 * i + 2) for i in range(4) for j in range(7)])
    for position, cell in (((0.01, 0.01), (2, 2)), ((4.99, 4.99), (2, 2)), ((5.0, 4.99), (7, 2)),
                           ((34.9, 19.9), (32, 17))):
        found = new_points(values, np.float32([position] * 2), stride=5, quality=0.5)
        assert {tuple(p) for p in everywhere} - {tuple(p) for p in found} == {cell}
    for position in ((35.0, 3.0), (36.9, 19.9), (3.0, 20.0), (36.9, 22.9)):  # beyond the last whole cell
        np.testing.assert_array_equal(new_points(values, np.float32([position]), stride=5, quality=0.5), everywhere)


def test_threshold_is_strict_and_a_share_of_the_whole_image():
    values = np.full((10, 10), 0.25, np.float32)
    values[2, 7] = 0.26
    values[9, 9] = 1.0  # no candidate, but it sets the threshold
    np.testing.assert_array_equal(new_points(values, NOBODY, stride=5, quality=0.25), [[7, 2]])
    assert len(new_points(values, NOBODY, stride=5, quality=0.24)) == 4
    assert len(new_points(values, NOBODY, stride=5, quality=0.26)) == 0
    assert len(new_points(np.zeros((10, 10), np.float32), NOBODY, stride=5, quality=0.0)) == 0


def test_no_cell_fits():
    assert new_points(np.ones((4, 90), np.float32), NOBODY, stride=5, quality=0.1).shape == (0, 2)
