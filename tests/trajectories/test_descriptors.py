"""idt.trajectories.descriptors: HOG, HOF and MBH of patches against the oracle."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import naive
import synthetic
from idt.trajectories.descriptors import BINS, describe, widths
from rounding import UNIT, gamma

pytestmark = pytest.mark.numeric

NAMES = ("hog", "hof", "mbhx", "mbhy")


def scene(kind, height, width):
    """A grey image and a flow."""
    rng = np.random.default_rng(41)
    if kind == "noise":
        flow = rng.normal(0, 2, (height, width, 2))
        flow[::3, ::2] *= 0.05
        return rng.integers(0, 256, (height, width), np.uint8), flow.astype(np.float32)
    if kind == "texture":
        y, x = np.mgrid[:height, :width] / 9
        flow = np.stack([1.5 * np.sin(x + y), np.cos(x - 2 * y)], axis=2)
        return synthetic.still(frames=1, height=height, width=width).frames[0], flow.astype(np.float32)
    return np.full((height, width), 77, np.uint8), np.zeros((height, width, 2), np.float32)


def positions(height, width, n=40):
    """Points near and on all borders, halfway between pixels, and anywhere."""
    rng = np.random.default_rng(42)
    xs, ys = [0.01, 0.5, 1.5, width / 2, width - 1.0, width - 0.01], [0.01, 1.5, 2.5, height / 2, height - 0.01]
    anywhere = rng.uniform(0, (width, height), (n, 2))
    halves = np.floor(rng.uniform(0, (width, height), (n, 2))) + 0.5
    return np.concatenate([list(itertools.product(xs, ys)), anywhere, halves]).astype(np.float32)


def described(grey, flow, points, *, descriptors=NAMES, patch=32, cells=2, epsilon=0.05, threshold=0.4):
    """Descriptors of one step, one row for each point."""
    sums = np.zeros((len(points), sum(widths(descriptors, cells).values())), np.float32)
    describe(grey, flow, points, sums, np.arange(len(points)), descriptors=descriptors, patch=patch, cells=cells,
             epsilon=epsilon, hof_threshold=threshold)
    return sums


def channels(grey, flow, threshold=0.4):
    """The votes of every pixel for the bins of each descriptor."""
    return [naive.hog_votes(grey, approximate=True), naive.hof_votes(flow, threshold, approximate=True),
            naive.mbh_votes(flow, 0, approximate=True), naive.mbh_votes(flow, 1, approximate=True)]


def oracle(grey, flow, points, *, patch=32, cells=2, epsilon=0.05, threshold=0.4):
    return np.array([np.concatenate([naive.patch_descriptor(v, x, y, patch, cells, epsilon)
                                     for v in channels(grey, flow, threshold)]) for x, y in points])


def blocks(grey, flow, points, *, patch=32, cells=2, epsilon=0.05, threshold=0.4):
    """Sum of each point's votes, and the largest sum of the image in a bin, for each number of a descriptor."""
    sums, largest = [], []
    for votes in channels(grey, flow, threshold):
        bins, total = votes.shape[2], votes.sum(2)
        height, width = total.shape
        left = [min(max(naive.rnd(x) - patch // 2, 0), width - patch) for x in points[:, 0]]
        top = [min(max(naive.rnd(y) - patch // 2, 0), height - patch) for y in points[:, 1]]
        reach = patch // cells * cells
        block = np.array([total[j:j + reach, i:i + reach].sum() for i, j in zip(left, top, strict=True)])
        sums.append(np.repeat(block[:, None] + bins * cells**2 * epsilon, bins * cells**2, axis=1))
        largest.append(np.full(sums[-1].shape, votes.sum((0, 1)).max()))
    return np.hstack(sums), np.hstack(largest)


def assert_same(found, grey, flow, points, **options):
    """The squares are what each bin has of its block; their errors are those of the integral image and of the votes.

    An integral image is a sum over rows: a random walk of one rounding a row, of numbers that grow up to S. Its
    standard deviation is u S sqrt(h) / 3, that of a bin, which is the difference of two differences, twice as much, and
    six of them with half as much again for the sum of the block leave nothing to chance. A vote has an angle of up to 8
    that is good to 22 u, and three more roundings of up to four times its length; then it is one of 36 that are added,
    divided and have a root.
    """
    sums, largest = blocks(grey, flow, points, **options)
    limit = 6 * UNIT * np.sqrt(len(grey)) * largest / sums + gamma(22 + 12 + 40)
    assert (np.abs(found.astype(np.float64)**2 - oracle(grey, flow, points, **options)**2) <= limit).all()
    assert (found >= 0).all()


def test_widths():
    assert BINS == {"hog": 8, "hof": 9, "mbhx": 8, "mbhy": 8}
    assert widths(("trajectory", "mbhy", "hof", "hog"), 2) == {"hog": 32, "hof": 36, "mbhy": 32}
    assert list(widths(NAMES, 3)) == list(NAMES)
    assert widths(NAMES, 1) == BINS
    assert widths(("trajectory",), 2) == {}


@pytest.mark.parametrize("size", [(32, 32), (32, 33), (33, 32), (45, 61), (200, 32), (32, 200), (67, 93)])
@pytest.mark.parametrize("kind", ["noise", "texture", "flat"])
def test_descriptors_equal_the_oracle(kind, size):
    grey, flow = scene(kind, *size)
    points = positions(*size)
    assert_same(described(grey, flow, points), grey, flow, points)


@pytest.mark.parametrize(("patch", "cells"), [(24, 3), (32, 1), (32, 3), (23, 2), (8, 8), (7, 3), (4, 2), (5, 1),
                                              (45, 4)])
def test_other_patches_and_cells(patch, cells):
    """A side that is no multiple of the cells leaves out its last pixels; odd sides reach further right and down."""
    grey, flow = scene("noise", 45, 61)
    points = positions(45, 61)
    assert_same(described(grey, flow, points, patch=patch, cells=cells), grey, flow, points, patch=patch, cells=cells)


@pytest.mark.parametrize(("epsilon", "threshold"), [(1e-3, 0.4), (5.0, 0.4), (0.05, 0.0), (0.05, 1.3), (0.05, 1e6)])
def test_other_constants(epsilon, threshold):
    grey, flow = scene("noise", 45, 61)
    points = positions(45, 61)
    options = {"epsilon": epsilon, "threshold": threshold}
    assert_same(described(grey, flow, points, **options), grey, flow, points, **options)


@pytest.mark.parametrize("chosen", [c for n in range(1, 5) for c in itertools.combinations(NAMES, n)])
def test_a_subset_is_the_same_numbers_side_by_side(chosen):
    grey, flow = scene("texture", 45, 61)
    points = positions(45, 61)
    whole = dict(zip(NAMES, np.split(described(grey, flow, points), [32, 68, 100], axis=1), strict=True))
    found = described(grey, flow, points, descriptors=(*reversed(chosen), "trajectory"))
    # the sum of a block of up to 36 may be made in another order
    np.testing.assert_allclose(found, np.concatenate([whole[name] for name in chosen], axis=1), rtol=gamma(40))


def test_nothing_is_wanted_or_nobody_is_there():
    grey, flow = scene("noise", 40, 40)
    assert described(grey, flow, positions(40, 40), descriptors=("trajectory",)).size == 0
    assert described(grey, flow, np.empty((0, 2), np.float32)).shape == (0, 132)


def test_sums_are_added_to_their_rows():
    grey, flow = scene("texture", 45, 61)
    points = positions(45, 61)[:5]
    once = described(grey, flow, points)
    sums = np.ones((4, 132), np.float32)
    describe(grey, flow, points, sums, np.array([2, -1, 0, 2, -1]), descriptors=NAMES, patch=32, cells=2, epsilon=0.05,
             hof_threshold=0.4)
    expected = 1 + np.stack([once[2], 0 * once[0], once[0] + once[3], 0 * once[0]])
    np.testing.assert_allclose(sums, expected, rtol=gamma(4))


def test_flat_patches_are_flat():
    grey, flow = scene("flat", 40, 50)
    found = described(grey, flow, np.float32([[20, 20]]))[0]
    hof = found[32:68].reshape(4, 9)
    np.testing.assert_allclose(np.delete(found, slice(32, 68)), np.sqrt(1 / 32), rtol=gamma(40))
    # Every pixel counts 1 in the last bin, which float32 sums exactly.
    np.testing.assert_allclose(hof[:, 8]**2, 256.05 / (4 * 256.45), rtol=gamma(48))
    np.testing.assert_allclose(hof[:, :8]**2, 0.05 / (4 * 256.45), rtol=gamma(48))


@pytest.mark.parametrize(("direction", "bins"), [((1, 0), {0: 1.0}), ((0, 1), {2: 1.0}), ((-1, 0), {4: 1.0}),
                                                ((0, -1), {6: 1.0}), ((1, 1), {1: 1.0}), ((-1, -1), {5: 1.0}),
                                                ((np.cos(np.pi / 8), np.sin(np.pi / 8)), {0: 0.5, 1: 0.5}),
                                                ((np.cos(np.pi / 8), -np.sin(np.pi / 8)), {0: 0.5, 7: 0.5})])
def test_orientation_of_a_steady_flow(direction, bins):
    """Bin 0 is centred on the x axis; between two bins the vote is split (the angle is good to 0.3 degrees)."""
    flow = np.broadcast_to(3 * np.float32(direction), (40, 50, 2)).astype(np.float32)
    hof = described(np.zeros((40, 50), np.uint8), flow, np.float32([[20, 20]]), epsilon=1e-9)[0, 32:68]
    expected = np.zeros(9)
    for place, share in bins.items():
        expected[place] = share
    np.testing.assert_allclose(hof.reshape(4, 9)**2, np.tile(expected / 4, (4, 1)), atol=2e-3)


def test_threshold_of_the_zero_bin_is_inclusive():
    """A vector as long as the threshold is still; 0.25 is exact in every precision."""
    flow = np.zeros((40, 50, 2), np.float32)
    points = np.float32([[20, 20]])
    for length, still in ((0.25, True), (np.nextafter(np.float32(0.25), np.float32(1)), False)):
        flow[..., 1] = length
        hof = described(np.zeros((40, 50), np.uint8), flow, points, threshold=0.25)[0, 32:68].reshape(4, 9)
        assert (hof[:, 8] > 0.4).all() == still
        assert (hof[:, 2] > 0.4).all() != still


def test_mbh_does_not_see_a_constant_motion():
    grey, flow = scene("texture", 45, 61)
    points = positions(45, 61)
    moved = described(grey, flow + np.float32([4, -8]), points)
    still = described(grey, flow, points)
    # The shift rounds the flow, of up to 10 px, by 8 u, a difference of two by twice that in x and in y, and a vote by
    # as much as its two bins together.
    sums, _ = blocks(grey, flow, points)
    limit = 2 * 8 * UNIT * np.sqrt(2) * 2 * 32**2 / sums[:, 68:]
    assert (np.abs(moved.astype(np.float64)**2 - still.astype(np.float64)**2)[:, 68:] <= limit).all()
    assert np.abs(moved[:, 32:68] - still[:, 32:68]).max() > 0.1


def test_cells_go_down_before_they_go_right():
    flow = np.zeros((40, 50, 2), np.float32)
    flow[20:36, 9:25] = 3, 0  # the lower left cell of the window around (25, 20)
    hof = described(np.zeros((40, 50), np.uint8), flow, np.float32([[25.4, 19.6]]))[0, 32:68].reshape(4, 9)
    assert list(hof[:, 0] > 0.5) == [False, True, False, False]


def test_windows_are_shifted_inside():
    grey, flow = scene("texture", 45, 61)
    outer = np.float32([[0.01, 0.01], [60.99, 20], [30, 44.99], [16.49, 16.5]])
    inner = np.float32([[16, 16], [45, 20], [30, 29], [16, 16]])
    np.testing.assert_array_equal(described(grey, flow, outer), described(grey, flow, inner))


def test_a_patch_far_from_the_top_of_a_tall_image():
    """The rows that are kept go round many times; rounding grows with the sum of all that is above."""
    grey, flow = scene("noise", 400, 40)
    points = np.float32([[20, 384], [20, 399.9], [20, 200]])
    assert_same(described(grey, flow, points), grey, flow, points)
