"""Spectral: topics from moments, the steps of SageMaker's method in their order (specification, section 9)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sagesmith.algorithms.lda.decomposition import decomposed
from sagesmith.algorithms.lda.moments import Moments, Whitening
from sagesmith.algorithms.run import Run

EXTRA = 1.25  # topics looked for, for each that is asked for
SMOOTHING = 1e-3  # share of each topic that is spread evenly: the method leaves zeros, on which no likelihood stands
STANDS_OUT = 0.25  # of an eigenvalue in one half of the documents, what the other half must show along its vector
STANDS_OUT_MOST = 0.5  # with few terms, where halves agree by chance to about 1 / √(2 V), it must show more: so much


class Topics(NamedTuple):
    """alpha (K,), Dirichlet's parameters; beta (K, V), the words of each topic, rows that sum to 1."""

    alpha: np.ndarray
    beta: np.ndarray


class Plan(NamedTuple):
    """The hyperparameters of the method."""

    topics: int
    alpha0: float
    restarts: int
    iterations: int
    tol: float


class Found(NamedTuple):
    """`topics`, the share of the tensor that they leave unexplained, and how many of them the moments show."""

    topics: Topics
    left: float
    shown: int


def found(counts: Any, plan: Plan, random: np.random.Generator, run: Run, drawn: int) -> Found:
    """Topics of documents (D, V) CSR by the method of moments; where it shows too few, of the first `drawn` documents.

    Raises:
        ValueError: no document has three words.
    """
    if not (counts.sum(axis=1) >= 3).any():
        raise ValueError("no document has 3 words or more: topics show in which words occur together")
    moments = Moments(counts, plan.alpha0)
    wanted = int(np.ceil(EXTRA * plan.topics))
    white = moments.whitening(wanted, random)
    rank = min(white.forth.shape[1], _standing_out(counts, plan.alpha0, wanted, random))
    if not rank:
        return Found(_filled(None, counts[:drawn], moments.first, plan, random), 1.0, 0)
    white = Whitening(white.forth[:, :rank], white.back[:, :rank])
    # a tensor of fewer dimensions can have more terms than those, but not many more
    terms = max(min(wanted, rank), min(plan.topics, int(EXTRA * rank)))
    tensor = moments.third_moment(white.forth)
    parts, left = decomposed(
        tensor, terms, plan.restarts, plan.iterations, plan.tol, random, run.threads, lambda: run.stopping
    )
    topics = _unwhitened(parts.weights, white.back @ parts.vectors, plan)
    return Found(_filled(topics, counts[:drawn], moments.first, plan, random), left, len(topics.alpha))


def _standing_out(counts: Any, alpha0: float, wanted: int, random: np.random.Generator) -> int:
    """How many of M2's leading eigenvectors are more than chance: those of one half of the documents hold in the other.

    Whitening divides by eigenvalues: chance, taken for a topic, would be blown up until it hides the others.
    """
    order = random.permutation(counts.shape[0])
    halves = [Moments(counts[np.sort(order[start::2])], alpha0) for start in (0, 1)]
    kept = []
    for one, other in (halves, halves[::-1]):
        white = one.whitening(wanted, random).forth  # one's quotients along it are 1
        kept.append((white * other.second_times(white)).sum(axis=0))
    number = min(map(len, kept))
    least = min(STANDS_OUT + counts.shape[1] ** -0.5, STANDS_OUT_MOST)
    agree = (kept[0][:number] + kept[1][:number]) / 2 >= least
    return number if agree.all() else int(np.argmin(agree))


def _unwhitened(weights: np.ndarray, words: np.ndarray, plan: Plan) -> Topics:
    """The terms' alpha and beta; the `topics` with the largest alpha of them."""
    alpha0 = plan.alpha0
    with np.errstate(divide="ignore"):
        alpha = 4 * alpha0 * (alpha0 + 1) / ((alpha0 + 2) ** 2 * weights**2)
    possible = alpha <= alpha0 * (1 + 1e-6) if len(alpha) > 1 else np.ones(1, bool)
    order = np.lexsort((-alpha, ~possible))[: plan.topics]  # what cannot be a topic's comes last
    beta = np.maximum(words.T[order], 0)
    return Topics(np.minimum(alpha[order], alpha0), beta / np.maximum(beta.sum(axis=1, keepdims=True), 1e-300))


def _filled(topics: Topics | None, counts: Any, first: np.ndarray, plan: Plan, random: np.random.Generator) -> Topics:
    """As many topics as asked for: those that the moments do not show begin as a document drawn by chance.

    alpha is scaled to the sum alpha0, and beta smoothed.
    """
    shown = 0 if topics is None else len(topics.alpha)
    drawn = np.zeros((plan.topics - shown, counts.shape[1]))
    full = np.flatnonzero(np.asarray(counts.sum(axis=1)).ravel())
    for row in drawn:
        document = counts[random.choice(full)]
        row[document.indices] = document.data
        row += first * document.data.sum()
        row /= row.sum()
    if topics is None:
        alpha, beta = np.ones(plan.topics), drawn
    else:
        alpha = np.concatenate([topics.alpha, np.full(len(drawn), topics.alpha.min())])
        beta = np.concatenate([topics.beta, drawn])
    beta = (1 - SMOOTHING) * beta + SMOOTHING / beta.shape[1]
    return Topics(plan.alpha0 * alpha / alpha.sum(), beta / beta.sum(axis=1, keepdims=True))
