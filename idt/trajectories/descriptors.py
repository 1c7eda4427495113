"""HOG, HOF, MBHx and MBHy of the patch around each track, one step at a time.

Orientation votes are summed into an integral image whose rows are made from top to bottom; only as many rows are kept
as a patch is high, and a patch is read as soon as its last row is there. Memory is therefore that of a few rows, and
what is read is still in the cache.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from idt._util.kernels import jit
from idt.flow._simd import cell_of_integral, integrate_votes, prefetch

FloatArray = npt.NDArray[np.float32]

BINS = {"hog": 8, "hof": 9, "mbhx": 8, "mbhy": 8}

_jit = jit(fastmath={"contract", "nsz"})
_reassociating = jit(fastmath={"contract", "nsz", "reassoc"})

SIMD_SOURCE = "1d95164e26eb894f"  # of _simd.py: an edit there must change this file, or Numba's cache would not notice

_f = np.float32
_ZERO, _ONE = _f(0), _f(1)
_TINY = _f(2.220446e-16)
# Odd polynomial for atan(c), 0 <= c <= 1, in units of one of eight bins (OpenCV's fastAtan2; error below 0.3 degrees)
_ATAN = tuple(_f(p * 8 / (2 * np.pi)) for p in
              (0.9997878412794807, -0.3258083974640975, 0.1555786518463281, -0.04432655554792128))


def widths(descriptors: Sequence[str], spatial_cells: int) -> dict[str, int]:
    """Return the number of values per temporal cell of each of the given descriptors, in their order in memory."""
    return {name: spatial_cells**2 * BINS[name] for name in BINS if name in descriptors}


def describe(
    grey: npt.NDArray[np.uint8], flow: FloatArray, points: FloatArray, sums: FloatArray, rows: npt.NDArray[np.int64], *,
    descriptors: Sequence[str], patch: int, cells: int, epsilon: float, hof_threshold: float,
) -> None:
    """Add one step's descriptors of every point to its sums.

    Parameters
    ----------
    grey : ndarray, shape (H, W), uint8
        Previous image on this scale.
    flow : ndarray, shape (H, W, 2), float32
        Flow from it with camera motion removed, pixels of the scale.
    points : ndarray, shape (n, 2), float32
        x, y of the tracks in the previous image, pixels of the scale.
    sums : ndarray, shape (m, D), float32
        Running sums; D is the total of `widths`.
    rows : ndarray, shape (n,), int64
        Row of `sums` that each point adds to; negative: none.
    descriptors : sequence of str
        Which of hog, hof, mbhx and mbhy.
    patch, cells, epsilon, hof_threshold
        As in `idt.Params`.

    Notes
    -----
    Wang et al., IJCV 2013, section 3.2, in the numbers of the original program: votes are split between the two nearest
    of eight orientations without spatial weighting; a flow vector up to `hof_threshold` counts 1 in HOF's ninth bin;
    each descriptor is divided by its sum and square-rooted. The window is shifted inside at the image border.
    """
    use = np.array([name in descriptors for name in BINS])
    if use.any() and len(points):
        _describe(grey, flow, points, sums, rows, use, patch, cells, _f(epsilon), _f(hof_threshold))


@_jit
def _orient(first, second, angle, length):
    """For a row of vectors: angle in bins, 0 to 8 around the circle, and length."""
    for x in range(np.uint64(len(angle))):
        u, v = first[x], second[x]
        au, av = abs(u), abs(v)
        steep = au < av
        small = au if steep else av
        large = av if steep else au
        c = small / (large + _TINY)
        c2 = c * c
        a = (((_ATAN[3] * c2 + _ATAN[2]) * c2 + _ATAN[1]) * c2 + _ATAN[0]) * c
        a = _f(2) - a if steep else a
        a = _f(4) - a if u < _ZERO else a
        angle[x] = _f(8) - a if v < _ZERO else a
        length[x] = np.sqrt(u * u + v * v)


@_jit
def _gradient(above, row, below, inner, first, second):
    """Central differences of a row along x and y, zero at the image border; `inner` is 0 for its outer rows."""
    w = len(row)
    left, right, middle = row, row[2:], first[1:]
    for x in range(np.uint64(max(w - 2, 0))):
        middle[x] = _f(right[x]) - _f(left[x])
    first[0] = first[w - 1] = _ZERO
    for x in range(np.uint64(w)):
        second[x] = (_f(below[x]) - _f(above[x])) * inner


@_jit
def _votes(grey, planes, y, use, threshold, vectors, angles, lengths, still):
    """Fill the angle and length rows of the wanted channels, and the row of HOF's zero votes, for image row y."""
    h, w = grey.shape
    up, down = max(y - 1, 0), min(y + 1, h - 1)
    inner = _ONE if down - up == 2 else _ZERO
    first, second = vectors[0], vectors[1]
    n = 0
    if use[0]:
        _gradient(grey[up], grey[y], grey[down], inner, first, second)
        _orient(first, second, angles[n], lengths[n])
        n += 1
    if use[1]:
        _orient(planes[y % 3, 0], planes[y % 3, 1], angles[n], lengths[n])
        length = lengths[n]
        for x in range(np.uint64(w)):
            moves = length[x] > threshold
            still[x] = _ZERO if moves else _ONE
            length[x] = length[x] if moves else _ZERO
        n += 1
    for c in range(2):
        if use[2 + c]:
            _gradient(planes[up % 3, c], planes[y % 3, c], planes[down % 3, c], inner, first, second)
            _orient(first, second, angles[n], lengths[n])
            n += 1


@_jit
def _describe(grey, flow, points, sums, rows, use, patch, cells, epsilon, threshold):
    h, w = grey.shape
    side = patch // cells
    reach = side * cells
    kept = reach + 1
    channels = use.sum()
    ring = np.empty((kept, channels, 8 * (w + 1)), np.float32)
    planes = np.empty((3, 2, w), np.float32)  # three rows of flow, x and y apart
    still_ring = np.empty((kept, w + 1), np.float32)
    ring[0] = _ZERO
    ring[:, :, :8] = _ZERO
    still_ring[0] = _ZERO
    still_ring[:, 0] = _ZERO
    block = np.empty(cells * cells * 9, np.float32)
    vectors = np.empty((2, w), np.float32)
    angles, lengths = np.empty((channels, w), np.float32), np.empty((channels, w), np.float32)
    still = np.empty(w, np.float32)
    # tracks listed by the row in which their patch ends
    first = np.full(h + 1, -1, np.int64)
    following = np.empty(len(points), np.int64)
    left = np.empty(len(points), np.int64)
    for i in range(len(points)):
        if rows[i] >= 0:
            left[i] = min(max(np.int64(np.rint(points[i, 0])) - patch // 2, 0), max(w - patch, 0))
            end = min(max(np.int64(np.rint(points[i, 1])) - patch // 2, 0), max(h - patch, 0)) + reach
            following[i] = first[end]
            first[end] = i
    for y in range(h):
        i = first[y + 1]
        if i >= 0:
            prefetch(sums, rows[i], sums.shape[1])
        for ahead in range(0 if y == 0 else y + 1, min(y + 2, h)):
            row, dx, dy = flow[ahead], planes[ahead % 3, 0], planes[ahead % 3, 1]
            for x in range(w):
                dx[x] = row[x, 0]
                dy[x] = row[x, 1]
        _votes(grey, planes, y, use, threshold, vectors, angles, lengths, still)
        above, below = ring[y % kept], ring[(y + 1) % kept]
        for c in range(channels):
            integrate_votes(angles[c], lengths[c], above[c], below[c])
        if use[1]:
            run = _ZERO
            still_above, still_below = still_ring[y % kept], still_ring[(y + 1) % kept]
            for x in range(w):
                run += still[x]
                still_below[x + 1] = still_above[x + 1] + run
        i = first[y + 1]
        while i >= 0:
            if following[i] >= 0:  # sums lie far apart in memory: have the next ones fetched meanwhile
                prefetch(sums, rows[following[i]], sums.shape[1])
            _read(ring, still_ring, y + 1 - reach, left[i], side, cells, use, epsilon, block, sums[rows[i]])
            i = following[i]


@_reassociating
def _read(ring, still_ring, top, left, side, cells, use, epsilon, block, out):
    """Add the normalised descriptors of the patch at (left, top) to `out`."""
    kept, channels, row = ring.shape
    flat = ring.reshape(-1)
    at, channel = 0, 0
    for k in range(4):
        if not use[k]:
            continue
        n = 0
        for i in range(cells):
            x0, x1 = left + i * side, left + (i + 1) * side
            for j in range(cells):
                upper, lower = (top + j * side) % kept, (top + (j + 1) * side) % kept
                a, c = (upper * channels + channel) * row, (lower * channels + channel) * row
                cell_of_integral(flat, a + 8 * x0, a + 8 * x1, c + 8 * x0, c + 8 * x1, epsilon, block, n)
                n += 8
                if k == 1:
                    block[n] = max((still_ring[lower, x1] - still_ring[lower, x0])
                                   - (still_ring[upper, x1] - still_ring[upper, x0]), _ZERO) + epsilon
                    n += 1
        total = _ZERO
        for o in range(n):
            total += block[o]
        scale = _ONE / total
        into = out[at:at + n]
        for o in range(n):
            into[o] += np.sqrt(block[o] * scale)
        at += n
        channel += 1
