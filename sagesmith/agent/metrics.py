"""Metrics: what the job's regular expressions find in its log, and how busy the host is."""

from __future__ import annotations

import contextlib
import datetime
import math
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import psutil
from botocore.exceptions import ClientError

from sagesmith.agent.connection import Server
from sagesmith.contract import AgentPaper

NAMESPACES = {"training": "TrainingJobs", "transform": "TransformJobs", "processing": "ProcessingJobs"}
BATCH = 1000  # PutMetricData's limit of data in one request
WAITING = 100_000  # data kept while the server is away; the oldest go first
PAUSE = 1.0  # seconds between requests
FIRST_SAMPLE, SAMPLE = 5.0, 60.0  # seconds until the host is first measured, and between measurements


class Scraper:
    """Finds metrics in log lines, by the job's MetricDefinitions.

    Raises:
        ValueError: a Regex that does not compile, naming the metric.
    """

    def __init__(self, definitions: Iterable[dict[str, str]]) -> None:
        self._patterns: list[tuple[str, re.Pattern[str]]] = []
        for definition in definitions:
            try:
                self._patterns.append((definition["Name"], re.compile(definition["Regex"])))
            except re.error as error:
                raise ValueError(
                    f"Regex {definition['Regex']!r} of metric {definition['Name']!r} is not valid: {error}"
                ) from None

    def find(self, line: str) -> list[tuple[str, float]]:
        """The metrics named in one line, with finite values."""
        found = []
        for name, pattern in self._patterns:
            match = pattern.search(line)
            if match is None:
                continue
            with contextlib.suppress(ValueError, TypeError):
                # Object Detection's losses stand between parentheses, which its regular expressions take too.
                value = float((match[1] if pattern.groups else match[0]).strip("()"))
                if math.isfinite(value):
                    found.append((name, value))
        return found


class MetricShipper:
    """A thread that sends data to CloudWatch in batches; the job never waits for it."""

    def __init__(self, paper: AgentPaper, server: Server) -> None:
        self.namespace = f"/aws/sagemaker/{NAMESPACES.get(paper['kind'], 'Endpoints')}"
        self._server = server
        self._waiting: deque[dict[str, Any]] = deque(maxlen=WAITING)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)

    def add(self, name: str, value: float, at: float, dimensions: dict[str, str], unit: str = "None") -> None:
        """Queues one datum; `at` in seconds since the epoch."""
        self._waiting.append(
            {
                "MetricName": name,
                "Value": value,
                "Unit": unit,
                "Timestamp": datetime.datetime.fromtimestamp(at, datetime.UTC),
                "Dimensions": [{"Name": key, "Value": text} for key, text in dimensions.items()],
            }
        )

    def start(self) -> None:
        self._thread.start()

    def drain(self) -> None:
        """Returns when everything queued so far has been accepted or refused."""
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        while not (self._closing.is_set() and not self._waiting):
            if self._waiting:
                count = min(BATCH, len(self._waiting))
                batch = [self._waiting.popleft() for _ in range(count)]
                with contextlib.suppress(ClientError):  # refused: not worth the job's end
                    self._server.call(
                        "cloudwatch", "put_metric_data", stubborn=True, Namespace=self.namespace, MetricData=batch
                    )
            self._closing.wait(PAUSE)


class HostSampler:
    """A thread that measures what the job's processes use of this host, once a minute."""

    def __init__(self, paper: AgentPaper, folder: Path, shipper: MetricShipper) -> None:
        name = paper["name"]
        host = f"{name}/{paper['host']}"
        if paper["kind"] == "endpoint":
            host = f"{paper['log_group'].rpartition('/')[2]}/{paper['log_stream']}"
        self._dimensions = {"Host": host}
        self._folder = folder
        self._shipper = shipper
        self._ended = threading.Event()

    def start(self, processes: Callable[[], Sequence[psutil.Process]]) -> None:
        """Begins to measure; `processes` tells which are the job's at the moment."""
        threading.Thread(target=self._run, args=(processes,), name="host", daemon=True).start()

    def end(self) -> None:
        self._ended.set()

    def _run(self, processes: Callable[[], Sequence[psutil.Process]]) -> None:
        used, since = _processor_seconds(processes()), time.monotonic()
        wait = FIRST_SAMPLE
        while not self._ended.wait(wait):
            tree = processes()
            now_used, now = _processor_seconds(tree), time.monotonic()
            percent = 100 * max(0.0, now_used - used) / (now - since)
            used, since, wait = now_used, now, SAMPLE
            memory = sum(_resident(process) for process in tree)
            self._add("CPUUtilization", percent)
            self._add("MemoryUtilization", 100 * memory / psutil.virtual_memory().total)
            self._add("DiskUtilization", psutil.disk_usage(str(self._folder)).percent)

    def _add(self, name: str, value: float) -> None:
        self._shipper.add(name, value, time.time(), self._dimensions, "Percent")


def _processor_seconds(processes: Iterable[psutil.Process]) -> float:
    seconds = 0.0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            seconds += sum(process.cpu_times()[:2])
    return seconds


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0
