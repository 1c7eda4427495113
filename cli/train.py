"""idt train: a labelled dataset to a model."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from cyclopts import Group, Parameter

from idt._util.files import prepared, replacing
from idt._util.text import counted
from idt.cli.options import (
    Common,
    DatasetPath,
    Labelled,
    LearningThreads,
    Output,
    flags,
    read_labelled,
    read_params,
    usable_cores,
)
from idt.cli.progress import in_bytes, read_features
from idt.errors import ParameterError
from idt.recognition import classifier
from idt.recognition.datasets import training_side
from idt.recognition.vectors import EncodingParams

if TYPE_CHECKING:
    GivenEncoding: TypeAlias = Any
else:
    GivenEncoding = flags("GivenEncoding", EncodingParams, Group("Encoding and classifier", sort_key=9))

_NO_LABELLED, _NO_FLAGS, _COMMON = Labelled(), GivenEncoding(), Common()


def train(
    path: DatasetPath, /, *,
    output: Output,
    labelled: Annotated[Labelled, Parameter(name="*")] = _NO_LABELLED,
    split: Annotated[str | None, Parameter(metavar="NAME", negative=(), show_default=False)] = None,
    params: Annotated[Path | None, Parameter(metavar="FILE.toml", negative=(), show_default=False)] = None,
    threads: LearningThreads = None,
    given: Annotated[GivenEncoding, Parameter(name="*")] = _NO_FLAGS,
    common: Annotated[Common, Parameter(name="*")] = _COMMON,
) -> None:
    """Learn a model that labels videos from a labelled dataset: a codebook and a classifier.

    The features of the videos are taken from the folder of features, or extracted into it. All clips are learnt from;
    how good such a model is on other clips is what idt evaluate tells.

    Parameters
    ----------
    output
        File of the model, NAME.model.npz.
    split
        Learn only from the training side of this official split of the dataset, such as "split 1".
    params
        Parameters of encoding and classifier, as lines such as: words = 256. Flags override it.
    """
    settings = read_params(EncodingParams, given, params)
    if not output.name.endswith(".model.npz"):
        raise ParameterError(f"output is {output}: the name of a model ends in .model.npz.")
    dataset, features = read_labelled(path, labelled)
    if split is not None:
        dataset = training_side(dataset, split)
    classifier.check_classes(dataset)
    prepared(output)
    cores = threads or usable_cores()
    videos = read_features(dataset, features, settings.channels, common, threads=cores)
    began = time.perf_counter()
    model = classifier.train(dataset, videos, settings, threads=cores)
    with replacing(output) as file:
        model.save(file)
    if not common.quiet:
        empty = sum(not len(video) for video in videos)
        clips = counted(len(videos), "clip") + (f" ({empty} without a trajectory)" if empty else "")
        print(f"{dataset.name}: learnt from {clips} of {counted(len(model.labels), 'class', 'classes')} in "
              f"{time.perf_counter() - began:.1f} s; the model is in {output}, {in_bytes(output.stat().st_size)}",
              file=sys.stderr)
