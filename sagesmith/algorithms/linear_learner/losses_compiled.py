"""Loss and gradient of every model in one sweep over the outputs, compiled.

Inner loops run along a row, over all models, and touch few arrays each: that is what LLVM turns into vector code.
Everything is float32: a bare 1.0 would make a double of it. exp(x) is 2^n times a polynomial of the rest, with 2^n
made of its bits, because the C library's exp cannot be vectorised; 7 digits hold.
"""

from __future__ import annotations

import numpy as np

from sagesmith.formats.compiled import compiled, inlined

ZERO, HALF, ONE, TWO = np.float32(0), np.float32(0.5), np.float32(1), np.float32(2)
LOG2E, LN2_HIGH, LN2_LOW = np.float32(1.4426950408889634), np.float32(0.693359375), np.float32(-2.12194440e-4)
BLOCK = 32  # rows; what they need of memory fits into the first cache
LOWEST = np.float32(-87)  # exp of it is still a normal number
C3, C4, C5, C6, C7 = (np.float32(1 / n) for n in (6, 24, 120, 720, 5040))  # Taylor's, for |x| <= ln(2) / 2
L3, L5, L7, L9, L11 = (np.float32(1 / n) for n in (3, 5, 7, 9, 11))


@inlined
def exp_parts(x: np.ndarray, bits: np.ndarray, part: np.ndarray) -> None:
    """exp of (k,) numbers that are not positive, as `part` times the float32 whose bits are `bits`."""
    for k in range(len(x)):
        value = max(x[k], LOWEST)
        n = np.floor(value * LOG2E + HALF)
        r = value - n * LN2_HIGH - n * LN2_LOW
        high = C4 + r * (C5 + r * (C6 + r * C7))
        part[k] = ONE + r * (ONE + r * (HALF + r * (C3 + r * high)))
        bits[k] = (np.int32(n) + np.int32(127)) << np.int32(23)


@inlined
def log1p(e: np.float32) -> np.float32:
    """log(1 + e) for e in [0, 1], as 2 artanh(e / (2 + e))."""
    s = e / (TWO + e)
    t = s * s
    return TWO * s * (ONE + t * (L3 + t * (L5 + t * (L7 + t * (L9 + t * L11)))))


@compiled
def logistic(z: np.ndarray, y: np.ndarray, weight: np.ndarray, up: np.ndarray, total: np.ndarray) -> None:
    """Blocks of rows are gone through as one long vector wherever a row's label and weight do not matter."""
    width = z.shape[1]
    size = BLOCK * width
    minus, part, chance = np.empty(size, np.float32), np.empty(size, np.float32), np.empty(size, np.float32)
    bits = np.empty(size, np.int32)
    power = bits.view(np.float32)
    lost = np.zeros(width, np.float32)
    for first in range(0, z.shape[0], BLOCK):
        rows = min(BLOCK, z.shape[0] - first)
        flat = z[first : first + rows].reshape(rows * width)
        for k in range(rows * width):
            minus[k] = -abs(flat[k])
        exp_parts(minus[: rows * width], bits, part)
        for k in range(rows * width):
            e = part[k] * power[k]
            q = ONE / (ONE + e)
            chance[k] = q if flat[k] >= ZERO else ONE - q
            part[k] = e
        for k in range(rows * width):
            part[k] = max(flat[k], ZERO) + log1p(part[k])
        for i in range(rows):
            own = flat[i * width : (i + 1) * width]
            loss, near = part[i * width : (i + 1) * width], chance[i * width : (i + 1) * width]
            label, each = y[first + i], weight[first + i]
            if label > ZERO:
                for k in range(width):
                    lost[k] += each * up[k] * (loss[k] - label * own[k])
                for k in range(width):
                    own[k] = each * up[k] * (near[k] - label)
            else:
                for k in range(width):
                    lost[k] += each * loss[k]
                for k in range(width):
                    own[k] = each * near[k]
    for k in range(width):
        total[k] += lost[k]


@compiled
def hinge(
    margin: np.float32, z: np.ndarray, y: np.ndarray, weight: np.ndarray, up: np.ndarray, total: np.ndarray
) -> None:
    width = z.shape[1]
    lost = np.zeros(width, np.float32)
    for i in range(z.shape[0]):
        row = z[i]
        sign = TWO * y[i] - ONE
        for k in range(width):
            each = weight[i] * (up[k] if sign > ZERO else ONE)
            short = margin - sign * row[k]
            lost[k] += each * max(short, ZERO)
            row[k] = -sign * each if short > ZERO else ZERO
    for k in range(width):
        total[k] += lost[k]


@compiled
def softmax(z: np.ndarray, y: np.ndarray, weight: np.ndarray, total: np.ndarray) -> None:
    width, models = z.shape[1], len(total)
    classes = width // models
    part = np.empty(width, np.float32)
    bits = np.empty(width, np.int32)
    power = bits.view(np.float32)
    for i in range(z.shape[0]):
        row, label = z[i], np.int64(y[i])
        for model in range(models):
            block = row[model * classes : (model + 1) * classes]
            largest = block[0]
            for c in range(classes):
                largest = max(largest, block[c])
            for c in range(classes):
                block[c] -= largest
        exp_parts(row, bits, part)
        for k in range(width):
            part[k] = part[k] * power[k]
        for model in range(models):
            first = model * classes
            summed = ZERO
            for c in range(classes):
                summed += part[first + c]
            total[model] += weight[i] * (np.log(summed) - row[first + label])
            factor = weight[i] / summed
            for c in range(classes):
                row[first + c] = part[first + c] * factor
            row[first + label] -= weight[i]


@compiled
def regression(
    code: int, parameter: np.float32, z: np.ndarray, y: np.ndarray, weight: np.ndarray, total: np.ndarray
) -> None:
    width = z.shape[1]
    lost = np.zeros(width, np.float32)
    for i in range(z.shape[0]):
        row, label, each = z[i], y[i], weight[i]
        if code == 0:
            for k in range(width):
                r = row[k] - label
                lost[k] += each * r * r
                row[k] = TWO * each * r
        elif code == 2 or code == 3:
            for k in range(width):
                r = row[k] - label
                over = max(abs(r) - parameter, ZERO)
                lost[k] += each * (over * over if code == 2 else over)
                slope = TWO * over if code == 2 else (ONE if over > ZERO else ZERO)
                row[k] = each * (slope if r > ZERO else -slope)
        elif code == 5:
            for k in range(width):
                r = row[k] - label
                near = min(abs(r), parameter)
                lost[k] += each * near * (abs(r) - HALF * near)
                row[k] = each * (near if r > ZERO else -near)
        else:
            below = parameter if code == 4 else ONE  # slope where the prediction is below the label
            above = ONE - parameter if code == 4 else ONE
            for k in range(width):
                r = row[k] - label
                lost[k] += each * (above * r if r > ZERO else -below * r)
                row[k] = each * (above if r > ZERO else (-below if r < ZERO else ZERO))
    for k in range(width):
        total[k] += lost[k]
