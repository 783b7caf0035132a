"""Documents for NTM's tests, drawn from topics that are known."""

from __future__ import annotations

import numpy as np

TOPICS, WIDTH = 5, 25


def bars() -> np.ndarray:
    """The rows of a 5 by 5 picture as topics (5, 25): Griffiths and Steyvers, Finding Scientific Topics, PNAS 2004."""
    return np.kron(np.eye(5), np.full(5, 0.2))


def drawn(documents: int, seed: int = 0, words: int = 60, alpha: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """Counts (D, 25) float32 and the mixtures (D, 5) behind them."""
    random = np.random.default_rng(seed)
    mixtures = random.dirichlet(np.full(TOPICS, alpha), documents)
    counts = np.array([random.multinomial(words, mixture @ bars()) for mixture in mixtures])
    return counts.reshape(documents, WIDTH).astype(np.float32), mixtures


def csv(counts: np.ndarray) -> str:
    return "".join(",".join(f"{value:g}" for value in row) + "\n" for row in counts)
