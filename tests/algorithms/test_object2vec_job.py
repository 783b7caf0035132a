"""Object2Vec as a job in a folder, killed and begun again, and served."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sagesmith.algorithms import Object2Vec
from sagesmith.contract import JobFolder
from tests.algorithms.object2vec_pairs import SMALL, drawn, jsonlines
from tests.container.jobs import Job, serving

JSONLINES = "application/jsonlines"
SETTINGS = {name: str(value) for name, value in SMALL.items()} | {"_kvstore": "device", "_num_gpus": "auto"}
TRAIN, HELD = drawn(300), drawn(60, seed=1)


@pytest.fixture
def job(tmp_path: Path, environment: dict[str, str]) -> Job:
    made = Job(JobFolder(tmp_path / "job").create(), environment, "object2vec")
    made.configure("resources", {"current_host": "algo-1", "hosts": ["algo-1"]}).configure("hyperparameters", SETTINGS)
    return made.channel("train", jsonlines(*TRAIN), ContentType=JSONLINES)


def test_a_job_trains_is_measured_and_served(job: Job) -> None:
    for name in ("validation", "test"):
        job.channel(name, jsonlines(*HELD), ContentType=JSONLINES, TrainingInputMode="FastFile")
    ended = job.run()
    assert ended.status == 0, ended.log
    for metric in Object2Vec.metrics:
        assert bool(re.search(metric.regex, ended.log)) != ("mean_squared" in metric.name), metric.name
    assert sorted(path.name for path in job.folder.model.iterdir()) == ["model.json", "model_algo-1"]
    model = Object2Vec.load(job.folder.model)
    expected = model.predict_proba(HELD[0][:3])
    test = float(re.findall(r"test accuracy <score>=(\S+)", ended.log)[0])
    assert test == pytest.approx(model.score(*HELD))
    with serving(job) as server:
        reply = server.invoke(jsonlines(HELD[0][:3]).encode(), JSONLINES, Accept=JSONLINES)
        scores = [json.loads(line)["scores"] for line in reply.body.splitlines()]
        assert np.allclose(scores, expected, atol=1e-5)
        body = json.dumps({"instances": [{"in1": [1, 2, 3]}]}).encode()
        answer = json.loads(server.invoke(body, "application/json; infer_max_seqlens=50,2").body)
        assert np.allclose(answer["predictions"][0]["embeddings"], model.embed(in1=[[1, 2]])[0], atol=1e-5)
        refused = server.invoke(b'{"in0": [1]}\n{"in0": [1', JSONLINES)
        assert (refused.status, b"line 2: not JSON" in refused.body) == (400, True)


def wait_for(condition: Callable[[], object]) -> None:
    until = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_killed_job_goes_on_and_a_stopped_one_leaves_its_best_model(job: Job) -> None:
    job.configure("checkpoints", {"LocalPath": "/opt/ml/checkpoints"})
    endless = {"epochs": "100", "early_stopping_patience": "5", "mini_batch_size": "1", "learning_rate": "0.0001"}
    job.configure("hyperparameters", SETTINGS | endless | {"early_stopping_tolerance": "0.000001"})

    def reached() -> list[int]:
        return [int(p.name.split(".")[1]) for p in job.folder.checkpoints.glob("object2vec-checkpoint.*.npz")]

    process = job.start()
    wait_for(lambda: reached())
    process.kill()
    process.communicate()
    begun = max(reached())
    process = job.start()
    wait_for(lambda: max(reached()) > begun)
    process.send_signal(signal.SIGTERM)
    ended = job.wait(process)
    assert ended.status == 0, ended.log
    assert re.search(r"Training goes on after epoch \d+", ended.log)
    assert re.search(r"Epoch \d+ was the best: cross_entropy", ended.log)
    assert len(Object2Vec.load(job.folder.model).predict(HELD[0])) == 60


FINE = '{"label": 1, "in0": [1], "in1": [2]}\n'
BROKEN = [*jsonlines(*TRAIN).splitlines()[:6], '{"label": 1, "in0": [1, "in1": [2]}']


@pytest.mark.parametrize(
    ("settings", "channel", "reason"),
    [
        (
            {"enc0_vocab_size": "2", "enc1_vocab_size": "4"},
            {"content": '{"label": 0, "in0": [1], "in1": [2]}\n'},
            'ClientError: Inconsistent vocab for in1 found. Vocab id "2" is not less than vocab_size=2 (',
        ),
        ({"enc_dim": "2"}, {}, "enc_dim: 2 is not in [4, 10000]"),
        ({}, {"content": "\n".join(BROKEN)}, "line 7: not JSON"),
        ({}, {"content": "\n"}, "holds no pairs"),
        ({"num_classes": "3"}, {"content": '\n{"label": 3, "in0": [1], "in1": [2]}\n'}, "classes 0 to 2"),
        ({}, {"content": FINE * 6 + '{"label": 1, "in0": [1], "in1": [20]}\n' + FINE}, "part-0.csv, line 7)"),
        ({}, {"content": "\n\n" + FINE + '{"label": 2, "in0": [1], "in1": [2]}\n'}, "part-0.csv, line 4)"),
        ({}, {"ContentType": "text/csv"}, "allowed: application/jsonlines"),
        ({}, {"TrainingInputMode": "Pipe"}, "TrainingInputMode 'Pipe'; allowed: File"),
    ],
)
def test_a_users_mistake_is_told(job: Job, settings: dict[str, str], channel: dict[str, str], reason: str) -> None:
    given = {"content": jsonlines(*TRAIN), "ContentType": JSONLINES} | channel
    job.configure("hyperparameters", SETTINGS | settings)
    ended = job.channel("train", given.pop("content"), **given).run()
    assert ended.status == 1, ended.log
    assert reason in ended.failure


def test_several_hosts_are_refused(job: Job) -> None:
    job.configure("resources", {"current_host": "algo-1", "hosts": ["algo-1", "algo-2"]})
    assert "object2vec trains on one host; this job has 2" in job.run().failure
