"""RemoteObjects: the objects of any S3 server, through boto3, with the credentials that the environment gives.

What S3 cannot say costs a further request: tags are asked for only where an object has some, and listings carry key,
size, ETag and time alone. A reader of an object over 1 MiB asks for its bytes as they are read, of the version that it
opened; when that version is replaced meanwhile, reading fails instead of mixing two.
"""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, cast
from urllib.parse import urlencode

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from sagesmith.core.operation import ApiError
from sagesmith.store.objects import (
    BucketExists,
    BucketInfo,
    BucketNotEmpty,
    CommonPrefix,
    NoSuchBucket,
    NoSuchObject,
    ObjectInfo,
    PreconditionFailed,
    check_key,
)
from sagesmith.store.remote_reader import RemoteReader

_HOME = "us-east-1"
_WHOLE = 2**20  # bytes up to which an object is fetched at once
_ONE_PUT = 8 * 2**20  # bytes from which an upload goes in parts
_META = "x-amz-meta-"
_OURS = "sagesmith-"  # headers of our own travel as metadata and come back as headers
_LONGEST_OURS = 200
_HEADERS = {
    "cache-control": "CacheControl",
    "content-disposition": "ContentDisposition",
    "content-encoding": "ContentEncoding",
    "content-language": "ContentLanguage",
    "content-type": "ContentType",
    "expires": "Expires",
    "x-amz-website-redirect-location": "WebsiteRedirectLocation",
    "x-amz-server-side-encryption": "ServerSideEncryption",
    "x-amz-server-side-encryption-aws-kms-key-id": "SSEKMSKeyId",
    "x-amz-storage-class": "StorageClass",
}


class RemoteObjects:
    """Objects on the S3 server at `endpoint`.

    Args:
        endpoint: its URL.
        scratch: a local folder for temporary files.
        region: the region that requests are signed for.
        client: a boto3 S3 client to use instead of one of our own.
    """

    def __init__(self, endpoint: str, scratch: Path, region: str = _HOME, client: Any = None) -> None:
        self.scratch = scratch
        scratch.mkdir(parents=True, exist_ok=True)
        config = Config(s3={"addressing_style": "path"}, max_pool_connections=32)
        self._s3 = client or boto3.client("s3", endpoint_url=endpoint, region_name=region, config=config)

    def close(self) -> None:
        """Closes the connections."""
        self._s3.close()

    def create_bucket(self, bucket: str, region: str = "") -> BucketInfo:
        with contextlib.suppress(NoSuchBucket):
            self.bucket(bucket)
            raise BucketExists(bucket)
        where = {"LocationConstraint": region} if region not in {"", _HOME} else {}
        with _translated(bucket):
            self._s3.create_bucket(Bucket=bucket, **({"CreateBucketConfiguration": where} if where else {}))
        return BucketInfo(bucket, time.time(), region)

    def bucket(self, bucket: str) -> BucketInfo:
        with _translated(bucket):
            answer = self._s3.head_bucket(Bucket=bucket)
            listed = self._s3.list_buckets(Prefix=bucket).get("Buckets", [])
        created = next((item["CreationDate"].timestamp() for item in listed if item["Name"] == bucket), 0.0)
        return BucketInfo(bucket, created, answer.get("BucketRegion", ""))

    def buckets(self) -> list[BucketInfo]:
        with _translated(""):
            pages = list(self._s3.get_paginator("list_buckets").paginate())
        found = [item for page in pages for item in page.get("Buckets", [])]
        infos = [
            BucketInfo(item["Name"], item["CreationDate"].timestamp(), item.get("BucketRegion", "")) for item in found
        ]
        return sorted(infos, key=lambda info: info.name)

    def delete_bucket(self, bucket: str) -> None:
        with _translated(bucket):
            self._s3.delete_bucket(Bucket=bucket)

    def put(
        self,
        bucket: str,
        key: str,
        source: bytes | Path,
        info: ObjectInfo | None = None,
        *,
        if_match: str | None = None,
        if_absent: bool = False,
    ) -> ObjectInfo:
        check_key(key)
        info = info or ObjectInfo(key, 0, "", 0.0)
        arguments = _arguments(info)
        conditions = {"IfMatch": f'"{if_match}"'} if if_match is not None else {"IfNoneMatch": "*"} if if_absent else {}
        if if_match is not None:
            self._demand(bucket, key, if_match)
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        with _translated(bucket, key, if_match):
            if isinstance(source, bytes):
                self._s3.put_object(Bucket=bucket, Key=key, Body=source, **arguments, **conditions)
            elif size < _ONE_PUT or conditions:
                with source.open("rb") as file:
                    self._s3.put_object(Bucket=bucket, Key=key, Body=file, **arguments, **conditions)
            else:
                self._s3.upload_file(str(source), bucket, key, ExtraArgs=arguments)
        if isinstance(source, Path):
            source.unlink(missing_ok=True)
        return self.head(bucket, key)

    def get(self, bucket: str, key: str, offset: int = 0, size: int | None = None) -> bytes:
        with self.open(bucket, key) as file:
            file.seek(offset)
            return file.read(-1 if size is None else size)

    def open(self, bucket: str, key: str) -> BinaryIO:
        return self.read(bucket, key)[1]

    def read(self, bucket: str, key: str) -> tuple[ObjectInfo, BinaryIO]:
        info = self.head(bucket, key)
        if info.size > _WHOLE:
            reader = RemoteReader(self._s3, bucket, key, info.etag, info.size)
            return info, cast(BinaryIO, io.BufferedReader(reader, _WHOLE))
        with _translated(bucket, key):
            answer = self._s3.get_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
            with answer["Body"] as body:
                data = body.read()
        return self._info(bucket, key, answer), io.BytesIO(data)

    def head(self, bucket: str, key: str) -> ObjectInfo:
        check_key(key)
        with _translated(bucket, key, probe=self._s3):
            return self._info(bucket, key, self._s3.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED"))

    def list(self, bucket: str, prefix: str = "", after: str = "") -> Iterator[ObjectInfo]:
        for item in self.list_folders(bucket, prefix, "", after):
            assert isinstance(item, ObjectInfo)
            yield item

    def list_folders(
        self, bucket: str, prefix: str, delimiter: str, after: str = ""
    ) -> Iterator[ObjectInfo | CommonPrefix]:
        arguments = {"Prefix": prefix, "Delimiter": delimiter, "StartAfter": after}
        given = {name: value for name, value in arguments.items() if value}
        with _translated(bucket):
            for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, **given):
                found: dict[str, ObjectInfo | CommonPrefix] = {
                    item["Prefix"]: CommonPrefix(item["Prefix"]) for item in page.get("CommonPrefixes", [])
                }
                for item in page.get("Contents", []):
                    found[item["Key"]] = ObjectInfo(
                        item["Key"], item["Size"], item["ETag"].strip('"'), item["LastModified"].timestamp()
                    )
                for name in sorted(found, key=str.encode):
                    if name.encode() > after.encode():
                        yield found[name]

    def delete(self, bucket: str, key: str) -> None:
        check_key(key)
        with _translated(bucket, key):
            self._s3.delete_object(Bucket=bucket, Key=key)

    def tag(self, bucket: str, key: str, tags: Mapping[str, str]) -> None:
        check_key(key)
        pairs = [{"Key": name, "Value": value} for name, value in tags.items()]
        with _translated(bucket, key):
            self._s3.put_object_tagging(Bucket=bucket, Key=key, Tagging={"TagSet": pairs})

    def path(self, bucket: str, key: str) -> Path | None:
        return None

    def _demand(self, bucket: str, key: str, etag: str) -> None:
        """Not every S3 server knows If-Match on writes; those that do check it once more, without a gap."""
        try:
            found = self.head(bucket, key).etag
        except NoSuchBucket:
            raise
        except NoSuchObject:
            raise PreconditionFailed("") from None
        if found != etag:
            raise PreconditionFailed(found)

    def _info(self, bucket: str, key: str, answer: Mapping[str, Any]) -> ObjectInfo:
        headers: dict[str, str] = {}
        for header, member in _HEADERS.items():
            value = answer.get("ExpiresString") if member == "Expires" else answer.get(member)
            if value is not None:
                headers[header] = str(value)
        for name, text in answer.get("Metadata", {}).items():
            headers[name if name.startswith(_OURS) else _META + name] = text
        checksums = {
            name.removeprefix("Checksum"): value
            for name, value in answer.items()
            if name.startswith("Checksum") and name != "ChecksumType"
        }
        tags: dict[str, str] = {}
        if answer.get("TagCount", 1):  # HeadObject of older servers does not count
            tagging = self._s3.get_object_tagging(Bucket=bucket, Key=key)
            tags = {tag["Key"]: tag["Value"] for tag in tagging["TagSet"]}
        moment: datetime = answer["LastModified"]
        etag = answer["ETag"].strip('"')
        return ObjectInfo(key, answer["ContentLength"], etag, moment.timestamp(), headers, checksums, tags)


def _arguments(info: ObjectInfo) -> dict[str, Any]:
    """Headers and tags as boto3 takes them."""
    arguments: dict[str, Any] = {
        member: info.headers[header] for header, member in _HEADERS.items() if header in info.headers
    }
    metadata = {name.removeprefix(_META): text for name, text in info.headers.items() if name.startswith(_META)}
    for name, text in info.headers.items():
        if name.startswith(_OURS) and len(text) <= _LONGEST_OURS:
            metadata[name] = text
    if metadata:
        arguments["Metadata"] = metadata
    if info.tags:
        arguments["Tagging"] = urlencode(info.tags)
    return arguments


@contextlib.contextmanager
def _translated(bucket: str, key: str = "", if_match: str | None = None, probe: Any = None) -> Iterator[None]:
    """Turns the errors of the other server into the store's own; unknown ones keep code, message and status."""
    try:
        yield
    except ClientError as error:
        _translate(error, bucket, key, if_match, probe)
    except BotoCoreError as error:
        raise ApiError("ServiceUnavailable", f"The S3 server behind this one cannot be asked: {error}", 503) from error


def _translate(error: ClientError, bucket: str, key: str, if_match: str | None, probe: Any) -> NoReturn:
    code = str(error.response["Error"].get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500))
    if code == "NoSuchBucket" or (code == "404" and not key):
        raise NoSuchBucket(bucket) from None
    if code == "404" and probe is not None:
        with _translated(bucket):
            probe.head_bucket(Bucket=bucket)
    if code in {"404", "NoSuchKey"}:
        raise NoSuchObject(key) from None
    if code == "BucketAlreadyOwnedByYou":
        raise BucketExists(bucket) from None
    if code == "BucketNotEmpty":
        raise BucketNotEmpty(bucket) from None
    if code in {"PreconditionFailed", "ConditionalRequestConflict"}:
        raise PreconditionFailed(if_match or "another") from None
    raise ApiError(code, str(error.response["Error"].get("Message", error)), status) from error
