"""The instances of a deployment: launched, listened to, replaced when lost, retired when no longer wanted.

Every function may run again after a crash: a gang is launched only under an id that an earlier commit stored.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sagesmith.engines.base import Gang, State
from sagesmith.services.instances import cores_of
from sagesmith.services.reports import delete_reports, ensure_runs_bucket, read_report
from sagesmith.services.routes import Place, Routes, VariantRoute
from sagesmith.services.sagemaker.endpoints.record import Deployment, Instance, Retiring, Variant
from sagesmith.services.sagemaker.endpoints.snapshot import new_instance
from sagesmith.services.serving import Post, serving_hosts, serving_paper

if TYPE_CHECKING:
    from sagesmith.core.machine import Document
    from sagesmith.core.operation import Context

DRAIN_SECONDS = 6.0  # from the commit that ends an instance's requests to SIGTERM; above routes.KEEP_SECONDS
STOP_GRACE = 65.0  # seconds a container has for the requests it still answers: above the 60 s that one may take
LOSSES_ALLOWED = 3  # gangs lost in one place, through no doing of the container, before a deployment fails
_BACKOFF_LIMIT = 60.0  # seconds between launches of a container that keeps ending


@dataclass
class Tending:
    """What one look at a deployment found."""

    instances: list[Instance]
    lost: list[str] = field(default_factory=list)  # runs to retire
    failure: str = ""  # why an instance cannot serve; the first found


def tend(deployment: Deployment, document: Document, ctx: Context) -> Tending:
    """Launches what waits, learns which instances answer by now, replaces those that are gone."""
    variants = {variant["name"]: variant for variant in deployment["variants"]}
    found = Tending([])
    for instance in deployment["instances"]:
        variant = variants[instance["variant"]]
        kept, failure = _tend_one(instance, variant, document, ctx)
        found.instances.append(kept)
        if kept["run"] != instance["run"]:
            found.lost.append(instance["run"])
        found.failure = found.failure or failure
    return found


def _tend_one(instance: Instance, variant: Variant, document: Document, ctx: Context) -> tuple[Instance, str]:
    """The instance as it is now, or its replacement, and why it failed if that was the container's doing."""
    state = ctx.world.engine.probe(instance["run"]).state
    if state is State.ABSENT and not instance["launched_at"]:
        return _launch(instance, variant, document, ctx), ""
    if state is State.RUNNING:
        places = _places(instance["run"], variant, ctx)
        # An agent starts a server process that ended again, perhaps on another port: its time begins anew.
        began = instance["launched_at"] if instance["places"] == places else 0.0
        launched_at = began or ctx.now
        if places or ctx.now - launched_at <= variant["ready_timeout"]:
            tries = 0 if places else instance["tries"]
            return {**instance, "launched_at": launched_at, "places": places, "tries": tries}, ""
        return _replacement(instance, ctx), _ping_failure(variant)
    replacement = _replacement(instance, ctx)
    if state is State.EXITED or replacement["tries"] > LOSSES_ALLOWED:
        return replacement, _failure(instance["run"], variant, ctx)
    return replacement, ""


def _launch(instance: Instance, variant: Variant, document: Document, ctx: Context) -> Instance:
    if ctx.now < instance["not_before"]:
        return instance
    hosts = serving_hosts(variant["containers"])
    papers = []
    for host, container in zip(hosts, variant["containers"], strict=True):
        stream = f"{variant['name']}/{instance['run']}"
        post = Post(
            run=instance["run"],
            kind="endpoint",
            name=f"{document.name}/{variant['name']}",
            arn=document.arn,
            log_group=f"/aws/sagemaker/Endpoints/{document.name}",
            log_stream=stream if len(hosts) == 1 else f"{stream}/{container['hostname']}",
            cores=cores_of(variant["instance_type"]),
            startup_timeout=variant["startup_timeout"],
            stop_grace=STOP_GRACE,
        )
        papers.append(serving_paper(ctx, container, host, hosts, post))
    ensure_runs_bucket(ctx)
    launched = ctx.world.engine.launch(Gang(instance["run"], tuple(papers)))
    return {**instance, "launched_at": ctx.now if launched else 0.0}


def _replacement(instance: Instance, ctx: Context) -> Instance:
    tries = instance["tries"] + 1
    delay = 0.0 if tries == 1 else min(_BACKOFF_LIMIT, 2.0**tries)
    return new_instance(instance["variant"], tries=tries, not_before=ctx.now + delay)


def _places(run: str, variant: Variant, ctx: Context) -> list[Place]:
    """Where the containers of a gang answer; [] until every one has passed its health check."""
    places = []
    for host, container in zip(serving_hosts(variant["containers"]), variant["containers"], strict=True):
        report = read_report(run, host, ctx)
        if report is None or report["phase"] != "InService" or "port" not in report:
            return []
        address = ctx.world.engine.address(run, host)
        places.append(Place(hostname=container["hostname"], address=f"{address}:{report['port']}"))
    return places


def _ping_failure(variant: Variant) -> str:
    return (
        f"The primary container for production variant {variant['name']} did not pass the ping health check. "
        "Please check CloudWatch logs for this endpoint."
    )


def _failure(run: str, variant: Variant, ctx: Context) -> str:
    """Why a gang ended, in its agent's words where there are any."""
    for host in serving_hosts(variant["containers"]):
        report = read_report(run, host, ctx)
        if report is not None and report.get("failure"):
            return f"Production variant {variant['name']}: {report['failure']}"[:1024]
    return _ping_failure(variant)


def is_ready(deployment: Deployment) -> bool:
    """Whether every variant has the instances that are wanted, all of them answering."""
    ready = Counter(instance["variant"] for instance in deployment["instances"] if instance["places"])
    return all(ready[variant["name"]] >= variant["count"] for variant in deployment["variants"])


def runs(deployment: Deployment) -> set[str]:
    """The ids of the gangs that a deployment has."""
    return {instance["run"] for instance in deployment["instances"]}


def resized(deployment: Deployment) -> tuple[list[Instance], list[str]]:
    """The instances with missing ones added, and the runs that are too many (the least useful of each variant)."""
    instances, surplus = [], []
    for variant in deployment["variants"]:
        own = [instance for instance in deployment["instances"] if instance["variant"] == variant["name"]]
        own.sort(key=lambda instance: not instance["places"])
        instances += own[: variant["count"]]
        surplus += [instance["run"] for instance in own[variant["count"] :]]
        instances += [new_instance(variant["name"]) for _ in range(variant["count"] - len(own))]
    return instances, surplus


def routes_to(deployment: Deployment) -> Routes:
    """Where requests go when this deployment serves them."""
    return Routes(
        variants=[
            VariantRoute(
                name=variant["name"],
                weight=variant["weight"],
                strategy=variant["strategy"],
                direct=variant["direct"],
                instances=[
                    {"run": instance["run"], "places": instance["places"]}
                    for instance in deployment["instances"]
                    if instance["variant"] == variant["name"] and instance["places"]
                ],
            )
            for variant in deployment["variants"]
        ]
    )


def retire(runs: list[str], stop_at: float) -> list[Retiring]:
    """Gangs that get no more requests from this commit on, to be stopped at `stop_at`."""
    return [Retiring(run=run, stop_at=stop_at, stopped=False) for run in runs]


def tend_retiring(retiring: list[Retiring], ctx: Context) -> list[Retiring]:
    """Stops what is due and forgets what has ended; returns what is left."""
    left = []
    for gang in retiring:
        if not gang["stopped"]:
            if ctx.now >= gang["stop_at"]:
                ctx.world.engine.stop(gang["run"], STOP_GRACE)
                gang = {**gang, "stopped": True}
            left.append(gang)
        elif ctx.world.engine.probe(gang["run"]).state is State.RUNNING:
            left.append(gang)
        else:
            ctx.world.engine.forget(gang["run"])
            delete_reports(gang["run"], ctx)
    return left
