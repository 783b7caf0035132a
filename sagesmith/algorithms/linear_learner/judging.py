"""Judging: every model on the validation rows after an epoch, and the chosen one at the end, on all channels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from sagesmith.algorithms.linear_learner import losses
from sagesmith.algorithms.linear_learner.calibration import BY_LOSS, calibrated
from sagesmith.algorithms.linear_learner.hosts import Gang
from sagesmith.algorithms.linear_learner.losses import BINARY, REGRESSOR
from sagesmith.algorithms.linear_learner.metrics import Score, Tally, roc_auc
from sagesmith.algorithms.linear_learner.network import Network
from sagesmith.algorithms.linear_learner.plan import Plan
from sagesmith.algorithms.linear_learner.rows import Rows
from sagesmith.formats.batch import Batch

SAMPLED = 100_000  # validation rows on which all models are calibrated after an epoch
LANES = 8  # into which batches are dealt, so that threads share them and sums do not depend on how many there are
AT_ONCE = 4096  # rows of a batch; a matrix product of them is large, and they stay in the cache
MOST_OUTPUTS = 16 << 20  # numbers of a batch's outputs
CALIBRATED = 10_000_000  # num_calibration_samples `auto`


Result = TypeVar("Result")


@dataclass
class Judged:
    """After an epoch: (models,) validation losses, the best model, and its criterion (the more, the better)."""

    losses: np.ndarray
    model: int
    value: float


@dataclass
class Scored:
    """A lane's part of a channel's scores: the tally's sums with both losses, and what an AUC needs."""

    sums: np.ndarray
    margins: list[np.ndarray]
    labels: list[np.ndarray]


class Judge:
    """Compares models by the selection criterion: the loss, or for binary classifiers what calibration reaches."""

    def __init__(self, plan: Plan, held: Rows, gang: Gang) -> None:
        self.plan, self.held = plan, held
        self._gang = gang
        self._sharded = gang.sharded(held)
        chosen = plan.settings["binary_classifier_model_selection_criteria"]
        self._calibrates = plan.loss.predictor == BINARY and chosen not in BY_LOSS
        self.criterion = f"sampled_{chosen}" if self._calibrates else plan.loss.name
        self._most = CALIBRATED if (n := plan.settings["num_calibration_samples"]) == "auto" else int(n)
        self._sample: Batch | None = None
        if self._calibrates:
            first = held.some(min(self._most, SAMPLED))
            self._sample = gang.shared(first) if self._sharded else first

    def epoch(self, network: Network) -> Judged:
        """Judges all models."""
        mean = self.losses(network)
        finite = np.isfinite(mean)
        if self._sample is None:
            order = np.where(finite, mean, np.inf)
            best = int(np.argmin(order))
            return Judged(mean, best, -float(order[best]))
        margins = self._margins(network, [self._sample])
        assert self._sample.label is not None
        positive = self._sample.label > 0
        values = [
            calibrated(margins[:, model], positive, self.plan.settings).value if finite[model] else -np.inf
            for model in range(network.models)
        ]
        best = min(range(len(values)), key=lambda model: (-values[model], mean[model] if finite[model] else np.inf))
        return Judged(mean, best, float(values[best]))

    def threshold(self, weights: np.ndarray) -> float:
        """The margin from which the chosen model calls a row positive, on up to num_calibration_samples rows."""
        if not self._calibrates:
            return 0.0
        alone, left = self._alone(weights), self._most
        margins, labels = [], []
        few = self._most < self.held.count and self._most <= len(self.held.sample)
        for batch in [self.held.some(self._most)] if few else self.held.batches(AT_ONCE):
            part = batch if len(batch) <= left else batch.take(slice(None, left))
            assert part.label is not None
            margins.append(self._margins(alone, [part])[:, 0])
            labels.append(part.label)
            left -= len(part)
            if not left:
                break
        margin = np.concatenate(margins) if margins else np.empty(0, np.float32)
        label = np.concatenate(labels) if labels else np.empty(0, np.float32)
        if self._sharded:
            margin, label = self._gang.joined(margin), self._gang.joined(label)
        return calibrated(margin, label > 0, self.plan.settings).threshold

    def scores(self, rows: Rows, weights: np.ndarray, threshold: float, *, sharded: bool, full: bool) -> list[Score]:
        """The chosen model's metrics on a channel; `full`: with those that SageMaker has for held-out rows only."""
        plan, wants_auc = self.plan, full and self.plan.loss.predictor == BINARY

        def lane(batches: Iterator[Batch]) -> Scored:
            return self._scored(self._alone(weights), batches, threshold, wants_auc)

        found = self.dealt(rows, self._alone(weights), lane)
        sums = np.sum([each.sums for each in found], axis=0)
        if sharded:
            sums = self._gang.added(sums)
        tally = Tally(plan.loss, plan.settings, plan.outputs)
        tally.sums[:] = sums[:-2]
        total = max(float(tally.sums[0]), 1e-300)
        objective = float(sums[-2] / total)
        log_loss = float(sums[-1] / total) if plan.has_class_weights else objective
        auc = None
        if wants_auc:
            auc = self._auc(
                [m for each in found for m in each.margins], [y for each in found for y in each.labels], sharded
            )
        return tally.scored(objective, log_loss if full and plan.loss.name != "hinge_loss" else None, auc)

    def _scored(self, alone: Network, batches: Iterator[Batch], threshold: float, wants_auc: bool) -> Scored:
        plan = self.plan
        tally = Tally(plan.loss, plan.settings, plan.outputs)
        lost, plain, one = np.zeros(1), np.zeros(1), np.ones(1, np.float32)
        margins, labels = [], []
        for batch in batches:
            z = alone.outputs_of(batch)
            label, weight, _ = plan.prepared(batch, plain=True)
            score = z * np.float32(plan.scaler.label_scale) + np.float32(plan.scaler.label_shift)
            assert batch.label is not None
            tally.add(score if plan.loss.predictor == REGRESSOR else z, batch.label, weight, threshold)
            if wants_auc:
                margins.append(z[:, 0].copy())
                labels.append(batch.label)
            if plan.has_class_weights:
                losses.gradient(plan.loss, plan.parameter, z.copy(), label, weight, one, plain)
                weight = plan.prepared(batch)[1]
            losses.gradient(plan.loss, plan.parameter, z, label, weight, alone.up, lost)
        return Scored(np.concatenate([tally.sums, lost, plain]), margins, labels)

    def _auc(self, margins: list[np.ndarray], labels: list[np.ndarray], sharded: bool) -> float:
        margin = np.concatenate([np.empty(0, np.float32), *margins])
        label = np.concatenate([np.empty(0, np.float32), *labels])
        if sharded:
            margin, label = self._gang.joined(margin), self._gang.joined(label)
        return roc_auc(margin, label > 0)

    def _alone(self, weights: np.ndarray) -> Network:
        """The chosen model as a network of its own."""
        return Network(self.plan, weights)

    def losses(self, network: Network) -> np.ndarray:
        """(models,) mean validation losses."""

        def lane(batches: Iterator[Batch]) -> np.ndarray:
            own, lost, total = Network(self.plan, network.weights), np.zeros(network.models), 0.0
            for batch in batches:
                label, weight, summed = self.plan.prepared(batch)
                own.lose(batch, label, weight, lost)
                total += summed
            return np.append(lost, total)

        sums = np.sum(self.dealt(self.held, network, lane), axis=0)
        if self._sharded:
            sums = self._gang.added(sums)
        return np.asarray(sums[:-1] / max(sums[-1], 1e-300))

    def dealt(self, rows: Rows, network: Network, work: Callable[[Iterator[Batch]], Result]) -> list[Result]:
        """What `work` makes of every lane's batches; one lane where rows are read anew."""
        lanes, size = LANES if rows.is_kept else 1, _at_once(network)

        def lane(number: int) -> Result:
            with np.errstate(all="ignore"):  # a thread begins with the default
                return work(rows.dealt(size, number, lanes) if rows.is_kept else rows.batches(size))

        with ThreadPoolExecutor(min(self.plan.run.threads, lanes)) as pool:
            return list(pool.map(lane, range(lanes)))

    def _margins(self, network: Network, batches: list[Batch]) -> np.ndarray:
        """(n, models) margins of a binary classifier."""
        rows = [
            network.outputs_of(batch.take(slice(start, start + AT_ONCE))).copy()
            for batch in batches
            for start in range(0, len(batch), AT_ONCE)
        ]
        return np.concatenate(rows)


def _at_once(network: Network) -> int:
    """Rows of a batch: fewer where a row has very many outputs."""
    return int(max(1, min(AT_ONCE, MOST_OUTPUTS // network.weights.shape[1])))
