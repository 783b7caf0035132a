"""REST-XML, S3's protocol: URI labels, query parameters, headers and XML payloads, all from botocore's model."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any

from botocore.model import OperationModel, Shape

from sagesmith.core.operation import ApiError, Body, FileRange
from sagesmith.gateway.http import Incoming, Outgoing
from sagesmith.gateway.s3_route import bucket_and_key
from sagesmith.gateway.xml import Element, read_xml, write_xml

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_ROOTS = {  # the model does not say how the root of these answers is called
    "CompleteMultipartUpload": "CompleteMultipartUploadResult",
    "CreateMultipartUpload": "InitiateMultipartUploadResult",
    "DeleteObjects": "DeleteResult",
    "GetBucketAcl": "AccessControlPolicy",
    "GetBucketCors": "CORSConfiguration",
    "GetBucketLogging": "BucketLoggingStatus",
    "GetBucketRequestPayment": "RequestPaymentConfiguration",
    "GetBucketTagging": "Tagging",
    "GetBucketVersioning": "VersioningConfiguration",
    "GetObjectAcl": "AccessControlPolicy",
    "GetObjectAttributes": "GetObjectAttributesResponse",
    "GetObjectTagging": "Tagging",
    "ListBuckets": "ListAllMyBucketsResult",
    "ListMultipartUploads": "ListMultipartUploadsResult",
    "ListObjectVersions": "ListVersionsResult",
    "ListObjects": "ListBucketResult",
    "ListObjectsV2": "ListBucketResult",
    "ListParts": "ListPartsResult",
}
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NO_BODY = {204, 304}


def parse(incoming: Incoming, operation: OperationModel) -> dict[str, Any]:
    """The request's members; those absent are left out.

    Raises:
        ApiError: a value that is not of its type, or XML that is none.
    """
    shape = operation.input_shape
    if shape is None:
        return {}
    bucket, key = bucket_and_key(incoming)
    labels = {"Bucket": bucket, "Key": key}
    query = dict(reversed(incoming.query))
    request: dict[str, Any] = {}
    for name, member in shape.members.items():
        place = member.serialization.get("location")
        wire = member.serialization.get("name", name)
        if place == "uri":
            request[name] = labels.get(wire, "")
        elif place == "querystring" and wire in query:
            request[name] = _scalar(query[wire], member, wire, "iso8601")
        elif place == "header" and wire.lower() in incoming.headers:
            request[name] = _header_value(incoming.headers[wire.lower()], member, wire)
        elif place == "headers":
            request[name] = _prefixed(incoming.headers, wire.lower())
    request.update(_parse_payload(incoming, shape))
    return {name: value for name, value in request.items() if value not in ({}, None)}


def serialise(answer: dict[str, Any], operation: OperationModel, request_id: str) -> Outgoing:
    """The answer in headers and body. GetObject and HeadObject with a ContentRange are 206.

    The request id is for the XML of errors; as a header the gateway adds it to every answer.
    """
    status = int(operation.http.get("responseCode", 200))
    if operation.name in {"GetObject", "HeadObject"} and "ContentRange" in answer:
        status = 206
    headers: dict[str, str] = {}
    shape = operation.output_shape
    if shape is None:
        return Outgoing(status, headers)
    in_body: dict[str, Shape] = {}
    for name, member in shape.members.items():
        place = member.serialization.get("location")
        value = answer.get(name)
        if place is None:
            in_body[name] = member
        elif value is None:
            continue
        elif place == "headers":
            prefix = member.serialization["name"]
            headers.update({prefix + key: _header_safe(text) for key, text in value.items()})
        elif place == "header":
            headers[member.serialization["name"].lower()] = _header_safe(_text(value, member, "rfc822"))
    if operation.http["method"] == "HEAD":
        return Outgoing(status, headers)
    headers.pop("content-length", None)  # it is the body's own
    return Outgoing(status, headers, _serialise_body(answer, operation, in_body, headers))


def serialise_error(error: ApiError, operation: OperationModel | None, request_id: str) -> Outgoing:
    """`<Error>` with code, message and the error's own fields; nothing but the status for HEAD and 304."""
    headers = dict(error.headers)
    if error.status in _NO_BODY or (operation is not None and operation.http["method"] == "HEAD"):
        return Outgoing(error.status, headers)
    root = Element("Error")
    root.add("Code", error.code)
    root.add("Message", error.message)
    for name, value in error.fields.items():
        root.add(name, str(value))
    root.add("RequestId", request_id)
    root.add("HostId", request_id)
    return Outgoing(error.status, {"content-type": "application/xml", **headers}, write_xml(root))


def _parse_payload(incoming: Incoming, shape: Any) -> dict[str, Any]:
    name = shape.serialization.get("payload")
    if name is None:
        body_members = [member for member in shape.members.values() if "location" not in member.serialization]
        if not body_members or not incoming.content:
            return {}
        found = _structure(read_xml(incoming.content), shape)
        return dict(found)
    member = shape.members[name]
    if member.type_name == "blob":
        return {name: incoming.body}
    content = incoming.content
    if member.type_name == "string":
        return {name: _utf8(content)}
    if not content.strip():
        return {}
    return {name: _value(read_xml(content), member)}


def _structure(element: Element, shape: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, member in shape.members.items():
        if "location" in member.serialization:
            continue
        wire = member.serialization.get("name", name)
        if member.serialization.get("xmlAttribute"):
            if wire in element.attributes:
                found[name] = element.attributes[wire]
        elif member.type_name == "list" and member.serialization.get("flattened"):
            wire = member.serialization.get("name") or member.member.serialization.get("name") or name
            if items := element.all(wire):
                found[name] = [_value(item, member.member) for item in items]
        elif (child := element.find(wire)) is not None:
            found[name] = _value(child, member)
    return found


def _value(element: Element, shape: Any) -> Any:
    if shape.type_name == "structure":
        return _structure(element, shape)
    if shape.type_name == "list":
        return [_value(item, shape.member) for item in element.all(shape.member.serialization.get("name", "member"))]
    if shape.type_name == "map":
        pairs = {}
        for entry in element.all("entry"):
            key, value = entry.find("key"), entry.find("value")
            if key is not None and value is not None:
                pairs[key.text] = _value(value, shape.value)
        return pairs
    return _scalar(element.text, shape, element.name, "iso8601")


def _header_value(text: str, shape: Any, name: str) -> Any:
    if shape.type_name == "list":
        return [_scalar(item.strip(), shape.member, name, "rfc822") for item in text.split(",")]
    return _scalar(_from_wire(text), shape, name, "rfc822")


def _prefixed(headers: dict[str, str], prefix: str) -> dict[str, str]:
    return {
        name.removeprefix(prefix): _from_wire(value)
        for name, value in headers.items()
        if name.startswith(prefix) and name != prefix
    }


def _from_wire(text: str) -> str:
    """Header bytes arrive as Latin-1; clients that send more mean UTF-8."""
    try:
        return text.encode("latin-1").decode()
    except (UnicodeEncodeError, UnicodeDecodeError):
        return text


def _scalar(text: str, shape: Shape, name: str, default: str) -> Any:
    kind = shape.type_name
    try:
        if kind in {"integer", "long"}:
            return _integer(text)
        if kind in {"float", "double"}:
            return float(text)
        if kind == "boolean":
            return {"true": True, "false": False, "1": True, "0": False}[text.strip().lower()]
        if kind == "timestamp":
            return _timestamp(text.strip(), shape.serialization.get("timestampFormat", default))
        if kind == "blob":
            return base64.b64decode(text, validate=True)
    except (ValueError, KeyError, OverflowError, binascii.Error):
        raise ApiError(
            "InvalidArgument",
            f"{name} must be a {kind}, got {text[:100]!r}",
            fields={"ArgumentName": name, "ArgumentValue": text[:100]},
        ) from None
    return text


def _integer(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,19}", text.strip(), re.ASCII):
        raise ValueError(text)
    return int(text)


def _timestamp(text: str, style: str) -> datetime:
    readers: list[Callable[[str], datetime]] = [parsedate_to_datetime, datetime.fromisoformat]
    for read in readers if style == "rfc822" else reversed(readers):
        try:
            found = read(text)
        except (ValueError, TypeError, IndexError):
            continue
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    raise ValueError(text)


def _utf8(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise ApiError("InvalidRequest", "The body must be UTF-8 text.") from None


def _serialise_body(
    answer: dict[str, Any], operation: OperationModel, in_body: dict[str, Shape], headers: dict[str, str]
) -> bytes | FileRange:
    shape = operation.output_shape
    assert shape is not None
    payload = shape.serialization.get("payload")
    if payload is None and not in_body:
        return b""
    if payload is not None:
        member = shape.members[payload]
        value = answer.get(payload)
        if member.type_name in {"blob", "string"}:
            return _raw(value)
        if value is None:
            return b""
        root = Element(member.serialization.get("name", member.name))
        _fill(root, value, member)
    else:
        root = Element(_ROOTS.get(operation.name) or shape.name.removesuffix("Output"))
        if operation.name == "GetBucketLocation":
            root = Element("LocationConstraint", text=answer.get("LocationConstraint") or "")
        else:
            _fill(root, {name: answer[name] for name in in_body if answer.get(name) is not None}, shape)
    root.attributes["xmlns"] = NAMESPACE
    headers["content-type"] = "application/xml"
    return write_xml(root)


def _raw(value: Any) -> bytes | FileRange:
    if value is None:
        return b""
    if isinstance(value, str):
        return value.encode()
    return value.read() if isinstance(value, Body) else value


def _fill(element: Element, value: dict[str, Any], shape: Any) -> None:
    for name, item in value.items():
        member = shape.members.get(name)
        if member is None or item is None:
            continue
        wire = member.serialization.get("name", name)
        if member.serialization.get("xmlAttribute"):
            prefix, _, _ = wire.partition(":")
            namespace = member.serialization.get("xmlNamespace") or shape.serialization.get("xmlNamespace")
            if namespace and prefix != wire:
                element.attributes[f"xmlns:{prefix}"] = namespace["uri"]
            element.attributes[wire] = str(item)
        elif member.type_name == "list" and member.serialization.get("flattened"):
            wire = member.serialization.get("name") or member.member.serialization.get("name") or name
            for entry in item:
                _write_value(element, wire, entry, member.member)
        else:
            _write_value(element, wire, item, member)


def _write_value(parent: Element, name: str, value: Any, shape: Any) -> None:
    child = parent.add(name)
    if shape.type_name == "structure":
        _fill(child, value, shape)
    elif shape.type_name == "list":
        for item in value:
            _write_value(child, shape.member.serialization.get("name", "member"), item, shape.member)
    elif shape.type_name == "map":
        for key, item in value.items():
            entry = child.add("entry")
            entry.add("key", key)
            _write_value(entry, "value", item, shape.value)
    else:
        child.text = _text(value, shape, "iso8601")


def _text(value: Any, shape: Any, default: str) -> str:
    kind = shape.type_name
    if kind == "boolean":
        return "true" if value else "false"
    if kind == "timestamp" and not isinstance(value, str):
        moment = value if isinstance(value, datetime) else datetime.fromtimestamp(value, UTC)
        if shape.serialization.get("timestampFormat", default) == "rfc822":
            return format_datetime(moment.astimezone(UTC), usegmt=True)
        return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03}Z"
    if kind == "blob":
        return base64.b64encode(value).decode()
    if kind == "list":
        return ",".join(_text(item, shape.member, default) for item in value)
    return str(value)


def _header_safe(text: str) -> str:
    """Text that a header can carry: what is not ASCII, or would end the line, is encoded as RFC 2047 says."""
    if text.isascii() and not _CONTROL.search(text):
        return text
    return f"=?UTF-8?B?{base64.b64encode(text.encode(errors='replace')).decode()}?="
