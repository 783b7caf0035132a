"""The database: SQLite beside the data, or PostgreSQL; transactions that nest, and a schema that grows by migrations.

SQLite allows one writer at a time, so writers queue for a lock of ours instead of failing with "database is locked".
Readers never wait. A transaction is durable when `transaction()` returns (WAL with synchronous=FULL).
"""

from __future__ import annotations

import errno
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, insert, inspect, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError

from sagesmith.store.tables import METADATA, settings

BUSY_SECONDS = 30  # how long SQLite waits for another process
_MIGRATION_LOCK = 0x5A6E5317  # any number that no other program uses for its advisory locks


@dataclass
class _Open:
    """A transaction under way, and what to do once it is committed."""

    database: Database
    thread: int
    connection: Connection
    afterwards: list[Callable[[], None]] = field(default_factory=list)


_CURRENT: ContextVar[_Open | None] = ContextVar("sagesmith_transaction", default=None)


class Database:
    """A connection pool with the schema of this version.

    Args:
        url: SQLAlchemy's URL, `sqlite:///file` or `postgresql+psycopg://…`.

    Raises:
        ValueError: a kind of database that cannot be used, or one written by a newer version.
    """

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        self.sqlite = parsed.get_backend_name() == "sqlite"
        if not self.sqlite and parsed.get_backend_name() != "postgresql":
            raise ValueError(f"database {url!r} is neither SQLite nor PostgreSQL")
        if self.sqlite and parsed.database in (None, "", ":memory:"):
            raise ValueError(f"database {url!r} lives in memory; state must survive the server, so name a file")
        self._writer = threading.Lock()
        self.engine = _sqlite_engine(url) if self.sqlite else create_engine(url, pool_size=16, pool_pre_ping=True)
        try:
            self.secret = _prepare(self)  # the same for every server that shares the database
        except BaseException:
            self.close()
            raise

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A connection in a transaction that commits at the end of the outermost block, or rolls back on an exception.

        A block inside another one joins it. The block must not await anything: other tasks would join it too.

        Raises:
            OSError: with ENOSPC, when SQLite's disk is full; nothing of the transaction has happened.
        """
        current = self._current()
        if current is not None:
            yield current.connection
            return
        opened: _Open
        with self._writing(), self.engine.connect() as connection:
            if self.sqlite:
                connection.execution_options(sagesmith_write=True)
            opened = _Open(self, threading.get_ident(), connection)
            token = _CURRENT.set(opened)
            try:
                with connection.begin():
                    yield connection
            except OperationalError as error:
                if getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                    raise OSError(errno.ENOSPC, "the disk of the database is full") from error
                raise
            finally:
                _CURRENT.reset(token)
        for action in opened.afterwards:
            action()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection to read with: the open transaction's, or one of its own that waits for no writer."""
        current = self._current()
        if current is not None:
            yield current.connection
            return
        with self.engine.connect() as connection:
            yield connection

    def after_commit(self, action: Callable[[], None]) -> None:
        """Runs `action` once the transaction under way is committed; at once when there is none."""
        current = self._current()
        if current is None:
            action()
        else:
            current.afterwards.append(action)

    def insert_new(self, connection: Connection, table: Any, values: dict[str, Any]) -> Any | None:
        """Inserts a row unless one with the same unique key is there; its primary key's first column, or None."""
        dialect = sqlite if self.sqlite else postgresql
        first_key = next(iter(table.primary_key.columns))
        statement = dialect.insert(table).values(**values).on_conflict_do_nothing().returning(first_key)
        return connection.execute(statement).scalar_one_or_none()

    def close(self) -> None:
        """Closes every connection."""
        self.engine.dispose()

    def _current(self) -> _Open | None:
        current = _CURRENT.get()
        # A thread started inside a transaction inherits the variable, yet must not share the connection.
        if current is not None and current.database is self and current.thread == threading.get_ident():
            return current
        return None

    @contextmanager
    def _writing(self) -> Iterator[None]:
        if not self.sqlite:
            yield
            return
        with self._writer:
            yield


def _sqlite_engine(url: str) -> Engine:
    engine = create_engine(
        url,
        pool_size=16,
        max_overflow=-1,
        connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions are begun by `began` below, not guessed by the driver
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def began(connection: Connection) -> None:
        # A writer takes the lock at once: a reader that turns into a writer half-way may fail with SQLITE_BUSY.
        write = connection.get_execution_options().get("sagesmith_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def _prepare(database: Database) -> bytes:
    """Brings the schema to this version and returns the database's own random key."""
    with database.transaction() as connection:
        if not database.sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        _migrate(connection)
        METADATA.create_all(connection)
        database.insert_new(connection, settings, {"name": "secret", "value": secrets.token_hex(32)})
        value = connection.execute(select(settings.c.value).where(settings.c.name == "secret")).scalar_one()
    return bytes.fromhex(value)


def _create_schema(connection: Connection) -> None:
    """Version 1: every table as METADATA describes it."""
    METADATA.create_all(connection)


# One function per version, in order; each brings a database from the version before it to its own. A new table needs
# none, since missing tables are created at every start; a changed one does.
MIGRATIONS: list[Callable[[Connection], None]] = [_create_schema]


def _migrate(connection: Connection) -> None:
    version = _version(connection)
    if version > len(MIGRATIONS):
        raise ValueError(
            f"the database has schema version {version}, this sagesmith knows versions up to {len(MIGRATIONS)}: "
            "use the sagesmith that wrote it, or a newer one"
        )
    for migration in MIGRATIONS[version:]:
        migration(connection)
    _write_version(connection, len(MIGRATIONS))


def _version(connection: Connection) -> int:
    if not inspect(connection).has_table(settings.name):
        return 0
    found = connection.execute(select(settings.c.value).where(settings.c.name == "schema")).scalar_one_or_none()
    return int(found or 0)


def _write_version(connection: Connection, version: int) -> None:
    changed = connection.execute(update(settings).where(settings.c.name == "schema").values(value=str(version)))
    if changed.rowcount == 0:
        connection.execute(insert(settings).values(name="schema", value=str(version)))


__all__ = ["MIGRATIONS", "Connection", "Database"]
