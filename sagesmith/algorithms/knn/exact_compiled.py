"""exact_compiled: the inner loops of exact search, compiled. See exact.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from sagesmith.formats.compiled import compiled, inlined

RUN = 64  # products that are compared at once, by vector instructions


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


@inlined
def hits(base: np.ndarray, products: np.ndarray, limit: Any) -> Any:
    """How many of RUN lower bounds are within the limit. Slices, whose indices need no sign, are ten times as fast."""
    count = np.int32(0)
    for j in range(RUN):
        count += np.int32(base[j] - products[j] <= limit)
    return count


@compiled
def collect(
    products: np.ndarray,
    start: int,
    base: np.ndarray,
    slack: np.ndarray,
    own: np.ndarray,
    k: int,
    low: np.ndarray,
    rows: np.ndarray,
    counts: np.ndarray,
    limits: np.ndarray,
    final: bool,
) -> None:
    """Takes a block of products of queries and rows into the candidates of every query.

    products (q, b): 2 x·y for the rows from `start`; base (n,): |y|² less what rounding may add; slack (n,): what it
    may have taken, twice; own (q,): the same for the query. A candidate's lower bound is base - product. low, rows
    (q, c): candidates so far; counts, limits (q,): how many, and above which lower bound a row has lost. A count of -1:
    more rows lie within rounding of the k-th than there is room for. final: the last block.
    """
    queries, width = products.shape
    room = low.shape[1]
    work = np.empty(room, np.float32)
    for q in range(queries):
        count, limit = counts[q], limits[q]
        if count < 0:
            continue
        at = 0
        while at < width and count >= 0:
            stop = min(at + RUN, width)
            if stop - at < RUN or hits(base[start + at : start + stop], products[q, at:stop], limit):
                for j in range(at, stop):
                    value = base[start + j] - products[q, j]
                    if value <= limit:
                        if count == room:
                            count, limit = narrowed(low[q], rows[q], count, slack, own[q], k, limit, work)
                            if count > room - RUN:
                                count = -1
                                break
                            if value > limit:
                                continue
                        low[q, count] = value
                        rows[q, count] = start + j
                        count += 1
            at = stop
        if final and count >= 0:
            count, limit = narrowed(low[q], rows[q], count, slack, own[q], k, limit, work)
        counts[q], limits[q] = count, limit


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
