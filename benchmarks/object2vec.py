"""Object2Vec against straightforward PyTorch: quality and pairs per second.

    python benchmarks/object2vec.py movielens --data DIR [--contestants sparse,dense,torch] [--set epochs=6 enc_dim=64]
    python benchmarks/object2vec.py paragraphs --data shared/data/driver-docs-text

`movielens`: ratings of MovieLens-100k (u.data, ua.test) from user and film; root mean squared error on ua.test.
`paragraphs`: whether two halves belong to one paragraph of the driver documentation; accuracy on unseen paragraphs, of
which every half is asked about with its own other half and with another's.
"""

from __future__ import annotations

import argparse
import collections
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sagesmith.algorithms import Object2Vec
from sagesmith.algorithms.run import Run

WORDS = 20_000


@dataclass
class Task:
    """Pairs and labels to learn from and to judge by, settings, and the name of the figure."""

    train: tuple[list[Any], np.ndarray]
    held: tuple[list[Any], np.ndarray]
    settings: dict[str, Any]
    figure: str
    measured: Callable[[np.ndarray, np.ndarray], float]


def movielens(folder: Path) -> Task:
    """All ratings but ua.test's to learn from: 90,570; ua.test: 9,430, ten of each user."""
    rows = {name: np.loadtxt(folder / name, dtype=np.int64)[:, :3] for name in ("u.data", "ua.test")}
    known = {(user, film) for user, film, _ in rows["ua.test"].tolist()}
    train = np.array([row for row in rows["u.data"].tolist() if (row[0], row[1]) not in known])
    parts = [([([u], [f]) for u, f, _ in part.tolist()], part[:, 2].astype(float)) for part in (train, rows["ua.test"])]
    settings = {
        "enc0_max_seq_len": 1, "enc1_max_seq_len": 1, "enc0_vocab_size": 944, "enc1_vocab_size": 1683,
        "enc0_network": "pooled_embedding", "enc1_network": "pooled_embedding", "enc_dim": 1024, "mlp_dim": 256,
        "mlp_activation": "tanh", "output_layer": "mean_squared_error", "learning_rate": 1e-3, "mini_batch_size": 64,
        "epochs": 5, "dropout": 0.0, "weight_decay": 0.0,
    }  # fmt: skip
    return Task(parts[0], parts[1], settings, "RMSE", lambda y, p: float(np.sqrt(((y - p[:, 0]) ** 2).mean())))


def paragraphs(folder: Path) -> Task:
    """Paragraphs of 16 words or more, cut in the middle; a tenth is held out."""
    text = [line.split() for line in (folder / "corpus-a.txt").read_text().splitlines()]
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


def ours(task: Task, settings: dict[str, Any], threads: int) -> tuple[float, float]:
    """Figure and seconds; all epochs are gone through, and the last network is judged."""
    given = {k: v for k, v in settings.items() if k != "num_classes" or settings.get("output_layer") is None}
    model = Object2Vec(**given, early_stopping_patience=5, early_stopping_tolerance=1e-6)
    started = time.monotonic()
    model.fit(*task.train, run=Run(threads))
    seconds = time.monotonic() - started
    return task.measured(task.held[1], np.asarray(model._fields(task.held[0], {})["scores"])), seconds


def plain_torch(task: Task, settings: dict[str, Any], threads: int) -> tuple[float, float]:
    from object2vec_peers import plain_torch as peer

    network, seconds = peer.train(*task.train, settings, threads)
    return task.measured(task.held[1], peer.answers(network, task.held[0])), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=("movielens", "paragraphs"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--contestants", default="sparse,dense,torch")
    parser.add_argument("--pairs", type=int, default=None, help="learn from so many pairs only (for speed)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE")
    given = parser.parse_args()
    task = {"movielens": movielens, "paragraphs": paragraphs}[given.task](given.data)
    changed: dict[str, Any] = {}
    for text in given.set:
        name, _, value = text.partition("=")
        changed[name] = type(task.settings[name])(value)
    order = np.random.default_rng(0).permutation(len(task.train[0]))[: given.pairs]
    task.train = [task.train[0][k] for k in order], task.train[1][order]
    settings = task.settings | changed | {"seed": given.seed}
    print(f"{len(task.train[0])} pairs, {len(task.held[0])} held out, {settings}", flush=True)
    runs: dict[str, Callable[[], tuple[float, float]]] = {
        "sparse": lambda: ours(task, settings | {"token_embedding_storage_type": "row_sparse"}, given.threads),
        "dense": lambda: ours(task, settings, given.threads),
        "torch": lambda: plain_torch(task, settings, given.threads),
    }
    for name in given.contestants.split(","):
        figure, seconds = runs[name]()
        rate = len(task.train[0]) * settings["epochs"] / seconds
        print(f"{name}: {seconds:.1f} s, {rate:,.0f} pairs/s, {task.figure} {figure:.4f}", flush=True)


if __name__ == "__main__":
    main()
