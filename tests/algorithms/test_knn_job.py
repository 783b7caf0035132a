"""k-NN as a job: content types, modes, the log, several hosts, and data that cannot be used."""

from __future__ import annotations

import json
import os
import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.metrics import f1_score

from sagesmith.algorithms import KNN
from sagesmith.algorithms.base import HyperparameterError
from sagesmith.contract import JobFolder
from sagesmith.formats.batch import Batch
from sagesmith.formats.channel import Channel
from sagesmith.formats.errors import DataError
from sagesmith.formats.recordio_writer import write_records
from sagesmith.testing.check_algorithm import RecordingRun
from tests.container.jobs import Job
from tests.container.test_distributed import TwoHosts

SETTINGS = {"k": "5", "predictor_type": "classifier", "sample_size": "100", "feature_dim": "13"}


def csv(table: np.ndarray) -> str:
    return "".join(",".join(f"{value:.9g}" for value in row) + "\n" for row in table)


@pytest.fixture
def table(wine: Any) -> np.ndarray:
    """178 rows, the label first."""
    X, y = wine
    return np.column_stack([y, X / X.std(axis=0)]).astype(np.float32)


@pytest.mark.slow
def test_a_job_writes_sagemakers_log_and_files(table: np.ndarray, tmp_path: Path, environment: dict[str, str]) -> None:
    job = Job(JobFolder(tmp_path).create(), environment, "knn")
    job.configure("hyperparameters", SETTINGS | {"epochs": "1", "_faiss_index_nprobe": "5"})
    job.channel("train", csv(table[:120]), ContentType="text/csv;label_size=1")
    job.channel("test", csv(table[120:]), ContentType="text/csv;label_size=1")
    ended = job.run()
    assert ended.status == 0, ended.log
    assert sorted(path.name for path in job.folder.model.iterdir()) == [
        "model_algo-1",
        "model_algo-1.json",
        "model_algo-1.labels",
    ]
    model = KNN.load(job.folder.model)
    assert model.index_.index.ntotal == 100
    predicted = model.predict(table[120:, 1:])
    accuracy = float(np.mean(predicted == table[120:, 0]))
    assert accuracy > 0.85
    assert f"#test_score (algo-1) : ('accuracy', {accuracy!r})" in ended.log
    found = {metric.name: re.search(metric.regex, ended.log) for metric in KNN.metrics}
    assert float(found["test:accuracy"][1]) == accuracy  # type: ignore[index]
    assert float(found["train:progress"][1]) == 100  # type: ignore[index]
    assert found["train:throughput"]
    macro = re.search(r"test macro_f_1\.000 <score>=(\S+)", ended.log)
    assert macro
    assert float(macro[1]) == pytest.approx(f1_score(table[120:, 0], predicted, average="macro"))
    for line in (
        r"Using per-worker sample size = 100 \(Available virtual memory = \d+ bytes, GPU free memory = 0 bytes, "
        r"number of workers = 1\)\.",
        r"\.\.\.Got reservoir sample from algo-1: data=\(100, 13\), labels=\(100,\), NaNs=0",
        r"Training index\.\.\.",
        r"\.\.\.Finished training index in \d+ second\(s\)",
        r"\.\.\.Done searching index in \d+ second\(s\)",
        r'"Algorithm": "AWS/KNN"',
    ):
        assert re.search(line, ended.log), line


@pytest.mark.slow
def test_two_hosts_have_one_hosts_sample_and_scores_over_both(
    table: np.ndarray, tmp_path: Path, environment: dict[str, str]
) -> None:
    hosts = TwoHosts(tmp_path, environment)
    parts = {"train": (table[:100], table[100:130]), "test": (table[130:140], table[140:])}
    for number, job in enumerate(hosts.jobs):
        job.algorithm = "knn"
        job.configure("hyperparameters", SETTINGS | {"sample_size": "130"})
        for name, shares in parts.items():
            job.channel(name, csv(shares[number]), ContentType="text/csv", S3DistributionType="ShardedByS3Key")
    ended = hosts.run()
    assert [each.status for each in ended] == [0, 0], [each.log for each in ended]
    assert not list(hosts.jobs[1].folder.model.iterdir())
    model = KNN.load(hosts.jobs[0].folder.model)
    alone = KNN(k=5, predictor_type="classifier").fit(table[:130, 1:], table[:130, 0])
    assert np.array_equal(model.labels_, table[:130, 0])
    assert np.array_equal(model.predict(table[:, 1:]), alone.predict(table[:, 1:]))
    accuracy = float(np.mean(model.predict(table[130:, 1:]) == table[130:, 0]))
    for each in ended:
        assert f"('accuracy', {accuracy!r})" in each.log, "over the rows of both hosts"


@pytest.mark.slow
def test_a_host_without_rows_is_no_trouble(table: np.ndarray, tmp_path: Path, environment: dict[str, str]) -> None:
    hosts = TwoHosts(tmp_path, environment)
    for number, job in enumerate(hosts.jobs):
        job.algorithm = "knn"
        job.configure("hyperparameters", SETTINGS)
        rows = csv(table) if number == 1 else ""
        job.channel("train", rows, ContentType="text/csv", S3DistributionType="ShardedByS3Key")
    ended = hosts.run()
    assert [each.status for each in ended] == [0, 0], [each.log for each in ended]
    assert KNN.load(hosts.jobs[0].folder.model).index_.index.ntotal == 100


@pytest.mark.parametrize("form", ["csv", "dense", "sparse", "pipe"])
def test_every_form_of_data_gives_one_model(form: str, table: np.ndarray, tmp_path: Path) -> None:
    X, y = table[:, 1:].copy(), table[:, 0].copy()
    X[X < 2] = 0
    run, model = RecordingRun(), KNN(k=5, predictor_type="classifier", sample_size=60, mini_batch_size=50)
    path = tmp_path / "rows"
    kind = "text/csv" if form == "csv" else "application/x-recordio-protobuf"
    rows: Any = sparse.csr_matrix(X) if form == "sparse" else X
    content = csv(np.column_stack([y, X])).encode() if form == "csv" else write_records(Batch(rows, y))
    if form == "pipe":
        os.mkfifo(tmp_path / "train_0")
        writer = threading.Thread(target=lambda: (tmp_path / "train_0").write_bytes(content))
        writer.start()
        model.fit(Channel.from_pipe("train", tmp_path / "train", kind), run=run)
        writer.join(10)
    else:
        path.write_bytes(content)
        model.fit(Channel.from_folder("train", path, kind), run=run)
    direct = KNN(k=5, predictor_type="classifier", sample_size=60).fit(X, y)
    assert np.array_equal(model.labels_, direct.labels_)
    assert np.array_equal(model.predict_proba(X), direct.predict_proba(X))
    assert "Test data is not provided." in run.lines


def test_the_error_of_a_regressor_is_logged(diabetes: Any) -> None:
    X, y = diabetes
    run = RecordingRun()
    model = KNN(k=5, predictor_type="regressor", mini_batch_size=40).fit(
        X[:300], y[:300], test=(X[300:], y[300:]), run=run
    )
    expected = np.mean((model.predict(X[300:]).astype(float) - y[300:]) ** 2)
    found = [line for line in run.lines if line.startswith("#quality_metric")]
    assert len(found) == 1
    assert float(re.search(KNN.metrics[1].regex, found[0])[1]) == pytest.approx(expected)  # type: ignore[index]
    assert sum(line == "Searching index..." for line in run.lines) == 4, "one search for a batch of 40"


@pytest.mark.parametrize("by_files", [True, False])
def test_labels_may_be_any_numbers(by_files: bool, table: np.ndarray, tmp_path: Path) -> None:
    X, y = table[:, 1:], np.array([35, 7, -2], np.float32)[table[:, 0].astype(int)]
    run, model = RecordingRun(), KNN(k=1, predictor_type="classifier")
    if by_files:
        path = tmp_path / "rows.csv"
        path.write_text(csv(np.column_stack([y, X])))
        model.fit(
            Channel.from_folder("train", path, "text/csv"), test=Channel.from_folder("test", path, "text/csv"), run=run
        )
    else:
        model.fit(X, y, test=(X, y), run=run)
    assert "#test_score (algo-1) : ('accuracy', 1.0)" in run.lines
    assert np.array_equal(model.predict(X), y)
    model.save(tmp_path / "model")
    assert np.array_equal(KNN.load(tmp_path / "model").predict(X), y)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["1,2,3", "0,nan,3"], "channel 'train': row 1, column 0 is nan"),
        (["1,2,3", "0,2,inf"], "channel 'train': row 1, column 1 is inf"),
        (["1,2,3", "0,2"], "line 2"),
        (["1,2,3,4"], "rows of 3 columns, but feature_dim is 2"),
        (["nan,2,3"], "the label of row 0 is nan"),
        (["1,2,3"], "k is 2, but the train channel has only 1 rows"),
        ([], "holds no rows on any host"),
        (["1,2,x"], "line 1"),
    ],
)
def test_rows_that_cannot_be_used_are_named(lines: list[str], message: str, tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_text("".join(line + "\n" for line in lines))
    with pytest.raises((DataError, ValueError), match=message):
        KNN(k=2, predictor_type="classifier", feature_dim=2).fit(Channel.from_folder("train", path, "text/csv"))


def test_rows_without_labels_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_bytes(write_records(Batch(np.ones((5, 2), np.float32))))
    with pytest.raises(DataError, match="has no labels"):
        KNN(k=2, predictor_type="classifier").fit(Channel.from_folder("train", path, "application/x-recordio-protobuf"))


@settings(max_examples=60, deadline=None)
@given(
    cells=st.lists(
        st.lists(st.sampled_from(["0", "1", "-2.5", "1e30", "nan", "inf", "", "x"]), min_size=1, max_size=4),
        min_size=1,
        max_size=8,
    ),
    k=st.integers(1, 4),
)
def test_any_csv_is_trained_on_or_refused_in_words(tmp_path_factory: Any, cells: list[list[str]], k: int) -> None:
    path = tmp_path_factory.mktemp("any") / "train.csv"
    path.write_text("".join(",".join(row) + "\n" for row in cells))
    try:
        model = KNN(k=k, predictor_type="regressor").fit(Channel.from_folder("train", path, "text/csv"))
    except (DataError, ValueError):
        return
    assert np.isfinite(model.predict(np.zeros((3, model.space_.width), np.float32))).all()


def test_sparse_rows_of_zeros_are_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    X = sparse.csr_matrix((6, 5), dtype=np.float32)
    path.write_bytes(write_records(Batch(X, np.arange(6, dtype=np.float32))))
    for kind in (None, "sign", "fjlt"):
        target = 3 if kind else None
        model = KNN(k=3, predictor_type="regressor", dimension_reduction_type=kind, dimension_reduction_target=target)
        model.fit(Channel.from_folder("train", path, "application/x-recordio-protobuf"))
        assert model.predict(X).tolist() == [1.0] * 6, "equal distances: rows 0, 1 and 2"


def test_a_stopped_job_leaves_the_model_of_what_it_saw(table: np.ndarray, tmp_path: Path) -> None:
    class Stopping(RecordingRun):
        @property
        def stopping(self) -> bool:
            return True

    model = KNN(k=2, predictor_type="classifier", mini_batch_size=30)
    (tmp_path / "rows.csv").write_text(csv(table))
    model.fit(Channel.from_folder("train", tmp_path, "text/csv"), run=Stopping())
    assert model.index_.index.ntotal == 30


def test_a_job_must_say_how_large_the_sample_is(tmp_path: Path, environment: dict[str, str]) -> None:
    job = Job(JobFolder(tmp_path).create(), environment, "knn")
    job.configure("hyperparameters", {"k": "5", "predictor_type": "classifier"})
    ended = job.channel("train", "1,2\n", ContentType="text/csv").run()
    assert ended.status != 0
    assert "Missing required hyperparameter: sample_size" in ended.failure
    with pytest.raises(HyperparameterError, match="Missing required hyperparameter: k"):
        KNN.from_strings({"predictor_type": "classifier"})
    assert json.loads(json.dumps(KNN.specification()))["images"] == ["knn"]
