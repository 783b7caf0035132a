"""The border: every path under `/opt/ml`, named once, and the paper that an agent is sent.

The same folder exists on a laptop, under sagesmith and in a container on real SageMaker, so the code on either side
of it never needs to know which. Source: the SageMaker developer guide's training and inference container contract.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict

FAILURE_CHARACTERS = 1024  # what DescribeTrainingJob shows of output/failure


@dataclass(frozen=True)
class JobFolder:
    """The paths of one container, below `base` (`/opt/ml` in a real container)."""

    base: Path

    @property
    def config(self) -> Path:
        return self.base / "input" / "config"

    @property
    def hyperparameters(self) -> Path:
        return self.config / "hyperparameters.json"

    @property
    def input_data_config(self) -> Path:
        return self.config / "inputdataconfig.json"

    @property
    def resource_config(self) -> Path:
        return self.config / "resourceconfig.json"

    @property
    def checkpoint_config(self) -> Path:
        return self.config / "checkpointconfig.json"

    @property
    def data(self) -> Path:
        return self.base / "input" / "data"

    def channel(self, name: str) -> Path:
        """The folder of a File or FastFile channel; also the prefix of a Pipe channel's FIFOs."""
        return self.data / name

    def pipe(self, name: str, epoch: int) -> Path:
        """The FIFO that carries a Pipe channel's `epoch`, counted from 0."""
        return self.data / f"{name}_{epoch}"

    @property
    def model(self) -> Path:
        return self.base / "model"

    @property
    def output(self) -> Path:
        return self.base / "output"

    @property
    def output_data(self) -> Path:
        return self.output / "data"

    @property
    def failure(self) -> Path:
        return self.output / "failure"

    @property
    def checkpoints(self) -> Path:
        return self.base / "checkpoints"

    @property
    def code(self) -> Path:
        return self.base / "code"

    def create(self) -> JobFolder:
        """Makes the folders that a container may expect to find."""
        for folder in (self.config, self.data, self.model, self.output_data, self.checkpoints):
            folder.mkdir(parents=True, exist_ok=True)
        return self

    def read_json(self, path: Path) -> dict[str, Any]:
        """One of the configuration files; {} when it is absent.

        Raises:
            ValueError: the file is not a JSON object, naming it.
        """
        try:
            content = json.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise ValueError(f"{path} is not valid JSON: {error}") from None
        if not isinstance(content, dict):
            raise ValueError(f"{path} must hold a JSON object, found {type(content).__name__}")
        return content

    def write_failure(self, text: str) -> None:
        """Leaves the reason for which the job failed, where DescribeTrainingJob finds it."""
        self.output.mkdir(parents=True, exist_ok=True)
        self.failure.write_text(text, "utf-8")


class AgentPaper(TypedDict):
    """What the server hands an agent (`agent.json` in the host's run folder, readable by its owner alone)."""

    run: str  # the gang's id
    kind: str  # training | transform | endpoint | processing
    name: str  # the job's or endpoint variant's name
    arn: str
    region: str
    account: str
    host: str  # "algo-1"
    hosts: list[str]  # sorted
    command: list[str]  # what runs, e.g. [python, -m, sagesmith.container, train, kmeans]; "--base DIR" is appended
    own_entrypoint: NotRequired[bool]  # the command is the user's: nothing is appended, it finds its folder at /opt/ml
    instance_type: NotRequired[str]
    environment: dict[str, str]
    cores: int  # processors this host may use: becomes OMP_NUM_THREADS
    hyperparameters: NotRequired[dict[str, str]]
    channels: NotRequired[list[dict[str, Any]]]  # CreateTrainingJob's InputDataConfig
    input_mode: NotRequired[str]  # AlgorithmSpecification.TrainingInputMode, the channels' default
    checkpoint: NotRequired[dict[str, str]]  # {"S3Uri", "LocalPath"}
    models: NotRequired[list[dict[str, str]]]  # [{"url": "s3://…/model.tar.gz" or a prefix, "into": "model"}]
    model_output: NotRequired[str]  # s3://…/output/model.tar.gz
    data_output: NotRequired[str]  # s3://…/output/output.tar.gz
    compression: NotRequired[str]  # GZIP | NONE (model_output is a prefix then)
    metrics: NotRequired[list[dict[str, str]]]  # [{"Name", "Regex"}]
    transform: NotRequired[dict[str, Any]]  # CreateTransformJob's request, for kind transform
    startup_timeout: NotRequired[float]  # seconds until /ping must answer, for kind endpoint and transform
    log_group: str
    log_stream: str
    stop_grace: float
    reports: str  # s3://…/ prefix; the agent writes <host>.json there, and beside itself
    objects: NotRequired[str]  # the folder of the server's objects, where they are plain files (store/local_objects.py)
    address_file: str  # holds the server's URL; read again whenever the server does not answer
    access_key: str
    secret_key: str


class Report(TypedDict):
    """What an agent says of its host, written beside the job and sent to the object store until accepted."""

    run: str
    host: str
    sequence: int  # counts the reports of this agent
    beat: float  # seconds since the epoch when it was written
    phase: str  # Starting | Downloading | Training | Uploading | InService | Stopping | Exited
    phases: list[list[Any]]  # [[phase, since], …]: becomes SecondaryStatusTransitions
    exit: NotRequired[int]  # the job's exit status; present once phase is Exited and everything is uploaded
    failure: NotRequired[str]  # why it failed, with its prefix (AlgorithmError:, ClientError:, InternalServerError:)
    stopped: NotRequired[bool]  # ended because it was asked to
    port: NotRequired[int]  # where the container answers, for kind endpoint
    metrics: NotRequired[dict[str, list[float]]]  # name → [last value, timestamp]


def write_private(path: Path, content: str) -> None:
    """Writes a file readable by its owner alone, whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def resource_config(
    host: str, hosts: list[str], instance_type: str | None = None, interface: str = "lo"
) -> Mapping[str, Any]:
    """The content of resourceconfig.json."""
    known = {} if instance_type is None else {"current_instance_type": instance_type}
    return {"current_host": host, **known, "hosts": sorted(hosts), "network_interface_name": interface}
