"""One row to an XGBoost model of 100 trees: our endpoint and container beside other model servers, under wrk.

Every contestant serves the same booster and first shows that it predicts the same number. In each round all of them
are started, warmed up, measured and ended, one after the other; the medians over the rounds are printed as CSV. Peers
live in virtual environments of their own, named by options, for their dependencies clash; a peer without one is
skipped, saying so. The endpoint is asked through the whole server, with a signature that is checked every time.

    python benchmarks/serving.py --mlflow /tmp/peers/mlflow --bentoml /tmp/peers/bentoml --ray /tmp/peers/ray
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # in place of this folder, where `import xgboost` would find xgboost.py
PEERS = Path(__file__).parent / "serving_peers"
TREES, COLUMNS, ROWS = 100, 20, 5000
START_SECONDS = 120
WARM_SECONDS = 1


@dataclass(frozen=True)
class Bench:
    """What all contestants are given."""

    folder: Path
    model: Path  # xgboost's own file
    base: Path  # the folder that stands for /opt/ml, the model in it
    archive: Path  # the model as SageMaker keeps it
    row: list[float]
    expected: float

    @property
    def ready(self) -> Path:
        return self.folder / "ready.json"


@dataclass(frozen=True)
class Contestant:
    """A server to compare. `command(bench, port)` starts it; it answers a POST of `body(row)` at `path`.

    Where `ready` is true, headers are first known once it runs: it writes them to `Bench.ready`.
    """

    name: str
    command: Callable[[Bench, int], list[str]]
    path: str = "/invocations"
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "text/csv"})
    body: Callable[[list[float]], str] = lambda row: ",".join(map(str, row))
    environment: dict[str, str] = field(default_factory=dict)
    ready: bool = False
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


NAMES = ("rate", "p50", "p99", "cpu")


def contestants(options: argparse.Namespace) -> list[Contestant]:
    """Ours first, then the least there can be, then the peers."""
    return [
        Contestant("sagesmith endpoint", _endpoint, "/endpoints/rows/invocations", ready=True),
        Contestant("sagesmith container", _container),
        Contestant(
            "bare Starlette",
            lambda bench, port: _uvicorn(port),
            missing="" if importlib.util.find_spec("starlette") else "starlette is not installed: `make bench` does it",
        ),
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


def _endpoint(bench: Bench, port: int) -> list[str]:
    script = PEERS / "sagesmith_endpoint.py"
    return [sys.executable, str(script), str(port), str(bench.archive), str(bench.ready)]


def _uvicorn(port: int) -> list[str]:
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(PEERS), "starlette_app:app", "--port", str(port)]
    return [*command, "--no-access-log", "--loop", "uvloop", "--http", "httptools", "--log-level", "warning"]


def _mlflow(environment: Path, bench: Bench, port: int) -> list[str]:
    saved = bench.folder / "mlflow"
    if not saved.exists():
        save = [environment / "bin" / "python", PEERS / "mlflow_save.py", bench.model, saved]
        subprocess.run(list(map(str, save)), check=True, capture_output=True)
    command = [str(environment / "bin" / "mlflow"), "models", "serve", "-m", str(saved), "-h", "127.0.0.1"]
    return [*command, "-p", str(port), "--env-manager", "local"]


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
    archive = folder / "model.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(folder / "model.ubj", "xgboost-model")
    row = [float(str(value)) for value in rows[0]]
    expected = float(booster.inplace_predict(rows[:1])[0])
    return Bench(folder, folder / "model.ubj", base, archive, row, expected)


@contextlib.contextmanager
def running(contestant: Contestant, bench: Bench) -> Iterator[tuple[str, dict[str, str], int]]:
    """The contestant's URL, headers and process while it serves; all its processes are ended afterwards."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    bench.ready.unlink(missing_ok=True)
    command = contestant.command(bench, port)
    log = bench.folder / f"{contestant.name.replace(' ', '-')}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=_environment(contestant, bench, command[0]),
            cwd=bench.folder,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}{contestant.path}"
        yield url, _await(process, contestant, bench, url, log), process.pid
    finally:
        _end(process, bench)


def _environment(contestant: Contestant, bench: Bench, program: str) -> dict[str, str]:
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return (
        inherited
        | {
            "OMP_NUM_THREADS": "1",
            "MODEL": str(bench.model),
            "BODY": contestant.body(bench.row),
            "PYTHONPATH": str(ROOT),
            "PATH": f"{Path(program).parent}{os.pathsep}{inherited.get('PATH', '')}",
        }
        | contestant.environment
    )


def _end(process: subprocess.Popen[bytes], bench: Bench) -> None:
    """SIGTERM to the contestant, SIGKILL to what is left of it 15 seconds later."""
    everything = processes(process.pid, bench)
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(15)
    for one in psutil.wait_procs(everything, 3)[1]:
        with contextlib.suppress(psutil.Error):
            one.kill()
    process.wait()


def processes(pid: int, bench: Bench) -> list[psutil.Process]:
    """A contestant's processes: its children, and what has left the family but names the benchmark's folder."""
    found = {}
    with contextlib.suppress(psutil.Error):
        server = psutil.Process(pid)
        found = {one.pid: one for one in (server, *server.children(recursive=True))}
    for one in psutil.process_iter(["cmdline"]):
        if any(str(bench.folder) in word for word in one.info["cmdline"] or ()):
            found[one.pid] = one
    return list(found.values())


def _await(
    process: subprocess.Popen[bytes], contestant: Contestant, bench: Bench, url: str, log: Path
) -> dict[str, str]:
    """Waits for the first answer, which must be the booster's own, and returns the headers to ask with."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            headers = json.loads(bench.ready.read_text()) if contestant.ready else contestant.headers
            request = urllib.request.Request(url, contestant.body(bench.row).encode(), headers)
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
    return headers


def measure(contestant: Contestant, bench: Bench, options: argparse.Namespace) -> Measured:
    """One run of wrk on a freshly started contestant, after a short one to warm up."""
    with running(contestant, bench) as (url, headers, pid):
        script = bench.folder / "post.lua"
        lines = [f'wrk.headers["{name}"] = "{value}"' for name, value in headers.items()]
        body = f"wrk.body = [==[{contestant.body(bench.row)}]==]"
        script.write_text("\n".join(['wrk.method = "POST"', *lines, body, ""]))
        for seconds in (WARM_SECONDS, options.seconds):
            everything = processes(pid, bench)
            before = _processor_seconds(everything)
            command = ["wrk", "-t1", f"-c{options.connections}", f"-d{seconds}s", "--latency", "-s", str(script), url]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            measured = _read(done.stdout, _processor_seconds(everything) - before)
        return measured


def _processor_seconds(everything: Sequence[psutil.Process]) -> float:
    total = 0.0
    for each in everything:
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


def compare(taking_part: Sequence[Contestant], bench: Bench, options: argparse.Namespace) -> None:
    """Prints one line of CSV per contestant: the medians over the rounds, and its rate beside the first one's."""
    runs: dict[str, list[Measured]] = {one.name: [] for one in taking_part}
    for number in range(1, options.rounds + 1):
        for one in taking_part:
            print(f"round {number} of {options.rounds}: {one.name}", file=sys.stderr, flush=True)
            measured = measure(one, bench, options)
            if measured.errors:
                raise SystemExit(f"{one.name}: {measured.errors} answers were errors; its figures mean nothing")
            runs[one.name].append(measured)
    print("server,connections,requests_per_second,p50_ms,p99_ms,cpu_us_per_request,endpoint_is_faster_by")
    first = [run.rate for run in runs[taking_part[0].name]]
    for name, measurements in runs.items():
        rate, p50, p99, cpu = (statistics.median(getattr(run, field) for run in measurements) for field in NAMES)
        faster = statistics.median(ours / run.rate for ours, run in zip(first, measurements, strict=True))
        print(f"{name},{options.connections},{rate:.0f},{p50:.3f},{p99:.3f},{cpu:.0f},{faster:.2f}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Compares, and says on stderr who was skipped and why."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    for peer in ("mlflow", "bentoml", "ray"):
        parser.add_argument(f"--{peer}", default="", metavar="VENV", help=f"virtual environment that has {peer}")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--seconds", type=int, default=4, help="length of a run")
    parser.add_argument("--rounds", type=int, default=3, help="rounds whose median is shown")
    parser.add_argument("--only", nargs="*", metavar="NAME", help="contestants whose name has one of these words")
    options = parser.parse_args(arguments)
    if not shutil.which("wrk"):
        print("serving: skipped, wrk is not installed (Debian: apt-get install wrk)", file=sys.stderr)
        return
    taking_part = []
    for one in contestants(options):
        if options.only and not any(word in one.name for word in options.only):
            continue
        if one.missing:
            print(f"{one.name}: skipped, {one.missing}", file=sys.stderr)
        else:
            taking_part.append(one)
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="serving-") as folder:
        compare(taking_part, prepare(Path(folder)), options)


if __name__ == "__main__":
    main()
