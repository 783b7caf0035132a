"""Rows: what training does with rows of tables, in compiled code: sums, dot products, and what is added to them.

Rows are given as addresses; `blocks` is how many times sixteen numbers a row has. Six rows at a time keep the processor
busy where one would wait for its sum, and read the other vector once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sagesmith.algorithms.blazingtext.lanes_compiled import BLOCK, load, soon, store
from sagesmith.algorithms.lanes_compiled import fma, nothing16, spread16, total
from sagesmith.formats.compiled import inlined

AHEAD = 8  # rows that are asked for before they are needed


@inlined
def cleared(to: int, blocks: int) -> None:
    """Sets a row to 0."""
    for at in range(0, blocks * BLOCK, BLOCK):
        store(to + at, nothing16())


@inlined
def copied(to: int, source: int, blocks: int) -> None:
    """Sets a row to another."""
    for at in range(0, blocks * BLOCK, BLOCK):
        store(to + at, load(source + at))


@inlined
def added(to: int, source: int, factor: Any, blocks: int) -> None:
    """Adds factor times a row to another."""
    times = spread16(np.float32(factor))
    for at in range(0, blocks * BLOCK, BLOCK):
        store(to + at, fma(times, load(source + at), load(to + at)))


@inlined
def scaled(to: int, factor: Any, blocks: int) -> None:
    """Multiplies a row by a number."""
    times = spread16(np.float32(factor))
    for at in range(0, blocks * BLOCK, BLOCK):
        store(to + at, fma(times, load(to + at), nothing16()))


@inlined
def summed(to: int, table: int, rows: np.ndarray, begin: int, end: int, blocks: int) -> None:
    """to = Σ rows of a table, those named from rows[begin] to rows[end - 1]."""
    size = blocks * BLOCK
    for k in range(begin, min(end, begin + AHEAD)):
        soon(table + size * rows[k], size)
    cleared(to, blocks)
    k = begin
    while end - k >= 2:
        if k + AHEAD + 1 < end:
            soon(table + size * rows[k + AHEAD], size)
            soon(table + size * rows[k + AHEAD + 1], size)
        p0, p1 = table + size * rows[k], table + size * rows[k + 1]
        one = spread16(np.float32(1))
        for at in range(0, size, BLOCK):
            store(to + at, fma(one, load(p1 + at), fma(one, load(p0 + at), load(to + at))))
        k += 2
    if k < end:
        added(to, table + size * rows[k], 1.0, blocks)


@inlined
def given(table: int, rows: np.ndarray, begin: int, end: int, source: int, blocks: int) -> None:
    """Adds one row to many of a table."""
    size = blocks * BLOCK
    for k in range(begin, end):
        added(table + size * rows[k], source, 1.0, blocks)


@inlined
def products(x: int, places: np.ndarray, first: int, count: int, blocks: int, scores: np.ndarray) -> None:
    """scores[k] = x · the row at places[first + k], for k below count."""
    size = blocks * BLOCK
    k = 0
    while count - k >= 6:
        p0, p1, p2 = places[first + k], places[first + k + 1], places[first + k + 2]
        p3, p4, p5 = places[first + k + 3], places[first + k + 4], places[first + k + 5]
        s0 = s1 = s2 = s3 = s4 = s5 = nothing16()
        for at in range(0, size, BLOCK):
            v = load(x + at)
            s0, s1, s2 = fma(v, load(p0 + at), s0), fma(v, load(p1 + at), s1), fma(v, load(p2 + at), s2)
            s3, s4, s5 = fma(v, load(p3 + at), s3), fma(v, load(p4 + at), s4), fma(v, load(p5 + at), s5)
        scores[k], scores[k + 1], scores[k + 2] = total(s0), total(s1), total(s2)
        scores[k + 3], scores[k + 4], scores[k + 5] = total(s3), total(s4), total(s5)
        k += 6
    while count - k >= 2:
        p0, p1 = places[first + k], places[first + k + 1]
        s0 = s1 = nothing16()
        for at in range(0, size, BLOCK):
            v = load(x + at)
            s0, s1 = fma(v, load(p0 + at), s0), fma(v, load(p1 + at), s1)
        scores[k], scores[k + 1] = total(s0), total(s1)
        k += 2
    if k < count:
        p0 = places[first + k]
        s0 = nothing16()
        for at in range(0, size, BLOCK):
            s0 = fma(load(x + at), load(p0 + at), s0)
        scores[k] = total(s0)


@inlined
def learnt(x: int, e: int, places: np.ndarray, first: int, count: int, blocks: int, steps: np.ndarray) -> None:
    """e += Σ steps[k] · row k, then row k += steps[k] · x: one step of logistic or softmax regression by its errors."""
    size = blocks * BLOCK
    k = 0
    while count - k >= 6:
        p0, p1, p2 = places[first + k], places[first + k + 1], places[first + k + 2]
        p3, p4, p5 = places[first + k + 3], places[first + k + 4], places[first + k + 5]
        g0, g1, g2 = spread16(steps[k]), spread16(steps[k + 1]), spread16(steps[k + 2])
        g3, g4, g5 = spread16(steps[k + 3]), spread16(steps[k + 4]), spread16(steps[k + 5])
        for at in range(0, size, BLOCK):
            v, w, w2 = load(x + at), load(e + at), nothing16()
            r = load(p0 + at)
            w = fma(g0, r, w)
            store(p0 + at, fma(g0, v, r))
            r = load(p1 + at)
            w2 = fma(g1, r, w2)
            store(p1 + at, fma(g1, v, r))
            r = load(p2 + at)
            w = fma(g2, r, w)
            store(p2 + at, fma(g2, v, r))
            r = load(p3 + at)
            w2 = fma(g3, r, w2)
            store(p3 + at, fma(g3, v, r))
            r = load(p4 + at)
            w = fma(g4, r, w)
            store(p4 + at, fma(g4, v, r))
            r = load(p5 + at)
            w2 = fma(g5, r, w2)
            store(p5 + at, fma(g5, v, r))
            store(e + at, fma(spread16(np.float32(1)), w, w2))
        k += 6
    while k < count:
        p0, g0 = places[first + k], spread16(steps[k])
        for at in range(0, size, BLOCK):
            r = load(p0 + at)
            store(e + at, fma(g0, r, load(e + at)))
            store(p0 + at, fma(g0, load(x + at), r))
        k += 1
