"""The document of a training job: how it is found, described and listed, and how its status moves on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sagesmith.core.machine import Document
from sagesmith.core.names import S3Uri, run_id
from sagesmith.core.operation import ApiError, validation_error
from sagesmith.store.resources import Documents

ENDED = ("Completed", "Failed", "Stopped")

# The texts that DescribeTrainingJob shows and the SDK prints.
MESSAGES = {
    "Starting": "Starting the training job",
    "Pending": "Waiting for enough free processors and memory",
    "Downloading": "Downloading input data",
    "Training": "Training image download completed. Training in progress.",
    "Uploading": "Uploading generated training model",
    "Restarting": "Restarting the training job",
    "Stopping": "Stopping the training job",
    "Completed": "Training job completed",
    "Failed": "Training job failed",
    "Stopped": "Training job stopped",
    "MaxRuntimeExceeded": "Training job runtime exceeded MaxRuntimeInSeconds provided",
    "MaxWaitTimeExceeded": "Training job waited and ran for longer than MaxWaitTimeInSeconds provided",
}
PREPARING = "Preparing the instances for training"


def _missing(name: str) -> ApiError:
    return validation_error(f'Requested resource not found. Could not find training job "{name}".')


def _exists(arn: str) -> ApiError:
    return ApiError(
        "ResourceInUse",
        "Training job names must be unique within an AWS account and region, "
        f"and a training job with this name already exists ({arn})",
    )


jobs = Documents("TrainingJob", arn="training-job", missing=_missing, exists=_exists, terminal=ENDED)


def describe(document: Document) -> dict[str, Any]:
    """The answer of DescribeTrainingJob."""
    return {
        **document.body,
        "TrainingJobName": document.name,
        "TrainingJobArn": document.arn,
        "TrainingJobStatus": document.status,
        "CreationTime": document.created_at,
        "LastModifiedTime": document.modified_at,
    }


def summary(document: Document) -> dict[str, Any]:
    """One entry of ListTrainingJobs."""
    described = describe(document)
    members = (
        "TrainingJobName",
        "TrainingJobArn",
        "CreationTime",
        "TrainingEndTime",
        "LastModifiedTime",
        "TrainingJobStatus",
        "SecondaryStatus",
    )
    return {member: described[member] for member in members if member in described}


def new_attempt(number: int, now: float) -> dict[str, Any]:
    """What the document holds in private of an attempt that is about to be launched.

    `run` is the gang's id, `reached` counts the phases that SecondaryStatus has shown of it. The names of its log
    streams come from `since`, so that a launch that is repeated after a crash is the same launch.
    """
    return {"run": run_id("training"), "attempt": number, "reached": 0, "since": now}


def hosts_of(document: Document) -> list[str]:
    """`algo-1`, `algo-2`, … for every instance."""
    return [f"algo-{number}" for number in range(1, document.body["ResourceConfig"]["InstanceCount"] + 1)]


def model_uri(request: Mapping[str, Any]) -> str:
    """Where the model goes: the archive, or the prefix of its files when OutputDataConfig says not to compress."""
    output = request["OutputDataConfig"]
    folder = S3Uri.parse(output["S3OutputPath"]).join(request["TrainingJobName"], "output")
    return f"{folder.join('model')}/" if output.get("CompressionType") == "NONE" else str(folder.join("model.tar.gz"))


def moved_on(body: Mapping[str, Any], status: str, at: float, message: str = "") -> dict[str, Any]:
    """The members that change when SecondaryStatus becomes `status`; the same status again changes its message.

    Args:
        body: the document's, or a dict with earlier changes applied.
        at: when it became so; never earlier than the transition before.
    """
    message = message or MESSAGES[status]
    transitions = [dict(transition) for transition in body.get("SecondaryStatusTransitions", ())]
    if transitions and transitions[-1]["Status"] == status:
        transitions[-1]["StatusMessage"] = message
    else:
        if transitions:
            at = max(at, transitions[-1]["StartTime"])
            transitions[-1]["EndTime"] = at
        transitions.append({"Status": status, "StartTime": at, "StatusMessage": message})
    return {"SecondaryStatus": status, "SecondaryStatusTransitions": transitions}


def ended(document: Document, secondary: str, at: float, reason: str = "") -> dict[str, Any]:
    """The members that a job shows once it has ended.

    Args:
        secondary: SecondaryStatus, with the reason for which it ended.
        at: when the last host had done everything.
        reason: FailureReason; "" for none.
    """
    members = moved_on(document.body, secondary, at)
    last = members["SecondaryStatusTransitions"][-1]
    last["EndTime"] = last["StartTime"]
    members["TrainingEndTime"] = at
    started = document.body.get("TrainingStartTime")
    if started is not None:
        seconds = max(1, round(at - started))
        members |= {"TrainingTimeInSeconds": seconds, "BillableTimeInSeconds": seconds}
    if reason:
        members["FailureReason"] = reason[:1024]
    return members
