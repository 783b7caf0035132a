"""Training: Adam on windows drawn anew in each epoch, the step size falling along a cosine, the best epoch kept.

The step size begins at `learning_rate` and ends near 0 with the last epoch (Loshchilov and Hutter, SGDR, ICLR 2017).
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from sagesmith.algorithms import nets
from sagesmith.algorithms.checkpoints import Checkpoints
from sagesmith.algorithms.deepar.network import Network
from sagesmith.algorithms.deepar.sampling import Epochs
from sagesmith.algorithms.deepar.windows import Cutter

CLIP_NORM = 10.0
REPORTED = 5  # batches from one line of batch metrics to the next
FITTED, PLACES = 512, 16  # windows that the linear part is fitted on, and steps of each
ROUNDS = 8  # of reweighting, from least squares to least absolute errors
LEAST_RATE = 0.01  # of the learning rate, at the end


class Training:
    """One network and the windows that it learns from."""

    def __init__(
        self, network: Network, cutter: Cutter, epochs: Epochs, team: nets.Team, settings: Mapping[str, Any]
    ) -> None:
        self.network, self.cutter, self.epochs, self.team, self.settings = network, cutter, epochs, team, settings
        self._random = np.random.default_rng([settings["seed"], team.run.rank])
        self._optimizer = nets.optimizer("adam", network, settings["learning_rate"])
        self._stepper = nets.Stepper(network, self._optimizer, team, clip_norm=CLIP_NORM)
        self._steps = 0
        patience = settings["early_stopping_patience"]
        self.best = nets.Best(patience if isinstance(patience, int) else None)
        self._checkpoints = Checkpoints(team.run, "deepar", settings)

    def run(self) -> None:
        """All epochs; the network has the best one's weights after it."""
        run, total = self.team.run, self.settings["epochs"]
        self._begin()
        self.team.copied(self.network)
        began = self._resume()
        for epoch in range(began, total):
            started = time.monotonic()
            loss, windows = self._epoch(epoch)
            seconds = max(1e-9, time.monotonic() - started)
            if loss is None:  # stopped before a first batch
                break
            run.log("processed a total of %d examples", windows)
            run.metrics("training", {"epochs": total, "update.time": 1000 * seconds}, epoch=epoch)
            run.progress(epoch + 1, total, windows / seconds)
            run.quality("train loss", loss, epoch=epoch)
            better = self.best.judge(epoch, loss, self.network)
            run.log("best epoch loss so far" if better else "loss did not improve")
            self._keep(epoch, better)
            if self.team.stopping or self.best.exhausted:
                break
        self.best.restore(self.network)
        if self.best.value is not None:
            run.log("Final loss: %s (occurred at epoch %d)", self.best.value, self.best.number)
            run.quality("train final_loss", self.best.value)

    def _epoch(self, epoch: int) -> tuple[float | None, int]:
        """The mean loss of an epoch's windows, and how many they were on this host."""
        run, size = self.team.run, self.settings["mini_batch_size"]
        chosen, starts = self.epochs.draw(self._random)
        batches = [slice(at, at + size) for at in range(0, len(chosen), size)]
        losses, observed, windows, since = 0.0, 0.0, 0, time.monotonic()
        for number, part in enumerate(self.team.rounds(batches)):
            self._set_rate()
            if part is None:
                self._stepper.step(None, 0)
                continue
            loss, seen = self._loss(chosen[part], starts[part])
            self._stepper.step(loss if seen else None, seen)
            losses, observed, windows = (
                losses + float(loss.detach()) * seen,
                observed + seen,
                windows + len(chosen[part]),
            )
            if number == 0:
                run.log("Epoch[%d] Batch[0] avg_epoch_loss=%f", epoch, losses / max(1, observed))
            if number % REPORTED == 0:
                run.quality("train loss", losses / max(1, observed), epoch=epoch, batch=number)
            if number % REPORTED == 0 and number:
                speed = windows / max(1e-9, time.monotonic() - since)
                run.log(
                    "Epoch[%d] Batch [%d]\tSpeed: %.2f samples/sec\tloss=%f", epoch, number, speed, losses / observed
                )
        losses, observed = self.team.total(losses, observed)
        return (losses / observed if observed else None), windows

    def _set_rate(self) -> None:
        """Steps are counted by the master's epochs, which differ by little: an epoch's windows are drawn."""
        each = max(1.0, self.epochs.expected / self.settings["mini_batch_size"])
        done = min(1.0, self._steps / (each * self.settings["epochs"]))
        rate = self.settings["learning_rate"] * (LEAST_RATE + (1 - LEAST_RATE) * 0.5 * (1 + math.cos(math.pi * done)))
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._steps += 1

    def _loss(self, chosen: np.ndarray, starts: np.ndarray) -> tuple[torch.Tensor, int]:
        """The mean loss over the observed values of windows, and how many those are."""
        steps, device = self.cutter.view.context + self.cutter.view.horizon, self.team.device
        windows = self.cutter.cut(chosen, starts, steps)
        truths = torch.from_numpy(self.cutter.truths(chosen, starts, steps, windows.inputs.shape[2])).to(device)
        given = [torch.from_numpy(array).to(device) for array in (windows.inputs, windows.static, windows.cats)]
        centres, units = (torch.from_numpy(array).to(device) for array in (windows.centres, windows.units))
        seen = ~torch.isnan(truths)
        filled = torch.where(seen, truths, centres) - centres
        losses = self.network.likelihood.loss(self.network(*given), filled, units)
        count = int(seen.sum())
        return torch.where(seen, losses, 0.0).sum() / max(1, count), count

    # -- the linear part ---------------------------------------------------------------------------------------
    @torch.no_grad()
    def _begin(self) -> None:
        """Sets the linear part to what least absolute errors over some windows say, and the scale to what is left."""
        if not self.network.likelihood.linear or not len(self.epochs.lengths):
            return
        chosen, starts = (array[:FITTED] for array in self.epochs.draw(self._random))
        steps = self.cutter.view.context + self.cutter.view.horizon
        windows = self.cutter.cut(chosen, starts, steps)
        truths = self.cutter.truths(chosen, starts, steps, windows.inputs.shape[2])
        truths = (truths - windows.centres) / windows.units
        every = max(1, steps // PLACES)
        rows = windows.inputs[::every, : self.network.straight].transpose(0, 2, 1).reshape(-1, self.network.straight)
        target = truths[::every].reshape(-1)
        seen = np.isfinite(target)
        if seen.sum() < 4 * self.network.straight:
            return
        weights, constant, error = _fitted(rows[seen].astype(np.float64), target[seen].astype(np.float64))
        self.network.linear.copy_(torch.from_numpy(weights))
        self.network.head.weight.mul_(0.1)
        self.network.head.bias[0] = constant
        if self.network.likelihood.parameters > 1:
            self.network.head.bias[1] = error + math.log(-math.expm1(-error))  # softplus of it is the error

    # -- checkpoints -------------------------------------------------------------------------------------------
    def _resume(self) -> int:
        """The epoch to begin with: 0, or the one after the newest checkpoint's, which every host then has."""
        found = self._checkpoints.newest()
        number = int(self.team.total(float(found.number) if found else 0.0)[0])
        if found:
            parts: dict[str, dict[str, np.ndarray]] = {"weights": {}, "best": {}, "moments": {}}
            for name, array in found.arrays.items():
                kind, _, rest = name.partition("|")
                parts[kind][rest] = array
            nets.take_weights(self.network, parts["weights"])
            nets.take_optimizer_state(self._optimizer, parts["moments"])
            self.best.take(parts["best"], found.facts["best"])
            self._steps = found.facts["steps"]
        if number and self.team.size > 1:
            self._share(found is not None)
        for _ in range(number):  # the same draws as if it had gone on
            self.epochs.draw(self._random)
        return number

    def _share(self, mine: bool) -> None:
        """Brings every host to where the first one's checkpoint is."""
        self.team.copied(self.network)
        facts = [self.best.value or 0.0, float(self.best.number or 0), float(self.best.bad), float(self._steps)]
        value, number, bad, steps = self.team.total(*(facts if mine else [0.0] * 4))
        if not mine:
            self.best.judge(int(number), value, self.network)
            self.best.bad, self._steps = int(bad), int(steps)

    def _keep(self, epoch: int, better: bool) -> None:
        if not self._checkpoints.wanted:
            return
        best, facts = self.best.state()
        arrays = {f"weights|{name}": array for name, array in nets.weights_of(self.network).items()}
        arrays |= {f"best|{name}": array for name, array in best.items()}
        arrays |= {f"moments|{name}": array for name, array in nets.optimizer_state(self._optimizer).items()}
        self._checkpoints.write(epoch + 1, arrays, {"best": facts, "steps": self._steps})
        if better:
            self.team.run.log('Saved checkpoint to "%s"', self.team.run.checkpoints)


def _fitted(rows: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Weights (D,), constant and mean absolute error of a linear fit with the least absolute errors, by reweighting."""
    table = np.column_stack([rows, np.ones(len(rows))])
    ridge = 1e-4 * len(rows) * np.eye(table.shape[1])
    weight = np.ones(len(rows))
    for _ in range(ROUNDS):
        weighted = table * weight[:, None]
        found = np.linalg.solve(weighted.T @ table + ridge * weight.mean(), weighted.T @ target)
        errors = np.abs(target - table @ found)
        error = max(1e-3, float(errors.mean()))
        weight = 1 / np.maximum(errors, 0.1 * error)
    return found[:-1].astype(np.float32), float(found[-1]), error
