"""Record: SageMaker's protobuf message for one row (`aialgs.data.Record`), to bytes and back, in plain Python.

This is the reference decoder: it starts at once, takes every legal encoding, and words the errors. The fields and
their numbers are in docs/formats.md; the wire format is https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from sagesmith.formats.errors import DataError

Kind = Literal["float32", "float64", "int32", "bytes"]
KINDS: dict[int, Kind] = {2: "float32", 3: "float64", 7: "int32", 9: "bytes"}
NUMBERS: dict[str, int] = {kind: number for number, kind in KINDS.items()}
WIDTHS = {"float32": 4, "float64": 8}
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5


@dataclass
class Value:
    """One entry of `features` or `label`: a tensor (`values`; sparse ones have `keys` and `shape`), or byte strings."""

    kind: Kind = "float32"
    values: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))
    keys: np.ndarray | None = None  # uint64
    shape: np.ndarray | None = None  # uint64
    blobs: list[bytes] = field(default_factory=list)  # kind "bytes"
    content_type: str = ""  # kind "bytes"


@dataclass
class Record:
    """One row. Unknown fields are passed over, as protobuf demands."""

    features: dict[str, Value] = field(default_factory=dict)
    label: dict[str, Value] = field(default_factory=dict)
    uid: str = ""
    metadata: str = ""
    configuration: str = ""


def decode(message: bytes) -> Record:
    """The record in a frame's payload.

    Raises:
        DataError: truncated, or not this message; the caller adds file and record number.
    """
    record = Record()
    for number, content in _fields(message):
        if number in (1, 2) and isinstance(content, bytes):
            key, value = _entry(content)
            (record.features if number == 1 else record.label)[key] = value
        elif number in (3, 4, 5) and isinstance(content, bytes):
            setattr(record, ("uid", "metadata", "configuration")[number - 3], _text(content))
        elif number <= 5:
            raise DataError(f"field {number} of Record is not length-delimited")
    return record


def encode(record: Record) -> bytes:
    """The bytes of a record, map entries in the order of the dicts; the same bytes as SageMaker's own SDK writes."""
    parts = []
    for number, entries in ((1, record.features), (2, record.label)):
        for key, value in entries.items():
            entry = delimited(1, key.encode()) + delimited(2, _encode_value(value))
            parts.append(delimited(number, entry))
    for number, text in ((3, record.uid), (4, record.metadata), (5, record.configuration)):
        if text:
            parts.append(delimited(number, text.encode()))
    return b"".join(parts)


def delimited(number: int, content: bytes) -> bytes:
    """A length-delimited field."""
    return varint(number << 3 | LENGTH) + varint(len(content)) + content


def varint(value: int) -> bytes:
    """A base-128 integer; negative ones as 64-bit two's complement."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """An integer at `at`, and where it ends.

    Raises:
        DataError: it runs over the end, or over ten bytes.
    """
    value = shift = 0
    while True:
        if at >= len(data):
            raise DataError("a varint runs over the end")
        if shift > 63:
            raise DataError("a varint of more than ten bytes")
        byte = data[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value & ((1 << 64) - 1), at
        shift += 7


def _fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Field numbers with contents: bytes when length-delimited or fixed (4 or 8 of them), else an integer."""
    at = 0
    while at < len(data):
        tag, at = read_varint(data, at)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise DataError("field number 0")
        if wire == VARINT:
            value, at = read_varint(data, at)
            yield number, value
            continue
        if wire == LENGTH:
            length, at = read_varint(data, at)
        elif wire in (FIXED32, FIXED64):
            length = 4 if wire == FIXED32 else 8
        else:
            raise DataError(f"wire type {wire} is not used by this message")
        if length > len(data) - at:
            raise DataError(f"field {number} of {length} bytes runs over the end")
        yield number, data[at : at + length]
        at += length


def _entry(content: bytes) -> tuple[str, Value]:
    key, value = "", Value()
    for number, part in _fields(content):
        if number == 1 and isinstance(part, bytes):
            key = _text(part)
        elif number == 2 and isinstance(part, bytes):
            value = _value(part)
        elif number <= 2:
            raise DataError(f"field {number} of a map entry is not length-delimited")
    return key, value


def _value(content: bytes) -> Value:
    value = Value()
    for number, part in _fields(content):
        if number not in KINDS:
            continue
        if not isinstance(part, bytes):
            raise DataError(f"field {number} of Value is not length-delimited")
        kind = KINDS[number]
        if kind == "bytes":
            value = _blobs(part)
        else:
            value = _tensor(part, kind)
    return value


def _blobs(content: bytes) -> Value:
    value = Value("bytes")
    for number, part in _fields(content):
        if number == 1 and isinstance(part, bytes):
            value.blobs.append(part)
        elif number == 2 and isinstance(part, bytes):
            value.content_type = _text(part)
        elif number <= 2:
            raise DataError(f"field {number} of Bytes is not length-delimited")
    return value


def _tensor(content: bytes, kind: Kind) -> Value:
    values: list[np.ndarray] = []
    keys: list[int] = []
    shape: list[int] = []
    for number, part in _fields(content):
        if number == 1:
            values.append(_numbers(part, kind))
        elif number == 2:
            keys += _integers(part)
        elif number == 3:
            shape += _integers(part)
    empty = np.empty(0, np.dtype(kind))
    joined = values[0] if len(values) == 1 else np.concatenate(values) if values else empty
    return Value(
        kind,
        joined,
        np.array(keys, np.uint64) if keys else None,
        np.array(shape, np.uint64) if shape else None,
    )


def _numbers(part: bytes | int, kind: Kind) -> np.ndarray:
    if kind == "int32":
        low = np.array([value & 0xFFFFFFFF for value in _integers(part)], np.uint32)
        return low.view(np.int32)
    if not isinstance(part, bytes) or len(part) % WIDTHS[kind]:
        raise DataError(f"values of a {kind} tensor are not whole numbers of {WIDTHS[kind]} bytes")
    return np.frombuffer(part, "<f4" if kind == "float32" else "<f8")


def _integers(part: bytes | int) -> list[int]:
    if isinstance(part, int):
        return [part]
    found, at = [], 0
    while at < len(part):
        value, at = read_varint(part, at)
        found.append(value)
    return found


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise DataError("a string is not UTF-8") from error


def _encode_value(value: Value) -> bytes:
    if value.kind == "bytes":
        content = b"".join(delimited(1, blob) for blob in value.blobs)
        if value.content_type:
            content += delimited(2, value.content_type.encode())
        return delimited(NUMBERS["bytes"], content)
    content = b""
    if len(value.values):
        content += delimited(1, _encode_numbers(value))
    for number, integers in ((2, value.keys), (3, value.shape)):
        if integers is not None and len(integers):
            content += delimited(number, b"".join(map(varint, integers.tolist())))
    return delimited(NUMBERS[value.kind], content)


def _encode_numbers(value: Value) -> bytes:
    if value.kind == "int32":
        return b"".join(map(varint, value.values.tolist()))
    return np.asarray(value.values, "<f4" if value.kind == "float32" else "<f8").tobytes()


def named(entries: Mapping[str, Value], what: str) -> Value | None:
    """The entry `values`, which holds a row's numbers; None when there are no entries.

    Raises:
        DataError: there are entries, but none of that name.
    """
    if not entries:
        return None
    if "values" not in entries:
        raise DataError(f"{what} has no entry 'values', only {', '.join(map(repr, entries))}")
    return entries["values"]
