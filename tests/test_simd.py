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

TWINS = sorted(name.removesuffix("_plain") for name in vars(_simd) if name.endswith("_plain"))

blend_and_join, integrate_votes = _simd.blend_and_join, _simd.integrate_votes
cell_of_integral, prefetch = _simd.cell_of_integral, _simd.prefetch


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
    found, expected = np.full((2, 5, lanes), np.nan, np.float32)
    for x in range(0, width, 8):
        arguments = (own, 5 * (row * width + x), other, 5 * width, start, weights, signs, lanes, x)
        call_blend_and_join(*arguments, found)
        _simd.blend_and_join_plain(*arguments, expected)
    # five float32 roundings of numbers up to 8, with or without fused multiply-add
    np.testing.assert_allclose(found, expected, atol=3e-6)


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
    # float32 sums up to 1e4, each rounded to 5e-4
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-3)
    votes = np.diff((found - above)[8:].reshape(width, 8).sum(1), prepend=0)
    np.testing.assert_allclose(votes, lengths, atol=0.02)  # the shares of a pixel's two bins sum to its length


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
    assert "idt.flow._farneback_cpu" in users()


@pytest.mark.parametrize("module", users())
def test_kernel_files_carry_the_digest_of_the_intrinsics(module):
    """Numba's cache sees only an edit of the kernel's own file; to update this constant is such an edit."""
    digest = hashlib.sha256(Path(_simd.__file__).read_bytes()).hexdigest()[:16]
    assert digest == importlib.import_module(module).SIMD_SOURCE
