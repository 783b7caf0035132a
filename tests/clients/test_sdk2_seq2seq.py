"""Seq2Seq through real clients: the SDK's generic Estimator; boto3 with a job, an endpoint and a batch transform."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sagesmith.testing.server import RunningServer
from tests.algorithms.seq2seq_sentences import SMALL, backwards, recordio, vocabularies, vocabulary_json
from tests.clients.live import ROLE, run_flow, serve, transform_lines

pytestmark = pytest.mark.slow

BUCKET = "seq2seq-boto3"
IMAGE = "433757028032.dkr.ecr.us-west-2.amazonaws.com/seq2seq:1"
SOON = {"Delay": 1, "MaxAttempts": 240}
SETTINGS = {name: str(value) for name, value in SMALL.items()} | {"max_num_epochs": "3", "bleu_sample_size": "-1"}
HELD = backwards(20, seed=1)


def channels() -> dict[str, bytes]:
    """The channels' files by key."""
    made = {"train/train.rec": recordio(backwards(300)), "validation/val.rec": recordio(HELD)}
    for name, vocabulary in zip(("src", "trg"), vocabularies(), strict=True):
        made[f"vocab/vocab.{name}.json"] = vocabulary_json(vocabulary).encode()
    return made


@pytest.fixture(scope="module")
def seen(server: RunningServer, folder: Path) -> dict[str, Any]:
    for name, content in channels().items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "settings.json").write_text(json.dumps(SETTINGS))
    return run_flow(server, 2, "sdk2_seq2seq", folder)


def test_the_sdk_trains_and_measures(seen: dict[str, Any]) -> None:
    assert seen["image"].endswith("/seq2seq:1")
    assert "Checkpoint [1] Validation-perplexity=" in seen["log"]
    metrics = seen["metrics"]
    assert 1 < metrics["validation:perplexity"] < 16
    assert 0 < metrics["validation:accuracy"] <= 1
    assert 0 < metrics["validation:bleu"] <= 1


def test_the_sdk_asks_for_translations_and_attention(seen: dict[str, Any]) -> None:
    first, second = seen["predict"]["predictions"]
    assert set(first) == {"target"}
    assert np.array(second["matrix"]).shape == (len(second["target"].split()), 2)
    assert seen["left"] == []


def test_boto3_trains_serves_and_transforms(server: RunningServer) -> None:
    s3, sagemaker = server.client("s3"), server.client("sagemaker")
    s3.create_bucket(Bucket=BUCKET)
    for key, content in channels().items():
        s3.put_object(Bucket=BUCKET, Key=key, Body=content)
    lines = "".join(json.dumps({"source": text}) + "\n" for text in HELD[0])
    s3.put_object(Bucket=BUCKET, Key="batch/sentences.jsonl", Body=lines.encode())
    sagemaker.create_training_job(
        TrainingJobName="boto3-seq2seq",
        AlgorithmSpecification={"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        RoleArn=ROLE,
        InputDataConfig=[
            {
                "ChannelName": name,
                "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/{name}/"}},
            }
            for name in ("train", "validation", "vocab")
        ],
        OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/models"},
        ResourceConfig={"InstanceType": "ml.p3.2xlarge", "InstanceCount": 1, "VolumeSizeInGB": 10},
        StoppingCondition={"MaxRuntimeInSeconds": 600},
        HyperParameters=SETTINGS,
    )
    waiter = sagemaker.get_waiter("training_job_completed_or_stopped")
    waiter.wait(TrainingJobName="boto3-seq2seq", WaiterConfig=SOON)
    model = sagemaker.describe_training_job(TrainingJobName="boto3-seq2seq")["ModelArtifacts"]["S3ModelArtifacts"]
    body = s3.get_object(Bucket=BUCKET, Key=model.partition(f"{BUCKET}/")[2])["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        assert sorted(archive.getnames()) == ["model.json", "model_algo-1", "vocab.src.json", "vocab.trg.json"]

    container = {"Image": IMAGE, "ModelDataUrl": model}
    sagemaker.create_model(ModelName="boto3-seq2seq", PrimaryContainer=container, ExecutionRoleArn=ROLE)
    answers = served(server)
    transform_lines(
        server,
        "boto3-seq2seq",
        f"s3://{BUCKET}/batch/",
        f"s3://{BUCKET}/out",
        "application/jsonlines",
        "application/jsonlines",
    )
    written = s3.get_object(Bucket=BUCKET, Key="out/sentences.jsonl.out")["Body"].read().decode()
    assert [json.loads(line)["target"] for line in written.splitlines()] == answers


def served(server: RunningServer) -> list[str]:
    """What an endpoint answers to JSON."""
    sagemaker, name = server.client("sagemaker"), "boto3-seq2seq"
    serve(server, name)
    body = json.dumps({"instances": [{"data": text} for text in HELD[0]]}).encode()
    answer = server.client("sagemaker-runtime").invoke_endpoint(
        EndpointName=name, ContentType="application/json", Body=body
    )
    sagemaker.delete_endpoint(EndpointName=name)
    return [one["target"] for one in json.loads(answer["Body"].read())["predictions"]]
