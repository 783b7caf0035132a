from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sagesmith.core.operation import ApiError, Context
from sagesmith.services import cloudwatch  # noqa: F401  registers the operations

JOB = [{"Name": "TrainingJobName", "Value": "job"}]
NAMESPACE = "/aws/sagemaker/TrainingJobs"


def call(ctx: Context, operation: str, **request: Any) -> dict[str, Any]:
    return ctx.call(operation, request, service="cloudwatch")


def put(ctx: Context, namespace: str = NAMESPACE, **datum: Any) -> None:
    call(ctx, "PutMetricData", Namespace=namespace, MetricData=[{"MetricName": "m", "Dimensions": JOB, **datum}])


def start(ctx: Context) -> datetime:
    return datetime.fromtimestamp(ctx.now // 60 * 60, UTC)


def statistics(ctx: Context, *names: str, period: int = 60, minutes: int = 60, **more: Any) -> list[dict[str, Any]]:
    request = {"Namespace": NAMESPACE, "MetricName": "m", "Dimensions": JOB, "Period": period} | more
    window = {"StartTime": start(ctx) - timedelta(minutes=minutes), "EndTime": start(ctx) + timedelta(minutes=5)}
    request |= {"Statistics": list(names)} if names else {}
    answer: list[dict[str, Any]] = call(ctx, "GetMetricStatistics", **window, **request)["Datapoints"]
    return answer


def test_statistics_of_values_by_period(ctx: Context) -> None:
    at = start(ctx)
    for offset, value in ((0, 1.0), (30, 3.0), (60, 10.0)):
        put(ctx, Value=value, Timestamp=at + timedelta(seconds=offset))
    first, second = statistics(ctx, "Average", "Sum", "Minimum", "Maximum", "SampleCount")
    expected = {"Average": 2.0, "Sum": 4.0, "Minimum": 1.0, "Maximum": 3.0, "SampleCount": 2.0}
    assert first == {"Timestamp": at, "Unit": "None", **expected}
    assert (second["Timestamp"], second["Sum"]) == (at + timedelta(minutes=1), 10.0)
    assert [point["Sum"] for point in statistics(ctx, "Sum", period=300)] == [14.0]


def test_statistic_sets_and_counts_add_up_with_single_values(ctx: Context) -> None:
    put(ctx, StatisticValues={"SampleCount": 4, "Sum": 8, "Minimum": 1, "Maximum": 3}, Unit="Count")
    put(ctx, Values=[10.0, 20.0], Counts=[3.0, 1.0], Unit="Count")
    (point,) = statistics(ctx, "Sum", "SampleCount", "Maximum", "Average")
    assert (point["Sum"], point["SampleCount"], point["Maximum"], point["Average"]) == (58.0, 8.0, 20.0, 7.25)
    assert statistics(ctx, "Sum", Unit="Seconds") == []


def test_series_are_told_apart_by_all_their_dimensions(ctx: Context) -> None:
    put(ctx, Value=1.0)
    put(ctx, Value=2.0, Dimensions=[*JOB, {"Name": "Host", "Value": "algo-1"}])
    assert [point["Sum"] for point in statistics(ctx, "Sum")] == [1.0]
    turned = [{"Name": "Host", "Value": "algo-1"}, *JOB]
    assert [point["Sum"] for point in statistics(ctx, "Sum", Dimensions=turned)] == [2.0]


def test_percentiles_where_the_values_are_known(ctx: Context) -> None:
    put(ctx, Values=[float(i) for i in range(1, 101)])
    (point,) = statistics(ctx, ExtendedStatistics=["p50", "p99"])
    assert point["ExtendedStatistics"] == {"p50": 50.0, "p99": 99.0}
    put(ctx, StatisticValues={"SampleCount": 2, "Sum": 3, "Minimum": 1, "Maximum": 2})
    (point,) = statistics(ctx, ExtendedStatistics=["p50"])
    assert point["ExtendedStatistics"] == {}


def test_metric_data_in_both_orders(ctx: Context) -> None:
    for minute in range(3):
        put(ctx, Value=float(minute), Timestamp=start(ctx) + timedelta(minutes=minute))
    metric = {"Namespace": NAMESPACE, "MetricName": "m", "Dimensions": JOB}
    query = [{"Id": "q", "MetricStat": {"Metric": metric, "Period": 60, "Stat": "Average"}}]
    window = {"StartTime": start(ctx), "EndTime": start(ctx) + timedelta(minutes=5), "MetricDataQueries": query}
    (result,) = call(ctx, "GetMetricData", **window)["MetricDataResults"]
    assert (result["Values"], result["StatusCode"], result["Label"]) == ([2.0, 1.0, 0.0], "Complete", "m")
    (result,) = call(ctx, "GetMetricData", **window, ScanBy="TimestampAscending")["MetricDataResults"]
    assert result["Values"] == [0.0, 1.0, 2.0]
    assert result["Timestamps"][0] == start(ctx)


def test_metrics_are_listed_by_namespace_name_and_dimension(ctx: Context) -> None:
    put(ctx, Value=1.0)
    put(ctx, namespace="mine", Value=1.0)
    assert [m["Namespace"] for m in call(ctx, "ListMetrics")["Metrics"]] == [NAMESPACE, "mine"]
    listed = call(ctx, "ListMetrics", Namespace="mine", MetricName="m", Dimensions=[{"Name": "TrainingJobName"}])
    assert listed == {"Metrics": [{"Namespace": "mine", "MetricName": "m", "Dimensions": JOB}]}
    assert call(ctx, "ListMetrics", Dimensions=[{"Name": "TrainingJobName", "Value": "x"}])["Metrics"] == []


def test_long_lists_come_in_pages(ctx: Context) -> None:
    data = [{"MetricName": f"m{i}", "Value": 1.0} for i in range(700)]
    call(ctx, "PutMetricData", Namespace="many", MetricData=data)
    first = call(ctx, "ListMetrics", Namespace="many")
    second = call(ctx, "ListMetrics", Namespace="many", NextToken=first["NextToken"])
    assert (len(first["Metrics"]), len(second["Metrics"]), "NextToken" in second) == (500, 200, False)


@pytest.mark.parametrize(
    "datum",
    [
        {},
        {"Value": float("nan")},
        {"Value": float("inf")},
        {"Value": 2.0**361},
        {"Value": 1.0, "Values": [1.0]},
        {"Values": [1.0, 2.0], "Counts": [1.0]},
        {"Values": [1.0], "Counts": [0.0]},
        {"StatisticValues": {"SampleCount": 0, "Sum": 0, "Minimum": 0, "Maximum": 0}},
        {"StatisticValues": {"SampleCount": 1, "Sum": 0, "Minimum": 1, "Maximum": 0}},
        {"Value": 1.0, "Timestamp": datetime(2099, 1, 1, tzinfo=UTC)},
        {"Value": 1.0, "Dimensions": [*JOB, *JOB]},
    ],
)
def test_data_that_make_no_sense_are_refused_whole(ctx: Context, datum: dict[str, Any]) -> None:
    with pytest.raises(ApiError):
        call(
            ctx,
            "PutMetricData",
            Namespace="n",
            MetricData=[{"MetricName": "good", "Value": 1.0}, {"MetricName": "bad", **datum}],
        )
    assert call(ctx, "ListMetrics", Namespace="n")["Metrics"] == []


def test_questions_that_make_no_sense_are_refused(ctx: Context) -> None:
    for more in ({"period": 61}, {"period": 60, "minutes": 60 * 24 * 2}, {"minutes": -10}):
        with pytest.raises(ApiError):
            statistics(ctx, "Sum", **more)  # type: ignore[arg-type]
    with pytest.raises(ApiError, match="MissingParameter"):
        statistics(ctx)
    put(ctx, Value=1.0)
    with pytest.raises(ApiError, match="p101"):
        statistics(ctx, ExtendedStatistics=["p101"])


def test_expressions_are_refused_by_name(ctx: Context) -> None:
    query = [{"Id": "q", "Expression": "1 + 1"}]
    with pytest.raises(ApiError, match="Expression is not supported"):
        call(
            ctx, "GetMetricData", StartTime=start(ctx), EndTime=start(ctx) + timedelta(hours=1), MetricDataQueries=query
        )
