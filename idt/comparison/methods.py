"""Methods that are compared: trajectories with an encoding, tables of other programs, and fusions of them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from idt._util.fields import Parameters, read_toml, value_text
from idt._util.text import allowed_text, nearest
from idt.errors import ParameterError
from idt.params import Params
from idt.recognition.vectors import EncodingParams

How: TypeAlias = Literal["mean", "rank", "weighted", "concatenation"]

Paths: TypeAlias = str | os.PathLike[str]

_PRESETS = Path(__file__).parent / "presets"

_MOST = 6  # methods of which all weights in tenths can be tried

_FLOWS = {"tvl1": "TV-L1", "dis": "DIS", "deepflow": "DeepFlow"}
_DESCRIPTORS = {"trajectory": "trajectory", "hog": "HOG", "hof": "HOF", "mbhx": "MBHx", "mbhy": "MBHy"}
_ENCODERS = {"fisher": "Fisher vectors", "vlad": "VLAD", "bow": "bags of words"}
_HOW = {"mean": "mean of the scores of", "rank": "mean of the ranks by", "weighted": "weighted mean of the scores of",
        "concatenation": "linear SVM on the vectors together of"}
_SAID = ("camera", "flow", "channels", "encoder", "words")  # parameters that a description tells in words of its own


@dataclass(frozen=True, kw_only=True)
class FeatureMethod:
    """Trajectories, their encoding and the classifier of the vectors.

    Parameters
    ----------
    name : str
    extraction : Params, optional
    encoding : EncodingParams, optional

    Raises
    ------
    ParameterError
        The extraction leaves a descriptor out that is encoded.
    """

    name: str
    extraction: Params = field(default_factory=Params)
    encoding: EncodingParams = field(default_factory=EncodingParams)

    def __post_init__(self) -> None:
        _check_name(self.name)
        for channel in self.encoding.channels:
            if channel not in self.extraction.descriptors:
                raise ParameterError(f"{self.name}: descriptors is {', '.join(self.extraction.descriptors)}, but "
                                     f"channels has {channel}: extract it, too, or leave it out.")

    @property
    def described(self) -> str:
        """One line that tells what it is."""
        extraction, encoding = self.extraction, self.encoding
        flow = f" on {_FLOWS[extraction.flow]} flow" if extraction.flow in _FLOWS else ""
        channels = ", ".join(_DESCRIPTORS[name] for name in encoding.channels).replace("MBHx, MBHy", "MBH")
        parts = [f"{'improved' if extraction.camera else 'dense'} trajectories{flow}", channels,
                 f"{_ENCODERS[encoding.encoder]} (K = {encoding.words})", *_others(extraction), *_others(encoding)]
        return "; ".join(parts)


@dataclass(frozen=True, kw_only=True)
class ExternalMethod:
    """A method of another program, given as a table of scores or of features of the clips.

    Parameters
    ----------
    name : str
    scores, features : Path, optional
        The table, one of the two: CSV, ``.npz`` or ``.h5``. Features are scaled to length 1 and classified by a linear
        SVM.
    cost, balanced
        Of the SVM, as in `EncodingParams`.

    Raises
    ------
    ParameterError
        Both tables are given or none, or a number is out of its limits.
    """

    name: str
    scores: Path | None = None
    features: Path | None = None
    cost: float = 100.0
    balanced: bool = False

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_machine(self)
        if (self.scores is None) == (self.features is None):
            raise ParameterError(f"{self.name}: give the table of either its scores or its features.")

    @property
    def described(self) -> str:
        """One line that tells what it is."""
        if self.scores is not None:
            return f"scores in {self.scores.name}"
        return "; ".join([f"features in {self.features.name if self.features else ''}", *_of_machine(self)])


@dataclass(frozen=True, kw_only=True)
class Fusion:
    """Several methods made one.

    Parameters
    ----------
    name : str
    of : tuple of str
        Names of two methods or more.
    how : {"mean", "rank", "weighted", "concatenation"}
        Mean of their scores; mean of the numbers of classes that score lower; mean of their scores with weights that
        are found on the training side; or one linear SVM on their vectors, each scaled to length 1, one behind the
        other.
    cost, balanced
        Of the SVM of "concatenation", as in `EncodingParams`.

    Raises
    ------
    ParameterError
        There are fewer than two methods, or more than six for "weighted", one is named twice, or a value is not
        allowed.
    """

    name: str
    of: tuple[str, ...]
    how: How = "mean"
    cost: float = 100.0
    balanced: bool = False

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_machine(self)
        if self.how not in get_args(How):
            raise ParameterError(f"{self.name}: fusion is {self.how!r}: allowed are "
                                 f"{allowed_text(self.how, get_args(How))}")
        if len(set(self.of)) < max(2, len(self.of)):
            raise ParameterError(f"{self.name}: of is {', '.join(map(repr, self.of)) or 'empty'}: it must name two "
                                 "methods or more, each once.")
        if self.how == "weighted" and len(self.of) > _MOST:
            raise ParameterError(f"{self.name}: of names {len(self.of)} methods: weights can be found of {_MOST} at "
                                 "most.")

    @property
    def described(self) -> str:
        """One line that tells what it is."""
        machine = _of_machine(self) if self.how == "concatenation" else []
        return "; ".join([f"{_HOW[self.how]} {' and '.join([', '.join(self.of[:-1]), self.of[-1]])}", *machine])


Method: TypeAlias = FeatureMethod | ExternalMethod | Fusion


def read_methods(path: Paths) -> tuple[Method, ...]:
    """Read methods from a TOML file: a ``[[method]]`` for each, see docs/command-line.md.

    Each has a ``name``. With ``of``, and perhaps ``fusion``, ``cost`` and ``balanced``, it is a `Fusion`; with
    ``scores`` or ``features``, a path from the folder of the file, an `ExternalMethod`; any other a `FeatureMethod`,
    whose keys are those of `Params` and `EncodingParams`.

    Raises
    ------
    ParameterError
        The file cannot be read or is no TOML, a key is unknown (the nearest is told), a value is not allowed, or the
        methods do not fit together, see `check_methods`; the message names the file.
    """
    values = read_toml(path, kind="file of methods", example='[[method]], name = "iDT", camera = true')
    try:
        for key in values:
            if key != "method":
                raise ParameterError(f"{key} is not known{nearest(key, ['method'])} Each method is a [[method]] with "
                                     "its keys below.")
        entries = values.get("method")
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise ParameterError("there is no [[method]], which begins each method.")
        methods = tuple(_method(entry, Path(path).parent, number) for number, entry in enumerate(entries, 1))
        check_methods(methods)
    except ParameterError as error:
        raise ParameterError(f"{os.fspath(path)}: {error}") from None
    return methods


def preset_names() -> list[str]:
    """Return the names of the sets of methods that come with the package."""
    return sorted(path.name.removesuffix(".toml") for path in _PRESETS.iterdir() if path.name.endswith(".toml"))


def preset(name: str) -> tuple[Method, ...]:
    """Return a set of methods that comes with the package; an unknown name is a `ParameterError` that tells all."""
    if name not in preset_names():
        raise ParameterError(f"{name!r} is no preset{nearest(name, preset_names())} The presets are: "
                             f"{', '.join(preset_names())}.")
    return read_methods(_PRESETS / f"{name}.toml")


def check_methods(methods: Sequence[Method]) -> None:
    """Raise `ParameterError` unless methods fit together.

    There is one at least, their names differ, and fusions are of methods before them: with "concatenation" of such as
    have vectors.
    """
    if not methods:
        raise ParameterError("There is no method to compare.")
    before: dict[str, Method] = {}
    for method in methods:
        if method.name in before:
            raise ParameterError(f"Two methods have the name {method.name!r}: give each its own.")
        for name in method.of if isinstance(method, Fusion) else ():
            if name not in before:
                raise ParameterError(f"{method.name}: of names {name!r}, which is no method before it"
                                     f"{nearest(name, before)}")
            if isinstance(method, Fusion) and method.how == "concatenation" and not has_vectors(before[name]):
                raise ParameterError(f"{method.name}: {name} has scores only, but concatenation is of vectors: choose "
                                     "another fusion, or give its features.")
        before[method.name] = method


def require_name(name: str, names: Sequence[str]) -> None:
    """Raise `ParameterError` unless a method has this name; it tells the nearest one."""
    if name not in names:
        raise ParameterError(f"{name!r} is no method of the comparison{nearest(name, names)} The methods are: "
                             f"{', '.join(names)}.")


def has_vectors(method: Method) -> bool:
    """Tell whether a method has a vector for each clip, and not only scores."""
    if isinstance(method, ExternalMethod):
        return method.features is not None
    return isinstance(method, FeatureMethod) or method.how == "concatenation"


def _method(entry: dict[str, Any], folder: Path, number: int) -> Method:
    """Return the method of a ``[[method]]``."""
    if "name" not in entry:
        raise ParameterError(f"the {number}. [[method]] has no name.")
    name, given = entry["name"], {key: value for key, value in entry.items() if key != "name"}
    _check_name(name)
    machine = ("cost", "balanced")
    if given.keys() & {"of", "fusion"}:
        _check_keys(name, given, ("of", "fusion", *machine))
        if given.get("fusion") != "concatenation" and (useless := [key for key in machine if key in given]):
            raise ParameterError(f"{name}: {useless[0]} has no effect but on the fusion concatenation.")
        given["how"] = given.pop("fusion", "mean")
        of = given.pop("of", [])
        if not isinstance(of, list) or not all(isinstance(one, str) for one in of):
            raise ParameterError(f"{name}: of is {of!r}: it must be a list of names.")
        return Fusion(name=name, of=tuple(of), **given)
    if given.keys() & {"scores", "features"}:
        _check_keys(name, given, ("scores", "features", *machine))
        if "scores" in given and (useless := [key for key in machine if key in given]):
            raise ParameterError(f"{name}: {useless[0]} has no effect on scores.")
        for key in given.keys() & {"scores", "features"}:
            if not isinstance(given[key], str):
                raise ParameterError(f"{name}: {key} is {given[key]!r}: it must be the path of a table.")
            given[key] = folder / given[key]
        return ExternalMethod(name=name, **given)
    extraction, encoding = ([f.name for f in dataclasses.fields(kind)] for kind in (Params, EncodingParams))
    _check_keys(name, given, (*extraction, *encoding, "of", "fusion", "scores", "features"))
    try:
        return FeatureMethod(
            name=name, extraction=Params(**{key: value for key, value in given.items() if key in extraction}),
            encoding=EncodingParams(**{key: value for key, value in given.items() if key in encoding}))
    except ParameterError as error:
        raise ParameterError(str(error) if str(error).startswith(f"{name}: ") else f"{name}: {error}") from None


def _check_keys(name: str, given: Iterable[str], allowed: Sequence[str]) -> None:
    for key in given:
        if key not in allowed:
            near = nearest(key, allowed)
            more = f" Here are allowed: name, {', '.join(allowed)}." if near == "." else ""
            raise ParameterError(f"{name}: {key} is not a parameter{near}{more}")


def _check_name(name: str) -> None:
    if not isinstance(name, str) or not name.strip():
        raise ParameterError(f"name is {name!r}: a method needs a name.")
    if name != name.strip() or not name.isprintable():
        raise ParameterError(f"name is {name!r}: it must be one line without blanks around it.")


def _check_machine(method: ExternalMethod | Fusion) -> None:
    try:
        EncodingParams(cost=method.cost, balanced=method.balanced)
    except ParameterError as error:
        raise ParameterError(f"{method.name}: {error}") from None


def _of_machine(method: ExternalMethod | Fusion) -> list[str]:
    return _others(EncodingParams(cost=method.cost, balanced=method.balanced))


def _others(params: Parameters) -> list[str]:
    """Return the parameters that are not the standard ones, apart from those that are told in words."""
    return [f"{f.name} = {value_text(value)}" for f in dataclasses.fields(params)
            if f.name not in _SAID and (value := getattr(params, f.name)) != f.default]
