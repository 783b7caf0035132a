"""`make demo`: a model trained, deployed and called through boto3, on real data, from nothing.

Starts a server of its own on a free loopback port, with its own data folder, and takes both away at the end unless
asked to keep them.
"""

from __future__ import annotations

import argparse
import gzip
import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import boto3
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from sagesmith.cli.env import environment
from sagesmith.core.config import Config

IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:3.0-5"
BUCKET = "sagesmith-demo"
ROUNDS = 60
VALIDATION_ROWS = 4000  # of the training file, held back for the log's validation metric
START_SECONDS = 60

console = Console()


class Steps:
    """The progress display: one line per step, its time when it is done."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.task: TaskID | None = None

    @contextmanager
    def step(self, text: str, total: int | None = None) -> Iterator[None]:
        self.task = self._progress.add_task(text, total=total)
        started = time.monotonic()
        yield
        self._progress.remove_task(self.task)
        self._progress.console.print(f"[green]✓[/] {text:<58} {time.monotonic() - started:6.2f} s")

    def advance(self, done: int) -> None:
        assert self.task is not None
        self._progress.update(self.task, completed=done)


def main() -> None:
    """Runs the demonstration; exit status 0 only when every step went well."""
    parser = argparse.ArgumentParser(prog="python -m sagesmith.demo", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--keep", action="store_true", help="leave the server and the endpoint running")
    parser.add_argument("--data", type=Path, help="data folder (default: a temporary one)")
    arguments = parser.parse_args()
    data = arguments.data or Path(tempfile.mkdtemp(prefix="sagesmith-demo-"))
    config = Config(data=data, port=0)
    server = _start_server(config)
    try:
        _wait_for_server(server, config)
        with _progress() as progress:
            run(config, Steps(progress), keep=arguments.keep)
        if arguments.keep:
            _say_how_to_go_on(config, server)
    except BaseException:
        _stop(server)
        raise
    if not arguments.keep:
        _stop(server)
        if arguments.data is None:
            shutil.rmtree(data, ignore_errors=True)


def run(config: Config, steps: Steps, keep: bool) -> None:
    """Upload, train, deploy, invoke, evaluate, delete: through boto3 only."""
    variables = environment(config)
    session = boto3.Session(
        aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
        region_name=config.region,
    )
    s3, sagemaker, runtime, logs = (
        session.client(name, endpoint_url=variables["AWS_ENDPOINT_URL"])
        for name in ("s3", "sagemaker", "sagemaker-runtime", "logs")
    )
    train, test = _rows("adult-train.csv.gz"), _rows("adult-test.csv.gz")
    with steps.step(f"Upload {len(train):,} rows of the UCI Adult census to s3://{BUCKET}"):
        s3.create_bucket(Bucket=BUCKET)
        s3.put_object(Bucket=BUCKET, Key="train/data.csv", Body=_csv(train[VALIDATION_ROWS:]))
        s3.put_object(Bucket=BUCKET, Key="validation/data.csv", Body=_csv(train[:VALIDATION_ROWS]))
    with steps.step(f"CreateTrainingJob: XGBoost, {ROUNDS} rounds", total=ROUNDS):
        artifact = _train(sagemaker, logs, steps)
    with steps.step("CreateModel, CreateEndpointConfig, CreateEndpoint"):
        _deploy(sagemaker, artifact)
    with steps.step(f"InvokeEndpoint: {len(test):,} held-out rows"):
        scores = _invoke(runtime, test[:, 1:])
    first = _invoke(runtime, test[:3, 1:])
    console.print(f"\nHeld-out AUC [bold]{auc(test[:, 0], scores):.4f}[/] on {len(test):,} rows the model never saw")
    for label, score in zip(test[:3, 0], first, strict=True):
        console.print(f"  P(income > 50K) = {score:.4f}   truth: {'>50K' if label else '<=50K'}")
    if not keep:
        with steps.step("Delete the endpoint"):
            sagemaker.delete_endpoint(EndpointName="demo")
            _until(lambda: _gone(sagemaker), "the endpoint to be deleted")


def auc(label: np.ndarray, score: np.ndarray) -> float:
    """Area under the ROC curve by ranks, ties shared (Mann-Whitney)."""
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positives = int(np.sum(label == 1))
    negatives = len(label) - positives
    return float((rank[label == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def _rows(name: str) -> np.ndarray:
    """A bundled file as float rows, label first; empty cells are NaN."""
    content = gzip.decompress(files("sagesmith").joinpath("examples_data", name).read_bytes())
    return np.genfromtxt(io.BytesIO(content), delimiter=",", dtype=np.float64)


def _csv(rows: np.ndarray) -> bytes:
    lines = (",".join("" if np.isnan(cell) else f"{cell:g}" for cell in row) for row in rows)
    return ("\n".join(lines) + "\n").encode()


def _train(sagemaker: Any, logs: Any, steps: Steps) -> str:
    def channel(name: str) -> dict[str, Any]:
        source = {
            "S3DataType": "S3Prefix",
            "S3Uri": f"s3://{BUCKET}/{name}/",
            "S3DataDistributionType": "FullyReplicated",
        }
        return {"ChannelName": name, "ContentType": "text/csv", "DataSource": {"S3DataSource": source}}

    sagemaker.create_training_job(
        TrainingJobName="demo",
        AlgorithmSpecification={"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        RoleArn="arn:aws:iam::123456789012:role/service-role/SageMakerRole",
        HyperParameters={
            "objective": "binary:logistic",
            "eval_metric": "auc",
            "num_round": str(ROUNDS),
            "max_depth": "5",
            "eta": "0.2",
        },
        InputDataConfig=[channel("train"), channel("validation")],
        OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/models"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10},
        StoppingCondition={"MaxRuntimeInSeconds": 600},
    )

    def ended() -> bool:
        steps.advance(_rounds(logs))
        return bool(sagemaker.describe_training_job(TrainingJobName="demo")["TrainingJobStatus"] != "InProgress")

    _until(ended, "the training job to end", seconds=600)
    job = sagemaker.describe_training_job(TrainingJobName="demo")
    if job["TrainingJobStatus"] != "Completed":
        raise SystemExit(f"training ended as {job['TrainingJobStatus']}: {job.get('FailureReason', 'no reason given')}")
    return str(job["ModelArtifacts"]["S3ModelArtifacts"])


def _rounds(logs: Any) -> int:
    """Boosting rounds seen in the job's log so far."""
    group = "/aws/sagemaker/TrainingJobs"
    try:
        events = logs.filter_log_events(logGroupName=group, logStreamNamePrefix="demo/", filterPattern="validation-auc")
    except logs.exceptions.ResourceNotFoundException:
        return 0
    return len(events["events"])


def _deploy(sagemaker: Any, artifact: str) -> None:
    sagemaker.create_model(
        ModelName="demo",
        PrimaryContainer={"Image": IMAGE, "ModelDataUrl": artifact},
        ExecutionRoleArn="arn:aws:iam::123456789012:role/service-role/SageMakerRole",
    )
    variant = {
        "VariantName": "AllTraffic",
        "ModelName": "demo",
        "InstanceType": "ml.m5.large",
        "InitialInstanceCount": 1,
    }
    sagemaker.create_endpoint_config(EndpointConfigName="demo", ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName="demo", EndpointConfigName="demo")

    def ready() -> bool:
        return bool(sagemaker.describe_endpoint(EndpointName="demo")["EndpointStatus"] != "Creating")

    _until(ready, "the endpoint to be in service", seconds=120)
    endpoint = sagemaker.describe_endpoint(EndpointName="demo")
    if endpoint["EndpointStatus"] != "InService":
        raise SystemExit(
            f"the endpoint is {endpoint['EndpointStatus']}: {endpoint.get('FailureReason', 'no reason given')}"
        )


def _invoke(runtime: Any, rows: np.ndarray, chunk: int = 4000) -> np.ndarray:
    scores: list[float] = []
    for start in range(0, len(rows), chunk):
        body = _csv(rows[start : start + chunk])
        answer = runtime.invoke_endpoint(EndpointName="demo", ContentType="text/csv", Body=body)
        scores += [float(line) for line in answer["Body"].read().split()]
    return np.array(scores)


def _gone(sagemaker: Any) -> bool:
    return not sagemaker.list_endpoints()["Endpoints"]


def _until(done: Any, what: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise SystemExit(f"waited {seconds:g} s in vain for {what}")
        time.sleep(0.1)


def _progress() -> Progress:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True)


def _start_server(config: Config) -> subprocess.Popen[bytes]:
    config.data.mkdir(parents=True, exist_ok=True)
    config.address_file.unlink(missing_ok=True)  # an earlier run's would be mistaken for this one's
    command = [sys.executable, "-m", "sagesmith", "up", "--data", str(config.data), "--port", "0"]
    log = (config.data / "server.log").open("wb")
    with log:
        return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)


def _wait_for_server(server: subprocess.Popen[bytes], config: Config) -> None:
    started = time.monotonic()
    while not config.address_file.exists():
        if server.poll() is not None or time.monotonic() - started > START_SECONDS:
            text = (config.data / "server.log").read_text("utf-8", "replace")
            raise SystemExit(f"the server did not start:\n{text}")
        time.sleep(0.02)
    address = config.address_file.read_text("utf-8").strip()
    console.print(f"[green]✓[/] {'sagesmith up at ' + address:<58} {time.monotonic() - started:6.2f} s")


def _stop(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is None:
        os.kill(server.pid, signal.SIGTERM)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


def _say_how_to_go_on(config: Config, server: subprocess.Popen[bytes]) -> None:
    address = config.address_file.read_text("utf-8").strip()
    console.print(
        f"\nThe server goes on at [bold]{address}[/] (process {server.pid}; `kill {server.pid}` stops it). Next:"
    )
    console.print(f'  eval "$({sys.executable} -m sagesmith env --data {config.data})"', soft_wrap=True)
    console.print("  aws sagemaker list-endpoints", soft_wrap=True)


if __name__ == "__main__":
    main()
