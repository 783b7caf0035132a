"""IP Insights as a job in a folder, served, and on two hosts."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from sagesmith.algorithms import IPInsights
from sagesmith.contract import JobFolder
from tests.algorithms.ipinsights_pairs import csv, drawn
from tests.container.jobs import Job, serving
from tests.container.test_distributed import TwoHosts

SETTINGS = {
    "num_entity_vectors": "80", "vector_dim": "16", "epochs": "4", "learning_rate": "0.02", "mini_batch_size": "200",
}  # fmt: skip
NATIVE = {name: float(value) if "." in value else int(value) for name, value in SETTINGS.items()}


@pytest.fixture
def job(tmp_path: Path, environment: dict[str, str]) -> Job:
    made = Job(JobFolder(tmp_path / "job").create(), environment, "ipinsights")
    made.configure("resources", {"current_host": "algo-1", "hosts": ["algo-1"]}).configure("hyperparameters", SETTINGS)
    return made.channel("train", csv(drawn(2000)), ContentType="text/csv", TrainingInputMode="FastFile")


def auc_of(log: str) -> float:
    return float(re.findall(r"epoch=\S+, validation discriminator_auc <score>=(\S+)", log)[-1])


def test_a_job_trains_is_measured_and_served(job: Job) -> None:
    held = drawn(300, seed=8)
    job.configure("hyperparameters", SETTINGS | {"feature_dim": "2", "_tuning_objective_metric": "x"})
    job.channel("validation", csv(held), ContentType="text/csv")
    ended = job.run()
    assert ended.status == 0, ended.log
    for metric in IPInsights.metrics:
        assert re.search(metric.regex, ended.log), metric.name
    assert "Hyperparameter feature_dim is taken for compatibility and has no effect" in ended.log
    assert '"Algorithm": "IPInsights"' in ended.log
    assert sorted(path.name for path in job.folder.model.iterdir()) == ["model.json", "model_algo-1"]
    expected = IPInsights(**NATIVE).fit(drawn(2000)).predict(held)
    scores = IPInsights.load(job.folder.model).predict(held)
    # Not to the last bit: the job's environment may choose other BLAS kernels than this process has.
    assert np.allclose(scores, expected, rtol=1e-3, atol=1e-3)
    with serving(job) as server:
        body = csv(held[:2]).encode()
        answer = json.loads(server.invoke(body).body)
        served = [prediction["dot_product"] for prediction in answer["predictions"]]
        assert served == pytest.approx(scores[:2].tolist(), rel=1e-3)
        verbose = server.invoke(body, Accept="application/jsonlines; verbose=True").body.splitlines()
        assert [len(json.loads(line)["ip_embedding"]) for line in verbose] == [16, 16]
        assert server.invoke(b"\x0a\x23\xd7\xce", "application/x-recordio-protobuf").status == 415
        refused = server.invoke(b"ann,1.2.3.4\nbob,nowhere\n")
        assert (refused.status, b"line 2: 'nowhere' is no IPv4 address" in refused.body) == (400, True)


@pytest.mark.parametrize(
    ("settings", "channel", "status", "reason"),
    [
        ({"vector_dim": ""}, {}, 1, "vector_dim"),
        ({"num_entity_vectors": None}, {}, 1, "Missing required hyperparameter: num_entity_vectors"),
        ({"vector_dim": None}, {}, 1, "Missing required hyperparameter: vector_dim"),
        ({"num_entity_vectors": "100000000", "vector_dim": "128"}, {}, 1, "a model may have 8 GiB"),
        ({}, {"TrainingInputMode": "Pipe"}, 1, "TrainingInputMode 'Pipe'; allowed: File"),
        ({}, {"ContentType": "application/x-recordio-protobuf"}, 1, "allowed: text/csv"),
        ({}, {"content": "ann,1.2.3.4\nbob,2001:db8::1\n"}, 1, "line 2: '2001:db8::1' is an IPv6 address"),
    ],
)
def test_a_users_mistake_is_told(
    job: Job, settings: dict[str, str | None], channel: dict[str, str], status: int, reason: str
) -> None:
    given = {name: value for name, value in (SETTINGS | settings).items() if value is not None}
    content = channel.pop("content", "ann,1.2.3.4\n")
    job.configure("hyperparameters", given).channel("train", content, **({"ContentType": "text/csv"} | channel))
    ended = job.run()
    assert ended.status == status, ended.log
    assert reason in ended.failure


def two_hosts(folder: Path, environment: dict[str, str], parts: list[np.ndarray]) -> tuple[TwoHosts, list[str]]:
    hosts = TwoHosts(folder, environment)
    for job, part in zip(hosts.jobs, parts, strict=True):
        job.algorithm = "ipinsights"
        job.configure("hyperparameters", SETTINGS)
        job.channel("train", csv(part), ContentType="text/csv", S3DistributionType="ShardedByS3Key")
        job.channel("validation", csv(drawn(500, seed=3)), ContentType="text/csv")
    ended = hosts.run()
    assert [each.status for each in ended] == [0, 0], [each.log for each in ended]
    assert not list(hosts.jobs[1].folder.model.iterdir())
    return hosts, [each.log for each in ended]


def test_two_hosts_are_as_good_as_one(tmp_path: Path, environment: dict[str, str], job: Job) -> None:
    data = drawn(4000)
    job.channel("train", csv(data), ContentType="text/csv")
    one = job.channel("validation", csv(drawn(500, seed=3)), ContentType="text/csv").run()
    hosts, logs = two_hosts(tmp_path / "shards", environment, [data[:1500], data[1500:]])
    assert auc_of(logs[0]) == pytest.approx(auc_of(one.log), abs=0.01)
    assert "validation discriminator_auc" not in logs[1], "the first host measures for all"
    model = IPInsights.load(hosts.jobs[0].folder.model)
    assert model.knows(data[:, 0]).all()
    assert ["1500 learnt from here" in logs[0], "2500 learnt from here" in logs[1]] == [True, True]


def test_two_hosts_with_the_same_rows_share_them(tmp_path: Path, environment: dict[str, str]) -> None:
    _, logs = two_hosts(tmp_path, environment, [drawn(3001)] * 2)
    assert ["1501 learnt from here" in logs[0], "1500 learnt from here" in logs[1]] == [True, True]
    assert auc_of(logs[0]) > 0.97


def test_a_host_without_rows_takes_part(tmp_path: Path, environment: dict[str, str]) -> None:
    hosts, logs = two_hosts(tmp_path, environment, [drawn(0).reshape(0, 2), drawn(3000)])
    assert auc_of(logs[0]) > 0.97
    assert IPInsights.load(hosts.jobs[0].folder.model).knows(drawn(3000)[:, 0]).all()
