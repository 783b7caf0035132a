"""The loops of text classification, compiled: a softmax over the mean of a line's rows (arXiv 1607.01759).

Threads write without locks (HogWild). Of a line with several labels each step learns one, drawn at random, as fastText
does. Tables are those of lanes_compiled.py.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sagesmith.algorithms.blazingtext.chance_compiled import below
from sagesmith.algorithms.blazingtext.lanes_compiled import BLOCK, LANES, soon
from sagesmith.algorithms.blazingtext.rows_compiled import cleared, given, learnt, products, scaled, summed
from sagesmith.formats.compiled import compiled, inlined
from sagesmith.formats.words_compiled import address_of


class Lines(NamedTuple):
    """Lines as rows of the input table, and their labels as rows of the output table."""

    ends: np.ndarray  # (lines + 1,) int64
    rows: np.ndarray  # int32
    label_ends: np.ndarray  # (lines + 1,) int64
    labels: np.ndarray  # int64


@inlined
def _soften(scores: np.ndarray) -> None:
    most = scores[0]
    for score in scores:
        most = max(most, score)
    whole = np.float32(0)
    for k in range(len(scores)):
        scores[k] = np.exp(scores[k] - most)
        whole += scores[k]
    for k in range(len(scores)):
        scores[k] /= whole


@compiled
def softmax(
    order: np.ndarray, begin: int, end: int, rates: Any, lines: Lines, inputs: np.ndarray, outputs: np.ndarray,
    state: np.ndarray,
) -> float:  # fmt: skip
    """Learns from the lines order[begin:end]; rates are those at `begin` and at `end`. Returns the sum of -log p."""
    table, blocks, classes = address_of(inputs), inputs.shape[1] // LANES, outputs.shape[0]
    size = blocks * BLOCK
    places, scores = address_of(outputs) + size * np.arange(classes), np.empty(classes, np.float32)
    room = np.empty((3, inputs.shape[1]), np.float32)
    h = (address_of(room) + BLOCK - 1) // BLOCK * BLOCK
    e, loss = h + size, 0.0
    for at in range(begin, end):
        line = order[at]
        first, last = lines.ends[line], lines.ends[line + 1]
        marked = lines.label_ends[line + 1] - lines.label_ends[line]
        if first == last or marked == 0:
            continue
        if at + 1 < end:
            soon(address_of(lines.rows) + 4 * lines.ends[order[at + 1]], 256)
        label = lines.labels[lines.label_ends[line] + (below(state, marked) if marked > 1 else 0)]
        summed(h, table, lines.rows, first, last, blocks)
        scaled(h, 1 / np.float32(last - first), blocks)
        products(h, places, 0, classes, blocks, scores)
        _soften(scores)
        loss -= np.log(max(scores[label], np.float32(1e-30)))
        rate = np.float32(rates[0] + (rates[1] - rates[0]) * ((at - begin) / (end - begin)))
        for k in range(classes):
            scores[k] *= -rate
        scores[label] += rate
        cleared(e, blocks)
        learnt(h, e, places, 0, classes, blocks, scores)
        scaled(e, 1 / np.float32(last - first), blocks)
        given(table, lines.rows, first, last, e, blocks)
    return loss


@compiled
def best(begin: int, end: int, lines: Lines, inputs: np.ndarray, outputs: np.ndarray) -> int:
    """How many of the lines begin..end have, as their likeliest label, one of their own; not those without rows."""
    table, blocks = address_of(inputs), inputs.shape[1] // LANES
    size, classes = blocks * BLOCK, outputs.shape[0]
    places, scores = address_of(outputs) + size * np.arange(classes), np.empty(classes, np.float32)
    room = np.empty((2, inputs.shape[1]), np.float32)
    h = (address_of(room) + BLOCK - 1) // BLOCK * BLOCK
    right = 0
    for line in range(begin, end):
        first, last = lines.ends[line], lines.ends[line + 1]
        if first == last:
            continue
        summed(h, table, lines.rows, first, last, blocks)
        products(h, places, 0, classes, blocks, scores)
        likeliest = np.argmax(scores)
        for k in range(lines.label_ends[line], lines.label_ends[line + 1]):
            if lines.labels[k] == likeliest:
                right += 1
                break
    return right


@compiled
def means(table: np.ndarray, ends: np.ndarray, rows: np.ndarray, found: np.ndarray) -> None:
    """found[i] = the mean of the rows of a table from rows[ends[i]] on; of rows below 0, nothing is added."""
    width = table.shape[1]
    for line in range(len(ends) - 1):
        first, last = ends[line], ends[line + 1]
        for k in range(first, last):
            row = rows[k]
            if row >= 0:
                for j in range(width):
                    found[line, j] += table[row, j]
        if last > first:
            share = 1 / np.float32(last - first)
            for j in range(width):
                found[line, j] *= share
