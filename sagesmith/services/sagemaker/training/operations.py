"""The operations on training jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sagesmith.core.machine import Move
from sagesmith.core.operation import ApiError, Service, validation_error
from sagesmith.services.refusal import refuse_unbuilt
from sagesmith.services.sagemaker.training.checks import DEFAULT_RUNTIME, check, check_s3_uri
from sagesmith.services.sagemaker.training.record import (
    ENDED,
    describe,
    jobs,
    model_uri,
    moved_on,
    new_attempt,
    summary,
)

if TYPE_CHECKING:
    from sagesmith.core.machine import Document
    from sagesmith.core.operation import Context
    from sagesmith.services.catalogue import Specification

sagemaker = Service("sagemaker")

_BOOLEANS = ("EnableNetworkIsolation", "EnableInterContainerTrafficEncryption", "EnableManagedSpotTraining")


@sagemaker.operation
def create_training_job(request: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Records the job; the machine launches it at once."""
    algorithm = check(request, ctx)
    body = {**_with_defaults(request, algorithm), **moved_on({}, "Starting", ctx.now)}
    document = jobs.create(
        ctx,
        request["TrainingJobName"],
        body,
        status="InProgress",
        state="Launching",
        private=new_attempt(0, ctx.now),
        due_in=0,
        tags=request.get("Tags", ()),
    )
    return {"TrainingJobArn": document.arn}


@sagemaker.operation
def describe_training_job(request: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Everything the job was given, where it stands and what came of it."""
    return describe(jobs.get(ctx, request["TrainingJobName"]))


@sagemaker.operation
def list_training_jobs(request: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Jobs by name, status or time. No job here has a warm pool or a training plan, so those filters match none."""
    if "WarmPoolStatusEquals" in request or "TrainingPlanArnEquals" in request:
        return {"TrainingJobSummaries": []}
    return jobs.page(ctx, request, key="TrainingJobSummaries", summary=summary)


@sagemaker.operation
def stop_training_job(request: dict[str, Any], ctx: Context) -> None:
    """Asks the job to stop; it has the stop grace to end itself, and what it left of a model is kept."""

    def stop(document: Document) -> Move:
        _refuse_ended(document, "stopped")
        decided = "outcome" in document.private or document.private.get("retry") is False
        if document.status == "Stopping" or decided:
            return Move()
        return Move(state="Stopping", status="Stopping", body=moved_on(document.body, "Stopping", ctx.now))

    jobs.change(ctx, request["TrainingJobName"], stop)


@sagemaker.operation
def update_training_job(request: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Changes ProfilerConfig, which is kept and shown; the other members ask for what is not built."""
    refuse_unbuilt(request, {"ProfilerRuleConfigurations": "Profiler rules"})
    resources = request.get("ResourceConfig", {})
    refuse_unbuilt(resources, {"KeepAlivePeriodInSeconds": "a warm pool"}, "ResourceConfig")
    remote = request.get("RemoteDebugConfig", {})
    refuse_unbuilt(remote, {"EnableRemoteDebug": "a shell in the container"}, "RemoteDebugConfig")
    profiler = request.get("ProfilerConfig", {})
    refuse_unbuilt(profiler, {"ProfilingParameters": "framework profiling"}, "ProfilerConfig")
    if "S3OutputPath" in profiler:
        check_s3_uri(profiler["S3OutputPath"], "ProfilerConfig.S3OutputPath")

    def update(document: Document) -> Move:
        _refuse_ended(document, "updated")
        return Move(
            body={"ProfilerConfig": {**document.body.get("ProfilerConfig", {}), **profiler}} if profiler else {}
        )

    return {"TrainingJobArn": jobs.change(ctx, request["TrainingJobName"], update).arn}


@sagemaker.operation
def delete_training_job(request: dict[str, Any], ctx: Context) -> None:
    """Forgets a job that has ended. Its model, logs and metrics stay where they are."""

    def delete(document: Document) -> Move:
        if document.status not in ENDED:
            raise ApiError(
                "ResourceInUse",
                f"Training job {document.arn} is {document.status}: only a job that has ended can be deleted.",
            )
        return Move(delete=True)

    jobs.change(ctx, request["TrainingJobName"], delete)


def _refuse_ended(document: Document, verb: str) -> None:
    if document.status in ENDED:
        raise validation_error(
            f"The request was rejected because the training job is in status {document.status} and cannot be {verb}."
        )


def _with_defaults(request: dict[str, Any], algorithm: Specification) -> dict[str, Any]:
    """The members of DescribeTrainingJob: what was given, and the defaults that clients index without asking."""
    body = {name: value for name, value in request.items() if name not in ("Tags", "TrainingJobName")}
    specification = request["AlgorithmSpecification"]
    body["AlgorithmSpecification"] = {
        "EnableSageMakerMetricsTimeSeries": False,
        **specification,
        "MetricDefinitions": _metric_definitions(specification.get("MetricDefinitions", []), algorithm),
    }
    body["OutputDataConfig"] = {"KmsKeyId": "", "CompressionType": "GZIP", **request["OutputDataConfig"]}
    body["ResourceConfig"] = {"VolumeSizeInGB": 30, **request["ResourceConfig"]}
    body["StoppingCondition"] = {"MaxRuntimeInSeconds": DEFAULT_RUNTIME, **request.get("StoppingCondition", {})}
    body["HyperParameters"] = request.get("HyperParameters", {})
    if "InputDataConfig" in request:
        body["InputDataConfig"] = [_channel_with_defaults(channel) for channel in request["InputDataConfig"]]
    for name in _BOOLEANS:
        body[name] = request.get(name, False)
    body["ModelArtifacts"] = {"S3ModelArtifacts": model_uri(request)}
    profiled = not request.get("ProfilerConfig", {"DisableProfiler": True}).get("DisableProfiler", False)
    body["ProfilingStatus"] = "Enabled" if profiled else "Disabled"
    return body


def _channel_with_defaults(channel: dict[str, Any]) -> dict[str, Any]:
    source = {"S3DataDistributionType": "FullyReplicated", **channel["DataSource"]["S3DataSource"]}
    return {"CompressionType": "None", "RecordWrapperType": "None", **channel, "DataSource": {"S3DataSource": source}}


def _metric_definitions(given: list[dict[str, str]], algorithm: Specification) -> list[dict[str, str]]:
    """The job's own definitions and, for names it does not define itself, the algorithm's."""
    names = {definition["Name"] for definition in given}
    built_in = [{"Name": m["name"], "Regex": m["regex"]} for m in algorithm["metrics"] if m["name"] not in names]
    return [*given, *built_in]
