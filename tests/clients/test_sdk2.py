"""The SageMaker Python SDK v2, unchanged, in its own environment: what its users see."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from sagesmith.testing.server import RunningServer
from tests.clients.live import ROLE, run_documented, run_flow

pytestmark = pytest.mark.slow

BUCKET = "sagemaker-us-east-1-123456789012"


@pytest.fixture(scope="module")
def seen(server: RunningServer, folder: Path) -> dict[str, Any]:
    """What sdk2_flow.py saw: fit, deploy, predict, transform."""
    return run_flow(server, 2, "sdk2_flow", folder)


@pytest.fixture(scope="module")
def jobs(server: RunningServer, folder: Path) -> dict[str, Any]:
    """What sdk2_jobs.py saw: other training jobs."""
    return run_flow(server, 2, "sdk2_jobs", folder)


def numbers(text: str) -> list[float]:
    return [float(line) for line in text.split()]


def test_the_session_needs_no_sts_for_bucket_and_role(seen: dict[str, Any]) -> None:
    assert seen["default_bucket"] == BUCKET
    assert seen["role_by_name"] == ROLE
    assert seen["upload"] == f"s3://{BUCKET}/sdk2/train/train.csv"


def test_fit_prints_the_log_as_it_comes(seen: dict[str, Any]) -> None:
    log = seen["fit_log"]
    assert "Running XGBoost Sagemaker in algorithm mode" in log
    for number in range(12):
        assert log.count(f"[{number}]#011train-auc:") == 1, "every line once"
    status = ["Starting - ", "Downloading - ", "Training - ", "Uploading - ", "Completed - "]
    assert [log.index(word) for word in status] == sorted(log.index(word) for word in status)
    assert log.rstrip().splitlines()[-2].startswith("Training seconds: ")


def test_the_model_is_where_the_estimator_says(seen: dict[str, Any], server: RunningServer) -> None:
    assert seen["model_data"] == f"s3://{BUCKET}/sdk2/models/{seen['job']}/output/model.tar.gz"
    assert "xgboost-model" in members(server, seen["model_data"])


def members(server: RunningServer, uri: str) -> dict[str, bytes]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    body = server.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive if member.isfile()}  # type: ignore[union-attr]


def test_attach_finds_the_job_again(seen: dict[str, Any]) -> None:
    wanted = {"objective": "binary:logistic", "num_round": "12", "eval_metric": "auc,logloss"}
    assert seen["attached"] == {"hyperparameters": wanted, "model_data": seen["model_data"]}


def test_analytics_have_every_metric(seen: dict[str, Any]) -> None:
    values = seen["analytics"]
    assert set(values) == {f"{channel}:{name}" for channel in ("train", "validation") for name in ("auc", "logloss")}
    assert values["validation:auc"] > 0.9
    assert 0 < values["train:logloss"] < 0.7


def test_logs_for_job_prints_them_again(seen: dict[str, Any]) -> None:
    lines = [line for line in seen["fit_log"].splitlines() if "#011" in line]
    assert [line for line in seen["logs_for_job"].splitlines() if "#011" in line] == lines


def test_predictions_in_csv_and_json_agree(seen: dict[str, Any]) -> None:
    scores = numbers(seen["predict_csv"])
    assert [score > 0.5 for score in scores] == [False, True, False]
    assert [prediction["score"] for prediction in seen["predict_json"]["predictions"]] == scores
    assert seen["predict_error"].startswith("ModelError: ")
    assert "(415)" in seen["predict_error"] or "(400)" in seen["predict_error"]


def test_update_endpoint_brings_the_other_model(seen: dict[str, Any]) -> None:
    before, after = seen["configs"]
    assert before != after
    old, new = numbers(seen["predict_csv"]), numbers(seen["predict_after_update"])
    assert len(old) == len(new)
    assert all(abs(0.5 - score) < abs(0.5 - earlier) for earlier, score in zip(old, new, strict=True)), "one round only"


def test_a_transformer_answers_every_row(seen: dict[str, Any]) -> None:
    scores = numbers(seen["transform"])
    assert len(scores) == 20
    assert scores[:3] == numbers(seen["predict_csv"])


def test_what_was_made_is_deleted(seen: dict[str, Any]) -> None:
    assert (seen["endpoints_left"], seen["configs_left"], seen["models_left"]) == ([], 0, 0)


def test_a_failed_job_raises_with_its_reason(jobs: dict[str, Any]) -> None:
    assert jobs["failed"]["status"] == "Failed"
    assert "ClientError: Hyperparameter eta: 7 is not in [0, 1]" in jobs["failed"]["message"]


def test_a_stopped_job_keeps_what_it_learnt(jobs: dict[str, Any], server: RunningServer) -> None:
    assert jobs["stopped"]["status"] == "Stopped"
    assert "xgboost-model" in members(server, jobs["stopped"]["model"])


def test_two_instances_share_the_objects_and_train_one_model(jobs: dict[str, Any]) -> None:
    seen = jobs["two_hosts"]
    assert seen["status"] == "Completed"
    assert [name.split("/")[1].rsplit("-", 1)[0] for name in seen["streams"]] == ["algo-1", "algo-2"]
    assert seen["log"].count("Train matrix has 200 rows and 3 columns") == 2, "each instance has its shard"
    assert seen["log"].count("[3]#011train-logloss:") == 1


def test_the_sdks_own_recordio_trains_as_csv_does(jobs: dict[str, Any], seen: dict[str, Any]) -> None:
    last = next(line for line in seen["fit_log"].splitlines() if line.startswith("[11]#011"))
    logloss = float(last.split("train-logloss:")[1].split("#011")[0])
    assert jobs["recordio"]["File"] == jobs["recordio"]["Pipe"] == {"train:logloss": pytest.approx(logloss, abs=1e-4)}


def test_a_script_of_ones_own_trains_in_the_framework_image(jobs: dict[str, Any], server: RunningServer) -> None:
    script = jobs["script"]
    assert "rows=400;" in script["log"]
    assert script["metrics"] == {"rows": 400.0}
    assert members(server, script["model_data"]).keys() == {"xgboost-model"}
    left = json.loads(members(server, script["model_data"].replace("model.tar.gz", "output.tar.gz"))["seen.json"])
    assert left["depth"] == 4
    assert left["environment"]["SM_NUM_CPUS"]
    secrets = (server.key.secret, "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID")
    assert not [secret for secret in secrets if secret in json.dumps(left["environment"])]


def test_a_script_that_fails_says_why(jobs: dict[str, Any]) -> None:
    assert 'ExecuteUserScriptError: ExitCode 1, ErrorMessage "ValueError: not today"' in jobs["failing_script"]


def test_an_inference_script_is_refused_by_name_and_the_bare_model_served(jobs: dict[str, Any]) -> None:
    assert jobs["script"]["score"] > 0.5
    assert "Environment.SAGEMAKER_PROGRAM asks for an inference script of your own" in jobs["script"]["deploy"]


def test_the_documented_example_runs_as_it_stands(server: RunningServer, folder: Path) -> None:
    output = run_documented(server, 2, folder, prelude="import sdk2_clock\n")
    assert "[99]#011train-logloss:" in output
    assert "Completed - Training job completed" in output
