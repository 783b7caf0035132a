"""Factorization machines through real clients: the SDK's own estimator class, and boto3 with sparse rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sagesmith.formats.batch import Batch
from sagesmith.formats.recordio_writer import write_records
from sagesmith.testing.server import RunningServer
from tests.algorithms.fm_reference import sparse_rows
from tests.clients.live import ROLE, run_flow, serve

pytestmark = pytest.mark.slow

IMAGE = "382416733822.dkr.ecr.us-east-1.amazonaws.com/factorization-machines:1"
RECORDIO = "application/x-recordio-protobuf"
BUCKET = "factorization-machines"
SOON = {"Delay": 1, "MaxAttempts": 120}
X = sparse_rows(200, 30)
y = (X @ np.linspace(-1, 2, 30)).astype(np.float32)


@pytest.fixture(scope="module")
def seen(server: RunningServer, folder: Path) -> dict[str, Any]:
    return run_flow(server, 2, "sdk2_factorization_machines", folder)


def metrics(seen: dict[str, Any]) -> dict[str, float]:
    return {metric["MetricName"]: metric["Value"] for metric in seen["metrics"]}


def test_the_sdks_estimator_trains_and_serves_a_regressor(seen: dict[str, Any]) -> None:
    one = seen["regressor"]
    assert one["hyperparameters"]["feature_dim"] == "3"
    assert "#progress_metric: host=algo-1, completed 100.0 % of epochs" in one["log"]
    assert metrics(one)["test:rmse"] < 0.05
    scores = [fields["score"] for fields in one["fields"]]
    assert set(one["fields"][0]) == {"score"}
    assert np.abs(np.subtract(scores, one["expected"])).max() < 0.2


def test_the_sdks_estimator_trains_a_classifier_on_two_hosts(seen: dict[str, Any]) -> None:
    one = seen["classifier"]
    assert metrics(one)["test:binary_classification_accuracy"] > 0.9
    assert metrics(one)["test:binary_f_beta"] > 0.9
    labels = [fields["predicted_label"] for fields in one["fields"]]
    assert labels == [float(fields["score"] >= 0.5) for fields in one["fields"]]
    assert np.mean(np.equal(labels, one["expected"])) >= 0.9


@pytest.fixture(scope="module")
def trained(server: RunningServer) -> str:
    """A model trained from sparse rows in Pipe mode, and made known; its name."""
    s3, sagemaker = server.client("s3"), server.client("sagemaker")
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key="train/rows.pbr", Body=write_records(Batch(X, y)))
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/train/"}}
    sagemaker.create_training_job(
        TrainingJobName="boto3-fm",
        AlgorithmSpecification={"TrainingImage": IMAGE, "TrainingInputMode": "Pipe"},
        RoleArn=ROLE,
        InputDataConfig=[{"ChannelName": "train", "ContentType": RECORDIO, "DataSource": source}],
        OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/models"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10},
        StoppingCondition={"MaxRuntimeInSeconds": 600},
        HyperParameters={
            "feature_dim": "30", "num_factors": "2", "predictor_type": "regressor", "epochs": "30",
            "mini_batch_size": "20", "linear_lr": "0.1", "_tuning_objective_metric": "train:rmse",
        },
    )  # fmt: skip
    sagemaker.get_waiter("training_job_completed_or_stopped").wait(TrainingJobName="boto3-fm", WaiterConfig=SOON)
    job = sagemaker.describe_training_job(TrainingJobName="boto3-fm")
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    container = {"Image": IMAGE, "ModelDataUrl": job["ModelArtifacts"]["S3ModelArtifacts"]}
    sagemaker.create_model(ModelName="boto3-fm", PrimaryContainer=container, ExecutionRoleArn=ROLE)
    return "boto3-fm"


def sparse_instances(rows: Any) -> list[dict[str, Any]]:
    return [
        {"data": {"features": {"keys": row.indices.tolist(), "shape": [30], "values": row.data.tolist()}}}
        for row in rows
    ]


def test_boto3_asks_an_endpoint_with_sparse_json(server: RunningServer, trained: str) -> None:
    sagemaker, runtime = server.client("sagemaker"), server.client("sagemaker-runtime")
    serve(server, trained)
    body = json.dumps({"instances": sparse_instances(X[10:15])})
    answer = runtime.invoke_endpoint(EndpointName=trained, ContentType="application/json", Body=body)
    scores = [prediction["score"] for prediction in json.loads(answer["Body"].read())["predictions"]]
    assert np.abs(np.subtract(scores, y[10:15])).max() < 0.5
    with pytest.raises(runtime.exceptions.ModelError) as caught:
        runtime.invoke_endpoint(EndpointName=trained, ContentType="text/csv", Body=b"1,2")
    assert caught.value.response["OriginalStatusCode"] == 415
    sagemaker.delete_endpoint(EndpointName=trained)


def test_a_batch_transform_answers_every_line(server: RunningServer, trained: str) -> None:
    s3, sagemaker = server.client("s3"), server.client("sagemaker")
    lines = "".join(json.dumps(instance) + "\n" for instance in sparse_instances(X))
    s3.put_object(Bucket=BUCKET, Key="batch/rows.jsonl", Body=lines.encode())
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/batch/"}
    kind = "application/jsonlines"
    sagemaker.create_transform_job(
        TransformJobName="boto3-fm",
        ModelName=trained,
        TransformInput={"DataSource": {"S3DataSource": source}, "ContentType": kind, "SplitType": "Line"},
        TransformOutput={"S3OutputPath": f"s3://{BUCKET}/out", "AssembleWith": "Line", "Accept": kind},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
    )
    waiter = sagemaker.get_waiter("transform_job_completed_or_stopped")
    waiter.wait(TransformJobName="boto3-fm", WaiterConfig=SOON)
    body = s3.get_object(Bucket=BUCKET, Key="out/rows.jsonl.out")["Body"].read()
    scores = [json.loads(line)["score"] for line in body.splitlines() if line]
    assert len(scores) == 200
    assert np.corrcoef(scores, y)[0, 1] > 0.95
