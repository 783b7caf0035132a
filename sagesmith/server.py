"""The server: joins gateway, rooms, store, engine and reconciler into one process.

`python -m sagesmith.server` runs it with the settings of the environment; `sagesmith up` does the same.
"""

from __future__ import annotations

import fcntl
import gc
import importlib
import ipaddress
import logging
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

import uvicorn

from sagesmith.core.clock import SystemClock
from sagesmith.core.config import Config
from sagesmith.core.operation import World
from sagesmith.engines.base import Engine
from sagesmith.gateway.access_log import AccessLog
from sagesmith.gateway.app import Gateway
from sagesmith.gateway.connection import LimitedConnection
from sagesmith.gateway.keys import Keys
from sagesmith.reconciler import Reconciler
from sagesmith.services import load_rooms, runtime
from sagesmith.services.catalogue import catalogue_of
from sagesmith.store.database import Database
from sagesmith.store.local_objects import LocalObjects
from sagesmith.store.objects import Objects
from sagesmith.store.remote_objects import RemoteObjects

log = logging.getLogger("sagesmith")

BACKLOG = 1024  # connections that may wait to be accepted
GRACE = 10  # seconds that requests under way are given to end


def serve(config: Config) -> None:
    """Runs a server until SIGTERM or SIGINT.

    Raises:
        ValueError: settings that cannot go together.
        OSError: the address is taken, or another server runs on the same data folder.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    with Server(config) as server:
        log.info('clients find it after: eval "$(sagesmith env --data %s)"', config.data)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: server.stop())
        server.run()


class Server:
    """One server; entering the context opens everything and listens, `run` answers until `stop`."""

    def __init__(self, config: Config) -> None:
        _check(config)
        self.config = config
        self.address = ""
        self._stack = ExitStack()

    def __enter__(self) -> Server:
        with self._stack:
            self._open(self._stack)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _open(self, stack: ExitStack) -> None:
        config = self.config
        config.data.mkdir(parents=True, exist_ok=True)
        stack.enter_context(_alone(config.data))
        self.socket = stack.enter_context(_listen(config))
        self.keys = Keys(config.keys_file)
        load_rooms()
        self.world = _world(config, self.keys, stack)
        if config.engine != "none":
            catalogue_of(config)  # starts to ask for the algorithms; whoever needs them first waits
        stack.callback(self.world.engine.close)
        access_log = AccessLog(config.data / "access.log")
        stack.callback(access_log.close)
        gateway = Gateway(self.world, self.keys, self.world.objects.scratch, access_log)
        stack.callback(gateway.close)
        reconciler = Reconciler(self.world)
        self.world.poke = reconciler.poke
        self._uvicorn = _Uvicorn(uvicorn_config(gateway))
        self._uvicorn.world = self.world
        self.address = _url(config, self.socket)
        _write_address(config, self.address)
        reconciler.start()
        stack.callback(reconciler.stop)
        log.info("sagesmith answers at %s, data in %s", self.address, config.data)

    def run(self) -> None:
        """Answers requests in this thread until `stop` is called."""
        gc.freeze()  # modules and models stay; looking through them again and again would hold up requests
        self._uvicorn.run(sockets=[self.socket])

    def stop(self) -> None:
        """Asks `run` to end once the requests under way are answered; may be called from anywhere."""
        self._uvicorn.should_exit = True


class _Uvicorn(uvicorn.Server):
    """uvicorn would raise SIGTERM again once it has stopped, and so end the process before everything is closed."""

    world: World

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends as uvicorn does, then hands over the invocation metrics that are still in memory."""
        await super().shutdown(sockets)
        await runtime.close(self.world)


def _check(config: Config) -> None:
    if _is_loopback(config.host):
        return
    if not config.auth:
        raise ValueError(f"without signature checks the server may only listen on loopback, not on {config.host}")
    log.warning(
        "listening on %s without TLS: put a TLS proxy before it, or keep the network to people you trust", config.host
    )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextmanager
def _alone(data: Path) -> Iterator[IO[str]]:
    """Holds the data folder; the lock ends with the process, however that ends.

    Raises:
        OSError: another process holds it.
    """
    with (data / "lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise BlockingIOError(f"another server (process {holder}) runs on the data folder {data}") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield file


@contextmanager
def _listen(config: Config) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((config.host, config.port))
        except OSError as error:
            raise OSError(error.errno, f"cannot listen on {config.host} port {config.port}: {error.strerror}") from None
        listener.listen(BACKLOG)
        yield listener


def _url(config: Config, listener: socket.socket) -> str:
    host = config.host
    with suppress(ValueError):
        if ipaddress.ip_address(host).is_unspecified:
            host = "::1" if ":" in host else "127.0.0.1"
    return (
        f"http://[{host}]:{listener.getsockname()[1]}" if ":" in host else f"http://{host}:{listener.getsockname()[1]}"
    )


def _write_address(config: Config, address: str) -> None:
    partial = config.address_file.with_name(".address.partial")
    partial.write_text(address + "\n", "utf-8")
    partial.replace(config.address_file)


def _world(config: Config, keys: Keys, stack: ExitStack) -> World:
    database = Database(config.database_url)
    stack.callback(database.close)
    agent = keys.agent
    return World(
        config=config,
        clock=SystemClock(),
        database=database,
        objects=_objects(config),
        engine=_engine(config),
        agent_key=(agent.id, agent.secret),
        issue_key=keys.issue,
    )


def _objects(config: Config) -> Objects:
    """Plain files below the data folder, or another S3 server with the credentials that the environment gives."""
    folder = config.objects
    _clear(folder / ".tmp")
    if config.s3_endpoint:
        return RemoteObjects(config.s3_endpoint, folder / ".tmp", config.region)
    return LocalObjects(folder)


def _clear(scratch: Path) -> None:
    """Drops what was being received when a server was killed; nobody else writes there while we hold the folder."""
    for path in scratch.glob("*"):
        if path.is_file():
            path.unlink()


def _engine(config: Config) -> Engine:
    """The engine of `sagesmith/engines/<name>.py`.

    Raises:
        ValueError: there is none of that name.
    """
    name = f"sagesmith.engines.{config.engine}"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ValueError(
            f"there is no engine {config.engine!r}: no file sagesmith/engines/{config.engine}.py"
        ) from None
    engine: Engine = module.create(config)
    return engine


def uvicorn_config(gateway: Gateway) -> uvicorn.Config:
    return uvicorn.Config(
        gateway,
        loop="uvloop",
        http=LimitedConnection,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=GRACE,
    )


if __name__ == "__main__":
    serve(Config.load())
