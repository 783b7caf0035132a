"""Loss and gradient of every model in one sweep over the outputs, compiled.

Inner loops run along a row, over all models, and touch few arrays each: that is what LLVM turns into vector code; the
logistic loss is in vectors by hand. Everything is float32: a bare 1.0 would make a double of it. exp(x) is 2^n times a
polynomial of the rest, with 2^n made of its bits, because the C library's exp cannot be vectorised; 7 digits hold.
"""

from __future__ import annotations

import numpy as np

from sagesmith.algorithms.lanes_compiled import larger, load16, nothing16, spread16, store
from sagesmith.algorithms.linear_learner.lanes_compiled import exponential, log1p, magnitude, reached
from sagesmith.algorithms.linear_learner.products_compiled import widened
from sagesmith.algorithms.linear_learner.scaler import LANES
from sagesmith.formats.compiled import compiled, inlined

ZERO, HALF, ONE, TWO = np.float32(0), np.float32(0.5), np.float32(1), np.float32(2)
LOG2E, LN2_HIGH, LN2_LOW = np.float32(1.4426950408889634), np.float32(0.693359375), np.float32(-2.12194440e-4)
GROUP, GROUPS = 64, 15  # rows whose 1 + exp(-|z|) are multiplied in float32; groups in float64: 2^960 at most
LOWEST = np.float32(-87)  # exp of it is still a normal number
C3, C4, C5, C6, C7 = (np.float32(1 / n) for n in (6, 24, 120, 720, 5040))  # Taylor's, for |x| <= ln(2) / 2


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


@compiled
def logistic(z: np.ndarray, y: np.ndarray, weight: np.ndarray, up: np.ndarray, total: np.ndarray) -> None:
    """Sixteen models at a time."""
    width = z.shape[1]
    if width % LANES == 0:
        _logistic(z, y, weight, up[:width].reshape(1, width), total)
        return
    table, found = widened(z), np.zeros(width + LANES)
    _logistic(table, y, weight, widened(up[:width].reshape(1, width)), found)
    z[:] = table[:, :width]
    total += found[:width]


@compiled
def _logistic(z: np.ndarray, y: np.ndarray, weight: np.ndarray, up: np.ndarray, total: np.ndarray) -> None:
    """The sum of log(1 + e) over rows of one weight, the first row's, is the logarithm of a product."""
    rows, common = len(z), weight[0] if len(z) else ZERO
    group, lost, product = np.empty((2, LANES), np.float32), np.empty((2, LANES), np.float32), np.ones((2, LANES))
    one = spread16(ONE)
    for k in range(0, z.shape[1], LANES):
        mult = load16(up, 0, k)
        below, above = nothing16(), nothing16()  # losses of negative and of positive rows, but for the products
        for first in range(0, rows, GROUP):
            under, over = one, one
            for i in range(first, min(first + GROUP, rows)):
                out, each = load16(z, i, k), spread16(weight[i])
                e = exponential(nothing16() - magnitude(out))
                if y[i] > ZERO:
                    wrong = nothing16() - out
                    loss = larger(nothing16(), wrong)
                    if weight[i] == common:
                        over = over * (one + e)
                    else:
                        loss = loss + log1p(e)
                    above = above + each * loss
                    store(z, i, k, nothing16() - each * mult * reached(wrong, e) / (one + e))
                else:
                    loss = larger(nothing16(), out)
                    if weight[i] == common:
                        under = under * (one + e)
                    else:
                        loss = loss + log1p(e)
                    below = below + each * loss
                    store(z, i, k, each * reached(out, e) / (one + e))
            store(group, 0, 0, under)
            store(group, 1, 0, over)
            product *= group
            if first // GROUP % GROUPS == GROUPS - 1 or first + GROUP >= rows:
                for n in range(LANES):
                    total[k + n] += common * (np.log(product[0, n]) + up[0, k + n] * np.log(product[1, n]))
                product[:] = 1
        store(lost, 0, 0, below)
        store(lost, 1, 0, above)
        for n in range(LANES):
            total[k + n] += lost[0, n] + up[0, k + n] * lost[1, n]


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
