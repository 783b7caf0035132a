"""Lanes: eight float32 at once in compiled code, as one value that can be added, multiplied and stored.

LLVM turns loops of unknown length into vector code only from about 32 turns on, and a factorization machine of rank 8
has loops of 8. A `Lanes` is LLVM's `<8 x float>`: one register with AVX, two with SSE or NEON. No operation is fused or
reordered, so that the same numbers come out on every processor.

    load(table, row, column) → Lanes        store(table, row, column, lanes)
    spread(x) → Lanes of eight x            total(lanes) → their sum, float32
    root(lanes), clipped(lanes, limit)      +, -, *, / between two Lanes
    larger(lanes, lanes)
    soon(table, row): the row is asked for from memory, to be there when it is loaded
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

LANES = 8
_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_INT, _WORD = ir.IntType(32), ir.IntType(64)
_BYTES = ir.IntType(8).as_pointer()
_FLOAT, _LINE = 4, 64  # bytes of a number and of a cache line
_ALIGNMENT = 4  # bytes: NumPy promises no more than that of a float


class LanesType(types.Type):  # type: ignore[misc]
    """The type of a `Lanes` in compiled code; it never leaves it."""

    def __init__(self) -> None:
        super().__init__(name="Lanes")


lanes = LanesType()


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR)


@intrinsic  # type: ignore[untyped-decorator]
def load(_typing: Any, table: Any, row: Any, column: Any) -> Any:
    """The eight numbers from `column` on in a row of a C-contiguous (n, m) float32 table; m is a multiple of 8."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_address(context, builder, signature.args[0], *arguments), align=_ALIGNMENT)

    return lanes(table, types.intp, types.intp), emit


@intrinsic  # type: ignore[untyped-decorator]
def store(_typing: Any, table: Any, row: Any, column: Any, value: Any) -> Any:
    """Puts eight numbers where `load` would find them."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        *place, numbers = arguments
        builder.store(numbers, _address(context, builder, signature.args[0], *place), align=_ALIGNMENT)
        return context.get_dummy_value()

    return types.void(table, types.intp, types.intp, lanes), emit


@intrinsic  # type: ignore[untyped-decorator]
def soon(_typing: Any, table: Any, row: Any) -> Any:
    """Asks for a row of a C-contiguous table (or a number of a vector) from memory, before it is needed."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        width = cgutils.unpack_tuple(builder, array.shape)[1] if array.shape.type.count == 2 else ir.Constant(_WORD, 1)
        first = builder.bitcast(builder.gep(array.data, [builder.mul(arguments[1], width)]), _BYTES)
        kind = ir.FunctionType(ir.VoidType(), [_BYTES, _INT, _INT, _INT])
        fetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        size = builder.mul(width, ir.Constant(width.type, _FLOAT))
        with cgutils.for_range_slice(builder, ir.Constant(width.type, 0), size, ir.Constant(width.type, _LINE)) as (
            at,
            _,
        ):
            builder.call(fetch, [builder.gep(first, [at]), *(ir.Constant(_INT, flag) for flag in (1, 3, 1))])
        return context.get_dummy_value()

    return types.void(table, types.intp), emit


def _address(context: Any, builder: Any, kind: Any, table: Any, row: Any, column: Any) -> Any:
    array = context.make_array(kind)(context, builder, table)
    width = cgutils.unpack_tuple(builder, array.shape)[1]
    first = builder.gep(array.data, [builder.add(builder.mul(row, width), column)])
    return builder.bitcast(first, _VECTOR.as_pointer())


@intrinsic  # type: ignore[untyped-decorator]
def spread(_typing: Any, number: Any) -> Any:
    """Eight times the same float32."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        one = builder.insert_element(_unknown(_VECTOR), arguments[0], ir.Constant(_INT, 0))
        return builder.shuffle_vector(one, _unknown(_VECTOR), _places([0] * LANES))

    return lanes(types.float32), emit


@intrinsic  # type: ignore[untyped-decorator]
def total(_typing: Any, value: Any) -> Any:
    """The sum of the eight, added in halves."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        vector, count = arguments[0], LANES
        while count > 2:
            count //= 2
            halves = [_places(range(start, start + count)) for start in (0, count)]
            vector = builder.fadd(*(builder.shuffle_vector(vector, _unknown(vector.type), half) for half in halves))
        return builder.fadd(*(builder.extract_element(vector, ir.Constant(_INT, place)) for place in (0, 1)))

    return types.float32(lanes), emit


def _unknown(kind: Any) -> Any:
    return ir.Constant(kind, ir.Undefined)


def _places(places: Any) -> Any:
    listed = list(places)
    return ir.Constant(ir.VectorType(_INT, len(listed)), listed)


@intrinsic  # type: ignore[untyped-decorator]
def root(_typing: Any, value: Any) -> Any:
    """Square roots."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(_VECTOR, [_VECTOR])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.sqrt.v{LANES}f32"), arguments)

    return lanes(lanes), emit


@intrinsic  # type: ignore[untyped-decorator]
def clipped(_typing: Any, value: Any, limit: Any) -> Any:
    """The numbers brought into [-limit, limit]; NaN stays."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        numbers, high = arguments
        low = builder.fneg(high)
        numbers = builder.select(builder.fcmp_ordered(">", numbers, high), high, numbers)
        return builder.select(builder.fcmp_ordered("<", numbers, low), low, numbers)

    return lanes(lanes, lanes), emit


@intrinsic  # type: ignore[untyped-decorator]
def larger(_typing: Any, one: Any, two: Any) -> Any:
    """The larger of two numbers, eight times; the second where the first is NaN."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", *arguments), *arguments)

    return lanes(lanes, lanes), emit


def _define(symbol: Any, instruction: str) -> None:
    """Teaches the compiler an operator between two Lanes."""

    class Typed(ConcreteTemplate):  # type: ignore[misc]
        cases = [signature(lanes, lanes, lanes)]

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return getattr(builder, instruction)(*arguments)

    infer_global(symbol)(Typed)
    lower_builtin(symbol, LanesType, LanesType)(emit)


_define(operator.add, "fadd")
_define(operator.sub, "fsub")
_define(operator.mul, "fmul")
_define(operator.truediv, "fdiv")
