from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sagesmith.services.sagemaker import endpoint_configs, endpoints, models  # noqa: F401 - registers the operations
from sagesmith.testing.fake_engine import IMAGE, FakeWorld
from tests.services.sagemaker.endpoint_stage import configure
from tests.services.sagemaker.training_stage import Stage, training_stage


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with training_stage(tmp_path) as stage:
        yield stage


@pytest.fixture
def world(tmp_path: Path) -> Iterator[FakeWorld]:
    """A world with a model `m` and an endpoint configuration `c`."""
    world = FakeWorld(tmp_path)
    primary = {"Image": IMAGE, "ModelDataUrl": "s3://models/a/model.tar.gz", "Environment": {"A": "1"}}
    world.call("CreateModel", ModelName="m", PrimaryContainer=primary)
    configure(world, "c")
    yield world
    world.close()
