"""Files as the operating systems have them."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from idt.errors import OutputError

_SHARED_MEMORY = "/dev/shm"  # of Linux
_MACOS = 10240  # files that macOS lets a process have open although it says that there is no limit


def allow_open_files() -> None:
    """Raise the number of files that this process may have open to what the system allows, where that differs."""
    with contextlib.suppress(ImportError, OSError, ValueError):  # Windows has no such limit
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != hard:
            most = _MACOS if hard == resource.RLIM_INFINITY else hard
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


def ensure_temporary_place() -> None:
    """Let shared memory hold temporary files where no usual folder can be written, as with ``docker run --read-only``.

    Also those of other libraries, and those of processes that begin later.
    """
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        if os.access(_SHARED_MEMORY, os.W_OK):
            tempfile.tempdir = os.environ["TMPDIR"] = _SHARED_MEMORY


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a new folder that is removed at the end, with all that is in it.

    Raises
    ------
    OutputError
        There is no place for temporary files.
    """
    ensure_temporary_place()
    try:
        folder = tempfile.TemporaryDirectory(prefix="idt-", ignore_cleanup_errors=True)
    except OSError as error:
        raise OutputError("There is no folder for temporary files that can be written: set TMPDIR to one.") from error
    with folder as name:
        yield Path(name)
