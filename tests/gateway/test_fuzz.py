"""Whatever bytes arrive: a request's members or a clean error in AWS's shape, never an accident."""

from __future__ import annotations

import asyncio
import json as standard_json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sagesmith.core.clock import SystemClock
from sagesmith.core.config import Config
from sagesmith.core.operation import OPERATIONS, ApiError, World, service_model
from sagesmith.core.validate import validate
from sagesmith.gateway.app import Gateway
from sagesmith.gateway.http import Incoming
from sagesmith.gateway.keys import Keys
from sagesmith.gateway.protocols import json, query, rest_json

LIMIT = settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
MEMBERS = [
    "TrainingJobName",
    "HyperParameters",
    "AlgorithmSpecification",
    "InputDataConfig",
    "ResourceConfig",
    "StoppingCondition",
    "EnableManagedSpotTraining",
    "Tags",
]


def read(wire: Any, service: str, operation: str, incoming: Incoming) -> None:
    model = service_model(service).operation_model(operation)
    try:
        request = wire.parse(incoming, model)
        assert model.input_shape is not None
        validate(request, model.input_shape)
    except ApiError as error:
        refused = error
    else:
        return
    assert 400 <= refused.status < 500
    answer = wire.serialise_error(refused, model, "id")
    assert answer.status == refused.status
    assert refused.code.encode() in answer.body


@LIMIT
@given(st.binary(max_size=60) | st.text(alphabet='{}[]":,0123456789.eE+-\\utrfalsn ', max_size=60).map(str.encode))
def test_bytes_as_a_json_body(body: bytes) -> None:
    read(json, "sagemaker", "CreateTrainingJob", Incoming("POST", b"/", b"", {}, body))


@LIMIT
@given(st.dictionaries(st.sampled_from(MEMBERS), json_values, max_size=4))
def test_json_of_any_shape(value: dict[str, Any]) -> None:
    body = standard_json.dumps(value).encode()
    read(json, "sagemaker", "CreateTrainingJob", Incoming("POST", b"/", b"", {}, body))


@LIMIT
@given(st.text(alphabet="ActionNamesTgmbr.123=&%+é0f", max_size=80))
def test_forms_of_any_shape(text: str) -> None:
    read(query, "iam", "CreateRole", Incoming("POST", b"/", b"", {}, text.encode()))
    read(query, "iam", "SimulatePrincipalPolicy", Incoming("POST", b"/", b"", {}, b"ActionNames." + text.encode()))


@LIMIT
@given(path=st.binary(max_size=30), value=st.text(max_size=20), body=st.binary(max_size=40))
def test_rest_requests_of_any_shape(path: bytes, value: str, body: bytes) -> None:
    headers = {"x-amzn-sagemaker-invocationtimeoutseconds": value, "x-amzn-sagemaker-requestttlseconds": value}
    raw_path = b"/endpoints/" + path + b"/async-invocations"
    read(rest_json, "sagemaker-runtime", "InvokeEndpointAsync", Incoming("POST", raw_path, b"", headers, body))
    raw_path = b"/FeatureGroup/" + path
    query_string = b"ExpirationTimeResponse=" + path + b"&FeatureName=" + value.encode("utf-8", "replace")
    read(rest_json, "sagemaker-featurestore-runtime", "GetRecord", Incoming("GET", raw_path, query_string, {}, b""))
    read(rest_json, "sagemaker-metrics", "BatchPutMetrics", Incoming("PUT", b"/BatchPutMetrics", b"", {}, body))


def test_of_a_key_that_occurs_twice_the_last_value_counts() -> None:
    model = service_model("sagemaker").operation_model("DescribeModel")
    incoming = Incoming("POST", b"/", b"", {}, b'{"ModelName": "a", "ModelName": "b"}')
    assert json.parse(incoming, model) == {"ModelName": "b"}


def test_nesting_is_limited_not_brackets() -> None:
    model = service_model("sagemaker").operation_model("DescribeModel")
    flat = standard_json.dumps({"ModelName": "[{" * 500, "Other": [[]] * 500}).encode()
    assert json.parse(Incoming("POST", b"/", b"", {}, flat), model) == {"ModelName": "[{" * 500}
    deep = b'{"ModelName": "a", "x": ' + b"[" * 64 + b"]" * 64 + b"}"
    with pytest.raises(ApiError, match="nests deeper than 64 levels"):
        json.parse(Incoming("POST", b"/", b"", {}, deep), model)


@pytest.fixture(scope="module")
def no_operations() -> Iterator[None]:
    """What other tests have loaded is put aside: nothing is to be called with the half-made world below."""
    saved = dict(OPERATIONS)
    OPERATIONS.clear()
    yield
    OPERATIONS.update(saved)


@pytest.fixture(scope="module")
def gateway(no_operations: None, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("gateway")
    config = Config(data=folder, auth=False)
    world = World(config, SystemClock(), database=None, objects=None, engine=None)  # type: ignore[arg-type]
    made = Gateway(world, Keys(config.keys_file), folder)
    yield made
    made.close()


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD", "PATCH", "OPTIONS", "BREW"]),
    path=st.binary(max_size=30).map(lambda text: b"/" + text.replace(b"?", b"")),
    query_string=st.binary(max_size=30),
    service=st.sampled_from(
        ["s3", "sagemaker", "logs", "sts", "monitoring", "tagging", "nothing", "../x", "é", "lambda"]
    ),
    headers=st.dictionaries(
        st.sampled_from(
            ["x-amz-target", "content-type", "content-length", "x-amz-content-sha256", "range", "x-amz-trailer"]
        ),
        st.text(alphabet=st.characters(max_codepoint=255), max_size=20),
        max_size=4,
    ),
    body=st.binary(max_size=30),
)
@example(
    method="GET",
    path=b"/",
    query_string=b"",
    service="sagemaker",
    headers={"x-amz-target": "", "content-length": "²"},  # a digit to str.isdigit, but not to int
    body=b"",
)
def test_the_whole_gateway_answers_cleanly_whatever_comes(
    gateway: Gateway, method: str, path: bytes, query_string: bytes, service: str, headers: dict[str, str], body: bytes
) -> None:
    credential = (
        f"AWS4-HMAC-SHA256 Credential=k/20260101/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=0"
    )
    pairs = {"host": "x", "authorization": credential, **headers}
    scope = {
        "type": "http",
        "method": method,
        "raw_path": path,
        "query_string": query_string,
        "scheme": "http",
        "headers": [(name.encode(), value.encode("latin-1", "replace")) for name, value in pairs.items()],
    }
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(gateway(scope, receive, send))
    assert sent[0]["type"] == "http.response.start"
    assert sent[0]["status"] != 500, sent
    assert {name for name, _ in sent[0]["headers"]} >= {b"x-amzn-requestid"}
