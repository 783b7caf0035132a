"""The epochs: each learnt, judged, told in the log and left as a checkpoint, until enough; then Newton's step."""

from __future__ import annotations

import time

import numpy as np

from sagesmith.algorithms.checkpoints import Checkpoints
from sagesmith.algorithms.linear_learner.blocks import Blocks
from sagesmith.algorithms.linear_learner.judging import Judge
from sagesmith.algorithms.linear_learner.network import Network
from sagesmith.algorithms.linear_learner.newton import Newton
from sagesmith.algorithms.linear_learner.plan import Plan
from sagesmith.algorithms.linear_learner.stopping import EarlyStopping
from sagesmith.formats.errors import DataError

STEPS, WORTH = 3, 1e-6  # Newton's at most; of the loss: where one wins less, the next would win a hundredth of it
APART = ("epochs", "early_stopping_patience")  # may be other when a job goes on: they say when it ends


class Epochs:
    """All epochs of a job, from the beginning or from the newest checkpoint on."""

    def __init__(self, plan: Plan, blocks: Blocks, judge: Judge, newton: Newton) -> None:
        settings = plan.settings
        self._plan, self._blocks, self._judge, self._newton = plan, blocks, judge, newton
        self._stopping = EarlyStopping(settings["early_stopping_patience"], settings["early_stopping_tolerance"])
        self._best, self._chosen = np.empty((0, 0), np.float32), 0
        self._near, self._parent = np.empty((0, 0), np.float32), -1  # from which Newton's step is made; -1: none
        made_by = {**settings, "width": plan.width, "newton": newton.applies}
        self._checkpoints = Checkpoints(plan.run, "linear-learner", made_by, APART)

    def run(self) -> tuple[np.ndarray, int]:
        """The weights of the best model of all epochs, (d + 1, outputs), and its number.

        Raises:
            DataError: no model has a finite loss.
        """
        run, epochs = self._plan.run, self._plan.settings["epochs"]
        for epoch in range(self._resumed(), epochs):
            if self._stopping.over:
                run.log("Early stop condition met. Stopping training.")
                self._steps()
                break
            if self._epoch(epoch):
                break
        else:
            self._steps()
        if not np.isfinite(self._stopping.best):
            raise DataError("no model has a finite loss: try a smaller learning_rate, or normalize_data")
        return self._best, self._chosen

    def _epoch(self, epoch: int) -> bool:
        """One epoch; whether the job is to stop."""
        run, begun = self._plan.run, time.monotonic()
        passed = self._blocks.learn(epoch)
        self._log_objective("train", passed.losses, epoch)
        mean = self._blocks.averaged()
        judged = self._judge.epoch(mean)
        self._log_objective("validation", judged.losses, epoch)
        run.metric_line(
            f"#early_stopping_criteria_metric: host={run.host}, epoch={epoch}, "
            f"criteria={self._judge.criterion}, value={abs(judged.value)}"
        )
        if self._stopping.better(judged.value, float(judged.losses[judged.model])):
            self._best, self._chosen = mean.column(judged.model), judged.model
            self._parent = self._newton.parent(judged.losses)
            self._near = mean.column(self._parent) if self._parent >= 0 else self._near
            run.log("Epoch %d: Loss improved. Updating best model", epoch)
            run.log("Saving model for epoch: %d", epoch)
        else:
            run.log("Epoch %d: Loss has not improved for %d epochs.", epoch, self._stopping.without)
        if not passed.stopping:  # an epoch broken off is made anew
            self._keep(epoch)
        run.progress(epoch + 1, self._plan.settings["epochs"], passed.rows / max(1e-9, time.monotonic() - begun))
        return passed.stopping

    def _steps(self) -> None:
        """Newton's steps: one, and further ones while what the last one won says that more is left."""
        best, won = -self._stopping.best, np.inf
        for _ in range(STEPS if self._parent >= 0 else 0):
            if won > WORTH * abs(best):
                best, won = self._step(best)

    def _step(self, best: float) -> tuple[float, float]:
        """A step, kept where the objective falls below that of the best model, whose loss is `best`.

        Returns:
            The loss of the best model then, and what the objective fell by.
        """
        newton = self._newton
        stepped, models = newton.stepped(self._near, self._parent)
        losses = self._judge.losses(Network(self._plan, stepped))
        at = int(np.argmin(np.where(np.isfinite(losses), losses, np.inf)))
        weights, model = stepped[:, at : at + 1].copy(), models[at]
        after = float(losses[at]) + newton.penalty(weights, model)
        before = best + newton.penalty(self._best, model)
        self._plan.run.log(
            "Newton's step, model %d: objective %.9g after %.9g, %s",
            model, after, before, "kept" if after < before else "not kept",
        )  # fmt: skip
        if not after < before:
            return best, 0.0
        self._best, self._near, self._chosen, self._parent = weights, weights, model, model
        return float(losses[at]), before - after

    def _log_objective(self, channel: str, values: np.ndarray, epoch: int) -> None:
        """Every model's objective in `#metrics` lines; the quality line is model 0's, as in SageMaker's log."""
        run, name = self._plan.run, f"{channel}_{self._plan.loss.objective}"
        for model, value in enumerate(values.tolist()):
            run.metrics("training", {name: value}, epoch=epoch, model=model)
        run.quality(f"{channel} {self._plan.loss.objective}", float(values[0]), epoch=epoch)

    def _keep(self, epoch: int) -> None:
        facts = {"chosen": self._chosen, "parent": self._parent, "stopping": self._stopping.state()}
        self._checkpoints.write(epoch, self._blocks.state() | {"best": self._best, "near": self._near}, facts)

    def _resumed(self) -> int:
        """Takes up the newest checkpoint; the first epoch to make."""
        found = self._checkpoints.newest()
        if found is None:
            return 0
        epoch = found.number
        self._blocks.restore(found.arrays)
        self._stopping.restore(found.facts["stopping"])
        self._best, self._chosen = found.arrays["best"], int(found.facts["chosen"])
        self._near, self._parent = found.arrays["near"], int(found.facts["parent"])
        epochs = self._plan.settings["epochs"]
        self._plan.run.log("Resuming from checkpoint %d: %d epochs remain", epoch, max(0, epochs - epoch - 1))
        return epoch + 1
