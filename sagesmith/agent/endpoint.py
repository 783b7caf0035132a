"""Kind endpoint: keeps the container's server running, and says where it answers."""

from __future__ import annotations

import http.client
import time

from sagesmith.agent.failures import JobFailed, Stopped
from sagesmith.agent.host import Host, Outcome
from sagesmith.agent.process import JobProcess, ending
from sagesmith.agent.rendezvous import free_port
from sagesmith.agent.staging_in import stage_models, write_configuration

PING_TIMEOUT = 2.0  # seconds for one answer to /ping
QUICK, SLOW = 0.05, 0.5  # seconds between pings, at first and after QUICKLY seconds
QUICKLY = 10.0
STARTUP = 240.0  # seconds until /ping must answer, unless the paper says otherwise
DEATHS = 3  # in a row, without an answer to /ping in between
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds before the server process is started again


def run(host: Host) -> Outcome:
    """An instance of an endpoint's variant, until it is asked to stop.

    Raises:
        JobFailed: the model cannot be staged, or the server never passes its health check.
        Stopped: asked to stop before the server ran.
    """
    host.folder.create()
    host.reporter.enter("Downloading")
    write_configuration(host.paper, host.folder)
    stage_models(host.paper, host.folder, host.server)
    deaths, port = 0, free_port()
    while True:
        serving = Serving(host, port)
        if serving.wait_until_healthy():
            deaths = 0
            host.reporter.enter("InService", port=port)
            serving.wait_for_end()
        if host.stopping.is_set():
            host.reporter.enter("Stopping")
            return Outcome(serving.process.stop(host.paper["stop_grace"]), stopped=True)
        alive = serving.process.running()
        code = serving.process.end()
        deaths += 1
        if alive or deaths >= DEATHS:
            raise JobFailed(unhealthy(host))
        host.spool.say(f"The server process ended ({ending(code)}) and is started again.")
        host.reporter.enter("Starting")
        if host.stopping.wait(min(FIRST_PAUSE * 2 ** (deaths - 1), LONGEST_PAUSE)):
            raise Stopped
        port = port if deaths == 1 else free_port()  # somebody else may have taken it


class Serving:
    """One run of the container's `serve` on a port. Also what batch transform sends its records to."""

    def __init__(self, host: Host, port: int) -> None:
        self._host = host
        self.port = port
        host.wake.clear()
        host.folder.failure.unlink(missing_ok=True)  # an earlier process may have left it
        variables = {"SAGEMAKER_BIND_TO_PORT": str(port), "SAGEMAKER_HTTP_PORT": str(port)}
        try:
            self.process: JobProcess = host.start(["--port", str(port)], variables)
        except OSError as error:
            raise JobFailed(f"ClientError: the serving command cannot be run: {error}") from None

    def wait_until_healthy(self) -> bool:
        """True when /ping answers 200.

        False when the process ends, says in output/failure that it cannot serve, takes too long, or we are asked to
        stop.
        """
        began = time.monotonic()
        limit = self._host.paper.get("startup_timeout", STARTUP)
        while self.process.running() and not self._host.stopping.is_set():
            if ping(self.port):
                return True
            passed = time.monotonic() - began
            if passed > limit or self._host.folder.failure.exists():
                return False
            self._host.wake.wait(QUICK if passed < QUICKLY else SLOW)
        return False

    def wait_for_end(self) -> None:
        """Returns when the process has ended or we are asked to stop."""
        while self.process.running() and not self._host.stopping.is_set():
            self._host.wake.wait()
            self._host.wake.clear()


def ping(port: int) -> bool:
    """Whether the container says that it is well."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PING_TIMEOUT)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def unhealthy(host: Host) -> str:
    """AWS's words for a container that does not pass its health check, and the container's own where it left some."""
    variant = host.paper["name"].rpartition("/")[2]
    return (
        f"The primary container for production variant {variant} did not pass the ping health check. "
        "Please check CloudWatch logs for this endpoint."
    ) + last_words(host)


def last_words(host: Host) -> str:
    """What the container left in output/failure, after a space; "" when it left nothing."""
    words = host.folder.failure.read_text("utf-8", "replace").strip() if host.folder.failure.exists() else ""
    return f" {words}" if words else ""
