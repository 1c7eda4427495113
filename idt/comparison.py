"""Many methods on the splits of one dataset: their scores side by side, and what can be concluded from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from idt.datasets import Dataset, Split, units_of
from idt.errors import ParameterError
from idt.evaluation import Scored
from idt.methods import Method
from idt.params import nearest

Array: TypeAlias = NDArray[Any]


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
    """

    method: Method
    scores: tuple[Array, ...]
    seconds: dict[str, float]
    bytes: dict[str, int]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Methods on the same splits of a dataset. A test is a test clip of a split.

    Attributes
    ----------
    dataset : Dataset
    splits : tuple of Split
    rows : tuple of Row
        One for each method, in the order in which they were given.
    """

    dataset: Dataset
    splits: tuple[Split, ...]
    rows: tuple[Row, ...]

    @property
    def names(self) -> list[str]:
        """The names of the methods."""
        return [row.method.name for row in self.rows]

    @property
    def labels(self) -> Array:
        """The class of each test as its index in the dataset's classes, shape (tests,), split after split."""
        return self.scored(self.names[0]).labels

    def row(self, name: str) -> Row:
        """Return the row of a method; an unknown name raises `ParameterError` that tells the nearest one."""
        for row in self.rows:
            if row.method.name == name:
                return row
        raise ParameterError(f"{name!r} is no method of the comparison{nearest(name, self.names)} The methods are: "
                             f"{', '.join(self.names)}.")

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

    def interval(self, name: str, *, level: float = 0.95, samples: int = 2000, seed: int = 0) -> tuple[float, float]:
        """Return the interval of the accuracy of a method by a percentile bootstrap over groups.

        The groups of the tests (the videos, of clips without a group) are drawn with replacement, as many as there are,
        each with all of its tests: clips of one group are too alike to count as independent. What was learnt stays as
        it is, so that the interval tells of other test clips, not of other training clips.

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
        right, every = self._right(name), np.array(units_of(self.dataset))
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
