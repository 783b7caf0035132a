"""attribute: the score of a point, shared out among coordinates and directions; compiled.

The same walk as `forest_compiled.score`: wherever that adds P / (depth + 1), this adds the part of P that each
coordinate has in the extension of the box, so that the parts of a point sum to its score.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sagesmith.algorithms.randomcutforest.forest_compiled import differs
from sagesmith.algorithms.randomcutforest.trees import EMPTY, Trees
from sagesmith.formats.compiled import compiled, inlined


@compiled
def attribute(rows: np.ndarray, dim: int, out: np.ndarray, trees: Trees) -> None:
    """Sets `out` (n, width, 2): for each row and coordinate the parts of being too high and too low."""
    path = np.empty(trees.feature.shape[1] + 1, np.int64)
    parts = np.empty((rows.shape[1], 2))
    out[:] = 0.0
    count = 0
    for tree in range(len(trees.root)):
        if trees.root[tree] == EMPTY:
            continue
        count += 1
        points = np.float64(trees.total[tree])
        for row in range(len(rows)):
            _parts_in_tree(rows[row], dim, tree, trees, points, path, parts)
            scale = math.log2(points + 1.0)
            for at in range(rows.shape[1]):
                out[row, at, 0] += scale * parts[at, 0]
                out[row, at, 1] += scale * parts[at, 1]
    out /= max(1, count)


@inlined
def _parts_in_tree(
    x: np.ndarray, dim: int, tree: int, trees: Trees, total: float, path: np.ndarray, parts: np.ndarray
) -> None:
    node, depth = trees.root[tree], 0
    while node >= 0:
        path[depth] = node
        depth += 1
        node = trees.child[tree, node, np.int64(x[trees.feature[tree, node]] > trees.cut[tree, node])]
    leaf = ~node
    parts[:] = 0.0
    if differs(trees.point[tree, leaf], x):
        _add(x, trees.point[tree, leaf], trees.point[tree, leaf], 1.0 / (depth + 1.0), 0.0, parts)
    else:
        copies = np.float64(trees.mass[tree, leaf])
        score = (1.0 - copies / (2.0 * total)) / (depth + math.log2(copies + 1.0))
        if depth == 0:  # nothing else is known: no coordinate stands out
            parts[:dim] = score / (2 * dim)
            return
        # A point of the sample lies in every box. What sets it apart is the cut above it: the box of its neighbours.
        last = path[depth - 1]
        other = trees.child[tree, last, 0] if trees.child[tree, last, 1] == node else trees.child[tree, last, 1]
        low = trees.box[tree, other, 0] if other >= 0 else trees.point[tree, ~other]
        high = trees.box[tree, other, 1] if other >= 0 else trees.point[tree, ~other]
        _add(x, low, high, score, 0.0, parts)
        return
    for level in range(depth - 1, -1, -1):
        node = path[level]
        if not _add(
            x, trees.box[tree, node, 0], trees.box[tree, node, 1], 1.0 / (level + 1.0), trees.sides[tree, node], parts
        ):
            return


@inlined
def _add(x: np.ndarray, low: np.ndarray, high: np.ndarray, value: float, sides: float, parts: np.ndarray) -> Any:
    """parts ← P · value, shared as the extension is, + (1 - P) · parts; tells whether the point is outside at all."""
    outside = 0.0
    for at in range(len(x)):
        outside += max(0.0, np.float64(x[at]) - high[at]) + max(0.0, np.float64(low[at]) - x[at])
    if outside == 0.0:
        return False
    kept = sides / (sides + outside)
    each = value / (sides + outside)
    for at in range(len(x)):
        parts[at, 0] = kept * parts[at, 0] + each * max(0.0, np.float64(x[at]) - high[at])
        parts[at, 1] = kept * parts[at, 1] + each * max(0.0, np.float64(low[at]) - x[at])
    return True
