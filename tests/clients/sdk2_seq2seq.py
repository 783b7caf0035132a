"""Seq2Seq through the generic Estimator of the SageMaker Python SDK v2, as SageMaker's notebook does it. Run with the
SDK's own interpreter; writes JSON for test_sdk2_seq2seq.py.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time
from pathlib import Path
from typing import Any

import sagemaker
import sdk2_clock  # noqa: F401  shortens the SDK's waits
from sagemaker.deserializers import JSONDeserializer
from sagemaker.estimator import Estimator
from sagemaker.inputs import TrainingInput
from sagemaker.serializers import JSONSerializer

ROLE = "arn:aws:iam::123456789012:role/service-role/SageMakerRole"


def main(folder: Path) -> dict[str, Any]:
    """Upload, fit, deploy, predict, delete."""
    seen: dict[str, Any] = {}
    session = sagemaker.Session()
    inputs: dict[str, TrainingInput] = {}
    for name in ("train", "validation", "vocab"):
        uri = session.upload_data(str(folder / name), key_prefix=f"seq2seq/{name}")
        inputs[name] = TrainingInput(uri)
    image = sagemaker.image_uris.retrieve("seq2seq", session.boto_region_name)
    estimator = Estimator(
        image, ROLE, 1, "ml.p3.2xlarge", sagemaker_session=session, output_path=f"s3://{session.default_bucket()}/out"
    )
    estimator.set_hyperparameters(**json.loads((folder / "settings.json").read_text()))
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        estimator.fit(inputs, job_name="sdk2-seq2seq", logs="All")
    seen["log"] = output.getvalue()
    described = session.describe_training_job("sdk2-seq2seq")
    seen["metrics"] = {metric["MetricName"]: metric["Value"] for metric in described["FinalMetricDataList"]}
    seen["image"] = described["AlgorithmSpecification"]["TrainingImage"]
    predictor = estimator.deploy(
        1, "ml.m4.xlarge", endpoint_name="sdk2-seq2seq", serializer=JSONSerializer(), deserializer=JSONDeserializer()
    )
    instances = [{"data": "w1 w2 w3"}, {"data": "w4 w5", "configuration": {"attention_matrix": "true"}}]
    seen["predict"] = predictor.predict({"instances": instances})
    predictor.delete_model()
    predictor.delete_endpoint()
    for _ in range(300):
        seen["left"] = session.sagemaker_client.list_endpoints(NameContains="sdk2-seq2seq")["Endpoints"]
        if not seen["left"]:
            break
        time.sleep(0.1)
    return seen


if __name__ == "__main__":
    result = main(Path(sys.argv[1]))
    Path(sys.argv[2]).write_text(json.dumps(result, default=str))
