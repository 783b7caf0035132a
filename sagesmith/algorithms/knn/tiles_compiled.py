"""tile: STEP rows by LANES queries multiplied in registers and compared at once, compiled. See exact.py.

A matrix product by BLAS writes every entry to memory, where it is read once, compared, and forgotten; with 50 to 100
columns that takes longer than the multiplications. Here a sum lives in registers, and a bit of it leaves them.
"""

from __future__ import annotations

import sys
from typing import Any

from llvmlite import binding, ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

WIDE = bool(binding.get_host_cpu_features().get("avx512f"))
LANES = 64 if WIDE else 16  # queries of a tile: four registers of AVX-512, two of AVX, four of NEON
STEP = 6 if WIDE else 4  # rows of a tile; STEP * LANES sums fit the registers

_FLOAT, _INDEX = ir.FloatType(), ir.IntType(64)
_LANES = ir.VectorType(_FLOAT, LANES)


@intrinsic  # type: ignore[untyped-decorator]
def tile(_typing: Any, queries: Any, rows: Any, width: Any, base: Any, limits: Any, bounds: Any, hits: Any) -> Any:
    """bounds[r, q] = base[r] - rows[r] . queries[:, q], and hits[r]: a bit for every q whose bound is within limits[q].

    All are addresses: queries (width, LANES), rows (STEP, width), base (STEP,), limits (LANES,), bounds (STEP, LANES)
    float32; hits (STEP,) uint64. width is at least 1. NaN among base or limits gives no hit.
    """

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        queries, rows, width, base, limits, bounds, hits = arguments
        sums = _multiplied(builder, queries, rows, width)
        limit = _load(builder, limits, _LANES)
        for r, total in enumerate(sums):
            bound = builder.fsub(_spread(builder, _load(builder, _after(builder, base, 4 * r), _FLOAT)), total)
            builder.store(bound, _pointer(builder, _after(builder, bounds, 4 * LANES * r), _LANES), align=4)
            within = builder.bitcast(builder.fcmp_ordered("<=", bound, limit), ir.IntType(LANES))
            if sys.byteorder == "big":
                within = builder.bitreverse(within)
            bits = builder.zext(within, _INDEX) if LANES < 64 else within
            builder.store(bits, _pointer(builder, _after(builder, hits, 8 * r), _INDEX))
        return ir.Constant(_INDEX, 0)

    return types.int64(*[types.int64] * 7), emit


def _multiplied(builder: Any, queries: Any, rows: Any, width: Any) -> list[Any]:
    """The loop over columns: one load of queries, and for each row a number spread, multiplied and added."""
    before = builder.block
    loop, done = builder.append_basic_block("columns"), builder.append_basic_block("summed")
    kind = ir.FunctionType(_LANES, [_LANES] * 3)
    multiply_add = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{LANES}f32")
    builder.branch(loop)
    builder.position_at_end(loop)
    column = builder.phi(_INDEX)
    sums = [builder.phi(_LANES) for _ in range(STEP)]
    lanes = _load(builder, builder.add(queries, builder.mul(column, ir.Constant(_INDEX, 4 * LANES))), _LANES)
    place = builder.add(rows, builder.mul(column, ir.Constant(_INDEX, 4)))
    stride = builder.mul(width, ir.Constant(_INDEX, 4))
    added = []
    for total in sums:
        number = _spread(builder, _load(builder, place, _FLOAT))
        added.append(builder.call(multiply_add, [number, lanes, total]))
        place = builder.add(place, stride)
    following = builder.add(column, ir.Constant(_INDEX, 1))
    builder.cbranch(builder.icmp_signed("<", following, width), loop, done)
    column.add_incoming(ir.Constant(_INDEX, 0), before)
    column.add_incoming(following, loop)
    for total, more in zip(sums, added, strict=True):
        total.add_incoming(ir.Constant(_LANES, [0.0] * LANES), before)
        total.add_incoming(more, loop)
    builder.position_at_end(done)
    return added


def _after(builder: Any, address: Any, distance: int) -> Any:
    return builder.add(address, ir.Constant(_INDEX, distance))


def _pointer(builder: Any, address: Any, kind: Any) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


def _load(builder: Any, address: Any, kind: Any) -> Any:
    return builder.load(_pointer(builder, address, kind), align=8 if kind is _INDEX else 4)


def _spread(builder: Any, number: Any) -> Any:
    """A number in every lane."""
    first = builder.insert_element(ir.Constant(_LANES, ir.Undefined), number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))
