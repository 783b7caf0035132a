"""The life of an agent: from its paper to its last report and exit marker, whatever the kind of job."""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from sagesmith.agent import namespace
from sagesmith.agent.connection import Server
from sagesmith.agent.failures import JobFailed, Stopped
from sagesmith.agent.log_shipping import LogShipper
from sagesmith.agent.metrics import HostSampler, MetricShipper, Scraper
from sagesmith.agent.process import JobProcess, environment
from sagesmith.agent.reporting import Reporter
from sagesmith.agent.spool import Spool
from sagesmith.contract import FAILURE_CHARACTERS, AgentPaper, JobFolder, write_private

KINDS = ("training", "endpoint", "transform")  # each a module here with `run(host) -> Outcome`, imported when needed
EXIT_FAILED = 1
EXIT_INTERNAL = 70  # our own fault (EX_SOFTWARE)


@dataclass(frozen=True)
class Outcome:
    """How the job ended."""

    code: int = 0  # its exit status; negative: the signal
    failure: str = ""
    stopped: bool = False

    @property
    def status(self) -> int:
        """The agent's own exit status: 0 when there is nothing to complain of."""
        if self.stopped or (self.code == 0 and not self.failure):
            return 0
        return self.code if 0 < self.code < 256 else 128 - self.code if self.code < 0 else EXIT_FAILED


class Host:
    """What the work of one agent stands on.

    Attributes:
        paper: what was asked.
        home: the run folder of this host, where reports and markers lie.
        folder: the container's folder (`/opt/ml`).
        stopping: set once the agent was asked to stop.
        wake: set with `stopping`, and whenever the job's process has ended.
    """

    def __init__(self, paper: AgentPaper, home: Path) -> None:
        self.paper = paper
        self.home = home
        self.folder = JobFolder(home / "ml")
        self.stopping = threading.Event()
        self.wake = threading.Event()
        self.server = Server(paper, self.stopping)
        self.reporter = Reporter(paper, home, self.server)
        self.spool = Spool(home / "job.log")
        self.logs = LogShipper(paper, self.spool, self.server)
        self.metrics = MetricShipper(paper, self.server)
        self._sampler = HostSampler(paper, home, self.metrics)
        try:
            self._scraper = Scraper(paper.get("metrics", []))
        except ValueError as error:
            self._scraper = Scraper([])
            self.spool.say(f"{error}; the metric is not collected")
        self._started = False

    def stop(self) -> None:
        """Asks the agent to end what it does."""
        self.stopping.set()
        self.wake.set()

    def start(
        self, arguments: list[str], variables: Mapping[str, str] | None = None, read_only: Sequence[Path] = ()
    ) -> JobProcess:
        """Starts the job's command; its output becomes log lines and metrics. Call it from the main thread.

        Args:
            read_only: folders that the job cannot write to.

        Raises:
            JobFailed: the command needs /opt/ml, which this host cannot give it.
            OSError: it cannot be run.
        """
        command, environ = self._command(arguments, variables, read_only)
        process = JobProcess(
            command,
            environ,
            self.home,
            self.folder.base,
            self.spool,
            self._notice,
            self.wake,
        )
        self._ship()
        self._sampler.start(process.session)
        return process

    def _command(
        self, arguments: list[str], extra: Mapping[str, str] | None, read_only: Sequence[Path]
    ) -> tuple[list[str], dict[str, str]]:
        """What to run, and its environment."""
        if not self.paper.get("own_entrypoint"):
            command = [*self.paper["command"], "--base", str(self.folder.base), *arguments]
            return namespace.protected(read_only, command), environment(self.paper, self.folder, extra)
        environ = environment(self.paper, JobFolder(namespace.OPT_ML), extra)
        command = namespace.at_opt_ml(self.folder.base, self.paper["command"], read_only)
        return command, environ | namespace.variables(environ)

    def _ship(self) -> None:
        if not self._started:  # after the job's start, which nothing should hold up
            self._started = True
            self.logs.start()
            self.metrics.start()

    def _notice(self, line: str) -> None:
        for name, value in self._scraper.find(line):
            now = time.time()
            self.metrics.add(name, value, now, {"TrainingJobName": self.paper["name"]})
            self.reporter.measure(name, value, now)

    def close(self, outcome: Outcome) -> None:
        """The last lines, the last report, the exit marker: in this order, each once the one before is accepted."""
        self._sampler.end()
        self._ship()
        self.logs.drain()
        self.metrics.drain()
        if self.logs.refused:
            print(f"the server takes no log lines: {self.logs.refused}", file=sys.stderr)
        members: dict[str, Any] = {"stopped": True} if outcome.stopped else {}
        if outcome.failure:
            members["failure"] = outcome.failure[:FAILURE_CHARACTERS]
        self.reporter.finish(outcome.code, **members)
        write_private(self.home / "exit.json", json.dumps({"code": outcome.status}))


def live(paper_path: Path, asked_to_stop: Callable[[], bool] = lambda: False) -> int:
    """Does what the paper says; returns the agent's exit status.

    Args:
        paper_path: agent.json; its folder becomes this host's own.
        asked_to_stop: whether SIGTERM came before this function could take it.
    """
    home = paper_path.parent
    marker = home / "exit.json"
    if marker.exists():
        return int(json.loads(marker.read_text("utf-8"))["code"])
    write_private(home / "process.json", json.dumps({"pid": os.getpid(), "created": psutil.Process().create_time()}))
    host = Host(json.loads(paper_path.read_text("utf-8")), home)
    _listen(host)
    if asked_to_stop() or (home.parent / "stop.json").exists():
        host.stop()
    host.reporter.start()
    outcome = _work(host)
    host.close(outcome)
    return outcome.status


def _work(host: Host) -> Outcome:
    kind = host.paper["kind"]
    try:
        if host.stopping.is_set():
            raise Stopped
        if kind not in KINDS:
            raise JobFailed(f"InternalServerError: agents run {', '.join(KINDS)} jobs, not {kind!r}")
        outcome: Outcome = importlib.import_module(f"sagesmith.agent.{kind}").run(host)
        return outcome
    except Stopped:
        return Outcome(stopped=True)
    except JobFailed as failed:
        return Outcome(EXIT_FAILED, str(failed))
    except Exception as error:  # whatever it is, the job must not stay InProgress
        traceback.print_exc()
        return Outcome(EXIT_INTERNAL, f"InternalServerError: {type(error).__name__}: {error}")


def _listen(host: Host) -> None:
    """Turns SIGTERM and SIGINT into `host.stop()`, called by a thread: a handler could interrupt a lock's holder."""
    read, write = socket.socketpair()
    write.setblocking(False)
    signal.set_wakeup_fd(write.fileno(), warn_on_full_buffer=False)

    def listen() -> None:
        while number := read.recv(1):
            if number[0] in (signal.SIGTERM, signal.SIGINT):
                host.stop()

    threading.Thread(target=listen, name="signals", daemon=True).start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: write and None)  # keeps the socket alive; the thread does the work
