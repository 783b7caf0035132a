"""Script mode: the user's own script in place of the algorithm, run as SageMaker's framework images run it.

The hyperparameter `sagemaker_program` names the script, `sagemaker_submit_directory` the archive that holds it. The
script gets the other hyperparameters as `--key value` and the SM_* variables (environment.py), and leaves its model
in SM_MODEL_DIR. Source: the documented behaviour of sagemaker-training-toolkit.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any

from sagesmith.algorithms.base import Algorithm
from sagesmith.archives import ArchiveError, unpack
from sagesmith.container.configuration import read_hosts
from sagesmith.container.environment import Script, variables
from sagesmith.container.failures import OTHER_ERROR, JobError
from sagesmith.container.log_lines import logger
from sagesmith.contract import JobFolder

PROGRAM = "sagemaker_program"
SUBMIT_DIRECTORY = "sagemaker_submit_directory"
TAIL_LINES = 20  # lines of the script's stderr that the failure text may quote
PACKAGES = ".packages"  # below the base folder: what requirements.txt asked for


def is_script(algorithm: type[Algorithm], hyperparameters: Mapping[str, str]) -> bool:
    """Whether the job brings its own script; only framework images take one."""
    return algorithm.framework and PROGRAM in hyperparameters


def run_script(folder: JobFolder, given: Mapping[str, str]) -> None:
    """Runs the user's script to its end.

    Raises:
        JobError: no such script, code that cannot be unpacked, or the script failed (with the end of its stderr).
    """
    values = {name: _decode(value) for name, value in given.items()}
    program = _program(values)
    script = Script(
        program=program,
        submit_directory=str(values.get(SUBMIT_DIRECTORY, "")),
        hyperparameters={name: v for name, v in values.items() if not name.startswith("sagemaker_")},
        platform={name: v for name, v in values.items() if name.startswith("sagemaker_")},
    )
    _fetch_code(folder, script)
    if not (folder.code / program).is_file():
        there = ", ".join(sorted(entry.name for entry in folder.code.iterdir())[:20]) or "nothing"
        raise JobError(f"{PROGRAM} {program!r} is not in the submitted code; there is: {there}")
    host, hosts = read_hosts(folder)
    environment = dict(os.environ) | variables(folder, script, host, hosts)
    path = [str(folder.code), *_install(folder, environment), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(part for part in path if part)
    command = _command(program, script.arguments())
    logger.info("Invoking user script\n\n%s\n", shlex.join(command))
    _run(command, folder.code, environment)


def _decode(value: str) -> Any:
    """Framework estimators send every value as JSON; a value that is none is taken as it is."""
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _program(values: Mapping[str, Any]) -> str:
    program = values[PROGRAM]
    if not isinstance(program, str) or not program.endswith((".py", ".sh")):
        raise JobError(f"{PROGRAM} must name a .py or .sh file, found {program!r:.200}")
    path = PurePosixPath(program)
    if path.is_absolute() or ".." in path.parts:
        raise JobError(f"{PROGRAM} must lie inside the submitted code, found {program!r:.200}")
    return program


def _fetch_code(folder: JobFolder, script: Script) -> None:
    """Fills code/: already there (the agent's work), in the `code` channel, on this disk, or in S3."""
    folder.code.mkdir(parents=True, exist_ok=True)
    if not any(folder.code.iterdir()):
        source = script.submit_directory
        local = folder.base / source.removeprefix("/opt/ml/") if source.startswith("/opt/ml/") else Path(source or "/-")
        if source.startswith("s3://"):
            _download(source, folder.code / "sourcedir.tar.gz")
        elif local.is_file() or local.is_dir():
            folder.code.rmdir()
            folder.code.symlink_to(local if local.is_dir() else local.parent)
        elif folder.channel("code").is_dir():
            folder.code.rmdir()
            folder.code.symlink_to(folder.channel("code"))
    for archive in sorted(folder.code.glob("*.tar.gz")):
        if not (folder.code / script.program).exists():
            try:
                unpack(archive, folder.code.resolve())
            except ArchiveError as error:
                raise JobError(f"{SUBMIT_DIRECTORY}: {error}") from None


def _download(uri: str, into: Path) -> None:
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, _, key = uri.removeprefix("s3://").partition("/")
    try:
        boto3.client("s3").download_file(bucket, key, str(into))
    except (BotoCoreError, ClientError) as error:
        raise JobError(f"{SUBMIT_DIRECTORY} {uri} could not be downloaded: {error}") from None


def _install(folder: JobFolder, environment: Mapping[str, str]) -> list[str]:
    """Installs requirements.txt into a folder of the job's own, so that no job changes another's packages."""
    requirements = folder.code / "requirements.txt"
    if not requirements.is_file():
        return []
    target = folder.base / PACKAGES
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--target", str(target), "--upgrade", "--requirement", str(requirements)]
    logger.info("Installing dependencies from requirements.txt")
    done = subprocess.run(command, env=dict(environment), capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip() or "pip gave no reason").splitlines()
        raise JobError(f"requirements.txt could not be installed: {lines[-1]}")
    return [str(target)]


def _command(program: str, arguments: list[str]) -> list[str]:
    interpreter = [sys.executable] if program.endswith(".py") else ["/bin/sh"]
    return [*interpreter, program, *arguments]


def _run(command: list[str], folder: Path, environment: Mapping[str, str]) -> None:
    stopping = threading.Event()
    process = subprocess.Popen(command, cwd=folder, env=dict(environment), stderr=subprocess.PIPE)

    def forward(signum: int, frame: object) -> None:
        stopping.set()
        process.send_signal(signal.SIGTERM)

    signal.signal(signal.SIGTERM, forward)
    assert process.stderr is not None
    tail = _copy(process.stderr)
    status = process.wait()
    if stopping.is_set() and status in (0, -signal.SIGTERM, 128 + signal.SIGTERM):
        logger.info("The script was stopped by SIGTERM")
        return
    if status:
        raise JobError(_failure(command, status, tail), prefix="AlgorithmError", status=OTHER_ERROR)


def _copy(stream: IO[bytes]) -> list[str]:
    """Passes the script's stderr on, line by line, and returns its last lines."""
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    while line := stream.readline(1 << 16):
        sys.stderr.buffer.write(line)
        sys.stderr.buffer.flush()
        tail.append(line.decode("utf-8", "replace").rstrip())
    return list(tail)


def _failure(command: list[str], status: int, tail: list[str]) -> str:
    """The last line names the exception in a traceback, so it comes first; the rest is context."""
    message = next((line for line in reversed(tail) if line.strip()), "")
    how = f"ExitCode {status}" if status > 0 else f"killed by signal {-status} ({signal.Signals(-status).name})"
    return f'ExecuteUserScriptError: {how}, ErrorMessage "{message}", Command "{shlex.join(command)}"'
