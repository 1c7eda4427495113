"""DIS: Fast optical flow using dense inverse search (Kroeger et al., ECCV 2016), by OpenCV.

Solved once at full resolution with the "medium" preset and reduced to each scale by averaging over areas. It is not
among the methods of the original trajectories; it is here because it is fast and closer to the true flow.
"""

from __future__ import annotations

import cv2
import numpy as np

from idt.errors import ParameterError
from idt.flow.pyramid import ByteArray, FloatArray, reduce_flow, scale_sizes

_SHORTEST = 16  # pixels; OpenCV's solver reads outside smaller images


class DIS:
    """Flow between images of one size, at every scale.

    Parameters
    ----------
    width, height : int
        Size of the images, pixels.
    factors : ndarray, shape (S,), float32
        Scale factors, finest first, as `idt.flow.pyramid.scale_factors` gives them.

    Raises
    ------
    ParameterError
        The images are smaller than OpenCV's solver can bear.
    """

    def __init__(self, width: int, height: int, *, factors: FloatArray) -> None:
        if min(width, height) < _SHORTEST:
            raise ParameterError(f"The images are {width}x{height} pixels: DIS needs at least {_SHORTEST} pixels on "
                                 "each side; enlarge them or use farneback.")
        self._factors = factors
        self._sizes = scale_sizes(width, height, factors)

    def prepare(self, grey: ByteArray, *, out: ByteArray | None = None) -> ByteArray:
        """Return the image itself: this method shares nothing between pairs, and has no use for `out`."""
        return grey

    def solve(self, a: ByteArray, b: ByteArray, *, out: list[FloatArray] | None = None) -> list[FloatArray]:
        """Return the flow from `a` to `b` at every scale, finest first, in new memory whatever `out` is.

        Returns
        -------
        list of ndarray, shape (h, w, 2), float32
            x then y, in pixels of that scale.
        """
        # A solver keeps state between its steps, so one each: pairs may be solved in several threads at a time.
        solver = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        flow = np.ascontiguousarray(solver.calc(a, b, None), np.float32)
        return [reduce_flow(flow, h, w, s) for (h, w), s in zip(self._sizes, self._factors, strict=True)]
