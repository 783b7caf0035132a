"""extension, cover: boxes, eight coordinates at a time, in compiled code.

Every score asks of every box on its way by how much a point sticks out, which decides the speed of all. Written as
vector instructions, since a compiler may not reorder a sum of floats by itself.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from sagesmith.algorithms import lanes
from sagesmith.algorithms.lanes import F32, I64
from sagesmith.algorithms.randomcutforest.trees import LANES

_FLOATS = ir.VectorType(F32, LANES)


@intrinsic  # type: ignore[untyped-decorator]
def extension(_typing: Any, point: Any, low: Any, high: Any, width: Any) -> Any:
    """Σ max(0, low - x) + max(0, x - high) over `width` float32 coordinates, a multiple of LANES, from addresses."""

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        zero = lanes.constant(0.0, _FLOATS)
        total = cgutils.alloca_once_value(builder, zero)
        blocks = builder.sdiv(arguments[3], I64(LANES))
        starts = [builder.inttoptr(address, _FLOATS.as_pointer()) for address in arguments[:3]]
        with cgutils.for_range(builder, blocks) as loop:
            x, low, high = (builder.load(builder.gep(start, [loop.index]), align=4) for start in starts)
            below, above = builder.fsub(low, x), builder.fsub(x, high)
            parts = [lanes.larger(builder, part, zero) for part in (below, above)]
            builder.store(builder.fadd(builder.load(total), builder.fadd(*parts)), total)
        return lanes.total(builder, builder.load(total))

    return types.float32(types.int64, types.int64, types.int64, types.int64), emit


@intrinsic  # type: ignore[untyped-decorator]
def cover(_typing: Any, box: Any, low: Any, high: Any, least: Any, greatest: Any, width: Any) -> Any:
    """Sets a box, its upper corner behind its lower, to cover two others; returns the sum of its sides.

    `low` and `high`, `least` and `greatest` are the corners of the two, all by their addresses; a point is both of its.
    """

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        total = cgutils.alloca_once_value(builder, lanes.constant(0.0, _FLOATS))
        blocks = builder.sdiv(arguments[5], I64(LANES))
        starts = [builder.inttoptr(address, _FLOATS.as_pointer()) for address in arguments[:5]]
        with cgutils.for_range(builder, blocks) as loop:
            low, high, least, greatest = (builder.load(builder.gep(at, [loop.index]), align=4) for at in starts[1:])
            lower = builder.select(builder.fcmp_ordered("<", low, least), low, least)
            upper = lanes.larger(builder, high, greatest)
            builder.store(lower, builder.gep(starts[0], [loop.index]), align=4)
            behind = builder.gep(starts[0], [builder.add(loop.index, blocks)])
            builder.store(upper, behind, align=4)
            builder.store(builder.fadd(builder.load(total), builder.fsub(upper, lower)), total)
        return lanes.total(builder, builder.load(total))

    return types.float32(*[types.int64] * 6), emit
