"""Seq2Seq as a job in a folder, killed and begun again, and served."""

from __future__ import annotations

import json
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from sagesmith.algorithms import Seq2Seq
from sagesmith.contract import JobFolder
from tests.algorithms.seq2seq_sentences import SMALL, backwards, recordio, vocabularies, vocabulary_json
from tests.container.jobs import Job, serving

RECORDIO = "application/x-recordio-protobuf"
SETTINGS = {name: str(value) for name, value in SMALL.items()} | {"max_num_epochs": "3", "bleu_sample_size": "10"}
TRAIN, HELD = backwards(300), backwards(30, seed=1)


@pytest.fixture
def job(tmp_path: Path, environment: dict[str, str]) -> Job:
    made = Job(JobFolder(tmp_path / "job").create(), environment, "seq2seq")
    made.configure("resources", {"current_host": "algo-1", "hosts": ["algo-1"]}).configure("hyperparameters", SETTINGS)
    for name, sides in (("train", TRAIN), ("validation", HELD)):
        made.channel(name, recordio(sides), ContentType=RECORDIO, TrainingInputMode="FastFile")
    made.channel("vocab", None)
    made.folder.channel("vocab").mkdir(parents=True)
    for name, vocabulary in zip(("src", "trg"), vocabularies(), strict=True):
        (made.folder.channel("vocab") / f"vocab.{name}.json").write_text(vocabulary_json(vocabulary))
    return made


def test_a_job_trains_is_measured_and_served(job: Job) -> None:
    ended = job.run()
    assert ended.status == 0, ended.log
    for metric in Seq2Seq.metrics:
        assert re.search(metric.regex, ended.log), metric.name
    assert re.search(r"Checkpoint \[1\] Validation-perplexity=\d", ended.log)
    files = sorted(path.name for path in job.folder.model.iterdir())
    assert files == ["model.json", "model_algo-1", "vocab.src.json", "vocab.trg.json"]
    expected = Seq2Seq.load(job.folder.model).predict(HELD[0][:3])
    with serving(job) as server:
        body = {"instances": [{"data": text} for text in HELD[0][:3]]}
        body["instances"][1]["configuration"] = {"attention_matrix": "true"}  # type: ignore[assignment]
        answer = json.loads(server.invoke(json.dumps(body).encode(), "application/json").body)["predictions"]
        assert [one["target"] for one in answer] == expected
        assert np.array(answer[1]["matrix"]).shape == (len(expected[1].split()), len(HELD[0][1].split()))
        lines = "".join(json.dumps({"source": text}) + "\n" for text in HELD[0][:3]).encode()
        reply = server.invoke(lines, "application/jsonlines", Accept="application/jsonlines")
        assert [json.loads(line)["target"] for line in reply.body.splitlines()] == expected
        refused = server.invoke(b'{"source": "w1"}\n{"source": 5}\n', "application/jsonlines")
        assert (refused.status, b"line 2" in refused.body) == (400, True)


def test_a_killed_job_goes_on_and_a_stopped_one_leaves_its_best_model(job: Job) -> None:
    job.configure("checkpoints", {"LocalPath": "/opt/ml/checkpoints"})
    job.configure("hyperparameters", SETTINGS | {"max_num_epochs": "1000", "checkpoint_frequency_num_batches": "5"})
    process = job.start()
    wait_for(lambda: len(list(job.folder.checkpoints.glob("seq2seq-checkpoint.*.npz"))) == 2)
    process.kill()
    process.communicate()
    process = job.start()
    wait_for(lambda: any(number > 6 for number in checkpoints(job)))
    process.send_signal(signal.SIGTERM)
    ended = job.wait(process)
    assert ended.status == 0, ended.log
    assert re.search(r"Training goes on after checkpoint \[\d+\]: \d+ updates", ended.log)
    assert re.search(r"Checkpoint \[\d+\] was the best: perplexity", ended.log)
    assert len(Seq2Seq.load(job.folder.model).predict(HELD[0])) == 30


def checkpoints(job: Job) -> list[int]:
    return [int(path.name.split(".")[1]) for path in job.folder.checkpoints.glob("seq2seq-checkpoint.*.npz")]


def wait_for(condition: object) -> None:
    assert callable(condition)
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("settings", "channel", "reason"),
    [
        ({"rnn_num_hidden": "7"}, {}, "rnn_num_hidden: 7 is not even"),
        ({"optimized_metric": "bleu", "bleu_sample_size": "0"}, {}, "bleu_sample_size is 0"),
        ({}, {"ContentType": "text/csv"}, "allowed: application/x-recordio-protobuf"),
        ({}, {"TrainingInputMode": "Pipe"}, "TrainingInputMode 'Pipe'; allowed: File"),
        ({}, {"content": recordio((["w1"], ["W1"]))[:-7]}, "record 1: truncated"),
    ],
)
def test_a_users_mistake_is_told(job: Job, settings: dict[str, str], channel: dict[str, str], reason: str) -> None:
    given = {"content": recordio((["w1"], ["W1"])), "ContentType": RECORDIO} | channel
    job.configure("hyperparameters", SETTINGS | settings)
    ended = job.channel("train", given.pop("content"), **given).run()
    assert ended.status == 1, ended.log
    assert reason in ended.failure


def test_a_missing_vocabulary_is_told(job: Job) -> None:
    (job.folder.channel("vocab") / "vocab.trg.json").unlink()
    ended = job.run()
    assert (ended.status, "vocab.trg.json: cannot be read" in ended.failure) == (1, True), ended.log


def test_several_hosts_are_refused(job: Job) -> None:
    job.configure("resources", {"current_host": "algo-1", "hosts": ["algo-1", "algo-2"]})
    ended = job.run()
    assert "seq2seq trains on one host; this job has 2" in ended.failure
