"""Batch normalisation, a sum and ReLU, forwards and back, compiled: each of two passes goes once over the numbers.

Tables are (rows, width) float32, C-contiguous: pixels by channels, or several pixels to a row where there are few
channels, and then what belongs to a channel is repeated likewise. The width is a multiple of 64. A thread has rows of
its own. Ioffe and Szegedy, Batch Normalization, 2015; the gradient is that of its section 3.
"""

from __future__ import annotations

import numpy as np

from sagesmith.algorithms.lanes_compiled import above, fma, larger, load64, nothing64, passed, store
from sagesmith.formats.compiled import compiled, inlined

LANES = 64
BLOCK = 128  # rows that are summed in float32 before they go to float64
FAR = 100.0  # a squared mean of so many variances leaves too few digits for them


@inlined
def add_to(sums: np.ndarray, column: int, temporary: np.ndarray) -> None:
    for i in range(LANES):
        sums[0, column + i] += temporary[0, i]
        sums[1, column + i] += temporary[1, i]


@compiled
def add_moments(x: np.ndarray, shift: np.ndarray, first: int, last: int, sums: np.ndarray) -> None:
    """Adds sums of x - shift[0], and of its squares, over rows to `sums`, (2, width) float64; shift: (1, width)."""
    temporary = np.empty((2, LANES), np.float32)
    for column in range(0, x.shape[1], LANES):
        off = load64(shift, 0, column)
        for begin in range(first, last, BLOCK):
            total, squares = nothing64(), nothing64()
            for row in range(begin, min(begin + BLOCK, last)):
                one = load64(x, row, column) - off
                total, squares = total + one, fma(one, one, squares)
            store(temporary, 0, 0, total)
            store(temporary, 1, 0, squares)
            add_to(sums, column, temporary)


@compiled
def settle(
    sums: np.ndarray, count: int, shift: np.ndarray, weight: np.ndarray, bias: np.ndarray, running_mean: np.ndarray,
    running_var: np.ndarray, momentum: float, eps: float, final: bool, found: np.ndarray,
) -> bool:  # fmt: skip
    """From sums (parts, 2, width) of `count` numbers a channel to what normalises them; running statistics move.

    Args:
        final: there will be no other try: take any shift.
        found: (4, width) float32, written: mean, 1 / deviation, and scale and offset of the channels.

    Returns:
        Whether `shift` was near enough to the means; if not, only found[0] is right, and is the shift to try next.
    """
    channels, width = len(weight), sums.shape[2]
    for c in range(channels):
        total, squares = 0.0, 0.0
        for part in range(len(sums)):
            for column in range(c, width, channels):
                total += sums[part, 0, column]
                squares += sums[part, 1, column]
        off = total / count
        variance = max(0.0, squares / count - off * off)
        found[0, c], found[1, c] = shift[0, c] + off, variance
        found[2, c] = off * off
    near = True
    for c in range(channels):
        near = near and (final or found[2, c] <= FAR * found[1, c])
    for c in range(channels):
        mean, variance = found[0, c], np.float64(found[1, c])
        inverse = 1.0 / np.sqrt(variance + eps)
        if near:
            running_mean[c] += momentum * (mean - running_mean[c])
            running_var[c] += momentum * (variance * count / max(1, count - 1) - running_var[c])
        scale = weight[c] * inverse
        offset = bias[c] - mean * scale
        for column in range(c, width, channels):
            found[0, column], found[1, column], found[2, column], found[3, column] = mean, inverse, scale, offset
    return near


@compiled
def rectify(
    x: np.ndarray, added: np.ndarray, plus: bool, found: np.ndarray, first: int, last: int, y: np.ndarray,
    open_bits: np.ndarray,
) -> None:  # fmt: skip
    """y = max(0, x * scale + offset (+ added)), rows by rows; open_bits, (rows, width / 64) uint64: where it is not 0,
    in a thirtieth of the memory that going back to y would take."""
    zero = nothing64()
    for group in range(x.shape[1] // LANES):
        column = group * LANES
        scale, offset = load64(found, 2, column), load64(found, 3, column)
        for row in range(first, last):
            value = fma(load64(x, row, column), scale, offset)
            if plus:
                value = value + load64(added, row, column)
            store(y, row, column, larger(zero, value))  # not a number stays so
            open_bits[row, group] = above(value)


@compiled
def add_slopes(
    dy: np.ndarray, x: np.ndarray, open_bits: np.ndarray, found: np.ndarray, first: int, last: int, sums: np.ndarray
) -> None:
    """Adds sums of dz and of dz * (x - mean) over rows to `sums`, (2, width) float64; dz is dy where y is above 0."""
    temporary = np.empty((2, LANES), np.float32)
    for group in range(x.shape[1] // LANES):
        column = group * LANES
        mean = load64(found, 0, column)
        for begin in range(first, last, BLOCK):
            total, leaning = nothing64(), nothing64()
            for row in range(begin, min(begin + BLOCK, last)):
                dz = passed(open_bits[row, group], load64(dy, row, column))
                total, leaning = total + dz, fma(dz, load64(x, row, column) - mean, leaning)
            store(temporary, 0, 0, total)
            store(temporary, 1, 0, leaning)
            add_to(sums, column, temporary)


@compiled
def settle_back(
    sums: np.ndarray, count: int, found: np.ndarray, d_weight: np.ndarray, d_bias: np.ndarray, slopes: np.ndarray
) -> None:
    """From sums (parts, 2, width) to the gradients of weight and bias, and slopes (2, width): dx = scale * dz +
    slopes[0] * x + slopes[1]."""
    channels, width = len(d_weight), sums.shape[2]
    for c in range(channels):
        total, leaning = 0.0, 0.0
        for part in range(len(sums)):
            for column in range(c, width, channels):
                total += sums[part, 0, column]
                leaning += sums[part, 1, column]
        mean, inverse, scale = np.float64(found[0, c]), np.float64(found[1, c]), np.float64(found[2, c])
        d_bias[c], d_weight[c] = total, leaning * inverse
        slope = -scale * inverse * inverse * leaning / count
        offset = -scale * total / count - slope * mean
        for column in range(c, width, channels):
            slopes[0, column], slopes[1, column] = slope, offset


@compiled
def rectify_back(
    dy: np.ndarray, x: np.ndarray, open_bits: np.ndarray, found: np.ndarray, slopes: np.ndarray, first: int, last: int,
    dx: np.ndarray, d_added: np.ndarray, plus: bool,
) -> None:  # fmt: skip
    """The gradients of x, and with `plus` of what was added, dz itself; rows by rows."""
    for group in range(x.shape[1] // LANES):
        column = group * LANES
        scale, slope, offset = load64(found, 2, column), load64(slopes, 0, column), load64(slopes, 1, column)
        for row in range(first, last):
            dz = passed(open_bits[row, group], load64(dy, row, column))
            if plus:
                store(d_added, row, column, dz)
            store(dx, row, column, fma(dz, scale, fma(load64(x, row, column), slope, offset)))
