"""Files and folders: those that appear whole or not at all, temporary ones, and how many may be open.

Outputs are written under a temporary name, ``.idt-*.tmp``, then renamed. Whoever made it holds the lock
``.idt-*.lock``, which ends with its process however that ends: it distinguishes what a killed run left from what
another is writing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from idt._util.locks import Lock
from idt.errors import OutputError

_SHARED_MEMORY = "/dev/shm"  # of Linux
_MACOS = 10240  # files that macOS lets a process have open although it says that there is no limit


@contextlib.contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn an `OSError` inside the block into an `OutputError` that names `path` and the reason."""
    try:
        yield
    except OSError as exc:
        error = OutputError(f"{os.fspath(path)} cannot be written: {exc.strerror or exc}.")
        error.errno = exc.errno
        raise error from exc


def prepared(path: str | os.PathLike[str]) -> Path:
    """Make the folder of an output file and return where the file will really lie (links resolved).

    Raises
    ------
    OutputError
        The folder cannot be made, or something other than a plain file has that name already (a folder; a device,
        which renaming a file onto would destroy).
    """
    with writing(path):
        target = _with_parent(path)
        if target.is_dir():
            raise OutputError(f"{os.fspath(path)} cannot be written: it is a folder; name a file in it.")
        if target.exists() and not target.is_file():
            raise OutputError(f"{os.fspath(path)} cannot be written: it is not a plain file.")
    return target


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Yield a new binary file that takes the name `path` when the block ends well; otherwise nothing remains.

    The file lies in the folder of `path` (made if missing) under a hidden name ``.idt-*.tmp`` until it is complete and
    on disk; its ``name`` is that temporary path. An `OSError` in the block counts as a failure to write.

    Raises
    ------
    OutputError
        One sentence with the path and the reason.
    """
    target = prepared(path)
    with writing(path), _temporary(target) as temporary:
        try:
            with open(temporary, "xb+") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise


@contextlib.contextmanager
def replacing_folder(path: str | os.PathLike[str], ours: Callable[[Path], bool]) -> Iterator[Path]:
    """Yield a new folder that takes the name `path` when the block ends well; otherwise nothing of it remains.

    The twin of `replacing`, but for one thing: the files in it, which may be many thousands, are left to the system to
    bring to disk, so that after a power failure some may be empty. A folder that has the name already stays as it is
    until the new one is complete. It is then deleted with all that it holds, so it must be one that `ours` accepts.

    Parameters
    ----------
    path : path
    ours : callable
        Tells whether a folder that has the name already may be replaced.

    Raises
    ------
    OutputError
        One sentence with the path and the reason; what has the name already is left alone.
    """
    with writing(path):
        target = _with_parent(path)
        if target.exists() and not target.is_dir():
            raise OutputError(f"{os.fspath(path)} cannot be written: it is not a folder.")
        if target.exists() and not ours(target):
            raise OutputError(f"{os.fspath(path)} cannot be written: there is a folder of that name with other things "
                              "in it; move it away or choose another output.")
        with _temporary(target) as temporary:
            temporary.mkdir()
            try:
                yield temporary
                _exchange(temporary, target)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise


@contextlib.contextmanager
def scratch_beside(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a new hidden folder beside the output file `path`, whose folder is made if missing; nothing of it remains.

    For what is too large for memory, and perhaps for the folder of temporary files, while an output is made.

    Raises
    ------
    OutputError
        One sentence with the path of the output and the reason.
    """
    target = prepared(path)
    with writing(path), _temporary(target) as folder:
        folder.mkdir()
        try:
            yield folder
        except OutputError as exc:  # of a file in the folder, which nobody has named
            if exc.errno is None:
                raise
            raise OSError(exc.errno, os.strerror(exc.errno)) from exc
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(folder: str | os.PathLike[str]) -> None:
    """Remove what killed runs left in a folder: files and folders ``.idt-*.tmp`` whose lock no process holds."""
    for stem in {path.with_suffix("") for kind in ("tmp", "lock") for path in Path(folder).glob(f".idt-*.{kind}")}:
        lock, path = Lock(stem.with_suffix(".lock")), stem.with_suffix(".tmp")
        with contextlib.suppress(OSError):  # gone by now, or not ours to delete
            if lock.acquire():
                try:
                    if not lock.holds:  # on a file system without locks it may be in use
                        continue
                    if path.is_dir():
                        shutil.rmtree(path)
                    else:
                        path.unlink(missing_ok=True)
                finally:
                    lock.release()


def _with_parent(path: str | os.PathLike[str]) -> Path:
    """Return where `path` really lies (links resolved), with the folder above it made."""
    target = Path(os.path.realpath(path))
    if os.path.exists(target.parent) and not target.parent.is_dir():
        raise OutputError(f"{os.fspath(path)} cannot be written: {target.parent} is not a folder.")
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


@contextlib.contextmanager
def _temporary(target: Path) -> Iterator[Path]:
    """Yield a temporary name next to `target`, and hold its lock meanwhile."""
    lock = Lock(_unused(target, "lock"))
    while not lock.acquire():  # `remove_leftovers` elsewhere is just looking at it
        lock = Lock(_unused(target, "lock"))
    try:
        yield lock.path.with_suffix(".tmp")
    finally:
        lock.release()


def _unused(target: Path, suffix: str) -> Path:
    return target.with_name(f".idt-{secrets.token_hex(8)}.{suffix}")


def _exchange(new: Path, target: Path) -> None:
    """Give `new` the name `target`, and delete the folder that had it; of two runs at a time the later one wins."""
    old = _unused(target, "tmp")
    with contextlib.suppress(FileNotFoundError):  # there is none, or another run has just taken it away
        target.rename(old)
    try:
        new.rename(target)
    except BaseException as error:
        if not (isinstance(error, OSError) and error.errno in (errno.ENOTEMPTY, errno.EEXIST)):
            with contextlib.suppress(FileNotFoundError):
                old.rename(target)
            raise
        _exchange(new, target)  # another run has just given the name to its own
    shutil.rmtree(old, ignore_errors=True)


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
