"""Threads inside one video: stages of the work that overlap, in order, and that end when the user interrupts."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import cv2

S = TypeVar("S")
T = TypeVar("T")


def ahead(items: Iterator[T], depth: int = 1) -> Generator[T, None, None]:
    """Yield the items in order while a second thread makes the next ones, `depth` at most."""
    end = object()
    pool = ThreadPoolExecutor(1, thread_name_prefix="idt")
    try:
        coming = deque(pool.submit(next, items, end) for _ in range(depth))
        while (item := coming.popleft().result()) is not end:
            coming.append(pool.submit(next, items, end))
            yield item  # type: ignore[misc]
    finally:
        end_of(pool)


def mapped(function: Callable[[S], T], items: Iterator[S], threads: int) -> Generator[T, None, None]:
    """Yield what the function makes of each item, in order, while `threads` threads work on the next ones.

    With 1 it works in the thread that asks. An error of the items comes after the results of those before it.
    """
    if threads == 1:
        yield from map(function, items)
        return
    pool = ThreadPoolExecutor(threads, thread_name_prefix="idt")
    try:
        coming: deque[Future[T]] = deque()
        failure: Exception | None = None
        while failure is None:
            try:
                item = next(items)
            except StopIteration:
                break
            except Exception as error:
                failure = error
                break
            coming.append(pool.submit(function, item))
            if len(coming) > threads:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
        if failure is not None:
            raise failure
    finally:
        end_of(pool)


def end_of(pool: ThreadPoolExecutor) -> None:
    """Let the threads of a pool end: what they read from is closed next, however often the user interrupts."""
    interrupt: KeyboardInterrupt | None = None
    waiting = True
    while waiting:
        try:
            pool.shutdown(wait=True, cancel_futures=True)
            waiting = False
        except KeyboardInterrupt as error:
            interrupt = error
    if interrupt is not None:
        raise interrupt


class OneOpenCVThread:
    """Let OpenCV run on one thread meanwhile: our own threads overlap whole stages, and results stay the same.

    The setting is that of the process, so the first of several passes at a time makes it and the last undoes it.
    """

    _lock = threading.Lock()
    _passes = 0
    _before = 0

    def __enter__(self) -> None:
        kind = type(self)
        with kind._lock:
            if kind._passes == 0:
                kind._before = cv2.getNumThreads()
                cv2.setNumThreads(1)
            kind._passes += 1

    def __exit__(self, *error: object) -> None:
        kind = type(self)
        with kind._lock:
            kind._passes -= 1
            if kind._passes == 0:
                cv2.setNumThreads(kind._before)
