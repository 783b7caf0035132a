"""Sampling: collapsed Gibbs sampling from topics that are known well already.

Paper: Griffiths and Steyvers, Finding Scientific Topics, PNAS 101 (2004). Words are drawn in their order by one
thread: parts drawn beside each other, each of which sees only what the others were, end in less coherent topics.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sagesmith.algorithms.lda.mixtures import parts_of, weights_of, widened
from sagesmith.algorithms.lda.spectral import Topics

PIECES = 32  # of a count at most: a larger one is drawn in equal parts of more than one word


class Sampler:
    """Topics of words as they are drawn, and the mean of what was drawn.

    Args:
        counts: (D, V) CSR.
        topics: where drawing begins; alpha is the prior of mixtures.
        smoothing: prior of every word in every topic.
    """

    def __init__(
        self, counts: Any, topics: Topics, smoothing: float, random: np.random.Generator, threads: int = 1
    ) -> None:
        self._documents = parts_of(counts)
        self._number, self._smoothing = len(topics.alpha), smoothing
        self.alpha = topics.alpha.copy()
        total = float(counts.sum(dtype=np.float64))
        self._words = widened((topics.beta * (total * topics.alpha / topics.alpha.sum())[:, None]).T)
        self._sums = self._words.sum(axis=0, dtype=np.float64)
        each = np.clip(np.ceil(self._documents[2]), 1, PIECES).astype(np.int64)
        self._pieces = np.concatenate([[0], np.cumsum(each)])
        self._chosen = np.full(self._pieces[-1], -1, np.int32)
        prior = widened(topics.alpha[None, :])
        # documents begin as their words are told by the topics: alone, a large piece would decide the whole document
        self._mixtures = weights_of(counts, widened(topics.beta.T), prior, threads) - prior
        self._state = random.integers(1, 1 << 63, 1).astype(np.uint64)
        self._drawn = np.zeros_like(self._words)

    def begin(self, documents: int) -> None:
        """The first draws of the first `documents`, by the topics that were given; counts are of them from then on."""
        self._first(0, documents)
        self._words = self._drawn.copy()
        self._sums = self._words.sum(axis=0, dtype=np.float64)

    def mean(self, begin: int, end: int, sweeps: int, passed: int = 0) -> np.ndarray:
        """The mean of the words (V, K8) that topics have in documents `begin` to `end`, over `sweeps` sweeps of them;
        before these, as many as `passed` do not count.
        """
        if self._chosen[self._pieces[self._documents[0][begin]]] < 0:
            self._first(begin, end)
        for _ in range(passed):
            self._draw(begin, end, self._drawn)
        drawn = np.zeros_like(self._words)
        for _ in range(sweeps):
            self._draw(begin, end, drawn)
        return np.asarray(drawn / max(1, sweeps))

    def _first(self, begin: int, end: int) -> None:
        told = self._mixtures[begin:end].copy()
        self._draw(begin, end, self._drawn)
        self._mixtures[begin:end] -= told

    def _draw(self, begin: int, end: int, added: np.ndarray) -> None:
        from sagesmith.algorithms.lda.words_compiled import sample

        sample(
            begin, end, *self._documents, self._pieces, self._words, self._sums, widened(self.alpha[None, :]),
            self._smoothing, self._state, self._chosen, self._mixtures, added,
        )  # fmt: skip

    def mixtures(self, documents: int, step: int) -> np.ndarray:
        """How many words each topic has in every `step`-th of the first `documents`, (n, K)."""
        return np.asarray(self._mixtures[:documents:step, : self._number], np.float64)

    def topics(self, words: np.ndarray) -> Topics:
        """The topics of such a mean."""
        beta = words[:, : self._number].T.astype(np.float64) + self._smoothing
        return Topics(self.alpha, beta / beta.sum(axis=1, keepdims=True))
