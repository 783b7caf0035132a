"""Lloyd: weighted k-means on points that fit into memory; shrinks the K centers of a pass to the k of the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sagesmith.algorithms.kmeans.centers import Centers, add_rows, weighted
from sagesmith.algorithms.kmeans.seeding import dense, first_centers, greedy

RACED = 128  # rows for each center in a race: enough to tell good centers from bad
RACE_TOLERANCE = 1e-3  # what is gained later, all gain alike
Found = tuple[np.ndarray, float]


@dataclass(frozen=True)
class Limits:
    """When Lloyd's algorithm ends, and how many threads it may use."""

    iterations: int
    tolerance: float
    threads: int = 1


def trials(
    points: np.ndarray, weights: np.ndarray, k: int, method: str, number: int, limits: Limits
) -> Iterator[Found]:
    """k centers, (k, d) float64, and the mean square distance to them, from each of `number` starts.

    Args:
        points: (n, d) float32 with n >= k.
        weights: (n,), positive.
        method: "random" or "kmeans++".
    """
    for trial in range(number):
        start = first_centers(method, points, weights, k, np.random.default_rng((trial, 1)), greedy(k))
        yield lloyd(start, points, weights, limits)


def refined(candidates: Sequence[np.ndarray], rows: Any, weights: np.ndarray, limits: Limits) -> Found:
    """The best that Lloyd's algorithm makes of several centers, on weighted rows, (n, d) dense or CSR.

    They race on a part of the rows, as scikit-learn's starts do on all, and are judged by another part if there is one;
    only the winner goes on with all.
    """
    step = -(-len(weights) // (RACED * len(candidates[0])))
    (part, share), (held, held_share) = _every(rows, weights, 0, step), _every(rows, weights, step - 1, step)
    race = replace(limits, tolerance=max(limits.tolerance, RACE_TOLERANCE))
    raced = [lloyd(candidate, part, share, race)[0] for candidate in candidates]
    distances = [weighted(Centers(centers).nearest(held, limits.threads)[1], held_share) for centers in raced]
    return lloyd(raced[int(np.argmin(distances))], rows, weights, limits)


def _every(rows: Any, weights: np.ndarray, first: int, step: int) -> tuple[Any, np.ndarray]:
    part = rows[first::step]
    return np.ascontiguousarray(part) if isinstance(part, np.ndarray) else part, weights[first::step]


def lloyd(start: np.ndarray, rows: Any, weights: np.ndarray, limits: Limits) -> Found:
    """Moves centers to the means of their rows until the mean square distance falls by no more than the tolerance.

    Returns the centers, (k, d) float64, and the mean square distance to them.
    """
    centers, total = Centers(start), float(weights.sum())
    labels, squares = centers.nearest(rows, limits.threads)
    msd = weighted(squares, weights) / total
    for _ in range(limits.iterations):
        _move(centers, rows, weights, labels, squares, limits.threads)
        before, previous = msd, labels
        labels, squares = centers.nearest(rows, limits.threads)
        msd = weighted(squares, weights) / total
        if before - msd <= limits.tolerance * before or np.array_equal(labels, previous):
            break
    return centers.points, msd


def _move(
    centers: Centers, rows: Any, weights: np.ndarray, labels: np.ndarray, squares: np.ndarray, threads: int
) -> None:
    """Each center to the mean of its points; one without points to the point that adds most to the distance."""
    from sagesmith.algorithms.kmeans import search_compiled as search

    counts = np.bincount(labels, weights, len(centers))
    sums = np.zeros_like(centers.points)
    add_rows(rows, weights, labels, sums, threads)
    search.means(sums, counts, centers.points)
    empty = np.flatnonzero(counts == 0)
    if len(empty):
        farthest = np.argsort(-squares * weights, kind="stable")[: len(empty)]
        centers.points[empty] = dense(rows, farthest)
    centers.moved()
