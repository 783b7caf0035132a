"""After a restart of the machine the numbers of processes and sessions belong to others, who must not be hurt."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from sagesmith.engines.base import State
from sagesmith.engines.local import LocalEngine

# A session whose leader has ended: what a daemon leaves that was started and let go.
DAEMON = """
import os, subprocess, sys
sleep = "import time; print(flush=True); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", sleep], stdout=subprocess.PIPE)
child.stdout.read(1)
print(os.getpid(), child.pid, flush=True)
os._exit(0)
"""


def session(variables: dict[str, str]) -> tuple[int, int]:
    """The numbers of a session without its leader, and of the process in it."""
    started = subprocess.run(
        [sys.executable, "-c", DAEMON],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        start_new_session=True,
    )
    leader, member = started.stdout.split()
    return int(leader), int(member)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The folder of a host whose agent is gone without a word."""
    home = tmp_path / "runs" / "training-1" / "algo-1"
    home.mkdir(parents=True)
    (home.parent / "gang.json").write_text(json.dumps({"hosts": ["algo-1"], "cores": 1, "memory": 1}))
    (home / "agent.json").write_text(json.dumps({"kind": "training"}))
    (home / "process.json").write_text(json.dumps({"pid": os.getpid(), "created": 0.0}))
    return home


@pytest.fixture
def members() -> Iterator[list[int]]:
    pids: list[int] = []
    yield pids
    for pid in pids:
        if psutil.pid_exists(pid):
            os.kill(pid, signal.SIGKILL)


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_another_session_of_the_same_number_lives_on(home: Path, members: list[int]) -> None:
    leader, member = session({})
    members.append(member)
    (home / "job.json").write_text(json.dumps({"pid": leader, "created": psutil.boot_time() - 1000}))
    assert LocalEngine(home.parents[1]).probe("training-1").state is State.LOST
    assert alive(member)


def test_an_orphan_of_the_job_is_ended_though_its_leader_is_gone(home: Path, members: list[int]) -> None:
    leader, member = session({"SAGEMAKER_BASE_DIR": str(home / "ml")})
    members.append(member)
    (home / "job.json").write_text(json.dumps({"pid": leader, "created": psutil.Process(member).create_time()}))
    assert LocalEngine(home.parents[1]).probe("training-1").state is State.LOST
    psutil.wait_procs([psutil.Process(member)] if psutil.pid_exists(member) else [], timeout=10)
    assert not alive(member)


def test_a_process_of_the_agents_number_is_not_signalled(home: Path) -> None:
    """process.json names this very process, which holds no lock: SIGTERM would end the test."""
    engine = LocalEngine(home.parents[1])
    engine.stop("training-1", 0.0)
    engine.stop("training-1", 1.0)
    assert engine.probe("training-1").state is State.EXITED
