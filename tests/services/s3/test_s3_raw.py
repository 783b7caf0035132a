from __future__ import annotations

import base64
import http.client
import zlib
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from sagesmith.testing.server import RunningServer


class Signer(S3SigV4Auth):
    """Signs the payload as what the header says it is."""

    def payload(self, request: AWSRequest) -> str:
        return request.headers.get("x-amz-content-sha256", "UNSIGNED-PAYLOAD")

    def _modify_request_before_signing(self, request: AWSRequest) -> None:
        said = self.payload(request)
        super()._modify_request_before_signing(request)
        del request.headers["x-amz-content-sha256"]
        request.headers["x-amz-content-sha256"] = said


def send(server: RunningServer, method: str, target: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
    """A request signed by hand, as clients over TLS send theirs."""
    url = server.address + target
    signed = AWSRequest(method, url, headers=headers)
    Signer(Credentials(server.key.id, server.key.secret), "s3", "us-east-1").add_auth(signed)
    connection = http.client.HTTPConnection(urlsplit(server.address).netloc, timeout=60)
    try:
        connection.request(method, target, body, dict(signed.headers.items()))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def chunked(data: bytes, checksum: str) -> tuple[bytes, dict[str, str]]:
    body = f"{len(data):x}\r\n".encode() + data + f"\r\n0\r\nx-amz-checksum-crc32:{checksum}\r\n\r\n".encode()
    return body, {
        "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "content-encoding": "gzip,aws-chunked",
        "x-amz-trailer": "x-amz-checksum-crc32",
        "x-amz-sdk-checksum-algorithm": "CRC32",
        "x-amz-decoded-content-length": str(len(data)),
    }


def test_bodies_as_they_come_over_tls(server: RunningServer, s3: Any, bucket: str) -> None:
    data = b"tls " * 1000
    checksum = base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()
    body, headers = chunked(data, checksum)
    assert send(server, "PUT", f"/{bucket}/k", body, headers) == (200, b"")
    got = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert got["Body"].read() == data
    assert (got["ContentEncoding"], got["ChecksumCRC32"]) == ("gzip", checksum)
    body, headers = chunked(data, "AAAAAA==")
    status, answer = send(server, "PUT", f"/{bucket}/other", body, headers)
    assert (status, b"BadDigest" in answer) == (400, True)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 1


@pytest.mark.parametrize(
    "target", ["/{}/%2e%2e/%2e%2e/x", "/{}/../../x", "/{}/a//../b", "/../x", "/%2e%2e/x", "/.meta/x", "/.tmp/x"]
)
def test_paths_never_leave_the_bucket(server: RunningServer, bucket: str, target: str) -> None:
    before = {path.name for path in server.config.data.parent.iterdir()}
    status, answer = send(server, "PUT", target.format(bucket), b"x", {})
    assert status == 200 if "{}" in target else b"NoSuchBucket" in answer
    assert {path.name for path in server.config.data.parent.iterdir()} == before
    names = {path.name for path in (server.config.data / "s3").iterdir()}
    assert "x" not in names
    assert "b" not in names
    assert ".." not in names
    assert not (server.config.data / "s3" / ".meta" / "x").exists()


def test_half_a_body_leaves_nothing(server: RunningServer, s3: Any, bucket: str) -> None:
    signed = AWSRequest("PUT", f"{server.address}/{bucket}/k", headers={"x-amz-content-sha256": "UNSIGNED-PAYLOAD"})
    Signer(Credentials(server.key.id, server.key.secret), "s3", "us-east-1").add_auth(signed)
    connection = http.client.HTTPConnection(urlsplit(server.address).netloc, timeout=60)
    connection.putrequest("PUT", f"/{bucket}/k")
    for name, value in {**dict(signed.headers.items()), "content-length": "1000"}.items():
        connection.putheader(name, value)
    connection.endheaders(b"only this")
    connection.close()
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
