"""LSTM layers with zoneout, forwards through time and back, compiled: a step at a time for a range of columns.

Everything is laid out (time, features, columns), where a column is a window or a sample path, so that every loop runs
over neighbouring columns and becomes vector code, whatever the number of cells. At 40 cells a framework spends more
time on starting its operations than on the numbers. A thread has columns of its own and needs no other.

Gates are in PyTorch's order: input, forget, cell, output. Papers: Hochreiter and Schmidhuber, Long Short-Term Memory,
1997; Krueger et al., Zoneout, 2017: each cell and each output stays what it was with probability `rate`; where nothing
is drawn, the expected state is taken.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from sagesmith.algorithms.deepar.products_compiled import add_outer, add_product
from sagesmith.formats.compiled import compiled, inlined

FAST = {"contract", "reassoc", "nsz", "arcp"}
GOLDEN, MIX_1, MIX_2 = np.uint32(0x9E3779B1), np.uint32(0x85EBCA6B), np.uint32(0xC2B2AE35)
f32 = np.float32

# tanh x = x P(x²) / Q(x²) for |x| <= 9, fitted by least squares that were weighted anew until the errors were even:
# off by less than 4e-7.
LIMIT = f32(9.0)
P = tuple(
    f32(x)
    for x in (0.9999999916543435, 0.1307543023498024, 0.0030943647533043382, 1.105372137147785e-05,
              -1.9815428212821078e-08, 5.079732167069017e-11, -7.977827989549564e-14)
)  # fmt: skip
Q = tuple(f32(x) for x in (1.0, 0.4640875582602352, 0.024457004359716702, 0.00025321631596165393))
P0, P1, P2, P3, P4, P5, P6 = P
Q0, Q1, Q2, Q3 = Q
LOW, HIGH = np.uint32(0xFFFF), np.uint32(16)
HALF, ONE, ZERO = f32(0.5), f32(1.0), f32(0.0)
fast, part = partial(inlined, fastmath=FAST), partial(compiled, fastmath=FAST)


@fast
def tanh(x: Any) -> Any:
    x = min(max(x, -LIMIT), LIMIT)
    s = x * x
    p = P0 + s * (P1 + s * (P2 + s * (P3 + s * (P4 + s * (P5 + s * P6)))))
    return x * p / (Q0 + s * (Q1 + s * (Q2 + s * Q3)))


@fast
def sigmoid(x: Any) -> Any:
    return HALF + HALF * tanh(HALF * x)


@inlined
def draw(line: Any, column: Any) -> Any:
    """32 random bits for a place: the same forwards and backwards, so that masks are never stored."""
    x = np.uint32(np.uint32(line) + np.uint32(np.uint32(column) * MIX_2))  # numba would go on in 64 bits
    x = np.uint32(np.uint32(x ^ np.uint32(x >> np.uint32(16))) * MIX_1)
    x = np.uint32(np.uint32(x ^ np.uint32(x >> np.uint32(13))) * MIX_2)
    return np.uint32(x ^ np.uint32(x >> np.uint32(16)))


@inlined
def bar_of(rate: Any) -> Any:
    """What sixteen random bits must be below for something to happen with this probability."""
    return np.uint32(min(65535.0, rate * 65536.0))


@inlined
def line_of(seed: Any, time: Any, unit: Any, begin: Any) -> Any:
    place = np.uint32(np.uint32(np.uint32(unit) * MIX_1) + np.uint32(np.uint32(begin) * MIX_2))
    return np.uint32(np.uint32(seed) + np.uint32(np.uint32(np.uint32(time) * GOLDEN) + place))


@part
def activate(gate: Any, units: Any, begin: Any, end: Any) -> None:
    """Nonlinearities in place."""
    for r in range(4 * units):
        row = gate[r, begin:end]
        if 2 * units <= r < 3 * units:
            for b in range(len(row)):
                row[b] = tanh(row[b])
        else:
            for b in range(len(row)):
                row[b] = sigmoid(row[b])


def _forward(
    begin: Any,
    end: Any,
    inputs: Any,
    fixed: Any,
    weights: Any,
    recurrent: Any,
    gates: Any,
    cells: Any,
    outputs: Any,
    squashed: Any,
    rate: Any,
    seed: Any,
) -> None:
    """A layer's outputs (T + 1, H, B) from inputs (T, D, B) and what is added to the gates of each step, fixed (4H, B).

    weights (D, 4H), recurrent (H, 4H). `cells` and `outputs` (T + 1, H, B) begin with the states before. `gates`
    (T, 4H, B) become what the gates are; `squashed` (T, H, B) is tanh of the fresh cells.
    A range is a multiple of 16 columns. Loops are short of arrays, and begin at 0, on purpose: LLVM makes no vector
    code of others.
    """
    steps, units = squashed.shape[0], squashed.shape[1]
    bar, columns = bar_of(rate), end - begin
    for t in range(steps):
        gate = gates[t]
        gate[:, begin:end] = fixed[:, begin:end]
        add_product(weights, inputs[t], gate, begin, end)
        add_product(recurrent, outputs[t], gate, begin, end)
        activate(gate, units, begin, end)
        for u in range(units):
            line = line_of(seed, t, u, begin)
            i, f = gate[u, begin:end], gate[units + u, begin:end]
            g, o = gate[2 * units + u, begin:end], gate[3 * units + u, begin:end]
            cell, after, fresh = cells[t, u, begin:end], cells[t + 1, u, begin:end], squashed[t, u, begin:end]
            output, shown = outputs[t, u, begin:end], outputs[t + 1, u, begin:end]
            for b in range(columns):
                fresh[b] = f[b] * cell[b] + i[b] * g[b]
            for b in range(columns):
                after[b] = cell[b] if np.uint32(draw(line, b) & LOW) < bar else fresh[b]
            for b in range(columns):
                fresh[b] = tanh(fresh[b])
            for b in range(columns):
                shown[b] = output[b] if np.uint32(draw(line, b) >> HIGH) < bar else o[b] * fresh[b]


@part
def add_rows(source: Any, target: Any, begin: Any, end: Any) -> None:
    """target += source, (J, B) both, for a range of columns."""
    for j in range(len(target)):
        total, row = target[j, begin:end], source[j, begin:end]
        for b in range(len(row)):
            total[b] += row[b]


def _backward(
    begin: Any,
    end: Any,
    inputs: Any,
    weights_t: Any,
    recurrent_t: Any,
    gates: Any,
    cells: Any,
    outputs: Any,
    squashed: Any,
    back: Any,
    rate: Any,
    seed: Any,
    of_inputs: Any,
    of_fixed: Any,
    of_weights: Any,
    of_recurrent: Any,
) -> None:
    """The slopes of everything, from those of the outputs, `back` (T, H, B). `gates` are used up.

    Added to of_fixed (4H, B), of_inputs (T, D, B; with no step: not wanted), of_weights (D, 4H) and of_recurrent
    (H, 4H), the last two for the columns of this range: each thread has arrays of its own.
    """
    steps, units = squashed.shape[0], squashed.shape[1]
    bar, columns = bar_of(rate), end - begin
    fresh, candidate = np.empty(columns, np.float32), np.empty(columns, np.float32)
    carry, slope = np.zeros(cells.shape[1:], np.float32), np.zeros(cells.shape[1:], np.float32)
    for t in range(steps - 1, -1, -1):
        gate = gates[t]
        for u in range(units):
            line = line_of(seed, t, u, begin)
            i, f = gate[u, begin:end], gate[units + u, begin:end]
            g, o = gate[2 * units + u, begin:end], gate[3 * units + u, begin:end]
            cell, s, above = cells[t, u, begin:end], squashed[t, u, begin:end], back[t, u, begin:end]
            held, kept = carry[u, begin:end], slope[u, begin:end]
            for b in range(columns):
                whole = above[b] + kept[b]
                keeps = np.uint32(draw(line, b) >> HIGH) < bar
                kept[b] = whole if keeps else ZERO
                fresh[b] = ZERO if keeps else whole
            for b in range(columns):
                held_on = held[b] if np.uint32(draw(line, b) & LOW) < bar else ZERO
                candidate[b] = held[b] - held_on + fresh[b] * o[b] * (ONE - s[b] * s[b])
                held[b] = held_on
            for b in range(columns):
                held[b] += candidate[b] * f[b]
            for b in range(columns):
                o[b] = fresh[b] * s[b] * o[b] * (ONE - o[b])
            for b in range(columns):
                f[b] = candidate[b] * cell[b] * f[b] * (ONE - f[b])
            for b in range(columns):
                di = candidate[b] * g[b] * i[b] * (ONE - i[b])
                g[b] = candidate[b] * i[b] * (ONE - g[b] * g[b])
                i[b] = di
        add_product(recurrent_t, gate, slope, begin, end)
        if len(of_inputs):
            add_product(weights_t, gate, of_inputs[t], begin, end)
        add_rows(gate, of_fixed, begin, end)
    add_outer(inputs, gates, of_weights, begin, end)
    add_outer(outputs[:-1], gates, of_recurrent, begin, end)


forward = compiled(_forward, fastmath=FAST)
backward = compiled(_backward, fastmath=FAST)
