"""The SM_* variables of SageMaker's training toolkit, by which a user's script finds its data and settings."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from sagesmith.container.configuration import read
from sagesmith.container.failures import JobError
from sagesmith.contract import JobFolder


@dataclass(frozen=True)
class Script:
    """A user's script: `program` relative to the code folder, its hyperparameters decoded, and the platform's own."""

    program: str
    submit_directory: str
    hyperparameters: Mapping[str, Any]
    platform: Mapping[str, Any]

    def arguments(self) -> list[str]:
        """`--key value` for every hyperparameter in the order of names; `-k value` for names of one letter."""
        found = []
        for name in sorted(self.hyperparameters):
            value = self.hyperparameters[name]
            found += [f"{'-' if len(name) == 1 else '--'}{name}", value if isinstance(value, str) else str(value)]
        return found

    @property
    def module(self) -> str:
        return self.program.removesuffix(".py").replace("/", ".")

    @property
    def log_level(self) -> int:
        """`sagemaker_container_log_level`, a number of Python's logging.

        Raises:
            JobError: it is not a whole number.
        """
        level = self.platform.get("sagemaker_container_log_level", 20)
        if isinstance(level, bool) or not isinstance(level, int):
            raise JobError(f"sagemaker_container_log_level must be a whole number, found {level!r:.100}")
        return level


# Members of SM_TRAINING_ENV that have no variable of their own, or one under another name.
_NOT_SINGLE = frozenset({"channel_input_dirs", "hyperparameters", "is_master", "job_name", "master_hostname"})


def variables(folder: JobFolder, script: Script, host: str, hosts: Sequence[str]) -> dict[str, str]:
    """Every SM_* variable of one host; lists and maps as JSON."""
    described = _describe(folder, script, host, hosts)
    named = {f"SM_{name.upper()}": value for name, value in described.items() if name not in _NOT_SINGLE}
    named |= {
        "SM_CHANNELS": sorted(described["channel_input_dirs"]),
        "SM_HPS": dict(script.hyperparameters),
        "SM_USER_ARGS": script.arguments(),
        "SM_ENTRY_POINT": script.program,
        "SM_TRAINING_ENV": described,
        "SM_INPUT_TRAINING_CONFIG_FILE": str(folder.hyperparameters),
        "SM_INPUT_DATA_CONFIG_FILE": str(folder.input_data_config),
        "SM_CHECKPOINT_CONFIG_FILE": str(folder.checkpoint_config),
    }
    named |= {f"SM_CHANNEL_{name.upper()}": path for name, path in described["channel_input_dirs"].items()}
    named |= {f"SM_HP_{name.upper()}": value for name, value in script.hyperparameters.items()}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in named.items()}


def _describe(folder: JobFolder, script: Script, host: str, hosts: Sequence[str]) -> dict[str, Any]:
    """The content of SM_TRAINING_ENV."""
    resources = read(folder.resource_config, folder)
    channels = read(folder.input_data_config, folder)
    return {
        "channel_input_dirs": {name: str(folder.channel(name)) for name in sorted(channels)},
        "current_host": host,
        "framework_module": "",
        "hosts": list(hosts),
        "hyperparameters": dict(script.hyperparameters),
        "input_config_dir": str(folder.config),
        "input_data_config": channels,
        "input_dir": str(folder.base / "input"),
        "is_master": host == hosts[0],
        "job_name": os.environ.get("TRAINING_JOB_NAME") or script.platform.get("sagemaker_job_name", ""),
        "log_level": script.log_level,
        "master_hostname": hosts[0],
        "model_dir": str(folder.model),
        "module_dir": script.submit_directory or str(folder.code),
        "module_name": PurePosixPath(script.module).name,
        "network_interface_name": resources.get("network_interface_name", "lo"),
        "num_cpus": int(os.environ.get("OMP_NUM_THREADS") or 0) or len(os.sched_getaffinity(0)),
        "num_gpus": _gpus(),
        "num_neurons": 0,
        "output_data_dir": str(folder.output_data),
        "output_dir": str(folder.output),
        "output_intermediate_dir": str(folder.output / "intermediate"),
        "resource_config": resources,
        "user_entry_point": script.program,
    }


def _gpus() -> int:
    if not shutil.which("nvidia-smi"):
        return 0
    listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=False)
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
