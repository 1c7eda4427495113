"""Classifiers: what labelled videos teach, and the labels of new videos."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from idt._util.checks import checked_integer
from idt._util.threads import mapped
from idt.encoding.bags import one_thread
from idt.encoding.bow import BagOfWords
from idt.encoding.codebook import DiagonalGMM, KMeans
from idt.encoding.fisher import FisherVector
from idt.encoding.model import Codebook, Model
from idt.encoding.svm import Chi2SVM, LinearSVM, gram
from idt.encoding.vlad import VLAD
from idt.errors import ParameterError
from idt.features.record import Features
from idt.recognition.codebook_learning import check_extraction, learn_codebook
from idt.recognition.datasets import Dataset
from idt.recognition.vectors import EncodingParams, encode, shared_extraction

Array: TypeAlias = NDArray[Any]
Source: TypeAlias = str | os.PathLike[str]


@dataclass(frozen=True)
class Prediction:
    """The labels of a video.

    Attributes
    ----------
    labels : tuple of str
        All labels of the model, the best first.
    scores : tuple of float
        That of each (see `idt.encoding.model.Model.scores`), in descending order.
    """

    labels: tuple[str, ...]
    scores: tuple[float, ...]


def train(dataset: Dataset, videos: Sequence[Features], params: EncodingParams | None = None, *,
          threads: int = 1) -> Model:
    """Learn a codebook and a classifier from all clips of a dataset.

    Parameters
    ----------
    dataset : Dataset
        Of one with official splits, `training_side` of `idt.recognition.datasets` leaves the test clips out.
    videos : sequence of Features
        The trajectories of each of its clips, in its order (see `idt.recognition.clip_features.features_of`).
    params : EncodingParams, optional
    threads : int
        Channels that are learnt, or clips that are encoded, at a time; it does not change the result.

    Returns
    -------
    Model
        It labels new videos, alone (`predict`) or many (`idt.batch.predict_videos`).

    Raises
    ------
    ParameterError
        There are not as many videos as clips, or clips of one class only; it is not known how all videos were extracted
        alike, so that new ones could not be; a channel is missing, or there are too few descriptors.
    """
    params, threads = params or EncodingParams(), checked_integer("threads", threads)
    check_number(dataset, videos)
    check_classes(dataset)
    labels = [item.label for item in dataset.items]
    if shared_extraction(videos) is None:
        raise ParameterError(f"{dataset.name}: its features were not all extracted in the same known way, so that those"
                             " of new videos would not be like them: extract all of its videos with idt extract and the"
                             " same parameters.")
    codebook = learn_codebook(videos, params, threads=threads)
    vectors = encode_all(videos, codebook, threads=threads)
    meta = {"dataset": dataset.name, "clips": len(labels), "classes": len(dataset.classes)}
    return Model(codebook, _fitted(new_machine(params), list(vectors.values()), labels), meta)


def _fitted(machine: LinearSVM | Chi2SVM, channels: list[Array], labels: list[str]) -> LinearSVM | Chi2SVM:
    """Return the machine, learnt from the vectors of each channel; of a kernel machine with its support vectors."""
    if isinstance(machine, LinearSVM):
        # As `fit` does it for all channels side by side, but without a second copy of what may be gigabytes.
        machine.fit_gram(np.sum([gram(rows) for rows in channels], axis=0), labels)
        with one_thread():
            machine.coef_ = np.hstack([machine.dual_coef_.astype(np.float32) @ rows for rows in channels])
        return machine
    machine.fit(channels, labels)
    used = machine.dual_coef_.any(axis=0)
    machine.dual_coef_ = np.ascontiguousarray(machine.dual_coef_[:, used])
    machine.channels_ = [rows[used] for rows in machine.channels_]
    return machine


def load_model(path: Source) -> Model:
    """Read a model, as `Model.load` does, and check what it tells of the extraction.

    Raises
    ------
    FormatError
        The file cannot be read, holds something else, is of another format version, or does not fit together.
    """
    model = Model.load(path)
    check_extraction(model.codebook, path)
    return model


def predict(features: Features, model: Model, *, threads: int = 1) -> Prediction:
    """Return the labels of a video from its trajectories, the best first.

    Parameters
    ----------
    features : Features
        Extracted with the parameters in ``model.codebook.meta["extraction"]``. Without a trajectory the vectors are
        zero, and the labels tell nothing of the video.
    model : Model
    threads : int
        Channels that are encoded at a time; it does not change the result.

    Raises
    ------
    ParameterError
        The features lack a channel, a descriptor has another length than those that were learnt from, or is NaN or
        infinite (the row is named).
    """
    scores = model.scores(encode(features, model.codebook, threads=threads).channels)[0]
    best = np.argsort(-scores, kind="stable")
    return Prediction(tuple(model.labels[n] for n in best), tuple(scores[best].tolist()))


def labels_of(dataset: Dataset) -> Array:
    """Return the class of each clip as its index in the dataset's classes, shape (clips,), int."""
    index = {label: n for n, label in enumerate(dataset.classes)}
    return np.array([index[item.label] for item in dataset.items])


def check_number(dataset: Dataset, videos: Sequence[Features]) -> None:
    """Raise `ParameterError` unless there is a video for each clip."""
    if len(videos) != len(dataset.items):
        raise ParameterError(f"There are features of {len(videos)} videos for the {len(dataset.items)} clips of "
                             f"{dataset.name}: give those of every clip, in order.")


def check_classes(dataset: Dataset) -> None:
    """Raise `ParameterError` unless there are clips of two classes at least."""
    if len(dataset.classes) < 2:
        raise ParameterError(f"{dataset.name} has clips of one class only, {dataset.classes[0]}: a classifier needs at "
                             "least two classes.")


def new_machine(params: EncodingParams) -> LinearSVM | Chi2SVM:
    """Return the classifier of the vectors, not trained yet."""
    return (Chi2SVM if params.encoder == "bow" else LinearSVM)(
        C=params.cost, class_weight="balanced" if params.balanced else None)


def encode_all(videos: Sequence[Features], codebook: Codebook, *, threads: int = 1,
               report: Callable[[int], None] | None = None) -> dict[str, NDArray[np.float32]]:
    """Return the vectors of whole videos for each channel, shape (videos, size), float32.

    `threads` videos are encoded at a time, which does not change the result; `report` is called with the number of
    those that are done. Errors are those of `idt.recognition.vectors.encode`.
    """
    found = {name: np.empty((len(videos), channel.size), np.float32) for name, channel in codebook.channels.items()}
    with one_thread():  # around all threads: the limit is that of the process
        for n, vectors in enumerate(mapped(lambda video: encode(video, codebook), iter(videos), threads)):
            for name, rows in vectors.channels.items():
                found[name][n] = rows[0]
            if report is not None:
                report(n + 1)
    return found


def compile_kernels() -> None:
    """Compile all kernels of encoders and classifiers and store them in the cache, so that no later run has to."""
    bags = np.random.default_rng(0).random((2, 20, 4), np.float32)
    for encoder in (FisherVector(DiagonalGMM(2)), VLAD(KMeans(2)), BagOfWords(KMeans(2))):
        vectors = encoder.fit(bags).transform(bags)
    for machine in (LinearSVM(), Chi2SVM()):
        machine.fit(vectors, ["a", "b"]).decision_function(vectors)
