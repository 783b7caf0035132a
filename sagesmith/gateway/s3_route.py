"""S3 routes: which operation a request means, from method, path and the markers in its query string."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote_to_bytes

from sagesmith.core.operation import ApiError, service_model
from sagesmith.gateway.http import Incoming

_NOT_ROUTED = {"ListDirectoryBuckets", "WriteGetObjectResponse"}  # other services' hosts, same paths
_VIRTUAL_HOST = ".localhost"  # <bucket>.localhost[:port] is the bucket's own address


@dataclass(frozen=True)
class _Route:
    operation: str
    markers: frozenset[tuple[str, str]]  # ("uploads", ""), ("list-type", "2")
    query: frozenset[str]  # query parameters it cannot do without
    headers: frozenset[str]


def bucket_and_key(incoming: Incoming) -> tuple[str, str]:
    """The bucket and the key that a request names, each "" when it names none; nothing is normalised.

    Raises:
        ApiError: the path is not percent-encoded UTF-8.
    """
    path = incoming.raw_path.removeprefix(b"/")
    host = incoming.host.rpartition(":")[0] or incoming.host
    if host.endswith(_VIRTUAL_HOST):
        return host.removesuffix(_VIRTUAL_HOST), _decoded(path)
    bucket, _, key = path.partition(b"/")
    return _decoded(bucket), _decoded(key)


def operation_of(incoming: Incoming) -> str:
    """The name of the S3 operation.

    Raises:
        ApiError: MethodNotAllowed (405), or InvalidRequest for half a multipart request.
    """
    bucket, key = bucket_and_key(incoming)
    level = "key" if key else "bucket" if bucket else "service"
    query = dict(incoming.query)
    if incoming.method == "PUT" and ("uploadId" in query) != ("partNumber" in query):
        raise ApiError("InvalidRequest", "A part needs both partNumber and uploadId in the query string.")
    found = [
        route
        for route in _routes().get((incoming.method, level), [])
        if all(query.get(name) == value or (name in query and not value) for name, value in route.markers)
    ]
    if not found and incoming.method == "POST" and level == "bucket":
        return _posted(incoming)
    if not found:
        raise ApiError("MethodNotAllowed", f"{incoming.method} is not allowed against this resource.", 405)
    most = max(len(route.markers) for route in found)
    found = [route for route in found if len(route.markers) == most]

    def rank(route: _Route) -> tuple[bool, int]:
        needs = len(route.query) + len(route.headers)
        complete = route.query <= query.keys() and route.headers <= incoming.headers.keys()
        return complete, needs if complete else -needs

    return max(found, key=rank).operation


def is_form(incoming: Incoming, operation: str) -> bool:
    """Whether a PutObject has come as an HTML form."""
    return incoming.method == "POST" and operation == "PutObject"


def _posted(incoming: Incoming) -> str:
    if incoming.headers.get("content-type", "").partition(";")[0].strip().lower() == "multipart/form-data":
        return "PutObject"
    raise ApiError(
        "PreconditionFailed",
        "At least one of the pre-conditions you specified did not hold",
        412,
        fields={"Condition": "Bucket POST must be of the enclosure-type multipart/form-data"},
    )


@functools.cache
def _routes() -> dict[tuple[str, str], list[_Route]]:
    routes: dict[tuple[str, str], list[_Route]] = {}
    model = service_model("s3")
    for name in model.operation_names:
        operation = model.operation_model(name)
        if name in _NOT_ROUTED or operation.deprecated:
            continue
        path, _, text = operation.http["requestUri"].partition("?")
        level = "key" if "{Key" in path else "bucket" if "{Bucket" in path else "service"
        needed: dict[str, set[str]] = {"querystring": set(), "header": set()}
        shape = operation.input_shape
        members = {member: shape.members[member] for member in shape.required_members} if shape else {}
        for member in members.values():
            serialization = member.serialization
            if serialization.get("location") in needed:
                needed[serialization["location"]].add(serialization["name"])
        markers = frozenset(parse_qsl(text, keep_blank_values=True))
        headers = frozenset(header.lower() for header in needed["header"])
        route = _Route(name, markers, frozenset(needed["querystring"]), headers)
        routes.setdefault((operation.http["method"], level), []).append(route)
    return routes


def _decoded(text: bytes) -> str:
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise ApiError("InvalidURI", f"Could not parse the URI: {text[:200]!r} is not percent-encoded UTF-8.") from None
