"""Where each microsecond of a signed InvokeEndpoint goes: processor time of the two processes it passes, step by step.

    python benchmarks/invoke_path.py [--requests 2000]

One CSV row to an XGBoost model of 100 trees. Steps are called one by one in loops, with everything in its caches, so
their sum is less than what a request costs under load; the wholes tell what is left. Only the exchange with the
container crosses a socket (to an echo in a child process); HTTP is spoken to a transport that keeps what is written.
Medians of five rounds, processor time, which a busy machine disturbs least.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvloop
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from sagesmith.core.clock import SystemClock
from sagesmith.core.validate import validate
from sagesmith.gateway import answers, app, route
from sagesmith.gateway.access_log import AccessLog
from sagesmith.gateway.connection import LimitedConnection
from sagesmith.gateway.credentials import claim_of
from sagesmith.gateway.keys import Keys
from sagesmith.server import uvicorn_config
from sagesmith.services import cloudwatch, container_http, runtime  # noqa: F401 - cloudwatch takes the metrics
from sagesmith.services.sagemaker import endpoint_configs, endpoints, models  # noqa: F401 - registers the operations
from sagesmith.testing.fake_engine import IMAGE, FakeWorld

CONTAINER = """
import asyncio, uvloop
ANSWER = b"HTTP/1.1 200 OK\\r\\ncontent-type: text/csv\\r\\ncontent-length: 4\\r\\n\\r\\n0.5\\n"
class Echo(asyncio.Protocol):
    def connection_made(self, transport): self.transport = transport
    def data_received(self, data): self.transport.write(ANSWER)
async def main():
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
uvloop.run(main())
"""
COLUMNS, TREES = 20, 100
ROUNDS = 5
PATH = "/endpoints/e/invocations"
ANSWER = {"Body": b"0.5\n", "ContentType": "text/csv", "InvokedProductionVariant": "v"}
ROOT = Path(__file__).resolve().parents[1]

Ask = Callable[[], Awaitable[object]]


def show(name: str, costs: list[float]) -> None:
    print(f'"{name}",{statistics.median(costs) * 1e6:.1f}', flush=True)


def step(name: str, call: Callable[[], object], requests: int) -> None:
    """Prints what a plain call costs."""
    costs = []
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(requests):
            call()
        costs.append((time.process_time() - began) / requests)
    show(name, costs)


async def whole(name: str, ask: Ask, requests: int) -> None:
    """Prints what an awaited call costs this process."""
    costs = []
    for _ in range(ROUNDS + 1):
        began = time.process_time()
        for _ in range(requests):
            await ask()
        costs.append((time.process_time() - began) / requests)
    show(name, costs[1:])


class Kept(asyncio.Transport):
    """A transport that counts the answers written to it, and tells who waits for one."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.written: asyncio.Future[None] | None = None

    def write(self, data: Any) -> None:
        if self.written is not None and not self.written.done():
            self.written.set_result(None)

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...
    def close(self) -> None: ...


class OverHttp:
    """An ASGI application behind uvicorn's protocol, as the server configures it, without a socket."""

    def __init__(self, application: Any, request: bytes) -> None:
        from uvicorn.server import ServerState

        config = uvicorn_config(application)
        config.load()
        self.request, self.transport = request, Kept()
        self.protocol = LimitedConnection(config, ServerState(), {}, asyncio.get_running_loop())
        self.protocol.connection_made(self.transport)

    async def ask(self) -> None:
        """One request, until its answer has been written whole."""
        self.transport.written = asyncio.get_running_loop().create_future()
        self.protocol.data_received(self.request)
        await self.transport.written
        await asyncio.sleep(0)


async def bare(scope: Any, receive: Any, send: Any) -> None:
    """The least application: reads the body, answers."""
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"0.5\n"})


def signed(key: Any, body: bytes) -> dict[str, str]:
    request = AWSRequest("POST", f"http://127.0.0.1:1{PATH}", data=body, headers={"Content-Type": "text/csv"})
    SigV4Auth(Credentials(key.id, key.secret), "sagemaker", "us-east-1").add_auth(request)
    return {**dict(request.headers.items()), "Host": "127.0.0.1:1", "Content-Length": str(len(body))}


def serve(world: FakeWorld, port: int) -> None:
    """An endpoint in service whose only instance answers at the port."""
    variant = {"VariantName": "v", "ModelName": "m", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    world.call("CreateModel", ModelName="m", PrimaryContainer={"Image": IMAGE})
    world.call("CreateEndpointConfig", EndpointConfigName="c", ProductionVariants=[variant])
    world.call("CreateEndpoint", EndpointName="e", EndpointConfigName="c")
    world.settle()
    world.report(world.engine.running()[0], phase="InService", port=port)
    world.advance(1)
    world.world.clock = SystemClock()


class Request:
    """The scope of one signed request, and what ASGI needs around it."""

    def __init__(self, headers: dict[str, str], body: bytes) -> None:
        self.body = body
        self.scope = {
            "type": "http",
            "method": "POST",
            "scheme": "http",
            "raw_path": PATH.encode(),
            "path": PATH,
            "query_string": b"",
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        }
        lines = [f"POST {PATH} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        self.wire = ("\r\n".join(lines) + "\r\n\r\n").encode() + body

    async def receive(self) -> dict[str, Any]:
        return {"type": "http.request", "body": self.body, "more_body": False}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start" and message["status"] != 200:
            raise SystemExit(f"the gateway answered {message['status']}")


async def gateway_steps(gateway: app.Gateway, request: Request, requests: int) -> None:
    """The steps inside the gateway, in their order."""
    incoming = app.incoming_of(request.scope)
    incoming.body = request.body
    claim = claim_of(incoming)
    found = route.operation_of(incoming, route.service_of(incoming, claim))
    assert found.model is not None
    assert found.model.input_shape is not None
    model, shape = found.model, found.model.input_shape
    members = found.wire.parse(incoming, model)
    outgoing = found.wire.serialise(ANSWER, model, "id")
    exchange = app.Exchange(request.receive, incoming, "id", 0.0, claim, found, status=200)
    authenticate = gateway.authority.authenticate
    step("gateway: headers into Incoming", lambda: app.incoming_of(request.scope), requests)
    step("gateway: claim", lambda: claim_of(incoming), requests)
    step("gateway: route", lambda: route.operation_of(incoming, route.service_of(incoming, claim)), requests)
    step("gateway: key look-up and signature", lambda: authenticate(incoming, claim, found), requests)
    step("gateway: parse", lambda: found.wire.parse(incoming, model), requests)
    step("gateway: validate", lambda: validate(members, shape, "ValidationError"), requests)
    step("gateway: serialise", lambda: found.wire.serialise(ANSWER, model, "id"), requests)
    await whole(
        "gateway: send the answer", lambda: answers.send_answer(outgoing, "POST", "id", found, request.send), requests
    )
    if (log := gateway.access_log) is not None:
        step("gateway: access log", lambda: log.add(exchange), requests)


async def server_process(world: FakeWorld, port: int, folder: Path, body: bytes, requests: int) -> None:
    """What the server's process does for a request."""
    keys = Keys(folder / "keys.json")
    log = AccessLog(folder / "access.log")
    gateway = app.Gateway(world.world, keys, folder, log)
    request = Request(signed(keys.first, body), body)
    await whole("uvicorn: HTTP around an empty application", OverHttp(bare, request.wire).ask, requests)
    await gateway_steps(gateway, request, requests)
    members = {"EndpointName": "e", "Body": body, "ContentType": "text/csv"}
    pool, address = container_http.Pool(asyncio.get_running_loop()), f"127.0.0.1:{port}"
    head = container_http.request_head("/invocations", address, [("Content-Type", "text/csv")], len(body))
    await whole("container over a socket (container_http)", lambda: pool.post(address, head, body, 60, 1024), requests)
    await whole("invoke_endpoint, container included", lambda: runtime.invoke_endpoint(members, world.ctx), requests)
    await whole(
        "gateway and invoke_endpoint, whole", lambda: gateway(request.scope, request.receive, request.send), requests
    )
    await whole("server process, whole but its clients' sockets", OverHttp(gateway, request.wire).ask, requests)
    pool.close()
    await runtime.close(world.world)
    gateway.close()
    log.close()


async def container_process(body: bytes, requests: int) -> None:
    """What the container's process does for it."""
    import numpy as np

    from sagesmith.algorithms import XGBoost
    from sagesmith.algorithms.base import Request as Row
    from sagesmith.algorithms.xgboost import dense
    from sagesmith.container.answering import Application, Limits

    random = np.random.default_rng(0)
    rows = random.normal(size=(5000, COLUMNS)).astype(np.float32)
    label = (rows[:, 0] + rows[:, 1] * rows[:, 2] > 0).astype(np.float32)
    model = XGBoost(objective="binary:logistic", num_round=TREES, seed=0).fit(rows, label)
    row = Row(body, "text/csv", "", "", {})
    model.respond(row)
    booster, settings = model.booster_model, dense.configuration((0, 0))
    one = rows[:1].copy()
    step("container: one row through xgboost's C function", lambda: dense.predict(booster, one, settings), requests)
    step("container: XGBoost.respond, CSV to CSV", lambda: model.respond(row), requests)
    request = f"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\nContent-Type: text/csv\r\n\r\n"
    application = Application(model, "", Limits(), {})
    await whole("container: whole but its socket", OverHttp(application, request.encode() + body).ask, requests)


async def main(world: FakeWorld, port: int, folder: Path, requests: int) -> None:
    """Prints the table."""
    body = ",".join(f"{value / 7:.4f}" for value in range(COLUMNS)).encode()
    print("step,microseconds")
    gc.freeze()
    await server_process(world, port, folder, body, requests)
    await container_process(body, requests)


if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # in place of this folder, where `import xgboost` would find xgboost.py
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--requests", type=int, default=2000, help="in a round")
    options = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors", file=sys.stderr)
    with subprocess.Popen([sys.executable, "-c", CONTAINER], stdout=subprocess.PIPE, text=True) as container:
        assert container.stdout is not None
        container_port = int(container.stdout.readline())
        with tempfile.TemporaryDirectory() as temporary:
            fake = FakeWorld(Path(temporary))
            serve(fake, container_port)
            uvloop.run(main(fake, container_port, Path(temporary), options.requests))
            fake.close()
        container.terminate()
