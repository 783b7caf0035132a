"""check_engine: what every engine must do; give it a function that makes one, and a paper that can be carried out.

    def test_my_engine(tmp_path, paper):
        check_engine(lambda: MyEngine(...), paper)

`make` is called again to play a restarted server: the new engine must know the gangs of the old one. `paper` is that
of a training job on one host with `{script}` somewhere in its command: it is replaced by Python code. The server it
names must accept reports, logs and metrics; jobs here read no data.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from sagesmith.contract import AgentPaper
from sagesmith.core.names import run_id
from sagesmith.engines.base import Engine, Gang, Probe, State

LOOK = 0.05  # seconds between probes
PATIENCE = 60.0  # seconds for a small process to start or end, with much to spare
FOREVER = "import time\nwhile True: time.sleep(60)"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{FOREVER}"


def check_engine(make: Callable[[], Engine], paper: AgentPaper) -> None:
    """Runs every check.

    Raises:
        AssertionError: the engine does not keep its contract.
    """
    for check in (
        _unknown_gangs_are_absent,
        _a_gang_runs_once_and_exits,
        _exit_statuses_are_told,
        _stop_ends_a_gang,
        _grace_of_zero_kills,
        _gangs_outlive_the_engine_object,
        _one_failed_host_ends_the_others,
        _names_that_are_no_file_names_are_refused,
        _a_gang_that_ended_is_forgotten,
        _closing_ends_endpoints_and_lets_jobs_go_on,
    ):
        check(make, paper)


def gang_of(paper: AgentPaper, script: str, *others: str) -> Gang:
    """A gang whose first host runs `script` and whose further hosts run `others`, under a fresh id."""
    run = run_id("check")
    hosts = [f"algo-{number}" for number in range(1, len(others) + 2)]
    papers = []
    for host, code in zip(hosts, (script, *others), strict=True):
        command = [word.replace("{script}", code) for word in paper["command"]]
        changed: AgentPaper = {**paper, "run": run, "host": host, "hosts": hosts, "command": command}
        changed["log_stream"] = f"{paper['name']}/{host}-{run}"
        changed["reports"] = f"{paper['reports']}/{run}"
        papers.append(changed)
    return Gang(run, tuple(papers))


def wait_for(engine: Engine, run: str, *states: State) -> Probe:
    """Probes until the gang is in one of these states."""
    deadline = time.monotonic() + PATIENCE
    while (probe := engine.probe(run)).state not in states:
        assert time.monotonic() < deadline, f"gang {run} is {probe}, not {' or '.join(states)}"
        time.sleep(LOOK)
    return probe


def _ended(engine: Engine, run: str) -> Probe:
    return wait_for(engine, run, State.EXITED, State.LOST, State.ABSENT)


def _unknown_gangs_are_absent(make: Callable[[], Engine], paper: AgentPaper) -> None:
    engine = make()
    for run in ("never-launched", "../x", "", "a/b"):
        assert engine.probe(run) == Probe(State.ABSENT), f"probe({run!r})"
        engine.stop(run, 1.0)
        engine.forget(run)


def _a_gang_runs_once_and_exits(make: Callable[[], Engine], paper: AgentPaper) -> None:
    engine, gang = make(), gang_of(paper, "import time; time.sleep(0.2)")
    assert engine.launch(gang)
    assert engine.launch(gang), "launching an id twice does nothing"
    assert engine.probe(gang.run).state is State.RUNNING
    assert engine.address(gang.run, "algo-1")
    assert _ended(engine, gang.run) == Probe(State.EXITED, {"algo-1": 0})
    assert engine.launch(gang), "launching an ended gang does nothing"
    assert engine.probe(gang.run) == Probe(State.EXITED, {"algo-1": 0})


def _exit_statuses_are_told(make: Callable[[], Engine], paper: AgentPaper) -> None:
    engine, gang = make(), gang_of(paper, "raise SystemExit(5)")
    engine.launch(gang)
    assert _ended(engine, gang.run) == Probe(State.EXITED, {"algo-1": 5})


def _stop_ends_a_gang(make: Callable[[], Engine], paper: AgentPaper) -> None:
    engine, gang = make(), gang_of(paper, FOREVER)
    engine.launch(gang)
    wait_for(engine, gang.run, State.RUNNING)
    engine.stop(gang.run, 30.0)
    engine.stop(gang.run, 30.0)
    assert _ended(engine, gang.run).state is State.EXITED
    assert engine.launch(gang), "a gang that was stopped stays stopped"
    assert engine.probe(gang.run).state is State.EXITED


def _grace_of_zero_kills(make: Callable[[], Engine], paper: AgentPaper) -> None:
    engine, gang = make(), gang_of({**paper, "stop_grace": 3600.0}, DEAF)
    engine.launch(gang)
    engine.stop(gang.run, 0.0)
    assert _ended(engine, gang.run).state is State.EXITED


def _gangs_outlive_the_engine_object(make: Callable[[], Engine], paper: AgentPaper) -> None:
    gang = gang_of(paper, FOREVER)
    make().launch(gang)
    again = make()
    assert again.probe(gang.run).state is State.RUNNING
    assert again.launch(gang), "launching an id twice does nothing"
    again.stop(gang.run, 30.0)
    assert _ended(again, gang.run).state is State.EXITED


def _one_failed_host_ends_the_others(make: Callable[[], Engine], paper: AgentPaper) -> None:
    engine, gang = make(), gang_of({**paper, "stop_grace": 1.0}, FOREVER, "raise SystemExit(3)")
    engine.launch(gang)
    probe = _ended(engine, gang.run)
    assert probe.state is State.EXITED
    assert probe.codes["algo-2"] == 3


def _names_that_are_no_file_names_are_refused(make: Callable[[], Engine], paper: AgentPaper) -> None:
    engine, gang = make(), gang_of(paper, "")
    for bad in (replace(gang, run="../x"), replace(gang, run=""), replace(gang, papers=())):
        try:
            engine.launch(bad)
        except ValueError:
            continue
        raise AssertionError(f"{bad} was launched")


def _a_gang_that_ended_is_forgotten(make: Callable[[], Engine], paper: AgentPaper) -> None:
    engine, gang = make(), gang_of(paper, FOREVER)
    engine.launch(gang)
    try:
        engine.forget(gang.run)
    except ValueError:
        pass
    else:
        raise AssertionError("a running gang was forgotten")
    engine.stop(gang.run, 0.0)
    _ended(engine, gang.run)
    engine.forget(gang.run)
    assert engine.probe(gang.run).state is State.ABSENT


def _closing_ends_endpoints_and_lets_jobs_go_on(make: Callable[[], Engine], paper: AgentPaper) -> None:
    engine = make()
    job = gang_of(paper, FOREVER)
    endpoint = gang_of({**paper, "kind": "endpoint"}, FOREVER)
    for gang in (job, endpoint):
        assert engine.launch(gang)
        wait_for(engine, gang.run, State.RUNNING)
    engine.close()
    later = make()
    assert later.probe(endpoint.run) == Probe(State.ABSENT), "an endpoint outlived its server's good end"
    assert later.probe(job.run).state is State.RUNNING, "a job did not outlive its server"
    later.stop(job.run, 0)
    _ended(later, job.run)
