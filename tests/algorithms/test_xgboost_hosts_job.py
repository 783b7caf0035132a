"""Two hosts as two agents would start them: one model as good as one host's, and metrics over the rows of both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as reference

from sagesmith.algorithms import XGBoost
from sagesmith.contract import JobFolder
from tests.container.jobs import Job
from tests.container.test_distributed import TwoHosts

SETTINGS = {
    "objective": "binary:logistic", "num_round": "8", "max_bin": "64", "csv_weights": "1",
    "eval_metric": "logloss,accuracy,f1,recall,mse,r2",
}  # fmt: skip
SHARDED = {"ContentType": "text/csv", "S3DistributionType": "ShardedByS3Key"}


def csv(rows: np.ndarray) -> str:
    return "".join(",".join(f"{value:.6g}" for value in row) + "\n" for row in rows)


def logged(log: str) -> dict[str, float]:
    """The last round's metrics by name."""
    line = [line for line in log.splitlines() if line.startswith("[7]\t")][-1]
    return {name: float(value) for name, value in (field.split(":") for field in line.split("\t")[1:])}


@pytest.mark.slow
def test_two_hosts_equal_one(cancer: Any, tmp_path: Path, environment: dict[str, str]) -> None:
    X, y = cancer
    weight = np.random.default_rng(1).uniform(0.5, 3, len(y)).round(2)
    table = np.column_stack([y, weight, X])
    # Shards of unlike size and mix of classes, so that a mean of the hosts' values would be wrong.
    train, held = table[:400], table[400:][np.argsort(table[400:, 0], kind="stable")]
    shares = {"train": (train[:300], train[300:]), "validation": (held[:110], held[110:])}
    hosts = TwoHosts(tmp_path, environment)
    for number, job in enumerate(hosts.jobs):
        job.algorithm = "sagemaker-xgboost"
        job.configure("hyperparameters", SETTINGS)
        for name, parts in shares.items():
            job.channel(name, csv(parts[number]), **SHARDED)
    ended = hosts.run()
    assert [each.status for each in ended] == [0, 0], [each.log for each in ended]
    assert not list(hosts.jobs[1].folder.model.iterdir())
    model = XGBoost.load(hosts.jobs[0].folder.model)
    truth, weights = held[:, 0], held[:, 1]
    score = model.ensemble_.predict(np.float32([[float(f"{v:.6g}") for v in row] for row in held[:, 2:]]))
    expected = {
        "accuracy": reference.accuracy_score(truth, score > 0.5, sample_weight=weights),
        "f1": reference.f1_score(truth, score > 0.5, average="macro", sample_weight=weights),
        "recall": reference.recall_score(truth, score > 0.5, sample_weight=weights),
        "mse": reference.mean_squared_error(truth, score, sample_weight=weights),
        "r2": reference.r2_score(truth, score, sample_weight=weights),
        "logloss": reference.log_loss(truth, score.astype(float), sample_weight=weights),
    }
    found = logged(ended[0].log)
    for name, value in expected.items():
        assert found[f"validation-{name}"] == pytest.approx(value, abs=6e-6), name
    alone = Job(JobFolder(tmp_path / "alone").create(), environment, "sagemaker-xgboost")
    alone.configure("hyperparameters", SETTINGS)
    alone.configure("resources", {"current_host": "algo-1", "hosts": ["algo-1"]})
    alone.channel("train", csv(train), ContentType="text/csv").channel("validation", csv(held), ContentType="text/csv")
    one = alone.run()
    assert one.status == 0, one.log
    assert found["validation-logloss"] == pytest.approx(logged(one.log)["validation-logloss"], abs=0.02)
    assert found["validation-accuracy"] == pytest.approx(logged(one.log)["validation-accuracy"], abs=0.02)
