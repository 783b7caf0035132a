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
    chosen = np.array([leading(words, top) for words in beta])
    terms, places = np.unique(chosen, return_inverse=True)
    there = counts.tocsc()[:, terms]
    there.data = (there.data > 0).astype(np.float32)
    places = places.reshape(chosen.shape)
    alone = np.asarray(there.sum(axis=0, dtype=np.float64)).ravel() / counts.shape[0]
    both = (there.T @ there).toarray()
    one, other = np.triu_indices(chosen.shape[1], 1)
    if not len(one):
        return np.zeros(len(beta))
    one, other = places[:, one], places[:, other]
    pair = both[one, other].astype(np.float64) / counts.shape[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.log(pair / (alone[one] * alone[other])) / np.maximum(-np.log(pair), TINY)
    return np.asarray(np.where(pair > 0, found, -1.0).mean(axis=1))


def leading(weights: np.ndarray, number: int) -> np.ndarray:
    """Where the `number` largest of weights (V,) are, the largest first; of equal ones the first."""
    if number < len(weights):
        least = np.partition(weights, -number)[-number]
        near = np.flatnonzero(weights >= least)
    else:
        near = np.arange(len(weights))
    return near[np.argsort(-weights[near], kind="stable")[:number]]
