"""Arrays in uncompressed ``.npz`` files, read by their place: no file stays open between two uses of an array."""

from __future__ import annotations

import errno
import json
import math
import mmap
import os
import re
import struct
import zipfile
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from idt.errors import FormatError, IdtError, OutputError

_CALLED = {"codebook": "a codebook", "model": "a model", None: "something else"}

# The header of an array as NumPy writes it (format 1.0) for the types we store: never evaluated, only matched.
_HEADER = re.compile(rb"\x93NUMPY\x01\x00..\{'descr': '([^']{1,20})', 'fortran_order': False, "
                     rb"'shape': \(([0-9, ]{0,60})\), \} *\n", re.DOTALL)


@dataclass(frozen=True)
class StoredArray:
    """An array in a file; indexing it reads what is asked for.

    Attributes
    ----------
    path : str
        Absolute.
    dtype : numpy.dtype
    shape : tuple of int
    offset : int
        Where its numbers begin in the file, bytes.
    stamp : tuple of int
        Size and time stamp that the file had when its headers were read.
    """

    path: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int
    stamp: tuple[int, ...]

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        return np.array(self.mapped()[index])

    def mapped(self) -> NDArray[Any]:
        """Return the array as a read-only view of the file, which is open as long as the view or one of it exists.

        Raises
        ------
        FormatError
            The file cannot be opened, or is not the one whose headers were read.
        IdtError
            This process may not have more files open.
        """
        try:
            with open(self.path, "rb") as file:
                if _stamp(file.fileno()) != self.stamp:
                    raise FormatError(f"{self.path} has changed since it was opened: open it again.")
                view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise unreadable(self.path, error) from error
        return np.ndarray(self.shape, self.dtype, view, self.offset)

    def rows(self, start: int, stop: int) -> StoredArray:
        """Return the rows from start to stop, 0 <= start <= stop <= n, which are not read yet."""
        size = math.prod(self.shape[1:]) * self.dtype.itemsize
        return replace(self, shape=(stop - start, *self.shape[1:]), offset=self.offset + start * size)


def unreadable(path: str | os.PathLike[str], error: OSError) -> IdtError:
    """Return the error to raise for a file that cannot be opened or read."""
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return FormatError(f"{os.fspath(path)} does not exist.")
    if error.errno == errno.EMFILE:  # nothing is wrong with this file
        return IdtError(f"{os.fspath(path)} cannot be opened: this process has reached its limit of open files. Arrays "
                        "of features files keep them open: delete references to some, or raise the limit (ulimit -n).")
    return FormatError(f"{os.fspath(path)} cannot be read: {error.strerror or error}.")


def stored_arrays(path: str | os.PathLike[str]) -> tuple[Any, dict[str, StoredArray]]:
    """Return what the JSON of the member ``meta`` says, and the other arrays by name, of which only headers are read.

    Raises
    ------
    FormatError
        There is no ``meta``.
    OSError
        The file cannot be read.
    Exception
        Of nearly any kind, from `zipfile` and others: the file is damaged, or its members are compressed or of types
        that this package does not write.
    """
    with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        if "meta" not in members:
            raise FormatError(f"{os.fspath(path)} has no meta: it is not a file of this package.")
        stamp = _stamp(file.fileno())
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            arrays = {name: _stored(os.path.abspath(path), stamp, view, name, info) for name, info in members.items()}
    meta = arrays.pop("meta")
    if meta.dtype.kind != "U":
        raise ValueError(f"member meta has the type {meta.dtype.str!r}")
    return json.loads(str(meta[()])), arrays


def _stored(path: str, stamp: tuple[int, ...], view: mmap.mmap, name: str, info: zipfile.ZipInfo) -> StoredArray:
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"member {name} is compressed, which a file of this package never is")
    # The length of the local header's extra field is only known to that header, not to the directory.
    name_length, extra_length = struct.unpack_from("<26xHH", view, info.header_offset)
    start = info.header_offset + 30 + name_length + extra_length
    header = _HEADER.match(view, start)
    if not header:
        raise ValueError(f"member {name} does not begin like an array of this package")
    dtype, shape = np.dtype(header[1].decode()), tuple(int(n) for n in header[2].split(b",") if n.strip())
    if dtype.kind not in "fiuU":
        raise ValueError(f"member {name} has the type {dtype.str!r}")
    offset = header.end()
    if offset + math.prod(shape) * dtype.itemsize != start + info.file_size or start + info.file_size > len(view):
        raise ValueError(f"member {name} has another size than its header says")
    return StoredArray(path, dtype, shape, offset, stamp)


def _stamp(handle: int) -> tuple[int, ...]:
    status = os.fstat(handle)
    return status.st_size, status.st_mtime_ns


def check_sums(path: str | os.PathLike[str]) -> None:
    """Read an ``.npz`` file whole; raise `FormatError` when one of its arrays is not what its check sum says."""
    try:
        with zipfile.ZipFile(path) as archive:
            wrong = archive.testzip()
    except Exception as error:  # zipfile raises nearly anything on damaged bytes
        raise FormatError(f"{os.fspath(path)} is damaged or incomplete ({error}): make it again.") from error
    if wrong is not None:
        raise FormatError(f"{os.fspath(path)} is damaged: the check sum of {wrong.removesuffix('.npy')} is wrong; make "
                          "it again.")


def is_sound(path: str | os.PathLike[str]) -> bool:
    """Return whether each array of an ``.npz`` file is what its check sum says."""
    try:
        check_sums(path)
    except FormatError:
        return False
    return True


def kind_of(path: str | os.PathLike[str]) -> str | None:
    """Return the kind of a file (``.npz``, ``.h5``) of this package, such as "codebook"; None of any other."""
    meta = _meta(path)
    kind = meta.get("kind") if isinstance(meta, dict) else None
    return kind if isinstance(kind, str) else None


def check_replaceable(path: str | os.PathLike[str], kind: str) -> None:
    """Raise `OutputError` when `path` is a sound ``.npz`` or ``.h5`` of another kind, which nobody asked to replace."""
    if _meta(path) is None or (found := kind_of(path)) == kind:
        return
    raise OutputError(f"{os.fspath(path)} holds {_CALLED.get(found, found)}, which {kind} must not replace: choose "
                      "another output folder.")


def _meta(path: str | os.PathLike[str]) -> Any:
    """Return the meta of an ``.npz`` or ``.h5``, False where it has none, None when the file is missing or damaged."""
    try:
        with open(path, "rb") as opened:
            if opened.peek(4)[:4] == b"\x89HDF":
                import h5py

                with h5py.File(opened, "r") as file:
                    return json.loads(file.attrs["meta"]) if "meta" in file.attrs else False
            with np.load(opened, allow_pickle=False) as file:
                return json.loads(str(file["meta"][()])) if "meta" in file else False
    except Exception:  # zipfile, zlib, json, NumPy and h5py raise nearly anything on damaged bytes
        return None
