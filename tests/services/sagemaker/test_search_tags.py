from __future__ import annotations

import pytest

from sagesmith.core.operation import ApiError
from sagesmith.engines.base import State
from sagesmith.testing.check_operation import check_operation
from tests.services.sagemaker.training_stage import Stage

ARN = "arn:aws:sagemaker:us-east-1:123456789012:training-job/job"


def tags(*keys: str) -> list[dict[str, str]]:
    return [{"Key": key, "Value": f"value of {key}"} for key in keys]


def listed(stage: Stage) -> list[str]:
    answer = check_operation("ListTags", {"ResourceArn": ARN}, stage.ctx)
    return [tag["Key"] for tag in answer["Tags"]]


def test_tags_are_added_listed_and_deleted_even_after_the_job_has_ended(stage: Stage) -> None:
    stage.create()
    stage.drain()
    stage.exit()
    stage.gang(State.EXITED)
    stage.pass_time(1)
    before = stage.describe()
    added = check_operation("AddTags", {"ResourceArn": ARN, "Tags": tags("b", "a")}, stage.ctx)
    assert added == {"Tags": tags("a", "b")}
    check_operation("DeleteTags", {"ResourceArn": ARN, "TagKeys": ["a", "absent"]}, stage.ctx)
    assert listed(stage) == ["b"]
    assert stage.describe() == before


def test_a_refused_request_adds_nothing(stage: Stage) -> None:
    stage.create(Tags=tags(*(f"k{number:02}" for number in range(50))))
    with pytest.raises(ApiError, match="more than 50 tags"):
        check_operation("AddTags", {"ResourceArn": ARN, "Tags": tags("one", "more")}, stage.ctx)
    assert len(listed(stage)) == 50


@pytest.mark.parametrize(
    "arn",
    [
        ARN.replace("/job", "/nobody"),
        ARN.replace("us-east-1", "eu-west-1"),
        ARN.replace("training-job", "no-such-kind"),
        ARN.replace("123456789012", "999999999999"),
    ],
)
@pytest.mark.parametrize("operation", ["AddTags", "ListTags", "DeleteTags"])
def test_a_resource_that_is_not_there_has_no_tags(stage: Stage, operation: str, arn: str) -> None:
    stage.create()
    members = {"AddTags": {"Tags": tags("a")}, "ListTags": {}, "DeleteTags": {"TagKeys": ["a"]}}[operation]
    with pytest.raises(ApiError, match="Could not find") as caught:
        check_operation(operation, {"ResourceArn": arn, **members}, stage.ctx)
    assert caught.value.code == "ValidationException"


def test_a_token_of_another_list_is_refused(stage: Stage) -> None:
    stage.create("one")
    stage.create("two")
    token = check_operation("ListTrainingJobs", {"MaxResults": 1}, stage.ctx)["NextToken"]
    with pytest.raises(ApiError, match="NextToken"):
        check_operation("ListTags", {"ResourceArn": ARN.replace("/job", "/one"), "NextToken": token}, stage.ctx)
