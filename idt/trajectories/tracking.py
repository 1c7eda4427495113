"""Live tracks of one scale as arrays: they start, advance with the flow, end, and are tested when complete."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from idt._util.kernels import jit
from idt.params import Params
from idt.trajectories import descriptors

FloatArray = npt.NDArray[np.float32]
IndexArray = npt.NDArray[np.int64]

_jit = jit()


@dataclass(frozen=True, eq=False)
class Finished:
    """Tracks that reached their full length and passed the tests, in order of age; N rows.

    ``mean`` (N, 2), ``std`` (N, 2), ``length`` (N,), ``points`` (N, L+1, 2): pixels of the frame; ``trajectory``
    (N, 2L): displacements without camera motion over the sum of their lengths; ``described`` (N, T, D): descriptors
    side by side, mean over each temporal cell.
    """

    mean: FloatArray
    std: FloatArray
    length: FloatArray
    trajectory: FloatArray
    points: FloatArray
    described: FloatArray

    def __len__(self) -> int:
        return len(self.length)


def _room(rows: int, params: Params) -> Finished:
    depth = sum(descriptors.widths(params.descriptors, params.spatial_cells).values())
    shapes = (2,), (2,), (), (2 * params.length,), (params.length + 1, 2), (params.temporal_cells, depth)
    return Finished(*(np.empty((rows, *shape), np.float32) for shape in shapes))


def no_tracks(params: Params) -> Finished:
    """Return zero rows, in the shapes that rows have."""
    return _room(0, params)


class Tracks:
    """All live tracks of one scale.

    Parameters
    ----------
    height, width : int
        Size of the image on this scale, pixels.
    factor : float
        Scale factor; positions times this are pixels of the frame.
    params : Params
    """

    def __init__(self, height: int, width: int, factor: np.float32, params: Params) -> None:
        self._size = height, width
        self._factor = factor
        self._params = params
        self._steps_per_cell = params.length // params.temporal_cells
        self._depth = sum(descriptors.widths(params.descriptors, params.spatial_cells).values())
        self._live = 0
        self._order = np.empty(0, np.int64)  # slots of the live tracks, oldest first
        self._free = np.empty(0, np.int64)  # slots without a track, a stack
        self._points = np.empty((0, params.length + 1, 2), np.float32)
        self._moves = np.empty((0, params.length, 2), np.float32)
        self._sums = np.empty((0, params.temporal_cells, self._depth), np.float32)
        self._age = np.empty(0, np.int64)

    def __len__(self) -> int:
        return self._live

    def start(self, points: FloatArray) -> None:
        """Begin a track at each of the points (n, 2), pixels of the scale."""
        n = len(points)
        if n > len(self._free):
            self._grow(max(n - len(self._free), len(self._order) // 4, 256))
        slots = self._free[len(self._free) - n:]
        self._free = self._free[: len(self._free) - n]
        self._points[slots, 0] = points
        self._sums[slots] = 0.0
        self._age[slots] = 0
        self._order[self._live:self._live + n] = slots
        self._live += n

    def positions(self) -> FloatArray:
        """Return the current positions (n, 2), pixels of the scale, oldest track first."""
        out = np.empty((self._live, 2), np.float32)
        _positions(self._order[:self._live], self._points, self._age, out)
        return out

    def describe(self, grey: npt.NDArray[np.uint8], flow: FloatArray) -> None:
        """Add the descriptors of this step, taken at the current positions in the previous image."""
        if not self._depth:
            return
        p = self._params
        slots = self._order[:self._live]
        cell = self._age[slots] // self._steps_per_cell
        rows = np.where(cell < p.temporal_cells, slots * p.temporal_cells + cell, -1)
        descriptors.describe(grey, flow, self.positions(), self._sums.reshape(-1, self._depth), rows,
                             descriptors=p.descriptors, patch=p.patch, cells=p.spatial_cells, epsilon=p.epsilon,
                             hof_threshold=p.hof_threshold)

    def advance(self, flow: FloatArray, moves: FloatArray) -> Finished:
        """Move every track by `flow` at its nearest pixel, drop those that leave, return those that are complete.

        Parameters
        ----------
        flow : ndarray, shape (h, w, 2), float32
            What moves the points, pixels of the scale.
        moves : ndarray, shape (h, w, 2), float32
            The same without camera motion: the displacements that are kept.
        """
        p = self._params
        ended = np.empty(self._live, np.int64)
        live, complete, gone = _advance(self._order, self._live, self._points, self._moves, self._age, flow, moves,
                                        ended)
        self._live = live
        # complete tracks are listed from the front of `ended`, those that left from its back
        done = ended[:complete]
        out = _room(complete, p)
        n = _collect(done, self._points, self._moves, self._sums, self._factor, np.float32(1 / self._steps_per_cell),
                     np.float32(p.min_std), np.float32(p.max_std), np.float32(p.max_step),
                     np.float32(p.max_step_share), np.float32(p.min_motion if p.camera else -1.0), out.mean, out.std,
                     out.length, out.trajectory, out.points, out.described)
        self._free = np.concatenate((self._free, done, ended[len(ended) - gone:]))
        return Finished(out.mean[:n], out.std[:n], out.length[:n], out.trajectory[:n], out.points[:n],
                        out.described[:n])

    def _grow(self, more: int) -> None:
        before = len(self._order)
        self._order = np.concatenate((self._order, np.empty(more, np.int64)))
        self._free = np.concatenate((self._free, np.arange(before, before + more)))
        self._age = np.concatenate((self._age, np.empty(more, np.int64)))
        self._points = _extended(self._points, more)
        self._moves = _extended(self._moves, more)
        self._sums = _extended(self._sums, more)


def _extended(array: FloatArray, more: int) -> FloatArray:
    return np.concatenate((array, np.empty((more, *array.shape[1:]), np.float32)))


@_jit
def _positions(order, points, age, out):
    for i in range(len(order)):
        slot = order[i]
        out[i, 0] = points[slot, age[slot], 0]
        out[i, 1] = points[slot, age[slot], 1]


@_jit
def _advance(order, live, points, moves, age, flow, kept, ended):
    """Move all tracks; return how many live on, are complete and have left."""
    h, w, _ = flow.shape
    steps = moves.shape[1]
    n, complete, gone = 0, 0, 0
    for i in range(live):
        slot = order[i]
        a = age[slot]
        x, y = points[slot, a, 0], points[slot, a, 1]
        column = min(max(int(np.rint(x)), 0), w - 1)
        row = min(max(int(np.rint(y)), 0), h - 1)
        x += flow[row, column, 0]
        y += flow[row, column, 1]
        if not (x > 0 and x < w and y > 0 and y < h):
            gone += 1
            ended[len(ended) - gone] = slot
            continue
        moves[slot, a, 0], moves[slot, a, 1] = kept[row, column, 0], kept[row, column, 1]
        points[slot, a + 1, 0], points[slot, a + 1, 1] = x, y
        age[slot] = a + 1
        if a + 1 == steps:
            ended[complete] = slot
            complete += 1
        else:
            order[n] = slot
            n += 1
    return n, complete, gone


@_jit
def _collect(slots, points, moves, sums, factor, per_cell, min_std, max_std, max_step, max_share, min_motion,
             out_mean, out_std, out_length, out_trajectory, out_points, out_described):
    """Write the tracks that pass the tests (ALGORITHM: iDT section 2.1 and DT section 3.1) and return their number."""
    steps = moves.shape[1]
    n = 0
    for slot in slots:
        q = out_points[n]
        sum_x, sum_y = np.float32(0), np.float32(0)
        for i in range(steps + 1):
            q[i, 0], q[i, 1] = points[slot, i, 0] * factor, points[slot, i, 1] * factor
            sum_x += q[i, 0]
            sum_y += q[i, 1]
        per = np.float32(1) / np.float32(steps + 1)
        mean_x, mean_y = sum_x * per, sum_y * per
        square_x, square_y = np.float32(0), np.float32(0)
        for i in range(steps + 1):
            square_x += (q[i, 0] - mean_x) ** 2
            square_y += (q[i, 1] - mean_y) ** 2
        std_x, std_y = np.sqrt(square_x * per), np.sqrt(square_y * per)
        if (std_x < min_std and std_y < min_std) or std_x > max_std or std_y > max_std:
            continue
        length, longest = np.float32(0), np.float32(0)
        for i in range(steps):
            step = np.sqrt((q[i + 1, 0] - q[i, 0]) ** 2 + (q[i + 1, 1] - q[i, 1]) ** 2)
            length += step
            longest = max(longest, step)
        if longest > max_step and longest > length * max_share:
            continue
        total, most = np.float32(0), np.float32(0)
        for i in range(steps):
            dx, dy = moves[slot, i, 0] * factor, moves[slot, i, 1] * factor
            step = np.sqrt(dx * dx + dy * dy)
            total += step
            most = max(most, step)
            out_trajectory[n, 2 * i], out_trajectory[n, 2 * i + 1] = dx, dy
        if most <= min_motion:
            continue
        if total > 0:
            for i in range(2 * steps):
                out_trajectory[n, i] /= total
        out_mean[n, 0], out_mean[n, 1] = mean_x, mean_y
        out_std[n, 0], out_std[n, 1] = std_x, std_y
        out_length[n] = length
        for t in range(sums.shape[1]):
            for k in range(sums.shape[2]):
                out_described[n, t, k] = sums[slot, t, k] * per_cell
        n += 1
    return n
