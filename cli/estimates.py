"""The table of an estimate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from idt._util.text import counted
from idt.cli.progress import duration, in_bytes

if TYPE_CHECKING:
    from idt.batch.estimate import Estimate


def table(found: Estimate, *, jobs: int, threads: int, device: str = "cpu") -> str:
    """Return the lines that tell of an estimate, which was made for so many videos at a time."""
    from idt.batch.estimate import ExtractionEstimate, FlowEstimate

    unreadable = f", {found.unreadable} of them cannot be read" if found.unreadable else ""
    lines = [("videos", f"{found.videos:,}{unreadable}"), ("frames", f"{found.frames:,} by their headers")]
    unit, processed = "frame", found.frames
    if isinstance(found, FlowEstimate):
        unit, processed = "pair", found.pairs
        lines += [("pairs", f"{found.pairs:,}"), ("files", f"{found.files:,}")]
    if found.probed:
        if isinstance(found, ExtractionEstimate):
            lines.append(("rows", f"{found.rows:,.0f}"))
        who = counted(threads, "thread") if jobs == 1 else f"{jobs} processes of {counted(threads, 'thread')}"
        lines += [("time", f"{duration(found.seconds)} on this machine ({device}, {who}), "
                           f"{processed / found.seconds:.3g} {unit}s/s"), ("disk", in_bytes(found.size))]
    rows = "\n".join(f"{name:8}{value}" for name, value in lines)
    what = "Rows, time and disk" if isinstance(found, ExtractionEstimate) else "Time and disk"
    return f"{rows}\n{what} are estimates from {counted(found.probed, unit)}; nothing was written."
