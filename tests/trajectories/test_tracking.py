"""idt.trajectories.tracking: live tracks against one slow track after another, and every test that ends one."""

from __future__ import annotations

import numpy as np
import pytest

import naive
import synthetic
from idt import Params
from idt.trajectories.tracking import Tracks
from rounding import gamma

pytestmark = pytest.mark.numeric

LENGTH = 6
LOOSE = Params(length=LENGTH, temporal_cells=2, min_std=0, min_motion=0, descriptors=("hog", "hof"))


def steady(x, y=0.0, size=(60, 80)):
    return np.full((*size, 2), (x, y), np.float32)


def follow(points, flows, moves=None, params=LOOSE, factor=1.0, size=(60, 80)):
    """Start tracks at `points` and take one step for each flow; return what each step finished, and the tracks."""
    tracks = Tracks(*size, np.float32(factor), params)
    tracks.start(np.float32(points).reshape(-1, 2))
    finished = [tracks.advance(flow, flow if move is None else move)
                for flow, move in zip(flows, moves or [None] * len(flows), strict=True)]
    return finished, tracks


# Against the oracle


class SlowTracks:
    """The tracks of one scale as a list, each moved alone."""

    def __init__(self, factor, params):
        self.factor, self.params, self.tracks = np.float32(factor), params, []

    def start(self, points):
        self.tracks += [naive._Track([p]) for p in points]

    def step(self, grey, flow, moves):
        self.tracks, ended = naive._advance(self.tracks, grey, flow, moves, self.params, True)
        return [row for track in ended if (row := naive._row(track, 0, self.factor, self.params)) is not None]


@pytest.mark.parametrize(("factor", "params"), [
    (1.0, Params(length=5)), (2.0, Params(length=7, temporal_cells=2)), (1.4142135, Params(length=4, temporal_cells=1)),
    (1.0, Params(length=5, temporal_cells=5, patch=24, spatial_cells=3, descriptors=("mbhx", "mbhy"))),
    (1.0, Params(length=5, camera=False, min_std=3.0)),
    (1.0, Params(length=5, min_motion=1.9, max_std=3.0)), (1.0, Params(length=6, max_step=2.2, max_step_share=0.22))])
def test_many_tracks_equal_the_oracle(factor, params):
    """Starts on every frame, and some tracks leave: the same rows in the same order."""
    height, width = 40, 57
    rng = np.random.default_rng(51)
    y, x = np.mgrid[:height, :width] / 7
    grey = synthetic.still(frames=1, height=height, width=width).frames[0]
    fast, slow = Tracks(height, width, np.float32(factor), params), SlowTracks(factor, params)
    rows = 0
    for t in range(12):
        flow = np.stack([1.2 + np.sin(x + t), np.cos(x - 2 * y) - 0.3 * t], axis=2).astype(np.float32)
        moves = (flow * np.float32(0.9 if t % 5 else 0.2)).astype(np.float32)
        fast.describe(grey, moves)
        found, expected = fast.advance(flow, moves), slow.step(grey, flow, moves)
        assert len(found) == len(expected)
        rows += len(found)
        for i, row in enumerate(expected):
            described = np.concatenate([row[name].reshape(params.temporal_cells, -1) for name in naive.CHANNELS
                                        if name in params.descriptors], axis=1)
            # Sums over the points, of which deviations are differences from the mean; lengths are sums over the steps,
            # which are differences of points, too. Displacements are divided by such a sum.
            far, n = np.abs(row["points"]).max(), params.length + 1
            for name, limit in (("mean", gamma(n + 2) * far), ("std", gamma(2 * n + 6) * far),
                                ("length", gamma(n + 6) * row["length"] + n * gamma(2) * far),
                                ("trajectory", gamma(n + 8) * np.abs(row["trajectory"]))):
                assert (np.abs(getattr(found, name)[i] - row[name]) <= limit).all(), name
            np.testing.assert_array_equal(found.points[i], row["points"])
            # The squares of each step are good to 1e-5 in an image of this size, see test_descriptors; those of means
            # over steps are as good where the steps are alike, and twice that allows for those that are not.
            np.testing.assert_allclose(found.described[i].astype(np.float64)**2, described**2, rtol=0, atol=2e-5)
        new = rng.uniform(0.1, (width - 0.1, height - 0.1), (25, 2)).astype(np.float32)
        fast.start(new)
        slow.start(new)
        assert len(fast) == len(slow.tracks)
        np.testing.assert_array_equal(fast.positions(), [track.points[-1] for track in slow.tracks])
    assert rows > 20


# Moving


def test_points_read_the_flow_of_their_nearest_pixel():
    flow = steady(0, 0)
    flow[10, 20] = 0.5, -1
    flow[59, 79] = -3, -2
    flow[0, 5] = 0, 0.25
    points = [(20.5, 9.5), (19.5, 10.49), (20.51, 10), (79.9, 59.9), (5, 0.1)]
    _, tracks = follow(points, [flow])
    np.testing.assert_array_equal(tracks.positions(), np.float32([(21, 8.5), (20, 9.49), (20.51, 10), (76.9, 57.9),
                                                                  (5, 0.35)]))


@pytest.mark.parametrize(("start", "move", "stays"), [
    ((1, 30), (-0.75, 0), True), ((1, 30), (-1, 0), False), ((1, 30), (-1.5, 0), False),
    ((78, 30), (1.75, 0), True), ((78, 30), (2, 0), False), ((78, 30), (np.inf, 0), False),
    ((40, 1), (0, -0.75), True), ((40, 1), (0, -1), False),
    ((40, 58), (0, 1.75), True), ((40, 58), (0, 2), False), ((40, 30), (np.nan, 0), False)])
def test_tracks_that_leave_the_image_end(start, move, stays):
    """A point may be anywhere between 0 and the width or height, both excluded."""
    finished, tracks = follow([start, (40, 30)], [steady(*move)])
    assert len(finished[0]) == 0
    expected = [np.add(p, move) for p, here in ((start, stays), ((40, 30), np.isfinite(move).all())) if here]
    np.testing.assert_array_equal(tracks.positions(), np.reshape(expected, (-1, 2)))


def test_leaving_on_the_last_step_is_not_finishing():
    finished, tracks = follow([(78 - LENGTH + 1, 30), (30, 30)], [steady(1.0)] * (LENGTH - 1) + [steady(2.0)])
    assert [len(f) for f in finished] == [0] * (LENGTH - 1) + [1]
    assert finished[-1].points[0, 0, 0] == 30
    assert len(tracks) == 0


def test_rows_come_in_order_of_age_and_places_are_used_again():
    """Several hundred at a time, which is more than there is room for at first."""
    tracks = Tracks(60, 80, np.float32(1), LOOSE)
    starts = np.float32([(5 + i / 4, 5 + i / 4) for i in range(200)])
    seen = []
    for t in range(3 * LENGTH):
        seen += [(t, float(y)) for y in tracks.advance(steady(0.25), steady(0.25)).points[:, 0, 1]]
        if t % 4 == 0:
            tracks.start(starts[np.random.default_rng(t).permutation(200)])
    expected = [(t + LENGTH, float(starts[i, 1])) for t in range(0, 2 * LENGTH, 4)
                for i in np.random.default_rng(t).permutation(200)]
    assert seen == expected
    assert len(tracks) == 400  # those that started on frames 12 and 16


def test_no_tracks_at_all():
    tracks = Tracks(60, 80, np.float32(1), LOOSE)
    tracks.start(np.empty((0, 2), np.float32))
    tracks.describe(np.zeros((60, 80), np.uint8), steady(1))
    finished = tracks.advance(steady(1), steady(1))
    assert len(finished) == len(tracks) == 0
    assert finished.described.shape == (0, 2, 68)
    assert tracks.positions().shape == (0, 2)


def test_only_the_trajectory_is_wanted():
    params = Params(length=LENGTH, temporal_cells=2, descriptors="trajectory")
    tracks = Tracks(60, 80, np.float32(1), params)
    tracks.start(np.float32([(20, 20)]))
    for _ in range(LENGTH):
        tracks.describe(np.zeros((60, 80), np.uint8), steady(2))
        finished = tracks.advance(steady(2), steady(2))
    assert finished.described.shape == (1, 2, 0)
    np.testing.assert_allclose(finished.trajectory, [[1 / 6, 0] * 6], rtol=1e-6)


# The numbers of a row


def test_numbers_of_a_straight_track():
    finished, _ = follow([(10, 20)], [steady(2, 1)] * LENGTH, [steady(1.5, 2)] * LENGTH, factor=2.0)
    row = finished[-1]
    steps = np.arange(LENGTH + 1)
    np.testing.assert_array_equal(row.points[0], np.stack([20 + 4 * steps, 40 + 2 * steps], axis=1))
    np.testing.assert_allclose(row.mean, [[32, 46]])
    # of 0, 1, ..., 6: 2 steps; four operations for each point
    np.testing.assert_allclose(row.std, [[8, 4]], rtol=gamma(4 * (LENGTH + 1)))
    np.testing.assert_allclose(row.length, [6 * np.sqrt(20)], rtol=1e-6)
    np.testing.assert_allclose(row.trajectory, [[0.6 / 6, 0.8 / 6] * LENGTH], rtol=1e-6)
    for name in ("mean", "std", "length", "trajectory", "points", "described"):
        assert getattr(row, name).dtype == np.float32


@pytest.mark.parametrize(("length", "cells"), [(6, 1), (6, 6), (7, 3), (5, 2)])
def test_descriptors_are_means_over_temporal_cells(length, cells):
    """Steps that are left over count nowhere."""
    params = Params(length=length, temporal_cells=cells, min_std=0, descriptors="hof")
    tracks = Tracks(60, 80, np.float32(1), params)
    tracks.start(np.float32([(20, 30)]))
    grey, steps = np.zeros((60, 80), np.uint8), []
    for t in range(length):
        flow = steady(1.0, 0.5 * t)
        steps.append(naive.patch_descriptor(naive.hof_votes(flow, approximate=True), *tracks.positions()[0]))
        tracks.describe(grey, flow)
        finished = tracks.advance(steady(2), flow)
    expected = naive.temporal_pool(np.array(steps), cells)
    found = finished.described[0].ravel().astype(np.float64)
    np.testing.assert_allclose(found**2, expected**2, rtol=0, atol=2e-5)


# Tests that a finished track must pass: 7 points have a standard deviation of 2 steps


def survives(flows, moves=None, params=None, **options):
    params = params or Params(length=LENGTH, temporal_cells=2, descriptors="hof")
    finished, _ = follow([(5, 30)], flows, moves or [steady(2)] * len(flows), params, **options)
    return len(finished[-1]) == 1


@pytest.mark.parametrize(("step", "valid"), [((0.86, 0), False), ((0.87, 0), True), ((0, 0.86), False),
                                            ((0, 0.87), True), ((0.86, 0.86), False), ((0.1, 0.87), True)])
def test_static_tracks_vary_little_in_x_and_in_y(step, valid):
    assert survives([steady(*step)] * LENGTH) is valid  # the limit is 1.732 px, in either direction


@pytest.mark.parametrize(("step", "factor", "valid"), [((0.43, 0), 2.0, False), ((0.44, 0), 2.0, True)])
def test_limits_are_in_pixels_of_the_frame(step, factor, valid):
    assert survives([steady(*step)] * LENGTH, factor=factor) is valid


@pytest.mark.parametrize(("step", "valid"), [((2.49, 0), True), ((2.51, 0), False), ((0, 2.49), True),
                                            ((0, 2.51), False), ((1, 2.51), False)])
def test_erratic_tracks_vary_too_much_in_x_or_in_y(step, valid):
    params = Params(length=LENGTH, temporal_cells=2, max_std=5.0)
    assert survives([steady(*step)] * LENGTH, params=params) is valid


@pytest.mark.parametrize(("jump", "rest", "valid"), [
    (20.5, 0.5, False),  # most of the way in one step
    (20.0, 0.5, True),  # not longer than the limit
    (20.5, 1.75, False), (20.5, 1.76, True)])  # 70.09 and 69.97 % of the way
def test_jumps_are_long_and_most_of_the_way(jump, rest, valid):
    params = Params(length=LENGTH, temporal_cells=2, max_std=100)
    flows = [steady(rest)] * LENGTH
    flows[3] = steady(jump)
    share = jump / (jump + 5 * rest)
    assert (jump > 20 and share > 0.7) is not valid
    assert survives(flows, params=params) is valid


@pytest.mark.parametrize(("longest", "factor", "valid"), [((0.6, 0.8), 1.0, False), ((0.61, 0.8), 1.0, True),
                                                         ((0.3, 0.4), 2.0, False), ((0.31, 0.4), 2.0, True),
                                                         ((0, -1.01), 1.0, True)])
def test_background_is_what_never_moves_more_than_a_pixel_without_the_camera(longest, factor, valid):
    """The flow without the camera's motion counts, however far the point itself moves."""
    moves = [steady(0.05, -0.05)] * LENGTH
    moves[4] = steady(*longest)
    assert survives([steady(2)] * LENGTH, moves, factor=factor) is valid
    off = Params(length=LENGTH, temporal_cells=2, camera=False)
    assert survives([steady(2)] * LENGTH, moves, params=off, factor=factor)


def test_no_displacement_at_all_gives_zeros():
    params = Params(length=LENGTH, temporal_cells=2, camera=False)
    finished, _ = follow([(5, 30)], [steady(2)] * LENGTH, [steady(0)] * LENGTH, params)
    np.testing.assert_array_equal(finished[-1].trajectory, np.zeros((1, 2 * LENGTH)))


def test_rejected_tracks_leave_no_gap():
    """Every second track stands still: the others follow one another, with their own numbers."""
    flow = steady(0)
    flow[::2] = 2, 0
    points = [(10, 10 + i) for i in range(8)]
    finished, tracks = follow(points, [flow] * LENGTH, params=Params(length=LENGTH, temporal_cells=2))
    np.testing.assert_array_equal(finished[-1].points[:, 0], np.float32(points)[::2])
    np.testing.assert_allclose(finished[-1].mean, [(16, 10 + i) for i in range(0, 8, 2)], rtol=1e-6)
    assert len(tracks) == 0
