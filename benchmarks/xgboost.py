"""XGBoost against bare xgboost: a job end to end from CSV, training once loaded, and one answered row.

    python benchmarks/xgboost.py [--rows 200000] [--columns 30] [--rounds 50] [--repeats 5]

1. job: `python -m sagesmith.container train sagemaker-xgboost` on a folder, against a script that reads the same CSV
   with pandas, trains with xgboost and writes the model. Whole processes, interpreter start included; same threads.
2. fit: `XGBoost.fit` on arrays against building the DMatrix and calling `xgboost.train` with the train set evaluated.
3. answer: `respond` to one CSV row against its parts.

Sides alternate, medians are shown. The data are drawn at random with a fixed seed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # in place of this folder, where `import xgboost` would find this file
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin while they wait spoil both sides' times
SETTINGS = {"objective": "binary:logistic", "max_depth": 6, "eta": 0.2, "tree_method": "hist"}
PLAIN = """
import json, sys
import pandas, xgboost
folder, out, rounds, threads = sys.argv[1:5]
table = pandas.read_csv(folder + "/train.csv", header=None, dtype="float32")
data = xgboost.DMatrix(table.iloc[:, 1:].to_numpy(), label=table.iloc[:, 0].to_numpy(), nthread=int(threads))
settings = json.loads(sys.argv[5])
booster = xgboost.train({**settings, "nthread": int(threads)}, data, int(rounds), evals=[(data, "train")])
booster.save_model(out + "/plain.ubj")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    for name, default in (("rows", 200_000), ("columns", 30), ("rounds", 50), ("repeats", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    threads = len(os.sched_getaffinity(0))
    print(f"{options.rows} rows, {options.columns} columns, {options.rounds} rounds, {threads} threads")
    X, y = drawn(options.rows, options.columns)
    with tempfile.TemporaryDirectory() as folder:
        jobs(Path(folder), X, y, options.rounds, options.repeats, threads)
    fits(X, y, options.rounds, options.repeats, threads)
    answers(X, y)


def drawn(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    X = random.normal(size=(rows, columns)).astype(np.float32)
    return X, (X[:, 0] + X[:, 1] * X[:, 2] + random.normal(size=rows) > 0).astype(np.float32)


def jobs(base: Path, X: np.ndarray, y: np.ndarray, rounds: int, repeats: int, threads: int) -> None:
    train = base / "input" / "data" / "train"
    config = base / "input" / "config"
    for folder in (train, config):
        folder.mkdir(parents=True)
    np.savetxt(train / "train.csv", np.column_stack([y, X]), delimiter=",", fmt="%.6g")
    strings = {key: str(value) for key, value in {**SETTINGS, "num_round": rounds}.items()}
    (config / "hyperparameters.json").write_text(json.dumps(strings))
    channel = {"ContentType": "text/csv", "TrainingInputMode": "File", "S3DistributionType": "FullyReplicated"}
    (config / "inputdataconfig.json").write_text(json.dumps({"train": channel}))
    hosts = {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "lo"}
    (config / "resourceconfig.json").write_text(json.dumps(hosts))
    ours = [sys.executable, "-m", "sagesmith.container", "train", "sagemaker-xgboost", "--base", str(base)]
    plain = [sys.executable, "-c", PLAIN, str(train), str(base), str(rounds), str(threads), json.dumps(SETTINGS)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(threads)}
    compare("job from CSV", lambda: started(ours, environment), lambda: started(plain, environment), repeats)


def started(command: list[str], environment: dict[str, str]) -> None:
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def fits(X: np.ndarray, y: np.ndarray, rounds: int, repeats: int, threads: int) -> None:
    import xgboost

    from sagesmith.algorithms import XGBoost
    from sagesmith.algorithms.run import Run

    def ours() -> None:
        XGBoost(num_round=rounds, **SETTINGS).fit(X, y, run=Run(threads))

    def bare() -> None:
        data = xgboost.DMatrix(X, y, nthread=threads)
        settings = {**SETTINGS, "nthread": threads}
        xgboost.train(settings, data, rounds, evals=[(data, "train")], verbose_eval=False)

    compare("fit on arrays", ours, bare, repeats)


def compare(what: str, ours: Callable[[], None], theirs: Callable[[], None], repeats: int) -> None:
    """Runs both sides in turn, after one round to warm up; shows medians of wall and processor time and their ratios.

    Processor time, children included, tells the truth where other programs share the machine.
    """
    seconds: dict[str, list[tuple[float, float]]] = {"ours": [], "bare": []}
    for number in range(repeats + 1):
        sides = [("ours", ours), ("bare", theirs)]
        for name, call in sides if number % 2 else reversed(sides):
            begun, used = time.perf_counter(), sum(os.times()[:4])
            call()
            if number:
                seconds[name].append((time.perf_counter() - begun, sum(os.times()[:4]) - used))
    for which, kind in enumerate(("wall", "processor")):
        mine, other = (statistics.median(pair[which] for pair in seconds[name]) for name in ("ours", "bare"))
        print(f"{what:14s} {kind:9s} sagesmith {mine:7.3f} s   bare {other:7.3f} s   ratio {mine / other:.3f}")


def answers(X: np.ndarray, y: np.ndarray, times: int = 2000) -> None:
    import xgboost

    from sagesmith.algorithms import XGBoost
    from sagesmith.algorithms.base import Request
    from sagesmith.algorithms.xgboost import serving

    model = XGBoost(objective="binary:logistic", num_round=100).fit(X[:20_000], y[:20_000])
    request = Request(",".join(map(str, X[0])).encode(), "text/csv")
    model.respond(request)
    booster = model.booster_model
    row = X[:1].copy()
    parts: dict[str, Callable[[], object]] = {
        "respond to one row": lambda: model.respond(request),
        "  read the row": lambda: serving._features(request, model.ensemble_.width),
        "  predict": lambda: model.ensemble_.predict(row),
        "bare inplace_predict": lambda: booster.inplace_predict(row),
        "bare predict(DMatrix)": lambda: booster.predict(xgboost.DMatrix(row, nthread=1)),
    }
    for name, call in parts.items():
        each = []
        for _ in range(times):
            begun = time.perf_counter()
            call()
            each.append(time.perf_counter() - begun)
        print(f"{name:22s} median {1e6 * statistics.median(each):7.1f} us")


if __name__ == "__main__":
    main()
