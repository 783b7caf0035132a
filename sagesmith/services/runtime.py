"""sagemaker-runtime: InvokeEndpoint, the hot path.

A request is one pass through `invoke_endpoint`: routes from memory, a variant by weight, an instance by load, the
container over a kept connection. Nothing here waits for the database unless the routes are not in memory, and
metrics leave in batches. InvokeEndpointAsync and InvokeEndpointWithResponseStream are not built: 501 by name.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sagesmith.core.names import partition
from sagesmith.core.operation import ApiError, Context, Service
from sagesmith.services import invocation_metrics, routes
from sagesmith.services.container_http import Broken, NotSent, Pool, Response, TooLarge, request_head
from sagesmith.services.invocation_metrics import VariantMetrics
from sagesmith.services.refusal import refuse_unbuilt

if TYPE_CHECKING:
    from sagesmith.core.operation import World
    from sagesmith.services.routes import Instance, Place, Target, Variant

runtime = Service("sagemaker-runtime")
log = logging.getLogger(__name__)

MAX_BODY = 6 * 2**20  # bytes, either way
MODEL_SECONDS = 60.0  # a container must answer within (developer guide)
FLUSH_SECONDS = 5.0

_UNBUILT = {
    "TargetModel": "one model of a multi-model endpoint",
    "InferenceComponentName": "an inference component",
    "SessionId": "a stateful session",
    "EnableExplanations": "online explanations",
    "PrefixAwareId": "prefix-aware routing",
}
_PASSED_ON = (
    ("CustomAttributes", "X-Amzn-SageMaker-Custom-Attributes"),
    ("InferenceId", "X-Amzn-SageMaker-Inference-Id"),
)


@runtime.operation
async def invoke_endpoint(request: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Sends a request to one instance of one variant and returns its answer.

    Raises:
        ApiError: ValidationError when it cannot be sent, ModelError (424) when the container gave no good answer.
    """
    loop = asyncio.get_running_loop()
    started = loop.time()
    invoker = _invoker(ctx.world, loop)
    name = request["EndpointName"]
    target = _checked(request, invoker.table.peek(ctx, name) or await invoker.table.load(ctx, name), name, ctx)
    variant = _variant(request, target, name)
    call = _Call(request, ctx, invoker, variant)
    try:
        response = await call.run()
    finally:
        invoker.record(ctx, name, variant, call, loop.time() - started)
    answer = {
        "Body": response.body,
        "ContentType": response.headers.get(b"content-type", b"application/octet-stream").decode("latin-1"),
        "InvokedProductionVariant": variant.name,
    }
    attributes = response.headers.get(b"x-amzn-sagemaker-custom-attributes")
    if attributes is not None:
        answer["CustomAttributes"] = attributes.decode("latin-1")
    return answer


def _checked(request: dict[str, Any], target: Target | None, name: str, ctx: Context) -> Target:
    """The endpoint's routes, if there are any and the request asks for nothing that is not built."""
    if target is None:
        raise _validation(f"Endpoint {name} of account {ctx.account} not found.")
    if not target.variants:
        raise _validation(f"Endpoint {name} of account {ctx.account} is not in service: it is {target.status}.")
    try:
        refuse_unbuilt(request, _UNBUILT)
    except ApiError as error:
        raise _validation(error.message) from None
    if len(request["Body"]) > MAX_BODY:
        raise _validation(f"Body has {len(request['Body'])} bytes; an endpoint takes up to {MAX_BODY}.")
    return target


def _variant(request: dict[str, Any], target: Target, name: str) -> Variant:
    wanted = request.get("TargetVariant")
    if wanted is not None:
        variant = target.variants.get(wanted)
        if variant is None:
            known = ", ".join(target.variants)
            raise _validation(f"Variant {wanted} not found for endpoint {name}; it has {known}.")
        return variant
    variant = target.choose()
    if variant is None:
        raise _validation(f"No variant of endpoint {name} has a weight above 0; name one as TargetVariant.")
    return variant


def _validation(message: str) -> ApiError:
    return ApiError("ValidationError", message)


class _Call:
    """One request on its way through the containers of an instance."""

    __slots__ = ("_ctx", "_invoker", "_request", "_variant", "model_seconds", "status")

    def __init__(self, request: dict[str, Any], ctx: Context, invoker: _Invoker, variant: Variant) -> None:
        self._request = request
        self._ctx = ctx
        self._invoker = invoker
        self._variant = variant
        self.model_seconds = 0.0
        self.status = 0  # of the last container that answered; 0: none did

    async def run(self) -> Response:
        """The last container's answer. An instance that takes no connection is passed over once."""
        loop = self._invoker.loop
        instance = self._variant.choose(loop.time())
        if instance is None:
            raise self._unavailable()
        try:
            return await self._through(instance)
        except NotSent:
            instance.rests_until = loop.time() + routes.REST_SECONDS
            other = self._variant.choose(loop.time(), but=instance)
            if other is None:
                raise self._unavailable() from None
        try:
            return await self._through(other)
        except NotSent:
            other.rests_until = loop.time() + routes.REST_SECONDS
            raise self._unavailable() from None

    async def _through(self, instance: Instance) -> Response:
        body, content_type = self._request["Body"], self._request.get("ContentType")
        places = self._places(instance)
        instance.outstanding += 1
        try:
            for number, place in enumerate(places, start=1):
                response = await self._ask(place, body, content_type, number == len(places), number > 1)
                body = response.body
                content_type = response.headers.get(b"content-type", b"application/octet-stream").decode("latin-1")
            return response
        finally:
            instance.outstanding -= 1

    def _places(self, instance: Instance) -> tuple[Place, ...]:
        hostname = self._request.get("TargetContainerHostname")
        if not self._variant.direct:
            if hostname is not None:
                raise _validation("TargetContainerHostname needs a model with InferenceExecutionConfig.Mode Direct.")
            return instance.places
        found = tuple(place for place in instance.places if place["hostname"] == hostname)
        if not found:
            known = ", ".join(place["hostname"] for place in instance.places)
            raise _validation(f"TargetContainerHostname must be one of {known}; got {hostname or 'none'}.")
        return found

    async def _ask(self, place: Place, body: bytes, content_type: str | None, last: bool, late: bool) -> Response:
        """One container's answer.

        Args:
            last: whether it is the one that the client's Accept is meant for.
            late: whether a container before it has seen the request, which then may not start over elsewhere.
        """
        address = place["address"]
        head = self._head(address, content_type, len(body), last)
        loop = self._invoker.loop
        asked = loop.time()
        try:
            response = await self._invoker.pool.post(address, head, body, MODEL_SECONDS, MAX_BODY)
        except NotSent:
            if late:
                raise self._failed(place, "The container does not accept connections.") from None
            raise
        except TimeoutError:
            raise self._failed(place, self._timed_out(place)) from None
        except (Broken, TooLarge) as error:
            raise self._failed(place, str(error)) from None
        finally:
            self.model_seconds += loop.time() - asked
        self.status = response.status
        if not 200 <= response.status < 300:
            raise self._failed(place, response.body.decode("utf-8", "replace"), response.status)
        return response

    def _head(self, address: str, content_type: str | None, length: int, last: bool) -> bytes:
        headers = []
        if content_type:
            headers.append(("Content-Type", content_type))
        accept = self._request.get("Accept")
        if last and accept:
            headers.append(("Accept", accept))
        for member, header in _PASSED_ON:
            value = self._request.get(member)
            if value is not None:
                headers.append((header, value))
        try:
            return request_head("/invocations", address, headers, length)
        except ValueError as error:
            raise _validation(str(error)) from None

    def _timed_out(self, place: Place) -> str:
        return (
            f"Your invocation timed out while waiting for a response from container {self._called(place)}. Review the "
            "latency metrics for each container in Amazon CloudWatch, resolve the issue, and try again."
        )

    def _called(self, place: Place) -> str:
        single = len(self._variant.instances[0].places) == 1 if self._variant.instances else True
        return "primary" if single else place["hostname"]

    def _unavailable(self) -> ApiError:
        self.status = 0
        return self._error(0, "No instance of the variant accepts connections now.", "primary")

    def _failed(self, place: Place, message: str, status: int = 0) -> ApiError:
        self.status = status
        return self._error(status, message, self._called(place))

    def _error(self, status: int, message: str, container: str) -> ApiError:
        """ModelError, in AWS's words."""
        region = self._ctx.region
        group = f"/aws/sagemaker/Endpoints/{self._request['EndpointName']}"
        side = "client" if 400 <= status < 500 else "server"
        text = (
            f'Received {side} error ({status}) from {container} with message "{message}". '
            f"See log group {group} in account {self._ctx.account} for more information."
        )
        fields = {
            "OriginalStatusCode": status,
            "OriginalMessage": message,
            "LogStreamArn": f"arn:{partition(region)}:logs:{region}:{self._ctx.account}:log-group:{group}",
        }
        return ApiError("ModelError", text, 424, fields)


class _Invoker:
    """What one server process keeps between invocations, on its event loop."""

    def __init__(self, world: World, loop: asyncio.AbstractEventLoop) -> None:
        self.world = world
        self.loop = loop
        self.table = routes.Table(loop)
        self.pool = Pool(loop)
        self._metrics: dict[tuple[str, str, str, str], VariantMetrics] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._flushing: asyncio.Task[None] | None = None

    def record(self, ctx: Context, endpoint: str, variant: Variant, call: _Call, seconds: float) -> None:
        """Counts an invocation, and sees to it that the counts leave soon."""
        key = (ctx.account, ctx.region, endpoint, variant.name)
        metrics = self._metrics.get(key)
        if metrics is None:
            metrics = self._metrics[key] = VariantMetrics()
        overhead = max(seconds - call.model_seconds, 0.0)
        metrics.record(call.status, len(variant.instances), call.model_seconds, overhead)
        if self._timer is None:
            self._timer = self.loop.call_later(FLUSH_SECONDS, self._due)

    def _due(self) -> None:
        self._timer = None
        self.pool.prune()
        self._flushing = self.loop.create_task(self.flush())

    async def flush(self) -> None:
        """Hands what was counted to CloudWatch."""
        now = self.world.clock.now()
        batches: dict[tuple[str, str], list[dict[str, Any]]] = {}
        metrics, self._metrics = self._metrics, {}
        for (account, region, endpoint, variant), counted in metrics.items():
            batches.setdefault((account, region), []).extend(counted.data(endpoint, variant, now))
        for (account, region), entries in batches.items():
            ctx = Context(self.world, account, region)
            try:
                await self.loop.run_in_executor(None, invocation_metrics.put, ctx, entries)
            except Exception:
                log.exception("invocation metrics could not be stored: %d entries are lost", len(entries))

    async def close(self) -> None:
        """Flushes the metrics and ends every connection."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._flushing is not None:
            with suppress(asyncio.CancelledError):
                await self._flushing
        await self.flush()
        await self.table.close()
        self.pool.close()


_INVOKERS: dict[int, _Invoker] = {}


def _invoker(world: World, loop: asyncio.AbstractEventLoop) -> _Invoker:
    invoker = _INVOKERS.get(id(world))
    if invoker is None or invoker.world is not world or invoker.loop is not loop:
        invoker = _INVOKERS[id(world)] = _Invoker(world, loop)
    return invoker


async def close(world: World) -> None:
    """What the server calls when it ends: metrics are flushed, connections closed."""
    invoker = _INVOKERS.pop(id(world), None)
    if invoker is not None:
        await invoker.close()


def _forget(world: World, key: routes.Key) -> None:
    invoker = _INVOKERS.get(id(world))
    if invoker is not None and invoker.world is world:
        invoker.table.forget(key)


routes.on_forget(_forget)
