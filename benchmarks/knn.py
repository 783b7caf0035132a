"""knn: exact and approximate search against bare faiss and scikit-learn, from files to predictions, and growth.

    python benchmarks/knn.py [--rows 500000] [--columns 64] [--queries 1000] [--repeat 5] [--parts …] [--plot FILE]

Contestants take turns on the same data and threads; medians of wall and processor time. Peak memory is that of a
process of its own for each contestant, above its imports and the data. Covertype, of which SageMaker publishes
accuracies, is read from $SAGESMITH_DATA/covtype.data.gz and passed over where that is absent.
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
from sagesmith.formats.ahead import processors
from sagesmith.formats.channel import Channel

Search = Callable[[], Any]
FILES_COLUMNS, FILES_QUERIES = 54, 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--columns", type=int, default=64)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--parts", default="exact,one,lists,files,growth,covertype")
    parser.add_argument("--folder", help="where CSV files are written, or lie from an earlier run")
    parser.add_argument("--plot", metavar="FILE", help="draw the growth")
    parser.add_argument("--alone", help=argparse.SUPPRESS)  # one contestant, in a process of its own
    arguments = parser.parse_args()
    if arguments.alone:
        alone(arguments)
        return
    print(f"threads {processors()}, load average {os.getloadavg()}", flush=True)
    for part in arguments.parts.split(","):
        PARTS[part](arguments)


def compare(title: str, contestants: Mapping[str, Search], repeat: int, per: int) -> None:
    """Runs the contestants in turn and prints medians and ratios to the first."""
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for _ in range(repeat):
        for name, run in contestants.items():
            wall, busy = time.perf_counter(), time.process_time()
            run()
            runs[name].append((time.perf_counter() - wall, time.process_time() - busy))
    print(f"\n{title}; load average {os.getloadavg()[0]:.1f}")
    first = statistics.median(wall for wall, _ in next(iter(runs.values())))
    for name, found in runs.items():
        wall, busy = (statistics.median(run[at] for run in found) for at in (0, 1))
        print(
            f"  {name:28} {wall:9.4f} s  processor {busy:8.4f} s  {per / wall:10.0f}/s"
            f"  {wall / first:6.3f} times sagesmith's",
            flush=True,
        )


def normal(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)


def searchers(kind: str, X: np.ndarray, queries: np.ndarray, k: int) -> dict[str, Callable[[], Search]]:
    """Contestants by name: a call builds the index of this kind, and gives the search."""
    import faiss

    def ours() -> Search:
        model = KNN(k=k, predictor_type="regressor", index_type=f"faiss.{kind}", **options).fit(X, np.zeros(len(X)))
        return lambda: model.index_.search(queries, k)

    def bare() -> Search:
        width, lists = X.shape[1], int(len(X) ** 0.5)
        index: Any = faiss.IndexFlatL2(width)
        if kind == "IVFFlat":
            index = faiss.IndexIVFFlat(index, width, lists)
        elif kind == "IVFPQ":
            index = faiss.IndexIVFPQ(index, width, lists, 8, 8)
        if kind != "Flat":
            index.nprobe = 5
            index.train(X)
        index.add(X)
        return lambda: index.search(queries, k)

    def scikit() -> Search:
        from sklearn.neighbors import NearestNeighbors

        model = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(X)
        return lambda: model.kneighbors(queries)

    options = {"faiss_index_pq_m": 8} if kind == "IVFPQ" else {}
    found = {"sagesmith": ours, f"faiss {kind}": bare}
    return {**found, "scikit-learn brute": scikit} if kind == "Flat" else found


def search(kind: str, rows: int, arguments: argparse.Namespace, repeat: int) -> None:
    X, queries = normal(rows, arguments.columns), normal(arguments.queries, arguments.columns, 1)
    contestants = {name: build() for name, build in searchers(kind, X, queries, arguments.k).items()}
    contestants["sagesmith"]()
    compare(f"{kind}, {rows} x {arguments.columns}, {len(queries)} queries", contestants, repeat, len(queries))
    if kind == "Flat":
        again = contestants[f"faiss {kind}"]
        compare("faiss, told to multiply", {"faiss Flat": lambda: multiplied(again)}, repeat, len(queries))
    for name in contestants:
        fit, taken, memory = in_a_process(kind, name, rows, arguments.columns, arguments)
        print(f"  {name:28} built in {fit:.3f} s, searched in {taken:.3f} s, peak {memory:.0f} MB above the data")


def exact(arguments: argparse.Namespace) -> None:
    """Exact search: a thousand queries at once."""
    search("Flat", arguments.rows, arguments, arguments.repeat)


def one(arguments: argparse.Namespace) -> None:
    """Exact search: one query."""
    X, query = normal(arguments.rows, arguments.columns), normal(1, arguments.columns, 1)
    contestants = {name: build() for name, build in searchers("Flat", X, query, arguments.k).items()}
    compare(f"Flat, {arguments.rows} x {arguments.columns}, one query", contestants, 41, 1)


def lists(arguments: argparse.Namespace) -> None:
    """IVFFlat and IVFPQ beside the same index of bare faiss."""
    for kind in ("IVFFlat", "IVFPQ"):
        search(kind, min(arguments.rows, 100_000), arguments, 15 * arguments.repeat)


def multiplied(run: Search) -> Any:
    """A search by faiss with the threshold that it had in older versions."""
    import faiss

    before, faiss.cvar.distance_compute_blas_threshold = faiss.cvar.distance_compute_blas_threshold, 20
    try:
        return run()
    finally:
        faiss.cvar.distance_compute_blas_threshold = before


def from_files(folder: Path, k: int) -> dict[str, Search]:
    """Contestants that read train.csv and test.csv, learn from one and predict the other."""
    import pandas
    from sklearn.neighbors import KNeighborsClassifier

    train, test = folder / "train.csv", folder / "test.csv"

    def ours() -> Any:
        model = KNN(k=k, predictor_type="classifier").fit(Channel.from_folder("train", train, "text/csv"))
        return model.predict(Channel.from_folder("test", test, "text/csv"))

    def theirs(read: Callable[[Path], np.ndarray]) -> Any:
        known, asked = read(train), read(test)
        return KNeighborsClassifier(k, algorithm="brute").fit(known[:, 1:], known[:, 0]).predict(asked[:, 1:])

    def by_pandas(path: Path) -> np.ndarray:
        return pandas.read_csv(path, header=None, dtype=np.float32).to_numpy()

    def by_numpy(path: Path) -> np.ndarray:
        return np.loadtxt(path, delimiter=",", dtype=np.float32)

    return {
        "sagesmith": ours,
        "scikit-learn, pandas": lambda: theirs(by_pandas),
        "scikit-learn, numpy": lambda: theirs(by_numpy),
    }


def files(arguments: argparse.Namespace) -> None:
    """From CSV to predictions, each contestant with its readers, in a process that has imported what it needs."""
    rows = min(arguments.rows, 200_000)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(arguments.folder or name)
        if not (folder / "test.csv").exists():
            write_csv(folder, rows)
        contestants = from_files(folder, arguments.k)
        same = float(np.mean(contestants["sagesmith"]() == contestants["scikit-learn, pandas"]()))
        size = (folder / "train.csv").stat().st_size >> 20
        title = (
            f"from files, {rows} x {FILES_COLUMNS} CSV ({size} MB), {FILES_QUERIES} rows predicted, {same:.2%} alike"
        )
        compare(title, contestants, arguments.repeat, FILES_QUERIES)
        for contestant in contestants:
            _, taken, peak = in_a_process(str(folder), contestant, rows, FILES_COLUMNS, arguments)
            print(f"  {contestant:28} {taken:.3f} s, peak {peak:.0f} MB")


def write_csv(folder: Path, rows: int) -> None:
    import pandas

    X = normal(rows + FILES_QUERIES, FILES_COLUMNS)
    frame = pandas.DataFrame(np.column_stack([np.arange(len(X)) % 7, X]))
    frame[:rows].to_csv(folder / "train.csv", header=False, index=False, float_format="%.6g")
    frame[rows:].to_csv(folder / "test.csv", header=False, index=False, float_format="%.6g")


def in_a_process(kind: str, name: str, rows: int, columns: int, arguments: argparse.Namespace) -> list[float]:
    """Seconds to build, seconds to search, MB at the peak."""
    command = [sys.executable, __file__, "--alone", f"{kind}:{name}", "--rows", str(rows), "--columns", str(columns)]
    command += ["--k", str(arguments.k)]
    return [*map(float, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())]


def alone(arguments: argparse.Namespace) -> None:
    """One contestant: prints seconds to build, seconds to search 1,000 rows, MB at the peak."""
    kind, name = arguments.alone.split(":")
    queries = normal(1000, arguments.columns, 1)
    if "/" in kind:
        run = from_files(Path(kind), arguments.k)[name]

        def build() -> Search:
            return run

        searchers("Flat", queries, queries, arguments.k)["sagesmith"]()()  # imports
    else:
        X = normal(arguments.rows, arguments.columns)
        build = searchers(kind, X, queries, arguments.k)[name]
        searchers(kind, queries, queries[:50], arguments.k)[name]()()
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before, begun = memory("VmRSS"), time.perf_counter()
    found = build()
    built = time.perf_counter()
    found()
    print(built - begun, time.perf_counter() - built, memory("VmHWM") - before)


def memory(what: str) -> float:
    """MB of this process, as Linux tells."""
    return int(Path("/proc/self/status").read_text().split(f"{what}:")[1].split()[0]) / 1024


def growth(arguments: argparse.Namespace) -> None:
    """Time and peak memory at 1, 2, 4 and 8 times the rows and columns."""
    found: dict[tuple[str, str], list[tuple[int, list[float]]]] = {}
    print("\ngrowth: rows, columns; seconds to build and to answer 1,000 queries, peak MB above the data")
    for axis, base in (("rows", (50_000, 64)), ("columns", (50_000, 16))):
        for times in (1, 2, 4, 8):
            shape = (base[0] * times, base[1]) if axis == "rows" else (base[0], base[1] * times)
            for name in ("sagesmith", "faiss Flat", "scikit-learn brute"):
                figures = in_a_process("Flat", name, *shape, arguments)
                found.setdefault((axis, name), []).append((times, figures))
                built, taken, peak = figures
                print(f"  {shape[0]:7} x {shape[1]:3}  {name:20} {built:.3f} {taken:.3f} s {peak:5.0f} MB", flush=True)
    if arguments.plot:
        plot(found, arguments.plot)


def plot(found: Mapping[tuple[str, str], list[tuple[int, list[float]]]], path: str) -> None:
    import matplotlib.pyplot as plt

    figure, grid = plt.subplots(2, 2, figsize=(8, 6.4), sharex=True)
    for column, axis in enumerate(("rows", "columns")):
        for line, (at, title) in enumerate(((1, "1,000 queries, seconds"), (2, "peak memory above the data, MB"))):
            axes = grid[line][column]
            for (which, name), points in found.items():
                if which == axis:
                    axes.plot(
                        [times for times, _ in points],
                        [max(1e-3, figures[at]) for _, figures in points],
                        "o-",
                        label=name,
                    )
            axes.set(title=title, xlabel=f"times the {axis}", xscale="log", yscale="log")
            axes.set_xticks([1, 2, 4, 8], ["1", "2", "4", "8"])
    grid[0][0].legend()
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


PARTS = {"exact": exact, "one": one, "lists": lists, "files": files, "growth": growth, "covertype": covertype}

if __name__ == "__main__":
    main()
