"""A hundred kills at random moments while everything is busy; SAGESMITH_KILL_SEED and SAGESMITH_KILLS change the run.

The seed decides who is killed, when, and what the clients do. Processes run as they will, so a run with the same seed
is the same plan and not the same interleaving: a seed that fails is worth running several times.
"""

from __future__ import annotations

import json
import os
import random
import socket
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from sagesmith.testing.server import RunningServer, running_server
from tests.kills import processes
from tests.kills.scene import Scene
from tests.kills.traffic import Invoker, Job, Jobs
from tests.kills.writers import ABSENT, Reader, Writer, content_of, listed

pytest.importorskip("xgboost")

SEED = int(os.environ.get("SAGESMITH_KILL_SEED", "20261123"))
KILLS = int(os.environ.get("SAGESMITH_KILLS", "100"))
ENDPOINT = "steady"
OBJECTS = "objects"
CALM = 0.9  # seconds between kills, on average
LONGEST_OUTAGE = 0.5

pytestmark = [pytest.mark.kill, pytest.mark.slow, pytest.mark.timeout(1200)]


def low_port() -> int:
    """A free port below those that the kernel gives to clients: none of them can take it while the server is down."""
    for port in random.sample(range(20_000, 30_000), 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port below 30000 is free")


@dataclass
class Killer:
    """Kills one process after the other, and remembers which."""

    scene: Scene
    jobs: Jobs
    chance: random.Random
    table: list[tuple[float, str, str]] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    @property
    def kills(self) -> int:
        return len(self.table)

    def kill_something(self) -> None:
        kinds: list[Callable[[], bool]] = [
            self._server,
            lambda: self._process("train"),
            lambda: self._agent("training"),
            lambda: self._process("serve"),
            lambda: self._agent("endpoint"),
            self._nursery,
            self._server_and_agent,
            self._everything,
        ]
        if not self.chance.choices(kinds, weights=[50, 15, 10, 8, 6, 3, 5, 3])[0]():
            self._server()

    def _note(self, what: str, whose: str = "") -> None:
        self.table.append((time.monotonic() - self.began, what, whose))

    def _server(self) -> bool:
        self._note("server")
        self.scene.server.kill()
        self._restart()
        return True

    def _restart(self) -> None:
        time.sleep(self.chance.uniform(0, LONGEST_OUTAGE))
        self.scene.server.restart()
        check_database(self.scene.server)

    def _process(self, verb: str) -> bool:
        return self._one_of(processes.jobs(self.scene.server, verb), verb)

    def _agent(self, kind: str) -> bool:
        found = [agent for agent in processes.agents(self.scene.server) if paper_of(agent).get("kind") == kind]
        return self._one_of(found, "agent")

    def _one_of(self, found: list[psutil.Process], what: str) -> bool:
        if not found:
            return False
        victim = self.chance.choice(sorted(found, key=lambda process: process.pid))
        paper = paper_of(victim)
        self._note(what, f"{paper.get('name')} {paper.get('host')}")
        self._hurt(paper, what)
        _kill(victim)
        return True

    def _hurt(self, paper: dict[str, str], what: str) -> None:
        job: Job | None = self.jobs.all.get(paper.get("name", ""))
        if job is not None:
            job.hurt[what] += 1

    def _nursery(self) -> bool:
        found = processes.nursery(self.scene.server)
        if found is None:
            return False
        self._note("nursery")
        _kill(found)
        return True

    def _server_and_agent(self) -> bool:
        self.scene.server.kill()
        if not self._agent("training"):
            self._agent("endpoint")
        self._note("server", "with an agent")
        self._restart()
        return True

    def _everything(self) -> bool:
        """As when the machine loses its power."""
        self.scene.server.kill()
        for process in processes.of_jobs(self.scene.server):
            self._hurt(paper_of(process), "agent")
            _kill(process)
        self._note("everything")
        self._restart()
        return True

    def summary(self) -> str:
        lines = [f"{at:7.1f} s  {what:10} {whose}" for at, what, whose in self.table]
        return "\n".join([f"SAGESMITH_KILL_SEED={SEED} SAGESMITH_KILLS={KILLS}", *lines])


def paper_of(process: psutil.Process) -> dict[str, str]:
    """The paper of the agent that a process is, or works for: {} when it has ended meanwhile."""
    try:
        folder = Path(process.environ().get("SAGEMAKER_BASE_DIR", "")).parent
        if folder == Path():
            folder = next(Path(lock.path).parent for lock in process.open_files() if lock.path.endswith("/lock"))
        content: dict[str, str] = json.loads((folder / "agent.json").read_text("utf-8"))
    except (psutil.Error, OSError, StopIteration):
        return {}
    return content


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


def check_database(server: RunningServer) -> None:
    connection = sqlite3.connect(server.config.data / "sagesmith.db")
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    finally:
        connection.close()


def check_objects(scene: Scene, writers: list[Writer]) -> None:
    """Every key is at a possible version, and a listing shows just what is there."""
    expected = {}
    for writer in writers:
        for key in writer.possible:
            writer.verify(key)
            (version,) = writer.possible[key]
            if version != ABSENT:
                content = scene.client("s3").get_object(Bucket=OBJECTS, Key=key)["Body"].read()
                expected[key] = len(content)
                assert len(content_of(key, version, len(content))) >= len(content)
    assert listed(scene.client("s3"), OBJECTS) == expected


def test_a_hundred_kills(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    with running_server(tmp_path / "data", port=low_port(), stop_grace=20.0) as server:
        scene = Scene(server, tmp_path)
        scene.prepare(tmp_path)
        jobs = Jobs(scene, random.Random(SEED + 1))
        killer = Killer(scene, jobs, chance)
        try:
            run(scene, jobs, killer)
        except BaseException:
            print(killer.summary())
            raise


def run(scene: Scene, jobs: Jobs, killer: Killer) -> None:
    scene.call("s3", "create_bucket", Bucket=OBJECTS)
    scene.call("sagemaker", "create_endpoint", EndpointName=ENDPOINT, EndpointConfigName="good")
    scene.wait_until(lambda: scene.endpoint(ENDPOINT) == "InService", "the endpoint")
    jobs.prepare()
    ended = threading.Event()
    writers = [Writer(scene.server, OBJECTS, f"writer-{number}", SEED + 10 + number, ended) for number in range(2)]
    keys = [key for writer in writers for key in writer.possible]
    invoker = Invoker(scene.server, ENDPOINT, ended)
    threads = [*writers, Reader(scene.server, OBJECTS, keys, SEED + 20, ended), invoker]
    for thread in threads:
        thread.start()
    try:
        while killer.kills < KILLS:
            jobs.top_up()
            time.sleep(killer.chance.uniform(0, 2 * CALM))
            killer.kill_something()
            for thread in threads:
                if thread.failure is not None:
                    raise thread.failure
            if killer.kills % 10 == 0:
                settle(scene, invoker)
        while jobs.open:
            jobs.look()
            time.sleep(0.2)
        settle(scene, invoker)
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    for thread in threads:
        if thread.failure is not None:
            raise thread.failure
    check_objects(scene, writers)
    finish(scene)
    report(jobs, killer, writers, invoker)


def settle(scene: Scene, invoker: Invoker) -> None:
    """The endpoint comes back by itself: its client is answered again, and it is InService."""
    before = invoker.answers
    scene.wait_until(lambda: invoker.failure is not None or invoker.answers > before, "an answer of the endpoint")
    scene.wait_until(lambda: scene.endpoint(ENDPOINT) == "InService", "an endpoint in service")


def finish(scene: Scene) -> None:
    """Once the endpoint is deleted, nothing runs and nothing of any gang is left."""
    scene.call("sagemaker", "delete_endpoint", EndpointName=ENDPOINT)
    scene.wait_until(lambda: scene.endpoint(ENDPOINT) == "", "the end of the endpoint")
    scene.wait_until(lambda: scene.gangs() == [], "the end of every gang")
    processes.wait_for_none(scene.server)
    check_database(scene.server)


def report(jobs: Jobs, killer: Killer, writers: list[Writer], invoker: Invoker) -> None:
    """What the run consisted of; it must have been busy."""
    killed = Counter(what for _, what, _ in killer.table)
    print(
        f"seed {SEED}: {killer.kills} kills {dict(killed)}, jobs {dict(jobs.outcomes)}, "
        f"{sum(writer.acknowledged for writer in writers)} writes acknowledged, "
        f"{sum(writer.broken for writer in writers)} broken off, "
        f"{invoker.answers} invocations answered, {invoker.refused} not, {time.monotonic() - killer.began:.0f} s"
    )
    assert jobs.outcomes["Completed"] > 0
    assert all(writer.acknowledged > 0 for writer in writers)
