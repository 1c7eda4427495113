"""Flow methods of OpenCV, solved at full resolution and reduced to each scale by averaging over areas.

DIS: *Fast optical flow using dense inverse search* (Kroeger et al., ECCV 2016), the "medium" preset. DeepFlow: *Large
displacement optical flow with deep matching* (Weinzaepfel et al., ICCV 2013), in OpenCV without the matching. Neither
is among the methods of the original trajectories: DIS is fast, and both are closer to the true flow.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from idt.errors import ParameterError
from idt.flow.pyramid import ByteArray, FloatArray, reduced_flows

_SHORTEST = 16  # pixels; OpenCV's DIS reads outside smaller images


class _OpenCV:
    """Flow between images of one size, at every scale.

    Parameters
    ----------
    width, height : int
        Size of the images, pixels.
    factors : ndarray, shape (S,), float32
        Scale factors, finest first, as `idt.flow.pyramid.scale_factors` gives them.
    """

    def __init__(self, width: int, height: int, *, factors: FloatArray) -> None:
        self._factors = factors

    def prepare(self, grey: ByteArray, *, out: ByteArray | None = None) -> ByteArray:
        """Return the image itself: these methods share nothing between pairs, and have no use for `out`."""
        return grey

    def solve(self, a: ByteArray, b: ByteArray, *, out: list[FloatArray] | None = None) -> list[FloatArray]:
        """Return the flow from `a` to `b` at every scale, finest first, in new memory whatever `out` is.

        Returns
        -------
        list of ndarray, shape (h, w, 2), float32
            x then y, in pixels of that scale.
        """
        # A solver keeps state between its steps, so one each: pairs may be solved in several threads at a time.
        flow = np.ascontiguousarray(self._solver().calc(a, b, None), np.float32)
        return reduced_flows(flow, self._factors)

    def _solver(self) -> Any:
        raise NotImplementedError


class DIS(_OpenCV):
    """Dense inverse search; the arguments are those of `idt.flow.farneback.Farneback`.

    Raises
    ------
    ParameterError
        The images are smaller than OpenCV's solver can bear.
    """

    def __init__(self, width: int, height: int, *, factors: FloatArray) -> None:
        if min(width, height) < _SHORTEST:
            raise ParameterError(f"The images are {width}x{height} pixels: DIS needs at least {_SHORTEST} pixels on "
                                 "each side; enlarge them or use farneback.")
        super().__init__(width, height, factors=factors)

    def _solver(self) -> Any:
        return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)


class DeepFlow(_OpenCV):
    """DeepFlow; the arguments are those of `idt.flow.farneback.Farneback`.

    Raises
    ------
    ParameterError
        This OpenCV has no DeepFlow; only opencv-contrib has.
    """

    def __init__(self, width: int, height: int, *, factors: FloatArray) -> None:
        if not hasattr(getattr(cv2, "optflow", None), "createOptFlow_DeepFlow"):
            raise ParameterError(f"method is 'deepflow', which this OpenCV ({cv2.__version__}) does not have: install "
                                 "opencv-contrib-python-headless in its place, or use tvl1.")
        super().__init__(width, height, factors=factors)

    def _solver(self) -> Any:
        return cv2.optflow.createOptFlow_DeepFlow()
