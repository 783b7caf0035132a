"""Blocks of models that make their steps side by side, each in a thread of its own.

A block's weights are as many as stay in the first cache with a tile of rows. Rows come in stretches of many batches; a
block makes the steps of a stretch without waiting for another. How models are cut into blocks depends on their number
and size alone, not on the threads, and so do the results. Several hosts want one block: there all models make a step
together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat

import numpy as np

from sagesmith.algorithms.linear_learner.grid import Model
from sagesmith.algorithms.linear_learner.hosts import Gang
from sagesmith.algorithms.linear_learner.network import FUSED, Network
from sagesmith.algorithms.linear_learner.optimizers import Optimizer
from sagesmith.algorithms.linear_learner.plan import Plan
from sagesmith.algorithms.linear_learner.rows import Rows
from sagesmith.formats.batch import Batch, rechunk

MODELS = 16  # of a block at most: a vector register's floats
STRETCH = 32_768  # rows, as far as they are no more than
STRETCH_BYTES = 16 << 20  # of dense rows
WARM = 140  # steps on the sample before the first epoch, at most a tenth of the epoch's


@dataclass
class Passed:
    """One epoch: mean loss of every model on the way (m,), rows of this host, and whether the job is to stop."""

    losses: np.ndarray
    rows: int
    stopping: bool


class Block:
    """Some of the models, from `first` on: their weights, and the optimizer's state."""

    def __init__(self, plan: Plan, models: Sequence[Model], first: int, weights: np.ndarray) -> None:
        self._plan = plan
        self.network = Network(plan, np.ascontiguousarray(weights), plan.up[first : first + len(models)])
        self.optimizer = Optimizer(plan.settings, models, self.network.weights)

    def learn(self, stretch: Batch, label: np.ndarray, weight: np.ndarray, skipped: int) -> np.ndarray:
        """A step for every batch of a stretch, the first `skipped` not remembered; the sums of losses, (models,)."""
        network, lost = self.network, np.zeros(self.network.models)
        if stretch.is_sparse or network.is_tiled(stretch):
            network.steps(self.optimizer, stretch, label, weight, skipped, lost)
            return lost
        size, start = self._plan.settings["mini_batch_size"], 0
        with np.errstate(all="ignore"):  # a thread begins with the default
            for number, batch in enumerate(rechunk([stretch], size)):
                part = slice(start, start := start + len(batch))
                total = float(weight[part].sum(dtype=np.float64))
                if total > 0:
                    gradient, moved = network.learnt(batch, label[part], weight[part], lost)
                    self.move(gradient, moved, total, number >= skipped)
        return lost

    def move(self, gradient: np.ndarray, moved: np.ndarray, total: float, remembered: bool) -> None:
        """One step; `remembered`: its weights go into the mean of the epoch."""
        self.optimizer.step(gradient, moved, total)
        if remembered and not self.network.lazy:
            self.network.remember()


class Blocks:
    """All models."""

    def __init__(self, plan: Plan, rows: Rows, gang: Gang) -> None:
        self._plan, self._rows, self._gang = plan, rows, gang
        number, outputs = len(plan.models), plan.outputs
        weights = initial(plan, number * outputs)
        size = (plan.width + 1) * outputs
        each = number if size > FUSED or not gang.alone else min(MODELS, FUSED // size)
        if gang.alone and rows.is_sparse:
            each = MODELS
        self._blocks = [
            Block(
                plan, plan.models[first : first + each], first, weights[:, first * outputs : (first + each) * outputs]
            )
            for first in range(0, number, each)
        ]

    def learn(self, epoch: int) -> Passed:
        """One epoch.

        What is judged and kept is the mean of the weights over it: the optimum that the steps wander around (Polyak and
        Juditsky, Acceleration of Stochastic Approximation by Averaging, 1992). Before the first one there are some
        steps on the sample, so that it too begins near the optimum, with moments of gradients as they are there; a
        first epoch of few steps leaves out up to half.
        """
        skipped = 0
        if epoch == 0:
            skipped = self._warmed()
        random = np.random.default_rng((self._plan.run.rank, epoch))
        if self._gang.alone:
            return self._side_by_side(self._rows.batches(self._stretch(), random), skipped)
        batches = self._rows.batches(self._plan.settings["mini_batch_size"], random)
        return self._together(batches, skipped)

    def _warmed(self) -> int:
        """Makes the steps on the sample; how many of the first epoch's steps are not remembered."""
        plan, size = self._plan, self._plan.settings["mini_batch_size"]
        steps = 0 if self._blocks[0].network.lazy else min(WARM, plan.steps // 10)
        if steps:
            sample, each = self._rows.sample, self._stretch() if self._gang.alone else size
            order = np.random.default_rng((plan.run.rank, 0, 1)).permutation(len(sample))
            order = np.resize(order, steps * size if len(sample) else 0)
            parts = (sample.take(order[start : start + each]) for start in range(0, len(order), each))
            if self._gang.alone:
                self._side_by_side(parts, steps)
            else:
                self._together(parts, steps)
            for block in self._blocks:
                block.optimizer.restart()
        return max(0, min(plan.steps // 2, WARM - steps))

    def _stretch(self) -> int:
        """Rows of a stretch: whole batches."""
        size = int(self._plan.settings["mini_batch_size"])
        most = STRETCH if self._rows.is_sparse else min(STRETCH, STRETCH_BYTES // (4 * self._plan.width))
        return size * max(1, most // size)

    def _side_by_side(self, stretches: Iterator[Batch], skipped: int) -> Passed:
        """The steps of every block for all stretches; the first `skipped` are not remembered."""
        plan, blocks, size = self._plan, self._blocks, self._plan.settings["mini_batch_size"]
        summed, weights, seen = np.zeros(len(plan.models)), 0.0, 0
        with ThreadPoolExecutor(min(plan.run.threads, len(blocks))) as pool:
            for stretch in stretches:
                label, weight, total = plan.prepared(stretch)
                each = repeat(max(0, skipped - seen // size))
                lost = list(pool.map(Block.learn, blocks, repeat(stretch), repeat(label), repeat(weight), each))
                summed += np.concatenate(lost)
                weights += total
                seen += len(stretch)
                if plan.run.stopping:
                    return Passed(summed / max(weights, 1e-300), seen, True)
        return Passed(summed / max(weights, 1e-300), seen, False)

    def _together(self, batches: Iterator[Batch], skipped: int) -> Passed:
        """The same with other hosts, a batch of each to a step.

        In one thread: a batch is through before two threads could have met (measured at 1,000 rows of 50 to 200
        columns), and products too large for the cache are BLAS's, which has threads of its own.
        """
        plan, block = self._plan, self._blocks[0]
        network = block.network
        summed, weights, seen, done = np.zeros(network.models), 0.0, 0, 0
        while True:
            batch = next(batches, None)
            lost, total, gradient, moved = np.zeros(network.models), 0.0, None, None
            if batch is not None:
                label, weight, total = plan.prepared(batch)
                gradient, moved = network.learnt(batch, label, weight, lost)
                seen += len(batch)
            step = self._gang.together(lost, total, gradient, moved, network.weights.shape[1], plan.run.stopping)
            if step is None:  # no host has a row left
                return Passed(summed / max(weights, 1e-300), seen, False)
            if step.total > 0:
                block.move(step.gradient, step.rows, step.total, done >= skipped)
                done += 1
                summed += step.lost
                weights += step.total
            if step.stopping:
                return Passed(summed / max(weights, 1e-300), seen, True)

    def averaged(self) -> Network:
        """The network of all models as an epoch left it, to be judged."""
        return Network(self._plan, np.hstack([block.network.averaged() for block in self._blocks]))

    def state(self) -> dict[str, np.ndarray]:
        """For a checkpoint: weights and moments of all models, and the steps made."""
        states = [block.optimizer.state for block in self._blocks]
        wide = {name: np.hstack([getattr(state, name) for state in states]) for name in ("weights", "moment", "square")}
        return wide | {"steps": states[0].steps}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Goes on from a checkpoint's state."""
        first = 0
        for block in self._blocks:
            state = block.optimizer.state
            part = slice(first, first := first + state.weights.shape[1])
            for name in ("weights", "moment", "square"):
                getattr(state, name)[:] = arrays[name][:, part]
            state.steps[:] = arrays["steps"]


def initial(plan: Plan, columns: int) -> np.ndarray:
    """First weights (d + 1, columns) by init_method, each model's its own; the bias by init_bias."""
    settings, shape = plan.settings, (plan.width + 1, columns)
    random = np.random.default_rng(0)
    if settings["init_method"] == "uniform":
        weights = (random.random(shape, np.float32) * 2 - 1) * np.float32(settings["init_scale"])
    else:
        weights = random.standard_normal(shape, np.float32) * np.float32(settings["init_sigma"])
    weights[-1] = settings["init_bias"] if settings["use_bias"] else 0.0
    return np.asarray(weights, np.float32)
