"""The local engine: its contract, admission, and what is left when something is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from sagesmith.engines import nursery
from sagesmith.engines.base import Probe, State
from sagesmith.engines.local import LocalEngine
from sagesmith.testing.check_engine import DEAF, FOREVER, check_engine, gang_of, wait_for

PID = "import os; print(os.getpid(), flush=True)\n"


def job_pid(runs: Path, run: str, host: str = "algo-1") -> int:
    return json.loads(wait_for_file(runs / run / host / "job.json"))["pid"]


def agent_pid(runs: Path, run: str, host: str = "algo-1") -> int:
    return json.loads((runs / run / host / "started.json").read_text())["pid"]


def wait_for_file(path: Path) -> str:
    ticks = threading.Event()
    for _ in range(1200):
        if path.exists():
            return path.read_text()
        ticks.wait(0.05)
    raise AssertionError(f"{path} was not written")


def gone(pid: int) -> bool:
    try:
        process = psutil.Process(pid)
        process.wait(10) if process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return True
    except psutil.TimeoutExpired:
        return False
    return True


def test_it_keeps_the_contract(runs, paper):
    check_engine(lambda: LocalEngine(runs), paper)


def test_it_keeps_the_contract_with_a_nursery(runs, paper):
    check_engine(lambda: LocalEngine(runs, nursery=True), paper)


@pytest.mark.kill
def test_agents_outlive_the_nursery_and_start_without_it(runs, paper):
    engine, first, second = LocalEngine(runs, nursery=True), gang_of(paper, FOREVER), gang_of(paper, "")
    engine.launch(first)
    agent = psutil.Process(agent_pid(runs, first.run))
    assert "sagesmith.agent.nursery" in agent.cmdline()
    os.kill(engine._nursery.pid, signal.SIGKILL)
    assert engine.launch(second)
    assert wait_for(engine, second.run, State.EXITED, State.LOST).codes == {"algo-1": 0}
    assert engine.probe(first.run).state is State.RUNNING
    engine.stop(first.run, 20)
    assert wait_for(engine, first.run, State.EXITED).codes == {"algo-1": 0}


@pytest.mark.kill
@pytest.mark.parametrize("noticed_by", ["a look at a gang", "a launch", "a launch that was under way"])
def test_a_nursery_that_dies_is_replaced(runs, paper, monkeypatch, noticed_by):
    monkeypatch.setattr(nursery, "PAUSE", 0.0)
    engine, gang = LocalEngine(runs, nursery=True), gang_of(paper, FOREVER)
    killed = psutil.Process(engine._nursery.pid)
    if noticed_by == "a launch that was under way":
        monkeypatch.setattr(engine._nursery, "_gone", lambda: False)
    killed.kill()
    if noticed_by == "a look at a gang":
        while engine._nursery.pid == killed.pid:  # the kernel needs a moment to end it
            engine.probe("none")
    else:
        os.waitid(os.P_PID, killed.pid, os.WEXITED | os.WNOWAIT)
        assert engine.launch(gang_of(paper, ""))
        monkeypatch.undo()
    assert engine._nursery.pid != killed.pid
    assert not killed.is_running()
    assert engine.launch(gang)
    agent = psutil.Process(agent_pid(runs, gang.run))
    assert "sagesmith.agent.nursery" in agent.cmdline()
    engine.stop(gang.run, 20)
    assert wait_for(engine, gang.run, State.EXITED, State.LOST).codes == {"algo-1": 0}


@pytest.mark.kill
def test_a_nursery_that_cannot_live_is_not_started_all_the_time(runs, paper):
    engine = LocalEngine(runs, nursery=True)
    first = engine._nursery.pid
    os.kill(first, signal.SIGKILL)
    for _ in range(20):
        engine.probe("none")
    gang = gang_of(paper, "")
    assert engine.launch(gang)
    assert engine._nursery.pid == first
    assert wait_for(engine, gang.run, State.EXITED, State.LOST).codes == {"algo-1": 0}


def test_a_nursery_ends_with_its_engine(runs):
    engine = LocalEngine(runs, nursery=True)
    process = psutil.Process(engine._nursery.pid)
    del engine
    assert process.wait(20) == 0


def test_papers_hold_keys_and_are_readable_by_their_owner_alone(runs, paper):
    gang = gang_of(paper, "")
    engine = LocalEngine(runs)
    engine.launch(gang)
    assert stat.S_IMODE((runs / gang.run / "algo-1/agent.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((runs / gang.run).stat().st_mode) == 0o700
    wait_for(engine, gang.run, State.EXITED)


def test_jobs_wait_for_room_and_endpoints_do_not(runs, paper):
    engine = LocalEngine(runs, cores=4, memory=1000)
    big, small, one, huge, free = (
        replace(gang_of(paper, FOREVER), cores=cores, memory=memory)
        for cores, memory in ((3, 100), (1, 800), (1, 200), (64, 10_000), (0, 0))
    )
    assert engine.launch(huge), "a gang larger than the host may run alone"
    assert not engine.launch(big)
    assert engine.launch(free)
    engine.stop(huge.run, 0)
    wait_for(engine, huge.run, State.EXITED)
    assert engine.launch(big)
    assert engine.launch(small)
    assert not engine.launch(one), "there is neither a core nor memory left"
    assert engine.probe(one.run).state is State.ABSENT
    assert not LocalEngine(runs, cores=4, memory=1000).launch(one), "a restarted server counts the same"
    engine.stop(small.run, 0)
    wait_for(engine, small.run, State.EXITED)
    assert engine.launch(one)


@pytest.mark.kill
def test_a_killed_agent_is_lost_and_its_job_does_not_go_on(runs, paper):
    engine, gang = (
        LocalEngine(runs),
        gang_of(paper, "import subprocess; subprocess.Popen(['sleep', '600'])\n" + FOREVER),
    )
    engine.launch(gang)
    job = job_pid(runs, gang.run)
    while not (children := psutil.Process(job).children()):
        threading.Event().wait(0.02)
    os.kill(agent_pid(runs, gang.run), signal.SIGKILL)
    assert wait_for(engine, gang.run, State.LOST, State.EXITED) == Probe(State.LOST, {})
    assert gone(job)
    assert all(gone(child.pid) for child in children)
    assert LocalEngine(runs).probe(gang.run).state is State.LOST
    engine.forget(gang.run)
    assert not (runs / gang.run).exists()


@pytest.mark.kill
def test_one_lost_host_ends_the_gang(runs, paper):
    engine = LocalEngine(runs)
    gang = gang_of({**paper, "stop_grace": 0.5}, FOREVER, DEAF)
    engine.launch(gang)
    jobs = [job_pid(runs, gang.run, host) for host in ("algo-1", "algo-2")]
    os.kill(agent_pid(runs, gang.run, "algo-1"), signal.SIGKILL)
    wait_for(engine, gang.run, State.LOST)
    assert all(gone(job) for job in jobs)
    wait_for_file(runs / gang.run / "algo-2/exit.json")
    assert engine.probe(gang.run).state is State.LOST, "it stays lost when the others have ended"


@pytest.mark.kill
def test_the_deadline_of_a_stop_outlives_the_server(runs, paper):
    gang = gang_of({**paper, "stop_grace": 3600.0}, DEAF)
    script = (
        "import sys, pathlib, time; from sagesmith.engines.local import LocalEngine\n"
        f"LocalEngine(pathlib.Path({str(runs)!r}), upload_grace=0.3).stop({gang.run!r}, 0.1)"
    )
    LocalEngine(runs).launch(gang)
    job = job_pid(runs, gang.run)
    subprocess.run([sys.executable, "-c", script], check=True, env={**os.environ, "PYTHONPATH": str(Path.cwd())})
    assert psutil.pid_exists(job)
    engine = LocalEngine(runs)
    assert wait_for(engine, gang.run, State.EXITED).codes == {"algo-1": 137}
    assert gone(job)


def test_agents_outlive_the_server_that_launched_them(runs, paper):
    gang = gang_of(paper, FOREVER)
    script = (
        "import sys, json, pathlib, os, signal\nfrom sagesmith.engines.local import LocalEngine\n"
        "from sagesmith.engines.base import Gang\n"
        f"paper = json.loads({json.dumps(json.dumps(gang.papers[0]))})\n"
        f"LocalEngine(pathlib.Path({str(runs)!r})).launch(Gang({gang.run!r}, (paper,)))\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    environ = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    assert subprocess.run([sys.executable, "-c", script], env=environ).returncode == -signal.SIGKILL
    engine = LocalEngine(runs)
    assert engine.probe(gang.run).state is State.RUNNING
    engine.stop(gang.run, 20)
    assert wait_for(engine, gang.run, State.EXITED).codes == {"algo-1": 0}


def test_a_launch_that_was_cut_short_is_lost_until_it_is_completed(runs, paper):
    engine, gang = LocalEngine(runs), gang_of(paper, "")
    engine.launch(gang)
    wait_for(engine, gang.run, State.EXITED)
    half = gang_of(paper, "")
    shutil.copytree(runs / gang.run, runs / half.run)
    for name in ("started.json", "process.json", "exit.json", "job.json", "report.json", "lock"):
        (runs / half.run / "algo-1" / name).unlink()
    again = LocalEngine(runs)
    assert again.launch(half)
    assert wait_for(again, half.run, State.EXITED, State.LOST) == Probe(State.EXITED, {"algo-1": 0})


def test_a_second_agent_is_not_started_beside_one_whose_pid_was_not_written(runs, paper):
    engine, gang = LocalEngine(runs), gang_of(paper, FOREVER)
    engine.launch(gang)
    job = job_pid(runs, gang.run)
    for name in ("started.json", "process.json"):
        (runs / gang.run / "algo-1" / name).unlink()
    assert LocalEngine(runs).launch(gang)
    assert not (runs / gang.run / "algo-1/started.json").exists()
    assert engine.probe(gang.run).state is State.RUNNING
    assert psutil.pid_exists(job)


def test_the_agent_does_not_see_the_servers_keys(runs, paper, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of the server")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    engine, gang = LocalEngine(runs), gang_of(paper, FOREVER)
    engine.launch(gang)
    job_pid(runs, gang.run)
    environ = psutil.Process(agent_pid(runs, gang.run)).environ()
    assert not {"AWS_SECRET_ACCESS_KEY", "HTTP_PROXY"} & set(environ)
    assert engine.address(gang.run, "algo-1") == "127.0.0.1"
