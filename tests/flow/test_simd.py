"""flow._simd: every hand-made intrinsic against its plain twin, and that the kernels' caches notice an edit of it."""

from __future__ import annotations

import ast
import hashlib
import importlib
from pathlib import Path

import numba
import numpy as np
import pytest

import idt
import idt.flow
from idt.flow import _simd
from rounding import assert_within_noise, draws, gamma

pytestmark = pytest.mark.numeric

TWINS = sorted(name.removesuffix("_plain") for name in vars(_simd) if name.endswith("_plain"))

blend_and_join, integrate_votes = _simd.blend_and_join, _simd.integrate_votes
cell_of_integral, prefetch = _simd.cell_of_integral, _simd.prefetch
relax_row, sample_with_gradient = _simd.relax_row, _simd.sample_with_gradient


@numba.njit
def call_blend_and_join(own, p, other, line, start, weights, signs, lanes, x, out):
    blend_and_join(own, np.uint64(p), other, np.uint64(line), start, weights, signs, np.uint64(lanes), np.uint64(x),
                   out)


@numba.njit
def call_integrate_votes(angles, lengths, above, below):
    integrate_votes(angles, lengths, above, below)


@numba.njit
def call_cell_of_integral(integral, a, b, c, d, epsilon, out, k):
    cell_of_integral(integral, a, b, c, d, epsilon, out, k)


@numba.njit
def call_prefetch(array, row, count):
    prefetch(array, row, count)


@numba.njit
def call_relax_row(planes, size, row, stride, lanes, bound, tau, ratio):
    return relax_row(planes, size, row, stride, lanes, bound, tau, ratio)


@numba.njit
def call_sample_with_gradient(image, line, start, weights, lanes, x, out):
    sample_with_gradient(image, line, start, weights, lanes, x, out)


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def test_every_intrinsic_is_tested_here():
    assert [f"call_{name}" for name in TWINS] == sorted(name for name in globals() if name.startswith("call_"))


@pytest.mark.parametrize(("width", "height", "row"), [(16, 9, 4), (13, 7, 6), (8, 5, 0), (33, 6, 5), (3, 4, 3)])
def test_blend_and_join(rng, width, height, row):
    """Blocks of a row: inside, past the end of the row, and past the end of the image."""
    room = 48
    own, other = rng.normal(size=(2, 5 * width * height + room)).astype(np.float32)
    lanes = (width + 7) // 8 * 8
    corner = rng.integers(0, max(width - 1, 1), lanes) + width * rng.integers(0, height - 1, lanes)
    start = (5 * corner).astype(np.int32)
    weights = rng.uniform(0, 1, (4, lanes)).astype(np.float32)
    signs = np.float32([-1, -1, 1, 1, 1, 1, 1, 1])
    found, expected, sizes = np.full((3, 5, lanes), np.nan, np.float32)
    for x in range(0, width, 8):
        place, rest = 5 * (row * width + x), (5 * width, start, weights)
        call_blend_and_join(own, place, other, *rest, signs, lanes, x, found)
        _simd.blend_and_join_plain(own, place, other, *rest, signs, lanes, x, expected)
        _simd.blend_and_join_plain(np.abs(own), place, np.abs(other), *rest, np.abs(signs), lanes, x, sizes)
    # Both are sums of five terms, four of which are products, with or without fused multiply-adds.
    assert (np.abs(found - expected) <= 2 * gamma(6) * sizes)[:, :width].all()
    assert np.isfinite(found[:, :width]).all()


@pytest.mark.parametrize("width", [1, 7, 8, 61])
def test_integrate_votes(rng, width):
    angles = rng.uniform(0, 8, width).astype(np.float32)
    angles[::5] = rng.integers(0, 9, len(angles[::5]))  # on a bin, and 8.0, which is bin 0 again
    lengths = rng.gamma(1, 30, width).astype(np.float32)
    lengths[::7] = 0
    above = rng.uniform(0, 1e4, 8 * (width + 1)).astype(np.float32)
    found, expected = np.full((2, 8 * (width + 1)), -1, np.float32)
    call_integrate_votes(angles, lengths, above, found)
    _simd.integrate_votes_plain(angles, lengths, above, expected)
    assert (found[:8] == -1).all()  # the left column is the caller's
    # Sums of `width` votes and of what is above; a vote is a difference of up to four times its length.
    run = np.cumsum(lengths.astype(np.float64))
    limit = gamma(width + 1) * expected[8:].reshape(width, 8) + gamma(12) * run[:, None]
    assert (np.abs(found - expected)[8:].reshape(width, 8) <= limit).all()
    votes = np.diff((found.astype(np.float64) - above)[8:].reshape(width, 8).sum(1), prepend=0)
    assert (np.abs(votes - lengths) <= 2 * limit.sum(1)).all()  # the shares of a pixel's two bins sum to its length


def test_cell_of_integral(rng):
    integral = rng.normal(0, 100, 400).astype(np.float32)
    found, expected = np.full((2, 30), np.nan, np.float32)
    a, b, c, d = 8, 64, 200, 392
    call_cell_of_integral(integral, a, b, c, d, np.float32(0.05), found, 9)
    _simd.cell_of_integral_plain(integral, a, b, c, d, np.float32(0.05), expected, 9)
    np.testing.assert_array_equal(found, expected)
    assert np.isnan(found).sum() == 22
    assert (found[9:17] == np.float32(0.05)).any()  # a negative sum counts as zero
    assert (found[9:17] > 1).any()


def test_prefetch_changes_nothing(rng):
    array = rng.normal(size=(5, 33)).astype(np.float32)
    found, expected = array.copy(), array.copy()
    for row in range(5):
        call_prefetch(found, row, 33)
        _simd.prefetch_plain(expected, row, 33)
    np.testing.assert_array_equal(found, array)
    np.testing.assert_array_equal(expected, array)


@pytest.mark.parametrize("lanes", [16, 32, 80])
def test_relax_row(rng, lanes):
    """Rows of an image after another, as in an iteration: each needs what the one before left."""
    rows, stride = 5, lanes + 16
    size = rows * stride + 48
    planes = rng.normal(0, 0.3, 10 * size + 16)
    planes[6 * size:8 * size] *= 30  # the gradient
    planes[8 * size:9 * size] *= 100
    planes[9 * size:10 * size] = 1 / (planes[6 * size:7 * size] ** 2 + planes[7 * size:8 * size] ** 2)
    planes[9 * size:10 * size:7] = 1e12  # what a gradient of zero has
    planes[6 * size:8 * size].reshape(2, size)[:, ::7] = 0
    found = planes.astype(np.float32)
    before = found.copy()
    rest = np.float32(0.045), np.float32(0.25), np.float32(0.25 / 0.3)

    def plain(start):
        planes = start.copy()
        return _simd.relax_row_plain(planes, size, row, stride, lanes, *rest), planes

    for row in range(stride, (rows - 1) * stride, stride):
        start = found.astype(np.float64)
        total = call_relax_row(found, size, row, stride, lanes, *rest)
        expected_total, expected = plain(start)
        # Rounding changes what is computed as other errors of what goes into it would, of some roundings each.
        noisy = draws(lambda noise, start=start: plain(start * noise.rng.uniform(1 - gamma(8), 1 + gamma(8),
                                                                                 start.shape)))
        apart = max(abs(other - expected_total) for other, _ in noisy)
        assert abs(total - expected_total) <= 4 * apart + gamma(lanes + 4) * expected_total
        for part in (slice(2 * size), slice(2 * size, 6 * size)):
            was, now = start[part], found[part]
            moved = now != was
            assert_within_noise(now[moved], expected[part][moved], [other[part][moved] for _, other in noisy])
            np.testing.assert_array_equal(expected[part][~moved], was[~moved])
    changed = (found != before)[:10 * size].reshape(10, size)
    assert not changed[6:].any()
    assert changed[:2, stride:stride + lanes].mean() > 0.9
    assert not changed[:2, :stride].any()  # the first row only has its dual step
    assert not changed[:2, (rows - 1) * stride:].any()
    assert changed[2:6, :lanes].mean() > 0.9
    assert not changed[2:6, (rows - 2) * stride:].any()  # the last one only its primal
    gaps = np.arange(size) % stride >= lanes
    assert not changed[:, gaps].any()


def test_relax_row_where_nothing_changes():
    """Zeros stay zeros, without a division by the length of a zero gradient."""
    size, stride = 3 * 32 + 48, 32
    planes = np.zeros(10 * size + 16, np.float32)
    planes[9 * size:10 * size] = 1e12
    before = planes.copy()
    assert call_relax_row(planes, size, stride, stride, 16, np.float32(0.045), np.float32(0.25), np.float32(0.8)) == 0
    np.testing.assert_array_equal(planes, before)


@pytest.mark.parametrize(("width", "height", "lanes"), [(13, 11, 16), (45, 20, 32), (27, 40, 16)])
def test_sample_with_gradient(rng, width, height, lanes):
    """Patches anywhere, also in the corners of the image."""
    image = rng.uniform(0, 255, width * height).astype(np.float32)
    corner = rng.integers(0, width - 7, lanes) + width * rng.integers(0, height - 5, lanes)
    corner[:4] = 0, width - 8, width * (height - 6), width * (height - 6) + width - 8
    weights = rng.normal(0.25, 0.5, (8, lanes)).astype(np.float32)
    weights[:, 3] = [0, 1, 0, 0] * 2
    found, expected = np.full((2, 3, lanes), np.nan, np.float32)
    for x in range(0, lanes, 8):
        call_sample_with_gradient(image, width, corner.astype(np.uint32), weights, lanes, x, found)
        assert np.isnan(found[:, x + 8:]).all()
        _simd.sample_with_gradient_plain(image, width, corner, weights, lanes, x, expected)
    # Sums of 16 products of numbers up to 255 and weights, along four rows and then four columns
    down, along = np.abs(weights[4:]).sum(0), np.abs(weights[:4]).sum(0)
    assert (np.abs(found - expected) <= 2 * gamma(12) * 255 * down * along).all()
    y, x = height - 4, width - 6  # the last patch is taken at a pixel
    pixels = image.reshape(height, width)
    assert found[:, 3] == pytest.approx([pixels[y, x], (pixels[y, x + 1] - pixels[y, x - 1]) / 2,
                                         (pixels[y + 1, x] - pixels[y - 1, x]) / 2], abs=gamma(2) * 255)


def users():
    """Names of the modules that import from flow._simd."""
    folders = {"idt": Path(idt.__file__).parent, "idt.flow": Path(idt.flow.__file__).parent}
    found = []
    for package, folder in folders.items():
        for path in sorted(folder.glob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            if any(isinstance(node, ast.ImportFrom) and node.module == "idt.flow._simd" for node in ast.walk(tree)):
                found.append(f"{package}.{path.stem}")
    return found


def test_somebody_uses_the_intrinsics():
    assert {"idt.flow._farneback_cpu", "idt.flow._tvl1_cpu"} <= set(users())


@pytest.mark.parametrize("module", users())
def test_kernel_files_carry_the_digest_of_the_intrinsics(module):
    """Numba's cache sees only an edit of the kernel's own file; to update this constant is such an edit."""
    digest = hashlib.sha256(Path(_simd.__file__).read_bytes()).hexdigest()[:16]
    assert digest == importlib.import_module(module).SIMD_SOURCE
