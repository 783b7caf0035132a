"""Dense rows, a tile at a time: outputs, losses, gradients, and steps batch after batch, without Python in between.

A tile's rows and outputs lie in the first cache. The products are BLAS's; small ones run in the calling thread, so that
blocks of models train side by side.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sagesmith.algorithms.linear_learner.losses_compiled import hinge, logistic, regression, softmax
from sagesmith.algorithms.linear_learner.optimizers_compiled import Rules, State, step
from sagesmith.algorithms.linear_learner.products_compiled import scaled
from sagesmith.formats.compiled import compiled

HINGE, LOGISTIC, SOFTMAX = 7, 6, 8  # codes of losses


class Task(NamedTuple):
    """`code` and `parameter` of the loss, `shift` and `factor` of the scaler, (d,), and `up`: see losses.gradient."""

    code: int
    parameter: np.float32
    shift: np.ndarray
    factor: np.ndarray
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
def losses(
    task: Task, features: np.ndarray, y: np.ndarray, weight: np.ndarray, weights: np.ndarray, tile: int,
    total: np.ndarray,
) -> None:  # fmt: skip
    """Adds the losses of rows (n, d), `tile` at a time, to `total`, (models,)."""
    near, z = np.empty((tile, len(weights)), np.float32), np.empty((tile, weights.shape[1]), np.float32)
    for first in range(0, len(features), tile):
        last = min(first + tile, len(features))
        x, out = near[: last - first], z[: last - first]
        scaled(features[first:last], task.shift, task.factor, x)
        np.dot(x, weights, out)
        slopes(task, out, y[first:last], weight[first:last], total)


@compiled
def fused(
    task: Task, features: np.ndarray, y: np.ndarray, weight: np.ndarray, weights: np.ndarray, tile: int,
    total: np.ndarray, gradient: np.ndarray,
) -> None:  # fmt: skip
    """The same, with the gradient summed over the rows put into (d + 1, columns)."""
    columns = weights.shape[1]
    near, z = np.empty((tile, len(weights)), np.float32), np.empty((tile, columns), np.float32)
    part = np.empty((len(weights), columns), np.float32)
    gradient[:] = 0
    for first in range(0, len(features), tile):
        last = min(first + tile, len(features))
        x, out = near[: last - first], z[: last - first]
        scaled(features[first:last], task.shift, task.factor, x)
        np.dot(x, weights, out)
        slopes(task, out, y[first:last], weight[first:last], total)
        np.dot(x.T, out, part)
        for j in range(len(weights)):
            to, add = gradient[j], part[j]
            for k in range(columns):
                to[k] += add[k]


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
            for j in range(len(summed)):
                to, add = summed[j], state.weights[j]
                for k in range(len(to)):
                    to[k] += add[k]
    return max(0, done - skipped)
