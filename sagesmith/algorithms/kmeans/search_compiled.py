"""search: nearest centers, squared distances and sums per center, over dense rows and CSR; compiled, without the GIL.

Centers are searched relative to an origin o near the data: with c = o + c' the nearest center has the largest
x.c' - (o.c' + |c'|^2 / 2). The product with the small c' keeps float32 exact enough where the mean of the data is far
from zero, and x itself need not be moved.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np

from sagesmith.algorithms.kmeans.tile_compiled import CENTERS as CENTERS
from sagesmith.algorithms.kmeans.tile_compiled import ROWS, best_of_rows
from sagesmith.formats.compiled import HOW

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """As formats.compiled, but sums may be taken in any order, which lets them run in vectors."""
    how = HOW | {"fastmath": {"reassoc", "contract", "nsz"}}
    try:
        return numba.njit(cache=True, **how)(function)  # type: ignore[no-any-return]
    except RuntimeError:  # no folder for the cache is writable
        return numba.njit(**how)(function)  # type: ignore[no-any-return]


@compiled
def pack(points: np.ndarray, origin: np.ndarray, panels: np.ndarray, bias: np.ndarray) -> None:
    """Lays centers (k, d) out in panels of CENTERS columns, (p, d, CENTERS), and fills bias (p * CENTERS,)."""
    k, d = points.shape
    bias[:] = -np.inf
    for j in range(k):
        panel, lane = j // CENTERS, j % CENTERS
        half = 0.0
        for f in range(d):
            moved = np.float32(points[j, f] - origin[f])
            panels[panel, f, lane] = moved
            half += np.float64(moved) * (origin[f] + 0.5 * np.float64(moved))
        bias[j] = -half


@compiled
def square_of(rows: np.ndarray, i: int, points: np.ndarray, j: int) -> float:
    """The squared distance of row i from point j, in double precision."""
    square = 0.0
    for f in range(rows.shape[1]):
        apart = rows[i, f] - points[j, f]
        square += apart * apart
    return square


@compiled
def nearest(
    rows: np.ndarray, panels: np.ndarray, bias: np.ndarray, points: np.ndarray, labels: np.ndarray, squares: np.ndarray
) -> None:
    """Fills labels (n,) int32 with the nearest center of dense rows (n, d), and squares (n,) with |x - c|^2."""
    n, d = rows.shape
    whole = n // ROWS * ROWS
    for i in range(0, whole, ROWS):
        best_of_rows(rows[i:], d, panels, bias, panels.shape[0], labels[i:])
        for row in range(i, i + ROWS):  # while the rows are in the nearest cache
            squares[row] = square_of(rows, row, points, labels[row])
    if whole < n:
        rest = np.zeros((ROWS, d), np.float32)
        rest[: n - whole] = rows[whole:]
        best = np.empty(ROWS, np.int32)
        best_of_rows(rest, d, panels, bias, panels.shape[0], best)
        labels[whole:] = best[: n - whole]
        for row in range(whole, n):
            squares[row] = square_of(rows, row, points, labels[row])


@compiled
def nearest_sparse(
    values: np.ndarray,
    columns: np.ndarray,
    starts: np.ndarray,
    turned: np.ndarray,
    bias: np.ndarray,
    points: np.ndarray,
    norms: np.ndarray,
    labels: np.ndarray,
    squares: np.ndarray,
) -> None:
    """`nearest` for rows of a CSR matrix; `turned` is (d, k) float32, the centers without the origin, `norms` |c|^2."""
    k = turned.shape[1]
    scores = np.empty(k, np.float32)
    for i in range(len(labels)):
        scores[:] = bias[:k]
        for at in range(starts[i], starts[i + 1]):
            value, column = values[at], columns[at]
            for j in range(k):
                scores[j] += value * turned[column, j]
        best = 0
        for j in range(1, k):
            if scores[j] > scores[best]:
                best = j
        square = norms[best]
        for at in range(starts[i], starts[i + 1]):
            value, center = np.float64(values[at]), points[best, columns[at]]
            square += value * (value - 2.0 * center)
        labels[i], squares[i] = best, max(square, 0.0)


@compiled
def add(rows: np.ndarray, weights: np.ndarray, labels: np.ndarray, sums: np.ndarray, first: int, last: int) -> None:
    """Adds the columns from `first` to `last` of weighted rows to the sums (k, d) of their centers.

    No weights, an empty array, are weights of 1.
    """
    weighted = len(weights) > 0
    for i in range(len(labels)):
        j = labels[i]
        weight = weights[i] if weighted else 1.0
        for f in range(first, last):
            sums[j, f] += weight * rows[i, f]


@compiled
def add_sparse(
    values: np.ndarray, columns: np.ndarray, starts: np.ndarray, weights: np.ndarray, labels: np.ndarray,
    sums: np.ndarray,
) -> None:  # fmt: skip
    """`add` for the rows of a CSR matrix."""
    weighted = len(weights) > 0
    for i in range(len(labels)):
        j = labels[i]
        weight = weights[i] if weighted else 1.0
        for at in range(starts[i], starts[i + 1]):
            sums[j, columns[at]] += weight * values[at]


@compiled
def means(sums: np.ndarray, counts: np.ndarray, points: np.ndarray) -> None:
    """The mean of every center that has seen anything; the others stay where they are."""
    k, d = sums.shape
    for j in range(k):
        if counts[j] > 0.0:
            share = 1.0 / counts[j]
            for f in range(d):
                points[j, f] = sums[j, f] * share


@compiled
def closer(rows: np.ndarray, point: np.ndarray, squares: np.ndarray) -> None:
    """Lowers squares (n,) to the squared distance of rows (n, d) from a point (d,) where that is less."""
    n, d = rows.shape
    for i in range(n):
        square = 0.0
        for f in range(d):
            apart = rows[i, f] - point[f]
            square += apart * apart
        squares[i] = min(squares[i], square)


@compiled
def closer_sparse(
    values: np.ndarray, columns: np.ndarray, starts: np.ndarray, point: np.ndarray, squares: np.ndarray
) -> None:
    """`closer` for the rows of a CSR matrix."""
    norm = 0.0
    for f in range(len(point)):
        norm += point[f] * point[f]
    for i in range(len(squares)):
        square = norm
        for at in range(starts[i], starts[i + 1]):
            value = np.float64(values[at])
            square += value * (value - 2.0 * point[columns[at]])
        squares[i] = min(squares[i], max(square, 0.0))
