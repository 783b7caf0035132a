"""`serve`: one model behind HTTP: GET /ping, POST /invocations, GET /execution-parameters.

uvicorn (uvloop, httptools) speaks HTTP; between it and `Algorithm.respond` lies one ASGI function (answering.py).
The model is loaded before the port is bound, so whoever can connect is answered.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from sagesmith.container.answering import Application, Limits
from sagesmith.container.failures import JobError, explain, fail
from sagesmith.container.finding import find
from sagesmith.container.log_lines import logger, start_logging
from sagesmith.contract import JobFolder

if TYPE_CHECKING:
    from sagesmith.algorithms.base import Algorithm

GRACE_SECONDS = 25  # SIGKILL follows SIGTERM after 30
KEEP_ALIVE_SECONDS = 120  # longer than client pools keep idle connections, so that none is closed under a request
BACKLOG = 2048


def serve(word: str, base: Path, *, host: str, port: int, port_file: Path | None = None) -> int:
    """Serves the model below `base` until SIGTERM, and returns the exit status.

    A model that cannot be loaded is served all the same, as status 500 with the reason: that is how SageMaker's
    health check learns of it. The reason is in output/failure too.
    """
    start_logging()
    folder = JobFolder(base.absolute())
    try:
        _refuse_unbuilt(os.environ)
        algorithm = find(word)
        start_logging(framework=algorithm.framework)
        algorithm.warm_up()
        limits = Limits.of(os.environ)
        model, reason = _load(algorithm, folder)
        listener = _bind(host, port)
    except (JobError, OSError) as error:
        return fail(folder, error)
    with listener:
        listener.listen(BACKLOG)
        bound = listener.getsockname()[1]
        if port_file:
            _write_port(port_file, bound)
        logger.info("Serving %s on %s:%d", algorithm.name, host, bound)
        _run(Application(model, reason, limits, os.environ), listener)
    logger.info("Stopped")
    return 0


def _refuse_unbuilt(environment: Mapping[str, str]) -> None:
    if environment.get("SAGEMAKER_MULTI_MODEL", "").lower() == "true":
        raise JobError("SAGEMAKER_MULTI_MODEL=true: this container serves one model; multi-model is not built yet")
    if program := environment.get("SAGEMAKER_PROGRAM", ""):
        raise JobError(f"SAGEMAKER_PROGRAM={program}: inference scripts are not built yet; this serves models alone")


def _load(algorithm: type[Algorithm], folder: JobFolder) -> tuple[Algorithm | None, str]:
    """The model, or the reason why it cannot be loaded."""
    folder.failure.unlink(missing_ok=True)
    try:
        if not folder.model.is_dir() or not any(folder.model.iterdir()):
            raise JobError(f"There is no model: {folder.model} is empty or absent")
        return algorithm.load(folder.model), ""
    except Exception as error:
        fail(folder, error, known=(ValueError, FileNotFoundError))
        return None, f"The model could not be loaded: {explain(error, known=(ValueError, FileNotFoundError))[0]}"


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise JobError(f"Cannot listen on {host}:{port}: {error.strerror or error}") from None
    return listener


def _write_port(path: Path, port: int) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(f"{port}\n")
    partial.replace(path)


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stops gracefully on SIGTERM. uvicorn's own version then raises the signal again and so dies of it."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.handle_exit)
        yield


def _run(application: Application, listener: socket.socket) -> None:
    """Answers until SIGTERM; requests in progress are finished."""
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    gc.freeze()  # modules and model stay; looking through them again and again would hold up requests
    config = uvicorn.Config(
        application,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    _Server(config).run(sockets=[listener])
