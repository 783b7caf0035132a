"""DeepAR against GluonTS's and neuralforecast's, on public series, for the same processor time of training.

    python benchmarks/deepar.py --data FOLDER [--ett FOLDER] [--sets m4 exchange ett] [--seconds 30] [--seeds 3]
        [--threads 2] [--peers-python /path/to/python] [--contestants sagesmith gluonts neuralforecast]
        [--training-only]

FOLDER (or SAGESMITH_DATA) holds Hourly-train.csv and Hourly-test.csv of the M4 competition, and exchange_rate.txt.gz;
the one of --ett holds ETTh1.csv and ETTh2.csv. A set that is absent is skipped with a line. The peers run in an
environment of their own with gluonts[torch] and neuralforecast. Contestants take turns, each in its own process;
loading and compiling are not timed. All seconds are of the processor, so that other work on the machine does not count.
Printed: training windows per second, forecasts per second (100 samples) and milliseconds of one series' alone,
mean weighted quantile loss (levels 0.1 to 0.9) and MASE of the median, beside seasonal naive; with --training-only the
speed of training alone.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
CONTESTANTS = ("sagesmith", "gluonts", "neuralforecast")
RUNNERS = Path(__file__).with_name("deepar_peers")
LEVELS = [round(0.1 * k, 1) for k in range(1, 10)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("SAGESMITH_DATA", ".")))
    parser.add_argument("--ett", type=Path, default=Path(os.environ.get("SAGESMITH_DATA", ".")))
    parser.add_argument("--sets", nargs="+", default=["m4", "exchange", "ett"], choices=["m4", "exchange", "ett"])
    parser.add_argument("--contestants", nargs="+", default=CONTESTANTS, choices=CONTESTANTS)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--training-only", action="store_true")
    parser.add_argument("--peers-python", default=os.environ.get("SAGESMITH_PEERS_PYTHON", sys.executable))
    given = parser.parse_args()
    print(f"Python {platform.python_version()}, {given.threads} threads, load {os.getloadavg()[0]:.1f}")
    for name in given.sets:
        try:
            task = {"m4": m4, "exchange": exchange, "ett": ett}[name](given.ett if name == "ett" else given.data)
        except FileNotFoundError as error:
            print(f"{name}: skipped, {error.filename} is absent")
            continue
        compare(name, task, given)


def compare(name: str, task: dict[str, Any], given: argparse.Namespace) -> None:
    steps, season = task["prediction_length"], task["season"]
    truths = np.array([one["target"][-steps:] for one in task["test"]])
    known = [np.array(one["target"][:-steps]) for one in task["test"]]
    naive = np.array([past[-season:][np.arange(steps) % season] for past in known])
    print(f"{name}: {len(task['train'])} series to learn from, {len(known)} to forecast, {steps} steps")
    print(f"  seasonal naive: {judged(np.repeat(naive[None], 9, 0), truths, known, season)}")
    found: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "task.json")
        for seed in range(given.seeds):
            for who in given.contestants:
                file.write_text(
                    json.dumps(task | {"seconds": given.seconds, "seed": seed, "forecasts": not given.training_only})
                )
                python = sys.executable if who == "sagesmith" else given.peers_python
                command = [python, str(RUNNERS / f"{who}_runner.py"), str(file), str(Path(folder, "out.npz"))]
                done = subprocess.run(
                    command, capture_output=True, text=True, cwd=folder, env=environment(given.threads)
                )
                if done.returncode:
                    print(f"  {who}: failed: {done.stderr.strip().splitlines()[-1]}")
                    continue
                result = dict(np.load(Path(folder, "out.npz")))
                scores = {} if given.training_only else judged(result.pop("quantiles"), truths, known, season)
                scores |= {key: float(value) for key, value in result.items()}
                found.setdefault(who, []).append(scores)
                print(f"  {who}, seed {seed}: {scores}", flush=True)
    for who, runs in found.items():
        print(f"  {who}, median of {len(runs)}: { {key: statistics.median(r[key] for r in runs) for key in runs[0]} }")


def environment(threads: int) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(threads)}


def judged(quantiles: np.ndarray, truths: np.ndarray, known: list[np.ndarray], season: int) -> dict[str, float]:
    """Of quantiles (levels, n, P)."""
    levels = np.array(LEVELS)[:, None, None]
    off = truths - quantiles
    loss = 2 * np.maximum(levels * off, (levels - 1) * off).sum() / len(LEVELS) / np.abs(truths).sum()
    usual = np.array([np.abs(past[season:] - past[:-season]).mean() for past in known])
    mase = (np.abs(truths - quantiles[4]).mean(axis=1) / np.maximum(usual, 1e-9)).mean()
    return {"wQL": round(float(loss), 5), "MASE": round(float(mase), 4)}


def m4(folder: Path) -> dict[str, Any]:
    def rows(name: str) -> list[list[float]]:
        with (folder / name).open() as file:
            return [[float(x) for x in row[1:] if x] for row in list(csv.reader(file))[1:]]

    past, ahead = rows("Hourly-train.csv"), rows("Hourly-test.csv")
    return told("H", 48, 96, 24, past, [a + b for a, b in zip(past, ahead, strict=True)], range(len(past)))


def exchange(folder: Path) -> dict[str, Any]:
    """Daily rates of eight currencies; five windows of 30 days each at the end."""
    with gzip.open(folder / "exchange_rate.txt.gz", "rt") as file:
        return rolled("D", 30, 60, 1, np.loadtxt(file, delimiter=","), 5)


def ett(folder: Path) -> dict[str, Any]:
    """Seven measurements of each of two transformers; seven days at the end."""
    tables = []
    for name in ("ETTh1.csv", "ETTh2.csv"):
        with (folder / name).open() as file:
            tables.append(np.array([row[1:] for row in list(csv.reader(file))[1:]], float))
    return rolled("H", 24, 48, 24, np.hstack(tables), 7)


def rolled(freq: str, steps: int, context: int, season: int, table: np.ndarray, windows: int) -> dict[str, Any]:
    ends = [len(table) - steps * k for k in reversed(range(windows))]
    train = [column[: ends[0] - steps].tolist() for column in table.T]
    test = [column[:end].tolist() for end in ends for column in table.T]
    return told(freq, steps, context, season, train, test, list(range(table.shape[1])) * windows)


def told(
    freq: str, steps: int, context: int, season: int, train: list[list[float]], test: list[list[float]], cats: Any
) -> dict[str, Any]:
    start = "2015-01-01 00:00:00"
    return {
        "time_freq": freq, "prediction_length": steps, "context_length": context, "season": season,
        "train": [{"start": start, "target": target, "cat": [number]} for number, target in enumerate(train)],
        "test": [{"start": start, "target": x, "cat": [c]} for x, c in zip(test, cats, strict=True)],
    }  # fmt: skip


if __name__ == "__main__":
    main()
