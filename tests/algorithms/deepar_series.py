"""Series for DeepAR's tests: a daily wave with a level and a size of its own for each, in hours."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

SETTINGS: dict[str, Any] = {
    "context_length": 24, "prediction_length": 12, "time_freq": "H", "epochs": 6, "num_cells": 16, "num_layers": 2,
    "embedding_dimension": 3, "learning_rate": 0.01, "mini_batch_size": 64, "num_eval_samples": 40,
}  # fmt: skip
AS_STRINGS = {name: str(value) for name, value in SETTINGS.items()}


def drawn(count: int = 20, length: int = 200, seed: int = 0) -> list[dict[str, Any]]:
    """Records with one category: waves that peak in the morning (0) or in the evening (1)."""
    random = np.random.default_rng(seed)
    hours = np.arange(length)
    records = []
    for number in range(count):
        side = number % 2
        wave = np.sin(2 * np.pi * (hours / 24 + side / 2))
        level = 10.0 ** random.uniform(0, 3)
        target = level * (2 + wave + 0.05 * random.normal(size=length))
        records.append({"start": "2024-01-01 00:00:00", "target": target.round(4).tolist(), "cat": [side]})
    return records


def counts(count: int = 20, length: int = 200, seed: int = 0) -> list[dict[str, Any]]:
    """Whole numbers from 0 on."""
    random = np.random.default_rng(seed)
    rate = 3 * (1.2 + np.sin(2 * np.pi * np.arange(length) / 24))
    return [{"start": "2024-01-01", "target": random.poisson(rate).tolist()} for _ in range(count)]


def shortened(records: Iterable[Mapping[str, Any]], steps: int) -> list[dict[str, Any]]:
    """The records without their last `steps` values."""
    return [{**record, "target": list(record["target"][:-steps])} for record in records]


def lines(records: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)
