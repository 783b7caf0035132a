"""What the kill tests work with: a model, a script to train with, resources made through boto3 by a dying server.

Every call is made the way a careful client makes it: when the connection breaks, the server is started again if it is
dead, and the call is repeated unless what it asked for is there already.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from botocore.exceptions import BotoCoreError, ClientError

from sagesmith.testing.server import RunningServer

IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1"
ROLE = "arn:aws:iam::123456789012:role/service-role/Role"
BUCKET = "bucket"
ENDED = {"Completed", "Failed", "Stopped"}
LINES = 5  # what the script says
PATIENCE = 120.0  # seconds for whatever a machine has to do
LARGE = 100 * 2**20  # bytes of a model that is uploaded in parts
MODEL_TEXT = "all of the model\n" * 50_000
DONE_BEFORE = ("ResourceInUse", "already exist", "Could not find", "in status", "in-progress")

# Notes its start where the test sees it, says LINES lines, waits for leave to go on, then saves or fails.
SCRIPT = f"""
import os, pathlib, sys, time
marks = pathlib.Path(os.environ["SM_HP_MARKS"])
with marks.open("a") as file:
    file.write(f"{{os.environ['SM_CURRENT_HOST']}} {{os.getpid()}}\\n")
for number in range({LINES}):
    print(f"line {{number}} of {{os.environ['SM_CURRENT_HOST']}}", flush=True)
while not marks.with_suffix(".go").exists():
    time.sleep(0.02)
if marks.with_suffix(".fail").exists():
    raise SystemExit("the script was told to fail")
model = pathlib.Path(os.environ["SM_MODEL_DIR"], os.environ["SM_CURRENT_HOST"] + ".txt")
model.write_text({MODEL_TEXT[:17]!r} * 50_000)
if marks.with_suffix(".large").exists():
    model.with_name("large").write_bytes(os.urandom({LARGE}))
"""


def archive(files: dict[str, bytes]) -> bytes:
    """A .tar.gz of these files."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def model_archive(folder: Path) -> bytes:
    """A model.tar.gz of a small trained model of two features."""
    from sagesmith.algorithms import XGBoost

    features = np.random.default_rng(0).random((200, 2), dtype=np.float32)
    model = XGBoost(objective="binary:logistic", num_round=3).fit(features, (features[:, 0] > 0.5).astype(np.float32))
    folder.mkdir()
    model.save(folder)
    return archive({path.name: path.read_bytes() for path in sorted(folder.iterdir())})


@dataclass
class Scene:
    """A server that may be dead, and what was asked of it.

    Attributes:
        marks: the folder in which scripts note that they have started.
    """

    server: RunningServer
    marks: Path
    deaths: int = 0
    _clients: dict[tuple[str, str], Any] = field(default_factory=dict)

    def client(self, service: str) -> Any:
        """A client for the address that the server has now."""
        key = (service, self.server.address)
        if key not in self._clients:
            self._clients[key] = self.server.client(service)
        return self._clients[key]

    def call(self, service: str, operation: str, **request: Any) -> dict[str, Any]:
        """One call, repeated until it is answered; {} when a repetition finds its work done."""
        for tries in range(100):
            try:
                answer: dict[str, Any] = getattr(self.client(service), operation)(**request)
                return answer
            except ClientError as error:
                if tries and any(text in str(error) for text in DONE_BEFORE):
                    return {}
                raise
            except (BotoCoreError, OSError):
                self.revive()
        raise AssertionError(f"{operation} found no server")

    def revive(self) -> None:
        """Starts the server again if it is dead."""
        assert self.server.process is not None
        try:
            self.server.process.wait(0.5)  # a connection breaks a moment before its process has ended
        except subprocess.TimeoutExpired:
            return
        self.deaths += 1
        self.server.restart()

    def wait_until(self, look: Callable[[], bool], what: str) -> None:
        """Lets time pass until something holds; a server found dead on the way is started again."""
        deadline = time.monotonic() + PATIENCE
        while not look():
            assert time.monotonic() < deadline, f"{what} did not come to pass"
            time.sleep(0.05)
            if self.server.process is not None and self.server.process.poll() is not None:
                self.revive()

    def prepare(self, folder: Path) -> None:
        """The objects and models that all tests share."""
        self.call("s3", "create_bucket", Bucket=BUCKET)
        objects = {
            "code/sourcedir.tar.gz": archive({"train.py": SCRIPT.encode()}),
            "models/good.tar.gz": model_archive(folder / "model"),
            "models/bad.tar.gz": b"this is no archive",
            "rows/rows.csv": b"".join(b"0.%d,0.5\n" % (number % 10) for number in range(200)),
        }
        for key, content in objects.items():
            self.call("s3", "put_object", Bucket=BUCKET, Key=key, Body=content)
        for name in ("good", "bad"):
            container = {"Image": IMAGE, "ModelDataUrl": f"s3://{BUCKET}/models/{name}.tar.gz"}
            self.call("sagemaker", "create_model", ModelName=name, PrimaryContainer=container)
            variant = {"VariantName": "v", "ModelName": name, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
            self.call("sagemaker", "create_endpoint_config", EndpointConfigName=name, ProductionVariants=[variant])

    def train(self, name: str, hosts: int = 1, retries: int = 0) -> None:
        """Asks for a job that runs SCRIPT."""
        strategy = {"RetryStrategy": {"MaximumRetryAttempts": retries}} if retries else {}
        self.call(
            "sagemaker",
            "create_training_job",
            TrainingJobName=name,
            AlgorithmSpecification={"TrainingImage": IMAGE, "TrainingInputMode": "File"},
            RoleArn=ROLE,
            OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/out"},
            ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": hosts, "VolumeSizeInGB": 1},
            StoppingCondition={"MaxRuntimeInSeconds": 600},
            HyperParameters={
                "sagemaker_program": "train.py",
                "sagemaker_submit_directory": f"s3://{BUCKET}/code/sourcedir.tar.gz",
                "marks": str(self.marks / name),
            },
            **strategy,
        )

    def started(self, name: str) -> list[str]:
        """The hosts whose script has begun, once for every time that it did."""
        try:
            return [line.split()[0] for line in (self.marks / name).read_text().splitlines()]
        except FileNotFoundError:
            return []

    def let_go(self, name: str, *, fail: bool = False) -> None:
        """Lets the script of a job go on to its end."""
        if fail:
            (self.marks / name).with_suffix(".fail").touch()
        (self.marks / name).with_suffix(".go").touch()

    def job(self, name: str) -> dict[str, Any]:
        return self.call("sagemaker", "describe_training_job", TrainingJobName=name)

    def ended(self, name: str) -> dict[str, Any]:
        """Waits until a training job has ended, and returns how."""
        self.wait_until(lambda: self.job(name)["TrainingJobStatus"] in ENDED, f"the end of {name}")
        return self.job(name)

    def endpoint(self, name: str) -> str:
        """EndpointStatus; "" once there is no such endpoint."""
        try:
            return str(self.call("sagemaker", "describe_endpoint", EndpointName=name)["EndpointStatus"])
        except ClientError as error:
            if "Could not find" not in str(error):
                raise
            return ""

    def answers(self, name: str) -> bool:
        """Whether the endpoint gives a prediction."""
        try:
            answer = self.call(
                "sagemaker-runtime", "invoke_endpoint", EndpointName=name, Body=b"0.1,0.9", ContentType="text/csv"
            )
        except ClientError:
            return False
        return 0 <= float(answer["Body"].read()) <= 1

    def whole_model(self, name: str) -> list[str]:
        """The names in a job's artifact, after reading all of it.

        Raises:
            AssertionError, tarfile.TarError, OSError: it is torn.
        """
        answer = self.call("s3", "get_object", Bucket=BUCKET, Key=f"out/{name}/output/model.tar.gz")
        with tarfile.open(fileobj=io.BytesIO(answer["Body"].read()), mode="r:gz") as tar:
            for member in tar:
                if member.name.endswith(".txt"):
                    file = tar.extractfile(member)
                    assert file is not None
                    assert file.read().decode() == MODEL_TEXT
                assert member.name != "large" or member.size == LARGE
            return sorted(member.name for member in tar if member.isfile())

    def log_lines(self, name: str) -> list[str]:
        """What the script of a job has said, of all its hosts and attempts, as CloudWatch Logs has it."""
        group, lines = "/aws/sagemaker/TrainingJobs", []
        streams = self.call("logs", "describe_log_streams", logGroupName=group, logStreamNamePrefix=f"{name}/")
        for stream in streams["logStreams"]:
            events = self.call(
                "logs", "get_log_events", logGroupName=group, logStreamName=stream["logStreamName"], startFromHead=True
            )
            lines += [event["message"] for event in events["events"] if event["message"].startswith("line ")]
        return lines

    def gangs(self) -> list[str]:
        """The gangs of which something is left on disk."""
        return [run.name for run in self.server.config.runs.iterdir() if not run.name.startswith(".")]
