"""What goes on while processes are killed: training jobs of several kinds, and an endpoint under steady invocation."""

from __future__ import annotations

import io
import random
import re
import tarfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from sagesmith.testing.server import RunningServer
from tests.kills.scene import BUCKET, ENDED, IMAGE, ROLE, Scene
from tests.kills.writers import Client

AT_ONCE = 3  # jobs that have not ended; there is room for one at a time, so the others wait
UNAVAILABLE = {"ServiceUnavailable", "ModelNotReadyException", "ModelError"}  # while an instance is replaced
ROUND = re.compile(r"^\[(\d+)\]")


@dataclass
class Job:
    """A training job and what was done to it."""

    name: str
    hosts: int
    mode: str
    rounds: int
    retries: int
    hurt: Counter[str] = field(default_factory=Counter)  # what of it was killed: `agent`, `train`

    @property
    def request(self) -> dict[str, Any]:
        source = {
            "S3DataType": "S3Prefix",
            "S3Uri": f"s3://{BUCKET}/train/",
            "S3DataDistributionType": "ShardedByS3Key",
        }
        channel = {"ChannelName": "train", "ContentType": "text/csv", "DataSource": {"S3DataSource": source}}
        return {
            "TrainingJobName": self.name,
            "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": self.mode},
            "RoleArn": ROLE,
            "InputDataConfig": [channel],
            "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/out"},
            "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": self.hosts, "VolumeSizeInGB": 1},
            "StoppingCondition": {"MaxRuntimeInSeconds": 600},
            "HyperParameters": {"num_round": str(self.rounds), "objective": "binary:logistic", "eval_metric": "error"},
            **({"RetryStrategy": {"MaximumRetryAttempts": self.retries}} if self.retries else {}),
        }


class Jobs:
    """Keeps some training jobs in progress, and judges how they end."""

    def __init__(self, scene: Scene, chance: random.Random) -> None:
        self._scene = scene
        self._random = chance
        self.all: dict[str, Job] = {}
        self.open: list[str] = []
        self.outcomes: Counter[str] = Counter()

    def prepare(self) -> None:
        """The training data, in several objects so that hosts can share them."""
        for part in range(4):
            rows = "".join(f"{row % 2},{row % 7},{(row * part) % 5}\n" for row in range(100))
            self._scene.call("s3", "put_object", Bucket=BUCKET, Key=f"train/part-{part}.csv", Body=rows.encode())

    def top_up(self) -> None:
        """Looks which jobs have ended, and asks for others in their place."""
        self.look()
        while len(self.open) < AT_ONCE:
            number = len(self.all)
            job = Job(
                name=f"job-{number}",
                hosts=2 if number % 5 == 4 else 1,
                mode="FastFile" if number % 3 == 1 else "File",
                rounds=self._random.randint(2, 5),
                retries=1 if number % 4 == 3 else 0,
            )
            self.all[job.name] = job
            self._scene.call("sagemaker", "create_training_job", **job.request)
            self.open.append(job.name)

    def look(self) -> None:
        """Judges the jobs that have ended since the last look."""
        for name in list(self.open):
            described = self._scene.job(name)
            if described["TrainingJobStatus"] in ENDED:
                self.open.remove(name)
                self._judge(self.all[name], described)

    def _judge(self, job: Job, described: dict[str, Any]) -> None:
        status, reason = described["TrainingJobStatus"], described.get("FailureReason", "")
        self.outcomes[status] += 1
        if status == "Completed":
            self._check_model(job.name)
            if not job.hurt:
                self._check_log(job)
            return
        assert status == "Failed", f"{job.name} {status}: nobody stopped it"
        assert job.hurt, f"{job.name} failed, although nothing of it was killed: {reason}"
        told = {
            "train": "killed by SIGKILL" in reason,
            "agent": "ended without a report; the process or its host is gone" in reason,
        }
        peer = job.hosts > 1 and "algo-" in reason  # a host whose neighbour is gone may be the first to say so
        assert peer or any(told[what] for what in job.hurt), f"{job.name}, {dict(job.hurt)} killed: {reason!r}"

    def _check_model(self, name: str) -> None:
        answer = self._scene.call("s3", "get_object", Bucket=BUCKET, Key=f"out/{name}/output/model.tar.gz")
        with tarfile.open(fileobj=io.BytesIO(answer["Body"].read()), mode="r:gz") as tar:
            member = tar.extractfile("xgboost-model")
            assert member is not None
            model = member.read()
        import xgboost

        booster = xgboost.Booster(model_file=bytearray(model))
        assert booster.num_boosted_rounds() == self.all[name].rounds

    def _check_log(self, job: Job) -> None:
        """Every round once, in order, in the log of every host that logs them."""
        group = "/aws/sagemaker/TrainingJobs"
        streams = self._scene.call(
            "logs", "describe_log_streams", logGroupName=group, logStreamNamePrefix=f"{job.name}/"
        )["logStreams"]
        assert len(streams) == job.hosts, f"{job.name} has the logs {[stream['logStreamName'] for stream in streams]}"
        found = 0
        for stream in streams:
            events = self._scene.call(
                "logs", "get_log_events", logGroupName=group, logStreamName=stream["logStreamName"], startFromHead=True
            )["events"]
            rounds = [int(match[1]) for event in events if (match := ROUND.match(event["message"]))]
            found += len(rounds)
            assert rounds in ([], list(range(job.rounds))), f"{stream['logStreamName']}: rounds {rounds}"
        assert found, f"{job.name}: no host has logged its rounds"


class Invoker(Client):
    """A client that invokes an endpoint without pause; what it is answered must be a prediction."""

    def __init__(self, server: RunningServer, endpoint: str, ended: threading.Event) -> None:
        super().__init__("invoker", ended)
        self._runtime = server.client("sagemaker-runtime")
        self._endpoint = endpoint
        self.answers = 0
        self.refused = 0

    def act(self) -> None:
        try:
            answer = self._runtime.invoke_endpoint(EndpointName=self._endpoint, Body=b"0.1,0.9", ContentType="text/csv")
            prediction = float(answer["Body"].read())
        except ClientError as error:
            if error.response["Error"]["Code"] not in UNAVAILABLE:
                raise
            self.refused += 1
            time.sleep(0.1)
        except (BotoCoreError, OSError):
            self.refused += 1
            time.sleep(0.2)
        else:
            assert 0 <= prediction <= 1
            self.answers += 1
