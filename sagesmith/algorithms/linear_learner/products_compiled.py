"""Scaling of dense rows, and products of sparse rows with the weights of all models; sparse stays sparse. Compiled."""

from __future__ import annotations

import numpy as np

from sagesmith.formats.compiled import compiled


@compiled
def forward(
    values: np.ndarray, keys: np.ndarray, starts: np.ndarray, weights: np.ndarray, constant: np.ndarray, z: np.ndarray
) -> None:
    """z = constant + X weights, (n, k)."""
    width = z.shape[1]
    for i in range(z.shape[0]):
        row = z[i]
        for k in range(width):
            row[k] = constant[k]
        for at in range(starts[i], starts[i + 1]):
            value = values[at]
            other = weights[keys[at]]
            for k in range(width):
                row[k] += value * other[k]


@compiled
def backward(
    values: np.ndarray, keys: np.ndarray, starts: np.ndarray, slopes: np.ndarray, gradient: np.ndarray
) -> None:
    """gradient = X^T slopes, (d, k)."""
    width = slopes.shape[1]
    gradient[:] = 0
    for i in range(slopes.shape[0]):
        row = slopes[i]
        for at in range(starts[i], starts[i + 1]):
            value = values[at]
            other = gradient[keys[at]]
            for k in range(width):
                other[k] += value * row[k]


@compiled
def scaled(features: np.ndarray, shift: np.ndarray, factor: np.ndarray, out: np.ndarray) -> None:
    """Dense rows, scaled, with a last column of ones for the bias: (n, d) to (n, d + 1)."""
    width = features.shape[1]
    for i in range(features.shape[0]):
        row, to = features[i], out[i]
        for j in range(width):
            to[j] = (row[j] - shift[j]) * factor[j]
        to[width] = np.float32(1)


@compiled
def outputs(
    features: np.ndarray, shift: np.ndarray, factor: np.ndarray, weights: np.ndarray, tile: int, z: np.ndarray
) -> None:
    """Scaled dense rows times weights, `tile` rows at a time, (n, d) to (n, k)."""
    near = np.empty((tile, features.shape[1] + 1), np.float32)
    for first in range(0, len(features), tile):
        count = min(tile, len(features) - first)
        scaled(features[first : first + count], shift, factor, near[:count])
        np.dot(near[:count], weights, z[first : first + count])
