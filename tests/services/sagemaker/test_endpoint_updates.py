"""Updates of endpoints: every path of the chart between one fleet and the next."""

from __future__ import annotations

from typing import Any

import pytest

from sagesmith.engines.base import State
from sagesmith.testing.fake_engine import FakeWorld
from tests.services.sagemaker.endpoint_stage import (
    BAKE,
    answer_all,
    configure,
    describe,
    refusal,
    routed,
    serving,
    status,
    trouble,
    variant,
)


def test_an_update_switches_all_routes_at_once_and_drains_the_old_fleet(world: FakeWorld) -> None:
    serving(world)
    (old,) = world.engine.running()
    configure(world, "c2", variant(InitialInstanceCount=2))
    world.call("UpdateEndpoint", EndpointName="e", EndpointConfigName="c2")
    world.settle()
    described = describe(world)
    assert described["EndpointStatus"] == "Updating"
    assert described["EndpointConfigName"] == "c"
    pending = described["PendingDeploymentSummary"]
    assert pending["EndpointConfigName"] == "c2"
    assert pending["ProductionVariants"][0]["VariantStatus"][0]["Status"] == "Creating"
    new = [run for run in world.engine.running() if run != old]
    world.report(new[0], phase="InService", port=9100)
    world.advance(1)
    assert routed(world) == [old]
    world.report(new[1], phase="InService", port=9200)
    world.advance(1)
    described = describe(world)
    assert described["EndpointStatus"] == "InService"
    assert described["EndpointConfigName"] == "c2"
    assert "PendingDeploymentSummary" not in described
    assert set(routed(world)) == set(new)
    world.advance(1)
    assert world.engine.stopped == [], "requests of other servers may still be on their way"
    world.advance(10)
    assert world.engine.stopped == [old]
    world.advance(10)
    assert set(world.engine.gangs) == set(new)


def test_an_update_waits_as_its_policy_says(world: FakeWorld) -> None:
    serving(world)
    (old,) = world.engine.running()
    configure(world, "c2")
    world.call("UpdateEndpoint", EndpointName="e", EndpointConfigName="c2", DeploymentConfig=BAKE)
    world.settle()
    answer_all(world)
    assert routed(world) != [old]
    world.advance(50)
    summary = describe(world)["PendingDeploymentSummary"]["ProductionVariants"][0]
    assert summary["VariantStatus"][0]["Status"] == "Baking"
    world.advance(51)
    world.advance(2)
    assert status(world) == "Updating"
    assert old in world.engine.running()
    world.advance(60)
    described = describe(world)
    assert described["EndpointStatus"] == "InService"
    assert described["LastDeploymentConfig"] == BAKE
    world.advance(10)
    world.advance(10)
    assert old not in world.engine.running()


def test_a_failed_update_leaves_the_old_fleet_in_service(world: FakeWorld) -> None:
    serving(world)
    (old,) = world.engine.running()
    configure(world, "c2")
    world.call("UpdateEndpoint", EndpointName="e", EndpointConfigName="c2")
    world.settle()
    new = world.engine.running()[1]
    world.report(new, phase="Exited", exit=1, failure="AlgorithmError: the model is broken")
    world.engine.states[new] = State.EXITED
    world.advance(1)
    described = describe(world)
    assert described["EndpointStatus"] == "InService"
    assert described["EndpointConfigName"] == "c"
    assert "the model is broken" in described["FailureReason"]
    assert routed(world) == [old]
    world.advance(20)
    world.advance(20)
    assert world.engine.running() == [old]
    configure(world, "c3")
    world.call("UpdateEndpoint", EndpointName="e", EndpointConfigName="c3")
    world.settle()
    answer_all(world)
    assert "FailureReason" not in describe(world)


def test_an_update_that_takes_too_long_is_rolled_back(world: FakeWorld) -> None:
    serving(world)
    (old,) = world.engine.running()
    configure(world, "c2")
    world.call("UpdateEndpoint", EndpointName="e", EndpointConfigName="c2", DeploymentConfig=BAKE)
    world.settle()
    world.advance(601)
    assert status(world) == "InService"
    assert "MaximumExecutionTimeoutInSeconds" in describe(world)["FailureReason"]
    assert routed(world) == [old]


def test_the_old_fleet_is_watched_during_an_update(world: FakeWorld) -> None:
    serving(world)
    (old,) = world.engine.running()
    configure(world, "c2")
    world.call("UpdateEndpoint", EndpointName="e", EndpointConfigName="c2")
    world.settle()
    world.engine.states[old] = State.LOST
    world.advance(1)
    assert routed(world) == []
    world.advance(1)
    assert len(world.engine.running()) == 2


def test_retained_properties_outlive_an_update(world: FakeWorld) -> None:
    serving(world)
    change = {"VariantName": "AllTraffic", "DesiredWeight": 7.0, "DesiredInstanceCount": 2}
    world.call("UpdateEndpointWeightsAndCapacities", EndpointName="e", DesiredWeightsAndCapacities=[change])
    world.settle()
    world.advance(0.25)
    answer_all(world)
    configure(world, "c2")
    excluded = [{"VariantPropertyType": "DesiredWeight"}]
    assert "RetainAllVariantProperties" in refusal(
        world, "UpdateEndpoint", EndpointConfigName="c2", ExcludeRetainedVariantProperties=excluded
    )
    world.call(
        "UpdateEndpoint",
        EndpointName="e",
        EndpointConfigName="c2",
        RetainAllVariantProperties=True,
        ExcludeRetainedVariantProperties=excluded,
    )
    world.settle()
    answer_all(world)
    after = describe(world)["ProductionVariants"][0]
    assert (after["DesiredInstanceCount"], after["DesiredWeight"]) == (2, 1.0)


def test_only_an_endpoint_in_service_can_be_updated(world: FakeWorld) -> None:
    world.call("CreateEndpoint", EndpointName="e", EndpointConfigName="c")
    assert "Cannot update in-progress endpoint" in refusal(world, "UpdateEndpoint", EndpointConfigName="c")
    change = {"VariantName": "AllTraffic", "DesiredInstanceCount": 2}
    words = refusal(world, "UpdateEndpointWeightsAndCapacities", DesiredWeightsAndCapacities=[change])
    assert "Cannot update in-progress endpoint" in words


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "a"}]}}, "AutoRollbackConfiguration"),
        (
            {
                "RollingUpdatePolicy": {
                    "MaximumBatchSize": {"Type": "INSTANCE_COUNT", "Value": 1},
                    "WaitIntervalInSeconds": 0,
                }
            },
            "rolling update",
        ),
        (
            {
                "BlueGreenUpdatePolicy": {
                    "TrafficRoutingConfiguration": {
                        "Type": "CANARY",
                        "WaitIntervalInSeconds": 0,
                        "CanarySize": {"Type": "INSTANCE_COUNT", "Value": 1},
                    }
                }
            },
            "CANARY",
        ),
        (
            {
                "BlueGreenUpdatePolicy": {
                    "TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 600},
                    "MaximumExecutionTimeoutInSeconds": 600,
                }
            },
            "must exceed the waits",
        ),
    ],
)
def test_policies_that_are_not_built_or_impossible_are_refused(
    world: FakeWorld, policy: dict[str, Any], words: str
) -> None:
    serving(world)
    configure(world, "c2")
    assert words in refusal(world, "UpdateEndpoint", EndpointConfigName="c2", DeploymentConfig=policy)


def test_an_update_that_cannot_be_launched_is_rolled_back(world: FakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    serving(world)
    (old,) = world.engine.running()
    configure(world, "c2")
    with monkeypatch.context() as patched:
        trouble(world, patched)
        world.call("UpdateEndpoint", EndpointName="e", EndpointConfigName="c2")
        for _ in range(200):
            world.advance(1)
    described = describe(world)
    assert (described["EndpointStatus"], described["EndpointConfigName"]) == ("InService", "c")
    assert "the folder of runs cannot be written" in described["FailureReason"]
    assert routed(world) == [old]
