"""A running server for tests: `with running_server(tmp_path) as server: server.client("s3").list_buckets()`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config as ClientConfig

from sagesmith.core.config import Config
from sagesmith.engines.base import State
from sagesmith.engines.local import LocalEngine
from sagesmith.gateway.keys import Key, Keys

START_SECONDS = 60.0


@dataclass
class RunningServer:
    """A server that answers, and how to reach, kill and restart it."""

    config: Config
    address: str
    key: Key
    process: subprocess.Popen[bytes] | None = None  # None: the server runs in a thread of this process
    environment: dict[str, str] = field(default_factory=dict)
    module: str = "sagesmith.server"

    def client(
        self, service: str, *, key: Key | None = None, region: str = "", config: ClientConfig | None = None
    ) -> Any:
        """A boto3 client that signs with the server's first key, or with `key`."""
        key = key or self.key
        retries = ClientConfig(retries={"total_max_attempts": 1}, read_timeout=60)
        return boto3.client(
            service,
            endpoint_url=self.address,
            region_name=region or self.config.region,
            aws_access_key_id=key.id,
            aws_secret_access_key=key.secret,
            config=retries.merge(config) if config is not None else retries,
        )

    def kill(self) -> None:
        """SIGKILL: the server process ends at once, whatever it does; its agents live on."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def restart(self) -> None:
        """Starts the server again on the same data folder, and on the same port if it was not 0."""
        assert self.process is not None
        self.process, self.address = _start(self.config, self.environment, self.module)

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()
            raise


@contextmanager
def running_server(data: Path, *, process: bool = True, **settings: Any) -> Iterator[RunningServer]:
    """Runs a server on a free loopback port.

    Args:
        data: its data folder.
        process: in a process of its own, which can be killed; else in a thread, which starts faster.
        settings: of Config; `environment` adds variables to the process, and `module` is what runs in it.
    """
    environment, module = settings.pop("environment", {}), settings.pop("module", "sagesmith.server")
    config = Config(**{"data": data, "port": 0, **settings})
    if not process:
        with _in_thread(config) as server:
            yield server
        return
    started, address = _start(config, environment, module)
    server = RunningServer(config, address, Keys(config.keys_file).first, started, environment, module)
    try:
        yield server
    finally:
        assert server.process is not None
        if server.process.poll() is None:
            server.stop()
        _end_jobs(config)


@contextmanager
def _in_thread(config: Config) -> Iterator[RunningServer]:
    from sagesmith.server import Server

    with Server(config) as server:
        thread = threading.Thread(target=server.run, name="server")
        thread.start()
        try:
            yield RunningServer(config, server.address, server.keys.first)
        finally:
            server.stop()
            thread.join()


def _end_jobs(config: Config) -> None:
    """Kills the jobs that outlive the server, as a test's folder does not."""
    engine = LocalEngine(config.runs)
    for run in config.runs.iterdir():
        engine.stop(run.name, 0)
    while any(engine.probe(run.name).state is State.RUNNING for run in config.runs.iterdir()):
        time.sleep(0.02)


def _start(config: Config, environment: dict[str, str], module: str) -> tuple[subprocess.Popen[bytes], str]:
    config.data.mkdir(parents=True, exist_ok=True)
    config.address_file.unlink(missing_ok=True)
    variables = {f"SAGESMITH_{item.name.upper()}": str(getattr(config, item.name)) for item in fields(config)}
    with (config.data / "server.log").open("ab") as log:
        started = subprocess.Popen(
            [sys.executable, "-m", module],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **variables, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    deadline = time.monotonic() + START_SECONDS
    ended = False
    while time.monotonic() < deadline and not ended:
        ended = started.poll() is not None  # asked before the file: one that was killed as soon as it listened has one
        with suppress(FileNotFoundError):  # it is written whole, once the server listens
            address = config.address_file.read_text("utf-8").strip()
            return started, address
        time.sleep(0.02)
    started.kill()
    started.wait()
    raise RuntimeError(f"the server did not start:\n{(config.data / 'server.log').read_text('utf-8', 'replace')}")
