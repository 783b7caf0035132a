"""What a user of `sagemaker.RandomCutForest` does, run with the SDK's own interpreter against a live server."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import sagemaker
import sdk2_clock  # noqa: F401  shortens the SDK's waits
from sagemaker import RandomCutForest
from sagemaker.inputs import TrainingInput

ROLE = "arn:aws:iam::123456789012:role/service-role/SageMakerRole"


def main() -> dict[str, Any]:
    """record_set, fit, deploy, predict, delete; one job on one instance, one on two with a labelled test channel."""
    session = sagemaker.Session()
    random = np.random.default_rng(0)
    rows = random.normal(size=(600, 3)).astype("float32")
    test = np.concatenate([random.normal(size=(95, 3)), random.normal(size=(5, 3)) + 9]).astype("float32")
    labels = np.concatenate([np.zeros(95), np.ones(5)]).astype("float32")

    estimator = RandomCutForest(
        role=ROLE,
        instance_count=1,
        instance_type="ml.m4.xlarge",
        num_trees=50,
        num_samples_per_tree=64,
        sagemaker_session=session,
        base_job_name="sdk2rcf",
    )
    estimator.fit(estimator.record_set(rows), logs=False)
    seen: dict[str, Any] = {"hyperparameters": estimator.hyperparameters(), "image": estimator.training_image_uri()}
    predictor = estimator.deploy(1, "ml.m4.xlarge", endpoint_name="sdk2rcf")
    answers = predictor.predict(np.stack([rows[0], rows[0] + 20]))
    seen["scores"] = [answer.label["score"].float32_tensor.values[0] for answer in answers]
    seen["model_data"] = estimator.model_data
    predictor.delete_model()
    predictor.delete_endpoint(delete_endpoint_config=True)

    two = RandomCutForest(
        role=ROLE, instance_count=2, instance_type="ml.m4.xlarge", num_trees=50, eval_metrics=["accuracy"],
        sagemaker_session=session, base_job_name="sdk2rcftwo",
    )  # fmt: skip
    two.fit([two.record_set(rows), replicated(two.record_set(test, labels, channel="test"))], logs=False)
    description = session.sagemaker_client.describe_training_job(TrainingJobName=two.latest_training_job.name)
    seen["two"] = {metric["MetricName"]: metric["Value"] for metric in description.get("FinalMetricDataList", [])}
    for _ in range(300):
        left = session.sagemaker_client.list_endpoints(NameContains="sdk2rcf")["Endpoints"]
        if not left:
            break
        time.sleep(0.1)
    seen["endpoints_left"] = len(left)
    return seen


def replicated(records: Any) -> Any:
    """The same records for every instance, as RCF's test channel wants them; the SDK's own are always sharded."""
    channel = TrainingInput(records.s3_data, distribution="FullyReplicated", s3_data_type=records.s3_data_type)
    records.records_s3_input = lambda: channel
    return records


if __name__ == "__main__":
    result = main()
    Path(sys.argv[2]).write_text(json.dumps(result, default=str))
