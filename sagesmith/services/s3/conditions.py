"""Conditions and ranges of HTTP, as S3 understands them (RFC 9110, sections 13 and 14)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from email.utils import formatdate
from typing import Any

from sagesmith.core.operation import ApiError
from sagesmith.services.s3.room import precondition_failed, quoted
from sagesmith.store.objects import ObjectInfo

_RANGE = re.compile(r"bytes=\s*([0-9]*)\s*-\s*([0-9]*)\s*", re.ASCII | re.IGNORECASE)


def check_read(request: Mapping[str, Any], info: ObjectInfo) -> None:
    """Checks If-Match, If-Unmodified-Since, If-None-Match and If-Modified-Since of a GET or HEAD.

    Raises:
        ApiError: PreconditionFailed (412) or NotModified (304).
    """
    if "IfMatch" in request:
        if not etag_matches(request["IfMatch"], info.etag):
            raise precondition_failed("If-Match")
    elif "IfUnmodifiedSince" in request and modified_after(info, request["IfUnmodifiedSince"]):
        raise precondition_failed("If-Unmodified-Since")
    if "IfNoneMatch" in request:
        if etag_matches(request["IfNoneMatch"], info.etag):
            raise _not_modified(info)
    elif "IfModifiedSince" in request and not modified_after(info, request["IfModifiedSince"]):
        raise _not_modified(info)


def check_copy_source(request: Mapping[str, Any], info: ObjectInfo) -> None:
    """Checks the x-amz-copy-source-if-* conditions; raises PreconditionFailed (412)."""
    if "CopySourceIfMatch" in request:
        if not etag_matches(request["CopySourceIfMatch"], info.etag):
            raise precondition_failed("x-amz-copy-source-If-Match")
    elif "CopySourceIfUnmodifiedSince" in request and modified_after(info, request["CopySourceIfUnmodifiedSince"]):
        raise precondition_failed("x-amz-copy-source-If-Unmodified-Since")
    if "CopySourceIfNoneMatch" in request:
        if etag_matches(request["CopySourceIfNoneMatch"], info.etag):
            raise precondition_failed("x-amz-copy-source-If-None-Match")
    elif "CopySourceIfModifiedSince" in request and not modified_after(info, request["CopySourceIfModifiedSince"]):
        raise precondition_failed("x-amz-copy-source-If-Modified-Since")


def write_conditions(request: Mapping[str, Any]) -> dict[str, Any]:
    """The conditions of a write, as `Objects.put` takes them.

    Raises:
        ApiError: NotImplemented for If-None-Match other than "*", or both conditions at once.
    """
    if_match, if_none_match = request.get("IfMatch"), request.get("IfNoneMatch")
    if if_none_match not in {None, "*"} or (if_match is not None and if_none_match is not None):
        raise ApiError(
            "NotImplemented", "A write takes If-Match: <etag> or If-None-Match: *, and only one of them.", 501
        )
    return {"if_match": None if if_match is None else plain_etag(if_match), "if_absent": if_none_match == "*"}


def plain_etag(text: str) -> str:
    return text.strip().removeprefix("W/").strip('"')


def etag_matches(wanted: str, etag: str) -> bool:
    """Whether a list of ETags, or "*", names this one."""
    return any(plain_etag(item) in {"*", etag} for item in wanted.split(","))


def modified_after(info: ObjectInfo, moment: datetime) -> bool:
    """HTTP dates have whole seconds."""
    return int(info.modified) > int(moment.timestamp())


def read_range(text: str, size: int) -> tuple[int, int] | None:
    """Offset and length that a Range header asks for; None where it is to be ignored (several ranges, nonsense).

    Raises:
        ApiError: InvalidRange (416) when no byte of the object lies in it.
    """
    match = _RANGE.fullmatch(text)
    if match is None or match[1] == match[2] == "":
        return None
    if match[1] == "":
        length = min(int(match[2]), size)
        if length == 0:
            raise _invalid_range(text, size)
        return size - length, length
    first = int(match[1])
    last = int(match[2]) if match[2] else size - 1
    if match[2] and last < first:
        return None
    if first >= size:
        raise _invalid_range(text, size)
    return first, min(last, size - 1) - first + 1


def _invalid_range(text: str, size: int) -> ApiError:
    return ApiError(
        "InvalidRange",
        "The requested range is not satisfiable",
        416,
        fields={"RangeRequested": text, "ActualObjectSize": size},
        headers={"Content-Range": f"bytes */{size}"},
    )


def _not_modified(info: ObjectInfo) -> ApiError:
    headers = {"ETag": quoted(info.etag), "Last-Modified": formatdate(int(info.modified), usegmt=True)}
    return ApiError("NotModified", "Not Modified", 304, headers=headers)
