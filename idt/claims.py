"""Which videos a run works on, told to other runs with the same output folder: a hint, by which they share the work."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from idt.output import is_locked

_FOLDER = ".idt-claims"
_BEAT = 20.0  # s
_DEAD = 120.0  # s without a beat


class Claims:
    """Context manager that claims outputs for this run.

    The hidden folder ``.idt-claims`` of the output folder holds a file for each run, which the run locks and touches
    every 20 s, and for each output that is worked on a symbolic link to it, which only one run can make. The claims of
    a run count while its file is locked. Where locks do not reach from machine to machine, a run on another one counts
    as dead when its file has not been touched for two minutes by the clock of this process. Outputs that two runs work
    on nevertheless, because claims cannot be written or a run was taken for dead, are only worked on twice: each is
    renamed into its place as a whole.

    Parameters
    ----------
    output : path
        Folder of the outputs, which must exist.
    """

    def __init__(self, output: str | os.PathLike[str]) -> None:
        self._output = os.path.abspath(output)
        self._folder = Path(self._output, _FOLDER)
        self._run = self._folder / f"run-{secrets.token_hex(8)}"
        self._handle: int | None = None
        self._claimed: set[Path] = set()
        self._beats: dict[Path, tuple[int, float]] = {}  # of other runs: the last one, and when it was first seen
        self._over = threading.Event()

    def __enter__(self) -> Self:
        with contextlib.suppress(OSError):
            self._folder.mkdir(exist_ok=True)
            self._remove_dead()
            self._folder.mkdir(exist_ok=True)  # another run that ended may just have removed it
            self._handle = os.open(self._run, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(self._handle, fcntl.LOCK_EX)  # waits for who is just looking at it
            os.write(self._handle, _machine())
            threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._over.set()
        for path in (*self._claimed, self._run):
            _unlink(path)
        if self._handle is not None:
            os.close(self._handle)
        with contextlib.suppress(OSError):  # there is none, or others are in it
            self._folder.rmdir()

    def take(self, output: str | os.PathLike[str]) -> bool:
        """Claim an output; False when another run that is alive has claimed it."""
        path = self._path(output)
        for _ in range(3):
            try:
                os.symlink(self._run.name, path)
            except FileExistsError:
                with contextlib.suppress(OSError):
                    other = self._folder / os.readlink(path)
                    if self._alive(other):
                        return False
                    _unlink(path)
            except OSError:
                break
            else:
                self._claimed.add(path)
                break
        return True

    def release(self, output: str | os.PathLike[str]) -> None:
        """Give a claim back."""
        path = self._path(output)
        if path in self._claimed:
            self._claimed.remove(path)
            _unlink(path)

    def _path(self, output: str | os.PathLike[str]) -> Path:
        name = os.path.relpath(os.path.abspath(output), self._output)
        return self._folder / hashlib.sha256(os.fsencode(name)).hexdigest()[:32]

    def _beat(self) -> None:
        while not self._over.wait(_BEAT):
            with contextlib.suppress(OSError):
                os.utime(self._run)

    def _alive(self, run: Path) -> bool:
        """Tell whether another run goes on, as far as can be known."""
        try:
            with open(run, "rb") as file:
                if is_locked(file.fileno()):
                    return True
                if file.read() == _machine():
                    return False
                beat = os.fstat(file.fileno()).st_mtime_ns
        except OSError:
            return False
        last, since = self._beats.get(run, (None, 0.0))
        if last != beat:
            self._beats[run] = beat, time.monotonic()
            return True
        return time.monotonic() - since < _DEAD

    def _remove_dead(self) -> None:
        """Remove what runs that were killed have left."""
        alive = {path.name for path in self._folder.glob("run-*") if self._alive(path)}
        for path in self._folder.iterdir():
            if (os.readlink(path) if path.is_symlink() else path.name) not in alive:
                _unlink(path)


def _unlink(path: Path) -> None:
    with contextlib.suppress(OSError):  # somebody else has done it
        path.unlink()


def _machine() -> bytes:
    """Return what tells this machine, as long as it runs, from others."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_bytes()
    except OSError:
        return os.uname().nodename.encode()
