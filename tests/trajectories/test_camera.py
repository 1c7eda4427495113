"""idt.trajectories.camera: corners, key points, the homography that matches agree on, and the warped frame."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

import naive
import synthetic
from idt import Params
from idt.trajectories.camera import KeyPoints, flow_matches, good_features, homography, warp
from idt.trajectories.sampling import min_eigenvalues

pytestmark = pytest.mark.numeric


@pytest.fixture
def rng():
    return np.random.default_rng(31)


# Good features


def smooth_noise(seed, height, width):
    noise = np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 1.5), None, 0, 255, cv2.NORM_MINMAX)


def places(corners):
    return {(int(x), int(y)) for x, y in corners}


@pytest.mark.parametrize("options", [(1000, 0.001, 3.0), (1000, 0.001, 1.0), (40, 0.001, 3.0), (1000, 0.2, 7.5),
                                     (1000, 0.001, 0.0)])
@pytest.mark.parametrize("size", [(32, 33), (67, 93), (120, 160)])
@pytest.mark.parametrize("masked", [False, True])
def test_corners_are_those_of_opencv(size, options, masked):
    """The same set, but for near ties, which its other rounding may order differently: one in a hundred at most."""
    count, quality, distance = options
    for seed in range(3):
        grey = smooth_noise(seed, *size)
        mask = None
        if masked:
            mask = np.ones(size, np.uint8)
            mask[5:size[0] // 2, 8:size[1] // 2] = 0
        corners = good_features(min_eigenvalues(grey), mask, count=count, quality=quality, distance=distance)
        expected = cv2.goodFeaturesToTrack(grey, count, quality, distance, mask=mask, blockSize=3).reshape(-1, 2)
        assert corners.dtype == np.float32
        assert len(corners) > 5
        assert len(places(corners)) == len(corners)
        assert len(places(corners) ^ places(expected)) <= 0.01 * len(expected)


def slow_corners(values, mask, count, quality, distance):
    """Good features by the definition (section 7.1), equal values in row-major order."""
    height, width = values.shape
    allowed = np.ones(values.shape, bool) if mask is None else mask != 0
    threshold = np.float32(quality) * values[allowed].max(initial=0)
    peaks = [(-values[y, x], y, x) for y in range(1, height - 1) for x in range(1, width - 1)
             if allowed[y, x] and values[y, x] > threshold and values[y, x] >= values[y - 1:y + 2, x - 1:x + 2].max()]
    found = []
    for _, y, x in sorted(peaks):
        if len(found) < count and all((x - u)**2 + (y - v)**2 >= distance**2 for u, v in found):
            found.append((x, y))
    return np.array(found, np.float32).reshape(-1, 2)


@pytest.mark.parametrize("options", [(1000, 0.001, 3.0), (7, 0.001, 2.5), (1000, 0.3, 4.0), (1000, 0.0, 0.0)])
@pytest.mark.parametrize("levels", [2, 5, 1000])  # few levels: plateaus and ties everywhere
def test_corners_follow_the_definition(rng, levels, options):
    count, quality, distance = options
    for size in ((3, 3), (2, 9), (20, 31), (41, 26)):
        values = rng.integers(0, levels, size).astype(np.float32)
        for mask in (None, rng.integers(0, 2, size).astype(np.uint8)):
            np.testing.assert_array_equal(
                good_features(values, mask, count=count, quality=quality, distance=distance),
                slow_corners(values, mask, count, quality, distance))


def test_a_plateau_is_all_corners():
    """More than one pixel in four, and in row-major order."""
    found = good_features(np.ones((60, 50), np.float32), count=10_000, quality=0.5, distance=0.0)
    np.testing.assert_array_equal(found, [(x, y) for y in range(1, 59) for x in range(1, 49)])


def test_nothing_under_the_mask_counts():
    values = np.ones((20, 20), np.float32)
    values[10, 10] = 1000
    values[4, 4] = 3
    assert places(good_features(values, quality=0.5)) == {(10, 10)}
    mask = np.ones((20, 20), np.uint8)
    mask[8:13, 8:13] = 0
    assert places(good_features(values, mask, quality=0.5)) == {(4, 4)}
    assert good_features(values, np.zeros((20, 20), np.uint8)).shape == (0, 2)
    assert good_features(np.zeros((20, 20), np.float32)).shape == (0, 2)


# Matches


def test_flow_matches_read_the_flow_at_the_corner(rng):
    flow = rng.normal(size=(20, 30, 2)).astype(np.float32)
    corners = np.float32([[3, 5], [29, 19], [0, 0]])
    source, target = flow_matches(corners, flow)
    np.testing.assert_array_equal(source, corners)
    np.testing.assert_array_equal(target, corners + flow[[5, 19, 0], [3, 29, 0]])
    assert [a.shape for a in flow_matches(np.empty((0, 2), np.float32), flow)] == [(0, 2), (0, 2)]


METHODS = ("orb", "akaze", "sift")


@pytest.mark.parametrize("method", METHODS)
def test_key_points_follow_a_shift(method):
    frames = synthetic.pan((6.0, -4.0), frames=3, height=150, width=200).frames
    finder = KeyPoints(method, window=25.0)
    assert [a.shape for a in finder.matches(frames[0], None)] == [(0, 2), (0, 2)]
    for frame in frames[1:]:
        source, target = finder.matches(frame, None)
        assert source.shape == target.shape
        assert len(source) > 50
        assert np.abs(target - source).max() < 25
        np.testing.assert_allclose(np.median(target - source, axis=0), (6, -4), atol=0.2)


@pytest.mark.parametrize("method", METHODS)
def test_key_points_match_only_within_the_window(method):
    frames = synthetic.pan((30.0, 0.0), frames=2, height=150, width=200).frames
    for window, near in ((25.0, False), (35.0, True)):
        finder = KeyPoints(method, window=window)
        finder.matches(frames[0], None)
        source, target = finder.matches(frames[1], None)
        move = target - source
        assert (np.abs(move) < window).all()
        right = (np.abs(move - (30, 0)) < 1).all(1).mean()
        assert right > 0.5 if near else right == 0


@pytest.mark.parametrize("method", METHODS)
def test_key_points_outside_the_mask_and_of_flat_frames(method):
    frames = synthetic.pan((2.0, 1.0), frames=3, height=150, width=200).frames
    flat = np.full((150, 200), 90, np.uint8)
    mask = np.ones((150, 200), np.uint8)
    mask[:, 100:] = 0
    finder = KeyPoints(method, window=25.0)
    finder.matches(frames[0], mask)
    source, target = finder.matches(frames[1], mask)
    assert len(source) > 20
    assert max(source[:, 0].max(), target[:, 0].max()) < 101
    for frame in (flat, flat, frames[2]):
        assert len(finder.matches(frame, None)[0]) == 0
    finder.matches(flat, None)
    assert len(finder.matches(frames[2], np.zeros_like(mask))[0]) == 0


# The homography


def agreeing(rng, n, outliers=0, noise=0.0):
    """`n` matches that agree on a homography, and `outliers` that do not."""
    truth = synthetic.similarity(2.0, 1.03, (80, 60)) @ synthetic.translation(3, -2)
    truth[2, :2] = 1e-4, -5e-5
    source = rng.uniform(0, (160, 120), (n + outliers, 2))
    target = np.stack(synthetic.map_points(truth, *source.T), axis=1) + rng.normal(0, noise, source.shape)
    target[n:] += rng.uniform(5, 20, (outliers, 2))
    return truth, source.astype(np.float32), target.astype(np.float32)


def corner_error(a, b, width=160, height=120):
    x, y = np.array([0, width - 1, 0, width - 1.0]), np.array([0, 0, height - 1, height - 1.0])
    return np.hypot(*np.subtract(synthetic.map_points(a, x, y), synthetic.map_points(b, x, y))).max()


@pytest.mark.parametrize(("n", "outliers", "noise", "limit"), [(60, 0, 0.0, 1e-3), (200, 150, 0.0, 1e-3),
                                                              (500, 300, 0.1, 0.1)])
def test_homography_of_matches(rng, n, outliers, noise, limit):
    truth, source, target = agreeing(rng, n, outliers, noise)
    found = homography(source, target, Params())
    assert found.dtype == np.float64
    assert found.shape == (3, 3)
    assert corner_error(found, truth) < limit


@pytest.mark.parametrize("outliers", [0.0, 0.3, 0.6, 0.75])
def test_homography_is_as_good_as_that_of_opencv(outliers):
    """With the wrong matches spread over the frame and the right ones 0.3 px off, over several draws."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        truth, source, target = agreeing(rng, 600, noise=0.3)
        wrong = rng.uniform(size=600) < outliers
        target[wrong] = rng.uniform(0, (160, 120), (wrong.sum(), 2))
        found = homography(source, target, Params())
        expected, _ = cv2.findHomography(source, target, cv2.RANSAC, 1.0, maxIters=2000, confidence=0.995)
        assert corner_error(found, truth) < max(0.25, 1.2 * corner_error(expected, truth))
        assert inliers(found, source, target) > 0.99 * inliers(expected, source, target)


def inliers(h, source, target):
    """Matches that `h` takes to within a pixel."""
    return (np.hypot(*np.subtract(synthetic.map_points(h, *source.T.astype(float)), target.T)) <= 1).sum()


def test_homography_of_very_many_matches():
    """A first draw that hits next to nothing must not end the search; of 99000, 60 % are wrong."""
    for seed in range(2):
        rng = np.random.default_rng(seed)
        truth = synthetic.similarity(2, 1.01, (1900, 1000))
        source = rng.uniform(0, (3840, 2160), (99_000, 2))
        target = np.stack(synthetic.map_points(truth, *source.T), axis=1)
        target[:60_000] = rng.uniform(0, (3840, 2160), (60_000, 2))
        found = homography(source.astype(np.float32), target.astype(np.float32), Params())
        assert found is not None
        assert corner_error(found, truth, 3840, 2160) < 0.05


def test_homography_needs_more_than_the_limits(rng):
    _, source, target = agreeing(rng, 60)
    assert homography(source[:50], target[:50], Params()) is None
    assert homography(source[:51], target[:51], Params()) is not None
    assert homography(source[:50], target[:50], Params(min_matches=49)) is not None
    target[25:] += rng.uniform(20, 900, (35, 2)).astype(np.float32)  # 25 inliers are too few
    assert homography(source, target, Params()) is None
    assert homography(source, target, Params(min_inliers=24)) is not None


@pytest.mark.parametrize("points", [
    np.empty((0, 2)), np.full((80, 2), 7.0), np.column_stack([np.arange(80.0), np.full(80, 3.0)]),
    np.full((80, 2), np.nan)])
def test_matches_that_tell_nothing(points):
    points = points.astype(np.float32)
    found = homography(points, points, Params(min_matches=4))
    assert found is None or np.isfinite(found).all()


def test_homography_does_not_depend_on_chance(rng):
    _, source, target = agreeing(rng, 120, 100, 0.2)
    first = homography(source, target, Params())
    for seed in (1, 2):
        cv2.setRNGSeed(seed)
        np.testing.assert_array_equal(homography(source, target, Params()), first)


def test_inliers_are_counted_up_to_the_threshold(rng):
    truth, source, target = agreeing(rng, 100)
    target[60:] += 3.0
    near, far = (homography(source, target, Params(ransac_threshold=t)) for t in (1.0, 5.0))
    assert corner_error(near, truth) < 1e-3
    assert corner_error(far, truth) > 0.5


# The warped frame


def perspective(a, b):
    h = np.eye(3)
    h[2, :2] = a, b
    return h


WARPS = {
    "identity": np.eye(3), "integer": synthetic.translation(3, -2), "fraction": synthetic.translation(-0.37, 1.234),
    "turn": synthetic.similarity(7, 1.1, (30, 20)), "smaller": synthetic.similarity(-20, 0.4, (20, 20)),
    "perspective": perspective(0.002, -0.003) @ synthetic.translation(2, 2),
    "other scale": 3.0 * synthetic.translation(1, 1),
    "horizon inside": perspective(-1 / 20, 0), "outside": synthetic.translation(1e9, 0), "zero": np.zeros((3, 3)),
    "to one point": np.array([[0, 0, 15.3], [0, 0, 12.8], [0, 0, 1.0]])}


@pytest.mark.parametrize("size", [(32, 33), (33, 200), (67, 45), (12, 12), (5, 9)])
@pytest.mark.parametrize("name", WARPS)
def test_warp_is_exact(rng, name, size):
    previous, current = rng.integers(0, 256, (2, *size), np.uint8)
    before = previous.copy(), current.copy()
    with np.errstate(all="ignore"):
        expected = naive.warp(previous, current, WARPS[name])
    found = warp(previous, current, WARPS[name])
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(previous, before[0])
    np.testing.assert_array_equal(current, before[1])


def test_warp_takes_any_memory_order(rng):
    previous, current = rng.integers(0, 256, (2, 40, 50), np.uint8)
    h = WARPS["turn"]
    np.testing.assert_array_equal(warp(previous, current, np.asfortranarray(h)), warp(previous, current, h))
