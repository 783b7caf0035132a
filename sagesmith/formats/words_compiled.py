"""byte_at, word_at, digits_of, marks_at: characters by their address, many at a time, in compiled code.

A word is eight bytes as one integer, the first character lowest. Its leading digits are counted and valued without a
branch, since how many a cell has is what the processor cannot foretell.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from sagesmith.formats.compiled import inlined

U = np.uint64
ZEROS = U(0x3030303030303030)  # "00000000"
ABOVE_NINE = U(0x7676767676767676)  # added to a byte of 0 to 9 it leaves the top bit clear
TOP_BITS = U(0x8080808080808080)
BYTES, PAIRS, QUADS = U(0x0F0F0F0F0F0F0F0F), U(0x00FF00FF00FF00FF), U(0x0000FFFF0000FFFF)
TENS, HUNDREDS, MYRIADS = U(10 * 2**8 + 1), U(100 * 2**16 + 1), U(10_000 * 2**32 + 1)  # left part times so much + right
TEN_TO = np.array([10**power for power in range(20)], np.uint64)

WORD = 8  # characters
BLOCK = 64  # characters that are compared at once, a bit for each
ROOM = 64  # so many bytes must follow a place from which words are read on without a look at the end


@intrinsic  # type: ignore[untyped-decorator]
def byte_at(_typing: Any, address: Any) -> Any:
    """The byte at an address in memory."""

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        byte = context.get_value_type(types.uint8)
        loaded = builder.load(builder.inttoptr(arguments[0], byte.as_pointer()))
        return builder.zext(loaded, context.get_value_type(types.int64))

    return types.int64(types.int64), emit


@intrinsic  # type: ignore[untyped-decorator]
def word_at(_typing: Any, address: Any) -> Any:
    """The eight bytes from an address on, which need not be a multiple of anything."""

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        word = context.get_value_type(types.uint64)
        loaded = builder.load(builder.inttoptr(arguments[0], word.as_pointer()), align=1)
        return loaded if sys.byteorder == "little" else builder.bswap(loaded)

    return types.uint64(types.int64), emit


@intrinsic  # type: ignore[untyped-decorator]
def marks_at(_typing: Any, address: Any, delimiter: Any) -> Any:
    """Which of the 64 bytes from an address on end a cell (delimiter, LF or CR): a bit for each, the first lowest."""

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        vector, word = ir.VectorType(ir.IntType(8), BLOCK), context.get_value_type(types.uint64)
        block = builder.load(builder.inttoptr(arguments[0], vector.as_pointer()), align=1)
        lane = builder.insert_element(
            ir.Constant(vector, ir.Undefined),
            builder.trunc(arguments[1], ir.IntType(8)),
            ir.Constant(ir.IntType(32), 0),
        )
        same = ir.Constant(ir.VectorType(ir.IntType(32), BLOCK), [0] * BLOCK)
        found = builder.icmp_unsigned("==", block, builder.shuffle_vector(lane, lane, same))
        for end in (10, 13):
            found = builder.or_(found, builder.icmp_unsigned("==", block, ir.Constant(vector, [end] * BLOCK)))
        bits = builder.bitcast(found, word)
        return bits if sys.byteorder == "little" else builder.bitreverse(bits)

    return types.uint64(types.int64, types.int64), emit


@intrinsic  # type: ignore[untyped-decorator]
def zeros_below(_typing: Any, word: Any) -> Any:
    """How many bits are 0 below the lowest that is 1; 64 for 0."""

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], context.get_constant(types.boolean, 0))

    return types.int64(types.uint64), emit


@inlined
def address_of(array: np.ndarray) -> Any:
    """Where a contiguous array begins; good for as long as the caller keeps the array.

    Loops run over addresses, since an array that is handed to another function has its references counted each time.
    """
    return np.int64(array.ctypes.data)


@inlined
def digits_of(word: np.uint64) -> tuple[int, np.uint64]:
    """How many characters of a word are digits before the first that is none (0 to 8), and the number they write."""
    distance = word ^ ZEROS
    count = zeros_below(((distance + ABOVE_NINE) | distance) & TOP_BITS) >> 3
    half = U(32 - 4 * count)  # shifted twice by it, the digits stand last and zeros before them
    return count, valued((distance << half) << half)


@inlined
def valued(distance: np.uint64) -> np.uint64:
    """The number that eight digits write; a byte each, the first digit lowest, 0 for "0"."""
    value = ((distance & BYTES) * TENS) >> U(8)
    value = ((value & PAIRS) * HUNDREDS) >> U(16)
    return ((value & QUADS) * MYRIADS) >> U(32)


@inlined
def all_digits(low: np.uint64, high: np.uint64) -> bool:
    """Whether sixteen bytes are digits, taken as their distance from "0"."""
    return bool((((low + ABOVE_NINE) | low | (high + ABOVE_NINE) | high) & TOP_BITS) == 0)
