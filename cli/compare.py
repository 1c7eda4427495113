"""idt compare: methods on a labelled dataset, side by side."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from idt._util.text import counted
from idt.cli.evaluate import NO_DIVISION, Division, show, shown, split_up, table
from idt.cli.options import (
    Common,
    DatasetPath,
    Labelled,
    LearningThreads,
    default_folder,
    read_labelled,
    require_outside,
    usable_cores,
)
from idt.cli.progress import read_features
from idt.comparison.methods import Method, preset_names, read_methods, require_name
from idt.comparison.methods import preset as shipped
from idt.comparison.result_files import check_comparison_folder, columns, published_columns, save
from idt.comparison.run import compare as compare_methods
from idt.errors import ParameterError
from idt.features.record import Features
from idt.params import Params
from idt.recognition.classifier import check_classes
from idt.recognition.result_files import sizes


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelledVideos(Labelled):
    """Flags of a labelled dataset and of the features of several methods."""

    features: Annotated[Path | None, Parameter(
        metavar="DIR", negative=(), show_default=False,
        help="Folder of the features of the videos, with one in it for each kind of extraction; those that are missing "
             "or out of date are extracted into it [default: features in the output].")] = None


_NO_LABELLED, _COMMON = LabelledVideos(), Common()


def compare(
    path: DatasetPath, /, *,
    output: Annotated[Path | None, Parameter(alias="-o", negative=(), show_default=False)] = None,
    methods: Annotated[Path | None, Parameter(metavar="FILE.toml", negative=(), show_default=False)] = None,
    preset: Annotated[str | None, Parameter(metavar="NAME", negative=(), show_default=False)] = None,
    reference: Annotated[str | None, Parameter(metavar="METHOD", negative=(), show_default=False)] = None,
    labelled: Annotated[LabelledVideos, Parameter(name="*")] = _NO_LABELLED,
    division: Annotated[Division, Parameter(name="*")] = NO_DIVISION,
    threads: LearningThreads = None,
    common: Annotated[Common, Parameter(name="*")] = _COMMON,
) -> None:
    """Hold methods against each other on a labelled dataset: trajectories, tables of other programs, fusions.

    Each is learnt and tested on each split as idt evaluate does it; what methods share is done once. The results are
    tables, a report to look at, and scores of all test clips.

    Parameters
    ----------
    output
        Folder of the results [default: NAME-comparison in the working folder, or beside the dataset when that is inside
        it].
    methods
        The methods, a [[method]] for each; docs/command-line.md tells what it holds.
    preset
        Methods that come with the package, in place of a file: baselines, or weizmann for datasets of some tens of
        clips.
    reference
        The method that the others are held against [default: the first].
    """
    chosen = _methods(methods, preset)
    dataset, _ = read_labelled(path, labelled)
    folder = output or default_folder(dataset, "comparison")
    require_outside(dataset, folder, "output")
    check_classes(dataset)
    scheme, splits = split_up(dataset, division)
    against = reference or chosen[0].name
    require_name(against, [method.name for method in chosen])
    check_comparison_folder(folder)
    show(str(dataset), f"{scheme}: {counted(len(splits), 'split')}, {sizes(splits)}", counted(len(chosen), "method"),
         "")
    cores = threads or usable_cores()

    def read(place: Path, params: Params) -> list[Features]:
        return read_features(dataset, place, (), common, threads=cores, params=params)

    with shown(splits, common) as progress:
        found = compare_methods(dataset, chosen, splits, labelled.features or folder / "features",
                                codebooks=folder / "codebooks", threads=cores, read=read, progress=progress)
    if len(chosen) > 1 and not common.quiet:  # which may take a minute
        print("drawing the clips that methods disagree on", file=sys.stderr)
    files = save(found, folder, reference=against)
    content = json.loads(files[0].read_text())
    show(table(*columns(content, short=True)), "",
         f"accuracies in %, {100 * content['bootstrap']['level']:g} % intervals" + (
             f"; p: McNemar's test against {against}" if content["mcnemar"] else ""))
    if content["published"]:
        head, rows = published_columns(content)
        show("", table(["published, in %", *head[1:]], rows, words=["protocol", "source"]))
        if content["published_note"] is not None:
            show(content["published_note"])
    show("", f"results: {folder} ({', '.join(file.name for file in files)})")


def _methods(file: Path | None, name: str | None) -> tuple[Method, ...]:
    """Return the methods of a file or those that come with the package."""
    if (file is None) == (name is None):
        raise ParameterError("Give either --methods FILE.toml or --preset, which is one of "
                             f"{', '.join(preset_names())}.")
    return read_methods(file) if file is not None else shipped(str(name))
