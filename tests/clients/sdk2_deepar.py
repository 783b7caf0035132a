"""DeepAR with the generic Estimator of the SageMaker Python SDK v2, from JSON Lines to forecasts. Run by the SDK's own
interpreter; writes JSON for test_sdk2_deepar.py.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import sagemaker
import sdk2_clock  # noqa: F401  shortens the SDK's waits
from sagemaker.deserializers import JSONDeserializer
from sagemaker.estimator import Estimator
from sagemaker.serializers import JSONSerializer

ROLE = "arn:aws:iam::123456789012:role/service-role/SageMakerRole"


def main(folder: Path) -> dict[str, Any]:
    """Upload, fit, deploy, predict, transform, delete."""
    seen: dict[str, Any] = {}
    session = sagemaker.Session()
    inputs = {
        name: session.upload_data(str(folder / f"series-{name}.json"), key_prefix=f"deepar/{name}")
        for name in ("train", "test", "batch")
    }
    image = sagemaker.image_uris.retrieve("forecasting-deepar", session.boto_region_name)
    seen["image"] = image
    estimator = Estimator(image, ROLE, 1, "ml.c5.xlarge", sagemaker_session=session)
    estimator.set_hyperparameters(**json.loads((folder / "deepar-settings.json").read_text()))
    estimator.fit({name: inputs[name] for name in ("train", "test")}, job_name="sdk2-deepar", logs=False)
    described = session.describe_training_job("sdk2-deepar")
    seen["metrics"] = {metric["MetricName"]: metric["Value"] for metric in described["FinalMetricDataList"]}
    asked = [json.loads(line) for line in (folder / "series-batch.json").read_text().splitlines()]
    predictor = estimator.deploy(
        1, "ml.m5.large", endpoint_name="sdk2-deepar", serializer=JSONSerializer(), deserializer=JSONDeserializer()
    )
    configuration = {"num_samples": 20, "output_types": ["mean", "quantiles"], "quantiles": ["0.5"]}
    seen["predict"] = predictor.predict({"instances": asked, "configuration": configuration})
    predictor.delete_endpoint()
    transformer = estimator.transformer(
        1, "ml.m5.large", strategy="SingleRecord", assemble_with="Line",
        env={"DEEPAR_INFERENCE_CONFIG": json.dumps(configuration)},
        output_path=f"s3://{session.default_bucket()}/deepar/out",
    )  # fmt: skip
    transformer.transform(
        inputs["batch"], content_type="application/jsonlines", split_type="Line", job_name="sdk2-deepar-batch",
        logs=False, wait=True,
    )  # fmt: skip
    written = session.read_s3_file(session.default_bucket(), "deepar/out/series-batch.json.out")
    seen["transform"] = [json.loads(line) for line in written.splitlines()]
    return seen


if __name__ == "__main__":
    result = main(Path(sys.argv[1]))
    Path(sys.argv[2]).write_text(json.dumps(result, default=str))
