"""DeploymentConfig: how an update moves traffic to the new fleet. Built: blue/green, all at once, with its waits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sagesmith.core.operation import validation_error
from sagesmith.services.refusal import refuse_unbuilt

DEFAULT_EXECUTION_TIMEOUT = 28_800.0  # seconds; AWS's upper limit, its default is not documented


def check_policy(config: Mapping[str, Any]) -> None:
    """Refuses what is contradictory, impossible or not built.

    Raises:
        ApiError: ValidationException.
    """
    policy, rolling = config.get("BlueGreenUpdatePolicy"), config.get("RollingUpdatePolicy")
    if policy is not None and rolling is not None:
        raise validation_error("DeploymentConfig takes BlueGreenUpdatePolicy or RollingUpdatePolicy, not both.")
    refuse_unbuilt(config, {"RollingUpdatePolicy": "a rolling update"}, "DeploymentConfig")
    if config.get("AutoRollbackConfiguration", {}).get("Alarms"):
        raise validation_error("DeploymentConfig.AutoRollbackConfiguration is not implemented by sagesmith.")
    if policy is None:
        return
    routing = policy["TrafficRoutingConfiguration"]
    path = "DeploymentConfig.BlueGreenUpdatePolicy.TrafficRoutingConfiguration"
    if routing["Type"] != "ALL_AT_ONCE":
        raise validation_error(f"{path}.Type {routing['Type']} is not implemented by sagesmith; allowed: ALL_AT_ONCE.")
    for member in ("CanarySize", "LinearStepSize"):
        if member in routing:
            raise validation_error(f"{path}.{member} has no meaning with Type ALL_AT_ONCE.")
    waits = bake_seconds(config) + termination_seconds(config)
    if execution_timeout(config) <= waits:
        raise validation_error(
            f"MaximumExecutionTimeoutInSeconds {execution_timeout(config):g} must exceed the waits, {waits:g} seconds."
        )


def bake_seconds(config: Mapping[str, Any]) -> float:
    """How long the new fleet serves under watch before the old one may go."""
    routing = config.get("BlueGreenUpdatePolicy", {}).get("TrafficRoutingConfiguration", {})
    return float(routing.get("WaitIntervalInSeconds", 0))


def termination_seconds(config: Mapping[str, Any]) -> float:
    """How much longer the old fleet is kept."""
    return float(config.get("BlueGreenUpdatePolicy", {}).get("TerminationWaitInSeconds", 0))


def execution_timeout(config: Mapping[str, Any]) -> float:
    """How long the whole update may take before it is rolled back."""
    policy = config.get("BlueGreenUpdatePolicy", {})
    return float(policy.get("MaximumExecutionTimeoutInSeconds", DEFAULT_EXECUTION_TIMEOUT))
