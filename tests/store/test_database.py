from __future__ import annotations

import contextvars
import errno
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import insert, select, text, update

from sagesmith.store import database as module
from sagesmith.store.database import Database
from sagesmith.store.tables import settings


def write(database: Database, name: str, value: str = "") -> None:
    with database.transaction() as connection:
        connection.execute(insert(settings).values(name=name, value=value))


def stored(database: Database, name: str) -> str | None:
    with database.reading() as connection:
        return connection.execute(select(settings.c.value).where(settings.c.name == name)).scalar_one_or_none()


def test_what_is_committed_is_there_after_reopening(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    first = Database(url)
    write(first, "x", "1")
    secret = first.secret
    first.close()
    second = Database(url)
    assert stored(second, "x") == "1"
    assert second.secret == secret
    second.close()


def test_an_exception_rolls_everything_back(database: Database) -> None:
    with pytest.raises(RuntimeError), database.transaction():
        write(database, "x")
        raise RuntimeError
    assert stored(database, "x") is None


def test_inner_transactions_join_and_see_what_is_not_committed(database: Database) -> None:
    with database.transaction() as outer, database.transaction() as inner:
        assert inner is outer
        write(database, "x", "1")
        assert stored(database, "x") == "1"
    assert stored(database, "x") == "1"


def test_actions_after_commit_wait_for_the_outermost_and_are_dropped_on_rollback(database: Database) -> None:
    done: list[str] = []
    with database.transaction():
        with database.transaction():
            database.after_commit(lambda: done.append("committed"))
        assert done == []
    with pytest.raises(RuntimeError), database.transaction():
        database.after_commit(lambda: done.append("never"))
        raise RuntimeError
    database.after_commit(lambda: done.append("alone"))
    assert done == ["committed", "alone"]


def test_a_thread_that_inherits_the_context_does_not_share_the_transaction(database: Database) -> None:
    with database.transaction():
        write(database, "x")
        context = contextvars.copy_context()
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(context.run, stored, database, "x").result() is None


def test_no_write_is_lost_or_refused_under_32_threads(database: Database) -> None:
    write(database, "count", "0")
    barrier = threading.Barrier(32)

    def increment() -> None:
        barrier.wait()
        for _ in range(5):
            with database.transaction() as connection:
                count = select(settings.c.value).where(settings.c.name == "count").with_for_update()
                value = int(connection.execute(count).scalar_one())
                changed = update(settings).where(settings.c.name == "count").values(value=str(value + 1))
                connection.execute(changed)

    with ThreadPoolExecutor(32) as pool:
        for done in [pool.submit(increment) for _ in range(32)]:
            done.result()
    assert stored(database, "count") == "160"


def test_sqlite_is_set_to_survive_a_power_cut(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'a.db'}")
    with database.reading() as connection:
        pragmas = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar() for name in ("journal_mode", "synchronous")
        }
    database.close()
    assert pragmas == {"journal_mode": "wal", "synchronous": 2}


def test_migrations_run_once_each_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    Database(url).close()
    ran: list[int] = []
    later = [lambda _connection: ran.append(2), lambda _connection: ran.append(3)]
    monkeypatch.setattr(module, "MIGRATIONS", [*module.MIGRATIONS, *later])
    Database(url).close()
    Database(url).close()
    assert ran == [2, 3]


def test_a_failed_migration_leaves_the_version_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    Database(url).close()

    def broken(_connection: module.Connection) -> None:
        raise RuntimeError("no")

    with monkeypatch.context() as patch:
        patch.setattr(module, "MIGRATIONS", [*module.MIGRATIONS, broken])
        with pytest.raises(RuntimeError, match="no"):
            Database(url)
    reopened = Database(url)
    assert stored(reopened, "schema") == "1"
    reopened.close()


def test_a_database_of_a_newer_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    Database(url).close()
    monkeypatch.setattr(module, "MIGRATIONS", [])
    with pytest.raises(ValueError, match="schema version 1"):
        Database(url)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://host/db"])
def test_databases_that_cannot_keep_state_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="database"):
        Database(url)


def test_a_full_disk_is_an_error_that_says_so_and_nothing_is_changed(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'a.db'}")
    write(database, "before", "1")
    with pytest.raises(OSError, match="disk of the database is full") as caught, database.transaction() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")  # SQLite takes the size that the file has now
        connection.execute(insert(settings).values(name="small", value="2"))
        connection.execute(insert(settings).values(name="large", value="x" * 10**6))
    assert caught.value.errno == errno.ENOSPC
    assert (stored(database, "before"), stored(database, "small"), stored(database, "large")) == ("1", None, None)
    database.close()
