"""Copies: CopyObject, and the source side that UploadPartCopy shares."""

from __future__ import annotations

import hashlib
import re
import secrets
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from sagesmith.core.operation import ApiError, Context
from sagesmith.services.s3.conditions import check_copy_source, write_conditions
from sagesmith.services.s3.headers import (
    META,
    PARTS,
    UPLOAD,
    checksum_members,
    encryption,
    kept_headers,
    parse_tagging,
)
from sagesmith.services.s3.room import Request, invalid, no_such_bucket, no_such_key, quoted, s3
from sagesmith.store.checksums import checksums_of
from sagesmith.store.objects import BadKey, NoSuchBucket, NoSuchObject, ObjectInfo

_MOST_BYTES = 5 * 2**30
_BLOCK = 2**20
_RANGE = re.compile(r"bytes=([0-9]{1,15})-([0-9]{1,15})", re.ASCII)
_CHANGES = ("StorageClass", "WebsiteRedirectLocation", "ServerSideEncryption", "SSEKMSKeyId", "BucketKeyEnabled")


class Copied(NamedTuple):
    """Bytes of a source object in a file of the scratch folder, and what is known of the source."""

    path: Path
    md5: str
    source: ObjectInfo


@s3
def copy_object(request: Request, ctx: Context) -> dict[str, Any]:
    bucket, key = request["Bucket"], request["Key"]
    ctx.world.objects.bucket(bucket)
    replaces = _directive(request, "MetadataDirective")
    if copy_source(request) == (bucket, key) and not replaces and not any(name in request for name in _CHANGES):
        raise ApiError(
            "InvalidRequest",
            "This copy request is illegal because it is trying to copy an object to itself without changing the"
            " object's metadata, storage class, website redirect location or encryption attributes.",
        )
    new_tags = parse_tagging(request.get("Tagging", "")) if _directive(request, "TaggingDirective") else None
    copied = copy_bytes(request, ctx)
    try:
        source = copied.source
        headers = kept_headers(request) if replaces else _inherited(source, request)
        checksums = {name: value for name, value in source.checksums.items() if "-" not in value}
        if "ChecksumAlgorithm" in request:
            checksums = checksums_of(copied.path, [request["ChecksumAlgorithm"]])
        tags = source.tags if new_tags is None else new_tags
        info = ObjectInfo(key, 0, copied.md5, 0.0, headers, checksums, tags)
        stored = ctx.world.objects.put(bucket, key, copied.path, info, **write_conditions(request))
    finally:
        copied.path.unlink(missing_ok=True)
    members = checksum_members(stored)
    result = {"ETag": quoted(stored.etag), "LastModified": stored.modified, **members}
    return {"CopyObjectResult": result, **encryption(stored.headers)}


def copy_source(request: Request) -> tuple[str, str]:
    """Bucket and key of `x-amz-copy-source`: `/bucket/key`, percent-encoded.

    Raises:
        ApiError: it names no bucket or key, or a version that does not exist.
    """
    text, _, version = request["CopySource"].partition("?versionId=")
    if version not in {"", "null"}:
        raise ApiError("NoSuchVersion", "The specified version does not exist.", 404)
    bucket, _, key = unquote(text).removeprefix("/").partition("/")
    if not bucket or not key or bucket.startswith("arn:"):
        raise invalid(
            "Copy Source must mention the source bucket and key: sourcebucket/sourcekey",
            "x-amz-copy-source",
            request["CopySource"],
        )
    return bucket, key


def copy_bytes(request: Request, ctx: Context) -> Copied:
    """Copies the source, or the `CopySourceRange` of it, to the scratch folder, after checking its conditions."""
    bucket, key = copy_source(request)
    try:
        info, file = ctx.world.objects.read(bucket, key)
    except NoSuchBucket:
        raise no_such_bucket(bucket) from None
    except NoSuchObject:
        raise no_such_key(key) from None
    except BadKey as error:
        raise invalid(str(error), "x-amz-copy-source", request["CopySource"][:100]) from None
    with file:
        check_copy_source(request, info)
        offset, left = _range(request.get("CopySourceRange"), info.size)
        digest = hashlib.md5(usedforsecurity=False)
        path = ctx.world.objects.scratch / secrets.token_hex(16)
        file.seek(offset)
        try:
            with path.open("xb") as target:
                while left and (data := file.read(min(left, _BLOCK))):
                    digest.update(data)
                    target.write(data)
                    left -= len(data)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    return Copied(path, digest.hexdigest(), info)


def _range(text: str | None, size: int) -> tuple[int, int]:
    offset, length = 0, size
    if text is not None:
        match = _RANGE.fullmatch(text)
        if match is None or int(match[2]) < int(match[1]):
            raise invalid(
                "The x-amz-copy-source-range value must be of the form bytes=first-last",
                "x-amz-copy-source-range",
                text,
            )
        if int(match[2]) >= size:
            raise invalid(
                f"Range specified is not valid for source object of size: {size}", "x-amz-copy-source-range", text
            )
        offset, length = int(match[1]), int(match[2]) - int(match[1]) + 1
    if length > _MOST_BYTES:
        raise ApiError(
            "InvalidRequest",
            f"The specified copy source is larger than the maximum allowable size for a copy source: {_MOST_BYTES}",
        )
    return offset, length


def _directive(request: Request, name: str) -> bool:
    """Whether the request replaces what it copies."""
    value = request.get(name, "COPY")
    if value not in {"COPY", "REPLACE"}:
        raise invalid(f"Unknown {name}: must be COPY or REPLACE", name, value)
    return bool(value == "REPLACE")


def _inherited(source: ObjectInfo, request: Request) -> dict[str, str]:
    """The source's headers, save storage class and encryption: those are the request's own."""
    own = {name: value for name, value in kept_headers(request).items() if name.startswith("x-amz-")}
    own = {name: value for name, value in own.items() if not name.startswith(META)}
    kept = {
        name: value
        for name, value in source.headers.items()
        if name not in {PARTS, UPLOAD} and (not name.startswith("x-amz-") or name.startswith(META))
    }
    return {**kept, **own}
