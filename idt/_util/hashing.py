"""SHA-256 of what decides a result: side inputs, and values as JSON."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from idt.errors import FormatError


def json_digest(value: Any) -> str:
    """Return the SHA-256, 64 hex digits, of a value of JSON types; the order of keys does not count."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def digest(given: str | os.PathLike[str] | NDArray[Any] | Sequence[NDArray[Any]] | None) -> str | None:
    """Return the SHA-256 of a side input: of the bytes of a file, or of the numbers of arrays; None of None.

    Raises
    ------
    FormatError
        The file cannot be read.
    """
    if given is None:
        return None
    if isinstance(given, (str, os.PathLike)):
        try:
            with open(given, "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise FormatError(f"{os.fspath(given)}: cannot be read ({error.strerror}).") from error
    if isinstance(given, np.ndarray):
        return hashlib.sha256(np.ascontiguousarray(given, np.float64).data).hexdigest()
    numbers = hashlib.sha256()
    for array in given:
        values = np.asarray(array, np.float64)
        numbers.update(repr(values.shape).encode() + values.tobytes())
    return numbers.hexdigest()
