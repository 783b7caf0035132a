"""A command that needs the path /opt/ml itself: run in a mount namespace in which its job's folder lies there.

Nothing of it is seen outside, so jobs of one host each have their own /opt/ml. Source: mount_namespaces(7), unshare(1).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from sagesmith.agent.failures import JobFailed

OPT_ML = Path("/opt/ml")
PACKAGES = OPT_ML / ".packages"  # where pip installs for the job, so that no job changes another's packages
_BIND = 'mount --bind "$0" /opt/ml && cd /opt/ml && exec "$@"'  # exec: signals and exit status are the command's own
_NEEDS = "ClientError: ContainerEntrypoint needs /opt/ml to be the job's own folder, "


def at_opt_ml(base: Path, command: list[str]) -> list[str]:
    """The command line that runs `command` with the folder `base` at /opt/ml.

    Raises:
        JobFailed: this host cannot do that; the text says what to do.
    """
    unshare = shutil.which("unshare")
    if sys.platform != "linux" or unshare is None:
        raise JobFailed(f"{_NEEDS}which takes Linux and util-linux's unshare: run the server on a host that has both")
    _make_mount_point()
    become_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    prefix = [unshare, "--mount", "--propagation", "private", *become_root, "sh", "-c", _BIND, str(base)]
    tried = subprocess.run([*prefix, "true"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if tried.returncode:
        raise JobFailed(
            f"{_NEEDS}but this host allows no mount namespace ({tried.stderr.strip()[:300]}): run the server as root "
            "with CAP_SYS_ADMIN, or allow user namespaces to unprivileged users"
        )
    return [*prefix, *command]


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
