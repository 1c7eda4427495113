"""TV-L1 on one processor core: pyramid, warping and iterations of one pair.

The state of a level is ten planes in one flat float32 array (`_simd.relax_row_plain` names them), each of h + 2 rows:
the first and the last are no pixels but spare every test for a border. Rows are padded to whole vectors and planes
begin in different cache sets, which makes an iteration a third faster than planes that begin in the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

from idt._util.kernels import jit
from idt.flow._simd import relax_row, sample_with_gradient
from idt.flow.pyramid import ByteArray, FloatArray

if TYPE_CHECKING:
    from idt.flow.tvl1 import TVL1Params

SIMD_SOURCE = "1d95164e26eb894f"
"""Digest of ``_simd.py``: Numba's cache notices an edit there only when this line changes."""

LEFT, RIGHT = 3, 8
"""Pixels before and behind an image by which its border is continued; eight are read from two before a place."""

_LANES = 16
_APART = 80  # numbers from the cache set of one plane to that of the next
_TINY = np.float32(1e-12)  # a gradient of zero divides nothing; what it moves is multiplied by that gradient
_OUTSIDE = np.float32(1e9)

_jit = jit()
_fast = jit(fastmath=True)


class PairState:
    """Two images and the flow between them: `idt.flow.tvl1.solve` calls the steps that `State` there describes.

    Parameters
    ----------
    sizes : sequence of (h, w)
        Of the levels, finest first, pixels.
    params : TVL1Params
    """

    def __init__(self, sizes: Sequence[tuple[int, int]], params: TVL1Params) -> None:
        self.sizes = sizes
        h, w = sizes[0]
        size = _layout(h, w)[2]
        memory = np.empty(10 * size + 2 * _LANES, np.float32)
        first = -(memory.ctypes.data // memory.itemsize) % _LANES
        self._planes = memory[first:first + 10 * size + _LANES]  # smaller levels use the same memory
        self._coarse = np.empty(2 * h * w, np.float32)
        self._images: tuple[Sequence[FloatArray], Sequence[FloatArray]] = ((), ())
        self._params = params
        self._bound, self._ratio = np.float32(params.lambda_ * params.theta), np.float32(params.tau / params.theta)

    def load(self, a: Sequence[FloatArray], b: Sequence[FloatArray]) -> None:
        """Take two images, as `pyramid` makes them."""
        self._images = a, b

    def enter(self, level: int) -> None:
        """Begin a level from the next coarser one, if there is one."""
        h, w = self.sizes[level]
        used = self._planes[:10 * _layout(h, w)[2]]
        if level + 1 == len(self.sizes):
            used.fill(0.0)
        else:
            _planar(self._planes, *self.sizes[level + 1], self._coarse)
            used.fill(0.0)
            _enlarge(self._coarse, *self.sizes[level + 1], used, h, w, np.float32(1 / self._params.scale_step))

    def linearise(self, level: int) -> None:
        """Fill the planes of the data term."""
        a, b = (images[level] for images in self._images)
        _linearise(a.reshape(-1), b.reshape(-1), a.shape[1], self._planes, *self.sizes[level],
                   np.float32(self._params.sharpness))

    def relax(self, level: int) -> None:
        """Iterate; convergence is tested after every iteration."""
        h, w = self.sizes[level]
        p = self._params
        _relax(self._planes, h, w, self._bound, np.float32(p.tau), self._ratio, p.iterations, p.epsilon**2 * h * w)

    def smooth(self, level: int) -> None:
        """Filter both planes of the flow."""
        h, w = self.sizes[level]
        _, stride, size = _layout(h, w)
        for first in (0, size):
            plane = self._planes[first + stride:first + (h + 1) * stride].reshape(h, stride)
            plane[:, :w] = cv2.medianBlur(plane[:, :w], self._params.median)

    def flow(self, out: FloatArray | None = None) -> FloatArray:
        """Return the flow of the finest level, (H, W, 2)."""
        h, w = self.sizes[0]
        out = np.empty((h, w, 2), np.float32) if out is None else out
        _interleave(self._planes, out)
        return out


def pyramid(grey: ByteArray, sizes: Sequence[tuple[int, int]], ratio: float, out: list[FloatArray] | None
            ) -> list[FloatArray]:
    """Return an image on every level, finest first: float32 (h + 11, w + 11), grey values, the border continued.

    Each level is resized from the one before, whose size is `ratio` times as large; `out` is filled when given.
    """
    levels = out or [np.empty((h + LEFT + RIGHT, w + LEFT + RIGHT), np.float32) for h, w in sizes]
    levels[0][LEFT:-RIGHT, LEFT:-RIGHT] = grey
    _continue(levels[0])
    for fine, coarse in itertools.pairwise(levels):
        _reduce(fine, coarse, ratio)
    return levels


@_jit
def _layout(h, w):
    """Return the pixels of a row in whole vectors, the numbers from row to row, and those from plane to plane."""
    lanes = (w + _LANES - 1) // _LANES * _LANES
    stride = lanes + _LANES  # the gap is what lies left of the next row
    return lanes, stride, ((h + 2) * stride + 1023) // 1024 * 1024 + _APART


@_jit
def _continue(image):
    """Continue the border of an image that lies within its array."""
    top, bottom = LEFT, image.shape[0] - RIGHT
    left, right = LEFT, image.shape[1] - RIGHT
    for y in range(top, bottom):
        line = image[y]
        for x in range(left):
            line[x] = line[left]
        for x in range(right, len(line)):
            line[x] = line[right - 1]
    for y in range(len(image)):
        source, line = image[min(max(y, top), bottom - 1)], image[y]
        if y < top or y >= bottom:
            for x in range(np.uint64(len(line))):
                line[x] = source[x]


@_jit
def _reduce(fine, coarse, ratio):
    """Fill an image from the next finer one, bilinear with half-pixel centres."""
    h, w = fine.shape[0] - LEFT - RIGHT, fine.shape[1] - LEFT - RIGHT
    _resize(fine.reshape(-1), LEFT * fine.shape[1] + LEFT, fine.shape[1], h, w,
            coarse.reshape(-1), LEFT * coarse.shape[1] + LEFT, coarse.shape[1],
            coarse.shape[0] - LEFT - RIGHT, coarse.shape[1] - LEFT - RIGHT, ratio, ratio, np.float32(1))
    _continue(coarse)


@_jit
def _enlarge(flow, coarse_h, coarse_w, planes, h, w, factor):
    """Fill the flow of a level from that of the next coarser one; `factor` turns its pixels into this level's."""
    _, stride, size = _layout(h, w)
    for k in range(2):
        _resize(flow, k * coarse_h * coarse_w, coarse_w, coarse_h, coarse_w, planes, k * size + stride, stride, h, w,
                coarse_h / h, coarse_w / w, factor)


@_jit
def _resize(source, first, line, h, w, out, out_first, out_line, out_h, out_w, ratio_y, ratio_x, factor):
    """Resize one plane of a flat array into one of another."""
    left, along = _bilinear(w, out_w, ratio_x)
    upper, down = _bilinear(h, out_h, ratio_y)
    blend = np.empty(w + 1, np.float32)
    for y in range(out_h):
        place = first + np.int64(upper[y]) * line
        a, f = source[place:place + w], down[y]
        b = source[place + line:place + line + w] if h > 1 else a
        for x in range(np.uint64(w)):
            blend[x] = factor * (a[x] + f * (b[x] - a[x]))
        blend[w] = blend[w - 1]
        place = out_first + y * out_line
        row = out[place:place + out_w]
        for x in range(np.uint64(out_w)):
            value = blend[left[x]]
            row[x] = value + along[x] * (blend[left[x] + np.uint64(1)] - value)


@_jit
def _bilinear(size, new, ratio):
    """Return the left neighbour of every coordinate of a resized line, and the weight of the right one."""
    left, weight = np.empty(new, np.uint64), np.empty(new, np.float32)
    for i in range(new):
        p = min(max((i + 0.5) * ratio - 0.5, 0.0), size - 1.0)
        j = min(int(p), max(size - 2, 0))
        left[i], weight[i] = j, np.float32(p - j)
    return left, weight


@_fast
def _linearise(a, b, line, planes, h, w, sharpness):
    """Fill the planes gx, gy, rho and 1 / (gx^2 + gy^2) of a level; zero where the flow leads out of the image."""
    lanes, stride, size = _layout(h, w)
    weights, out = np.empty((8, lanes), np.float32), np.empty((3, lanes), np.float32)
    start, inside = np.empty(lanes, np.uint32), np.empty(lanes, np.float32)
    columns = np.arange(lanes).astype(np.float32)
    columns[w:] = _OUTSIDE  # what fills the last vector, wherever its flow leads
    for y in range(h):
        row = (y + 1) * stride
        u, v = planes[row:row + lanes], planes[size + row:size + row + lanes]
        _places(u, v, columns, np.float32(y), np.float32(w - 1), np.float32(h - 1), line, start, inside, weights)
        _taps(weights[:4], sharpness)
        _taps(weights[4:], sharpness)
        for x in range(0, lanes, 8):
            sample_with_gradient(b, line, start, weights, lanes, x, out)
        gx, gy = planes[6 * size + row:6 * size + row + lanes], planes[7 * size + row:7 * size + row + lanes]
        rho, inverse = planes[8 * size + row:8 * size + row + lanes], planes[9 * size + row:9 * size + row + lanes]
        place = (y + LEFT) * line + LEFT
        _fill(u, v, a[place:place + lanes], out[0], out[1], out[2], inside, gx, gy, rho, inverse)


@_fast
def _places(u, v, columns, y, last_x, last_y, line, start, inside, weights):
    """Find where each pixel of a row goes: the patch that surrounds it, and in rows 0 and 4 of `weights` how far in."""
    along, down = weights[0], weights[4]
    for x in range(np.uint64(len(columns))):
        px, py = columns[x] + u[x], y + v[x]
        qx, qy = min(max(px, np.float32(0)), last_x), min(max(py, np.float32(0)), last_y)
        i, j = np.int32(qx), np.int32(qy)
        along[x], down[x] = qx - np.float32(i), qy - np.float32(j)
        start[x] = (j + np.int32(LEFT - 2)) * np.int32(line) + i + np.int32(LEFT - 2)
        inside[x] = np.float32(1) if (qx == px) & (qy == py) else np.float32(0)


@_fast
def _taps(weights, sharpness):
    """Turn the fractions in the first of four rows into the weights of four neighbours: Keys (1981), or linear."""
    first, second, third, fourth = weights[0], weights[1], weights[2], weights[3]
    one = np.float32(1)
    if sharpness != 0:
        near, far = sharpness + np.float32(2), sharpness + np.float32(3)
        for x in range(np.uint64(len(first))):
            f = first[x]
            g = one - f
            first[x], fourth[x] = sharpness * f * g * g, sharpness * g * f * f
            second[x], third[x] = one + f * f * (near * f - far), one + g * g * (near * g - far)
    else:
        for x in range(np.uint64(len(first))):
            second[x], third[x] = one - first[x], first[x]
            first[x] = fourth[x] = np.float32(0)


@_fast
def _fill(u, v, a, warped, along, down, inside, gx, gy, rho, inverse):
    for x in range(np.uint64(len(u))):
        i, j = inside[x] * along[x], inside[x] * down[x]
        gx[x], gy[x] = i, j
        rho[x] = inside[x] * (warped[x] - a[x]) - i * u[x] - j * v[x]
        inverse[x] = np.float32(1) / max(i * i + j * j, _TINY)


@_jit
def _relax(planes, h, w, bound, tau, ratio, iterations, limit):
    """Iterate until the squared changes of the flow add up to `limit` or less; return the number of iterations."""
    lanes, stride, size = _layout(h, w)
    for n in range(iterations):
        total = 0.0
        for y in range(1, h + 2):
            row = y * stride
            if y > h:  # the flow below the image is that of its last row
                for k in range(2):
                    last, below = planes[k * size + row - stride:k * size + row], planes[k * size + row:]
                    for x in range(np.uint64(w)):
                        below[x] = last[x]
            total += relax_row(planes, size, row, stride, lanes, bound, tau, ratio)
            for k in range(2):
                planes[k * size + row + w] = planes[k * size + row + w - 1]
            for k in range(2, 6):
                planes[k * size + row - stride + w] = np.float32(0)
                if y == 1:
                    above = planes[k * size:k * size + lanes]
                    for x in range(np.uint64(lanes)):
                        above[x] = np.float32(0)
        if total <= limit:
            return n + 1
    return iterations


@_jit
def _planar(planes, h, w, flow):
    """Copy the flow of a level to `flow`, u then v, without gaps."""
    _, stride, size = _layout(h, w)
    for k in range(2):
        for y in range(h):
            place, first = (k * h + y) * w, k * size + (y + 1) * stride
            row, source = flow[place:place + w], planes[first:first + w]
            for x in range(np.uint64(w)):
                row[x] = source[x]


@_jit
def _interleave(planes, out):
    """Copy the flow of a level to `out` (h, w, 2)."""
    h, w, _ = out.shape
    _, stride, size = _layout(h, w)
    for y in range(h):
        first = (y + 1) * stride
        u, v, row = planes[first:first + w], planes[size + first:size + first + w], out[y].reshape(-1)
        for x in range(np.uint64(w)):
            row[np.uint64(2) * x], row[np.uint64(2) * x + np.uint64(1)] = u[x], v[x]
