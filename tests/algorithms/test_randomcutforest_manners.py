"""Manners in Python: an outlier detector as scikit-learn has them, attribution, thresholds; and bad data."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.utils.estimator_checks import check_estimator

from sagesmith.algorithms.base import Request, RequestError
from sagesmith.algorithms.randomcutforest import RandomCutForest
from sagesmith.algorithms.randomcutforest.forest import Forest
from sagesmith.formats.channel import Channel
from sagesmith.formats.errors import DataError


@pytest.fixture(scope="module")
def cloud() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(3000, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def model(cloud: np.ndarray) -> RandomCutForest:
    return RandomCutForest(num_trees=50).fit(cloud)


def test_scikit_learns_own_checks_hold() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its checks provoke warnings on purpose
        results = check_estimator(RandomCutForest(num_trees=50, num_samples_per_tree=64), on_fail=None, on_skip=None)
    failed = {result["check_name"]: result["exception"] for result in results if result["status"] == "failed"}
    assert set(failed) <= set(RandomCutForest.exceptions), failed
    assert sum(result["status"] == "passed" for result in results) > 40


def test_an_outlier_is_minus_one(model: RandomCutForest, cloud: np.ndarray) -> None:
    asked = np.float32([[0, 0, 0, 0], [9, 9, 9, 9]])
    assert model.predict(asked).tolist() == [1, -1]
    assert np.array_equal(model.decision_function(asked), model.score_samples(asked) - model.offset_)
    assert (model.decision_function(asked) < 0).tolist() == [False, True]
    assert model.offset_ == -model.threshold_
    assert 0 < np.mean(model.predict(cloud) == -1) < 0.03


def test_there_is_no_score_and_no_weight(model: RandomCutForest, cloud: np.ndarray) -> None:
    assert not hasattr(model, "score")
    with pytest.raises(DataError, match="sample_weight"):
        RandomCutForest(num_trees=50).fit(cloud, sample_weight=np.ones(len(cloud)))


def test_attribution_sums_to_the_score_and_points_to_the_column(model: RandomCutForest, cloud: np.ndarray) -> None:
    asked = np.concatenate([cloud[:50], np.float32([[0, 8, 0, 0], [0, 0, -8, 0], [7, 0, 0, -7]])])
    parts = model.attribute(asked)
    assert parts.shape == (53, 4, 2)
    assert (parts >= 0).all()
    assert parts.sum(axis=(1, 2)) == pytest.approx(-model.score_samples(asked), rel=1e-5)
    assert parts[50, 1, 0] > 0.8 * parts[50].sum(), "column 1 is too high"
    assert parts[51, 2, 1] > 0.8 * parts[51].sum(), "column 2 is too low"
    assert parts[52, 0, 0] + parts[52, 3, 1] > 0.8 * parts[52].sum()
    thin = model.attribute(sparse.csr_matrix(asked))
    assert np.array_equal(thin, parts)


def test_attribution_of_the_only_row_prefers_no_column() -> None:
    row = np.float32([[1, 2]])
    assert RandomCutForest(num_trees=50).fit(row).attribute(row).tolist() == [[[0.125, 0.125], [0.125, 0.125]]]


def test_a_threshold_is_suggested_and_used(cloud: np.ndarray, tmp_path: Path) -> None:
    model = RandomCutForest(num_trees=50).fit(cloud)
    scores = -model.score_samples(cloud)
    assert model.suggest_threshold(cloud) == pytest.approx(scores.mean() + 3 * scores.std())
    assert model.suggest_threshold(cloud, deviations=2) == pytest.approx(scores.mean() + 2 * scores.std())
    model.threshold_ = model.suggest_threshold(cloud, fraction=0.1)
    assert np.mean(model.predict(cloud) == -1) == pytest.approx(0.1, abs=0.001)
    model.save(tmp_path)
    assert np.array_equal(RandomCutForest.load(tmp_path).predict(cloud), model.predict(cloud))
    for wrong in (0, 1, -0.5):
        with pytest.raises(ValueError, match=r"not in \(0, 1\)"):
            model.suggest_threshold(cloud, fraction=wrong)


def test_what_is_not_fitted_says_so(cloud: np.ndarray) -> None:
    fresh = RandomCutForest(num_trees=50)
    for call in (fresh.attribute, fresh.score_samples, fresh.suggest_threshold, lambda _: fresh.stream()):
        with pytest.raises(ValueError, match="not fitted"):
            call(cloud)
    assert not hasattr(fresh, "offset_")


# -- data ---------------------------------------------------------------------------------------------------------
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(FLOATS, FLOATS), min_size=1, max_size=90), st.lists(st.tuples(FLOATS, FLOATS), max_size=10))
def test_any_finite_numbers_get_finite_scores(rows: list[Any], asked: list[Any]) -> None:
    X = np.float32(rows)
    model = RandomCutForest(num_trees=50, num_samples_per_tree=8).fit(X)
    scores = -model.score_samples(np.concatenate([X, np.float32(asked).reshape(-1, 2)]))
    assert np.isfinite(scores).all()
    assert (scores >= 0).all()
    assert np.isfinite(model.attribute(X)).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 149), st.integers(0, 2), st.sampled_from(["nan", "inf", "-inf", ""]))
def test_what_is_no_number_is_named_with_its_place(row: int, column: int, text: str) -> None:
    cells = [["1.5"] * 3 for _ in range(150)]
    cells[row][column] = text
    body = "\n".join(",".join(line) for line in cells) + "\n"
    model = RandomCutForest(num_trees=50).fit(np.float32([[1, 2, 3], [4, 5, 6]]))
    with pytest.raises(RequestError, match=f"row {row}, column {column}"):
        model.respond(Request(body.encode(), "text/csv"))


def test_missing_values_in_the_training_file_are_named(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("1,2\n" * 70 + "nan,2\n")
    channel = Channel.from_folder("train", tmp_path, "text/csv", label_size=0)
    with pytest.raises(DataError, match="row 70, column 0 is nan"):
        RandomCutForest(num_trees=50).fit(channel)


def test_ragged_rows_are_named(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("1,2\n" * 70 + "1,2,3\n")
    channel = Channel.from_folder("train", tmp_path, "text/csv", label_size=0)
    with pytest.raises(DataError, match="71"):
        RandomCutForest(num_trees=50).fit(channel)


def test_no_rows_and_labels_that_are_none(tmp_path: Path, cloud: np.ndarray) -> None:
    (tmp_path / "empty.csv").write_text("")
    channel = Channel.from_folder("train", tmp_path, "text/csv", label_size=0)
    with pytest.raises(DataError, match="train channel holds no rows"):
        RandomCutForest(num_trees=50).fit(channel)
    with pytest.raises(DataError, match="test channel holds no rows"):
        RandomCutForest(num_trees=50).fit(cloud, test=Channel.from_folder("test", tmp_path, "text/csv"))
    with pytest.raises(DataError, match="label of row 1 is 2, it must be one of 0, 1"):
        RandomCutForest(num_trees=50).fit(cloud, test=(cloud[:2], np.float32([0, 2])))
    with pytest.raises(DataError, match="has no labels"):
        RandomCutForest(num_trees=50).fit(cloud, test=cloud[:2])


def test_constant_columns_and_zero_rows_make_a_leaf_of_all() -> None:
    zeros = sparse.csr_matrix((300, 5), dtype=np.float32)
    model = RandomCutForest(num_trees=50, num_samples_per_tree=6).fit(zeros)
    assert (model.forest_.leaves() == 1).all()
    assert model.score_samples(zeros)[0] == pytest.approx(-0.5), "6 of 6 copies: (1 - 1/2) / log2 7 * log2 7"
    assert model.score_samples(np.float32([[0, 0, 1, 0, 0]]))[0] == pytest.approx(-np.log2(7))


def test_a_request_of_another_width_is_refused(model: RandomCutForest) -> None:
    with pytest.raises(RequestError, match="rows of 2 columns, but feature_dim is 4"):
        model.respond(Request(b"1,2\n", "text/csv"))


# -- the artifact -------------------------------------------------------------------------------------------------
def saved(folder: Path) -> dict[str, Any]:
    RandomCutForest(num_trees=50, num_samples_per_tree=4).fit(np.eye(4, dtype=np.float32).repeat(60, 0)).save(folder)
    with np.load(folder / "model_algo-1") as archive:
        return {name: archive[name].copy() for name in archive.files}


@pytest.mark.parametrize("name", ["child", "mass", "feature", "total", "point", "cut"])
@pytest.mark.parametrize("value", [-5, 10**6, None])
def test_a_model_that_was_tampered_with_is_refused(name: str, value: int | None, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    RandomCutForest(num_trees=50, num_samples_per_tree=9).fit(random.normal(size=(450, 3))).save(tmp_path)
    with np.load(tmp_path / "model_algo-1") as archive:
        arrays: dict[str, Any] = {key: archive[key].copy() for key in archive.files}
    if value is None:
        arrays[name] = arrays[name][:-1]
    elif name in ("point", "cut"):
        arrays[name].flat[1] = np.nan
    else:
        arrays[name].flat[1] = value
    with (tmp_path / "model_algo-1").open("wb") as file:
        np.savez(file, **arrays)
    with pytest.raises(ValueError, match="is no randomcutforest model"):
        RandomCutForest.load(tmp_path)


def test_a_model_whose_trees_run_in_a_circle_is_refused() -> None:
    arrays = Forest.grown(np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32), 1, 8, 0, 1).saved()
    inner = np.argwhere(arrays["child"][0] > 0)
    node, side = inner[-1]
    arrays["child"][0, node, side], old = 0, arrays["child"][0, node, side]
    with pytest.raises(ValueError, match="make no tree"):
        Forest.restored(arrays, 1.0)
    arrays["child"][0, node, side] = old
    assert Forest.restored(arrays, 1.0).leaves().tolist() == [8]


def test_a_model_for_other_columns_is_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    document = json.loads((tmp_path / "model.json").read_text())
    document["hyperparameters"]["feature_dim"] = 7
    (tmp_path / "model.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match="points of 4 columns, but feature_dim is 7"):
        RandomCutForest.load(tmp_path)
