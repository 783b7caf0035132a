"""Jobs and answers of factorization machines: files and pipes, log, artifact, requests."""

from __future__ import annotations

import json
import os
import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sagesmith.algorithms import FactorizationMachines
from sagesmith.algorithms.base import Request, RequestError
from sagesmith.algorithms.run import Run
from sagesmith.contract import JobFolder
from sagesmith.formats.batch import Batch
from sagesmith.formats.channel import Channel
from sagesmith.formats.protobuf import decode
from sagesmith.formats.recordio_writer import write_records
from tests.algorithms.fm_reference import sparse_rows
from tests.container.jobs import Job, serving

RECORDIO = "application/x-recordio-protobuf"
X = sparse_rows(90, 12)
y = (X @ np.linspace(-1, 2, 12)).astype(np.float32)
STRINGS = {
    "feature_dim": "12",
    "num_factors": "3",
    "predictor_type": "regressor",
    "mini_batch_size": "20",
    "epochs": "2",
}
SETTINGS: dict[str, Any] = {"num_factors": 3, "predictor_type": "regressor", "mini_batch_size": 20, "epochs": 2}


def records(rows: Any, label: np.ndarray) -> bytes:
    return write_records(Batch(rows, label))


@pytest.fixture
def job(tmp_path: Path, environment: dict[str, str]) -> Job:
    made = Job(JobFolder(tmp_path / "ml").create(), environment, "factorization-machines")
    return made.configure("hyperparameters", STRINGS)


def test_a_job_from_files(job: Job) -> None:
    job.channel("train", records(X, y)).channel("test", records(X[:30], y[:30]))  # no ContentType: RecordIO
    ended = job.run()
    assert ended.status == 0, ended.log
    expected = FactorizationMachines(**SETTINGS).fit(X, y)
    model = FactorizationMachines.load(job.folder.model)
    np.testing.assert_array_equal(model.v_, expected.v_)
    with np.load(job.folder.model / "model_algo-1", allow_pickle=False) as arrays:
        assert {name: arrays[name].shape for name in arrays.files} == {"w0": (1,), "w": (12,), "v": (12, 3)}
        np.testing.assert_array_equal(arrays["w"], expected.w_)
    said = ended.log
    assert "[Sparse network] Building a sparse network." in said
    for metric in ("rmse", "mse", "absolute_loss"):
        for where in ("epoch=0, batch=0 train", "epoch=0, train", "epoch=1, train", "train", "test"):
            line = rf"INFO \d+\] #quality_metric: host=algo-1, {where} {metric} <loss>=[0-9.e-]+\n"
            assert re.search(line, said), (where, metric)
    rmse = np.sqrt(np.mean((expected.predict(X[:30]) - y[:30]).astype(float) ** 2))
    assert float(re.search(r"#test_score \(algo-1\) : \('rmse', (\S+)\)", said)[1]) == pytest.approx(rmse, rel=1e-5)  # type: ignore[index]
    assert "#progress_metric: host=algo-1, completed 100.0 % of epochs" in said
    assert re.search(r"#throughput_metric: host=algo-1, train throughput=\S+ records/second", said)
    assert '"Algorithm": "factorization-machines"' in said


def test_dense_records_train_the_same_model_and_build_no_sparse_network(job: Job) -> None:
    ended = job.channel("train", records(X.toarray(), y), ContentType=RECORDIO).run()
    assert ended.status == 0, ended.log
    assert "Sparse network" not in ended.log
    assert "Test data is not provided." in ended.log
    expected = FactorizationMachines(**SETTINGS).fit(X, y)
    np.testing.assert_array_equal(FactorizationMachines.load(job.folder.model).v_, expected.v_)


def test_pipes_are_read_once_for_each_epoch(tmp_path: Path) -> None:
    def feed() -> None:
        for epoch in range(2):
            (tmp_path / f"train_{epoch}").write_bytes(records(X, y))

    for epoch in range(2):
        os.mkfifo(tmp_path / f"train_{epoch}")
    writer = threading.Thread(target=feed)
    writer.start()
    channel = Channel.from_pipe("train", tmp_path / "train", RECORDIO)
    model = FactorizationMachines(**SETTINGS).fit(channel)
    writer.join()
    np.testing.assert_array_equal(model.v_, FactorizationMachines(**SETTINGS).fit(X, y).v_)


@pytest.mark.parametrize(
    ("changed", "train", "words"),
    [
        ({"feature_dim": "11"}, records(X, y), "12 columns, but feature_dim is 11"),
        ({"predictor_type": "binary_classifier"}, records(X, y), "it must be one of 0, 1"),
        ({}, records(X, y)[:-30], "truncated"),
        ({}, write_records(Batch(X)), "has no labels"),
        ({}, b"", "holds no rows"),
    ],
    ids=["width", "labels", "torn", "unlabelled", "empty"],
)
def test_bad_data_is_the_clients_error(
    job: Job, changed: dict[str, str], train: bytes, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sagesmith.container.train import train as run_train

    monkeypatch.setattr("signal.signal", lambda *_: None)
    job.configure("hyperparameters", STRINGS | changed).channel("train", train)
    assert run_train(job.algorithm, job.folder.base) == 1
    failure = job.folder.failure.read_text()
    assert failure.startswith("ClientError: ")
    assert words in failure


def test_csv_is_refused_for_training(job: Job) -> None:
    ended = job.channel("train", "1,2\n", ContentType="text/csv").run()
    assert ended.status == 1
    assert "text/csv" in ended.failure
    assert RECORDIO in ended.failure


def test_feature_dim_is_required_in_a_job(job: Job) -> None:
    job.configure("hyperparameters", {name: value for name, value in STRINGS.items() if name != "feature_dim"})
    ended = job.channel("train", records(X, y)).run()
    assert "Missing required hyperparameter: feature_dim" in ended.failure


JSON_FORMS = {
    "application/json": json.dumps(
        {"instances": [
            {"features": X[1].toarray()[0].tolist()},
            {"data": {"features": {"values": X[1].toarray()[0].tolist()}}},
            {"data": {"features": {"keys": X[1].indices.tolist(), "shape": [12], "values": X[1].data.tolist()}}},
        ]}
    ).encode(),
    "application/jsonlines": (json.dumps({"features": X[1].toarray()[0].tolist()}) + "\n").encode() * 3,
    RECORDIO: write_records(Batch(X[[1, 1, 1]])),
}  # fmt: skip


@pytest.mark.parametrize("content_type", JSON_FORMS)
@pytest.mark.parametrize("task", ["regressor", "binary_classifier"])
def test_answers(content_type: str, task: str) -> None:
    model = FactorizationMachines(**{**SETTINGS, "predictor_type": task}).fit(X, y > 0 if task[0] == "b" else y)
    score = float((model.predict(X[1]) if task == "regressor" else model.predict_proba(X[1])[:, 1])[0])
    keys = {"score"} if task == "regressor" else {"score", "predicted_label"}
    body = JSON_FORMS[content_type]
    found = json.loads(model.respond(Request(body, content_type)).body)["predictions"]
    assert [set(one) for one in found] == [keys] * 3
    assert [one["score"] for one in found] == pytest.approx([score] * 3, rel=1e-6)
    if task == "binary_classifier":
        assert [one["predicted_label"] for one in found] == [int(score >= 0.5)] * 3
    lines = model.respond(Request(body, content_type, "application/jsonlines")).body
    assert [json.loads(line) for line in lines.splitlines()] == found
    framed = model.respond(Request(body, content_type, RECORDIO)).body
    first = decode(framed[8 : 8 + int.from_bytes(framed[4:8], "little")])
    assert set(first.label) == keys
    assert first.label["score"].values[0] == np.float32(score)


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"1,2,3\n", "text/csv", 415),
        (b'{"instances": [{"features": [1, 2]}]}', "application/json", 400),
        (b'{"data": {"features": {"keys": [12], "shape": [12], "values": [1]}}}', "application/jsonlines", 400),
        (b'{"instances": [{"features": [1,2,3,4,5,6,7,8,9,10,11,null]}]}', "application/json", 400),
        (b"", "application/json", 400),
    ],
)  # fmt: skip
def test_requests_that_cannot_be_answered(body: bytes, content_type: str, status: int) -> None:
    model = FactorizationMachines(**SETTINGS).fit(X, y)
    with pytest.raises(RequestError) as caught:
        model.respond(Request(body, content_type))
    assert caught.value.status == status


def test_a_served_model_answers_over_http(job: Job) -> None:
    model = FactorizationMachines(**SETTINGS).fit(X, y)
    model.save(job.folder.model)
    with serving(job) as server:
        reply = server.invoke(JSON_FORMS[RECORDIO], RECORDIO, Accept="application/jsonlines")
        scores = [json.loads(line)["score"] for line in reply.body.splitlines()]
        np.testing.assert_allclose(scores, model.predict(X[[1, 1, 1]]), rtol=1e-6)
        assert server.invoke(b"1,2\n", "text/csv").status == 415


def test_classes_and_names_survive_the_artifact(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X.toarray(), columns=[f"c{i}" for i in range(12)])
    model = FactorizationMachines(**{**SETTINGS, "predictor_type": "binary_classifier"})
    model.fit(frame, np.where(y > 0, "yes", "no")).save(tmp_path)
    loaded = FactorizationMachines.load(tmp_path)
    assert loaded.predict(frame).tolist() == model.predict(frame).tolist()
    assert set(loaded.predict(frame)) <= {"yes", "no"}
    assert (loaded.w0_, loaded.n_features_in_) == (model.w0_, 12)


@pytest.mark.parametrize("name", ["w0", "w", "v"])
def test_arrays_that_are_not_of_one_model_are_refused(name: str, tmp_path: Path) -> None:
    FactorizationMachines(**SETTINGS).fit(X, y).save(tmp_path)
    with np.load(tmp_path / "model_algo-1") as archive:
        arrays = dict(archive)
    arrays[name] = arrays[name][:-1]
    with (tmp_path / "model_algo-1").open("wb") as file:
        np.savez(file, **arrays)
    with pytest.raises(ValueError, match="not of one model"):
        FactorizationMachines.load(tmp_path)


def test_a_job_that_is_asked_to_stop_keeps_what_it_learnt() -> None:
    class Stopped(Run):
        stopping = True  # type: ignore[assignment]

    model = FactorizationMachines(**{**SETTINGS, "epochs": 10**9}).fit(X, y, run=Stopped())
    assert model.predict(X).std() > 0
