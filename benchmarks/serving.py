"""One row to an XGBoost model of 100 trees: the container's `serve` beside other model servers, under wrk.

Every contestant serves the same booster, first shows that it predicts the same number, is warmed up, then measured
several times; the medians are printed as CSV. Peers live in virtual environments of their own, named by options, for
their dependencies clash; a peer without one is skipped, saying so.

    python benchmarks/serving.py --mlflow /tmp/peers/mlflow --bentoml /tmp/peers/bentoml --ray /tmp/peers/ray
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
PEERS = Path(__file__).parent / "serving_peers"
TREES, COLUMNS, ROWS = 100, 20, 5000
START_SECONDS = 120


@dataclass(frozen=True)
class Bench:
    """What all contestants are given."""

    folder: Path
    model: Path  # xgboost's own file
    base: Path  # the folder that stands for /opt/ml, the model in it
    row: list[float]
    expected: float


@dataclass(frozen=True)
class Contestant:
    """A server to compare. `command(bench, port)` starts it; it answers a POST of `body(row)` at `path`."""

    name: str
    command: Callable[[Bench, int], list[str]]
    path: str = "/invocations"
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "text/csv"})
    body: Callable[[list[float]], str] = lambda row: ",".join(map(str, row))
    environment: dict[str, str] = field(default_factory=dict)
    missing: str = ""  # why it cannot take part


@dataclass(frozen=True)
class Measured:
    """One run of wrk: requests per second, latencies in milliseconds, answers that were no 2xx or 3xx.

    `cpu` is the processor time that the server and its children took per request, in microseconds: on a machine that
    does other work too it is the steadiest of the figures.
    """

    rate: float
    p50: float
    p99: float
    errors: int
    cpu: float


def contestants(options: argparse.Namespace) -> list[Contestant]:
    """Ours first, then the least there can be, then the peers."""
    return [
        Contestant("sagesmith container", _container),
        Contestant("bare Starlette", lambda bench, port: _uvicorn(port)),
        Contestant(
            "MLflow models serve",
            lambda bench, port: _mlflow(Path(options.mlflow), bench, port),
            headers={"Content-Type": "application/json"},
            body=lambda row: json.dumps({"inputs": [row]}),
            missing=_missing("mlflow", options.mlflow),
        ),
        Contestant(
            "BentoML",
            lambda bench, port: _bentoml(Path(options.bentoml), port),
            headers={"Content-Type": "application/json"},
            body=lambda row: json.dumps({"row": row}),
            environment={"BENTOML_DO_NOT_TRACK": "true", "PYTHONPATH": str(PEERS)},
            missing=_missing("bentoml", options.bentoml),
        ),
        Contestant(
            "Ray Serve",
            lambda bench, port: [f"{options.ray}/bin/python", str(PEERS / "ray_app.py"), str(port)],
            environment={"RAY_USAGE_STATS_ENABLED": "0"},
            missing=_missing("ray", options.ray),
        ),
    ]


def _missing(option: str, environment: str) -> str:
    if not environment:
        return f"no virtual environment named with --{option}"
    return "" if Path(environment, "bin", "python").exists() else f"{environment} is not a virtual environment"


def _container(bench: Bench, port: int) -> list[str]:
    command = [sys.executable, "-m", "sagesmith.container", "serve", "sagemaker-xgboost"]
    return [*command, "--base", str(bench.base), "--port", str(port)]


def _uvicorn(port: int) -> list[str]:
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(PEERS), "starlette_app:app", "--port", str(port)]
    return [*command, "--no-access-log", "--loop", "uvloop", "--http", "httptools", "--log-level", "warning"]


def _mlflow(environment: Path, bench: Bench, port: int) -> list[str]:
    saved = bench.folder / "mlflow"
    if not saved.exists():
        command = [environment / "bin" / "python", PEERS / "mlflow_save.py", bench.model, saved]
        subprocess.run(list(map(str, command)), check=True, capture_output=True)
    command = [environment / "bin" / "mlflow", "models", "serve", "-m", saved, "-h", "127.0.0.1", "-p", port]
    return [*map(str, command), "--env-manager", "local"]


def _bentoml(environment: Path, port: int) -> list[str]:
    command = [str(environment / "bin" / "bentoml"), "serve", "bento_service:Rows", "--working-dir", str(PEERS)]
    return [*command, "--host", "127.0.0.1", "--port", str(port)]


def prepare(folder: Path) -> Bench:
    """A booster trained on made-up rows, saved where each contestant looks for it."""
    import numpy as np
    import xgboost

    random = np.random.default_rng(0)
    rows = random.normal(size=(ROWS, COLUMNS)).round(4).astype(np.float32)
    label = rows[:, 0] + rows[:, 1] * rows[:, 2] > 0
    settings = {"objective": "binary:logistic", "seed": 0, "nthread": 2}
    booster = xgboost.train(settings, xgboost.DMatrix(rows, label), TREES)
    base = folder / "ml"
    (base / "model").mkdir(parents=True)
    booster.save_model(folder / "model.ubj")
    shutil.copy(folder / "model.ubj", base / "model" / "xgboost-model")
    row = [float(str(value)) for value in rows[0]]
    expected = float(booster.inplace_predict(rows[:1])[0])
    return Bench(folder, folder / "model.ubj", base, row, expected)


@contextlib.contextmanager
def running(contestant: Contestant, bench: Bench) -> Iterator[tuple[str, int]]:
    """The contestant's URL and process while it serves; its whole process group is ended afterwards."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment = inherited | {"OMP_NUM_THREADS": "1", "MODEL": str(bench.model), "PYTHONPATH": str(ROOT)}
    command = contestant.command(bench, port)
    environment |= {
        "PATH": f"{Path(command[0]).parent}{os.pathsep}{inherited.get('PATH', '')}"
    } | contestant.environment
    log = (bench.folder / f"{contestant.name.replace(' ', '-')}.log").open("wb")
    with log:
        process = subprocess.Popen(
            command, env=environment, cwd=bench.folder, stdout=log, stderr=log, start_new_session=True
        )
        try:
            url = f"http://127.0.0.1:{port}{contestant.path}"
            _await(process, contestant, bench, url, Path(log.name))
            yield url, process.pid
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(15)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _await(process: subprocess.Popen[bytes], contestant: Contestant, bench: Bench, url: str, log: Path) -> None:
    """Waits for the first answer, which must be the booster's own."""
    request = urllib.request.Request(url, contestant.body(bench.row).encode(), contestant.headers)
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                answer = response.read().decode()
            break
        except (OSError, urllib.error.URLError) as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{contestant.name} did not answer ({error}):\n{log.read_text()[-2000:]}") from None
            time.sleep(0.2)
    numbers = re.findall(r"-?\d+\.\d+(?:[eE]-?\d+)?", answer)
    if len(numbers) != 1 or abs(float(numbers[0]) - bench.expected) > 1e-5:
        raise SystemExit(f"{contestant.name} answers {answer[:200]!r}, expected {bench.expected}")


def measure(
    url: str, process: int, contestant: Contestant, bench: Bench, options: argparse.Namespace
) -> list[Measured]:
    """`--runs` runs of wrk after one to warm up."""
    script = bench.folder / "post.lua"
    headers = "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in contestant.headers.items())
    script.write_text(f'wrk.method = "POST"\n{headers}\nwrk.body = [==[{contestant.body(bench.row)}]==]\n')
    runs = []
    for seconds in (2, *[options.seconds] * options.runs):
        command = [
            "wrk",
            "-t",
            "1",
            "-c",
            str(options.connections),
            "-d",
            f"{seconds}s",
            "--latency",
            "-s",
            str(script),
        ]
        before = _processor_seconds(process)
        done = subprocess.run([*command, url], check=True, capture_output=True, text=True)
        runs.append(_read(done.stdout, _processor_seconds(process) - before))
    return runs[1:]


def _processor_seconds(process: int) -> float:
    server = psutil.Process(process)
    total = 0.0
    for each in (server, *server.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            total += sum(each.cpu_times()[:2])
    return total


def _read(text: str, processor_seconds: float) -> Measured:
    def milliseconds(percent: str) -> float:
        found = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s)", text)
        assert found, text
        return float(found[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[found[2]]

    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    count = re.search(r"(\d+) requests in", text)
    assert rate, text
    assert count, text
    errors = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    return Measured(
        float(rate[1]),
        milliseconds("50"),
        milliseconds("99"),
        int(errors[1]) if errors else 0,
        1e6 * processor_seconds / max(1, int(count[1])),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints one line of CSV per contestant, and to stderr who was skipped and why."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    for peer in ("mlflow", "bentoml", "ray"):
        parser.add_argument(f"--{peer}", default="", metavar="VENV", help=f"virtual environment that has {peer}")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--seconds", type=int, default=5, help="length of a run")
    parser.add_argument("--runs", type=int, default=3, help="runs whose median is shown")
    options = parser.parse_args(arguments)
    if not shutil.which("wrk"):
        print("serving: skipped, wrk is not installed (Debian: apt-get install wrk)", file=sys.stderr)
        return
    print("server,connections,requests_per_second,p50_ms,p99_ms,cpu_us_per_request", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        bench = prepare(Path(folder))
        for contestant in contestants(options):
            if contestant.missing:
                print(f"{contestant.name}: skipped, {contestant.missing}", file=sys.stderr)
                continue
            with running(contestant, bench) as (url, process):
                runs = measure(url, process, contestant, bench, options)
            names = ("rate", "p50", "p99", "cpu")
            rate, p50, p99, cpu = (statistics.median(getattr(run, name) for run in runs) for name in names)
            if errors := sum(run.errors for run in runs):
                raise SystemExit(f"{contestant.name}: {errors} answers were errors; its figures mean nothing")
            print(f"{contestant.name},{options.connections},{rate:.0f},{p50:.3f},{p99:.3f},{cpu:.0f}", flush=True)


if __name__ == "__main__":
    main()
