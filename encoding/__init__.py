"""Encodings of videos: bags of descriptors in, one vector for each video out, in the style of scikit-learn.

A bag is an array (n, d) with one descriptor a row: those of one video. Estimators take an iterable of bags, float16,
float32 or float64, that may make them as they are asked for; they work on them in chunks and in float32. The names
below are loaded when first used.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "PCA": "idt.encoding.pca", "KMeans": "idt.encoding.codebook", "DiagonalGMM": "idt.encoding.codebook",
    "sample": "idt.encoding.codebook", "LazyBag": "idt.encoding.bags", "BagOfWords": "idt.encoding.bow",
    "VLAD": "idt.encoding.vlad",
    "FisherVector": "idt.encoding.fisher", "Normalise": "idt.encoding.norms", "Pyramid": "idt.encoding.pyramid",
    "LinearSVM": "idt.encoding.svm", "Chi2SVM": "idt.encoding.svm", "fuse": "idt.encoding.fusion",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'idt.encoding' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
