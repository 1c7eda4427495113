"""What the benchmarks share: the test data, the machine, ratios and tables."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np

DATA = Path(__file__).parents[1] / os.environ.get("IDT_TEST_DATA", "../shared/data")
BIKES = "bikes_320x240_80.avi"
YARDSTICK = {"pyr_scale": 0.7071, "levels": 5, "winsize": 10, "iterations": 2, "poly_n": 7, "poly_sigma": 1.5,
             "flags": 0}


def data(name: str) -> Path:
    """Return a folder of the test data, or end with a word when it is not there."""
    folder = DATA / name
    if not folder.is_dir():
        sys.exit(f"{Path(sys.argv[0]).name}: there is no folder {folder}: set IDT_TEST_DATA.")
    return folder


def yardstick(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Return wall and CPU time of OpenCV's Farnebäck flow of a pair, ms."""
    return timed(lambda: cv2.calcOpticalFlowFarneback(a, b, None, **YARDSTICK))


def timed(job: Any) -> tuple[float, float]:
    """Return wall and CPU time of a call, ms."""
    wall, cpu = time.perf_counter(), time.process_time()
    job()
    return 1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu)


def machine() -> dict[str, Any]:
    """Return what a result depends on: processor, cores, versions."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        processor = platform.processor() or platform.machine()
    versions = {name: importlib.metadata.version(name) for name in ("densetraj", "numpy", "numba", "llvmlite", "av")}
    return {"processor": processor, "cores": os.cpu_count(), "system": platform.platform(),
            "versions": {**versions, "opencv": cv2.__version__, "python": platform.python_version()}}


def described(machine: dict[str, Any]) -> str:
    """Return the machine as the beginning of a sentence."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return f"{machine['processor']}, {machine['cores']} cores; {versions}."


def ratio(values: Sequence[float], others: Sequence[float]) -> str:
    """Return median, least and greatest of the ratios of what was measured in one round each."""
    return spread([value / other for value, other in zip(values, others, strict=True)])


def spread(values: Sequence[float]) -> str:
    """Return median, least and greatest."""
    return f"{median(values):.2f} ({min(values):.2f}–{max(values):.2f})"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def say(text: str) -> None:
    """Tell on stderr where the benchmark stands."""
    print(text, file=sys.stderr, flush=True)
