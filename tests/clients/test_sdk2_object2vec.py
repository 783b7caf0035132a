"""Object2Vec through real clients: the SDK's own estimator; boto3 with a job, an endpoint and a batch transform."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sagesmith.testing.server import RunningServer
from tests.algorithms.object2vec_pairs import SMALL, drawn, jsonlines
from tests.clients.live import ROLE, run_flow, serve

pytestmark = pytest.mark.slow

BUCKET = "object2vec-boto3"
IMAGE = "382416733822.dkr.ecr.us-east-1.amazonaws.com/object2vec:1"
SOON = {"Delay": 1, "MaxAttempts": 300}


@pytest.fixture(scope="module")
def seen(server: RunningServer, folder: Path) -> dict[str, Any]:
    (folder / "o2v-train.jsonl").write_text(jsonlines(*drawn(400)))
    (folder / "o2v-validation.jsonl").write_text(jsonlines(*drawn(100, seed=1)))
    return run_flow(server, 2, "sdk2_object2vec", folder)


def test_the_estimator_sends_what_the_job_takes(seen: dict[str, Any]) -> None:
    assert seen["image"].endswith("/object2vec:1")
    sent = {"mini_batch_size": "32", "enc0_vocab_size": "20", "enc0_network": "pooled_embedding"}
    assert sent.items() <= seen["hyperparameters"].items()
    assert "Encoder configs: " in seen["log"]
    assert "Hyperparameter feature_dim is taken for compatibility and has no effect" in seen["log"]
    assert seen["metrics"]["validation:accuracy"] > 0.8
    assert 0 < seen["metrics"]["validation:cross_entropy"] < 0.6


def test_the_endpoint_scores_and_embeds(seen: dict[str, Any]) -> None:
    scores = [one["scores"] for one in seen["scores"]["predictions"]]
    assert np.allclose(np.sum(scores, axis=1), 1, atol=1e-5)
    assert np.argmax(scores, axis=1).tolist() == [1, 0]
    assert len(seen["embeddings"]["predictions"][0]["embeddings"]) == 16


def test_boto3_trains_serves_and_transforms(server: RunningServer) -> None:
    s3, sagemaker, name = server.client("s3"), server.client("sagemaker"), "boto3-object2vec"
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key="train/pairs.jsonl", Body=jsonlines(*drawn(400)).encode())
    lines = jsonlines(drawn(40, seed=1)[0])
    s3.put_object(Bucket=BUCKET, Key="batch/pairs.jsonl", Body=lines.encode())

    def source(prefix: str) -> dict[str, Any]:
        return {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/{prefix}/"}}

    sagemaker.create_training_job(
        TrainingJobName=name,
        AlgorithmSpecification={"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        RoleArn=ROLE,
        InputDataConfig=[
            {"ChannelName": "train", "ContentType": "application/jsonlines", "DataSource": source("train")}
        ],
        OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/models"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10},
        StoppingCondition={"MaxRuntimeInSeconds": 600},
        HyperParameters={key: str(value) for key, value in SMALL.items()},
    )
    sagemaker.get_waiter("training_job_completed_or_stopped").wait(TrainingJobName=name, WaiterConfig=SOON)
    model = sagemaker.describe_training_job(TrainingJobName=name)["ModelArtifacts"]["S3ModelArtifacts"]
    container = {"Image": IMAGE, "ModelDataUrl": model, "Environment": {"INFERENCE_PREFERRED_MODE": "classification"}}
    sagemaker.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=ROLE)
    answers = served(server, name, lines)
    sagemaker.create_transform_job(
        TransformJobName=name,
        ModelName=name,
        BatchStrategy="MultiRecord",
        MaxPayloadInMB=1,
        TransformInput={
            "DataSource": source("batch"),
            "ContentType": "application/jsonlines",
            "SplitType": "Line",
        },
        TransformOutput={
            "S3OutputPath": f"s3://{BUCKET}/out",
            "AssembleWith": "Line",
            "Accept": "application/jsonlines",
        },
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
    )
    sagemaker.get_waiter("transform_job_completed_or_stopped").wait(TransformJobName=name, WaiterConfig=SOON)
    written = s3.get_object(Bucket=BUCKET, Key="out/pairs.jsonl.out")["Body"].read().decode()
    assert np.allclose([json.loads(line)["scores"] for line in written.splitlines()], answers, atol=1e-5)
    assert len(answers) == 40


def served(server: RunningServer, name: str, lines: str) -> list[list[float]]:
    """What an endpoint answers to JSON Lines."""
    sagemaker = server.client("sagemaker")
    serve(server, name)
    request = {"EndpointName": name, "ContentType": "application/jsonlines", "Body": lines.encode()}
    answer = server.client("sagemaker-runtime").invoke_endpoint(**request, Accept="application/jsonlines")
    sagemaker.delete_endpoint(EndpointName=name)
    return [json.loads(line)["scores"] for line in answer["Body"].read().splitlines()]
