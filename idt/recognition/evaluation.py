"""From features to labels: classifiers trained on labelled videos, and their accuracy on the splits of a dataset.

Everything that is learnt is learnt on the training side of a split alone: PCA, codebook, kernel widths and classifier.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from idt._util.checks import checked_integer
from idt._util.threads import mapped
from idt.encoding.bags import one_thread
from idt.encoding.model import Codebook
from idt.encoding.svm import LinearSVM, chi2_distances, gram, mean_distance, rbf_chi2_kernel
from idt.errors import ParameterError
from idt.features.record import Features
from idt.recognition.classifier import check_number, encode_all, labels_of
from idt.recognition.codebook_learning import Learner
from idt.recognition.datasets import Dataset, Split
from idt.recognition.vectors import EncodingParams, shared_extraction

Array: TypeAlias = NDArray[Any]

COMBINED = "combined"
"""All channels together: their vectors one after the other, or their distances in one kernel."""

STEPS = ("learn", "encode", "classify")
"""What is done for each split."""


@dataclass(frozen=True, eq=False)
class Scored:
    """Scores of the test clips of splits, and what follows from them.

    Attributes
    ----------
    dataset : Dataset
    splits : tuple of Split
    scores : tuple of ndarray, shape (test clips, classes)
        Of each split. The class that a clip is taken for is the one with the highest score, the first of equals.
    """

    dataset: Dataset
    splits: tuple[Split, ...]
    scores: tuple[Array, ...]

    @property
    def labels(self) -> Array:
        """The class of each test clip of each split as its index in the dataset's classes, shape (tests,)."""
        every = labels_of(self.dataset)
        return np.concatenate([every[list(split.test)] for split in self.splits])

    def predicted(self) -> Array:
        """Return the class that each test clip of each split is taken for, shape (tests,)."""
        return np.concatenate([scores.argmax(axis=1) for scores in self.scores])

    def confusion(self) -> NDArray[np.int64]:
        """Return how many clips of each class (row) were taken for each (column), all splits added up."""
        classes = len(self.dataset.classes)
        counts = np.zeros((classes, classes), np.int64)
        np.add.at(counts, (self.labels, self.predicted()), 1)
        return counts

    def accuracy(self) -> float:
        """Return the share of test clips that get their label, all splits taken together."""
        return float((self.predicted() == self.labels).mean())

    def split_accuracy(self) -> Array:
        """Return the share of test clips that get their label in each split, shape (splits,)."""
        ends = np.cumsum([len(split.test) for split in self.splits])
        return np.array([part.mean() for part in np.split(self.predicted() == self.labels, ends[:-1])])

    def class_accuracy(self) -> Array:
        """Return the accuracy of each class, NaN for one that no split tests."""
        counts = self.confusion()
        tested = counts.sum(axis=1)
        return np.divide(np.diag(counts), tested, out=np.full(len(tested), np.nan), where=tested > 0)

    def average_precision(self) -> float:
        """Return the mean over classes and splits of the average precision of the ranked test clips."""
        from sklearn.metrics import average_precision_score

        values, every = [], labels_of(self.dataset)
        for split, found in zip(self.splits, self.scores, strict=True):
            labels = every[list(split.test)]
            # scikit-learn refuses the infinite scores of a class that training lacks.
            scores = np.maximum(found, np.finfo(np.float64).min)
            values += [average_precision_score(labels == k, scores[:, k]) for k in np.unique(labels).tolist()]
        return float(np.mean(values))


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
    dataset : Dataset
    params : EncodingParams
    results : tuple of SplitResult
    empty : tuple of int
        Clips without a trajectory, as indices of the dataset's items; their vectors are zero.
    extraction : dict or None
        The parameters that all videos were extracted with; None where they differ or are unknown.
    seconds : dict of str to float
        Time that it took to "learn" codebooks, to "encode" (with the inner products or distances of the vectors) and
        to "classify", all splits added up.
    """

    dataset: Dataset
    params: EncodingParams
    results: tuple[SplitResult, ...]
    empty: tuple[int, ...] = ()
    extraction: dict[str, Any] | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def channels(self) -> list[str]:
        """The channels that have scores, `COMBINED` last."""
        return list(self.results[0].scores)

    def scored(self, channel: str = COMBINED) -> Scored:
        """Return the scores of a channel by all splits."""
        return Scored(self.dataset, tuple(result.split for result in self.results),
                      tuple(result.scores[channel] for result in self.results))

    def confusion(self, channel: str = COMBINED) -> NDArray[np.int64]:
        """Return `Scored.confusion` of a channel."""
        return self.scored(channel).confusion()

    def accuracy(self, channel: str = COMBINED) -> float:
        """Return `Scored.accuracy` of a channel."""
        return self.scored(channel).accuracy()

    def split_accuracy(self, channel: str = COMBINED) -> Array:
        """Return `Scored.split_accuracy` of a channel."""
        return self.scored(channel).split_accuracy()

    def class_accuracy(self, channel: str = COMBINED) -> Array:
        """Return `Scored.class_accuracy` of a channel."""
        return self.scored(channel).class_accuracy()

    def average_precision(self, channel: str = COMBINED) -> float:
        """Return `Scored.average_precision` of a channel."""
        return self.scored(channel).average_precision()


def evaluate(dataset: Dataset, videos: Sequence[Features], splits: Iterable[Split],
             params: EncodingParams | None = None, *, threads: int = 1,
             progress: Callable[[Split, str, float], None] | None = None) -> Evaluation:
    """Learn and test on each split of a dataset.

    Parameters
    ----------
    dataset : Dataset
    videos : sequence of Features
        The trajectories of each of its clips, in its order (see `rows_of`).
    splits : iterable of Split
        From `idt.recognition.datasets.splits`.
    params : EncodingParams, optional
    threads : int
        Channels that are learnt, or clips that are encoded, at a time; it does not change the result.
    progress : callable, optional
        Called with the split, the step ("learn", "encode" or "classify") and the share of the step that is done: when a
        step begins, and after each channel that is learnt and each clip that is encoded by a channel.

    Returns
    -------
    Evaluation

    Raises
    ------
    ParameterError
        There are not as many videos as clips, a channel is missing, or too few descriptors.
    """
    params, threads = params or EncodingParams(), checked_integer("threads", threads)
    check_number(dataset, videos)
    labels = labels_of(dataset)
    seconds = dict.fromkeys(STEPS, 0.0)
    results = []
    for split in splits:
        tell = partial(progress or _say_nothing, split)
        learner = Learner([videos[n] for n in split.train])
        similar = similarities(videos, split, learner, params, threads=threads, wall=seconds, tell=tell)
        tell("classify", 0.0)
        with _timed(seconds, "classify"):
            channels = {name: [one.values] for name, one in similar.items()}
            channels[COMBINED] = [one.values for one in similar.values()]
            train = labels[list(split.train)]
            scores = {name: decide(kernel_of(values, len(train), params), train, len(dataset.classes),
                                   cost=params.cost, balanced=params.balanced) for name, values in channels.items()}
        results.append(SplitResult(split, scores))
    if not results:
        raise ParameterError(f"There is no split of {dataset.name} to evaluate.")
    used = sorted({n for result in results for n in (*result.split.train, *result.split.test)})
    return Evaluation(dataset, params, tuple(results), tuple(n for n in used if not len(videos[n])),
                      shared_extraction([videos[n] for n in used]), seconds)


@dataclass(frozen=True, eq=False)
class Similarity:
    """How alike the clips of a split are by one channel.

    Attributes
    ----------
    values : ndarray, shape (clips, clips)
        Inner products of the vectors, of bags of words their χ² distances; training clips first, then test clips.
    size : int
        Numbers of a vector.
    seconds : dict of str to float
        Time of one processor core for "learn" and "encode".
    """

    values: Array
    size: int
    seconds: dict[str, float]


def similarities(videos: Sequence[Features], split: Split, learner: Learner, params: EncodingParams, *, threads: int,
                 wall: dict[str, float], tell: Callable[[str, float], None]) -> dict[str, Similarity]:
    """Return how alike the clips of a split are by each channel, which is learnt from its training side.

    The vectors, which may be large, are not kept.

    Parameters
    ----------
    videos : sequence of Features
        The trajectories of each clip of the dataset.
    split : Split
    learner : Learner
        Of the training clips.
    params : EncodingParams
    threads : int
        Channels that are learnt, or clips that are encoded, at a time.
    wall : dict of str to float
        The time that passes is added to its "learn" and "encode".
    tell : callable
        Called with the step ("learn" or "encode") and the share of it that is done.
    """
    every = [videos[n] for n in (*split.train, *split.test)]
    found = {}
    # Around all threads: the limit is that of the process.
    with one_thread():
        with _timed(wall, "learn"):
            told, learnt = _counting(tell, "learn", len(params.channels)), {}
            channels = mapped(lambda name: learner.channel(name, params), iter(params.channels), threads)
            for name, one in zip(params.channels, channels, strict=True):
                learnt[name] = one
                told()
        with _timed(wall, "encode"):
            told = _counting(tell, "encode", len(params.channels) * len(every))
            for name, (channel, seconds) in learnt.items():
                began = time.process_time()
                vectors = encode_all(every, Codebook({name: channel}), threads=threads, report=told)[name]
                values = chi2_distances(vectors) if params.encoder == "bow" else gram(vectors)
                found[str(name)] = Similarity(values, channel.size, {"learn": seconds,
                                                                     "encode": time.process_time() - began})
    return found


def kernel_of(similar: Sequence[Array], train: int, params: EncodingParams) -> Array:
    """Return the kernel of the clips by some channels, shape (clips, clips), of which `train` come first.

    For linear machines it is the sum of the inner products of all channels, for bags of words the RBF-χ² kernel, whose
    widths are those of the training clips.
    """
    if params.encoder == "bow":
        return rbf_chi2_kernel(similar, np.array([mean_distance(values[:train, :train]) for values in similar]))
    return sum(similar[1:], similar[0])


def decide(kernel: Array, labels: Array, classes: int, *, cost: float, balanced: bool) -> Array:
    """Return the scores of the clips behind those that have labels; -inf for a class that these lack.

    Parameters
    ----------
    kernel : ndarray, shape (clips, clips)
    labels : ndarray, shape (training clips,)
        The class of each of the first clips.
    classes : int
    cost, balanced
        See `EncodingParams`.

    Returns
    -------
    ndarray, shape (clips − training clips, classes), float64
    """
    n = len(labels)
    machine = LinearSVM(C=cost, class_weight="balanced" if balanced else None).fit_gram(kernel[:n, :n], labels)
    scores = np.full((len(kernel) - n, classes), -np.inf)
    scores[:, machine.classes_] = machine.decide_gram(kernel[n:, :n])
    return scores


def _say_nothing(*_: object) -> None:
    pass


def _counting(tell: Callable[[str, float], None], step: str, total: int) -> Callable[..., None]:
    """Return what is to be called after each part of a step that begins now."""
    done = itertools.count()

    def one_more(*_: object) -> None:
        tell(step, next(done) / total)

    one_more()
    return one_more


@contextmanager
def _timed(seconds: dict[str, float], what: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[what] += time.perf_counter() - began
