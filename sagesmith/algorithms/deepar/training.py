"""Training: Adam on windows drawn anew in each epoch, the step size falling along a cosine, the best epoch kept.

The step size begins at `learning_rate` and ends near 0 with the last epoch (Loshchilov and Hutter, SGDR, ICLR 2017).
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sagesmith.algorithms import nets
from sagesmith.algorithms.checkpoints import Checkpoints, joined
from sagesmith.algorithms.deepar.network import Network
from sagesmith.algorithms.deepar.sampling import Epochs
from sagesmith.algorithms.deepar.threads import COLUMNS
from sagesmith.algorithms.deepar.windows import Cutter

CLIP_NORM = 10.0
REPORTED = 5  # batches from one line of batch metrics to the next
FITTED, PLACES = 512, 16  # windows that the linear part is fitted on, and steps of each
ROUNDS = 8  # of reweighting, from least squares to least absolute errors
LEAST_RATE = 0.01  # of the learning rate, at the end
FORM = 2  # of checkpoints: those of another form, whose arrays have other names, are left aside


@dataclass(frozen=True)
class Part:
    """What one device learns of a batch, on it: windows in the last axis of `inputs` and `truths`, else in the first.

    Attributes:
        observed: how many of the truths (T, B) are not NaN.
        number: of the part in the batch.
        seeds: what a copy of the network draws zoneout from.
    """

    inputs: Tensor
    static: Tensor
    cats: Tensor
    truths: Tensor
    centres: Tensor
    units: Tensor
    observed: int
    number: int
    seeds: Sequence[int]

    def loss(self, network: Network) -> Tensor:
        """The mean over the observed values; 0 if there are none."""
        seen = ~torch.isnan(self.truths)
        filled = torch.where(seen, self.truths, self.centres) - self.centres
        theta = network(self.inputs, self.static, self.cats, self.seeds)
        losses = network.likelihood.loss(theta, filled, self.units)
        return torch.where(seen, losses, 0.0).sum() / max(1, self.observed)


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
        expected = max(float(one) for one in team.run.gather(repr(float(epochs.expected)).encode()))
        self._each = max(1.0, expected / settings["mini_batch_size"])
        patience = settings["early_stopping_patience"]
        self.best = nets.Best(patience if isinstance(patience, int) else None)
        self._checkpoints = Checkpoints(team.run, "deepar", {**settings, "form": FORM})

    @nets.memory_kept()
    def run(self) -> None:
        """All epochs; the network has the best one's weights after it."""
        run, total = self.team.run, self.settings["epochs"]
        self._begin()
        self.team.copied(self.network)
        began = self._resume()
        self._stepper.spread()
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
                self._learn([])
                continue
            parts = self._parts(chosen[part], starts[part])
            losses += self._learn(parts)
            observed += sum(part.observed for part in parts)
            windows += len(chosen[part])
            if number == 0:
                run.log("Epoch[%d] Batch[0] avg_epoch_loss=%f", epoch, losses / max(1, observed))
            if number % REPORTED == 0:
                run.quality("train loss", losses / max(1, observed), epoch=epoch, batch=number)
            if number % REPORTED == 0 and number:
                speed = windows / max(1e-9, time.monotonic() - since)
                run.log(
                    "Epoch[%d] Batch [%d]\tSpeed: %.2f samples/sec\tloss=%f",
                    epoch,
                    number,
                    speed,
                    losses / max(1, observed),
                )
        losses, observed = self.team.total(losses, observed)
        return (losses / observed if observed else None), windows

    def _set_rate(self) -> None:
        """An epoch's steps are about `each`: its windows are drawn."""
        done = min(1.0, self._steps / (self._each * self.settings["epochs"]))
        rate = self.settings["learning_rate"] * (LEAST_RATE + (1 - LEAST_RATE) * 0.5 * (1 + math.cos(math.pi * done)))
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._steps += 1

    def _parts(self, chosen: np.ndarray, starts: np.ndarray) -> list[Part]:
        """A batch's windows for the devices: cut together, so that it does not matter how many of those there are."""
        steps = self.cutter.view.context + self.cutter.view.horizon
        windows = self.cutter.cut(chosen, starts, steps)
        truths = self.cutter.truths(chosen, starts, steps, windows.inputs.shape[2])
        parts: list[Part] = []
        for cut, device in self.team.cuts(truths.shape[1] // COLUMNS):
            own, moved = slice(cut.start * COLUMNS, cut.stop * COLUMNS), partial(_moved, device)
            static, cats = moved(windows.static[own]), moved(windows.cats[own])
            centres, units = moved(windows.centres[own]), moved(windows.units[own])
            inputs, seen, observed = moved(windows.inputs[:, :, own]), truths[:, own], np.isfinite(truths[:, own]).sum()
            given = inputs, static, cats, moved(seen), centres, units
            parts.append(Part(*given, int(observed), len(parts), self.network.seeds()))
        return parts

    def _learn(self, parts: Sequence[Part]) -> float:
        """A step on every host; the sum of the losses over the parts' observed values."""
        losses: dict[int, Tensor] = {}

        def loss_of(network: Network, part: Part) -> tuple[Tensor, int]:
            loss = part.loss(network)
            losses[part.number] = loss.detach()
            return loss, part.observed

        self._stepper.learn(loss_of, parts if any(part.observed for part in parts) else [])
        return sum(float(losses[number]) * parts[number].observed for number in sorted(losses))

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
        """The epoch to begin with: 0, or the one after the newest checkpoint's, as if it had gone on."""
        found = self._checkpoints.newest()
        if found is None:
            return 0
        nets.take_weights(self.network, found.part("weights"))
        nets.take_optimizer_state(self._optimizer, found.part("moments"))
        self.best.take(found.part("best"), found.facts["best"])
        self.team.take_random(found.part("random"))
        self._steps = found.facts["steps"]
        for _ in range(found.number):
            self.epochs.draw(self._random)
        return found.number

    def _keep(self, epoch: int, better: bool) -> None:
        if not self._checkpoints.wanted:
            return
        best, facts = self.best.state()
        parts = {
            "weights": nets.weights_of(self.network),
            "best": best,
            "moments": nets.optimizer_state(self._optimizer),
            "random": self.team.random(),
        }
        self._checkpoints.write(epoch + 1, joined(parts), {"best": facts, "steps": self._steps})
        if better:
            self.team.run.log('Saved checkpoint to "%s"', self.team.run.checkpoints)


def _moved(device: torch.device, array: np.ndarray) -> Tensor:
    return torch.from_numpy(array).contiguous().to(device)


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
