"""Windows cut from the packed series, compiled: lags by index arithmetic, laid out (time, inputs, columns)."""

from __future__ import annotations

from typing import Any

import numpy as np

from sagesmith.formats.compiled import compiled

TINY = np.float32(1e-10)  # a scale below it is none
NAN = np.float32(np.nan)
MOST = np.float32(20.0)  # standard deviations that a value or feature may be off: a series that was still may burst


def _scales(
    values: Any, begins: Any, lengths: Any, starts: Any, context: Any, scales: Any, means: Any, spreads: Any
) -> None:
    """Mean |z|, mean z and standard deviation of what is observed in each conditioning window, (B,).

    NaN where there is nothing but 0.
    """
    for b in range(len(begins)):
        first = max(0, starts[b])
        total, signed, squares, count = 0.0, 0.0, 0.0, 0
        for place in range(begins[b] + first, begins[b] + min(lengths[b], starts[b] + context)):
            value = values[place]
            if not np.isnan(value):
                total += abs(value)
                signed += value
                squares += float(value) * value
                count += 1
        whole = count > 0 and total / max(1, count) > TINY
        scales[b] = total / count if whole else NAN
        means[b] = signed / count if whole else NAN
        spreads[b] = np.sqrt(max(0.0, squares / count - (signed / count) ** 2)) if whole else NAN


@compiled
def scaled(
    begin: Any,
    end: Any,
    values: Any,
    begins: Any,
    lengths: Any,
    starts: Any,
    centres: Any,
    units: Any,
    fills: Any,
    lags: Any,
    steps: Any,
) -> Any:
    """What the lags of a window's steps reach, each value once: (steps + longest lag, columns of the range).

    Row r is what lies r - longest lag steps after the window's start, in the window's units. Rows that no lag of any
    step needs are not filled in.
    """
    longest = lags[-1]
    needed = np.zeros(steps + longest, np.bool_)
    for t in range(steps):
        for lag in lags:
            needed[t + longest - lag] = True
    found = np.empty((steps + longest, end - begin), np.float32)
    for r in range(steps + longest):
        if needed[r]:
            for b in range(begin, end):
                place, value = starts[b] + r - longest, fills[b]
                if 0 <= place < lengths[b]:
                    known = values[begins[b] + place]
                    value = value if np.isnan(known) else known
                found[r, b - begin] = min(max((value - centres[b]) / units[b], -MOST), MOST)
    return found


def _gather(
    begin: Any,
    end: Any,
    values: Any,
    begins: Any,
    lengths: Any,
    starts: Any,
    centres: Any,
    units: Any,
    fills: Any,
    lags: Any,
    ordinals: Any,
    step: Any,
    per_day: Any,
    first: Any,
    fine: Any,
    coarse: Any,
    features: Any,
    places: Any,
    ends: Any,
    centre: Any,
    spread: Any,
    inputs: Any,
) -> None:
    """Fills inputs (T, D, B) for the columns of a range.

    The rows of an input: the values at each lag in the window's units (where missing or before the series: its mean),
    the series' own features (standardised), whether the value before was observed, the calendar, and the series' age.
    """
    steps, nearest = inputs.shape[0], len(lags)
    own, other = features.shape[1], nearest + features.shape[1]
    longest = lags[-1]
    seen = scaled(begin, end, values, begins, lengths, starts, centres, units, fills, lags, steps)
    for t in range(steps):
        for k in range(nearest):
            source, target = seen[t + longest - lags[k]], inputs[t, k, begin:end]
            for b in range(len(target)):
                target[b] = source[b]
        for b in range(begin, end):
            at = starts[b] + t
            known = 0 < at <= lengths[b] and not np.isnan(values[begins[b] + at - 1])
            inputs[t, other, b] = 1.0 if known else 0.0
            ordinal = ordinals[b] + at * step
            day = ordinal // per_day
            within = ordinal - day * per_day
            for k in range(fine.shape[1]):
                inputs[t, other + 1 + k, b] = fine[within, k]
            for k in range(coarse.shape[1]):
                inputs[t, other + 1 + fine.shape[1] + k, b] = coarse[day - first, k]
            place = places[b] + at
            inside = at >= 0 and place < ends[b]
            for k in range(own):
                value = (features[place, k] - centre[k]) / spread[k] if inside else np.float32(0.0)
                inputs[t, nearest + k, b] = min(max(value, -MOST), MOST)
            inputs[t, other + 1 + fine.shape[1] + coarse.shape[1], b] = np.log10(np.float32(2.0 + max(0, at)))


def _truths(begin: Any, end: Any, values: Any, begins: Any, lengths: Any, starts: Any, targets: Any) -> None:
    """targets (T, B): the values of the windows themselves, NaN where missing or outside of the series."""
    for t in range(targets.shape[0]):
        for b in range(begin, end):
            at = starts[b] + t
            targets[t, b] = values[begins[b] + at] if 0 <= at < lengths[b] else NAN


scales = compiled(_scales)
gather = compiled(_gather)
truths = compiled(_truths)
