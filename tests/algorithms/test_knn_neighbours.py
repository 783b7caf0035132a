"""k-NN: neighbours against brute force in double precision, the vote, the mean, and answers."""

from __future__ import annotations

import json
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.metrics import f1_score
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.utils.estimator_checks import check_estimator

from sagesmith.algorithms import KNN
from sagesmith.algorithms.base import Request
from sagesmith.algorithms.knn import voting
from sagesmith.algorithms.knn.exact import Exact
from sagesmith.formats.recordio import RecordIO


def flat(vectors: np.ndarray, product: bool = False) -> Any:
    import faiss

    index = faiss.IndexFlatIP(vectors.shape[1]) if product else faiss.IndexFlatL2(vectors.shape[1])
    index.add(vectors)
    return index


def brute(vectors: np.ndarray, queries: np.ndarray, k: int, product: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Distances and rows in double precision, equal distances in the order of rows."""
    wide, asked = vectors.astype(np.float64), queries.astype(np.float64)
    if product:
        measured = -(asked @ wide.T)
    else:
        measured = np.stack([((wide - row) ** 2).sum(axis=1) for row in asked])
    order = np.argsort(measured, axis=1, kind="stable")[:, :k]
    found = np.take_along_axis(measured, order, axis=1)
    return (-found if product else found), order


def data(kind: str, rows: int = 3000, columns: int = 9) -> np.ndarray:
    random = np.random.default_rng(3)
    normal = random.normal(size=(rows, columns))
    made = {
        "normal": normal,
        "far from zero": normal + 1e4,
        "whole numbers": random.integers(0, 4, (rows, columns)),
        "one outlier": np.where(np.arange(rows)[:, None] == 7, 1e6, normal),
        "all the same": np.full((rows, columns), 0.1),
        "repeated": np.repeat(normal[: rows // 50], 50, axis=0),
        "huge": normal * 1e25,
        "tiny": normal * 1e-20,
        "a constant column": np.where(np.arange(columns) == 2, 5.0, normal),
    }
    return made[kind].astype(np.float32)


KINDS = (
    "normal",
    "far from zero",
    "whole numbers",
    "one outlier",
    "all the same",
    "repeated",
    "huge",
    "tiny",
    "a constant column",
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("product", [False, True])
def test_exact_search_equals_brute_force(kind: str, product: bool) -> None:
    vectors = data(kind)
    queries = np.concatenate([vectors[::61], data("normal", 20)])
    distances, rows = Exact(flat(vectors, product), product, threads=2).search(queries, 6)
    expected, order = brute(vectors, queries, 6, product)
    largest = np.finfo(np.float32).max
    assert np.allclose(distances, np.clip(expected, -largest, largest), rtol=1e-6, atol=1e-37 if product else 1e-44)
    if product:  # sums in another order may tell equal products apart
        assert (rows == order).mean() > 0.5
    else:
        different = rows != order
        assert np.allclose(distances[different], expected[different], rtol=1e-12)
        assert different.mean() < (0.01 if kind not in ("all the same", "repeated", "whole numbers") else 1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("product", [False, True])
def test_a_row_alone_finds_what_it_finds_in_a_batch(kind: str, product: bool) -> None:
    searcher = Exact(flat(data(kind, 1500), product), product, threads=2)
    queries = data(kind, 1500)[::43] + np.float32(0.25)
    distances, rows = searcher.search(queries, 4)
    for at in (0, 7, 20):
        alone, row = searcher.search(queries[at : at + 1], 4)
        assert np.array_equal(row[0], rows[at])
        assert np.array_equal(alone[0], distances[at])


@pytest.mark.parametrize("k", [1, 2, 50, 400, 1500])
def test_any_number_of_neighbours(k: int) -> None:
    vectors = data("whole numbers", 1500, 3)
    queries = data("normal", 30, 3) + 1.5
    rows = Exact(flat(vectors), False, threads=1).search(queries, k)[1]
    assert np.array_equal(rows, brute(vectors, queries, k)[1])


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 700), st.integers(1, 5), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_shapes_of_all_kinds(rows: int, columns: int, queries: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    vectors = random.integers(-2, 3, (rows, columns)).astype(np.float32)
    asked = random.integers(-2, 3, (queries, columns)).astype(np.float32)
    k = int(random.integers(1, rows + 1))
    distances, found = Exact(flat(vectors), False, threads=2).search(asked, k)
    expected, order = brute(vectors, asked, k)
    assert np.array_equal(found, order)
    assert np.array_equal(distances, expected)


@pytest.mark.parametrize("metric", ["L2", "COSINE", "INNER_PRODUCT"])
def test_metrics_find_their_own_neighbours(metric: str, wine: Any) -> None:
    X, y = wine
    model = KNN(k=7, predictor_type="classifier", index_metric=metric).fit(X, y)
    vectors = X / np.linalg.norm(X, axis=1, keepdims=True) if metric == "COSINE" else X
    distances, labels = model.kneighbors(X[:40])
    expected, order = brute(vectors, vectors[:40], 7, metric != "L2")
    assert np.allclose(distances, expected, rtol=1e-5, atol=1e-4)
    assert (labels == y[order]).mean() > 0.99
    steps = np.diff(distances, axis=1)
    assert (steps >= 0).all() if metric == "L2" else (steps <= 1e-6).all()


def test_the_vote_and_the_mean_are_scikit_learns(wine: Any, diabetes: Any) -> None:
    X, y = wine
    ours = KNN(k=5, predictor_type="classifier").fit(X[:120], y[:120])
    theirs = KNeighborsClassifier(5, algorithm="brute").fit(X[:120].astype(float), y[:120])
    assert np.array_equal(ours.predict(X[120:]), theirs.predict(X[120:].astype(float)))
    assert np.allclose(ours.predict_proba(X[120:]), theirs.predict_proba(X[120:].astype(float)))
    X, y = diabetes
    ours = KNN(k=9, predictor_type="regressor").fit(X[:300], y[:300])
    theirs = KNeighborsRegressor(9, algorithm="brute").fit(X[:300].astype(float), y[:300])
    assert np.allclose(ours.predict(X[300:]), theirs.predict(X[300:].astype(float)), rtol=1e-6)


def test_a_tie_goes_to_the_smaller_label() -> None:
    X = np.array([[0.0], [1.0], [2.0], [3.0]])
    model = KNN(k=4, predictor_type="classifier").fit(X, [9, 9, -3, -3])
    assert model.predict([[0.1], [2.9]]).tolist() == [-3, -3]
    assert model.predict_proba([[0.1]]).tolist() == [[0.5, 0.5]]


def test_equal_distances_go_to_the_earlier_row() -> None:
    model = KNN(k=1, predictor_type="classifier").fit([[1.0], [-1.0], [1.0]], [2, 1, 0])
    assert model.predict([[0.0], [1.0], [-1.0]]).tolist() == [2, 2, 1]


def test_classes_may_be_words(wine: Any) -> None:
    X, y = wine
    names = np.array(["barbera", "barolo", "grignolino"])[y.astype(int)]
    model = KNN(k=3, predictor_type="classifier").fit(X, names)
    assert np.array_equal(
        model.predict(X), model.classes_[KNN(k=3, predictor_type="classifier").fit(X, y).predict(X).astype(int)]
    )


def test_the_sample_may_lack_a_class() -> None:
    X = np.arange(400, dtype=np.float32)[:, None]
    y = np.where(X[:, 0] == 399, 2, X[:, 0] % 2)
    model = KNN(k=3, predictor_type="classifier", sample_size=4).fit(X, y)
    assert model.predict_proba(X[:5]).shape == (5, 3)
    assert np.allclose(model.predict_proba(X[:5]).sum(axis=1), 1)


def answer(model: KNN, accept: str) -> bytes:
    body = (
        b'{"instances": [{"features": [0.5, 0]}, {"data": {"features": {"keys": [1], "shape": [2], "values": [3]}}}]}'
    )
    return model.respond(Request(body, "application/json", accept)).body


@pytest.fixture
def corners() -> KNN:
    X = np.array([[0, 0], [1, 0], [0, 3], [5, 5]], np.float32)
    return KNN(k=3, predictor_type="classifier").fit(X, np.array([0, 4, 4, 1]))


def test_answers_have_the_label_and_verbose_ones_the_neighbours(corners: KNN) -> None:
    assert json.loads(answer(corners, "application/json")) == {
        "predictions": [{"predicted_label": 4.0}, {"predicted_label": 4.0}]
    }
    for accept in ("application/json; verbose=true", "application/json;verbose=True"):
        assert json.loads(answer(corners, accept))["predictions"] == [
            {"predicted_label": 4.0, "distances": [0.25, 0.25, 9.25], "labels": [0.0, 4.0, 4.0]},
            {"predicted_label": 4.0, "distances": [0.0, 9.0, 10.0], "labels": [4.0, 0.0, 4.0]},
        ]
    assert "distances" not in json.loads(answer(corners, "application/json; verbose=false"))["predictions"][0]
    lines = answer(corners, "application/jsonlines").decode().splitlines()
    assert lines == ['{"predicted_label": 4.0}'] * 2


def test_recordio_answers_carry_the_same_fields(corners: KNN) -> None:
    from sagesmith.formats.format import Options
    from sagesmith.formats.source import Source

    body = answer(corners, "application/x-recordio-protobuf; verbose=true")
    records = list(RecordIO().records(Source.of_body(body, "answer"), Options()))
    label = records[0][0]["label"]
    assert sorted(label) == ["distances", "labels", "predicted_label"]


def test_sparse_rows_are_answered_as_dense_ones(wine: Any) -> None:
    X, y = wine
    X = np.where(X > 2, X, 0)
    dense = KNN(k=5, predictor_type="classifier").fit(X, y)
    thin = KNN(k=5, predictor_type="classifier").fit(sparse.csr_matrix(X), y)
    assert np.array_equal(dense.predict_proba(X), thin.predict_proba(sparse.csr_matrix(X)))


def test_scores_are_scikit_learns() -> None:
    random = np.random.default_rng(0)
    truth, predicted = random.integers(0, 4, 500), random.integers(1, 6, 500)
    tables = [voting.confusion(truth[part], predicted[part]) for part in (slice(0, 200), slice(200, None))]
    scores = {name: value for name, value, _ in voting.classifier_scores(np.concatenate(tables))}
    assert scores["accuracy"] == np.mean(truth == predicted)
    assert scores["macro_f_1.000"] == pytest.approx(f1_score(truth, predicted, average="macro", zero_division=0))


def test_many_classes_are_counted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = np.random.default_rng(0).integers(0, 300, (50, 9))
    whole = voting.winners(codes, 300)
    monkeypatch.setattr(voting, "_CELLS", 700)
    assert np.array_equal(voting.winners(codes, 300), whole)
    assert voting.winners(np.array([[3, 1, 1, 3]]), 300).tolist() == [1]


@pytest.mark.parametrize("kind", ["classifier", "regressor"])
def test_scikit_learns_own_checks_hold(kind: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its checks provoke warnings on purpose
        results = check_estimator(KNN(k=1, predictor_type=kind), on_fail=None, on_skip=None)
    failed = {result["check_name"]: result["exception"] for result in results if result["status"] == "failed"}
    assert set(failed) <= set(KNN.exceptions), failed
    assert sum(result["status"] == "passed" for result in results) > 50
