from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from sagesmith.testing.server import RunningServer, running_server

_numbers = itertools.count()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("data"), process=False) as running:
        yield running


@pytest.fixture(scope="session")
def s3(server: RunningServer) -> Iterator[Any]:
    client = server.client("s3")
    yield client
    client.close()


@pytest.fixture
def bucket(s3: Any) -> str:
    name = f"test-bucket-{next(_numbers)}"
    s3.create_bucket(Bucket=name)
    return name
