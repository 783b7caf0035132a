"""sagemaker.Object2Vec of the SageMaker Python SDK v2, from JSON Lines to embeddings. Run with the SDK's own
interpreter; writes JSON for test_sdk2_object2vec.py.
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
from sagemaker import Object2Vec
from sagemaker.amazon.amazon_estimator import RecordSet
from sagemaker.deserializers import JSONDeserializer
from sagemaker.inputs import TrainingInput
from sagemaker.predictor import Predictor
from sagemaker.serializers import JSONSerializer

ROLE = "arn:aws:iam::123456789012:role/service-role/SageMakerRole"


class LinesSet(RecordSet):
    """What the estimator's `fit` asks for, with a TrainingInput that names the content type."""

    def records_s3_input(self) -> TrainingInput:
        return TrainingInput(self.s3_data, content_type="application/jsonlines")


def main(folder: Path) -> dict[str, Any]:
    """Upload, fit, deploy, predict, delete."""
    seen: dict[str, Any] = {}
    session = sagemaker.Session()
    inputs = []
    for name in ("train", "validation"):
        uri = session.upload_data(str(folder / f"o2v-{name}.jsonl"), key_prefix=f"object2vec/{name}")
        inputs.append(LinesSet(uri, 0, 1, s3_data_type="S3Prefix", channel=name))
    estimator = Object2Vec(
        ROLE, 1, "ml.c5.xlarge", epochs=6, enc0_max_seq_len=6, enc0_vocab_size=20, enc_dim=16, mlp_dim=16,
        mlp_activation="relu", learning_rate=0.01, enc0_network="pooled_embedding", enc0_token_embedding_dim=16,
        sagemaker_session=session,
    )  # fmt: skip
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        estimator.fit(inputs, mini_batch_size=32, job_name="sdk2-object2vec", logs="All")
    seen["log"] = output.getvalue()
    described = session.describe_training_job("sdk2-object2vec")
    seen["hyperparameters"] = described["HyperParameters"]
    seen["metrics"] = {metric["MetricName"]: metric["Value"] for metric in described["FinalMetricDataList"]}
    seen["image"] = described["AlgorithmSpecification"]["TrainingImage"]

    predictor = estimator.deploy(1, "ml.m5.large", endpoint_name="sdk2-object2vec")
    seen["predictor"] = type(predictor).__name__
    asking = Predictor("sdk2-object2vec", session, JSONSerializer(), JSONDeserializer())
    seen["scores"] = asking.predict({"instances": [{"in0": [1, 2], "in1": [3, 4]}, {"in0": [1], "in1": [9]}]})
    lengths = {"ContentType": "application/json; infer_max_seqlens=50,50"}
    seen["embeddings"] = asking.predict({"instances": [{"in0": [1, 2]}]}, initial_args=lengths)
    predictor.delete_model()
    predictor.delete_endpoint()
    return seen


if __name__ == "__main__":
    result = main(Path(sys.argv[1]))
    Path(sys.argv[2]).write_text(json.dumps(result, default=str))
