from __future__ import annotations

import hashlib
import threading
from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ClientError

from sagesmith.testing.check_objects import AWKWARD_KEYS


def code(raised) -> tuple[str, int]:
    response = raised.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


def test_put_get_head_delete(s3, bucket) -> None:
    put = s3.put_object(
        Bucket=bucket,
        Key="a b/ü+.txt",
        Body=b"hello",
        ContentType="text/plain",
        ContentEncoding="identity",
        CacheControl="no-store",
        ContentDisposition='attachment; filename="x"',
        ContentLanguage="de",
        Expires=datetime(2030, 1, 2, tzinfo=UTC),
        Metadata={"Note": "n"},
        ServerSideEncryption="aws:kms",
        SSEKMSKeyId="key-1",
        Tagging="team=a%20b&x=",
    )
    assert put["ETag"] == f'"{hashlib.md5(b"hello").hexdigest()}"'
    assert put["ChecksumCRC32"] == "NhCmhg=="
    assert (put["ServerSideEncryption"], put["SSEKMSKeyId"]) == ("aws:kms", "key-1")
    got = s3.get_object(Bucket=bucket, Key="a b/ü+.txt", ChecksumMode="ENABLED")
    assert got["Body"].read() == b"hello"
    head = s3.head_object(Bucket=bucket, Key="a b/ü+.txt", ChecksumMode="ENABLED")
    for answer in (got, head):
        assert answer["ContentLength"] == 5
        assert answer["ContentType"] == "text/plain"
        assert answer["ContentEncoding"] == "identity"
        assert answer["CacheControl"] == "no-store"
        assert answer["ContentDisposition"] == 'attachment; filename="x"'
        assert answer["ContentLanguage"] == "de"
        assert answer["ExpiresString"] == "Wed, 02 Jan 2030 00:00:00 GMT"
        assert answer["Metadata"] == {"note": "n"}
        assert answer["SSEKMSKeyId"] == "key-1"
        assert answer["ChecksumCRC32"] == "NhCmhg=="
        assert answer["ETag"] == put["ETag"]
        assert abs(answer["LastModified"] - datetime.now(UTC)) < timedelta(minutes=5)
    assert got["TagCount"] == 2
    s3.delete_object(Bucket=bucket, Key="a b/ü+.txt")
    with pytest.raises(ClientError) as raised:
        s3.head_object(Bucket=bucket, Key="a b/ü+.txt")
    assert code(raised) == ("404", 404)
    assert raised.value.response["Error"]["Message"] == "Not Found"
    with pytest.raises(s3.exceptions.NoSuchKey):
        s3.get_object(Bucket=bucket, Key="a b/ü+.txt")
    assert s3.delete_object(Bucket=bucket, Key="none")["ResponseMetadata"]["HTTPStatusCode"] == 204


def test_awkward_keys_round_trip(s3, bucket) -> None:
    for key in AWKWARD_KEYS:
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    for key in AWKWARD_KEYS:
        assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode()
    listed = [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    assert listed == sorted(AWKWARD_KEYS, key=str.encode)
    for key in AWKWARD_KEYS:
        s3.delete_object(Bucket=bucket, Key=key)
    s3.delete_bucket(Bucket=bucket)


def test_keys_that_are_too_long_are_refused(s3, bucket) -> None:
    with pytest.raises(ClientError) as raised:
        s3.put_object(Bucket=bucket, Key="ü" * 513, Body=b"")
    assert code(raised) == ("KeyTooLongError", 400)


@pytest.mark.parametrize(
    ("asked", "span"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=2-4", (2, 5)),
        ("bytes=5-", (5, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=-99", (0, 10)),
        ("bytes=8-99", (8, 10)),
        ("BYTES=1-2", (1, 3)),
    ],
)
def test_ranges(s3, bucket, asked, span) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    got = s3.get_object(Bucket=bucket, Key="k", Range=asked, ChecksumMode="ENABLED")
    assert got["Body"].read() == b"0123456789"[slice(*span)]
    assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert got["ContentRange"] == f"bytes {span[0]}-{span[1] - 1}/10"
    head = s3.head_object(Bucket=bucket, Key="k", Range=asked)
    assert head["ContentLength"] == span[1] - span[0]


@pytest.mark.parametrize("asked", ["bytes=3-1", "bytes=a-b", "lines=0-1", "bytes=0-1,3-4", "bytes=-"])
def test_ranges_that_mean_nothing_answer_everything(s3, bucket, asked) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    got = s3.get_object(Bucket=bucket, Key="k", Range=asked)
    assert got["Body"].read() == b"0123456789"
    assert got["ResponseMetadata"]["HTTPStatusCode"] == 200


@pytest.mark.parametrize(("body", "asked"), [(b"0123", "bytes=4-"), (b"0123", "bytes=-0"), (b"", "bytes=0-")])
def test_ranges_outside_are_416(s3, bucket, body, asked) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=body)
    with pytest.raises(ClientError) as raised:
        s3.get_object(Bucket=bucket, Key="k", Range=asked)
    assert code(raised) == ("InvalidRange", 416)
    assert raised.value.response["ResponseMetadata"]["HTTPHeaders"]["content-range"] == f"bytes */{len(body)}"


def test_conditional_reads(s3, bucket) -> None:
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"1")["ETag"]
    now = datetime.now(UTC)
    before, after = now - timedelta(days=1), now + timedelta(minutes=1)
    passing = [
        {"IfMatch": etag},
        {"IfMatch": "*"},
        {"IfMatch": f'"other", {etag}'},
        {"IfNoneMatch": '"other"'},
        {"IfModifiedSince": before},
        {"IfUnmodifiedSince": after},
        {"IfMatch": etag, "IfUnmodifiedSince": before},
        {"IfNoneMatch": '"other"', "IfModifiedSince": after},
    ]
    for conditions in passing:
        assert s3.get_object(Bucket=bucket, Key="k", **conditions)["Body"].read() == b"1"
    for conditions, status in [
        ({"IfMatch": '"other"'}, 412),
        ({"IfUnmodifiedSince": before}, 412),
        ({"IfNoneMatch": etag}, 304),
        ({"IfNoneMatch": "*"}, 304),
        ({"IfModifiedSince": after}, 304),
    ]:
        for ask in (s3.get_object, s3.head_object):
            with pytest.raises(ClientError) as raised:
                ask(Bucket=bucket, Key="k", **conditions)
            assert code(raised)[1] == status, conditions


def test_conditional_writes(s3, bucket) -> None:
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"1", IfNoneMatch="*")["ETag"]
    for conditions, expected in [
        ({"Key": "k", "IfNoneMatch": "*"}, ("PreconditionFailed", 412)),
        ({"Key": "k", "IfMatch": '"other"'}, ("PreconditionFailed", 412)),
        ({"Key": "none", "IfMatch": etag}, ("NoSuchKey", 404)),
        ({"Key": "k", "IfNoneMatch": etag}, ("NotImplemented", 501)),
    ]:
        with pytest.raises(ClientError) as raised:
            s3.put_object(Bucket=bucket, Body=b"2", **conditions)
        assert code(raised) == expected
    s3.put_object(Bucket=bucket, Key="k", Body=b"3", IfMatch=etag)
    with pytest.raises(ClientError) as raised:
        s3.delete_object(Bucket=bucket, Key="k", IfMatch=etag)
    assert code(raised) == ("PreconditionFailed", 412)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"3"


def test_response_overrides(s3, bucket) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"1")
    got = s3.get_object(
        Bucket=bucket, Key="k", ResponseContentType="text/x", ResponseContentDisposition="a\r\nSet-Cookie: b"
    )
    assert got["ContentType"] == "text/x"
    assert "set-cookie" not in got["ResponseMetadata"]["HTTPHeaders"]


def test_delete_many(s3, bucket) -> None:
    for key in ("a", "a/b", "c&<d>"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"")
    names = [{"Key": key} for key in ("a", "a/b", "none")]
    deleted = s3.delete_objects(Bucket=bucket, Delete={"Objects": names})
    assert [entry["Key"] for entry in deleted["Deleted"]] == ["a", "a/b", "none"]
    quiet = s3.delete_objects(
        Bucket=bucket,
        Delete={"Objects": [{"Key": "c&<d>"}, {"Key": "v", "VersionId": "1"}, {"Key": "k" * 1025}], "Quiet": True},
    )
    assert "Deleted" not in quiet
    assert [error["Code"] for error in quiet["Errors"]] == ["NoSuchVersion", "InvalidArgument"]
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)
    with pytest.raises(ClientError) as raised:
        s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": str(n)} for n in range(1001)]})
    assert code(raised) == ("MalformedXML", 400)


def test_copy(s3, bucket) -> None:
    s3.put_object(Bucket=bucket, Key="from ü/+", Body=b"1", Metadata={"a": "1"}, ContentType="text/x", Tagging="t=1")
    source = {"Bucket": bucket, "Key": "from ü/+"}
    copied = s3.copy_object(Bucket=bucket, Key="to", CopySource=source)
    assert copied["CopyObjectResult"]["ETag"] == f'"{hashlib.md5(b"1").hexdigest()}"'
    head = s3.head_object(Bucket=bucket, Key="to")
    assert (head["Metadata"], head["ContentType"]) == ({"a": "1"}, "text/x")
    assert s3.get_object_tagging(Bucket=bucket, Key="to")["TagSet"] == [{"Key": "t", "Value": "1"}]
    s3.copy_object(
        Bucket=bucket,
        Key="to",
        CopySource=source,
        MetadataDirective="REPLACE",
        Metadata={"b": "2"},
        TaggingDirective="REPLACE",
        Tagging="u=2",
        ChecksumAlgorithm="SHA256",
    )
    head = s3.head_object(Bucket=bucket, Key="to", ChecksumMode="ENABLED")
    assert head["Metadata"] == {"b": "2"}
    assert head["ChecksumSHA256"] == "a4ayc/80/OGda4BO/1o/V0etpOqiLx1JwB5S3beHW0s="
    assert s3.get_object_tagging(Bucket=bucket, Key="to")["TagSet"] == [{"Key": "u", "Value": "2"}]
    with pytest.raises(ClientError) as raised:
        s3.copy_object(Bucket=bucket, Key="to", CopySource={"Bucket": bucket, "Key": "to"})
    assert code(raised) == ("InvalidRequest", 400)
    s3.copy_object(
        Bucket=bucket, Key="to", CopySource={"Bucket": bucket, "Key": "to"}, MetadataDirective="REPLACE", Metadata={}
    )
    assert s3.head_object(Bucket=bucket, Key="to")["Metadata"] == {}
    for conditions in ({"CopySourceIfMatch": '"x"'}, {"CopySourceIfNoneMatch": head["ETag"]}):
        with pytest.raises(ClientError) as raised:
            s3.copy_object(Bucket=bucket, Key="to2", CopySource=source, **conditions)
        assert code(raised) == ("PreconditionFailed", 412)
    with pytest.raises(ClientError) as raised:
        s3.copy_object(Bucket=bucket, Key="to", CopySource={"Bucket": bucket, "Key": "none"})
    assert code(raised) == ("NoSuchKey", 404)


def test_tagging(s3, bucket) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"1", Metadata={"a": "1"})
    s3.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": [{"Key": "a&b", "Value": "<ü>"}]})
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == [{"Key": "a&b", "Value": "<ü>"}]
    assert s3.head_object(Bucket=bucket, Key="k")["Metadata"] == {"a": "1"}
    s3.delete_object_tagging(Bucket=bucket, Key="k")
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == []
    for tags in (
        [{"Key": str(n), "Value": ""} for n in range(11)],
        [{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}],
        [{"Key": "a", "Value": "v" * 257}],
    ):
        with pytest.raises(ClientError):
            s3.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": tags})


def test_what_is_not_built_is_refused_by_name(s3, bucket) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"1")
    key = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "0" * 32}
    refused = [
        lambda: s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}),
        lambda: s3.put_bucket_policy(Bucket=bucket, Policy="{}"),
        lambda: s3.put_object(Bucket=bucket, Key="k2", Body=b"", ObjectLockLegalHoldStatus="ON"),
        lambda: s3.put_object(Bucket=bucket, Key="k2", Body=b"", **key),
        lambda: s3.put_object(Bucket=bucket, Key="k", Body=b"", WriteOffsetBytes=1),
    ]
    for ask in refused:
        with pytest.raises((ClientError, ValueError)) as raised:
            ask()
        if isinstance(raised.value, ClientError):
            assert code(raised) == ("NotImplemented", 501)
    with pytest.raises(ClientError) as raised:
        s3.put_object(Bucket=bucket, Key="k2", Body=b"", ACL="public-read")
    assert code(raised) == ("AccessControlListNotSupported", 400)
    with pytest.raises(ClientError) as raised:
        s3.get_object(Bucket=bucket, Key="k", VersionId="abc")
    assert code(raised) == ("InvalidArgument", 400)


def test_readers_see_whole_objects_while_they_are_replaced(s3, bucket, server) -> None:
    bodies = {hashlib.md5(body).hexdigest() for body in (b"a" * 3_000_000, b"b" * 100)}
    s3.put_object(Bucket=bucket, Key="k", Body=b"b" * 100)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            s3.put_object(Bucket=bucket, Key="k", Body=b"a" * 3_000_000)
            s3.put_object(Bucket=bucket, Key="k", Body=b"b" * 100)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(20):
            got = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
            digest = hashlib.md5(got["Body"].read()).hexdigest()
            assert digest in bodies
            assert got["ETag"] == f'"{digest}"'
    finally:
        stop.set()
        writer.join()


def test_presigned_urls(s3, bucket) -> None:
    import urllib.error
    import urllib.request

    url = s3.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "a b"})
    request = urllib.request.Request(url, data=b"via url", method="PUT", headers={"Content-Type": ""})
    with urllib.request.urlopen(request) as answer:
        assert answer.read() == b""
    url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "a b"})
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == b"via url"
    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(url.replace("a%20b", "other"))
    assert raised.value.code == 403
    raised.value.close()
