"""Lloyd: weighted k-means on points that fit into memory; shrinks the K centers of a pass to the k of the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sagesmith.algorithms.kmeans.centers import Centers, add_rows
from sagesmith.algorithms.kmeans.seeding import dense, first_centers, greedy


def best_of_trials(
    points: np.ndarray,
    weights: np.ndarray,
    k: int,
    *,
    method: str,
    trials: int,
    iterations: int,
    tolerance: float,
    threads: int = 1,
    told: Callable[[int, float], None] = lambda trial, msd: None,
) -> tuple[np.ndarray, float]:
    """The k centers, (k, d) float64, with the lowest mean square distance among `trials` runs, and that distance.

    Args:
        points: (n, d) float32 with n >= k.
        weights: (n,), positive.
        told: called with each trial's number and mean square distance.
    """
    best: tuple[np.ndarray, float] | None = None
    for trial in range(trials):
        random = np.random.default_rng((trial, 1))
        centers = Centers(first_centers(method, points, weights, k, random, greedy(k)))
        msd = _lloyd(centers, points, weights, iterations, tolerance, threads)
        told(trial, msd)
        if best is None or msd < best[1]:
            best = centers.points, msd
    assert best is not None, "at least one trial"
    return best


def refined(
    points: np.ndarray, rows: Any, weights: np.ndarray, *, iterations: int, tolerance: float, threads: int = 1
) -> tuple[np.ndarray, float]:
    """Centers (k, d) after Lloyd's algorithm on weighted rows, (n, d) dense or CSR, and the mean square distance."""
    centers = Centers(points)
    msd = _lloyd(centers, rows, weights, iterations, tolerance, threads)
    return centers.points, msd


def _lloyd(centers: Centers, rows: Any, weights: np.ndarray, iterations: int, tolerance: float, threads: int) -> float:
    """Moves centers to the means of their points until that lowers the mean square distance by no more than `tolerance`
    of it; returns the mean square distance to the centers as they are at the end.
    """
    total = float(weights.sum())
    labels, squares = centers.nearest(rows, threads)
    msd = float(squares @ weights) / total
    for _ in range(iterations):
        _move(centers, rows, weights, labels, squares, threads)
        before, previous = msd, labels
        labels, squares = centers.nearest(rows, threads)
        msd = float(squares @ weights) / total
        if before - msd <= tolerance * before or np.array_equal(labels, previous):
            break
    return msd


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
