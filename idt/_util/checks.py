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
    try:
        number = float(value) if not isinstance(value, bool) and isinstance(value, Real) else math.nan
    except OverflowError:  # an integer that is no float
        number = math.inf
    if not 0 < number < math.inf:
        raise ParameterError(f"{name} is {value!r}: it must be a number above 0.")
    return number
