"""Endpoints: every path of the chart, with gangs that do what the test says and a clock that stands still."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sagesmith.core.operation import ApiError
from sagesmith.engines.base import State
from sagesmith.services.sagemaker import endpoint_configs, endpoints, models  # noqa: F401 - registers the operations
from sagesmith.store.resources import KINDS
from sagesmith.testing.fake_engine import IMAGE, FakeWorld

BAKE = {
    "BlueGreenUpdatePolicy": {
        "TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 100},
        "TerminationWaitInSeconds": 50,
        "MaximumExecutionTimeoutInSeconds": 600,
    }
}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[FakeWorld]:
    world = FakeWorld(tmp_path)
    primary = {"Image": IMAGE, "ModelDataUrl": "s3://models/a/model.tar.gz", "Environment": {"A": "1"}}
    world.call("CreateModel", ModelName="m", PrimaryContainer=primary)
    configure(world, "c")
    yield world
    world.close()


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


def test_an_endpoint_is_creating_until_its_instances_answer(world: FakeWorld) -> None:
    configure(world, "two", variant("a", InitialInstanceCount=2), variant("b", InitialVariantWeight=3.0))
    world.call("CreateEndpoint", EndpointName="e", EndpointConfigName="two")
    assert status(world) == "Creating"
    world.settle()
    assert len(world.engine.running()) == 3
    first, *others = world.engine.running()
    world.report(first, phase="InService", port=9000)
    world.advance(1)
    assert status(world) == "Creating"
    assert routed(world) == []
    answer_all(world)
    described = describe(world)
    assert described["EndpointStatus"] == "InService"
    assert described["EndpointConfigName"] == "two"
    a, b = described["ProductionVariants"]
    assert (a["CurrentInstanceCount"], a["DesiredInstanceCount"], a["CurrentWeight"]) == (2, 2, 1.0)
    assert (b["CurrentInstanceCount"], b["DesiredWeight"]) == (1, 3.0)
    assert a["DeployedImages"][0]["SpecifiedImage"] == IMAGE
    assert "VariantStatus" not in a
    assert set(routed(world)) == {first, *others}


def test_the_agents_are_told_what_to_serve(world: FakeWorld) -> None:
    serving(world)
    (gang,) = world.engine.gangs.values()
    (paper,) = gang.papers
    assert paper["kind"] == "endpoint"
    assert paper["command"][-2:] == ["serve", "sagemaker-xgboost"]
    assert paper["environment"]["A"] == "1"
    assert paper["models"] == [{"url": "s3://models/a/model.tar.gz", "into": "model"}]
    assert paper["log_group"] == "/aws/sagemaker/Endpoints/e"
    assert paper["log_stream"] == f"AllTraffic/{gang.run}"
    assert paper["startup_timeout"] == 240


def test_a_pipeline_is_one_gang_with_an_agent_per_container(world: FakeWorld) -> None:
    world.call("CreateModel", ModelName="p", Containers=[{"Image": IMAGE}, {"Image": IMAGE, "ContainerHostname": "z"}])
    configure(world, "pipe", variant(ModelName="p"))
    serving(world, "pipe")
    (gang,) = world.engine.gangs.values()
    assert [paper["host"] for paper in gang.papers] == ["algo-1", "algo-2"]
    places = KINDS["Endpoint"].get(world.ctx, "e").private["routes"]["variants"][0]["instances"][0]["places"]
    assert places == [
        {"hostname": "container-1", "address": "127.0.0.1:9000"},
        {"hostname": "z", "address": "127.0.0.1:9001"},
    ]


def test_instances_wait_for_room(world: FakeWorld) -> None:
    world.engine.room = False
    world.call("CreateEndpoint", EndpointName="e", EndpointConfigName="c")
    world.settle()
    world.advance(5000)
    assert status(world) == "Creating"
    world.engine.room = True
    world.advance(1)
    answer_all(world)
    assert status(world) == "InService"


def test_creation_fails_with_the_reason_of_the_agent_and_leaves_nothing_running(world: FakeWorld) -> None:
    configure(world, "two", variant(InitialInstanceCount=2))
    world.call("CreateEndpoint", EndpointName="e", EndpointConfigName="two")
    world.settle()
    broken, other = world.engine.running()
    world.report(broken, phase="Exited", exit=1, failure="ClientError: no such object s3://models/a/model.tar.gz")
    world.engine.states[broken] = State.EXITED
    world.advance(1)
    described = describe(world)
    assert described["EndpointStatus"] == "Failed"
    assert "no such object s3://models/a/model.tar.gz" in described["FailureReason"]
    world.advance(10)
    assert other in world.engine.stopped
    assert world.engine.gangs == {}
    assert "can only be deleted" in refusal(world, "UpdateEndpoint", EndpointConfigName="c")


def test_creation_fails_when_the_container_does_not_answer_in_time(world: FakeWorld) -> None:
    configure(
        world,
        "quick",
        variant(ModelDataDownloadTimeoutInSeconds=60, ContainerStartupHealthCheckTimeoutInSeconds=60),
    )
    world.call("CreateEndpoint", EndpointName="e", EndpointConfigName="quick")
    world.settle()
    world.advance(119)
    assert status(world) == "Creating"
    world.advance(2)
    assert status(world) == "Failed"
    assert "did not pass the ping health check" in describe(world)["FailureReason"]


def test_a_gang_that_is_lost_while_starting_is_launched_again(world: FakeWorld) -> None:
    world.call("CreateEndpoint", EndpointName="e", EndpointConfigName="c")
    world.settle()
    (first,) = world.engine.running()
    world.engine.states[first] = State.LOST
    world.advance(1)
    world.advance(1)
    (second,) = world.engine.running()
    assert second != first
    assert first in world.engine.stopped
    answer_all(world)
    assert status(world) == "InService"


def test_gangs_that_are_lost_again_and_again_fail_the_creation(world: FakeWorld) -> None:
    world.call("CreateEndpoint", EndpointName="e", EndpointConfigName="c")
    for _ in range(40):
        world.advance(10)
        for run in world.engine.running():
            world.engine.states[run] = State.LOST
    assert status(world) == "Failed"


@pytest.mark.parametrize("fate", [State.LOST, State.EXITED, State.ABSENT])
def test_an_endpoint_in_service_is_never_forgotten(world: FakeWorld, fate: State) -> None:
    serving(world)
    (first,) = world.engine.running()
    world.engine.states[first] = fate
    world.advance(2)
    assert routed(world) == []
    assert status(world) == "InService"
    world.advance(1)
    (second,) = world.engine.running()
    assert second != first
    answer_all(world)
    assert routed(world) == [second]
    assert describe(world)["ProductionVariants"][0]["CurrentInstanceCount"] == 1


def test_a_container_that_keeps_ending_is_launched_ever_more_seldom(world: FakeWorld) -> None:
    serving(world)
    launched = set(world.engine.gangs)
    for _ in range(600):
        for run in world.engine.running():
            world.engine.states[run] = State.EXITED
        world.advance(1)
        launched |= set(world.engine.gangs)
    assert status(world) == "InService"
    assert 8 <= len(launched) <= 20


def test_watching_does_not_touch_the_time_of_modification(world: FakeWorld) -> None:
    serving(world)
    before = describe(world)["LastModifiedTime"]
    world.advance(60)
    assert describe(world)["LastModifiedTime"] == before


def test_configuration_and_model_may_go_while_the_endpoint_serves(world: FakeWorld) -> None:
    serving(world)
    world.call("DeleteEndpointConfig", EndpointConfigName="c")
    world.call("DeleteModel", ModelName="m")
    (first,) = world.engine.running()
    world.engine.states[first] = State.LOST
    world.advance(2)
    world.advance(1)
    answer_all(world)
    assert len(routed(world)) == 1


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


def test_weights_count_at_once_and_instances_are_added(world: FakeWorld) -> None:
    serving(world)
    change = {"VariantName": "AllTraffic", "DesiredWeight": 5.0, "DesiredInstanceCount": 3}
    world.call("UpdateEndpointWeightsAndCapacities", EndpointName="e", DesiredWeightsAndCapacities=[change])
    document = KINDS["Endpoint"].get(world.ctx, "e")
    assert document.private["routes"]["variants"][0]["weight"] == 5.0
    assert status(world) == "Updating"
    world.settle()
    world.advance(0.25)
    assert len(world.engine.running()) == 3
    assert len(routed(world)) == 1
    answer_all(world)
    after = describe(world)["ProductionVariants"][0]
    assert (after["CurrentInstanceCount"], after["DesiredInstanceCount"]) == (3, 3)
    assert status(world) == "InService"


def test_instances_that_are_too_many_are_drained_and_stopped(world: FakeWorld) -> None:
    configure(world, "three", variant(InitialInstanceCount=3))
    serving(world, "three")
    change = {"VariantName": "AllTraffic", "DesiredInstanceCount": 1}
    world.call("UpdateEndpointWeightsAndCapacities", EndpointName="e", DesiredWeightsAndCapacities=[change])
    world.settle()
    assert status(world) == "InService"
    assert len(routed(world)) == 1
    assert len(world.engine.running()) == 3
    world.advance(10)
    world.advance(10)
    assert world.engine.running() == routed(world)


def test_scaling_that_fails_returns_to_the_counts_before(world: FakeWorld) -> None:
    serving(world)
    (old,) = world.engine.running()
    change = {"VariantName": "AllTraffic", "DesiredInstanceCount": 2}
    world.call("UpdateEndpointWeightsAndCapacities", EndpointName="e", DesiredWeightsAndCapacities=[change])
    world.settle()
    world.advance(0.25)
    new = world.engine.running()[1]
    world.engine.states[new] = State.EXITED
    world.advance(0.25)
    described = describe(world)
    assert described["EndpointStatus"] == "InService"
    assert described["ProductionVariants"][0]["DesiredInstanceCount"] == 1
    assert "ping health check" in described["FailureReason"]
    assert routed(world) == [old]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"VariantName": "other", "DesiredWeight": 1.0}, 'Could not find variant "other"'),
        ({"VariantName": "AllTraffic", "DesiredInstanceCount": 0}, "at least 1"),
        ({"VariantName": "AllTraffic", "ServerlessUpdateConfig": {"MaxConcurrency": 1}}, "not serverless"),
    ],
)
def test_capacities_that_make_no_sense_are_refused(world: FakeWorld, change: dict[str, Any], words: str) -> None:
    serving(world)
    assert words in refusal(world, "UpdateEndpointWeightsAndCapacities", DesiredWeightsAndCapacities=[change])


def test_deleting_stops_everything_and_ends_in_could_not_find(world: FakeWorld) -> None:
    serving(world)
    configure(world, "c2")
    world.call("UpdateEndpoint", EndpointName="e", EndpointConfigName="c2")
    world.settle()
    runs = world.engine.running()
    assert len(runs) == 2
    world.call("DeleteEndpoint", EndpointName="e")
    assert status(world) == "Deleting"
    assert routed(world) == []
    world.settle()
    world.advance(1)
    assert set(world.engine.stopped) == set(runs)
    assert world.engine.gangs == {}
    assert "Could not find endpoint" in refusal(world, "DescribeEndpoint")
    assert "Could not find endpoint" in refusal(world, "DeleteEndpoint")


def test_only_an_endpoint_in_service_can_be_updated(world: FakeWorld) -> None:
    world.call("CreateEndpoint", EndpointName="e", EndpointConfigName="c")
    assert "Cannot update in-progress endpoint" in refusal(world, "UpdateEndpoint", EndpointConfigName="c")
    change = {"VariantName": "AllTraffic", "DesiredInstanceCount": 2}
    words = refusal(world, "UpdateEndpointWeightsAndCapacities", DesiredWeightsAndCapacities=[change])
    assert "Cannot update in-progress endpoint" in words


def test_what_does_not_exist_or_exists_already_is_said_in_aws_words(world: FakeWorld) -> None:
    assert "Could not find endpoint configuration" in refusal(world, "CreateEndpoint", EndpointConfigName="none")
    world.call("CreateEndpoint", EndpointName="e", EndpointConfigName="c")
    assert "Cannot create already existing endpoint" in refusal(world, "CreateEndpoint", EndpointConfigName="c")


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


def test_endpoints_are_listed_by_status(world: FakeWorld) -> None:
    serving(world)
    listed = world.call("ListEndpoints", StatusEquals="InService")["Endpoints"]
    assert [entry["EndpointName"] for entry in listed] == ["e"]
    assert world.call("ListEndpoints", StatusEquals="Failed")["Endpoints"] == []


def trouble(world: FakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on nothing can be launched, and that is no container's doing."""

    def launch(_gang: object) -> bool:
        raise OSError("the folder of runs cannot be written")

    monkeypatch.setattr(world.engine, "launch", launch)


def test_an_endpoint_that_cannot_be_launched_fails_and_can_be_deleted(
    world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    trouble(world, monkeypatch)
    world.call("CreateEndpoint", EndpointName="e", EndpointConfigName="c")
    for _ in range(200):
        world.advance(1)
    assert status(world) == "Failed"
    assert "the folder of runs cannot be written" in describe(world)["FailureReason"]
    world.call("DeleteEndpoint", EndpointName="e")
    world.advance(10)
    assert world.call("ListEndpoints")["Endpoints"] == []


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
