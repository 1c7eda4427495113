"""TV-L1 on one processor core: pyramid, warping and iterations of one pair.

The state of a level is ten planes in one flat float32 array (`_simd.relax_row_plain` names them), each of h + 2 rows:
the first and the last are no pixels but spare every test for a border. Rows are padded to whole vectors and planes
begin in different cache sets, which makes an iteration a third faster than planes that begin in the same.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numba
import numpy as np

from idt.flow._simd import relax_row, sample_with_gradient
from idt.flow.pyramid import ByteArray, FloatArray

if TYPE_CHECKING:
    from idt.flow.tvl1 import TVL1Params

SIMD_SOURCE = "8db2c20dc9f94a03"
"""Digest of ``_simd.py``: Numba's cache notices an edit there only when this line changes."""

PLANES = 10
LEFT, RIGHT = 3, 8  # pixels around an image by which its border is continued; eight lanes are read from two before

_LANES = 16
_APART = 80  # numbers from the cache set of one plane to that of the next
_TINY = np.float32(1e-12)  # keeps a gradient of zero from dividing; what it moves is multiplied by that gradient

SHARPNESS = {'cubic':-.75,'keys':-.5,'linear':0.}
_jit = numba.njit(cache=True, nogil=True, error_model="numpy")
_fast = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=True)


class State:
    """Two images and the flow between them, on every level; `idt.flow.tvl1.solve` calls the steps in their order.

    Parameters
    ----------
    sizes : list of (h, w)
        Of the levels, finest first, pixels.
    params : TVL1Params
    """

    def __init__(self, sizes: Sequence[tuple[int, int]], params: TVL1Params) -> None:
        self.sizes = sizes
        self._params = params
        h, w = sizes[0]
        count = PLANES * _size(h, w) + 2 * _LANES
        memory = np.empty(count + _LANES, np.float32)
        first = -(memory.ctypes.data // memory.itemsize) % _LANES + _LANES
        self._planes = memory[first:]
        self._flow = np.empty(2 * h * w, np.float32)  # u, then v, of the level that was solved last
        self._images: tuple[Sequence[FloatArray], Sequence[FloatArray]] = ((), ())

    def load(self, a: Sequence[FloatArray], b: Sequence[FloatArray]) -> None:
        """Take the pyramids of two images."""
        self._images = a, b

    def enter(self, level: int) -> None:
        """Begin a level: the flow of the coarser one enlarged, or none; dual variables of zero."""
        h, w = self.sizes[level]
        planes = self._planes[:PLANES * _size(h, w)]
        planes.fill(0.0)
        if level + 1 < len(self.sizes):
            _enlarge(self._flow, *self.sizes[level + 1], planes, h, w, np.float32(1 / self._params.scale_step))

    def linearise(self, level: int) -> None:
        """Warp the second image and its gradient by the flow."""
        a, b = (images[level] for images in self._images)
        _linearise(a.reshape(-1), b.reshape(-1), a.shape[1], self._planes, *self.sizes[level],
                   np.float32(SHARPNESS[self._params.interpolation]))

    def relax(self, level: int) -> None:
        """Iterate until the flow changes by less than epsilon."""
        h, w = self.sizes[level]
        p = self._params
        _relax(self._planes, h, w, np.float32(p.lambda_ * p.theta), np.float32(p.tau), np.float32(p.tau / p.theta),
               p.iterations, p.epsilon**2 * h * w)

    def leave(self, level: int) -> None:
        """Keep the flow of the level for the next one."""
        _collect(self._planes, *self.sizes[level], self._flow)

    def flow(self, out: FloatArray | None = None) -> FloatArray:
        """Return the flow of the finest level, (H, W, 2)."""
        h, w = self.sizes[0]
        out = np.empty((h, w, 2), np.float32) if out is None else out
        _interleave(self._flow, out)
        return out


def pyramid(grey: ByteArray, sizes: Sequence[tuple[int, int]], params: TVL1Params) -> list[FloatArray]:
    """Return an image on every level, finest first: float32 (h + 11, w + 11), grey values, borders continued."""
    levels = [np.empty((h + LEFT + RIGHT, w + LEFT + RIGHT), np.float32) for h, w in sizes]
    levels[0][LEFT:-RIGHT, LEFT:-RIGHT] = grey
    _continue(levels[0])
    for fine, coarse in itertools.pairwise(levels):
        if params.smoothing:
            sigma = params.smoothing * math.sqrt(params.scale_step**-2 - 1)
            fine = cv2.GaussianBlur(fine[LEFT:-RIGHT, LEFT:-RIGHT], (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
            fine = cv2.copyMakeBorder(fine, LEFT, RIGHT, LEFT, RIGHT, cv2.BORDER_REPLICATE)
        _reduce(fine, coarse, 1 / params.scale_step)
    return levels


def _stride(w: int) -> int:
    return (-(-w // _LANES) + 1) * _LANES


def _size(h: int, w: int) -> int:
    return -(-(h + 2) * _stride(w) // 1024) * 1024 + _APART


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
        _edge(planes, k * size, stride, h, w)


@_jit
def _edge(planes, first, stride, h, w):
    """Continue the flow by the pixel right of each row, so that its difference along x is zero there."""
    for y in range(1, h + 1):
        planes[first + y * stride + w] = planes[first + y * stride + w - 1]


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
    columns[w:] = np.float32(1e9)  # what fills the last vector lies outside, wherever its flow leads
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
def _collect(planes, h, w, flow):
    _, stride, size = _layout(h, w)
    for k in range(2):
        for y in range(h):
            place, first = (k * h + y) * w, k * size + (y + 1) * stride
            row, source = flow[place:place + w], planes[first:first + w]
            for x in range(np.uint64(w)):
                row[x] = source[x]


@_jit
def _interleave(flow, out):
    h, w, _ = out.shape
    for y in range(h):
        u, v = flow[y * w:(y + 1) * w], flow[(h + y) * w:(h + y + 1) * w]
        row = out[y].reshape(-1)
        for x in range(np.uint64(w)):
            row[np.uint64(2) * x], row[np.uint64(2) * x + np.uint64(1)] = u[x], v[x]
