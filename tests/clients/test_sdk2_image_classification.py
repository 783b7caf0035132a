"""Image Classification through real clients: the SDK's generic Estimator; boto3 with a job of two hosts and a batch
transform of pictures.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sagesmith.formats.images import png
from sagesmith.testing.server import RunningServer
from tests.algorithms.classification_pictures import SMALL, drawn, listed, recorded
from tests.clients.live import ROLE, run_flow

pytestmark = pytest.mark.slow

BUCKET = "image-classification-boto3"
IMAGE = "811284229777.dkr.ecr.us-east-1.amazonaws.com/image-classification:1"
SOON = {"Delay": 1, "MaxAttempts": 300}
SETTINGS = {name: str(value) for name, value in SMALL.items()} | {"num_classes": "3", "num_training_samples": "192"}
SETTINGS |= {"epochs": "6", "learning_rate": "0.02"}
HELD = drawn(48, seed=1)


@pytest.fixture(scope="module")
def seen(server: RunningServer, folder: Path) -> dict[str, Any]:
    recorded(folder / "ic-train" / "train.rec", 192)
    recorded(folder / "ic-validation" / "validation.rec", 48, seed=1)
    (folder / "ic-settings.json").write_text(json.dumps(SETTINGS))
    (folder / "ic-picture.png").write_bytes(png(HELD[0][1]))
    return run_flow(server, 2, "sdk2_image_classification", folder)


def test_the_estimator_trains_from_pipes_and_its_endpoint_answers(seen: dict[str, Any]) -> None:
    assert seen["image"].endswith("/image-classification:1")
    assert seen["metrics"]["validation:accuracy"] > 0.5
    assert "Saved checkpoint to" in seen["log"]
    assert len(seen["predict"]) == 3
    assert sum(seen["predict"]) == pytest.approx(1, abs=1e-5)


def test_training_goes_on_through_the_model_channel(seen: dict[str, Any]) -> None:
    assert "Training goes on from image-classification-" in seen["log"]
    assert seen["again"]["train:accuracy"] > 0.8


def test_boto3_trains_on_two_hosts_and_transforms_pictures(server: RunningServer, tmp_path: Path) -> None:
    s3, sagemaker, name = server.client("s3"), server.client("sagemaker"), "boto3-image-classification"
    s3.create_bucket(Bucket=BUCKET)
    for channel, count, seed in (("train", 192, 0), ("validation", 48, 1)):
        listed(tmp_path / channel, tmp_path / f"{channel}_lst", count, seed)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            s3.put_object(Bucket=BUCKET, Key=path.relative_to(tmp_path).as_posix(), Body=path.read_bytes())
    for number in range(3):
        s3.put_object(Bucket=BUCKET, Key=f"batch/{number}.png", Body=png(HELD[0][number]))

    def source(prefix: str) -> dict[str, Any]:
        return {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/{prefix}/"}}

    channels = ("train", "validation", "train_lst", "validation_lst")
    sagemaker.create_training_job(
        TrainingJobName=name,
        AlgorithmSpecification={"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        RoleArn=ROLE,
        InputDataConfig=[
            {"ChannelName": channel, "ContentType": "application/x-image", "DataSource": source(channel)}
            for channel in channels
        ],
        OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/models"},
        ResourceConfig={"InstanceType": "ml.p3.2xlarge", "InstanceCount": 2, "VolumeSizeInGB": 10},
        StoppingCondition={"MaxRuntimeInSeconds": 600},
        HyperParameters=SETTINGS | {"kv_store": "dist_sync", "mini_batch_size": "8", "resize": "16"},
    )
    sagemaker.get_waiter("training_job_completed_or_stopped").wait(TrainingJobName=name, WaiterConfig=SOON)
    described = sagemaker.describe_training_job(TrainingJobName=name)
    metrics = {metric["MetricName"]: metric["Value"] for metric in described["FinalMetricDataList"]}
    assert metrics["validation:accuracy"] > 0.5
    model = described["ModelArtifacts"]["S3ModelArtifacts"]
    sagemaker.create_model(
        ModelName=name, PrimaryContainer={"Image": IMAGE, "ModelDataUrl": model}, ExecutionRoleArn=ROLE
    )
    sagemaker.create_transform_job(
        TransformJobName=name,
        ModelName=name,
        TransformInput={"DataSource": source("batch"), "ContentType": "application/x-image", "SplitType": "None"},
        TransformOutput={
            "S3OutputPath": f"s3://{BUCKET}/out",
            "Accept": "application/jsonlines",
            "AssembleWith": "Line",
        },
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
    )
    sagemaker.get_waiter("transform_job_completed_or_stopped").wait(TransformJobName=name, WaiterConfig=SOON)
    for number in range(3):
        written = s3.get_object(Bucket=BUCKET, Key=f"out/{number}.png.out")["Body"].read().decode()
        (line,) = written.splitlines()
        assert np.sum(json.loads(line)["prediction"]) == pytest.approx(1, abs=1e-5)
