"""A job's own view of the file system: its folder at /opt/ml itself, folders that it can read but not write to.

Both are mounts in a namespace of the job's process, of which nothing is seen outside, so jobs of one host do not meet.
Source: mount_namespaces(7), mount(8), unshare(1).
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from sagesmith.agent.failures import JobFailed

OPT_ML = Path("/opt/ml")
PACKAGES = OPT_ML / ".packages"  # where pip installs for the job, so that no job changes another's packages
_NEEDS = "ClientError: ContainerEntrypoint needs /opt/ml to be the job's own folder, "


def at_opt_ml(base: Path, command: list[str], read_only: Sequence[Path] = ()) -> list[str]:
    """The command line that runs `command` with the folder `base` at /opt/ml, and folders in it read-only.

    Raises:
        JobFailed: this host cannot do that; the text says what to do.
    """
    if sys.platform != "linux" or shutil.which("unshare") is None:
        raise JobFailed(f"{_NEEDS}which takes Linux and util-linux's unshare: run the server on a host that has both")
    _make_mount_point()
    bind = f"{shlex.quote(_tool('mount'))} --rbind {shlex.quote(str(base))} {OPT_ML}"
    steps = [*_protecting(read_only), bind, f"cd {OPT_ML}"]
    if trouble := _try(steps):
        raise JobFailed(
            f"{_NEEDS}but this host allows no mount namespace ({trouble}): run the server as root "
            "with CAP_SYS_ADMIN, or allow user namespaces to unprivileged users"
        )
    return [*_unshared(steps), *command]


def protected(read_only: Sequence[Path], command: list[str]) -> list[str]:
    """The command line that runs `command` in its place, but unable to write to these folders."""
    return [*_unshared(_protecting(read_only)), *command] if read_only else command


def obstacle(read_only: Sequence[Path]) -> str:
    """Why this host cannot protect these folders, or ""; it is tried."""
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return "read-only mounts take Linux and util-linux's unshare"
    trouble = _try(_protecting(read_only))
    return f"this host allows no mount namespace ({trouble})" if trouble else ""


def _protecting(folders: Sequence[Path]) -> list[str]:
    quoted = [shlex.quote(str(folder)) for folder in folders]
    mount = shlex.quote(_tool("mount"))
    return [f"{mount} --bind {folder} {folder} && {mount} -o remount,bind,ro {folder}" for folder in quoted]


def _unshared(steps: Sequence[str]) -> list[str]:
    """What goes before a command: exec, so that signals and exit status are the command's own."""
    become_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    script = " && ".join([*steps, 'exec "$@"'])
    return [_tool("unshare"), "--mount", "--propagation", "private", *become_root, _tool("sh"), "-c", script, "sh"]


def _tool(name: str) -> str:
    """Where this host has it; a job's own PATH may lead elsewhere."""
    return shutil.which(name) or name


def _try(steps: Sequence[str]) -> str:
    """What the host says when it cannot take these steps, or ""."""
    command = [*_unshared(steps), "true"]
    tried = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return (tried.stderr.strip()[:300] or f"exit status {tried.returncode}") if tried.returncode else ""


def _make_mount_point() -> None:
    try:
        OPT_ML.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JobFailed(
            f"{_NEEDS}but there is no folder /opt/ml to mount it on ({error}): make an empty one, as root, with "
            "mkdir -p /opt/ml"
        ) from None


def variables(given: Mapping[str, str]) -> dict[str, str]:
    """What the command's environment has besides `given`: python, python3 and pip are the agent's own interpreter's."""
    own = str(Path(sys.executable).parent)
    return {
        "PATH": os.pathsep.join([own, given.get("PATH") or os.environ.get("PATH") or os.defpath]),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(PACKAGES), given.get("PYTHONPATH")])),
        "PIP_TARGET": str(PACKAGES),
        "PIP_UPGRADE": "1",
    }
