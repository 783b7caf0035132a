"""CloudWatch Logs: where jobs and endpoints write, and where clients read along.

A stream's events are numbered as they arrive, and the tokens of GetLogEvents are positions in that order
(`f/000…12`: from event 12 on), so a reader that asks again with the last token gets exactly what is new.
PutLogEvents honours `sequenceToken` (the count of events before the batch) as AWS once did: an agent that lost the
answer may send the batch again and nothing is stored twice.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sagesmith.core.names import arn
from sagesmith.core.operation import ApiError, Context, Service
from sagesmith.store.logs import Event, LogStore, NoSuchGroup, NoSuchStream, OutOfSequence

logs = Service("logs")

MAX_BATCH_BYTES = 1_048_576  # of one PutLogEvents, each event counting 26 bytes more than its message
EVENT_OVERHEAD = 26
MAX_EVENTS = 10_000  # of one answer, and of one batch
DAY = 86_400_000  # milliseconds
_TOKEN_DIGITS = 56

Request = dict[str, Any]


@logs.operation
def create_log_group(request: Request, ctx: Context) -> None:
    for member in ("kmsKeyId", "tags", "deletionProtectionEnabled"):
        if request.get(member):
            raise _invalid(f"{member} is not supported for log groups by sagesmith")
    if request.get("logGroupClass", "STANDARD") != "STANDARD":
        raise _invalid(f"logGroupClass {request['logGroupClass']!r} is not supported: only STANDARD is")
    if not _store(ctx).create_group(request["logGroupName"], _now(ctx)):
        raise ApiError("ResourceAlreadyExistsException", "The specified log group already exists")


@logs.operation
def create_log_stream(request: Request, ctx: Context) -> None:
    with _found():
        if not _store(ctx).create_stream(request["logGroupName"], request["logStreamName"], _now(ctx)):
            raise ApiError("ResourceAlreadyExistsException", "The specified log stream already exists")


@logs.operation
def delete_log_group(request: Request, ctx: Context) -> None:
    with _found():
        _store(ctx).delete_group(request["logGroupName"])


@logs.operation
def delete_log_stream(request: Request, ctx: Context) -> None:
    with _found():
        _store(ctx).delete_stream(request["logGroupName"], request["logStreamName"])


@logs.operation
def describe_log_groups(request: Request, ctx: Context) -> dict[str, Any]:
    prefix, pattern = request.get("logGroupNamePrefix", ""), request.get("logGroupNamePattern", "")
    if prefix and pattern:
        raise _invalid("LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.")
    limit = request.get("limit", 50)
    found = _store(ctx).groups(prefix, pattern, request.get("nextToken", ""), limit + 1)
    answer: dict[str, Any] = {"logGroups": [_group(ctx, *row) for row in found[:limit]]}
    if len(found) > limit:
        answer["nextToken"] = found[limit - 1][0]
    return answer


@logs.operation
def describe_log_streams(request: Request, ctx: Context) -> dict[str, Any]:
    by_time = request.get("orderBy") == "LastEventTime"
    prefix = request.get("logStreamNamePrefix", "")
    if by_time and prefix:
        raise _invalid("Cannot order by LastEventTime with a logStreamNamePrefix.")
    limit, offset = request.get("limit", 50), _offset(request.get("nextToken"))
    group = _group_name(request)
    with _found():
        found = _store(ctx).streams(
            group, prefix, by_time=by_time, descending=request.get("descending", False), offset=offset, limit=limit + 1
        )
    answer: dict[str, Any] = {"logStreams": [_stream(ctx, group, row) for row in found[:limit]]}
    if len(found) > limit:
        answer["nextToken"] = str(offset + limit)
    return answer


@logs.operation
def put_log_events(request: Request, ctx: Context) -> dict[str, Any]:
    now = _now(ctx)
    events = [(event["timestamp"], event["message"]) for event in request["logEvents"]]
    _check_batch(events)
    # AWS drops what is older than 14 days or more than two hours ahead, and says so; the rest is stored.
    old = sum(time < now - 14 * DAY for time, _ in events)
    new = sum(time > now + 2 * 3_600_000 for time, _ in events)
    kept = events[old : len(events) - new]
    with _found():
        try:
            count = _store(ctx).put(
                request["logGroupName"], request["logStreamName"], kept, now, _sequence(request.get("sequenceToken"))
            )
        except OutOfSequence as error:
            raise _out_of_sequence(error) from None
    answer: dict[str, Any] = {"nextSequenceToken": str(count)}
    if old or new:
        rejected = {"tooOldLogEventEndIndex": old} if old else {}
        answer["rejectedLogEventsInfo"] = rejected | ({"tooNewLogEventStartIndex": len(events) - new} if new else {})
    return answer


@logs.operation
def get_log_events(request: Request, ctx: Context) -> dict[str, Any]:
    token = request.get("nextToken")
    direction, position = _read_token(token) if token else ("", 0)
    newest = direction == "b" or (not direction and not request.get("startFromHead", False))
    with _found():
        events, count = _store(ctx).read(
            _group_name(request),
            request["logStreamName"],
            start=request.get("startTime"),
            end=request.get("endTime"),
            at=position if direction == "f" else None,
            before=position if direction == "b" else None,
            newest=newest,
            limit=request.get("limit", MAX_EVENTS),
        )
    # An empty page leaves both tokens where they were: that is how a reader knows that it has reached the end.
    here = position if direction else count if newest else 0
    forward = events[-1].position + 1 if events else here
    backward = events[0].position if events else here
    return {
        "events": [{"timestamp": e.timestamp, "message": e.message, "ingestionTime": e.ingestion} for e in events],
        "nextForwardToken": f"f/{forward:0{_TOKEN_DIGITS}d}",
        "nextBackwardToken": f"b/{backward:0{_TOKEN_DIGITS}d}",
    }


@logs.operation
def filter_log_events(request: Request, ctx: Context) -> dict[str, Any]:
    matches = _filter(request.get("filterPattern", ""))
    group, store = _group_name(request), _store(ctx)
    names, prefix = request.get("logStreamNames", []), request.get("logStreamNamePrefix", "")
    if names and prefix:
        raise _invalid("logStreamNames and logStreamNamePrefix are mutually exclusive parameters.")
    limit, offset = request.get("limit", MAX_EVENTS), _offset(request.get("nextToken"))
    with _found():
        if prefix:
            names = [row.name for row in store.streams(group, prefix, limit=10_000)]
        searched = not prefix or bool(names)
        window = {"start": request.get("startTime"), "end": request.get("endTime")}
        found = store.search(group, names, **window, offset=offset, limit=limit + 1) if searched else []
    events = [
        {
            "logStreamName": event.stream,
            "timestamp": event.timestamp,
            "message": event.message,
            "ingestionTime": event.ingestion,
            "eventId": f"{event.timestamp}{event.position:020d}",
        }
        for event in found[:limit]
        if matches(event)
    ]
    answer: dict[str, Any] = {"events": events, "searchedLogStreams": []}
    if len(found) > limit:
        answer["nextToken"] = str(offset + limit)
    return answer


def _store(ctx: Context) -> LogStore:
    return LogStore(ctx.world.database, ctx.account, ctx.region)


def _now(ctx: Context) -> int:
    return int(ctx.now * 1000)


def _invalid(message: str) -> ApiError:
    return ApiError("InvalidParameterException", message)


@contextmanager
def _found() -> Iterator[None]:
    try:
        yield
    except NoSuchGroup:
        raise ApiError("ResourceNotFoundException", "The specified log group does not exist.") from None
    except NoSuchStream:
        raise ApiError("ResourceNotFoundException", "The specified log stream does not exist.") from None


def _group_name(request: Mapping[str, Any]) -> str:
    """The group by name or by identifier (an ARN ends in `:log-group:NAME` or `:log-group:NAME:*`)."""
    name, identifier = request.get("logGroupName"), request.get("logGroupIdentifier")
    if (name is None) == (identifier is None):
        raise _invalid("Exactly one of logGroupName and logGroupIdentifier must be given.")
    return str(name or re.sub(r"^arn:.*:log-group:|:\*$", "", str(identifier)))


def _check_batch(events: Sequence[tuple[int, str]]) -> None:
    times = [time for time, _ in events]
    if times != sorted(times):
        raise _invalid("Log events in a single PutLogEvents request must be in chronological order.")
    if times and times[-1] - times[0] > DAY:
        raise _invalid("The batch of log events in a single PutLogEvents request cannot span more than 24 hours.")
    size = sum(len(message.encode()) + EVENT_OVERHEAD for _, message in events)
    if size > MAX_BATCH_BYTES:
        raise _invalid(f"Upload too large: {size} bytes exceeds limit of {MAX_BATCH_BYTES}")


def _sequence(token: str | None) -> int | None:
    if token is None:
        return None
    if not re.fullmatch(r"[0-9]{1,18}", token):
        raise ApiError("InvalidSequenceTokenException", f"The given sequenceToken {token!r} is invalid.")
    return int(token)


def _out_of_sequence(error: OutOfSequence) -> ApiError:
    fields = {"expectedSequenceToken": str(error.expected)}
    if error.accepted:
        message = "The given batch of log events has already been accepted."
        return ApiError("DataAlreadyAcceptedException", message, fields=fields)
    message = f"The given sequenceToken is invalid. The next expected sequenceToken is: {error.expected}"
    return ApiError("InvalidSequenceTokenException", message, fields=fields)


def _read_token(token: str) -> tuple[str, int]:
    match = re.fullmatch(rf"([fb])/([0-9]{{{_TOKEN_DIGITS}}})", token)
    if not match or int(match[2]) >= 2**62:
        raise _invalid("The specified nextToken is invalid.")
    return match[1], int(match[2])


def _offset(token: str | None) -> int:
    if token is None:
        return 0
    if not re.fullmatch(r"[0-9]{1,15}", token):
        raise _invalid("The specified nextToken is invalid.")
    return int(token)


def _group(ctx: Context, name: str, created_at: int, size: int) -> dict[str, Any]:
    resource = _arn(ctx, name)
    return {
        "logGroupName": name,
        "creationTime": created_at,
        "metricFilterCount": 0,
        "arn": f"{resource}:*",
        "logGroupArn": resource,
        "storedBytes": size,
        "logGroupClass": "STANDARD",
    }


def _stream(ctx: Context, group: str, row: Any) -> dict[str, Any]:
    times = {
        "firstEventTimestamp": row.first_event,
        "lastEventTimestamp": row.last_event,
        "lastIngestionTime": row.last_ingestion,
    }
    return {
        "logStreamName": row.name,
        "creationTime": row.created_at,
        "uploadSequenceToken": str(row.events),
        "arn": f"{_arn(ctx, group)}:log-stream:{row.name}",
        "storedBytes": 0,  # AWS reports 0 for single streams since 2019
        **{name: time for name, time in times.items() if time is not None},
    }


def _arn(ctx: Context, group: str) -> str:
    # Log ARNs separate the kind with a colon where SageMaker's have a slash.
    return arn(ctx.region, ctx.account, "log-group", group, service="logs").replace("log-group/", "log-group:", 1)


def _filter(pattern: str) -> Callable[[Event], bool]:
    """A filter of unstructured terms: all of `a "b c"`, any of `?a ?b`, none of `-a`; case counts."""
    if pattern.strip().startswith(("{", "[", "%")):
        raise _invalid(f"filterPattern {pattern!r}: only patterns of terms are supported, not JSON, columns or regex")
    try:
        terms = shlex.split(pattern)
    except ValueError:
        raise _invalid(f"filterPattern {pattern!r} has an unbalanced quotation mark") from None
    excluded = [term[1:] for term in terms if term.startswith("-") and len(term) > 1]
    optional = [term[1:] for term in terms if term.startswith("?") and len(term) > 1]
    needed = [term for term in terms if not term.startswith(("-", "?"))]

    def matches(event: Event) -> bool:
        text = event.message
        if any(term in text for term in excluded) or not all(term in text for term in needed):
            return False
        return not optional or any(term in text for term in optional)

    return matches
