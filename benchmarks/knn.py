"""knn: exact and approximate search against bare faiss and scikit-learn, from files to predictions, and growth.

    python benchmarks/knn.py [--rows 500000] [--columns 64] [--queries 1000] [--repeat 3] [--plot FILE]

Contestants take turns on the same data and threads; medians of wall and processor time. Covertype, of which SageMaker
publishes accuracies, is read from $SAGESMITH_DATA/covtype.data.gz and passed over where that is absent.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sagesmith.algorithms import KNN
from sagesmith.algorithms.blas import single_threaded
from sagesmith.formats.channel import Channel


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--columns", type=int, default=64)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--parts", default="exact,lists,files,growth,covertype")
    parser.add_argument("--plot", metavar="FILE", help="draw the growth")
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # one point of growth, in a process of its own
    arguments = parser.parse_args()
    if arguments.measure:
        measure(*map(int, arguments.measure.split(",")))
        return
    print(f"threads {os.environ.get('OMP_NUM_THREADS', os.cpu_count())}, load average {os.getloadavg()}")
    for part in arguments.parts.split(","):
        {"exact": exact, "lists": lists, "files": files, "growth": growth, "covertype": covertype}[part](arguments)


def compare(title: str, contestants: Mapping[str, Callable[[], Any]], repeat: int, per: int) -> None:
    """Runs the contestants in turn and prints medians and ratios to the first."""
    walls: dict[str, list[float]] = {name: [] for name in contestants}
    busy: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(repeat):
        for name, run in contestants.items():
            wall, processor = time.perf_counter(), time.process_time()
            run()
            walls[name].append(time.perf_counter() - wall)
            busy[name].append(time.process_time() - processor)
    print(f"\n{title}; load average {os.getloadavg()[0]:.1f}")
    first = statistics.median(next(iter(walls.values())))
    for name in contestants:
        wall = statistics.median(walls[name])
        print(
            f"  {name:28} {wall:9.4f} s  processor {statistics.median(busy[name]):8.4f} s  {per / wall:10.0f}/s"
            f"  {wall / first:6.2f} times sagesmith's"
        )


def normal(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)


def exact(arguments: argparse.Namespace) -> None:
    """Exact search: a thousand queries at once, and one."""
    import faiss

    X, queries = normal(arguments.rows, arguments.columns), normal(arguments.queries, arguments.columns, 1)
    model = KNN(k=arguments.k, predictor_type="regressor").fit(X, np.arange(len(X)) % 7)
    index = faiss.IndexFlatL2(arguments.columns)
    index.add(X)
    contestants: dict[str, Callable[[], Any]] = {
        "sagesmith": lambda: model.kneighbors(queries),
        "faiss IndexFlatL2": lambda: index.search(queries, arguments.k),
        "faiss, told to multiply": lambda: multiplied(index, queries, arguments.k),
    }
    try:
        from sklearn.neighbors import NearestNeighbors

        theirs = NearestNeighbors(n_neighbors=arguments.k, algorithm="brute").fit(X)
        contestants["scikit-learn brute"] = lambda: theirs.kneighbors(queries)
    except ImportError:
        print("scikit-learn: passed over, not installed")
    model.kneighbors(queries[:64])
    shape = f"{arguments.rows} x {arguments.columns}"
    compare(f"exact, {shape}, {len(queries)} queries", contestants, arguments.repeat, len(queries))
    one = {
        "sagesmith": lambda: model.index_.search(queries[:1], arguments.k),
        "faiss IndexFlatL2": lambda: index.search(queries[:1], arguments.k),
    }
    compare(f"exact, {shape}, one query", one, 41, 1)
    flops = 2 * arguments.rows * arguments.columns * arguments.queries
    block, threads = normal(512, 512), model.index_.threads
    with single_threaded():
        started = time.perf_counter()
        for _ in range(200):
            block @ block
        peak = threads * 200 * 2 * 512**3 / (time.perf_counter() - started)
    print(f"  floor: {flops / 1e9:.0f} GFLOP at {peak / 1e9:.0f} GFLOP/s of {threads} threads: {flops / peak:.3f} s")


def multiplied(index: Any, queries: np.ndarray, k: int) -> Any:
    """faiss's search with the threshold that it had in older versions."""
    import faiss

    before, faiss.cvar.distance_compute_blas_threshold = faiss.cvar.distance_compute_blas_threshold, 20
    try:
        return index.search(queries, k)
    finally:
        faiss.cvar.distance_compute_blas_threshold = before


def lists(arguments: argparse.Namespace) -> None:
    """IVFFlat and IVFPQ beside the same index of bare faiss."""
    import faiss

    rows = min(arguments.rows, 100_000)
    X, queries = normal(rows, arguments.columns), normal(arguments.queries, arguments.columns, 1)
    for kind in ("faiss.IVFFlat", "faiss.IVFPQ"):
        model = KNN(k=arguments.k, predictor_type="regressor", index_type=kind, faiss_index_pq_m=8)
        model.fit(X, np.arange(rows) % 7)
        bare = faiss.clone_index(model.index_.index)
        contestants = {
            "sagesmith": lambda model=model: model.index_.search(queries, arguments.k),
            "bare faiss": lambda bare=bare: bare.search(queries, arguments.k),
        }
        compare(f"{kind}, {rows} x {arguments.columns}", contestants, 3 * arguments.repeat, len(queries))


def files(arguments: argparse.Namespace) -> None:
    """From CSV to predictions, each contestant with its readers, in a process that has imported what it needs."""
    try:
        import pandas
        from sklearn.neighbors import KNeighborsClassifier
    except ImportError as error:
        print(f"scikit-learn with pandas: passed over, {error}")
        return
    rows, queries = min(arguments.rows, 200_000), 2000
    X = normal(rows + queries, 54)
    table = np.column_stack([np.arange(len(X)) % 7, X])
    with tempfile.TemporaryDirectory() as folder:
        train, test = Path(folder, "train.csv"), Path(folder, "test.csv")
        frame = pandas.DataFrame(table)
        frame[:rows].to_csv(train, header=False, index=False, float_format="%.6g")
        frame[rows:].to_csv(test, header=False, index=False, float_format="%.6g")

        def ours() -> Any:
            model = KNN(k=arguments.k, predictor_type="classifier", sample_size=rows)
            model.fit(Channel.from_folder("train", train, "text/csv"))
            return model.predict(Channel.from_folder("test", test, "text/csv"))

        def theirs(read: Callable[[Path], np.ndarray]) -> Any:
            known, asked = read(train), read(test)
            model = KNeighborsClassifier(arguments.k, algorithm="brute").fit(known[:, 1:], known[:, 0])
            return model.predict(asked[:, 1:])

        def by_pandas(path: Path) -> np.ndarray:
            return pandas.read_csv(path, header=None, dtype=np.float32).to_numpy()

        def by_numpy(path: Path) -> np.ndarray:
            return np.loadtxt(path, delimiter=",", dtype=np.float32)

        same = float(np.mean(ours() == theirs(by_pandas)))
        contestants = {
            "sagesmith": ours,
            "scikit-learn, pandas": lambda: theirs(by_pandas),
            "scikit-learn, numpy": lambda: theirs(by_numpy),
        }
        title = (
            f"from files, {rows} x 54 CSV ({train.stat().st_size >> 20} MB), {queries} rows predicted, {same:.2%} alike"
        )
        compare(title, contestants, max(1, arguments.repeat - 1), queries)


def growth(arguments: argparse.Namespace) -> None:
    """Time and peak memory at 1, 2, 4 and 8 times the rows and columns."""
    found: dict[str, list[tuple[int, float, float, float]]] = {"rows": [], "columns": []}
    print("\ngrowth: rows, columns, seconds to fit, seconds for 1000 queries, peak MB above the imports")
    for name, base in (("rows", (50_000, 64)), ("columns", (50_000, 16))):
        for times in (1, 2, 4, 8):
            shape = (base[0] * times, base[1]) if name == "rows" else (base[0], base[1] * times)
            command = [sys.executable, __file__, "--measure", ",".join(map(str, shape))]
            line = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            print(f"  {shape[0]:7} {shape[1]:4}  {line.strip()}")
            fit, search, memory = map(float, line.split())
            found[name].append((times, fit, search, memory))
    if arguments.plot:
        plot(found, arguments.plot)


def measure(rows: int, columns: int) -> None:
    """Prints seconds to fit, seconds to search, MB."""
    import resource

    X, queries = normal(rows, columns), normal(1000, columns, 1)
    small = KNN(k=10, predictor_type="regressor").fit(X[:100], np.zeros(100))
    small.predict(queries[:50])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    model = KNN(k=10, predictor_type="regressor").fit(X, np.zeros(rows))
    fitted = time.perf_counter()
    model.predict(queries)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{fitted - started:.3f} {time.perf_counter() - fitted:.3f} {(peak - before) / 1024:.0f}")


def plot(found: Mapping[str, list[tuple[int, float, float, float]]], path: str) -> None:
    import matplotlib.pyplot as plt

    figure, both = plt.subplots(1, 2, figsize=(8, 3.2))
    for axes, column, title in ((both[0], 2, "1,000 queries, seconds"), (both[1], 3, "peak memory, MB")):
        for name, points in found.items():
            axes.plot([point[0] for point in points], [point[column] for point in points], "o-", label=name)
        axes.set(title=title, xlabel="times the size", xscale="log", yscale="log")
        axes.set_xticks([1, 2, 4, 8], ["1", "2", "4", "8"])
        axes.legend()
    figure.tight_layout()
    figure.savefig(path)


def covertype(arguments: argparse.Namespace) -> None:
    """SageMaker's published accuracies: 0.92214 for k = 10 and 0.81202 for k = 100 (its sample and split unknown)."""
    path = Path(os.environ.get("SAGESMITH_DATA", ""), "covtype.data.gz")
    if not os.environ.get("SAGESMITH_DATA") or not path.exists():
        print("\nCovertype: passed over, no covtype.data.gz in the folder that SAGESMITH_DATA names")
        return
    table = np.loadtxt(path, delimiter=",", dtype=np.float32)
    table = table[np.random.default_rng(0).permutation(len(table))]
    test, train = table[:58_102], table[58_102:]
    for k, published in ((10, 0.92214), (100, 0.81202)):
        model = KNN(k=k, predictor_type="classifier", sample_size=200_000).fit(train[:, :-1], train[:, -1])
        print(f"Covertype, k = {k}: accuracy {model.score(test[:, :-1], test[:, -1]):.5f}, published {published}")


if __name__ == "__main__":
    main()
