"""ContentType: what a request, a channel or an Accept header says its bytes are, normalised once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from sagesmith.formats.errors import DataError


@dataclass(frozen=True)
class ContentType:
    """A media type in lower case, without its parameters, and the parameters by lower-case name."""

    name: str
    parameters: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Self:
        """`Text/CSV; label_size=1` → name `text/csv`, parameters `{"label_size": "1"}`. Knows no formats yet.

        Raises:
            DataError: a parameter is not of the form name=value.
        """
        name, *rest = _split(text)
        parameters: dict[str, str] = {}
        for part in rest:
            key, equals, value = part.partition("=")
            if not part.strip():
                continue
            if not equals or not key.strip():
                raise DataError(f"content type {text!r}: parameter {part.strip()!r} is not of the form name=value")
            parameters[key.strip().lower()] = value.strip().strip('"')
        return cls(name.strip().lower(), parameters)

    def flag(self, name: str) -> bool:
        """Whether a parameter such as `verbose` is true, in any case."""
        return self.parameters.get(name, "").lower() == "true"

    def number(self, name: str, default: int) -> int:
        """A parameter that is a whole number of 0 or more.

        Raises:
            DataError: it is something else.
        """
        text = self.parameters.get(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise DataError(f"content type {self}: {name}={text!r} is not a whole number of 0 or more")
        return int(text)

    def __str__(self) -> str:
        return ";".join([self.name, *(f"{key}={value}" for key, value in self.parameters.items())])


def _split(text: str) -> list[str]:
    """Cuts at semicolons outside double quotes (`text/csv;delimiter=";"`)."""
    if '"' not in text:
        return text.split(";")
    parts = [""]
    quoted = False
    for character in text:
        quoted ^= character == '"'
        if character == ";" and not quoted:
            parts.append("")
        else:
            parts[-1] += character
    return parts
