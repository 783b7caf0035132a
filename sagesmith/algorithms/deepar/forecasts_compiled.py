"""Forecasts, compiled: the network read over the context once for each series, then unrolled for all sample paths.

Laid out (features, columns), a block of columns at a time: steps_compiled.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from sagesmith.algorithms import lanes as words
from sagesmith.algorithms.deepar.draws_compiled import begin_draws, draw
from sagesmith.algorithms.deepar.products_compiled import WIDTH
from sagesmith.algorithms.deepar.steps_compiled import GATES, add_up, columns, through, width_of
from sagesmith.algorithms.deepar.windows_compiled import MOST
from sagesmith.algorithms.lanes import I32
from sagesmith.algorithms.lanes_compiled import spread16, store
from sagesmith.formats.compiled import compiled, inlined


def _encode(
    begin: Any,
    end: Any,
    inputs: Any,
    fixed: Any,
    tables: Any,
    biases: Any,
    rate: Any,
    cells: Any,
    said: Any,
) -> None:
    """Reads inputs (T, D, B): what the layers then hold, cells (layers, H, B), and say, said (layers + 1, H, B).

    The last of `said` is what the head sees. fixed (4H, B) is added to the first layer's gates. For a range of columns,
    a multiple of 16.
    """
    layers, units = cells.shape[:2]
    steps, wide = inputs.shape[:2]
    at = begin
    while at < end:
        width = width_of(end - at)
        last = at + width
        sources = np.zeros((layers + 1, tables.shape[2] // GATES, width), np.float32)
        begun = started(biases, width)
        columns(fixed, at, begun[0])
        held, fresh, sums = rooms(layers, units, width)
        for t in range(steps):
            columns(inputs[t], at, sources[0, units : units + wide])
            through(tables, sources, units + wide, begun, held, fresh, sums, rate)
        for layer in range(layers + 1):
            for u in range(units):
                for b in range(width):
                    said[layer, u, at + b] = sources[layer, u, b]
                    if layer < layers:
                        cells[layer, u, at + b] = held[layer, u, b]
        at = last


@inlined
def started(biases: Any, width: Any) -> Any:
    """What is added to the gates, (layers, 4H, W): the biases (layers, 4H); for the first layer, nothing as yet."""
    layers, rows = biases.shape
    begun = np.empty((layers, rows, width), np.float32)
    for layer in range(1, layers):
        for j in range(rows):
            for b in range(width):
                begun[layer, j, b] = biases[layer, j]
    return begun


@inlined
def rooms(layers: Any, units: Any, width: Any) -> Any:
    """Cells, what a layer says, and sums of gates."""
    cells = np.zeros((layers, units, width), np.float32)
    return cells, np.zeros((units, width), np.float32), np.zeros((GATES, width), np.float32)


@intrinsic  # type: ignore[untyped-decorator]
def parted(_typing: Any, count: Any, one: Any, two: Any) -> Any:
    """The lanes of `one` below `count`, then those of `two`."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        count, one, two = arguments
        kind = ir.VectorType(I32, one.type.count)
        places = ir.Constant(kind, list(range(kind.count)))
        below = builder.icmp_signed("<", places, words.spread(builder, builder.trunc(count, I32), kind))
        return builder.select(below, one, two)

    return one(types.intp, one, one), emit


@compiled
def spread_rows(numbers: Any, first: Any, samples: Any, target: Any) -> None:
    """target[j, b] = numbers[(first + b) // samples, j]: each column from `first` on is given its series' numbers.

    Columns after the last series' get the last one's. There are at least 16 samples.
    """
    width, last = target.shape[1], len(numbers) - 1
    for b in range(0, width, WIDTH):
        one = (first + b) // samples
        count = min((one + 1) * samples - first - b, WIDTH)
        one, two = min(one, last), min(one + 1, last)
        for j in range(target.shape[0]):
            store(target, j, b, parted(count, spread16(numbers[one, j]), spread16(numbers[two, j])))


@inlined
def recall(path: Any, t: Any, lags: Any, units: Any, sources: Any) -> Any:
    """How many of the lags are of drawn values, path (P, W); these go to what the first layer and the head see."""
    near = 0
    while near < len(lags) and lags[near] <= t:
        seen = path[t - lags[near]]
        for b in range(len(seen)):
            value = min(max(seen[b], -MOST), MOST)
            sources[0, units + near, b] = value
            sources[-1, units + near, b] = value
        near += 1
    return near


@compiled
def unroll_block(
    at: Any,
    width: Any,
    samples: Any,
    base: Any,
    straight: Any,
    lags: Any,
    tables: Any,
    biases: Any,
    head: Any,
    shift: Any,
    rate: Any,
    code: Any,
    centres: Any,
    scales: Any,
    states: Any,
    said: Any,
    seeds: Any,
    result: Any,
) -> None:
    """As `unroll`, for the columns from `at` on."""
    layers, _, units = states.shape
    sources = np.zeros((layers + 1, tables.shape[2] // GATES, width), np.float32)
    begun = started(biases, width)
    cells, fresh, sums = rooms(layers, units, width)
    for layer in range(layers):
        spread_rows(states[layer], at, samples, cells[layer])
    for layer in range(layers + 1):
        spread_rows(said[layer], at, samples, sources[layer, :units])
    generators, uniforms = np.empty((4, width), np.uint32), np.empty((2, width), np.float32)
    begin_draws(code, seeds, samples, at, generators)
    level, theta = np.zeros((GATES, width), np.float32), np.zeros((GATES, width), np.float32)
    owners, wide = np.empty(width, np.int64), np.empty(width, np.float32)
    for b in range(width):
        owners[b] = min((at + b) // samples, len(result) - 1)
        wide[b] = scales[owners[b]]
        for j in range(1, len(shift)):
            level[j, b] = shift[j]
    path = np.zeros((len(base), width), np.float32)
    for t in range(len(base)):
        near = recall(path, t, lags, units, sources)
        if t:
            spread_rows(base[t], at, samples, begun[0])
            through(tables, sources, units + near, begun, cells, fresh, sums, rate)
        for b in range(width):
            level[0, b] = shift[0] + straight[t, owners[b]]
        add_up(head, 0, sources[layers], units + near, level, theta)
        draw(code, theta, generators, uniforms, wide, path[t])
        for b in range(min(width, len(result) * samples - at)):
            one = owners[b]
            result[one, t, at + b - one * samples] = centres[one] + path[t, b] * wide[b]


def _unroll(
    begin: Any,
    end: Any,
    samples: Any,
    base: Any,
    straight: Any,
    lags: Any,
    tables: Any,
    biases: Any,
    head: Any,
    shift: Any,
    rate: Any,
    code: Any,
    centres: Any,
    scales: Any,
    states: Any,
    said: Any,
    seeds: Any,
    result: Any,
) -> None:
    """Draws sample paths into result (S, P, samples): those of a range of columns, of which a series has `samples`.

    base (P, S, 4H): the first layer's gates but for the lags that are drawn here; straight (P, S): the linear part but
    for those. states (layers, S, H), said (layers + 1, S, H): after the context and the first step of the horizon.
    head (1, 4 (H + lags)): the parameters' weights, of the lags those of the linear part. seeds (S,) uint64.
    """
    at = begin
    while at < end:
        width = width_of(end - at)
        unroll_block(
            at, width, samples, base, straight, lags, tables, biases, head, shift, rate, code, centres, scales, states,
            said, seeds, result,
        )  # fmt: skip
        at += width


encode = compiled(_encode)
unroll = compiled(_unroll)
