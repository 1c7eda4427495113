"""idt fit: features to a codebook."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from cyclopts import Group, Parameter

from idt._util.text import counted
from idt.cli.info import channel_text
from idt.cli.options import Common, Output, Threads, flags, read_params, usable_cores
from idt.cli.progress import in_bytes
from idt.recognition.vectors import EncodingParams

if TYPE_CHECKING:
    GivenCodebook: TypeAlias = Any
else:
    GivenCodebook = flags("GivenCodebook", EncodingParams, Group("Encoding", sort_key=9), without=("cost", "balanced"))

_NO_FLAGS, _COMMON = GivenCodebook(), Common()


def fit(
    inputs: Annotated[list[str], Parameter(name="FEATURES", negative=())], /, *,
    output: Output,
    params: Annotated[Path | None, Parameter(metavar="FILE.toml", negative=(), show_default=False)] = None,
    threads: Annotated[Threads, Parameter(help="Channels that are learnt at a time [default: all cores].")] = None,
    given: Annotated[GivenCodebook, Parameter(name="*")] = _NO_FLAGS,
    common: Annotated[Common, Parameter(name="*")] = _COMMON,
) -> None:
    """Learn a codebook from features: how descriptors become vectors, PCA included.

    As many descriptors are drawn from each file; the same files in the same order give the same codebook. Of a labelled
    dataset give the training side only: idt train and idt evaluate do so by themselves.

    Parameters
    ----------
    inputs
        Features files; folders, which are searched for them; "globs"; @list.txt, a file with one of these a line.
    output
        File of the codebook, NAME.codebook.npz.
    params
        Parameters of the encoding, as lines such as: words = 64. Flags override it.
    """
    from idt.batch import fit_codebook

    def say(line: str) -> None:
        if not common.quiet:
            print(line, file=sys.stderr)

    began = time.perf_counter()
    learnt = fit_codebook(inputs, output, read_params(EncodingParams, given, params), threads=threads or usable_cores(),
                          report=lambda name, channel: say(f"{name:12}{channel_text(channel)}")).meta
    source = f"{counted(learnt['descriptors'], 'descriptor')} of each, of {counted(learnt['videos'], 'video')}"
    say(f"learnt from {source}, in {time.perf_counter() - began:.1f} s; the codebook is in {output}, "
        f"{in_bytes(output.stat().st_size)}")
