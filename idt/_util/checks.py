"""Checks of single arguments, with the sentence that the user reads."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

from idt.errors import ParameterError


def checked_integer(name: str, value: Any, least: int = 1) -> int:
    """Return an integer from `least` as an int, NumPy's included; `ParameterError` of anything else."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ParameterError(f"{name} is {value!r}: it must be an integer from {least}.")
    return int(value)


def checked_positive(name: str, value: Any) -> float:
    """Return a number above 0 as a float, NumPy's included; `ParameterError` of anything else."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < value < math.inf:
        raise ParameterError(f"{name} is {value!r}: it must be a number above 0.")
    return float(value)
