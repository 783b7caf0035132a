"""The machine of a training job. Every step may run twice; see the chart in the package's docstring."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sagesmith.core.machine import Machine, Move
from sagesmith.engines.base import State
from sagesmith.services.reports import delete_reports, ensure_runs_bucket
from sagesmith.services.sagemaker.training.paper import gang_of
from sagesmith.services.sagemaker.training.progress import (
    Reports,
    facts,
    read_reports,
    shown,
    silence,
    silent_host,
)
from sagesmith.services.sagemaker.training.record import PREPARING, ended, jobs, moved_on, new_attempt

if TYPE_CHECKING:
    from sagesmith.core.machine import Document
    from sagesmith.core.operation import Context

SHORTEST_LOOK, LONGEST_LOOK = 0.1, 2.0  # seconds between looks at a gang; a tenth of its age in between
LONGEST_WAIT = 5.0  # seconds between tries to launch while there is no room
STOP_LOOK = 0.2  # seconds between looks at a gang that is ending
LEAVE_LOOK = 0.05  # seconds between looks at agents that have reported their end
UPLOAD_GRACE = 600.0  # seconds that a stopped job has, beyond the stop grace, to upload its partial model
LOST_GRACE = 5.0  # seconds for the hosts of a gang whose model is lost anyway


def launching(document: Document, ctx: Context) -> Move:
    """Launches the gang under the stored run id, or waits until there is room for it."""
    if expired := _expired(document, ctx.now):
        return _stop(document, expired, ctx.now)
    ensure_runs_bucket(ctx)
    if ctx.world.engine.launch(gang_of(document, ctx)):
        body = moved_on(document.body, "Starting", ctx.now, PREPARING)
        return Move(state="Watching", body=body, private={"launched": ctx.now}, after=SHORTEST_LOOK)
    waited = ctx.now - document.private["since"]
    after = min(LONGEST_WAIT, max(SHORTEST_LOOK, waited / 10), max(0.0, _deadline(document)[0] - ctx.now))
    return Move(body=moved_on(document.body, "Pending", ctx.now), after=after)


def watching(document: Document, ctx: Context) -> Move:
    """Shows what the agents report, until all have exited, one has failed or is lost, or the time is up."""
    state = ctx.world.engine.probe(document.private["run"]).state  # before the reports: an agent reports, then ends
    reports = read_reports(document, ctx)
    body, reached = shown(document, reports)
    note = silence(document, reports, ctx.now)
    private = {"reached": reached, "silence": note}
    if reports.failure:
        retry = reports.failure.startswith("InternalServerError")
        return Move(state="Ending", body=body, private={**private, "failure": reports.failure, "retry": retry})
    if reports.all_exited and not reports.interrupted:
        outcome = ["Completed", "Completed", reports.ended_at(ctx.now), ""]
        return Move(state="Finishing", body=body, private={**private, "outcome": outcome})
    if reason := _lost(state, reports, silent_host(note, reports)):
        return Move(state="Ending", body=body, private={**private, "failure": reason, "retry": True})
    if expired := _expired(document, ctx.now):
        return _stop(document, expired, ctx.now)
    pause = min(LONGEST_LOOK, max(SHORTEST_LOOK, (ctx.now - document.private["launched"]) / 10))
    return Move(body=body, private=private, after=min(pause, max(0.0, _deadline(document)[0] - ctx.now)))


def ending(document: Document, ctx: Context) -> Move:
    """A gang dies together: stops what is left of one that has failed or lost a host, then retries or gives up."""
    state = ctx.world.engine.probe(document.private["run"]).state
    stopped = _stopped_for(document, ctx.now, LOST_GRACE)
    if state is State.RUNNING and stopped:
        ctx.world.engine.stop(document.private["run"], 0.0)
    if state is State.RUNNING or (state is State.LOST and not stopped):
        return _stopping_gang(document, ctx, LOST_GRACE)
    attempts = document.body.get("RetryStrategy", {}).get("MaximumRetryAttempts", 0)
    reason = document.private["failure"]
    if document.private["retry"] and document.private["attempt"] < attempts:
        body = moved_on(document.body, "Restarting", ctx.now, f"Restarting the training job: {reason}")
        return Move(state="Restarting", body=body, private={"stop": None})
    at = read_reports(document, ctx).ended_at(ctx.now)
    return Move(state="Finishing", private={"outcome": ["Failed", "Failed", at, reason]})


def restarting(document: Document, ctx: Context) -> Move:
    """Clears away the gang that was lost and stores a new run id, under which the next step launches."""
    _clear(document, ctx)
    over = dict.fromkeys(("launched", "silence", "failure", "retry", "stop"))
    private = {**over, **new_attempt(document.private["attempt"] + 1, ctx.now)}
    return Move(state="Launching", private=private)


def stopping(document: Document, ctx: Context) -> Move:
    """Asks the gang to stop and waits for it; what it uploads of a model is kept."""
    grace = ctx.world.config.stop_grace + UPLOAD_GRACE
    probe = ctx.world.engine.probe(document.private["run"])
    reports = read_reports(document, ctx)
    body = facts(document, reports)
    if probe.state is State.RUNNING:
        if _stopped_for(document, ctx.now, grace):
            ctx.world.engine.stop(document.private["run"], 0.0)  # the engine's own timer may have died with a server
        return replace(_stopping_gang(document, ctx, grace), body=body)
    if probe.state is State.LOST and not _stopped_for(document, ctx.now, LOST_GRACE):
        return replace(_stopping_gang(document, ctx, LOST_GRACE), body=body)
    secondary = document.private.get("expired", "Stopped")
    outcome = ["Stopped", secondary, reports.ended_at(ctx.now), ""]
    return Move(state="Finishing", body=body, private={"outcome": outcome})


def finishing(document: Document, ctx: Context) -> Move:
    """Waits for agents that have reported and are about to leave, clears away, commits the outcome."""
    if ctx.world.engine.probe(document.private["run"]).state is State.RUNNING:
        if _stopped_for(document, ctx.now, LOST_GRACE):
            ctx.world.engine.stop(document.private["run"], 0.0)
        return Move(private={"stop": document.private.get("stop", ctx.now)}, after=LEAVE_LOOK)
    _clear(document, ctx)
    return _outcome(document)


def failed(document: Document, reason: str, ctx: Context) -> Move:
    """The server could not move the job on: its gang is ended, then the job fails with the reason."""
    if "outcome" in document.private:  # only clearing away did not work
        return _outcome(document)
    if document.state == "Ending":
        return Move(status="Failed", body=ended(document, "Failed", ctx.now, reason))
    return Move(state="Ending", private={"failure": reason, "retry": False})


def _outcome(document: Document) -> Move:
    status, secondary, at, reason = document.private["outcome"]
    return Move(status=status, body=ended(document, secondary, at, reason))


def _lost(state: State, reports: Reports, silent: str) -> str:
    """Why the gang counts as lost, or ""."""
    if reports.interrupted:
        return "InternalServerError: the training job was ended by a signal that was not sent by StopTrainingJob"
    if state is State.RUNNING:
        return f"InternalServerError: {silent} has sent no report for too long" if silent else ""
    missing = ", ".join(host for host in reports.hosts if "exit" not in reports.by_host.get(host, {}))
    return f"InternalServerError: {missing} ended without a report; the process or its host is gone"


def _deadline(document: Document) -> tuple[float, str]:
    """When the job must end, and the SecondaryStatus that says why."""
    stopping = document.body["StoppingCondition"]
    never = float("inf")
    waiting = document.created_at + stopping.get("MaxWaitTimeInSeconds", never)
    started = document.body.get("TrainingStartTime", document.private.get("launched", never))
    return min((waiting, "MaxWaitTimeExceeded"), (started + stopping["MaxRuntimeInSeconds"], "MaxRuntimeExceeded"))


def _expired(document: Document, now: float) -> str:
    deadline, secondary = _deadline(document)
    return secondary if now >= deadline else ""


def _stop(document: Document, expired: str, now: float) -> Move:
    body = moved_on(document.body, "Stopping", now)
    return Move(state="Stopping", status="Stopping", body=body, private={"expired": expired})


def _stopping_gang(document: Document, ctx: Context, grace: float) -> Move:
    """Tells the gang to stop, once; a crash in between repeats it, which is harmless."""
    if "stop" in document.private:
        return Move(after=STOP_LOOK)
    ctx.world.engine.stop(document.private["run"], grace)
    return Move(private={"stop": ctx.now}, after=STOP_LOOK)


def _stopped_for(document: Document, now: float, seconds: float) -> bool:
    return "stop" in document.private and now - document.private["stop"] >= seconds


def _clear(document: Document, ctx: Context) -> None:
    ctx.world.engine.forget(document.private["run"])
    delete_reports(document.private["run"], ctx)


machine = Machine(
    jobs.kind,
    failed=failed,
    Launching=launching,
    Watching=watching,
    Ending=ending,
    Restarting=restarting,
    Stopping=stopping,
    Finishing=finishing,
)
