"""lanes: words for innermost loops that numba cannot keep in registers, written in LLVM's vectors.

LLVM lowers a vector to whatever the processor has. Every word takes llvmlite's `builder` first. numba's cache on disk
does not see changes in this file: it looks only at the file of the function that it compiles.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding  # type: ignore[import-untyped]
from llvmlite import ir
from numba.core import cgutils

WIDE = bool(llvmlite.binding.get_host_cpu_features().get("avx512f", False))  # 32 registers of 16 floats; else 16 of 8
LANES = 16 if WIDE else 8  # floats in a vector

F32, F64, I32, I64 = ir.FloatType(), ir.DoubleType(), ir.IntType(32), ir.IntType(64)
FLOATS, INTS, BITS = (ir.VectorType(kind, LANES) for kind in (F32, I32, ir.IntType(1)))
EACH_LANE = ir.Constant(INTS, list(range(LANES)))
_ALIGNED, _LINE = 4, 64  # bytes: numpy promises no more than that of a float; of a cache line


def constant(value: float, kind: Any = FLOATS) -> Any:
    """A vector of the same constant in every lane."""
    return ir.Constant(kind, [value] * kind.count)


ZEROS = constant(0.0)


def load(builder: Any, start: Any, index: Any, kind: Any = FLOATS) -> Any:
    """The vector that begins at an element of an array."""
    vector = builder.load(_at(builder, start, index, kind))
    vector.align = _ALIGNED
    return vector


def store(builder: Any, vector: Any, start: Any, index: Any) -> None:
    """Puts a vector where `load` would find it."""
    builder.store(vector, _at(builder, start, index, vector.type)).align = _ALIGNED


def load_first(builder: Any, start: Any, index: Any, number: Any) -> Any:
    """As `load` the first `number` lanes (int64, any), which alone are read; the others are 0."""
    number = builder.trunc(builder.select(builder.icmp_signed("<", number, I64(LANES)), number, I64(LANES)), I32)
    mask = builder.icmp_signed("<", EACH_LANE, spread(builder, number, INTS))
    place = _at(builder, start, index, FLOATS)
    arguments = [place, I32(_ALIGNED), mask, ZEROS]
    return call(builder, f"llvm.masked.load.v{LANES}f32.p0", FLOATS, arguments)


def spread(builder: Any, value: Any, kind: Any = FLOATS) -> Any:
    """A vector with the same value in every lane."""
    nothing = ir.Constant(kind, ir.Undefined)
    one = builder.insert_element(nothing, value, I32(0))
    return builder.shuffle_vector(one, nothing, ir.Constant(ir.VectorType(I32, kind.count), [0] * kind.count))


def fma(builder: Any, one: Any, other: Any, addend: Any) -> Any:
    """one * other + addend, rounded once."""
    width = "f32" if one.type.element == F32 else "f64"
    return call(builder, f"llvm.fma.v{one.type.count}{width}", one.type, [one, other, addend])


def larger(builder: Any, one: Any, two: Any) -> Any:
    """The larger of two floats in every lane; the second where the first is NaN."""
    return builder.select(builder.fcmp_ordered(">", one, two), one, two)


def total(builder: Any, vector: Any) -> Any:
    """The sum of the lanes, a power of two, added in halves."""
    count = vector.type.count
    while count > 1:
        count //= 2
        nothing, kind = ir.Constant(vector.type, ir.Undefined), ir.VectorType(I32, count)
        halves = [ir.Constant(kind, list(range(start, start + count))) for start in (0, count)]
        vector = builder.fadd(*(builder.shuffle_vector(vector, nothing, half) for half in halves))
    return builder.extract_element(vector, I32(0))


def fetch(builder: Any, start: Any, size: Any, written: bool) -> None:
    """Asks for `size` (int64) bytes from a pointer on, which will be read, or also written, shortly."""
    first = builder.bitcast(start, ir.IntType(8).as_pointer())
    with cgutils.for_range_slice(builder, I64(0), size, I64(_LINE)) as (at, _):
        place = builder.gep(first, [at])
        call(builder, "llvm.prefetch.p0i8", ir.VoidType(), [place, I32(int(written)), I32(3), I32(1)])


def call(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    """The result of one of LLVM's own functions."""
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def counted(builder: Any, begin: Any, end: Any, carried: list[Any], body: Any) -> list[Any]:
    """A loop from `begin` to `end`, at least once, whose values stay in registers from turn to turn.

    Args:
        carried: the values before the first turn.
        body: body(index, values) → the values after it.

    Returns:
        The values after the last turn.
    """
    before, inside, after = builder.block, builder.append_basic_block("turn"), builder.append_basic_block("done")
    builder.branch(inside)
    builder.position_at_end(inside)
    index = builder.phi(I64)
    values = [builder.phi(value.type) for value in carried]
    results = body(index, values)
    following = builder.add(index, I64(1))
    for phi, first, next_one in zip([index, *values], [begin, *carried], [following, *results], strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(next_one, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, end), inside, after)
    builder.position_at_end(after)
    return list(results)


def _at(builder: Any, start: Any, index: Any, kind: Any) -> Any:
    return builder.bitcast(builder.gep(start, [index]), kind.as_pointer())
