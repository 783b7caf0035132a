"""What CreateTrainingJob checks beyond the shapes: meaning, and what is refused by name rather than ignored.

The members that describe AWS's infrastructure, which this server does not have, are accepted and shown;
docs/training.md lists them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sagesmith.core.names import S3Uri
from sagesmith.core.operation import Context, validation_error
from sagesmith.services.catalogue import Specification, algorithm_of, repositories
from sagesmith.services.refusal import refuse_unbuilt

DEFAULT_RUNTIME = 86_400  # seconds; StoppingCondition's default
LONGEST_RUNTIME = 28 * 86_400  # seconds; the developer guide's limit

_UNBUILT = {
    "DebugRuleConfigurations": "Debugger rules",
    "ProfilerRuleConfigurations": "Profiler rules",
    "ExperimentConfig": "an experiment",
    "ServerlessJobConfig": "a serverless customisation job",
    "MlflowConfig": "MLflow tracking",
    "ModelPackageConfig": "a model package made of the result",
}
_UNBUILT_IN_ALGORITHM = {
    "AlgorithmName": "an algorithm resource instead of an image",
}
_UNBUILT_IN_RESOURCES = {
    "InstanceGroups": "a heterogeneous cluster",
    "KeepAlivePeriodInSeconds": "a warm pool",
    "TrainingPlanArn": "a training plan",
    "InstancePlacementConfig": "placement on UltraServers",
    "InstancePreferences": "a choice among instance types",
    "SelectedInstanceType": "a choice among instance types",
    "SelectedInstanceCount": "a choice among instance types",
}
_UNBUILT_IN_SOURCE = {
    "FileSystemDataSource": "data on EFS or FSx",
    "DatasetSource": "a data set of a SageMaker hub",
}
_UNBUILT_IN_S3_SOURCE = {
    "InstanceGroupNames": "a heterogeneous cluster",
    "ModelAccessConfig": "a model of a SageMaker hub",
    "HubAccessConfig": "a SageMaker hub",
}
_PROGRAM, _CODE = "sagemaker_program", "sagemaker_submit_directory"


def check(request: Mapping[str, Any], ctx: Context) -> Specification:
    """Checks a CreateTrainingJob request and returns the algorithm that its image holds.

    Raises:
        ApiError: ValidationException naming the member, its value and what is allowed.
    """
    refuse_unbuilt(request, _UNBUILT)
    _check_debugging(request)
    algorithm = _algorithm(request, ctx)
    _check_resources(request.get("ResourceConfig"), algorithm)
    _check_channels(request.get("InputDataConfig", ()), request["AlgorithmSpecification"]["TrainingInputMode"])
    check_s3_uri(request["OutputDataConfig"]["S3OutputPath"], "OutputDataConfig.S3OutputPath")
    if "CheckpointConfig" in request:
        check_s3_uri(request["CheckpointConfig"]["S3Uri"], "CheckpointConfig.S3Uri")
    _check_time(request)
    return algorithm


def check_s3_uri(uri: str, where: str) -> None:
    """Raises ValidationException unless `uri` is `s3://bucket/…`."""
    try:
        S3Uri.parse(uri)
    except ValueError as error:
        raise validation_error(f"{where}: {error}") from None


def _check_debugging(request: Mapping[str, Any]) -> None:
    hook = request.get("DebugHookConfig", {})
    refuse_unbuilt(hook, {"CollectionConfigurations": "tensors saved by Debugger"}, "DebugHookConfig")
    profiler = request.get("ProfilerConfig", {})
    refuse_unbuilt(profiler, {"ProfilingParameters": "framework profiling"}, "ProfilerConfig")
    remote = request.get("RemoteDebugConfig", {})
    refuse_unbuilt(remote, {"EnableRemoteDebug": "a shell in the container"}, "RemoteDebugConfig")


def _algorithm(request: Mapping[str, Any], ctx: Context) -> Specification:
    specification = request.get("AlgorithmSpecification")
    if specification is None:
        raise validation_error("AlgorithmSpecification is required: it names the training image.")
    refuse_unbuilt(specification, _UNBUILT_IN_ALGORITHM, "AlgorithmSpecification")
    image = specification.get("TrainingImage")
    if not image:
        raise validation_error("AlgorithmSpecification.TrainingImage is required: it names the training image.")
    algorithm = algorithm_of(ctx, image)
    if algorithm is None:
        known = ", ".join(repositories(ctx))
        raise validation_error(
            f"AlgorithmSpecification.TrainingImage {image!r} is not an image that this server can run. "
            f"It runs the images of these repositories, in any account and region: {known}."
        )
    _check_script_mode(request.get("HyperParameters", {}), image, algorithm)
    _check_entrypoint(specification, image, algorithm)
    _check_metric_names(specification.get("MetricDefinitions", ()))
    return algorithm


def _check_script_mode(hyperparameters: Mapping[str, str], image: str, algorithm: Specification) -> None:
    given = [name for name in (_PROGRAM, _CODE) if name in hyperparameters]
    if given and not algorithm.get("framework"):
        raise validation_error(
            f"HyperParameters.{given[0]} asks for a script of your own in {image!r}, "
            f"but {algorithm['name']} is a built-in algorithm; only framework images run scripts."
        )
    if given == [_CODE]:
        raise validation_error(f"HyperParameters.{_CODE} goes with {_PROGRAM}, which names the script to run.")


def _check_entrypoint(specification: Mapping[str, Any], image: str, algorithm: Specification) -> None:
    given = [name for name in ("ContainerEntrypoint", "ContainerArguments") if specification.get(name)]
    if given and not algorithm.get("framework"):
        raise validation_error(
            f"AlgorithmSpecification.{given[0]} asks for a command of your own in {image!r}, "
            f"but {algorithm['name']} is a built-in algorithm; only framework images run commands."
        )
    if given == ["ContainerArguments"]:
        raise validation_error(
            "AlgorithmSpecification.ContainerArguments goes with ContainerEntrypoint, which names the command to run."
        )


def _check_metric_names(definitions: Any) -> None:
    names = [definition["Name"] for definition in definitions]
    for name in names:
        if names.count(name) > 1:
            raise validation_error(f"AlgorithmSpecification.MetricDefinitions names {name!r} more than once.")


def _check_resources(resources: Mapping[str, Any] | None, algorithm: Specification) -> None:
    if resources is None:
        raise validation_error("ResourceConfig is required: it names InstanceType and InstanceCount.")
    refuse_unbuilt(resources, _UNBUILT_IN_RESOURCES, "ResourceConfig")
    for member in ("InstanceType", "InstanceCount"):
        if not resources.get(member):
            raise validation_error(f"ResourceConfig.{member} is required, and InstanceCount must be at least 1.")
    if resources.get("VolumeSizeInGB") == 0:
        raise validation_error("ResourceConfig.VolumeSizeInGB must be at least 1, got 0.")
    count = resources["InstanceCount"]
    if count > 1 and not algorithm["distributed"]:
        raise validation_error(
            f"ResourceConfig.InstanceCount is {count}, but {algorithm['name']} trains on one instance only."
        )


def _check_channels(channels: Any, default_mode: str) -> None:
    seen: set[str] = set()
    for index, channel in enumerate(channels):
        name, where = channel["ChannelName"], f"InputDataConfig[{index}]"
        if name in seen:
            raise validation_error(f"{where}.ChannelName {name!r} is used twice: channel names must be unique.")
        if set(name) == {"."}:  # `.` and `..` would be folders of somebody else
            raise validation_error(f"{where}.ChannelName {name!r} is not allowed: it is not a file name.")
        seen.add(name)
        _check_source(channel, channel.get("InputMode", default_mode), where)


def _check_source(channel: Mapping[str, Any], mode: str, where: str) -> None:
    refuse_unbuilt(channel["DataSource"], _UNBUILT_IN_SOURCE, f"{where}.DataSource")
    source = channel["DataSource"].get("S3DataSource")
    where_source = f"{where}.DataSource.S3DataSource"
    if source is None:
        raise validation_error(f"{where_source} is required: it names the data of the channel.")
    refuse_unbuilt(source, _UNBUILT_IN_S3_SOURCE, where_source)
    check_s3_uri(source["S3Uri"], f"{where_source}.S3Uri")
    kind = source["S3DataType"]
    if kind == "Converse":
        raise validation_error(f"{where_source}.S3DataType 'Converse' is not implemented by sagesmith.")
    if mode == "FastFile" and kind != "S3Prefix":
        raise validation_error(f"{where}: input mode FastFile needs S3DataType S3Prefix, got {kind}.")
    if (kind == "AugmentedManifestFile") != bool(source.get("AttributeNames")):
        raise validation_error(f"{where_source}.AttributeNames goes with S3DataType AugmentedManifestFile, got {kind}.")
    if channel.get("RecordWrapperType") == "RecordIO" and mode != "Pipe":
        raise validation_error(f"{where}.RecordWrapperType RecordIO needs input mode Pipe, got {mode}.")


def _check_time(request: Mapping[str, Any]) -> None:
    stopping = request.get("StoppingCondition", {})
    runtime = stopping.get("MaxRuntimeInSeconds", DEFAULT_RUNTIME)
    if runtime > LONGEST_RUNTIME:
        raise validation_error(
            f"StoppingCondition.MaxRuntimeInSeconds must be at most {LONGEST_RUNTIME} (28 days), got {runtime}."
        )
    refuse_unbuilt(stopping, {"MaxPendingTimeInSeconds": "a training plan's queue"}, "StoppingCondition")
    wait = stopping.get("MaxWaitTimeInSeconds")
    if request.get("EnableManagedSpotTraining"):
        if wait is None or wait < runtime:
            raise validation_error(
                f"Invalid MaxWaitTimeInSeconds {wait}. It must be present and be greater than or equal to "
                f"MaxRuntimeInSeconds ({runtime}) when EnableManagedSpotTraining is true."
            )
    elif wait is not None:
        raise validation_error("StoppingCondition.MaxWaitTimeInSeconds goes with EnableManagedSpotTraining.")
