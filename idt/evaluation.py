"""From features to labels: codebooks learnt from features, encoded videos, and accuracy on the splits of a dataset.

Everything that is learnt is learnt on the training side of a split alone: PCA, codebook, kernel widths and classifier.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from idt.datasets import Dataset, Item, Split
from idt.encoding.bow import BagOfWords
from idt.encoding.codebook import DiagonalGMM, KMeans, sample
from idt.encoding.fisher import FisherVector
from idt.encoding.model import Channel, Codebook
from idt.encoding.norms import Normalise, root_sift
from idt.encoding.pca import PCA
from idt.encoding.pyramid import Pyramid
from idt.encoding.svm import Chi2SVM, LinearSVM, chi2_distances, gram
from idt.encoding.vlad import VLAD
from idt.errors import FormatError, ParameterError
from idt.features import Features
from idt.params import DESCRIPTORS, Descriptor, Parameters, choice, number

Array: TypeAlias = NDArray[Any]
Paths: TypeAlias = str | os.PathLike[str]

Encoder = Literal["fisher", "vlad", "bow"]
Norm = Literal["power-l2", "l2", "l1", "none"]
Grid = Literal["1x1x1", "1x1x2", "1x3x1", "1x3x2", "2x2x1", "2x2x2"]

COMBINED = "combined"
"""All channels together: their vectors one after the other, or their distances in one kernel."""

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
    seed: int = number(0, "seed of samples and codebooks", low=0, high=2**31 - 1, source=_OURS)


@dataclass(frozen=True, eq=False)
class SplitResult:
    """What became of one split.

    Attributes
    ----------
    split : Split
    scores : dict of str to ndarray, shape (test clips, classes), float64
        For each channel, and `COMBINED`.
    """

    split: Split
    scores: dict[str, Array]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Scores of all splits of a dataset, and what follows from them.

    Attributes
    ----------
    labels : ndarray, shape (clips,), int
        Class of each clip of the dataset.
    classes : tuple of str
    results : tuple of SplitResult
    """

    labels: Array
    classes: tuple[str, ...]
    results: tuple[SplitResult, ...]

    @property
    def channels(self) -> list[str]:
        """The channels that have scores, `COMBINED` last."""
        return list(self.results[0].scores)

    def confusion(self, channel: str = COMBINED) -> NDArray[np.int64]:
        """Return how many clips of each class (row) were taken for each (column), all splits added up."""
        counts = np.zeros((len(self.classes), len(self.classes)), np.int64)
        for result in self.results:
            np.add.at(counts, (self.labels[list(result.split.test)], result.scores[channel].argmax(axis=1)), 1)
        return counts

    def accuracy(self, channel: str = COMBINED) -> float:
        """Return the share of test clips that get their label, all splits taken together."""
        counts = self.confusion(channel)
        return float(np.trace(counts) / counts.sum())

    def class_accuracy(self, channel: str = COMBINED) -> Array:
        """Return the accuracy of each class, NaN for one that no split tests."""
        counts = self.confusion(channel)
        tested = counts.sum(axis=1)
        return np.divide(np.diag(counts), tested, out=np.full(len(tested), np.nan), where=tested > 0)

    def average_precision(self, channel: str = COMBINED) -> float:
        """Return the mean over classes and splits of the average precision of the ranked test clips."""
        from sklearn.metrics import average_precision_score

        values = []
        for result in self.results:
            labels = self.labels[list(result.split.test)]
            values += [average_precision_score(labels == k, result.scores[channel][:, k])
                       for k in np.unique(labels).tolist()]
        return float(np.mean(values))


def rows_of(features: Features, item: Item) -> Features:
    """Return the trajectories of a labelled clip: all of its video, or those that lie within its segment.

    Raises
    ------
    ParameterError
        The clip is a segment, but the features do not tell times.
    """
    if item.start_s is None and item.end_s is None:
        return features
    rate = (features.meta.get("video") or {}).get("fps")
    if not rate or np.isnan(features.time).any():
        raise ParameterError(f"{item.path} is given as a segment in seconds, but its features do not tell times.")
    begin = features.time - (features.points.shape[1] - 1 if features.points is not None else 0) / rate
    inside = begin >= (item.start_s or 0.0) - 0.5 / rate
    return features[inside & (features.time <= (np.inf if item.end_s is None else item.end_s))]


def learn_codebook(videos: Sequence[Features], params: EncodingParams | None = None) -> Codebook:
    """Return PCA and codebook of every channel, learnt from a sample of the descriptors of the videos.

    Parameters
    ----------
    videos : sequence of Features
        Only the drawn rows of features that lie in files are read.
    params : EncodingParams, optional

    Raises
    ------
    ParameterError
        A video lacks a channel, or there are too few descriptors.
    """
    params = params or EncodingParams()
    count = -(-params.samples // max(len(videos), 1))
    channels: dict[str, Channel] = {}
    for name in params.channels:
        bags = [_bag(video, name) for video in videos]
        drawn = sample(bags, count, seed=params.seed)
        root = params.root and name != "trajectory"
        ready = root_sift(drawn) if root else drawn
        pca = PCA(params.pca, whiten=params.whiten).fit([ready]) if params.pca < 1 else None
        encoder = _encoder(params).fit([ready if pca is None else pca.project(ready)])
        channels[name] = Channel(drawn.shape[1], encoder, pca, root, Normalise(_STEPS[params.norm]),
                                 None if params.pyramid == ("1x1x1",) else Pyramid(params.pyramid))
    return Codebook(channels, {"params": params.to_dict(), "videos": len(videos)})


def _encoder(params: EncodingParams) -> Any:
    if params.encoder == "fisher":
        return FisherVector(DiagonalGMM(params.words, seed=params.seed))
    return (VLAD if params.encoder == "vlad" else BagOfWords)(KMeans(params.words, seed=params.seed))


def _bag(video: Features, channel: str) -> Array:
    bag: Array | None = getattr(video, channel)
    if bag is None:
        name = (video.meta.get("video") or {}).get("name", "A video")
        raise ParameterError(f"{name}: its features have no {channel}: extract with it, or leave it out of channels.")
    return bag


def encode(video: Features, codebook: Codebook) -> dict[str, NDArray[np.float32]]:
    """Return the vector of each channel of the codebook for the trajectories of a video."""
    return codebook.encode({name: _bag(video, name) for name in codebook.channels}, video.position)


def evaluate(dataset: Dataset, videos: Sequence[Features], splits: Iterable[Split],
             params: EncodingParams | None = None, *, progress: Callable[[Split], None] | None = None) -> Evaluation:
    """Learn and test on each split of a dataset.

    Parameters
    ----------
    dataset : Dataset
    videos : sequence of Features
        The trajectories of each of its clips, in its order (see `rows_of`).
    splits : iterable of Split
        From `idt.datasets.splits`.
    params : EncodingParams, optional
    progress : callable, optional
        Called with each split before the work on it.

    Returns
    -------
    Evaluation

    Raises
    ------
    ParameterError
        There are not as many videos as clips, a channel is missing, or too few descriptors.
    """
    params = params or EncodingParams()
    if len(videos) != len(dataset.items):
        raise ParameterError(f"There are features of {len(videos)} videos for the {len(dataset.items)} clips of "
                             f"{dataset.name}: give those of every clip, in order.")
    labels = np.array([dataset.classes.index(item.label) for item in dataset.items])
    results = []
    for split in splits:
        if progress is not None:
            progress(split)
        train, test = list(split.train), list(split.test)
        codebook = learn_codebook([videos[n] for n in train], params)
        encoded = [encode(videos[n], codebook) for n in train + test]
        # Only the similarities between vectors are needed from here on, training clips first.
        similar = {}
        for name in codebook.channels:
            vectors = np.stack([vector.pop(name) for vector in encoded])
            similar[name] = chi2_distances(vectors) if params.encoder == "bow" else gram(vectors)
        scores = {name: _scores([values], labels[train], len(dataset.classes), params)
                  for name, values in similar.items()}
        scores[COMBINED] = _scores(list(similar.values()), labels[train], len(dataset.classes), params)
        results.append(SplitResult(split, scores))
    if not results:
        raise ParameterError(f"There is no split of {dataset.name} to evaluate.")
    return Evaluation(labels, dataset.classes, tuple(results))


def _scores(similar: list[Array], labels: Array, classes: int, params: EncodingParams) -> Array:
    """Return the scores of the clips behind the training clips; -inf for a class that training lacks."""
    n = len(labels)
    if params.encoder == "bow":
        machine = Chi2SVM(C=params.cost).fit_distances([values[:n, :n] for values in similar], labels)
        found = machine.decide_distances([values[n:, :n] for values in similar])
    else:
        both = np.sum(similar, axis=0)
        machine = LinearSVM(C=params.cost).fit_gram(both[:n, :n], labels)
        found = machine.decide_gram(both[n:, :n])
    scores = np.full((len(found), classes), -np.inf)
    scores[:, machine.classes_] = found
    return scores


def load_features(dataset: Dataset, folder: Paths) -> list[Features]:
    """Return the trajectories of every clip of a dataset from the folder that `idt extract` wrote.

    The features of the video ``walk/a.avi`` below the dataset's root are in ``walk/a.avi.npz``.

    Raises
    ------
    FormatError
        A file is missing or cannot be used; the message says how many are.
    """
    opened: dict[str, Features] = {}
    missing = []
    for item in dataset.items:
        path = os.path.join(folder, os.path.relpath(item.path, dataset.root) + ".npz")
        if item.path not in opened:
            if os.path.exists(path):
                opened[item.path] = Features.load(path)
            else:
                missing.append(path)
    if missing:
        raise FormatError(f"{missing[0]} is missing{f', and {len(missing) - 1} more' if len(missing) > 1 else ''}: "
                          f"extract the videos first, idt extract {dataset.root} -o {os.fspath(folder)}.")
    return [rows_of(opened[item.path], item) for item in dataset.items]
