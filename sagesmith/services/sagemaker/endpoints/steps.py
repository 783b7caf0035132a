"""The machine of an endpoint: one step for each state of the chart (see the package's docstring).

The private parts are replaced as wholes, so a step that is repeated after a crash starts from what was committed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from sagesmith.core.events import on
from sagesmith.core.machine import Machine, Move
from sagesmith.services import routes
from sagesmith.services.sagemaker.endpoints import fleet, policy
from sagesmith.services.sagemaker.endpoints.record import Deployment, Instance, Private, Retiring

if TYPE_CHECKING:
    from sagesmith.core.machine import Document
    from sagesmith.core.operation import Context

WATCH_SECONDS = 2.0  # between looks at an endpoint in service
TROUBLE_SECONDS = 60.0  # until the next try at a step that has failed again and again
START_SECONDS = 0.25  # between looks at one whose instances are starting


def creating(document: Document, ctx: Context) -> Move:
    """Until every instance answers, or one cannot."""
    private = _private(document)
    found = fleet.tend(private["fleet"], document, ctx)
    if found.failure:
        return _doomed(private, [instance["run"] for instance in found.instances] + found.lost, found.failure, ctx)
    changes = _tended(private, found, ctx)
    if not fleet.is_ready(changes["fleet"]):
        return Move(private=changes, after=START_SECONDS)
    changes["routes"] = fleet.routes_to(changes["fleet"])
    return Move(state="InService", status="InService", private=changes, after=WATCH_SECONDS)


def _doomed(private: Private, runs: list[str], reason: str, ctx: Context) -> Move:
    """The endpoint fails for good, and whatever was started for it is stopped."""
    return Move(
        state="Failed",
        status="Failed",
        body={"FailureReason": reason},
        private={
            "fleet": {**private["fleet"], "instances": []},
            "routes": {"variants": []},
            "retiring": private["retiring"] + fleet.retire(runs, ctx.now),
        },
    )


def in_service(document: Document, ctx: Context) -> Move:
    """Watches: what is lost is launched again, what retires is stopped; for as long as the endpoint exists."""
    private = _private(document)
    changes = _watched(private, document, ctx)
    after = START_SECONDS if not fleet.is_ready(changes["fleet"]) else WATCH_SECONDS
    if fleet.runs(changes["fleet"]) - fleet.runs(private["fleet"]):
        after = 0.0  # their ids are stored now, so that they can be launched
    return Move(private=_changed(document, changes), after=after)


def scaling(document: Document, ctx: Context) -> Move:
    """Counts or weights were changed: missing instances start, surplus ones retire once the rest answers."""
    private = _private(document)
    found = fleet.tend(private["fleet"], document, ctx)
    if found.failure:
        return _scaling_failed(private, found, ctx)
    changes = _tended(private, found, ctx)
    instances, surplus = fleet.resized(changes["fleet"])
    if not fleet.is_ready(changes["fleet"]):
        kept = [*instances, *(one for one in changes["fleet"]["instances"] if one["run"] in surplus)]
        changes["fleet"] = {**changes["fleet"], "instances": kept}
        changes["routes"] = fleet.routes_to(changes["fleet"])
        return Move(private=changes, after=START_SECONDS)
    return _in_service(changes, instances, surplus, ctx, {"FailureReason": None})


def _scaling_failed(private: Private, found: fleet.Tending, ctx: Context) -> Move:
    """Back to the counts before, with the reason."""
    changes = _tended(private, found, ctx)
    previous = private.get("previous", {})
    variants = [
        {**variant, "count": previous.get(variant["name"], variant["count"])}
        for variant in private["fleet"]["variants"]
    ]
    changes["fleet"] = {**changes["fleet"], "variants": variants}
    instances, surplus = fleet.resized(changes["fleet"])
    return _in_service(changes, instances, surplus, ctx, {"FailureReason": found.failure})


def _in_service(
    changes: dict[str, Any], instances: list[Instance], surplus: list[str], ctx: Context, body: dict[str, Any]
) -> Move:
    changes["fleet"] = {**changes["fleet"], "instances": instances}
    changes["routes"] = fleet.routes_to(changes["fleet"])
    changes["retiring"] = changes["retiring"] + fleet.retire(surplus, ctx.now + fleet.DRAIN_SECONDS)
    changes["previous"] = None
    return Move(state="InService", status="InService", body=body, private=changes, after=START_SECONDS)


def updating(document: Document, ctx: Context) -> Move:
    """The new fleet starts in full beside the old one; when all of it answers, all traffic goes to it at once."""
    private = _private(document)
    changes = _watched(private, document, ctx)
    found = fleet.tend(private["green"], document, ctx)
    green = _with(private["green"], found.instances)
    changes["green"] = green
    changes["retiring"] = changes["retiring"] + fleet.retire(found.lost, ctx.now)
    reason = found.failure or _overtime(private, ctx)
    if reason:
        return _roll_back(changes, reason)
    if not fleet.is_ready(green):
        return Move(private=changes, after=START_SECONDS)
    changes["routes"] = fleet.routes_to(green)
    changes["phase_at"] = ctx.now
    return Move(state="Baking", private=changes, after=0.0)


def baking(document: Document, ctx: Context) -> Move:
    """The new fleet serves; the old one stands by until WaitIntervalInSeconds has passed."""
    private = _private(document)
    if ctx.now < private["phase_at"] + policy.bake_seconds(_policy(private)):
        changes = _watched_green(private, document, ctx)
        reason = _overtime(private, ctx)
        return _roll_back(changes, reason) if reason else Move(private=changes, after=WATCH_SECONDS)
    return Move(state="Terminating", private={"phase_at": ctx.now}, after=0.0)


def terminating(document: Document, ctx: Context) -> Move:
    """After TerminationWaitInSeconds the old fleet retires and the new one takes its place."""
    private = _private(document)
    changes = _watched_green(private, document, ctx)
    if ctx.now < private["phase_at"] + policy.termination_seconds(_policy(private)):
        return Move(private=changes, after=WATCH_SECONDS)
    old = [instance["run"] for instance in changes["fleet"]["instances"]]
    changes["retiring"] = changes["retiring"] + fleet.retire(old, ctx.now + fleet.DRAIN_SECONDS)
    changes |= {"fleet": changes["green"], "green": None, "policy": None, "phase_at": None}
    body = {"EndpointConfigName": changes["fleet"]["config"], "FailureReason": None}
    body["LastDeploymentConfig"] = _policy(private) or None
    return Move(state="InService", status="InService", body=body, private=changes, after=START_SECONDS)


def rolling_back(document: Document, ctx: Context) -> Move:
    """All traffic is with the old fleet again; the new one retires."""
    private = _private(document)
    changes = _watched(private, document, ctx)
    new = [instance["run"] for instance in private["green"]["instances"]]
    changes["retiring"] = changes["retiring"] + fleet.retire(new, ctx.now + fleet.DRAIN_SECONDS)
    changes |= {"green": None, "policy": None, "phase_at": None}
    return Move(state="InService", status="InService", private=changes, after=START_SECONDS)


def failed(document: Document, ctx: Context) -> Move:
    """Sees to it that nothing of a failed endpoint runs on."""
    left = fleet.tend_retiring(_private(document)["retiring"], ctx)
    return Move(private={"retiring": left}, after=WATCH_SECONDS if left else None)


def deleting(document: Document, ctx: Context) -> Move:
    """Stops every instance; the document goes when the last has ended."""
    left = fleet.tend_retiring(_private(document)["retiring"], ctx)
    return Move(private={"retiring": left}, after=START_SECONDS) if left else Move(delete=True, after=None)


def given_up(document: Document, reason: str, ctx: Context) -> Move:
    """The server could not move the endpoint on: what was being made of it fails; what serves is looked at later."""
    private = _private(document)
    if document.state == "Creating":
        return _doomed(private, [instance["run"] for instance in private["fleet"]["instances"]], reason, ctx)
    if document.state in ("Updating", "Baking"):
        return _roll_back({"fleet": private["fleet"]}, reason)
    return Move(after=TROUBLE_SECONDS)


def everything_retired(document: Document, ctx: Context) -> dict[str, Any]:
    """The private parts of an endpoint that is being deleted: no routes, every gang to be stopped at once."""
    private = _private(document)
    runs = [instance["run"] for instance in private["fleet"]["instances"]]
    runs += [instance["run"] for instance in private.get("green", {"instances": []})["instances"]]
    waiting: list[Retiring] = [{**gang, "stop_at": ctx.now} for gang in private["retiring"]]
    return {
        "fleet": {**private["fleet"], "instances": []},
        "green": None,
        "routes": {"variants": []},
        "retiring": waiting + fleet.retire(runs, ctx.now),
    }


@on("Endpoint", "InService")
def tell_the_runtime(document: Document, ctx: Context) -> None:
    """A client that sees InService may count on the new fleet: this server's next request reads the routes anew."""
    ctx.world.database.after_commit(lambda: routes.forget(ctx, document.name))


machine = Machine(
    "Endpoint",
    failed=given_up,
    Creating=creating,
    InService=in_service,
    Scaling=scaling,
    Updating=updating,
    Baking=baking,
    Terminating=terminating,
    RollingBack=rolling_back,
    Failed=failed,
    Deleting=deleting,
)


def _private(document: Document) -> Private:
    return cast(Private, document.private)


def _policy(private: Private) -> dict[str, Any]:
    return private.get("policy") or {}


def _with(deployment: Deployment, instances: list[Instance]) -> Deployment:
    return {**deployment, "instances": instances}


def _tended(private: Private, found: fleet.Tending, ctx: Context) -> dict[str, Any]:
    """The private parts after a look at the fleet in service."""
    retiring = fleet.tend_retiring(private["retiring"], ctx)
    return {
        "fleet": _with(private["fleet"], found.instances),
        "retiring": retiring + fleet.retire(found.lost, ctx.now),
    }


def _watched(private: Private, document: Document, ctx: Context) -> dict[str, Any]:
    """A look at the fleet in service, and its routes."""
    changes = _tended(private, fleet.tend(private["fleet"], document, ctx), ctx)
    changes["routes"] = fleet.routes_to(changes["fleet"])
    return changes


def _watched_green(private: Private, document: Document, ctx: Context) -> dict[str, Any]:
    """A look at both fleets while the new one serves."""
    changes = _watched(private, document, ctx)
    found = fleet.tend(private["green"], document, ctx)
    changes["green"] = _with(private["green"], found.instances)
    changes["retiring"] = changes["retiring"] + fleet.retire(found.lost, ctx.now)
    changes["routes"] = fleet.routes_to(changes["green"])
    return changes


def _changed(document: Document, changes: dict[str, Any]) -> dict[str, Any]:
    """Only the parts that differ from what is stored."""
    return {key: value for key, value in changes.items() if document.private.get(key) != value}


def _overtime(private: Private, ctx: Context) -> str:
    limit = policy.execution_timeout(_policy(private))
    if ctx.now - private["green"]["started_at"] <= limit:
        return ""
    return f"The update did not finish within MaximumExecutionTimeoutInSeconds, {limit:g} seconds."


def _roll_back(changes: dict[str, Any], reason: str) -> Move:
    changes["routes"] = fleet.routes_to(changes["fleet"])
    return Move(state="RollingBack", status="RollingBack", body={"FailureReason": reason}, private=changes, after=0.0)
