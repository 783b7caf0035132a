"""Descent: turns of collapsed variational Bayes over documents, group by group.

Papers: Asuncion et al., On Smoothing and Inference for Topic Models, UAI 2009 (CVB0); Neal and Hinton, A View of the EM
Algorithm That Justifies Incremental, Sparse, and Other Variants, 1998 (a group of documents takes back what it said
before when it speaks again, and the next group sees it at once); Minka, Estimating a Dirichlet Distribution, 2000 (the
fixed point for alpha).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sagesmith.algorithms.lda.mixtures import parts_of, widened
from sagesmith.algorithms.lda.spectral import Topics
from sagesmith.algorithms.lda.threads import Crew, even

PRIOR = 0.01  # of every word in every topic
GROUPS = 8  # that see each other's words within one turn; fewer where their counts could take more than KEPT
KEPT = 256 << 20  # bytes of what groups and their shares have said
SHARES = 4  # of a group at most, each with its own sums: as many threads can work, and their number changes nothing
ROUNDS, FIRST_ROUNDS = 2, 5  # over a document's words in a turn; in the first turn mixtures are not known yet
ALONE = 1 << 20  # numbers that one thread sums up sooner than several
LOOKED_AT = 1000  # documents from which alpha is worked out
THIN = 0.5  # of alpha, what words are given to topics with: CVB0 spreads them, and so finds too large an alpha
SMALLEST = 1e-3  # of alpha's entries


@dataclass
class _Group:
    """Some documents, and what they said when they last spoke: how many of their terms' words each topic has.

    Only the terms that they have are kept, (U,) of them.
    """

    shares: list[tuple[int, int]]  # ranges of documents
    terms: np.ndarray  # (U,), which
    places: np.ndarray  # of each of their counts among these
    said: np.ndarray  # (U, K8) float32
    spoken: bool = False


class Descent:
    """CVB0 over the first `documents` of counts (D, V)."""

    def __init__(self, counts: Any, documents: int, topics: Topics, crew: Crew) -> None:
        self._starts, self._terms, self._data = parts_of(counts)
        self._number, self._crew = len(topics.alpha), crew
        self._alpha = topics.alpha.copy()
        total = float(self._data.sum())
        self._words = widened((topics.beta * (total * topics.alpha / topics.alpha.sum())[:, None]).T)
        self._words[:, : self._number] += PRIOR
        # as if each document had spoken ten times its prior: the first turn takes that back
        self._mixtures = np.repeat(widened(10 * self._prior[None, :]), counts.shape[0], axis=0)
        self._sums = np.zeros(self._words.shape)
        self.documents = documents
        room = KEPT // self._words.nbytes
        self._shares = max(1, min(SHARES, room // 2))
        groups = max(1, min(GROUPS, documents, room - self._shares))
        self._groups = [self._group(*cut) for cut in self._cut(0, documents, groups)]
        self._saying = self._silence()

    @property
    def _prior(self) -> np.ndarray:
        return THIN * self._alpha

    def _cut(self, begin: int, end: int, parts: int) -> list[tuple[int, int]]:
        return [(begin + a, begin + b) for a, b in even(self._starts[begin : end + 1], parts)]

    def _group(self, begin: int, end: int) -> _Group:
        terms = self._terms[self._starts[begin] : self._starts[end]]
        there = np.zeros(len(self._words), bool)
        there[terms] = True
        kinds = np.flatnonzero(there)
        places = np.empty(len(there), np.int32)
        places[kinds] = np.arange(len(kinds), dtype=np.int32)
        silence = np.zeros((len(kinds), self._words.shape[1]), np.float32)
        return _Group(self._cut(begin, end, self._shares), kinds.astype(np.int32), places[terms], silence)

    def _silence(self) -> np.ndarray:
        """Zeros for the shares of the group with the most terms."""
        most = max(len(group.terms) for group in self._groups)
        return np.zeros((self._shares * most, self._words.shape[1]), np.float32)

    def turn(self) -> None:
        """All documents once, group by group."""
        first = not any(group.spoken for group in self._groups)
        for group in self._groups:
            self._speak(group, told=not first)
        if first:
            np.maximum(self._sums, 0, out=self._words, casting="same_kind")
            self._words[:, : self._number] += PRIOR
        self._learn_alpha()

    def _speak(self, group: _Group, told: bool) -> None:
        """Takes a group's words from topics and gives them anew; `told`: others see it at once."""
        from sagesmith.algorithms.lda.words_compiled import collapse, column_sums, settle

        shares, prior = np.zeros((1, self._words.shape[1]), np.float32), widened(self._prior[None, :])
        shares[0, : self._number] = 1 / column_sums(self._words)[: self._number]
        rounds = ROUNDS if group.spoken else FIRST_ROUNDS
        documents = self._starts, self._terms, self._data, group.places
        kinds = len(group.terms)
        saying = self._saying[: self._shares * kinds]
        parts = min(self._shares, 1 + saying.size // ALONE)
        cuts = [part * kinds // parts for part in range(parts + 1)]

        def give(part: int) -> None:
            collapse(*group.shares[part], group.shares[0][0], *documents, self._words, shares, prior, rounds,
                     self._mixtures, saying[part * kinds : (part + 1) * kinds])  # fmt: skip

        def sum_up(part: int) -> None:
            settle(cuts[part], cuts[part + 1], group.terms, saying, group.said, self._sums, self._words,
                   self._number if told else 0, PRIOR)  # fmt: skip

        self._crew.each(give, range(len(group.shares)))
        self._crew.each(sum_up, range(parts))
        group.spoken = True

    def _learn_alpha(self) -> None:
        step = max(1, self.documents // LOOKED_AT)
        rows = self._mixtures[: self.documents : step, : self._number].astype(np.float64)
        self._alpha = fitting(np.maximum(rows - self._prior.astype(np.float32), 0), self._alpha)

    def widen(self, documents: int) -> None:
        """Takes documents up to this one in, as a group of its own."""
        self._groups.append(self._group(self.documents, documents))
        self._saying = self._silence()
        self.documents = documents

    def topics(self) -> Topics:
        beta = self._words[:, : self._number].T.astype(np.float64)
        return Topics(self._prior, beta / beta.sum(axis=1, keepdims=True))


def fitting(words: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Two steps of alpha (K,) towards what is likeliest where topics have `words` (n, K) in documents."""
    from scipy.special import psi

    lengths = words.sum(axis=1)
    for _ in range(2):
        total = alpha.sum()
        rise = (psi(words + alpha) - psi(alpha)).sum(axis=0) / (psi(lengths + total) - psi(total)).sum()
        alpha = np.maximum(alpha * rise, SMALLEST)
    return alpha
