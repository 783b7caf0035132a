"""Training jobs of the SageMaker Python SDK v2 beyond the plain case: failing, stopped, on two hosts, from RecordIO,
with the user's own script. Run with the SDK's own interpreter; writes JSON for test_sdk2.py.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import sagemaker
import sdk2_clock  # noqa: F401  shortens the SDK's waits
from sagemaker import image_uris
from sagemaker.amazon.common import write_numpy_to_dense_tensor
from sagemaker.estimator import Estimator
from sagemaker.exceptions import UnexpectedStatusException
from sagemaker.inputs import TrainingInput
from sagemaker.model import Model
from sagemaker.predictor import Predictor
from sagemaker.serializers import CSVSerializer
from sagemaker.xgboost.estimator import XGBoost

ROLE = "arn:aws:iam::123456789012:role/service-role/SageMakerRole"
SCRIPT = """
import argparse, json, os
from tables import count_rows  # beside the script: the whole source folder is there

parser = argparse.ArgumentParser()
parser.add_argument("--depth", type=int)
parser.add_argument("--fail", default="")
given = parser.parse_args()
if given.fail:
    raise ValueError(given.fail)
print(f"rows={count_rows(os.environ['SM_CHANNEL_TRAIN'])};")
import numpy, xgboost
table = numpy.loadtxt(os.path.join(os.environ["SM_CHANNEL_TRAIN"], "train.csv"), delimiter=",")
booster = xgboost.train({"objective": "binary:logistic"}, xgboost.DMatrix(table[:, 1:], table[:, 0]), given.depth)
booster.save_model(os.path.join(os.environ["SM_MODEL_DIR"], "xgboost-model"))
with open(os.path.join(os.environ["SM_OUTPUT_DATA_DIR"], "seen.json"), "w") as file:
    json.dump({"depth": given.depth, "environment": dict(os.environ)}, file)
"""
MODULE = """
import os

def count_rows(folder):
    return sum(len(open(os.path.join(folder, name)).readlines()) for name in os.listdir(folder))
"""


def main(folder: Path) -> dict[str, Any]:
    """One member per case."""
    session = sagemaker.Session()
    bucket = session.default_bucket()
    train = session.upload_data(str(folder / "train.csv"), bucket=bucket, key_prefix="sdk2-jobs/train")
    csv = {"train": TrainingInput(train, content_type="csv")}
    return {
        "failed": _failed(session, csv),
        "stopped": _stopped(session, csv),
        "two_hosts": _two_hosts(session, folder),
        "recordio": _recordio(session, folder),
        "script": _script(session, folder, csv),
        "failing_script": _failing_script(session, folder, csv),
    }


def _estimator(session: sagemaker.Session, instances: int = 1, **hyperparameters: Any) -> Estimator:
    return Estimator(
        image_uris.retrieve("xgboost", session.boto_region_name, version="3.0-5"),
        ROLE,
        instance_count=instances,
        instance_type="ml.m5.large",
        sagemaker_session=session,
        output_path=f"s3://{session.default_bucket()}/sdk2-jobs/models",
        hyperparameters={"objective": "binary:logistic", **hyperparameters},
    )


def _failed(session: sagemaker.Session, inputs: dict[str, Any]) -> dict[str, str]:
    try:
        _estimator(session, num_round=3, eta=7).fit(inputs, job_name="sdk2-failed", logs=False)
    except UnexpectedStatusException as error:
        return {"status": error.actual_status, "message": str(error)}
    return {}


def _stopped(session: sagemaker.Session, inputs: dict[str, Any]) -> dict[str, Any]:
    estimator = _estimator(session, num_round=1_000_000)
    estimator.fit(inputs, job_name="sdk2-stopped", wait=False)
    job = estimator.latest_training_job
    logs = session.boto_session.client("logs")
    rounds = {"logStreamNamePrefix": "sdk2-stopped/", "filterPattern": "train-logloss"}
    while not logs.filter_log_events(logGroupName="/aws/sagemaker/TrainingJobs", **rounds)["events"]:
        time.sleep(0.1)
    job.stop()
    waiter = session.sagemaker_client.get_waiter("training_job_completed_or_stopped")
    waiter.wait(TrainingJobName="sdk2-stopped", WaiterConfig={"Delay": 1})
    described = job.describe()
    return {"status": described["TrainingJobStatus"], "model": described["ModelArtifacts"]["S3ModelArtifacts"]}


def _two_hosts(session: sagemaker.Session, folder: Path) -> dict[str, Any]:
    lines = (folder / "train.csv").read_text().splitlines(keepends=True)
    shards = folder / "shards"
    shards.mkdir()
    for number in range(4):
        (shards / f"part-{number}.csv").write_text("".join(lines[number::4]))
    uri = session.upload_data(str(shards), bucket=session.default_bucket(), key_prefix="sdk2-jobs/shards")
    inputs = {"train": TrainingInput(uri, content_type="text/csv", distribution="ShardedByS3Key")}
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        _estimator(session, instances=2, num_round=4).fit(inputs, job_name="sdk2-two-hosts", logs="All")
    described = session.describe_training_job("sdk2-two-hosts")
    streams = session.boto_session.client("logs").describe_log_streams(
        logGroupName="/aws/sagemaker/TrainingJobs", logStreamNamePrefix="sdk2-two-hosts/"
    )["logStreams"]
    return {
        "status": described["TrainingJobStatus"],
        "log": output.getvalue(),
        "streams": [stream["logStreamName"] for stream in streams],
    }


def _recordio(session: sagemaker.Session, folder: Path) -> dict[str, Any]:
    table = np.loadtxt(folder / "train.csv", delimiter=",", dtype="float32")
    with (folder / "train.pbr").open("wb") as file:
        write_numpy_to_dense_tensor(file, table[:, 1:], table[:, 0])
    bucket = session.default_bucket()
    uri = session.upload_data(str(folder / "train.pbr"), bucket=bucket, key_prefix="sdk2-jobs/recordio")
    seen = {}
    for mode in ("File", "Pipe"):
        name = f"sdk2-recordio-{mode.lower()}"
        source = TrainingInput(uri, content_type="application/x-recordio-protobuf", input_mode=mode)
        _estimator(session, num_round=12, eval_metric="logloss").fit({"train": source}, job_name=name, logs=False)
        metrics = session.describe_training_job(name)["FinalMetricDataList"]
        seen[mode] = {metric["MetricName"]: metric["Value"] for metric in metrics}
    return seen


def _framework(session: sagemaker.Session, folder: Path, **hyperparameters: Any) -> XGBoost:
    source = folder / "source"
    source.mkdir(exist_ok=True)
    (source / "train_model.py").write_text(SCRIPT)
    (source / "tables.py").write_text(MODULE)
    return XGBoost(
        entry_point="train_model.py",
        source_dir=str(source),
        framework_version="1.7-1",
        role=ROLE,
        instance_count=1,
        instance_type="ml.m5.large",
        sagemaker_session=session,
        output_path=f"s3://{session.default_bucket()}/sdk2-jobs/models",
        metric_definitions=[{"Name": "rows", "Regex": "rows=(.*?);"}],
        hyperparameters=hyperparameters,
    )


def _script(session: sagemaker.Session, folder: Path, inputs: dict[str, Any]) -> dict[str, Any]:
    estimator = _framework(session, folder, depth=4)
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        estimator.fit(inputs, job_name="sdk2-script", logs="All")
    described = session.describe_training_job("sdk2-script")
    deployed = _refusal(lambda: estimator.deploy(1, "ml.m5.large", endpoint_name="sdk2-script"))
    model = Model(estimator.image_uri, estimator.model_data, ROLE, sagemaker_session=session, predictor_cls=Predictor)
    predictor = model.deploy(1, "ml.m5.large", endpoint_name="sdk2-script", serializer=CSVSerializer())
    score = float(predictor.predict([0.7, 0.2, 0.3]))
    predictor.delete_endpoint()
    return {
        "log": output.getvalue(),
        "model_data": estimator.model_data,
        "metrics": {metric["MetricName"]: metric["Value"] for metric in described["FinalMetricDataList"]},
        "deploy": deployed,
        "score": score,
    }


def _refusal(action: Any) -> str:
    try:
        action()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _failing_script(session: sagemaker.Session, folder: Path, inputs: dict[str, Any]) -> str:
    estimator = _framework(session, folder, fail="not today")
    return _refusal(lambda: estimator.fit(inputs, job_name="sdk2-failing-script", logs=False))


if __name__ == "__main__":
    result = main(Path(sys.argv[1]))
    Path(sys.argv[2]).write_text(json.dumps(result, default=str))
