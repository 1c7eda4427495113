"""idt view: trajectories drawn over their video, and its flow in colours."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from idt._util.fields import flag_name
from idt._util.files import temporary_folder
from idt.cli.options import Common, Given, Output, ParamsFile, Threads, params_of, usable_cores, values_of
from idt.cli.progress import extracted
from idt.errors import ParameterError
from idt.params import Params

_FLOW = ("flow", "camera", "start", "end", "step", "short_side")  # what of the method decides its flow


def view(
    video: Annotated[str, Parameter(negative=())],
    features: Annotated[Path | None, Parameter(negative=(), show_default=False)] = None, /, *,
    output: Output,
    background: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    beside: Annotated[Path | None, Parameter(metavar="FEATURES", negative=(), show_default=False)] = None,
    colours: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    trajectory: Annotated[int | None, Parameter(metavar="N", negative=(), show_default=False)] = None,
    frame: Annotated[int | None, Parameter(metavar="N", negative=(), show_default=False)] = None,
    params: ParamsFile = None,
    threads: Annotated[Threads, Parameter(help="Threads [default: all cores].")] = None,
    given: Annotated[Given, Parameter(name="*")] = Given(),
    common: Annotated[Common, Parameter(name="*")] = Common(),
) -> None:
    """Draw the trajectories of a video over its frames, coloured by their motion without that of the camera.

    Or, with --colours, its optical flow; or, with --trajectory, one trajectory and what describes it.

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
    colours
        Draw the flow instead, beside the frame, as it is and without camera motion (--no-camera: as it is alone). Hue
        is the direction, strength the speed.
    trajectory
        Draw one trajectory instead, as a .png: its path, the patches around it and its descriptors. N is its row in the
        features, from 0.
    frame
        Index in the video of the frame for a .png [default: that on which most trajectories end; of flow, the middle].
    """
    from idt.features.record import Features
    from idt.viz.pictures import draw_trajectory, overlay

    settings = params_of(given, params)
    if features is not None and (params is not None or settings != Params()):
        raise ParameterError(f"Flags of the method have no effect on {features}: leave them out, or leave the features "
                             "file out to extract with them.")
    if output.suffix.lower() not in (".mp4", ".png"):  # before the extraction, not only after it
        raise ParameterError(f"output is {output}: its name must end in .mp4 (video) or .png (one frame).")
    if trajectory is not None:
        if colours or background or beside is not None or frame is not None:
            raise ParameterError("--trajectory draws nothing else: leave --colours, --background, --beside and --frame "
                                 "out.")
        if output.suffix.lower() != ".png":
            raise ParameterError(f"output is {output}: a trajectory is drawn as a picture (.png).")
    if colours:
        if features is not None or background or beside is not None:
            raise ParameterError("--colours draws no trajectories: leave features, --background and --beside out.")
        _draw_flow(video, output, settings, given, frame, threads or usable_cores(), common)
        return
    if background and beside is not None:
        raise ParameterError("--background and --beside do not go together: leave one of the two out.")
    other = None if beside is None else Features.load(beside)
    cores = threads or usable_cores()
    with temporary_folder() if features is None or background else contextlib.nullcontext(Path()) as scratch:
        path = features or extracted(video, Path(scratch, "features.npz"), settings, common, threads=cores)
        tracks = Features.load(path)
        if features is None:
            tracks = tracks.replace(path=None)  # nobody knows that name, which a heading would tell
        beneath = None
        if background:
            everything = dataclasses.replace(Params.from_dict(tracks.meta.get("params", {})), min_motion=0.0)
            if not everything.camera:
                raise ParameterError(f"{path} was extracted without camera-motion removal, so there is no background: "
                                     "leave --background out.")
            beneath = Features.load(extracted(video, Path(scratch, "background.npz"), everything, common,
                                              homographies=path, threads=cores))
        if trajectory is None:
            overlay(video, tracks, output, frame=frame, background=beneath, beside=other)
        else:
            draw_trajectory(video, tracks, output, trajectory)
    if not common.quiet:
        print(output)


def _draw_flow(video: str, output: Path, settings: Params, given: Any, frame: int | None, threads: int,
               common: Common) -> None:
    """Draw the flow that the method would use."""
    from idt.cli.flow import FlowReporter
    from idt.runner.jobs import Job, Progress
    from idt.video_flow.params import FlowParams
    from idt.viz.pictures import draw_flow

    for field in dataclasses.fields(Params):
        if field.name in values_of(given) and field.name not in _FLOW:
            raise ParameterError(f"{flag_name(field)} has no effect on the flow: leave it or --colours out.")
    params = FlowParams(method=settings.flow, warped=settings.camera, start=settings.start, end=settings.end,
                        step=settings.step, every=settings.step, short_side=settings.short_side)
    job = Job(video, output, None, None)
    with FlowReporter(common, None, params, "cpu") as reporter:
        reporter.progress(Progress(job, 1, 1))
        draw_flow(video, output, params, frame=frame, threads=threads,
                  progress=lambda *state: reporter.progress(Progress(job, 1, 1, *state)))
    if not common.quiet:
        print(output)
