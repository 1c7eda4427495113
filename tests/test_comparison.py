"""comparison: methods on the same splits, what follows from their scores, intervals and McNemar's test."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from idt.comparison import Comparison, Row
from idt.datasets import Dataset, Item, Split, splits
from idt.errors import ParameterError
from idt.methods import ExternalMethod


def compared(dataset, parts, **predicted):
    """A comparison whose methods take the tests for these classes."""
    ends = np.cumsum([len(split.test) for split in parts])[:-1]
    rows = [Row(ExternalMethod(name=name, scores=Path("t.csv")), tuple(
        np.split(np.eye(len(dataset.classes))[classes], ends)), {}, {}) for name, classes in predicted.items()]
    return Comparison(dataset, tuple(parts), tuple(rows))


@pytest.fixture
def found():
    """Five groups of four clips of two classes, each tested once; what three methods make of them."""
    items = tuple(Item(f"{n}.avi", "ab"[n % 2], f"g{n // 4}") for n in range(20))
    dataset = Dataset(items, ("a", "b"), "d", "csv", ".")
    right = np.arange(20) % 2
    half = np.where(np.arange(20) < 10, right, 1 - right)
    return compared(dataset, splits(dataset, "leave-one-group-out"), good=right, half=half,
                    most=np.where(np.arange(20) % 4 == 1, 0, right))


def test_figures_are_those_of_the_scores(found):
    np.testing.assert_array_equal(found.labels, np.arange(20) % 2)
    np.testing.assert_array_equal(found.predicted("half"), np.r_[np.arange(10) % 2, 1 - np.arange(10) % 2])
    assert [found.accuracy(name) for name in found.names] == [1.0, 0.5, 0.75]
    np.testing.assert_array_equal(found.split_accuracy("half"), [1, 1, 0.5, 0, 0])
    np.testing.assert_array_equal(found.class_accuracy("most"), [1, 0.5])
    np.testing.assert_array_equal(found.confusion("most"), [[10, 0], [5, 5]])
    assert found.average_precision("good") == 1.0
    assert found.row("most") is found.rows[2]


def test_of_equal_scores_the_first_class_counts():
    dataset = Dataset((Item("a.avi", "a"), Item("b.avi", "b")), ("a", "b"), "d", "csv", ".")
    row = Row(ExternalMethod(name="flat", scores=Path("t.csv")), (np.zeros((2, 2)),), {}, {})
    assert Comparison(dataset, (Split("s", (), (1, 0)),), (row,)).predicted("flat").tolist() == [0, 0]


def test_the_interval_is_that_of_drawn_groups(found):
    assert found.interval("good") == (1.0, 1.0)
    assert found.interval("most") == (0.75, 0.75)  # three of four in every group
    # Of five groups k of 1, l of 0.5 and the others of 0: the quantiles of their exact distribution.
    shares = {}
    for k in range(6):
        for half in range(6 - k):
            ways = math.factorial(5) / (math.factorial(k) * math.factorial(half) * math.factorial(5 - k - half))
            share = (k + half / 2) / 5
            shares[share] = shares.get(share, 0) + ways * 0.4 ** (5 - half) * 0.2 ** half
    values = sorted(shares)
    total = np.cumsum([shares[value] for value in values])
    low, high = (values[int(np.searchsorted(total, q))] for q in (0.1, 0.9))
    assert found.interval("half", level=0.8, samples=5000) == pytest.approx((low, high))
    assert found.interval("half", level=0.8, samples=50) == found.interval("half", level=0.8, samples=50)
    assert found.interval("half", samples=3) != found.interval("half", samples=3, seed=1)


def test_clips_without_a_group_are_drawn_by_themselves():
    dataset = Dataset(tuple(Item(f"{n}.avi", "ab"[n % 2]) for n in range(400)), ("a", "b"), "d", "csv", ".")
    found = compared(dataset, splits(dataset, "k-fold"), half=np.zeros(400, int))
    assert found.interval("half") == pytest.approx((0.5 - 1.96 * 0.025, 0.5 + 1.96 * 0.025), abs=0.005)


def test_mcnemar_is_the_exact_binomial_test(found):
    test = found.mcnemar("good", "most")
    assert (test.only_a, test.only_b) == (5, 0)
    assert test.p == pytest.approx(2 / 2**5)
    assert test.statistic == 16 / 5
    test = found.mcnemar("half", "most")  # right alone: 3 of the first ten, 7 of the others
    assert (test.only_a, test.only_b) == (3, 8)
    assert test.p == pytest.approx(2 * sum(math.comb(11, k) for k in range(4)) / 2**11)
    assert test.statistic == 16 / 11
    turned = found.mcnemar("most", "half")
    assert (turned.only_a, turned.only_b, turned.p) == (8, 3, test.p)
    same = found.mcnemar("good", "good")
    assert (same.only_a, same.only_b, same.statistic, same.p) == (0, 0, 0.0, 1.0)


def test_what_cannot_be_asked(found):
    with pytest.raises(ParameterError, match=r"^'god' is no method of the comparison; did you mean good\? The "):
        found.accuracy("god")
    with pytest.raises(ParameterError, match=r"^level is 1: it must be above 0 and below 1\.$"):
        found.interval("good", level=1)
    with pytest.raises(ParameterError, match=r"^samples is 0: it must be at least 1\.$"):
        found.interval("good", samples=0)
