"""Object Detection through real clients: the SDK's generic Estimator; boto3 with a piped manifest and a transform."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sagesmith.formats.images import jpeg
from sagesmith.testing.server import RunningServer
from tests.algorithms.detection_scenes import annotation, drawn, write_records
from tests.clients.live import ROLE, run_flow

pytestmark = pytest.mark.slow

BUCKET = "object-detection-boto3"
IMAGE = "811284229777.dkr.ecr.us-east-1.amazonaws.com/object-detection:1"
SOON = {"Delay": 1, "MaxAttempts": 600}


@pytest.fixture(scope="module")
def seen(server: RunningServer, folder: Path) -> dict[str, Any]:
    write_records(folder / "od-train.rec", *drawn(2))
    held = drawn(1, seed=1)
    write_records(folder / "od-validation.rec", *held)
    (folder / "od-picture.jpg").write_bytes(jpeg(held[0][0]))
    return run_flow(server, 2, "sdk2_object_detection", folder, seconds=280)


def test_the_estimator_trains_and_its_metrics_are_found(seen: dict[str, Any]) -> None:
    assert "/object-detection:1" in seen["image"]
    assert set(seen["metrics"]) >= {"validation:mAP", "train:cross_entropy", "train:smooth_l1", "train:progress"}
    assert 0 < seen["metrics"]["train:cross_entropy"] < 20
    assert seen["metrics"]["train:progress"] == 100
    assert "#quality_metric: host=algo-1, epoch=0, validation mAP <score>=(" in seen["log"]


def test_the_endpoint_answers_in_both_forms(seen: dict[str, Any]) -> None:
    rows = seen["prediction"]["prediction"]
    assert all(len(row) == 6 and min(row[2:]) >= 0 and max(row[2:]) <= 1 for row in rows)
    assert seen["annotation"]["image_size"] == [{"width": 96, "height": 96, "depth": 3}]
    assert len(seen["annotation"]["annotations"]) == len(rows)


def test_boto3_trains_from_a_manifest_in_a_pipe_and_transforms(server: RunningServer) -> None:
    s3, sagemaker, name = server.client("s3"), server.client("sagemaker"), "boto3-object-detection"
    s3.create_bucket(Bucket=BUCKET)
    images, objects = drawn(3)
    lines = []
    for number, (image, one) in enumerate(zip(images, objects, strict=True)):
        s3.put_object(Bucket=BUCKET, Key=f"pictures/{number}.jpg", Body=jpeg(image))
        label = {k: v for k, v in annotation("", image, one).items() if k in ("image_size", "annotations")}
        metadata = {"class-map": {"0": "disc", "1": "square"}, "type": "groundtruth/object-detection"}
        lines.append(
            {
                "source-ref": f"s3://{BUCKET}/pictures/{number}.jpg",
                "bounding-box": label,
                "bounding-box-metadata": metadata,
            }
        )
    s3.put_object(Bucket=BUCKET, Key="train.manifest", Body="\n".join(map(json.dumps, lines)).encode())
    source = {
        "S3DataType": "AugmentedManifestFile", "S3Uri": f"s3://{BUCKET}/train.manifest",
        "S3DataDistributionType": "FullyReplicated", "AttributeNames": ["source-ref", "bounding-box"],
    }  # fmt: skip
    channel = {"ContentType": "application/x-recordio", "RecordWrapperType": "RecordIO", "InputMode": "Pipe"}
    channel |= {"CompressionType": "None", "DataSource": {"S3DataSource": source}}
    settings = {
        "base_network": "resnet-50", "use_pretrained_model": 0, "num_classes": 2, "mini_batch_size": 3, "epochs": 2,
        "num_training_samples": 3,
    }  # fmt: skip
    sagemaker.create_training_job(
        TrainingJobName=name,
        AlgorithmSpecification={"TrainingImage": IMAGE, "TrainingInputMode": "Pipe"},
        RoleArn=ROLE,
        InputDataConfig=[channel | {"ChannelName": part} for part in ("train", "validation")],
        OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/models"},
        ResourceConfig={"InstanceType": "ml.p3.2xlarge", "InstanceCount": 1, "VolumeSizeInGB": 10},
        StoppingCondition={"MaxRuntimeInSeconds": 3600},
        HyperParameters={key: str(value) for key, value in settings.items()},
    )
    sagemaker.get_waiter("training_job_completed_or_stopped").wait(TrainingJobName=name, WaiterConfig=SOON)
    described = sagemaker.describe_training_job(TrainingJobName=name)
    assert described["TrainingJobStatus"] == "Completed", described.get("FailureReason")
    model = described["ModelArtifacts"]["S3ModelArtifacts"]
    container = {"Image": IMAGE, "ModelDataUrl": model}
    sagemaker.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=ROLE)
    sagemaker.create_transform_job(
        TransformJobName=name,
        ModelName=name,
        TransformInput={
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/pictures/"}},
            "ContentType": "application/x-image",
            "SplitType": "None",
        },
        TransformOutput={"S3OutputPath": f"s3://{BUCKET}/out", "Accept": "application/json"},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
    )
    sagemaker.get_waiter("transform_job_completed_or_stopped").wait(TransformJobName=name, WaiterConfig=SOON)
    for number in range(3):
        written = json.loads(s3.get_object(Bucket=BUCKET, Key=f"out/{number}.jpg.out")["Body"].read())
        assert list(written) == ["prediction"]
        assert all(len(row) == 6 for row in written["prediction"])
