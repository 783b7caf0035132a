from __future__ import annotations

from typing import Any

import pytest

from sagesmith.core.clock import FrozenClock
from sagesmith.core.operation import ApiError, Context
from sagesmith.services import logs  # noqa: F401  registers the operations

GROUP, STREAM = "/aws/sagemaker/TrainingJobs", "job/algo-1-1"


def call(ctx: Context, operation: str, **request: Any) -> dict[str, Any]:
    return ctx.call(operation, request, service="logs")


@pytest.fixture
def stream(ctx: Context) -> Context:
    call(ctx, "CreateLogGroup", logGroupName=GROUP)
    call(ctx, "CreateLogStream", logGroupName=GROUP, logStreamName=STREAM)
    return ctx


def put(ctx: Context, *messages: str, at: int = 0, stream: str = STREAM, **more: Any) -> dict[str, Any]:
    time = at or int(ctx.now * 1000)
    events = [{"timestamp": time, "message": message} for message in messages]
    return call(ctx, "PutLogEvents", logGroupName=GROUP, logStreamName=stream, logEvents=events, **more)


def get(ctx: Context, **more: Any) -> dict[str, Any]:
    return call(ctx, "GetLogEvents", logGroupName=GROUP, logStreamName=STREAM, **more)


def messages(page: dict[str, Any]) -> list[str]:
    return [event["message"] for event in page["events"]]


def test_a_reader_that_goes_on_with_the_forward_token_sees_every_event_once(stream: Context) -> None:
    put(stream, "a", "b")
    first = get(stream, startFromHead=True)
    assert messages(first) == ["a", "b"]
    empty = get(stream, startFromHead=True, nextToken=first["nextForwardToken"])
    assert empty["events"] == []
    assert empty["nextForwardToken"] == first["nextForwardToken"]
    put(stream, "c")
    assert messages(get(stream, nextToken=empty["nextForwardToken"])) == ["c"]


def test_without_a_token_the_newest_events_come_first_page_and_backward_tokens_lead_to_the_older(
    stream: Context,
) -> None:
    put(stream, *"abcde")
    page = get(stream, limit=2)
    assert messages(page) == ["d", "e"]
    page = get(stream, limit=2, nextToken=page["nextBackwardToken"])
    assert messages(page) == ["b", "c"]
    page = get(stream, limit=2, nextToken=page["nextBackwardToken"])
    assert messages(page) == ["a"]
    assert messages(get(stream, nextToken=page["nextForwardToken"])) == ["b", "c", "d", "e"]


def test_start_is_inclusive_end_is_not_and_equal_times_keep_their_order(stream: Context) -> None:
    now = int(stream.now * 1000)
    put(stream, "before", at=now - 1)
    put(stream, "x", "y", "z", at=now)
    put(stream, "after", at=now + 1)
    assert messages(get(stream, startTime=now, endTime=now + 1, startFromHead=True)) == ["x", "y", "z"]


def test_a_batch_sent_again_is_stored_once(stream: Context) -> None:
    assert put(stream, "a", "b", sequenceToken="0")["nextSequenceToken"] == "2"
    with pytest.raises(ApiError) as again:
        put(stream, "a", "b", sequenceToken="0")
    assert again.value.code == "DataAlreadyAcceptedException"
    assert again.value.fields == {"expectedSequenceToken": "2"}
    put(stream, "b", "c", sequenceToken="1")
    assert messages(get(stream, startFromHead=True)) == ["a", "b", "c"]
    with pytest.raises(ApiError, match="InvalidSequenceTokenException"):
        put(stream, "z", sequenceToken="9")
    with pytest.raises(ApiError, match="InvalidSequenceTokenException"):
        put(stream, "z", sequenceToken="nine")


def test_missing_groups_and_streams_are_resource_not_found(ctx: Context) -> None:
    with pytest.raises(ApiError, match="ResourceNotFoundException: The specified log group does not exist"):
        get(ctx)
    call(ctx, "CreateLogGroup", logGroupName=GROUP)
    with pytest.raises(ApiError, match="ResourceNotFoundException: The specified log stream does not exist"):
        put(ctx, "a")
    with pytest.raises(ApiError, match="ResourceNotFoundException"):
        call(ctx, "DescribeLogStreams", logGroupName="other")
    with pytest.raises(ApiError, match="ResourceAlreadyExistsException"):
        call(ctx, "CreateLogGroup", logGroupName=GROUP)


def test_streams_are_listed_by_prefix_and_a_token_is_given_only_when_more_exist(stream: Context) -> None:
    for name in ("job/algo-2-1", "job-2/algo-1-1", "job/algo-3-1"):
        call(stream, "CreateLogStream", logGroupName=GROUP, logStreamName=name)
    request: dict[str, Any] = {"logGroupName": GROUP, "logStreamNamePrefix": "job/", "orderBy": "LogStreamName"}
    page = call(stream, "DescribeLogStreams", **request, limit=3)
    assert [one["logStreamName"] for one in page["logStreams"]] == [STREAM, "job/algo-2-1", "job/algo-3-1"]
    assert "nextToken" not in page
    page = call(stream, "DescribeLogStreams", **request, limit=2)
    page = call(stream, "DescribeLogStreams", **request, limit=2, nextToken=page["nextToken"])
    assert [one["logStreamName"] for one in page["logStreams"]] == ["job/algo-3-1"]


def test_streams_by_last_event(stream: Context) -> None:
    call(stream, "CreateLogStream", logGroupName=GROUP, logStreamName="later")
    now = int(stream.now * 1000)
    put(stream, "a", at=now)
    put(stream, "b", at=now + 5, stream="later")
    page = call(stream, "DescribeLogStreams", logGroupName=GROUP, orderBy="LastEventTime", descending=True)
    assert [one["logStreamName"] for one in page["logStreams"]] == ["later", STREAM]
    assert page["logStreams"][0]["lastEventTimestamp"] == now + 5


def test_batches_out_of_order_too_long_or_too_large_are_refused(stream: Context) -> None:
    now = int(stream.now * 1000)
    late = [{"timestamp": now, "message": "b"}, {"timestamp": now - 1, "message": "a"}]
    with pytest.raises(ApiError, match="chronological"):
        call(stream, "PutLogEvents", logGroupName=GROUP, logStreamName=STREAM, logEvents=late)
    wide = [{"timestamp": now - 86_400_001, "message": "a"}, {"timestamp": now, "message": "b"}]
    with pytest.raises(ApiError, match="24 hours"):
        call(stream, "PutLogEvents", logGroupName=GROUP, logStreamName=STREAM, logEvents=wide)
    with pytest.raises(ApiError, match="Upload too large"):
        put(stream, *["x" * 200_000] * 6)
    assert get(stream)["events"] == []


def test_events_far_from_now_are_rejected_and_said(stream: Context, clock: FrozenClock) -> None:
    answer = put(stream, "old", at=int((clock.now() - 15 * 86_400) * 1000))
    assert answer["rejectedLogEventsInfo"] == {"tooOldLogEventEndIndex": 1}
    answer = put(stream, "new", at=int((clock.now() + 3 * 3_600) * 1000))
    assert answer["rejectedLogEventsInfo"] == {"tooNewLogEventStartIndex": 0}
    assert get(stream)["events"] == []


@pytest.mark.parametrize("token", ["f/1", "x/" + "0" * 56, "f/" + "9" * 56, "", "f/" + "-" * 56])
def test_tokens_that_were_not_given_are_refused(stream: Context, token: str) -> None:
    with pytest.raises(ApiError):
        get(stream, nextToken=token or "-")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", ["error one", "warn two", "error three"]),
        ("error", ["error one", "error three"]),
        ("error -three", ["error one"]),
        ("?one ?two", ["error one", "warn two"]),
        ('"r o"', ["error one"]),
    ],
)
def test_filters_of_terms(stream: Context, pattern: str, expected: list[str]) -> None:
    put(stream, "error one", "warn two", "error three")
    page = call(stream, "FilterLogEvents", logGroupName=GROUP, logStreamNamePrefix="job/", filterPattern=pattern)
    assert messages(page) == expected


def test_filters_that_we_lack_are_refused_by_name(stream: Context) -> None:
    with pytest.raises(ApiError, match="JSON"):
        call(stream, "FilterLogEvents", logGroupName=GROUP, filterPattern="{ $.level = 3 }")


def test_deleting_a_group_takes_its_streams_along(stream: Context) -> None:
    put(stream, "a")
    call(stream, "DeleteLogGroup", logGroupName=GROUP)
    call(stream, "CreateLogGroup", logGroupName=GROUP)
    call(stream, "CreateLogStream", logGroupName=GROUP, logStreamName=STREAM)
    assert get(stream)["events"] == []
