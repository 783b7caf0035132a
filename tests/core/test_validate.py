"""Requests against the model, in AWS's words."""

from __future__ import annotations

import random
from typing import Any

import pytest

from sagesmith.core.operation import ApiError, service_model
from sagesmith.core.validate import java_pattern, validate
from tests.gateway.generate import value_of

SERVICES = (
    "sagemaker",
    "sagemaker-runtime",
    "sagemaker-featurestore-runtime",
    "sagemaker-metrics",
    "logs",
    "cloudwatch",
)
SERVICES += ("s3", "sts", "iam", "application-autoscaling", "athena")


def check(operation: str, request: dict[str, Any], service: str = "sagemaker") -> str:
    shape = service_model(service).operation_model(operation).input_shape
    assert shape is not None
    with pytest.raises(ApiError) as caught:
        validate(request, shape)
    assert (caught.value.code, caught.value.status) == ("ValidationException", 400)
    return caught.value.message


def accepts(operation: str, request: dict[str, Any], service: str = "sagemaker") -> None:
    shape = service_model(service).operation_model(operation).input_shape
    assert shape is not None
    validate(request, shape)


def test_a_pattern_must_match_the_whole_value() -> None:
    message = check("DescribeTrainingJob", {"TrainingJobName": "my_job"})
    assert message == (
        "1 validation error detected: Value 'my_job' at 'trainingJobName' failed to satisfy constraint: "
        "Member must satisfy regular expression pattern: [a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}"
    )
    for name in ("job\n", "a/../b", "../x", "", "job\x00", "é"):
        assert "trainingJobName" in check("DescribeTrainingJob", {"TrainingJobName": name})
    accepts("DescribeTrainingJob", {"TrainingJobName": "my-job"})


def test_lengths_and_missing_members_are_counted_in_one_message() -> None:
    message = check("CreateEndpoint", {"EndpointName": "a" * 64})
    assert message.startswith("3 validation errors detected: Value null at 'endpointConfigName' failed to satisfy ")
    assert "constraint: Member must not be null; Value 'aaaa" in message
    assert "at 'endpointName' failed to satisfy constraint: Member must have length less than or equal to 63" in message


def test_paths_name_lists_and_structures() -> None:
    variant = {"VariantName": "v", "ModelName": "m", "InitialInstanceCount": 0, "InstanceType": "ml.huge"}
    message = check("CreateEndpointConfig", {"EndpointConfigName": "c", "ProductionVariants": [variant]})
    assert "Value '0' at 'productionVariants.1.member.initialInstanceCount' failed to satisfy constraint: " in message
    assert "Member must have value greater than or equal to 1" in message
    assert (
        "at 'productionVariants.1.member.instanceType' failed to satisfy constraint: Member must satisfy enum"
        in message
    )
    empty = check("CreateEndpointConfig", {"EndpointConfigName": "c", "ProductionVariants": []})
    assert "Value '[]' at 'productionVariants' failed to satisfy constraint: Member must have length greater" in empty


def test_lists_and_maps_of_strings_name_the_constraint_of_their_members() -> None:
    message = check("DeleteTags", {"ResourceArn": "arn:aws:sagemaker:us-east-1:1:x/y", "TagKeys": ["a" * 129]})
    assert (
        "' at 'tagKeys' failed to satisfy constraint: Member must satisfy constraint: [Member must have length"
        in message
    )
    training = {"TrainingJobName": "j", "HyperParameters": {"k" * 257: "v"}}
    assert "at 'hyperParameters' failed to satisfy constraint: Map keys must satisfy constraint: [" in check(
        "CreateTrainingJob", training
    )
    training = {"TrainingJobName": "j", "HyperParameters": {"k": "v" * 2501}}
    assert "at 'hyperParameters' failed to satisfy constraint: Map value must satisfy constraint: [" in check(
        "CreateTrainingJob", training
    )


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (
            {"TrainingJobName": 5},
            "Value '5' at 'trainingJobName' failed to satisfy constraint: Member must be of type string",
        ),
        ({"TrainingJobName": ["a"]}, "Value '[a]' at 'trainingJobName' failed"),
        (
            {"TrainingJobName": None},
            "Value null at 'trainingJobName' failed to satisfy constraint: Member must not be null",
        ),
    ],
)
def test_types_are_checked_for_requests_between_rooms(request_: dict[str, Any], expected: str) -> None:
    assert expected in check("DescribeTrainingJob", request_)


def test_booleans_are_no_numbers_and_null_list_items_are_refused() -> None:
    assert "Member must be of type integer" in check("ListModels", {"MaxResults": True})
    assert "Member must not be null" in check("DeleteTags", {"ResourceArn": "arn:aws:x", "TagKeys": [None]})


def test_unions_take_exactly_one_member() -> None:
    request = {
        "AutoMLJobName": "a",
        "AutoMLJobInputDataConfig": [{}],
        "OutputDataConfig": {"S3OutputPath": "s3://b/k"},
        "RoleArn": "arn:aws:iam::123456789012:role/R",
        "AutoMLProblemTypeConfig": {},
    }
    assert "at 'autoMLProblemTypeConfig' failed to satisfy constraint: Member must have exactly one of" in check(
        "CreateAutoMLJobV2", request
    )


def test_unknown_members_are_ignored_and_empty_ones_left_out() -> None:
    accepts("ListModels", {"Surprise": 1, "MaxResults": None})


def test_long_values_are_cut_and_many_problems_counted() -> None:
    message = check("DescribeTrainingJob", {"TrainingJobName": "_" * 100_000})
    assert len(message) < 3000
    many = check("AddTags", {"ResourceArn": "arn:aws:x", "Tags": [{"Key": "", "Value": "v"} for _ in range(40)]})
    assert many.startswith("41 validation errors detected: ")
    assert len(many) < 10_000


@pytest.mark.parametrize("service", SERVICES)
def test_every_pattern_of_the_models_compiles(service: str) -> None:
    model = service_model(service)
    patterns = [
        shape.metadata["pattern"] for shape in map(model.shape_for, model.shape_names) if "pattern" in shape.metadata
    ]
    for pattern in patterns:
        java_pattern(pattern)


def test_patterns_mean_what_java_means() -> None:
    assert java_pattern(r"[\p{L}\p{N}]*").fullmatch("é漢1")
    assert not java_pattern(r"\d+").fullmatch("\N{ARABIC-INDIC DIGIT ONE}")
    assert not java_pattern(r"[\w]+").fullmatch("é")
    assert java_pattern(r"[\u0020-\uD7FF\uE000-\uFFFD\uD800\uDC00-\uDBFF\uDFFF\t]*").fullmatch("a\U0001f600")
    assert java_pattern(r"\A\S[\p{Print}]*\z").fullmatch("id 1")


@pytest.mark.parametrize("service", ["sagemaker", "logs", "cloudwatch", "iam"])
def test_every_input_shape_is_walked_without_an_accident(service: str) -> None:
    model = service_model(service)
    for name in model.operation_names:
        shape = model.operation_model(name).input_shape
        if shape is None:
            continue
        message = ""
        try:
            validate(value_of(shape, random.Random(name)), shape)
        except ApiError as error:
            message = error.message
        assert "must be of type" not in message, name
        assert "must not be null" not in message, name
