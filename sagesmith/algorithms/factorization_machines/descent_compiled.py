"""The factorization machine in machine code: predictions, gradients and Adam over the non-zeros of sparse rows.

    ŷ = w0 + Σ w_i x_i + ½ Σ_f (S_f² - Σ_i v_if² x_i²),      S_f = Σ_i v_if x_i            (Rendle 2010, Lemma 3.1)
    ∂ŷ/∂w0 = 1,   ∂ŷ/∂w_i = x_i,   ∂ŷ/∂v_if = x_i S_f - v_if x_i²                          (equation 4)

A row costs O(k · non-zeros), a mini-batch touches only what its rows name. With g the slope of the loss at a row's ŷ,
the gradient of v_if over a mini-batch is Σ g x_i S_f - v_if Σ g x_i²: the first sum is kept for each feature that
occurs, in a table as long as there are such features, the second is one number.

Results do not depend on the number of threads: a feature belongs to one part of the work, which adds up its gradient in
the order of rows; sums over rows are made in their order too. Factors are tables of (d, k8), where k8 is the rank k
rounded up to a multiple of 8: the columns beyond k are zeros and stay zeros.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from sagesmith.algorithms.lanes_compiled import (
    LANES,
    clipped,
    load,
    root,
    soon,
    spread,
    store,
    total,
)
from sagesmith.formats.compiled import compiled, inlined

ZERO, HALF, ONE = np.float32(0), np.float32(0.5), np.float32(1)
BETA1, BETA2 = 0.9, 0.999  # Adam's, which SageMaker offers no way to set
KEEP1, KEEP2 = np.float32(BETA1), np.float32(BETA2)
NEW1, NEW2 = np.float32(1 - BETA1), np.float32(1 - BETA2)
FAR = 1 << 20  # bytes of v from which it does not stay in the nearest caches
AHEAD, PLACES_AHEAD = 6, 24  # so many features or non-zeros before its turn a feature is asked for from memory
OWNED = 4  # features belong to a part in runs of 2**4: a cache line of slots has one writer
TALLY = 6  # rows; squared error or cross entropy; absolute error or hits; true and false positives, false negatives


class Rows(NamedTuple):
    """n sparse rows: starts (n + 1,) int64, keys and values (non-zeros,), label (n,), weight (n,) or (0,)."""

    starts: np.ndarray
    keys: np.ndarray
    values: np.ndarray
    label: np.ndarray
    weight: np.ndarray


class Model(NamedTuple):
    """w0 (1,), w (d,), v (d, k8), float32."""

    w0: np.ndarray
    w: np.ndarray
    v: np.ndarray


class Moments(NamedTuple):
    """Adam's running means of gradient and squared gradient, side by side: (2,), (d, 2), (d, 2 k8); and its step."""

    bias: np.ndarray
    linear: np.ndarray
    factors: np.ndarray
    step: np.ndarray  # (1,) int64


class Gradient(NamedTuple):
    """Sums over a mini-batch for its features: feature (m,), sums (m, 2): Σ g x, Σ g x², factors (m, k8): Σ g x S."""

    feature: np.ndarray
    sums: np.ndarray
    factors: np.ndarray


class Rates(NamedTuple):
    """How Adam goes: learning rates, decays, factor on the gradient (NaN: 1 / rows), largest gradient, epsilon."""

    bias_lr: float
    linear_lr: float
    factors_lr: float
    bias_wd: float
    linear_wd: float
    factors_wd: float
    rescale: float
    clip: float
    eps: float


@inlined
def _is_far(model: Model) -> bool:
    return model.v.size * 4 > FAR


@inlined
def _forward(rows: Rows, first: int, last: int, model: Model, sums: Any, base: int, score: Any) -> None:
    """ŷ of rows [first, last) into `score`; their S into rows of `sums` from `first - base` on (base < 0: nowhere)."""
    k8, end, far = model.v.shape[1], rows.starts[last], _is_far(model)
    for row in range(first, last):
        start, stop = rows.starts[row], rows.starts[row + 1]
        y = model.w0[0]
        for place in range(start, stop):
            if far and place + PLACES_AHEAD < end:
                soon(model.v, np.intp(rows.keys[place + PLACES_AHEAD]))
                soon(model.w, np.intp(rows.keys[place + PLACES_AHEAD]))
            y += model.w[np.uint32(rows.keys[place])] * rows.values[place]
        for column in range(0, k8, LANES):
            s = spread(ZERO)
            squares = s
            for place in range(start, stop):
                vx = load(model.v, np.intp(rows.keys[place]), column) * spread(rows.values[place])
                s = s + vx
                squares = squares + vx * vx
            if base >= 0:
                store(sums, row - base, column, s)
            y += HALF * total(s * s - squares)
        score[row] = y


@inlined
def _slopes(rows: Rows, first: int, last: int, binary: bool, score: Any, slope: Any, tally: Any) -> float:
    """∂loss/∂ŷ of each row into `slope`, from `first` on; counts the losses into `tally`; returns Σ slope."""
    bias = 0.0
    weighted = len(rows.weight) > 0
    for row in range(first, last):
        y, label = float(score[row]), float(rows.label[row])
        if binary:
            small = math.exp(-abs(y))
            probability = (1.0 if y >= 0 else small) / (1.0 + small)
            g = probability - label
            hit, said = (y >= 0) == (label > 0.5), y >= 0
            tally[1] += max(y, 0.0) - y * label + math.log1p(small)
            tally[2] += hit
            tally[3] += hit and said
            tally[4] += said and not hit
            tally[5] += not said and not hit
        else:
            g = y - label
            tally[1] += g * g
            tally[2] += abs(g)
        if weighted:
            g *= rows.weight[row]
        slope[row - first] = g
        bias += g
    tally[0] += last - first
    return bias


@inlined
def _backward(
    rows: Rows, first: int, last: int, slope: Any, sums: Any, slots: Any, gradient: Gradient, part: int, parts: int
) -> int:
    """Gathers the gradient of the features that belong to `part`, and returns how many of them occur.

    `slots` (d,) says where a feature's gradient stands, -1 where it has none.
    """
    count = 0
    k8, end, far = sums.shape[1], rows.starts[last], len(slots) * 4 > FAR
    for row in range(first, last):
        g = slope[row - first]
        for place in range(rows.starts[row], rows.starts[row + 1]):
            if far and place + PLACES_AHEAD < end:
                soon(slots, np.intp(rows.keys[place + PLACES_AHEAD]))
            feature = np.uint32(rows.keys[place])
            x = rows.values[place]
            if x == ZERO or (parts > 1 and (feature >> np.uint32(OWNED)) % np.uint32(parts) != part):
                continue
            slot: Any = np.intp(slots[feature])
            if slot < 0:
                slot = count
                count += 1
                slots[feature] = slot
                _open(gradient, slot, feature)
            gx = g * x
            gradient.sums[np.uint32(slot), 0] += gx
            gradient.sums[np.uint32(slot), 1] += gx * x
            wide = spread(gx)
            for column in range(0, k8, LANES):
                s = load(sums, row - first, column)
                store(gradient.factors, slot, column, load(gradient.factors, slot, column) + wide * s)
    return count


@inlined
def _open(gradient: Gradient, slot: Any, feature: Any) -> None:
    """An empty gradient for a feature."""
    gradient.feature[slot] = feature
    gradient.sums[slot, 0] = ZERO
    gradient.sums[slot, 1] = ZERO
    for column in range(0, gradient.factors.shape[1], LANES):
        store(gradient.factors, slot, column, spread(ZERO))


@inlined
def _step(
    count: int, gradient: Gradient, slots: Any, model: Model, moments: Moments, rates: Rates, scale: float, pace: float
) -> None:
    """One step of Adam for the `count` features with a gradient (Kingma and Ba 2015, algorithm 1); frees their slots.

    `scale`: factor on the gradient; `pace`: Adam's correction of the learning rate for the young moments.
    """
    k8 = model.v.shape[1]
    scale32, limit, eps = np.float32(scale), np.float32(rates.clip), np.float32(rates.eps)
    linear_lr, linear_wd = np.float32(rates.linear_lr * pace), np.float32(rates.linear_wd)
    scales, limits, epsilons = spread(scale32), spread(limit), spread(eps)
    rate, decay = spread(np.float32(rates.factors_lr * pace)), spread(np.float32(rates.factors_wd))
    keep1, keep2, new1, new2 = spread(KEEP1), spread(KEEP2), spread(NEW1), spread(NEW2)
    far = _is_far(model)
    for slot in range(count):
        feature = np.intp(gradient.feature[slot])
        at = np.uint32(feature)
        if far and slot + AHEAD < count:
            next_one = np.intp(gradient.feature[slot + AHEAD])
            soon(model.v, next_one)
            soon(moments.factors, next_one)
            soon(moments.linear, next_one)
        slots[at] = -1
        w = model.w[at]
        g = min(max(scale32 * gradient.sums[slot, 0] + linear_wd * w, -limit), limit)
        mean = KEEP1 * moments.linear[at, 0] + NEW1 * g
        square = KEEP2 * moments.linear[at, 1] + NEW2 * g * g
        moments.linear[at, 0] = mean
        moments.linear[at, 1] = square
        model.w[at] = w - linear_lr * mean / (np.float32(math.sqrt(square)) + eps)
        curvature = spread(gradient.sums[slot, 1])
        for column in range(0, k8, LANES):
            v = load(model.v, feature, column)
            sums = scales * (load(gradient.factors, slot, column) - curvature * v) + decay * v
            gs = clipped(sums, limits)
            means = keep1 * load(moments.factors, feature, column) + new1 * gs
            squares = keep2 * load(moments.factors, feature, k8 + column) + new2 * (gs * gs)
            store(moments.factors, feature, column, means)
            store(moments.factors, feature, k8 + column, squares)
            store(model.v, feature, column, v - rate * means / (root(squares) + epsilons))


@inlined
def _step_bias(slope: float, scale: float, model: Model, moments: Moments, rates: Rates, pace: float) -> None:
    """One step of Adam for w0; `slope` is Σ g."""
    w0 = float(model.w0[0])
    g = min(max(scale * slope + rates.bias_wd * w0, -rates.clip), rates.clip)
    mean = BETA1 * moments.bias[0] + (1 - BETA1) * g
    square = BETA2 * moments.bias[1] + (1 - BETA2) * g * g
    moments.bias[0], moments.bias[1] = mean, square
    model.w0[0] = w0 - rates.bias_lr * pace * mean / (math.sqrt(square) + rates.eps)


@inlined
def _next_pace(moments: Moments) -> float:
    """Counts one step and returns √(1 - β2^t) / (1 - β1^t)."""
    moments.step[0] += 1
    step = float(moments.step[0])
    pace: float = math.sqrt(1 - BETA2**step) / (1 - BETA1**step)
    return pace


@inlined
def _scale(rates: Rates, rows: int) -> float:
    return 1.0 / max(1, rows) if math.isnan(rates.rescale) else rates.rescale


@compiled
def predict(rows: Rows, first: int, last: int, model: Model, score: Any) -> None:
    """ŷ of rows [first, last) into `score` (n,)."""
    _forward(rows, first, last, model, model.v, -1, score)


@compiled
def descend(
    rows: Rows, first: int, last: int, size: int, binary: bool, model: Model, moments: Moments, rates: Rates,
    slots: Any, gradient: Gradient, sums: Any, score: Any, slope: Any, tallies: Any,
) -> None:  # fmt: skip
    """Mini-batches of `size` rows over rows [first, last), one step each; fills a row of `tallies` for each.

    sums (size, k8), score (n,), slope (size,) are room to work in.
    """
    for number, start in enumerate(range(first, last, size)):
        stop = min(last, start + size)
        _forward(rows, start, stop, model, sums, start, score)
        bias = _slopes(rows, start, stop, binary, score, slope, tallies[number])
        pace, scale = _next_pace(moments), _scale(rates, stop - start)
        count = _backward(rows, start, stop, slope, sums, slots, gradient, 0, 1)
        _step(count, gradient, slots, model, moments, rates, scale, pace)
        _step_bias(bias, scale, model, moments, rates, pace)


# The parts of `descend`, for several threads, which divide rows and then features, and several hosts, which exchange
# gradients between `backward` and `step`.


@compiled
def forward(rows: Rows, first: int, last: int, start: int, model: Model, sums: Any, score: Any) -> None:
    """ŷ and S of rows [first, last) of the mini-batch that begins at row `start`."""
    _forward(rows, first, last, model, sums, start, score)


@compiled
def slopes(rows: Rows, start: int, stop: int, binary: bool, score: Any, slope: Any, tally: Any) -> float:
    """∂loss/∂ŷ of a mini-batch; returns the gradient of w0."""
    return _slopes(rows, start, stop, binary, score, slope, tally)


@compiled
def backward(
    rows: Rows, start: int, stop: int, slope: Any, sums: Any, slots: Any, gradient: Gradient, part: int, parts: int
) -> int:
    """The gradient of a mini-batch for the features of one part; returns how many."""
    return _backward(rows, start, stop, slope, sums, slots, gradient, part, parts)


@compiled
def merge(count: int, slots: Any, into: Gradient, given: Gradient) -> int:
    """Adds a gradient to one with `count` features; returns how many it then has."""
    for other in range(len(given.feature)):
        feature = given.feature[other]
        slot: Any = np.intp(slots[feature])
        if slot < 0:
            slot = count
            count += 1
            slots[feature] = slot
            _open(into, slot, feature)
        into.sums[slot, 0] += given.sums[other, 0]
        into.sums[slot, 1] += given.sums[other, 1]
        for column in range(0, into.factors.shape[1], LANES):
            store(into.factors, slot, column, load(into.factors, slot, column) + load(given.factors, other, column))
    return count


@compiled
def step(
    count: int, gradient: Gradient, slots: Any, model: Model, moments: Moments, rates: Rates, scale: float, pace: float
) -> None:
    """One step of Adam for the features with a gradient."""
    _step(count, gradient, slots, model, moments, rates, scale, pace)


@compiled
def step_bias(slope: float, rows: int, model: Model, moments: Moments, rates: Rates) -> tuple[float, float]:
    """Counts a step, makes that of w0, and returns scale and pace for the others."""
    pace, scale = _next_pace(moments), _scale(rates, rows)
    _step_bias(slope, scale, model, moments, rates, pace)
    return scale, pace


@compiled
def pack(dense: Any, starts: Any, keys: Any, values: Any) -> None:
    """The non-zeros of dense rows (n, d) as sparse ones: fills starts (n + 1,), keys and values (non-zeros,)."""
    count = 0
    for row in range(dense.shape[0]):
        for column in range(dense.shape[1]):
            if dense[row, column] != ZERO:
                keys[count] = column
                values[count] = dense[row, column]
                count += 1
        starts[row + 1] = count
