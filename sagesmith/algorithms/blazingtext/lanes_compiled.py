"""Lanes: sixteen float32 at once in compiled code, by their address; and how rows of a table are found and fetched.

A table is (rows, width) float32, its width a multiple of 16 and its rows on cache lines (`table`), so that a vector of
100 numbers is seven loads. Products and sums are fused, which half of the time of a dot product hangs on; the last bits
of a result may therefore differ from one processor to another. Loops run over addresses: an array that is handed from
function to function has its references counted each time.

    load(address) → Lanes          store(address, lanes)          fma(a, b, c) → a * b + c
    spread(x) → Lanes of x         total(lanes) → float32         nothing() → Lanes of 0
    soon(address, bytes): so much is asked for from memory, to be there when it is loaded
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

LANES = 16
BLOCK = 4 * LANES  # bytes of Lanes, and of a cache line
_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_INT, _WORD = ir.IntType(32), ir.IntType(64)
_BYTES = ir.IntType(8).as_pointer()
_ALIGNMENT = 4


class LanesType(types.Type):  # type: ignore[misc]
    """The type of a `Lanes` in compiled code; it never leaves it."""

    def __init__(self) -> None:
        super().__init__(name="Lanes16")


lanes = LanesType()


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR)


def table(rows: int, dimensions: int) -> np.ndarray:
    """Zeros, (rows, dimensions rounded up to a multiple of 16) float32, every row at the start of a cache line."""
    width = -(-dimensions // LANES) * LANES
    room = np.zeros(rows * width + LANES, np.float32)
    skip = -room.ctypes.data // 4 % LANES
    return room[skip : skip + rows * width].reshape(rows, width)


@intrinsic  # type: ignore[untyped-decorator]
def load(_typing: Any, address: Any) -> Any:
    """The sixteen numbers from an address on."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.load(builder.inttoptr(arguments[0], _VECTOR.as_pointer()), align=_ALIGNMENT)

    return lanes(types.int64), emit


@intrinsic  # type: ignore[untyped-decorator]
def store(_typing: Any, address: Any, value: Any) -> Any:
    """Puts sixteen numbers where `load` would find them."""

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        builder.store(arguments[1], builder.inttoptr(arguments[0], _VECTOR.as_pointer()), align=_ALIGNMENT)
        return context.get_dummy_value()

    return types.void(types.int64, lanes), emit


@intrinsic  # type: ignore[untyped-decorator]
def fma(_typing: Any, left: Any, right: Any, added: Any) -> Any:
    """left * right + added, rounded once."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{LANES}f32"), arguments)

    return lanes(lanes, lanes, lanes), emit


@intrinsic  # type: ignore[untyped-decorator]
def spread(_typing: Any, number: Any) -> Any:
    """Sixteen times the same float32."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        one = builder.insert_element(_unknown(_VECTOR), arguments[0], ir.Constant(_INT, 0))
        return builder.shuffle_vector(one, _unknown(_VECTOR), _places([0] * LANES))

    return lanes(types.float32), emit


@intrinsic  # type: ignore[untyped-decorator]
def nothing(_typing: Any) -> Any:
    """Sixteen zeros."""

    def emit(_context: Any, _builder: Any, _signature: Any, _arguments: Any) -> Any:
        return ir.Constant(_VECTOR, [0.0] * LANES)

    return lanes(), emit


@intrinsic  # type: ignore[untyped-decorator]
def total(_typing: Any, value: Any) -> Any:
    """The sum of the sixteen, added in halves."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        vector, count = arguments[0], LANES
        while count > 2:
            count //= 2
            halves = [_places(range(start, start + count)) for start in (0, count)]
            vector = builder.fadd(*(builder.shuffle_vector(vector, _unknown(vector.type), half) for half in halves))
        return builder.fadd(*(builder.extract_element(vector, ir.Constant(_INT, place)) for place in (0, 1)))

    return types.float32(lanes), emit


@intrinsic  # type: ignore[untyped-decorator]
def soon(_typing: Any, address: Any, size: Any) -> Any:
    """Asks for `size` bytes from an address on, which will be needed shortly."""

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [_BYTES, _INT, _INT, _INT])
        fetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        first = builder.inttoptr(arguments[0], _BYTES)
        steps = (ir.Constant(_WORD, 0), arguments[1], ir.Constant(_WORD, BLOCK))
        with cgutils.for_range_slice(builder, *steps) as (at, _):
            builder.call(fetch, [builder.gep(first, [at]), *(ir.Constant(_INT, flag) for flag in (0, 3, 1))])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), emit


def _unknown(kind: Any) -> Any:
    return ir.Constant(kind, ir.Undefined)


def _places(places: Any) -> Any:
    listed = list(places)
    return ir.Constant(ir.VectorType(_INT, len(listed)), listed)
