"""Camera motion: matches between two frames, the homography they agree on, and the frame without that motion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from idt._util.kernels import jit
from idt.params import Params

FloatArray = npt.NDArray[np.float32]
ByteArray = npt.NDArray[np.uint8]
Homography = npt.NDArray[np.float64]

_KEY_POINTS = 1000
_RANSAC_ITERATIONS = 2000
_CONFIDENCE = 0.995
_REFINEMENTS = 10
_REFITS = 2  # a homography refined over its inliers has other inliers, most often more

_jit = jit()
_reassociating = jit(fastmath={"contract", "nsz", "reassoc"})


def good_features(
    eigenvalues: FloatArray, mask: ByteArray | None = None, *, count: int = 1000, quality: float = 0.001,
    distance: float = 3.0,
) -> FloatArray:
    """Return the strongest corners of an image, strongest first (Shi and Tomasi, CVPR 1994).

    Parameters
    ----------
    eigenvalues : ndarray, shape (H, W), float32
        From `idt.trajectories.sampling.min_eigenvalues`.
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

    The 1000 strongest key points of a frame are used.

    Parameters
    ----------
    method : {"orb", "akaze", "sift"}
    window : float
        Two key points match only when they are less than this apart in x and in y, pixels.
    """

    def __init__(self, method: str, *, window: float) -> None:
        makers: dict[str, Callable[[], Any]] = {
            "orb": lambda: cv2.ORB_create(nfeatures=_KEY_POINTS),
            "akaze": lambda: (cv2.AKAZE_create if hasattr(cv2, "AKAZE_create") else cv2.xfeatures2d.AKAZE_create)(),
            "sift": lambda: cv2.SIFT_create(nfeatures=_KEY_POINTS),
        }
        self._detector = makers[method]()
        self._matcher = cv2.BFMatcher(cv2.NORM_L2 if method == "sift" else cv2.NORM_HAMMING)
        self._window = window
        self._previous: tuple[FloatArray, Any] | None = None

    def matches(self, grey: ByteArray, mask: ByteArray | None) -> tuple[FloatArray, FloatArray]:
        """Return positions (n, 2) in the frame of the last call and in `grey`; every point of `grey` matches once."""
        found, descriptors = self._detector.detectAndCompute(grey, mask)
        # AKAZE knows no largest number, and large pictures have key points by the ten thousand
        strongest = np.argsort([-p.response for p in found], kind="stable")[:_KEY_POINTS]
        points = np.array([found[i].pt for i in strongest], np.float32).reshape(-1, 2)
        descriptors = descriptors[strongest] if len(points) else None
        before, self._previous = self._previous, (points, descriptors)
        if before is None or not len(points) or not len(before[0]):
            return np.empty((0, 2), np.float32), np.empty((0, 2), np.float32)
        near = (np.abs(points[:, None] - before[0][None]) < self._window).all(2)
        best = self._matcher.match(descriptors, before[1], mask=near.astype(np.uint8))
        current = [m.queryIdx for m in best]
        return before[0][[m.trainIdx for m in best]], points[current]


def homography(source: FloatArray, target: FloatArray, params: Params) -> Homography | None:
    """Return the homography from `source` to `target`, or None when too few matches agree on one (iDT, section 2.2).

    Random sample consensus (Fischler and Bolles, CACM 1981) with a fixed seed, then Gauss-Newton steps over the
    distances of the inliers in the target, twice, with the inliers found anew in between. It is our own because
    OpenCV's is ten times slower, changes with its version, and comes less close to the original program's estimates
    (``benchmarks/bench_camera.py``).

    Parameters
    ----------
    source, target : ndarray, shape (n, 2), float32
        Matches, x and y in pixels.
    params : Params
        Says how many matches and inliers are needed, and how far an inlier may be off.

    Returns
    -------
    ndarray, shape (3, 3), float64, or None
    """
    if len(source) <= params.min_matches:
        return None
    found, inliers = _homography(np.ascontiguousarray(source, np.float64), np.ascontiguousarray(target, np.float64),
                                 params.ransac_threshold)
    if inliers <= params.min_inliers or found[2, 2] == 0.0:
        return None
    found /= found[2, 2]
    return found if np.isfinite(found).all() else None


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
    _warp(previous, current, np.ascontiguousarray(h, np.float64), out)
    return out


@_jit
def _peaks(eigenvalues, mask, everywhere, threshold):
    """Return x, y of every local maximum above the threshold, inside the mask and off the image border."""
    h, w = eigenvalues.shape
    column = np.empty(w, np.float32)
    peak = np.zeros((h, w), np.uint8)
    count = 0
    for y in range(1, h - 1):
        a, b, c = eigenvalues[y - 1], eigenvalues[y], eigenvalues[y + 1]
        for x in range(np.uint64(w)):
            v = a[x] if a[x] > b[x] else b[x]
            column[x] = v if v > c[x] else c[x]
        left, right = column, column[2:]
        middle, values, found = column[1:], b[1:], peak[y][1:]
        for x in range(np.uint64(w - 2)):
            v = values[x]
            found[x] = (v > threshold) & (v >= left[x]) & (v >= middle[x]) & (v >= right[x])
        for x in range(1, w - 1):
            if not everywhere and mask[y, x] == 0:
                peak[y, x] = 0
            count += peak[y, x]
    out = np.empty((count, 2), np.int64)
    n = 0
    for y in range(1, h - 1):
        for x in range(1, w - 1):
            if peak[y, x]:
                out[n, 0], out[n, 1] = x, y
                n += 1
    return out


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
def _homography(source, target, threshold):
    """Return the best homography of RANSAC, refined, and its number of inliers."""
    n = len(source)
    # Centred coordinates of unit size keep the equations well conditioned.
    p, to_p = _normalised(source)
    q, to_q = _normalised(target)
    limit = (threshold * to_q[0, 0]) ** 2
    best, most = np.empty(8), 0
    h, system = np.empty(8), np.empty((8, 9))
    draw = np.empty(4, np.int64)
    state = np.uint64(0x9E3779B97F4A7C15)
    trials, trial = _RANSAC_ITERATIONS, 0
    while trial < trials:
        trial += 1
        for i in range(4):
            fresh = False
            while not fresh:
                state ^= state << np.uint64(13)
                state ^= state >> np.uint64(7)
                state ^= state << np.uint64(17)
                draw[i] = np.int64((state >> np.uint64(11)) % np.uint64(n))
                fresh = True
                for j in range(i):
                    fresh &= draw[j] != draw[i]
        if not (_in_general_position(p, q, draw) and _through_four(p, q, draw, system, h)):
            continue
        count = _count_inliers(p, q, h, limit)
        if count > most:
            most = count
            for k in range(8):
                best[k] = h[k]
            miss = 1.0 - (count / n) ** 4
            if miss < 1e-9:
                break
            if miss < 1.0:
                trials = min(trials, int(np.ceil(np.log(1.0 - _CONFIDENCE) / np.log(miss))))
    for _ in range(_REFITS if most > 0 else 0):
        _refine(p, q, best, limit, system)
        most = _count_inliers(p, q, best, limit)
    full = np.empty((3, 3))
    for k in range(8):
        full[k // 3, k % 3] = best[k]
    full[2, 2] = 1.0
    from_q = np.zeros((3, 3))
    from_q[0, 0] = from_q[1, 1] = 1.0 / to_q[0, 0]
    from_q[0, 2], from_q[1, 2], from_q[2, 2] = -to_q[0, 2] / to_q[0, 0], -to_q[1, 2] / to_q[1, 1], 1.0
    return _product(_product(from_q, full), to_p), most


@_jit
def _product(a, b):
    out = np.zeros((3, 3))
    for i in range(3):
        for j in range(3):
            for k in range(3):
                out[i, j] += a[i, k] * b[k, j]
    return out


@_jit
def _normalised(points):
    """Return the points as two rows, centred and scaled to mean distance sqrt(2), and the matrix that does it."""
    n = len(points)
    x, y, spread = 0.0, 0.0, 0.0
    for i in range(n):
        x += points[i, 0]
        y += points[i, 1]
    x /= n
    y /= n
    for i in range(n):
        spread += np.sqrt((points[i, 0] - x) ** 2 + (points[i, 1] - y) ** 2)
    scale = np.sqrt(2.0) * n / spread if spread > 0 else 1.0
    out = np.empty((2, n))
    for i in range(n):
        out[0, i], out[1, i] = (points[i, 0] - x) * scale, (points[i, 1] - y) * scale
    matrix = np.zeros((3, 3))
    matrix[0, 0] = matrix[1, 1] = scale
    matrix[0, 2], matrix[1, 2], matrix[2, 2] = -x * scale, -y * scale, 1.0
    return out, matrix


@_jit
def _in_general_position(p, q, draw):
    """Tell whether no three of the four points are in line and every triangle keeps its orientation."""
    for skip in range(4):
        a, b, c = draw[(skip + 1) % 4], draw[(skip + 2) % 4], draw[(skip + 3) % 4]
        before = (p[0, b] - p[0, a]) * (p[1, c] - p[1, a]) - (p[1, b] - p[1, a]) * (p[0, c] - p[0, a])
        after = (q[0, b] - q[0, a]) * (q[1, c] - q[1, a]) - (q[1, b] - q[1, a]) * (q[0, c] - q[0, a])
        if abs(before) < 1e-6 or abs(after) < 1e-6 or (before > 0) != (after > 0):
            return False
    return True


@_jit
def _through_four(p, q, draw, system, h):
    """Fill `h` with the eight numbers of the homography through four matches; False if there is none."""
    for i in range(4):
        x, y, u, v = p[0, draw[i]], p[1, draw[i]], q[0, draw[i]], q[1, draw[i]]
        for row, shift, value in ((2 * i, 0, u), (2 * i + 1, 3, v)):
            for k in range(9):
                system[row, k] = 0.0
            system[row, shift], system[row, shift + 1], system[row, shift + 2] = x, y, 1.0
            system[row, 6], system[row, 7], system[row, 8] = -x * value, -y * value, value
    return _eliminate(system, h)


@_jit
def _eliminate(system, out):
    """Solve the 8 x 8 system (last column: right side) with row pivots; False when it is singular."""
    for k in range(8):
        pivot = k
        for i in range(k + 1, 8):
            if abs(system[i, k]) > abs(system[pivot, k]):
                pivot = i
        if abs(system[pivot, k]) < 1e-12:
            return False
        for j in range(k, 9):
            system[k, j], system[pivot, j] = system[pivot, j], system[k, j]
        for i in range(k + 1, 8):
            factor = system[i, k] / system[k, k]
            for j in range(k + 1, 9):
                system[i, j] -= factor * system[k, j]
    for k in range(7, -1, -1):
        value = system[k, 8]
        for j in range(k + 1, 8):
            value -= system[k, j] * out[j]
        out[k] = value / system[k, k]
    return True


@_reassociating
def _squared_error(x, y, u, v, h):
    """Return the squared distance between (u, v) and where `h` takes (x, y)."""
    w = 1.0 / (h[6] * x + h[7] * y + 1.0)
    du = (h[0] * x + h[1] * y + h[2]) * w - u
    dv = (h[3] * x + h[4] * y + h[5]) * w - v
    return du * du + dv * dv


@_reassociating
def _count_inliers(p, q, h, limit):
    x, y, u, v = p[0], p[1], q[0], q[1]
    count = 0
    for i in range(len(x)):
        count += 1 if _squared_error(x[i], y[i], u[i], v[i], h) <= limit else 0
    return count


@_jit
def _refine(p, q, h, limit, system):
    """Minimise the squared distances of the inliers of `h`, which stay the same, by Gauss-Newton steps."""
    near = np.empty((4, p.shape[1]))
    n = 0
    for i in range(p.shape[1]):
        if _squared_error(p[0, i], p[1, i], q[0, i], q[1, i], h) <= limit:
            near[0, n], near[1, n], near[2, n], near[3, n] = p[0, i], p[1, i], q[0, i], q[1, i]
            n += 1
    x, y, u, v = near[0, :n], near[1, :n], near[2, :n], near[3, :n]
    step, trial = np.empty(8), np.empty(8)
    cost = _normal_equations(x, y, u, v, h, system)
    for _ in range(_REFINEMENTS):
        if not _eliminate(system, step):
            return
        for k in range(8):
            trial[k] = h[k] - step[k]
        lower = _normal_equations(x, y, u, v, trial, system)
        if not lower < cost:
            return
        for k in range(8):
            h[k] = trial[k]
        if cost - lower < 1e-9 * cost:
            return
        cost = lower


@_reassociating
def _normal_equations(x, y, u, v, h, system):
    """Fill the equations of one Gauss-Newton step from the matches and return the sum of squared distances.

    With g = (x, y, 1) / w, the derivatives of the projected point (U, V) are (g, 0, -U g1, -U g2) and
    (0, g, -V g1, -V g2), so that 27 sums make the whole 8 x 8 matrix and its right side.
    """
    aa, ab, ac, bb, bc, cc = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    uaa, uab, ubb, uac, ubc = 0.0, 0.0, 0.0, 0.0, 0.0
    vaa, vab, vbb, vac, vbc = 0.0, 0.0, 0.0, 0.0, 0.0
    raa, rab, rbb = 0.0, 0.0, 0.0
    eua, eub, euc, eva, evb, evc, ea, eb = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    cost = 0.0
    for i in range(len(x)):
        c = 1.0 / (h[6] * x[i] + h[7] * y[i] + 1.0)
        a, b = x[i] * c, y[i] * c
        pu = (h[0] * x[i] + h[1] * y[i] + h[2]) * c
        pv = (h[3] * x[i] + h[4] * y[i] + h[5]) * c
        eu, ev = pu - u[i], pv - v[i]
        cost += eu * eu + ev * ev
        aa += a * a
        ab += a * b
        ac += a * c
        bb += b * b
        bc += b * c
        cc += c * c
        uaa += pu * a * a
        uab += pu * a * b
        ubb += pu * b * b
        uac += pu * a * c
        ubc += pu * b * c
        vaa += pv * a * a
        vab += pv * a * b
        vbb += pv * b * b
        vac += pv * a * c
        vbc += pv * b * c
        r = pu * pu + pv * pv
        raa += r * a * a
        rab += r * a * b
        rbb += r * b * b
        e = pu * eu + pv * ev
        eua += eu * a
        eub += eu * b
        euc += eu * c
        eva += ev * a
        evb += ev * b
        evc += ev * c
        ea -= e * a
        eb -= e * b
    for i in range(8):
        for j in range(9):
            system[i, j] = 0.0
    for k in (0, 3):
        system[k, k], system[k, k + 1], system[k, k + 2] = aa, ab, ac
        system[k + 1, k + 1], system[k + 1, k + 2], system[k + 2, k + 2] = bb, bc, cc
    system[0, 6], system[0, 7], system[1, 6], system[1, 7] = -uaa, -uab, -uab, -ubb
    system[2, 6], system[2, 7] = -uac, -ubc
    system[3, 6], system[3, 7], system[4, 6], system[4, 7] = -vaa, -vab, -vab, -vbb
    system[5, 6], system[5, 7] = -vac, -vbc
    system[6, 6], system[6, 7], system[7, 7] = raa, rab, rbb
    for i in range(8):
        for j in range(i):
            system[i, j] = system[j, i]
    system[0, 8], system[1, 8], system[2, 8] = eua, eub, euc
    system[3, 8], system[4, 8], system[5, 8] = eva, evb, evc
    system[6, 8], system[7, 8] = ea, eb
    return cost


@_jit
def _warp(previous, current, h, out):
    rows, columns = previous.shape
    px, py = np.empty(columns, np.int32), np.empty(columns, np.int32)
    source, line, one = current.reshape(-1), np.uint64(columns), np.uint64(1)
    whole, fraction, bits = np.int32(32), np.int32(31), np.int32(5)
    for y in range(rows):
        u0, v0, s0 = h[0, 1] * y + h[0, 2], h[1, 1] * y + h[1, 2], h[2, 1] * y + h[2, 2]
        for x in range(columns):
            s = s0 + h[2, 0] * x
            s = 1.0 / s if s != 0.0 else 0.0
            u, v = (u0 + h[0, 0] * x) * s, (v0 + h[1, 0] * x) * s
            inside = (u > 5.0) & (u < columns - 6.0) & (v > 5.0) & (v < rows - 6.0)
            px[x] = np.int32(np.rint(u * 32.0)) if inside else np.int32(-1)
            py[x] = np.int32(np.rint(v * 32.0)) if inside else np.int32(0)
        before, into = previous[y], out[y]
        for x in range(np.uint64(columns)):
            if px[x] < 0:
                into[x] = before[x]
            else:
                # 15-bit weights of offsets in 1/32 pixel are multiples of 32, so ten bits are the same
                i = np.uint64(py[x] >> bits) * line + np.uint64(px[x] >> bits)
                j = i + line
                s, t = px[x] & fraction, py[x] & fraction
                upper = np.int32(source[i]) * (whole - s) + np.int32(source[i + one]) * s
                lower = np.int32(source[j]) * (whole - s) + np.int32(source[j + one]) * s
                into[x] = (upper * (whole - t) + lower * t + np.int32(512)) >> np.int32(10)
