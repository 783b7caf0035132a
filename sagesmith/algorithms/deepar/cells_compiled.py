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


forward = compiled(_forward)
