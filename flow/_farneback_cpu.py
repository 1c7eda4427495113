"""Kernels of the Farnebäck variant (float32, one thread); `idt.flow.farneback` calls them and explains the method.

An expansion holds five numbers a pixel, interleaved (b_x, b_y, A_xx, A_yy, A_xy), because what one update gathers lies
together then. Every kernel works row by row in small buffers: a loop over a row of planar buffers is what the compiler
turns into full-width vector code. Index arithmetic that is shared between pixels is unsigned, since signed indices
cost a wrap-around test each.
"""

from __future__ import annotations

import numpy as np

from idt._util.kernels import jit
from idt.flow._simd import blend_and_join

SIMD_SOURCE = "1d95164e26eb894f"  # of _simd.py: an edit there must change this file, or Numba's cache would not notice

_jit = jit(fastmath={"contract", "nsz"})

FIELDS = 5
PAD = 48  # floats behind the last pixel that blocks of eight pixels with eight lanes may touch

_f = np.float32
_RADIUS = 7  # of the polynomial expansion, with sigma 1.5
_x = np.arange(-_RADIUS, _RADIUS + 1)
_weights = np.exp(-(_x**2) / (2 * 1.5**2))
_weights /= _weights.sum()
_m2, _m4 = float((_weights * _x**2).sum()), float((_weights * _x**4).sum())
_G = tuple(_f(v) for v in _weights[_RADIUS:])
_XG = tuple(_f(v * k) for k, v in enumerate(_weights[_RADIUS:]))
_XXG = tuple(_f(v * (k * k - _m2)) for k, v in enumerate(_weights[_RADIUS:]))  # with the other side: sum zero
_PER_M2, _PER_M4, _PER_M2M2 = _f(1 / _m2), _f(1 / (_m4 - _m2**2)), _f(1 / _m2**2)

_WINDOW = 5  # radius of the Gaussian that smooths the equations, sigma 1.5
_ROWS = 2 * _WINDOW + 2  # two rows are smoothed at a time
_x = np.arange(-_WINDOW, _WINDOW + 1)
_weights = np.exp(-(_x**2) / (2 * 1.5**2))
_W = tuple(_f(v) for v in (_weights / _weights.sum())[_WINDOW:])

_BORDER = 5  # pixels along each side that count less
_ZERO, _HALF, _ONE = _f(0), _f(0.5), _f(1)
_ROOT2 = _f(np.sqrt(2))


@_jit
def smooth_and_resize(grey, taps, out):
    """Fill the float image `out` with `grey` (uint8) blurred by the symmetric `taps` and resized bilinearly.

    The vertical blur and the vertical interpolation of an output row are one weighted sum of source rows.
    """
    h, w = grey.shape
    new_h, new_w = out.shape
    r = len(taps) // 2
    column = np.empty(w + 2 * r, np.float32)
    line = np.empty(w + 1, np.float32)
    left = np.empty(new_w, np.int32)
    share = np.empty(new_w, np.float32)
    for x in range(new_w):
        p = min(max((x + 0.5) * (w / new_w) - 0.5, 0.0), w - 1.0)
        left[x] = np.int32(p)
        share[x] = np.float32(p - left[x])
    for y in range(new_h):
        p = min(max((y + 0.5) * (h / new_h) - 0.5, 0.0), h - 1.0)
        upper = np.int64(p)
        lower_share = np.float32(p - upper)
        middle = column[r:]
        for x in range(w):
            middle[x] = _ZERO
        for k in range(2 * r + 2):
            weight = _ZERO
            if k < 2 * r + 1:
                weight += taps[k] * (_ONE - lower_share)
            if k > 0:
                weight += taps[k - 1] * lower_share
            if weight != _ZERO:
                row = grey[_reflect(upper + k - r, h)]
                for x in range(w):
                    middle[x] += weight * np.float32(row[x])
        for k in range(r):
            column[k] = column[r + _reflect(k - r, w)]
            column[r + w + k] = column[r + _reflect(w + k, w)]
        for x in range(w):
            line[x] = taps[0] * column[x]
        for k in range(1, 2 * r + 1):
            shifted, weight = column[k:], taps[k]
            for x in range(w):
                line[x] += weight * shifted[x]
        line[w] = line[w - 1]
        into = out[y]
        if new_w == w:
            for x in range(w):
                into[x] = line[x]
        else:
            for x in range(new_w):
                i = left[x]
                into[x] = line[i] + share[x] * (line[i + 1] - line[i])


@_jit
def _reflect(i, n):
    """Return `i` mirrored into 0..n-1 without repeating the border pixel."""
    while i < 0 or i >= n:
        i = -i if i < 0 else 2 * n - 2 - i
        if n == 1:
            return 0
    return i


@_jit
def expand(image, out):
    """Fill `out` (flat, FIELDS a pixel, PAD more) with the polynomial expansion of the float image.

    The taps of the second derivatives sum to zero, so they act on differences from the central pixel, and nothing
    large has to cancel in single precision.
    """
    h, w = image.shape
    padded = np.empty((3, w + 2 * _RADIUS), np.float32)
    fields = np.empty((FIELDS, w), np.float32)
    a0, a1, a2 = padded[0][_RADIUS:], padded[1][_RADIUS:], padded[2][_RADIUS:]
    bx, by, axx, ayy, axy = fields[0], fields[1], fields[2], fields[3], fields[4]
    for y in range(h):
        c = image[y]
        i1, j1 = image[max(y - 1, 0)], image[min(y + 1, h - 1)]
        i2, j2 = image[max(y - 2, 0)], image[min(y + 2, h - 1)]
        i3, j3 = image[max(y - 3, 0)], image[min(y + 3, h - 1)]
        i4, j4 = image[max(y - 4, 0)], image[min(y + 4, h - 1)]
        i5, j5 = image[max(y - 5, 0)], image[min(y + 5, h - 1)]
        i6, j6 = image[max(y - 6, 0)], image[min(y + 6, h - 1)]
        i7, j7 = image[max(y - 7, 0)], image[min(y + 7, h - 1)]
        for x in range(np.uint64(w)):
            m = c[x]
            n = m + m
            p1, p2, p3, p4, p5, p6, p7 = i1[x], i2[x], i3[x], i4[x], i5[x], i6[x], i7[x]
            q1, q2, q3, q4, q5, q6, q7 = j1[x], j2[x], j3[x], j4[x], j5[x], j6[x], j7[x]
            s1, s2, s3, s4, s5, s6, s7 = p1 + q1, p2 + q2, p3 + q3, p4 + q4, p5 + q5, p6 + q6, p7 + q7
            a0[x] = (_G[0] * m + _G[1] * s1 + _G[2] * s2 + _G[3] * s3
                     + _G[4] * s4 + _G[5] * s5 + _G[6] * s6 + _G[7] * s7)
            a1[x] = (_XG[1] * (q1 - p1) + _XG[2] * (q2 - p2) + _XG[3] * (q3 - p3) + _XG[4] * (q4 - p4)
                     + _XG[5] * (q5 - p5) + _XG[6] * (q6 - p6) + _XG[7] * (q7 - p7))
            a2[x] = (_XXG[1] * (s1 - n) + _XXG[2] * (s2 - n) + _XXG[3] * (s3 - n) + _XXG[4] * (s4 - n)
                     + _XXG[5] * (s5 - n) + _XXG[6] * (s6 - n) + _XXG[7] * (s7 - n))
        for k in range(3):
            r = padded[k]
            for x in range(_RADIUS):
                r[x] = r[_RADIUS]
                r[_RADIUS + w + x] = r[_RADIUS + w - 1]
        _slope_and_curve(padded[0], bx, axx)
        _mean_and_slope(padded[1], by, axy)
        _mean(padded[2], ayy)
        o = out[FIELDS * w * y:]
        for x in range(w):
            o[5 * x] = bx[x] * _PER_M2
            o[5 * x + 1] = by[x] * _PER_M2
            o[5 * x + 2] = axx[x] * _PER_M4
            o[5 * x + 3] = ayy[x] * _PER_M4
            o[5 * x + 4] = axy[x] * _PER_M2M2


@_jit
def _mean(r, out):
    """Fill `out` with the sum of ``g(x) r`` over the fifteen taps around each pixel of the padded row."""
    for x in range(len(out)):
        out[x] = (_G[0] * r[x + 7] + _G[1] * (r[x + 6] + r[x + 8]) + _G[2] * (r[x + 5] + r[x + 9])
                  + _G[3] * (r[x + 4] + r[x + 10]) + _G[4] * (r[x + 3] + r[x + 11]) + _G[5] * (r[x + 2] + r[x + 12])
                  + _G[6] * (r[x + 1] + r[x + 13]) + _G[7] * (r[x] + r[x + 14]))


@_jit
def _mean_and_slope(r, mean, slope):
    """Fill the rows with the sums of ``g(x) r`` and ``x g(x) r``."""
    for x in range(len(mean)):
        p1, p2, p3, p4, p5, p6, p7 = r[x + 6], r[x + 5], r[x + 4], r[x + 3], r[x + 2], r[x + 1], r[x]
        q1, q2, q3, q4, q5, q6, q7 = r[x + 8], r[x + 9], r[x + 10], r[x + 11], r[x + 12], r[x + 13], r[x + 14]
        mean[x] = (_G[0] * r[x + 7] + _G[1] * (p1 + q1) + _G[2] * (p2 + q2) + _G[3] * (p3 + q3) + _G[4] * (p4 + q4)
                   + _G[5] * (p5 + q5) + _G[6] * (p6 + q6) + _G[7] * (p7 + q7))
        slope[x] = (_XG[1] * (q1 - p1) + _XG[2] * (q2 - p2) + _XG[3] * (q3 - p3) + _XG[4] * (q4 - p4)
                    + _XG[5] * (q5 - p5) + _XG[6] * (q6 - p6) + _XG[7] * (q7 - p7))


@_jit
def _slope_and_curve(r, slope, curve):
    """Fill the rows with the sums of ``x g(x) r`` and ``(x^2 - m2) g(x) r``."""
    for x in range(len(slope)):
        n = r[x + 7] + r[x + 7]
        p1, p2, p3, p4, p5, p6, p7 = r[x + 6], r[x + 5], r[x + 4], r[x + 3], r[x + 2], r[x + 1], r[x]
        q1, q2, q3, q4, q5, q6, q7 = r[x + 8], r[x + 9], r[x + 10], r[x + 11], r[x + 12], r[x + 13], r[x + 14]
        slope[x] = (_XG[1] * (q1 - p1) + _XG[2] * (q2 - p2) + _XG[3] * (q3 - p3) + _XG[4] * (q4 - p4)
                    + _XG[5] * (q5 - p5) + _XG[6] * (q6 - p6) + _XG[7] * (q7 - p7))
        curve[x] = (_XXG[1] * (p1 + q1 - n) + _XXG[2] * (p2 + q2 - n) + _XXG[3] * (p3 + q3 - n)
                    + _XXG[4] * (p4 + q4 - n) + _XXG[5] * (p5 + q5 - n) + _XXG[6] * (p6 + q6 - n)
                    + _XXG[7] * (p7 + q7 - n))


@_jit
def solve_level(a, b, flow, iterations):
    """Improve `flow` (h, w, 2) in place: `iterations` updates from the expansions, then the 5 x 5 median."""
    h, w, _ = flow.shape
    planes = np.empty((2, h, w), np.float32)
    for y in range(h):
        row, dx, dy = flow[y], planes[0, y], planes[1, y]
        for x in range(w):
            dx[x] = row[x, 0]
            dy[x] = row[x, 1]
    side = np.empty(w, np.float32)
    for x in range(w):
        side[x] = _damping(x) * _damping(w - 1 - x)
    means = np.empty(w, np.float32)
    signs = np.ones(8, np.float32)
    signs[0] = signs[1] = -_ONE
    lanes = (w + 7) // 8 * 8
    start = np.zeros(lanes, np.int32)
    weights = np.zeros((4, lanes), np.float32)
    joined = np.empty((FIELDS, lanes), np.float32)
    equations = np.empty((FIELDS, w + 2 * _WINDOW), np.float32)
    ring = np.empty((_ROWS, FIELDS, w), np.float32)
    smooth = np.empty((2, FIELDS, w), np.float32)
    for _ in range(iterations):
        made = 0
        for y in range(0, h, 2):
            while made < min(y + _WINDOW + 2, h):
                dx, dy = planes[0, made], planes[1, made]
                _targets(dx, dy, made, h, start, weights, means)
                for x in range(0, w, 8):
                    blend_and_join(a, np.uint64(FIELDS * (made * w + x)), b, np.uint64(FIELDS * w), start, weights,
                                   signs, np.uint64(lanes), np.uint64(x), joined)
                _equations(joined, dx, dy, means, side, _damping(made) * _damping(h - 1 - made), equations)
                _smooth_along_row(equations, ring[made % _ROWS])
                made += 1
            _smooth_across_rows(ring, y, h, smooth[0], smooth[1])
            for t in range(y, min(y + 2, h)):
                _displacements(smooth[t - y], planes[0, t], planes[1, t])
    _median5(planes, flow)


@_jit
def _damping(distance):
    """Return the weight of a pixel at this distance from one side."""
    if distance >= _BORDER:
        return _ONE
    return _f(0.4472) if distance >= 2 else _f(0.14)


@_jit
def _targets(dx, dy, y, h, start, weights, means):
    """For row y: where the target's upper left neighbour starts in the expansion, and its four bilinear weights.

    The weights are zero where the target is outside; `means` is 1/2 inside, where both images are averaged, else 1.
    """
    w = len(dx)
    w00, w01, w10, w11 = weights[0], weights[1], weights[2], weights[3]
    last_x, last_y, here = _f(w - 1), _f(h - 1), _f(y)
    for x in range(w):
        px, py = _f(x) + dx[x], here + dy[x]
        inside = (px >= _ZERO) & (px < last_x) & (py >= _ZERO) & (py < last_y)
        px = px if inside else _ZERO
        py = py if inside else _ZERO
        one = _ONE if inside else _ZERO
        i, j = np.int32(px), np.int32(py)
        start[x] = (j * np.int32(w) + i) * np.int32(FIELDS)
        u, v = px - _f(i), py - _f(j)
        means[x] = _ONE - _HALF * one
        w11[x] = u * v
        w01[x] = u - u * v
        w10[x] = v - u * v
        w00[x] = one - u - v + u * v


@_jit
def _equations(joined, dx, dy, means, side, row_weight, out):
    """For one row: G_xx, G_xy, G_yy, h_x, h_y, into rows padded by the window with repeated ends."""
    w = len(dx)
    bx, by, jxx, jyy, jxy = joined[0], joined[1], joined[2], joined[3], joined[4]
    gxx, gxy, gyy = out[0][_WINDOW:], out[1][_WINDOW:], out[2][_WINDOW:]
    hx, hy = out[3][_WINDOW:], out[4][_WINDOW:]
    for x in range(w):
        weight = row_weight * side[x]
        mean = weight * means[x]
        axx, ayy, axy = jxx[x] * mean, jyy[x] * mean, jxy[x] * (mean * _HALF)
        ex = bx[x] * (_HALF * weight) + axx * dx[x] + axy * dy[x]
        ey = by[x] * (_HALF * weight) + axy * dx[x] + ayy * dy[x]
        gxx[x] = axx * axx + axy * axy
        gxy[x] = (axx + ayy) * axy
        gyy[x] = ayy * ayy + axy * axy
        hx[x] = axx * ex + axy * ey
        hy[x] = axy * ex + ayy * ey
    for c in range(FIELDS):
        r = out[c]
        for x in range(_WINDOW):
            r[x] = r[_WINDOW]
            r[_WINDOW + w + x] = r[_WINDOW + w - 1]


@_jit
def _smooth_along_row(padded, out):
    for c in range(FIELDS):
        r, o = padded[c], out[c]
        for x in range(len(o)):
            o[x] = (_W[0] * r[x + 5] + _W[1] * (r[x + 4] + r[x + 6]) + _W[2] * (r[x + 3] + r[x + 7])
                    + _W[3] * (r[x + 2] + r[x + 8]) + _W[4] * (r[x + 1] + r[x + 9]) + _W[5] * (r[x] + r[x + 10]))


@_jit
def _smooth_across_rows(ring, y, h, first, second):
    """Fill two rows of equations, smoothed along y: for image rows y and y + 1, which share most of what is read."""
    for c in range(FIELDS):
        o, p = first[c], second[c]
        r0, r1 = ring[max(y - 5, 0) % _ROWS, c], ring[max(y - 4, 0) % _ROWS, c]
        r2, r3 = ring[max(y - 3, 0) % _ROWS, c], ring[max(y - 2, 0) % _ROWS, c]
        r4, r5 = ring[max(y - 1, 0) % _ROWS, c], ring[y % _ROWS, c]
        r6, r7 = ring[min(y + 1, h - 1) % _ROWS, c], ring[min(y + 2, h - 1) % _ROWS, c]
        r8, r9 = ring[min(y + 3, h - 1) % _ROWS, c], ring[min(y + 4, h - 1) % _ROWS, c]
        r10, r11 = ring[min(y + 5, h - 1) % _ROWS, c], ring[min(y + 6, h - 1) % _ROWS, c]
        for x in range(np.uint64(len(o))):
            v1, v2, v3, v4, v5, v6 = r1[x], r2[x], r3[x], r4[x], r5[x], r6[x]
            v7, v8, v9, v10 = r7[x], r8[x], r9[x], r10[x]
            o[x] = (_W[0] * v5 + _W[1] * (v4 + v6) + _W[2] * (v3 + v7) + _W[3] * (v2 + v8) + _W[4] * (v1 + v9)
                    + _W[5] * (r0[x] + v10))
            p[x] = (_W[0] * v6 + _W[1] * (v5 + v7) + _W[2] * (v4 + v8) + _W[3] * (v3 + v9) + _W[4] * (v2 + v10)
                    + _W[5] * (v1 + r11[x]))


@_jit
def _displacements(smooth, dx, dy):
    """Solve the smoothed 2 x 2 equations of a row, in double precision because the determinant cancels."""
    gxx, gxy, gyy, hx, hy = smooth[0], smooth[1], smooth[2], smooth[3], smooth[4]
    for x in range(len(dx)):
        a, b, c = np.float64(gxx[x]), np.float64(gxy[x]), np.float64(gyy[x])
        p, q = np.float64(hx[x]), np.float64(hy[x])
        per_determinant = 1.0 / (a * c - b * b + 1e-3)
        dx[x] = _f((c * p - b * q) * per_determinant)
        dy[x] = _f((a * q - b * p) * per_determinant)


@_jit
def _low(a, b):
    return a if a < b else b


@_jit
def _high(a, b):
    return b if a < b else a


@_jit
def _median5(planes, flow):
    """Fill `flow` (h, w, 2) with the 5 x 5 median of both planes, borders repeated.

    Columns are sorted first, then each rank row of the window as far as its elements can still be the median of 25:
    in a matrix sorted along rows and columns those are thirteen, and a fixed network finds the middle one.
    """
    _, h, w = planes.shape
    ranks = np.empty((5, w + 4), np.float32)
    lines = np.empty((2, w), np.float32)
    for y in range(h):
        for c in range(2):
            plane = planes[c]
            _sort_columns(plane[max(y - 2, 0)], plane[max(y - 1, 0)], plane[y], plane[min(y + 1, h - 1)],
                          plane[min(y + 2, h - 1)], ranks)
            _median_of_sorted_columns(ranks, lines[c])
        row, dx, dy = flow[y], lines[0], lines[1]
        for x in range(w):
            row[x, 0] = dx[x]
            row[x, 1] = dy[x]


@_jit
def _sort_columns(r0, r1, r2, r3, r4, ranks):
    w = len(r0)
    s0, s1, s2, s3, s4 = ranks[0][2:], ranks[1][2:], ranks[2][2:], ranks[3][2:], ranks[4][2:]
    for x in range(w):
        a, b, c, d, e = r0[x], r1[x], r2[x], r3[x], r4[x]
        a, b = _low(a, b), _high(a, b)
        d, e = _low(d, e), _high(d, e)
        c, e = _low(c, e), _high(c, e)
        c, d = _low(c, d), _high(c, d)
        a, d = _low(a, d), _high(a, d)
        a, c = _low(a, c), _high(a, c)
        b, e = _low(b, e), _high(b, e)
        b, d = _low(b, d), _high(b, d)
        b, c = _low(b, c), _high(b, c)
        s0[x], s1[x], s2[x], s3[x], s4[x] = a, b, c, d, e
    for k in range(5):
        r = ranks[k]
        r[0] = r[1] = r[2]
        r[w + 2] = r[w + 3] = r[w + 1]


@_jit
def _median_of_sorted_columns(ranks, out):
    n = np.uint64(len(out))
    r00, r01, r02, r03, r04 = ranks[0], ranks[0][1:], ranks[0][2:], ranks[0][3:], ranks[0][4:]
    r10, r11, r12, r13, r14 = ranks[1], ranks[1][1:], ranks[1][2:], ranks[1][3:], ranks[1][4:]
    r20, r21, r22, r23, r24 = ranks[2], ranks[2][1:], ranks[2][2:], ranks[2][3:], ranks[2][4:]
    r30, r31, r32, r33, r34 = ranks[3], ranks[3][1:], ranks[3][2:], ranks[3][3:], ranks[3][4:]
    r40, r41, r42, r43, r44 = ranks[4], ranks[4][1:], ranks[4][2:], ranks[4][3:], ranks[4][4:]
    for x in range(n):  # unsigned: the wrap-around test of signed indices would keep this loop scalar
        # largest two of the minima
        l1, h1 = _low(r00[x], r01[x]), _high(r00[x], r01[x])
        l2, h2 = _low(r02[x], r03[x]), _high(r02[x], r03[x])
        v = r04[x]
        top, second = _high(h1, h2), _high(_low(h1, h2), _high(l1, l2))
        a4, a3 = _high(top, v), _high(second, _low(top, v))
        # largest three of the second ranks
        l1, h1 = _low(r10[x], r11[x]), _high(r10[x], r11[x])
        l2, h2 = _low(r12[x], r13[x]), _high(r12[x], r13[x])
        v = r14[x]
        top, m, n = _high(h1, h2), _low(h1, h2), _high(l1, l2)
        second, third = _high(m, n), _low(m, n)
        b4, v = _high(top, v), _low(top, v)
        b3, v = _high(second, v), _low(second, v)
        b2 = _high(third, v)
        # middle three of the third ranks
        l1, h1 = _low(r20[x], r21[x]), _high(r20[x], r21[x])
        l2, h2 = _low(r22[x], r23[x]), _high(r22[x], r23[x])
        m, n = _low(h1, h2), _high(l1, l2)
        v = _high(_low(l1, l2), r24[x])
        m, n = _high(m, n), _low(m, n)
        c1, v = _low(v, n), _high(v, n)
        c2, v = _low(v, m), _high(v, m)
        c3 = _low(v, _high(h1, h2))
        # smallest three of the fourth ranks
        l1, h1 = _low(r30[x], r31[x]), _high(r30[x], r31[x])
        l2, h2 = _low(r32[x], r33[x]), _high(r32[x], r33[x])
        v = r34[x]
        bottom, m, n = _low(l1, l2), _low(h1, h2), _high(l1, l2)
        second, third = _low(m, n), _high(m, n)
        d0, v = _low(bottom, v), _high(bottom, v)
        d1, v = _low(second, v), _high(second, v)
        d2 = _low(third, v)
        # smallest two of the maxima
        l1, h1 = _low(r40[x], r41[x]), _high(r40[x], r41[x])
        l2, h2 = _low(r42[x], r43[x]), _high(r42[x], r43[x])
        v = r44[x]
        bottom, second = _low(l1, l2), _low(_high(l1, l2), _low(h1, h2))
        e0, e1 = _low(bottom, v), _low(second, _high(bottom, v))
        # the seventh of the thirteen
        b4, b3, c3 = _low(b4, e1), _low(b3, d2), _low(c3, d1)
        d0, c1 = _high(a3, d0), _high(b2, c1)
        a4, e0 = _low(a4, e0), _high(a4, e0)
        c2, e0 = _low(c2, e0), _high(c2, e0)
        c3 = _low(c3, e0)
        b3, c3 = _low(b3, c3), _high(b3, c3)
        a4, c3 = _low(a4, c3), _high(a4, c3)
        b4, c3 = _low(b4, c3), _high(b4, c3)
        c3 = _low(c3, d0)
        c2 = _high(b3, c2)
        c1 = _high(a4, c1)
        b4, c2 = _low(b4, c2), _high(b4, c2)
        c3 = _high(b4, c3)
        c3 = _high(c1, c3)
        out[x] = _low(c2, c3)


@_jit
def enlarge(coarse, fine):
    """Fill `fine` (h, w, 2) with `coarse` resized bilinearly and multiplied by sqrt(2)."""
    h, w, _ = coarse.shape
    new_h, new_w, _ = fine.shape
    left = np.empty(new_w, np.uint64)
    share = np.empty(new_w, np.float32)
    for x in range(new_w):
        p = min(max((x + 0.5) * (w / new_w) - 0.5, 0.0), w - 1.0)
        left[x] = np.uint64(2 * np.int64(p))
        share[x] = np.float32(p - np.int64(p))
    line = np.empty(2 * w + 2, np.float32)
    one, two, three = np.uint64(1), np.uint64(2), np.uint64(3)
    for y in range(new_h):
        p = min(max((y + 0.5) * (h / new_h) - 0.5, 0.0), h - 1.0)
        i = np.int64(p)
        t = np.float32(p - i)
        upper, lower = coarse[i].reshape(-1), coarse[min(i + 1, h - 1)].reshape(-1)
        for x in range(np.uint64(2 * w)):
            line[x] = (upper[x] + t * (lower[x] - upper[x])) * _ROOT2
        line[2 * w], line[2 * w + 1] = line[2 * w - 2], line[2 * w - 1]
        into = fine[y].reshape(-1)
        for x in range(np.uint64(new_w)):
            j, s, k = left[x], share[x], two * x
            u, v = line[j], line[j + one]
            into[k] = u + s * (line[j + two] - u)
            into[k + one] = v + s * (line[j + three] - v)
