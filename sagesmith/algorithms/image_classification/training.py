"""training: passes over the pictures, judged after each; the epoch that judges best is kept."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sagesmith.algorithms import nets
from sagesmith.algorithms.backbones.pixels import standardized
from sagesmith.algorithms.checkpoints import Checkpoint, Checkpoints, joined
from sagesmith.algorithms.image_classification import artifact
from sagesmith.algorithms.image_classification.network import COUNTED, Task, answers, moved
from sagesmith.algorithms.image_classification.settings import WARM_UP, steps_of
from sagesmith.algorithms.images.loader import Batch, Loader
from sagesmith.algorithms.replicas import Precision

REPORTED = 20  # batches between two lines about speed
NOT_COMPARED = (
    "epochs", "checkpoint_frequency", "early_stopping", "early_stopping_min_epochs", "early_stopping_patience",
    "early_stopping_tolerance", "kv_store", "model_prefix",
)  # fmt: skip

Keep = Callable[[int, Mapping[str, np.ndarray], bool], None]  # number of the file, weights, whether the only one


class Training:
    """One run.

    Args:
        keep: called with the weights of each epoch that shall be in the model's archive.
    """

    def __init__(
        self,
        network: Any,
        task: Task,
        settings: Mapping[str, Any],
        train: Loader,
        validation: Loader | None,
        team: nets.Team,
        keep: Keep,
    ) -> None:
        self._network, self._task, self._settings, self._team, self._run = network, task, settings, team, team.run
        self._train, self._validation, self._keep = train, validation, keep
        if team.device.type == "cuda":
            torch.backends.cudnn.benchmark = True  # pictures of one shape: the fastest convolutions are sought once
        constants = {name: settings[name] for name in ("beta_1", "beta_2", "eps", "gamma")}
        decays = settings["optimizer"] in ("sgd", "nag")
        self._optimizer = nets.optimizer(
            settings["optimizer"], network, settings["learning_rate"], settings["weight_decay"] if decays else 0.0,
            settings["momentum"], **constants,
        )  # fmt: skip
        self._precision = Precision(settings["precision_dtype"], team.device, self._run)
        self._stepper = nets.Stepper(network, self._optimizer, team, precision=self._precision)
        self._batches = math.ceil(settings["num_training_samples"] / (settings["mini_batch_size"] * team.size))
        self._best = nets.Best(better=_larger)
        self._reference: float | None = None  # the accuracy that the next must pass by early_stopping_tolerance
        self._bad = self._updates = 0
        self._due: list[int] = []  # numbers of the files that checkpoint_frequency asked for
        self._checkpoints = Checkpoints(self._run, "image-classification", settings, NOT_COMPARED)

    @property
    def best_number(self) -> int:
        """The number of the best epoch's file."""
        return 1 + (self._best.number or 0)

    @nets.memory_kept()
    def run(self) -> None:
        """Trains until the last epoch, a request to stop, or no improvement; then the network is the best."""
        settings, run = self._settings, self._run
        begin = self._resumed()
        for epoch in range(begin, settings["epochs"]):
            if self._exhausted(epoch):
                run.log("Early stopping: no improvement in %d epochs", self._bad)
                break
            started = time.monotonic()
            rows, whole = self._pass(epoch)
            if not whole and self._best.number is not None:
                break
            seconds = max(1e-9, time.monotonic() - started)
            self._judge(epoch, seconds)
            run.progress(epoch + 1, settings["epochs"], rows / seconds)
            if self._team.stopping:
                break
        self._best.restore(self._network)

    def _exhausted(self, epoch: int) -> bool:
        settings = self._settings
        enough = epoch >= settings["early_stopping_min_epochs"] and self._bad >= settings["early_stopping_patience"]
        return bool(settings["early_stopping"]) and enough

    # -- a pass ------------------------------------------------------------------------------------------------
    def _pass(self, epoch: int) -> tuple[int, bool]:
        """One pass over the training pictures: how many of this gang's were learnt, and whether it came to its end."""
        rate = self._rate(epoch)
        warm_up = WARM_UP.get(self._settings["num_layers"], 0)
        whole = Counted(self._team)
        speed = _Speed(self, epoch, whole)
        self._network.train()
        nets.set_rate(self._optimizer, rate)
        with contextlib.closing(self._sized(epoch)) as batches:
            for number, batch in enumerate(self._team.rounds(batches)):
                if self._updates <= warm_up:
                    nets.set_rate(self._optimizer, nets.warmed(rate, warm_up, self._updates))
                found: list[Tensor] = []  # counts of the batch, a part each
                self._stepper.learn(learning(self._task, found), [] if batch is None else self._parts(batch))
                self._updates += 1
                whole.take(found, 0 if batch is None else len(batch))
                speed.note(number)
        self._stepper.share_statistics()
        self._measured, rows = whole.measured(self._settings["top_k"])
        if not rows:
            raise ValueError("channel 'train' holds no pictures")
        return rows, not self._team.stopping

    def _sized(self, epoch: int) -> Generator[Batch, None, None]:
        """The batches of an epoch, as many as num_training_samples makes. A last one of a single picture is left out:
        BatchNorm can make no statistics of it."""
        first = True
        whole: Any = self._train.epoch(epoch)
        with contextlib.closing(whole) as batches:
            for batch in islice(batches, self._batches):
                if first or len(batch) > 1 or self._settings["mini_batch_size"] == 1:
                    yield batch
                first = False

    def _parts(self, batch: Batch) -> list[tuple[Tensor, Tensor]]:
        """Pictures and classes for each device, at least two pictures where there are several devices."""
        targets, images = self._task.targets(batch.targets), torch.from_numpy(batch.images)
        cuts = self._team.cuts(len(batch), least=2)
        return [(moved(images[cut], device), moved(targets[cut], device)) for cut, device in cuts]

    def _rate(self, epoch: int) -> float:
        settings = self._settings
        steps = steps_of(settings["lr_scheduler_step"])
        rate = nets.stepped(settings["learning_rate"], settings["lr_scheduler_factor"], steps, epoch)
        if epoch in steps:
            self._run.log("Update[%d]: Change learning rate to %.5e", self._updates, rate)
        return rate

    # -- judging -----------------------------------------------------------------------------------------------
    def _judge(self, epoch: int, seconds: float) -> None:
        for name, value in self._measured.items():
            self._run.log("Epoch[%d] Train-%s=%f", epoch, name, value)
        self._run.log("Epoch[%d] Time cost=%.3f", epoch, seconds)
        accuracy = float(epoch)  # without validation the last epoch is the best
        if self._validation is not None:
            measured = self.measured(self._validation)
            for name, value in measured.items():
                self._run.log("Epoch[%d] Validation-%s=%f", epoch, name, value)
            accuracy = measured["accuracy"]
            self._note(accuracy)
        self._diverged(epoch)
        improved = self._best.judge(epoch, accuracy, self._network)
        if improved and self._validation is not None:
            self._run.log("Storing the best model with validation accuracy: %f", accuracy)
        self._leave(epoch, improved)
        self._write(epoch)

    def _diverged(self, epoch: int) -> None:
        total = torch.stack([weight.detach().abs().max() for weight in self._network.parameters()]).max()
        if not bool(torch.isfinite(total)):
            raise ValueError(
                f"training diverged: the weights of epoch {epoch} are not finite; try a smaller learning_rate"
            )

    def _note(self, accuracy: float) -> None:
        """Whether the accuracy rose by more than early_stopping_tolerance of what it was."""
        before = self._reference
        if before is None or accuracy > before * (1 + self._settings["early_stopping_tolerance"]):
            self._reference, self._bad = accuracy, 0
        else:
            self._bad += 1

    def _leave(self, epoch: int, improved: bool) -> None:
        """Files for the archive: the best epoch's; with checkpoint_frequency also every so many epochs' ones."""
        frequency = self._settings["checkpoint_frequency"]
        due = frequency is not None and (epoch + 1) % frequency == 0
        if self._run.is_master and (improved or due):
            weights = nets.weights_of(self._network)
            self._keep(epoch + 1, weights, not due)
            if due and self._run.checkpoints is not None:  # the model's folder is lost with a killed job
                artifact.place(self._run.checkpoints, epoch + 1, weights)
        self._due += [epoch + 1] if due else []

    def measured(self, loader: Loader) -> dict[str, float]:
        """Accuracy (and that of the first top_k) of a channel, over all hosts."""
        counted = Counted(self._team)
        self._network.eval()
        with torch.inference_mode(), self._precision():
            for batch in loader.epoch(0):
                targets = moved(self._task.targets(batch.targets), self._team.device)
                logits = answers(self._network, batch.images, self._team.device)
                counted.take([self._task.counted(logits, targets)], len(batch))
        measured, rows = counted.measured(self._settings["top_k"])
        if not rows:
            raise ValueError("channel 'validation' holds no pictures")
        return measured

    # -- checkpoints -------------------------------------------------------------------------------------------
    def _write(self, epoch: int) -> None:
        if not self._checkpoints.wanted:
            return
        best, judged = self._best.state()
        parts = {
            "network": nets.weights_of(self._network),
            "best": best,
            "optimizer": nets.optimizer_state(self._optimizer),
        }
        arrays = joined(parts)
        facts = {"best": judged, "bad": self._bad, "reference": self._reference, "updates": self._updates}
        facts["due"] = self._due
        self._checkpoints.write(epoch + 1, arrays, facts | {"scale": self._precision.scale})

    def _resumed(self) -> int:
        """The first epoch to come: 0, or the one after the newest checkpoint, as if nothing had happened."""
        reached = self._checkpoints.newest()
        if reached is None:
            return 0
        self._take(reached)
        self._run.log("Training goes on after epoch %d", reached.number - 1)
        return reached.number

    def _take(self, reached: Checkpoint) -> None:
        facts = reached.facts
        nets.take_weights(self._network, reached.part("network"))
        nets.take_optimizer_state(self._optimizer, reached.part("optimizer"))
        self._best.take(reached.part("best"), facts["best"])
        self._bad, self._reference, self._updates = facts["bad"], facts["reference"], facts["updates"]
        self._precision.take_scale(facts["scale"])
        self._stepper.spread()
        if not self._run.is_master:
            return
        if self._best.number is not None:
            self._keep(self.best_number, reached.part("best"), True)
        self._keep_again(facts.get("due", []))

    def _keep_again(self, numbers: Sequence[int]) -> None:
        """The files that checkpoint_frequency asked for before the job was killed."""
        assert self._run.checkpoints is not None
        for number in numbers:
            try:
                weights = artifact.read_params(self._run.checkpoints / artifact.params_name(number))
            except ValueError as error:
                self._run.log("The weights of epoch %d are lost: %s", number, error, level=30)
                continue
            self._keep(number, weights, False)
            self._due.append(number)


def learning(task: Task, found: list[Tensor]) -> Callable[[Any, tuple[Tensor, Tensor]], tuple[Tensor, int]]:
    """The loss of a part of a batch, for Stepper.learn; what the network got right is appended to `found`."""

    def loss_of(network: Any, part: tuple[Tensor, Tensor]) -> tuple[Tensor, int]:
        images, targets = part
        logits = network(standardized(images))
        found.append(task.counted(logits.detach(), targets))
        return task.loss(logits, targets), len(targets)

    return loss_of


class Counted:
    """Sums over pictures, kept on the device: asking for them every batch would hold a GPU up."""

    def __init__(self, team: nets.Team) -> None:
        self._team = team
        self._sums = torch.zeros(COUNTED, device=team.device)
        self.rows = 0

    def take(self, found: list[Tensor], rows: int) -> None:
        for one in found:
            self._sums[: len(one)] += one.to(self._team.device)
        self.rows += rows

    def here(self) -> tuple[float, float, int]:
        """Right answers, top_k ones, and pictures of this host."""
        right, among = self._sums.tolist()
        return right, among, self.rows

    def measured(self, top_k: int | None) -> tuple[dict[str, float], int]:
        """Metrics by name over all hosts, and how many pictures there were. All hosts must ask."""
        right, among, rows = self._team.total(*self.here())
        return named(right, among, rows, top_k), int(rows)


def named(right: float, among: float, rows: float, top_k: int | None) -> dict[str, float]:
    """Metrics by MXNet's names."""
    values = {"accuracy": right / max(1.0, rows)}
    return values | ({} if top_k is None else {f"top_k_accuracy_{top_k}": among / max(1.0, rows)})


class _Speed:
    """The lines about speed, in MXNet's form: of this host, since the line before.

    Args:
        counted: of the pass so far.
    """

    def __init__(self, training: Training, epoch: int, counted: Counted) -> None:
        self._training, self._epoch, self._counted = training, epoch, counted
        self._since, self._before = time.monotonic(), (0.0, 0.0, 0)

    def note(self, number: int) -> None:
        """Called after each batch, by its number in the pass."""
        if number == 0 or number % REPORTED:
            return
        reached, now = self._counted.here(), time.monotonic()
        right, among, rows = (new - old for new, old in zip(reached, self._before, strict=True))
        values = named(right, among, rows, self._training._settings["top_k"])
        metrics = "".join(f"\t{name}={value:f}" for name, value in values.items())
        speed = rows / max(1e-9, now - self._since)
        self._training._run.log("Epoch[%d] Batch [%d]\tSpeed: %.3f samples/sec%s", self._epoch, number, speed, metrics)
        self._since, self._before = now, reached


def _larger(new: float, old: float) -> bool:
    return new > old
