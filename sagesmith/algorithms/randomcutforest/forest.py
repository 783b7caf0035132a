"""Forest: random cut trees, and what can be asked of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from sagesmith.algorithms.randomcutforest.trees import LARGE, Trees

ROWS_AT_ONCE = 512  # that are scored in one tree after the other: with a tree they fit a core's cache
WORTH_A_THREAD = 1 << 16  # walks through a tree


@dataclass
class Forest:
    """Trees over points of `dim` dimensions, which are multiplied by `scale` so that no sum of them overflows."""

    trees: Trees
    dim: int
    scale: float = 1.0

    @classmethod
    def grown(cls, sample: np.ndarray, trees: int, points: int, seed: int, threads: int) -> Self:
        """Trees over consecutive blocks of `points` rows of `sample` (n, d), from its start again where it ends."""
        from sagesmith.algorithms.randomcutforest.forest_compiled import grow

        dim = sample.shape[1]
        forest = cls(Trees.empty(trees, points, dim), dim, scale_of(sample))
        states = np.random.SeedSequence(seed).generate_state(trees, np.uint64)

        def one(tree: int) -> None:
            block = np.take(sample, np.arange(tree * points, (tree + 1) * points), axis=0, mode="wrap")
            grow(forest.padded(block), tree, states, forest.trees)

        in_threads(one, range(trees), threads if trees * points > WORTH_A_THREAD >> 4 else 1)
        forest.trees.total[:] = points
        return forest

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.trees)

    def padded(self, rows: np.ndarray) -> np.ndarray:
        """Rows (n, d) as points of the trees, (n, width)."""
        points = np.zeros((len(rows), self.trees.point.shape[2]), np.float32)
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
            score(self.padded(rows[part]), out[part], self.trees)

        worth = len(rows) * len(self.trees.root) > WORTH_A_THREAD
        in_threads(block, range(0, len(rows), ROWS_AT_ONCE), threads if worth else 1)
        return out

    def attribute(self, rows: np.ndarray, threads: int = 1) -> np.ndarray:
        """(n, d, 2) float64: how much of each score comes from a column's value being too high and too low."""
        from sagesmith.algorithms.randomcutforest.attribution_compiled import attribute

        out = np.empty((len(rows), self.dim, 2))
        step = max(1, min(ROWS_AT_ONCE, (1 << 22) // self.trees.point.shape[2]))

        def block(start: int) -> None:
            points = self.padded(rows[start : start + step])
            parts = np.empty((len(points), points.shape[1], 2))
            attribute(points, self.dim, parts, self.trees)
            out[start : start + step] = parts[:, : self.dim]

        in_threads(block, range(0, len(rows), step), threads)
        return out

    def leaves(self) -> np.ndarray:
        """The number of different points in each tree, (T,)."""
        counts: np.ndarray = np.count_nonzero(self.trees.mass, axis=1)
        return counts

    def depths(self) -> list[int]:
        """The nodes from the root to the deepest leaf, both counted, of each tree that was grown, not streamed."""
        from sagesmith.algorithms.randomcutforest.forest_compiled import deepest

        return [deepest(tree, leaves - 1, self.trees) for tree, leaves in enumerate(self.leaves().tolist())]

    def check_points(self) -> None:
        """Raises ValueError for a point that is not where the cuts of its tree lead; nodes must make trees already."""
        from sagesmith.algorithms.randomcutforest.forest_compiled import misplaced

        tree = misplaced(self.trees)
        if tree >= 0:
            raise ValueError(f"tree {tree} holds a point where its cuts do not lead")

    def saved(self) -> dict[str, np.ndarray]:
        """What a grown forest is made of; boxes follow from it."""
        names = ("feature", "cut", "child", "mass", "total")
        return {"point": self.trees.point[..., : self.dim], **{name: getattr(self.trees, name) for name in names}}

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
        forest = cls(Trees.empty(trees, points, dim), dim, scale)
        for name in ("feature", "cut", "child", "mass", "total"):
            target = getattr(forest.trees, name)
            if arrays[name].shape != target.shape or arrays[name].dtype != target.dtype:
                raise ValueError(f"array {name!r} is {arrays[name].dtype} {arrays[name].shape}, not {target.shape}")
            target[:] = arrays[name]
        forest.trees.point[..., :dim] = arrays["point"]
        leaves = forest.leaves()
        for tree, count in enumerate(leaves.tolist()):
            forest._check_tree(tree, count)
        forest.trees.root[:] = np.where(leaves > 1, 0, -1)
        forest.check_points()
        boxes(forest.trees, leaves - 1)
        return forest

    def _check_tree(self, tree: int, leaves: int) -> None:
        """Every node but the root is the child of one with a smaller number: then there is neither gap nor circle."""
        mass, inner = self.trees.mass[tree], max(0, leaves - 1)
        if not leaves or (mass[:leaves] < 1).any() or int(mass.sum(dtype=np.int64)) != self.trees.total[tree]:
            raise ValueError(f"tree {tree} counts its points wrong")
        child = self.trees.child[tree, :inner]
        expected = [*range(-leaves, 0), *range(1, inner)] if inner else []  # a lone leaf is the root
        if np.sort(child.ravel()).tolist() != expected:
            raise ValueError(f"the nodes of tree {tree} make no tree")
        if (np.where(child >= 0, child, inner) <= np.arange(inner)[:, None]).any():
            raise ValueError(f"tree {tree} runs in a circle")
        feature = self.trees.feature[tree, :inner]
        if ((feature < 0) | (feature >= self.dim)).any() or np.isnan(self.trees.cut[tree, :inner]).any():
            raise ValueError(f"tree {tree} cuts no column")
        if not np.isfinite(self.trees.point[tree, :leaves]).all():
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
