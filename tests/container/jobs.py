"""Jobs as they really run: `python -m sagesmith.container` as a process on a folder, with an algorithm of our own."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sagesmith.contract import JobFolder


@dataclass
class Ended:
    status: int
    log: str
    failure: str


@dataclass
class Job:
    """One host's folder, filled as an agent would, and the commands to run on it."""

    folder: JobFolder
    environment: dict[str, str]
    algorithm: str = "mean-predictor"
    channels: dict[str, dict[str, Any]] = field(default_factory=dict)

    def configure(self, name: str, content: Any) -> Job:
        path = {
            "hyperparameters": self.folder.hyperparameters,
            "resources": self.folder.resource_config,
            "checkpoints": self.folder.checkpoint_config,
            "channels": self.folder.input_data_config,
        }[name]
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return self

    def channel(self, name: str, content: str | bytes | None, **configuration: Any) -> Job:
        """A File channel with one file; content None: the configuration alone."""
        self.channels[name] = {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated"} | configuration
        self.configure("channels", self.channels)
        if content is not None:
            folder = self.folder.channel(name)
            folder.mkdir(parents=True, exist_ok=True)
            data = content.encode() if isinstance(content, str) else content
            (folder / "part-0.csv").write_bytes(data)
        return self

    def start(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        base = ["--base", str(self.folder.base)]
        return subprocess.Popen(
            [sys.executable, "-m", "sagesmith.container", *(command or ("train", self.algorithm)), *base],
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait(self, process: subprocess.Popen[str], timeout: float = 60) -> Ended:
        log, _ = process.communicate(timeout=timeout)
        failure = self.folder.failure.read_text() if self.folder.failure.exists() else ""
        return Ended(process.returncode, log, failure)

    def run(self, *command: str, **environment: str) -> Ended:
        return self.wait(self.start(*command, **environment))

    def model(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder.model / "model_algo-1").read_text())
        return content


@dataclass
class Reply:
    status: int
    body: bytes
    headers: Mapping[str, str]


@dataclass
class Server:
    process: subprocess.Popen[str]
    url: str

    def call(self, path: str, body: bytes | None = None, method: str = "", **headers: str) -> Reply:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.url + path, data=body, headers=named)
        request.method = method or ("POST" if body is not None else "GET")
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return Reply(response.status, response.read(), response.headers)
        except urllib.error.HTTPError as error:
            with error:
                return Reply(error.code, error.read(), error.headers)

    def invoke(self, body: bytes, content_type: str = "text/csv", **headers: str) -> Reply:
        return self.call("/invocations", body, Content_Type=content_type, **headers)


@contextlib.contextmanager
def serving(job: Job, *options: str, **environment: str) -> Iterator[Server]:
    """The container's `serve` on a free port of loopback."""
    port_file = job.folder.base / "port"
    command = ("serve", job.algorithm, "--port", "0", "--port-file", str(port_file), *options)
    process = job.start(*command, **environment)
    try:
        while not port_file.exists():
            if process.poll() is not None:
                assert process.stdout is not None
                raise AssertionError(f"serve ended with {process.returncode}: {process.stdout.read()}")
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.02)
        yield Server(process, f"http://127.0.0.1:{port_file.read_text().strip()}")
    finally:
        process.terminate()
        try:
            process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
