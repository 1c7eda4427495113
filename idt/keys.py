"""What is done already: what identifies features, flow or vectors, and whether they are there."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from idt.errors import FormatError, OutputError, ParameterError
from idt.params import Parameters, Params
from idt.video import Source, identity

if TYPE_CHECKING:
    from idt.features import Features
    from idt.video_flow import FlowParams
    from idt.work import Job

Paths: TypeAlias = str | os.PathLike[str]

_CALLED = {"codebook": "a codebook", "model": "a model", None: "something else"}

ALGORITHM = 1
"""Version of the method: raised when the same video and parameters come to give other numbers."""


def is_done(job: Job, params: Params, *, keep: int | None = None, verify: bool = False) -> bool:
    """Tell whether the output of the job exists, opens, and was made from the same inputs in the same way.

    The video is the same when size and time stamp are, or else when its content is. With `verify` only its content
    counts, and the output is read whole: it must be what its check sums say. With `keep` it is to be a sample of so
    many rows.
    """
    from idt.features import Features

    try:
        meta = Features.load(job.output).meta
    except FormatError:
        return False
    return bool(meta.get("key") == _features_key(job, meta, params, verify, keep)) and (
        not verify or _is_sound(job.output))


def vectors_are_done(job: Job, params: Params, codebook: str, *, verify: bool = False) -> bool:
    """Tell the same of the vectors of a video, which are always read whole; its features need not be there.

    `codebook` is the SHA-256 of its file; one vector stands for the whole video.
    """
    from idt.vectors import Vectors, vectors_key

    try:
        meta = Vectors.load(job.output).meta
    except FormatError:
        return False
    return bool(meta.get("key") == vectors_key(_features_key(job, meta, params, verify), codebook))


def _features_key(job: Job, meta: Mapping[str, Any], params: Params, verify: bool, keep: int | None = None) -> str:
    """Return the key of the features that the job would give now; see `_content` for the meta."""
    inputs = with_sample({"homographies": digest(job.homographies), "boxes": digest(job.boxes)}, keep)
    return key(_content(job.source, meta, verify), params, inputs)


def with_sample(inputs: Mapping[str, str | int | None], keep: int | None) -> dict[str, str | int | None]:
    """Return the side inputs of features, and how many of their rows are kept where not all are."""
    return dict(inputs) if keep is None else {**inputs, "keep": keep}


def is_current(job: Job, features: Features) -> bool:
    """Tell whether features were made from the video as it is now by this version of the method, in whatever way."""
    meta = features.meta
    made, inputs = meta.get("params"), meta.get("inputs")
    if not (isinstance(made, dict) and isinstance(inputs, dict) and isinstance(meta.get("video"), dict)):
        return False
    try:
        params = Params.from_dict(made)
    except ParameterError:
        return False
    return bool(meta.get("key") == key(_content(job.source, meta, verify=False), params, inputs))


def is_of(video: Mapping[str, Any], source: Source) -> bool:
    """Tell whether a video is that of the ``video`` of a meta, by its content; where that is not known, it may be."""
    array = isinstance(source, np.ndarray)
    if not video.get("sha256") or array != (video.get("mtime_ns") is None):  # an array has other bytes than its file
        return True
    return _content(source, {"video": video}, verify=array) == video["sha256"]


def flow_is_done(job: Job, params: FlowParams, *, verify: bool = False) -> bool:
    """Tell the same of the flow of a video, of which no file may be missing; the device does not count.

    Of files that have no check sums, such as jpg, `verify` finds what cannot be read.
    """
    from idt.video_flow import flow_key, read_meta

    meta = read_meta(job.output)
    if meta is None or meta.get("key") != flow_key(_content(job.source, meta, verify), params):
        return False
    return not verify or (_is_sound(job.output) if params.format == "npz" else _is_readable(job.output))


def check_sums(path: Paths) -> None:
    """Read an ``.npz`` file whole; raise `FormatError` when one of its arrays is not what its check sum says."""
    try:
        with zipfile.ZipFile(path) as archive:
            wrong = archive.testzip()
    except Exception as error:  # zipfile raises nearly anything on damaged bytes
        raise FormatError(f"{os.fspath(path)} is damaged or incomplete ({error}): make it again.") from error
    if wrong is not None:
        raise FormatError(f"{os.fspath(path)} is damaged: the check sum of {wrong.removesuffix('.npy')} is wrong; make "
                          "it again.")


def _is_sound(path: Path) -> bool:
    try:
        check_sums(path)
    except FormatError:
        return False
    return True


def _is_readable(path: Path) -> bool:
    """Tell whether each array of the flow of a video can be read."""
    from idt.flow.files import open_flows

    try:
        with open_flows(path) as flows:
            for kind, count in flows.counts.items():
                for number in range(count):
                    flows.get(kind, number)
    except FormatError:
        return False
    return True


def _content(source: Source, meta: Mapping[str, Any], verify: bool) -> str:
    """Return the SHA-256 of the video; that in the meta of what was made of it when it has not changed since."""
    now, then = identity(source, content=False), meta.get("video") or {}
    unchanged = (now["size"], now["mtime_ns"]) == (then.get("size"), then.get("mtime_ns"))
    return str(then.get("sha256") if unchanged and not verify else identity(source)["sha256"])


def key(video: str, params: Parameters, inputs: Mapping[str, str | int | None], *, algorithm: int | None = None,
        format: int | None = None) -> str:
    """Return what identifies features or the flow of a video: the same key, the same numbers.

    Parameters
    ----------
    video : str
        SHA-256 of the content of the video.
    params : Params or FlowParams
    inputs : mapping
        SHA-256 of the content of each side input (homographies, boxes), None when there is none; ``keep``, the rows of
        a sample, only where there is one.
    algorithm, format : int
        Versions of the method and of the files; default: those of features.

    Returns
    -------
    str
        64 hex digits.
    """
    from idt.features import FORMAT

    parts = {"video": video, "params": params.fingerprint(), "inputs": dict(inputs),
             "algorithm": ALGORITHM if algorithm is None else algorithm, "format": FORMAT if format is None else format}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def digest(given: Paths | NDArray[Any] | Sequence[NDArray[Any]] | None) -> str | None:
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


def kind_of(path: Paths) -> str | None:
    """Return the kind of a file (``.npz``, ``.h5``) of this package, such as "codebook"; None of any other."""
    meta = _meta(path)
    kind = meta.get("kind") if isinstance(meta, dict) else None
    return kind if isinstance(kind, str) else None


def check_replaceable(path: Paths, kind: str) -> None:
    """Raise `OutputError` when `path` is a sound ``.npz`` or ``.h5`` of another kind, which nobody asked to replace."""
    if _meta(path) is None or (found := kind_of(path)) == kind:
        return
    raise OutputError(f"{os.fspath(path)} holds {_CALLED.get(found, found)}, which {kind} must not replace: choose "
                      "another output folder.")


def _meta(path: Paths) -> Any:
    """Return the meta of an ``.npz`` or ``.h5``, False where it has none, None when the file is missing or damaged."""
    try:
        with open(path, "rb") as opened:
            if opened.peek(4)[:4] == b"\x89HDF":
                import h5py

                with h5py.File(opened, "r") as file:
                    return json.loads(file.attrs["meta"]) if "meta" in file.attrs else False
            with np.load(opened, allow_pickle=False) as file:
                return json.loads(str(file["meta"][()])) if "meta" in file else False
    except Exception:  # zipfile, zlib, json, NumPy and h5py raise nearly anything on damaged bytes
        return None
