"""The parts of a training step that are no matrix products, in compiled code; each works on a range of rows or slots.

Every row of a result has one writer, and sums are in a fixed order: the number of threads changes nothing.
B rows in a batch, K addresses, d numbers in a vector, R random and S shuffled negatives per row.
"""

from __future__ import annotations

from math import exp, log1p, sqrt
from typing import TypeVar

import numpy as np

from sagesmith.formats.compiled import compiled, inlined

Function = TypeVar("Function")
BITS, BUCKETS = 11, 1 << 11  # of a pass of the radix sort


def fast(function: Function) -> Function:
    """Compiled, with sums that may be reordered within a row, so that they are vectorised."""
    return compiled(function, fastmath={"contract", "reassoc", "nsz"})  # type: ignore[type-var]


@compiled
def ordered(keys: np.ndarray, largest: int, order: np.ndarray, spare: np.ndarray) -> None:
    """A stable argsort of (n,) int32 keys in 0..largest into `order`; `spare` is another (n,) int32. Radix sort."""
    for k in range(len(keys)):
        order[k] = k
    shift = 0
    source, target = order, spare
    counts = np.zeros(BUCKETS, np.int64)
    while shift == 0 or largest >> shift:
        counts[:] = 0
        for k in range(len(keys)):
            counts[(keys[k] >> shift) & (BUCKETS - 1)] += 1
        total = 0
        for bucket in range(BUCKETS):
            total, counts[bucket] = total + counts[bucket], total
        for k in range(len(keys)):
            bucket = (keys[source[k]] >> shift) & (BUCKETS - 1)
            target[counts[bucket]] = source[k]
            counts[bucket] += 1
        source, target = target, source
        shift += BITS
    if (shift // BITS) % 2:
        order[:] = spare


@compiled
def sum_of_prefixes(begin: int, end: int, table: np.ndarray, slots: np.ndarray, out: np.ndarray) -> None:
    """out[k] = the sum of the rows slots[0..3, k] of the table, (K, d)."""
    for k in range(begin, end):
        a, b, c, e = table[slots[0, k]], table[slots[1, k]], table[slots[2, k]], table[slots[3, k]]
        row = out[k]
        for j in range(len(row)):
            row[j] = a[j] + b[j] + c[j] + e[j]


@compiled
def rectified(begin: int, end: int, rows: np.ndarray, out: np.ndarray) -> None:
    """out = max(rows, 0)."""
    for k in range(begin, end):
        row, target = rows[k], out[k]
        for j in range(len(row)):
            target[j] = max(row[j], np.float32(0))


@compiled
def add_layer(begin: int, end: int, rows: np.ndarray, bias: np.ndarray, out: np.ndarray) -> None:
    """out += rows + bias: the residual layer's end, `out` holding relu(rows) W."""
    for k in range(begin, end):
        row, target = rows[k], out[k]
        for j in range(len(row)):
            target[j] += row[j] + bias[j]


@compiled
def add_rectified(begin: int, end: int, back: np.ndarray, rows: np.ndarray, gradient: np.ndarray) -> None:
    """gradient += back where rows > 0: the way back through the rectifier, beside the residual way."""
    for k in range(begin, end):
        source, row, target = back[k], rows[k], gradient[k]
        for j in range(len(row)):
            target[j] += source[j] if row[j] > 0 else np.float32(0)


@inlined
def _judged(score: np.float32, real: bool) -> tuple[float, float]:
    """Cross-entropy of a score as log-odds, and its derivative."""
    size = exp(-abs(float(score)))
    probability = 1 / (1 + size) if score >= 0 else size / (1 + size)
    wrong = float(-score if real else score)
    return max(wrong, 0.0) + log1p(size), probability - (1.0 if real else 0.0)


@fast
def real_and_shuffled(
    begin: int,
    end: int,
    entities: np.ndarray,
    slots: np.ndarray,
    vectors: np.ndarray,
    shifts: np.ndarray,
    scale: np.float32,
    slopes: np.ndarray,
    losses: np.ndarray,
    right: np.ndarray,
    back: np.ndarray,
) -> None:
    """Scores rows against their own address and those `shifts` rows further on, around the batch's end.

    Sets slopes[i] = dLoss/dScore (B, 1 + S), losses and right (B,), and back[i] = dLoss/d(entity of row i) (B, d).
    """
    rows, width = len(slots), vectors.shape[1]
    for i in range(begin, end):
        entity, target = entities[slots[i]], back[i]
        target[:] = 0
        losses[i], right[i] = 0.0, 0
        for s in range(len(shifts) + 1):
            at = i if s == 0 else i + shifts[s - 1]
            vector = vectors[at - rows if at >= rows else at]
            score = np.float32(0)
            for j in range(width):
                score += entity[j] * vector[j]
            loss, slope = _judged(score, s == 0)
            losses[i] += loss
            right[i] += (score > 0) == (s == 0)
            slopes[i, s] = scale * np.float32(slope)
            for j in range(width):
                target[j] += slopes[i, s] * vector[j]


@fast
def random_negatives(
    begin: int,
    end: int,
    entities: np.ndarray,
    slots: np.ndarray,
    vectors: np.ndarray,
    scale: np.float32,
    losses: np.ndarray,
    right: np.ndarray,
    back: np.ndarray,
    gradient: np.ndarray,
) -> None:
    """Scores rows against random addresses, row i against vectors i, B + i, 2B + i, …; adds to losses, right and back.

    Sets gradient = dLoss/d(vectors).
    """
    rows, width = len(slots), vectors.shape[1]
    for i in range(begin, end):
        entity, target = entities[slots[i]], back[i]
        for at in range(i, len(vectors), rows):
            vector, out = vectors[at], gradient[at]
            score = np.float32(0)
            for j in range(width):
                score += entity[j] * vector[j]
            loss, slope = _judged(score, False)
            losses[i] += loss
            right[i] += score <= 0
            weight = scale * np.float32(slope)
            for j in range(width):
                out[j] = weight * entity[j]
                target[j] += weight * vector[j]


@compiled
def back_to_addresses(
    begin: int,
    end: int,
    entities: np.ndarray,
    slots: np.ndarray,
    shifts: np.ndarray,
    slopes: np.ndarray,
    gradient: np.ndarray,
) -> None:
    """gradient[i] = dLoss/d(vector of row i's own address), from row i and from those that it was a negative of."""
    rows, width = len(slots), gradient.shape[1]
    for i in range(begin, end):
        target = gradient[i]
        target[:] = 0
        for s in range(len(shifts) + 1):
            at = i if s == 0 else i - shifts[s - 1]
            at = at + rows if at < 0 else at
            entity, slope = entities[slots[at]], slopes[at, s]
            for j in range(width):
                target[j] += slope * entity[j]


@compiled
def starts_of(keys: np.ndarray, order: np.ndarray, starts: np.ndarray) -> int:
    """Where each run of equal keys begins in their order; returns the number of runs, starts[runs] = n."""
    runs = 0
    for k in range(len(order)):
        if k == 0 or keys[order[k]] != keys[order[k - 1]]:
            starts[runs] = k
            runs += 1
    starts[runs] = len(order)
    return runs


@compiled
def add_up(
    begin: int,
    end: int,
    keys: np.ndarray,
    order: np.ndarray,
    starts: np.ndarray,
    gradient: np.ndarray,
    sums: np.ndarray,
) -> None:
    """sums[key] += the gradients of all elements of that key, run by run."""
    rows, width = gradient.shape
    for run in range(begin, end):
        target = sums[keys[order[starts[run]]]]
        for k in range(starts[run], starts[run + 1]):
            source = gradient[order[k] % rows]
            for j in range(width):
                target[j] += source[j]


@compiled
def adam(
    begin: int,
    end: int,
    keys: np.ndarray,
    order: np.ndarray,
    starts: np.ndarray,
    gradient: np.ndarray,
    table: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    rate: float,
    correction: float,
    decay: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
) -> None:
    """One lazy step of Adam for the rows of a table that a batch has touched, run by run of equal keys.

    Element k adds gradient[k mod len(gradient)]. Kingma and Ba, Adam, 2015, section 2: `rate` is alpha over
    1 - beta_1^t, `correction` is 1 over 1 - beta_2^t; `decay` times the row is added to its gradient (L2).
    """
    rows, width = gradient.shape
    total = np.empty(width, np.float32)
    one, two = np.float32(beta_1), np.float32(beta_2)
    rest_1, rest_2 = np.float32(1 - beta_1), np.float32(1 - beta_2)
    small, pull, pace, scale = np.float32(epsilon), np.float32(decay), np.float32(rate), np.float32(correction)
    for run in range(begin, end):
        key = keys[order[starts[run]]]
        row, m, v = table[key], first[key], second[key]
        for j in range(width):
            total[j] = pull * row[j]
        for k in range(starts[run], starts[run + 1]):
            source = gradient[order[k] % rows]
            for j in range(width):
                total[j] += source[j]
        for j in range(width):
            m[j] = one * m[j] + rest_1 * total[j]
            v[j] = two * v[j] + rest_2 * total[j] * total[j]
            row[j] -= pace * m[j] / (sqrt(v[j] * scale) + small)
