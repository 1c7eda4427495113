"""Words of messages: numbers with their nouns, and what a name that is unknown was perhaps meant to be."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any


def counted(number: int, one: str, many: str | None = None) -> str:
    """Return the number with its noun."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def nearest(name: str, names: Iterable[str]) -> str:
    """Return the end of a sentence about an unknown name: a question after the nearest of those that are known.

    Capitals do not count for what is near.
    """
    folded = {known.casefold(): known for known in names}
    near = difflib.get_close_matches(name.casefold(), folded, n=1)
    return f"; did you mean {folded[near[0]]}?" if near else "."


def allowed_text(value: Any, allowed: Sequence[Any]) -> str:
    """Return the end of a sentence about a value that is none of those that are allowed: these, and the nearest."""
    names = [str(a) for a in allowed]
    return ", ".join(names) + nearest(str(value), names)


def natural_key(text: str) -> list[tuple[int, str]]:
    """Return what text is sorted by so that numbers in it count by their value: g2 comes before g10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]+)", text)]
