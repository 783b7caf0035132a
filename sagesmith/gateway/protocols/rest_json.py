"""REST with JSON: the sagemaker runtimes. Members travel in the path, the query, headers and the body.

Where each member lies is read from the model once per operation.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable
from typing import Any

from botocore.model import ListShape, OperationModel, Shape, StructureShape

from sagesmith.core.operation import ApiError, Body
from sagesmith.gateway.eventstream import encode_events
from sagesmith.gateway.http import Incoming, Outgoing
from sagesmith.gateway.paths import template_of
from sagesmith.gateway.protocols.json import dump
from sagesmith.gateway.protocols.shapes import (
    load_json,
    read_timestamp,
    reader,
    serialization_error,
    wire_name,
    write_timestamp,
    writer,
)

Read = Callable[[Incoming, dict[str, Any]], None]  # takes members from a request

_READS: dict[tuple[str, str], list[Read]] = {}  # by service and operation


def parse(incoming: Incoming, operation: OperationModel) -> dict[str, Any]:
    """The request's members from wherever the model puts them.

    Raises:
        ApiError: SerializationException.
    """
    key = (operation.service_model.service_name, operation.name)
    reads = _READS.get(key)
    if reads is None:
        reads = _READS[key] = _reads(operation)
    result: dict[str, Any] = {}
    for read in reads:
        read(incoming, result)
    return result


def _reads(operation: OperationModel) -> list[Read]:
    shape = operation.input_shape
    if not isinstance(shape, StructureShape):
        return []
    reads: list[Read] = [_uri_read(operation, shape)]
    payload = shape.serialization.get("payload")
    in_body = {}
    for name, member in shape.members.items():
        location = member.serialization.get("location")
        if location == "header":
            reads.append(_header_read(name, member))
        elif location == "headers":
            reads.append(_headers_read(name, member))
        elif location == "querystring":
            reads.append(_query_read(name, member))
        elif location is None and name != payload:
            in_body[name] = member
    if payload:
        reads.append(_payload_read(payload, shape.members[payload]))
    elif in_body:
        reads.append(_body_read(in_body))
    return reads


def _uri_read(operation: OperationModel, shape: StructureShape) -> Read:
    template = template_of(operation)
    members = {
        wire_name(name, m): (name, m) for name, m in shape.members.items() if m.serialization.get("location") == "uri"
    }

    def read(incoming: Incoming, result: dict[str, Any]) -> None:
        for label, text in (template.labels_of(incoming.raw_path) or {}).items():
            name, member = members[label]
            result[name] = from_text(text, member)

    return read


def _header_read(name: str, member: Shape) -> Read:
    header = wire_name(name, member).lower()

    def read(incoming: Incoming, result: dict[str, Any]) -> None:
        text = incoming.headers.get(header)
        if text is not None:
            result[name] = from_text(text, member)

    return read


def _headers_read(name: str, member: Shape) -> Read:
    prefix = wire_name(name, member).lower()

    def read(incoming: Incoming, result: dict[str, Any]) -> None:
        found = {key[len(prefix) :]: value for key, value in incoming.headers.items() if key.startswith(prefix)}
        if found:
            result[name] = found

    return read


def _query_read(name: str, member: Shape) -> Read:
    parameter = wire_name(name, member)

    def read(incoming: Incoming, result: dict[str, Any]) -> None:
        values = [value for key, value in incoming.query if key == parameter]
        if not values:
            return
        if isinstance(member, ListShape):
            result[name] = [from_text(value, member.member) for value in values]
        else:
            result[name] = from_text(values[0], member)

    return read


def _payload_read(name: str, member: Shape) -> Read:
    def read(incoming: Incoming, result: dict[str, Any]) -> None:
        if member.type_name == "blob":
            result[name] = incoming.body
        elif content := incoming.content:
            if member.type_name == "string":
                result[name] = _utf8(content)
            else:
                result[name] = reader(member)(load_json(content))

    return read


def _body_read(members: dict[str, Shape]) -> Read:
    by_wire = {wire_name(name, member): (name, member) for name, member in members.items()}

    def read(incoming: Incoming, result: dict[str, Any]) -> None:
        content = incoming.content
        if not content:
            return
        value = load_json(content)
        if not isinstance(value, dict):
            raise serialization_error("The body must be a JSON object")
        for key, item in value.items():
            if item is not None and (found := by_wire.get(key)) is not None:
                result[found[0]] = reader(found[1])(item)

    return read


def from_text(text: str, shape: Shape) -> Any:
    """A value written in a header, a label or a query parameter.

    Raises:
        ApiError: SerializationException, naming the value.
    """
    kind = shape.type_name
    try:
        if kind == "string":
            if shape.serialization.get("jsonvalue"):
                return json.loads(base64.b64decode(text, validate=True))
            return text
        if kind in ("integer", "long"):
            return reader(shape)(_integer(text))
        if kind in ("float", "double"):
            return reader(shape)(float(text))
        if kind == "boolean":
            return {"true": True, "false": False}[text.lower()]
    except (ValueError, KeyError):
        raise serialization_error(f"{text[:60]!r} can not be converted to a {kind.capitalize()}") from None
    if kind == "timestamp":
        return read_timestamp(text)
    if isinstance(shape, ListShape):
        return [from_text(part.strip(), shape.member) for part in text.split(",")]
    return reader(shape)(text)


def _integer(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,20}", text):
        raise ValueError(text)
    return int(text)


def _utf8(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise serialization_error(f"The body is not UTF-8: {error.reason} at byte {error.start}") from None


def serialise(answer: dict[str, Any], operation: OperationModel, request_id: str) -> Outgoing:
    """Status, headers and body as the model places the answer's members."""
    outgoing = Outgoing(operation.http.get("responseCode", 200))
    shape = operation.output_shape
    if not isinstance(shape, StructureShape):
        return outgoing
    payload = shape.serialization.get("payload")
    in_body = {}
    for name, value in answer.items():
        member = shape.members.get(name)
        if value is None or member is None:
            continue
        location = member.serialization.get("location")
        if location == "header":
            outgoing.headers[wire_name(name, member).lower()] = to_text(value, member, "rfc822")
        elif location == "headers":
            prefix = wire_name(name, member).lower()
            outgoing.headers.update({prefix + key.lower(): str(item) for key, item in value.items()})
        elif location == "statusCode":
            outgoing.status = int(value)
        elif name != payload:
            in_body[wire_name(name, member)] = writer(member)(value)
    if payload:
        _write_payload(outgoing, answer.get(payload), shape.members[payload])
    else:
        outgoing.headers.setdefault("content-type", "application/json")
        outgoing.body = dump(in_body)
    return outgoing


def _write_payload(outgoing: Outgoing, value: Any, member: Shape) -> None:
    if member.serialization.get("eventstream"):
        outgoing.headers["content-type"] = "application/vnd.amazon.eventstream"
        outgoing.body = encode_events(value or (), member)
    elif member.type_name == "blob":
        outgoing.body = value.read() if isinstance(value, Body) else value or b""
    elif member.type_name == "string":
        outgoing.body = (value or "").encode()
    else:
        outgoing.headers.setdefault("content-type", "application/json")
        outgoing.body = dump(writer(member)(value or {}))


def to_text(value: Any, shape: Shape, timestamps: str) -> str:
    """A value as a header carries it."""
    if shape.type_name == "timestamp":
        return str(write_timestamp(value, shape.serialization.get("timestampFormat", timestamps)))
    if shape.serialization.get("jsonvalue"):
        return base64.b64encode(json.dumps(value).encode()).decode()
    if shape.type_name == "boolean":
        return "true" if value else "false"
    if isinstance(shape, ListShape) and isinstance(value, Iterable):
        return ",".join(to_text(item, shape.member, timestamps) for item in value)
    return str(value)


def serialise_error(error: ApiError, operation: OperationModel | None, request_id: str) -> Outgoing:
    """The code in `x-amzn-errortype` and in the body; the runtime's ModelError carries further members in `fields`."""
    headers = {"content-type": "application/json", "x-amzn-errortype": error.code, **error.headers}
    body = {"__type": error.code, "message": error.message, "Message": error.message, **error.fields}
    return Outgoing(error.status, headers, dump(body))
