"""Farnebäck's optical flow in the variant of improved dense trajectories.

Two-frame motion estimation based on polynomial expansion (Farnebäck, SCIA 2003), solved on the scales of the
trajectories (a factor of sqrt(2) apart) as the original program of Wang and Schmid (ICCV 2013) does. Departures from
the paper, all taken from that program: the full resolution is smoothed with [1/4, 1/2, 1/4], every level is blurred
and resized from the full resolution, a pixel whose target lies outside is driven by the first image alone, pixels
within 5 of a side count less, 1e-3 is added to the determinant, and each level ends with a 5 x 5 median.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from idt.flow import _farneback_cpu as kernels
from idt.flow.pyramid import ByteArray, FloatArray, coarse_to_fine, scale_sizes

ITERATIONS = 2


@dataclass(frozen=True)
class Prepared:
    """Polynomial expansions of one image, one flat float32 array per level, finest first, and room to make them."""

    levels: tuple[FloatArray, ...]
    scratch: FloatArray


class Farneback:
    """Flow between images of one size, at every scale.

    Parameters
    ----------
    width, height : int
        Size of the images, pixels.
    factors : ndarray, shape (S,), float32
        Scale factors, finest first, as `idt.flow.pyramid.scale_factors` gives them.
    """

    def __init__(self, width: int, height: int, *, factors: FloatArray) -> None:
        self.sizes = scale_sizes(width, height, factors)
        self._taps = [_gaussian_taps(s) for s in factors]

    def prepare(self, grey: ByteArray, *, out: Prepared | None = None) -> Prepared:
        """Return the expansions of an image of shape (H, W), uint8, to be used in any number of pairs.

        `out`, the result of an earlier call that is no longer needed, is filled again instead of new memory.
        """
        if out is None:
            out = Prepared(tuple(np.zeros(h * w * kernels.FIELDS + kernels.PAD, np.float32) for h, w in self.sizes),
                           np.empty(self.sizes[0][0] * self.sizes[0][1], np.float32))
        for (h, w), taps, expansion in zip(self.sizes, self._taps, out.levels, strict=True):
            image = out.scratch[: h * w].reshape(h, w)
            kernels.smooth_and_resize(grey, taps, image)
            kernels.expand(image, expansion)
        return out

    def solve(self, a: Prepared, b: Prepared, *, out: list[FloatArray] | None = None) -> list[FloatArray]:
        """Return the flow from `a` to `b` at every scale, finest first; `out` as for `prepare`.

        Returns
        -------
        list of ndarray, shape (h, w, 2), float32
            x then y, in pixels of that scale.
        """
        flows = [np.empty((h, w, 2), np.float32) for h, w in self.sizes] if out is None else out
        coarse_to_fine(a.levels, b.levels, flows, _solve, kernels.enlarge)
        return flows


def _solve(a: FloatArray, b: FloatArray, flow: FloatArray) -> None:
    kernels.solve_level(a, b, flow, ITERATIONS)


def _gaussian_taps(factor: np.float32) -> FloatArray:
    """Return the taps that blur the full resolution for the level with this scale factor."""
    sigma = np.float32((factor - np.float32(1)) * np.float32(0.5))
    width = max(3, int(np.rint(np.float32(5) * sigma)) | 1)
    if sigma <= 0:
        return np.array([0.25, 0.5, 0.25], np.float32)
    x = np.arange(width) - (width - 1) / 2
    taps = np.exp(-(x**2) / (2 * float(sigma) ** 2))
    return (taps / taps.sum()).astype(np.float32)
