"""The server as an agent sees it: S3, logs and CloudWatch at an address that may change with every restart."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError
from botocore.exceptions import ConnectionError as NoConnection

from sagesmith.agent.failures import Stopped
from sagesmith.contract import AgentPaper

FIRST_WAIT = 0.1  # seconds before the second attempt; doubled up to LONGEST_WAIT
LONGEST_WAIT = 5.0
READ_TIMEOUT = 60.0  # seconds without a byte before an answer is given up
Result = TypeVar("Result")


class Server:
    """Clients for the server, made when first needed and made anew when the server answers elsewhere.

    Args:
        paper: names the address file, the region and the keys.
        stopping: set when the agent was asked to stop; ends waits that are not `stubborn`.
    """

    def __init__(self, paper: AgentPaper, stopping: threading.Event | None = None) -> None:
        self._paper = paper
        self._lock = threading.Lock()
        self._address = ""
        self._clients: dict[str, Any] = {}
        self.stopping = stopping or threading.Event()

    def client(self, service: str) -> Any:
        """A botocore client (`s3`, `logs`, `cloudwatch`) for the address that the server has now."""
        with self._lock:
            address = Path(self._paper["address_file"]).read_text("utf-8").strip()
            if address != self._address:
                self._address, self._clients = address, {}
            if service not in self._clients:
                paper = self._paper
                self._clients[service] = create_client(
                    service, paper["region"], self._address, paper["access_key"], paper["secret_key"]
                )
            return self._clients[service]

    def insist(self, attempt: Callable[[], Result], *, stubborn: bool = False) -> Result:
        """Calls `attempt` again and again while the server is away or answers 5xx, and returns its result.

        Args:
            attempt: one try; takes its client from `client()` inside, so that a new address is found.
            stubborn: go on although the agent was asked to stop (uploads, the last report).

        Raises:
            ClientError: the server refuses (4xx).
            Stopped: the agent was asked to stop meanwhile.
            SystemExit: the server's data folder is gone, so no server will ever come back to it.
        """
        wait = FIRST_WAIT
        while True:
            try:
                return attempt()
            except (BotoCoreError, ClientError, OSError) as error:
                if not passing(error):
                    raise
            if not Path(self._paper["address_file"]).parent.is_dir():
                raise SystemExit("the server's data folder is gone")
            if stubborn:
                threading.Event().wait(wait)
            elif self.stopping.wait(wait):
                raise Stopped
            wait = min(2 * wait, LONGEST_WAIT)

    def call(self, service: str, operation: str, *, stubborn: bool = False, **request: Any) -> dict[str, Any]:
        """One operation by its botocore method name (`put_object`), insisted upon."""

        def attempt() -> dict[str, Any]:
            answer: dict[str, Any] = getattr(self.client(service), operation)(**request)
            return answer

        return self.insist(attempt, stubborn=stubborn)


@functools.cache
def _session() -> Any:
    """One session keeps the services' models for all clients, and for agents that are forked from a nursery."""
    return botocore.session.Session()


def create_client(service: str, region: str, address: str, access_key: str, secret_key: str) -> Any:
    """A botocore client that tries once: repeating is `Server.insist`'s."""
    client = _session().create_client(
        service,
        region_name=region,
        endpoint_url=address,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=Config(
            connect_timeout=5,
            read_timeout=READ_TIMEOUT,
            max_pool_connections=16,
            retries={"total_max_attempts": 1},
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
    client.meta.events.register("before-parse", _check_whole)
    return client


def _check_whole(operation_model: Any, response_dict: dict[str, Any], **_: Any) -> None:
    """Refuses an answer that broke off because the server was killed.

    botocore takes a status line without what should follow for a success with nothing in it: an empty listing.

    Raises:
        IncompleteReadError: a body shorter than its headers tell, or headers that do not tell.
    """
    headers, body = response_dict["headers"], response_dict["body"]
    if "transfer-encoding" in headers or response_dict["status_code"] in (204, 304):
        return
    told = headers.get("content-length", "")
    if not told.isdecimal():
        raise IncompleteReadError(actual_bytes=0, expected_bytes=1)  # of which nobody told how many
    streams = not isinstance(body, bytes)  # whoever reads it counts
    if not streams and operation_model.http["method"] != "HEAD" and len(body) != int(told):
        raise IncompleteReadError(actual_bytes=len(body), expected_bytes=int(told))


def passing(error: Exception) -> bool:
    """Whether trying again may help: the server is away, restarting, overloaded, or broke off."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status == 429 or (status >= 500 and status != 501)
    if isinstance(error, OSError):  # the address file is being replaced, or the connection broke while reading
        return isinstance(error, ConnectionError | FileNotFoundError | TimeoutError)
    return isinstance(error, HTTPClientError | NoConnection | IncompleteReadError)


def refusal(error: Exception) -> str:
    """What the server said when it refused, for a FailureReason: `NoSuchBucket (404): text`."""
    if not isinstance(error, ClientError):
        return str(error)
    detail = error.response.get("Error", {})
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", "")
    return f"{detail.get('Code')} ({status}): {detail.get('Message')}"


def code_of(error: ClientError) -> str:
    """AWS's error code of a refusal."""
    return str(error.response.get("Error", {}).get("Code", ""))
