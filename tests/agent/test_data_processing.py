"""DataProcessing: the JSONPath subset, joins, and what is said of records that do not fit."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagesmith.agent.data_processing import DataProcessing, Filter, FilterError

RECORD = {"id": 7, "features": [1, 2, 3], "deep": [{"x": 1}, {"x": 2}], "a-b": {"c d": 5}}


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("$", RECORD),
        ("$.features", [1, 2, 3]),
        ("$.a-b['c d']", 5),
        ('$["id"]', 7),
        ("$['id','features']", {"id": 7, "features": [1, 2, 3]}),
        ("$.features[0]", 1),
        ("$.features[-1]", 3),
        ("$.features[0,-1]", [1, 3]),
        ("$.features[1:]", [2, 3]),
        ("$.features[:-1]", [1, 2]),
        ("$.features[5:9]", []),
        ("$.deep[*].x", [1, 2]),
        ("$.deep[0:1].x", [1]),
        ("$.a-b.*", [5]),
    ],
)
def test_filters_keep_what_they_name(text: str, kept: Any) -> None:
    assert Filter(text).apply(RECORD) == kept


@pytest.mark.parametrize(
    "text", ["", "features", "$features", "$.", "$[", "$[a]", "$['a',1]", "$[1,'a']", "$[]", "$..a"]
)
def test_filters_outside_the_subset_are_refused(text: str) -> None:
    with pytest.raises(FilterError, match="filter"):
        Filter(text)


@pytest.mark.parametrize("text", ["$.absent", "$.features[3]", "$.features[0,9]", "$[0]", "$.id[1:]", "$['id','no']"])
def test_records_that_do_not_fit_are_an_error(text: str) -> None:
    with pytest.raises(FilterError, match="does not fit"):
        Filter(text).apply(RECORD)


@given(st.text(alphabet="$.*[]'\",:-019ab ", max_size=30))
def test_any_text_is_a_filter_or_a_clean_error(text: str) -> None:
    try:
        parsed = Filter(text)
        parsed.apply(RECORD)
    except FilterError:
        pass


def processing(content_type: str, accept: str = "", **members: str) -> DataProcessing:
    made = DataProcessing.of(members, content_type, accept)
    assert made is not None
    return made


def test_nothing_to_do_is_none() -> None:
    assert DataProcessing.of({"InputFilter": "$", "JoinSource": "None"}, "text/libsvm", "") is None


def test_csv_columns_are_chosen_joined_and_chosen_again() -> None:
    job = processing("text/csv", "text/csv", InputFilter="$[1:]", JoinSource="Input", OutputFilter="$[0,-1]")
    assert job.before(b'7,"a,b",3') == b'"a,b",3'
    assert job.after(b'7,"a,b",3', b"0.5\n") == b"7,0.5"


def test_json_answers_become_a_member_of_the_record() -> None:
    job = processing("application/json", JoinSource="Input", InputFilter="$.features")
    record = b'{"id": 1, "features": [1, 2]}'
    assert job.before(record) == b"[1,2]"
    assert job.after(record, b'{"p": 0.5}') == b'{"id":1,"features":[1,2],"SageMakerOutput":{"p":0.5}}'
    chosen = processing("application/jsonlines", JoinSource="Input", OutputFilter="$['id','SageMakerOutput']")
    assert chosen.after(record, b"0.5") == b'{"id":1,"SageMakerOutput":0.5}'


def test_a_record_that_is_no_object_is_wrapped() -> None:
    job = processing("application/json", JoinSource="Input")
    assert job.after(b"[1,2]", b"3") == b'{"SageMakerInput":[1,2],"SageMakerOutput":3}'


@pytest.mark.parametrize(
    ("content_type", "record", "answer", "words"),
    [
        ("application/json", b'{"SageMakerOutput":1}', b"3", "reserved"),
        ("application/json", b"{", b"3", "record"),
        ("application/json", b"{}", b"nonsense", "answer"),
        ("application/json", b"[" * 100_000, b"3", "record"),
        ("text/csv", b"\xff", b"3", "record"),
    ],
)
def test_records_and_answers_that_cannot_be_read_are_an_error(
    content_type: str, record: bytes, answer: bytes, words: str
) -> None:
    with pytest.raises(FilterError, match=words):
        processing(content_type, JoinSource="Input").after(record, answer)


@pytest.mark.parametrize(
    ("content_type", "accept", "members"),
    [
        ("text/libsvm", "", {"InputFilter": "$[1:]"}),
        ("text/csv", "application/json", {"JoinSource": "Input"}),
        ("text/csv", "text/csv", {"InputFilter": "$.name"}),
        ("text/csv", "text/csv", {"OutputFilter": "$['a']"}),
    ],
)
def test_jobs_whose_formats_do_not_agree_are_refused(content_type: str, accept: str, members: dict[str, str]) -> None:
    with pytest.raises(FilterError):
        DataProcessing.of(members, content_type, accept)
