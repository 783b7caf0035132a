"""Semantic Segmentation through real clients: the SDK's generic Estimator with files; boto3 with an augmented manifest
through pipes, an endpoint and a batch transform of pictures.
"""

from __future__ import annotations

import base64
import io
import json
import tarfile
from typing import Any

import numpy as np
import pytest

from sagesmith.formats.frames import frames
from sagesmith.formats.images import jpeg, mask_of, png
from sagesmith.formats.protobuf import decode
from sagesmith.testing.server import RunningServer
from tests.algorithms.semantic_segmentation_scenes import drawn, written
from tests.clients.live import ROLE, run_flow

pytestmark = pytest.mark.slow

BUCKET, NAME = "segmentation-boto3", "boto3-segmentation"
IMAGE = "433757028032.dkr.ecr.us-west-2.amazonaws.com/semantic-segmentation:1"
SOON = {"Delay": 1, "MaxAttempts": 240}
SETTINGS = {
    "num_classes": "3", "num_training_samples": "6", "use_pretrained_model": "False", "base_size": "40",
    "crop_size": "24", "mini_batch_size": "3", "epochs": "2", "learning_rate": "0.01",
}  # fmt: skip
SCENES = {"train": drawn(6, (32, 40)), "validation": drawn(3, (32, 40), seed=1)}
PICTURE = jpeg(SCENES["validation"][0][0])


@pytest.fixture(scope="module")
def seen(server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("segmentation")
    for name, scenes in SCENES.items():
        written(folder, *scenes, name=name)
    (folder / "ask.jpg").write_bytes(PICTURE)
    (folder / "settings.json").write_text(json.dumps(SETTINGS))
    return run_flow(server, 2, "sdk2_semantic_segmentation", folder, 300)


def test_the_sdk_trains_and_measures(seen: dict[str, Any]) -> None:
    assert seen["image"].endswith("/semantic-segmentation:1")
    assert "#quality_metric. host: algo-1, epoch: 1, validation mIOU: " in seen["log"]
    metrics = seen["metrics"]
    assert 0 < metrics["validation:mIOU"] <= 1
    assert 0 < metrics["validation:pixel_accuracy"] <= 1
    assert metrics["train:loss"] > 0


def test_the_sdk_asks_for_a_mask(seen: dict[str, Any]) -> None:
    mask = mask_of(base64.b64decode(seen["mask"]), "answer")
    assert (mask.shape, mask.max() < 3) == ((32, 40), True)
    assert seen["left"] == []


def test_boto3_trains_from_a_manifest_serves_and_transforms(server: RunningServer) -> None:
    s3, sagemaker = server.client("s3"), server.client("sagemaker")
    s3.create_bucket(Bucket=BUCKET)
    for name, (images, masks) in SCENES.items():
        lines = []
        for number, (image, mask) in enumerate(zip(images, masks, strict=True)):
            line = {"source-ref": f"{name}/{number}.jpg", "streets-ref": f"{name}/masks/{number}.png"}
            for key, body in zip(line.values(), (jpeg(image), png(mask)), strict=True):
                s3.put_object(Bucket=BUCKET, Key=key, Body=body)
            lines.append(
                {key: f"s3://{BUCKET}/{value}" for key, value in line.items()} | {"streets-metadata": {"a": 1}}
            )
        manifest = "".join(json.dumps(line) + "\n" for line in lines)
        s3.put_object(Bucket=BUCKET, Key=f"{name}.manifest", Body=manifest.encode())
    sagemaker.create_training_job(
        TrainingJobName=NAME,
        AlgorithmSpecification={"TrainingImage": IMAGE, "TrainingInputMode": "Pipe"},
        RoleArn=ROLE,
        InputDataConfig=[manifest_channel(name) for name in SCENES],
        OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/models"},
        ResourceConfig={"InstanceType": "ml.p3.2xlarge", "InstanceCount": 1, "VolumeSizeInGB": 10},
        StoppingCondition={"MaxRuntimeInSeconds": 600},
        HyperParameters=SETTINGS,
    )
    sagemaker.get_waiter("training_job_completed_or_stopped").wait(TrainingJobName=NAME, WaiterConfig=SOON)
    described = sagemaker.describe_training_job(TrainingJobName=NAME)
    assert described["TrainingJobStatus"] == "Completed", described.get("FailureReason")
    model = described["ModelArtifacts"]["S3ModelArtifacts"]
    body = s3.get_object(Bucket=BUCKET, Key=model.partition(f"{BUCKET}/")[2])["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        assert sorted(archive.getnames()) == ["hyperparams.json", "model_best.params"]
    container = {"Image": IMAGE, "ModelDataUrl": model}
    sagemaker.create_model(ModelName=NAME, PrimaryContainer=container, ExecutionRoleArn=ROLE)

    mask = served(server)
    for number, image in enumerate(SCENES["validation"][0]):
        s3.put_object(Bucket=BUCKET, Key=f"batch/{number}.jpg", Body=jpeg(image))
    transformed(server, "png", "image/png")
    answers = [s3.get_object(Bucket=BUCKET, Key=f"png/{number}.jpg.out")["Body"].read() for number in range(3)]
    assert [mask_of(answer, "answer").shape for answer in answers] == [(32, 40)] * 3
    assert np.array_equal(mask_of(answers[0], "answer"), mask)
    transformed(server, "protobuf", "application/x-protobuf")
    (payload,) = frames(io.BytesIO(s3.get_object(Bucket=BUCKET, Key="protobuf/0.jpg.out")["Body"].read()))
    features = decode(payload).features
    assert features["shape"].values.tolist() == [1, 3, 32, 40]


def manifest_channel(name: str) -> dict[str, Any]:
    source = {
        "S3DataType": "AugmentedManifestFile", "S3Uri": f"s3://{BUCKET}/{name}.manifest",
        "S3DataDistributionType": "FullyReplicated", "AttributeNames": ["source-ref", "streets-ref"],
    }  # fmt: skip
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}, "ContentType": "application/x-recordio",
            "RecordWrapperType": "RecordIO", "InputMode": "Pipe"}  # fmt: skip


def served(server: RunningServer) -> np.ndarray:
    """The mask that an endpoint answers; what it refuses."""
    sagemaker, runtime = server.client("sagemaker"), server.client("sagemaker-runtime")
    variant = {"VariantName": "v", "ModelName": NAME, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName=NAME, ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName=NAME, EndpointConfigName=NAME)
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=NAME, WaiterConfig=SOON)
    given = {"EndpointName": NAME, "ContentType": "image/jpeg", "Body": PICTURE}
    answer = runtime.invoke_endpoint(Accept="image/png", **given)
    assert answer["ContentType"] == "image/png"
    with pytest.raises(runtime.exceptions.ModelError, match=r"406.*image/png, application/x-protobuf"):
        runtime.invoke_endpoint(Accept="application/json", **given)
    sagemaker.delete_endpoint(EndpointName=NAME)
    return mask_of(answer["Body"].read(), "answer")


def transformed(server: RunningServer, out: str, accept: str) -> None:
    sagemaker, name = server.client("sagemaker"), f"{NAME}-{out}"
    sagemaker.create_transform_job(
        TransformJobName=name,
        ModelName=NAME,
        TransformInput={
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/batch/"}},
            "ContentType": "image/jpeg",
        },
        TransformOutput={"S3OutputPath": f"s3://{BUCKET}/{out}", "Accept": accept},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
    )
    sagemaker.get_waiter("transform_job_completed_or_stopped").wait(TransformJobName=name, WaiterConfig=SOON)
    described = sagemaker.describe_transform_job(TransformJobName=name)
    assert described["TransformJobStatus"] == "Completed", described.get("FailureReason")
