"""Request bodies: read from the connection into a file or memory while their digests are taken and checked.

A client may claim a length, an MD5, a SHA-256, a checksum in a header or in a trailer, and may wrap the body in
aws-chunked frames, signed or not. Whatever is claimed is verified before anything is stored.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hmac
import io
import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

from sagesmith.core.operation import ApiError, Body
from sagesmith.gateway.aws_chunked import ChunkDecoder, ChunkKey
from sagesmith.store.checksums import Checksum, checksum

_INLINE = 256 * 1024  # bytes hashed on the event loop; more goes to a thread, where hashing releases the lock
_HEX_SHA256 = 64
_STREAMING = {
    "STREAMING-UNSIGNED-PAYLOAD-TRAILER": False,
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD": True,
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER": True,
}


class _Sink(Protocol):
    def write(self, data: bytes, /) -> object: ...


async def spool(
    stream: AsyncIterator[bytes],
    headers: Mapping[str, str],
    scratch: Path,
    limit: int,
    chunk_key: ChunkKey | None = None,
) -> Body:
    """Writes a body to a fresh file in `scratch` and verifies it.

    Args:
        stream: the body as the connection delivers it, HTTP chunking undone.
        headers: names in lower case.
        limit: the most bytes that the body may have, frames excluded.
        chunk_key: what signed aws-chunked frames are verified with; None leaves their signatures unread.

    Raises:
        ApiError: S3's errors for bodies that are too long, cut short, or not what was claimed. No file is left.
    """
    path = scratch / secrets.token_hex(16)
    file = path.open("xb", buffering=0)
    try:
        with file:
            receiver = _Receiver(headers, file, limit, chunk_key)
            await receiver.receive(stream)
        return receiver.body(path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


async def collect(
    stream: AsyncIterator[bytes],
    headers: Mapping[str, str],
    limit: int,
    chunk_key: ChunkKey | None = None,
    of_body: bool = True,
) -> bytes:
    """Like `spool`, but into memory: for XML and forms.

    `of_body` is False where checksum headers speak of the object and not of the body (CompleteMultipartUpload).
    """
    if not of_body:
        headers = {name: value for name, value in headers.items() if not name.startswith("x-amz-checksum-")}
    memory = io.BytesIO()
    receiver = _Receiver(headers, memory, limit, chunk_key)
    await receiver.receive(stream)
    receiver.body(None)
    return memory.getvalue()


@dataclass
class _Claims:
    """What the headers say of the body."""

    length: int | None
    md5: str  # hex, "" when unclaimed
    sha256: str  # hex, "" when unclaimed
    checksums: dict[str, str]  # algorithm → base64
    trailer: str  # algorithm that a trailer will carry
    chunked: bool
    signed: bool
    made: dict[str, Checksum] = field(default_factory=dict)


class _Receiver:
    def __init__(
        self, headers: Mapping[str, str], sink: BinaryIO | _Sink, limit: int, chunk_key: ChunkKey | None
    ) -> None:
        self.claims = _read_claims(headers)
        if self.claims.length is not None and self.claims.length > limit:
            raise _too_large(limit)
        self.limit = limit
        self.sink = sink
        self.size = 0
        self.md5 = checksum("MD5")
        self.sha256 = checksum("SHA256")
        self.others = {
            name: checksum(name) for name in {*self.claims.checksums, self.claims.trailer} - {"", "SHA256", "MD5"}
        }
        self.decoder = None
        if self.claims.chunked:
            self.decoder = ChunkDecoder(self.take, chunk_key if self.claims.signed else None)

    async def receive(self, stream: AsyncIterator[bytes]) -> None:
        pending = bytearray()
        async for data in stream:
            pending += data
            if len(pending) >= _INLINE:
                await asyncio.to_thread(self.feed, bytes(pending))
                pending.clear()
        self.feed(bytes(pending))
        if self.decoder:
            self.decoder.finish()

    def feed(self, data: bytes) -> None:
        if self.decoder:
            self.decoder.feed(data)
        else:
            self.take(data)

    def take(self, data: bytes) -> None:
        """Bytes of the body itself, unwrapped."""
        self.size += len(data)
        if self.size > self.limit:
            raise _too_large(self.limit)
        for digest in (self.md5, self.sha256, *self.others.values()):
            digest.update(data)
        view = memoryview(data)
        while view:
            written = self.sink.write(view)  # type: ignore[arg-type]
            view = view[written if isinstance(written, int) else len(view) :]

    def body(self, path: Path | None) -> Body:
        """Checks every claim; the body with the checksums that the client sent."""
        claims = self.claims
        if claims.length is not None and self.size != claims.length:
            raise ApiError(
                "IncompleteBody",
                f"The request body has {self.size} bytes, but {claims.length} were announced.",
            )
        digests = {"MD5": self.md5.digest(), "SHA256": self.sha256.digest()}
        digests.update({name: digest.digest() for name, digest in self.others.items()})
        if claims.md5 and claims.md5 != digests["MD5"].hex():
            raise ApiError("BadDigest", "The Content-MD5 you specified did not match what we received.")
        if claims.sha256 and not hmac.compare_digest(claims.sha256, digests["SHA256"].hex()):
            raise ApiError(
                "XAmzContentSHA256Mismatch",
                "The provided 'x-amz-content-sha256' header does not match what was computed.",
            )
        claimed = dict(claims.checksums)
        if claims.trailer:
            claimed[claims.trailer] = self._trailer(claims.trailer)
        for name, value in claimed.items():
            if _base64(value) != digests[name]:
                raise ApiError("BadDigest", f"The {name} you specified did not match the calculated checksum.")
        return Body(path, self.size, digests["MD5"].hex(), digests["SHA256"].hex(), claimed)

    def _trailer(self, algorithm: str) -> str:
        header = f"x-amz-checksum-{algorithm.lower()}"
        trailers = self.decoder.trailers if self.decoder else {}
        if header not in trailers:
            raise ApiError("MalformedTrailerError", f"The trailer {header} was announced but not sent.")
        return trailers[header]


def _read_claims(headers: Mapping[str, str]) -> _Claims:
    payload = headers.get("x-amz-content-sha256", "")
    if payload.startswith("STREAMING-") and payload not in _STREAMING:
        raise ApiError("NotImplemented", f"x-amz-content-sha256: {payload} is not implemented by sagesmith.", 501)
    encodings = [value.strip().lower() for value in headers.get("content-encoding", "").split(",")]
    chunked = payload in _STREAMING or "aws-chunked" in encodings
    length = _length(headers, "x-amz-decoded-content-length" if chunked else "content-length")
    if chunked and length is None:
        raise ApiError("MissingContentLength", "An aws-chunked body needs x-amz-decoded-content-length.", 411)
    checksums = _claimed_checksums(headers)
    trailer = _trailer_algorithm(headers)
    announced = headers.get("x-amz-sdk-checksum-algorithm", "").upper()
    if announced and announced not in {*checksums, trailer}:
        raise ApiError(
            "InvalidRequest",
            f"x-amz-sdk-checksum-algorithm is {announced}, but no x-amz-checksum-{announced.lower()} or trailer came.",
        )
    if trailer and not chunked:
        raise ApiError("InvalidRequest", "x-amz-trailer is given, but the body is not aws-chunked.")
    return _Claims(
        length=length,
        md5=_content_md5(headers),
        sha256=payload.lower() if len(payload) == _HEX_SHA256 else "",
        checksums=checksums,
        trailer=trailer,
        chunked=chunked,
        signed=_STREAMING.get(payload, False),
    )


def _length(headers: Mapping[str, str], name: str) -> int | None:
    text = headers.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ApiError("InvalidArgument", f"{name} must be a number of bytes, got {text[:40]!r}")
    return int(text)


def _content_md5(headers: Mapping[str, str]) -> str:
    text = headers.get("content-md5")
    if text is None:
        return ""
    digest = _base64(text)
    if digest is None or len(digest) != 16:
        raise ApiError("InvalidDigest", f"The Content-MD5 you specified was invalid: {text[:40]!r}")
    return digest.hex()


def _claimed_checksums(headers: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for name, value in headers.items():
        algorithm = name.removeprefix("x-amz-checksum-").upper()
        if not name.startswith("x-amz-checksum-") or algorithm in {"ALGORITHM", "TYPE", "MODE"}:
            continue
        digest = _base64(value)
        if digest is None or len(digest) != len(checksum(algorithm).digest()):
            raise ApiError("InvalidRequest", f"Value for {name} header is invalid: {value[:40]!r}")
        found[algorithm] = value
    if len(found) > 1:
        raise ApiError("InvalidRequest", f"Expecting a single x-amz-checksum- header, got {sorted(found)}")
    return found


def _trailer_algorithm(headers: Mapping[str, str]) -> str:
    text = headers.get("x-amz-trailer", "").strip().lower()
    if not text:
        return ""
    if not text.startswith("x-amz-checksum-"):
        raise ApiError("InvalidRequest", f"The value specified in the x-amz-trailer header is not supported: {text!r}")
    algorithm = text.removeprefix("x-amz-checksum-").upper()
    checksum(algorithm)
    return algorithm


def _base64(text: str) -> bytes | None:
    with contextlib.suppress(binascii.Error, ValueError):
        return base64.b64decode(text.strip(), validate=True)
    return None


def _too_large(limit: int) -> ApiError:
    return ApiError("EntityTooLarge", f"The body is larger than the {limit} bytes that are allowed.")
