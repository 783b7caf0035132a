"""FastFile jobs through boto3, a real server, the local engine and XGBoost: no byte is copied, and none can change."""

from __future__ import annotations

import io
import json
import os
import signal
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sagesmith.agent import namespace
from sagesmith.testing.server import RunningServer, running_server

IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1"
WAIT = {"Delay": 1, "MaxAttempts": 120}
ROWS = "\n".join(f"{int(number % 7 > 3)},{number % 7},{number % 11}" for number in range(500)).encode()
DIGESTS = """
import hashlib, json, os, pathlib
data = pathlib.Path(os.environ["SM_CHANNEL_TRAIN"])
seen = {}
for path in sorted(data.rglob("*")):
    if path.is_file():
        seen[str(path.relative_to(data))] = [hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_ino]
        try:
            path.open("ab").write(b"damage")
        except OSError:
            pass
pathlib.Path(os.environ["SM_MODEL_DIR"], "seen.json").write_text(json.dumps(seen))
"""
SLEEPS = "import time\nprint('asleep', flush=True)\ntime.sleep(600)\n"

pytestmark = pytest.mark.skipif(
    bool(namespace.obstacle([])), reason="this host allows no mount namespace, so that FastFile is copied"
)


def prepare(server: RunningServer) -> None:
    s3 = server.client("s3")
    s3.create_bucket(Bucket="bucket")
    s3.put_object(Bucket="bucket", Key="train/rows.csv", Body=ROWS)
    for key in ("a b+c%.bin", "é/ü.bin", "deep//x", "tab\tline\n", "x" * 250, "%", "~*'\"", "k", "k2/more"):
        s3.put_object(Bucket="bucket", Key=f"odd/{key}", Body=key.encode() * 1000)
    upload = s3.create_multipart_upload(Bucket="bucket", Key="odd/parts")["UploadId"]
    parts = []
    for number, body in ((1, b"p" * (5 << 20)), (2, b"q")):
        part = {"Bucket": "bucket", "Key": "odd/parts", "UploadId": upload, "PartNumber": number}
        parts.append({"PartNumber": number, "ETag": s3.upload_part(**part, Body=body)["ETag"]})
    part = {"Bucket": "bucket", "Key": "odd/parts", "UploadId": upload}
    s3.complete_multipart_upload(**part, MultipartUpload={"Parts": parts})
    for name, script in (("digests", DIGESTS), ("sleeps", SLEEPS)):
        code = io.BytesIO()
        with tarfile.open(fileobj=code, mode="w:gz") as archive:
            entry = tarfile.TarInfo("train.py")
            entry.size = len(script)
            archive.addfile(entry, io.BytesIO(script.encode()))
        s3.put_object(Bucket="bucket", Key=f"code/{name}.tar.gz", Body=code.getvalue())
    s3.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("server"), stop_grace=20.0) as server:
        prepare(server)
        own = server.config.objects / "bucket" / "odd" / "put by hand.txt"
        own.write_bytes(b"nobody described this file")
        yield server


def create(server: RunningServer, name: str, prefix: str, mode: str, script: str = "") -> None:
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://bucket/{prefix}"}}
    hyperparameters = {"num_round": "3", "objective": "binary:logistic"}
    if script:
        code = json.dumps(f"s3://bucket/code/{script}.tar.gz")
        hyperparameters = {"sagemaker_program": '"train.py"', "sagemaker_submit_directory": code}
    server.client("sagemaker").create_training_job(
        TrainingJobName=name,
        AlgorithmSpecification={"TrainingImage": IMAGE, "TrainingInputMode": mode},
        RoleArn="arn:aws:iam::123456789012:role/service-role/Role",
        InputDataConfig=[{"ChannelName": "train", "ContentType": "text/csv", "DataSource": source}],
        OutputDataConfig={"S3OutputPath": "s3://bucket/out"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10},
        StoppingCondition={"MaxRuntimeInSeconds": 600},
        HyperParameters=hyperparameters,
    )


def completed(server: RunningServer, name: str) -> dict[str, bytes]:
    """The files of the model, once the job is done."""
    sagemaker = server.client("sagemaker")
    sagemaker.get_waiter("training_job_completed_or_stopped").wait(TrainingJobName=name, WaiterConfig=WAIT)
    answer = server.client("s3").get_object(Bucket="bucket", Key=f"out/{name}/output/model.tar.gz")
    with tarfile.open(fileobj=io.BytesIO(answer["Body"].read())) as archive:
        return {entry.name: archive.extractfile(entry).read() for entry in archive if entry.isfile()}  # type: ignore[union-attr]


def lines(server: RunningServer, name: str) -> list[str]:
    logs, group = server.client("logs"), "/aws/sagemaker/TrainingJobs"
    streams = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{name}/")["logStreams"]
    found = []
    for stream in streams:
        events = logs.get_log_events(logGroupName=group, logStreamName=stream["logStreamName"], startFromHead=True)
        found += [event["message"] for event in events["events"]]
    return found


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "nothing happened within a minute"
        time.sleep(0.1)


def files(server: RunningServer) -> dict[int, tuple[Path, int]]:
    """The objects' files by inode, with the number of their names."""
    found = [path for path in (server.config.objects / "bucket").rglob("*") if path.is_file()]
    return {path.stat().st_ino: (path, path.stat().st_nlink) for path in found}


def test_a_built_in_algorithm_trains_on_the_objects_themselves(server: RunningServer) -> None:
    for mode in ("FastFile", "File"):
        create(server, f"trains-{mode}", "train/", mode)
    models = [completed(server, f"trains-{mode}") for mode in ("FastFile", "File")]
    assert models[0] == models[1]
    assert "Channel 'train': FastFile: 1 files linked, not copied." in lines(server, "trains-FastFile")
    assert not [line for line in lines(server, "trains-File") if "FastFile" in line]
    assert {names for _, names in files(server).values()} == {1}


def test_a_script_sees_what_it_would_see_in_file_mode_and_damages_nothing(server: RunningServer) -> None:
    s3 = server.client("s3")
    before = [(entry["Key"], entry["ETag"]) for entry in s3.list_objects_v2(Bucket="bucket", Prefix="odd/")["Contents"]]
    for mode in ("FastFile", "File"):
        create(server, f"digests-{mode}", "odd/", mode, "digests")
    seen = [json.loads(completed(server, f"digests-{mode}")["seen.json"]) for mode in ("FastFile", "File")]
    digests = [{name: digest for name, (digest, _) in found.items()} for found in seen]
    assert digests[0] == digests[1]
    assert len(digests[0]) == len(before) == 11
    own = files(server).keys()
    assert {inode for _, inode in seen[0].values()} <= own
    assert not {inode for _, inode in seen[1].values()} & own
    after = [(entry["Key"], entry["ETag"]) for entry in s3.list_objects_v2(Bucket="bucket", Prefix="odd/")["Contents"]]
    assert after == before
    assert not [path for path, _ in files(server).values() if b"damage" in path.read_bytes()[-10:]]


@pytest.mark.kill
@pytest.mark.parametrize("victim", ["process.json", "job.json"])
def test_a_killed_agent_or_job_leaves_the_objects_and_no_link(server: RunningServer, victim: str) -> None:
    name = f"killed-{victim[:3]}"
    create(server, name, "odd/", "FastFile", "sleeps")
    wait_until(lambda: "asleep" in lines(server, name))
    assert 2 in {names for _, names in files(server).values()}
    (running,) = [path for path in server.config.runs.glob("*/algo-1") if (path / victim).exists()]
    os.kill(json.loads((running / victim).read_text())["pid"], signal.SIGKILL)
    sagemaker = server.client("sagemaker")
    wait_until(lambda: sagemaker.describe_training_job(TrainingJobName=name)["TrainingJobStatus"] == "Failed")
    wait_until(lambda: {names for _, names in files(server).values()} == {1})
    body = server.client("s3").get_object(Bucket="bucket", Key="odd/k")["Body"].read()
    assert body == b"k" * 1000


def test_objects_of_another_s3_server_are_copied(server: RunningServer, tmp_path: Path) -> None:
    environment = {"AWS_ACCESS_KEY_ID": server.key.id, "AWS_SECRET_ACCESS_KEY": server.key.secret}
    settings: dict[str, Any] = {"s3_endpoint": server.address, "environment": environment}
    with running_server(tmp_path / "front", **settings) as front:
        create(front, "remote", "train/", "FastFile")
        assert "xgboost-model" in completed(front, "remote")
        told = [line for line in lines(front, "remote") if "FastFile" in line]
    reason = "the objects are not files of this host"
    assert told == [f"Channel 'train': FastFile: its files are copied before training: {reason}."]
