"""Bad input: a clear error, or the right answer."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from sagesmith.algorithms import KMeans
from sagesmith.formats.batch import Batch
from sagesmith.formats.channel import Channel
from sagesmith.formats.errors import DataError
from sagesmith.formats.recordio_writer import write_records
from sagesmith.testing.check_algorithm import RecordingRun


def channel_of(text: str, kind: str = "text/csv;label_size=0") -> Channel:
    with tempfile.NamedTemporaryFile("w", suffix=".csv", delete=False) as file:
        file.write(text)
    return Channel.from_files("train", [Path(file.name)], kind)


values = st.sampled_from(["0", "1", "-3.5", "1e30", "7", "nan", "inf", "-inf", "", "x"])


@settings(max_examples=80, deadline=None)
@given(
    table=st.lists(st.lists(values, min_size=1, max_size=3), max_size=8),
    k=st.integers(1, 4),
    factor=st.sampled_from(["auto", 1, 2]),
    batch=st.integers(1, 5),
    width=st.sampled_from([None, 1, 2]),
)
def test_whatever_the_file_holds_is_clustered_or_refused_with_a_reason(
    table: list[list[str]], k: int, factor: Any, batch: int, width: int | None
) -> None:
    channel = channel_of("".join(",".join(row) + "\n" for row in table))
    model = KMeans(k=k, extra_center_factor=factor, mini_batch_size=batch, feature_dim=width)
    try:
        model.fit(channel)
    except DataError:
        return
    rows = np.array([[float(cell) for cell in row] for row in table if row != [""]])
    assert np.isfinite(rows).all()
    assert model.cluster_centers_.shape == (k, rows.shape[1])
    assert len(rows) >= k
    assert np.isfinite(model.cluster_centers_).all()
    if len(np.unique(rows, axis=0)) <= k and np.abs(rows).max() < 100 and factor != 1:
        assert model.score(rows.astype(np.float32)) == pytest.approx(0, abs=1e-6), "a center on every row"


def test_the_place_of_a_missing_value_is_told() -> None:
    with pytest.raises(DataError, match="channel 'train': row 1, column 0 is nan"):
        KMeans(k=1).fit(channel_of("1,2\nnan,3\n"))
    with pytest.raises(ValueError, match="contains NaN"):
        KMeans(k=1).fit(np.array([[np.nan]]))


def test_rows_of_another_width_are_refused() -> None:
    with pytest.raises(DataError, match="rows of 2 columns, but feature_dim is 3"):
        KMeans(k=1, feature_dim=3).fit(channel_of("1,2\n3,4\n"))
    with pytest.raises(DataError):
        KMeans(k=1).fit(channel_of("1,2\n3\n"))


def test_no_rows_are_an_error() -> None:
    with pytest.raises(DataError, match="the train channel holds no rows"):
        KMeans(k=1).fit(Channel.from_files("train", [], "text/csv"))


@pytest.mark.parametrize("rows", [1, 2])
def test_fewer_rows_than_clusters_are_an_error(rows: int) -> None:
    with pytest.raises(ValueError, match=f"n_samples={rows} should be >= k=3"):
        KMeans(k=3).fit(np.arange(2.0 * rows).reshape(rows, 2))


def test_one_row_is_one_cluster() -> None:
    for factor in ("auto", 1):
        model = KMeans(k=1, extra_center_factor=factor).fit(np.array([[3.0, -1.0]]))
        assert model.cluster_centers_.tolist() == [[3.0, -1.0]]
        assert model.inertia_ == 0.0


def test_equal_rows_make_equal_centers() -> None:
    run = RecordingRun()
    model = KMeans(k=3).fit(np.full((50, 4), 2.5), run=run)
    assert model.cluster_centers_.tolist() == [[2.5] * 4] * 3
    assert "some clusters are empty" in "\n".join(run.lines)


def test_constant_columns_do_not_matter() -> None:
    X = np.random.default_rng(0).normal(size=(300, 2))
    padded = np.column_stack([np.zeros(300), X[:, 0], np.full(300, 1e4), X[:, 1]])
    plain = KMeans(k=4).fit(X)
    assert np.array_equal(plain.labels_, KMeans(k=4).fit(padded).labels_)


def test_sparse_rows_of_zeros_are_rows() -> None:
    X = np.zeros((40, 5), np.float32)
    X[:10, 2] = 9
    for features in (sparse.csr_matrix(X), X):
        model = KMeans(k=2, extra_center_factor=4, init_method="kmeans++").fit(features)
        assert sorted(model.cluster_centers_[:, 2].tolist()) == [0, 9]


def test_a_wide_sparse_matrix_is_not_made_dense(tmp_path: Path) -> None:
    """200,000 columns: 3,000 dense rows would take 2.4 GB."""
    random = np.random.default_rng(0)
    columns = np.where(np.arange(3000)[:, None] % 2, 7, 150_000) + random.integers(0, 40, (3000, 8))
    rows = np.repeat(np.arange(3000), 8)
    X = sparse.csr_matrix((np.ones(24_000, np.float32), (rows, columns.ravel())), shape=(3000, 200_000))
    X.sum_duplicates()
    path = tmp_path / "rows"
    path.write_bytes(write_records(Batch(X)))
    model = KMeans(k=2, extra_center_factor=4, mini_batch_size=500, init_method="kmeans++")
    model.fit(Channel.from_files("train", [path], "application/x-recordio-protobuf"))
    labels = model.predict(X)
    assert len(set(labels[::2])) == len(set(labels[1::2])) == 1
    assert labels[0] != labels[1]


def test_a_first_batch_that_is_too_small_grows_and_says_so() -> None:
    X = np.random.default_rng(0).normal(size=(500, 2)).astype(np.float32)
    run = RecordingRun()
    KMeans(k=8, mini_batch_size=30).fit(X, run=run)
    text = "\n".join(run.lines)
    assert "The first batch of 30 rows holds fewer than the 80 centers: the first 90 rows were read as one" in text
    run = RecordingRun()
    KMeans(k=8).fit(X[:50], run=run)
    text = "\n".join(run.lines)
    assert "mini_batch_size is 5000, but the first batch has only 50 rows" in text
    assert "The data have 50 rows, fewer than the 80 centers" in text


@pytest.mark.parametrize("damage", ["shape", "infinite", "no centers", "k"])
def test_a_model_that_does_not_fit_together_is_refused(tmp_path: Path, damage: str) -> None:
    KMeans(k=2).fit(np.arange(20.0).reshape(10, 2)).save(tmp_path)
    centers = {"shape": np.zeros(4), "infinite": np.array([[0, np.inf], [0, 0]]), "k": np.zeros((3, 2))}
    if damage == "k":
        document = json.loads((tmp_path / "model.json").read_text())
        document["hyperparameters"]["k"] = 3
        (tmp_path / "model.json").write_text(json.dumps(document))
    else:
        with (tmp_path / "model_algo-1").open("wb") as file:
            np.savez(file, **({"centers": centers[damage]} if damage in centers else {"other": np.zeros(2)}))
    with pytest.raises(ValueError, match="model_algo-1 is no kmeans model"):
        KMeans.load(tmp_path)
