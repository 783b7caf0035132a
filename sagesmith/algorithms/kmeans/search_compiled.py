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

from sagesmith.algorithms.kmeans.tile_compiled import ALL_LANES, ROWS, best_of_rows, filled_columns
from sagesmith.algorithms.lanes import LANES
from sagesmith.formats.compiled import HOW, inlined

Function = TypeVar("Function", bound=Callable[..., Any])
WORTH_LOOKING = 4  # panels of centers with which products take much longer than looking for columns of zeros
NO_DIRECTION = 1e-10  # of a squared length, and less of it, is rounding
GAP = 4  # columns of zeros that are multiplied rather than jumped over


def compiled(function: Function) -> Function:
    """As formats.compiled, but sums may be taken in any order, which lets them run in vectors."""
    how = HOW | {"fastmath": {"reassoc", "contract", "nsz"}}
    try:
        return numba.njit(cache=True, **how)(function)  # type: ignore[no-any-return]
    except RuntimeError:  # no folder for the cache is writable
        return numba.njit(**how)(function)  # type: ignore[no-any-return]


@compiled
def room(k: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """The panels and biases that `pack` fills."""
    wide = (k + LANES - 1) // LANES
    return np.zeros((wide, d, LANES), np.float32), np.empty(wide * LANES, np.float32)


@compiled
def pack(points: np.ndarray, origin: np.ndarray, panels: np.ndarray, bias: np.ndarray) -> None:
    """Lays centers (k, d) out in panels of LANES columns, (p, d, LANES), and fills bias (p * LANES,)."""
    k, d = points.shape
    bias[:] = -np.inf
    moved = np.empty(d, np.float32)
    for j in range(k):
        panel, lane = j // LANES, j % LANES
        half = 0.0
        for f in range(d):  # a loop of its own is vector code, beside stores that are far from each other it is not
            moved[f] = points[j, f] - origin[f]
            half += np.float64(moved[f]) * (origin[f] + 0.5 * np.float64(moved[f]))
        for f in range(d):
            panels[panel, f, lane] = moved[f]
        bias[j] = -half


@compiled
def square_of(rows: np.ndarray, i: int, points: np.ndarray, j: int) -> float:
    """The squared distance of row i from point j, in double precision."""
    square = 0.0
    for f in range(points.shape[1]):
        apart = rows[i, f] - points[j, f]
        square += apart * apart
    return square


@compiled
def nearest(
    rows: np.ndarray, panels: np.ndarray, bias: np.ndarray, points: np.ndarray, labels: np.ndarray, squares: np.ndarray
) -> None:
    """Fills labels (n,) int32 with the nearest center of dense rows (n, d), and squares (n,) with |x - c|^2."""
    n, d = rows.shape
    tiles, best, filled, runs = _padded(rows), np.empty(ROWS, np.int32), _room_for_bits(d), _all_columns(d)
    looking = _worthwhile(tiles, d, panels, filled, runs)
    for i in range(0, n, ROWS):
        first = max(0, min(i, n - ROWS))
        tile, number = tiles[first : first + ROWS], 1
        if looking:
            number = _filled(tile, d, filled, runs)
        best_of_rows(tile, tile.shape[1], runs, number, panels, bias, best)
        for row in range(i, min(i + ROWS, n)):  # while the rows are in the nearest cache
            labels[row] = best[row - first]
            squares[row] = square_of(rows, row, points, best[row - first])


@inlined
def _padded(rows: np.ndarray) -> np.ndarray:
    """The rows, with rows of zeros below where they are fewer than ROWS."""
    if len(rows) >= ROWS:
        return rows
    tile = np.zeros((ROWS, rows.shape[1]), np.float32)
    tile[: len(rows)] = rows
    return tile


@inlined
def _room_for_bits(d: int) -> np.ndarray:
    return np.empty((d + LANES - 1) // LANES, np.int64)


@inlined
def _all_columns(d: int) -> np.ndarray:
    """Room for runs of columns, (r, 2), the first of which is all of them."""
    runs = np.empty((d // GAP + 1, 2), np.int64)
    runs[0] = 0, d
    return runs


@inlined
def _worthwhile(tiles: np.ndarray, d: int, panels: np.ndarray, filled: np.ndarray, runs: np.ndarray) -> bool:
    """Whether tiles are to be searched for columns of zeros: there are many centers, and such columns in the first."""
    if len(panels) < WORTH_LOOKING or len(tiles) == 0:
        return False
    columns = 0
    for run in range(_filled(tiles[:ROWS], d, filled, runs)):
        columns += runs[run, 1] - runs[run, 0]
    runs[0] = 0, d
    return columns < 0.9 * d


@compiled
def _filled(rows: np.ndarray, d: int, filled: np.ndarray, runs: np.ndarray) -> int:
    """How many runs of columns there are in which not all rows are 0, and where: the others need no product."""
    filled_columns(rows, rows.shape[1], d, filled)
    number, empty = 0, GAP
    for block in range(len(filled)):
        bits, first = filled[block], block * LANES
        if bits == 0:
            empty += LANES
        elif bits == ALL_LANES and empty < GAP:
            runs[number - 1, 1], empty = first + LANES, 0
        else:
            for f in range(first, min(first + LANES, d)):
                if (bits >> (f - first)) & 1 == 0:
                    empty += 1
                    continue
                if empty >= GAP:
                    runs[number, 0] = f
                    number += 1
                runs[number - 1, 1], empty = f + 1, 0
    if number == 0:  # one column of zeros is as good as none
        runs[0] = 0, 1
    return max(number, 1)


@compiled
def gathered(
    rows: np.ndarray, weights: np.ndarray, panels: np.ndarray, bias: np.ndarray, origin: np.ndarray,
    labels: np.ndarray, sums: np.ndarray, counts: np.ndarray,
) -> tuple[bool, float]:  # fmt: skip
    """The rows to their nearest centers: labels (n,), -1 before the first turn, sums (k, d) and counts (k,).

    Rows may be wider than the centers. Only those that change their center are taken out of one sum and added to
    another; counts are taken anew, so that a center without rows counts 0 to the last bit.

    Returns:
        Whether a row has changed its center; in the first turn also the sum of weight * |x - origin|^2.
    """
    n, d, best = len(rows), len(origin), np.empty(ROWS, np.int32)
    tiles, filled, runs = _padded(rows), _room_for_bits(d), _all_columns(d)
    looking = _worthwhile(tiles, d, panels, filled, runs)
    changed, whole, begun = False, 0.0, n > 0 and labels[0] >= 0
    counts[:] = 0.0
    for i in range(0, n, ROWS):
        first = max(0, min(i, n - ROWS))
        tile, number = tiles[first : first + ROWS], 1
        if looking:
            number = _filled(tile, d, filled, runs)
        best_of_rows(tile, tile.shape[1], runs, number, panels, bias, best)
        for row in range(i, min(i + ROWS, n)):
            j, before, weight = best[row - first], labels[row], weights[row]
            counts[j] += weight
            if j != before:
                changed, labels[row] = True, j
                _add(sums[j], weight, rows[row])
                if before >= 0:
                    _add(sums[before], -weight, rows[row])
            if not begun:
                whole += weight * _about(rows[row], origin)
    return changed, whole


@inlined
def _about(row: np.ndarray, origin: np.ndarray) -> float:
    square = 0.0
    for f in range(len(origin)):
        apart = row[f] - origin[f]
        square += apart * apart
    return square


@inlined
def _add(total: np.ndarray, weight: float, row: np.ndarray) -> None:
    for f in range(len(total)):
        total[f] += weight * row[f]


@compiled
def gather(
    rows: np.ndarray, weights: np.ndarray, panels: np.ndarray, bias: np.ndarray, origin: np.ndarray,
    labels: np.ndarray, sums: np.ndarray, counts: np.ndarray, changed: np.ndarray, squares: np.ndarray, begin: int,
    end: int,
) -> None:  # fmt: skip
    """`gathered` for the parts `begin` to `end` of the rows, each with sums, counts, `changed` and squares of its own.

    `squares` (parts,) are kept from the first turn.
    """
    parts = len(sums)
    for part in range(begin, end):
        first, last = len(rows) * part // parts, len(rows) * (part + 1) // parts
        changed[part], square = gathered(
            rows[first:last], weights[first:last], panels, bias, origin, labels[first:last], sums[part], counts[part]
        )
        squares[part] += square


@compiled
def settled(
    points: np.ndarray, rows: np.ndarray, weights: np.ndarray, labels: np.ndarray, sums: np.ndarray,
    counts: np.ndarray, origin: np.ndarray,
) -> float:  # fmt: skip
    """Moves each center to the mean of its rows; one without rows to the row that adds most to the distance.

    Args:
        sums, counts: (parts, k, d) and (parts, k), of the parts of the rows.

    Returns:
        By how much the sum of squared distances to these means is less than that to the origin.
    """
    k, d = points.shape
    whole, total = counts.sum(axis=0), np.empty(d)
    empty = (whole == 0.0).sum()
    squares = np.empty(len(rows) if empty else 0)
    for i in range(len(squares)):
        squares[i] = weights[i] * square_of(rows, i, points, labels[i])
    gained = 0.0
    for j in range(k):
        if whole[j] > 0.0:
            total[:] = 0.0
            for part in range(len(sums)):
                _add(total, 1.0, sums[part, j])
            share, square = 1.0 / whole[j], 0.0
            for f in range(d):
                points[j, f] = total[f] * share
                apart = points[j, f] - origin[f]
                square += apart * apart
            gained += whole[j] * square
        else:
            farthest = np.argmax(squares)
            points[j] = rows[farthest, :d]
            squares[farthest] = -1.0
    return gained


@compiled
def lloyd(
    points: np.ndarray, rows: np.ndarray, weights: np.ndarray, origin: np.ndarray, parts: int, iterations: int,
    tolerance: float,
) -> float:  # fmt: skip
    """Moves centers (k, d) until the squared distance falls by no more than the tolerance; returns its sum.

    The sum is that of the rows to the means of those that were together in the last turn.
    """
    k, d = points.shape
    panels, bias = room(k, d)
    labels, changed, squares = np.full(len(rows), -1, np.int32), np.empty(parts, np.bool_), np.zeros(parts)
    sums, counts = np.zeros((parts, k, d)), np.empty((parts, k))
    left = np.inf
    for _ in range(iterations):
        pack(points, origin, panels, bias)
        gather(rows, weights, panels, bias, origin, labels, sums, counts, changed, squares, 0, parts)
        if not changed.any():
            break
        before, left = left, squares.sum() - settled(points, rows, weights, labels, sums, counts, origin)
        if before < np.inf and before - left <= tolerance * before:
            break
    return max(left, 0.0)


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
        labels[i], squares[i] = best, 0.0 if square < 0.0 else square  # NaN stays, to be noticed


@compiled
def add(rows: np.ndarray, weights: np.ndarray, labels: np.ndarray, sums: np.ndarray, share: int, of: int) -> None:
    """Adds weighted rows to the sums (k, d) of their centers: of one center in `of`, from the number `share` on.

    No weights, an empty array, are weights of 1.
    """
    weighted = len(weights) > 0
    for i in range(len(labels)):
        if labels[i] % of == share:
            _add(sums[labels[i]], weights[i] if weighted else 1.0, rows[i])


@compiled
def by_center(labels: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows in the order of their centers, (n,) int32, and where those of each center begin, (k + 1,)."""
    starts = np.zeros(k + 1, np.int64)
    for label in labels:
        starts[label + 1] += 1
    for j in range(k):
        starts[j + 1] += starts[j]
    order, free = np.empty(len(labels), np.int32), starts.copy()
    for i in range(len(labels)):
        order[free[labels[i]]] = i
        free[labels[i]] += 1
    return order, starts


@compiled
def add_wide(
    rows: np.ndarray, weights: np.ndarray, order: np.ndarray, starts: np.ndarray, sums: np.ndarray, share: int, of: int
) -> None:
    """`add` for rows of many columns, as `by_center` has ordered them.

    Of the centers whose rows begin in the part number `share` of `of` of that order. Four rows at a time: a sum is
    read and written once for them, and memory is asked for all four at once.

    Args:
        weights: none, an empty array, are weights of 1.
    """
    weighted = len(weights) > 0
    for j in range(len(sums)):
        at, end, total = starts[j], starts[j + 1], sums[j]
        if at == end or at * of // len(order) != share:
            continue
        while at + 4 <= end:
            a, b, c, d = order[at], order[at + 1], order[at + 2], order[at + 3]
            one, two, three, four = rows[a], rows[b], rows[c], rows[d]
            if weighted:
                p, q, r, s = weights[a], weights[b], weights[c], weights[d]
                for f in range(len(total)):
                    total[f] += (p * one[f] + q * two[f]) + (r * three[f] + s * four[f])
            else:
                for f in range(len(total)):
                    total[f] += (np.float64(one[f]) + two[f]) + (np.float64(three[f]) + four[f])
            at += 4
        for i in order[at:end]:
            _add(total, weights[i] if weighted else 1.0, rows[i])


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
def spread_out(rows: np.ndarray, weights: np.ndarray, chances: np.ndarray, chosen: np.ndarray) -> int:
    """k-means++ over dense rows (n, d): fills chosen (k,) int64, and returns how many differ from each other.

    Args:
        chances: (k,), uniform in [0, 1).
    """
    n = len(weights)
    shares, squares, totals = weights.copy(), np.full(n, np.inf), np.empty(n)
    for number in range(len(chosen)):
        total = 0.0
        for i in range(n):
            total += shares[i]
            totals[i] = total
        if not total > 0.0:
            return number
        one = min(np.searchsorted(totals, chances[number] * total, side="right"), n - 1)
        while shares[one] == 0.0:  # where rounding went beyond the last
            one -= 1
        chosen[number] = one
        for i in range(n):
            square = 0.0
            for f in range(rows.shape[1]):
                apart = np.float64(rows[i, f]) - np.float64(rows[one, f])
                square += apart * apart
            squares[i] = min(squares[i], square)
            shares[i] = weights[i] * squares[i]
        shares[one] = squares[one] = 0.0
    return len(chosen)


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


@compiled
def span(points: np.ndarray) -> np.ndarray:
    """Coordinates, (n, n) float32, of points (n, d) in the space that they span: their distances are the same.

    Cholesky's factor of the products of the points, less their mean; a point within the span of those before it adds
    no direction.
    """
    n, d = points.shape
    moved, lower = np.empty((n, d), np.float32), np.zeros((n, n))
    for f in range(d):
        mean = 0.0
        for i in range(n):
            mean += points[i, f]
        for i in range(n):
            moved[i, f] = points[i, f] - mean / n
    for i in range(n):
        for j in range(i + 1):
            product = 0.0
            for f in range(d):
                product += np.float64(moved[i, f]) * np.float64(moved[j, f])
            left = product
            for f in range(j):
                left -= lower[i, f] * lower[j, f]
            if j == i:
                lower[i, i] = np.sqrt(left) if left > NO_DIRECTION * product else 0.0
            elif lower[j, j] > 0.0:
                lower[i, j] = left / lower[j, j]
    return lower.astype(np.float32)
