"""The served model's HTTP answers as one ASGI function, without a framework: every microsecond here is paid per row.

Where a request is answered decides throughput. Handing it to a thread and back takes 25 to 37 microseconds (measured:
an empty function through run_in_executor on uvloop), more than all of HTTP does, so requests that are small and have
lately been quick are answered on the event loop. The others go to a pool of as many threads as processors: numeric
libraries release the interpreter there, and /ping is answered meanwhile. More figures are in docs/container.md.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from sagesmith.algorithms.base import Algorithm, Request, RequestError, Response
from sagesmith.container.failures import JobError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

PAYLOAD_BYTES = 6 << 20  # SageMaker's limit of a real-time request
SMALL_BYTES = 16 << 10  # a body that may be answered on the event loop
QUICK_SECONDS = 0.002  # and the time it may take there, by experience
LEARNING = 0.05  # how far one time moves that experience

logger = logging.getLogger("sagesmith.container")


@dataclass
class Limits:
    """What this container takes at once, from its environment."""

    payload: int = PAYLOAD_BYTES  # bytes of one request
    threads: int = 1

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Limits:
        """MAX_CONTENT_LENGTH in bytes; in batch transform SAGEMAKER_MAX_PAYLOAD_IN_MB may raise it.

        MODEL_SERVER_WORKERS says how many requests are answered at once; without it, as many as there are processors.

        Raises:
            JobError: a variable that is no whole number in its range.
        """
        payload = _number(environment, "MAX_CONTENT_LENGTH", PAYLOAD_BYTES, 1, 1 << 40)
        if environment.get("SAGEMAKER_BATCH", "").lower() == "true":
            payload = max(payload, _number(environment, "SAGEMAKER_MAX_PAYLOAD_IN_MB", 6, 0, 100) << 20)
        processors = _number(environment, "OMP_NUM_THREADS", len(os.sched_getaffinity(0)), 1, 4096)
        return cls(payload, _number(environment, "MODEL_SERVER_WORKERS", processors, 1, 4096))


def _number(environment: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = environment.get(name) or str(default)
    if not text.isdecimal() or not low <= int(text) <= high:
        raise JobError(f"{name} must be a whole number from {low} to {high}, found {text!r}")
    return int(text)


class Application:
    """The ASGI application of one model, or of the reason why there is none."""

    def __init__(self, model: Algorithm | None, reason: str, limits: Limits, environment: Mapping[str, str]) -> None:
        self._model = model
        self._reason = reason
        self._limits = limits
        self._environment = dict(environment)
        self._pool = ThreadPoolExecutor(limits.threads, thread_name_prefix="invocation")
        self._seconds = float("inf")  # what a small request takes, by experience; the first one goes to a thread
        self._parameters = json.dumps(
            {
                "MaxConcurrentTransforms": limits.threads,
                "BatchStrategy": "MULTI_RECORD",
                "MaxPayloadInMB": max(1, limits.payload >> 20),
            }
        ).encode()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers one HTTP request."""
        path, method = scope["path"], scope["method"]
        if path == "/invocations":
            if method == "POST":
                await self._invoke(scope, receive, send)
                return
            await _text(send, 405, "POST a request to /invocations", (b"allow", b"POST"))
        elif path not in ("/ping", "/execution-parameters"):
            await _text(send, 404, f"There is no {path}; there are /ping, /invocations and /execution-parameters")
        elif method not in ("GET", "HEAD"):
            await _text(send, 405, f"GET {path}", (b"allow", b"GET, HEAD"))
        elif self._model is None:
            await _text(send, 500, self._reason)
        elif path == "/ping":
            await _reply(send, 200, b"", "")
        else:
            await _reply(send, 200, self._parameters, "application/json")

    async def _invoke(self, scope: Message, receive: Receive, send: Send) -> None:
        content_type = accept = attributes = b""
        for name, value in scope["headers"]:
            if name == b"content-type":
                content_type = value
            elif name == b"accept":
                accept = value
            elif name == b"x-amzn-sagemaker-custom-attributes":
                attributes = value
            elif name == b"content-length" and int(value) > self._limits.payload:
                await self._too_large(send)
                return
        body = await self._body(receive, send)
        if body is None:
            return
        request = Request(
            body,
            content_type.decode("latin-1"),
            accept.decode("latin-1"),
            attributes.decode("latin-1"),
            self._environment,
        )
        if len(body) <= SMALL_BYTES and self._seconds <= QUICK_SECONDS:
            response = self._answer(request)
        else:
            response = await asyncio.get_running_loop().run_in_executor(self._pool, self._answer, request)
        await _reply(send, response.status, response.body, response.content_type)

    async def _body(self, receive: Receive, send: Send) -> bytes | None:
        """The request's body; None when it was refused, or nobody waits for an answer any more."""
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            body: bytes = message.get("body", b"")
            if len(body) <= self._limits.payload:
                return body
        parts, size = [], 0
        while message["type"] == "http.request":
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._limits.payload:
                await self._too_large(send)
                return None
            if not message.get("more_body"):
                return b"".join(parts)
            message = await receive()
        return None

    async def _too_large(self, send: Send) -> None:
        text = f"The request has more than {self._limits.payload} bytes, the limit of this container"
        await _text(send, 413, text, (b"connection", b"close"))

    def _answer(self, request: Request) -> Response:
        """The model's answer, or what is wrong with the request or the model; never raises."""
        if self._model is None:
            return _error(500, self._reason)
        started = time.perf_counter()
        try:
            return self._model.respond(request)
        except RequestError as error:
            return _error(error.status, str(error))
        except RecursionError:
            return _error(400, "The request is nested too deeply")
        except Exception as error:
            logger.exception("Could not answer a request of %d bytes as %r", len(request.body), request.content_type)
            return _error(500, f"The model failed: {type(error).__name__}: {str(error)[:500]}")
        finally:
            if len(request.body) <= SMALL_BYTES:
                self._learn(time.perf_counter() - started)

    def _learn(self, seconds: float) -> None:
        """Moves the experience a step towards the median, so that a computer that stalls now and then is forgiven."""
        if self._seconds == float("inf"):
            self._seconds = seconds
        else:
            self._seconds *= 1 + LEARNING if seconds > self._seconds else 1 - LEARNING


def _error(status: int, message: str) -> Response:
    return Response(message.encode("utf-8", "replace"), "text/plain; charset=utf-8", status)


async def _text(send: Send, status: int, message: str, *headers: tuple[bytes, bytes]) -> None:
    response = _error(status, message)
    await _reply(send, status, response.body, response.content_type, *headers)


async def _reply(send: Send, status: int, body: bytes, content_type: str, *headers: tuple[bytes, bytes]) -> None:
    sent = [*headers]
    if status != 204:
        sent.append((b"content-length", b"%d" % len(body)))
    if content_type and status != 204:
        sent.append((b"content-type", content_type.encode("latin-1")))
    await send({"type": "http.response.start", "status": status, "headers": sent})
    await send({"type": "http.response.body", "body": b"" if status == 204 else body})
