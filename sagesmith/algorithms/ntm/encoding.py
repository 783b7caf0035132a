"""Encoding: the topic weights of documents by a finished model, in numpy: answering needs no torch.

The encoder's mean is a guess made in one pass, and a small encoder's guess is some way from the mean of the posterior
that training approximates (the amortisation gap: Cremer et al., Inference Suboptimality in Variational Autoencoders,
ICML 2018). So it is only where the search begins: a few steps of Gauss and Newton climb to the posterior's mode,

    log p(x | softmax(z W + b)) - |z|^2 / 2,

each step's equations solved by a few turns of conjugate gradients. A document's answer hangs on no other document.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

CELLS = 1 << 24  # numbers of the largest array at once
STEPS = 3  # of Gauss and Newton: these gain nearly all that eight longer ones do (docs/decisions/0038)
TURNS = 2  # of conjugate gradients in a step
SHORTER = 0.25  # of a step that led downwards, so much is tried next


def topic_weights(model: Mapping[str, np.ndarray], counts: Any, activation: str) -> np.ndarray:
    """softmax of the posterior's mode, (D, K) float32, of documents (D, V) CSR.

    A document without words tells nothing: all topics weigh the same, as in the prior.
    """
    width, topics = model["topics"].shape
    rows = max(1, CELLS // max(width, len(model["layer_0_bias"])))
    activated = ACTIVATIONS[activation]
    parts = [_of_part(model, counts[at : at + rows], activated) for at in range(0, counts.shape[0], rows)]
    return np.concatenate(parts) if parts else np.empty((0, topics), np.float32)


def _of_part(model: Mapping[str, np.ndarray], counts: Any, activated: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    z = refined(model, counts, encoded(model, counts, activated))
    weights = _softmax(z)
    weights[np.asarray(counts.sum(axis=1)).ravel() == 0] = 1 / weights.shape[1]
    return np.asarray(weights, np.float32)


def encoded(model: Mapping[str, np.ndarray], counts: Any, activated: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The encoder's mean of z, (D, K)."""
    from scipy import sparse

    h: Any = sparse.csr_matrix((np.log1p(counts.data), counts.indices, counts.indptr), counts.shape)
    for number in range(layer_count(model)):
        h = activated(h @ model[f"layer_{number}_weight"] + model[f"layer_{number}_bias"])
    return np.asarray(h @ model["mean_weight"] + model["mean_bias"])


def refined(model: Mapping[str, np.ndarray], counts: Any, z: np.ndarray) -> np.ndarray:
    """z (D, K) nearer to the mode of the posterior: of all z that were seen, each document's likeliest."""
    posterior = _Posterior(model, counts)
    best, lowest = z, np.full(len(z), np.inf)
    with np.errstate(over="ignore", invalid="ignore"):  # from 1e36 words on: then the encoder's guess stands
        for step in range(STEPS + 1):
            at = posterior.at(z)
            better = at.surprise < lowest
            best, lowest = np.where(better[:, None], z, best), np.where(better, at.surprise, lowest)
            if step < STEPS:
                z = np.where(better[:, None], z + at.step(), best + SHORTER * (z - best))
    return best


class _Posterior:
    """Of z given documents: what of it does not change with z."""

    def __init__(self, model: Mapping[str, np.ndarray], counts: Any) -> None:
        self.topics, self.background = model["topics"], model["background"]
        self.summed = np.asarray(counts @ self.topics)  # (D, K)
        self.lengths = np.asarray(counts.sum(axis=1), np.float32).reshape(-1, 1)

    def at(self, z: np.ndarray) -> _Point:
        return _Point(self, z)


class _Point:
    """The posterior at z (D, K).

    Attributes:
        surprise: -log p(x, z) (D,), less what does not hang on z.
    """

    def __init__(self, posterior: _Posterior, z: np.ndarray) -> None:
        self.posterior, self.z, self.theta = posterior, z, _softmax(z)
        chances = self.theta @ posterior.topics.T
        chances += posterior.background
        largest = chances.max(axis=1, keepdims=True)
        np.exp(np.subtract(chances, largest, out=chances), out=chances)
        sums = chances.sum(axis=1, keepdims=True)
        self.surprise = (
            posterior.lengths * (np.log(sums) + largest) - _dot(self.theta, posterior.summed) + 0.5 * _dot(z, z)
        )[:, 0]
        chances /= sums
        self.chances, self.expected = chances, chances @ posterior.topics  # (D, V), (D, K)

    def step(self) -> np.ndarray:
        """The step (D, K) to where the posterior's quadratic approximation is least, nearly."""
        slope = self._through(self.posterior.lengths * self.expected - self.posterior.summed) + self.z
        step, left = np.zeros_like(slope), -slope
        direction, size = left, _dot(left, left)
        for _ in range(TURNS):
            curved = self._curved(direction)
            share = size / np.maximum(_dot(direction, curved), 1e-30)
            step = step + share * direction
            left = left - share * curved
            size, before = _dot(left, left), size
            direction = left + size / np.maximum(before, 1e-30) * direction
        return np.asarray(step)

    def _through(self, values: np.ndarray) -> np.ndarray:
        """The derivative of softmax, which is symmetric, times values (D, K)."""
        return np.asarray(self.theta * (values - _dot(self.theta, values)))

    def _curved(self, direction: np.ndarray) -> np.ndarray:
        """The curvature by Gauss and Newton, which is positive, times a direction (D, K)."""
        shifted = self._through(direction) @ self.posterior.topics.T
        shifted *= self.chances
        moved = shifted @ self.posterior.topics - self.expected * shifted.sum(axis=1, keepdims=True)
        return np.asarray(self._through(self.posterior.lengths * moved) + direction)


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Row by row, (D, 1)."""
    return np.asarray(np.einsum("dk,dk->d", a, b)[:, None])


def _softmax(z: np.ndarray) -> np.ndarray:
    weights = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def layer_count(model: Mapping[str, np.ndarray]) -> int:
    """Layers of the encoder."""
    return sum(name.startswith("layer_") and name.endswith("_weight") for name in model)


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * values)))


def _relu(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.maximum(values, 0))


ACTIVATIONS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {"sigmoid": _sigmoid, "tanh": np.tanh, "relu": _relu}
