"""Formats: RecordIO and CSV read side by side with the readers that users know.

    python benchmarks/formats.py [--sdk-python /path/to/venv/bin/python] [--rounds 5] [--megabytes 64]

RecordIO is read beside `read_records` of SageMaker's own Python SDK, which lives in an environment of its own (it
brings its own protobuf); CSV beside pyarrow.csv.read_csv and pandas.read_csv, libsvm beside scikit-learn's
load_svmlight_file. Rounds alternate between the readers, files in the page cache. Where nothing else is said a reader
has one thread; ours and pyarrow are also run with all processors. Printed are medians of the clock and of processor
time, which counts other work on the machine less, with the ratio of the clock to ours with one thread. "copy" is the
bound: the same bytes read from the file and copied once in memory. Peers return what they return; ours is float32 rows
with labels apart. pyarrow is timed three ways: as it comes, told that all is float32, and laid out in rows of float32
as the algorithms need them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as arrow
from pyarrow import csv
from scipy import sparse
from sklearn.datasets import load_svmlight_file

from sagesmith.formats.batch import Batch
from sagesmith.formats.channel import Channel
from sagesmith.formats.recordio_writer import write_records

SDK = """
import sys, time, warnings
warnings.simplefilter("ignore")
from sagemaker.amazon.common import read_records
print("ready", flush=True)
for line in sys.stdin:
    begun, busy = time.perf_counter(), time.process_time()
    with open(line.strip(), "rb") as file:
        rows = len(read_records(file))
    print(rows, time.perf_counter() - begun, time.process_time() - busy, flush=True)
"""


Times = tuple[float, float]  # seconds on the clock, and of processors


def timed(read: Callable[[], int], threads: int = 1) -> Callable[[], Times]:
    def run() -> Times:
        os.environ["OMP_NUM_THREADS"] = str(threads)
        begun, busy = time.perf_counter(), time.process_time()
        assert read() > 0
        return time.perf_counter() - begun, time.process_time() - busy

    return run


def copied(path: Path) -> int:
    """Reads the bytes in pieces and copies each once."""
    total = 0
    target = np.empty(1 << 20, np.uint8)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            target[: len(block)] = np.frombuffer(block, np.uint8)
            total += len(block)
    return total


def rows_of(path: Path, content_type: str) -> int:
    return sum(len(batch) for batch in Channel.from_folder("train", path, content_type).batches())


class Sdk:
    """The SDK in a process of its own; only the reading is timed, in that process."""

    def __init__(self, python: str) -> None:
        self.process = subprocess.Popen(
            [python, "-c", SDK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.process.stdout is not None
        while "ready" not in (line := self.process.stdout.readline()):
            if not line:
                raise SystemExit(f"{python} cannot import the sagemaker SDK")

    def read(self, path: Path) -> Callable[[], Times]:
        def run() -> Times:
            assert self.process.stdin is not None
            assert self.process.stdout is not None
            print(path, file=self.process.stdin, flush=True)
            _, clock, busy = self.process.stdout.readline().split()
            return float(clock), float(busy)

        return run

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def compare(title: str, path: Path, readers: dict[str, Callable[[], Times]], rounds: int) -> None:
    """Alternates the readers, after one round that is not counted, and prints medians."""
    times: dict[str, list[Times]] = {name: [] for name in readers}
    for turn in range(rounds + 1):
        for name, run in readers.items():
            taken = run()
            if turn:
                times[name].append(taken)
    size = path.stat().st_size / 1e6
    ours = statistics.median(clock for clock, _ in times["sagesmith"])
    print(f"\n**{title}, {size:.0f} MB, median of {rounds}**")
    print("\n| reader | MB/s | seconds | of processors | time against ours |\n|---|---|---|---|---|")
    for name, found in times.items():
        clock, busy = (statistics.median(pair[at] for pair in found) for at in (0, 1))
        print(f"| {name} | {size / clock:,.0f} | {clock:.3f} | {busy:.3f} | {clock / ours:.2f}x |", flush=True)


def make_recordio(folder: Path, megabytes: int) -> list[tuple[str, Path]]:
    rng = np.random.default_rng(0)
    rows = megabytes * 5000
    dense = folder / "dense.pbr"
    labels = rng.integers(0, 2, rows).astype(np.float32)
    dense.write_bytes(write_records(Batch(rng.normal(size=(rows, 41)).astype(np.float32), labels)))
    rows = megabytes * 3000
    matrix = sparse.random(rows, 10_000, density=0.005, format="csr", dtype=np.float32, rng=rng)
    sparse_file = folder / "sparse.pbr"
    sparse_file.write_bytes(write_records(Batch(matrix, labels[:rows])))
    return [("RecordIO dense, 41 columns", dense), ("RecordIO sparse, 50 of 10,000 columns", sparse_file)]


def make_csv(folder: Path, megabytes: int) -> list[tuple[str, Path]]:
    rng = np.random.default_rng(0)
    rows = megabytes * 1000
    made = []
    for title, values in (
        ("CSV, 30 columns of float32", rng.normal(size=(rows * 3, 30)).astype(np.float32)),
        ("CSV, 30 columns of float64 with 17 digits", rng.normal(size=(rows * 5 // 3, 30))),
        ("CSV, 50 columns of small integers", rng.integers(0, 1000, (rows * 5, 50))),
        ("CSV, 1,000 columns of 4 decimals", np.round(rng.normal(size=(rows // 7, 1000)), 4)),
        ("CSV, 25 columns as numpy.savetxt writes them (%.18e)", rng.normal(size=(rows * 8 // 5, 25))),
    ):
        path = folder / f"{len(made)}.csv"
        form = "%.18e" if "savetxt" in title else None
        pd.DataFrame(values).to_csv(path, header=False, index=False, float_format=form)
        made.append((title, path))
    return made


def make_libsvm(folder: Path, megabytes: int) -> Path:
    """50 of 10,000 columns, rounded to 6 digits."""
    rng = np.random.default_rng(0)
    rows = megabytes * 1400
    keys = np.sort(rng.integers(0, 200, (rows, 50)) + 200 * np.arange(50), axis=1).tolist()
    values = rng.normal(size=(rows, 50)).tolist()
    path = folder / "rows.libsvm"
    with path.open("w") as file:
        for row in range(rows):
            pairs = zip(keys[row], values[row], strict=True)
            file.write(f"{row % 2} {' '.join(f'{key}:{value:.6g}' for key, value in pairs)}\n")
    return path


def arrow_table(path: Path, cells: arrow.DataType | None = None, threads: bool = False) -> arrow.Table:
    """pyarrow's own reader; `cells` is the type of every column, which it guesses if there is none."""
    options = csv.ReadOptions(autogenerate_column_names=True, use_threads=threads)
    with path.open("rb") as file:
        columns = file.readline().count(b",") + 1
    types = {f"f{index}": cells for index in range(columns)} if cells else None
    return csv.read_csv(path, read_options=options, convert_options=csv.ConvertOptions(column_types=types))


def arrow_matrix(path: Path) -> np.ndarray:
    """The float32 columns, laid side by side in rows as ours are."""
    table = arrow_table(path, arrow.float32())
    matrix = np.empty((table.num_rows, table.num_columns), np.float32)
    for index, column in enumerate(table.columns):
        matrix[:, index] = column.to_numpy()
    return matrix


PEAK = """
import sys
from pathlib import Path
from sagesmith.formats.channel import Channel
for path in sys.argv[1:]:
    assert sum(len(batch) for batch in Channel.from_folder("train", Path(path), "text/csv").batches()) > 0
    status = Path("/proc/self/status").read_text()
    print(int(status.split("VmHWM:")[1].split()[0]) // 1024, flush=True)
"""


def peaks(paths: list[Path]) -> list[int]:
    """Megabytes resident at the peak, after reading each file in turn in one fresh process; needs Linux."""
    command = [sys.executable, "-c", PEAK, *map(str, paths)]
    return [int(line) for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()]


def compare_memory(folder: Path, path: Path) -> None:
    """Prints the peak for a file, and for one sixteen times as long."""
    longer = folder / "longer.csv"
    with longer.open("wb") as file:
        for _ in range(16):
            file.write(path.read_bytes())
    for name, peak in zip((path, longer), peaks([path, longer]), strict=True):
        print(f"\npeak memory of a process that reads {name.stat().st_size / 1e6:,.0f} MB of CSV: {peak} MB")
    longer.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sdk-python", default="", help="python of an environment with sagemaker 2.x")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=64)
    parser.add_argument("--text-only", action="store_true", help="CSV and libsvm")
    given = parser.parse_args()
    processors = len(os.sched_getaffinity(0))
    arrow.set_cpu_count(processors)  # it would look at OMP_NUM_THREADS, which `timed` changes
    sdk = Sdk(given.sdk_python) if given.sdk_python else None
    with tempfile.TemporaryDirectory() as name:
        for title, path in [] if given.text_only else make_recordio(Path(name), given.megabytes):
            readers = {"sagesmith": timed(lambda path=path: rows_of(path, "recordio-protobuf"))}
            readers["copy"] = timed(lambda path=path: copied(path))
            if sdk is not None:
                readers["sagemaker SDK read_records"] = sdk.read(path)
            compare(title, path, readers, given.rounds)
        if sdk is None:
            print("\nskipped: the sagemaker SDK's read_records (no --sdk-python)")
        else:
            sdk.close()
        for title, path in make_csv(Path(name), given.megabytes):
            readers = {
                "sagesmith": timed(lambda path=path: rows_of(path, "text/csv")),
                f"sagesmith, {processors} threads": timed(lambda path=path: rows_of(path, "text/csv"), processors),
                "pyarrow, a table of guessed types": timed(lambda path=path: arrow_table(path).num_rows),
                "pyarrow, a table of float32": timed(lambda path=path: arrow_table(path, arrow.float32()).num_rows),
                f"pyarrow, a table of float32, {processors} threads": timed(
                    lambda path=path: arrow_table(path, arrow.float32(), True).num_rows
                ),
                "pyarrow, a float32 matrix": timed(lambda path=path: len(arrow_matrix(path))),
                "pandas.read_csv": timed(lambda path=path: len(pd.read_csv(path, header=None))),
                "copy": timed(lambda path=path: copied(path)),
            }
            compare(title, path, readers, given.rounds)
        longest = path
        path = make_libsvm(Path(name), given.megabytes)
        readers = {
            "sagesmith": timed(lambda: rows_of(path, "text/libsvm")),
            f"sagesmith, {processors} threads": timed(lambda: rows_of(path, "text/libsvm"), processors),
            "sklearn load_svmlight_file": timed(lambda: load_svmlight_file(str(path), dtype=np.float32)[0].shape[0]),
            "copy": timed(lambda: copied(path)),
        }
        compare("libsvm, 50 of 10,000 columns", path, readers, given.rounds)
        compare_memory(Path(name), longest)


if __name__ == "__main__":
    main()
