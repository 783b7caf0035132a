"""LDA finds topics that are known, gets better by its refinement, and refuses what are no counts."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.optimize import minimize

from sagesmith.algorithms import LDA
from sagesmith.algorithms.base import HyperparameterError
from sagesmith.algorithms.lda import spectral
from sagesmith.algorithms.lda.coherence import npmi
from sagesmith.algorithms.lda.sampling import Sampler
from sagesmith.algorithms.lda.spectral import Plan, Topics
from sagesmith.algorithms.run import Run
from sagesmith.formats.errors import DataError
from sagesmith.testing.check_algorithm import RecordingRun
from tests.algorithms.lda_corpus import apart, bars, drawn


@pytest.fixture(scope="module")
def corpus() -> np.ndarray:
    return drawn(bars(), 1500, 100)


@pytest.fixture(scope="module")
def model(corpus: np.ndarray) -> LDA:
    return LDA(num_topics=10).fit(sparse.csr_matrix(corpus))


@pytest.mark.parametrize(("number", "seed"), [(5, 0), (5, 3), (10, 0), (10, 6)])
def test_the_spectral_method_finds_the_bars(number: int, seed: int) -> None:
    """The specification's target: a mean L1 error below 0.05 per topic on 5,000 documents of 150 words.

    In 5 bars of seed 3 and 10 of seed 6 both halves of the documents show a direction too much by chance.
    """
    topics = bars()[:number]
    counts = drawn(topics, 5000, seed=seed)
    found = LDA(num_topics=number, refine_iterations=0, seed=seed).fit(counts)
    assert apart(found.beta_, topics).mean() < 0.05
    np.testing.assert_allclose(found.alpha_, 1 / number, rtol=0.1)
    assert found.alpha_.sum() == pytest.approx(1)


def test_topics_that_share_no_eigenvalue_gap_do_not_fall_together() -> None:
    topics = np.random.default_rng(5).dirichlet(np.full(400, 0.05), 15)
    found = LDA(num_topics=15, refine_iterations=0).fit(drawn(topics, 3000))
    assert apart(found.beta_, topics).max() < 0.3, "a topic that is missed is 1.8 apart"


def test_refinement_brings_few_documents_nearer(corpus: np.ndarray, model: LDA) -> None:
    plain = LDA(num_topics=10, refine_iterations=0).fit(corpus)
    assert apart(model.beta_, bars()).mean() < 0.6 * apart(plain.beta_, bars()).mean()
    held_out = drawn(bars(), 200, 100, seed=9)
    assert model.score(held_out) > plain.score(held_out)


def test_refinement_that_does_not_help_is_dropped() -> None:
    counts = drawn(bars()[:5], 5000)
    run = RecordingRun()
    plain = LDA(num_topics=5, refine_iterations=0).fit(counts)
    # one turn from the best topics there are: what it learns from 5,000 documents is no better
    same = LDA(num_topics=5, refine_iterations=1).fit(counts, run=run)
    said = "\n".join(run.lines)
    kept = "the topics of the spectral method are kept" in said
    assert kept or "the refined topics are kept" in said
    assert np.array_equal(same.beta_, plain.beta_) == kept


def test_topics_that_the_moments_do_not_show_begin_as_documents_that_are_not_held_out() -> None:
    """Held out, they would tell themselves best, and any refinement would seem to be for the worse."""
    counts = np.concatenate([np.random.default_rng(0).poisson(0.5, (60, 20)), 9 * np.eye(60)], axis=1)
    plan = Plan(topics=40, alpha0=1.0, restarts=1, iterations=50, tol=1e-8)
    found = spectral.found(sparse.csr_matrix(counts), plan, np.random.default_rng(0), Run(1), 50)
    own_terms = found.topics.beta[:, 20:]
    assert found.shown < 40
    assert own_terms[:, :50].max() > 0.2
    assert own_terms[:, 50:].max() < 0.02


@pytest.fixture(scope="module")
def bursts() -> tuple[np.ndarray, np.ndarray]:
    """Topics (10, 300) and counts of 800 documents, each with topics of its own about these: moments lead astray."""
    topics = np.random.default_rng(1).dirichlet(np.full(300, 0.05), 10)
    random, rows = np.random.default_rng(0), []
    for _ in range(800):
        mixture = random.dirichlet(np.full(10, 0.2))
        own = np.array([random.dirichlet(25 * topic + 1e-3) for topic in topics])
        rows.append(random.multinomial(60, mixture @ own))
    return topics, np.array(rows, np.float32)


def test_it_begins_again_from_chance_where_the_moments_lead_astray(bursts: tuple[np.ndarray, np.ndarray]) -> None:
    topics, counts = bursts
    runs = [RecordingRun(), RecordingRun()]
    runs[1].threads = 3
    found, again = (LDA(num_topics=10, max_restarts=2).fit(counts, run=run) for run in runs)
    assert any(line.endswith("it begins again from chance") for line in runs[0].lines)
    assert any(line.startswith("Sampling: NPMI from ") for line in runs[0].lines)
    plain = LDA(num_topics=10, max_restarts=2, refine_iterations=0).fit(counts)
    assert apart(found.beta_, topics).mean() < 0.5 * apart(plain.beta_, topics).mean()
    assert apart(found.beta_, topics).max() < 0.5, "a topic that is missed is 1.8 apart"
    np.testing.assert_array_equal(found.beta_, again.beta_)


@pytest.mark.parametrize("scale", [1, 0.3, 100], ids=["words", "fractions", "large"])
def test_sampling_counts_every_word_once(scale: float) -> None:
    topics = Topics(np.full(5, 0.2), bars()[:5] * 0.9 + 0.1 / 25)
    counts = sparse.csr_matrix(drawn(bars()[:5], 300) * np.float32(scale))
    sampler = Sampler(counts, topics, 0.01, np.random.default_rng(0))
    sampler.begin(200)
    words = sampler.mean(0, 200, 6, 3)
    np.testing.assert_allclose(words.sum(axis=1), np.asarray(counts[:200].sum(axis=0))[0], rtol=1e-3)
    np.testing.assert_allclose(
        sampler.mixtures(200, 1).sum(axis=1), np.asarray(counts[:200].sum(axis=1))[:, 0], rtol=1e-3
    )
    assert apart(sampler.topics(words + sampler.mean(200, 300, 3, 3)).beta, bars()[:5]).max() < 0.1


def test_coherence_is_npmi_of_the_likeliest_terms() -> None:
    counts = sparse.csr_matrix(np.array([[1, 2, 0, 0], [3, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
    together, never = np.array([[4, 3, 2, 1.0], [1, 0.5, 9, 8]])
    assert npmi(together[None], counts, 2).tolist() == pytest.approx([1.0])
    assert npmi(never[None], counts, 2).tolist() == [-1.0]
    first = np.log(0.5 / 0.25) / -np.log(0.5)
    assert npmi(together[None], counts, 3).tolist() == pytest.approx([(first - 2) / 3])


def test_mixtures_are_at_the_maximum(corpus: np.ndarray, model: LDA) -> None:
    """Against scipy's optimiser of the likelihood and prior over the simplex."""
    row = corpus[3]

    def loss(logits: np.ndarray) -> float:
        mixture = np.exp(logits - logits.max())
        mixture /= mixture.sum()
        likelihood = row[row > 0] @ np.log(mixture @ model.beta_[:, row > 0])
        return -float(likelihood + model.alpha_ @ np.log(np.maximum(mixture, 1e-300)))

    best = minimize(loss, np.zeros(10), method="BFGS", options={"gtol": 1e-6}).x
    expected = np.exp(best - best.max())
    found = model.transform(row[None])[0]
    np.testing.assert_allclose(found, expected / expected.sum(), atol=2e-3)
    assert loss(np.log(found)) <= loss(best) + 1e-3
    assert found.sum() == pytest.approx(1)


def test_the_score_is_the_likelihood_per_word(corpus: np.ndarray, model: LDA) -> None:
    rows = corpus[:50]
    chances = model.transform(rows) @ model.beta_
    expected = (rows * np.log(np.where(rows > 0, chances, 1))).sum() / rows.sum()
    assert model.score(rows) == pytest.approx(expected, rel=1e-5)


def test_an_empty_document_has_the_priors_mixture(model: LDA) -> None:
    np.testing.assert_allclose(model.transform(np.zeros((1, 25)))[0], model.alpha_ / model.alpha_.sum(), rtol=1e-6)


def test_threads_change_nothing(corpus: np.ndarray) -> None:
    one, other = (LDA(num_topics=6, refine_iterations=20).fit(corpus, run=Run(threads)) for threads in (1, 3))
    np.testing.assert_array_equal(one.beta_, other.beta_)
    np.testing.assert_array_equal(one.alpha_, other.alpha_)


def test_the_seed_is_what_is_drawn(corpus: np.ndarray) -> None:
    models = [LDA(num_topics=12, refine_iterations=20, seed=seed).fit(corpus[:200]) for seed in (0, 0, 1)]
    assert np.array_equal(models[0].beta_, models[1].beta_)
    assert not np.array_equal(models[0].beta_, models[2].beta_)


def test_more_topics_than_there_are_still_come(corpus: np.ndarray) -> None:
    found = LDA(num_topics=40, refine_iterations=0).fit(corpus[:300])
    assert found.beta_.shape == (40, 25)
    np.testing.assert_allclose(found.beta_.sum(axis=1), 1)
    assert (found.beta_ > 0).all()


@pytest.mark.parametrize("topics", [1, 2])
def test_one_topic_is_the_mean_document(topics: int) -> None:
    counts = np.random.default_rng(0).poisson(2, (200, 7)).astype(float) + np.eye(200, 7)
    found = LDA(num_topics=topics, refine_iterations=0).fit(counts)
    mean = (counts / counts.sum(axis=1, keepdims=True)).mean(axis=0)
    np.testing.assert_allclose((found.alpha_ / found.alpha_.sum()) @ found.beta_, mean, atol=0.05)


def test_a_stopped_run_leaves_a_model(corpus: np.ndarray) -> None:
    class Stopped(Run):
        stopping = True

    found = LDA(num_topics=10).fit(corpus, run=Stopped(1))
    np.testing.assert_allclose(found.beta_.sum(axis=1), 1)


def test_documents_without_words_and_other_numbers_of_documents_are_told(corpus: np.ndarray) -> None:
    run = RecordingRun()
    counts = np.concatenate([corpus[:100], np.zeros((3, 25))])
    found = LDA(num_topics=3, mini_batch_size=100).fit(counts, run=run)
    said = "\n".join(run.lines)
    assert "3 documents without a word are passed over" in said
    assert "mini_batch_size is 100, but there are 103 documents: all are used" in said
    np.testing.assert_array_equal(found.beta_, LDA(num_topics=3).fit(corpus[:100]).beta_)


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ([[1, 2, 3], [0, -1, 2]], "row 1, column 1 is -1; counts are 0 or more"),
        ([[0, 0, 0], [0, 0, 0]], "holds no words"),
        ([[1, 1, 0], [0, 2, 0]], "no document has 3 words or more"),
    ],
)
def test_what_are_no_documents_is_refused(counts: list[list[float]], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        LDA(num_topics=2).fit(np.array(counts, float))
    with pytest.raises(ValueError, match=words):
        LDA(num_topics=2).fit(sparse.csr_matrix(np.array(counts, float)))


@pytest.mark.parametrize(
    ("test", "words"),
    [
        (np.zeros((3, 25)), "channel 'test' holds no words: all counts are 0"),
        (-np.eye(3, 25), "channel 'test': row 0, column 0 is -1"),
        (np.ones((3, 24)), "24 columns"),
    ],
)
def test_a_bad_test_channel_costs_no_training(corpus: np.ndarray, test: np.ndarray, words: str) -> None:
    run = RecordingRun()
    with pytest.raises(ValueError, match=words):
        LDA(num_topics=2).fit(corpus, test=test, run=run)
    assert not any("Spectral method" in line for line in run.lines)


def test_more_topics_than_words_are_refused() -> None:
    with pytest.raises(ValueError, match="num_topics is 100000000: more than channel 'train' holds words"):
        LDA(num_topics=10**8).fit(np.full((4, 5), 3))


@pytest.mark.parametrize("alpha0", [1e-100, 1e9])
def test_any_prior_gives_topics(corpus: np.ndarray, alpha0: float) -> None:
    model = LDA(num_topics=2, alpha0=alpha0, refine_iterations=5).fit(corpus)
    assert np.isfinite(model.transform(corpus)).all()
    assert np.isfinite(model.score(corpus))


def test_a_request_below_zero_is_refused(model: LDA) -> None:
    with pytest.raises(DataError, match="the request: row 0, column 4 is -2; counts are 0 or more"):
        model.transform(-2 * np.eye(25)[4:5])


def test_weights_are_refused(corpus: np.ndarray) -> None:
    with pytest.raises(TypeError, match="sample_weight"):
        LDA(num_topics=2).fit(corpus, sample_weight=np.ones(len(corpus)))


def test_private_keys_have_no_effect_and_say_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "sagesmith.algorithms"):
        found = LDA.from_strings({"num_topics": "3", "feature_dim": "7", "mini_batch_size": "9", "_anything": "1"})
    assert found.num_topics == 3
    assert "Hyperparameter _anything is taken for compatibility and has no effect" in caplog.text
    with pytest.raises(HyperparameterError, match="'anything' was unexpected"):
        LDA.from_strings({"num_topics": "3", "anything": "1"})


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.lists(st.sampled_from([0, 0, 1, 2, 0.5, 900]), min_size=4, max_size=4), min_size=1, max_size=12),
    topics=st.integers(1, 6),
    alpha0=st.sampled_from([0.01, 1.0, 50.0]),
    refine=st.sampled_from([0, 12]),
)
def test_any_counts_give_topics_or_an_error(rows: list[list[float]], topics: int, alpha0: float, refine: int) -> None:
    counts = np.array(rows, float)
    model = LDA(num_topics=topics, alpha0=alpha0, refine_iterations=refine, max_iterations=30)
    if counts.sum(axis=1).max() < 3 or counts.sum() < topics:
        with pytest.raises(ValueError, match="words"):
            model.fit(counts)
        return
    model.fit(counts)
    assert model.beta_.shape == (topics, 4)
    np.testing.assert_allclose(model.beta_.sum(axis=1), 1)
    assert np.isfinite(model.alpha_).all()
    assert (model.alpha_ > 0).all()
    mixtures = model.transform(counts)
    np.testing.assert_allclose(mixtures.sum(axis=1), 1, rtol=1e-6)
    assert np.isfinite(model.score(counts))
