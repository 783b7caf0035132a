"""Rows of tables for vectors of sixteen: how they lie in memory, and are read, written and fetched by their address.

A table is (rows, width) float32, its width a multiple of 16 and its rows on cache lines (`table`), so that a vector of
100 numbers is seven loads. Loops run over addresses: an array that is handed from function to function has its
references counted each time.

    load(address) → Lanes          store(address, lanes)
    soon(address, bytes): so much is asked for from memory, to be there when it is loaded
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from sagesmith.algorithms import lanes as words
from sagesmith.algorithms.lanes import F32, I64
from sagesmith.algorithms.lanes_compiled import FLOAT, lanes16

LANES = 16
BLOCK = FLOAT * LANES  # bytes of Lanes, and of a cache line


def table(rows: int, dimensions: int) -> np.ndarray:
    """Zeros, (rows, dimensions rounded up to a multiple of 16) float32, every row at the start of a cache line."""
    width = -(-dimensions // LANES) * LANES
    room = np.zeros(rows * width + LANES, np.float32)
    skip = -room.ctypes.data // FLOAT % LANES
    return room[skip : skip + rows * width].reshape(rows, width)


@intrinsic  # type: ignore[untyped-decorator]
def load(_typing: Any, address: Any) -> Any:
    """The sixteen numbers from an address on."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return words.load(builder, builder.inttoptr(arguments[0], F32.as_pointer()), I64(0), lanes16.vector)

    return lanes16(types.int64), emit


@intrinsic  # type: ignore[untyped-decorator]
def store(_typing: Any, address: Any, value: Any) -> Any:
    """Puts sixteen numbers where `load` would find them."""

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        words.store(builder, arguments[1], builder.inttoptr(arguments[0], F32.as_pointer()), I64(0))
        return context.get_dummy_value()

    return types.void(types.int64, lanes16), emit


@intrinsic  # type: ignore[untyped-decorator]
def soon(_typing: Any, address: Any, size: Any) -> Any:
    """Asks for `size` bytes from an address on, which will be needed shortly."""

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        words.fetch(builder, builder.inttoptr(arguments[0], ir.IntType(8).as_pointer()), arguments[1], written=False)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), emit
