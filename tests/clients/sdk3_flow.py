"""What a user of the SageMaker Python SDK v3 does with its core: ModelTrainer, and the typed resources. Run with the
SDK's own interpreter against a live server; writes one JSON object for test_sdk3.py to judge.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

_sleep = time.sleep
time.sleep = lambda seconds: _sleep(min(seconds, 0.2))

import boto3  # noqa: E402
from sagemaker.core import image_uris  # noqa: E402
from sagemaker.core.helper.session_helper import Session  # noqa: E402
from sagemaker.core.resources import Endpoint, EndpointConfig, Model, TrainingJob  # noqa: E402
from sagemaker.core.shapes import ContainerDefinition, ProductionVariant, S3DataSource  # noqa: E402
from sagemaker.core.utils.exceptions import FailedStatusError  # noqa: E402
from sagemaker.train import ModelTrainer  # noqa: E402
from sagemaker.train.configs import Compute, InputData, OutputDataConfig, SourceCode, StoppingCondition  # noqa: E402

ROLE = "arn:aws:iam::123456789012:role/service-role/SageMakerRole"
SCRIPT = """
import json, os, pathlib, sys
train = os.environ["SM_CHANNEL_TRAIN"]
rows = sum(len(file.read_text().splitlines()) for file in pathlib.Path(train).iterdir())
model = pathlib.Path("/opt/ml/model/model.json")
model.write_text(json.dumps({"train": train, "rows": rows, "arguments": sys.argv[1:]}))
"""


def main(folder: Path) -> dict[str, Any]:
    """Train, read the job back, deploy, invoke, delete; and what fails."""
    seen: dict[str, Any] = {}
    session = Session()
    seen["default_bucket"] = bucket = session.default_bucket()
    image = image_uris.retrieve("xgboost", session.boto_region_name, version="1.7-1")
    trainer = _trainer(session, image, "sdk3", num_round="12", eval_metric="logloss")
    data = [_input(session, folder, bucket, name) for name in ("train", "validation")]
    seen["log"] = _logged(lambda: trainer.train(input_data_config=data, wait=True, logs=True))
    job = trainer._latest_training_job
    seen["job"] = _job(TrainingJob.get(job.training_job_name))
    seen["listed"] = [one.training_job_name for one in TrainingJob.get_all(name_contains="sdk3")]
    seen["failed"] = _failed(session, image, data)
    seen["script"] = _own_script(session, image, folder, data)
    _endpoint(image, seen["job"]["model"], folder, seen)
    return seen


def _logged(action: Any) -> str:
    """What the SDK logs meanwhile; it does not print."""
    output = io.StringIO()
    handler, logger = logging.StreamHandler(output), logging.getLogger("sagemaker.core.resources")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    with contextlib.redirect_stdout(io.StringIO()):
        action()
    logger.removeHandler(handler)
    return output.getvalue()


def _trainer(session: Session, image: str, name: str, **hyperparameters: str) -> ModelTrainer:
    return ModelTrainer(
        training_image=image,
        role=ROLE,
        sagemaker_session=session,
        base_job_name=name,
        compute=Compute(instance_type="ml.m5.large", instance_count=1, volume_size_in_gb=10),
        stopping_condition=StoppingCondition(max_runtime_in_seconds=600),
        output_data_config=OutputDataConfig(s3_output_path=f"s3://{session.default_bucket()}/sdk3/models"),
        hyperparameters={"objective": "binary:logistic", **hyperparameters},
    )


def _input(session: Session, folder: Path, bucket: str, name: str) -> InputData:
    uri = session.upload_data(str(folder / f"{name}.csv"), bucket=bucket, key_prefix=f"sdk3/{name}")
    source = S3DataSource(s3_data_type="S3Prefix", s3_uri=uri, s3_data_distribution_type="FullyReplicated")
    return InputData(channel_name=name, data_source=source, content_type="text/csv")


def _job(job: TrainingJob) -> dict[str, Any]:
    return {
        "name": job.training_job_name,
        "status": job.training_job_status,
        "model": job.model_artifacts.s3_model_artifacts,
        "hyperparameters": job.hyper_parameters,
        "metrics": {metric.metric_name: metric.value for metric in job.final_metric_data_list},
    }


def _failed(session: Session, image: str, data: list[InputData]) -> str:
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            _trainer(session, image, "sdk3-failed", num_round="many").train(input_data_config=data)
    except FailedStatusError as error:
        return str(error)
    return ""


def _own_script(session: Session, image: str, folder: Path, data: list[InputData]) -> dict[str, Any]:
    """ModelTrainer runs scripts by a command of its own in the image."""
    source = folder / "source3"
    source.mkdir()
    (source / "train.py").write_text(SCRIPT)
    trainer = _trainer(session, image, "sdk3-script", rounds="3")
    trainer.source_code = SourceCode(source_dir=str(source), entry_script="train.py")
    with contextlib.redirect_stdout(io.StringIO()):
        trainer.train(input_data_config=data[:1])
    job = TrainingJob.get(trainer._latest_training_job.training_job_name)
    bucket, _, key = job.model_artifacts.s3_model_artifacts.removeprefix("s3://").partition("/")
    body = boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        content = json.load(archive.extractfile("model.json"))
    return {"status": job.training_job_status, "model": content}


def _endpoint(image: str, model_data: str, folder: Path, seen: dict[str, Any]) -> None:
    container = ContainerDefinition(image=image, model_data_url=model_data)
    model = Model.create(model_name="sdk3", primary_container=container, execution_role_arn=ROLE)
    variant = ProductionVariant(
        variant_name="AllTraffic", model_name="sdk3", initial_instance_count=1, instance_type="ml.m5.large"
    )
    config = EndpointConfig.create(endpoint_config_name="sdk3", production_variants=[variant])
    endpoint = Endpoint.create(endpoint_name="sdk3", endpoint_config_name="sdk3")
    with contextlib.redirect_stdout(io.StringIO()):
        endpoint.wait_for_status("InService")
    seen["endpoint"] = Endpoint.get("sdk3").endpoint_status
    body = "".join((folder / "features.csv").read_text().splitlines(keepends=True)[:3])
    answer = endpoint.invoke(body=body, content_type="text/csv", accept="text/csv")
    seen["scores"] = answer.body.read().decode()
    endpoint.delete()
    with contextlib.redirect_stdout(io.StringIO()):
        endpoint.wait_for_delete()
    config.delete()
    model.delete()
    client = boto3.client("sagemaker")
    seen["left"] = [
        *client.list_endpoints(NameContains="sdk3")["Endpoints"],
        *client.list_endpoint_configs(NameContains="sdk3")["EndpointConfigs"],
        *client.list_models(NameContains="sdk3")["Models"],
    ]


if __name__ == "__main__":
    result = main(Path(sys.argv[1]))
    Path(sys.argv[2]).write_text(json.dumps(result, default=str))
