"""Linear Learner's 32 models against 32 separate fits of scikit-learn and Vowpal Wabbit, and its growth.

    python benchmarks/linear_learner.py [--rows 2000000] [--columns 50] [--rounds 3] [--peers-python ENV/bin/python]

Every contestant runs in a process of its own that first fits a few rows (compiling and loading), and by turns: a round
is one run of each. A peer makes three fits with three strengths of regularisation; 32 fits are the mean of the three
times 32. `sagesmith-1` is our own fit of one model, `sagesmith-2` 32 models in twice the epochs; on Adult, where it has
15 epochs by default, in batches of 200 until nothing is won, with LogisticRegression's penalty. Vowpal Wabbit
(`--peers-python`: an interpreter with vowpalwabbit and numpy) reads text, so that it gets a tenth of the rows, one pass
from the cache it made, and its time is multiplied by ten. AUC is that of 100,000 rows that nobody trained on, the best
of the three strengths; the loss is the mean logistic loss on the training rows, the least of the three.
`--growth FILE` also measures 1x to 8x rows and columns and draws them (alone with `--rounds 0`). Data sets: drawn at
random (`--seed`), and UCI Adult from sagesmith/examples_data. The line before a table has each round's times of ours.
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
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
HELD = 100_000
AT_ONCE = 10_000  # rows whose loss is computed together
STRENGTHS = (1e-6, 1e-5, 1e-4)
VW_SHARE = 10
UNTIL_WON = {"mini_batch_size": 200, "early_stopping_tolerance": 1e-6, "l1": 0.0}
Fit = Callable[[np.ndarray, np.ndarray, float], tuple[np.ndarray, float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    for name, default in (("rows", 2_000_000), ("columns", 50), ("rounds", 3), ("epochs", 1), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--peers-python", default=os.environ.get("SAGESMITH_PEERS_PYTHON", ""))
    parser.add_argument("--growth", type=Path, help="draw time and memory for 1x to 8x rows and columns to this file")
    parser.add_argument("--contestant", help="used by this program itself: one run, printed as JSON")
    parser.add_argument("--data", type=Path, help="used by this program itself: folder of the arrays")
    options = parser.parse_args()
    if options.contestant:
        print(json.dumps(contest(options.contestant, options.data, options.epochs)))
        return
    threads = len(os.sched_getaffinity(0))
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("numpy", "numba", "scikit-learn"))
    print(f"Python {platform.python_version()}, {versions}; {threads} threads")
    if options.rounds:
        compare_all(options)
    if options.growth:
        grow(options.growth)


def compare_all(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder), *drawn(options.rows + HELD, options.columns, options.seed), HELD)
        compare(f"{options.rows:,} x {options.columns}", Path(folder), options, options.epochs)
        limits(options.rows, options.columns, options.epochs)
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder), *adult())
        compare("Adult, 32,561 x 14", Path(folder), options, 15)


def drawn(rows: int, columns: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Normal features, and labels from a logistic model."""
    random = np.random.default_rng(seed)
    X = random.standard_normal((rows, columns), dtype=np.float32)
    z = X @ (random.normal(size=columns).astype(np.float32) / 4) + 0.3
    return X, (random.random(rows) < 1 / (1 + np.exp(-z))).astype(np.float32)


def adult() -> tuple[np.ndarray, np.ndarray, int]:
    from sagesmith.formats.channel import Channel

    data = ROOT / "sagesmith" / "examples_data"
    parts = [Channel.from_folder(n, data / f"adult-{n}.csv.gz", "text/csv").read() for n in ("train", "test")]
    mean = np.nanmean(np.asarray(parts[0].features), axis=0)
    deviation = np.nanstd(np.asarray(parts[0].features), axis=0)
    X = np.concatenate([np.where(np.isnan(part.features), mean, part.features) for part in parts])
    y = np.concatenate([np.asarray(part.label) for part in parts])
    return ((X - mean) / deviation).astype(np.float32), y, len(parts[1])


def save(folder: Path, X: np.ndarray, y: np.ndarray, held: int) -> None:
    for name, part in (("train", slice(None, -held)), ("held", slice(-held, None))):
        np.save(folder / f"{name}-X.npy", X[part])
        np.save(folder / f"{name}-y.npy", y[part])


def load(folder: Path) -> list[np.ndarray]:
    return [np.load(folder / f"{name}.npy") for name in ("train-X", "train-y", "held-X", "held-y")]


def compare(title: str, folder: Path, options: argparse.Namespace, epochs: int) -> None:
    """Rounds of all contestants, and a table of their medians."""
    names = ["sagesmith", "sagesmith-2", "sagesmith-1", "lbfgs", "sgd"]
    if options.peers_python:
        names.append("vw")
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for number in range(options.rounds):
        for name in names if number % 2 else names[::-1]:
            found[name].append(child(name, folder, options.peers_python if name == "vw" else sys.executable, epochs))
    print(f"\n**{title}**, load average {os.getloadavg()[0]:.1f}, medians of {options.rounds}\n")
    rounds = ", ".join(f"{one['wall']:.3f} ({one['processor']:.3f})" for one in found["sagesmith"])
    print(f"rounds of sagesmith, wall (processor): {rounds}\n")
    print(
        "| contestant | models | wall, s | processor, s | 32 models, wall | against ours | processor | AUC "
        "| training loss | peak MB |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    ours = {key: statistics.median(one[key] for one in found["sagesmith"]) for key in ("wall", "processor")}
    for name in names:
        middle = {key: statistics.median(one[key] for one in found[name]) for key in found[name][0]}
        times = 1 if name in ("sagesmith", "sagesmith-2") else 32
        print(
            f"| {name} | {32 if times == 1 else 1} | {middle['wall']:.3f} | {middle['processor']:.3f} "
            f"| {middle['wall'] * times:.2f} | {middle['wall'] * times / ours['wall']:.1f}x "
            f"| {middle['processor'] * times / ours['processor']:.1f}x | {middle['auc']:.7f} | {middle['loss']:.8f} "
            f"| {middle['peak']:.0f} |",
            flush=True,
        )
    if "vw" not in names:
        print("\nVowpal Wabbit: skipped, no --peers-python")


def child(name: str, folder: Path, python: str, epochs: int) -> dict[str, float]:
    command = [python, __file__, "--contestant", name, "--data", str(folder), "--epochs", str(epochs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr[-2000:]}")
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def contest(name: str, folder: Path, epochs: int) -> dict[str, float]:
    """One run: mean time of a fit (of three, for peers), the best AUC, peak memory of the process."""
    if name == "vw":
        return vowpal(folder)
    X, y, held, truth = load(folder)
    fit: Fit = {
        "sagesmith": ours_of(epochs),
        "sagesmith-2": ours_of(2 * epochs) if len(y) > 1_000_000 else ours_of(40, **UNTIL_WON, wd=1 / len(y)),
        "sagesmith-1": ours_of(epochs, 1),
        "lbfgs": lbfgs,
        "sgd": sgd,
    }[name]
    fit(X[:5000], y[:5000], STRENGTHS[0])
    walls, processors, aucs, lost = [], [], [], []
    for strength in STRENGTHS[:1] if name.startswith("sagesmith") else STRENGTHS:
        begun, used = time.perf_counter(), time.process_time()
        weight, bias = fit(X, y, strength)
        walls.append(time.perf_counter() - begun)
        processors.append(time.process_time() - used)
        aucs.append(auc(held.astype(float) @ weight + bias, truth > 0))
        lost.append(loss(X, y, weight, bias))
    return report(walls, processors, aucs, lost)


def loss(X: np.ndarray, y: np.ndarray, weight: np.ndarray, bias: float) -> float:
    """The mean logistic loss."""
    total = 0.0
    for start in range(0, len(y), AT_ONCE):
        z = X[start : start + AT_ONCE].astype(float) @ weight + bias
        total += float((np.logaddexp(0, z) - y[start : start + AT_ONCE] * z).sum())
    return total / len(y)


def report(walls: list[float], processors: list[float], aucs: list[float], lost: list[float]) -> dict[str, float]:
    status = Path("/proc/self/status").read_text()  # ru_maxrss would begin with the size of the parent
    peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
    return {
        "wall": statistics.mean(walls), "processor": statistics.mean(processors), "auc": max(aucs), "loss": min(lost),
        "peak": peak,
    }  # fmt: skip


def ours_of(epochs: int, models: int | str = "auto", **further: float) -> Fit:
    from sagesmith.algorithms import LinearLearner

    def fit(X: np.ndarray, y: np.ndarray, strength: float) -> tuple[np.ndarray, float]:
        model = LinearLearner(
            predictor_type="binary_classifier",
            epochs=epochs,
            num_models=models,
            binary_classifier_model_selection_criteria="cross_entropy_loss",
            **further,
        ).fit(X, y)
        return model.weight_[:, 0], float(model.bias_[0])

    return fit


def lbfgs(X: np.ndarray, y: np.ndarray, strength: float) -> tuple[np.ndarray, float]:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1 / (strength * len(y))).fit(X, y)
    return model.coef_[0], float(model.intercept_[0])


def sgd(X: np.ndarray, y: np.ndarray, strength: float) -> tuple[np.ndarray, float]:
    """One averaged pass: the fastest setting that comes near the AUC."""
    from sklearn.linear_model import SGDClassifier

    passes = 1 if len(y) > 1_000_000 else 5
    model = SGDClassifier(loss="log_loss", alpha=strength, max_iter=passes, tol=None, average=True).fit(X, y)
    return model.coef_[0], float(model.intercept_[0])


def vowpal(folder: Path) -> dict[str, float]:
    """Three fits on a tenth of the rows from a binary cache, times ten; Adult whole."""
    from vowpalwabbit import Workspace

    X, y, held, truth = load(folder)
    share = VW_SHARE if len(y) > 500_000 else 1
    text = folder / "vw.txt"
    if not text.exists():
        write_vw(text, X[: len(y) // share], y)
    cache = folder / "vw.cache"
    Workspace(f"-d {text} --cache_file {cache} -k --loss_function logistic --quiet").finish()
    walls, processors, aucs = [], [], []
    for strength in STRENGTHS:
        begun, used = time.perf_counter(), time.process_time()
        learner = Workspace(f"-d {text} --cache_file {cache} --loss_function logistic --l2 {strength * 1e-3} --quiet")
        walls.append(share * (time.perf_counter() - begun))
        processors.append(share * (time.process_time() - used))
        sample = held[:20_000]
        lines = (vw_line(row) for row in sample)
        aucs.append(auc(np.array([learner.predict(line) for line in lines]), truth[: len(sample)] > 0))
        learner.finish()
    return report(walls, processors, aucs, [float("nan")])


def write_vw(path: Path, X: np.ndarray, y: np.ndarray) -> None:
    with path.open("w") as file:
        file.writelines(f"{1 if label > 0 else -1} {vw_line(row)}\n" for row, label in zip(X, y, strict=False))


def vw_line(row: Any) -> str:
    return "| " + " ".join(f"{index}:{value:.5g}" for index, value in enumerate(row.tolist()))


def auc(score: np.ndarray, positive: np.ndarray) -> float:
    order = np.argsort(score, kind="stable")
    rank = np.empty(len(score))
    rank[order] = np.arange(1, len(score) + 1)
    n, m = int(positive.sum()), int((~positive).sum())
    return float((rank[positive].sum() - n * (n + 1) / 2) / (n * m))


def limits(rows: int, columns: int, epochs: int) -> None:
    """What no implementation can go below: the features once through memory, the flops of both products."""
    block = np.ones(64 << 20, np.float32)
    copied = min(timed(lambda: block.copy()) for _ in range(3))
    bandwidth = 2 * block.nbytes / copied
    a, b = np.ones((1024, 1024), np.float32), np.ones((1024, 1024), np.float32)
    peak = 2 * 1024**3 / min(timed(lambda: a @ b) for _ in range(10))
    size, flops = 4 * rows * columns * epochs, 4 * rows * (columns + 1) * 32 * epochs
    print(
        f"\nlimits: {size / 1e6:.0f} MB of features at {bandwidth / 1e9:.0f} GB/s {size / bandwidth:.3f} s; "
        f"{flops / 1e9:.1f} GFLOP at {peak / 1e9:.0f} GFLOP/s {flops / peak:.3f} s"
    )


def timed(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def grow(path: Path) -> None:
    """Time and memory for 1x to 8x rows and columns."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.2))
    print("\n| | size | wall, s | processor, s | peak MB |\n|---|---|---|---|---|")
    for what, sizes in (
        ("rows", [(250_000 * m, 50) for m in (1, 2, 4, 8)]),
        ("columns", [(125_000, 50 * m) for m in (1, 2, 4, 8)]),
    ):
        found = []
        for rows, columns in sizes:
            with tempfile.TemporaryDirectory() as folder:
                save(Path(folder), *drawn(rows + 20_000, columns), 20_000)
                found.append(child("sagesmith", Path(folder), sys.executable, 1))
            last = found[-1]
            print(
                f"| {what} | {rows:,} x {columns} | {last['wall']:.3f} | {last['processor']:.3f} | {last['peak']:.0f} |"
            )
        factors = [1, 2, 4, 8]
        axes[0].plot(factors, [one["processor"] for one in found], "o-", label=what)
        axes[1].plot(factors, [one["peak"] for one in found], "o-", label=what)
    for axis, label in zip(axes, ("processor, s", "peak memory, MB"), strict=True):
        axis.set(xlabel="times the data", ylabel=label, xscale="log", yscale="log")
        axis.set_xticks([1, 2, 4, 8], ["1", "2", "4", "8"])
        axis.legend()
    figure.tight_layout()
    figure.savefig(path)


if __name__ == "__main__":
    main()
