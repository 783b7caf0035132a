"""Commands that speak with a running server, as the processes that people start."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from sagesmith.testing.server import RunningServer
from tests.clients.conftest import rows
from tests.clients.live import IMAGE, ROLE, ROOT, live_server, processes_of, wait_for

pytest.importorskip("xgboost")
pytestmark = pytest.mark.slow

SAGESMITH = [sys.executable, "-m", "sagesmith"]
BUCKET = "live"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with live_server(tmp_path_factory.mktemp("commands") / "data", stop_grace=5.0) as server:
        s3 = server.client("s3")
        s3.create_bucket(Bucket=BUCKET)
        s3.put_object(Bucket=BUCKET, Key="train/rows.csv", Body=rows(200).encode())
        yield server


def environment(**changes: str) -> dict[str, str]:
    """Ours, without what would lead the commands to another server."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SAGESMITH_"))}
    return {**kept, "PYTHONPATH": str(ROOT), **changes}


def process(server: RunningServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*SAGESMITH, *arguments, "--data", str(server.config.data)]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)


def run(server: RunningServer, *arguments: str) -> str:
    done = process(server, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def create_job(server: RunningServer, name: str, rounds: int) -> None:
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/train/"}}
    server.client("sagemaker").create_training_job(
        TrainingJobName=name,
        AlgorithmSpecification={"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        RoleArn=ROLE,
        InputDataConfig=[{"ChannelName": "train", "ContentType": "text/csv", "DataSource": source}],
        OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/models"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10},
        StoppingCondition={"MaxRuntimeInSeconds": 600},
        HyperParameters={"objective": "binary:logistic", "num_round": str(rounds)},
    )


def test_a_shell_that_evaluates_env_has_what_a_client_needs(server: RunningServer) -> None:
    exports = run(server, "env")
    show = f"{shlex.quote(sys.executable)} -c 'import json, os; print(json.dumps(dict(os.environ)))'"
    shell = subprocess.run(
        ["/bin/sh", "-c", f"{exports}\n{show}"], env=environment(), capture_output=True, text=True, check=True
    )
    seen, wanted = json.loads(shell.stdout), json.loads(run(server, "env", "--json"))
    assert {name: seen[name] for name in wanted} == wanted
    assert wanted["AWS_ENDPOINT_URL"] == server.address
    assert wanted["AWS_ACCESS_KEY_ID"] == server.key.id
    program = "import boto3; print(boto3.client('sts').get_caller_identity()['Account'])"
    answer = subprocess.run(
        [sys.executable, "-c", program], env=environment(**wanted), capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "123456789012"
    assert Path(wanted["SAGEMAKER_USER_CONFIG_OVERRIDE"]).read_text().count("RoleArn: arn:aws:iam::123456789012:role/")


def test_logs_follow_a_job_to_its_end_and_jobs_lists_it(server: RunningServer) -> None:
    create_job(server, "followed", rounds=400)
    lines = run(server, "logs", "followed", "--follow").splitlines()
    assert lines[0] == "Docker entrypoint called with argument(s): train"
    numbers = [int(found[1]) for line in lines if (found := re.match(r"\[(\d+)\]#011train-logloss:", line))]
    assert numbers == list(range(400)), "every line once, to the last"
    events = [json.loads(line) for line in run(server, "logs", "followed", "--json").splitlines()]
    assert [event["message"] for event in events] == lines
    (job,) = [job for job in json.loads(run(server, "jobs", "--json")) if job["name"] == "followed"]
    assert (job["kind"], job["status"]) == ("training", "Completed")
    assert "followed" in run(server, "jobs")


def test_logs_of_nobody_are_refused_with_a_hint(server: RunningServer) -> None:
    done = process(server, "logs", "nobody")
    assert done.returncode == 1
    assert "nobody" in done.stderr
    assert "sagesmith jobs" in done.stderr


def test_up_starts_answers_and_ends(tmp_path: Path) -> None:
    data = tmp_path / "data"
    up = [*SAGESMITH, "up", "--port", "0", "--data", str(data)]
    with subprocess.Popen(up, env=environment(), stderr=subprocess.PIPE, text=True) as server:
        wait_for((data / "address").exists, "the server has written its address")
        second = subprocess.run(up, env=environment(), capture_output=True, text=True, timeout=60)
        assert second.returncode == 1
        assert f"another server (process {server.pid}) runs on the data folder" in second.stderr
        server.send_signal(signal.SIGINT)
        _, said = server.communicate(timeout=30)
        assert server.returncode == 0, said
    assert f"sagesmith answers at {(data / 'address').read_text().strip()}" in said
    wait_for(lambda: not processes_of(data), "nothing of it runs")


def test_the_demo_ends_well_and_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sagesmith.demo"],
        env=environment(TMPDIR=str(tmp_path)),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    auc = re.search(r"Held-out AUC ([0-9.]+)", done.stdout)
    assert auc, done.stdout
    assert 0.9 < float(auc[1]) < 0.95, "what XGBoost reaches on this data set"
    wait_for(lambda: not processes_of(tmp_path), "nothing of it runs")  # an agent may be on its last lines
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("sagesmith-demo-")]


def test_a_kept_demo_goes_on_until_its_server_is_stopped(tmp_path: Path) -> None:
    data = tmp_path / "data"
    done = subprocess.run(
        [sys.executable, "-m", "sagesmith.demo", "--keep", "--data", str(data)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=240,
    )
    try:
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"sagesmith env --data {data}" in " ".join(done.stdout.split())
        variables = _json([*SAGESMITH, "env", "--json", "--data", str(data)])
        program = (
            "import boto3; print(boto3.client('sagemaker-runtime').invoke_endpoint(EndpointName='demo', "
            "ContentType='text/csv', Body=','.join(['1'] * 14))['Body'].read().decode())"
        )
        invoked = subprocess.run(
            [sys.executable, "-c", program], env=environment(**variables), capture_output=True, text=True, timeout=60
        )
        assert 0 < float(invoked.stdout) < 1, invoked.stderr
    finally:
        _end_server(data)
    wait_for(lambda: not processes_of(data), "server and endpoint have ended")


def _json(command: list[str]) -> Any:
    return json.loads(subprocess.run(command, env=environment(), capture_output=True, text=True, check=True).stdout)


def _end_server(data: Path) -> None:
    """SIGTERM to the server that holds the data folder."""
    server = psutil.Process(int((data / "lock").read_text()))
    assert str(data) in server.cmdline()
    server.terminate()
    server.wait(60)
