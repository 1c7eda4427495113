"""Spatial scales, resizing between them, and the coarse-to-fine schedule that all solvers share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from idt._util.kernels import jit

FloatArray = npt.NDArray[np.float32]
ByteArray = npt.NDArray[np.uint8]


def scale_factors(width: int, height: int, *, shortest: int = 32, count: int = 8) -> FloatArray:
    """Return the scale factors s_0 = 1, s_k = s_(k-1) sqrt(2) of a frame.

    Parameters
    ----------
    width, height : int
        Size of the frame, pixels.
    shortest : int
        A scale is used while the shorter side of the frame is at least this long on it, pixels.
    count : int
        Largest number of scales.

    Returns
    -------
    ndarray, shape (S,), float32
        At least one factor. Everything is accumulated in float32 as in the original program, which decides the
        number of scales for short sides such as 64, 128 and 256 (Wang and Schmid, ICCV 2013, code).
    """
    root = np.sqrt(np.float32(2.0))
    side = np.float32(min(width, height))
    usable = 0
    while side >= shortest:
        side = np.float32(side / root)
        usable += 1
    factors = np.ones(max(1, min(count, usable)), np.float32)
    for k in range(1, len(factors)):
        factors[k] = factors[k - 1] * root
    return factors


def scale_sizes(width: int, height: int, factors: FloatArray) -> list[tuple[int, int]]:
    """Return the (height, width) in pixels of every scale: the frame's size divided by the factor, ties to even."""
    return [(int(np.rint(np.float32(height) / s)), int(np.rint(np.float32(width) / s))) for s in factors]


def coarse_to_fine(
    a: Sequence[Any], b: Sequence[Any], flows: Sequence[FloatArray],
    solve: Callable[[Any, Any, FloatArray], None], enlarge: Callable[[FloatArray, FloatArray], None],
) -> None:
    """Solve every level from the coarsest, which starts from zero; each next starts from the one before, enlarged.

    Parameters
    ----------
    a, b : sequence
        What the solver prepared of both images, finest level first.
    flows : sequence of ndarray, shape (h, w, 2), float32
        Filled with the flow of each level, pixels of that level.
    solve : callable(a_k, b_k, flow)
        Improves `flow` in place.
    enlarge : callable(coarse, fine)
        Fills `fine` from `coarse`.
    """
    for k in reversed(range(len(flows))):
        if k == len(flows) - 1:
            flows[k].fill(0.0)
        else:
            enlarge(flows[k + 1], flows[k])
        solve(a[k], b[k], flows[k])


def resize_grey(grey: ByteArray, height: int, width: int) -> ByteArray:
    """Return `grey` in another size, bilinear, in the 8-bit fixed-point arithmetic of OpenCV.

    Parameters
    ----------
    grey : ndarray, shape (H, W), uint8

    Returns
    -------
    ndarray, shape (height, width), uint8
        The same bytes as ``cv2.resize(..., interpolation=cv2.INTER_LINEAR)``, whatever OpenCV's version.
    """
    out = np.empty((height, width), np.uint8)
    _resize_grey(grey, out)
    return out


@jit()
def _positions(size, new):
    """Return the left neighbour, the right neighbour and the weight (of 2048) of the right one, of every coordinate."""
    left, right, weight = np.empty(new, np.uint64), np.empty(new, np.uint64), np.empty(new, np.int32)
    ratio = size / new
    for i in range(new):
        p = np.float32((i + 0.5) * ratio - 0.5)
        j = int(np.floor(p))
        f = p - np.float32(j)
        left[i], right[i] = max(j, 0), min(j + 1, size - 1)
        weight[i] = np.int32(np.rint(f * np.float32(2048.0)))
    return left, right, weight


@jit()
def _resize_grey(grey, out):
    whole = np.int32(2048)
    left, right, along = _positions(grey.shape[1], out.shape[1])
    upper, lower, down = _positions(grey.shape[0], out.shape[0])
    rows = np.empty((2, out.shape[1]), np.int32)
    held = np.full(2, -1, np.int64)
    for y in range(out.shape[0]):
        for source in (int(upper[y]), int(lower[y])):
            if held[source & 1] != source:
                line, into = grey[source], rows[source & 1]
                for x in range(np.uint64(len(into))):
                    w = along[x]
                    into[x] = np.int32(line[left[x]]) * (whole - w) + np.int32(line[right[x]]) * w
                held[source & 1] = source
        a, b, w1 = rows[int(upper[y]) & 1], rows[int(lower[y]) & 1], down[y]
        w0 = whole - w1
        into8 = out[y]
        for x in range(np.uint64(len(into8))):
            total = ((w0 * (a[x] >> np.int32(4))) >> np.int32(16)) + ((w1 * (b[x] >> np.int32(4))) >> np.int32(16))
            into8[x] = (total + np.int32(2)) >> np.int32(2)


def reduce_flow(flow: FloatArray, height: int, width: int, factor: float) -> FloatArray:
    """Return a full-resolution flow on a coarser scale: averaged over areas, in pixels of that scale.

    Parameters
    ----------
    flow : ndarray, shape (H, W, 2), float32
    height, width : int
        Size of the scale, pixels.
    factor : float
        Scale factor; the values are divided by it.

    Returns
    -------
    ndarray, shape (height, width, 2), float32
    """
    import cv2

    if flow.shape[:2] == (height, width):
        return flow
    reduced = cv2.resize(flow, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(reduced / np.float32(factor), np.float32)


def reduced_flows(flow: FloatArray, factors: FloatArray) -> list[FloatArray]:
    """Return a full-resolution flow on every scale, as `reduce_flow` does, finest first."""
    height, width = flow.shape[:2]
    sizes = scale_sizes(width, height, factors)
    return [reduce_flow(flow, h, w, s) for (h, w), s in zip(sizes, factors, strict=True)]
