"""LDA by the SageMaker Python SDK v2's own estimator class, run with the SDK's interpreter; writes JSON."""

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
from sagemaker import LDA

ROLE = "arn:aws:iam::123456789012:role/service-role/SageMakerRole"


def main(folder: Path) -> dict[str, Any]:
    """record_set, fit with a test channel, deploy, predict, delete."""
    counts = np.loadtxt(folder / "counts.csv", delimiter=",", dtype=np.float32)
    session = sagemaker.Session()
    estimator = LDA(
        role=ROLE, instance_type="ml.m5.large", num_topics=5, alpha0=1.0, max_restarts=4, max_iterations=200, tol=1e-7,
        sagemaker_session=session,
    )  # fmt: skip
    printed = io.StringIO()
    records = [estimator.record_set(counts), estimator.record_set(counts[:40], channel="test")]
    with contextlib.redirect_stdout(printed):
        estimator.fit(records, mini_batch_size=len(counts), job_name="sdk2-lda", logs="All")
    described = session.describe_training_job("sdk2-lda")
    predictor = estimator.deploy(1, "ml.m5.large", endpoint_name="sdk2-lda")
    answers = predictor.predict(counts[:4])
    predictor.delete_model()
    predictor.delete_endpoint()
    return {
        "log": printed.getvalue(),
        "hyperparameters": described["HyperParameters"],
        "metrics": {metric["MetricName"]: metric["Value"] for metric in described["FinalMetricDataList"]},
        "model_data": estimator.model_data,
        "mixtures": [list(answer.label["topic_mixture"].float32_tensor.values) for answer in answers],
    }


if __name__ == "__main__":
    result = main(Path(sys.argv[1]))
    Path(sys.argv[2]).write_text(json.dumps(result, default=str))
