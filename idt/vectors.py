"""Encoded videos: codebooks learnt from features, and the vectors that they make of the trajectories of a video."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from idt.encoding.bags import LazyBag, one_thread
from idt.encoding.bow import BagOfWords
from idt.encoding.codebook import DiagonalGMM, KMeans, sample
from idt.encoding.fisher import FisherVector
from idt.encoding.model import Channel, Codebook
from idt.encoding.norms import Normalise, root_sift
from idt.encoding.pca import PCA
from idt.encoding.pyramid import Pyramid
from idt.encoding.vlad import VLAD
from idt.errors import ParameterError
from idt.features import Features
from idt.flow.threads import checked_count, mapped
from idt.params import DESCRIPTORS, Descriptor, Parameters, choice, number

Array: TypeAlias = NDArray[Any]

Encoder = Literal["fisher", "vlad", "bow"]
Norm = Literal["power-l2", "l2", "l1", "none"]
Grid = Literal["1x1x1", "1x1x2", "1x3x1", "1x3x2", "2x2x1", "2x2x2"]

_STEPS: dict[Norm, tuple[str, ...]] = {"power-l2": ("power", "l2"), "l2": ("l2",), "l1": ("l1",), "none": ()}
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
    root: bool = choice(True, "descriptors are L1-normalised and their square roots taken first (RootSIFT); never the "
                        "trajectory", source=_IDT)
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
        What made them (JSON types).
    """

    start: Array
    end: Array
    count: Array
    channels: dict[str, NDArray[np.float32]]
    meta: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.count)


def learn_codebook(videos: Sequence[Features], params: EncodingParams | None = None, *, threads: int = 1) -> Codebook:
    """Return PCA and codebook of every channel, learnt from a sample of the descriptors of the videos.

    Parameters
    ----------
    videos : sequence of Features
        Only the drawn rows of features that lie in files are read.
    params : EncodingParams, optional
    threads : int
        Channels that are learnt at a time; it does not change the result.

    Raises
    ------
    ParameterError
        A video lacks a channel or has a descriptor that is NaN or infinite, or there are too few descriptors.
    """
    params, threads = params or EncodingParams(), checked_count("threads", threads)
    count = -(-params.samples // max(len(videos), 1))

    def learn(name: str) -> Channel:
        drawn = sample([_bag(video, name) for video in videos], count, seed=params.seed)
        root = params.root and name != "trajectory"
        ready = root_sift(drawn) if root else drawn
        pca = PCA(params.pca, whiten=params.whiten).fit([ready]) if params.pca < 1 else None
        encoder = _encoder(params).fit([ready if pca is None else pca.project(ready)])
        return Channel(drawn.shape[1], encoder, pca, root, Normalise(_STEPS[params.norm]),
                       None if params.pyramid == ("1x1x1",) else Pyramid(params.pyramid))

    names: tuple[str, ...] = params.channels
    with one_thread():  # around all threads: the limit is that of the process
        channels = dict(zip(names, mapped(learn, iter(names), threads), strict=True))
    return Codebook(channels, {"params": params.to_dict(), "videos": len(videos)})


def _encoder(params: EncodingParams) -> Any:
    if params.encoder == "fisher":
        return FisherVector(DiagonalGMM(params.words, seed=params.seed))
    return (VLAD if params.encoder == "vlad" else BagOfWords)(KMeans(params.words, seed=params.seed))


def encode(video: Features, codebook: Codebook, *, window: int | None = None, stride: int | None = None) -> Vectors:
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
        processed frame, and the last is the first that reaches the end of the video, where it is cut off.

    Returns
    -------
    Vectors

    Raises
    ------
    ParameterError
        The video lacks a channel, a descriptor has another length than those that were learnt from, or is NaN or
        infinite (the row is named); `window` or `stride` is not an integer from 1, or `stride` goes without `window`.
    """
    if stride is not None and window is None:
        raise ParameterError(f"stride is {stride}, but there is no window: give the frames of a window, too.")
    spans = [_span(video)]
    parts: Iterable[tuple[Array | None, Array]] = [(None, video.position)]
    if window is not None:
        window = checked_count("window", window)
        spans = _windows(spans[0], window, checked_count("stride", window if stride is None else stride))
        parts = _parts(video, spans)
    bags = {name: _bag(video, name) for name in codebook.channels}
    vectors: dict[str, list[NDArray[np.float32]]] = {name: [] for name in bags}
    count = []
    for rows, position in parts:
        for name, channel in codebook.channels.items():
            vectors[name].append(channel.encode(LazyBag(bags[name], rows=rows), position))
        count.append(len(position))
    start, end = np.array(spans, np.int32).T
    return Vectors(start=start, end=end, count=np.array(count, np.int64),
                   channels={name: np.stack(found) for name, found in vectors.items()})


def called(video: Features) -> str:
    """Return what errors call the features of a video: their file, or else the video."""
    return video.path or str((video.meta.get("video") or {}).get("name", "A video"))


def duration(video: Features) -> float:
    """Return how many frames of the video pass from the first point of a trajectory to the last."""
    steps = video.points.shape[1] - 1 if video.points is not None else \
        0 if video.trajectory is None else video.trajectory.shape[1] / 2
    return float(steps * (video.meta.get("params") or {}).get("step", 1))


def _bag(video: Features, channel: str) -> LazyBag:
    bag: Array | None = getattr(video, channel)
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


def _parts(video: Features, spans: Sequence[tuple[int, int]]) -> Iterator[tuple[Array, Array]]:
    """Yield the rows of the trajectories in each window, and their positions with t as a share of the window."""
    middle = video.frame - duration(video) / 2
    order = np.argsort(middle, kind="stable")
    bounds = np.searchsorted(middle, [(start, end + 1) for start, end in spans], sorter=order)
    for (start, end), (low, high) in zip(spans, bounds, strict=True):
        rows = order[low:high]
        position = video.position[rows]
        position[:, 2] = (middle[rows] - start) / (end + 1 - start)
        yield rows, position
