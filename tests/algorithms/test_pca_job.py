"""PCA as a job in a folder: log, formats, pipes, several hosts; and its answers once it is served."""

from __future__ import annotations

import io
import json
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from sagesmith.algorithms import PCA
from sagesmith.algorithms.base import Request, RequestError
from sagesmith.contract import JobFolder
from sagesmith.formats.batch import Batch
from sagesmith.formats.frames import frames
from sagesmith.formats.protobuf import decode
from sagesmith.formats.recordio_writer import write_records
from tests.container.jobs import Job
from tests.container.test_distributed import TwoHosts

SETTINGS = {"feature_dim": "6", "mini_batch_size": "50", "num_components": "3"}
RECORDIO = "application/x-recordio-protobuf"
ROWS = (np.random.default_rng(2).normal(size=(400, 6)) * np.arange(1, 7) + 8).astype(np.float32)


@pytest.fixture
def job(tmp_path: Path, environment: dict[str, str]) -> Job:
    job = Job(JobFolder(tmp_path / "job").create(), environment, "pca")
    job.configure("hyperparameters", SETTINGS)
    return job.configure("resources", {"current_host": "algo-1", "hosts": ["algo-1"]})


def csv(rows: np.ndarray) -> str:
    return "".join(",".join(f"{value:.9g}" for value in row) + "\n" for row in rows)


def same(folder: Path, rows: Any, **settings: Any) -> None:
    found, expected = PCA.load(folder), PCA(**{"num_components": 3, **settings}).fit(rows)
    np.testing.assert_allclose(found.s_, expected.s_, rtol=1e-6)
    np.testing.assert_allclose(found.v_, expected.v_, atol=1e-5)


def test_a_job_writes_sagemakers_lines_and_arrays(job: Job) -> None:
    job.channel("train", csv(ROWS), ContentType="text/csv;label_size=0")
    job.configure("hyperparameters", SETTINGS | {"_kvstore": "dist_sync", "epochs": "1", "force_dense": "true"})
    ended = job.run()
    assert ended.status == 0, ended.log
    for line in (
        "6 feature(s) found in 'data'.",
        "<PCAExecutor on cpu(0)> is assigned to batch slice from 0 to 49.",
        "#progress_metric: host=algo-1, completed 100.0 % of epochs",
        "#throughput_metric: host=algo-1, train throughput=",
        "Test data is not provided.",
        "Hyperparameter _kvstore is taken for compatibility and has no effect",
    ):
        assert line in ended.log
    (found,) = [line for line in ended.log.splitlines() if "update.time" in line]
    told = json.loads(found.partition("#metrics ")[2])
    assert told["Dimensions"] == {"Algorithm": "PCA", "Host": "algo-1", "Operation": "training"}
    assert set(told["Metrics"]) == {"initialize.time", "update.time", "finalize.time", "epochs"}
    with np.load(job.folder.model / "model_algo-1") as arrays:
        assert {name: arrays[name].shape for name in arrays} == {"mean": (1, 6), "v": (6, 3), "s": (3,)}
        assert (np.diff(arrays["s"]) > 0).all()
    same(job.folder.model, ROWS)


def test_the_test_channel_is_scored(job: Job) -> None:
    job.channel("train", csv(ROWS[:300]), ContentType="text/csv")
    job.channel("test", csv(ROWS[300:]), ContentType="text/csv")
    ended = job.run()
    assert ended.status == 0, ended.log
    model = PCA(num_components=3).fit(ROWS[:300])
    lost = ROWS[300:] - model.inverse_transform(model.transform(ROWS[300:]))
    said = dict(
        line.partition("test ")[2].split(" <")[0::1] for line in ended.log.splitlines() if "#quality_metric" in line
    )
    assert set(said) == {"reconstruction_error", "explained_variance"}
    assert float(said["reconstruction_error"].partition("=")[2]) == pytest.approx(
        (lost**2).sum(axis=1).mean(), rel=1e-4
    )
    assert float(said["explained_variance"].partition("=")[2]) == pytest.approx(model.score(ROWS[300:]), rel=1e-4)
    assert "#test_score (algo-1) : ('reconstruction_error', " in ended.log


@pytest.mark.parametrize("mode", ["regular", "randomized"])
def test_sparse_recordio_needs_no_content_type(job: Job, mode: str) -> None:
    rows = sparse.random(300, 500, density=0.02, format="csr", dtype=np.float32, random_state=1)
    job.configure("hyperparameters", SETTINGS | {"feature_dim": "500", "algorithm_mode": mode})
    job.channel("train", "")
    (path,) = (job.folder.data / "train").iterdir()
    path.write_bytes(write_records(Batch(rows)))
    ended = job.run()
    assert ended.status == 0, ended.log
    same(job.folder.model, rows, algorithm_mode=mode)


def test_a_pipe_is_read_once(job: Job) -> None:
    job.channel("train", "", ContentType=RECORDIO, TrainingInputMode="Pipe")
    for path in (job.folder.data / "train").iterdir():
        path.unlink()
    fifo = job.folder.data / "train_0"
    os.mkfifo(fifo)
    writer = threading.Thread(target=lambda: fifo.write_bytes(write_records(Batch(ROWS))))
    writer.start()
    ended = job.run()
    writer.join(timeout=20)
    assert ended.status == 0, ended.log
    same(job.folder.model, ROWS)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"feature_dim": "7"}, "ClientError: channel 'train' has rows of 6 columns, but feature_dim is 7"),
        ({"num_components": "9"}, "AlgorithmError: Hyperparameter num_components: 9 is not in [1, 6]"),
    ],
)
def test_a_users_mistake_is_told_as_such(job: Job, settings: dict[str, str], words: str) -> None:
    job.configure("hyperparameters", SETTINGS | settings)
    job.channel("train", csv(ROWS), ContentType="text/csv")
    ended = job.run()
    assert ended.status == 1
    assert ended.failure.startswith(words)


@pytest.mark.parametrize("missing", ["feature_dim", "mini_batch_size", "num_components"])
def test_a_job_must_say_what_python_sees(job: Job, missing: str) -> None:
    job.configure("hyperparameters", {name: value for name, value in SETTINGS.items() if name != missing})
    job.channel("train", csv(ROWS), ContentType="text/csv")
    assert f"Missing required hyperparameter: {missing}" in job.run().failure


@pytest.mark.parametrize(("mode", "split"), [("regular", 130), ("randomized", 130), ("regular", 0)])
def test_two_hosts_equal_one(tmp_path: Path, environment: dict[str, str], mode: str, split: int) -> None:
    settings = SETTINGS | {"algorithm_mode": mode, "extra_components": "1"}
    hosts = TwoHosts(tmp_path, environment)
    for job, rows in zip(hosts.jobs, (ROWS[:split], ROWS[split:]), strict=True):
        job.algorithm = "pca"
        job.configure("hyperparameters", settings)
        job.channel("train", csv(rows), ContentType="text/csv", S3DistributionType="ShardedByS3Key")
        job.channel("test", csv(rows), ContentType="text/csv", S3DistributionType="ShardedByS3Key")
    ended = hosts.run()
    assert [each.status for each in ended] == [0, 0], [each.log for each in ended]
    assert not list(hosts.jobs[1].folder.model.iterdir())
    same(hosts.jobs[0].folder.model, ROWS, algorithm_mode=mode, extra_components=1)
    score = PCA(num_components=3, algorithm_mode=mode, extra_components=1).fit(ROWS).score(ROWS)
    (said,) = [line for line in ended[0].log.splitlines() if "test explained_variance <score>=" in line]
    assert float(said.partition("score>=")[2]) == pytest.approx(score, rel=1e-5)
    assert "explained_variance" not in ended[1].log


@pytest.fixture(scope="module")
def model() -> PCA:
    return PCA(num_components=2).fit(ROWS)


def test_answers_have_sagemakers_form(model: PCA) -> None:
    expected = model.transform(ROWS[:2])
    thin = {"data": {"features": {"keys": [0, 4], "shape": [6], "values": [1.5, -2.0]}}}
    body = json.dumps(
        {"instances": [{"features": ROWS[0].tolist()}, {"data": {"features": {"values": ROWS[1].tolist()}}}]}
    )
    answer = json.loads(model.respond(Request(body.encode(), "application/json", "application/json")).body)
    assert list(answer) == ["projections"]
    assert [list(row) for row in answer["projections"]] == [["projection"]] * 2
    np.testing.assert_allclose([row["projection"] for row in answer["projections"]], expected, rtol=1e-5, atol=1e-5)
    lines = model.respond(Request(csv(ROWS[:2]).encode(), "text/csv", "application/jsonlines")).body.splitlines()
    np.testing.assert_allclose([json.loads(line)["projection"] for line in lines], expected, rtol=1e-4, atol=1e-4)
    records = model.respond(Request(write_records(Batch(ROWS[:2])), RECORDIO, RECORDIO)).body
    found = [decode(payload).label["projection"].values for payload in frames(io.BytesIO(records))]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    one = json.loads(model.respond(Request(json.dumps(thin).encode(), "application/jsonlines")).body)
    dense = np.array([[1.5, 0, 0, 0, -2, 0]], np.float32)
    np.testing.assert_allclose(one["projections"][0]["projection"], model.transform(dense)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("body", [b"1,2,3", b"1,2,3,4,5,nan", b"1,2,3,4,5,inf", b"a,b,c,d,e,f"])
def test_rows_that_do_not_fit_are_refused(model: PCA, body: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        model.respond(Request(body, "text/csv"))
    assert caught.value.status == 400
