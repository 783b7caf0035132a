"""An agent's world: a fake server and a paper for one host."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from fake_server import FakeServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FakeServer]:
    fake = FakeServer(tmp_path / "address")
    yield fake
    fake.close()


@pytest.fixture
def paper(server: FakeServer) -> dict[str, Any]:
    return {
        "run": "training-1",
        "kind": "training",
        "name": "job",
        "arn": "arn:aws:sagemaker:us-east-1:123456789012:training-job/job",
        "region": "us-east-1",
        "account": "123456789012",
        "host": "algo-1",
        "hosts": ["algo-1"],
        "command": [],
        "environment": {},
        "cores": 1,
        "model_output": "s3://out/job/output/model.tar.gz",
        "data_output": "s3://out/job/output/output.tar.gz",
        "log_group": "/aws/sagemaker/TrainingJobs",
        "log_stream": "job/algo-1-1",
        "stop_grace": 20.0,
        "reports": "s3://runs/training-1",
        "address_file": str(server.address_file),
        "access_key": "AKIATEST",
        "secret_key": "very-secret",
    }


class Started:
    """An agent that was started as an engine would, but in the foreground."""

    def __init__(self, paper: dict[str, Any], home: Path) -> None:
        home.mkdir(parents=True)
        self.home = home
        (home / "agent.json").write_text(json.dumps(paper))
        environ = {**os.environ, "SECRET_OF_THE_SERVER": "x", "AWS_SECRET_ACCESS_KEY": "of the server"}
        environ["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sagesmith.agent", str(home / "agent.json")], env=environ, start_new_session=True
        )

    def wait(self, timeout: float = 60) -> dict[str, Any]:
        """The last report, once the agent has ended."""
        self.process.wait(timeout)
        return json.loads((self.home / "report.json").read_text())

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    @property
    def ml(self) -> Path:
        return self.home / "ml"


@pytest.fixture
def start(tmp_path: Path, paper: dict[str, Any]) -> Iterator[Callable[..., Started]]:
    """`start(script, **changes)` runs an agent whose job is a Python script; `--base DIR` is in sys.argv."""
    started: list[Started] = []

    def begin(script: str, **changes: Any) -> Started:
        changed = {**paper, "command": [sys.executable, "-c", script], **changes}
        started.append(Started(changed, tmp_path / changed["run"] / changed["host"]))
        return started[-1]

    yield begin
    for agent in started:
        for process in _family(agent.process.pid):
            process.kill()
        agent.process.wait()


def _family(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [*process.children(recursive=True), process]
    except psutil.NoSuchProcess:
        return []
