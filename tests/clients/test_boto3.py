"""boto3, unchanged: the README's example, waiters, paginators, presigned URLs, transfers in parts."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import WaiterError

from sagesmith.testing.server import RunningServer
from tests.clients.live import IMAGE, ROLE, ROOT, client_environment

pytestmark = pytest.mark.slow

SOON = {"Delay": 1, "MaxAttempts": 120}
BUCKET = "boto3-bucket"


@pytest.fixture(scope="module", autouse=True)
def bucket(server: RunningServer, folder: Path) -> None:
    s3 = server.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    for name in ("train", "features"):
        s3.upload_file(str(folder / f"{name}.csv"), BUCKET, f"{name}/data.csv")


def create_job(server: RunningServer, name: str, **hyperparameters: str) -> None:
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/train/"}}
    server.client("sagemaker").create_training_job(
        TrainingJobName=name,
        AlgorithmSpecification={"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        RoleArn=ROLE,
        InputDataConfig=[{"ChannelName": "train", "ContentType": "text/csv", "DataSource": source}],
        OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/models"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10},
        StoppingCondition={"MaxRuntimeInSeconds": 600},
        HyperParameters={"objective": "binary:logistic", "num_round": "5", **hyperparameters},
    )


def wait(server: RunningServer, waiter: str, **request: Any) -> None:
    server.client("sagemaker").get_waiter(waiter).wait(WaiterConfig=SOON, **request)


@pytest.fixture(scope="module")
def trained(server: RunningServer) -> str:
    """The URI of a model."""
    create_job(server, "boto3-trained")
    wait(server, "training_job_completed_or_stopped", TrainingJobName="boto3-trained")
    job = server.client("sagemaker").describe_training_job(TrainingJobName="boto3-trained")
    assert job["TrainingJobStatus"] == "Completed"
    return str(job["ModelArtifacts"]["S3ModelArtifacts"])


def create_model(server: RunningServer, name: str, uri: str) -> None:
    sagemaker = server.client("sagemaker")
    container = {"Image": IMAGE, "ModelDataUrl": uri}
    sagemaker.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=ROLE)
    variant = {"VariantName": "v", "ModelName": name, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])


def create_transform(server: RunningServer, name: str, prefix: str) -> None:
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/{prefix}/"}
    server.client("sagemaker").create_transform_job(
        TransformJobName=name,
        ModelName="boto3-model",
        TransformInput={"DataSource": {"S3DataSource": source}, "ContentType": "text/csv", "SplitType": "Line"},
        TransformOutput={"S3OutputPath": f"s3://{BUCKET}/out", "AssembleWith": "Line", "Accept": "text/csv"},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
    )


def test_the_readmes_example_runs_as_it_stands(server: RunningServer, folder: Path, tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    (program,) = [block for block in blocks if "create_training_job" in block]
    (tmp_path / "train.csv").write_bytes((folder / "train.csv").read_bytes())
    row = re.search(r'Body=b"([^"]*)"', program)
    assert row, "the example calls the endpoint with a row of numbers"
    features = row[1].count(",") + 1
    lines = [line.split(",")[: features + 1] for line in (folder / "train.csv").read_text().splitlines()]
    (tmp_path / "train.csv").write_text("\n".join(",".join(line) for line in lines))
    environment = {**client_environment(server, tmp_path), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    score = re.fullmatch(r"b'([0-9.]+)\\n'|b'([0-9.]+)'", done.stdout.strip())
    assert score, done.stdout
    assert 0 < float(score[1] or score[2]) < 1


def test_the_training_waiter_ends_at_a_stopped_and_raises_at_a_failed_job(server: RunningServer) -> None:
    sagemaker = server.client("sagemaker")
    create_job(server, "boto3-stopped", num_round="1000000")
    sagemaker.stop_training_job(TrainingJobName="boto3-stopped")
    wait(server, "training_job_completed_or_stopped", TrainingJobName="boto3-stopped")
    assert sagemaker.describe_training_job(TrainingJobName="boto3-stopped")["TrainingJobStatus"] == "Stopped"
    create_job(server, "boto3-failed", max_depth="-1")
    with pytest.raises(WaiterError, match="terminal failure state") as caught:
        wait(server, "training_job_completed_or_stopped", TrainingJobName="boto3-failed")
    assert "max_depth" in caught.value.last_response["FailureReason"]
    with pytest.raises(WaiterError, match="terminal failure state"):
        wait(server, "training_job_completed_or_stopped", TrainingJobName="boto3-nobody")


def test_the_endpoint_waiters_end_as_they_should(server: RunningServer, trained: str) -> None:
    sagemaker = server.client("sagemaker")
    create_model(server, "boto3-endpoint", trained)
    sagemaker.create_endpoint(EndpointName="boto3-endpoint", EndpointConfigName="boto3-endpoint")
    wait(server, "endpoint_in_service", EndpointName="boto3-endpoint")
    answer = server.client("sagemaker-runtime").invoke_endpoint(
        EndpointName="boto3-endpoint", ContentType="text/csv", Body=b"0.7,0.2,0.3"
    )
    assert float(answer["Body"].read()) > 0.5
    sagemaker.delete_endpoint(EndpointName="boto3-endpoint")
    wait(server, "endpoint_deleted", EndpointName="boto3-endpoint")
    wait(server, "endpoint_deleted", EndpointName="boto3-nobody")
    server.client("s3").put_object(Bucket=BUCKET, Key="no-model/model.tar.gz", Body=b"no archive")
    create_model(server, "boto3-bad", f"s3://{BUCKET}/no-model/model.tar.gz")
    sagemaker.create_endpoint(EndpointName="boto3-bad", EndpointConfigName="boto3-bad")
    with pytest.raises(WaiterError, match="terminal failure state") as caught:
        wait(server, "endpoint_in_service", EndpointName="boto3-bad")
    assert "not a whole tar or tar.gz archive" in caught.value.last_response["FailureReason"]
    with pytest.raises(WaiterError, match="terminal failure state"):
        wait(server, "endpoint_deleted", EndpointName="boto3-bad")
    sagemaker.delete_endpoint(EndpointName="boto3-bad")


def test_the_transform_waiter_ends_as_it_should(server: RunningServer, trained: str) -> None:
    sagemaker, s3 = server.client("sagemaker"), server.client("s3")
    create_model(server, "boto3-model", trained)
    create_transform(server, "boto3-good", "features")
    wait(server, "transform_job_completed_or_stopped", TransformJobName="boto3-good")
    assert sagemaker.describe_transform_job(TransformJobName="boto3-good")["TransformJobStatus"] == "Completed"
    output = s3.get_object(Bucket=BUCKET, Key="out/data.csv.out")["Body"].read()
    assert len(output.split()) == 20
    s3.put_object(Bucket=BUCKET, Key="words/data.csv", Body=b"no,number,here\n")
    create_transform(server, "boto3-wrong", "words")
    with pytest.raises(WaiterError, match="terminal failure state") as caught:
        wait(server, "transform_job_completed_or_stopped", TransformJobName="boto3-wrong")
    assert caught.value.last_response["FailureReason"]


def test_paginators_walk_through_everything_once(server: RunningServer) -> None:
    sagemaker, s3, logs = (server.client(service) for service in ("sagemaker", "s3", "logs"))
    for number in range(7):
        container = {"Image": IMAGE, "ModelDataUrl": f"s3://{BUCKET}/m/model.tar.gz"}
        sagemaker.create_model(ModelName=f"page-{number}", PrimaryContainer=container, ExecutionRoleArn=ROLE)
        s3.put_object(Bucket=BUCKET, Key=f"page/{number}", Body=b"")
    names = [f"page-{number}" for number in range(7)]
    size = {"PageSize": 3}
    models = sagemaker.get_paginator("list_models").paginate(
        NameContains="page-", SortBy="Name", SortOrder="Ascending", PaginationConfig=size
    )
    pages = [[model["ModelName"] for model in page["Models"]] for page in models]
    assert pages == [names[:3], names[3:6], names[6:]]
    objects = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="page/", PaginationConfig=size)
    assert [item["Key"] for page in objects for item in page["Contents"]] == [f"page/{number}" for number in range(7)]
    create_job(server, "boto3-logs")
    wait(server, "training_job_completed_or_stopped", TrainingJobName="boto3-logs")
    group = "/aws/sagemaker/TrainingJobs"
    found = logs.get_paginator("filter_log_events").paginate(
        logGroupName=group, logStreamNamePrefix="boto3-logs/", PaginationConfig={"PageSize": 2}
    )
    lines = [event["message"] for page in found for event in page["events"]]
    assert lines[0] == "Docker entrypoint called with argument(s): train"
    assert [line.partition("]")[0] for line in lines if "train-logloss" in line] == [f"[{n}" for n in range(5)]


def test_presigned_urls_need_no_key_until_they_expire(server: RunningServer) -> None:
    s3 = server.client("s3")
    where = {"Bucket": BUCKET, "Key": "signed/ü b+c.txt"}
    put = urllib.request.Request(s3.generate_presigned_url("put_object", Params=where), data=b"text", method="PUT")
    put.add_header("Content-Type", "")
    with urllib.request.urlopen(put) as answer:
        assert answer.status == 200
    with urllib.request.urlopen(s3.generate_presigned_url("get_object", Params=where)) as answer:
        assert answer.read() == b"text"
    short = s3.generate_presigned_url("get_object", Params=where, ExpiresIn=1)
    time.sleep(2.1)
    for url in (short, short.replace("signed", "other")):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(url)
        with caught.value as refused:
            assert refused.code == 403


def test_files_travel_in_parts_and_come_back_whole(server: RunningServer, tmp_path: Path) -> None:
    s3 = server.client("s3")
    content = os.urandom(13 * 2**20 + 7)
    (tmp_path / "big").write_bytes(content)
    parts = TransferConfig(multipart_threshold=5 * 2**20, multipart_chunksize=5 * 2**20, max_concurrency=4)
    s3.upload_file(str(tmp_path / "big"), BUCKET, "big", Config=parts, ExtraArgs={"Metadata": {"a": "b"}})
    head = s3.head_object(Bucket=BUCKET, Key="big")
    assert (head["ContentLength"], head["Metadata"], head["ETag"][-3:]) == (len(content), {"a": "b"}, '-3"')
    s3.download_file(BUCKET, "big", str(tmp_path / "back"), Config=parts)
    assert hashlib.sha256((tmp_path / "back").read_bytes()).digest() == hashlib.sha256(content).digest()
