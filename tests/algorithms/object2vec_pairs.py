"""Pairs of short documents, each about one of four topics; they belong together (1) if it is the same topic."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

TOPICS, WORDS = 4, 5  # words of a topic
SMALL: dict[str, Any] = {
    "enc0_max_seq_len": 6, "enc0_vocab_size": 20, "enc0_network": "pooled_embedding", "enc_dim": 16, "mlp_dim": 16,
    "mlp_activation": "relu", "epochs": 8, "learning_rate": 0.01,
}  # fmt: skip


def drawn(count: int, seed: int = 0) -> tuple[list[list[list[int]]], np.ndarray]:
    """`count` pairs of lists of 1 to 6 ids below 20, and labels."""
    random = np.random.default_rng(seed)
    topics = random.integers(0, TOPICS, (count, 2))
    lengths = random.integers(1, 7, (count, 2))
    pairs = [
        [(topics[n, side] * WORDS + random.integers(0, WORDS, lengths[n, side])).tolist() for side in (0, 1)]
        for n in range(count)
    ]
    return pairs, (topics[:, 0] == topics[:, 1]).astype(int)


def jsonlines(pairs: list[list[list[int]]], labels: Any = None) -> str:
    """As a channel's file, or without labels as a request."""
    given = [{}] * len(pairs) if labels is None else [{"label": label} for label in np.asarray(labels).tolist()]
    return "".join(json.dumps({**label, "in0": a, "in1": b}) + "\n" for label, (a, b) in zip(given, pairs, strict=True))
