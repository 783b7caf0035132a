"""`sagesmith logs`: the log of a job or an endpoint."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
from botocore.exceptions import ClientError

from sagesmith.cli import fail
from sagesmith.cli.connection import client
from sagesmith.core.config import Config

_ENDED = {"Completed", "Failed", "Stopped"}


@click.command("logs")
@click.argument("job")
@click.option("--follow", "-f", is_flag=True, help="Go on until the job ends (Ctrl-C leaves it running).")
@click.option("--kind", type=click.Choice(["training", "transform", "endpoint"]), help="Where to look (default: all).")
@click.option("--data", type=click.Path(file_okay=False, path_type=Path), help="The server's data folder.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
def command(job: str, follow: bool, kind: str | None, data: Path | None, as_json: bool) -> None:
    """Show the log lines of a training job, transform job or endpoint.

    \b
    Examples:
      sagesmith logs my-job
      sagesmith logs my-job --follow
    """
    config = Config.load(data=data)
    found, describe, group, prefix = _find(client("sagemaker", config), job, kind)
    if not found:
        raise fail(f"no {kind or 'job or endpoint'} is called {job!r}; `sagesmith jobs` lists them")
    reader = Reader(client("logs", config), group, prefix)
    while True:
        # The status is read before the lines: what is written before the end is then always shown.
        ended = describe() in _ENDED
        _print(reader.new_events(), as_json)
        if not follow or ended:
            return
        time.sleep(1.0)


def _find(sagemaker: Any, job: str, kind: str | None) -> tuple[bool, Any, str, str]:
    places = {
        "training": ("describe_training_job", "TrainingJob", "/aws/sagemaker/TrainingJobs", f"{job}/"),
        "transform": ("describe_transform_job", "TransformJob", "/aws/sagemaker/TransformJobs", f"{job}/"),
        "endpoint": ("describe_endpoint", "Endpoint", f"/aws/sagemaker/Endpoints/{job}", ""),
    }
    for name, (operation, member, group, prefix) in places.items():
        if kind not in (None, name):
            continue

        def describe(operation: str = operation, member: str = member) -> str:
            return str(getattr(sagemaker, operation)(**{f"{member}Name": job})[f"{member}Status"])

        try:
            describe()
        except ClientError as error:
            if error.response["Error"]["Code"] != "ValidationException":
                raise fail(str(error)) from error
            continue
        return True, describe, group, prefix
    return False, None, "", ""


class Reader:
    """Reads every stream of a group below a prefix, each event once."""

    def __init__(self, logs: Any, group: str, prefix: str) -> None:
        self._logs, self._group, self._prefix = logs, group, prefix
        self._tokens: dict[str, str] = {}

    def new_events(self) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = []
        for stream in self._streams():
            while True:
                token = {"nextToken": self._tokens[stream]} if stream in self._tokens else {}
                page = self._logs.get_log_events(
                    logGroupName=self._group, logStreamName=stream, startFromHead=True, **token
                )
                self._tokens[stream] = page["nextForwardToken"]
                if not page["events"]:
                    break
                events += [{"stream": stream, **event} for event in page["events"]]
        return sorted(events, key=lambda event: event["timestamp"])

    def _streams(self) -> list[str]:
        query = {"logStreamNamePrefix": self._prefix} if self._prefix else {}
        try:
            pages = self._logs.get_paginator("describe_log_streams").paginate(logGroupName=self._group, **query)
            return [stream["logStreamName"] for page in pages for stream in page["logStreams"]]
        except self._logs.exceptions.ResourceNotFoundException:
            return []


def _print(events: list[dict[str, Any]], as_json: bool) -> None:
    import json

    for event in events:
        click.echo(json.dumps(event) if as_json else event["message"])
