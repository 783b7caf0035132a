"""An endpoint's instance in a real agent process."""

from __future__ import annotations

import os
import signal
import urllib.request

import psutil
import pytest

SERVE = """
import http.server, os, sys, pathlib, signal
base = pathlib.Path(sys.argv[sys.argv.index('--base') + 1])
port = int(sys.argv[sys.argv.index('--port') + 1])
assert port == int(os.environ['SAGEMAKER_BIND_TO_PORT'])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(str(os.getpid()).encode())
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print('serving', (base / 'model/w').read_text())
http.server.HTTPServer(('127.0.0.1', port), Handler).serve_forever()
"""
UNHEALTHY = (
    "The primary container for production variant AllTraffic did not pass the ping health check. "
    "Please check CloudWatch logs for this endpoint."
)


@pytest.fixture
def serve(start, server):
    server.objects["in/m/w"] = b"weights"

    def begin(script=SERVE, **changes):
        endpoint = {
            "kind": "endpoint",
            "run": "endpoint-1",
            "reports": "s3://runs/endpoint-1",
            "name": "AllTraffic",
            "log_group": "/aws/sagemaker/Endpoints/e",
            "log_stream": "AllTraffic/i-1",
            "models": [{"url": "s3://in/m/", "into": "model"}],
        }
        return start(script, **(endpoint | changes))

    return begin


def report(server):
    return server.report("endpoint-1")


def pid_at(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5) as answer:
        return int(answer.read())


def test_it_serves_until_it_is_stopped(server, serve):
    agent = serve()
    server.wait(lambda: report(server).get("phase") == "InService")
    pid_at(report(server)["port"])
    agent.terminate()
    last = agent.wait()
    assert [name for name, _ in last["phases"]] == ["Starting", "Downloading", "InService", "Stopping", "Exited"]
    assert (last["stopped"], last["exit"], agent.process.returncode) == (True, 0, 0)
    assert server.messages("AllTraffic/i-1")[0] == "serving weights"


def test_a_server_process_that_dies_is_started_again(server, serve):
    serve()
    server.wait(lambda: report(server).get("phase") == "InService")
    port = report(server)["port"]
    first = pid_at(port)
    os.kill(first, signal.SIGKILL)
    server.wait(lambda: [name for name, _ in report(server)["phases"]].count("InService") == 2)
    assert pid_at(report(server)["port"]) != first
    assert report(server)["port"] == port
    assert any("SIGKILL" in message for message in server.messages("AllTraffic/i-1"))


def test_a_server_that_dies_again_and_again_is_given_up(server, serve):
    agent = serve("print('no'); raise SystemExit(1)")
    last = agent.wait()
    assert last["failure"] == UNHEALTHY
    assert last["exit"] == 1
    assert server.messages("AllTraffic/i-1").count("no") == 3


def test_a_server_that_never_answers_is_given_up(server, serve):
    agent = serve("import time\nwhile True: time.sleep(60)", startup_timeout=0.5)
    assert agent.wait()["failure"] == UNHEALTHY
    assert not psutil.pid_exists(agent.process.pid)


def test_a_model_that_is_missing_fails_the_instance(serve):
    last = serve(models=[{"url": "s3://in/none.tar.gz", "into": "model"}]).wait()
    assert last["failure"].startswith("ClientError: Failed to download model data from s3://in/none.tar.gz: NoSuchKey")


def test_kinds_that_no_agent_runs_are_refused(start):
    assert start("", kind="processing").wait()["failure"].startswith("InternalServerError: agents run training, ")


REFUSING = """
import http.server, sys, pathlib
base = pathlib.Path(sys.argv[sys.argv.index('--base') + 1])
port = int(sys.argv[sys.argv.index('--port') + 1])
(base / 'output').mkdir(exist_ok=True)
(base / 'output' / 'failure').write_text('The model cannot be read.')
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(500); self.end_headers()
http.server.HTTPServer(('127.0.0.1', port), Handler).serve_forever()
"""


def test_a_container_that_says_why_it_cannot_serve_is_believed_at_once(server, serve):
    agent = serve(REFUSING, startup_timeout=240.0)
    last = agent.wait()
    assert last["failure"] == f"{UNHEALTHY} The model cannot be read."
