"""Classifiers: what labelled videos teach, and the labels of new videos."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from idt.datasets import Dataset
from idt.encoding.bags import one_thread
from idt.encoding.model import Codebook
from idt.encoding.svm import Chi2SVM, LinearSVM
from idt.errors import ParameterError
from idt.features import Features
from idt.flow.threads import mapped
from idt.vectors import EncodingParams, encode

Array: TypeAlias = NDArray[Any]


def labels_of(dataset: Dataset) -> Array:
    """Return the class of each clip as its index in the dataset's classes, shape (clips,), int."""
    return np.array([dataset.classes.index(item.label) for item in dataset.items])


def check_number(dataset: Dataset, videos: Sequence[Features]) -> None:
    """Raise `ParameterError` unless there is a video for each clip."""
    if len(videos) != len(dataset.items):
        raise ParameterError(f"There are features of {len(videos)} videos for the {len(dataset.items)} clips of "
                             f"{dataset.name}: give those of every clip, in order.")


def new_machine(params: EncodingParams) -> LinearSVM | Chi2SVM:
    """Return the classifier of the vectors, not trained yet."""
    return (Chi2SVM if params.encoder == "bow" else LinearSVM)(
        C=params.cost, class_weight="balanced" if params.balanced else None)


def encode_all(videos: Sequence[Features], codebook: Codebook, *, threads: int = 1) -> dict[str, NDArray[np.float32]]:
    """Return the vectors of whole videos for each channel, shape (videos, size), float32.

    `threads` videos are encoded at a time, which does not change the result; errors are those of `idt.vectors.encode`.
    """
    found = {name: np.empty((len(videos), channel.size), np.float32) for name, channel in codebook.channels.items()}
    with one_thread():  # around all threads: the limit is that of the process
        for n, vectors in enumerate(mapped(lambda video: encode(video, codebook), iter(videos), threads)):
            for name, rows in vectors.channels.items():
                found[name][n] = rows[0]
    return found
