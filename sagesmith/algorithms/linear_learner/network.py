"""The network: the weights of all models side by side, and their outputs and gradients for a batch.

Weights are (d + 1, models * outputs) float32, model after model, the last row the bias: the outputs of all models for
a batch are one matrix product, and so are all gradients. Dense batches are scaled into a buffer that stays in the
cache. Sparse batches stay sparse: shift and scale go into the weights instead, and where there are many columns only
the weights of columns that occur in the batch are looked at and moved (`lazy`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sagesmith.algorithms.linear_learner import losses
from sagesmith.algorithms.linear_learner.optimizers import Optimizer
from sagesmith.algorithms.linear_learner.plan import Plan
from sagesmith.algorithms.linear_learner.scaler import LANES
from sagesmith.formats.batch import Batch

LAZY = 10_000  # columns of sparse data from which on updates are lazy, unless unbias_data asks for means of 0
FUSED = 8192  # weights up to which a dense batch goes through in tiles, products, losses and gradient in one
_NEAR = 8192  # numbers of a tile's rows and outputs: most of the first cache


class Network:
    """Weights of some models, (d + 1, models * outputs), and what they make of a batch."""

    def __init__(self, plan: Plan, weights: np.ndarray, up: np.ndarray | None = None) -> None:
        """`up`: (models,) float32, what a positive row counts more; None: as it does where models are compared."""
        self._plan, self.weights = plan, weights
        self.width, self.outputs, self.lazy = plan.width, plan.outputs, plan.lazy
        self.models = weights.shape[1] // plan.outputs
        self.up = np.full(self.models, plan.judged_up, np.float32) if up is None else up
        self.everything = np.arange(plan.width + 1)
        self._buffers: dict[tuple[str, int], np.ndarray] = {}
        self._summed = np.zeros((0, 0), np.float32)
        self._count = 0

    def outputs_of(self, batch: Batch) -> np.ndarray:
        """(n, models * outputs) of a batch; overwritten by the next one."""
        return self._outputs(batch)[0]

    def learnt(
        self, batch: Batch, label: np.ndarray, weight: np.ndarray, lost: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Gradient (r, models * outputs) summed over the batch, and the rows (r,) of the weights that it is for.

        Args:
            label, weight: (n,) float32, as `losses.gradient` takes them.
            lost: (models,) float64, to which the losses are added.
        """
        plan = self._plan
        if self.is_tiled(batch):
            from sagesmith.algorithms.linear_learner.passes_compiled import fused

            out = self._buffer("gradient", *self.weights.shape)
            rows = np.ascontiguousarray(batch.features)
            fused(self._task(), rows, label, weight, self.weights, self._tile(batch), lost, out)
            return out, self.everything
        z, seen = self._outputs(batch)
        losses.gradient(plan.loss, plan.parameter, z, label, weight, self.up, lost)
        if not isinstance(seen, np.ndarray):
            return self._sparse_gradient(z, *seen)
        out = self._buffer("gradient", *self.weights.shape)
        np.matmul(seen.T, z, out=out)
        return out, self.everything

    def steps(
        self,
        optimizer: Optimizer,
        stretch: Batch,
        label: np.ndarray,
        weight: np.ndarray,
        skipped: int,
        lost: np.ndarray,
    ) -> None:
        """A step for every batch of a stretch, the first `skipped` not remembered; the others are as for `learnt`."""
        from sagesmith.algorithms.linear_learner.passes_compiled import steps
        from sagesmith.algorithms.linear_learner.sparse_compiled import sparse_steps

        size, task = int(self._plan.settings["mini_batch_size"]), self._task()
        if not self._count:
            self._summed = np.zeros((0, 0) if self.lazy else self.weights.shape, np.float32)
        rules, state, rows = optimizer.rules, optimizer.state, stretch.features
        if isinstance(rows, np.ndarray):
            rows, tile = np.ascontiguousarray(rows), self._tile(stretch)
            count = steps(task, rules, state, rows, label, weight, size, tile, skipped, lost, self._summed)
        else:
            csr = (rows.data, rows.indices, rows.indptr)
            count = sparse_steps(task, rules, state, self.lazy, *csr, label, weight, size, skipped, lost, self._summed)
        self._count += count

    def lose(self, batch: Batch, label: np.ndarray, weight: np.ndarray, lost: np.ndarray) -> None:
        """Adds the losses of a batch to (models,) float64."""
        if self.is_tiled(batch):
            from sagesmith.algorithms.linear_learner.passes_compiled import losses as added

            rows = np.ascontiguousarray(batch.features)
            added(self._task(), rows, label, weight, self.weights, self._tile(batch), lost)
        else:
            z = self.outputs_of(batch)
            losses.gradient(self._plan.loss, self._plan.parameter, z, label, weight, self.up, lost)

    def is_tiled(self, batch: Batch) -> bool:
        """Whether a batch goes through in tiles that stay in the cache, all of it compiled."""
        return not batch.is_sparse and self.weights.size <= FUSED

    def remember(self) -> None:
        """Takes the weights as they are now into the mean that `averaged` gives."""
        if not self._count:
            self._summed = np.zeros_like(self.weights)
        self._summed += self.weights
        self._count += 1

    def averaged(self) -> np.ndarray:
        """The mean of the weights remembered since the last call; without any, the weights."""
        count, self._count = self._count, 0
        return self._summed / np.float32(count) if count else self.weights

    def column(self, model: int) -> np.ndarray:
        """A copy of one model's weights, (d + 1, outputs)."""
        return self.weights[:, model * self.outputs : (model + 1) * self.outputs].copy()

    def _task(self) -> Any:
        from sagesmith.algorithms.linear_learner.passes_compiled import Task

        plan, up = self._plan, np.ones(-(-self.models // LANES) * LANES, np.float32)
        up[: self.models] = self.up
        scaler = plan.scaler
        return Task(plan.loss.code, np.float32(plan.parameter), scaler.shift, scaler.factor, scaler.frame, up)

    def _tile(self, batch: Batch) -> int:
        """Rows that stay in the first cache with their outputs: a multiple of 8 if there are as many."""
        return min(len(batch), max(32, min(256, _NEAR // sum(self.weights.shape) // 8 * 8)))

    def _outputs(self, batch: Batch) -> tuple[np.ndarray, Any]:
        """The outputs, and what `learnt` needs for their gradient: scaled rows, or the columns that occur."""
        z = self._buffer("z", len(batch), self.weights.shape[1])
        if batch.is_sparse:
            return z, self._sparse_outputs(batch, z)
        from sagesmith.algorithms.linear_learner import products_compiled as products

        features, frame = np.ascontiguousarray(batch.features), self._plan.scaler.frame
        if self.weights.size <= FUSED:
            products.outputs(features, frame, self.weights, self._tile(batch), z)
            return z, None
        rows = self._buffer("rows", len(batch), frame.shape[1])
        products.scaled(features, frame, rows)
        rows = rows[:, : self.width + 1]
        np.matmul(rows, self.weights, out=z)
        return z, rows

    def _sparse_outputs(self, batch: Batch, z: np.ndarray) -> tuple[np.ndarray, ...]:
        """Scaled entries, their columns among those that occur, where rows start, and which columns these are."""
        from sagesmith.algorithms.linear_learner.sparse_compiled import forward

        matrix: Any = batch.features
        values, scaler = matrix.data * self._plan.scaler.factor[matrix.indices], self._plan.scaler
        columns, keys, weights, constant = self.everything[:-1], matrix.indices, self.weights, self.weights[-1]
        if self.lazy:
            columns, keys = np.unique(matrix.indices, return_inverse=True)
            weights = self.weights[columns]
        else:
            constant = constant - (scaler.shift * scaler.factor) @ self.weights[:-1]
        forward(values, keys, matrix.indptr, weights, constant, z)
        return values, keys, matrix.indptr, columns

    def _sparse_gradient(
        self, slopes: np.ndarray, values: np.ndarray, keys: np.ndarray, starts: np.ndarray, columns: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        from sagesmith.algorithms.linear_learner.sparse_compiled import backward

        gradient = np.empty((len(columns) + 1, slopes.shape[1]), np.float32)
        backward(values, keys, starts, slopes, gradient[:-1])
        gradient[-1] = slopes.sum(axis=0)
        if not self.lazy:
            scaler = self._plan.scaler
            gradient[:-1] -= (scaler.shift * scaler.factor)[:, None] * gradient[-1]
        return gradient, np.append(columns, self.width)

    def _buffer(self, name: str, rows: int, columns: int) -> np.ndarray:
        """Memory that is used batch after batch; two sizes of batch occur, whole ones and the last."""
        key = (name, rows)
        if key not in self._buffers:
            if len(self._buffers) > 8:
                self._buffers.clear()
            self._buffers[key] = np.empty((rows, columns), np.float32)
        return self._buffers[key]
