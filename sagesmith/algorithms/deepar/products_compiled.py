"""Small matrix products in compiled code, with their sums in registers.

The products of an LSTM's step are too small for a BLAS, and LLVM leaves sums over an inner loop in memory, where they
cost five times as much. A `Wide` is LLVM's `<16 x float>`: a register of AVX-512, two of AVX2.

    add_product(weights, source, target, begin, end): target[j, b] += Σ_k weights[k, j] source[k, b]
    add_outer(source, slopes, total, begin, end): total[k, j] += Σ_t Σ_b source[t, k, b] slopes[t, j, b]
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

from sagesmith.formats.compiled import compiled, inlined

WIDTH = 16
_VECTOR = ir.VectorType(ir.FloatType(), WIDTH)
_ALIGNMENT = 4  # bytes: NumPy promises no more than that of a float


class WideType(types.Type):  # type: ignore[misc]
    """The type of a `Wide` in compiled code; it never leaves it."""

    def __init__(self) -> None:
        super().__init__(name="Wide")


wide = WideType()


@register_model(WideType)
class _WideModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR)


@intrinsic  # type: ignore[untyped-decorator]
def load(_typing: Any, table: Any, row: Any, column: Any) -> Any:
    """Sixteen numbers of a row of a C-contiguous float32 table."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_address(context, builder, signature.args[0], *arguments), align=_ALIGNMENT)

    return wide(table, types.intp, types.intp), emit


@intrinsic  # type: ignore[untyped-decorator]
def store(_typing: Any, table: Any, row: Any, column: Any, value: Any) -> Any:
    """Puts sixteen numbers where `load` would find them."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        *place, numbers = arguments
        builder.store(numbers, _address(context, builder, signature.args[0], *place), align=_ALIGNMENT)
        return context.get_dummy_value()

    return types.void(table, types.intp, types.intp, wide), emit


@intrinsic  # type: ignore[untyped-decorator]
def plus(_typing: Any, total: Any, number: Any, value: Any) -> Any:
    """total + number · value, where the processor can in one operation."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        total, number, value = arguments
        unknown, zero = ir.Constant(_VECTOR, ir.Undefined), ir.Constant(ir.IntType(32), 0)
        one = builder.insert_element(unknown, number, zero)
        same = builder.shuffle_vector(one, unknown, ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH))
        product = builder.fmul(same, value, flags=("contract",))
        return builder.fadd(total, product, flags=("contract",))

    return wide(wide, types.float32, wide), emit


@intrinsic  # type: ignore[untyped-decorator]
def nothing(_typing: Any) -> Any:
    """Sixteen zeros."""

    def emit(_context: Any, _builder: Any, _signature: Any, _arguments: Any) -> Any:
        return ir.Constant(_VECTOR, [0.0] * WIDTH)

    return wide(), emit


@intrinsic  # type: ignore[untyped-decorator]
def plus_each(_typing: Any, total: Any, value: Any, other: Any) -> Any:
    """total + value · other, number by number."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        total, value, other = arguments
        product = builder.fmul(value, other, flags=("contract",))
        return builder.fadd(total, product, flags=("contract",))

    return wide(wide, wide, wide), emit


@intrinsic  # type: ignore[untyped-decorator]
def whole(_typing: Any, value: Any) -> Any:
    """The sum of the sixteen, added in halves."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        vector, count = arguments[0], WIDTH
        while count > 1:
            count //= 2
            unknown = ir.Constant(vector.type, ir.Undefined)
            kind = ir.VectorType(ir.IntType(32), count)
            halves = [ir.Constant(kind, list(range(start, start + count))) for start in (0, count)]
            vector = builder.fadd(*(builder.shuffle_vector(vector, unknown, half) for half in halves))
        return builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))

    return types.float32(wide), emit


@intrinsic  # type: ignore[untyped-decorator]
def load_deep(_typing: Any, table: Any, step: Any, row: Any, column: Any) -> Any:
    """Sixteen numbers of a row of a C-contiguous (T, J, B) float32 array."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        _, rows, width = cgutils.unpack_tuple(builder, array.shape)
        line = builder.add(builder.mul(arguments[1], rows), arguments[2])
        first = builder.gep(array.data, [builder.add(builder.mul(line, width), arguments[3])])
        return builder.load(builder.bitcast(first, _VECTOR.as_pointer()), align=_ALIGNMENT)

    return wide(table, types.intp, types.intp, types.intp), emit


def _address(context: Any, builder: Any, kind: Any, table: Any, row: Any, column: Any) -> Any:
    array = context.make_array(kind)(context, builder, table)
    width = cgutils.unpack_tuple(builder, array.shape)[1]
    first = builder.gep(array.data, [builder.add(builder.mul(row, width), column)])
    return builder.bitcast(first, _VECTOR.as_pointer())


@compiled
def add_product(weights: Any, source: Any, target: Any, begin: Any, end: Any) -> None:
    """target[j, b] += Σ_k weights[k, j] source[k, b] for the columns b of a range, a multiple of 16 of them.

    weights (K, J), source (K, B), target (J, B), C-contiguous float32.
    """
    terms, rows = weights.shape
    pairs = begin + (end - begin) // (2 * WIDTH) * 2 * WIDTH
    quads = rows // 4 * 4
    for b in range(begin, pairs, 2 * WIDTH):
        far = b + WIDTH
        for j in range(0, quads, 4):
            p0, p1, p2, p3 = load(target, j, b), load(target, j + 1, b), load(target, j + 2, b), load(target, j + 3, b)
            q0, q1 = load(target, j, far), load(target, j + 1, far)
            q2, q3 = load(target, j + 2, far), load(target, j + 3, far)
            for k in range(terms):
                near, other = load(source, k, b), load(source, k, far)
                a0, a1, a2, a3 = weights[k, j], weights[k, j + 1], weights[k, j + 2], weights[k, j + 3]
                p0, p1, p2, p3 = plus(p0, a0, near), plus(p1, a1, near), plus(p2, a2, near), plus(p3, a3, near)
                q0, q1, q2, q3 = plus(q0, a0, other), plus(q1, a1, other), plus(q2, a2, other), plus(q3, a3, other)
            store(target, j, b, p0)
            store(target, j + 1, b, p1)
            store(target, j + 2, b, p2)
            store(target, j + 3, b, p3)
            store(target, j, far, q0)
            store(target, j + 1, far, q1)
            store(target, j + 2, far, q2)
            store(target, j + 3, far, q3)
        _single(weights, source, target, quads, rows, b)
        _single(weights, source, target, quads, rows, far)
    for b in range(pairs, end, WIDTH):
        _single(weights, source, target, 0, rows, b)


@inlined
def _single(weights: Any, source: Any, target: Any, first: Any, last: Any, b: Any) -> None:
    """The rows `first` to `last` of sixteen columns."""
    for j in range(first, last):
        total = load(target, j, b)
        for k in range(weights.shape[0]):
            total = plus(total, weights[k, j], load(source, k, b))
        store(target, j, b, total)


STEPS = 8  # whose numbers stay in the cache while all pairs of rows are gone through


@compiled
def add_outer(source: Any, slopes: Any, total: Any, begin: Any, end: Any) -> None:
    """total[k, j] += Σ_t Σ_b source[t, k, b] slopes[t, j, b] for the columns b of a range, a multiple of 16 of them.

    source (T, K, B), slopes (T, J, B), total (K, J), C-contiguous float32; J is a multiple of 4.
    """
    steps, terms, rows = slopes.shape[0], source.shape[1], slopes.shape[1]
    quads = terms // 4 * 4
    for at in range(0, steps, STEPS):
        last = min(at + STEPS, steps)
        for k in range(0, quads, 4):
            for j in range(0, rows, 4):
                _outer_tile(source, slopes, total, at, last, k, j, begin, end)
        for k in range(quads, terms):
            for j in range(rows):
                found = nothing()
                for t in range(at, last):
                    for b in range(begin, end, WIDTH):
                        found = plus_each(found, load_deep(source, t, k, b), load_deep(slopes, t, j, b))
                total[k, j] += whole(found)


@inlined
def _outer_tile(
    source: Any, slopes: Any, total: Any, first: Any, last: Any, k: Any, j: Any, begin: Any, end: Any
) -> None:
    """Four rows by four."""
    a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = c0 = c1 = c2 = c3 = d0 = d1 = d2 = d3 = nothing()
    for t in range(first, last):
        for b in range(begin, end, WIDTH):
            w, x = load_deep(source, t, k, b), load_deep(source, t, k + 1, b)
            y, z = load_deep(source, t, k + 2, b), load_deep(source, t, k + 3, b)
            s = load_deep(slopes, t, j, b)
            a0, b0, c0, d0 = plus_each(a0, w, s), plus_each(b0, x, s), plus_each(c0, y, s), plus_each(d0, z, s)
            s = load_deep(slopes, t, j + 1, b)
            a1, b1, c1, d1 = plus_each(a1, w, s), plus_each(b1, x, s), plus_each(c1, y, s), plus_each(d1, z, s)
            s = load_deep(slopes, t, j + 2, b)
            a2, b2, c2, d2 = plus_each(a2, w, s), plus_each(b2, x, s), plus_each(c2, y, s), plus_each(d2, z, s)
            s = load_deep(slopes, t, j + 3, b)
            a3, b3, c3, d3 = plus_each(a3, w, s), plus_each(b3, x, s), plus_each(c3, y, s), plus_each(d3, z, s)
    for row, (e, f, g, h) in enumerate(((a0, a1, a2, a3), (b0, b1, b2, b3), (c0, c1, c2, c3), (d0, d1, d2, d3))):
        total[k + row, j] += whole(e)
        total[k + row, j + 1] += whole(f)
        total[k + row, j + 2] += whole(g)
        total[k + row, j + 3] += whole(h)
