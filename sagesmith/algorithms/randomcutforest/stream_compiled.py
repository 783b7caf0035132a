"""observe, observe_value: points of a stream scored, inserted and forgotten, tree by tree; compiled.

Insertion and deletion keep the distribution of a random cut tree over its present points (Guha, Mishra, Roy,
Schrijvers, Robust Random Cut Forest Based Anomaly Detection on Streams, ICML 2016, algorithms 1 and 2). Each tree keeps
a sample of its own: a reservoir in which a point's chance fades by exp(-decay) with each later one (Efraimidis and
Spirakis, Weighted random sampling with a reservoir, 2006).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import typeof

from sagesmith.algorithms.randomcutforest.borrowed_compiled import borrowed, noted, recalled
from sagesmith.algorithms.randomcutforest.forest_compiled import (
    TOGETHER,
    WALK,
    add_scores,
    cut_between,
    differs,
    join_boxes,
    uniform,
)
from sagesmith.algorithms.randomcutforest.lanes_compiled import cover, extension
from sagesmith.algorithms.randomcutforest.trees import EMPTY, LARGE, Samples, Trees
from sagesmith.formats.compiled import compiled, inlined
from sagesmith.formats.words_compiled import address_of

FAR = 1e15  # rows that no stream reaches
_ends = recalled(typeof((np.empty(1, np.float32), np.empty(1))))
_samples, _trees = recalled(typeof(Samples.empty(1, 1, 0))), recalled(typeof(Trees.empty(1, 1, 1)))


@compiled
def observe(
    rows: np.ndarray, seen: int, decay: float, first: int, last: int, scores: np.ndarray, samples: Samples, trees: Trees
) -> None:
    """Each of the trees first ... last - 1 takes the rows in turn: scores (tree, row) each, then perhaps keeps it.

    Rows up to the next that is kept meet the same tree, so they are scored together; a single row in all trees at once.
    `seen` counts the rows before.
    """
    rows, scores = borrowed((rows, scores))
    samples, trees = borrowed(samples), borrowed(trees)
    walk, count = np.empty((TOGETHER, WALK + trees.feature.shape[1]), np.int64), len(rows)
    if count == 1:
        add_scores(rows, 0, 1, first, last, trees, walk, scores)
    for tree in range(first, last):
        start = 0
        if samples.next[tree] < seen:  # a tree that was not streamed before
            samples.next[tree] = _next_kept(seen, decay, tree, samples)
        while start < count:
            kept = samples.next[tree] - seen
            stop = min(count, kept + 1)
            if count > 1:
                add_scores(rows, start, stop, tree, tree + 1, trees, walk, scores)
            if kept < stop:
                _keep(rows[kept], seen + kept, decay, tree, samples, trees, walk[0])
            start = stop


@compiled
def note(newest: np.ndarray, moments: np.ndarray, samples: Samples, trees: Trees, notes: np.ndarray) -> None:
    """Writes down in `notes` (3, WORDS) int64 where the arrays lie: for as long as they are kept and not replaced."""
    noted((newest, moments), address_of(notes[0]))
    noted(samples, address_of(notes[1]))
    noted(trees, address_of(notes[2]))


@compiled
def observe_value(value: np.ndarray, seen: int, shingle: int, decay: float, notes: np.ndarray) -> float:
    """The score of the newest value (feature_dim,), which is learnt; NaN, and nothing done, if it is out of range.

    `seen` counts the values before, `notes` are of `note`.
    """
    newest, moments = _ends(address_of(notes[0]))
    samples, trees = _samples(address_of(notes[1])), _trees(address_of(notes[2]))
    for at in range(len(value)):
        if not abs(value[at]) <= LARGE:
            return np.nan
    kept = (shingle - 1) * len(value)
    for at in range(kept):
        newest[at] = newest[at + len(value)]
    newest[kept : kept + len(value)] = value
    points = seen + 1 - shingle
    if points < 0:
        return 0.0
    count = len(trees.root)
    full = trees.total[0] == trees.mass.shape[1]
    scores = np.zeros((1, 1))
    observe(newest.reshape(1, -1), points, decay, 0, count, scores, samples, trees)
    found = float(scores[0, 0] / count)
    if full:
        moments[0] += 1.0
        moments[1] += found
        moments[2] += found * found
    return found


@compiled
def average(scores: np.ndarray, out: np.ndarray, moments: np.ndarray, filling: int) -> None:
    """Sets `out` (rows,) to the means of `scores` (trees, rows).

    Adds count, sum and sum of squares to `moments`, but for the first `filling` rows.
    """
    for row in range(len(out)):
        out[row] = 0.0
        for tree in range(len(scores)):
            out[row] += scores[tree, row]
        out[row] /= len(scores)
        if row >= filling:
            moments[0] += 1.0
            moments[1] += out[row]
            moments[2] += out[row] * out[row]


@inlined
def _keep(x: np.ndarray, row: int, decay: float, tree: int, samples: Samples, trees: Trees, path: np.ndarray) -> None:
    """Takes a point into a tree's sample and settles which comes next; a full tree first forgets the largest key."""
    held, capacity, draw = trees.total[tree], samples.keys.shape[1], uniform(samples.states, tree)
    arrival = -math.log(max(draw, 1e-300))
    if held == capacity:  # the key, given that it is below the largest
        arrival = -math.log1p(draw * math.expm1(-math.exp(samples.keys[tree, 0] + decay * row)))
        _forget(_popped(samples, tree, held), tree, samples, trees, path)
        held -= 1
    leaf = _insert(x, tree, samples, trees)
    _push(samples, tree, held, math.log(max(arrival, 1e-300)) - decay * row, leaf)
    trees.total[tree] = held + 1
    samples.next[tree] = row + 1 if held + 1 < capacity else _next_kept(row + 1, decay, tree, samples)


@inlined
def _next_kept(row: int, decay: float, tree: int, samples: Samples) -> Any:
    """The first row from `row` on that a full tree keeps, without a draw for each that it does not.

    Row i is kept if its key log(e) - decay i, e from an exponential distribution, is below the largest held: rows pass
    until the sum of exp(largest + decay i) is more than another such e (the exponential jumps of Efraimidis and
    Spirakis), and a geometric series has a closed form.
    """
    pull = samples.keys[tree, 0] + decay * row
    wait = -math.log(max(uniform(samples.states, tree), 1e-300))
    if pull > 30.0:  # no row withstands e^30
        return np.int64(row)
    passed = wait * math.exp(-pull)
    if decay > 0.0:
        passed = math.log1p(passed * math.expm1(decay)) / decay
    return np.int64(row) + np.int64(min(passed, FAR))


@inlined
def _insert(x: np.ndarray, tree: int, samples: Samples, trees: Trees) -> Any:
    """Puts a point into a tree and returns its leaf.

    From the root down: a cut of the box that `x` extends would part it from the box with probability P. Then it gets a
    leaf here; else the box's own cut stands, the box grows, and the same is asked of the child on its side.
    """
    node, parent, side = trees.root[tree], np.int64(-1), np.int64(0)
    width = len(x)
    size = 4 * width
    feature, cut, child, sides = trees.feature[tree], trees.cut[tree], trees.child[tree], trees.sides[tree]
    box, point = trees.box[tree], trees.point[tree]
    place, boxes, points = address_of(x), address_of(box), address_of(point)
    while node != EMPTY:
        if node >= 0:
            low = boxes + 2 * size * np.int64(node)
            high = low + size
            own = sides[node]
        else:
            low = points + size * np.int64(~node)
            high, own = low, 0.0
        outside = np.float64(extension(place, low, high, width))
        if node < 0 and not differs(point[~node], x):
            trees.mass[tree, ~node] += 1
            return ~node
        if node < 0 or (outside > 0.0 and uniform(samples.states, tree) * (own + outside) < outside):
            break
        if outside > 0.0:
            sides[node] = cover(low, low, high, place, place, width)
        parent, side = node, np.int64(x[feature[node]] > cut[node])
        node = child[parent, side]
    samples.free[tree, 1] -= 1
    leaf = samples.leaves[tree, samples.free[tree, 1]]
    point[leaf] = x
    trees.mass[tree, leaf] = 1
    fresh = ~leaf
    if node != EMPTY:
        samples.free[tree, 0] -= 1
        fresh = samples.inner[tree, samples.free[tree, 0]]
        new = boxes + 2 * size * np.int64(fresh)
        cover(new, low, high, low, high, width)
        at, value, right = _parting(x, box[fresh, 0], box[fresh, 1], outside, tree, samples.states)
        feature[fresh], cut[fresh] = at, value
        child[fresh, right], child[fresh, 1 - right] = ~leaf, node
        sides[fresh] = cover(new, new, new + size, place, place, width)
    if parent < 0:
        trees.root[tree] = fresh
    else:
        child[parent, side] = fresh
    return leaf


@inlined
def _parting(x: np.ndarray, low: np.ndarray, high: np.ndarray, outside: float, tree: int, states: np.ndarray) -> Any:
    """A cut between a point and a box, uniform over the extension: coordinate, value, and the side of the point."""
    target, passed, found = uniform(states, tree) * outside, 0.0, len(x)
    for at in range(len(x)):
        passed += max(0.0, np.float64(low[at]) - x[at]) + max(0.0, np.float64(x[at]) - high[at])
        if passed > target:
            found = at
            break
    while found == len(x) or low[found] <= x[found] <= high[found]:  # the sum, rounded, was not reached: the last
        found -= 1
    share = uniform(states, tree)
    if x[found] > high[found]:
        return found, cut_between(np.float64(high[found]), np.float64(x[found]), share), 1
    return found, cut_between(np.float64(x[found]), np.float64(low[found]), share), 0


@inlined
def _forget(leaf: int, tree: int, samples: Samples, trees: Trees, path: np.ndarray) -> None:
    """Takes one copy of a leaf's point away; with the last one its sibling moves up and the boxes above shrink."""
    trees.mass[tree, leaf] -= 1
    if trees.mass[tree, leaf] > 0:
        return
    x, box = trees.point[tree, leaf], trees.box[tree]
    feature, cut, child = trees.feature[tree], trees.cut[tree], trees.child[tree]
    node, depth = trees.root[tree], 0
    while node >= 0:
        path[depth] = node
        depth += 1
        node = child[node, np.int64(x[feature[node]] > cut[node])]
    samples.leaves[tree, samples.free[tree, 1]] = leaf
    samples.free[tree, 1] += 1
    if depth == 0:
        trees.root[tree] = EMPTY
        return
    parent = path[depth - 1]
    sibling = child[parent, 0] if child[parent, 1] == node else child[parent, 1]
    samples.inner[tree, samples.free[tree, 0]] = parent
    samples.free[tree, 0] += 1
    if depth == 1:
        trees.root[tree] = sibling
        return
    above = path[depth - 2]
    child[above, np.int64(child[above, 1] == parent)] = sibling
    for level in range(depth - 2, -1, -1):
        node = path[level]
        if not _on_edge(x, box, node):
            return  # inside this box and all above: none of them shrinks
        join_boxes(tree, node, trees)


@inlined
def _on_edge(x: np.ndarray, box: np.ndarray, node: int) -> Any:
    edges = np.int64(0)  # counted to the end: a loop that may end anywhere is not made of vector instructions
    for at in range(len(x)):
        low, high = box[node, 0, at], box[node, 1, at]
        edges += np.int64((low < high) & ((x[at] == low) | (x[at] == high)))
    return edges > 0


@inlined
def _push(samples: Samples, tree: int, held: int, key: float, leaf: int) -> None:
    at = held
    while at > 0 and samples.keys[tree, (at - 1) // 2] < key:
        samples.keys[tree, at], samples.holders[tree, at] = (
            samples.keys[tree, (at - 1) // 2],
            samples.holders[tree, (at - 1) // 2],
        )
        at = (at - 1) // 2
    samples.keys[tree, at], samples.holders[tree, at] = key, leaf


@inlined
def _popped(samples: Samples, tree: int, held: int) -> Any:
    """Takes the entry with the largest key out of a heap of `held`, and returns its leaf."""
    leaf = samples.holders[tree, 0]
    key, moved = samples.keys[tree, held - 1], samples.holders[tree, held - 1]
    at = 0
    while 2 * at + 1 < held - 1:
        below = 2 * at + 1
        if below + 1 < held - 1 and samples.keys[tree, below + 1] > samples.keys[tree, below]:
            below += 1
        if samples.keys[tree, below] <= key:
            break
        samples.keys[tree, at], samples.holders[tree, at] = samples.keys[tree, below], samples.holders[tree, below]
        at = below
    samples.keys[tree, at], samples.holders[tree, at] = key, moved
    return leaf
