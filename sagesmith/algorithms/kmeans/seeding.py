"""Seeding: which rows become the first centers, at random or by k-means++, weighted, dense and sparse.

Arthur and Vassilvitskii, k-means++: The Advantages of Careful Seeding, SODA 2007: each further center is drawn with
probability proportional to weight times squared distance to the nearest center so far. With `candidates` several are
drawn and the one that lowers the sum most is taken (their section 7).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sagesmith.algorithms.kmeans.centers import parts_of, weighted

NOTHING = np.empty((0, 0))


def first_centers(
    method: str,
    rows: Any,
    weights: np.ndarray | None,
    k: int,
    random: np.random.Generator,
    candidates: int = 1,
    near: np.ndarray = NOTHING,
) -> np.ndarray:
    """k rows, (k, d) float64, by "random" or "kmeans++"; none of weight 0 while others are left.

    Args:
        rows: (n, d) with n >= k, dense or CSR.
        weights: (n,) or None for weights of 1.
        candidates: how many are tried for each center of k-means++.
        near: (n, n), the squared distances of dense rows, if they are known.
    """
    weight = np.ones(rows.shape[0]) if weights is None else weights.astype(np.float64)
    if method == "random":
        return dense(rows, _drawn(weight, k, random))
    if isinstance(rows, np.ndarray):
        return dense(rows, _dense_spread_out(rows, weight, k, random, candidates, near))
    return dense(rows, _spread_out(rows, weight, k, random, candidates))


def greedy(k: int) -> int:
    """How many candidates scikit-learn tries for each of k centers."""
    return 2 + int(math.log(k))


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


def _dense_spread_out(
    rows: np.ndarray, weight: np.ndarray, k: int, random: np.random.Generator, candidates: int, near: np.ndarray
) -> np.ndarray:
    from sagesmith.algorithms.kmeans import search_compiled as search

    chosen, chances = np.empty(k, np.int64), random.uniform(size=(k, candidates))
    number = search.spread_out(np.ascontiguousarray(rows, np.float32), near, weight, chances, chosen)
    return _filled(chosen, number, weight, random)


def _filled(chosen: np.ndarray, number: int, weight: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """With any rows after the first `number`: beyond these every row of some weight lies on one of them."""
    if number < len(chosen):
        left = np.setdiff1d(np.arange(len(weight)), chosen[:number])
        chosen[number:] = left[_drawn(weight[left], len(chosen) - number, random)]
    return chosen


def _spread_out(rows: Any, weight: np.ndarray, k: int, random: np.random.Generator, candidates: int) -> np.ndarray:
    """`_dense_spread_out` for CSR."""
    chosen = np.empty(k, np.int64)
    chosen[0] = _by_share(weight, 1, random)[0]
    squares = _closer(rows, int(chosen[0]), np.full(len(weight), np.inf))
    for number in range(1, k):
        tried = _by_share(weight * squares, candidates, random)
        if not len(tried):
            return _filled(chosen, number, weight, random)
        lowered = [_closer(rows, int(one), squares.copy()) for one in tried]
        best = int(np.argmin([weighted(each, weight) for each in lowered])) if len(tried) > 1 else 0
        chosen[number], squares = tried[best], lowered[best]
    return chosen


def _by_share(share: np.ndarray, number: int, random: np.random.Generator) -> np.ndarray:
    """`number` indices drawn in proportion to `share`; none when all shares are 0."""
    totals = np.cumsum(share)
    if not totals[-1] > 0:
        return np.empty(0, np.int64)
    found = np.searchsorted(totals, random.uniform(size=number) * totals[-1], side="right")
    return np.asarray(np.minimum(found, np.flatnonzero(share)[-1]))


def _closer(rows: Any, center: int, squares: np.ndarray) -> np.ndarray:
    """`squares`, lowered where row `center` is nearer."""
    from sagesmith.algorithms.kmeans import search_compiled as search

    search.closer_sparse(*parts_of(rows), dense(rows, np.array([center]))[0], squares)
    squares[center] = 0.0
    return squares
