"""JSON bodies and lines: every request form, errors with their place, nesting limited."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagesmith.formats.batch import Batch, DataError, NoData
from sagesmith.formats.content_type import ContentType
from sagesmith.formats.format import Options, format_of, read_body
from sagesmith.formats.source import Source

DENSE = {"features": [1.5, 2, None]}
DEEP = {"data": {"features": {"values": [1.5, 2, float("nan")]}}, "configuration": {}}
SPARSE = {"data": {"features": {"keys": [2, 0], "shape": [3], "values": [5, 4]}}}


def both(instances: list[Any]) -> tuple[Batch, Batch]:
    lines = "\n".join(json.dumps(one) for one in instances)
    return (
        read_body(json.dumps({"instances": instances}).encode(), "application/json"),
        read_body(lines.encode(), "application/jsonlines"),
    )


def test_dense_forms() -> None:
    for batch in both([DENSE, DEEP]):
        np.testing.assert_array_equal(batch.features, np.float32([[1.5, 2, np.nan]] * 2))
        assert batch.features.dtype == np.float32


def test_sparse_form_alone_and_beside_dense() -> None:
    for batch in both([SPARSE, {"data": {"features": {"values": [], "shape": [3]}}}]):
        assert batch.is_sparse
        np.testing.assert_array_equal(batch.features.toarray(), [[4, 0, 5], [0, 0, 0]])
    for batch in both([SPARSE, {"features": [1, 2, 3]}]):
        np.testing.assert_array_equal(batch.features.toarray(), [[4, 0, 5], [1, 2, 3]])


@pytest.mark.parametrize(
    ("instance", "message"),
    [
        ({"feature": [1]}, "not of the form"),
        ([1, 2, 3], "not of the form"),
        ({"features": []}, "no features"),
        ({"features": [1, "2", 3]}, "'2' is not a number"),
        ({"features": [1, [2], 3]}, "is not a number"),
        ({"features": [1, 2]}, "2 features, but .* has 3"),
        ({"data": {"features": {"values": [1], "shape": [3]}}}, "1 values, but shape"),
        ({"data": {"features": {"keys": [3], "shape": [3], "values": [1]}}}, "key 3 is not a column"),
        ({"data": {"features": {"keys": [1, 1], "shape": [3], "values": [1, 2]}}}, "key 1 stands twice"),
        ({"data": {"features": {"keys": [1], "shape": [3], "values": []}}}, "0 values, but keys"),
        ({"data": {"features": {"keys": [1], "values": [1]}}}, "shape None"),
        ({"data": {"features": {"keys": [True], "shape": [3], "values": [1]}}}, "key True"),
    ],
)
def test_errors_name_the_instance(instance: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"request, instance 2: .*{message}"):
        read_body(json.dumps({"instances": [DENSE, instance]}).encode(), "application/json")
    with pytest.raises(DataError, match=f"request, line 3: .*{message}"):
        read_body(f"{json.dumps(DENSE)}\n\n{json.dumps(instance)}".encode(), "application/jsonlines")


@pytest.mark.parametrize(
    "body", [b"{", b"[1]", b"null", b'{"instances": 3}', b'{"instances": [' + b"9" * 5000 + b"]}", b"\xff", b"1 2"]
)
def test_what_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(DataError):
        read_body(body, "application/json")


def test_nesting_is_limited() -> None:
    for body in (b"[" * 100_000, b'{"a":' * 100_000, b'["]]]]",' * 100_000):
        with pytest.raises(DataError, match=r"nested deeper|not JSON"):
            read_body(body, "application/json")
    text = json.dumps({"instances": [{"features": [1], "note": "[" * 500}]}).encode()
    assert len(read_body(text, "application/json")) == 1


def test_nothing_is_no_rows() -> None:
    for kind in ("application/json", "application/jsonlines"):
        with pytest.raises(NoData):
            read_body(b"", kind)
    with pytest.raises(NoData):
        read_body(b'{"instances": []}', "application/json")


def test_records() -> None:
    def records(kind: str, body: bytes) -> list[tuple[dict[str, Any], str]]:
        return list(format_of(ContentType.parse(kind)).records(Source.of_body(body), Options()))

    assert records("jsonlines", b'{"a": 1}\n\n{"b": [2]}') == [
        ({"a": 1}, "request, line 1"),
        ({"b": [2]}, "request, line 3"),
    ]
    assert records("json", b'[{"a": 1}]') == records("json", b'{"a": 1}') == [({"a": 1}, "request, record 1")]
    with pytest.raises(DataError, match="line 2: not a JSON object"):
        records("jsonlines", b'{"a": 1}\n3')


values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["features", "data", "values", "keys", "shape"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(st.lists(values, max_size=3).map(lambda v: json.dumps({"instances": v}).encode()), st.binary(max_size=60))
)
def test_any_body_gives_rows_or_a_data_error(body: bytes) -> None:
    for kind in ("application/json", "application/jsonlines"):
        try:
            batch = read_body(body, kind)
        except DataError:
            continue
        assert len(batch) >= 1


@settings(max_examples=200, deadline=None)
@given(values, values)
def test_any_features_give_rows_or_a_data_error(one: Any, two: Any) -> None:
    for instance in ({"features": one}, {"data": {"features": {"values": [1.0], "keys": one, "shape": two}}}):
        try:
            read_body(json.dumps({"instances": [instance, {"features": two}]}).encode(), "application/json")
        except DataError:
            continue
