"""What a server costs that does nothing: seconds from `sagesmith up` to its first answer, and memory when idle.

    python benchmarks/startup.py [--starts 7]

Each start has a new process; the first one also a new data folder, as on the first day. The first answer is that of
a signed ListTrainingJobs, so every part has been opened. Memory is the resident set of the server after IDLE seconds,
and of its children (the nursery of agents) beside it; `own` counts pages shared between processes once.
"""

from __future__ import annotations

import argparse
import http.client
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from sagesmith.core.config import Config
from sagesmith.gateway.keys import Keys

IDLE = 5.0  # seconds
PATIENCE = 60.0  # seconds for a server to start
ROOT = Path(__file__).resolve().parents[1]


def ask(address: str, config: Config) -> None:
    """A signed ListTrainingJobs that must succeed."""
    key = Keys(config.keys_file).first
    headers = {"X-Amz-Target": "SageMaker.ListTrainingJobs", "Content-Type": "application/x-amz-json-1.1"}
    request = AWSRequest("POST", address, data=b"{}", headers=headers)
    SigV4Auth(Credentials(key.id, key.secret), "sagemaker", config.region).add_auth(request)
    connection = http.client.HTTPConnection(urlsplit(address).netloc)
    connection.request("POST", "/", b"{}", dict(request.headers.items()))
    response = connection.getresponse()
    if response.status != 200:
        raise SystemExit(f"ListTrainingJobs answered {response.status}: {response.read().decode()}")
    connection.close()


def start(config: Config, environment: Mapping[str, str]) -> tuple[subprocess.Popen[bytes], float, float]:
    """The process, seconds until it listens, and until it has answered."""
    config.address_file.unlink(missing_ok=True)
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "sagesmith", "up"],
        env=dict(environment),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not config.address_file.exists():
        if process.poll() is not None or time.perf_counter() - began > PATIENCE:
            raise SystemExit("the server did not start")
        time.sleep(0.005)
    listens = time.perf_counter() - began
    ask(config.address_file.read_text("utf-8").strip(), config)
    return process, listens, time.perf_counter() - began


def megabytes(process: psutil.Process) -> tuple[float, float]:
    """Resident set, and the proportional one, in MB."""
    memory = process.memory_full_info()
    return memory.rss / 1e6, getattr(memory, "pss", memory.rss) / 1e6


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the medians."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--starts", type=int, default=7)
    options = parser.parse_args(arguments)
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        config = Config(data=Path(folder) / "data", port=0)
        variables = {"SAGESMITH_DATA": str(config.data), "SAGESMITH_PORT": "0", "PYTHONPATH": str(ROOT)}
        environment = {**os.environ, **variables}
        times = []
        for number in range(options.starts):
            process, listens, answers = start(config, environment)
            times.append((listens, answers))
            if number == options.starts - 1:
                time.sleep(IDLE)
                server = psutil.Process(process.pid)
                memory = {"server": megabytes(server)}
                memory |= {" ".join(one.cmdline()[1:3]): megabytes(one) for one in server.children(recursive=True)}
            process.send_signal(signal.SIGTERM)
            process.wait(30)
    print("measure,value")
    print(f"first start: first answer s,{times[0][1]:.2f}")
    print(f"later starts: listens s,{statistics.median(row[0] for row in times[1:]):.2f}")
    print(f"later starts: first answer s,{statistics.median(row[1] for row in times[1:]):.2f}")
    for name, (resident, proportional) in memory.items():
        print(f"{name}: resident MB,{resident:.0f}")
        print(f"{name}: own MB,{proportional:.0f}")


if __name__ == "__main__":
    main()
