"""What the JSON protocols share: a value of a botocore shape from JSON and to JSON, compiled once per shape."""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import formatdate, parsedate_to_datetime
from typing import Any

from botocore.model import ListShape, MapShape, Shape, StructureShape

from sagesmith.core.operation import ApiError, Body
from sagesmith.core.validate import MAX_DEPTH

Convert = Callable[[Any], Any]

_READERS: dict[int, tuple[Shape, Convert]] = {}  # by id; the shape is kept so that its id stays its own
_WRITERS: dict[int, tuple[Shape, Convert]] = {}
_RANGES = {"integer": 2**31, "long": 2**63}
_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_FRACTION = re.compile(r"(\.\d{6})\d+")


def serialization_error(message: str) -> ApiError:
    return ApiError("SerializationException", message)


def load_json(body: bytes) -> Any:
    """Reads a JSON text; of a key that occurs twice the last value counts, as AWS does.

    Raises:
        ApiError: it is not JSON in UTF-8, nests too deeply, or holds a number that JSON or Python cannot hold.
    """
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH:
        _check_depth(body)
    try:
        return json.loads(body.decode(), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise serialization_error(f"The body is not UTF-8: {error.reason} at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise serialization_error(
            f"The body is not valid JSON: {error.msg} at line {error.lineno} column {error.colno}"
        ) from None
    except ValueError as error:
        raise serialization_error(f"The body is not valid JSON: {error}") from None


def _check_depth(body: bytes) -> None:
    depth = 0
    for bracket in re.finditer(rb"[\[\]{}]", _STRINGS.sub(b"", body)):
        depth += 1 if bracket[0] in b"[{" else -1
        if depth > MAX_DEPTH:
            raise serialization_error(f"The body nests deeper than {MAX_DEPTH} levels")


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not a JSON number")


def reader(shape: Shape) -> Convert:
    """A function from a JSON value to what operations receive: datetimes, bytes, ints that fit their type.

    The function raises ApiError SerializationException for a value of the wrong type.
    """
    found = _READERS.get(id(shape))
    if found is None:
        found = _READERS[id(shape)] = (shape, _reader(shape))
    return found[1]


def writer(shape: Shape) -> Convert:
    """A function from what operations answer to JSON; members that are None or not in the shape are left out."""
    found = _WRITERS.get(id(shape))
    if found is None:
        found = _WRITERS[id(shape)] = (shape, _writer(shape))
    return found[1]


def _reader(shape: Shape) -> Convert:
    if getattr(shape, "is_document_type", False):
        return lambda value: value
    if isinstance(shape, StructureShape):
        return _read_structure(shape)
    if isinstance(shape, ListShape):
        return _read_list(shape)
    if isinstance(shape, MapShape):
        return _read_map(shape)
    return {
        "integer": _read_integer("integer"),
        "long": _read_integer("long"),
        "float": _read_float,
        "double": _read_float,
        "boolean": _read_boolean,
        "timestamp": read_timestamp,
        "blob": _read_blob,
    }.get(shape.type_name, _read_string)


def wire_name(name: str, shape: Shape) -> str:
    return str(shape.serialization.get("name", name))


def _read_structure(shape: StructureShape) -> Convert:
    members = {wire_name(name, member): (name, member) for name, member in shape.members.items()}

    def read(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _unexpected(value, "structure")
        result = {}
        for key, item in value.items():
            if item is not None and (found := members.get(key)) is not None:
                result[found[0]] = reader(found[1])(item)
        return result

    return read


def _read_list(shape: ListShape) -> Convert:
    member = shape.member

    def read(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise _unexpected(value, "list")
        convert = reader(member)
        return [None if item is None else convert(item) for item in value]

    return read


def _read_map(shape: MapShape) -> Convert:
    member = shape.value

    def read(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _unexpected(value, "map")
        convert = reader(member)
        return {key: None if item is None else convert(item) for key, item in value.items()}

    return read


def _read_string(value: Any) -> str:
    if not isinstance(value, str):
        raise _unexpected(value, "String")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise serialization_error("A string holds half of a surrogate pair, which is no character") from None
    return value


def _read_integer(kind: str) -> Convert:
    limit = _RANGES[kind]
    name = kind.capitalize()

    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
            raise _unexpected(value, name)
        if not -limit <= value < limit:
            raise serialization_error(f"{str(value)[:40]} is out of the range of {name}")
        return int(value)

    return read


def _read_float(value: Any) -> float | int:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _unexpected(value, "Double")
    try:
        if math.isfinite(float(value)):
            return value
    except OverflowError:
        pass
    raise serialization_error("A number is out of the range of Double")


def _read_boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _unexpected(value, "Boolean")
    return value


def _read_blob(value: Any) -> bytes:
    if not isinstance(value, str):
        raise _unexpected(value, "Blob")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise serialization_error("A blob is not valid base64") from None


def read_timestamp(value: Any) -> datetime:
    """A moment from epoch seconds (a number, or its digits), ISO 8601 or an HTTP date; aware, in UTC.

    Raises:
        ApiError: it is none of these, or lies outside the years 1 to 9999.
    """
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC)
        if isinstance(value, str):
            return _read_date(value.strip())
    except (ValueError, OverflowError, OSError, TypeError, IndexError):
        raise serialization_error(f"{str(value)[:60]!r} is not a timestamp") from None
    raise _unexpected(value, "Timestamp")


def _read_date(text: str) -> datetime:
    if re.fullmatch(r"-?\d+(\.\d+)?", text):
        return datetime.fromtimestamp(float(text), UTC)
    if text[:1].isalpha():
        moment = parsedate_to_datetime(text)
    else:
        moment = datetime.fromisoformat(_FRACTION.sub(r"\1", text))
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _unexpected(value: Any, wanted: str) -> ApiError:
    if isinstance(value, dict | list) or wanted in ("structure", "list", "map"):
        start = "structure or map" if isinstance(value, dict) else "list"
        if not isinstance(value, dict | list):
            return serialization_error(f"Unexpected field type: expected a {wanted}, found {_kind(value)}")
        return serialization_error(f"Start of {start} found where not expected: expected {wanted}")
    return serialization_error(f"{_kind(value)} can not be converted to a {wanted}")


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "TRUE_VALUE" if value else "FALSE_VALUE"
    return "STRING_VALUE" if isinstance(value, str) else "NUMBER_VALUE"


def _writer(shape: Shape) -> Convert:
    if getattr(shape, "is_document_type", False):
        return lambda value: value
    if isinstance(shape, StructureShape):
        return _write_structure(shape)
    if isinstance(shape, ListShape):
        member = shape.member
        return lambda value: [writer(member)(item) for item in value]
    if isinstance(shape, MapShape):
        item_shape = shape.value
        return lambda value: {key: writer(item_shape)(item) for key, item in value.items()}
    if shape.type_name == "timestamp":
        form = shape.serialization.get("timestampFormat", "unixTimestamp")
        return lambda value: write_timestamp(value, form)
    scalars: dict[str, Convert] = {"float": _write_float, "double": _write_float, "blob": _write_blob}
    return scalars.get(shape.type_name, _as_it_is)


def _as_it_is(value: Any) -> Any:
    return value


def _write_structure(shape: StructureShape) -> Convert:
    members = {name: (wire_name(name, member), member) for name, member in shape.members.items()}

    def write(value: Mapping[str, Any]) -> dict[str, Any]:
        result = {}
        for name, item in value.items():
            if item is not None and (found := members.get(name)) is not None:
                result[found[0]] = writer(found[1])(item)
        return result

    return write


def _write_float(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _write_blob(value: bytes | bytearray | str | Body) -> str:
    content = value.read() if isinstance(value, Body) else value.encode() if isinstance(value, str) else value
    return base64.b64encode(content).decode()


def write_timestamp(value: datetime | float, form: str) -> Any:
    """A moment as `unixTimestamp` (a number), `iso8601` or `rfc822`; a float is epoch seconds."""
    moment = value if isinstance(value, datetime) else datetime.fromtimestamp(value, UTC)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    if form == "unixTimestamp":
        seconds = round(moment.timestamp(), 3)
        return int(seconds) if seconds == int(seconds) else seconds
    if form == "rfc822":
        return formatdate(moment.timestamp(), usegmt=True)
    moment = moment.astimezone(UTC).replace(tzinfo=None)
    return moment.isoformat(timespec="milliseconds" if moment.microsecond else "seconds") + "Z"
