"""exact_compiled: the inner loops of exact search, compiled. See exact.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from sagesmith.algorithms.knn.tiles_compiled import LANES, STEP, tile
from sagesmith.formats.compiled import compiled, inlined
from sagesmith.formats.words_compiled import address_of, zeros_below

BLOCK = 32 << 10  # numbers of rows that are held, centred, in the second-level cache
FURTHER = 16  # candidates beyond k that are taken before those that lost are dropped, and the limit falls
ROOM = 64  # candidates that must fit after those that lost are dropped, or dropping would be all that is done


@compiled
def lengths(vectors: np.ndarray, center: np.ndarray) -> np.ndarray:
    """The squared length of each row from the center, (n,), in double precision of float32 differences."""
    found = np.empty(len(vectors))
    width = vectors.shape[1]
    fours = width - width % 4
    for row in range(len(vectors)):
        y = vectors[row]
        a = b = c = d = 0.0
        for i in range(0, fours, 4):
            a += np.float64(y[i] - center[i]) ** 2
            b += np.float64(y[i + 1] - center[i + 1]) ** 2
            c += np.float64(y[i + 2] - center[i + 2]) ** 2
            d += np.float64(y[i + 3] - center[i + 3]) ** 2
        for i in range(fours, width):
            a += np.float64(y[i] - center[i]) ** 2
        found[row] = (a + b) + (c + d)
    return found


@inlined
def nth_smallest(values: np.ndarray, nth: int, count: int) -> Any:
    """The nth (from 0) smallest of values[:count], which are put into another order: Hoare's selection."""
    low, high = 0, count - 1
    while low < high:
        pivot = values[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while pivot < values[j]:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if nth <= j:
            high = j
        elif nth >= i:
            low = i
        else:
            break
    return values[nth]


@inlined
def narrowed(
    low: np.ndarray, rows: np.ndarray, count: int, slack: np.ndarray, own: Any, k: int, limit: Any, work: np.ndarray
) -> tuple[int, Any]:
    """Drops candidates that cannot be among the k nearest: (candidates left, the new limit)."""
    if count < k:
        return count, limit
    for i in range(count):
        work[i] = low[i] + slack[rows[i]]
    limit = min(limit, np.float32(nth_smallest(work, k - 1, count) + own))
    kept = 0
    for i in range(count):
        if low[i] <= limit:
            low[kept] = low[i]
            rows[kept] = rows[i]
            kept += 1
    return kept, limit


@compiled
def collect(
    queries: np.ndarray,
    vectors: np.ndarray,
    center: np.ndarray,
    base: np.ndarray,
    slack: np.ndarray,
    own: np.ndarray,
    k: int,
    low: np.ndarray,
    rows: np.ndarray,
    counts: np.ndarray,
) -> None:
    """The candidates of every query among all rows.

    queries (t, d, LANES): 2 x, in tiles; vectors (n, d), of which center (d,) is taken; base (n,): |y|² less what
    rounding may add; slack (n,): what it may have taken, twice; own (q,): the same for the query. A candidate's lower
    bound is base - 2 x·y. low, rows (q, c): the candidates; counts (q,): how many, or -1: more rows lie within rounding
    of the k-th than there is room for.
    """
    tiles, width, _ = queries.shape
    height = max(1, BLOCK // (STEP * width)) * STEP
    block, bases = np.zeros((height, width), np.float32), np.empty(height, np.float32)
    bounds, hits = np.empty((STEP, LANES), np.float32), np.empty(STEP, np.uint64)
    limits = np.full(tiles * LANES, np.nan, np.float32)  # above which lower bound a row has lost; nothing is below NaN
    limits[: len(own)] = np.inf
    due = np.full(len(own), min(2 * k + FURTHER, low.shape[1]))  # candidates at which those that lost are dropped
    work = np.empty(low.shape[1], np.float32)
    for start in range(0, len(vectors), height):
        filled = centred(vectors[start : start + height], center, base[start : start + height], block, bases)
        for at in range(tiles):
            limit = limits[at * LANES : (at + 1) * LANES]
            for first in range(0, filled, STEP):
                tile(
                    address_of(queries[at]),
                    address_of(block[first:]),
                    width,
                    address_of(bases[first:]),
                    address_of(limit),
                    address_of(bounds),
                    address_of(hits),
                )
                for r in range(STEP):
                    marks = hits[r]
                    while marks:
                        lane = zeros_below(marks)
                        marks &= marks - np.uint64(1)
                        q = at * LANES + lane
                        row, value = start + first + r, bounds[r, lane]
                        limit[lane] = taken(
                            low[q], rows[q], counts, due, q, row, value, slack, own[q], k, limit[lane], work
                        )
    for q in range(len(own)):
        if counts[q] >= 0:
            limit_ = limits[q]
            counts[q], limit_ = narrowed(low[q], rows[q], counts[q], slack, own[q], k, limit_, work)


@inlined
def centred(vectors: np.ndarray, center: np.ndarray, base: np.ndarray, block: np.ndarray, bases: np.ndarray) -> int:
    """Puts rows less their center into a block, and NaN for the bases of those that lack; returns how many rows."""
    bases[:] = np.nan
    for i in range(len(vectors)):
        bases[i] = base[i]
        for j in range(len(center)):
            block[i, j] = vectors[i, j] - center[j]
    return len(vectors)


@inlined
def taken(
    low: np.ndarray,
    rows: np.ndarray,
    counts: np.ndarray,
    due: np.ndarray,
    q: int,
    row: int,
    value: Any,
    slack: np.ndarray,
    own: Any,
    k: int,
    limit: Any,
    work: np.ndarray,
) -> Any:
    """Takes a row among the candidates of query q, unless it has lost meanwhile; returns the limit from now on."""
    count = counts[q]
    if count == due[q]:
        count, limit = narrowed(low, rows, count, slack, own, k, limit, work)
        counts[q], due[q] = count, min(count + k + FURTHER, len(low))
        if count > len(low) - ROOM:
            counts[q] = -1
            return np.float32(np.nan)
    if value <= limit:
        low[count], rows[count] = value, row
        counts[q] = count + 1
    return limit


@inlined
def distance(x: np.ndarray, y: np.ndarray, product: bool) -> float:
    """Squared distance, or minus the inner product, in double precision; four sums, so that they need not wait."""
    a = b = c = d = 0.0
    width = len(x)
    fours = width - width % 4
    if product:
        for i in range(0, fours, 4):
            a -= np.float64(x[i]) * y[i]
            b -= np.float64(x[i + 1]) * y[i + 1]
            c -= np.float64(x[i + 2]) * y[i + 2]
            d -= np.float64(x[i + 3]) * y[i + 3]
        for i in range(fours, width):
            a -= np.float64(x[i]) * y[i]
        return (a + b) + (c + d)
    for i in range(0, fours, 4):
        u = np.float64(x[i]) - y[i]
        v = np.float64(x[i + 1]) - y[i + 1]
        w = np.float64(x[i + 2]) - y[i + 2]
        z = np.float64(x[i + 3]) - y[i + 3]
        a += u * u
        b += v * v
        c += w * w
        d += z * z
    for i in range(fours, width):
        u = np.float64(x[i]) - y[i]
        a += u * u
    return (a + b) + (c + d)


@inlined
def put(distances: np.ndarray, nearest: np.ndarray, filled: int, k: int, value: float, row: int) -> int:
    """Takes a row into the k nearest, sorted by distance and then by row; returns how many there are."""
    if filled == k and not (value < distances[k - 1] or (value == distances[k - 1] and row < nearest[k - 1])):
        return filled
    at = min(filled, k - 1)
    while at > 0 and (value < distances[at - 1] or (value == distances[at - 1] and row < nearest[at - 1])):
        distances[at] = distances[at - 1]
        nearest[at] = nearest[at - 1]
        at -= 1
    distances[at] = value
    nearest[at] = row
    return min(filled + 1, k)


@compiled
def settle(
    queries: np.ndarray,
    vectors: np.ndarray,
    rows: np.ndarray,
    counts: np.ndarray,
    k: int,
    product: bool,
    distances: np.ndarray,
    nearest: np.ndarray,
) -> None:
    """The k nearest of every query's candidates, or of all rows where its count is below k: (q, k) each."""
    for q in range(len(queries)):
        filled = 0
        if counts[q] >= k:
            for i in range(counts[q]):
                row = rows[q, i]
                value = distance(queries[q], vectors[row], product)
                filled = put(distances[q], nearest[q], filled, k, value, row)
        else:
            for row in range(len(vectors)):
                value = distance(queries[q], vectors[row], product)
                filled = put(distances[q], nearest[q], filled, k, value, row)
