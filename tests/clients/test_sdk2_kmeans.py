"""k-means through real clients: the SDK's own KMeans class, and boto3 with CSV, JSON answers and a batch transform."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sagesmith.testing.server import RunningServer
from tests.clients.live import ROLE, run_flow, serve

pytestmark = pytest.mark.slow

IMAGE = "174872318107.dkr.ecr.us-east-1.amazonaws.com/kmeans:1"
BUCKET = "boto3-kmeans"
PLACES = [[0.0, 0.0], [20.0, 0.0], [0.0, 20.0]]
SOON = {"Delay": 1, "MaxAttempts": 120}


def clouds() -> np.ndarray:
    """600 rows around three places in turn."""
    random = np.random.default_rng(0)
    return np.round(np.tile(PLACES, (200, 1)) + random.normal(size=(600, 2)), 3)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kmeans")
    np.savetxt(folder / "clouds.csv", clouds(), delimiter=",", fmt="%.3f")
    return folder


@pytest.fixture(scope="module")
def seen(server: RunningServer, data: Path) -> dict[str, Any]:
    return run_flow(server, 2, "sdk2_kmeans", data)


def centers(server: RunningServer, uri: str) -> list[list[float]]:
    """The centers of a model artifact, rounded and sorted."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    body = server.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        file = archive.extractfile("model_algo-1")
        assert file is not None
        with np.load(io.BytesIO(file.read())) as arrays:
            return sorted(np.round(arrays["centers"], 0).tolist())


def test_the_sdks_own_class_fits_on_two_instances(seen: dict[str, Any], server: RunningServer) -> None:
    assert centers(server, seen["model"]) == sorted(PLACES)
    assert seen["log"].count("shrinking 24 centers into 3") == 2, "two instances of 12 centers each tell of it"
    assert "local kmeans attempt #2. Current mean square distance" in seen["log"]
    assert {"train:msd", "test:msd", "test:ssd", "train:progress", "train:throughput"} <= set(seen["metrics"])
    assert seen["metrics"]["test:msd"] == pytest.approx(2, abs=0.5)
    assert seen["metrics"]["test:ssd"] == pytest.approx(60 * seen["metrics"]["test:msd"], rel=1e-4)
    assert seen["hyperparameters"]["force_dense"] == "True"


def test_the_sdks_predictor_reads_the_answers(seen: dict[str, Any]) -> None:
    groups = [seen["clusters"][start::3] for start in range(3)]
    assert sorted({group[0] for group in groups}) == [0.0, 1.0, 2.0]
    assert all(len(set(group)) == 1 for group in groups)
    assert all(0 < distance < 4 for distance in seen["distances"])


@pytest.fixture(scope="module")
def model(server: RunningServer) -> str:
    """A model from a job of boto3: CSV without labels, in Pipe mode."""
    s3, sagemaker = server.client("s3"), server.client("sagemaker")
    s3.create_bucket(Bucket=BUCKET)
    text = "".join(f"{x},{y}\n" for x, y in clouds())
    s3.put_object(Bucket=BUCKET, Key="train/data.csv", Body=text.encode())
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/train/"}}
    channel = {"ChannelName": "train", "ContentType": "text/csv;label_size=0", "DataSource": source}
    sagemaker.create_training_job(
        TrainingJobName="boto3-kmeans",
        AlgorithmSpecification={"TrainingImage": IMAGE, "TrainingInputMode": "Pipe"},
        RoleArn=ROLE,
        InputDataConfig=[channel],
        OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/models"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10},
        StoppingCondition={"MaxRuntimeInSeconds": 600},
        HyperParameters={"k": "3", "feature_dim": "2", "epochs": "2", "init_method": "kmeans++"},
    )
    waiter = sagemaker.get_waiter("training_job_completed_or_stopped")
    waiter.wait(TrainingJobName="boto3-kmeans", WaiterConfig=SOON)
    job = sagemaker.describe_training_job(TrainingJobName="boto3-kmeans")
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    uri = job["ModelArtifacts"]["S3ModelArtifacts"]
    assert centers(server, uri) == sorted(PLACES)
    container = {"Image": IMAGE, "ModelDataUrl": uri}
    sagemaker.create_model(ModelName="boto3-kmeans", PrimaryContainer=container, ExecutionRoleArn=ROLE)
    return "boto3-kmeans"


def test_an_endpoint_answers_csv_with_json_and_csv(server: RunningServer, model: str) -> None:
    sagemaker, runtime = server.client("sagemaker"), server.client("sagemaker-runtime")
    serve(server, model)
    request = {"EndpointName": model, "ContentType": "text/csv", "Body": b"0,0\n21,0\n"}
    answer = json.loads(runtime.invoke_endpoint(**request, Accept="application/json")["Body"].read())
    first, second = answer["predictions"]
    assert first["closest_cluster"] != second["closest_cluster"]
    assert second["distance_to_cluster"] == pytest.approx(1, abs=0.4)
    lines = runtime.invoke_endpoint(**request, Accept="text/csv")["Body"].read().decode().splitlines()
    assert [float(cell) for cell in lines[1].split(",")] == [second["closest_cluster"], second["distance_to_cluster"]]
    sagemaker.delete_endpoint(EndpointName=model)


def test_a_batch_transform_answers_every_row(server: RunningServer, model: str) -> None:
    sagemaker = server.client("sagemaker")
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/train/"}
    sagemaker.create_transform_job(
        TransformJobName="boto3-kmeans",
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
    waiter.wait(TransformJobName="boto3-kmeans", WaiterConfig=SOON)
    body = server.client("s3").get_object(Bucket=BUCKET, Key="out/data.csv.out")["Body"].read()
    answers = [json.loads(line) for line in body.splitlines()]
    assert len(answers) == 600
    assert len({answer["closest_cluster"] for answer in answers[::3]}) == 1
