"""How good the clusters are, beside scikit-learn's KMeans(n_init=10) on real data; what each hyperparameter does."""

from __future__ import annotations

import gzip
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from sklearn import cluster
from sklearn.utils.estimator_checks import check_estimator

import sagesmith
from sagesmith.algorithms import KMeans
from sagesmith.algorithms.base import HyperparameterError
from sagesmith.testing.check_algorithm import RecordingRun

ROOT = Path(__file__).parents[2]


def letters() -> np.ndarray:
    """8,000 letters by 16 features of 0 to 15."""
    with gzip.open(ROOT / "examples" / "data" / "letter-recognition.tsv.gz", "rt") as file:
        table = np.loadtxt(file, delimiter="\t", skiprows=1, usecols=range(16), max_rows=8000)
    return table.astype(np.float32)


def adults() -> np.ndarray:
    """8,000 people by six numbers, each with mean 0 and variance 1."""
    with gzip.open(Path(sagesmith.__file__).parent / "examples_data" / "adult-train.csv.gz", "rt") as file:
        table = np.loadtxt(file, delimiter=",", usecols=range(1, 7), max_rows=8000)
    return ((table - table.mean(axis=0)) / table.std(axis=0)).astype(np.float32)


@pytest.fixture(scope="module", params=[(letters, 26), (adults, 10)], ids=["letters", "adults"])
def real(request: pytest.FixtureRequest) -> tuple[np.ndarray, int, float]:
    """Rows, k, and the sum of squared distances that scikit-learn reaches."""
    load, k = request.param
    X = load()
    return X, k, float(cluster.KMeans(k, n_init=10, random_state=0).fit(X).inertia_)


def ssd(model: KMeans, X: np.ndarray) -> float:
    """Independently of the model: in double precision, from the centers alone."""
    centers = model.cluster_centers_.astype(np.float64)
    return float(sum(((row - centers) ** 2).sum(axis=1).min() for row in X.astype(np.float64)))


@pytest.mark.parametrize("init_method", ["random", "kmeans++"])
@pytest.mark.parametrize(("epochs", "most"), [(1, 1.05), (3, 1.02)])
def test_the_distance_is_near_scikit_learns(
    real: tuple[np.ndarray, int, float], epochs: int, most: float, init_method: str
) -> None:
    X, k, best = real
    model = KMeans(k=k, epochs=epochs, init_method=init_method, mini_batch_size=1000).fit(X)
    assert ssd(model, X) <= most * best
    assert model.inertia_ == pytest.approx(ssd(model, X), rel=1e-5)


def test_sparse_rows_are_clustered_as_well(real: tuple[np.ndarray, int, float]) -> None:
    X, k, best = real
    model = KMeans(k=k, mini_batch_size=1000, init_method="kmeans++").fit(sparse.csr_matrix(X))
    assert ssd(model, X) <= 1.05 * best


@pytest.fixture(scope="module")
def blobs() -> np.ndarray:
    """Four clouds in the plane, 250 rows each, one after the other."""
    random = np.random.default_rng(5)
    places = np.array([[0, 0], [10, 0], [0, 10], [10, 10]])
    return np.concatenate([place + random.normal(size=(250, 2)) for place in places]).astype(np.float32)


def fitted(X: np.ndarray, **settings: Any) -> tuple[KMeans, list[str]]:
    run = RecordingRun()
    return KMeans(**{"k": 4, "mini_batch_size": 100, **settings}).fit(X, run=run), run.lines


@pytest.mark.parametrize("method", ["random", "kmeans++"])
def test_sorted_rows_are_no_trouble_with_a_second_pass_or_a_large_batch(blobs: np.ndarray, method: str) -> None:
    model, _ = fitted(blobs, mini_batch_size=1000, init_method=method)
    assert sorted(np.round(model.cluster_centers_).tolist()) == [[0, 0], [0, 10], [10, 0], [10, 10]]


def test_one_center_is_the_mean(blobs: np.ndarray) -> None:
    for factor in (1, 3):
        model, _ = fitted(blobs, k=1, extra_center_factor=factor)
        assert model.cluster_centers_ == pytest.approx(blobs.mean(axis=0, keepdims=True), rel=1e-5)


def test_the_update_is_the_papers(blobs: np.ndarray) -> None:
    """extra_center_factor 1: each batch moves a center to (1 - p) c + p d, written out row by row."""
    model, _ = fitted(blobs, k=3, extra_center_factor=1, mini_batch_size=128)
    random = np.random.default_rng((0, 0))
    centers = blobs[random.choice(128, 3, replace=False)].astype(np.float64)
    counts = np.zeros(3)
    for start in range(0, 1000, 128):
        rows = blobs[start : start + 128].astype(np.float64)
        labels = ((rows[:, None] - centers) ** 2).sum(axis=2).argmin(axis=1)
        for j in np.unique(labels):
            mine = rows[labels == j]
            p = len(mine) / (counts[j] + len(mine))
            centers[j] = (1 - p) * centers[j] + p * mine.mean(axis=0)
            counts[j] += len(mine)
    assert model.cluster_centers_ == pytest.approx(centers, rel=1e-5)


def test_half_life_lets_the_past_fade(blobs: np.ndarray) -> None:
    drifting = np.concatenate([np.zeros((1000, 2)), np.full((1000, 2), 8.0)]).astype(np.float32)
    for half_life, expected in ((0, 4.0), (500, 8 * 0.75 / 0.9375), (10, 8.0)):
        model, _ = fitted(drifting, k=1, half_life_time_size=half_life, extra_center_factor=1, mini_batch_size=1)
        assert model.cluster_centers_[0, 0] == pytest.approx(expected, rel=0.1), half_life
    faded, _ = fitted(drifting, k=1, half_life_time_size=200, extra_center_factor=4)
    assert faded.cluster_centers_[0, 0] > 7.4, "the sample fades as the centers do"


def test_a_center_that_is_long_forgotten_stays_where_it_was() -> None:
    X = np.concatenate([[[0.0, 0.0]], np.full((3000, 2), 5.0), [[9.0, 9.0]]]).astype(np.float32)
    model, _ = fitted(X, k=2, half_life_time_size=1, extra_center_factor=1, mini_batch_size=2)
    assert sorted(model.cluster_centers_[:, 0].tolist()) == pytest.approx([0, 6.5], abs=0.01)


def test_every_setting_of_the_last_stage_has_its_effect(blobs: np.ndarray) -> None:
    X = np.random.default_rng(0).normal(size=(600, 3)).astype(np.float32)

    def trials(**settings: Any) -> list[float]:
        _, lines = fitted(X, k=5, **settings)
        return [float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("local kmeans attempt")]

    usual = trials()
    assert len(usual) == 10
    assert trials(local_lloyd_num_trials=3) == usual[:3]
    assert sum(trials(local_lloyd_max_iter=1)) > sum(usual)
    assert sum(trials(local_lloyd_tol=1.0)) > sum(usual)
    assert trials(local_lloyd_init_method="random") != usual
    assert trials(extra_center_factor=2) != usual
    assert trials(init_method="kmeans++") != usual
    assert trials(epochs=2) != usual
    assert trials(mini_batch_size=600) != usual


def test_the_log_says_what_sagemakers_does(blobs: np.ndarray) -> None:
    _, lines = fitted(blobs, epochs=2, eval_metrics=["msd", "ssd"], num_slices=3)
    text = "\n".join(lines)
    for line in (
        "'extra_center_factor' was set to 'auto', evaluated to 10.",
        "number of center slices 1",
        "_num_slices has no effect",
        "shrinking 40 centers into 4",
        "local kmeans attempt #9. Current mean square distance",
        "finished shrinking process. Mean Square Distance = ",
        "#quality_metric: host=algo-1, epoch=1, train msd <loss>=",
        "#train_score (algo-1) : ('msd', ",
        "#quality_metric: host=algo-1, train ssd <loss>=",
    ):
        assert line in text, line
    assert "extra_center_factor' was set" not in "\n".join(fitted(blobs, extra_center_factor=2)[1])
    assert "shrinking" not in "\n".join(fitted(blobs, extra_center_factor=1)[1])


def test_scores_of_the_test_channel_are_mean_and_sum(blobs: np.ndarray) -> None:
    run = RecordingRun()
    model = KMeans(k=4, eval_metrics='["msd","ssd"]').fit(blobs, test=blobs[:300], run=run)
    found = {line.split(" <loss>=")[0]: float(line.split("=")[-1]) for line in run.lines if "test " in line}
    expected = ssd(model, blobs[:300])
    assert found["#quality_metric: host=algo-1, test ssd"] == pytest.approx(expected, rel=1e-5)
    assert found["#quality_metric: host=algo-1, test msd"] == pytest.approx(expected / 300, rel=1e-5)


def test_unknown_scores_are_refused() -> None:
    with pytest.raises(HyperparameterError, match=r'eval_metrics: .* is not a list of "msd" and "ssd"'):
        KMeans(k=2, eval_metrics=["mse"]).validate()


def test_scikit_learns_own_checks_hold() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its checks provoke warnings on purpose
        results = check_estimator(KMeans(k=3), on_fail=None, on_skip=None)
    failed = {result["check_name"]: result["exception"] for result in results if result["status"] == "failed"}
    assert set(failed) == set(KMeans.exceptions), failed
    assert sum(result["status"] == "passed" for result in results) > 45


def test_weights_count_as_rows(blobs: np.ndarray) -> None:
    weights = np.where(np.arange(1000) < 500, 1.0, 0.0)
    model = KMeans(k=2, mini_batch_size=1000).fit(blobs, sample_weight=weights)
    assert sorted(np.round(model.cluster_centers_).tolist()) == [[0, 0], [10, 0]]
    heavy = KMeans(k=1).fit(blobs, sample_weight=np.where(np.arange(1000) < 250, 3.0, 1.0))
    assert heavy.cluster_centers_[0] == pytest.approx([20 / 6, 20 / 6], abs=0.1)


def test_transform_score_and_labels_agree(blobs: np.ndarray) -> None:
    model = KMeans(k=4, mini_batch_size=1000).fit(blobs)
    distances = model.transform(blobs)
    assert np.array_equal(distances.argmin(axis=1), model.labels_)
    assert np.array_equal(model.predict(blobs), model.labels_)
    assert np.array_equal(KMeans(k=4, mini_batch_size=1000).fit_predict(blobs), model.labels_)
    assert model.score(blobs) == pytest.approx(-model.inertia_, rel=1e-6)
    assert np.square(distances.min(axis=1)).sum() == pytest.approx(model.inertia_, rel=1e-5)
