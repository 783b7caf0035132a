"""Invocation metrics: counted in memory, handed to CloudWatch every few seconds, off the hot path.

Namespace AWS/SageMaker, dimensions EndpointName and VariantName. Errors are counted for every request, 0 or 1, so that
Average is a rate, as AWS documents it. Latencies are microseconds.
"""

from __future__ import annotations

from datetime import UTC, datetime
from math import inf
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sagesmith.core.operation import Context

NAMESPACE = "AWS/SageMaker"
_PER_REQUEST = 140  # metrics in one PutMetricData


class Statistic:
    """Count, sum and extremes of a metric since the last flush."""

    __slots__ = ("count", "maximum", "minimum", "total")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.count, self.total, self.minimum, self.maximum = 0, 0.0, inf, -inf

    def add(self, value: float) -> None:
        self.count += 1
        self.total += value
        if value < self.minimum:
            self.minimum = value
        if value > self.maximum:
            self.maximum = value


class VariantMetrics:
    """The metrics of one variant since the last flush."""

    __slots__ = ("statistics",)

    UNITS = {
        "Invocations": "None",
        "InvocationsPerInstance": "None",
        "Invocation4XXErrors": "None",
        "Invocation5XXErrors": "None",
        "InvocationModelErrors": "None",
        "ModelLatency": "Microseconds",
        "OverheadLatency": "Microseconds",
    }

    def __init__(self) -> None:
        self.statistics = {name: Statistic() for name in self.UNITS}

    def record(self, status: int, instances: int, model_seconds: float, overhead_seconds: float) -> None:
        """Counts one invocation.

        Args:
            status: the container's HTTP status; 0 when no whole response came.
            instances: how many instances the variant has.
        """
        statistics = self.statistics
        statistics["Invocations"].add(1.0)
        statistics["InvocationsPerInstance"].add(1.0 / max(instances, 1))
        statistics["Invocation4XXErrors"].add(1.0 if 400 <= status < 500 else 0.0)
        statistics["Invocation5XXErrors"].add(1.0 if status == 0 or status >= 500 else 0.0)
        statistics["InvocationModelErrors"].add(0.0 if 200 <= status < 300 else 1.0)
        statistics["ModelLatency"].add(model_seconds * 1e6)
        statistics["OverheadLatency"].add(overhead_seconds * 1e6)

    def data(self, endpoint: str, variant: str, now: float) -> list[dict[str, Any]]:
        """PutMetricData's entries, and everything counted anew."""
        dimensions = [{"Name": "EndpointName", "Value": endpoint}, {"Name": "VariantName", "Value": variant}]
        entries = []
        for name, statistic in self.statistics.items():
            if statistic.count:
                entries.append(
                    {
                        "MetricName": name,
                        "Dimensions": dimensions,
                        "Timestamp": datetime.fromtimestamp(now, UTC),
                        "Unit": self.UNITS[name],
                        "StatisticValues": {
                            "SampleCount": float(statistic.count),
                            "Sum": statistic.total,
                            "Minimum": statistic.minimum,
                            "Maximum": statistic.maximum,
                        },
                    }
                )
                statistic.clear()
        return entries


def put(ctx: Context, entries: list[dict[str, Any]]) -> None:
    """Sends entries of one account and region to CloudWatch. Runs in a thread."""
    for start in range(0, len(entries), _PER_REQUEST):
        request = {"Namespace": NAMESPACE, "MetricData": entries[start : start + _PER_REQUEST]}
        ctx.call("PutMetricData", request, service="cloudwatch")
