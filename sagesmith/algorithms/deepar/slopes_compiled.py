"""LSTM layers with zoneout back through time, compiled: a step at a time for a block of columns (cells_compiled.py).

What a step back calculates stays in the nearest caches: the slopes of its gates are multiplied with the weights and
with the step's inputs as soon as they are there, and never stored. What it needs of the way there fits into no cache:
it is asked for a step ahead, as a tenth of training was waiting for it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sagesmith.algorithms.deepar.cells_compiled import KEPT, ONE, ZERO, bar_of, keep_cell, keep_output, kept_of, line_of
from sagesmith.algorithms.deepar.products_compiled import WIDTH, add_outer, turn
from sagesmith.algorithms.deepar.steps_compiled import GATES, add_up, columns, width_of
from sagesmith.algorithms.lanes_compiled import fma, load16, soon, spread16, store
from sagesmith.formats.compiled import compiled, inlined


@inlined
def slopes_of(
    kept: Any, above: Any, carry: Any, going: Any, slopes: Any, whole: Any, unit: Any, begin: Any, first: Any,
    line: Any, bar: Any,
) -> None:  # fmt: skip
    """A cell's step back for the columns from `first` on: slopes (4H, W) of its gates' sums, added to `whole` (4H, B).

    kept (6H, W) as `kept_of` has it. above (H, B): the slopes of what the cell said; carry (H, W) and the first H rows
    of `going`: those of its state and of what it said, from the step after. They become what goes to the step before,
    `going` but for what goes through the gates.
    """
    units, row, one, zero = len(carry), KEPT * unit, spread16(ONE), spread16(ZERO)
    for b in range(0, carry.shape[1], WIDTH):
        at, column = first + b, np.uint32(first + b - begin)
        i, f, g = load16(kept, row, b), load16(kept, row + 1, b), load16(kept, row + 2, b)
        o, cell, s = load16(kept, row + 3, b), load16(kept, row + 4, b), load16(kept, row + 5, b)
        said, held = load16(above, unit, at) + load16(going, unit, b), load16(carry, unit, b)
        fresh, held_on = keep_output(line, column, bar, zero, said), keep_cell(line, column, bar, held, zero)
        new = held - held_on + fresh * o * (one - s * s)
        store(going, unit, b, said - fresh)
        store(carry, unit, b, fma(new, f, held_on))
        p, q = new * g * i * (one - i), new * cell * f * (one - f)
        r, t = new * i * (one - g * g), fresh * s * o * (one - o)
        store(slopes, unit, b, p)
        store(slopes, units + unit, b, q)
        store(slopes, 2 * units + unit, b, r)
        store(slopes, 3 * units + unit, b, t)
        store(whole, unit, at, load16(whole, unit, at) + p)
        store(whole, units + unit, at, load16(whole, units + unit, at) + q)
        store(whole, 2 * units + unit, at, load16(whole, 2 * units + unit, at) + r)
        store(whole, 3 * units + unit, at, load16(whole, 3 * units + unit, at) + t)


@inlined
def go_on(table: Any, slopes: Any, going: Any, sums: Any, units: Any, of_inputs: Any, wanted: Any, first: Any) -> None:
    """Through the gates: added to the first `units` rows of `going`; the others go to of_inputs (D, B)."""
    fours, width = len(table), slopes.shape[1]
    for u in range(fours):
        add_up(table, u, slopes, len(slopes), going, sums)
        for place in range(GATES):
            row = place * fours + u
            for b in range(0, width, WIDTH):
                if row < units:
                    store(going, row, b, load16(sums, place, b))
                elif row < units + wanted:
                    store(of_inputs, row - units, first + b, load16(sums, place, b))


def _backward(
    begin: Any,
    end: Any,
    inputs: Any,
    table: Any,
    kept: Any,
    outputs: Any,
    back: Any,
    rate: Any,
    seed: Any,
    of_inputs: Any,
    of_fixed: Any,
    of_weights: Any,
) -> None:
    """The slopes of everything, from those of the outputs, `back` (T, H, B).

    table (U, 16H): of slope j of the gates and row r = U place + u of the recurrent weights and, where the slopes of
    the inputs are wanted, the inputs' weights after them, number 4j + place of line u; 4U rows, the last ones 0.
    of_inputs (T, D, B; with no step: not wanted) is filled; of_fixed (4H, B) is added to, and so is of_weights (4H, K)
    for the columns of this range: of outputs and inputs, K a multiple of 16 that is not below H + D.
    """
    (steps, units, _), wide = outputs.shape, inputs.shape[1]
    bar, at, wanted, none = bar_of(rate), begin, wide if len(of_inputs) else 0, np.empty((0, 0), np.float32)
    while at < end:
        width = width_of(end - at)
        carry, sums = np.zeros((units, width), np.float32), np.empty((GATES, width), np.float32)
        going, slopes = np.zeros((GATES * len(table), width), np.float32), np.empty((4 * units, width), np.float32)
        source = np.zeros((of_weights.shape[1], width), np.float32)
        turned = np.empty((width, of_weights.shape[1]), np.float32)
        block = kept_of(kept, steps, units, at, width)
        for t in range(steps - 1, -1, -1):
            for u in range(units):
                for row in range(KEPT * u, KEPT * u + KEPT):
                    soon(block[max(0, t - 1)], row)
                line = line_of(seed, t, u, begin)
                slopes_of(block[t], back[t], carry, going, slopes, of_fixed, u, begin, at, line, bar)
            go_on(table, slopes, going, sums, units, of_inputs[t] if wanted else none, wanted, at)
            if t:
                columns(outputs[t - 1], at, source[:units])
            else:
                source[:units] = ZERO
            columns(inputs[t], at, source[units : units + wide])
            turn(source, turned)
            add_outer(slopes, turned, of_weights)
        at += width


backward = compiled(_backward)
