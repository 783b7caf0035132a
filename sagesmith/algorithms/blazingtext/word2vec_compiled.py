"""The loops of skipgram, cbow and batch_skipgram, compiled; many threads run them at once on the same tables.

Threads write without locks (HogWild: Recht et al., 2011). Each takes a slice of the text at a time: words as rows of
the vocabulary, LINE between lines. Frequent words are left out at random (kept with chance `keep`), and windows reach
over those that stay. Tables are those of lanes_compiled.py; `noise` is that of chance_compiled.py.

`starts`, `rows`: the rows of `inputs` whose mean is a word's vector: its own, and those of its n-grams (Bojanowski et
al., 2017). N-grams are fetched once for all windows of a word and once told what was learnt: fetching them is what
costs, and between two fetches their mean changes by exactly what is added to it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sagesmith.algorithms.blazingtext.chance_compiled import LOGISTIC, below, drawn, logistic, word_drawn
from sagesmith.algorithms.blazingtext.lanes_compiled import BLOCK, LANES, load, soon, store
from sagesmith.algorithms.blazingtext.rows_compiled import (
    added,
    cleared,
    copied,
    given,
    learnt,
    products,
    scaled,
    summed,
)
from sagesmith.algorithms.lanes_compiled import fma, nothing16, spread16
from sagesmith.formats.compiled import compiled, inlined
from sagesmith.formats.words_compiled import address_of

LINE = -1  # where a line ends, among the words
CHUNK = 4096  # words of a line that are looked at together
SURE = np.uint64(1) << np.uint64(32)  # the `keep` of a word that is never left out
HALF = np.uint64(32)


class Plan(NamedTuple):
    """What stays the same in all slices."""

    keep: np.ndarray  # (words,) uint64: the chance to stay, times 2**32
    noise: np.ndarray  # (words,) uint64
    window: int
    negatives: int
    starts: np.ndarray  # (words + 1,) int64, into rows
    rows: np.ndarray  # int64 rows of inputs
    inputs: np.ndarray
    outputs: np.ndarray
    batch: int  # inputs that batch_skipgram takes together


@inlined
def _kept(words: np.ndarray, at: int, end: int, keep: np.ndarray, state: np.ndarray, kept: np.ndarray) -> Any:
    """Where to read on after the words of a line that are not left out, and how many (as many as `kept` takes)."""
    count = 0
    while at < end and count < len(kept):
        word = words[at]
        at += 1
        if word == LINE:
            if count:
                break
        elif keep[word] >= SURE or (drawn(state) >> HALF) < keep[word]:
            kept[count] = word
            count += 1
    return at, count


@inlined
def _draw(target: int, plan: Plan, first: int, size: int, state: np.ndarray, places: np.ndarray, at: int) -> None:
    """Addresses of the target's row and of those of noise, from places[at] on, and asks for them."""
    places[at] = first + size * target
    soon(places[at], size)
    for k in range(at + 1, at + 1 + plan.negatives):
        word = word_drawn(state, plan.noise)
        if word == target:
            word = word + 1 if word + 1 < len(plan.noise) else 0
        places[k] = first + size * word
        soon(places[k], size)


@inlined
def _times(places: np.ndarray, outs: int, times: np.ndarray) -> None:
    """How often each output is drawn: 0 but for the last time, whose row is written last."""
    for k in range(outs):
        times[k] = np.float32(1)
        for earlier in range(k):
            if places[earlier] == places[k]:
                times[k] += times[earlier]
                times[earlier] = np.float32(0)


@inlined
def _steps(scores: np.ndarray, count: int, rate: Any) -> None:
    """Scores become what is learnt from them, rate * (label - probability); the first is the real word's."""
    for k in range(count):
        scores[k] = rate * (np.float32(1 if k == 0 else 0) - logistic(scores[k], LOGISTIC))


@inlined
def _rate(rates: Any, at: int, begin: int, end: int) -> Any:
    return np.float32(rates[0] + (rates[1] - rates[0]) * ((at - begin) / (end - begin)))


@inlined
def _aligned(room: np.ndarray) -> Any:
    """The first address of an array that a cache line begins at."""
    return (address_of(room) + BLOCK - 1) // BLOCK * BLOCK


@compiled
def skipgram(words: np.ndarray, begin: int, end: int, rates: Any, plan: Plan, state: np.ndarray) -> None:
    """The words of a window foretell the word in its midst, each with noise of its own.

    So it is in word2vec. The other way round, as in fastText, one row moves for a whole window before others do, and
    vectors agree less with people (WordSim-353: 0.44 instead of 0.50). Rates are those at `begin` and at `end`.
    """
    inputs, outputs = address_of(plan.inputs), address_of(plan.outputs)
    blocks, window, outs = plan.inputs.shape[1] // LANES, plan.window, plan.negatives + 1
    size = blocks * BLOCK
    kept = np.empty(CHUNK, np.int64)
    places, scores = np.empty(2 * outs, np.int64), np.empty(outs, np.float32)
    room = np.empty((2, plan.inputs.shape[1]), np.float32)
    e = _aligned(room)
    at = begin
    while at < end:
        rate = _rate(rates, at, begin, end)
        at, count = _kept(words, at, end, plan.keep, state, kept)
        if count < 2:
            continue
        half = 0
        _draw(kept[0], plan, outputs, size, state, places, 0)
        for centre in range(count):
            if centre + window + 1 < count:
                soon(inputs + size * kept[centre + window + 1], size)
            reach = 1 + below(state, window)
            low, high = max(0, centre - reach), min(count, centre + reach + 1)
            last = high - 1 if high - 1 != centre else high - 2
            for other in range(low, high):
                if other == centre:
                    continue
                following = centre if other != last else centre + 1
                if following < count:  # drawn now, so that it is near when its turn comes
                    _draw(kept[following], plan, outputs, size, state, places, outs - half)
                x = inputs + size * kept[other]
                products(x, places, half, outs, blocks, scores)
                _steps(scores, outs, rate)
                cleared(e, blocks)
                learnt(x, e, places, half, outs, blocks, scores)
                added(x, e, 1.0, blocks)
                half = outs - half


@compiled
def skipgram_subwords(words: np.ndarray, begin: int, end: int, rates: Any, plan: Plan, state: np.ndarray) -> None:
    """Each word, as the mean of its n-grams, foretells the words of its window, as in fastText."""
    inputs, outputs = address_of(plan.inputs), address_of(plan.outputs)
    blocks, window, outs = plan.inputs.shape[1] // LANES, plan.window, plan.negatives + 1
    size = blocks * BLOCK
    kept = np.empty(CHUNK, np.int64)
    places, scores = np.empty(2 * outs, np.int64), np.empty(outs, np.float32)
    room = np.empty((4, plan.inputs.shape[1]), np.float32)
    h = _aligned(room)
    before, e = h + size, h + 2 * size
    at = begin
    while at < end:
        rate = _rate(rates, at, begin, end)
        at, count = _kept(words, at, end, plan.keep, state, kept)
        for centre in range(count):
            reach = 1 + below(state, window)
            low, high = max(0, centre - reach), min(count, centre + reach + 1)
            if high - low < 2:
                continue
            first, last = plan.starts[kept[centre]], plan.starts[kept[centre] + 1]
            summed(h, inputs, plan.rows, first, last, blocks)
            scaled(h, 1 / np.float32(last - first), blocks)
            copied(before, h, blocks)
            other, half = low if low != centre else low + 1, 0
            _draw(kept[other], plan, outputs, size, state, places, 0)
            while other < high:
                following = other + 1 if other + 1 != centre else other + 2
                if following < high:
                    _draw(kept[following], plan, outputs, size, state, places, outs - half)
                products(h, places, half, outs, blocks, scores)
                _steps(scores, outs, rate)
                cleared(e, blocks)
                learnt(h, e, places, half, outs, blocks, scores)
                added(h, e, 1.0, blocks)
                other, half = following, outs - half
            added(h, before, -1.0, blocks)
            given(inputs, plan.rows, first, last, h, blocks)


@compiled
def cbow(words: np.ndarray, begin: int, end: int, rates: Any, plan: Plan, state: np.ndarray) -> None:
    """The mean of a window foretells the word in its midst; rates are those at `begin` and at `end`."""
    inputs, outputs = address_of(plan.inputs), address_of(plan.outputs)
    blocks, window, outs = plan.inputs.shape[1] // LANES, plan.window, plan.negatives + 1
    size = blocks * BLOCK
    kept, around = np.empty(CHUNK, np.int64), np.empty(2 * window, np.int64)
    places, scores = np.empty(2 * outs, np.int64), np.empty(outs, np.float32)
    room = np.empty((3, plan.inputs.shape[1]), np.float32)
    h = _aligned(room)
    e = h + size
    at = begin
    while at < end:
        rate = _rate(rates, at, begin, end)
        at, count = _kept(words, at, end, plan.keep, state, kept)
        if count < 2:
            continue
        half = 0
        _draw(kept[0], plan, outputs, size, state, places, 0)
        for centre in range(count):
            if centre + 1 < count:
                _draw(kept[centre + 1], plan, outputs, size, state, places, outs - half)
            if centre + window + 1 < count:
                soon(inputs + size * kept[centre + window + 1], size)
            reach = 1 + below(state, window)
            near = 0
            for other in range(max(0, centre - reach), min(count, centre + reach + 1)):
                if other != centre:
                    around[near] = kept[other]
                    near += 1
            cleared(h, blocks)
            for k in range(near):
                added(h, inputs + size * around[k], 1.0, blocks)
            scaled(h, 1 / np.float32(near), blocks)
            products(h, places, half, outs, blocks, scores)
            _steps(scores, outs, rate)
            cleared(e, blocks)
            learnt(h, e, places, half, outs, blocks, scores)
            given(inputs, around, 0, near, e, blocks)
            half = outs - half


@compiled
def cbow_subwords(words: np.ndarray, begin: int, end: int, rates: Any, plan: Plan, state: np.ndarray) -> None:
    """`cbow` where words are sums of n-grams: the sums of a window are kept beside, and written back behind it.

    The mean is over all rows of the window, as in fastText, so that long words weigh more.
    """
    inputs, outputs = address_of(plan.inputs), address_of(plan.outputs)
    blocks, window, outs = plan.inputs.shape[1] // LANES, plan.window, plan.negatives + 1
    size, ring = blocks * BLOCK, 2 * window + 1
    kept = np.empty(CHUNK, np.int64)
    places, scores = np.empty(outs, np.int64), np.empty(outs, np.float32)
    room = np.empty((2 * ring + 3, plan.inputs.shape[1]), np.float32)
    h = _aligned(room)
    e, sums = h + size, h + 2 * size
    learnings = sums + ring * size
    at = begin
    while at < end:
        rate = _rate(rates, at, begin, end)
        at, count = _kept(words, at, end, plan.keep, state, kept)
        for step in range(count + window if count > 1 else 0):  # `step` enters the window, `centre` is foretold
            centre = step - window
            gone = centre - window - 1
            if gone >= 0:
                first, last = plan.starts[kept[gone]], plan.starts[kept[gone] + 1]
                given(inputs, plan.rows, first, last, learnings + size * (gone % ring), blocks)
            if step < count:
                first, last = plan.starts[kept[step]], plan.starts[kept[step] + 1]
                summed(sums + size * (step % ring), inputs, plan.rows, first, last, blocks)
                cleared(learnings + size * (step % ring), blocks)
            if centre < 0:
                continue
            _draw(kept[centre], plan, outputs, size, state, places, 0)
            reach = 1 + below(state, window)
            low, high = max(0, centre - reach), min(count, centre + reach + 1)
            cleared(h, blocks)
            total_rows = 0
            for other in range(low, high):
                if other != centre:
                    added(h, sums + size * (other % ring), 1.0, blocks)
                    total_rows += plan.starts[kept[other] + 1] - plan.starts[kept[other]]
            scaled(h, 1 / np.float32(total_rows), blocks)
            products(h, places, 0, outs, blocks, scores)
            _steps(scores, outs, rate)
            cleared(e, blocks)
            learnt(h, e, places, 0, outs, blocks, scores)
            for other in range(low, high):
                if other != centre:
                    own = plan.starts[kept[other] + 1] - plan.starts[kept[other]]
                    added(sums + size * (other % ring), e, np.float32(own), blocks)
                    added(learnings + size * (other % ring), e, 1.0, blocks)
        for left in range(max(0, count - window - 1) if count > 1 else count, count):
            first, last = plan.starts[kept[left]], plan.starts[kept[left] + 1]
            given(inputs, plan.rows, first, last, learnings + size * (left % ring), blocks)


@inlined
def _taught(x: np.ndarray, near: int, e: int, places: np.ndarray, outs: int, errors: np.ndarray, blocks: int) -> None:
    """e[b] = Σ errors[b, k] · output k; then output k += Σ errors[b, k] · x[b]: two matrix products, block by block."""
    size = blocks * BLOCK
    k = 0
    while outs - k >= 6:
        p0, p1, p2 = places[k], places[k + 1], places[k + 2]
        p3, p4, p5 = places[k + 3], places[k + 4], places[k + 5]
        for at in range(0, size, BLOCK):
            y0, y1, y2 = load(p0 + at), load(p1 + at), load(p2 + at)
            y3, y4, y5 = load(p3 + at), load(p4 + at), load(p5 + at)
            z0, z1, z2, z3, z4, z5 = y0, y1, y2, y3, y4, y5
            for b in range(near):
                v = load(x[b] + at)
                g0, g1, g2 = spread16(errors[b, k]), spread16(errors[b, k + 1]), spread16(errors[b, k + 2])
                g3, g4, g5 = spread16(errors[b, k + 3]), spread16(errors[b, k + 4]), spread16(errors[b, k + 5])
                place = e + size * b + at
                w = fma(g4, y4, fma(g2, y2, fma(g0, y0, load(place) if k else nothing16())))
                store(place, fma(g5, y5, fma(g3, y3, fma(g1, y1, w))))
                z0, z1, z2 = fma(g0, v, z0), fma(g1, v, z1), fma(g2, v, z2)
                z3, z4, z5 = fma(g3, v, z3), fma(g4, v, z4), fma(g5, v, z5)
            store(p0 + at, z0)
            store(p1 + at, z1)
            store(p2 + at, z2)
            store(p3 + at, z3)
            store(p4 + at, z4)
            store(p5 + at, z5)
        k += 6
    if outs < 6:
        for b in range(near):
            cleared(e + size * b, blocks)
    while k < outs:
        p0 = places[k]
        for at in range(0, size, BLOCK):
            y0 = load(p0 + at)
            z0 = y0
            for b in range(near):
                g0, place = spread16(errors[b, k]), e + size * b + at
                store(place, fma(g0, y0, load(place)))
                z0 = fma(g0, load(x[b] + at), z0)
            store(p0 + at, z0)
        k += 1


@compiled
def batch_skipgram(words: np.ndarray, begin: int, end: int, rates: Any, plan: Plan, state: np.ndarray) -> None:
    """The words of a window foretell the word in its midst, all with the same noise (Ji et al., arXiv 1604.04661)."""
    inputs, outputs = address_of(plan.inputs), address_of(plan.outputs)
    blocks, window, outs = plan.inputs.shape[1] // LANES, plan.window, plan.negatives + 1
    size, batch = blocks * BLOCK, min(plan.batch, 2 * plan.window)
    kept, x = np.empty(CHUNK, np.int64), np.empty(batch, np.int64)
    places = np.empty(outs, np.int64)
    errors, scores = np.empty((batch, outs), np.float32), np.empty(outs, np.float32)
    times = np.empty(outs, np.float32)
    room = np.empty((batch + 1, plan.inputs.shape[1]), np.float32)
    e = _aligned(room)
    at = begin
    while at < end:
        rate = _rate(rates, at, begin, end)
        at, count = _kept(words, at, end, plan.keep, state, kept)
        for centre in range(count if count > 1 else 0):
            reach = 1 + below(state, window)
            low, high = max(0, centre - reach), min(count, centre + reach + 1)
            _draw(kept[centre], plan, outputs, size, state, places, 0)
            if centre + window + 1 < count:
                soon(inputs + size * kept[centre + window + 1], size)
            _times(places, outs, times)
            other = low
            while other < high:
                near = 0
                while other < high and near < batch:
                    if other != centre:
                        x[near] = inputs + size * kept[other]
                        near += 1
                    other += 1
                for b in range(near):
                    products(x[b], places, 0, outs, blocks, scores)
                    _steps(scores, outs, rate)
                    for k in range(outs):
                        errors[b, k] = scores[k] * times[k]
                _taught(x, near, e, places, outs, errors, blocks)
                for b in range(near):
                    added(x[b], e + size * b, 1.0, blocks)
