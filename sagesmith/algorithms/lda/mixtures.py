"""Mixtures: what share each topic has in a document, and how well topics tell its words, over threads."""

from __future__ import annotations

from typing import Any

import numpy as np

from sagesmith.algorithms.lda.spectral import Topics
from sagesmith.algorithms.lda.threads import Crew, even

TURNS, TOL = 200, 1e-5  # of the search for a document's mixture
LEAST = 1e-12  # a word's probability at least, where a likelihood is measured
PART = 1 << 14  # counts of a part of the work: fewer are not worth a thread


def widened(array: np.ndarray) -> np.ndarray:
    """(n, K) as float32 (n, K8), zeros in the columns beyond K."""
    from sagesmith.algorithms.lanes_compiled import LANES

    return np.ascontiguousarray(np.pad(array.astype(np.float32), ((0, 0), (0, -array.shape[1] % LANES))))


def parts_of(counts: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """CSR as compiled code takes it: starts (D + 1,) int64, terms int32, counts float32."""
    return counts.indptr.astype(np.int64), counts.indices.astype(np.int32), counts.data.astype(np.float32)


def mixed(counts: Any, topics: Topics, threads: int) -> np.ndarray:
    """The topics' shares in each document, (D, K) rows that sum to 1; those of the prior in an empty document."""
    weights = weights_of(counts, widened(topics.beta.T), widened(topics.alpha[None, :]), threads)
    weights = weights[:, : len(topics.alpha)].astype(np.float64)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def likelihoods(seen: Any, asked: Any, topics: Topics, threads: int) -> np.ndarray:
    """Σ_w c_w log p(w) of each document's words in `asked`, (D,), under its mixture that `seen` tells."""
    from sagesmith.algorithms.lda.words_compiled import likelihood

    words = widened(topics.beta.T)
    weights = weights_of(seen, words, widened(topics.alpha[None, :]), threads)
    sums = np.empty(asked.shape[0])
    likelihood(0, len(sums), *parts_of(asked), words, weights, LEAST, sums)
    return sums


def weights_of(counts: Any, words: np.ndarray, prior: np.ndarray, threads: int) -> np.ndarray:
    """How many of a document's words each topic has, plus the prior (1, K8): (D, K8) float32; `words` (V, K8)."""
    from sagesmith.algorithms.lda.words_compiled import mix

    weights = np.empty((counts.shape[0], prior.shape[1]), np.float32)
    starts, terms, data = parts_of(counts)
    ranges = even(starts, 1 + len(terms) // PART)
    with Crew(min(threads, len(ranges))) as crew:
        crew.each(lambda part: mix(part[0], part[1], starts, terms, data, words, prior, TURNS, TOL, weights), ranges)
    return weights
