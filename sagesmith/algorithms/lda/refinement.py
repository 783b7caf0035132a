"""Refinement: collapsed variational Bayes from where the moments lead to, as long as documents set aside gain by it.

Where the moments led astray, it begins again from chance with more topics than asked for, leaves the least coherent
out one by one, and ends by sampling (sampling.py). The turns themselves: descent.py. Not in SageMaker.
"""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import numpy as np

from sagesmith.algorithms.lda.coherence import npmi
from sagesmith.algorithms.lda.descent import LOOKED_AT, PRIOR, THIN, Descent, fitting
from sagesmith.algorithms.lda.mixtures import likelihoods
from sagesmith.algorithms.lda.sampling import Sampler
from sagesmith.algorithms.lda.spectral import Topics
from sagesmith.algorithms.lda.threads import Crew
from sagesmith.algorithms.run import Run

EVERY = 10  # turns between two looks at the held-out documents
GAIN = 1e-4  # relative: a smaller one ends the refinement
TRIAL = 20  # turns from the moments' topics, before it may begin again from chance
ASTRAY = 0.9  # share of the perplexity: turns that leave less show that the moments led astray
CHANCES = 2  # starts from chance, of which one is chosen
MORE = 1.5  # times the topics asked for, with which they begin
FIRST, PARTINGS, BETWEEN = 20, 10, 8  # turns of a start with all of these; times that some leave; turns after each
SORTING = FIRST + PARTINGS * BETWEEN
SWEEPS, MEAN, SETTING = 50, 25, 5  # of sampling in the end; of these, the last that count; between looks at alpha
SWEEPS_MORE = 10  # over the held-out documents then
ENOUGH = TRIAL + CHANCES * SORTING + SWEEPS  # fewer turns all go to the moments' topics
NEAR = 1.03  # times a perplexity: near enough that coherence decides
HELD_OUT, HELD_OUT_MOST = 20, 1000  # every 20th document, but no more than this
LAST = 5  # turns at the end, with the held-out documents too
SCALES = 0.8 ** np.arange(-4, 13)  # by one of which alpha is multiplied in the end: 2.4 to 0.07


def learnt_from(documents: int) -> int:
    """How many of so many documents, the first ones, are not held out."""
    return documents - min(HELD_OUT_MOST, documents // HELD_OUT)


def refined(counts: Any, topics: Topics, turns: int, random: np.random.Generator, run: Run) -> Topics:
    """The topics after up to `turns` turns over all documents (D, V), or `topics` themselves if those are better.

    Where the first turns change much, the moments have not told the topics: it begins again from chance (record 0027).
    Documents are in no order: the last of them are held out.
    """
    every = counts.shape[0]
    documents = learnt_from(every)
    judge = _Judge(counts[documents:] if documents < every else counts, turns, random, run)
    start = judge.perplexity(topics, 0)
    with Crew(run.threads) as crew:
        way = _Way(Descent(counts, documents, topics, crew), judge, topics, start)
        way.go(1, TRIAL if turns >= ENOUGH else turns, run)
        sampled = None
        if turns >= ENOUGH and way.best < ASTRAY * start:
            run.log("Held-out perplexity fell from %.1f to %.1f: it begins again from chance", start, way.best)
            other = _sorted_out(counts, documents, topics, judge, crew, random, run)
            other.go(TRIAL + CHANCES * SORTING + 1, turns - SWEEPS, run)
            if other.best < NEAR * way.best:
                way = other
                sampled = _sampled(counts, documents, way, turns - SWEEPS, random, run)
        elif turns >= ENOUGH:
            way.go(TRIAL + 1, turns, run)
        if way.best >= start:  # perhaps because of its alpha alone, which is thin
            start = way.again(topics)
        if way.best >= start:
            run.log("Held-out perplexity was not lowered: the topics of the spectral method are kept")
            return topics
        run.log("Held-out perplexity went from %.1f to %.1f: the refined topics are kept", start, way.best)
        return sampled or way.ended(every, run)


def _sorted_out(
    counts: Any, documents: int, topics: Topics, judge: _Judge, crew: Crew, random: np.random.Generator, run: Run
) -> _Way:
    """Of some starts from chance, after some turns each, the most coherent of those about as likely as the best."""
    number, ways = len(topics.alpha), []
    for chance in range(CHANCES):
        drawn = _by_chance(counts, topics, round(MORE * number), random)
        turn = TRIAL + chance * SORTING
        way = _Way(Descent(counts, documents, drawn, crew), judge, drawn, np.inf)
        way.go(turn + 1, turn + FIRST, run)
        for wanted in _partings(len(drawn.alpha), number):
            turn += BETWEEN
            kept = _most_coherent(way.now(), counts, wanted)
            way = _Way(Descent(counts, documents, kept, crew), judge, kept, np.inf)
            way.go(turn - BETWEEN + FIRST + 1, turn + FIRST, run)
        ways.append(way)
    likely = min(way.best for way in ways)
    return max((way for way in ways if way.best <= NEAR * likely), key=lambda way: _coherence(way.kept, counts))


def _partings(number: int, wanted: int) -> list[int]:
    """How many topics stay each time that some leave, on the way from `number` to `wanted`."""
    left = np.linspace(number, wanted, PARTINGS + 1).round().astype(int).tolist()
    return [after for before, after in pairwise(left) if after < before]


def _most_coherent(topics: Topics, counts: Any, number: int) -> Topics:
    kept = np.sort(np.argsort(-npmi(topics.beta, counts), kind="stable")[:number])
    return Topics(topics.alpha[kept], topics.beta[kept])


def _coherence(topics: Topics, counts: Any) -> float:
    return float(npmi(topics.beta, counts).mean())


def _sampled(counts: Any, documents: int, way: _Way, turn: int, random: np.random.Generator, run: Run) -> Topics | None:
    """The mean of topics sampled from a way's end on, if they are more coherent and about as likely; else None."""
    sampler = Sampler(counts, way.kept, PRIOR, random, run.threads)
    sampler.begin(documents)
    step, mean = max(1, documents // LOOKED_AT), np.zeros(())
    for sweep in range(0, SWEEPS, SETTING):
        if run.stopping:
            return None
        started = time.monotonic()
        words = sampler.mean(0, documents, SETTING)
        sampler.alpha = fitting(sampler.mixtures(documents, step), sampler.alpha)
        mean = mean + words * (sweep >= SWEEPS - MEAN)
        way.judge.progress(turn + sweep + SETTING, SETTING * documents / max(1e-9, time.monotonic() - started))
    topics = sampler.topics(mean * SETTING / MEAN)
    value = way.judge.perplexity(topics, turn + SWEEPS)
    before, after = _coherence(way.kept, counts), _coherence(topics, counts)
    run.log("Sampling: NPMI from %.4f to %.4f, held-out perplexity from %.1f to %.1f", before, after, way.best, value)
    if after <= before or value > NEAR * way.best:
        return None
    scale = way.judge.suited(topics)[1]
    if documents < counts.shape[0]:
        mean = mean * SETTING / MEAN + sampler.mean(documents, counts.shape[0], SWEEPS_MORE // 2, SWEEPS_MORE // 2)
        topics = sampler.topics(mean)
    return Topics(scale * topics.alpha, topics.beta)


def _by_chance(counts: Any, topics: Topics, number: int, random: np.random.Generator) -> Topics:
    """Topics that are the frequencies of all terms, each times a number drawn from the exponential distribution."""
    beta = random.exponential(size=(number, topics.beta.shape[1])) * (np.asarray(counts.sum(axis=0)).ravel() + PRIOR)
    return Topics(np.full(number, topics.alpha.sum() / number), beta / beta.sum(axis=1, keepdims=True))


class _Way:
    """A descent from one start: `best`, the lowest held-out perplexity seen, and `kept`, the topics that had it."""

    def __init__(self, descent: Descent, judge: _Judge, topics: Topics, start: float) -> None:
        self.best = self._before = start
        self._descent, self.judge, self.kept = descent, judge, topics
        self._settled = False

    def go(self, first: int, last: int, run: Run) -> None:
        """Turns number `first` to `last`, fewer if it settles or is to stop."""
        for turn in range(first, last + 1):
            if self._settled or (run.stopping and turn > first):
                return
            started = time.monotonic()
            self._descent.turn()
            self.judge.progress(turn, self._descent.documents / max(1e-9, time.monotonic() - started))
            if turn % EVERY == 0 or turn == last:
                self._look(turn)

    def now(self) -> Topics:
        """The topics as they are, which need not be the best, with the whole of alpha."""
        found = self._descent.topics()
        return Topics(found.alpha / THIN, found.beta)

    def _look(self, turn: int) -> None:
        found = self._descent.topics()
        value = self.judge.perplexity(found, turn)
        if value < self.best:
            self.kept, self.best = found, value
        self._settled = value > self._before * (1 - GAIN)
        self._before = value

    def again(self, topics: Topics) -> float:
        """Judges the topics as they are, and returns the perplexity of `topics`: each with the alpha that suits it."""
        self.kept = self._descent.topics()
        self.best, _ = self.judge.suited(self.kept)
        return self.judge.suited(topics)[0]

    def ended(self, documents: int, run: Run) -> Topics:
        """The best topics, after some turns with the held-out documents too."""
        scale, kept = self.judge.suited(self.kept)[1], self.kept
        if not run.stopping and self._descent.documents < documents:
            self._descent.widen(documents)
            for _ in range(LAST):
                self._descent.turn()
            kept = self._descent.topics()
        return Topics(scale * kept.alpha, kept.beta)


class _Judge:
    """Document completion: mixtures from half of a document's words, the perplexity of the other half."""

    def __init__(self, counts: Any, turns: int, random: np.random.Generator, run: Run) -> None:
        self._turns, self._run = turns, run
        self._seen, self._asked = counts.copy(), counts.copy()
        whole = np.floor(counts.data).astype(np.int64)
        self._seen.data = random.binomial(whole, 0.5).astype(np.float32) + (counts.data - whole)
        self._asked.data = counts.data - self._seen.data
        self._words = max(float(self._asked.data.sum()), 1e-9)

    def perplexity(self, topics: Topics, turn: int) -> float:
        value = self._of(topics)
        self._run.quality("train held_out_perplexity", value, "loss", turn)
        return value

    def progress(self, turn: int, documents_a_second: float) -> None:
        self._run.progress(turn, self._turns + 1, documents_a_second)

    def suited(self, topics: Topics) -> tuple[float, float]:
        """The perplexity with alpha times the factor that is best for the held-out documents, and that factor.

        See THIN: this takes the rest of it back.
        """
        found = [self._of(Topics(scale * topics.alpha, topics.beta)) for scale in SCALES]
        best = int(np.argmin(found))
        return found[best], float(SCALES[best])

    def _of(self, topics: Topics) -> float:
        found = likelihoods(self._seen, self._asked, topics, self._run.threads).sum()
        return float(np.exp(-found / self._words))
