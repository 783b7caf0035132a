"""Engines run real agents against the agent tests' small fake server."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "agent"))
from fake_server import FakeServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FakeServer]:
    fake = FakeServer(tmp_path / "address")
    yield fake
    fake.close()


@pytest.fixture
def paper(server: FakeServer) -> dict[str, Any]:
    return {
        "run": "",
        "kind": "training",
        "name": "job",
        "arn": "arn:aws:sagemaker:us-east-1:123456789012:training-job/job",
        "region": "us-east-1",
        "account": "123456789012",
        "host": "algo-1",
        "hosts": ["algo-1"],
        "command": [sys.executable, "-c", "{script}"],
        "environment": {},
        "cores": 1,
        "log_group": "/aws/sagemaker/TrainingJobs",
        "log_stream": "",
        "stop_grace": 20.0,
        "reports": "s3://runs",
        "address_file": str(server.address_file),
        "access_key": "AKIATEST",
        "secret_key": "very-secret",
    }


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Path]:
    """The runs folder; whatever still runs below it at the end is killed."""
    folder = tmp_path / "runs"
    yield folder
    for process in psutil.process_iter(["cmdline"]):
        if any(str(folder) in word for word in process.info["cmdline"] or ()):
            process.kill()
