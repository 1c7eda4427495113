"""FlowParams: which flow of a video is computed and how it is stored, with unit, limits and source.

``python -m idt.video_flow.params`` prints the page ``docs/flow-parameters.md``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from idt._util.fields import Parameters, choice, number, parameters_table
from idt.errors import ParameterError
from idt.flow.tvl1 import PRESETS, TVL1Params

Method = Literal["tvl1", "farneback", "dis", "deepflow"]
Preset = Literal["opencv", "accurate"]
Direction = Literal["forward", "backward", "both"]
Format = Literal["jpg", "png", "kitti", "flo", "npz", "h5"]
Naming = Literal["dense_flow", "denseflow"]

ARRAY_FORMATS = ("npz", "h5")
"""Formats that make one file of a video; the others make a folder."""

_TVL1 = {f.name: f.name.rstrip("_") for f in dataclasses.fields(TVL1Params)}
_TSN, _OURS = "TSN (ECCV 2016)", "this package"


@dataclass(frozen=True, kw_only=True)
class FlowParams(Parameters):
    """Which flow of a video is computed and how it is stored; a value that is not allowed raises `ParameterError`.

    The n-th frame that is processed counts from 0 at `start`. Pair k is made of the frames ``k every`` and
    ``k every + step``, as far as there are frames. Lengths in pixels are those of the processed frame, after
    `short_side`.

    Attributes
    ----------
    tvl1 : TVL1Params, optional
        The numbers of the method tvl1; default: those of the preset. A dict changes single numbers of the preset.
    """

    method: Method = choice("tvl1", "optical flow method", source=_OURS)
    preset: Preset = choice("opencv", "numbers of tvl1: those of OpenCV's CUDA program, on whose flow most published "
                            "models were trained, or those with the smallest error", source=_OURS)
    step: int = number(1, "flow from each frame to the one this much later", unit="frames", low=1, high=1_000_000,
                       source="dense_flow")
    every: int = number(1, "only every n-th pair of frames; of stacks, the distance of their first pairs",
                        unit="frames", low=1, high=1_000_000, source=_OURS)
    direction: Direction = choice("forward", "flow from the earlier frame to the later, from the later to the earlier, "
                                  "or both", source=_OURS)
    start: int = number(0, "first frame that is processed", unit="frame index", low=0, high=2**31 - 1, source=_OURS)
    end: int | None = number(None, "last frame that is processed (inclusive); none: the last of the video",
                             unit="frame index", low=0, high=2**31 - 1, source=_OURS)
    short_side: int | None = number(None, "resize frames so that their shorter side has this length, enlarging them "
                                    "too; none: as they are", unit="px", low=16, high=8192, source=_OURS)
    warped: bool = choice(False, "flow without camera motion, instead: the later frame is first warped by the "
                          "homography between the two (files warp_*)", source=_TSN)
    rgb: bool = choice(False, "also write the frames (files img_*)", source=_TSN)
    difference: bool = choice(False, "also write the RGB difference of the two frames of a pair, (later - earlier) / 2 "
                              "+ 128 (files diff_*)", source=_TSN)
    colours: bool = choice(False, "also write pictures of the flow to look at: hue is the direction, strength the "
                           "speed (files colour_*)", source="Baker et al. (IJCV 2011)")
    format: Format = choice("jpg", "files of the flow: jpg and png are 8-bit images of x and y, kitti 16-bit png, flo "
                            "float32, npz and h5 one file of float16 arrays", source=_OURS)
    quality: int = number(95, "quality of jpg", low=1, high=100, source="dense_flow")
    bound: float = number(20.0, "8-bit images hold flow from -bound to bound; what is beyond is clipped", unit="px",
                          above=0.0, high=1e6, source="dense_flow")
    naming: Naming = choice("dense_flow", "file names count from 1 (dense_flow) or from 0 (denseflow)",
                            source="the programs of these names")
    stack: int | None = number(None, "instead of flows, arrays of this many consecutive ones, x y x y ...; only npz "
                               "and h5", unit="flows", low=1, high=1000, source="two-stream (NIPS 2014)")
    tvl1: TVL1Params | None = field(default=None, metadata={})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.end is not None and self.end < self.start:
            raise ParameterError(f"end is {self.end}: it must not lie before start ({self.start}).")
        if self.stack is not None and self.format not in ARRAY_FORMATS:
            raise ParameterError(f"stack is {self.stack}, but format is {self.format}: stacks are arrays, format npz "
                                 "or h5.")
        given: Any = self.tvl1
        if isinstance(given, Mapping):
            changes = {"lambda_" if name == "lambda" else name: value for name, value in given.items()}
            for name in changes:
                if name not in _TVL1:
                    raise ParameterError(f"{name} is not a number of tvl1: these are {', '.join(_TVL1.values())}.")
            object.__setattr__(self, "tvl1", dataclasses.replace(PRESETS[self.preset], **changes))
        elif not isinstance(given, TVL1Params | None):
            raise ParameterError(f"tvl1 is {given!r}: it must be a TVL1Params or a dict of its numbers.")
        if self.method != "tvl1" and (self.preset != "opencv" or self.tvl1 is not None):
            what = "a preset is" if self.preset != "opencv" else "numbers of tvl1 are"
            raise ParameterError(f"method is {self.method}, but {what} given, which only tvl1 has: leave one of the "
                                 "two out.")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return parameters with the given fields set; an unknown name raises `ParameterError`."""
        for name in values:
            if name in _TVL1 or name in _TVL1.values():
                raise ParameterError(f"{name} is a number of tvl1: it stands in a section [tvl1] of the file, or in a "
                                     "dict under the name tvl1.")
        return super().from_dict(values)

    @property
    def solver(self) -> TVL1Params | None:
        """The numbers of the method tvl1; None for another method."""
        return (self.tvl1 or PRESETS[self.preset]) if self.method == "tvl1" else None

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of flows or stacks that are stored, as `idt.flow.files` names them, forward before backward."""
        kind = "warped" if self.warped else "flow"
        if self.stack is not None:
            kind = "stack_warped" if self.warped else "stack"
        return {"forward": (kind,), "backward": (f"{kind}_backward",), "both": (kind, f"{kind}_backward")}[
            self.direction]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dict of JSON types; `tvl1` holds all numbers of that method, or None for another."""
        return {**super().to_dict(), "tvl1": None if self.solver is None else self.solver.to_dict()}


def pairs_of(count: int, params: FlowParams) -> int:
    """Return how many pairs are solved of so many processed frames."""
    whole, rest = divmod(max(count - params.step, 0), params.every)
    wanted = min(params.stack or 1, params.every)
    return whole * wanted + min(rest, wanted)


def flow_suffix(params: FlowParams) -> str:
    """Return what follows the name of a video in the name of the folder or file of its flow."""
    return f".{params.format}" if params.format in ARRAY_FORMATS else ""


def parameters_page() -> str:
    """Return the page ``docs/flow-parameters.md``: Markdown tables of the fields of FlowParams and TVL1Params."""
    lines = [
        "# Parameters of the flow of a video",
        "",
        "Every option of `idt flow`: in the library `FlowParams(step=2)`, on the command line `--step 2`,",
        "in a file for `--params` (TOML) `step = 2`. A value that is not allowed is an error that says what is.",
        "",
        "This page is made from the fields by `python -m idt.video_flow.params > docs/flow-parameters.md`.",
        "",
        *parameters_table(FlowParams),
        "",
        "## Of the method tvl1",
        "",
        "`FlowParams(tvl1={\"warps\": 10})`, `--warps 10`, or in a file a section `[tvl1]` with `warps = 10`. What is",
        "not given is that of the preset; the table names the default, `opencv`.",
        "",
        *parameters_table(TVL1Params),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    import sys

    sys.stdout.write(parameters_page())
