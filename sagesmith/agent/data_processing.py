"""DataProcessing of batch transform: what of a record goes to the model, and what of record and answer is kept.

A filter is the JSONPath subset that SageMaker documents: `$`, `.name`, `*`, `['a','b']`, `[1,3]`, `[-1]`, `[2:5]`.
A CSV row is an array of its columns, so only positions apply to it. Joining appends the answer to the record: columns
after columns, or the member `SageMakerOutput` of a JSON object.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

INPUT, OUTPUT = "SageMakerInput", "SageMakerOutput"
FORMATS = {"text/csv": "csv", "application/json": "json", "application/jsonlines": "json"}

_NAME = re.compile(r"\.([A-Za-z_][\w-]*)")
_STAR = re.compile(r"\.\*|\[\*\]|\*")
_BRACKET = re.compile(r"\[([^\[\]]*)\]")
_SLICE = re.compile(r"\s*(-?\d+)?\s*:\s*(-?\d+)?\s*")
_POSITION = re.compile(r"\s*-?\d+\s*")
_QUOTED = re.compile(r"""\s*(?:'([^']*)'|"([^"]*)")\s*""")


class FilterError(ValueError):
    """A filter that cannot be understood, or a record that it does not fit. The text is for the job's FailureReason."""


Step = Callable[[Any], Any]


@dataclass(frozen=True)
class _Part:
    """One step of a filter. Steps after one that yields several values apply to each of them."""

    take: Step
    several: bool
    names: bool  # needs an object: no use for CSV


class Filter:
    """A parsed filter.

    Args:
        text: the JSONPath expression.

    Raises:
        FilterError: it is none of the subset.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        if not text.startswith("$"):
            raise FilterError(f"filter {text!r} must start with $")
        self._parts: list[_Part] = []
        at = 1
        while at < len(text):
            part, at = _parse(text, at)
            self._parts.append(part)

    @property
    def everything(self) -> bool:
        """Whether it keeps the record as it is."""
        return not self._parts

    @property
    def uses_names(self) -> bool:
        """Whether it asks for members by name."""
        return any(part.names for part in self._parts)

    def apply(self, record: Any) -> Any:
        """What the filter keeps of a record; raises FilterError when the record lacks it."""
        return self._apply(record, 0)

    def _apply(self, value: Any, at: int) -> Any:
        for position in range(at, len(self._parts)):
            part = self._parts[position]
            try:
                value = part.take(value)
            except (KeyError, IndexError, TypeError):
                raise FilterError(f"filter {self.text!r} does not fit the record {_shown(value)}") from None
            if part.several and position + 1 < len(self._parts):
                return [self._apply(each, position + 1) for each in value]
        return value


def _parse(text: str, at: int) -> tuple[_Part, int]:
    if match := _STAR.match(text, at):
        return _Part(_children, several=True, names=False), match.end()
    if match := _NAME.match(text, at):
        return _Part(_member(match[1]), several=False, names=True), match.end()
    if match := _BRACKET.match(text, at):
        return _bracket(text, match[1]), match.end()
    raise FilterError(f"filter {text!r} cannot be understood at {text[at:]!r}")


def _bracket(text: str, inside: str) -> _Part:
    if match := _SLICE.fullmatch(inside):
        start, stop = (None if each is None else int(each) for each in match.groups())
        return _Part(lambda value: _listed(value)[start:stop], several=True, names=False)
    pieces = inside.split(",")
    if all(_POSITION.fullmatch(piece) for piece in pieces):
        positions = [int(piece) for piece in pieces]
        if len(positions) == 1:
            return _Part(lambda value: _listed(value)[positions[0]], several=False, names=False)
        return _Part(lambda value: [_listed(value)[each] for each in positions], several=True, names=False)
    quoted = [_QUOTED.fullmatch(piece) for piece in pieces]
    if not all(quoted):
        raise FilterError(f"filter {text!r} cannot be understood at '[{inside}]'")
    names = [match[1] if match[1] is not None else match[2] for match in quoted if match]
    if len(names) == 1:
        return _Part(_member(names[0]), several=False, names=True)
    return _Part(lambda value: {name: _named(value)[name] for name in names}, several=False, names=True)


def _member(name: str) -> Step:
    return lambda value: _named(value)[name]


def _children(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else _listed(value)


def _listed(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError
    return value


def _named(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError
    return value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


@dataclass(frozen=True)
class DataProcessing:
    """The filters and the join of one job.

    Attributes:
        form: csv or json, of records and answers alike.
    """

    form: str
    input_filter: Filter
    output_filter: Filter
    join: bool

    @classmethod
    def of(cls, request: dict[str, Any], content_type: str, accept: str) -> DataProcessing | None:
        """A job's DataProcessing; None when it changes nothing.

        Raises:
            FilterError: filters that cannot be understood, or content types that cannot be filtered or joined.
        """
        first, last = Filter(request.get("InputFilter", "$")), Filter(request.get("OutputFilter", "$"))
        join = request.get("JoinSource", "None") == "Input"
        if first.everything and last.everything and not join:
            return None
        form = _form("ContentType", content_type)
        if join and _form("Accept", accept or content_type) != form:
            raise FilterError(f"JoinSource Input needs ContentType and Accept of one kind: {content_type}, {accept}")
        if not last.everything and not join:
            form_out = _form("Accept", accept or content_type)
            if form_out != form and not first.everything:
                raise FilterError(f"both filters need ContentType and Accept of one kind: {content_type}, {accept}")
            form = form_out
        for each in (first, last):
            if form == "csv" and each.uses_names:
                raise FilterError(f"filter {each.text!r} asks for names; the columns of text/csv have positions only")
        return cls(form, first, last, join)

    @property
    def per_record(self) -> bool:
        """Whether answers must be matched with their records one by one."""
        return self.join or not self.output_filter.everything

    def before(self, record: bytes) -> bytes:
        """What the model is sent of a record."""
        if self.input_filter.everything:
            return record
        return self._write(self.input_filter.apply(self._read(record, "record")))

    def after(self, record: bytes, answer: bytes) -> bytes:
        """What is kept of a record and the model's answer to what it was sent of it."""
        if not self.per_record:
            return answer
        output = self._read(answer, "answer")
        if self.join:
            output = self._joined(self._read(record, "record"), output)
        return self._write(self.output_filter.apply(output))

    def _joined(self, record: Any, answer: Any) -> Any:
        if self.form == "csv":
            return record + answer
        if not isinstance(record, dict):
            return {INPUT: record, OUTPUT: answer}
        if OUTPUT in record:
            raise FilterError(f"the record has a member {OUTPUT}, which is reserved for the model's answer")
        return {**record, OUTPUT: answer}

    def _read(self, text: bytes, what: str) -> Any:
        try:
            decoded = text.decode("utf-8")
            if self.form == "json":
                return json.loads(decoded)
            return next(csv.reader([decoded.rstrip("\r\n")], strict=True), [])
        except (ValueError, RecursionError, csv.Error) as error:
            raise FilterError(f"the {what} {_shown(text)} is not {self.form.upper()}: {error}") from None

    def _write(self, value: Any) -> bytes:
        if self.form == "json":
            return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow(value if isinstance(value, list) else [value])
        return line.getvalue().encode()


def _form(member: str, content_type: str) -> str:
    form = FORMATS.get(content_type.partition(";")[0].strip().lower())
    if form is None:
        allowed = ", ".join(FORMATS)
        raise FilterError(f"DataProcessing needs a {member} of {allowed}; got {content_type or 'none'}")
    return form
