from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagesmith.core.machine import Document, Move
from sagesmith.core.operation import ApiError, Context
from sagesmith.store import listing
from sagesmith.store.resources import Documents


def names(ctx: Context, jobs: Documents, **request: Any) -> list[str]:
    answer = jobs.page(ctx, request, key="Jobs", summary=lambda document: {"Name": document.name})
    return [item["Name"] for item in answer["Jobs"]]


@pytest.fixture
def many(ctx: Context, jobs: Documents, advance: Callable[[float], None]) -> list[Document]:
    made = []
    for number in range(25):
        status = "Failed" if number % 5 == 0 else "InProgress"
        made.append(jobs.create(ctx, f"job-{number:02}", {}, status=status, parent="p" if number < 3 else ""))
        advance(1 if number % 2 else 0)  # pairs share a moment
    return made


def test_the_newest_ten_come_first_unless_asked_otherwise(ctx: Context, jobs: Documents, many: list[Document]) -> None:
    assert names(ctx, jobs) == [f"job-{number:02}" for number in range(24, 14, -1)]
    assert names(ctx, jobs, SortBy="Name", SortOrder="Ascending", MaxResults=2) == ["job-00", "job-01"]
    assert names(ctx, jobs, SortBy="Status", SortOrder="Ascending", MaxResults=6)[4:] == ["job-20", "job-01"]


@pytest.mark.parametrize("size", [1, 4, 25, 100])
@pytest.mark.parametrize("sort", ["Name", "CreationTime", "Status"])
@pytest.mark.parametrize("order", ["Ascending", "Descending"])
def test_pages_together_are_the_whole_list(
    ctx: Context, jobs: Documents, many: list[Document], size: int, sort: str, order: str
) -> None:
    request: dict[str, Any] = {"SortBy": sort, "SortOrder": order, "MaxResults": size}
    seen: list[str] = []
    while True:
        answer = jobs.page(ctx, request, key="Jobs", summary=lambda document: {"Name": document.name})
        seen += [item["Name"] for item in answer["Jobs"]]
        if "NextToken" not in answer:
            break
        request["NextToken"] = answer["NextToken"]
    assert sorted(seen) == [document.name for document in many]
    assert seen == names(ctx, jobs, SortBy=sort, SortOrder=order, MaxResults=100)


def test_pages_neither_repeat_nor_skip_when_the_list_grows_and_shrinks(
    ctx: Context, jobs: Documents, many: list[Document]
) -> None:
    first = jobs.page(ctx, {"MaxResults": 5}, key="Jobs", summary=lambda document: {"Name": document.name})
    jobs.create(ctx, "newest", {})
    jobs.delete(ctx, many[20])
    assert names(ctx, jobs, MaxResults=2, NextToken=first["NextToken"]) == ["job-19", "job-18"]


def test_filters(ctx: Context, jobs: Documents, many: list[Document]) -> None:
    assert names(ctx, jobs, StatusEquals="Failed") == ["job-20", "job-15", "job-10", "job-05", "job-00"]
    assert names(ctx, jobs, NameContains="B-1", MaxResults=3) == ["job-19", "job-18", "job-17"]
    assert names(ctx, jobs, NameContains="_") == names(ctx, jobs, NameContains="%") == []
    after = datetime.fromtimestamp(many[21].created_at, UTC)
    assert names(ctx, jobs, CreationTimeAfter=after) == ["job-24", "job-23", "job-22"]
    assert names(ctx, jobs, CreationTimeBefore=many[2].created_at) == ["job-01", "job-00"]
    answer = jobs.page(ctx, {}, key="Jobs", summary=vars, where={"parent": "p", "status": ["Failed", "Stopped"]})
    assert [item["name"] for item in answer["Jobs"]] == ["job-00"]


def test_last_modified_is_what_the_filter_looks_at(
    ctx: Context, jobs: Documents, many: list[Document], advance: Callable[[float], None]
) -> None:
    advance(100)
    jobs.save(ctx, many[3], Move(body={"x": 1}))
    assert names(ctx, jobs, LastModifiedTimeAfter=ctx.now - 1) == ["job-03"]


def test_other_accounts_and_regions_see_nothing(ctx: Context, jobs: Documents, many: list[Document]) -> None:
    assert names(replace(ctx, region="eu-west-1"), jobs) == names(replace(ctx, account="0" * 12), jobs) == []


def test_a_token_serves_only_the_question_it_was_given_for(ctx: Context, jobs: Documents, many: list[Document]) -> None:
    token = jobs.page(ctx, {"StatusEquals": "Failed", "MaxResults": 1}, key="Jobs", summary=vars)["NextToken"]
    assert names(ctx, jobs, StatusEquals="Failed", NextToken=token) == ["job-15", "job-10", "job-05", "job-00"]
    for request in ({}, {"StatusEquals": "InProgress"}, {"StatusEquals": "Failed", "SortBy": "Name"}):
        with pytest.raises(ApiError, match="NextToken"):
            names(ctx, jobs, NextToken=token, **request)
    with pytest.raises(ApiError, match="NextToken"):
        names(replace(ctx, region="eu-west-1"), jobs, StatusEquals="Failed", NextToken=token)


@given(st.text())
def test_any_other_text_is_no_token(text: str) -> None:
    with pytest.raises(ApiError, match="NextToken"):
        listing.read_token(text, "question", b"secret")


@given(st.integers(0), st.characters())
def test_an_altered_token_is_refused(position: int, character: str) -> None:
    token = listing.write_token([1750000000.25, 17], "question", b"secret")
    place = position % len(token)
    altered = token[:place] + character + token[place + 1 :]
    if altered == token:
        assert listing.read_token(altered, "question", b"secret") == [1750000000.25, 17]
        return
    with pytest.raises(ApiError, match="NextToken"):
        listing.read_token(altered, "question", b"secret")


def test_an_unknown_order_names_those_there_are(ctx: Context, jobs: Documents) -> None:
    with pytest.raises(ApiError, match="Name, CreationTime, LastModifiedTime, Status"):
        names(ctx, jobs, SortBy="Colour")
