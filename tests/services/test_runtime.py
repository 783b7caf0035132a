"""InvokeEndpoint against containers that live in this process, and endpoints that a fake engine serves."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sagesmith.core.operation import ApiError
from sagesmith.engines.base import State
from sagesmith.services import container_http, routes, runtime
from sagesmith.services.sagemaker import endpoint_configs, endpoints, models  # noqa: F401 - registers the operations
from sagesmith.testing.fake_engine import IMAGE, FakeWorld

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Reply = Callable[[dict[str, str], bytes], bytes | Awaitable[bytes]]


def response(body: bytes, status: int = 200, headers: str = "Content-Type: text/plain\r\n") -> bytes:
    return f"HTTP/1.1 {status} X\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Container:
    """A server that answers as a test says, and counts connections."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.connections = 0
        self.requests = 0
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 24)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode("latin-1").split("\r\n")
                headers = {"": lines[0]} | {
                    name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)
                }
                body = await reader.readexactly(int(headers["content-length"]))
                self.requests += 1
                answer = self.reply(headers, body)
                writer.write(answer if isinstance(answer, bytes) else await answer)
                if b"Connection: close" in lines_of(answer):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def lines_of(answer: Any) -> bytes:
    return answer if isinstance(answer, bytes) else b""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[FakeWorld]:
    world = FakeWorld(tmp_path)
    world.call("CreateModel", ModelName="m", PrimaryContainer={"Image": IMAGE})
    yield world
    world.close()


def serve(world: FakeWorld, *variants: dict[str, Any], ports: list[int]) -> None:
    """An endpoint in service whose instances answer at the ports, in the order of their launch."""
    base = {"ModelName": "m", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    entries = [{"VariantName": "AllTraffic", **base, **variant} for variant in variants or ({},)]
    world.call("CreateEndpointConfig", EndpointConfigName="c", ProductionVariants=entries)
    world.call("CreateEndpoint", EndpointName="e", EndpointConfigName="c")
    world.settle()
    for run, port in zip(world.engine.running(), ports, strict=True):
        world.report(run, phase="InService", port=port)
    world.advance(1)


def run(world: FakeWorld, scenario: Coroutine[Any, Any, None]) -> None:
    async def whole() -> None:
        try:
            await scenario
        finally:
            await runtime.close(world.world)

    asyncio.run(whole())


@asynccontextmanager
async def containers(*replies: Reply) -> AsyncIterator[list[Container]]:
    started = [Container(reply) for reply in replies]
    for container in started:
        await container.start()
    try:
        yield started
    finally:
        for container in started:
            await container.stop()


async def invoke(world: FakeWorld, body: bytes = b"1,2", **members: Any) -> dict[str, Any]:
    request = {"EndpointName": "e", "Body": body, "ContentType": "text/csv", **members}
    answer: dict[str, Any] = await runtime.invoke_endpoint(request, world.ctx)
    return answer


async def failure(world: FakeWorld, **members: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await invoke(world, **members)
    return caught.value


def echo(headers: dict[str, str], body: bytes) -> bytes:
    return response(body)


def test_a_request_reaches_the_container_and_its_answer_comes_back(world: FakeWorld) -> None:
    seen: list[dict[str, str]] = []

    def reply(headers: dict[str, str], body: bytes) -> bytes:
        seen.append(headers)
        extra = "Content-Type: application/json\r\nX-Amzn-SageMaker-Custom-Attributes: back\r\n"
        return response(b"0.5:" + body, headers=extra)

    async def scenario() -> None:
        async with containers(reply) as (container,):
            serve(world, ports=[container.port])
            answer = await invoke(world, Accept="application/json", CustomAttributes="there", InferenceId="i-1")
            for _ in range(5):
                await invoke(world)
            assert container.connections == 1, "connections are kept"
        assert answer == {
            "Body": b"0.5:1,2",
            "ContentType": "application/json",
            "InvokedProductionVariant": "AllTraffic",
            "CustomAttributes": "back",
        }
        assert seen[0][""] == "POST /invocations HTTP/1.1"
        assert seen[0]["content-type"] == "text/csv"
        assert seen[0]["accept"] == "application/json"
        assert seen[0]["x-amzn-sagemaker-custom-attributes"] == "there"
        assert seen[0]["x-amzn-sagemaker-inference-id"] == "i-1"
        assert "accept" not in seen[1]

    run(world, scenario())


def test_an_answer_may_be_empty_chunked_or_end_with_the_connection(world: FakeWorld) -> None:
    answers = iter(
        [
            b"HTTP/1.1 204 No Content\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\n" + response(b"later"),
            b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end",
            response(b"again"),
        ]
    )

    async def scenario() -> None:
        async with containers(lambda headers, body: next(answers)) as (container,):
            serve(world, ports=[container.port])
            bodies = [(await invoke(world))["Body"] for _ in range(5)]
            assert bodies == [b"", b"abc", b"later", b"until the end", b"again"]
            assert container.connections == 2

    run(world, scenario())


@pytest.mark.parametrize(("status", "side"), [(415, "client"), (500, "server"), (404, "client")])
def test_errors_of_the_container_are_model_errors(world: FakeWorld, status: int, side: str) -> None:
    async def scenario() -> None:
        async with containers(lambda headers, body: response(b"what it said", status)) as (container,):
            serve(world, ports=[container.port])
            error = await failure(world)
        assert (error.code, error.status) == ("ModelError", 424)
        assert error.fields["OriginalStatusCode"] == status
        assert error.fields["OriginalMessage"] == "what it said"
        expected = "arn:aws:logs:us-east-1:123456789012:log-group:/aws/sagemaker/Endpoints/e"
        assert error.fields["LogStreamArn"] == expected
        assert error.message.startswith(f'Received {side} error ({status}) from primary with message "what it said".')

    run(world, scenario())


def test_a_container_that_breaks_off_or_talks_nonsense_is_a_model_error(world: FakeWorld) -> None:
    answers = iter([b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\nabc"])

    async def scenario() -> None:
        async with containers(lambda headers, body: next(answers)) as (container,):
            serve(world, ports=[container.port])
            for _ in range(2):
                error = await failure(world)
                assert error.code == "ModelError"
                assert error.fields["OriginalStatusCode"] == 0
            assert container.requests == 2, "a request that was sent is not sent again"

    run(world, scenario())


def test_a_container_that_is_silent_times_out(world: FakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "MODEL_SECONDS", 0.05)

    async def reply() -> bytes:
        await asyncio.sleep(0.2)
        return b""

    async def scenario() -> None:
        async with containers(lambda headers, body: reply()) as (container,):
            serve(world, ports=[container.port])
            error = await failure(world)
        assert "timed out while waiting for a response from container primary" in error.message

    run(world, scenario())


def test_answers_that_are_too_large_are_a_model_error(world: FakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "MAX_BODY", 1000)

    async def scenario() -> None:
        async with containers(echo) as (container,):
            serve(world, ports=[container.port])
            assert len((await invoke(world, body=b"x" * 1000))["Body"]) == 1000
            assert (await failure(world, body=b"x" * 1001)).code == "ValidationError"
            container.reply = lambda headers, body: response(b"x" * 1001)
            assert "exceeds 1000 bytes" in (await failure(world)).message

    run(world, scenario())


def test_large_bodies_pass_whole(world: FakeWorld) -> None:
    async def scenario() -> None:
        async with containers(echo) as (container,):
            serve(world, ports=[container.port])
            body = bytes(range(256)) * 4096 * 6
            assert (await invoke(world, body=body))["Body"] == body

    run(world, scenario())


def test_endpoints_that_are_missing_or_not_in_service_are_said_so(world: FakeWorld) -> None:
    async def scenario() -> None:
        error = await failure(world)
        assert error.code == "ValidationError"
        assert error.message == "Endpoint e of account 123456789012 not found."
        variant = {
            "VariantName": "v",
            "ModelName": "m",
            "InstanceType": "ml.m5.large",
            "InitialInstanceCount": 1,
        }
        world.call("CreateEndpointConfig", EndpointConfigName="c", ProductionVariants=[variant])
        world.call("CreateEndpoint", EndpointName="e", EndpointConfigName="c")
        error = await failure(world)
        assert error.code == "ValidationError"
        assert "is Creating" in error.message

    run(world, scenario())


def test_a_deleted_endpoint_is_gone_at_once(world: FakeWorld) -> None:
    async def scenario() -> None:
        async with containers(echo) as (container,):
            serve(world, ports=[container.port])
            await invoke(world)
            world.call("DeleteEndpoint", EndpointName="e")
            assert "not found" in (await failure(world)).message

    run(world, scenario())


def test_an_instance_that_takes_no_connection_is_passed_over(world: FakeWorld) -> None:
    async def scenario() -> None:
        async with containers(echo, echo) as (gone, well):
            serve(world, {"InitialInstanceCount": 2}, ports=[gone.port, well.port])
            await gone.stop()
            for _ in range(6):
                assert (await invoke(world))["Body"] == b"1,2"
            await well.stop()
            error = await failure(world)
            assert error.code == "ModelError"
            assert "No instance" in error.message

    run(world, scenario())


def test_a_connection_that_the_container_closed_meanwhile_is_no_failure(world: FakeWorld) -> None:
    async def scenario() -> None:
        async with containers(echo) as (container,):
            serve(world, ports=[container.port])
            await invoke(world)
            for writer in container._writers:
                writer.transport.abort()
            assert (await invoke(world))["Body"] == b"1,2"

    run(world, scenario())


def test_traffic_follows_the_weights_and_target_variant_overrides_them(world: FakeWorld) -> None:
    async def scenario() -> None:
        async with containers(echo, echo, echo) as (a, b, never):
            serve(
                world,
                {"VariantName": "a", "InitialVariantWeight": 3.0},
                {"VariantName": "b", "InitialVariantWeight": 1.0},
                {"VariantName": "never", "InitialVariantWeight": 0.0},
                ports=[a.port, b.port, never.port],
            )
            for _ in range(400):
                await invoke(world)
            assert never.requests == 0
            assert 240 <= a.requests <= 360
            answer = await invoke(world, TargetVariant="never")
            assert answer["InvokedProductionVariant"] == "never"
            assert "a, b, never" in (await failure(world, TargetVariant="x")).message
            change = [{"VariantName": name, "DesiredWeight": 0.0} for name in ("a", "b")]
            world.call("UpdateEndpointWeightsAndCapacities", EndpointName="e", DesiredWeightsAndCapacities=change)
            assert "weight above 0" in (await failure(world)).message

    run(world, scenario())


def test_the_least_busy_instance_gets_the_request(world: FakeWorld) -> None:
    gate, arrived = asyncio.Event(), asyncio.Semaphore(0)

    async def slow() -> bytes:
        arrived.release()
        await gate.wait()
        return response(b"slow")

    async def scenario() -> None:
        async with containers(lambda headers, body: slow(), lambda headers, body: slow()) as (one, two):
            serve(world, {"InitialInstanceCount": 2}, ports=[one.port, two.port])
            waiting = [asyncio.create_task(invoke(world)) for _ in range(6)]
            for _ in waiting:
                await arrived.acquire()
            assert Counter([one.requests, two.requests]) == {3: 2}
            gate.set()
            await asyncio.gather(*waiting)

    run(world, scenario())


def test_a_pipeline_passes_the_answer_on(world: FakeWorld) -> None:
    first_headers: dict[str, str] = {}

    def first(headers: dict[str, str], body: bytes) -> bytes:
        first_headers.update(headers)
        return response(body + b"|first", headers="Content-Type: middle/form\r\n")

    def second(headers: dict[str, str], body: bytes) -> bytes:
        return response(body + b"|" + headers["content-type"].encode() + b"|" + headers["accept"].encode())

    async def scenario() -> None:
        async with containers(first, second) as (one, two):
            world.call("CreateModel", ModelName="p", Containers=[{"Image": IMAGE}, {"Image": IMAGE}])
            serve(world, {"ModelName": "p"}, ports=[1])
            move_places(world, one.port, two.port)
            answer = await invoke(world, Accept="text/plain")
            assert answer["Body"] == b"1,2|first|middle/form|text/plain"
            assert "accept" not in first_headers
            assert "TargetContainerHostname" in (await failure(world, TargetContainerHostname="x")).message
            two.reply = lambda headers, body: response(b"no", 500)
            assert "from container-2" in (await failure(world)).message

    run(world, scenario())


def test_a_direct_model_is_asked_by_hostname(world: FakeWorld) -> None:
    async def scenario() -> None:
        async with containers(echo, lambda headers, body: response(b"two")) as (one, two):
            named = [{"Image": IMAGE, "ContainerHostname": name} for name in ("one", "two")]
            world.call("CreateModel", ModelName="p", Containers=named, InferenceExecutionConfig={"Mode": "Direct"})
            serve(world, {"ModelName": "p"}, ports=[1])
            move_places(world, one.port, two.port)
            assert (await invoke(world, TargetContainerHostname="two"))["Body"] == b"two"
            assert "one of one, two" in (await failure(world)).message

    run(world, scenario())


def move_places(world: FakeWorld, *ports: int) -> None:
    """Gives the containers of the only gang ports of their own."""
    import json

    from sagesmith.core.names import runs_bucket

    (gang,) = world.engine.gangs.values()
    for paper, port in zip(gang.papers, ports, strict=True):
        report = {"run": gang.run, "phase": "InService", "phases": [["InService", 0.0]], "port": port}
        world.world.objects.put(runs_bucket(world.ctx), f"{gang.run}/{paper['host']}.json", json.dumps(report).encode())
    world.advance(2)


@pytest.mark.parametrize(
    "member", ["TargetModel", "InferenceComponentName", "SessionId", "EnableExplanations", "PrefixAwareId"]
)
def test_what_is_not_built_is_refused_by_name(world: FakeWorld, member: str) -> None:
    async def scenario() -> None:
        serve(world, ports=[1])
        error = await failure(world, **{member: "x"})
        assert error.code == "ValidationError"
        assert member in error.message

    run(world, scenario())


def test_headers_cannot_be_smuggled_in(world: FakeWorld) -> None:
    async def scenario() -> None:
        async with containers(echo) as (container,):
            serve(world, ports=[container.port])
            error = await failure(world, CustomAttributes="a\r\nX-Evil: 1")
            assert error.code == "ValidationError"
            assert container.requests == 0

    run(world, scenario())


def test_routes_that_changed_are_followed_without_a_failed_request(
    world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "FRESH_SECONDS", 0.0)

    async def scenario() -> None:
        async with containers(lambda headers, body: response(b"old"), lambda headers, body: response(b"new")) as (
            old,
            new,
        ):
            serve(world, ports=[old.port])
            assert (await invoke(world))["Body"] == b"old"
            (first,) = world.engine.running()
            world.engine.states[first] = State.LOST
            world.advance(2)
            world.advance(1)
            (second,) = world.engine.running()
            world.report(second, phase="InService", port=new.port)
            world.advance(1)
            bodies = []
            while b"new" not in bodies:
                bodies.append((await invoke(world))["Body"])
            assert set(bodies) <= {b"old", b"new"}
            assert (await invoke(world))["Body"] == b"new"

    run(world, scenario())


def test_invocations_are_counted_for_cloudwatch(world: FakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(runtime.invocation_metrics, "put", lambda ctx, entries: sent.extend(entries))

    async def scenario() -> None:
        replies = iter([200, 400, 500, 200])
        async with containers(lambda headers, body: response(b"", next(replies)), echo) as (one, two):
            serve(world, {"InitialInstanceCount": 2}, ports=[one.port, two.port])
            two.reply = one.reply
            await invoke(world)
            await failure(world)
            await failure(world)
            await invoke(world)

    run(world, scenario())
    found = {entry["MetricName"]: entry["StatisticValues"] for entry in sent}
    assert {name: values["SampleCount"] for name, values in found.items()} == dict.fromkeys(found, 4.0)
    assert found["Invocations"]["Sum"] == 4.0
    assert found["InvocationsPerInstance"]["Sum"] == 2.0
    assert found["Invocation4XXErrors"]["Sum"] == 1.0
    assert found["Invocation5XXErrors"]["Sum"] == 1.0
    assert found["InvocationModelErrors"]["Sum"] == 2.0
    assert 0 < found["ModelLatency"]["Minimum"] <= found["ModelLatency"]["Maximum"]
    assert found["OverheadLatency"]["Minimum"] >= 0
    assert sent[0]["Dimensions"] == [
        {"Name": "EndpointName", "Value": "e"},
        {"Name": "VariantName", "Value": "AllTraffic"},
    ]


def test_a_header_without_end_is_cut_off() -> None:
    async def scenario() -> None:
        endless = b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 60_000
        async with containers(lambda headers, body: endless) as (container,):
            pool = container_http.Pool(asyncio.get_running_loop())
            head = container_http.request_head("/invocations", "h", [], 0)
            with pytest.raises(container_http.Broken):
                await pool.post(f"127.0.0.1:{container.port}", head, b"", 5.0, 1000)
            pool.close()

    asyncio.run(scenario())
