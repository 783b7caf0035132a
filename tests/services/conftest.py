from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sagesmith.core.clock import FrozenClock
from sagesmith.core.config import Config
from sagesmith.core.operation import Context, World
from sagesmith.store import logs, series  # noqa: F401  their tables have to be known before the database is made
from sagesmith.store.database import Database


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
def ctx(tmp_path: Path, clock: FrozenClock) -> Iterator[Context]:
    config = Config(data=tmp_path)
    database = Database(config.database_url)
    unused: Any = None
    world = World(config, clock, database, objects=unused, engine=unused, agent_key=("agent", "secret"))
    yield Context(world, account=config.account, region=config.region, principal="agent")
    database.close()
