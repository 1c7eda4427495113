"""idt diff: two feature files held against each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from idt.cli.options import Common


def diff(
    a: Annotated[Path, Parameter(name="A", help="Features file (.npz), or rows of the original program (text, .gz).")],
    b: Annotated[Path, Parameter(name="B", help="The same for another extraction.")], /, *,
    common: Annotated[Common, Parameter(name="*")] = Common(),
) -> None:
    """Hold two feature files of one video against each other, row by row.

    Rows match when frame and scale are equal and the mean positions differ by at most one pixel of the scale; one to
    one, nearest first. Shown are the shares of matched rows, the median and the 99th percentile of the distance between
    them, the median and the 5th percentile of the cosine of each descriptor, and the largest differences.
    """
    from idt.features.difference import diff as compare

    print(compare(a, b))
