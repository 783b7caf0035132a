"""Jobs as they really run: one host from RecordIO with a test channel, two hosts with a shard each, and serving."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sagesmith.algorithms.randomcutforest import RandomCutForest
from sagesmith.contract import JobFolder
from sagesmith.formats.batch import Batch
from sagesmith.formats.recordio_writer import write_records
from tests.container.jobs import Job, serving
from tests.container.test_distributed import TwoHosts

SETTINGS = {"feature_dim": "3", "num_trees": "50", "num_samples_per_tree": "32"}
SHARDED = {"ContentType": "text/csv;label_size=0", "S3DistributionType": "ShardedByS3Key"}


def rows(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32)


def csv(table: np.ndarray) -> str:
    return "".join(",".join(f"{value:.6g}" for value in row) + "\n" for row in table)


def read_back(table: np.ndarray) -> np.ndarray:
    return np.float32([[float(f"{value:.6g}") for value in row] for row in table])


def job_of(folder: Path, environment: dict[str, str], **settings: str) -> Job:
    job = Job(JobFolder(folder).create(), environment, "randomcutforest")
    job.configure("hyperparameters", SETTINGS | settings)
    return job.configure("resources", {"current_host": "algo-1", "hosts": ["algo-1"]})


LINES = [
    "Verifying hyperparamemters...",
    "Hyperparameters are correct.",
    "Validating memory limits...",
    "Memory limits validated.",
    "Sampling training data...",
    "feature_dim is correct.",
    "Sampling training data completed.",
    "Early stop condition met. Stopping training.",
    "#progress_metric: host=algo-1, completed 100 % epochs",
    "#throughput_metric: host=algo-1, train throughput=",
    "Master node: building Random Cut Forest...",
    "Gathering samples...",
    "1600 samples gathered",
    "ForestInfo{num_trees: 50, num_samples_in_forest: 1600, num_samples_per_tree: 32, sample_dim: 3, ",
    "Master node: Serializing the RandomCutForest model",
    "#test_score (algo-1) : ('f1', ",
    "#quality_metric: host=algo-1, test f1 <score>=",
]


@pytest.mark.slow
def test_a_job_writes_the_lines_of_sagemakers_and_its_model_is_served(tmp_path: Path, environment: Any) -> None:
    X = rows(3000)
    test = np.concatenate([np.column_stack([np.zeros(200), rows(200, 1)]), np.column_stack([np.ones(4), rows(4) + 9])])
    job = job_of(tmp_path, environment)
    job.channel("train", write_records(Batch(X)), S3DistributionType="ShardedByS3Key")
    job.channel("test", csv(test), ContentType="text/csv;label_size=1")
    ended = job.run()
    assert ended.status == 0, ended.log
    places = [ended.log.index(line) for line in LINES]
    assert places == sorted(places)
    assert '"Algorithm": "RandomCutForest"' in ended.log
    f1 = re.search(r"#quality_metric: host=\S+, test f1 <score>=(\S+)", ended.log)
    assert f1 is not None
    assert float(f1[1]) > 0.7
    model = RandomCutForest.load(job.folder.model)
    alone = RandomCutForest.from_strings(SETTINGS).fit(X)
    assert np.array_equal(model.score_samples(X), alone.score_samples(X))
    with serving(job) as server:
        asked = read_back(rows(3, 5))
        expected = [pytest.approx(score) for score in (-model.score_samples(asked)).tolist()]
        reply = server.invoke(csv(asked).encode(), "text/csv", Accept="application/json")
        assert [each["score"] for each in json.loads(reply.body)["scores"]] == expected
        body = json.dumps({"instances": [{"features": row} for row in asked.tolist()]}).encode()
        reply = server.invoke(body, "application/json", Accept="application/jsonlines")
        assert [json.loads(line)["score"] for line in reply.body.splitlines()] == expected
        assert server.invoke(b"1,2\n").status == 400


@pytest.mark.slow
def test_two_hosts_share_the_rows_and_one_may_have_none(tmp_path: Path, environment: Any) -> None:
    X = rows(900)
    alone = RandomCutForest.from_strings(SETTINGS).fit(read_back(X))
    for name, shards in (("both", (X[:500], X[500:])), ("one", (X[:0], X))):
        folder = tmp_path / name
        folder.mkdir()
        hosts = TwoHosts(folder, environment)
        for number, job in enumerate(hosts.jobs):
            job.algorithm = "randomcutforest"
            job.configure("hyperparameters", SETTINGS)
            job.channel("train", csv(shards[number]), **SHARDED)
        ended = hosts.run()
        assert [each.status for each in ended] == [0, 0], [each.log for each in ended]
        assert "900 samples gathered" in ended[0].log
        assert not list(hosts.jobs[1].folder.model.iterdir())
        model = RandomCutForest.load(hosts.jobs[0].folder.model)
        assert np.array_equal(model.forest_.trees.point, alone.forest_.trees.point), (
            "900 rows fit: the hosts' rows in order"
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("channels", "reason"),
    [
        (
            {"train": {"S3DistributionType": "FullyReplicated"}},
            "S3DistributionType 'FullyReplicated'; allowed: Sharded",
        ),
        ({"train": SHARDED, "test": SHARDED}, "S3DistributionType 'ShardedByS3Key'; allowed: FullyReplicated"),
        ({"train": SHARDED | {"ContentType": "text/libsvm"}}, "ContentType 'text/libsvm'"),
    ],
)
def test_what_a_job_may_not_ask_is_refused(channels: Any, reason: str, tmp_path: Path, environment: Any) -> None:
    job = job_of(tmp_path, environment)
    for name, configuration in channels.items():
        job.channel(name, csv(rows(60)), **configuration)
    ended = job.run()
    assert ended.status == 1
    assert reason in ended.failure


@pytest.mark.slow
def test_columns_that_feature_dim_does_not_tell_and_a_missing_one(tmp_path: Path, environment: Any) -> None:
    job = job_of(tmp_path / "a", environment, feature_dim="4").channel("train", csv(rows(60)), **SHARDED)
    ended = job.run()
    assert ended.status == 1
    assert "rows of 3 columns, but feature_dim is 4" in ended.failure
    job.configure("hyperparameters", {"num_trees": "50"})
    ended = job.run()
    assert "Missing required hyperparameter: feature_dim" in ended.failure
