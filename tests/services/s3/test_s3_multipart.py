from __future__ import annotations

import base64
import hashlib
import io
import zlib

import boto3
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from sagesmith.store.uploads import Uploads

MIB = 2**20
FIRST, SECOND, LAST = b"1" * (5 * MIB), b"2" * (5 * MIB), b"3" * 10


def code(raised) -> str:
    return raised.value.response["Error"]["Code"]


def begin(s3, bucket: str, **arguments) -> dict:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="big", **arguments)
    return {"Bucket": bucket, "Key": "big", "UploadId": upload["UploadId"]}


def test_parts_become_one_object(s3, bucket) -> None:
    names = begin(s3, bucket, Metadata={"a": "1"}, ContentType="text/x", Tagging="t=1", ChecksumAlgorithm="CRC32")
    parts = []
    for number, data in [(9, LAST), (1, FIRST), (4, SECOND)]:
        part = s3.upload_part(**names, PartNumber=number, Body=data)
        assert part["ETag"] == f'"{hashlib.md5(data).hexdigest()}"'
        assert part["ChecksumCRC32"] == base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()
        parts.append({"PartNumber": number, "ETag": part["ETag"], "ChecksumCRC32": part["ChecksumCRC32"]})
    listed = s3.list_parts(**names, MaxParts=2)
    assert [part["PartNumber"] for part in listed["Parts"]] == [1, 4]
    assert (listed["IsTruncated"], listed["NextPartNumberMarker"]) == (True, 4)
    assert [part["Size"] for part in s3.list_parts(**names, PartNumberMarker=4)["Parts"]] == [10]
    parts.sort(key=lambda part: part["PartNumber"])
    done = s3.complete_multipart_upload(**names, MultipartUpload={"Parts": parts})
    digests = b"".join(hashlib.md5(data).digest() for data in (FIRST, SECOND, LAST))
    assert done["ETag"] == f'"{hashlib.md5(digests).hexdigest()}-3"'
    assert done["ChecksumType"] == "COMPOSITE"
    assert done["ChecksumCRC32"].endswith("-3")
    again = s3.complete_multipart_upload(**names, MultipartUpload={"Parts": parts})
    assert again["ETag"] == done["ETag"], "completing is repeatable"
    got = s3.get_object(Bucket=bucket, Key="big", ChecksumMode="ENABLED")
    assert got["Body"].read() == FIRST + SECOND + LAST
    assert (got["Metadata"], got["ContentType"], got["TagCount"]) == ({"a": "1"}, "text/x", 1)
    second = s3.get_object(Bucket=bucket, Key="big", PartNumber=2)
    assert (second["Body"].read() == SECOND, second["PartsCount"]) == (True, 3)
    attributes = s3.get_object_attributes(Bucket=bucket, Key="big", ObjectAttributes=["ObjectSize", "ObjectParts"])
    assert (attributes["ObjectSize"], attributes["ObjectParts"]["TotalPartsCount"]) == (10 * MIB + 10, 3)
    with pytest.raises(ClientError) as raised:
        s3.upload_part(**names, PartNumber=1, Body=b"late")
    assert code(raised) == "NoSuchUpload"


def test_full_object_checksum(s3, bucket) -> None:
    names = begin(s3, bucket, ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT")
    etags = [s3.upload_part(**names, PartNumber=n, Body=d)["ETag"] for n, d in [(1, FIRST), (2, LAST)]]
    parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
    whole = base64.b64encode(zlib.crc32(FIRST + LAST).to_bytes(4, "big")).decode()
    with pytest.raises(ClientError) as raised:
        s3.complete_multipart_upload(**names, MultipartUpload={"Parts": parts}, ChecksumCRC32="AAAAAA==")
    assert code(raised) == "BadDigest"
    done = s3.complete_multipart_upload(**names, MultipartUpload={"Parts": parts}, ChecksumCRC32=whole)
    assert (done["ChecksumCRC32"], done["ChecksumType"]) == (whole, "FULL_OBJECT")


def test_wrong_completions(s3, bucket) -> None:
    names = begin(s3, bucket)
    one, two = (s3.upload_part(**names, PartNumber=n, Body=LAST)["ETag"] for n in (1, 2))
    wrong = [
        ([{"PartNumber": 2, "ETag": two}, {"PartNumber": 1, "ETag": one}], "InvalidPartOrder"),
        ([{"PartNumber": 1, "ETag": '"00"'}], "InvalidPart"),
        ([{"PartNumber": 3, "ETag": one}], "InvalidPart"),
        ([{"PartNumber": 1, "ETag": one}, {"PartNumber": 2, "ETag": two}], "EntityTooSmall"),
        ([], "MalformedXML"),
    ]
    for parts, expected in wrong:
        with pytest.raises(ClientError) as raised:
            s3.complete_multipart_upload(**names, MultipartUpload={"Parts": parts})
        assert code(raised) == expected
    with pytest.raises(ClientError) as raised:
        s3.upload_part(**names, PartNumber=10_001, Body=b"")
    assert code(raised) == "InvalidArgument"
    s3.abort_multipart_upload(**names)
    for ask in (s3.list_parts, s3.abort_multipart_upload):
        with pytest.raises(ClientError) as raised:
            ask(**names)
        assert code(raised) == "NoSuchUpload"
    with pytest.raises(ClientError) as raised:
        s3.list_parts(Bucket=bucket, Key="big", UploadId="../../../etc")
    assert code(raised) == "NoSuchUpload"


def test_completion_honours_conditions(s3, bucket) -> None:
    s3.put_object(Bucket=bucket, Key="big", Body=b"first")
    names = begin(s3, bucket)
    etag = s3.upload_part(**names, PartNumber=1, Body=LAST)["ETag"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    with pytest.raises(ClientError) as raised:
        s3.complete_multipart_upload(**names, MultipartUpload=parts, IfNoneMatch="*")
    assert code(raised) == "PreconditionFailed"
    s3.complete_multipart_upload(**names, MultipartUpload=parts)
    assert s3.get_object(Bucket=bucket, Key="big")["Body"].read() == LAST


def test_completing_again_after_a_crash_between_object_and_record(s3, bucket, monkeypatch) -> None:
    names = begin(s3, bucket)
    etag = s3.upload_part(**names, PartNumber=1, Body=LAST)["ETag"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    with monkeypatch.context() as patch:
        patch.setattr(Uploads, "finish", lambda *_: (_ for _ in ()).throw(OSError("killed")))
        with pytest.raises(ClientError) as raised:
            s3.complete_multipart_upload(**names, MultipartUpload=parts, IfNoneMatch="*")
        assert code(raised) == "InternalError"
    done = s3.complete_multipart_upload(**names, MultipartUpload=parts, IfNoneMatch="*")
    assert done["ETag"].endswith('-1"')
    assert s3.get_object(Bucket=bucket, Key="big")["Body"].read() == LAST
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


def test_uploads_end_with_their_bucket(s3, bucket) -> None:
    names = begin(s3, bucket)
    s3.delete_bucket(Bucket=bucket)
    s3.create_bucket(Bucket=bucket)
    with pytest.raises(ClientError) as raised:
        s3.list_parts(**names)
    assert code(raised) == "NoSuchUpload"


def test_part_copies(s3, bucket) -> None:
    s3.put_object(Bucket=bucket, Key="source", Body=FIRST + LAST)
    names = begin(s3, bucket, ChecksumAlgorithm="SHA256")
    source = {"Bucket": bucket, "Key": "source"}
    ranges = [f"bytes=0-{5 * MIB - 1}", f"bytes={5 * MIB}-{5 * MIB + 9}"]
    parts = []
    for number, part_range in enumerate(ranges, 1):
        copied = s3.upload_part_copy(**names, PartNumber=number, CopySource=source, CopySourceRange=part_range)
        parts.append({"PartNumber": number, "ETag": copied["CopyPartResult"]["ETag"]})
    s3.complete_multipart_upload(**names, MultipartUpload={"Parts": parts})
    assert s3.get_object(Bucket=bucket, Key="big")["Body"].read() == FIRST + LAST
    names = begin(s3, bucket)
    for wrong in ("bytes=0-", "bytes=9-1", "bytes=0-99999999"):
        with pytest.raises(ClientError) as raised:
            s3.upload_part_copy(**names, PartNumber=1, CopySource=source, CopySourceRange=wrong)
        assert code(raised) == "InvalidArgument"


def test_uploads_are_listed(s3, bucket) -> None:
    for key in ("a/1", "a/2", "b", "b", "c"):
        s3.create_multipart_upload(Bucket=bucket, Key=key)
    listed = s3.list_multipart_uploads(Bucket=bucket)
    assert [upload["Key"] for upload in listed["Uploads"]] == ["a/1", "a/2", "b", "b", "c"]
    pages = s3.get_paginator("list_multipart_uploads").paginate(
        Bucket=bucket, Delimiter="/", PaginationConfig={"PageSize": 1}
    )
    found = [[*page.get("Uploads", []), *page.get("CommonPrefixes", [])] for page in pages]
    assert [page[0].get("Key") or page[0]["Prefix"] for page in found] == ["a/", "b", "b", "c"]


def test_transfers_with_ten_threads(server, bucket, tmp_path) -> None:
    body = bytes(range(256)) * (MIB // 256) * 21 + b"end"
    (tmp_path / "up").write_bytes(body)
    session = boto3.Session(server.key.id, server.key.secret, region_name="us-east-1")
    resource = session.resource("s3", endpoint_url=server.address)
    config = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB, max_concurrency=10)
    resource.Bucket(bucket).upload_file(str(tmp_path / "up"), "big.bin", Config=config)
    resource.Bucket(bucket).download_file("big.bin", str(tmp_path / "down"), Config=config)
    assert (tmp_path / "down").read_bytes() == body
    resource.Bucket(bucket).copy({"Bucket": bucket, "Key": "big.bin"}, "copy.bin", Config=config)
    target = io.BytesIO()
    resource.Object(bucket, "copy.bin").download_fileobj(target, Config=config)
    assert target.getvalue() == body
    resource.Bucket(bucket).objects.all().delete()
    resource.Bucket(bucket).delete()
    resource.meta.client.close()
