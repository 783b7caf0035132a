"""The agents' reports: where they lie, and the newest one of a host."""

from __future__ import annotations

import json
from contextlib import suppress

from sagesmith.contract import Report
from sagesmith.core.names import runs_bucket
from sagesmith.core.operation import Context
from sagesmith.store.objects import BucketExists, NoSuchBucket, NoSuchObject


def ensure_runs_bucket(ctx: Context) -> None:
    """Makes the bucket into which agents report, if there is none yet; before the first launch."""
    try:
        ctx.world.objects.bucket(runs_bucket(ctx))
    except NoSuchBucket:
        with suppress(BucketExists):
            ctx.world.objects.create_bucket(runs_bucket(ctx), ctx.region)


def read_report(run: str, host: str, ctx: Context) -> Report | None:
    """The newest report of a host of a gang, or None when none has come (or what came cannot be read)."""
    try:
        report = json.loads(ctx.world.objects.get(runs_bucket(ctx), f"{run}/{host}.json"))
    except (NoSuchObject, ValueError):
        return None
    if not isinstance(report, dict) or report.get("run") != run or not report.get("phases"):
        return None
    return report  # type: ignore[return-value]


def delete_reports(run: str, ctx: Context) -> None:
    """Removes the reports of a gang that has ended."""
    bucket = runs_bucket(ctx)
    with suppress(NoSuchBucket):
        for report in list(ctx.world.objects.list(bucket, f"{run}/")):
            ctx.world.objects.delete(bucket, report.key)
