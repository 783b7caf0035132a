"""Coherence: how often a topic's likeliest terms are in the same documents.

Normalised pointwise mutual information (Bouma, Normalized (Pointwise) Mutual Information in Collocation Extraction,
2009) over whole documents, as Lau et al., Machine Reading Tea Leaves, EACL 2014, compare topics by.
"""

from __future__ import annotations

from typing import Any

import numpy as np

TOP = 10  # terms of a topic that should occur together
TINY = 1e-12  # a pair that is in all documents tells nothing


def npmi(beta: np.ndarray, counts: Any, top: int = TOP) -> np.ndarray:
    """The mean NPMI of all pairs of each topic's `top` terms with the largest weights (K, V): (K,), -1 to 1.

    Terms occur together where a document of counts (D, V), sparse, has both; a pair that never does counts -1.
    """
    there = counts.tocsc(copy=True)
    there.data = (there.data > 0).astype(np.float32)
    values = np.zeros(len(beta))
    for topic, words in enumerate(beta):
        chosen = there[:, np.argsort(-words, kind="stable")[:top]]
        both = (chosen.T @ chosen).toarray().astype(np.float64) / counts.shape[0]
        one, other = np.triu_indices(len(both), 1)
        alone, pair = np.diag(both), both[one, other]
        if len(pair):
            with np.errstate(divide="ignore", invalid="ignore"):
                found = np.log(pair / (alone[one] * alone[other])) / np.maximum(-np.log(pair), TINY)
            values[topic] = np.where(pair > 0, found, -1.0).mean()
    return values
