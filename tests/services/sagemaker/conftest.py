from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.sagemaker.training_stage import Stage, training_stage


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with training_stage(tmp_path) as stage:
        yield stage
