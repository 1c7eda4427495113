"""Where pairs of images are solved: on processor cores, a thread for each pair, or on GPUs, many pairs at a time."""

from __future__ import annotations

import atexit
import contextlib
import functools
import itertools
import logging
import queue
import re
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from idt._util.threads import mapped
from idt.errors import DeviceError, NoDeviceError, ParameterError
from idt.flow.pyramid import ByteArray, FloatArray, scale_factors

if TYPE_CHECKING:
    from idt.flow import Method
    from idt.flow._tvl1_cuda import Solver
    from idt.flow.tvl1 import TVL1Params

Pair = tuple[ByteArray, ByteArray]

_KEPT = 8  # prepared images; preparing one again costs little beside a solve
_BATCH = 5_700_000  # pixels, 16 times what an H200 works on at a time, so that few of its blocks idle at the end
_MOST_PAIRS = 256  # of small images; more gain nothing and let a whole video wait for its first flow
_SOLVERS = 2  # on each GPU in each process: one's copies overlap with the other's kernels
_PROCESSES = 6  # on each GPU: one decodes, solves and encodes some 400 pairs of 320x240 a second at most

_sharing = 1  # processes that use each GPU of this process, itself included

_log = logging.getLogger("idt")


def gpus_of(device: str, method: str) -> tuple[int, ...]:
    """Return the numbers of the GPUs that a device means, none for the CPU.

    Parameters
    ----------
    device : str
        ``cpu``; ``cuda``, the first GPU; ``cuda:1``; ``cuda:0,1``; ``auto``: all GPUs that can be used, or the
        CPU where there is none or `method` has no GPU form; why a GPU is left out is logged as a warning, once.
    method : str
        Name of the flow method.

    Raises
    ------
    ParameterError
        The device is none of these, or the method runs on the CPU alone.
    DeviceError
        There is no such GPU, or it cannot be used; the message says why, and what to do.
    """
    if device == "cpu":
        return ()
    if device == "auto":
        return _usable() if method == "tvl1" else ()
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
        _check(n)
    return numbers


def _usable() -> tuple[int, ...]:
    """Return all GPUs that can be used; of those that cannot it is logged why, once."""
    usable = []
    try:
        for n in range(_count()):
            try:
                _check(n)
                usable.append(n)
            except DeviceError as error:
                _warn_once(str(error))
    except NoDeviceError:
        pass  # as on most machines
    except DeviceError as error:
        _warn_once(str(error))
    return tuple(usable)


@functools.cache
def _warn_once(reason: str) -> None:
    _log.warning("device is auto, which does without a GPU: %s", reason)


def _count() -> int:
    """Return the number of GPUs; `DeviceError` says why there is none."""
    from idt.flow import _tvl1_cuda

    return _tvl1_cuda.devices()


def _check(number: int) -> None:
    """Raise `DeviceError` unless the GPU of this number can be used."""
    from idt.flow import _tvl1_cuda

    _tvl1_cuda.check(number)


# Several processes


def settled(device: str, method: str) -> str:
    """Return the device with ``auto`` settled, so that processes of this machine need not find out again."""
    if device != "auto":
        return device
    gpus = gpus_of(device, method)
    return f"cuda:{','.join(map(str, gpus))}" if gpus else "cpu"


def one_of(device: str, method: str, number: int, processes: int = 1) -> str:
    """Return the device that one of several processes has for itself: of several GPUs one, round robin.

    The process that asks takes no more than its share of the memory of that GPU from then on. `number` is that of the
    process, from 0. Other parameters and errors are those of `gpus_of`.
    """
    global _sharing
    gpus = gpus_of(device, method)
    if not gpus:
        return device
    _sharing = -(-processes // len(gpus))
    return f"cuda:{gpus[number % len(gpus)]}"


def processes_on(device: str, method: str, cores: int) -> int | None:
    """Return how many processes use the GPUs of a device best on so many cores; None for the CPU.

    One process cannot feed a fast GPU: it decodes, starts kernels and encodes in one interpreter, and no pair is solved
    while the first frames of a video are decoded. Errors are those of `gpus_of`.
    """
    gpus = len(gpus_of(device, method))
    return max(gpus, min(cores, _PROCESSES * gpus)) or None


def compile_on(gpus: tuple[int, ...], params: TVL1Params) -> None:
    """Solve a small pair on each GPU: the kernels are in Numba's cache then, for processes that begin later."""
    image = np.zeros((32, 32), np.uint8)
    for n in gpus:
        deque(on_gpus(iter([(image, image)]), params, (n,)), maxlen=0)
    release_gpus()


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
    with _batches(width, height, params, numbers) as batches, contextlib.closing(
            mapped(batches.solve, _batched(itertools.chain([first], pairs), batches), batches.solvers)) as solved:
        for flows in solved:
            yield from flows


_made: list[_Batches] = []  # whose memory is kept from video to video
_making = threading.RLock()  # which the end of an abandoned iterator may want at any time, in any thread


@contextlib.contextmanager
def _batches(width: int, height: int, params: TVL1Params, numbers: tuple[int, ...]) -> Iterator[_Batches]:
    """Lend those that an earlier video of the same kind has left, or new ones in the place of all that are not in use.

    Memory of a GPU, and of the host that a GPU reads, takes longer to get than many a video to solve.
    """
    key = width, height, params, numbers
    with _making:
        batches = next((b for b in _made if b.key == key and not b.lent), None)
        if batches is None:
            release_gpus()
            batches = _Batches(*key)
            _made.append(batches)
            # What is registered last is called first: before Numba frees what is left, where no GPU is current.
            atexit.unregister(_release_all)
            atexit.register(_release_all)
        batches.lent = True
    try:
        yield batches
    finally:
        batches.lent = False


def release_gpus() -> None:
    """Give back the memory of GPUs that is kept for the next images of the same size, and is not in use."""
    with _making:
        for batches in [b for b in _made if not b.lent]:
            _made.remove(batches)
            batches.close()


def _release_all() -> None:
    for batches in _made:
        batches.lent = False
    release_gpus()


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

        self.key = width, height, params, numbers
        self.lent = False
        self._what = f"{width}x{height}"
        solvers = [Solver(width, height, params, device=n) for _ in range(_SOLVERS) for n in numbers]
        self.solvers = len(solvers)
        self.size = max(1, min(_largest(width, height), *(s.capacity(_sharing) // _SOLVERS for s in solvers)))
        self._warned = False
        self._lock = threading.Lock()
        self._alone = threading.Lock()
        self._idle: queue.LifoQueue[Solver] = queue.LifoQueue()  # one that has memory already comes first
        for solver in solvers:
            self._idle.put(solver)

    def close(self) -> None:
        """Give all memory back; the next batch asks for it again."""
        with self._all() as solvers:
            for solver in solvers:
                solver.close()

    def solve(self, batch: list[Pair]) -> list[FloatArray]:
        """Return the flows of a batch, in order."""
        solver = self._idle.get()
        try:
            return _solved(solver, batch)
        except MemoryError:
            pass
        finally:
            self._idle.put(solver)
        if len(batch) == 1:
            return self._solve_alone(batch)
        half = len(batch) // 2
        with self._lock:
            if not self._warned:
                _log.warning("The memory of the GPU does not hold %d pairs of %s pixels at once: going on with fewer.",
                             len(batch), self._what)
            self._warned = True
            self.size = min(self.size, half)
        return self.solve(batch[:half]) + self.solve(batch[half:])

    def _solve_alone(self, batch: list[Pair]) -> list[FloatArray]:
        """Solve a pair for which the other solvers leave no room: they give their memory back."""
        with self._all() as solvers:
            for solver in solvers:
                solver.close()
            try:
                return _solved(solvers[0], batch)
            except MemoryError:
                raise DeviceError(
                    f"The memory of the GPU does not hold one pair of {self._what} pixels: use device cpu, smaller "
                    "images (short_side), or fewer processes on each GPU (jobs).") from None

    @contextlib.contextmanager
    def _all(self) -> Iterator[list[Solver]]:
        """Take all solvers, each as soon as it is idle; one thread at a time, or two would wait for each other."""
        with self._alone:
            solvers = [self._idle.get() for _ in range(self.solvers)]
            try:
                yield solvers
            finally:
                for solver in solvers:
                    self._idle.put(solver)


def _largest(width: int, height: int) -> int:
    """Return the pairs of the largest batch."""
    return min(_MOST_PAIRS, _BATCH // (width * height))


def _solved(solver: Solver, batch: list[Pair]) -> list[FloatArray]:
    images: dict[int, ByteArray] = {id(image): image for pair in batch for image in pair}
    place = {key: n for n, key in enumerate(images)}
    return list(solver.solve(list(images.values()), [(place[id(a)], place[id(b)]) for a, b in batch]))
