"""Fixtures: a job's folder, and an environment in which the algorithm of these tests is installed as a plug-in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sagesmith.contract import JobFolder
from tests.container.jobs import Job

ROOT = Path(__file__).resolve().parents[2]
ENTRY_POINTS = """[sagesmith.algorithms]
mean = mean_predictor:Mean
framework-mean = mean_predictor:FrameworkMean
lonely-mean = mean_predictor:LonelyMean
"""


@pytest.fixture(scope="session")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PYTHONPATH on which the algorithms of these tests are installed as a plug-in package would be."""
    installed = tmp_path_factory.mktemp("site")
    information = installed / "mean_predictor-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: mean-predictor\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(ENTRY_POINTS)
    return os.pathsep.join((str(ROOT), str(Path(__file__).parent / "plugins"), str(installed)))


@pytest.fixture
def clean_environment(plugins: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return kept | {"PYTHONPATH": plugins, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}


@pytest.fixture
def job(tmp_path: Path, clean_environment: dict[str, str]) -> Job:
    return Job(JobFolder(tmp_path / "ml").create(), clean_environment)
