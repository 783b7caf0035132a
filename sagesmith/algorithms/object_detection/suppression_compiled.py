"""suppression_compiled: the inner loops of suppression.py, compiled: one picture at a time, without the GIL."""

from __future__ import annotations

from typing import Any

import numpy as np

from sagesmith.formats.compiled import compiled, inlined


@inlined
def _before(scores: np.ndarray, a: Any, b: Any) -> Any:
    """Whether candidate a comes before b: the larger score, then the smaller number."""
    return scores[a] > scores[b] or (scores[a] == scores[b] and a < b)


@inlined
def _keep_best(scores: np.ndarray, order: np.ndarray, count: int, wanted: int) -> None:
    """Moves the `wanted` best of order[:count] to its front, in no order: Hoare's selection."""
    low, high = 0, count - 1
    while low < high:
        pivot = order[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while _before(scores, order[i], pivot):
                i += 1
            while _before(scores, pivot, order[j]):
                j -= 1
            if i <= j:
                order[i], order[j] = order[j], order[i]
                i += 1
                j -= 1
        if wanted - 1 <= j:
            high = j
        elif wanted - 1 >= i:
            low = i
        else:
            break


@inlined
def _sort(scores: np.ndarray, order: np.ndarray, count: int) -> None:
    """Sorts order[:count], the best first: heapsort, which needs no room."""
    for start in range(count // 2 - 1, -1, -1):
        _sink(scores, order, start, count)
    for end in range(count - 1, 0, -1):
        order[0], order[end] = order[end], order[0]
        _sink(scores, order, 0, end)


@compiled
def _sink(scores: np.ndarray, order: np.ndarray, start: int, count: int) -> None:
    root = start
    while True:
        child = 2 * root + 1
        if child >= count:
            return
        if child + 1 < count and _before(scores, order[child], order[child + 1]):
            child += 1
        if not _before(scores, order[root], order[child]):
            return
        order[root], order[child] = order[child], order[root]
        root = child


@inlined
def _decode(offsets: np.ndarray, defaults: np.ndarray, n: int, box: np.ndarray) -> None:
    """Corners of one box, cut to the picture; see matching.decoded."""
    x = defaults[n, 0] + np.float32(0.1) * offsets[n, 0] * defaults[n, 2]
    y = defaults[n, 1] + np.float32(0.1) * offsets[n, 1] * defaults[n, 3]
    width = defaults[n, 2] * np.exp(np.float32(0.2) * offsets[n, 2]) * np.float32(0.5)
    height = defaults[n, 3] * np.exp(np.float32(0.2) * offsets[n, 3]) * np.float32(0.5)
    box[0] = min(max(x - width, np.float32(0)), np.float32(1))
    box[1] = min(max(y - height, np.float32(0)), np.float32(1))
    box[2] = min(max(x + width, np.float32(0)), np.float32(1))
    box[3] = min(max(y + height, np.float32(0)), np.float32(1))


@inlined
def _suppress(boxes: np.ndarray, alive: np.ndarray, count: int, limit: float) -> None:
    """Of boxes[:count], the best first, those stay alive that overlap no better living one by more than `limit`."""
    for i in range(count):
        if not alive[i]:
            continue
        left, top, right, bottom = boxes[i, 0], boxes[i, 1], boxes[i, 2], boxes[i, 3]
        area = (right - left) * (bottom - top)
        for j in range(i + 1, count):
            width = min(right, boxes[j, 2]) - max(left, boxes[j, 0])
            height = min(bottom, boxes[j, 3]) - max(top, boxes[j, 1])
            if width <= 0 or height <= 0:
                continue
            common = width * height
            other = (boxes[j, 2] - boxes[j, 0]) * (boxes[j, 3] - boxes[j, 1])
            if common > limit * (area + other - common):
                alive[j] = False


@compiled
def detected(
    probabilities: np.ndarray,
    offsets: np.ndarray,
    defaults: np.ndarray,
    least: float,
    limit: float,
    candidates: int,
    most: int,
) -> np.ndarray:
    """The detections of one picture, (k, 6): class, score, xmin, ymin, xmax, ymax; the best first.

    Args:
        probabilities: (n, classes + 1), the background first.
        offsets, defaults: (n, 4) each.
        least: score from which a box is looked at.
        limit: overlap above which a box of the same class is dropped for a better one.
        candidates: boxes of a class that are looked at, the best ones.
        most: rows of the answer.
    """
    count, classes = len(probabilities), probabilities.shape[1] - 1
    scores = np.empty((classes, count), np.float32)
    order = np.empty((classes, count), np.int32)
    found = np.zeros(classes, np.int32)
    for n in range(count):
        for c in range(classes):
            score = probabilities[n, c + 1]
            if score > least:
                scores[c, n] = score
                order[c, found[c]] = n
                found[c] += 1
    room = 0
    for c in range(classes):
        room += min(found[c], candidates)
    rows = np.empty((room, 6), np.float32)
    boxes = np.empty((candidates, 4), np.float32)
    alive = np.empty(candidates, np.bool_)
    kept = 0
    for c in range(classes):
        mine = min(found[c], candidates)
        if found[c] > candidates:
            _keep_best(scores[c], order[c], found[c], candidates)
        _sort(scores[c], order[c], mine)
        for i in range(mine):
            _decode(offsets, defaults, order[c, i], boxes[i])
            alive[i] = boxes[i, 2] > boxes[i, 0] and boxes[i, 3] > boxes[i, 1]
        _suppress(boxes, alive, mine, limit)
        for i in range(mine):
            if alive[i]:
                rows[kept, 0] = c
                rows[kept, 1] = scores[c, order[c, i]]
                rows[kept, 2:] = boxes[i]
                kept += 1
    best = rows[:kept, 1].copy()
    by_score = np.arange(kept).astype(np.int32)
    if kept > most:
        _keep_best(best, by_score, kept, most)
    _sort(best, by_score, min(kept, most))
    return rows[by_score[: min(kept, most)]]
