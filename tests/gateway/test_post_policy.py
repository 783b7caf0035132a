"""Policies: what they allow, and that a broken one is told so."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagesmith.core.operation import ApiError
from sagesmith.gateway.post_policy import Sizes, check_policy

END = "2026-12-01T12:00:00Z"
NOW = datetime(2026, 12, 1, 12, tzinfo=UTC).timestamp()
OWN = [{"bucket": "b"}, {"key": "k"}]


def encoded(policy: object) -> str:
    text = policy if isinstance(policy, str) else json.dumps(policy)
    return base64.b64encode(text.encode()).decode()


def check(conditions: Any, now: float = NOW, expiration: Any = END, **fields: str) -> Sizes:
    named = {"key": "k", **{name.replace("_", "-"): value for name, value in fields.items()}}
    return check_policy(encoded({"expiration": expiration, "conditions": conditions}), named, "b", now)


def refused(*arguments: Any, **named: Any) -> tuple[str, str]:
    with pytest.raises(ApiError) as raised:
        check(*arguments, **named)
    return raised.value.code, raised.value.message


def test_conditions_that_hold() -> None:
    assert check(OWN) == Sizes()
    assert check([["EQ", "$KEY", "k"], ["starts-with", "$bucket", ""]]) == Sizes()
    ranges = [["content-length-range", 1, 100], ["Content-Length-Range", "5", "200"]]
    assert check([*OWN, *ranges]) == Sizes(5, 100)
    types = ["starts-with", "$Content-Type", "image/"]
    check([*OWN, types], content_type="image/png, image/jpeg")
    assert refused([*OWN, types], content_type="image/png,text/html")[0] == "AccessDenied"
    check(OWN, x_ignore_this="1", policy="p", signature="s", awsaccesskeyid="a", x_amz_signature="s")


def test_every_field_must_be_covered() -> None:
    assert refused([{"key": "k"}])[1].endswith("Extra input fields: bucket")
    assert refused([{"bucket": "b"}])[1].endswith("Extra input fields: key")
    assert refused(OWN, x_amz_date="d", submit="1")[1].endswith("Extra input fields: submit, x-amz-date")


def test_a_condition_on_a_field_that_is_not_there_fails() -> None:
    assert refused([*OWN, ["starts-with", "$content-type", ""]])[0] == "AccessDenied"


def test_when_a_policy_ends() -> None:
    check(OWN, now=NOW)
    check(OWN, now=NOW + 0.5, expiration="2026-12-01T12:00:00.600Z")
    assert refused(OWN, now=NOW + 0.1) == ("AccessDenied", "Invalid according to Policy: Policy expired.")


@pytest.mark.parametrize(
    "expiration",
    [None, 5, "", "2026-12-01", "2026-12-01T12:00:00", "2026-13-01T12:00:00Z", "\uff12026-12-01T12:00:00Z"],
)
def test_expirations_that_are_none(expiration: Any) -> None:
    assert refused(OWN, expiration=expiration)[0] == "InvalidPolicyDocument"


@pytest.mark.parametrize(
    "condition",
    [
        5,
        [],
        {},
        "x",
        ["eq", "$key"],
        ["eq", "key", "k"],
        ["eq", "$", "k"],
        ["eq", 1, "k"],
        ["ends-with", "$key", "k"],
        [None, "$key", "k"],
        {"key": 5},
        {"key": ["k"]},
        ["content-length-range", -1, 5],
        ["content-length-range", "a", 5],
        ["content-length-range", 0, 1e9],
        ["content-length-range", True, 5],
        ["content-length-range", 0, 10**30],
    ],
)
def test_conditions_that_are_none(condition: Any) -> None:
    assert refused([*OWN, condition])[0] == "InvalidPolicyDocument"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "%",
        "AAA",
        "é",
        *map(encoded, ["", "[]", "{", "null", "[" * 10_000, {"expiration": END}, {"conditions": OWN}]),
        encoded({"expiration": END, "conditions": OWN, "more": 1}),
        base64.b64encode(b"\xff").decode(),
    ],
)
def test_documents_that_are_none(text: str) -> None:
    with pytest.raises(ApiError) as raised:
        check_policy(text, {"key": "k"}, "b", NOW)
    assert (raised.value.code, raised.value.status) == ("InvalidPolicyDocument", 400)


def test_escapes_that_json_does_not_know() -> None:
    conditions = r'[{"bucket": "b"}, ["eq", "$key", "\$1\\$\v"]]'
    text = f'{{"expiration": "{END}", "conditions": {conditions}}}'
    check_policy(encoded(text), {"key": "$1\\$\v"}, "b", NOW)


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["eq", "$key", "k", "bucket", "b", ""]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["key", "bucket", "x"]), inner),
    max_leaves=10,
)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60).map(lambda data: base64.b64encode(data).decode()) | st.text(max_size=60))
def test_any_text_is_a_policy_or_refused(text: str) -> None:
    with pytest.raises(ApiError):
        check_policy(text, {"key": "k"}, "b", NOW)


@settings(max_examples=300, deadline=None)
@given(json_values, json_values)
def test_json_of_any_shape_is_a_policy_or_refused(expiration: Any, conditions: Any) -> None:
    codes = set()
    for ends in (END, expiration):
        try:
            check(conditions, expiration=ends)
        except ApiError as error:
            codes.add(error.code)
    assert codes <= {"InvalidPolicyDocument", "AccessDenied"}
