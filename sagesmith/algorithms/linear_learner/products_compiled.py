"""Dense rows scaled, and their products with the weights of all models, in registers. Compiled.

A BLAS reaches a third of the processor's speed on 128 x 51 x 16. Here eight rows (or columns) at a time are multiplied
with sixteen models, and their sums are registers. Tables are as wide as that asks for: see `wide` and `high`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sagesmith.algorithms.lanes_compiled import fma, load16, nothing16, spread16, store
from sagesmith.algorithms.linear_learner.lanes_compiled import ask, load_part
from sagesmith.algorithms.linear_learner.scaler import LANES
from sagesmith.formats.compiled import compiled, inlined

ROWS = 8


@inlined
def wide(columns: int) -> int:
    """The least multiple of LANES that is no less."""
    return (columns + LANES - 1) // LANES * LANES


@inlined
def high(rows: int) -> int:
    """The least multiple of ROWS that is no less."""
    return (rows + ROWS - 1) // ROWS * ROWS


@compiled
def scaled(features: Any, frame: Any, out: Any) -> None:
    """Dense rows, scaled, with a column of ones for the bias and then of zeros: (n, d) to (at least n, wide(d + 1)).

    `frame`: see Scaler.frame.
    """
    width = features.shape[1]
    for j in range(0, out.shape[1], LANES):
        shift, factor, added = load16(frame, 0, j), load16(frame, 1, j), load16(frame, 2, j)
        if j + LANES <= width:
            for i in range(len(features)):
                store(out, i, j, fma(load16(features, i, j) - shift, factor, added))
        else:
            for i in range(len(features)):
                store(out, i, j, fma(load_part(features, i, j) - shift, factor, added))


@compiled
def widened(table: np.ndarray) -> np.ndarray:
    """A table with columns of 0 up to a multiple of LANES; itself where it has them."""
    rows, columns = table.shape
    if columns % LANES == 0:
        return table
    found = np.zeros((rows, wide(columns)), np.float32)
    found[:, :columns] = table
    return found


@compiled
def multiply(x: Any, weights: Any, count: Any, z: Any, following: Any) -> None:
    """z[i, k] = Σ_j x[i, j] weights[j, k] for the first high(count) rows; `weights` (d, wide) may be thinner than x.

    Rows that `following` begins with are asked for meanwhile.
    """
    terms = weights.shape[0]
    for k in range(0, weights.shape[1], LANES):
        for i in range(0, count, ROWS):
            x0, x1, x2, x3 = x[i], x[i + 1], x[i + 2], x[i + 3]
            x4, x5, x6, x7 = x[i + 4], x[i + 5], x[i + 6], x[i + 7]
            s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = nothing16()
            for j in range(terms):
                w = load16(weights, j, k)
                s0, s1 = fma(spread16(x0[j]), w, s0), fma(spread16(x1[j]), w, s1)
                s2, s3 = fma(spread16(x2[j]), w, s2), fma(spread16(x3[j]), w, s3)
                s4, s5 = fma(spread16(x4[j]), w, s4), fma(spread16(x5[j]), w, s5)
                s6, s7 = fma(spread16(x6[j]), w, s6), fma(spread16(x7[j]), w, s7)
            if k == 0:
                for row in range(i, min(i + ROWS, len(following))):
                    ask(following, row)
            _put(z, i, k, s0, s1, s2, s3, s4, s5, s6, s7)


@compiled
def add_gradient(x: Any, slopes: Any, count: Any, gradient: Any) -> None:
    """gradient[j, k] += Σ_i x[i, j] slopes[i, k] for the first `count` rows.

    The gradient has high(d) rows, and x no fewer columns.
    """
    for k in range(0, gradient.shape[1], LANES):
        for j in range(0, gradient.shape[0], ROWS):
            g0, g1, g2, g3 = (load16(gradient, j, k), load16(gradient, j + 1, k), load16(gradient, j + 2, k),
                              load16(gradient, j + 3, k))  # fmt: skip
            g4, g5, g6, g7 = (load16(gradient, j + 4, k), load16(gradient, j + 5, k), load16(gradient, j + 6, k),
                              load16(gradient, j + 7, k))  # fmt: skip
            for i in range(count):
                s, row = load16(slopes, i, k), x[i, j : j + ROWS]
                g0, g1 = fma(spread16(row[0]), s, g0), fma(spread16(row[1]), s, g1)
                g2, g3 = fma(spread16(row[2]), s, g2), fma(spread16(row[3]), s, g3)
                g4, g5 = fma(spread16(row[4]), s, g4), fma(spread16(row[5]), s, g5)
                g6, g7 = fma(spread16(row[6]), s, g6), fma(spread16(row[7]), s, g7)
            _put(gradient, j, k, g0, g1, g2, g3, g4, g5, g6, g7)


@inlined
def _put(table: Any, i: Any, k: Any, v0: Any, v1: Any, v2: Any, v3: Any, v4: Any, v5: Any, v6: Any, v7: Any) -> None:
    """Eight rows of sixteen."""
    store(table, i, k, v0)
    store(table, i + 1, k, v1)
    store(table, i + 2, k, v2)
    store(table, i + 3, k, v3)
    store(table, i + 4, k, v4)
    store(table, i + 5, k, v5)
    store(table, i + 6, k, v6)
    store(table, i + 7, k, v7)


@compiled
def outputs(features: np.ndarray, frame: np.ndarray, weights: np.ndarray, tile: int, z: np.ndarray) -> None:
    """Scaled dense rows times weights, `tile` rows at a time, (n, d) to (n, k)."""
    table, columns = widened(weights), weights.shape[1]
    near = np.zeros((high(tile), frame.shape[1]), np.float32)
    far = np.empty((high(tile), table.shape[1]), np.float32)
    for first in range(0, len(features), tile):
        count = min(tile, len(features) - first)
        scaled(features[first : first + count], frame, near)
        multiply(near, table, count, far, features[first + count :])
        z[first : first + count] = far[:count, :columns]
