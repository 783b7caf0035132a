"""Forms that boto3's generate_presigned_post signs, posted as browsers and libraries post them."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import re
import socket
import time
import zlib
from collections.abc import Iterator
from email.header import decode_header, make_header
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
from botocore.config import Config
from urllib3 import encode_multipart_formdata

from sagesmith.gateway.keys import Keys
from sagesmith.testing.server import RunningServer, running_server

Fields = list[tuple[str, Any]]
V4 = Config(signature_version="s3v4")
V2 = Config(signature_version="s3")


@pytest.fixture(params=["v2", "v4"])
def signer(request: pytest.FixtureRequest, server: RunningServer) -> Iterator[Any]:
    client = server.client("s3", config=V2 if request.param == "v2" else V4)
    yield client
    client.close()


def encode(fields: Fields) -> tuple[bytes, str]:
    body, content_type = encode_multipart_formdata(fields)
    return body, content_type


def send(
    url: str, body: Any, content_type: str, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=60)
    try:
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", target, body, {"Content-Type": content_type, **(headers or {})})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def post(
    signed: dict[str, Any], data: bytes, filename: str = "f.csv", **changed: str
) -> tuple[int, dict[str, str], bytes]:
    fields: Fields = [*(signed["fields"] | changed).items(), ("file", (filename, data))]
    return send(signed["url"], *encode(fields))


def refusal(answer: tuple[int, dict[str, str], bytes]) -> tuple[int, str, str]:
    status, headers, body = answer
    assert headers["content-type"] == "application/xml"
    text = body.decode()
    code, message = re.search("<Code>(.*)</Code>", text), re.search("<Message>(.*)</Message>", text, re.DOTALL)
    assert code
    assert message
    return status, code[1], message[1].replace("&quot;", '"')


def keys(s3: Any, bucket: str) -> list[str]:
    return [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]


def nothing_left(server: RunningServer) -> bool:
    """A spooled body goes with its request, a moment after the answer."""
    scratch = server.config.data / "s3" / ".tmp"
    for _ in range(200):
        if not list(scratch.iterdir()):
            return True
        time.sleep(0.02)
    return False


def test_a_form_stores_an_object(server: RunningServer, s3: Any, signer: Any, bucket: str) -> None:
    data = bytes(range(256)) * 5000
    status, headers, body = post(signer.generate_presigned_post(bucket, "a b/é+ü.bin"), data)
    assert (status, body) == (204, b"")
    assert headers["etag"] == f'"{hashlib.md5(data).hexdigest()}"'
    got = s3.get_object(Bucket=bucket, Key="a b/é+ü.bin")
    assert got["Body"].read() == data
    assert got["ContentType"] == "binary/octet-stream"
    assert nothing_left(server)


def test_the_clients_default_signature_in_old_and_new_regions(server: RunningServer, s3: Any, bucket: str) -> None:
    for region, field in (("us-east-1", "signature"), ("eu-central-1", "x-amz-signature")):
        client = server.client("s3", region=region)
        signed = client.generate_presigned_post(bucket, f"{region}/${{filename}}")
        client.close()
        assert field in signed["fields"]
        assert post(signed, b"x", "C:\\dir\\été.csv")[0] == 204
    assert keys(s3, bucket) == ["eu-central-1/été.csv", "us-east-1/été.csv"]


def test_temporary_keys_sign_forms(server: RunningServer, s3: Any, bucket: str) -> None:
    sts = server.client("sts")
    given = sts.get_session_token()["Credentials"]
    sts.close()
    session = boto3.Session(given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"])
    for config in (V2, V4):
        client = session.client("s3", "us-east-1", endpoint_url=server.address, config=config)
        signed = client.generate_presigned_post(bucket, "k")
        client.close()
        assert post(signed, b"x")[0] == 204
        assert refusal(post(signed, b"x", **{"x-amz-security-token": "made.up"}))[0] == 403


def test_fields_become_headers_metadata_and_tags(s3: Any, signer: Any, bucket: str) -> None:
    crc = base64.b64encode(zlib.crc32(b"a,b\n").to_bytes(4, "big")).decode()
    fields = {
        "Content-Type": "text/csv",
        "Cache-Control": "no-store",
        "acl": "private",
        "x-amz-meta-who": "Zoë ${filename}",
        "x-amz-checksum-crc32": crc,
        "tagging": "<Tagging><TagSet><Tag><Key>a b</Key><Value>1&amp;2</Value></Tag></TagSet></Tagging>",
    }
    conditions: list[Any] = [["starts-with", f"${name}", ""] for name in fields]
    signed = signer.generate_presigned_post(bucket, "k", Fields=fields, Conditions=conditions)
    assert post(signed, b"a,b\n")[0] == 204
    found = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert (found["ContentType"], found["CacheControl"], found["ChecksumCRC32"]) == ("text/csv", "no-store", crc)
    assert str(make_header(decode_header(found["Metadata"]["who"]))) == "Zoë f.csv"
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == [{"Key": "a b", "Value": "1&2"}]
    assert refusal(post(signed, b"other"))[:2] == (400, "BadDigest")
    for name, value, code in (
        ("acl", "public-read", "AccessControlListNotSupported"),
        ("tagging", "<Tagging>", "MalformedXML"),
        ("tagging", "<Tagging><TagSet><Tag/></TagSet></Tagging>", "MalformedXML"),
        ("Content-Type", "a\r\nb", "InvalidArgument"),
        ("x-amz-meta-who", "w" * 2050, "MetadataTooLarge"),
    ):
        assert refusal(post(signed, b"a,b\n", **{name: value}))[1] == code


@pytest.mark.parametrize(("asked", "status"), [("200", 200), ("201", 201), ("204", 204), ("404", 204), ("", 204)])
def test_success_action_status(s3: Any, signer: Any, bucket: str, asked: str, status: int) -> None:
    fields = {"success_action_status": asked}
    signed = signer.generate_presigned_post(bucket, "é&k", Fields=fields, Conditions=[fields])
    answered, headers, body = post(signed, b"x")
    assert (answered, headers["location"]) == (status, f"{signed['url']}/%C3%A9%26k")
    if status == 201:
        assert b"<PostResponse><Location>" in body
        assert f"<Bucket>{bucket}</Bucket><Key>é&amp;k</Key><ETag>".encode() in body
    else:
        assert body == b""


def test_success_action_redirect(s3: Any, signer: Any, bucket: str) -> None:
    def redirected(target: str) -> tuple[int, str]:
        fields = {"success_action_redirect": target}
        signed = signer.generate_presigned_post(bucket, "a b", Fields=fields, Conditions=[fields])
        status, headers, _ = post(signed, b"x")
        return status, headers["location"]

    status, location = redirected("https://example.com/done?x=1")
    etag = f'"{hashlib.md5(b"x").hexdigest()}"'
    assert status == 303
    assert location.startswith("https://example.com/done?x=1&bucket=")
    assert parse_qs(urlsplit(location).query) == {"x": ["1"], "bucket": [bucket], "key": ["a b"], "etag": [etag]}
    for useless in ("javascript:alert(1)", "//example.com", "no url", "http://[", ""):
        assert redirected(useless)[0] == 204


def test_sizes(server: RunningServer, s3: Any, signer: Any, bucket: str) -> None:
    signed = signer.generate_presigned_post(bucket, "k", Conditions=[["content-length-range", 2, 100_000]])
    answer = post(signed, b"x" * 100_001)
    assert refusal(answer)[:2] == (400, "EntityTooLarge")
    assert b"<MaxSizeAllowed>100000</MaxSizeAllowed>" in answer[2]
    answer = post(signed, b"x")
    assert refusal(answer)[:2] == (400, "EntityTooSmall")
    assert b"<ProposedSize>1</ProposedSize><MinSizeAllowed>2</MinSizeAllowed>" in answer[2]
    assert keys(s3, bucket) == []
    assert nothing_left(server)
    assert post(signed, b"xx")[0] == post(signed, b"x" * 100_000)[0] == 204


def test_what_the_policy_does_not_allow(s3: Any, signer: Any, bucket: str) -> None:
    conditions: list[Any] = [["starts-with", "$x-amz-meta-a", "v"], ["eq", "$Content-Type", "text/csv"]]
    fields = {"x-amz-meta-a": "v1", "Content-Type": "text/csv"}
    signed = signer.generate_presigned_post(bucket, "user/${filename}", Fields=fields, Conditions=conditions)
    denied = (
        403,
        "AccessDenied",
        'Invalid according to Policy: Policy Condition failed: ["starts-with", "$key", "user/"]',
    )
    assert refusal(post(signed, b"x", key="other/k")) == denied
    assert "$x-amz-meta-a" in refusal(post(signed, b"x", **{"x-amz-meta-a": "w"}))[2]
    assert '["eq", "$content-type", "text/csv"]' in refusal(post(signed, b"x", **{"Content-Type": "text/html"}))[2]
    extra = refusal(post(signed, b"x", **{"x-amz-storage-class": "GLACIER", "x-ignore-me": "1"}))
    assert extra == (403, "AccessDenied", "Invalid according to Policy: Extra input fields: x-amz-storage-class")
    for name in ("x-amz-meta-a", "Content-Type"):
        less = {**signed, "fields": {key: value for key, value in signed["fields"].items() if key != name}}
        assert "Policy Condition failed" in refusal(post(less, b"x"))[2]
    elsewhere = {**signed, "url": signed["url"].replace(bucket, "sagesmith-another")}
    assert "$bucket" in refusal(post(elsewhere, b"x"))[2]
    assert refusal(post(elsewhere, b"x", bucket=bucket))[1] == "InvalidArgument"
    assert keys(s3, bucket) == []
    assert post(signed, b"x", **{"x-ignore-me": "1"})[0] == 204


def test_forged_and_expired(server: RunningServer, s3: Any, signer: Any, bucket: str) -> None:
    signed = signer.generate_presigned_post(bucket, "k", Conditions=[["content-length-range", 0, 1]])
    policy = json.loads(base64.b64decode(signed["fields"]["policy"]))
    policy["conditions"] = [entry for entry in policy["conditions"] if not isinstance(entry, list)]
    wider = base64.b64encode(json.dumps(policy).encode()).decode()
    assert refusal(post(signed, b"longer", policy=wider))[:2] == (403, "SignatureDoesNotMatch")
    name = "signature" if "signature" in signed["fields"] else "x-amz-signature"
    wrong = signed["fields"][name][:-4] + ("AAA=" if name == "signature" else "0000")
    for value in (wrong, "", "é"):
        assert refusal(post(signed, b"x", **{name: value}))[:2] == (403, "SignatureDoesNotMatch")
    if name == "signature":
        stranger = {"AWSAccessKeyId": "AKIANOBODY"}
    else:
        stranger = {"x-amz-credential": signed["fields"]["x-amz-credential"].replace(server.key.id, "AKIANOBODY")}
    assert refusal(post(signed, b"x", **stranger))[:2] == (403, "InvalidAccessKeyId")
    expired = signer.generate_presigned_post(bucket, "k", ExpiresIn=-1)
    assert refusal(post(expired, b"x")) == (403, "AccessDenied", "Invalid according to Policy: Policy expired.")
    assert keys(s3, bucket) == []


def test_half_a_signature(signer: Any, bucket: str) -> None:
    signed = signer.generate_presigned_post(bucket, "k")
    exempt = {"key", "x-amz-security-token"}
    for name in signed["fields"].keys() - exempt:
        less = {**signed, "fields": {key: value for key, value in signed["fields"].items() if key != name}}
        status, code, message = refusal(post(less, b"x"))
        assert (status, code) == (400, "InvalidArgument")
        assert f"a field named '{name}'".lower() in message.lower()
    keyless = {**signed, "fields": {key: value for key, value in signed["fields"].items() if key != "key"}}
    assert "a field named 'key'" in refusal(post(keyless, b"x"))[2]
    assert refusal(send(signed["url"], *encode(list(signed["fields"].items()))))[1:] == (
        "InvalidArgument",
        "POST requires exactly one file upload per request.",
    )
    both = {"AWSAccessKeyId": "a", "signature": "b", "x-amz-signature": "c"}
    assert "Only one auth mechanism" in refusal(post(signed, b"x", **both))[2]
    body, content_type = encode([*signed["fields"].items(), ("file", ("f", b"x"))])
    twice = send(f"{signed['url']}?AWSAccessKeyId=a&Signature=b&Expires=1", body, content_type)
    assert "Only one auth mechanism" in refusal(twice)[2]


def test_anonymous_and_read_only_posts_are_refused(server: RunningServer, s3: Any, bucket: str) -> None:
    url = f"{server.address}/{bucket}"
    assert refusal(post({"url": url, "fields": {"key": "k"}}, b"x"))[:2] == (403, "AccessDenied")
    signed = s3.generate_presigned_post(bucket, "k")["fields"]
    unsigned = {"url": url, "fields": {"key": "k", "policy": signed["policy"]}}
    assert refusal(post(unsigned, b"x"))[:2] == (403, "AccessDenied")
    reader = Keys(server.config.keys_file).add("form-reader", read_only=True)
    client = server.client("s3", key=reader)
    assert refusal(post(client.generate_presigned_post(bucket, "k"), b"x"))[:2] == (403, "AccessDenied")
    client.close()
    assert keys(s3, bucket) == []


def test_without_signatures_a_policy_still_holds(tmp_path: Any) -> None:
    with running_server(tmp_path / "data", process=False, auth=False) as server:
        s3 = server.client("s3")
        s3.create_bucket(Bucket="open")
        url = f"{server.address}/open"
        assert post({"url": url, "fields": {"key": "anyone"}}, b"x")[0] == 204
        signed = s3.generate_presigned_post("open", "k")
        assert post(signed, b"x", signature="wrong")[0] == 204
        assert refusal(post(signed, b"x", key="other"))[1] == "AccessDenied"
        assert keys(s3, "open") == ["anyone", "k"]
        s3.close()


@pytest.mark.parametrize(
    ("filename", "key"),
    [
        ("../../../etc/passwd", "up/passwd"),
        ("..", "up/.."),
        ("a\\..\\..", "up/.."),
        ("/", "up/"),
        ('quo"te.csv', "up/quo%22te.csv"),
        ("a;b=c.csv", "up/a;b=c.csv"),
        ("${filename}", "up/${filename}"),
        ("пример 100%.csv", "up/пример 100%.csv"),
        ("x" * 300, "up/" + "x" * 300),
    ],
)
def test_hostile_file_names(server: RunningServer, s3: Any, bucket: str, filename: str, key: str) -> None:
    before = {path.name for path in server.config.data.parent.iterdir()}
    signed = s3.generate_presigned_post(bucket, "up/${filename}")
    assert post(signed, b"content", filename)[0] == 204
    assert keys(s3, bucket) == [key]
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == b"content"
    assert {path.name for path in server.config.data.parent.iterdir()} == before


def raw(signed: dict[str, Any], disposition: str, data: bytes = b"content") -> tuple[int, dict[str, str], bytes]:
    """A form written by hand, whose file part has the given Content-Disposition."""
    lines = [f'--b\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n' for n, v in signed["fields"].items()]
    lines.append(f"--b\r\nContent-Disposition: {disposition}\r\nContent-Type: text/csv\r\n\r\n")
    return send(signed["url"], "".join(lines).encode() + data + b"\r\n--b--\r\n", 'multipart/form-data; boundary="b"')


def test_ways_to_write_a_file_name(s3: Any, bucket: str) -> None:
    signed = s3.generate_presigned_post(bucket, "up/${filename}")
    for disposition in (
        "form-data; name=\"file\"; filename*=UTF-8''%C3%A9t%C3%A9.csv",
        'form-data; name=file; filename="say \\"1\\".csv"',
        "form-data; filename=plain.csv; name=file",
        'FORM-DATA; NAME="file"; FILENAME="upper.csv"',
        'form-data; name="file"',
    ):
        assert raw(signed, disposition)[0] == 204
    assert keys(s3, bucket) == ["up/", "up/plain.csv", 'up/say "1".csv', "up/upper.csv", "up/été.csv"]
    for disposition in (
        "form-data; name=\"file\"; filename*=UTF-8''%FF.csv",
        "form-data; name=\"file\"; filename*=latin-1''x.csv",
        'attachment; name="file"',
        'form-data; filename="x"',
    ):
        assert refusal(raw(signed, disposition))[:2] == (400, "MalformedPOSTRequest")


def test_bytes_that_look_like_the_boundary(s3: Any, bucket: str) -> None:
    signed = s3.generate_presigned_post(bucket, "k")
    for data in (b"", b"\r\n", b"\r\n-", b"\r\n--", b"--b--", b"\r\n-b\r\n--\r\n--a", b"\n--b\n", b"\r" * 100_000):
        assert raw(signed, 'form-data; name="file"; filename="f"', data)[0] == 204
        assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == data


def test_broken_forms(server: RunningServer, s3: Any, bucket: str) -> None:
    signed = s3.generate_presigned_post(bucket, "k")
    pairs: Fields = list(signed["fields"].items())
    body, content_type = encode([*pairs, ("file", ("f", b"data" * 100))])
    boundary = content_type.partition("boundary=")[2].encode()
    for broken in (
        body[: body.index(b"datadata") + 20],
        body[:50],
        b"",
        body.replace(b"--" + boundary + b"--", b"--" + boundary),
        body.replace(b"Content-Disposition", b"Content-Nothing"),
        body.replace(b'name="key"\r\n\r\nk', b'name="key"\r\n\r\n\xff'),
        body.replace(b'name="key"', b'name="key"; ' + b"x" * 5000),
        body.replace(b"\r\n", b"\n"),
    ):
        assert refusal(send(signed["url"], broken, content_type))[:2] == (400, "MalformedPOSTRequest")
    for kind in ("multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=a b"):
        assert refusal(send(signed["url"], body, kind))[:2] == (400, "MalformedPOSTRequest")
    assert refusal(send(signed["url"], body, "application/octet-stream"))[:2] == (412, "PreconditionFailed")
    many: Fields = [(f"x-ignore-{number}", "") for number in range(101)]
    assert refusal(send(signed["url"], *encode([*many, *pairs, ("file", ("f", b""))])))[1] == "MalformedPOSTRequest"
    large: Fields = [("x-ignore-large", "x" * 21_000)]
    for fields in ([*large, *pairs, ("file", ("f", b""))], [*pairs, ("file", ("f", b"")), *large]):
        assert refusal(send(signed["url"], *encode(fields)))[:2] == (400, "MaxPostPreDataLengthExceededError")
    twice: Fields = [*pairs, ("file", ("f", b"1")), ("file", ("g", b"2"))]
    assert "exactly one file" in refusal(send(signed["url"], *encode(twice)))[2]
    assert "more than once" in refusal(send(signed["url"], *encode([("KEY", "k"), *pairs, ("file", ("f", b""))])))[2]
    assert keys(s3, bucket) == []
    assert nothing_left(server)
    after: Fields = [*pairs, ("file", ("f", b"1")), ("submit", "Upload")]
    assert send(signed["url"], *encode(after))[0] == 204


def test_a_client_that_goes_away_leaves_nothing(server: RunningServer, s3: Any, bucket: str) -> None:
    signed = s3.generate_presigned_post(bucket, "k")
    body, content_type = encode([*signed["fields"].items(), ("file", ("f", b"x" * 3_000_000))])
    parts = urlsplit(server.address)
    with socket.create_connection((parts.hostname or "", parts.port or 0)) as connection:
        head = f"POST /{bucket} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: {content_type}\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:2_000_000])
    assert nothing_left(server)
    assert keys(s3, bucket) == []


def test_a_large_file_in_small_pieces(server: RunningServer, s3: Any, bucket: str) -> None:
    """Chunked by the client, so that boundaries fall anywhere and no length is announced."""
    data = b"0123456789\r\n--b" * 100_000
    signed = s3.generate_presigned_post(bucket, "k")
    body, content_type = encode([*signed["fields"].items(), ("file", ("f", data))])
    pieces = (body[start : start + 7919] for start in range(0, len(body), 7919))
    assert send(signed["url"], pieces, content_type)[0] == 204
    assert s3.head_object(Bucket=bucket, Key="k")["ETag"] == f'"{hashlib.md5(data).hexdigest()}"'


def test_a_bucket_that_is_not_there(server: RunningServer, s3: Any) -> None:
    assert refusal(post(s3.generate_presigned_post("no-such-bucket", "k"), b"x"))[:2] == (404, "NoSuchBucket")
