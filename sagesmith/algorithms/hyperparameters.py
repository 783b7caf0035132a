"""hp(): one line declares a hyperparameter; constructor, parsing, checks, flags and tables are derived from it."""

from __future__ import annotations

import json
import math
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Union

import numpy as np

_NONE: tuple[Any, ...] = (types.NoneType,)

REQUIRED: Any = type("Required", (), {"__repr__": lambda self: "REQUIRED"})()


class HyperparameterError(ValueError):
    """A hyperparameter that is missing, unknown, unreadable or out of range."""


@dataclass(frozen=True)
class Tunable:
    """AWS's recommended range for Automatic Model Tuning; `values` for a categorical one."""

    low: float | None = None
    high: float | None = None
    scale: Literal["Auto", "Linear", "Logarithmic", "ReverseLogarithmic"] = "Auto"
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class Hyperparameter:
    """One declared hyperparameter. `attribute` is the Python name, `name` SageMaker's."""

    attribute: str
    name: str
    annotation: Any
    doc: str
    default: Any = REQUIRED
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    choices: tuple[Any, ...] = ()
    aliases: tuple[str, ...] = ()
    tunable: Tunable | None = None
    check: Callable[[Any], str | None] | None = None  # a further test: what is allowed, when the value is not
    inferred: bool = False  # a job must give it; in Python and on the command line the data tell

    @property
    def required(self) -> bool:
        return self.default is REQUIRED

    def parse(self, value: Any) -> Any:
        """A value from its string form (SageMaker sends only strings) or its native one, checked.

        Raises:
            HyperparameterError: naming the hyperparameter, the value and what is allowed.
        """
        if value is None and self.default is None:
            return None
        try:
            parsed = parse_as(self.annotation, value)
        except ValueError as error:
            raise HyperparameterError(
                f"Hyperparameter {self.name}: could not parse value {_shown(value)}, expected {error}"
            ) from None
        problem = self._problem(parsed)
        if problem:
            raise HyperparameterError(f"Hyperparameter {self.name}: {_shown(value)} is not {problem}")
        return parsed

    def _problem(self, value: Any) -> str | None:
        if self.choices and value not in self.choices:
            return f"in [{', '.join(map(str, self.choices))}]"
        if isinstance(value, (int, float)) and not isinstance(value, bool) and not self._within(value):
            return f"in {self.interval or '(-inf, inf)'}"
        return self.check(value) if self.check else None

    def _within(self, value: float) -> bool:
        if isinstance(value, float) and not math.isfinite(value):
            return False
        return (
            (self.ge is None or value >= self.ge)
            and (self.gt is None or value > self.gt)
            and (self.le is None or value <= self.le)
            and (self.lt is None or value < self.lt)
        )

    @property
    def interval(self) -> str:
        """The allowed range in mathematical notation, e.g. `[0, 1)` or `[1, inf)`; "" when there is none."""
        if self.ge is None and self.gt is None and self.le is None and self.lt is None:
            return ""
        low = f"[{self.ge:.12g}" if self.ge is not None else f"({self.gt:.12g}" if self.gt is not None else "(-inf"
        high = f"{self.le:.12g}]" if self.le is not None else f"{self.lt:.12g})" if self.lt is not None else "inf)"
        return f"{low}, {high}"

    @property
    def type_name(self) -> str:
        """How the type reads in a table: `int`, `float or auto`, `list of str`."""
        return _describe(self.annotation)

    def specification(self) -> dict[str, Any]:
        """The declaration as JSON: what `sagesmith algorithms --json` prints and the server validates with."""
        result: dict[str, Any] = {"name": self.name, "type": self.type_name, "description": self.doc}
        result["required"] = self.required or self.inferred
        if not result["required"]:
            result["default"] = self.default
        for key in ("ge", "gt", "le", "lt"):
            if getattr(self, key) is not None:
                result[key] = getattr(self, key)
        if self.choices:
            result["choices"] = list(self.choices)
        if self.aliases:
            result["aliases"] = list(self.aliases)
        if self.tunable:
            found = {k: v for k, v in vars(self.tunable).items() if v not in (None, ())}
            result["tunable"] = {k: list(v) if isinstance(v, tuple) else v for k, v in found.items()}
        return result


@dataclass(frozen=True)
class Declaration:
    """What `hp()` leaves in the class body until the class is complete."""

    doc: str
    options: dict[str, Any]


def hp(
    doc: str,
    *,
    default: Any = REQUIRED,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    choices: Sequence[Any] = (),
    name: str | None = None,
    aliases: Sequence[str] = (),
    tunable: Tunable | None = None,
    check: Callable[[Any], str | None] | None = None,
    inferred: bool = False,
) -> Any:
    """Declares a hyperparameter in the body of an Algorithm: `k: int = hp("number of clusters", ge=2)`.

    The annotation is its type: int, float, bool, str, list[...], dict[...], Literal[...], and unions of them
    (`int | Literal["auto"]`). `None` as the default means "not given". `name` is SageMaker's own spelling where
    Python cannot spell it (`lambda`, `_kfold`). `check(value)` returns what is allowed when the value is not.
    `inferred`, with the default None: a job must give it, as in SageMaker, while a Python caller or `sagesmith train`
    may leave it to the data (`feature_dim`).
    """
    options = {"default": default, "ge": ge, "gt": gt, "le": le, "lt": lt, "choices": tuple(choices), "name": name}
    options |= {"aliases": tuple(aliases), "tunable": tunable, "check": check, "inferred": inferred}
    return Declaration(doc, options)


def declared(cls: type) -> dict[str, Hyperparameter]:
    """The hyperparameters of a class and its bases, in the order of declaration, by attribute."""
    found: dict[str, Hyperparameter] = {}
    for base in reversed(cls.__mro__):
        declarations = {k: v for k, v in vars(base).items() if isinstance(v, Declaration)}
        if not declarations:
            continue
        hints = typing.get_type_hints(base)
        for attribute, declaration in declarations.items():
            options = dict(declaration.options)
            options["name"] = options["name"] or attribute
            found[attribute] = Hyperparameter(attribute, annotation=hints[attribute], doc=declaration.doc, **options)
    return found


def parse_as(annotation: Any, value: Any) -> Any:
    """`value` as the annotated type, from a string or from the type itself.

    Raises:
        ValueError: its text names the type that was expected.
    """
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (Union, types.UnionType):
        return _parse_union(annotation, arguments, value)
    if origin is Literal:
        for choice in arguments:
            if (value == choice and isinstance(value, bool) == isinstance(choice, bool)) or str(value) == str(choice):
                return choice
        raise ValueError(_describe(annotation))
    if origin in (list, tuple):
        return _parse_list(annotation, arguments, value)
    if origin is dict or annotation is dict:
        parsed = _parse_json(value) if isinstance(value, str) else value
        if not isinstance(parsed, dict):
            raise ValueError("a JSON object")
        return parsed
    return _parse_scalar(annotation, value)


def _parse_union(annotation: Any, arguments: tuple[Any, ...], value: Any) -> Any:
    # Literals first: "auto" must not be taken by str, nor "1" by a wider type before a narrower one.
    literal: Any = Literal
    ordered = sorted(arguments, key=lambda a: (typing.get_origin(a) is not literal, a is str))
    for argument in ordered:
        if argument in _NONE:
            if value is None:
                return None
            continue
        try:
            return parse_as(argument, value)
        except ValueError:
            continue
    raise ValueError(_describe(annotation))


def _parse_list(annotation: Any, arguments: tuple[Any, ...], value: Any) -> list[Any]:
    if isinstance(value, str):
        text = value.strip()
        if text.startswith("(") and text.endswith(")"):  # a tuple's text, as in monotone_constraints="(1,0,-1)"
            text = text[1:-1].strip()
        value = (
            _parse_json(text) if text.startswith("[") else [part.strip() for part in text.split(",") if part.strip()]
        )
    if not isinstance(value, (list, tuple)):
        raise ValueError(_describe(annotation))
    item = arguments[0] if arguments else str
    try:
        return [parse_as(item, element) for element in value]
    except ValueError:
        raise ValueError(_describe(annotation)) from None


def _parse_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise ValueError("JSON") from None


def _parse_scalar(annotation: Any, value: Any) -> Any:
    text = value.strip() if isinstance(value, str) else value
    try:
        if annotation is bool:
            return _parse_bool(text)
        if annotation is int:
            return _parse_int(text)
        if annotation is float:
            if isinstance(text, (bool, np.bool_)):
                raise ValueError
            return float(text)
        if annotation is str and isinstance(text, str):
            return text
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(_describe(annotation))


def _parse_bool(value: Any) -> bool:
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    known = {"true": True, "1": True, "false": False, "0": False}
    if str(value).lower() not in known:
        raise ValueError
    return known[str(value).lower()]


def _parse_int(value: Any) -> int:
    if isinstance(value, (bool, np.bool_)):
        raise ValueError
    if isinstance(value, str):
        return int(value)
    if float(value) != int(value):
        raise ValueError
    return int(value)


def _shown(value: Any) -> str:
    text = str(value) if isinstance(value, str) and value.strip() else repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _describe(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(_describe(a) for a in arguments if a is not type(None))
    if origin is Literal:
        return " or ".join(map(str, arguments))
    if origin in (list, tuple):
        return f"list of {_describe(arguments[0])}" if arguments else "list"
    if origin is dict or annotation is dict:
        return "JSON object"
    return str(getattr(annotation, "__name__", annotation))
