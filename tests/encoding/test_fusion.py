"""Late fusion of score tables."""

from __future__ import annotations

import numpy as np
import pytest

from idt.encoding.fusion import fuse
from idt.errors import ParameterError

A = np.array([[1.0, 2.0, 3.0], [0.0, 0.0, -1.0]])
B = np.array([[10.0, 0.0, -4.0], [5.0, 5.0, 5.0]])


def test_mean():
    np.testing.assert_array_equal(fuse([A, B]), [[5.5, 1, -0.5], [2.5, 2.5, 2]])
    np.testing.assert_array_equal(fuse([A]), A)
    fused = fuse([A.astype(np.float32), B.astype(int)])
    assert fused.dtype == np.float64
    np.testing.assert_array_equal(fused, fuse([A, B], method="mean"))


def test_weighted():
    np.testing.assert_array_equal(fuse([A, B], method="weighted", weights=[3, 1]),
                                  [[3.25, 1.5, 1.25], [1.25, 1.25, 0.5]])
    np.testing.assert_array_equal(fuse([A, B], method="weighted", weights=[0, 0.2]), B)
    np.testing.assert_allclose(fuse([A, B], method="weighted", weights=[7, 7]), fuse([A, B]))


def counts(fused, tables):
    """What rank fusion gives without the part that tells equal classes apart."""
    return np.round(2 * len(tables) * fused) / (2 * len(tables))


def test_rank_counts_the_classes_that_are_beaten():
    np.testing.assert_array_equal(counts(fuse([A], method="rank"), [A]), [[0, 1, 2], [1.5, 1.5, 0]])
    np.testing.assert_array_equal(counts(fuse([A, B], method="rank"), [A, B]), [[1, 1, 1], [1.25, 1.25, 0.5]])


def test_rank_does_not_depend_on_the_unit():
    rng = np.random.default_rng(0)
    tables = rng.normal(size=(3, 20, 5))
    np.testing.assert_allclose(fuse(tables, method="rank"),
                               fuse([0.1 * tables[0], 7 * tables[1] + 3, 100 * tables[2] - 5], method="rank"))
    bent = [tables[0], np.exp(3 * tables[1]), 100 * tables[2] - 5]
    np.testing.assert_array_equal(*(counts(fuse(each, method="rank"), tables) for each in (tables, bent)))
    np.testing.assert_allclose(fuse(tables, method="rank").sum(axis=1), 0 + 1 + 2 + 3 + 4)


def test_equal_ranks_are_told_apart_by_scores():
    sure, unsure = np.array([[0.0, 0.1, 5.0]]), np.array([[0.0, 1.1, 1.0]])  # 1 and 2 the other way round
    for tables in ([sure, unsure], [unsure, 1000 * sure], [sure + 7, unsure]):
        assert fuse(tables, method="rank").argmax(axis=1) == [2]
    flipped = [-np.log(1 + table[:, ::-1]) for table in (sure, unsure)]
    assert fuse(flipped, method="rank").argmax(axis=1) == [2]
    flat = np.ones((1, 3))
    np.testing.assert_array_equal(fuse([flat, flat], method="rank"), flat)  # nothing tells these apart


def test_no_score_outdoes_a_rank():
    rng = np.random.default_rng(1)
    for classes in (2, 3, 10):
        tables = [np.exp(8 * rng.normal(size=(200, classes))) for _ in range(4)]
        fused = fuse(tables, method="rank")
        whole = counts(fused, tables)
        order = np.sign(whole[:, :, None] - whole[:, None])
        assert (np.sign(fused[:, :, None] - fused[:, None])[order != 0] == order[order != 0]).all()


@pytest.mark.parametrize("options", [{}, {"method": "rank"}, {"method": "weighted", "weights": [1, 2]}])
def test_a_row_is_fused_by_itself(options):
    rows = [fuse([A[k:k + 1], B[k:k + 1]], **options) for k in range(2)]
    np.testing.assert_array_equal(np.vstack(rows), fuse([A, B], **options))


def test_the_tables_are_not_changed():
    a, b = A.copy(), B.copy()
    for options in ({}, {"method": "rank"}, {"method": "weighted", "weights": [1, 2]}):
        fuse([a, b], **options)
    np.testing.assert_array_equal(a, A)
    np.testing.assert_array_equal(b, B)


@pytest.mark.parametrize(("tables", "options", "message"), [
    ([], {}, "There is no table of scores to fuse"),
    ([A, B[:, :2]], {}, r"Score table 1 has the shape \(2, 2\) and table 0 \(2, 3\): all must be \(samples, classes\)"),
    ([A[0], A[0]], {}, r"Score table 0 has the shape \(3,\)"),
    ([A, np.where(B == 5, np.nan, B)], {}, "Row 1 of score table 1 has a value that is NaN or infinite"),
    ([np.array([[np.inf]])], {}, "Row 0 of score table 0 has a value that is NaN or infinite"),
    ([A], {"method": "max"}, "method is 'max': it must be 'mean', 'weighted' or 'rank'"),
    ([A], {"method": "weighted"}, "The method 'weighted' needs weights"),
    ([A], {"method": "rank", "weights": [1]}, "The method 'rank' takes no weights"),
    ([A, B], {"method": "weighted", "weights": [1]}, "There are 1 weights and 2 score tables"),
    ([A, B], {"method": "weighted", "weights": [1, -1]}, "A weight is -1: it must be 0 or more"),
    ([A, B], {"method": "weighted", "weights": [1, np.nan]}, "A weight is nan: it must be 0 or more"),
    ([A, B], {"method": "weighted", "weights": [0, 0]}, "All weights are 0"),
])
def test_bad_input_is_refused(tables, options, message):
    with pytest.raises(ParameterError, match=message):
        fuse(tables, **options)
