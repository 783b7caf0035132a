"""Kind training: stage in, run the command, stage out."""

from __future__ import annotations

import re
import shutil

from sagesmith.agent.checkpoints import Checkpoints
from sagesmith.agent.failures import JobFailed, Stopped
from sagesmith.agent.host import Host, Outcome
from sagesmith.agent.process import ending
from sagesmith.agent.rendezvous import meet
from sagesmith.agent.staging_in import (
    Staged,
    checkpoint_folder,
    stage_channels,
    stage_code,
    stage_models,
    write_configuration,
)
from sagesmith.agent.staging_out import StageOut
from sagesmith.contract import FAILURE_CHARACTERS, JobFolder
from sagesmith.core.names import S3Uri

LITTLE = 1 << 16  # bytes of free disk space below which nothing can be expected to work
PREFIXED = re.compile(r"(AlgorithmError|ClientError|InternalServerError|CapacityError)\b")


def run(host: Host) -> Outcome:
    """A training job on this host, from its data to its artifacts.

    Raises:
        JobFailed, Stopped: before the job's process has started.
    """
    paper, folder = host.paper, host.folder.create()
    host.reporter.enter("Downloading")
    channels = write_configuration(paper, folder)
    checkpoints = _restored(host)
    stage_models(paper, folder, host.server)
    stage_code(paper, folder, host.server)
    staged = stage_channels(channels, paper, folder, host.server, host.spool.say)
    outcome = _train(host, staged, meet(paper, host.server), checkpoints)
    host.reporter.enter("Uploading")
    return _upload(host, outcome, checkpoints)


def _restored(host: Host) -> Checkpoints | None:
    if "checkpoint" not in host.paper:
        return None
    target = S3Uri.parse(host.paper["checkpoint"]["S3Uri"])
    checkpoints = Checkpoints(checkpoint_folder(host.paper, host.folder), target, host.server)
    checkpoints.restore()
    return checkpoints


def _train(host: Host, staged: Staged, variables: dict[str, str], checkpoints: Checkpoints | None) -> Outcome:
    if host.stopping.is_set():
        raise Stopped
    host.wake.clear()
    try:
        process = host.start([], variables, staged.read_only)
    except OSError as error:
        raise JobFailed(f"ClientError: the training command cannot be run: {error}") from None
    host.reporter.enter("Training")
    for feeder in staged.feeders:
        feeder.start()
    if checkpoints is not None:
        checkpoints.start()
    while process.running() and not host.stopping.is_set():
        host.wake.wait()
        host.wake.clear()
    if process.running():
        host.reporter.enter("Stopping")
        stop = process.stop_all if host.paper.get("own_entrypoint") else process.stop
        return Outcome(stop(host.paper["stop_grace"]), stopped=True)
    code = process.end()
    starved = next((feeder.failure for feeder in staged.feeders if feeder.failure), "")
    if starved:
        return Outcome(code, starved)
    return Outcome(code, failure_text(host.folder, code) if code else "")


def _upload(host: Host, outcome: Outcome, checkpoints: Checkpoints | None) -> Outcome:
    out = StageOut(host.paper, host.folder, host.server, host.spool.say)
    ended_early = outcome.stopped or bool(outcome.failure)
    if checkpoints is not None:
        checkpoints.finish()
        if checkpoints.failure:
            host.spool.say(checkpoints.failure)
    try:
        out.run(alone=ended_early, model=not outcome.failure)
    except Stopped:  # while it waited for the other hosts: what this one has is all there will be
        out.run(alone=True)
        return Outcome(outcome.code, stopped=True)
    except JobFailed as failed:
        return Outcome(outcome.code or 1, outcome.failure or str(failed), outcome.stopped)
    return outcome


def _no_room(folder: JobFolder) -> str:
    """What to say of a process that could not even write why it failed."""
    return " (the disk is full)" if shutil.disk_usage(folder.base).free < LITTLE else ""


def failure_text(folder: JobFolder, code: int) -> str:
    """FailureReason of a job that ended with `code`: what it wrote to output/failure, else how its process ended."""
    try:
        with folder.failure.open("rb") as file:
            text = file.read(4 * FAILURE_CHARACTERS).decode("utf-8", "replace").strip()[:FAILURE_CHARACTERS]
    except OSError:
        text = ""
    if not text:
        return f"AlgorithmError: , {ending(code)}{_no_room(folder)}"
    return text if PREFIXED.match(text) else f"AlgorithmError: {text}"
