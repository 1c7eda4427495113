"""The features of the clips of a dataset: where they lie, how those that are missing come about, and segments."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from idt.errors import FormatError, ParameterError, VideoError
from idt.features.record import Features
from idt.params import Descriptor, Params
from idt.recognition.datasets import Dataset, Item
from idt.recognition.vectors import duration, require_whole
from idt.runner.inputs import path_below
from idt.runner.jobs import Job, Outcome, Progress, Workers
from idt.trajectories.cache import is_current, is_done
from idt.trajectories.jobs import extract_jobs

Paths: TypeAlias = str | os.PathLike[str]

_NAMED = 5  # videos that a message names

_log = logging.getLogger("idt")


def features_of(dataset: Dataset, folder: Paths, params: Params | None = None, *, channels: Sequence[Descriptor] = (),
                threads: int = 1, workers: Workers | None = None, progress: Callable[[Progress], None] | None = None,
                report: Callable[[Outcome], None] | None = None) -> list[Features]:
    """Return the trajectories of every clip of a dataset; those that are not in the folder are extracted into it.

    Features of the folder are used as they are when they open, come from this version of the method, and their video is
    unchanged (its size and time stamp are, or else its content). What is missing is extracted with the parameters that
    they have in common (when all are out of date, with those of these, which is logged as a warning); to choose others,
    extract the dataset first. Boxes and homographies that an extraction was given are none of its parameters.

    Parameters
    ----------
    dataset : Dataset
    folder : path
        See `features_paths`.
    params : Params, optional
        Features that were not made with these are made anew. Default: as above.
    channels : sequence of str, optional
        Descriptors that must be there.
    threads : int
        Threads inside one video.
    workers, progress, report
        As for `idt.batch.extract_videos`; videos whose features are used are skipped.

    Returns
    -------
    list of Features
        In the order of the clips, see `rows_of`.

    Raises
    ------
    ParameterError
        Features in the folder differ in their parameters (two files and the fields are named), lack a channel, are only
        a sample, or would be in one file for two videos; all before any work. A segment cannot be used, see `rows_of`.
    VideoError
        Videos cannot be extracted; the first are named, all others are done.
    OutputError
        The folder cannot be written.
    """
    paths = features_paths(dataset, folder)
    if not any(path.exists() for path in paths) and any(Path(folder).rglob("*.npz")):
        _log.warning("%s holds .npz files, but none for a clip of %s, such as %s: all videos are extracted.",
                     os.fspath(folder), dataset.name, paths[0])
    jobs = {path: Job(item.path, path) for path, item in zip(paths, dataset.items, strict=True)}
    current: dict[Path, Features] = {}
    outdated: dict[Path, Features] = {}
    for path, job in jobs.items():
        try:
            features = Features.load(path)
        except FormatError:
            continue
        kept = is_current(job, features) if params is None else is_done(job, params)
        (current if kept else outdated)[path] = features
    for features in current.values():
        require_whole(features)
    if params is None:
        params = _common_params(current or outdated)
        if outdated and not current and params != Params():
            _log.warning("%s holds features that are out of date (the video is another now, or the version of the "
                         "method): they are extracted anew, with the parameters that they were made with.",
                         os.fspath(folder))
    for name in channels:
        if name not in params.descriptors:
            raise ParameterError(f"{os.fspath(folder)}: its features have no {name}: leave it out of channels, or give "
                                 "another folder for features with it.")

    summary = extract_jobs(list(jobs.values()), folder, params, lambda job: job.output in current, threads=threads,
                           workers=workers, progress=progress, report=report)
    if summary.failed:
        raise _failure(dataset, summary.failed)
    opened = {path: current[path] if path in current else Features.load(path) for path in jobs}
    return [rows_of(opened[path], item) for path, item in zip(paths, dataset.items, strict=True)]


def load_features(dataset: Dataset, folder: Paths) -> list[Features]:
    """Return the trajectories of every clip of a dataset from the folder that `idt extract` wrote, see `rows_of`.

    Raises
    ------
    FormatError
        A file is missing or cannot be used; the message says how many are.
    ParameterError
        Features of two videos would be in one file, or are only a sample; a segment cannot be used, see `rows_of`.
    """
    paths = features_paths(dataset, folder)
    files = dict.fromkeys(paths)
    missing = [path for path in files if not path.exists()]
    if missing:
        more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise FormatError(f"{missing[0]} is missing{more}: extract the videos first, idt extract "
                          f"{dataset.folder or dataset.root} -o {os.fspath(folder)}.")
    opened = {path: Features.load(path) for path in files}
    for features in opened.values():
        require_whole(features)
    return [rows_of(opened[path], item) for path, item in zip(paths, dataset.items, strict=True)]


def features_paths(dataset: Dataset, folder: Paths) -> list[Path]:
    """Return where the features of each clip are in the folder of the features of a dataset.

    They are where `idt extract` writes them that is given the dataset's folder: those of ``UCF-101/walk/a.avi`` below
    it are in ``UCF-101/walk/a.avi.npz``. Where more of them lie as if the folder of the videos had been given,
    ``walk/a.avi.npz``, that is their place. Of a video outside both, the whole path is kept: ``/clips/a.avi`` is in
    ``clips/a.avi.npz``.

    Raises
    ------
    ParameterError
        The features of two videos would be in one file.
    """
    videos = [Path(os.path.abspath(item.path)) for item in dataset.items]
    above = [dataset.folder or dataset.root, dataset.root]

    def below(folders: list[str]) -> list[Path]:
        return [Path(folder, f"{path_below(video, folders)}.npz") for video in videos]

    paths = max(below(above), below(above[::-1]), key=lambda paths: sum(path.exists() for path in set(paths)))
    owners: dict[Path, Path] = {}
    for path, video in zip(paths, videos, strict=True):
        if owners.setdefault(path, video) != video:
            raise ParameterError(f"The features of {owners[path]} and of {video} would both be in {path}: move one of "
                                 "the videos, or give it another name.")
    return paths


def rows_of(features: Features, item: Item) -> Features:
    """Return the trajectories of a labelled clip: all of its video, or those that lie wholly within its segment.

    `position` t of a segment is its share of the segment, and ``span`` in the meta the frames of it that were
    processed, as if it had been cut out. The time of a frame on which no trajectory ended is interpolated.

    Raises
    ------
    ParameterError
        The clip is a segment that begins after the end of its video, or the features do not tell times.
    """
    if item.start_s is None and item.end_s is None:
        return features
    rate = (features.meta.get("video") or {}).get("fps")
    if not rate or np.isnan(features.time).any():
        raise ParameterError(f"{item.path} is given as a segment in seconds, but its features do not tell times.")
    times = _times(features, rate)
    start, length = item.start_s or 0.0, times[-1] + 1 / rate
    if start >= length:
        until = "" if item.end_s is None else f" to {item.end_s:g} s"
        raise ParameterError(f"{item.path}: the segment from {start:g} s{until} begins after the end of its video, "
                             f"which is {length:.2f} s long: start and end are times in seconds, not frames.")
    # A start that was rounded is that of the nearest frame.
    nearest = times + np.minimum(np.diff(times, append=length), 1 / rate) / 2
    span = features.meta.get("span") or {"first": 0, "last": len(times) - 1}
    first = max(int(np.searchsorted(nearest, start)), span["first"])
    last = span["last"] if item.end_s is None else \
        min(int(np.searchsorted(times, item.end_s, side="right")) - 1, span["last"])
    begin = features.frame - duration(features)
    rows = np.flatnonzero((begin >= first) & (features.frame <= last))
    # Rows are in order of time: those of a segment lie side by side and need not be read yet.
    inside = features[rows[0]:rows[-1] + 1] if rows.size and rows.size == rows[-1] + 1 - rows[0] else features[rows]
    frames = max(last + 1 - first, 0)
    position = np.array(inside.position)
    position[:, 2] = np.clip(((begin[rows] + inside.frame) / 2 - first) / max(frames, 1), 0, 0.999)
    meta = {**features.meta, "span": {"first": first, "last": last, "frames": frames}}
    return inside.replace(position=position, meta=meta)


def _times(features: Features, rate: float) -> NDArray[np.float64]:
    """Return the times of the frames of a video, as far as they were decoded, in ascending order."""
    # Frame 0 is at 0 s; behind the last frame that is known the mean frame rate has to do.
    frames, rows = np.unique(features.frame, return_index=True)
    known, times = np.concatenate([[0], frames]), np.concatenate([[0.0], features.time[rows]])
    video, span = features.meta.get("video") or {}, features.meta.get("span") or {}
    count = max(video.get("decoded_frames", 0), span.get("last", 0) + 1, int(known[-1]) + 1)
    behind = np.maximum(np.arange(count) - known[-1], 0) / rate
    return np.maximum.accumulate(np.interp(np.arange(count), known, times) + behind)


def _common_params(features: Mapping[Path, Features]) -> Params:
    """Return the parameters that all features were extracted with; the default ones where there are none."""
    found: dict[Path, Params] = {}
    for path, one in features.items():
        with contextlib.suppress(ParameterError, KeyError, TypeError):  # those of another version may be others
            found[path] = Params.from_dict(one.meta["params"])
    if not found:
        return Params()
    first, params = next(iter(found.items()))
    for path, other in found.items():
        if other != params:
            a, b = params.to_dict(), other.to_dict()
            fields = ", ".join(f"{name} {a[name]} and {b[name]}" for name in a if a[name] != b[name])
            raise ParameterError(f"{first} and {path} were extracted with different parameters ({fields}): delete the "
                                 "features of one kind, or give another folder.")
    return params


def _failure(dataset: Dataset, failed: Sequence[Outcome]) -> VideoError:
    names = [outcome.job.source for outcome in failed]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return VideoError(f"{len(names)} of {len({item.path for item in dataset.items})} videos of {dataset.name} "
                      f"cannot be extracted: {', '.join(names[:_NAMED])}{more}. Repair them or take them out of the "
                      f"dataset; all others are done. The first: {failed[0].reason}")
