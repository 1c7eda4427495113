"""idt status: what became of the videos of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from idt.cli.options import Common
from idt.cli.progress import counted, in_bytes


def status(
    folder: Annotated[Path, Parameter(name="DIR", negative=())], /, *,
    common: Annotated[Common, Parameter(name="*")] = Common(),
) -> None:
    """Show what became of the videos of finished runs, and of one that is going on.

    Parameters
    ----------
    folder
        Folder of the results of idt extract, idt flow or idt encode.
    """
    from idt.reports import read_status

    found = read_status(folder)
    begun, ended = found.begun, found.ended
    done = [video for video in found.videos.values() if video["status"] == "done"]
    failed = [video for video in found.videos.values() if video["status"] == "failed"]
    if ended is not None:
        skipped = f", {ended['skipped']} skipped (done before)" if ended["skipped"] else ""
        state = f"ended after {ended['seconds']:.1f} s: {ended['done']} done{skipped}, {ended['failed']} failed"
    else:
        state = "is going on" if found.running else "was stopped"
    lines = [("last run", f"{counted(begun['videos'], 'video')}, {counted(begun['jobs'], 'process', 'processes')}, "
                          f"begun {begun['time']}; it {state}"),
             ("all runs", f"{counted(len(done), 'video')} done, {len(failed)} failed")]
    totals = {key: sum(video[key] or 0 for video in done) for key in ("frames", "rows", "bytes", "seconds")}
    if done:
        lines.append(("results", f"{totals['frames']:,} frames, {totals['rows']:,} rows, {in_bytes(totals['bytes'])}, "
                                 f"{totals['seconds']:.1f} s of work"))
    for name, value in lines:
        print(f"{name:10}{value}")
    for video in failed:
        print(f"failed    {video['reason'] or video['video']}")
