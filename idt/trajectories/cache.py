"""Which features are up to date: what identifies them, and whether those that are there were made the same way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from idt._util.hashing import digest, json_digest
from idt._util.npz import is_sound
from idt.errors import FormatError, ParameterError
from idt.features.record import FORMAT, Features
from idt.params import Params
from idt.runner.jobs import Job
from idt.video import content

ALGORITHM = 1
"""Version of the method: raised when the same video and parameters come to give other numbers."""


def features_key(video: str, params: Params, inputs: Mapping[str, str | int | None]) -> str:
    """Return what identifies the features of a video: the same key, the same numbers.

    Parameters
    ----------
    video : str
        SHA-256 of the content of the video.
    params : Params
    inputs : mapping
        SHA-256 of the content of each side input (homographies, boxes), None when there is none; ``keep``, the rows of
        a sample, only where there is one.

    Returns
    -------
    str
        64 hex digits.
    """
    return json_digest({"video": video, "params": params.fingerprint(), "inputs": dict(inputs),
                        "algorithm": ALGORITHM, "format": FORMAT})


def is_done(job: Job, params: Params, *, keep: int | None = None, verify: bool = False) -> bool:
    """Tell whether the output of the job exists, opens, and was made from the same inputs in the same way.

    The video is the same when size and time stamp are, or else when its content is. With `verify` only its content
    counts, and the output is read whole: it must be what its check sums say. With `keep` it is to be a sample of so
    many rows.
    """
    try:
        meta = Features.load(job.output).meta
    except FormatError:
        return False
    return bool(meta.get("key") == expected_key(job, meta, params, verify, keep)) and (
        not verify or is_sound(job.output))


def expected_key(job: Job, meta: Mapping[str, Any], params: Params, verify: bool, keep: int | None = None) -> str:
    """Return the key of the features that the job would give now; see `idt.video.content` for the meta."""
    inputs = with_sample({"homographies": digest(job.homographies), "boxes": digest(job.boxes)}, keep)
    return features_key(content(job.source, meta, verify=verify), params, inputs)


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
    return bool(meta.get("key") == features_key(content(job.source, meta), params, inputs))
