"""Encoding: the topic weights of documents by a finished model, in numpy: answering needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

CELLS = 1 << 24  # numbers of the first layer at once


def topic_weights(model: Mapping[str, np.ndarray], counts: Any, activation: str) -> np.ndarray:
    """softmax of the posterior mean, (D, K) float32, of documents (D, V) CSR.

    A document without words tells nothing: all topics weigh the same, as in the prior.
    """
    rows = max(1, CELLS // len(model["layer_0_bias"]))
    parts = [_of_part(model, counts[at : at + rows], ACTIVATIONS[activation]) for at in range(0, counts.shape[0], rows)]
    topics = len(model["mean_bias"])
    return np.concatenate(parts) if parts else np.empty((0, topics), np.float32)


def _of_part(model: Mapping[str, np.ndarray], counts: Any, activated: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    from scipy import sparse

    h: Any = sparse.csr_matrix((np.log1p(counts.data), counts.indices, counts.indptr), counts.shape)
    for number in range(layer_count(model)):
        h = activated(h @ model[f"layer_{number}_weight"] + model[f"layer_{number}_bias"])
    z = h @ model["mean_weight"] + model["mean_bias"]
    z -= z.max(axis=1, keepdims=True)
    weights = np.exp(z)
    weights /= weights.sum(axis=1, keepdims=True)
    weights[np.asarray(counts.sum(axis=1)).ravel() == 0] = 1 / weights.shape[1]
    return np.asarray(weights, np.float32)


def layer_count(model: Mapping[str, np.ndarray]) -> int:
    """Layers of the encoder."""
    return sum(name.startswith("layer_") and name.endswith("_weight") for name in model)


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * values)))


def _relu(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.maximum(values, 0))


ACTIVATIONS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {"sigmoid": _sigmoid, "tanh": np.tanh, "relu": _relu}
