"""The SageMaker Python SDK v3, unchanged, in its own environment: ModelTrainer and the typed resources."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sagesmith.testing.server import RunningServer
from tests.clients.live import run_documented, run_flow

pytestmark = pytest.mark.slow

BUCKET = "sagemaker-us-east-1-123456789012"


@pytest.fixture(scope="module")
def seen(server: RunningServer, folder: Path) -> dict[str, Any]:
    """What sdk3_flow.py saw."""
    return run_flow(server, 3, "sdk3_flow", folder)


def test_model_trainer_trains_a_built_in_image(seen: dict[str, Any]) -> None:
    assert seen["default_bucket"] == BUCKET
    job = seen["job"]
    assert job["status"] == "Completed"
    assert job["model"] == f"s3://{BUCKET}/sdk3/models/{job['name']}/output/model.tar.gz"
    assert job["hyperparameters"] == {"objective": "binary:logistic", "num_round": "12", "eval_metric": "logloss"}
    assert job["metrics"].keys() == {"train:logloss", "validation:logloss"}
    assert seen["listed"] == [job["name"]]


def test_the_logs_are_shown_while_it_waits(seen: dict[str, Any]) -> None:
    for number in range(12):
        assert seen["log"].count(f"[{number}]#011train-logloss:") == 1


def test_a_failed_job_raises_with_its_reason(seen: dict[str, Any]) -> None:
    assert "Final Resource State: Failed. Failure Reason: ClientError: Hyperparameter num_round" in seen["failed"]


def test_model_trainer_runs_source_code(seen: dict[str, Any]) -> None:
    script = seen["script"]
    assert script["status"] == "Completed"
    assert script["model"]["train"] == "/opt/ml/input/data/train"
    assert script["model"]["rows"] == 400
    assert script["model"]["arguments"] == ["--objective", "binary:logistic", "--rounds", "3"]


def test_typed_resources_are_created_waited_for_invoked_and_deleted(seen: dict[str, Any]) -> None:
    assert seen["endpoint"] == "InService"
    assert [float(line) > 0.5 for line in seen["scores"].split()] == [False, True, False]
    assert seen["left"] == []


def test_the_documented_example_runs_as_it_stands(server: RunningServer, folder: Path) -> None:
    before = server.client("sagemaker").list_training_jobs(StatusEquals="Completed", MaxResults=100)
    run_documented(server, 3, folder)
    after = server.client("sagemaker").list_training_jobs(StatusEquals="Completed", MaxResults=100)
    assert len(after["TrainingJobSummaries"]) == len(before["TrainingJobSummaries"]) + 1
