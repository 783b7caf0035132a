"""What a user of the SageMaker Python SDK v2 does with Linear Learner: LinearLearner, record_set, fit, deploy, predict.

Run with the SDK's own interpreter against a live server; test_sdk2_linear_learner.py judges the JSON that it writes.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import sagemaker
import sdk2_clock  # noqa: F401  shortens the SDK's waits
from sagemaker.analytics import TrainingJobAnalytics

ROLE = "arn:aws:iam::123456789012:role/service-role/SageMakerRole"


def main(folder: Path) -> dict[str, Any]:
    """Fit on two instances, look at metrics, deploy, predict, delete."""
    seen: dict[str, Any] = {}
    session = sagemaker.Session()
    table = np.loadtxt(folder / "train.csv", delimiter=",", dtype=np.float32)
    learner = sagemaker.LinearLearner(
        ROLE,
        2,
        "ml.m5.large",
        predictor_type="binary_classifier",
        epochs=6,
        num_models=4,
        binary_classifier_model_selection_criteria="f1",
        positive_example_weight_mult="balanced",
        normalize_data=True,
        sagemaker_session=session,
    )
    records = [
        learner.record_set(table[rows, 1:], labels=table[rows, 0], channel=channel)
        for channel, rows in (("train", slice(None, 300)), ("validation", slice(300, None)))
    ]
    learner.fit(records, mini_batch_size=50, logs=False)
    seen["image"] = learner.training_image_uri()
    seen["model_data"] = learner.model_data
    frame = TrainingJobAnalytics(learner.latest_training_job.name, sagemaker_session=session).dataframe()
    seen["metrics"] = {row.metric_name: row.value for row in frame.itertuples()}
    _ask(session, learner, table[300:, 1:], seen)
    return seen


def _ask(session: sagemaker.Session, learner: sagemaker.LinearLearner, rows: np.ndarray, seen: dict[str, Any]) -> None:
    predictor = learner.deploy(1, "ml.m5.large", endpoint_name="sdk2-linear-learner")
    seen["predictor"] = type(predictor).__name__
    answers = predictor.predict(rows)
    for key in ("score", "predicted_label"):
        seen[key] = [answer.label[key].float32_tensor.values[0] for answer in answers]
    predictor.delete_model()
    predictor.delete_endpoint(delete_endpoint_config=True)
    client = session.sagemaker_client
    for _ in range(300):
        seen["left"] = [e["EndpointName"] for e in client.list_endpoints(NameContains="linear-learner")["Endpoints"]]
        if not seen["left"]:
            break
        time.sleep(0.1)


if __name__ == "__main__":
    result = main(Path(sys.argv[1]))
    Path(sys.argv[2]).write_text(json.dumps(result, default=str))
