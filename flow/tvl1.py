"""TV-L1 optical flow.

A duality based approach for realtime TV-L1 optical flow (Zach, Pock and Bischof, DAGM 2007) in the form of OpenCV's
DualTVL1, after Sánchez, Meinhardt-Llopis and Facciolo (IPOL 2013). TODO
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from idt.errors import ParameterError
from idt.flow import _tvl1_cpu as kernels
from idt.flow.pyramid import ByteArray, FloatArray, reduce_flow, scale_sizes

Interpolation = Literal["cubic", "linear"]

SHORTEST = 16  # pixels: no level is smaller

TEST_EVERY = 4
"""Iterations between two tests for convergence on a GPU; on a CPU, where a test costs nothing, each is followed by one."""


def _number(default: Any, text: str, *, unit: str = "", low: float | None = None, above: float | None = None,
            high: float, source: str) -> Any:
    return field(default=default, metadata={"text": text, "unit": unit, "low": low, "high": high, "above": above,
                                            "source": source})

_ZACH, _IPOL, _OPENCV, _WEDEL = "Zach 2007", "IPOL 2013", "OpenCV", "Wedel 2009"


@dataclass(frozen=True, kw_only=True)
class TVL1Params:
    tau: float = _number(0.25, "time step of the dual variables (tau)", above=0.0, high=0.25, source=_IPOL)
    lambda_: float = _number(0.15, "weight of the brightness differences against smoothness (lambda)", above=0.0, high=1e3, source=_IPOL)
    theta: float = _number(0.3, "how tightly the two halves of the flow are coupled (theta)", above=0.0, high=1e3, source=_IPOL)
    scales: int = _number(5, "largest number of pyramid levels; none is shorter than 16 pixels", low=1, high=50, source=_OPENCV)
    scale_step: float = _number(0.8, "ratio of the sizes of two levels", above=0.1, high=0.95, source=_OPENCV)
    warps: int = _number(5, "times the second image is warped on each level", low=1, high=1000, source=_OPENCV)
    epsilon: float = _number(0.01, "a warp ends when the flow changes by less than this (root mean square)", unit="px of the level", low=0.0, high=1e3, source=_OPENCV)
    iterations: int = _number(300, "largest number of iterations of a warp", low=1, high=100_000, source=_OPENCV)
    median: int = _number(1, "side of the median filter", low=1, high=5, source=_WEDEL)
    smoothing: float = _number(0.0, "blur before", low=0.0, high=10.0, source=_IPOL)
    interpolation: Interpolation = "cubic"


PRESETS = {"opencv": TVL1Params()}


class State(Protocol):
    sizes: Sequence[tuple[int, int]]
    def enter(self, level: int) -> None: ...
    def linearise(self, level: int) -> None: ...
    def relax(self, level: int) -> None: ...
    def leave(self, level: int) -> None: ...


def solve(state: State, params: TVL1Params) -> None:
    """Solve."""
    for level in reversed(range(len(state.sizes))):
        state.enter(level)
        for _ in range(params.warps):
            state.linearise(level)
            state.relax(level)
        state.leave(level)


def level_sizes(width: int, height: int, params: TVL1Params) -> list[tuple[int, int]]:
    """Return (height, width) in pixels of the levels, finest first."""
    sizes = [(height, width)]
    while len(sizes) < params.scales:
        h, w = (round(side * params.scale_step) for side in sizes[-1])
        if min(h, w) < SHORTEST:
            break
        sizes.append((h, w))
    return sizes


class TVL1:
    def __init__(self, width: int, height: int, *, factors: FloatArray, params: TVL1Params | None = None) -> None:
        self._params = params or TVL1Params()
        self._levels = level_sizes(width, height, self._params)
        self._factors = factors
        self._sizes = scale_sizes(width, height, factors)
        self._free: list[kernels.State] = []

    def prepare(self, grey: ByteArray, *, out: Any = None) -> list[FloatArray]:
        return kernels.pyramid(grey, self._levels, self._params)

    def solve(self, a, b, *, out=None):
        state = self._free.pop() if self._free else kernels.State(self._levels, self._params)
        state.load(a, b)
        solve(state, self._params)
        flow = state.flow()
        self._free.append(state)
        return [reduce_flow(flow, h, w, s) for (h, w), s in zip(self._sizes, self._factors, strict=True)]
