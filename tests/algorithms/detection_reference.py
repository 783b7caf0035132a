"""SSD's matching, suppression and average precision once more, slowly and plainly, one box after the other."""

from __future__ import annotations

import numpy as np


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes given by corners."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    common = width * height
    return float(common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common))


def corners(box: np.ndarray) -> np.ndarray:
    """Corners of a box given by centre and size."""
    x, y, width, height = box
    return np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])


def matched(defaults: np.ndarray, boxes: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The number of the object that each default box answers for, or -1; no two objects may want the same box."""
    owners = np.full(len(defaults), -1)
    shared = np.array([[overlap(corners(default), box) for default in defaults] for box in boxes])
    shared[classes < 0] = -1
    for number in range(len(defaults)):
        best = int(shared[:, number].argmax())
        if shared[best, number] > 0.5:
            owners[number] = best
    for best in np.flatnonzero(classes >= 0):
        owners[shared[best].argmax()] = best
    return owners


def suppressed(boxes: np.ndarray, scores: np.ndarray, limit: float) -> list[int]:
    """The numbers of the boxes that survive, the best first."""
    kept: list[int] = []
    for number in sorted(range(len(scores)), key=lambda k: (-scores[k], k)):
        if all(overlap(boxes[number], boxes[other]) <= limit for other in kept):
            kept.append(number)
    return kept


def average_precision(objects: list[np.ndarray], found: list[np.ndarray], number: int, threshold: float) -> float:
    """VOC's average precision of one class: the area under the curve of precision over recall."""
    rows = sorted(
        ((row[1], picture, row) for picture, theirs in enumerate(found) for row in theirs if row[0] == number),
        key=lambda row: -row[0],
    )
    truth = [[row[1:] for row in mine if row[0] == number] for mine in objects]
    claimed: set[tuple[int, int]] = set()
    hits = []
    for _, picture, row in rows:
        shared = [overlap(row[2:], box) for box in truth[picture]]
        best = int(np.argmax(shared)) if shared else -1
        hit = best >= 0 and shared[best] >= threshold and (picture, best) not in claimed
        claimed |= {(picture, best)} if hit else set()
        hits.append(hit)
    total = sum(map(len, truth))
    recall = np.cumsum(hits) / total
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    area, before = 0.0, 0.0
    for k in range(len(hits)):
        area += (recall[k] - before) * precision[k:].max()
        before = recall[k]
    return area
