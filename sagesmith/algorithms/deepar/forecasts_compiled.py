"""Forecasts, compiled: the network read over the context once for each series, then unrolled for all sample paths.

Laid out as in cells_compiled.py: (features, columns). Zoneout's states are the expected ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sagesmith.algorithms.deepar.cells_compiled import FAST, ONE, activate, part, tanh
from sagesmith.algorithms.deepar.likelihoods import BETA, GAUSSIAN, NEGATIVE_BINOMIAL, SMALLEST, STUDENT_T
from sagesmith.algorithms.deepar.products_compiled import add_product
from sagesmith.algorithms.deepar.windows_compiled import MOST
from sagesmith.formats.compiled import compiled, inlined

LEAST = np.float32(SMALLEST)
LARGEST_MEAN = 1e9  # of a count, so that a Poisson number still fits its type


@inlined
def softplus(x: Any) -> Any:
    return max(x, np.float32(0.0)) + np.log1p(np.exp(-abs(x)))


@part
def advance(gate: Any, cell: Any, output: Any, rate: Any, begin: Any, end: Any) -> None:
    """One step of a layer; `gate` (4H, B) is complete but for its nonlinearities."""
    units, columns = cell.shape[0], end - begin
    rate = np.float32(rate)
    activate(gate, units, begin, end)
    for u in range(units):
        i, f = gate[u, begin:end], gate[units + u, begin:end]
        g, o = gate[2 * units + u, begin:end], gate[3 * units + u, begin:end]
        held, shown = cell[u, begin:end], output[u, begin:end]
        for b in range(columns):
            i[b] = f[b] * held[b] + i[b] * g[b]
        for b in range(columns):
            held[b] = rate * held[b] + (ONE - rate) * i[b]
        for b in range(columns):
            shown[b] = rate * shown[b] + (ONE - rate) * o[b] * tanh(i[b])


@part
def through(
    gate: Any,
    recurrent: Any,
    deeper: Any,
    biases: Any,
    cells: Any,
    outputs: Any,
    hidden: Any,
    rate: Any,
    begin: Any,
    end: Any,
) -> None:
    """One step of all layers: `gate` has the first one's inputs; `hidden` (H, B) becomes what the head sees."""
    add_product(recurrent[0], outputs[0], gate, begin, end)
    advance(gate, cells[0], outputs[0], rate, begin, end)
    hidden[:, begin:end] = outputs[0, :, begin:end]
    for layer in range(1, len(recurrent)):
        for j in range(len(gate)):
            gate[j, begin:end] = biases[layer, j]
        add_product(deeper[layer - 1], hidden, gate, begin, end)
        add_product(recurrent[layer], outputs[layer], gate, begin, end)
        advance(gate, cells[layer], outputs[layer], rate, begin, end)
        for u in range(len(hidden)):
            for b in range(begin, end):
                hidden[u, b] += outputs[layer, u, b]


def _encode(
    begin: Any,
    end: Any,
    inputs: Any,
    fixed: Any,
    first: Any,
    recurrent: Any,
    deeper: Any,
    biases: Any,
    rate: Any,
    cells: Any,
    outputs: Any,
    gate: Any,
    hidden: Any,
) -> None:
    """Reads inputs (T, D, B) into the states (layers, H, B); `fixed` (4H, B) goes into the first layer's gates."""
    for t in range(len(inputs)):
        gate[:, begin:end] = fixed[:, begin:end]
        add_product(first, inputs[t], gate, begin, end)
        through(gate, recurrent, deeper, biases, cells, outputs, hidden, rate, begin, end)


@part
def drawn(code: Any, theta: Any, column: Any, scale: Any) -> Any:
    """One scaled value from the likelihood with the parameters theta[:, column]."""
    location = theta[0, column]
    if code == GAUSSIAN:
        return location + (softplus(theta[1, column]) + LEAST) * np.float32(np.random.normal())
    if code == STUDENT_T:  # Bailey, Polar generation of random variates with the t-distribution, 1994
        freedom = 2.0 + softplus(theta[2, column])
        radius = np.sqrt(freedom * np.expm1(-2.0 / freedom * np.log(1.0 - np.random.random())))
        angle = np.cos(2.0 * np.pi * np.random.random())
        return location + (softplus(theta[1, column]) + LEAST) * np.float32(radius * angle)
    if code == NEGATIVE_BINOMIAL:
        mean = scale * softplus(location) + 1e-6
        size = np.sqrt(scale) / (softplus(theta[1, column]) + LEAST)
        rate = np.random.gamma(size, mean / size)
        return np.float32(np.random.poisson(min(rate, LARGEST_MEAN)) / scale)
    if code == BETA:
        a = np.random.gamma(softplus(location) + LEAST, 1.0)
        b = np.random.gamma(softplus(theta[1, column]) + LEAST, 1.0)
        return np.float32(a / (a + b)) if a + b > 0 else np.float32(0.5)
    return location


@part
def repeat(source: Any, series: Any, samples: Any, target: Any) -> None:
    """The columns of some series in (J, B), each `samples` times over, into (J, columns)."""
    for j in range(len(target)):
        for n, one in enumerate(series):
            target[j, n * samples : (n + 1) * samples] = source[j, one]


def _unroll(
    series: Any,
    samples: Any,
    seed: Any,
    base: Any,
    straight: Any,
    lags: Any,
    first: Any,
    recurrent: Any,
    deeper: Any,
    biases: Any,
    head: Any,
    shift: Any,
    linear: Any,
    rate: Any,
    code: Any,
    centres: Any,
    units: Any,
    states: Any,
    before: Any,
    result: Any,
) -> None:
    """Draws `samples` paths for the given numbers of series into result[series] (P, samples).

    base (P, 4H, B): the first layer's gates but for the lags that are drawn here; straight (P, B): the linear part but
    for those. states, before (layers, H, B): cells and outputs after the context.
    """
    np.random.seed(seed)
    horizon, rows = base.shape[0], base.shape[1]
    layers, size = states.shape[0], states.shape[1]
    used = len(series) * samples
    columns = (used + 15) // 16 * 16
    cells, outputs = np.zeros((layers, size, columns), np.float32), np.zeros((layers, size, columns), np.float32)
    gate, hidden = np.zeros((rows, columns), np.float32), np.zeros((size, columns), np.float32)
    theta = np.zeros((head.shape[1], columns), np.float32)
    path, recent = np.zeros((horizon, columns), np.float32), np.zeros((len(lags), columns), np.float32)
    for layer in range(layers):
        repeat(states[layer], series, samples, cells[layer])
        repeat(before[layer], series, samples, outputs[layer])
    for t in range(horizon):
        repeat(base[t], series, samples, gate)
        near = 0
        while near < len(lags) and lags[near] <= t:
            recent[near] = np.minimum(np.maximum(path[t - lags[near]], -MOST), MOST)
            near += 1
        add_product(first[:near], recent, gate, 0, columns)
        through(gate, recurrent, deeper, biases, cells, outputs, hidden, rate, 0, columns)
        for j in range(len(theta)):
            theta[j] = shift[j]
        add_product(head, hidden, theta, 0, columns)
        for n, one in enumerate(series):
            theta[0, n * samples : (n + 1) * samples] += straight[t, one]
        for k in range(near):
            for b in range(columns):
                theta[0, b] += linear[k] * recent[k, b]
        for n, one in enumerate(series):
            for k in range(samples):
                value = drawn(code, theta, n * samples + k, units[one])
                path[t, n * samples + k] = value
                result[one, t, k] = centres[one] + value * units[one]


encode = compiled(_encode, fastmath=FAST)
unroll = compiled(_unroll, fastmath=FAST)
