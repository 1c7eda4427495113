"""Where new points start: on a grid, wherever no track is and the image has structure in two directions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from idt._util.kernels import jit

FloatArray = npt.NDArray[np.float32]

_jit = jit()


def min_eigenvalues(grey: npt.NDArray[np.uint8]) -> FloatArray:
    """Return the smaller eigenvalue of the structure matrix of every pixel.

    Parameters
    ----------
    grey : ndarray, shape (H, W), uint8

    Returns
    -------
    ndarray, shape (H, W), float32
        Of 3 x 3 Sobel derivatives, products summed over 3 x 3 pixels, borders mirrored (Shi and Tomasi, CVPR 1994).
        The sums are integers below 2^24 and therefore exact; a common factor is left out.
    """
    out = np.empty(grey.shape, np.float32)
    _min_eigenvalues(grey, out)
    return out


def new_points(eigenvalues: FloatArray, tracked: FloatArray, *, stride: int, quality: float) -> FloatArray:
    """Return the points that start on one scale (Wang et al., IJCV 2013, section 3.1).

    Parameters
    ----------
    eigenvalues : ndarray, shape (H, W), float32
        Of the current image, from `min_eigenvalues`.
    tracked : ndarray, shape (n, 2), float32
        Positions x, y of the live tracks; their grid cells get no new point.
    stride : int
        Side of a grid cell, pixels.
    quality : float
        A point needs an eigenvalue above this share of the image's largest.

    Returns
    -------
    ndarray, shape (k, 2), float32
        x, y in row-major order of the cells.
    """
    h, w = eigenvalues.shape
    out = np.empty(((h // stride) * (w // stride), 2), np.float32)
    return out[: _new_points(eigenvalues, tracked, stride, np.float32(quality) * eigenvalues.max(), out)]


@_jit
def _mirror(i, n):
    if i < 0:
        i = -i
    if i >= n:
        i = 2 * n - 2 - i
    return max(i, 0)


@_jit
def _products(grey, y, padded):
    """Fill three rows, padded by one, with the products of the Sobel derivatives in row y."""
    h, w = grey.shape
    up, row, down = grey[_mirror(y - 1, h)], grey[y], grey[_mirror(y + 1, h)]
    column = np.empty((2, w + 2), np.float32)
    smooth, steep = column[0], column[1]
    for x in range(w):
        a, b, c = np.float32(up[x]), np.float32(row[x]), np.float32(down[x])
        smooth[x + 1] = a + b + b + c
        steep[x + 1] = c - a
    for k in range(2):
        line = column[k]
        line[0], line[w + 1] = line[1 + _mirror(1, w)], line[1 + _mirror(w, w)]
    xx, xy, yy = padded[0][1:], padded[1][1:], padded[2][1:]
    for x in range(w):
        dx = smooth[x + 2] - smooth[x]
        dy = steep[x] + steep[x + 1] + steep[x + 1] + steep[x + 2]
        xx[x] = dx * dx
        xy[x] = dx * dy
        yy[x] = dy * dy
    for k in range(3):
        line = padded[k]
        line[0], line[w + 1] = line[1 + _mirror(1, w)], line[1 + _mirror(w, w)]


@_jit
def _min_eigenvalues(grey, out):
    h, w = grey.shape
    ring = np.empty((3, 3, w + 2), np.float32)
    sums = np.empty((3, w + 2), np.float32)
    half = np.float32(0.5)
    done = -1
    for y in range(h):
        last = min(y + 1, h - 1)
        while done < last:
            done += 1
            _products(grey, done, ring[done % 3])
        up, mid, down = ring[_mirror(y - 1, h) % 3], ring[y % 3], ring[_mirror(y + 1, h) % 3]
        for k in range(3):
            a, b, c, s = up[k], mid[k], down[k], sums[k]
            for x in range(w + 2):
                s[x] = a[x] + b[x] + c[x]
        xx, xy, yy, row = sums[0], sums[1], sums[2], out[y]
        for x in range(w):
            a = (xx[x] + xx[x + 1] + xx[x + 2]) * half
            b = xy[x] + xy[x + 1] + xy[x + 2]
            c = (yy[x] + yy[x + 1] + yy[x + 2]) * half
            row[x] = (a + c) - np.sqrt((a - c) * (a - c) + b * b)


@_jit
def _new_points(eigenvalues, tracked, stride, threshold, out):
    h, w = eigenvalues.shape
    rows, columns = h // stride, w // stride
    taken = np.zeros((rows, columns), np.bool_)
    for i in range(len(tracked)):
        column, row = int(tracked[i, 0]) // stride, int(tracked[i, 1]) // stride
        if column < columns and row < rows:
            taken[row, column] = True
    n = 0
    for row in range(rows):
        for column in range(columns):
            x, y = column * stride + stride // 2, row * stride + stride // 2
            if not taken[row, column] and eigenvalues[y, x] > threshold:
                out[n, 0], out[n, 1] = x, y
                n += 1
    return n
