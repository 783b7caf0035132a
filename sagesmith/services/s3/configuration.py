"""Configurations of a bucket: what AWS answers for one that nobody configured.

Setting any of them is not built and answers 501 by name, so the defaults are always the truth; deleting one that
cannot exist succeeds, as on AWS.
"""

from __future__ import annotations

from typing import Any

from sagesmith.core.operation import ApiError, Context
from sagesmith.services.s3.room import Request, bucket_of, owner, s3

_NOT_SET = {
    "get_bucket_cors": ("NoSuchCORSConfiguration", "The CORS configuration does not exist"),
    "get_bucket_encryption": (
        "ServerSideEncryptionConfigurationNotFoundError",
        "The server side encryption configuration was not found",
    ),
    "get_bucket_lifecycle_configuration": (
        "NoSuchLifecycleConfiguration",
        "The lifecycle configuration does not exist",
    ),
    "get_bucket_policy": ("NoSuchBucketPolicy", "The bucket policy does not exist"),
    "get_bucket_policy_status": ("NoSuchBucketPolicy", "The bucket policy does not exist"),
    "get_bucket_replication": (
        "ReplicationConfigurationNotFoundError",
        "The replication configuration was not found",
    ),
    "get_bucket_tagging": ("NoSuchTagSet", "The TagSet does not exist"),
    "get_bucket_website": (
        "NoSuchWebsiteConfiguration",
        "The specified bucket does not have a website configuration",
    ),
    "get_object_lock_configuration": (
        "ObjectLockConfigurationNotFoundError",
        "Object Lock configuration does not exist for this bucket",
    ),
    "get_public_access_block": (
        "NoSuchPublicAccessBlockConfiguration",
        "The public access block configuration was not found",
    ),
}
_EMPTY = [
    "get_bucket_accelerate_configuration",
    "get_bucket_logging",
    "get_bucket_notification_configuration",
    "get_bucket_versioning",
]
_NOTHING_TO_DELETE = [
    "delete_bucket_cors",
    "delete_bucket_encryption",
    "delete_bucket_lifecycle",
    "delete_bucket_policy",
    "delete_bucket_replication",
    "delete_bucket_tagging",
    "delete_bucket_website",
    "delete_public_access_block",
]


def _register() -> None:
    for name, (code, message) in _NOT_SET.items():
        _not_set(name, code, message)
    for name in [*_EMPTY, *_NOTHING_TO_DELETE]:
        _empty(name)


def _not_set(name: str, code: str, message: str) -> None:
    def answer(request: Request, ctx: Context) -> dict[str, Any]:
        bucket_of(request, ctx)
        raise ApiError(code, message, 404, fields={"BucketName": request["Bucket"]})

    answer.__name__ = name
    s3(answer)


def _empty(name: str) -> None:
    def answer(request: Request, ctx: Context) -> dict[str, Any]:
        bucket_of(request, ctx)
        return {}

    answer.__name__ = name
    s3(answer)


_register()


@s3
def get_bucket_request_payment(request: Request, ctx: Context) -> dict[str, Any]:
    bucket_of(request, ctx)
    return {"Payer": "BucketOwner"}


@s3
def get_bucket_ownership_controls(request: Request, ctx: Context) -> dict[str, Any]:
    bucket_of(request, ctx)
    return {"OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}}


@s3
def get_bucket_acl(request: Request, ctx: Context) -> dict[str, Any]:
    bucket_of(request, ctx)
    return _full_control(ctx)


@s3
def get_object_acl(request: Request, ctx: Context) -> dict[str, Any]:
    ctx.world.objects.head(request["Bucket"], request["Key"])
    return _full_control(ctx)


def _full_control(ctx: Context) -> dict[str, Any]:
    grantee = {**owner(ctx), "Type": "CanonicalUser"}
    return {"Owner": owner(ctx), "Grants": [{"Grantee": grantee, "Permission": "FULL_CONTROL"}]}
