"""Cross-validation: a model per fold, the fold's own metrics, predictions.csv."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from sagesmith.algorithms import XGBoost
from sagesmith.formats.errors import DataError


def test_folds_leave_models_predictions_and_means(cancer, job, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    X, y = cancer
    model = XGBoost(objective="binary:logistic", num_round=5, kfold=4, num_cv_round=2, eval_metric="error,f1")
    model.fit(X[:400], y[:400], validation=(X[400:], y[400:]), run=job)
    model.save(tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [f"xgboost-model-{n}" for n in range(8)]
    written = np.loadtxt(tmp_path / "output" / "predictions.csv", delimiter=",")
    assert written.shape == (len(y), 3)
    assert np.array_equal(written[:, 0], y)
    assert np.array_equal(written[:, 2], written[:, 1] > 0.5) or (written[:, 2] == y).mean() > 0.9
    reports = [line for line in job.rounds if line.startswith("[5]")]
    assert len(reports) == 3
    held_out = float(re.search(r"validation-error:(\S+)", reports[0])[1])  # type: ignore[index]
    on_train = float(re.search(r"train-error:(\S+)", reports[0])[1])  # type: ignore[index]
    assert 0.01 < held_out < 0.15
    assert on_train < held_out
    parts = [XGBoost.load(tmp_path / "model").ensemble_.boosters[n].num_boosted_rounds() for n in range(8)]
    assert parts == [5] * 8
    assert (tmp_path / "checkpoints" / "model-7" / "xgboost-checkpoint.4").exists()


def test_classes_are_spread_over_folds(wine, job) -> None:  # type: ignore[no-untyped-def]
    X, y = wine
    XGBoost(objective="multi:softprob", num_class=3, num_round=2, kfold=5).fit(X, y, run=job)
    written = np.loadtxt(job.output / "predictions.csv", delimiter=",")
    assert (written[:, 2] == y).mean() > 0.85
    assert (written[:, 1] > 1 / 3).all()


def test_regression_folds(diabetes, job) -> None:  # type: ignore[no-untyped-def]
    X, y = diabetes
    model = XGBoost(num_round=10, eta=0.3, max_depth=2, kfold=3).fit(X, y, run=job)
    written = np.loadtxt(job.output / "predictions.csv", delimiter=",")
    assert written.shape == (len(y), 2)
    assert np.corrcoef(written.T)[0, 1] > 0.5
    each = [type(model.ensemble_)([booster]).predict(X) for booster in model.ensemble_.boosters]
    assert np.allclose(model.predict(X), np.mean(each, axis=0))


def test_more_folds_than_rows_is_refused(diabetes) -> None:  # type: ignore[no-untyped-def]
    X, y = diabetes
    with pytest.raises(DataError, match="_kfold=5 greater than the number of rows 4"):
        XGBoost(num_round=1, kfold=5).fit(X[:4], y[:4])
