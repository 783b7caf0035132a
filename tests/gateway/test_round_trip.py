"""Every operation: botocore's request comes out of our parser as it went in, our answer out of botocore's parser."""

from __future__ import annotations

import io
import random
from typing import Any
from urllib.parse import urlencode

import pytest
from botocore.awsrequest import HeadersDict
from botocore.model import ListShape, MapShape, Shape, StructureShape
from botocore.parsers import create_parser
from botocore.serialize import create_serializer

from sagesmith.core.operation import service_model
from sagesmith.gateway.http import Incoming
from sagesmith.gateway.protocols import json, query, rest_json
from tests.gateway.generate import value_of

SERVICES = {
    "sagemaker": ("json", json),
    "logs": ("json", json),
    "cloudwatch": ("json", json),
    "sagemaker-runtime": ("rest-json", rest_json),
    "sagemaker-featurestore-runtime": ("rest-json", rest_json),
    "sagemaker-metrics": ("rest-json", rest_json),
    "sts": ("query", query),
    "iam": ("query", query),
}
CLOUDWATCH_IN_QUERY = ("cloudwatch", "query", query)


def incoming_of(request: dict[str, Any]) -> Incoming:
    body = request["body"]
    headers = {name.lower(): str(value) for name, value in request["headers"].items()}
    if isinstance(body, dict):
        body = urlencode(body).encode()
    parameters = request["query_string"]
    pairs = list(parameters.items()) if isinstance(parameters, dict) else list(parameters)
    path, _, text = request["url_path"].partition("?")
    query_string = "&".join(part for part in (text, urlencode(pairs, doseq=True)) if part)
    content = body.encode() if isinstance(body, str) else body
    return Incoming(request["method"], path.encode(), query_string.encode(), headers, content)


def without_metadata(parsed: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parsed.items() if name != "ResponseMetadata"}


def plain(value: Any, shape: Shape) -> Any:
    """What botocore's parser leaves out or reads from a stream, brought to one form."""
    if isinstance(shape, StructureShape):
        return {name: plain(item, shape.members[name]) for name, item in value.items()}
    if isinstance(shape, ListShape):
        return [plain(item, shape.member) for item in value]
    if isinstance(shape, MapShape):
        return {key: plain(item, shape.value) for key, item in value.items()}
    return value.read() if hasattr(value, "read") else value


def pruned(value: Any) -> Any:
    """Without empty structures: a form has no way to write them."""
    if isinstance(value, dict):
        return {name: kept for name, item in value.items() if (kept := pruned(item)) not in ({}, [])}
    if isinstance(value, list):
        return [kept for item in value if (kept := pruned(item)) not in ({}, [])]
    return value


@pytest.mark.parametrize("service", SERVICES)
def test_every_request_is_parsed_to_what_botocore_was_given(service: str) -> None:
    protocol, wire = SERVICES[service]
    check_requests(service, protocol, wire)


def test_cloudwatch_is_understood_in_the_query_protocol_too() -> None:
    check_requests(*CLOUDWATCH_IN_QUERY)
    check_answers(*CLOUDWATCH_IN_QUERY)


@pytest.mark.parametrize("service", SERVICES)
def test_every_answer_is_read_by_botocore_as_it_was_given(service: str) -> None:
    protocol, wire = SERVICES[service]
    check_answers(service, protocol, wire)


def check_requests(service: str, protocol: str, wire: Any) -> None:
    model = service_model(service)
    serializer = create_serializer(protocol, include_validation=False)
    for name in model.operation_names:
        operation = model.operation_model(name)
        shape = operation.input_shape
        if shape is None:
            continue
        rng = random.Random(f"{service}.{name}")
        for _ in range(2):
            value = value_of(shape, rng)
            request = serializer.serialize_to_request(value, operation)
            parsed = wire.parse(incoming_of(request), operation)
            if wire is query:
                parsed, value = pruned(parsed), pruned(value)
            assert parsed == value, f"{service}.{name}"


def check_answers(service: str, protocol: str, wire: Any) -> None:
    model = service_model(service)
    parser = create_parser(protocol)
    for name in model.operation_names:
        operation = model.operation_model(name)
        shape = operation.output_shape
        if shape is None or operation.has_event_stream_output:
            assert wire.serialise({}, operation, "id").status < 300
            continue
        value = value_of(shape, random.Random(f"{service}.{name}.answer"))
        outgoing = wire.serialise(value, operation, "id")
        body = io.BytesIO(outgoing.body) if operation.has_streaming_output else outgoing.body
        response = {"status_code": outgoing.status, "headers": HeadersDict(outgoing.headers), "body": body}
        parsed = without_metadata(parser.parse(response, shape))
        assert plain(parsed, shape) == value, f"{service}.{name}"
