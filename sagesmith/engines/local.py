"""Engine: processes on this host.

A gang is a folder `<data>/runs/<run>`, made whole by one rename before anything starts:

    gang.json            what was asked: hosts, cores, memory
    stop.json            stop was asked for; when to kill, and which hosts had been lost before
    <host>/agent.json    the agent's paper             <host>/lock          locked for as long as the agent lives
    <host>/started.json  pid, written by the engine    <host>/process.json  the same, written by the agent
    <host>/job.json      the job's session             <host>/exit.json     the agent's exit status
    <host>/report.json   the latest Report             <host>/ml            the container's /opt/ml

The lock is the truth about life: the engine takes it before it starts an agent, the agent inherits it, and the
kernel lets it go when the agent dies. So there is no moment at which a crash of the server could leave an agent that
nobody knows of, or start a second one; pids, which are used again, only say where signals go.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

import sagesmith
from sagesmith.contract import write_private
from sagesmith.core.config import Config
from sagesmith.engines.base import Gang, Probe, State
from sagesmith.engines.nursery import Nursery

UPLOAD_GRACE = 300.0  # seconds that a stopped agent has for its uploads, after its job's own grace
LOST_GRACE = 10.0  # seconds for the rest of a gang that has lost a host
KILL_SECONDS = 5.0  # for the kernel to end what SIGKILL was sent to
KILLED = 137  # 128 + SIGKILL
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")
OWN_VARIABLES = re.compile(r"(AWS_|BOTO|SAGESMITH_|SAGEMAKER_)|.*_PROXY$", re.IGNORECASE)


def create(config: Config) -> LocalEngine:
    """The engine of a server with these settings."""
    return LocalEngine(config.runs, nursery=True)


class LocalEngine:
    """Processes on this host; see `sagesmith.engines.base.Engine`.

    Args:
        runs: the folder that holds a folder per gang.
        cores, memory: what jobs may use together; the host's own by default.
        upload_grace: seconds between the end of a stopped job's grace and the end of its agent.
        nursery: keep a process that forks agents, so that they start sooner.
    """

    def __init__(
        self,
        runs: Path,
        *,
        cores: float | None = None,
        memory: int | None = None,
        upload_grace: float = UPLOAD_GRACE,
        nursery: bool = False,
    ) -> None:
        self._runs = runs.absolute()
        self._runs.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._cores = host_cores() if cores is None else cores
        self._memory = host_memory() if memory is None else memory
        self._upload_grace = upload_grace
        self._lock = threading.RLock()
        self._ended: set[str] = set()  # gangs without a living agent: not looked at again for admission
        self._swept: set[Path] = set()  # hosts whose orphaned job has been killed
        self._children: set[int] = set()
        self._deadlines: dict[str, float] = {}
        self._changed = threading.Condition()
        self._enforcer: threading.Thread | None = None
        self._recover()
        self._nursery = Nursery(self._runs, _agent_environment()) if nursery else None

    def launch(self, gang: Gang) -> bool:
        hosts = [paper["host"] for paper in gang.papers]
        for name in (gang.run, *hosts):
            if not NAME.fullmatch(name):
                raise ValueError(f"{name!r} cannot be the name of a run or host: expected {NAME.pattern}")
        if not hosts or len(set(hosts)) < len(hosts):
            raise ValueError(f"a gang needs one paper for each of its hosts, got {hosts}")
        with self._exclusive():
            run = _Run(self._runs / gang.run)
            if not run.exists():
                if not self._room_for(gang):
                    return False
                run.create(gang)
            if not run.stopping():
                for host in run.hosts():
                    self._start(host)
        return True

    def probe(self, run: str) -> Probe:
        with self._lock:
            self._reap()
            folder = _Run(self._runs / run)
            if not NAME.fullmatch(run) or not folder.exists():
                return Probe(State.ABSENT)
            codes, lost = self._look(folder)
            if lost:
                self._abandon(folder, lost)
                return Probe(State.LOST, codes)
            if len(codes) < len(folder.hosts()):
                if any(codes.values()) and not folder.stopping():
                    self.stop(run, LOST_GRACE)
                return Probe(State.RUNNING, codes)
            self._ended.add(run)
            return Probe(State.EXITED, codes)

    def stop(self, run: str, grace: float) -> None:
        folder = _Run(self._runs / run)
        if not NAME.fullmatch(run) or not folder.exists():
            return
        with self._lock:
            deadline = time.time() + (grace + self._upload_grace if grace > 0 else 0)
            self._end(folder, deadline, [])

    def address(self, run: str, host: str) -> str:
        return "127.0.0.1"

    def forget(self, run: str) -> None:
        folder = _Run(self._runs / run)
        if not NAME.fullmatch(run) or not folder.exists():
            return
        with self._exclusive():
            if self.probe(run).state is State.RUNNING:
                raise ValueError(f"gang {run} still runs: stop it first")
            folder.kill()
            self._forget_deadline(run)
            self._ended.discard(run)
            gone = self._runs / f".forgotten-{run}"
            folder.path.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def close(self) -> None:
        serving = [run for run in self._every_run() if run.kind() == "endpoint"]
        for run in serving:
            run.note_stop(0.0, [])
            run.kill()
        deadline = time.monotonic() + KILL_SECONDS
        for run in serving:
            while any(host.alive() for host in run.hosts()) and time.monotonic() < deadline:
                time.sleep(0.01)
            with contextlib.suppress(ValueError):  # one that SIGKILL has not ended yet is swept by the next server
                self.forget(run.path.name)

    def _every_run(self) -> list[_Run]:
        found = [_Run(entry) for entry in self._runs.iterdir() if NAME.fullmatch(entry.name)]
        return [run for run in found if run.exists()]

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        """One launch at a time, among the servers of this host as well."""
        with self._lock, (self._runs / ".lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _recover(self) -> None:
        """Goes on with what an earlier server has begun."""
        with self._exclusive():
            for entry in list(self._runs.iterdir()):
                if entry.name.startswith((".forgotten-", ".partial-")):
                    shutil.rmtree(entry, ignore_errors=True)
                elif NAME.fullmatch(entry.name) and (deadline := _Run(entry).deadline()) is not None:
                    self._enforce(entry.name, deadline)

    def _room_for(self, gang: Gang) -> bool:
        if not gang.cores and not gang.memory:
            return True
        cores, memory = gang.cores, gang.memory
        for run in self._every_run():
            if run.path.name in self._ended:
                continue
            if not any(host.alive() for host in run.hosts()):
                self._ended.add(run.path.name)
                continue
            asked = run.asked()
            cores, memory = cores + asked["cores"], memory + asked["memory"]
        alone = cores == gang.cores and memory == gang.memory
        enough = (not gang.cores or cores <= self._cores) and (not gang.memory or memory <= self._memory)
        return alone or enough

    def _start(self, host: _Host) -> None:
        """Starts an agent that has not been started; the lock decides in case of doubt."""
        if host.known() or (lock := host.take()) is None:
            return
        log = os.open(host.path / "agent.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            pid = self._nursery.fork(host.path / "agent.json", lock, log) if self._nursery else None
            if pid is None:
                os.close(lock)
                lock = host.take()
                if lock is None:  # the nursery did fork an agent, and could not say so
                    return
                pid = _spawn_agent(host.path / "agent.json", lock, log)
                self._children.add(pid)
            host.note_start(pid)
        finally:
            os.close(log)
            if lock is not None:
                os.close(lock)

    def _look(self, folder: _Run) -> tuple[dict[str, int], list[str]]:
        """The exit statuses of the agents that have ended, and the hosts that are lost."""
        codes: dict[str, int] = {}
        lost = folder.lost()
        stopping = folder.stopping()
        for host in folder.hosts():
            if host.alive():
                continue
            code = host.exit_code()
            if code is not None:
                codes[host.name] = code
            elif host.name not in lost and stopping:
                codes[host.name] = KILLED
            elif host.name not in lost:
                lost.append(host.name)
            if code is None and host.path not in self._swept:
                host.kill_job()
                self._swept.add(host.path)
        return codes, lost

    def _abandon(self, folder: _Run, lost: list[str]) -> None:
        """Stops the rest of a gang that has lost hosts, and notes which, so that they stay lost."""
        if lost != folder.lost():
            self._end(folder, time.time() + LOST_GRACE, lost)
        if not any(host.alive() for host in folder.hosts()):
            self._ended.add(folder.path.name)

    def _end(self, folder: _Run, deadline: float, lost: list[str]) -> None:
        """Writes down what shall happen, then does the first half of it."""
        earlier = folder.deadline()
        deadline = deadline if earlier is None else min(deadline, earlier)
        folder.note_stop(deadline, sorted({*folder.lost(), *lost}))
        for host in folder.hosts():
            host.signal(signal.SIGTERM)
        self._enforce(folder.path.name, deadline)

    def _enforce(self, run: str, deadline: float) -> None:
        with self._changed:
            self._deadlines[run] = deadline
            self._changed.notify()
            if self._enforcer is None:
                self._enforcer = threading.Thread(target=self._kill_in_time, name="deadlines", daemon=True)
                self._enforcer.start()

    def _forget_deadline(self, run: str) -> None:
        with self._changed:
            self._deadlines.pop(run, None)

    def _kill_in_time(self) -> None:
        while True:
            with self._changed:
                now = time.time()
                due = [run for run, deadline in self._deadlines.items() if deadline <= now]
                for run in due:
                    del self._deadlines[run]
                if not due:
                    nearest = min(self._deadlines.values(), default=now + 3600)
                    self._changed.wait(min(nearest - now, 60))  # the clock may be set meanwhile
            for run in due:
                with self._lock:
                    _Run(self._runs / run).kill()

    def _reap(self) -> None:
        """Takes the exit statuses of our children from the kernel; exit.json says what matters."""
        if self._nursery is not None:
            self._nursery.tend()
        for pid in list(self._children):
            try:
                ended = os.waitpid(pid, os.WNOHANG)[0] != 0
            except ChildProcessError:
                ended = True
            if ended:
                self._children.discard(pid)


class _Run:
    """The folder of one gang."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def exists(self) -> bool:
        return (self.path / "gang.json").exists()

    def create(self, gang: Gang) -> None:
        """Makes the folder with everything that a launch needs, at once."""
        partial = self.path.with_name(f".partial-{gang.run}")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700)
        for paper in gang.papers:
            (partial / paper["host"]).mkdir()
            write_private(partial / paper["host"] / "agent.json", json.dumps(paper))
        hosts = [paper["host"] for paper in gang.papers]
        asked = {"hosts": hosts, "cores": gang.cores, "memory": gang.memory, "launched": time.time()}
        write_private(partial / "gang.json", json.dumps(asked))
        partial.rename(self.path)
        descriptor = os.open(self.path.parent, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)

    def asked(self) -> dict[str, Any]:
        return _read(self.path / "gang.json")

    def kind(self) -> str:
        """The kind that its papers name: training, endpoint, …"""
        return str(next((host.paper().get("kind", "") for host in self.hosts()), ""))

    def hosts(self) -> list[_Host]:
        return [_Host(self.path / name) for name in self.asked().get("hosts", [])]

    def note_stop(self, deadline: float, lost: list[str]) -> None:
        write_private(self.path / "stop.json", json.dumps({"deadline": deadline, "lost": lost}))

    def stopping(self) -> bool:
        return (self.path / "stop.json").exists()

    def deadline(self) -> float | None:
        deadline = _read(self.path / "stop.json").get("deadline")
        return None if deadline is None else float(deadline)

    def lost(self) -> list[str]:
        return list(_read(self.path / "stop.json").get("lost", []))

    def kill(self) -> None:
        """SIGKILL to every agent and whatever its job has started."""
        for host in self.hosts():
            if host.alive():
                host.signal(signal.SIGKILL)
                host.kill_job()
            elif host.exit_code() is None:
                host.kill_job()


class _Host:
    """The folder of one host of a gang."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name

    def paper(self) -> dict[str, Any]:
        return _read(self.path / "agent.json")

    def take(self) -> int | None:
        """The lock, as a descriptor to hand to the agent; None when an agent has it."""
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        for _ in range(5):  # another server may be looking at it just now
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return descriptor
            except BlockingIOError:
                time.sleep(0.01)
        os.close(descriptor)
        return None

    def alive(self) -> bool:
        """Whether an agent holds the lock."""
        try:
            descriptor = os.open(self.path / "lock", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def note_start(self, pid: int) -> None:
        write_private(self.path / "started.json", json.dumps({"pid": pid}))

    def known(self) -> bool:
        """Whether an agent was started here before, by this server or an earlier one."""
        return any((self.path / name).exists() for name in ("started.json", "process.json", "exit.json"))

    def exit_code(self) -> int | None:
        return _read(self.path / "exit.json").get("code")

    def signal(self, number: int) -> None:
        """Signals the agent if it lives. Its pid cannot be another's while it holds the lock."""
        pid = _read(self.path / "process.json").get("pid") or _read(self.path / "started.json").get("pid")
        if pid is not None and self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), number)

    def kill_job(self) -> None:
        """SIGKILL to every process of the job's session.

        After a restart of the machine, or in time, the session's number is used again: either its leader is the
        process that the job began with, or each member has to name the job's folder in its environment.
        """
        job = _read(self.path / "job.json")
        if not job:
            return
        led = False
        with contextlib.suppress(psutil.NoSuchProcess):
            led = abs(psutil.Process(job["pid"]).create_time() - job["created"]) <= 2
            if not led:
                return
        for pid in psutil.pids():
            with contextlib.suppress(OSError, psutil.Error):
                if os.getsid(pid) == job["pid"] and (led or self._serves(psutil.Process(pid))):
                    os.kill(pid, signal.SIGKILL)

    def _serves(self, process: psutil.Process) -> bool:
        return process.environ().get("SAGEMAKER_BASE_DIR") == str(self.path / "ml")


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    return content


def _spawn_agent(paper: Path, lock: int, log: int) -> int:
    """Starts an agent in an interpreter and session of its own."""
    arguments = [sys.executable, "-P", "-m", "sagesmith.agent", str(paper), "--lock", "3"]
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, log, 1),
        (os.POSIX_SPAWN_DUP2, log, 2),
        (os.POSIX_SPAWN_DUP2, lock, 3),
    ]
    held_back = {signal.SIGTERM}  # until the agent can take it
    return os.posix_spawn(
        sys.executable, arguments, _agent_environment(), file_actions=actions, setsid=True, setsigmask=held_back
    )


def _agent_environment() -> dict[str, str]:
    """The server's environment without keys, proxies and settings that are not the agent's."""
    clean = {name: value for name, value in os.environ.items() if not OWN_VARIABLES.match(name)}
    clean |= {
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    folders = [os.path.abspath(entry) for entry in clean.get("PYTHONPATH", "").split(os.pathsep) if entry]
    home = Path(sagesmith.__file__).absolute().parent.parent
    if home.name not in {"site-packages", "dist-packages"} and str(home) not in folders:
        folders.insert(0, str(home))  # run from a checkout
    if folders:
        clean["PYTHONPATH"] = os.pathsep.join(folders)
    return clean


def host_cores() -> float:
    """Processors that this process may use: its affinity, and its container's limit."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = float(len(affinity(0)) if affinity else os.cpu_count() or 1)
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cores = min(cores, float(quota) / float(period))
    return cores


def host_memory() -> int:
    """Bytes of memory of this host, or its container's limit."""
    memory = int(psutil.virtual_memory().total)
    with contextlib.suppress(OSError, ValueError):
        memory = min(memory, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return memory
