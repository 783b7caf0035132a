"""BlazingText through real clients: the SDK's generic estimator; boto3 with a job and a batch transform."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from sagesmith.testing.server import RunningServer
from tests.algorithms.blazingtext_texts import TOPICS, drawn, labelled
from tests.clients.live import ROLE, run_flow, transform_lines

pytestmark = pytest.mark.slow

BUCKET = "blazingtext-boto3"
IMAGE = "811284229777.dkr.ecr.us-east-1.amazonaws.com/blazingtext:1"
SOON = {"Delay": 1, "MaxAttempts": 120}
SETTINGS = {
    "mode": "supervised", "vector_dim": "10", "min_count": "1", "buckets": "500", "learning_rate": "0.3", "epochs": "8",
}  # fmt: skip


@pytest.fixture(scope="module")
def seen(server: RunningServer, folder: Path) -> dict[str, Any]:
    texts, topics = drawn(600)
    (folder / "train.txt").write_text(labelled(texts, topics))
    (folder / "held.txt").write_text(labelled(*drawn(200, seed=1)))
    (folder / "words.txt").write_text("\n".join(drawn(2000)[0]) + "\n")
    numbers = {topic: number for number, topic in enumerate(sorted(TOPICS))}
    lines = [json.dumps({"source": a, "label": numbers[b]}) + "\n" for a, b in zip(texts, topics, strict=True)]
    (folder / "labels.manifest").write_text("".join(lines))
    return run_flow(server, 2, "sdk2_blazingtext", folder, seconds=280)


def test_a_classifier_is_trained_and_asked(seen: dict[str, Any]) -> None:
    found = seen["text"]
    assert "/blazingtext:" in found["image"]
    assert found["metrics"]["validation:accuracy"] > 0.95
    assert found["metrics"]["train:accuracy"] > 0.95
    assert [row["label"][0] for row in found["answer"]] == ["__label__sea", "__label__wood"]
    assert [len(row["prob"]) for row in found["answer"]] == [2, 2]
    assert "Training finished." in found["log"]


def test_an_augmented_manifest_is_learnt_from(seen: dict[str, Any]) -> None:
    assert seen["manifest"]["metrics"]["train:accuracy"] > 0.95
    assert "Number of train examples: 600" in seen["manifest"]["log"]


def test_two_hosts_learn_vectors(seen: dict[str, Any]) -> None:
    found = seen["words"]
    assert -1 <= found["metrics"]["train:mean_rho"] <= 1
    assert "on 2 hosts." in found["log"]
    assert [row["word"] for row in found["answer"]] == ["wave", "unheard"]
    assert [any(row["vector"]) for row in found["answer"]] == [True, False]


def test_boto3_trains_and_transforms(server: RunningServer) -> None:
    s3, sagemaker = server.client("s3"), server.client("sagemaker")
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key="train/text", Body=labelled(*drawn(600)).encode())
    held, truth = drawn(50, seed=1)
    lines = "".join(json.dumps({"source": text, "k": 2}) + "\n" for text in held)
    s3.put_object(Bucket=BUCKET, Key="batch/texts.jsonl", Body=lines.encode())
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/train/"}}
    sagemaker.create_training_job(
        TrainingJobName="boto3-blazingtext",
        AlgorithmSpecification={"TrainingImage": IMAGE, "TrainingInputMode": "Pipe"},
        RoleArn=ROLE,
        InputDataConfig=[{"ChannelName": "train", "ContentType": "text/plain", "DataSource": source}],
        OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/models"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10},
        StoppingCondition={"MaxRuntimeInSeconds": 600},
        HyperParameters=SETTINGS,
    )
    waiter = sagemaker.get_waiter("training_job_completed_or_stopped")
    waiter.wait(TrainingJobName="boto3-blazingtext", WaiterConfig=SOON)
    described = sagemaker.describe_training_job(TrainingJobName="boto3-blazingtext")
    assert described["TrainingJobStatus"] == "Completed", described.get("FailureReason")
    model = described["ModelArtifacts"]["S3ModelArtifacts"]
    body = s3.get_object(Bucket=BUCKET, Key=model.partition(f"{BUCKET}/")[2])["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        assert archive.getnames() == ["model.bin"]
    container = {"Image": IMAGE, "ModelDataUrl": model}
    sagemaker.create_model(ModelName="boto3-blazingtext", PrimaryContainer=container, ExecutionRoleArn=ROLE)
    transform_lines(
        server,
        "boto3-blazingtext",
        f"s3://{BUCKET}/batch/",
        f"s3://{BUCKET}/out",
        "application/jsonlines",
        "application/jsonlines",
    )
    written = s3.get_object(Bucket=BUCKET, Key="out/texts.jsonl.out")["Body"].read().decode()
    rows = [json.loads(line) for line in written.splitlines()]
    assert [list(row) for row in rows] == [["prob", "label"]] * 50
    right = [row["label"][0] == f"__label__{topic}" for row, topic in zip(rows, truth, strict=True)]
    assert sum(right) >= 48
