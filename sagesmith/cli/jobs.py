"""`sagesmith jobs`: what the running server is doing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from sagesmith.cli import print_json
from sagesmith.cli.connection import client
from sagesmith.core.config import Config

# kind, boto3 paginator, key of the summaries, prefix of the members
_KINDS = (
    ("training", "list_training_jobs", "TrainingJobSummaries", "TrainingJob"),
    ("transform", "list_transform_jobs", "TransformJobSummaries", "TransformJob"),
    ("endpoint", "list_endpoints", "Endpoints", "Endpoint"),
)


@click.command("jobs")
@click.option("--data", type=click.Path(file_okay=False, path_type=Path), help="The server's data folder.")
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most so many of each kind."
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def command(data: Path | None, limit: int, as_json: bool) -> None:
    """List training jobs, transform jobs and endpoints, newest first.

    \b
    Examples:
      sagesmith jobs
      sagesmith jobs --json
    """
    rows = list(_rows(client("sagemaker", Config.load(data=data)), limit))
    if as_json:
        print_json(rows)
        return
    table = Table("kind", "name", "status", "created")
    for row in rows:
        table.add_row(row["kind"], row["name"], row["status"], f"{row['created']:%Y-%m-%d %H:%M:%S}")
    Console().print(table)


def _rows(sagemaker: Any, limit: int) -> Iterator[dict[str, Any]]:
    for kind, operation, key, prefix in _KINDS:
        pages = sagemaker.get_paginator(operation).paginate(PaginationConfig={"MaxItems": limit})
        for page in pages:
            for item in page[key]:
                yield {
                    "kind": kind,
                    "name": item[f"{prefix}Name"],
                    "status": item[f"{prefix}Status"],
                    "created": item["CreationTime"],
                }
