"""Forecasts: sample paths of many series, from a trained network's weights as plain arrays; no torch is needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from sagesmith.algorithms.deepar import forecasts_compiled as code
from sagesmith.algorithms.deepar.likelihoods import LIKELIHOODS, Likelihood
from sagesmith.algorithms.deepar.series import Packed
from sagesmith.algorithms.deepar.steps_compiled import LEFT, TWICE_LEFT, WIDEST
from sagesmith.algorithms.deepar.threads import Workers
from sagesmith.algorithms.deepar.windows import STATIC, Cutter, View

SERIES = 256  # that are read together
COLUMNS = 5 * WIDEST  # sample paths of a thread's task where there are many
LEAST_SAMPLES = 16  # fewer would not be drawn sooner
AT_ONCE = 1 << 25  # sampled numbers that are held at a time


@dataclass(frozen=True)
class Weights:
    """The network's, laid out for compiled code: (inputs, outputs), float32.

    Attributes:
        first (D, 4H), biases (L, 4H): of the layers.
        gates: (L, H, 4K), all their weights as compiled code takes them (steps_compiled.py).
        told: (1, 4K'), likewise the head's and, after them, the linear part's of the lags.
        fixed: (E, 4H), of embeddings and statics.
        head (H, parameters), shift (parameters,), linear (View.straight,).
        tables: an array (categories, size) for each category.
    """

    first: np.ndarray
    biases: np.ndarray
    fixed: np.ndarray
    head: np.ndarray
    shift: np.ndarray
    linear: np.ndarray
    gates: np.ndarray
    told: np.ndarray
    tables: tuple[np.ndarray, ...]

    @classmethod
    def of(
        cls, arrays: Mapping[str, np.ndarray], view: View, settings: Mapping[str, Any], cards: Sequence[int]
    ) -> Self:
        """From the network's arrays by name.

        Raises:
            KeyError, ValueError: an array is missing or has another shape than the settings say.
        """
        cells, layers, size = settings["num_cells"], settings["num_layers"], settings["embedding_dimension"]
        likelihood = LIKELIHOODS[settings["likelihood"]]
        widths = [view.width, *[cells] * (layers - 1)]

        def taken(name: str, *shape: int) -> np.ndarray:
            array = np.ascontiguousarray(arrays[name], np.float32)
            if array.shape != shape or not np.isfinite(array).all():
                raise ValueError(f"array {name!r} has shape {array.shape}, or holds NaN; expected {shape}")
            return array

        scaled = np.repeat(np.array([LEFT, LEFT, TWICE_LEFT, LEFT], np.float32), cells)
        inputs = [scaled * taken(f"layers.{k}.input", widths[k], 4 * cells) for k in range(layers)]
        recurrent = [scaled * taken(f"layers.{k}.recurrent", cells, 4 * cells) for k in range(layers)]
        head, linear = taken("head.weight", likelihood.parameters, cells).T, taken("linear", view.straight)
        biases = [scaled * taken(f"layers.{k}.bias", 4 * cells) for k in range(layers)]
        return cls(
            first=inputs[0],
            biases=np.array(biases),
            fixed=np.ascontiguousarray(taken("fixed.weight", 4 * cells, size * len(cards) + STATIC).T) * scaled,
            head=head,
            shift=taken("head.bias", likelihood.parameters),
            linear=linear,
            gates=_gates(inputs, recurrent),
            told=_told(head, linear[: len(view.lags)]),
            tables=tuple(taken(f"embeddings.{k}.weight", count, size) for k, count in enumerate(cards)),
        )


def _gates(inputs: Sequence[np.ndarray], recurrent: Sequence[np.ndarray]) -> np.ndarray:
    """(L, H, 4K): of layer, cell, input (the layer's own outputs first) and gate."""
    units = len(recurrent[0])
    table = np.zeros((len(inputs), units, units + max(map(len, inputs)), 4), np.float32)
    for layer, parts in enumerate(zip(recurrent, inputs, strict=True)):
        whole = np.concatenate(parts)
        table[layer, :, : len(whole)] = whole.reshape(-1, 4, units).transpose(2, 0, 1)
    return table.reshape(len(inputs), units, -1)


def _told(head: np.ndarray, linear: np.ndarray) -> np.ndarray:
    """(1, 4K): of input (cells, then lags) and parameter."""
    table = np.zeros((len(head) + len(linear), 4), np.float32)
    table[: len(head), : head.shape[1]] = head
    table[len(head) :, 0] = linear
    return table.reshape(1, -1)


class Forecaster:
    """Draws sample paths that follow on the series of a packed set."""

    def __init__(self, weights: Weights, view: View, likelihood: Likelihood, rate: float, workers: Workers) -> None:
        self.weights, self.view, self.likelihood = weights, view, likelihood
        self.rate, self.workers = rate, workers

    def paths(self, packed: Packed, samples: int, seed: int) -> Iterator[np.ndarray]:
        """Sample paths in the order of the series, some series at a time: (S, horizon, samples) float32."""
        cutter = Cutter(self.view, packed, self.workers, at_ends=True)
        size = max(1, min(SERIES, AT_ONCE // (samples * self.view.horizon)))
        random = np.random.default_rng(seed)
        for at in range(0, len(packed), size):
            yield self._some(cutter, np.arange(at, min(at + size, len(packed))), samples, random)

    def _some(self, cutter: Cutter, chosen: np.ndarray, samples: int, random: np.random.Generator) -> np.ndarray:
        view, weights = self.view, self.weights
        starts = cutter.packed.lengths[chosen] - view.context
        windows = cutter.cut(chosen, starts, view.context + view.horizon, view.scale)
        embedded = [table[windows.cats[:, k]] for k, table in enumerate(weights.tables)]
        fixed = np.hstack([*embedded, windows.static]) @ weights.fixed + weights.biases[0]
        after = self._read(windows.inputs[: view.context + 1], fixed)
        ahead = windows.inputs[view.context :]
        _forget_drawn(ahead, view)
        base = fixed + np.matmul(ahead.transpose(0, 2, 1), weights.first)
        straight = np.matmul(weights.linear, ahead[:, : view.straight])
        seeds = random.integers(0, 1 << 64, len(chosen), np.uint64)
        count = max(samples, LEAST_SAMPLES)
        result = np.empty((len(chosen), view.horizon, count), np.float32)
        every = len(chosen) * count
        size = COLUMNS if every > COLUMNS * self.workers.threads else WIDEST

        def task(begin: int) -> None:
            code.unroll(
                begin, min(begin + size, every), count, base, straight, view.lags, weights.gates, weights.biases,
                weights.told, weights.shift, self.rate, self.likelihood.code, windows.centres, windows.units, *after,
                seeds, result,
            )  # fmt: skip

        self.workers.each(task, list(range(0, every, size)))
        return result[:, :, :samples]

    def _read(self, past: np.ndarray, fixed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What the layers hold, (layers, B, H), and say, (layers + 1, B, H), after inputs (T, D, B)."""
        weights, columns = self.weights, past.shape[2]
        layers, units = len(weights.biases), len(weights.head)
        cells, said = (np.empty((count, units, columns), np.float32) for count in (layers, layers + 1))
        given = past, np.ascontiguousarray(fixed.T), weights.gates, weights.biases
        self.workers.columns(code.encode, columns, *given, self.rate, cells, said)
        return np.ascontiguousarray(cells.transpose(0, 2, 1)), np.ascontiguousarray(said.transpose(0, 2, 1))


def _forget_drawn(ahead: np.ndarray, view: View) -> None:
    """In the inputs of the horizon (P, D, B), lagged values that are yet to be drawn become 0."""
    for t in range(len(ahead)):
        ahead[t, : np.searchsorted(view.lags, t, "right")] = 0.0
    ahead[1:, view.straight] = 1.0  # a drawn value counts as observed


def quantiles(paths: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """(levels, S, P) of sample paths (S, P, samples), by linear interpolation between the sorted samples."""
    ordered = np.sort(paths, axis=2)
    places = np.asarray(levels, float) * (paths.shape[2] - 1)
    below = np.floor(places).astype(int)
    above = np.minimum(below + 1, paths.shape[2] - 1)
    share = (places - below).astype(np.float32)
    return np.moveaxis(ordered[..., below] + (ordered[..., above] - ordered[..., below]) * share, 2, 0)
