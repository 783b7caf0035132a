"""Random Cut Forest through the SDK's own estimator class, and through boto3 from CSV: job, endpoint, transform."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sagesmith.testing.server import RunningServer
from tests.clients.live import ROLE, run_flow, serve

pytestmark = pytest.mark.slow

IMAGE = "382416733822.dkr.ecr.us-east-1.amazonaws.com/randomcutforest:1"
BUCKET = "rcf-bucket"
SOON = {"Delay": 1, "MaxAttempts": 120}
ROWS = np.random.default_rng(0).normal(size=(400, 2)).round(3)
ASKED = b"0.1,0.2\n8,-8\n"


@pytest.fixture(scope="module")
def seen(server: RunningServer, folder: Path) -> dict[str, Any]:
    return run_flow(server, 2, "sdk2_randomcutforest", folder)


def test_the_estimator_class_trains_deploys_and_predicts(seen: dict[str, Any]) -> None:
    wanted = {"feature_dim": "3", "num_trees": "50", "num_samples_per_tree": "64", "mini_batch_size": "1000"}
    assert wanted.items() <= {name: str(value) for name, value in seen["hyperparameters"].items()}.items()
    assert "/randomcutforest:1" in seen["image"]
    usual, strange = seen["scores"]
    assert 0.3 < usual < 1.2
    assert strange > 2 * usual
    assert seen["model_data"].endswith("/output/model.tar.gz")
    assert seen["endpoints_left"] == 0


def test_two_instances_and_a_labelled_test_channel(seen: dict[str, Any]) -> None:
    assert seen["two"]["test:accuracy"] > 0.95
    assert "test:f1" not in seen["two"], "eval_metrics asked for accuracy alone"
    assert seen["two"]["train:progress"] == 100


@pytest.fixture(scope="module")
def model(server: RunningServer) -> str:
    """The name of a model trained through boto3 from two CSV files."""
    s3, sagemaker = server.client("s3"), server.client("sagemaker")
    s3.create_bucket(Bucket=BUCKET)
    for number, part in enumerate((ROWS[:150], ROWS[150:])):
        body = "".join(f"{first},{second}\n" for first, second in part).encode()
        s3.put_object(Bucket=BUCKET, Key=f"train/{number}.csv", Body=body)
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/train/", "S3DataDistributionType": "ShardedByS3Key"}
    channel = {"ChannelName": "train", "ContentType": "text/csv;label_size=0", "DataSource": {"S3DataSource": source}}
    sagemaker.create_training_job(
        TrainingJobName="rcf-boto3",
        AlgorithmSpecification={"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        RoleArn=ROLE,
        InputDataConfig=[channel],
        OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/models"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10},
        StoppingCondition={"MaxRuntimeInSeconds": 600},
        HyperParameters={"feature_dim": "2", "num_trees": "50", "num_samples_per_tree": "8"},
    )
    waiter = sagemaker.get_waiter("training_job_completed_or_stopped")
    waiter.wait(TrainingJobName="rcf-boto3", WaiterConfig=SOON)
    job = sagemaker.describe_training_job(TrainingJobName="rcf-boto3")
    assert job["TrainingJobStatus"] == "Completed", job
    container = {"Image": IMAGE, "ModelDataUrl": job["ModelArtifacts"]["S3ModelArtifacts"]}
    sagemaker.create_model(ModelName="rcf-boto3", PrimaryContainer=container, ExecutionRoleArn=ROLE)
    return "rcf-boto3"


def test_an_endpoint_answers_csv_and_json(server: RunningServer, model: str) -> None:
    sagemaker = server.client("sagemaker")
    serve(server, model)

    def ask(body: bytes, kind: str, accept: str) -> str:
        runtime = server.client("sagemaker-runtime")
        answer = runtime.invoke_endpoint(EndpointName=model, Body=body, ContentType=kind, Accept=accept)
        return str(answer["Body"].read().decode())

    scores = json.loads(ask(ASKED, "text/csv", "application/json"))["scores"]
    assert scores[1]["score"] > 2 * scores[0]["score"]
    body = json.dumps({"instances": [{"features": [0.1, 0.2]}, {"data": {"features": {"values": [8, -8]}}}]}).encode()
    lines = ask(body, "application/json", "application/jsonlines").splitlines()
    assert [json.loads(line) for line in lines] == scores
    sagemaker.delete_endpoint(EndpointName=model)
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=model, WaiterConfig=SOON)


def test_a_batch_transform_answers_every_row(server: RunningServer, model: str) -> None:
    s3, sagemaker = server.client("s3"), server.client("sagemaker")
    s3.put_object(Bucket=BUCKET, Key="batch/rows.csv", Body=ASKED * 10)
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/batch/"}
    sagemaker.create_transform_job(
        TransformJobName="rcf-boto3",
        ModelName=model,
        TransformInput={"DataSource": {"S3DataSource": source}, "ContentType": "text/csv", "SplitType": "Line"},
        TransformOutput={
            "S3OutputPath": f"s3://{BUCKET}/out",
            "AssembleWith": "Line",
            "Accept": "application/jsonlines",
        },
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
    )
    waiter = sagemaker.get_waiter("transform_job_completed_or_stopped")
    waiter.wait(TransformJobName="rcf-boto3", WaiterConfig=SOON)
    body = s3.get_object(Bucket=BUCKET, Key="out/rows.csv.out")["Body"].read()
    scores = [json.loads(line)["score"] for line in body.splitlines()]
    assert len(scores) == 20
    assert min(scores[1::2]) > 2 * max(scores[::2])
