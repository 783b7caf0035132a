"""A stage for rooms that run gangs: a clock that stands still, an engine that does as it is told, reports by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sagesmith.core.clock import FrozenClock
from sagesmith.core.config import Config
from sagesmith.core.machine import Document
from sagesmith.core.names import runs_bucket
from sagesmith.core.operation import Context, World
from sagesmith.engines.base import Gang, Probe, State
from sagesmith.reconciler import Reconciler
from sagesmith.services import catalogue
from sagesmith.services.sagemaker import search_tags, training  # noqa: F401  importing a room builds its operations
from sagesmith.services.sagemaker.training.record import jobs
from sagesmith.store.database import Database
from sagesmith.store.local_objects import LocalObjects
from sagesmith.testing.check_operation import check_operation

XGBOOST = {
    "name": "xgboost",
    "images": ["sagemaker-xgboost", "xgboost"],
    "framework": True,
    "metrics": [
        {"name": "train:rmse", "regex": r"train-rmse:(\S+)", "objective": "Minimize"},
        {"name": "validation:auc", "regex": r"validation-auc:(\S+)", "objective": "Maximize"},
    ],
    "distributed": True,
}
LDA: dict[str, Any] = {"name": "lda", "images": ["lda"], "metrics": [], "distributed": False}
IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1"


class StubEngine:
    """Remembers gangs; the test says what becomes of them."""

    def __init__(self) -> None:
        self.room = True
        self.gangs: dict[str, Gang] = {}
        self.states: dict[str, State] = {}
        self.launches: list[str] = []
        self.stops: list[tuple[str, float]] = []
        self.trouble: Exception | None = None

    def launch(self, gang: Gang) -> bool:
        if self.trouble:
            raise self.trouble
        if not self.room:
            return False
        if gang.run not in self.gangs:
            self.launches.append(gang.run)
            self.gangs[gang.run] = gang
            self.states[gang.run] = State.RUNNING
        assert self.gangs[gang.run] == gang, "a repeated launch must be the same launch"
        return True

    def probe(self, run: str) -> Probe:
        return Probe(self.states.get(run, State.ABSENT))

    def stop(self, run: str, grace: float) -> None:
        self.stops.append((run, grace))

    def address(self, run: str, host: str) -> str:
        return "127.0.0.1"

    def close(self) -> None:
        """A stage is not taken down."""

    def forget(self, run: str) -> None:
        assert self.states.get(run) is not State.RUNNING, "a running gang was forgotten"
        self.gangs.pop(run, None)
        self.states.pop(run, None)


@dataclass
class Stage:
    """What a test of a training job sees and moves."""

    ctx: Context
    engine: StubEngine
    clock: FrozenClock
    interrupt: Callable[[str], None] = lambda _point: None
    sequences: dict[str, int] = field(default_factory=dict)

    def create(self, name: str = "job", **changes: Any) -> None:
        check_operation("CreateTrainingJob", request(name, **changes), self.ctx)

    def describe(self, name: str = "job") -> dict[str, Any]:
        answer: dict[str, Any] = check_operation("DescribeTrainingJob", {"TrainingJobName": name}, self.ctx)
        return answer

    def document(self, name: str = "job") -> Document:
        return jobs.get(self.ctx, name)

    def status(self, name: str = "job") -> tuple[str, str]:
        answer = self.describe(name)
        return answer["TrainingJobStatus"], answer["SecondaryStatus"]

    def transitions(self, name: str = "job") -> list[str]:
        return [transition["Status"] for transition in self.describe(name)["SecondaryStatusTransitions"]]

    def pass_time(self, seconds: float = 3.0, step: float = 1.0) -> None:
        """Lets the loop run now and then for so many seconds."""
        self.drain()
        for _ in range(round(seconds / step)):
            self.clock.advance(step)
            self.drain()

    def drain(self) -> None:
        Reconciler(self.ctx.world, interrupt=self.interrupt).drain()

    def report(self, *phases: str, host: str = "algo-1", name: str = "job", **members: Any) -> None:
        """An agent's report: the phases one second apart, the last one now."""
        run = self.document(name).private["run"]
        self.sequences[run + host] = self.sequences.get(run + host, 0) + 1
        now = self.clock.now()
        since = [[phase, now - (len(phases) - 1 - index)] for index, phase in enumerate(phases)]
        report = {"run": run, "host": host, "sequence": self.sequences[run + host], "beat": now}
        report |= {"phase": phases[-1], "phases": since, **members}
        self.ctx.world.objects.put(runs_bucket(self.ctx), f"{run}/{host}.json", json.dumps(report).encode())

    def exit(self, host: str = "algo-1", code: int = 0, name: str = "job", **members: Any) -> None:
        """An agent's last report."""
        phases = ("Starting", "Downloading", "Training", "Uploading", "Exited")
        self.report(*phases, host=host, name=name, exit=code, **members)

    def gang(self, state: State, name: str = "job") -> None:
        self.engine.states[self.document(name).private["run"]] = state


@contextmanager
def training_stage(folder: Path) -> Iterator[Stage]:
    """A stage whose server keeps its data in `folder`."""
    config = Config(data=folder)
    clock, engine = FrozenClock(), StubEngine()
    database = Database(config.database_url)
    world = World(config, clock, database, LocalObjects(folder / "objects"), engine, agent_key=("agent", "secret"))
    catalogue.install(config, [XGBOOST, LDA])
    yield Stage(Context(world, config.account, config.region), engine, clock)
    database.close()


def channel(name: str = "train", **members: Any) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://bucket/{name}/"}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}, **members}


def request(name: str = "job", **changes: Any) -> dict[str, Any]:
    """A CreateTrainingJob request; a change of None removes the member, a dict is merged into it."""
    members: dict[str, Any] = {
        "TrainingJobName": name,
        "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        "RoleArn": "arn:aws:iam::123456789012:role/service-role/Role",
        "InputDataConfig": [channel()],
        "OutputDataConfig": {"S3OutputPath": "s3://bucket/out/"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
        "HyperParameters": {"num_round": "10"},
    }
    for member, value in changes.items():
        both_maps = isinstance(value, Mapping) and member in members
        members[member] = {**members[member], **value} if both_maps else value
    return {member: value for member, value in members.items() if value is not None}
