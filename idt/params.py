"""Params: the numbers of improved dense trajectories, with unit, limits and source.

``python -m idt.params`` prints the page ``docs/parameters.md``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from idt._util.fields import Parameters, choice, number, parameters_table, value_text
from idt.errors import ParameterError

DESCRIPTORS = ("trajectory", "hog", "hof", "mbhx", "mbhy")

Descriptor = Literal["trajectory", "hog", "hof", "mbhx", "mbhy"]
FlowMethod = Literal["farneback", "tvl1", "dis", "deepflow"]
Match = Literal["flow", "orb", "akaze", "sift"]
People = Literal["none", "hog"]
DType = Literal["float16", "float32"]

_IJCV = "DT (IJCV 2013)"
_IDT = "iDT (ICCV 2013)"
_ORIGINAL = "original program"
_OURS = "this package"


@dataclass(frozen=True, kw_only=True)
class Params(Parameters):
    """All numbers of the method; a value out of its limits raises `ParameterError` that names field, value and limits.

    Lengths in pixels are those of the processed frame (after ``short_side``) unless the text says "of the scale".
    The defaults are those of the original program. ``docs/parameters.md`` is made from these fields.
    """

    length: int = number(15, "length of a trajectory, in steps", unit="frames", low=2, high=1000, source=_IJCV)
    stride: int = number(5, "grid step at which new points start, at every scale", unit="px of the scale", low=1,
                         high=1000, source=_IJCV)
    patch: int = number(32, "side of the square around a point that is described; also the shortest usable side of "
                        "a frame", unit="px of the scale", low=4, high=1024, source=_IJCV)
    spatial_cells: int = number(2, "cells of the patch along x and along y", low=1, high=16, source=_IJCV)
    temporal_cells: int = number(3, "cells of the trajectory along time", low=1, high=1000, source=_IJCV)
    scales: int = number(8, "largest number of spatial scales, a factor of sqrt(2) apart; also the levels of the "
                         "Farnebäck flow", low=1, high=16, source=_IJCV)
    quality: float = number(0.001, "a point starts where the smaller eigenvalue of the structure matrix exceeds this "
                            "share of the largest in the image", low=0.0, high=1.0, source=_IJCV)
    resample: int = number(1, "new points start on every n-th processed frame", unit="frames", low=1, high=1_000_000,
                           source="original program (option -I, working here)")
    epsilon: float = number(0.05, "added to every histogram bin before normalisation", above=0.0, high=1e6,
                            source=_ORIGINAL)
    hof_threshold: float = number(0.4, "flow vectors up to this length vote for the zero bin of HOF",
                                  unit="px of the scale", low=0.0, high=1e6, source=_ORIGINAL)
    min_std: float = number(math.sqrt(3.0), "a track that varies less than this in x and in y is static and dropped",
                            unit="px", low=0.0, high=1e6, source=_ORIGINAL)
    max_std: float = number(50.0, "a track that varies more than this in x or in y is erratic and dropped", unit="px",
                            above=0.0, high=1e6, source=_ORIGINAL)
    max_step: float = number(20.0, "a step longer than this is a jump when it also exceeds max_step_share", unit="px",
                             above=0.0, high=1e6, source=_ORIGINAL)
    max_step_share: float = number(0.7, "share of the whole track that one step may have before it is a jump", low=0.0,
                                   high=1.0, source=_IJCV)
    min_motion: float = number(1.0, "a track whose longest step after camera-motion removal does not exceed this is "
                               "background and dropped", unit="px", low=0.0, high=1e6, source=_IDT)
    start: int = number(0, "first frame that is processed", unit="frame index", low=0, high=2**31 - 1,
                        source=_ORIGINAL)
    end: int | None = number(None, "last frame that is processed (inclusive); none: the last of the video",
                             unit="frame index", low=0, high=2**31 - 1, source=_ORIGINAL)
    step: int = number(1, "process every n-th frame; indices and times stay those of the video", unit="frames", low=1,
                       high=1_000_000, source=_OURS)
    short_side: int | None = number(None, "resize frames so that their shorter side has this length; none: as they "
                                    "are", unit="px", low=16, high=8192, source=_OURS)
    descriptors: tuple[Descriptor, ...] = choice(DESCRIPTORS, "descriptors that are computed and stored",
                                                 source=_OURS)
    flow: FlowMethod = choice("farneback", "optical flow method", source=_OURS)
    camera: bool = choice(True, "remove camera motion (improved trajectories); off: dense trajectories", source=_IDT)
    matches: tuple[Match, ...] = choice(("flow",), "what the homography is estimated from: flow at good features, "
                                        "and matches of key points", source=_OURS)
    corners: int = number(1000, "largest number of good features that give flow matches", low=4, high=100_000,
                          source=_ORIGINAL)
    corner_distance: float = number(3.0, "shortest distance between good features", unit="px", low=0.0, high=1000.0,
                                    source=_ORIGINAL)
    match_window: float = number(25.0, "key points are matched when they moved less than this in x and in y",
                                 unit="px", above=0.0, high=1e6, source=_ORIGINAL)
    min_matches: int = number(50, "a homography is estimated from more matches than this", low=4, high=1_000_000,
                              source=_ORIGINAL)
    min_inliers: int = number(25, "a homography is accepted with more inliers than this", low=4, high=1_000_000,
                              source=_ORIGINAL)
    ransac_threshold: float = number(1.0, "largest reprojection error of an inlier", unit="px", above=0.0, high=1000.0,
                                     source=_IDT)
    people: People = choice("none", "leave people found by the built-in detector (HOG) out of camera estimation",
                            source=_IDT)
    people_interval: int = number(10, "run the people detector on every n-th processed frame and hold its boxes in "
                                  "between", unit="frames", low=1, high=1_000_000, source=_OURS)
    dtype: DType = choice("float16", "type in which HOG, HOF and MBH are stored", source=_OURS)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.end is not None and self.end < self.start:
            raise ParameterError(f"end is {self.end}: it must not lie before start ({self.start}).")
        if self.temporal_cells > self.length:
            raise ParameterError(f"temporal_cells is {self.temporal_cells}: at most length ({self.length}) are "
                                 "possible.")
        if self.spatial_cells > self.patch:
            raise ParameterError(f"spatial_cells is {self.spatial_cells}: at most patch ({self.patch}) are possible.")


def told_apart(several: Sequence[Params]) -> list[str]:
    """Return in words what tells kinds of extraction apart: dense or improved, and all else in which they differ."""
    differ = [f.name for f in dataclasses.fields(Params)
              if f.name != "camera" and len({getattr(params, f.name) for params in several}) > 1]
    return [", ".join(["improved" if params.camera else "dense",
                       *(f"{name} = {value_text(getattr(params, name))}" for name in differ)]) for params in several]


def parameters_page() -> str:
    """Return the page ``docs/parameters.md``: a Markdown table of all fields."""
    lines = [
        "# Parameters",
        "",
        "Every option of the method: in the library `idt.Params(stride=8)`, on the command line `--stride 8`, in a",
        "file for `--params` (TOML) `stride = 8`. Several values are given as `--descriptors hog,hof` and",
        "`descriptors = [\"hog\", \"hof\"]`. A value that is not allowed is an error that says what is.",
        "",
        "This page is made from the fields of `idt.Params` by `python -m idt.params > docs/parameters.md`.",
        "",
        *parameters_table(Params),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    import sys

    sys.stdout.write(parameters_page())
