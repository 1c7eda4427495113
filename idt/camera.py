"""Camera motion: matches between two frames, the homography they agree on, and the frame without that motion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numba
import numpy as np
import numpy.typing as npt

from idt.params import Params

FloatArray = npt.NDArray[np.float32]
ByteArray = npt.NDArray[np.uint8]
Homography = npt.NDArray[np.float64]

_RANSAC_ITERATIONS = 2000
_CONFIDENCE = 0.995

_jit = numba.njit(cache=True, nogil=True, error_model="numpy")


def good_features(
    eigenvalues: FloatArray, mask: ByteArray | None = None, *, count: int = 1000, quality: float = 0.001,
    distance: float = 3.0,
) -> FloatArray:
    """Return the strongest corners of an image, strongest first (Shi and Tomasi, CVPR 1994).

    Parameters
    ----------
    eigenvalues : ndarray, shape (H, W), float32
        From `idt.sampling.min_eigenvalues`.
    mask : ndarray, shape (H, W), uint8, optional
        Corners lie only where it is not zero.
    count : int
        Largest number of corners.
    quality : float
        A corner needs an eigenvalue above this share of the largest under the mask.
    distance : float
        Shortest distance between two corners, pixels.

    Returns
    -------
    ndarray, shape (n, 2), float32
        Integer positions x, y; local maxima over 3 x 3 pixels, never on the image border.
    """
    usable = eigenvalues if mask is None else eigenvalues[mask != 0]
    threshold = np.float32(quality) * usable.max(initial=0)
    peaks = _peaks(eigenvalues, np.ones((1, 1), np.uint8) if mask is None else mask, mask is None, threshold)
    order = np.argsort(-eigenvalues[peaks[:, 1], peaks[:, 0]], kind="stable")
    return _apart(peaks[order], eigenvalues.shape, count, distance)


def flow_matches(corners: FloatArray, flow: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return corners (n, 2) of one frame and where the full-resolution `flow` (H, W, 2) takes them in the next."""
    x, y = corners[:, 0].astype(np.intp), corners[:, 1].astype(np.intp)
    return corners, corners + flow[y, x]


class KeyPoints:
    """Key-point matches between consecutive frames: ORB, AKAZE or SIFT, nearest descriptor within a window.

    Parameters
    ----------
    method : {"orb", "akaze", "sift"}
    window : float
        Two key points match only when they are less than this apart in x and in y, pixels.
    """

    def __init__(self, method: str, *, window: float) -> None:
        makers: dict[str, Callable[[], Any]] = {
            "orb": lambda: cv2.ORB_create(nfeatures=500),
            "akaze": lambda: (cv2.AKAZE_create if hasattr(cv2, "AKAZE_create") else cv2.xfeatures2d.AKAZE_create)(),
            "sift": lambda: cv2.SIFT_create(nfeatures=1000),
        }
        self._detector = makers[method]()
        self._matcher = cv2.BFMatcher(cv2.NORM_L2 if method == "sift" else cv2.NORM_HAMMING)
        self._window = window
        self._previous: tuple[FloatArray, Any] | None = None

    def matches(self, grey: ByteArray, mask: ByteArray | None) -> tuple[FloatArray, FloatArray]:
        """Return positions (n, 2) in the frame of the last call and in `grey`; every point of `grey` matches once."""
        found, descriptors = self._detector.detectAndCompute(grey, mask)
        points = np.array([p.pt for p in found], np.float32).reshape(-1, 2)
        before, self._previous = self._previous, (points, descriptors)
        if before is None or not len(points) or not len(before[0]):
            return np.empty((0, 2), np.float32), np.empty((0, 2), np.float32)
        near = (np.abs(points[:, None] - before[0][None]) < self._window).all(2)
        best = self._matcher.match(descriptors, before[1], mask=near.astype(np.uint8))
        current = [m.queryIdx for m in best]
        return before[0][[m.trainIdx for m in best]], points[current]


def homography(source: FloatArray, target: FloatArray, params: Params) -> Homography | None:
    """Return the homography from `source` to `target` (n, 2), or None when too few matches agree on one.

    Random sample consensus with a fixed seed and least squares over the inliers (OpenCV); iDT, section 2.2.
    """
    if len(source) <= params.min_matches:
        return None
    found, inliers = cv2.findHomography(source, target, cv2.RANSAC, params.ransac_threshold,
                                        maxIters=_RANSAC_ITERATIONS, confidence=_CONFIDENCE)
    if found is None or int(inliers.sum()) <= params.min_inliers or not np.isfinite(found).all():
        return None
    return found


def warp(previous: ByteArray, current: ByteArray, h: Homography) -> ByteArray:
    """Return the current frame seen from the previous camera.

    Parameters
    ----------
    previous, current : ndarray, shape (H, W), uint8
    h : ndarray, shape (3, 3), float64
        Maps pixels of the previous frame to the current one.

    Returns
    -------
    ndarray, shape (H, W), uint8
        ``current`` at ``h p``, bilinear at 1/32 pixel; ``previous`` at p where ``h p`` is within 5 pixels of the
        border or outside, so that what the camera uncovered does not move (the original program's rule).
    """
    out = np.empty_like(previous)
    _warp(previous, current, np.ascontiguousarray(h, np.float64), _BILINEAR, out)
    return out


def _bilinear_table() -> npt.NDArray[np.int32]:
    """Return the four 15-bit weights of every 1/32-pixel offset, shape (32 * 32, 4)."""
    t = np.arange(32) / 32
    y, x = (a.ravel() for a in np.meshgrid(t, t, indexing="ij"))
    weights = np.stack([(1 - y) * (1 - x), (1 - y) * x, y * (1 - x), y * x], axis=1)
    return np.rint(weights * 32768).astype(np.int32)


_BILINEAR = _bilinear_table()


@_jit
def _peaks(eigenvalues, mask, everywhere, threshold):
    """Return x, y of every local maximum above the threshold, inside the mask and off the image border."""
    h, w = eigenvalues.shape
    column = np.empty(w, np.float32)
    peak = np.empty(w, np.uint8)
    out = np.empty((1024, 2), np.int64)
    n = 0
    for y in range(1, h - 1):
        a, b, c = eigenvalues[y - 1], eigenvalues[y], eigenvalues[y + 1]
        for x in range(np.uint64(w)):
            v = a[x] if a[x] > b[x] else b[x]
            column[x] = v if v > c[x] else c[x]
        left, right = column, column[2:]
        middle, values, found = column[1:], b[1:], peak[1:]
        for x in range(np.uint64(w - 2)):
            v = values[x]
            found[x] = (v > threshold) & (v >= left[x]) & (v >= middle[x]) & (v >= right[x])
        for x in range(1, w - 1):
            if peak[x] and (everywhere or mask[y, x] != 0):
                if n == len(out):
                    out = np.concatenate((out, np.empty_like(out)))
                out[n, 0], out[n, 1] = x, y
                n += 1
    return out[:n]


@_jit
def _apart(peaks, shape, count, distance):
    """Return the first `count` of the ordered peaks that keep their distance from those before."""
    h, w = shape
    taken = np.zeros((h, w), np.bool_)
    out = np.empty((min(count, len(peaks)), 2), np.float32)
    reach = int(np.ceil(distance)) - 1
    n = 0
    for i in range(len(peaks)):
        if n == len(out):
            break
        x, y = peaks[i]
        free = True
        for v in range(max(0, y - reach), min(h, y + reach + 1)):
            for u in range(max(0, x - reach), min(w, x + reach + 1)):
                if taken[v, u] and (u - x) ** 2 + (v - y) ** 2 < distance * distance:
                    free = False
        if free:
            taken[y, x] = True
            out[n, 0], out[n, 1] = x, y
            n += 1
    return out[:n]


@_jit
def _warp(previous, current, h, table, out):
    rows, columns = previous.shape
    px, py = np.empty(columns, np.int32), np.empty(columns, np.int32)
    for y in range(rows):
        u0, v0, s0 = h[0, 1] * y + h[0, 2], h[1, 1] * y + h[1, 2], h[2, 1] * y + h[2, 2]
        for x in range(columns):
            s = s0 + h[2, 0] * x
            s = 1.0 / s if s != 0.0 else 0.0
            u, v = (u0 + h[0, 0] * x) * s, (v0 + h[1, 0] * x) * s
            inside = (u > 5.0) & (u < columns - 6.0) & (v > 5.0) & (v < rows - 6.0)
            px[x] = np.int32(np.rint(u * 32.0)) if inside else np.int32(-1)
            py[x] = np.int32(np.rint(v * 32.0)) if inside else np.int32(0)
        for x in range(columns):
            if px[x] < 0:
                out[y, x] = previous[y, x]
            else:
                i, j = py[x] >> 5, px[x] >> 5
                t = table[(py[x] & 31) * 32 + (px[x] & 31)]
                a, b = current[i], current[i + 1]
                out[y, x] = (t[0] * a[j] + t[1] * a[j + 1] + t[2] * b[j] + t[3] * b[j + 1] + 16384) >> 15
