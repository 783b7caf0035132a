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
def _decode(offsets: np.ndarray, defaults: np.ndarray, n: int, boxes: np.ndarray, i: int) -> None:
    """Corners and area of default box n, cut to the picture, into boxes[:, i]; see matching.decoded."""
    x = defaults[n, 0] + np.float32(0.1) * offsets[n, 0] * defaults[n, 2]
    y = defaults[n, 1] + np.float32(0.1) * offsets[n, 1] * defaults[n, 3]
    width = defaults[n, 2] * np.exp(np.float32(0.2) * offsets[n, 2]) * np.float32(0.5)
    height = defaults[n, 3] * np.exp(np.float32(0.2) * offsets[n, 3]) * np.float32(0.5)
    boxes[0, i] = min(max(x - width, np.float32(0)), np.float32(1))
    boxes[1, i] = min(max(y - height, np.float32(0)), np.float32(1))
    boxes[2, i] = min(max(x + width, np.float32(0)), np.float32(1))
    boxes[3, i] = min(max(y + height, np.float32(0)), np.float32(1))
    boxes[4, i] = (boxes[2, i] - boxes[0, i]) * (boxes[3, i] - boxes[1, i])


@inlined
def _suppress(boxes: np.ndarray, dropped: np.ndarray, count: int, limit: np.float32) -> None:
    """Of boxes[:, :count], the best first, those are dropped that overlap a better one by more than `limit`.

    One row for each side, and no branch within: so that processors take eight boxes at a time.
    """
    left, top, right, bottom, area = boxes[0], boxes[1], boxes[2], boxes[3], boxes[4]
    for i in range(count):
        if dropped[i]:
            continue
        for j in range(i + 1, count):
            width = max(min(right[i], right[j]) - max(left[i], left[j]), np.float32(0))
            height = max(min(bottom[i], bottom[j]) - max(top[i], top[j]), np.float32(0))
            common = width * height
            dropped[j] |= common > limit * (area[i] + area[j] - common)


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
    boxes = np.empty((5, candidates), np.float32)
    dropped = np.empty(candidates, np.bool_)
    kept = 0
    for c in range(classes):
        mine = min(found[c], candidates)
        if found[c] > candidates:
            _keep_best(scores[c], order[c], found[c], candidates)
        _sort(scores[c], order[c], mine)
        for i in range(mine):
            _decode(offsets, defaults, order[c, i], boxes, i)
            dropped[i] = not boxes[4, i] > 0
        _suppress(boxes, dropped, mine, np.float32(limit))
        for i in range(mine):
            if not dropped[i]:
                rows[kept, 0] = c
                rows[kept, 1] = scores[c, order[c, i]]
                rows[kept, 2:] = boxes[:4, i]
                kept += 1
    best = rows[:kept, 1].copy()
    by_score = np.arange(kept).astype(np.int32)
    if kept > most:
        _keep_best(best, by_score, kept, most)
    _sort(best, by_score, min(kept, most))
    return rows[by_score[: min(kept, most)]]
