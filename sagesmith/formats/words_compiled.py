"""byte_at, word_at, digits_of: characters by their address, eight at a time, in compiled code.

A word is eight bytes as one integer, the first character lowest. Its leading digits are counted and valued without a
branch, since how many a cell has is what the processor cannot foretell.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
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
def _zeros_below(_typing: Any, word: Any) -> Any:
    """How many bits are 0 below the lowest that is 1; 64 for 0."""

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], context.get_constant(types.boolean, 0))

    return types.int64(types.uint64), emit


@inlined
def address_of(text: np.ndarray) -> Any:
    """Where an array of bytes begins; good for as long as the caller keeps the array.

    Loops run over addresses, since an array that is handed to another function has its references counted each time.
    """
    return np.int64(text.ctypes.data)


@inlined
def digits_of(word: np.uint64) -> tuple[int, np.uint64]:
    """How many characters of a word are digits before the first that is none (0 to 8), and the number they write."""
    distance = word ^ ZEROS
    count = _zeros_below(((distance + ABOVE_NINE) | distance) & TOP_BITS) >> 3
    half = U(32 - 4 * count)  # shifted twice by it, the digits stand last and zeros before them
    value = (distance << half) << half
    value = ((value & BYTES) * TENS) >> U(8)
    value = ((value & PAIRS) * HUNDREDS) >> U(16)
    return count, ((value & QUADS) * MYRIADS) >> U(32)
