"""A server that is just enough for an agent: S3 objects, PutLogEvents, PutMetricData. It can go away and come back."""

from __future__ import annotations

import gzip
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit


class FakeServer:
    """Keeps its content while it is away; comes back on another port and writes it into `address_file`."""

    def __init__(self, address_file: Path) -> None:
        self.address_file = address_file
        self.objects: dict[str, bytes] = {}  # "bucket/key"
        self.puts: list[str] = []
        self.logs: dict[str, list[dict[str, Any]]] = {}
        self.metrics: list[dict[str, Any]] = []
        self.lose_answers = 0  # so many accepted PutLogEvents are answered with a broken connection
        self.changed = threading.Condition()
        self._http: ThreadingHTTPServer | None = None
        self.up()

    def up(self) -> None:
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"fake": self}))
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        self.address_file.write_text(f"http://127.0.0.1:{self._http.server_address[1]}")

    def down(self) -> None:
        assert self._http is not None
        self._http.shutdown()
        self._http.server_close()
        self._http = None

    def close(self) -> None:
        if self._http is not None:
            self.down()

    def messages(self, stream: str) -> list[str]:
        return [event["message"] for event in self.logs.get(stream, [])]

    def report(self, run: str, host: str = "algo-1") -> dict[str, Any]:
        return json.loads(self.objects.get(f"runs/{run}/{host}.json", b"{}"))

    def wait(self, condition: Any, timeout: float = 30) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, timeout), "it did not happen"


class Handler(BaseHTTPRequestHandler):
    fake: FakeServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _error(self, status: int, code: str) -> None:
        self._answer(status, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode())

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def do_PUT(self) -> None:
        name = unquote(urlsplit(self.path).path)[1:]
        body = self._body()
        with self.fake.changed:
            self.fake.objects[name] = body
            self.fake.puts.append(name)
            self.fake.changed.notify_all()
        self._answer(200, ETag=f'"{hashlib.md5(body).hexdigest()}"')

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        name = unquote(parts.path)[1:]
        query = parse_qs(parts.query)
        if "list-type" in query:
            return self._list(name, query.get("prefix", [""])[0])
        if name not in self.fake.objects:
            return self._error(404, "NoSuchKey")
        body = self.fake.objects[name]
        start = int(self.headers.get("Range", "bytes=0-")[6:].partition("-")[0])
        self._answer(206 if start else 200, body[start:], ETag=f'"{hashlib.md5(body).hexdigest()}"')

    def _list(self, bucket: str, prefix: str) -> None:
        bucket = bucket.strip("/")
        if bucket == "absent":
            return self._error(404, "NoSuchBucket")
        keys = sorted(name[len(bucket) + 1 :] for name in self.fake.objects if name.startswith(bucket + "/"))
        found = "".join(self._entry(bucket, key) for key in keys if key.startswith(prefix))
        flags = "<IsTruncated>false</IsTruncated><EncodingType>url</EncodingType>"
        self._answer(200, f"<ListBucketResult>{flags}{found}</ListBucketResult>".encode())

    def _entry(self, bucket: str, key: str) -> str:
        content = self.fake.objects[f"{bucket}/{key}"]
        etag = f"<ETag>&quot;{hashlib.md5(content).hexdigest()}&quot;</ETag><Size>{len(content)}</Size>"
        return f"<Contents><Key>{quote(key)}</Key>{etag}</Contents>"

    def do_POST(self) -> None:
        target = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
        request = json.loads(self._body())
        with self.fake.changed:
            status, answer = getattr(self, f"_{target}")(request)
            self.fake.changed.notify_all()
        if target == "PutLogEvents" and status == 200 and self.fake.lose_answers:
            self.fake.lose_answers -= 1
            self.close_connection = True
            return
        self._answer(status, json.dumps(answer).encode(), Content_Type="application/x-amz-json-1.1")

    def _CreateLogGroup(self, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        return 200, {}

    def _CreateLogStream(self, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.fake.logs.setdefault(request["logStreamName"], [])
        return 200, {}

    def _PutLogEvents(self, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        events = self.fake.logs.get(request["logStreamName"])
        if events is None:
            return 400, {"__type": "ResourceNotFoundException", "message": "no such stream"}
        if int(request["sequenceToken"]) != len(events):
            expected = {"expectedSequenceToken": str(len(events))}
            return 400, {"__type": "DataAlreadyAcceptedException", "message": "already accepted"} | expected
        events.extend(request["logEvents"])
        return 200, {"nextSequenceToken": str(len(events))}

    def _PutMetricData(self, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.fake.metrics.extend(request["MetricData"])
        return 200, {}
