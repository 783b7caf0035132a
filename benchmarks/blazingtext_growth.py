"""BlazingText: what more words, longer vectors and a second host cost or save.

    python benchmarks/blazingtext_growth.py --text corpus.txt [--plot growth.svg]
    python benchmarks/blazingtext_growth.py --text corpus.txt --hosts

The corpus is lower-case words, a line a paragraph; its first lines are taken for smaller texts. One epoch each, without
judging the vectors, in a process of its own; its peak memory is that process's, the vocabulary and numba among it.
Hosts are processes of one thread each that meet as a job's do.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
MODES = ("skipgram", "cbow", "batch_skipgram")
WORDS = (625_000, 1_250_000, 2_500_000, 5_000_000)
DIMENSIONS = (50, 100, 200, 400)
TICKS = (0.1, 0.2, 0.5, 1, 2, 5)  # seconds that the picture names
ALONE = """
import json, resource, sys
from pathlib import Path
from sagesmith.algorithms import BlazingText
from sagesmith.algorithms.run import Run
settings = {"evaluation": False, "epochs": 1} | json.loads(sys.argv[1])
BlazingText(**settings | {"min_count": 1}).fit(["a few words to compile by", "and a few more words"] * 60)

class Told(Run):
    lines = []
    def log(self, message, *arguments, level=0):
        self.lines.append(message % arguments)

run = Told()
BlazingText(**settings).fit(Path(sys.argv[2]), run=run)
seconds = next(line for line in run.lines if line.startswith("Total training time"))
print(json.dumps({"seconds": float(seconds.split()[-1]),
                  "MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""


def measured(mode: str, text: Path, dimensions: int) -> dict[str, float]:
    """Seconds of an epoch, and the peak memory of its process in MB."""
    settings = json.dumps({"mode": mode, "vector_dim": dimensions})
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", ALONE, settings, str(text)], env=environment, check=True, capture_output=True, text=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def growth(text: Path, folder: Path, modes: Sequence[str], plot: Path | None) -> None:
    points: dict[str, dict[str, list[tuple[int, float, float]]]] = {"words": {}, "dimensions": {}}
    texts = {}
    content = text.read_bytes()
    for words in WORDS:
        texts[words] = folder / f"{words}.txt"
        texts[words].write_bytes(first(content, words))
    print("| mode | words | dimensions | seconds of an epoch | million words/s | peak MB |\n|---|---|---|---|---|---|")
    largest = WORDS[-1]
    for mode in modes:
        for what, cases in (("words", [(n, 100) for n in WORDS]), ("dimensions", [(largest, d) for d in DIMENSIONS])):
            for words, dimensions in cases:
                found = measured(mode, texts[words], dimensions)
                size = words if what == "words" else dimensions
                points[what].setdefault(mode, []).append((size, found["seconds"], found["MB"]))
                speed = words / found["seconds"] / 1e6
                print(
                    f"| {mode} | {words:,} | {dimensions} | {found['seconds']:.2f} | {speed:.1f} | {found['MB']:.0f} |"
                )
                sys.stdout.flush()
    if plot:
        draw(points, plot)


def first(content: bytes, words: int) -> bytes:
    """The lines of a text in which its first words are."""
    taken, lines = 0, []
    for line in content.splitlines(keepends=True):
        if taken >= words:
            break
        taken += len(line.split())
        lines.append(line)
    return b"".join(lines)


def hosts(text: Path, folder: Path, epochs: int, repeats: int) -> None:
    """One host of one thread beside two of one thread each, and beside one of two."""
    print("\n| hosts | threads of each | million words/s | times one of one | mean_rho |\n|---|---|---|---|---|")
    base = 0.0
    for count, threads in ((1, 1), (2, 1), (1, 2)):
        runs = [job(text, folder / f"{count}-{threads}-{number}", count, threads, epochs) for number in range(repeats)]
        speed = statistics.median(run[0] for run in runs)
        base = base or speed
        rhos = ", ".join(f"{run[1]:.3f}" for run in runs)
        print(f"| {count} | {threads} | {speed:.2f} | {speed / base:.2f} | {rhos} |", flush=True)


def job(text: Path, folder: Path, count: int, threads: int, epochs: int) -> tuple[float, float]:
    """Million words a second of all hosts of a batch_skipgram job together, and mean_rho."""
    names = [f"algo-{number + 1}" for number in range(count)]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = os.environ | {
        "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(threads), "SAGESMITH_RENDEZVOUS": f"127.0.0.1:{port}",
        "SAGESMITH_HOSTS": json.dumps(dict.fromkeys(names, "127.0.0.1")), "SAGESMITH_GANG_TOKEN": "benchmark",
    }  # fmt: skip
    running = []
    for name in names:
        base = folder / name
        (base / "input" / "config").mkdir(parents=True)
        (base / "input" / "data" / "train").mkdir(parents=True)
        (base / "input" / "data" / "train" / "text").symlink_to(text.resolve())
        configuration: dict[str, Any] = {
            "hyperparameters": {"mode": "batch_skipgram", "epochs": str(epochs)},
            "resourceconfig": {"current_host": name, "hosts": names},
            "inputdataconfig": {"train": {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated"}},
        }
        for file, content in configuration.items():
            (base / "input" / "config" / f"{file}.json").write_text(json.dumps(content))
        command = [sys.executable, "-m", "sagesmith.container", "train", "blazingtext", "--base", str(base)]
        running.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        )
    logs = [process.communicate()[0] for process in running]
    if any(process.returncode for process in running):
        raise RuntimeError(logs[0][-2000:])
    speeds = [float(log.split("Average throughput in Million words/sec: ")[1].split()[0]) for log in logs]
    return sum(speeds), float(logs[0].split("#mean_rho: ")[1].split()[0])


def draw(points: dict[str, dict[str, list[tuple[int, float, float]]]], path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True, layout="constrained")
    for axis, (what, modes) in zip(axes, points.items(), strict=True):
        for mode, found in modes.items():
            sizes = [size for size, _, _ in found]
            axis.loglog(sizes, [seconds for _, seconds, _ in found], "o-", label=mode)
            axis.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axis.set_yticks(TICKS, map(str, TICKS))
        axis.minorticks_off()
        axis.set_xlabel(what)
        axis.set_ylabel("seconds of an epoch")
        axis.legend()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--plot", type=Path, help="draw growth into this file (needs matplotlib)")
    parser.add_argument("--modes", nargs="*", choices=MODES, default=MODES, help="whose growth is measured")
    parser.add_argument("--hosts", action="store_true", help="one host beside two, not growth")
    parser.add_argument("--epochs", type=int, default=5, help="of the jobs of one and two hosts")
    parser.add_argument("--repeats", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.hosts:
            hosts(given.text, Path(folder), given.epochs, given.repeats)
        else:
            growth(given.text, Path(folder), given.modes, given.plot)


if __name__ == "__main__":
    main()
