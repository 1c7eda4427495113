"""What the executors of clusters share: finding the cluster, and explaining what goes wrong with it."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator

from idt import __version__
from idt.errors import IdtError

CONNECT = 10.0
"""Seconds that a connection may take."""

RIGHT = "the address is right"

LOOK = 5.0
"""Seconds between two looks at how many slots there are."""


@contextlib.contextmanager
def installed(module: str, package: str) -> Iterator[None]:
    """Say how to install what is missing."""
    try:
        yield
    except ImportError as error:
        raise IdtError(f"{package} is not installed: pip install 'densetraj[{module}]'.") from error


@contextlib.contextmanager
def reached(what: str, address: str | None, see: str) -> Iterator[None]:
    """Turn whatever goes wrong on the way to the cluster into an `IdtError` that names it."""
    try:
        yield
    except Exception as error:  # of many kinds
        reason = " ".join(str(error).split())[:300]
        raise IdtError(f"The {what}{at(address)} cannot be reached ({reason or type(error).__name__}): see that it "
                       f"runs and that {see}.") from error


def check_reachable(what: str, address: str | None) -> None:
    """Raise `IdtError` at once when nothing answers at an address, where Dask and Ray would try for long."""
    found = re.fullmatch(r"(?:(?:tcp|tls|ray)://)?\[?([^/\]]+?)\]?:(\d+)", address or "")
    if found is None and address is not None and "://" not in address and address not in ("auto", "local"):
        raise IdtError(f"The {what} cannot be at {address!r}: give its address as HOST:PORT.")
    if found is not None:
        with reached(what, address, RIGHT), socket.create_connection((found[1], int(found[2])), timeout=CONNECT):
            pass


def more(slots: int) -> int:
    """Return how many jobs so many slots are given, so that none of them waits for the next."""
    return slots + slots // 4 + 1 if slots else 0


def at(address: str | None) -> str:
    """Return the end of a name in a sentence."""
    return f" at {address}" if address else ""


def explained(error: Exception) -> Exception:
    """Return an error of the cluster itself, not of the work, as one of ours."""
    if isinstance(error, ImportError):
        return IdtError(f"The workers of the cluster cannot import densetraj ({error}): install version {__version__} "
                        "where they run.")
    return error
