"""DeepAR as a job in a folder, served, and on two hosts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sagesmith.algorithms import DeepAR
from sagesmith.contract import JobFolder
from tests.algorithms.deepar_series import AS_STRINGS, drawn, lines, shortened
from tests.container.jobs import Job, serving
from tests.container.test_distributed import TwoHosts


@pytest.fixture
def job(tmp_path: Path, environment: dict[str, str]) -> Job:
    made = Job(JobFolder(tmp_path / "job").create(), environment, "forecasting-deepar")
    made.configure("resources", {"current_host": "algo-1", "hosts": ["algo-1"]})
    return made.configure("hyperparameters", AS_STRINGS).channel("train", lines(drawn()), ContentType="json")


def test_a_job_trains_is_measured_and_served(job: Job) -> None:
    private = {"_kvstore": "auto", "_num_gpus": "auto", "_num_kv_servers": "auto", "_tuning_objective_metric": ""}
    job.configure("hyperparameters", AS_STRINGS | private)
    job.channel("test", lines(drawn(seed=9)), ContentType="application/jsonlines", TrainingInputMode="FastFile")
    ended = job.run()
    assert ended.status == 0, ended.log
    for metric in DeepAR.metrics:
        assert re.search(metric.regex, ended.log), metric.name
    assert re.search(r'"Algorithm": "AWS/DeepAR".*"Metrics": \{"epochs": \{"sum": 6.*"update.time"', ended.log)
    assert sorted(path.name for path in job.folder.model.iterdir()) == ["model.json", "model_algo-1"]
    asked = shortened(drawn(2, seed=4), 12)
    expected = DeepAR.load(job.folder.model).forecast(asked, 50, ["0.5"])
    with serving(job, DEEPAR_INFERENCE_CONFIG='{"num_samples": 50, "output_types": ["mean"]}') as server:
        body = json.dumps({"instances": asked, "configuration": {"output_types": ["quantiles"], "quantiles": ["0.5"]}})
        answer = json.loads(server.invoke(body.encode(), "application/json").body)
        found = [prediction["quantiles"]["0.5"] for prediction in answer["predictions"]]
        assert np.allclose(found, expected.quantiles["0.5"], rtol=1e-3)
        line = json.loads(server.invoke(lines(asked[:1]).encode(), "application/jsonlines").body)
        assert np.allclose(line["mean"], expected.mean[0], rtol=0.1)
        refused = server.invoke(b'{"instances": [{"start": "2024-01-01"}]}', "application/json")
        assert (refused.status, b"instance 1: the field 'target' is missing" in refused.body) == (400, True)


@pytest.mark.parametrize(
    ("settings", "channel", "reason"),
    [
        ({"time_freq": None}, {}, "Missing required hyperparameter: time_freq"),
        ({"time_freq": "Q"}, {}, "time_freq"),
        ({"num_epochs": "1"}, {}, "Additional properties are not allowed"),
        ({}, {"TrainingInputMode": "Pipe"}, "TrainingInputMode 'Pipe'; allowed: File"),
        ({}, {"ContentType": "text/csv"}, "allowed: json"),
        ({}, {"content": lines(drawn(1))}, "needs 300"),
        ({}, {"content": lines(drawn(1)) + '{"start": 3, "target": []}'}, "line 2: 'start' is 3"),
    ],
)
def test_a_users_mistake_is_told(
    job: Job, settings: dict[str, str | None], channel: dict[str, str], reason: str
) -> None:
    given = {name: value for name, value in (AS_STRINGS | settings).items() if value is not None}
    content = channel.get("content", lines(drawn(3)))
    rest: dict[str, Any] = {"ContentType": "json"} | {k: v for k, v in channel.items() if k != "content"}
    job.configure("hyperparameters", given).channel("train", content, **rest)
    ended = job.run()
    assert ended.status == 1, ended.log
    assert reason in ended.failure


def two_hosts(folder: Path, environment: dict[str, str], parts: list[list[dict[str, Any]]]) -> list[str]:
    hosts = TwoHosts(folder, environment)
    for job, part in zip(hosts.jobs, parts, strict=True):
        job.algorithm = "forecasting-deepar"
        job.configure("hyperparameters", AS_STRINGS)
        job.channel("train", lines(part), ContentType="json", S3DistributionType="ShardedByS3Key")
        job.channel("test", lines(drawn(seed=9)), ContentType="json")
    ended = hosts.run()
    assert [each.status for each in ended] == [0, 0], [each.log for each in ended]
    assert not list(hosts.jobs[1].folder.model.iterdir())
    return [each.log for each in ended]


def loss_of(log: str) -> float:
    return float(re.findall(r"test mean_wQuantileLoss <loss>=(\S+)", log)[-1])


@pytest.mark.slow
def test_two_hosts_learn_one_model(tmp_path: Path, environment: dict[str, str]) -> None:
    records = drawn(30)
    logs = two_hosts(tmp_path, environment, [records[:10], records[10:]])
    assert loss_of(logs[0]) < 0.06
    assert "test mean_wQuantileLoss" not in logs[1], "the first host measures for all"
    finals = [re.findall(r"final_loss <loss>=(\S+)", log) for log in logs]
    assert finals[0] == finals[1]
    assert all("number of time series: 30" in log for log in logs)


@pytest.mark.slow
@pytest.mark.parametrize("empty", [False, True])
def test_the_same_series_are_shared_and_none_is_fine(tmp_path: Path, environment: dict[str, str], empty: bool) -> None:
    records = drawn(21)
    logs = two_hosts(tmp_path, environment, [records, [] if empty else records])
    assert loss_of(logs[0]) < 0.06
    assert all("number of time series: 21" in log for log in logs)
