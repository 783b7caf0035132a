"""IP Insights through real clients: the SDK's own estimator; boto3 with a job, an endpoint and a batch transform."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from sagesmith.testing.server import RunningServer
from tests.algorithms.ipinsights_pairs import csv, drawn
from tests.clients.live import ROLE, run_flow, serve, transform_lines

pytestmark = pytest.mark.slow

BUCKET = "ipinsights-boto3"
IMAGE = "382416733822.dkr.ecr.us-east-1.amazonaws.com/ipinsights:1"
SOON = {"Delay": 1, "MaxAttempts": 120}
SETTINGS = {"num_entity_vectors": "80", "vector_dim": "16", "epochs": "3", "learning_rate": "0.02"}


@pytest.fixture(scope="module")
def seen(server: RunningServer, folder: Path) -> dict[str, Any]:
    (folder / "pairs-train.csv").write_text(csv(drawn(3000)))
    (folder / "pairs-validation.csv").write_text(csv(drawn(300, seed=3)))
    return run_flow(server, 2, "sdk2_ipinsights", folder)


def scores(answer: dict[str, Any]) -> list[float]:
    return [prediction["dot_product"] for prediction in answer["predictions"]]


def test_the_estimator_sends_what_the_job_takes(seen: dict[str, Any]) -> None:
    assert seen["image"].endswith("/ipinsights:1")
    sent = {"feature_dim": "2", "mini_batch_size": "200", "vector_dim": "16", "random_negative_sampling_rate": "2"}
    assert sent.items() <= seen["hyperparameters"].items()
    assert "Hyperparameter feature_dim is taken for compatibility and has no effect" in seen["log"]


def test_the_jobs_metrics_are_found(seen: dict[str, Any]) -> None:
    metrics = seen["metrics"]
    assert metrics["validation:discriminator_auc"] > 0.95
    assert 0 < metrics["train:binary_classification_cross_entropy"] < 0.7
    assert 0.5 < metrics["train:binary_classification_accuracy:epoch"] <= 1
    assert metrics["train:progress"] == 100.0


def test_every_way_of_asking_gets_the_same_scores(seen: dict[str, Any]) -> None:
    assert seen["predictor"] == "IPInsightsPredictor"
    plain = scores(seen["predict"])
    assert len(plain) == 5
    assert [line["dot_product"] for line in seen["lines"]] == plain
    assert scores(seen["json"]) == plain
    assert scores(seen["verbose"]) == plain
    assert {len(row["ip_embedding"]) for row in seen["verbose"]["predictions"]} == {16}
    assert "is an IPv6 address; only IPv4 is supported" in seen["refused"]
    assert seen["left"] == []


def test_boto3_trains_serves_and_transforms(server: RunningServer) -> None:
    s3, sagemaker = server.client("s3"), server.client("sagemaker")
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key="train/pairs.csv", Body=csv(drawn(3000)).encode())
    lines = "".join(json.dumps({"features": row}) + "\n" for row in drawn(30).tolist())
    s3.put_object(Bucket=BUCKET, Key="batch/pairs.jsonl", Body=lines.encode())
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/train/"}}
    sagemaker.create_training_job(
        TrainingJobName="boto3-ipinsights",
        AlgorithmSpecification={"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        RoleArn=ROLE,
        InputDataConfig=[{"ChannelName": "train", "ContentType": "text/csv", "DataSource": source}],
        OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/models"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10},
        StoppingCondition={"MaxRuntimeInSeconds": 600},
        HyperParameters=SETTINGS,
    )
    waiter = sagemaker.get_waiter("training_job_completed_or_stopped")
    waiter.wait(TrainingJobName="boto3-ipinsights", WaiterConfig=SOON)
    model = sagemaker.describe_training_job(TrainingJobName="boto3-ipinsights")["ModelArtifacts"]["S3ModelArtifacts"]
    body = s3.get_object(Bucket=BUCKET, Key=model.partition(f"{BUCKET}/")[2])["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        assert sorted(archive.getnames()) == ["model.json", "model_algo-1"]

    container = {"Image": IMAGE, "ModelDataUrl": model}
    sagemaker.create_model(ModelName="boto3-ipinsights", PrimaryContainer=container, ExecutionRoleArn=ROLE)
    answers = served(server, lines)
    transform_lines(
        server,
        "boto3-ipinsights",
        f"s3://{BUCKET}/batch/",
        f"s3://{BUCKET}/out",
        "application/jsonlines",
        "application/jsonlines",
    )
    written = s3.get_object(Bucket=BUCKET, Key="out/pairs.jsonl.out")["Body"].read().decode()
    assert [json.loads(line)["dot_product"] for line in written.splitlines()] == pytest.approx(answers, rel=1e-5)


def served(server: RunningServer, lines: str) -> list[float]:
    """What an endpoint answers to JSON Lines."""
    sagemaker, name = server.client("sagemaker"), "boto3-ipinsights"
    serve(server, name)
    request = {"EndpointName": name, "ContentType": "application/jsonlines", "Body": lines.encode()}
    answer = server.client("sagemaker-runtime").invoke_endpoint(**request, Accept="application/json")
    sagemaker.delete_endpoint(EndpointName=name)
    return scores(json.loads(answer["Body"].read()))
