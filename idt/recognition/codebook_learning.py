"""Codebooks learnt from the trajectories of videos: PCA and words of each channel, and the files that keep them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from idt import __version__
from idt._util.checks import checked_integer
from idt._util.files import prepared, replacing
from idt._util.hashing import json_digest
from idt._util.threads import mapped
from idt.encoding.bags import one_thread
from idt.encoding.bow import BagOfWords
from idt.encoding.codebook import DiagonalGMM, KMeans, sample
from idt.encoding.fisher import FisherVector
from idt.encoding.model import FORMAT, Channel, Codebook
from idt.encoding.norms import Normalise, root_sift
from idt.encoding.pca import PCA
from idt.encoding.pyramid import Pyramid
from idt.encoding.vlad import VLAD
from idt.errors import FormatError, ParameterError
from idt.features.record import Features
from idt.params import Params
from idt.recognition.vectors import EncodingParams, Norm, bag_of, shared_extraction

Source: TypeAlias = str | os.PathLike[str]

_STEPS: dict[Norm, tuple[str, ...]] = {"power-l2": ("power", "l2"), "l2": ("l2",), "l1": ("l1",), "none": ()}


def learn_codebook(videos: Sequence[Features], params: EncodingParams | None = None, *, threads: int = 1,
                   report: Callable[[str, Channel], None] | None = None) -> Codebook:
    """Return PCA and codebook of every channel, learnt from a sample of the descriptors of the videos.

    The meta of the codebook tells the number of `videos` and of `descriptors` of each channel that it was learnt from,
    `params`, and `extraction`: the parameters that all videos were extracted with, or None where they differ or are
    unknown (a text).

    Parameters
    ----------
    videos : sequence of Features
        Only the drawn rows of features that lie in files are read.
    params : EncodingParams, optional
    threads : int
        Channels that are learnt at a time; it does not change the result.
    report : callable, optional
        Called with the name and the `Channel` of each that is learnt.

    Raises
    ------
    ParameterError
        A video lacks a channel or has a descriptor that is NaN or infinite, or there are too few descriptors.
    """
    params, threads = params or EncodingParams(), checked_integer("threads", threads)
    learner, names = Learner(videos), tuple[str, ...](params.channels)
    channels = {}
    with one_thread():  # around all threads: the limit is that of the process
        learnt = mapped(lambda name: learner.channel(name, params)[0], iter(names), threads)
        for name, channel in zip(names, learnt, strict=True):
            channels[name] = channel
            if report is not None:
                report(name, channel)
    count = _share(params, videos)
    return Codebook(channels, {"params": params.to_dict(), "videos": len(videos),
                               "descriptors": sum(min(count, len(video)) for video in videos),
                               "extraction": shared_extraction(videos)})


class Learner:
    """Learns channels from the same videos; what several of them have in common is learnt once.

    Channels that differ in their words alone share PCA; those that differ only in what is made of the words (norm,
    pyramid, VLAD or bag of words) share both.

    Parameters
    ----------
    videos : sequence of Features
        Only the drawn rows of features that lie in files are read.
    folder : path, optional
        What is learnt is kept in it, a codebook of one channel in each file, and taken from it when the videos, the
        parameters that count and the version of the package are the same. Features that have no key (a text) are not
        kept. What cannot be read is learnt anew.

    Raises
    ------
    ParameterError
        No video has a trajectory.
    """

    def __init__(self, videos: Sequence[Features], *, folder: Source | None = None) -> None:
        if not any(map(len, videos)):
            raise ParameterError("No training video has a trajectory: there is nothing to learn a codebook from.")
        self._videos = videos
        # A segment has the key of its video.
        self._identity = [[video.meta.get("key"), video.meta.get("span")] for video in videos]
        self._folder = Path(folder) if folder is not None and all(key for key, _ in self._identity) else None
        self._pcas: dict[str, tuple[PCA | None, float]] = {}
        self._learnt: dict[str, tuple[Channel, float]] = {}

    def channel(self, name: str, params: EncodingParams) -> tuple[Channel, float]:
        """Return a channel, and the time of one processor core that it takes when nothing is known yet, s.

        Different channels may be learnt in threads; `idt.encoding.bags.one_thread` must be around them.

        Raises
        ------
        ParameterError
            A video lacks the channel or has a descriptor that is NaN or infinite, or there are too few descriptors.
        OutputError
            What is learnt cannot be kept.
        """
        known = _hash(name, learnt_by(params))
        if known not in self._learnt:
            self._learnt[known] = self._from_folder(name, params) or self._learn(name, params)
        learnt, seconds = self._learnt[known]
        return replace(learnt, encoder=_encoder(params).with_codebook(learnt.encoder.codebook_),
                       norm=Normalise(_STEPS[params.norm]),
                       pyramid=None if params.pyramid == ("1x1x1",) else Pyramid(params.pyramid)), seconds

    def _learn(self, name: str, params: EncodingParams) -> tuple[Channel, float]:
        began = time.thread_time()
        drawn = sample([bag_of(video, name) for video in self._videos], _share(params, self._videos), seed=params.seed)
        root = params.root and name != "trajectory"
        ready = root_sift(drawn) if root else drawn
        known = _hash(name, params.pca, params.whiten, root, params.samples, params.seed)
        if known not in self._pcas:
            pca = PCA(params.pca, whiten=params.whiten).fit([ready]) if params.pca < 1 else None
            self._pcas[known] = pca, time.thread_time() - began
        pca, seconds = self._pcas[known]
        began = time.thread_time()
        encoder = _encoder(params).fit([ready if pca is None else pca.project(ready)])
        learnt = Channel(drawn.shape[1], encoder, pca, root), seconds + time.thread_time() - began
        if self._folder is not None:
            path, key = self._kept(name, params)
            prepared(path)
            with replacing(path) as file:
                Codebook({name: learnt[0]}, {"key": key, "seconds": learnt[1]}).save(file)
        return learnt

    def _from_folder(self, name: str, params: EncodingParams) -> tuple[Channel, float] | None:
        if self._folder is None:
            return None
        path, key = self._kept(name, params)
        try:
            found = Codebook.load(path)
        except FormatError:
            return None
        return (found.channels[name], float(found.meta["seconds"])) if found.meta.get("key") == key else None

    def _kept(self, name: str, params: EncodingParams) -> tuple[Path, str]:
        """Return the file of what is learnt, and its key: the same key, the same numbers."""
        assert self._folder is not None
        key = _hash(name, learnt_by(params), self._identity, __version__, FORMAT)
        return self._folder / f"{name}-{key[:16]}.npz", key


def learnt_by(params: EncodingParams) -> tuple[Any, ...]:
    """Return what PCA and words of a channel depend on: equal values, equal words."""
    kind = "gaussians" if params.encoder == "fisher" else "centres"
    return kind, params.words, params.pca, params.whiten, params.root, params.samples, params.seed


def _share(params: EncodingParams, videos: Sequence[Features]) -> int:
    """Return how many descriptors are drawn from each video, as far as it has them."""
    return -(-params.samples // len(videos))


def _hash(*parts: Any) -> str:
    return json_digest(parts)


def load_codebook(path: Source) -> Codebook:
    """Read a codebook, as `Codebook.load` does, and check what it tells of the extraction.

    Raises
    ------
    FormatError
        The file cannot be read, holds something else, is of another format version, or does not fit together.
    """
    codebook = Codebook.load(path)
    check_extraction(codebook, path)
    return codebook


def check_extraction(codebook: Codebook, path: Source) -> None:
    """Raise `FormatError`, which names the file of a codebook, unless its `extraction` is None or parameters."""
    extraction = codebook.meta.get("extraction")
    try:
        if not isinstance(extraction, dict | None):
            raise ParameterError(f"it is {extraction!r}")
        Params.from_dict(extraction or {})
    except ParameterError as error:
        reason = str(error).removesuffix(".")
        raise FormatError(f"{os.fspath(path)}: the extraction in its meta cannot be used ({reason}).") from error


def _encoder(params: EncodingParams) -> Any:
    if params.encoder == "fisher":
        return FisherVector(DiagonalGMM(params.words, seed=params.seed))
    return (VLAD if params.encoder == "vlad" else BagOfWords)(KMeans(params.words, seed=params.seed))


def check_encodes(codebook: Codebook, path: Source, params: Params) -> None:
    """Raise `ParameterError`, which names the file of a codebook, unless it encodes what `params` extract."""
    from idt.trajectories.descriptors import widths

    cells = params.temporal_cells
    made = {name: cells * width for name, width in widths(params.descriptors, params.spatial_cells).items()}
    if "trajectory" in params.descriptors:
        made["trajectory"] = 2 * params.length
    for name, channel in codebook.channels.items():
        if name not in made:
            raise ParameterError(f"descriptors is {', '.join(params.descriptors)}, but {os.fspath(path)} encodes {name}"
                                 ", too: extract with it, or give a codebook without it.")
        if made[name] != channel.width:
            raise ParameterError(f"{os.fspath(path)} was learnt from {name} of {channel.width} numbers, but there will "
                                 f"be {made[name]}: extract with the parameters that it was learnt with (idt info "
                                 f"{os.fspath(path)} shows them).")


