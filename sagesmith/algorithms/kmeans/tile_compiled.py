"""tile: the innermost loop of k-means in vectors: a few rows against a panel of centers, all of it in registers.

For the nearest center only the largest of x.c - |c|^2 / 2 counts: a matrix product whose result is never stored. A BLAS
would write all n * K products to memory and read them again; here ROWS x CENTERS of them are accumulators in registers,
as in Goto and van de Geijn, Anatomy of High-Performance Matrix Multiplication, TOMS 34 (2008), section 5, and only the
best of each row is kept. numba's own loops do not stay in registers, so this one is written in LLVM's vectors,
which LLVM lowers to whatever the processor has.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding  # type: ignore[import-untyped]
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

_WIDE = llvmlite.binding.get_host_cpu_features().get("avx512f", False)
LANES = 16 if _WIDE else 8  # floats in a vector
ROWS = 8 if _WIDE else 6  # 16 accumulators of 32 registers, or 12 of 16
VECTORS = 2  # vectors of centers beside each other
CENTERS = LANES * VECTORS  # in a panel

_F32, _I32, _I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_FLOATS, _INTS = ir.VectorType(_F32, LANES), ir.VectorType(_I32, LANES)
_LOWEST = ir.Constant(_FLOATS, [float("-inf")] * LANES)
_LAST = ir.Constant(_INTS, [2**31 - 1] * LANES)
_EACH_LANE = ir.Constant(_INTS, list(range(LANES)))


@intrinsic  # type: ignore[untyped-decorator]
def best_of_rows(typing: Any, rows: Any, width: Any, panels: Any, bias: Any, number: Any, best: Any) -> Any:
    """The center with the largest product + bias for each of ROWS rows; the first of those that are equal.

    Args:
        rows: (ROWS, width) float32, contiguous.
        panels: (number, width, CENTERS) float32, contiguous.
        bias: (number * CENTERS,) float32; -inf where there is no center.
        best: (ROWS,) int32, filled.
    """
    signature = types.void(rows, types.int64, panels, bias, types.int64, best)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        start = {}
        for at in (0, 2, 3, 5):
            start[at] = context.make_array(signature.args[at])(context, builder, arguments[at]).data
        _Tile(builder, start[0], arguments[1], start[2], start[3]).write(arguments[4], start[5])
        return context.get_dummy_value()

    return signature, generate


class _Tile:
    """Writes the loop: over panels, in each over columns, at the end over the lanes of a vector."""

    def __init__(self, builder: Any, rows: Any, width: Any, panels: Any, bias: Any) -> None:
        self.b, self.width, self.panels, self.bias = builder, width, panels, bias
        self.rows = [builder.gep(rows, [builder.mul(_I64(row), width)]) for row in range(ROWS)]
        self.top = [cgutils.alloca_once(builder, _FLOATS) for _ in range(ROWS)]  # the largest in each lane so far
        self.place = [cgutils.alloca_once(builder, _INTS) for _ in range(ROWS)]  # the vector that it was in
        self.fma = self._function(f"llvm.fma.v{LANES}f32", _FLOATS, [_FLOATS] * 3)

    def write(self, number: Any, best: Any) -> None:
        for row in range(ROWS):
            self.b.store(_LOWEST, self.top[row])
            self.b.store(ir.Constant(_INTS, [0] * LANES), self.place[row])
        with cgutils.for_range(self.b, number) as loop:
            self._keep(loop.index, self._products(loop.index))
        for row in range(ROWS):
            self.b.store(self._winner(row), self.b.gep(best, [_I64(row)]))

    def _products(self, panel: Any) -> list[list[Any]]:
        """bias + rows . centers for one panel, [row][vector]."""
        b = self.b
        first = b.mul(panel, _I64(CENTERS))
        centers = b.gep(self.panels, [b.mul(first, self.width)])
        initial = [self._load(self.bias, b.add(first, _I64(LANES * vector))) for vector in range(VECTORS)]
        before, body, after = b.block, b.append_basic_block("columns"), b.append_basic_block("columns.end")
        b.branch(body)
        b.position_at_end(body)
        column = b.phi(_I64)
        column.add_incoming(_I64(0), before)
        sums = [[b.phi(_FLOATS) for _ in range(VECTORS)] for _ in range(ROWS)]
        at = b.mul(column, _I64(CENTERS))
        vectors = [self._load(centers, b.add(at, _I64(LANES * vector))) for vector in range(VECTORS)]
        results = []
        for row in range(ROWS):
            value = self._spread(b.load(b.gep(self.rows[row], [column])), _FLOATS)
            results.append([b.call(self.fma, [value, vectors[v], sums[row][v]]) for v in range(VECTORS)])
        following = b.add(column, _I64(1))
        column.add_incoming(following, b.block)
        for row in range(ROWS):
            for vector in range(VECTORS):
                sums[row][vector].add_incoming(initial[vector], before)
                sums[row][vector].add_incoming(results[row][vector], b.block)
        b.cbranch(b.icmp_signed("<", following, self.width), body, after)
        b.position_at_end(after)
        return results

    def _keep(self, panel: Any, products: list[list[Any]]) -> None:
        """Lane by lane, the larger of what was best and the products of this panel."""
        b = self.b
        first = b.mul(b.trunc(panel, _I32), _I32(VECTORS))
        for row in range(ROWS):
            top, place = b.load(self.top[row]), b.load(self.place[row])
            for vector in range(VECTORS):
                larger = b.fcmp_ordered(">", products[row][vector], top)
                top = b.select(larger, products[row][vector], top)
                place = b.select(larger, self._spread(b.add(first, _I32(vector)), _INTS), place)
            b.store(top, self.top[row])
            b.store(place, self.place[row])

    def _winner(self, row: int) -> Any:
        """The number of the best center among the lanes of a row."""
        b = self.b
        top, place = b.load(self.top[row]), b.load(self.place[row])
        largest = b.call(self._function(f"llvm.vector.reduce.fmax.v{LANES}f32", _F32, [_FLOATS]), [top])
        numbers = b.add(b.mul(place, ir.Constant(_INTS, [LANES] * LANES)), _EACH_LANE)
        candidates = b.select(b.fcmp_ordered("==", top, self._spread(largest, _FLOATS)), numbers, _LAST)
        return b.call(self._function(f"llvm.vector.reduce.smin.v{LANES}i32", _I32, [_INTS]), [candidates])

    def _load(self, start: Any, index: Any) -> Any:
        vector = self.b.load(self.b.bitcast(self.b.gep(start, [index]), _FLOATS.as_pointer()))
        vector.align = 4  # numpy promises no more
        return vector

    def _spread(self, value: Any, kind: Any) -> Any:
        """A vector with the same value in every lane."""
        nothing = ir.Constant(kind, ir.Undefined)
        return self.b.shuffle_vector(
            self.b.insert_element(nothing, value, _I32(0)), nothing, ir.Constant(_INTS, [0] * LANES)
        )

    def _function(self, name: str, result: Any, arguments: list[Any]) -> Any:
        return cgutils.get_or_insert_function(self.b.module, ir.FunctionType(result, arguments), name)
