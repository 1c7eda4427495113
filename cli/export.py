"""idt export: features in other formats."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from idt.cli.options import Common, Output

_SUFFIXES = {"text": ".txt", "h5": ".h5", "parquet": ".parquet"}


def export(
    file: Annotated[Path, Parameter(negative=())], /, *,
    to: Annotated[Literal["text", "h5", "parquet"], Parameter(negative=())],
    output: Output | None = None,
    common: Annotated[Common, Parameter(name="*")] = Common(),
) -> None:
    """Write a features file in another format.

    Parameters
    ----------
    file
        Features file.
    to
        text: the rows of the original program; h5: HDF5; parquet: Parquet.
    output
        File to write; text in a name that ends in .gz is compressed, and - is stdout. By default, the name of the
        features file with the suffix of the format: a.avi.npz gives a.avi.txt.
    """
    from idt.features.export import export as write

    stdout = output is not None and str(output) == "-"
    target = sys.stdout.buffer if stdout else output or file.with_suffix(_SUFFIXES[to])
    write(file, target, to=to)
    if not stdout and not common.quiet:
        print(target)
