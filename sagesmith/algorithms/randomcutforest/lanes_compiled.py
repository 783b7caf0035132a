"""extension, cover: boxes, eight coordinates at a time, in compiled code.

Every score asks of every box on its way by how much a point sticks out, which decides the speed of all. Written as
vector instructions, since a compiler may not reorder a sum of floats by itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from sagesmith.algorithms.randomcutforest.trees import LANES
from sagesmith.formats.compiled import inlined

_FLOATS = ir.VectorType(ir.FloatType(), LANES)


@inlined
def address_of(array: np.ndarray) -> Any:
    """Where a contiguous array begins; good for as long as the caller keeps the array."""
    return np.int64(array.ctypes.data)


@intrinsic  # type: ignore[untyped-decorator]
def extension(_typing: Any, point: Any, low: Any, high: Any, width: Any) -> Any:
    """Σ max(0, low - x) + max(0, x - high) over `width` float32 coordinates, a multiple of LANES, from addresses."""

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        zero = ir.Constant(_FLOATS, [0.0] * LANES)
        total = cgutils.alloca_once_value(builder, zero)
        blocks = builder.sdiv(arguments[3], ir.Constant(ir.IntType(64), LANES))
        starts = [builder.inttoptr(address, _FLOATS.as_pointer()) for address in arguments[:3]]
        with cgutils.for_range(builder, blocks) as loop:
            x, low, high = (builder.load(builder.gep(start, [loop.index]), align=4) for start in starts)
            below, above = builder.fsub(low, x), builder.fsub(x, high)
            parts = [builder.select(builder.fcmp_ordered(">", part, zero), part, zero) for part in (below, above)]
            builder.store(builder.fadd(builder.load(total), builder.fadd(*parts)), total)
        return _sum_of(builder, builder.load(total))

    return types.float32(types.int64, types.int64, types.int64, types.int64), emit


@intrinsic  # type: ignore[untyped-decorator]
def cover(_typing: Any, box: Any, low: Any, high: Any, least: Any, greatest: Any, width: Any) -> Any:
    """Sets a box, its upper corner behind its lower, to cover two others; returns the sum of its sides.

    `low` and `high`, `least` and `greatest` are the corners of the two, all by their addresses; a point is both of its.
    """

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        total = cgutils.alloca_once_value(builder, ir.Constant(_FLOATS, [0.0] * LANES))
        blocks = builder.sdiv(arguments[5], ir.Constant(ir.IntType(64), LANES))
        starts = [builder.inttoptr(address, _FLOATS.as_pointer()) for address in arguments[:5]]
        with cgutils.for_range(builder, blocks) as loop:
            low, high, least, greatest = (builder.load(builder.gep(at, [loop.index]), align=4) for at in starts[1:])
            lower = builder.select(builder.fcmp_ordered("<", low, least), low, least)
            upper = builder.select(builder.fcmp_ordered(">", high, greatest), high, greatest)
            builder.store(lower, builder.gep(starts[0], [loop.index]), align=4)
            behind = builder.gep(starts[0], [builder.add(loop.index, blocks)])
            builder.store(upper, behind, align=4)
            builder.store(builder.fadd(builder.load(total), builder.fsub(upper, lower)), total)
        return _sum_of(builder, builder.load(total))

    return types.float32(*[types.int64] * 6), emit


def _sum_of(builder: Any, vector: Any) -> Any:
    """The sum of the lanes, halves upon halves."""
    width = LANES
    while width > 1:
        width //= 2
        index = ir.VectorType(ir.IntType(32), LANES)
        places = [(lane + width) % LANES for lane in range(LANES)]
        vector = builder.fadd(vector, builder.shuffle_vector(vector, vector, ir.Constant(index, places)))
    return builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))
