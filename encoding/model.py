"""Codebooks of videos and their files: arrays and a JSON text, nothing that could run."""

from __future__ import annotations

import json
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, TypeAlias

import numpy as np

from idt.encoding.bags import Array, Bag, BagEncoder, Float32, LazyBag, check_bag
from idt.encoding.bow import BagOfWords
from idt.encoding.codebook import DiagonalGMM, KMeans
from idt.encoding.fisher import FisherVector
from idt.encoding.norms import Normalise, root_sift
from idt.encoding.pca import PCA
from idt.encoding.pyramid import Pyramid
from idt.encoding.vlad import VLAD
from idt.errors import FormatError, ParameterError

Source: TypeAlias = str | os.PathLike[str]

FORMAT = 1
"""Version of the files."""

_ENCODERS: dict[str, tuple[type[BagEncoder], type[Any]]] = {
    "bow": (BagOfWords, KMeans), "vlad": (VLAD, KMeans), "fisher": (FisherVector, DiagonalGMM)}
_LEARNT = {PCA: ("mean_", "components_", "scale_"), KMeans: ("centres_",),
           DiagonalGMM: ("weights_", "means_", "variances_")}


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

    def encode(self, bags: Mapping[str, Bag], position: Array | None = None) -> dict[str, Float32]:
        """Return the vector of each channel; `bags` has at least the descriptors of the channels."""
        return {name: channel.encode(bags[name], position) for name, channel in self.channels.items()}

    def save(self, file: BinaryIO) -> None:
        """Write the codebook into a binary file that is open; the same codebook gives the same bytes."""
        arrays: dict[str, Any] = {}
        channels = {}
        for name, c in self.channels.items():
            kind = next(kind for kind, (encoder, _) in _ENCODERS.items() if type(c.encoder) is encoder)
            codebook = c.encoder.codebook_
            described = {"width": c.width, "root": c.root, "encoder": kind, "pca": c.pca and c.pca.get_params(),
                         "codebook": codebook.get_params(), "norm": c.norm and c.norm.get_params(),
                         "pyramid": c.pyramid and list(c.pyramid.grids),
                         "options": {k: v for k, v in c.encoder.get_params(deep=False).items() if k != "codebook"}}
            channels[name] = described
            for part, learnt in (("pca", c.pca), ("codebook", codebook)):
                if learnt is not None:
                    arrays |= {f"{name}.{part}.{key}": getattr(learnt, key) for key in _LEARNT[type(learnt)]}
        meta = {"kind": "codebook", "format": FORMAT, "channels": channels, "meta": self.meta}
        np.savez(file, allow_pickle=False, meta=np.array(json.dumps(meta)), **arrays)

    @classmethod
    def load(cls, path: Source) -> Codebook:
        """Read a codebook.

        Raises
        ------
        FormatError
            The file cannot be read, holds something else, is of another format version, or does not fit together.
        """
        name = os.fspath(path)
        try:
            with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
                meta = json.loads(str(file["meta"][()]))
                arrays = {key: file[key] for key in file.files}
        except (OSError, ValueError, KeyError, TypeError, EOFError, NotImplementedError, struct.error, zlib.error,
                zipfile.BadZipFile) as error:  # what damaged archives bring about
            raise FormatError(f"{name}: not a codebook that can be read ({error}).") from error
        if not isinstance(meta, dict) or meta.get("kind") != "codebook":
            raise FormatError(f"{name}: not a codebook but {meta.get('kind') if isinstance(meta, dict) else 'unknown'}"
                              "; give a file that idt fit wrote.")
        if meta.get("format") != FORMAT:
            raise FormatError(f"{name}: a codebook of format {meta.get('format')}; this version reads format {FORMAT}.")
        try:
            channels = {key: _channel(key, described, arrays) for key, described in meta["channels"].items()}
            return cls(channels, meta["meta"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FormatError(f"{name}: the codebook does not fit together ({error}).") from error


def _channel(name: str, described: dict[str, Any], arrays: Mapping[str, Array]) -> Channel:
    """Return a channel as a file describes it, once all its numbers fit together."""
    def learnt(kind: type[Any], part: str) -> Any:
        made = kind(**described[part])
        for key in _LEARNT[kind]:
            values = np.ascontiguousarray(arrays[f"{name}.{part}.{key}"])
            if values.dtype != np.float32 or not np.isfinite(values).all():
                raise ValueError(f"{name}.{part}.{key} are not finite numbers of float32")
            setattr(made, key, values)
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
                and codebook.variances_.shape == (k, inner) and bool((codebook.variances_ > 0).all()))
    norm = None if described["norm"] is None else Normalise(**described["norm"])
    pyramid = None if described["pyramid"] is None else Pyramid(described["pyramid"])
    return Channel(width, encoder(**described["options"]).with_codebook(codebook), pca, bool(described["root"]), norm,
                   pyramid)


def _expect(what: str, fits: bool) -> None:
    if not fits:
        raise ValueError(f"the shapes of {what} contradict each other")
