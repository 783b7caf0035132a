"""training: passes over the pairs, judged after each, until the loss no longer falls."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sagesmith.algorithms import nets
from sagesmith.algorithms.checkpoints import Checkpoint, Checkpoints, joined
from sagesmith.algorithms.object2vec.batches import Negatives, order_of
from sagesmith.algorithms.object2vec.configuration import is_lazy
from sagesmith.algorithms.object2vec.network import Network
from sagesmith.algorithms.object2vec.pairs import Pairs
from sagesmith.algorithms.object2vec.rows import LazyRows

JUDGED_TOGETHER = 1024  # pairs
KINDS = {"accuracy": "score", "cross_entropy": "loss", "mean_squared_error": "loss"}


@dataclass
class Judged:
    """Summed loss, right answers (classification), and pairs."""

    loss: float = 0.0
    right: int = 0
    pairs: int = 0

    def measured(self, classifies: bool) -> dict[str, float]:
        """The metrics by their names, the loss last."""
        pairs = max(1, self.pairs)
        if not classifies:
            return {"mean_squared_error": self.loss / pairs}
        return {"accuracy": self.right / pairs, "cross_entropy": self.loss / pairs}


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
        tables: Any = network.tables
        self._lazy = LazyRows(settings["optimizer"], list(tables), rate, decay) if lazy else None
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
            judged = self._pass(epoch)
            seconds = max(1e-9, time.monotonic() - started)
            if self._team.stopping and (self._best.number is not None or judged.pairs < len(self._train)):
                break
            self._judge(epoch, judged)
            run.progress(epoch + 1, settings["epochs"], judged.pairs / seconds)
            if self._team.stopping:
                break
        if self._bad >= settings["early_stopping_patience"]:
            run.log("The loss fell by less than %g in %d epochs in a row: training ends",
                    settings["early_stopping_tolerance"], self._bad)  # fmt: skip
        self._best.restore(self._network)
        if self._best.number is not None:
            run.log("Epoch %d was the best: %s %s", self._best.number, self._loss, self._best.value)

    # -- a pass ------------------------------------------------------------------------------------------------
    def _pass(self, epoch: int) -> Judged:
        """One pass over the training data. The judgement is of each batch before its step."""
        settings = self._settings
        random = np.random.default_rng([settings["seed"], epoch])
        negatives = None
        if settings["negative_sampling_rate"]:
            negatives = Negatives(settings["negative_sampling_rate"], len(self._train), random)
        judged = Judged()
        self._network.train()
        for index in order_of(self._train, settings["mini_batch_size"], self._bucket_width, random):
            answers, label = self._answered(index, negatives)
            loss = self._mean_loss(answers, label)
            self._stepper.step(loss, len(label))
            if self._lazy is not None:
                self._lazy.step()
            self._count(judged, answers.detach(), label, float(loss.detach()))
            if self._team.stopping:
                break
        return judged

    def _answered(self, index: np.ndarray, negatives: Negatives | None) -> tuple[Tensor, Tensor]:
        """The network's answers and the labels of a batch and its negatives."""
        network, (in0, in1) = self._network, self._train.sides
        assert self._train.label is not None
        label = self._train.label[index]
        if negatives is None:
            return network(in0.rows(index), in1.rows(index)), self._tensor(label)
        pool = np.concatenate([index, negatives.others(index)])
        first, second, label = negatives.drawn(label, len(pool))
        vectors0, vectors1 = network.encode_both(in0.rows(index), in1.rows(pool))
        places0, places1 = (torch.from_numpy(places).to(network.device) for places in (first, second))
        return network.compare(vectors0[places0], vectors1[places1]), self._tensor(label)

    def _tensor(self, label: np.ndarray) -> Tensor:
        return torch.from_numpy(label.astype(np.int64 if self._classifies else np.float32)).to(self._network.device)

    def _mean_loss(self, answers: Tensor, label: Tensor) -> Tensor:
        if self._classifies:
            return functional.cross_entropy(answers, label)
        return functional.mse_loss(answers[:, 0], label)

    def _count(self, judged: Judged, answers: Tensor, label: Tensor, loss: float) -> None:
        judged.loss += loss * len(label)
        judged.pairs += len(label)
        if self._classifies:
            judged.right += int((answers.argmax(dim=1) == label).sum())

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
            for part in pairs.parts(max(JUDGED_TOGETHER, self._settings["mini_batch_size"])):
                assert part.label is not None
                answers, label = self._network(*part.sides), self._tensor(part.label)
                self._count(judged, answers, label, float(self._mean_loss(answers, label)))
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
        if self._lazy is not None:
            self._lazy.take(reached.part("rows"))
        self._best.take(reached.part("best"), reached.facts["best"])
        self._bad = reached.facts["bad"]
        self._team.take_random(reached.part("random"))
