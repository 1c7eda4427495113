"""Waiting for processes and files: very long, because the machine may be busy, but not for ever."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")

PATIENCE_S = 900
"""Far more than anything takes that a test waits for, also where all is ten times slower: what hangs fails then."""


def until(reached: Callable[[], Found], process: subprocess.Popen[str] | None = None) -> Found:
    """Wait until something is true, and before a process ends; return it."""
    last = time.monotonic() + PATIENCE_S
    while not (found := reached()):
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < last
        time.sleep(0.01)
    return found
