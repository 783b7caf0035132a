"""BlazingText as a job in a folder: every mode, served; stopped, taken up from a checkpoint, and on two hosts."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sagesmith.algorithms import BlazingText
from sagesmith.contract import JobFolder
from sagesmith.formats.frames import frame
from tests.algorithms.blazingtext_texts import TOPICS, drawn, labelled
from tests.container.jobs import Job, serving
from tests.container.test_distributed import TwoHosts

CLASSIFIER = {
    "mode": "supervised", "vector_dim": "10", "min_count": "1", "buckets": "500", "learning_rate": "0.3", "epochs": "8",
}  # fmt: skip
VECTORS = {"mode": "batch_skipgram", "vector_dim": "16", "epochs": "4", "min_count": "2", "sampling_threshold": "0.01"}


@pytest.fixture
def job(tmp_path: Path, environment: dict[str, str]) -> Job:
    made = Job(JobFolder(tmp_path / "job").create(), environment, "blazingtext")
    made.configure("resources", {"current_host": "algo-1", "hosts": ["algo-1"]}).configure(
        "hyperparameters", CLASSIFIER
    )
    return made


def text(lines: int, seed: int = 0) -> str:
    return "\n".join(drawn(lines, seed)[0]) + "\n"


def files(job: Job) -> list[str]:
    return sorted(path.name for path in job.folder.model.iterdir())


def test_a_classifier_is_trained_stopped_early_and_served(job: Job) -> None:
    held, truth = drawn(200, seed=1)
    job.configure("hyperparameters", CLASSIFIER | {"early_stopping": "True", "min_epochs": "1", "patience": "1"})
    job.channel("train", labelled(*drawn(600)), ContentType="text/plain")
    job.channel("validation", labelled(held, truth))
    ended = job.run()
    assert ended.status == 0, ended.log
    found = {metric.name: re.findall(metric.regex, ended.log) for metric in BlazingText.metrics}
    assert found["train:mean_rho"] == []
    model = BlazingText.load(job.folder.model)
    assert float(found["validation:accuracy"][-1]) == pytest.approx(model.score(held, truth), abs=1e-4)
    assert float(found["train:accuracy"][-1]) > 0.98
    assert "Stopping early!" in ended.log
    assert re.search(r"##### Alpha: \S+  Progress: \S+%  Million Words/sec: \S+ #####", ended.log)
    assert files(job) == ["model.bin"]
    with serving(job) as server:
        body = json.dumps({"instances": held[:2], "configuration": {"k": 2}}).encode()
        answer = json.loads(server.invoke(body, "application/json", Accept="text/csv").body)
        labels, chances = model.predict_labels(held[:2], 2)
        assert [row["label"] for row in answer] == [[f"__label__{label}" for label in row] for row in labels]
        assert np.allclose([row["prob"] for row in answer], chances, atol=1e-5)
        lines = server.invoke(b'{"source": "a wave"}\n{"source": "moss", "k": 3}\n', "application/jsonlines").body
        assert [len(json.loads(line)["prob"]) for line in lines.splitlines()] == [1, 3]
        assert server.invoke(b"a wave", "text/plain").status == 415
        refused = server.invoke(b'{"instances": ["a", 3]}', "application/json")
        assert (refused.status, b"instance 2: 3 is no text" in refused.body) == (400, True)


@pytest.mark.parametrize(("mode", "subwords"), [("skipgram", "True"), ("cbow", "False"), ("batch_skipgram", "False")])
def test_vectors_are_trained_and_served(job: Job, mode: str, subwords: str) -> None:
    job.configure("hyperparameters", VECTORS | {"mode": mode, "subwords": subwords, "buckets": "3000"})
    ended = job.channel("train", text(800)).run()
    assert ended.status == 0, ended.log
    rho = re.findall(BlazingText.metrics[0].regex, ended.log)
    assert files(job) == ["eval.json", "vectors.bin", "vectors.txt"]
    assert json.loads((job.folder.model / "eval.json").read_text())["mean_rho"] == float(rho[0])
    assert f"Vectors read from: {job.folder.model}/vectors.txt" in ended.log
    model = BlazingText.load(job.folder.model)
    with serving(job) as server:
        body = json.dumps({"instances": ["wave", "unheard"]}).encode()
        answer = json.loads(server.invoke(body, "application/json").body)
    assert [row["word"] for row in answer] == ["wave", "unheard"]
    assert np.allclose([row["vector"] for row in answer], model.predict(["wave", "unheard"]))
    assert any(answer[1]["vector"]) == (subwords == "True")


def through_pipe(job: Job, content: bytes) -> Any:
    """Runs the job with the content in the train channel's first FIFO."""
    path = job.folder.channel("train").with_name("train_0")
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(content,), daemon=True)
    writer.start()
    ended = job.run()
    writer.join(10)
    return ended


def test_pipe_mode_reads_text(job: Job) -> None:
    job.channel("train", None, TrainingInputMode="Pipe", ContentType="text/plain")
    ended = through_pipe(job, labelled(*drawn(600)).encode())
    assert ended.status == 0, ended.log
    assert BlazingText.load(job.folder.model).score(*drawn(100, seed=1)) > 0.95


def test_an_augmented_manifest_is_read(job: Job) -> None:
    texts, topics = drawn(600)
    numbers = {topic: number for number, topic in enumerate(sorted(TOPICS))}
    records = [part for pair in zip(texts, topics, strict=True) for part in (pair[0], json.dumps(numbers[pair[1]]))]
    job.channel(
        "train", None, TrainingInputMode="Pipe", RecordWrapperType="RecordIO", ContentType="application/x-recordio"
    )
    ended = through_pipe(job, b"".join(frame(record.encode()) for record in records))
    assert ended.status == 0, ended.log
    held, truth = drawn(100, seed=1)
    model = BlazingText.load(job.folder.model)
    assert sorted(model.classes_.tolist()) == ["0", "1", "2"]
    assert model.score(held, [numbers[topic] for topic in truth]) > 0.95


@pytest.mark.parametrize(
    ("settings", "channels", "reason"),
    [
        ({"mode": None}, {}, "Missing required hyperparameter: mode"),
        ({"mode": "svd"}, {}, "Hyperparameter mode: could not parse value svd"),
        ({"buckts": "7"}, {}, "Additional properties are not allowed ('buckts' was unexpected)"),
        ({"early_stopping": "True"}, {}, "early_stopping=True needs a validation channel"),
        ({"mode": "cbow"}, {"validation": {}}, "mode cbow takes no validation channel"),
        ({}, {"train": {"content": "__label__a x\nno label\n"}}, "part-0.csv, line 2: no label"),
        ({}, {"train": {"content": b"__label__a \xff\n"}}, "part-0.csv, line 1: not UTF-8"),
        ({}, {"train": {"content": ""}}, "channel train holds no line with a label"),
        ({}, {"train": {"ContentType": "text/csv"}}, "ContentType 'text/csv'; allowed: text/plain"),
        ({}, {"train": {"S3DistributionType": "ShardedByS3Key"}}, "allowed: FullyReplicated"),
    ],
)
def test_a_users_mistake_is_told(job: Job, settings: dict[str, Any], channels: dict[str, Any], reason: str) -> None:
    given = {name: value for name, value in (CLASSIFIER | settings).items() if value is not None}
    if given.get("mode") == "cbow":
        given = {"mode": "cbow"}
    job.configure("hyperparameters", given)
    for name, configuration in ({"train": {}} | channels).items():
        configuration = {"content": "__label__a x y\n"} | configuration
        job.channel(name, **configuration)
    ended = job.run()
    assert ended.status == 1, ended.log
    assert reason in ended.failure


@pytest.mark.parametrize("settings", [CLASSIFIER, VECTORS])
def test_a_stopped_job_leaves_what_it_learnt(job: Job, settings: dict[str, str]) -> None:
    lines = labelled(*drawn(3000)) if settings is CLASSIFIER else text(3000)
    job.configure("hyperparameters", settings | {"epochs": "100000"}).channel("train", lines)
    process = job.start()
    assert process.stdout is not None
    seen = ""
    while "#progress_metric" not in seen:
        line = process.stdout.readline()
        assert line, seen
        seen += line
    process.send_signal(signal.SIGTERM)
    ended = job.wait(process)
    assert ended.status == 0, seen + ended.log
    assert "Stopped by SIGTERM" in ended.log
    model = BlazingText.load(job.folder.model)
    if settings is CLASSIFIER:
        assert model.score(*drawn(100, seed=1)) > 0.95
    else:
        assert model.predict(["wave"]).any()


@pytest.mark.parametrize("settings", [CLASSIFIER | {"early_stopping": "True"}, VECTORS])
def test_a_killed_job_goes_on_from_its_checkpoint(job: Job, settings: dict[str, str]) -> None:
    classifier = settings["mode"] == "supervised"
    checkpoints = job.folder.base / "kept"
    # min_epochs and patience that never stop: the job is killed.
    longer = {"epochs": "5000"} | ({"min_epochs": "4000", "patience": "4000"} if classifier else {})
    job.configure("hyperparameters", settings | longer)
    job.configure("checkpoints", {"LocalPath": str(checkpoints), "S3Uri": "s3://b/c"})
    job.channel("train", labelled(*drawn(2000)) if classifier else text(2000))
    if classifier:
        job.channel("validation", labelled(*drawn(100, seed=1)))
    process = job.start()
    limit = time.monotonic() + 50
    while not list(checkpoints.glob("*.npz")):
        assert process.poll() is None
        assert time.monotonic() < limit
        time.sleep(0.01)
    process.kill()
    job.wait(process)
    process = job.start()
    assert process.stdout is not None
    seen = ""
    while "#progress_metric" not in seen:
        line = process.stdout.readline()
        assert line, seen
        seen += line
    process.send_signal(signal.SIGTERM)
    ended = job.wait(process)
    assert ended.status == 0, seen + ended.log
    assert "Checkpoint loaded from" in seen
    first = float(re.findall(r"completed (\S+) % of epochs", seen)[0])
    assert first > 100 / 5000, "the first epoch after the checkpoint is not the first of all"


def two_hosts(folder: Path, environment: dict[str, str], settings: dict[str, str], content: str) -> list[Any]:
    hosts = TwoHosts(folder, environment)
    for one in hosts.jobs:
        one.algorithm = "blazingtext"
        one.configure("hyperparameters", settings).channel("train", content)
    return [hosts, hosts.run()]


def test_two_hosts_learn_one_batch_skipgram(tmp_path: Path, environment: dict[str, str]) -> None:
    hosts, ended = two_hosts(tmp_path, environment, VECTORS, text(3000))
    assert [each.status for each in ended] == [0, 0], [each.log for each in ended]
    assert "Running distributed CPU BlazingText training using batch_skipgram on 2 hosts." in ended[0].log
    assert "#mean_rho" in ended[0].log
    assert "#mean_rho" not in ended[1].log
    assert files(hosts.jobs[0]) == ["eval.json", "vectors.txt"], "binaries come from single machines only"
    assert files(hosts.jobs[1]) == []
    model = BlazingText.load(hosts.jobs[0].folder.model)
    words = [word for own in TOPICS.values() for word in own]
    found = model.predict(words)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    topic = np.repeat(np.arange(3), 10)
    same = topic[:, None] == topic[None, :]
    cosines = found @ found.T
    assert cosines[same & ~np.eye(30, dtype=bool)].mean() > cosines[~same].mean() + 0.4


def test_two_hosts_are_refused_to_other_modes(tmp_path: Path, environment: dict[str, str]) -> None:
    _, ended = two_hosts(tmp_path, environment, {"mode": "cbow"}, text(10))
    assert 0 not in [each.status for each in ended]
    for each in ended:  # whichever says it first
        assert each.failure.startswith("ClientError: ")
        assert "mode cbow trains on one host, this job has 2; batch_skipgram takes more" in each.failure
