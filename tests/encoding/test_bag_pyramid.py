"""Spatio-temporal pyramids of bags against the oracle."""

from __future__ import annotations

import re

import numpy as np
import pytest
from random_bags import bag, encoder

import naive
from idt.encoding import Normalise, Pyramid
from idt.encoding.bags import LazyBag
from idt.errors import ParameterError

GRIDS = ("1x1x1", "1x3x1", "2x2x2", "1x1x2", "10x1x12")
COUNTS = ((1, 1, 1), (1, 3, 1), (2, 2, 2), (1, 1, 2), (10, 1, 12))


def positions(n, seed=0):
    return np.random.default_rng(seed).random((n, 3), np.float32)


def test_cells_in_their_order():
    position = positions(300)
    pyramid = Pyramid(GRIDS)
    cells = pyramid.cells(position)
    assert len(cells) == pyramid.size == 1 + 3 + 8 + 2 + 120
    for own, expected in zip(cells, naive.pyramid_cells(position.astype(np.float64), COUNTS), strict=True):
        assert own.tolist() == expected
    start = 0
    for counts in COUNTS:  # each descriptor is in one cell of each grid
        here = cells[start:start + np.prod(counts)]
        assert sorted(np.concatenate(here).tolist()) == list(range(300))
        start += np.prod(counts)


def test_edges_of_cells_and_positions_outside():
    thirds = np.float32([-5, -1e-6, 0, 0.333, 0.334, 0.666, 0.667, 0.999, 1, 1.5, 1e30])
    position = np.column_stack([np.zeros(11), thirds, np.full(11, 0.5)])
    cells = Pyramid(["1x3x1", "1x1x2"]).cells(position)
    assert [cell.tolist() for cell in cells] == [[0, 1, 2, 3], [4, 5], [6, 7, 8, 9, 10], [], list(range(11))]
    half = Pyramid(["2x1x1"]).cells(np.float16([[0.5, 0, 0], [0.4998, 0, 0]]))
    assert [cell.tolist() for cell in half] == [[1], [0]]
    third = np.float16([[0.33325, 0, 0]])  # three times which is 1 in float16
    assert [cell.tolist() for cell in Pyramid(["3x1x1"]).cells(third)] == [[0], [], []]


def test_vectors_of_cells_one_after_the_other():
    x, position, pyramid = bag(500, 4), positions(500), Pyramid(GRIDS[:3])
    for name in ("bow", "intra", "fisher"):
        made = encoder(name)
        cells = [x[rows] for rows in naive.pyramid_cells(position.astype(np.float64), COUNTS[:3])]
        found = pyramid.encode(made, x, position)
        assert found.shape == (pyramid.size * made.size,)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, np.concatenate([made.encode(cell) for cell in cells]))
        normed = pyramid.encode(made, x, position, norm=Normalise())
        np.testing.assert_array_equal(normed, np.ravel(Normalise().transform(made.transform(cells))))
        np.testing.assert_array_equal(pyramid.encode(made, LazyBag(x), position), found)
    np.testing.assert_array_equal(Pyramid().encode(made, x, position), made.encode(x))


def test_cells_without_descriptors_are_zero():
    made, pyramid = encoder("fisher"), Pyramid(["1x1x1", "1x1x2"])
    position = positions(20) * np.float32([1, 1, 0.4])
    parts = pyramid.encode(made, bag(20, 4), position, norm=Normalise()).reshape(3, -1)
    np.testing.assert_array_equal(parts[0], parts[1])
    assert not parts[2].any()
    assert not pyramid.encode(made, bag(0, 4), positions(0), norm=Normalise()).any()


def test_a_row_that_cannot_be_used_is_that_of_the_bag():
    x, position = bag(50, 4), positions(50)
    x[33, 1] = np.nan
    position[:, 1] = 0.1
    position[20:, 1] = 0.9
    with pytest.raises(ParameterError, match="in row 33:"):
        Pyramid(["1x2x1"]).encode(encoder("fisher"), x, position)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_positions_that_a_grid_needs(value):
    position = positions(9)
    position[4, 2] = value
    assert [len(cell) for cell in Pyramid(["1x1x1"]).cells(position)] == [9]
    assert sum(len(cell) for cell in Pyramid(["2x3x1"]).cells(position)) == 9
    with pytest.raises(ParameterError, match="position has no finite t in row 4, and the pyramid has cells along t"):
        Pyramid(["1x1x1", "1x1x2"]).cells(position)
    position[3, 0] = value
    with pytest.raises(ParameterError, match="no finite x in row 3"):
        Pyramid(["2x1x1"]).cells(position)


@pytest.mark.parametrize("grid", ["", "1x1", "0x1x1", "1x1x1x1", "100x1x1", "1X1X1", "1x-1x1", "axbxc", "1x1x1\n",
                                  " 1x1x1", "01x1x1", "1x1x²", (1, 1, 1), 3, None])
def test_grids_that_are_refused(grid):
    with pytest.raises(ParameterError, match=re.escape(f"grids has {grid!r}: a grid is written as cells along x, y")):
        Pyramid(["1x1x1", grid])


def test_arguments_that_do_not_fit():
    for grids in ("1x1x1", (), []):
        with pytest.raises(ParameterError, match="it must be a sequence of at least one grid"):
            Pyramid(grids)
    for position in (np.zeros((3, 2)), np.zeros(3), np.zeros((3, 3), int)):
        with pytest.raises(ParameterError, match="it must be an array"):
            Pyramid().cells(position)
    with pytest.raises(ParameterError, match="The bag has 3 descriptors and position 4 rows"):
        Pyramid().encode(encoder("bow"), bag(3, 4), positions(4))
    with pytest.raises(ParameterError, match="has 5 columns: 4 are needed"):
        Pyramid().encode(encoder("bow"), bag(3, 5), positions(3))
