"""Batch transform jobs: a model served for as long as it takes to send it every record of an S3 prefix.

    CreateTransformJob -> Launching -> Watching ---------> Finishing -> Completed | Failed | Stopped
      (InProgress)           |            | one failed        ^
                             |            +------> Ending ----+
    StopTransformJob --------+--> Stopping -------------------+

One gang, one agent per instance; `sagesmith/agent/transform.py` does the work and docs/transform.md describes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sagesmith.contract import Report
from sagesmith.core.machine import Machine, Move
from sagesmith.core.names import S3Uri, run_id
from sagesmith.core.operation import ApiError, Context, Service, validation_error
from sagesmith.engines.base import Gang, State
from sagesmith.services.instances import cores_of, memory_of
from sagesmith.services.refusal import refuse_unbuilt
from sagesmith.services.reports import delete_reports, ensure_runs_bucket, read_report
from sagesmith.services.serving import Post, Served, served_containers, serving_paper
from sagesmith.store.resources import Documents

if TYPE_CHECKING:
    from sagesmith.core.machine import Document

sagemaker = Service("sagemaker")

LOOK_SECONDS = 0.5  # between looks at a gang
ROOM_SECONDS = 2.0  # between tries to launch while there is no room
ENDING_GRACE = 10.0  # seconds for the other hosts of a gang that has failed
MAX_PRODUCT = 100  # MaxConcurrentTransforms x MaxPayloadInMB
FILTERED = ("text/csv", "application/json", "application/jsonlines")

_UNBUILT = {
    "DataCaptureConfig": "data capture",
    "ExperimentConfig": "a trial component of an experiment",
}


def _missing(name: str) -> ApiError:
    return validation_error(f'Could not find requested job with name: "{name}". Requested resource not found.')


def _exists(job_arn: str) -> ApiError:
    return ApiError("ResourceInUse", f"Job name must be unique within an AWS account and region: {job_arn} exists.")


jobs = Documents(
    "TransformJob",
    arn="transform-job",
    missing=_missing,
    exists=_exists,
    terminal=("Completed", "Failed", "Stopped"),
)


@sagemaker.operation
def create_transform_job(request: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Checks the request and writes the job down; its gang starts with the machine's first steps."""
    refuse_unbuilt(request, _UNBUILT)
    _check_input(request["TransformInput"])
    _check_uri("TransformOutput.S3OutputPath", request["TransformOutput"]["S3OutputPath"])
    _check_payload(request)
    _check_processing(request)
    containers = served_containers(ctx.call("DescribeModel", {"ModelName": request["ModelName"]}))
    if len(containers) > 1:
        raise validation_error(
            f"Model {request['ModelName']!r} is an inference pipeline of {len(containers)} containers; batch transform "
            "of pipelines is not implemented by sagesmith."
        )
    body = {key: value for key, value in request.items() if key != "Tags"}
    body["DataProcessing"] = {"InputFilter": "$", "OutputFilter": "$", "JoinSource": "None"} | body.get(
        "DataProcessing", {}
    )
    document = jobs.create(
        ctx,
        request["TransformJobName"],
        body,
        status="InProgress",
        state="Launching",
        private={"run": run_id("transform"), "container": containers[0], "since": ctx.now},
        due_in=0.0,
        tags=request.get("Tags", ()),
    )
    return {"TransformJobArn": document.arn}


@sagemaker.operation
def describe_transform_job(request: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """What was asked, and how far it is."""
    document = jobs.get(ctx, request["TransformJobName"])
    return {
        **document.body,
        "TransformJobArn": document.arn,
        "TransformJobStatus": document.status,
        "CreationTime": document.created_at,
    }


@sagemaker.operation
def list_transform_jobs(request: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Jobs by name, status or time."""
    return jobs.page(ctx, request, key="TransformJobSummaries", summary=_summary)


@sagemaker.operation
def stop_transform_job(request: dict[str, Any], ctx: Context) -> None:
    """Ends a job that is in progress; outputs that are complete stay."""

    def decide(document: Document) -> Move:
        if document.status == "Stopping":
            return Move()
        if document.status != "InProgress":
            raise validation_error(
                f"The request was rejected because the transform job is in status {document.status}; "
                "only a job that is InProgress can be stopped."
            )
        return Move(state="Stopping", status="Stopping", private={"stop": None})

    document = jobs.get(ctx, request["TransformJobName"])
    if document.status in jobs.terminal:
        decide(document)
    jobs.change(ctx, request["TransformJobName"], decide)


def _summary(document: Document) -> dict[str, Any]:
    summary = {
        "TransformJobName": document.name,
        "TransformJobArn": document.arn,
        "CreationTime": document.created_at,
        "LastModifiedTime": document.modified_at,
        "TransformJobStatus": document.status,
    }
    return summary | {key: document.body[key] for key in ("TransformEndTime", "FailureReason") if key in document.body}


def _check_input(source: Mapping[str, Any]) -> None:
    location = source["DataSource"]["S3DataSource"]
    if location["S3DataType"] not in ("S3Prefix", "ManifestFile"):
        raise validation_error(
            f"TransformInput.DataSource.S3DataSource.S3DataType {location['S3DataType']} is not supported by batch "
            "transform; allowed: S3Prefix, ManifestFile."
        )
    _check_uri("TransformInput.DataSource.S3DataSource.S3Uri", location["S3Uri"])


def _check_uri(path: str, uri: str) -> None:
    try:
        S3Uri.parse(uri)
    except ValueError as error:
        raise validation_error(f"{path}: {error}") from None


def _check_payload(request: Mapping[str, Any]) -> None:
    payload, concurrent = request.get("MaxPayloadInMB"), request.get("MaxConcurrentTransforms")
    if payload == 0:
        raise validation_error("MaxPayloadInMB 0 (HTTP chunked streaming) is not supported by built-in algorithms.")
    if (payload or 6) > MAX_PRODUCT:
        raise validation_error(f"MaxPayloadInMB must be at most {MAX_PRODUCT}, got {payload}.")
    if concurrent and payload and concurrent * payload > MAX_PRODUCT:
        raise validation_error(
            f"MaxConcurrentTransforms x MaxPayloadInMB must be at most {MAX_PRODUCT}, got {concurrent} x {payload}."
        )
    if "BatchStrategy" in request and request["TransformInput"].get("SplitType", "None") == "None":
        raise validation_error(
            f"BatchStrategy {request['BatchStrategy']} needs TransformInput.SplitType Line, RecordIO or TFRecord."
        )


def _check_processing(request: Mapping[str, Any]) -> None:
    """What would be an error for every record; the filters themselves are parsed by the agent."""
    processing = request.get("DataProcessing", {})
    for member in ("InputFilter", "OutputFilter"):
        if not processing.get(member, "$").startswith("$"):
            raise validation_error(f"DataProcessing.{member} {processing[member]!r} must begin with '$'.")
    if processing.get("JoinSource", "None") == "None":
        return
    for member, value in (
        ("TransformInput.ContentType", request["TransformInput"].get("ContentType", "")),
        ("TransformOutput.Accept", request["TransformOutput"].get("Accept", FILTERED[0])),
    ):
        if value.partition(";")[0].strip().lower() not in FILTERED:
            raise validation_error(f"DataProcessing.JoinSource Input needs a {member} of {', '.join(FILTERED)}.")
    split = request["TransformInput"].get("SplitType", "None")
    assemble = request["TransformOutput"].get("AssembleWith", "None")
    if split not in ("None", "Line") or (split == "Line") != (assemble == "Line"):
        raise validation_error(
            f"DataProcessing.JoinSource Input needs SplitType and AssembleWith to agree, both Line or both None; "
            f"got {split} and {assemble}."
        )


def launching(document: Document, ctx: Context) -> Move:
    """Launches the gang under the stored run id, or waits until there is room for it."""
    ensure_runs_bucket(ctx)
    if not ctx.world.engine.launch(_gang(document, ctx)):
        return Move(after=ROOM_SECONDS)
    return Move(state="Watching", body={"TransformStartTime": ctx.now}, after=LOOK_SECONDS)


def watching(document: Document, ctx: Context) -> Move:
    """Waits until every agent has exited, one has failed, or one is lost."""
    state = ctx.world.engine.probe(document.private["run"]).state  # before the reports: an agent reports, then ends
    reports = [read_report(document.private["run"], host, ctx) for host in _hosts(document)]
    failures = [failure for report in reports if (failure := _failure(report))]
    if failures:
        return Move(state="Ending", private={"failure": failures[0]})
    if all(report is not None and report.get("exit") == 0 for report in reports):
        return Move(state="Finishing", private={"outcome": "Completed"})
    if state is not State.RUNNING:
        lost = "InternalServerError: an instance ended without a report; the process or its host is gone."
        return Move(state="Ending", private={"failure": lost})
    return Move(after=LOOK_SECONDS)


def _failure(report: Report | None) -> str:
    if report is None or "exit" not in report:
        return ""
    if report.get("stopped"):
        return "InternalServerError: the job was ended by a signal that was not sent by StopTransformJob."
    if report["exit"] == 0:
        return ""
    return report.get("failure") or f"AlgorithmError: {report['host']} ended with exit code {report['exit']}."


def ending(document: Document, ctx: Context) -> Move:
    """A gang dies together: stops the other instances of one that has failed."""
    if _gone(document, ctx, ENDING_GRACE):
        return Move(state="Finishing", private={"outcome": "Failed"})
    return Move(private={"stop": document.private.get("stop", ctx.now)}, after=LOOK_SECONDS)


def stopping(document: Document, ctx: Context) -> Move:
    """Asks every agent to stop, and waits until all have."""
    if _gone(document, ctx, ctx.world.config.stop_grace):
        return Move(state="Finishing", private={"outcome": "Stopped"})
    return Move(private={"stop": document.private.get("stop", ctx.now)}, after=LOOK_SECONDS)


def _gone(document: Document, ctx: Context, grace: float) -> bool:
    """Whether nothing of the gang runs any more; tells it to stop, in the end without mercy."""
    run = document.private["run"]
    asked_at = document.private.get("stop")
    state = ctx.world.engine.probe(run).state
    if state is State.ABSENT or (state is not State.RUNNING and asked_at is not None):
        return True
    if asked_at is None:
        ctx.world.engine.stop(run, grace)
    elif ctx.now - asked_at > grace:
        ctx.world.engine.stop(run, 0.0)  # the engine's own timer may have died with a server
    return False


def finishing(document: Document, ctx: Context) -> Move:
    """Clears away what is left of the gang and commits the outcome."""
    run = document.private["run"]
    ctx.world.engine.forget(run)
    delete_reports(run, ctx)
    return _outcome(document, ctx)


def given_up(document: Document, reason: str, ctx: Context) -> Move:
    """The server could not move the job on: its gang is ended, then the job fails with the reason."""
    if document.state == "Finishing":
        return _outcome(document, ctx)
    if document.state == "Ending":
        return Move(state="Finishing", private={"outcome": "Failed"})
    return Move(state="Ending", private={"failure": reason})


def _outcome(document: Document, ctx: Context) -> Move:
    outcome = document.private["outcome"]
    body: dict[str, Any] = {"TransformEndTime": ctx.now}
    if outcome == "Failed":
        body["FailureReason"] = document.private["failure"][:1024]
    return Move(status=outcome, body=body, after=None)


def _hosts(document: Document) -> list[str]:
    return [f"algo-{number}" for number in range(1, document.body["TransformResources"]["InstanceCount"] + 1)]


def _gang(document: Document, ctx: Context) -> Gang:
    hosts, instance_type = _hosts(document), document.body["TransformResources"]["InstanceType"]
    container: Served = document.private["container"]
    container = {**container, "environment": container["environment"] | _environment(document.body)}
    papers = []
    for host in hosts:
        post = Post(
            run=document.private["run"],
            kind="transform",
            name=document.name,
            arn=document.arn,
            log_group="/aws/sagemaker/TransformJobs",
            log_stream=f"{document.name}/{host}-{int(document.private['since'] * 1000)}",
            cores=cores_of(instance_type),
        )
        paper = serving_paper(ctx, container, host, hosts, post)
        paper["transform"] = document.body
        papers.append(paper)
    return Gang(
        run=document.private["run"],
        papers=tuple(papers),
        cores=len(hosts) * cores_of(instance_type),
        memory=len(hosts) * memory_of(instance_type),
    )


def _environment(body: Mapping[str, Any]) -> dict[str, str]:
    """The variables by which a container knows that it serves a batch."""
    variables = {**body.get("Environment", {}), "SAGEMAKER_BATCH": "true"}
    if "MaxPayloadInMB" in body:
        variables["SAGEMAKER_MAX_PAYLOAD_IN_MB"] = str(body["MaxPayloadInMB"])
    if "BatchStrategy" in body:
        names = {"MultiRecord": "MULTI_RECORD", "SingleRecord": "SINGLE_RECORD"}
        variables["SAGEMAKER_BATCH_STRATEGY"] = names[body["BatchStrategy"]]
    if body.get("MaxConcurrentTransforms"):
        variables["SAGEMAKER_MAX_CONCURRENT_TRANSFORMS"] = str(body["MaxConcurrentTransforms"])
    return variables


machine = Machine(
    jobs.kind,
    failed=given_up,
    Launching=launching,
    Watching=watching,
    Ending=ending,
    Stopping=stopping,
    Finishing=finishing,
)
