"""A live server for tests with real clients, with the environment that `sagesmith env` prints, and proof that it leaves
no process behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from sagesmith.testing.server import RunningServer, running_server

ROOT = Path(__file__).parent.parent.parent
ROLE = "arn:aws:iam::123456789012:role/service-role/SageMakerRole"
IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1"
LEAVE_SECONDS = 30.0  # for the processes of jobs that a test has just ended


@contextmanager
def live_server(data: Path, **settings: Any) -> Iterator[RunningServer]:
    """A running server; at its end every endpoint is deleted, and a process that is left is ended and fails the test.

    Args:
        data: its data folder.
        settings: as for `running_server`.
    """
    try:
        with running_server(data, **settings) as server:
            yield server
            delete_endpoints(server)
    finally:
        left = _left_after_a_while(data)
        described = [" ".join(process.info["cmdline"] or ()) for process in left]
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
    assert not described, f"processes were left running: {described}"


def delete_endpoints(server: RunningServer) -> None:
    """Deletes whatever endpoints there are and waits until they are gone."""
    sagemaker = server.client("sagemaker")
    for endpoint in sagemaker.list_endpoints(MaxResults=100)["Endpoints"]:
        if endpoint["EndpointStatus"] != "Deleting":
            sagemaker.delete_endpoint(EndpointName=endpoint["EndpointName"])
    wait_for(lambda: not sagemaker.list_endpoints()["Endpoints"], "every endpoint is deleted")


def processes_of(data: Path) -> list[psutil.Process]:
    """Server, nursery, agents and jobs of a data folder: all of them name it on their command line."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if process.pid != os.getpid() and any(str(data) in part for part in process.info["cmdline"] or ()):
            found.append(process)
    return found


def _left_after_a_while(data: Path) -> list[psutil.Process]:
    deadline = time.monotonic() + LEAVE_SECONDS
    while (left := processes_of(data)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return left


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 120.0) -> Any:
    """Returns what `condition` returns once that is true."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain until {what}"
        time.sleep(0.1)
    return answer


def printed_environment(server: RunningServer) -> dict[str, str]:
    """What `sagesmith env --json` prints for the server, run as the command it is."""
    command = [sys.executable, "-m", "sagesmith", "env", "--json", "--data", str(server.config.data)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    variables: dict[str, str] = json.loads(done.stdout)
    return variables


def client_environment(server: RunningServer, home: Path) -> dict[str, str]:
    """The whole environment of a client: nothing of ours but what `sagesmith env` prints."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    return {**kept, "HOME": str(home), **printed_environment(server)}


def sdk_python(version: int) -> Path:
    """The interpreter with the SageMaker Python SDK of that major version; skips the test when there is none."""
    variable = f"SAGESMITH_SDK{version}"
    path = Path(os.environ.get(variable) or ROOT / f".venv-sdk{version}" / "bin" / "python")
    if not path.exists():
        pytest.skip(f"SageMaker Python SDK v{version}: no interpreter at {path} (see `make test`, {variable})")
    return path


def aws_cli() -> Path:
    """The AWS CLI of the SDK's environment, else the one on PATH; skips the test when there is neither."""
    own = ROOT / ".venv-sdk2" / "bin" / "aws"
    found = own if own.exists() else shutil.which("aws")
    if found is None:
        pytest.skip(f"AWS CLI: neither {own} (see `make test`) nor `aws` on PATH")
    return Path(found)


def run_documented(server: RunningServer, version: int, folder: Path, prelude: str = "") -> str:
    """Runs docs/clients.md's example for an SDK in a folder with train.csv, and returns what it printed."""
    page = (ROOT / "docs" / "clients.md").read_text("utf-8").partition(f"## SageMaker Python SDK v{version}\n")[2]
    program = prelude + page.partition("```python\n")[2].partition("```")[0]
    environment = {**client_environment(server, folder), "PYTHONPATH": str(Path(__file__).parent)}
    command = [str(sdk_python(version)), "-c", program]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    return done.stdout


def run_flow(server: RunningServer, version: int, flow: str, folder: Path, seconds: float = 150.0) -> dict[str, Any]:
    """Runs tests/clients/<flow>.py with an SDK's own interpreter, and returns the JSON object that it wrote."""
    answer = folder / f"{flow}.json"
    command = [str(sdk_python(version)), str(Path(__file__).parent / f"{flow}.py"), str(folder), str(answer)]
    environment = client_environment(server, folder)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=seconds)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    seen: dict[str, Any] = json.loads(answer.read_text("utf-8"))
    return seen


def serve(server: RunningServer, name: str) -> None:
    """An endpoint of one instance in service for a model, all of one name, through boto3."""
    sagemaker = server.client("sagemaker")
    variant = {"VariantName": "v", "ModelName": name, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 300})


def transform_lines(server: RunningServer, name: str, source: str, out: str, content_type: str, accept: str) -> None:
    """A finished transform job of a model, both called `name`, over the lines of a prefix's objects, through boto3."""
    sagemaker = server.client("sagemaker")
    sagemaker.create_transform_job(
        TransformJobName=name,
        ModelName=name,
        TransformInput={
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": source}},
            "ContentType": content_type,
            "SplitType": "Line",
        },
        TransformOutput={"S3OutputPath": out, "AssembleWith": "Line", "Accept": accept},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
    )
    waiter = sagemaker.get_waiter("transform_job_completed_or_stopped")
    waiter.wait(TransformJobName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 120})
