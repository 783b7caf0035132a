"""Small matrix products in compiled code, with their sums in registers.

The products of an LSTM's step are too small for a BLAS, and LLVM leaves sums over an inner loop in memory, where they
cost five times as much.

    add_product(weights, source, target, begin, end): target[j, b] += Σ_k weights[k, j] source[k, b]
    add_outer(source, slopes, total, begin, end): total[k, j] += Σ_t Σ_b source[t, k, b] slopes[t, j, b]
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from sagesmith.algorithms import lanes as words
from sagesmith.algorithms.lanes_compiled import fma, lanes16, load16, nothing16, spread16, store
from sagesmith.algorithms.lanes_compiled import total as sum_of
from sagesmith.formats.compiled import compiled, inlined

WIDTH = 16


@intrinsic  # type: ignore[untyped-decorator]
def load_deep(_typing: Any, table: Any, step: Any, row: Any, column: Any) -> Any:
    """Sixteen numbers of a row of a C-contiguous (T, J, B) float32 array."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        _, rows, width = cgutils.unpack_tuple(builder, array.shape)
        line = builder.add(builder.mul(arguments[1], rows), arguments[2])
        first = builder.add(builder.mul(line, width), arguments[3])
        return words.load(builder, array.data, first, lanes16.vector)

    return lanes16(table, types.intp, types.intp, types.intp), emit


@compiled
def add_product(weights: Any, source: Any, target: Any, begin: Any, end: Any) -> None:
    """target[j, b] += Σ_k weights[k, j] source[k, b] for the columns b of a range, a multiple of 16 of them.

    weights (K, J), source (K, B), target (J, B), C-contiguous float32.
    """
    terms, rows = weights.shape
    pairs = begin + (end - begin) // (2 * WIDTH) * 2 * WIDTH
    quads = rows // 4 * 4
    for b in range(begin, pairs, 2 * WIDTH):
        far = b + WIDTH
        for j in range(0, quads, 4):
            p0, p1 = load16(target, j, b), load16(target, j + 1, b)
            p2, p3 = load16(target, j + 2, b), load16(target, j + 3, b)
            q0, q1 = load16(target, j, far), load16(target, j + 1, far)
            q2, q3 = load16(target, j + 2, far), load16(target, j + 3, far)
            for k in range(terms):
                near, other = load16(source, k, b), load16(source, k, far)
                a0, a1 = spread16(weights[k, j]), spread16(weights[k, j + 1])
                a2, a3 = spread16(weights[k, j + 2]), spread16(weights[k, j + 3])
                p0, p1, p2, p3 = fma(a0, near, p0), fma(a1, near, p1), fma(a2, near, p2), fma(a3, near, p3)
                q0, q1, q2, q3 = fma(a0, other, q0), fma(a1, other, q1), fma(a2, other, q2), fma(a3, other, q3)
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
def _single(weights: Any, source: Any, target: Any, first: Any, last: Any, b: Any) -> None:
    """The rows `first` to `last` of sixteen columns."""
    for j in range(first, last):
        total = load16(target, j, b)
        for k in range(weights.shape[0]):
            total = fma(spread16(weights[k, j]), load16(source, k, b), total)
        store(target, j, b, total)


STEPS = 8  # whose numbers stay in the cache while all pairs of rows are gone through


@compiled
def add_outer(source: Any, slopes: Any, total: Any, begin: Any, end: Any) -> None:
    """total[k, j] += Σ_t Σ_b source[t, k, b] slopes[t, j, b] for the columns b of a range, a multiple of 16 of them.

    source (T, K, B), slopes (T, J, B), total (K, J), C-contiguous float32; J is a multiple of 4.
    """
    steps, terms, rows = slopes.shape[0], source.shape[1], slopes.shape[1]
    quads = terms // 4 * 4
    for at in range(0, steps, STEPS):
        last = min(at + STEPS, steps)
        for k in range(0, quads, 4):
            for j in range(0, rows, 4):
                _outer_tile(source, slopes, total, at, last, k, j, begin, end)
        for k in range(quads, terms):
            for j in range(rows):
                found = nothing16()
                for t in range(at, last):
                    for b in range(begin, end, WIDTH):
                        found = fma(load_deep(source, t, k, b), load_deep(slopes, t, j, b), found)
                total[k, j] += sum_of(found)


@inlined
def _outer_tile(
    source: Any, slopes: Any, total: Any, first: Any, last: Any, k: Any, j: Any, begin: Any, end: Any
) -> None:
    """Four rows by four."""
    a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = c0 = c1 = c2 = c3 = d0 = d1 = d2 = d3 = nothing16()
    for t in range(first, last):
        for b in range(begin, end, WIDTH):
            w, x = load_deep(source, t, k, b), load_deep(source, t, k + 1, b)
            y, z = load_deep(source, t, k + 2, b), load_deep(source, t, k + 3, b)
            s = load_deep(slopes, t, j, b)
            a0, b0, c0, d0 = fma(w, s, a0), fma(x, s, b0), fma(y, s, c0), fma(z, s, d0)
            s = load_deep(slopes, t, j + 1, b)
            a1, b1, c1, d1 = fma(w, s, a1), fma(x, s, b1), fma(y, s, c1), fma(z, s, d1)
            s = load_deep(slopes, t, j + 2, b)
            a2, b2, c2, d2 = fma(w, s, a2), fma(x, s, b2), fma(y, s, c2), fma(z, s, d2)
            s = load_deep(slopes, t, j + 3, b)
            a3, b3, c3, d3 = fma(w, s, a3), fma(x, s, b3), fma(y, s, c3), fma(z, s, d3)
    for row, (e, f, g, h) in enumerate(((a0, a1, a2, a3), (b0, b1, b2, b3), (c0, c1, c2, c3), (d0, d1, d2, d3))):
        total[k + row, j] += sum_of(e)
        total[k + row, j + 1] += sum_of(f)
        total[k + row, j + 2] += sum_of(g)
        total[k + row, j + 3] += sum_of(h)
