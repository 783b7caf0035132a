"""k-NN with the SageMaker Python SDK v2's own class, run with its own interpreter against a live server.

Writes one JSON object with what it saw; test_sdk2_knn.py judges it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import sagemaker
import sdk2_clock  # noqa: F401  shortens the SDK's waits

ROLE = "arn:aws:iam::123456789012:role/service-role/SageMakerRole"


def rows(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points around the corners of a cube, and which corner."""
    random = np.random.default_rng(seed)
    corner = random.integers(0, 2, (count, 3))
    values = corner * 10 + random.normal(size=(count, 3))
    return values.astype("float32"), (corner @ [4, 2, 1]).astype("float32")


def main() -> dict[str, Any]:
    """record_set on two instances, fit, deploy, predict in both protocols, delete."""
    seen: dict[str, Any] = {}
    session = sagemaker.Session()
    X, y = rows(600, 0)
    estimator = sagemaker.KNN(
        ROLE, 2, "ml.m5.large", k=5, sample_size=400, predictor_type="classifier",
        dimension_reduction_type="sign", dimension_reduction_target=2, index_metric="L2",
        sagemaker_session=session, output_path=f"s3://{session.default_bucket()}/knn", base_job_name="sdk2-knn",
    )  # fmt: skip
    test_X, test_y = rows(80, 1)
    channels = [estimator.record_set(X, y), estimator.record_set(test_X, test_y, channel="test")]
    estimator.fit(channels, logs=False)
    seen["job"] = estimator.latest_training_job.name
    seen["hyperparameters"] = estimator.hyperparameters()
    predictor = estimator.deploy(1, "ml.m5.large", endpoint_name="sdk2-knn")
    answers = predictor.predict(test_X)
    seen["predicted"] = [answer.label["predicted_label"].float32_tensor.values[0] for answer in answers]
    seen["truth"] = test_y.tolist()
    response = session.sagemaker_runtime_client.invoke_endpoint(
        EndpointName="sdk2-knn",
        ContentType="text/csv",
        Accept="application/json; verbose=true",
        Body="0,0,0\n10,10,10\n",
    )
    seen["verbose"] = json.loads(response["Body"].read())["predictions"]
    predictor.delete_model()
    predictor.delete_endpoint(delete_endpoint_config=True)
    return seen


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(main(), default=str))
