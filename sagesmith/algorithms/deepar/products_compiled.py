"""Small matrix products in compiled code, with their sums in registers.

The products of an LSTM's step are too small for a BLAS, and LLVM leaves sums over an inner loop in memory, where they
cost five times as much. A `Wide` is LLVM's `<16 x float>`: a register of AVX-512, two of AVX2.

    add_product(weights, source, target, begin, end): target[j, b] += Σ_k weights[k, j] source[k, b]
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

from sagesmith.formats.compiled import inlined

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


def _address(context: Any, builder: Any, kind: Any, table: Any, row: Any, column: Any) -> Any:
    array = context.make_array(kind)(context, builder, table)
    width = cgutils.unpack_tuple(builder, array.shape)[1]
    first = builder.gep(array.data, [builder.add(builder.mul(row, width), column)])
    return builder.bitcast(first, _VECTOR.as_pointer())


@inlined
def add_product(weights, source, target, begin, end):
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
def _single(weights, source, target, first, last, b):
    """The rows `first` to `last` of sixteen columns."""
    for j in range(first, last):
        total = load(target, j, b)
        for k in range(weights.shape[0]):
            total = plus(total, weights[k, j], load(source, k, b))
        store(target, j, b, total)
