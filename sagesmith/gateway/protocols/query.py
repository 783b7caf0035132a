"""The query protocol: sts, iam, and CloudWatch for older clients. A form goes in, XML comes out.

Members are flattened into names: `Tags.member.1.Key=a`, `Attributes.entry.1.key=b`; `Names.1=c` for flattened lists.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

from botocore.model import ListShape, MapShape, OperationModel, Shape, StructureShape

from sagesmith.core.operation import ApiError
from sagesmith.core.validate import MAX_DEPTH
from sagesmith.gateway.http import Incoming, Outgoing, form_pairs
from sagesmith.gateway.protocols.rest_json import from_text
from sagesmith.gateway.protocols.shapes import serialization_error, wire_name, write_timestamp

MAX_PARAMETERS = 10_000

# Characters that XML 1.0 cannot hold at all.
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")

Tree = dict[str, Any]  # part of a name → the tree below it; "" → the value that stands here


def form_of(incoming: Incoming) -> dict[str, str]:
    """All parameters, those of the query string first; `Action` says which operation.

    Raises:
        ApiError: not UTF-8, or too many.
    """
    content = incoming.content
    if content.count(b"&") > MAX_PARAMETERS:
        raise ApiError("MalformedQueryString", f"There are more than {MAX_PARAMETERS} parameters")
    pairs = dict(incoming.query)
    if content:
        pairs.update(form_pairs(content))
    return pairs


def parse(incoming: Incoming, operation: OperationModel) -> dict[str, Any]:
    """The request's members, put together again from the flattened names.

    Raises:
        ApiError: SerializationException.
    """
    tree: Tree = {}
    for name, value in form_of(incoming).items():
        parts = name.split(".")
        if len(parts) > MAX_DEPTH:
            raise serialization_error(f"The parameter {name[:60]!r} nests deeper than {MAX_DEPTH} levels")
        here = tree
        for part in parts:
            here = here.setdefault(part, {})
        here[""] = value
    shape = operation.input_shape
    return _read(tree, shape) if isinstance(shape, StructureShape) else {}


def _read(tree: Tree, shape: Shape) -> Any:
    if isinstance(shape, StructureShape):
        return {
            name: _read(tree[wire], member)
            for name, member in shape.members.items()
            if (wire := _query_name(name, member)) in tree
        }
    if isinstance(shape, ListShape):
        return _read_list(tree, shape)
    if isinstance(shape, MapShape):
        return _read_map(tree, shape)
    text = tree.get("")
    if text is None:
        raise serialization_error(f"A {shape.type_name} was expected where further names follow")
    if shape.type_name == "blob":
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise serialization_error("A blob is not valid base64") from None
    return from_text(text, shape)


def _query_name(name: str, shape: Shape) -> str:
    """The member's name in a form; that of a flattened list is the name of its members."""
    if isinstance(shape, ListShape) and shape.serialization.get("flattened") and "name" in shape.member.serialization:
        return str(shape.member.serialization["name"])
    return wire_name(name, shape)


def _read_list(tree: Tree, shape: ListShape) -> list[Any]:
    if not shape.serialization.get("flattened"):
        tree = tree.get(shape.member.serialization.get("name", "member"), {})
    return [_read(item, shape.member) for item in _numbered(tree)]


def _read_map(tree: Tree, shape: MapShape) -> dict[str, Any]:
    if not shape.serialization.get("flattened"):
        tree = tree.get("entry", {})
    key_name = wire_name("key", shape.key)
    value_name = wire_name("value", shape.value)
    result = {}
    for item in _numbered(tree):
        if key_name not in item:
            raise serialization_error(f"A map's entry has no {key_name!r}")
        result[_read(item[key_name], shape.key)] = _read(item.get(value_name, {"": ""}), shape.value)
    return result


def _numbered(tree: Tree) -> list[Tree]:
    """The items of a list in the order of their numbers, which may have gaps."""
    numbered = {}
    for name, item in tree.items():
        if name == "":
            if item:
                raise serialization_error(f"A list was expected, found {item[:60]!r}")
        elif re.fullmatch(r"[0-9]{1,9}", name):
            numbered[int(name)] = item
        else:
            raise serialization_error(f"A list's items are numbered from 1, found {name[:60]!r}")
    return [numbered[number] for number in sorted(numbered)]


def serialise(answer: dict[str, Any], operation: OperationModel, request_id: str) -> Outgoing:
    """`<OperationResponse><OperationResult>…`, with the members in the model's order."""
    shape = operation.output_shape
    inner = ""
    if isinstance(shape, StructureShape):
        wrapper = shape.serialization.get("resultWrapper", f"{operation.name}Result")
        inner = f"<{wrapper}>{_write_members(answer, shape)}</{wrapper}>"
    space = operation.service_model.metadata.get("xmlNamespace", "")
    name = f"{operation.name}Response"
    return _xml(
        200,
        f'<{name} xmlns="{escape(space)}">{inner}'
        f"<ResponseMetadata><RequestId>{_text(request_id)}</RequestId></ResponseMetadata></{name}>",
    )


def serialise_error(error: ApiError, operation: OperationModel | None, request_id: str) -> Outgoing:
    """`<ErrorResponse>` with Type, Code and Message."""
    space = operation.service_model.metadata.get("xmlNamespace", "") if operation is not None else ""
    side = "Receiver" if error.status >= 500 else "Sender"
    extra = "".join(f"<{name}>{_text(str(value))}</{name}>" for name, value in error.fields.items())
    outgoing = _xml(
        error.status,
        f'<ErrorResponse xmlns="{escape(space)}"><Error><Type>{side}</Type><Code>{_text(error.code)}</Code>'
        f"<Message>{_text(error.message)}</Message>{extra}</Error>"
        f"<RequestId>{_text(request_id)}</RequestId></ErrorResponse>",
    )
    outgoing.headers.update(error.headers)
    return outgoing


def _xml(status: int, text: str) -> Outgoing:
    return Outgoing(status, {"content-type": "text/xml"}, f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode())


def _write_members(value: Mapping[str, Any], shape: StructureShape) -> str:
    return "".join(
        _write(value[name], member, wire_name(name, member))
        for name, member in shape.members.items()
        if value.get(name) is not None
    )


def _write(value: Any, shape: Shape, name: str) -> str:
    if isinstance(shape, StructureShape):
        return f"<{name}>{_write_members(value, shape)}</{name}>"
    if isinstance(shape, ListShape):
        flat = shape.serialization.get("flattened")
        inner_name = name if flat else shape.member.serialization.get("name", "member")
        inner = "".join(_write(item, shape.member, inner_name) for item in value)
        return inner if flat else f"<{name}>{inner}</{name}>"
    if isinstance(shape, MapShape):
        return _write_map(value, shape, name)
    return f"<{name}>{_text(_scalar(value, shape))}</{name}>"


def _write_map(value: Mapping[str, Any], shape: MapShape, name: str) -> str:
    flat = shape.serialization.get("flattened")
    entry = name if flat else "entry"
    key_name, value_name = wire_name("key", shape.key), wire_name("value", shape.value)
    inner = "".join(
        f"<{entry}>{_write(key, shape.key, key_name)}{_write(item, shape.value, value_name)}</{entry}>"
        for key, item in value.items()
    )
    return inner if flat else f"<{name}>{inner}</{name}>"


def _scalar(value: Any, shape: Shape) -> str:
    if shape.type_name == "timestamp":
        return str(write_timestamp(value, shape.serialization.get("timestampFormat", "iso8601")))
    if shape.type_name == "blob":
        return base64.b64encode(value.encode() if isinstance(value, str) else value).decode()
    if shape.type_name == "boolean":
        return "true" if value else "false"
    return str(value)


def _text(value: str) -> str:
    return escape(_NOT_XML.sub("\N{REPLACEMENT CHARACTER}", value), {"\r": "&#13;"})
