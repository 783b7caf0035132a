"""What all S3 operations share: who owns a bucket, and S3's words for the store's errors."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from sagesmith.core.operation import ApiError, Context, Handler, Service
from sagesmith.store.objects import BadKey, BucketInfo, NoSuchBucket, NoSuchObject, PreconditionFailed, check_key
from sagesmith.store.uploads import NoSuchUpload

Request = dict[str, Any]
_SERVICE = Service("s3")
_ACCEPTED_ACLS = {"private", "bucket-owner-full-control"}
_GRANTS = ("GrantFullControl", "GrantRead", "GrantReadACP", "GrantWrite", "GrantWriteACP")
_REFUSED = {  # request members that would change what is stored in ways that are not built
    "SSECustomerAlgorithm": "encryption with a key of the client (SSE-C)",
    "SSECustomerKey": "encryption with a key of the client (SSE-C)",
    "CopySourceSSECustomerAlgorithm": "encryption with a key of the client (SSE-C)",
    "ObjectLockMode": "object lock",
    "ObjectLockRetainUntilDate": "object lock",
    "ObjectLockLegalHoldStatus": "object lock",
    "ObjectLockEnabledForBucket": "object lock",
    "WriteOffsetBytes": "appending to an object",
    "IfMatchLastModifiedTime": "deleting on condition of the modification time",
    "IfMatchSize": "deleting on condition of the size",
    "IfMatchInitiatedTime": "aborting on condition of the time of beginning",
}


def s3(function: Callable[[Request, Context], dict[str, Any] | None]) -> Handler:
    """Registers an S3 operation: checks what every operation checks, and turns the store's errors into S3's."""

    @functools.wraps(function)
    def guarded(request: Request, ctx: Context) -> dict[str, Any] | None:
        try:
            _check(request, ctx)
            return function(request, ctx)
        except NoSuchBucket:
            raise no_such_bucket(request.get("Bucket", "")) from None
        except NoSuchObject:
            raise no_such_key(request.get("Key", "")) from None
        except NoSuchUpload:
            raise ApiError(
                "NoSuchUpload",
                "The specified upload does not exist. The upload ID may be invalid, or the upload may have been"
                " aborted or completed.",
                404,
                fields={"UploadId": request.get("UploadId", "")},
            ) from None
        except PreconditionFailed as error:
            if not error.found:
                raise no_such_key(request.get("Key", "")) from None
            raise precondition_failed("If-Match" if "IfMatch" in request else "If-None-Match") from None

    return _SERVICE.operation(guarded)


def _check(request: Request, ctx: Context) -> None:
    for member in ("ExpectedBucketOwner", "ExpectedSourceBucketOwner"):
        if request.get(member, ctx.account) != ctx.account:
            raise ApiError("AccessDenied", "Access Denied", 403)
    for member, what in _REFUSED.items():
        if request.get(member):
            raise ApiError("NotImplemented", f"{member}: {what} is not implemented by sagesmith.", 501)
    if request.get("ACL", "private") not in _ACCEPTED_ACLS or any(request.get(grant) for grant in _GRANTS):
        raise ApiError("AccessControlListNotSupported", "The bucket does not allow ACLs")
    if request.get("VersionId", "null") != "null":
        raise ApiError("InvalidArgument", "Invalid version id specified: sagesmith keeps one version, 'null'.")
    if "Key" in request:
        _check_key(request["Key"])


def _check_key(key: str) -> None:
    try:
        check_key(key)
    except BadKey as error:
        if len(key) > 1:
            size = len(key.encode(errors="replace"))
            raise ApiError("KeyTooLongError", f"Your key is too long: {error}", fields={"Size": size}) from None
        raise ApiError("InvalidArgument", str(error)) from None


def bucket_of(request: Mapping[str, Any], ctx: Context) -> BucketInfo:
    """The request's bucket; raises NoSuchBucket."""
    return ctx.world.objects.bucket(request["Bucket"])


def owner(ctx: Context) -> dict[str, str]:
    """The one account that owns everything."""
    return {"ID": ctx.account, "DisplayName": ctx.account}


def quoted(etag: str) -> str:
    return f'"{etag}"'


def no_such_bucket(name: str) -> ApiError:
    return ApiError("NoSuchBucket", "The specified bucket does not exist", 404, fields={"BucketName": name})


def no_such_key(key: str) -> ApiError:
    return ApiError("NoSuchKey", "The specified key does not exist.", 404, fields={"Key": key})


def precondition_failed(condition: str) -> ApiError:
    return ApiError(
        "PreconditionFailed",
        "At least one of the pre-conditions you specified did not hold",
        412,
        fields={"Condition": condition},
    )


def invalid(message: str, name: str, value: object) -> ApiError:
    """InvalidArgument, naming the argument and its value."""
    return ApiError("InvalidArgument", message, fields={"ArgumentName": name, "ArgumentValue": value})
