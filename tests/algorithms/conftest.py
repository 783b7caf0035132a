"""Data and runs shared by the algorithms' tests."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

os.environ.setdefault(
    "OMP_WAIT_POLICY", "PASSIVE"
)  # before anything loads OpenMP: spinning threads of torch stand still

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine

from sagesmith.algorithms.run import Run
from sagesmith.testing.check_algorithm import RecordingRun


@pytest.fixture(scope="session")
def cancer() -> tuple[np.ndarray, np.ndarray]:
    """569 rows of two classes."""
    X, y = load_breast_cancer(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    return X[order].astype(np.float32), y[order].astype(np.float32)


@pytest.fixture(scope="session")
def wine() -> tuple[np.ndarray, np.ndarray]:
    """178 rows of three classes."""
    X, y = load_wine(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    return X[order].astype(np.float32), y[order].astype(np.float32)


@pytest.fixture(scope="session")
def diabetes() -> tuple[np.ndarray, np.ndarray]:
    """442 rows with a number to predict."""
    X, y = load_diabetes(return_X_y=True)
    return X.astype(np.float32), y.astype(np.float32)


class JobLike(RecordingRun):
    """A run with the folders of a job, which stops after `stop_after` rounds."""

    def __init__(self, base: Path, stop_after: int | None = None) -> None:
        super().__init__()
        self.output = base / "output"
        self.model = base / "model"
        self.checkpoints = base / "checkpoints"
        self._stop_after = stop_after

    @property
    def rounds(self) -> list[str]:
        return [line for line in self.lines if line.startswith("[")]

    @property
    def stopping(self) -> bool:
        return self._stop_after is not None and len(self.rounds) >= self._stop_after


@pytest.fixture
def environment() -> dict[str, str]:
    """Of a job's processes: one thread each, and warnings are errors."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    root = str(Path(__file__).parents[2])
    return kept | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}


@pytest.fixture
def job(tmp_path: Path) -> JobLike:
    return JobLike(tmp_path)


@pytest.fixture
def make_job(tmp_path: Path) -> Any:
    def make(**options: Any) -> Run:
        return JobLike(tmp_path, **options)

    return make


@pytest.fixture
def csv_file(tmp_path: Path) -> Any:
    """Writes label-first CSV into a folder of its own and returns the folder."""

    def write(name: str, *columns: np.ndarray, delimiter: str = ",") -> Path:
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        table = np.column_stack(columns)
        lines = (delimiter.join("" if np.isnan(v) else repr(float(v)) for v in row) for row in table)
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
        return folder

    return write
