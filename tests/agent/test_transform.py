"""The transform driver with a container and an object store that live in this process."""

from __future__ import annotations

import gzip
import io
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sagesmith.agent.channels import Source
from sagesmith.agent.failures import JobFailed, Stopped
from sagesmith.agent.host import Host
from sagesmith.agent.transform import Model, Plan, share_of, transform_object
from sagesmith.core.names import S3Uri

Answer = tuple[int, bytes]


class Container:
    """A container whose answers a test decides; remembers what it was sent."""

    def __init__(self) -> None:
        self.payloads: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.parameters: Answer = (404, b"")
        self.reply: Callable[[bytes], Answer] = lambda payload: (200, payload.upper())
        container = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(container.parameters)

            def do_POST(self) -> None:
                payload = self.rfile.read(int(self.headers["Content-Length"]))
                container.payloads.append(payload)
                container.headers.append(dict(self.headers.items()))
                self._answer(container.reply(payload))

            def _answer(self, answer: Answer) -> None:
                self.send_response(answer[0])
                self.send_header("Content-Length", str(len(answer[1])))
                self.end_headers()
                self.wfile.write(answer[1])

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Store:
    """An object store with the calls that the driver makes."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.largest_read = 0

    def client(self, service: str) -> Store:
        assert service == "s3"
        return self

    def call(self, service: str, operation: str, **request: Any) -> dict[str, Any]:
        answer: dict[str, Any] = getattr(self, operation)(**request)
        return answer

    def insist(self, attempt: Callable[[], Any]) -> Any:
        return attempt()

    def get_object(self, Bucket: str, Key: str, **_: Any) -> dict[str, Any]:
        content = self.objects[Key]
        return {"ContentLength": len(content), "ETag": '"e"', "Body": io.BytesIO(content)}

    def put_object(self, Bucket: str, Key: str, Body: Any) -> None:
        self.objects[Key] = Body.read()

    def list_objects_v2(self, Bucket: str, Prefix: str) -> dict[str, Any]:
        return {"Contents": [{"Key": key} for key in sorted(self.objects) if key.startswith(Prefix)]}


class Bench:
    """A host with its container and store."""

    def __init__(self, home: Path) -> None:
        self.container, self.store = Container(), Store()
        self.stopping = threading.Event()
        paper = {"host": "algo-1", "hosts": ["algo-1"]}
        fake = SimpleNamespace(home=home, server=self.store, stopping=self.stopping, paper=paper)
        self.host = cast(Host, fake)

    def transform(self, content: bytes, **members: Any) -> bytes:
        """The output for an object of this content."""
        request: dict[str, Any] = {
            "TransformInput": {"ContentType": "text/csv", "SplitType": "Line", **members.pop("source", {})},
            "TransformOutput": {"S3OutputPath": "s3://b/out/", **members.pop("target", {})},
            **members,
        }
        self.store.objects["in/x.csv"] = content
        model = Model(self.container.port, self.host)
        model.plan = Plan.of(request, model.parameters())
        try:
            transform_object(Source(S3Uri("b", "in/x.csv"), "x.csv"), request, model, self.host)
        finally:
            model.close()
        return self.store.objects["out/x.csv.out"]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.container.close()


def test_records_go_together_and_answers_come_back_in_order(bench: Bench) -> None:
    lines = b"\n".join(b"row%d" % number for number in range(1000))
    output = bench.transform(lines, target={"AssembleWith": "Line"}, MaxConcurrentTransforms=4)
    assert output == lines.upper() + b"\n"
    assert len(bench.container.payloads) == 1
    assert bench.container.headers[0]["Content-Type"] == "text/csv"


def test_single_records_run_concurrently_and_keep_their_order(bench: Bench) -> None:
    lines = [b"row%d" % number for number in range(60)]
    output = bench.transform(
        b"\n".join(lines), target={"AssembleWith": "Line"}, BatchStrategy="SingleRecord", MaxConcurrentTransforms=8
    )
    assert output == b"".join(line.upper() + b"\n" for line in lines)
    assert sorted(bench.container.payloads) == sorted(lines)


def test_without_assembly_answers_are_joined_as_they_are(bench: Bench) -> None:
    assert bench.transform(b"a\nb", BatchStrategy="SingleRecord") == b"AB"


def test_without_splitting_the_object_is_sent_whole(bench: Bench) -> None:
    assert bench.transform(b"a\nb\n", source={"SplitType": "None"}) == b"A\nB\n"


def test_gzip_input_is_inflated(bench: Bench) -> None:
    assert bench.transform(gzip.compress(b"a\nb"), source={"CompressionType": "Gzip"}) == b"A\nB"


def test_payloads_stay_below_their_limit(bench: Bench) -> None:
    line = b"x" * 300_000
    bench.transform(b"\n".join([line] * 10), MaxPayloadInMB=1)
    assert [len(payload) for payload in bench.container.payloads] == [900_002, 900_002, 900_002, 300_000]


def test_the_container_is_asked_for_what_the_request_leaves_open(bench: Bench) -> None:
    offered = {"MaxConcurrentTransforms": 3, "BatchStrategy": "SINGLE_RECORD", "MaxPayloadInMB": 9}
    bench.container.parameters = (200, json.dumps(offered).encode())
    model = Model(bench.container.port, bench.host)
    request: dict[str, Any] = {"TransformInput": {}, "TransformOutput": {}, "MaxPayloadInMB": 2}
    plan = Plan.of(request, model.parameters())
    model.close()
    assert (plan.concurrent, plan.payload, plan.together) == (3, 2 << 20, False)
    default = Plan.of({"TransformInput": {}, "TransformOutput": {}}, {})
    assert (default.concurrent, default.payload, default.together) == (1, 6 << 20, True)


def test_joined_records_are_matched_with_their_answers(bench: Bench) -> None:
    bench.container.reply = lambda payload: (200, b"\n".join(b"9" for _ in payload.split(b"\n")))
    output = bench.transform(
        b"1,2\n3,4\n",
        source={"ContentType": "text/csv"},
        target={"AssembleWith": "Line", "Accept": "text/csv"},
        DataProcessing={"InputFilter": "$[1:]", "JoinSource": "Input"},
    )
    assert bench.container.payloads == [b"2\n4"]
    assert output == b"1,2,9\n3,4,9\n"


def test_answers_that_cannot_be_matched_fail_the_job(bench: Bench) -> None:
    bench.container.reply = lambda payload: (200, b"9")
    with pytest.raises(JobFailed, match="1 lines to 2 records"):
        bench.transform(b"1\n2", DataProcessing={"JoinSource": "Input"})


def test_failures_of_the_container_are_tried_again(bench: Bench) -> None:
    answers = iter([(500, b"no"), (503, b"no"), (200, b"yes")])
    bench.container.reply = lambda payload: next(answers)
    assert bench.transform(b"a", ModelClientConfig={"InvocationsMaxRetries": 2}) == b"yes"


@pytest.mark.parametrize(("status", "prefix"), [(400, "ClientError"), (500, "AlgorithmError")])
def test_a_model_that_refuses_fails_the_job_and_leaves_no_output(bench: Bench, status: int, prefix: str) -> None:
    bench.container.reply = lambda payload: (status, b"bad row")
    with pytest.raises(JobFailed, match=rf"{prefix}: the model answered {status} .*s3://b/in/x.csv.*bad row"):
        bench.transform(b"a", ModelClientConfig={"InvocationsMaxRetries": 0})
    assert "out/x.csv.out" not in bench.store.objects


def test_a_record_above_the_limit_fails_the_job(bench: Bench) -> None:
    with pytest.raises(JobFailed, match=r"ClientError: s3://b/in/x.csv: record 2 .*MaxPayloadInMB"):
        bench.transform(b"a\n" + b"x" * (2 << 20), MaxPayloadInMB=1)


def test_stopping_ends_the_job(bench: Bench) -> None:
    bench.stopping.set()
    with pytest.raises(Stopped):
        bench.transform(b"a")


def test_objects_are_shared_out_by_key(bench: Bench) -> None:
    bench.store.objects = {f"in/sub/{name}": b"" for name in "abcde"} | {"other": b"", "in/": b""}
    location = {"S3DataType": "S3Prefix", "S3Uri": "s3://b/in/"}
    request = {"TransformInput": {"DataSource": {"S3DataSource": location}}}
    bench.host.paper["hosts"] = ["algo-1", "algo-2"]
    first = share_of(bench.host, request)
    bench.host.paper["host"] = "algo-2"
    second = share_of(bench.host, request)
    assert [source.path for source in first] == ["sub/a", "sub/c", "sub/e"]
    assert [source.path for source in second] == ["sub/b", "sub/d"]


def test_an_empty_prefix_fails_the_job(bench: Bench) -> None:
    location = {"S3DataType": "S3Prefix", "S3Uri": "s3://b/none/"}
    with pytest.raises(JobFailed, match="no objects found"):
        share_of(bench.host, {"TransformInput": {"DataSource": {"S3DataSource": location}}})


def test_a_manifest_names_the_objects(bench: Bench) -> None:
    bench.store.objects["m.json"] = json.dumps([{"prefix": "s3://b/in/"}, "y.csv", "z/w.csv"]).encode()
    location = {"S3DataType": "ManifestFile", "S3Uri": "s3://b/m.json"}
    found = share_of(bench.host, {"TransformInput": {"DataSource": {"S3DataSource": location}}})
    assert [(str(source.uri), source.path) for source in found] == [
        ("s3://b/in/y.csv", "y.csv"),
        ("s3://b/in/z/w.csv", "z/w.csv"),
    ]
