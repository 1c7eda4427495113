"""Params: the numbers of improved dense trajectories, with unit, limits and source, and what all parameters share.

``python -m idt.params`` prints the page ``docs/parameters.md``.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
import os
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints

from idt.errors import ParameterError

DESCRIPTORS = ("trajectory", "hog", "hof", "mbhx", "mbhy")

Descriptor = Literal["trajectory", "hog", "hof", "mbhx", "mbhy"]
FlowMethod = Literal["farneback", "tvl1", "dis", "deepflow"]
Match = Literal["flow", "orb", "akaze", "sift"]
People = Literal["none", "hog"]
DType = Literal["float16", "float32"]


def number(default: Any, text: str, *, unit: str = "", low: float | None = None, above: float | None = None,
           high: float, source: str) -> Any:
    """Return the field of a number from `low`, or else above `above`, to `high`."""
    return field(default=default, metadata={"text": text, "unit": unit, "low": low, "high": high, "above": above,
                                            "source": source})


def choice(default: Any, text: str, *, source: str) -> Any:
    """Return the field of a literal, several literals or a truth value, whose type says what is allowed."""
    return field(default=default, metadata={"text": text, "unit": "", "source": source})


_IJCV = "DT (IJCV 2013)"
_IDT = "iDT (ICCV 2013)"
_ORIGINAL = "original program"
_OURS = "this package"


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """What sets of parameters share: each field made by `number` or `choice` is checked and takes its own type."""

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for f in dataclasses.fields(self):
            if "text" in f.metadata:
                object.__setattr__(self, f.name, _checked(f, hints[f.name], getattr(self, f.name)))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dict of JSON types, in order of definition."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return parameters with the given fields set; an unknown name raises `ParameterError` that lists near ones."""
        names = [f.name for f in dataclasses.fields(cls)]
        for key in values:
            if key not in names:
                raise ParameterError(f"{key} is not a parameter{nearest(key, names)} The parameters are: "
                                     f"{', '.join(names)}.")
        return cls(**values)

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str], **overrides: Any) -> Self:
        """Return parameters read from a TOML file of ``field = value`` lines; `overrides` win over the file.

        Of a section of the file, given as a dict, the names that are given win.

        Raises
        ------
        ParameterError
            The file cannot be read, is not TOML, or has a name or value that is not allowed; the message names the
            file.
        """
        values = read_toml(path)
        sections = {name: values[name] | changes for name, changes in overrides.items()
                    if isinstance(changes, dict) and isinstance(values.get(name), dict)}
        try:
            return cls.from_dict(values | overrides | sections)
        except ParameterError as error:
            message = str(error)
        try:
            cls.from_dict(values)
        except ParameterError as error:
            if str(error) == message:
                message = f"{path}: {message}"
        raise ParameterError(message)

    def fingerprint(self) -> str:
        """Return 16 hex digits that are equal exactly when all fields are equal."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:16]


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


def read_toml(path: str | os.PathLike[str], *, kind: str = "parameter file", example: str = "stride = 5"
              ) -> dict[str, Any]:
    """Return what a TOML file holds; `ParameterError` names one that cannot be read or is none."""
    try:
        with open(path, encoding="utf-8-sig") as file:  # some editors put a mark before the first letter
            return tomllib.loads(file.read())
    except OSError as error:
        raise ParameterError(f"{path}: the {kind} cannot be read ({error.strerror}).") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ParameterError(f"{path}: the {kind} is not TOML ({error}); it holds lines such as: {example}") from error


def nearest(name: str, names: Iterable[str]) -> str:
    """Return the end of a sentence about an unknown name: a question after the nearest of those that are known.

    Capitals do not count for what is near.
    """
    folded = {known.casefold(): known for known in names}
    near = difflib.get_close_matches(name.casefold(), folded, n=1)
    return f"; did you mean {folded[near[0]]}?" if near else "."


def allowed_text(value: Any, allowed: Sequence[str]) -> str:
    """Return the end of a sentence about a value that is none of those that are allowed: these, and the nearest."""
    return ", ".join(allowed) + nearest(str(value), allowed)


def _checked(f: dataclasses.Field[Any], hint: Any, value: Any) -> Any:
    """Return `value` in the type of the field `f`, or raise ParameterError with name, value and limits."""
    optional = type(None) in get_args(hint)
    if value is None and optional:
        return None
    kind = next(a for a in get_args(hint) if a is not type(None)) if optional else hint
    if get_origin(kind) is Literal:
        allowed = get_args(kind)
        if value not in allowed:
            raise ParameterError(f"{f.name} is {value!r}: allowed are {allowed_text(value, allowed)}")
        return value
    if get_origin(kind) is tuple:
        allowed = get_args(get_args(kind)[0])
        values = tuple(value) if isinstance(value, (tuple, list, set, frozenset)) else (value,)
        for v in values:
            if v not in allowed:
                raise ParameterError(f"{f.name} has {v!r}: allowed are {allowed_text(v, allowed)}")
        if len(set(values)) < len(values) or not values:
            raise ParameterError(f"{f.name} is {values!r}: give one or more of {', '.join(allowed)}, each once.")
        return tuple(a for a in allowed if a in values)
    if kind is bool:
        if not isinstance(value, bool):
            raise ParameterError(f"{f.name} is {value!r}: allowed are true, false.")
        return value
    try:
        converted = kind(value)
        exact = not isinstance(value, (bool, str)) and converted == value
    except (TypeError, ValueError, OverflowError):
        exact = False
    if not exact:
        what = "an integer" if kind is int else "a number"
        raise ParameterError(f"{f.name} is {value!r}: it must be {what} {limits_text(f)}.")
    low, high, above = f.metadata["low"], f.metadata["high"], f.metadata["above"]
    if converted > high or (converted < low if low is not None else converted <= above):
        raise ParameterError(f"{f.name} is {value!r}: it must be {limits_text(f)}.")
    return converted


def flag_name(f: dataclasses.Field[Any]) -> str:
    """Return the name of the field's command line flag."""
    return "--" + f.name.strip("_").replace("_", "-")


def limits_text(f: dataclasses.Field[Any], owner: type = Params) -> str:
    """Return the allowed values of a field of the class `owner` in words, for messages, help and tables."""
    if "allowed" in f.metadata:
        return ", ".join(map(str, f.metadata["allowed"]))
    if "low" not in f.metadata:
        hint = get_type_hints(owner)[f.name]
        if hint is bool:
            return "true, false"
        several = get_origin(hint) is tuple
        return ("one or more of " if several else "") + ", ".join(get_args(get_args(hint)[0] if several else hint))
    low, high, above = f.metadata["low"], f.metadata["high"], f.metadata["above"]
    return f"from {low:.10g} to {high:.10g}" if low is not None else f"above {above:.10g}, at most {high:.10g}"


def default_text(f: dataclasses.Field[Any]) -> str:
    """Return the default of a field in words, for help and tables."""
    return value_text(f.default)


def told_apart(several: Sequence[Params]) -> list[str]:
    """Return in words what tells kinds of extraction apart: dense or improved, and all else in which they differ."""
    differ = [f.name for f in dataclasses.fields(Params)
              if f.name != "camera" and len({getattr(params, f.name) for params in several}) > 1]
    return [", ".join(["improved" if params.camera else "dense",
                       *(f"{name} = {value_text(getattr(params, name))}" for name in differ)]) for params in several]


def counted(number: int, one: str, many: str | None = None) -> str:
    """Return the number with its noun."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def value_text(value: Any) -> str:
    """Return the value of a field in words."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


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


def parameters_table(owner: type) -> list[str]:
    """Return the lines of a Markdown table of the fields of a class of parameters."""
    lines = ["| name | flag | unit | default | allowed | source | what it is |", "|---|---|---|---|---|---|---|"]
    for f in dataclasses.fields(owner):
        if "text" in f.metadata:
            off = f", `--no-{flag_name(f)[2:]}`" if isinstance(f.default, bool) else ""
            cells = [f"`{f.name}`", f"`{flag_name(f)}`{off}", f.metadata["unit"], default_text(f),
                     limits_text(f, owner), f.metadata["source"], f.metadata["text"]]
            lines.append("| " + " | ".join(cells) + " |")
    return lines


if __name__ == "__main__":
    import sys

    sys.stdout.write(parameters_page())
