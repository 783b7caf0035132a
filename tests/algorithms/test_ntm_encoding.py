"""NTM's answers: the mode of the posterior, found from the encoder's guess."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import minimize

from sagesmith.algorithms import NTM
from sagesmith.algorithms.ntm.encoding import ACTIVATIONS, encoded, refined, topic_weights
from tests.algorithms.ntm_documents import drawn

COUNTS = drawn(1200)[0]
HELD = drawn(40, seed=7, words=25)[0]


@pytest.fixture(scope="module")
def model() -> NTM:
    return NTM(num_topics=5, epochs=4, optimizer="adam", mini_batch_size=64).fit(COUNTS)


def surprise(model: NTM, z: Any, row: Any) -> float:
    """-log p(words, z) of one document, by the model's own word probabilities."""
    weights = np.exp(z - z.max())
    chances = model.word_probabilities((weights / weights.sum())[None])[0]
    return float(-row @ np.log(chances) + 0.5 * z @ z)


def softmax(z: Any) -> Any:
    return np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)


def test_answers_are_near_the_mode_of_the_posterior(model: NTM) -> None:
    first = encoded(model._model, sparse.csr_matrix(HELD), ACTIVATIONS["sigmoid"])
    found = refined(model._model, sparse.csr_matrix(HELD), first)
    np.testing.assert_allclose(model.predict(HELD), softmax(found), atol=1e-5)
    begun, reached, least = [], [], []
    for row, start, end in zip(HELD, first.astype(float), found.astype(float), strict=True):
        begun.append(surprise(model, start, row))
        reached.append(surprise(model, end, row))
        least.append(float(minimize(lambda z, row=row: surprise(model, z, row), start).fun))
    assert all(after <= before + 1e-3 for before, after in zip(begun, reached, strict=True))
    assert sum(begun) - sum(reached) > 0.8 * (sum(begun) - sum(least)) > 1


def test_a_document_is_answered_alike_alone_and_among_others(model: NTM) -> None:
    alone = np.concatenate([model.predict(row[None]) for row in HELD])
    np.testing.assert_allclose(model.predict(HELD), alone, atol=1e-5)


def test_a_guess_far_off_is_never_made_worse(model: NTM) -> None:
    random = np.random.default_rng(0)
    for guess in random.normal(0, 20, (5, len(HELD), 5)).astype(np.float32):
        found = refined(model._model, sparse.csr_matrix(HELD), guess)
        for row, start, end in zip(HELD, guess, found, strict=True):
            before = surprise(model, start.astype(float), row)
            assert surprise(model, end.astype(float), row) <= before * (1 + 1e-5) + 1e-3


@pytest.mark.parametrize("factor", [1e-30, 1e4, 1e30])
def test_counts_of_any_size_are_answered(model: NTM, factor: float) -> None:
    answers = model.predict(HELD * np.float32(factor))
    np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-5)
    assert (answers >= 0).all()


def test_a_document_without_words_has_the_priors_weights(model: NTM) -> None:
    rows = sparse.csr_matrix(np.vstack([HELD[0], np.zeros(25, np.float32)]))
    np.testing.assert_array_equal(topic_weights(model._model, rows, "sigmoid")[1], np.full(5, 0.2, np.float32))
