from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagesmith.core.operation import ApiError, Body
from sagesmith.gateway.aws_chunked import ChunkKey
from sagesmith.gateway.body import collect, spool

KEY = ChunkKey(b"k" * 32, "20300102T000000Z", "20300102/us-east-1/s3/aws4_request", "ab" * 32)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def crc32(data: bytes) -> str:
    return b64(zlib.crc32(data).to_bytes(4, "big"))


async def pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def spooled(folder: Path, data: bytes, headers: dict[str, str], limit=2**30, key=None, size=7) -> Body:
    return asyncio.run(spool(pieces(data, size), headers, folder, limit, key))


def refused(folder: Path, data: bytes, headers: dict[str, str], **arguments) -> str:
    with pytest.raises(ApiError) as raised:
        spooled(folder, data, headers, **arguments)
    assert list(folder.iterdir()) == [], "nothing is left behind"
    return raised.value.code


def frames(data: bytes, size: int, trailers: str = "", key: ChunkKey | None = None) -> bytes:
    framed, previous = b"", key.seed if key else ""
    for start in [*range(0, len(data), size), len(data)]:
        chunk = data[start : start + size]
        extension = ""
        if key:
            text = f"{hashlib.sha256(b'').hexdigest()}\n{hashlib.sha256(chunk).hexdigest()}"
            signed = f"AWS4-HMAC-SHA256-PAYLOAD\n{key.timestamp}\n{key.scope}\n{previous}\n{text}"
            previous = hmac.new(key.signing_key, signed.encode(), hashlib.sha256).hexdigest()
            extension = f";chunk-signature={previous}"
        framed += f"{len(chunk):x}{extension}\r\n".encode() + chunk + (b"\r\n" if chunk else b"")
    if key and trailers:
        text = hashlib.sha256(trailers.replace("\r\n", "\n").encode()).hexdigest()
        signed = f"AWS4-HMAC-SHA256-TRAILER\n{key.timestamp}\n{key.scope}\n{previous}\n{text}"
        signature = hmac.new(key.signing_key, signed.encode(), hashlib.sha256).hexdigest()
        trailers += f"x-amz-trailer-signature:{signature}\r\n"
    return framed + trailers.encode() + b"\r\n"


def unsigned(data: bytes, **more: str) -> dict[str, str]:
    return {
        "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "content-encoding": "aws-chunked",
        "x-amz-trailer": "x-amz-checksum-crc32",
        "x-amz-sdk-checksum-algorithm": "CRC32",
        "x-amz-decoded-content-length": str(len(data)),
        **more,
    }


def test_plain_body_with_every_claim(tmp_path: Path) -> None:
    data = b"hello" * 1000
    body = spooled(
        tmp_path,
        data,
        {
            "content-length": str(len(data)),
            "content-md5": b64(hashlib.md5(data).digest()),
            "x-amz-content-sha256": hashlib.sha256(data).hexdigest(),
            "x-amz-checksum-crc32": crc32(data),
            "x-amz-sdk-checksum-algorithm": "CRC32",
        },
    )
    assert body.read() == data
    assert (body.size, body.md5) == (len(data), hashlib.md5(data).hexdigest())
    assert body.crc == {"CRC32": crc32(data)}


def test_large_body_is_hashed_beside_the_loop(tmp_path: Path) -> None:
    data = bytes(range(256)) * 8192
    body = spooled(tmp_path, data, {}, size=65536)
    assert (body.size, body.md5) == (len(data), hashlib.md5(data).hexdigest())
    assert body.read() == data


@pytest.mark.parametrize("algorithm", ["SHA1", "SHA256", "SHA512", "MD5"])
def test_checksums_of_python(tmp_path: Path, algorithm: str) -> None:
    value = b64(hashlib.new(algorithm, b"data").digest())
    assert spooled(tmp_path, b"data", {f"x-amz-checksum-{algorithm.lower()}": value}).crc == {algorithm: value}


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"content-length": "5"}, "IncompleteBody"),
        ({"content-length": "3"}, "IncompleteBody"),
        ({"content-length": "-4"}, "InvalidArgument"),
        ({"content-length": "9" * 30}, "InvalidArgument"),
        ({"content-length": "5000000000000"}, "EntityTooLarge"),
        ({"content-md5": b64(b"0" * 16)}, "BadDigest"),
        ({"content-md5": "???"}, "InvalidDigest"),
        ({"x-amz-content-sha256": "0" * 64}, "XAmzContentSHA256Mismatch"),
        ({"x-amz-checksum-crc32": "AAAAAA=="}, "BadDigest"),
        ({"x-amz-checksum-crc32": "AAAA"}, "InvalidRequest"),
        ({"x-amz-checksum-crc32": crc32(b"data"), "x-amz-checksum-sha1": b64(b"0" * 20)}, "InvalidRequest"),
        ({"x-amz-checksum-sum": "AAAA"}, "InvalidRequest"),
        ({"x-amz-checksum-xxhash64": "AAAA"}, "NotImplemented"),
        ({"x-amz-sdk-checksum-algorithm": "CRC32"}, "InvalidRequest"),
        ({"x-amz-trailer": "x-amz-checksum-crc32"}, "InvalidRequest"),
        ({"x-amz-content-sha256": "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"}, "NotImplemented"),
        ({"content-encoding": "aws-chunked"}, "MissingContentLength"),
    ],
)
def test_false_claims_are_refused(tmp_path: Path, headers: dict[str, str], code: str) -> None:
    assert refused(tmp_path, b"data", headers) == code


def test_more_than_the_limit_is_refused_while_it_comes(tmp_path: Path) -> None:
    assert refused(tmp_path, b"12345", {}, limit=4) == "EntityTooLarge"
    assert spooled(tmp_path, b"1234", {}, limit=4).size == 4


@given(data=st.binary(max_size=200), chunk=st.integers(1, 50), size=st.integers(1, 60))
def test_unsigned_chunks_of_any_cut(tmp_path_factory, data: bytes, chunk: int, size: int) -> None:
    folder = tmp_path_factory.mktemp("scratch")
    wire = frames(data, chunk, f"x-amz-checksum-crc32:{crc32(data)}\r\n")
    body = spooled(folder, wire, unsigned(data), size=size)
    assert body.read() == data
    assert body.crc == {"CRC32": crc32(data)}


@given(st.binary(max_size=80))
def test_noise_instead_of_chunks_gets_a_clean_error(tmp_path_factory, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("scratch")
    with pytest.raises(ApiError):
        spooled(folder, data, unsigned(b"12345"))


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (b"5\r\nhello\r\n0\r\n\r\n", "MalformedTrailerError"),
        (b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n", "BadDigest"),
        (b"5\r\nhello\r\n0\r\nnonsense\r\n\r\n", "MalformedTrailerError"),
        (b"5\r\nhello\r\n", "IncompleteBody"),
        (b"4\r\nhello\r\n0\r\n\r\n", "IncompleteBody"),
        (b"g\r\nhello\r\n0\r\n\r\n", "IncompleteBody"),
        (b"-5\r\nhello\r\n0\r\n\r\n", "IncompleteBody"),
        (b"5" + b";x" * 2000, "IncompleteBody"),
        (frames(b"hello", 5, f"x-amz-checksum-crc32:{crc32(b'hello')}\r\n") + b"more", "IncompleteBody"),
        (frames(b"hell", 5, f"x-amz-checksum-crc32:{crc32(b'hell')}\r\n"), "IncompleteBody"),
    ],
)
def test_broken_chunks_are_refused(tmp_path: Path, wire: bytes, code: str) -> None:
    assert refused(tmp_path, wire, unsigned(b"hello")) == code


def signed(data: bytes, trailer: bool) -> dict[str, str]:
    kind = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
    if not trailer:
        return {"x-amz-content-sha256": kind, "x-amz-decoded-content-length": str(len(data))}
    return {**unsigned(data), "x-amz-content-sha256": f"{kind}-TRAILER"}


@pytest.mark.parametrize("trailer", [False, True])
def test_signed_chunks(tmp_path: Path, trailer: bool) -> None:
    data = b"0123456789" * 10
    trailers = f"x-amz-checksum-crc32:{crc32(data)}\r\n" if trailer else ""
    wire = frames(data, 33, trailers, KEY)
    body = spooled(tmp_path, wire, signed(data, trailer), key=KEY)
    assert body.read() == data
    body.path.unlink()
    altered = wire.replace(b"0123456789", b"0123456780", 1)
    assert refused(tmp_path, altered, signed(data, trailer), key=KEY) == "SignatureDoesNotMatch"
    unsigned_frames = frames(data, 33, trailers)
    assert refused(tmp_path, unsigned_frames, signed(data, trailer), key=KEY) == "SignatureDoesNotMatch"
    other = ChunkKey(b"x" * 32, KEY.timestamp, KEY.scope, KEY.seed)
    assert refused(tmp_path, wire, signed(data, trailer), key=other) == "SignatureDoesNotMatch"


def test_altered_trailer_of_signed_chunks(tmp_path: Path) -> None:
    wire = frames(b"data", 4, f"x-amz-checksum-crc32:{crc32(b'data')}\r\n", KEY)
    altered = wire.replace(crc32(b"data").encode(), crc32(b"atad").encode())
    assert refused(tmp_path, altered, signed(b"data", True), key=KEY) == "SignatureDoesNotMatch"


def test_collect_checks_the_same(tmp_path: Path) -> None:
    good = {"x-amz-checksum-crc32": crc32(b"<x/>")}
    assert asyncio.run(collect(pieces(b"<x/>", 2), good, 100)) == b"<x/>"
    with pytest.raises(ApiError, match="BadDigest"):
        asyncio.run(collect(pieces(b"<y/>", 2), good, 100))
    assert asyncio.run(collect(pieces(b"<y/>", 2), good, 100, of_body=False)) == b"<y/>"
