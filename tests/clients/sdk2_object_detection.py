"""Object Detection with the generic Estimator of the SageMaker Python SDK v2, from .rec files to detections. Run with
the SDK's own interpreter; writes JSON for test_sdk2_object_detection.py.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import sagemaker
import sdk2_clock  # noqa: F401  shortens the SDK's waits
from sagemaker import image_uris
from sagemaker.deserializers import JSONDeserializer
from sagemaker.estimator import Estimator
from sagemaker.inputs import TrainingInput
from sagemaker.serializers import IdentitySerializer

ROLE = "arn:aws:iam::123456789012:role/service-role/SageMakerRole"


def main(folder: Path) -> dict[str, Any]:
    """Upload, fit, deploy, predict, delete."""
    seen: dict[str, Any] = {}
    session = sagemaker.Session()
    inputs = {}
    for name in ("train", "validation"):
        uri = session.upload_data(str(folder / f"od-{name}.rec"), key_prefix=f"object-detection/{name}")
        inputs[name] = TrainingInput(uri, content_type="application/x-recordio", s3_data_type="S3Prefix")
    image = image_uris.retrieve("object-detection", session.boto_region_name)
    estimator = Estimator(
        image, ROLE, 1, "ml.p3.2xlarge", volume_size=50, max_run=3600, input_mode="File", sagemaker_session=session
    )
    estimator.set_hyperparameters(
        base_network="resnet-50", use_pretrained_model=0, num_classes=2, mini_batch_size=2, epochs=1,
        learning_rate=0.001, lr_scheduler_step="3,6", lr_scheduler_factor=0.1, optimizer="sgd", momentum=0.9,
        weight_decay=0.0005, overlap_threshold=0.5, nms_threshold=0.45, image_shape=300, label_width=350,
        num_training_samples=2,
    )  # fmt: skip
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        estimator.fit(inputs, job_name="sdk2-object-detection", logs="All")
    seen["log"] = output.getvalue()
    described = session.describe_training_job("sdk2-object-detection")
    seen["metrics"] = {metric["MetricName"]: metric["Value"] for metric in described["FinalMetricDataList"]}
    seen["image"] = described["AlgorithmSpecification"]["TrainingImage"]

    predictor = estimator.deploy(
        1, "ml.m4.xlarge", endpoint_name="sdk2-object-detection", deserializer=JSONDeserializer(),
        serializer=IdentitySerializer("image/jpeg"),
    )  # fmt: skip
    picture = (folder / "od-picture.jpg").read_bytes()
    seen["prediction"] = predictor.predict(picture)
    seen["annotation"] = predictor.predict(picture, initial_args={"Accept": "application/json;annotation=1"})
    predictor.delete_model()
    predictor.delete_endpoint()
    return seen


if __name__ == "__main__":
    result = main(Path(sys.argv[1]))
    Path(sys.argv[2]).write_text(json.dumps(result, default=str))
