"""A factorization machine written the plain way, in NumPy and float64: what the compiled one is held against."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from scipy import sparse

DEFAULTS: Mapping[str, Any] = {
    "bias_lr": 0.1, "linear_lr": 0.001, "factors_lr": 0.0001, "bias_wd": 0.01, "linear_wd": 0.001, "factors_wd": 1e-5,
    "rescale_grad": None, "clip_gradient": None, "eps": 1e-8,
}  # fmt: skip


def scores(X: np.ndarray, w0: float, w: np.ndarray, v: np.ndarray) -> np.ndarray:
    """By the definition, pair by pair: no O(kn) identity."""
    found = w0 + X @ w
    for i in range(X.shape[1]):
        for j in range(i + 1, X.shape[1]):
            found = found + X[:, i] * X[:, j] * (v[i] @ v[j])
    return found


def losses(score: np.ndarray, label: np.ndarray, binary: bool) -> np.ndarray:
    """Half the squared error, whose slope is the error; or the log loss."""
    if binary:
        return np.logaddexp(0, score) - label * score
    return (score - label) ** 2 / 2


class Adam:
    """Adam with MXNet's lazy updates for one array; `rows` says which of its rows move."""

    def __init__(self, shape: tuple[int, ...], rate: float, decay: float, settings: Mapping[str, Any]) -> None:
        self.mean, self.square = np.zeros(shape), np.zeros(shape)
        self.rate, self.decay, self.settings = rate, decay, settings
        self.steps = 0

    def step(self, value: np.ndarray, gradient: np.ndarray, rows: Any = slice(None)) -> np.ndarray:
        self.steps += 1
        g = gradient[rows] + self.decay * value[rows]
        clip = self.settings["clip_gradient"]
        g = g if clip is None else np.clip(g, -clip, clip)
        self.mean[rows] = 0.9 * self.mean[rows] + 0.1 * g
        self.square[rows] = 0.999 * self.square[rows] + 0.001 * g**2
        rate = self.rate * np.sqrt(1 - 0.999**self.steps) / (1 - 0.9**self.steps)
        value = value.copy()
        value[rows] -= rate * self.mean[rows] / (np.sqrt(self.square[rows]) + self.settings["eps"])
        return value


def trained(
    X: np.ndarray, y: np.ndarray, start: tuple[Any, ...], size: int, epochs: int, binary: bool, **given: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """w0 (1,), w, v after mini-batches of `size` in order; gradients by the derivative of the dense formula."""
    settings = {**DEFAULTS, **given}
    w0, w, v = (np.array(part, float) for part in start)
    adams = [
        Adam(part.shape, settings[f"{name}_lr"], settings[f"{name}_wd"], settings)
        for name, part in (("bias", w0), ("linear", w), ("factors", v))
    ]
    for rows in batches(len(y), size, epochs):
        x, label = X[rows], y[rows]
        score = scores(x, w0[0], w, v)
        slope = (1 / (1 + np.exp(-score)) if binary else score) - label
        scale = settings["rescale_grad"] or 1 / len(label)
        to_w = scale * (slope @ x)
        to_v = scale * np.einsum("r,ri,rf->if", slope, x, x @ v) - scale * v * (slope @ x**2)[:, None]
        seen = np.flatnonzero((x != 0).any(axis=0))
        w0 = adams[0].step(w0, scale * np.array([slope.sum()]))
        w, v = adams[1].step(w, to_w, seen), adams[2].step(v, to_v, seen)
    return w0, w, v


def batches(rows: int, size: int, epochs: int) -> Iterator[slice]:
    for _ in range(epochs):
        for start in range(0, rows, size):
            yield slice(start, start + size)


def sparse_rows(rows: int, columns: int, density: float = 0.3, seed: int = 0) -> Any:
    """CSR of float32 with a few empty rows and columns."""
    random = np.random.default_rng(seed)
    dense = random.normal(size=(rows, columns)) * (random.random((rows, columns)) < density)
    dense[:: max(2, rows // 3)] = 0
    return sparse.csr_matrix(dense.astype(np.float32))
