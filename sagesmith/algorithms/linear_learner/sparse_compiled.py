"""Sparse rows: products with the weights of all models, and steps batch after batch, without Python in between.

Rows are CSR: `values` and `keys` (entries,), and `starts` (n + 1,). Shift and scale go into the weights and the
gradient, so that what is 0 is never looked at.
"""

from __future__ import annotations

import numpy as np

from sagesmith.algorithms.lanes_compiled import LANES, load, spread, store
from sagesmith.algorithms.linear_learner.optimizers_compiled import Rules, State, step
from sagesmith.algorithms.linear_learner.passes_compiled import Task, slopes
from sagesmith.formats.compiled import compiled, inlined

PAIR = 2 * LANES


@compiled
def forward(
    values: np.ndarray, keys: np.ndarray, starts: np.ndarray, weights: np.ndarray, constant: np.ndarray, z: np.ndarray
) -> None:
    """z = constant + X weights, (n, k)."""
    width, begin = z.shape[1], constant.reshape(1, z.shape[1])
    single = width // PAIR * PAIR
    rest = width // LANES * LANES
    for i in range(z.shape[0]):
        for c in range(0, single, PAIR):
            left, right = load(begin, 0, c), load(begin, 0, c + LANES)
            for at in range(starts[i], starts[i + 1]):
                value, key = spread(values[at]), keys[at]
                left = left + value * load(weights, key, c)
                right = right + value * load(weights, key, c + LANES)
            store(z, i, c, left)
            store(z, i, c + LANES, right)
        for c in range(single, rest, LANES):
            left = load(begin, 0, c)
            for at in range(starts[i], starts[i + 1]):
                left = left + spread(values[at]) * load(weights, keys[at], c)
            store(z, i, c, left)
        for c in range(rest, width):
            total = constant[c]
            for at in range(starts[i], starts[i + 1]):
                total += values[at] * weights[keys[at], c]
            z[i, c] = total


@compiled
def backward(
    values: np.ndarray, keys: np.ndarray, starts: np.ndarray, slopes: np.ndarray, gradient: np.ndarray
) -> None:
    """gradient = X^T slopes, (d, k)."""
    gradient[:] = 0
    width = slopes.shape[1]
    rest = width // LANES * LANES
    for i in range(slopes.shape[0]):
        for c in range(0, rest, LANES):
            slope = load(slopes, i, c)
            for at in range(starts[i], starts[i + 1]):
                key = keys[at]
                store(gradient, key, c, load(gradient, key, c) + spread(values[at]) * slope)
        for c in range(rest, width):
            for at in range(starts[i], starts[i + 1]):
                gradient[keys[at], c] += values[at] * slopes[i, c]


@inlined
def _add(to: np.ndarray, value: np.float32, other: np.ndarray) -> None:
    for k in range(len(to)):
        to[k] += value * other[k]


@compiled
def occurring(keys: np.ndarray, places: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The columns among `keys`, (m,), and at[i]: where keys[i] is among them. `places` (d,) is -1, and is again after.

    The columns come in the order of their first entries.
    """
    columns = np.empty(len(keys), np.int64)
    count = 0
    for i in range(len(keys)):
        key = keys[i]
        if places[key] < 0:
            places[key] = count
            columns[count] = key
            count += 1
        at[i] = places[key]
    for i in range(count):
        places[columns[i]] = -1
    return columns[:count]


@inlined
def _shifted(weights: np.ndarray, offset: np.ndarray, constant: np.ndarray) -> None:
    """What a row of zeros gives: the bias, less the shifts of all columns times their weights."""
    constant[:] = weights[len(weights) - 1]
    for j in range(len(offset)):
        if offset[j] != 0:
            _add(constant, -offset[j], weights[j])


@inlined
def _whole(z: np.ndarray, offset: np.ndarray, gradient: np.ndarray) -> None:
    """Puts the bias' gradient into the last row, and takes the shifts' part off the others."""
    bias = gradient[len(gradient) - 1]
    bias[:] = 0
    for i in range(len(z)):
        _add(bias, np.float32(1), z[i])
    for j in range(len(offset)):
        if offset[j] != 0:
            _add(gradient[j], -offset[j], bias)


@compiled
def sparse_steps(
    task: Task, rules: Rules, state: State, lazy: bool, values: np.ndarray, keys: np.ndarray, starts: np.ndarray,
    y: np.ndarray, weight: np.ndarray, size: int, skipped: int, total: np.ndarray, summed: np.ndarray,
) -> int:  # fmt: skip
    """A step for every `size` rows; as `passes_compiled.steps` does it.

    `lazy`: only the weights of columns that occur in the batch are looked at and moved, and no weights are summed up.
    """
    weights, columns = state.weights, state.weights.shape[1]
    width = len(weights) - 1
    offset = np.zeros(0 if lazy else width, np.float32)
    for j in range(len(offset)):
        offset[j] = task.shift[j] * task.factor[j]
    places, moved = np.full(width if lazy else 0, -1, np.int64), np.arange(0 if lazy else width + 1)
    gradient = np.empty((0 if lazy else width + 1, columns), np.float32)
    z, constant = np.empty((size, columns), np.float32), np.empty(columns, np.float32)
    done = 0
    for first in range(0, len(y), size):
        last = min(first + size, len(y))
        whole = 0.0
        for i in range(first, last):
            whole += weight[i]
        if whole <= 0:
            continue
        begins, own = starts[first : last + 1] - starts[first], keys[starts[first] : starts[last]]
        scaled = values[starts[first] : starts[last]] * task.factor[own]
        out = z[: last - first]
        _shifted(weights, offset, constant)
        forward(scaled, own, begins, weights, constant, out)
        slopes(task, out, y[first:last], weight[first:last], total)
        if lazy:
            at = np.empty(len(own), np.int64)
            occur = occurring(own, places, at)
            moved = np.append(occur, width)
            gradient = np.empty((len(moved), columns), np.float32)
            backward(scaled, at, begins, out, gradient[:-1])
        else:
            backward(scaled, own, begins, out, gradient[:-1])
        _whole(out, offset, gradient)
        step(rules, state, moved, gradient, whole)
        done += 1
        if done > skipped and not lazy:
            for j in range(len(summed)):
                _add(summed[j], np.float32(1), weights[j])
    return 0 if lazy else max(0, done - skipped)
