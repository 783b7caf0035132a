"""One server for all tests with real clients; each test uses names of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sagesmith.testing.server import RunningServer
from tests.clients.live import live_server

pytest.importorskip("xgboost")


def rows(count: int, first: int = 0) -> str:
    """Small numbers that trees learn at once: label, three features."""
    lines = []
    for number in range(first, first + count):
        features = (number * 7 % 10 / 10, number * 3 % 11 / 11, number * 13 % 17 / 17)
        lines.append(",".join(f"{value:.3f}" for value in (int(features[0] > 0.45), *features)))
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with live_server(tmp_path_factory.mktemp("clients"), stop_grace=20.0) as server:
        yield server


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train.csv, validation.csv and features.csv."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "train.csv").write_text(rows(400))
    (folder / "validation.csv").write_text(rows(60, first=400))
    (folder / "features.csv").write_text("".join(line.partition(",")[2] + "\n" for line in rows(20).splitlines()))
    return folder
