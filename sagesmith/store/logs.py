"""Log events: groups hold streams, streams hold events in the order in which they arrived.

A stream counts its events. A writer that names the count it starts from (`sequence`) may send the same batch again
after a broken connection: what is there already is not stored twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    and_,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.engine import Connection, Row
from sqlalchemy.sql import ColumnElement

from sagesmith.store.database import Database
from sagesmith.store.tables import METADATA, NAME, ROW_ID

log_groups = Table(
    "log_groups",
    METADATA,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("account", NAME, nullable=False),
    Column("region", NAME, nullable=False),
    Column("name", NAME, nullable=False),
    Column("created_at", BigInteger, nullable=False),  # milliseconds, like every time in this module
    UniqueConstraint("account", "region", "name"),
)

log_streams = Table(
    "log_streams",
    METADATA,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("group_id", ForeignKey("log_groups.id", ondelete="CASCADE"), nullable=False),
    Column("name", NAME, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("first_event", BigInteger),
    Column("last_event", BigInteger),
    Column("last_ingestion", BigInteger),
    Column("events", Integer, nullable=False, default=0),
    UniqueConstraint("group_id", "name"),
)

log_events = Table(
    "log_events",
    METADATA,
    Column("stream_id", ForeignKey("log_streams.id", ondelete="CASCADE"), primary_key=True),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("timestamp", BigInteger, nullable=False),
    Column("ingestion", BigInteger, nullable=False),
    Column("message", Text, nullable=False),
    Index("ix_log_events_time", "stream_id", "timestamp"),
)


class NoSuchGroup(LookupError):
    """There is no log group of that name."""


class NoSuchStream(LookupError):
    """There is no log stream of that name in the group."""


class OutOfSequence(Exception):
    """The batch starts somewhere else than where the stream ends; `expected` is the stream's count of events.

    `accepted` is True when the whole batch is there already.
    """

    def __init__(self, expected: int, accepted: bool) -> None:
        super().__init__(f"the stream holds {expected} events")
        self.expected = expected
        self.accepted = accepted


@dataclass(frozen=True)
class Event:
    """One line: when it was written, when it arrived (milliseconds since the epoch), and where it stands."""

    position: int
    timestamp: int
    ingestion: int
    message: str
    stream: str = ""


class LogStore:
    """Log groups of one account and region."""

    def __init__(self, database: Database, account: str, region: str) -> None:
        self._database = database
        self._account = account
        self._region = region

    def create_group(self, name: str, now: int) -> bool:
        """Makes a group; False when it exists."""
        values = {"account": self._account, "region": self._region, "name": name, "created_at": now}
        with self._database.transaction() as connection:
            return self._database.insert_new(connection, log_groups, values) is not None

    def create_stream(self, group: str, name: str, now: int) -> bool:
        """Makes a stream in a group; False when it exists. Raises NoSuchGroup."""
        with self._database.transaction() as connection:
            values = {"group_id": self._group(connection, group), "name": name, "created_at": now, "events": 0}
            return self._database.insert_new(connection, log_streams, values) is not None

    def delete_group(self, name: str) -> None:
        """Removes a group with all it holds. Raises NoSuchGroup."""
        with self._database.transaction() as connection:
            connection.execute(delete(log_groups).where(log_groups.c.id == self._group(connection, name)))

    def delete_stream(self, group: str, name: str) -> None:
        """Removes a stream with its events. Raises NoSuchGroup, NoSuchStream."""
        with self._database.transaction() as connection:
            stream = self._stream(connection, group, name)
            connection.execute(delete(log_streams).where(log_streams.c.id == stream.id))

    def groups(
        self, condition: str = "", pattern: str = "", after: str = "", limit: int = 50
    ) -> list[tuple[str, int, int]]:
        """(name, created_at, bytes stored) of groups by prefix `condition` or substring `pattern`, after a name."""
        size = (
            select(func.coalesce(func.sum(func.length(log_events.c.message)), 0))
            .select_from(log_events.join(log_streams))
            .where(log_streams.c.group_id == log_groups.c.id)
            .scalar_subquery()
        )
        query = select(log_groups.c.name, log_groups.c.created_at, size).where(
            log_groups.c.account == self._account, log_groups.c.region == self._region, log_groups.c.name > after
        )
        if condition:
            query = query.where(log_groups.c.name.startswith(condition, autoescape=True))
        if pattern:
            query = query.where(log_groups.c.name.contains(pattern, autoescape=True))
        with self._database.reading() as connection:
            found = connection.execute(query.order_by(log_groups.c.name).limit(limit)).all()
        return [(str(name), int(created_at), int(size)) for name, created_at, size in found]

    def streams(
        self,
        group: str,
        prefix: str = "",
        *,
        by_time: bool = False,
        descending: bool = False,
        offset: int = 0,
        limit: int = 50,
    ) -> Sequence[Row[tuple[object, ...]]]:
        """Rows of `log_streams` in a group, ordered by name or by last event. Raises NoSuchGroup."""
        columns = [func.coalesce(log_streams.c.last_event, 0), log_streams.c.name] if by_time else [log_streams.c.name]
        order = [column.desc() if descending else column.asc() for column in columns]
        with self._database.reading() as connection:
            query = select(log_streams).where(log_streams.c.group_id == self._group(connection, group))
            if prefix:
                query = query.where(log_streams.c.name.startswith(prefix, autoescape=True))
            return connection.execute(query.order_by(*order).offset(offset).limit(limit)).all()

    def put(
        self, group: str, stream: str, events: Sequence[tuple[int, str]], now: int, sequence: int | None = None
    ) -> int:
        """Appends (timestamp, message) pairs and returns the stream's count of events.

        `sequence` is the count that the writer expects before its first event.

        Raises:
            NoSuchGroup, NoSuchStream: AWS makes neither on the way.
            OutOfSequence: the batch is there already, or events before it are missing.
        """
        with self._database.transaction() as connection:
            row = self._stream(connection, group, stream)
            if sequence is not None:
                if sequence > row.events or (events and sequence + len(events) <= row.events):
                    raise OutOfSequence(row.events, accepted=sequence <= row.events)
                events = events[row.events - sequence :]
            if not events:
                return int(row.events)
            rows = [
                {"stream_id": row.id, "position": row.events + i, "timestamp": time, "ingestion": now, "message": text}
                for i, (time, text) in enumerate(events)
            ]
            connection.execute(insert(log_events), rows)
            times = [time for time, _ in events]
            changed = {
                "events": row.events + len(events),
                "first_event": min(times) if row.first_event is None else min(row.first_event, *times),
                "last_event": max(times) if row.last_event is None else max(row.last_event, *times),
                "last_ingestion": now,
            }
            connection.execute(update(log_streams).where(log_streams.c.id == row.id).values(**changed))
            return int(row.events + len(events))

    def read(
        self,
        group: str,
        stream: str,
        *,
        start: int | None = None,
        end: int | None = None,
        at: int | None = None,
        before: int | None = None,
        newest: bool = False,
        limit: int = 10_000,
    ) -> tuple[list[Event], int]:
        """Events with start <= timestamp < end in arrival order, and the stream's count of events.

        `at` is the first position to read, `before` the first not to; `newest` takes the last `limit` of them.
        """
        with self._database.reading() as connection:
            row = self._stream(connection, group, stream)
            conditions: list[ColumnElement[bool]] = [log_events.c.stream_id == row.id]
            conditions += [log_events.c.timestamp >= start] if start is not None else []
            conditions += [log_events.c.timestamp < end] if end is not None else []
            conditions += [log_events.c.position >= at] if at is not None else []
            conditions += [log_events.c.position < before] if before is not None else []
            order = log_events.c.position.desc() if newest else log_events.c.position.asc()
            found = connection.execute(select(log_events).where(and_(*conditions)).order_by(order).limit(limit)).all()
        events = [Event(r.position, r.timestamp, r.ingestion, r.message) for r in found]
        return (events[::-1] if newest else events), int(row.events)

    def search(
        self, group: str, streams: Sequence[str], *, start: int | None, end: int | None, offset: int, limit: int
    ) -> list[Event]:
        """Events of several streams by timestamp; all streams of the group when `streams` is empty."""
        with self._database.reading() as connection:
            query = select(log_events, log_streams.c.name).join(log_streams)
            query = query.where(log_streams.c.group_id == self._group(connection, group))
            if streams:
                query = query.where(log_streams.c.name.in_(streams))
            query = query if start is None else query.where(log_events.c.timestamp >= start)
            query = query if end is None else query.where(log_events.c.timestamp < end)
            order = (log_events.c.timestamp, log_events.c.stream_id, log_events.c.position)
            found = connection.execute(query.order_by(*order).offset(offset).limit(limit)).all()
        return [Event(r.position, r.timestamp, r.ingestion, r.message, r.name) for r in found]

    def _group(self, connection: Connection, name: str) -> int:
        query = select(log_groups.c.id).where(
            log_groups.c.account == self._account, log_groups.c.region == self._region, log_groups.c.name == name
        )
        found = connection.execute(query).scalar_one_or_none()
        if found is None:
            raise NoSuchGroup(name)
        return int(found)

    def _stream(self, connection: Connection, group: str, name: str) -> Row[tuple[object, ...]]:
        query = select(log_streams).where(
            log_streams.c.group_id == self._group(connection, group), log_streams.c.name == name
        )
        found = connection.execute(query).one_or_none()
        if found is None:
            raise NoSuchStream(name)
        return found
