"""Factorization machines of rank 8 on MovieLens-100k against xLearn, a plain PyTorch Adam FM and myFM; threads; growth.

    SAGESMITH_DATA=/tmp/data/fm python benchmarks/factorization_machines.py [--peers-python PYTHON] [--rounds 5]
        [--threads 2] [--plot docs/benchmarks/factorization-machines.svg]

1. MovieLens-100k, split ua, one-hot user and item. Read from $SAGESMITH_DATA/ml-100k: `u.data`, `ua.test`; the train
   rows are those of u.data that ua.test has not (some copies of ua.base hold the test rows as well). Shuffled once, the
   same order for all. Every contestant has the settings of its own small grid that are best on a tenth of the train
   rows, held out while choosing (`--parts choose`: the outcome is in CHOSEN); then it learns from all train rows. RMSE
   after the last epoch with predictions brought into [1, 5]. rows/s: rows of an epoch over the time of one, (long -
   short run) / epochs between, so that nobody pays for reading or starting. Contestants take turns, each run in a
   process of its own.
2. Threads: our fit with one and two threads where a mini-batch is heavy (rank 64, 40 non-zeros a row).
3. Growth: 1, 2, 4, 8 times the rows, the non-zeros of a row and the columns: time of two epochs, peak memory.

Peers live in an environment of their own (--peers-python or SAGESMITH_FM_PEERS); whoever is absent is skipped.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
USERS, ITEMS, RANK = 943, 1682, 8
PEERS = ("xlearn", "torch", "myfm")
GRIDS: dict[str, dict[str, tuple[float, ...]]] = {
    "sagesmith": {"rate": (0.001, 0.002, 0.004), "decay": (0.0005, 0.001, 0.002), "epochs": (15, 30, 45)},
    "xlearn": {"rate": (0.1, 0.2, 0.4), "decay": (0.01, 0.02, 0.04), "epochs": (10, 20, 40)},
    "torch": {"rate": (0.003, 0.01, 0.03), "decay": (1e-4, 3e-4, 1e-3), "epochs": (10, 20, 30)},
    "myfm": {"rate": (0,), "decay": (0,), "epochs": (200,)},  # it samples its own variances
}
CHOSEN = {
    "sagesmith": {"rate": 0.002, "decay": 0.001, "epochs": 30},
    "xlearn": {"rate": 0.1, "decay": 0.02, "epochs": 40},
    "torch": {"rate": 0.01, "decay": 3e-4, "epochs": 30},
    "myfm": {"rate": 0, "decay": 0, "epochs": 200},
}
SHORT = {"sagesmith": 2, "xlearn": 2, "torch": 1, "myfm": 10}  # epochs of the short run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers-python", default=os.environ.get("SAGESMITH_FM_PEERS", ""))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--parts", nargs="+", default=["movielens", "threads", "growth"])
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(one(*given.one)))
        return
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}, "
          f"load average {os.getloadavg()[0]:.1f}, {given.threads} threads")  # fmt: skip
    if "choose" in given.parts:
        choose(given.peers_python, given.threads)
    if "movielens" in given.parts:
        movielens(given.peers_python, given.rounds, given.threads)
    if "threads" in given.parts:
        heavy(given.rounds)
    if "growth" in given.parts:
        growth(given.threads, given.plot)


def movielens(peers: str, rounds: int, threads: int) -> None:
    content = ratings()
    if content is None:
        return
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch, "ratings.npz")
        np.savez(data, **content)
        names = ["sagesmith", *(name for name in PEERS if present(peers, name))]
        found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        for turn in range(rounds):
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                found[name].append(measured(name, peers, data, threads, CHOSEN[name]))
    table(found, len(content["train"]))


def choose(peers: str, threads: int) -> None:
    """Prints the settings of each grid that are best on a tenth of the train rows."""
    content = ratings()
    if content is None:
        return
    rows = content["train"]
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch, "ratings.npz")
        np.savez(data, train=rows[len(rows) // 10 :], test=rows[: len(rows) // 10])
        for name in ["sagesmith", *(name for name in PEERS if present(peers, name))]:
            tried = [dict(zip(GRIDS[name], values, strict=True)) for values in itertools.product(*GRIDS[name].values())]
            scores = [measured(name, peers, data, threads, settings)["rmse"] for settings in tried]
            best = int(np.argmin(scores))
            print(f"{name}: {tried[best]}, RMSE {scores[best]:.4f} on the rows held out", flush=True)


def ratings() -> dict[str, np.ndarray] | None:
    folder = Path(os.environ.get("SAGESMITH_DATA", "")) / "ml-100k"
    if (folder / "u.data").exists():
        return split(folder)
    print(f"MovieLens-100k skipped: no {folder / 'u.data'} (set SAGESMITH_DATA)")
    return None


def split(folder: Path) -> dict[str, np.ndarray]:
    rated, test = (np.loadtxt(folder / name, dtype=np.int64)[:, :3] for name in ("u.data", "ua.test"))
    held = {(user, item) for user, item, _ in test.tolist()}
    train = np.array([row for row in rated.tolist() if (row[0], row[1]) not in held])
    return {"train": train[np.random.default_rng(0).permutation(len(train))], "test": test}


def present(python: str, name: str) -> bool:
    if not python:
        print(f"{name} skipped: no --peers-python")
        return False
    done = subprocess.run([python, "-c", f"import {name}"], env=quiet(1), capture_output=True, text=True)
    if done.returncode:
        print(f"{name} skipped: {done.stderr.strip().splitlines()[-1]}")
    return done.returncode == 0


def quiet(threads: int) -> dict[str, str]:
    """xLearn asks for USER."""
    return {**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE", "USER": "bench"}


def measured(name: str, peers: str, data: Path, threads: int, settings: dict[str, float]) -> dict[str, float]:
    """One contestant in a process of its own."""
    rate, decay, epochs = (str(settings[key]) for key in ("rate", "decay", "epochs"))
    arguments = [str(data), str(threads), str(SHORT[name]), epochs, rate, decay]
    if name == "sagesmith":
        command = [sys.executable, __file__, "--one", "movielens", *arguments]
    else:
        command = [peers, str(Path(__file__).with_name("factorization_machines_peers.py")), name, *arguments]
    done = subprocess.run(command, env=quiet(threads), capture_output=True, text=True, cwd=data.parent)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr[-2000:]}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def table(found: dict[str, list[dict[str, float]]], rows: int) -> None:
    print("| | RMSE | epochs | million rows/s | of processor time | the whole fit, s | peak memory, MB |")
    print("|---|---|---|---|---|---|---|")
    for name, runs in found.items():
        middle = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        print(
            f"| {name} | {middle['rmse']:.4f} | {CHOSEN[name]['epochs']} "
            f"| {rows / middle['epoch'] / 1e6:.2f} | {rows / middle['epoch_processor'] / 1e6:.2f} "
            f"| {middle['fit']:.3f} | {middle['memory']:.0f} |"
        )


# -- our own runs, each in a process ---------------------------------------------------------------------------------


def one(what: str, *arguments: str) -> dict[str, float]:
    """A measurement of ours, in this process."""
    import resource

    sys.path[0] = str(ROOT)  # in place of this folder
    result = ours(*arguments) if what == "movielens" else drawn(*(int(argument) for argument in arguments))
    return {**result, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def ours(data: str, threads: str, short: str, long: str, rate: str, decay: str) -> dict[str, float]:
    from scipy import sparse

    from sagesmith.algorithms import FactorizationMachines
    from sagesmith.algorithms.run import Run

    content = np.load(data)

    def rows(ratings: np.ndarray) -> Any:
        keys = np.stack([ratings[:, 0] - 1, USERS + ratings[:, 1] - 1], axis=1).ravel()
        starts = np.arange(0, 2 * len(ratings) + 1, 2)
        return sparse.csr_matrix((np.ones(len(keys), np.float32), keys, starts), shape=(len(ratings), USERS + ITEMS))

    X, X_test = rows(content["train"]), rows(content["test"])
    y, y_test = (content[name][:, 2].astype(np.float32) for name in ("train", "test"))
    model = FactorizationMachines(
        num_factors=RANK, predictor_type="regressor", mini_batch_size=100, bias_wd=0.0, factors_init_sigma=0.01,
        linear_lr=float(rate), factors_lr=float(rate), linear_wd=0.3 * float(decay), factors_wd=float(decay),
    )  # fmt: skip
    timings = {}
    for epochs in (int(short), int(short), int(long)):  # the first to load the compiled code
        begun, used = time.perf_counter(), time.process_time()
        model.set_params(epochs=epochs).fit(X, y, run=Run(int(threads)))
        timings[epochs] = time.perf_counter() - begun, time.process_time() - used
    error = np.clip(model.predict(X_test), 1, 5) - y_test
    between = int(long) - int(short)
    wall, processor = ((timings[int(long)][i] - timings[int(short)][i]) / between for i in (0, 1))
    rmse = float(np.sqrt(np.mean(error.astype(float) ** 2)))
    return {"rmse": rmse, "epoch": wall, "epoch_processor": processor, "fit": timings[int(long)][0]}


def drawn(rows: int, columns: int, each: int, rank: int, threads: int) -> dict[str, float]:
    """Two epochs over rows with `each` non-zeros at random."""
    from scipy import sparse

    from sagesmith.algorithms import FactorizationMachines
    from sagesmith.algorithms.run import Run

    random = np.random.default_rng(0)
    keys = np.sort(random.integers(0, columns, (rows, each), dtype=np.int32), axis=1)
    keys[:, 1:][keys[:, 1:] <= keys[:, :-1]] = 0
    values, starts = np.ones(rows * each, np.float32), np.arange(0, rows * each + 1, each)
    values[keys.ravel() == 0] = 0
    X = sparse.csr_matrix((values, keys.ravel(), starts), shape=(rows, columns))
    X.eliminate_zeros()
    X.sort_indices()
    y = random.normal(size=rows).astype(np.float32)
    model = FactorizationMachines(num_factors=rank, predictor_type="regressor", epochs=2)
    model.fit(X[:10], y[:10])  # to load the compiled code
    begun, used = time.perf_counter(), time.process_time()
    model.fit(X, y, run=Run(threads))
    return {"wall": time.perf_counter() - begun, "processor": time.process_time() - used}


def asked(*arguments: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", "drawn", *map(str, arguments)]
    done = subprocess.run(command, env=quiet(arguments[-1]), capture_output=True, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def heavy(rounds: int) -> None:
    print("\n| threads | wall, s | processor, s |\n|---|---|---|")
    runs: dict[int, list[dict[str, float]]] = {1: [], 2: []}
    for _ in range(rounds):
        for threads, kept in runs.items():
            kept.append(asked(100_000, 100_000, 40, 64, threads))
    for threads, kept in runs.items():
        wall, processor = (statistics.median(run[key] for run in kept) for key in ("wall", "processor"))
        print(f"| {threads} | {wall:.2f} | {processor:.2f} |")


def growth(threads: int, plot: Path | None) -> None:
    """Rows: 100,000 up, with 20 non-zeros in 100,000 columns, rank 16."""
    print("\n| grows | times | rows | columns | non-zeros | wall, s | peak memory, MB |\n|---|---|---|---|---|---|---|")
    curves: dict[str, list[tuple[float, float]]] = {}
    for what in ("rows", "columns", "non-zeros"):
        for times in (1, 2, 4, 8):
            rows = 100_000 * (times if what == "rows" else 1)
            columns = 125_000 * (times if what == "columns" else 1)
            each = 20 * (times if what == "non-zeros" else 1)
            seen = asked(rows, columns, each, 16, threads)
            curves.setdefault(what, []).append((seen["wall"], seen["memory"]))
            print(f"| {what} | {times} | {rows} | {columns} | {each} | {seen['wall']:.2f} | {seen['memory']:.0f} |")
    if plot:
        draw(curves, plot)


def draw(curves: dict[str, list[tuple[float, float]]], file: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
    for number, title in enumerate(("time of two epochs, s", "peak memory, MB")):
        for what, points in curves.items():
            axes[number].plot((1, 2, 4, 8), [point[number] for point in points], "o-", label=what)
        axes[number].set(title=title, xlabel="times as much", xscale="log", yscale="log", xticks=(1, 2, 4, 8))
        axes[number].set_xticklabels(("1", "2", "4", "8"))
        axes[number].legend()
    figure.savefig(file)


if __name__ == "__main__":
    main()
