"""sagemaker.IPInsights of the SageMaker Python SDK v2, from CSV to predictions. Run with the SDK's own interpreter;
writes JSON for test_sdk2_ipinsights.py.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import sagemaker
import sdk2_clock  # noqa: F401  shortens the SDK's waits
from sagemaker import IPInsights
from sagemaker.amazon.amazon_estimator import RecordSet
from sagemaker.deserializers import JSONDeserializer, JSONLinesDeserializer
from sagemaker.inputs import TrainingInput
from sagemaker.predictor import Predictor
from sagemaker.serializers import CSVSerializer, JSONSerializer

ROLE = "arn:aws:iam::123456789012:role/service-role/SageMakerRole"


class CsvSet(RecordSet):
    """What the estimator's `fit` asks for, with a TrainingInput that names the content type."""

    def records_s3_input(self) -> TrainingInput:
        return TrainingInput(self.s3_data, content_type="text/csv")


def main(folder: Path) -> dict[str, Any]:
    """Upload, fit, deploy, predict, delete."""
    seen: dict[str, Any] = {}
    session = sagemaker.Session()
    inputs = []
    for name in ("train", "validation"):
        uri = session.upload_data(str(folder / f"pairs-{name}.csv"), key_prefix=f"ipinsights/{name}")
        kind = CsvSet if name == "train" else RecordSet  # a bare RecordSet names no content type
        inputs.append(kind(uri, 0, 2, s3_data_type="S3Prefix", channel=name, distribution="FullyReplicated"))
    estimator = IPInsights(
        ROLE, 1, "ml.c5.xlarge", num_entity_vectors=80, vector_dim=16, epochs=4, learning_rate=0.02,
        random_negative_sampling_rate=2, sagemaker_session=session,
    )  # fmt: skip
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        estimator.fit(inputs, mini_batch_size=200, job_name="sdk2-ipinsights", logs="All")
    seen["log"] = output.getvalue()
    described = session.describe_training_job("sdk2-ipinsights")
    seen["hyperparameters"] = described["HyperParameters"]
    seen["metrics"] = {metric["MetricName"]: metric["Value"] for metric in described["FinalMetricDataList"]}
    seen["image"] = described["AlgorithmSpecification"]["TrainingImage"]
    seen["model_data"] = estimator.model_data

    rows = np.array([line.split(", ") for line in (folder / "pairs-validation.csv").read_text().splitlines()[:5]])
    predictor = estimator.deploy(1, "ml.m5.large", endpoint_name="sdk2-ipinsights")
    seen["predictor"] = type(predictor).__name__
    seen["predict"] = predictor.predict(rows)
    verbose = {"Accept": "application/json; verbose=True"}
    seen["verbose"] = predictor.predict(rows, initial_args=verbose)
    lines = JSONLinesDeserializer(accept="application/jsonlines")
    seen["lines"] = Predictor("sdk2-ipinsights", session, CSVSerializer(), lines).predict(rows)
    by_json = Predictor("sdk2-ipinsights", session, JSONSerializer(), JSONDeserializer())
    seen["json"] = by_json.predict({"instances": [{"data": {"features": {"values": row}}} for row in rows.tolist()]})
    try:
        predictor.predict(np.array([["user_1", "2001:db8::1"]]))
    except Exception as error:
        seen["refused"] = str(error)
    predictor.delete_model()
    predictor.delete_endpoint()
    for _ in range(300):
        seen["left"] = session.sagemaker_client.list_endpoints(NameContains="sdk2-ipinsights")["Endpoints"]
        if not seen["left"]:
            break
        time.sleep(0.1)
    return seen


if __name__ == "__main__":
    result = main(Path(sys.argv[1]))
    Path(sys.argv[2]).write_text(json.dumps(result, default=str))
