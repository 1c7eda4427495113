"""idt view: trajectories drawn over their video."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from idt.cli.options import Common, Given, Output, ParamsFile, Threads, params_of, usable_cores
from idt.cli.progress import extracted
from idt.errors import ParameterError
from idt.params import Params


def view(
    video: Annotated[str, Parameter(negative=())],
    features: Annotated[Path | None, Parameter(negative=(), show_default=False)] = None, /, *,
    output: Output,
    background: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    beside: Annotated[Path | None, Parameter(metavar="FEATURES", negative=(), show_default=False)] = None,
    frame: Annotated[int | None, Parameter(metavar="N", negative=(), show_default=False)] = None,
    params: ParamsFile = None,
    threads: Annotated[Threads, Parameter(help="Threads [default: all cores].")] = None,
    given: Annotated[Given, Parameter(name="*")] = Given(),
    common: Annotated[Common, Parameter(name="*")] = Common(),
) -> None:
    """Draw the trajectories of a video over its frames, coloured by their motion without that of the camera.

    Parameters
    ----------
    video
        Video file, folder of images or glob of images.
    features
        Its features file; without it, the features are extracted first and not kept.
    output
        out.mp4 for a video, out.png for one frame.
    background
        Also draw, in dim grey, the trajectories that move only with the camera. They are not kept in features files, so
        they are extracted first.
    beside
        Features file of the same frames by another method, drawn to the right.
    frame
        Index in the video of the frame for a .png [default: that on which most trajectories end].
    """
    from idt.features import Features
    from idt.view import overlay

    settings = params_of(given, params)
    if features is not None and (params is not None or settings != Params()):
        raise ParameterError(f"Flags of the method have no effect on {features}: leave them out, or leave the features "
                             "file out to extract with them.")
    if output.suffix.lower() not in (".mp4", ".png"):  # before the extraction, not only after it
        raise ParameterError(f"output is {output}: its name must end in .mp4 (video) or .png (one frame).")
    if background and beside is not None:
        raise ParameterError("--background and --beside do not go together: leave one of the two out.")
    other = None if beside is None else Features.load(beside)
    cores = threads or usable_cores()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        path = features or extracted(video, Path(scratch, "features.npz"), settings, common, threads=cores)
        tracks = Features.load(path)
        beneath = None
        if background:
            everything = dataclasses.replace(Params.from_dict(tracks.meta.get("params", {})), min_motion=0.0)
            if not everything.camera:
                raise ParameterError(f"{path} was extracted without camera-motion removal, so there is no background: "
                                     "leave --background out.")
            beneath = Features.load(extracted(video, Path(scratch, "background.npz"), everything, common,
                                              homographies=path, threads=cores))
        overlay(video, tracks, output, frame=frame, background=beneath, beside=other)
    if not common.quiet:
        print(output)
