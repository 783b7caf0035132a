"""PCA through real clients: the SDK's own class, and boto3 with CSV, JSON Lines and a batch transform."""

from __future__ import annotations

import io
import json
import tarfile
from typing import Any

import numpy as np
import pytest

from sagesmith.algorithms import PCA
from sagesmith.testing.server import RunningServer
from tests.clients.live import ROLE, run_flow, serve, transform_lines

pytestmark = pytest.mark.slow

IMAGE = "382416733822.dkr.ecr.us-east-1.amazonaws.com/pca:1"
BUCKET = "pca-bucket"
SOON = {"Delay": 1, "MaxAttempts": 120}
ROWS = (np.random.default_rng(5).normal(size=(300, 6)) * np.arange(1, 7) + 3).round(3).astype(np.float32)


def csv(rows: np.ndarray) -> str:
    return "".join(",".join(f"{value:.3f}" for value in row) + "\n" for row in rows)


@pytest.fixture(scope="module")
def expected() -> PCA:
    return PCA(num_components=3).fit(ROWS)


@pytest.fixture(scope="module")
def seen(server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("pca")
    (folder / "rows.csv").write_text(csv(ROWS))
    return run_flow(server, 2, "sdk2_pca", folder)


def arrays_of(server: RunningServer, uri: str) -> dict[str, np.ndarray]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    body = server.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        content = archive.extractfile("model_algo-1")
        assert content is not None
        with np.load(io.BytesIO(content.read())) as arrays:
            return dict(arrays)


def test_the_sdks_estimator_trains_on_two_hosts(seen: dict[str, Any], server: RunningServer, expected: PCA) -> None:
    given = seen["regular"]["hyperparameters"]
    assert {name: given[name] for name in ("feature_dim", "num_components")} == {
        "feature_dim": "6",
        "num_components": "3",
    }
    log = seen["regular"]["log"]
    assert log.count("6 feature(s) found in 'data'.") == 2, "each host has its shard"
    assert "Test data is not provided." in log
    arrays = arrays_of(server, seen["regular"]["model_data"])
    np.testing.assert_allclose(arrays["s"], expected.s_, rtol=1e-5)
    np.testing.assert_allclose(arrays["v"], expected.v_, atol=1e-5)


def test_the_sdks_predictor_gets_projections(seen: dict[str, Any], expected: PCA) -> None:
    np.testing.assert_allclose(seen["projections"], expected.transform(ROWS[:4]), rtol=1e-4, atol=1e-4)


def test_the_sdks_estimator_trains_by_a_sketch(seen: dict[str, Any], server: RunningServer, expected: PCA) -> None:
    assert "algorithm_mode randomized keeps a sketch of 5 rows" in seen["randomized"]["log"]
    arrays = arrays_of(server, seen["randomized"]["model_data"])
    lost = (arrays["v"].T @ expected.v_) ** 2
    assert lost.sum() > 2.9, "of three directions, nearly all is found"


def train(server: RunningServer, name: str) -> str:
    sagemaker = server.client("sagemaker")
    channels = []
    for channel in ("train", "test"):
        source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/rows/"}
        channels.append(
            {
                "ChannelName": channel,
                "ContentType": "text/csv;label_size=0",
                "DataSource": {"S3DataSource": source},
            }
        )
    sagemaker.create_training_job(
        TrainingJobName=name,
        AlgorithmSpecification={"TrainingImage": IMAGE, "TrainingInputMode": "Pipe"},
        RoleArn=ROLE,
        InputDataConfig=channels,
        OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/models"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10},
        StoppingCondition={"MaxRuntimeInSeconds": 600},
        HyperParameters={"feature_dim": "6", "num_components": "3", "mini_batch_size": "100"},
    )
    sagemaker.get_waiter("training_job_completed_or_stopped").wait(TrainingJobName=name, WaiterConfig=SOON)
    job = sagemaker.describe_training_job(TrainingJobName=name)
    assert {metric["MetricName"] for metric in job["FinalMetricDataList"]} == {"train:progress", "train:throughput"}
    return str(job["ModelArtifacts"]["S3ModelArtifacts"])


def test_boto3_trains_from_a_pipe_serves_and_transforms(server: RunningServer, expected: PCA) -> None:
    sagemaker, s3 = server.client("sagemaker"), server.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key="rows/a.csv", Body=csv(ROWS).encode())
    container = {"Image": IMAGE, "ModelDataUrl": train(server, "boto3-pca")}
    sagemaker.create_model(ModelName="boto3-pca", PrimaryContainer=container, ExecutionRoleArn=ROLE)
    serve(server, "boto3-pca")
    body = "".join(json.dumps({"features": row}) + "\n" for row in ROWS[:3].tolist())
    answer = server.client("sagemaker-runtime").invoke_endpoint(
        EndpointName="boto3-pca", ContentType="application/jsonlines", Accept="application/json", Body=body.encode()
    )
    found = [row["projection"] for row in json.loads(answer["Body"].read())["projections"]]
    np.testing.assert_allclose(found, expected.transform(ROWS[:3]), rtol=1e-4, atol=1e-4)
    transform_lines(
        server, "boto3-pca", f"s3://{BUCKET}/rows/", f"s3://{BUCKET}/out", "text/csv", "application/jsonlines"
    )
    lines = s3.get_object(Bucket=BUCKET, Key="out/a.csv.out")["Body"].read().splitlines()
    found = [json.loads(line)["projection"] for line in lines if line]
    np.testing.assert_allclose(found, expected.transform(ROWS), rtol=1e-4, atol=1e-4)
