"""LDA's moments against sums over all pairs and triples of words, the decomposition against a tensor that is known."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from scipy import sparse

from sagesmith.algorithms.lda.decomposition import decomposed
from sagesmith.algorithms.lda.moments import Moments


def by_hand(counts: np.ndarray, alpha0: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """M1, M2 and M3 from every ordered pair and triple of distinct word positions of every document."""
    terms = counts.shape[1]
    sums = [np.zeros((terms,) * order) for order in (1, 2, 3)]
    documents = [0, 0, 0]
    for row in counts:
        words = np.repeat(np.arange(terms), row.astype(int))
        for order in (1, 2, 3):
            places = list(permutations(range(len(words)), order))
            if not places:
                continue
            documents[order - 1] += 1
            for place in places:
                sums[order - 1][tuple(words[list(place)])] += 1 / len(places)
    one, two, three = (total / number for total, number in zip(sums, documents, strict=True))
    mixed = np.einsum("ij,k->ijk", two, one) + np.einsum("ik,j->ijk", two, one) + np.einsum("jk,i->ijk", two, one)
    cube = np.einsum("i,j,k->ijk", one, one, one)
    second = two - alpha0 / (alpha0 + 1) * np.outer(one, one)
    third = three - alpha0 / (alpha0 + 2) * mixed + 2 * alpha0**2 / ((alpha0 + 1) * (alpha0 + 2)) * cube
    return one, second, third


@pytest.mark.parametrize("alpha0", [0.1, 1.0, 7.0])
def test_moments_are_those_of_all_pairs_and_triples(alpha0: float) -> None:
    random = np.random.default_rng(3)
    counts = random.integers(0, 3, (20, 5)).astype(float)
    counts[0], counts[1], counts[2] = 0, [0, 1, 0, 0, 0], [2, 0, 0, 0, 0]  # too short for triples, pairs, anything
    one, second, third = by_hand(counts, alpha0)
    moments = Moments(sparse.csr_matrix(counts), alpha0)
    np.testing.assert_allclose(moments.first, one, atol=1e-14)
    np.testing.assert_allclose(moments.second_times(np.eye(5)), second, atol=1e-14)
    seen = random.normal(size=(5, 3))
    expected = np.einsum("ijk,ia,jb,kc->abc", third, seen, seen, seen)
    np.testing.assert_allclose(moments.third_moment(seen), expected, atol=1e-13)


def test_whitening_makes_the_second_moment_the_identity() -> None:
    random = np.random.default_rng(1)
    topics = random.dirichlet(np.full(40, 0.1), 4)
    counts = np.array([random.multinomial(60, mix @ topics) for mix in random.dirichlet(np.full(4, 0.3), 3000)])
    moments = Moments(sparse.csr_matrix(counts), 1.2)
    white = moments.whitening(4, random)
    np.testing.assert_allclose(white.forth.T @ moments.second_times(white.forth), np.eye(4), atol=1e-9)
    np.testing.assert_allclose(white.forth.T @ white.back, np.eye(4), atol=1e-9)
    values, vectors = np.linalg.eigh(moments.second_times(np.eye(40)))
    np.testing.assert_allclose((white.back**2).sum(axis=0), values[::-1][:4], rtol=1e-6)
    assert np.abs(vectors[:, -1] @ white.back[:, 0]) == pytest.approx(np.sqrt(values[-1]), rel=1e-6)


@pytest.mark.parametrize(("rank", "terms"), [(1, 1), (4, 4), (9, 10)])
def test_a_tensor_of_known_terms_is_taken_apart(rank: int, terms: int) -> None:
    random = np.random.default_rng(rank)
    vectors = np.linalg.qr(random.normal(size=(terms, terms)))[0][:rank]
    vectors /= np.linalg.norm(vectors, axis=0)
    weights = np.linspace(1, 3, terms)
    tensor = np.einsum("i,ai,bi,ci->abc", weights, vectors, vectors, vectors)
    found, left = decomposed(tensor, terms, 10, 1000, 1e-12, random)
    assert left < 1e-4
    order = np.argsort(found.weights)
    np.testing.assert_allclose(found.weights[order], weights, rtol=2e-3)
    np.testing.assert_allclose(np.abs((found.vectors[:, order] * vectors).sum(axis=0)), 1, atol=2e-3)


def test_threads_change_nothing() -> None:
    random = np.random.default_rng(0)
    tensor = random.normal(size=(5, 5, 5))
    tensor = sum(tensor.transpose(axes) for axes in permutations(range(3)))
    one, other = (decomposed(tensor, 5, 7, 30, 1e-9, np.random.default_rng(2), threads) for threads in (1, 3))
    assert one[1] == other[1]
    np.testing.assert_array_equal(one[0].vectors, other[0].vectors)


def test_a_request_to_stop_ends_the_turns() -> None:
    tensor = np.random.default_rng(0).normal(size=(6, 6, 6))
    asked = iter([False] * 3 + [True] * 100)
    decomposed(tensor, 6, 5, 10**9, 1e-300, np.random.default_rng(0), 1, lambda: next(asked))
    assert next(asked), "it looked no further"
