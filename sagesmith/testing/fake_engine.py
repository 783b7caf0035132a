"""An engine whose gangs do what a test says, and a world to try rooms in without processes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sagesmith.core.clock import FrozenClock
from sagesmith.core.config import Config
from sagesmith.core.names import runs_bucket
from sagesmith.core.operation import OPERATIONS, Context, World
from sagesmith.core.validate import validate
from sagesmith.engines.base import Gang, Probe, State
from sagesmith.reconciler import Reconciler
from sagesmith.services import catalogue
from sagesmith.store.database import Database
from sagesmith.store.local_objects import LocalObjects

IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1"


@dataclass
class FakeEngine:
    """Remembers what it was asked; `room` False refuses launches."""

    gangs: dict[str, Gang] = field(default_factory=dict)
    states: dict[str, State] = field(default_factory=dict)
    stopped: list[str] = field(default_factory=list)
    room: bool = True

    def launch(self, gang: Gang) -> bool:
        if not self.room:
            return False
        if gang.run not in self.gangs:
            self.gangs[gang.run] = gang
            self.states[gang.run] = State.RUNNING
        return True

    def probe(self, run: str) -> Probe:
        return Probe(self.states.get(run, State.ABSENT))

    def stop(self, run: str, grace: float) -> None:
        self.stopped.append(run)
        if run in self.states:
            self.states[run] = State.EXITED

    def address(self, run: str, host: str) -> str:
        return "127.0.0.1"

    def close(self) -> None:
        """A stage is not taken down."""

    def forget(self, run: str) -> None:
        self.states.pop(run, None)
        self.gangs.pop(run, None)

    def running(self) -> list[str]:
        """The gangs that run, in the order of their launch."""
        return [run for run in self.gangs if self.states.get(run) is State.RUNNING]


class FakeWorld:
    """A world on a folder, with a clock that a test moves and a fake engine."""

    def __init__(self, folder: Path) -> None:
        self.clock = FrozenClock()
        self.engine = FakeEngine()
        config = Config(data=folder)
        self.world = World(
            config=config,
            clock=self.clock,
            database=Database(config.database_url),
            objects=LocalObjects(folder / "s3"),
            engine=self.engine,
            agent_key=("key", "secret"),
        )
        catalogue.install(config, [{"name": "xgboost", "images": ["sagemaker-xgboost", "xgboost"]}])
        self.ctx = Context(self.world, config.account, config.region)
        self.reconciler = Reconciler(self.world)

    def call(self, operation: str, **request: Any) -> dict[str, Any]:
        """An operation as a client would call it; its answer is checked against the model."""
        answer = self.ctx.call(operation, request)
        shape = OPERATIONS["sagemaker", operation].model.output_shape
        if shape is not None:
            validate(answer, shape)
        return answer

    def settle(self) -> None:
        """Runs every step that is due now."""
        self.reconciler.drain()

    def advance(self, seconds: float) -> None:
        """Lets time pass, and runs what became due by the end of it."""
        self.clock.advance(seconds)
        self.settle()

    def report(self, run: str, **members: Any) -> None:
        """Leaves the report of every agent of a gang."""
        for number, paper in enumerate(self.engine.gangs[run].papers):
            report = {"run": run, "host": paper["host"], "phases": [["Starting", self.clock.now()]], **members}
            if "port" in report:
                report["port"] += number
            key = f"{run}/{paper['host']}.json"
            self.world.objects.put(runs_bucket(self.ctx), key, json.dumps(report).encode())

    def close(self) -> None:
        """Closes the database."""
        self.world.database.close()
