"""What one InvokeEndpoint costs this process, in microseconds of its own processor time.

    python benchmarks/invoke_path.py [requests]

A container in a child process answers a fixed line; requests go one after the other through `invoke_endpoint`, through
the connection pool alone, and through httpx for comparison. Processor time is measured, so a busy machine matters less.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

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
BODY = b"0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8"
ROUNDS = 5


def serve(world: FakeWorld, port: int) -> None:
    """An endpoint in service whose only instance answers at the port."""
    variant = {"VariantName": "v", "ModelName": "m", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    world.call("CreateModel", ModelName="m", PrimaryContainer={"Image": IMAGE})
    world.call("CreateEndpointConfig", EndpointConfigName="c", ProductionVariants=[variant])
    world.call("CreateEndpoint", EndpointName="e", EndpointConfigName="c")
    world.settle()
    world.report(world.engine.running()[0], phase="InService", port=port)
    world.advance(1)


async def measure(name: str, ask: Callable[[], Awaitable[object]], requests: int) -> None:
    """Prints the median cost of a request over ROUNDS rounds."""
    for _ in range(100):
        await ask()
    costs = []
    for _ in range(ROUNDS):
        began, clock = time.process_time(), time.perf_counter()
        for _ in range(requests):
            await ask()
        costs.append(((time.process_time() - began) / requests, (time.perf_counter() - clock) / requests))
    cpu, wall = (statistics.median(column) * 1e6 for column in zip(*costs, strict=True))
    print(f"{name:32s} {cpu:7.1f} us of CPU   {wall:7.1f} us from call to answer")


async def main(world: FakeWorld, port: int, requests: int) -> None:
    """Measures the whole, its part, and a general client in the part's place."""
    request = {"EndpointName": "e", "Body": BODY, "ContentType": "text/csv", "Accept": "text/csv"}
    await measure("invoke_endpoint", lambda: runtime.invoke_endpoint(request, world.ctx), requests)
    pool, address = container_http.Pool(asyncio.get_running_loop()), f"127.0.0.1:{port}"
    head = container_http.request_head("/invocations", address, [("Content-Type", "text/csv")], len(BODY))
    await measure("container_http alone", lambda: pool.post(address, head, BODY, 60.0, 1 << 20), requests)
    pool.close()
    await runtime.close(world.world)
    try:
        import httpx
    except ImportError:
        return
    async with httpx.AsyncClient() as client:
        url = f"http://{address}/invocations"
        await measure("httpx alone", lambda: client.post(url, content=BODY), requests // 4)


if __name__ == "__main__":
    with subprocess.Popen([sys.executable, "-c", CONTAINER], stdout=subprocess.PIPE, text=True) as container:
        assert container.stdout is not None
        container_port = int(container.stdout.readline())
        with tempfile.TemporaryDirectory() as folder:
            fake = FakeWorld(Path(folder))
            serve(fake, container_port)
            uvloop.run(main(fake, container_port, int(sys.argv[1]) if len(sys.argv) > 1 else 5000))
            fake.close()
        container.terminate()
