"""flow.farneback: the whole solver and each of its steps against the oracle, and known motion."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import naive
import synthetic
from idt.flow import _farneback_cpu as kernels
from idt.flow.farneback import Farneback
from idt.flow.pyramid import scale_factors
from rounding import UNIT, assert_within_noise, draws, gamma

pytestmark = pytest.mark.numeric

SIZES = [(32, 33), (33, 32), (200, 32), (32, 200), (45, 61), (64, 64), (67, 93), (120, 161)]


def pair(kind, height, width):
    rng = np.random.default_rng(7)
    size = {"frames": 2, "height": height, "width": width}
    if kind == "noise":
        return rng.integers(0, 256, (2, height, width), np.uint8)
    if kind == "faint":
        return rng.integers(0, 2, (2, height, width), np.uint8)
    if kind == "brighter":
        return np.stack([np.full((height, width), grey, np.uint8) for grey in (10, 200)])
    if kind == "blocks":
        frames = np.zeros((2, height, width), np.uint8)
        for t in (0, 1):
            frames[t, height // 3 + 2 * t:height // 2 + 2 * t, width // 4 + 3 * t:width // 2 + 3 * t] = 255
        return frames
    if kind == "turn":
        return synthetic.turn(3, 1.05, **size).frames
    if kind == "square":
        return synthetic.moving_square((4.0, -3.0), camera=synthetic.translation(-2.5, 1.5), **size).frames
    return synthetic.pan({"pan": (3.5, -2.25), "jump": (40.0, -30.0)}[kind], **size).frames


def solved(a, b):
    height, width = a.shape
    method = Farneback(width, height, factors=scale_factors(width, height))
    return method.solve(method.prepare(a), method.prepare(b))


def assert_is_the_oracles(found, a, b, *, smooth=True):
    """Compare the flow of every scale."""
    noisy = draws(lambda noise: naive.farneback(a, b, len(found), noise))
    for flow, truth, *drawn in zip(found, naive.farneback(a, b, len(found)), *noisy, strict=True):
        assert flow.dtype == np.float32
        assert flow.shape == truth.shape
        assert_within_noise(flow, truth.astype(np.float64), drawn, smooth=smooth)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["pan", "turn", "square", "blocks", "faint", "brighter"])
def test_flow_of_every_scale_equals_the_oracle(kind, size):
    a, b = pair(kind, *size)
    found = solved(a, b)
    assert len(found) == len(scale_factors(*size[::-1]))
    assert_is_the_oracles(found, a, b)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["noise", "jump"])
def test_flow_without_a_match_equals_the_oracle_too(kind, size):
    """Many targets lie outside, flows reach 20 px, and where the equations are near singular rounding is enlarged."""
    a, b = pair(kind, *size)
    assert_is_the_oracles(solved(a, b), a, b, smooth=False)


@pytest.mark.parametrize("size", [(2, 2), (2, 50), (50, 2), (3, 3), (5, 9), (8, 8), (11, 31)])
def test_images_smaller_than_the_windows(size):
    a, b = pair("noise", *size)
    assert_is_the_oracles(solved(a, b), a, b, smooth=False)


@pytest.mark.parametrize(("shortest", "count", "size"), [(4, 16, (37, 41)), (24, 8, (67, 93)), (32, 1, (67, 93)),
                                                        (32, 2, (67, 93)), (8, 16, (128, 130))])
def test_other_numbers_of_scales(shortest, count, size):
    """Fewer scales mean fewer levels; small patches mean levels smaller than the blur before them."""
    a, b = pair("pan", *size)
    factors = scale_factors(*size[::-1], shortest=shortest, count=count)
    method = Farneback(*size[::-1], factors=factors)
    found = method.solve(method.prepare(a), method.prepare(b))
    assert len(found) == len(factors)
    assert_is_the_oracles(found, a, b)


def test_equal_frames_do_not_move():
    """Away from the sides; there a target lies outside or not as rounding has it, and what is outside moves others."""
    frame = synthetic.still(frames=1, height=67, width=93).frames[0]
    flows = solved(frame, frame)
    assert_is_the_oracles(flows, frame, frame, smooth=False)
    for flow in flows:
        assert np.abs(flow[8:-8, 8:-8]).max() < 1e-3
    assert not np.any([flow.any() for flow in solved(np.zeros_like(frame), np.zeros_like(frame))])


@pytest.mark.parametrize(("clip", "limit"), [
    (synthetic.pan((1.5, -0.75), frames=2), 0.05), (synthetic.pan((-6.25, 4.5), frames=2), 0.1),
    (synthetic.turn(2, 1.03, frames=2), 0.1), (synthetic.pan((0.25, 0), frames=2, height=41, width=180), 0.05)])
def test_known_motion(clip, limit):
    """Median end-point error away from the sides, in px."""
    error = np.linalg.norm(solved(*clip.frames)[0] - clip.flow[1], axis=2)[12:-12, 12:-12]
    assert np.median(error) < limit


def test_a_square_moves_and_its_background_does_not():
    clip = synthetic.moving_square((3.0, -2.0), frames=2, height=96, width=128)
    flow = solved(*clip.frames)[0]
    rows, columns = (np.flatnonzero(clip.moving[0].any(axis)) for axis in (1, 0))
    inside = flow[rows[0] + 8:rows[-1] - 7, columns[0] + 8:columns[-1] - 7]
    assert np.abs(np.median(inside, (0, 1)) - (3, -2)).max() < 0.05
    assert np.abs(flow[8:-8, 8:columns[0] - 16]).max() < 0.05


def test_two_threads_may_solve_at_once():
    """As the two stages of the extraction do."""
    frames = synthetic.turn(1.0, frames=6, height=96, width=128).frames
    method = Farneback(128, 96, factors=scale_factors(128, 96))
    prepared = [method.prepare(frame) for frame in frames]
    pairs = [(a, b) for a in prepared for b in prepared]
    one_by_one = [method.solve(a, b)[0] for a, b in pairs]
    with ThreadPoolExecutor(2) as pool:
        np.testing.assert_array_equal(list(pool.map(lambda pair: method.solve(*pair)[0], pairs)), one_by_one)


# The steps, which the whole shows only together


def expansion_of(image):
    """Output of `kernels.expand` as (h, w, 5)."""
    height, width = image.shape
    flat = np.zeros(kernels.FIELDS * height * width + kernels.PAD, np.float32)
    kernels.expand(image, flat)
    return flat[:-kernels.PAD].reshape(height, width, kernels.FIELDS)


def flat(expansion):
    return np.concatenate([expansion.ravel(), np.zeros(kernels.PAD, np.float32)])


@pytest.mark.parametrize("size", [(7, 9), (32, 33), (67, 93), (121, 40)])
@pytest.mark.parametrize("k", range(8))
def test_pyramid_level(size, k):
    """In grey levels: coordinates in float32 are off along x and y, and neighbours differ by up to 255 a pixel.

    A place is a sum of taps along y and x, each of one product, and blended along both; the taps are rounded, too.
    """
    grey = pair("noise", *size)[0]
    factor = naive.scale_factors(1000, 1000)[:k + 1]
    (width, height) = naive.scale_sizes(size[1], size[0], factor)[k]
    out = np.empty((height, width), np.float32)
    taps = naive.flow_blur_taps(factor[k])
    kernels.smooth_and_resize(grey, taps.astype(np.float32), out)
    limit = 2 * max(size) * UNIT * 255 + gamma(2 * (len(taps) + 4) + 8) * 255
    np.testing.assert_allclose(out, naive.flow_pyramid_level(grey, k), rtol=0, atol=limit)


def expansion_limit(largest):
    """Of each of the five fields: sums of products of an image up to `largest`, first along y, then along x.

    In either direction a difference or sum of two pixels, eight products and as many sums, and rounded taps.
    """
    x = np.arange(-7, 8)
    g = naive.gaussian(7, 1.5)
    m2, m4 = (g * x**2).sum(), (g * x**4).sum()
    slope, curve = (g * np.abs(x)).sum(), 2 * (g * np.abs(x**2 - m2)).sum()  # curve: of differences from the middle
    sizes = np.array([slope / m2, slope / m2, curve / (m4 - m2**2), curve / (m4 - m2**2), slope**2 / m2**2])
    return gamma(2 * 18 + 2) * sizes * largest


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (9, 2), (15, 14), (32, 33), (67, 93)])
def test_expansion(size):
    image = np.random.default_rng(8).uniform(0, 255, size).astype(np.float32)
    assert (np.abs(expansion_of(image) - naive.polynomial_expansion(image)) <= expansion_limit(255)).all()


def test_expansion_of_a_flat_image_is_zero():
    assert (np.abs(expansion_of(np.full((20, 23), 255, np.float32))) <= expansion_limit(255)).all()


@pytest.mark.parametrize("iterations", [1, 2])
@pytest.mark.parametrize("size", [(7, 5), (12, 11), (32, 33), (45, 61)])
def test_level_from_any_start(iterations, size):
    """Starts that lead inside, exactly to the last row and column, and far outside."""
    a, b = (naive.polynomial_expansion(image) for image in pair("pan", *size))
    rng = np.random.default_rng(9)
    start = rng.uniform(-3, 3, (*size, 2)).astype(np.float32)
    start[::3] = np.rint(start[::3])
    start[::4, ::4] = rng.choice(np.float32([-1e4, 1e4, 500, -70]), start[::4, ::4].shape)
    py, px = np.mgrid[:size[0], :size[1]]
    start[1::5, :, 0] = (size[1] - 1 - px)[1::5]
    start[:, 1::5, 1] = (size[0] - 2 - py)[:, 1::5]
    found = start.copy()
    kernels.solve_level(flat(a), flat(b), found, iterations)

    def oracle(rounded=None):
        flow = start
        for _ in range(iterations):
            flow = naive.farneback_update(a, b, flow, rounded)
        return naive.median5(flow).astype(np.float64)

    assert np.isfinite(found).all()
    assert_within_noise(found, oracle(), draws(oracle))


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 3), (5, 5), (8, 16), (33, 47)])
@pytest.mark.parametrize("levels", [2, 5, None])
def test_median_is_exact(size, levels):
    """Also with many ties."""
    rng = np.random.default_rng(10)
    for _ in range(10):
        flow = rng.normal(0, 5, (*size, 2)) if levels is None else rng.integers(0, levels, (*size, 2))
        flow = flow.astype(np.float32)
        planes = np.ascontiguousarray(np.moveaxis(flow, 2, 0))
        found = np.empty_like(flow)
        kernels._median5(planes, found)
        np.testing.assert_array_equal(found, naive.median5(flow))


@pytest.mark.parametrize(("coarse", "fine"), [((23, 33), (33, 47)), ((32, 32), (45, 46)), ((3, 4), (4, 6)),
                                              ((1, 1), (2, 1)), ((23, 141), (32, 200))])
def test_enlarging(coarse, fine):
    flow = np.random.default_rng(12).normal(0, 5, (*coarse, 2)).astype(np.float32)
    out = np.empty((*fine, 2), np.float32)
    kernels.enlarge(flow, out)
    # The oracle's coordinates are float32, along x and y; neighbours differ by twice the largest at most. Then twice
    # a + f (b - a), and the factor, which is rounded.
    limit = (2 * max(coarse) * UNIT * 2 + gamma(16)) * np.sqrt(2) * np.abs(flow).max()
    np.testing.assert_allclose(out, naive.upsample_flow(flow, *fine[::-1]), rtol=0, atol=limit)
