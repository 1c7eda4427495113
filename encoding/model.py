"""Codebooks and models of videos and their files: arrays and a JSON text, nothing that could run."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, TypeAlias, TypeVar

import numpy as np

from idt.encoding.bags import Array, Bag, BagEncoder, Float32, Float64, LazyBag, check_bag
from idt.encoding.bow import BagOfWords
from idt.encoding.codebook import DiagonalGMM, KMeans
from idt.encoding.fisher import FisherVector
from idt.encoding.norms import Normalise, root_sift
from idt.encoding.pca import PCA
from idt.encoding.pyramid import Pyramid
from idt.encoding.svm import Chi2SVM, LinearSVM
from idt.encoding.vlad import VLAD
from idt.errors import FormatError, ParameterError

Source: TypeAlias = str | os.PathLike[str]
Machine: TypeAlias = LinearSVM | Chi2SVM
T = TypeVar("T")

FORMAT = 1
"""Version of the files."""

_ENCODERS: dict[str, tuple[type[BagEncoder], type[Any]]] = {
    "bow": (BagOfWords, KMeans), "vlad": (VLAD, KMeans), "fisher": (FisherVector, DiagonalGMM)}
_LEARNT = {PCA: ("mean_", "components_", "scale_"), KMeans: ("centres_",),
           DiagonalGMM: ("weights_", "means_", "variances_")}
_MACHINES: dict[str, type[Machine]] = {"linear": LinearSVM, "chi2": Chi2SVM}
_KINDS = {"codebook": ("a codebook", "idt fit"), "model": ("a model", "idt train"),
          "vectors": ("a file of vectors", "idt encode")}  # in words, and who writes them


@dataclass(frozen=True, eq=False)
class Channel:
    """How the descriptors of one channel become one vector.

    Attributes
    ----------
    width : int
        Numbers of a descriptor.
    encoder : BagOfWords, VLAD or FisherVector
        With its codebook fitted.
    pca : PCA, optional
        Fitted; descriptors go through it first.
    root : bool
        Descriptors are L1-normalised and their square roots taken (RootSIFT), before all else.
    norm : Normalise, optional
        What is done to the vector of each cell.
    pyramid : Pyramid, optional
        Cells whose vectors are put one after the other; without one the whole video is one cell.
    """

    width: int
    encoder: BagEncoder
    pca: PCA | None = None
    root: bool = False
    norm: Normalise | None = None
    pyramid: Pyramid | None = None

    @property
    def size(self) -> int:
        """Number of values of a vector."""
        return self.encoder.size * (1 if self.pyramid is None else self.pyramid.size)

    def encode(self, bag: Bag, position: Array | None = None) -> Float32:
        """Return the vector of a bag (n, width), shape (size,), float32; zero when the bag is empty.

        Parameters
        ----------
        bag : ndarray, shape (n, width), or LazyBag
        position : ndarray, shape (n, 3), optional
            x, y and t in [0, 1) of each descriptor; needed by a pyramid.
        """
        check_bag(bag, width=self.width)
        ready = self.prepare(bag)
        if self.pyramid is None:
            vector = self.encoder.encode(ready)
            return vector if self.norm is None else self.norm.transform(vector)
        if position is None:
            raise ParameterError("The codebook has a pyramid, which needs the position of each descriptor.")
        return self.pyramid.encode(self.encoder, ready, position, norm=self.norm)

    def prepare(self, bag: Bag) -> Bag:
        """Return the descriptors as the encoder takes them, square roots and PCA done as they are read."""
        steps = ([root_sift] if self.root else []) + ([self.pca.project] if self.pca is not None else [])
        return LazyBag(bag, *steps)


@dataclass(frozen=True, eq=False)
class Codebook:
    """How the descriptors of a video become one vector for each channel.

    Attributes
    ----------
    channels : mapping of str to Channel
    meta : dict
        What the codebook was learnt from and how (JSON types); kept in the file.
    """

    channels: Mapping[str, Channel]
    meta: dict[str, Any] = field(default_factory=dict)

    def save(self, file: BinaryIO) -> None:
        """Write the codebook into a binary file that is open; the same codebook gives the same bytes."""
        write_file(file, "codebook", *_described(self))

    @classmethod
    def load(cls, path: Source) -> Codebook:
        """Read a codebook.

        Raises
        ------
        FormatError
            The file cannot be read, holds something else, is of another format version, or does not fit together.
        """
        return read_file(path, "codebook", _codebook)


@dataclass(frozen=True, eq=False)
class Model:
    """What labels videos: a codebook, and a classifier of its vectors.

    Attributes
    ----------
    codebook : Codebook
    machine : LinearSVM or Chi2SVM
        Fitted. A linear machine takes the vectors of all channels one after the other, in the order of the codebook;
        the other one takes them channel by channel. Its classes are the labels.
    meta : dict
        What the model was learnt from (JSON types); kept in the file.
    """

    codebook: Codebook
    machine: Machine
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, in the order of the columns of `scores`."""
        return tuple(map(str, self.machine.classes_.tolist()))

    def scores(self, vectors: Mapping[str, Array]) -> Float64:
        """Return the score of each label for each of n videos, shape (n, labels), float64.

        A score is the distance from the boundary between a label and all others in margins of the classifier: above 0
        the video rather has the label. The scores of a video are compared with each other; they are no probabilities.

        Parameters
        ----------
        vectors : mapping of str to ndarray, shape (n, size)
            Those of at least the channels of the codebook.

        Raises
        ------
        ParameterError
            A channel is missing or has another width, or a value is NaN or infinite (or negative, of histograms).
        """
        rows = []
        for name, channel in self.codebook.channels.items():
            found = vectors.get(name)
            if found is None or found.ndim != 2 or found.shape[1] != channel.size:
                what = "missing" if found is None else f"of the shape {found.shape}"
                raise ParameterError(f"The vectors of {name} are {what}: they must have the shape (n, {channel.size}).")
            rows.append(found)
        if isinstance(self.machine, LinearSVM):
            return self.machine.decision_function(np.hstack(rows))
        return self.machine.decision_function(rows)

    def save(self, file: BinaryIO) -> None:
        """Write the model into a binary file that is open; the same model gives the same bytes."""
        described, arrays = _described(self.codebook)
        kind = next(kind for kind, machine in _MACHINES.items() if type(self.machine) is machine)
        arrays["machine.intercept"] = self.machine.intercept_
        if isinstance(self.machine, LinearSVM):
            arrays["machine.coef"] = self.machine.coef_
        else:
            arrays |= {"machine.dual_coef": self.machine.dual_coef_, "machine.scales": self.machine.scales_}
            arrays |= {f"machine.vectors.{name}": rows
                       for name, rows in zip(self.codebook.channels, self.machine.channels_, strict=True)}
        machine = {"kind": kind, "params": self.machine.get_params()}
        write_file(file, "model", {"codebook": described, "machine": machine, "labels": self.labels, "meta": self.meta},
                   arrays)

    @classmethod
    def load(cls, path: Source) -> Model:
        """Read a model.

        Raises
        ------
        FormatError
            The file cannot be read, holds something else, is of another format version, or does not fit together.
        """
        return read_file(path, "model", _model)


# Files


def write_file(file: BinaryIO, kind: str, described: dict[str, Any], arrays: Mapping[str, Any]) -> None:
    """Write a description (JSON types) and arrays into a binary file that is open; see `read_file`."""
    meta = {"kind": kind, "format": FORMAT, **described}
    np.savez(file, meta=np.array(json.dumps(meta)), **arrays)  # numbers and a text: nothing that would be pickled


def read_file(path: Source, kind: str, build: Callable[[dict[str, Any], Mapping[str, Array]], T]) -> T:
    """Return what is built of the description and the arrays in a file of this kind; all errors are FormatError."""
    name = os.fspath(path)
    called, writer = _KINDS[kind]
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            meta = json.loads(str(file["meta"][()]))
            arrays = {key: file[key] for key in file.files}
    except Exception as error:  # zipfile, zlib, json and NumPy raise nearly anything on damaged bytes
        reason = getattr(error, "strerror", None) or error
        raise FormatError(f"{name}: not {called} that can be read ({reason}).") from error
    found = meta.get("kind") if isinstance(meta, dict) else None
    if not isinstance(meta, dict) or found != kind:
        what = _KINDS[found][0] if isinstance(found, str) and found in _KINDS else found or "unknown"
        raise FormatError(f"{name}: not {called} but {what}; give a file that {writer} wrote.")
    if meta.get("format") != FORMAT:
        raise FormatError(f"{name}: {called} of format {meta.get('format')}; this version reads format {FORMAT}.")
    try:
        return build(meta, arrays)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise FormatError(f"{name}: the {kind} does not fit together ({error}).") from error


def _described(codebook: Codebook) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return what a file says of a codebook, and its arrays."""
    arrays: dict[str, Array] = {}
    channels = {}
    for name, c in codebook.channels.items():
        kind = next(kind for kind, (encoder, _) in _ENCODERS.items() if type(c.encoder) is encoder)
        words = c.encoder.codebook_
        channels[name] = {
            "width": c.width, "root": c.root, "encoder": kind, "pca": c.pca and c.pca.get_params(),
            "codebook": words.get_params(), "norm": c.norm and c.norm.get_params(),
            "pyramid": c.pyramid and list(c.pyramid.grids),
            "options": {k: v for k, v in c.encoder.get_params(deep=False).items() if k != "codebook"}}
        for part, learnt in (("pca", c.pca), ("codebook", words)):
            if learnt is not None:
                arrays |= {f"{name}.{part}.{key}": getattr(learnt, key) for key in _LEARNT[type(learnt)]}
    return {"channels": channels, "meta": codebook.meta}, arrays


def _codebook(described: dict[str, Any], arrays: Mapping[str, Array]) -> Codebook:
    channels = {name: _channel(name, values, arrays) for name, values in described["channels"].items()}
    if not channels:
        raise ValueError("it has no channel")
    return Codebook(channels, _dictionary(described, "meta"))


def _model(described: dict[str, Any], arrays: Mapping[str, Array]) -> Model:
    codebook = _codebook(described["codebook"], arrays)
    labels = described["labels"]
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels) or \
            len(set(labels)) != len(labels) or len(labels) < 2:
        raise ValueError("labels is not a list of two different texts or more")
    machine: Any = _MACHINES[described["machine"]["kind"]](**described["machine"]["params"])
    machine.classes_ = np.array(labels)
    machine.intercept_ = _numbers(arrays, "machine.intercept", np.float64)
    _expect("labels and machine.intercept", machine.intercept_.shape == (len(labels),))
    if isinstance(machine, LinearSVM):
        machine.coef_ = _numbers(arrays, "machine.coef", np.float32)
        size = sum(channel.size for channel in codebook.channels.values())
        _expect("machine.coef, labels and the codebook", machine.coef_.shape == (len(labels), size))
    else:
        machine.scales_ = arrays["machine.scales"]
        _expect("machine.scales and the codebook", machine.scales_.shape == (len(codebook.channels),))
        if machine.scales_.dtype != np.float64 or not (machine.scales_ > 0).all():  # infinite: a channel is left out
            raise ValueError("machine.scales are not positive numbers of float64")
        machine.dual_coef_ = _numbers(arrays, "machine.dual_coef", np.float64)
        machine.channels_ = [_numbers(arrays, f"machine.vectors.{name}", np.float32) for name in codebook.channels]
        for (name, channel), rows in zip(codebook.channels.items(), machine.channels_, strict=True):
            _expect(f"machine.dual_coef, labels, machine.vectors.{name} and the codebook", rows.ndim == 2 and
                    rows.shape[1] == channel.size and machine.dual_coef_.shape == (len(labels), len(rows)))
            if (rows < 0).any():
                raise ValueError(f"machine.vectors.{name} are no histograms")
    return Model(codebook, machine, _dictionary(described, "meta"))


def _channel(name: str, described: dict[str, Any], arrays: Mapping[str, Array]) -> Channel:
    """Return a channel as a file describes it, once all its numbers fit together."""
    def learnt(kind: type[Any], part: str) -> Any:
        made = kind(**described[part])
        for key in _LEARNT[kind]:
            setattr(made, key, _numbers(arrays, f"{name}.{part}.{key}", np.float32))
        return made

    encoder, codebook_kind = _ENCODERS[described["encoder"]]
    pca = learnt(PCA, "pca") if described["pca"] is not None else None
    codebook = learnt(codebook_kind, "codebook")
    width, inner = described["width"], described["width"]
    if pca is not None:
        inner = len(pca.components_)
        _expect(f"{name}.pca", pca.components_.shape == (inner, width) and pca.mean_.shape == (width,)
                and pca.scale_.shape == (inner,))
    if isinstance(codebook, KMeans):
        _expect(f"{name}.codebook", codebook.centres_.ndim == 2 and codebook.centres_.shape[1] == inner)
    else:
        k = len(codebook.weights_)
        _expect(f"{name}.codebook", codebook.weights_.shape == (k,) and codebook.means_.shape == (k, inner)
                and codebook.variances_.shape == (k, inner))
        for key in ("weights_", "variances_"):
            if not (getattr(codebook, key) > 0).all():
                raise ValueError(f"{name}.codebook.{key} are not all above 0")
        if not np.isclose(codebook.weights_.sum(), 1, atol=1e-3):
            raise ValueError(f"{name}.codebook.weights_ do not sum to 1")
    norm = None if described["norm"] is None else Normalise(**described["norm"])
    pyramid = None if described["pyramid"] is None else Pyramid(described["pyramid"])
    made = encoder(**described["options"]).with_codebook(codebook)
    channel = Channel(width, made, pca, bool(described["root"]), norm, pyramid)
    with np.errstate(all="ignore"):  # estimators check their options when they work
        trial = channel.encode(np.stack([np.zeros(width), np.ones(width)]).astype(np.float32), np.zeros((2, 3)))
    if not np.isfinite(trial).all():
        raise ValueError(f"{name} makes vectors that are NaN or infinite")
    return channel


def _numbers(arrays: Mapping[str, Array], key: str, kind: type[np.floating[Any]]) -> Array:
    values = np.ascontiguousarray(arrays[key])
    if values.dtype != kind or not np.isfinite(values).all():
        raise ValueError(f"{key} are not finite numbers of {kind.__name__}")
    return values


def _dictionary(described: dict[str, Any], key: str) -> dict[str, Any]:
    if not isinstance(described[key], dict):
        raise ValueError(f"{key} is {described[key]!r}")
    return dict(described[key])


def _expect(what: str, fits: bool) -> None:
    if not fits:
        raise ValueError(f"the shapes of {what} contradict each other")
