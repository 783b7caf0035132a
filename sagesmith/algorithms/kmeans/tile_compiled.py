"""tile: the innermost loop of k-means in vectors: a few rows against a panel of centers, all of it in registers.

For the nearest center only the largest of x.c - |c|^2 / 2 counts: a matrix product whose result is never stored. A BLAS
would write all n * K products to memory and read them again; here ROWS x (TOGETHER * LANES) of them are accumulators,
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
TOGETHER = 2  # panels of centers beside each other

_LOWEST = ir.Constant(FLOATS, [float("-inf")] * LANES)
_LAST = ir.Constant(INTS, [2**31 - 1] * LANES)


@intrinsic  # type: ignore[untyped-decorator]
def best_of_rows(typing: Any, rows: Any, width: Any, panels: Any, bias: Any, number: Any, best: Any) -> Any:
    """The center with the largest product + bias for each of ROWS rows; the first of those that are equal.

    Args:
        rows: (ROWS, width) float32, contiguous.
        panels: (number, width, LANES) float32, contiguous.
        bias: (number * LANES,) float32; -inf where there is no center.
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
        self.place = [cgutils.alloca_once(builder, INTS) for _ in range(ROWS)]  # the panel that it was in

    def write(self, number: Any, best: Any) -> None:
        for row in range(ROWS):
            self.b.store(_LOWEST, self.top[row])
            self.b.store(ir.Constant(INTS, [0] * LANES), self.place[row])
        whole = self.b.sdiv(number, I64(TOGETHER))
        with cgutils.for_range(self.b, whole) as loop:
            self._search(self.b.mul(loop.index, I64(TOGETHER)), TOGETHER)
        left = self.b.mul(whole, I64(TOGETHER))
        with self.b.if_then(self.b.icmp_signed("<", left, number)):
            self._search(left, 1)
        for row in range(ROWS):
            self.b.store(self._winner(row), self.b.gep(best, [I64(row)]))

    def _search(self, first: Any, number: int) -> None:
        """Looks at a few panels, from the first one on."""
        b = self.b
        begin = b.mul(first, I64(LANES))
        initial = [lanes.load(b, self.bias, b.add(begin, I64(LANES * panel))) for panel in range(number)]
        size = b.mul(self.width, I64(LANES))
        starts = [b.gep(self.panels, [b.mul(b.add(first, I64(panel)), size)]) for panel in range(number)]

        def body(column: Any, sums: list[Any]) -> list[Any]:
            at = b.mul(column, I64(LANES))
            vectors = [lanes.load(b, start, at) for start in starts]
            results = []
            for row in range(ROWS):
                value = lanes.spread(b, b.load(b.gep(self.rows[row], [column])))
                results += [lanes.fma(b, value, vectors[v], sums[row * number + v]) for v in range(number)]
            return results

        products = lanes.counted(b, self.width, initial * ROWS, body)
        for row in range(ROWS):
            self._keep(row, first, products[row * number : (row + 1) * number])

    def _keep(self, row: int, first: Any, products: list[Any]) -> None:
        """Lane by lane, the larger of what was best and the products with these panels."""
        b = self.b
        top, place = b.load(self.top[row]), b.load(self.place[row])
        for panel, product in enumerate(products):
            larger = b.fcmp_ordered(">", product, top)
            top = b.select(larger, product, top)
            place = b.select(larger, lanes.spread(b, b.trunc(b.add(first, I64(panel)), I32), INTS), place)
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
