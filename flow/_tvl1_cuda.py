"""TV-L1 on a CUDA device: the state of many pairs at a time, in as few launches and bytes as possible.

State. Each pair has fifteen float32 planes in one array: u and v twice, theta * (p11, p12, p21, p22) twice, the warped
gradient gx, gy and rho_c; rows are padded to a whole number of 32-byte sectors. What an iteration changes is there
twice because tiles overlap: it reads one side and writes the other. `control` says for each pair on which side flow and
dual variables lay when a warp began and after how many launches its iterations ended, all that is needed to find them;
every kernel but `_relax` hands it on from one of two copies to the other, so that no block reads what another changes.

Iterations. `_relax` does TEST_EVERY of them in one launch: a block loads a tile, iterates, and stores all but a border
of as many pixels, in which what lies outside the tile has made itself felt. A thread keeps eight pixels of a column,
coefficients and all, in registers; neighbours meet in shared memory, where the 32 lanes of a warp meet 32 banks. Tiles
end where the image ends, never beyond, so that one rule, no neighbour beyond the edge of the tile, is also the rule at
the border of the image, and no test for it is left.

Its price, computed from the code compiled for compute capability 9.0 and from counting, not measured: an iteration of
eight pixels is 392 instructions, 70 of them on shared memory and 32 special functions; loading, storing and summing up
add some 1,150 a launch. The kernel takes 128 registers and 36 KiB, so that two blocks of 256 threads share a
multiprocessor, one loading while the other computes; not on compute capability 7.5, whose 64 KiB of shared memory hold
one. Of 64 x 32 pixels 56 x 24 are stored, 60 % over all levels of 320 x 240 and 64 % over those of 1920 x 1080; tiles
of 64 x 40 would store 70 % but leave room for one block alone. A launch moves about 83 bytes a pixel. No kernel spills;
the data term takes 440 to 472 instructions a pixel and warp.

Convergence. Blocks leave the sum of their squared changes in memory; the last of a pair to do so (by its ticket) adds
all up in fixed order, hence without a difference between runs, and marks the pair as converged, whose blocks return at
once from then on. When that was the last pair it writes to memory of the host, which looks there without waiting for
the device to fall idle and stays only AHEAD launches ahead of it.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from idt.errors import DeviceError, NoDeviceError
from idt.flow.pyramid import ByteArray, FloatArray
from idt.flow.tvl1 import TVL1Params, level_sizes, solve

try:
    with warnings.catch_warnings():  # numba-cuda 0.30 uses what NumPy 2.5 deprecates
        warnings.simplefilter("ignore", DeprecationWarning)
        # It puts numba-cuda in the place of Numba's own, older numba.cuda. A .pth file imports it when Python starts,
        # but not in folders of PYTHONPATH or of pip install --target, whose .pth files are not read.
        import _numba_cuda_redirector  # type: ignore[import-untyped]  # noqa: F401
        import numba_cuda
        from numba import cuda, float32
except ImportError as error:
    raise NoDeviceError("The device cuda needs the package numba-cuda, which cannot be imported "
                        f'({error}): pip install "densetraj[gpu]", or "densetraj[gpu12]" where the driver is older '
                        "than CUDA 13.") from error
if "numba_cuda" not in str(cuda.__file__):
    raise DeviceError(f"Numba's own numba.cuda ({cuda.__file__}) was imported before numba-cuda could replace it: "
                      "import idt.flow, or numba_cuda, first.")

TEST_EVERY = 4
"""Iterations between two tests for convergence; on a processor core, where a test costs nothing, each is tested."""

PLANES = 15
WIDE, TALL = 64, 32  # of the largest tile, pixels
ROWS = 8  # that a thread keeps
AHEAD = 4  # launches that wait on the device while the host decides about the next one

_HALO = TEST_EVERY
_MARGIN = 5  # pixels by which rows and columns of a level's image are longer
_BLOCK = (32, 8)  # threads, of all kernels but `_relax`
_USABLE = 0.9  # of the free memory, which is given out in large pages
_DUAL, _COEFFICIENTS = 4, 12  # planes
_FLOW_SIDE, _DUAL_SIDE, _LAUNCHES = 0, 1, 2  # rows of `control`
_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_HUGE = np.float32(3e38)
_TINY = np.float32(1e-12)  # keeps a gradient of zero from dividing; what it moves is multiplied by that gradient

cuda.config.CUDA_LOW_OCCUPANCY_WARNINGS = 0  # small images are nothing to warn of
_jit = functools.partial(cuda.jit, cache=True, fastmath=True)
_turn: AbstractContextManager[Any] = threading.Lock() if cuda.config.ENABLE_CUDASIM else nullcontext()
"""The simulator runs one kernel at a time."""


def _limited(registers: int) -> Any:
    """Return the decorator of a kernel whose threads have so many registers at most; the simulator has none."""
    return _jit if cuda.config.ENABLE_CUDASIM else functools.partial(_jit, max_registers=registers)


def _load_numpy_support() -> None:
    """Import the part of numba-cuda that NumPy 2.5 breaks, which is otherwise imported at the first kernel.

    It looks up np.row_stack, the second name of np.vstack until NumPy 2.5, and will not be changed
    (NVIDIA/numba-cuda#907).
    """
    name = "row_stack"
    missing = not hasattr(np, name)
    if missing:
        setattr(np, name, np.vstack)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            from numba.cuda.np import arrayobj, npdatetime  # noqa: F401
    finally:
        if missing:
            delattr(np, name)


if not cuda.config.ENABLE_CUDASIM:
    _load_numpy_support()


# Kernels. Sizes and counts are int32, numbers float32: Numba would take Python's own for 64 bits.


@_jit(device=True)
def _clamp(i, n):
    """Return the index in 0..n-1 that is nearest to i."""
    return min(max(i, 0), n - 1)


@_jit(device=True)
def _place(i, ratio, n):
    """Return where pixel i of a resized line lies in one of n pixels, half-pixel centres, not outside."""
    return min(max((np.float32(i) + _HALF) * ratio - _HALF, _ZERO), np.float32(n - 1))


@_jit
def _to_float(grey, pyramids, h, w):
    """Fill the finest level of each pyramid (images, numbers) from (images, pixels) uint8.

    Levels are stored with two pixels more above and on the left, three below and on the right: the border, continued.
    """
    x = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    y = cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y
    image = cuda.blockIdx.z
    if x < w + _MARGIN and y < h + _MARGIN:
        pyramids[image, y * (w + _MARGIN) + x] = np.float32(grey[image, _clamp(y - 2, h) * w + _clamp(x - 2, w)])


@_jit
def _reduce(pyramids, fine, fine_h, fine_w, coarse, h, w, ratio):
    """Fill a level from the next finer one, bilinear; `fine` and `coarse` are where they begin in a pyramid."""
    x = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    y = cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y
    image = cuda.blockIdx.z
    if x < w + _MARGIN and y < h + _MARGIN:
        px, py = _place(_clamp(x - 2, w), ratio, fine_w), _place(_clamp(y - 2, h), ratio, fine_h)
        left, upper = np.int32(px), np.int32(py)
        along, down = px - np.float32(left), py - np.float32(upper)
        line = fine_w + _MARGIN
        upper = fine + (upper + 2) * line + left + 2  # of a last pixel the next one counts nothing
        lower = upper + line
        a, b = pyramids[image, np.uint32(upper)], pyramids[image, np.uint32(upper + 1)]
        c, d = pyramids[image, np.uint32(lower)], pyramids[image, np.uint32(lower + 1)]
        a += down * (c - a)
        b += down * (d - b)
        pyramids[image, np.uint32(coarse + y * (w + _MARGIN) + x)] = a + along * (b - a)


@_jit
def _enter(state, control, copy, h, w, pitch, coarse_h, coarse_w, coarse_pitch, ratio_y, ratio_x, factor):
    """Enlarge the flow of the coarser level, bilinear, values times `factor` (0: there is none); clear the duals."""
    x = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    y = cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y
    pair = cuda.blockIdx.z
    side = (control[copy, _FLOW_SIDE, pair] + control[copy, _LAUNCHES, pair]) & 1
    if x == 0 and y == 0:
        control[1 - copy, _FLOW_SIDE, pair] = 1 - side
        control[1 - copy, _DUAL_SIDE, pair] = 0
        control[1 - copy, _LAUNCHES, pair] = 0
    if x < w and y < h:
        at = np.uint32(y * pitch + x)
        for k in range(4):
            state[pair, _DUAL + k, at] = _ZERO
        if factor == _ZERO:
            for k in range(2):
                state[pair, 2 - 2 * side + k, at] = _ZERO
        else:
            px, py = _place(x, ratio_x, coarse_w), _place(y, ratio_y, coarse_h)
            left, upper = np.int32(px), np.int32(py)
            along, down = px - np.float32(left), py - np.float32(upper)
            right, lower = min(left + 1, coarse_w - 1), min(upper + 1, coarse_h - 1)
            for k in range(2):
                a = state[pair, 2 * side + k, np.uint32(upper * coarse_pitch + left)]
                b = state[pair, 2 * side + k, np.uint32(upper * coarse_pitch + right)]
                c = state[pair, 2 * side + k, np.uint32(lower * coarse_pitch + left)]
                d = state[pair, 2 * side + k, np.uint32(lower * coarse_pitch + right)]
                a += down * (c - a)
                b += down * (d - b)
                state[pair, 2 - 2 * side + k, at] = factor * (a + along * (b - a))


@_jit(device=True)
def _weights(f, sharpness):
    """Return the weights of four neighbours for a place f behind the second: Keys (1981), or linear for 0."""
    g = _ONE - f
    if sharpness == _ZERO:
        return _ZERO, g, f, _ZERO
    near, far = sharpness + np.float32(2), sharpness + np.float32(3)
    return (sharpness * f * g * g, _ONE + f * f * (near * f - far), _ONE + g * g * (near * g - far),
            sharpness * g * f * f)


@_jit
def _linearise(state, pyramids, numbers, control, running, copy, launches, level, h, w, pitch, sharpness):
    """Warp the second image and its gradient (central differences, image continued by its border) by the flow.

    What leads out of the image gets zeros. `numbers` (2, pairs) says which pyramids a pair is made of, `level` where
    the level begins in them, `launches` how many launches may follow at most.
    """
    x = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    y = cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y
    pair = cuda.blockIdx.z
    side = (control[copy, _FLOW_SIDE, pair] + control[copy, _LAUNCHES, pair]) & 1
    if x == 0 and y == 0:
        control[1 - copy, _FLOW_SIDE, pair] = side
        control[1 - copy, _DUAL_SIDE, pair] = (control[copy, _DUAL_SIDE, pair] + control[copy, _LAUNCHES, pair]) & 1
        control[1 - copy, _LAUNCHES, pair] = launches
        if pair == 0:
            running[0] = cuda.gridDim.z
    if x < w and y < h:
        at = np.uint64(y * pitch + x)
        u, v = state[pair, 2 * side, at], state[pair, 2 * side + 1, at]
        px, py = np.float32(x) + u, np.float32(y) + v
        qx, qy = min(max(px, _ZERO), np.float32(w - 1)), min(max(py, _ZERO), np.float32(h - 1))
        gx, gy, rho = _ZERO, _ZERO, _ZERO
        if qx == px and qy == py:
            i, j = np.int32(qx), np.int32(qy)
            a0, a1, a2, a3 = _weights(qx - np.float32(i), sharpness)
            down = cuda.local.array(8, float32)
            down[0] = down[1] = down[6] = down[7] = _ZERO
            down[2], down[3], down[4], down[5] = _weights(qy - np.float32(j), sharpness)
            warped = _ZERO
            second, line = numbers[1, pair], np.uint64(w + _MARGIN)
            start = np.uint64(level + j * (w + _MARGIN) + i)
            for k in range(np.uint64(6)):
                place = start + k * line
                c0, c1 = pyramids[second, place], pyramids[second, place + np.uint64(1)]
                c2, c3 = pyramids[second, place + np.uint64(2)], pyramids[second, place + np.uint64(3)]
                c4, c5 = pyramids[second, place + np.uint64(4)], pyramids[second, place + np.uint64(5)]
                value = a0 * c1 + a1 * c2 + a2 * c3 + a3 * c4
                slope = a0 * (c2 - c0) + a1 * (c3 - c1) + a2 * (c4 - c2) + a3 * (c5 - c3)
                weight = down[k + np.uint64(1)]
                warped += weight * value
                gx += weight * slope
                gy += (down[k] - down[k + np.uint64(2)]) * value
            gx *= _HALF
            gy *= _HALF
            own = np.uint64(level + (y + 2) * (w + _MARGIN) + x + 2)
            rho = warped - pyramids[numbers[0, pair], own] - gx * u - gy * v
        state[pair, _COEFFICIENTS, at] = gx
        state[pair, _COEFFICIENTS + 1, at] = gy
        state[pair, _COEFFICIENTS + 2, at] = rho


@_jit(device=True)
def _sum_of_block(values, wide, strips, tx, ty):
    """Return in every thread the sum of the first `strips` rows of `wide` numbers, always added in the same order."""
    cuda.syncthreads()
    if ty == 0:
        total = values[0, tx]
        for k in range(1, strips):
            total += values[k, tx]
        values[0, tx] = total
    half = WIDE // 2
    while half > 0:
        cuda.syncthreads()
        if ty == 0 and tx < half and tx + half < wide:
            values[0, tx] += values[0, tx + half]
        half //= 2
    cuda.syncthreads()
    return values[0, 0]


@functools.cache
def _relax(rows: int) -> Any:
    """Return the kernel of the iterations in which a thread keeps `rows` pixels."""
    highest = TALL if rows > 1 else 2 * ROWS
    shape, shape_left = (highest, WIDE), (highest, WIDE + 1)
    shape_above = (highest // rows + 1, WIDE)
    each, one, last = np.uint64(rows), np.uint64(1), np.uint64(rows - 1)

    # Two blocks of 256 threads share the registers of a multiprocessor; of one row there may be 960 threads in a block
    @_limited(128 if rows > 1 else 64)
    def relax(state, sums, tickets, control, running, converged, call, copy, launch, count, h, w, pitch, tiles_x,
              bound, tau, slope, limit):
        """Do `count` iterations of every pair that has not converged, and test them.

        `bound` is lambda * theta, `slope` tau / theta; a pair converges when the squared changes of its flow in the
        last iteration add up to `limit` or less; with the last one `call` is left in `converged`.
        """
        pair = cuda.blockIdx.y
        if control[copy, _LAUNCHES, pair] <= launch:
            return
        flow = 2 * ((control[copy, _FLOW_SIDE, pair] + launch) & 1)
        dual = _DUAL + 4 * ((control[copy, _DUAL_SIDE, pair] + launch) & 1)

        # Shared memory: the flow, theta * p11 and p21 with zeros on their left, p12 and p22 below each strip of rows
        u_of = cuda.shared.array(shape, float32)
        v_of = cuda.shared.array(shape, float32)
        p11_of = cuda.shared.array(shape_left, float32)
        p21_of = cuda.shared.array(shape_left, float32)
        p12_of = cuda.shared.array(shape_above, float32)
        p22_of = cuda.shared.array(shape_above, float32)

        u = cuda.local.array(rows, float32)  # all loops over these are unrolled: they are registers
        v = cuda.local.array(rows, float32)
        p11 = cuda.local.array(rows, float32)
        p12 = cuda.local.array(rows, float32)
        p21 = cuda.local.array(rows, float32)
        p22 = cuda.local.array(rows, float32)
        gx = cuda.local.array(rows, float32)
        gy = cuda.local.array(rows, float32)
        rho = cuda.local.array(rows, float32)
        inverse = cuda.local.array(rows, float32)

        tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
        wide, strips = cuda.blockDim.x, cuda.blockDim.y
        tall = strips * rows
        tile_x, tile_y = cuda.blockIdx.x % tiles_x, cuda.blockIdx.x // tiles_x
        left = min(tile_x * (wide - 2 * _HALO), w - wide)
        top = min(tile_y * (tall - 2 * _HALO), h - tall)

        # A tile is right from HALO pixels inside; neighbours share the doubtful ones so that each is stored once.
        first, end = 0, tall
        if tile_y > 0:
            first = _HALO
        if top + tall < h:
            end = min((tile_y + 1) * (tall - 2 * _HALO), h - tall) + _HALO - top
        mine = tile_x == 0 or tx >= _HALO
        if left + wide < w:
            mine = mine and tx < min((tile_x + 1) * (wide - 2 * _HALO), w - wide) + _HALO - left
        own = np.int32(0)  # bit r: the thread's pixel r is to be counted and stored
        for r in range(rows):
            if mine and first <= ty * rows + r < end:
                own |= 1 << r

        # Unsigned: the wrap-around test of signed indices would double the instructions.
        column, strip = np.uint64(tx), np.uint64(ty)
        row, line = strip * each, np.uint64(pitch)
        right, below = np.uint64(min(tx + 1, wide - 1)), np.uint64(min(ty * rows + rows, tall - 1))
        start = np.uint64((top + ty * rows) * pitch + left + tx)
        for r in range(each):
            at = start + r * line
            u[r] = state[pair, flow, at]
            v[r] = state[pair, flow + 1, at]
            p11[r] = state[pair, dual, at]
            p12[r] = state[pair, dual + 1, at]
            p21[r] = state[pair, dual + 2, at]
            p22[r] = state[pair, dual + 3, at]
            gx[r] = state[pair, _COEFFICIENTS, at]
            gy[r] = state[pair, _COEFFICIENTS + 1, at]
            rho[r] = state[pair, _COEFFICIENTS + 2, at]
        for r in range(each):
            inverse[r] = _ONE / max(gx[r] * gx[r] + gy[r] * gy[r], _TINY)
            p11_of[row + r, column + one] = p11[r]
            p21_of[row + r, column + one] = p21[r]
            if tx == 0:
                p11_of[row + r, column] = _ZERO
                p21_of[row + r, column] = _ZERO
        p12_of[strip + one, column] = p12[last]
        p22_of[strip + one, column] = p22[last]
        if ty == 0:
            p12_of[strip, column] = _ZERO
            p22_of[strip, column] = _ZERO
        cuda.syncthreads()

        error = _ZERO
        for _ in range(count):
            error = _ZERO
            p12_above, p22_above = p12_of[strip, column], p22_of[strip, column]
            for r in range(each):
                away = (rho[r] + gx[r] * u[r] + gy[r] * v[r]) * inverse[r]
                away = min(max(away, -bound), bound)
                du = p11[r] - p11_of[row + r, column] + p12[r] - p12_above - away * gx[r]
                dv = p21[r] - p21_of[row + r, column] + p22[r] - p22_above - away * gy[r]
                p12_above, p22_above = p12[r], p22[r]
                if own & (1 << r):
                    error += du * du + dv * dv
                u[r] += du
                v[r] += dv
                u_of[row + r, column] = u[r]
                v_of[row + r, column] = v[r]
            cuda.syncthreads()
            for r in range(each):
                if r < last:
                    u_below, v_below = u[r + one], v[r + one]
                else:
                    u_below, v_below = u_of[below, column], v_of[below, column]
                ux, uy = u_of[row + r, right] - u[r], u_below - u[r]
                vx, vy = v_of[row + r, right] - v[r], v_below - v[r]
                share = _ONE / (_ONE + slope * math.sqrt(ux * ux + uy * uy))
                p11[r] = (p11[r] + tau * ux) * share
                p12[r] = (p12[r] + tau * uy) * share
                share = _ONE / (_ONE + slope * math.sqrt(vx * vx + vy * vy))
                p21[r] = (p21[r] + tau * vx) * share
                p22[r] = (p22[r] + tau * vy) * share
                p11_of[row + r, column + one] = p11[r]
                p21_of[row + r, column + one] = p21[r]
            p12_of[strip + one, column] = p12[last]
            p22_of[strip + one, column] = p22[last]
            cuda.syncthreads()

        flow, dual = 2 - flow, 2 * _DUAL + 4 - dual
        for r in range(each):
            if own & (1 << r):
                at = start + r * line
                state[pair, flow, at] = u[r]
                state[pair, flow + 1, at] = v[r]
                state[pair, dual, at] = p11[r]
                state[pair, dual + 1, at] = p12[r]
                state[pair, dual + 2, at] = p21[r]
                state[pair, dual + 3, at] = p22[r]

        # The sum of the block, and in the last block of the pair the sum of all
        blocks = cuda.gridDim.x
        u_of[ty, tx] = error
        total = _sum_of_block(u_of, wide, strips, tx, ty)
        if tx == 0 and ty == 0:
            sums[pair, cuda.blockIdx.x] = total
            cuda.threadfence()
            p12_of[0, 0] = np.float32(cuda.atomic.inc(tickets, pair, np.uint32(blocks - 1)) == blocks - 1)
        cuda.syncthreads()
        if p12_of[0, 0] > _ZERO:
            cuda.threadfence()
            total = _ZERO
            for k in range(ty * wide + tx, blocks, wide * strips):
                total += sums[pair, k]
            u_of[ty, tx] = total
            total = _sum_of_block(u_of, wide, strips, tx, ty)
            if tx == 0 and ty == 0 and total <= limit:
                control[copy, _LAUNCHES, pair] = launch + 1
                if cuda.atomic.sub(running, 0, 1) == 1:
                    converged[0] = call

    return relax


@_jit(device=True)
def _order(a, b):
    """Return the smaller and the larger of two numbers."""
    return min(a, b), max(a, b)


@_jit(device=True)
def _sorted3(a, b, c):
    b, c = _order(b, c)
    a, c = _order(a, c)
    a, b = _order(a, b)
    return a, b, c


@_jit(device=True)
def _sorted5(a, b, c, d, e):
    a, b = _order(a, b)
    d, e = _order(d, e)
    c, e = _order(c, e)
    c, d = _order(c, d)
    a, d = _order(a, d)
    a, c = _order(a, c)
    b, e = _order(b, e)
    b, d = _order(b, d)
    b, c = _order(b, c)
    return a, b, c, d, e


@_jit(device=True)
def _middle9(ranks, y, x):
    """Return the median of three sorted columns: that of the largest first, the middle second, the least third."""
    a = max(max(ranks[0, y, x], ranks[0, y, x + 1]), ranks[0, y, x + 2])
    b = _sorted3(ranks[1, y, x], ranks[1, y, x + 1], ranks[1, y, x + 2])[1]
    c = min(min(ranks[2, y, x], ranks[2, y, x + 1]), ranks[2, y, x + 2])
    return _sorted3(a, b, c)[1]


@_jit(device=True)
def _middle25(ranks, y, x):
    """Return the median of five sorted columns.

    With the numbers of each rank sorted as well, only thirteen can still be the median, and it is the seventh of them.
    What of the sorting decides about no other number is left out by the compiler.
    """
    least = cuda.local.array(7, float32)
    for k in range(7):
        least[k] = _HUGE
    _, _, _, d, e = _sorted5(ranks[0, y, x], ranks[0, y, x + 1], ranks[0, y, x + 2], ranks[0, y, x + 3],
                             ranks[0, y, x + 4])
    _insert(least, d)
    _insert(least, e)
    _, _, c, d, e = _sorted5(ranks[1, y, x], ranks[1, y, x + 1], ranks[1, y, x + 2], ranks[1, y, x + 3],
                             ranks[1, y, x + 4])
    _insert(least, c)
    _insert(least, d)
    _insert(least, e)
    _, b, c, d, _ = _sorted5(ranks[2, y, x], ranks[2, y, x + 1], ranks[2, y, x + 2], ranks[2, y, x + 3],
                             ranks[2, y, x + 4])
    _insert(least, b)
    _insert(least, c)
    _insert(least, d)
    a, b, c, _, _ = _sorted5(ranks[3, y, x], ranks[3, y, x + 1], ranks[3, y, x + 2], ranks[3, y, x + 3],
                             ranks[3, y, x + 4])
    _insert(least, a)
    _insert(least, b)
    _insert(least, c)
    a, b, _, _, _ = _sorted5(ranks[4, y, x], ranks[4, y, x + 1], ranks[4, y, x + 2], ranks[4, y, x + 3],
                             ranks[4, y, x + 4])
    _insert(least, a)
    _insert(least, b)
    return least[6]


@_jit(device=True)
def _insert(least, value):
    for k in range(7):
        least[k], value = _order(least[k], value)


@functools.cache
def _smooth(side: int) -> Any:
    """Return the kernel of the median filter over `side` x `side` pixels, borders repeated."""
    radius, shape = side // 2, (side, _BLOCK[1], _BLOCK[0] + side - 1)

    @_jit
    def smooth(state, control, copy, h, w, pitch):
        """Filter the flow onto its other side; columns are sorted once for all pixels that they count for."""
        ranks = cuda.shared.array(shape, float32)
        tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
        x = cuda.blockIdx.x * cuda.blockDim.x + tx
        y = cuda.blockIdx.y * cuda.blockDim.y + ty
        pair = cuda.blockIdx.z
        launches = control[copy, _LAUNCHES, pair]
        flow = (control[copy, _FLOW_SIDE, pair] + launches) & 1
        if x == 0 and y == 0:
            control[1 - copy, _FLOW_SIDE, pair] = 1 - flow
            control[1 - copy, _DUAL_SIDE, pair] = (control[copy, _DUAL_SIDE, pair] + launches) & 1
            control[1 - copy, _LAUNCHES, pair] = 0
        for plane in range(2):
            for column in range(tx, _BLOCK[0] + 2 * radius, _BLOCK[0]):
                place = _clamp(x - tx + column - radius, w)
                a = state[pair, 2 * flow + plane, np.uint32(_clamp(y - 1, h) * pitch + place)]
                b = state[pair, 2 * flow + plane, np.uint32(_clamp(y, h) * pitch + place)]
                c = state[pair, 2 * flow + plane, np.uint32(_clamp(y + 1, h) * pitch + place)]
                if radius == 1:
                    ranks[0, ty, column], ranks[1, ty, column], ranks[2, ty, column] = _sorted3(a, b, c)
                else:
                    d = state[pair, 2 * flow + plane, np.uint32(_clamp(y - 2, h) * pitch + place)]
                    e = state[pair, 2 * flow + plane, np.uint32(_clamp(y + 2, h) * pitch + place)]
                    a, b, c, d, e = _sorted5(a, b, c, d, e)
                    ranks[0, ty, column], ranks[1, ty, column], ranks[2, ty, column] = a, b, c
                    ranks[side - 2, ty, column], ranks[side - 1, ty, column] = d, e
            cuda.syncthreads()
            if x < w and y < h:
                median = _middle9(ranks, ty, tx) if radius == 1 else _middle25(ranks, ty, tx)
                state[pair, 2 - 2 * flow + plane, np.uint32(y * pitch + x)] = median
            cuda.syncthreads()

    return smooth


@_jit
def _collect(state, control, copy, pitch, flows):
    """Fill `flows` (pairs, h, w, 2) from the state."""
    x = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    y = cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y
    pair = cuda.blockIdx.z
    if x < flows.shape[2] and y < flows.shape[1]:
        side = (control[copy, _FLOW_SIDE, pair] + control[copy, _LAUNCHES, pair]) & 1
        for k in range(2):
            flows[pair, y, x, k] = state[pair, 2 * side + k, np.uint32(y * pitch + x)]


@dataclass(frozen=True)
class _Level:
    """Size of a level, where it begins in a pyramid, and how `_relax` cuts it into tiles."""

    height: int
    width: int
    pitch: int  # numbers from row to row of a plane of the state
    first: int
    rows: int  # that a thread keeps
    threads: tuple[int, int]
    tiles: tuple[int, int]


def _levels(sizes: Sequence[tuple[int, int]]) -> list[_Level]:
    levels, first = [], 0
    for h, w in sizes:
        wide, tiles_x = min(w, WIDE), _tiles(w, WIDE)
        if h < 2 * ROWS:
            rows, strips, tiles_y = 1, h, 1
        else:
            heights = range(2, min(h, TALL) // ROWS + 1)
            rows, strips = ROWS, min(heights, key=lambda n: n * _tiles(h, n * ROWS))
            tiles_y = _tiles(h, strips * ROWS)
        levels.append(_Level(h, w, -(-w // 8) * 8, first, rows, (wide, strips), (tiles_x, tiles_y)))
        first += (h + _MARGIN) * (w + _MARGIN)
    return levels


def _tiles(length: int, tile: int) -> int:
    """Return how many tiles, overlapping by two borders, cover a side."""
    return 1 if length <= tile else -(-(length - 2 * _HALO) // (tile - 2 * _HALO))


def _geometry(level: _Level) -> tuple[Any, ...]:
    return np.int32(level.height), np.int32(level.width), np.int32(level.pitch)


def bytes_per_pair(width: int, height: int, params: TVL1Params) -> int:
    """Return the device memory that a pair takes, its flow and two images of its own included."""
    levels = _levels(level_sizes(width, height, params))
    state = PLANES * levels[0].height * levels[0].pitch + _sums_of(levels) + 10  # the flags and counters
    return 4 * (state + 2 * width * height) + 2 * (width * height + 4 * _pyramid_of(levels))


def _pyramid_of(levels: Sequence[_Level]) -> int:
    """Return the numbers that a pyramid has."""
    return levels[-1].first + (levels[-1].height + _MARGIN) * (levels[-1].width + _MARGIN)


def _sums_of(levels: Sequence[_Level]) -> int:
    """Return the room for the sums of a pair's tiles.

    Whole cache lines, since what else lies in a line that the last block of a pair reads might come from a stale copy.
    """
    return -(-max(level.tiles[0] * level.tiles[1] for level in levels) // 32) * 32


# Starting


@functools.cache
def devices() -> int:
    """Return the number of CUDA devices, at least 1, whether or not they can be used.

    Raises
    ------
    NoDeviceError
        There is none, or no driver.
    DeviceError
        The driver does not start; the message says why.
    """
    try:
        with warnings.catch_warnings():  # of a driver that is too old, which `check` explains better
            warnings.filterwarnings("ignore", "cuda-bindings was built for")
            error = cuda.cuda_error()
            count = 0 if error is not None else len(cuda.gpus)
    except Exception as broken:  # whatever a damaged installation brings about
        error, count = broken, 0
    reason = " ".join(str(error).split())
    if "CUDA_ERROR_NO_DEVICE" in reason or (error is None and not count):
        raise NoDeviceError("No CUDA device: the NVIDIA driver works but shows none; is CUDA_VISIBLE_DEVICES set?")
    if error is not None:
        absent = any(text in reason for text in ("cannot be found", "NUMBA_DISABLE_CUDA", "CUDA_ERROR_STUB_LIBRARY"))
        raise (NoDeviceError if absent else DeviceError)(
            f"No CUDA device: there is no NVIDIA driver that works ({reason}); use device cpu.")
    return count


def check(device: int) -> None:
    """Raise `DeviceError` unless the device runs a kernel; the message says why, and what is installed."""
    _check(device, os.getpid())  # a process that was forked cannot use what its parent has started


@functools.cache
def _check(device: int, process: int) -> None:
    if not cuda.config.ENABLE_CUDASIM:
        if not cuda.is_available():
            raise DeviceError("A CUDA device is there, but not the libraries to compile for it: pip install "
                              '"densetraj[gpu]", or "densetraj[gpu12]" where the driver is older than CUDA 13.')
        with _starting(device), _current(device):
            _probe()


def _probe() -> None:
    grey, pyramid, stream = cuda.device_array((1, 1), np.uint8), cuda.device_array((1, 36), np.float32), cuda.stream()
    grey.copy_to_device(np.full((1, 1), 7, np.uint8), stream)
    _launch(_to_float, (1, 1, 1), _BLOCK, stream, grey, pyramid, np.int32(1), np.int32(1))()
    found = pyramid.copy_to_host(stream=stream)
    stream.synchronize()
    if (found != 7).any():
        raise RuntimeError("its first kernel gave wrong numbers")


@contextmanager
def _starting(device: int) -> Iterator[None]:
    """Turn whatever goes wrong into an error that says what is installed."""
    try:
        yield
    except DeviceError:
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise DeviceError(
            f"The GPU cuda:{device} cannot be used ({reason}); its driver supports CUDA {_version(cuda.driver)}, the "
            f"libraries that compile for it are of CUDA {_version(cuda.runtime)}, numba-cuda is "
            f'{numba_cuda.__version__}: update the driver, or pip install "densetraj[gpu12]" for drivers older than '
            "CUDA 13 and for GPUs below compute capability 7.5, or use device cpu.") from error


@contextmanager
def _current(device: int) -> Iterator[None]:
    """Make a device the current one, and free what is no longer referred to before it ceases to be.

    Numba frees in whichever thread drops the last reference, or later; where the device is not current the driver
    refuses, and the memory is lost.
    """
    with cuda.gpus[device]:
        try:
            yield
        except BaseException as error:
            traceback.clear_frames(error.__traceback__)  # which refer to arrays as long as the error lives
            raise
        finally:
            _free()


def _free() -> None:
    if not cuda.config.ENABLE_CUDASIM:
        context = cuda.current_context()
        context.memory_manager.deallocations.clear()
        context.deallocations.clear()


def _version(part: Any) -> str:
    """Return the version of CUDA of the driver or of the libraries."""
    try:
        return ".".join(map(str, part.get_version()))
    except Exception:  # they may be missing altogether
        return "unknown"


class _Launch:
    """A kernel with its grid, stream and arguments; each call launches it, with other numbers where they are given.

    A call takes a tenth of the time of Numba's own launch, which takes all arguments apart, and longer than most
    kernels run. `_prepare_args` and `_codelibrary` are private to numba-cuda, whose version is therefore pinned.
    """

    def __init__(self, kernel: Any, grid: tuple[int, ...], block: tuple[int, ...], stream: Any, *arguments: Any
                 ) -> None:
        from cuda.core import LaunchConfig, Stream, launch  # type: ignore[import-untyped]

        types = tuple(map(kernel.typeof_pyval, arguments))
        with _loading, _starting(cuda.current_context().device.id):
            compiled = kernel.overloads.get(types) or _compiled(kernel, types)
            function = compiled._codelibrary.get_cufunc().kernel
        self._given: list[Any] = []  # several for an array
        self._places = {}
        for name, kind, value in zip(_names(kernel), compiled.argument_types, arguments, strict=False):
            self._places[name] = len(self._given)
            compiled._prepare_args(kind, value, stream, [], self._given)
        self._run = functools.partial(launch, Stream.from_handle(int(stream.handle)),
                                      LaunchConfig(grid=grid, block=block), function, *self._given)

    def __call__(self, **numbers: int) -> None:
        for name, number in numbers.items():
            self._given[self._places[name]].value = number
        self._run()


def _compiled(kernel: Any, types: tuple[Any, ...]) -> Any:
    """Return a kernel for arguments of these types, compiled in a thread of its own.

    While it compiles Numba keeps errors that it has handled, and with them the frames of all callers: the arrays of a
    batch would live until the garbage collector comes by.
    """
    device = cuda.current_context().device.id

    def compile_it() -> Any:
        with cuda.gpus[device]:
            return kernel.compile(types)

    with ThreadPoolExecutor(1, thread_name_prefix="idt") as pool:
        return pool.submit(compile_it).result()


_loading = threading.Lock()  # Numba fails when two threads load a kernel from its cache at once


_LATER = np.int32(0)  # in the place of an argument that is given to each call of a launch


class _SimulatedLaunch:
    """The same under the simulator."""

    def __init__(self, kernel: Any, grid: tuple[int, ...], block: tuple[int, ...], stream: Any, *arguments: Any
                 ) -> None:
        self._run = kernel[grid, block, stream]
        self._arguments = dict(zip(_names(kernel), arguments, strict=False))

    def __call__(self, **numbers: int) -> None:
        self._run(*(self._arguments | numbers).values())


_launch = _SimulatedLaunch if cuda.config.ENABLE_CUDASIM else _Launch


def _names(kernel: Any) -> tuple[str, ...]:
    """Return the names of the arguments of a kernel, and of its other variables after them."""
    names: tuple[str, ...] = kernel.py_func.__code__.co_varnames
    return names


class Solver:
    """TV-L1 flow of batches of pairs on one device; memory is kept from call to call, until the solver is closed.

    Each solver has a stream of its own and serves one thread at a time; two of them, each in its thread, overlap the
    copies of one batch with the computation of another.

    Parameters
    ----------
    width, height : int
        Size of the images, pixels.
    params : TVL1Params
    device : int
        Number of the device.

    Raises
    ------
    DeviceError
        There is no such device, or it cannot be used.
    """

    def __init__(self, width: int, height: int, params: TVL1Params, *, device: int = 0) -> None:
        if not 0 <= device < devices():
            raise DeviceError(f"There is no device cuda:{device}: CUDA shows {devices()}, numbered from 0.")
        check(device)
        self._sizes = level_sizes(width, height, params)
        self._params = params
        self._device = device
        self._batch: _Batch | None = None

    def close(self) -> None:
        """Give all memory back; the next batch asks for it again."""
        with _current(self._device):
            self._batch = None

    def capacity(self, processes: int = 1) -> int:
        """Return the number of pairs, each of two images of its own, for which the device has room at present.

        It is limited to what one of so many processes may take that share the device.
        """
        with cuda.gpus[self._device]:
            memory = cuda.current_context().get_memory_info()
        room = min(memory.free, memory.total / processes)
        if room == math.inf:  # the simulator
            room = 2**30
        return int(_USABLE * room) // bytes_per_pair(*self._sizes[0][::-1], self._params)

    def solve(self, images: Sequence[ByteArray], pairs: Sequence[tuple[int, int]]) -> FloatArray:
        """Return the flow of every pair.

        Parameters
        ----------
        images : sequence of ndarray, shape (H, W), uint8
        pairs : sequence of (int, int)
            Which images make up each pair; an image may be in any number of them.

        Returns
        -------
        ndarray, shape (n, H, W, 2), float32
            x then y, pixels.

        Raises
        ------
        MemoryError
            The device has no room for so many pairs; nothing of the batch is kept on it.
        """
        if not pairs:
            return np.empty((0, *self._sizes[0], 2), np.float32)
        try:
            with _turn, _current(self._device):
                return self._solve(images, pairs)
        except Exception as error:
            if "OUT_OF_MEMORY" not in str(error):
                raise
            message = f"{len(pairs)} pairs have no room on the device cuda:{self._device} ({error})."
        raise MemoryError(message)  # only here, where the error is gone

    def _solve(self, images: Sequence[ByteArray], pairs: Sequence[tuple[int, int]]) -> FloatArray:
        try:
            if self._batch is None or not self._batch.holds(len(images), len(pairs)):
                self._batch = None
                _free()  # before more is asked for
                self._batch = _Batch(self._sizes, self._params, len(images), len(pairs))
            self._batch.load(images, pairs)
            solve(self._batch, self._params)
            return self._batch.flows()
        except BaseException:
            self._batch = None
            raise


class _Batch:
    """Images and state of a batch on the current device; `idt.flow.tvl1.solve` calls the steps in their order."""

    def __init__(self, sizes: Sequence[tuple[int, int]], params: TVL1Params, images: int, pairs: int) -> None:
        self.sizes = sizes
        self._params = params
        self._levels = _levels(sizes)
        (h, w), finest = sizes[0], self._levels[0]
        self._stream = cuda.stream()
        self._events = [cuda.event() for _ in range(AHEAD)]
        self._host_grey = cuda.pinned_array((images, h * w), np.uint8)
        self._host_flows = cuda.pinned_array((pairs, h, w, 2), np.float32)
        self._host_numbers = cuda.pinned_array((2, pairs), np.int32)
        self._converged = cuda.mapped_array(1, np.int32)
        self._grey = cuda.device_array((images, h * w), np.uint8)
        self._pyramids = cuda.device_array((images, _pyramid_of(self._levels)), np.float32)
        self._state = cuda.device_array((pairs, PLANES, finest.height * finest.pitch), np.float32)
        self._flows = cuda.device_array((pairs, h, w, 2), np.float32)
        self._sums = cuda.device_array((pairs, _sums_of(self._levels)), np.float32)
        self._numbers = cuda.device_array((2, pairs), np.int32)
        self._control = cuda.to_device(np.zeros((2, 3, pairs), np.int32), self._stream)
        self._tickets = cuda.to_device(np.zeros(pairs, np.uint32), self._stream)
        self._running = cuda.device_array(1, np.int32)
        self._prepared: dict[Any, Any] = {}
        self._converged[0] = 0
        self._call = 0
        self._copy = 0
        self._pairs = 0

    def holds(self, images: int, pairs: int) -> bool:
        """Say whether a batch of this size has room."""
        return images <= len(self._host_grey) and pairs <= len(self._host_flows)

    def load(self, images: Sequence[ByteArray], pairs: Sequence[tuple[int, int]]) -> None:
        """Take images and pairs, and make the pyramids."""
        n, self._pairs = len(images), len(pairs)
        for into, image in zip(self._host_grey, images, strict=False):
            into.reshape(image.shape)[:] = image
        self._host_numbers[:, :self._pairs] = np.transpose(pairs)
        self._grey[:n].copy_to_device(self._host_grey[:n], self._stream)
        self._numbers.copy_to_device(self._host_numbers, self._stream)
        finest = self._levels[0]
        self._kernel(_to_float, self._grid(finest, n), self._grey, self._pyramids, np.int32(finest.height),
                     np.int32(finest.width))()
        ratio = np.float32(1 / self._params.scale_step)
        for fine, coarse in itertools.pairwise(self._levels):
            self._kernel(_reduce, self._grid(coarse, n), self._pyramids, np.int32(fine.first), np.int32(fine.height),
                         np.int32(fine.width), np.int32(coarse.first), np.int32(coarse.height), np.int32(coarse.width),
                         ratio)()

    def enter(self, level: int) -> None:
        """Begin a level from the next coarser one, if there is one."""
        fine = self._levels[level]
        factor = 1 / self._params.scale_step if level + 1 < len(self._levels) else 0.0
        coarse = self._levels[level + 1] if factor else fine
        self._kernel(_enter, self._grid(fine), self._state, self._control, _LATER, *_geometry(fine), *_geometry(coarse),
                     np.float32(coarse.height / fine.height), np.float32(coarse.width / fine.width),
                     np.float32(factor))(copy=self._copy)
        self._copy = 1 - self._copy

    def linearise(self, level: int) -> None:
        """Fill the planes of the data term."""
        at = self._levels[level]
        self._kernel(_linearise, self._grid(at), self._state, self._pyramids, self._numbers, self._control,
                     self._running, _LATER, np.int32(self._launches), np.int32(at.first), *_geometry(at),
                     np.float32(self._params.sharpness))(copy=self._copy)
        self._copy = 1 - self._copy

    def relax(self, level: int) -> None:
        """Iterate; the host follows AHEAD launches behind to see whether all pairs have converged."""
        self._call += 1
        kernel, iterations = self.relaxing(level), self._params.iterations
        for launch in range(self._launches):
            event = self._events[launch % AHEAD]
            if launch >= AHEAD:
                event.synchronize()
                if self._converged[0] == self._call:
                    break
            kernel(call=self._call, copy=self._copy, launch=launch,
                   count=min(TEST_EVERY, iterations - launch * TEST_EVERY))
            event.record(self._stream)

    def relaxing(self, level: int) -> Any:
        """Return what launches iterations of a level; it is called with `call`, `copy`, `launch` and `count`."""
        at, p = self._levels[level], self._params
        return self._kernel(
            _relax(at.rows), (at.tiles[0] * at.tiles[1], self._pairs), self._state, self._sums, self._tickets,
            self._control, self._running, self._converged, _LATER, _LATER, _LATER, _LATER, *_geometry(at),
            np.int32(at.tiles[0]), np.float32(p.lambda_ * p.theta), np.float32(p.tau), np.float32(p.tau / p.theta),
            np.float32(p.epsilon**2 * at.height * at.width), block=at.threads)

    def smooth(self, level: int) -> None:
        """Filter the flow."""
        at = self._levels[level]
        self._kernel(_smooth(self._params.median), self._grid(at), self._state, self._control, _LATER,
                     *_geometry(at))(copy=self._copy)
        self._copy = 1 - self._copy

    def flows(self) -> FloatArray:
        """Return the flow of every pair on the finest level."""
        finest = self._levels[0]
        self._kernel(_collect, self._grid(finest), self._state, self._control, _LATER, np.int32(finest.pitch),
                     self._flows)(copy=self._copy)
        host = self._host_flows[:self._pairs]
        self._flows[:self._pairs].copy_to_host(host, self._stream)
        self._stream.synchronize()
        return host.copy()

    def _kernel(self, kernel: Any, grid: tuple[int, ...], *arguments: Any, block: tuple[int, int] | None = None) -> Any:
        """Return what launches a kernel, prepared once for the same numbers; those that are _LATER come with a call."""
        key = kernel, grid, *(argument for argument in arguments if isinstance(argument, np.generic))
        if key not in self._prepared:
            self._prepared[key] = _launch(kernel, grid, block or _BLOCK, self._stream, *arguments)
        return self._prepared[key]

    @property
    def _launches(self) -> int:
        return -(-self._params.iterations // TEST_EVERY)

    def _grid(self, level: _Level, images: int = 0) -> tuple[int, int, int]:
        """Return the blocks for the pixels of all pairs, or of so many images with their margins."""
        margin = _MARGIN if images else 0
        return -(-(level.width + margin) // _BLOCK[0]), -(-(level.height + margin) // _BLOCK[1]), images or self._pairs
