"""Multipart uploads: create, upload and copy parts, list, complete, abort."""

from __future__ import annotations

import hashlib
import itertools
import secrets
from pathlib import Path
from typing import Any

from sagesmith.core.operation import ApiError, Body, Context
from sagesmith.services.s3.conditions import plain_etag, write_conditions
from sagesmith.services.s3.copying import copy_bytes
from sagesmith.services.s3.headers import PARTS, UPLOAD, checksum_members, encryption, kept_headers, parse_tagging
from sagesmith.services.s3.room import Request, bucket_of, invalid, quoted, s3
from sagesmith.store.checksums import checksum, checksums_of, composite
from sagesmith.store.objects import NoSuchObject, ObjectInfo, PreconditionFailed
from sagesmith.store.uploads import NoSuchUpload, Part, Upload, Uploads

_MOST_PARTS = 10_000
_SMALLEST_PART = 5 * 2**20  # bytes; the last part may be smaller


@s3
def create_multipart_upload(request: Request, ctx: Context) -> dict[str, Any]:
    bucket_of(request, ctx)
    algorithm = request.get("ChecksumAlgorithm", "")
    kind = request.get("ChecksumType", "")
    if algorithm:
        checksum(algorithm)
        kind = kind or ("FULL_OBJECT" if algorithm == "CRC64NVME" else "COMPOSITE")
    elif kind:
        raise ApiError("InvalidRequest", "The x-amz-checksum-type header needs x-amz-checksum-algorithm.")
    if (kind, algorithm[:3]) == ("FULL_OBJECT", "SHA") or (kind, algorithm) == ("COMPOSITE", "CRC64NVME"):
        raise ApiError("InvalidRequest", f"The {kind} checksum type cannot be used with the {algorithm} algorithm.")
    tags = parse_tagging(request.get("Tagging", ""))
    headers = kept_headers(request)
    upload = uploads_of(ctx).create(request["Bucket"], request["Key"], headers, tags, algorithm, kind)
    answer = {"Bucket": upload.bucket, "Key": upload.key, "UploadId": upload.id, **encryption(headers)}
    if algorithm:
        answer.update(ChecksumAlgorithm=algorithm, ChecksumType=kind)
    return answer


@s3
def upload_part(request: Request, ctx: Context) -> dict[str, Any]:
    upload = open_upload(request, ctx)
    number = _part_number(request)
    body = request.get("Body", b"")
    claimed: dict[str, str] = {}
    if isinstance(body, Body):
        path, md5, claimed = body.path, body.md5, dict(body.crc)
    else:
        path = ctx.world.objects.scratch / secrets.token_hex(16)
        path.write_bytes(body)
        md5 = hashlib.md5(body, usedforsecurity=False).hexdigest()
    if upload.algorithm and claimed and upload.algorithm not in claimed:
        raise ApiError(
            "InvalidRequest",
            f"Checksum Type mismatch occurred, expected checksum Type: {upload.algorithm.lower()},"
            f" actual checksum Type: {', '.join(claimed).lower()}",
        )
    part = _store(ctx, upload, number, path, md5, claimed)
    members = {f"Checksum{name}": value for name, value in part.checksums.items()}
    return {"ETag": quoted(part.md5), **members, **encryption(upload.headers)}


@s3
def upload_part_copy(request: Request, ctx: Context) -> dict[str, Any]:
    upload = open_upload(request, ctx)
    number = _part_number(request)
    copied = copy_bytes(request, ctx)
    try:
        part = _store(ctx, upload, number, copied.path, copied.md5, {})
    finally:
        copied.path.unlink(missing_ok=True)
    members = {f"Checksum{name}": value for name, value in part.checksums.items()}
    result = {"ETag": quoted(part.md5), "LastModified": part.modified, **members}
    return {"CopyPartResult": result, **encryption(upload.headers)}


@s3
def complete_multipart_upload(request: Request, ctx: Context) -> dict[str, Any]:
    uploads = uploads_of(ctx)
    upload = uploads.find(request["Bucket"], request["Key"], request["UploadId"])
    asked = (request.get("MultipartUpload") or {}).get("Parts", [])
    names = [[part.get("PartNumber"), plain_etag(part.get("ETag", ""))] for part in asked]
    with uploads.lock(upload):
        done = uploads.completed(upload)
        if done is None:
            parts = _checked_parts(asked, uploads.parts(upload))
            info = _described(request, upload, parts)
            stored = _publish(request, ctx, upload, parts, info)
            done = {"parts": names, "answer": {"ETag": quoted(stored.etag), **checksum_members(stored)}}
            uploads.finish(upload, done)
        elif done["parts"] != names:
            raise NoSuchUpload(upload.id)
    location = f"/{upload.bucket}/{upload.key}"
    place = {"Location": location, "Bucket": upload.bucket, "Key": upload.key}
    return {**place, **done["answer"], **encryption(upload.headers)}


@s3
def abort_multipart_upload(request: Request, ctx: Context) -> dict[str, Any]:
    uploads_of(ctx).abort(open_upload(request, ctx))
    return {}


def uploads_of(ctx: Context) -> Uploads:
    """The uploads lie beside the scratch folder: on the file system to which their objects go."""
    return Uploads(ctx.world.objects.scratch.parent / ".uploads")


def open_upload(request: Request, ctx: Context) -> Upload:
    """The request's upload; raises NoSuchUpload when there is none or it was completed."""
    uploads = uploads_of(ctx)
    upload = uploads.find(request["Bucket"], request["Key"], request["UploadId"])
    if uploads.completed(upload) is not None:
        raise NoSuchUpload(upload.id)
    return upload


def _part_number(request: Request) -> int:
    number = int(request["PartNumber"])
    if not 1 <= number <= _MOST_PARTS:
        message = f"Part number must be an integer between 1 and {_MOST_PARTS}, inclusive"
        raise invalid(message, "partNumber", number)
    return number


def _store(ctx: Context, upload: Upload, number: int, path: Path, md5: str, claimed: dict[str, str]) -> Part:
    if upload.algorithm and upload.algorithm not in claimed:
        claimed = checksums_of(path, [upload.algorithm])
    return uploads_of(ctx).put_part(upload, number, path, md5, claimed)


def _checked_parts(asked: list[dict[str, Any]], stored: list[Part]) -> list[Part]:
    """The stored parts that CompleteMultipartUpload names.

    Raises:
        ApiError: MalformedXML, InvalidPartOrder, InvalidPart or EntityTooSmall.
    """
    if not asked or len(asked) > _MOST_PARTS:
        raise ApiError("MalformedXML", f"The list must name between 1 and {_MOST_PARTS} parts, it names {len(asked)}.")
    numbers = [int(part.get("PartNumber", 0)) for part in asked]
    if any(later <= earlier for earlier, later in itertools.pairwise(numbers)):
        raise ApiError("InvalidPartOrder", "The list of parts was not in ascending order.")
    known = {part.number: part for part in stored}
    for number, part in zip(numbers, asked, strict=True):
        found = known.get(number)
        if found is None or plain_etag(part.get("ETag", "")) != found.md5 or _differs(part, found):
            raise ApiError(
                "InvalidPart",
                "One or more of the specified parts could not be found. The part may not have been uploaded, or the"
                " specified entity tag may not match the part's entity tag.",
                fields={"PartNumber": number, "ETag": part.get("ETag", "")},
            )
    for number in numbers[:-1]:
        if known[number].size < _SMALLEST_PART:
            raise ApiError(
                "EntityTooSmall",
                "Your proposed upload is smaller than the minimum allowed size",
                fields={
                    "ProposedSize": known[number].size,
                    "MinSizeAllowed": _SMALLEST_PART,
                    "PartNumber": number,
                    "ETag": known[number].md5,
                },
            )
    return [known[number] for number in numbers]


def _differs(asked: dict[str, Any], found: Part) -> bool:
    claims = {name.removeprefix("Checksum"): value for name, value in asked.items() if name.startswith("Checksum")}
    return any(value != found.checksums.get(name) for name, value in claims.items())


def _described(request: Request, upload: Upload, parts: list[Part]) -> ObjectInfo:
    size = sum(part.size for part in parts)
    if request.get("MpuObjectSize", size) != size:
        raise ApiError("InvalidRequest", f"The object has {size} bytes, not the {request['MpuObjectSize']} announced.")
    digest = hashlib.md5(b"".join(bytes.fromhex(part.md5) for part in parts), usedforsecurity=False).hexdigest()
    sizes = ",".join(str(part.size) for part in parts)
    headers = {**upload.headers, PARTS: sizes, UPLOAD: upload.id}
    checksums: dict[str, str] = {}
    if upload.checksum_type == "COMPOSITE":
        values = [part.checksums[upload.algorithm] for part in parts]
        checksums = {upload.algorithm: composite(upload.algorithm, values)}
    return ObjectInfo(upload.key, size, f"{digest}-{len(parts)}", 0.0, headers, checksums, upload.tags)


def _publish(request: Request, ctx: Context, upload: Upload, parts: list[Part], info: ObjectInfo) -> ObjectInfo:
    objects = ctx.world.objects
    joined = objects.scratch / secrets.token_hex(16)
    try:
        uploads_of(ctx).join(upload, parts, joined)
        if upload.checksum_type == "FULL_OBJECT":
            whole = checksums_of(joined, [upload.algorithm])
            info = ObjectInfo(info.key, info.size, info.etag, 0.0, info.headers, whole, info.tags)
        _check_claim(request, upload, info)
        return objects.put(upload.bucket, upload.key, joined, info, **write_conditions(request))
    except PreconditionFailed:
        found = _made_before(upload, ctx)
        if found is None:
            raise
        return found
    finally:
        joined.unlink(missing_ok=True)


def _made_before(upload: Upload, ctx: Context) -> ObjectInfo | None:
    """The object, if this very upload made it before the server was killed; then its condition no longer holds."""
    try:
        found = ctx.world.objects.head(upload.bucket, upload.key)
    except NoSuchObject:
        return None
    return found if found.headers.get(UPLOAD) == upload.id else None


def _check_claim(request: Request, upload: Upload, info: ObjectInfo) -> None:
    claims = {
        name.removeprefix("Checksum"): value
        for name, value in request.items()
        if name.startswith("Checksum") and name not in {"ChecksumType", "ChecksumAlgorithm"}
    }
    for name, value in claims.items():
        if value.partition("-")[0] != info.checksums.get(name, "").partition("-")[0]:
            raise ApiError("BadDigest", f"The {name} you specified did not match the calculated checksum.")
    kind = request.get("ChecksumType")
    if kind and upload.checksum_type and kind != upload.checksum_type:
        raise ApiError("InvalidRequest", f"The upload was created with the checksum type {upload.checksum_type}.")
