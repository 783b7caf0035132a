"""gram: the scatter matrix of rows about a point, in vectors: one triangle of it, chunk after chunk, in registers.

A BLAS multiplies all pairs of columns, reads blocks twice, and gives single precision. Here a chunk of rows is laid out
in panels of LANES columns, less the point, and ROWS x (VECTORS * LANES) products at a time are accumulators in
registers (Goto and van de Geijn, Anatomy of High-Performance Matrix Multiplication, TOMS 34, 2008); at the end of a
chunk they are added to the matrix in double precision. Only tiles that touch the lower triangle are computed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import types
from numba.extending import intrinsic

from sagesmith.algorithms import lanes
from sagesmith.algorithms.lanes import F64, FLOATS, I32, I64, LANES, WIDE, ZEROS
from sagesmith.formats.compiled import compiled, inlined

ROWS = 8 if WIDE else 4  # of the matrix in a tile; they divide LANES
VECTORS = 3  # beside each other in a tile: 24 accumulators of 32 registers, or 12 of 16
TOGETHER = 4  # panels that are laid out at once: as many sums as hide each other's latency
CHUNK = 512  # rows whose products are added in single precision
STRIP = 16  # panels of the matrix's rows that are gone through for one tile's columns: half a megabyte of a chunk
STRAY = 16.0  # squared mean over variance, about the point, beyond which a chunk gets another: 4 bits are lost
PIECE = 32  # rows and columns that are turned over at once
SMALLEST, LARGEST = 1e-24, 1e36  # squares outside of these under- or overflow in single precision


def padded(width: int) -> int:
    """Columns with those that fill the last panels."""
    together = LANES * TOGETHER
    return -(-width // together) * together


@intrinsic  # type: ignore[untyped-decorator]
def lay_out(typing: Any, rows: Any, width: Any, first: Any, count: Any, about: Any, packed: Any, sums: Any) -> Any:
    """Puts TOGETHER panels of rows, less the point, into `packed`, and their sums and squares into `sums`.

    Args:
        rows: (count, width) float32, contiguous.
        first: the first column of the panels.
        about: (padded(width),) float32, 0 in the padding.
        packed: (panels, CHUNK, LANES) float32.
        sums: (2, padded(width)) float32, filled from column `first` on.
    """
    signature = types.void(rows, types.int64, types.int64, types.int64, about, packed, sums)

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        source, point, target, found = (_start(context, b, signature, arguments, at) for at in (0, 4, 5, 6))
        width, first, count = arguments[1:4]
        columns = [b.add(first, I64(LANES * panel)) for panel in range(TOGETHER)]
        points = [lanes.load(b, point, column) for column in columns]

        def body(row: Any, values: list[Any]) -> list[Any]:
            results = []
            for panel, column in enumerate(columns):
                here = b.add(b.mul(row, width), column)
                moved = b.fsub(lanes.load_first(b, source, here, b.sub(width, column)), points[panel])
                lanes.store(b, moved, target, b.add(b.mul(column, I64(CHUNK)), b.mul(row, I64(LANES))))
                results += [b.fadd(values[2 * panel], moved), lanes.fma(b, moved, moved, values[2 * panel + 1])]
            return results

        results = lanes.counted(b, I64(0), count, [ZEROS] * (2 * TOGETHER), body)
        for panel, column in enumerate(columns):
            lanes.store(b, results[2 * panel], found, column)
            lanes.store(b, results[2 * panel + 1], found, b.add(column, _side(context, b, signature, arguments, 6)))
        return context.get_dummy_value()

    return signature, generate


def _tile(vectors: int) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def tile(typing: Any, packed: Any, count: Any, i: Any, j: Any, shift: Any, products: Any) -> Any:
        """Adds to products, a square float64 matrix, in ROWS rows from i on and `vectors` panels from column j on.

        Args:
            packed: what `lay_out` filled, with `count` rows.
            i, j: multiples of ROWS and of LANES.
            shift: (2, side) float64 a and b: what was multiplied is moved by adding a_i b_j + b_i a_j.
        """
        signature = types.void(packed, types.int64, types.int64, types.int64, shift, products)

        def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
            source, moves, target = (_start(context, b, signature, arguments, at) for at in (0, 4, 5))
            count, i, j = arguments[1:4]
            side = _side(context, b, signature, arguments, 5)
            lane = b.urem(i, I64(LANES))
            left = b.add(b.mul(b.sub(i, lane), I64(CHUNK)), lane)
            right = b.mul(j, I64(CHUNK))

            def body(row: Any, values: list[Any]) -> list[Any]:
                at = b.mul(row, I64(LANES))
                beside = b.add(right, at)
                others = [lanes.load(b, source, b.add(beside, I64(v * CHUNK * LANES))) for v in range(vectors)]
                results = []
                for number in range(ROWS):
                    one = lanes.spread(b, b.load(b.gep(source, [b.add(b.add(left, at), I64(number))])))
                    results += [lanes.fma(b, one, others[v], values[number * vectors + v]) for v in range(vectors)]
                return results

            results = lanes.counted(b, I64(0), count, [ZEROS] * (ROWS * vectors), body)
            for number in range(ROWS):
                row = b.add(i, I64(number))
                for v in range(vectors):
                    _add(b, results[number * vectors + v], row, b.add(j, I64(v * LANES)), side, moves, target)
            return context.get_dummy_value()

        return signature, generate

    return tile


def _add(b: Any, vector: Any, row: Any, column: Any, side: Any, moves: Any, target: Any) -> None:
    """Adds single-precision lanes, moved, to double-precision ones in memory."""
    half = LANES // 2
    kind = ir.VectorType(F64, half)
    ours = [lanes.spread(b, b.load(b.gep(moves, [b.add(row, start)])), kind) for start in (I64(0), side)]
    for first in (0, half):
        places = ir.Constant(ir.VectorType(I32, half), list(range(first, first + half)))
        part = b.fpext(b.shuffle_vector(vector, ir.Constant(FLOATS, ir.Undefined), places), kind)
        at = b.add(column, I64(first))
        theirs = [lanes.load(b, moves, b.add(at, start), kind) for start in (I64(0), side)]
        part = lanes.fma(b, ours[0], theirs[1], lanes.fma(b, ours[1], theirs[0], part))
        place = b.add(b.mul(row, side), at)
        lanes.store(b, b.fadd(lanes.load(b, target, place, kind), part), target, place)


def _start(context: Any, b: Any, signature: Any, arguments: Any, at: int) -> Any:
    return context.make_array(signature.args[at])(context, b, arguments[at]).data


def _side(context: Any, b: Any, signature: Any, arguments: Any, at: int) -> Any:
    """The length of an array's rows."""
    return b.extract_value(context.make_array(signature.args[at])(context, b, arguments[at]).shape, 1)


_tile_1, _tile_2, _tile_3 = (_tile(vectors) for vectors in (1, 2, VECTORS))


@compiled
def scatter(
    rows: np.ndarray, origin: np.ndarray, first: int, last: int, packed: np.ndarray, sums: np.ndarray,
    products: np.ndarray,
) -> int:  # fmt: skip
    """Adds the rows of the lower triangle from `first` to `last` of the sum of (x - origin)(x - origin)^T to products.

    Every chunk is multiplied about a point near its own mean, so that single precision is enough wherever the mean is.

    Args:
        rows: (n, d) float32.
        origin: (side,) float32, with side = padded(d); 0 beyond d.
        first, last: multiples of ROWS.
        packed: (side / LANES, CHUNK, LANES) float32, to work in.
        sums: (side,) float64, to which the sum of x - origin is added.
        products: (side, side) float64.

    Returns:
        How many rows were taken: all, or those before a chunk that single precision cannot hold.
    """
    n, d = rows.shape
    about, found, shift = origin.copy(), np.empty((2, len(origin)), np.float32), np.zeros((2, len(origin)))
    for start in range(0, n, CHUNK):
        count = min(CHUNK, n - start)
        _laid_out(rows[start:], count, about, packed, found)
        if _strays(found, count, d):
            about += found[0] / np.float32(count)
            _laid_out(rows[start:], count, about, packed, found)
        largest = np.float32(0.0)
        for f in range(d):
            largest = max(largest, found[1, f]) if found[1, f] < LARGEST else np.float32(np.inf)
        if not SMALLEST < largest < LARGEST:
            return start
        for f in range(d):
            shift[0, f] = np.float64(about[f]) - np.float64(origin[f])
            shift[1, f] = found[0, f] + 0.5 * count * shift[0, f]
            sums[f] += found[0, f] + count * shift[0, f]
        _multiplied(packed, count, first, last, shift, products)
    return len(rows)


@inlined
def _laid_out(rows: np.ndarray, count: int, about: np.ndarray, packed: np.ndarray, found: np.ndarray) -> None:
    for first in range(0, rows.shape[1], LANES * TOGETHER):
        lay_out(rows, rows.shape[1], first, count, about, packed, found)


@inlined
def _strays(found: np.ndarray, count: int, d: int) -> bool:
    for f in range(d):
        square = found[0, f] * found[0, f] / count
        if square * np.float32(1.0 + STRAY) > np.float32(STRAY) * found[1, f]:
            return True
    return False


@inlined
def _multiplied(packed: np.ndarray, count: int, first: int, last: int, shift: np.ndarray, products: np.ndarray) -> None:
    for strip in range(first, last, STRIP * LANES):
        end = min(strip + STRIP * LANES, last)
        for j in range(0, end, VECTORS * LANES):
            for i in range(max(strip, j // ROWS * ROWS), end, ROWS):
                vectors = i // LANES + 1 - j // LANES  # up to the diagonal
                if vectors >= VECTORS:
                    _tile_3(packed, count, i, j, shift, products)
                elif vectors == 2:
                    _tile_2(packed, count, i, j, shift, products)
                else:
                    _tile_1(packed, count, i, j, shift, products)


@compiled
def unfolded(products: np.ndarray, d: int, sums: np.ndarray, count: int) -> np.ndarray:
    """The whole matrix (d, d) about the mean, from its lower triangle about another point, piece by piece."""
    whole = np.empty((d, d))
    for up in range(0, d, PIECE):
        for across in range(0, up + 1, PIECE):
            for i in range(up, min(up + PIECE, d)):
                for j in range(across, min(across + PIECE, i + 1)):
                    whole[i, j] = products[i, j] - sums[i] * (sums[j] / count)
            for j in range(across, min(across + PIECE, d)):
                for i in range(max(up, j), min(up + PIECE, d)):
                    whole[j, i] = whole[i, j]
    return whole
