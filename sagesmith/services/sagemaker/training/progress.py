"""What the agents' reports say of the gang as a whole."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sagesmith.contract import Report
from sagesmith.services.reports import read_report
from sagesmith.services.sagemaker.training.record import hosts_of, moved_on

if TYPE_CHECKING:
    from sagesmith.core.machine import Document
    from sagesmith.core.operation import Context

PHASES = ("Downloading", "Training", "Uploading")  # those of a Report that SecondaryStatus shows
QUIET_LIMIT = 120.0  # seconds without news from a host after which it counts as lost; agents report every ten
LONGEST_LOOK = 5.0  # seconds that one look can add to a silence, however long ago the look before was


@dataclass(frozen=True)
class Reports:
    """The newest report of every host that has sent one."""

    hosts: list[str]
    by_host: Mapping[str, Report]

    @property
    def all_exited(self) -> bool:
        return all("exit" in self.by_host.get(host, {}) for host in self.hosts)

    @property
    def failure(self) -> str:
        """Why the first host that failed did so, with AWS's prefix; "" when none has."""
        failed = [r for r in self.by_host.values() if r.get("exit", 0) != 0 and not r.get("stopped")]
        if not failed:
            return ""
        first = min(failed, key=lambda report: report["phases"][-1][1])
        text = f"AlgorithmError: {first['host']} ended with exit code {first['exit']}"
        return first.get("failure") or text

    @property
    def interrupted(self) -> bool:
        """Whether some host has ended because it was asked to, by whomever."""
        return any(report.get("stopped") and "exit" in report for report in self.by_host.values())

    def entered(self, phase: str) -> float | None:
        """When the gang as a whole was in a phase: Downloading with the first host, the others with the last."""
        times = [_since(self.by_host.get(host), phase) for host in self.hosts]
        known = [time for time in times if time is not None]
        if phase == "Downloading":
            return min(known, default=None)
        return max(known) if len(known) == len(times) else None

    def ended_at(self, default: float) -> float:
        """When the last host had done everything."""
        times = [_since(report, "Exited") for report in self.by_host.values()]
        return max((time for time in times if time is not None), default=default)

    def metrics(self) -> list[dict[str, Any]]:
        """FinalMetricDataList: of each metric the latest finite value of any host (JSON has no NaN)."""
        latest: dict[str, list[float]] = {}
        for host in self.hosts:
            report = self.by_host.get(host)
            for name, pair in report.get("metrics", {}).items() if report else ():
                if math.isfinite(pair[0]) and (name not in latest or pair[1] >= latest[name][1]):
                    latest[name] = pair
        return [{"MetricName": name, "Value": value, "Timestamp": at} for name, (value, at) in sorted(latest.items())]


def read_reports(document: Document, ctx: Context) -> Reports:
    """The reports of the gang under the document's run id."""
    hosts = hosts_of(document)
    found = {host: read_report(document.private["run"], host, ctx) for host in hosts}
    return Reports(hosts, {host: report for host, report in found.items() if report is not None})


def shown(document: Document, reports: Reports) -> tuple[dict[str, Any], int]:
    """The members that the reports change, and how many phases of this attempt have now been shown."""
    body: dict[str, Any] = {**document.body, **facts(document, reports)}
    reached: int = document.private["reached"]
    for index, phase in enumerate(PHASES):
        at = reports.entered(phase)
        if index < reached or at is None:
            continue
        body |= moved_on(body, phase, at)
        reached = index + 1
    return {name: value for name, value in body.items() if document.body.get(name) != value}, reached


def facts(document: Document, reports: Reports) -> dict[str, Any]:
    """The members besides the status that the reports give: when training began, and the metrics so far."""
    members: dict[str, Any] = {}
    started = reports.entered("Downloading")
    if started is not None and "TrainingStartTime" not in document.body:
        members["TrainingStartTime"] = started
    if metrics := reports.metrics():
        members["FinalMetricDataList"] = metrics
    return members


def silence(document: Document, reports: Reports, now: float) -> dict[str, Any]:
    """The document's note of how long nothing has come from some host, brought up to `now`.

    Only time in which somebody looked counts, so an outage of the server is not held against the job.
    """
    before: dict[str, Any] = document.private.get("silence", {})
    elapsed = min(LONGEST_LOOK, max(0.0, now - before.get("at", now)))
    note: dict[str, Any] = {"at": now, "hosts": {}}
    for host in reports.hosts:
        report = reports.by_host.get(host)
        sequence = report["sequence"] if report else -1
        last, quiet = before.get("hosts", {}).get(host, [None, 0.0])
        note["hosts"][host] = [sequence, quiet + elapsed if sequence == last else 0.0]
    return note


def silent_host(note: Mapping[str, Any], reports: Reports) -> str:
    """A host that has been silent for too long, or ""."""
    for host, (_sequence, quiet) in note["hosts"].items():
        if quiet > QUIET_LIMIT and "exit" not in reports.by_host.get(host, {}):
            return str(host)
    return ""


def _since(report: Report | None, phase: str) -> float | None:
    return next((float(at) for name, at in report["phases"] if name == phase), None) if report else None
