"""idt._util.threads: order, look-ahead, errors, and threads that have ended when a stage has."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import cv2
import pytest

from idt._util.threads import OneOpenCVThread, ahead, mapped


def counted(number: int, made: list[int]) -> Iterator[int]:
    for n in range(number):
        made.append(n)
        yield n


@pytest.mark.parametrize("depth", [1, 4, 100])
def test_ahead_keeps_order_and_depth(depth):
    made: list[int] = []
    for n in ahead(counted(20, made), depth):
        time.sleep(0.001)
        assert len(made) <= n + 1 + depth
        made_by_then = len(made)
    assert made_by_then == 20
    assert made == list(range(20))


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_mapped_keeps_order_and_bounds_what_is_in_the_making(threads):
    made: list[int] = []

    def slow(n: int) -> int:
        time.sleep(0.002 * (n % 3))
        return n * n

    for n, square in enumerate(mapped(slow, counted(20, made), threads)):
        assert square == n * n
        assert len(made) <= n + 1 + threads
    assert len(made) == 20


def broken() -> Iterator[int]:
    yield 1
    raise ValueError("no")


def test_errors_arrive_in_their_place():
    for stage in (ahead(broken(), 3), mapped(lambda n: n, broken(), 1), mapped(lambda n: 1 // (1 - n), broken(), 2)):
        with pytest.raises((ValueError, ZeroDivisionError)):
            list(stage)
    coming = ahead(broken(), 3)
    assert next(coming) == 1
    with pytest.raises(ValueError, match="no"):
        next(coming)


def test_threads_have_ended_when_the_stage_is_closed():
    before = threading.active_count()
    for stage in (ahead(iter(range(9)), 2), mapped(abs, iter(range(9)), 3)):
        assert next(stage) == 0
        assert threading.active_count() > before
        stage.close()
        assert threading.active_count() == before


def test_opencv_has_one_thread_until_the_last_pass_ends():
    before = cv2.getNumThreads()
    with OneOpenCVThread():
        assert cv2.getNumThreads() == 1
        with OneOpenCVThread():
            pass
        assert cv2.getNumThreads() == 1
    assert cv2.getNumThreads() == before
