"""What an endpoint's document holds besides AWS's members: its deployments, their instances and what is retiring."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from sagesmith.core.operation import ApiError, validation_error
from sagesmith.services.routes import Place, Routes
from sagesmith.services.serving import Served
from sagesmith.store.resources import Documents


class Variant(TypedDict):
    """A production variant as it was when its deployment was made, with the counts and weights wanted now."""

    name: str
    model: str
    instance_type: str
    weight: float
    count: int
    strategy: str  # RoutingStrategy
    direct: bool  # requests name their container instead of passing through all of them
    containers: list[Served]
    startup_timeout: float  # seconds until /ping must answer, once the artifacts are there
    ready_timeout: float  # seconds from launch until the instance must serve, download included
    resolved_at: float


class Instance(TypedDict):
    """One gang that serves a variant, or is about to."""

    variant: str
    run: str
    launched_at: float  # 0: not yet
    places: list[Place]  # where its containers answer; empty until all of them do
    tries: int  # how many gangs were lost in this place before, since one served
    not_before: float  # earliest launch, so that a container which cannot start is not started in a tight loop


class Deployment(TypedDict):
    """A configuration and the instances that serve it."""

    config: str
    started_at: float
    variants: list[Variant]
    instances: list[Instance]


class Retiring(TypedDict):
    """A gang that gets no more requests."""

    run: str
    stop_at: float  # when every server has surely learnt that it is to get none
    stopped: bool


class Private(TypedDict):
    """`Document.private` of an endpoint."""

    fleet: Deployment
    green: NotRequired[Deployment]  # the fleet of an update, until it replaces `fleet`
    policy: NotRequired[dict[str, object]]  # the update's DeploymentConfig
    phase_at: NotRequired[float]  # when the update's present phase began
    previous: NotRequired[dict[str, int]]  # variant → count to return to when scaling fails
    retiring: list[Retiring]
    routes: Routes


def _missing(endpoint_arn: str) -> ApiError:
    return validation_error(f'Could not find endpoint "{endpoint_arn}".')


def _exists(endpoint_arn: str) -> ApiError:
    return validation_error(f'Cannot create already existing endpoint "{endpoint_arn}".')


endpoints = Documents("Endpoint", arn="endpoint", missing=_missing, exists=_exists)
