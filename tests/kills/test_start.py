"""What a server that was killed has left behind, the next one makes good when it starts."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sagesmith.testing.server import running_server


@pytest.mark.kill
@pytest.mark.slow
def test_a_server_killed_while_it_starts_starts_the_next_time(tmp_path: Path) -> None:
    """From nothing: keys, database and list of algorithms are made once, whole, or again."""
    data = tmp_path / "data"
    variables = {"SAGESMITH_DATA": str(data), "SAGESMITH_PORT": "0", "PYTHONPATH": os.pathsep.join(sys.path)}
    for tenth in range(1, 13):
        command = [sys.executable, "-m", "sagesmith.server"]
        process = subprocess.Popen(command, env={**os.environ, **variables}, stderr=subprocess.DEVNULL)
        time.sleep(tenth / 10)
        process.kill()
        process.wait()
    with running_server(data) as server:
        server.client("s3").create_bucket(Bucket="bucket")
        assert server.client("sagemaker").list_training_jobs()["TrainingJobSummaries"] == []


def test_bodies_that_were_being_received_are_dropped(tmp_path: Path) -> None:
    scratch = tmp_path / "s3" / ".tmp"
    scratch.mkdir(parents=True)
    (scratch / "half-a-body").write_bytes(b"x" * 1000)
    with running_server(tmp_path, process=False, engine="none"):
        assert list(scratch.iterdir()) == []
