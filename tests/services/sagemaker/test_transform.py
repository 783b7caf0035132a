"""Batch transform jobs: checks, and every path of the chart with gangs that do what the test says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sagesmith.core.operation import ApiError
from sagesmith.engines.base import State
from sagesmith.services.sagemaker import models, transform  # noqa: F401 - registers the operations
from sagesmith.testing.fake_engine import IMAGE, FakeWorld

SOURCE = {"DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://b/in/"}}, "ContentType": "text/csv"}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[FakeWorld]:
    world = FakeWorld(tmp_path)
    world.call("CreateModel", ModelName="m", PrimaryContainer={"Image": IMAGE, "Environment": {"A": "1", "B": "1"}})
    yield world
    world.close()


def create(world: FakeWorld, count: int = 1, **members: Any) -> None:
    request = {
        "TransformJobName": "j",
        "ModelName": "m",
        "TransformInput": SOURCE,
        "TransformOutput": {"S3OutputPath": "s3://b/out"},
        "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": count},
        **members,
    }
    world.call("CreateTransformJob", **request)


def describe(world: FakeWorld) -> dict[str, Any]:
    return world.call("DescribeTransformJob", TransformJobName="j")


def refusal(world: FakeWorld, **members: Any) -> str:
    with pytest.raises(ApiError) as caught:
        create(world, **members)
    assert caught.value.code == "ValidationException"
    return caught.value.message


def only_gang(world: FakeWorld) -> str:
    (run,) = world.engine.gangs
    return run


def test_a_job_completes_when_every_instance_has(world: FakeWorld) -> None:
    create(world, count=2, MaxPayloadInMB=7, Environment={"B": "2"})
    assert describe(world)["TransformJobStatus"] == "InProgress"
    world.settle()
    run = only_gang(world)
    papers = world.engine.gangs[run].papers
    assert [paper["host"] for paper in papers] == ["algo-1", "algo-2"]
    assert papers[0]["command"][-2:] == ["serve", "sagemaker-xgboost"]
    assert papers[0]["transform"]["TransformInput"] == SOURCE
    environment = papers[0]["environment"]
    assert environment["SAGEMAKER_BATCH"] == "true"
    assert environment["SAGEMAKER_MAX_PAYLOAD_IN_MB"] == "7"
    assert (environment["A"], environment["B"]) == ("1", "2")
    assert "SAGEMAKER_BATCH_STRATEGY" not in environment
    world.report(run, phase="Exited", exit=0)
    world.engine.states[run] = State.EXITED
    world.advance(1)
    described = describe(world)
    assert described["TransformJobStatus"] == "Completed"
    assert described["TransformEndTime"] >= described["TransformStartTime"]
    assert described["DataProcessing"] == {"InputFilter": "$", "OutputFilter": "$", "JoinSource": "None"}
    assert world.engine.gangs == {}
    summary = world.call("ListTransformJobs", StatusEquals="Completed")["TransformJobSummaries"][0]
    assert summary["TransformEndTime"] == described["TransformEndTime"]


def test_a_job_fails_with_the_reason_of_its_agent(world: FakeWorld) -> None:
    create(world, count=2)
    world.settle()
    run = only_gang(world)
    world.report(run, phase="Exited", exit=1, failure="ClientError: no objects")
    world.advance(1)
    world.advance(1)
    assert describe(world)["TransformJobStatus"] == "Failed"
    assert describe(world)["FailureReason"] == "ClientError: no objects"
    assert run in world.engine.stopped


@pytest.mark.parametrize("fate", [State.LOST, State.EXITED])
def test_a_gang_without_a_last_report_is_lost(world: FakeWorld, fate: State) -> None:
    create(world)
    world.settle()
    world.engine.states[only_gang(world)] = fate
    world.advance(1)
    world.advance(1)
    assert describe(world)["TransformJobStatus"] == "Failed"
    assert describe(world)["FailureReason"].startswith("InternalServerError")


def test_a_job_waits_for_room(world: FakeWorld) -> None:
    world.engine.room = False
    create(world)
    world.settle()
    world.advance(100)
    assert describe(world)["TransformJobStatus"] == "InProgress"
    world.engine.room = True
    world.advance(2)
    assert len(world.engine.running()) == 1


@pytest.mark.parametrize("launched", [False, True])
def test_a_job_can_be_stopped(world: FakeWorld, launched: bool) -> None:
    world.engine.room = launched
    create(world)
    world.settle()
    world.call("StopTransformJob", TransformJobName="j")
    assert describe(world)["TransformJobStatus"] == "Stopping"
    world.settle()
    world.advance(1)
    assert describe(world)["TransformJobStatus"] == "Stopped"
    assert world.engine.running() == []
    with pytest.raises(ApiError, match="status Stopped"):
        world.call("StopTransformJob", TransformJobName="j")


def test_a_gang_that_does_not_stop_is_killed(world: FakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    create(world)
    world.settle()
    graces: list[float] = []
    monkeypatch.setattr(world.engine, "stop", lambda run, grace: graces.append(grace))
    world.call("StopTransformJob", TransformJobName="j")
    world.settle()
    world.advance(200)
    assert graces == [120.0, 0.0]
    world.engine.states[only_gang(world)] = State.EXITED
    world.advance(1)
    assert describe(world)["TransformJobStatus"] == "Stopped"


def test_names_are_taken_once_and_missing_ones_are_said(world: FakeWorld) -> None:
    create(world)
    with pytest.raises(ApiError) as caught:
        create(world)
    assert caught.value.code == "ResourceInUse"
    with pytest.raises(ApiError, match="Could not find") as caught:
        world.call("DescribeTransformJob", TransformJobName="none")
    assert "Requested resource not found" in caught.value.message


def joined(split: str, assemble: str, content_type: str = "text/csv") -> dict[str, Any]:
    return {
        "DataProcessing": {"JoinSource": "Input"},
        "TransformInput": {**SOURCE, "SplitType": split, "ContentType": content_type},
        "TransformOutput": {"S3OutputPath": "s3://b/out", "AssembleWith": assemble},
    }


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"ModelName": "none"}, "Could not find model"),
        ({"MaxPayloadInMB": 0}, "chunked streaming"),
        ({"MaxPayloadInMB": 101}, "at most 100"),
        ({"MaxPayloadInMB": 51, "MaxConcurrentTransforms": 2}, "51"),
        ({"BatchStrategy": "MultiRecord"}, "needs TransformInput.SplitType"),
        ({"DataProcessing": {"InputFilter": "a"}}, "must begin with '$'"),
        (joined("Line", "None"), "agree"),
        (joined("RecordIO", "None"), "agree"),
        (joined("Line", "Line", "text/libsvm"), "text/csv"),
        ({"DataCaptureConfig": {"DestinationS3Uri": "s3://b/c"}}, "DataCaptureConfig"),
        ({"ExperimentConfig": {"TrialName": "t"}}, "ExperimentConfig"),
        (
            {"TransformInput": {"DataSource": {"S3DataSource": {"S3DataType": "Converse", "S3Uri": "s3://b/i"}}}},
            "Converse",
        ),
        ({"TransformOutput": {"S3OutputPath": "https://b/out"}}, "not an S3 URI"),
    ],
)
def test_what_cannot_be_done_is_refused(world: FakeWorld, members: dict[str, Any], words: str) -> None:
    assert words in refusal(world, **members)


def test_pipelines_are_refused(world: FakeWorld) -> None:
    world.call("CreateModel", ModelName="p", Containers=[{"Image": IMAGE}, {"Image": IMAGE}])
    assert "inference pipeline" in refusal(world, ModelName="p")
