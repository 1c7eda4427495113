"""Slow, plain NumPy versions of every step of improved dense trajectories: what the package's kernels are held against.

Written from the numerical specification alone (ALGORITHM.md; the section is named at each function) and checked against
the original program's rows. Readable before fast: float64 inside, float32 where a result is handed on, because the
specification hands on single precision. Nothing here imports OpenCV or Numba.

Conventions: an image is (h, w), a flow (h, w, 2) with x then y, points are (n, 2) with x then y, sizes are
(width, height), and `rnd` rounds to the nearest integer, ties to even.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from idt.params import Params

if TYPE_CHECKING:
    from idt.flow.tvl1 import TVL1Params

Array = NDArray[np.generic]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
UInt8 = NDArray[np.uint8]
Rounding = Callable[[Float64], Float64]

SQRT2 = np.float32(np.sqrt(2.0))


def rnd(value):
    """Nearest integer, ties to even, of a number or an array."""
    return np.rint(value).astype(np.int64) if isinstance(value, np.ndarray) else int(np.rint(value))


# Section 2: scales and grey pyramid


def scale_factors(width: int, height: int, patch: int = 32, scales: int = 8) -> Float32:
    """Factors s_k of the scales that are used, accumulated in float32 (section 2)."""
    m, n = np.float32(min(width, height)), 0
    while m >= patch:
        m, n = np.float32(m / SQRT2), n + 1
    factors = [np.float32(1.0)]
    while len(factors) < min(scales, n):
        factors.append(np.float32(factors[-1] * SQRT2))
    return np.array(factors, np.float32)


def scale_sizes(width: int, height: int, factors: Float32) -> list[tuple[int, int]]:
    """(width, height) at each scale (section 2)."""
    return [(rnd(np.float32(width) / s), rnd(np.float32(height) / s)) for s in factors]


def _bilinear_taps(target: int, source: int, rounded: Rounding | None = None
                   ) -> tuple[NDArray[np.int64], NDArray[np.int64], Float64]:
    """For each target pixel its two source pixels (clamped) and the weight of the second (section 2)."""
    at = (np.arange(target) + 0.5) * (source / target) - 0.5
    at = rounded(at) if rounded else at
    at = at.astype(np.float32)
    first = np.floor(at).astype(np.int64)
    weight = (at - first).astype(np.float64)
    return np.clip(first, 0, source - 1), np.clip(first + 1, 0, source - 1), weight


def resize_grey(grey: UInt8, width: int, height: int) -> UInt8:
    """8-bit bilinear resize in fixed point (section 2): weights of 1/2048, truncated products in the vertical sum."""
    x0, x1, fx = _bilinear_taps(width, grey.shape[1])
    y0, y1, fy = _bilinear_taps(height, grey.shape[0])
    wx1, wy1 = rnd(fx * 2048), rnd(fy * 2048)
    wx0, wy0 = rnd((1 - fx) * 2048), rnd((1 - fy) * 2048)
    pixels = grey.astype(np.int64)
    rows = pixels[:, x0] * wx0 + pixels[:, x1] * wx1
    upper, lower = rows[y0] >> 4, rows[y1] >> 4
    return ((((wy0[:, None] * upper) >> 16) + ((wy1[:, None] * lower) >> 16) + 2) >> 2).astype(np.uint8)


def grey_pyramid(grey: UInt8, sizes: Sequence[tuple[int, int]]) -> list[UInt8]:
    """8-bit levels, each the resize of the one before (section 2); level 0 is the image itself."""
    levels = [grey]
    for width, height in sizes[1:]:
        levels.append(resize_grey(levels[-1], width, height))
    return levels


def resize_float(image: Array, width: int, height: int, rounded: Rounding | None = None) -> Float32:
    """Bilinear resize of an (h, w) or (h, w, c) float image, half-pixel centres, edges clamped (sections 4.1, 4.3)."""
    inner, handed_on = roundings(rounded)
    x0, x1, fx = _bilinear_taps(width, image.shape[1], rounded)
    y0, y1, fy = _bilinear_taps(height, image.shape[0], rounded)
    values = image.astype(np.float64)
    channels = (1,) * (image.ndim - 2)
    fx, fy = fx.reshape(1, -1, *channels), fy.reshape(-1, 1, *channels)
    rows = inner(values[:, x0] * (1 - fx) + values[:, x1] * fx)
    return handed_on(rows[y0] * (1 - fy) + rows[y1] * fy)


# Section 3: sampling


def _correlate(image: Array, taps: Sequence[float] | Float64, axis: int, border: str) -> Array:
    """Sum of taps[i] * image shifted by i - radius along one axis; `border` as in `numpy.pad` ("reflect" is 101)."""
    radius = len(taps) // 2
    pad = [(0, 0)] * image.ndim
    pad[axis] = (radius, radius)
    padded = np.moveaxis(np.pad(image, pad, mode=border), axis, 0)
    n = image.shape[axis]
    total = sum(tap * padded[i:i + n] for i, tap in enumerate(taps))
    return np.moveaxis(total, 0, axis)


def min_eigenvalues(grey: UInt8) -> Float64:
    """Smaller eigenvalue of the 2x2 structure matrix, without OpenCV's factor 1/(4*3*255)^2 (section 3).

    Derivatives, products and box sums are exact integers; only the eigenvalue is computed in float64.
    """
    pixels = grey.astype(np.int64)
    dx = _correlate(_correlate(pixels, (-1, 0, 1), 1, "reflect"), (1, 2, 1), 0, "reflect")
    dy = _correlate(_correlate(pixels, (-1, 0, 1), 0, "reflect"), (1, 2, 1), 1, "reflect")
    a, b, c = (_correlate(_correlate(p, (1, 1, 1), 1, "reflect"), (1, 1, 1), 0, "reflect")
               for p in (dx * dx, dx * dy, dy * dy))
    return (a + c) / 2 - np.sqrt(((a - c) / 2) ** 2 + b.astype(np.float64) ** 2)


def sample_points(grey: UInt8, occupied: Array, stride: int = 5, quality: float = 0.001) -> Float32:
    """New points (n, 2) of one scale in row-major order, given the positions (m, 2) of its live tracks (section 3)."""
    height, width = grey.shape
    rows, columns = height // stride, width // stride
    taken = np.zeros((rows, columns), bool)
    for x, y in np.asarray(occupied, np.float64).reshape(-1, 2):
        j, i = int(np.floor(x)) // stride, int(np.floor(y)) // stride
        if i < rows and j < columns:
            taken[i, j] = True
    eigenvalues = min_eigenvalues(grey)
    threshold = quality * eigenvalues.max()
    points = []
    for i in range(rows):
        for j in range(columns):
            x, y = j * stride + stride // 2, i * stride + stride // 2
            if not taken[i, j] and eigenvalues[y, x] > threshold:
                points.append((x, y))
    return np.array(points, np.float32).reshape(-1, 2)


# Section 4: optical flow; with `rounded` every step rounds, as a solver in single precision does (see
# `rounding.Noise`), without it only what is handed on


def exactly(values: Float64) -> Float64:
    """Round nothing."""
    return values


def _smoothed(image: Float64, taps: Float64, border: str, rounded: Rounding, taps_y: Float64 | None = None) -> Float64:
    """The image correlated along y, then x, where sums round by as much as their terms without their signs."""
    total = image
    for axis, weights in enumerate((taps if taps_y is None else taps_y, taps)):
        weights = rounded(weights)
        total = _correlate(total, weights, axis, border)
        if rounded is not exactly:
            size = _correlate(np.abs(image), np.abs(weights), axis, border)
            total = total + (rounded(size) - size)
        image = total
    return total


def roundings(rounded: Rounding | None) -> tuple[Rounding, Callable[[Float64], Float32]]:
    """How a step rounds inside, and what it hands on."""
    return rounded or exactly, lambda values: (rounded or exactly)(values).astype(np.float32)


def gaussian(radius: int, sigma: float) -> Float64:
    """2 * radius + 1 samples of a Gaussian, normalised to sum 1 (sections 4.1 to 4.3)."""
    x = np.arange(-radius, radius + 1, dtype=np.float64)
    g = np.exp(-x * x / (2 * sigma * sigma))
    return g / g.sum()


def flow_blur_taps(factor: np.float32) -> Float64:
    """Taps of the blur that comes before the resize to the scale with this float32 factor (section 4.1)."""
    sigma = np.float32((factor - np.float32(1)) / np.float32(2))
    width = max(3, rnd(np.float32(5) * sigma) | 1)
    if sigma == 0:
        return np.array([0.25, 0.5, 0.25])  # what OpenCV takes for width 3 and sigma 0
    return gaussian(width // 2, float(sigma))


def flow_pyramid_level(grey: UInt8, k: int, rounded: Rounding | None = None) -> Float32:
    """Level k of the flow's pyramid: blur and resize of the full resolution (section 4.1)."""
    inner, handed_on = roundings(rounded)
    height, width = grey.shape
    factor = np.float32(1.0)
    for _ in range(k):
        factor = np.float32(factor * SQRT2)
    taps = flow_blur_taps(factor)
    blurred = _smoothed(grey.astype(np.float64), taps, "reflect", inner)
    (size,) = scale_sizes(width, height, np.array([factor]))
    return resize_float(handed_on(blurred), *size, rounded)


def polynomial_expansion(image: Array, rounded: Rounding | None = None) -> Float32:
    """Coefficients (h, w, 5) b_x, b_y, A_xx, A_yy, A_xy of the local quadratic fit (section 4.2)."""
    radius = 7
    inner, handed_on = roundings(rounded)
    x = np.arange(-radius, radius + 1, dtype=np.float64)
    g = gaussian(radius, 1.5)
    m2, m4 = (g * x**2).sum(), (g * x**4).sum()
    values = image.astype(np.float64)

    def moment(power_x: int, power_y: int) -> Float64:
        """Weighted sum of x^power_x y^power_y f over the neighbourhood of every pixel."""
        return _smoothed(values, g * x**power_x, "edge", inner, g * x**power_y)

    mean, per = moment(0, 0), inner(1 / np.array([m2, m4 - m2 * m2, m2 * m2]))
    return handed_on(np.stack([
        moment(1, 0) * per[0],
        moment(0, 1) * per[0],
        (moment(2, 0) - m2 * mean) * per[1],
        (moment(0, 2) - m2 * mean) * per[1],
        moment(1, 1) * per[2],
    ], axis=2))


def _border_weights(size: int) -> Float64:
    """Damping along one axis: the product of the weights of both sides (section 4.3)."""
    side = np.ones(size)
    for distance, weight in enumerate((0.14, 0.14, 0.4472, 0.4472, 0.4472)):
        if distance < size:
            side[distance] = weight
    return side * side[::-1]


def farneback_update(expansion_p: Float32, expansion_c: Float32, flow: Float32, rounded: Rounding | None = None
                     ) -> Float32:
    """One iteration at one level: the next flow from the expansions of P and C and the present flow (section 4.3)."""
    inner, handed_on = roundings(rounded)
    height, width = flow.shape[:2]
    py, px = np.mgrid[:height, :width].astype(np.float32)
    dx, dy = flow[..., 0], flow[..., 1]
    tx, ty = px + dx, py + dy  # float32, as the flow is
    x0, y0 = np.floor(tx), np.floor(ty)
    inside = ((x0 >= 0) & (x0 < width - 1) & (y0 >= 0) & (y0 < height - 1))[..., None]
    ix = np.where(inside[..., 0], x0, 0).astype(np.int64)
    iy = np.where(inside[..., 0], y0, 0).astype(np.int64)
    fx, fy = (tx - x0)[..., None].astype(np.float64), (ty - y0)[..., None].astype(np.float64)
    ix1, iy1 = np.minimum(ix + 1, width - 1), np.minimum(iy + 1, height - 1)
    p, c = expansion_p.astype(np.float64), expansion_c.astype(np.float64)
    at_target = inner((1 - fy) * inner((1 - fx) * c[iy, ix] + fx * c[iy, ix1])
                      + fy * inner((1 - fx) * c[iy1, ix] + fx * c[iy1, ix1]))

    # Outside, b^C counts as 0 while b^P stays, and A is P's own.
    b_c = np.where(inside, at_target[..., :2], 0.0)
    a_xx, a_yy, a_xy = np.moveaxis(np.where(inside, (p[..., 2:] + at_target[..., 2:]) / 2, p[..., 2:]), 2, 0)
    off = a_xy / 2
    b_x = inner(p[..., 0] - b_c[..., 0]) / 2 + inner(a_xx * dx) + inner(off * dy)
    b_y = inner(p[..., 1] - b_c[..., 1]) / 2 + inner(off * dx) + inner(a_yy * dy)

    damping = np.outer(inner(_border_weights(height)), inner(_border_weights(width)))
    b_x, b_y, a_xx, a_yy, off = (inner(damping * v) for v in (b_x, b_y, a_xx, a_yy, off))

    taps = gaussian(5, 1.5)
    sums = (a_xx**2 + off**2, a_yy**2 + off**2, (a_xx + a_yy) * off, a_xx * b_x + off * b_y, off * b_x + a_yy * b_y)
    g_xx, g_yy, g_xy, h_x, h_y = (_smoothed(inner(v), taps, "edge", inner) for v in sums)
    determinant = g_xx * g_yy - g_xy**2 + 1e-3
    return handed_on(np.stack([(g_yy * h_x - g_xy * h_y) / determinant,
                               (g_xx * h_y - g_xy * h_x) / determinant], axis=2))


def upsample_flow(flow: Float32, width: int, height: int, rounded: Rounding | None = None) -> Float32:
    """Start of the next finer level: resized and multiplied by sqrt(2), whatever the true ratio (section 4.3)."""
    return roundings(rounded)[1](resize_float(flow, width, height, rounded) * SQRT2)


def median(flow: Array, side: int) -> Array:
    """Median of each component over `side` x `side` pixels, edges replicated."""
    height, width = flow.shape[:2]
    margin = (side // 2, side // 2)
    padded = np.pad(flow, (margin, margin, (0, 0)), mode="edge")
    shifted = [padded[i:i + height, j:j + width] for i in range(side) for j in range(side)]
    return np.median(np.stack(shifted), axis=0)


def median5(flow: Float32) -> Float32:
    """5x5 median of each component, edges replicated (end of section 4.3)."""
    return median(flow, 5).astype(np.float32)


def flow_expansions(grey: UInt8, scales: int, rounded: Rounding | None = None) -> list[Float32]:
    """Polynomial expansions of the flow pyramid's levels 0 to scales - 1 (section 4)."""
    return [polynomial_expansion(flow_pyramid_level(grey, k, rounded), rounded) for k in range(scales)]


def solve_flow(expansions_p: Sequence[Float32], expansions_c: Sequence[Float32], rounded: Rounding | None = None
               ) -> list[Float32]:
    """Flow P to C at every scale, finest first, in pixels of that scale (section 4.3)."""
    flows: list[Float32] = []
    flow: Float32 | None = None
    for p, c in zip(reversed(expansions_p), reversed(expansions_c), strict=True):
        height, width = p.shape[:2]
        start = np.zeros((height, width, 2), np.float32)
        flow = start if flow is None else upsample_flow(flow, width, height, rounded)
        for _ in range(2):
            flow = farneback_update(p, c, flow, rounded)
        flow = median5(flow)
        flows.insert(0, flow)
    return flows


def farneback(grey_a: UInt8, grey_b: UInt8, scales: int, rounded: Rounding | None = None) -> list[Float32]:
    """Flow from `grey_a` to `grey_b` at every scale, finest first (section 4)."""
    return solve_flow(*(flow_expansions(grey, scales, rounded) for grey in (grey_a, grey_b)), rounded)


# TV-L1 flow, which is no part of ALGORITHM.md: from Zach 2007 and IPOL 2013 (equations named), and the departures that
# flow/tvl1.py states. Images are float64 (h, w) of grey values, flows (h, w, 2), dual variables (2, 2, h, w): of u1 and
# u2, along x and y. Float64 throughout; `rounded` is applied to what a solver in single precision would round, so that
# `rounding.Noise` shows how far such a solver may be from this one.



def tvl1_sizes(width: int, height: int, params: TVL1Params) -> list[tuple[int, int]]:
    """(width, height) of the levels, finest first: OpenCV's rule, none shorter than 16 pixels but the image itself."""
    sizes = [(width, height)]
    for _ in range(params.scales - 1):
        coarser = rnd(sizes[-1][0] * params.scale_step), rnd(sizes[-1][1] * params.scale_step)
        if min(coarser) < 16:
            break
        sizes.append(coarser)
    return sizes


def tvl1_resize(image: Array, width: int, height: int, ratio: tuple[float, float]) -> Float64:
    """Bilinear resize with half-pixel centres; a target pixel is `ratio` (x, y) source pixels wide."""
    def taps(target: int, source: int, step: float) -> tuple[NDArray[np.int64], NDArray[np.int64], Float64]:
        at = np.clip((np.arange(target) + 0.5) * step - 0.5, 0, source - 1)
        first = np.floor(at).astype(np.int64)
        return first, np.minimum(first + 1, source - 1), at - first

    x0, x1, fx = taps(width, image.shape[1], ratio[0])
    y0, y1, fy = taps(height, image.shape[0], ratio[1])
    values = np.asarray(image, np.float64)
    rows = values[:, x0] * (1 - fx) + values[:, x1] * fx
    return rows[y0] * (1 - fy[:, None]) + rows[y1] * fy[:, None]


def tvl1_pyramid(grey: UInt8, params: TVL1Params, rounded: Rounding = exactly) -> list[Float64]:
    """Levels of an image, finest first, each resized from the one before without a blur."""
    height, width = grey.shape
    levels = [grey.astype(np.float64)]
    for size in tvl1_sizes(width, height, params)[1:]:
        levels.append(rounded(tvl1_resize(levels[-1], *size, (1 / params.scale_step, 1 / params.scale_step))))
    return levels


def interpolation_weights(fraction: Float64, interpolation: str) -> Float64:
    """(4, ...) weights of the pixels -1, 0, 1 and 2: Keys (1981) with -0.75 or -0.5, or linear."""
    if interpolation == "linear":
        return np.stack([0 * fraction, 1 - fraction, fraction, 0 * fraction])
    a = {"cubic": -0.75, "keys": -0.5}[interpolation]
    distance = np.abs(fraction - np.arange(-1, 3).reshape(-1, *[1] * fraction.ndim))
    near = (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    far = a * distance**3 - 5 * a * distance**2 + 8 * a * distance - 4 * a
    return np.where(distance <= 1, near, far)


def tvl1_warp(image: Float64, flow: Float64, interpolation: str, rounded: Rounding = exactly
              ) -> tuple[Float64, Float64, NDArray[np.bool_]]:
    """Image at x + flow (h, w), its gradient there (h, w, 2), and whether that place lies in the image (h, w).

    Beyond its border the image is continued by its last pixels; the gradient is the central difference of that.
    """
    height, width = image.shape
    far = 4
    continued = np.pad(image, far, mode="edge")
    gradient = np.zeros((*continued.shape, 2))
    gradient[:, 1:-1, 0] = (continued[:, 2:] - continued[:, :-2]) / 2
    gradient[1:-1, :, 1] = (continued[2:] - continued[:-2]) / 2
    y, x = rounded(np.mgrid[:height, :width] + np.moveaxis(flow, 2, 0)[::-1])
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    i, j = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    along, down = (rounded(interpolation_weights(f, interpolation)) for f in (x - i, y - j))
    fields = np.concatenate([continued[..., None], gradient], axis=2)
    total = np.zeros((height, width, 3))
    for r in range(4):
        for c in range(4):
            total = rounded(total + (down[r] * along[c])[..., None] * fields[j + far - 1 + r, i + far - 1 + c])
    return total[..., 0], total[..., 1:], inside


def forward_gradient(field: Float64) -> Float64:
    """(2, h, w) differences to the next pixel along x and y, zero in the last column and row (IPOL 2013, 2.3)."""
    gradient = np.zeros((2, *field.shape))
    gradient[0, :, :-1] = field[:, 1:] - field[:, :-1]
    gradient[1, :-1] = field[1:] - field[:-1]
    return gradient


def divergence(p: Float64) -> Float64:
    """(h, w) divergence of a (2, h, w) field, the negative adjoint of `forward_gradient` (IPOL 2013, 2.3)."""
    total = np.zeros(p.shape[1:])
    total[:, :-1] += p[0, :, :-1]
    total[:, 1:] -= p[0, :, :-1]
    total[:-1] += p[1, :-1]
    total[1:] -= p[1, :-1]
    return total


def tvl1_relax(flow: Float64, duals: Float64, image: Float64, warped: Float64, gradient: Float64,
               inside: NDArray[np.bool_], params: TVL1Params, rounded: Rounding = exactly,
               ends: Callable[[int, float], bool] | None = None) -> tuple[Float64, Float64, int]:
    """Flow and dual variables after the iterations of one warp, and how many those were.

    `ends` decides after each iteration, from its number and the sum of the squared changes, in place of the parameters.
    """
    threshold, ratio = params.lambda_ * params.theta, params.tau / params.theta
    square = (gradient**2).sum(2)
    fixed = rounded(rounded(warped - image) - rounded(rounded(gradient * flow).sum(2)))
    for n in range(params.iterations):
        # Equation 15; a pixel that has no data term is left as it is.
        rho = rounded(fixed + rounded(rounded(gradient * flow).sum(2)))
        step = np.where(square > 0, -rho / np.where(square > 0, square, 1), 0)
        step = np.where(rho < -threshold * square, threshold, np.where(rho > threshold * square, -threshold, step))
        v = flow + np.where(inside, step, 0)[..., None] * gradient
        # Equation 17, then one step of 18
        new = rounded(v + params.theta * np.stack([divergence(p) for p in duals], axis=2))
        slopes = np.stack([rounded(forward_gradient(new[..., k])) for k in range(2)])
        shares = rounded(1 / rounded(1 + ratio * rounded(np.sqrt((slopes**2).sum(1, keepdims=True)))))
        duals = rounded(rounded(duals + ratio * slopes) * shares)
        change, flow = ((new - flow) ** 2).sum(), new
        converged = change <= params.epsilon**2 * flow[..., 0].size
        if ends(n + 1, float(change)) if ends else converged:
            return flow, duals, n + 1
    return flow, duals, params.iterations


def tvl1_level(a: Float64, b: Float64, flow: Float64, params: TVL1Params, rounded: Rounding = exactly,
               ends: Callable[[int, float], bool] | None = None) -> tuple[Float64, list[int]]:
    """Flow of one level from a start, and the number of iterations of each warp."""
    duals, counts = np.zeros((2, 2, *a.shape)), []
    for _ in range(params.warps):
        warped, gradient, inside = tvl1_warp(b, flow, params.interpolation, rounded)
        flow, duals, count = tvl1_relax(flow, duals, a, warped, gradient, inside, params, rounded, ends)
        counts.append(count)
        if params.median > 1:
            flow = median(flow, params.median)
    return flow, counts


def tvl1_enlarge(flow: Float64, width: int, height: int, params: TVL1Params) -> Float64:
    """Start of the next finer level: resized by the ratio of the sizes, divided by the scale step."""
    ratio = flow.shape[1] / width, flow.shape[0] / height
    return np.stack([tvl1_resize(flow[..., k], width, height, ratio) for k in range(2)], axis=2) / params.scale_step


def tvl1(a: UInt8, b: UInt8, params: TVL1Params, rounded: Rounding = exactly,
         ends: Callable[[int, float], bool] | None = None) -> Float32:
    """Flow (H, W, 2) from `a` to `b`, coarse to fine; `rounded` and `ends` as of `tvl1_relax`."""
    flow: Float64 | None = None
    levels = [tvl1_pyramid(image, params, rounded) for image in (a, b)]
    for p, q in zip(*map(reversed, levels), strict=True):
        height, width = p.shape
        flow = np.zeros((height, width, 2)) if flow is None else rounded(tvl1_enlarge(flow, width, height, params))
        flow, _ = tvl1_level(p, q, flow, params, rounded, ends)
    assert flow is not None
    return flow.astype(np.float32)


# Section 7: people and the warped frame


def person_mask(boxes: Array, shape: tuple[int, int]) -> UInt8:
    """(h, w) mask of ones with the boxes x1, y1, x2, y2 set to zero, clipped to the image (sections 7.2 and 16)."""
    height, width = shape
    mask = np.ones(shape, np.uint8)
    for x1, y1, x2, y2 in np.asarray(boxes, np.float64).reshape(-1, 4):
        for y in range(max(0, int(np.ceil(y1))), min(height - 1, int(np.floor(y2))) + 1):
            for x in range(max(0, int(np.ceil(x1))), min(width - 1, int(np.floor(x2))) + 1):
                mask[y, x] = 0
    return mask


def warp(previous: UInt8, current: UInt8, homography: Float64) -> UInt8:
    """`current` seen from `previous`, and `previous` itself where the target lies in the border (section 7.4)."""
    height, width = previous.shape
    y, x = np.mgrid[:height, :width].astype(np.float64)
    h = np.asarray(homography, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = h[2, 0] * x + h[2, 1] * y + h[2, 2]
        tx = (h[0, 0] * x + h[0, 1] * y + h[0, 2]) / z
        ty = (h[1, 0] * x + h[1, 1] * y + h[1, 2]) / z
        inside = (tx > 5) & (tx < width - 6) & (ty > 5) & (ty < height - 6)
    # 1/32 pixel; inside the border all four neighbours exist, so nothing needs to be said about what lies outside.
    fixed_x, fixed_y = rnd(np.where(inside, tx, 0) * 32), rnd(np.where(inside, ty, 0) * 32)
    ix, iy, fx, fy = fixed_x >> 5, fixed_y >> 5, fixed_x & 31, fixed_y & 31
    ix1, iy1 = np.minimum(ix + 1, width - 1), np.minimum(iy + 1, height - 1)
    c = current.astype(np.int64)
    total = 32 * ((32 - fy) * ((32 - fx) * c[iy, ix] + fx * c[iy, ix1])
                  + fy * ((32 - fx) * c[iy1, ix] + fx * c[iy1, ix1]))  # weights of 1/32768
    return np.where(inside, (total + 2**14) >> 15, previous).astype(np.uint8)


# Section 8: descriptors


def central_difference(image: Array, axis: int) -> Float32:
    """I(+1) - I(-1) along an axis, not halved, zero at the borders (section 8.1)."""
    return _correlate(image.astype(np.float32), (-1, 0, 1), axis, "reflect").astype(np.float32)


def angle(first: Array, second: Array, *, approximate: bool = False) -> Float64:
    """Orientation in degrees [0, 360): exact, or by the polynomial of OpenCV's `fastAtan2` (section 8.1)."""
    x, y = first.astype(np.float64), second.astype(np.float64)
    if not approximate:
        degrees = np.degrees(np.arctan2(y, x)) % 360
    else:
        long, short = np.maximum(np.abs(x), np.abs(y)), np.minimum(np.abs(x), np.abs(y))
        r = short / (long + np.finfo(np.float64).eps)
        p1, p3, p5, p7 = 0.9997878412794807, -0.3258083974640975, 0.1555786518463281, -0.04432655554792128
        degrees = np.degrees(r * (p1 + r**2 * (p3 + r**2 * (p5 + r**2 * p7))))
        degrees = np.where(np.abs(y) > np.abs(x), 90 - degrees, degrees)
        degrees = np.where(x < 0, 180 - degrees, degrees)
        degrees = np.where(y < 0, 360 - degrees, degrees)
    return np.where(degrees >= 360, 0.0, degrees)


def orientation_votes(first: Array, second: Array, bins: int = 8, *, approximate: bool = False) -> Float64:
    """(h, w, bins): every pixel's magnitude, split between the two nearest orientation bins (section 8.1)."""
    magnitude = np.sqrt(first.astype(np.float64) ** 2 + second.astype(np.float64) ** 2)
    position = angle(first, second, approximate=approximate) * bins / 360
    low = np.floor(position).astype(np.int64)
    share = position - low
    y, x = np.indices(magnitude.shape)
    votes = np.zeros((*magnitude.shape, bins))
    votes[y, x, low % bins] += magnitude * (1 - share)
    votes[y, x, (low + 1) % bins] += magnitude * share
    return votes


def hog_votes(grey: UInt8, *, approximate: bool = False) -> Float64:
    """(h, w, 8) votes of the grey gradient (section 8.1)."""
    return orientation_votes(central_difference(grey, 1), central_difference(grey, 0), approximate=approximate)


def hof_votes(flow: Float32, threshold: float = 0.4, *, approximate: bool = False) -> Float64:
    """(h, w, 9) votes of the flow: small vectors count 1 in the last bin and nothing else (section 8.1)."""
    still = np.sqrt((flow.astype(np.float64) ** 2).sum(2)) <= threshold
    votes = orientation_votes(flow[..., 0], flow[..., 1], approximate=approximate)
    votes[still] = 0
    return np.concatenate([votes, still[..., None].astype(np.float64)], axis=2)


def mbh_votes(flow: Float32, component: int, *, approximate: bool = False) -> Float64:
    """(h, w, 8) votes of the gradient of one flow component, 0 for MBHx and 1 for MBHy (section 8.1)."""
    return hog_votes(flow[..., component], approximate=approximate)


def patch_descriptor(votes: Float64, x: float, y: float, patch: int = 32, cells: int = 2,
                     epsilon: float = 0.05) -> Float64:
    """Normalised histogram of the cells of one window: x-cell outermost, then y-cell, then bin (section 8.2)."""
    height, width = votes.shape[:2]
    left = min(max(rnd(x) - patch // 2, 0), width - patch)
    top = min(max(rnd(y) - patch // 2, 0), height - patch)
    side = patch // cells
    block = []
    for cell_x in range(cells):
        for cell_y in range(cells):
            row, column = top + cell_y * side, left + cell_x * side
            sums = votes[row:row + side, column:column + side].sum((0, 1))
            block.append(np.maximum(sums, 0) + epsilon)
    values = np.concatenate(block)
    return np.sqrt(values / values.sum())


def temporal_pool(steps: Array, cells: int = 3) -> Float64:
    """Means of `cells` equally long groups of the (L, d) step descriptors, one after the other (section 8.3)."""
    length = len(steps) // cells
    return np.concatenate([np.asarray(steps, np.float64)[i * length:(i + 1) * length].mean(0) for i in range(cells)])


# Sections 6 and 9: tracks


def nearest_pixel(points: Float32, width: int, height: int) -> NDArray[np.int64]:
    """(n, 2) pixels at which tracks read the flow (section 6)."""
    return np.clip(rnd(points), 0, (width - 1, height - 1))


def track_step(points: Float32, flow: Float32) -> tuple[Float32, NDArray[np.bool_]]:
    """Points moved by the flow at their nearest pixel, and which of them are still in the image (section 6)."""
    height, width = flow.shape[:2]
    pixels = nearest_pixel(points, width, height)
    moved = (points + flow[pixels[:, 1], pixels[:, 0]]).astype(np.float32)
    x, y = moved[:, 0], moved[:, 1]
    return moved, (x > 0) & (x < width) & (y > 0) & (y < height)


@dataclass(frozen=True)
class Shape:
    """What a valid track's positions say: full-resolution pixels (section 9)."""

    mean: Float64  # (2,)
    std: Float64  # (2,)
    length: float
    trajectory: Float64  # (2L,)


def trajectory_shape(points: Array, displacements: Array, params: Params | None = None) -> Shape | None:
    """Result for one finished track, or None when a test of section 9 rejects it.

    `points` (L + 1, 2) and `displacements` (L, 2) of the warped flow are already multiplied by s_k.
    """
    params = params or Params()
    q, e = np.asarray(points, np.float64), np.asarray(displacements, np.float64)
    mean, std = q.mean(0), q.std(0)
    steps = np.sqrt((np.diff(q, axis=0) ** 2).sum(1))
    motion = np.sqrt((e**2).sum(1))
    static = (std < params.min_std).all()
    erratic = (std > params.max_std).any()
    jump = steps.max() > params.max_step and steps.max() > params.max_step_share * steps.sum()
    background = params.camera and motion.max() <= params.min_motion
    if static or erratic or jump or background:
        return None
    total = motion.sum()
    return Shape(mean, std, float(steps.sum()), (e / total if total > 0 else e).ravel())


# Section 10: everything in order


CHANNELS = ("hog", "hof", "mbhx", "mbhy")


@dataclass(frozen=True)
class _Image:
    grey: UInt8
    levels: list[UInt8]
    expansions: list[Float32]


@dataclass
class _Track:
    points: list[Float32] = field(default_factory=list)
    displacements: list[Float32] = field(default_factory=list)
    steps: dict[str, list[Float64]] = field(default_factory=lambda: {name: [] for name in CHANNELS})


def improved_trajectories(frames: Sequence[UInt8] | UInt8, homographies: Float64 | None = None,
                          params: Params | None = None, *, approximate: bool = False) -> dict[str, Array]:
    """All rows of a clip, named as in the features file, descriptors unrounded in float32 (sections 10, 11, 16).

    `frames` is the whole clip (T, H, W) of 8-bit grey. Entry t of `homographies` (T, 3, 3) maps the previously
    processed frame to frame t; None means identity, with the border rule of the warp still in force. Of `params`,
    start, end and step are obeyed; resizing, the choice of descriptors, of the flow and of their type are not.
    """
    params = params or Params()
    last = len(frames) - 1 if params.end is None else min(params.end, len(frames) - 1)
    processed = range(params.start, last + 1, params.step)
    height, width = frames[0].shape
    factors = scale_factors(width, height, params.patch, params.scales)
    sizes = scale_sizes(width, height, factors)
    tracks: list[list[_Track]] = [[] for _ in factors]
    rows: list[dict[str, Array]] = []
    previous: _Image | None = None

    for n, t in enumerate(processed):
        if min(width, height) < params.patch:
            break
        grey = frames[t]
        current = _Image(grey, grey_pyramid(grey, sizes), flow_expansions(grey, len(factors)))
        if previous is not None:
            flows = solve_flow(previous.expansions, current.expansions)
            stable = flows
            if params.camera:
                warped = warp(previous.grey, grey, np.eye(3) if homographies is None else homographies[t])
                stable = solve_flow(previous.expansions, flow_expansions(warped, len(factors)))
            for k, factor in enumerate(factors):
                tracks[k], ended = _advance(tracks[k], previous.levels[k], flows[k], stable[k], params, approximate)
                rows += [row for track in ended if (row := _row(track, t, factor, params)) is not None]
        if n % params.resample == 0:
            for k, level in enumerate(current.levels):
                live = np.array([track.points[-1] for track in tracks[k]])
                tracks[k] += [_Track([p]) for p in sample_points(level, live, params.stride, params.quality)]
        previous = current
    return _table(rows, processed, width, height, params)


def _advance(tracks: list[_Track], grey: UInt8, flow: Float32, stable: Float32, params: Params,
             approximate: bool) -> tuple[list[_Track], list[_Track]]:
    """Move the tracks of one scale by one step; return those that go on and those that have all their steps."""
    height, width = grey.shape
    votes = {"hog": hog_votes(grey, approximate=approximate),
             "hof": hof_votes(stable, params.hof_threshold, approximate=approximate),
             "mbhx": mbh_votes(stable, 0, approximate=approximate),
             "mbhy": mbh_votes(stable, 1, approximate=approximate)}
    points = np.array([track.points[-1] for track in tracks], np.float32).reshape(-1, 2)
    moved, alive = track_step(points, flow)
    pixels = nearest_pixel(points, width, height)
    going_on, ended = [], []
    for track, old, new, (x, y), keep in zip(tracks, points, moved, pixels, alive, strict=True):
        if not keep:
            continue
        for name in CHANNELS:
            track.steps[name].append(patch_descriptor(votes[name], old[0], old[1], params.patch, params.spatial_cells,
                                                      params.epsilon))
        track.displacements.append(stable[y, x])
        track.points.append(new)
        (ended if len(track.displacements) == params.length else going_on).append(track)
    return going_on, ended


def _row(track: _Track, frame: int, factor: np.float32, params: Params) -> dict[str, Array] | None:
    """One row of the features, or None when the track is not valid."""
    points = np.array(track.points, np.float32) * factor
    shape = trajectory_shape(points, np.array(track.displacements, np.float32) * factor, params)
    if shape is None:
        return None
    pooled = {name: temporal_pool(np.array(track.steps[name]), params.temporal_cells) for name in CHANNELS}
    return {"frame": np.int32(frame), "mean": shape.mean, "std": shape.std, "length": np.float64(shape.length),
            "scale": factor, "trajectory": shape.trajectory, **pooled, "points": points}


def _table(rows: list[dict[str, Array]], processed: range, width: int, height: int,
           params: Params) -> dict[str, Array]:
    """The rows as arrays, with the relative positions of columns 8 to 10 (sections 11 and 16)."""
    pooled = params.temporal_cells * params.spatial_cells**2
    shapes = {"frame": (), "mean": (2,), "std": (2,), "length": (), "scale": (), "trajectory": (2 * params.length,),
              "hog": (8 * pooled,), "hof": (9 * pooled,), "mbhx": (8 * pooled,), "mbhy": (8 * pooled,),
              "points": (params.length + 1, 2)}
    table: dict[str, Array] = {
        name: np.array([row[name] for row in rows], np.int32 if name == "frame" else np.float32).reshape(-1, *shape)
        for name, shape in shapes.items()}
    span = processed[-1] - processed[0] + 1 if len(processed) else 1
    position = np.column_stack([table["mean"][:, 0] / width, table["mean"][:, 1] / height,
                                (table["frame"] - params.length / 2 - params.start) / span])
    table["position"] = np.clip(position, 0, 0.999).astype(np.float32)
    return table


# Support vector machines (idt.encoding.svm)


def chi2_distances(x: Float64, y: Float64) -> Float64:
    """Return ½ Σ (a − b)² / (a + b) for each pair of rows; two empty bins are 0 apart."""
    distances = np.zeros((len(x), len(y)))
    for i, a in enumerate(x.astype(np.float64)):
        for j, b in enumerate(y.astype(np.float64)):
            distances[i, j] = sum((p - q)**2 / (p + q) for p, q in zip(a, b, strict=True) if p + q > 0) / 2
    return distances


def squared_hinge_objectives(vectors: Float64, target: Float64, costs: Float64, alpha: Float64) -> tuple[float, float]:
    """Return the primal and the dual objective of a linear machine of the weights that α gives; equal at the optimum.

    The bias is the weight of a last feature that is 1 everywhere.
    """
    vectors = np.column_stack([vectors.astype(np.float64), np.ones(len(vectors))])
    weights = sum((a * s * x for a, s, x in zip(alpha, target, vectors, strict=True)), np.zeros(vectors.shape[1]))
    loss = sum(c * max(0.0, 1 - s * float(weights @ x))**2 for c, s, x in zip(costs, target, vectors, strict=True))
    half = float(weights @ weights) / 2
    return half + loss, float(np.sum(alpha)) - half - sum(a * a / (4 * c) for a, c in zip(alpha, costs, strict=True))


# Encodings of bags (idt.encoding): x (n, d); Gaussians with weights (K,), means and variances (K, d)


def gaussian_posteriors(x: Float64, weights: Float64, means: Float64, variances: Float64) -> tuple[Float64, Float64]:
    """Return the posteriors (n, K) of a mixture of diagonal Gaussians and the log-densities (n,)."""
    joint = np.empty((len(x), len(weights)))
    for k, (weight, mean, variance) in enumerate(zip(*map(np.float64, (weights, means, variances)), strict=True)):
        joint[:, k] = np.log(weight) - 0.5 * (np.log(2 * np.pi * variance) + (x - mean)**2 / variance).sum(axis=1)
    densities = np.logaddexp.reduce(joint, axis=1)
    return np.exp(joint - densities[:, None]), densities


def em_step(x: Float64, weights: Float64, means: Float64, variances: Float64) -> tuple[Float64, Float64, Float64]:
    """Return weights, means and variances after a step of expectation maximisation."""
    q, _ = gaussian_posteriors(x, weights, means, variances)
    new_means = np.stack([(q_k[:, None] * x).sum(axis=0) / q_k.sum() for q_k in q.T])
    new_variances = [(q_k[:, None] * (x - mean)**2).sum(axis=0) / q_k.sum()
                     for q_k, mean in zip(q.T, new_means, strict=True)]
    return q.sum(axis=0) / len(x), new_means, np.stack(new_variances)


def fisher_vector(x: Float64, weights: Float64, means: Float64, variances: Float64) -> Float64:
    """Return the mean and the deviation part, each K × d (Sánchez et al., IJCV 2013, equations 17 and 18)."""
    q, _ = gaussian_posteriors(x, weights, means, variances)
    of_means, of_deviations = [], []
    for k, (weight, mean, variance) in enumerate(zip(*map(np.float64, (weights, means, variances)), strict=True)):
        z = (x - mean) / np.sqrt(variance)
        of_means.append((q[:, k, None] * z).sum(axis=0) / (len(x) * np.sqrt(weight)))
        of_deviations.append((q[:, k, None] * (z**2 - 1)).sum(axis=0) / (len(x) * np.sqrt(2 * weight)))
    return np.concatenate([*of_means, *of_deviations])


def square_distances(x: Float64, words: Float64) -> Float64:
    """Return the squared distances (n, K) from each descriptor to each word."""
    return np.stack([((x - word)**2).sum(axis=1) for word in words.astype(np.float64)], axis=1)


def bag_of_words(x: Float64, words: Float64, soft: float | None) -> Float64:
    """Return what each word gets of the descriptors, nearest alone or by a Gaussian kernel of their distance."""
    counts = np.zeros(len(words))
    for squares in square_distances(x, words):
        if soft is None:
            counts[squares.argmin()] += 1
        else:
            share = np.exp((squares.min() - squares) / (2 * soft**2))
            counts += share / share.sum()
    return counts


def vlad(x: Float64, words: Float64, intra: bool, residual: bool) -> Float64:
    """Return the sums (K d,) of the differences from each word to the descriptors nearest to it."""
    sums = np.zeros(words.shape)
    for row, squares in zip(x, square_distances(x, words), strict=True):
        nearest = squares.argmin()
        difference = row - words[nearest].astype(np.float64)
        length = np.linalg.norm(difference)
        sums[nearest] += difference / length if residual and length > 0 else difference
    if intra:
        sums = np.stack([part / np.linalg.norm(part) if part.any() else part for part in sums])
    return sums.ravel()


def pyramid_cells(position: Float64, grids: Sequence[tuple[int, int, int]]) -> list[list[int]]:
    """Return the descriptors of each cell, grid by grid, in each t slowest and x fastest."""
    found = []
    for nx, ny, nt in grids:
        for t in range(nt):
            for y in range(ny):
                for x in range(nx):
                    found.append([i for i, p in enumerate(position) if (min(max(int(p[0] * nx), 0), nx - 1),
                                  min(max(int(p[1] * ny), 0), ny - 1), min(max(int(p[2] * nt), 0), nt - 1))
                                  == (x, y, t)])
    return found
