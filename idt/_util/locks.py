"""Locks between processes that end with their holder, however it ends: the only place that knows the system's locks.

A lock is a file of its own next to what it guards: Windows lets nobody read, rename or delete a file that is locked.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from filelock import FileLock, Timeout

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)


class Lock:
    """The lock of a file, free until `acquire`; on a file system without locks everybody gets one that holds nothing.

    Parameters
    ----------
    path : path
        The lock file; made by `acquire`, removed by `release`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._lock = FileLock(self.path, thread_local=False)

    def acquire(self, *, timeout: float = 0.0) -> bool:
        """Take the lock; False when another holds it for so many seconds. `OSError`: the file cannot be made."""
        try:
            self._lock.acquire(timeout, poll_interval=0.01)
        except Timeout:
            return False
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        return True

    @property
    def holds(self) -> bool:
        """Whether nobody else can have this lock now."""
        return self._lock.is_locked

    def release(self) -> None:
        """Give the lock back and remove its file."""
        with contextlib.suppress(OSError):  # while it is held, later it may be another's; on Windows filelock does it
            self.path.unlink()
        self._lock.release()


def is_held(path: str | os.PathLike[str]) -> bool:
    """Return whether another process, or this one by another `Lock`, holds the lock of this file.

    One that a process left when it was killed is removed.
    """
    if not os.path.exists(path):
        return False
    lock = Lock(path)
    try:
        if not lock.acquire():
            return True
    except OSError:  # it may not be written: it is another user's, or lies on a read-only file system
        return _is_held_for_readers(path)
    lock.release()
    return False


def _is_held_for_readers(path: str | os.PathLike[str]) -> bool:
    try:
        import fcntl

        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (ImportError, OSError):
        return False
    return False
