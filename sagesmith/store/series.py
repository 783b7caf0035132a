"""Metric series: points over time under namespace, name and dimensions, summed up by period when they are read."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Float, ForeignKey, Index, Table, Text, UniqueConstraint, delete, func, insert, select

from sagesmith.store.database import Connection, Database
from sagesmith.store.tables import METADATA, NAME, ROW_ID

series = Table(
    "series",
    METADATA,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("account", NAME, nullable=False),
    Column("region", NAME, nullable=False),
    Column("namespace", NAME, nullable=False),
    Column("metric", NAME, nullable=False),
    Column("dimensions", Text, nullable=False),  # canonical JSON: sorted by name, so equal sets are equal text
    Column("last_point", Float(53), nullable=False, default=0.0),
    UniqueConstraint("account", "region", "namespace", "metric", "dimensions"),
)

points = Table(
    "points",
    METADATA,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("series_id", ForeignKey("series.id", ondelete="CASCADE"), nullable=False),
    Column("timestamp", Float(53), nullable=False),  # seconds since the epoch
    Column("samples", Float(53), nullable=False),
    Column("sum", Float(53), nullable=False),
    Column("minimum", Float(53), nullable=False),
    Column("maximum", Float(53), nullable=False),
    Column("unit", NAME, nullable=False, default="None"),
    Index("ix_points_time", "series_id", "timestamp"),
)


@dataclass(frozen=True)
class Point:
    """A statistic set at a time; one plain value is a set of one sample."""

    timestamp: float
    samples: float
    sum: float
    minimum: float
    maximum: float
    unit: str = "None"

    @classmethod
    def of(cls, timestamp: float, value: float, count: float = 1.0, unit: str = "None") -> Point:
        return cls(timestamp, count, value * count, value, value, unit)


@dataclass(frozen=True)
class Name:
    """What identifies a series."""

    namespace: str
    metric: str
    dimensions: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, namespace: str, metric: str, dimensions: Mapping[str, str]) -> Name:
        return cls(namespace, metric, tuple(sorted(dimensions.items())))


class SeriesStore:
    """Metric series of one account and region."""

    def __init__(self, database: Database, account: str, region: str) -> None:
        self._database = database
        self._account = account
        self._region = region

    def put(self, entries: Sequence[tuple[Name, Point]]) -> None:
        """Adds points, all or none."""
        with self._database.transaction() as connection:
            ids = {name: self._id(connection, name) for name in {name for name, _ in entries}}
            rows = [{"series_id": ids[name], **vars(point)} for name, point in entries]
            if rows:
                connection.execute(insert(points), rows)
            for name, identity in ids.items():
                newest = max(point.timestamp for other, point in entries if other == name)
                last = (
                    func.max(series.c.last_point, newest)
                    if self._database.sqlite
                    else func.greatest(series.c.last_point, newest)
                )
                connection.execute(series.update().where(series.c.id == identity).values(last_point=last))

    def read(self, name: Name, start: float, end: float, unit: str | None = None) -> list[Point]:
        """Points with start <= timestamp < end, oldest first."""
        query = (
            select(points)
            .join(series)
            .where(*self._is(name), points.c.timestamp >= start, points.c.timestamp < end)
            .order_by(points.c.timestamp, points.c.id)
        )
        if unit is not None:
            query = query.where(points.c.unit == unit)
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        return [Point(r.timestamp, r.samples, r.sum, r.minimum, r.maximum, r.unit) for r in rows]

    def names(
        self,
        namespace: str | None = None,
        metric: str | None = None,
        *,
        since: float | None = None,
        after: int = 0,
        limit: int = 500,
    ) -> list[tuple[int, Name]]:
        """Known series with their ids, by id, for paging."""
        query = select(series).where(
            series.c.account == self._account, series.c.region == self._region, series.c.id > after
        )
        query = query if namespace is None else query.where(series.c.namespace == namespace)
        query = query if metric is None else query.where(series.c.metric == metric)
        query = query if since is None else query.where(series.c.last_point >= since)
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(series.c.id).limit(limit)).all()
        return [(r.id, Name(r.namespace, r.metric, tuple(map(tuple, json.loads(r.dimensions))))) for r in rows]

    def prune(self, before: float) -> int:
        """Deletes points older than `before`; how many there were."""
        with self._database.transaction() as connection:
            return connection.execute(delete(points).where(points.c.timestamp < before)).rowcount

    def _is(self, name: Name) -> tuple[Any, ...]:
        return (
            series.c.account == self._account,
            series.c.region == self._region,
            series.c.namespace == name.namespace,
            series.c.metric == name.metric,
            series.c.dimensions == _canonical(name),
        )

    def _id(self, connection: Connection, name: Name) -> int:
        values = {
            "account": self._account,
            "region": self._region,
            "namespace": name.namespace,
            "metric": name.metric,
            "dimensions": _canonical(name),
            "last_point": 0.0,
        }
        made = self._database.insert_new(connection, series, values)
        return int(made or connection.execute(select(series.c.id).where(*self._is(name))).scalar_one())


def _canonical(name: Name) -> str:
    return json.dumps(name.dimensions, separators=(",", ":"), ensure_ascii=False)


def by_period(found: Iterable[Point], period: int) -> dict[float, list[Point]]:
    """Points by the start of their period, oldest first."""
    buckets: dict[float, list[Point]] = {}
    for point in found:
        buckets.setdefault(math.floor(point.timestamp / period) * period, []).append(point)
    return dict(sorted(buckets.items()))


def statistic(name: str, bucket: Sequence[Point]) -> float | None:
    """`Average`, `Sum`, `Minimum`, `Maximum`, `SampleCount` or a percentile `pNN.N` of the points of one period.

    None for a percentile when only statistic sets of different values are known.

    Raises:
        ValueError: another name.
    """
    samples = math.fsum(point.samples for point in bucket)
    total = math.fsum(point.sum for point in bucket)
    simple: dict[str, Callable[[], float | None]] = {
        "SampleCount": lambda: samples,
        "Sum": lambda: total,
        "Minimum": lambda: min(point.minimum for point in bucket),
        "Maximum": lambda: max(point.maximum for point in bucket),
        "Average": lambda: total / samples if samples else None,
    }
    if name in simple:
        return simple[name]()
    if name[:1] == "p" and name[1:].replace(".", "", 1).isdigit() and 0 <= float(name[1:]) <= 100:
        return _percentile(float(name[1:]), bucket)
    raise ValueError(f"{name!r} is not a statistic; choose from {', '.join(simple)} or a percentile such as p99.9")


def _percentile(percent: float, bucket: Sequence[Point]) -> float | None:
    if any(point.minimum != point.maximum for point in bucket):
        return None
    ordered = sorted(bucket, key=lambda point: point.minimum)
    wanted = percent / 100 * math.fsum(point.samples for point in ordered)
    seen = 0.0
    for point in ordered:
        seen += point.samples
        if seen >= wanted:
            return point.minimum
    return ordered[-1].minimum
