"""Optical flow: arrays in, arrays out.

A method is a class that is made for one size of image; it prepares an image once and solves any pair of prepared ones,
so that consecutive pairs share work: ``prepare(grey) -> Prepared``, ``solve(a, b) -> [flow per scale]``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from idt.errors import ParameterError

if TYPE_CHECKING:
    from idt.flow.pyramid import ByteArray, FloatArray

METHODS = {"farneback": ("idt.flow.farneback", "Farneback"), "dis": ("idt.flow.dis", "DIS")}

__all__ = ["METHODS", "Method", "compute", "method_for"]


class Method(Protocol):
    """What every flow method offers."""

    def __init__(self, width: int, height: int, *, factors: FloatArray) -> None: ...

    def prepare(self, grey: ByteArray, *, out: Any = None) -> Any:
        """Return what pairs with this image share; an earlier result given as `out` may be used again for it."""

    def solve(self, a: Any, b: Any, *, out: list[FloatArray] | None = None) -> list[FloatArray]:
        """Return the flow from `a` to `b` at every scale, finest first; `out` as above."""


def method_for(name: str) -> type[Method]:
    """Return the class of a method; `ParameterError` names those there are."""
    if name not in METHODS:
        raise ParameterError(f"method is {name!r}: allowed are {', '.join(METHODS)}.")
    module, kind = METHODS[name]
    method: type[Method] = getattr(importlib.import_module(module), kind)
    return method


def compute(a: npt.ArrayLike, b: npt.ArrayLike, *, method: str = "farneback") -> FloatArray:
    """Return the optical flow from one image to another.

    Parameters
    ----------
    a, b : array_like, shape (H, W), uint8
        Grey images of one size, at least 2 x 2 pixels.
    method : {"farneback", "dis"}
        ``farneback`` is the variant of improved dense trajectories on up to eight scales, while the shorter side has
        at least 32 pixels; see `idt.flow.farneback` and `idt.flow.dis`.

    Returns
    -------
    ndarray, shape (H, W, 2), float32
        x then y, pixels: what is at p in `a` is at ``p + flow`` in `b`.

    Raises
    ------
    ParameterError
        The images are no grey uint8 images of one size, or the method is unknown.
    """
    from idt.flow.pyramid import scale_factors

    chosen = method_for(method)
    first, second = np.asarray(a), np.asarray(b)
    for name, image in (("a", first), ("b", second)):
        if image.ndim != 2 or image.dtype != np.uint8 or min(image.shape) < 2:
            raise ParameterError(f"{name} has shape {image.shape} and type {image.dtype}: it must be a grey image "
                                 "(H, W) of uint8, at least 2 x 2 pixels.")
    if first.shape != second.shape:
        raise ParameterError(f"a has shape {first.shape} and b {second.shape}: they must be of one size.")
    height, width = first.shape
    solver = chosen(width, height, factors=scale_factors(width, height))
    prepared = [solver.prepare(np.require(image, requirements=("C", "W"))) for image in (first, second)]
    return solver.solve(*prepared)[0]
