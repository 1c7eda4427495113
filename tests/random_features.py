"""Features with random numbers, as a video would give them, for tests of what stores and compares them."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from idt.features.record import Features
from idt.params import Params
from waiting import PATIENCE_S


def random_features(rows: int, seed: int = 0, *, frames: int = 40, **changes: Any) -> Features:
    """Return `rows` rows ordered by frame; `changes` replaces arrays (None leaves one out) or the meta."""
    rng = np.random.default_rng(seed)
    frame = np.sort(rng.integers(15, frames, rows)).astype(np.int32)

    def uniform(low: float, high: float, *shape: int) -> np.ndarray:
        return rng.uniform(low, high, (rows, *shape)).astype(np.float32)

    arrays = {
        "frame": frame, "time": frame / 25.0, "mean": uniform(0, 160, 2), "std": uniform(0, 50, 2),
        "length": uniform(0, 200), "scale": np.sqrt(np.float32(2)) ** rng.integers(0, 4, rows).astype(np.float32),
        "position": np.hstack([uniform(0, 1, 2), np.full((rows, 1), np.nan, np.float32)]),
        "trajectory": uniform(-0.3, 0.3, 30), "hog": uniform(0, 1, 96).astype(np.float16),
        "hof": uniform(0, 1, 108).astype(np.float16), "mbhx": uniform(0, 1, 96).astype(np.float16),
        "mbhy": uniform(0, 1, 96).astype(np.float16), "points": uniform(0, 160, 16, 2),
        "homographies": rng.normal(size=(frames, 3, 3)),
        "meta": {"kind": "features", "format": 1, "params": Params().to_dict(),
                 "video": {"name": "Übung \udcff.avi"}, "span": {"first": 0, "last": frames - 1, "frames": frames},
                 "rows": rows},
    }
    return Features(**{**arrays, **changes})


def chunks_of(features: Features, size: int) -> list[Features]:
    """Return the features as a stream would give them: rows and homographies in parts, meta with the last."""
    count = max(1, -(-len(features) // size))
    parts = []
    for n, homographies in enumerate(np.array_split(features.homographies, count)):
        part = features[n * size:(n + 1) * size].arrays()
        parts.append(Features(**{**part, "homographies": homographies},
                              meta=features.meta if n == count - 1 else {"kind": "features"}))
    return parts


def same(a: Features, b: Features) -> None:
    """Assert that all arrays have the same types and values."""
    assert a.arrays().keys() == b.arrays().keys()
    for name, array in a.arrays().items():
        other = getattr(b, name)
        assert array.dtype == other.dtype, name
        np.testing.assert_array_equal(array, other, err_msg=name)


def run_limited(code: str, *arguments: Path | str, limit: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python code in a child that may write files of at most `limit` bytes, as on a full disk."""
    def restrict() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.run([sys.executable, "-W", "error", "-c", code, *map(os.fspath, arguments)], text=True,
                          capture_output=True, timeout=PATIENCE_S, preexec_fn=restrict, check=False)
