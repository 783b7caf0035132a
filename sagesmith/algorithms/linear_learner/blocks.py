"""Blocks of models that make an epoch's steps, each block in a thread of its own and never waiting for another.

A block's weights are as many as stay in the first cache with a tile of rows. How models are cut into blocks depends on
their number and size alone, not on the threads, and so do the results. Hosts and rows that come from files want one
block: there all models make a step together.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from sagesmith.algorithms.linear_learner.grid import Model
from sagesmith.algorithms.linear_learner.hosts import Gang
from sagesmith.algorithms.linear_learner.network import FUSED, Network
from sagesmith.algorithms.linear_learner.optimizers import Optimizer
from sagesmith.algorithms.linear_learner.plan import Plan
from sagesmith.algorithms.linear_learner.rows import Rows

MODELS = 16  # of a block at most: a vector register's floats


@dataclass
class Passed:
    """One epoch: mean loss of every model on the way (m,), rows of this host, and whether the job is to stop."""

    losses: np.ndarray
    rows: int
    stopping: bool


class Block:
    """Some of the models, from `first` on: their weights, and the optimizer's state."""

    def __init__(self, plan: Plan, models: Sequence[Model], first: int, weights: np.ndarray) -> None:
        self._plan, self._up = plan, plan.up[first : first + len(models)]
        self.network = Network(plan, np.ascontiguousarray(weights))
        self._optimizer = Optimizer(plan.settings, models, self.network.weights)

    def learn(self, rows: Rows, gang: Gang, epoch: int) -> Passed:
        """One epoch.

        What is judged and kept is the mean of the weights over it, over its second half in the first epoch: the optimum
        that the steps wander around (Polyak and Juditsky, Acceleration of Stochastic Approximation by Averaging, 1992).
        """
        plan, network = self._plan, self.network
        batches = rows.batches(plan.settings["mini_batch_size"], np.random.default_rng((plan.run.rank, epoch)))
        summed, weights, seen, done = np.zeros(network.models), 0.0, 0, 0
        skipped = 0 if epoch else plan.steps // 2
        while True:
            batch = next(batches, None)
            lost, total, gradient, moved = np.zeros(network.models), 0.0, None, None
            if batch is not None:
                label, weight, total = plan.prepared(batch)
                gradient, moved = network.learnt(batch, label, weight, self._up, lost)
                seen += len(batch)
            step = gang.together(lost, total, gradient, moved, network.weights.shape[1], plan.run.stopping)
            if step is None:  # no host has a row left
                return Passed(summed / max(weights, 1e-300), seen, False)
            if step.total > 0:
                self._optimizer.step(network.weights, step.gradient, step.rows, step.total)
                done += 1
                if done > skipped and not network.lazy:
                    network.remember()
                summed += step.lost
                weights += step.total
            if step.stopping:
                return Passed(summed / max(weights, 1e-300), seen, True)


class Blocks:
    """All models."""

    def __init__(self, plan: Plan, rows: Rows, gang: Gang) -> None:
        self._plan, self._rows, self._gang = plan, rows, gang
        number, outputs = len(plan.models), plan.outputs
        weights = initial(plan, number * outputs)
        each = number
        if gang.alone and rows.is_kept and not rows.is_sparse:
            each = max(1, min(MODELS, FUSED // ((plan.width + 1) * outputs)))
        self._blocks = [
            Block(
                plan, plan.models[first : first + each], first, weights[:, first * outputs : (first + each) * outputs]
            )
            for first in range(0, number, each)
        ]

    def learn(self, epoch: int) -> Passed:
        """One epoch of every block."""
        if len(self._blocks) == 1:
            return self._blocks[0].learn(self._rows, self._gang, epoch)
        with ThreadPoolExecutor(min(self._plan.run.threads, len(self._blocks))) as pool:
            passed = list(pool.map(lambda block: self._learn(block, epoch), self._blocks))
        together = np.concatenate([each.losses for each in passed])
        return Passed(together, passed[0].rows, any(each.stopping for each in passed))

    def _learn(self, block: Block, epoch: int) -> Passed:
        with np.errstate(all="ignore"):  # a thread begins with the default
            return block.learn(self._rows, self._gang, epoch)

    def averaged(self) -> Network:
        """The network of all models as an epoch left it, to be judged."""
        return Network(self._plan, np.hstack([block.network.averaged() for block in self._blocks]))


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
