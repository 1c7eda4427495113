"""The oracles against analytic facts, OpenCV where they are meant to equal it, and the original program's rows."""

from __future__ import annotations

import numpy as np
import pytest

import naive
import synthetic
from idt.flow.tvl1 import PRESETS, TVL1Params
from idt.params import Params

cv2 = pytest.importorskip("cv2")


@pytest.fixture
def rng():
    return np.random.default_rng(7)


# Scales and grey pyramid


@pytest.mark.parametrize(("size", "number"), [((160, 120), 4), ((176, 144), 5), ((320, 240), 6), ((640, 480), 8),
                                              ((400, 256), 7), ((64, 64), 3), ((128, 200), 5), ((20, 20), 1)])
def test_number_of_scales(size, number):
    assert len(naive.scale_factors(*size)) == number


def test_scale_factors_accumulate_in_float32():
    factors = naive.scale_factors(640, 480)
    assert factors.dtype == np.float32
    assert factors[2] == np.float32(1.9999999)
    assert factors[4] < 4
    np.testing.assert_allclose(factors, 2 ** (np.arange(8) / 2), rtol=3e-7)
    assert len(naive.scale_factors(640, 480, scales=2)) == 2
    assert naive.scale_sizes(160, 120, factors[:4]) == [(160, 120), (113, 85), (80, 60), (57, 42)]


def test_blur_widths_and_kernels():
    taps = [naive.flow_blur_taps(s) for s in naive.scale_factors(640, 480)]
    assert [len(t) for t in taps] == [3, 3, 3, 5, 7, 13, 17, 27]
    np.testing.assert_array_equal(taps[0], [0.25, 0.5, 0.25])
    assert taps[1][1] > 0.9999
    for t in taps:
        assert t.sum() == pytest.approx(1)


@pytest.mark.parametrize(("size", "target"), [((160, 120), (113, 85)), ((113, 85), (80, 60)), ((161, 97), (114, 69)),
                                              ((33, 47), (23, 33)), ((45, 64), (32, 45)), ((320, 240), (226, 170))])
def test_grey_resize_equals_opencv_byte_for_byte(rng, size, target):
    grey = rng.integers(0, 256, size[::-1], dtype=np.uint8)
    np.testing.assert_array_equal(naive.resize_grey(grey, *target), cv2.resize(grey, target))


def test_grey_pyramid_is_a_cascade(rng):
    grey = rng.integers(0, 256, (72, 96), dtype=np.uint8)
    levels = naive.grey_pyramid(grey, [(96, 72), (68, 51), (48, 36)])
    assert levels[0] is grey
    np.testing.assert_array_equal(levels[2], cv2.resize(cv2.resize(grey, (68, 51)), (48, 36)))


@pytest.mark.parametrize("shape", [(50, 71), (50, 71, 2)])
def test_float_resize_equals_opencv(rng, shape):
    image = rng.normal(size=shape).astype(np.float32)
    np.testing.assert_allclose(naive.resize_float(image, 100, 70), cv2.resize(image, (100, 70)), atol=5e-5)


# Sampling


def test_min_eigenvalues_equal_opencv_up_to_its_factor(rng):
    grey = rng.integers(0, 256, (40, 53), dtype=np.uint8)
    expected = cv2.cornerMinEigenVal(grey, 3, ksize=3).astype(np.float64) * (4 * 3 * 255) ** 2
    np.testing.assert_allclose(naive.min_eigenvalues(grey), expected, rtol=1e-4, atol=1e-5 * expected.max())


def test_min_eigenvalue_of_an_edge_is_zero_and_of_a_checker_is_not():
    edge = np.tile(np.repeat(np.uint8([10, 200]), 20), (30, 1))
    assert not naive.min_eigenvalues(edge).any()
    ramp = np.add.outer(3 * np.arange(20), 5 * np.arange(20)).astype(np.uint8)
    assert naive.min_eigenvalues(ramp)[10, 10] == 0
    corner = np.zeros((30, 30), np.uint8)
    corner[15:, 15:] = 255
    assert np.unravel_index(naive.min_eigenvalues(corner).argmax(), (30, 30)) in {(14, 14), (15, 15)}


def test_sampling_grid_occupancy_and_order(rng):
    grey = rng.integers(0, 256, (23, 37), dtype=np.uint8)
    free = naive.sample_points(grey, np.zeros((0, 2)))
    assert free.dtype == np.float32
    expected = [(5 * j + 2, 5 * i + 2) for i in range(4) for j in range(7)]
    np.testing.assert_array_equal(free, expected)
    rest = naive.sample_points(grey, np.array([[4.99, 0.1], [5.0, 9.9], [36.5, 3.0], [3.0, 22.0]]))
    np.testing.assert_array_equal(rest, [p for p in expected if p not in {(2, 2), (7, 7)}])
    np.testing.assert_array_equal(naive.sample_points(grey, np.zeros((0, 2)), stride=8),
                                  [(8 * j + 4, 8 * i + 4) for i in range(2) for j in range(4)])


def test_sampling_threshold_is_strict_and_relative(rng):
    assert len(naive.sample_points(np.full((30, 30), 9, np.uint8), np.zeros((0, 2)))) == 0
    faint = np.full((30, 30), 9, np.uint8)
    faint[::2, ::2] += 1
    strong = np.full((30, 30), 9, np.uint8)
    strong[::2, ::2] += 200
    np.testing.assert_array_equal(naive.sample_points(faint, np.zeros((0, 2))),
                                  naive.sample_points(strong, np.zeros((0, 2))))
    grey = rng.integers(0, 256, (30, 30), dtype=np.uint8)
    assert len(naive.sample_points(grey, np.zeros((0, 2)), quality=1.0)) == 0


# Flow


@pytest.mark.parametrize("k", [0, 1, 2, 3, 4, 5])
def test_flow_pyramid_equals_opencv(rng, k):
    grey = rng.integers(0, 256, (120, 161), dtype=np.uint8)
    factor = naive.scale_factors(1000, 1000)[k]
    width, sigma = [(3, 0), (3, 0.2071068), (3, 0.49999994), (5, 0.9142135), (7, 1.4999998), (13, 2.3284268)][k]
    assert len(naive.flow_blur_taps(factor)) == width
    blurred = cv2.GaussianBlur(grey.astype(np.float32), (width, width), sigma)
    expected = cv2.resize(blurred, naive.scale_sizes(161, 120, factor[None])[0])
    np.testing.assert_allclose(naive.flow_pyramid_level(grey, k), expected, atol=2e-3)


def test_expansion_of_a_quadratic_gives_its_coefficients():
    y, x = np.mgrid[:40, :50].astype(np.float64)
    image = 20 + 3 * x - 2 * y + 0.05 * x**2 - 0.03 * y**2 + 0.02 * x * y
    b_x, b_y, a_xx, a_yy, a_xy = np.moveaxis(naive.polynomial_expansion(image)[7:-7, 7:-7], 2, 0)
    x, y = x[7:-7, 7:-7], y[7:-7, 7:-7]
    np.testing.assert_allclose(b_x, 3 + 0.1 * x + 0.02 * y, rtol=1e-5)
    np.testing.assert_allclose(b_y, -2 - 0.06 * y + 0.02 * x, rtol=1e-5, atol=1e-5)
    for value, expected in ((a_xx, 0.05), (a_yy, -0.03), (a_xy, 0.02)):
        np.testing.assert_allclose(value, expected, rtol=1e-5)


@pytest.mark.parametrize(("row", "column"), [(12, 9), (0, 0), (19, 3), (2, 22)])
def test_expansion_is_the_weighted_least_squares_fit(rng, row, column):
    image = rng.uniform(0, 255, (20, 23))
    y, x = (v.ravel() for v in np.mgrid[-7:8, -7:8])
    values = image[np.clip(row + y, 0, 19), np.clip(column + x, 0, 22)]
    root = np.exp(-(x**2 + y**2) / (4 * 1.5**2))
    basis = np.stack([np.ones_like(x), x, y, x**2, y**2, x * y], axis=1)
    fit = np.linalg.lstsq(basis * root[:, None], values * root, rcond=None)[0]
    np.testing.assert_allclose(naive.polynomial_expansion(image)[row, column], fit[1:], rtol=1e-5, atol=1e-5)


def quadratic_expansion(d):
    """Expansion of x^2 + 2 y^2 + x y, moved by d."""
    y, x = np.mgrid[:40, :50].astype(np.float64)
    x, y = x - d[0], y - d[1]
    ones = np.ones_like(x)
    return np.stack([2 * x + y, 4 * y + x, ones, 2 * ones, ones], axis=2).astype(np.float32)


@pytest.mark.parametrize("start", [(0, 0), (1.5, -2.25)])
def test_update_finds_the_shift_of_a_quadratic_from_any_start(start):
    d = (0.7, -0.4)
    flow = np.full((40, 50, 2), start, np.float32)
    found = naive.farneback_update(quadratic_expansion((0, 0)), quadratic_expansion(d), flow)
    np.testing.assert_allclose(found[12:-12, 12:-12], np.broadcast_to(d, (16, 26, 2)), atol=2e-3)


def test_update_outside_the_image_takes_the_first_image_alone():
    matrix, b, start = np.array([[2.0, 0.5], [0.5, 3.0]]), np.array([4.0, -2.0]), np.array([1000.0, 3.0])
    p = np.broadcast_to([*b, 2.0, 3.0, 1.0], (30, 40, 5)).astype(np.float32)
    found = naive.farneback_update(p, -7 * p, np.full((30, 40, 2), start, np.float32))
    expected = start + np.linalg.solve(matrix, b / 2)
    np.testing.assert_allclose(found[8:-8, 8:-8], np.broadcast_to(expected, (14, 24, 2)), rtol=1e-4)
    # in the corner the damped determinant is small enough for the 1e-3 to count
    assert found[0, 0, 0] < expected[0] - 0.01


def test_border_weights_of_both_sides_multiply():
    np.testing.assert_allclose(naive._border_weights(12), [0.14, 0.14, *[0.4472] * 3, 1, 1, *[0.4472] * 3, 0.14, 0.14])
    np.testing.assert_allclose(naive._border_weights(4), [0.14 * 0.4472, 0.14 * 0.4472, 0.14 * 0.4472, 0.14 * 0.4472])


def test_single_level_equals_opencv_before_the_median():
    clip = synthetic.pan((1.25, -0.5), frames=2)
    a, b = clip.frames
    p, c = naive.flow_expansions(a, 1)[0], naive.flow_expansions(b, 1)[0]
    flow = np.zeros((*a.shape, 2), np.float32)
    for _ in range(2):
        flow = naive.farneback_update(p, c, flow)
    expected = cv2.calcOpticalFlowFarneback(a, b, None, 0.5, 0, 10, 2, 7, 1.5, cv2.OPTFLOW_FARNEBACK_GAUSSIAN)
    np.testing.assert_allclose(flow, expected, atol=1e-4)


def test_upsampling_multiplies_by_root_two():
    up = naive.upsample_flow(np.full((10, 14, 2), (1.0, -2.0), np.float32), 20, 15)
    assert up.shape == (15, 20, 2)
    assert up.dtype == np.float32
    np.testing.assert_allclose(up, np.broadcast_to((2**0.5, -(2**1.5)), (15, 20, 2)), rtol=1e-6)


def test_median(rng):
    constant = np.full((9, 8, 2), (0.25, -3), np.float32)
    np.testing.assert_array_equal(naive.median5(constant), constant)
    flow = rng.normal(size=(9, 8, 2)).astype(np.float32)
    found = naive.median5(flow)
    for row, column in ((0, 0), (4, 4), (8, 2)):
        rows, columns = np.clip(row + np.arange(-2, 3), 0, 8), np.clip(column + np.arange(-2, 3), 0, 7)
        np.testing.assert_array_equal(found[row, column], np.median(flow[np.ix_(rows, columns)], axis=(0, 1)))
    np.testing.assert_array_equal(found[..., 1], cv2.medianBlur(np.ascontiguousarray(flow[..., 1]), 5))


@pytest.mark.parametrize("velocity", [(1.5, -0.75), (-3.0, 2.0)])
def test_flow_of_a_pan(velocity):
    clip = synthetic.pan(velocity, frames=2)
    flows = naive.farneback(*clip.frames, 3)
    assert [f.shape for f in flows] == [(72, 96, 2), (51, 68, 2), (36, 48, 2)]
    for k, flow in enumerate(flows):
        error = np.abs(flow * naive.scale_factors(96, 72)[k] - velocity)[10:-10, 10:-10]
        assert np.median(error) < 0.05
    assert np.abs(flows[0] - clip.flow[1])[10:-10, 10:-10].max() < 0.2


def test_flow_of_equal_frames_is_zero():
    clip = synthetic.still(frames=2)
    inner = naive.farneback(*clip.frames, 3)[0][8:-8, 8:-8]
    assert np.abs(inner).max() < 1e-4
    assert not naive.farneback(*synthetic.flat(frames=2).frames, 1)[0].any()


# TV-L1 flow


def opencv_tvl1(a, b, params):
    return cv2.optflow.DualTVL1OpticalFlow_create(
        params.tau, params.lambda_, params.theta, params.scales, params.warps, params.epsilon, params.iterations, 1,
        params.scale_step, 0.0, 1, False).calc(a, b, None)


@pytest.mark.parametrize("size", [(49, 67), (48, 64), (17, 16), (2, 9), (5, 3)])
@pytest.mark.parametrize("options", [{}, {"epsilon": 0.0, "iterations": 40}, {"epsilon": 0.05},
                                     {"tau": 0.2, "lambda_": 0.4, "theta": 0.5}, {"lambda_": 0.05, "iterations": 1}])
def test_first_warp_of_tvl1_equals_opencv(options, size):
    """Before anything moves there is no border and no place between pixels, so that nothing is left to differ."""
    params = TVL1Params(scales=1, warps=1, **options)
    for clip in (synthetic.pan((1.5, -0.75), frames=2, height=size[0], width=size[1]),
                 synthetic.moving_square((4, -3), frames=2, height=size[0], width=size[1])):
        np.testing.assert_allclose(naive.tvl1(*clip.frames, params), opencv_tvl1(*clip.frames, params), atol=1e-4)


@pytest.mark.parametrize(("options", "largest", "mean"), [
    ({"scales": 1, "warps": 2, "epsilon": 0.0, "iterations": 30}, 0.1, 0.01),
    ({"scales": 3, "warps": 1, "epsilon": 0.0, "iterations": 30}, 0.1, 0.01), ({}, 0.2, 0.02)])
def test_tvl1_is_near_opencv_away_from_the_sides(options, largest, mean):
    """In px. OpenCV rounds places to 1/32 px, and by its sides it compares with zeros."""
    for clip in (synthetic.pan((1.5, -0.75), frames=2, height=61, width=83),
                 synthetic.turn(2, 1.03, frames=2, height=60, width=80)):
        params = TVL1Params(**options)
        difference = naive.tvl1(*clip.frames, params) - opencv_tvl1(*clip.frames, params)
        assert np.abs(difference)[10:-10, 10:-10].max() < largest
        assert np.abs(difference)[10:-10, 10:-10].mean() < mean


@pytest.mark.parametrize("step", [0.5, 0.8, 0.9])
@pytest.mark.parametrize("size", [(50, 40), (61, 45), (33, 128)])
def test_tvl1_pyramid_equals_opencv(rng, size, step):
    params = TVL1Params(scales=3, scale_step=step)
    image = rng.integers(0, 256, size[::-1], np.uint8)
    expected = image.astype(np.float32)
    for k, level in enumerate(naive.tvl1_pyramid(image, params)):
        if k:
            expected = cv2.resize(expected, None, fx=step, fy=step)
        np.testing.assert_allclose(level, expected, atol=2e-3)


def test_tvl1_flow_is_enlarged_as_by_opencv(rng):
    flow = rng.normal(0, 5, (37, 49, 2)).astype(np.float32)
    expected = cv2.resize(flow, (61, 46)) / 0.8
    np.testing.assert_allclose(naive.tvl1_enlarge(flow, 61, 46, TVL1Params()), expected, atol=1e-3)


def test_divergence_is_the_negative_adjoint_of_the_gradient(rng):
    field, p = rng.normal(size=(9, 7)), rng.normal(size=(2, 9, 7))
    assert (naive.forward_gradient(field) * p).sum() == pytest.approx(-(field * naive.divergence(p)).sum())


@pytest.mark.parametrize("name", ["cubic", "keys", "linear"])
def test_interpolation_weights(name):
    fraction = np.linspace(0, 1, 11)
    weights = naive.interpolation_weights(fraction, name)
    np.testing.assert_allclose(weights.sum(0), 1)
    np.testing.assert_allclose(weights[:, 0], [0, 1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(weights[::-1], naive.interpolation_weights(1 - fraction, name), atol=1e-12)
    place = np.arange(-1, 3)[:, None]
    np.testing.assert_allclose((weights * place).sum(0), fraction, atol=0.11 if name == "cubic" else 1e-12)
    if name == "keys":  # exact for parabolas, which the sharper one is not
        np.testing.assert_allclose((weights * place**2).sum(0), fraction**2, atol=1e-12)
    if name == "cubic":  # as OpenCV has it, at places that it does not round
        row = np.float32([[10, 20, 90, 40, 70, 30]])
        found = cv2.remap(row, np.float32([[2.25, 2.5, 2.75]]), np.zeros((1, 3), np.float32), cv2.INTER_CUBIC,
                          borderMode=cv2.BORDER_REPLICATE)
        weights = naive.interpolation_weights(np.array([0.25, 0.5, 0.75]), name)
        np.testing.assert_allclose(found[0], row[0, 1:5] @ weights, rtol=1e-4)


def test_warp_of_tvl1_by_whole_pixels_and_out_of_the_image(rng):
    image = rng.uniform(0, 255, (12, 15))
    flow = np.zeros((12, 15, 2))
    flow[3, 4], flow[5, 0], flow[6, 14], flow[7, 7] = (2, -3), (-0.01, 0), (0.01, 0), (0, 4)
    warped, gradient, inside = naive.tvl1_warp(image, flow, "cubic")
    expected = np.ones((12, 15), bool)
    expected[5, 0] = expected[6, 14] = False
    np.testing.assert_array_equal(inside, expected)
    assert warped[3, 4] == pytest.approx(image[0, 6])
    assert warped[7, 7] == pytest.approx(image[11, 7])
    np.testing.assert_allclose(warped[8:], image[8:])
    assert gradient[3, 4] == pytest.approx([(image[0, 7] - image[0, 5]) / 2, (image[1, 6] - image[0, 6]) / 2])
    assert gradient[9, 5] == pytest.approx([(image[9, 6] - image[9, 4]) / 2, (image[10, 5] - image[8, 5]) / 2])


@pytest.mark.parametrize("preset", PRESETS)
def test_tvl1_of_a_pan(preset):
    clip = synthetic.pan((1.5, -0.75), frames=2, height=40, width=48)
    error = np.abs(naive.tvl1(*clip.frames, PRESETS[preset]) - clip.flow[1])[8:-8, 8:-8]
    assert error.mean() < 0.05
    assert not naive.tvl1(clip.frames[0], clip.frames[0], PRESETS[preset]).any()


# Warp and people


def test_warp_with_identity_keeps_the_border_of_the_previous(rng):
    previous, current = rng.integers(0, 256, (2, 40, 50), dtype=np.uint8)
    expected = previous.copy()
    expected[6:34, 6:44] = current[6:34, 6:44]
    np.testing.assert_array_equal(naive.warp(previous, current, np.eye(3)), expected)


def test_warp_with_an_integer_translation(rng):
    previous, current = rng.integers(0, 256, (2, 40, 50), dtype=np.uint8)
    expected = previous.copy()
    expected[8:36, 3:41] = current[6:34, 6:44]  # p goes to p + (3, -2)
    np.testing.assert_array_equal(naive.warp(previous, current, synthetic.translation(3, -2)), expected)


def test_warp_rounds_to_a_32nd_and_to_8_bits(rng):
    previous, current = rng.integers(0, 256, (2, 40, 50), dtype=np.uint8)
    a, b = current[20, 20].astype(float), current[20, 21].astype(float)
    for shift, weight in ((0.5, 0.5), (10.4 / 32, 10 / 32), (10.5 / 32, 10 / 32), (11.5 / 32, 12 / 32)):
        found = naive.warp(previous, current, synthetic.translation(shift, 0))[20, 20]
        assert found == np.floor(a + weight * (b - a) + 0.5)


def test_warp_undoes_the_camera():
    clip = synthetic.turn(frames=2)
    previous, current = (f.astype(float) for f in clip.frames)
    warped = naive.warp(*clip.frames, clip.homographies[1])
    error = np.abs(warped - previous)[7:-7, 7:-7]  # what bilinear interpolation loses of waves of 6 px
    assert error.max() <= 12
    assert error.mean() < 0.3 * np.abs(current - previous)[7:-7, 7:-7].mean()


def test_person_mask_is_inclusive_and_clipped():
    mask = naive.person_mask(np.array([[1.2, 2.0, 3.9, 4.0], [-50, 7.5, 0.5, 900]]), (10, 8))
    expected = np.ones((10, 8), np.uint8)
    expected[2:5, 2:4] = 0
    expected[8:10, 0] = 0
    np.testing.assert_array_equal(mask, expected)
    assert naive.person_mask(np.zeros((0, 4)), (3, 3)).all()


# Descriptors


def test_angle_exact_and_approximate(rng):
    x, y = rng.normal(size=(2, 500)).astype(np.float32)
    exact, approximate = naive.angle(x, y), naive.angle(x, y, approximate=True)
    np.testing.assert_allclose(exact, np.degrees(np.arctan2(y, x)) % 360, rtol=1e-6)
    np.testing.assert_allclose(approximate, [cv2.fastAtan2(float(b), float(a)) for a, b in zip(x, y, strict=True)],
                               atol=1e-3)
    assert 0 < np.abs(exact - approximate).max() < 0.3
    for option in (False, True):
        found = naive.angle(np.array([1, 0, -1, 0, 0.0]), np.array([0, 1, 0, -1, 0.0]), approximate=option)
        np.testing.assert_allclose(found, [0, 90, 180, 270, 0], atol=1e-9)


def test_votes_go_to_the_two_nearest_bins():
    degrees = np.array([0, 45, 11.25, 350])
    votes = naive.orientation_votes(2 * np.cos(np.radians(degrees))[None], 2 * np.sin(np.radians(degrees))[None])[0]
    expected = np.zeros((4, 8))
    expected[0, 0] = expected[1, 1] = 2
    expected[2, :2] = 1.5, 0.5
    share = 350 * 8 / 360 - 7
    expected[3, 7], expected[3, 0] = 2 * (1 - share), 2 * share
    np.testing.assert_allclose(votes, expected, atol=1e-9)


def test_votes_keep_the_magnitude(rng):
    x, y = rng.normal(size=(2, 20, 30))
    for option in (False, True):
        np.testing.assert_allclose(naive.orientation_votes(x, y, approximate=option).sum(2), np.hypot(x, y))


def test_hog_votes_of_a_ramp():
    votes = naive.hog_votes(np.tile(np.arange(0, 60, 3, dtype=np.uint8), (12, 1)))
    assert not votes[:, [0, -1]].any()
    np.testing.assert_allclose(votes[:, 1:-1, 0], 6)
    assert not votes[..., 1:].any()
    np.testing.assert_allclose(naive.hog_votes(np.full((9, 9), 7, np.uint8)), 0)


def test_hof_votes_count_still_pixels():
    flow = np.array([[[0.4, 0], [0.25, 0.25], [0, -0.5]]])
    votes = naive.hof_votes(flow)
    np.testing.assert_allclose(votes[0], [[*[0] * 8, 1], [*[0] * 8, 1], [*[0] * 6, 0.5, 0, 0]], atol=1e-9)
    assert naive.hof_votes(flow, 0.3)[0, 0, 0] == pytest.approx(0.4)


def test_mbh_votes_ignore_constant_motion():
    y, x = np.mgrid[:10, :12].astype(np.float32)
    flow = np.stack([7 + 0.5 * y, 0 * x - 3], axis=2)
    mbhx = naive.mbh_votes(flow, 0)
    np.testing.assert_allclose(mbhx[1:-1, :, 2], 1)
    np.testing.assert_allclose(mbhx.sum(2)[[0, -1]], 0)
    assert not naive.mbh_votes(flow, 1).any()


def test_patch_descriptor_order_and_norm():
    votes = np.zeros((40, 50, 2))
    votes[4:20, 9:25, 0] = 1  # upper left cell of the window around (25, 20)
    votes[20:36, 9:25, 1] = 1  # below it
    found = naive.patch_descriptor(votes, 25.4, 19.6)
    raw = np.full(8, 0.05)
    raw[0] += 256
    raw[3] += 256  # second cell is the one below
    np.testing.assert_allclose(found, np.sqrt(raw / raw.sum()))
    assert (found**2).sum() == pytest.approx(1)


def test_patch_descriptor_shifts_the_window_inside(rng):
    votes = rng.uniform(size=(40, 50, 3))
    corner = naive.patch_descriptor(votes, 16, 16)
    np.testing.assert_array_equal(naive.patch_descriptor(votes, 0.3, 2), corner)
    np.testing.assert_array_equal(naive.patch_descriptor(votes, 49.9, 39.9), naive.patch_descriptor(votes, 34, 24))
    odd = naive.patch_descriptor(votes, 20, 20, patch=23, cells=3, epsilon=1.0)
    first = votes[9:16, 9:16].sum((0, 1)) + 1  # 23 // 2 = 11 to the left, cells of 23 // 3 = 7
    np.testing.assert_allclose((odd**2)[:3] / (odd**2)[0], first / first[0])


def test_temporal_pooling_ignores_left_over_steps():
    steps = np.arange(17)[:, None] * np.array([1.0, 10.0])
    np.testing.assert_allclose(naive.temporal_pool(steps, 3), [2, 20, 7, 70, 12, 120])


# Tracks


def test_track_step_reads_the_nearest_pixel_and_drops_outside():
    flow = np.zeros((30, 40, 2), np.float32)
    flow[10, 20] = 0.5, -1
    flow[0, 5] = 0, -0.25
    points = np.array([[20.5, 9.5], [39.9, 29.9], [5, 0.25], [1, 1], [19.5, 10]], np.float32)
    flow[1, 1] = -1, 0
    moved, alive = naive.track_step(points, flow)
    np.testing.assert_array_equal(alive, [True, True, False, False, True])
    np.testing.assert_array_equal(moved[[0, 1, 4]], np.float32([[21, 8.5], [39.9, 29.9], [20, 9]]))
    assert moved.dtype == np.float32


def line(step_x, step_y=0.0, steps=15):
    return np.arange(steps + 1)[:, None] * np.array([step_x, step_y]) + 30


def test_shape_of_a_straight_track():
    points, moves = line(2, 1), np.tile([1.5, 2.0], (15, 1))
    shape = naive.trajectory_shape(points, moves)
    assert shape.mean == pytest.approx([45, 37.5])
    assert shape.std == pytest.approx([2 * np.sqrt(255 / 12), np.sqrt(255 / 12)])
    assert shape.length == pytest.approx(15 * np.sqrt(5))
    np.testing.assert_allclose(shape.trajectory, np.tile([0.6, 0.8], 15) / 15)


@pytest.mark.parametrize(("points", "valid"), [
    (line(0.37), False), (line(0.38), True),  # standard deviation is 4.61 steps, the limit 1.732
    (line(10.8), True), (line(10.9), False),  # limit 50
    (np.concatenate([line(0.1, steps=14), [[52, 30]]]), False),  # one step of 20.6 px, nearly the whole way
    (np.concatenate([line(1.0, steps=14), [[65, 30]]]), True),  # 21 px, but only 60 % of the way
])
def test_validity_of_tracks(points, valid):
    assert (naive.trajectory_shape(points, np.tile([2.0, 0.0], (15, 1))) is not None) is valid


def test_camera_test_looks_at_the_longest_stabilised_step():
    moves = np.zeros((15, 2))
    moves[3] = 0.6, 0.8
    assert naive.trajectory_shape(line(1), moves) is None
    moves[3] = 0.61, 0.8
    assert naive.trajectory_shape(line(1), moves) is not None
    shape = naive.trajectory_shape(line(1), np.zeros((15, 2)), Params(camera=False))
    assert not shape.trajectory.any()


# Everything together


def test_camera_removal_leaves_the_square():
    clip = synthetic.moving_square((1.5, 0.5), camera=synthetic.translation(-1.0, 0.5), frames=11)
    params = Params(length=9)
    rows = naive.improved_trajectories(clip.frames, clip.homographies, params)
    everything = naive.improved_trajectories(clip.frames, clip.homographies, Params(length=9, camera=False))
    assert 0 < len(rows["frame"]) < len(everything["frame"]) / 2
    squares = [np.argwhere(moving)[:, ::-1] for moving in clip.moving]
    low, high = np.array([s.min(0) for s in squares]), np.array([s.max(0) for s in squares])
    for frame, scale, points in zip(rows["frame"], rows["scale"], rows["points"], strict=True):
        # a track may be left behind by the square, but some step of it lies in the reach of the flow's window
        span, reach = slice(frame - params.length, frame + 1), 5 * scale
        assert ((points > low[span] - reach) & (points < high[span] + reach)).all(1).any()


def test_rows_agree_with_their_points():
    clip = synthetic.pan((1.5, 0.5), frames=18, height=44, width=56)
    params = Params(camera=False, length=6, temporal_cells=2, spatial_cells=1, resample=2, start=3, end=15)
    rows = naive.improved_trajectories(clip.frames, None, params)
    n = len(rows["frame"])
    assert n > 50
    assert {k: v.shape for k, v in rows.items()} == {
        "frame": (n,), "mean": (n, 2), "std": (n, 2), "length": (n,), "scale": (n,), "position": (n, 3),
        "trajectory": (n, 12), "hog": (n, 16), "hof": (n, 18), "mbhx": (n, 16), "mbhy": (n, 16), "points": (n, 7, 2)}
    assert sorted(set(rows["frame"])) == [9, 11, 13, 15]  # points start on frames 3, 5, 7, 9
    np.testing.assert_allclose(rows["mean"], rows["points"].mean(1), rtol=1e-5)
    np.testing.assert_allclose(rows["std"], rows["points"].std(1), rtol=1e-4)
    # the one flow serves all, so the trajectory is made of the points' own steps
    steps = np.diff(rows["points"], axis=1)
    lengths = np.linalg.norm(steps, axis=2).sum(1)
    np.testing.assert_allclose(rows["length"], lengths, rtol=1e-4)
    np.testing.assert_allclose(rows["trajectory"], (steps / lengths[:, None, None]).reshape(n, -1), atol=1e-5)
    np.testing.assert_allclose(rows["position"][:, 0], rows["mean"][:, 0] / 56, rtol=1e-6)
    np.testing.assert_allclose(rows["position"][:, 2], (rows["frame"] - 3 - 3) / 13, rtol=1e-6)
    for name in naive.CHANNELS:
        assert ((rows[name].reshape(n, 2, -1) ** 2).sum(2) <= 1 + 1e-5).all()


def test_frame_step_equals_the_thinned_clip():
    clip = synthetic.pan((1.0, 0.5), frames=13, height=40, width=48)
    thinned = naive.improved_trajectories(clip.frames[::2], None, Params(camera=False, length=4, temporal_cells=2))
    stepped = naive.improved_trajectories(clip.frames, None, Params(camera=False, length=4, temporal_cells=2, step=2))
    assert len(thinned["frame"]) > 0
    np.testing.assert_array_equal(stepped["frame"], 2 * thinned["frame"])
    np.testing.assert_array_equal(stepped["hof"], thinned["hof"])


@pytest.mark.parametrize("frames", [synthetic.still(frames=6, height=36, width=40).frames,
                                    synthetic.flat(frames=6, height=36, width=40).frames,
                                    synthetic.pan(frames=6, height=30, width=40).frames,
                                    synthetic.pan(frames=4, height=36, width=40).frames])
def test_nothing_comes_from_still_flat_small_or_short_clips(frames):
    rows = naive.improved_trajectories(frames, None, Params(length=4, temporal_cells=2))
    assert [rows[k].shape for k in ("frame", "hof", "points")] == [(0,), (0, 72), (0, 5, 2)]


def test_first_rows_of_the_original(data):
    """The boxing clip's first 18 frames give the original program's rows, in its order."""
    name = "person01_boxing_d1_uncomp"
    video = cv2.VideoCapture(str(data / "clips" / f"{name}.avi"))
    frames = np.array([cv2.cvtColor(video.read()[1], cv2.COLOR_BGR2GRAY) for _ in range(18)])
    with np.load(data / "golden" / f"{name}.npz", allow_pickle=False) as golden:
        early = golden["frame"] < len(frames)
        expected = {key: golden[key][early] for key in golden if key != "homographies"}
        rows = naive.improved_trajectories(frames, golden["homographies"], approximate=True)
    assert len(expected["frame"]) == 110
    np.testing.assert_array_equal(rows["frame"], expected["frame"])
    np.testing.assert_allclose(rows["scale"], expected["scale"], atol=1e-6)
    np.testing.assert_allclose(rows["position"][:, :2], expected["position"][:, :2], atol=2e-6)
    for key, tolerance in (("mean", 1e-4), ("std", 1e-4), ("length", 2e-4), ("trajectory", 1e-5), ("hog", 3e-4),
                           ("hof", 5e-4), ("mbhx", 3e-4), ("mbhy", 3e-4)):
        np.testing.assert_allclose(rows[key], expected[key].astype(np.float32), atol=tolerance, err_msg=key)


# The synthetic clips


def test_pan_by_whole_pixels_shifts_the_bytes():
    clip = synthetic.pan((3.0, -2.0), frames=4)
    np.testing.assert_array_equal(clip.frames[1][:-2, 3:], clip.frames[0][2:, :-3])
    np.testing.assert_array_equal(clip.flow[1], np.broadcast_to(np.float32([3, -2]), (72, 96, 2)))
    assert clip.frames.dtype == np.uint8
    assert clip.frames.shape == (4, 72, 96)
    assert not clip.flow[0].any()
    assert not clip.moving.any()
    assert clip.frames[0].std() > 40
    np.testing.assert_array_equal(clip.homographies[[0, 3]], [np.eye(3), synthetic.translation(3, -2)])


def test_truth_of_a_turn_is_its_homography():
    clip = synthetic.turn(1.0, 1.02, frames=5)
    y, x = np.mgrid[:72, :96].astype(float)
    for t in (1, 4):
        nx, ny = synthetic.map_points(clip.homographies[t], x, y)
        np.testing.assert_allclose(clip.flow[t], np.stack([nx - x, ny - y], axis=2), atol=1e-5)
    middle = synthetic.map_points(clip.homographies[1], np.array([47.5]), np.array([35.5]))
    np.testing.assert_allclose(middle, [[47.5], [35.5]])


def test_square_moves_with_the_camera_and_by_itself():
    clip = synthetic.moving_square((2.0, 1.0), camera=synthetic.translation(-1, 0), frames=6)
    np.testing.assert_allclose(clip.flow[3][clip.moving[2]], np.tile([1.0, 1.0], (24 * 24, 1)), atol=1e-5)
    np.testing.assert_allclose(clip.flow[3][~clip.moving[2]], np.tile([-1.0, 0.0], (72 * 96 - 24 * 24, 1)), atol=1e-5)
    np.testing.assert_array_equal(clip.moving[3][1:, 1:], clip.moving[2][:-1, :-1])
    np.testing.assert_array_equal(clip.frames[3][clip.moving[3]], clip.frames[2][clip.moving[2]])


def test_clips_are_reproducible_and_seeds_differ():
    np.testing.assert_array_equal(synthetic.still(frames=2).frames, synthetic.still(frames=2).frames)
    assert (synthetic.still(frames=1).frames != synthetic.still(frames=1, seed=1).frames).mean() > 0.9
    assert (np.diff(synthetic.still(frames=3).frames.astype(int), axis=0) == 0).all()
    assert (synthetic.flat(9).frames == 9).all()
