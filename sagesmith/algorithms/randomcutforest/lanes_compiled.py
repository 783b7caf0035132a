"""extension: by how much a point sticks out of a box, eight coordinates at a time, in compiled code.

Every score asks this of every box on its way, so it decides the speed of all. Written as vector instructions, since a
compiler may not reorder a sum of floats by itself.
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


def _sum_of(builder: Any, vector: Any) -> Any:
    """The sum of the lanes, halves upon halves."""
    width = LANES
    while width > 1:
        width //= 2
        index = ir.VectorType(ir.IntType(32), LANES)
        places = [(lane + width) % LANES for lane in range(LANES)]
        vector = builder.fadd(vector, builder.shuffle_vector(vector, vector, ir.Constant(index, places)))
    return builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))
