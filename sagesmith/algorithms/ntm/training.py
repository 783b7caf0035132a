"""Training NTM: epochs over sparse counts, with SageMaker's lines in the log, patience and checkpoints.

The loss that is reported is a document's, divided by its words (a perplexity is its exponential). The gradient is of
that loss times the mean length of a document: the optimizers' small constants are made for gradients of that size.
Adadelta's, 1e-5, outweighs even these for most words of a large vocabulary, so it gets the sum over a mini-batch
instead of the mean.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sagesmith.algorithms import nets
from sagesmith.algorithms.checkpoints import Checkpoints, joined
from sagesmith.algorithms.counts import lengths
from sagesmith.algorithms.ntm import start
from sagesmith.algorithms.ntm.averaging import Averaged
from sagesmith.algorithms.ntm.network import Documents, Network
from sagesmith.algorithms.ntm.stopping import Patience
from sagesmith.algorithms.run import Run

NETWORK = 2  # a checkpoint of another network, which had other weights, is left aside
NOT_COMPARED = ("epochs", "num_patience_epochs", "tolerance")  # a resumed job may have others: they say when it ends


@dataclass(frozen=True)
class Losses:
    """Means over documents of reconstruction and KL, per word."""

    recons: float
    kld: float
    documents: int
    batches: int

    @property
    def total(self) -> float:
        return self.recons + self.kld

    def report(self, run: Run, kind: str) -> None:
        run.log("Metrics for %s:", kind)
        named = {"total": self.total, "kld": self.kld, "recons": self.recons, "logppx": self.total}
        for name, value in named.items():
            run.log("Loss (name: value) %s: %s", name, value)


@dataclass
class Part:
    """The documents of a mini-batch that one device learns from, and the sums of their losses there: reconstruction
    and KL, (2,)."""

    rows: np.ndarray
    device: torch.device
    losses: Tensor = field(default_factory=lambda: torch.zeros(2))


class Training:
    """One run. `epochs` trains, `score` measures; afterwards `network` has the best weights.

    What steps is `Averaged.moving`; `network` is the mean of its weights.

    Args:
        settings: NTM's, with feature_dim known.
        counts: (D, V) CSR, no row empty; D may be 0 where other hosts have documents.
    """

    def __init__(self, settings: Mapping[str, Any], counts: Any, validation: Any, team: nets.Team) -> None:
        self.settings, self.counts, self.validation, self.team, self.run = settings, counts, validation, team, team.run
        self.size = settings["mini_batch_size"]
        self._least = 2 if settings["batch_norm"] else 1  # documents of a part: one has no variance
        own = counts.shape[0] * np.eye(team.size)[self.run.rank]
        words, *documents = team.total(float(counts.sum(dtype=np.float64)), *own)  # documents of every host
        if not any(documents):
            raise ValueError("channel 'train' holds no words: there is nothing to learn from")
        self._scale = words / sum(documents) * (self.size if settings["optimizer"] == "adadelta" else 1)
        if settings["batch_norm"] and 1 in documents:
            raise ValueError("batch_norm needs at least 2 documents on every host, found 1")
        network = Network(
            counts.shape[1], settings["num_topics"], layers_of(settings), settings["encoder_layers_activation"],
            settings["batch_norm"],
        )  # fmt: skip
        start.begin(network, counts, np.random.default_rng(settings["seed"]))
        begun = next(rank for rank, count in enumerate(documents) if count)
        self._averaged = Averaged(team.copied(network, begun))
        self.network, moving = self._averaged.network, self._averaged.moving
        chosen = nets.optimizer(settings["optimizer"], moving, settings["learning_rate"], settings["weight_decay"])
        clip = settings["clip_gradient"]
        self._stepper = nets.Stepper(
            moving, chosen, team, rescale=settings["rescale_gradient"],
            clip_value=clip if isinstance(clip, float) else None,
        )  # fmt: skip
        self._best = nets.Best()
        self._patience = Patience(settings["num_patience_epochs"], settings["tolerance"])
        self._checkpoints = Checkpoints(self.run, "ntm", {**settings, "network": NETWORK}, NOT_COMPARED)
        self._seen = self._all_batches = 0

    # -- epochs ------------------------------------------------------------------------------------------------
    def epochs(self) -> int:
        """Trains until the epochs are over, patience is, or the job shall stop; returns how many epochs were done."""
        epoch = self._resumed()
        while epoch < self.settings["epochs"] and not self._patience.exhausted:
            epoch += 1
            stopping = self._epoch(epoch)
            if stopping:
                break
        self._best.restore(self.network)
        if self._best.value is not None:
            if self.validation is not None:
                self.run.quality("validation total_loss", self._best.value, "loss", epoch)
            self.run.log("Loss of server-side model: %s", self._best.value)
            self.run.log(
                "Best model based on early stopping at epoch %s. Best loss: %s", self._best.number, self._best.value
            )
        return epoch

    def _epoch(self, epoch: int) -> bool:
        run, began = self.run, time.monotonic()
        run.log("# Starting training for epoch %d", epoch)
        losses = self._pass(epoch)
        trained = time.monotonic()
        run.log(
            "# Finished training epoch %d on %d examples from %d batches, each of size %d.",
            epoch, losses.documents, losses.batches, self.size,
        )  # fmt: skip
        losses = self._agreed(losses)
        losses.report(run, "Training")
        run.quality("train total_loss", losses.total, "loss", epoch)
        judged = losses.total
        if self.validation is not None:
            judged = self.score(self.validation).total
            run.log("#validation_score (%d): %s", epoch, judged)
        self._best.judge(epoch, judged, self.network)
        self._patience.judge(judged, run)
        ended = time.monotonic()
        run.log("Timing: train: %.2fs, val: %.2fs, epoch: %.2fs", trained - began, ended - trained, ended - began)
        self._count(epoch, losses, max(1e-9, trained - began))
        self._keep(epoch)
        return self.team.stopping

    def _pass(self, epoch: int) -> Losses:
        """One epoch over this host's documents, or `sub_sample` of them."""
        random = np.random.default_rng([self.settings["seed"], self.run.rank, epoch])
        self.team.seed(int(random.integers(1 << 62)))
        self._averaged.moving.train()
        sums = torch.zeros(2, dtype=torch.float64, device=self.team.device)
        documents = batches = 0
        for rows in self.team.rounds(self._batches(random)):
            parts = [] if rows is None else [Part(*shared) for shared in self.team.shared(rows, self._least)]
            self._stepper.learn(self._loss_of, parts)
            self._averaged.note()
            for part in parts:
                sums += part.losses.to(sums.device)
                documents += len(part.rows)
            batches += bool(parts)
        self._stepper.share_statistics()
        self._averaged.take_buffers()
        recons_sum, kld_sum = sums.tolist()
        return Losses(recons_sum, kld_sum, documents, batches)

    def _loss_of(self, network: Network, part: Part) -> tuple[Tensor, int]:
        recons, kld = network(Documents.of(self.counts[part.rows], part.device))
        part.losses = torch.stack([recons.detach().sum(), kld.detach().sum()])
        return (recons + kld).mean() * self._scale, len(part.rows)

    def _batches(self, random: np.random.Generator) -> Iterator[np.ndarray]:
        """The rows of each mini-batch. A last one of a single row, which has no variance, goes with the one before."""
        count = self.counts.shape[0]
        if not count:
            return
        drawn = random.permutation(count)[: max(1, round(self.settings["sub_sample"] * count))]
        cuts = list(range(self.size, len(drawn), self.size))
        if self.settings["batch_norm"]:
            if len(drawn) == 1:
                drawn = random.permutation(count)[:2]
            if cuts and len(drawn) - cuts[-1] == 1:
                cuts.pop()
        yield from np.split(drawn, cuts)

    def _agreed(self, sums: Losses) -> Losses:
        """The means over the documents of all hosts, from this host's sums."""
        recons, kld, documents = self.team.total(sums.recons, sums.kld, sums.documents)
        return Losses(recons / max(1, documents), kld / max(1, documents), sums.documents, sums.batches)

    def score(self, counts: Any) -> Losses:
        """The losses of documents (D, V), the network as it stands; z is the mean. Every host must ask."""
        self.network.eval()
        sums = torch.zeros(2, dtype=torch.float64, device=self.team.device)
        batches = 0
        with torch.no_grad():
            for at in range(0, counts.shape[0], self.size):
                recons, kld = self.network(Documents.of(counts[at : at + self.size], self.team.device))
                sums += torch.stack([recons.sum(), kld.sum()])
                batches += 1
        recons_sum, kld_sum = sums.tolist()
        losses = self._agreed(Losses(recons_sum, kld_sum, counts.shape[0], batches))
        self.run.log(
            "Finished scoring on %d examples from %d batches, each of size %d.", counts.shape[0], batches, self.size
        )
        losses.report(self.run, "Inference")
        return losses

    def _count(self, epoch: int, losses: Losses, seconds: float) -> None:
        self._seen += losses.documents
        self._all_batches += losses.batches
        values = {
            "Total Records Seen": self._seen,
            "Total Batches Seen": self._all_batches,
            "Max Records Seen Between Resets": losses.documents,
            "Max Batches Seen Between Resets": losses.batches,
            "Reset Count": epoch,
            "Number of Records Since Last Reset": losses.documents,
            "Number of Batches Since Last Reset": losses.batches,
        }
        self.run.metrics("training", values, epoch=epoch - 1, Meta="training_data_iter")
        self.run.progress(epoch, self.settings["epochs"], losses.documents / seconds)

    # -- checkpoints -------------------------------------------------------------------------------------------
    def _keep(self, epoch: int) -> None:
        if not self._checkpoints.wanted:
            return
        best, judged = self._best.state()
        parts = {
            "now": nets.weights_of(self._averaged.moving),
            "mean": nets.weights_of(self.network),
            "best": best,
            "optimizer": nets.optimizer_state(self._stepper.optimizer),
        }
        facts = {"best": judged, "patience": self._patience.state(), "steps": self._averaged.steps}
        self._checkpoints.write(epoch, joined(parts), facts)

    def _resumed(self) -> int:
        """The epochs that a checkpoint has behind it; 0 without one."""
        found = self._checkpoints.newest()
        if found is None:
            return 0
        nets.take_weights(self._averaged.moving, found.part("now"))
        nets.take_weights(self.network, found.part("mean"))
        self._averaged.steps = found.facts["steps"]
        nets.take_optimizer_state(self._stepper.optimizer, found.part("optimizer"))
        self._best.take(found.part("best"), found.facts["best"])
        self._patience.take(found.facts["patience"])
        self._stepper.spread()
        self.run.log("Resuming after epoch %d", found.number)
        return found.number


def layers_of(settings: Mapping[str, Any]) -> list[int]:
    """Sizes of the encoder's layers; `auto`: three and two for each topic."""
    layers, topics = settings["encoder_layers"], settings["num_topics"]
    return [3 * topics, 2 * topics] if layers == "auto" else list(layers)


def without_empty(counts: Any, name: str, run: Run) -> Any:
    """The documents (D, V) that have a word."""
    there = lengths(counts) > 0
    if there.all():
        return counts
    run.log("Channel '%s': %d of %d documents have no words and are left out", name, (~there).sum(), len(there))
    return counts[there]
