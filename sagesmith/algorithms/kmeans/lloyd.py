"""Lloyd: weighted k-means on points that fit into memory; shrinks the K centers of a pass to the k of the model.

Between turns only the means' distances from an origin are needed: the squared distance of rows to their means is that
to the origin less those, so no turn computes it row by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sagesmith.algorithms.kmeans.centers import LEAST_WORK, Centers, add_rows, weighted
from sagesmith.algorithms.kmeans.seeding import dense, first_centers
from sagesmith.algorithms.parallel import divided, each

FEW = 128  # rows for each center on which centers settle first, at an eighth of the cost
FEW_TOLERANCE, TOLERANCE = 1e-3, 2e-3  # a turn that gains less on few rows follows their chance (1 / FEW in all)
EXCHANGES = 2  # places tried for each center before Lloyd's algorithm begins
RACED = 2  # starts that settle on rows: the best of the K points is not always the best of the rows
PARTS = 8  # of the rows, each with sums of its own
Found = tuple[np.ndarray, float]


@dataclass(frozen=True)
class Limits:
    """When Lloyd's algorithm ends, and how many threads it may use."""

    iterations: int
    tolerance: float
    threads: int = 1


def trials(
    points: np.ndarray, weights: np.ndarray, k: int, method: str, number: int, limits: Limits
) -> tuple[list[float], list[np.ndarray]]:
    """The mean square distance to k centers from each of `number` starts, and the best RACED centers, (k, d) float64.

    Args:
        points: (n, d) float32 with n >= k.
        weights: (n,), positive.
        method: "random", or "kmeans++", whose centers are exchanged for better ones before they settle.
    """
    from sagesmith.algorithms.kmeans.exchange_compiled import exchange
    from sagesmith.algorithms.kmeans.search_compiled import span

    alone, spread = replace(limits, threads=1), points
    if points.shape[1] >= 2 * len(points):
        spread = span(points)  # nothing but distances counts, and there are fewer columns

    def one(trial: int) -> Found:
        random = np.random.default_rng((trial, 1))
        start = first_centers(method, spread, weights, k, random)
        if method == "kmeans++":
            places = start.astype(np.float32)
            exchange(places, spread, weights, random.uniform(size=EXCHANGES * k))
            start = places.astype(np.float64)
        return lloyd(start, spread, weights, alone)

    found = each(one, range(number), limits.threads)
    best = [centers for centers, _ in sorted(found, key=lambda one: one[1])[:RACED]]
    if spread is not points:
        best = [_means(centers, spread, points, weights) for centers in best]
    return [msd for _, msd in found], best


def _means(centers: np.ndarray, spread: np.ndarray, points: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The means, (k, d), of the points that are nearest to each of the centers of their coordinates, `spread`.

    For a center that is nearest to none, the point nearest to it.
    """
    from sagesmith.algorithms.kmeans import search_compiled as search

    labels, _ = Centers(centers).nearest(spread)
    nearest = [int(((spread - center) ** 2).sum(axis=1).argmin()) for center in centers]
    found, sums = points[nearest].astype(np.float64), np.zeros((len(centers), points.shape[1]))
    add_rows(points, weights, labels, sums, threads=1)
    search.means(sums, np.bincount(labels, weights, len(centers)), found)
    return found


def refined(candidates: Sequence[np.ndarray], rows: Any, weights: np.ndarray, limits: Limits) -> Found:
    """What Lloyd's algorithm makes of centers on weighted rows, (n, d) dense or CSR.

    All settle on a part of the rows; the one that is nearest to them goes on with all.
    """
    step, side_by_side = -(-len(weights) // (FEW * len(candidates[0]))), limits.threads <= RACED
    part, share = _every(step, rows), np.ascontiguousarray(weights[: len(weights) // step * step : step])
    tight = replace(_at_least(FEW_TOLERANCE, limits), threads=1 if side_by_side else limits.threads)

    def settle(candidate: np.ndarray) -> Found:
        return lloyd(candidate, part, share, tight)

    raced = each(settle, candidates, limits.threads if side_by_side else 1)
    best = min(raced, key=lambda found: found[1])[0]
    return lloyd(best, rows, weights, _at_least(TOLERANCE, limits))


def _every(step: int, rows: Any) -> Any:
    """One row in `step`; of dense ones nothing is copied, the rows between are columns that the centers have not."""
    if not isinstance(rows, np.ndarray):
        return rows[: rows.shape[0] // step * step : step]
    return np.ascontiguousarray(rows)[: len(rows) // step * step].reshape(len(rows) // step, -1)


def _at_least(tolerance: float, limits: Limits) -> Limits:
    return replace(limits, tolerance=max(limits.tolerance, tolerance))


def lloyd(start: np.ndarray, rows: Any, weights: np.ndarray, limits: Limits) -> Found:
    """Moves centers to the means of their rows until the mean square distance falls by no more than the tolerance.

    Of dense rows only the first columns count, as many as the centers have.

    Returns the centers, (k, d) float64, and the mean square distance of the rows to the means that were last taken.
    """
    total = float(weights.sum())
    if not isinstance(rows, np.ndarray):
        centers, left = _sparse(start, rows, weights, limits)
    else:
        centers, left = _dense(start, rows, weights, limits)
    return centers, left / total


def _dense(start: np.ndarray, rows: np.ndarray, weights: np.ndarray, limits: Limits) -> Found:
    """Many rows in parts, whose sums do not hang on the number of threads."""
    from sagesmith.algorithms.kmeans import search_compiled as search

    points, origin = start.copy(), start.mean(axis=0)
    parts = PARTS if len(rows) * start.size > LEAST_WORK else 1
    if min(parts, limits.threads) > 1:
        return points, _by_threads(points, rows, weights, origin, limits)
    return points, search.lloyd(points, rows, weights, origin, parts, limits.iterations, limits.tolerance)


def _by_threads(points: np.ndarray, rows: np.ndarray, weights: np.ndarray, origin: np.ndarray, limits: Limits) -> float:
    """`search_compiled.lloyd`, each turn by several threads."""
    from sagesmith.algorithms.kmeans import search_compiled as search

    k, d = points.shape
    panels, bias = search.room(k, d)
    labels, changed, squares = np.full(len(rows), -1, np.int32), np.empty(PARTS, np.bool_), np.zeros(PARTS)
    sums, counts = np.zeros((PARTS, k, d)), np.empty((PARTS, k))

    def gather(first: int, last: int) -> None:
        search.gather(rows, weights, panels, bias, origin, labels, sums, counts, changed, squares, first, last)

    left = np.inf
    for _ in range(limits.iterations):
        search.pack(points, origin, panels, bias)
        divided(gather, PARTS, limits.threads)
        if not changed.any():
            break
        before, left = left, squares.sum() - search.settled(points, rows, weights, labels, sums, counts, origin)
        if before < np.inf and before - left <= limits.tolerance * before:
            break
    return float(max(left, 0.0))


def _sparse(start: np.ndarray, rows: Any, weights: np.ndarray, limits: Limits) -> Found:
    """`search_compiled.lloyd` for CSR, which has no product in registers."""
    centers = Centers(start.copy())
    labels, squares = centers.nearest(rows, limits.threads)
    left = weighted(squares, weights)
    for _ in range(limits.iterations):
        _move(centers, rows, weights, labels, squares, limits.threads)
        before, previous = left, labels
        labels, squares = centers.nearest(rows, limits.threads)
        left = weighted(squares, weights)
        if before - left <= limits.tolerance * before or np.array_equal(labels, previous):
            break
    return centers.points, left


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
