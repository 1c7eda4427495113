"""Compiled kernels: their one decorator, and where their code is kept when the usual places cannot be written."""

from __future__ import annotations

import atexit
import functools
import hashlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.misc.appdirs import AppDirs

from idt._util.files import ensure_temporary_place


def jit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that compiles a function at its first call, or takes the code that an earlier run compiled.

    Numba keeps the code in ``NUMBA_CACHE_DIR``, next to the source or in the user's cache: the first that can be
    written. What the others hold, as in an image of a container, is copied there. Where none can be written, a
    temporary folder of this process takes their place, also for the processes that it begins later; where there is no
    room even for that, each process compiles for itself.

    Parameters
    ----------
    **options
        Of `numba.njit`; the GIL is released and division by zero gives infinity, as in NumPy, unless they say
        otherwise.
    """
    compiled = functools.partial(numba.njit, **{"nogil": True, "error_model": "numpy", **options})

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            kernel = compiled(cache=True)(function)
        except RuntimeError:  # no place can be written
            if not _temporary():
                return compiled()(function)
            kernel = compiled(cache=True)(function)
        if not numba.config.DISABLE_JIT:
            _fill(Path(kernel.stats.cache_path), Path(function.__code__.co_filename).parent)
        return kernel

    return decorate


def is_cached(kernel: Any) -> bool:
    """Return whether the code of a kernel, compiled from the present source, is kept somewhere."""
    # Numba says this nowhere else; where nothing is kept there is no such file.
    file = getattr(getattr(kernel, "_cache", None), "_cache_file", None)
    return file is not None and bool(file._load_index())


def are_kept() -> bool:
    """Return whether later runs will find what this one compiles; known once the kernels are imported."""
    return _folder is None


_folder: str | None = None
"""The temporary folder; empty if there is no room for one, None as long as none is needed."""

_given: str = numba.config.CACHE_DIR


def _temporary() -> str:
    """Return the temporary folder, made and known to Numba from now on."""
    global _folder
    if _folder is None:
        ensure_temporary_place()
        try:
            _folder = tempfile.mkdtemp(prefix="idt-kernels-")
        except OSError:
            _folder = ""
        else:
            atexit.register(shutil.rmtree, _folder, ignore_errors=True)
            numba.config.CACHE_DIR = os.environ["NUMBA_CACHE_DIR"] = _folder
    return _folder


@functools.cache
def _fill(place: Path, source: Path) -> None:
    """Copy what is kept of the kernels of a folder of modules in places that Numba would rather have used."""
    name = f"{source.name}_{hashlib.sha1(str(source).encode()).hexdigest()}"  # as Numba calls it
    user = Path(AppDirs(appname="numba", appauthor=False).user_cache_dir, name)
    for kept in (*([Path(_given, name)] if _given else []), source / "__pycache__", user):
        if kept == place:
            break
        for path in sorted(kept.glob("*.nb[ci]")):  # the code before the index
            if not (place / path.name).exists():
                copy = place / f"{path.name}.{secrets.token_hex(8)}"
                try:
                    shutil.copyfile(path, copy)
                    os.replace(copy, place / path.name)
                except OSError:  # it is compiled instead
                    copy.unlink(missing_ok=True)
