"""PCA against scikit-learn's PCA and IncrementalPCA and faiss's PCAMatrix: time, quality, memory, growth.

    python benchmarks/pca.py [tall] [wide] [digits] [sketch] [growth] [--repeats 5] [--who WORD ...] [--picture FILE]

1. tall: 2,000,000 x 50, 10 components. wide: 50,000 x 3,072, 50 components. Arrays in memory, `fit` as a user calls it,
   checks and all; contestants in turn, medians. Quality is the variance that the components keep, as a share of what
   the exact ones keep. Beside them the machine's limits, measured in the same run: reading the bytes once, and the
   multiplications of the scatter matrix at the speed of a large product of matrices.
2. digits: MNIST's 10,000 test digits from $SAGESMITH_DATA/mnist/t10k-images-idx3-ubyte.gz (github kelas/mnist).
3. sketch: what two sketches of one size keep, on scikit-learn's digits and on MNIST: the rows times random signs, as
   SageMaker's guide has it, and ours (docs/decisions/0019).
4. growth: 1, 2, 4, 8 times the rows, then the columns: time and peak memory of whole processes, interpreter included.

The data are drawn with a fixed seed: a spectrum that falls like a power, turned at random, with noise and a mean.
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
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin while they wait spoil both sides' times

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
PARTS = ("tall", "wide", "digits", "sketch", "growth")
Fit = Callable[[np.ndarray, int], np.ndarray]  # rows, components -> components as columns


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("parts", nargs="*", default=PARTS, help=", ".join(PARTS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rows-divisor", type=int, default=1, help="fewer rows, for a quick look")
    parser.add_argument("--slow-repeats", type=int, default=1, help="for contestants that take more than five seconds")
    parser.add_argument("--who", nargs="+", default=[], help="words: only contestants whose names have one of them")
    parser.add_argument("--picture", type=Path, help="draws the growth")
    parser.add_argument("--one", nargs=4, metavar=("WHO", "ROWS", "COLUMNS", "COMPONENTS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options.one[0], *map(int, options.one[1:]))
        return
    names = ("numpy", "scipy", "scikit-learn", "faiss-cpu")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    print(f"Python {platform.python_version()}, {versions}, {len(os.sched_getaffinity(0))} processors")
    divisor = options.rows_divisor
    for part in options.parts:
        if part == "tall":
            contest("tall", drawn(2_000_000 // divisor, 50), 10, TALL, options)
        elif part == "wide":
            contest("wide", drawn(50_000 // divisor, 3_072), 50, WIDE, options)
        elif part == "digits":
            digits(options)
        elif part == "sketch":
            sketches()
        else:
            growth(options.picture)


def drawn(rows: int, columns: int) -> np.ndarray:
    """Rows in float32 of which few directions hold most, in pieces so that no copy in double precision is made."""
    random = np.random.default_rng(0)
    inner = min(columns, 200)
    turn = random.standard_normal((inner, columns), dtype=np.float32)
    turn *= (10 * np.arange(1, inner + 1, dtype=np.float32) ** -0.7)[:, None]
    X = np.empty((rows, columns), np.float32)
    for start in range(0, rows, 10_000):
        part = X[start : start + 10_000]
        part[:] = random.standard_normal((len(part), inner), dtype=np.float32) @ turn
        part += random.standard_normal(part.shape, dtype=np.float32) + 3
    return X


def ours(mode: str) -> Fit:
    def fit(X: np.ndarray, components: int) -> np.ndarray:
        from sagesmith.algorithms import PCA

        return np.asarray(PCA(num_components=components, algorithm_mode=mode).fit(X).v_)

    return fit


def theirs(solver: str) -> Fit:
    def fit(X: np.ndarray, components: int) -> np.ndarray:
        from sklearn.decomposition import PCA

        return np.asarray(PCA(components, svd_solver=solver, random_state=0).fit(X).components_.T)

    return fit


def incremental(X: np.ndarray, components: int) -> np.ndarray:
    from sklearn.decomposition import IncrementalPCA

    return np.asarray(IncrementalPCA(components, batch_size=max(1000, 5 * components)).fit(X).components_.T)


def faiss_matrix(X: np.ndarray, components: int) -> np.ndarray:
    import faiss

    matrix = faiss.PCAMatrix(X.shape[1], components)
    matrix.train(X)
    return np.asarray(faiss.vector_to_array(matrix.A).reshape(components, X.shape[1]).T)


EVERYONE: dict[str, Fit] = {
    "sagesmith regular": ours("regular"),
    "sagesmith randomized": ours("randomized"),
    "scikit-learn covariance_eigh": theirs("covariance_eigh"),
    "scikit-learn full": theirs("full"),
    "scikit-learn randomized": theirs("randomized"),
    "scikit-learn IncrementalPCA": incremental,
    "faiss PCAMatrix": faiss_matrix,
}
TALL = tuple(EVERYONE)
MINE = TALL[:2]
WIDE = tuple(name for name in EVERYONE if name != "scikit-learn full")  # which would take some ten minutes


def contest(title: str, X: np.ndarray, components: int, names: tuple[str, ...], options: Any) -> None:
    print(
        f"\n**{title}: {len(X):,} x {X.shape[1]:,}, {components} components, load average {os.getloadavg()[0]:.1f}**\n"
    )
    names = tuple(name for name in names if name in MINE or any(word in name for word in options.who or [""]))
    scatter = exact(X)
    best = float(np.linalg.eigvalsh(scatter)[-components:].sum())
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    quality = {}
    for turn in range(options.repeats + 1):
        for name in names if turn % 2 else names[::-1]:
            slow = times[name] and times[name][-1][0] > 5
            if slow and len(times[name]) >= options.slow_repeats:
                continue
            begun, used = time.perf_counter(), time.process_time()
            v = EVERYONE[name](X, components)
            spent = time.perf_counter() - begun, time.process_time() - used
            print(f"turn {turn}: {name} {spent[0]:.3f} s, processor {spent[1]:.3f} s", flush=True)
            if turn or spent[0] > 5:  # the first turn warms up
                times[name].append(spent)
            quality[name] = float((v * (scatter @ v)).sum()) / best
    mine = medians(times["sagesmith regular"])
    print("\n| | wall, s | processor, s | variance kept | time against regular |\n|---|---|---|---|---|")
    for name in names:
        wall, processor = medians(times[name])
        ratio = f"{wall / mine[0]:.2f}x ({processor / mine[1]:.2f}x)"
        print(f"| {name} | {wall:.3f} | {processor:.3f} | {quality[name]:.5f} | {ratio} |", flush=True)
    limits(X)


def medians(times: list[tuple[float, float]]) -> tuple[float, float]:
    return statistics.median(wall for wall, _ in times), statistics.median(processor for _, processor in times)


def exact(X: np.ndarray) -> np.ndarray:
    """The scatter matrix, in double precision."""
    mean = X.mean(axis=0, dtype=np.float64)
    result = np.zeros((X.shape[1], X.shape[1]))
    for start in range(0, len(X), 4096):
        part = X[start : start + 4096] - mean
        result += part.T @ part
    return result


def limits(X: np.ndarray) -> None:
    flat, square = X.ravel(), np.ones((2048, 2048), np.float32)
    square @ square
    reading = min(once(lambda: np.dot(flat, flat)) for _ in range(5))
    speed = 2 * 2048**3 / min(once(lambda: square @ square) for _ in range(5))
    count = len(X) * X.shape[1] * (X.shape[1] + 1)
    floor = max(reading, count / speed)
    print(
        f"\nLimits: reading the {X.nbytes / 1e6:.0f} MB once {reading:.3f} s; {count / 1e9:.1f} GFLOP at "
        f"{speed / 1e9:.0f} GFLOP/s {count / speed:.3f} s; so the floor is {floor:.3f} s."
    )


def once(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def digits(options: Any) -> None:
    X = mnist()
    for components in (5, 10, 20, 50) if X is not None else ():
        contest("digits", X, components, WIDE, options)


def mnist() -> np.ndarray | None:
    path = Path(os.environ.get("SAGESMITH_DATA", "")) / "mnist" / "t10k-images-idx3-ubyte.gz"
    if not path.is_file():
        print(f"\nMNIST: skipped, {path} is absent (set SAGESMITH_DATA; the file is in github kelas/mnist)")
        return None
    with gzip.open(path) as file:
        return np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 784).astype(np.float32)


def sketches() -> None:
    """The variance that components from sketches of 2 * components rows keep, least and most over five seeds."""
    from sklearn.datasets import load_digits

    print("\n| data | components | rows times random signs | ours |\n|---|---|---|---|")
    for title, X in (("digits", load_digits().data.astype(np.float32)), ("MNIST", mnist())):
        if X is None:
            continue
        X = X - X.mean(axis=0)
        scatter = exact(X)
        for components in (10, 20) if title == "digits" else (10, 20, 50):
            best = float(np.linalg.eigvalsh(scatter)[-components:].sum())
            kept: list[list[float]] = [[], []]
            for seed in range(5):
                for found, v in zip(kept, both_sketches(X, scatter, components, seed), strict=True):
                    found.append(float((v * (scatter @ v)).sum()) / best)
            ranges = " | ".join(f"{min(found):.3f} to {max(found):.3f}" for found in kept)
            print(f"| {title}, {len(X):,} x {X.shape[1]} | {components} | {ranges} |", flush=True)


def both_sketches(X: np.ndarray, scatter: np.ndarray, components: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    from sagesmith.algorithms.pca.spectrum import leading_of_sketch

    random = np.random.default_rng(seed)
    rows = components + max(10, components)
    signed = random.choice(np.array([-1, 1], np.float32), (rows, len(X))) @ X
    signs = random.choice([-1.0, 1.0], (X.shape[1], rows))
    theirs = np.linalg.svd(signed.astype(np.float64), full_matrices=False)[2][:components].T
    return theirs, leading_of_sketch(signs.T @ scatter, signs, components)[1]


def growth(picture: Path | None) -> None:
    """Time of `fit` and peak memory of whole processes, for more rows and for more columns."""
    print(f"\n**growth, load average {os.getloadavg()[0]:.1f}**\n")
    print(
        "| | rows | columns | fit, s | processor, s | peak, MB | of which the data, MB |\n|---|---|---|---|---|---|---|"
    )
    drawn_points: dict[tuple[str, str], list[tuple[int, float, float]]] = {}
    for axis in ("rows", "columns"):
        for times in (1, 2, 4, 8):
            rows, columns = (250_000 * times, 50) if axis == "rows" else (20_000, 128 * times)
            for who in ("sagesmith regular", "sagesmith randomized", "scikit-learn covariance_eigh"):
                command = [sys.executable, __file__, "--one", who, str(rows), str(columns), "10"]
                told = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
                size = rows * columns * 4 / 1e6
                print(
                    f"| {who} | {rows:,} | {columns:,} | {told['wall']:.3f} | {told['processor']:.3f} | "
                    f"{told['peak']:.0f} | {size:.0f} |",
                    flush=True,
                )
                drawn_points.setdefault((axis, who), []).append((times, told["wall"], told["peak"]))
    if picture:
        draw(drawn_points, picture)


def one(who: str, rows: int, columns: int, components: int) -> None:
    import resource

    X = drawn(rows, columns)
    EVERYONE[who](X[: 1 << 17], components)  # imports, for many rows too
    begun, used = time.perf_counter(), time.process_time()
    EVERYONE[who](X, components)
    wall, processor = time.perf_counter() - begun, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"wall": wall, "processor": processor, "peak": peak}))


def draw(points: dict[tuple[str, str], list[tuple[int, float, float]]], picture: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(9, 6), sharex=True)
    for (axis, who), found in points.items():
        column = 0 if axis == "rows" else 1
        for row in (0, 1):
            axes[row][column].plot([p[0] for p in found], [p[row + 1] for p in found], marker="o", label=who)
    for column, title in enumerate(("rows: 250,000 x 50 times", "columns: 20,000 x 128 times")):
        axes[0][column].set(title=title, ylabel="fit, s", ylim=(0, None))
        axes[1][column].set(xlabel="times", ylabel="peak memory, MB", ylim=(0, None), xticks=(1, 2, 4, 8))
    axes[0][0].legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(picture)


if __name__ == "__main__":
    main()
