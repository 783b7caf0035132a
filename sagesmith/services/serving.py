"""What serves a model: from DescribeModel's answer to the papers of the agents that run its containers.

Endpoints and batch transform jobs serve models alike, so both rooms build their papers here.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

from sagesmith.contract import AgentPaper
from sagesmith.core.names import Image, S3Uri, runs_bucket

if TYPE_CHECKING:
    from sagesmith.core.operation import Context

DOWNLOAD_TIMEOUT = 3600.0  # seconds for a model's artifacts to arrive (AWS's upper limit, our default)
STARTUP_TIMEOUT = 240.0  # seconds until /ping must answer (developer guide: 4 minutes)


class Served(TypedDict):
    """One container of a model, with all that is needed to run it again when model and config are long deleted."""

    hostname: str  # ContainerHostname, or container-1, container-2, …
    image: str
    environment: dict[str, str]
    models: list[dict[str, str]]  # see AgentPaper


@dataclass(frozen=True)
class Post:
    """Where an agent of a serving gang stands: its gang, what it belongs to and where its log goes."""

    run: str
    kind: str  # endpoint | transform
    name: str
    arn: str
    log_group: str
    log_stream: str
    cores: int  # of one instance
    startup_timeout: float = STARTUP_TIMEOUT
    stop_grace: float = 30.0


def served_containers(model: Mapping[str, Any]) -> list[Served]:
    """The containers of a described model, in the order in which a request passes through them."""
    definitions = model.get("Containers") or [model["PrimaryContainer"]]
    return [_served(definition, number) for number, definition in enumerate(definitions, start=1)]


def _served(definition: Mapping[str, Any], number: int) -> Served:
    url = definition.get("ModelDataUrl") or definition.get("ModelDataSource", {}).get("S3DataSource", {}).get("S3Uri")
    return Served(
        hostname=definition.get("ContainerHostname", f"container-{number}"),
        image=definition["Image"],
        environment=dict(definition.get("Environment", {})),
        models=[{"url": url, "into": "model"}] if url else [],
    )


def serving_hosts(containers: list[Served]) -> list[str]:
    """The host names of a gang that serves one instance: one agent per container."""
    return [f"algo-{number}" for number in range(1, len(containers) + 1)]


def serving_paper(ctx: Context, container: Served, host: str, hosts: list[str], post: Post) -> AgentPaper:
    """What the agent of one container is told."""
    access_key, secret_key = ctx.world.agent_key
    return AgentPaper(
        run=post.run,
        kind=post.kind,
        name=post.name,
        arn=post.arn,
        region=ctx.region,
        account=ctx.account,
        host=host,
        hosts=hosts,
        command=[sys.executable, "-m", "sagesmith.container", "serve", Image.parse(container["image"]).repository],
        environment={"AWS_REGION": ctx.region, **container["environment"]},
        cores=post.cores,
        models=container["models"],
        startup_timeout=post.startup_timeout,
        log_group=post.log_group,
        log_stream=post.log_stream,
        stop_grace=post.stop_grace,
        reports=f"{S3Uri(runs_bucket(ctx), post.run)}/",
        address_file=str(ctx.world.config.address_file),
        access_key=access_key,
        secret_key=secret_key,
    )
