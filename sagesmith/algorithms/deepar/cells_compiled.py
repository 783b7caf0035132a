"""LSTM layers with zoneout, forwards through time and back, compiled: a step at a time for a range of columns.

Everything is laid out (time, features, columns), where a column is a window, so that neighbouring columns share a
register, whatever the number of cells. At 40 cells a framework spends more
time on starting its operations than on the numbers. A thread has columns of its own and needs no other.

Gates are in PyTorch's order: input, forget, cell, output. Papers: Hochreiter and Schmidhuber, Long Short-Term Memory,
1997; Krueger et al., Zoneout, 2017: each cell and each output stays what it was with probability `rate`; where nothing
is drawn, the expected state is taken.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from sagesmith.algorithms.deepar.curves_compiled import TWO, power_less_1
from sagesmith.algorithms.deepar.products_compiled import WIDTH, add_outer, add_product
from sagesmith.algorithms.deepar.steps_compiled import LEFT, TWICE_LEFT, add_up, columns, width_of
from sagesmith.algorithms.lanes import I32, spread
from sagesmith.algorithms.lanes_compiled import clipped, fma, load16, spread16, store
from sagesmith.formats.compiled import compiled, inlined

FAST = {"contract", "reassoc", "nsz", "arcp"}
GOLDEN, MIX_1, MIX_2 = np.uint32(0x9E3779B1), np.uint32(0x85EBCA6B), np.uint32(0xC2B2AE35)
LOW, HIGH = np.uint32(0xFFFF), np.uint32(16)
ONE, ZERO = np.float32(1.0), np.float32(0.0)
FARTHEST = np.float32(31.0)  # of powers of two: the product of four is still a number
part = partial(compiled, fastmath=FAST)


@inlined
def bar_of(rate: Any) -> Any:
    """What sixteen random bits must be below for something to happen with this probability."""
    return np.uint32(min(65535.0, rate * 65536.0))


@inlined
def line_of(seed: Any, time: Any, unit: Any, begin: Any) -> Any:
    place = np.uint32(np.uint32(np.uint32(unit) * MIX_1) + np.uint32(np.uint32(begin) * MIX_2))
    return np.uint32(np.uint32(seed) + np.uint32(np.uint32(np.uint32(time) * GOLDEN) + place))


def _keeping(high: bool) -> Any:
    """The intrinsic that looks at the upper or the lower half of a place's 32 random bits (MurmurHash3's finish).

    A place's bits are the same forwards and backwards, so that masks are never stored.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def kept(_typing: Any, line: Any, column: Any, bar: Any, old: Any, new: Any) -> Any:
        """Of sixteen columns from `column` on `old` where the bits are below `bar`, `new` elsewhere."""

        def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            line, column, bar, old, new = arguments
            kind = ir.VectorType(I32, old.type.count)

            def same(value: Any) -> Any:
                return ir.Constant(kind, [int(value)] * kind.count)

            def folded(x: Any, places: int) -> Any:
                return builder.xor(x, builder.lshr(x, same(places)))

            lane = builder.add(spread(builder, column, kind), ir.Constant(kind, list(range(kind.count))))
            x = builder.add(spread(builder, line, kind), builder.mul(lane, same(MIX_2)))
            x = builder.mul(folded(x, 16), same(MIX_1))
            x = folded(builder.mul(folded(x, 13), same(MIX_2)), 16)
            half = builder.lshr(x, same(HIGH)) if high else builder.and_(x, same(LOW))
            return builder.select(builder.icmp_unsigned("<", half, spread(builder, bar, kind)), old, new)

        return new(types.uint32, types.uint32, types.uint32, old, new), emit

    return kept


keep_cell, keep_output = _keeping(False), _keeping(True)


@inlined
def cell_of(
    sums: Any, gate: Any, cells: Any, outputs: Any, fresh: Any, t: Any, unit: Any, begin: Any, first: Any, line: Any,
    bar: Any,
) -> None:  # fmt: skip
    """A cell's step for the columns from `first` on, from the sums (4, W) of its gates.

    gate (4H, B), fresh (H, B), cells and outputs (T + 1, H, B) as in `forward`. With e = exp(-x), sigmoid x =
    1 / (1 + e) and tanh x = 2 / (1 + e²) - 1; one division serves for all four gates.
    """
    units, cell, after, output, shown = len(fresh), cells[t], cells[t + 1], outputs[t], outputs[t + 1]
    two, one = spread16(TWO), spread16(ONE)
    for b in range(0, sums.shape[1], WIDTH):
        p, q = _below(load16(sums, 0, b), LEFT), _below(load16(sums, 1, b), LEFT)
        r, s = _below(load16(sums, 2, b), TWICE_LEFT), _below(load16(sums, 3, b), LEFT)
        low, high = p * q, r * s
        whole = one / (low * high)
        left, right = whole * high, whole * low
        i, f, g, o = q * left, p * left, (two - r) * s * right, r * right
        at, column = first + b, np.uint32(first + b - begin)
        held = load16(cell, unit, at)
        new = fma(f, held, i * g)
        n = _below(new, TWICE_LEFT)
        seen = (two - n) / n
        store(gate, unit, at, i)
        store(gate, units + unit, at, f)
        store(gate, 2 * units + unit, at, g)
        store(gate, 3 * units + unit, at, o)
        store(fresh, unit, at, seen)
        store(after, unit, at, keep_cell(line, column, bar, held, new))
        store(shown, unit, at, keep_output(line, column, bar, load16(output, unit, at), o * seen))


@inlined
def _below(x: Any, factor: Any) -> Any:
    return power_less_1(clipped(x * spread16(factor), spread16(FARTHEST))) + spread16(TWO)


def _forward(
    begin: Any,
    end: Any,
    inputs: Any,
    fixed: Any,
    table: Any,
    gates: Any,
    cells: Any,
    outputs: Any,
    squashed: Any,
    rate: Any,
    seed: Any,
) -> None:
    """A layer's outputs (T + 1, H, B) from inputs (T, D, B) and what is added to the gates of each step, fixed (4H, B).

    table (H, 4 (H + D)): steps_compiled.py. `cells` and `outputs` (T + 1, H, B) begin with the states before. `gates`
    (T, 4H, B) become what the gates are; `squashed` (T, H, B) is tanh of the fresh cells.
    A range is a multiple of 16 columns.
    """
    steps, units, wide = squashed.shape[0], squashed.shape[1], inputs.shape[1]
    bar, at = bar_of(rate), begin
    while at < end:
        width = width_of(end - at)
        source, sums = np.empty((units + wide, width), np.float32), np.empty((4, width), np.float32)
        begun = np.empty((4 * units, width), np.float32)
        columns(fixed, at, begun)
        for t in range(steps):
            columns(outputs[t], at, source[:units])
            columns(inputs[t], at, source[units:])
            for u in range(units):
                add_up(table, u, source, units + wide, begun, sums)
                line = line_of(seed, t, u, begin)
                cell_of(sums, gates[t], cells, outputs, squashed[t], t, u, begin, at, line, bar)
        at += width


@part
def add_rows(source: Any, target: Any, begin: Any, end: Any) -> None:
    """target += source, (J, B) both, for a range of columns."""
    for j in range(len(target)):
        total, row = target[j, begin:end], source[j, begin:end]
        for b in range(len(row)):
            total[b] += row[b]


@inlined
def slopes_of(
    gate: Any, cell: Any, squashed: Any, above: Any, carry: Any, slope: Any, unit: Any, begin: Any, end: Any, line: Any,
    bar: Any,
) -> None:  # fmt: skip
    """A cell's step back: gates (4H, B) become their sums' slopes.

    above (H, B): the slopes of what the cell said; carry and slope (H, B): those of its state and of what it said, from
    the step after; they become what goes to the step before, `slope` but for what goes through the gates.
    """
    units, one, zero = len(cell), spread16(ONE), spread16(ZERO)
    for b in range(begin, end, WIDTH):
        column = np.uint32(b - begin)
        i, f = load16(gate, unit, b), load16(gate, units + unit, b)
        g, o, s = load16(gate, 2 * units + unit, b), load16(gate, 3 * units + unit, b), load16(squashed, unit, b)
        whole, held = load16(above, unit, b) + load16(slope, unit, b), load16(carry, unit, b)
        fresh, held_on = keep_output(line, column, bar, zero, whole), keep_cell(line, column, bar, held, zero)
        new = held - held_on + fresh * o * (one - s * s)
        store(slope, unit, b, whole - fresh)
        store(carry, unit, b, fma(new, f, held_on))
        store(gate, unit, b, new * g * i * (one - i))
        store(gate, units + unit, b, new * load16(cell, unit, b) * f * (one - f))
        store(gate, 2 * units + unit, b, new * i * (one - g * g))
        store(gate, 3 * units + unit, b, fresh * s * o * (one - o))


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
    bar = bar_of(rate)
    carry, slope = np.zeros(cells.shape[1:], np.float32), np.zeros(cells.shape[1:], np.float32)
    for t in range(steps - 1, -1, -1):
        gate = gates[t]
        for u in range(units):
            line = line_of(seed, t, u, begin)
            slopes_of(gate, cells[t], squashed[t], back[t], carry, slope, u, begin, end, line, bar)
        add_product(recurrent_t, gate, slope, begin, end)
        if len(of_inputs):
            add_product(weights_t, gate, of_inputs[t], begin, end)
        add_rows(gate, of_fixed, begin, end)
    add_outer(inputs, gates, of_weights, begin, end)
    add_outer(outputs[:-1], gates, of_recurrent, begin, end)


forward = compiled(_forward)
backward = compiled(_backward)
