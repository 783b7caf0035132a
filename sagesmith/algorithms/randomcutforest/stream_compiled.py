"""observe: points of a stream scored, inserted and forgotten, tree by tree; compiled.

Insertion and deletion keep the distribution of a random cut tree over its present points (Guha, Mishra, Roy,
Schrijvers, Robust Random Cut Forest Based Anomaly Detection on Streams, ICML 2016, algorithms 1 and 2). Each tree keeps
a sample of its own: a reservoir in which a point's chance fades by exp(-decay) with each later one (Efraimidis and
Spirakis, Weighted random sampling with a reservoir, 2006).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sagesmith.algorithms.randomcutforest.forest_compiled import (
    EMPTY,
    cut_between,
    differs,
    join_boxes,
    score_in_tree,
    sum_of_sides,
    uniform,
)
from sagesmith.algorithms.randomcutforest.lanes_compiled import address_of, extension
from sagesmith.formats.compiled import compiled, inlined


@compiled
def observe(
    rows: np.ndarray, seen: int, decay: float, first: int, last: int, scores: np.ndarray, states: np.ndarray,
    keys: np.ndarray, holders: np.ndarray, spare_inner: np.ndarray, spare_leaves: np.ndarray, spare: np.ndarray,
    feature: np.ndarray, cut: np.ndarray, child: np.ndarray, box: np.ndarray, sides: np.ndarray, point: np.ndarray,
    mass: np.ndarray, root: np.ndarray, total: np.ndarray,
) -> None:  # fmt: skip
    """Each of the trees first ... last - 1 takes the rows in turn: scores (row, tree), then perhaps keeps it.

    `keys` and `holders` (trees, M) are a heap, the largest key first, of what the tree has drawn and of the leaves that
    hold it; `spare` counts the free inner nodes and leaves, whose numbers stand in the two arrays named so.
    """
    path = np.empty(feature.shape[1] + 1, np.int64)
    capacity = keys.shape[1]
    for tree in range(first, last):
        for row in range(len(rows)):
            x, held = rows[row], total[tree]
            if root[tree] != EMPTY:
                scores[row, tree] = score_in_tree(
                    x, tree, feature, cut, child, box, sides, point, mass, root, np.float64(held), path
                )
            key = math.log(-math.log(max(uniform(states, tree), 1e-300))) - decay * (seen + row)
            if held == capacity:
                if key >= keys[tree, 0]:
                    continue
                _forget(
                    _popped(keys, holders, tree, held), tree, spare_inner, spare_leaves, spare,
                    feature, cut, child, box, sides, point, mass, root, path,
                )  # fmt: skip
                held -= 1
            leaf = _insert(
                x, tree, states, spare_inner, spare_leaves, spare, feature, cut, child, box, sides, point, mass, root
            )
            _push(keys, holders, tree, held, key, leaf)
            total[tree] = held + 1


@inlined
def _insert(
    x: np.ndarray, tree: int, states: np.ndarray, spare_inner: np.ndarray, spare_leaves: np.ndarray, spare: np.ndarray,
    feature: np.ndarray, cut: np.ndarray, child: np.ndarray, box: np.ndarray, sides: np.ndarray, point: np.ndarray,
    mass: np.ndarray, root: np.ndarray,
) -> Any:  # fmt: skip
    """Puts a point into a tree and returns its leaf.

    From the root down: a cut of the box that `x` extends would part it from the box with probability P. Then it gets a
    leaf here; else the box's own cut stands, the box grows, and the same is asked of the child on its side.
    """
    node, parent, side = root[tree], np.int64(-1), np.int64(0)
    width = len(x)
    size = 4 * width
    place, boxes, points = address_of(x), address_of(box[tree]), address_of(point[tree])
    while node != EMPTY:
        if node >= 0:
            low = boxes + 2 * size * np.int64(node)
            high = low + size
            own = sides[tree, node]
        else:
            low = points + size * np.int64(~node)
            high, own = low, 0.0
        outside = np.float64(extension(place, low, high, width))
        if node < 0 and not differs(point[tree, ~node], x):
            mass[tree, ~node] += 1
            return ~node
        if node < 0 or (outside > 0.0 and uniform(states, tree) * (own + outside) < outside):
            break
        if outside > 0.0:
            sides[tree, node] = _widen(x, box[tree, node, 0], box[tree, node, 1])
        parent, side = node, np.int64(x[feature[tree, node]] > cut[tree, node])
        node = child[tree, parent, side]
    spare[tree, 1] -= 1
    leaf = spare_leaves[tree, spare[tree, 1]]
    point[tree, leaf] = x
    mass[tree, leaf] = 1
    fresh = ~leaf
    if node != EMPTY:
        spare[tree, 0] -= 1
        fresh = spare_inner[tree, spare[tree, 0]]
        box[tree, fresh, 0] = box[tree, node, 0] if node >= 0 else point[tree, ~node]
        box[tree, fresh, 1] = box[tree, node, 1] if node >= 0 else point[tree, ~node]
        at, value, right = _parting(x, box[tree, fresh, 0], box[tree, fresh, 1], tree, states)
        feature[tree, fresh], cut[tree, fresh] = at, value
        child[tree, fresh, right], child[tree, fresh, 1 - right] = ~leaf, node
        sides[tree, fresh] = _widen(x, box[tree, fresh, 0], box[tree, fresh, 1])
    if parent < 0:
        root[tree] = fresh
    else:
        child[tree, parent, side] = fresh
    return leaf


@inlined
def _widen(x: np.ndarray, low: np.ndarray, high: np.ndarray) -> Any:
    """Extends a box by a point and returns the sum of its sides."""
    for at in range(len(x)):
        low[at] = x[at] if x[at] < low[at] else low[at]
        high[at] = x[at] if x[at] > high[at] else high[at]
    return sum_of_sides(low, high)


@inlined
def _parting(x: np.ndarray, low: np.ndarray, high: np.ndarray, tree: int, states: np.ndarray) -> Any:
    """A cut between a point and a box, uniform over the extension: coordinate, value, and the side of the point."""
    outside = 0.0
    for at in range(len(x)):
        outside += max(0.0, np.float64(low[at]) - x[at]) + max(0.0, np.float64(x[at]) - high[at])
    target, passed, found = uniform(states, tree) * outside, 0.0, 0
    for at in range(len(x)):
        part = max(0.0, np.float64(low[at]) - x[at]) + max(0.0, np.float64(x[at]) - high[at])
        if part > 0.0:
            found = at
            passed += part
            if passed > target:
                break
    share = uniform(states, tree)
    if x[found] > high[found]:
        return found, cut_between(np.float64(high[found]), np.float64(x[found]), share), 1
    return found, cut_between(np.float64(x[found]), np.float64(low[found]), share), 0


@inlined
def _forget(
    leaf: int, tree: int, spare_inner: np.ndarray, spare_leaves: np.ndarray, spare: np.ndarray, feature: np.ndarray,
    cut: np.ndarray, child: np.ndarray, box: np.ndarray, sides: np.ndarray, point: np.ndarray, mass: np.ndarray,
    root: np.ndarray, path: np.ndarray,
) -> None:  # fmt: skip
    """Takes one copy of a leaf's point away; with the last one its sibling moves up and the boxes above shrink."""
    mass[tree, leaf] -= 1
    if mass[tree, leaf] > 0:
        return
    x = point[tree, leaf]
    node, depth = root[tree], 0
    while node >= 0:
        path[depth] = node
        depth += 1
        node = child[tree, node, np.int64(x[feature[tree, node]] > cut[tree, node])]
    spare_leaves[tree, spare[tree, 1]] = leaf
    spare[tree, 1] += 1
    if depth == 0:
        root[tree] = EMPTY
        return
    parent = path[depth - 1]
    sibling = child[tree, parent, 0] if child[tree, parent, 1] == node else child[tree, parent, 1]
    spare_inner[tree, spare[tree, 0]] = parent
    spare[tree, 0] += 1
    if depth == 1:
        root[tree] = sibling
        return
    above = path[depth - 2]
    child[tree, above, np.int64(child[tree, above, 1] == parent)] = sibling
    for level in range(depth - 2, -1, -1):
        node = path[level]
        if not _on_edge(x, box[tree, node, 0], box[tree, node, 1]):
            return  # inside this box and all above: none of them shrinks
        join_boxes(tree, node, child, box, sides, point)


@inlined
def _on_edge(x: np.ndarray, low: np.ndarray, high: np.ndarray) -> Any:
    edges = np.int64(0)  # counted to the end: a loop that may end anywhere is not made of vector instructions
    for at in range(len(x)):
        edges += np.int64((low[at] < high[at]) & ((x[at] == low[at]) | (x[at] == high[at])))
    return edges > 0


@inlined
def _push(keys: np.ndarray, holders: np.ndarray, tree: int, held: int, key: float, leaf: int) -> None:
    at = held
    while at > 0 and keys[tree, (at - 1) // 2] < key:
        keys[tree, at], holders[tree, at] = keys[tree, (at - 1) // 2], holders[tree, (at - 1) // 2]
        at = (at - 1) // 2
    keys[tree, at], holders[tree, at] = key, leaf


@inlined
def _popped(keys: np.ndarray, holders: np.ndarray, tree: int, held: int) -> Any:
    """Takes the entry with the largest key out of a heap of `held`, and returns its leaf."""
    leaf = holders[tree, 0]
    key, moved = keys[tree, held - 1], holders[tree, held - 1]
    at = 0
    while 2 * at + 1 < held - 1:
        below = 2 * at + 1
        if below + 1 < held - 1 and keys[tree, below + 1] > keys[tree, below]:
            below += 1
        if keys[tree, below] <= key:
            break
        keys[tree, at], holders[tree, at] = keys[tree, below], holders[tree, below]
        at = below
    keys[tree, at], holders[tree, at] = key, moved
    return leaf
