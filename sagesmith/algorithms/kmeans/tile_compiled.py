"""tile: the innermost loop of k-means in vectors: a few rows against a panel of centers, all of it in registers.

For the nearest center only the largest of x.c - |c|^2 / 2 counts: a matrix product whose result is never stored. A BLAS
would write all n * K products to memory and read them again; here ROWS x CENTERS of them are accumulators in registers,
as in Goto and van de Geijn, Anatomy of High-Performance Matrix Multiplication, TOMS 34 (2008), section 5, and only the
best of each row is kept.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types
from numba.extending import intrinsic

from sagesmith.algorithms import lanes
from sagesmith.algorithms.lanes import EACH_LANE, F32, FLOATS, I32, I64, INTS, LANES, WIDE

ROWS = 8 if WIDE else 6  # 16 accumulators of 32 registers, or 12 of 16
VECTORS = 2  # vectors of centers beside each other
CENTERS = LANES * VECTORS  # in a panel

_LOWEST = ir.Constant(FLOATS, [float("-inf")] * LANES)
_LAST = ir.Constant(INTS, [2**31 - 1] * LANES)


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
        self.rows = [builder.gep(rows, [builder.mul(I64(row), width)]) for row in range(ROWS)]
        self.top = [cgutils.alloca_once(builder, FLOATS) for _ in range(ROWS)]  # the largest in each lane so far
        self.place = [cgutils.alloca_once(builder, INTS) for _ in range(ROWS)]  # the vector that it was in

    def write(self, number: Any, best: Any) -> None:
        for row in range(ROWS):
            self.b.store(_LOWEST, self.top[row])
            self.b.store(ir.Constant(INTS, [0] * LANES), self.place[row])
        with cgutils.for_range(self.b, number) as loop:
            self._keep(loop.index, self._products(loop.index))
        for row in range(ROWS):
            self.b.store(self._winner(row), self.b.gep(best, [I64(row)]))

    def _products(self, panel: Any) -> list[list[Any]]:
        """bias + rows . centers for one panel, [row][vector]."""
        b = self.b
        first = b.mul(panel, I64(CENTERS))
        centers = b.gep(self.panels, [b.mul(first, self.width)])
        initial = [lanes.load(b, self.bias, b.add(first, I64(LANES * vector))) for vector in range(VECTORS)]

        def body(column: Any, sums: list[Any]) -> list[Any]:
            at = b.mul(column, I64(CENTERS))
            vectors = [lanes.load(b, centers, b.add(at, I64(LANES * vector))) for vector in range(VECTORS)]
            results = []
            for row in range(ROWS):
                value = lanes.spread(b, b.load(b.gep(self.rows[row], [column])))
                results += [lanes.fma(b, value, vectors[v], sums[row * VECTORS + v]) for v in range(VECTORS)]
            return results

        flat = lanes.counted(b, self.width, initial * ROWS, body)
        return [flat[row * VECTORS : (row + 1) * VECTORS] for row in range(ROWS)]

    def _keep(self, panel: Any, products: list[list[Any]]) -> None:
        """Lane by lane, the larger of what was best and the products of this panel."""
        b = self.b
        first = b.mul(b.trunc(panel, I32), I32(VECTORS))
        for row in range(ROWS):
            top, place = b.load(self.top[row]), b.load(self.place[row])
            for vector in range(VECTORS):
                larger = b.fcmp_ordered(">", products[row][vector], top)
                top = b.select(larger, products[row][vector], top)
                place = b.select(larger, lanes.spread(b, b.add(first, I32(vector)), INTS), place)
            b.store(top, self.top[row])
            b.store(place, self.place[row])

    def _winner(self, row: int) -> Any:
        """The number of the best center among the lanes of a row."""
        b = self.b
        top, place = b.load(self.top[row]), b.load(self.place[row])
        largest = lanes.call(b, f"llvm.vector.reduce.fmax.v{LANES}f32", F32, [top])
        numbers = b.add(b.mul(place, ir.Constant(INTS, [LANES] * LANES)), EACH_LANE)
        candidates = b.select(b.fcmp_ordered("==", top, lanes.spread(b, largest)), numbers, _LAST)
        return lanes.call(b, f"llvm.vector.reduce.smin.v{LANES}i32", I32, [candidates])
