"""XML as S3 writes it: a small tree, read with limits and without DTDs, and written with everything escaped."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from xml.parsers import expat

from sagesmith.core.operation import ApiError

MOST_BYTES = 8 * 2**20  # DeleteObjects of 1,000 keys of 1,024 bytes, escaped, and 10,000 parts fit with room
_DEEPEST = 32

_ESCAPED = re.compile(r"[&<>\"\x00-\x08\x0b-\x1f\x7f\ufffe\uffff]")
_NAMED = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}


@dataclass
class Element:
    """An element; its name without a namespace prefix."""

    name: str
    attributes: dict[str, str] = field(default_factory=dict)
    text: str = ""
    children: list[Element] = field(default_factory=list)

    def add(self, name: str, text: str = "") -> Element:
        """Appends and answers a child."""
        child = Element(name, text=text)
        self.children.append(child)
        return child

    def find(self, name: str) -> Element | None:
        return next((child for child in self.children if child.name == name), None)

    def all(self, name: str) -> list[Element]:
        return [child for child in self.children if child.name == name]


def read_xml(data: bytes) -> Element:
    """Parses a document.

    Raises:
        ApiError: MalformedXML for what is not well formed, has a DTD, or is too large or too deep.
    """
    if len(data) > MOST_BYTES:
        raise _malformed(f"it is larger than {MOST_BYTES} bytes")
    builder = _Builder()
    try:
        builder.parser.Parse(data, True)
    except expat.ExpatError as error:
        raise _malformed(str(error)) from None
    except (LookupError, ValueError) as error:
        raise _malformed(f"its encoding cannot be read: {error}") from None
    assert builder.root is not None
    return builder.root


class _Builder:
    def __init__(self) -> None:
        self.root: Element | None = None
        self._open: list[Element] = []
        self._text: list[list[str]] = []
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters
        self.parser.StartDoctypeDeclHandler = self._doctype

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self._open) >= _DEEPEST:
            raise _malformed(f"it is nested deeper than {_DEEPEST} elements")
        element = Element(name.rpartition(":")[2], attributes)
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)
        self._text.append([])

    def _end(self, _name: str) -> None:
        self._open.pop().text = "".join(self._text.pop())

    def _characters(self, text: str) -> None:
        self._text[-1].append(text)

    def _doctype(self, *_: object) -> None:
        raise _malformed("document type declarations are not allowed")


def write_xml(root: Element) -> bytes:
    """The document in UTF-8 with its declaration."""
    pieces = ['<?xml version="1.0" encoding="UTF-8"?>\n']
    _write(root, pieces)
    return "".join(pieces).encode(errors="replace")


def _write(element: Element, pieces: list[str]) -> None:
    attributes = "".join(f' {name}="{_escape(value)}"' for name, value in element.attributes.items())
    if not element.text and not element.children:
        pieces.append(f"<{element.name}{attributes}/>")
        return
    pieces.append(f"<{element.name}{attributes}>{_escape(element.text)}")
    for child in element.children:
        _write(child, pieces)
    pieces.append(f"</{element.name}>")


def _escape(text: str) -> str:
    return _ESCAPED.sub(lambda match: _NAMED.get(match[0]) or f"&#{ord(match[0])};", text)


def _malformed(why: str) -> ApiError:
    return ApiError("MalformedXML", f"The XML you provided was not well-formed or did not validate: {why}.")
