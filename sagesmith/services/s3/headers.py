"""Object headers: which request members are kept with an object, and how they come back."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qsl

from sagesmith.core.operation import ApiError
from sagesmith.services.s3.room import Request, quoted
from sagesmith.store.objects import ObjectInfo

META = "x-amz-meta-"
PARTS = "sagesmith-parts"  # sizes of a multipart object's parts; never sent
UPLOAD = "sagesmith-upload"  # id of the multipart upload that made the object; never sent
_KEPT = {
    "CacheControl": "cache-control",
    "ContentDisposition": "content-disposition",
    "ContentEncoding": "content-encoding",
    "ContentLanguage": "content-language",
    "ContentType": "content-type",
    "Expires": "expires",
    "WebsiteRedirectLocation": "x-amz-website-redirect-location",
    "ServerSideEncryption": "x-amz-server-side-encryption",
    "SSEKMSKeyId": "x-amz-server-side-encryption-aws-kms-key-id",
    "SSEKMSEncryptionContext": "x-amz-server-side-encryption-context",
    "BucketKeyEnabled": "x-amz-server-side-encryption-bucket-key-enabled",
    "StorageClass": "x-amz-storage-class",
}
ENCRYPTION = ("ServerSideEncryption", "SSEKMSKeyId", "SSEKMSEncryptionContext", "BucketKeyEnabled")
_DEFAULT_TYPE = "binary/octet-stream"
_META_BYTES = 2048
_MOST_TAGS = 10


def kept_headers(request: Request) -> dict[str, str]:
    """The headers of a request that belong to the object.

    Raises:
        ApiError: MetadataTooLarge beyond 2 KiB of user metadata.
    """
    headers = {header: _text(request[member]) for member, header in _KEPT.items() if member in request}
    encodings = [item.strip() for item in headers.get("content-encoding", "").split(",")]
    encoding = ",".join(item for item in encodings if item and item.lower() != "aws-chunked")
    headers.pop("content-encoding", None)
    if encoding:
        headers["content-encoding"] = encoding
    if headers.get("x-amz-storage-class") == "STANDARD":
        del headers["x-amz-storage-class"]
    metadata = request.get("Metadata") or {}
    size = sum(len(name.encode()) + len(value.encode()) for name, value in metadata.items())
    if size > _META_BYTES:
        raise ApiError(
            "MetadataTooLarge",
            "Your metadata headers exceed the maximum allowed metadata size",
            fields={"Size": size, "MaxSizeAllowed": _META_BYTES},
        )
    headers.update({META + name.lower(): value for name, value in metadata.items()})
    return headers


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return format_datetime(value.astimezone(UTC), usegmt=True) if isinstance(value, datetime) else str(value)


def described(info: ObjectInfo, checksums: bool) -> dict[str, Any]:
    """The members of GetObject and HeadObject that tell of an object, but not of its bytes."""
    answer: dict[str, Any] = {
        "AcceptRanges": "bytes",
        "ETag": quoted(info.etag),
        "LastModified": float(int(info.modified)),
        "ContentType": _DEFAULT_TYPE,
        "Metadata": {name.removeprefix(META): text for name, text in info.headers.items() if name.startswith(META)},
    }
    for member, header in _KEPT.items():
        if header in info.headers:
            answer[member] = info.headers[header]
    answer.update(encryption(info.headers))
    if "Expires" in answer:
        answer["Expires"] = _date_or_text(answer["Expires"])
    if info.tags:
        answer["TagCount"] = len(info.tags)
    if checksums:
        answer.update(checksum_members(info))
    return answer


def _date_or_text(text: str) -> datetime | str:
    try:
        return parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return text


def encryption(headers: Mapping[str, str]) -> dict[str, Any]:
    """The encryption members that the client asked for, echoed."""
    found: dict[str, Any] = {name: headers[_KEPT[name]] for name in ENCRYPTION if _KEPT[name] in headers}
    if "BucketKeyEnabled" in found:
        found["BucketKeyEnabled"] = found["BucketKeyEnabled"] == "true"
    return found


def checksum_members(info: ObjectInfo) -> dict[str, str]:
    """`ChecksumCRC32` and so on, with their ChecksumType."""
    if not info.checksums:
        return {}
    kind = "COMPOSITE" if any("-" in value for value in info.checksums.values()) else "FULL_OBJECT"
    return {**{f"Checksum{name}": value for name, value in info.checksums.items()}, "ChecksumType": kind}


def parse_tagging(text: str) -> dict[str, str]:
    """The tags of an `x-amz-tagging` header: `a=1&b=2`."""
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), errors="strict")
    except ValueError:
        raise ApiError(
            "InvalidArgument",
            "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters",
        ) from None
    return checked_tags(pairs)


def checked_tags(pairs: list[tuple[str, str]]) -> dict[str, str]:
    """Tags as a dict.

    Raises:
        ApiError: InvalidTag for a bad or repeated one, BadRequest for more than ten.
    """
    if len(pairs) > _MOST_TAGS:
        raise ApiError("BadRequest", f"Object tags cannot be greater than {_MOST_TAGS}")
    tags: dict[str, str] = {}
    for name, value in pairs:
        if not 1 <= len(name) <= 128:
            raise ApiError("InvalidTag", f"The TagKey you have provided is invalid: {name[:140]!r}")
        if len(value) > 256:
            raise ApiError("InvalidTag", f"The TagValue you have provided is invalid: {value[:140]!r}")
        if name in tags:
            raise ApiError("InvalidTag", f"Cannot provide multiple Tags with the same key: {name!r}")
        tags[name] = value
    return tags
