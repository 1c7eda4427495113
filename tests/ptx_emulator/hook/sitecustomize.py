"""Python imports this when it starts; while FAKE_MODULES is set each kernel that numba-cuda links is built for the CPU.

The PTX after linking is translated to C++, compiled, and stored in the folder FAKE_MODULES under a hash of the machine
code, by which the stand-in for the driver finds it when it is given that code to load.
"""

from __future__ import annotations

import ctypes
import importlib.abc
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
FLAGS = ["-O1", "-std=c++17", "-fPIC", "-shared", "-mfma", "-mavx2", "-ffp-contract=off", "-fno-strict-aliasing"]


def place_of(code: bytes) -> Path:
    driver = ctypes.CDLL("libcuda.so.1")
    driver.fake_hash.restype = ctypes.c_uint64
    return Path(os.environ["FAKE_MODULES"], f"{driver.fake_hash(code, ctypes.c_size_t(len(code))):016x}.so")


def build(ptx: str, place: Path) -> None:
    sys.path.insert(0, str(HERE))
    import ptx2c

    sys.path.remove(str(HERE))
    with tempfile.TemporaryDirectory(dir=place.parent) as folder:  # several processes may build the same
        source, library = Path(folder, "kernel.cpp"), Path(folder, "kernel.so")
        source.write_text(ptx2c.c_source(ptx))
        subprocess.run(["g++", *FLAGS, "-I", str(HERE), "-o", str(library), str(source)], check=True)
        library.replace(place)


def hook() -> None:
    from numba.cuda import codegen

    link = codegen.CUDACodeLibrary.get_cubin

    def get_cubin(self, cc=None):
        cubin = link(self, cc)
        place = place_of(cubin.code)
        if not place.exists():
            cc = self._ensure_cc(cc)
            build(self.get_lto_ptx(cc) if self._lto else self.get_asm_str(cc), place)
        return cubin

    codegen.CUDACodeLibrary.get_cubin = get_cubin


class Finder(importlib.abc.MetaPathFinder):
    """Calls `hook` as soon as numba.cuda.dispatcher is imported."""

    def find_spec(self, name, path, target=None):
        if name != "numba.cuda.dispatcher":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            hook()

        spec.loader.exec_module = exec_module
        return spec


if os.environ.get("FAKE_MODULES") and os.environ.get("NUMBA_ENABLE_CUDASIM") != "1":
    sys.meta_path.insert(0, Finder())
