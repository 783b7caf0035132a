"""The AWS CLI, unchanged and as a process of its own, with the environment that `sagesmith env` prints."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sagesmith.testing.server import RunningServer
from tests.clients.live import IMAGE, ROLE, aws_cli, client_environment, wait_for

pytestmark = pytest.mark.slow

Aws = Callable[..., str]
BUCKET = "cli-bucket"
GROUP = "/aws/sagemaker/TrainingJobs"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def process(server: RunningServer, home: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    command, environment = str(aws_cli()), client_environment(server, home)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [command, *arguments], env=environment, cwd=home, capture_output=True, text=True, timeout=120
        )

    return run


@pytest.fixture(scope="module")
def aws(process: Callable[..., subprocess.CompletedProcess[str]]) -> Aws:
    def run(*arguments: str) -> str:
        done = process(*arguments)
        assert done.returncode == 0, f"aws {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run


@pytest.fixture(scope="module")
def bucket(aws: Aws, folder: Path) -> str:
    aws("s3", "mb", f"s3://{BUCKET}")
    aws("s3", "cp", str(folder / "train.csv"), f"s3://{BUCKET}/train/")
    return BUCKET


@pytest.fixture(scope="module")
def trained(aws: Aws, bucket: str) -> dict[str, Any]:
    """A completed training job, as the CLI describes it."""
    channel = (
        "ChannelName=train,ContentType=text/csv,"
        f"DataSource={{S3DataSource={{S3DataType=S3Prefix,S3Uri=s3://{bucket}/train/}}}}"
    )
    created = json.loads(
        aws(
            *("sagemaker", "create-training-job", "--training-job-name", "cli-job", "--role-arn", ROLE),
            *("--algorithm-specification", f"TrainingImage={IMAGE},TrainingInputMode=File"),
            *("--hyper-parameters", "objective=binary:logistic,num_round=5"),
            *("--input-data-config", channel, "--output-data-config", f"S3OutputPath=s3://{bucket}/models"),
            *("--resource-config", "InstanceType=ml.m5.large,InstanceCount=1,VolumeSizeInGB=10"),
            *("--stopping-condition", "MaxRuntimeInSeconds=600"),
        )
    )
    assert created["TrainingJobArn"].endswith(":training-job/cli-job")

    def described() -> Any:
        return json.loads(aws("sagemaker", "describe-training-job", "--training-job-name", "cli-job"))

    wait_for(lambda: described()["TrainingJobStatus"] != "InProgress", "the job ends")
    # The job has ended by now: the CLI's waiter asks at once, then only every two minutes.
    assert aws("sagemaker", "wait", "training-job-completed-or-stopped", "--training-job-name", "cli-job") == ""
    answer: dict[str, Any] = described()
    assert answer["TrainingJobStatus"] == "Completed"
    return answer


def test_who_am_i(aws: Aws) -> None:
    assert json.loads(aws("sts", "get-caller-identity"))["Account"] == "123456789012"


def test_objects(aws: Aws, bucket: str, home: Path) -> None:
    tree = home / "tree"
    (tree / "sub dir").mkdir(parents=True)
    (tree / "a.txt").write_text("a")
    (tree / "sub dir" / "ü.txt").write_text("u")
    aws("s3", "sync", "tree", f"s3://{bucket}/tree")
    listed = aws("s3", "ls", f"s3://{bucket}/tree/", "--recursive").splitlines()
    assert [line.split(None, 3)[3] for line in listed] == ["tree/a.txt", "tree/sub dir/ü.txt"]
    aws("s3", "sync", f"s3://{bucket}/tree", "back")
    assert (home / "back" / "sub dir" / "ü.txt").read_text() == "u"
    with urllib.request.urlopen(aws("s3", "presign", f"s3://{bucket}/tree/a.txt").strip()) as answer:
        assert answer.read() == b"a"
    aws("s3", "rm", f"s3://{bucket}/tree", "--recursive")
    assert "tree" not in aws("s3", "ls", f"s3://{bucket}")


def test_training_jobs_are_listed_and_their_model_is_there(aws: Aws, trained: dict[str, Any]) -> None:
    listed = json.loads(
        aws("sagemaker", "list-training-jobs", "--name-contains", "cli-", "--status-equals", "Completed")
    )
    assert [job["TrainingJobName"] for job in listed["TrainingJobSummaries"]] == ["cli-job"]
    assert "model.tar.gz" in aws("s3", "ls", trained["ModelArtifacts"]["S3ModelArtifacts"])


def test_logs_are_read_and_filtered(aws: Aws, trained: dict[str, Any]) -> None:
    # `logs tail` is version 2's of the CLI, which is no Python package; it calls the two operations below.
    streams = aws("logs", "describe-log-streams", "--log-group-name", GROUP, "--log-stream-name-prefix", "cli-job/")
    (stream,) = json.loads(streams)["logStreams"]
    name = stream["logStreamName"]
    log = aws("logs", "get-log-events", "--log-group-name", GROUP, "--log-stream-name", name, "--start-from-head")
    messages = [event["message"] for event in json.loads(log)["events"]]
    assert messages[0] == "Docker entrypoint called with argument(s): train"
    assert any("Running XGBoost Sagemaker in algorithm mode" in message for message in messages)
    pattern = ("--log-stream-name-prefix", "cli-job/", "--filter-pattern", "train-logloss")
    events = json.loads(aws("logs", "filter-log-events", "--log-group-name", GROUP, *pattern))["events"]
    assert [event["message"].split("]")[0] for event in events] == [f"[{number}" for number in range(5)]


def test_metrics_have_datapoints(aws: Aws, trained: dict[str, Any]) -> None:
    created = datetime.fromtimestamp(trained["CreationTime"], UTC)
    start, end = ((created + timedelta(hours=hours)).isoformat() for hours in (-1, 1))
    answer = aws(
        *("cloudwatch", "get-metric-statistics", "--namespace", GROUP, "--metric-name", "train:logloss"),
        *("--dimensions", "Name=TrainingJobName,Value=cli-job", "--statistics", "Minimum", "--period", "60"),
        *("--start-time", start, "--end-time", end),
    )
    points = json.loads(answer)["Datapoints"]
    last = {metric["MetricName"]: metric["Value"] for metric in trained["FinalMetricDataList"]}["train:logloss"]
    assert min(point["Minimum"] for point in points) == pytest.approx(last, rel=1e-6)


def test_an_endpoint_is_made_invoked_and_deleted(aws: Aws, trained: dict[str, Any], home: Path) -> None:
    model = f"Image={IMAGE},ModelDataUrl={trained['ModelArtifacts']['S3ModelArtifacts']}"
    aws(
        *("sagemaker", "create-model", "--model-name", "cli", "--execution-role-arn", ROLE),
        *("--primary-container", model),
    )
    variant = "VariantName=v,ModelName=cli,InstanceType=ml.m5.large,InitialInstanceCount=1"
    aws("sagemaker", "create-endpoint-config", "--endpoint-config-name", "cli", "--production-variants", variant)
    aws("sagemaker", "create-endpoint", "--endpoint-name", "cli", "--endpoint-config-name", "cli")

    def in_service() -> bool:
        described = json.loads(aws("sagemaker", "describe-endpoint", "--endpoint-name", "cli"))
        return bool(described["EndpointStatus"] == "InService")

    wait_for(in_service, "the endpoint is in service")
    aws("sagemaker", "wait", "endpoint-in-service", "--endpoint-name", "cli")
    (home / "row").write_bytes(b"0.7,0.2,0.3")
    metadata = json.loads(
        aws(
            *("sagemaker-runtime", "invoke-endpoint", "--endpoint-name", "cli", "--content-type", "text/csv"),
            *("--body", "fileb://row", "answer"),
        )
    )
    assert metadata["InvokedProductionVariant"] == "v"
    assert float((home / "answer").read_text()) > 0.5
    aws("sagemaker", "delete-endpoint", "--endpoint-name", "cli")
    wait_for(lambda: "cli" not in aws("sagemaker", "list-endpoints"), "the endpoint is gone")
    aws("sagemaker", "wait", "endpoint-deleted", "--endpoint-name", "cli")


def test_errors_are_shown_as_awss(process: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = process("sagemaker", "describe-training-job", "--training-job-name", "nobody")
    assert done.returncode != 0
    assert "An error occurred (ValidationException) when calling the DescribeTrainingJob operation" in done.stderr
