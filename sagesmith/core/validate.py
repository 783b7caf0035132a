"""A request against its botocore shape, with the texts of AWS's own errors.

Each shape is compiled once into a closure; validating a request is then a walk over the members that are there.
Members the shape lacks are ignored, as AWS does. Patterns are Java's and must match the whole value.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import regex
from botocore.model import ListShape, MapShape, Shape, StructureShape

from sagesmith.core.operation import ApiError, Body

Problems = list[str]
Check = Callable[[Any, str, Problems], None]  # value, path, where to add what is wrong
Constraint = Callable[[Any], str]  # what the value fails to satisfy, or ""

MAX_DEPTH = 64  # of lists, maps and structures in one request
MAX_PROBLEMS = 20  # named in one message; the count is of all
SHOWN = 1024  # characters of an offending value

_REMEMBERED = 128  # characters of a value whose match is remembered
_PATTERN_SECONDS = 0.5  # a pattern that takes longer counts as not matched
_PATCHES: dict[str, str] = json.loads((Path(__file__).parent / "patches.json").read_text("utf-8"))["patterns"]
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "character": (str,),
    "integer": (int,),
    "long": (int,),
    "float": (float, int),
    "double": (float, int),
    "boolean": (bool,),
    "timestamp": (datetime, float, int, str),
    "list": (list, tuple),
    "map": (Mapping,),
    "structure": (Mapping,),
}
_CHECKS: dict[int, tuple[Shape, Check]] = {}  # by id; the shape is kept so that its id stays its own


def validate(request: Mapping[str, Any], shape: Shape, code: str = "ValidationException") -> None:
    """Checks types, required members, lengths, ranges, enums, patterns and unions.

    Args:
        request: the parsed request.
        shape: the operation's input shape.
        code: the error's code; sagemaker-runtime says `ValidationError`.

    Raises:
        ApiError: naming every offending value and what is allowed.
    """
    problems: Problems = []
    try:
        _check_of(shape)(request, "", problems)
    except RecursionError:
        problems.append(
            f"Value at '' failed to satisfy constraint: Member must not nest deeper than {MAX_DEPTH} levels"
        )
    if problems:
        count = len(problems)
        noun = "validation error" if count == 1 else "validation errors"
        raise ApiError(code, f"{count} {noun} detected: {'; '.join(problems[:MAX_PROBLEMS])}")


def _check_of(shape: Shape) -> Check:
    found = _CHECKS.get(id(shape))
    if found is None:
        found = _CHECKS[id(shape)] = (shape, _compile(shape))
    return found[1]


def _compile(shape: Shape) -> Check:
    inner: Check | None = None
    if isinstance(shape, StructureShape):
        inner = _structure(shape)
    elif isinstance(shape, ListShape):
        inner = _list(shape)
    elif isinstance(shape, MapShape):
        inner = _map(shape)
    expected = _TYPES.get(shape.type_name)
    if expected is None or getattr(shape, "is_document_type", False):
        return _blob if shape.type_name == "blob" else lambda value, path, problems: None
    return _typed(shape.type_name, expected, _constraints(shape), inner)


def _typed(name: str, expected: tuple[type, ...], constraints: Sequence[Constraint], inner: Check | None) -> Check:
    boolean = name == "boolean"

    def check(value: Any, path: str, problems: Problems) -> None:
        if not isinstance(value, expected) or (isinstance(value, bool) and not boolean):
            if value is None:
                problems.append(f"Value null at '{path}' failed to satisfy constraint: Member must not be null")
            else:
                problems.append(_problem(value, path, f"Member must be of type {name}"))
            return
        for constraint in constraints:
            if text := constraint(value):
                problems.append(_problem(value, path, text))
        if inner is not None:
            inner(value, path, problems)

    return check


def _blob(value: Any, path: str, problems: Problems) -> None:
    if not isinstance(value, bytes | bytearray | Body) and not hasattr(value, "read"):
        problems.append(_problem(value, path, "Member must be of type blob"))


def _structure(shape: StructureShape) -> Check:
    members = {name: (_lower(name), member) for name, member in shape.members.items()}
    checks: dict[str, tuple[str, Check]] = {}
    required = [(name, _lower(name)) for name in shape.required_members]
    union = bool(getattr(shape, "is_tagged_union", False))
    choices = ", ".join(_lower(name) for name in shape.members)

    def check(value: Mapping[str, Any], path: str, problems: Problems) -> None:
        prefix = f"{path}." if path else ""
        for name, label in required:
            if value.get(name) is None:
                problems.append(
                    f"Value null at '{prefix}{label}' failed to satisfy constraint: Member must not be null"
                )
        known = 0
        for name, item in value.items():
            if item is None or name not in members:
                continue
            known += 1
            found = checks.get(name)
            if found is None:
                label, member = members[name]
                found = checks[name] = (label, _check_of(member))
            found[1](item, prefix + found[0], problems)
        if union and known != 1:
            problems.append(_problem(value, path, f"Member must have exactly one of the members set: [{choices}]"))

    return check


def _list(shape: ListShape) -> Check:
    member = shape.member
    simple = _simple(member)
    cached: list[Check] = []

    def check(value: Sequence[Any], path: str, problems: Problems) -> None:
        if not cached:
            cached.append(_check_of(member))
        if simple is None:
            for number, item in enumerate(value, 1):
                cached[0](item, f"{path}.{number}.member", problems)
            return
        broken = _broken(simple, value)
        if broken:
            problems.append(_problem(value, path, f"Member must satisfy constraint: [{', '.join(broken)}]"))

    return check


def _map(shape: MapShape) -> Check:
    keys = _simple(shape.key) or []
    values = _simple(shape.value)
    member = shape.value
    cached: list[Check] = []

    def check(value: Mapping[str, Any], path: str, problems: Problems) -> None:
        if not cached:
            cached.append(_check_of(member))
        if broken := _broken(keys, list(value)):
            problems.append(_problem(value, path, f"Map keys must satisfy constraint: [{', '.join(broken)}]"))
        if values is None:
            for key, item in value.items():
                cached[0](item, f"{path}.{key}.member", problems)
        elif broken := _broken(values, list(value.values())):
            problems.append(_problem(value, path, f"Map value must satisfy constraint: [{', '.join(broken)}]"))

    return check


def _simple(shape: Shape) -> list[Constraint] | None:
    """The constraints of a scalar member, its type included; None for a shape that holds others."""
    expected = _TYPES.get(shape.type_name)
    if expected is None or shape.type_name in ("list", "map", "structure"):
        return None
    boolean = shape.type_name == "boolean"

    def typed(value: Any) -> str:
        if value is None:
            return "Member must not be null"
        wrong = not isinstance(value, expected) or (isinstance(value, bool) and not boolean)
        return f"Member must be of type {shape.type_name}" if wrong else ""

    return [typed, *_constraints(shape)]


def _broken(constraints: Sequence[Constraint], values: Sequence[Any]) -> list[str]:
    """What any of the values fails to satisfy, each text once; a value of the wrong type is asked no further."""
    texts: dict[str, None] = {}
    for value in values:
        for number, constraint in enumerate(constraints):
            if text := constraint(value):
                texts[text] = None
                if number == 0:
                    break
    return list(texts)


def _constraints(shape: Shape) -> list[Constraint]:
    metadata = shape.metadata
    found: list[Constraint] = []
    low, high = metadata.get("min"), metadata.get("max")
    if shape.type_name in ("integer", "long", "float", "double"):
        if low is not None:
            found.append(_at_least(low))
        if high is not None:
            found.append(_at_most(high))
        return found
    if low:
        found.append(_not_shorter(low))
    if high is not None:
        found.append(_not_longer(high))
    if "pattern" in metadata:
        found.append(_matching(metadata["pattern"]))
    if "enum" in metadata:
        found.append(_one_of(metadata["enum"]))
    return found


def _at_least(low: float) -> Constraint:
    text = f"Member must have value greater than or equal to {low}"
    return lambda value: "" if value >= low else text


def _at_most(high: float) -> Constraint:
    text = f"Member must have value less than or equal to {high}"
    return lambda value: "" if value <= high else text


def _not_shorter(low: int) -> Constraint:
    text = f"Member must have length greater than or equal to {low}"
    return lambda value: "" if len(value) >= low else text


def _not_longer(high: int) -> Constraint:
    text = f"Member must have length less than or equal to {high}"
    return lambda value: "" if len(value) <= high else text


def _one_of(allowed: Sequence[str]) -> Constraint:
    known = frozenset(allowed)
    text = f"Member must satisfy enum value set: [{', '.join(allowed)}]"
    return lambda value: "" if value in known else text


def _matching(pattern: str) -> Constraint:
    text = f"Member must satisfy regular expression pattern: {pattern}"
    compiled: list[regex.Pattern[str]] = []

    def matched(value: str) -> str:
        if not compiled:
            compiled.append(java_pattern(pattern))
        try:
            return "" if compiled[0].fullmatch(value, timeout=_PATTERN_SECONDS) else text
        except TimeoutError:
            return text

    remembered = functools.lru_cache(maxsize=256)(matched)  # the same few names come again and again
    return lambda value: remembered(value) if len(value) <= _REMEMBERED else matched(value)


def java_pattern(pattern: str) -> regex.Pattern[str]:
    """A Java regular expression from a service model, compiled; `patches.json` has those that need rewriting."""
    pattern = _PATCHES.get(pattern, pattern)
    categories = regex.search(r"\\p\{[A-Z][a-z]?\}", pattern)  # \p{L} means all of Unicode, \w and \d only ASCII
    return regex.compile(pattern, regex.UNICODE if categories else regex.ASCII)


def _lower(name: str) -> str:
    """AWS's messages write member names with a small first letter."""
    return name[:1].lower() + name[1:]


def _problem(value: Any, path: str, constraint: str) -> str:
    shown = _shown(value)
    if len(shown) > SHOWN:
        shown = shown[:SHOWN] + "..."
    return f"Value '{shown}' at '{path}' failed to satisfy constraint: {constraint}"


def _shown(value: Any) -> str:
    """A value as Java prints it: `[a, b]`, `{k=v}`."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}={_shown(item)}" for key, item in list(value.items())[:100]) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_shown(item) for item in value[:100]) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "null" if value is None else str(value)
