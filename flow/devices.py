"""Where pairs of images are solved: on processor cores, a thread for each pair, or on GPUs, many pairs at a time."""

from __future__ import annotations

import itertools
import logging
import queue
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from idt.errors import DeviceError, ParameterError
from idt.flow.pyramid import ByteArray, FloatArray, scale_factors
from idt.flow.threads import mapped

if TYPE_CHECKING:
    from idt.flow import Method
    from idt.flow._tvl1_cuda import Solver
    from idt.flow.tvl1 import TVL1Params

Pair = tuple[ByteArray, ByteArray]

_KEPT = 8  # prepared images; preparing one again costs little beside a solve
_LARGEST_BATCH = 64  # pairs; more gain nothing and let a whole video wait for its first flow
_SOLVERS = 2  # on each GPU: one's copies overlap with the other's kernels

_log = logging.getLogger("idt")


def gpus_of(device: str, method: str) -> tuple[int, ...]:
    """Return the numbers of the GPUs that a device means, none for the CPU.

    Parameters
    ----------
    device : str
        ``cpu``; ``cuda``, the first GPU; ``cuda:1``; ``cuda:0,1``; ``auto``: all GPUs, or the CPU where there is none
        or `method` has no GPU form.
    method : str
        Name of the flow method.

    Raises
    ------
    ParameterError
        The device is none of these, or the method runs on the CPU alone.
    DeviceError
        There is no such GPU; the message says what was looked for and what to install.
    """
    if device == "cpu":
        return ()
    if device == "auto":
        if method != "tvl1":
            return ()
        try:
            return tuple(range(_count()))
        except DeviceError:
            return ()
    if not isinstance(device, str) or not re.fullmatch(r"cuda(:\d+(,\d+)*)?", device):
        raise ParameterError(f"device is {device!r}: allowed are cpu, auto, cuda, cuda:1 (one GPU by its number), "
                             "cuda:0,1 (several).")
    if method != "tvl1":
        raise ParameterError(f"device is {device!r}, but {method} runs on the CPU alone: use device cpu, or tvl1.")
    numbers = tuple(dict.fromkeys(int(n) for n in device[5:].split(","))) if ":" in device else (0,)
    there = _count()
    for n in numbers:
        if n >= there:
            raise DeviceError(f"device is {device!r}, but there {'is' if there == 1 else 'are'} {there} GPU"
                              f"{'' if there == 1 else 's'}, numbered from 0: use cuda:0"
                              f"{f' to cuda:{there - 1}' if there > 1 else ''}.")
    return numbers


def one_of(device: str, method: str, number: int) -> str:
    """Return the device that the process of this number, from 0, has for itself: of several GPUs one, round robin.

    Parameters and errors are those of `gpus_of`.
    """
    gpus = gpus_of(device, method)
    return f"cuda:{gpus[number % len(gpus)]}" if len(gpus) > 1 else device


def _count() -> int:
    """Return the number of usable GPUs; `DeviceError` says why there is none."""
    from idt.flow import _tvl1_cuda

    return _tvl1_cuda.devices()


def on_cpu(pairs: Iterator[Pair], method: Callable[..., Method], threads: int, *, scales: int = 1
           ) -> Iterator[FloatArray]:
    """Yield the flow of each pair, in order; each of so many threads solves one at a time.

    `scales` is the largest number of scales of the method: only Farnebäck's needs more than the one that is wanted.
    """
    first = next(pairs, None)
    if first is None:
        return
    height, width = first[0].shape
    solver = method(width, height, factors=scale_factors(width, height, count=scales))
    kept: OrderedDict[int, tuple[ByteArray, Any]] = OrderedDict()

    def prepared(image: ByteArray) -> Any:
        # The image is kept as well: its id is its own only as long as it lives.
        if id(image) not in kept:
            kept[id(image)] = image, solver.prepare(np.require(image, requirements=("C", "W")))
            if len(kept) > _KEPT:
                kept.popitem(last=False)
        return kept[id(image)][1]

    ready = ((prepared(a), prepared(b)) for a, b in itertools.chain([first], pairs))
    yield from mapped(lambda pair: solver.solve(*pair)[0], ready, threads)


def on_gpus(pairs: Iterator[Pair], params: TVL1Params, numbers: tuple[int, ...]) -> Iterator[FloatArray]:
    """Yield the TV-L1 flow of each pair, in order; batches go to whichever solver is idle."""
    first = next(pairs, None)
    if first is None:
        return
    height, width = first[0].shape
    batches = _Batches(width, height, params, numbers)
    for flows in mapped(batches.solve, _batched(itertools.chain([first], pairs), batches), _SOLVERS * len(numbers)):
        yield from flows


def _batched(pairs: Iterator[Pair], batches: _Batches) -> Iterator[list[Pair]]:
    """Yield the pairs in lists; an error of theirs comes after those before it."""
    failure: Exception | None = None
    while failure is None:
        batch: list[Pair] = []
        try:
            for pair in itertools.islice(pairs, batches.size):
                batch.append(pair)  # one by one: what came before an error stays
        except Exception as error:
            failure = error
        if batch:
            yield batch
        elif failure is None:
            return
    raise failure


class _Batches:
    """Solves batches on some GPUs; a batch that does not fit is halved, and so are all that follow."""

    def __init__(self, width: int, height: int, params: TVL1Params, numbers: tuple[int, ...]) -> None:
        from idt.flow._tvl1_cuda import Solver

        self._what = f"{width}x{height}"
        self._idle: queue.SimpleQueue[Solver] = queue.SimpleQueue()
        solvers = [Solver(width, height, params, device=n) for _ in range(_SOLVERS) for n in numbers]
        self.size = min([_LARGEST_BATCH, *(s.capacity() // _SOLVERS for s in solvers)])
        self.size = max(self.size, 1)
        self._told = False
        self._lock = threading.Lock()
        for solver in solvers:
            self._idle.put(solver)

    def solve(self, batch: list[Pair]) -> list[FloatArray]:
        """Return the flows of a batch, in order."""
        images: dict[int, ByteArray] = {id(image): image for pair in batch for image in pair}
        place = {key: n for n, key in enumerate(images)}
        solver = self._idle.get()
        try:
            return list(solver.solve(list(images.values()), [(place[id(a)], place[id(b)]) for a, b in batch]))
        except MemoryError:
            if len(batch) == 1:
                raise DeviceError(f"The memory of the GPU does not hold one pair of {self._what} pixels: use device "
                                  "cpu, or smaller images (short_side).") from None
        finally:
            self._idle.put(solver)
        half = len(batch) // 2
        with self._lock:
            if not self._told:
                _log.warning("The memory of the GPU does not hold %d pairs of %s pixels at once: going on with fewer.",
                             len(batch), self._what)
            self._told = True
            self.size = min(self.size, half)
        return self.solve(batch[:half]) + self.solve(batch[half:])
