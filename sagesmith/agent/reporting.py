"""The Report: what the server knows of this host, written beside the job and sent until it is accepted."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from pathlib import Path
from typing import Any

from sagesmith.agent.connection import Server
from sagesmith.contract import AgentPaper, Report, write_private
from sagesmith.core.names import S3Uri

BEAT = 10.0  # seconds between reports of a host that has nothing new to say
METRICS_APART = 1.0  # seconds between reports that only bring newer metric values


class Reporter:
    """Keeps this host's report; a thread of its own sends the latest one, so that nobody waits for the server."""

    def __init__(self, paper: AgentPaper, folder: Path, server: Server) -> None:
        self._file = folder / "report.json"
        self._target = S3Uri.parse(paper["reports"]).join(f"{paper['host']}.json")
        self._server = server
        self._condition = threading.Condition()
        self._dirty = False
        self._measured = False
        self._closing = False
        self._thread: threading.Thread | None = None
        now = time.time()
        self._report: Report = {
            "run": paper["run"],
            "host": paper["host"],
            "sequence": 0,
            "beat": now,
            "phase": "Starting",
            "phases": [["Starting", now]],
        }
        self._write()

    def start(self) -> None:
        """Begins to send; until then reports lie beside the job only."""
        self._thread = threading.Thread(target=self._send, name="reports", daemon=True)
        self._thread.start()

    @property
    def phase(self) -> str:
        return self._report["phase"]

    def enter(self, phase: str, **members: Any) -> None:
        """The host is in a new phase, with further members of the report (`port`, `failure`, `stopped`)."""
        with self._condition:
            self._report.update(members)  # type: ignore[typeddict-item]
            if phase != self._report["phase"]:
                self._report["phase"] = phase
                self._report["phases"].append([phase, time.time()])
            self._write()
            self._dirty = True
            self._condition.notify()

    def measure(self, name: str, value: float, at: float) -> None:
        """Notes a metric's last value; it travels with the next report."""
        with self._condition:
            self._report.setdefault("metrics", {})[name] = [value, at]
            self._measured = True
            self._condition.notify()

    def finish(self, code: int, **members: Any) -> None:
        """The last report: exit status and failure. Returns once the server has accepted it."""
        with self._condition:
            self._closing = True
            self._condition.notify()
        if self._thread is not None:
            self._thread.join()
        self.enter("Exited", exit=code, **members)
        self._put(stubborn=True)

    def _write(self) -> None:
        self._report["sequence"] += 1
        self._report["beat"] = time.time()
        with contextlib.suppress(OSError):  # a full disk: the report that counts is the one that is sent
            write_private(self._file, json.dumps(self._report))

    def _send(self) -> None:
        """Sends what is newest. An attempt that fails is repeated with what is newest then, never with older news."""
        while self._news():
            try:
                self._put(stubborn=False)
            except Exception:  # away or refusing: the last report insists, this one is only news
                with self._condition:
                    self._condition.wait_for(lambda: self._closing, METRICS_APART)
                    self._dirty = True

    def _news(self) -> bool:
        """Waits for something to send: a phase at once, metrics a little later, else a beat. False: no more."""
        with self._condition:
            self._condition.wait_for(lambda: self._closing or self._dirty or self._measured, BEAT)
            if not self._dirty:
                self._condition.wait_for(lambda: self._closing or self._dirty, METRICS_APART)
            if self._closing:
                return False
            self._dirty = self._measured = False
            self._write()
            return True

    def _put(self, *, stubborn: bool) -> None:
        def attempt() -> None:
            with self._condition:
                body = json.dumps(self._report).encode()
            self._server.client("s3").put_object(Bucket=self._target.bucket, Key=self._target.key, Body=body)

        if stubborn:
            self._server.insist(attempt, stubborn=True)
        else:
            attempt()
