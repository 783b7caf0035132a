"""Endpoint configurations: checks, defaults, and what is refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sagesmith.core.operation import ApiError
from sagesmith.services.sagemaker import endpoint_configs, models  # noqa: F401 - registers the operations
from sagesmith.testing.fake_engine import IMAGE, FakeWorld


@pytest.fixture
def world(tmp_path: Path) -> Iterator[FakeWorld]:
    world = FakeWorld(tmp_path)
    world.call("CreateModel", ModelName="m", PrimaryContainer={"Image": IMAGE})
    yield world
    world.close()


def variant(**members: Any) -> dict[str, Any]:
    return {
        "VariantName": "AllTraffic",
        "ModelName": "m",
        "InstanceType": "ml.m5.large",
        "InitialInstanceCount": 1,
        **members,
    }


def test_a_configuration_is_described_with_its_defaults(world: FakeWorld) -> None:
    answer = world.call("CreateEndpointConfig", EndpointConfigName="c", ProductionVariants=[variant()])
    described = world.call("DescribeEndpointConfig", EndpointConfigName="c")
    assert described["EndpointConfigArn"] == answer["EndpointConfigArn"]
    assert described["ProductionVariants"] == [variant(InitialVariantWeight=1.0)]
    assert world.call("ListEndpointConfigs")["EndpointConfigs"][0]["EndpointConfigName"] == "c"


def test_names_are_taken_once_and_missing_ones_are_said_in_aws_words(world: FakeWorld) -> None:
    world.call("CreateEndpointConfig", EndpointConfigName="c", ProductionVariants=[variant()])
    with pytest.raises(ApiError, match="Cannot create already existing endpoint configuration"):
        world.call("CreateEndpointConfig", EndpointConfigName="c", ProductionVariants=[variant()])
    world.call("DeleteEndpointConfig", EndpointConfigName="c")
    for operation in ("DescribeEndpointConfig", "DeleteEndpointConfig"):
        with pytest.raises(ApiError, match="Could not find endpoint configuration"):
            world.call(operation, EndpointConfigName="c")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ModelName": "absent"}, "Could not find model"),
        ({"ServerlessConfig": {"MemorySizeInMB": 1024, "MaxConcurrency": 1}}, "ServerlessConfig"),
        ({"ManagedInstanceScaling": {"Status": "ENABLED"}}, "ManagedInstanceScaling"),
        ({"RoutingConfig": {"RoutingStrategy": "KV_AWARE"}}, "KV_AWARE"),
        ({"EnableSSMAccess": True}, "EnableSSMAccess"),
        ({"InitialInstanceCount": 0}, "InitialInstanceCount"),
        ({"InitialVariantWeight": -1.0}, "InitialVariantWeight"),
    ],
)
def test_variants_that_cannot_be_served_are_refused(world: FakeWorld, change: dict[str, Any], words: str) -> None:
    with pytest.raises(ApiError) as caught:
        world.call("CreateEndpointConfig", EndpointConfigName="c", ProductionVariants=[variant(**change)])
    assert words.lower() in caught.value.message.lower()


@pytest.mark.parametrize("member", ["ModelName", "InstanceType", "InitialInstanceCount"])
def test_a_variant_needs_a_model_a_type_and_a_count(world: FakeWorld, member: str) -> None:
    incomplete = variant()
    del incomplete[member]
    with pytest.raises(ApiError, match=rf"ProductionVariants\[0\]\.{member} is required"):
        world.call("CreateEndpointConfig", EndpointConfigName="c", ProductionVariants=[incomplete])


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("AsyncInferenceConfig", {"OutputConfig": {"S3OutputPath": "s3://b/o"}}),
        ("ShadowProductionVariants", [variant(VariantName="shadow")]),
        ("MetricsConfig", {"EnableEnhancedMetrics": True}),
        (
            "DataCaptureConfig",
            {
                "EnableCapture": True,
                "InitialSamplingPercentage": 20,
                "DestinationS3Uri": "s3://b/c",
                "CaptureOptions": [{"CaptureMode": "Input"}],
            },
        ),
    ],
)
def test_what_is_not_built_is_refused_by_name(world: FakeWorld, member: str, value: Any) -> None:
    with pytest.raises(ApiError, match=member):
        world.call("CreateEndpointConfig", EndpointConfigName="c", ProductionVariants=[variant()], **{member: value})


def test_variant_names_are_unique(world: FakeWorld) -> None:
    with pytest.raises(ApiError, match="VariantName must be unique"):
        world.call("CreateEndpointConfig", EndpointConfigName="c", ProductionVariants=[variant(), variant()])
