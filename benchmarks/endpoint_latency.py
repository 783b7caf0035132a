"""Latency and throughput of an endpoint from outside: signed requests to a real server with an XGBoost model.

    python benchmarks/endpoint_latency.py [seconds]

One signature serves all requests of a run (they are alike); the server checks it every time. The load comes from this
process, on the same cores as server and container, so it costs them time as `wrk` would.
"""

from __future__ import annotations

import asyncio
import io
import statistics
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import uvloop
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from sagesmith.algorithms import XGBoost
from sagesmith.services.container_http import Pool
from sagesmith.testing.server import RunningServer, running_server

IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1"
FEATURES, TREES = 20, 100
LIMIT = 1 << 20


def deploy(server: RunningServer, folder: Path) -> bytes:
    """Trains, deploys as endpoint "e", and returns a row for it."""
    random = np.random.default_rng(0)
    rows = random.random((2000, FEATURES), dtype=np.float32)
    model = XGBoost(objective="binary:logistic", num_round=TREES).fit(rows, (rows[:, 0] > 0.5).astype(np.float32))
    folder.mkdir()
    model.save(folder)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for path in folder.iterdir():
            archive.add(path, path.name)
    s3, sagemaker = server.client("s3"), server.client("sagemaker")
    s3.create_bucket(Bucket="models")
    s3.put_object(Bucket="models", Key="m/model.tar.gz", Body=packed.getvalue())
    container = {"Image": IMAGE, "ModelDataUrl": "s3://models/m/model.tar.gz"}
    variant = {"VariantName": "v", "ModelName": "m", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    sagemaker.create_model(ModelName="m", PrimaryContainer=container)
    sagemaker.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName="e", EndpointConfigName="c")
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="e", WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    return ",".join(f"{value:.4f}" for value in rows[0]).encode()


def signed_head(server: RunningServer, body: bytes) -> bytes:
    """The line and headers of an InvokeEndpoint with this body."""
    path = "/endpoints/e/invocations"
    request = AWSRequest("POST", server.address + path, data=body, headers={"Content-Type": "text/csv"})
    SigV4Auth(Credentials(server.key.id, server.key.secret), "sagemaker", "us-east-1").add_auth(request)
    headers = {**dict(request.headers.items()), "Host": urlsplit(server.address).netloc, "Content-Length": len(body)}
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def load(address: str, head: bytes, body: bytes, clients: int, seconds: float) -> None:
    """Prints what `clients` saw that each send one request after the other."""
    pool, took = Pool(asyncio.get_running_loop()), []
    ends_at = time.perf_counter() + seconds

    async def client() -> None:
        while (began := time.perf_counter()) < ends_at:
            response = await pool.post(address, head, body, 60.0, LIMIT)
            assert response.status == 200, response.body
            took.append(time.perf_counter() - began)

    await asyncio.gather(*(client() for _ in range(clients)))
    pool.close()
    cuts = statistics.quantiles(took, n=100)
    print(
        f"{clients:3d} clients  {len(took) / seconds:7.0f} requests/s   "
        f"p50 {cuts[49] * 1e3:6.2f} ms   p99 {cuts[98] * 1e3:6.2f} ms"
    )


def main(seconds: float) -> None:
    """Runs the benchmark."""
    with tempfile.TemporaryDirectory() as folder, running_server(Path(folder) / "data") as server:
        body = deploy(server, Path(folder) / "model")
        head = signed_head(server, body)
        address = urlsplit(server.address).netloc
        for clients in (1, 4, 16):
            uvloop.run(load(address, head, body, clients, seconds))
        server.client("sagemaker").delete_endpoint(EndpointName="e")
        while server.client("sagemaker").list_endpoints()["Endpoints"]:
            time.sleep(0.1)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 5.0)
