"""k-means against scikit-learn and faiss: time until the clusters are good, rows per second of a pass, growth.

    python benchmarks/kmeans.py [--rows 2000000] [--columns 50] [--clusters 100] [--repeats 3] [--plot FILE]
                                [--parts quality pass growth real orders] [--who WORD ...]

1. quality: each contestant clusters the same rows, in turn, each time in a process of its own; seconds, processor
   seconds, peak memory beside the data, and the sum of squared distances (ssd), computed alike for all. Who is not
   within 2% of the best ssd has not arrived, however long it took.
2. pass: one pass of mini-batches, ours and `partial_fit`, with the same number of centers; and the floor: the
   multiplications over what a float32 matrix product of this shape reaches here.
3. growth: time and memory for 1, 2, 4 and 8 times the rows and the columns.
4. real: quality on letters (in this repository) and MNIST's 10,000 test digits, `mnist/t10k-images-idx3-ubyte.gz` below
   the folder SAGESMITH_DATA.
5. orders: ours on real rows in six orders each, how far it is above `KMeans(n_init=10)`.

The drawn rows are a mixture of as many Gaussians as clusters, of unlike size and spread, with a fixed seed.
`--spread` says how far apart they lie, in standard deviations of a coordinate; 1 by default.
"""

from __future__ import annotations

import argparse
import gzip
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

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin while they wait spoil the others' times
os.environ.setdefault("KMP_BLOCKTIME", "0")

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)
BATCH = 5000
Fit = Callable[[np.ndarray, int], np.ndarray]


def ours(factor: Any) -> Fit:
    def fit(X: np.ndarray, k: int) -> np.ndarray:
        from sagesmith.algorithms import KMeans

        return KMeans(k=k, extra_center_factor=factor).fit(X).cluster_centers_

    return fit


def scikit(**settings: Any) -> Fit:
    def fit(X: np.ndarray, k: int) -> np.ndarray:
        from sklearn.cluster import KMeans

        return KMeans(k, random_state=0, **settings).fit(X).cluster_centers_

    return fit


def mini_batch(X: np.ndarray, k: int) -> np.ndarray:
    from sklearn.cluster import MiniBatchKMeans

    return MiniBatchKMeans(k, random_state=0).fit(X).cluster_centers_


def partial_fit(X: np.ndarray, k: int, init: str = "k-means++") -> np.ndarray:
    from sklearn.cluster import MiniBatchKMeans

    model = MiniBatchKMeans(k, random_state=0, init=init, batch_size=BATCH)
    for start in range(0, len(X), BATCH):
        model.partial_fit(X[start : start + BATCH])
    return model.cluster_centers_


def faiss(**settings: Any) -> Fit:
    def fit(X: np.ndarray, k: int) -> np.ndarray:
        import faiss as library

        model = library.Kmeans(X.shape[1], k, seed=1, **settings)
        model.train(X)
        return model.centroids

    return fit


def our_pass(X: np.ndarray, k: int) -> np.ndarray:
    """What partial_fit does: the updates alone, with k centers."""
    from sagesmith.algorithms import KMeans
    from sagesmith.algorithms.run import Run
    from sagesmith.formats.batch import Batch

    model = KMeans(k=k, extra_center_factor=1)
    model.begin(Run())
    for start in range(0, len(X), BATCH):
        model.update(Batch(X[start : start + BATCH]))
    return model._training.known.centers.points


CONTESTANTS: dict[str, Fit] = {
    "sagesmith": ours("auto"),
    "sagesmith, extra_center_factor 4": ours(4),
    "sagesmith, extra_center_factor 1": ours(1),
    "MiniBatchKMeans.partial_fit": partial_fit,
    "MiniBatchKMeans.fit": mini_batch,
    "faiss.Kmeans": faiss(),
    "faiss.Kmeans, nredo 10": faiss(nredo=10),
    "faiss.Kmeans, all rows, 10 iterations": faiss(niter=10, max_points_per_centroid=1 << 30),
    "KMeans, n_init 1, 10 iterations": scikit(n_init=1, max_iter=10),
    "KMeans, n_init 10": scikit(n_init=10),
    "pass: sagesmith": our_pass,
    "pass: partial_fit": lambda X, k: partial_fit(X, k, "random"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("rows", 2_000_000), ("columns", 50), ("clusters", 100), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--spread", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--parts", nargs="+", default=["quality", "pass", "growth", "real", "orders"])
    parser.add_argument("--who", nargs="+", default=[""], help="words: only contestants whose names have one of them")
    parser.add_argument("--slow", action="store_true", help="KMeans(n_init=10) on the drawn rows too: many minutes")
    parser.add_argument("--plot", type=Path, help="draw growth into this file (needs matplotlib)")
    parser.add_argument("--one", nargs=3, metavar=("NAME", "FILE", "K"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options.one[0], Path(options.one[1]), int(options.one[2]))
        return
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    names = ("scikit-learn", "faiss-cpu", "numpy", "numba")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    print(f"Python {platform.python_version()}, {versions}; {options.threads} threads")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.npy"
        if {"quality", "pass"} & set(options.parts):
            np.save(file, drawn(options.rows, options.columns, options.clusters, options.spread))
        if "quality" in options.parts:
            listed = [name for name in CONTESTANTS if not name.startswith("pass") and name != "KMeans, n_init 10"]
            listed += ["KMeans, n_init 10"] * options.slow
            listed = [name for name in listed if any(word in name for word in options.who)]
            quality(f"{options.rows:,} x {options.columns}", file, options.clusters, listed, options.repeats)
        if "pass" in options.parts:
            for k in (options.clusters, 10 * options.clusters):
                passes(file, options, k)
        if "real" in options.parts:
            real(file, options.repeats, options.who)
        if "growth" in options.parts:
            growth(file, options)
        if "orders" in options.parts:
            orders()


def drawn(rows: int, columns: int, clusters: int, spread: float) -> np.ndarray:
    random = np.random.default_rng(0)
    means = spread * random.normal(size=(clusters, columns)).astype(np.float32)
    which = random.choice(clusters, rows, p=random.dirichlet(np.full(clusters, 2.0)))
    scale = random.uniform(0.5, 1.5, clusters).astype(np.float32)
    X = random.standard_normal((rows, columns), np.float32)
    for start in range(0, rows, 1 << 16):
        part = which[start : start + (1 << 16)]
        X[start : start + (1 << 16)] *= scale[part, None]
        X[start : start + (1 << 16)] += means[part]
    return X


def one(name: str, file: Path, k: int) -> None:
    """Runs in a process of its own: fits once on a few rows, to load and compile, and once on all."""
    X = np.load(file)
    fit = CONTESTANTS[name]
    fit(X[: max(20 * k, 2 * BATCH)].copy(), k)
    before = memory_of("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    begun, used = time.perf_counter(), time.process_time()
    centers = fit(X, k)
    seconds, processor = time.perf_counter() - begun, time.process_time() - used
    memory = memory_of("VmHWM") - before
    np.save(file.with_suffix(".centers.npy"), centers)
    print(json.dumps({"seconds": seconds, "processor": processor, "MB": memory}))


def memory_of(what: str) -> float:
    """MB of this process: VmRSS now, VmHWM at the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(what)).split()[1]) / 1024


def measured(name: str, file: Path, k: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", name, str(file), str(k)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def ssd_of(file: Path) -> float:
    from sagesmith.algorithms.kmeans.centers import Centers

    X = np.load(file, mmap_mode="r")
    centers = Centers(np.load(file.with_suffix(".centers.npy")))
    return float(sum(centers.nearest(X[start : start + 10**5], 2)[1].sum() for start in range(0, len(X), 10**5)))


def quality(title: str, file: Path, k: int, names: list[str], repeats: int) -> None:
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    ssd = {}
    for _ in range(repeats):
        for name in names:
            if runs[name] and runs[name][0]["seconds"] > 20:
                continue  # once is enough of what takes so long
            runs[name].append(measured(name, file, k))
            ssd[name] = ssd_of(file)
            print(f"{name}: {runs[name][-1]['seconds']:.3f} s, ssd {ssd[name]:.6g}", flush=True)
    best = min(ssd.values())
    best_peer = min((value for name, value in ssd.items() if not name.startswith("sagesmith")), default=best)
    print(f"\n**{title}, k = {k}**, medians of up to {repeats}, load average {os.getloadavg()[0]:.1f}\n")
    print(
        "| | seconds | processor seconds | MB beside the data | ssd over best | over best peer's | within 2% of best |"
    )
    print("|---|---|---|---|---|---|---|")
    for name in names:
        seconds, processor, memory = (median(runs[name], key) for key in ("seconds", "processor", "MB"))
        arrived = "yes" if ssd[name] <= 1.02 * best else "no"
        print(
            f"| {name} | {seconds:.3f} | {processor:.3f} | {memory:.0f} | {ssd[name] / best:.4f} "
            f"| {ssd[name] / best_peer:.4f} | {arrived} |",
            flush=True,
        )


def median(runs: list[dict[str, float]], key: str) -> float:
    return statistics.median(run[key] for run in runs)


def passes(file: Path, options: argparse.Namespace, k: int) -> None:
    sides = ("pass: sagesmith", "pass: partial_fit")
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for number in range(options.repeats):
        for name in sides if number % 2 else sides[::-1]:
            runs[name].append(measured(name, file, k))
    mine, theirs = (median(runs[name], "seconds") for name in sides)
    rate = product_rate(options.columns, k)
    floor = 2.0 * options.rows * options.columns * k / rate
    print(f"\n**One pass, {options.rows:,} x {options.columns}, {k} centers**, load average {os.getloadavg()[0]:.1f}\n")
    print("| | seconds | processor seconds | rows/s |\n|---|---|---|---|")
    for name in sides:
        seconds = median(runs[name], "seconds")
        print(f"| {name} | {seconds:.3f} | {median(runs[name], 'processor'):.3f} | {options.rows / seconds:,.0f} |")
    print(
        f"\nratio of rows/s {theirs / mine:.2f}; numpy's matrix products alone, {rate / 1e9:.0f} GFLOP/s: {floor:.3f} s"
    )


def product_rate(columns: int, k: int) -> float:
    """Floating-point operations per second of numpy's float32 product of a mini-batch with the centers."""
    rows, centers = np.ones((BATCH, columns), np.float32), np.ones((columns, k), np.float32)
    out = rows @ centers
    times = []
    for _ in range(50):
        begun = time.perf_counter()
        np.matmul(rows, centers, out=out)
        times.append(time.perf_counter() - begun)
    return 2.0 * BATCH * columns * k / statistics.median(times)


def real(file: Path, repeats: int, who: list[str]) -> None:
    sets = [("letters, 20,000 x 16", letters(), 26)]
    rows = digits()
    if rows is not None:
        sets.append(("MNIST test digits, 10,000 x 784", rows, 10))
    names = [name for name in CONTESTANTS if not name.startswith("pass") and any(word in name for word in who)]
    for title, rows, k in sets:
        np.save(file, rows)
        quality(title, file, k, names, repeats)


def letters() -> np.ndarray:
    with gzip.open(ROOT / "examples" / "data" / "letter-recognition.tsv.gz", "rt") as lines:
        return np.loadtxt(lines, delimiter="\t", skiprows=1, usecols=range(16)).astype(np.float32)


def digits() -> np.ndarray | None:
    """MNIST's test digits, where they are."""
    path = Path(os.environ.get("SAGESMITH_DATA", "")) / "mnist" / "t10k-images-idx3-ubyte.gz"
    if "SAGESMITH_DATA" not in os.environ or not path.exists():
        print("\nMNIST skipped: no mnist/t10k-images-idx3-ubyte.gz below SAGESMITH_DATA (github: kelas/mnist)")
        return None
    with gzip.open(path) as pixels:
        return np.frombuffer(pixels.read(), np.uint8, offset=16).reshape(-1, 784).astype(np.float32)


def adults() -> np.ndarray:
    """32,561 people by six numbers, each with mean 0 and variance 1."""
    with gzip.open(ROOT / "sagesmith" / "examples_data" / "adult-train.csv.gz", "rt") as lines:
        table = np.loadtxt(lines, delimiter=",", usecols=range(1, 7))
    return ((table - table.mean(axis=0)) / table.std(axis=0)).astype(np.float32)


def orders() -> None:
    from sklearn.cluster import KMeans

    rows = digits()
    sets = [("letters, 20,000", letters(), 26), ("letters, 8,000", letters()[:8000], 26)]
    sets += [("Adult, 32,561", adults(), 10), ("Adult, 8,000", adults()[:8000], 10)]
    sets += [] if rows is None else [("MNIST", rows, 10)]
    print("\n**Above `KMeans(n_init=10)` in percent, mean and most of six orders**\n")
    print("| | rows of a batch | one pass, random | one pass, k-means++ | three passes, random | three, k-means++ |")
    print("|---|---|---|---|---|---|")
    for title, X, k in sets:
        best = float(KMeans(k, n_init=10, random_state=0).fit(X).inertia_)
        for batch in (BATCH, 1000):
            cells = [_above(X, k, best, batch, passes, init) for passes in (1, 3) for init in ("random", "kmeans++")]
            print(f"| {title} | {batch:,} | {' | '.join(cells)} |", flush=True)


def _above(X: np.ndarray, k: int, best: float, batch: int, passes: int, init: str) -> str:
    from sagesmith.algorithms import KMeans

    found = []
    for seed in range(6):
        shuffled = X[np.random.default_rng(seed).permutation(len(X))]
        model = KMeans(k=k, mini_batch_size=batch, epochs=passes, init_method=init)
        found.append(100 * (model.fit(shuffled).inertia_ / best - 1))
    return f"{statistics.mean(found):.2f}, {max(found):.2f}"


def growth(file: Path, options: argparse.Namespace) -> None:
    points = []
    for what, base in (("rows", (options.rows // 8, options.columns)), ("columns", (options.rows // 8, 25))):
        for times in (1, 2, 4, 8):
            rows, columns = (base[0] * times, base[1]) if what == "rows" else (base[0], base[1] * times)
            np.save(file, drawn(rows, columns, options.clusters, options.spread))
            runs = [measured("sagesmith", file, options.clusters) for _ in range(options.repeats)]
            points.append((what, times, rows, columns, median(runs, "seconds"), median(runs, "MB")))
            print(f"{rows:,} x {columns}: {points[-1][4]:.3f} s", flush=True)
    print(f"\n**Growth, k = {options.clusters}**, load average {os.getloadavg()[0]:.1f}\n")
    print("| | rows | columns | seconds | MB beside the data |\n|---|---|---|---|---|")
    for what, times, rows, columns, seconds, memory in points:
        print(f"| {what} x {times} | {rows:,} | {columns} | {seconds:.3f} | {memory:.0f} |")
    if options.plot:
        draw(points, options.plot)


def draw(points: list[tuple[str, int, int, int, float, float]], path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    _, axes = pyplot.subplots(1, 2, figsize=(8, 3.2))
    for axis, index, label in ((axes[0], 4, "seconds"), (axes[1], 5, "MB beside the data")):
        for what in ("rows", "columns"):
            mine = [point for point in points if point[0] == what]
            axis.plot([point[1] for point in mine], [point[index] for point in mine], "o-", label=f"more {what}")
        axis.set(xlabel="times the smallest", ylabel=label, xticks=[1, 2, 4, 8], ylim=(0, None))
        axis.legend()
    pyplot.tight_layout()
    pyplot.savefig(path)


if __name__ == "__main__":
    main()
