"""training: passes over the pairs, judged after each, until the loss no longer falls."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sagesmith.algorithms import nets
from sagesmith.algorithms.checkpoints import Checkpoint, Checkpoints, joined
from sagesmith.algorithms.object2vec.batches import Negatives, Part, order_of
from sagesmith.algorithms.object2vec.configuration import is_lazy
from sagesmith.algorithms.object2vec.network import Network
from sagesmith.algorithms.object2vec.pairs import TOGETHER, Pairs
from sagesmith.algorithms.object2vec.rows import LazyRows

KINDS = {"accuracy": "score", "cross_entropy": "loss", "mean_squared_error": "loss"}


class Judged:
    """Sums over pairs, kept on each device until somebody asks: asking every batch would hold a GPU up."""

    def __init__(self) -> None:
        self.pairs = 0
        self._sums: dict[torch.device, tuple[Tensor, Tensor]] = {}  # of losses and of right answers

    def take(self, answers: Tensor, label: Tensor, loss: Tensor) -> None:
        """Adds pairs of which `loss` is the mean loss. No argument has a gradient."""
        sums = self._sums.get(loss.device)
        if sums is None:
            zero = torch.zeros((), dtype=torch.float64, device=loss.device)
            sums = self._sums[loss.device] = (zero, zero.clone())
        sums[0].add_(loss, alpha=len(label))
        if not label.is_floating_point():
            sums[1].add_((answers.argmax(dim=1) == label).sum())
        self.pairs += len(label)

    def measured(self, classifies: bool) -> dict[str, float]:
        """The metrics by their names, the loss last."""
        loss, right = np.sum([[float(one) for one in sums] for sums in self._sums.values()], axis=0).tolist()
        if not classifies:
            return {"mean_squared_error": loss / self.pairs}
        return {"accuracy": right / self.pairs, "cross_entropy": loss / self.pairs}


class Training:
    """One run.

    Args:
        train, validation: pairs cut to the greatest lengths.
    """

    def __init__(
        self, network: Network, settings: Mapping[str, Any], train: Pairs, validation: Pairs | None, team: nets.Team
    ) -> None:
        self._network, self._settings, self._team, self._run = network, settings, team, team.run
        self._train, self._validation = train, validation
        self._classifies = settings["output_layer"] == "softmax"
        self._loss = "cross_entropy" if self._classifies else "mean_squared_error"
        rate, decay = settings["learning_rate"], settings["weight_decay"]
        self._optimizer = nets.optimizer(settings["optimizer"], network, rate, decay)
        self._stepper = nets.Stepper(network, self._optimizer, team)
        lazy = is_lazy(settings)
        tables: Any = [copy.tables for copy in self._stepper.networks]
        self._lazy = LazyRows(settings["optimizer"], tables, rate, decay) if lazy else None
        self._bucket_width = 0 if lazy else settings["bucket_width"]
        self._best = nets.Best()
        self._bad = 0  # epochs in a row that hardly lowered the loss
        self._checkpoints = Checkpoints(self._run, "object2vec", settings, apart=("epochs",))

    def run(self) -> None:
        """Trains until the last epoch, a request to stop, or no improvement; then the network is the best."""
        settings, run = self._settings, self._run
        begin = self._resumed()
        for epoch in range(begin, settings["epochs"]):
            if self._bad >= settings["early_stopping_patience"]:
                break
            started = time.monotonic()
            judged, learnt = self._pass(epoch)
            seconds = max(1e-9, time.monotonic() - started)
            if self._team.stopping and (self._best.number is not None or learnt < len(self._train)):
                break
            self._judge(epoch, judged)
            run.progress(epoch + 1, settings["epochs"], learnt / seconds)
            if self._team.stopping:
                break
        if self._bad >= settings["early_stopping_patience"]:
            run.log("The loss fell by less than %g in %d epochs in a row: training ends",
                    settings["early_stopping_tolerance"], self._bad)  # fmt: skip
        self._best.restore(self._network)
        if self._best.number is not None:
            run.log("Epoch %d was the best: %s %s", self._best.number, self._loss, self._best.value)

    # -- a pass ------------------------------------------------------------------------------------------------
    def _pass(self, epoch: int) -> tuple[Judged, int]:
        """One pass over the training data: the judgement of each batch before its step, and how many pairs were
        learnt, not counting negatives."""
        settings = self._settings
        random = np.random.default_rng([settings["seed"], epoch])
        negatives = None
        if settings["negative_sampling_rate"]:
            negatives = Negatives(settings["negative_sampling_rate"], len(self._train), random)
        judged, learnt = Judged(), 0
        self._network.train()
        for index in order_of(self._train, settings["mini_batch_size"], self._bucket_width, random):
            lessons = [Lesson(part, self._train, self._classifies) for part in self._parts(index, negatives)]
            self._stepper.learn(lambda network, lesson: lesson.loss(network), lessons)
            if self._lazy is not None:
                self._lazy.step([len(lesson.part) for lesson in lessons])
            for lesson in lessons:
                judged.take(*lesson.learnt)
            learnt += len(index)
            if self._team.stopping:
                break
        return judged, learnt

    def _parts(self, index: np.ndarray, negatives: Negatives | None) -> list[Part]:
        """The pairs `index` and their negatives, which are drawn for all of them, in a part for each device."""
        assert self._train.label is not None
        label = self._train.label[index]
        batch = Part(index, index, label) if negatives is None else negatives.batch(index, label)
        if len(self._team.devices) == 1:
            return [batch]
        return [batch.share(rows) for rows, _ in self._team.shared(np.arange(len(index)))]

    # -- judging -----------------------------------------------------------------------------------------------
    def _judge(self, epoch: int, learnt: Judged) -> None:
        values = learnt.measured(self._classifies)
        self._report("train", values, epoch)
        if self._validation is not None:
            values = self.measured(self._validation)
            self._report("validation", values, epoch)
        loss, before = values[self._loss], self._best.value
        if before is not None and not before - loss >= self._settings["early_stopping_tolerance"]:
            self._bad += 1
        else:
            self._bad = 0
        self._best.judge(epoch, loss, self._network)
        self._write(epoch)

    def _report(self, channel: str, values: Mapping[str, float], epoch: int) -> None:
        for name, value in values.items():
            self._run.quality(f"{channel} {name}", value, KINDS[name], epoch)

    def measured(self, pairs: Pairs) -> dict[str, float]:
        """The metrics of labelled pairs, as they are: without negatives."""
        judged = Judged()
        self._network.eval()
        with torch.inference_mode():
            for part in pairs.parts(max(TOGETHER, self._settings["mini_batch_size"])):
                assert part.label is not None
                answers = self._network(*part.sides)
                label = labels_on(answers.device, part.label, self._classifies)
                judged.take(answers, label, mean_loss(answers, label))
        return judged.measured(self._classifies)

    # -- checkpoints -------------------------------------------------------------------------------------------
    def _write(self, epoch: int) -> None:
        if not self._checkpoints.wanted:
            return
        best, facts = self._best.state()
        parts = {
            "network": nets.weights_of(self._network),
            "best": best,
            "optimizer": nets.optimizer_state(self._optimizer),
            "rows": {} if self._lazy is None else self._lazy.state(),
            "random": self._team.random(),
        }
        arrays = joined(parts)
        self._checkpoints.write(epoch + 1, arrays, {"best": facts, "bad": self._bad})

    def _resumed(self) -> int:
        """The first epoch to come: 0, or the one after the newest checkpoint, as if nothing had happened."""
        reached = self._checkpoints.newest()
        if reached is None:
            return 0
        self._take(reached)
        self._run.log("Training goes on after epoch %d", reached.number - 1)
        return reached.number

    def _take(self, reached: Checkpoint) -> None:
        nets.take_weights(self._network, reached.part("network"))
        nets.take_optimizer_state(self._optimizer, reached.part("optimizer"))
        self._stepper.spread()
        if self._lazy is not None:
            self._lazy.take(reached.part("rows"))
        self._best.take(reached.part("best"), reached.facts["best"])
        self._bad = reached.facts["bad"]
        self._team.take_random(reached.part("random"))


class Lesson:
    """A part of a batch and what came of it.

    Args:
        data: of which the part holds numbers.

    Attributes:
        learnt: answers, labels and mean loss, once `loss` was called.
    """

    learnt: tuple[Tensor, Tensor, Tensor]

    def __init__(self, part: Part, data: Pairs, classifies: bool) -> None:
        self.part, self._data, self._classifies = part, data, classifies

    def loss(self, network: Network) -> tuple[Tensor, int]:
        """The mean loss of a network, or of its copy on another device, over the part's pairs, and their number."""
        answers = self._answers(network)
        label = labels_on(answers.device, self.part.label, self._classifies)
        loss = mean_loss(answers, label)
        self.learnt = answers.detach(), label, loss.detach()
        return loss, len(self.part)

    def _answers(self, network: Network) -> Tensor:
        part, (in0, in1) = self.part, self._data.sides
        if part.first is None or part.second is None:
            answers: Tensor = network(in0.rows(part.in0), in1.rows(part.in1))
            return answers
        first, second = network.encode_both(in0.rows(part.in0), in1.rows(part.in1))
        places0, places1 = (torch.from_numpy(places).to(first.device) for places in (part.first, part.second))
        return network.compare(first[places0], second[places1])


def labels_on(device: torch.device, label: np.ndarray, classifies: bool) -> Tensor:
    return torch.from_numpy(label.astype(np.int64 if classifies else np.float32)).to(device)


def mean_loss(answers: Tensor, label: Tensor) -> Tensor:
    """Cross-entropy of logits (n, num_classes) and classes (n,) int64; squared error of (n, 1) and numbers (n,)."""
    if not label.is_floating_point():
        return functional.cross_entropy(answers, label)
    return functional.mse_loss(answers[:, 0], label)
