"""What CreateTrainingJob refuses and accepts, lists, updates and deletions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sagesmith.core.names import runs_bucket
from sagesmith.core.operation import ApiError
from sagesmith.engines.base import State
from sagesmith.testing.check_operation import check_operation
from tests.services.sagemaker.training_stage import Stage, channel

ARN = "arn:aws:sagemaker:us-east-1:123456789012:training-job/job"


def refused(stage: Stage, text: str, **changes: Any) -> None:
    with pytest.raises(ApiError) as caught:
        stage.create(**changes)
    assert caught.value.code == "ValidationException"
    assert text in caught.value.message
    assert check_operation("ListTrainingJobs", {}, stage.ctx) == {"TrainingJobSummaries": []}


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("lda, sagemaker-xgboost, xgboost", {"AlgorithmSpecification": {"TrainingImage": "a/pytorch-training:2"}}),
        ("AlgorithmName", {"AlgorithmSpecification": {"AlgorithmName": "mine"}}),
        ("ContainerEntrypoint asks for a command of your own in 'x/lda:1', but lda is a built-in algorithm", {
            "AlgorithmSpecification": {"TrainingImage": "x/lda:1", "ContainerEntrypoint": ["sh"]}}),
        ("ContainerArguments goes with ContainerEntrypoint", {
            "AlgorithmSpecification": {"ContainerArguments": ["-x"]}}),
        ("TrainingImage is required", {"AlgorithmSpecification": {"TrainingImage": ""}}),
        ("AlgorithmSpecification is required", {"AlgorithmSpecification": None}),
        ("more than once", {"AlgorithmSpecification": {"MetricDefinitions": [{"Name": "m", "Regex": "x"}] * 2}}),
        ("lda is a built-in algorithm; only framework images run scripts", {
            "AlgorithmSpecification": {"TrainingImage": "x/lda:1"},
            "HyperParameters": {"sagemaker_program": '"train.py"'}}),
        ("goes with sagemaker_program", {"HyperParameters": {"sagemaker_submit_directory": '"s3://b/code.tar.gz"'}}),
        ("ResourceConfig is required", {"ResourceConfig": None}),
        ("InstanceCount", {"ResourceConfig": {"InstanceCount": 0}}),
        ("VolumeSizeInGB", {"ResourceConfig": {"VolumeSizeInGB": 0}}),
        ("a warm pool", {"ResourceConfig": {"KeepAlivePeriodInSeconds": 60}}),
        ("a heterogeneous cluster", {"ResourceConfig": {"InstanceGroups": [
            {"InstanceType": "ml.m5.large", "InstanceCount": 1, "InstanceGroupName": "g"}]}}),
        ("lda trains on one instance only", {
            "AlgorithmSpecification": {"TrainingImage": "x/lda:1"}, "ResourceConfig": {"InstanceCount": 2}}),
        ("'train' is used twice", {"InputDataConfig": [channel(), channel()]}),
        ("'..' is not allowed", {"InputDataConfig": [channel("..")]}),
        ("InputDataConfig[0].DataSource.S3DataSource.S3Uri", {"InputDataConfig": [channel(DataSource={
            "S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "https://s3.amazonaws.com/b/k"}})]}),
        ("data on EFS or FSx", {"InputDataConfig": [channel(DataSource={"FileSystemDataSource": {
            "FileSystemId": "fs-12345678", "FileSystemAccessMode": "ro", "FileSystemType": "EFS",
            "DirectoryPath": "/"}})]}),
        ("S3DataSource is required", {"InputDataConfig": [channel(DataSource={})]}),
        ("FastFile needs S3DataType S3Prefix", {"InputDataConfig": [channel(InputMode="FastFile", DataSource={
            "S3DataSource": {"S3DataType": "ManifestFile", "S3Uri": "s3://b/k"}})]}),
        ("AttributeNames", {"InputDataConfig": [channel(DataSource={
            "S3DataSource": {"S3DataType": "AugmentedManifestFile", "S3Uri": "s3://b/k"}})]}),
        ("needs input mode Pipe", {"InputDataConfig": [channel(RecordWrapperType="RecordIO")]}),
        ("OutputDataConfig.S3OutputPath", {"OutputDataConfig": {"S3OutputPath": "https://bucket/out"}}),
        ("CheckpointConfig.S3Uri", {"CheckpointConfig": {"S3Uri": "https://bucket/out"}}),
        ("at most 2419200", {"StoppingCondition": {"MaxRuntimeInSeconds": 2419201}}),
        ("goes with EnableManagedSpotTraining", {"StoppingCondition": {"MaxWaitTimeInSeconds": 60}}),
        ("Invalid MaxWaitTimeInSeconds None", {"EnableManagedSpotTraining": True}),
        ("Debugger rules", {"DebugRuleConfigurations": [
            {"RuleConfigurationName": "r", "RuleEvaluatorImage": "i"}]}),
        ("tensors saved by Debugger", {"DebugHookConfig": {
            "S3OutputPath": "s3://b/k", "CollectionConfigurations": [{"CollectionName": "losses"}]}}),
        ("an experiment", {"ExperimentConfig": {"ExperimentName": "e"}}),
        ("a shell in the container", {"RemoteDebugConfig": {"EnableRemoteDebug": True}}),
        ("reserved", {"Tags": [{"Key": "aws:a", "Value": ""}]}),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_by_name(stage: Stage, text: str, changes: dict[str, Any]) -> None:
    refused(stage, text, **changes)


def test_what_the_sdk_sends_with_every_job_is_accepted_and_shown(stage: Stage) -> None:
    sent = {
        "DebugHookConfig": {"S3OutputPath": "s3://bucket/", "CollectionConfigurations": []},
        "ProfilerConfig": {"S3OutputPath": "s3://bucket/", "DisableProfiler": False},
        "VpcConfig": {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]},
        "EnableNetworkIsolation": True,
        "RemoteDebugConfig": {"EnableRemoteDebug": False},
    }
    stage.create(**sent)
    answer = stage.describe()
    assert {member: answer[member] for member in sent} == sent


def test_a_name_is_used_once(stage: Stage) -> None:
    stage.create()
    with pytest.raises(ApiError) as caught:
        stage.create()
    assert caught.value.code == "ResourceInUse"
    assert ARN in caught.value.message


@pytest.mark.parametrize(
    "operation", ["DescribeTrainingJob", "StopTrainingJob", "UpdateTrainingJob", "DeleteTrainingJob"]
)
def test_a_missing_job_has_both_wordings(stage: Stage, operation: str) -> None:
    with pytest.raises(ApiError, match=r'Requested resource not found\. Could not find .*"nobody"') as caught:
        check_operation(operation, {"TrainingJobName": "nobody"}, stage.ctx)
    assert caught.value.code == "ValidationException"


def test_lists_show_what_the_job_has_come_to(stage: Stage) -> None:
    for name in ("one", "two"):
        stage.create(name)
        stage.pass_time(1)
    stage.exit(name="one")
    stage.gang(State.EXITED, "one")
    stage.pass_time(2)
    answer = check_operation("ListTrainingJobs", {"StatusEquals": "Completed"}, stage.ctx)
    assert [(job["TrainingJobName"], job["SecondaryStatus"]) for job in answer["TrainingJobSummaries"]] == [
        ("one", "Completed")
    ]
    answer = check_operation("ListTrainingJobs", {"MaxResults": 1}, stage.ctx)
    assert [job["TrainingJobName"] for job in answer["TrainingJobSummaries"]] == ["two"]
    rest = check_operation("ListTrainingJobs", {"NextToken": answer["NextToken"]}, stage.ctx)
    assert [job["TrainingJobName"] for job in rest["TrainingJobSummaries"]] == ["one"]
    assert check_operation("ListTrainingJobs", {"WarmPoolStatusEquals": "InUse"}, stage.ctx) == {
        "TrainingJobSummaries": []
    }


def test_update_changes_the_profiler_and_refuses_the_rest(stage: Stage) -> None:
    stage.create(ProfilerConfig={"S3OutputPath": "s3://bucket/"})
    update = {"TrainingJobName": "job", "ProfilerConfig": {"DisableProfiler": True}}
    assert check_operation("UpdateTrainingJob", update, stage.ctx) == {"TrainingJobArn": ARN}
    assert stage.describe()["ProfilerConfig"] == {"S3OutputPath": "s3://bucket/", "DisableProfiler": True}
    with pytest.raises(ApiError, match="a warm pool"):
        keep = {"TrainingJobName": "job", "ResourceConfig": {"KeepAlivePeriodInSeconds": 60}}
        check_operation("UpdateTrainingJob", keep, stage.ctx)


def test_only_a_job_that_has_ended_is_deleted(stage: Stage) -> None:
    stage.create(Tags=[{"Key": "a", "Value": ""}])
    with pytest.raises(ApiError) as caught:
        check_operation("DeleteTrainingJob", {"TrainingJobName": "job"}, stage.ctx)
    assert caught.value.code == "ResourceInUse"
    stage.drain()
    stage.exit()
    stage.gang(State.EXITED)
    stage.pass_time(1)
    check_operation("DeleteTrainingJob", {"TrainingJobName": "job"}, stage.ctx)
    with pytest.raises(ApiError, match="Could not find"):
        stage.describe()


def test_a_report_that_is_no_report_is_as_none(stage: Stage) -> None:
    stage.create()
    stage.drain()
    run = stage.document().private["run"]
    for text in (b"{", b"[]", json.dumps({"run": "other", "phases": [["Training", 1]]}).encode()):
        stage.ctx.world.objects.put(runs_bucket(stage.ctx), f"{run}/algo-1.json", text)
        stage.pass_time(2)
        assert stage.status() == ("InProgress", "Starting")
