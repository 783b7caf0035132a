"""What is known of objects and uploads without their bytes: GetObjectAttributes, ListParts, ListMultipartUploads."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from sagesmith.core.operation import Context
from sagesmith.services.s3.headers import PARTS, checksum_members
from sagesmith.services.s3.multipart import open_upload, uploads_of
from sagesmith.services.s3.room import Request, bucket_of, invalid, owner, quoted, s3
from sagesmith.store.uploads import Part, Upload

_MOST = 1000
_ATTRIBUTES = {"ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"}


@s3
def get_object_attributes(request: Request, ctx: Context) -> dict[str, Any]:
    wanted = set(request["ObjectAttributes"])
    if not wanted <= _ATTRIBUTES:
        raise invalid(
            f"Invalid attribute name specified; allowed: {sorted(_ATTRIBUTES)}",
            "x-amz-object-attributes",
            ",".join(sorted(wanted - _ATTRIBUTES)),
        )
    info = ctx.world.objects.head(request["Bucket"], request["Key"])
    found: dict[str, Any] = {
        "ETag": info.etag,
        "ObjectSize": info.size,
        "StorageClass": info.headers.get("x-amz-storage-class", "STANDARD"),
        "Checksum": checksum_members(info) or None,
    }
    if PARTS in info.headers:
        found["ObjectParts"] = {"TotalPartsCount": len(info.headers[PARTS].split(","))}
    answer = {name: value for name, value in found.items() if name in wanted and value is not None}
    return {**answer, "LastModified": float(int(info.modified))}


@s3
def list_parts(request: Request, ctx: Context) -> dict[str, Any]:
    upload = open_upload(request, ctx)
    marker = _number(request.get("PartNumberMarker", 0), "part-number-marker")
    most = min(_number(request.get("MaxParts", _MOST), "max-parts"), _MOST)
    parts = [part for part in uploads_of(ctx).parts(upload) if part.number > marker]
    page = parts[:most]
    answer: dict[str, Any] = {
        "Bucket": upload.bucket,
        "Key": upload.key,
        "UploadId": upload.id,
        "PartNumberMarker": marker,
        "NextPartNumberMarker": page[-1].number if page else 0,
        "MaxParts": most,
        "IsTruncated": len(parts) > len(page) > 0,
        "Parts": [_part(part) for part in page],
        "Initiator": owner(ctx),
        "Owner": owner(ctx),
        "StorageClass": upload.headers.get("x-amz-storage-class", "STANDARD"),
    }
    if upload.algorithm:
        answer.update(ChecksumAlgorithm=upload.algorithm, ChecksumType=upload.checksum_type)
    return answer


def _part(part: Part) -> dict[str, Any]:
    members = {f"Checksum{name}": value for name, value in part.checksums.items()}
    stored = {"LastModified": part.modified, "ETag": quoted(part.md5), "Size": part.size}
    return {"PartNumber": part.number, **stored, **members}


def _number(value: Any, name: str) -> int:
    try:
        number = int(value)
    except ValueError:
        number = -1
    if not 0 <= number < 2**31:
        raise invalid(f"Argument {name} must be an integer between 0 and 2147483647", name, value)
    return number


@s3
def list_multipart_uploads(request: Request, ctx: Context) -> dict[str, Any]:
    bucket_of(request, ctx)
    encode = quote if request.get("EncodingType") == "url" else str
    most = min(_number(request.get("MaxUploads", _MOST), "max-uploads"), _MOST)
    prefix, delimiter = request.get("Prefix", ""), request.get("Delimiter", "")
    marker, id_marker = request.get("KeyMarker", ""), request.get("UploadIdMarker", "")
    found = [upload for upload in uploads_of(ctx).open_uploads(request["Bucket"]) if upload.key.startswith(prefix)]
    entries = _after(_rolled(found, prefix, delimiter), marker, id_marker)
    page = entries[:most]
    answer: dict[str, Any] = {
        "Bucket": request["Bucket"],
        "KeyMarker": encode(marker),
        "UploadIdMarker": id_marker,
        "Prefix": encode(prefix),
        "MaxUploads": most,
        "IsTruncated": len(entries) > len(page) > 0,
        "Uploads": [_upload(item, encode(item.key), ctx) for item in page if isinstance(item, Upload)],
        "CommonPrefixes": [{"Prefix": encode(item)} for item in page if isinstance(item, str)],
    }
    if delimiter:
        answer["Delimiter"] = encode(delimiter)
    if "EncodingType" in request:
        answer["EncodingType"] = "url"
    if answer["IsTruncated"]:
        last = page[-1]
        answer["NextKeyMarker"] = encode(last if isinstance(last, str) else last.key)
        answer["NextUploadIdMarker"] = "" if isinstance(last, str) else last.id
    return answer


def _rolled(uploads: list[Upload], prefix: str, delimiter: str) -> list[Upload | str]:
    """The uploads, those with the delimiter beyond the prefix rolled into common prefixes."""
    entries: list[Upload | str] = []
    for upload in uploads:
        at = upload.key.find(delimiter, len(prefix)) if delimiter else -1
        rolled = upload.key[: at + len(delimiter)] if at >= 0 else ""
        if not rolled:
            entries.append(upload)
        elif rolled not in entries[-1:]:
            entries.append(rolled)
    return entries


def _after(entries: list[Upload | str], marker: str, id_marker: str) -> list[Upload | str]:
    """What follows the markers; uploads of one key come in the order in which they were begun."""
    ids = [item.id for item in entries if isinstance(item, Upload) and item.key == marker]
    passed = set(ids[: ids.index(id_marker) + 1]) if id_marker in ids else set(ids)

    def follows(item: Upload | str) -> bool:
        key = item if isinstance(item, str) else item.key
        if key == marker and isinstance(item, Upload):
            return bool(id_marker) and item.id not in passed
        return key.encode() > marker.encode()

    return [item for item in entries if follows(item)]


def _upload(upload: Upload, key: str, ctx: Context) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "UploadId": upload.id,
        "Key": key,
        "Initiated": upload.initiated,
        "StorageClass": upload.headers.get("x-amz-storage-class", "STANDARD"),
        "Owner": owner(ctx),
        "Initiator": owner(ctx),
    }
    if upload.algorithm:
        entry.update(ChecksumAlgorithm=upload.algorithm, ChecksumType=upload.checksum_type)
    return entry
