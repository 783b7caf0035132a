"""Endpoints: every path of the chart but updates."""

from __future__ import annotations

from typing import Any

import pytest

from sagesmith.engines.base import State
from sagesmith.store.resources import KINDS
from sagesmith.testing.fake_engine import IMAGE, FakeWorld
from tests.services.sagemaker.endpoint_stage import (
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
    (second,) = world.engine.running()  # launched as soon as its id was stored
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


def test_what_does_not_exist_or_exists_already_is_said_in_aws_words(world: FakeWorld) -> None:
    assert "Could not find endpoint configuration" in refusal(world, "CreateEndpoint", EndpointConfigName="none")
    world.call("CreateEndpoint", EndpointName="e", EndpointConfigName="c")
    assert "Cannot create already existing endpoint" in refusal(world, "CreateEndpoint", EndpointConfigName="c")


def test_endpoints_are_listed_by_status(world: FakeWorld) -> None:
    serving(world)
    listed = world.call("ListEndpoints", StatusEquals="InService")["Endpoints"]
    assert [entry["EndpointName"] for entry in listed] == ["e"]
    assert world.call("ListEndpoints", StatusEquals="Failed")["Endpoints"] == []


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
