"""What a user of the SageMaker Python SDK v2 does, run with the SDK's own interpreter against a live server.

Writes one JSON object with what it saw; test_sdk2.py judges it. Long client-side waits are shortened, nothing else.
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
from sagemaker import image_uris
from sagemaker.analytics import TrainingJobAnalytics
from sagemaker.deserializers import JSONDeserializer
from sagemaker.estimator import Estimator
from sagemaker.inputs import TrainingInput
from sagemaker.predictor import Predictor
from sagemaker.serializers import CSVSerializer

ROLE = "arn:aws:iam::123456789012:role/service-role/SageMakerRole"


def main(folder: Path) -> dict[str, Any]:
    """Upload, fit, attach, deploy, predict, update, transform, delete."""
    seen: dict[str, Any] = {}
    session = sagemaker.Session()
    seen["default_bucket"] = bucket = session.default_bucket()
    seen["role_by_name"] = session.expand_role("SageMakerRole")
    train = session.upload_data(str(folder / "train.csv"), bucket=bucket, key_prefix="sdk2/train")
    validation = session.upload_data(str(folder / "validation.csv"), bucket=bucket, key_prefix="sdk2/validation")
    seen["upload"] = train
    inputs = {
        name: TrainingInput(uri, content_type="csv") for name, uri in (("train", train), ("validation", validation))
    }

    estimator = _estimator(session, num_round=12, eval_metric="auc,logloss")
    seen["fit_log"] = _printed(lambda: estimator.fit(inputs, logs="All"))
    seen["job"] = job = estimator.latest_training_job.name
    seen["model_data"] = estimator.model_data
    attached = Estimator.attach(job, sagemaker_session=session)
    seen["attached"] = {"hyperparameters": attached.hyperparameters(), "model_data": attached.model_data}
    frame = TrainingJobAnalytics(job, sagemaker_session=session).dataframe()
    seen["analytics"] = {row.metric_name: row.value for row in frame.itertuples()}
    seen["logs_for_job"] = _printed(lambda: session.logs_for_job(job, wait=False))

    rows = [[float(cell) for cell in line.split(",")] for line in (folder / "features.csv").read_text().splitlines()]
    _endpoint(session, estimator, rows[:3], seen)
    _second_model(session, inputs, rows[:3], seen)
    _transform(session, estimator, folder, seen)
    _delete(session, seen)
    return seen


def _estimator(session: sagemaker.Session, **hyperparameters: Any) -> Estimator:
    return Estimator(
        image_uris.retrieve("xgboost", session.boto_region_name, version="1.7-1"),
        ROLE,
        instance_count=1,
        instance_type="ml.m5.large",
        sagemaker_session=session,
        output_path=f"s3://{session.default_bucket()}/sdk2/models",
        base_job_name="sdk2",
        hyperparameters={"objective": "binary:logistic", **hyperparameters},
    )


def _printed(action: Any) -> str:
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        action()
    return output.getvalue()


def _endpoint(session: sagemaker.Session, estimator: Estimator, rows: list[list[float]], seen: dict[str, Any]) -> None:
    predictor = estimator.deploy(1, "ml.m5.large", serializer=CSVSerializer(), endpoint_name="sdk2")
    seen["predict_csv"] = predictor.predict(rows).decode()
    seen["predict_json"] = Predictor("sdk2", session, CSVSerializer(), JSONDeserializer()).predict(rows)
    try:
        predictor.predict("no,number,here")
    except Exception as error:
        seen["predict_error"] = f"{type(error).__name__}: {error}"


def _second_model(
    session: sagemaker.Session, inputs: dict[str, Any], rows: list[list[float]], seen: dict[str, Any]
) -> None:
    """Another training job without logs, and its model behind the same endpoint."""
    estimator = _estimator(session, num_round=1)
    estimator.fit(inputs, job_name="sdk2-second", logs=False)
    estimator.create_model(name="sdk2-second")._create_sagemaker_model(instance_type="ml.m5.large")
    predictor = Predictor("sdk2", session, CSVSerializer())
    before = predictor._get_endpoint_config_name()
    predictor.update_endpoint(initial_instance_count=1, instance_type="ml.m5.large", model_name="sdk2-second")
    seen["configs"] = [before, Predictor("sdk2", session)._get_endpoint_config_name()]
    seen["predict_after_update"] = predictor.predict(rows).decode()


def _transform(session: sagemaker.Session, estimator: Estimator, folder: Path, seen: dict[str, Any]) -> None:
    bucket = session.default_bucket()
    features = session.upload_data(str(folder / "features.csv"), bucket=bucket, key_prefix="sdk2/batch")
    output = f"s3://{bucket}/sdk2/out"
    transformer = estimator.transformer(
        1, "ml.m5.large", output_path=output, strategy="MultiRecord", assemble_with="Line", accept="text/csv"
    )
    log = _printed(
        lambda: transformer.transform(features, content_type="text/csv", split_type="Line", wait=True, logs=True)
    )
    seen["transform_log"] = log
    seen["transform"] = session.read_s3_file(bucket, "sdk2/out/features.csv.out")


def _delete(session: sagemaker.Session, seen: dict[str, Any]) -> None:
    predictor = Predictor("sdk2", session)
    predictor.delete_model()
    predictor.delete_endpoint(delete_endpoint_config=True)
    client = session.sagemaker_client
    for _ in range(300):
        left = client.list_endpoints(NameContains="sdk2")["Endpoints"]
        if not left:
            break
        time.sleep(0.1)
    seen["endpoints_left"] = [endpoint["EndpointName"] for endpoint in left]
    seen["configs_left"] = len(client.list_endpoint_configs(NameContains=seen["configs"][1])["EndpointConfigs"])
    seen["models_left"] = len(client.list_models(NameContains="sdk2-second")["Models"])


if __name__ == "__main__":
    result = main(Path(sys.argv[1]))
    Path(sys.argv[2]).write_text(json.dumps(result, default=str))
