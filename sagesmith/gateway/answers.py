"""Sending an answer: headers that every response has, and bodies from memory, from a file or from a stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any, BinaryIO

from sagesmith.core.operation import FileRange
from sagesmith.gateway.http import Outgoing
from sagesmith.gateway.route import Route

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

PIECE = 1024 * 1024  # bytes of a file that are read at a time

_WITHOUT_BODY = frozenset({204, 304})


async def send_answer(answer: Outgoing, method: str, request_id: str, route: Route | None, send: Send) -> None:
    """Sends status, headers and body; the answer to HEAD has the length of the body but no body."""
    body = answer.body
    headers = [(name.encode("latin-1"), _header_value(value)) for name, value in answer.headers.items()]
    headers.append((b"x-amzn-requestid", request_id.encode()))
    if route is not None and route.service == "s3":
        headers.append((b"x-amz-request-id", request_id.encode()))
        headers.append((b"x-amz-id-2", request_id.encode()))
    if isinstance(body, bytes):
        if "content-length" not in answer.headers and answer.status not in _WITHOUT_BODY:
            headers.append((b"content-length", str(len(body)).encode()))
    elif isinstance(body, FileRange):
        headers.append((b"content-length", str(body.size).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    if method == "HEAD" or answer.status in _WITHOUT_BODY:
        _close(body)
        body = b""
    if isinstance(body, bytes):
        await send({"type": "http.response.body", "body": body})
        return
    pieces = _file_pieces(body) if isinstance(body, FileRange) else body
    async for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def _header_value(value: str) -> bytes:
    """A header's bytes; a line break would start another header, so it becomes a space."""
    if "\r" in value or "\n" in value:
        value = value.replace("\r", " ").replace("\n", " ")
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:
        return value.encode()


async def _file_pieces(part: FileRange) -> AsyncIterator[bytes]:
    file: BinaryIO = part.file or await asyncio.to_thread(part.path.open, "rb")
    try:
        await asyncio.to_thread(file.seek, part.offset)
        left = part.size
        while left > 0:
            piece = await asyncio.to_thread(file.read, min(PIECE, left))
            if not piece:
                raise OSError(f"{part.path} ended {left} bytes early")
            left -= len(piece)
            yield piece
    finally:
        file.close()


def _close(body: bytes | FileRange | AsyncIterator[bytes]) -> None:
    if isinstance(body, FileRange) and body.file is not None:
        with suppress(OSError):
            body.file.close()
