"""Declared parameters: fields with unit, limits and source, from which checks, files, flags and tables are made."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import tomllib
from dataclasses import dataclass, field
from numbers import Number
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints

from idt._util.text import allowed_text, nearest
from idt.errors import ParameterError


def number(default: Any, text: str, *, unit: str = "", low: float | None = None, above: float | None = None,
           high: float, source: str) -> Any:
    """Return the field of a number from `low`, or else above `above`, to `high`."""
    return field(default=default, metadata={"text": text, "unit": unit, "low": low, "high": high, "above": above,
                                            "source": source})


def choice(default: Any, text: str, *, source: str) -> Any:
    """Return the field of a literal, several literals or a truth value, whose type says what is allowed."""
    return field(default=default, metadata={"text": text, "unit": "", "source": source})


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """What sets of parameters share: each field made by `number` or `choice` is checked and takes its own type."""

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for f in dataclasses.fields(self):
            if "text" in f.metadata:
                object.__setattr__(self, f.name, _checked(f, hints[f.name], getattr(self, f.name)))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dict of JSON types, in order of definition; `lambda_` is called ``lambda``."""
        return {name.rstrip("_"): list(value) if isinstance(value, tuple) else value
                for name, value in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return parameters with the given fields set; an unknown name raises `ParameterError` that lists near ones."""
        names = [f.name for f in dataclasses.fields(cls)]
        for key in values:
            if key not in names:
                raise ParameterError(f"{key} is not a parameter{nearest(key, names)} The parameters are: "
                                     f"{', '.join(names)}.")
        return cls(**values)

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str], **overrides: Any) -> Self:
        """Return parameters read from a TOML file of ``field = value`` lines; `overrides` win over the file.

        Of a section of the file, given as a dict, the names that are given win.

        Raises
        ------
        ParameterError
            The file cannot be read, is not TOML, or has a name or value that is not allowed; the message names the
            file.
        """
        values = read_toml(path)
        sections = {name: values[name] | changes for name, changes in overrides.items()
                    if isinstance(changes, dict) and isinstance(values.get(name), dict)}
        try:
            return cls.from_dict(values | overrides | sections)
        except ParameterError as error:
            message = str(error)
        try:
            cls.from_dict(values)
        except ParameterError as error:
            if str(error) == message:
                message = f"{path}: {message}"
        raise ParameterError(message)

    def fingerprint(self) -> str:
        """Return 16 hex digits that are equal exactly when all fields are equal."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:16]


def read_toml(path: str | os.PathLike[str], *, kind: str = "parameter file", example: str = "stride = 5"
              ) -> dict[str, Any]:
    """Return what a TOML file holds; `ParameterError` names one that cannot be read or is none."""
    try:
        with open(path, encoding="utf-8-sig") as file:  # some editors put a mark before the first letter
            return tomllib.loads(file.read())
    except OSError as error:
        raise ParameterError(f"{path}: the {kind} cannot be read ({error.strerror}).") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ParameterError(f"{path}: the {kind} is not TOML ({error}); it holds lines such as: {example}") from error


def _checked(f: dataclasses.Field[Any], hint: Any, value: Any) -> Any:
    """Return `value` in the type of the field `f`, or raise ParameterError with name, value and limits."""
    optional = type(None) in get_args(hint)
    if value is None and optional:
        return None
    kind = next(a for a in get_args(hint) if a is not type(None)) if optional else hint
    name = f.name.rstrip("_")
    if get_origin(kind) is Literal:
        return _one_of(name, value, get_args(kind))
    if get_origin(kind) is tuple:
        return _some_of(name, value, get_args(get_args(kind)[0]))
    if kind is bool:
        if not isinstance(value, bool):
            raise ParameterError(f"{name} is {value!r}: allowed are true, false.")
        return value
    return _within_limits(name, value, kind, f)


def _one_of(name: str, value: Any, allowed: tuple[Any, ...]) -> Any:
    same = [a for a in allowed if a == value] if isinstance(value, (str, Number)) and value is not True else []
    if not same:
        raise ParameterError(f"{name} is {value!r}: allowed are {allowed_text(value, allowed)}")
    return same[0]


def _some_of(name: str, value: Any, allowed: tuple[str, ...]) -> tuple[str, ...]:
    values = tuple(value) if isinstance(value, (tuple, list, set, frozenset)) else (value,)
    for v in values:
        if v not in allowed:
            raise ParameterError(f"{name} has {v!r}: allowed are {allowed_text(v, allowed)}")
    if len(set(values)) < len(values) or not values:
        raise ParameterError(f"{name} is {values!r}: give one or more of {', '.join(allowed)}, each once.")
    return tuple(a for a in allowed if a in values)


def _within_limits(name: str, value: Any, kind: type, f: dataclasses.Field[Any]) -> Any:
    try:
        number = kind(value)
        exact = not isinstance(value, bool) and isinstance(value, Number) and number == value
    except (TypeError, ValueError, OverflowError):
        exact = False
    if not exact:
        what = "an integer" if kind is int else "a number"
        raise ParameterError(f"{name} is {value!r}: it must be {what} {_range_text(f)}.")
    low, high, above = f.metadata["low"], f.metadata["high"], f.metadata["above"]
    if number > high or (number < low if low is not None else number <= above):
        raise ParameterError(f"{name} is {value!r}: it must be {_range_text(f)}.")
    return number


def flag_name(f: dataclasses.Field[Any]) -> str:
    """Return the name of the field's command line flag."""
    return "--" + f.name.strip("_").replace("_", "-")


def limits_text(f: dataclasses.Field[Any], owner: type) -> str:
    """Return the allowed values of a field of the class `owner` in words, for messages, help and tables."""
    if "low" in f.metadata:
        return _range_text(f)
    hint = get_type_hints(owner)[f.name]
    if hint is bool:
        return "true, false"
    several = get_origin(hint) is tuple
    allowed = get_args(get_args(hint)[0] if several else hint)
    return ("one or more of " if several else "") + ", ".join(map(str, allowed))


def _range_text(f: dataclasses.Field[Any]) -> str:
    low, high, above = f.metadata["low"], f.metadata["high"], f.metadata["above"]
    return f"from {low:.10g} to {high:.10g}" if low is not None else f"above {above:.10g}, at most {high:.10g}"


def default_text(f: dataclasses.Field[Any]) -> str:
    """Return the default of a field in words, for help and tables."""
    return value_text(f.default)


def value_text(value: Any) -> str:
    """Return the value of a field in words."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def parameters_table(owner: type) -> list[str]:
    """Return the lines of a Markdown table of the fields of a class of parameters."""
    lines = ["| name | flag | unit | default | allowed | source | what it is |", "|---|---|---|---|---|---|---|"]
    for f in dataclasses.fields(owner):
        if "text" in f.metadata:
            off = f", `--no-{flag_name(f)[2:]}`" if isinstance(f.default, bool) else ""
            cells = [f"`{f.name}`", f"`{flag_name(f)}`{off}", f.metadata["unit"], default_text(f),
                     limits_text(f, owner), f.metadata["source"], f.metadata["text"]]
            lines.append("| " + " | ".join(cells) + " |")
    return lines
