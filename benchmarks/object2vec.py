"""Object2Vec against straightforward PyTorch: quality and pairs per second of the processor, which other work on the
machine does not change. Contestants take turns, with another seed in each turn.

    python benchmarks/object2vec.py movielens --data DIR --pairs 9600 --set epochs=1 --repeats 3
    python benchmarks/object2vec.py movielens --data DIR --tune --contestants dense --set enc_dim=32 mlp_layers=0
    python benchmarks/object2vec.py movielens --data DIR --repeats 5 --contestants dense --set epochs=9 enc_dim=32
    python benchmarks/object2vec.py paragraphs --data shared/data/driver-docs-text

`movielens`: ratings of MovieLens-100k (ua.base, ua.test) from user and film; root mean squared error on ua.test. With
`--films K` a user is the number and up to K of the films that he or she rated in ua.base. For choosing settings,
`--tune` holds five ratings of each user in ua.base out, judges by them after each epoch, and tells the best epoch;
ua.test is not looked at.
`paragraphs`: whether two halves belong to one paragraph of the driver documentation; accuracy on unseen paragraphs, of
which every half is asked about with its own other half and with another's.
"""

from __future__ import annotations

import argparse
import collections
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sagesmith.algorithms import Object2Vec
from sagesmith.algorithms.run import Run

WORDS = 20_000
USERS, FILMS = 944, 1683  # ids begin at 1


@dataclass
class Task:
    """Pairs and labels to learn from and to judge by, settings, and the name of the figure."""

    train: tuple[list[Any], np.ndarray]
    held: tuple[list[Any], np.ndarray]
    settings: dict[str, Any]
    figure: str
    measured: Callable[[np.ndarray, np.ndarray], float]


def movielens(given: argparse.Namespace) -> Task:
    """All ratings but ua.test's to learn from: 90,570; ua.test: 9,430, ten of each user."""
    train, held = (np.loadtxt(given.data / name, dtype=np.int64)[:, :3] for name in ("ua.base", "ua.test"))
    random = np.random.default_rng(0)
    if given.tune:
        train = random.permutation(train)
        train = train[np.argsort(train[:, 0], kind="stable")]
        rank = np.arange(len(train)) - np.searchsorted(train[:, 0], train[:, 0])
        train, held = train[rank >= 5], train[rank < 5]
    users = {}
    for user in np.unique(train[:, 0]).tolist():
        films = random.permutation(train[train[:, 0] == user, 1])[: given.films]
        users[user] = [user, *(USERS + films).tolist()]
    centre = float(train[:, 2].mean())  # without it the first epochs would learn the mean
    parts = [([(users[u], [f]) for u, f, _ in part.tolist()], part[:, 2] - centre) for part in (train, held)]
    settings = {
        "enc0_max_seq_len": 1 + given.films, "enc1_max_seq_len": 1, "enc1_vocab_size": FILMS,
        "enc0_vocab_size": USERS + FILMS if given.films else USERS, "enc0_network": "pooled_embedding",
        "enc1_network": "pooled_embedding", "enc_dim": 1024, "mlp_dim": 256, "mlp_layers": 2,
        "mlp_activation": "tanh", "comparator_list": "hadamard,concat,abs_diff", "learning_rate": 1e-3,
        "output_layer": "mean_squared_error", "mini_batch_size": 64, "epochs": 5, "dropout": 0.0, "weight_decay": 0.0,
    }  # fmt: skip
    return Task(parts[0], parts[1], settings, "RMSE", lambda y, p: float(np.sqrt(((y - p[:, 0]) ** 2).mean())))


def paragraphs(given: argparse.Namespace) -> Task:
    """Paragraphs of 16 words or more, cut in the middle; a tenth is held out."""
    text = [line.split() for line in (given.data / "corpus-a.txt").read_text().splitlines()]
    text = [list(words) for words in dict.fromkeys(tuple(words) for words in text if len(words) >= 16)]
    order = np.random.default_rng(0).permutation(len(text))[:20_000]
    text = [text[k][:60] for k in order]
    counts = collections.Counter(word for words in text for word in words)
    ids = {word: number for number, (word, _) in enumerate(counts.most_common(WORDS - 1), 1)}
    halves = [([ids.get(w, 0) for w in words[: len(words) // 2]], [ids.get(w, 0) for w in words[len(words) // 2 :]])
              for words in text]  # fmt: skip
    cut = len(halves) * 9 // 10
    settings = {
        "enc0_max_seq_len": 30, "enc1_max_seq_len": 30, "enc0_vocab_size": WORDS, "enc1_vocab_size": WORDS,
        "enc0_network": "pooled_embedding", "enc1_network": "pooled_embedding", "enc_dim": 300, "mlp_dim": 128,
        "mlp_activation": "tanh", "num_classes": 2, "learning_rate": 2e-3, "mini_batch_size": 128, "epochs": 5,
        "dropout": 0.2, "weight_decay": 0.0,
    }  # fmt: skip
    accuracy: Callable[[np.ndarray, np.ndarray], float] = lambda y, p: float((p.argmax(axis=1) == y).mean())  # noqa: E731
    return Task(against(halves[:cut], 3, 1), against(halves[cut:], 1, 2), settings, "accuracy", accuracy)


def against(halves: list[Any], rate: int, seed: int) -> tuple[list[Any], np.ndarray]:
    """Each pair, and `rate` times its first half with the second of another."""
    random = np.random.default_rng(seed)
    pairs, labels = list(halves), [1] * len(halves)
    for _ in range(rate):
        shift = int(random.integers(1, len(halves)))
        pairs += [(halves[k][0], halves[(k + shift) % len(halves)][1]) for k in range(len(halves))]
        labels += [0] * len(halves)
    return pairs, np.array(labels)


class Curve(Run):
    """Keeps what is said of validation, epoch by epoch."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self.values: list[float] = []

    def quality(self, metric: str, value: float, kind: str = "score", *_: Any, **__: Any) -> None:
        if metric.startswith("validation") and kind == "loss":
            self.values.append(value)


def ours(task: Task, settings: dict[str, Any], threads: int, tune: bool) -> tuple[float, float]:
    """Figure and processor seconds. The last network is judged, or, to tune, the best."""
    given = {k: v for k, v in settings.items() if k != "num_classes" or settings.get("output_layer") is None}
    model = Object2Vec(**given, early_stopping_patience=5, early_stopping_tolerance=1e-6)
    run, started = Curve(threads), time.process_time()
    model.fit(*task.train, run=run, **({"validation": task.held} if tune else {}))
    seconds = time.process_time() - started
    if tune:
        print(f"the best of {len(run.values)} epochs is number {1 + int(np.argmin(run.values))}", flush=True)
    return task.measured(task.held[1], np.asarray(model._fields(task.held[0], {})["scores"])), seconds


def plain_torch(task: Task, settings: dict[str, Any], threads: int) -> tuple[float, float]:
    from object2vec_peers import plain_torch as peer

    network, seconds = peer.train(*task.train, settings, threads)
    return task.measured(task.held[1], peer.answers(network, task.held[0])), seconds


def contestant(name: str, task: Task, settings: dict[str, Any], given: argparse.Namespace) -> tuple[float, float]:
    if name == "torch":
        return plain_torch(task, settings, given.threads)
    storage = "row_sparse" if name == "sparse" else "dense"
    return ours(task, settings | {"token_embedding_storage_type": storage}, given.threads, given.tune)


def chosen(task: Task, given: argparse.Namespace) -> dict[str, Any]:
    """The task's settings with those of --set."""
    changed: dict[str, Any] = {}
    for text in given.set:
        name, _, value = text.partition("=")
        changed[name] = type(task.settings[name])(value)
    return task.settings | changed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=("movielens", "paragraphs"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--contestants", default="sparse,dense,torch")
    parser.add_argument("--pairs", type=int, default=None, help="learn from so many pairs only (for speed)")
    parser.add_argument("--films", type=int, default=0, help="films that stand for a user beside the number")
    parser.add_argument("--tune", action="store_true", help="judge by ratings held out of ua.base")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE")
    given = parser.parse_args()
    task = {"movielens": movielens, "paragraphs": paragraphs}[given.task](given)
    order = np.random.default_rng(0).permutation(len(task.train[0]))[: given.pairs]
    task.train = [task.train[0][k] for k in order], task.train[1][order]
    settings = chosen(task, given)
    print(f"{len(task.train[0])} pairs, {len(task.held[0])} held out, {settings}", flush=True)
    names = given.contestants.split(",")
    warm = Task((task.train[0][:512], task.train[1][:512]), task.held, {}, task.figure, task.measured)
    for name in names:
        contestant(name, warm, settings | {"epochs": 1, "seed": 0}, given)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for seed in range(given.repeats):
        for name in names:
            figure, seconds = contestant(name, task, settings | {"seed": seed}, given)
            found[name].append((figure, len(task.train[0]) * settings["epochs"] / seconds))
            rate = f"{found[name][-1][1]:,.0f} pairs/s" if not given.tune else ""
            print(f"{name}, seed {seed}: {seconds:.1f} s, {rate}, {task.figure} {figure:.4f}", flush=True)
    for name, runs in found.items():
        figure, speed = (statistics.median(run[k] for run in runs) for k in (0, 1))
        others = ", ".join(
            f"{speed / statistics.median(run[1] for run in runs):.2f} times {other}"
            for other, runs in found.items() if other != name
        )  # fmt: skip
        print(f"median {name}: {task.figure} {figure:.4f}, {speed:,.0f} pairs/s, {others}")


if __name__ == "__main__":
    main()
