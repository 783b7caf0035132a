"""Training: epochs over a channel, with SageMaker's log lines, alone or together with other hosts."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from sagesmith.algorithms.factorization_machines import descent_compiled as machine
from sagesmith.algorithms.factorization_machines.descent import Descent, predictions
from sagesmith.algorithms.factorization_machines.descent_compiled import Model, Rows
from sagesmith.algorithms.factorization_machines.hosts import Together
from sagesmith.algorithms.factorization_machines.reading import Reader
from sagesmith.algorithms.factorization_machines.scores import trio
from sagesmith.algorithms.first_party import report_scores
from sagesmith.algorithms.run import Run
from sagesmith.formats.channel import Channel

ZERO_ONE = (0.0, 1.0)


class Alone:
    """The steps of a job on one host."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.rows = 0

    @property
    def stopping(self) -> bool:
        return self._run.stopping

    def over(self, descent: Descent, blocks: Iterable[Rows]) -> Iterator[np.ndarray]:
        """One pass, which a request to stop cuts short."""
        for rows in blocks:
            for tallies in descent.over(rows):
                self.rows += int(tallies[:, 0].sum())
                yield tallies
                if self.stopping:
                    return


def train(settings: Mapping[str, Any], channels: Mapping[str, Channel], run: Run) -> Model:
    """A model from `channels["train"]`, judged on `channels["test"]` if there is one.

    Raises:
        ValueError: no rows on any host, or a training that diverged.
        DataError: rows that cannot be trained on.
    """
    epochs = _Epochs(settings, channels["train"], run)
    try:
        model = epochs.run_all()
    finally:
        epochs.close()
    if "test" in channels and not epochs.steps.stopping:
        width, binary = len(model.w), epochs.binary
        report_scores(run, "test", trio(_judged(channels["test"], model, width, binary, run), binary))
    return model


class _Epochs:
    """The passes over the train channel."""

    def __init__(self, settings: Mapping[str, Any], channel: Channel, run: Run) -> None:
        self.settings, self.run = settings, run
        self.binary = settings["predictor_type"] == "binary_classifier"
        width, size = settings["feature_dim"], settings["mini_batch_size"]
        self.reader = Reader(channel, size, width, ZERO_ONE if self.binary else None)
        self.steps: Alone | Together = Alone(run) if len(run.hosts) == 1 else Together(run)
        if width is None and len(run.hosts) > 1:
            raise ValueError("feature_dim must be given where several hosts train: one may have no rows to tell it")
        self.descent = None if width is None else Descent(settings, width, run.threads)

    def run_all(self) -> Model:
        """The model after the last epoch, or the one in which the job was asked to stop."""
        tally = np.zeros(machine.TALLY)
        for epoch in range(self.settings["epochs"]):
            begun = time.monotonic()
            self.steps.rows = 0
            tally = self._one(epoch)
            seconds = max(1e-9, time.monotonic() - begun)
            for name, value, kind in trio(tally, self.binary):
                self.run.quality(f"train {name}", value, kind, epoch)
            seen = {"update.time": 1000 * seconds, "Total Records Seen": float(self.steps.rows)}
            self.run.metrics("training", seen, epoch=epoch)
            self.run.progress(epoch + 1, self.settings["epochs"], self.steps.rows / seconds)
            if self.steps.stopping:
                break
        for name, value, kind in trio(tally, self.binary):
            self.run.quality(f"train {name}", value, kind)
        assert self.descent is not None
        return self.descent.model

    def _one(self, epoch: int) -> np.ndarray:
        """One pass; the losses of its rows, each before the step that it took part in."""
        blocks = self._introduced(self.reader.blocks(), epoch)
        first = next(blocks, None)
        if self.descent is None and first is not None:
            assert self.reader.width is not None
            self.descent = Descent(self.settings, self.reader.width, self.run.threads)
        sofar, batches = np.zeros(machine.TALLY), 0
        if self.descent is not None:
            for tallies in self.steps.over(self.descent, _again(first, blocks)):
                self._report(epoch, batches, sofar + tallies.cumsum(axis=0))
                sofar, batches = sofar + tallies.sum(axis=0), batches + len(tallies)
        if not sofar[0]:
            raise ValueError(f"channel {self.reader.channel.name!r} holds no rows")
        if not np.isfinite(sofar).all():
            raise ValueError(
                f"training diverged in epoch {epoch}: the loss is no finite number any more; smaller learning rates "
                "(bias_lr, linear_lr, factors_lr) or features and labels of a smaller scale are needed"
            )
        return sofar

    def _introduced(self, blocks: Iterator[Rows], epoch: int) -> Iterator[Rows]:
        for number, rows in enumerate(blocks):
            if number == 0 and epoch == 0 and self.reader.sparse:
                self.run.log("[Sparse network] Building a sparse network.")
            yield rows

    def _report(self, epoch: int, first: int, tallies: np.ndarray) -> None:
        """The losses since the epoch began, at every batch_metrics_publish_interval-th mini-batch."""
        interval = self.settings["batch_metrics_publish_interval"]
        for index in range(-first % interval, len(tallies), interval):
            for name, value, kind in trio(tallies[index], self.binary):
                self.run.quality(f"train {name}", value, kind, epoch, first + index)

    def close(self) -> None:
        if self.descent is not None:
            self.descent.close()


def _again(first: Rows | None, rest: Iterator[Rows]) -> Iterator[Rows]:
    if first is not None:
        yield first
    yield from rest


def _judged(channel: Channel, model: Model, width: int, binary: bool, run: Run) -> np.ndarray:
    """The losses on a channel, over the rows of all hosts."""
    tally = np.zeros(machine.TALLY)
    for rows in Reader(channel, 1, width, ZERO_ONE if binary else None).blocks():
        score = predictions(rows, model, run.threads)
        machine.slopes(rows, 0, len(score), binary, score, np.empty(len(score), np.float32), tally)
    tally = np.sum([np.frombuffer(part) for part in run.gather(tally.tobytes())], axis=0)
    if not tally[0]:
        raise ValueError(f"channel {channel.name!r} holds no rows")
    return np.asarray(tally)
