"""One step of Newton's method, from where the epochs ended to the optimum that they came near.

The mean of an epoch's weights still lies 1e-7 of the loss above the optimum (2,000,000 rows), where a solver's result
does not. The gradient is that of all training rows; the curvature is that of a sample, for its error counts squared
(Byrd, Chin, Neveitt and Nocedal, On the Use of Stochastic Hessian Information in Optimization Methods for Machine
Learning, SIAM J. Optim. 21, 2011).

Only where it changes no hyperparameter's meaning, is cheap, and the least loss is what is looked for: see `applies`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sagesmith.algorithms.blas import single_threaded
from sagesmith.algorithms.linear_learner import losses
from sagesmith.algorithms.linear_learner.hosts import Gang
from sagesmith.algorithms.linear_learner.judging import Judge
from sagesmith.algorithms.linear_learner.network import Network
from sagesmith.algorithms.linear_learner.optimizers import BIAS_WD_MULT
from sagesmith.algorithms.linear_learner.plan import Plan
from sagesmith.algorithms.linear_learner.rows import Rows
from sagesmith.formats.batch import Batch

OURS = (
    "optimizer", "learning_rate", "beta_1", "beta_2", "bias_lr_mult", "lr_scheduler_step", "lr_scheduler_factor",
    "lr_scheduler_minimum_lr",
)  # fmt: skip
EACH = 1000  # rows to a column: of the data at least, and of the curvature's sample
MOST = 100  # columns with the bias; so many times EACH rows are in the sample
FIRM = 1e-6  # of the mean curvature is added to each: a column that is constant in the sample has none
AT_ONCE = 8192  # rows whose curvature is added up in float32


class Newton:
    """Attribute `applies`: whether there is a step at all, equal on all hosts.

    That is so for squared_loss and logistic, where a loss is also what models are chosen by; where the user has set
    nothing of how the optimum is reached (`OURS`); for dense rows kept in memory, at least 1,000 to a column, since
    with fewer the least training loss is no good guess; and for at most 99 columns, so that the curvature takes no
    longer than an epoch.
    """

    def __init__(self, plan: Plan, rows: Rows, judge: Judge, gang: Gang, held_out: bool) -> None:
        """`held_out`: whether other rows than those that are learnt from judge."""
        self._held_out = held_out
        self._plan, self._rows, self._judge, self._gang = plan, rows, judge, gang
        settings, columns = plan.settings, plan.width + 1
        count = gang.total(rows.count)
        self._share = rows.count / count
        odd = gang.any(rows.is_sparse or not rows.is_kept)
        self.applies = (
            plan.loss.name in losses.CURVED
            and judge.criterion == plan.loss.name
            and settings["use_lr_scheduler"]
            and all(settings[name] == "auto" for name in OURS)
            and not odd
            and columns <= MOST
            and count >= EACH * columns
        )
        self._smooth = np.array([model.l1 == 0 for model in plan.models])

    def parent(self, values: np.ndarray) -> int:
        """The best of the models without L1, whose objective has a curvature everywhere, by their losses; -1: none."""
        order = np.where(self._smooth & np.isfinite(values), values, np.inf)
        best = int(np.argmin(order))
        return best if self.applies and np.isfinite(order[best]) else -1

    def stepped(self, weights: np.ndarray, parent: int) -> tuple[np.ndarray, list[int]]:
        """What a step from the weights (d + 1, 1) of the model `parent` leads to, (d + 1, k), and for which models.

        One for each weight decay among the models without L1: gradients and curvatures differ by that alone.
        """
        plan = self._plan
        up = plan.up[parent : parent + 1]
        slope, total = self._slope(weights, up)
        curvature, sampled = self._curvature(weights, up)
        # A host's sample stands for its rows, however many of them it holds.
        own = np.concatenate([[total], slope, (curvature * (total / max(sampled, 1e-300))).ravel()])
        sums = self._gang.added(own)
        mean = sums[1:] / max(sums[0], 1e-300)
        slope, curvature = mean[: len(slope)], mean[len(slope) :].reshape(curvature.shape)
        curvature += np.eye(len(slope)) * FIRM * np.trace(curvature) / len(slope)
        alike = np.flatnonzero(self._smooth & (plan.up == up))
        models = list({plan.models[model].wd: int(model) for model in alike[::-1]}.values())[::-1]
        return np.hstack([self._solved(weights, slope, curvature, model) for model in models]), models

    def _solved(self, weights: np.ndarray, slope: np.ndarray, curvature: np.ndarray, model: int) -> np.ndarray:
        """Weights (d + 1, 1) at the minimum of mean loss and weight decay, by the means of slopes and curvatures."""
        decay = self._decay(model)
        free = len(slope) if self._plan.settings["use_bias"] else len(slope) - 1
        result = weights[:, 0].astype(np.float64)
        pull = (slope + decay * result)[:free]
        result[:free] -= np.linalg.solve((curvature + np.diag(decay))[:free, :free], pull)
        return result[:, None].astype(np.float32)

    def penalty(self, weights: np.ndarray, model: int) -> float:
        """What weights (d + 1, 1) with the weight decay of a model add to the loss that they are judged by.

        Nothing with held-out rows, which tell by themselves.
        """
        return 0.0 if self._held_out else float(self._decay(model) @ weights[:, 0].astype(np.float64) ** 2 / 2)

    def _decay(self, model: int) -> np.ndarray:
        """The weight decay of every weight, (d + 1,)."""
        mult = self._plan.settings["bias_wd_mult"]
        decay = np.full(self._plan.width + 1, self._plan.models[model].wd)
        decay[-1] *= BIAS_WD_MULT if mult == "auto" else mult
        return decay

    def _slope(self, weights: np.ndarray, up: np.ndarray) -> tuple[np.ndarray, float]:
        """The gradient summed over this host's rows, (d + 1,), and their weight."""
        plan = self._plan

        def lane(batches: Iterator[Batch]) -> np.ndarray:
            own, sums = Network(plan, weights, up), np.zeros(len(weights) + 1)
            for batch in batches:
                label, weight, total = plan.prepared(batch)
                sums[:-1] += own.learnt(batch, label, weight, np.zeros(1))[0][:, 0]
                sums[-1] += total
            return sums

        sums = np.sum(self._judge.dealt(self._rows, Network(plan, weights, up), lane), axis=0)
        return sums[:-1], float(sums[-1])

    def _curvature(self, weights: np.ndarray, up: np.ndarray) -> tuple[np.ndarray, float]:
        """The second derivatives summed over this host's part of the sample, (d + 1, d + 1), and its weight."""
        from sagesmith.algorithms.linear_learner.products_compiled import scaled

        plan, width = self._plan, len(weights)
        sample = self._rows.spread(int(np.ceil(EACH * width * self._share)))
        summed, whole = np.zeros((width, width)), 0.0
        if sample is None:
            return summed, whole
        with single_threaded():
            for start in range(0, len(sample), AT_ONCE):
                batch = sample.take(slice(start, start + AT_ONCE))
                label, weight, total = plan.prepared(batch)
                x = np.empty((len(batch), plan.scaler.frame.shape[1]), np.float32)
                scaled(np.ascontiguousarray(batch.features), plan.scaler.frame, x)
                x = x[:, :width]
                curved = losses.curvature(plan.loss, (x @ weights)[:, 0], label, weight, up[0])
                summed += x.T @ (x * curved[:, None])
                whole += total
        return summed, whole
