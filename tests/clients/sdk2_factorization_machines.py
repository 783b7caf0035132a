"""`sagemaker.FactorizationMachines` of the SageMaker Python SDK v2, run with the SDK's own interpreter.

Writes one JSON object with what it saw; test_sdk2_factorization_machines.py judges it.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import sagemaker
import sdk2_clock  # noqa: F401  shortens the SDK's waits
from sagemaker import FactorizationMachines

ROLE = "arn:aws:iam::123456789012:role/service-role/SageMakerRole"


def main(folder: Path) -> dict[str, Any]:
    """A regressor on one host, a classifier on two: record_set, fit, deploy, predict, delete."""
    session = sagemaker.Session()
    table = np.loadtxt(folder / "train.csv", delimiter=",", dtype="float32")
    X, y = table[:, 1:], table[:, 0]
    return {
        "regressor": _one(session, X, X[:, 0] * X[:, 1], "regressor", 1),
        "classifier": _one(session, X, y, "binary_classifier", 2),
    }


def _one(session: sagemaker.Session, X: np.ndarray, y: np.ndarray, task: str, hosts: int) -> dict[str, Any]:
    estimator = FactorizationMachines(
        ROLE, hosts, "ml.m5.large", num_factors=4, predictor_type=task, epochs=200, linear_lr=0.05, factors_lr=0.05,
        factors_init_method="uniform", factors_init_scale=0.1, bias_lr=0.05, eps=1e-6, rescale_grad=0.02,
        sagemaker_session=session, output_path=f"s3://{session.default_bucket()}/sdk2-fm/models",
    )  # fmt: skip
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        estimator.fit(
            [estimator.record_set(X, labels=y), estimator.record_set(X, labels=y, channel="test")], mini_batch_size=50
        )
    predictor = estimator.deploy(1, "ml.m5.large", endpoint_name=f"sdk2-fm-{task.split('_')[0]}")
    records = predictor.predict(X[:20])
    fields = [{name: value.float32_tensor.values[0] for name, value in record.label.items()} for record in records]
    predictor.delete_model()
    predictor.delete_endpoint()
    return {
        "log": output.getvalue(),
        "fields": fields,
        "expected": y[:20].tolist(),
        "hyperparameters": estimator.hyperparameters(),
        "metrics": session.describe_training_job(estimator.latest_training_job.name)["FinalMetricDataList"],
    }


if __name__ == "__main__":
    result = main(Path(sys.argv[1]))
    Path(sys.argv[2]).write_text(json.dumps(result, default=str))
