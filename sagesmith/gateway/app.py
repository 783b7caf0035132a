"""The life of a request: an ASGI application that reads as a list of steps.

    receive → identify → authenticate → find operation → permit → parse → validate → call → serialise → send

Plain operations run in a pool of threads, `async def` ones on the event loop. Whatever goes wrong is answered in the
shape of the protocol the client speaks, with the request's id.
"""

from __future__ import annotations

import asyncio
import contextvars
import errno
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from sagesmith.core.operation import ApiError, Body, Context, Operation, World
from sagesmith.core.validate import validate
from sagesmith.gateway import answers, health, route, s3_route, sigv4
from sagesmith.gateway.access_log import AccessLog
from sagesmith.gateway.authority import NOBODY, Authority, Principal
from sagesmith.gateway.aws_chunked import ChunkKey
from sagesmith.gateway.body import collect, spool
from sagesmith.gateway.credentials import UNCLAIMED, Claim, Form, claim_of
from sagesmith.gateway.http import Incoming, Outgoing
from sagesmith.gateway.keys import Keys
from sagesmith.gateway.post_object import PostedForm, read_form
from sagesmith.gateway.protocols import rest_json
from sagesmith.gateway.request_ids import request_id

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

log = logging.getLogger(__name__)

THREADS = 24
MAX_HEADERS = 64 * 1024  # bytes of all header names and values
MAX_RUNTIME_BODY = 6 * 2**20  # InvokeEndpoint's own limit
MAX_JSON_BODY = 8 * 2**20
MAX_XML_BODY = 16 * 2**20  # S3's requests with XML: a thousand keys to delete fill 2 MiB at most

# What a request that the model forbids is called, where that is not ValidationException.
_SERVICE_CODES = {
    "sagemaker-runtime": "ValidationError",
    "sagemaker-featurestore-runtime": "ValidationError",
    "sts": "ValidationError",
    "iam": "ValidationError",
    "cloudwatch": "ValidationError",
    "logs": "InvalidParameterException",
    "s3": "InvalidArgument",
}


@dataclass(slots=True, eq=False)
class Exchange:
    """One request on its way through the steps; each step fills in what it finds out."""

    receive: Receive
    incoming: Incoming
    id: str
    started: float
    claim: Claim = UNCLAIMED
    route: route.Route | None = None
    principal: Principal = NOBODY
    form: PostedForm | None = None  # the request came as an HTML form
    status: int = 0
    error: str = ""

    @property
    def wire(self) -> ModuleType:
        return self.route.wire if self.route is not None else rest_json


class Gateway:
    """The ASGI application.

    Args:
        world: handed to every operation.
        keys: whose signatures are accepted.
        scratch: where bodies of streaming operations are spooled; on the disk of the object store.
    """

    def __init__(self, world: World, keys: Keys, scratch: Path, access_log: AccessLog | None = None) -> None:
        self.world = world
        self.authority = Authority(keys, world.clock, world.config.auth)
        self.scratch = scratch
        self.access_log = access_log
        self.pool = ThreadPoolExecutor(THREADS, thread_name_prefix="operation")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"the gateway speaks HTTP only, not {scope['type']}")
        exchange = Exchange(receive, incoming_of(scope), request_id(), time.perf_counter())
        answer = await self.answer(exchange)
        exchange.status = answer.status
        try:
            await answers.send_answer(answer, exchange.incoming.method, exchange.id, exchange.route, send)
        finally:
            body = exchange.incoming.body
            if isinstance(body, Body):
                body.path.unlink(missing_ok=True)
            if self.access_log is not None:
                self.access_log.add(exchange)

    async def answer(self, exchange: Exchange) -> Outgoing:
        """All steps; every failure becomes an answer."""
        try:
            if exchange.incoming.raw_path.startswith(health.PREFIX):
                return health.answer(exchange.incoming, self.world)
            await self._prepare(exchange)
            return await self._perform(exchange)
        except ApiError as error:
            return self._refuse(exchange, error)
        except Exception as error:
            log.exception("request %s: %s %s", exchange.id, exchange.incoming.method, exchange.incoming.raw_path[:500])
            full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
            return self._refuse(exchange, _disk_full() if full else _internal_failure(exchange.route))

    async def _prepare(self, exchange: Exchange) -> None:
        """identify → authenticate → read the body → find the operation; the body of S3 only after the signature."""
        incoming = exchange.incoming
        _check_headers(incoming)
        exchange.route = route.preliminary(incoming)
        exchange.claim = claim_of(incoming)
        exchange.route = route.service_of(incoming, exchange.claim)
        if exchange.route.service == "s3":
            exchange.route = route.operation_of(incoming, exchange.route)
            assert exchange.route.model is not None
            if s3_route.is_form(incoming, exchange.route.model.name):
                await self._receive_form(exchange)
                return
            self._authenticate(exchange)
            incoming.body = await self._s3_body(exchange)
            return
        incoming.body = await _read(exchange.receive, incoming, _limit(incoming))
        self._authenticate(exchange)
        exchange.route = route.operation_of(incoming, exchange.route)

    def _authenticate(self, exchange: Exchange) -> None:
        exchange.principal = self.authority.authenticate(exchange.incoming, exchange.claim, exchange.route)

    async def _receive_form(self, exchange: Exchange) -> None:
        """A form posted to S3: its fields, who signed them and what for, then its file."""
        incoming = exchange.incoming
        form = await read_form(incoming, exchange.claim, _chunks(exchange.receive), self.authority)
        exchange.form, exchange.claim, exchange.principal = form, form.claim, form.principal
        body = await spool(form.file(), form.claims(), self.scratch, self.world.config.max_body)
        incoming.body = form.put.body = body

    async def _s3_body(self, exchange: Exchange) -> Body | bytes:
        """The body of an S3 request, its digests checked; a stream goes to disk."""
        assert exchange.route is not None
        model = exchange.route.model
        stream = _chunks(exchange.receive)
        key = self._chunk_key(exchange.claim)
        if model is not None and model.has_streaming_input:
            limit = self.world.config.max_body
            return await spool(stream, exchange.incoming.headers, self.scratch, limit, key)
        of_body = model is None or model.name != "CompleteMultipartUpload"
        return await collect(stream, exchange.incoming.headers, MAX_XML_BODY, key, of_body)

    def _chunk_key(self, claim: Claim) -> ChunkKey | None:
        """What the chunks of a signed stream are checked with; None when signatures are not looked at."""
        secret = self.authority.secret_of(claim)
        if claim.form is not Form.HEADER or secret is None:
            return None
        scope = f"{claim.date}/{claim.region}/{claim.service}/aws4_request"
        signing_key = sigv4.signing_key(secret, claim.date, claim.region, claim.service)
        return ChunkKey(signing_key, claim.moment, scope, claim.signature)

    async def _perform(self, exchange: Exchange) -> Outgoing:
        """permit → parse → validate → call → serialise."""
        found = exchange.route
        assert found is not None
        assert found.model is not None
        operation = route.built(found)
        self.authority.permit(exchange.principal, found.model)
        form = exchange.form
        request = found.wire.parse(exchange.incoming if form is None else form.put, found.model)
        if found.model.input_shape is not None:
            code = _SERVICE_CODES.get(found.service, "ValidationException")
            validate(request, found.model.input_shape, code)
        answer = await self._call(operation, request, self._context(exchange))
        outgoing: Outgoing = found.wire.serialise(answer or {}, found.model, exchange.id)
        return outgoing if form is None else form.answer(outgoing)

    def _context(self, exchange: Exchange) -> Context:
        config = self.world.config
        region = exchange.claim.region or config.region
        return Context(
            self.world,
            config.account,
            region,
            exchange.id,
            exchange.principal.key,
            exchange.principal.role,
            exchange.incoming,
        )

    async def _call(self, operation: Operation, request: dict[str, Any], ctx: Context) -> dict[str, Any] | None:
        if operation.asynchronous:
            answer: dict[str, Any] | None = await operation.function(request, ctx)
            return answer
        loop = asyncio.get_running_loop()
        context = contextvars.copy_context()
        return await loop.run_in_executor(self.pool, context.run, operation.function, request, ctx)

    def _refuse(self, exchange: Exchange, error: ApiError) -> Outgoing:
        exchange.error = error.code
        model = exchange.route.model if exchange.route is not None else None
        outgoing: Outgoing = exchange.wire.serialise_error(error, model, exchange.id)
        return outgoing

    def close(self) -> None:
        """Ends the threads, once the operations that run have ended."""
        self.pool.shutdown(wait=True)


def incoming_of(scope: Scope) -> Incoming:
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return Incoming(
        scope["method"],
        scope["raw_path"],
        scope["query_string"],
        headers,
        scheme=scope["scheme"],
        host=headers.get("host", ""),
    )


def _check_headers(incoming: Incoming) -> None:
    headers = incoming.headers
    size = len(incoming.raw_path) + len(incoming.query_string)
    size += sum(map(len, headers)) + sum(map(len, headers.values()))
    if size > MAX_HEADERS:
        raise ApiError(
            "RequestHeaderSectionTooLarge",
            f"The request line and headers hold {size} bytes; at most {MAX_HEADERS} are allowed.",
            400,
        )


def _limit(incoming: Incoming) -> int:
    return MAX_RUNTIME_BODY if incoming.raw_path.startswith(b"/endpoints/") else MAX_JSON_BODY


async def _read(receive: Receive, incoming: Incoming, limit: int) -> bytes:
    """A body that fits into memory.

    Raises:
        ApiError: 413, once more than `limit` bytes are announced or have come.
    """
    announced = incoming.headers.get("content-length", "0")
    if len(announced) > 12 or not (announced.isascii() and announced.isdigit()) or int(announced) > limit:
        raise _too_large(limit)
    message = await receive()
    content: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        if message["type"] == "http.disconnect":
            raise ApiError("IncompleteBody", "The connection was closed before the body had come.", 400)
        if len(content) > limit:
            raise _too_large(limit)
        return content
    parts, size = [content], len(content)
    async for part in _chunks(receive):
        parts.append(part)
        size += len(part)
        if size > limit:
            raise _too_large(limit)
    return b"".join(parts)


async def _chunks(receive: Receive) -> AsyncIterator[bytes]:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ApiError("IncompleteBody", "The connection was closed before the body had come.", 400)
        if part := message.get("body", b""):
            yield part
        if not message.get("more_body", False):
            return


def _too_large(limit: int) -> ApiError:
    return ApiError(
        "RequestEntityTooLargeException", f"The body is larger than the {limit} bytes that are allowed.", 413
    )


def _disk_full() -> ApiError:
    """Nothing is written in place, so what was there before is still whole. No client repeats a 507 by itself."""
    return ApiError(
        "InsufficientStorage",
        "The server's disk is full, so the request was not carried out. Free some space and send it again.",
        507,
    )


def _internal_failure(found: route.Route | None) -> ApiError:
    code = "InternalError" if found is not None and found.service == "s3" else "InternalFailure"
    return ApiError(
        code, "The request processing has failed because of an unknown error, exception or failure. See the log.", 500
    )
