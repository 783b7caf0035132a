from __future__ import annotations

import pytest

from sagesmith.core.names import runs_bucket
from sagesmith.core.operation import ApiError
from sagesmith.engines.base import State
from sagesmith.services.sagemaker.training.progress import QUIET_LIMIT
from sagesmith.services.sagemaker.training.steps import LONGEST_WAIT, LOST_GRACE, UPLOAD_GRACE
from sagesmith.testing.check_operation import check_operation
from tests.services.sagemaker.training_stage import Stage

ARN = "arn:aws:sagemaker:us-east-1:123456789012:training-job/job"


def test_a_job_goes_through_the_chart_as_its_agent_reports(stage: Stage) -> None:
    stage.create()
    assert stage.status() == ("InProgress", "Starting")
    created = stage.clock.now()
    stage.pass_time(1)
    assert stage.describe()["SecondaryStatusTransitions"][-1]["StatusMessage"] == "Preparing the instances for training"
    stage.report("Starting", "Downloading")
    stage.pass_time(1)
    assert stage.status() == ("InProgress", "Downloading")
    stage.clock.advance(9)
    stage.report("Starting", "Downloading", "Training", metrics={"train:rmse": [0.5, stage.clock.now()]})
    stage.pass_time(1)
    assert stage.status() == ("InProgress", "Training")
    stage.clock.advance(20)
    stage.exit(metrics={"train:rmse": [0.25, stage.clock.now()], "validation:auc": [float("nan"), 1.0]})
    ended = stage.clock.now()
    stage.gang(State.EXITED)
    stage.pass_time(3)

    answer = stage.describe()
    assert stage.status() == ("Completed", "Completed")
    assert stage.transitions() == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    messages = [transition["StatusMessage"] for transition in answer["SecondaryStatusTransitions"]]
    assert messages[1:] == [
        "Downloading input data",
        "Training image download completed. Training in progress.",
        "Uploading generated training model",
        "Training job completed",
    ]
    assert all(item["StartTime"] <= item["EndTime"] for item in answer["SecondaryStatusTransitions"])
    assert (answer["CreationTime"], answer["TrainingStartTime"], answer["TrainingEndTime"]) == (
        created,
        created + 1,
        ended,
    )
    assert answer["TrainingTimeInSeconds"] == answer["BillableTimeInSeconds"] == round(ended - created - 1)
    assert answer["FinalMetricDataList"] == [{"MetricName": "train:rmse", "Value": 0.25, "Timestamp": ended}]
    assert stage.engine.gangs == {}
    assert list(stage.ctx.world.objects.list(runs_bucket(stage.ctx))) == []


def test_a_job_so_quick_that_only_its_last_report_is_seen_shows_every_phase(stage: Stage) -> None:
    stage.create()
    stage.drain()
    stage.exit()
    stage.gang(State.EXITED)
    stage.pass_time(1)
    assert stage.transitions() == ["Starting", "Downloading", "Training", "Uploading", "Completed"]


def test_an_agent_that_has_reported_its_end_but_lingers_is_waited_for_and_then_killed(stage: Stage) -> None:
    stage.create()
    stage.drain()
    stage.exit()
    stage.pass_time(LOST_GRACE - 1)
    assert stage.status() == ("InProgress", "Uploading")
    assert stage.engine.stops == []
    stage.pass_time(3)
    assert stage.engine.stops[0] == (stage.engine.launches[0], 0.0)
    stage.gang(State.EXITED)
    stage.pass_time(1)
    assert stage.status() == ("Completed", "Completed")


def test_describe_has_what_clients_index(stage: Stage) -> None:
    stage.create(Tags=[{"Key": "team", "Value": "a"}])
    answer = stage.describe()
    assert answer["OutputDataConfig"] == {"S3OutputPath": "s3://bucket/out/", "KmsKeyId": "", "CompressionType": "GZIP"}
    assert answer["ModelArtifacts"] == {"S3ModelArtifacts": "s3://bucket/out/job/output/model.tar.gz"}
    names = [definition["Name"] for definition in answer["AlgorithmSpecification"]["MetricDefinitions"]]
    assert names == ["train:rmse", "validation:auc"]
    assert answer["StoppingCondition"] == {"MaxRuntimeInSeconds": 86400}
    assert answer["ResourceConfig"]["VolumeSizeInGB"] == 30
    for flag in ("EnableNetworkIsolation", "EnableInterContainerTrafficEncryption", "EnableManagedSpotTraining"):
        assert answer[flag] is False
    assert answer["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3DataDistributionType"] == "FullyReplicated"
    assert "Tags" not in answer
    tags = check_operation("ListTags", {"ResourceArn": answer["TrainingJobArn"]}, stage.ctx)
    assert tags == {"Tags": [{"Key": "team", "Value": "a"}]}


def test_own_metric_definitions_come_before_the_algorithms(stage: Stage) -> None:
    own = [{"Name": "train:rmse", "Regex": "mine"}]
    stage.create(AlgorithmSpecification={"MetricDefinitions": own})
    assert stage.describe()["AlgorithmSpecification"]["MetricDefinitions"][0] == own[0]
    assert len(stage.describe()["AlgorithmSpecification"]["MetricDefinitions"]) == 2


def test_a_command_of_the_users_own_is_shown_and_handed_to_the_agents(stage: Stage) -> None:
    own = {"ContainerEntrypoint": ["/bin/bash"], "ContainerArguments": ["-c", "echo here"]}
    stage.create(AlgorithmSpecification=own)
    stage.drain()
    paper = stage.engine.gangs[stage.engine.launches[0]].papers[0]
    assert (paper["command"], paper["own_entrypoint"]) == (["/bin/bash", "-c", "echo here"], True)
    assert paper["instance_type"] == stage.describe()["ResourceConfig"]["InstanceType"]
    assert own.items() <= stage.describe()["AlgorithmSpecification"].items()


def test_the_agents_are_told_everything(stage: Stage) -> None:
    stage.create(
        ResourceConfig={"InstanceCount": 2},
        Environment={"KEY": "value", "TRAINING_JOB_NAME": "other"},
        CheckpointConfig={"S3Uri": "s3://bucket/checkpoints"},
        OutputDataConfig={"CompressionType": "NONE"},
    )
    stage.drain()
    run = stage.engine.launches[0]
    first, second = stage.engine.gangs[run].papers
    assert (first["host"], second["host"], first["hosts"]) == ("algo-1", "algo-2", ["algo-1", "algo-2"])
    assert first["command"][1:] == ["-m", "sagesmith.container", "train", "sagemaker-xgboost"]
    assert first["environment"]["KEY"] == "value"
    assert first["environment"]["TRAINING_JOB_NAME"] == "job"
    assert first["environment"]["TRAINING_JOB_ARN"] == ARN
    assert first["checkpoint"] == {"S3Uri": "s3://bucket/checkpoints", "LocalPath": "/opt/ml/checkpoints"}
    assert first["model_output"] == "s3://bucket/out/job/output/model/"
    assert first["data_output"] == "s3://bucket/out/job/output/output.tar.gz"
    assert first["log_stream"].startswith("job/algo-1-")
    assert second["log_stream"].startswith("job/algo-2-")
    assert first["reports"] == f"s3://{runs_bucket(stage.ctx)}/{run}/"
    assert (first["hyperparameters"], first["input_mode"]) == ({"num_round": "10"}, "File")
    assert (first["access_key"], first["secret_key"]) == ("agent", "secret")
    assert stage.engine.gangs[run].cores == 2 * first["cores"]


def test_a_gang_of_two_moves_on_with_its_slower_host(stage: Stage) -> None:
    stage.create(ResourceConfig={"InstanceCount": 2})
    stage.drain()
    stage.report("Starting", "Downloading", "Training")
    stage.report("Starting", host="algo-2")
    stage.pass_time(1)
    assert stage.status()[1] == "Downloading"
    stage.report("Starting", "Downloading", "Training", host="algo-2")
    stage.pass_time(1)
    assert stage.status()[1] == "Training"
    stage.exit()
    stage.pass_time(1)
    assert stage.status() == ("InProgress", "Training")
    stage.exit(host="algo-2")
    stage.gang(State.EXITED)
    stage.pass_time(1)
    assert stage.status() == ("Completed", "Completed")


def test_a_job_waits_for_room(stage: Stage) -> None:
    stage.engine.room = False
    stage.create()
    stage.pass_time(600, step=10)
    assert stage.status() == ("InProgress", "Pending")
    stage.engine.room = True
    stage.pass_time(LONGEST_WAIT)
    assert stage.status() == ("InProgress", "Starting")
    assert stage.transitions() == ["Starting", "Pending", "Starting"]


def test_a_failing_algorithm_fails_the_job_with_its_words_and_ends_the_other_hosts(stage: Stage) -> None:
    stage.create(ResourceConfig={"InstanceCount": 2}, RetryStrategy={"MaximumRetryAttempts": 3})
    stage.drain()
    stage.exit(code=1, failure="AlgorithmError: no rows " + "x" * 2000)
    stage.report("Starting", "Downloading", "Training", host="algo-2")
    stage.pass_time(1)
    assert stage.engine.stops == [(stage.engine.launches[0], LOST_GRACE)]
    assert stage.status()[0] == "InProgress"
    stage.gang(State.EXITED)
    stage.pass_time(1)
    answer = stage.describe()
    assert stage.status() == ("Failed", "Failed")
    assert answer["FailureReason"] == ("AlgorithmError: no rows " + "x" * 2000)[:1024]
    assert len(stage.engine.launches) == 1


def test_a_host_that_ignores_the_end_of_its_gang_is_killed(stage: Stage) -> None:
    stage.create(ResourceConfig={"InstanceCount": 2})
    stage.drain()
    stage.exit(code=1)
    stage.pass_time(LOST_GRACE + 2)
    assert stage.engine.stops[-1] == (stage.engine.launches[0], 0.0)
    stage.gang(State.EXITED)
    stage.pass_time(1)
    assert stage.describe()["FailureReason"] == "AlgorithmError: algo-1 ended with exit code 1"


@pytest.mark.parametrize("state", [State.LOST, State.EXITED, State.ABSENT])
def test_a_lost_gang_fails_with_the_true_reason(stage: Stage, state: State) -> None:
    stage.create()
    stage.drain()
    stage.report("Starting", "Downloading", "Training")
    stage.gang(state)
    stage.pass_time(LOST_GRACE + 2)
    assert stage.status() == ("Failed", "Failed")
    reason = "InternalServerError: algo-1 ended without a report; the process or its host is gone"
    assert stage.describe()["FailureReason"] == reason


def test_a_lost_gang_is_launched_again_as_often_as_the_strategy_allows(stage: Stage) -> None:
    stage.create(RetryStrategy={"MaximumRetryAttempts": 1})
    for _ in range(2):
        stage.pass_time(1)
        stage.report("Starting", "Downloading", "Training")
        stage.pass_time(1)
        stage.gang(State.LOST)
        stage.pass_time(LOST_GRACE + 2)
    assert len(set(stage.engine.launches)) == 2
    assert stage.status() == ("Failed", "Failed")
    assert stage.transitions() == [
        *("Starting", "Downloading", "Training"),
        *("Restarting", "Starting", "Downloading", "Training", "Failed"),
    ]


def test_a_retried_job_may_complete(stage: Stage) -> None:
    stage.create(RetryStrategy={"MaximumRetryAttempts": 1})
    stage.drain()
    stage.gang(State.LOST)
    stage.pass_time(LOST_GRACE + 2)
    stage.exit()
    stage.gang(State.EXITED)
    stage.pass_time(2)
    assert stage.status() == ("Completed", "Completed")
    assert "FailureReason" not in stage.describe()


def test_an_agent_ended_by_a_stranger_counts_as_lost(stage: Stage) -> None:
    stage.create()
    stage.drain()
    stage.exit(code=143, stopped=True)
    stage.gang(State.EXITED)
    stage.pass_time(2)
    assert stage.status() == ("Failed", "Failed")
    assert "signal that was not sent by StopTrainingJob" in stage.describe()["FailureReason"]


def test_a_silent_host_is_lost_but_the_servers_own_absence_is_not_held_against_it(stage: Stage) -> None:
    stage.create()
    stage.drain()
    stage.report("Starting", "Downloading", "Training")
    stage.pass_time(1)
    stage.clock.advance(10 * QUIET_LIMIT)  # nobody looked
    stage.pass_time(QUIET_LIMIT - 10)
    assert stage.status() == ("InProgress", "Training")
    stage.report("Starting", "Downloading", "Training")
    stage.pass_time(QUIET_LIMIT - 10)
    assert stage.status() == ("InProgress", "Training")
    stage.pass_time(15)
    stage.gang(State.EXITED)
    stage.pass_time(3)
    assert stage.describe()["FailureReason"] == "InternalServerError: algo-1 has sent no report for too long"


def test_stop_keeps_what_there_is_of_a_model(stage: Stage) -> None:
    stage.create()
    stage.drain()
    stage.report("Starting", "Downloading", "Training")
    stage.pass_time(1)
    check_operation("StopTrainingJob", {"TrainingJobName": "job"}, stage.ctx)
    assert stage.status() == ("Stopping", "Stopping")
    check_operation("StopTrainingJob", {"TrainingJobName": "job"}, stage.ctx)
    stage.pass_time(5)
    grace = stage.ctx.world.config.stop_grace + UPLOAD_GRACE
    assert stage.engine.stops == [(stage.engine.launches[0], grace)]
    stage.exit(code=143, stopped=True)
    stage.gang(State.EXITED)
    stage.pass_time(1)
    assert stage.status() == ("Stopped", "Stopped")
    assert stage.transitions() == ["Starting", "Downloading", "Training", "Stopping", "Stopped"]
    assert "FailureReason" not in stage.describe()
    with pytest.raises(ApiError, match="in status Stopped"):
        check_operation("StopTrainingJob", {"TrainingJobName": "job"}, stage.ctx)


def test_a_job_that_does_not_end_within_the_grace_is_killed(stage: Stage) -> None:
    stage.create()
    stage.drain()
    check_operation("StopTrainingJob", {"TrainingJobName": "job"}, stage.ctx)
    stage.pass_time(stage.ctx.world.config.stop_grace + UPLOAD_GRACE + 20, step=10)
    assert stage.engine.stops[-1] == (stage.engine.launches[0], 0.0)


def test_a_job_can_be_stopped_before_it_is_launched(stage: Stage) -> None:
    stage.engine.room = False
    stage.create()
    stage.drain()
    check_operation("StopTrainingJob", {"TrainingJobName": "job"}, stage.ctx)
    stage.pass_time(1)
    assert stage.status() == ("Stopped", "Stopped")
    assert "TrainingStartTime" not in stage.describe()
    assert stage.engine.launches == []


def test_the_time_limit_is_a_due_time(stage: Stage) -> None:
    stage.create(StoppingCondition={"MaxRuntimeInSeconds": 60})
    stage.drain()
    stage.report("Starting", "Downloading", "Training")
    stage.pass_time(58)
    assert stage.status() == ("InProgress", "Training")
    stage.pass_time(2)
    assert stage.status() == ("Stopping", "Stopping")
    stage.exit(code=143, stopped=True)
    stage.gang(State.EXITED)
    stage.pass_time(1)
    assert stage.status() == ("Stopped", "MaxRuntimeExceeded")


def test_a_spot_job_that_waits_too_long_is_stopped(stage: Stage) -> None:
    stage.engine.room = False
    stage.create(
        EnableManagedSpotTraining=True, StoppingCondition={"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 90}
    )
    stage.pass_time(100)
    assert stage.status() == ("Stopped", "MaxWaitTimeExceeded")


def test_a_server_that_cannot_launch_fails_the_job_with_the_reason(stage: Stage) -> None:
    stage.engine.trouble = OSError("no space left on device")
    stage.create()
    stage.pass_time(120)
    assert stage.status() == ("Failed", "Failed")
    reason = "InternalServerError: step Launching failed 8 times: no space left on device"
    assert stage.describe()["FailureReason"] == reason


STATES = ("Launching", "Watching", "Ending", "Restarting", "Stopping", "Finishing")
POINTS = [f"TrainingJob.{state}.{place}" for state in STATES for place in ("before", "after", "committed")]


class Killed(BaseException):
    """Stands for SIGKILL."""


def survive(stage: Stage, point: str, seconds: float = 8) -> bool:
    """Lets time pass; dies once at `point` and starts again. Whether it was reached."""
    died: list[str] = []

    def die(here: str) -> None:
        if here == point and not died:
            died.append(here)
            raise Killed

    stage.interrupt = die
    for _ in range(round(seconds)):
        try:
            stage.drain()
        except Killed:
            stage.clock.advance(60)  # until the lease of the dead server is out
        stage.clock.advance(1)
    return bool(died)


@pytest.mark.parametrize("point", POINTS)
def test_a_server_killed_at_any_point_of_the_chart_ends_the_job_as_if_nothing_had_been(
    stage: Stage, point: str
) -> None:
    stage.create("completes", RetryStrategy={"MaximumRetryAttempts": 1})
    stage.create("stops")
    stage.interrupt = lambda _point: None
    reached = survive(stage, point)
    stage.gang(State.LOST, "completes")
    reached |= survive(stage, point, 12)
    check_operation("StopTrainingJob", {"TrainingJobName": "stops"}, stage.ctx)
    stage.exit(name="completes")
    for name in ("completes", "stops"):
        stage.gang(State.EXITED, name)
    reached |= survive(stage, point, 12)
    survive(stage, "", 12)
    assert reached
    assert stage.status("completes") == ("Completed", "Completed")
    assert stage.status("stops") == ("Stopped", "Stopped")
    assert len(stage.engine.launches) == 3  # one, its retry, the other
    assert stage.engine.gangs == {}
