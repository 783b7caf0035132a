"""training: epochs of random crops, each judged on whole validation pictures; the best mIOU is the model."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sagesmith.algorithms import nets
from sagesmith.algorithms.checkpoints import Checkpoint, Checkpoints, joined
from sagesmith.algorithms.images.loader import Batch, Loader
from sagesmith.algorithms.run import Run
from sagesmith.algorithms.semantic_segmentation.judging import judged
from sagesmith.algorithms.semantic_segmentation.metrics import mean_iou, pixel_accuracy
from sagesmith.algorithms.semantic_segmentation.network import Segmenter
from sagesmith.algorithms.semantic_segmentation.scenes import Scenes
from sagesmith.algorithms.semantic_segmentation.schedules import Patience, Schedule
from sagesmith.algorithms.semantic_segmentation.synchronized import Meeting, synchronize

NOTICED = 20  # iterations between two notices of speed


class Training:
    """One run.

    Args:
        settings: hyperparameters, crop_size a multiple of 8, num_training_samples a number.
        validation: None: every epoch is better than the one before.
    """

    def __init__(
        self, network: Segmenter, settings: Mapping[str, Any], train: Scenes, validation: Scenes | None, team: nets.Team
    ) -> None:
        self._network, self._settings, self._team, self._run = network, settings, team, team.run
        self._train, self._validation = train, validation
        size, side = settings["mini_batch_size"], settings["crop_size"]
        samples = settings["num_training_samples"]
        self._schedule = Schedule(settings, max(1, samples // size))
        self._loader = Loader(
            train.pictures, train.transform(settings["base_size"]), size, (side, side, 3), threads=self._run.threads,
            seed=settings["seed"], shuffle=True, drop_last=(len(train) or samples) >= size,
        )  # fmt: skip
        self._optimizer = optimizer_of(settings, network)
        self._meeting = self._synchronized()
        self._stepper = nets.Stepper(network, self._optimizer, team)
        self._best = nets.Best(better=lambda new, old: new > old)
        names = ("tolerance", "patience", "min_epochs")
        self._patience = Patience(*(settings[f"early_stopping_{name}"] for name in names))
        self._checkpoints = Checkpoints(self._run, "semantic-segmentation", settings, apart=("early_stopping",))
        self._iteration = 0

    @nets.memory_kept()
    def run(self) -> int:
        """Trains until the last epoch, a request to stop, or no improvement; returns how many epochs were done.

        The network then has the weights of the best epoch.
        """
        settings, run = self._settings, self._run
        run.log("LRScheduler setup: iters per epoch: %d, num_epochs %d", self._schedule.per_epoch, settings["epochs"])
        begin, ended = self._resumed()
        done = begin
        for epoch in range(begin, settings["epochs"]):
            if ended:
                break
            if not self._pass(epoch):
                break
            ended = self._judge(epoch)
            done = epoch + 1
            run.progress(done, settings["epochs"])
            if ended:
                run.log("mIOU did not improve in %d epochs: training ends early", self._patience.bad)
            if self._team.stopping:
                break
        self._best.restore(self._network)
        if self._best.number is not None and self._validation is not None:
            run.log("Epoch %d was the best: mIOU %s", self._best.number, self._best.value)
        return done

    def _synchronized(self) -> Meeting | None:
        """Joins the batch normalisation of all GPUs, if it is asked for and there are several."""
        if not self._settings["syncbn"]:
            return None
        if len(self._team.devices) == 1:
            self._run.log("syncbn has no effect: the network trains on one device")
            return None
        return synchronize(self._network)

    # -- an epoch ----------------------------------------------------------------------------------------------
    def _pass(self, epoch: int) -> bool:
        """One pass over the training data; False if it was broken off by a request to stop."""
        run, started, samples, batches = self._run, time.monotonic(), 0, 0
        total = torch.zeros((), device=self._team.device)
        self._network.train()
        torch.backends.cudnn.benchmark = True  # all crops have one size
        speed = _Speed(run, epoch)
        for batch in self._loader.epoch(epoch):
            total += self._step(batch)
            samples, batches = samples + len(batch), batches + 1
            speed.take(len(batch), self._schedule.rate(self._iteration))
            if self._team.stopping:
                break
        if not batches:
            raise ValueError(
                f"the train channel gave no batch of mini_batch_size {self._settings['mini_batch_size']}; "
                f"num_training_samples says that it has {self._settings['num_training_samples']} pictures"
            )
        loss = float(total) / batches
        if not np.isfinite(loss):
            raise ValueError(f"training diverged: the loss of epoch {epoch} is {loss}; try a smaller learning_rate")
        if self._team.stopping:
            return False
        self._stepper.share_statistics()
        self._tell_throughput(epoch, "train", samples, started)
        self._tell(epoch, "train loss", loss)
        self._run.metrics("training", {"training loss": loss, "Number of Records": samples}, epoch=epoch)
        return True

    def _step(self, batch: Batch) -> torch.Tensor:
        nets.set_rate(self._optimizer, self._schedule.rate(self._iteration))
        losses: list[Tensor] = []
        images, labels = torch.from_numpy(batch.images), torch.from_numpy(np.stack(batch.targets))
        parts = [(images[cut], labels[cut], device) for cut, device in self._team.cuts(len(batch))]
        if self._meeting is not None:
            self._meeting.expect(len(parts))

        def loss_of(network: Segmenter, part: tuple[Tensor, Tensor, torch.device]) -> tuple[Tensor, int]:
            pictures, classes, device = part
            try:
                loss = network.loss(pictures.to(device, non_blocking=True), classes.to(device, non_blocking=True))
            except BaseException:
                if self._meeting is not None:
                    self._meeting.give_up()
                raise
            losses.append(loss.detach() * (len(pictures) / len(batch)))
            return loss, len(pictures)

        self._stepper.learn(loss_of, parts)
        self._iteration += 1
        return torch.stack([loss.to(self._team.device) for loss in losses]).sum()

    def _judge(self, epoch: int) -> bool:
        """Measures the network after an epoch and keeps the best; True if training should end."""
        value, ended = float(epoch), False
        if self._validation is not None:
            started = time.monotonic()
            counts, pictures = judged(self._network, self._validation, self._settings, self._team.device, self._run)
            value = mean_iou(counts)
            self._tell_throughput(epoch, "validation", pictures, started)
            self._tell(epoch, "validation mIOU", value)
            self._tell(epoch, "validation pixel_accuracy", pixel_accuracy(counts))
            ended = self._patience.judge(epoch, value) and self._settings["early_stopping"]
        self._best.judge(epoch, value, self._network)
        self._write(epoch, ended)
        return ended

    # -- the log -----------------------------------------------------------------------------------------------
    def _tell(self, epoch: int, name: str, value: float) -> None:
        self._run.metric_line(f"#quality_metric. host: {self._run.host}, epoch: {epoch}, {name}: {value} .")

    def _tell_throughput(self, epoch: int, name: str, samples: int, started: float) -> None:
        rate = samples / max(1e-9, time.monotonic() - started)
        self._run.metric_line(
            f"#throughput_metric. host: {self._run.host}, epoch: {epoch}, {name} throughput: {rate} samples/sec."
        )

    # -- checkpoints -------------------------------------------------------------------------------------------
    def _write(self, epoch: int, ended: bool) -> None:
        if not self._checkpoints.wanted:
            return
        best, facts = self._best.state()
        parts = {
            "network": nets.weights_of(self._network),
            "best": best,
            "optimizer": nets.optimizer_state(self._optimizer),
            "random": self._team.random(),
        }
        arrays = joined(parts)
        reached = {"best": facts, "patience": self._patience.state(), "iteration": self._iteration, "ended": ended}
        self._checkpoints.write(epoch + 1, arrays, reached)

    def _resumed(self) -> tuple[int, bool]:
        """The first epoch to come, and whether training had ended before it."""
        reached = self._checkpoints.newest()
        if reached is None:
            return 0, False
        self._take(reached)
        self._run.log("Training goes on after epoch %d", reached.number - 1)
        return reached.number, bool(reached.facts["ended"] and self._settings["early_stopping"])

    def _take(self, reached: Checkpoint) -> None:
        nets.take_weights(self._network, reached.part("network"))
        nets.take_optimizer_state(self._optimizer, reached.part("optimizer"))
        self._best.take(reached.part("best"), reached.facts["best"])
        self._patience.best, self._patience.bad = (reached.facts["patience"][name] for name in ("best", "bad"))
        self._iteration = reached.facts["iteration"]
        self._team.take_random(reached.part("random"))
        self._stepper.spread()


class _Speed:
    """The notices of speed, every NOTICED iterations."""

    def __init__(self, run: Run, epoch: int) -> None:
        self._run, self._epoch = run, epoch
        self._since, self._samples, self._iterations = time.monotonic(), 0, 0

    def take(self, samples: int, rate: float) -> None:
        self._samples, self._iterations = self._samples + samples, self._iterations + 1
        if self._iterations % NOTICED:
            return
        now = time.monotonic()
        speed = self._samples / max(1e-9, now - self._since)
        self._run.log("#progress_notice. epoch: %d, iterations: %d speed: %s samples/sec learning_rate: %f",
                      self._epoch, self._iterations, speed, rate)  # fmt: skip
        self._since, self._samples = now, 0


def optimizer_of(settings: Mapping[str, Any], network: nn.Module) -> torch.optim.Optimizer:
    """The optimiser: momentum and weight_decay are those of sgd and nag, gamma1 and gamma2 those of rmsprop."""
    name, rate = settings["optimizer"], settings["learning_rate"]
    if name == "rmsprop":
        return torch.optim.RMSprop(network.parameters(), rate, alpha=settings["gamma1"], momentum=settings["gamma2"])
    if name in ("sgd", "nag"):
        return nets.optimizer(name, network, rate, settings["weight_decay"], settings["momentum"])
    return nets.optimizer(name, network, rate)
