"""Thresholds: against a search over all of them, and what each criterion promises on rows that nobody has seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference
from sklearn.linear_model import LogisticRegression

from sagesmith.algorithms import LinearLearner
from sagesmith.algorithms.linear_learner.calibration import calibrated
from sagesmith.algorithms.linear_learner.metrics import roc_auc

CRITERIA = ("accuracy", "f_beta", "f1", "precision_at_target_recall", "recall_at_target_precision")


def given_settings(criterion: str, **more: Any) -> dict[str, Any]:
    values = {"f_beta": 2.0, "target_recall": 0.7, "target_precision": 0.7} | more
    return {"binary_classifier_model_selection_criteria": criterion, **values}


def reached(called: np.ndarray, positive: np.ndarray, chosen: dict[str, Any]) -> float:
    """The criterion by scikit-learn; where its constraint is missed, how far, below all values that keep it."""
    criterion = chosen["binary_classifier_model_selection_criteria"]
    if criterion == "accuracy":
        return float((called == positive).mean())
    beta = 1.0 if criterion == "f1" else chosen["f_beta"]
    if criterion in ("f1", "f_beta"):
        return float(reference.fbeta_score(positive, called, beta=beta, zero_division=0))
    precision = reference.precision_score(positive, called, zero_division=0)
    recall = reference.recall_score(positive, called, zero_division=0)
    if criterion == "precision_at_target_recall":
        return float(precision if recall >= chosen["target_recall"] else recall - 2)
    return float(recall if precision >= chosen["target_precision"] else precision - 2)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=1, max_size=25),
    st.sampled_from(CRITERIA),
)
def test_no_threshold_does_better(rows: list[tuple[int, bool]], criterion: str) -> None:
    margin = np.array([m for m, _ in rows], np.float32)
    positive = np.array([p for _, p in rows])
    chosen = given_settings(criterion)
    found = calibrated(margin, positive, chosen)
    candidates = [-np.inf, *(np.unique(margin) + 0.25), np.inf]
    best = max(reached(margin > threshold, positive, chosen) for threshold in candidates)
    assert reached(margin > found.threshold, positive, chosen) == pytest.approx(best)
    assert found.value == pytest.approx(best)


def test_the_threshold_lies_between_rows() -> None:
    found = calibrated(np.array([-3, -1, 2, 4], np.float32), np.array([False, False, True, True]), given_settings("f1"))
    assert (found.threshold, found.value) == (0.5, 1.0)


@pytest.fixture(scope="module")
def rare() -> tuple[np.ndarray, np.ndarray]:
    """One row in ten is positive, and the classes overlap."""
    random = np.random.default_rng(2)
    X = random.normal(size=(30_000, 6)).astype(np.float32)
    chance = 1 / (1 + np.exp(3.2 - X @ np.array([1.5, -1, 0.5, 1, 0, 0])))
    return X, (random.random(30_000) < chance).astype(np.float32)


def fitted(rare: Any, validation: bool = True, **settings: Any) -> tuple[np.ndarray, np.ndarray, LinearLearner]:
    """Labels and decisions on the last 10,000 rows of a model that saw the others."""
    X, y = rare
    held = {"validation": (X[10_000:20_000], y[10_000:20_000])} if validation else {}
    model = LinearLearner(predictor_type="binary_classifier", epochs=4, mini_batch_size=200, num_models=4, **settings)
    model.fit(X[:10_000], y[:10_000], **held)
    return y[20_000:], model.predict(X[20_000:]), model


@pytest.mark.parametrize("validation", [True, False])
@pytest.mark.parametrize("loss", ["logistic", "hinge_loss"])
def test_criteria_hold_on_held_out_rows(rare: Any, validation: bool, loss: str) -> None:
    results = {}
    for criterion in CRITERIA:
        y, called, _ = fitted(rare, validation, loss=loss, **given_settings(criterion))
        results[criterion] = (
            (y == called).mean(), reference.f1_score(y, called), reference.fbeta_score(y, called, beta=2),
            reference.recall_score(y, called), reference.precision_score(y, called),
        )  # fmt: skip
    assert results["precision_at_target_recall"][3] == pytest.approx(0.7, abs=0.04)
    assert results["recall_at_target_precision"][4] == pytest.approx(0.7, abs=0.06)
    for index, criterion in enumerate(("accuracy", "f1", "f_beta")):
        assert results[criterion][index] >= max(values[index] for values in results.values()) - 0.01, criterion


@pytest.mark.parametrize("criterion", ["loss_function", "cross_entropy_loss"])
def test_selection_by_loss_leaves_the_threshold_in_the_middle(rare: Any, criterion: str) -> None:
    _, called, model = fitted(rare, binary_classifier_model_selection_criteria=criterion)
    assert model.threshold == 0.5
    assert np.array_equal(called, (model.predict_proba(rare[0][20_000:])[:, 1] > 0.5).astype(int))


def test_positive_weights_shift_the_scores(rare: Any) -> None:
    chosen = {"binary_classifier_model_selection_criteria": "loss_function"}
    shares = []
    for mult in (1.0, "balanced", 100.0):
        _, _, model = fitted(rare, positive_example_weight_mult=mult, **chosen)
        shares.append(model.predict_proba(rare[0])[:, 1].mean())
    peer = LogisticRegression(class_weight="balanced").fit(rare[0][:10_000], rare[1][:10_000])
    assert shares[0] == pytest.approx(rare[1].mean(), abs=0.01)
    assert shares[1] == pytest.approx(peer.predict_proba(rare[0])[:, 1].mean(), abs=0.01)
    assert shares[2] > shares[1] > shares[0]


def test_auto_tries_weights_and_keeps_a_good_one(rare: Any) -> None:
    y, called, _ = fitted(rare, positive_example_weight_mult="auto", **given_settings("f1"))
    plain_y, plain, _ = fitted(rare, **given_settings("f1"))
    assert reference.f1_score(y, called) >= reference.f1_score(plain_y, plain) - 0.01


def test_a_class_that_does_not_occur_cannot_be_balanced() -> None:
    from sagesmith.formats.channel import Channel
    from sagesmith.formats.errors import DataError

    rows = Channel.of("train", np.ones((4, 2), np.float32), np.zeros(4, np.float32))
    with pytest.raises(DataError, match="balanced needs rows of both classes"):
        LinearLearner(predictor_type="binary_classifier", positive_example_weight_mult="balanced").fit(rows)


def test_roc_auc_is_scikit_learns() -> None:
    random = np.random.default_rng(0)
    margin, truth = random.integers(0, 20, 500).astype(np.float32), random.integers(0, 2, 500)
    assert roc_auc(margin, truth > 0) == pytest.approx(reference.roc_auc_score(truth, margin))
