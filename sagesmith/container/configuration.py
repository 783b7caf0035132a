"""The job's configuration files, read and checked: hyperparameters, hosts, checkpoints; every fault in words."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sagesmith.algorithms.base import Algorithm
from sagesmith.algorithms.hyperparameters import HyperparameterError
from sagesmith.container.failures import JobError
from sagesmith.contract import JobFolder

logger = logging.getLogger("sagesmith.container")

# Keys that every MXNet-based image of SageMaker takes although no document names them; seen in logs of real jobs.
IGNORED = frozenset(
    {
        "_data_format",
        "_enable_profiler",
        "_kvstore",
        "_log_level",
        "_num_gpus",
        "_num_kv_servers",
        "_tuning_objective_metric",
        "epochs",
        "force_dense",
    }
)


def read_hyperparameters(path: Path, folder: JobFolder) -> dict[str, str]:
    """hyperparameters.json: a flat map of strings.

    Raises:
        JobError: not JSON, not an object, or a value that is no string.
    """
    content = read(path, folder)
    for name, value in content.items():
        if not isinstance(value, str):
            raise JobError(f"{path}: the value of {name!r} must be a string, found {json.dumps(value)[:100]}")
    return content


def read(path: Path, folder: JobFolder) -> dict[str, Any]:
    """One configuration file; {} when it is absent.

    Raises:
        JobError: it is not a JSON object.
    """
    try:
        return folder.read_json(path)
    except RecursionError:
        raise JobError(f"{path} is nested too deeply") from None
    except ValueError as error:
        raise JobError(str(error)) from None


def configure(algorithm: type[Algorithm], given: Mapping[str, str], source: Path) -> Algorithm:
    """An instance with checked hyperparameters; prints AWS's three lines about where they came from.

    Raises:
        JobError: unknown, missing, unreadable or out of range, in the words of SageMaker's images.
    """
    platform = {name for name in given if name.startswith("sagemaker_")} if algorithm.framework else set()
    names = {name for p in algorithm.hyperparameters.values() for name in (p.name, *p.aliases)}
    ignored = set() if algorithm.framework else IGNORED - names
    used = {name: value for name, value in given.items() if name not in platform | ignored}
    if not algorithm.framework:
        _announce(algorithm, given, source)
    for name in sorted(set(given) & ignored):
        logger.info("Hyperparameter %s is taken for compatibility and has no effect", name)
    try:
        for parameter in algorithm.hyperparameters.values():
            if parameter.inferred and not {parameter.name, *parameter.aliases} & used.keys():
                raise HyperparameterError(f"Missing required hyperparameter: {parameter.name}")
        return algorithm.from_strings(used)
    except HyperparameterError as error:
        # SageMaker's own images call this an AlgorithmError, its XGBoost image the client's.
        raise JobError(str(error), prefix="ClientError" if algorithm.framework else "AlgorithmError") from None


def _announce(algorithm: type[Algorithm], given: Mapping[str, str], source: Path) -> None:
    parameters = algorithm.hyperparameters.values()
    defaults = {p.name: _text(p.default) for p in parameters if not p.required and p.default is not None}
    origin = algorithm.__module__.replace(".", "/") + ".py"
    logger.info("Reading default configuration from %s: %s", origin, defaults)
    logger.info("Merging with provided configuration from %s: %s", source, dict(given))
    logger.info("Final configuration: %s", defaults | dict(given))


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else json.dumps(value, default=str)


def read_hosts(folder: JobFolder) -> tuple[str, list[str]]:
    """This host's name and all names, sorted, from resourceconfig.json; one host called algo-1 when it is absent.

    Raises:
        JobError: members that are missing or of the wrong type, or a host that is not among the hosts.
    """
    content = read(folder.resource_config, folder)
    host, hosts = content.get("current_host", "algo-1"), content.get("hosts", ["algo-1"])
    if not isinstance(hosts, list) or not hosts or not all(isinstance(name, str) and name for name in hosts):
        raise JobError(f"{folder.resource_config}: 'hosts' must be a list of names, found {hosts!r:.200}")
    if len(set(hosts)) != len(hosts):
        raise JobError(f"{folder.resource_config}: 'hosts' names a host twice: {', '.join(sorted(hosts)):.200}")
    if host not in hosts:
        raise JobError(f"{folder.resource_config}: 'current_host' {host!r:.100} is not one of 'hosts'")
    return str(host), sorted(hosts)


def read_checkpoints(folder: JobFolder) -> Path | None:
    """The folder for checkpoints, made when absent; None when the job has no checkpointing.

    A LocalPath below /opt/ml stands for the same path below the folder that stands for /opt/ml.

    Raises:
        JobError: a LocalPath that is no absolute path, or leaves /opt/ml.
    """
    content = read(folder.checkpoint_config, folder)
    if not content:
        return None
    local = content.get("LocalPath") or "/opt/ml/checkpoints"
    if not isinstance(local, str) or not local.startswith("/"):
        raise JobError(f"{folder.checkpoint_config}: 'LocalPath' must be an absolute path, found {local!r:.200}")
    path = Path(local)
    if path.is_relative_to("/opt/ml"):
        path = folder.base / path.relative_to("/opt/ml")
    if ".." in path.parts:
        raise JobError(f"{folder.checkpoint_config}: 'LocalPath' must not contain '..', found {local!r:.200}")
    path.mkdir(parents=True, exist_ok=True)
    return path
