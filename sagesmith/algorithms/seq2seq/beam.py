"""beam: the most probable target sentences, many source sentences at a time.

As in Sockeye 1: hypotheses are ranked by their mean negative log probability per token, `</s>` included; a finished one
keeps its score and only emits padding; a sentence is done when all its hypotheses are finished or as long as allowed,
and its answer is the first in rank. Sentences that are done leave the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sagesmith.algorithms.affine import affine
from sagesmith.algorithms.seq2seq.network import Network
from sagesmith.algorithms.seq2seq.sentences import Sentences
from sagesmith.algorithms.seq2seq.vocabulary import BEGIN, END, PAD

BLOCK = 64  # scores in a block, see _best
NEVER = float("inf")


@dataclass(frozen=True)
class Translation:
    """Of one sentence: `ids` without `</s>`, the attention `matrix` (ids, source tokens) if it was asked for, and the
    `score`, the mean negative log probability of a token."""

    ids: list[int]
    matrix: np.ndarray | None
    score: float


def translate(
    network: Network, source: Sentences, limits: np.ndarray, beam: int, batch: int, matrix: bool = False
) -> list[Translation]:
    """The translations of all sentences, none of them empty, in batches of like length.

    Args:
        limits: (n,), the most steps for each sentence.
        beam: hypotheses per sentence.
        batch: sentences per batch.
        matrix: whether attention matrices are wanted.
    """
    found: dict[int, Translation] = {}
    order = np.argsort(source.lengths, kind="stable")
    network.eval()
    with torch.inference_mode():
        for at in range(0, len(order), batch):
            rows = order[at : at + batch]
            search = _Search(network, *source.padded(rows), limits[rows], beam, matrix)
            found |= dict(zip(rows.tolist(), search.run(), strict=True))
    return [found[number] for number in range(len(source))]


class _Search:
    """The hypotheses of a batch of sentences: tensors (b, k, ·), k the beam; rows of `alive` sentences only."""

    def __init__(
        self, network: Network, ids: np.ndarray, lengths: np.ndarray, limits: np.ndarray, beam: int, matrix: bool
    ) -> None:
        encoded = network.encode(ids, lengths)
        device = network.device
        self._network, self._beam, self._lengths = network, beam, lengths
        self._loop: Any = network.decoder.held()
        self._memory = network.decoder.memory(encoded)
        self._state: list[Tensor] = [part.repeat_interleave(beam, 0) for part in network.decoder.start(encoded)]
        self._words = network.output.out_features
        self._weight, self._bias = _in_blocks(network.output)
        self._bias[[PAD, BEGIN]] = -NEVER
        self._alive = np.arange(len(ids))
        self._limits = torch.from_numpy(limits).to(device)
        self._tokens = torch.full((len(ids), beam, 1), BEGIN, device=device)
        # At the start all hypotheses are the same: only the first may go on.
        self._sums = torch.full((len(ids), beam), NEVER, device=device)
        self._sums[:, 0] = 0.0
        self._means = self._sums.clone()
        self._finished = torch.zeros(len(ids), beam, dtype=torch.bool, device=device)
        self._seen: Tensor | None = self._memory.cover.new_zeros(len(ids), beam, 0, ids.shape[1]) if matrix else None
        self._done: dict[int, Translation] = {}

    def run(self) -> list[Translation]:
        step = 0
        while len(self._alive):
            step += 1
            self._advance(step)
            over = self._finished.all(1) | (self._limits <= step)
            if over.any():
                self._retire(over)
        return [self._done[number] for number in range(len(self._lengths))]

    def _advance(self, step: int) -> None:
        """One more token for every hypothesis."""
        rows, beam = len(self._alive), self._beam
        embedded = self._network.embedding(self._tokens[:, :, -1].flatten())
        output, state, weights = self._loop.step(self._loop.projected(embedded), self._state, self._memory)
        costs, words = _best(output, self._weight, self._bias, beam)
        words.clamp_(max=self._words - 1)  # beyond: impossible ones, of endless cost
        width = costs.shape[1]
        costs, words = costs.view(rows, beam, width), words.view(rows, beam, width)
        sums = self._sums[:, :, None] + costs
        means = sums / step
        means[self._finished] = NEVER
        means[:, :, 0] = torch.where(self._finished, self._means, means[:, :, 0])
        words[self._finished] = PAD
        self._means, chosen = means.flatten(1).topk(beam, largest=False)
        parents = chosen // width
        self._sums = sums.flatten(1).gather(1, chosen)
        word = words.flatten(1).gather(1, chosen)
        self._finished = self._finished.gather(1, parents) | (word == END)
        place = (parents + beam * torch.arange(rows, device=parents.device)[:, None]).flatten()
        self._state = [part.index_select(0, place) for part in state]
        history = self._tokens.flatten(0, 1).index_select(0, place).view(rows, beam, -1)
        self._tokens = torch.cat((history, word[:, :, None]), 2)
        if self._seen is not None:
            seen = torch.cat((self._seen, weights.view(rows, beam, 1, -1)), 2).flatten(0, 1)
            self._seen = seen.index_select(0, place).view(rows, beam, -1, seen.shape[2])

    def _retire(self, over: Tensor) -> None:
        """Notes the first hypotheses of sentences that are done, and goes on without them."""
        for row in over.nonzero().flatten().tolist():
            ids: list[int] = self._tokens[row, 0, 1:].tolist()
            ids = [word for word in ids if word not in (END, PAD)]
            number = int(self._alive[row])
            matrix = None
            if self._seen is not None:
                matrix = self._seen[row, 0, : len(ids), : int(self._lengths[number])].cpu().numpy()
            self._done[number] = Translation(ids, matrix, float(self._means[row, 0]))
        kept = (~over).nonzero().flatten()
        self._alive = self._alive[kept.cpu().numpy()]
        rows = (kept[:, None] * self._beam + torch.arange(self._beam, device=kept.device)).flatten()
        self._state = [part.index_select(0, rows) for part in self._state]
        self._memory = self._memory.rows(kept)
        self._limits, self._tokens = self._limits[kept], self._tokens[kept]
        self._sums, self._means, self._finished = self._sums[kept], self._means[kept], self._finished[kept]
        self._seen = None if self._seen is None else self._seen[kept]


def _in_blocks(output: nn.Linear) -> tuple[Tensor, Tensor]:
    """The output layer's weight and a copy of its bias, with impossible words behind up to a whole block."""
    beyond = -len(output.weight) % BLOCK
    weight = F.pad(output.weight, (0, 0, 0, beyond)) if beyond else output.weight
    return weight, F.pad(output.bias, (0, beyond), value=-NEVER)


def _best(states: Tensor, weight: Tensor, bias: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` words of the least negative log probability for every row of states, (n, count), and their ids.

    The best words are in the `count` blocks with the best words: a sweep for the largest of each block, which costs far
    less than sorting, leaves few words to sort.

    Args:
        weight, bias: see _in_blocks.
    """
    scores = affine(states, weight, bias)
    blocks = scores.view(len(states), -1, BLOCK)
    _, block = blocks.amax(2).topk(min(count, blocks.shape[1]), sorted=False)
    places = (block[:, :, None] * BLOCK + torch.arange(BLOCK, device=states.device)).flatten(1)
    found, order = scores.gather(1, places).topk(min(count, places.shape[1]))
    # The first word's probability is exp(score - normaliser)
    torch.softmax(scores, 1, out=scores)
    normaliser = found[:, :1] - scores.amax(1, keepdim=True).log()
    return normaliser - found, places.gather(1, order)


def limits_of(lengths: np.ndarray, buckets: Sequence[tuple[int, int]]) -> np.ndarray:
    """The most steps for source sentences of these lengths: twice the length of their bucket."""
    sizes = np.unique([source for source, _ in buckets])
    return 2 * sizes[np.minimum(np.searchsorted(sizes, lengths), len(sizes) - 1)]
