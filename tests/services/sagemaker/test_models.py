"""Models: what is recorded, what is refused and in which words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sagesmith.core.operation import ApiError
from sagesmith.services.sagemaker import models  # noqa: F401 - registers the operations
from sagesmith.testing.fake_engine import IMAGE, FakeWorld

ROLE = "arn:aws:iam::123456789012:role/SageMaker"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[FakeWorld]:
    world = FakeWorld(tmp_path)
    yield world
    world.close()


def container(**members: Any) -> dict[str, Any]:
    return {"Image": IMAGE, "ModelDataUrl": "s3://models/a/model.tar.gz", **members}


def refusal(world: FakeWorld, **members: Any) -> str:
    with pytest.raises(ApiError) as caught:
        world.call("CreateModel", ModelName="m", **members)
    assert caught.value.code == "ValidationException"
    return caught.value.message


def test_a_model_is_described_as_it_was_created(world: FakeWorld) -> None:
    primary = container(Environment={"A": "1"}, ContainerHostname="here")
    answer = world.call("CreateModel", ModelName="m", PrimaryContainer=primary, ExecutionRoleArn=ROLE)
    described = world.call("DescribeModel", ModelName="m")
    assert described["ModelArn"] == answer["ModelArn"] == "arn:aws:sagemaker:us-east-1:123456789012:model/m"
    assert described["PrimaryContainer"] == primary
    assert described["ExecutionRoleArn"] == ROLE
    assert described["EnableNetworkIsolation"] is False
    assert described["CreationTime"] == world.clock.now()


def test_names_are_taken_once_and_missing_ones_are_said_in_aws_words(world: FakeWorld) -> None:
    world.call("CreateModel", ModelName="m", PrimaryContainer=container())
    assert "Cannot create already existing model" in refusal(world, PrimaryContainer=container())
    world.call("DeleteModel", ModelName="m")
    for operation in ("DescribeModel", "DeleteModel"):
        with pytest.raises(ApiError, match="Could not find model") as caught:
            world.call(operation, ModelName="m")
        assert caught.value.code == "ValidationException"


def test_models_are_listed_newest_first(world: FakeWorld) -> None:
    for name in ("one", "two"):
        world.call("CreateModel", ModelName=name, PrimaryContainer=container())
        world.clock.advance(1)
    listed = world.call("ListModels")["Models"]
    assert [entry["ModelName"] for entry in listed] == ["two", "one"]
    assert [entry["ModelName"] for entry in world.call("ListModels", NameContains="on")["Models"]] == ["one"]


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({}, "PrimaryContainer"),
        ({"PrimaryContainer": container(), "Containers": [container()]}, "not both"),
        ({"PrimaryContainer": {"ModelDataUrl": "s3://b/m.tar.gz"}}, "PrimaryContainer.Image is required"),
        ({"PrimaryContainer": container(Image="registry/unheard-of:1")}, "'unheard-of'"),
        ({"PrimaryContainer": container(ModelDataUrl="https://b/m.tar.gz")}, "not an S3 URI"),
        ({"PrimaryContainer": container(ModelDataUrl="s3://b/model.zip")}, ".tar.gz"),
        ({"PrimaryContainer": container(ModelDataUrl="s3://b/")}, "names no object"),
        ({"PrimaryContainer": container(Mode="MultiModel")}, "MultiModel"),
        ({"PrimaryContainer": {"ModelPackageName": "p"}}, "ModelPackageName"),
        (
            {"PrimaryContainer": container(Environment={"SAGEMAKER_PROGRAM": "inference.py"})},
            "PrimaryContainer.Environment.SAGEMAKER_PROGRAM asks for an inference script",
        ),
        ({"PrimaryContainer": {"Image": IMAGE, "ModelDataSource": {"S3DataSource": {}}}}, "s3Uri"),
        (
            {"Containers": [container(ContainerHostname="x"), container(ContainerHostname="x")]},
            "ContainerHostname must be unique",
        ),
        (
            {"Containers": [container(), container()], "InferenceExecutionConfig": {"Mode": "Direct"}},
            "needs a ContainerHostname",
        ),
    ],
)
def test_what_cannot_be_served_is_refused(world: FakeWorld, members: dict[str, Any], words: str) -> None:
    assert words in refusal(world, **members)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"S3Uri": "s3://b/folder", "S3DataType": "S3Prefix", "CompressionType": "None"}, "must end in '/'"),
        ({"S3Uri": "s3://b/m.bin", "S3DataType": "S3Object", "CompressionType": "None"}, "S3Object with"),
        ({"S3Uri": "s3://b/m.zip", "S3DataType": "S3Object", "CompressionType": "Gzip"}, ".tar.gz"),
        (
            {"S3Uri": "s3://b/f/", "S3DataType": "S3Prefix", "CompressionType": "None", "ManifestS3Uri": "s3://b/m"},
            "ManifestS3Uri",
        ),
    ],
)
def test_model_data_sources_that_cannot_be_staged_are_refused(
    world: FakeWorld, source: dict[str, Any], words: str
) -> None:
    primary = {"Image": IMAGE, "ModelDataSource": {"S3DataSource": source}}
    assert words in refusal(world, PrimaryContainer=primary)


def test_an_uncompressed_prefix_is_a_model(world: FakeWorld) -> None:
    source = {"S3Uri": "s3://b/folder/", "S3DataType": "S3Prefix", "CompressionType": "None"}
    primary = {"Image": IMAGE, "ModelDataSource": {"S3DataSource": source}}
    world.call("CreateModel", ModelName="m", PrimaryContainer=primary)
    assert world.call("DescribeModel", ModelName="m")["PrimaryContainer"] == primary
