"""A world with nothing in it but a database and a clock that stands still."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from sagesmith.core.clock import FrozenClock
from sagesmith.core.config import Config
from sagesmith.core.machine import MACHINES
from sagesmith.core.operation import ApiError, Context, World
from sagesmith.store.database import Database
from sagesmith.store.resources import KINDS, Documents
from sagesmith.store.tables import METADATA

# `SAGESMITH_TEST_POSTGRESQL=postgresql+psycopg://user@host/scratch` runs these tests on PostgreSQL too; it empties it.
POSTGRESQL = os.environ.get("SAGESMITH_TEST_POSTGRESQL", "")


@pytest.fixture(params=["sqlite", *(["postgresql"] if POSTGRESQL else [])])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        database = Database(f"sqlite:///{tmp_path / 'test.db'}")
    else:
        empty = create_engine(POSTGRESQL)
        METADATA.drop_all(empty)
        empty.dispose()
        database = Database(POSTGRESQL)
    yield database
    database.close()


@pytest.fixture
def ctx(tmp_path: Path, database: Database) -> Context:
    world = World(Config(data=tmp_path), FrozenClock(), database, objects=None, engine=None)  # type: ignore[arg-type]
    return Context(world, "123456789012", "us-east-1")


@pytest.fixture
def jobs() -> Iterator[Documents]:
    """A kind of documents that no room has; gone after the test."""
    yield Documents(
        "Job",
        arn="job",
        missing=lambda name: ApiError("Missing", name),
        exists=lambda arn: ApiError("Exists", arn),
        terminal=("Completed",),
    )
    del KINDS["Job"]
    MACHINES.pop("Job", None)


@pytest.fixture
def advance(ctx: Context) -> Callable[[float], None]:
    clock = ctx.world.clock
    assert isinstance(clock, FrozenClock)
    return clock.advance
