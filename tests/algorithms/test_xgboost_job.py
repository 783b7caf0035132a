"""XGBoost as a job: `python -m sagesmith.container` on a folder, from CSV to the model and its failures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sagesmith.algorithms import XGBoost

ROOT = Path(__file__).parents[2]


def run_job(base: Path, hyperparameters: dict[str, str], **channels: str) -> subprocess.CompletedProcess[str]:
    config = base / "input" / "config"
    config.mkdir(parents=True, exist_ok=True)
    given = {
        name: {"ContentType": content, "TrainingInputMode": "File", "S3DistributionType": "FullyReplicated"}
        for name, content in channels.items()
    }
    hosts = {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "lo"}
    contents: dict[str, Any] = {"hyperparameters": hyperparameters, "inputdataconfig": given, "resourceconfig": hosts}
    for name, content in contents.items():
        (config / f"{name}.json").write_text(json.dumps(content))
    command = [sys.executable, "-m", "sagesmith.container", "train", "sagemaker-xgboost", "--base", str(base)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture
def base(tmp_path: Path, diabetes: Any) -> Path:
    X, y = diabetes
    for name, rows in (("train", slice(0, 300)), ("validation", slice(300, None))):
        folder = tmp_path / "input" / "data" / name
        folder.mkdir(parents=True)
        np.savetxt(folder / "part.csv", np.column_stack([y, X])[rows], delimiter=",", fmt="%.8g")
    return tmp_path


def test_a_job_leaves_bare_xgboosts_model(base: Path, diabetes: Any) -> None:
    X, y = diabetes
    done = run_job(base, {"num_round": "5", "eta": "0.2"}, train="text/csv", validation="text/csv")
    assert done.returncode == 0, done.stdout + done.stderr
    rounds = [line for line in done.stdout.splitlines() if line.startswith("[4]\t")]
    assert len(rounds) == 1
    assert rounds[0].count("\t") == 2
    expected = XGBoost(num_round=5, eta=0.2).fit(X[:300], y[:300]).predict(X)
    assert np.allclose(XGBoost.load(base / "model").predict(X), expected, rtol=1e-5)


def test_a_users_mistake_is_told_as_such(base: Path) -> None:
    done = run_job(base, {"num_round": "5", "max_dept": "3"}, train="text/csv")
    assert done.returncode == 1
    assert (
        (base / "output" / "failure").read_text().startswith("ClientError: Extraneous hyperparameter found: max_dept")
    )
