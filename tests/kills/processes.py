"""The processes that belong to a server's data folder, found from outside by what they run."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import psutil

from sagesmith.testing.server import RunningServer

_PARTS = ("sagesmith.agent.nursery", "sagesmith.algorithms")  # children of a server that are no part of any job
LEAVING = 15.0  # seconds that agents have to go once their job has ended


def of_folder(data: Path) -> list[psutil.Process]:
    """Every process whose command line names the folder: servers' nurseries, agents, jobs."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and any(str(data) in word for word in process.cmdline()):
                found.append(process)
    return found


def of_jobs(server: RunningServer) -> list[psutil.Process]:
    """Agents and job processes: what is neither the server nor a part of it."""
    own = server.process.pid if server.process is not None else 0
    found = []
    for process in of_folder(server.config.data):
        with contextlib.suppress(psutil.Error):
            part = process.ppid() == own and any(name in " ".join(process.cmdline()) for name in _PARTS)
            if process.pid not in (own, os.getpid()) and not part:
                found.append(process)
    return found


def agents(server: RunningServer) -> list[psutil.Process]:
    return [process for process in of_jobs(server) if "sagesmith.agent" in " ".join(_words(process))]


def nursery(server: RunningServer) -> psutil.Process | None:
    """What forks the server's agents, unless it has been killed."""
    assert server.process is not None
    found = [process for process in of_folder(server.config.data) if _parent(process) == server.process.pid]
    return next((process for process in found if "sagesmith.agent.nursery" in _words(process)), None)


def jobs(server: RunningServer, verb: str) -> list[psutil.Process]:
    """The processes of `train` or `serve`."""
    return [process for process in of_jobs(server) if {"sagesmith.container", verb} <= set(_words(process))]


def wait_for_none(server: RunningServer) -> None:
    """Returns once nothing of any job runs.

    Raises:
        AssertionError: something still does; it is named.
    """
    deadline = time.monotonic() + LEAVING
    while left := of_jobs(server):
        assert time.monotonic() < deadline, f"left behind: {[_words(process) for process in left]}"
        time.sleep(0.05)


def _parent(process: psutil.Process) -> int:
    try:
        return process.ppid()
    except psutil.Error:
        return 0


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
