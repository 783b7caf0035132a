"""k-NN: every hyperparameter has its effect or is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import sparse
from scipy.linalg import hadamard

from sagesmith.algorithms import KNN
from sagesmith.algorithms.base import HyperparameterError
from sagesmith.algorithms.knn.reduction import Reduction, walsh_hadamard
from sagesmith.formats.errors import DataError

SMALL: dict[str, Any] = {"k": 5, "predictor_type": "classifier"}


@pytest.fixture(scope="module")
def clouds() -> tuple[np.ndarray, np.ndarray]:
    """2,000 rows of 30 columns in 8 clouds."""
    random = np.random.default_rng(5)
    y = random.integers(0, 8, 2000)
    return (random.normal(size=(8, 30))[y] * 2 + random.normal(size=(2000, 30))).astype(np.float32), y


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"k": 10, "sample_size": 9}, "sample_size: 9 is less than k"),
        ({"dimension_reduction_type": "sign"}, "need one another"),
        ({"dimension_reduction_target": 3}, "need one another"),
        ({"dimension_reduction_type": "pca", "dimension_reduction_target": 3}, "dimension_reduction_type: pca"),
        (
            {"dimension_reduction_type": "sign", "dimension_reduction_target": 8, "feature_dim": 8},
            r"dimension_reduction_target: 8 is not in \[1, 7\]",
        ),
        ({"index_type": "faiss.IVFPQ"}, "Missing required hyperparameter: faiss_index_pq_m"),
        ({"index_type": "faiss.IVFPQ", "faiss_index_pq_m": 2, "index_metric": "COSINE"}, "takes index_metric L2"),
        (
            {"index_type": "faiss.IVFPQ", "faiss_index_pq_m": 2, "index_metric": "INNER_PRODUCT"},
            "takes index_metric L2",
        ),
        ({"index_type": "faiss.HNSW"}, "faiss.HNSW is not in"),
        ({"faiss_index_pq_m": 5}, "faiss_index_pq_m: 5 is not in"),
        ({"feature_dim": 0}, "feature_dim"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(HyperparameterError, match=message):
        KNN(**{**SMALL, **values}).validate()


def test_what_only_the_data_show_is_refused_too(clouds: Any) -> None:
    X, y = clouds
    with pytest.raises(HyperparameterError, match=r"dimension_reduction_target: 30 is not in \[1, 29\]"):
        KNN(**SMALL, dimension_reduction_type="fjlt", dimension_reduction_target=30).fit(X, y)
    with pytest.raises(ValueError, match="k is 5, but the train channel has only 4 rows"):
        KNN(**SMALL).fit(X[:4], y[:4])
    with pytest.raises(DataError, match="rows of 30 columns, but feature_dim is 7"):
        KNN(**SMALL, feature_dim=7).fit(X, y)
    with pytest.raises(ValueError, match="faiss_index_ivf_nlists is 50, but the sample has 20 rows"):
        KNN(**SMALL, index_type="faiss.IVFFlat", faiss_index_ivf_nlists=50).fit(X[:20], y[:20])
    with pytest.raises(ValueError, match="takes at least 256 rows; the sample has 255"):
        KNN(**SMALL, index_type="faiss.IVFPQ", faiss_index_pq_m=2).fit(X[:255], y[:255])
    with pytest.raises(ValueError, match="different weights"):
        KNN(**SMALL).fit(X, y, sample_weight=np.arange(len(y)))


def test_sample_size_bounds_the_index(clouds: Any) -> None:
    X, y = clouds
    model = KNN(**SMALL, sample_size=300).fit(X, y)
    assert model.index_.index.ntotal == 300 == len(model.labels_)
    assert model.score(X, y) > 0.9
    assert KNN(**SMALL).fit(X, y).index_.index.ntotal == 2000


@pytest.mark.parametrize("kind", ["sign", "fjlt"])
def test_a_projection_keeps_lengths_and_neighbours(kind: str, clouds: Any) -> None:
    X, y = clouds
    lengths = [
        np.linalg.norm(Reduction(kind, seed, 12, 30).apply(X[:50]), axis=1) ** 2 / np.linalg.norm(X[:50], axis=1) ** 2
        for seed in range(300)
    ]
    assert np.mean(lengths) == pytest.approx(1, abs=0.02)
    model = KNN(**SMALL, dimension_reduction_type=kind, dimension_reduction_target=20).fit(X[:1500], y[:1500])
    assert model.index_.index.d == 20
    assert model.score(X[1500:], y[1500:]) > 0.9
    thin = Reduction(kind, 3, 12, 30)
    assert np.allclose(thin.apply(sparse.csr_matrix(X)), Reduction(kind, 3, 12, 30).apply(X), atol=1e-4)
    assert not np.allclose(thin.apply(X), Reduction(kind, 4, 12, 30).apply(X))


def test_the_transform_is_hadamards() -> None:
    rows = np.random.default_rng(0).normal(size=(5, 16)).astype(np.float32)
    assert np.allclose(walsh_hadamard(rows.copy()), rows @ hadamard(16), atol=1e-5)
    assert walsh_hadamard(np.ones((2, 1), np.float32)).tolist() == [[1], [1]]


def test_values_that_a_projection_cannot_hold_are_refused() -> None:
    X = np.full((20, 4), 3e38, np.float32)
    X[::2] *= -1
    with pytest.raises(DataError, match="too large for float32"):
        KNN(k=1, predictor_type="regressor", dimension_reduction_type="fjlt", dimension_reduction_target=3).fit(
            X, np.arange(20)
        )


def test_lists_are_looked_into_as_asked(clouds: Any) -> None:
    X, y = clouds
    exact = KNN(k=10, predictor_type="classifier").fit(X, y).kneighbors(X)[0]
    shares = []
    for probes in (1, 5, 40):
        model = KNN(k=10, predictor_type="classifier", index_type="faiss.IVFFlat", faiss_index_nprobe=probes,
                    faiss_index_ivf_nlists=40).fit(X, y)  # fmt: skip
        assert (model.index_.index.nlist, model.index_.index.nprobe) == (40, probes)
        shares.append(np.isclose(model.kneighbors(X)[0], exact, rtol=1e-3).mean())
    assert shares[0] < shares[1] < 1
    assert shares[2] == 1
    automatic = KNN(**SMALL, index_type="faiss.IVFFlat").fit(X, y).index_.index
    assert (automatic.nlist, automatic.nprobe) == (44, 5)
    assert KNN.from_strings({"k": "5", "predictor_type": "classifier", "_faiss_index_nprobe": "7"}).settings[
        "faiss_index_nprobe"
    ] == 7  # fmt: skip


def test_short_lists_still_give_k_neighbours(clouds: Any) -> None:
    X, y = clouds
    model = KNN(k=60, predictor_type="classifier", index_type="faiss.IVFFlat", faiss_index_nprobe=1,
                faiss_index_ivf_nlists=100).fit(X, y)  # fmt: skip
    rows = model.index_.search(X, 60)[1]
    assert rows.min() >= 0
    assert all(len(set(row)) == 60 for row in rows.tolist())


@pytest.mark.parametrize(("blocks", "reduced", "depth"), [(4, None, 32), (3, None, 30), (8, 27, 32)])
def test_codes_take_the_next_multiple_of_columns(blocks: int, reduced: int | None, depth: int, clouds: Any) -> None:
    X, y = clouds[0][:600], clouds[1][:600]
    kind = "fjlt" if reduced else None
    model = KNN(**SMALL, index_type="faiss.IVFPQ", faiss_index_pq_m=blocks, dimension_reduction_type=kind,
                dimension_reduction_target=reduced).fit(X, y)  # fmt: skip
    assert (model.index_.index.d, model.index_.index.pq.M, model.index_.index.pq.nbits) == (depth, blocks, 8)
    assert model.score(X, y) > 0.8


@pytest.mark.parametrize("metric", ["INNER_PRODUCT", "COSINE"])
def test_lists_by_product(metric: str, clouds: Any) -> None:
    X, y = clouds
    model = KNN(**SMALL, index_type="faiss.IVFFlat", index_metric=metric, faiss_index_nprobe=44).fit(X, y)
    exact = KNN(**SMALL, index_metric=metric).fit(X, y)
    assert np.allclose(model.kneighbors(X)[0], exact.kneighbors(X)[0], rtol=1e-4)


def test_a_row_of_zeros_has_a_cosine() -> None:
    X = np.array([[0, 0], [1, 0], [0, 2]], np.float32)
    model = KNN(k=1, predictor_type="classifier", index_metric="COSINE").fit(X, [0, 1, 2])
    assert model.kneighbors([[0, 0], [3, 0]])[0].tolist() == [[0], [1]]


@pytest.mark.parametrize("rows", [1, 7, 100_000])
def test_the_size_of_batches_changes_nothing(rows: int, clouds: Any) -> None:
    X, y = clouds
    model = KNN(**SMALL, sample_size=200, mini_batch_size=rows).fit(X[:500], y[:500])
    assert np.array_equal(model.labels_, KNN(**SMALL, sample_size=200).fit(X[:500], y[:500]).labels_)
