"""grow, score: random cut trees over flat arrays (trees.py), compiled; several threads may run them at once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sagesmith.algorithms.randomcutforest.borrowed_compiled import borrowed
from sagesmith.algorithms.randomcutforest.lanes_compiled import cover, extension
from sagesmith.algorithms.randomcutforest.trees import EMPTY, Trees
from sagesmith.formats.compiled import compiled, inlined
from sagesmith.formats.words_compiled import address_of

TOGETHER = 8  # walks down trees at once
WALK = 4  # numbers about a walk, before its path
STEP = np.uint64(0x9E3779B97F4A7C15)
FIRST, SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
S11, S27, S30, S31 = np.uint64(11), np.uint64(27), np.uint64(30), np.uint64(31)


@inlined
def uniform(states: np.ndarray, tree: int) -> Any:
    """A number in [0, 1) from the tree's own generator (splitmix64: Steele, Lea, Flood, OOPSLA 2014)."""
    states[tree] += STEP
    word = states[tree]
    word = (word ^ (word >> S30)) * FIRST
    word = (word ^ (word >> S27)) * SECOND
    return np.float64((word ^ (word >> S31)) >> S11) * 2.0**-53


@inlined
def cut_between(low: float, high: float, share: float) -> Any:
    """A float32 in [low, high): what equals it goes left, so `high` itself would separate nothing."""
    cut = np.float32(low + share * (high - low))
    return cut if low <= cut < high else np.float32(low)


@compiled
def grow(rows: np.ndarray, tree: int, states: np.ndarray, trees: Trees) -> Any:
    """Grows one tree over `rows` (M, width) float32 and returns its number of leaves.

    A node cuts the box of its points in a coordinate drawn with probability side / Σ sides, uniformly (Guha et al.,
    ICML 2016, definition 1), until all points of a node are the same. Inner nodes are numbered from the root down,
    left first, so a child has a larger number than its parent.
    """
    count, width = rows.shape
    order = np.arange(count)
    todo = np.empty((count + 1, 4), np.int64)  # start, stop, parent (-1: none), side
    todo[0] = (0, count, -1, 0)
    waiting, inner, leaves = 1, 0, 0
    low, high = np.empty(width, np.float32), np.empty(width, np.float32)
    while waiting:
        waiting -= 1
        start, stop, parent, side = todo[waiting]
        total = _bounds(rows, order, start, stop, low, high)
        if total == 0.0:
            node = ~leaves
            trees.point[tree, leaves] = rows[order[start]]
            trees.mass[tree, leaves] = stop - start
            leaves += 1
        else:
            node = inner
            inner += 1
            trees.box[tree, node, 0], trees.box[tree, node, 1], trees.sides[tree, node] = low, high, total
            at = _drawn(low, high, uniform(states, tree) * total)
            value = cut_between(np.float64(low[at]), np.float64(high[at]), uniform(states, tree))
            trees.feature[tree, node], trees.cut[tree, node] = at, value
            middle = _parted(rows, order, start, stop, at, value)
            todo[waiting] = (middle, stop, node, 1)
            todo[waiting + 1] = (start, middle, node, 0)
            waiting += 2
        if parent < 0:
            trees.root[tree] = node
        else:
            trees.child[tree, parent, side] = node
    return leaves


@inlined
def _bounds(rows: np.ndarray, order: np.ndarray, start: int, stop: int, low: np.ndarray, high: np.ndarray) -> Any:
    """Sets the box of some rows and returns the sum of its sides."""
    low[:] = rows[order[start]]
    high[:] = low
    for index in range(start + 1, stop):
        row = order[index]
        for at in range(len(low)):
            value = rows[row, at]
            low[at] = value if value < low[at] else low[at]
            high[at] = value if value > high[at] else high[at]
    return sum_of_sides(low, high)


@inlined
def _drawn(low: np.ndarray, high: np.ndarray, target: float) -> Any:
    """The coordinate in whose side `target`, a part of the sum of all sides, falls."""
    found, passed = 0, np.float64(0.0)
    for at in range(len(low)):
        side = np.float64(high[at]) - np.float64(low[at])
        if side > 0:
            found = at
            passed += side
            if passed > target:
                break
    return found


@inlined
def _parted(rows: np.ndarray, order: np.ndarray, start: int, stop: int, at: int, value: float) -> Any:
    """Moves rows whose coordinate is at most `value` to the front; returns where the others begin."""
    left, right = start, stop - 1
    while left <= right:
        if rows[order[left], at] <= value:
            left += 1
        else:
            order[left], order[right] = order[right], order[left]
            right -= 1
    return left


@inlined
def differs(point: np.ndarray, x: np.ndarray) -> Any:
    for at in range(len(x)):  # noqa: SIM110
        if point[at] != x[at]:
            return True
    return False


@inlined
def add_scores(
    rows: np.ndarray, start: int, stop: int, first: int, last: int, trees: Trees, walk: np.ndarray, out: np.ndarray
) -> None:
    """Adds the scores of rows[start:stop] in trees first ... last - 1 to `out`: (trees, rows), or (1, rows) for sums.

    An empty tree adds nothing. Of the walks from a root to a leaf TOGETHER go on in turn: many rows in one tree, which
    stays in the cache, or few rows in several trees. `walk` (TOGETHER, WALK + longest path): node, depth, tree, row and
    the nodes passed. The arrays are better `borrowed`: else views of them have their references counted.
    """
    feature, cut, child = trees.feature.reshape(-1), trees.cut.reshape(-1), trees.child.reshape(-1)
    inner = trees.feature.shape[1]
    tree, row = first, start
    while tree < last and row < stop:
        together = 0
        while together < TOGETHER and tree < last:
            walk[together, 0], walk[together, 1], walk[together, 2], walk[together, 3] = trees.root[tree], 0, tree, row
            together += 1
            row += 1
            if row == stop:
                tree, row = tree + 1, start
        walking, depth = True, 0
        while walking:  # in turn: while one walk's step waits for memory, the others' go on
            walking = False
            for which in range(together):
                node = walk[which, 0]
                if node >= 0:
                    at = walk[which, 2] * inner + node
                    walk[which, WALK + depth] = node
                    walk[which, 0] = child[2 * at + np.int64(rows[walk[which, 3], feature[at]] > cut[at])]
                    walk[which, 1] = depth + 1
                    walking = True
            depth += 1
        for which in range(together):
            if walk[which, 0] != EMPTY:
                into = walk[which, 2] if len(out) > 1 else 0
                out[into, walk[which, 3]] += _risen(rows, trees, walk, which)


@inlined
def _risen(rows: np.ndarray, trees: Trees, walk: np.ndarray, which: int) -> Any:
    """The score at the end of a walk (Guha et al. 2016, section 3; AWS's open library).

    The expected 1 / (depth + 1) of a point were it inserted: at each inner node it would be cut off with probability P.
    """
    leaf, depth, tree, row = ~walk[which, 0], walk[which, 1], walk[which, 2], walk[which, 3]
    total, width, same = np.float64(trees.total[tree]), rows.shape[1], 0
    scale = math.log2(total + 1.0)
    while same < width and trees.point[tree, leaf, same] == rows[row, same]:
        same += 1
    if same == width:  # a point of the tree lies in every box: nothing above changes its score
        copies = np.float64(trees.mass[tree, leaf])
        return scale * (1.0 - copies / (2.0 * total)) / (depth + math.log2(copies + 1.0))
    expected, size = 1.0 / (depth + 1.0), 4 * width
    place, boxes = address_of(rows) + size * row, address_of(trees.box) + 2 * size * trees.box.shape[1] * tree
    for level in range(depth - 1, -1, -1):
        node = walk[which, WALK + level]
        low = boxes + 2 * size * node
        outside = np.float64(extension(place, low, low + size, width))
        if outside == 0.0:
            break  # the boxes above hold this one
        cut_off = outside / (trees.sides[tree, node] + outside) if outside < np.inf else 1.0
        expected = cut_off / (level + 1.0) + (1.0 - cut_off) * expected
    return scale * expected


@compiled
def score(rows: np.ndarray, out: np.ndarray, trees: Trees) -> None:
    """Sets `out` (n,) to the mean over all trees that hold a point."""
    walk = np.empty((TOGETHER, WALK + trees.feature.shape[1]), np.int64)
    trees, (rows,) = borrowed(trees), borrowed((rows,))
    out[:] = 0.0
    add_scores(rows, 0, len(rows), 0, len(trees.root), trees, walk, out.reshape(1, -1))
    out /= max(1, np.sum(trees.root != EMPTY))


@compiled
def deepest(tree: int, inner: int, trees: Trees) -> Any:
    """The nodes from the root of a grown tree to its deepest leaf, both counted."""
    level = np.ones(max(1, inner), np.int64)
    most = np.int64(1)
    for node in range(inner):
        for side in range(2):
            below = trees.child[tree, node, side]
            if below >= 0:
                level[below] = level[node] + 1
            most = max(most, level[node] + 1)
    return most


@compiled
def misplaced(trees: Trees) -> int:
    """A tree with a point that its own cuts do not lead to, or -1. Such a point could not be found to be forgotten."""
    for tree in range(len(trees.root)):
        for leaf in range(trees.mass.shape[1]):
            if trees.mass[tree, leaf] > 0:
                node = trees.root[tree]
                while node >= 0:
                    right = trees.point[tree, leaf, trees.feature[tree, node]] > trees.cut[tree, node]
                    node = trees.child[tree, node, np.int64(right)]
                if node != ~leaf:
                    return tree
    return -1


@compiled
def boxes(trees: Trees, inner: np.ndarray) -> None:
    """Sets boxes and sides of all trees, of which tree t has inner[t] inner nodes, each with larger children."""
    for tree in range(len(inner)):
        for node in range(inner[tree] - 1, -1, -1):
            join_boxes(tree, node, trees)


@inlined
def join_boxes(tree: int, node: int, trees: Trees) -> None:
    """The box of a node from those of its children."""
    width = trees.box.shape[3]
    size = 4 * width
    boxes, points = address_of(trees.box[tree]), address_of(trees.point[tree])
    left, right = np.int64(trees.child[tree, node, 0]), np.int64(trees.child[tree, node, 1])
    low = boxes + 2 * size * left if left >= 0 else points + size * ~left
    high = low + size if left >= 0 else low
    least = boxes + 2 * size * right if right >= 0 else points + size * ~right
    greatest = least + size if right >= 0 else least
    trees.sides[tree, node] = cover(boxes + 2 * size * np.int64(node), low, high, least, greatest, width)


@inlined
def sum_of_sides(low: np.ndarray, high: np.ndarray) -> Any:
    """How far the upper corner of a box lies outside of its lower one."""
    corner = address_of(low)
    return np.float64(extension(address_of(high), corner, corner, len(low)))
