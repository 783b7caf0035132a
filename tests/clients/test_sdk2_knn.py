"""k-NN through real clients: the SDK's own class, and boto3 with CSV, an endpoint and a batch transform."""

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

IMAGE = "382416733822.dkr.ecr.us-east-1.amazonaws.com/knn:1"
BUCKET = "knn-bucket"
SOON = {"Delay": 1, "MaxAttempts": 120}


def wait(server: RunningServer, waiter: str, **request: Any) -> None:
    server.client("sagemaker").get_waiter(waiter).wait(WaiterConfig=SOON, **request)


def test_the_sdks_own_class(server: RunningServer, folder: Path) -> None:
    seen = run_flow(server, 2, "sdk2_knn", folder)
    assert seen["hyperparameters"]["feature_dim"] == "3"
    right = float(np.mean(np.array(seen["predicted"]) == np.array(seen["truth"])))
    assert right > 0.6, "a projection from three columns to two mixes some corners"
    for answer in seen["verbose"]:
        assert len(answer["distances"]) == len(answer["labels"]) == 5
        assert answer["distances"] == sorted(answer["distances"])
    job = server.client("sagemaker").describe_training_job(TrainingJobName=seen["job"])
    metrics = {metric["MetricName"]: metric["Value"] for metric in job["FinalMetricDataList"]}
    assert metrics["test:accuracy"] == pytest.approx(right, abs=1e-6)
    assert job["ResourceConfig"]["InstanceCount"] == 2
    assert not server.client("sagemaker").list_models(NameContains="sdk2-knn")["Models"]


def test_boto3_with_csv_json_lines_and_a_transform(server: RunningServer) -> None:
    s3, sagemaker = server.client("s3"), server.client("sagemaker")
    s3.create_bucket(Bucket=BUCKET)
    rows = "".join(f"{a * b},{a},{b}\n" for a in range(12) for b in range(12))
    s3.put_object(Bucket=BUCKET, Key="train/rows.csv", Body=rows.encode())
    s3.put_object(Bucket=BUCKET, Key="ask/rows.csv", Body=b"3,4\n5,5\n")
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/train/"}}
    sagemaker.create_training_job(
        TrainingJobName="knn-boto3",
        AlgorithmSpecification={"TrainingImage": IMAGE, "TrainingInputMode": "FastFile"},
        RoleArn=ROLE,
        InputDataConfig=[{"ChannelName": "train", "ContentType": "text/csv;label_size=1", "DataSource": source}],
        OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/models"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10},
        StoppingCondition={"MaxRuntimeInSeconds": 600},
        HyperParameters={"k": "1", "predictor_type": "regressor", "sample_size": "1000", "feature_dim": "2"},
    )
    wait(server, "training_job_completed_or_stopped", TrainingJobName="knn-boto3")
    job = sagemaker.describe_training_job(TrainingJobName="knn-boto3")
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    uri = job["ModelArtifacts"]["S3ModelArtifacts"]
    body = s3.get_object(Bucket=BUCKET, Key=uri.removeprefix(f"s3://{BUCKET}/"))["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        assert sorted(archive.getnames()) == ["model_algo-1", "model_algo-1.json", "model_algo-1.labels"]
    container = {"Image": IMAGE, "ModelDataUrl": uri}
    sagemaker.create_model(ModelName="knn-boto3", PrimaryContainer=container, ExecutionRoleArn=ROLE)
    serve(server, "knn-boto3")
    answer = server.client("sagemaker-runtime").invoke_endpoint(
        EndpointName="knn-boto3",
        ContentType="application/jsonlines",
        Accept="application/jsonlines",
        Body=b'{"features": [3, 4]}\n{"features": [11, 11]}\n',
    )
    lines = answer["Body"].read().decode().splitlines()
    assert [json.loads(line) for line in lines] == [{"predicted_label": 12.0}, {"predicted_label": 121.0}]
    sagemaker.create_transform_job(
        TransformJobName="knn-boto3",
        ModelName="knn-boto3",
        TransformInput={
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/ask/"}},
            "ContentType": "text/csv",
            "SplitType": "Line",
        },
        TransformOutput={
            "S3OutputPath": f"s3://{BUCKET}/out",
            "AssembleWith": "Line",
            "Accept": "application/jsonlines; verbose=true",
        },
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
    )
    wait(server, "transform_job_completed_or_stopped", TransformJobName="knn-boto3")
    output = s3.get_object(Bucket=BUCKET, Key="out/rows.csv.out")["Body"].read().split(b"\n")
    assert json.loads(output[0]) == {"predicted_label": 12.0, "distances": [0.0], "labels": [12.0]}
    assert json.loads(output[1])["predicted_label"] == 25.0
    sagemaker.delete_endpoint(EndpointName="knn-boto3")
