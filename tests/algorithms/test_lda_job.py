"""LDA as a job in a folder: log, formats, pipes; and its answers once it is served."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from sagesmith.algorithms import LDA
from sagesmith.algorithms.base import Request, RequestError
from sagesmith.contract import JobFolder
from sagesmith.formats.batch import Batch
from sagesmith.formats.frames import frames
from sagesmith.formats.protobuf import decode
from sagesmith.formats.recordio_writer import write_records
from tests.algorithms.lda_corpus import apart, bars, drawn
from tests.container.jobs import Job, serving

RECORDIO = "application/x-recordio-protobuf"
ROWS = drawn(bars()[:5], 400, 80)
SETTINGS = {"feature_dim": "25", "mini_batch_size": "400", "num_topics": "5"}


@pytest.fixture
def job(tmp_path: Path) -> Job:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    root = str(Path(__file__).parents[2])
    environment = kept | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}
    made = Job(JobFolder(tmp_path / "job").create(), environment, "lda")
    made.configure("hyperparameters", SETTINGS)
    return made.configure("resources", {"current_host": "algo-1", "hosts": ["algo-1"]})


@pytest.fixture(scope="module")
def model() -> LDA:
    return LDA(num_topics=5).fit(ROWS)


def csv(rows: np.ndarray) -> str:
    return "".join(",".join(f"{value:g}" for value in row) + "\n" for row in rows)


def same(job: Job, model: LDA) -> None:
    found = LDA.load(job.folder.model)
    np.testing.assert_allclose(found.beta_, model.beta_, atol=1e-5)
    np.testing.assert_allclose(found.alpha_, model.alpha_, rtol=1e-4)


def test_a_job_trains_is_measured_and_served(job: Job, model: LDA) -> None:
    held_out = drawn(bars()[:5], 50, 80, seed=4)
    job.channel("train", csv(ROWS), ContentType="text/csv")
    job.channel("test", csv(held_out), ContentType="text/csv;label_size=0")
    job.configure("hyperparameters", SETTINGS | {"_tuning_objective_metric": "test:pwll", "_whatever": "1"})
    ended = job.run()
    assert ended.status == 0, ended.log
    for metric in LDA.metrics:
        assert re.search(metric.regex, ended.log), metric.name
    pwll = float(re.search(LDA.metrics[0].regex, ended.log)[1])  # type: ignore[index]
    assert pwll == pytest.approx(model.score(held_out), rel=1e-4)
    assert "#test_score (algo-1) : ('pwll', " in ended.log
    assert '"Algorithm": "AWS/LDA"' in ended.log
    assert "Hyperparameter _whatever is taken for compatibility and has no effect" in ended.log
    assert sorted(path.name for path in job.folder.model.iterdir()) == ["model.json", "model_algo-1"]
    with np.load(job.folder.model / "model_algo-1") as arrays:
        assert {name: arrays[name].shape for name in arrays} == {"alpha": (5,), "beta": (5, 25)}
    same(job, model)
    assert apart(model.beta_, bars()[:5]).mean() < 0.1
    with serving(job) as server:
        answer = json.loads(server.invoke(csv(held_out[:3]).encode()).body)
        found = [row["topic_mixture"] for row in answer["predictions"]]
        np.testing.assert_allclose(found, model.transform(held_out[:3]), atol=1e-4)
        refused = server.invoke(csv(-held_out[:3]).encode())
        assert (refused.status, b"counts are 0 or more" in refused.body) == (400, True)


@pytest.mark.parametrize("form", ["sparse", "dense"])
def test_recordio_needs_no_content_type(job: Job, model: LDA, form: str) -> None:
    rows = sparse.csr_matrix(ROWS) if form == "sparse" else ROWS
    job.channel("train", "")
    (job.folder.data / "train" / "part-0.csv").write_bytes(write_records(Batch(rows)))
    ended = job.run()
    assert ended.status == 0, ended.log
    same(job, model)


def test_a_pipe_is_read_once(job: Job, model: LDA) -> None:
    job.channel("train", None, ContentType=RECORDIO, TrainingInputMode="Pipe")
    job.folder.data.mkdir(parents=True, exist_ok=True)
    fifo = job.folder.data / "train_0"
    os.mkfifo(fifo)
    writer = threading.Thread(target=lambda: fifo.write_bytes(write_records(Batch(ROWS))))
    writer.start()
    ended = job.run()
    writer.join(timeout=20)
    assert ended.status == 0, ended.log
    same(job, model)


def test_a_job_that_is_asked_to_stop_leaves_its_model(job: Job) -> None:
    topics = np.random.default_rng(0).dirichlet(np.full(300, 0.05), 30)
    job.configure(
        "hyperparameters",
        {"feature_dim": "300", "mini_batch_size": "2000", "num_topics": "40", "max_restarts": "1000", "tol": "1e-300",
         "max_iterations": "100000"},
    )  # fmt: skip
    job.channel("train", "")
    (job.folder.data / "train" / "part-0.csv").write_bytes(write_records(Batch(drawn(topics, 2000, 60))))
    process = job.start()
    time.sleep(6)
    process.send_signal(signal.SIGTERM)
    ended = job.wait(process)
    assert ended.status == 0, ended.log
    assert LDA.load(job.folder.model).beta_.shape == (40, 300)


@pytest.mark.parametrize(
    ("settings", "content", "words"),
    [
        ({"feature_dim": "24"}, csv(ROWS[:9]), "channel 'train' has rows of 25 columns, but feature_dim is 24"),
        ({}, csv(ROWS[:9] - 90), "row 0, column 0 is -"),
        ({}, csv(np.eye(9, 25) - np.eye(9, 25, 3)), "row 0, column 3 is -1; counts are 0 or more"),
        ({}, csv(ROWS[:9]).replace("0", "nan", 1), "only finite numbers can be used"),
        ({}, csv(0 * ROWS[:9]), "channel 'train' holds no words"),
        ({}, "", "channel 'train' holds no documents"),
        ({"num_topics": "0"}, "", "num_topics"),
        ({"alpha0": "0"}, "", "alpha0"),
    ],
)
def test_a_users_mistake_is_told(job: Job, settings: dict[str, str], content: str, words: str) -> None:
    job.configure("hyperparameters", SETTINGS | settings).channel("train", content, ContentType="text/csv")
    ended = job.run()
    assert ended.status == 1
    assert words in ended.failure


@pytest.mark.parametrize("missing", ["feature_dim", "mini_batch_size", "num_topics"])
def test_a_job_must_say_what_python_sees(job: Job, missing: str) -> None:
    job.configure("hyperparameters", {name: value for name, value in SETTINGS.items() if name != missing})
    job.channel("train", csv(ROWS[:9]), ContentType="text/csv")
    assert f"Missing required hyperparameter: {missing}" in job.run().failure


def test_two_hosts_are_refused(job: Job) -> None:
    job.configure("resources", {"current_host": "algo-1", "hosts": ["algo-1", "algo-2"]})
    job.channel("train", csv(ROWS[:9]), ContentType="text/csv")
    ended = job.run()
    assert ended.status == 1
    assert "lda" in ended.failure


def test_answers_have_sagemakers_form(model: LDA) -> None:
    expected = model.transform(ROWS[:2])
    keys = np.flatnonzero(ROWS[1])
    thin = {"keys": keys.tolist(), "shape": [25], "values": ROWS[1][keys].tolist()}
    instances = [{"features": ROWS[0].tolist()}, {"data": {"features": thin}}]
    body = json.dumps({"instances": instances}).encode()
    answer = json.loads(model.respond(Request(body, "application/json", "application/json")).body)
    assert [list(row) for row in answer["predictions"]] == [["topic_mixture"]] * 2
    found = np.array([row["topic_mixture"] for row in answer["predictions"]])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)
    lines = model.respond(Request(csv(ROWS[:2]).encode(), "text/csv", "application/jsonlines")).body.splitlines()
    np.testing.assert_allclose([json.loads(line)["topic_mixture"] for line in lines], expected, atol=1e-6)
    request = write_records(Batch(sparse.csr_matrix(ROWS[:2])))
    records = model.respond(Request(request, RECORDIO, RECORDIO)).body
    decoded = [decode(payload) for payload in frames(io.BytesIO(records))]
    assert [list(record.label) for record in decoded] == [["topic_mixture"]] * 2
    np.testing.assert_allclose([record.label["topic_mixture"].values for record in decoded], expected, atol=1e-6)


@pytest.mark.parametrize("body", [b"1,2,3", b",".join([b"nan"] * 25), b",".join([b"a"] * 25)])
def test_rows_that_do_not_fit_are_refused(model: LDA, body: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        model.respond(Request(body, "text/csv"))
    assert caught.value.status == 400


def test_a_users_own_topics_are_served(model: LDA, tmp_path: Path) -> None:
    model.save(tmp_path)
    with (tmp_path / "model_algo-1").open("wb") as file:
        np.savez(file, alpha=np.full(2, 0.1), beta=np.eye(2, 25))
    edited = LDA.load(tmp_path)
    np.testing.assert_allclose(edited.transform(np.eye(2, 25) * 9), [[9.1 / 9.2, 0.1 / 9.2], [0.1 / 9.2, 9.1 / 9.2]])
    for broken in ({"alpha": np.ones(3)}, {"alpha": -np.ones(2)}, {"beta": np.ones((2, 25))}, {"beta": -np.eye(2, 25)}):
        with (tmp_path / "model_algo-1").open("wb") as file:
            np.savez(file, **({"alpha": np.full(2, 0.1), "beta": np.eye(2, 25)} | broken))  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="model_algo-1 is no lda model"):
            LDA.load(tmp_path)
