"""Lanes: eight, sixteen or 64 float32 at once in compiled code, as one value that can be added, multiplied and stored.

LLVM turns loops of unknown length into vector code only from about 32 turns on, and a factorization machine of rank 8,
or an LDA of 20 topics, has shorter ones; and it leaves sums over an inner loop in memory, where they cost five times as
much. A `Lanes` is LLVM's `<8 x float>` or its like: one register or several, whatever the processor has. No operation
is reordered, and none but `fma` is fused, so that without it the same numbers come out on every processor.

numba's cache looks only at the file of the function that it compiles: after a change here, touch the files that import
this one, or clear their `__pycache__`, or old code runs on.

    load(table, row, column) → eight        load16, spread16, nothing16: the same, of sixteen;
    load64, nothing64: of 64, four or eight registers, which keep that many sums apart
    spread(x) → eight x                     store(table, row, column, lanes)
    total(lanes) → their sum, float32       fma(a, b, c) → a * b + c
    root(lanes), clipped(lanes, limit)      larger(lanes, lanes); +, -, *, / between two Lanes
    above(lanes) → bits, passed(bits, lanes): 64 signs in one number, and the lanes where they are set, else 0
    soon(table, row): the row is asked for from memory, to be there when it is loaded
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

from sagesmith.algorithms import lanes as words
from sagesmith.algorithms.lanes import F32, I64

LANES = 8
FLOAT = 4  # bytes


class LanesType(types.Type):  # type: ignore[misc]
    """The type of a `Lanes` of so many numbers in compiled code; it never leaves it."""

    def __init__(self, count: int) -> None:
        super().__init__(name=f"Lanes{count}")
        self.vector = ir.VectorType(F32, count)


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, kind.vector)


lanes, lanes16, lanes64 = LanesType(LANES), LanesType(2 * LANES), LanesType(8 * LANES)


def _loading(kind: LanesType) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def load(_typing: Any, table: Any, row: Any, column: Any) -> Any:
        """The numbers from `column` on in a row of a C-contiguous (n, m) float32 table; m is a multiple of theirs."""

        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return words.load(builder, *_place(context, builder, signature.args[0], *arguments), kind.vector)

        return kind(table, types.intp, types.intp), emit

    return load


def _spreading(kind: LanesType) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def spread(_typing: Any, number: Any) -> Any:
        """The same float32 in every lane."""

        def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            return words.spread(builder, arguments[0], kind.vector)

        return kind(types.float32), emit

    return spread


load, load16, load64 = _loading(lanes), _loading(lanes16), _loading(lanes64)
spread, spread16 = _spreading(lanes), _spreading(lanes16)


def _clearing(kind: LanesType) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def nothing(_typing: Any) -> Any:
        """Zeros."""

        def emit(_context: Any, _builder: Any, _signature: Any, _arguments: Any) -> Any:
            return words.constant(0.0, kind.vector)

        return kind(), emit

    return nothing


nothing16, nothing64 = _clearing(lanes16), _clearing(lanes64)


@intrinsic  # type: ignore[untyped-decorator]
def store(_typing: Any, table: Any, row: Any, column: Any, value: Any) -> Any:
    """Puts numbers where `load` would find them."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        *place, numbers = arguments
        words.store(builder, numbers, *_place(context, builder, signature.args[0], *place))
        return context.get_dummy_value()

    return types.void(table, types.intp, types.intp, value), emit


def _place(context: Any, builder: Any, kind: Any, table: Any, row: Any, column: Any) -> tuple[Any, Any]:
    array = context.make_array(kind)(context, builder, table)
    width = cgutils.unpack_tuple(builder, array.shape)[1]
    return array.data, builder.add(builder.mul(row, width), column)


@intrinsic  # type: ignore[untyped-decorator]
def soon(_typing: Any, table: Any, row: Any) -> Any:
    """Asks for a row of a C-contiguous table (or a number of a vector) from memory, before it is needed."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        width = cgutils.unpack_tuple(builder, array.shape)[1] if array.shape.type.count == 2 else I64(1)
        first = builder.gep(array.data, [builder.mul(arguments[1], width)])
        words.fetch(builder, first, builder.mul(width, I64(FLOAT)), written=True)
        return context.get_dummy_value()

    return types.void(table, types.intp), emit


@intrinsic  # type: ignore[untyped-decorator]
def total(_typing: Any, value: Any) -> Any:
    """The sum of all lanes, added in halves."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return words.total(builder, arguments[0])

    return types.float32(value), emit


@intrinsic  # type: ignore[untyped-decorator]
def fma(_typing: Any, left: Any, right: Any, added: Any) -> Any:
    """left * right + added, rounded once where the processor can in one operation."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        left, right, added = arguments
        product = builder.fmul(left, right, flags=("contract",))
        return builder.fadd(product, added, flags=("contract",))

    return left(left, left, left), emit


@intrinsic  # type: ignore[untyped-decorator]
def root(_typing: Any, value: Any) -> Any:
    """Square roots."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        kind = arguments[0].type
        return words.call(builder, f"llvm.sqrt.v{kind.count}f32", kind, arguments)

    return value(value), emit


@intrinsic  # type: ignore[untyped-decorator]
def clipped(_typing: Any, value: Any, limit: Any) -> Any:
    """The numbers brought into [-limit, limit]; NaN stays."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        numbers, high = arguments
        low = builder.fneg(high)
        numbers = builder.select(builder.fcmp_ordered(">", numbers, high), high, numbers)
        return builder.select(builder.fcmp_ordered("<", numbers, low), low, numbers)

    return value(value, value), emit


@intrinsic  # type: ignore[untyped-decorator]
def larger(_typing: Any, one: Any, two: Any) -> Any:
    """The larger of two numbers in every lane; the second where the first is NaN."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return words.larger(builder, *arguments)

    return one(one, one), emit


@intrinsic  # type: ignore[untyped-decorator]
def above(_typing: Any, value: Any) -> Any:
    """A bit for each of 64 lanes: whether its number is above 0."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        nothing = words.constant(0.0, arguments[0].type)
        return builder.bitcast(builder.fcmp_ordered(">", arguments[0], nothing), I64)

    return types.uint64(value), emit


@intrinsic  # type: ignore[untyped-decorator]
def passed(_typing: Any, bits: Any, value: Any) -> Any:
    """The numbers of the 64 lanes whose bits are set; 0 in the others."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        bits, value = arguments
        chosen = builder.bitcast(bits, ir.VectorType(ir.IntType(1), value.type.count))
        return builder.select(chosen, value, words.constant(0.0, value.type))

    return value(types.uint64, value), emit


def _define(symbol: Any, instruction: str) -> None:
    """Teaches the compiler an operator between two Lanes."""

    class Typed(AbstractTemplate):  # type: ignore[misc]
        def generic(self, arguments: Any, _keywords: Any) -> Any:
            if all(isinstance(one, LanesType) for one in arguments) and len(set(arguments)) == 1:
                return signature(arguments[0], *arguments)
            return None

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return getattr(builder, instruction)(*arguments)

    infer_global(symbol)(Typed)
    lower_builtin(symbol, LanesType, LanesType)(emit)


_define(operator.add, "fadd")
_define(operator.sub, "fsub")
_define(operator.mul, "fmul")
_define(operator.truediv, "fdiv")
