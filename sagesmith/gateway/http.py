"""Incoming and Outgoing: one HTTP request and one answer, as the protocols see them; and what a protocol is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol
from urllib.parse import unquote_to_bytes

from botocore.model import OperationModel

from sagesmith.core.operation import ApiError, Body, FileRange


@dataclass(eq=False)
class Incoming:
    """A request as it came over the wire; nothing is normalised, so that signatures can be checked over it.

    The gateway fills in `body` once it has been read; nothing else ever changes. (A frozen dataclass would say so, but
    takes 3 us to make and as much again to copy.)

    Header names are lower case; the values of a header sent several times are joined by commas. `body` is bytes, or
    a spooled Body for the operations whose input is a streaming blob.
    """

    method: str
    raw_path: bytes  # as sent, still percent-encoded
    query_string: bytes  # as sent, without the question mark
    headers: dict[str, str]
    body: bytes | Body = b""
    scheme: str = "http"
    host: str = ""  # the Host header

    @cached_property
    def path(self) -> str:
        """The path, percent-decoded once.

        Raises:
            ApiError: it is not UTF-8.
        """
        return _decoded(self.raw_path)

    @cached_property
    def query(self) -> list[tuple[str, str]]:
        """The query string's pairs in their order, decoded; a name without "=" has the value "".

        Raises:
            ApiError: a name or value is not UTF-8.
        """
        return form_pairs(self.query_string)

    def value(self, name: str) -> str | None:
        """The first value of a query parameter; None when it is absent."""
        return next((value for key, value in self.query if key == name), None)

    @property
    def content(self) -> bytes:
        """The body's bytes, wherever they are."""
        return self.body if isinstance(self.body, bytes) else self.body.read()


@dataclass
class Outgoing:
    """An answer; the gateway adds Content-Length, Date and the request id."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | FileRange | AsyncIterator[bytes] = b""


class Wire(Protocol):
    """What each module in `gateway/protocols` offers: between HTTP and dicts, from the model's shapes alone."""

    parse: Callable[[Incoming, OperationModel], dict[str, Any]]
    serialise: Callable[[dict[str, Any], OperationModel, str], Outgoing]
    serialise_error: Callable[[ApiError, OperationModel | None, str], Outgoing]


def form_pairs(text: bytes) -> list[tuple[str, str]]:
    """Decodes `a=1&b=2`, as query strings and forms write it; "+" is a space.

    Raises:
        ApiError: a name or value is not UTF-8.
    """
    pairs = []
    for part in text.split(b"&"):
        if part:
            name, _, value = part.replace(b"+", b" ").partition(b"=")
            pairs.append((_decoded(name), _decoded(value)))
    return pairs


def _decoded(text: bytes) -> str:
    try:
        if b"%" not in text:
            return text.decode()
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise ApiError("InvalidURI", f"Could not parse the URI: {text[:200]!r} is not percent-encoded UTF-8.") from None
