"""Event streams (`application/vnd.amazon.eventstream`): a response in parts, each part framed with checksums.

A message is: total length, header length, CRC-32 of those eight bytes, headers, payload, CRC-32 of all before it;
numbers are big-endian. Source: the "Amazon event stream" section of the Smithy specification.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from typing import Any

from botocore.model import Shape, StructureShape

from sagesmith.core.operation import ApiError
from sagesmith.gateway.protocols.json import dump
from sagesmith.gateway.protocols.shapes import writer

_STRING = 7  # the header type of text


def encode_message(headers: Mapping[str, str], payload: bytes) -> bytes:
    """One framed message."""
    encoded = b""
    for name, value in headers.items():
        text = value.encode()
        encoded += struct.pack("!B", len(name)) + name.encode() + struct.pack("!BH", _STRING, len(text)) + text
    prelude = struct.pack("!II", 16 + len(encoded) + len(payload), len(encoded))
    message = prelude + struct.pack("!I", zlib.crc32(prelude)) + encoded + payload
    return message + struct.pack("!I", zlib.crc32(message))


async def encode_events(
    events: Iterable[Mapping[str, Any]] | AsyncIterable[Mapping[str, Any]], shape: Shape
) -> AsyncIterator[bytes]:
    """Frames events such as `{"PayloadPart": {"Bytes": b"…"}}`; an ApiError on the way becomes the last event."""
    assert isinstance(shape, StructureShape)
    try:
        if isinstance(events, AsyncIterable):
            async for event in events:
                yield _encode(event, shape)
        else:
            for event in events:
                yield _encode(event, shape)
    except ApiError as error:
        headers = {":message-type": "exception", ":exception-type": error.code, ":content-type": "application/json"}
        yield encode_message(headers, dump({"Message": error.message, **error.fields}))


def _encode(event: Mapping[str, Any], shape: StructureShape) -> bytes:
    ((name, value),) = event.items()
    member = shape.members[name]
    assert isinstance(member, StructureShape)
    headers = {":message-type": "event", ":event-type": name}
    for inner, inner_shape in member.members.items():
        if inner_shape.serialization.get("eventpayload") and inner_shape.type_name == "blob":
            headers[":content-type"] = "application/octet-stream"
            return encode_message(headers, value.get(inner, b""))
    headers[":content-type"] = "application/json"
    return encode_message(headers, dump(writer(member)(value)))
