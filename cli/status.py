"""idt status: what became of the videos of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from idt._util.text import counted
from idt.cli.options import Common
from idt.cli.progress import duration, in_bytes, printable

if TYPE_CHECKING:
    from idt.runner.log import Run


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
    from idt.runner.log import read_status

    found = read_status(folder)
    done = [video for video in found.videos.values() if video["status"] == "done"]
    failed = [video for video in found.videos.values() if video["status"] == "failed"]
    lines = [("last run" if len(found.runs) == 1 else "run", _told(run)) for run in found.runs]
    lines.append(("all runs", f"{counted(len(done), 'video')} done, {len(failed)} failed"))
    totals = {key: sum(video[key] or 0 for video in done) for key in ("frames", "rows", "bytes", "seconds")}
    if done:
        lines.append(("results", f"{totals['frames']:,} frames, {totals['rows']:,} rows, {in_bytes(totals['bytes'])}, "
                                 f"{duration(totals['seconds'])} of work"))
    for name, value in lines:
        print(f"{name:10}{value}")
    # What the last run of all did not try again was not among its videos: removed since, or other ones were given.
    last = found.runs[-1].begun["time"] if len(found.runs) == 1 else ""
    for video in failed:
        print(f"{'failed' if video['time'] >= last else 'earlier':10}{printable(video['reason'] or video['video'])}")


def _told(run: Run) -> str:
    begun, ended = run.begun, run.ended
    shard = f"part {begun['shard']}: " if begun["shard"] else ""
    who = counted(begun["jobs"] or 1, "process", "processes") if begun["backend"] == "local" else \
        f"on {begun['backend']}"
    if ended is not None:
        skipped = f", {ended['skipped']} skipped (done before)" if ended["skipped"] else ""
        state = f"ended after {duration(ended['seconds'])}: {ended['done']} done{skipped}, {ended['failed']} failed"
    else:
        state = f"{'is going on' if run.running else 'was stopped'}: {run.done} done, {run.failed} failed"
    return f"{shard}{counted(begun['videos'], 'video')}, {who}, begun {begun['time']}; it {state}"
