"""`serve` over HTTP: the contract's three paths, limits, errors, and an end without a lost request."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import signal
import socket
from collections.abc import Iterator

import pytest

from tests.container.jobs import Job, Server, serving


@pytest.fixture
def server(job: Job) -> Iterator[Server]:
    (job.folder.model / "model_algo-1").write_text('{"mean": 2.5, "count": 4}')
    with serving(job, SAGEMAKER_BATCH="true") as running:
        yield running


@pytest.fixture
def trained(job: Job) -> Job:
    (job.folder.model / "model_algo-1").write_text('{"mean": 2.5, "count": 4}')
    return job


def test_the_three_paths_of_the_contract(server: Server) -> None:
    ping = server.call("/ping")
    assert (ping.status, ping.body) == (200, b"")
    parameters = server.call("/execution-parameters")
    assert json.loads(parameters.body) == {
        "MaxConcurrentTransforms": 1,
        "BatchStrategy": "MULTI_RECORD",
        "MaxPayloadInMB": 6,
    }
    answer = server.invoke(b"1,2\n", X_Amzn_SageMaker_Custom_Attributes="trace=7", Accept="application/json")
    assert answer.headers["Content-Type"] == "application/json"
    assert json.loads(answer.body) == {
        "mean": 2.5,
        "size": 4,
        "attributes": "trace=7",
        "accept": "application/json",
        "batch": "true",
    }


@pytest.mark.parametrize(
    ("body", "content_type", "status", "text"),
    [
        (b"", "text/csv", 204, ""),
        (b"1", "text/html", 415, "'text/html' is not text/csv"),
        (b"fail", "text/csv", 500, "The model failed: KeyError: 'inside'"),
        (b"deep", "text/csv", 400, "nested too deeply"),
    ],
)
def test_what_is_wrong_with_a_request_is_said_with_its_status(
    server: Server, body: bytes, content_type: str, status: int, text: str
) -> None:
    for _ in range(2):  # the first is answered in a thread, the second on the event loop
        reply = server.invoke(body, content_type)
        assert reply.status == status
        assert text in reply.body.decode()


def test_other_paths_and_methods_are_refused(server: Server) -> None:
    assert server.call("/models").status == 404
    assert server.call("/invocations").status == 405
    assert server.call("/ping", b"").status == 405


def test_a_body_beyond_the_limit_is_refused_with_and_without_a_length(trained: Job) -> None:
    with serving(trained, MAX_CONTENT_LENGTH="100000") as server:
        assert server.invoke(b"1" * 100000).status == 200
        reply = server.invoke(b"1" * 100001)
        assert reply.status == 413
        assert b"100000 bytes" in reply.body
        port = int(server.url.rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.sendall(b"POST /invocations HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            raw.sendall(b"%x\r\n%s\r\n" % (200000, b"1" * 200000))
            raw.settimeout(10)
            assert raw.recv(100).startswith(b"HTTP/1.1 413")
        assert server.call("/ping").status == 200


def test_batch_raises_the_limit_to_what_the_job_asked_for(trained: Job) -> None:
    with serving(trained, SAGEMAKER_BATCH="true", SAGEMAKER_MAX_PAYLOAD_IN_MB="8") as server:
        assert json.loads(server.call("/execution-parameters").body)["MaxPayloadInMB"] == 8
        assert server.invoke(b"1" * (7 << 20)).status == 200


def begun(server: Server, body: bytes) -> http.client.HTTPConnection:
    """A request that has been sent whole and is being answered, since a later one on the same loop was answered."""
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=30)
    connection.request("POST", "/invocations", body, {"Content-Type": "text/csv"})
    assert server.call("/ping").status == 200
    return connection


def test_ping_is_answered_while_a_slow_request_runs(server: Server) -> None:
    with contextlib.closing(begun(server, b"sleep 0.5")) as connection:
        assert select.select([connection.sock], [], [], 0) == ([], [], [])
        response = connection.getresponse()
        assert (response.status, response.read()[:5]) == (200, b'{"mea')


def test_sigterm_finishes_the_request_in_progress_and_ends_with_0(trained: Job) -> None:
    with serving(trained) as server, contextlib.closing(begun(server, b"sleep 0.5")) as connection:
        os.kill(server.process.pid, signal.SIGTERM)
        response = connection.getresponse()
        assert (response.status, response.read()[:5]) == (200, b'{"mea')
        assert server.process.wait(30) == 0


@pytest.mark.parametrize("content", [None, '{"mean": '])
def test_a_model_that_cannot_be_loaded_is_a_500_with_the_reason(job: Job, content: str | None) -> None:
    if content is not None:
        (job.folder.model / "model_algo-1").write_text(content)
    with serving(job) as server:
        for reply in (server.call("/ping"), server.invoke(b"1"), server.call("/execution-parameters")):
            assert reply.status == 500
            assert b"The model could not be loaded: ClientError:" in reply.body
    assert job.folder.failure.read_text().startswith("ClientError: ")


def test_the_number_of_workers_can_be_chosen(trained: Job) -> None:
    with serving(trained, MODEL_SERVER_WORKERS="3") as server:
        assert json.loads(server.call("/execution-parameters").body)["MaxConcurrentTransforms"] == 3


@pytest.mark.parametrize(
    ("environment", "text"),
    [
        ({"SAGEMAKER_MULTI_MODEL": "true"}, "multi-model is not built yet"),
        ({"SAGEMAKER_PROGRAM": "inference.py"}, "inference scripts are not built yet"),
        ({"MODEL_SERVER_WORKERS": "0"}, "MODEL_SERVER_WORKERS must be a whole number from 1 to 4096, found '0'"),
        ({"MAX_CONTENT_LENGTH": "much"}, "MAX_CONTENT_LENGTH must be a whole number from 1 to 1099511627776"),
    ],
)
def test_what_it_cannot_do_is_refused_at_the_start(trained: Job, environment: dict[str, str], text: str) -> None:
    ended = trained.run("serve", "mean", "--port", "0", **environment)
    assert ended.status == 1
    assert text in ended.failure


def test_a_taken_port_is_named(trained: Job) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = trained.run("serve", "mean", SAGEMAKER_BIND_TO_PORT=str(port))
    assert ended.status == 1
    assert ended.failure == f"ClientError: Cannot listen on 127.0.0.1:{port}: Address already in use\n"


def test_the_port_must_be_a_port(trained: Job) -> None:
    ended = trained.run("serve", "mean", "--port", "70000")
    assert ended.status == 2
    assert "'70000' is not a port" in ended.log
