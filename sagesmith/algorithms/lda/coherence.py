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
    there = counts.tocsc()
    documents, values = counts.shape[0], np.zeros(len(beta))
    for topic, words in enumerate(beta):
        terms = leading(words, top)
        both = _together(there, terms) / documents
        one, other = np.triu_indices(len(terms), 1)
        alone, pair = np.diag(both), both[one, other]
        if len(pair):
            with np.errstate(divide="ignore", invalid="ignore"):
                found = np.log(pair / (alone[one] * alone[other])) / np.maximum(-np.log(pair), TINY)
            values[topic] = np.where(pair > 0, found, -1.0).mean()
    return values


def _together(counts: Any, terms: np.ndarray) -> np.ndarray:
    """How many documents of counts (D, V) CSC have both of two terms, (n, n), each alone on the diagonal; n <= 63."""
    held = np.zeros(counts.shape[0], np.int64)  # a bit for each term
    for place, term in enumerate(terms):
        column = slice(*counts.indptr[term : term + 2])
        held[counts.indices[column][counts.data[column] > 0]] |= 1 << place
    kinds, numbers = np.unique(held[held > 0], return_counts=True)
    bits = (kinds[:, None] >> np.arange(len(terms))) & 1
    return np.asarray(bits.T @ (bits * numbers[:, None]))


def leading(weights: np.ndarray, number: int) -> np.ndarray:
    """Where the `number` largest of weights (V,) are, the largest first; of equal ones the first."""
    if number < len(weights):
        least = np.partition(weights, -number)[-number]
        near = np.flatnonzero(weights >= least)
    else:
        near = np.arange(len(weights))
    return near[np.argsort(-weights[near], kind="stable")[:number]]
