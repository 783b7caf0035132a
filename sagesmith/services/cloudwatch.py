"""CloudWatch metrics: what jobs and endpoints measure, and what clients ask of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sagesmith.core.operation import ApiError, Context, Service
from sagesmith.store.series import Name, Point, SeriesStore, by_period, statistic

cloudwatch = Service("cloudwatch")

MAX_DATAPOINTS = 1_440  # of one GetMetricStatistics
MAX_DATA = 100_800  # points of one GetMetricData
MAX_DIMENSIONS = 30
PAGE = 500  # metrics of one ListMetrics
RECENT = 3 * 3600.0  # seconds that RecentlyActive=PT3H means
_LIMIT = 2.0**360  # CloudWatch's own bound on values

Request = dict[str, Any]


@cloudwatch.operation
def put_metric_data(request: Request, ctx: Context) -> None:
    if request.get("EntityMetricData"):
        raise _invalid("EntityMetricData is not supported by sagesmith: use MetricData")
    if request["Namespace"].startswith("AWS/") and ctx.principal and ctx.principal != ctx.world.agent_key[0]:
        raise _invalid('The value AWS/ for parameter Namespace is invalid: it must not start with "AWS/".')
    entries: list[tuple[Name, Point]] = []
    for index, datum in enumerate(request.get("MetricData", []), start=1):
        where = f"MetricData.member.{index}"
        name = Name.of(request["Namespace"], datum["MetricName"], _dimensions(datum.get("Dimensions", []), where))
        entries += [(name, point) for point in _points(datum, where, ctx.now)]
    _store(ctx).put(entries)


@cloudwatch.operation
def get_metric_statistics(request: Request, ctx: Context) -> dict[str, Any]:
    statistics, extended = request.get("Statistics", []), request.get("ExtendedStatistics", [])
    if not statistics and not extended:
        raise ApiError("MissingParameter", "At least one of Statistics and ExtendedStatistics must be specified.")
    start, end, period = _window(request["StartTime"], request["EndTime"], request["Period"])
    if (end - start) / period > MAX_DATAPOINTS:
        raise _combination(
            f"You have requested up to {math.ceil((end - start) / period)} datapoints, which exceeds the limit of "
            f"{MAX_DATAPOINTS}. You may reduce the datapoints requested by increasing Period, or decreasing the time "
            "range."
        )
    name = Name.of(
        request["Namespace"], request["MetricName"], _dimensions(request.get("Dimensions", []), "Dimensions")
    )
    found = _store(ctx).read(name, start, end, request.get("Unit"))
    answer = []
    for time, bucket in by_period(found, period).items():
        datapoint: dict[str, Any] = {"Timestamp": datetime.fromtimestamp(time, UTC), "Unit": bucket[0].unit}
        datapoint |= {one: _statistic(one, bucket) for one in statistics}
        percentiles = {one: value for one in extended if (value := _statistic(one, bucket)) is not None}
        answer.append(datapoint | ({"ExtendedStatistics": percentiles} if extended else {}))
    return {"Label": request["MetricName"], "Datapoints": answer}


@cloudwatch.operation
def get_metric_data(request: Request, ctx: Context) -> dict[str, Any]:
    if request.get("NextToken"):
        raise ApiError("InvalidNextToken", "The value of NextToken is invalid: answers are never paged here.")
    queries = request["MetricDataQueries"]
    ids = [query["Id"] for query in queries]
    if len(set(ids)) < len(ids):
        raise _validation("The values for parameter id in MetricDataQueries are not unique.")
    newest_first = request.get("ScanBy", "TimestampDescending") == "TimestampDescending"
    results = [_result(query, request, ctx, newest_first) for query in queries if query.get("ReturnData", True)]
    if sum(len(result["Values"]) for result in results) > min(request.get("MaxDatapoints", MAX_DATA), MAX_DATA):
        raise _validation(f"More than MaxDatapoints={request.get('MaxDatapoints', MAX_DATA)} points: increase Period.")
    return {"MetricDataResults": results, "Messages": []}


@cloudwatch.operation
def list_metrics(request: Request, ctx: Context) -> dict[str, Any]:
    wanted = [(one["Name"], one.get("Value")) for one in request.get("Dimensions", [])]
    since = ctx.now - RECENT if request.get("RecentlyActive") else None
    after = _after(request.get("NextToken"))
    metrics: list[dict[str, Any]] = []
    store = _store(ctx)
    while True:
        found = store.names(request.get("Namespace"), request.get("MetricName"), since=since, after=after, limit=PAGE)
        for identity, name in found:
            after = identity
            if _matches(dict(name.dimensions), wanted):
                metrics.append(_metric(name))
            if len(metrics) == PAGE:
                return {"Metrics": metrics, "NextToken": str(after)}
        if len(found) < PAGE:
            return {"Metrics": metrics}


def _store(ctx: Context) -> SeriesStore:
    return SeriesStore(ctx.world.database, ctx.account, ctx.region)


def _invalid(message: str) -> ApiError:
    return ApiError("InvalidParameterValue", message)


def _combination(message: str) -> ApiError:
    return ApiError("InvalidParameterCombination", message)


def _validation(message: str) -> ApiError:
    return ApiError("ValidationError", message)


def _dimensions(given: Sequence[Mapping[str, str]], where: str) -> dict[str, str]:
    if len(given) > MAX_DIMENSIONS:
        raise _invalid(f"The collection {where} must not have a size greater than {MAX_DIMENSIONS}.")
    result = {one["Name"]: one["Value"] for one in given}
    if len(result) < len(given):
        raise _invalid(f"The collection {where} names a dimension twice.")
    return result


def _points(datum: Mapping[str, Any], where: str, now: float) -> list[Point]:
    """The points of one MetricDatum: a value, a statistic set, or values with counts."""
    given = [member for member in ("Value", "StatisticValues", "Values") if member in datum]
    if len(given) != 1:
        found = " and ".join(given) or "none of them"
        raise _combination(f"{where} must have exactly one of Value, StatisticValues and Values; it has {found}.")
    timestamp = datum["Timestamp"].timestamp() if "Timestamp" in datum else now
    if timestamp > now + 2 * 3600:
        raise _invalid(f"The value {datum['Timestamp']} for parameter {where}.Timestamp is more than two hours ahead.")
    unit = datum.get("Unit", "None")
    if "StatisticValues" in datum:
        s = datum["StatisticValues"]
        _check_numbers((s["SampleCount"], s["Sum"], s["Minimum"], s["Maximum"]), f"{where}.StatisticValues")
        if s["SampleCount"] <= 0 or s["Minimum"] > s["Maximum"]:
            raise _invalid(f"{where}.StatisticValues: SampleCount must be positive and Minimum at most Maximum.")
        return [Point(timestamp, s["SampleCount"], s["Sum"], s["Minimum"], s["Maximum"], unit)]
    values = datum.get("Values", [datum["Value"]] if "Value" in datum else [])
    counts = datum.get("Counts", [1.0] * len(values))
    _check_numbers((*values, *counts), where)
    if len(values) != len(counts):
        raise _combination(f"{where} has {len(values)} Values and {len(counts)} Counts.")
    if any(count <= 0 for count in counts):
        raise _invalid(f"{where}.Counts must be positive.")
    return [Point.of(timestamp, float(value), float(count), unit) for value, count in zip(values, counts, strict=True)]


def _check_numbers(numbers: Sequence[float], where: str) -> None:
    for number in numbers:
        if not math.isfinite(number) or abs(number) > _LIMIT:
            raise _invalid(f"The value {number} for parameter {where} is invalid: it must be finite and within 2^360.")


def _window(start: datetime, end: datetime, period: int) -> tuple[float, float, int]:
    """Start (rounded down to the period), end, and the period, checked."""
    if start >= end:
        raise _invalid("The parameter StartTime must be less than the parameter EndTime.")
    if period not in (1, 5, 10, 20, 30) and period % 60:
        raise _invalid(f"The value {period} for parameter Period is invalid: 1, 5, 10, 20, 30 or a multiple of 60.")
    return math.floor(start.timestamp() / period) * period, end.timestamp(), period


def _statistic(name: str, bucket: Sequence[Point]) -> float | None:
    try:
        return statistic(name, bucket)
    except ValueError as error:
        raise _invalid(str(error)) from None


def _result(query: Mapping[str, Any], request: Request, ctx: Context, newest_first: bool) -> dict[str, Any]:
    if "MetricStat" not in query:
        raise _validation(f"MetricDataQuery {query['Id']}: Expression is not supported by sagesmith, only MetricStat.")
    stat = query["MetricStat"]
    metric = stat["Metric"]
    for member in ("Namespace", "MetricName"):
        if member not in metric:
            raise ApiError(
                "MissingParameter", f"MetricDataQuery {query['Id']}: MetricStat.Metric.{member} is required."
            )
    start, end, period = _window(request["StartTime"], request["EndTime"], stat["Period"])
    dimensions = _dimensions(metric.get("Dimensions", []), f"{query['Id']}.Dimensions")
    name = Name.of(metric["Namespace"], metric["MetricName"], dimensions)
    buckets = by_period(_store(ctx).read(name, start, end, stat.get("Unit")), period)
    values = [(time, _statistic(stat["Stat"], bucket)) for time, bucket in buckets.items()]
    known = [(time, value) for time, value in values if value is not None]
    known = known[::-1] if newest_first else known
    return {
        "Id": query["Id"],
        "Label": query.get("Label", metric["MetricName"]),
        "Timestamps": [datetime.fromtimestamp(time, UTC) for time, _ in known],
        "Values": [value for _, value in known],
        "StatusCode": "Complete",
    }


def _after(token: str | None) -> int:
    if token is not None and not (token.isascii() and token.isdigit() and len(token) < 16):
        raise _invalid("The value for parameter NextToken is invalid.")
    return int(token or 0)


def _matches(dimensions: Mapping[str, str], wanted: Sequence[tuple[str, str | None]]) -> bool:
    return all(name in dimensions and value in (None, dimensions[name]) for name, value in wanted)


def _metric(name: Name) -> dict[str, Any]:
    dimensions = [{"Name": key, "Value": value} for key, value in name.dimensions]
    return {"Namespace": name.namespace, "MetricName": name.metric, "Dimensions": dimensions}
