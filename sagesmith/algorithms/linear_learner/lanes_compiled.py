"""What rows and the logistic loss need of sixteen float32 at once, beyond the words that other algorithms share.

    load_part(table, row, column) → those that the row has from there on, then zeros
    ask(table, row): the row is asked for from memory, to be there when it is read
    magnitude(x) → |x|                  reached(x, e) → 1 where x is at least 0, else e
    exponential(x) → exp(x), x <= 0     log1p(e) → log(1 + e), e in [0, 1]

exp(x) is 2^n times a polynomial of the rest, with 2^n made of its bits: 7 digits hold. NaN stays NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from sagesmith.algorithms import lanes as words
from sagesmith.algorithms.lanes_compiled import fma, lanes16, larger, spread16
from sagesmith.formats.compiled import inlined

_HALF, _ONE, _TWO = np.float32(0.5), np.float32(1), np.float32(2)
_WHOLE = np.float32(3 << 22)  # added to a small number, it leaves the nearest whole one in the last bits
_LOG2E, _LN2_HIGH, _LN2_LOW = np.float32(1.4426950408889634), np.float32(-0.693359375), np.float32(2.12194440e-4)
_LOWEST = np.float32(-87)  # exp of it is still a normal number
_C3, _C4, _C5, _C6, _C7 = (np.float32(1 / n) for n in (6, 24, 120, 720, 5040))  # Taylor's, for |x| <= ln(2) / 2
_L3, _L5, _L7, _L9, _L11 = (np.float32(1 / n) for n in (3, 5, 7, 9, 11))


@intrinsic  # type: ignore[untyped-decorator]
def load_part(_typing: Any, table: Any, row: Any, column: Any) -> Any:
    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        _, row, column = arguments
        width, kind = cgutils.unpack_tuple(builder, array.shape)[1], lanes16.vector
        ints = ir.VectorType(words.I64, kind.count)
        left = words.spread(builder, builder.sub(width, column), ints)
        mask = builder.icmp_signed("<", ir.Constant(ints, list(range(kind.count))), left)
        start = builder.gep(array.data, [builder.add(builder.mul(row, width), column)])
        given = [builder.bitcast(start, kind.as_pointer()), words.I32(4), mask, words.constant(0.0, kind)]
        return words.call(builder, f"llvm.masked.load.v{kind.count}f32.p0", kind, given)

    return lanes16(table, types.intp, types.intp), emit


@intrinsic  # type: ignore[untyped-decorator]
def ask(_typing: Any, table: Any, row: Any) -> Any:
    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        width = cgutils.unpack_tuple(builder, array.shape)[1]
        first = builder.gep(array.data, [builder.mul(arguments[1], width)])
        words.fetch(builder, first, builder.mul(width, words.I64(4)), written=False)
        return context.get_dummy_value()

    return types.void(table, types.intp), emit


@intrinsic  # type: ignore[untyped-decorator]
def magnitude(_typing: Any, value: Any) -> Any:
    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        kind = arguments[0].type
        return words.call(builder, f"llvm.fabs.v{kind.count}f32", kind, arguments)

    return value(value), emit


@intrinsic  # type: ignore[untyped-decorator]
def reached(_typing: Any, value: Any, other: Any) -> Any:
    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        kind = arguments[0].type
        below = builder.fcmp_ordered("<", arguments[0], words.constant(0.0, kind))
        return builder.select(below, arguments[1], words.constant(1.0, kind))

    return value(value, other), emit


@intrinsic  # type: ignore[untyped-decorator]
def _power(_typing: Any, value: Any) -> Any:
    """2^n of whole numbers n with _WHOLE added."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        kind = arguments[0].type
        ints = ir.VectorType(words.I32, kind.count)
        moved = builder.shl(builder.bitcast(arguments[0], ints), words.constant(23, ints))
        return builder.bitcast(builder.add(moved, words.constant(127 << 23, ints)), kind)

    return value(value), emit


@inlined
def exponential(x: Any) -> Any:
    x = larger(spread16(_LOWEST), x)
    raised = fma(x, spread16(_LOG2E), spread16(_WHOLE))
    n = raised - spread16(_WHOLE)
    r = fma(n, spread16(_LN2_LOW), fma(n, spread16(_LN2_HIGH), x))
    part = fma(r, spread16(_C7), spread16(_C6))
    part = fma(r, fma(r, fma(r, part, spread16(_C5)), spread16(_C4)), spread16(_C3))
    part = fma(r, fma(r, fma(r, part, spread16(_HALF)), spread16(_ONE)), spread16(_ONE))
    return part * _power(raised)


@inlined
def log1p(e: Any) -> Any:
    """As 2 artanh(e / (2 + e))."""
    s = e / (spread16(_TWO) + e)
    t = s * s
    part = fma(t, fma(t, spread16(_L11), spread16(_L9)), spread16(_L7))
    part = fma(t, fma(t, fma(t, part, spread16(_L5)), spread16(_L3)), spread16(_ONE))
    return (s + s) * part
