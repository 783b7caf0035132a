"""Text classification on a GPU, in plain PyTorch: a line is the mean of its rows, of which a softmax makes labels.

As in supervised_compiled.py, but all lines of a chunk learn at once, as rows_torch.py says. Lines lie on the device.

Imports torch at once: import this module inside the functions that train.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sagesmith.algorithms.blazingtext.rows_torch import Table, ragged, sent
from sagesmith.algorithms.blazingtext.slices import Progress
from sagesmith.algorithms.blazingtext.supervised_compiled import Lines

STEPS = 200  # chunks of an epoch, if they then have neither too few nor too many lines
CHUNKS = (16, 512)  # lines of a chunk


class OnDevice:
    """The tables and the lines on a device, and what is learnt there.

    Args:
        lines: as rows of `inputs`.
        inputs, outputs: tables for the compiled loops; read here and written by `give_back`.
        width: numbers of a vector.
        words: of the text, for the progress.
    """

    def __init__(
        self, lines: Lines, inputs: np.ndarray, outputs: np.ndarray, width: int, words: int, device: torch.device
    ) -> None:
        self._tables, self._words, self._device = (inputs, outputs), words, device
        self._inputs, self._outputs = (Table(table[:, :width], device) for table in (inputs, outputs))
        self._sizes = np.diff(lines.ends)
        self._usable = (self._sizes > 0) & (np.diff(lines.label_ends) > 0)
        self._ends, self._rows = sent(lines.ends, device), sent(lines.rows, device)
        self._label_ends, self._labels = sent(lines.label_ends, device), sent(lines.labels, device)

    def give_back(self) -> bool:
        """Writes what was learnt into the tables; whether it is numbers."""
        return all([self._inputs.give_back(self._tables[0]), self._outputs.give_back(self._tables[1])])

    @torch.no_grad()
    def epoch(self, order: np.ndarray, seed: tuple[int, int], progress: Progress) -> None:
        """Learns from the lines in an order until the job is asked to stop."""
        random = torch.Generator(self._device).manual_seed(hash(seed) & 0x7FFFFFFFFFFFFFFF)
        before = progress.done
        order = order[self._usable[order]]
        lines = sent(order, self._device)
        steps = range(0, len(order), max(CHUNKS[0], min(CHUNKS[1], len(order) // STEPS)))
        for number, first in enumerate(steps):
            if progress.run.stopping:
                return
            rate = progress.rate_at(before + self._words * number // len(steps))
            part = slice(first, first + steps.step)
            self._learn(lines[part], int(self._sizes[order[part]].sum()), rate, random)
            progress.done = before + self._words * (number + 1) // len(steps)
            progress.tell()
        progress.done = before + self._words

    def _learn(self, lines: Tensor, total: int, rate: float, random: torch.Generator) -> None:
        """One step from lines that have `total` rows together."""
        starts = self._ends[lines]
        sizes = self._ends[lines + 1] - starts
        owners, places, begins = ragged(starts, sizes, total)
        rows = self._rows[places].long()
        hidden = torch.nn.functional.embedding_bag(rows, self._inputs.values, begins, mode="mean")
        errors = -torch.softmax(hidden @ self._outputs.values.T, dim=1)
        marked = self._label_ends[lines + 1] - self._label_ends[lines]
        drawn = (torch.rand(len(lines), generator=random, device=self._device) * marked).long().clamp(max=marked - 1)
        labels = self._labels[self._label_ends[lines] + drawn]
        errors[torch.arange(len(lines), device=self._device), labels] += 1
        outputs = self._outputs.values
        shares = 1 / sizes[:, None]
        moves = errors @ outputs * shares
        weights = errors.abs()  # above p (1 - p), and not 0 where a wrong answer is sure
        bends = weights @ (1 + outputs.square().sum(1, keepdim=True)) * shares
        everywhere = torch.arange(len(outputs), device=self._device)
        bent = weights.T @ (1 + hidden.square().sum(1, keepdim=True))
        self._outputs.learn(everywhere, errors.T @ hidden, bent[:, 0], rate)
        self._inputs.learn(rows, moves[owners], bends[owners, 0], rate)
