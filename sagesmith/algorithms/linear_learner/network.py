"""The network: the weights of all models side by side, and their outputs and gradients for a batch.

Weights are (d + 1, models * outputs) float32, model after model, the last row the bias: the outputs of all models for
a batch are one matrix product, and so are all gradients. Dense batches are scaled into a buffer that stays in the
cache. Sparse batches stay sparse: shift and scale go into the weights instead, and where there are many columns only
the weights of columns that occur in the batch are looked at and moved (`lazy`).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from sagesmith.algorithms.linear_learner.scaler import Scaler
from sagesmith.formats.batch import Batch

LAZY = 10_000  # columns of sparse data from which on updates are lazy, unless unbias_data asks for means of 0


class Network:
    """Raises MemoryError, naming sizes, where weights are too many."""

    def __init__(self, settings: Mapping[str, Any], width: int, outputs: int, models: int, scaler: Scaler) -> None:
        self.width, self.outputs, self.models = width, outputs, models
        self.scaler, self.lazy = scaler, False
        self.weights = _initial(settings, (width + 1, models * outputs))
        self._everything = np.arange(width + 1)
        self._summed = np.zeros((0, 0), np.float32)
        self._count = 0
        self._buffers: dict[tuple[str, int], np.ndarray] = {}

    def outputs_of(self, batch: Batch) -> tuple[np.ndarray, Any]:
        """(n, models * outputs) of a batch, and what `gradient` needs; both are overwritten by the next batch."""
        z = self._buffer("z", len(batch), self.weights.shape[1])
        if batch.is_sparse:
            return z, self._sparse_outputs(batch, z)
        from sagesmith.algorithms.linear_learner.products_compiled import scaled

        rows = self._buffer("rows", len(batch), self.width + 1)
        scaled(np.ascontiguousarray(batch.features), self.scaler.shift, self.scaler.factor, rows)
        np.matmul(rows, self.weights, out=z)
        return z, rows

    def gradient(self, slopes: np.ndarray, seen: Any) -> tuple[np.ndarray, np.ndarray]:
        """Gradient (r, models * outputs) summed over the batch, and the rows (r,) of the weights it is for."""
        if isinstance(seen, np.ndarray):
            out = self._buffer("gradient", self.width + 1, self.weights.shape[1])
            np.matmul(seen.T, slopes, out=out)
            return out, self._everything
        matrix, columns, keys = seen
        return self._sparse_gradient(slopes, matrix, columns, keys)

    def remember(self) -> None:
        """Takes the weights as they are now into the mean that `averaged` gives."""
        if not self._count:
            self._summed = np.zeros_like(self.weights)
        self._summed += self.weights
        self._count += 1

    def averaged(self) -> Network:
        """A network with the mean of the weights remembered since the last call; without any, with this one's."""
        twin = copy.copy(self)
        if self._count:
            twin.weights = self._summed / np.float32(self._count)
        self._count = 0
        return twin

    def column(self, model: int) -> np.ndarray:
        """A copy of one model's weights, (d + 1, outputs)."""
        return self.weights[:, model * self.outputs : (model + 1) * self.outputs].copy()

    def _sparse_outputs(self, batch: Batch, z: np.ndarray) -> Any:
        from sagesmith.algorithms.linear_learner.products_compiled import forward

        matrix: Any = batch.features
        if self.lazy:
            columns, keys = np.unique(matrix.indices, return_inverse=True)
        else:
            columns, keys = self._everything[:-1], matrix.indices
        weights = self.weights[columns] * self.scaler.factor[columns, None]
        constant = self.weights[-1].copy()
        if not self.lazy:
            constant -= self.scaler.shift @ weights
        forward(matrix.data, keys, matrix.indptr, weights, constant, z)
        return matrix, columns, keys

    def _sparse_gradient(
        self, slopes: np.ndarray, matrix: Any, columns: np.ndarray, keys: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        from sagesmith.algorithms.linear_learner.products_compiled import backward

        gradient = np.empty((len(columns) + 1, slopes.shape[1]), np.float32)
        backward(matrix.data, keys, matrix.indptr, slopes, gradient[:-1])
        summed = slopes.sum(axis=0)
        if not self.lazy:
            gradient[:-1] -= self.scaler.shift[columns, None] * summed
        gradient[:-1] *= self.scaler.factor[columns, None]
        gradient[-1] = summed
        return gradient, np.append(columns, self.width)

    def _buffer(self, name: str, rows: int, columns: int) -> np.ndarray:
        """Memory that is used batch after batch; two sizes of batch occur, whole ones and the last."""
        key = (name, rows)
        if key not in self._buffers:
            if len(self._buffers) > 8:
                self._buffers.clear()
            self._buffers[key] = np.empty((rows, columns), np.float32)
        return self._buffers[key]


def _initial(settings: Mapping[str, Any], shape: tuple[int, int]) -> np.ndarray:
    """Weights by init_method, each model's its own; the bias by init_bias."""
    random = np.random.default_rng(0)
    if settings["init_method"] == "uniform":
        scale = np.float32(settings["init_scale"])
        weights = (random.random(shape, np.float32) * 2 - 1) * scale
    else:
        weights = random.standard_normal(shape, np.float32) * np.float32(settings["init_sigma"])
    weights[-1] = settings["init_bias"] if settings["use_bias"] else 0.0
    return np.asarray(weights, np.float32)
