"""A disk that fills up under the server: clear errors, nothing torn, and all goes on once there is room again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("xgboost")

PRIVATE = ["unshare", "--map-root-user", "--mount"]
REPOSITORY = Path(__file__).parents[2]


def may_mount() -> bool:
    try:
        tried = subprocess.run([*PRIVATE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False)
    except FileNotFoundError:
        return False
    return tried.returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not may_mount(), reason="a small disk can be made only where user namespaces are allowed")
def test_a_full_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    command = [*PRIVATE, sys.executable, "-W", "error", "-m", "tests.kills.full_disk", str(disk)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
