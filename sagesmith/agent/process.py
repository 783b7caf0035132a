"""The job's process: started with a clean environment in a session of its own, ended with all its children."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO, cast

import psutil

from sagesmith.agent.spool import Spool, collect
from sagesmith.contract import AgentPaper, JobFolder, write_private

KEPT = (
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "LD_LIBRARY_PATH",
)  # what a job sees of the agent's environment; never a key
SET_PDEATHSIG = 1  # <linux/prctl.h>


def environment(paper: AgentPaper, folder: JobFolder, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The whole environment of the job's process. The user's variables may change how threads wait, not who it is."""
    clean = {name: os.environ[name] for name in KEPT if name in os.environ}
    clean |= {
        "OMP_NUM_THREADS": str(paper["cores"]),
        "NUMBA_NUM_THREADS": str(paper["cores"]),
        "OMP_WAIT_POLICY": "PASSIVE",
        "KMP_BLOCKTIME": "0",
        "PYTHONUNBUFFERED": "1",
    }
    clean |= paper["environment"]
    clean |= {
        "AWS_REGION": paper["region"],
        "SAGEMAKER_REGION": paper["region"],
        "SAGEMAKER_BASE_DIR": str(folder.base),
        "SAGEMAKER_DATA_PATH": str(folder.base),
        "SAGEMAKER_METRICS_DIRECTORY": str(folder.output / "metrics" / "sagemaker"),
        "DMLC_INTERFACE": "lo",
        "SM_CURRENT_HOST": paper["host"],
    }
    if paper["kind"] == "training":
        clean |= {"TRAINING_JOB_NAME": paper["name"], "TRAINING_JOB_ARN": paper["arn"]}
    return clean | dict(extra or {})


class JobProcess:
    """A running command. Start it from the main thread: on Linux the kernel ends it when that thread dies.

    Args:
        command: what to run.
        environ: its whole environment.
        folder: the run folder of this host; `job.json` there tells the engine which session to end if we are killed.
        base: the working directory.
        spool, notice: where each line of output goes.
        wake: set when the process has ended.
    """

    def __init__(
        self,
        command: list[str],
        environ: Mapping[str, str],
        folder: Path,
        base: Path,
        spool: Spool,
        notice: Callable[[str], None],
        wake: threading.Event,
    ) -> None:
        self._process = subprocess.Popen(
            command,
            env=dict(environ),
            cwd=base,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            start_new_session=True,
            preexec_fn=_die_with_parent(),
        )
        self.pid = self._process.pid
        with contextlib.suppress(psutil.NoSuchProcess):
            created = psutil.Process(self.pid).create_time()
            write_private(folder / "job.json", json.dumps({"pid": self.pid, "created": created}))
        output = cast(BinaryIO, self._process.stdout)
        self._reader = threading.Thread(target=collect, args=(output, spool, notice), name="output", daemon=True)
        self._reader.start()
        self._ended = threading.Event()
        self._wake = wake
        threading.Thread(target=self._watch, name="exit", daemon=True).start()

    def _watch(self) -> None:
        self._process.wait()
        self._ended.set()
        self._wake.set()

    def running(self) -> bool:
        return not self._ended.is_set()

    def stop(self, grace: float) -> int:
        """SIGTERM to the process, SIGKILL to its whole session once it has ended or after `grace` seconds."""
        self._process.send_signal(signal.SIGTERM)
        self._ended.wait(grace)
        return self.end()

    def stop_all(self, grace: float) -> int:
        """As `stop`, but SIGTERM goes to the whole session, which has `grace` seconds: a shell would not pass it on."""
        deadline = time.monotonic() + grace
        for process in self.session():
            with contextlib.suppress(psutil.Error):
                process.terminate()
        while time.monotonic() < deadline and any(map(_alive, self.session())):
            time.sleep(0.05)  # the children of a shell that has ended are not ours to wait for
        return self.end()

    def end(self) -> int:
        """Kills what is left of the session and returns the exit status (negative: the signal that killed it)."""
        for process in self.session():
            with contextlib.suppress(psutil.Error):
                process.kill()
        self._ended.wait()
        self._reader.join(timeout=5)  # a process that left the session may hold the pipe open; it is not waited for
        return self._process.wait()

    def session(self) -> list[psutil.Process]:
        """The processes of the job's session that are alive."""
        return session_of(self.pid)


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def session_of(sid: int) -> list[psutil.Process]:
    """All processes of a session."""
    members = []
    for pid in psutil.pids():
        with contextlib.suppress(OSError, psutil.Error):
            if os.getsid(pid) == sid:
                members.append(psutil.Process(pid))
    return members


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _die_with_parent() -> Callable[[], None] | None:
    """What the child does before its command: asks Linux for SIGKILL when its parent dies. None elsewhere."""
    if sys.platform != "linux":
        return None
    prctl, parent = _libc().prctl, os.getpid()

    def ask() -> None:
        prctl(SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died in between
            os._exit(1)

    return ask


def ending(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"exit code: {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    hint = " (out of memory?)" if -code == signal.SIGKILL else ""
    return f"killed by {name}{hint}, exit code: {128 - code}"
