"""BlazingText through the SageMaker Python SDK v2, as its notebooks do it. Run with the SDK's own interpreter; writes
JSON for test_sdk2_blazingtext.py.
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
from sagemaker.serializers import JSONSerializer

ROLE = "arn:aws:iam::123456789012:role/service-role/SageMakerRole"


def main(folder: Path) -> dict[str, Any]:
    """A classifier from text, one from an augmented manifest, word vectors on two hosts; each fit, some deployed."""
    session = sagemaker.Session()
    places = {
        name: session.upload_data(str(folder / f"{name}"), key_prefix=f"blazingtext/{name}")
        for name in ("train.txt", "held.txt", "words.txt", "labels.manifest")
    }
    text = {
        channel: TrainingInput(places[name], content_type="text/plain", distribution="FullyReplicated")
        for channel, name in (("train", "train.txt"), ("validation", "held.txt"))
    }
    augmented = TrainingInput(
        places["labels.manifest"], content_type="text/plain", distribution="FullyReplicated", input_mode="Pipe",
        s3_data_type="AugmentedManifestFile", attribute_names=["source", "label"], record_wrapping="RecordIO",
    )  # fmt: skip
    small = {"mode": "supervised", "vector_dim": 10, "min_count": 1, "buckets": 500, "learning_rate": 0.3, "epochs": 8}
    words = {"mode": "batch_skipgram", "vector_dim": 16, "epochs": 4, "min_count": 2, "sampling_threshold": 0.01}
    return {
        "text": _one(session, "bt-text", text, small | {"early_stopping": True, "min_epochs": 2, "patience": 2}, 1),
        "manifest": _one(session, "bt-manifest", {"train": augmented}, small, 1),
        "words": _one(session, "bt-words", {"train": TrainingInput(places["words.txt"])}, words, 2),
    }


def _one(session: sagemaker.Session, name: str, inputs: Any, settings: dict[str, Any], hosts: int) -> dict[str, Any]:
    image = image_uris.retrieve("blazingtext", session.boto_region_name)
    estimator = Estimator(image, ROLE, hosts, "ml.c5.xlarge", sagemaker_session=session)
    estimator.set_hyperparameters(**settings)
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        estimator.fit(inputs, job_name=name, logs="All")
    described = session.describe_training_job(name)
    seen: dict[str, Any] = {
        "log": output.getvalue(),
        "image": image,
        "metrics": {metric["MetricName"]: metric["Value"] for metric in described["FinalMetricDataList"]},
    }
    if name == "bt-manifest":
        return seen
    predictor = estimator.deploy(
        1, "ml.m5.large", endpoint_name=name, serializer=JSONSerializer(), deserializer=JSONDeserializer()
    )
    if hosts == 1:
        seen["answer"] = predictor.predict({"instances": ["a wave at the reef", "moss"], "configuration": {"k": 2}})
    else:
        seen["answer"] = predictor.predict({"instances": ["wave", "unheard"]})
    predictor.delete_model()
    predictor.delete_endpoint()
    return seen


if __name__ == "__main__":
    result = main(Path(sys.argv[1]))
    Path(sys.argv[2]).write_text(json.dumps(result, default=str))
