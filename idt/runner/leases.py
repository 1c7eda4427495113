"""Which videos a run works on, told to other runs with the same output folder: a hint, by which they share the work."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import secrets
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from idt._util.locks import Lock, is_held

_FOLDER = ".idt-claims"
_BEAT = 20.0  # s
_DEAD = 120.0  # s without a beat
_PATIENCE = 10.0  # s for those who are just looking at the lock of this run


class Claims:
    """Context manager that claims outputs for this run.

    The hidden folder ``.idt-claims`` of the output folder holds a file for each run, ``run-*``, which the run touches
    every 20 s and whose lock it holds, and for each output that is worked on a file with the name of the run, which
    only one run can make. The claims of a run count while its lock is held. Where locks do not reach from machine to
    machine, a run on another one counts as dead when its file has not been touched for two minutes by the clock of this
    process. Outputs that two runs work on nevertheless, because claims cannot be written or a run was taken for dead,
    are only worked on twice: each is renamed into its place as a whole.

    Parameters
    ----------
    output : path
        Folder of the outputs, which must exist.
    """

    def __init__(self, output: str | os.PathLike[str]) -> None:
        self._output = os.path.abspath(output)
        self._folder = Path(self._output, _FOLDER)
        self._run = self._folder / f"run-{secrets.token_hex(8)}"
        self._lock = Lock(_lock_of(self._run))
        self._claimed: set[Path] = set()
        self._beats: dict[Path, tuple[int, float]] = {}  # of other runs: the last one, and when it was first seen
        self._over = threading.Event()

    def __enter__(self) -> Self:
        with contextlib.suppress(OSError):
            self._folder.mkdir(exist_ok=True)
            self._remove_dead()
            self._folder.mkdir(exist_ok=True)  # another run that ended may just have removed it
            self._lock.acquire(timeout=_PATIENCE)
            self._run.write_text(_machine(), encoding="utf-8")
            threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._over.set()
        for path in (*self._claimed, self._run):
            _unlink(path)
        self._lock.release()
        with contextlib.suppress(OSError):  # there is none, or others are in it
            self._folder.rmdir()

    def take(self, output: str | os.PathLike[str]) -> bool:
        """Claim an output; False when another run that is alive has claimed it."""
        path = self._path(output)
        for _ in range(3):
            try:
                with open(path, "x", encoding="utf-8") as file:
                    self._claimed.add(path)
                    file.write(self._run.name)
            except FileExistsError:
                try:
                    if self._counts(path):
                        return False
                except OSError:  # given back meanwhile
                    continue
                _unlink(path)
            except OSError:
                break
            else:
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

    def _counts(self, claim: Path) -> bool:
        """Return whether the run that has made a claim is alive."""
        run = claim.read_text(encoding="utf-8", errors="replace")
        return self._alive(self._folder / run) if run else self._beats_on(claim)  # empty: it is just being written

    def _beat(self) -> None:
        while not self._over.wait(_BEAT):
            with contextlib.suppress(OSError):
                os.utime(self._run)

    def _alive(self, run: Path) -> bool:
        """Tell whether another run goes on, as far as can be known."""
        try:
            if is_held(_lock_of(run)):
                return True
            if run.read_text(encoding="utf-8") == _machine():
                return False
            return self._beats_on(run)
        except (OSError, ValueError):
            return False

    def _beats_on(self, path: Path) -> bool:
        """Return whether a file has been touched of late, by the clock of this process."""
        beat = path.stat().st_mtime_ns
        last, since = self._beats.get(path, (None, 0.0))
        if last != beat:
            self._beats[path] = beat, time.monotonic()
            return True
        return time.monotonic() - since < _DEAD

    def _remove_dead(self) -> None:
        """Remove what runs that were killed have left."""
        for path in list(self._folder.iterdir()):
            with contextlib.suppress(OSError):  # gone meanwhile
                if path.suffix == ".lock":
                    is_held(path)  # or it is removed
                elif not (self._alive(path) if path.name.startswith("run-") else self._counts(path)):
                    path.unlink()


def _unlink(path: Path) -> None:
    with contextlib.suppress(OSError):  # somebody else has done it
        path.unlink()


def _lock_of(run: Path) -> Path:
    return run.with_suffix(".lock")


def _machine() -> str:
    """Return what distinguishes this machine, until it restarts, from others."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8")
    except OSError:
        return platform.node()
