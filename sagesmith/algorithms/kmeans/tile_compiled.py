"""tile: the innermost loop of k-means in vectors: a few rows against a panel of centers, all of it in registers.

For the nearest center only the largest of x.c - |c|^2 / 2 counts: a matrix product whose result is never stored. A BLAS
would write all n * K products to memory and read them again; here ROWS x (TOGETHER * LANES) of them are accumulators,
as in Goto and van de Geijn, Anatomy of High-Performance Matrix Multiplication, TOMS 34 (2008), section 5, and only the
best of each row is kept. Columns in which all ROWS rows are 0, as at the edges of pictures, are passed over.
"""

from __future__ import annotations

import functools
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types
from numba.extending import intrinsic

from sagesmith.algorithms import lanes
from sagesmith.algorithms.lanes import EACH_LANE, F32, FLOATS, I32, I64, INTS, LANES, WIDE

ROWS = 8 if WIDE else 6  # 16 accumulators of 32 registers, or 12 of 16
ALL_LANES = (1 << LANES) - 1
TOGETHER = 2  # panels of centers beside each other

_LOWEST = ir.Constant(FLOATS, [float("-inf")] * LANES)
_LAST = ir.Constant(INTS, [2**31 - 1] * LANES)


@intrinsic  # type: ignore[untyped-decorator]
def best_of_rows(typing: Any, rows: Any, apart: Any, runs: Any, number: Any, panels: Any, bias: Any, best: Any) -> Any:
    """The center with the largest product + bias for each of ROWS rows; the first of those that are equal.

    Args:
        rows: float32, contiguous; `apart` (int64) elements lie between the beginnings of two rows.
        runs: (r, 2) int64; the first `number` (int64), at least one, are where columns begin and end that are
            multiplied; each has a column at least.
        panels: (p, width, LANES) float32, contiguous.
        bias: (p * LANES,) float32; -inf where there is no center.
        best: (ROWS,) int32, filled.
    """
    signature = types.void(rows, types.int64, runs, types.int64, panels, bias, best)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = {}
        for at in (0, 2, 4, 5, 6):
            array[at] = context.make_array(signature.args[at])(context, builder, arguments[at])
        found = array[2].data, arguments[3]
        wide, width, _ = cgutils.unpack_tuple(builder, array[4].shape)
        tile = _Tile(builder, array[0].data, arguments[1], found, array[4].data, width, array[5].data)
        with builder.if_else(builder.icmp_signed("==", arguments[3], I64(1))) as (one, several):
            with one:  # a loop less
                tile.write(wide, array[6].data, nested=False)
            with several:
                tile.write(wide, array[6].data, nested=True)
        return context.get_dummy_value()

    return signature, generate


@intrinsic  # type: ignore[untyped-decorator]
def filled_columns(typing: Any, rows: Any, apart: Any, width: Any, filled: Any) -> Any:
    """Which of the first `width` (int64) columns are not 0 in one of ROWS rows at least.

    Args:
        rows: float32, contiguous; `apart` (int64) elements lie between the beginnings of two rows.
        filled: (blocks of LANES columns,) int64, filled: a bit for each column, the first one lowest.
    """
    signature = types.void(rows, types.int64, types.int64, filled)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        start, out = (context.make_array(signature.args[at])(context, builder, arguments[at]).data for at in (0, 3))
        starts = [builder.gep(start, [builder.mul(I64(row), arguments[1])]) for row in range(ROWS)]
        whole = builder.mul(builder.sdiv(arguments[2], I64(LANES)), I64(LANES))

        def look(first: Any, vectors: list[Any]) -> None:
            bits = [builder.bitcast(vector, INTS) for vector in vectors]
            some = builder.icmp_unsigned("!=", functools.reduce(builder.or_, bits), ir.Constant(INTS, [0] * LANES))
            mask = builder.zext(builder.bitcast(some, ir.IntType(LANES)), I64)
            builder.store(mask, builder.gep(out, [builder.sdiv(first, I64(LANES))]))

        with cgutils.for_range_slice(builder, I64(0), whole, I64(LANES)) as (first, _):
            look(first, [lanes.load(builder, start, first) for start in starts])
        left = builder.sub(arguments[2], whole)
        with builder.if_then(builder.icmp_signed(">", left, I64(0))):
            look(whole, [lanes.load_first(builder, start, whole, left) for start in starts])
        return context.get_dummy_value()

    return signature, generate


class _Tile:
    """Writes the loop: over panels, in each over columns, at the end over the lanes of a vector."""

    def __init__(
        self, builder: Any, rows: Any, apart: Any, runs: tuple[Any, Any], panels: Any, width: Any, bias: Any
    ) -> None:
        self.b, self.runs, self.panels, self.bias = builder, runs, panels, bias
        self.size = builder.mul(width, I64(LANES))
        self.rows = [builder.gep(rows, [builder.mul(I64(row), apart)]) for row in range(ROWS)]
        self.top = [cgutils.alloca_once(builder, FLOATS) for _ in range(ROWS)]  # the largest in each lane so far
        self.place = [cgutils.alloca_once(builder, INTS) for _ in range(ROWS)]  # the panel that it was in

    def write(self, number: Any, best: Any, nested: bool) -> None:
        for row in range(ROWS):
            self.b.store(_LOWEST, self.top[row])
            self.b.store(ir.Constant(INTS, [0] * LANES), self.place[row])
        whole = self.b.sdiv(number, I64(TOGETHER))
        with cgutils.for_range(self.b, whole) as loop:
            self._search(self.b.mul(loop.index, I64(TOGETHER)), TOGETHER, nested)
        left = self.b.mul(whole, I64(TOGETHER))
        with self.b.if_then(self.b.icmp_signed("<", left, number)):
            self._search(left, 1, nested)
        for row in range(ROWS):
            self.b.store(self._winner(row), self.b.gep(best, [I64(row)]))

    def _search(self, first: Any, number: int, nested: bool) -> None:
        """Looks at a few panels, from the first one on."""
        b = self.b
        begin = b.mul(first, I64(LANES))
        initial = [lanes.load(b, self.bias, b.add(begin, I64(LANES * panel))) for panel in range(number)]
        starts = [b.gep(self.panels, [b.mul(b.add(first, I64(panel)), self.size)]) for panel in range(number)]

        def multiply(column: Any, sums: list[Any]) -> list[Any]:
            at = b.mul(column, I64(LANES))
            vectors = [lanes.load(b, start, at) for start in starts]
            results = []
            for row in range(ROWS):
                value = lanes.spread(b, b.load(b.gep(self.rows[row], [column])))
                results += [lanes.fma(b, value, vectors[v], sums[row * number + v]) for v in range(number)]
            return results

        def run(index: Any, sums: list[Any]) -> list[Any]:
            begin, end = (b.load(b.gep(self.runs[0], [b.add(b.mul(index, I64(2)), I64(at))])) for at in (0, 1))
            return lanes.counted(b, begin, end, sums, multiply)

        sums = initial * ROWS
        products = lanes.counted(b, I64(0), self.runs[1], sums, run) if nested else run(I64(0), sums)
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
