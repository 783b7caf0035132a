"""exchange: centers that are not worth their place move to where they are; compiled, without the GIL.

Lattanzi and Sohler, A Better k-means++ Algorithm via Local Search, ICML 2019: a row is drawn with probability
proportional to its weighted squared distance, and takes the place of the center that is missed least if the sum falls.
Here not the row itself is tried but the mean of the rows that would come to it, which is where Lloyd's algorithm would
move it next.
"""

from __future__ import annotations

import numpy as np

from sagesmith.algorithms.kmeans.search_compiled import compiled
from sagesmith.algorithms.lanes import LANES

WIDE = 8 * LANES  # columns


@compiled
def exchange(points: np.ndarray, rows: np.ndarray, weights: np.ndarray, chances: np.ndarray) -> int:
    """Tries a new place for each of chances (t,), uniform in [0, 1); returns how many centers (k, d) float32 moved.

    Args:
        rows: (n, d) float32, k >= 2.
        weights: (n,) float64.
    """
    n, k = len(rows), len(points)
    turned = _turned(rows)
    away, loss, moved = np.empty(turned.shape[1], np.float32), np.empty(k), 0
    near, labels = np.full((2, n), np.inf, np.float32), np.full((2, n), -1, np.int32)  # the nearest, and the one after
    for j in range(k):
        _away(rows, turned, points[j], away)
        for i in range(n):
            _insert(i, j, away[i], near, labels)
    for chance in chances:
        total, drawn = _drawn(near[0], weights, chance)
        if drawn < 0:
            break
        _away(rows, turned, rows[drawn], away)
        place = _gathering(rows, weights, near[0], away)
        _away(rows, turned, place, away)
        left = _losses(near, labels[0], weights, away, loss)
        worst = int(np.argmin(loss))
        if left + loss[worst] < total:
            moved += 1
            points[worst] = place
            for i in range(n):
                if labels[0, i] == worst or labels[1, i] == worst:
                    _rank(points, rows, i, near, labels)
                else:
                    _insert(i, worst, away[i], near, labels)
    return moved


@compiled
def _turned(rows: np.ndarray) -> np.ndarray:
    """Rows (n, d) as columns, (d, n and up to LANES - 1 of zeros), for `_away`."""
    n, d = rows.shape
    turned = np.zeros((d, (n + LANES - 1) // LANES * LANES), np.float32)
    for i in range(n):
        for f in range(d):
            turned[f, i] = rows[i, f]
    return turned


@compiled
def _rank(points: np.ndarray, rows: np.ndarray, i: int, near: np.ndarray, labels: np.ndarray) -> None:
    """The two centers nearest to row i, and their squared distances."""
    one: float = np.float32(np.inf)  # type: ignore[assignment]
    two, first, second = one, -1, -1
    for j in range(len(points)):
        square = _square(rows[i], points[j])
        if square < one:
            one, two, first, second = square, one, j, first
        elif square < two:
            two, second = square, j
    near[0, i], near[1, i], labels[0, i], labels[1, i] = one, two, first, second


@compiled
def _insert(i: int, j: int, square: float, near: np.ndarray, labels: np.ndarray) -> None:
    if square < near[0, i]:
        near[1, i], labels[1, i] = near[0, i], labels[0, i]
        near[0, i], labels[0, i] = square, j
    elif square < near[1, i]:
        near[1, i], labels[1, i] = square, j


@compiled
def _square(row: np.ndarray, point: np.ndarray) -> float:
    square: float = np.float32(0.0)  # type: ignore[assignment]
    for f in range(len(point)):
        apart = row[f] - point[f]
        square += apart * apart
    return square


@compiled
def _away(rows: np.ndarray, turned: np.ndarray, place: np.ndarray, away: np.ndarray) -> None:
    """Squared distances of rows, and of the zeros in `turned`, from a place, (d,).

    Wide rows fill vectors by themselves; of narrow ones a vector takes one column of many.
    """
    if len(place) >= WIDE:
        for i in range(len(rows)):
            away[i] = _square(rows[i], place)
        return
    away[:] = np.float32(0.0)
    whole = len(place) // 4 * 4
    for f in range(0, whole, 4):  # four columns for one visit to the sums
        p, q, r, s = place[f], place[f + 1], place[f + 2], place[f + 3]
        for i in range(len(away)):
            one, two = turned[f, i] - p, turned[f + 1, i] - q
            three, four = turned[f + 2, i] - r, turned[f + 3, i] - s
            away[i] += (one * one + two * two) + (three * three + four * four)
    for f in range(whole, len(place)):
        for i in range(len(away)):
            apart = turned[f, i] - place[f]
            away[i] += apart * apart


@compiled
def _drawn(near: np.ndarray, weights: np.ndarray, chance: float) -> tuple[float, int]:
    """The sum of weight * distance, and the row at which it passes `chance` of it; -1 if all is 0."""
    total = 0.0
    for i in range(len(near)):
        total += weights[i] * near[i]
    passed, drawn = 0.0, -1
    for i in range(len(near)):
        share = weights[i] * near[i]
        if share > 0.0:
            passed, drawn = passed + share, i
            if passed > chance * total:
                break
    return total, drawn


@compiled
def _gathering(rows: np.ndarray, weights: np.ndarray, near: np.ndarray, away: np.ndarray) -> np.ndarray:
    """The mean, (d,) float32, of the rows that are nearer to a place, `away` from them, than to any center."""
    mean, weight = np.zeros(rows.shape[1]), 0.0
    for i in range(len(rows)):
        if away[i] < near[i]:
            weight += weights[i]
            for f in range(len(mean)):
                mean[f] += weights[i] * rows[i, f]
    return (mean / weight).astype(np.float32)


@compiled
def _losses(near: np.ndarray, labels: np.ndarray, weights: np.ndarray, away: np.ndarray, loss: np.ndarray) -> float:
    """The sum with one place more, and for each center what is lost, (k,), when it goes."""
    left = 0.0
    loss[:] = 0.0
    for i in range(len(labels)):
        kept = min(near[0, i], away[i])
        left += weights[i] * kept
        loss[labels[i]] += weights[i] * (min(near[1, i], away[i]) - kept)
    return left
