"""Dense rows, a tile at a time: outputs, losses, gradients, and steps batch after batch, without Python in between.

A tile's rows and outputs lie in the first cache.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sagesmith.algorithms.linear_learner.losses_compiled import hinge, logistic, regression, softmax
from sagesmith.algorithms.linear_learner.optimizers_compiled import Rules, State, step
from sagesmith.algorithms.linear_learner.products_compiled import add_gradient, high, multiply, scaled, wide, widened
from sagesmith.formats.compiled import compiled, inlined

HINGE, LOGISTIC, SOFTMAX = 7, 6, 8  # codes of losses


class Task(NamedTuple):
    """`code`, `parameter` of the loss, the scaler's `shift`, `factor`, (d,), `frame`, and `up`, ones in the padding."""

    code: int
    parameter: np.float32
    shift: np.ndarray
    factor: np.ndarray
    frame: np.ndarray
    up: np.ndarray


@compiled
def slopes(task: Task, z: np.ndarray, y: np.ndarray, weight: np.ndarray, total: np.ndarray) -> None:
    """The gradient in place of the outputs, losses added to `total`."""
    if task.code == LOGISTIC:
        logistic(z, y, weight, task.up, total)
    elif task.code == HINGE:
        hinge(task.parameter, z, y, weight, task.up, total)
    elif task.code == SOFTMAX:
        softmax(z, y, weight, total)
    else:
        regression(task.code, task.parameter, z, y, weight, total)


@compiled
def through(
    task: Task, features: np.ndarray, y: np.ndarray, weight: np.ndarray, table: np.ndarray, near: np.ndarray,
    z: np.ndarray, thin: np.ndarray, total: np.ndarray, following: np.ndarray,
) -> None:  # fmt: skip
    """A tile: rows scaled into `near`, the gradient of their outputs into `z`, losses added to `total`, see `room`.

    `table`: weights (d + 1, wide). Further columns of `z` count as models whose weights are 0; but for those of
    softmax, whose outputs go through `thin`, (tile, columns). The rows `following` are asked for from memory.
    """
    count, columns = len(features), thin.shape[1]
    scaled(features, task.frame, near)
    multiply(near, table, count, z, following)
    if task.code != SOFTMAX or columns == z.shape[1]:
        slopes(task, z[:count], y, weight, total)
        return
    thin[:count] = z[:count, :columns]
    slopes(task, thin[:count], y, weight, total)
    z[:count, :columns] = thin[:count]


@inlined
def room(task: Task, models: int, columns: int) -> np.ndarray:
    """Zeros for the losses of all models, those of further columns with them."""
    return np.zeros(models if task.code == SOFTMAX else wide(columns))


@compiled
def losses(
    task: Task, features: np.ndarray, y: np.ndarray, weight: np.ndarray, weights: np.ndarray, tile: int,
    total: np.ndarray,
) -> None:  # fmt: skip
    """Adds the losses of rows (n, d), `tile` at a time, to `total`, (models,)."""
    table, lost = widened(weights), room(task, len(total), weights.shape[1])
    near, z = (
        np.zeros((high(tile), task.frame.shape[1]), np.float32),
        np.empty((high(tile), table.shape[1]), np.float32),
    )
    thin = np.empty((tile, weights.shape[1]), np.float32)
    for first in range(0, len(features), tile):
        last = min(first + tile, len(features))
        part, after = slice(first, last), features[last:]
        through(task, features[part], y[part], weight[part], table, near, z, thin, lost, after)
    total += lost[: len(total)]


@compiled
def fused(
    task: Task, features: np.ndarray, y: np.ndarray, weight: np.ndarray, weights: np.ndarray, tile: int,
    total: np.ndarray, gradient: np.ndarray,
) -> None:  # fmt: skip
    """The same, with the gradient summed over the rows put into (d + 1, columns)."""
    terms, columns = weights.shape
    table, lost = widened(weights), room(task, len(total), columns)
    near, z = (
        np.zeros((high(tile), task.frame.shape[1]), np.float32),
        np.empty((high(tile), table.shape[1]), np.float32),
    )
    thin, summed = np.empty((tile, columns), np.float32), np.zeros((high(terms), table.shape[1]), np.float32)
    for first in range(0, len(features), tile):
        last = min(first + tile, len(features))
        part, after = slice(first, last), features[last:]
        through(task, features[part], y[part], weight[part], table, near, z, thin, lost, after)
        add_gradient(near, z, last - first, summed)
    gradient[:] = summed[:terms, :columns]
    total += lost[: len(total)]


@compiled
def steps(
    task: Task, rules: Rules, state: State, features: np.ndarray, y: np.ndarray, weight: np.ndarray, size: int,
    tile: int, skipped: int, total: np.ndarray, summed: np.ndarray,
) -> int:  # fmt: skip
    """A step for every `size` rows. From the one after `skipped` on, weights are added to `summed`; returns how many.

    Rows whose weights are all 0 make no step.
    """
    gradient, everything = np.empty(state.weights.shape, np.float32), np.arange(len(state.weights))
    done = 0
    for first in range(0, len(features), size):
        last = min(first + size, len(features))
        whole = 0.0
        for i in range(first, last):
            whole += weight[i]
        if whole <= 0:
            continue
        fused(task, features[first:last], y[first:last], weight[first:last], state.weights, tile, total, gradient)
        step(rules, state, everything, gradient, whole)
        done += 1
        if done > skipped:
            for j in range(summed.shape[0]):
                for k in range(summed.shape[1]):
                    summed[j, k] += state.weights[j, k]
    return max(0, done - skipped)
