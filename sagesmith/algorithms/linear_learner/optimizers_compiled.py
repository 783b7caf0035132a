"""One step of an optimizer over rows of a weight matrix, compiled; short loops over few arrays become vector code.

Where a row has sixteen columns they go through Adam's kind of step together, in registers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sagesmith.algorithms.lanes_compiled import load16, root, spread16, store
from sagesmith.algorithms.linear_learner.scaler import LANES
from sagesmith.formats.compiled import compiled, inlined

ZERO, ONE = np.float32(0), np.float32(1)
EPSILON = np.float32(1e-8)


class Rules(NamedTuple):
    """What makes a step of a gradient. Vectors are (models,) float64, but for `l1` and `wd`: (columns,) float32.

    `adaptive`: with `first`, `second` and `own`, the parts of old and new moments: Adam (`adam`, which corrects their
    beginning), RMSProp (`first` 0) and AdaGrad (`first` 0, `second` and `own` 1). Else sgd, whose momentum is `first`.
    """

    adaptive: bool
    adam: bool
    first: np.float32
    second: np.float32
    own: np.float32
    rate: np.ndarray
    factor: np.ndarray
    minimum: np.ndarray
    every: np.ndarray
    l1: np.ndarray
    wd: np.ndarray
    any_l1: bool
    bias_rate: np.float32
    bias_decay: np.float32


class State(NamedTuple):
    """What steps change: weights and moments, (d + 1, columns) float32 (sgd: `square` has no rows); `steps` (1,)."""

    weights: np.ndarray
    moment: np.ndarray
    square: np.ndarray
    steps: np.ndarray


@compiled
def decayed(rules: Rules, steps: int, rates: np.ndarray) -> None:
    """Puts the learning rates after so many steps into (models,) float64."""
    for model in range(len(rates)):
        rate = rules.rate[model]
        if rules.factor[model] < 1:
            reduced = rate * rules.factor[model] ** np.floor(steps / rules.every[model])
            rate = max(reduced, min(rules.minimum[model], rate))
        rates[model] = rate


@compiled
def step(rules: Rules, state: State, rows: np.ndarray, gradient: np.ndarray, total: float) -> None:
    """Moves the weights of `rows` by a gradient (len(rows), columns), a sum over rows of the weight `total`."""
    width, bias = state.weights.shape[1], state.weights.shape[0] - 1
    wide = width // LANES * LANES if rules.adaptive else 0
    rates, lengths, threshold = (
        np.empty((1, width), np.float32),
        np.empty((1, width), np.float32),
        np.empty_like(rules.wd),
    )
    rate, length, decays = rates[0], lengths[0], rules.wd.reshape(1, width)
    _lengths(rules, state.steps[0], rate)
    state.steps[0] += 1
    scale = np.float32(1 / total)
    for at in range(len(rows)):
        row = rows[at]
        mult, decay = ONE, ONE
        if row == bias:
            mult, decay = rules.bias_rate, rules.bias_decay
        for k in range(0, wide, LANES):
            _adaptive16(rules, state, gradient, decays, rates, lengths, scale, decay, mult, row, at, k)
        if wide < width:
            w, g, m, own = state.weights[row, wide:], gradient[at, wide:], state.moment[row, wide:], length[wide:]
            _whole(g, w, rules.wd[wide:], scale, decay)
            if rules.adaptive:
                _adaptive(rules, w, g, m, state.square[row, wide:], mult, rate[wide:], own)
            else:
                _descended(rules, w, g, m, mult, rate, own)
        if rules.any_l1 and row != bias:
            for k in range(width):
                threshold[k] = length[k] * rules.l1[k]
            _shrink(state.weights[row], threshold)


@inlined
def _lengths(rules: Rules, steps: int, out: np.ndarray) -> None:
    """The step sizes of every column: the learning rates, Adam's with the corrections of its moments."""
    models = len(rules.rate)
    rates, outputs = np.empty(models), len(out) // models
    decayed(rules, steps, rates)
    correction = 1.0
    if rules.adam:
        correction = np.sqrt(1 - float(rules.second) ** (steps + 1)) / (1 - float(rules.first) ** (steps + 1))
    for model in range(models):
        for output in range(outputs):
            out[model * outputs + output] = np.float32(rates[model] * correction)


@inlined
def _whole(g: np.ndarray, w: np.ndarray, wd: np.ndarray, scale: np.float32, decay: np.float32) -> None:
    """Sums over the batch to the mean, with weight decay."""
    for k in range(len(g)):
        g[k] = g[k] * scale + decay * wd[k] * w[k]


@inlined
def _adaptive16(
    rules: Rules, state: State, gradient: np.ndarray, decays: np.ndarray, rates: np.ndarray, lengths: np.ndarray,
    scale: np.float32, decay: np.float32, mult: np.float32, row: int, at: int, k: int,
) -> None:  # fmt: skip
    """`_whole` and `_adaptive` for sixteen columns of a row, from k on."""
    w = load16(state.weights, row, k)
    g = load16(gradient, at, k) * spread16(scale) + spread16(decay) * load16(decays, 0, k) * w
    m = spread16(rules.first) * load16(state.moment, row, k) + spread16(ONE - rules.first) * g
    v = spread16(rules.second) * load16(state.square, row, k) + spread16(rules.own) * g * g
    length = spread16(mult) / (root(v) + spread16(EPSILON)) * load16(rates, 0, k)
    store(state.moment, row, k, m)
    store(state.square, row, k, v)
    store(lengths, 0, k, length)
    store(state.weights, row, k, w - length * m)


@inlined
def _descended(
    rules: Rules, w: np.ndarray, g: np.ndarray, m: np.ndarray, mult: np.float32, rate: np.ndarray, length: np.ndarray
) -> None:
    """A step of sgd."""
    for k in range(len(w)):
        m[k] = rules.first * m[k] - mult * rate[k] * g[k]
    for k in range(len(w)):
        w[k] += m[k]
        length[k] = rate[k]


@inlined
def _adaptive(
    rules: Rules,
    w: np.ndarray,
    g: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    mult: np.float32,
    rate: np.ndarray,
    length: np.ndarray,
) -> None:
    width = len(w)
    for k in range(width):
        m[k] = rules.first * m[k] + (ONE - rules.first) * g[k]
    for k in range(width):
        v[k] = rules.second * v[k] + rules.own * g[k] * g[k]
    for k in range(width):
        length[k] = mult / (np.sqrt(v[k]) + EPSILON)
    for k in range(width):
        length[k] *= rate[k]
    for k in range(width):
        w[k] -= length[k] * m[k]


@inlined
def _shrink(w: np.ndarray, threshold: np.ndarray) -> None:
    """The proximal step of L1: `w` drawn towards 0 by `threshold`."""
    for k in range(len(w)):
        w[k] = max(w[k] - threshold[k], ZERO) + min(w[k] + threshold[k], ZERO)
