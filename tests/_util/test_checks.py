"""_util.checks: what is an integer, what is a positive number."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from idt._util.checks import checked_integer, checked_positive
from idt.errors import ParameterError


@pytest.mark.parametrize(("value", "least"), [(1, 1), (np.int64(7), 1), (0, 0), (10**400, 1)])
def test_integers(value, least):
    found = checked_integer("n", value, least)
    assert (found, type(found)) == (value, int)


@pytest.mark.parametrize("value", [0, -1, 1.0, True, np.True_, "1", None, np.float64(1), [1]])
def test_what_is_not_an_integer_from_1(value):
    with pytest.raises(ParameterError) as error:
        checked_integer("n", value)
    assert str(error.value) == f"n is {value!r}: it must be an integer from 1."


@pytest.mark.parametrize("value", [1e-300, 2, np.float32(0.5), np.int8(3), Fraction(1, 4)])
def test_positive_numbers(value):
    found = checked_positive("x", value)
    assert (found, type(found)) == (value, float)


@pytest.mark.parametrize("value", [0, -0.5, float("nan"), float("inf"), 10**400, True, np.True_, "1", None, 1j])
def test_what_is_not_a_positive_number(value):
    with pytest.raises(ParameterError) as error:
        checked_positive("x", value)
    assert str(error.value) == f"x is {value!r}: it must be a number above 0."
