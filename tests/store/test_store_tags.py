from __future__ import annotations

import pytest

from sagesmith.core.operation import ApiError, Context
from sagesmith.store.tags import MAX_TAGS, Tags

ARN = "arn:aws:sagemaker:us-east-1:123456789012:job/a"


def pairs(ctx: Context, arn: str = ARN) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in Tags().list(ctx, arn)}


def test_tags_are_set_overwritten_and_removed_by_key(ctx: Context) -> None:
    Tags().add(ctx, ARN, [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
    Tags().add(ctx, ARN, [{"Key": "b", "Value": "3"}, {"Key": "c", "Value": ""}])
    Tags().add(ctx, ARN + "b", [{"Key": "other", "Value": ""}])
    assert pairs(ctx) == {"a": "1", "b": "3", "c": ""}
    Tags().remove(ctx, ARN, ["a", "absent"])
    assert pairs(ctx) == {"b": "3", "c": ""}
    Tags().clear(ctx, ARN)
    assert pairs(ctx) == {}
    assert pairs(ctx, ARN + "b") == {"other": ""}


def test_a_resource_has_fifty_tags_at_most_and_a_refused_request_changes_nothing(ctx: Context) -> None:
    Tags().add(ctx, ARN, [{"Key": f"k{number}", "Value": ""} for number in range(MAX_TAGS)])
    with pytest.raises(ApiError, match="more than 50"):
        Tags().add(ctx, ARN, [{"Key": "k0", "Value": "changed"}, {"Key": "one more", "Value": ""}])
    assert len(pairs(ctx)) == MAX_TAGS
    assert pairs(ctx)["k0"] == ""


def test_keys_given_twice_or_reserved_are_refused(ctx: Context) -> None:
    with pytest.raises(ApiError, match="'a'"):
        Tags().add(ctx, ARN, [{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}])
    with pytest.raises(ApiError, match="'AWS:x'"):
        Tags().add(ctx, ARN, [{"Key": "AWS:x", "Value": ""}])
    assert pairs(ctx) == {}
