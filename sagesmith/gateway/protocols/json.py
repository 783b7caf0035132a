"""AWS JSON 1.0 and 1.1: sagemaker, logs, CloudWatch. The operation is in X-Amz-Target, all the rest in the body.

CloudWatch's clients ask for "query mode": errors then carry the code of the older query protocol in a header.
"""

from __future__ import annotations

import json
from typing import Any

from botocore.model import OperationModel

from sagesmith.core.operation import ApiError
from sagesmith.gateway.http import Incoming, Outgoing
from sagesmith.gateway.protocols.shapes import load_json, reader, serialization_error, writer


def parse(incoming: Incoming, operation: OperationModel) -> dict[str, Any]:
    """The request's members; an empty body is an empty request.

    Raises:
        ApiError: SerializationException.
    """
    content = incoming.content
    value = load_json(content) if content else {}
    if not isinstance(value, dict):
        raise serialization_error("The body must be a JSON object")
    if operation.input_shape is None:
        return {}
    result: dict[str, Any] = reader(operation.input_shape)(value)
    return result


def serialise(answer: dict[str, Any], operation: OperationModel, request_id: str) -> Outgoing:
    """The answer's members as a JSON object."""
    shape = operation.output_shape
    body = writer(shape)(answer) if shape is not None else {}
    return Outgoing(200, {"content-type": _content_type(operation)}, dump(body))


def serialise_error(error: ApiError, operation: OperationModel | None, request_id: str) -> Outgoing:
    """`{"__type": code, "message": text}`, and the code in a header for clients that look there."""
    name = error.code
    headers = {"content-type": _content_type(operation), **error.headers}
    if operation is not None and "awsQueryCompatible" in operation.service_model.metadata:
        side = "Receiver" if error.status >= 500 else "Sender"
        headers["x-amzn-query-error"] = f"{error.code};{side}"
        name = _shape_name(error.code, operation)
    headers["x-amzn-errortype"] = name
    return Outgoing(error.status, headers, dump({"__type": name, "message": error.message, **error.fields}))


def dump(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _shape_name(code: str, operation: OperationModel) -> str:
    """The modelled exception whose query code is `code`, or the code itself."""
    for shape in operation.error_shapes:
        if shape.metadata.get("error", {}).get("code") == code:
            return str(shape.name)
    return code


def _content_type(operation: OperationModel | None) -> str:
    version = operation.service_model.metadata.get("jsonVersion", "1.1") if operation is not None else "1.1"
    return f"application/x-amz-json-{version}"
