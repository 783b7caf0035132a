"""Endpoint configurations: which models an endpoint serves, on how many instances and with what share of traffic.

A plain record. What is not built (serverless, asynchronous, shadow variants, data capture, explanations, …) is refused
by name here, so that an endpoint never silently does less than its configuration says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sagesmith.core.operation import ApiError, Context, Service, validation_error
from sagesmith.services.refusal import refuse_unbuilt
from sagesmith.store.resources import Documents

if TYPE_CHECKING:
    from sagesmith.core.machine import Document

sagemaker = Service("sagemaker")


def _missing(config_arn: str) -> ApiError:
    return validation_error(f'Could not find endpoint configuration "{config_arn}".')


def _exists(config_arn: str) -> ApiError:
    return validation_error(f'Cannot create already existing endpoint configuration "{config_arn}".')


configs = Documents("EndpointConfig", arn="endpoint-config", missing=_missing, exists=_exists)

_UNBUILT = {
    "AsyncInferenceConfig": "asynchronous inference",
    "ExplainerConfig": "online explanations",
    "ShadowProductionVariants": "shadow variants",
    "MetricsConfig": "enhanced metrics",
    "CrossRegionTrafficConfig": "traffic across regions",
}
_UNBUILT_IN_VARIANT = {
    "ServerlessConfig": "serverless inference",
    "InstancePools": "instance pools",
    "VariantInstanceProvisionTimeoutInSeconds": "a provisioning timeout of instance pools",
    "AcceleratorType": "an Elastic Inference accelerator",
    "AcceleratorPartitionLayouts": "a partitioned accelerator",
    "CapacityReservationConfig": "a capacity reservation",
    "CoreDumpConfig": "core dumps in S3",
    "EnableSSMAccess": "shell access to the instances",
    "InferenceAmiVersion": "a machine image for the instances",
}
_ROUTING = ("LEAST_OUTSTANDING_REQUESTS", "RANDOM")


@sagemaker.operation
def create_endpoint_config(request: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Checks every variant and records the configuration."""
    refuse_unbuilt(request, _UNBUILT)
    if request.get("DataCaptureConfig", {}).get("EnableCapture"):
        raise validation_error("DataCaptureConfig.EnableCapture is not implemented by sagesmith; leave it out.")
    variants = [
        _variant(f"ProductionVariants[{index}]", variant, ctx)
        for index, variant in enumerate(request["ProductionVariants"])
    ]
    names = [variant["VariantName"] for variant in variants]
    if len(set(names)) != len(names):
        raise validation_error(f"VariantName must be unique within a configuration, found {', '.join(names)}.")
    body = {key: value for key, value in request.items() if key not in ("Tags", "ProductionVariants")}
    body["ProductionVariants"] = variants
    body["EnableNetworkIsolation"] = request.get("EnableNetworkIsolation", False)
    document = configs.create(ctx, request["EndpointConfigName"], body, tags=request.get("Tags", ()))
    return {"EndpointConfigArn": document.arn}


@sagemaker.operation
def describe_endpoint_config(request: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """What CreateEndpointConfig was given, defaults filled in."""
    document = configs.get(ctx, request["EndpointConfigName"])
    return {**document.body, "EndpointConfigArn": document.arn, "CreationTime": document.created_at}


@sagemaker.operation
def list_endpoint_configs(request: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Configurations by name or time of creation."""
    return configs.page(ctx, request, key="EndpointConfigs", summary=_summary)


@sagemaker.operation
def delete_endpoint_config(request: dict[str, Any], ctx: Context) -> None:
    """Forgets the record. Endpoints keep what they were built from, so one that uses it serves on."""
    configs.delete(ctx, configs.get(ctx, request["EndpointConfigName"]))


def _summary(document: Document) -> dict[str, Any]:
    return {
        "EndpointConfigName": document.name,
        "EndpointConfigArn": document.arn,
        "CreationTime": document.created_at,
    }


def _variant(path: str, variant: Mapping[str, Any], ctx: Context) -> dict[str, Any]:
    """A variant with its defaults, or the reason why it cannot be served."""
    refuse_unbuilt(variant, _UNBUILT_IN_VARIANT, path)
    for member in ("ModelName", "InstanceType", "InitialInstanceCount"):
        if member not in variant:
            raise validation_error(f"{path}.{member} is required.")
    if variant.get("ManagedInstanceScaling", {}).get("Status") == "ENABLED":
        raise validation_error(f"{path}.ManagedInstanceScaling.Status ENABLED is not implemented by sagesmith.")
    strategy = variant.get("RoutingConfig", {}).get("RoutingStrategy", _ROUTING[0])
    if strategy not in _ROUTING:
        raise validation_error(
            f"{path}.RoutingConfig.RoutingStrategy {strategy} is not implemented by sagesmith; "
            f"allowed: {', '.join(_ROUTING)}."
        )
    ctx.call("DescribeModel", {"ModelName": variant["ModelName"]})
    return {"InitialVariantWeight": 1.0, **variant}
