"""The server is killed at each step of a training job's machine, and at random moments; every job ends truthfully."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError

from sagesmith.testing.server import RunningServer, running_server

IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1"
ROWS = "\n".join(f"{number % 2},{number % 7}" for number in range(100))
PLACES = ("before", "after", "committed")
ENDS = {"Completed", "Failed", "Stopped"}
SEED = int(os.environ.get("SAGESMITH_TEST_SEED", "7"))
KILLS = int(os.environ.get("SAGESMITH_TEST_KILLS", "30"))

pytestmark = [pytest.mark.kill, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("killed")
    with running_server(folder, module="tests.services.sagemaker.killable_server", stop_grace=20.0) as server:
        s3 = server.client("s3")
        s3.create_bucket(Bucket="bucket")
        s3.put_object(Bucket="bucket", Key="train/rows.csv", Body=ROWS.encode())
        yield server


def create(server: RunningServer, name: str, rounds: str = "2") -> None:
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://bucket/train/"}}
    server.client("sagemaker").create_training_job(
        TrainingJobName=name,
        AlgorithmSpecification={"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        RoleArn="arn:aws:iam::123456789012:role/service-role/Role",
        InputDataConfig=[{"ChannelName": "train", "ContentType": "text/csv", "DataSource": source}],
        OutputDataConfig={"S3OutputPath": "s3://bucket/out"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10},
        StoppingCondition={"MaxRuntimeInSeconds": 600},
        HyperParameters={"num_round": rounds, "objective": "binary:logistic"},
    )


def status(server: RunningServer, name: str) -> str:
    answer: dict[str, Any] = server.client("sagemaker").describe_training_job(TrainingJobName=name)
    return str(answer["TrainingJobStatus"])


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def dead(server: RunningServer) -> bool:
    assert server.process is not None
    return server.process.poll() is not None


def ended(server: RunningServer, name: str) -> bool:
    """Whether the job has ended; a server found dead on the way is started again."""
    try:
        return status(server, name) in ENDS
    except (BotoCoreError, OSError):
        if dead(server):
            server.restart()
        return False


def assert_nothing_is_left(server: RunningServer) -> None:
    runs = server.config.runs
    assert [run.name for run in runs.iterdir() if not run.name.startswith(".")] == [], "a gang was left on disk"


@pytest.mark.parametrize("state", ["Launching", "Watching", "Finishing"])
@pytest.mark.parametrize("place", PLACES)
def test_a_job_completes_although_the_server_dies_once(server: RunningServer, state: str, place: str) -> None:
    name = f"dies-{state}-{place}"
    (server.config.data / "kill-at").write_text(f"TrainingJob.{state}.{place}")
    create(server, name)
    wait_until(lambda: dead(server), f"the server did not pass {state}.{place}")
    server.restart()
    wait_until(lambda: ended(server, name), f"{name} did not end")
    assert status(server, name) == "Completed"
    assert_nothing_is_left(server)


@pytest.mark.parametrize("place", PLACES)
def test_a_stopped_job_stops_although_the_server_dies_once(server: RunningServer, place: str) -> None:
    name = f"stops-{place}"
    create(server, name, rounds="1000000")
    (server.config.data / "kill-at").write_text(f"TrainingJob.Stopping.{place}")
    server.client("sagemaker").stop_training_job(TrainingJobName=name)
    wait_until(lambda: dead(server), f"the server did not pass Stopping.{place}")
    server.restart()
    wait_until(lambda: ended(server, name), f"{name} did not end")
    assert status(server, name) == "Stopped"
    assert_nothing_is_left(server)


def test_random_kills(server: RunningServer) -> None:
    """`SAGESMITH_TEST_KILLS` of them, at moments that follow from `SAGESMITH_TEST_SEED`."""
    chance = random.Random(SEED)
    kills, jobs = 0, 0
    while kills < KILLS:
        name = f"random-{jobs}"
        create(server, name)
        jobs += 1
        for _ in range(chance.randint(1, 5)):
            time.sleep(chance.uniform(0.0, 0.8))
            server.kill()
            kills += 1
            server.restart()
        wait_until(lambda name=name: ended(server, name), f"{name} did not end (seed {SEED})")  # type: ignore[misc]
        assert status(server, name) == "Completed", f"{name} (seed {SEED})"
    assert_nothing_is_left(server)
