"""Forecasts: sample paths of many series, from a trained network's weights as plain arrays; no torch is needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from sagesmith.algorithms.deepar import forecasts_compiled as code
from sagesmith.algorithms.deepar.likelihoods import LIKELIHOODS, Likelihood
from sagesmith.algorithms.deepar.series import Packed
from sagesmith.algorithms.deepar.threads import Workers
from sagesmith.algorithms.deepar.windows import STATIC, Cutter, View

SERIES = 256  # that are read together
COLUMNS = 320  # sample paths that a thread unrolls together, few enough for its cache
AT_ONCE = 1 << 25  # sampled numbers that are held at a time


@dataclass(frozen=True)
class Weights:
    """The network's, laid out for compiled code: (inputs, outputs), float32.

    Attributes:
        first (D, 4H), recurrent (L, H, 4H), deeper (L - 1, H, 4H), biases (L, 4H): the layers.
        fixed: (E, 4H), of embeddings and statics.
        head (H, parameters), shift (parameters,), linear (View.straight,).
        tables: an array (categories, size) for each category.
    """

    first: np.ndarray
    recurrent: np.ndarray
    deeper: np.ndarray
    biases: np.ndarray
    fixed: np.ndarray
    head: np.ndarray
    shift: np.ndarray
    linear: np.ndarray
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

        inputs = [taken(f"layers.{k}.input", widths[k], 4 * cells) for k in range(layers)]
        recurrent = [taken(f"layers.{k}.recurrent", cells, 4 * cells) for k in range(layers)]
        biases = [taken(f"layers.{k}.bias", 4 * cells) for k in range(layers)]
        return cls(
            first=inputs[0],
            recurrent=np.array(recurrent),
            deeper=np.array(inputs[1:], np.float32).reshape(layers - 1, cells, 4 * cells),
            biases=np.array(biases),
            fixed=np.ascontiguousarray(taken("fixed.weight", 4 * cells, size * len(cards) + STATIC).T),
            head=np.ascontiguousarray(taken("head.weight", likelihood.parameters, cells).T),
            shift=taken("head.bias", likelihood.parameters),
            linear=taken("linear", view.straight),
            tables=tuple(taken(f"embeddings.{k}.weight", count, size) for k, count in enumerate(cards)),
        )


class Forecaster:
    """Draws sample paths that follow on the series of a packed set."""

    def __init__(self, weights: Weights, view: View, likelihood: Likelihood, rate: float, workers: Workers) -> None:
        self.weights, self.view, self.likelihood = weights, view, likelihood
        self.rate, self.workers = rate, workers

    def paths(self, packed: Packed, samples: int, seed: int) -> Iterator[np.ndarray]:
        """Sample paths in the order of the series, some series at a time: (S, horizon, samples) float32."""
        cutter = Cutter(self.view, packed, self.workers)
        size = max(1, min(SERIES, AT_ONCE // (samples * self.view.horizon)))
        for at in range(0, len(packed), size):
            yield self._some(cutter, np.arange(at, min(at + size, len(packed))), samples, seed)

    def _some(self, cutter: Cutter, chosen: np.ndarray, samples: int, seed: int) -> np.ndarray:
        view, weights = self.view, self.weights
        starts = cutter.packed.lengths[chosen] - view.context
        windows = cutter.cut(chosen, starts, view.context + view.horizon, view.scale)
        embedded = [table[windows.cats[:, k]] for k, table in enumerate(weights.tables)]
        fixed = np.ascontiguousarray((np.hstack([*embedded, windows.static]) @ weights.fixed + weights.biases[0]).T)
        layers, units = weights.recurrent.shape[:2]
        columns = windows.inputs.shape[2]
        states, before = (np.zeros((layers, units, columns), np.float32) for _ in range(2))
        gate, hidden = np.empty((4 * units, columns), np.float32), np.empty((units, columns), np.float32)
        network = (weights.first, weights.recurrent, weights.deeper, weights.biases)
        past = windows.inputs[: view.context]
        self.workers.columns(code.encode, columns, past, fixed, *network, self.rate, states, before, gate, hidden)
        ahead = windows.inputs[view.context :]
        _forget_drawn(ahead, view)
        base = fixed + np.matmul(weights.first.T, ahead)
        straight = np.einsum("l,tlb->tb", weights.linear, ahead[:, : view.straight])
        result = np.empty((len(chosen), view.horizon, samples), np.float32)

        def task(series: np.ndarray) -> None:
            code.unroll(
                series, samples, _seed(seed, int(chosen[series[0]])), base, straight, view.lags, *network,
                weights.head, weights.shift, weights.linear, self.rate, self.likelihood.code, windows.centres,
                windows.units, states, before, result,
            )  # fmt: skip

        each = max(1, COLUMNS // samples)
        self.workers.each(task, [np.arange(at, min(at + each, len(chosen))) for at in range(0, len(chosen), each)])
        return result


def _forget_drawn(ahead: np.ndarray, view: View) -> None:
    """In the inputs of the horizon (P, D, B), lagged values that are yet to be drawn become 0."""
    for t in range(len(ahead)):
        ahead[t, : np.searchsorted(view.lags, t, "right")] = 0.0
    ahead[1:, view.straight] = 1.0  # a drawn value counts as observed


def _seed(seed: int, series: int) -> int:
    """For a block of series: the same whatever the number of threads."""
    return int(np.random.SeedSequence([seed, series]).generate_state(1)[0])


def quantiles(paths: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """(levels, S, P) of sample paths (S, P, samples), by linear interpolation between the sorted samples."""
    ordered = np.sort(paths, axis=2)
    places = np.asarray(levels, float) * (paths.shape[2] - 1)
    below = np.floor(places).astype(int)
    above = np.minimum(below + 1, paths.shape[2] - 1)
    share = (places - below).astype(np.float32)
    return np.moveaxis(ordered[..., below] + (ordered[..., above] - ordered[..., below]) * share, 2, 0)
