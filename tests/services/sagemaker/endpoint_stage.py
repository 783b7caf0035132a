"""A stage for endpoints: a world whose gangs do what the test says and whose clock stands still."""

from __future__ import annotations

from typing import Any

import pytest

from sagesmith.core.operation import ApiError
from sagesmith.store.resources import KINDS
from sagesmith.testing.fake_engine import FakeWorld

BAKE = {
    "BlueGreenUpdatePolicy": {
        "TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 100},
        "TerminationWaitInSeconds": 50,
        "MaximumExecutionTimeoutInSeconds": 600,
    }
}


def variant(name: str = "AllTraffic", **members: Any) -> dict[str, Any]:
    base = {"VariantName": name, "ModelName": "m", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    return {**base, **members}


def configure(world: FakeWorld, name: str, *variants: dict[str, Any]) -> None:
    world.call("CreateEndpointConfig", EndpointConfigName=name, ProductionVariants=list(variants) or [variant()])


def describe(world: FakeWorld) -> dict[str, Any]:
    return world.call("DescribeEndpoint", EndpointName="e")


def status(world: FakeWorld) -> str:
    return str(describe(world)["EndpointStatus"])


def routed(world: FakeWorld) -> list[str]:
    """The gangs that requests are sent to."""
    document = KINDS["Endpoint"].get(world.ctx, "e")
    return [one["run"] for route in document.private["routes"]["variants"] for one in route["instances"]]


def answer_all(world: FakeWorld, port: int = 9000) -> None:
    """Every running gang passes its health check; then the machine learns of it."""
    for number, run in enumerate(world.engine.running()):
        world.report(run, phase="InService", port=port + 20 * number)
    world.advance(0.25)


def serving(world: FakeWorld, config: str = "c") -> None:
    world.call("CreateEndpoint", EndpointName="e", EndpointConfigName=config)
    world.settle()
    answer_all(world)
    assert status(world) == "InService"


def refusal(world: FakeWorld, operation: str, **members: Any) -> str:
    with pytest.raises(ApiError) as caught:
        world.call(operation, EndpointName="e", **members)
    assert caught.value.code == "ValidationException"
    return caught.value.message


def trouble(world: FakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on nothing can be launched, and that is no container's doing."""

    def launch(_gang: object) -> bool:
        raise OSError("the folder of runs cannot be written")

    monkeypatch.setattr(world.engine, "launch", launch)
