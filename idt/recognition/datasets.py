"""Labelled videos: datasets as they lie on disk, and their splits into training and test clips."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from idt._util.text import allowed_text, natural_key
from idt.errors import FormatError, ParameterError, VideoError
from idt.runner.inputs import VIDEO_SUFFIXES, read_csv, read_list
from idt.video import IMAGE_SUFFIXES

Paths: TypeAlias = str | os.PathLike[str]
Layout: TypeAlias = Literal["auto", "folders", "csv", "ucf101", "hmdb51", "kth", "weizmann"]
Scheme: TypeAlias = Literal["official", "leave-one-group-out", "k-fold", "hold-out"]

_COLUMNS = ("path", "label", "group", "split", "start", "end")  # of a CSV; the first two are required
_CSV = "labels.csv"  # the name that is looked for in a folder

_UCF_CLIP = re.compile(r"v_.+_(g\d+)_c\d+")
_UCF_LIST = re.compile(r"(train|test)list(\d+)\.txt")
_HMDB_LIST = re.compile(r"(.+)_test_split(\d+)\.txt")
_KTH_CLIP = re.compile(r"(person(\d+))_([a-z]+)_d\d(?:_uncomp)?")
_WEIZMANN_CLIP = re.compile(r"([a-z]+)_([a-z]+\d?)")

_KTH_ACTIONS = frozenset({"boxing", "handclapping", "handwaving", "jogging", "running", "walking"})
_KTH_TEST = frozenset({2, 3, 5, 6, 7, 8, 9, 10, 22})
_WEIZMANN_ACTIONS = frozenset({"bend", "jack", "jump", "pjump", "run", "side", "skip", "walk", "wave1", "wave2"})


@dataclass(frozen=True)
class Item:
    """One labelled clip: a video or a segment of one.

    Parameters
    ----------
    path : str
        Video file, or folder of images.
    label : str
        Its class.
    group : str or None
        What must not be on both sides of a split: the actor, or the long video that clips were cut from.
    split : tuple of str
        For each official split of the dataset "train", "test", or "" where the clip is not used.
    start_s, end_s : float or None
        Segment in seconds from the first frame, 0 ≤ start < end; None is the start or the end of the video.
    """

    path: str
    label: str
    group: str | None = None
    split: tuple[str, ...] = ()
    start_s: float | None = None
    end_s: float | None = None


@dataclass(frozen=True)
class Dataset:
    """Labelled clips, as `read_dataset` finds them.

    Parameters
    ----------
    items : tuple of Item
    classes : tuple of str
        Labels, each of at least one item: in the order of UCF101's class list, otherwise sorted.
    name : str
        Name of the folder or file; of a ``labels.csv`` that of its folder.
    layout : str
        What it was read as.
    root : str
        Folder that the paths of a list, or of the clips found, are below.
    official : tuple of str
        Names of the official splits.
    notes : tuple of str
        Sentences about what was read that the user should see.
    folder : str or None
        Folder that was read, or that of the file; None: `root`.
    """

    items: tuple[Item, ...]
    classes: tuple[str, ...]
    name: str
    layout: str
    root: str
    official: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    folder: str | None = None

    def __str__(self) -> str:
        def counted(number: int, one: str, many: str) -> str:
            return f"{number or 'no'} {one if number == 1 else many}"

        return (f"{self.name}: {counted(len(self.items), 'clip', 'clips')} of "
                f"{counted(len(self.classes), 'class', 'classes')}, "
                f"{counted(len({item.group for item in self.items} - {None}), 'group', 'groups')}, "
                f"{counted(len(self.official), 'official split', 'official splits')} (read as {self.layout})")


@dataclass(frozen=True)
class Split:
    """One division of a dataset, as indices of its items in ascending order.

    Parameters
    ----------
    name : str
    train, test : tuple of int
    shared_groups : tuple of str
        Groups (or videos, of clips without a group) with clips on both sides, which makes the test easier than it
        should be. Only official splits can have any.
    division : dict
        How it was made: ``scheme`` and those options of `splits` that count for it. It does not count in comparisons.
    """

    name: str
    train: tuple[int, ...]
    test: tuple[int, ...]
    shared_groups: tuple[str, ...] = ()
    division: dict[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class _Listing:
    """What a reader found; paths of the items are those below `root`, if they are relative."""

    items: Sequence[Item]
    root: Path
    classes: Sequence[str] = ()
    official: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read_dataset(path: Paths, *, layout: Layout = "auto", videos: Paths | None = None) -> Dataset:
    """Read a labelled dataset. No video is opened, but every one must exist.

    Parameters
    ----------
    path : path
        Folder or CSV file.
    layout : {"auto", "folders", "csv", "ucf101", "hmdb51", "kth", "weizmann"}
        How labels are given; docs/datasets.md shows each. "auto" takes a file for a CSV, and a folder for the first
        that fits of: csv (it holds ``labels.csv``), ucf101 (``classInd.txt``, in it or in a folder in it), hmdb51
        (``*_test_split1.txt``, likewise), kth and weizmann (all videos are named as in that dataset), folders.
        `Dataset.layout` tells which it was.
    videos : path, optional
        Folder of the videos that a list (csv, ucf101, hmdb51) names. Default: for a CSV its own folder; for the others
        the dataset's folder, that of the lists or the one above, or ``UCF-101`` or ``hmdb51_org`` in one of these.

    Raises
    ------
    ParameterError
        Unknown layout, or `videos` for a layout without a list.
    FormatError
        The folder or list does not follow the layout: an unknown label or value, a class without a video, a clip given
        twice, a video in two groups; or there is nothing.
    VideoError
        A video is missing (the first is named, all are counted), or a folder cannot be read.
    """
    if layout not in get_args(Layout):
        raise ParameterError(f"layout is {layout!r}: it must be one of {allowed_text(layout, get_args(Layout))}")
    where = Path(path)
    if not where.exists():
        raise FormatError(f"{where}: there is no such dataset.")
    kind = _detect(where) if layout == "auto" else layout
    if kind in _LISTS:
        listing = _LISTS[kind](where, None if videos is None else Path(videos))
    elif videos is not None:
        raise ParameterError(f"videos is {os.fspath(videos)}, but {where} is read as {kind}, which has no list: give "
                             "the folder of the videos as the dataset.")
    elif not where.is_dir():
        raise FormatError(f"{where}: a dataset with the layout {kind} is a folder.")
    else:
        listing = _TREES[kind](where)
    folder = where if where.is_dir() else where.parent
    name = folder.resolve().name if where == folder or where.name == _CSV else where.stem
    return replace(_checked(listing, name, kind), folder=os.fspath(folder))


def splits(dataset: Dataset, scheme: Scheme, *, folds: int = 5, test_share: float = 0.25, seed: int = 0) -> list[Split]:
    """Divide a dataset into training and test clips, in one or more ways.

    Clips of one group, and segments of one video without a group, are never on both sides, official splits excepted.

    Parameters
    ----------
    dataset : Dataset
    scheme : {"official", "leave-one-group-out", "k-fold", "hold-out"}
        "official": those of the dataset's lists. "leave-one-group-out": each group is the test side once.
        "k-fold": each clip is tested once; every fold has about the same number of clips of each class.
        "hold-out": one split, with about the same share of each class in the test side.
    folds : int
        Of "k-fold".
    test_share : float
        Of "hold-out", between 0 and 1. Groups are not cut, so that the share is met only roughly when they are few.
    seed : int
        Of "k-fold" and "hold-out": the order in which groups are dealt out. The same seed gives the same splits.

    Returns
    -------
    list of Split

    Raises
    ------
    ParameterError
        Unknown scheme, a number out of its limits, no official split or no groups, more folds than groups, a side
        without a clip, or a class that would be tested but is absent from the training side.
    """
    if scheme not in get_args(Scheme):
        raise ParameterError(f"scheme is {scheme!r}: it must be one of {allowed_text(scheme, get_args(Scheme))}")
    if not 0 < test_share < 1:
        raise ParameterError(f"test_share is {test_share}: it must be above 0 and below 1.")
    for name, value, least in (("folds", folds, 2), ("seed", seed, 0)):
        if value < least:
            raise ParameterError(f"{name} is {value}: it must be at least {least}.")
    units = units_of(dataset)
    if scheme == "official":
        found = _official(dataset, units)
    elif scheme == "leave-one-group-out":
        found = _leave_one_out(dataset)
    else:
        names, index = np.unique(units, return_inverse=True)
        counts = np.zeros((len(names), len(dataset.classes)), np.int64)  # clips by unit and class
        for unit, item in zip(index, dataset.items, strict=True):
            counts[unit, dataset.classes.index(item.label)] += 1
        order = np.random.default_rng(seed).permutation(len(names))
        if scheme == "k-fold":
            fold = _deal(counts, order, folds)[index]
            found = [_split(f"fold {k + 1}", fold != k, fold == k) for k in range(folds)]
        else:
            test = _draw(counts, order, test_share)[index]
            found = [_split("hold-out", ~test, test)]
    for split in found:
        _check_split(dataset, split)
    division: dict[str, Any] = {"scheme": scheme}
    if scheme == "k-fold":
        division |= {"folds": folds, "seed": seed}
    elif scheme == "hold-out":
        division |= {"test_share": test_share, "seed": seed}
    return [replace(split, division=division) for split in found]


def units_of(dataset: Dataset) -> list[str]:
    """Return for each clip what must not be on both sides of a split: its group, or else its video."""
    return [item.group if item.group is not None else os.path.abspath(item.path) for item in dataset.items]


def drawn_units(dataset: Dataset) -> tuple[list[str], str]:
    """Return for each clip what a bootstrap draws it with, and what that is in words.

    This is the group, or else the video, of each clip, see `units_of`. But the groups of UCF101 and UCF50, which the
    names of their clips tell (``v_Basketball_g01_c02``), are numbered anew in each class: g01 of one class and g01 of
    another have nothing in common, so that they are drawn class by class.
    """
    named = [_UCF_CLIP.fullmatch(_stem(Path(item.path))) for item in dataset.items]
    numbered = [match is not None and match[1] == item.group for match, item in zip(named, dataset.items, strict=True)]
    units = [f"{item.label}/{unit}" if by_class else unit
             for item, unit, by_class in zip(dataset.items, units_of(dataset), numbered, strict=True)]
    grouped = [by_class for item, by_class in zip(dataset.items, numbered, strict=True) if item.group is not None]
    return units, "videos" if not grouped else "groups within classes" if all(grouped) else "groups"


def default_scheme(dataset: Dataset) -> Scheme:
    """Return "official" if there are such splits, else "leave-one-group-out" if clips have groups, else "k-fold"."""
    if dataset.official:
        return "official"
    groups = {item.group for item in dataset.items}
    return "leave-one-group-out" if len(groups) >= 2 and None not in groups else "k-fold"


def training_side(dataset: Dataset, split: str) -> Dataset:
    """Return the clips that an official split trains with, and their classes, as a dataset of its own.

    Parameters
    ----------
    dataset : Dataset
    split : str
        One of `Dataset.official`.

    Raises
    ------
    ParameterError
        There is no such split, or it cannot be used (see `splits`).
    """
    if split not in dataset.official:
        raise ParameterError(f"split is {split!r}: " + (
            f"it must be one of the official splits of {dataset.name}, {allowed_text(split, dataset.official)}"
            if dataset.official else f"{dataset.name} has no official split."))
    side = splits(dataset, "official")[dataset.official.index(split)]
    items = tuple(dataset.items[n] for n in side.train)
    labels = {item.label for item in items}
    return replace(dataset, items=items, classes=tuple(label for label in dataset.classes if label in labels),
                   name=f"{dataset.name}, training side of {split}")


# Splits


def _split(name: str, train: ArrayLike, test: ArrayLike, shared: Iterable[str] = ()) -> Split:
    """Return the split whose sides are given as a truth value for each item."""
    return Split(name, tuple(np.flatnonzero(train).tolist()), tuple(np.flatnonzero(test).tolist()), tuple(shared))


def _official(dataset: Dataset, units: Sequence[str]) -> list[Split]:
    if not dataset.official:
        raise ParameterError(f"{dataset.name} has no official split: choose leave-one-group-out, k-fold or hold-out.")
    found = []
    for k, name in enumerate(dataset.official):
        sides = {side: [item.split[k] == side for item in dataset.items] for side in ("train", "test")}
        both = [{unit for unit, used in zip(units, sides[side], strict=True) if used} for side in sides]
        found.append(_split(name, sides["train"], sides["test"], sorted(both[0] & both[1])))
    return found


def _leave_one_out(dataset: Dataset) -> list[Split]:
    groups = [item.group for item in dataset.items]
    if None in groups:
        raise ParameterError(f"{dataset.name}: {groups.count(None)} of {len(groups)} clips have no group, such as "
                             f"{dataset.items[groups.index(None)].path}: choose k-fold or hold-out, or name the groups "
                             "in a CSV.")
    return [_split(str(name), [group != name for group in groups], [group == name for group in groups])
            for name in sorted(set(groups), key=lambda group: natural_key(group or ""))]


def _deal(counts: NDArray[np.int64], order: NDArray[np.int64], folds: int) -> NDArray[np.int64]:
    """Return the fold of each unit: large units first, each to the fold that has least of its classes.

    scikit-learn's StratifiedGroupKFold can leave a fold empty and may deal otherwise in another version.
    """
    if folds > len(counts):
        raise ParameterError(f"folds is {folds}, but there are only {len(counts)} groups (or videos without a group): "
                             "choose that many at most.")
    shares = counts / counts.sum(axis=0)
    held = np.zeros((folds, counts.shape[1]))
    clips = np.zeros(folds)
    fold = np.zeros(len(counts), np.int64)
    for unit in order[np.argsort(-counts.sum(axis=1)[order], kind="stable")]:
        # Of folds that have equally much, an empty one has the fewest clips: every fold gets a unit.
        fold[unit] = np.lexsort((clips, np.round(held @ shares[unit], 12)))[0]
        held[fold[unit]] += shares[unit]
        clips[fold[unit]] += counts[unit].sum()
    return fold


def _draw(counts: NDArray[np.int64], order: NDArray[np.int64], share: float) -> NDArray[np.bool_]:
    """Return which units are tested: each in turn whose classes come closer to their share, and stay in training."""
    total = counts.sum(axis=0)
    missing = share * total
    test = np.zeros(len(counts), bool)
    for unit in order:
        left = missing - counts[unit]
        if ((left / total)**2).sum() < ((missing / total)**2).sum() and (
                counts[test].sum(axis=0) + counts[unit] < total)[counts[unit] > 0].all():
            missing, test[unit] = left, True
    return test


def _check_split(dataset: Dataset, split: Split) -> None:
    for side, indices in (("training", split.train), ("test", split.test)):
        if not indices:
            raise ParameterError(f"{dataset.name}, {split.name}: no clip is on the {side} side.")
    trained = {dataset.items[i].label for i in split.train}
    for i in split.test:
        if dataset.items[i].label not in trained:
            raise ParameterError(f"{dataset.name}, {split.name}: the class {dataset.items[i].label!r} is tested but "
                                 "absent from the training side: it needs clips of two groups at least.")


# Layouts that are folders


def _detect(path: Path) -> str:
    if not path.is_dir():
        if path.suffix.lower() != ".csv":
            raise FormatError(f"{path}: a dataset is a folder or a CSV file (.csv).")
        return "csv"
    if (path / _CSV).is_file():
        return "csv"
    if _lists_of_ucf101(path) is not None:
        return "ucf101"
    if _lists_of_hmdb51(path) is not None:
        return "hmdb51"
    found = _videos_below(path)
    if found and all(_kth(video) for video in found):
        return "kth"
    if found and all(_weizmann(video) for video in found):
        return "weizmann"
    return "folders"


def _videos_below(folder: Path) -> list[Path]:
    """Return the paths from a folder to the videos below it: files, and folders that hold images and no video."""
    def failed(error: OSError) -> None:
        raise VideoError(f"{error.filename}: the folder cannot be read ({error.strerror}).") from error

    found = []
    for where, folders, names in os.walk(folder, onerror=failed):
        folders[:] = [name for name in folders if not name.startswith(".")]
        suffixes = {name: Path(name).suffix.lower() for name in names if not name.startswith(".")}
        videos = [Path(where, name) for name, suffix in suffixes.items() if suffix in VIDEO_SUFFIXES]
        if not videos and Path(where) != folder and IMAGE_SUFFIXES & set(suffixes.values()):
            videos = [Path(where)]
        found += [video.relative_to(folder) for video in videos]
    return sorted(found)


def _entries(folder: Path) -> list[Path]:
    """Return what is in a folder and not hidden, sorted."""
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise VideoError(f"{folder}: the folder cannot be read ({error.strerror}).") from error


def _read_folders(path: Path) -> _Listing:
    entries = _entries(path)
    loose = [entry for entry in entries if entry.suffix.lower() in VIDEO_SUFFIXES and not entry.is_dir()]
    folders = [entry for entry in entries if entry.is_dir()]
    if loose or not folders:
        what = f"{loose[0].name} lies directly in it" if loose else "there is none in it"
        raise FormatError(f"{path}: a dataset has a folder for each class, but {what}. Other layouts are lists of "
                          f"clips ({_CSV}, UCF101, HMDB51) and the names of KTH and Weizmann.")
    found = []
    for folder in folders:
        videos = _videos_below(folder)
        if not videos:
            raise FormatError(f"{folder}: there is no video of this class; remove the folder or fill it.")
        found += [(folder.name / video, folder.name) for video in videos]
    named = [_UCF_CLIP.fullmatch(_stem(video)) for video, _ in found]
    groups = [match[1] for match in named if match]
    return _Listing([Item(os.fspath(video), label, groups[k] if len(groups) == len(found) else None)
                     for k, (video, label) in enumerate(found)], path)


def _kth(video: Path) -> Item | None:
    match = _KTH_CLIP.fullmatch(_stem(video))
    if match is None or match[3] not in _KTH_ACTIONS:
        return None
    return Item(os.fspath(video), match[3], match[1], ("test" if int(match[2]) in _KTH_TEST else "train",))


def _weizmann(video: Path) -> Item | None:
    match = _WEIZMANN_CLIP.fullmatch(_stem(video))
    if match is None:
        return None
    # Some actors repeat an action: lena_walk1, lena_walk2. The digits of wave1 and wave2 are theirs.
    label = match[2] if match[2] in _WEIZMANN_ACTIONS else match[2].rstrip("0123456789")
    return Item(os.fspath(video), label, match[1]) if label in _WEIZMANN_ACTIONS else None


def _stem(video: Path) -> str:
    return video.stem if video.suffix.lower() in VIDEO_SUFFIXES else video.name


def _read_names(path: Path, parse: Callable[[Path], Item | None], example: str, labels: Iterable[str]) -> _Listing:
    videos = _videos_below(path)
    if not videos:
        raise FormatError(f"{path}: there is no video in this folder or below.")
    items = []
    for video in videos:
        item = parse(video)
        if item is None:
            raise FormatError(f"{path / video}: the name does not follow {example}, with one of the labels "
                              f"{', '.join(sorted(labels))}.")
        items.append(item)
    both = {side for item in items for side in item.split} == {"train", "test"}
    return _Listing(items, path, official=("subjects",) if both else ())


# Layouts that are lists


def _read_csv(path: Path, videos: Path | None) -> _Listing:
    file = path / _CSV if path.is_dir() else path
    header, rows = read_csv(file, _COLUMNS[:2], FormatError, "it must be path,label and may also name group, split, "
                                                             "start, end, separated by commas")
    unknown = [name for name in header if name not in _COLUMNS]
    notes = (f"{file}: unknown columns are passed over: {', '.join(unknown)}.",) if unknown else ()
    items = [_csv_item(row, f"{file}, line {line}") for line, row in rows]
    split = any(item.split[0] for item in items)
    return _Listing(items, videos or file.parent, official=("split",) if split else (), notes=notes)


def _csv_item(row: Mapping[str, str], where: str) -> Item:
    for name in _COLUMNS[:2]:
        if not row[name]:
            raise FormatError(f"{where}: the {name} is empty.")
    side = row.get("split", "").lower()
    if side not in ("", "train", "test"):
        raise FormatError(f"{where}: split is {row['split']!r}: it must be train, test or empty (not used).")
    start, end = (_seconds(row.get(name, ""), name, where) for name in ("start", "end"))
    if end is not None and end <= (start or 0):
        raise FormatError(f"{where}: the segment ends at {end:g} s, which is not after its start at {start or 0:g} s.")
    return Item(row["path"], row["label"], row.get("group") or None, (side,), start, end)


def _seconds(text: str, name: str, where: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise FormatError(f"{where}: {name} is {text!r}: it must be a time in seconds, 0 or more, or empty.")
    return value


def _lists_of_ucf101(path: Path) -> Path | None:
    return _folder_with(path, lambda folder: (folder / "classInd.txt").is_file())


def _lists_of_hmdb51(path: Path) -> Path | None:
    return _folder_with(path, lambda folder: any(_HMDB_LIST.fullmatch(file.name) for file in folder.glob("*.txt")))


def _folder_with(path: Path, holds: Callable[[Path], bool]) -> Path | None:
    """Return the folder, or the first folder in it, that holds the lists."""
    if not path.is_dir():
        return None
    return next((folder for folder in (path, *_entries(path)) if folder.is_dir() and holds(folder)), None)


def _read_ucf101(path: Path, videos: Path | None) -> _Listing:
    folder = _lists_of_ucf101(path)
    if folder is None:
        raise FormatError(f"{path}: there is no classInd.txt in this folder or in a folder in it, as UCF101 has.")
    classes: dict[str, str] = {}  # by number
    for where, text in _lines(folder / "classInd.txt"):
        number, _, name = text.partition(" ")
        if not (number.isdecimal() and name.strip()) or number in classes:
            raise FormatError(f"{where}: {text!r} is not a new number and the name of a class.")
        classes[number] = name.strip()
    numbers = sorted({match[2] for file in folder.iterdir() if (match := _UCF_LIST.fullmatch(file.name))})
    if not numbers:
        raise FormatError(f"{folder}: there is no trainlist01.txt.")
    sides: dict[str, list[str]] = {}
    for k, split in enumerate(numbers):
        for side in ("train", "test"):
            for where, text in _lines(folder / f"{side}list{split}.txt"):
                match = re.fullmatch(r"(.+?)(?:\s+(\d+))?", text)
                assert match is not None
                label = PurePosixPath(match[1]).parts[0]
                if label not in classes.values() or label == match[1]:
                    raise FormatError(f"{where}: {match[1]} is not in the folder of a class that classInd.txt names.")
                if match[2] is not None and classes.get(match[2]) != label:
                    raise FormatError(f"{where}: {match[1]} has the number {match[2]}, which is not that of the class "
                                      f"{label} in classInd.txt.")
                _enter(sides, match[1], k, len(numbers), side, where)
    items = []
    for clip, split in sides.items():
        match = _UCF_CLIP.fullmatch(PurePosixPath(clip).stem)
        items.append(Item(clip, PurePosixPath(clip).parts[0], match[1] if match else None, tuple(split)))
    return _Listing(items, _root(sides, videos, path, folder, "UCF-101"), list(classes.values()),
                    tuple(f"split {int(number)}" for number in numbers))


def _read_hmdb51(path: Path, videos: Path | None) -> _Listing:
    folder = _lists_of_hmdb51(path)
    if folder is None:
        raise FormatError(f"{path}: there is no file such as walk_test_split1.txt in this folder or in a folder in it, "
                          "as HMDB51 has.")
    files = {(match[1], match[2]): file for file in folder.glob("*.txt") if (match := _HMDB_LIST.fullmatch(file.name))}
    classes, numbers = (sorted(set(names)) for names in zip(*files, strict=True))
    sides: dict[str, list[str]] = {}
    for label in classes:
        for k, number in enumerate(numbers):
            for where, text in _lines(files.get((label, number), folder / f"{label}_test_split{number}.txt")):
                name, _, use = text.rpartition(" ")
                if not name or use not in ("0", "1", "2"):
                    raise FormatError(f"{where}: {text!r} is not the name of a video and 0 (unused), 1 (training) or 2 "
                                      "(test).")
                _enter(sides, f"{label}/{name.strip()}", k, len(numbers), ("", "train", "test")[int(use)], where)
    items = [Item(clip, clip.partition("/")[0], None, tuple(split)) for clip, split in sides.items()]
    return _Listing(items, _root(sides, videos, path, folder, "hmdb51_org"), classes,
                    tuple(f"split {number}" for number in numbers))


def _enter(sides: dict[str, list[str]], clip: str, k: int, number: int, side: str, where: str) -> None:
    """Note that split k puts the clip on this side."""
    of_clip = sides.setdefault(clip, [""] * number)
    if of_clip[k]:
        raise FormatError(f"{where}: {clip} is already in the {of_clip[k]} list of this split.")
    of_clip[k] = side


def _lines(file: Path) -> list[tuple[str, str]]:
    """Return the lines of a list that are not empty, each with what errors call it."""
    return [(f"{file}, line {number}", line) for number, line in read_list(file, FormatError)]


def _root(clips: Iterable[str], videos: Path | None, path: Path, lists: Path, usual: str) -> Path:
    """Return the folder that the clips of lists are below: the first likely one that has any of them."""
    if videos is not None:
        return videos
    likely = [folder / name for folder in (path, lists, lists.parent) for name in ("", usual)]
    return next((folder for folder in likely if any((folder / clip).exists() for clip in clips)), likely[0])


_TREES: dict[str, Callable[[Path], _Listing]] = {
    "folders": _read_folders,
    "kth": lambda path: _read_names(path, _kth, "person01_boxing_d1_uncomp.avi", _KTH_ACTIONS),
    "weizmann": lambda path: _read_names(path, _weizmann, "daria_bend.avi", _WEIZMANN_ACTIONS),
}
_LISTS: dict[str, Callable[[Path, Path | None], _Listing]] = {
    "csv": _read_csv, "ucf101": _read_ucf101, "hmdb51": _read_hmdb51}


# What holds for all layouts


def _checked(listing: _Listing, name: str, layout: str) -> Dataset:
    """Return the dataset, unless clips are missing or contradict each other."""
    items = [replace(item, path=os.fspath(listing.root / item.path), split=item.split if listing.official else ())
             for item in listing.items]
    if not items:
        raise FormatError(f"{name}: the list holds no clip.")
    missing = list(dict.fromkeys(item.path for item in items if not os.path.exists(item.path)))
    if missing:
        raise VideoError(f"{missing[0]} is missing ({len(missing)} of {len(items)} clips of {name} are): give the "
                         "folder that the paths in the list start from, or take missing clips out of the list.")
    clips: set[tuple[str, float | None, float | None]] = set()
    groups: dict[str, str | None] = {}
    for item in items:
        path = os.path.abspath(item.path)
        if (clip := (path, item.start_s, item.end_s)) in clips:
            raise FormatError(f"{name}: {item.path} is listed twice" + (
                "." if item.start_s is item.end_s is None else " with the same start and end."))
        clips.add(clip)
        if groups.setdefault(path, item.group) != item.group:
            raise FormatError(f"{name}: segments of {item.path} have different groups, {groups[path]} and {item.group}"
                              ": a video belongs to one.")
    labels = {item.label for item in items}
    for label in listing.classes:
        if label not in labels:
            raise FormatError(f"{name}: the class {label} has no clip in the lists; take its name out or add clips.")
    return Dataset(tuple(items), tuple(listing.classes or sorted(labels)), name, layout, os.fspath(listing.root),
                   listing.official, listing.notes)
