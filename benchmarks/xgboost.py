"""XGBoost against bare xgboost: a job end to end from CSV, training once loaded, and one answered row.

    python benchmarks/xgboost.py [--rows 100000 400000] [--columns 30] [--rounds 50] [--repeats 7]

1. job: `python -m sagesmith.container train sagemaker-xgboost` on a folder, against a script that reads the same CSV
   with pandas, trains with xgboost and writes the model. Whole processes, interpreter start included; same threads;
   peak memory of each. Beside it the time to read the file's bytes, which nobody can do without.
2. fit: `XGBoost.fit` on arrays against building the DMatrix and calling `xgboost.train` with the train set evaluated.
3. answer: `respond` to one CSV row against its parts.

Sides alternate, medians are shown. The data are drawn at random with a fixed seed.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # in place of this folder, where `import xgboost` would find this file
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin while they wait spoil both sides' times
SETTINGS = {"objective": "binary:logistic", "max_depth": 6, "eta": 0.2, "tree_method": "hist"}
PLAIN = """
import json, sys
import pandas, xgboost
folder, out, rounds, threads = sys.argv[1:5]
table = pandas.read_csv(folder + "/train.csv", header=None, dtype="float32")
data = xgboost.DMatrix(table.iloc[:, 1:].to_numpy(), label=table.iloc[:, 0].to_numpy(), nthread=int(threads))
settings = json.loads(sys.argv[5])
booster = xgboost.train({**settings, "nthread": int(threads)}, data, int(rounds), evals=[(data, "train")])
booster.save_model(out + "/plain.ubj")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 400_000])
    for name, default in (("columns", 30), ("rounds", 50), ("repeats", 7)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    threads = len(os.sched_getaffinity(0))
    names = ("xgboost-cpu", "pandas", "numpy", "numba")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    print(f"Python {platform.python_version()}, {versions}; {options.rounds} rounds, {threads} threads")
    for rows in options.rows:
        X, y = drawn(rows, options.columns)
        print(f"\n{rows:,} rows of {options.columns} columns, load average {os.getloadavg()[0]:.1f}\n")
        print("| | sagesmith | bare | ratio of medians | median of ratios |\n|---|---|---|---|---|")
        with tempfile.TemporaryDirectory() as folder:
            jobs(Path(folder), X, y, options.rounds, options.repeats, threads)
        fits(X, y, options.rounds, options.repeats, threads)
    print()
    answers(*drawn(20_000, options.columns))


def drawn(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    X = random.normal(size=(rows, columns)).astype(np.float32)
    return X, (X[:, 0] + X[:, 1] * X[:, 2] + random.normal(size=rows) > 0).astype(np.float32)


def jobs(base: Path, X: np.ndarray, y: np.ndarray, rounds: int, repeats: int, threads: int) -> None:
    train = base / "input" / "data" / "train"
    config = base / "input" / "config"
    for folder in (train, config):
        folder.mkdir(parents=True)
    np.savetxt(train / "train.csv", np.column_stack([y, X]), delimiter=",", fmt="%.6g")
    strings = {key: str(value) for key, value in {**SETTINGS, "num_round": rounds}.items()}
    (config / "hyperparameters.json").write_text(json.dumps(strings))
    channel = {"ContentType": "text/csv", "TrainingInputMode": "File", "S3DistributionType": "FullyReplicated"}
    (config / "inputdataconfig.json").write_text(json.dumps({"train": channel}))
    hosts = {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "lo"}
    (config / "resourceconfig.json").write_text(json.dumps(hosts))
    ours = [sys.executable, "-m", "sagesmith.container", "train", "sagemaker-xgboost", "--base", str(base)]
    plain = [sys.executable, "-c", PLAIN, str(train), str(base), str(rounds), str(threads), json.dumps(SETTINGS)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(threads)}
    compare("job from CSV", lambda: process(ours, environment), lambda: process(plain, environment), repeats)
    mine, other = peak(ours, environment), peak(plain, environment)
    print(f"| job from CSV: peak memory, MB | {mine:.0f} | {other:.0f} | {mine / other:.3f} | |")
    copied = [once(lambda: (train / "train.csv").read_bytes()) for _ in range(repeats)]
    size = (train / "train.csv").stat().st_size
    print(f"| reading the {size / 1e6:.0f} MB of the file as they are | | {statistics.median(copied):.3f} s | | |")


def process(command: list[str], environment: dict[str, str]) -> dict[str, float]:
    """Wall and processor time of a whole process."""
    begun = time.perf_counter()
    started = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(started.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with status {status}")
    seconds = time.perf_counter() - begun
    return {"wall, s": seconds, "processor, s": used.ru_utime + used.ru_stime}


def peak(command: list[str], environment: dict[str, str]) -> float:
    """The largest memory of a process in MB. A small one starts it: a child's figure begins with its parent's size."""
    watch = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", watch, *command], env=environment, capture_output=True, check=True)
    return int(done.stdout) / 1024


def once(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def fits(X: np.ndarray, y: np.ndarray, rounds: int, repeats: int, threads: int) -> None:
    import xgboost

    from sagesmith.algorithms import XGBoost
    from sagesmith.algorithms.run import Run

    def ours() -> None:
        XGBoost(num_round=rounds, **SETTINGS).fit(X, y, run=Run(threads))

    def bare() -> None:
        data = xgboost.DMatrix(X, y, nthread=threads)
        settings = {**SETTINGS, "nthread": threads}
        xgboost.train(settings, data, rounds, evals=[(data, "train")], verbose_eval=False)

    compare("fit on arrays", lambda: timed(ours), lambda: timed(bare), repeats)


def timed(call: Callable[[], None]) -> dict[str, float]:
    used = time.process_time()
    wall = once(call)
    return {"wall, s": wall, "processor, s": time.process_time() - used}


def compare(
    what: str, ours: Callable[[], dict[str, float]], bare: Callable[[], dict[str, float]], repeats: int
) -> None:
    """Runs both sides in turn, the first by turns, after one round to warm up; prints a row for each quantity.

    Where other programs share the machine, processor time tells more than wall time, and the median of the ratios of
    neighbours more than the ratio of medians.
    """
    pairs = []
    for number in range(repeats + 1):
        measured = {}
        for side in (ours, bare) if number % 2 else (bare, ours):
            measured[side] = side()
        if number:
            pairs.append((measured[ours], measured[bare]))
    for quantity in pairs[0][0]:
        mine, other = (statistics.median(pair[side][quantity] for pair in pairs) for side in (0, 1))
        each = statistics.median(pair[0][quantity] / pair[1][quantity] for pair in pairs)
        print(f"| {what}: {quantity} | {mine:.3f} | {other:.3f} | {mine / other:.3f} | {each:.3f} |", flush=True)


def answers(X: np.ndarray, y: np.ndarray, times: int = 2000) -> None:
    import xgboost

    from sagesmith.algorithms import XGBoost
    from sagesmith.algorithms.base import Request
    from sagesmith.algorithms.xgboost import serving

    model = XGBoost(objective="binary:logistic", num_round=100).fit(X[:20_000], y[:20_000])
    request = Request(",".join(map(str, X[0])).encode(), "text/csv")
    model.respond(request)
    booster = model.booster_model
    row = X[:1].copy()
    parts: dict[str, Callable[[], object]] = {
        "respond to one row": lambda: model.respond(request),
        "  read the row": lambda: serving._features(request, model.ensemble_.width),
        "  predict": lambda: model.ensemble_.predict(row),
        "bare inplace_predict": lambda: booster.inplace_predict(row),
        "bare predict(DMatrix)": lambda: booster.predict(xgboost.DMatrix(row, nthread=1)),
    }
    for name, call in parts.items():
        each = []
        for _ in range(times):
            begun = time.perf_counter()
            call()
            each.append(time.perf_counter() - begun)
        print(f"{name:22s} median {1e6 * statistics.median(each):7.1f} us")


if __name__ == "__main__":
    main()
