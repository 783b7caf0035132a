"""boto3, unchanged: one small set of pictures through every input that Image Classification reads, in jobs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sagesmith.algorithms.images.packing import Plan, of_class_folders, pack
from sagesmith.formats.images import png
from sagesmith.testing.server import RunningServer
from tests.clients.live import ROLE

pytest.importorskip("torch")
pytestmark = pytest.mark.slow

BUCKET = "pictures-bucket"
IMAGE = "811284229777.dkr.ecr.us-east-1.amazonaws.com/image-classification:1"
RECORDS = "application/x-recordio"
SETTINGS = {
    "num_layers": "20", "image_shape": "3,16,16", "num_classes": "2", "num_training_samples": "24", "epochs": "1",
    "mini_batch_size": "8", "learning_rate": "0.01", "augmentation_type": "crop",
}  # fmt: skip
MANIFEST = {"S3DataType": "AugmentedManifestFile", "AttributeNames": ["source-ref", "class"]}


@pytest.fixture(scope="module")
def uploaded(server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> None:
    """24 pictures, dark ones of class 0 and bright ones of class 1: as files, a list, records and a manifest."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for name, low in (("dark", 0), ("bright", 150)):
        (folder / "in" / f"{int(low > 0)}-{name}").mkdir(parents=True)
        for number in range(12):
            pixels = random.integers(low, low + 100, size=(20, 20, 3), dtype=np.uint8)
            (folder / "in" / f"{int(low > 0)}-{name}" / f"{number:02}.png").write_bytes(png(pixels))
    given = of_class_folders(folder / "in")
    pack(given, folder / "out", Plan(shuffle=False))
    lines = []
    for one in given.lines:
        line = {"source-ref": f"s3://{BUCKET}/files/{one.path}", "class": str(int(one.label[0])), "class-metadata": {}}
        lines.append(json.dumps(line))
    (folder / "train.manifest").write_text("\n".join(lines))
    s3 = server.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    for line in given.lines:
        s3.upload_file(str(folder / "in" / line.path), BUCKET, f"files/{line.path}")
    for path, key in (("out/train/train.rec", "rec/train.rec"), ("out/train.lst", "lst/train.lst"),
                      ("train.manifest", "train.manifest")):  # fmt: skip
        s3.upload_file(str(folder / path), BUCKET, key)


def channel(name: str, where: str, content_type: str, *, mode: str = "File", **further: Any) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/{where}"}
    source |= {key: further.pop(key) for key in ("S3DataType", "AttributeNames") if key in further}
    given = {"ChannelName": name, "InputMode": mode, "ContentType": content_type, **further}
    return given | {"DataSource": {"S3DataSource": source}}


def both(where: str, content_type: str, **further: Any) -> list[dict[str, Any]]:
    return [channel(name, where, content_type, **further) for name in ("train", "validation")]


INPUTS = {
    "rec-file": both("rec/", RECORDS),
    "lst": [*both("files/", "application/x-image"),
            *(channel(f"{name}_lst", "lst/", "application/x-image") for name in ("train", "validation"))],
    "manifest-file": both("train.manifest", RECORDS, **MANIFEST),
    "manifest-pipe": both("train.manifest", RECORDS, mode="Pipe", RecordWrapperType="RecordIO",
                          ShuffleConfig={"Seed": 7}, **MANIFEST),
}  # fmt: skip


def start(server: RunningServer, name: str, channels: list[dict[str, Any]], hosts: int = 1, **settings: str) -> None:
    server.client("sagemaker").create_training_job(
        TrainingJobName=name,
        AlgorithmSpecification={"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        RoleArn=ROLE,
        InputDataConfig=channels,
        OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/models"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": hosts, "VolumeSizeInGB": 10},
        StoppingCondition={"MaxRuntimeInSeconds": 600},
        HyperParameters=SETTINGS | settings,
    )


def ended(server: RunningServer, name: str) -> tuple[dict[str, Any], str]:
    """The job's description and log."""
    sagemaker, logs = server.client("sagemaker"), server.client("logs")
    waiter = sagemaker.get_waiter("training_job_completed_or_stopped")
    try:
        waiter.wait(TrainingJobName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 300})
    except Exception as error:
        if "terminal failure" not in str(error):
            raise
    job = sagemaker.describe_training_job(TrainingJobName=name)
    group = "/aws/sagemaker/TrainingJobs"
    streams = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{name}/")["logStreams"]
    lines = []
    for stream in streams:
        events = logs.get_log_events(logGroupName=group, logStreamName=stream["logStreamName"], startFromHead=True)
        lines += [event["message"] for event in events["events"]]
    return job, "\n".join(lines)


def test_every_input_trains(server: RunningServer, uploaded: None) -> None:
    for name, channels in INPUTS.items():
        start(server, f"pictures-{name}", channels)
    start(
        server,
        "pictures-two-hosts",
        both("rec/", RECORDS, mode="Pipe"),
        hosts=2,
        kv_store="dist_sync",
        mini_batch_size="4",
    )
    seen = {}
    for name in (*INPUTS, "two-hosts"):
        job, log = ended(server, f"pictures-{name}")
        assert job["TrainingJobStatus"] == "Completed", f"{name}: {job.get('FailureReason')}\n{log}"
        assert re.search(r"Epoch\[0\] Validation-accuracy=", log), log
        seen[name] = re.search(r"Epoch\[0\] Train-accuracy=(\S+)", log)[1]  # type: ignore[index]
    # files in the same order are the same pictures to the network, whatever they came in
    assert len({seen[name] for name in ("rec-file", "lst", "manifest-file")}) == 1, seen


BROKEN = {
    "one-attribute": (
        both("train.manifest", RECORDS, mode="Pipe", RecordWrapperType="RecordIO", S3DataType="AugmentedManifestFile",
             AttributeNames=["class"]),
        "ClientError: .*(cannot be decoded|is no picture|AttributeNames needs two)",
    ),
    "truncated": (both("broken/", RECORDS), r"ClientError: .*train\.rec, record \d+: truncated"),
    "no-records": (both("files/", RECORDS), r"ClientError: .*\.rec files or one augmented manifest"),
}  # fmt: skip


def test_what_cannot_be_read_is_the_failure_reason(server: RunningServer, uploaded: None, tmp_path: Path) -> None:
    s3 = server.client("s3")
    whole = s3.get_object(Bucket=BUCKET, Key="rec/train.rec")["Body"].read()
    s3.put_object(Bucket=BUCKET, Key="broken/train.rec", Body=whole[:-99])
    for name, (channels, _) in BROKEN.items():
        start(server, f"pictures-{name}", channels)
    for name, (_, reason) in BROKEN.items():
        job, log = ended(server, f"pictures-{name}")
        assert job["TrainingJobStatus"] == "Failed", log
        assert re.search(reason, job["FailureReason"]), job["FailureReason"]
