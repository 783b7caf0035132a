"""Steps of the network in forecasts, compiled: a layer's step for a block of 16, 32 or 64 columns.

Nothing of a block leaves the nearest cache. The sums of a cell's four gates stay in registers until they are whole, and
its nonlinearities cost five powers and two divisions. A column's numbers are the same in a block of any width.

    tables: (units, 4 K) float32, the weights of K inputs: of input k and gate g (input, forget, cell, output) 4k + g
    sources: (K, W) float32, the inputs: first what the layer itself said the step before
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from sagesmith.algorithms import lanes as words
from sagesmith.algorithms.deepar.curves_compiled import LOG2_E, TWO, ZERO, power_less_1
from sagesmith.algorithms.deepar.products_compiled import WIDTH
from sagesmith.algorithms.lanes import I64
from sagesmith.algorithms.lanes_compiled import clipped, fma, lanes16, load16, spread16, store
from sagesmith.formats.compiled import compiled, inlined

GATES = 4
WIDEST = 4 * WIDTH
LIMIT = np.float32(40.0)  # of powers of two: three of their products are still numbers
LEFT, TWICE_LEFT = -LOG2_E, -TWO * LOG2_E


def _summing(vectors: int) -> Any:
    """The intrinsic for blocks of so many times 16 columns."""

    @intrinsic  # type: ignore[untyped-decorator]
    def summed(_typing: Any, table: Any, unit: Any, source: Any, terms: Any, begun: Any, sums: Any) -> Any:
        """sums[g, b] = begun[g units + unit, b] + Σ_k table[unit, 4k + g] source[k, b] over the first `terms` k.

        `terms` is at least 1, units is the length of the table.
        """
        taken = types.void(table, types.intp, source, types.intp, begun, sums)

        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            table, source, begun, sums = (
                context.make_array(signature.args[at])(context, builder, arguments[at]) for at in (0, 2, 4, 5)
            )
            unit, (units, wide) = arguments[1], cgutils.unpack_tuple(builder, table.shape)
            first = builder.mul(unit, wide)
            width, kind = I64(vectors * WIDTH), lanes16.vector

            def body(k: Any, found: list[Any]) -> list[Any]:
                row, at = builder.mul(k, width), builder.add(first, builder.mul(k, I64(GATES)))
                seen = [
                    words.load(builder, source.data, builder.add(row, I64(v * WIDTH)), kind) for v in range(vectors)
                ]
                further = []
                for gate in range(GATES):
                    weight = builder.load(builder.gep(table.data, [builder.add(at, I64(gate))]))
                    weight = words.spread(builder, weight, kind)
                    for v in range(vectors):
                        product = builder.fmul(weight, seen[v], flags=("contract",))
                        further.append(builder.fadd(product, found[gate * vectors + v], flags=("contract",)))
                return further

            starts = []
            for gate in range(GATES):
                row = builder.mul(builder.add(unit, builder.mul(units, I64(gate))), width)
                starts += [
                    words.load(builder, begun.data, builder.add(row, I64(v * WIDTH)), kind) for v in range(vectors)
                ]
            for number, total in enumerate(words.counted(builder, I64(0), arguments[3], starts, body)):
                words.store(builder, total, sums.data, I64(number * WIDTH))
            return context.get_dummy_value()

        return taken, emit

    return summed


_one, _two, _four = (_summing(vectors) for vectors in (1, 2, 4))


@inlined
def add_up(table: Any, unit: Any, source: Any, terms: Any, begun: Any, sums: Any) -> None:
    """As `summed`, whatever the width."""
    width = source.shape[1]
    if width == WIDEST:
        _four(table, unit, source, terms, begun, sums)
    elif width == 2 * WIDTH:
        _two(table, unit, source, terms, begun, sums)
    else:
        _one(table, unit, source, terms, begun, sums)


@inlined
def width_of(left: Any) -> Any:
    """Of the next block, when so many columns are left."""
    if left >= WIDEST:
        return WIDEST
    return 2 * WIDTH if left > WIDTH else WIDTH


@compiled
def columns(table: Any, first: Any, target: Any) -> None:
    """target[j, b] = table[j, first + b]. Assignments of whole arrays take numba seconds to compile."""
    for j in range(target.shape[0]):
        for b in range(0, target.shape[1], WIDTH):
            store(target, j, b, load16(table, j, first + b))


@inlined
def raised(x: Any) -> Any:
    """2^x - 1, with x so far from 0 only that nothing overflows."""
    return power_less_1(clipped(x, spread16(LIMIT)))


@inlined
def step(table: Any, source: Any, terms: Any, begun: Any, cells: Any, fresh: Any, sums: Any, rate: Any) -> None:
    """A layer's step: `cells` (H, W) go on, `fresh` (H, W) becomes what the layer says, `sums` (4, W) is room.

    begun (4H, W): what is added to the gates, in the order of the gates. Zoneout's expected states, with `rate`.
    With e = exp(-x), sigmoid x = 1 / (1 + e) and tanh x = (1 - e²) / (1 + e²): fractions are added before they are
    divided.
    """
    units, width = cells.shape
    two, zero, kept, taken = spread16(TWO), spread16(ZERO), spread16(rate), spread16(np.float32(1.0) - rate)
    for u in range(units):
        add_up(table, u, source, terms, begun, sums)
        for gate in range(GATES):
            for b in range(0, width, WIDTH):
                store(sums, gate, b, raised(load16(sums, gate, b)))
        for b in range(0, width, WIDTH):
            i, f, g = load16(sums, 0, b) + two, load16(sums, 1, b) + two, load16(sums, 2, b)
            cell, other = load16(cells, u, b), i * (g + two)
            new = (cell * other - g * f) / (f * other)
            store(cells, u, b, fma(kept, cell, taken * new))
            store(sums, 0, b, new)
        for b in range(0, width, WIDTH):
            n, o = raised(load16(sums, 0, b) * spread16(TWICE_LEFT)), load16(sums, 3, b) + two
            store(fresh, u, b, fma(kept, load16(source, u, b), taken * ((zero - n) / (o * (n + two)))))


@compiled
def through(tables: Any, sources: Any, terms: Any, begun: Any, cells: Any, fresh: Any, sums: Any, rate: Any) -> None:
    """One step of all layers, the first of which has `terms` inputs.

    tables: (layers, H, 4K); sources (layers + 1, K, W), whose last one's first rows become what the head sees;
    begun (layers, 4H, W); cells (layers, H, W). A layer from the second on adds its input to its output.
    """
    layers, units, width = cells.shape
    for layer in range(layers):
        source = sources[layer]
        step(tables[layer], source, terms if layer == 0 else 2 * units, begun[layer], cells[layer], fresh, sums, rate)
        place = units if layer + 1 < layers else 0
        following = sources[layer + 1]
        for u in range(units):
            for b in range(0, width, WIDTH):
                said = load16(fresh, u, b)
                store(source, u, b, said)
                if layer:
                    said = said + load16(source, units + u, b)
                store(following, place + u, b, said)
