"""Optical flow: arrays in, arrays out.

A method is a class that is made for one size of image; it prepares an image once and solves any pair of prepared ones,
so that consecutive pairs share work: ``prepare(grey) -> Prepared``, ``solve(a, b) -> [flow per scale]``.
"""

from __future__ import annotations

import importlib
from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from idt.errors import ParameterError

if TYPE_CHECKING:
    from idt.flow.devices import Pair
    from idt.flow.pyramid import ByteArray, FloatArray
    from idt.flow.tvl1 import TVL1Params

METHODS = {"tvl1": ("idt.flow.tvl1", "TVL1"), "farneback": ("idt.flow.farneback", "Farneback"),
           "dis": ("idt.flow.dis", "DIS"), "deepflow": ("idt.flow.dis", "DeepFlow")}

__all__ = ["METHODS", "Method", "compute", "method_for", "pairs", "sequence", "tvl1_params"]


class Method(Protocol):
    """What every flow method offers."""

    def __init__(self, width: int, height: int, *, factors: FloatArray) -> None: ...

    def prepare(self, grey: ByteArray, *, out: Any = None) -> Any:
        """Return what pairs with this image share; an earlier result given as `out` may be used again for it."""

    def solve(self, a: Any, b: Any, *, out: list[FloatArray] | None = None) -> list[FloatArray]:
        """Return the flow from `a` to `b` at every scale, finest first; `out` as above."""


def method_for(name: str) -> type[Method]:
    """Return the class of a method; `ParameterError` names those there are."""
    if not isinstance(name, str) or name not in METHODS:
        raise ParameterError(f"method is {name!r}: allowed are {', '.join(METHODS)}.")
    module, kind = METHODS[name]
    method: type[Method] = getattr(importlib.import_module(module), kind)
    return method


def compute(a: npt.ArrayLike, b: npt.ArrayLike, *, method: str = "tvl1", device: str = "cpu",
            params: TVL1Params | str | None = None) -> FloatArray:
    """Return the optical flow from one image to another.

    Parameters
    ----------
    a, b : array_like, shape (H, W), uint8
        Grey images of one size, at least 2 x 2 pixels.
    method : {"tvl1", "farneback", "dis", "deepflow"}
        ``farneback`` is the variant of improved dense trajectories on up to eight scales, while the shorter side has
        at least 32 pixels; see the modules of these names in `idt.flow`, and `idt.flow.dis` for ``deepflow``.
    device : str
        ``cpu``, ``cuda``, ``cuda:1`` or ``auto``, which is a GPU where there is one that can be used; only ``tvl1``
        runs on one.
    params : TVL1Params or str, optional
        Of ``tvl1``: parameters, or the name of a preset, ``opencv`` (the default) or ``accurate``.

    Returns
    -------
    ndarray, shape (H, W, 2), float32
        x then y, pixels: what is at p in `a` is at ``p + flow`` in `b`.

    Raises
    ------
    ParameterError
        The images are no grey uint8 images of one size, or method, device or params is unknown.
    DeviceError
        There is no such GPU, or it cannot be used; the message says why.
    """
    return next(pairs([(np.asarray(a), np.asarray(b))], method=method, device=device, params=params))


def sequence(frames: Iterable[npt.ArrayLike], *, step: int = 1, method: str = "tvl1", device: str = "cpu",
             params: TVL1Params | str | None = None, threads: int = 1) -> Iterator[FloatArray]:
    """Return an iterator over the flows from each frame to the one `step` later: n frames give n - step flows.

    Parameters
    ----------
    frames : iterable of array_like, shape (H, W), uint8
        Grey images of one size; they are taken as they are needed.
    step : int
    method, device, params
        See `compute`. ``cuda:0,1`` shares the work between GPUs.
    threads : int
        Pairs that are solved at the same time on the CPU. The flows are the same for any number.

    Returns
    -------
    iterator of ndarray, shape (H, W, 2), float32
        In order; memory does not grow with the number of frames. Each flow has memory of its own on the CPU, on a GPU
        those of a batch share one array: keep a copy to keep one.

    Raises
    ------
    ParameterError, DeviceError
        See `compute`; for images when they are reached.
    """
    from idt._util.checks import checked_integer

    step = checked_integer("step", step)
    return pairs(_steps(frames, step), method=method, device=device, params=params, threads=threads)


def _steps(frames: Iterable[npt.ArrayLike], step: int) -> Iterator[Pair]:
    """Yield each frame with the one `step` later."""
    last: deque[ByteArray] = deque(maxlen=step)
    for frame in frames:
        image = np.array(frame)  # a copy: whoever makes the frames may use one buffer for all
        if len(last) == step:
            yield last[0], image
        last.append(image)


def pairs(images: Iterable[Pair], *, method: str = "tvl1", device: str = "cpu",
          params: TVL1Params | str | None = None, threads: int = 1) -> Iterator[FloatArray]:
    """Return an iterator over the flows of any pairs of images of one size.

    Parameters
    ----------
    images : iterable of (ndarray, ndarray)
        Grey images of shape (H, W), uint8, taken as they are needed. One that comes again soon, the same array, is
        prepared once.
    method, device, params, threads
        See `sequence`.

    Returns
    -------
    iterator of ndarray, shape (H, W, 2), float32
        In order, see `sequence`.

    Raises
    ------
    ParameterError, DeviceError
        See `compute`; for images when they are reached.
    """
    from idt._util.checks import checked_integer
    from idt.flow.devices import gpus_of, on_cpu, on_gpus

    chosen = method_for(method)
    threads = checked_integer("threads", threads)
    if method != "tvl1":
        if params is not None:
            raise ParameterError(f"params are given, but {method} has none: they are those of tvl1.")
        gpus_of(device, method)
        return on_cpu(_checked(images), chosen, threads, scales=8 if method == "farneback" else 1)
    numbers = tvl1_params(params)
    gpus = gpus_of(device, method)
    if gpus:
        return on_gpus(_checked(images), numbers, gpus)
    from idt.flow.tvl1 import TVL1

    return on_cpu(_checked(images), partial(TVL1, params=numbers), threads)


def tvl1_params(params: TVL1Params | str | None) -> TVL1Params:
    """Return the parameters, or those of the preset of this name; of ``opencv`` by default."""
    from idt.flow.tvl1 import PRESETS, TVL1Params

    if isinstance(params, TVL1Params):
        return params
    name = "opencv" if params is None else params
    if not isinstance(name, str) or name not in PRESETS:
        raise ParameterError(f"params is {params!r}: give TVL1Params, or the name of a preset: {', '.join(PRESETS)}.")
    return PRESETS[name]


def _checked(images: Iterable[Pair]) -> Iterator[Pair]:
    """Yield the pairs after a look at their images."""
    shape: tuple[int, ...] | None = None
    for pair in images:
        a, b = map(np.asarray, pair)
        for name, image in (("a", a), ("b", b)):
            if image.ndim != 2 or image.dtype != np.uint8 or min(image.shape) < 2:
                raise ParameterError(f"{name} has shape {image.shape} and type {image.dtype}: it must be a grey image "
                                     "(H, W) of uint8 (values 0 to 255), at least 2 x 2 pixels; convert other types "
                                     "and scale them first.")
        if a.shape != b.shape:
            raise ParameterError(f"a has shape {a.shape} and b {b.shape}: they must be of one size.")
        if shape not in (None, a.shape):
            raise ParameterError(f"The images change their size from {shape} to {a.shape}: all must be of one size.")
        shape = a.shape
        yield a, b
