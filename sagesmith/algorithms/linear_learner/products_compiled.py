"""Dense rows scaled, and their products with the weights of all models. Compiled."""

from __future__ import annotations

import numpy as np

from sagesmith.formats.compiled import compiled


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
