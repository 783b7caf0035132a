"""training: epochs over the pictures, each judged by its mean average precision, and when to stop."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sagesmith.algorithms import nets
from sagesmith.algorithms.checkpoints import Checkpoint, Checkpoints, joined
from sagesmith.algorithms.images.loader import Batch, Loader
from sagesmith.algorithms.object_detection.losses import loss_of
from sagesmith.algorithms.object_detection.matching import match
from sagesmith.algorithms.object_detection.network import Detector, Frozen
from sagesmith.algorithms.object_detection.precision import mean_average_precision
from sagesmith.algorithms.object_detection.samples import padded
from sagesmith.algorithms.object_detection.suppression import detections

REPORTED = 100  # batches between two lines about speed
UNDECAYED = ("adam", "adadelta")  # optimisers without weight decay, as SageMaker's documents have it


class Training:
    """One run.

    Args:
        train, validation: batches of this host; without validation there is no judging, and the last epoch is kept.
        keep: called with the epoch where its network is the best so far.
    """

    def __init__(
        self,
        network: Detector,
        settings: Mapping[str, Any],
        train: Loader,
        validation: Loader | None,
        team: nets.Team,
        keep: Callable[[], None] = lambda: None,
    ) -> None:
        self._network, self._settings, self._team, self._run = network, settings, team, team.run
        self._train, self._validation, self._keep = train, validation, keep
        self._frozen = Frozen(network, settings["freeze_layer_pattern"])
        if self._frozen.names:
            self._run.log("Layers that are not learnt: %s", ", ".join(self._frozen.names))
        self._optimizer = _optimizer(network, settings)
        self._frozen.train(network)  # before the stepper copies it for further devices
        self._stepper = nets.Stepper(network, self._optimizer, team)
        self._best = nets.Best(better=lambda new, old: new > old or new == 0.0 == old)
        self._patience = Patience(settings)
        self._checkpoints = Checkpoints(self._run, "object-detection", settings, apart=("epochs",))
        self._epoch = 0

    @nets.memory_kept()
    def run(self) -> None:
        """Trains until the last epoch, a request to stop, or no more improvement; the network is then the best."""
        reached = self._checkpoints.newest()
        if reached is not None:
            self._take(reached)
        settings, run = self._settings, self._run
        while self._epoch < settings["epochs"] and not self._patience.exhausted and not self._team.stopping:
            rate = nets.stepped(settings["learning_rate"], settings["lr_scheduler_factor"], self._steps(), self._epoch)
            nets.set_rate(self._optimizer, rate)
            seen = self._pass()
            if seen.stopped:
                break  # part of an epoch is not judged
            self._judge(self._epoch)
            self._epoch += 1
            run.progress(self._epoch, settings["epochs"], seen.pictures / max(1e-9, seen.seconds))
            run.metrics("training", {"update.time": 1000 * seen.seconds}, epoch=self._epoch - 1)
            self._write()
        if self._patience.exhausted:
            run.log("Early stopping: no better validation-mAP for %d epochs", self._patience.bad)
        self._best.restore(self._network)
        if self._validation is not None and self._best.number is not None:
            run.log("Epoch %d was the best: validation-mAP=%s", self._best.number, self._best.value)

    def _steps(self) -> list[int]:
        return lr_steps(self._settings["lr_scheduler_step"])

    # -- an epoch ----------------------------------------------------------------------------------------------
    def _pass(self) -> Seen:
        seen, run = Seen(), self._run
        self._frozen.train(self._network)
        for batch in self._team.rounds(self._train.epoch(self._epoch)):
            if batch is None:
                self._stepper.learn(self._learn, [])
                continue
            parts = self._parts(batch)
            self._stepper.learn(self._learn, parts)
            seen.take(parts, len(batch))
            if seen.batches % REPORTED == 0:
                passed = timedelta(seconds=time.monotonic() - seen.began)
                run.log(
                    "Epoch: %d, batches: %d, num_examples: %d, %.1f samples/sec, epoch time so far: %s",
                    self._epoch, seen.batches, seen.pictures, seen.pictures / passed.total_seconds(), passed,
                )  # fmt: skip
        self._stepper.share_statistics()
        seen.stopped, seen.seconds = self._team.stopping, time.monotonic() - seen.began
        self._tell(seen)
        return seen

    def _parts(self, batch: Batch) -> list[Part]:
        """A batch, shared among the devices of this host."""
        return [Part(batch.images[cut], batch.targets[cut], device) for cut, device in self._team.cuts(len(batch))]

    def _learn(self, network: Detector, part: Part) -> tuple[Tensor, int]:
        wanted, owner = part.matched(network.defaults)  # first: its rounds ask the GPU whether another is needed
        logits, offsets = network(part.images)
        loss = loss_of(logits, offsets, wanted, owner, part.boxes, network.defaults)
        part.sums = torch.stack([loss.classes.detach(), loss.offsets.detach(), loss.counted.float()])
        # The mean is over matched boxes. Asking for their number waits for the GPU: only where somebody shares it.
        alone = self._team.size == 1 and len(self._team.devices) == 1
        return loss.value, 1 if alone else int(loss.matched)

    def _tell(self, seen: Seen) -> None:
        """The losses of an epoch, over all hosts, in SageMaker's form: the value between parentheses."""
        classes, offsets, counted, pictures = self._team.total(*seen.sums(), seen.pictures)
        if not pictures and not seen.stopped:
            raise ValueError("no picture of channel 'train' can be used: all were left out, the log says why")
        expected = math.ceil(self._settings["num_training_samples"] / self._train.batch_size / self._team.size)
        if expected != seen.batches and not seen.stopped:
            self._run.log(
                "Expected number of batches: %d, did not match the number of batches processed: %d. This may happen "
                "when num_training_samples is not the number of pictures, or annotations are invalid: such pictures "
                "are left out",
                expected, seen.batches, level=30,
            )  # fmt: skip
        if not math.isfinite(classes + offsets):
            raise ValueError(
                f"training diverged: the loss of epoch {self._epoch} is {classes + offsets}; "
                "try a smaller learning_rate"
            )
        for name, total in (("cross_entropy", classes), ("smooth_l1", offsets)):
            value = total / max(1.0, counted)
            self._run.metric_line(
                f"#quality_metric: host={self._run.host}, epoch={self._epoch}, batch={seen.batches} train {name} "
                f"<loss>=({value!r})"
            )

    # -- judging -----------------------------------------------------------------------------------------------
    def _judge(self, epoch: int) -> None:
        run = self._run
        if self._validation is None:
            return
        objects, found = judged(self._network, self._validation, self._settings, self._team)
        value = mean_average_precision(objects, found, self._settings["overlap_threshold"])
        run.metric_line(f"#quality_metric: host={run.host}, epoch={epoch}, validation mAP <score>=({value!r})")
        self._patience.take(value, epoch)
        if self._best.judge(epoch, value, self._network):
            run.log("Updating the best model with validation-mAP=%s", value)
            if run.is_master:
                self._keep()

    # -- checkpoints -------------------------------------------------------------------------------------------
    def _write(self) -> None:
        if not self._checkpoints.wanted:
            return
        best, judged_facts = self._best.state()
        parts = {"network": nets.weights_of(self._network), "optimizer": nets.optimizer_state(self._optimizer)}
        if judged_facts["number"] != self._epoch - 1:  # else it is the network
            parts["best"] = best
        facts = {"best": judged_facts, "patience": self._patience.state()}
        self._checkpoints.write(self._epoch, joined(parts), facts)

    def _take(self, reached: Checkpoint) -> None:
        """Goes on from a checkpoint as if nothing had happened."""
        nets.take_weights(self._network, reached.part("network"))
        nets.take_optimizer_state(self._optimizer, reached.part("optimizer"))
        if reached.facts["best"]["number"] is not None:
            self._best.take(reached.part("best") or reached.part("network"), reached.facts["best"])
        self._patience.take_state(reached.facts["patience"])
        self._stepper.spread()
        self._epoch = reached.number
        self._run.log("Training goes on after %d epochs", reached.number)


class Part:
    """The pictures of a batch that one device takes, on it."""

    def __init__(self, images: np.ndarray, objects: Sequence[np.ndarray], device: torch.device) -> None:
        together = padded(objects)
        self.images = torch.from_numpy(images).to(device, non_blocking=True)
        self.boxes = torch.from_numpy(together[:, :, 1:]).to(device)
        self.classes = torch.from_numpy(together[:, :, 0]).to(device)
        self.sums = torch.zeros(3, device=device)

    @torch.no_grad()
    def matched(self, defaults: Tensor) -> tuple[Tensor, Tensor]:
        return match(defaults, self.boxes, self.classes)


class Seen:
    """What a pass has come to so far. Sums stay where they were made until somebody asks."""

    def __init__(self) -> None:
        self.batches, self.pictures, self.stopped = 0, 0, False
        self.began, self.seconds = time.monotonic(), 0.0
        self._sums: dict[torch.device, Tensor] = {}

    def take(self, parts: Sequence[Part], pictures: int) -> None:
        self.batches, self.pictures = self.batches + 1, self.pictures + pictures
        for part in parts:
            before = self._sums.get(part.sums.device)
            self._sums[part.sums.device] = part.sums.double() if before is None else before + part.sums

    def sums(self) -> list[float]:
        """Of cross-entropy and smooth L1, and of the boxes that they are counted over."""
        found = [part.cpu().numpy() for part in self._sums.values()] or [np.zeros(3)]
        return [float(value) for value in np.sum(found, axis=0)]


class Patience:
    """When to stop early: after so many epochs without a gain of the score that counts."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._on, self._least = settings["early_stopping"], settings["early_stopping_min_epochs"]
        self._most, self._tolerance = settings["early_stopping_patience"], settings["early_stopping_tolerance"]
        self._value, self.bad, self._epochs = 0.0, 0, 0

    def take(self, value: float, epoch: int) -> None:
        """The score of an epoch. A gain counts if it is more than `tolerance` of the score that it is a gain over."""
        self._epochs = epoch + 1
        if value > self._value * (1 + self._tolerance):
            self._value, self.bad = value, 0
        else:
            self.bad += 1

    @property
    def exhausted(self) -> bool:
        return bool(self._on and self._epochs >= self._least and self.bad >= self._most)

    def state(self) -> dict[str, Any]:
        return {"value": self._value, "bad": self.bad, "epochs": self._epochs}

    def take_state(self, facts: Mapping[str, Any]) -> None:
        self._value, self.bad, self._epochs = facts["value"], facts["bad"], facts["epochs"]


def lr_steps(text: str) -> list[int]:
    """Epochs of `lr_scheduler_step`, such as "10,20".

    Raises:
        ValueError: something that is no positive whole number.
    """
    return [int(part) for part in text.split(",") if part.strip()]


def _optimizer(network: Detector, settings: Mapping[str, Any]) -> torch.optim.Optimizer:
    name = settings["optimizer"]
    decay = 0.0 if name in UNDECAYED else settings["weight_decay"]
    return nets.optimizer(name, network, settings["learning_rate"], decay, settings["momentum"])


@torch.inference_mode()
def judged(
    network: Detector, loader: Loader, settings: Mapping[str, Any], team: nets.Team
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The objects of all pictures, and what the network finds in them; every host has those of all hosts."""
    network.eval()
    objects: list[np.ndarray] = []
    found: list[np.ndarray] = []
    defaults = network.defaults.cpu().numpy()
    for batch in loader.epoch(0):
        logits, offsets = network(torch.from_numpy(batch.images).to(team.device))
        objects += batch.targets
        found += detections(
            logits, offsets, defaults, settings["nms_threshold"], settings["nms_topk"], team.run.threads
        )
    if team.size == 1:
        return objects, found
    parts = [_unpacked(part) for part in team.run.gather(_packed(objects, found))]
    return [one for part in parts for one in part[0]], [one for part in parts for one in part[1]]


def _packed(objects: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {}
    for name, rows, width in (("objects", objects, 5), ("found", found, 6)):
        arrays[name] = np.concatenate([np.empty((0, width), np.float32), *rows]).astype(np.float32)
        arrays[f"{name}_counts"] = np.array([len(one) for one in rows], np.int64)
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _unpacked(content: bytes) -> tuple[list[np.ndarray], list[np.ndarray]]:
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        lists = [
            np.split(archive[name], np.cumsum(archive[f"{name}_counts"])[:-1]) if len(archive[f"{name}_counts"]) else []
            for name in ("objects", "found")
        ]
    return lists[0], lists[1]
