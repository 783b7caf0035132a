"""What a deployment serves, copied from the endpoint configuration and its models when it is made.

Clients delete configurations and models while endpoints that were built from them serve on (the SDK deletes the
configuration first), so an instance that is launched later must need neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sagesmith.core.names import run_id
from sagesmith.services.sagemaker.endpoints.record import Deployment, Instance, Variant
from sagesmith.services.serving import DOWNLOAD_TIMEOUT, STARTUP_TIMEOUT, served_containers

if TYPE_CHECKING:
    from sagesmith.core.operation import Context


def new_instance(variant: str, tries: int = 0, not_before: float = 0.0) -> Instance:
    """A place for a gang that is to be launched under a fresh id."""
    return Instance(
        variant=variant, run=run_id("endpoint"), launched_at=0.0, places=[], tries=tries, not_before=not_before
    )


def new_deployment(ctx: Context, config_name: str, retained: Mapping[str, Mapping[str, Any]]) -> Deployment:
    """The deployment of a configuration, with `retained` counts and weights by variant in place of its own.

    Raises:
        ApiError: the configuration or one of its models does not exist.
    """
    config = ctx.call("DescribeEndpointConfig", {"EndpointConfigName": config_name})
    variants = [_variant(ctx, entry, retained.get(entry["VariantName"], {})) for entry in config["ProductionVariants"]]
    instances = [new_instance(variant["name"]) for variant in variants for _ in range(variant["count"])]
    return Deployment(config=config_name, started_at=ctx.now, variants=variants, instances=instances)


def _variant(ctx: Context, entry: Mapping[str, Any], retained: Mapping[str, Any]) -> Variant:
    model = ctx.call("DescribeModel", {"ModelName": entry["ModelName"]})
    startup = float(entry.get("ContainerStartupHealthCheckTimeoutInSeconds", STARTUP_TIMEOUT))
    download = float(entry.get("ModelDataDownloadTimeoutInSeconds", DOWNLOAD_TIMEOUT))
    return Variant(
        name=entry["VariantName"],
        model=entry["ModelName"],
        instance_type=entry["InstanceType"],
        weight=float(retained.get("weight", entry["InitialVariantWeight"])),
        count=int(retained.get("count", entry["InitialInstanceCount"])),
        strategy=entry.get("RoutingConfig", {}).get("RoutingStrategy", "LEAST_OUTSTANDING_REQUESTS"),
        direct=model.get("InferenceExecutionConfig", {}).get("Mode") == "Direct",
        containers=served_containers(model),
        startup_timeout=startup,
        ready_timeout=startup + download,
        resolved_at=ctx.now,
    )
