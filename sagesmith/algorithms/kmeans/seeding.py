"""Seeding: which rows become the first centers, at random or by k-means++, weighted, dense and sparse.

Arthur and Vassilvitskii, k-means++: The Advantages of Careful Seeding, SODA 2007: each further center is drawn with
probability proportional to weight times squared distance to the nearest center so far.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sagesmith.algorithms.kmeans.centers import parts_of


def first_centers(
    method: str, rows: Any, weights: np.ndarray | None, k: int, random: np.random.Generator
) -> np.ndarray:
    """k rows, (k, d) float64, by "random" or "kmeans++"; none of weight 0 while others are left.

    Args:
        rows: (n, d) with n >= k, dense or CSR.
        weights: (n,) or None for weights of 1.
    """
    weight = np.ones(rows.shape[0]) if weights is None else weights.astype(np.float64)
    if method == "random":
        return dense(rows, _drawn(weight, k, random))
    if isinstance(rows, np.ndarray):
        return dense(rows, _dense_spread_out(rows, weight, k, random))
    return dense(rows, _spread_out(rows, weight, k, random))


def dense(rows: Any, chosen: np.ndarray) -> np.ndarray:
    """The chosen rows, dense float64."""
    picked = rows[chosen]
    return np.asarray(picked if isinstance(picked, np.ndarray) else picked.toarray(), np.float64)


def _drawn(weight: np.ndarray, k: int, random: np.random.Generator) -> np.ndarray:
    """k different rows, each with a chance proportional to its weight; those of weight 0 last."""
    if (weight == weight[0]).all():
        return random.choice(len(weight), k, replace=False)
    with np.errstate(divide="ignore"):
        keys = random.exponential(size=len(weight)) / weight  # Efraimidis and Spirakis 2006, as exponential clocks
    return np.argsort(keys, kind="stable")[:k]


def _dense_spread_out(rows: np.ndarray, weight: np.ndarray, k: int, random: np.random.Generator) -> np.ndarray:
    from sagesmith.algorithms.kmeans import search_compiled as search

    chosen = np.empty(k, np.int64)
    number = search.spread_out(np.ascontiguousarray(rows, np.float32), weight, random.uniform(size=k), chosen)
    return _filled(chosen, number, weight, random)


def _filled(chosen: np.ndarray, number: int, weight: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """With any rows after the first `number`: beyond these every row of some weight lies on one of them."""
    if number < len(chosen):
        left = np.setdiff1d(np.arange(len(weight)), chosen[:number])
        chosen[number:] = left[_drawn(weight[left], len(chosen) - number, random)]
    return chosen


def _spread_out(rows: Any, weight: np.ndarray, k: int, random: np.random.Generator) -> np.ndarray:
    """`_dense_spread_out` for CSR."""
    chosen, squares = np.empty(k, np.int64), np.full(len(weight), np.inf)
    for number in range(k):
        with np.errstate(invalid="ignore"):  # whoever asked will find what is not finite
            share = weight * squares if number else weight
        totals = np.cumsum(share)
        if not totals[-1] > 0:
            return _filled(chosen, number, weight, random)
        drawn = int(np.searchsorted(totals, random.uniform() * totals[-1], side="right"))
        chosen[number] = min(drawn, int(np.flatnonzero(share)[-1]))
        squares = _closer(rows, int(chosen[number]), squares)
    return chosen


def _closer(rows: Any, center: int, squares: np.ndarray) -> np.ndarray:
    """`squares`, lowered where row `center` is nearer."""
    from sagesmith.algorithms.kmeans import search_compiled as search

    search.closer_sparse(*parts_of(rows), dense(rows, np.array([center]))[0], squares)
    squares[center] = 0.0
    return squares
