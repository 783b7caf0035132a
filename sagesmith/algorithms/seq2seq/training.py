"""training: passes over the pairs, checkpoints at which the network is judged, and when to stop."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sagesmith.algorithms import nets
from sagesmith.algorithms.checkpoints import Checkpoint, Checkpoints, joined
from sagesmith.algorithms.run import Run
from sagesmith.algorithms.seq2seq.beam import limits_of, translate
from sagesmith.algorithms.seq2seq.bleu import corpus_bleu
from sagesmith.algorithms.seq2seq.buckets import Padded, assigned, batches, shared
from sagesmith.algorithms.seq2seq.cross_entropy import Counted
from sagesmith.algorithms.seq2seq.network import Network
from sagesmith.algorithms.seq2seq.schedules import Schedule
from sagesmith.algorithms.seq2seq.sentences import Pairs

REPORTED = 50  # batches between two lines about speed
# A resumed job may have others of these: they say when it ends.
NOT_COMPARED = ("checkpoint_threshold", "max_num_batches", "max_num_epochs", "min_num_epochs")
KINDS = {"perplexity": "loss", "accuracy": "score", "bleu": "score"}


@dataclass
class Place:
    """How far training has come."""

    epoch: int = 0
    batch: int = 0  # of the epoch
    updates: int = 0
    checkpoints: int = 0
    judged_at: int = 0  # updates at the last checkpoint


@dataclass
class Part:
    """The pairs of a batch that one device learns from, and what was counted."""

    index: np.ndarray
    counted: Counted = field(default_factory=Counted)


class Training:
    """One run.

    Args:
        train, validation: pairs cut to the longest lengths.
        buckets: rising (source, target) lengths.
    """

    def __init__(
        self,
        network: Network,
        settings: Mapping[str, Any],
        train: Pairs,
        validation: Pairs,
        buckets: list[tuple[int, int]],
        team: nets.Team,
    ) -> None:
        self._network, self._settings, self._team, self._run = network, settings, team, team.run
        self._train, self._buckets = train, buckets
        self._assigned = assigned(train, buckets)
        self._validation = validation
        self._sample = _sample(validation, settings["bleu_sample_size"], settings["seed"])
        self._optimizer = nets.optimizer(
            settings["optimizer_type"],
            network,
            settings["learning_rate"],
            settings["weight_decay"],
            settings["momentum"] or 0.0,
        )
        clip = settings["clip_gradient"]
        self._stepper = nets.Stepper(network, self._optimizer, team, clip_value=clip if clip > 0 else None)
        self._schedule = Schedule(settings)
        self._metric = settings["optimized_metric"]
        self._best = nets.Best(settings["checkpoint_threshold"], None if self._metric == "perplexity" else _larger)
        self._checkpoints = Checkpoints(self._run, "seq2seq", settings, NOT_COMPARED)
        self._place, self._counted, self._batches = Place(), Counted(), 0

    def run(self) -> None:
        """Trains until a limit, a request to stop, or checkpoints without improvement; the network is then the best."""
        reached = self._checkpoints.newest()
        if reached is not None:
            self._take(reached)
            self._batches = len(self._order())
        place, started, sentences = self._place, time.monotonic(), 0
        ended = self._limited() or self._exhausted()
        while not ended:
            order = self._order()
            self._batches = len(order)
            speed = _Speed(self._run, self._settings["training_metric"])
            for index in order[place.batch :]:
                sentences += len(index)
                self._step(index, speed)
                ended = self._team.stopping or self._checked() or self._limited()
                if ended:
                    break
            else:
                place.epoch, place.batch = place.epoch + 1, 0
                ended = self._limited()
                self._tell_progress(sentences / (time.monotonic() - started))
        if not self._team.stopping and place.updates > place.judged_at:
            self._judge()
        self._best.restore(self._network)
        if self._best.number is not None:
            self._run.log("Checkpoint [%d] was the best: %s %s", self._best.number, self._metric, self._best.value)
        if not self._team.stopping:
            self._run.progress(1, 1, sentences / max(1e-9, time.monotonic() - started))

    def _order(self) -> list[np.ndarray]:
        """The batches of this epoch, as numbers of pairs."""
        random = np.random.default_rng([self._settings["seed"], self._place.epoch])
        return batches(self._train, self._assigned, self._settings["batch_size"], random)

    def _step(self, index: np.ndarray, speed: _Speed) -> None:
        place, counted = self._place, Counted()
        nets.set_rate(self._optimizer, self._schedule.rate(place.updates))
        self._network.train()
        parts = [Part(each) for each in shared(self._train, index, len(self._team.devices))]
        self._stepper.learn(self._loss_of, parts)
        for part in parts:
            counted += part.counted
        self._counted += counted
        place.updates, place.batch = place.updates + 1, place.batch + 1
        speed.take(place, len(index), counted)

    def _loss_of(self, network: Network, part: Part) -> tuple[Tensor, int]:
        """The mean loss of a part's tokens, padded to the part's own longest sentences, and their number."""
        batch = Padded.of(self._train, part.index)
        loss, part.counted = network(batch, self._settings["training_metric"] == "accuracy")
        return loss, part.counted.tokens

    def _limited(self) -> bool:
        """Whether the most batches or epochs are reached."""
        most, epochs = self._settings["max_num_batches"], self._settings["max_num_epochs"]
        return 0 <= most <= self._place.updates or (epochs is not None and epochs <= self._place.epoch)

    def _tell_progress(self, rate: float) -> None:
        most, epochs = self._settings["max_num_batches"], self._settings["max_num_epochs"]
        done = [(self._place.updates, most)] if most >= 0 else []
        done += [(self._place.epoch, epochs)] if epochs is not None else []
        if done and not self._limited():  # without a limit nobody knows how much is to come
            self._run.progress(*max(done, key=lambda pair: pair[0] / pair[1]), rate)

    def _checked(self) -> bool:
        """Judges the network where a checkpoint is due; True if training has gone on long enough without improving."""
        if self._place.updates % self._settings["checkpoint_frequency_num_batches"]:
            return False
        self._judge()
        return self._exhausted()

    def _exhausted(self) -> bool:
        passed = self._place.epoch + (self._place.batch == self._batches)
        patient = self._settings["max_num_epochs"] is not None or passed < self._settings["min_num_epochs"]
        if patient or not self._best.exhausted:
            return False
        self._run.log("No improvement of %s for %d checkpoints: training ends", self._metric, self._best.bad)
        return True

    # -- checkpoints -------------------------------------------------------------------------------------------
    def _judge(self) -> None:
        place, run = self._place, self._run
        place.checkpoints, place.judged_at = place.checkpoints + 1, place.updates
        for name, value in measured(self._counted, self._settings["training_metric"] == "accuracy").items():
            run.log("Checkpoint [%d] Train-%s=%f", place.checkpoints, name, value)
        self._counted = Counted()
        values = measured(self._teacher_forced(), True)
        if self._sample is not None:
            values["bleu"] = self._bleu(self._sample)
        for name, value in values.items():
            run.log("Checkpoint [%d] Validation-%s=%f", place.checkpoints, name, value)
            run.quality(f"validation {name}", value, KINDS[name], place.epoch)
        improved = self._best.judge(place.checkpoints, values[self._metric], self._network)
        if self._schedule.judged(improved):
            run.log("Learning rate lowered to %g", self._schedule.rate(place.updates))
        self._write()

    def _teacher_forced(self) -> Counted:
        pairs, size = self._validation, self._settings["batch_size"]
        order = np.lexsort((pairs.source.lengths, pairs.target.lengths))
        counted = Counted()
        self._network.eval()
        with torch.inference_mode():
            for at in range(0, len(order), size):
                counted += self._network(Padded.of(pairs, order[at : at + size]), True)[1]
        return counted

    def _bleu(self, sample: Pairs) -> float:
        limits = limits_of(sample.source.lengths, self._buckets)
        settings = self._settings
        said = translate(self._network, sample.source, limits, settings["beam_size"], settings["batch_size"])
        return corpus_bleu([one.ids for one in said], [sample.target[k].tolist() for k in range(len(sample))])

    def _write(self) -> None:
        if not self._checkpoints.wanted:
            return
        best, judged = self._best.state()
        parts = {
            "network": nets.weights_of(self._network),
            "best": best,
            "optimizer": nets.optimizer_state(self._optimizer),
            "random": self._team.random(),
        }
        schedule = {"reductions": self._schedule.reductions, "bad": self._schedule.bad}
        facts = {"place": asdict(self._place), "best": judged, "schedule": schedule}
        self._checkpoints.write(self._place.checkpoints, joined(parts), facts)

    def _take(self, reached: Checkpoint) -> None:
        """Goes on from a checkpoint as if nothing had happened."""
        nets.take_weights(self._network, reached.part("network"))
        nets.take_optimizer_state(self._optimizer, reached.part("optimizer"))
        self._best.take(reached.part("best"), reached.facts["best"])
        self._team.take_random(reached.part("random"))
        self._stepper.spread()
        self._place = Place(**reached.facts["place"])
        schedule = reached.facts["schedule"]
        self._schedule.reductions, self._schedule.bad = schedule["reductions"], schedule["bad"]
        self._run.log("Training goes on after checkpoint [%d]: %d updates", reached.number, self._place.updates)


class _Speed:
    """The lines about speed, in MXNet's form."""

    def __init__(self, run: Run, metric: str) -> None:
        self._run, self._metric = run, metric
        self._since, self._sentences, self._counted = time.monotonic(), 0, Counted()

    def take(self, place: Place, sentences: int, counted: Counted) -> None:
        self._sentences += sentences
        self._counted += counted
        if place.batch % REPORTED:
            return
        now = time.monotonic()
        seconds = max(1e-9, now - self._since)
        value = measured(self._counted, self._metric == "accuracy")[self._metric]
        self._run.log(
            "Epoch[%d] Batch [%d]\tSpeed: %.2f samples/sec\t%.1f target tokens/sec\t%s=%f",
            place.epoch, place.batch, self._sentences / seconds, self._counted.tokens / seconds, self._metric, value,
        )  # fmt: skip
        self._since, self._sentences, self._counted = now, 0, Counted()


def measured(counted: Counted, accuracy: bool) -> dict[str, float]:
    """Perplexity, and accuracy if right guesses were counted, from sums over tokens."""
    tokens = max(1, counted.tokens)
    with np.errstate(over="ignore"):
        values = {"perplexity": float(np.exp(np.float64(counted.loss / tokens)))}
    return values | ({"accuracy": counted.right / tokens} if accuracy else {})


def _larger(new: float, old: float) -> bool:
    return new > old


def _sample(pairs: Pairs, count: int, seed: int) -> Pairs | None:
    """The validation pairs that are translated at every checkpoint; None: none are."""
    if count == 0:
        return None
    if 0 < count < len(pairs):
        index = np.sort(np.random.default_rng([seed, 1 << 32]).choice(len(pairs), count, replace=False))
        return Pairs(pairs.source.rows(index), pairs.target.rows(index))
    return pairs
