"""docs/coverage.md says what the code says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from sagesmith.gateway.coverage import coverage
from sagesmith.services import load_rooms


def test_the_page_is_fresh() -> None:
    # In a process of its own: other tests register operations.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "sagesmith.gateway.coverage"]
    made = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    page = Path(__file__).parents[2] / "docs" / "coverage.md"
    assert page.read_text("utf-8") == made, "run: python -m sagesmith.gateway.coverage > docs/coverage.md"


def test_built_and_missing_are_the_whole_model() -> None:
    load_rooms()
    rows = coverage()
    assert "GetCallerIdentity" in rows["sts"]["built"]
    assert "CreateHub" in rows["sagemaker"]["missing"]
    assert len(rows["sagemaker"]["built"]) + len(rows["sagemaker"]["missing"]) >= 396
