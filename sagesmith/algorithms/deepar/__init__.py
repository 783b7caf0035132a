"""DeepAR: probabilistic forecasts of many related time series from one autoregressive LSTM.

Salinas, Flunkert, Gasthaus, Januschowski, DeepAR: Probabilistic Forecasting with Autoregressive Recurrent Networks,
arXiv 1704.04110. SageMaker's names, data, log lines and answers are followed to the letter; its network is closed, ours
is in network.py. The recurrence is compiled code of ours on CPUs, torch on GPUs; forecasts need no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Thread
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from sagesmith.algorithms import scikit
from sagesmith.algorithms.base import FILES, ChannelSpec, Metric, Request, Response, not_rows
from sagesmith.algorithms.first_party import JOB_METRICS, FirstParty
from sagesmith.algorithms.hyperparameters import Tunable, hp
from sagesmith.algorithms.run import Run

if TYPE_CHECKING:
    from sagesmith.algorithms.deepar.series import Packed
    from sagesmith.formats.channel import Channel

    Known = tuple[list[int], int]  # categories of each `cat`, and how many `dynamic_feat` there are
    Hidden = tuple[Packed, np.ndarray]  # series without their last values, and those, (n, prediction_length)

KINDS = (
    "json", "json.gz", "jsonl", "jsonlines", "parquet", "application/json", "application/jsonlines",
    "application/x-jsonlines", "application/jsonl", "text/json", "text/jsonl", "application/x-parquet",
    "application/parquet", "application/vnd.apache.parquet",
)  # fmt: skip
NAMES = ("gaussian", "beta", "negative-binomial", "student-T", "deterministic-L1")
LEVELS = tuple(round(0.1 * k, 1) for k in range(1, 10))
QUALITY = r"#quality_metric: host=\S+, "


def _known_likelihood(value: str) -> str | None:
    return None if value.lower() in {name.lower() for name in NAMES} else f"in [{', '.join(NAMES)}]"


def _known_frequency(value: str) -> str | None:
    from sagesmith.algorithms.deepar.frequency import Frequency

    try:
        Frequency.parse(value)
    except ValueError as error:
        return str(error)
    return None


def _levels(values: Sequence[float]) -> str | None:
    return None if values and all(0 < value < 1 for value in values) else "a list of numbers in (0, 1)"


def _cardinalities(value: Any) -> str | None:
    from sagesmith.algorithms.deepar.series import MOST_CATEGORIES

    right = not isinstance(value, list) or all(0 < count <= MOST_CATEGORIES for count in value)
    return None if right else f"auto, ignore or a list of whole numbers from 1 to {MOST_CATEGORIES}"


@dataclass(frozen=True)
class Forecast:
    """Of n series: `mean` (n, P); `quantiles` (n, P) by level; `samples` (n, num_samples, P)."""

    mean: np.ndarray
    quantiles: Mapping[str, np.ndarray]
    samples: np.ndarray


class DeepAR(FirstParty):
    """Probabilistic forecasts of many related time series from one recurrent network."""

    name = "deepar"
    images = ("forecasting-deepar",)
    role = "forecaster"
    dimension = "AWS/DeepAR"
    distributed = True
    takes_sparse = False
    channels = (
        ChannelSpec("train", True, KINDS, "json", modes=FILES),
        ChannelSpec("test", False, KINDS, "json", modes=FILES),
    )
    metrics = (
        Metric("test:RMSE", QUALITY + r"test RMSE <loss>=(\S+)", "Minimize"),
        Metric("test:mean_wQuantileLoss", QUALITY + r"test mean_wQuantileLoss <loss>=(\S+)", "Minimize"),
        Metric("train:final_loss", QUALITY + r"train final_loss <loss>=(\S+)", "Minimize"),
        Metric("train:loss", QUALITY + r"epoch=\S+, train loss <loss>=(\S+)"),
        Metric("train:loss:batch", QUALITY + r"epoch=\S+, batch=\S+ train loss <loss>=(\S+)"),
        *JOB_METRICS,
    )
    accepts = ("application/json", "application/jsonlines")
    returns = ("application/json", "application/jsonlines")
    example = {"context_length": 8, "epochs": 1, "prediction_length": 4, "time_freq": "H", "num_cells": 8}
    exceptions = not_rows("time series")

    context_length: int = hp(
        "steps that the network reads before the forecast; lags reach further back", ge=1, tunable=Tunable(1, 200)
    )
    epochs: int = hp("most passes over the data", ge=1, tunable=Tunable(1, 1000))
    prediction_length: int = hp("steps to forecast", ge=1)
    time_freq: str = hp(
        "step of the series: M, W, D, H or min, with a whole number in front or none (5min)", check=_known_frequency
    )
    cardinality: list[int] | Literal["auto", "ignore", ""] = hp(
        "categories of each `cat`: auto (told by the data), ignore, or a list", default="auto", check=_cardinalities
    )
    dropout_rate: float = hp(
        "zoneout: probability that a state stays what it was", default=0.10, ge=0, lt=1, tunable=Tunable(0.0, 0.2)
    )
    early_stopping_patience: int | Literal[""] = hp(
        "stop after so many epochs without a lower training loss; empty: never", default="", ge=1
    )
    embedding_dimension: int = hp("size of a category's vector", default=10, ge=1, tunable=Tunable(1, 50))
    learning_rate: float = hp(
        "step size of Adam at the start", default=0.001, gt=0, le=10, tunable=Tunable(1e-5, 0.1, "Logarithmic")
    )
    likelihood: str = hp(f"noise model: {', '.join(NAMES)}", default="student-T", check=_known_likelihood)
    mini_batch_size: int = hp(
        "windows of a step, of each host; its GPUs share them", default=128, ge=1, tunable=Tunable(32, 1028)
    )
    num_cells: int = hp("cells of an LSTM layer", default=40, ge=1, tunable=Tunable(30, 200))
    num_dynamic_feat: int | Literal["auto", "ignore", ""] = hp(
        "dynamic features of a series: auto (told by the data), ignore, or how many", default="auto", ge=0
    )
    num_eval_samples: int = hp("sample paths of a series when the test channel is scored", default=100, ge=1)
    num_layers: int = hp("LSTM layers", default=2, ge=1, tunable=Tunable(1, 8))
    test_quantiles: list[float] = hp("quantiles that are scored", default=list(LEVELS), check=_levels)
    seed: int = hp("of all that is drawn; not among SageMaker's hyperparameters", default=0, ge=0, lt=1 << 63)

    @classmethod
    def warm_up(cls) -> None:
        from importlib import import_module

        Thread(target=import_module, args=(f"{__name__}.forecasts_compiled",), daemon=True).start()

    @property
    def _given(self) -> dict[str, Any]:
        """The settings, the likelihood's name in lower case."""
        return {**self.settings, "likelihood": self.settings["likelihood"].lower()}

    # -- training ----------------------------------------------------------------------------------------------
    def fit(self, X: Any, y: Any = None, *, run: Run | None = None, **channels: Any) -> Self:
        """Learns from series: records with `start`, `target`, `cat`, `dynamic_feat`; a path of files; or a Channel.

        Args:
            y: ignored.
            channels: `test`, likewise, which is scored after training.
        """
        return super().fit(self.channel_of("train", X), run=run, **channels)

    def channel_of(self, name: str, value: Any) -> Channel:
        from sagesmith.algorithms.deepar.series import channel_over

        return channel_over(name, value)

    def train(self, channels: Mapping[str, Channel], run: Run) -> None:
        from sagesmith.algorithms.deepar.preparing import prepare

        settings = self._given
        prepared = prepare(channels["train"], settings, run)
        known = prepared.cards, len(prepared.centre)
        tested = "test" in channels and run.is_master
        # read before training: what is wrong with it must not cost a training
        hidden = self._hidden(channels["test"], known, run) if tested else None
        from sagesmith.algorithms.deepar.fitting import fit  # torch: not before the data are known to be right

        found = fit(prepared, settings, run)
        if found is None:  # stopped before the first epoch's end
            raise ValueError("training was stopped before the first batch; there is no model")
        self.cards_, self.width_ = known
        self._take(found)
        if hidden:
            self._report(hidden, run)

    def _report(self, hidden: Hidden, run: Run) -> None:
        samples = self.settings["num_eval_samples"]
        run.log("Evaluating model accuracy on testset using %d samples", samples)
        scores = self._scores(hidden, run)
        for name, value in scores.items():
            run.metric_line(f"#test_score ({run.host}, {name}): {value!r}")
        for name in ("RMSE", "mean_wQuantileLoss"):
            run.quality(f"test {name}", scores[name])

    def _hidden(self, channel: Channel, known: Known, run: Run) -> Hidden:
        """The series of a test channel without their ends, and the ends."""
        packed = self._packed(channel, known, 0)
        horizon = self.settings["prediction_length"]
        long = np.flatnonzero(packed.lengths >= horizon)
        if len(long) < len(packed):
            run.log("%d test series are shorter than prediction_length and are ignored", len(packed) - len(long))
        if not len(long):
            raise ValueError(f"the test channel holds no series of at least prediction_length {horizon} values")
        known_part, truths = packed.some(long).without_last(horizon)
        if not np.isfinite(truths).any():
            raise ValueError(
                f"the last prediction_length {horizon} values of all series of the test channel are missing"
            )
        return known_part, truths

    def _scores(self, hidden: Hidden, run: Run) -> dict[str, float]:
        from sagesmith.algorithms.deepar.scores import Scores

        packed, truths = hidden
        scores, at = Scores(self.settings["test_quantiles"]), 0
        for paths in self._paths(packed, self.settings["num_eval_samples"], run.threads):
            scores.take(paths, truths[at : at + len(paths)])
            at += len(paths)
        return scores.values()

    # -- asking ------------------------------------------------------------------------------------------------
    def _packed(self, channel: Channel, known: Known, ahead: int) -> Packed:
        """The series of a channel, checked against a model's categories and its number of dynamic features.

        Raises:
            DataError: naming the place and the field.
        """
        from sagesmith.algorithms.deepar.preparing import packer_of
        from sagesmith.algorithms.deepar.series import records_of

        packer = packer_of(self._given, known, ahead)
        for record, place in records_of(channel):
            packer.take(record, place)
        return packer.packed()

    def _paths(self, packed: Packed, samples: int, threads: int) -> Any:
        from sagesmith.algorithms.deepar.forecasts import Forecaster
        from sagesmith.algorithms.deepar.likelihoods import LIKELIHOODS
        from sagesmith.algorithms.deepar.threads import Workers

        settings = self._given
        with Workers(threads) as workers:
            likelihood = LIKELIHOODS[settings["likelihood"]]
            forecaster = Forecaster(self.weights_, self.view_, likelihood, settings["dropout_rate"], workers)
            yield from forecaster.paths(packed, samples, settings["seed"])

    def forecast(self, series: Any, num_samples: int = 100, quantiles: Sequence[Any] = LEVELS) -> Forecast:
        """What follows on the series: records as for `fit`, a path, or a Channel.

        `dynamic_feat` must reach `prediction_length` values beyond the target.

        Raises:
            DataError, ValueError.
        """
        from sagesmith.algorithms.deepar.forecasts import quantiles as quantiles_of
        from sagesmith.algorithms.deepar.serving import Configuration

        self._check_fitted()
        Configuration().changed({"num_samples": num_samples, "quantiles": list(quantiles)})  # raises DataError
        horizon = self.settings["prediction_length"]
        packed = self._packed(self.channel_of("predict", series), (self.cards_, self.width_), horizon)
        parts = list(self._paths(packed, num_samples, Run().threads))
        paths = np.concatenate([np.empty((0, horizon, num_samples), np.float32), *parts])
        levels = quantiles_of(paths, [float(level) for level in quantiles])
        named = {str(name): level for name, level in zip(quantiles, levels, strict=True)}
        return Forecast(paths.mean(axis=2), named, paths.transpose(0, 2, 1))

    def predict(self, X: Any, **options: Any) -> Any:
        """The mean forecast of each series, (n, prediction_length); `options` as for `forecast`."""
        return self.forecast(X, **options).mean

    def evaluate(self, series: Any) -> dict[str, float]:
        """The scores of the test channel, by SageMaker's names, for series whose ends are hidden from the model."""
        self._check_fitted()
        run = Run()
        return self._scores(self._hidden(self.channel_of("test", series), (self.cards_, self.width_), run), run)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Minus the mean weighted quantile loss of `evaluate`: the larger, the better."""
        return -self.evaluate(X)["mean_wQuantileLoss"]

    def respond(self, request: Request) -> Response:
        from sagesmith.algorithms.deepar.serving import respond

        return respond(self, request)

    def _check_fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            raise scikit.not_fitted(self)

    # -- the artifact ------------------------------------------------------------------------------------------
    def _take(self, arrays: Mapping[str, np.ndarray]) -> None:
        from sagesmith.algorithms.deepar.forecasts import Weights
        from sagesmith.algorithms.deepar.windows import View

        self.view_ = View.of(self._given, arrays)
        self.weights_ = Weights.of(arrays, self.view_, self._given, self.cards_)
        self.arrays_ = dict(arrays)

    def arrays(self) -> Mapping[str, np.ndarray]:
        return self.arrays_

    def facts(self) -> Mapping[str, Any]:
        return {"cardinality": self.cards_, "num_dynamic_feat": self.width_}

    def restore(self, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
        self.cards_ = [int(count) for count in facts["cardinality"]]
        self.width_ = int(facts["num_dynamic_feat"])
        if len(arrays["feature_centre"]) != self.width_:
            raise ValueError(f"feature_centre has not the length {self.width_}")
        self._take(arrays)
