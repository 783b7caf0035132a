"""Hosts: several of them take one step together: each its own rows, then all the sum of all gradients.

A step of h hosts is the step that one host would take with h times the rows in its mini-batch. Every host holds the
whole model, starts it from the same numbers, and adds the gradients in the order of hosts: the models stay equal to the
last bit, and nothing but gradients of features that occur is ever sent. A host whose rows end sooner sends nothing
until all have come to their end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from sagesmith.algorithms.factorization_machines import descent_compiled as machine
from sagesmith.algorithms.factorization_machines.descent import Descent, empty_gradient
from sagesmith.algorithms.factorization_machines.descent_compiled import Gradient, Rows
from sagesmith.algorithms.run import Run

HEADER = 5 + machine.TALLY  # float64: has rows, was asked to stop, rows, Σ slope, features; losses


class Together:
    """The same steps on every host; `stopping` becomes true on all at the same step."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.stopping = False
        self.rows = 0  # of this host

    def over(self, descent: Descent, blocks: Iterable[Rows]) -> Iterator[np.ndarray]:
        """One pass: after each step a table (1, TALLY) of the losses of all hosts' rows."""
        batches = _batches(blocks, descent.size)
        while True:
            batch = next(batches, None)
            message = self._idle() if batch is None else self._learnt(descent, *batch)
            parts = [_Part(part, descent.model.v.shape[1]) for part in self.run.gather(message)]
            if not any(part.has_rows for part in parts):
                return
            self.stopping = any(part.stopping for part in parts)
            _take(descent, parts)
            yield np.sum([part.tally for part in parts], axis=0)[None, :]
            if self.stopping:
                return

    def _idle(self) -> bytes:
        return np.array([0, self.run.stopping, *[0] * (HEADER - 2)], np.float64).tobytes()

    def _learnt(self, descent: Descent, rows: Rows, start: int, stop: int) -> bytes:
        """This host's gradient over one mini-batch, with what the others must know of it."""
        descent.make_room(rows)
        own, tally = descent.gradients[0], np.zeros(machine.TALLY)
        score = np.empty(len(rows.label), np.float32)
        machine.forward(rows, start, stop, start, descent.model, descent.sums, score)
        bias = machine.slopes(rows, start, stop, descent.binary, score, descent.slope, tally)
        count = machine.backward(rows, start, stop, descent.slope, descent.sums, descent.slots, own, 0, 1)
        descent.slots[own.feature[:count]] = -1
        self.rows += stop - start
        header = np.array([1, self.run.stopping, stop - start, bias, count, *tally], np.float64)
        return b"".join([header.tobytes(), *(part[:count].tobytes() for part in own)])


class _Part:
    """One host's message."""

    def __init__(self, message: bytes, k8: int) -> None:
        header = np.frombuffer(message, np.float64, HEADER)
        self.has_rows, self.stopping = bool(header[0]), bool(header[1])
        self.rows, self.bias, count = int(header[2]), float(header[3]), int(header[4])
        self.tally = header[5:]
        numbers = np.frombuffer(message, np.float32, offset=8 * HEADER + 4 * count)
        self.gradient = Gradient(
            np.frombuffer(message, np.int32, count, 8 * HEADER),
            numbers[: 2 * count].reshape(count, 2),
            numbers[2 * count :].reshape(count, k8),
        )


def _batches(blocks: Iterable[Rows], size: int) -> Iterator[tuple[Rows, int, int]]:
    for rows in blocks:
        for start in range(0, len(rows.label), size):
            yield rows, start, min(len(rows.label), start + size)


def _take(descent: Descent, parts: list[_Part]) -> None:
    """One step by the sum of all gradients."""
    width, k8 = descent.model.v.shape
    whole = empty_gradient(min(width, sum(len(part.gradient.feature) for part in parts)), k8)
    count = 0
    for part in parts:
        count = machine.merge(count, descent.slots, whole, part.gradient)
    rows, bias = sum(part.rows for part in parts), sum(part.bias for part in parts)
    scale, pace = machine.step_bias(bias, rows, descent.model, descent.moments, descent.rates)
    machine.step(count, whole, descent.slots, descent.model, descent.moments, descent.rates, scale, pace)
