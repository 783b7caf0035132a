"""Trees and Samples: the arrays that compiled functions work on, by name; a row of each is a tree's."""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np

LANES = 8  # rows of points and boxes are padded with zeros to a multiple of it: see lanes_compiled.py
LARGE = float(np.float32(2.0**100))  # beyond, sums of side lengths could leave float32
EMPTY = -(1 << 31)  # root of a tree without a point


class Trees(NamedTuple):
    """T trees of up to M points. Of a tree with u different points, u - 1 inner nodes and u leaves are in use.

    A child below 0 is the leaf ~child. A coordinate that is at most `cut` goes left, to child 0.
    """

    feature: np.ndarray  # (T, M - 1) int32: the coordinate that an inner node cuts
    cut: np.ndarray  # (T, M - 1) float32
    child: np.ndarray  # (T, M - 1, 2) int32
    box: np.ndarray  # (T, M - 1, 2, width) float32: the least and the greatest of the points below
    sides: np.ndarray  # (T, M - 1) float64: the sum of a box's side lengths
    point: np.ndarray  # (T, M, width) float32: of a leaf
    mass: np.ndarray  # (T, M) int32: how often a leaf's point was drawn
    root: np.ndarray  # (T,) int32
    total: np.ndarray  # (T,) int32: points in the tree, copies counted

    @classmethod
    def empty(cls, trees: int, points: int, dim: int) -> Self:
        """Trees without a point, with room for `points` each; padded to whole LANES."""
        width, inner = -(-dim // LANES) * LANES, max(1, points - 1)
        return cls(
            feature=np.zeros((trees, inner), np.int32),
            cut=np.zeros((trees, inner), np.float32),
            child=np.zeros((trees, inner, 2), np.int32),
            box=np.zeros((trees, inner, 2, width), np.float32),
            sides=np.zeros((trees, inner)),
            point=np.zeros((trees, points, width), np.float32),
            mass=np.zeros((trees, points), np.int32),
            root=np.full(trees, EMPTY, np.int32),
            total=np.zeros(trees, np.int32),
        )


class Samples(NamedTuple):
    """What streamed trees keep besides: their generators, samples and free nodes."""

    states: np.ndarray  # (T,) uint64: random generators
    next: np.ndarray  # (T,) int64: the number of the next point to be kept; -1: not drawn yet
    keys: np.ndarray  # (T, M) float64: a heap, the largest first, of the keys of what was drawn
    holders: np.ndarray  # (T, M) int32: the leaves that hold it
    inner: np.ndarray  # (T, M - 1) int32: numbers of free inner nodes, the first free[0] of them
    leaves: np.ndarray  # (T, M) int32: numbers of free leaves, the first free[1] of them
    free: np.ndarray  # (T, 2) int32

    @classmethod
    def empty(cls, trees: int, points: int, seed: int) -> Self:
        inner = max(1, points - 1)
        return cls(
            states=np.random.SeedSequence(seed).generate_state(trees, np.uint64),
            next=np.zeros(trees, np.int64),
            keys=np.zeros((trees, points)),
            holders=np.zeros((trees, points), np.int32),
            inner=np.tile(np.arange(inner, dtype=np.int32)[::-1], (trees, 1)),
            leaves=np.tile(np.arange(points, dtype=np.int32)[::-1], (trees, 1)),
            free=np.tile(np.array([inner, points], np.int32), (trees, 1)),
        )
