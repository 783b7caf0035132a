"""Training jobs through boto3, a real server, the local engine and XGBoost."""

from __future__ import annotations

import io
import os
import signal
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from botocore.exceptions import ClientError, WaiterError

from sagesmith.testing.server import RunningServer, running_server

IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1"
WAIT = {"Delay": 1, "MaxAttempts": 120}
ROWS = "\n".join(f"{int(number % 7 > 3)},{number % 7},{number % 11}" for number in range(500))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("server"), stop_grace=20.0) as server:
        s3 = server.client("s3")
        s3.create_bucket(Bucket="bucket")
        s3.put_object(Bucket="bucket", Key="train/rows.csv", Body=ROWS.encode())
        yield server


def create(server: RunningServer, name: str, rounds: str = "3", **changes: Any) -> str:
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://bucket/train/"}}
    request: dict[str, Any] = {
        "TrainingJobName": name,
        "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        "RoleArn": "arn:aws:iam::123456789012:role/service-role/Role",
        "InputDataConfig": [{"ChannelName": "train", "ContentType": "text/csv", "DataSource": source}],
        "OutputDataConfig": {"S3OutputPath": "s3://bucket/out"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10},
        "StoppingCondition": {"MaxRuntimeInSeconds": 600},
        "HyperParameters": {"num_round": rounds, "objective": "binary:logistic"},
        **changes,
    }
    arn: str = server.client("sagemaker").create_training_job(**request)["TrainingJobArn"]
    return arn


def describe(server: RunningServer, name: str) -> dict[str, Any]:
    answer: dict[str, Any] = server.client("sagemaker").describe_training_job(TrainingJobName=name)
    return answer


def wait(server: RunningServer, name: str) -> dict[str, Any]:
    waiter = server.client("sagemaker").get_waiter("training_job_completed_or_stopped")
    waiter.wait(TrainingJobName=name, WaiterConfig=WAIT)
    return describe(server, name)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "nothing happened within a minute"
        time.sleep(0.1)


def members(server: RunningServer, uri: str) -> list[str]:
    key = uri.removeprefix("s3://bucket/")
    body = server.client("s3").get_object(Bucket="bucket", Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        return archive.getnames()


def test_a_job_leaves_a_model_logs_and_metrics(server: RunningServer) -> None:
    arn = create(server, "completes", Tags=[{"Key": "team", "Value": "a"}])
    answer = wait(server, "completes")
    assert answer["TrainingJobStatus"] == "Completed"
    assert "xgboost-model" in members(server, answer["ModelArtifacts"]["S3ModelArtifacts"])
    assert [metric["MetricName"] for metric in answer["FinalMetricDataList"]] == ["train:logloss"]
    assert answer["TrainingStartTime"] <= answer["TrainingEndTime"]
    streams = server.client("logs").describe_log_streams(
        logGroupName="/aws/sagemaker/TrainingJobs", logStreamNamePrefix="completes/"
    )["logStreams"]
    assert len(streams) == 1
    sagemaker = server.client("sagemaker")
    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "team", "Value": "a"}]
    listed = sagemaker.list_training_jobs(NameContains="completes", StatusEquals="Completed")
    assert [job["TrainingJobArn"] for job in listed["TrainingJobSummaries"]] == [arn]
    with pytest.raises(sagemaker.exceptions.ResourceInUse):
        create(server, "completes")


def test_a_job_that_cannot_train_fails_with_the_reason(server: RunningServer) -> None:
    create(server, "fails", HyperParameters={"num_round": "many"})
    with pytest.raises(WaiterError):
        wait(server, "fails")
    answer = describe(server, "fails")
    assert answer["TrainingJobStatus"] == "Failed"
    assert "num_round" in answer["FailureReason"]


def test_a_stopped_job_ends_stopped(server: RunningServer) -> None:
    create(server, "stops", rounds="1000000")
    wait_until(lambda: describe(server, "stops")["SecondaryStatus"] == "Training")
    server.client("sagemaker").stop_training_job(TrainingJobName="stops")
    assert wait(server, "stops")["TrainingJobStatus"] == "Stopped"


def test_errors_are_those_that_clients_look_for(server: RunningServer) -> None:
    with pytest.raises(ClientError, match="Could not find") as caught:
        describe(server, "nobody")
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    image = {"TrainingImage": "me/my-image:1", "TrainingInputMode": "File"}
    with pytest.raises(ClientError, match=r"'me/my-image:1' is not an image .* sagemaker-xgboost"):
        create(server, "unknown-image", AlgorithmSpecification=image)


@pytest.mark.kill
def test_a_job_goes_on_while_the_server_is_dead(server: RunningServer) -> None:
    create(server, "outlives")
    wait_until(lambda: describe(server, "outlives")["SecondaryStatus"] != "Starting")
    server.kill()
    server.restart()
    assert wait(server, "outlives")["TrainingJobStatus"] == "Completed"


def agents_of(folder: Path, name: str) -> list[psutil.Process]:
    """The processes that work for this server's only unfinished job."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or ())
        if "sagesmith.agent" in line and str(folder) in line:
            found.append(process)
    assert found, f"no agent of {name} runs"
    return found


@pytest.mark.kill
def test_an_agent_that_is_killed_fails_the_job_honestly(server: RunningServer) -> None:
    create(server, "loses", rounds="1000000")
    wait_until(lambda: describe(server, "loses")["SecondaryStatus"] == "Training")
    for agent in agents_of(server.config.data, "loses"):
        for process in [agent, *agent.children(recursive=True)]:
            os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(WaiterError):
        wait(server, "loses")
    assert describe(server, "loses")["FailureReason"].startswith("InternalServerError: algo-1 ended without a report")
