"""Random Cut Forest against krcf, rcf3, rrcf and scikit-learn's IsolationForest: scoring, streaming, growth, NAB.

    python benchmarks/randomcutforest.py [--peers-python PYTHON] [--rows 20000] [--repeats 5] [--only score stream ...]

1. score: a forest of 100 trees of 256 points from 100,000 rows of 20 columns with 1% outliers, of which as many as
   `--rows` are scored (slow peers fewer); AUC over the rows that all have scored.
2. stream: NYC taxi, shingles of 48, 50 trees of 256: each value is scored, then learnt. AUC against NAB's windows.
3. nab: precision among the k highest of each labelled series and AUC, streamed, against rrcf (k: rows in windows / 10).
4. grow: time and peak memory for 1, 2, 4 and 8 times the rows and columns; `--plot FILE` draws them.

Contestants take turns, in processes of their own; medians are shown, of wall and processor time. Peers that are not
installed for `--peers-python` (default: the environment variable SAGESMITH_PEERS_PYTHON, then this interpreter) are
skipped, saying so.
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
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
NAB = ROOT / "examples" / "data" / "nab"
SHINGLE, TREES, POINTS = 48, 50, 256
OURS, PEERS = "sagesmith", ("krcf", "rcf3", "rrcf", "IsolationForest")
MODULES = {"IsolationForest": "sklearn"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--peers-python", default=os.environ.get("SAGESMITH_PEERS_PYTHON", sys.executable))
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="+", default=["score", "stream", "nab", "grow"])
    parser.add_argument("--plot", metavar="FILE")
    parser.add_argument("--as", dest="contestant", help=argparse.SUPPRESS)  # what a process of our own is asked
    parser.add_argument("--task", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contestant:
        print(json.dumps(TASKS[options.task](options.contestant, options.rows, options.seed)))
        return
    print(f"Python {platform.python_version()}, {platform.processor() or platform.machine()}, ", end="")
    print(f"{threads()} threads, load average {os.getloadavg()[0]:.1f}")
    peers = [peer for peer in PEERS if installed(options.peers_python, peer)]
    for task in options.only:
        if task == "grow":
            growth(options.plot)
        else:
            compare(task, peers, options)


def threads() -> int:
    return int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))


def installed(python: str, peer: str) -> bool:
    module = MODULES.get(peer, peer)
    package = "scikit-learn" if module == "sklearn" else module
    code = f"import importlib.metadata as m, {module}; print(m.version({package!r}))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{peer}: skipped, {done.stderr.strip().splitlines()[-1]} ({python})")
        return False
    print(f"{peer} {done.stdout.strip()}")
    return True


def asked(python: str, contestant: str, task: str, rows: int, seed: int = 0) -> dict[str, Any]:
    """One measurement in a process of its own; its peak memory with it."""
    command = [
        python,
        str(Path(__file__)),
        "--as",
        contestant,
        "--task",
        task,
        "--rows",
        str(rows),
        "--seed",
        str(seed),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{contestant}, {task}: {done.stderr[-2000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def compare(task: str, peers: list[str], options: argparse.Namespace) -> None:
    if task == "nab":
        peers = [peer for peer in peers if peer in ("rrcf", "rcf3")]
    elif task == "stream":
        peers = [peer for peer in peers if peer != "IsolationForest"]
    ours = [OURS, f"{OURS}, one by one"] if task == "stream" else [OURS]
    seen: dict[str, list[dict[str, Any]]] = {name: [] for name in [*ours, *peers]}
    for turn in range(1 if task == "nab" else options.repeats):
        for name, found in seen.items():
            if name == "rrcf" and turn:  # minutes, and far behind
                continue
            python = sys.executable if name in ours else options.peers_python
            found.append(asked(python, name, task, options.rows, turn))
    print(f"\n## {task}, load average {os.getloadavg()[0]:.1f}\n")
    names = [key for key in seen[OURS][0] if key not in ("wall", "processor", "points")]
    print(f"| | points/s | points per processor second | {' | '.join(names)} |")
    print("|---|---|---|" + "---|" * len(names))
    for name, found in seen.items():
        rate, busy = (statistics.median(one["points"] / one[kind] for one in found) for kind in ("wall", "processor"))
        rest = (f"{statistics.median(one[key] for one in found):.4g}" for key in names)
        print(f"| {name} | {rate:,.0f} | {busy:,.0f} | {' | '.join(rest)} |")


# -- in a process of its own --------------------------------------------------------------------------------------
def timed(work: Any) -> tuple[Any, float, float]:
    wall, busy = time.perf_counter(), time.process_time()
    answer = work()
    return answer, time.perf_counter() - wall, time.process_time() - busy


def peak() -> float:
    """The largest memory of this process in MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def mixed(rows: int = 100_000, columns: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Four clouds, and 1% of points that belong to none of them closely: hard enough to tell scores apart."""
    random = np.random.default_rng(1)
    labels = random.random(rows) < 0.01
    centers = random.normal(size=(4, columns)) * 3
    X = centers[random.integers(0, 4, rows)] + random.normal(size=(rows, columns)) * np.where(labels, 1.5, 1)[:, None]
    return X.astype(np.float32), labels


def score_task(name: str, rows: int, seed: int) -> dict[str, float]:
    X, labels = mixed()
    rows = min(rows, {"rrcf": 200, "krcf": 5000, "rcf3": 5000}.get(name, rows))
    few, fit, score = scorer(name, X, seed)
    fitted, fit_wall, _ = timed(fit)
    score(fitted, X[: few or 100])  # compiled, loaded, warm
    found, wall, busy = timed(lambda: score(fitted, X[:rows]))
    quality = auc(labels[:5000], found[:5000]) if rows >= 5000 else float("nan")  # too few outliers to tell
    return {"points": rows, "wall": wall, "processor": busy, "AUC": quality, "fit, s": fit_wall, "peak MB": peak()}


def scorer(name: str, X: np.ndarray, seed: int) -> tuple[int, Any, Any]:
    """Rows to warm up with, how to fit, and how to score rows, the higher the more abnormal."""
    columns = X.shape[1]
    if name == OURS:
        from sagesmith.algorithms.randomcutforest import RandomCutForest

        model = RandomCutForest(num_trees=100, num_samples_per_tree=POINTS, seed=seed)
        return 0, lambda: model.fit(X), lambda fitted, rows: -fitted.score_samples(rows)
    if name == "IsolationForest":
        from sklearn.ensemble import IsolationForest

        forest = IsolationForest(n_estimators=100, max_samples=POINTS, n_jobs=threads(), random_state=seed)
        return 0, lambda: forest.fit(X), lambda fitted, rows: -fitted.score_samples(rows)
    sample = X[:25_600].tolist()
    if name == "rrcf":
        import rrcf

        parts = [X[256 * tree : 256 * tree + 256] for tree in range(100)]
        return 2, lambda: [rrcf.RCTree(part) for part in parts], displaced
    if name == "rcf3":
        from rcf3 import Forest

        peer: Any = Forest(columns, num_trees=100, capacity=POINTS, seed=seed)
    else:
        import krcf

        size = {"dimensions": columns, "shingle_size": 1, "num_trees": 100, "sample_size": POINTS}
        peer = krcf.RandomCutForest({**size, "output_after": 1, "random_seed": seed})

    def learn() -> Any:
        for row in sample:
            peer.update(row)
        return peer

    return 0, learn, lambda fitted, rows: np.array([fitted.score(row) for row in rows.tolist()])


def displaced(trees: list[Any], rows: np.ndarray) -> np.ndarray:
    """rrcf's score: the mean collusive displacement of each row, put into every tree and taken out again."""
    found = np.zeros(len(rows))
    for number, row in enumerate(rows):
        for tree in trees:
            tree.insert_point(row, index="asked")
            found[number] += tree.codisp("asked") / len(trees)
            tree.forget_point("asked")
    return found


def series(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Values, and whether each lies in a labelled window."""
    with gzip.open(NAB / f"{name}.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    times = [datetime.fromisoformat(row["timestamp"]) for row in rows]
    windows = json.loads((NAB / "windows.json").read_text())[name]
    spans = [(datetime.fromisoformat(start), datetime.fromisoformat(end)) for start, end in windows]
    labels = np.array([any(start <= each <= end for start, end in spans) for each in times])
    return np.array([float(row["value"]) for row in rows]), labels


def streamed(name: str, values: np.ndarray, shingle: int, trees: int, seed: int) -> tuple[np.ndarray, int]:
    """Scores of the values, each before it is learnt; and how many were taken."""
    if name.startswith(OURS):
        from sagesmith.algorithms.randomcutforest import StreamingForest

        sizes = {"shingle_size": shingle, "num_trees": trees, "num_samples_per_tree": POINTS}
        stream = StreamingForest(**sizes, seed=seed, threads=threads())
        if name == OURS:
            return stream.update_many(values), len(values)
        return np.array([stream.update(value) for value in values.tolist()]), len(values)
    if name == "rcf3":
        from rcf3 import Forest

        forest = Forest(1, shingle_size=shingle, num_trees=trees, capacity=POINTS, seed=seed)
        return np.array([forest.update_and_score([value]) for value in values.tolist()]), len(values)
    if name == "krcf":
        import krcf

        size = {"dimensions": 1, "shingle_size": shingle, "num_trees": trees, "sample_size": POINTS}
        peer = krcf.RandomCutForest({**size, "random_seed": seed})
        found = []
        for value in values.tolist():
            found.append(peer.score([value]))
            peer.update([value])
        return np.array(found), len(values)
    return rrcf_streamed(values, shingle, trees), len(values)


def rrcf_streamed(values: np.ndarray, shingle: int, trees: int) -> np.ndarray:
    """As in rrcf's own example: a window of POINTS, the oldest forgotten, the newest's displacement its score."""
    import rrcf

    forest = [rrcf.RCTree() for _ in range(trees)]
    found = np.zeros(len(values))
    for index, point in enumerate(np.lib.stride_tricks.sliding_window_view(values, shingle)):
        for tree in forest:
            if len(tree.leaves) >= POINTS:
                tree.forget_point(index - POINTS)
            tree.insert_point(point, index=index)
            found[index + shingle - 1] += tree.codisp(index) / trees
    return found


def stream_task(name: str, rows: int, seed: int) -> dict[str, float]:
    values, labels = series("realKnownCause/nyc_taxi.csv")
    if name == "rrcf":
        values, labels = values[:600], labels[:600]
    else:
        streamed(name, values[:200], SHINGLE, TREES, seed)
    (scores, count), wall, busy = timed(lambda: streamed(name, values, SHINGLE, TREES, seed))
    found = {"points": count, "wall": wall, "processor": busy}
    quality = auc(labels[600:], scores[600:]) if len(values) > 600 else float("nan")
    return {**found, "AUC": quality, "peak MB": peak()}


def nab_task(name: str, rows: int, seed: int) -> dict[str, float]:
    """The labelled series, thinned out to at most 2,000 values each so that rrcf ends."""
    precision, quality, points, wall, busy = [], [], 0, 0.0, 0.0
    for each in sorted(json.loads((NAB / "windows.json").read_text())):
        values, labels = series(each)
        every = -(-len(values) // 2000)
        values = values[: len(values) // every * every].reshape(-1, every).mean(axis=1)
        labels = labels[: len(labels) // every * every].reshape(-1, every).any(axis=1)
        (scores, count), seconds, used = timed(lambda values=values: streamed(name, values, 8, 40, seed))
        ready = slice(200, None)
        k = max(1, int(labels[ready].sum()) // 10)
        highest = np.argsort(-scores[ready], kind="stable")[:k]
        precision.append(float(labels[ready][highest].mean()))
        quality.append(auc(labels[ready], scores[ready]))
        points, wall, busy = points + count, wall + seconds, busy + used
    found = {"points": points, "wall": wall, "processor": busy}
    return {**found, "precision at k": float(np.mean(precision)), "AUC": float(np.mean(quality))}


def auc(truth: np.ndarray, score: np.ndarray) -> float:
    """The area under the ROC curve; ties count half."""
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[place]
    n, m = int(truth.sum()), int((~truth).sum())
    return float((rank[truth].sum() - n * (n + 1) / 2) / (n * m)) if n and m else float("nan")


def grow_task(name: str, rows: int, seed: int) -> dict[str, float]:
    """`name` is rows x columns."""
    from sagesmith.algorithms.randomcutforest import RandomCutForest

    count, columns = map(int, name.split("x"))
    X = np.random.default_rng(0).normal(size=(count, columns)).astype(np.float32)
    RandomCutForest().fit(X[:3000]).score_samples(X[:3000])
    before = peak()
    model, fit, fit_busy = timed(lambda: RandomCutForest().fit(X))
    _, wall, busy = timed(lambda: model.score_samples(X))
    return {
        "rows": count,
        "columns": columns,
        "fit": fit,
        "score": wall,
        "fit busy": fit_busy,
        "score busy": busy,
        "MB": peak() - before,
        "data": X.nbytes / 2**20,
    }


TASKS = {"score": score_task, "stream": stream_task, "nab": nab_task, "grow": grow_task}


def growth(plot: str | None) -> None:
    sizes = [(50_000 * times, 20) for times in (1, 2, 4, 8)], [(50_000, 20 * times) for times in (1, 2, 4, 8)]
    print("\n## grow, in seconds and processor seconds\n\n| rows | columns | fit | score | fit, processor |", end="")
    print(" score, processor | memory besides the rows, MB | the rows, MB |\n|---|---|---|---|---|---|---|---|")
    found = []
    for line in sizes:
        found.append([asked(sys.executable, f"{rows}x{columns}", "grow", 0) for rows, columns in line])
        for one in found[-1]:
            numbers = " | ".join(f"{one[key]:.3g}" for key in ("fit", "score", "fit busy", "score busy", "MB", "data"))
            print(f"| {one['rows']:,} | {one['columns']} | {numbers} |")
    if plot:
        draw(found, plot)


def draw(found: list[list[dict[str, Any]]], file: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(8, 3))
    for panel, line, what in zip(panels, found, ("rows", "columns"), strict=True):
        sizes = [one[what] for one in line]
        for key, color in (("fit", "C0"), ("score", "C1")):
            panel.plot(sizes, [one[f"{key} busy"] for one in line], "o-", color=color, label=f"{key}, processor s")
        memory = panel.twinx()
        memory.plot(sizes, [one["MB"] for one in line], "s--", color="0.5", label="memory besides the rows, MB")
        memory.set_ylim(0)
        panel.set_ylim(0)
        panel.set_xlabel(what)
        handles = [*panel.get_lines(), *memory.get_lines()]
        panel.legend(handles, [handle.get_label() for handle in handles], fontsize=7, frameon=False)
    figure.tight_layout()
    figure.savefig(file)


if __name__ == "__main__":
    main()
