"""Linear Learner as a job: files, pipes, several hosts, and rows that cannot be learnt from."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse

from sagesmith.algorithms import LinearLearner
from sagesmith.algorithms.linear_learner import rows as rows_module
from sagesmith.algorithms.run import Run
from sagesmith.contract import JobFolder
from sagesmith.formats.batch import Batch
from sagesmith.formats.channel import Channel
from sagesmith.formats.errors import DataError
from sagesmith.formats.recordio_writer import write_records
from sagesmith.testing.check_algorithm import RecordingRun
from tests.container.jobs import Job
from tests.container.test_distributed import TwoHosts

RECORDS = "application/x-recordio-protobuf"
SETTINGS: dict[str, Any] = {
    "predictor_type": "binary_classifier", "epochs": 3, "mini_batch_size": 50, "num_models": 4
}  # fmt: skip
STRINGS = {name: str(value) for name, value in SETTINGS.items()}


def csv(X: np.ndarray, y: np.ndarray) -> str:
    return "".join(",".join(repr(float(v)) for v in row) + "\n" for row in np.column_stack([y, X]))


class InGang(RecordingRun):
    """One of several hosts that are threads of this process."""

    def __init__(self, rank: int, hosts: int, barrier: threading.Barrier, parts: list[Any]) -> None:
        super().__init__()
        self.hosts = [f"algo-{number + 1}" for number in range(hosts)]
        self.host = self.hosts[rank]
        self._barrier, self._parts = barrier, parts

    def gather(self, state: bytes) -> list[bytes]:
        self._parts[self.rank] = state
        self._barrier.wait(30)
        found = list(self._parts)
        self._barrier.wait(30)
        return found


def together(hosts: int, work: Callable[[InGang], Any]) -> list[Any]:
    """`work` on every host at once; the first error of one ends the waiting of all."""
    barrier, parts = threading.Barrier(hosts), [None] * hosts
    errors = []

    def one(rank: int) -> Any:
        try:
            return work(InGang(rank, hosts, barrier, parts))
        except Exception as error:
            errors.append(error)
            barrier.abort()

    with ThreadPoolExecutor(hosts) as pool:
        results = list(pool.map(one, range(hosts)))
    if errors:
        raise errors[0]
    return results


@pytest.mark.slow
def test_a_job_from_csv_and_recordio_leaves_the_models_of_arrays(
    cancer: Any, tmp_path: Path, environment: dict[str, str]
) -> None:
    X, y = cancer
    expected = LinearLearner(**SETTINGS).fit(X[:400], y[:400], validation=(X[400:], y[400:]), run=Run(1))
    for kind, train in (("text/csv", csv(X[:400], y[:400])), (RECORDS, write_records(Batch(X[:400], y[:400])))):
        job = Job(JobFolder(tmp_path / kind[:4]).create(), environment, "linear-learner")
        job.configure("hyperparameters", STRINGS | {"_kvstore": "dist_sync", "feature_dim": "30"})
        job.channel("train", train, ContentType=kind)
        job.channel("validation", csv(X[400:], y[400:]), ContentType="text/csv")
        done = job.run()
        assert done.status == 0, done.log
        model = LinearLearner.load(job.folder.model)
        assert model.weight_ == pytest.approx(expected.weight_, rel=1e-4, abs=1e-6)
        assert model.threshold == pytest.approx(expected.threshold, abs=1e-4)
    metrics = {metric.name: re.search(metric.regex, done.log) for metric in LinearLearner.metrics}
    found = {name for name, match in metrics.items() if match}
    assert {
        "train:objective_loss", "train:objective_loss:final", "validation:objective_loss", "train:progress",
        "train:throughput", "validation:binary_f_beta", "validation:roc_auc_score", "train:precision",
    } <= found  # fmt: skip
    assert '"Algorithm": "Linear Learner"' in done.log
    assert "Test data is not provided." in done.log


@pytest.mark.slow
def test_two_hosts_train_one_model_as_good_as_one_hosts(
    cancer: Any, tmp_path: Path, environment: dict[str, str]
) -> None:
    X, y = cancer
    hosts = TwoHosts(tmp_path, environment)
    for job, part in zip(hosts.jobs, (slice(0, 150), slice(150, 400)), strict=True):
        job.algorithm = "linear-learner"
        job.configure("hyperparameters", STRINGS)
        sharded = {"ContentType": "text/csv", "S3DistributionType": "ShardedByS3Key"}
        job.channel("train", csv(X[part], y[part]), **sharded)
        job.channel("validation", csv(X[400:], y[400:]), ContentType="text/csv")
    ended = hosts.run()
    assert [each.status for each in ended] == [0, 0], [each.log for each in ended]
    assert not list(hosts.jobs[1].folder.model.iterdir())
    assert LinearLearner.load(hosts.jobs[0].folder.model).score(X[400:], y[400:]) > 0.94
    scores = [re.findall(r"#validation_score \(algo-\d\) : (.*)", each.log) for each in ended]
    assert scores[0] == scores[1]


def test_hosts_make_the_steps_of_one_host_with_their_batches_together(cancer: Any) -> None:
    X, y = cancer
    X, y = X[:500], y[:500]
    shared = {"learning_rate": 0.01, "num_models": 3, "epochs": 3, "predictor_type": "binary_classifier"}

    def one(run: InGang) -> LinearLearner:
        part = slice(250 * run.rank, 250 * run.rank + 250)
        channel = Channel.of("train", X[part], y[part])
        return LinearLearner(mini_batch_size=250, **shared).fit(channel, run=run, validation=Channel.of("v", X, y))

    first, second = together(2, one)
    alone = LinearLearner(mini_batch_size=500, **shared).fit(X, y, validation=(X, y))
    assert np.array_equal(first.weight_, second.weight_)
    assert first.weight_ == pytest.approx(alone.weight_, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("kind", ["dense", "sparse", "lazy"])
def test_unlike_shards_end_in_one_model_everywhere(cancer: Any, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = cancer
    if kind == "lazy":
        monkeypatch.setattr("sagesmith.algorithms.linear_learner.training.LAZY", 5)
    rows = X if kind == "dense" else sparse.csr_matrix(X)
    bounds = [0, 300, 300, 400]  # the second host has no row
    held = [400, 450, 450, 569]  # sharded as well

    def one(run: InGang) -> tuple[LinearLearner, list[str]]:
        mine, own = slice(*bounds[run.rank : run.rank + 2]), slice(*held[run.rank : run.rank + 2])
        channels = [
            Channel.of(name, rows[part], y[part])
            if part.start < part.stop
            else Channel.from_files(name, [], "text/csv")
            for name, part in (("train", mine), ("validation", own))
        ]
        model = LinearLearner(**SETTINGS).fit(channels[0], validation=channels[1], run=run)
        return model, [line for line in run.lines if "validation" in line and "score>" in line]

    results = together(3, one)
    for model, _ in results[1:]:
        assert np.array_equal(model.weight_, results[0][0].weight_)
        assert model.threshold == results[0][0].threshold
    assert results[0][0].score(X[400:], y[400:]) > 0.9
    accuracy = next(float(line.split("=")[-1]) for line in results[0][1] if "accuracy" in line)
    assert accuracy == pytest.approx((results[0][0].predict(X[400:]) == y[400:]).mean())
    assert [float(line.split("=")[-1]) for line in results[2][1]] == [
        float(line.split("=")[-1]) for line in results[0][1]
    ]


def test_hosts_without_validation_draw_one_sample(cancer: Any) -> None:
    X, y = cancer
    models = together(
        2, lambda run: LinearLearner(**SETTINGS).fit(Channel.of("t", X[run.rank :: 2], y[run.rank :: 2]), run=run)
    )
    assert np.array_equal(models[0].weight_, models[1].weight_)
    assert models[0].threshold == models[1].threshold


def test_a_pipe_is_read_once_where_its_rows_fit_into_memory(cancer: Any, tmp_path: Path) -> None:
    X, y = cancer
    os.mkfifo(tmp_path / "train_0")
    writer = threading.Thread(target=(tmp_path / "train_0").write_text, args=(csv(X, y),))
    writer.start()
    channel = Channel.from_pipe("train", tmp_path / "train", "text/csv")
    model = LinearLearner(**SETTINGS).fit(channel)
    writer.join()
    assert model.weight_ == pytest.approx(LinearLearner(**SETTINGS).fit(X, y).weight_, rel=1e-4, abs=1e-6)


def test_rows_that_do_not_fit_are_read_anew_every_epoch(
    cancer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = cancer
    (tmp_path / "part.csv").write_text(csv(X, y))
    monkeypatch.setattr(rows_module, "KEPT", 100)
    passes = []
    found = Channel.batches
    monkeypatch.setattr(Channel, "batches", lambda self, rows=None: passes.append(self.name) or found(self, rows))
    model = LinearLearner(**SETTINGS).fit(Channel.from_folder("train", tmp_path, "text/csv"))
    assert passes.count("train") == 1 + 3 + 1, "a look, three epochs, the scores"
    assert model.score(X, y) > 0.9


def test_a_stopped_job_keeps_its_best_model(cancer: Any) -> None:
    class Stopping(RecordingRun):
        @property
        def stopping(self) -> bool:
            return any("epoch=1" in line for line in self.lines)

    run = Stopping()
    model = LinearLearner(**SETTINGS | {"epochs": 50, "early_stopping_patience": 60}).fit(*cancer, run=run)
    assert sum("#early_stopping_criteria_metric" in line for line in run.lines) == 3
    assert model.score(*cancer) > 0.9


BAD = [
    ("1,2\n0,nan\n", "row 1, column 0 is nan"), ("1,2\n0,inf\n", "row 1, column 0 is inf"),
    ("1,2\n2,3\n", "the label of row 1 is 2, it must be 0 or 1"), ("nan,2\n1,1\n", "label of row 0 is nan"),
    ("0.5,2\n1,1\n", "the label of row 0 is 0.5"), ("", "holds no rows"), ("1,2\n0,2,3\n", "line 2|columns|fields"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), BAD)
def test_rows_that_cannot_be_learnt_from_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "part.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        LinearLearner(**SETTINGS).fit(Channel.from_folder("train", tmp_path, "text/csv"))


def test_classes_beyond_num_classes_are_named() -> None:
    rows = Channel.of("train", np.ones((3, 1), np.float32), np.array([0, 1, 3], np.float32))
    with pytest.raises(DataError, match="the label of row 2 is 3, it must be a whole number from 0 to 2"):
        LinearLearner(predictor_type="multiclass_classifier", num_classes=3).fit(rows)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(1, 12), st.integers(1, 4), st.sampled_from(["binary_classifier", "regressor", "multiclass_classifier"]),
    st.sampled_from([0.0, 1.0, -7.5, 1e-30, 1e20, 3e38]), st.booleans(), st.integers(0, 2**31),
)  # fmt: skip
def test_odd_but_finite_rows_give_finite_answers(
    count: int, width: int, task: str, value: float, as_sparse: bool, seed: int
) -> None:
    """One row, constant columns, rows of zeros, tiny and huge numbers, one class only."""
    random = np.random.default_rng(seed)
    X = np.where(random.random((count, width)) < 0.5, 0, value).astype(np.float32)
    y = random.integers(0, 1 + (count > 3), count).astype(np.float32)
    model = LinearLearner(
        predictor_type=task, num_classes=3 if task == "multiclass_classifier" else 1, epochs=2, num_models=3
    )
    channel = Channel.of("train", sparse.csr_matrix(X) if as_sparse else X, y)
    model.fit(channel)
    assert np.isfinite(np.asarray(model.infer(Batch(X))["score"])).all()


def test_a_single_class_is_learnt_from_a_channel() -> None:
    rows = Channel.of("train", np.arange(8, dtype=np.float32).reshape(4, 2), np.zeros(4, np.float32))
    assert LinearLearner(**SETTINGS).fit(rows).predict(rows).tolist() == [0, 0, 0, 0]


def test_diverging_models_are_passed_over_or_told() -> None:
    random = np.random.default_rng(0)
    X = random.normal(size=(200, 3)).astype(np.float32)
    y = X.sum(axis=1)
    settings = {"predictor_type": "regressor", "optimizer": "sgd", "epochs": 20, "mini_batch_size": 10}
    assert LinearLearner(learning_rate=0.02, **settings).fit(X, y).score(X, y) > 0.99
    with pytest.raises(DataError, match="no model has a finite loss: try a smaller learning_rate"):
        LinearLearner(learning_rate=1e30, **settings).fit(X, y)
