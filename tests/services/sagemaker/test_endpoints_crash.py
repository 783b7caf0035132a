"""Endpoints and transform jobs whose server dies before, in the middle of and after any step, again and again."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sagesmith.core.operation import ApiError
from sagesmith.engines.base import State
from sagesmith.reconciler import Reconciler
from sagesmith.services.sagemaker import endpoint_configs, endpoints, models, transform  # noqa: F401 - operations
from sagesmith.store.resources import KINDS
from sagesmith.testing.fake_engine import IMAGE, FakeWorld


class Death(BaseException):
    """The server process is killed here."""


class DyingServer:
    """Runs the machines of a world, dying at random points; whoever runs on is the next server on the same data."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.world = FakeWorld(folder)
        self._random = random.Random(seed)
        self.deaths = 0

    def run(self, until: Callable[[], bool]) -> None:
        """Lets time pass, with deaths, until something holds."""
        for _ in range(2000):
            if until():
                return
            reconciler = Reconciler(self.world.world, interrupt=self._interrupt)
            reconciler.due.release_all()
            try:
                reconciler.drain()
            except Death:
                self.deaths += 1
                continue
            self._hosts_work()
            self.world.clock.advance(0.5)
        raise AssertionError("the machines never got there")

    def _interrupt(self, point: str) -> None:
        if self._random.random() < 0.15:
            raise Death(point)

    def _hosts_work(self) -> None:
        for run in self.world.engine.running():
            if self._random.random() < 0.5:
                self.world.report(run, phase="InService", port=9000)
            if self._random.random() < 0.02:
                self.world.engine.states[run] = State.LOST


@pytest.fixture(params=range(4))
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DyingServer]:
    server = DyingServer(tmp_path, request.param)
    world = server.world
    world.call("CreateModel", ModelName="m", PrimaryContainer={"Image": IMAGE})
    for name, count in (("one", 1), ("three", 3)):
        variant = {"VariantName": "v", "ModelName": "m", "InstanceType": "ml.m5.large", "InitialInstanceCount": count}
        world.call("CreateEndpointConfig", EndpointConfigName=name, ProductionVariants=[variant])
    yield server
    world.close()


def test_no_endpoint_is_forgotten_and_no_gang_is_left_behind(server: DyingServer) -> None:
    world = server.world

    def described() -> dict[str, Any]:
        return world.call("DescribeEndpoint", EndpointName="e")

    def serves(count: int) -> bool:
        routes = KINDS["Endpoint"].get(world.ctx, "e").private["routes"]["variants"]
        routed = {one["run"] for route in routes for one in route["instances"]}
        gangs = set(world.engine.gangs)
        return described()["EndpointStatus"] == "InService" and len(routed) == count and routed == gangs

    def gone() -> bool:
        try:
            described()
        except ApiError:
            return True
        return False

    world.call("CreateEndpoint", EndpointName="e", EndpointConfigName="one")
    server.run(lambda: serves(1))
    world.call("UpdateEndpoint", EndpointName="e", EndpointConfigName="three")
    server.run(lambda: serves(3))
    change = [{"VariantName": "v", "DesiredInstanceCount": 2}]
    world.call("UpdateEndpointWeightsAndCapacities", EndpointName="e", DesiredWeightsAndCapacities=change)
    server.run(lambda: serves(2))
    world.call("DeleteEndpoint", EndpointName="e")
    server.run(gone)
    assert world.engine.gangs == {}
    assert server.deaths > 0


def test_a_transform_job_ends_and_leaves_no_gang_behind(server: DyingServer) -> None:
    world = server.world
    source = {"DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://b/in/"}}}
    world.call(
        "CreateTransformJob",
        TransformJobName="t",
        ModelName="m",
        TransformInput=source,
        TransformOutput={"S3OutputPath": "s3://b/out"},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
    )

    def status() -> str:
        return str(world.call("DescribeTransformJob", TransformJobName="t")["TransformJobStatus"])

    def ended() -> bool:
        for run in world.engine.running():
            if world.clock.now() > started + 5:
                world.report(run, phase="Exited", exit=0)
                world.engine.states[run] = State.EXITED
        return status() in ("Completed", "Failed")

    started = world.clock.now()
    server.run(ended)
    assert world.engine.gangs == {}
