"""StreamingForest: anomaly scores for a stream, one value at a time, by a forest that learns and forgets as it goes.

Not a part of SageMaker's algorithm, which trains once; the same trees and the same scores, with the insertion and
deletion of Guha, Mishra, Roy and Schrijvers, Robust Random Cut Forest Based Anomaly Detection on Streams, ICML 2016.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any, Self

import numpy as np

from sagesmith.algorithms.randomcutforest.forest import Forest, in_threads
from sagesmith.algorithms.randomcutforest.trees import EMPTY, LARGE, Samples, Trees
from sagesmith.algorithms.run import Run

ROWS_AT_ONCE = 4096
ARRAYS, DOCUMENT, VERSION = "stream_algo-1", "stream.json", 2


class StreamingForest:
    """A random cut forest over the last values of a stream.

        forest = StreamingForest(shingle_size=48)
        for value in readings:
            if forest.update(value) > forest.threshold: ...

    Args:
        feature_dim: numbers that come at each time.
        shingle_size: times that make one point: the newest value and those before it, oldest first. Until so many have
            come, scores are 0 and nothing is learnt.
        num_trees: trees.
        num_samples_per_tree: points that a tree holds.
        time_decay: a point's chance to be held fades by exp(-time_decay) with each later one; 0 keeps a uniform
            sample of all there was. None: 0.1 / num_samples_per_tree, as AWS's open library has it.
        seed: the same seed and values give the same scores, however they are handed over.
        threads: for `update_many`; None: as many as there are processors.
    """

    def __init__(
        self,
        *,
        feature_dim: int = 1,
        shingle_size: int = 1,
        num_trees: int = 50,
        num_samples_per_tree: int = 256,
        time_decay: float | None = None,
        seed: int = 0,
        threads: int | None = None,
    ) -> None:
        sizes = {"feature_dim": feature_dim, "shingle_size": shingle_size, "num_trees": num_trees}
        for name, value in (sizes | {"num_samples_per_tree": num_samples_per_tree}).items():
            if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name}: {value!r} is not a whole number of at least 1")
        if time_decay is not None and not 0 <= time_decay < np.inf:
            raise ValueError(f"time_decay: {time_decay!r} is not in [0, inf)")
        self.feature_dim, self.shingle_size = int(feature_dim), int(shingle_size)
        self.time_decay = 0.1 / num_samples_per_tree if time_decay is None else float(time_decay)
        self.threads = threads or Run().threads
        self.seen = 0  # values, so far
        dim = feature_dim * shingle_size
        self._forest = Forest(Trees.empty(num_trees, num_samples_per_tree, dim), dim)
        self._samples = Samples.empty(num_trees, num_samples_per_tree, seed)
        self._newest = np.zeros(self._forest.trees.point.shape[2], np.float32)  # the last shingle_size values
        self._notes: np.ndarray | None = None  # where all arrays are, for `update`
        self._moments = np.zeros(3)  # count, sum and sum of squares of the scores since the trees were full

    @classmethod
    def of(cls, forest: Forest, *, shingle_size: int = 1, time_decay: float | None = None, seed: int = 0) -> Self:
        """A stream that goes on from a trained forest, whose sample counts as drawn just now."""
        trees, points = forest.trees.mass.shape
        if forest.dim % shingle_size:
            raise ValueError(f"shingle_size: {shingle_size} values do not make rows of {forest.dim} columns")
        if forest.scale != 1.0:
            raise ValueError(f"the forest was trained on values beyond {LARGE:g}, which a stream cannot take")
        stream = cls(
            feature_dim=forest.dim // shingle_size, shingle_size=shingle_size, num_trees=trees,
            num_samples_per_tree=points, time_decay=time_decay, seed=seed,
        )  # fmt: skip
        for mine, theirs in zip(stream._forest.trees, forest.trees, strict=True):
            mine[:] = theirs
        leaves = forest.leaves()
        stream._samples.free[:] -= np.column_stack([leaves - 1, leaves]).astype(np.int32)
        random = np.random.default_rng(seed)
        stream._samples.next[:] = -1
        stream._samples.keys[:] = np.sort(np.log(random.exponential(size=stream._samples.keys.shape)))[:, ::-1]
        for tree in range(trees):
            holders = np.repeat(np.arange(points, dtype=np.int32), forest.trees.mass[tree])
            stream._samples.holders[tree] = random.permutation(holders)
        return stream

    def update(self, value: Any) -> float:
        """The score of the newest value, which is then learnt.

        Raises:
            ValueError: another width than `feature_dim`, or a value that is no finite number.
        """
        from sagesmith.algorithms.randomcutforest.stream_compiled import observe_value

        notes = self._noted() if self._notes is None else self._notes
        array = np.array(value, np.float32, order="C")
        if array.ndim > 1 or array.size != self.feature_dim:
            array = self._checked(value, rows=1)
        score = observe_value(array.reshape(-1), self.seen, self.shingle_size, self.time_decay, notes)
        if score != score:  # NaN
            self._checked(value, rows=1)  # raises
        self.seen += 1
        return score

    def _noted(self) -> np.ndarray:
        from sagesmith.algorithms.randomcutforest.borrowed_compiled import WORDS
        from sagesmith.algorithms.randomcutforest.stream_compiled import note

        self._notes = np.zeros((3, WORDS), np.int64)
        note(self._newest, self._moments, self._samples, self._forest.trees, self._notes)
        return self._notes

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_notes": None}  # a copy has its arrays elsewhere

    def update_many(self, values: Any) -> np.ndarray:
        """What `update` would return for each of the values (n,) or (n, feature_dim), all processors at work."""
        rows = self._checked(values)
        parts = [self._observed(rows[start : start + ROWS_AT_ONCE]) for start in range(0, len(rows), ROWS_AT_ONCE)]
        return np.concatenate(parts) if parts else np.empty(0)

    def score(self, value: Any) -> float:
        """What `update` would return, without learning."""
        points = self._shingled(self._checked(value, rows=1))
        return float(self._forest.score(points)[0]) if len(points) else 0.0

    def attribute(self, value: Any) -> np.ndarray:
        """(shingle_size, feature_dim, 2): the parts of the score of each number for being too high and too low."""
        points = self._shingled(self._checked(value, rows=1))
        shape = (self.shingle_size, self.feature_dim, 2)
        return self._forest.attribute(points)[0].reshape(shape) if len(points) else np.zeros(shape)

    @property
    def threshold(self) -> float:
        """Mean + 3 standard deviations of the scores since the trees were full, SageMaker's rule; infinite before."""
        count, total, squares = self._moments
        if count < 2:
            return float("inf")
        return float(total / count + 3 * np.sqrt(max(0.0, squares / count - (total / count) ** 2)))

    def _checked(self, values: Any, rows: int | None = None) -> np.ndarray:
        array = np.asarray(values, np.float32)
        array = array.reshape(1 if rows else -1, array.size if rows else self.feature_dim) if array.ndim < 2 else array
        if array.ndim != 2 or array.shape[1] != self.feature_dim or (rows and len(array) != rows):
            raise ValueError(f"values of shape {np.shape(values)}, but feature_dim is {self.feature_dim}")
        if not (np.abs(array) <= LARGE).all():
            bad = array[~(np.abs(array) <= LARGE)][0]
            raise ValueError(f"the value {bad} is not a number in [-{LARGE:g}, {LARGE:g}]")
        return array

    def _shingled(self, values: np.ndarray) -> np.ndarray:
        """Points (values that complete a shingle, shingle_size * feature_dim)."""
        line = self._line(values)
        if len(line) < self.shingle_size:
            return np.empty((0, self._forest.dim), np.float32)
        if len(line) == self.shingle_size:  # one point: a view of windows would cost more than its score
            return line.reshape(1, -1)
        return np.lib.stride_tricks.sliding_window_view(line.ravel(), self._forest.dim)[:: self.feature_dim]

    def _line(self, values: np.ndarray) -> np.ndarray:
        """Values, and before them those that their shingles begin with."""
        last = self._newest[: self._forest.dim].reshape(self.shingle_size, self.feature_dim)
        return np.concatenate([last[self.shingle_size - min(self.seen, self.shingle_size - 1) :], values])

    def _observed(self, values: np.ndarray) -> np.ndarray:
        """The scores of values (n, feature_dim), which are learnt."""
        from sagesmith.algorithms.randomcutforest.stream_compiled import average, observe

        points = self._forest.padded(self._shingled(values))
        trees, capacity = self._samples.keys.shape
        scores = np.zeros((trees, len(points)))
        before = max(0, self.seen - self.shingle_size + 1)  # points, of as many values as make one each
        filling = capacity - int(self._forest.trees.total[0])  # all trees hold as many

        def some(tree: int) -> None:
            observe(points, before, self.time_decay, tree, tree + 1, scores, self._samples, self._forest.trees)

        in_threads(some, range(trees), self.threads)
        out = np.zeros(len(values))
        average(scores, out[len(values) - len(points) :], self._moments, filling)
        last = self._line(values)[-self.shingle_size :].ravel()
        self._newest[self._forest.dim - len(last) : self._forest.dim] = last
        self.seen += len(values)
        return out

    def save(self, folder: Path) -> None:
        """Writes the whole state as plain data; `load` goes on as if nothing had happened."""
        folder.mkdir(parents=True, exist_ok=True)
        trees, points = self._samples.keys.shape
        document = {"version": VERSION, "num_trees": trees, "num_samples_per_tree": points, "seen": self.seen}
        document |= {name: getattr(self, name) for name in ("feature_dim", "shingle_size", "time_decay")}
        (folder / DOCUMENT).write_text(json.dumps(document), "utf-8")
        arrays: Any = self._state()
        with (folder / ARRAYS).open("wb") as file:
            np.savez(file, **arrays)

    def _state(self) -> dict[str, np.ndarray]:
        """Every array that `update` changes in place."""
        return {
            "newest": self._newest,
            "moments": self._moments,
            **self._samples._asdict(),
            **self._forest.trees._asdict(),
        }

    @classmethod
    def load(cls, folder: Path, threads: int | None = None) -> Self:
        """The stream that `save` wrote.

        Raises:
            ValueError: the folder holds none, or one whose trees do not hang together.
        """
        try:
            document = json.loads((folder / DOCUMENT).read_text("utf-8"))
            if document.pop("version") != VERSION:
                raise ValueError("another version")
            seen = int(document.pop("seen"))
            stream = cls(**document, threads=threads)
            with (folder / ARRAYS).open("rb") as file:
                if not zipfile.is_zipfile(file):
                    raise ValueError("not an npz archive")
                file.seek(0)
                archive = np.load(file, allow_pickle=False)
                for name, array in stream._state().items():
                    if archive[name].shape != array.shape or archive[name].dtype != array.dtype:
                        raise ValueError(f"array {name!r} is {archive[name].dtype} {archive[name].shape}")
                    array[:] = archive[name]
            stream.seen = seen
            if not (np.abs(stream._newest) <= LARGE).all():
                raise ValueError("its last values are no numbers")
            stream._check_trees()
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{folder} holds no stream: {error}") from None
        return stream

    def _check_trees(self) -> None:
        """Nodes in use and spare ones are all there are, each once: compiled code follows them unchecked."""
        trees, samples = self._forest.trees, self._samples
        points, inner = trees.mass.shape[1], trees.feature.shape[1]
        for tree in range(len(trees.root)):
            nodes, leaves = _reached(trees, tree)
            nodes += samples.inner[tree, : samples.free[tree, 0]].tolist()
            mass = np.zeros(points, np.int64)
            mass[leaves] = trees.mass[tree, leaves]
            leaves += samples.leaves[tree, : samples.free[tree, 1]].tolist()
            if sorted(nodes) != list(range(inner)) or sorted(leaves) != list(range(points)):
                raise ValueError(f"the nodes of tree {tree} make no tree")
            held = trees.total[tree]
            holders = np.bincount(samples.holders[tree, : max(0, held)].clip(0, points - 1), minlength=points)
            if not np.array_equal(holders, mass) or not 0 <= held <= points:
                raise ValueError(f"tree {tree} counts its points wrong")
            if ((trees.feature[tree] < 0) | (trees.feature[tree] >= self._forest.dim)).any():
                raise ValueError(f"tree {tree} cuts no column")
        self._forest.check_points()


def _reached(trees: Trees, tree: int) -> tuple[list[int], list[int]]:
    """The inner nodes and the leaves below the root; a node that is met too often ends the walk with an error."""
    inner, points = trees.feature.shape[1], trees.mass.shape[1]
    waiting = [int(trees.root[tree])] if trees.root[tree] != EMPTY else []
    nodes: list[int] = []
    leaves: list[int] = []
    while waiting:
        node = waiting.pop()
        if len(nodes) + len(leaves) > inner + points or not -points <= node < inner:
            raise ValueError(f"the nodes of tree {tree} make no tree")
        if node < 0:
            leaves.append(~node)
        else:
            nodes.append(node)
            waiting.extend(trees.child[tree, node].tolist())
    return nodes, leaves
