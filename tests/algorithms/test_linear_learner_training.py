"""Linear Learner against independent results: optima, scikit-learn's quality on real data, scaling, sparse rows."""

from __future__ import annotations

import gzip
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import optimize, sparse
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from sagesmith.algorithms import LinearLearner
from sagesmith.algorithms.linear_learner import losses
from sagesmith.algorithms.linear_learner.grid import Model
from sagesmith.algorithms.linear_learner.metrics import roc_auc
from sagesmith.algorithms.linear_learner.optimizers import Optimizer
from sagesmith.algorithms.run import Run
from sagesmith.formats.batch import Batch
from sagesmith.formats.channel import Channel
from sagesmith.testing.check_algorithm import RecordingRun
from tests.algorithms.test_examples import EXAMPLES

BINARY, REGRESSOR, MULTICLASS = "binary_classifier", "regressor", "multiclass_classifier"


def margin(model: LinearLearner, X: np.ndarray) -> np.ndarray:
    return np.asarray(X, np.float64) @ model.weight_ + model.bias_


def plain_loss(name: str, parameter: float, z: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The losses as their definitions read, in float64; z (n, outputs)."""
    if name == "softmax_loss":
        return np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(z)), y.astype(int)]
    r = z[:, 0] - y
    if name == "logistic":
        return np.log1p(np.exp(z[:, 0])) - y * z[:, 0]
    if name == "hinge_loss":
        return np.maximum(0, parameter - (2 * y - 1) * z[:, 0])
    over = np.maximum(0, np.abs(r) - parameter)
    return {
        "squared_loss": r**2,
        "absolute_loss": np.abs(r),
        "eps_insensitive_squared_loss": over**2,
        "eps_insensitive_absolute_loss": over,
        "quantile_loss": np.where(r < 0, -parameter * r, (1 - parameter) * r),
        "huber_loss": np.where(np.abs(r) <= parameter, r**2 / 2, parameter * (np.abs(r) - parameter / 2)),
    }[name]


@pytest.mark.parametrize("name", losses.LOSSES)
def test_losses_and_their_gradients_are_those_of_the_definitions(name: str) -> None:
    loss, random = losses.LOSSES[name], np.random.default_rng(3)
    models, outputs, parameter = 5, 4 if name == "softmax_loss" else 1, 0.3
    z = random.normal(scale=3, size=(40, models * outputs)).astype(np.float32)
    classes = {REGRESSOR: None, BINARY: 2, MULTICLASS: outputs}[loss.predictor]
    y = (random.normal(size=40) if classes is None else random.integers(0, classes, 40)).astype(np.float32)
    weight = random.uniform(0.5, 2, 40).astype(np.float32)
    up = np.linspace(1, 3, models).astype(np.float32)
    total, slopes = np.zeros(models), z.copy()
    losses.gradient(loss, parameter, slopes, y, weight, up, total)
    for model in range(models):
        part = slice(model * outputs, (model + 1) * outputs)
        own, each = z[:, part].astype(float), weight.astype(float)
        if loss.predictor == BINARY:
            each = each * np.where(y > 0, up[model], 1)
        assert total[model] == pytest.approx((each * plain_loss(name, parameter, own, y)).sum(), rel=2e-5)
        for output in range(outputs):
            step = np.zeros(outputs)
            step[output] = 1e-5
            rise = plain_loss(name, parameter, own + step, y) - plain_loss(name, parameter, own - step, y)
            assert slopes[:, part][:, output] == pytest.approx(each * rise / 2e-5, abs=2e-4)


def test_extreme_outputs_give_finite_losses() -> None:
    z = np.array([[1e4, -1e4, 0, 90, -90]], np.float32)
    total = np.zeros(5)
    losses.gradient(
        losses.LOSSES["logistic"], 0, z, np.ones(1, np.float32), np.ones(1, np.float32), np.ones(5, "f"), total
    )
    assert total == pytest.approx([0, 1e4, np.log(2), 0, 90], abs=1e-6)
    assert z[0] == pytest.approx([0, -1, -0.5, 0, -1], abs=1e-6)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "rmsprop", "adagrad"])
def test_every_optimizer_reaches_the_penalised_optimum(optimizer: str, cancer: Any) -> None:
    X, y = cancer
    X = StandardScaler().fit_transform(X[:, [0, 1, 4, 5, 8, 9, 11, 14]]).astype(np.float32)
    rate = {"sgd": 0.5, "adam": 0.05, "rmsprop": 0.05, "adagrad": 0.5}[optimizer]
    settings = LinearLearner(predictor_type=BINARY, optimizer=optimizer, bias_lr_mult=1.0).settings
    models = [Model(rate, 0.01, 0.05, 20, 0.96, 1e-6)] * 2
    weights = np.zeros((9, 2), np.float32)
    engine = Optimizer(settings, models, weights)
    rows = np.column_stack([X, np.ones(len(X), np.float32)])
    for _ in range(2500):
        z, one = rows @ weights, np.ones(len(X), np.float32)
        losses.gradient(losses.LOSSES["logistic"], 0, z, y, one, np.ones(2, np.float32), np.zeros(2))
        engine.step(rows.T @ z, np.arange(9), len(X))

    def objective(parts: np.ndarray) -> float:
        w, b = parts[:8] - parts[8:16], parts[16]
        return float(
            plain_loss("logistic", 0, (X @ w + b)[:, None], y).mean() + 0.025 * w @ w + 0.01 * parts[:16].sum()
        )

    best = optimize.minimize(objective, np.zeros(17), bounds=[(0, None)] * 16 + [(None, None)]).x
    assert weights[:8, 1] == pytest.approx(best[:8] - best[8:16], abs=2e-3)
    assert weights[8, 1] == pytest.approx(best[16], abs=2e-3)


# At least as good as scikit-learn on four real data sets. A mean loss with weight decay 1 / n is the objective of
# LogisticRegression with C = 1; a tolerance far below the default lets training go on until nothing is won.


def test_adult_is_ranked_at_least_as_well_as_by_logistic_regression() -> None:
    data = Path(__file__).parents[2] / "sagesmith" / "examples_data"
    train, test = (Channel.from_folder(n, data / f"adult-{n}.csv.gz", "text/csv").read() for n in ("train", "test"))
    mean = np.nanmean(train.features, axis=0)
    train, test = (Batch(np.where(np.isnan(b.features), mean, b.features), b.label) for b in (train, test))
    model = LinearLearner(
        predictor_type=BINARY,
        binary_classifier_model_selection_criteria="cross_entropy_loss",
        mini_batch_size=200,
        epochs=40,
        early_stopping_tolerance=1e-6,
        wd=1 / len(train),
        l1=0.0,
    )
    model.fit(train.features, train.label)
    scaler = StandardScaler().fit(train.features)
    peer = LogisticRegression(max_iter=1000).fit(scaler.transform(train.features), train.label)
    theirs = roc_auc(peer.decision_function(scaler.transform(test.features)), test.label > 0)
    assert roc_auc(margin(model, test.features)[:, 0], test.label > 0) >= theirs


def test_breast_cancer_is_told_at_least_as_well_as_by_logistic_regression(cancer: Any) -> None:
    X, y = cancer
    mine, theirs = 0, 0
    for fold in range(5):
        held = np.arange(len(y)) % 5 == fold
        model = LinearLearner(
            predictor_type=BINARY,
            binary_classifier_model_selection_criteria="cross_entropy_loss",
            num_models=1,
            mini_batch_size=50,
            learning_rate=0.01,
            epochs=100,
            early_stopping_tolerance=1e-6,
            wd=1 / (~held).sum(),
            l1=0.0,
        )
        mine += (model.fit(X[~held], y[~held]).predict(X[held]) == y[held]).sum()
        scaler = StandardScaler().fit(X[~held])
        peer = LogisticRegression(max_iter=1000).fit(scaler.transform(X[~held]), y[~held])
        theirs += (peer.predict(scaler.transform(X[held])) == y[held]).sum()
    assert mine >= theirs


def test_letters_are_read_at_least_as_well_as_by_logistic_regression() -> None:
    with gzip.open(EXAMPLES / "data" / "letter-recognition.tsv.gz", "rt") as file:
        table = np.array([line.rstrip("\n").split("\t") for line in file][1:])
    X, y = table[:, :-1].astype(np.float32), table[:, -1]
    model = LinearLearner(
        predictor_type=MULTICLASS, mini_batch_size=200, epochs=40, num_models=4, early_stopping_tolerance=1e-4
    )
    model.fit(X[:16000], y[:16000])
    scaler = StandardScaler().fit(X[:16000])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = LogisticRegression(max_iter=100, C=10).fit(scaler.transform(X[:16000]), y[:16000])
    assert model.score(X[16000:], y[16000:]) >= peer.score(scaler.transform(X[16000:]), y[16000:])


def test_diabetes_is_predicted_at_least_as_well_as_by_ridge(diabetes: Any) -> None:
    """Five folds; Ridge with the best of its penalties, ours with both kinds of penalty."""
    X, y = diabetes
    theirs, mine = dict.fromkeys((1.0, 0.1, 0.01, 0.001), 0.0), 0.0
    for fold in range(5):
        held = np.arange(len(y)) % 5 == fold
        model = LinearLearner(predictor_type=REGRESSOR, mini_batch_size=50, epochs=60, wd=0.02, l1=0.05)
        mine += ((model.fit(X[~held], y[~held]).predict(X[held]) - y[held]) ** 2).mean()
        for alpha in theirs:
            theirs[alpha] += ((Ridge(alpha=alpha).fit(X[~held], y[~held]).predict(X[held]) - y[held]) ** 2).mean()
    assert mine <= min(theirs.values())


def test_means_far_above_the_deviations_do_no_harm() -> None:
    random = np.random.default_rng(0)
    X = random.normal(size=(2000, 3))
    y = (X @ [2, -1, 0.5] + 0.1 * random.normal(size=2000)).astype(np.float32)
    far = (X * [1, 10, 100] + [1e4, -1e5, 1e6]).astype(np.float32)
    model = LinearLearner(predictor_type=REGRESSOR, mini_batch_size=100, epochs=40).fit(far, y)
    assert model.score(far, y) > 0.995


def test_quantiles_have_the_share_of_labels_below_them() -> None:
    random = np.random.default_rng(0)
    X = random.normal(size=(4000, 4)).astype(np.float32)
    y = (X.sum(axis=1) + random.standard_t(3, 4000)).astype(np.float32)
    for quantile in (0.1, 0.5, 0.9):
        model = LinearLearner(
            predictor_type=REGRESSOR, loss="quantile_loss", quantile=quantile, epochs=25, mini_batch_size=100
        )
        below = (y[2000:] < model.fit(X[:2000], y[:2000]).predict(X[2000:])).mean()
        assert below == pytest.approx(quantile, abs=0.03)


def test_sparse_rows_learn_what_dense_ones_do() -> None:
    X, y = load_digits(return_X_y=True)
    settings = {"predictor_type": MULTICLASS, "epochs": 3, "mini_batch_size": 100, "num_models": 4}
    dense = LinearLearner(**settings).fit(X, y)
    rows = LinearLearner(**settings).fit(sparse.csr_matrix(X), y)
    assert rows.weight_ == pytest.approx(dense.weight_, abs=2e-3)
    assert (rows.predict(X) == dense.predict(sparse.csr_matrix(X))).mean() > 0.999


@pytest.mark.parametrize("settings", [{"predictor_type": BINARY}, {"predictor_type": MULTICLASS}])
def test_wide_products_learn_what_tiles_do(
    settings: dict[str, Any], wine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = wine
    y = y if settings["predictor_type"] == MULTICLASS else np.minimum(y, 1)
    settings = settings | {"epochs": 3, "mini_batch_size": 40, "num_models": 5}
    tiles = LinearLearner(**settings).fit(X, y)
    for module in ("network", "blocks"):
        monkeypatch.setattr(f"sagesmith.algorithms.linear_learner.{module}.FUSED", 0)
    wide = LinearLearner(**settings).fit(X, y)
    assert wide.weight_ == pytest.approx(tiles.weight_, rel=1e-3, abs=1e-4)
    assert np.array_equal(wide.predict(X), tiles.predict(X))


def test_a_million_sparse_columns_are_learnt_lazily() -> None:
    random = np.random.default_rng(0)
    keys = random.integers(0, 1_000_000, (3000, 20))
    keys[:, 0] = random.integers(0, 2, 3000) * 999_999
    X = sparse.csr_matrix(
        (np.ones(60_000, np.float32), keys.ravel(), np.arange(0, 60_001, 20)), shape=(3000, 1_000_000)
    )
    y = (keys[:, 0] > 0).astype(np.float32)
    run = RecordingRun()
    model = LinearLearner(predictor_type=BINARY, epochs=4, mini_batch_size=200, num_models=2, learning_rate=0.05)
    assert model.fit(X, y, run=run).score(X, y) > 0.99
    assert any("updates are lazy" in line for line in run.lines)


def test_equal_data_give_equal_models_whatever_the_threads(cancer: Any) -> None:
    X, y = cancer
    first, second = (LinearLearner(**LinearLearner.example).fit(X, y, run=Run(threads)) for threads in (1, 2))
    assert np.array_equal(first.weight_, second.weight_)
    assert first.threshold == second.threshold


@pytest.mark.parametrize(
    "settings",
    [{"predictor_type": BINARY}, {"predictor_type": MULTICLASS}, {"predictor_type": REGRESSOR},
     {"predictor_type": BINARY, "loss": "hinge_loss"}],
    ids=["binary", "multiclass", "regressor", "hinge"],
)  # fmt: skip
def test_scikit_learns_own_checks_hold(settings: dict[str, Any]) -> None:
    estimator = LinearLearner(mini_batch_size=10, epochs=20, num_models=8, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its checks provoke warnings on purpose
        results = check_estimator(estimator, on_fail=None, on_skip=None)
    failed = {result["check_name"]: result["exception"] for result in results if result["status"] == "failed"}
    assert set(failed) <= set(LinearLearner.exceptions), failed
    assert sum(result["status"] == "passed" for result in results) > 50
