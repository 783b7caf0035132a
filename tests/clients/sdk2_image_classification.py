"""Image Classification through the generic Estimator of the SageMaker Python SDK v2, as SageMaker's notebooks do it.
Run with the SDK's own interpreter; writes JSON for test_sdk2_image_classification.py.
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
from sagemaker.deserializers import JSONDeserializer
from sagemaker.estimator import Estimator
from sagemaker.inputs import TrainingInput
from sagemaker.serializers import IdentitySerializer

ROLE = "arn:aws:iam::123456789012:role/service-role/SageMakerRole"
RECORDS = "application/x-recordio"


def main(folder: Path) -> dict[str, Any]:
    """Upload, fit from pipes, deploy, predict, go on training, delete."""
    seen: dict[str, Any] = {}
    session = sagemaker.Session()
    inputs = {}
    for name in ("train", "validation"):
        uri = session.upload_data(str(folder / f"ic-{name}"), key_prefix=f"image-classification/{name}")
        inputs[name] = TrainingInput(uri, distribution="FullyReplicated", content_type=RECORDS, input_mode="Pipe")
    image = sagemaker.image_uris.retrieve("image-classification", session.boto_region_name)
    settings = json.loads((folder / "ic-settings.json").read_text())
    output = f"s3://{session.default_bucket()}/out"
    estimator = Estimator(image, ROLE, 1, "ml.p3.2xlarge", sagemaker_session=session, output_path=output)
    estimator.set_hyperparameters(**settings)
    log = io.StringIO()
    with contextlib.redirect_stdout(log):
        estimator.fit(inputs, job_name="sdk2-image-classification", logs="All")
    described = session.describe_training_job("sdk2-image-classification")
    seen["metrics"] = {metric["MetricName"]: metric["Value"] for metric in described["FinalMetricDataList"]}
    seen["image"] = image

    predictor = estimator.deploy(
        1, "ml.m4.xlarge", endpoint_name="sdk2-image-classification", serializer=IdentitySerializer("image/png"),
        deserializer=JSONDeserializer(),
    )  # fmt: skip
    seen["predict"] = predictor.predict((folder / "ic-picture.png").read_bytes())
    predictor.delete_model()
    predictor.delete_endpoint()

    again = Estimator(image, ROLE, 1, "ml.p3.2xlarge", sagemaker_session=session, output_path=output,
                      model_uri=estimator.model_data, model_channel_name="model")  # fmt: skip
    again.set_hyperparameters(**settings | {"epochs": "1", "learning_rate": "0.001"})
    with contextlib.redirect_stdout(log):
        again.fit(inputs, job_name="sdk2-image-classification-on", logs="All")
    seen["log"] = log.getvalue()
    described = session.describe_training_job("sdk2-image-classification-on")
    seen["again"] = {metric["MetricName"]: metric["Value"] for metric in described["FinalMetricDataList"]}
    return seen


if __name__ == "__main__":
    result = main(Path(sys.argv[1]))
    Path(sys.argv[2]).write_text(json.dumps(result, default=str))
