"""Topics as words: the most relevant of each, how unique they are (TU), and how alike in meaning (WETC).

Papers: Ding et al., Coherence-Aware Neural Topic Modeling, EMNLP 2018 (arXiv 1809.02687); Sievert and Shirley, LDAvis,
Workshop on Interactive Language Learning, Visualization, and Interfaces 2014 (relevance).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

SHOWN = 20  # words of a topic in the log
LIKELY = 0.4  # weight of a word's probability in a topic, beside how far the topic raises it (record 0038)


@dataclass(frozen=True)
class Described:
    """Each topic's words, in order, with its TU and, where words have embeddings, its WETC."""

    words: list[list[str]]
    uniqueness: np.ndarray  # (K,)
    coherence: np.ndarray | None  # (K,)

    def lines(self, named: bool) -> list[str]:
        """SageMaker's lines for the log; `named`: words, not ids, stand there."""
        scored = self.coherence is not None
        head = f"wetc {self.coherence.mean():.2f}" if self.coherence is not None else ""
        lines = [f"Topics from epoch:final (num_topics:{len(self.words)}) [{head}, tu {self.uniqueness.mean():.2f}]:"]
        for topic, words in enumerate(self.words):
            scores = ""
            if scored and named:
                assert self.coherence is not None
                scores = f"[{self.coherence[topic]:.2f}, {self.uniqueness[topic]:.2f}] "
            lines.append(scores + " ".join(words))
        return lines


def relevance(model: Mapping[str, np.ndarray]) -> np.ndarray:
    """How much a word tells of a topic, (V, K), up to a constant of each topic.

    LIKELY log p(w | topic) + (1 - LIKELY) log p(w | topic) / p(w), where the network has p(w | topic) ∝ exp(W + b) and
    b stands for log p(w). W alone puts seldom words first, W + b those that are usual in many topics.
    """
    return np.asarray(model["topics"] + LIKELY * model["background"][:, None])


def top(weights: np.ndarray, count: int) -> np.ndarray:
    """The ids of the `count` words with the largest weights (V, K) in each topic, (K, count), largest first."""
    return np.asarray(np.argsort(-weights, axis=0, kind="stable")[:count].T)


def uniqueness(words: np.ndarray) -> np.ndarray:
    """TU of each topic: the mean over its words (K, n) of one over the number of topics that list the word."""
    _, which, counts = np.unique(words, return_inverse=True, return_counts=True)
    return np.asarray((1 / counts)[which].reshape(words.shape).mean(axis=1))


def coherence(words: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """WETC of each topic: the mean cosine of all pairs of its words (K, n), n >= 2, by their vectors (V, d).

    A vector of zeros has cosine 0 with all.
    """
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = (vectors / np.where(length, length, 1))[words]
    count = words.shape[1]
    squared = (np.linalg.norm(unit.sum(axis=1), axis=1) ** 2) - (unit**2).sum(axis=(1, 2))
    return np.asarray(squared / (count * (count - 1)))


def described(
    weights: np.ndarray, vocabulary: Sequence[str] | None, vectors: np.ndarray | None, count: int = SHOWN
) -> Described:
    """What there is to say about topics with the weights (V, K)."""
    ids = top(weights, count)
    names = [[str(word) if vocabulary is None else vocabulary[word] for word in topic] for topic in ids]
    scored = vectors is not None and ids.shape[1] > 1
    return Described(names, uniqueness(ids), coherence(ids, vectors) if scored and vectors is not None else None)
