"""One HTTP/1.1 request to a container, over connections that are kept.

A client of our own because this is the hot path: parsing is httptools' (llhttp, as in uvicorn), what is left is a
transport, a future and a list of idle connections. docs/endpoints.md has the measurements beside httpx and aiohttp.
It speaks only what containers need: one request at a time per connection, a body with Content-Length, any response.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from math import inf
from typing import TYPE_CHECKING

import httptools

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

MAX_HEADER_BYTES = 64 * 1024
IDLE_SECONDS = 2.0  # uvicorn closes a connection idle for 5 s; one that may be closing right now is not reused
IDLE_PER_ADDRESS = 64


class NotSent(Exception):
    """No byte of the request reached the container: it may be sent elsewhere."""


class Broken(Exception):
    """The container ended the connection, or answered what is not HTTP, before its response was complete."""


class TooLarge(Exception):
    """The response is larger than was allowed."""


class Response:
    """A container's answer."""

    __slots__ = ("body", "headers", "status")

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}  # names in lower case
        self.body = b""


class Connection(asyncio.Protocol):
    """A connection that carries one request at a time."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[Response] | None = None
        self._response = Response()
        self._chunks: list[bytes] = []
        self._size = 0
        self._header_bytes = 0
        self._limit = 0
        self._until_close = False
        self.heard = False  # whether any byte of the response came
        self.idle_since = 0.0
        self.usable = False

    def request(self, head: bytes, body: bytes, limit: int) -> asyncio.Future[Response]:
        """Sends a request; the future gets its response, whose body may have up to `limit` bytes."""
        assert self._transport is not None
        self._response, self._chunks, self._size, self._limit = Response(), [], 0, limit
        self._header_bytes = 0
        self.heard = False
        self._waiter = self._loop.create_future()
        self._transport.write(head + body if len(body) < 65536 else head)
        if len(body) >= 65536:
            self._transport.write(body)
        return self._waiter

    def close(self) -> None:
        """Ends the connection; a request under way fails with Broken."""
        self.usable = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]  # uvloop's transports share no base class
        self.usable = True

    def data_received(self, data: bytes) -> None:
        if self._waiter is None or self._waiter.done():
            self.close()  # nobody asked: whatever it is, it must not be taken for the next response
            return
        self.heard = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(Broken(f"the container did not answer in HTTP: {error}"))

    def connection_lost(self, error: Exception | None) -> None:
        self.usable = False
        if self._until_close and error is None:
            self._finish()
        self._fail(Broken("the container closed the connection before its response was complete"))

    def on_message_begin(self) -> None:
        if self._waiter is None or self._waiter.done():
            self.usable = False  # a second response to one request

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > MAX_HEADER_BYTES:
            self._fail(Broken(f"the response's headers exceed {MAX_HEADER_BYTES} bytes"))
        self._response.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        self._response.status = self._parser.get_status_code()
        headers = self._response.headers
        delimited = b"content-length" in headers or b"transfer-encoding" in headers
        self._until_close = not delimited and self._response.status >= 200 and self._response.status not in (204, 304)

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > self._limit:
            self._fail(TooLarge(f"the response exceeds {self._limit} bytes"))
            return
        self._chunks.append(body)

    def on_message_complete(self) -> None:
        if self._response.status < 200:  # 100 Continue and its like precede the response
            self._response = Response()
            return
        if not self._parser.should_keep_alive():
            self.usable = False
        self._finish()

    def _finish(self) -> None:
        self._until_close = False
        if self._waiter is not None and not self._waiter.done():
            self._response.body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
            self._waiter.set_result(self._response)

    def _fail(self, error: Exception) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)
            self.close()


class Pool:
    """Connections to containers, by address."""

    def __init__(self, loop: AbstractEventLoop, connect_seconds: float = 2.0) -> None:
        self._loop = loop
        self._connect_seconds = connect_seconds
        self._idle: dict[str, list[Connection]] = {}

    async def post(self, address: str, head: bytes, body: bytes, seconds: float, limit: int) -> Response:
        """The response to one POST.

        An idle connection that the container closes as we write is no failure of the request: it is sent once more,
        on a new connection to the same container.

        Args:
            address: host:port.
            head: the request's line and headers, from `request_head`.
            seconds: within which the response must be complete.
            limit: bytes its body may have.

        Raises:
            NotSent: the container cannot be reached.
            Broken: the response did not come whole.
            TooLarge: it came too large.
            TimeoutError: it did not come in time.
        """
        ends_at = self._loop.time() + seconds
        kept = self._take(address)
        if kept is not None:
            try:
                return await self._exchange(kept, address, head, body, seconds, limit)
            except Broken:
                if kept.heard:
                    raise
        connection = await self._connect(address)
        return await self._exchange(connection, address, head, body, ends_at - self._loop.time(), limit)

    async def _exchange(
        self, connection: Connection, address: str, head: bytes, body: bytes, seconds: float, limit: int
    ) -> Response:
        waiter = connection.request(head, body, limit)
        timer = self._loop.call_later(seconds, _time_out, waiter)
        try:
            response = await waiter
        except BaseException:
            connection.close()
            raise
        finally:
            timer.cancel()
        if connection.usable:
            self._keep(address, connection)
        else:
            connection.close()
        return response

    async def _connect(self, address: str) -> Connection:
        host, _, port = address.rpartition(":")
        try:
            async with asyncio.timeout(self._connect_seconds):
                _, connection = await self._loop.create_connection(lambda: Connection(self._loop), host, int(port))
        except (OSError, TimeoutError) as error:
            raise NotSent(f"{address}: {error or 'no connection in time'}") from None
        return connection

    def _take(self, address: str) -> Connection | None:
        idle = self._idle.get(address)
        oldest = self._loop.time() - IDLE_SECONDS
        while idle:
            connection = idle.pop()
            if connection.usable and connection.idle_since >= oldest:
                return connection
            connection.close()
        return None

    def _keep(self, address: str, connection: Connection) -> None:
        connection.idle_since = self._loop.time()
        idle = self._idle.setdefault(address, [])
        idle.append(connection)
        if len(idle) > IDLE_PER_ADDRESS:
            idle.pop(0).close()

    def prune(self) -> None:
        """Closes what has been idle for too long; to be called now and then."""
        oldest = self._loop.time() - IDLE_SECONDS
        self._close_before(oldest)

    def close(self) -> None:
        """Closes every idle connection."""
        self._close_before(inf)

    def _close_before(self, oldest: float) -> None:
        for address, idle in list(self._idle.items()):
            kept = [one for one in idle if one.usable and one.idle_since >= oldest]
            for connection in idle:
                if connection not in kept:
                    connection.close()
            if kept:
                self._idle[address] = kept
            else:
                del self._idle[address]


def _time_out(waiter: asyncio.Future[Response]) -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError())


def request_head(path: str, address: str, headers: Iterable[tuple[str, str]], length: int) -> bytes:
    """The line and headers of a POST.

    Raises:
        ValueError: a header value that would end the header.
    """
    lines = [f"POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n"]
    for name, value in headers:
        if "\r" in value or "\n" in value or "\0" in value:
            raise ValueError(f"{name} must not contain line breaks or NUL")
        lines.append(f"{name}: {value}\r\n")
    lines.append("\r\n")
    return "".join(lines).encode("latin-1", "replace")
