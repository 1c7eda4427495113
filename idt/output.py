"""Files that appear whole or not at all: written under a temporary name, then renamed."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from idt.errors import OutputError


@contextlib.contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn an `OSError` inside the block into an `OutputError` that names `path` and the reason."""
    try:
        yield
    except OSError as exc:
        raise OutputError(f"{os.fspath(path)} cannot be written: {exc.strerror or exc}.") from exc


def prepared(path: str | os.PathLike[str]) -> Path:
    """Make the folder of an output file and return where the file will really lie (links resolved).

    Raises
    ------
    OutputError
        The folder cannot be made, or something other than a plain file has that name already (a folder; a device,
        which renaming a file onto would destroy).
    """
    with writing(path):
        target = Path(os.path.realpath(path))
        if os.path.exists(target.parent) and not target.parent.is_dir():
            raise OutputError(f"{os.fspath(path)} cannot be written: {target.parent} is not a folder.")
        target.parent.mkdir(parents=True, exist_ok=True)
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
    temporary = target.with_name(f".idt-{secrets.token_hex(8)}.tmp")
    with writing(path):
        try:
            with open(temporary, "xb+") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
