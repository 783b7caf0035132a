"""LSTM layers with zoneout, forwards through time, compiled: a step at a time for a block of columns.

Everything is laid out (time, features, columns), where a column is a window, so that neighbouring columns share a
register, whatever the number of cells. At 40 cells a framework spends more
time on starting its operations than on the numbers. A thread has columns of its own and needs no other.

Gates are in PyTorch's order: input, forget, cell, output. Papers: Hochreiter and Schmidhuber, Long Short-Term Memory,
1997; Krueger et al., Zoneout, 2017: each cell and each output stays what it was with probability `rate`; where nothing
is drawn, the expected state is taken.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from sagesmith.algorithms.deepar.curves_compiled import TWO, power_less_1
from sagesmith.algorithms.deepar.products_compiled import WIDTH
from sagesmith.algorithms.deepar.steps_compiled import LEFT, TWICE_LEFT, add_up, columns, width_of
from sagesmith.algorithms.lanes import I32, spread
from sagesmith.algorithms.lanes_compiled import clipped, fma, load16, spread16, store
from sagesmith.formats.compiled import compiled, inlined

GOLDEN, MIX_1, MIX_2 = np.uint32(0x9E3779B1), np.uint32(0x85EBCA6B), np.uint32(0xC2B2AE35)
LOW, HIGH = np.uint32(0xFFFF), np.uint32(16)
ONE, ZERO = np.float32(1.0), np.float32(0.0)
KEPT = 6  # rows of a cell in what the way back needs
FARTHEST = np.float32(31.0)  # of powers of two: the product of four is still a number


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
    sums: Any, cells: Any, before: Any, kept: Any, shown: Any, unit: Any, begin: Any, first: Any, line: Any, bar: Any
) -> None:
    """A cell's step for the columns from `first` on, from the sums (4, W) of its gates.

    cells (H, W) go on; before (H, W) is what the cells said the step before; kept (6H, W) and shown (H, B) are filled.
    With e = exp(-x), sigmoid x = 1 / (1 + e) and tanh x = 2 / (1 + e²) - 1; one division serves for all four gates.
    """
    row = KEPT * unit
    two, one = spread16(TWO), spread16(ONE)
    for b in range(0, sums.shape[1], WIDTH):
        p, q = _below(load16(sums, 0, b), LEFT), _below(load16(sums, 1, b), LEFT)
        r, s = _below(load16(sums, 2, b), TWICE_LEFT), _below(load16(sums, 3, b), LEFT)
        low, high = p * q, r * s
        whole = one / (low * high)
        left, right = whole * high, whole * low
        i, f, g, o = q * left, p * left, (two - r) * s * right, r * right
        at, column = first + b, np.uint32(first + b - begin)
        held = load16(cells, unit, b)
        new = fma(f, held, i * g)
        n = _below(new, TWICE_LEFT)
        seen = (two - n) / n
        store(kept, row, b, i)
        store(kept, row + 1, b, f)
        store(kept, row + 2, b, g)
        store(kept, row + 3, b, o)
        store(kept, row + 4, b, held)
        store(kept, row + 5, b, seen)
        store(cells, unit, b, keep_cell(line, column, bar, held, new))
        store(shown, unit, at, keep_output(line, column, bar, load16(before, unit, b), o * seen))


@inlined
def kept_of(kept: Any, steps: Any, units: Any, first: Any, width: Any) -> Any:
    """What the way back needs of a block of columns, (T, 6H, W) in one piece, as memory is read fastest.

    Six rows a cell: its gates, its state before, and tanh of its fresh state.
    """
    size = steps * KEPT * units
    return kept[first * size : (first + width) * size].reshape((steps, KEPT * units, width))


@inlined
def _below(x: Any, factor: Any) -> Any:
    return power_less_1(clipped(x * spread16(factor), spread16(FARTHEST))) + spread16(TWO)


def _forward(
    begin: Any,
    end: Any,
    inputs: Any,
    fixed: Any,
    table: Any,
    kept: Any,
    outputs: Any,
    rate: Any,
    seed: Any,
) -> None:
    """A layer's outputs (T, H, B) from inputs (T, D, B) and what is added to the gates of each step, fixed (4H, B).

    table (H, 4 (H + D)): steps_compiled.py. kept (6 T H B,) is filled for the way back: `kept_of`.
    A range is a multiple of 16 columns.
    """
    (steps, units, _), wide = outputs.shape, inputs.shape[1]
    bar, at = bar_of(rate), begin
    while at < end:
        width = width_of(end - at)
        source, sums = np.zeros((units + wide, width), np.float32), np.empty((4, width), np.float32)
        begun = np.empty((4 * units, width), np.float32)
        cells, block = np.zeros((units, width), np.float32), kept_of(kept, steps, units, at, width)
        columns(fixed, at, begun)
        for t in range(steps):
            if t:
                columns(outputs[t - 1], at, source[:units])
            columns(inputs[t], at, source[units:])
            for u in range(units):
                add_up(table, u, source, units + wide, begun, sums)
                line = line_of(seed, t, u, begin)
                cell_of(sums, cells, source, block[t], outputs[t], u, begin, at, line, bar)
        at += width


forward = compiled(_forward)
