"""Figures of the literature on well-known datasets, to stand beside those that are computed."""

from __future__ import annotations

from dataclasses import dataclass

from idt.datasets import Dataset


@dataclass(frozen=True)
class Published:
    """What a paper tells.

    Attributes
    ----------
    method : str
    accuracy : float
        Share of 1; on HMDB51 and UCF101 the mean of the three official splits, on UCF50 that of all test clips, one
        group of 25 left out at a time.
    source : str
        Authors and where it appeared.
    """

    method: str
    accuracy: float
    source: str


_DT = "Wang, Kläser, Schmid and Liu, IJCV 2013"
_IDT = "Wang and Schmid, ICCV 2013"

_CLASSES = {"hmdb51": 51, "ucf50": 50, "ucf101": 101}
_FIGURES = {
    "hmdb51": (
        Published("dense trajectories, bags of words", 0.466, _DT),
        Published("improved dense trajectories, Fisher vectors", 0.572, _IDT)),
    "ucf50": (
        Published("dense trajectories, bags of words", 0.845, _DT),
        Published("improved dense trajectories, Fisher vectors", 0.912, _IDT)),
    "ucf101": (
        Published("improved dense trajectories, Fisher vectors", 0.859, "Wang and Schmid, THUMOS workshop, ICCV 2013"),
        Published("two-stream networks", 0.880, "Simonyan and Zisserman, NIPS 2014"),
        Published("C3D + improved dense trajectories", 0.904, "Tran, Bourdev, Fergus, Torresani and Paluri, ICCV 2015"),
        Published("temporal segment networks", 0.942, "Wang, Xiong, Wang, Qiao, Lin, Tang and Van Gool, ECCV 2016"))}


def published(dataset: Dataset) -> tuple[Published, ...]:
    """Return what is published of a dataset; nothing of one that is not known.

    It is known by its layout, or by a name that begins with HMDB51, UCF50 or UCF101, and has as many classes.
    """
    name = "".join(letter for letter in dataset.name.lower() if letter.isalnum())
    for known, classes in _CLASSES.items():
        if (dataset.layout == known or name.startswith(known)) and len(dataset.classes) == classes:
            return _FIGURES[known]
    return ()
