"""One peer of factorization_machines.py on MovieLens-100k, run with the peers' interpreter; prints JSON.

python benchmarks/factorization_machines_peers.py xlearn|torch|myfm ratings.npz THREADS SHORT LONG RATE DECAY
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

USERS, ITEMS, RANK = 943, 1682, 8
Fit = Callable[[int], np.ndarray]  # epochs → predictions of the test rows


def main(name: str, data: str, threads: int, short: int, long: int, rate: float, decay: float) -> None:
    content = np.load(data)
    train, test = content["train"], content["test"]
    fit = {"xlearn": xlearn, "torch": torch_adam, "myfm": myfm}[name](train, test, threads, rate, decay)
    timings = {}
    predicted = np.empty(0)
    for epochs in (short, short, long):
        begun, used = time.perf_counter(), time.process_time()
        predicted = fit(epochs)
        timings[epochs] = time.perf_counter() - begun, time.process_time() - used
    rmse = float(np.sqrt(np.mean((np.clip(predicted, 1, 5) - test[:, 2]) ** 2)))
    wall, processor = ((timings[long][i] - timings[short][i]) / (long - short) for i in (0, 1))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    result = {"rmse": rmse, "epoch": wall, "epoch_processor": processor, "fit": timings[long][0], "memory": memory}
    print(json.dumps(result))


def keys(ratings: np.ndarray) -> np.ndarray:
    """Columns of user and item, (n, 2)."""
    return np.stack([ratings[:, 0] - 1, USERS + ratings[:, 1] - 1], axis=1)


def xlearn(train: np.ndarray, test: np.ndarray, threads: int, rate: float, decay: float) -> Fit:
    """Hogwild AdaGrad on its own binary copy of a libsvm file."""
    import xlearn

    for name, ratings in (("train", train), ("test", test)):
        lines = (f"{label} {u}:1 {i}:1\n" for (u, i), label in zip(keys(ratings).tolist(), ratings[:, 2], strict=True))
        Path(f"{name}.svm").write_text("".join(lines))

    def fit(epochs: int) -> np.ndarray:
        with silence():
            model = xlearn.create_fm()
            model.setTrain("train.svm")
            model.disableEarlyStop()
            settings = {"task": "reg", "lr": rate, "lambda": decay, "k": RANK, "opt": "adagrad", "nthread": threads}
            model.fit({**settings, "epoch": epochs}, "xlearn.model")
            model.setTest("test.svm")
            model.predict("xlearn.model", "xlearn.out")
        return np.loadtxt("xlearn.out")

    return fit


@contextlib.contextmanager
def silence():  # type: ignore[no-untyped-def]
    """xLearn writes to standard output from C++."""
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def torch_adam(train: np.ndarray, test: np.ndarray, threads: int, rate: float, decay: float) -> Fit:
    """Embeddings, the O(kn) identity, Adam, mini-batches of 1000: what one writes in an afternoon."""
    import torch

    torch.set_num_threads(threads)
    places, labels = torch.tensor(keys(train)), torch.tensor(train[:, 2].astype(np.float32))
    held = torch.tensor(keys(test))

    def fit(epochs: int) -> np.ndarray:
        torch.manual_seed(0)
        factors, linear = torch.nn.Embedding(USERS + ITEMS, RANK), torch.nn.Embedding(USERS + ITEMS, 1)
        torch.nn.init.normal_(factors.weight, 0, 0.01)
        torch.nn.init.zeros_(linear.weight)
        bias = torch.nn.Parameter(torch.tensor([3.5]))
        adam = torch.optim.Adam([bias, *factors.parameters(), *linear.parameters()], lr=rate, weight_decay=decay)

        def predict(rows: torch.Tensor) -> torch.Tensor:
            v = factors(rows)
            pairs = 0.5 * (v.sum(1) ** 2 - (v**2).sum(1)).sum(1)
            return bias + linear(rows).sum((1, 2)) + pairs

        for _ in range(epochs):
            for start in range(0, len(labels), 1000):
                adam.zero_grad()
                ((predict(places[start : start + 1000]) - labels[start : start + 1000]) ** 2).mean().backward()
                adam.step()
        with torch.no_grad():
            return np.asarray(predict(held).numpy())

    return fit


def myfm(train: np.ndarray, test: np.ndarray, threads: int, rate: float, decay: float) -> Fit:
    """Gibbs sampling: another kind of learning, which averages many models; the far mark."""
    import myfm
    from scipy import sparse

    def rows(ratings: np.ndarray) -> sparse.csr_matrix:
        starts = np.arange(0, 2 * len(ratings) + 1, 2)
        return sparse.csr_matrix(
            (np.ones(2 * len(ratings)), keys(ratings).ravel(), starts), (len(ratings), USERS + ITEMS)
        )

    X, X_test = rows(train), rows(test)

    def fit(epochs: int) -> np.ndarray:
        with silence(), Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere):
            model = myfm.MyFMRegressor(rank=RANK, random_seed=0)
            model.fit(
                X, train[:, 2].astype(float), n_iter=epochs, n_kept_samples=epochs - 5, group_shapes=[USERS, ITEMS]
            )
            return np.asarray(model.predict(X_test))

    return fit


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6]), *map(float, sys.argv[6:]))
