"""idt extract: videos to features."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from idt._util.files import temporary_folder
from idt._util.text import counted
from idt.cli.estimates import table
from idt.cli.options import Common, Given, Many, Output, ParamsFile, Threads, params_of, shared
from idt.cli.progress import Reporter
from idt.errors import ParameterError


def extract(
    inputs: Annotated[list[str], Parameter(name="INPUT", negative=())], /, *,
    output: Output,
    text: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    keep: Annotated[int | None, Parameter(metavar="N", negative=(), show_default=False)] = None,
    encode: Annotated[Path | None, Parameter(metavar="CODEBOOK", negative=(), show_default=False)] = None,
    boxes: Annotated[Path | None, Parameter(metavar="FILE|DIR", negative=(), show_default=False)] = None,
    homographies: Annotated[Path | None, Parameter(metavar="FILE|DIR", negative=(), show_default=False)] = None,
    params: ParamsFile = None,
    many: Annotated[Many, Parameter(name="*")] = Many(),
    threads: Threads = None,
    force: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    verify: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    estimate: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    given: Annotated[Given, Parameter(name="*")] = Given(),
    common: Annotated[Common, Parameter(name="*")] = Common(),
) -> int:
    """Extract improved dense trajectories: one features file for each video.

    Videos are done side by side, the largest first. What is done already is skipped; a video that fails, or on which
    the program dies, is reported and passed over, and leaves no file.

    Parameters
    ----------
    inputs
        Video files; folders (one that directly holds images is one video, any other is searched for videos); "globs";
        a CSV with a column path; @list.txt, a file with one of these a line.
    output
        Folder of the files: walk/a.avi below a folder argument gives walk/a.avi.npz. With --text also - for stdout.
    text
        Write the rows of the original program (a.avi.txt) instead of features files; these are never skipped.
    keep
        Write only a sample of N trajectories of each video, or all where there are no more: for idt fit.
    encode
        Write only the vectors that a codebook, which idt fit wrote, makes of each video, as idt encode does.
    boxes
        Boxes of people, left out when camera motion is estimated: a file for one video, or a folder with a file for
        each (walk/a.avi.txt or walk/a.txt).
    homographies
        Camera motion to use instead of estimating it: a file for one video, or a folder with a file for each
        (walk/a.avi.npz or walk/a.npz).
    force
        Also extract what is done already.
    verify
        Take a video for unchanged only when its content is, not by size and time stamp, and a file for done only when
        its check sums are right.
    estimate
        Write nothing; extract some frames of some of the videos and print how long all will take and how large it will
        be.
    """
    from idt.batch.estimate import estimate_extraction
    from idt.batch.extraction import extract_videos, require_all_descriptors
    from idt.features.record import Features
    from idt.features.text import write_text
    from idt.runner.inputs import sources_of, work_list

    settings = params_of(given, params)
    stdout = str(output) == "-"
    with temporary_folder() if stdout else contextlib.nullcontext(output) as output:
        sources = sources_of(inputs)
        if stdout:
            # Column 10 of a row needs the number of frames, which is known at the end: the rows wait in a file.
            require_all_descriptors(settings)
            if not text or encode is not None or keep is not None or len(sources) != 1:
                raise ParameterError("output is -: only the --text rows of one video can go to stdout "
                                     f"({counted(len(sources), 'video')}).")
        workers, threads = shared(many, threads, len(sources))
        if estimate:
            with _Reporter(common) as reporter:
                reporter.must_compile()
                found = estimate_extraction(workers.part(sources), output, settings, boxes=boxes, text=text,
                                            homographies=homographies, encode=encode, keep=keep, threads=threads,
                                            jobs=workers.jobs or 1)
            print(table(found, jobs=workers.jobs or 1, threads=threads))
            return 0
        with _Reporter(common, workers) as reporter:
            summary = extract_videos(sources, output, settings, boxes=boxes, homographies=homographies,
                                     text=text and not stdout, encode=encode, keep=keep, threads=threads,
                                     workers=workers, force=force, verify=verify, progress=reporter.progress,
                                     report=reporter.report)
        if stdout and not summary.failed:
            write_text(Features.load(work_list(sources, output)[0].output), sys.stdout.buffer)
        elif not stdout:
            reporter.summary(summary, output)
    return 1 if summary.failed else 0


class _Reporter(Reporter):
    def result(self, meta: dict[str, Any], done: int) -> str:
        note = meta["reason"]
        if "kept" in meta and meta["rows"] < meta["kept"]["of"]:
            note = f"of {meta['kept']['of']}"
        elif "windows" in meta and not meta["rows"]:
            note = f"{note}; zero vectors"
        return super().result({**meta, "reason": note}, done)
