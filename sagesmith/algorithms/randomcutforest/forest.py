"""Forest: random cut trees as flat arrays, and what can be asked of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np

LANES = 8  # of lanes_compiled, which is not imported for a number: it wakes numba
ROWS_AT_ONCE = 512  # that are scored in one tree after the other: with a tree they fit a core's cache
WORTH_A_THREAD = 1 << 16  # walks through a tree
LARGE = float(np.float32(2.0**100))  # beyond, sums of side lengths could leave float32


@dataclass
class Forest:
    """T trees of up to M points in d dimensions; `width` is d, padded. What the arrays hold: forest_compiled.py.

    A forest of a stream has gaps: nodes that are not reached from the root.
    """

    dim: int
    scale: float  # power of two by which points are multiplied, so that no sum overflows
    feature: np.ndarray  # (T, M - 1) int32
    cut: np.ndarray  # (T, M - 1) float32
    child: np.ndarray  # (T, M - 1, 2) int32
    box: np.ndarray  # (T, M - 1, 2, width) float32
    sides: np.ndarray  # (T, M - 1) float64
    point: np.ndarray  # (T, M, width) float32
    mass: np.ndarray  # (T, M) int32
    root: np.ndarray  # (T,) int32
    total: np.ndarray  # (T,) int32: points in the tree, copies counted

    @classmethod
    def empty(cls, trees: int, points: int, dim: int, scale: float = 1.0) -> Self:
        """Trees without a point, with room for `points` each."""
        width, inner = -(-dim // LANES) * LANES, max(1, points - 1)
        return cls(
            dim,
            scale,
            np.zeros((trees, inner), np.int32),
            np.zeros((trees, inner), np.float32),
            np.zeros((trees, inner, 2), np.int32),
            np.zeros((trees, inner, 2, width), np.float32),
            np.zeros((trees, inner)),
            np.zeros((trees, points, width), np.float32),
            np.zeros((trees, points), np.int32),
            np.full(trees, -(1 << 31), np.int32),
            np.zeros(trees, np.int32),
        )

    @classmethod
    def grown(cls, sample: np.ndarray, trees: int, points: int, seed: int, threads: int) -> Self:
        """Trees over consecutive blocks of `points` rows of `sample` (n, d), from its start again where it ends."""
        from sagesmith.algorithms.randomcutforest.forest_compiled import grow

        dim = sample.shape[1]
        forest = cls.empty(trees, points, dim, scale_of(sample))
        states = np.random.SeedSequence(seed).generate_state(trees, np.uint64)

        def one(tree: int) -> None:
            block = np.take(sample, np.arange(tree * points, (tree + 1) * points), axis=0, mode="wrap")
            grow(forest.padded(block), tree, states, *forest.tree_arrays[:-1])

        in_threads(one, range(trees), threads if trees * points > WORTH_A_THREAD >> 4 else 1)
        forest.total[:] = points
        return forest

    @property
    def tree_arrays(self) -> tuple[np.ndarray, ...]:
        """The arrays in the order in which compiled functions take them."""
        return tuple(getattr(self, field.name) for field in fields(self)[2:])

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.tree_arrays)

    def padded(self, rows: np.ndarray) -> np.ndarray:
        """Rows (n, d) as points of the trees, (n, width)."""
        points = np.zeros((len(rows), self.point.shape[2]), np.float32)
        points[:, : self.dim] = rows
        if self.scale != 1.0:
            points *= np.float32(self.scale)
        return points

    def score(self, rows: np.ndarray, threads: int = 1) -> np.ndarray:
        """The anomaly score of rows (n, d), (n,) float64: the mean over the trees."""
        from sagesmith.algorithms.randomcutforest.forest_compiled import score

        out = np.empty(len(rows))

        def block(start: int) -> None:
            part = slice(start, start + ROWS_AT_ONCE)
            score(self.padded(rows[part]), out[part], *self.tree_arrays)

        worth = len(rows) * len(self.root) > WORTH_A_THREAD
        in_threads(block, range(0, len(rows), ROWS_AT_ONCE), threads if worth else 1)
        return out

    def attribute(self, rows: np.ndarray, threads: int = 1) -> np.ndarray:
        """(n, d, 2) float64: how much of each score comes from a column's value being too high and too low."""
        from sagesmith.algorithms.randomcutforest.attribution_compiled import attribute

        out = np.empty((len(rows), self.dim, 2))
        step = max(1, min(ROWS_AT_ONCE, (1 << 22) // self.point.shape[2]))

        def block(start: int) -> None:
            points = self.padded(rows[start : start + step])
            parts = np.empty((len(points), points.shape[1], 2))
            attribute(points, self.dim, parts, *self.tree_arrays)
            out[start : start + step] = parts[:, : self.dim]

        in_threads(block, range(0, len(rows), step), threads)
        return out

    def leaves(self) -> np.ndarray:
        """The number of different points in each tree, (T,)."""
        counts: np.ndarray = np.count_nonzero(self.mass, axis=1)
        return counts

    def depths(self) -> list[int]:
        """The nodes from the root to the deepest leaf, both counted, of each tree that was grown, not streamed."""
        found = []
        for child, leaves in zip(self.child, self.leaves(), strict=True):
            depth = np.zeros(max(1, leaves - 1), int)
            deepest = 0
            for node in range(leaves - 1):
                for below in child[node].tolist():
                    if below >= 0:
                        depth[below] = depth[node] + 1
                    deepest = max(deepest, int(depth[node]) + 1)
            found.append(deepest + 1)
        return found

    def saved(self) -> dict[str, np.ndarray]:
        """What a grown forest is made of; boxes follow from it."""
        names = ("feature", "cut", "child", "mass", "total")
        return {"point": self.point[..., : self.dim], **{name: getattr(self, name) for name in names}}

    @classmethod
    def restored(cls, arrays: Mapping[str, np.ndarray], scale: float) -> Self:
        """The forest that `saved` took apart.

        Raises:
            ValueError, KeyError: the arrays make no forest.
        """
        from sagesmith.algorithms.randomcutforest.forest_compiled import boxes

        if np.ndim(arrays["point"]) != 3 or not (np.isfinite(scale) and scale > 0):
            raise ValueError(f"points of shape {np.shape(arrays['point'])}, scale {scale!r}")
        trees, points, dim = arrays["point"].shape
        if not (trees and points and dim):
            raise ValueError(f"{trees} trees of {points} points in {dim} dimensions")
        forest = cls.empty(trees, points, dim, scale)
        for name in ("feature", "cut", "child", "mass", "total"):
            target = getattr(forest, name)
            if arrays[name].shape != target.shape or arrays[name].dtype != target.dtype:
                raise ValueError(f"array {name!r} is {arrays[name].dtype} {arrays[name].shape}, not {target.shape}")
            target[:] = arrays[name]
        forest.point[..., :dim] = arrays["point"]
        leaves = forest.leaves()
        for tree, count in enumerate(leaves.tolist()):
            forest._check_tree(tree, count)
        forest.root[:] = np.where(leaves > 1, 0, -1)
        boxes(forest.child, forest.box, forest.sides, forest.point, leaves - 1)
        return forest

    def _check_tree(self, tree: int, leaves: int) -> None:
        """Every node but the root is the child of one with a smaller number: then there is neither gap nor circle."""
        mass, inner = self.mass[tree], max(0, leaves - 1)
        if not leaves or (mass[:leaves] < 1).any() or int(mass.sum(dtype=np.int64)) != self.total[tree]:
            raise ValueError(f"tree {tree} counts its points wrong")
        child = self.child[tree, :inner]
        expected = [*range(-leaves, 0), *range(1, inner)] if inner else []  # a lone leaf is the root
        if np.sort(child.ravel()).tolist() != expected:
            raise ValueError(f"the nodes of tree {tree} make no tree")
        if (np.where(child >= 0, child, inner) <= np.arange(inner)[:, None]).any():
            raise ValueError(f"tree {tree} runs in a circle")
        feature = self.feature[tree, :inner]
        if ((feature < 0) | (feature >= self.dim)).any() or np.isnan(self.cut[tree, :inner]).any():
            raise ValueError(f"tree {tree} cuts no column")
        if not np.isfinite(self.point[tree, :leaves]).all():
            raise ValueError(f"tree {tree} holds a point that is no number")


def scale_of(sample: np.ndarray) -> float:
    """1, or the power of two that brings very large points to where no sum of side lengths overflows."""
    return 1.0 if not sample.size or max(abs(sample.min()), abs(sample.max())) <= LARGE else 2.0**-64


def in_threads(work: Callable[[Any], None], items: Iterable[Any], threads: int) -> None:
    """Calls `work`, which lets go of the GIL, for all items."""
    items = list(items)
    if threads <= 1 or len(items) <= 1:
        for item in items:
            work(item)
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(work, items):
            pass
