"""Linear Learner through the SageMaker Python SDK v2's own estimator, and boto3 with CSV, JSON and a transform."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sagesmith.testing.server import RunningServer
from tests.clients.live import ROLE, run_flow

pytestmark = pytest.mark.slow

IMAGE = "382416733822.dkr.ecr.us-east-1.amazonaws.com/linear-learner:1"
BUCKET = "linear-learner-bucket"
SOON = {"Delay": 1, "MaxAttempts": 120}


@pytest.fixture(scope="module")
def seen(server: RunningServer, folder: Path) -> dict[str, Any]:
    return run_flow(server, 2, "sdk2_linear_learner", folder)


def test_the_sdks_estimator_trains_on_two_instances(seen: dict[str, Any]) -> None:
    assert seen["image"] == IMAGE
    assert seen["metrics"]["validation:binary_classification_accuracy"] > 0.9
    assert {"train:objective_loss:final", "validation:roc_auc_score", "train:progress"} <= set(seen["metrics"])
    assert seen["model_data"].endswith("/output/model.tar.gz")


def test_its_predictor_reads_scores_and_labels(seen: dict[str, Any], folder: Path) -> None:
    truth = np.loadtxt(folder / "train.csv", delimiter=",")[300:, 0]
    assert seen["predictor"] == "LinearLearnerPredictor"
    assert (np.array(seen["predicted_label"]) == truth).mean() > 0.9
    assert all(0 <= score <= 1 for score in seen["score"])
    assert seen["left"] == []


@pytest.fixture(scope="module")
def model(server: RunningServer, folder: Path) -> str:
    """A model trained by boto3 from CSV."""
    s3, sagemaker = server.client("s3"), server.client("sagemaker")
    s3.create_bucket(Bucket=BUCKET)
    for name in ("train", "features"):
        s3.upload_file(str(folder / f"{name}.csv"), BUCKET, f"{name}/data.csv")
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/train/"}}
    sagemaker.create_training_job(
        TrainingJobName="boto3-linear-learner",
        AlgorithmSpecification={"TrainingImage": IMAGE, "TrainingInputMode": "Pipe"},
        RoleArn=ROLE,
        InputDataConfig=[{"ChannelName": "train", "ContentType": "text/csv", "DataSource": source}],
        OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/models"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10},
        StoppingCondition={"MaxRuntimeInSeconds": 600},
        HyperParameters={"predictor_type": "binary_classifier", "epochs": "6", "mini_batch_size": "50"},
    )
    waiter = sagemaker.get_waiter("training_job_completed_or_stopped")
    waiter.wait(TrainingJobName="boto3-linear-learner", WaiterConfig=SOON)
    job = sagemaker.describe_training_job(TrainingJobName="boto3-linear-learner")
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    container = {"Image": IMAGE, "ModelDataUrl": job["ModelArtifacts"]["S3ModelArtifacts"]}
    sagemaker.create_model(ModelName="linear-learner", PrimaryContainer=container, ExecutionRoleArn=ROLE)
    return "linear-learner"


def test_boto3_asks_an_endpoint_in_csv_and_json(server: RunningServer, model: str, folder: Path) -> None:
    sagemaker, runtime = server.client("sagemaker"), server.client("sagemaker-runtime")
    variant = {"VariantName": "all", "ModelName": model, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName=model, ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName="linear-learner", EndpointConfigName=model)
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="linear-learner", WaiterConfig=SOON)
    lines = (folder / "features.csv").read_text().splitlines()[:3]
    instances = {"instances": [{"features": [float(cell) for cell in line.split(",")]} for line in lines]}
    answers = [
        json.loads(runtime.invoke_endpoint(EndpointName="linear-learner", ContentType=kind, Body=body)["Body"].read())
        for kind, body in (("text/csv", "\n".join(lines)), ("application/json", json.dumps(instances)))
    ]
    assert answers[0] == answers[1]
    assert [sorted(row) for row in answers[0]["predictions"]] == [["predicted_label", "score"]] * 3
    sagemaker.delete_endpoint(EndpointName="linear-learner")


def test_a_transform_answers_every_row(server: RunningServer, model: str) -> None:
    sagemaker = server.client("sagemaker")
    sagemaker.create_transform_job(
        TransformJobName="linear-learner",
        ModelName=model,
        TransformInput={
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/features/"}},
            "ContentType": "text/csv",
            "SplitType": "Line",
        },
        TransformOutput={
            "S3OutputPath": f"s3://{BUCKET}/out", "Accept": "application/jsonlines", "AssembleWith": "Line"
        },
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
    )  # fmt: skip
    sagemaker.get_waiter("transform_job_completed_or_stopped").wait(
        TransformJobName="linear-learner", WaiterConfig=SOON
    )
    body = server.client("s3").get_object(Bucket=BUCKET, Key="out/data.csv.out")["Body"].read().decode()
    rows = [json.loads(line) for line in body.splitlines() if line]
    assert len(rows) == 20
    assert {row["predicted_label"] for row in rows} == {0, 1}
