"""Standard streams that are closed or full, which must not stop the work."""

from __future__ import annotations

import os
import sys
from typing import Any, TextIO


def mend_streams() -> None:
    """Open closed standard streams on the null device, and let go of what stderr cannot take.

    Otherwise the next file to be opened would get the descriptor of a closed stream, and with it whatever C libraries
    print.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            # The lowest descriptor that is free: this one. Processes that begin later get it like any standard stream.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", errors="backslashreplace", closefd=False))  # noqa: SIM115
    sys.stderr = _Lenient(sys.stderr)


class _Lenient:
    """A text stream that goes on with the null device when it can take no more, as on a full disk."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
            self._stream.flush()  # or what it holds would fail once more at the exit of the interpreter
        except OSError:
            self._give_up()
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._give_up()

    def _give_up(self) -> None:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self._stream.fileno())
        os.close(null)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
