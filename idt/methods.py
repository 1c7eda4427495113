"""Methods that are compared: trajectories with an encoding, tables of other programs, and fusions of them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from idt.errors import ParameterError
from idt.params import Parameters, Params, value_text
from idt.vectors import EncodingParams

How: TypeAlias = Literal["mean", "rank", "weighted", "concatenation"]

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
        There are fewer than two methods, one is named twice, or a value is not allowed.
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
            raise ParameterError(f"{self.name}: fusion is {self.how!r}: allowed are {', '.join(get_args(How))}.")
        if len(set(self.of)) < max(2, len(self.of)):
            raise ParameterError(f"{self.name}: of is {', '.join(map(repr, self.of)) or 'empty'}: it must name two "
                                 "methods or more, each once.")

    @property
    def described(self) -> str:
        """One line that tells what it is."""
        machine = _of_machine(self) if self.how == "concatenation" else []
        return "; ".join([f"{_HOW[self.how]} {' and '.join([', '.join(self.of[:-1]), self.of[-1]])}", *machine])


Method: TypeAlias = FeatureMethod | ExternalMethod | Fusion


def _check_name(name: str) -> None:
    if not isinstance(name, str) or not name.strip():
        raise ParameterError(f"name is {name!r}: a method needs a name.")


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
