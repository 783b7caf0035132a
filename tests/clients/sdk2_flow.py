"""What a user of the SageMaker Python SDK v2 does, run with the SDK's own interpreter against a live server.

Prints one JSON object with what it saw; test_sdk2.py judges it. Long client-side waits are shortened, nothing else.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time
from pathlib import Path

_sleep = time.sleep
time.sleep = lambda seconds: _sleep(min(seconds, 0.2))

import sagemaker  # noqa: E402
from sagemaker import image_uris  # noqa: E402
from sagemaker.analytics import TrainingJobAnalytics  # noqa: E402
from sagemaker.deserializers import JSONDeserializer  # noqa: E402
from sagemaker.estimator import Estimator  # noqa: E402
from sagemaker.inputs import TrainingInput  # noqa: E402
from sagemaker.predictor import Predictor  # noqa: E402
from sagemaker.serializers import CSVSerializer  # noqa: E402

ROLE = "arn:aws:iam::123456789012:role/service-role/SageMakerRole"


def main(folder: Path) -> dict:
    seen: dict = {}
    session = sagemaker.Session()
    seen["default_bucket"] = bucket = session.default_bucket()
    seen["execution_role_by_name"] = session.expand_role("SageMakerRole")
    train = session.upload_data(str(folder / "train.csv"), bucket=bucket, key_prefix="sdk2/train")
    validation = session.upload_data(str(folder / "validation.csv"), bucket=bucket, key_prefix="sdk2/validation")
    seen["upload"] = train

    image = image_uris.retrieve("xgboost", session.boto_region_name, version="1.7-1")
    estimator = Estimator(
        image,
        ROLE,
        instance_count=1,
        instance_type="ml.m5.large",
        sagemaker_session=session,
        output_path=f"s3://{bucket}/sdk2/models",
        base_job_name="sdk2",
        hyperparameters={"objective": "binary:logistic", "num_round": 12, "eval_metric": "auc,logloss"},
    )
    inputs = {
        "train": TrainingInput(train, content_type="csv"),
        "validation": TrainingInput(validation, content_type="csv"),
    }
    log = io.StringIO()
    with contextlib.redirect_stdout(log):
        estimator.fit(inputs, logs="All")
    seen["fit_log"] = log.getvalue()
    seen["job"] = job = estimator.latest_training_job.name
    seen["model_data"] = estimator.model_data

    attached = Estimator.attach(job, sagemaker_session=session)
    seen["attached"] = {"hyperparameters": attached.hyperparameters(), "model_data": attached.model_data}
    frame = TrainingJobAnalytics(job, sagemaker_session=session).dataframe()
    seen["analytics"] = sorted(set(frame["metric_name"])) if len(frame) else []
    log = io.StringIO()
    with contextlib.redirect_stdout(log):
        session.logs_for_job(job, wait=False)
    seen["logs_for_job"] = log.getvalue()

    predictor = estimator.deploy(1, "ml.m5.large", serializer=CSVSerializer(), endpoint_name="sdk2")
    rows = [
        [float(cell) for cell in line.split(",")[1:]]
        for line in (folder / "validation.csv").read_text().splitlines()[:3]
    ]
    seen["predict_csv"] = predictor.predict(rows).decode()
    seen["predict_json"] = Predictor("sdk2", session, CSVSerializer(), JSONDeserializer()).predict(rows)
    seen["variant"] = predictor._get_endpoint_config_name()

    attached.fit(inputs, job_name="sdk2-second", logs=False)
    second = attached.create_model(name="sdk2-second")
    second._create_sagemaker_model(instance_type="ml.m5.large")
    predictor.update_endpoint(initial_instance_count=1, instance_type="ml.m5.large", model_name="sdk2-second")
    seen["predict_after_update"] = predictor.predict(rows).decode()

    (folder / "features.csv").write_text("\n".join(",".join(map(str, row)) for row in rows) + "\n")
    features = session.upload_data(str(folder / "features.csv"), bucket=bucket, key_prefix="sdk2/batch")
    transformer = estimator.transformer(
        1,
        "ml.m5.large",
        output_path=f"s3://{bucket}/sdk2/out",
        strategy="MultiRecord",
        assemble_with="Line",
        accept="text/csv",
    )
    transformer.transform(features, content_type="text/csv", split_type="Line", wait=True, logs=False)
    seen["transform"] = session.read_s3_file(bucket, "sdk2/out/features.csv.out")

    predictor.delete_model()
    predictor.delete_endpoint(delete_endpoint_config=True)
    sagemaker_client = session.sagemaker_client
    for _ in range(200):
        if not sagemaker_client.list_endpoints(NameContains="sdk2")["Endpoints"]:
            break
        _sleep(0.1)
    seen["endpoints_left"] = [e["EndpointName"] for e in sagemaker_client.list_endpoints()["Endpoints"]]
    return seen


if __name__ == "__main__":
    result = main(Path(sys.argv[1]))
    Path(sys.argv[2]).write_text(json.dumps(result, default=str))
