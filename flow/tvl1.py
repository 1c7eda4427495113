"""TV-L1 optical flow: parameters, schedule and CPU solver.

Zach, Pock and Bischof, *A duality based approach for realtime TV-L1 optical flow* (DAGM 2007), in the form of Sánchez,
Meinhardt-Llopis and Facciolo, *TV-L1 optical flow estimation* (IPOL 2013). It minimises, over the flow u of an image
I0 towards I1 (grey values 0 to 255), the sum over the pixels of

    |grad u1| + |grad u2| + lambda |I1(x + u) - I0(x)|

on a pyramid, coarse to fine. Each warp replaces I1(x + u) by its first-order expansion rho at the present flow; then
iterations alternate between v, which minimises lambda |rho(v)| + |u - v|^2 / (2 theta) for each pixel alone (IPOL,
equation 15), and u = v + theta div p with one step of length tau / theta of the dual variables p (equations 17, 18).

Departures from the IPOL paper, all of them OpenCV's (``DualTVL1OpticalFlow``): images are not normalised nor blurred,
neither before nor within the pyramid; levels are resized bilinearly, none is shorter than 16 pixels; the second image
is sampled with the sharper cubic of parameter -0.75 (-0.5, the paper's, is ``keys``); the dual variables live on from
warp to warp. Departures from OpenCV: beyond its border an image is continued by its last pixels (OpenCV: by zeros) and
a pixel whose flow leaves the image has no data term at all (paper, section 4.2); coordinates are not rounded to 1/32
pixel; the median filter follows each warp.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from idt._util.fields import Parameters, choice, number
from idt.flow import _tvl1_cpu as kernels
from idt.flow.pyramid import ByteArray, FloatArray, reduced_flows

Interpolation = Literal["cubic", "keys", "linear"]

SHARPNESS: dict[Interpolation, float] = {"cubic": -0.75, "keys": -0.5, "linear": 0.0}

SHORTEST = 16
"""No level has a shorter side than this, pixels; images themselves may be smaller."""


@dataclass(frozen=True, kw_only=True)
class TVL1Params(Parameters):
    """The numbers of TV-L1; a value out of its limits raises `ParameterError` that names field, value and limits.

    The defaults are those of OpenCV's CUDA implementation, with which the flow of two-stream networks was made.
    """

    tau: float = number(0.25, "time step of the dual variables (tau); at most 1/4 converges for certain", above=0.0,
                        high=1.0, source="IPOL 2013, equation 18")
    lambda_: float = number(0.15, "weight of the difference in brightness against smoothness (lambda)", above=0.0,
                            high=1000.0, source="IPOL 2013, equation 5")
    theta: float = number(0.3, "tightness between the flow and its auxiliary (theta)", above=0.0, high=1000.0,
                          source="IPOL 2013, equation 14")
    scales: int = number(5, "largest number of pyramid levels; none is shorter than 16 pixels", low=1, high=100,
                         source="OpenCV")
    scale_step: float = number(0.8, "size of a level, as a share of the next finer one", low=0.1, high=0.95,
                               source="OpenCV")
    warps: int = number(5, "number of times that the second image is warped on each level", low=1, high=1000,
                        source="IPOL 2013")
    epsilon: float = number(0.01, "a warp is done when an iteration changes the flow by less (root mean square)",
                            unit="px of the level", low=0.0, high=1000.0, source="IPOL 2013")
    iterations: int = number(300, "largest number of iterations of a warp", low=1, high=1_000_000, source="IPOL 2013")
    median: Literal[1, 3, 5] = choice(1, "side of the median filter of the flow after each warp; 1: none",
                                      source="Wedel 2009, section 3.4; OpenCV")
    interpolation: Interpolation = choice("cubic", "how the second image is sampled: OpenCV's cubic (-0.75), that of "
                                          "Keys (-0.5) or linear", source="OpenCV")

    @property
    def sharpness(self) -> float:
        """Parameter of the cubic kernel (Keys 1981) with which images are sampled; 0 stands for linear."""
        return SHARPNESS[self.interpolation]


PRESETS = {
    "opencv": TVL1Params(),
    "accurate": TVL1Params(lambda_=0.3, scales=100, scale_step=0.9, warps=2, median=5),
}
"""``opencv``: as above. ``accurate``: a deep and dense pyramid, a median filter, and the weight with which the mean
end-point error of four Middlebury pairs is least (``benchmarks/RESULTS.md``)."""


def level_sizes(width: int, height: int, params: TVL1Params) -> list[tuple[int, int]]:
    """Return (height, width) in pixels of the pyramid's levels, finest first; halves are rounded to even."""
    sizes = [(height, width)]
    while len(sizes) < params.scales:
        coarser = round(sizes[-1][0] * params.scale_step), round(sizes[-1][1] * params.scale_step)
        if min(coarser) < SHORTEST:
            break
        sizes.append(coarser)
    return sizes


class State(Protocol):
    """What a back-end offers to `solve`: the flow of one pair or of many, and the steps that improve it."""

    sizes: Sequence[tuple[int, int]]

    def enter(self, level: int) -> None:
        """Begin a level with dual variables of zero, and no flow or that of the coarser level.

        The latter is enlarged, its values divided by the scale step.
        """

    def linearise(self, level: int) -> None:
        """Warp the second image and its gradient by the flow."""

    def relax(self, level: int) -> None:
        """Iterate until each pair has converged, at most `iterations` times."""

    def smooth(self, level: int) -> None:
        """Replace the flow by its median over `median` x `median` pixels, borders repeated."""


def solve(state: State, params: TVL1Params) -> None:
    """Run the schedule, the same on every back-end: levels from the coarsest, warps on each."""
    for level in reversed(range(len(state.sizes))):
        state.enter(level)
        for _ in range(params.warps):
            state.linearise(level)
            state.relax(level)
            if params.median > 1:
                state.smooth(level)


class TVL1:
    """Flow between images of one size on one processor core, at full resolution and averaged down to every scale.

    Parameters
    ----------
    width, height : int
        Size of the images, pixels.
    factors : ndarray, shape (S,), float32
        Scale factors, finest first, as `idt.flow.pyramid.scale_factors` gives them.
    params : TVL1Params, optional
    """

    def __init__(self, width: int, height: int, *, factors: FloatArray, params: TVL1Params | None = None) -> None:
        self._params = params or TVL1Params()
        self._levels = level_sizes(width, height, self._params)
        self._factors = factors
        self._idle: list[kernels.PairState] = []

    def prepare(self, grey: ByteArray, *, out: list[FloatArray] | None = None) -> list[FloatArray]:
        """Return the pyramid of an image of shape (H, W), uint8, to be used in any number of pairs.

        `out`, the result of an earlier call that is no longer needed, is filled again instead of new memory.
        """
        return kernels.pyramid(grey, self._levels, 1 / self._params.scale_step, out)

    def solve(self, a: list[FloatArray], b: list[FloatArray], *, out: list[FloatArray] | None = None
              ) -> list[FloatArray]:
        """Return the flow from `a` to `b` at every scale, finest first; `out` as for `prepare`.

        Several threads may call it at a time.

        Returns
        -------
        list of ndarray, shape (h, w, 2), float32
            x then y, in pixels of that scale.
        """
        # Lists give and take atomically: each solve has a state of its own, and its memory serves the next.
        state = self._idle.pop() if self._idle else kernels.PairState(self._levels, self._params)
        state.load(a, b)
        solve(state, self._params)
        flow = state.flow(None if out is None else out[0])
        self._idle.append(state)
        return reduced_flows(flow, self._factors)
