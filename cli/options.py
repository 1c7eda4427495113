"""Flags that several commands share; those of the methods are generated from the fields of their parameters."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, TypeVar, get_args, get_origin, get_type_hints

from cyclopts import ArgumentCollection, Group, Parameter, Token

from idt._util.fields import Parameters, default_text, flag_name, limits_text
from idt.errors import ParameterError
from idt.params import Params

if TYPE_CHECKING:
    from idt.recognition.datasets import Dataset
    from idt.runner.jobs import Workers

P = TypeVar("P", bound=Parameters)

METHOD = Group("Method", help="Every option of the method; docs/parameters.md tells where each comes from.", sort_key=9)


@dataclass(frozen=True, kw_only=True)
class Common:
    """Flags of every command."""

    quiet: Annotated[bool, Parameter(negative=(), show_default=False, help="Print only results and errors.")] = False
    debug: Annotated[bool, Parameter(negative=(), show_default=False,
                                     help="Show where in the program an error arose.")] = False


def _split(_type: Any, tokens: Sequence[Token]) -> tuple[str, ...]:
    return tuple(value.strip() for token in tokens for value in token.value.split(","))


def _flag(f: dataclasses.Field[Any], owner: type, group: Group) -> Any:
    """Return the annotated type of the flag of a field; None as its value says that the flag was not given."""
    hint = get_type_hints(owner)[f.name]
    kind = next(a for a in get_args(hint) if a is not type(None)) if type(None) in get_args(hint) else hint
    unit = f"{f.metadata['unit']}; " if f.metadata["unit"] else ""
    allowed = f"{limits_text(f, owner)}; " if hint is not bool else ""
    text = f.metadata["text"][0].upper() + f.metadata["text"][1:]
    options: dict[str, Any] = {"name": flag_name(f), "group": group, "show_default": False,
                               "help": f"{text} [{unit}{allowed}default: {default_text(f)}]."}
    if get_origin(kind) is tuple:
        return Annotated[tuple[str, ...] | None, Parameter(converter=_split, n_tokens=1, negative=(), metavar="A,B",
                                                           **options)]
    if get_origin(kind) is Literal:  # checked by the class, whose message names what is allowed
        kind = type(get_args(kind)[0])
    if kind is str:
        return Annotated[str | None, Parameter(metavar="NAME", negative=(), **options)]
    if kind is bool:
        return Annotated[bool | None, Parameter(**options)]
    return Annotated[kind | None, Parameter(negative=(), metavar="N" if kind is int else "X", **options)]


def refuse_fractions(_app: Any, _commands: Sequence[str], arguments: ArgumentCollection) -> None:
    """Refuse a fraction where a flag takes an integer, to which cyclopts would round it."""
    for argument in arguments:
        if int in (argument.hint, *get_args(argument.hint)):
            for token in argument.tokens:
                if _is_fraction(token.value):
                    name = argument.name.removeprefix("--").replace("-", "_")
                    raise ParameterError(f"{name} is {token.value}: it must be an integer.")


def _is_fraction(text: str) -> bool:
    try:
        return not float(text).is_integer()
    except ValueError:  # hexadecimal, or nothing that cyclopts takes for an integer
        return False


def flags(name: str, owner: type, group: Group, *, without: Sequence[str] = ()) -> Any:
    """Return a dataclass of one flag for each field of a class of parameters; None where the flag was not given."""
    given = dataclasses.make_dataclass(
        name, [(f.name, _flag(f, owner, group), dataclasses.field(default=None)) for f in dataclasses.fields(owner)
               if "text" in f.metadata and f.name not in without], frozen=True, kw_only=True)
    given.__doc__ = f"Flags of {owner.__name__}; None where the flag was not given."
    given.__module__ = __name__  # cyclopts takes a class without a module of its own for a builtin
    return given


def values_of(given: Any) -> dict[str, Any]:
    """Return the flags that were given."""
    return {name: value for name, value in vars(given).items() if value is not None}


if TYPE_CHECKING:
    Given: TypeAlias = Any
else:
    Given = flags("Given", Params, METHOD)


def params_of(given: Any, file: Path | None) -> Params:
    """Return the parameters of the method, see `read_params`."""
    return read_params(Params, given, file)


def read_params(owner: type[P], given: Any, file: Path | None) -> P:
    """Return the parameters of a command line: those of the file, overridden by the flags that were given."""
    values = values_of(given)
    return owner.from_dict(values) if file is None else owner.from_toml(file, **values)


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Flags of a labelled dataset and of its features."""

    features: Annotated[Path | None, Parameter(
        metavar="DIR", negative=(), show_default=False,
        help="Folder of the features of the videos, as idt extract DATASET -o DIR writes them; those that are missing "
             "or out of date are extracted into it [default: NAME-features in the working folder, or beside the "
             "dataset when that is inside it].")] = None
    layout: Annotated[str, Parameter(
        metavar="NAME", negative=(),
        help="How labels are given: auto, folders, csv, ucf101, hmdb51, kth, weizmann; docs/datasets.md shows "
             "each.")] = "auto"
    videos: Annotated[Path | None, Parameter(
        metavar="DIR", negative=(), show_default=False,
        help="Folder of the videos that a list names [default: where the list is, or beside it].")] = None


def read_labelled(path: Path, given: Labelled) -> tuple[Dataset, Path]:
    """Return the dataset of a command line and the folder of its features; notes on the dataset become warnings."""
    from idt.recognition.datasets import read_dataset

    dataset = read_dataset(path, layout=given.layout, videos=given.videos)  # type: ignore[arg-type]  # it checks it
    for note in dataset.notes:
        logging.getLogger("idt").warning("%s", note)
    folder = given.features or default_folder(dataset, "features")
    require_outside(dataset, folder, "features")
    return dataset, folder


def default_folder(dataset: Dataset, what: str) -> Path:
    """Return NAME-what in the working folder, or beside the dataset where that would be inside it."""
    folder = Path(f"{dataset.name}-{what}")
    if _inside(dataset, folder):
        folder = Path(os.path.relpath(Path(dataset.root).resolve().parent / folder))
    return folder


def require_outside(dataset: Dataset, folder: Path, what: str) -> None:
    """Refuse a folder inside a dataset without a list, where it would be taken for a class or a video.

    Results of an evaluation are not mixed with the videos of any dataset; features may lie beside them.
    """
    own = {Path(path).resolve() for path in (dataset.root, dataset.folder or dataset.root)}
    if what == "output" and folder.resolve() in own:
        raise ParameterError(f"{what} is {folder}, the folder of the dataset itself: give another folder with "
                             f"--{what}.")
    if _inside(dataset, folder):
        raise ParameterError(f"{what} is {folder}, inside the dataset {Path(dataset.root).resolve()}, where it would "
                             f"count as a part of it: give another folder with --{what}.")


def _inside(dataset: Dataset, folder: Path) -> bool:
    """Tell whether a folder lies where the dataset, which has no list, would take it for a class or a video."""
    return dataset.layout in ("folders", "kth", "weizmann") and Path(dataset.root).resolve() in folder.resolve().parents


def usable_cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def at_least_one(_type: Any, value: int | None) -> None:
    """Refuse a number of threads below 1."""
    if value is not None and value < 1:
        raise ParameterError(f"threads is {value}: it must be at least 1.")


def _path_or_dash(_type: Any, value: Path) -> None:
    if str(value).startswith("-") and str(value) != "-":
        raise ValueError(f"{value} is a flag, not a path; a path that begins with - is written ./{value}")


Output = Annotated[Path, Parameter(alias="-o", allow_leading_hyphen=True, validator=_path_or_dash, negative=())]


@dataclass(frozen=True, kw_only=True)
class Many:
    """Flags of commands that work on many videos."""

    jobs: Annotated[int | None, Parameter(
        metavar="N", negative=(), show_default=False,
        help="Videos at a time, each in a process of its own [default: all cores; on GPUs up to six "
             "each].")] = None
    timeout: Annotated[float | None, Parameter(
        metavar="S", negative=(), show_default=False,
        help="Give a video up that takes longer, in seconds [default: never].")] = None
    retries: Annotated[int, Parameter(
        metavar="N", negative=(), help="How often a video that failed is tried again.")] = 0
    shard: Annotated[str | None, Parameter(
        metavar="K/N", negative=(), show_default=False,
        help="Do only the K-th of every N videos, K from 1: the same command on N machines does all.")] = None
    backend: Annotated[str, Parameter(
        metavar="NAME", negative=(), help="Where the processes are: local, or the workers of a cluster: dask, "
                                          "ray.")] = "local"
    scheduler: Annotated[str | None, Parameter(
        metavar="ADDRESS", negative=(), show_default=False,
        help="Address of the running cluster [default: what dask or ray do without one, which is to start one "
             "here].")] = None


def shared(given: Many, threads: int | None, videos: int, *, jobs: int | None = None) -> tuple[Workers, int]:
    """Return who works on so many videos, and the threads inside one: together they use the cores.

    `jobs` takes the place of as many processes as there are cores, when none are asked for. On a cluster a video has
    one thread, and as many are worked on at a time as it has slots.
    """
    from idt.runner.jobs import Workers

    workers = Workers(jobs=given.jobs, timeout=given.timeout, retries=given.retries, shard=given.shard,
                      backend=given.backend, scheduler=given.scheduler)  # type: ignore[arg-type]  # it checks them
    if workers.backend != "local":
        return workers, threads or 1
    cores = usable_cores()
    here = max(1, min(workers.jobs or jobs or cores, len(workers.part(range(videos)))))
    return dataclasses.replace(workers, jobs=here), threads or max(1, cores // here)


DatasetPath = Annotated[Path, Parameter(name="DATASET", negative=(), help="Labelled dataset: its folder, or a CSV.")]
Threads = Annotated[int | None, Parameter(validator=at_least_one, metavar="N", negative=(), show_default=False,
                                          help="Threads inside one video [default: what --jobs leaves of the cores].")]
LearningThreads = Annotated[Threads, Parameter(
    help="Videos that are extracted, channels that are learnt and clips that are encoded at a time [default: all "
         "cores].")]
ParamsFile = Annotated[Path | None, Parameter(
    name="--params", metavar="FILE.toml", negative=(), show_default=False,
    help="Parameters of the method, as lines such as: stride = 5. Flags override it.")]
