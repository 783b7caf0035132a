"""The products of a step back in compiled code: of a block of columns, with their sums in registers.

The products of an LSTM's step are too small for a BLAS, and LLVM leaves sums over an inner loop in memory, where they
cost five times as much. The slopes of the weights are sums over columns. A register holds sixteen inputs of one column
for that, so the inputs are transposed first; sums of sixteen columns each would have to be added across a register.

    turn(source, turned): turned[b, k] = source[k, b]
    add_outer(slopes, turned, total): total[j, k] += Σ_b slopes[j, b] turned[b, k]
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from sagesmith.algorithms import lanes as words
from sagesmith.algorithms.lanes import I32, I64
from sagesmith.algorithms.lanes_compiled import lanes16
from sagesmith.formats.compiled import compiled

WIDTH = 16
ROWS = 4  # of a tile of sums
MOST = 6  # vectors of sixteen that its rows have at most: 24 sums, six inputs and a slope fill the 32 registers


@intrinsic  # type: ignore[untyped-decorator]
def _turn_tile(_typing: Any, source: Any, row: Any, column: Any, turned: Any) -> Any:
    """Sixteen rows and columns: halves, quarters, pairs and neighbours change places in turn."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        whole, row, column, target = arguments
        taken = context.make_array(signature.args[0])(context, builder, whole)
        given = context.make_array(signature.args[3])(context, builder, target)

        def place(array: Any, row: Any, column: Any) -> Any:
            return builder.add(builder.mul(row, cgutils.unpack_tuple(builder, array.shape)[1]), column)

        lines = [
            words.load(builder, taken.data, place(taken, builder.add(row, I64(k)), column), lanes16.vector)
            for k in range(WIDTH)
        ]
        kind = ir.VectorType(I32, WIDTH)
        step = WIDTH // 2
        while step:
            near = [lane if not lane & step else WIDTH + lane - step for lane in range(WIDTH)]
            far = [lane + step if not lane & step else WIDTH + lane for lane in range(WIDTH)]
            for k in range(WIDTH):
                if not k & step:
                    one, two = lines[k], lines[k + step]
                    lines[k] = builder.shuffle_vector(one, two, ir.Constant(kind, near))
                    lines[k + step] = builder.shuffle_vector(one, two, ir.Constant(kind, far))
            step //= 2
        for b, line in enumerate(lines):
            words.store(builder, line, given.data, place(given, builder.add(column, I64(b)), row))
        return context.get_dummy_value()

    return types.void(source, types.intp, types.intp, turned), emit


@compiled
def turn(source: Any, turned: Any) -> None:
    """turned[b, k] = source[k, b], C-contiguous float32; both lengths are multiples of 16."""
    for k in range(0, source.shape[0], WIDTH):
        for b in range(0, source.shape[1], WIDTH):
            _turn_tile(source, k, b, turned)


def _adding(vectors: int) -> Any:
    """The intrinsic for tiles of four rows of so many times 16 inputs."""

    @intrinsic  # type: ignore[untyped-decorator]
    def added(_typing: Any, slopes: Any, turned: Any, total: Any, row: Any, first: Any) -> Any:
        taken = types.void(slopes, turned, total, types.intp, types.intp)

        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            slopes, turned, total = (
                context.make_array(signature.args[at])(context, builder, arguments[at]) for at in range(3)
            )
            row, first = arguments[3:]
            columns, wide = (cgutils.unpack_tuple(builder, array.shape)[1] for array in (slopes, turned))
            lines = [builder.add(row, I64(r)) for r in range(ROWS)]
            starts = [builder.mul(line, columns) for line in lines]
            places = [
                builder.add(builder.add(builder.mul(line, wide), first), I64(v * WIDTH))
                for line in lines
                for v in range(vectors)
            ]

            def body(b: Any, found: list[Any]) -> list[Any]:
                at = builder.add(builder.mul(b, wide), first)
                inputs = [
                    words.load(builder, turned.data, builder.add(at, I64(v * WIDTH)), lanes16.vector)
                    for v in range(vectors)
                ]
                further = []
                for r, start in enumerate(starts):
                    slope = builder.load(builder.gep(slopes.data, [builder.add(start, b)]))
                    slope = words.spread(builder, slope, lanes16.vector)
                    for v in range(vectors):
                        product = builder.fmul(slope, inputs[v], flags=("contract",))
                        further.append(builder.fadd(product, found[r * vectors + v], flags=("contract",)))
                return further

            before = [words.load(builder, total.data, place, lanes16.vector) for place in places]
            for place, value in zip(places, words.counted(builder, I64(0), columns, before, body), strict=True):
                words.store(builder, value, total.data, place)
            return context.get_dummy_value()

        return taken, emit

    return added


_one, _two, _three, _four, _five, _six = (_adding(vectors) for vectors in range(1, MOST + 1))


@compiled
def add_outer(slopes: Any, turned: Any, total: Any) -> None:
    """total[j, k] += Σ_b slopes[j, b] turned[b, k].

    slopes (J, W), turned (W, K), total (J, K), C-contiguous float32; J is a multiple of 4, K of 16.
    """
    vectors = turned.shape[1] // WIDTH
    parts = -(-vectors // MOST)
    for part in range(parts):
        first, last = vectors * part // parts, vectors * (part + 1) // parts
        wide, at = last - first, first * WIDTH
        for j in range(0, slopes.shape[0], ROWS):
            if wide == 6:
                _six(slopes, turned, total, j, at)
            elif wide == 5:
                _five(slopes, turned, total, j, at)
            elif wide == 4:
                _four(slopes, turned, total, j, at)
            elif wide == 3:
                _three(slopes, turned, total, j, at)
            elif wide == 2:
                _two(slopes, turned, total, j, at)
            else:
                _one(slopes, turned, total, j, at)
