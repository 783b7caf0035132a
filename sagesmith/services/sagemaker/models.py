"""Models: an image and the artifacts it serves, by name. A plain record; nothing runs until an endpoint or a
batch transform job serves it.

A model is one PrimaryContainer, or up to 15 Containers through which a request passes in series (an inference
pipeline; with `InferenceExecutionConfig.Mode` Direct, one that the request names).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sagesmith.core.names import Image, S3Uri
from sagesmith.core.operation import ApiError, Context, Service, validation_error
from sagesmith.services.catalogue import algorithm_of
from sagesmith.services.refusal import refuse_unbuilt
from sagesmith.store.resources import Documents

if TYPE_CHECKING:
    from sagesmith.core.machine import Document

sagemaker = Service("sagemaker")


def _missing(model_arn: str) -> ApiError:
    return validation_error(f'Could not find model "{model_arn}".')


def _exists(model_arn: str) -> ApiError:
    return validation_error(f'Cannot create already existing model "{model_arn}".')


models = Documents("Model", arn="model", missing=_missing, exists=_exists)

_UNBUILT_IN_CONTAINER = {
    "ModelPackageName": "a model package of the registry",
    "InferenceSpecificationName": "an inference specification of a model package",
    "AdditionalModelDataSources": "additional model artifacts",
    "MultiModelConfig": "a multi-model endpoint",
    "ContainerMetricsConfig": "metrics scraped from the container",
}
_UNBUILT_IN_ENVIRONMENT = {"SAGEMAKER_PROGRAM": "an inference script of your own"}
_UNBUILT_IN_SOURCE = {
    "HubAccessConfig": "a model of a SageMaker hub",
    "ManifestS3Uri": "a manifest of model artifacts",
    "ETag": "artifacts pinned by their ETag",
    "ManifestEtag": "a manifest pinned by its ETag",
}


@sagemaker.operation
def create_model(request: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Checks every container and records the model."""
    containers = _containers(request)
    for path, container in containers:
        _check_container(path, container, ctx)
    _check_hostnames([container for _, container in containers], request)
    body = {key: value for key, value in request.items() if key != "Tags"}
    body["EnableNetworkIsolation"] = request.get("EnableNetworkIsolation", False)
    document = models.create(ctx, request["ModelName"], body, tags=request.get("Tags", ()))
    return {"ModelArn": document.arn}


@sagemaker.operation
def describe_model(request: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """What CreateModel was given, with the ARN and the time."""
    document = models.get(ctx, request["ModelName"])
    return {**document.body, "ModelArn": document.arn, "CreationTime": document.created_at}


@sagemaker.operation
def list_models(request: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Models by name or time of creation."""
    return models.page(ctx, request, key="Models", summary=_summary)


@sagemaker.operation
def delete_model(request: dict[str, Any], ctx: Context) -> None:
    """Forgets the record; artifacts stay where they are, and endpoints that serve the model keep serving it."""
    models.delete(ctx, models.get(ctx, request["ModelName"]))


def _summary(document: Document) -> dict[str, Any]:
    return {"ModelName": document.name, "ModelArn": document.arn, "CreationTime": document.created_at}


def _containers(request: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """(path in the request, container) of each container."""
    primary, several = request.get("PrimaryContainer"), request.get("Containers")
    if primary is not None and several:
        raise validation_error("Give either PrimaryContainer or Containers, not both.")
    if several:
        return [(f"Containers[{index}]", container) for index, container in enumerate(several)]
    if primary is None:
        raise validation_error("A model needs PrimaryContainer or at least one of Containers.")
    return [("PrimaryContainer", primary)]


def _check_container(path: str, container: Mapping[str, Any], ctx: Context) -> None:
    refuse_unbuilt(container, _UNBUILT_IN_CONTAINER, path)
    refuse_unbuilt(container.get("Environment", {}), _UNBUILT_IN_ENVIRONMENT, f"{path}.Environment")
    if container.get("Mode", "SingleModel") != "SingleModel":
        raise validation_error(f"{path}.Mode MultiModel is not implemented by sagesmith; allowed: SingleModel.")
    if container.get("ImageConfig", {}).get("RepositoryAccessMode", "Platform") != "Platform":
        raise validation_error(f"{path}.ImageConfig.RepositoryAccessMode Vpc is not implemented by sagesmith.")
    image = container.get("Image")
    if not image:
        raise validation_error(f"{path}.Image is required.")
    if algorithm_of(ctx, image) is None:
        repository = Image.parse(image).repository
        raise validation_error(
            f"{path}.Image {image!r}: no algorithm answers to the repository {repository!r}. "
            "`sagesmith algorithms` lists the images that can run."
        )
    _check_artifacts(path, container)


def _check_artifacts(path: str, container: Mapping[str, Any]) -> None:
    url, source = container.get("ModelDataUrl"), container.get("ModelDataSource")
    if url and source:
        raise validation_error(f"{path}: give either ModelDataUrl or ModelDataSource, not both.")
    if url:
        _check_s3(f"{path}.ModelDataUrl", url)
        if not url.endswith(".tar.gz"):
            raise validation_error(
                f"{path}.ModelDataUrl {url!r} must be a gzip compressed tar archive with the suffix .tar.gz."
            )
    elif source:
        _check_source(f"{path}.ModelDataSource.S3DataSource", source.get("S3DataSource"))


def _check_source(path: str, source: Mapping[str, Any] | None) -> None:
    if not source:
        raise validation_error(f"{path} is required.")
    refuse_unbuilt(source, _UNBUILT_IN_SOURCE, path)
    _check_s3(f"{path}.S3Uri", source["S3Uri"])
    kind = (source["S3DataType"], source["CompressionType"])
    if kind == ("S3Prefix", "None"):
        if not source["S3Uri"].endswith("/"):
            raise validation_error(f"{path}.S3Uri {source['S3Uri']!r} must end in '/' when S3DataType is S3Prefix.")
    elif kind == ("S3Object", "Gzip"):
        if not source["S3Uri"].endswith(".tar.gz"):
            raise validation_error(f"{path}.S3Uri {source['S3Uri']!r} must have the suffix .tar.gz.")
    else:
        raise validation_error(
            f"{path}: S3DataType {kind[0]} with CompressionType {kind[1]} is not implemented by sagesmith; "
            "allowed: S3Prefix with None, S3Object with Gzip."
        )


def _check_s3(path: str, uri: str) -> None:
    try:
        key = S3Uri.parse(uri).key
    except ValueError as error:
        raise validation_error(f"{path}: {error}") from None
    if not key:
        raise validation_error(f"{path} {uri!r} names no object: expected s3://bucket/key")


def _check_hostnames(containers: list[Mapping[str, Any]], request: Mapping[str, Any]) -> None:
    names = [container["ContainerHostname"] for container in containers if "ContainerHostname" in container]
    if len(set(names)) != len(names):
        raise validation_error(f"ContainerHostname must be unique within a model, found {', '.join(sorted(names))}.")
    if request.get("InferenceExecutionConfig", {}).get("Mode") == "Direct" and len(names) != len(containers):
        raise validation_error("InferenceExecutionConfig.Mode Direct needs a ContainerHostname for every container.")
