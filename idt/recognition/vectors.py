"""Encoded videos: the parameters of encodings, and the vectors that codebooks make of the trajectories of a video."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from idt._util.checks import checked_integer
from idt._util.fields import Parameters, choice, number, parameters_table
from idt._util.files import replacing
from idt._util.hashing import digest, json_digest
from idt._util.threads import mapped
from idt.encoding.bags import LazyBag, one_thread
from idt.encoding.model import FORMAT, Codebook, read_file, write_file
from idt.errors import FormatError, ParameterError
from idt.features.record import Features
from idt.params import DESCRIPTORS, Descriptor, Params
from idt.runner.jobs import Job
from idt.trajectories.cache import expected_key

Array: TypeAlias = NDArray[Any]
Source: TypeAlias = str | os.PathLike[str]

Encoder = Literal["fisher", "vlad", "bow"]
Norm = Literal["power-l2", "l2", "l1", "none"]
Grid = Literal["1x1x1", "1x1x2", "1x3x1", "1x3x2", "2x2x1", "2x2x2"]

_HARMLESS = ("start", "end", "descriptors", "dtype")  # parameters that leave the trajectories as they are
_IDT, _OURS = "iDT (ICCV 2013)", "this package"


@dataclass(frozen=True, kw_only=True)
class EncodingParams(Parameters):
    """How the trajectories of a video become vectors, and how these are classified.

    The defaults are those of Wang and Schmid (ICCV 2013, section 4.2). Bags of words are classified by an SVM with an
    RBF-χ² kernel, the other vectors by a linear one.
    """

    channels: tuple[Descriptor, ...] = choice(DESCRIPTORS, "descriptors that are encoded, each by itself", source=_IDT)
    encoder: Encoder = choice("fisher", "Fisher vector, VLAD or bag of words", source=_IDT)
    words: int = number(256, "Gaussians of a Fisher vector, words of another encoder", low=1, high=1_000_000,
                        source=_IDT)
    pca: float = number(0.5, "share of the dimensions of a descriptor that PCA keeps; 1: no PCA", above=0.0, high=1.0,
                        source=_IDT)
    whiten: bool = choice(False, "PCA also scales each dimension to variance 1", source=_OURS)
    root: bool = choice(False, "each descriptor but the trajectory is L1-normalised and square-rooted (RootSIFT) once "
                        "more; the extraction has done both to its blocks, as iDT does", source=_OURS)
    samples: int = number(256_000, "descriptors of a channel that PCA and codebook are learnt from, as many from each "
                          "video", low=100, high=1_000_000_000, source=_IDT)
    norm: Norm = choice("power-l2", "what is done to a vector: signed square roots and L2, one norm alone, or nothing",
                        source=_IDT)
    pyramid: tuple[Grid, ...] = choice(("1x1x1",), "grids along x, y and t whose cells are encoded by themselves",
                                       source=_IDT)
    cost: float = number(100.0, "C of the SVM", above=0.0, high=1e9, source=_IDT)
    balanced: bool = choice(False, "errors of a class weigh the more the fewer clips it has, so that all classes "
                            "count alike", source=_OURS)
    seed: int = number(0, "seed of samples and codebooks", low=0, high=2**31 - 1, source=_OURS)


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Vectors:
    """What a codebook makes of a video: row i of every array belongs to window i.

    Attributes
    ----------
    start, end : ndarray, shape (windows,), int32
        First and last frame of each window, inclusive, as indices in the video. Of a whole video there is one window.
    count : ndarray, shape (windows,), int64
        Trajectories in each; the vectors of a window without any are zero.
    channels : dict of str to ndarray, shape (windows, size), float32
    meta : dict
        What made them (JSON types), see `made_by`.

    Raises
    ------
    ParameterError
        An array has another shape or type.
    """

    start: Array
    end: Array
    count: Array
    channels: dict[str, NDArray[np.float32]]
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        windows = np.shape(self.count)[:1]
        for name, kind in _TYPES.items():
            _check(name, getattr(self, name), kind, (*windows,))
        for name, values in self.channels.items():
            _check(name, values, np.float32, (*windows, None))

    def __len__(self) -> int:
        return len(self.count)

    def save(self, path: Source) -> None:
        """Write a file of vectors (``.npz``), which NumPy opens: the arrays, the channels by name, and ``meta`` (JSON).

        The folder is made if missing; the same vectors give the same bytes.

        Raises
        ------
        OutputError
            The file cannot be written; nothing remains then.
        """
        arrays = {name: getattr(self, name) for name in _TYPES} | self.channels
        with replacing(path) as file:
            write_file(file, "vectors", {**self.meta, "kind": "vectors", "format": FORMAT}, arrays)

    @classmethod
    def load(cls, path: Source) -> Vectors:
        """Read a file of vectors.

        Raises
        ------
        FormatError
            The file cannot be read, holds something else, is of another format version, or does not fit together.
        """
        return read_file(path, "vectors", _vectors)


_TYPES: dict[str, type] = {"start": np.int32, "end": np.int32, "count": np.int64}
_META: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("package", "codebook", "features", "reason", "key"), (str, type(None))),
    **dict.fromkeys(("window", "stride", "rows"), (int, type(None))), "video": (dict, type(None))}


def _vectors(meta: dict[str, Any], arrays: Mapping[str, Array]) -> Vectors:
    """Return the vectors in a file."""
    for name, kinds in _META.items():
        if not isinstance(meta.get(name), kinds) or isinstance(meta.get(name), bool):
            raise ValueError(f"{name} in its meta is {meta.get(name)!r}")
    channels = {name: values for name, values in arrays.items() if name not in ("meta", *_TYPES)}
    for name, values in channels.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ValueError(f"{name} has a number that is NaN or infinite")
    return Vectors(**{name: arrays[name] for name in _TYPES}, channels=channels, meta=meta)


def _check(name: str, array: Any, kind: type, shape: tuple[int | None, ...]) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != kind or array.ndim != len(shape) or any(
            want not in (None, n) for want, n in zip(shape, array.shape, strict=True)):
        what = f"the shape {array.shape} and type {array.dtype}" if isinstance(array, np.ndarray) else \
            f"the type {type(array).__name__}"
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise ParameterError(f"{name} has {what}: it must be an array ({wanted}) of {np.dtype(kind)}.")


def shared_extraction(videos: Sequence[Features]) -> dict[str, Any] | None:
    """Return the parameters that all videos were extracted with; None where they differ or are unknown (a text)."""
    first, *others = map(extraction_of, videos)
    return first if all(other == first for other in others) else None


def extraction_of(video: Features) -> dict[str, Any] | None:
    """Return the parameters that a video was extracted with; a text does not tell them."""
    params = video.meta.get("params")
    return params if isinstance(params, dict) and video.meta.get("origin") != "text" else None


def other_parameters(mine: dict[str, Any] | None, extraction: dict[str, Any] | None) -> list[str]:
    """Return in words where one extraction differs from another; nothing where either is unknown.

    Which frames were processed, which descriptors were stored and in what type does not count: it leaves those that are
    stored the same.
    """
    return differing(mine, extraction, but=_HARMLESS) if mine and extraction else []


def differing(mine: Mapping[str, Any], other: Mapping[str, Any], *, but: Collection[str] = ()) -> list[str]:
    """Return in words where two dicts of parameters differ, apart from some."""
    return [f"{name} {mine.get(name)} instead of {other.get(name)}" for name in {**other, **mine}
            if name not in but and mine.get(name) != other.get(name)]


def encode(video: Features, codebook: Codebook, *, window: int | None = None, stride: int | None = None,
           threads: int = 1) -> Vectors:
    """Return the vectors of a video, or of windows of it.

    A trajectory is in a window when its middle is, so that windows side by side share none and lose none. The cells of
    a pyramid divide the time of the window.

    Parameters
    ----------
    video : Features
    codebook : Codebook
    window : int, optional
        Frames of a window; None: the whole video is one.
    stride : int, optional
        Frames from the start of a window to the start of the next; default: `window`. Windows begin at the first
        processed frame, and the last is the first that reaches the end of the video, where it is cut off. Those of a
        segment (`idt.recognition.clip_features.rows_of`) cover the segment alone.
    threads : int
        Channels that are encoded at a time; it does not change the result.

    Returns
    -------
    Vectors

    Raises
    ------
    ParameterError
        The video lacks a channel, a descriptor has another length than those that were learnt from, or is NaN or
        infinite (the row is named); its features are only a sample; an argument is not an integer from 1, or `stride`
        goes without `window`.
    """
    require_whole(video)
    window, stride = checked_window(window, stride)
    threads = checked_integer("threads", threads)
    spans = [_span(video)]
    parts: list[Array | None] = [None]
    if window is not None and stride is not None:
        spans = _windows(spans[0], window, stride)
        middle = video.frame - duration(video) / 2
        order = np.argsort(middle, kind="stable")
        bounds = np.searchsorted(middle, [(start, end + 1) for start, end in spans], sorter=order)
        parts = [order[low:high] for low, high in bounds]

    positions = video.position

    def position(rows: Array | None, start: int, end: int) -> Array:
        if rows is None:
            return positions
        of_rows = positions[rows]
        of_rows[:, 2] = (middle[rows] - start) / (end + 1 - start)
        return of_rows

    def made(name: str) -> NDArray[np.float32]:
        channel, bag = codebook.channels[name], bags[name]
        found = np.empty((len(spans), channel.size), np.float32)
        for n, (rows, span) in enumerate(zip(parts, spans, strict=True)):
            found[n] = channel.encode(LazyBag(bag, rows=rows),
                                      None if channel.pyramid is None else position(rows, *span))
        return found

    bags = {name: bag_of(video, name) for name in codebook.channels}
    with one_thread():  # around all threads: the limit is that of the process
        channels = dict(zip(bags, mapped(made, iter(bags), threads), strict=True))
    start, end = np.array(spans, np.int32).T
    count = np.array([len(video) if rows is None else len(rows) for rows in parts], np.int64)
    return Vectors(start=start, end=end, count=count, channels=channels)


def require_whole(video: Features) -> None:
    """Raise `ParameterError` when features are a sample of the trajectories of their video, which all encode else."""
    if video.meta.get("kept"):
        raise ParameterError(f"{called(video)} is a sample of the trajectories of its video, from which a codebook can "
                             "be learnt, but which does not stand for the video: extract it without keep.")


def checked_window(window: int | None, stride: int | None) -> tuple[int | None, int | None]:
    """Return the frames of a window and from one to the next, both None for a whole video; see `encode`."""
    if window is None:
        if stride is not None:
            raise ParameterError(f"stride is {stride}, but there is no window: give the frames of a window, too.")
        return None, None
    window = checked_integer("window", window)
    return window, window if stride is None else checked_integer("stride", stride)


def made_by(video: Features, codebook: str, *, window: int | None = None, stride: int | None = None) -> dict[str, Any]:
    """Return the meta of the file of the vectors of a video.

    Parameters
    ----------
    video : Features
    codebook : str
        SHA-256 of the file of the codebook.
    window, stride : int, optional
        As for `encode`.

    Returns
    -------
    dict
        package, codebook, window, stride; ``features``, the key of the features, or the SHA-256 of their file when
        they have none; video, rows and reason of the features; ``key``, one hash of all that decides the numbers.
    """
    from idt import __version__

    window, stride = checked_window(window, stride)
    features = video.meta.get("key") or digest(video.path)
    return {"package": __version__, "codebook": codebook, "window": window, "stride": stride, "features": features,
            "video": video.meta.get("video"), "rows": len(video), "reason": video.meta.get("reason"),
            "key": vectors_key(features, codebook, window=window, stride=stride)}


def vectors_key(features: str | None, codebook: str, *, window: int | None = None, stride: int | None = None) -> str:
    """Return what identifies vectors: the same key, the same numbers.

    Parameters
    ----------
    features : str or None
        The key of the features (`idt.trajectories.cache.features_key`), or what stands for it, see `made_by`.
    codebook : str
        SHA-256 of the file of the codebook.
    window, stride : int, optional
        Both or none, see `checked_window`.

    Returns
    -------
    str
        64 hex digits.
    """
    decisive = {"codebook": codebook, "window": window, "stride": stride, "features": features, "format": FORMAT}
    return json_digest(decisive)


def is_done(job: Job, params: Params, codebook: str, *, verify: bool = False) -> bool:
    """Tell whether the vector of a whole video is there and up to date; its features need not be there.

    `codebook` is the SHA-256 of its file. With `verify` only the content of the video counts, not its time stamp; the
    vectors are always read whole.
    """
    try:
        meta = Vectors.load(job.output).meta
    except FormatError:
        return False
    return bool(meta.get("key") == vectors_key(expected_key(job, meta, params, verify), codebook))


def called(video: Features) -> str:
    """Return what errors call the features of a video: their file, or else the video."""
    return video.path or str((video.meta.get("video") or {}).get("name", "A video"))


def duration(video: Features) -> float:
    """Return how many frames of the video pass from the first point of a trajectory to the last."""
    steps = video.points.shape[1] - 1 if video.points is not None else \
        0 if video.trajectory is None else video.trajectory.shape[1] / 2
    return float(steps * (video.meta.get("params") or {}).get("step", 1))


def bag_of(video: Features, channel: str) -> LazyBag:
    """Return the descriptors of a channel; `ParameterError` where the features have none."""
    bag = video.bag(channel)
    if bag is None:
        raise ParameterError(f"{called(video)}: its features have no {channel}: extract with it, or leave it out of "
                             "channels.")
    return LazyBag(bag, name=f"{channel} of {called(video)}")


def _span(video: Features) -> tuple[int, int]:
    """Return the first and the last processed frame; a text does not tell them, but the last with a trajectory."""
    span = video.meta.get("span")
    if span and span["frames"]:
        return span["first"], span["last"]
    return 0, int(video.frame.max(initial=-1))


def _windows(span: tuple[int, int], window: int, stride: int) -> list[tuple[int, int]]:
    first, last = span
    count = 1 + max(0, -(-(last + 1 - first - window) // stride))
    return [(start, min(start + window - 1, last)) for start in range(first, first + count * stride, stride)]


def parameters_page() -> str:
    """Return the page ``docs/encoding-parameters.md``: a Markdown table of the fields of EncodingParams."""
    lines = [
        "# Parameters of encoding and classifier",
        "",
        "Every option of `idt fit`, `idt train` and `idt evaluate`, and key of a method of `idt compare`: in the",
        "library `EncodingParams(words=64)`, on the command line `--words 64`, in a file (TOML) `words = 64`. Several",
        "values are given as `--channels hog,hof` and `channels = [\"hog\", \"hof\"]`. A value that is not allowed is",
        "an error that says what is. `idt fit` has neither `cost` nor `balanced`, which belong to the classifier.",
        "",
        "This page is made from the fields by `python -m idt.recognition.vectors > docs/encoding-parameters.md`.",
        "",
        *parameters_table(EncodingParams),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    import sys

    sys.stdout.write(parameters_page())
