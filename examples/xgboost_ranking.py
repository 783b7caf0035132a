"""Ranking: digits that look most like a given digit come first. Queries, relevance and `rank:ndcg`.

For each query digit a list of candidates is ranked by features of the pair; candidates of the same class are relevant.

    python examples/xgboost_ranking.py
"""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from sagesmith.algorithms import XGBoost

CANDIDATES = 20


def lists(X: np.ndarray, y: np.ndarray, queries: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of pairs (n, 64), relevance (n,) and query ids (n,)."""
    random = np.random.default_rng(seed)
    asked = random.integers(0, len(X), queries)
    shown = random.integers(0, len(X), (queries, CANDIDATES))
    pairs = np.abs(X[asked][:, None, :] - X[shown]).reshape(-1, X.shape[1])
    return pairs, (y[asked][:, None] == y[shown]).astype(int).ravel(), np.repeat(np.arange(queries), CANDIDATES)


def precision_at_one(score: np.ndarray, relevance: np.ndarray) -> float:
    """The share of queries with a relevant candidate whose first candidate is relevant."""
    score, relevance = score.reshape(-1, CANDIDATES), relevance.reshape(-1, CANDIDATES)
    answerable = relevance.any(axis=1)
    first = np.take_along_axis(relevance, score.argmax(axis=1)[:, None], axis=1)[:, 0]
    return float(first[answerable].mean())


def main() -> None:
    X, y = load_digits(return_X_y=True)
    pairs, relevance, query = lists(X[:1200], y[:1200], 1500, seed=0)
    held, held_relevance, held_query = lists(X[1200:], y[1200:], 400, seed=1)
    model = XGBoost(objective="rank:ndcg", num_round=80, eta=0.2, max_depth=5, eval_metric="ndcg@5")
    model.fit(pairs, relevance, group=query, validation=(held, held_relevance, None, held_query))
    nearest = precision_at_one(-(held**2).sum(axis=1), held_relevance)
    print(f"first candidate relevant: ranked {precision_at_one(model.predict(held), held_relevance):.3f}, "
          f"by plain distance {nearest:.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
