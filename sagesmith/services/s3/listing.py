"""Listings: ListObjects, ListObjectsV2 and ListObjectVersions."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from sagesmith.core.operation import Context
from sagesmith.services.s3.room import Request, invalid, owner, quoted, s3
from sagesmith.store.objects import CommonPrefix, ObjectInfo

_MOST = 1000


@dataclass
class _Page:
    objects: list[ObjectInfo] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    last: str = ""
    truncated: bool = False


@s3
def list_objects(request: Request, ctx: Context) -> dict[str, Any]:
    page = _page(request, ctx, request.get("Marker", ""))
    answer = _answer(request, page, ctx, with_owner=True)
    encode = _encoder(request)
    answer["Marker"] = encode(request.get("Marker", ""))
    if page.truncated and request.get("Delimiter"):
        answer["NextMarker"] = encode(page.last)
    return answer


@s3
def list_objects_v2(request: Request, ctx: Context) -> dict[str, Any]:
    after = request.get("StartAfter", "")
    token = request.get("ContinuationToken")
    page = _page(request, ctx, after if token is None else _key_of(token))
    answer = _answer(request, page, ctx, with_owner=bool(request.get("FetchOwner")))
    answer["KeyCount"] = len(page.objects) + len(page.prefixes)
    if after:
        answer["StartAfter"] = _encoder(request)(after)
    if token is not None:
        answer["ContinuationToken"] = token
    if page.truncated:
        answer["NextContinuationToken"] = base64.urlsafe_b64encode(page.last.encode()).decode()
    return answer


@s3
def list_object_versions(request: Request, ctx: Context) -> dict[str, Any]:
    """Every object has the one version `null`."""
    page = _page(request, ctx, request.get("KeyMarker", ""))
    answer = _answer(request, page, ctx, with_owner=True)
    encode = _encoder(request)
    answer["Versions"] = [{**entry, "VersionId": "null", "IsLatest": True} for entry in answer.pop("Contents")]
    answer["KeyMarker"] = encode(request.get("KeyMarker", ""))
    answer["VersionIdMarker"] = request.get("VersionIdMarker", "")
    if page.truncated:
        answer["NextKeyMarker"] = encode(page.last)
        answer["NextVersionIdMarker"] = "null"
    return answer


def _page(request: Request, ctx: Context, after: str) -> _Page:
    most = min(_max_keys(request), _MOST)
    page = _Page()
    items = ctx.world.objects.list_folders(
        request["Bucket"], request.get("Prefix", ""), request.get("Delimiter", ""), after
    )
    if most == 0:
        ctx.world.objects.bucket(request["Bucket"])
        return page
    for item in items:
        if len(page.objects) + len(page.prefixes) == most:
            page.truncated = True
            break
        if isinstance(item, CommonPrefix):
            page.prefixes.append(item.prefix)
            page.last = item.prefix
        else:
            page.objects.append(item)
            page.last = item.key
    return page


def _max_keys(request: Request) -> int:
    most = int(request.get("MaxKeys", _MOST))
    if not 0 <= most < 2**31:
        raise invalid("Argument max-keys must be an integer between 0 and 2147483647", "max-keys", most)
    return most


def _answer(request: Request, page: _Page, ctx: Context, with_owner: bool) -> dict[str, Any]:
    encode = _encoder(request)
    answer: dict[str, Any] = {
        "Name": request["Bucket"],
        "Prefix": encode(request.get("Prefix", "")),
        "MaxKeys": min(_max_keys(request), _MOST),
        "IsTruncated": page.truncated,
        "Contents": [_entry(info, encode, owner(ctx) if with_owner else None) for info in page.objects],
        "CommonPrefixes": [{"Prefix": encode(prefix)} for prefix in page.prefixes],
    }
    if request.get("Delimiter"):
        answer["Delimiter"] = encode(request["Delimiter"])
    if "EncodingType" in request:
        answer["EncodingType"] = "url"
    return answer


def _entry(info: ObjectInfo, encode: Callable[[str], str], entry_owner: dict[str, str] | None) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "Key": encode(info.key),
        "LastModified": info.modified,
        "ETag": quoted(info.etag),
        "Size": info.size,
        "StorageClass": info.headers.get("x-amz-storage-class", "STANDARD"),
    }
    if info.checksums:
        entry["ChecksumAlgorithm"] = sorted(info.checksums)
    if entry_owner:
        entry["Owner"] = entry_owner
    return entry


def _encoder(request: Request) -> Callable[[str], str]:
    kind = request.get("EncodingType")
    if kind is None:
        return str
    if kind != "url":
        raise invalid("Invalid Encoding Method specified in Request: only 'url' is allowed", "encoding-type", kind)
    return quote


def _key_of(token: str) -> str:
    try:
        if not token:
            raise ValueError
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise invalid("The continuation token provided is incorrect", "continuation-token", token) from None
