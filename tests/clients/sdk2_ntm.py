"""NTM by the SageMaker Python SDK v2's own estimator class, run with the SDK's interpreter; writes JSON."""

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
from sagemaker import NTM

ROLE = "arn:aws:iam::123456789012:role/service-role/SageMakerRole"


def main(folder: Path) -> dict[str, Any]:
    """record_set, fit with validation and test channels, deploy, predict, delete."""
    counts = np.loadtxt(folder / "counts.csv", delimiter=",", dtype=np.float32)
    session = sagemaker.Session()
    estimator = NTM(
        role=ROLE, instance_count=1, instance_type="ml.m5.large", num_topics=5, epochs=5, optimizer="adam",
        learning_rate=0.01, sagemaker_session=session,
    )  # fmt: skip
    printed = io.StringIO()
    records = [
        estimator.record_set(counts),
        estimator.record_set(counts[:60], channel="validation"),
        estimator.record_set(counts[:40], channel="test"),
    ]
    with contextlib.redirect_stdout(printed):
        estimator.fit(records, mini_batch_size=32, job_name="sdk2-ntm", logs="All")
    described = session.describe_training_job("sdk2-ntm")
    predictor = estimator.deploy(1, "ml.m5.large", endpoint_name="sdk2-ntm")
    answers = predictor.predict(counts[:4])
    predictor.delete_model()
    predictor.delete_endpoint()
    return {
        "log": printed.getvalue(),
        "hyperparameters": described["HyperParameters"],
        "metrics": {metric["MetricName"]: metric["Value"] for metric in described["FinalMetricDataList"]},
        "model_data": estimator.model_data,
        "weights": [list(answer.label["topic_weights"].float32_tensor.values) for answer in answers],
    }


if __name__ == "__main__":
    result = main(Path(sys.argv[1]))
    Path(sys.argv[2]).write_text(json.dumps(result, default=str))
