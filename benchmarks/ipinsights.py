"""IP Insights against the same kind of model in plain PyTorch, and against counting, on drawn web logins.

    python benchmarks/ipinsights.py [--users 10000] [--repeats 3] [--peers-python /path/to/python] [--growth]

1. training: pairs (real and negative) per second and AUC on later days' logins against the same negative pairs, for
   SageMaker's defaults and for the settings of its tutorial; sagesmith and the peers in turn, each in its own process.
   Peers: benchmarks/ipinsights_peers/plain_torch.py with torch's SparseAdam and with its Adam, run by --peers-python
   (or SAGESMITH_PEERS_PYTHON), skipped where that has no torch; and the frequency of a user's /32, /24, /16, /8 with
   back-off, which needs no training.
2. reading: CSV to pairs, against pandas, and against reading the file's bytes.
3. --growth: time and peak memory for 1, 2, 4 and 8 times the rows, and vectors of 32 to 256; --picture FILE draws it.

Threads: all that the process may use. Medians are shown, processor time beside wall time.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
PEER = Path(__file__).with_name("ipinsights_peers") / "plain_torch.py"
DEFAULTS = {"width": 128, "layers": 1, "batch": 10_000, "random": 1, "shuffled": 1, "rate": 0.001, "decay": 1e-5}
TUTORIAL = {**DEFAULTS, "batch": 1000, "random": 5, "rate": 0.01}
QUICK = {**DEFAULTS, "rate": 0.01}
PLANS = {"SageMaker's defaults, learning rate 0.01": QUICK, "tutorial: batch 1000, R = 5, rate 0.01": TUTORIAL}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--per-user-and-day", type=float, default=10.0)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peers-python", default=os.environ.get("SAGESMITH_PEERS_PYTHON", sys.executable))
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--ours", nargs=2, help=argparse.SUPPRESS)  # the child process: pairs.npz settings.json
    given = parser.parse_args()
    if given.ours:
        train_ours(*map(Path, given.ours))
        return
    threads = len(os.sched_getaffinity(0))
    print(
        f"Python {platform.python_version()}, numpy {np.__version__}, {threads} threads, load {os.getloadavg()[0]:.1f}"
    )
    with tempfile.TemporaryDirectory() as folder:
        if given.growth or given.picture:
            growth(Path(folder), given.picture, threads)
            return
        data = pairs_of(given.users, given.per_user_and_day)
        counted = auc(by_frequency(data), data["truth"])
        print(f"frequency with back-off: AUC {counted:.4f}")
        for name, plan in PLANS.items():
            settings = {**plan, "threads": threads, "epochs": given.epochs, "entities": 2 * given.users}
            compare(Path(folder), name, data, settings, given.repeats, given.peers_python)
        reading(Path(folder), given.users, given.per_user_and_day, given.repeats)


def logins_module() -> Any:
    spec = importlib.util.spec_from_file_location("ipinsights_logins", ROOT / "examples" / "ipinsights_logins.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def pairs_of(users: int, per_day: float) -> dict[str, np.ndarray]:
    """Entities (by number, one row each) and addresses; the test's real pairs, then random ones, then shuffled."""
    module = logins_module()
    train, test = module.split(module.logins(users, 10, per_day))
    random = np.random.default_rng(5)
    negative = random.integers(0, 1 << 32, len(test), np.uint32), random.permutation(test.ip)
    return {
        "slots": train.user.astype(np.int32),
        "ips": train.ip,
        "test_slots": np.tile(test.user, 3).astype(np.int32),
        "test_ips": np.concatenate([test.ip, *negative]),
        "truth": np.repeat([1, 0, 0], len(test)),
    }


def auc(scores: np.ndarray, truth: np.ndarray) -> float:
    """The area under the ROC curve; ties count half."""
    real, negative = np.sort(scores[truth > 0]), scores[truth == 0]
    below = np.searchsorted(real, negative, "left").sum() + np.searchsorted(real, negative, "right").sum()
    return float(1 - below / 2 / len(real) / len(negative))


def by_frequency(data: dict[str, np.ndarray]) -> np.ndarray:
    """log P(prefix | user) - log P(prefix) of the longest prefix at which the user was seen, longer ones ahead."""
    scores = np.full(len(data["test_ips"]), -100.0)
    for bits in (8, 16, 24, 32):
        places = data["ips"].astype(np.int64) >> (32 - bits)
        asked = data["test_ips"].astype(np.int64) >> (32 - bits)
        keys, counts = np.unique(data["slots"].astype(np.int64) << 32 | places, return_counts=True)
        found = np.searchsorted(keys, key := data["test_slots"].astype(np.int64) << 32 | asked)
        found = np.minimum(found, len(keys) - 1)
        share = np.log(counts[found] / np.bincount(data["slots"])[data["test_slots"]].clip(1))
        every, all_counts = np.unique(places, return_counts=True)
        usual = np.log(all_counts[np.minimum(np.searchsorted(every, asked), len(every) - 1)] / len(places))
        scores = np.where(keys[found] == key, bits + share - usual, scores)
    return scores


def train_ours(pairs: Path, settings_file: Path) -> None:
    """The child process: trains, scores, prints one line of JSON."""
    from sagesmith.algorithms.blas import single_threaded
    from sagesmith.algorithms.ipinsights.network import Network
    from sagesmith.algorithms.ipinsights.threads import Workers
    from sagesmith.algorithms.ipinsights.training import Plan, Training

    data, settings = np.load(pairs), json.loads(settings_file.read_text())
    slots, ips = data["slots"], data["ips"]
    random = np.random.default_rng(settings["seed"])
    network = Network.drawn(settings["entities"], settings["width"], settings["layers"], random)
    plan = Plan(settings["rate"], settings["decay"], settings["random"], settings["shuffled"])
    with single_threaded(), Workers(settings["threads"]) as workers:
        Training(  # loads the compiled code, as torch is loaded when its clock starts
            Network.drawn(8, settings["width"], settings["layers"], random), plan, random, workers
        ).step(slots[:8] % 8, ips[:8])
        training = Training(network, plan, random, workers)
        wall, used = time.perf_counter(), time.process_time()
        for _ in range(settings["epochs"]):
            order = random.permutation(len(slots))
            for begin in range(0, len(order), settings["batch"]):
                rows = order[begin : begin + settings["batch"]]
                training.step(slots[rows], ips[rows])
        wall, used = time.perf_counter() - wall, time.process_time() - used
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    np.save(pairs.with_name("scores.npy"), network.scores(data["test_slots"], data["test_ips"]))
    print(json.dumps({"wall": wall, "processor": used, "memory": memory}))


def compare(
    folder: Path, name: str, data: dict[str, np.ndarray], settings: dict[str, Any], repeats: int, python: str
) -> None:
    """One table: each contestant `repeats` times, in turn."""
    np.savez(folder / "pairs.npz", **data)
    bits = min(18, max(12, (settings["entities"] - 1).bit_length()))
    sides = {"sagesmith": None, "torch, Adam": "dense"}
    sides |= {"sagesmith, weight_decay 0": None, "torch, SparseAdam (has no weight decay)": "sparse"}
    if subprocess.run([python, "-c", "import torch"], capture_output=True, check=False).returncode:
        print(f"torch skipped: {python} cannot import it (see --peers-python)")
        sides = {side: None for side in sides if side.startswith("sagesmith")}
    results: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for number in range(repeats):
        for side, adam in sides.items():
            if adam == "dense" and number:
                continue  # a minute and more a run: once tells enough
            decay = 0 if "decay" in side else settings["decay"]
            asked = {**settings, "decay": decay, "bits": bits, "adam": adam, "seed": number}
            (folder / "settings.json").write_text(json.dumps(asked))
            own = [sys.executable, __file__, "--ours"] if adam is None else [python, str(PEER)]
            results[side].append(child([*own, str(folder / "pairs.npz"), str(folder / "settings.json")]))
            results[side][-1]["auc"] = auc(np.load(folder / "scores.npy"), data["truth"])
    pairs = len(data["slots"]) * settings["epochs"] * (1 + settings["random"] + settings["shuffled"])
    print(
        f"\n{name}: {len(data['slots']):,} rows, {settings['epochs']} epochs, load average {os.getloadavg()[0]:.1f}\n"
    )
    print("| | wall, s | processor, s | pairs/s | AUC | peak memory, MB | wall, in sagesmith's |")
    print("|---|---|---|---|---|---|---|")
    first = None
    for side, runs in results.items():
        wall, used, memory, found = (
            statistics.median(run[key] for run in runs) for key in ("wall", "processor", "memory", "auc")
        )
        first = first or wall
        figures = f"{wall:.2f} | {used:.2f} | {pairs / wall:,.0f} | {found:.4f} | {memory:.0f} | {wall / first:.2f}"
        print(f"| {side} | {figures} |", flush=True)


def child(command: list[str]) -> dict[str, float]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def reading(folder: Path, users: int, per_day: float, repeats: int) -> None:
    from sagesmith.algorithms.ipinsights import HASH_SEED
    from sagesmith.algorithms.ipinsights.pairs import read_channel
    from sagesmith.formats.channel import Channel

    module = logins_module()
    path = folder / "train.csv"
    module.write_csv(module.logins(users, 10, per_day), path)
    ways: dict[str, Any] = {
        "sagesmith, to hashes and addresses": lambda: read_channel(
            Channel.from_files("t", [path], "text/csv"), HASH_SEED
        ),
        "the bytes alone": path.read_bytes,
    }
    if importlib.util.find_spec("pandas"):
        import pandas

        ways["pandas.read_csv, to strings"] = lambda: pandas.read_csv(path, header=None)
    ways["sagesmith, to hashes and addresses"]()
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(repeats):
        for way, call in ways.items():
            begun = time.perf_counter()
            call()
            times[way].append(time.perf_counter() - begun)
    print(f"\nreading {path.stat().st_size / 1e6:.0f} MB of CSV\n")
    for way, each in times.items():
        print(f"{way:36s} {statistics.median(each):.3f} s")


def growth(folder: Path, picture: Path | None, threads: int) -> None:
    """Time and memory by rows (users and all) and by the size of vectors."""
    base = {**DEFAULTS, "threads": threads, "epochs": 1, "seed": 0}
    by_rows, by_width = [], []
    for times in (1, 2, 4, 8):
        data = pairs_of(1250 * times, 20.0)
        by_rows.append((len(data["slots"]), grown(folder, data, {**base, "entities": 2500 * times})))
    data = pairs_of(2500, 20.0)
    for width in (32, 64, 128, 256):
        by_width.append((width, grown(folder, data, {**base, "entities": 5000, "width": width})))
    print("\n| rows | time, s | peak memory, MB |\n|---|---|---|")
    for rows, (wall, memory) in by_rows:
        print(f"| {rows:,} | {wall:.2f} | {memory:.0f} |")
    print("\n| vector_dim | time, s | peak memory, MB |\n|---|---|---|")
    for width, (wall, memory) in by_width:
        print(f"| {width} | {wall:.2f} | {memory:.0f} |")
    if picture:
        draw(by_rows, by_width, picture)


def grown(folder: Path, data: dict[str, np.ndarray], settings: dict[str, Any]) -> tuple[float, float]:
    np.savez(folder / "pairs.npz", **data)
    (folder / "settings.json").write_text(json.dumps(settings))
    command = [sys.executable, __file__, "--ours", str(folder / "pairs.npz"), str(folder / "settings.json")]
    runs = [child(command) for _ in range(3)]
    return statistics.median(run["wall"] for run in runs), statistics.median(run["memory"] for run in runs)


def draw(by_rows: list[Any], by_width: list[Any], picture: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for axis, rows, label in zip(axes, (by_rows, by_width), ("rows", "vector_dim"), strict=True):
        sizes = [size for size, _ in rows]
        axis.loglog(sizes, [wall for _, (wall, _) in rows], "o-", label="time of an epoch, s")
        axis.loglog(sizes, [memory / 1000 for _, (_, memory) in rows], "s--", label="peak memory, GB")
        axis.set_xlabel(label)
        axis.legend()
    figure.savefig(picture)


if __name__ == "__main__":
    main()
