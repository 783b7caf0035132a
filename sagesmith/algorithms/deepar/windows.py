"""Windows: what the network sees of a series around a forecast's start, for many series at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np

from sagesmith.algorithms.deepar import windows_compiled as code
from sagesmith.algorithms.deepar.frequency import Calendar, Frequency
from sagesmith.algorithms.deepar.likelihoods import BETA, LIKELIHOODS, Likelihood
from sagesmith.algorithms.deepar.series import Packed
from sagesmith.algorithms.deepar.threads import COLUMNS, Workers

EXTRA = 2  # inputs besides lags, calendar and the series' own features: whether the last value was seen, and the age

STATIC = 3  # numbers that a window has as a whole
LEAST_SPREAD = np.float32(1e-3)


@dataclass(frozen=True)
class View:
    """How a series is looked at: the same in training and in forecasts.

    Attributes:
        likelihood: in what units values are seen: see `Windows`.
        scale: the scale where a window has no value that tells; its mean over the training windows.
        centre, spread: (F,) of the dynamic features in the training data.
    """

    frequency: Frequency
    context: int
    horizon: int
    likelihood: Likelihood
    scale: float
    centre: np.ndarray
    spread: np.ndarray

    @cached_property
    def lags(self) -> np.ndarray:
        return np.array(self.frequency.lags(), np.int64)

    @cached_property
    def straight(self) -> int:
        """How many of a step's inputs, the first ones, the linear part sees: the lags and the dynamic features."""
        return len(self.lags) + len(self.centre)

    @cached_property
    def width(self) -> int:
        """Inputs of a step."""
        return self.straight + EXTRA + self.frequency.calendar(0, 0).width

    def arrays(self) -> dict[str, np.ndarray]:
        return {"feature_centre": self.centre, "feature_spread": self.spread, "scale": np.array([self.scale])}

    @classmethod
    def of(cls, settings: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Self:
        frequency = Frequency.parse(settings["time_freq"])
        sizes = settings["context_length"], settings["prediction_length"], LIKELIHOODS[settings["likelihood"]]
        centre, spread = (np.asarray(arrays[f"feature_{name}"], np.float32) for name in ("centre", "spread"))
        if centre.ndim != 1 or centre.shape != spread.shape:
            raise ValueError("feature_centre and feature_spread must be two rows of one length")
        return cls(frequency, *sizes, float(arrays["scale"][0]), centre, spread)


@dataclass(frozen=True)
class Windows:
    """B columns, the last ones of which may be idle (`real` of them are windows).

    Attributes:
        inputs: (T, D, B) float32.
        scales: (B,) float32, the mean absolute values (1 for the beta likelihood, whose values have a scale).
        centres, units: (B,) float32; what the network sees and says is (z - centre) / unit: the window's mean and
            standard deviation where the likelihood has a location, else 0 and the scale.
        static: (B, 3) float32, what the network is told of a window as a whole: the logarithm of its scale, its mean
            and the logarithm of its standard deviation, both in that scale.
        cats: (B, C) int64.
    """

    inputs: np.ndarray
    scales: np.ndarray
    centres: np.ndarray
    units: np.ndarray
    static: np.ndarray
    cats: np.ndarray
    real: int


class Cutter:
    """Cuts windows from packed series.

    Args:
        at_ends: windows are only cut around the ends of the series, so that no more of the calendar is needed.
    """

    def __init__(self, view: View, packed: Packed, workers: Workers, at_ends: bool = False) -> None:
        self.view, self.packed, self.workers = view, packed, workers
        self._lags = view.lags
        self._calendar = self._spanning(at_ends)
        self._room: dict[tuple[str, tuple[int, ...]], np.ndarray] = {}

    def _spanning(self, at_ends: bool) -> Calendar:
        packed, view = self.packed, self.view
        step, window = view.frequency.step, view.context + view.horizon
        if not len(packed):
            return view.frequency.calendar(0, 0)
        ends = packed.ordinals + packed.lengths * step
        first = int((ends if at_ends else packed.ordinals).min()) - window * step
        last = int(ends.max()) + window * step
        return view.frequency.calendar(first, last)

    def scales(self, chosen: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Mean |z|, mean and standard deviation of the conditioning windows, (3, B); NaN: nothing tells."""
        packed, found = self.packed, np.empty((3, len(chosen)), np.float32)
        begins, lengths = packed.offsets[:-1][chosen], packed.lengths[chosen]
        code.scales(packed.values, begins, lengths, starts, self.view.context, *found)
        return found

    def cut(self, chosen: np.ndarray, starts: np.ndarray, steps: int, fallback: float | None = None) -> Windows:
        """The inputs of `steps` steps of the series `chosen`, (B,), from their positions `starts` on, (B,).

        `fallback` is the scale where a window has none; None: the mean of the others'.
        """
        view, packed, real = self.view, self.packed, len(chosen)
        if short := -real % COLUMNS:
            chosen, starts = np.pad(chosen, (0, short), mode="edge"), np.pad(starts, (0, short), mode="edge")
        scales, means, spreads = self.scales(chosen, starts)
        if fallback is None:
            told = scales[np.isfinite(scales)]
            fallback = float(told.mean()) if len(told) else view.scale
        means, spreads, scales = (np.where(np.isnan(x), np.float32(fallback), x) for x in (means, spreads, scales))
        if view.likelihood.code == BETA:
            scales = np.ones_like(scales)
        centres, units = np.zeros_like(scales), scales
        if view.likelihood.linear:
            centres, units = means, np.maximum(spreads, LEAST_SPREAD * scales)
        static = np.column_stack([np.log(scales), means / scales, np.log(spreads / scales + LEAST_SPREAD)])
        inputs = self.room("inputs", (steps, view.width, len(chosen)))
        calendar = self._calendar
        self.workers.columns(
            code.gather, len(chosen), packed.values, packed.offsets[:-1][chosen], packed.lengths[chosen], starts,
            centres, units, means, self._lags, packed.ordinals[chosen], view.frequency.step, calendar.per_day,
            calendar.first, calendar.fine, calendar.coarse, packed.features, packed.places[:-1][chosen],
            packed.places[1:][chosen], view.centre, view.spread, inputs,
        )  # fmt: skip
        return Windows(inputs, scales, centres, units, static.astype(np.float32), packed.cats[chosen], real)

    def truths(self, chosen: np.ndarray, starts: np.ndarray, steps: int, width: int) -> np.ndarray:
        """The values of the windows, (steps, width); NaN: missing, outside of the series, or an idle column."""
        packed, targets = self.packed, np.full((steps, width), np.nan, np.float32)
        begins, lengths = packed.offsets[:-1][chosen], packed.lengths[chosen]
        code.truths(0, len(chosen), packed.values, begins, lengths, starts, targets)
        return targets

    def room(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Memory that is used again from batch to batch: fresh pages cost as much as filling them."""
        if (name, shape) not in self._room:
            self._room = {key: array for key, array in self._room.items() if key[0] != name}
            self._room[name, shape] = np.empty(shape, np.float32)
        return self._room[name, shape]
