"""What SageMaker's own algorithms share: checked passes, labels, the artifact."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from sagesmith.algorithms.base import HyperparameterError
from sagesmith.algorithms.first_party import FirstParty, check_finite, check_labels, passes, report_scores
from sagesmith.algorithms.hyperparameters import hp
from sagesmith.container.configuration import configure
from sagesmith.container.failures import JobError
from sagesmith.formats.batch import Batch
from sagesmith.formats.channel import Channel
from sagesmith.formats.errors import DataError
from sagesmith.testing.check_algorithm import RecordingRun


class Means(FirstParty):
    """The mean of every column."""

    name = "means"
    images = ("means",)

    feature_dim: int = hp("columns", default=None, ge=1, inferred=True)
    scale: float = hp("factor", default=1.0)

    def arrays(self) -> dict[str, np.ndarray]:
        return {"mean": self.mean_}

    def restore(self, arrays: Any, facts: Any) -> None:
        self.mean_ = arrays["mean"]
        self.rows_ = facts["rows"]

    def facts(self) -> dict[str, Any]:
        return {"rows": 3}


def file_of(folder: Path, text: str) -> Channel:
    path = folder / "rows.csv"
    path.write_text(text)
    return Channel.from_folder("train", path, "text/csv", label_size=0)


def saved(folder: Path) -> Path:
    model = Means(feature_dim=2, scale=2.0)
    model.mean_ = np.array([1.0, 2.0])
    model.save(folder)
    return folder


def test_a_model_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    model = Means.load(saved(tmp_path))
    assert (model.mean_.tolist(), model.scale, model.rows_) == ([1.0, 2.0], 2.0, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model_algo-1"]


@pytest.mark.parametrize("file", ["model.json", "model_algo-1"])
@pytest.mark.parametrize("keep", [0, 1, 40, -20])
def test_a_torn_file_is_refused_by_name(tmp_path: Path, file: str, keep: int) -> None:
    path = saved(tmp_path) / file
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=file):
        Means.load(tmp_path)


@pytest.mark.parametrize(
    "change", [{"algorithm": "kmeans"}, {"version": 2}, {"hyperparameters": {"feature_dim": 0}}, {"hyperparameters": 5}]
)
def test_a_document_of_something_else_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path = saved(tmp_path) / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=r"model\.json describes no means model"):
        Means.load(tmp_path)


def test_a_pickle_among_the_arrays_is_refused(tmp_path: Path) -> None:
    with (saved(tmp_path) / "model_algo-1").open("wb") as file:
        np.savez(file, mean=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="no means model"):
        Means.load(tmp_path)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_pass_names_the_row_that_is_not_finite(tmp_path: Path, value: str) -> None:
    channel = file_of(tmp_path, f"1,2\n3,4\n5,{value}\n")
    with pytest.raises(DataError, match="channel 'train': row 2, column 1 is"):
        list(passes(channel, rows=2))


def test_a_pass_counts_columns(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="channel 'train' has rows of 2 columns, but feature_dim is 3"):
        list(passes(file_of(tmp_path, "1,2\n"), width=3))
    assert [batch.width for batch in passes(file_of(tmp_path, "1,2\n"), width=2)] == [2]


def test_large_finite_numbers_are_no_infinity() -> None:
    check_finite(Batch(np.full((4, 2), 3e38, np.float32)), "rows")
    check_finite(Batch(np.array([[3e38, -3e38], [3e38, 3e38]], np.float32)), "rows")


def test_a_sparse_value_is_found_by_row_and_column() -> None:
    rows = sparse.csr_matrix(np.array([[0, 1, 0], [0, 0, 0], [0, 0, np.nan]], np.float32))
    with pytest.raises(DataError, match="rows: row 12, column 2 is nan"):
        check_finite(Batch(rows), "rows", before=10)


def test_labels_are_checked() -> None:
    rows = np.zeros((2, 1), np.float32)
    assert check_labels(Batch(rows, np.array([0, 1], np.float32)), "rows", (0, 1)).tolist() == [0, 1]
    with pytest.raises(DataError, match="rows has no labels"):
        check_labels(Batch(rows), "rows")
    with pytest.raises(DataError, match="the label of row 6 is 2, it must be one of 0, 1"):
        check_labels(Batch(rows, np.array([0, 2], np.float32)), "rows", (0, 1), before=5)
    with pytest.raises(DataError, match="the label of row 1 is nan, it must be a finite number"):
        check_labels(Batch(rows, np.array([0, np.nan], np.float32)), "rows")
    with pytest.raises(DataError, match="2 labels"):
        check_labels(Batch(rows, np.zeros((2, 2), np.float32)), "rows")


def test_scores_are_printed_as_sagemaker_prints_them() -> None:
    run = RecordingRun()
    report_scores(run, "test", [("accuracy", 0.5, "score"), ("mse", 2.0, "loss")])
    assert run.lines == [
        "#test_score (algo-1) : ('accuracy', 0.5)",
        "#test_score (algo-1) : ('mse', 2.0)",
        "#quality_metric: host=algo-1, test accuracy <score>=0.5",
        "#quality_metric: host=algo-1, test mse <loss>=2.0",
    ]


def test_what_the_data_tell_a_python_caller_a_job_must_say(tmp_path: Path) -> None:
    Means().validate()
    assert Means.from_strings({}).settings["feature_dim"] is None
    with pytest.raises(JobError, match="Missing required hyperparameter: feature_dim"):
        configure(Means, {"scale": "2"}, tmp_path / "hyperparameters.json")
    assert configure(Means, {"feature_dim": "2"}, tmp_path).settings["feature_dim"] == 2
    with pytest.raises(HyperparameterError, match="feature_dim"):
        Means(feature_dim=0).validate()
    assert {"name": "feature_dim", "type": "int", "description": "columns", "required": True, "ge": 1} in (
        Means.specification()["hyperparameters"]
    )
