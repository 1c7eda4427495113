"""Many methods on the splits of one dataset: their scores side by side, and what can be concluded from them."""

from __future__ import annotations

import itertools
import logging
import math
import os
import time
import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from idt._util.checks import checked_integer
from idt._util.files import prepared
from idt.comparison.methods import ExternalMethod, FeatureMethod, Fusion, Method, check_methods, require_name
from idt.comparison.tables import Table, read_scores, read_vectors
from idt.encoding.fusion import fuse
from idt.encoding.svm import gram
from idt.errors import FormatError, ParameterError
from idt.features.record import Features
from idt.params import Params
from idt.recognition.classifier import check_classes, check_number, labels_of
from idt.recognition.clip_features import features_of, features_paths
from idt.recognition.codebook_learning import Learner, learnt_by
from idt.recognition.datasets import Dataset, Split, drawn_units, units_of
from idt.recognition.datasets import splits as make_splits
from idt.recognition.evaluation import Scored, decide, kernel_of, similarities
from idt.recognition.vectors import EncodingParams, differing, extraction_of
from idt.runner.log import read_status

Array: TypeAlias = NDArray[Any]
Paths: TypeAlias = str | os.PathLike[str]
Read: TypeAlias = Callable[[Path, Params], Sequence[Features]]

STEPS = ("extract", "learn", "encode", "classify")
"""What is done for a method."""

LEVEL, SAMPLES = 0.95, 2000
"""Of the intervals, unless others are asked for."""

_log = logging.getLogger("idt")

_FOLDS = 5  # of the training side, by which weights are found
_TENTHS = 10  # weights are multiples of 1 / 10
_CHANNELS = EncodingParams().channels
_BYTES = ("features", "vectors")


@dataclass(frozen=True)
class McNemar:
    """McNemar's test of whether two methods are right equally often on the same test clips.

    Attributes
    ----------
    only_a, only_b : int
        Tests in which the first alone is right, and the second alone.
    statistic : float
        χ² with continuity correction, (|only_a − only_b| − 1)² / (only_a + only_b); 0 where the two are equal.
    p : float
        Probability of a difference at least as large when both are right equally often: the exact binomial test,
        two-sided. Tests count as independent, so that splits that test a clip several times make it too small.
    """

    only_a: int
    only_b: int
    statistic: float
    p: float


@dataclass(frozen=True, eq=False)
class Row:
    """A method and its scores.

    Attributes
    ----------
    method : Method
    scores : tuple of ndarray, shape (test clips, classes), float64
        Of each split, its clips in the order of ``split.test``.
    seconds : dict of str to float
        Time of one processor core for "extract", "learn", "encode" and "classify", all splits added up, as if no other
        method shared the work; what is not known is missing.
    bytes : dict of str to int
        Size of its "features" on the disk and of the "vectors" that its classifier learns from and labels.
    weights : tuple of tuple of float
        Of a weighted fusion: for each split the weights of its methods, whose scores are first divided by their
        standard deviation on the training side.
    """

    method: Method
    scores: tuple[Array, ...]
    seconds: dict[str, float]
    bytes: dict[str, int]
    weights: tuple[tuple[float, ...], ...] = ()

    @property
    def time(self) -> float | None:
        """Seconds in all; None where it is not known what all steps took."""
        return sum(self.seconds.values()) if "extract" in self.seconds else None


@dataclass(frozen=True, eq=False)
class Comparison:
    """Methods on the same splits of a dataset. A test is a test clip of a split.

    Attributes
    ----------
    dataset : Dataset
    splits : tuple of Split
    rows : tuple of Row
        One for each method, in the order in which they were given.
    features : dict of Params to sequence of Features
        For each kind of extraction the trajectories of every clip of the dataset, in its order.
    """

    dataset: Dataset
    splits: tuple[Split, ...]
    rows: tuple[Row, ...]
    features: Mapping[Params, Sequence[Features]] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The names of the methods."""
        return [row.method.name for row in self.rows]

    @property
    def labels(self) -> Array:
        """The class of each test as its index in the dataset's classes, shape (tests,), split after split."""
        return self.scored(self.names[0]).labels

    @property
    def drawn(self) -> tuple[int, str]:
        """How many units the bootstrap of `interval` draws, and what they are, such as (9, "groups")."""
        units, kind = drawn_units(self.dataset)
        return len({units[n] for split in self.splits for n in split.test}), kind

    def row(self, name: str) -> Row:
        """Return the row of a method; an unknown name raises `ParameterError` that tells the nearest one."""
        require_name(name, self.names)
        return self.rows[self.names.index(name)]

    def scored(self, name: str) -> Scored:
        """Return the scores of a method by all splits."""
        return Scored(self.dataset, self.splits, self.row(name).scores)

    def predicted(self, name: str) -> Array:
        """Return `Scored.predicted` of a method."""
        return self.scored(name).predicted()

    def confusion(self, name: str) -> NDArray[np.int64]:
        """Return `Scored.confusion` of a method."""
        return self.scored(name).confusion()

    def accuracy(self, name: str) -> float:
        """Return `Scored.accuracy` of a method."""
        return self.scored(name).accuracy()

    def split_accuracy(self, name: str) -> Array:
        """Return `Scored.split_accuracy` of a method."""
        return self.scored(name).split_accuracy()

    def class_accuracy(self, name: str) -> Array:
        """Return `Scored.class_accuracy` of a method."""
        return self.scored(name).class_accuracy()

    def average_precision(self, name: str) -> float:
        """Return `Scored.average_precision` of a method."""
        return self.scored(name).average_precision()

    def interval(self, name: str, *, level: float = LEVEL, samples: int = SAMPLES, seed: int = 0
                 ) -> tuple[float, float]:
        """Return the interval of the accuracy of a method by a percentile bootstrap over groups.

        The groups of the tests (the videos, of clips without a group; see `drawn_units`) are drawn with
        replacement, as many as there are, each with all of its tests: clips of one group are too alike to count as
        independent. What was learnt stays as it is, so that the interval tells of other test clips, not of other
        training clips.

        Parameters
        ----------
        name : str
        level : float
            Share of the drawn accuracies that lie inside, between 0 and 1.
        samples : int
            How often they are drawn.
        seed : int
            The same seed gives the same interval.

        Raises
        ------
        ParameterError
            No such method, or a number is out of its limits.
        """
        if not 0 < level < 1:
            raise ParameterError(f"level is {level}: it must be above 0 and below 1.")
        if samples < 1:
            raise ParameterError(f"samples is {samples}: it must be at least 1.")
        right, every = self._right(name), np.array(drawn_units(self.dataset)[0])
        _, unit = np.unique(np.concatenate([every[list(split.test)] for split in self.splits]), return_inverse=True)
        tests, rights = np.bincount(unit), np.bincount(unit, right)
        rng = np.random.default_rng(seed)
        drawn = (rng.integers(len(tests), size=len(tests)) for _ in range(samples))
        low, high = np.quantile([rights[units].sum() / tests[units].sum() for units in drawn],
                                [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)

    def mcnemar(self, a: str, b: str) -> McNemar:
        """Return McNemar's test of two methods."""
        from scipy.stats import binomtest

        right_a, right_b = self._right(a), self._right(b)
        only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
        apart, both = abs(only_a - only_b), only_a + only_b
        return McNemar(only_a, only_b, max(apart - 1, 0) ** 2 / both if both else 0.0,
                       float(binomtest(only_a, both).pvalue) if both else 1.0)

    def _right(self, name: str) -> NDArray[np.bool_]:
        """Tell of each test whether its clip gets its label."""
        return self.predicted(name) == self.labels


def compare(dataset: Dataset, methods: Sequence[Method], splits: Iterable[Split], features: Paths, *,
            codebooks: Paths | None = None, threads: int = 1, read: Read | None = None,
            progress: Callable[[Split, str, float], None] | None = None) -> Comparison:
    """Learn and test several methods on each split of a dataset; what they share is done once.

    Everything that is learnt is learnt on the training side of a split alone, the weights of fusions included: these
    are the ones, of all in tenths, with which most clips of that side are right when each fifth of it is labelled by
    classifiers that learnt from the other four (groups are not divided; PCA and codebooks are those of the whole side);
    of equally good ones those that differ least. Classifiers of tables of scores were learnt elsewhere, so that their
    rows for training clips count as they are. It is logged as a warning, once for each method, that classifiers have
    not quite reached their optimum, as with a very large `cost`.

    Parameters
    ----------
    dataset : Dataset
    methods : sequence of Method
        See `idt.comparison.methods.read_methods` and `idt.comparison.methods.preset`.
    splits : iterable of Split
        From `idt.recognition.datasets.splits`.
    features : path
        Folder of the features, which has one for each kind of extraction, see `features_folder`; what is missing is
        extracted into it. A folder that `idt extract` or `idt evaluate` filled serves the kind that it has.
    codebooks : path, optional
        Folder that keeps PCA and codebooks, so that another comparison need not learn them again.
    threads : int
        Threads inside one video, then channels that are learnt, or clips that are encoded, at a time.
    read : callable, optional
        Called with the folder and the parameters of an extraction, returns the features of all clips. Default:
        `idt.recognition.clip_features.features_of`, one video at a time.
    progress : callable, optional
        Called with the split, the step ("learn", "encode" or "classify") and the share of the split that is done.

    Returns
    -------
    Comparison

    Raises
    ------
    ParameterError
        The methods do not fit together (see `check_methods`), there is no split or one class only, the
        weights of a fusion cannot be found, or too few descriptors.
    FormatError
        A table cannot be used (see `read_scores`), or has no row for a clip that needs one: for scores
        those that are tested, and those on the training side for weights; for features all that are used. Tables are
        read before any video is.
    VideoError, OutputError
        As `idt.recognition.clip_features.features_of`; `codebooks` cannot be a folder.
    """
    methods, splits, threads = tuple(methods), tuple(splits), checked_integer("threads", threads)
    check_methods(methods)
    check_classes(dataset)
    if not splits:
        raise ParameterError(f"There is no split of {dataset.name} to compare on.")
    run = _Run(dataset, methods, splits, codebooks)
    if codebooks is not None and extractions(methods):
        prepared(Path(codebooks, "codebook.npz"))  # rather than after all extraction
    videos = _read_all(dataset, methods, features, run.costs, read or partial(features_of, dataset, threads=threads))
    # Only what rows keep: kernels are as large as the square of the clips.
    sides = [replace(run.split(split, videos, threads, partial(progress or _say_nothing, split)), inner={}, kernels={})
             for split in splits]
    for name, found in run.unsolved.items():
        _log.warning("%s: the SVM has not quite reached its optimum in %d of %d splits: take a smaller cost.", name,
                     len(found), len(splits))
    rows = []
    for method in methods:
        sizes = {kind: int(size) for kind, size in run.costs.of(method.name, _BYTES).items()}
        rows.append(Row(method, tuple(side.scores[method.name] for side in sides), run.costs.of(method.name, STEPS),
                        sizes, tuple(side.weights[method.name] for side in sides if method.name in side.weights)))
    return Comparison(dataset, splits, tuple(rows), videos)


def features_folder(folder: Paths, extraction: Params) -> Path:
    """Return the folder of the features of one kind of extraction, such as ``improved-farneback-1a2b3c4d``.

    The digits are of the fingerprint of the parameters.
    """
    kind = "improved" if extraction.camera else "dense"
    return Path(folder, f"{kind}-{extraction.flow}-{extraction.fingerprint()[:8]}")


def extractions(methods: Iterable[Method]) -> list[Params]:
    """Return the parameters of each kind of extraction that the methods need, in their order."""
    return list(dict.fromkeys(method.extraction for method in methods if isinstance(method, FeatureMethod)))


def _say_nothing(*_: object) -> None:
    pass


@dataclass(frozen=True)
class _Costs:
    """Seconds and bytes of pieces of work, and the pieces of each method; the first part of a piece tells its kind."""

    amounts: dict[tuple[Hashable, ...], float] = field(default_factory=dict)
    pieces: dict[str, set[tuple[Hashable, ...]]] = field(default_factory=dict)

    def add(self, amount: float, *piece: Hashable) -> None:
        self.amounts[piece] = self.amounts.get(piece, 0.0) + amount

    @contextmanager
    def timed(self, *piece: Hashable) -> Iterator[None]:
        began = time.process_time()
        yield
        self.add(time.process_time() - began, *piece)

    def charge(self, name: str, *piece: Hashable) -> None:
        self.pieces.setdefault(name, set()).add(piece)

    def of(self, name: str, kinds: Sequence[str]) -> dict[str, float]:
        """Return the sum of each kind for a method, apart from kinds that it has not or that are not known (NaN)."""
        found = {}
        for kind in kinds:
            amounts = [self.amounts.get(piece, 0.0) for piece in self.pieces.get(name, ()) if piece[0] == kind]
            if amounts and not math.isnan(total := math.fsum(amounts)):
                found[kind] = total
        return found


def _read_all(dataset: Dataset, methods: Sequence[Method], folder: Paths, costs: _Costs, read: Read
              ) -> dict[Params, Sequence[Features]]:
    """Return the features of all clips by each kind of extraction."""
    videos = {}
    for extraction in extractions(methods):
        place = _place(dataset, Path(folder), extraction)
        videos[extraction] = read(place, extraction)
        check_number(dataset, videos[extraction])
        files = {video.path for video in videos[extraction] if video.path is not None}
        costs.add(sum(os.path.getsize(path) for path in files), "features", extraction)
        costs.add(_seconds(place, files), "extract", extraction)
    for method in methods:
        if isinstance(method, FeatureMethod):
            costs.charge(method.name, "features", method.extraction)
            costs.charge(method.name, "extract", method.extraction)
    return videos


def _place(dataset: Dataset, folder: Path, extraction: Params) -> Path:
    """Return the folder of the features of one kind of extraction: that of this kind, or the given one that has it."""
    place = features_folder(folder, extraction)
    if place.exists():
        return place
    for found in features_paths(dataset, folder):
        try:
            made = extraction_of(Features.load(found))
        except FormatError:  # there is none, or it is damaged
            continue
        break
    else:
        return place
    if made == extraction.to_dict():
        return folder
    others = f" ({', '.join(differing(made, extraction.to_dict()))})" if made else ""
    _log.warning("%s was extracted otherwise than a method asks for%s: features for that are put into %s.", found,
                 others, place)
    return place


def _seconds(folder: Path, files: Iterable[str]) -> float:
    """Return how long the extraction of features took by the reports of their folder, NaN where these do not tell."""
    try:
        told = read_status(folder).videos
    except FormatError:
        return math.nan
    seconds = (told.get(os.path.relpath(path, folder), {}).get("seconds") for path in files)
    return math.fsum(math.nan if one is None else one for one in seconds)


@dataclass(frozen=True)
class _Side:
    """What becomes of a split, for each method.

    `inner` are scores of the training clips by classifiers that have not seen them, `kernels` the inner products of the
    vectors scaled to length 1; both only of methods that a fusion needs them of.
    """

    split: Split
    scores: dict[str, Array] = field(default_factory=dict)
    inner: dict[str, Array] = field(default_factory=dict)
    kernels: dict[str, Array] = field(default_factory=dict)
    weights: dict[str, tuple[float, ...]] = field(default_factory=dict)


class _Run:
    """Puts methods to one split after the other; what can be found wrong before any video is read is."""

    def __init__(self, dataset: Dataset, methods: Sequence[Method], splits: Sequence[Split], codebooks: Paths | None
                 ) -> None:
        self._dataset, self._methods = dataset, {method.name: method for method in methods}
        self._labels, self._classes = labels_of(dataset), len(dataset.classes)
        self._codebooks = codebooks
        self._used = sorted({n for split in splits for n in (*split.train, *split.test)})
        self.costs = _Costs()
        self.unsolved: dict[str, set[str]] = {}  # splits of methods whose classifiers have not reached their optimum
        self._weighted = _weighted(methods)
        self._joined = {name for method in methods if isinstance(method, Fusion) and method.how == "concatenation"
                        for name in method.of}
        self._tables = {method.name: self._table(method, splits) for method in methods
                        if isinstance(method, ExternalMethod)}
        self._folds = {split: self._divided(split) for split in splits} if self._weighted else {}

    def _table(self, method: ExternalMethod, splits: Sequence[Split]) -> Table:
        self.costs.add(math.nan, "extract", method.name)  # what the network took, nobody has told
        self.costs.charge(method.name, "extract", method.name)
        if method.scores is not None:
            table = read_scores(method.scores, self._dataset, splits, method.name)
            table.require(self._dataset, [(split, split.test) for split in splits], "tested")
            if method.name in self._weighted:
                table.require(self._dataset, [(split, split.train) for split in splits],
                              f"on a training side, where the weights of {self._weighted[method.name]} are found,")
            return table
        assert method.features is not None
        table = read_vectors(method.features, self._dataset, splits)
        table.require(self._dataset, [(split, (*split.train, *split.test)) for split in splits], "used")
        if zero := int((~table.values.any(axis=1)).sum()):
            _log.warning("%s: %d of %d rows hold nothing but zeros, which tell nothing of their clips.",
                         method.features, zero, len(table.values))
        self.costs.add(method.features.stat().st_size, "features", method.name)
        self.costs.add(len(self._used) * table.values[0].nbytes, "vectors", method.name)
        for kind in _BYTES:
            self.costs.charge(method.name, kind, method.name)
        return table

    def _divided(self, split: Split) -> list[tuple[Array, Array]]:
        """Return the training and test clips of each fold of the training side, as indices of it."""
        items = tuple(self._dataset.items[n] for n in split.train)
        labels = {item.label for item in items}
        side = replace(self._dataset, items=items,
                       classes=tuple(label for label in self._dataset.classes if label in labels))
        try:
            folds = make_splits(side, "k-fold", folds=max(2, min(_FOLDS, len(set(units_of(side))))))
        except ParameterError as error:
            raise ParameterError(f"{next(iter(self._weighted.values()))}: its weights are found on divisions of the "
                                 f"training side, which that of {split.name} does not allow: {error} Choose another "
                                 "fusion.") from None
        return [(np.array(fold.train), np.array(fold.test)) for fold in folds]

    def split(self, split: Split, videos: Mapping[Params, Sequence[Features]], threads: int,
              tell: Callable[[str, float], None]) -> _Side:
        """Return what the methods make of a split."""
        # Methods of a group differ only in their channels and their classifier.
        groups: dict[tuple[Params, EncodingParams], list[FeatureMethod]] = {}
        for method in self._methods.values():
            if isinstance(method, FeatureMethod):
                encoding = replace(method.encoding, channels=_CHANNELS, cost=1.0, balanced=False)
                groups.setdefault((method.extraction, encoding), []).append(method)
        learners: dict[Params, Learner] = {}
        side, parts = _Side(split), 2 * len(groups) + 1
        for number, ((extraction, encoding), members) in enumerate(groups.items()):
            def tell_of_group(step: str, share: float, done: int = 2 * number) -> None:
                tell(step, (done + (step == "encode") + share) / parts)

            try:
                if extraction not in learners:
                    learners[extraction] = Learner([videos[extraction][n] for n in split.train], folder=self._codebooks)
                self._encode(side, extraction, learners[extraction], encoding, members, videos[extraction], threads,
                             tell_of_group)
            except ParameterError as error:  # too few descriptors, most of all
                raise ParameterError(f"{members[0].name}, {split.name}: {error}") from error
        tell("classify", 1 - 1 / parts)
        for method in self._methods.values():
            if isinstance(method, ExternalMethod):
                self._look_up(side, method)
            elif isinstance(method, Fusion):
                self._fuse(side, method)
        return side

    def _encode(self, side: _Side, extraction: Params, learner: Learner, encoding: EncodingParams,
                methods: Sequence[FeatureMethod], videos: Sequence[Features], threads: int,
                tell: Callable[[str, float], None]) -> None:
        """Note the scores of the methods of a group, whose encoding is this with channels of their own."""
        names = tuple(dict.fromkeys(name for method in methods for name in method.encoding.channels))
        similar = similarities(videos, side.split, learner, replace(encoding, channels=names), threads=threads,
                               wall=dict.fromkeys(("learn", "encode"), 0.0), tell=tell)
        learnt = (*learnt_by(encoding), side.split.name)  # other groups may take the same words from the learner
        for name, one in similar.items():
            self.costs.amounts["learn", extraction, learnt, name] = one.seconds["learn"]
            self.costs.add(one.seconds["encode"], "encode", extraction, encoding, name)
            self.costs.amounts["vectors", extraction, encoding, name] = 4 * one.size * len(self._used)
        for method in methods:
            for name in method.encoding.channels:
                self.costs.charge(method.name, "learn", extraction, learnt, name)
                self.costs.charge(method.name, "encode", extraction, encoding, name)
                self.costs.charge(method.name, "vectors", extraction, encoding, name)
            with self.costs.timed("classify", method.name):
                kernel = kernel_of([similar[name].values for name in method.encoding.channels], len(side.split.train),
                                   method.encoding)
            self._classify(side, method.name, kernel, method.encoding)

    def _classify(self, side: _Side, name: str, kernel: Array, machine: EncodingParams | ExternalMethod | Fusion
                  ) -> None:
        """Note the scores that a kernel gives; training clips come first in it."""
        labels = self._labels[list(side.split.train)]
        scores = partial(decide, classes=self._classes, cost=machine.cost, balanced=machine.balanced)
        self.costs.charge(name, "classify", name)
        with self.costs.timed("classify", name), self._solved(name, side.split):
            side.scores[name] = scores(kernel, labels)
        if name in self._weighted:
            with self.costs.timed("classify", name, "inner"), self._solved(name, side.split):
                side.inner[name] = np.full((len(labels), self._classes), -np.inf)
                for train, test in self._folds[side.split]:
                    order = np.concatenate([train, test])
                    side.inner[name][test] = scores(kernel[np.ix_(order, order)], labels[train])
        if name in self._joined:
            length = np.sqrt(np.diag(kernel))
            factor = np.divide(1, length, out=np.zeros(len(length)), where=length > 0)
            side.kernels[name] = kernel * factor * factor[:, None]

    @contextmanager
    def _solved(self, name: str, split: Split) -> Iterator[None]:
        """Note whether the classifiers of a method reach their optimum."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            yield
        for one in caught:
            if issubclass(one.category, ConvergenceWarning):
                self.unsolved.setdefault(name, set()).add(split.name)
            else:
                warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)

    def _look_up(self, side: _Side, method: ExternalMethod) -> None:
        """Note the scores of a table, or those that its features give."""
        table, train, test = self._tables[method.name], side.split.train, side.split.test
        if method.scores is not None:
            side.scores[method.name] = table.of(side.split, test).astype(np.float64)
            if method.name in self._weighted:
                side.inner[method.name] = table.of(side.split, train).astype(np.float64)
            return
        with self.costs.timed("classify", method.name):
            kernel = gram(table.unit(side.split, (*train, *test)))
        self._classify(side, method.name, kernel, method)

    def _fuse(self, side: _Side, fusion: Fusion) -> None:
        """Note the scores of a fusion, whose methods have theirs already."""
        joined = fusion.how == "concatenation"
        for name in fusion.of:
            for piece in self.costs.pieces.get(name, set()):
                if not (joined and piece[0] == "classify"):  # only their vectors are needed
                    self.costs.charge(fusion.name, *piece)
        if joined:
            self._classify(side, fusion.name, reduce(np.add, (side.kernels[name] for name in fusion.of)), fusion)
            return
        self.costs.charge(fusion.name, "classify", fusion.name)
        with self.costs.timed("classify", fusion.name):
            weights: list[float] | None = None
            if fusion.how == "weighted":
                for name in self._inner_of(fusion):
                    self.costs.charge(fusion.name, "classify", name, "inner")
                inner = [side.inner[name] for name in fusion.of]
                spreads = [float(np.std(table[np.isfinite(table)])) or 1.0 for table in inner]
                shares = _best_weights([table / spread for table, spread in zip(inner, spreads, strict=True)],
                                       self._labels[list(side.split.train)])
                side.weights[fusion.name] = shares
                weights = [share / spread for share, spread in zip(shares, spreads, strict=True)]
            side.scores[fusion.name] = _fused([side.scores[name] for name in fusion.of], fusion, weights)
            if fusion.name in self._weighted:
                side.inner[fusion.name] = _fused([side.inner[name] for name in fusion.of], fusion, weights)

    def _inner_of(self, fusion: Fusion) -> Iterator[str]:
        """Yield the methods whose inner scores those of a fusion are made of."""
        for name in fusion.of:
            method = self._methods[name]
            if isinstance(method, Fusion) and method.how != "concatenation":
                yield from self._inner_of(method)
            else:
                yield name


def _weighted(methods: Sequence[Method]) -> dict[str, str]:
    """Return the methods of which a weighted fusion needs scores of training clips, each with one such fusion."""
    found: dict[str, str] = {}
    for method in reversed(methods):  # a fusion comes after its methods
        if isinstance(method, Fusion) and (method.how == "weighted" or (
                method.how != "concatenation" and method.name in found)):
            found |= dict.fromkeys(method.of, method.name if method.how == "weighted" else found[method.name])
    return found


def _best_weights(tables: Sequence[Array], labels: Array) -> tuple[float, ...]:
    """Return the weights in tenths with which most clips are right; of equally good ones the most equal."""
    tried: list[tuple[int, ...]] = []
    for bars in itertools.combinations(range(_TENTHS + len(tables) - 1), len(tables) - 1):
        ends = (-1, *bars, _TENTHS + len(tables) - 1)
        tried.append(tuple(right - left - 1 for left, right in itertools.pairwise(ends)))
    tried.sort(key=lambda tenths: sum(n * n for n in tenths))
    finite = np.isfinite(tables).all(axis=(0, 1))
    columns, known = np.flatnonzero(finite), [table[:, finite] for table in tables]

    def right(tenths: tuple[int, ...]) -> int:
        scores = reduce(np.add, (n * table for n, table in zip(tenths, known, strict=True)))
        return int((columns[scores.argmax(axis=1)] == labels).sum())

    return tuple(n / _TENTHS for n in max(tried, key=right))


def _fused(tables: Sequence[Array], fusion: Fusion, weights: Sequence[float] | None) -> Array:
    """Return the scores of a fusion; -inf for a class that one of its methods has not learnt."""
    known = np.isfinite(tables).all(axis=(0, 1))
    scores = np.full(tables[0].shape, -np.inf)
    how = fusion.how
    assert how != "concatenation"
    scores[:, known] = fuse([table[:, known] for table in tables], method=how, weights=weights)
    return scores
