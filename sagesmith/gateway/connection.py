"""uvicorn's HTTP/1.1 connection with a limit on what a client may send before its headers are complete."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    _Base = Any
else:
    _Base = HttpToolsProtocol

MAX_UNFINISHED = 128 * 1024  # bytes of a request line and headers; the gateway's own limit answers before this one
_REFUSAL = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class LimitedConnection(_Base):  # type: ignore[misc]
    """Closes a connection whose headers never end; uvicorn itself would collect them in memory."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._unfinished = 0
        self._in_headers = True

    def data_received(self, data: bytes) -> None:
        self._unfinished += len(data)
        super().data_received(data)
        if self._in_headers and self._unfinished > MAX_UNFINISHED:
            transport: asyncio.Transport = self.transport
            transport.write(_REFUSAL)
            transport.close()

    def on_headers_complete(self) -> None:
        self._in_headers = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_headers = True
        self._unfinished = 0
        super().on_message_complete()
