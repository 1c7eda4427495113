"""Figures of the literature on well-known datasets, to stand beside those that are computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from idt._util.text import counted
from idt.recognition.datasets import Dataset, Scheme, Split


@dataclass(frozen=True)
class Published:
    """What a paper tells.

    Attributes
    ----------
    method : str
    accuracy : float
        Share of 1.
    protocol : str
        What it is the accuracy of.
    source : str
        Authors and where it appeared.
    """

    method: str
    accuracy: float
    protocol: str
    source: str


@dataclass(frozen=True)
class _Known:
    """A dataset, and how papers divide it; `tests` are the test clips of all splits added up."""

    classes: int
    scheme: Scheme
    splits: int
    tests: int
    figures: tuple[Published, ...]


_DT = "Wang, Kläser, Schmid and Liu, IJCV 2013"
_IDT = "Wang and Schmid, ICCV 2013"
_OFFICIAL = "mean of the 3 official splits"
_GROUPS = "each of 25 groups left out in turn, mean of the classes"
_ABOUT = 0.02  # share by which numbers of tests may differ: UCF50 has been given out with more clips than papers tell

_KNOWN = {
    "hmdb51": _Known(51, "official", 3, 4590, (
        Published("dense trajectories, bags of words", 0.466, _OFFICIAL, _DT),
        Published("improved dense trajectories, Fisher vectors", 0.572, _OFFICIAL, _IDT))),
    "ucf50": _Known(50, "leave-one-group-out", 25, 6618, (
        Published("dense trajectories, bags of words", 0.845, _GROUPS, _DT),
        Published("improved dense trajectories, Fisher vectors", 0.912, _GROUPS, _IDT))),
    "ucf101": _Known(101, "official", 3, 11213, (
        Published("improved dense trajectories, Fisher vectors", 0.859, _OFFICIAL,
                  "Wang and Schmid, THUMOS workshop, ICCV 2013"),
        Published("two-stream networks", 0.880, _OFFICIAL, "Simonyan and Zisserman, NIPS 2014"),
        Published("C3D + improved dense trajectories", 0.904, _OFFICIAL,
                  "Tran, Bourdev, Fergus, Torresani and Paluri, ICCV 2015"),
        Published("temporal segment networks", 0.942, _OFFICIAL,
                  "Wang, Xiong, Wang, Qiao, Lin, Tang and Van Gool, ECCV 2016")))}


def published(dataset: Dataset) -> tuple[Published, ...]:
    """Return what is published of a dataset; nothing of one that is not known.

    It is known by its layout, or by a name that begins with HMDB51, UCF50 or UCF101, and has as many classes.
    """
    known = _known(dataset)
    return known.figures if known else ()


def not_comparable(dataset: Dataset, splits: Sequence[Split]) -> str | None:
    """Return a sentence that tells how splits differ from those of the published figures.

    None where they do not differ in their scheme, their number and by more than 2 % in the number of their tests, or
    where nothing is published.
    """
    known = _known(dataset)
    if known is None:
        return None
    scheme, tests = splits[0].division.get("scheme", "given"), sum(len(split.test) for split in splits)
    if (scheme, len(splits)) == (known.scheme, known.splits) and abs(tests - known.tests) <= _ABOUT * known.tests:
        return None
    return (f"Not comparable as it stands: this comparison has {counted(tests, 'test')} on "
            f"{counted(len(splits), f'{scheme} split')}, the published figures are of "
            f"{known.tests:,} on {known.splits} {known.scheme} splits.")


def _known(dataset: Dataset) -> _Known | None:
    name = "".join(letter for letter in dataset.name.lower() if letter.isalnum())
    for prefix, known in _KNOWN.items():
        if (dataset.layout == prefix or name.startswith(prefix)) and len(dataset.classes) == known.classes:
            return known
    return None
