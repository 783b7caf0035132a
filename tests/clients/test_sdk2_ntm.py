"""NTM through real clients: the SDK's own class, and boto3 with sparse RecordIO, JSON Lines and a batch transform."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from sagesmith.algorithms import NTM
from sagesmith.formats.batch import Batch
from sagesmith.formats.recordio_writer import write_records
from sagesmith.testing.server import RunningServer
from tests.algorithms.lda_corpus import bars, drawn
from tests.clients.live import ROLE, run_flow, serve, transform_lines

pytestmark = pytest.mark.slow

IMAGE = "766337827248.dkr.ecr.us-east-1.amazonaws.com/ntm:1"
BUCKET = "ntm-bucket"
SOON = {"Delay": 1, "MaxAttempts": 120}
COUNTS = drawn(bars()[:5], 300, 60)


def csv(rows: np.ndarray) -> str:
    return "".join(",".join(f"{value:g}" for value in row) + "\n" for row in rows)


@pytest.fixture(scope="module")
def seen(server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("ntm")
    (folder / "counts.csv").write_text(csv(COUNTS))
    return run_flow(server, 2, "sdk2_ntm", folder)


def test_the_sdks_estimator_trains_and_its_predictor_gets_weights(seen: dict[str, Any]) -> None:
    given = seen["hyperparameters"]
    assert (given["feature_dim"], given["mini_batch_size"], given["num_topics"]) == ("25", "32", "5")
    assert {"train:total_loss", "validation:total_loss", "test:total_loss"} <= set(seen["metrics"])
    assert 0 < seen["metrics"]["test:total_loss"] < np.log(25) + 1
    assert "#quality_metric: host=algo-1, epoch=" in seen["log"]
    assert seen["model_data"].endswith("/model.tar.gz")
    weights = np.array(seen["weights"])
    assert weights.shape == (4, 5)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-4)


def train(server: RunningServer) -> str:
    sagemaker = server.client("sagemaker")
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/train/"}
    channel = {
        "ChannelName": "train",
        "ContentType": "application/x-recordio-protobuf",
        "DataSource": {"S3DataSource": source},
    }
    sagemaker.create_training_job(
        TrainingJobName="boto3-ntm",
        AlgorithmSpecification={"TrainingImage": IMAGE, "TrainingInputMode": "Pipe"},
        RoleArn=ROLE,
        InputDataConfig=[channel],
        OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/models"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10},
        StoppingCondition={"MaxRuntimeInSeconds": 600},
        HyperParameters={"feature_dim": "25", "num_topics": "5", "epochs": "3", "mini_batch_size": "32"},
    )
    sagemaker.get_waiter("training_job_completed_or_stopped").wait(TrainingJobName="boto3-ntm", WaiterConfig=SOON)
    return str(sagemaker.describe_training_job(TrainingJobName="boto3-ntm")["ModelArtifacts"]["S3ModelArtifacts"])


def test_boto3_trains_from_a_pipe_serves_and_transforms(server: RunningServer) -> None:
    expected = NTM(num_topics=5, epochs=3, mini_batch_size=32).fit(COUNTS).transform(COUNTS)
    sagemaker, s3 = server.client("sagemaker"), server.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key="train/a.pbr", Body=write_records(Batch(sparse.csr_matrix(COUNTS))))
    s3.put_object(Bucket=BUCKET, Key="rows/a.csv", Body=csv(COUNTS).encode())
    container = {"Image": IMAGE, "ModelDataUrl": train(server)}
    sagemaker.create_model(ModelName="boto3-ntm", PrimaryContainer=container, ExecutionRoleArn=ROLE)
    serve(server, "boto3-ntm")
    thin = {"keys": [0, 3], "shape": [25], "values": [4, 2]}
    answer = server.client("sagemaker-runtime").invoke_endpoint(
        EndpointName="boto3-ntm",
        ContentType="application/jsonlines",
        Accept="application/jsonlines",
        Body=json.dumps({"data": {"features": thin}}).encode(),
    )
    (line,) = answer["Body"].read().splitlines()
    assert sum(json.loads(line)["topic_weights"]) == pytest.approx(1, rel=1e-5)
    transform_lines(
        server, "boto3-ntm", f"s3://{BUCKET}/rows/", f"s3://{BUCKET}/out", "text/csv", "application/jsonlines"
    )
    lines = s3.get_object(Bucket=BUCKET, Key="out/a.csv.out")["Body"].read().splitlines()
    found = [json.loads(line)["topic_weights"] for line in lines if line]
    np.testing.assert_allclose(found, expected, atol=1e-3)
