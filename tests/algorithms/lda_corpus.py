"""Documents drawn from known topics: the bars of Griffiths and Steyvers, Finding Scientific Topics, PNAS 101 (2004)."""

from __future__ import annotations

import numpy as np


def bars(size: int = 5) -> np.ndarray:
    """Rows, then columns, of a square of size² terms, as topics (2 size, size²)."""
    rows = np.repeat(np.eye(size), size, axis=1)
    columns = np.tile(np.eye(size), size)
    return np.concatenate([rows, columns]) / size


def drawn(topics: np.ndarray, documents: int, words: int = 150, alpha0: float = 1.0, seed: int = 0) -> np.ndarray:
    """Counts (documents, V) float32 of an LDA with a symmetric prior of sum alpha0."""
    random = np.random.default_rng(seed)
    mixtures = random.dirichlet(np.full(len(topics), alpha0 / len(topics)), documents)
    return np.array([random.multinomial(words, mixture @ topics) for mixture in mixtures], np.float32)


def apart(found: np.ndarray, topics: np.ndarray) -> np.ndarray:
    """The L1 distance of each topic from the one found for it, by the best matching of all."""
    from scipy.optimize import linear_sum_assignment

    distances = np.abs(found[:, None] - topics[None]).sum(axis=2)
    matched: np.ndarray = distances[linear_sum_assignment(distances)]
    return matched
