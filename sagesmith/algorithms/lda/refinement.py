"""Refinement: collapsed variational Bayes from where the moments lead to, as long as documents set aside gain by it.

Not in SageMaker. Papers: Asuncion et al., On Smoothing and Inference for Topic Models, UAI 2009 (CVB0); Neal and
Hinton, A View of the EM Algorithm That Justifies Incremental, Sparse, and Other Variants, 1998 (a group of documents
takes back what it said before when it speaks again, and the next group sees it at once); Minka, Estimating a Dirichlet
Distribution, 2000 (the fixed point for alpha).
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from sagesmith.algorithms.lda.mixtures import likelihoods, parts_of, widened
from sagesmith.algorithms.lda.spectral import Topics
from sagesmith.algorithms.lda.threads import Crew, even
from sagesmith.algorithms.run import Run

PRIOR = 0.01  # of every word in every topic
GROUPS = 8  # that see each other's words within one turn; fewer where their counts would take more than KEPT
KEPT = 512 << 20  # bytes of what groups and their lanes have said
SHARES = 4  # of a group at most, each with its own sums: as many threads can work, and their number changes nothing
ROUNDS, FIRST_ROUNDS = 2, 5  # over a document's words in a turn; in the first turn mixtures are not known yet
EVERY = 10  # turns between two looks at the held-out documents
GAIN = 1e-4  # relative: a smaller one ends the refinement
HELD_OUT, HELD_OUT_MOST = 20, 1000  # every 20th document, but no more than this
LAST = 5  # turns at the end, with the held-out documents too
LOOKED_AT = 1000  # documents from which alpha is worked out
THIN = 0.5  # of alpha, what words are given to topics with: CVB0 spreads them, and so finds too large an alpha
SMALLEST = 1e-3  # of alpha's entries
SCALES = 0.8 ** np.arange(13)  # by one of which alpha is multiplied in the end: 1 to 0.07


def refined(counts: Any, topics: Topics, turns: int, random: np.random.Generator, run: Run) -> Topics:
    """The topics after up to `turns` turns over all documents (D, V), or `topics` themselves if those are better."""
    order = random.permutation(counts.shape[0])
    counts = counts[order]
    held = min(HELD_OUT_MOST, counts.shape[0] // HELD_OUT)
    judge = _Judge(counts[counts.shape[0] - held :] if held else counts, random, run)
    with Crew(run.threads) as crew:
        descent = _Descent(counts, counts.shape[0] - held, topics, crew)
        return _led(descent, judge, topics, turns, counts.shape[0], run)


def _led(descent: _Descent, judge: _Judge, topics: Topics, turns: int, documents: int, run: Run) -> Topics:
    start = before = best = judge.perplexity(topics, 0)
    kept = topics
    for turn in range(1, turns + 1):
        started = time.monotonic()
        descent.turn()
        run.progress(turn, turns + 1, descent.documents / max(1e-9, time.monotonic() - started))
        if turn % EVERY == 0 or turn == turns:
            found = descent.topics()
            value = judge.perplexity(found, turn)
            if value < best:
                kept, best = found, value
            if value > before * (1 - GAIN):
                break
            before = value
        if run.stopping:
            break
    if best >= start:
        run.log("Held-out perplexity was not lowered: the topics of the spectral method are kept")
        return topics
    run.log("Held-out perplexity went from %.1f to %.1f: the refined topics are kept", start, best)
    scale = judge.scale(kept)
    if not run.stopping and descent.documents < documents:
        descent.widen(documents)
        for _ in range(LAST):
            descent.turn()
        kept = descent.topics()
    return Topics(scale * kept.alpha, kept.beta)


class _Judge:
    """Document completion: mixtures from half of a document's words, the perplexity of the other half."""

    def __init__(self, counts: Any, random: np.random.Generator, run: Run) -> None:
        self._run = run
        self._seen, self._asked = counts.copy(), counts.copy()
        whole = np.floor(counts.data).astype(np.int64)
        self._seen.data = random.binomial(whole, 0.5).astype(np.float32) + (counts.data - whole)
        self._asked.data = counts.data - self._seen.data
        self._words = max(float(self._asked.data.sum()), 1e-9)

    def perplexity(self, topics: Topics, turn: int) -> float:
        value = self._of(topics)
        self._run.quality("train held_out_perplexity", value, "loss", turn)
        return value

    def scale(self, topics: Topics) -> float:
        """The factor on alpha that is best for the held-out documents.

        See THIN: this takes the rest of it back.
        """
        found = [self._of(Topics(scale * topics.alpha, topics.beta)) for scale in SCALES]
        return float(SCALES[int(np.argmin(found))])

    def _of(self, topics: Topics) -> float:
        found = likelihoods(self._seen, self._asked, topics, self._run.threads).sum()
        return float(np.exp(-found / self._words))


class _Descent:
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
        self._cuts = self._cut(0, documents, groups)
        self._said: list[np.ndarray | None] = [None] * groups

    @property
    def _prior(self) -> np.ndarray:
        return THIN * self._alpha

    def _cut(self, begin: int, end: int, parts: int) -> list[tuple[int, int]]:
        return [(begin + a, begin + b) for a, b in even(self._starts[begin : end + 1], parts)]

    def turn(self) -> None:
        """All documents once, group by group."""
        first = all(said is None for said in self._said)
        for group, (begin, end) in enumerate(self._cuts):
            before = self._said[group]
            said = self._spoken(begin, end, FIRST_ROUNDS if before is None else ROUNDS)
            self._sums += said if before is None else said - before
            self._said[group] = said
            if not first or group == len(self._cuts) - 1:
                np.maximum(self._sums, 0, out=self._words, casting="same_kind")
                self._words[:, : self._number] += PRIOR
        self._learn_alpha()

    def _spoken(self, begin: int, end: int, rounds: int) -> np.ndarray:
        """How many of each term's words every topic has in these documents, (V, K8)."""
        from sagesmith.algorithms.lda.words_compiled import collapse

        shares, prior = np.zeros((1, self._words.shape[1]), np.float32), widened(self._prior[None, :])
        shares[0, : self._number] = 1 / self._words[:, : self._number].sum(axis=0, dtype=np.float64)
        ranges = self._cut(begin, end, self._shares)
        sums = np.zeros((len(ranges), *self._words.shape), np.float32)
        documents = self._starts, self._terms, self._data

        def work(part: int) -> None:
            collapse(*ranges[part], *documents, self._words, shares, prior, rounds, self._mixtures, sums[part])

        self._crew.each(work, range(len(ranges)))
        return np.asarray(sums.sum(axis=0))

    def _learn_alpha(self) -> None:
        from scipy.special import psi

        step = max(1, self.documents // LOOKED_AT)
        rows = self._mixtures[: self.documents : step, : self._number].astype(np.float64)
        words = np.maximum(rows - self._prior.astype(np.float32), 0)
        lengths, alpha = words.sum(axis=1), self._alpha
        for _ in range(2):
            total = alpha.sum()
            rise = (psi(words + alpha) - psi(alpha)).sum(axis=0) / (psi(lengths + total) - psi(total)).sum()
            alpha = np.maximum(alpha * rise, SMALLEST)
        self._alpha = alpha

    def widen(self, documents: int) -> None:
        """Takes documents up to this one in, as a group of its own."""
        self._cuts.append((self.documents, documents))
        self._said.append(None)
        self.documents = documents

    def topics(self) -> Topics:
        beta = self._words[:, : self._number].T.astype(np.float64)
        return Topics(self._prior, beta / beta.sum(axis=1, keepdims=True))
