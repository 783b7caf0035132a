"""word2vec on a GPU, in plain PyTorch: skipgram and cbow, with or without n-grams of characters.

The text goes to the device in lots and is thinned out there. A step takes a chunk of it, in blocks of as many words as
two windows hold: a block's scores of each word with each word near it, and with its noise, are two matrix products,
and a mask says which pairs are within a window. Noise is shared by the words of a block (Ji et al., arXiv 1604.04661,
share it by the words of a window), as many words of it as they would draw alone. All steps of a chunk are taken at
once, as rows_torch.py says. Sums are in the order of the GPU's threads: the same seed gives vectors that differ in the
last digits, and then more.

Imports torch at once: import this module inside the functions that train.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sagesmith.algorithms.blazingtext.chance_compiled import LOW
from sagesmith.algorithms.blazingtext.rows_torch import Table, ragged, sent
from sagesmith.algorithms.blazingtext.word2vec_compiled import HALF, LINE, Plan

LOT = 1 << 22  # words that are on the device at once
BLOCK = 16  # words that share noise, at least
STEPS = 1000  # chunks of an epoch, if they are then neither too short for the device nor too long for frequent words
CHUNKS = (1024, 16384)  # words of a chunk
ROOM = 1 << 25  # numbers of a chunk's noise, at most, if the chunk is then not too short


class Chunk(NamedTuple):
    """Words that are learnt from together, in n blocks of T words, each with the S = T + 2 * window words around."""

    around: Tensor  # (n * T + 2 * window,) words: all of them, in the order of the text
    centres: Tensor  # (n, T) words
    near: Tensor  # (n, T, S) float32: 1 where a word is in the window of another
    noise: Tensor  # (n, T * negatives) words


class OnDevice:
    """The tables on a device, and what is learnt there.

    Args:
        plan: as for the compiled loops; its tables are read here and written by `give_back`.
        mode: `skipgram` or `cbow`.
        width: numbers of a vector.
    """

    def __init__(self, plan: Plan, mode: str, width: int, seed: int, device: torch.device) -> None:
        self._plan, self._seed, self._device = plan, seed, device
        self.tables = tuple(Table(table[:, :width], device) for table in (plan.inputs, plan.outputs))
        self._inputs, self._outputs = self.tables
        self._keep = sent((plan.keep / 2.0**32).astype(np.float32), device)
        self._chance = sent(((plan.noise >> HALF) / 2.0**32).astype(np.float32), device)
        self._other = sent((plan.noise & LOW).astype(np.int64), device)
        self._starts, self._rows = sent(plan.starts, device), sent(plan.rows, device)
        self._grams = len(plan.rows) > len(plan.outputs)
        self._teach = self._cbow if mode == "cbow" else self._skipgram
        self._block = max(BLOCK, 2 * plan.window)
        spots = torch.arange(self._block + 2 * plan.window, device=device) - plan.window
        self._apart = (spots[None, :] - torch.arange(self._block, device=device)[:, None]).abs()

    def give_back(self) -> bool:
        """Writes what was learnt into the plan's tables; whether it is numbers."""
        return all([self._inputs.give_back(self._plan.inputs), self._outputs.give_back(self._plan.outputs)])

    def steps(self, words: np.ndarray, stream: int, size: int, rate_at: Callable[[int], float]) -> Iterator[int]:
        """Learns from words, LINE between lines, a chunk after the other; yields how many of the words are done.

        Args:
            stream: a number of these words' own, for the random numbers.
            size: words of a chunk, as `size_of` gives it.
            rate_at: the rate once so many of the words are done.
        """
        for lot, begin in enumerate(range(0, len(words), LOT)):
            part = words[begin : begin + LOT]
            random = torch.Generator(self._device).manual_seed(hash((self._seed, stream, lot)) & 0x7FFFFFFFFFFFFFFF)
            kept, lines, reach = self._kept(part, random)
            chunks = range(0, len(reach), size)
            for number, first in enumerate(chunks):
                rate = rate_at(begin + len(part) * number // len(chunks))
                self._teach(self._chunk(kept, lines, reach, first, size, random), rate)
                yield begin + len(part) * (number + 1) // len(chunks)
            yield begin + len(part)  # none of them may have stayed

    def size_of(self, words: int) -> int:
        """The words of a chunk, whole blocks, of a text of so many words."""
        most = min(CHUNKS[1], ROOM // (self._plan.negatives * self._inputs.values.shape[1]))
        return -(-max(CHUNKS[0], min(most, words // STEPS)) // self._block) * self._block

    def _kept(self, part: np.ndarray, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Words that stay, the line of each, with room for a window at both ends; and how far each word's window is."""
        words = sent(part, self._device).long()
        lines = (words == LINE).cumsum(0)
        chance = torch.rand(len(words), generator=random, device=self._device)
        stay = (words != LINE) & (chance < self._keep[words.clamp(min=0)])
        words, lines = words[stay], lines[stay]
        rest, window = -len(words) % self._block, self._plan.window
        reach = torch.randint(1, window + 1, (len(words),), generator=random, device=self._device)
        words = torch.nn.functional.pad(words, (window, window + rest))
        lines = torch.nn.functional.pad(lines, (window, window + rest), value=-1)
        return words, lines, torch.nn.functional.pad(reach, (0, rest))

    def _chunk(
        self, words: Tensor, lines: Tensor, reach: Tensor, first: int, size: int, random: torch.Generator
    ) -> Chunk:
        size, window, block = min(size, len(reach) - first), self._plan.window, self._block
        around = words[first : first + size + 2 * window]
        own = lines[first + window : first + window + size].view(-1, block, 1)
        beside = lines[first : first + size + 2 * window].unfold(0, block + 2 * window, block)[:, None, :]
        far = reach[first : first + size].view(-1, block, 1)
        near = (self._apart <= far) & (self._apart > 0) & (own == beside)
        shape = (size // block, block * self._plan.negatives)
        noise = torch.randint(0, len(self._outputs.values), shape, generator=random, device=self._device)
        other = torch.rand(shape, generator=random, device=self._device) >= self._chance[noise]
        noise = torch.where(other, self._other[noise], noise)
        return Chunk(around, around[window : window + size].view(-1, block), near.float(), noise)

    # -- what a chunk teaches ------------------------------------------------------------------------------------
    def _skipgram(self, chunk: Chunk, rate: float) -> None:
        """The words of a window foretell the word in its midst; with n-grams, it foretells them, as in fastText."""
        if self._grams:
            own = chunk.centres.flatten()
            sums, rows, owners, sizes = self._sums(own)
            x = (sums / sizes[:, None]).view(*chunk.centres.shape, -1)
            targets = self._unfolded(chunk.around)
            moves, bends = self._answered(x, targets, chunk.near, chunk.noise, rate)
            self._inputs.learn(rows, moves.flatten(0, 1)[owners], bends.flatten()[owners], rate)
            return
        x = self._unfolded(self._inputs.values[chunk.around])
        moves, bends = self._answered(x, chunk.centres, chunk.near.mT, chunk.noise, rate)
        self._inputs.learn(chunk.around, self._folded(moves), self._folded(bends), rate)

    def _cbow(self, chunk: Chunk, rate: float) -> None:
        """The mean of a window, of all its rows, foretells the word in its midst."""
        if self._grams:
            sums, rows, owners, sizes = self._sums(chunk.around)
            count = chunk.near @ self._unfolded(sizes)[:, :, None]
        else:
            sums = self._inputs.values[chunk.around]
            count = chunk.near.sum(2, keepdim=True)
        x = chunk.near @ self._unfolded(sums) / count.clamp(min=1)
        pairs = torch.diag_embed((count[:, :, 0] > 0).float())
        moves, bends = self._answered(x, chunk.centres, pairs, chunk.noise, rate)
        moves = self._folded(chunk.near.mT @ moves)
        bends = self._folded((chunk.near.mT @ bends[:, :, None])[:, :, 0])
        if self._grams:
            self._inputs.learn(rows, moves[owners], bends[owners], rate)
        else:
            self._inputs.learn(chunk.around, moves, bends, rate)

    def _answered(self, x: Tensor, targets: Tensor, pairs: Tensor, noise: Tensor, rate: float) -> tuple[Tensor, Tensor]:
        """What vectors learn from their targets and from noise, and how curved their loss is; the outputs learn too.

        Args:
            x: (n, S, width).
            targets: (n, T) words.
            pairs: (n, S, T), 1 where a vector foretells a target.
            noise: (n, N) words.
        """
        share = self._plan.negatives / noise.shape[1]
        y, z = self._outputs.values[targets], self._outputs.values[noise]
        found = torch.sigmoid(x @ y.mT)
        twice = (targets[:, :, None] == noise[:, None, :]).sum(2) * share  # noise is never the word itself
        up = pairs * (1 - found + twice[:, None, :] * found)
        count = pairs.sum(2, keepdim=True) * share
        down = torch.sigmoid(x @ z.mT) * count
        of_x, of_y, of_z = (1 + vectors.square().sum(2, keepdim=True) for vectors in (x, y, z))
        learnt = up @ y - down @ z, (pairs @ of_y + count * of_z.sum(1, keepdim=True))[:, :, 0]
        moves = torch.cat([(up.mT @ x).flatten(0, 1), -(down.mT @ x).flatten(0, 1)])
        bends = torch.cat([(pairs.mT @ of_x).flatten(), (count * of_x).sum(1).expand(noise.shape).flatten()])
        self._outputs.learn(torch.cat([targets.flatten(), noise.flatten()]), moves, bends, rate)
        return learnt

    # -- blocks and n-grams --------------------------------------------------------------------------------------
    def _unfolded(self, values: Tensor) -> Tensor:
        """Of each block the values around it: (n * T + 2 * window, ...) → (n, S, ...)."""
        found = values.unfold(0, self._block + 2 * self._plan.window, self._block)
        return found if values.ndim == 1 else found.mT

    def _folded(self, values: Tensor) -> Tensor:
        """The reverse: what blocks have for the same place of the text is added up."""
        blocks, edge = len(values), 2 * self._plan.window
        whole = values.new_zeros((blocks + 1, self._block, *values.shape[2:]))
        whole[:-1] += values[:, : self._block]
        whole[1:, :edge] += values[:, self._block :]
        return whole.flatten(0, 1)[: blocks * self._block + edge]

    def _sums(self, words: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The sums of words' rows, (n, width); the rows; which of the words each belongs to; how many each word has."""
        sizes = self._starts[words + 1] - self._starts[words]
        owners, places, begins = ragged(self._starts[words], sizes)
        rows = self._rows[places]
        sums = torch.nn.functional.embedding_bag(rows, self._inputs.values, begins, mode="sum")
        return sums, rows, owners, sizes.float()
