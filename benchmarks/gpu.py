"""What a GPU buys: examples a second of each neural algorithm on this host's processors and on its GPU.

    python benchmarks/gpu.py [--seconds 8] [--only deepar ntm ...]

Data are drawn at random, since only speed is asked; each contestant trains for so many seconds, the first epoch or
report not counted where there are more. BlazingText says its words a second; a processor's are those of all of them.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from sagesmith.algorithms import NTM, BlazingText, DeepAR, Object2Vec, Seq2Seq  # noqa: E402
from sagesmith.algorithms.run import Run  # noqa: E402

RANDOM = np.random.default_rng(0)


class Timed(Run):
    """A run that keeps the rates it is told, and is asked to stop after some seconds and `least` of them."""

    def __init__(self, gpus: int, seconds: float, least: int) -> None:
        super().__init__()
        self.gpus, self._until, self._least, self.rates = gpus, time.monotonic() + seconds, least, list[float]()

    @property
    def stopping(self) -> bool:
        return time.monotonic() > self._until and len(self.rates) >= self._least

    def progress(self, done: int, total: int, records_per_second: float | None = None) -> None:
        self.rates.append(records_per_second or 0.0)


def deepar() -> tuple[Any, tuple[Any, ...]]:
    series = [{"start": "2024-01-01", "target": RANDOM.normal(10, 1, 1000).tolist()} for _ in range(100)]
    settings = {"context_length": 72, "prediction_length": 24, "time_freq": "H", "num_cells": 100, "num_layers": 3}
    return DeepAR(epochs=1000, mini_batch_size=512, **settings), (series,)


def ntm() -> tuple[Any, tuple[Any, ...]]:
    return NTM(num_topics=50, epochs=100), (sparse.random(10_000, 5000, 0.02, "csr", np.float32, RANDOM),)


def object2vec(network: str) -> tuple[Any, tuple[Any, ...]]:
    pairs = RANDOM.integers(0, 30_000, (2000, 2, 40)).tolist()
    settings = {"enc0_max_seq_len": 40, "enc0_vocab_size": 30_000, "enc0_network": network, "enc_dim": 512}
    return Object2Vec(epochs=100, mini_batch_size=256, **settings), (pairs, RANDOM.integers(0, 2, 2000))


def seq2seq(encoder: str) -> tuple[Any, tuple[Any, ...]]:
    sides = [[" ".join(f"w{k}" for k in row) for row in RANDOM.integers(0, 8000, (6000, 20))] for _ in range(2)]
    return Seq2Seq(encoder_type=encoder, checkpoint_frequency_num_batches=10**6, max_num_epochs=100), (*sides,)


def blazingtext(mode: str) -> tuple[Any, tuple[Any, ...]]:
    words = np.minimum(RANDOM.zipf(1.2, 4_000_000), 100_000)
    if mode == "supervised":
        texts = [" ".join(f"w{k}" for k in row) for row in words.reshape(-1, 50)]
        return BlazingText(mode=mode, epochs=100), (texts, RANDOM.integers(0, 20, len(texts)).tolist())
    texts = [" ".join(f"w{k}" for k in row) for row in words.reshape(-1, 1000)]
    return BlazingText(mode=mode, epochs=100, evaluation=False), (texts,)


CONTESTANTS: dict[str, Callable[[], tuple[Any, tuple[Any, ...]]]] = {
    "deepar": deepar,
    "ntm": ntm,
    "object2vec hcnn": lambda: object2vec("hcnn"),
    "object2vec bilstm": lambda: object2vec("bilstm"),
    "seq2seq rnn": lambda: seq2seq("rnn"),
    "seq2seq cnn": lambda: seq2seq("cnn"),
    "blazingtext skipgram": lambda: blazingtext("skipgram"),
    "blazingtext cbow": lambda: blazingtext("cbow"),
    "blazingtext supervised": lambda: blazingtext("supervised"),
}


def rate(name: str, gpus: int, seconds: float) -> float:
    """Examples a second; words for BlazingText."""
    algorithm, data = CONTESTANTS[name]()
    at_the_end = name.startswith("seq2seq")  # it tells its rate once, over all steps
    run = Timed(gpus, seconds, least=0 if at_the_end else 2)
    more = {"validation": tuple(side[:64] for side in data)} if at_the_end else {}
    algorithm.fit(*data, run=run, **more)
    return float(np.median(run.rates[1:] or run.rates))


def rows(names: list[str], seconds: float, there: bool) -> Iterator[str]:
    for name in names:
        processors = rate(name, 0, seconds)
        if there:
            on_gpu = rate(name, 1, seconds)
            yield f"| {name} | {processors:,.0f} | {on_gpu:,.0f} | {on_gpu / processors:.1f} |"
        else:
            yield f"| {name} | {processors:,.0f} | none here | |"


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--only", nargs="*", default=list(CONTESTANTS))
    given = parser.parse_args()
    there = torch.cuda.is_available()
    print(
        f"Python {platform.python_version()}, torch {torch.__version__}, {os.cpu_count()} processors,"
        f" {torch.cuda.get_device_name() if there else 'no GPU'}"
    )
    print("| algorithm | processors, examples/s | GPU, examples/s | ratio |\n|---|---|---|---|")
    for row in rows(given.only, given.seconds, there):
        print(row, flush=True)


if __name__ == "__main__":
    main()
