"""One step of an optimizer over rows of a weight matrix, compiled; short loops over few arrays become vector code."""

from __future__ import annotations

import numpy as np

from sagesmith.formats.compiled import compiled, inlined

ZERO, ONE = np.float32(0), np.float32(1)
EPSILON = np.float32(1e-8)


@inlined
def shrink(w: np.ndarray, threshold: np.ndarray) -> None:
    """The proximal step of L1: `w` drawn towards 0 by `threshold`."""
    for k in range(len(w)):
        w[k] = max(w[k] - threshold[k], ZERO) + min(w[k] + threshold[k], ZERO)


@inlined
def whole_gradient(g: np.ndarray, w: np.ndarray, wd: np.ndarray, scale: np.float32, decay: np.float32) -> None:
    """Sums over the batch to the mean, with weight decay."""
    for k in range(len(g)):
        g[k] = g[k] * scale + decay * wd[k] * w[k]


@compiled
def sgd(
    rows: np.ndarray,
    weights: np.ndarray,
    gradient: np.ndarray,
    moment: np.ndarray,
    momentum: np.float32,
    rate: np.ndarray,
    l1: np.ndarray,
    wd: np.ndarray,
    bias_rate: np.float32,
    bias_decay: np.float32,
    scale: np.float32,
    any_l1: bool,
) -> None:
    width, bias = weights.shape[1], weights.shape[0] - 1
    threshold = np.empty(width, np.float32)
    for at in range(len(rows)):
        row = rows[at]
        w, g, m = weights[row], gradient[at], moment[row]
        mult = bias_rate if row == bias else ONE
        whole_gradient(g, w, wd, scale, bias_decay if row == bias else ONE)
        for k in range(width):
            m[k] = momentum * m[k] - mult * rate[k] * g[k]
        for k in range(width):
            w[k] += m[k]
        if any_l1 and row != bias:
            for k in range(width):
                threshold[k] = rate[k] * l1[k]
            shrink(w, threshold)


@compiled
def adaptive(
    rows: np.ndarray,
    weights: np.ndarray,
    gradient: np.ndarray,
    moment: np.ndarray,
    square: np.ndarray,
    first: np.float32,
    second: np.float32,
    own: np.float32,
    rate: np.ndarray,
    l1: np.ndarray,
    wd: np.ndarray,
    bias_rate: np.float32,
    bias_decay: np.float32,
    scale: np.float32,
    any_l1: bool,
) -> None:
    """Adam, RMSProp (`first` 0) and AdaGrad (`first` 0, `second` and `own` 1); Adam's corrections are in `rate`."""
    width, bias = weights.shape[1], weights.shape[0] - 1
    length, threshold = np.empty(width, np.float32), np.empty(width, np.float32)
    for at in range(len(rows)):
        row = rows[at]
        w, g, m, v = weights[row], gradient[at], moment[row], square[row]
        mult = bias_rate if row == bias else ONE
        whole_gradient(g, w, wd, scale, bias_decay if row == bias else ONE)
        for k in range(width):
            m[k] = first * m[k] + (ONE - first) * g[k]
        for k in range(width):
            v[k] = second * v[k] + own * g[k] * g[k]
        for k in range(width):
            length[k] = mult / (np.sqrt(v[k]) + EPSILON)
        for k in range(width):
            length[k] *= rate[k]
        for k in range(width):
            w[k] -= length[k] * m[k]
        if any_l1 and row != bias:
            for k in range(width):
                threshold[k] = length[k] * l1[k]
            shrink(w, threshold)
