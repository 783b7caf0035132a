"""k-means through the SageMaker Python SDK v2's own class: record_set, fit on two instances, deploy, predict, delete.

Run with the SDK's own interpreter; writes JSON for test_sdk2_kmeans.py.
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
from sagemaker import KMeans

ROLE = "arn:aws:iam::123456789012:role/service-role/SageMakerRole"


def main(folder: Path) -> dict[str, Any]:
    """What a user of the SDK's KMeans sees."""
    session = sagemaker.Session()
    rows = np.loadtxt(folder / "clouds.csv", delimiter=",", dtype="float32")
    estimator = KMeans(
        role=ROLE,
        instance_count=2,
        instance_type="ml.m5.large",
        sagemaker_session=session,
        output_path=f"s3://{session.default_bucket()}/sdk2-kmeans/models",
        k=3,
        epochs=2,
        center_factor=4,
        num_trials=3,
        local_init_method="random",
        max_iterations=50,
        tol=0.001,
        init_method="kmeans++",
        half_life_time_size=0,
        eval_metrics=["msd", "ssd"],
    )
    train, test = estimator.record_set(rows), estimator.record_set(rows[:60], channel="test")
    log = io.StringIO()
    with contextlib.redirect_stdout(log):
        estimator.fit([train, test], mini_batch_size=100, job_name="sdk2-kmeans", logs=True)
    described = session.describe_training_job("sdk2-kmeans")
    predictor = estimator.deploy(1, "ml.m5.large", endpoint_name="sdk2-kmeans")
    records = predictor.predict(rows[:9])
    predictor.delete_model()
    predictor.delete_endpoint()
    return {
        "log": log.getvalue(),
        "model": estimator.model_data,
        "hyperparameters": described["HyperParameters"],
        "metrics": {metric["MetricName"]: metric["Value"] for metric in described["FinalMetricDataList"]},
        "clusters": [record.label["closest_cluster"].float32_tensor.values[0] for record in records],
        "distances": [record.label["distance_to_cluster"].float32_tensor.values[0] for record in records],
    }


if __name__ == "__main__":
    result = main(Path(sys.argv[1]))
    Path(sys.argv[2]).write_text(json.dumps(result, default=str))
