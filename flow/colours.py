"""Flow as colours: the wheel of Baker et al., *A database and evaluation methodology for optical flow* (IJCV 2011)."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from idt.errors import ParameterError

Picture: TypeAlias = NDArray[np.uint8]

# Where the pure colours lie on the colour wheel of Baker et al., as shares of the turn from right over down to left.
_WHEEL = np.array([0, 15, 21, 25, 36, 49, 55]) / 55
_PURE_BGR = np.array([(0, 0, 1), (0, 1, 1), (0, 1, 0), (1, 1, 0), (1, 0, 0), (1, 0, 1), (0, 0, 1)], float)


def flow_colours(flow: NDArray[np.floating[Any]], *, largest: float | None = None) -> Picture:
    """Return a picture of a flow field: hue is the direction, strength the speed.

    Parameters
    ----------
    flow : ndarray, shape (H, W, 2)
        Motion in pixels, x then y.
    largest : float, optional
        Speed in pixels that gets the full colour; faster ones are darkened. Default: the largest in `flow`.

    Returns
    -------
    ndarray, shape (H, W, 3), uint8
        BGR. White is no motion, red to the right, yellow down, green-blue to the left, violet up (the colour wheel of
        Baker et al., IJCV 2011); black where the flow is not finite or unknown (above 1e8).

    Raises
    ------
    ParameterError
        The array has another shape, or `largest` is not above 0.
    """
    motion = np.asarray(flow, np.float64)
    if motion.ndim != 3 or motion.shape[2] != 2:
        raise ParameterError(f"The flow has the shape {motion.shape}: it must be (H, W, 2).")
    if largest is not None and not largest > 0:
        raise ParameterError(f"largest is {largest}: it must be above 0 pixels.")
    known = np.all(np.abs(motion) <= 1e8, axis=2)  # NaN is not
    motion = np.where(known[:, :, None], motion, 0.0)
    if largest is None:
        largest = float(np.hypot(motion[:, :, 0], motion[:, :, 1]).max(initial=0)) or 1.0
    colours = wheel(motion / largest)
    colours[~known] = 0
    return colours


def wheel(motion: NDArray[np.float64]) -> Picture:
    """Return the BGR colours (..., 3) of motions (..., 2) whose unit is the speed of full colour."""
    speed = np.hypot(motion[..., 0], motion[..., 1])[..., None]
    turn = np.arctan2(motion[..., 1], motion[..., 0]) / (2 * np.pi) % 1
    pure = np.stack([np.interp(turn, _WHEEL, channel) for channel in _PURE_BGR.T], axis=-1)
    colour: Picture = np.rint(255 * np.where(speed <= 1, 1 - speed * (1 - pure), 0.75 * pure)).astype(np.uint8)
    return colour
