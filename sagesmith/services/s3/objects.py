"""Objects: put, get, head, delete."""

from __future__ import annotations

from typing import Any

from sagesmith.core.operation import ApiError, Body, Context, FileRange
from sagesmith.services.s3.conditions import check_read, etag_matches, read_range, write_conditions
from sagesmith.services.s3.headers import (
    PARTS,
    checksum_members,
    described,
    encryption,
    kept_headers,
    parse_tagging,
)
from sagesmith.services.s3.room import Request, invalid, no_such_key, precondition_failed, quoted, s3
from sagesmith.store.objects import BadKey, NoSuchObject, ObjectInfo

_OVERRIDES = {
    "ResponseCacheControl": "CacheControl",
    "ResponseContentDisposition": "ContentDisposition",
    "ResponseContentEncoding": "ContentEncoding",
    "ResponseContentLanguage": "ContentLanguage",
    "ResponseContentType": "ContentType",
    "ResponseExpires": "Expires",
}
_MOST_DELETED = 1000


@s3
def put_object(request: Request, ctx: Context) -> dict[str, Any]:
    body = request.get("Body", b"")
    checksums = dict(body.crc) if isinstance(body, Body) else {}
    info = ObjectInfo(
        key=request["Key"],
        size=0,
        etag=body.md5 if isinstance(body, Body) else "",
        modified=0.0,
        headers=kept_headers(request),
        checksums=checksums,
        tags=parse_tagging(request.get("Tagging", "")),
    )
    conditions = write_conditions(request)
    source = body.path if isinstance(body, Body) else body
    stored = ctx.world.objects.put(request["Bucket"], request["Key"], source, info, **conditions)
    return {"ETag": quoted(stored.etag), **checksum_members(stored), **encryption(stored.headers)}


@s3
def get_object(request: Request, ctx: Context) -> dict[str, Any]:
    info, file = ctx.world.objects.read(request["Bucket"], request["Key"])
    try:
        answer, offset, length = _answer(request, info)
    except BaseException:
        file.close()
        raise
    for member, target in _OVERRIDES.items():
        if member in request:
            answer[target] = request[member]
    return {**answer, "Body": FileRange(None, offset, length, file)}


@s3
def head_object(request: Request, ctx: Context) -> dict[str, Any]:
    answer, _, _ = _answer(request, ctx.world.objects.head(request["Bucket"], request["Key"]))
    for member, target in _OVERRIDES.items():
        if member in request:
            answer[target] = request[member]
    return answer


def _answer(request: Request, info: ObjectInfo) -> tuple[dict[str, Any], int, int]:
    """The headers of the answer, and which bytes follow: offset and length."""
    check_read(request, info)
    whole = (0, info.size)
    span = None
    if "PartNumber" in request:
        if "Range" in request:
            raise ApiError("InvalidRequest", "Cannot specify both Range header and partNumber query parameter")
        span = _part_span(request["PartNumber"], info)
    elif "Range" in request:
        span = read_range(request["Range"], info.size)
    offset, length = span or whole
    wants_checksums = request.get("ChecksumMode") == "ENABLED" and (offset, length) == whole
    answer = described(info, wants_checksums)
    answer["ContentLength"] = length
    if span is not None and length:
        answer["ContentRange"] = f"bytes {offset}-{offset + length - 1}/{info.size}"
    if "PartNumber" in request and PARTS in info.headers:
        answer["PartsCount"] = len(info.headers[PARTS].split(","))
    return answer, offset, length


def _part_span(number: int, info: ObjectInfo) -> tuple[int, int]:
    sizes = [int(size) for size in info.headers[PARTS].split(",")] if PARTS in info.headers else [info.size]
    if number < 1:
        raise invalid("Part number must be an integer between 1 and 10000, inclusive", "partNumber", number)
    if number > len(sizes):
        raise ApiError("InvalidPartNumber", "The requested partnumber is not satisfiable", 416)
    return sum(sizes[: number - 1]), sizes[number - 1]


@s3
def delete_object(request: Request, ctx: Context) -> dict[str, Any]:
    if "IfMatch" in request:
        _check_delete(request["Bucket"], request["Key"], request["IfMatch"], ctx)
    ctx.world.objects.delete(request["Bucket"], request["Key"])
    return {}


def _check_delete(bucket: str, key: str, etag: str, ctx: Context) -> None:
    try:
        found = ctx.world.objects.head(bucket, key)
    except NoSuchObject:
        raise no_such_key(key) from None
    if not etag_matches(etag, found.etag):
        raise precondition_failed("If-Match")


@s3
def delete_objects(request: Request, ctx: Context) -> dict[str, Any]:
    ctx.world.objects.bucket(request["Bucket"])
    entries = request["Delete"].get("Objects", [])
    if not 1 <= len(entries) <= _MOST_DELETED:
        raise ApiError(
            "MalformedXML", f"Delete must name between 1 and {_MOST_DELETED} objects, this one names {len(entries)}."
        )
    deleted, errors = [], []
    for entry in entries:
        key = entry.get("Key", "")
        try:
            _delete_entry(request["Bucket"], entry, ctx)
            deleted.append({"Key": key})
        except ApiError as error:
            errors.append({"Key": key, "Code": error.code, "Message": error.message})
    answer: dict[str, Any] = {"Errors": errors} if errors else {}
    if not request["Delete"].get("Quiet"):
        answer["Deleted"] = deleted
    return answer


def _delete_entry(bucket: str, entry: dict[str, Any], ctx: Context) -> None:
    if entry.get("VersionId", "null") != "null":
        raise ApiError("NoSuchVersion", "The specified version does not exist.", 404)
    if "LastModifiedTime" in entry or "Size" in entry:
        raise ApiError("NotImplemented", "LastModifiedTime and Size conditions are not implemented by sagesmith.", 501)
    try:
        if "ETag" in entry:
            _check_delete(bucket, entry["Key"], entry["ETag"], ctx)
        ctx.world.objects.delete(bucket, entry.get("Key", ""))
    except BadKey as error:
        raise ApiError("InvalidArgument", str(error)) from None
