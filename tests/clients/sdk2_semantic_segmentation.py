"""Semantic Segmentation through the generic Estimator of the SageMaker Python SDK v2, as AWS's sample does it. Run with
the SDK's own interpreter; writes JSON for test_sdk2_semantic_segmentation.py.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import sys
import time
from pathlib import Path
from typing import Any

import sagemaker
import sdk2_clock  # noqa: F401  shortens the SDK's waits
from sagemaker.deserializers import BytesDeserializer
from sagemaker.estimator import Estimator
from sagemaker.inputs import TrainingInput
from sagemaker.serializers import IdentitySerializer

ROLE = "arn:aws:iam::123456789012:role/service-role/SageMakerRole"
CHANNELS = {"train": "image/jpeg", "train_annotation": "image/png", "validation": "image/jpeg",
            "validation_annotation": "image/png"}  # fmt: skip


def main(folder: Path) -> dict[str, Any]:
    """Upload, fit, deploy, predict, delete."""
    seen: dict[str, Any] = {}
    session = sagemaker.Session()
    inputs: dict[str, TrainingInput] = {}
    for name, kind in CHANNELS.items():
        uri = session.upload_data(str(folder / name), key_prefix=f"segmentation/{name}")
        inputs[name] = TrainingInput(
            uri, distribution="FullyReplicated", content_type=kind, s3_data_type="S3Prefix", input_mode="File"
        )
    image = sagemaker.image_uris.retrieve("semantic-segmentation", session.boto_region_name)
    estimator = Estimator(
        image, ROLE, 1, "ml.p3.2xlarge", sagemaker_session=session, output_path=f"s3://{session.default_bucket()}/out"
    )
    estimator.set_hyperparameters(**json.loads((folder / "settings.json").read_text()))
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        estimator.fit(inputs, job_name="sdk2-segmentation", logs="All")
    seen["log"] = output.getvalue()
    described = session.describe_training_job("sdk2-segmentation")
    seen["metrics"] = {metric["MetricName"]: metric["Value"] for metric in described["FinalMetricDataList"]}
    seen["image"] = described["AlgorithmSpecification"]["TrainingImage"]
    predictor = estimator.deploy(
        1, "ml.c5.xlarge", endpoint_name="sdk2-segmentation", serializer=IdentitySerializer("image/jpeg"),
        deserializer=BytesDeserializer(accept="image/png"),
    )  # fmt: skip
    seen["mask"] = base64.b64encode(predictor.predict((folder / "ask.jpg").read_bytes())).decode()
    predictor.delete_model()
    predictor.delete_endpoint()
    for _ in range(300):
        seen["left"] = session.sagemaker_client.list_endpoints(NameContains="sdk2-segmentation")["Endpoints"]
        if not seen["left"]:
            break
        time.sleep(0.1)
    return seen


if __name__ == "__main__":
    result = main(Path(sys.argv[1]))
    Path(sys.argv[2]).write_text(json.dumps(result, default=str))
