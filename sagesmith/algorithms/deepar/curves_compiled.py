"""Curves, compiled: powers, logarithms, the sine, on sixteen numbers at once (lanes_compiled.py).

LLVM makes no vector code of a loop that calls the C library's. Not for functions with `fastmath`: it would reorder the
additions here that round to a whole number.

    power_less_1(x) → 2^x - 1               logarithm(x) → the natural one
    softplus16(x) → log(1 + exp x)          sine_of_turns(x) → sin 2πx for x in [-1/4, 1/4]
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba.extending import intrinsic

from sagesmith.algorithms import lanes as words
from sagesmith.algorithms.lanes import I32
from sagesmith.algorithms.lanes_compiled import fma, larger, spread16
from sagesmith.formats.compiled import inlined

LOG2_E = np.float32(math.log2(math.e))
ROUNDS = float(3 << 22)  # added to a number, its last bits are the whole number that is nearest
# (2^f - 1) / f for f in [-1/2, 1/2], fitted by least squares that were weighted anew until the errors were even: 4e-7.
POWER = (0.693147143495231, 0.24022351344117876, 0.055505002488710486, 0.009666245372908826, 0.0013333524505645816)
LOG = (2.0, 2 / 3, 2 / 5, 2 / 7)  # log((1 + s) / (1 - s)) / s in s², |s| < 0.172: off by less than 3e-8
ROOT_HALF = 0x3F3504F3  # bits of sqrt(1/2)
BIAS, PLACES = 127, 23  # of an exponent; of its bits
TURN = 2 * math.pi
S1, S3, S5, S7, S9, S11 = (
    np.float32((-1) ** (k // 2) * TURN**k / math.factorial(k)) for k in (1, 3, 5, 7, 9, 11)
)  # Taylor's, off by less than 1e-7
ZERO, ONE, TWO = np.float32(0.0), np.float32(1.0), np.float32(2.0)


def _polynomial(builder: Any, x: Any, coefficients: Sequence[float]) -> Any:
    """With the constant term first."""
    *others, found = (words.constant(c, x.type) for c in coefficients)
    for term in reversed(others):
        found = _fused(builder, found, x, term)
    return found


def _fused(builder: Any, one: Any, two: Any, added: Any) -> Any:
    return builder.fadd(builder.fmul(one, two, flags=("contract",)), added, flags=("contract",))


def _whole(number: int, like: Any) -> Any:
    return ir.Constant(ir.VectorType(I32, like.count), [number] * like.count)


@intrinsic  # type: ignore[untyped-decorator]
def power_less_1(_typing: Any, x: Any) -> Any:
    """2^x - 1 to seven parts in ten million of itself, for |x| <= 126."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        (x,) = arguments
        kind, one = x.type, words.constant(1.0, x.type)
        moved = words.constant(ROUNDS + BIAS, kind)
        rounded = builder.fadd(x, moved)
        bits = builder.bitcast(rounded, _whole(0, kind).type)
        scale = builder.bitcast(builder.shl(bits, _whole(PLACES, kind)), kind)
        rest = builder.fsub(x, builder.fsub(rounded, moved))
        part = builder.fmul(rest, _polynomial(builder, rest, POWER))
        return _fused(builder, part, scale, builder.fsub(scale, one))

    return x(x), emit


@intrinsic  # type: ignore[untyped-decorator]
def logarithm(_typing: Any, x: Any) -> Any:
    """The natural logarithm of normal numbers above 0, to a few parts in ten million of itself."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        (x,) = arguments
        kind, one = x.type, words.constant(1.0, x.type)
        bits = builder.bitcast(x, _whole(0, kind).type)
        exponent = builder.ashr(builder.sub(bits, _whole(ROOT_HALF, kind)), _whole(PLACES, kind))
        near = builder.bitcast(builder.sub(bits, builder.shl(exponent, _whole(PLACES, kind))), kind)
        share = builder.fdiv(builder.fsub(near, one), builder.fadd(near, one))
        square = builder.fmul(share, share)
        found = builder.fmul(share, _polynomial(builder, square, LOG))
        return _fused(builder, builder.sitofp(exponent, kind), words.constant(math.log(2), kind), found)

    return x(x), emit


@inlined
def softplus16(x: Any) -> Any:
    zero = spread16(ZERO)
    size = larger(x, zero - x)
    fall = power_less_1(larger(zero - size * spread16(LOG2_E), spread16(np.float32(-126.0))))
    return larger(x, zero) + logarithm(spread16(TWO) + fall)


@inlined
def sine_of_turns(x: Any) -> Any:
    s = x * x
    found = fma(fma(spread16(S11), s, spread16(S9)), s, spread16(S7))
    found = fma(fma(fma(found, s, spread16(S5)), s, spread16(S3)), s, spread16(S1))
    return found * x
